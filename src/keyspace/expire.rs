//! When keys expire, and fields of hashes: the per-shard index, and the cycle that removes what is due.
//!
//! The index is a wheel of slots of 128 ms: slot → the hashes of keys that expire in it. It is allowed to be
//! early and to hold keys that are gone; it is never late. So
//! * a key whose expiry moves later keeps its old item, and is put in again when that item comes due;
//! * a key whose expiry moves earlier, or that is new, gets an item;
//! * a hash with field expiries counts as a key that expires with the earliest of them;
//! * a deleted key's item is dropped when it comes due, or when stale items outnumber live ones and the index is
//!   rebuilt from the table.
//!
//! A key that is touched a thousand times with `EXPIRE` therefore costs one item of eight bytes. A sealed key keeps its
//! item: the hash leads to its row.

use super::effects::Effects;
use super::entry::{self, Entry};
use super::events::{Event, News};
use super::load::may_wait;
use super::paging::Elements;
use super::range::Range;
use super::shard::{ShardState, stale_expiry};
use super::table::Place;
use super::tx::{Call, settle};
use super::{Keyspace, StoreError};
use crate::store::rows;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

/// Milliseconds in one slot of the wheel.
const SLOT_MS: i64 = 128;

#[derive(Default)]
pub struct ExpiryIndex {
    slots: BTreeMap<i64, Vec<u64>>,
    items: usize,
}

impl ExpiryIndex {
    /// Notes that the key with `hash` expires at `at_ms`.
    pub fn add(&mut self, at_ms: i64, hash: u64) {
        self.slots
            .entry(at_ms.div_euclid(SLOT_MS))
            .or_default()
            .push(hash);
        self.items += 1;
    }

    /// Notes it again for a key whose item came due and that expires later. Stale items would multiply by that, so a
    /// key that stands in a short slot already is not added to it.
    fn add_again(&mut self, at_ms: i64, hash: u64) {
        let slot = self.slots.get(&at_ms.div_euclid(SLOT_MS));
        if slot.is_none_or(|slot| slot.len() > PORTION || !slot.contains(&hash)) {
            self.add(at_ms, hash);
        }
    }

    /// Takes up to `most` items whose slot has ended at `now_ms`, as hashes.
    pub fn take_due(&mut self, now_ms: i64, most: usize) -> Vec<u64> {
        let mut due = Vec::new();
        while due.len() < most {
            let Some(mut first) = self.slots.first_entry() else {
                break;
            };
            if *first.key() >= now_ms.div_euclid(SLOT_MS) {
                break;
            }
            let room = most - due.len();
            let slot = first.get_mut();
            if slot.len() <= room {
                due.append(slot);
                first.remove();
            } else {
                due.extend(slot.drain(slot.len() - room..));
            }
        }
        self.items -= due.len();
        due
    }

    pub fn clear(&mut self) {
        *self = ExpiryIndex::default();
    }

    pub fn items(&self) -> usize {
        self.items
    }

    /// Every item: its slot and its hash, as `add_slot` takes them.
    pub(super) fn for_each(&self, mut visit: impl FnMut(i64, u64)) {
        for (slot, hashes) in &self.slots {
            hashes.iter().for_each(|hash| visit(*slot, *hash));
        }
    }

    pub(super) fn add_slot(&mut self, slot: i64, hash: u64) {
        self.slots.entry(slot).or_default().push(hash);
        self.items += 1;
    }

    /// A close estimate of the heap bytes in use.
    pub fn bytes(&self) -> usize {
        self.items * 8 + self.slots.len() * 40
    }
}

/// How far the search for cold keys that are due has come in the store's expiry index.
#[derive(Default)]
pub struct ColdSweep {
    /// The rows before this key have been seen to.
    position: Mutex<Vec<u8>>,
    /// The earliest expiry that a flush has written since the search last looked.
    written: AtomicI64,
}

impl ColdSweep {
    /// Rows with expiries from `at_ms` on were added to the store.
    pub(super) fn note_rows_from(&self, at_ms: i64) {
        self.written.fetch_min(at_ms, SeqCst);
    }

