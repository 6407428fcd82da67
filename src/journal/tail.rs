//! What is written and not synced yet, kept in memory; and what becomes of it when a sync fails.
//!
//! A failed sync cannot be tried again. A filesystem may mark the pages that it could not write as clean, or drop them,
//! and reports the error once: the next sync of that file finds nothing to do and succeeds, and the data is gone all the
//! same. So after a failed sync nothing that was written since the last good one is believed to be in that file, however
//! it looks to who reads it (the reader may be shown the page that never reached the disk).
//!
//! ```text
//!   segment a  [ synced .......... | written, in doubt      ]        sync fails; `synced` stays at S
//!                                  S                        W
//!   tail                           [ batch ][ batch ][batch ]        the same records, in memory
//!
//!   segment S                      [ the tail, anew         ] ...    a new file, synced, then renamed into place
//! ```
//!
//! * The tail is written to a new file under another name, synced, renamed to the segment that begins at S, and the
//!   folder synced. Only then is S moved to W, are the waiters of `always` let go, and does `failure` end. If a step
//!   fails, all of them are done again with another new file: no sync is ever asked for a second time.
//! * While there is doubt nothing else is synced, so no waiter can be let go by another way. The sync thread and a
//!   rolling writer sync one at a time and note the outcome before the other may: else one of them would take the error
//!   and the other would report success.
//! * Meanwhile records that were appended before the failure was noted still go to segment a, and to the tail: what is
//!   in the file survives the end of the process, if not of the machine.
//! * A segment ends where the next one begins (see `segment::read`): the doubtful end of segment a is never read again.
//! * A process killed meanwhile leaves segment a as it is.
//!   What the next start has read from the newest segment it writes to a new file too (`segment::settle`), because it
//!   cannot know whether a sync of it had failed.
//! * A store's flush needs nothing of this: it waits for the journal to be synced up to its rows, and its own files are
//!   written anew after a failed sync.
//!
//! The tail is bounded: at `SYNC_BYTES`, or less where memory is limited, a sync begins whatever the policy; at four
//! times as much the writer waits for it.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const SYNC_BYTES: usize = 64 << 20;
/// The writer waits for a sync at so many times as much.
const MOST_FACTOR: usize = 4;

pub struct Tail {
    batches: Mutex<VecDeque<Batch>>,
    bytes: AtomicUsize,
    sync_bytes: AtomicUsize,
    /// `at_ms` of the first batch; 0 for none.
    since_ms: AtomicU64,
}

/// Records as they are in the file, in order.
struct Batch {
    /// The offset behind the last.
    end: u64,
    /// When they were written, in unix milliseconds.
    at_ms: u64,
    records: Arc<[u8]>,
}

impl Default for Tail {
    fn default() -> Tail {
        Tail {
            batches: Mutex::default(),
            bytes: AtomicUsize::new(0),
            sync_bytes: AtomicUsize::new(SYNC_BYTES),
            since_ms: AtomicU64::new(0),
        }
    }
}

impl Tail {
    /// A sync begins at so many bytes, or earlier.
    pub fn bound(&self, bytes: usize) {
        self.sync_bytes.store(bytes.min(SYNC_BYTES), Ordering::Relaxed);
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds records that end at offset `end`. Called before they count as written.
    pub fn push(&self, end: u64, at_ms: u64, records: &[u8]) {
        let mut batches = self.batches.lock();
        batches.push_back(Batch {
            end,
            at_ms,
            records: records.into(),
        });
        self.bytes.fetch_add(records.len(), Ordering::Relaxed);
        self.note_oldest(&batches);
    }

    /// Drops what is durable. `offset` is always behind a whole batch.
    pub fn drop_below(&self, offset: u64) {
        let mut batches = self.batches.lock();
        while batches.front().is_some_and(|batch| batch.end <= offset) {
            let len = batches.pop_front().map_or(0, |batch| batch.records.len());
            self.bytes.fetch_sub(len, Ordering::Relaxed);
        }
        self.note_oldest(&batches);
    }

    fn note_oldest(&self, batches: &VecDeque<Batch>) {
        let since_ms = batches.front().map_or(0, |batch| batch.at_ms);
        self.since_ms.store(since_ms, Ordering::Relaxed);
    }

    /// Since when something is not synced, in unix milliseconds; 0 when all is.
    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }

    pub fn batches(&self) -> Vec<Arc<[u8]>> {
        let batches = self.batches.lock();
        batches.iter().map(|batch| batch.records.clone()).collect()
    }

    pub fn wants_sync(&self) -> bool {
        self.bytes() > self.sync_bytes.load(Ordering::Relaxed)
    }

    pub fn is_full(&self) -> bool {
        self.bytes() > self.sync_bytes.load(Ordering::Relaxed) * MOST_FACTOR
    }
}
