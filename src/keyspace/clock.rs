//! The access clock of an entry: what eviction needs to know about when and how often a key was used.
//!
//! ```text
//!  31                                    8 7            0
//! +---------------------------------------+--------------+
//! | second of the last access, modulo 2^24 | log counter  |
//! +---------------------------------------+--------------+
//! ```
//!
//! Both halves are always kept, so that the policy can change at run time. The counter grows with a probability that
//! falls as it grows (Morris), and loses one for every `lfu-decay-time` minutes without access, as Redis documents.

use super::entry::Entry;

const SECONDS: u32 = (1 << 24) - 1;
const INITIAL_COUNT: u8 = 5;

/// One moment, and how the counters behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    pub seconds: u32,
    /// 0 keeps the counter as it is: no range evicts by frequency.
    pub lfu_log_factor: u32,
    pub lfu_decay_minutes: u32,
    pub counting: bool,
}

/// The clock of a new entry.
pub fn fresh(tick: Tick) -> u32 {
    (tick.seconds & SECONDS) << 8 | u32::from(INITIAL_COUNT)
}

/// The clock of an entry that was last used so many seconds ago, and so often.
pub fn at(tick: Tick, idle_seconds: u32, frequency: Option<u8>) -> u32 {
    let seconds = tick.seconds.wrapping_sub(idle_seconds.min(SECONDS));
    (seconds & SECONDS) << 8 | u32::from(frequency.unwrap_or(INITIAL_COUNT))
}

/// Notes an access. Writes nothing when nothing changes: the entry's cache line stays clean.
#[inline]
pub fn touch(entry: &mut Entry, tick: Tick) {
    let clock = entry.clock();
    let count = if tick.counting {
        grown(frequency(clock, tick), tick.lfu_log_factor)
    } else {
        clock as u8
    };
    let new = (tick.seconds & SECONDS) << 8 | u32::from(count);
    if new != clock {
        entry.set_clock(new);
    }
}

fn grown(count: u8, log_factor: u32) -> u8 {
    if count == u8::MAX {
        return count;
    }
    let base = f64::from(count.saturating_sub(INITIAL_COUNT));
    let chance = 1.0 / (base * f64::from(log_factor) + 1.0);
    if fastrand::f64() < chance {
        count + 1
    } else {
        count
    }
}

/// Seconds since the last access.
pub fn idle_seconds(clock: u32, tick: Tick) -> u32 {
    (tick.seconds & SECONDS).wrapping_sub(clock >> 8) & SECONDS
}

/// The log counter, decayed to this moment.
pub fn frequency(clock: u32, tick: Tick) -> u8 {
    let periods = (idle_seconds(clock, tick) / 60)
        .checked_div(tick.lfu_decay_minutes)
        .unwrap_or(0);
    (clock as u8).saturating_sub(periods.min(255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(seconds: u32) -> Tick {
        Tick {
            seconds,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            counting: true,
        }
    }

    #[test]
    fn idle_time_survives_the_wrap_of_the_seconds() {
        assert_eq!(idle_seconds(fresh(tick(SECONDS - 1)), tick(4)), 6);
    }

    #[test]
    fn the_counter_decays_by_minutes_and_grows_with_use() {
        let mut entry = Entry::new(0, b"k", b"v", None, fresh(tick(0)));
        assert_eq!(frequency(entry.clock(), tick(180)), INITIAL_COUNT - 3);
        for _ in 0..10_000 {
            touch(&mut entry, tick(1));
        }
        assert!(frequency(entry.clock(), tick(1)) > 20);
    }
}
