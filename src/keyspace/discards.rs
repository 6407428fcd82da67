//! What a range held is gone, all at once: it is dropped with its keys, or leaves the store for memory.
//!
//! A hundred million rows are not deleted one by one. At one moment, with every shard locked for an instant, an interval
//! of keys and a journal offset become a *discard*: rows of these keys with offsets up to it do not count any more, for
//! anyone. Resident entries go when their shard is next locked (see `owed`). The next flush wipes the rows: one range
//! deletion, whole files removed, and a compaction of what is left, on a thread of its own.
//!
//! ```text
//! moment:   effect RANGE DROP ... DISCARD (or RANGE ALTER ... TIER memory) in the journal; discard in the list
//! flush:    rows of shards visited before the moment are written | wipe | rows of shards visited after it
//! its end:  mark >= offset of the discard: it is forgotten
//! ```
//!
//! Guarantees: whoever reads a row asks `row_stands`, under the lock of the key's shard. Every mark row that is written
//! after the moment holds the list, so a crash finds either the discard in the store, or its effect in the journal and
//! no newer row of its keys, or neither: then it has not happened, and nobody was told that it had.

use super::events::{Event, News};
use super::owed::Owed;
use super::range::{DBS, Range, RangeMap};
use super::seal::SealedRows;
use super::shard::ShardState;
use super::{Entry, Keyspace};
use crate::config::Tier;
use crate::store::flush::Discard;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// The offset of a discard during replay: everything that replay meets. It becomes the offset at which replay ends.
pub const UNTIL_THE_END: u64 = u64::MAX;

/// The discards that rows are held against.
pub type Discards = Arc<Vec<Discard>>;

/// The entries of a range that was dropped: each shard takes its own out, and what it has sealed of it.
struct Purge {
    map: Arc<RangeMap>,
    range: Arc<Range>,
    at: u64,
    sealed: SealedRows,
    garbage: Mutex<Vec<Entry>>,
}

impl Owed for Purge {
    fn pay(&self, state: &mut ShardState, shard: usize) {
        self.sealed.forget_keys(state, shard, &self.range, |key| {
            Arc::ptr_eq(self.map.find(key), &self.range)
        });
        let gone = |entry: &mut Entry| Arc::ptr_eq(self.map.find(entry.key()), &self.range);
        if state
            .iter()
            .any(|entry| Arc::ptr_eq(self.map.find(entry.key()), &self.range))
        {
            let mut entries = state.extract(gone);
            self.garbage.lock().append(&mut entries);
        }
        state.settle_discard(self.at);
    }
}

impl ShardState {
    /// What was read of the store before is not true any more, and rows written from now on are newer than `at`.
    pub(super) fn settle_discard(&mut self, at: u64) {
        self.epoch = self.epoch.wrapping_add(1);
        self.last_offset = self.last_offset.max(at);
        if self.is_empty() && self.sealed.is_none() {
            self.expiries.clear();
            self.dirty.clear();
        }
    }
}

/// Rows that count as wiped for good.
fn is_over(discard: &Discard, mark: u64) -> bool {
    discard.wiped && discard.at <= mark
}

impl Keyspace {
    /// The discards now: for who reads rows that were in the store now, and asks about them later.
    pub(super) fn discards(&self) -> Discards {
        self.discards.load_full()
    }

    /// False for rows of a database that has been flushed, or of keys that were discarded, since they were written.
    #[inline]
    pub(super) fn row_stands(&self, db: u8, key: &[u8], offset: u64) -> bool {
        offset > self.wiped_at[db as usize].load(Relaxed)
            && (!self.any_discards.load(SeqCst) || stands_against(&self.discards.load(), key, offset))
    }

    /// Adds a discard; called with every shard locked.
    pub(super) fn add_discard(&self, discard: Discard) {
        let mut list = Vec::clone(&self.discards.load());
        list.push(discard);
        self.set_discards(list);
        self.flush.note_discard();
    }

    pub(super) fn set_discards(&self, list: Vec<Discard>) {
        if list.iter().any(|discard| !discard.wiped) {
            self.flush.note_discard();
        }
        let any = !list.is_empty();
        if any {
            self.any_discards.store(true, SeqCst);
        }
        self.discards.store(Arc::new(list));
        if !any {
            self.any_discards.store(false, SeqCst);
        }
    }

    /// Drops a range with everything in it. Returns the journal offset that makes it durable.
    pub(super) fn discard_range(self: &Arc<Keyspace>, map: RangeMap, name: &str) -> u64 {
        let (purge, at) = {
            let _no_sealing = self.sealing.hold();
            let mut guards = self.lock_all();
            let old = self.ranges.load_full();
            let Some(range) = old.by_name(name).cloned() else {
                return 0;
            };
            let at = self.append_words(&[b"RANGE", b"DROP", name.as_bytes(), b"DISCARD"]);
            if range.is_durable() {
                self.add_discard(Discard {
                    range: name.into(),
                    intervals: old.intervals(name),
                    at,
                    wiped: false,
                });
            }
            self.entry_bytes
                .fetch_sub(range.counters.bytes.load(Relaxed), Relaxed);
            let purge = Arc::new(Purge {
                map: old,
                range,
                at,
                sealed: self.sealed_rows(),
                garbage: Mutex::default(),
            });
            self.mix_generations(&[name]);
            let databases: Vec<u8> = (0..DBS as u8).collect();
            // Not of its keys alone: a transaction that is broken without need is tried again.
            self.break_all_transactions(&guards, &databases);
            self.forget_all_caches(&mut guards);
            self.tell_values_of(&guards, &databases, (Event::RangeDrop, News::Unknown), at);
            Keyspace::owe(&mut guards, &purge);
            self.install(map, &guards);
            (purge, at)
        };
        crate::journal::crash_point("drop-after-moment");
        self.flush.force();
        self.flush.request();
        self.spawn("drop", move |keyspace| {
            // What it takes out is freed shard by shard: it must not be in memory twice as long as it has to.
            for shard in &keyspace.shards {
                drop(shard.lock());
                drop(std::mem::take(&mut *purge.garbage.lock()));
            }
        });
        at
    }

