//! Creating, altering and dropping ranges while the server runs.
//!
//! A new map is put in place while every shard is locked, with the flush thread held off; the keys of the intervals
//! that change hands are counted over to their new range under the same locks. Then a flush writes the ranges into the
//! store's mark row, so that they are there after a restart, before the command replies.

use super::range::{DBS, Inherited, Range, RangeMap};
use super::{Keyspace, StoreError};
use crate::config::{RangeSpec, Tier};
use crate::store::rows::{self, Row};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Why a range cannot be changed as asked.
#[derive(Debug)]
pub enum RangeError {
    Exists(String),
    Unknown(String),
    Overlaps(String),
    /// Keys are in the way: they would change from one tier to another.
    HoldsKeys(String, u64),
    IsDefault,
    Invalid(String),
    Store(StoreError),
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeError::Exists(name) => write!(f, "ERR Range '{name}' exists already"),
            RangeError::Unknown(name) => write!(f, "ERR No such range '{name}'"),
            RangeError::Overlaps(why) => write!(f, "ERR {why}"),
            RangeError::HoldsKeys(name, keys) => write!(
                f,
                "ERR {keys} keys of range '{name}' would change their tier; delete them first, or say DISCARD to delete them"
            ),
            RangeError::IsDefault => write!(f, "ERR The default range can't be created or dropped"),
            RangeError::Invalid(why) => write!(f, "ERR {why}"),
            RangeError::Store(error) => write!(f, "ERR {error}"),
        }
    }
}

impl From<StoreError> for RangeError {
    fn from(error: StoreError) -> RangeError {
        RangeError::Store(error)
    }
}

impl Keyspace {
    fn specs(&self) -> Vec<RangeSpec> {
        self.ranges
            .load()
            .iter()
            .map(|range| range.spec.clone())
            .collect()
    }

    /// Adds a range. Keys that it takes over keep their tier, or there must be none.
    pub fn create_range(&self, spec: RangeSpec) -> Result<(), RangeError> {
        let _change = self.change.lock();
        let mut specs = self.specs();
        if spec.name == "default" {
            return Err(RangeError::IsDefault);
        }
        if specs.iter().any(|other| other.name == spec.name) {
            return Err(RangeError::Exists(spec.name));
        }
        if let Some(why) = specs.iter().find_map(|other| spec.conflict_with(other)) {
            return Err(RangeError::Overlaps(why));
        }
        specs.push(spec);
        self.change_to(&specs)
    }

    /// Changes options of a range: pairs of name and value.
    pub fn alter_range(&self, name: &str, options: &[(&[u8], &[u8])]) -> Result<(), RangeError> {
        let _change = self.change.lock();
        let mut specs = self.specs();
        let spec = specs
            .iter_mut()
            .find(|spec| spec.name == name)
            .ok_or_else(|| RangeError::Unknown(name.into()))?;
        for (option, value) in options {
            spec.options.set(option, value).map_err(RangeError::Invalid)?;
        }
        self.change_to(&specs)
    }

    /// Removes a range; its keys belong to the range around it, which must be of the same tier if there are any.
    pub fn drop_range(&self, name: &str) -> Result<(), RangeError> {
        let _change = self.change.lock();
        if name == "default" {
            return Err(RangeError::IsDefault);
        }
        let mut specs = self.specs();
        let before = specs.len();
        specs.retain(|spec| spec.name != name);
        if specs.len() == before {
            return Err(RangeError::Unknown(name.into()));
        }
        self.change_to(&specs)
    }

    /// Changes what ranges inherit from the server's configuration.
    pub fn inherit(&self, inherited: Inherited) {
        let _change = self.change.lock();
        let map = RangeMap::new(&self.specs(), inherited, Some(&self.ranges.load()));
        let _guards = self.lock_all();
        self.install(map);
    }

    fn install(&self, map: RangeMap) {
        self.note_policies(&map);
        if let Some(journal) = self.journal() {
            journal.set_sync_every_second(map.wants_sync_every_second());
        }
        self.ranges.store(Arc::new(map));
    }

