//! What the system says about this process and the machine.

use std::fs;

/// The clock in which `/proc` counts processor time; 100 a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    pub system: f64,
    pub user: f64,
    pub children_system: f64,
    pub children_user: f64,
}

/// Of the whole process.
pub fn cpu_time() -> CpuTime {
    read("/proc/self/stat")
        .and_then(|stat| parse_stat(&stat))
        .unwrap_or_default()
}

/// Of the main thread alone.
pub fn main_thread_cpu_time() -> CpuTime {
    let path = format!("/proc/self/task/{}/stat", std::process::id());
    read(&path).and_then(|stat| parse_stat(&stat)).unwrap_or_default()
}

/// The fields behind the parenthesised name, which may hold anything: utime is the 12th, stime, cutime, cstime follow.
fn parse_stat(stat: &str) -> Option<CpuTime> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut seconds = rest
        .split(' ')
        .skip(11)
        .map(|field| field.parse::<f64>().map_or(0.0, |ticks| ticks / TICKS_PER_SECOND));
    let (user, system) = (seconds.next()?, seconds.next()?);
    let (children_user, children_system) = (seconds.next()?, seconds.next()?);
    Some(CpuTime {
        system,
        user,
        children_system,
        children_user,
    })
}

/// Bytes of memory of the machine; 0 when it does not say.
pub fn system_memory() -> u64 {
    let text = read("/proc/meminfo").unwrap_or_default();
    kilobytes(&text, "MemTotal:") * 1024
}

/// Bytes of this process that have been swapped out.
pub fn swapped() -> u64 {
    let text = read("/proc/self/status").unwrap_or_default();
    kilobytes(&text, "VmSwap:") * 1024
}

/// The figure behind a name in a list of the kernel's; 0 when it is not there.
fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Kernel, its release and the processor's kind: `Linux 6.1.0 x86_64`.
pub fn os() -> String {
    let line = |path: &str| read(path).unwrap_or_default().trim().to_owned();
    let (kind, release) = (
        line("/proc/sys/kernel/ostype"),
        line("/proc/sys/kernel/osrelease"),
    );
    format!("{kind} {release} {}", std::env::consts::ARCH)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 1 2 20 0";
        let expected = CpuTime {
            system: 0.5,
            user: 2.5,
            children_system: 0.02,
            children_user: 0.01,
        };
        assert_eq!(parse_stat(stat), Some(expected));
        assert_eq!(kilobytes("VmPeak:\t 1 kB\nVmSwap:\t  12 kB\n", "VmSwap:"), 12);
        assert!(system_memory() > 0 && os().starts_with("Linux "));
    }
}
