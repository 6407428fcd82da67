//! Making room: evicting keys of memory ranges, dropping clean entries of durable ranges.
//!
//! Both choose by sampling, as Redis documents its approximated LRU and LFU: look at a few entries, take the worst.
//! Entries of a shard's table stand in the order of their hashes, so a run of neighbours is a random sample of keys.
//! Sealed keys go before resident ones, the coldest of them together (see `generations`).
//! A durable key is never deleted by eviction: only its resident copy goes, and only when the store has an equal row. Of
//! a paged collection go clean elements.

use super::clock::{self, Tick};
use super::entry::Entry;
use super::events::{Event, News};
use super::generations::evicts_any;
use super::range::Range;
use super::shard::ShardState;
use super::{Keyspace, held};
use crate::config::EvictionPolicy;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What a write has to do about memory before it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    Enough,
    /// Nothing can be evicted: the write is refused.
    Full,
    /// Everything that could be dropped differs from the store: the write waits for a flush.
    WaitForFlush,
}

/// Shards looked at for one victim before giving up.
const TRIES: usize = 64;
/// Entries looked at for each that may go: those of other ranges must not hide the few that can be evicted.
const REACH: usize = 64;
/// Victims for one write at most, so that no single command pays for all others.
const VICTIMS_MOST: usize = 256;

impl Keyspace {
    /// True when some limit has been reached: the only thing that a write checks when there is room.
    #[inline]
    pub fn is_over_limit(&self) -> bool {
        let most = self.limits.maxmemory.load(Relaxed);
        most > 0 && self.memory_bytes() > most
            || self.limits.range_limits.load(Relaxed) && self.a_range_is_over()
    }

    /// Not more than a sixty-fourth part over `maxmemory`.
    fn is_little_over(&self) -> bool {
        let most = self.limits.maxmemory.load(Relaxed);
        self.memory_bytes() <= most.saturating_add(most / 64)
    }

    fn a_range_is_over(&self) -> bool {
        self.ranges.load().iter().any(|range| is_over(range))
    }

