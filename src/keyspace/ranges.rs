//! Creating, altering and dropping ranges while the server runs.
//!
//! A new map is put in place while every shard is locked, with the flush thread held off; the keys of the intervals
//! that change hands are counted over to their new range under the same locks. Then a flush writes the ranges into the
//! store's mark row, so that they are there after a restart, before the command replies. While the disk refuses, nothing
//! is changed; where it begins to on the way, the reply says so, and the rest is done when it takes writes again.
//!
//! A key never changes its tier: a change that would make one do so is refused.

use super::entry::{Entry, STORED, STORED_EXPIRES};
use super::flush::Stored;
use super::range::{DBS, Inherited, Range, RangeMap};
use super::scan::Wanted;
use super::shard::ShardGuard;
use super::{Keyspace, StoreError};
use crate::config::{DEFAULT_RANGE, RangeSpec};
use crate::store::rows::{self, Row};
use parking_lot::ReentrantMutexGuard;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of a key in an error.
const KEY_SHOWN: usize = 64;

/// Why a range cannot be changed as asked.
#[derive(Debug)]
pub enum RangeError {
    Exists(String),
    Unknown(String),
    Overlaps(String),
    /// A key is in the way: it would change from one tier to another.
    HoldsKeys(String, Vec<u8>),
    /// A range that is to be dropped still has keys, and nothing was said about them.
    NotEmpty(String, u64),
    IsDefault,
    /// This range is being moved.
    Moving(String),
    /// The keys of this range are being counted.
    Counting(String),
    /// So many cold keys of it do not fit in memory.
    NoRoom(String, u64),
    Invalid(String),
    /// The system has no thread for what goes on in the background.
    NoThread,
    /// The disk refuses: nothing was changed.
    Refused(Arc<str>),
    /// What was asked for is in force, and the rest of it goes on in the background.
    Unfinished(StoreError),
    Store(StoreError),
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeError::Exists(name) => write!(f, "ERR Range '{name}' exists already"),
            RangeError::Unknown(name) => write!(f, "ERR No such range '{name}'"),
            RangeError::Overlaps(why) => write!(f, "ERR {why}"),
            RangeError::HoldsKeys(name, key) => write!(
                f,
                "ERR Keys of range '{name}' would change their tier, '{}' for one: delete them first",
                key[..key.len().min(KEY_SHOWN)].escape_ascii()
            ),
            RangeError::NotEmpty(name, keys) => write!(
                f,
                "ERR Range '{name}' holds {keys} keys: say DISCARD to delete them, or KEEP to leave them to the range around it"
            ),
            RangeError::IsDefault => write!(f, "ERR The default range can't be created or dropped"),
            RangeError::Moving(name) => {
                write!(
                    f,
                    "ERR Range '{name}' is being moved to another tier: try again later"
                )
            }
            RangeError::Counting(name) => {
                write!(
                    f,
                    "ERR The keys of range '{name}' are being counted: try again later"
                )
            }
            RangeError::NoRoom(name, keys) => write!(
                f,
                "ERR {keys} keys of range '{name}' are on disk alone and do not fit in maxmemory: raise it, or delete some"
            ),
            RangeError::Invalid(why) => write!(f, "ERR {why}"),
            RangeError::NoThread => write!(f, "ERR The system has no thread for it: try again later"),
            RangeError::Refused(why) => write!(f, "MISCONF Ranges can't be changed now ({why})"),
            RangeError::Unfinished(error) => write!(
                f,
                "MISCONF The change is in force but not finished ({error}): that is tried again until it succeeds"
            ),
            RangeError::Store(error) => write!(f, "ERR {error}"),
        }
    }
}

impl RangeError {
    /// Of a step before which nothing is changed.
    pub(super) fn refused(error: StoreError) -> RangeError {
        RangeError::Refused(error.to_string().into())
    }
}

impl From<StoreError> for RangeError {
    fn from(error: StoreError) -> RangeError {
        RangeError::Store(error)
    }
}

