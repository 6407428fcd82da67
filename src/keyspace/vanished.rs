//! Streams that went away while somebody waited to read them by a consumer group. Where a command took them away it has
//! told the reader; where they expired, or were evicted, nobody has. What is evicted sealed, a generation at once, is not
//! noted.

use super::Keyspace;
use super::entry::Entry;
use parking_lot::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Default)]
pub struct Vanished {
    /// How many readers wait. One joins while its keys are locked, so it does not miss that one of them goes.
    readers: AtomicUsize,
    keys: Mutex<Vec<(u8, Vec<u8>)>>,
}

impl Vanished {
    pub fn reader_waits(&self) {
        self.readers.fetch_add(1, Relaxed);
    }

    pub fn reader_leaves(&self) {
        self.readers.fetch_sub(1, Relaxed);
    }

    /// The streams, by logical database and key, that went since this was called last.
    pub fn take(&self) -> Vec<(u8, Vec<u8>)> {
        std::mem::take(&mut *self.keys.lock())
    }
}

impl Keyspace {
    /// Called while the shard of a key is locked that is about to go, however it goes.
    #[inline]
    pub(super) fn note_vanishing(&self, entry: &Entry) {
        if self.vanished.readers.load(Relaxed) > 0 && entry.type_name() == "stream" {
            let gone = (self.logical(entry.db()), entry.key().to_vec());
            self.vanished.keys.lock().push(gone);
        }
    }
}
