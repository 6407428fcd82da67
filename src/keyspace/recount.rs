//! Counting what ranges hold, exactly, while commands go on.
//!
//! ```text
//! moment:  no flush runs, every shard is locked     each shard owes its part of the count; the store is frozen;
//!                                                   what the counters say is noted
//! then:    shards pay, the frozen rows are read     commands go on, and change the counters
//! at last: every shard is locked                    counters += what was counted - what they said at the moment
//! ```
//!
//! A key is cold at the moment if it has a row and is not resident, so of each range: cold = rows - resident entries
//! that have a row. No set of keys has to be kept. Of what is sealed a shard knows itself which rows count. FLUSHDB in
//! between sets counters to zero: then the count begins anew.
//!
//! Until they are right, the ranges' counts of cold keys are made far too high: `Keyspace::begin` looks into the store
//! for every key that is not resident while a range may have cold ones, and must not be told that it has none.

use super::entry::{STORED, STORED_EXPIRES};
use super::flush::Stored;
use super::owed::Owed;
use super::range::{DBS, Range, RangeMap};
use super::ranges::RangeError;
use super::seal::SealedRows;
use super::sealed::Slot;
use super::shard::ShardState;
use super::{Keyspace, StoreError};
use crate::journal::crash_point;
use crate::store::block::Frozen;
use crate::store::rows::{self, Row};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Added to the cold keys of a range whose counts are not right.
const FAR_TOO_MANY: i64 = 1 << 40;

/// Between two tries of a count that failed; each time twice as long, up to the latter.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// How often a thread that rests looks whether the server ends.
const POLL: Duration = Duration::from_millis(50);

/// What a range holds.
#[derive(Default, Clone)]
struct Tally {
    keys: [i64; DBS],
    expires: [i64; DBS],
    rows: [i64; DBS],
    row_expires: [i64; DBS],
    cold: i64,
    bytes: i64,
    sealed_bytes: i64,
}

impl Tally {
    /// What the counters say.
    fn noted(range: &Range, stored: &Stored) -> Tally {
        let counters = &range.counters;
        let read =
            |counts: &[std::sync::atomic::AtomicI64; DBS]| std::array::from_fn(|db| counts[db].load(Relaxed));
        let (rows, row_expires) = stored.counts.get(&range.spec.name).copied().unwrap_or_default();
        Tally {
            keys: read(&counters.keys),
            expires: read(&counters.expires),
            rows,
            row_expires,
            cold: counters.cold.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            sealed_bytes: counters.sealed_bytes.load(Relaxed),
        }
    }

    fn add(&mut self, other: &Tally, sign: i64) {
        for db in 0..DBS {
            self.keys[db] += sign * other.keys[db];
            self.expires[db] += sign * other.expires[db];
            self.rows[db] += sign * other.rows[db];
            self.row_expires[db] += sign * other.row_expires[db];
        }
        self.cold += sign * other.cold;
        self.bytes += sign * other.bytes;
        self.sealed_bytes += sign * other.sealed_bytes;
    }

    /// Adds these numbers to the counters.
    fn apply(&self, range: &Range, stored: &mut Stored) {
        let counters = &range.counters;
        let counts = stored.counts.entry(range.spec.name.clone()).or_default();
        for db in 0..DBS {
            counters.keys[db].fetch_add(self.keys[db], Relaxed);
            counters.expires[db].fetch_add(self.expires[db], Relaxed);
            counts.0[db] += self.rows[db];
            counts.1[db] += self.row_expires[db];
        }
        counters.cold.fetch_add(self.cold, Relaxed);
        counters.bytes.fetch_add(self.bytes, Relaxed);
        counters.sealed_bytes.fetch_add(self.sealed_bytes, Relaxed);
    }
}

/// A count under way: what shards add to.
struct Count {
    /// The ranges at the moment, and the places of those that are counted.
    map: Arc<RangeMap>,
    ranges: Vec<Arc<Range>>,
    sealed: SealedRows,
    tallies: Mutex<Vec<Tally>>,
    failed: Mutex<Option<StoreError>>,
}

impl Count {
    fn place(&self, key: &[u8]) -> Option<usize> {
        let range = self.map.find(key);
        self.ranges.iter().position(|counted| Arc::ptr_eq(counted, range))
    }
}

