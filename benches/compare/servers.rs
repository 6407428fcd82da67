//! One server process: started pinned to its core, watched through /proc, stopped by its process number.
//!
//! Guarantees: the server listens on loopback only, its files lie in the folder it was given, and it is gone when
//! the `Server` is dropped. CPU time is that of the whole process, all threads, with the children it has waited
//! for (Redis rewrites its append-only file in a child).

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Failure, wire};

/// The server has this core for itself …
const SERVER_CORE: &str = "0";
/// … and everything that produces load has this one.
const LOAD_CORE: &str = "1";
/// /proc counts CPU time in ticks of USER_HZ, which Linux fixes at 100 per second for user space.
const TICK: Duration = Duration::from_millis(10);
/// Longest wait for a server to answer PING after its start, and to exit after SIGTERM.
const START_TIME_MAX: Duration = Duration::from_secs(180);
const STOP_TIME_MAX: Duration = Duration::from_secs(60);
/// How often a server is asked whether it is idle.
const IDLE_WINDOW: Duration = Duration::from_millis(250);

/// Moves this process, and what it starts without saying otherwise, to the core of the load.
/// Uses `taskset`, so that no unsafe call is needed here.
pub fn pin_this_process() -> Result<(), Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let output = Command::new("taskset")
        .args(["-a", "-c", "-p", LOAD_CORE, &std::process::id().to_string()])
        .output()
        .map_err(Failure::io("running taskset (package util-linux)"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::Unusable(format!(
        "server and load need cores {SERVER_CORE} and {LOAD_CORE}, this process may use {cores}: {said}"
    )))
}

/// A running server.
pub struct Server {
    /// `Terrace` or `Redis`, for messages.
    pub label: &'static str,
    pub port: u16,
    /// The moment just before its exec.
    pub started: Instant,
    child: Child,
    log: PathBuf,
}

/// Where a server runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cores {
    /// On its own core, beside the load on the other.
    Own,
    /// On all, where there is no load.
    All,
}

/// How long a server must have used next to no CPU to count as idle.
#[derive(Clone, Copy)]
pub enum Quiet {
    /// Between turns.
    Short,
    /// After a sustained load: longer than the second between two syncs, so that a flush or a compaction that
    /// waits for the disk is not taken for the end.
    Long,
}

impl Server {
    /// Starts `program` pinned to its cores, with `folder` (created if absent) as its data folder, and
    /// waits until it answers PING with PONG. Refused connections and errors such as LOADING mean "not yet".
    pub fn start(
        label: &'static str,
        program: &Path,
        folder: &Path,
        arguments: &[String],
        cores: Cores,
    ) -> Result<Server, Failure> {
        fs::create_dir_all(folder).map_err(Failure::io(format!("creating {}", folder.display())))?;
        let port = free_port().map_err(Failure::io("looking for a free port"))?;
        let log = folder.join("server.log");
        let sink = File::create(&log).map_err(Failure::io(format!("creating {}", log.display())))?;
        let errors = sink.try_clone().map_err(Failure::io("sharing the log"))?;
        let started = Instant::now();
        // taskset replaces itself by the server, so the child's number is the server's, and the server sees its
        // cores from its first instruction and sizes its threads accordingly.
        let cores = match cores {
            Cores::Own => SERVER_CORE.to_owned(),
            Cores::All => format!("{SERVER_CORE},{LOAD_CORE}"),
        };
        let child = Command::new("taskset")
            .args(["-c", &cores])
            .arg(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(folder)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(sink)
            .stderr(errors)
            .spawn()
            .map_err(Failure::io(format!("starting {}", program.display())))?;
        let mut server = Server {
            label,
            port,
            started,
            child,
            log,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        while self.started.elapsed() < START_TIME_MAX {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.complain(&format!("ended at its start with {status}")));
            }
            match wire::ask(self.port, &["PING"]) {
                Ok(Some(answer)) if answer == "PONG" => return Ok(()),
                _ => sleep(Duration::from_millis(1)),
            }
        }
        Err(self.complain("did not answer PING in time"))
    }

