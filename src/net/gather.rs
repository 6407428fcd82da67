//! When clients are sent what others have left in their inboxes: at once while there is time for that, else what has
//! come for some of them together, so that sending does not take most of a busy server's time.
//!
//! ```text
//!  a message ──> the inbox of each subscriber ──> a subscriber not yet due is due now       (whoever brings the message)
//!                                                  │
//!  one task: lets the worker do what it has to do ─┴─> sending is worth it? ──> all who are due are told to send
//! ```
//!
//! To send costs some microseconds for each subscriber, however much is sent. So it is worth it when as many are due as
//! the time since they were last told pays for: a seventh or so of a busy worker's time, half of an idle one's. That is
//! at once in a server where little is sent, whoever is told and however long the chain of those who answer each other;
//! and nothing waits longer than `pubsub-gather-usec`.
//!
//! Guarantees:
//! * Only the moment of sending is decided here. What is in an inbox is in order, counts against the client's limits,
//!   and goes out before any reply that the client gets meanwhile.
//! * There is no timer for a client, and nothing runs while nobody is due.

use super::clients::Client;
use super::work::Work;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What a busy worker has to have done since the last time for each client that is due; a send takes about a sixth of
/// it.
const BUSY_US: u64 = 40;
/// The same of a worker that has nothing else to do.
const IDLE_US: u64 = 8;
/// To send to fewer does not take so long that anybody could tell; and nothing can be waited for that is shorter than a
/// millisecond.
const FEW: usize = 64;
/// Whoever has more to be sent than this does not wait for others.
pub const FULL_BYTES: usize = 32 << 10;
/// Room for clients who are due that is kept.
const KEEP_DUE: usize = 1 << 10;

#[derive(Default)]
pub struct Gather {
    /// `pubsub-gather-usec`.
    most_us: AtomicU64,
    due: Mutex<Vec<Arc<Client>>>,
    someone_is_due: Notify,
}

/// What is best done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    Send,
    /// Until something else was done.
    LetWork,
    /// There is nothing else to do.
    SleepUs(u64),
}

fn choose(due: usize, since_us: u64, is_idle: bool, most_us: u64) -> Choice {
    if is_idle && due < FEW {
        return Choice::Send;
    }
    let each_us = if is_idle { IDLE_US } else { BUSY_US };
    let wait_us = (due as u64 * each_us).min(most_us).saturating_sub(since_us);
    match wait_us {
        0 => Choice::Send,
        _ if is_idle => Choice::SleepUs(wait_us),
        _ => Choice::LetWork,
    }
}

impl Gather {
    /// How long anything may wait to be sent, in microseconds; 0 is not at all.
    pub fn set_most(&self, us: u64) {
        self.most_us.store(us, Relaxed);
    }

    /// A client is to be told to send, for whom this is not noted yet. False when it is to be told at once.
    pub(super) fn note_due(&self, client: &Arc<Client>) -> bool {
        if self.most_us.load(Relaxed) == 0 {
            return false;
        }
        let mut due = self.due.lock();
        due.push(client.clone());
        if due.len() == 1 {
            drop(due);
            self.someone_is_due.notify_one();
        }
        true
    }

    /// Tells those who are due to send, and returns how many they were.
    pub fn send_now(&self) -> usize {
        let mut due = std::mem::take(&mut *self.due.lock());
        let count = due.len();
        due.drain(..).for_each(|client| client.send_gathered());
        if due.capacity() <= KEEP_DUE {
            let mut next = self.due.lock();
            if next.capacity() == 0 {
                *next = due;
            }
        }
        count
    }

    /// The task, for as long as the server runs.
    pub async fn run(self: Arc<Self>) {
        let mut last = Instant::now();
        loop {
            self.someone_is_due.notified().await;
            loop {
                let before = Work::so_far();
                tokio::task::yield_now().await;
                let due = self.due.lock().len();
                if due == 0 {
                    break;
                }
                let since_us = last.elapsed().as_micros() as u64;
                let is_idle = Work::so_far() == before;
                match choose(due, since_us, is_idle, self.most_us.load(Relaxed)) {
                    Choice::Send => {
                        self.send_now();
                        last = Instant::now();
                    }
                    Choice::LetWork => {}
                    Choice::SleepUs(us) => tokio::time::sleep(Duration::from_micros(us)).await,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_US: u64 = 5_000;

    #[test]
    fn where_little_is_sent_it_is_sent_at_once() {
        assert_eq!(choose(1, 0, true, MOST_US), Choice::Send);
        assert_eq!(choose(1, 10_000, false, MOST_US), Choice::Send);
        assert_eq!(choose(500, 10_000, true, MOST_US), Choice::Send);
        assert_eq!(choose(500, 10_000, false, MOST_US), Choice::Send);
    }

    #[test]
    fn the_more_are_due_the_longer_they_wait_and_never_longer_than_the_most() {
        assert_eq!(choose(10, 399, false, MOST_US), Choice::LetWork);
        assert_eq!(choose(10, 400, false, MOST_US), Choice::Send);
        assert_eq!(choose(500, 4_999, false, MOST_US), Choice::LetWork);
        assert_eq!(choose(500, 5_000, false, MOST_US), Choice::Send);
        assert_eq!(choose(100, 100, true, MOST_US), Choice::SleepUs(700));
        assert_eq!(choose(100_000, 1_000, true, MOST_US), Choice::SleepUs(4_000));
        assert_eq!(choose(100, 0, false, 0), Choice::Send);
    }
}