    /// The position to go on from: back to rows that were written late. What is added from now on is noted again.
    fn begin(&self, first: Vec<u8>) -> MutexGuard<'_, Vec<u8>> {
        let mut position = self.position.lock();
        if position.is_empty() {
            *position = first;
        }
        let written = rows::expiry_start(self.written.swap(i64::MAX, SeqCst));
        if written < *position {
            *position = written;
        }
        position
    }
}

/// Keys taken from one shard while its lock is held: a few microseconds each.
const PORTION: usize = 64;
/// Keys with expiries, and others, that are looked at for the average, and those of one shard.
const SAMPLED_EXPIRIES: u128 = 256;
const SAMPLED_ENTRIES: usize = 16 << 10;
const SAMPLED_IN_SHARD: usize = 64;
/// Fields taken from one hash at a time.
const FIELDS_PORTION: usize = 256;

impl Keyspace {
    /// How many milliseconds the keys of a physical database have left on average, of those that expire; of a sample,
    /// if they are many.
    pub fn average_ttl_ms(&self, db: u8, now_ms: i64) -> u64 {
        let first = fastrand::usize(..self.shards.len());
        let (mut looked, mut found, mut sum) = (0, 0, 0);
        for step in 0..self.shards.len() {
            if found >= SAMPLED_EXPIRIES || looked >= SAMPLED_ENTRIES {
                break;
            }
            let state = self.shards[(first + step) & (self.shards.len() - 1)].lock();
            if state.expiries.items() == 0 {
                continue;
            }
            let entries = state.table.iter_from(fastrand::usize(..)).take(SAMPLED_IN_SHARD);
            for entry in entries {
                looked += 1;
                let expiry = entry.expiry().filter(|_| entry.db() == db);
                if let Some(left) = expiry.and_then(|at| u64::try_from(at - now_ms).ok()) {
                    (found, sum) = (found + 1, sum + u128::from(left));
                }
            }
        }
        sum.checked_div(found).map_or(0, |average| average as u64)
    }

    /// Deletes resident keys that are due, for at most `budget`; the next call goes on where this one ended. Returns how
    /// many, and whether time ran out. Also brings the count of table bytes up to date.
    pub fn expire_resident(&self, now_ms: i64, budget: Duration, effects: &mut Effects) -> (u64, bool) {
        let (started, first) = (Instant::now(), self.expire_next.load(Relaxed));
        let mut count = 0;
        for step in 0..self.shards.len() {
            let shard = (first + step) & (self.shards.len() - 1);
            loop {
                if started.elapsed() > budget {
                    self.expire_next.store(shard, Relaxed);
                    return (count, true);
                }
                let (expired, more) = self.expire_portion(shard, now_ms, effects);
                count += expired;
                if !more {
                    break;
                }
            }
        }
        (count, false)
    }

    /// Deletes up to `PORTION` keys of a shard. Returns how many, and whether there may be more.
    fn expire_portion(&self, shard: usize, now_ms: i64, effects: &mut Effects) -> (u64, bool) {
        let mut state = self.shards[shard].lock();
        let due = state.expiries.take_due(now_ms, PORTION);
        let more = due.len() == PORTION;
        let mut count = 0;
        let mut sealed = Vec::new();
        for hash in due {
            count += self.expire_hash(&mut state, hash, now_ms, effects);
            if state.has_sealed(hash) {
                sealed.push(hash);
            }
        }
        self.append_expired(&mut state, effects);
        let bytes = state.table_bytes();
        let counted = std::mem::replace(&mut state.counted_bytes, u32::try_from(bytes).unwrap_or(u32::MAX));
        let bytes = state.counted_bytes;
        self.table_bytes
            .fetch_add(i64::from(bytes) - i64::from(counted), Relaxed);
        drop(state);
        for hash in sealed {
            match self.expire_sealed(hash, now_ms, effects) {
                Ok(expired) => count += expired,
                Err(error) => log::error!("a sealed key that is due: {error}"),
            }
        }
        (count, more)
    }

    /// Records what expired in a shard.
    fn append_expired(&self, state: &mut ShardState, effects: &mut Effects) {
        let heard = effects.take_heard();
        if !effects.is_empty() {
            if let Some(journal) = self.journal() {
                state.last_offset = journal.append(effects.finish());
            }
            effects.clear();
        }
        self.tell_recorded(state, heard);
    }

