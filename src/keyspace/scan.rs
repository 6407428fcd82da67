//! Iteration over keys: `SCAN`, `KEYS`, `RANDOMKEY`, `RANGE SCAN`.
//!
//! A scan has two parts. First the shards, in order: of each the resident entries that have *no row* in the block
//! store, and the keys that are sealed, in the order of some bits of their hashes. Then the block store's rows in key
//! order, passing over those whose resident entry is a tombstone or has expired. A key that exists throughout stands in
//! one of the two at every moment, and moves only from the first to the second (a flush), never back; so it is
//! returned. One that moves meanwhile, or that a flush is just writing anew, may be returned twice. A key of a memory
//! range is sealed and loaded within its shard, of which a scan sees one moment (`Keyspace::lock_with_sealed`).
//!
//! ```text
//! cursor, first part:   0 | 14 bits: restarts | shard:16 bits at 32 | 32 bits of a hash (`order_of`): go on at or above them
//! cursor, second part:  bit 62 | number of a position in a bounded table: go on at or above that key
//! ```
//!
//! When a range moves to memory its keys go from the second part to the first, at one moment: scans that are under way
//! then begin anew, wherever they are, and may return keys twice.
//!
//! No state is kept for the first part, so it is exact while tables grow and shrink. Positions of the second part are
//! kept for the newest cursors; one that has been forgotten starts the second part again.

use super::Keyspace;
use super::entry::{Entry, STORED};
use super::range::Range;
use super::seal::{SealedKey, SealedPart};
use super::sealed::{FRAGMENT_BITS, fragment};
use crate::object::codec;
use crate::store::StoreError;
use crate::store::rows::{self, Row};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

const IN_STORE: u64 = 1 << 62;
/// Where a cursor of the first part says how many restarts there had been, and the bits that it has for that.
const RESTARTS_AT: u32 = 48;
const RESTARTS_MASK: u64 = 0x3fff << RESTARTS_AT;
/// Bits of an order behind the fragment.
const BEHIND: u32 = 32 - FRAGMENT_BITS;

/// What the keys of a shard are scanned by: the fragment that sealed keys are found by, then other bits of the hash.
fn order_of(hash: u64) -> u32 {
    fragment(hash) << BEHIND | hash as u32 & ((1 << BEHIND) - 1)
}

const POSITIONS_MOST: usize = 4096;

/// Where scans of the store go on, by cursor number.
#[derive(Default)]
pub struct Positions {
    table: Mutex<(u64, BTreeMap<u64, Vec<u8>>)>,
    /// Cursors up to this number are of before the newest moment at which keys went to the first part.
    outdated: AtomicU64,
    /// How many such moments there were.
    restarts: AtomicU64,
}

/// A cursor of the second part that begins anew whenever it is used.
const ANEW: u64 = IN_STORE;

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

    /// Keys go from the second part to the first, now: every shard is locked.
    pub(super) fn begin_anew(&self) {
        self.outdated.store(self.table.lock().0, SeqCst);
        self.restarts.fetch_add(1, SeqCst);
    }

    fn restarts(&self) -> u64 {
        self.restarts.load(SeqCst)
    }

    fn is_outdated(&self, cursor: u64) -> bool {
        cursor & IN_STORE != 0 && cursor & !IN_STORE <= self.outdated.load(SeqCst)
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
    /// Unix milliseconds.
    pub expiry: Option<i64>,
    /// The bytes of a string; none of another type.
    pub value: Option<&'a [u8]>,
}