    /// An error with the end of the server's log.
    fn complain(&self, what: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(8)..].join("\n      ");
        Failure::Unusable(format!("{} {what}; its log ends:\n      {end}", self.label))
    }

    /// Lines of the log, since this start, that contain one of `words` in any case.
    pub fn log_lines_with(&self, words: &[&str]) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let told = |line: &&str| words.iter().any(|word| line.to_lowercase().contains(word));
        log.lines().filter(told).map(str::to_owned).collect()
    }

    /// CPU time used so far, user and system, by all threads and all children already waited for.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let stat = self.proc_file("stat")?;
        // The name in brackets may hold blanks. After it: state is field 0, utime, stime, cutime, cstime are 11-14.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: Vec<u32> = fields
            .split_whitespace()
            .skip(11)
            .take(4)
            .filter_map(|field| field.parse().ok())
            .collect();
        match ticks.len() {
            4 => Ok(TICK * ticks.iter().sum::<u32>()),
            _ => Err(Failure::Unusable(format!(
                "/proc stat of {} is unreadable: {stat}",
                self.label
            ))),
        }
    }

    /// Resident memory in bytes (VmRSS).
    pub fn resident_bytes(&self) -> Result<u64, Failure> {
        let status = self.proc_file("status")?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .map(|kibibytes| kibibytes * 1024)
            .ok_or_else(|| Failure::Unusable(format!("no VmRSS for {}", self.label)))
    }

    /// Bytes this process has had written to the disk, its waited-for children's included; none if unreadable.
    pub fn written_bytes(&self) -> Option<u64> {
        let io = self.proc_file("io").ok()?;
        io.lines()
            .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
    }

    /// A number out of INFO; none where the server does not report the field.
    pub fn info_number(&self, section: &str, field: &str) -> Option<u64> {
        let info = wire::ask(self.port, &["INFO", section]).ok()??;
        info.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
    }

    /// Waits until the server has no child process and uses next to no CPU; gives up silently after `time_max`,
    /// since a server that is never idle is still a server whose work can be counted.
    pub fn settle(&self, quiet: Quiet, time_max: Duration) -> Result<(), Failure> {
        let windows_needed = match quiet {
            Quiet::Short => 2,
            Quiet::Long => 8,
        };
        let begin = Instant::now();
        let mut windows_idle = 0;
        let mut used = self.cpu()?;
        while windows_idle < windows_needed && begin.elapsed() < time_max {
            sleep(IDLE_WINDOW);
            let now = self.cpu()?;
            // One tick may fall into any window by chance alone.
            let idle = now.saturating_sub(used) <= TICK && !self.has_children();
            windows_idle = if idle { windows_idle + 1 } else { 0 };
            used = now;
        }
        Ok(())
    }

    fn has_children(&self) -> bool {
        let list = format!("task/{}/children", self.child.id());
        self.proc_file(&list)
            .is_ok_and(|children| !children.trim().is_empty())
    }

    fn proc_file(&self, name: &str) -> Result<String, Failure> {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(&path).map_err(Failure::io(format!("{} is gone? reading {path}", self.label)))
    }

    /// A clean stop: SIGTERM, then waits for the exit. Returns how long it took.
    pub fn terminate(mut self) -> Result<Duration, Failure> {
        let begin = Instant::now();
        // The shell's own `kill`, since std can only send SIGKILL and procps may be absent.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.child.id())])
            .status()
            .map_err(Failure::io("running sh"))?;
        if !sent.success() {
            return Err(self.complain("could not be sent SIGTERM"));
        }
        while begin.elapsed() < STOP_TIME_MAX {
            match self.child.try_wait() {
                Ok(None) => sleep(Duration::from_millis(2)),
                Ok(Some(_)) => return Ok(begin.elapsed()),
                Err(error) => return Err(Failure::Io("waiting for the exit".to_owned(), error)),
            }
        }
        Err(self.complain("did not exit after SIGTERM"))
    }

    /// A crash: SIGKILL. Dropping does the same; this name says that it is meant.
    pub fn crash(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for, which is the aim.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
