//! What a worker thread does for clients, as counted by those who do it: from that it can be told whether there are
//! others who have something to do.

use std::cell::Cell;

thread_local! {
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// Something was done on this thread for a client.
pub fn note_work() {
    DONE.set(DONE.get().wrapping_add(1));
}

/// How often that was, and on which thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    thread: usize,
    done: u64,
}

impl Work {
    /// On this thread.
    pub fn so_far() -> Work {
        DONE.with(|done| Work {
            thread: std::ptr::from_ref(done).addr(),
            done: done.get(),
        })
    }

    /// True when only one thing has been done since `before`: by who asks.
    pub fn is_next_after(self, before: Work) -> bool {
        self.thread == before.thread && self.done == before.done.wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_seen_on_the_thread_that_did_it() {
        let before = Work::so_far();
        std::thread::spawn(note_work).join().unwrap();
        assert_eq!(Work::so_far(), before);
        note_work();
        assert!(Work::so_far().is_next_after(before));
        note_work();
        assert!(!Work::so_far().is_next_after(before));
    }
}