impl Count {
    fn add_sealed(&self, state: &ShardState, shard: usize, tallies: &mut [Tally]) -> Result<(), StoreError> {
        let Some(sealed) = &state.sealed else {
            return Ok(());
        };
        let live: Vec<Slot> = sealed.directory.iter().filter(|slot| slot.live).collect();
        self.sealed.visit(shard, &live, |slot, _, key, row, bytes| {
            if let Some(place) = self.place(key) {
                let (tally, db) = (&mut tallies[place], slot.db as usize);
                tally.keys[db] += 1;
                tally.expires[db] += i64::from(row.expiry.is_some());
                tally.cold += 1;
                tally.sealed_bytes += i64::from(bytes);
            }
        })
    }
}

impl Owed for Count {
    /// Resident entries; those with a row are taken from the cold ones, which all rows are added to later.
    fn pay(&self, state: &mut ShardState, shard: usize) {
        let mut tallies = vec![Tally::default(); self.ranges.len()];
        for entry in state.iter() {
            let Some(place) = self.place(entry.key()) else {
                continue;
            };
            let (tally, db) = (&mut tallies[place], entry.db() as usize);
            let (stored, stored_expires) = (entry.store_has(STORED), entry.store_has(STORED_EXPIRES));
            tally.keys[db] += i64::from(!entry.is_absent()) - i64::from(stored);
            tally.expires[db] += i64::from(entry.expiry().is_some()) - i64::from(stored_expires);
            tally.cold -= i64::from(stored);
            tally.bytes += entry.size() as i64;
        }
        if let Err(error) = self.add_sealed(state, shard, &mut tallies) {
            self.failed.lock().get_or_insert(error);
        }
        let mut sums = self.tallies.lock();
        for (sum, tally) in sums.iter_mut().zip(&tallies) {
            sum.add(tally, 1);
        }
    }
}

/// What holds at the moment of a count.
struct Moment<'k> {
    count: Arc<Count>,
    noted: Vec<Tally>,
    frozen: Frozen<'k>,
    wiped_at: [u64; DBS],
    db_flushes: u64,
}

impl Keyspace {
    /// The counts of these ranges will not be right until `recount` has been there; called with every shard locked.
    /// A crash before makes the next start count all rows.
    pub(super) fn distrust(&self, ranges: &[Arc<Range>], stored: &mut Stored) {
        stored.recount = true;
        for range in ranges {
            range.counters.cold.fetch_add(FAR_TOO_MANY, Relaxed);
        }
    }

    /// Counts ranges whose count has failed, again and again until it does not, in the background.
    pub(super) fn recount_later(self: &Arc<Keyspace>, names: Vec<String>, error: &StoreError) {
        log::error!(
            "ranges {} cannot be counted, to be tried again: {error}",
            names.join(", ")
        );
        *self.uncounted.lock() = names.clone();
        let is_spawned = self.spawn("recount", move |keyspace| {
            let mut wait = RETRY;
            while keyspace.rests(wait) {
                let _change = keyspace.change.lock();
                match keyspace.recount(&names) {
                    Ok(()) => {
                        log::info!("ranges {} are counted", names.join(", "));
                        keyspace.uncounted.lock().clear();
                        // Should this fail, the next flush that does not says it.
                        let _ = keyspace.write_ranges();
                        return;
                    }
                    Err(error) => log::error!("ranges {} cannot be counted: {error}", names.join(", ")),
                }
                wait = (wait * 2).min(RETRY_MOST);
            }
        });
        if !is_spawned {
            // The next start counts them: the mark row says that it must.
            self.uncounted.lock().clear();
        }
    }

    /// Rests for so long; false when the server ends meanwhile.
    fn rests(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.moves.is_stopping() {
            std::thread::sleep(POLL);
        }
        !self.moves.is_stopping()
    }

    /// An error while a count that has failed is to be made again.
    pub(super) fn check_counted(&self) -> Result<(), RangeError> {
        match self.uncounted.lock().first() {
            Some(range) => Err(RangeError::Counting(range.clone())),
            None => Ok(()),
        }
    }