    /// What replay does of a discard: a range is dropped with its keys, or is a memory range from here on.
    pub fn replay_discard(&self, name: &str, to: Option<Tier>, at: u64) {
        let known = |discard: &Discard| discard.at == at;
        let old = self.ranges.load_full();
        let Some(range) = old
            .by_name(name)
            .filter(|_| !self.discards.load().iter().any(known))
        else {
            return;
        };
        let mut guards = self.lock_all();
        if range.is_durable() {
            for state in &mut guards {
                let gone = state.extract(|entry| Arc::ptr_eq(old.find(entry.key()), range));
                gone.iter()
                    .for_each(|entry| self.count_bytes(range, entry.size(), 0));
                state.settle_discard(at);
            }
            let counters = &range.counters;
            let counts = counters.keys.iter().chain(&counters.expires);
            counts
                .chain([&counters.cold])
                .for_each(|count| count.store(0, Relaxed));
            self.add_discard(Discard {
                range: name.into(),
                intervals: old.intervals(name),
                at,
                wiped: false,
            });
        }
        let mut specs = self.specs();
        match to {
            None => specs.retain(|spec| spec.name != name),
            Some(tier) => {
                let moved = specs.iter_mut().filter(|spec| spec.name == name);
                moved.for_each(|spec| (spec.tier, spec.by_command.shaped) = (tier, true));
            }
        }
        let map = RangeMap::new(&specs, old.inherited, Some(&old));
        self.install(map, &guards);
    }

    /// What replay does of the moment at which a memory range becomes durable. Had it come to be, the mark row would say
    /// so: it has not, and the effects on its keys that follow are of a memory range.
    pub fn replay_switch(&self, name: &str) {
        let map = self.ranges.load_full();
        let waiting = |discard: &Discard| discard.at == UNTIL_THE_END && discard.range == name;
        let known = self.discards.load().iter().any(waiting);
        if !known && map.by_name(name).is_some_and(|range| !range.is_durable()) {
            let _guards = self.lock_all();
            self.add_discard(Discard {
                range: name.into(),
                intervals: map.intervals(name),
                at: UNTIL_THE_END,
                wiped: false,
            });
        }
    }

    /// Replay is over, at this offset.
    pub(super) fn settle_discards(&self, end: u64) {
        let mut list = Vec::clone(&self.discards.load());
        for discard in list.iter_mut().filter(|discard| discard.at == UNTIL_THE_END) {
            discard.at = end;
        }
        if list.iter().any(|discard| !discard.wiped) {
            self.flush.force();
            self.flush.request();
        }
        self.set_discards(list);
    }

    /// True when replay passes over an effect on a key: what it made was discarded later.
    pub fn is_effect_gone(&self, key: &[u8], offset: u64) -> bool {
        self.any_discards.load(Relaxed) && !stands_against(&self.discards.load(), key, offset)
    }

    /// Removes the files of rows that a wipe has deleted, and has the rest written anew in the background.
    pub(super) fn reclaim(&self, discards: &[Discard]) {
        let intervals: Vec<_> = discards.iter().flat_map(Discard::row_intervals).collect();
        // A snapshot under way still reads what the files hold.
        if !self.snapshots.is_running() {
            for (from, to) in &intervals {
                if let Err(error) = self.store.remove_files(from, to) {
                    log::warn!("files of dropped rows could not be removed: {error}");
                }
            }
        }
        let store = self.store.clone();
        super::spawn_into(&self.store_jobs, "reclaim", move || {
            let held = intervals
                .iter()
                .filter(|interval| store.approximate_bytes(std::slice::from_ref(interval)) > 0);
            held.for_each(|(from, to)| store.compact(from, to));
        });
    }

    /// Forgets the discards that are wiped and that no replay can meet again.
    pub(super) fn forget_discards(&self, mark: u64) {
        if !self.discards.load().iter().any(|discard| is_over(discard, mark)) {
            return;
        }
        // Who has read a row before it was wiped must read again: nothing says later that it does not stand.
        for shard in &self.shards {
            let mut state = shard.lock();
            state.epoch = state.epoch.wrapping_add(1);
        }
        let _guards = self.lock_all();
        let mut list = Vec::clone(&self.discards.load());
        list.retain(|discard| !is_over(discard, mark));
        self.set_discards(list);
    }

    /// These discards are wiped from the store.
    pub(super) fn note_wiped(&self, wiped: &[Discard]) {
        if wiped.is_empty() {
            return;
        }
        let _guards = self.lock_all();
        let mut list = Vec::clone(&self.discards.load());
        for discard in &mut list {
            discard.wiped |= wiped.iter().any(|wiped| wiped.at == discard.at);
        }
        self.discards.store(Arc::new(list));
    }
}

/// Whether a row, or an effect, with this offset is newer than every discard of its key.
pub(super) fn stands_against(discards: &[Discard], key: &[u8], offset: u64) -> bool {
    !discards
        .iter()
        .any(|discard| offset <= discard.at && discard.covers(key))
}
