//! Iteration over keys: `SCAN`, `KEYS`, `RANDOMKEY`, `RANGE SCAN`.
//!
//! A scan has two parts. First the shards, in order: of each the resident entries that are *not* in the store, in the
//! order of the low half of their hashes. Then the store's rows in key order, passing over those whose resident entry
//! is a tombstone or has expired. A key that exists throughout stands in one of the two at every moment, and moves
//! only from the first to the second (a flush), never back; so it is returned.
//!
//! ```text
//! cursor, first part:   0 | shard:16 bits at 32 | low half of a hash: go on at or above it
//! cursor, second part:  bit 62 | number of a position in a bounded table: go on at or above that key
//! ```
//!
//! No state is kept for the first part, so it is exact while tables grow and shrink. Positions of the second part are
//! kept for the newest cursors; one that has been forgotten starts the second part again.

use super::Keyspace;
use super::entry::{Entry, STORED};
use super::range::Range;
use crate::store::StoreError;
use crate::store::rows::{self, Row};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const IN_STORE: u64 = 1 << 62;
const POSITIONS_MOST: usize = 4096;

/// Where scans of the store go on, by cursor number.
#[derive(Default)]
pub struct Positions {
    table: Mutex<(u64, BTreeMap<u64, Vec<u8>>)>,
}

impl Positions {
    fn remember(&self, position: Vec<u8>) -> u64 {
        let mut table = self.table.lock();
        table.0 += 1;
        let number = table.0;
        table.1.insert(number, position);
        if table.1.len() > POSITIONS_MOST {
            table.1.pop_first();
        }
        IN_STORE | number
    }

    fn recall(&self, cursor: u64) -> Vec<u8> {
        self.table
            .lock()
            .1
            .get(&(cursor & !IN_STORE))
            .cloned()
            .unwrap_or_default()
    }
}

/// A key met by a scan.
pub struct Found<'a> {
    pub key: &'a [u8],
    /// The name of its type, as `TYPE` gives it.
    pub kind: &'static str,
}

