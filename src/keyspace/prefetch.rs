//! Starting the cache misses of a batch of requests before the first of them runs.
//!
//! A lookup in a large keyspace waits for memory three times, each wait for what the one before brought: the shard's
//! lock, the bucket, the entry. For a batch the waits of all keys are overlapped: first the lock lines of all shards
//! are asked for, then (locking each for a moment) the buckets, then the entries. By the time the first command runs,
//! nearly everything is on its way.
//!
//! Where keys are sealed, three waits take the place of the one for the entry: the shard's directory of sealed keys,
//! the slot in the table of a generation, the row (`settled`).
//!
//! Where keys are watched, four more waits are between an entry and those who are told: the shard's records, their
//! index, the record, its key. They are overlapped in the same way, for entries that have the flag.
//!
//! Where several requests in a row are about one key, it is the elements of its value that are far apart: they are
//! asked for in the same way.

use super::Keyspace;
use super::entry::{self, Entry};
use super::records::{PREFETCH_STEPS, PrefetchStep};
use crate::pointer::prefetch;
use smallvec::SmallVec;

const LINE: usize = 64;

/// Requests in a row about the same key: its hash, the key, and the element that each but the first names.
struct Run<'a> {
    hash: u64,
    key: &'a [u8],
    elements: SmallVec<[&'a [u8]; 16]>,
}

impl Keyspace {
    /// Brings the shards, buckets and entries of keys in a logical database nearer. With each key may come an element of
    /// its value that will be looked for. `hashes` is scratch space.
    pub fn prefetch<'a>(
        &self,
        db: u8,
        keys: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        hashes: &mut Vec<u64>,
    ) {
        let db = self.physical(db);
        hashes.clear();
        let mut last: Option<&[u8]> = None;
        let mut runs: SmallVec<[Run<'a>; 1]> = SmallVec::new();
        for (key, element) in keys {
            if last.replace(key) == Some(key) {
                // The key is near already.
                if let (Some(hash), Some(element)) = (hashes.last(), element) {
                    add_element(&mut runs, *hash, key, element);
                }
                continue;
            }
            let hash = self.hasher.hash(db, key);
            let shard = std::ptr::from_ref(&self.shards[self.shard_of(hash)]).cast::<u8>();
            prefetch(shard);
            prefetch(shard.wrapping_add(LINE));
            hashes.push(hash);
        }
        for hash in &*hashes {
            let Some(state) = self.shards[self.shard_of(*hash)].try_lock() else {
                continue;
            };
            if let Some(bucket) = state.table().home_address(*hash) {
                prefetch(bucket);
            }
            if let Some(sealed) = &state.sealed {
                prefetch(std::ptr::from_ref(&**sealed).cast());
            }
        }
        let mut sealed: SmallVec<[u64; 16]> = SmallVec::new();
        for hash in &*hashes {
            let Some(state) = self.shards[self.shard_of(*hash)].try_lock() else {
                continue;
            };
            if let Some(entry) = state.table().likely(*hash).map(Entry::address) {
                prefetch(entry);
                prefetch(entry.wrapping_add(LINE));
            } else if let Some(slots) = state
                .sealed
                .as_ref()
                .and_then(|at| at.directory.home_address(*hash))
            {
                prefetch(slots);
                sealed.push(*hash);
            }
        }
        if !sealed.is_empty() {
            self.prefetch_sealed(db, &sealed);
        }
        if self.record_counts.watch() {
            self.prefetch_records(hashes);
        }
        for run in runs {
            let Some(state) = self.shards[self.shard_of(run.hash)].try_lock() else {
                continue;
            };
            let entry = state.find(run.hash, db, run.key);
            if let Some(object) = entry.and_then(|entry| entry.object()) {
                object.prefetch(&run.elements);
            }
        }
    }
}

impl Keyspace {
    /// What a write to a watched key will look at. Leaves the hashes of those that are.
    #[cold]
    fn prefetch_records(&self, hashes: &mut Vec<u64>) {
        hashes.retain(|hash| {
            let Some(state) = self.shards[self.shard_of(*hash)].try_lock() else {
                return false;
            };
            let entry = state.table().likely(*hash);
            let is_watched = entry.is_some_and(|entry| entry.has(entry::WATCHED));
            if is_watched {
                state.records.prefetch(*hash, PrefetchStep::Table);
            }
            is_watched
        });
        for step in PREFETCH_STEPS {
            for hash in &*hashes {
                if let Some(state) = self.shards[self.shard_of(*hash)].try_lock() {
                    state.records.prefetch(*hash, step);
                }
            }
        }
    }
}

fn add_element<'a>(runs: &mut SmallVec<[Run<'a>; 1]>, hash: u64, key: &'a [u8], element: &'a [u8]) {
    match runs.last_mut() {
        Some(run) if run.hash == hash && run.key == key => run.elements.push(element),
        _ => runs.push(Run {
            hash,
            key,
            elements: SmallVec::from_slice(&[element]),
        }),
    }
}