    /// Evicts until the limits that concern these keys hold: those of their ranges, and that of the whole. Called
    /// without locks.
    pub fn make_room_for<'a>(&self, keys: impl Iterator<Item = &'a [u8]>, now_ms: i64) -> Room {
        let map = self.ranges.load();
        let mut ranges: Vec<Arc<Range>> = keys.map(|key| map.find(key).clone()).collect();
        ranges.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        ranges.dedup_by(|a, b| Arc::ptr_eq(a, b));
        self.make_room_in(&ranges, now_ms)
    }

    /// Evicts until every limit holds.
    pub fn make_room(&self, now_ms: i64) -> Room {
        let ranges: Vec<Arc<Range>> = self.ranges.load().iter().cloned().collect();
        self.make_room_in(&ranges, now_ms)
    }

    fn make_room_in(&self, ranges: &[Arc<Range>], now_ms: i64) -> Room {
        let tick = self.tick(now_ms);
        for range in ranges.iter().filter(|range| is_over(range)) {
            let room = self.evict_while(|| is_over(range), || is_little_over(range), (Some(range), tick));
            if room != Room::Enough {
                return room;
            }
        }
        let over = || {
            let most = self.limits.maxmemory.load(Relaxed);
            most > 0 && self.memory_bytes() > most
        };
        match self.evict_while(over, || self.is_little_over(), (None, tick)) {
            Room::Full if !self.is_full_of_bytes() => Room::Enough,
            room => room,
        }
    }

    /// Over `maxmemory`, with what the allocator has in holes taken off.
    fn is_full_of_bytes(&self) -> bool {
        let most = self.limits.maxmemory.load(Relaxed);
        self.memory_bytes().saturating_sub(self.holes.load(Relaxed)) > most
    }

    /// Evicts while `over` holds, and goes on with it when `enough` says that the thread that seals may do the rest.
    pub(super) fn evict_while(
        &self,
        over: impl Fn() -> bool,
        enough: impl Fn() -> bool,
        (only, tick): (Option<&Range>, Tick),
    ) -> Room {
        let name = only.map(|range| range.spec.name.as_str());
        for _ in 0..VICTIMS_MOST {
            if !over() {
                return Room::Enough;
            }
            let evictable = self.sealing.is_evictable();
            // What is sealed goes first. The thread that seals sees to that; a write goes on while it keeps up.
            if evictable {
                self.sealing.wake();
                if enough() {
                    return Room::Enough;
                }
            }
            // What a flush makes droppable is of no use to a memory range that is over its own limit. Asked before the
            // search: a flush that ends after it has made droppable what the search has passed.
            let flush_helps = only.is_none_or(Range::is_durable)
                && (self.flush.dirty_bytes() > 0 || self.flush.is_running());
            // A server full of what may not go refuses writes at once.
            if !flush_helps && !self.may_have_victims(only) && !self.may_sealed_go() {
                return Room::Full;
            }
            // Where most is sealed a search for resident entries would take long.
            let sealed_first = evictable && only.is_some_and(is_mostly_sealed);
            if sealed_first && self.evict_sealed(&over, name)
                || self.evict_one(only, tick)
                || !sealed_first && self.evict_sealed(&over, name)
            {
                continue;
            }
            if flush_helps {
                self.flush.request();
                return Room::WaitForFlush;
            }
            if !self.evict_first_found(only, tick) && !self.evict_sealed_at_last(&over, name) {
                return Room::Full;
            }
        }
        Room::Enough
    }

    /// Takes the worst of a sample out of one shard. False when no shard tried had anything to give.
    fn evict_one(&self, only: Option<&Range>, tick: Tick) -> bool {
        let samples = self.limits.samples.load(Relaxed) as usize;
        let start = fastrand::usize(..self.shards.len());
        // Few keys: every shard is looked at before the write is refused.
        let tries = if self.entry_bytes.load(Relaxed) < 1 << 22 {
            self.shards.len()
        } else {
            TRIES.max(self.shards.len() / 4)
        };
        for at in 0..tries.min(self.shards.len()) {
            // A shard that is in use has no victim: who makes room within a group may hold others.
            let shard = &self.shards[(start + at) & (self.shards.len() - 1)];
            if shard.try_lock().is_some_and(|mut state| {
                self.evict_worst(&mut state, (samples, samples * REACH), (only, tick))
            }) {
                return true;
            }
        }
        false
    }

    /// Evicts the worst of up to `samples` entries that may go, among up to `reach` that stand together. False when
    /// there are none.
    fn evict_worst(
        &self,
        state: &mut ShardState,
        (samples, reach): (usize, usize),
        (only, tick): (Option<&Range>, Tick),
    ) -> bool {
        // Read while the shard is locked: what is counted is counted in the ranges of this moment.
        let map = self.ranges.load();
        let worst = state
            .sample(fastrand::usize(..), reach)
            .filter_map(|entry| {
                let range = map.find(entry.key());
                let wanted = only.is_none_or(|only| only.spec.name == range.spec.name);
                let score = if wanted {
                    self.score(entry, range, tick)
                } else {
                    None
                };
                score.map(|score| (score, entry.db(), entry.key()))
            })
            .take(samples)
            .max_by_key(|(score, ..)| *score)
            .map(|(_, db, key)| (db, key.to_vec()));
        let Some((db, key)) = worst else { return false };
        self.evict(state, db, &key, map.find(&key));
        true
    }

    /// Evicts from the first shard that has anything to give, from the one that had the last time: so every entry is
    /// looked at, and waited for, before a write is refused. False when no shard has anything.
    fn evict_first_found(&self, only: Option<&Range>, tick: Tick) -> bool {
        if !self.may_have_victims(only) {
            return false;
        }
        let start = self.evict_next.load(Relaxed);
        for at in (0..self.shards.len()).map(|at| (start + at) & (self.shards.len() - 1)) {
            // Within a group nobody waits for another shard.
            let state = match held::is_active() {
                true => self.shards[at].try_lock(),
                false => Some(self.shards[at].lock()),
            };
            let everything = (usize::MAX, usize::MAX);
            if state.is_some_and(|mut state| self.evict_worst(&mut state, everything, (only, tick))) {
                self.evict_next.store(at, Relaxed);
                return true;
            }
        }
        false
    }

    /// True when some range has resident entries that could be evicted, as far as counts tell. More cold keys than there
    /// are keys: they are being counted.
    fn may_have_victims(&self, only: Option<&Range>) -> bool {
        self.ranges.load().iter().any(|range| {
            let counters = &range.counters;
            let may_go = match range.is_durable() {
                true => !range.stays_resident(),
                false => evicts_any(range),
            };
            only.is_none_or(|only| only.spec.name == range.spec.name)
                && may_go
                && counters.total_keys() != counters.cold.load(Relaxed).max(0)
        })
    }

    /// How much an entry deserves to go; none when it may not.
    fn score(&self, entry: &Entry, range: &Range, tick: Tick) -> Option<u64> {
        let durable = range.is_durable();
        let gives = || self.flush.is_droppable(entry) || self.may_shed(entry);
        if durable && (range.stays_resident() || !gives()) || entry.is_absent() {
            return None;
        }
        let idle = u64::from(clock::idle_seconds(entry.clock(), tick));
        let policy = range.policy.eviction;
        if !durable && policy.is_volatile() && entry.expiry().is_none() {
            return None;
        }
        match policy {
            EvictionPolicy::NoEviction => durable.then_some(idle),
            EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => Some(idle),
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => {
                Some(u64::from(255 - clock::frequency(entry.clock(), tick)))
            }
            EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom => Some(fastrand::u64(..1 << 32)),
            EvictionPolicy::VolatileTtl => Some(entry.expiry().map_or(0, |at| u64::MAX - at.max(0) as u64)),
        }
    }

    fn evict(&self, state: &mut ShardState, db: u8, key: &[u8], range: &Range) {
        let began = Instant::now();
        self.evict_untimed(state, db, key, range);
        let nanos = began.elapsed().as_nanos() as u64;
        self.longest_eviction_nanos.fetch_max(nanos, Relaxed);
    }

    /// How long the longest eviction of one key has taken since this was asked last.
    pub fn take_longest_eviction(&self) -> Duration {
        Duration::from_nanos(self.longest_eviction_nanos.swap(0, Relaxed))
    }

    fn evict_untimed(&self, state: &mut ShardState, db: u8, key: &[u8], range: &Range) {
        let hash = self.hasher.hash(db, key);
        if !range.is_durable() {
            self.remove_entry(state, hash, db, key, range);
            range.counters.evicted.fetch_add(1, Relaxed);
            self.note_aside(state, hash, (db, key), (Event::Evicted, News::None), None);
            return;
        }
        if state
            .find(hash, db, key)
            .is_some_and(|entry| self.may_shed(entry))
        {
            // Of what is larger than others, a part at a time.
            return self.shed(state, (db, hash, key), range);
        }
        self.drop_clean(state, hash, db, key, range);
    }

    /// Drops the resident copy of a key whose row is in the store.
    fn drop_clean(&self, state: &mut ShardState, hash: u64, db: u8, key: &[u8], range: &Range) {
        if let Some(entry) = state.remove(hash, db, key) {
            state.epoch = state.epoch.wrapping_add(1);
            self.count_bytes(range, entry.size(), 0);
            range.counters.cold.fetch_add(1, Relaxed);
            range.counters.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Bytes of all entries, looked at one by one: what the counters are to say.
    pub fn sum_entry_bytes(&self) -> i64 {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().iter().map(|entry| entry.size() as i64).sum::<i64>())
            .sum()
    }

    /// Drops every clean entry of durable ranges, so that what is read next comes from the store.
    pub fn drop_all_clean(&self) {
        for shard in &self.shards {
            let mut state = shard.lock();
            let map = self.ranges.load();
            let droppable = |entry: &&Entry| {
                let range = map.find(entry.key());
                range.is_durable() && !range.stays_resident() && self.flush.is_droppable(entry)
            };
            let keys: Vec<(u8, Vec<u8>)> = state
                .iter()
                .filter(droppable)
                .map(|entry| (entry.db(), entry.key().to_vec()))
                .collect();
            for (db, key) in keys {
                self.drop_clean(&mut state, self.hasher.hash(db, &key), db, &key, map.find(&key));
            }
        }
    }
}

fn is_over(range: &Range) -> bool {
    is_over_by(range, 0)
}

/// Not more than a sixty-fourth part over the range's own limit.
fn is_little_over(range: &Range) -> bool {
    !is_over_by(range, range.policy.maxmemory / 64)
}

fn is_over_by(range: &Range, more: u64) -> bool {
    let counters = &range.counters;
    let bytes = (counters.bytes.load(Relaxed) + counters.sealed_bytes.load(Relaxed)).max(0) as u64;
    range.policy.maxmemory > 0 && bytes > range.policy.maxmemory.saturating_add(more)
}

fn is_mostly_sealed(range: &Range) -> bool {
    let counters = &range.counters;
    counters.sealed_bytes.load(Relaxed) > counters.bytes.load(Relaxed)
}
