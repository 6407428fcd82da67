//! What a flushed database held goes: shard by shard, behind a moment at which it is gone for everybody.
//!
//! ```text
//! moment:    every shard is locked     counts of keys are zero, rows up to here count no more, each shard owes its part
//! then:      shards pay                entries and sealed rows of the databases are taken out, and freed elsewhere
//! last one:  counts of cold keys       what was counted and was not resident was cold
//! ```
//!
//! Guarantees: whoever holds every shard finds all counts exact, because by then each has paid. Until then a range seems
//! to have cold keys that are gone, which costs a look into the store, and never too few, which would hide keys.

use super::Keyspace;
use super::entry::Entry;
use super::owed::Owed;
use super::range::{DBS, Range, RangeMap};
use super::reclaim::{reclaim_entries, reclaim_table};
use super::seal::SealedRows;
use super::shard::ShardState;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::{Arc, Weak};

/// A flush of databases, from its moment on.
pub(super) struct Clear {
    map: Arc<RangeMap>,
    /// Physical databases.
    databases: Vec<u8>,
    sealed: SealedRows,
    /// The generations whose keys alone tell their range.
    mixed: Vec<u16>,
    /// Keys that were counted at the moment, by range, less the resident ones that have been found: the cold ones at
    /// last. Empty when all databases go: then that was known at the moment.
    cold: Vec<(Arc<Range>, AtomicI64)>,
    /// Shards that have not paid.
    left: AtomicUsize,
}

impl Clear {
    fn is_of_all(&self) -> bool {
        self.databases.len() == DBS
    }

    /// Takes a shard's part out. Once for each shard.
    pub(super) fn clear_shard(&self, keyspace: &Keyspace, state: &mut ShardState, shard: usize) {
        self.sealed
            .forget_databases(state, shard, (&self.databases, &self.mixed), &self.map);
        if self.is_of_all() {
            // Its bytes are not counted any more: no entry has to be looked at.
            reclaim_table(std::mem::take(&mut state.table));
        } else {
            self.take_entries(keyspace, state);
        }
        state.epoch = state.epoch.wrapping_add(1);
        if state.is_empty() {
            state.expiries.clear();
            state.dirty.clear();
            state.stale_expiries.take();
        }
        if self.left.fetch_sub(1, Relaxed) == 1 {
            for (range, cold) in &self.cold {
                range.counters.cold.fetch_sub(cold.load(Relaxed), Relaxed);
            }
        }
    }

    fn take_entries(&self, keyspace: &Keyspace, state: &mut ShardState) {
        let goes = |entry: &Entry| self.databases.contains(&entry.db());
        if !state.iter().any(goes) {
            return;
        }
        let gone = state.extract(|entry| goes(entry));
        for entry in &gone {
            let range = self.map.find(entry.key());
            keyspace.count_bytes(range, entry.size(), 0);
            let counted = self.cold.iter().find(|(counted, _)| Arc::ptr_eq(counted, range));
            if let Some((_, cold)) = counted.filter(|_| !entry.is_absent()) {
                cold.fetch_sub(1, Relaxed);
            }
        }
        reclaim_entries(gone);
    }
}

/// A shard's part of a flush that it has not done yet.
pub(super) struct OwedClear {
    /// Gone when the server ends, and then so is what the shard holds.
    pub keyspace: Weak<Keyspace>,
    pub clear: Clear,
}

impl Owed for OwedClear {
    fn pay(&self, state: &mut ShardState, shard: usize) {
        if let Some(keyspace) = self.keyspace.upgrade() {
            self.clear.clear_shard(&keyspace, state, shard);
        }
    }
}

impl Keyspace {
    /// The moment of a flush, with every shard locked: counts say that the databases are empty. Returns how many keys
    /// there were, and what the shards have to do.
    pub(super) fn begin_clear(&self, databases: &[u8]) -> (i64, Clear) {
        let map = self.ranges.load_full();
        let mixed = self.clear_generations(databases);
        let all = databases.len() == DBS;
        let (mut count, mut cold) = (0, Vec::new());
        for range in map.iter() {
            let counters = &range.counters;
            let mut keys = 0;
            for db in databases {
                keys += counters.keys[*db as usize].swap(0, Relaxed);
                counters.expires[*db as usize].store(0, Relaxed);
            }
            count += keys;
            if all {
                self.count_bytes(range, counters.bytes.load(Relaxed) as usize, 0);
                counters.cold.store(0, Relaxed);
            } else {
                cold.push((range.clone(), AtomicI64::new(keys)));
            }
        }
        let clear = Clear {
            map,
            databases: databases.to_vec(),
            sealed: self.sealed_rows(),
            mixed,
            cold,
            left: AtomicUsize::new(self.shards.len()),
        };
        (count, clear)
    }
}