    /// Handles one index item that came due: its key has expired, expires later, or is gone.
    fn expire_hash(&self, state: &mut ShardState, hash: u64, now_ms: i64, effects: &mut Effects) -> u64 {
        let (mut expired, mut with_fields, mut later) = (Vec::new(), Vec::new(), Vec::new());
        state.visit_like(hash, |entry| match entry.next_expiry() {
            Some(_) if entry.is_expired(now_ms) => expired.push((entry.db(), entry.key().to_vec())),
            Some(at) if at <= now_ms => with_fields.push((entry.db(), entry.key().to_vec())),
            Some(at) if entry.has(entry::INDEXED) => later.push(at),
            _ => {}
        });
        later
            .into_iter()
            .for_each(|at| state.expiries.add_again(at, hash));
        let map = self.ranges.load();
        for (db, key) in &with_fields {
            let is_it = |entry: &Entry| entry.db() == *db && entry.key() == key;
            if let Some(place) = state.table.position(hash, is_it) {
                let range = map.find(key);
                self.expire_fields(state, (hash, place), (now_ms, FIELDS_PORTION), range, effects);
            }
            // What is left of it comes due later, or goes on in the next portion.
            let left = state.find(hash, *db, key).and_then(Entry::next_expiry);
            if let Some(at) = left {
                state.expiries.add_again(at, hash);
            }
        }
        for (db, key) in &expired {
            let range = map.find(key);
            if self.remove_entry(state, hash, *db, key, range) {
                range.counters.expired.fetch_add(1, Relaxed);
                let expired = (Event::Expired, News::None);
                self.note_aside(state, hash, (*db, key), expired, Some(effects));
                if range.is_durable() {
                    effects.push(self.logical(*db), &[b"DEL", key]);
                }
            }
        }
        expired.len() as u64
    }

    /// Handles an item that came due and may be of a sealed key: deletes the key if it has expired, else the item is put
    /// in again.
    fn expire_sealed(&self, hash: u64, now_ms: i64, effects: &mut Effects) -> Result<u64, StoreError> {
        loop {
            let (epoch, slots) = {
                let state = self.shards[self.shard_of(hash)].lock();
                (state.epoch, state.sealed_slots(hash))
            };
            let mut found: Vec<(u8, Vec<u8>, i64)> = Vec::new();
            let mut failed = None;
            self.visit_slots(self.shard_of(hash), &slots, |slot, of, key, row, _| {
                if of != hash {
                    return;
                }
                match self.entry_of_sealed((slot.db, key), &row, now_ms) {
                    Ok(entry) => {
                        let next = entry.next_expiry();
                        found.extend(next.map(|at| (slot.db, key.to_vec(), at)));
                    }
                    Err(error) => failed = Some(error),
                }
            })?;
            failed.map_or(Ok(()), Err)?;
            {
                let mut state = self.shards[self.shard_of(hash)].lock();
                if state.epoch != epoch {
                    // Some key of the shard was sealed, loaded or deleted meanwhile; it may be this one.
                    let expired = self.expire_hash(&mut state, hash, now_ms, effects);
                    self.append_expired(&mut state, effects);
                    drop(state);
                    if expired > 0 {
                        return Ok(expired);
                    }
                    continue;
                }
                for (_, _, at) in found.iter().filter(|(_, _, at)| *at > now_ms) {
                    state.expiries.add_again(*at, hash);
                }
            }
            let mut count = 0;
            for (db, key, _) in found.iter().filter(|(_, _, at)| *at <= now_ms) {
                count += u64::from(self.expire_key(*db, key, now_ms, effects)?);
            }
            return Ok(count);
        }
    }