/// What becomes of the keys of a range that is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leftover {
    /// There must be none.
    Refuse,
    /// They are gone, all at once.
    Discard,
    /// They belong to the range around, which must be of the same tier.
    Keep,
}

impl Keyspace {
    pub(super) fn specs(&self) -> Vec<RangeSpec> {
        self.ranges
            .load()
            .iter()
            .map(|range| range.spec.clone())
            .collect()
    }

    /// Adds a range. Keys that it takes over keep their tier, or there must be none.
    pub fn create_range(self: &Arc<Keyspace>, spec: RangeSpec) -> Result<(), RangeError> {
        let _change = self.begin_reshape()?;
        let mut specs = self.specs();
        if spec.name == DEFAULT_RANGE {
            return Err(RangeError::IsDefault);
        }
        if specs.iter().any(|other| other.name == spec.name) {
            return Err(RangeError::Exists(spec.name));
        }
        if let Some(why) = specs.iter().find_map(|other| spec.conflict_with(other)) {
            return Err(RangeError::Overlaps(why));
        }
        let (start, _) = spec.bounds.span();
        let around = self.ranges.load().find(&start).clone();
        specs.push(spec.clone());
        if around.spec.tier == spec.tier && around.spec.bounds.encloses(&spec.bounds) {
            return self.reshape(&specs, vec![around.spec.name.clone(), spec.name]);
        }
        self.change_to(&specs, None)
    }

    /// Changes options of a range: pairs of name and value.
    pub fn alter_range(&self, name: &str, options: &[(&[u8], &[u8])]) -> Result<(), RangeError> {
        let _change = self.change.lock();
        self.check_disk()?;
        let mut specs = self.specs();
        let spec = specs
            .iter_mut()
            .find(|spec| spec.name == name)
            .ok_or_else(|| RangeError::Unknown(name.into()))?;
        for (option, value) in options {
            spec.options.set(option, value).map_err(RangeError::Invalid)?;
        }
        self.change_to(&specs, None)
    }

    /// Removes a range.
    pub fn drop_range(self: &Arc<Keyspace>, name: &str, leftover: Leftover) -> Result<(), RangeError> {
        let _change = self.begin_reshape()?;
        if name == DEFAULT_RANGE {
            return Err(RangeError::IsDefault);
        }
        let mut specs = self.specs();
        let before = specs.len();
        specs.retain(|spec| spec.name != name);
        if specs.len() == before {
            return Err(RangeError::Unknown(name.into()));
        }
        if leftover == Leftover::Discard {
            let old = self.ranges.load_full();
            let at = self.discard_range(RangeMap::new(&specs, old.inherited, Some(&old)), name);
            // The journal says so when this returns; the store follows.
            let synced = self
                .journal()
                .is_none_or(|journal| journal.wait_synced_blocking(at, || true));
            return match synced {
                true => Ok(()),
                false => Err(RangeError::Unfinished(StoreError::new(
                    "the journal cannot be synced",
                ))),
            };
        }
        if let Some(around) = self.range_around(name, &specs) {
            return self.install_merged(&specs, name, &around, leftover == Leftover::Refuse);
        }
        self.change_to(&specs, (leftover == Leftover::Refuse).then_some(name))
    }

    /// The name of the range that takes over what a range holds when only those of `specs` are left; none if it is of
    /// another tier.
    fn range_around(&self, name: &str, specs: &[RangeSpec]) -> Option<String> {
        let old = self.ranges.load();
        let range = old.by_name(name)?;
        let map = RangeMap::new(specs, old.inherited, Some(&old));
        let intervals = old.intervals(name);
        let mut around = intervals.iter().map(|(start, _)| &map.find(start).spec);
        let first = around.next()?;
        (first.tier == range.spec.tier && around.all(|spec| spec.name == first.name))
            .then(|| first.name.clone())
    }