impl Keyspace {
    /// One step of a scan of a logical database from `cursor` (0 starts): visits about `count` keys, or more where one
    /// place holds more. Returns the cursor to go on with; 0 ends.
    pub fn scan(
        &self,
        db: u8,
        cursor: u64,
        count: usize,
        now_ms: i64,
        mut visit: impl FnMut(Found<'_>),
    ) -> Result<u64, StoreError> {
        let physical = self.physical(db);
        let (mut cursor, mut left) = (cursor, count.max(1));
        while cursor & IN_STORE == 0 {
            let shard = (cursor >> 32) as usize;
            if shard >= self.shards.len() {
                if self.keys_in_store() == 0 {
                    return Ok(0);
                }
                cursor = IN_STORE;
                break;
            }
            let (seen, next) = self.scan_shard(shard, cursor as u32, physical, left, now_ms, &mut visit);
            cursor = next.map_or((shard as u64 + 1) << 32, |order| {
                (shard as u64) << 32 | u64::from(order)
            });
            left = left.saturating_sub(seen);
            if left == 0 {
                return Ok(
                    if cursor >> 32 >= self.shards.len() as u64 && self.keys_in_store() == 0 {
                        0
                    } else {
                        cursor
                    },
                );
            }
        }
        self.scan_store(physical, self.positions.recall(cursor), left, now_ms, visit)
    }

    fn keys_in_store(&self) -> i64 {
        if self.ranges.load().iter().any(|range| range.is_durable()) {
            i64::MAX
        } else {
            0
        }
    }

    /// Visits entries of a shard from `order` on; the order to go on from, if any are left.
    fn scan_shard(
        &self,
        shard: usize,
        order: u32,
        db: u8,
        most: usize,
        now_ms: i64,
        visit: &mut impl FnMut(Found<'_>),
    ) -> (usize, Option<u32>) {
        let state = self.shards[shard].lock();
        let wanted = |entry: &&Entry| {
            entry.db() == db && !entry.is_absent() && !entry.store_has(STORED) && !entry.is_expired(now_ms)
        };
        let order_of = |entry: &Entry| self.hasher.hash(db, entry.key()) as u32;
        let mut found: Vec<(u32, &Entry)> = state
            .iter()
            .filter(wanted)
            .map(|entry| (order_of(entry), entry))
            .filter(|(at, _)| *at >= order)
            .collect();
        found.sort_unstable_by_key(|(at, _)| *at);
        // All entries of one order go together, so that the cursor can stand behind them.
        let mut taken = most.min(found.len());
        while taken > 0 && taken < found.len() && found[taken].0 == found[taken - 1].0 {
            taken += 1;
        }
        for (_, entry) in &found[..taken] {
            visit(Found {
                key: entry.key(),
                kind: kind_name(entry),
            });
        }
        (taken, found.get(taken).map(|(at, _)| *at))
    }

    fn scan_store(
        &self,
        db: u8,
        from: Vec<u8>,
        most: usize,
        now_ms: i64,
        mut visit: impl FnMut(Found<'_>),
    ) -> Result<u64, StoreError> {
        let (first, end) = rows::db_bounds(db);
        let from = if from.is_empty() { first } else { from };
        for (seen, row) in self.store.scan(from, end, false).enumerate() {
            let (row_key, value) = row?;
            if seen == most {
                return Ok(self.positions.remember(row_key.into_vec()));
            }
            let Some((db, key)) = rows::split_object_key(&row_key) else {
                continue;
            };
            let row = Row::decode(&value).map_err(StoreError::new)?;
            if let Some(kind) = self.kind_of_stored(db, key, &row, now_ms) {
                visit(Found { key, kind });
            }
        }
        Ok(0)
    }

    /// The type of a key that has a row, if the key exists and has not been returned as not stored.
    fn kind_of_stored(&self, db: u8, key: &[u8], row: &Row<'_>, now_ms: i64) -> Option<&'static str> {
        let hash = self.hasher.hash(db, key);
        let state = self.shards[self.shard_of(hash)].lock();
        match state.find(hash, db, key) {
            Some(entry) if entry.is_absent() || entry.is_expired(now_ms) => None,
            Some(entry) => Some(kind_name(entry)),
            None if !self.row_stands(db, row) || row.expiry.is_some_and(|at| at <= now_ms) => None,
            None => Some("string"),
        }
    }

    /// Some key of a logical database; none when it is empty.
    pub fn random_key(&self, db: u8, now_ms: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let physical = self.physical(db);
        let map = self.ranges.load();
        let keys = map.keys_in_db(physical);
        if keys <= 0 {
            return Ok(None);
        }
        let cold: i64 = map.iter().map(|range| range.counters.cold.load(Relaxed)).sum();
        let start = fastrand::usize(..self.shards.len());
        if fastrand::i64(..keys) >= cold {
            for at in 0..self.shards.len() {
                let state = self.shards[(start + at) & (self.shards.len() - 1)].lock();
                let live = |entry: &&Entry| {
                    entry.db() == physical && !entry.is_absent() && !entry.is_expired(now_ms)
                };
                let skip = fastrand::usize(..state.len().max(1));
                if let Some(entry) = state.iter().skip(skip).chain(state.iter()).find(live) {
                    return Ok(Some(entry.key().to_vec()));
                }
            }
        }
        let mut found = None;
        let from = [&rows::db_bounds(physical).0[..], &[fastrand::u8(..)]].concat();
        self.scan_store(physical, from, 16, now_ms, |key| found = Some(key.key.to_vec()))?;
        if found.is_none() {
            self.scan(db, 0, 1 << 20, now_ms, |key| found = Some(key.key.to_vec()))?;
        }
        Ok(found)
    }

    /// Keys of a logical database in [start, end), ordered, at most `most`, with their values. Resident and stored keys
    /// are merged; each exists at some moment of the call.
    pub fn range_scan(
        &self,
        db: u8,
        bounds: (&[u8], Option<&[u8]>),
        most: usize,
        reverse: bool,
        now_ms: i64,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let physical = self.physical(db);
        let (start, end) = bounds;
        let inside = |key: &[u8]| key >= start && end.is_none_or(|end| key < end);
        let mut found: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let trim = |found: &mut BTreeMap<Vec<u8>, Vec<u8>>| {
            if found.len() > most {
                if reverse {
                    found.pop_first()
                } else {
                    found.pop_last()
                };
            }
        };
        for shard in &self.shards {
            let state = shard.lock();
            let live =
                |entry: &&Entry| entry.db() == physical && !entry.is_absent() && !entry.is_expired(now_ms);
            for entry in state.iter().filter(live).filter(|entry| inside(entry.key())) {
                found.insert(entry.key().to_vec(), entry.value().to_vec());
                trim(&mut found);
            }
        }
        let to = end.map_or_else(
            || rows::db_bounds(physical).1,
            |end| rows::object_key(physical, end),
        );
        let mut stored = 0;
        for row in self.store.scan(rows::object_key(physical, start), to, reverse) {
            let (row_key, value) = row?;
            let Some((db, key)) = rows::split_object_key(&row_key) else {
                continue;
            };
            let row = Row::decode(&value).map_err(StoreError::new)?;
            if found.contains_key(key) {
                stored += 1;
            } else if self.is_cold(db, key)
                && self.row_stands(db, &row)
                && row.expiry.is_none_or(|at| at > now_ms)
            {
                found.insert(key.to_vec(), row.string().map_err(StoreError::new)?.to_vec());
                trim(&mut found);
                stored += 1;
            }
            if stored >= most {
                break;
            }
        }
        let found = found.into_iter();
        Ok(if reverse {
            found.rev().collect()
        } else {
            found.collect()
        })
    }

    /// True when no entry, not even a tombstone, is resident for this key.
    fn is_cold(&self, db: u8, key: &[u8]) -> bool {
        let hash = self.hasher.hash(db, key);
        self.shards[self.shard_of(hash)]
            .lock()
            .find(hash, db, key)
            .is_none()
    }

    /// Visits every key of an interval in every database, resident or cold: (logical database, key).
    pub fn each_key_within(
        &self,
        intervals: &[(Vec<u8>, Option<Vec<u8>>)],
        now_ms: i64,
    ) -> Result<Vec<(u8, Vec<u8>)>, StoreError> {
        let inside = |key: &[u8]| {
            intervals.iter().any(|(start, end)| {
                key >= start.as_slice() && end.as_ref().is_none_or(|end| key < end.as_slice())
            })
        };
        let mut found = Vec::new();
        for db in 0..super::range::DBS as u8 {
            let mut cursor = 0;
            loop {
                cursor = self.scan(db, cursor, 4096, now_ms, |key| {
                    if inside(key.key) {
                        found.push((db, key.key.to_vec()));
                    }
                })?;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The range of a key.
    pub fn range_of(&self, key: &[u8]) -> Arc<Range> {
        self.ranges.load().find(key).clone()
    }
}

/// The name of an entry's type.
pub fn kind_name(entry: &Entry) -> &'static str {
    match entry.kind() {
        super::entry::Kind::String => "string",
        super::entry::Kind::Absent => "none",
    }
}
