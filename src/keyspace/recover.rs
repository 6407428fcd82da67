//! The state after a start: what the store holds, and the journal replayed behind its mark.
//!
//! 1. A row carries the offset of the last effect in it; effects at or below it are skipped for that key.
//! 2. Absence carries no offset and needs none: replay runs to the end, and a deletion resets what was before it.
//! 3. The mark is never above the first effect that is not in the store.
//! 4. Counts are the store's rows, from its mark row, changed by replay like by any command.
//! 5. So the state is that of a prefix of the journal, which holds every acknowledged `always` write.

use super::entry::{FLUSHED, STORED, STORED_EXPIRES, STORED_INDEX};
use super::range::{DBS, RangeMap};
use super::tx::count_change;
use super::{Keyspace, StoreError};
use crate::journal::{self, Journal, ReadError, ReadSummary, Record, Rejection};
use crate::store::flush::Meta;
use crate::store::rows::{self, Row};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// What replay has to remember.
#[derive(Default)]
pub struct RecoveryState {
    active: AtomicBool,
    store_has_rows: AtomicBool,
    mark: std::sync::atomic::AtomicU64,
    /// Offsets of rows read that are newer than the mark.
    newer: Mutex<HashMap<(u8, Vec<u8>), u64>>,
    /// There are any: mostly not, and those who replay at once do not wait for each other then.
    has_newer: AtomicBool,
}

impl RecoveryState {
    pub fn store_is_empty(&self) -> bool {
        !self.store_has_rows.load(Relaxed)
    }

    /// Notes the offset of a row that was made resident.
    pub fn note_row(&self, db: u8, key: &[u8], offset: u64) {
        if self.active.load(Relaxed) && offset > self.mark.load(Relaxed) {
            self.newer.lock().insert((db, key.to_vec()), offset);
            self.has_newer.store(true, Release);
        }
    }
}

#[derive(Debug)]
pub enum RecoverError {
    Store(StoreError),
    Journal(ReadError),
    Io(std::io::Error),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Store(error) => write!(f, "store: {error}"),
            RecoverError::Journal(error) => write!(f, "{error}"),
            RecoverError::Io(error) => write!(f, "journal: {error}"),
        }
    }
}

impl std::error::Error for RecoverError {}