impl<'a> Found<'a> {
    fn sealed(key: &'a SealedKey) -> Result<Found<'a>, StoreError> {
        Ok(Found {
            key: &key.key,
            kind: key.kind()?,
            expiry: key.expiry,
            value: key.value(),
        })
    }

    fn resident(entry: &'a Entry) -> Found<'a> {
        Found {
            key: entry.key(),
            kind: entry.type_name(),
            expiry: entry.expiry(),
            value: entry.object().is_none().then(|| entry.value()),
        }
    }
}

/// What `range_scan` is asked for: keys of [start, end).
pub struct Wanted<'a> {
    pub start: &'a [u8],
    /// The first key behind it; without one, all that follow are in it.
    pub end: Option<&'a [u8]>,
    /// So many keys from the beginning, or from the end when `reverse`.
    pub most: usize,
    pub reverse: bool,
    /// Values too, not only keys.
    pub values: bool,
}

/// Keys, with the values of strings where values are wanted.
pub type Pairs = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The first `most` keys of those offered, in the order wanted, with their values.
struct Best<'a> {
    wanted: &'a Wanted<'a>,
    found: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Best<'_> {
    fn is_inside(&self, key: &[u8]) -> bool {
        key >= self.wanted.start && self.wanted.end.is_none_or(|end| key < end)
    }

    /// False when `most` keys are there already that all come before this one.
    fn admits(&self, key: &[u8]) -> bool {
        if self.found.len() < self.wanted.most {
            return true;
        }
        match self.last() {
            Some(last) if self.wanted.reverse => key > last,
            Some(last) => key < last,
            None => false,
        }
    }

    fn last(&self) -> Option<&[u8]> {
        let last = if self.wanted.reverse {
            self.found.first_key_value()
        } else {
            self.found.last_key_value()
        };
        last.map(|(key, _)| key.as_slice())
    }

    fn offer(&mut self, found: &Found<'_>) {
        if !self.admits(found.key) {
            return;
        }
        let value = found.value.filter(|_| self.wanted.values);
        self.found.insert(found.key.to_vec(), value.map(<[u8]>::to_vec));
        if self.found.len() > self.wanted.most {
            if self.wanted.reverse {
                self.found.pop_first();
            } else {
                self.found.pop_last();
            }
        }
    }

    fn into_pairs(self) -> Pairs {
        let found = self.found.into_iter();
        if self.wanted.reverse {
            found.rev().collect()
        } else {
            found.collect()
        }
    }
}