    /// Puts a new set of ranges in place, with its counts, and makes it durable.
    fn change_to(&self, specs: &[RangeSpec]) -> Result<(), RangeError> {
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
            let _guards = self.lock_all();
            self.install(map);
        } else {
            self.install_counted(map)?;
        }
        self.flush.force();
        Ok(self.flush.run_and_wait()?)
    }

    /// Installs a map whose intervals differ: every key's counts move to its new range.
    fn install_counted(&self, map: RangeMap) -> Result<(), RangeError> {
        // What is in the store is first made equal to what is resident, so that most rows need not be looked at twice.
        self.flush.run_and_wait()?;
        let mut stored = self.flush.stored();
        let guards = self.lock_all();
        let old = self.ranges.load();
        let mut moved: Vec<Move> = Vec::new();
        for state in &guards {
            for entry in state.iter() {
                let (from, to) = (old.find(entry.key()), map.find(entry.key()));
                if from.spec.name != to.spec.name {
                    let row = entry.store_has(super::entry::STORED);
                    let keys = i64::from(!entry.is_absent());
                    let expires = [
                        i64::from(entry.expiry().is_some()),
                        i64::from(entry.store_has(super::entry::STORED_EXPIRES)),
                    ];
                    moved.push(Move {
                        from: from.clone(),
                        to: to.clone(),
                        db: entry.db(),
                        keys,
                        expires,
                        bytes: entry.size() as i64,
                        row,
                        cold: 0,
                    });
                }
            }
        }
        let (first, _) = rows::db_bounds(0);
        let (_, end) = rows::db_bounds(DBS as u8 - 1);
        for row in self.store.scan(first, end, false) {
            let (row_key, value) = row?;
            let Some((db, key)) = rows::split_object_key(&row_key) else {
                continue;
            };
            let (from, to) = (old.find(key), map.find(key));
            let hash = self.hasher.hash(db, key);
            if from.spec.name == to.spec.name || guards[self.shard_of(hash)].find(hash, db, key).is_some() {
                continue;
            }
            let row = Row::decode(&value).map_err(StoreError::new)?;
            if self.row_stands(db, &row) {
                let expires = i64::from(row.expiry.is_some());
                moved.push(Move {
                    from: from.clone(),
                    to: to.clone(),
                    db,
                    keys: 1,
                    expires: [expires; 2],
                    bytes: 0,
                    row: true,
                    cold: 1,
                });
            }
        }
        let stuck = moved
            .iter()
            .filter(|moved| moved.from.spec.tier != moved.to.spec.tier && moved.keys > 0);
        if let Some(name) = stuck.clone().map(|moved| moved.from.spec.name.clone()).next() {
            return Err(RangeError::HoldsKeys(name, stuck.count() as u64));
        }
        moved.iter().for_each(|moved| moved.apply(&mut stored));
        self.install(map);
        Ok(())
    }
}

/// One key that changes its range.
struct Move {
    from: Arc<Range>,
    to: Arc<Range>,
    db: u8,
    keys: i64,
    /// Of the key, and of its row.
    expires: [i64; 2],
    bytes: i64,
    row: bool,
    cold: i64,
}

impl Move {
    fn apply(&self, stored: &mut super::flush::Stored) {
        let db = self.db as usize;
        for (range, sign) in [(&self.from, -1), (&self.to, 1)] {
            let counters = &range.counters;
            counters.keys[db].fetch_add(sign * self.keys, Relaxed);
            counters.expires[db].fetch_add(sign * self.expires[0], Relaxed);
            counters.bytes.fetch_add(sign * self.bytes, Relaxed);
            counters.cold.fetch_add(sign * self.cold, Relaxed);
            if self.row && range.spec.tier == Tier::Durable {
                let counts = stored.counts.entry(range.spec.name.clone()).or_default();
                counts.0[db] += sign;
                counts.1[db] += sign * self.expires[1];
            }
        }
    }
}