impl Keyspace {
    /// Takes over what the store holds, replays the journal in `dir` from its mark through `apply`, and opens the
    /// journal behind it.
    pub fn recover(
        &self,
        meta: Option<Meta>,
        dir: &Path,
        options: journal::Options,
        mut apply: impl FnMut(&Keyspace, &[Record<'_>]) -> Result<(), Rejection>,
    ) -> Result<ReadSummary, RecoverError> {
        std::fs::create_dir_all(dir).map_err(RecoverError::Io)?;
        let mark = meta.as_ref().map_or(0, |meta| meta.mark);
        if let Some(meta) = meta {
            self.take_over(meta).map_err(RecoverError::Store)?;
        }
        self.recovery.mark.store(mark, Relaxed);
        self.recovery.active.store(true, Relaxed);
        let summary =
            journal::read(dir, mark, |records| apply(self, records)).map_err(RecoverError::Journal)?;
        if summary.records > 0 {
            journal::settle(dir, summary.end).map_err(RecoverError::Io)?;
        }
        self.settle_discards(summary.end);
        journal::crash_point("recover-before-open");
        self.recovery.active.store(false, Relaxed);
        self.recovery.newer.lock().clear();
        self.recovery.has_newer.store(false, Release);
        let journal = Journal::open(dir, summary.end, options).map_err(RecoverError::Io)?;
        // Set once: a keyspace is recovered once, before anything else uses it.
        let _ = self.journal.set(journal);
        Ok(summary)
    }

    /// True when a key's row already holds the effect that ends at `offset`.
    pub fn row_holds(&self, db: u8, key: &[u8], offset: u64) -> bool {
        // A key's row is noted by the thread that asks for it here.
        self.recovery.has_newer.load(Acquire) && {
            let newer = self.recovery.newer.lock();
            let row = newer.get(&(self.physical(db), key.to_vec()));
            row.is_some_and(|row| *row >= offset)
        }
    }

    fn take_over(&self, meta: Meta) -> Result<(), StoreError> {
        self.flush.begin_at(meta.mark);
        {
            let mut stored = self.flush.stored();
            (stored.mark, stored.newest, stored.databases) = (meta.mark, meta.newest, meta.databases.clone());
        }
        for (logical, physical) in meta.databases.iter().enumerate().take(DBS) {
            self.databases[logical].store(*physical, Relaxed);
        }
        self.set_discards(meta.discards.clone());
        let map = self.ranges.load();
        if self.same_intervals(&map, &meta) && !meta.recount {
            for range in &meta.ranges {
                self.take_counts(&map, &range.spec.name, &range.rows, &range.expires);
            }
        } else {
            log::info!(
                "ranges differ from those of the last run, or were being counted: counting the rows of the store"
            );
            self.count_all_rows(&map)?;
        }
        self.recovery.store_has_rows.store(
            map.iter().any(|range| range.counters.cold.load(Relaxed) > 0),
            Relaxed,
        );
        Ok(())
    }

    /// After a replayed flush of databases at `offset`: their rows that are newer were written by a flush that the
    /// crash cut short, and the rest of the store is still to be wiped. They become resident and dirty.
    pub(super) fn keep_newer_rows(&self, physical: &[u8], offset: u64) -> Result<(), StoreError> {
        if self.flush.stored().newest <= offset {
            return Ok(());
        }
        let map = self.ranges.load();
        for db in physical {
            let (from, to) = rows::db_bounds(*db);
            for found in self.store.scan(from, to, false) {
                let (row_key, value) = found?;
                let row = Row::decode(&value).map_err(StoreError::new)?;
                let stands =
                    |(db, key): &(u8, &[u8])| row.offset > offset && self.row_stands(*db, key, row.offset);
                let Some((db, key)) = rows::split_object_key(&row_key).filter(stands) else {
                    continue;
                };
                let hash = self.hasher.hash(db, key);
                let mut entry = self.entry_of((db, key), &row, 0).map_err(StoreError::new)?;
                if let Some(summary) = row.summary().map_err(StoreError::new)? {
                    // Its elements are wiped with it.
                    let object = self.whole_object(db, key, &summary)?;
                    entry.assign_object(object, row.expiry);
                }
                let mut state = self.shards[self.shard_of(hash)].lock();
                state.last_offset = state.last_offset.max(row.offset);
                self.insert_loaded(&mut state, hash, entry);
                if let Some(entry) = state.find_mut(hash, db, key) {
                    entry.store_set(STORED | STORED_EXPIRES | STORED_INDEX, false);
                    // The row stands until the wipe: a deletion before it has to leave a tombstone.
                    entry.store_set(FLUSHED, true);
                }
                state.mark_dirty_at(hash, db, key);
                let range = map.find(key);
                range.counters.cold.fetch_add(1, Relaxed);
                count_change(range, db, None, Some(row.expiry));
                self.recovery.note_row(db, key, row.offset);
            }
        }
        Ok(())
    }

    fn same_intervals(&self, map: &RangeMap, meta: &Meta) -> bool {
        let same = |range: &crate::store::flush::RangeMeta| {
            map.by_name(&range.spec.name).is_some_and(|now| {
                now.spec.name == range.spec.name
                    && now.spec.bounds == range.spec.bounds
                    && now.spec.tier == range.spec.tier
            })
        };
        meta.ranges.len() == map.iter().count() && meta.ranges.iter().all(same)
    }

    fn take_counts(&self, map: &RangeMap, name: &str, rows: &[i64], expires: &[i64]) {
        let Some(range) = map.by_name(name) else { return };
        let mut stored = self.flush.stored();
        let counts = stored.counts.entry(range.spec.name.clone()).or_default();
        for db in 0..DBS.min(rows.len()).min(expires.len()) {
            (counts.0[db], counts.1[db]) = (rows[db], expires[db]);
            range.counters.keys[db].store(rows[db], Relaxed);
            range.counters.expires[db].store(expires[db], Relaxed);
            range.counters.cold.fetch_add(rows[db], Relaxed);
        }
    }

    /// Counts the store's rows by range. Rows in a memory range are an error: they would be out of reach.
    fn count_all_rows(&self, map: &RangeMap) -> Result<(), StoreError> {
        let mut counts: HashMap<String, (Vec<i64>, Vec<i64>)> = HashMap::new();
        let (from, _) = rows::db_bounds(0);
        let (_, to) = rows::db_bounds(DBS as u8 - 1);
        for row in self.store.scan(from, to, false) {
            let (row_key, value) = row?;
            let Some((db, key)) = rows::split_object_key(&row_key) else {
                continue;
            };
            let row = Row::decode(&value).map_err(StoreError::new)?;
            if !self.row_stands(db, key, row.offset) {
                continue;
            }
            let range = map.find(key);
            if !range.is_durable() {
                let why = "range '{}' is a memory range, but the store holds keys of it: start with it durable, or drop them";
                return Err(StoreError::new(why.replace("{}", &range.spec.name)));
            }
            let count = counts
                .entry(range.spec.name.clone())
                .or_insert_with(|| (vec![0; DBS], vec![0; DBS]));
            count.0[db as usize] += 1;
            count.1[db as usize] += i64::from(row.expiry.is_some());
        }
        for (name, (rows, expires)) in counts {
            self.take_counts(map, &name, &rows, &expires);
        }
        Ok(())
    }
}