impl Keyspace {
    /// One step of a scan of a logical database from `cursor` (0 starts): visits about `count` keys, or more where one
    /// place holds more. Returns the cursor to go on with; 0 ends. `visit` runs while a shard is locked.
    pub fn scan(
        &self,
        db: u8,
        cursor: u64,
        count: usize,
        now_ms: i64,
        mut visit: impl FnMut(Found<'_>),
    ) -> Result<u64, StoreError> {
        let physical = self.physical(db);
        let restarts = self.positions.restarts();
        let mark = restarts << RESTARTS_AT & RESTARTS_MASK;
        let mut cursor = match cursor & IN_STORE {
            0 if cursor & RESTARTS_MASK == mark => cursor & !RESTARTS_MASK,
            // Of another moment: what was passed over then, because it had a row, may stand in the first part now.
            0 => 0,
            _ if self.positions.is_outdated(cursor) => 0,
            _ => cursor,
        };
        let mut left = count.max(1);
        while cursor & IN_STORE == 0 {
            let shard = (cursor >> 32) as usize;
            if shard >= self.shards.len() {
                if !self.any_durable() {
                    return Ok(0);
                }
                cursor = IN_STORE;
                break;
            }
            let (seen, next) = self.scan_shard(shard, cursor as u32, physical, left, now_ms, &mut visit)?;
            cursor = next.map_or((shard as u64 + 1) << 32, |order| {
                (shard as u64) << 32 | u64::from(order)
            });
            left = left.saturating_sub(seen);
            if left == 0 {
                let done = cursor >> 32 >= self.shards.len() as u64 && !self.any_durable();
                return Ok(if done { 0 } else { cursor | mark });
            }
        }
        let from = self.positions.recall(cursor);
        let next = self.scan_store(physical, from, left, now_ms, visit)?;
        let next = next.map_or(0, |position| self.positions.remember(position));
        // Asked after the rows were read, and after the number was given.
        Ok(if self.positions.restarts() == restarts {
            next
        } else {
            ANEW
        })
    }

    fn any_durable(&self) -> bool {
        self.ranges.load().iter().any(|range| range.is_durable())
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
    ) -> Result<(usize, Option<u32>), StoreError> {
        let (state, sealed) = self.lock_with_sealed(shard, db, (order >> BEHIND, most))?;
        // Behind what was read there may be more that is sealed: that is for the next step.
        let end = sealed.next.map_or(u64::MAX, |next| u64::from(next) << BEHIND);
        let wanted = |entry: &&Entry| {
            entry.db() == db && !entry.is_absent() && !self.flush.has_row(entry) && !entry.is_expired(now_ms)
        };
        let resident = state
            .iter()
            .filter(wanted)
            .map(|entry| Ok((order_of(self.hasher.of(entry)), Found::resident(entry))));
        let live = |key: &&SealedKey| key.expiry.is_none_or(|at| at > now_ms);
        let cold = sealed.keys.iter().filter(live);
        let cold = cold.map(|key| Ok((order_of(key.hash), Found::sealed(key)?)));
        let mut found: Vec<(u32, Found<'_>)> = resident.chain(cold).collect::<Result<_, StoreError>>()?;
        found.retain(|(at, _)| *at >= order && u64::from(*at) < end);
        found.sort_unstable_by_key(|(at, _)| *at);
        // All entries of one order go together, so that the cursor can stand behind them.
        let mut taken = most.min(found.len());
        while taken > 0 && taken < found.len() && found[taken].0 == found[taken - 1].0 {
            taken += 1;
        }
        let next = found.get(taken).map(|(at, _)| *at);
        let next = next.or(sealed.next.map(|next| next << BEHIND));
        found.drain(..taken).for_each(|(_, found)| visit(found));
        Ok((taken, next))
    }

    /// Visits the keys of up to `most` rows from `from` on; the row key to go on from, if any are left.
    fn scan_store(
        &self,
        db: u8,
        from: Vec<u8>,
        most: usize,
        now_ms: i64,
        mut visit: impl FnMut(Found<'_>),
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (first, end) = rows::db_bounds(db);
        let from = if from.is_empty() { first } else { from };
        let opened = self.flush.ingests();
        for (seen, row) in self.store.scan(from, end, false).enumerate() {
            let (row_key, value) = row?;
            if seen == most {
                return Ok(Some(row_key.into_vec()));
            }
            self.visit_stored(&row_key, &value, (now_ms, opened), &mut visit)?;
        }
        Ok(None)
    }

    /// Visits the key of a row, if the key exists: what is resident is newer than the row. `opened` is what
    /// `FlushState::ingests` said before the rows were read: if a file has come in since, the row may be of a key that
    /// is deleted, and whose tombstone went with that file, so it is read again.
    fn visit_stored(
        &self,
        row_key: &[u8],
        value: &[u8],
        (now_ms, opened): (i64, u64),
        visit: impl FnOnce(Found<'_>),
    ) -> Result<(), StoreError> {
        let Some((db, key)) = rows::split_object_key(row_key) else {
            return Ok(());
        };
        let hash = self.hasher.hash(db, key);
        let (mut value, mut seen) = (Cow::Borrowed(value), opened);
        loop {
            let state = self.shards[self.shard_of(hash)].lock();
            match state.find(hash, db, key) {
                Some(entry) if entry.is_absent() || entry.is_expired(now_ms) => {}
                // The row is of an earlier life of the key, and still to be removed: the first part has this entry.
                Some(entry) if !entry.store_has(STORED) => {}
                Some(entry) => visit(Found::resident(entry)),
                None if self.flush.ingests() != seen => {
                    seen = self.flush.ingests();
                    drop(state);
                    match self.store.read(&rows::object_key(db, key))? {
                        Some(row) => value = Cow::Owned(row.to_vec()),
                        None => return Ok(()),
                    }
                    continue;
                }
                None => return self.visit_cold((db, key), &value, now_ms, visit),
            }
            return Ok(());
        }
    }

    /// Visits a key that is not resident, if its row counts.
    fn visit_cold(
        &self,
        (db, key): (u8, &[u8]),
        value: &[u8],
        now_ms: i64,
        visit: impl FnOnce(Found<'_>),
    ) -> Result<(), StoreError> {
        let row = Row::decode(value).map_err(StoreError::new)?;
        if !self.row_stands(db, key, row.offset) || row.expiry.is_some_and(|at| at <= now_ms) {
            return Ok(());
        }
        let kind = row.type_name().map_err(StoreError::new)?;
        // What is no string need not be unpacked for its name.
        let object = match kind {
            "string" => row.object().map_err(StoreError::new)?,
            _ => Cow::default(),
        };
        visit(Found {
            key,
            kind,
            expiry: row.expiry,
            value: codec::decode_string(&object).ok(),
        });
        Ok(())
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
        let sealed: i64 = map
            .iter()
            .filter(|range| !range.is_durable())
            .map(|range| range.counters.cold.load(Relaxed))
            .sum();
        let chosen = fastrand::i64(..keys);
        if chosen < sealed
            && let Some(key) = self.random_sealed(physical, now_ms)?
        {
            return Ok(Some(key));
        }
        if chosen >= cold || cold == sealed {
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
        let mut cursor = 0;
        while found.is_none() {
            cursor = self.scan(db, cursor, 1 << 10, now_ms, |key| found = Some(key.key.to_vec()))?;
            if cursor == 0 {
                break;
            }
        }
        Ok(found)
    }

    /// Keys of a logical database, ordered, with their values if wanted. Entries without a row and sealed keys are
    /// collected first, then merged with the store's rows. Sealed keys stand in no order, so all of them are looked at;
    /// each key exists at some moment of the call, and one that exists throughout is there.
    pub fn range_scan(&self, db: u8, wanted: &Wanted<'_>, now_ms: i64) -> Result<Pairs, StoreError> {
        loop {
            let restarts = self.positions.restarts();
            let found = self.range_scan_once(db, wanted, now_ms)?;
            if self.positions.restarts() == restarts {
                return Ok(found);
            }
        }
    }

    fn range_scan_once(&self, db: u8, wanted: &Wanted<'_>, now_ms: i64) -> Result<Pairs, StoreError> {
        let physical = self.physical(db);
        let mut best = Best {
            wanted,
            found: BTreeMap::new(),
        };
        if wanted.end.is_some_and(|end| wanted.start >= end) {
            return Ok(Vec::new());
        }
        let any_sealed = self.any_sealed();
        for shard in 0..self.shards.len() {
            let (state, sealed) = match any_sealed {
                true => self.lock_with_sealed(shard, physical, (0, usize::MAX))?,
                false => (self.shards[shard].lock(), SealedPart::default()),
            };
            let live = |key: &&SealedKey| key.expiry.is_none_or(|at| at > now_ms);
            for key in sealed.keys.iter().filter(live) {
                if best.is_inside(&key.key) {
                    best.offer(&Found::sealed(key)?);
                }
            }
            for entry in state.iter() {
                let takes = entry.db() == physical
                    && !entry.is_absent()
                    && best.is_inside(entry.key())
                    && !self.flush.has_row(entry)
                    && !entry.is_expired(now_ms);
                if takes {
                    best.offer(&Found::resident(entry));
                }
            }
        }
        let (from, to) = rows::interval(physical, wanted.start, wanted.end);
        let opened = self.flush.ingests();
        for row in self.store.scan(from, to, wanted.reverse) {
            let (row_key, value) = row?;
            // Rows come in the order wanted: behind one that is too late, all are.
            if rows::split_object_key(&row_key).is_some_and(|(_, key)| !best.admits(key)) {
                break;
            }
            self.visit_stored(&row_key, &value, (now_ms, opened), |found| best.offer(&found))?;
        }
        Ok(best.into_pairs())
    }

    /// The range of a key.
    pub fn range_of(&self, key: &[u8]) -> Arc<Range> {
        self.ranges.load().find(key).clone()
    }
}
