//! Opening a transaction: lock the shards of its keys in ascending order, and bring in the keys that are cold.
//!
//! A key that is not resident, in a durable range that has cold keys, may stand in the store. Then the locks are
//! dropped, the row is read (first without touching the disk, else on a thread that may wait), the shard is locked
//! again and the row inserted if the key is still absent. In between the key may have come and gone; the shard's
//! epoch tells, and the read is done again.

use super::effects::Effects;
use super::range::{Range, RangeMap};
use super::shard::ShardGuard;
use super::tx::{Call, Tx};
use super::{Keyspace, StoreError};
use crate::store::block::Cached;
use crate::store::rows::Row;
use smallvec::SmallVec;
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

type Guards<'k> = SmallVec<[(usize, ShardGuard<'k>); 1]>;

/// A key of a transaction: physical database, hash, bytes.
type Place<'a> = (u8, u64, &'a [u8]);

/// Keys found to be absent from the store, with the epoch of their shard before the look.
type KnownAbsent = HashSet<(u64, u32)>;

impl Keyspace {
    /// Locks the keys of `call`; all of them are then resident or known to be absent.
    #[inline]
    pub fn begin<'k>(&'k self, call: Call<'k>, effects: &'k mut Effects) -> Result<Tx<'k>, StoreError> {
        if let [key] = *call.keys {
            // Nearly every call: one key, and resident. What is otherwise goes the general way.
            let db = self.physical(call.db);
            let hash = self.hasher.hash(db, key);
            let shard = self.shard_of(hash);
            let guard = self.shards[shard].lock();
            let map = self.ranges.load();
            let warm =
                self.none_cold(map.find(key), call.replay.is_some()) || guard.find(hash, db, key).is_some();
            if warm && self.physical(call.db) == db {
                let guards = SmallVec::from_buf([(shard, guard)]);
                return Ok(Tx::new(self, map, guards, call, (db, hash), effects));
            }
        }
        self.begin_two(call, None, effects)
    }

    /// True when no key of the range has to be looked for in a store.
    #[inline]
    fn none_cold(&self, range: &Range, replay: bool) -> bool {
        !range.is_durable()
            || if replay {
                self.recovery.store_is_empty()
            } else {
                range.counters.cold.load(Relaxed) <= 0
            }
    }

    /// As `begin`, for commands whose keys also stand in a second logical database (`MOVE`, `COPY`).
    pub fn begin_two<'k>(
        &'k self,
        call: Call<'k>,
        second: Option<u8>,
        effects: &'k mut Effects,
    ) -> Result<Tx<'k>, StoreError> {
        let mut absent = KnownAbsent::new();
        loop {
            // Read under no lock: if SWAPDB comes in between, the places are computed again below.
            let databases: SmallVec<[u8; 2]> = [Some(call.db), second]
                .iter()
                .flatten()
                .map(|db| self.physical(*db))
                .collect();
            let place = |db: &u8| {
                call.keys
                    .iter()
                    .map(|key| (*db, self.hasher.hash(*db, key), *key))
                    .collect::<SmallVec<[Place<'k>; 2]>>()
            };
            let places: SmallVec<[Place<'k>; 2]> = databases.iter().flat_map(place).collect();
            let guards = self.lock_places(&places);
            let unmoved = [Some(call.db), second]
                .iter()
                .flatten()
                .zip(&databases)
                .all(|(db, at)| self.physical(*db) == *at);
            if !unmoved {
                continue;
            }
            let map = self.ranges.load();
            let may_be_cold =
                |place: &&Place<'k>| self.may_be_cold(&guards, &map, place, &absent, call.replay.is_some());
            let cold: SmallVec<[Place<'k>; 1]> = places.iter().filter(may_be_cold).copied().collect();
            if cold.is_empty() {
                let first = places.first().map_or(0, |place| place.1);
                return Ok(Tx::new(self, map, guards, call, (databases[0], first), effects));
            }
            drop(guards);
            if self.is_over_limit() {
                // What is loaded takes the place of what was used longer ago. If nothing can go now, the next write
                // sees to it.
                self.make_room(call.now_ms);
            }
            // All of them before the locks are taken again: a command of many cold keys loads each once.
            for place in cold {
                self.load(place, call.now_ms, &mut absent)?;
            }
        }
    }

    fn lock_places<'k>(&'k self, places: &[Place<'_>]) -> Guards<'k> {
        if let [(_, hash, _)] = places {
            let shard = self.shard_of(*hash);
            return SmallVec::from_buf([(shard, self.shards[shard].lock())]);
        }
        let mut shards: SmallVec<[usize; 8]> =
            places.iter().map(|(_, hash, _)| self.shard_of(*hash)).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
            .into_iter()
            .map(|shard| (shard, self.shards[shard].lock()))
            .collect()
    }

    #[inline]
    fn may_be_cold(
        &self,
        guards: &Guards<'_>,
        map: &RangeMap,
        place: &Place<'_>,
        absent: &KnownAbsent,
        replay: bool,
    ) -> bool {
        let (db, hash, key) = *place;
        if self.none_cold(map.find(key), replay) {
            return false;
        }
        let shard = self.shard_of(hash);
        let Ok(at) = guards.binary_search_by_key(&shard, |(shard, _)| *shard) else {
            return false;
        };
        let state = &guards[at].1;
        state.find(hash, db, key).is_none() && !absent.contains(&(hash, state.epoch))
    }

    /// Looks a key up in the store and makes it resident, or notes that it is absent.
    fn load(
        &self,
        (db, hash, key): Place<'_>,
        now_ms: i64,
        absent: &mut KnownAbsent,
    ) -> Result<(), StoreError> {
        let shard = &self.shards[self.shard_of(hash)];
        let epoch = shard.lock().epoch;
        let bytes = match self.store.get_cached(db, key)? {
            Cached::Row(bytes) => Some(bytes),
            Cached::Absent => None,
            Cached::Unknown => may_wait(|| self.store.get(db, key))?,
        };
        let bad_row = |why| StoreError::new(format_args!("a row of the store cannot be read: {why}"));
        let row = bytes.as_deref().map(Row::decode).transpose().map_err(bad_row)?;
        let entry = |row: Row<'_>| {
            self.entry_of((db, key), &row, now_ms)
                .map(|entry| (row.offset, entry))
        };
        let loaded = row.map(entry).transpose().map_err(bad_row)?;
        let mut state = shard.lock();
        if state.epoch != epoch || state.find(hash, db, key).is_some() {
            // Came, or came and went, in between: what was read may be old. The caller looks again.
            return Ok(());
        }
        match loaded.filter(|(offset, _)| self.row_stands(db, key, *offset)) {
            Some((offset, entry)) => {
                self.recovery.note_row(db, key, offset);
                self.insert_loaded(&mut state, hash, entry);
            }
            None => {
                absent.insert((hash, epoch));
            }
        }
        Ok(())
    }
}

/// Runs something that may wait for a disk; on a runtime's worker thread its other tasks go on elsewhere meanwhile.
pub fn may_wait<R>(run: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(run)
        }
        _ => run(),
    }
}