    /// About how many bytes of the store's files hold rows of a range.
    pub fn disk_bytes_of(&self, range: &Range) -> u64 {
        if !range.is_durable() {
            return 0;
        }
        let map = self.ranges.load();
        let held = (0..DBS as u8).filter(|db| range.counters.keys[*db as usize].load(Relaxed) > 0);
        let intervals = map.intervals(&range.spec.name);
        let rows: Vec<_> = held
            .flat_map(|db| {
                intervals.iter().flat_map(move |(start, end)| {
                    [rows::interval, rows::element_interval].map(|rows| rows(db, start, end.as_deref()))
                })
            })
            .collect();
        self.store.approximate_bytes(&rows)
    }

    /// Bytes that the store has written since the start, over the bytes of the rows that it was given.
    pub fn write_amplification(&self) -> f64 {
        match self.flush.bytes_flushed.load(Relaxed) {
            0 => 0.0,
            given => self.store.bytes_written() as f64 / given as f64,
        }
    }

    /// The right to change bounds and tiers of ranges.
    pub(super) fn begin_reshape(&self) -> Result<ReentrantMutexGuard<'_, ()>, RangeError> {
        // A count that is tried again may take long, and holds it off meanwhile.
        self.check_counted()?;
        let change = self.change.lock();
        self.check_idle()?;
        self.check_disk()?;
        Ok(change)
    }

    fn check_disk(&self) -> Result<(), RangeError> {
        self.failure().map_or(Ok(()), |why| Err(RangeError::Refused(why)))
    }

    /// Makes durable what ranges there are.
    pub(super) fn write_ranges(&self) -> Result<(), RangeError> {
        self.flush.force();
        self.flush_now().map_err(RangeError::Unfinished)
    }

    /// Nobody else changes the set of ranges until what this returns is dropped.
    pub fn begin_change(&self) -> ReentrantMutexGuard<'_, ()> {
        self.change.lock()
    }

    /// Changes what ranges inherit from the server's configuration.
    pub fn inherit(&self, mut inherited: Inherited) {
        inherited.objects.hash_seed = self.hash_seed;
        let _change = self.change.lock();
        if self.ranges.load().inherited == inherited {
            return;
        }
        let map = RangeMap::new(&self.specs(), inherited, Some(&self.ranges.load()));
        let guards = self.lock_all();
        self.install(map, &guards);
    }

    /// Puts a map in force, as who holds every shard.
    pub(super) fn install(&self, map: RangeMap, held: &[ShardGuard<'_>]) {
        self.note_policies(&map);
        if let Some(journal) = self.journal() {
            journal.set_sync_every_second(map.wants_sync_every_second());
        }
        self.ranges.replace(map, held, self.shards.len());
    }

    /// Puts a new set of ranges in place, with its counts, and makes it durable. The range named by `empty` must hold
    /// no keys.
    fn change_to(&self, specs: &[RangeSpec], empty: Option<&str>) -> Result<(), RangeError> {
        let (inherited, same_bounds) = {
            let old = self.ranges.load();
            let same = old.iter().count() == specs.len()
                && specs.iter().all(|spec| {
                    old.by_name(&spec.name)
                        .is_some_and(|range| range.spec.bounds == spec.bounds)
                });
            (old.inherited, same)
        };
        let map = RangeMap::new(specs, inherited, Some(&self.ranges.load()));
        if same_bounds {
            let guards = self.lock_all();
            self.install(map, &guards);
        } else {
            if empty.is_none() {
                self.look_for_stuck(&map)?;
            }
            self.install_counted(map, empty)?;
        }
        self.write_ranges()
    }

    /// Refuses a map in which a key would change its tier, with no shard held: most of what is refused is so here.
    fn look_for_stuck(&self, map: &RangeMap) -> Result<(), RangeError> {
        let old = self.ranges.load();
        for (start, end) in changed_intervals(&old, map) {
            let (from, to) = (old.find(&start), map.find(&start));
            if from.spec.tier == to.spec.tier {
                continue;
            }
            let wanted = Wanted {
                start: &start,
                end: end.as_deref(),
                most: 1,
                reverse: false,
                values: false,
            };
            let held = (0..DBS as u8).filter(|db| from.counters.keys[*db as usize].load(Relaxed) > 0);
            for db in held {
                // As none has expired: what is in memory is in the way until it is removed.
                let found = self.range_scan(self.logical(db), &wanted, i64::MIN)?;
                if let Some((key, _)) = found.into_iter().next() {
                    return Err(RangeError::HoldsKeys(from.spec.name.clone(), key));
                }
            }
        }
        Ok(())
    }

    /// Installs a map in which ranges have come or gone: every key's counts move to its new range. Of the store, only
    /// the rows of those ranges are read.
    fn install_counted(&self, map: RangeMap, empty: Option<&str>) -> Result<(), RangeError> {
        // What is in the store is first made equal to what is resident, so that few changes are left to count.
        self.flush_now().map_err(RangeError::refused)?;
        let mut stored = self.stored_now().map_err(RangeError::refused)?;
        let _no_sealing = self.sealing.hold();
        let guards = self.lock_all();
        let old = self.ranges.load();
        if let Some(range) = empty.and_then(|name| old.by_name(name)) {
            let keys = range.counters.total_keys();
            if keys > 0 {
                return Err(RangeError::NotEmpty(range.spec.name.clone(), keys as u64));
            }
        }
        let mut moves = Moves::default();
        for entry in guards.iter().flat_map(|state| state.iter()) {
            moves.add_resident(old.find(entry.key()), map.find(entry.key()), entry);
        }
        moves.check_tiers()?;
        for (start, end) in changed_intervals(&old, &map) {
            for db in 0..DBS as u8 {
                let (from, to) = rows::interval(db, &start, end.as_deref());
                for row in self.store.scan(from, to, false) {
                    let (row_key, value) = row?;
                    let Some((_, key)) = rows::split_object_key(&row_key) else {
                        continue;
                    };
                    let row = Row::decode(&value).map_err(StoreError::new)?;
                    let hash = self.hasher.hash(db, key);
                    let cold = guards[self.shard_of(hash)].find(hash, db, key).is_none();
                    if cold && self.row_stands(db, key, row.offset) {
                        moves.add_cold((old.find(key), map.find(key)), db, key, &row);
                        moves.check_tiers()?;
                    }
                }
            }
        }
        self.for_each_sealed(&guards, |db, key, expires, bytes| {
            moves.add_sealed((old.find(key), map.find(key)), key, (db, expires, bytes));
        })?;
        moves.check_tiers()?;
        moves.apply(&mut stored);
        self.mix_generations(&moves.sources());
        self.install(map, &guards);
        Ok(())
    }
}