    /// Counts ranges and puts their counters right.
    pub(super) fn recount(&self, names: &[String]) -> Result<(), StoreError> {
        loop {
            // Wipes that are due are done first: until then the rows in the store are more than what they are counted
            // as.
            self.flush_now()?;
            let Some(moment) = self.begin_count(names)? else {
                continue;
            };
            self.pay_all();
            if let Some(error) = moment.count.failed.lock().take() {
                return Err(error);
            }
            crash_point("recount-after-moment");
            self.count_rows(&moment)?;
            crash_point("recount-before-settling");
            let mut stored = self.stored_now()?;
            let _guards = self.lock_all();
            if self.db_flushes.load(Relaxed) != moment.db_flushes {
                continue;
            }
            let counted = std::mem::take(&mut *moment.count.tallies.lock());
            let pairs = counted.into_iter().zip(&moment.noted);
            for (range, (mut correction, noted)) in moment.count.ranges.iter().zip(pairs) {
                correction.add(noted, -1);
                correction.apply(range, &mut stored);
            }
            stored.recount = false;
            return Ok(());
        }
    }

    /// The moment of a count; none when databases are to be wiped from the store first.
    fn begin_count(&self, names: &[String]) -> Result<Option<Moment<'_>>, StoreError> {
        let stored = self.stored_now()?;
        let _no_sealing = self.sealing.hold();
        let mut guards = self.lock_all();
        if self.flush.has_wipes() {
            return Ok(None);
        }
        let map = self.ranges.load_full();
        let ranges: Vec<Arc<Range>> = names
            .iter()
            .filter_map(|name| map.by_name(name).cloned())
            .collect();
        let noted = ranges.iter().map(|range| Tally::noted(range, &stored)).collect();
        let count = Arc::new(Count {
            tallies: Mutex::new(vec![Tally::default(); ranges.len()]),
            sealed: self.sealed_rows(),
            failed: Mutex::default(),
            map,
            ranges,
        });
        Keyspace::owe(&mut guards, &count);
        Ok(Some(Moment {
            count,
            noted,
            frozen: self.store.freeze(),
            wiped_at: std::array::from_fn(|db| self.wiped_at[db].load(Relaxed)),
            db_flushes: self.db_flushes.load(Relaxed),
        }))
    }

    /// Adds the rows of the frozen store. Each stands for a key that is cold, unless it is resident, which the shards
    /// have taken off already.
    fn count_rows(&self, moment: &Moment<'_>) -> Result<(), StoreError> {
        fail::fail_point!("recount-rows", |_| Err(StoreError::new("injected failure")));
        let count = &moment.count;
        let mut tallies = vec![Tally::default(); count.ranges.len()];
        for (place, range) in count.ranges.iter().enumerate() {
            if !range.is_durable() {
                continue;
            }
            for (start, end) in count.map.intervals(&range.spec.name) {
                for db in 0..DBS {
                    let (from, to) = rows::interval(db as u8, &start, end.as_deref());
                    for row in moment.frozen.scan(from, to) {
                        if self.moves.is_stopping() {
                            return Err(StoreError::new("the server is shutting down"));
                        }
                        let (_, value) = row?;
                        let row = Row::decode(&value).map_err(StoreError::new)?;
                        if row.offset <= moment.wiped_at[db] {
                            continue;
                        }
                        let (tally, expires) = (&mut tallies[place], i64::from(row.expiry.is_some()));
                        tally.keys[db] += 1;
                        tally.expires[db] += expires;
                        tally.rows[db] += 1;
                        tally.row_expires[db] += expires;
                        tally.cold += 1;
                    }
                }
            }
        }
        let mut sums = count.tallies.lock();
        for (sum, tally) in sums.iter_mut().zip(&tallies) {
            sum.add(tally, 1);
        }
        Ok(())
    }

    /// Everything that one range holds is another's from now on: its counters too. Called with every shard locked.
    pub(super) fn hand_over(from: &Range, to: &Range, stored: &mut Stored) {
        let tally = Tally::noted(from, stored);
        tally.apply(to, stored);
        stored.counts.remove(&from.spec.name);
        let (from, to) = (&from.counters, &to.counters);
        for (from, to) in [
            (&from.hits, &to.hits),
            (&from.misses, &to.misses),
            (&from.expired, &to.expired),
            (&from.evicted, &to.evicted),
            (&from.dropped, &to.dropped),
            (&from.loaded, &to.loaded),
            (&from.sealed, &to.sealed),
            (&from.flushes, &to.flushes),
            (&from.flushed_bytes, &to.flushed_bytes),
        ] {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
    }
}