    /// Removes fields whose expiry has passed from the hash of an entry, at most about `most`. Effect: `HDEL`. A hash
    /// that ends empty loses its key, as it does when the effect is replayed.
    pub(super) fn expire_fields(
        &self,
        state: &mut ShardState,
        (hash, place): (u64, Place),
        (now_ms, most): (i64, usize),
        range: &Range,
        effects: &mut Effects,
    ) {
        let Some(entry) = state.table.at_mut(place) else {
            return;
        };
        let (before, before_next) = (entry.size(), entry.next_expiry());
        let Some(object) = entry.object_mut() else { return };
        let fields = object.expire(now_ms, most);
        let is_empty = object.is_empty();
        let (db, key) = (entry.db(), entry.key().to_vec());
        self.count_bytes(range, before, entry.size());
        let after_next = entry.next_expiry();
        let stale = stale_expiry(entry, before_next, after_next);
        state.stale_expiries.note(hash, stale);
        if fields.is_empty() {
            return;
        }
        let words: Vec<&[u8]> = [b"HDEL", &key[..]]
            .into_iter()
            .chain(fields.iter().map(|field| &field[..]))
            .collect();
        if range.is_durable() {
            effects.push(self.logical(db), &words);
        }
        let news = News::command(&words);
        self.note_aside(state, hash, (db, &key), (Event::HExpired, news), Some(effects));
        if is_empty {
            self.remove_entry(state, hash, db, &key, range);
            let gone = (Event::Del, News::None);
            self.note_aside(state, hash, (db, &key), gone, Some(effects));
        } else {
            settle(self, state, hash, Some(place), range);
        }
    }

    /// Deletes cold keys that are due, found by the store's expiry index; looks at `most` rows at most. Rows are seen to
    /// once: their key is deleted or has another expiry by now, and the next flush removes them. Returns how many keys
    /// were deleted, and whether there is more.
    pub fn expire_cold(
        &self,
        now_ms: i64,
        most: usize,
        effects: &mut Effects,
    ) -> Result<(usize, bool), StoreError> {
        let nothing_cold =
            |range: &std::sync::Arc<Range>| !range.is_durable() || range.counters.cold.load(Relaxed) <= 0;
        if self.ranges.load().iter().all(nothing_cold) {
            return Ok((0, false));
        }
        let (first, end) = rows::expiry_bounds(now_ms);
        let mut position = self.cold_sweep.begin(first);
        if *position >= end {
            return Ok((0, false));
        }
        let mut due = Vec::new();
        may_wait(|| -> Result<(), StoreError> {
            for row in self.store.scan(position.clone(), end.clone(), false).take(most) {
                due.push(row?.0);
            }
            Ok(())
        })?;
        let more = due.len() == most;
        let mut count = 0;
        for row_key in due {
            *position = [&row_key, &[0][..]].concat();
            if let Some((_, db, key)) = rows::split_expiry_key(&row_key) {
                count += usize::from(self.expire_key(db, key, now_ms, effects)?);
            }
        }
        if !more {
            *position = end;
        }
        Ok((count, more))
    }

    /// Deletes a key, wherever it is, if it has expired.
    fn expire_key(&self, db: u8, key: &[u8], now_ms: i64, effects: &mut Effects) -> Result<bool, StoreError> {
        let call = Call {
            db: self.logical(db),
            now_ms,
            keys: &[key],
            received: &[],
            elements: Elements::None,
            replay: None,
        };
        let expired = || self.ranges.load().find(key).counters.expired.load(Relaxed);
        let before = expired();
        let mut tx = self.begin(call, effects)?;
        // Looking at an expired key deletes it, with its effect.
        let gone = !tx.exists(key);
        tx.commit();
        Ok(gone && expired() > before)
    }

    /// The logical number of a physical database.
    pub(super) fn logical(&self, physical: u8) -> u8 {
        let found = self.databases.iter().position(|db| db.load(Relaxed) == physical);
        found.unwrap_or(physical as usize) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_before_its_time_and_everything_after_it() {
        let mut index = ExpiryIndex::default();
        for at in [5_000, 1_000, 3_000, 1_001, i64::MAX] {
            index.add(at, at as u64);
        }
        assert!(index.take_due(999, 10).is_empty());
        let mut due = index.take_due(3_000 + SLOT_MS, 10);
        due.sort_unstable();
        assert_eq!(due, [1_000, 1_001, 3_000]);
        assert_eq!(index.items(), 2);
    }

    #[test]
    fn a_full_slot_is_taken_in_portions() {
        let mut index = ExpiryIndex::default();
        for hash in 0..100 {
            index.add(10, hash);
        }
        let mut taken = 0;
        while index.items() > 0 {
            taken += index.take_due(1_000, 30).len();
        }
        assert_eq!(taken, 100);
    }
}