/// The intervals whose keys change hands between two maps that differ by ranges which came or went.
fn changed_intervals(old: &RangeMap, new: &RangeMap) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let only_in = |map: &RangeMap, other: &RangeMap| -> Vec<_> {
        map.iter()
            .filter(|range| other.by_name(&range.spec.name).is_none())
            .flat_map(|range| map.intervals(&range.spec.name))
            .collect()
    };
    [only_in(old, new), only_in(new, old)].concat()
}

/// What goes from one range to another in one database.
struct Move {
    from: Arc<Range>,
    to: Arc<Range>,
    keys: i64,
    expires: i64,
    bytes: i64,
    /// Rows of the store, and those of them that have an expiry; a tombstone has its row still.
    rows: i64,
    row_expires: i64,
    cold: i64,
    sealed_bytes: i64,
}

/// What changes hands, by database and by the addresses of both ranges.
#[derive(Default)]
struct Moves {
    sums: HashMap<(u8, *const Range, *const Range), Move>,
    /// The range of a key that would change its tier, and the key.
    stuck: Option<(String, Vec<u8>)>,
}

impl Moves {
    /// The sums for a pair of ranges; none when the key stays where it is.
    fn between(&mut self, db: u8, from: &Arc<Range>, to: &Arc<Range>) -> Option<&mut Move> {
        if from.spec.name == to.spec.name {
            return None;
        }
        let pair = (db, Arc::as_ptr(from), Arc::as_ptr(to));
        Some(self.sums.entry(pair).or_insert_with(|| Move {
            from: from.clone(),
            to: to.clone(),
            keys: 0,
            expires: 0,
            bytes: 0,
            rows: 0,
            row_expires: 0,
            cold: 0,
            sealed_bytes: 0,
        }))
    }

    fn note_key(&mut self, from: &Range, to: &Range, key: &[u8]) {
        if from.spec.tier != to.spec.tier && self.stuck.is_none() {
            self.stuck = Some((from.spec.name.clone(), key.to_vec()));
        }
    }

    fn add_resident(&mut self, from: &Arc<Range>, to: &Arc<Range>, entry: &Entry) {
        if !entry.is_absent() {
            self.note_key(from, to, entry.key());
        }
        if let Some(sums) = self.between(entry.db(), from, to) {
            sums.keys += i64::from(!entry.is_absent());
            sums.expires += i64::from(entry.expiry().is_some());
            sums.bytes += entry.size() as i64;
            sums.rows += i64::from(entry.store_has(STORED));
            sums.row_expires += i64::from(entry.store_has(STORED_EXPIRES));
        }
    }

    fn add_cold(&mut self, (from, to): (&Arc<Range>, &Arc<Range>), db: u8, key: &[u8], row: &Row<'_>) {
        self.note_key(from, to, key);
        if let Some(sums) = self.between(db, from, to) {
            let expires = i64::from(row.expiry.is_some());
            sums.keys += 1;
            sums.expires += expires;
            sums.rows += 1;
            sums.row_expires += expires;
            sums.cold += 1;
        }
    }

    /// A sealed key: whether it expires, and the bytes of its row.
    fn add_sealed(
        &mut self,
        (from, to): (&Arc<Range>, &Arc<Range>),
        key: &[u8],
        (db, expires, bytes): (u8, bool, u32),
    ) {
        self.note_key(from, to, key);
        if let Some(sums) = self.between(db, from, to) {
            sums.keys += 1;
            sums.expires += i64::from(expires);
            sums.cold += 1;
            sums.sealed_bytes += i64::from(bytes);
        }
    }

    /// Refuses when keys would go from one tier to the other.
    fn check_tiers(&self) -> Result<(), RangeError> {
        match &self.stuck {
            Some((range, key)) => Err(RangeError::HoldsKeys(range.clone(), key.clone())),
            None => Ok(()),
        }
    }

    /// The names of the ranges that keys leave.
    fn sources(&self) -> Vec<&str> {
        self.sums
            .values()
            .map(|sums| sums.from.spec.name.as_str())
            .collect()
    }

    fn apply(&self, stored: &mut Stored) {
        for ((db, ..), sums) in &self.sums {
            let db = *db as usize;
            for (range, sign) in [(&sums.from, -1), (&sums.to, 1)] {
                let counters = &range.counters;
                counters.keys[db].fetch_add(sign * sums.keys, Relaxed);
                counters.expires[db].fetch_add(sign * sums.expires, Relaxed);
                counters.bytes.fetch_add(sign * sums.bytes, Relaxed);
                counters.cold.fetch_add(sign * sums.cold, Relaxed);
                counters.sealed_bytes.fetch_add(sign * sums.sealed_bytes, Relaxed);
                // A tombstone in what becomes a memory range takes its row's count along, and back at the next flush.
                let counts = stored.counts.entry(range.spec.name.clone()).or_default();
                counts.0[db] += sign * sums.rows;
                counts.1[db] += sign * sums.row_expires;
            }
        }
    }
}
