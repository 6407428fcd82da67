//! What becomes of the generations of the plain store: those in which nothing counts any more go, those in which little
//! counts are moved together, and the coldest go with their keys when memory is short. And the thread that sees to it,
//! and that seals what is cold.
//!
//! Eviction takes a whole generation. That its rows are the coldest follows from how it was filled: what was in use
//! since was loaded, and is resident or in a newer one. It costs a walk over the shards' directories, some microseconds
//! each, and no read but for who is told of it (`doomed`); the memory comes back at once. A generation is a small part
//! of the limit (`GENERATIONS`), so that little more goes than has to.

use super::entry::Entry;
use super::load::may_wait;
use super::range::{DBS, Range};
use super::seal::{Sealer, count_row};
use super::sealed::{self, Slot, fragment};
use super::shard::ShardState;
use super::{Keyspace, StoreError, clock, held};
use crate::config::EvictionPolicy;
use crate::store::plain::{Class, Generation, PlainBatch};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Work between two rests.
const WORK: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_millis(3);
const TICK: Duration = Duration::from_millis(100);
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// A range with less is left in peace by idle time: a generation costs more than it would save.
const RANGE_LEAST: i64 = 1 << 20;
/// Rows moved together.
const PORTION: usize = 48;
/// Entries looked at to tell what is cold.
const SAMPLE: usize = 1024;

/// How far the search for what is cold has come.
#[derive(Default)]
pub struct Pass {
    shard: usize,
    began: Option<Instant>,
    /// While memory is short: what was not used after this second is cold, until the pass ends. So what was written
    /// together leaves together, and does not leave holes between what stays.
    cut: Option<u32>,
    /// It is the whole that memory is short for, not some range alone.
    is_whole: bool,
    /// Entries that it has sealed.
    sealed: u64,
    /// What is open is to be merged.
    merges_open: bool,
    /// The generation that is being moved, and the next shard.
    cleaning: Option<(Arc<Generation>, usize)>,
}

/// A row that moves to a newer generation.
struct Moved {
    hash: u64,
    slot: Slot,
    key: Vec<u8>,
    to: Arc<Generation>,
    bytes: (u32, u32),
}

pub(super) fn is_evictable(range: &Range, expires: bool) -> bool {
    match range.policy.eviction {
        EvictionPolicy::NoEviction => false,
        policy => expires || !policy.is_volatile(),
    }
}

/// True when some key of a memory range may be evicted, as far as counts tell.
pub(super) fn evicts_any(range: &Range) -> bool {
    let expires = || range.counters.expires.iter().any(|keys| keys.load(Relaxed) > 0);
    is_evictable(range, false) || is_evictable(range, true) && expires()
}

fn part(whole: u64, numerator: u64, denominator: u64) -> u64 {
    whole / denominator * numerator
}

/// Bytes of a range, wherever they are.
fn bytes_of(range: &Range) -> u64 {
    let counters = &range.counters;
    (counters.bytes.load(Relaxed) + counters.sealed_bytes.load(Relaxed)).max(0) as u64
}

/// A range's own limit is nearer than this part of it.
fn is_near(range: &Range, numerator: u64, denominator: u64) -> bool {
    let most = range.policy.maxmemory;
    most > 0 && !range.is_durable() && bytes_of(range) > part(most, numerator, denominator)
}

impl Keyspace {
    // ---- The thread ---------------------------------------------------------------------------------------------

    /// The sealing thread: runs until `SealState::stop`.
    pub fn seal_loop(&self) {
        let mut pass = Pass::default();
        while !self.sealing.is_stopping() {
            let now_ms = crate::journal::unix_ms() as i64;
            let rest = match self.seal_step(&mut pass, now_ms) {
                Ok(true) => REST,
                Ok(false) => TICK,
                Err(error) => {
                    log::error!("sealing: {error}");
                    AFTER_ERROR
                }
            };
            self.sealing.rest(rest);
        }
    }

    /// Some milliseconds of what there is to do; true when there is more.
    pub fn seal_step(&self, pass: &mut Pass, now_ms: i64) -> Result<bool, StoreError> {
        let mut sealer = self.sealing.hold();
        self.drop_empty(&mut sealer)?;
        self.relieve(&mut sealer)?;
        let began = Instant::now();
        let cleaning = self.clean(&mut sealer, pass, began)?;
        let sealing = self.seal_cold(&mut sealer, pass, (began, now_ms))?;
        for open in &sealer.open {
            self.plain.measure(open);
        }
        self.note_evictable();
        let idle = std::mem::take(&mut pass.merges_open);
        self.close_idle(&mut sealer, idle);
        let mut full = std::mem::take(&mut sealer.full);
        if idle {
            full.extend(sealer.open.iter().cloned());
        }
        // Who needs memory must not wait for this.
        drop(sealer);
        self.merge(full)?;
        Ok(cleaning || sealing)
    }

    fn seal_cold(
        &self,
        sealer: &mut Sealer,
        pass: &mut Pass,
        (began, now_ms): (Instant, i64),
    ) -> Result<bool, StoreError> {
        if self.sealing.seals_everything() {
            for shard in 0..self.shards.len() {
                self.seal_shard(sealer, shard, |_, _| true)?;
            }
            return Ok(true);
        }
        let after = self.sealing.after_seconds();
        if after == 0 {
            return Ok(false);
        }
        if self.ranges.load().iter().all(|range| range.is_durable()) {
            // There is nothing that could be sealed, however short memory is.
            return Ok(false);
        }
        let pressed = self.is_pressed();
        let any_pressed = pressed || self.ranges.load().iter().any(|range| is_near(range, 9, 10));
        let between = Duration::from_secs(u64::from(after / 4).max(1));
        if pass.shard == 0 && !any_pressed && pass.began.is_some_and(|at| at.elapsed() < between) {
            return Ok(false);
        }
        if pass.shard == 0 {
            pass.began = Some(Instant::now());
            pass.is_whole = pressed;
            pass.cut = any_pressed.then(|| self.coldest_part(pressed, now_ms));
        }
        let tick = self.tick(now_ms);
        let threshold = pass.cut.map(|cut| tick.seconds.saturating_sub(cut));
        let is_whole = pass.is_whole;
        let is_cold = |entry: &Entry, range: &Range| {
            let idle = clock::idle_seconds(entry.clock(), tick);
            let large = range.counters.bytes.load(Relaxed) >= RANGE_LEAST;
            large && idle >= after
                || threshold.is_some_and(|least| idle >= least) && (is_whole || is_near(range, 9, 10))
        };
        while pass.shard < self.shards.len() {
            if began.elapsed() > WORK {
                return Ok(true);
            }
            pass.sealed += self.seal_shard(sealer, pass.shard, is_cold)?;
            pass.shard += 1;
        }
        pass.shard = 0;
        let any_sealed = std::mem::take(&mut pass.sealed) > 0;
        if !any_sealed {
            // Nothing comes in for now: a good time to merge what did.
            pass.merges_open = true;
        }
        Ok(any_pressed && any_sealed)
    }

    /// The second after which three of four entries were used that could be sealed for want of memory: of the whole, or
    /// of ranges that have come near to their own limit.
    fn coldest_part(&self, of_the_whole: bool, now_ms: i64) -> u32 {
        let (tick, map) = (self.tick(now_ms), self.ranges.load());
        let mut idle = Vec::with_capacity(SAMPLE);
        for _ in 0..self.shards.len() {
            let state = self.shards[fastrand::usize(..self.shards.len())].lock();
            let sample = state.sample(fastrand::usize(..), SAMPLE / 16);
            idle.extend(
                sample
                    .filter(|entry| {
                        let range = map.find(entry.key());
                        !range.is_durable()
                            && self.is_sealable(entry)
                            && (of_the_whole || is_near(range, 9, 10))
                    })
                    .map(|entry| clock::idle_seconds(entry.clock(), tick)),
            );
            if idle.len() >= SAMPLE {
                break;
            }
        }
        idle.sort_unstable();
        let least = idle.get(idle.len() / 4 * 3).map_or(1, |seconds| *seconds.max(&1));
        tick.seconds.saturating_sub(least)
    }

    /// Nine tenths of `maxmemory` are in use.
    pub(super) fn is_short(&self) -> bool {
        let most = self.limits.maxmemory.load(Relaxed);
        most > 0 && self.memory_bytes() > part(most, 9, 10)
    }

    /// Memory is short, and not half of what is in use is sealed already.
    fn is_pressed(&self) -> bool {
        self.is_short() && self.plain.memory_bytes() < self.memory_bytes() / 2
    }

    // ---- Memory is short ----------------------------------------------------------------------------------------

    /// Drops the coldest generations until what is in use is a little below the limits.
    fn relieve(&self, sealer: &mut Sealer) -> Result<(), StoreError> {
        let over = || {
            let most = self.limits.maxmemory.load(Relaxed);
            most > 0 && self.memory_bytes() > part(most, 97, 100)
        };
        while over() && self.drop_coldest(sealer, None)? {}
        for range in self.ranges.load_full().iter() {
            while is_near(range, 97, 100) && self.drop_coldest(sealer, Some(&range.spec.name))? {}
        }
        Ok(())
    }

    /// Evicts the coldest generation, of one range or of all. False when none may go.
    fn drop_coldest(&self, sealer: &mut Sealer, only: Option<&str>) -> Result<bool, StoreError> {
        let found = self
            .plain
            .generations()
            .into_iter()
            .find(|generation| self.may_go(generation, only));
        let Some(generation) = found else {
            return Ok(false);
        };
        sealer.open.retain(|open| open.id != generation.id);
        generation.closed.store(true, Relaxed);
        self.drop_generation(&generation);
        Ok(true)
    }

    fn may_go(&self, generation: &Generation, only: Option<&str>) -> bool {
        let class = &generation.class;
        let named = only.is_none_or(|name| class.range == name);
        // Of a mixed one it is not known whose rows they are; it is being moved.
        named
            && generation.live_rows() > 0
            && !generation.mixed.load(Relaxed)
            && self
                .ranges
                .load()
                .by_name(&class.range)
                .is_some_and(|range| is_evictable(range, class.expires))
    }

    fn note_evictable(&self) {
        let any = self
            .plain
            .generations()
            .iter()
            .any(|generation| self.may_go(generation, None));
        self.sealing.set_evictable(any);
    }

    /// False when nothing that is sealed may go: a write that is refused for that does not wait for the sealer.
    pub(super) fn may_sealed_go(&self) -> bool {
        let may = |range: &Arc<Range>| {
            !range.is_durable() && range.counters.cold.load(Relaxed) > 0 && evicts_any(range)
        };
        self.ranges.load().iter().any(may)
    }

    /// For a write that is over a limit: drops a generation at once, unless it has become needless meanwhile. False when
    /// none may go, or when the sealer is busy for longer.
    pub(super) fn evict_sealed(&self, over: impl Fn() -> bool, only: Option<&str>) -> bool {
        if !self.may_sealed_go() {
            return false;
        }
        let Some(mut sealer) = self.sealing.hold_soon() else {
            return false;
        };
        !over() || noted(self.drop_coldest(&mut sealer, only))
    }

    /// As `evict_sealed`, for a write that would be refused otherwise: waits for the sealer, and finds out whose rows
    /// are in the generations of which that is not known.
    pub(super) fn evict_sealed_at_last(&self, over: impl Fn() -> bool, only: Option<&str>) -> bool {
        if !self.may_sealed_go() || held::is_active() {
            return false;
        }
        let mut sealer = may_wait(|| self.sealing.hold());
        if !over() || noted(self.drop_coldest(&mut sealer, only)) {
            return true;
        }
        let mixed = self.plain.generations();
        let mut mixed = mixed
            .into_iter()
            .filter(|generation| generation.mixed.load(Relaxed));
        mixed.any(|generation| {
            let moved = may_wait(|| self.move_all_rows(&mut sealer, &generation));
            noted(moved.and_then(|()| self.drop_coldest(&mut sealer, only)))
        })
    }

    /// Takes a generation out with every key that is still in it, and counts them as evicted. All are of the range that
    /// it is named after.
    fn drop_generation(&self, generation: &Arc<Generation>) {
        let map = self.ranges.load();
        let range = map.by_name(&generation.class.range);
        for shard in 0..self.shards.len() {
            self.drop_from_shard(shard, generation, range.map(|range| &**range));
        }
        let bytes = generation.live_bytes.iter().map(|bytes| bytes.swap(0, Relaxed));
        let bytes: i64 = bytes.sum();
        if let Some(range) = range {
            range.counters.sealed_bytes.fetch_sub(bytes, Relaxed);
        }
        self.plain.remove(generation);
    }

    // ---- What no longer counts ----------------------------------------------------------------------------------

    /// Nothing of these databases counts any more: they are being flushed, every shard is locked. The shards' slots
    /// follow (`SealedRows::forget_databases`), and the bytes of the generations that are returned: their keys alone
    /// tell their range.
    pub(super) fn clear_generations(&self, physical: &[u8]) -> Vec<u16> {
        let map = self.ranges.load();
        let mut mixed = Vec::new();
        for generation in self.plain.generations() {
            let is_mixed = generation.mixed.load(Relaxed);
            for db in physical {
                generation.live[*db as usize].store(0, Relaxed);
                let bytes = generation.live_bytes[*db as usize].swap(0, Relaxed);
                let range = map.by_name(&generation.class.range);
                if let Some(range) = range.filter(|_| !is_mixed) {
                    range.counters.sealed_bytes.fetch_sub(bytes, Relaxed);
                }
            }
            mixed.extend(is_mixed.then_some(generation.id));
        }
        self.sealing.wake();
        mixed
    }

    /// Takes out the generations in which nothing counts.
    pub fn drop_empty_generations(&self) -> Result<(), StoreError> {
        self.drop_empty(&mut self.sealing.hold())
    }

    /// Moves everything out of the generations whose keys may be of several ranges.
    pub(super) fn unmix(&self) -> Result<(), StoreError> {
        let mut sealer = self.sealing.hold();
        for generation in self.plain.generations() {
            if generation.mixed.load(Relaxed) {
                self.move_all_rows(&mut sealer, &generation)?;
            }
        }
        Ok(())
    }

    fn move_all_rows(&self, sealer: &mut Sealer, generation: &Arc<Generation>) -> Result<(), StoreError> {
        (0..self.shards.len()).try_for_each(|shard| self.move_rows(sealer, generation, shard))
    }

    fn drop_empty(&self, sealer: &mut Sealer) -> Result<(), StoreError> {
        for generation in self.plain.generations() {
            if generation.live_rows() == 0 && generation.written.load(Relaxed) > 0 {
                sealer.open.retain(|open| open.id != generation.id);
                self.drop_generation(&generation);
            }
        }
        Ok(())
    }

    /// Moves what counts out of a generation that is mostly rows which do not, or whose keys are of other ranges by now.
    /// True when there is more to move.
    fn clean(&self, sealer: &mut Sealer, pass: &mut Pass, began: Instant) -> Result<bool, StoreError> {
        // Between two passes others may have taken it out; then its number may be that of another one by now.
        if pass
            .cleaning
            .as_ref()
            .is_none_or(|(generation, _)| generation.is_gone())
        {
            let wants = |generation: &Arc<Generation>| {
                let sparse = (generation.live_bytes() as u64) < generation.written.load(Relaxed) / 2;
                generation.closed.load(Relaxed) && (sparse || generation.mixed.load(Relaxed))
            };
            pass.cleaning = self
                .plain
                .generations()
                .into_iter()
                .find(wants)
                .map(|generation| (generation, 0));
        }
        let Some((generation, next)) = &mut pass.cleaning else {
            return Ok(false);
        };
        while *next < self.shards.len() {
            if began.elapsed() > WORK {
                return Ok(true);
            }
            self.move_rows(sealer, generation, *next)?;
            *next += 1;
        }
        let done = pass.cleaning.take();
        if let Some((generation, _)) = done.filter(|(generation, _)| generation.live_rows() == 0) {
            self.drop_generation(&generation);
        }
        Ok(true)
    }

    /// Moves the rows of a shard out of a generation. What cannot be moved becomes resident.
    fn move_rows(&self, sealer: &mut Sealer, from: &Arc<Generation>, shard: usize) -> Result<(), StoreError> {
        let slots: Vec<Slot> = {
            let state = self.shards[shard].lock();
            let all = state.sealed.iter().flat_map(|sealed| sealed.directory.iter());
            all.filter(|slot| slot.live && slot.generation == from.id)
                .collect()
        };
        for slots in slots.chunks(PORTION) {
            let mut moved: Vec<Moved> = Vec::with_capacity(slots.len());
            let mut batches: Vec<(Arc<Generation>, PlainBatch)> = Vec::new();
            let mut failed = None;
            self.visit_slots(shard, slots, |slot, hash, key, row, bytes| {
                let class = Class {
                    range: self.ranges.load().find(key).spec.name.clone(),
                    expires: row.expiry.is_some(),
                };
                match self.open_for(sealer, class) {
                    Ok(Some(to)) if self.reserve_free(shard, slot, &to) => {
                        let at = batches.iter().position(|(generation, _)| generation.id == to.id);
                        let at = at.unwrap_or_else(|| {
                            batches.push((to.clone(), to.batch()));
                            batches.len() - 1
                        });
                        let about = (row.expiry, row.origin, row.is_object);
                        let bucket = sealed::bucket(shard, self.shards.len(), slot.fragment, slot.db);
                        let put = |out: &mut Vec<u8>| out.extend_from_slice(row.payload);
                        let written = batches[at].1.put(bucket, key, about, put);
                        moved.push(Moved {
                            hash,
                            slot: *slot,
                            key: key.to_vec(),
                            to,
                            bytes: (bytes, written),
                        });
                    }
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
            })?;
            failed.map_or(Ok(()), Err)?;
            for (generation, batch) in batches {
                generation.write(batch)?;
            }
            let mut state = self.shards[shard].lock();
            for one in &moved {
                self.settle_moved(&mut state, from, one);
            }
        }
        self.load_rest(shard, from)
    }

    /// Gives a row its slot in a newer generation; false when there is one like it.
    fn reserve_free(&self, shard: usize, slot: &Slot, to: &Generation) -> bool {
        let mut state = self.shards[shard].lock();
        let directory = &mut state.sealed.get_or_insert_default().directory;
        let free = directory.find(slot.fragment, to.id).is_none();
        if free {
            directory.put(Slot {
                generation: to.id,
                live: false,
                ..*slot
            });
        }
        free
    }

    /// The row is written: it takes the place of the old one, if that counts still.
    fn settle_moved(&self, state: &mut ShardState, from: &Generation, one: &Moved) {
        let Some(sealed) = &mut state.sealed else { return };
        let old = sealed.directory.find(one.slot.fragment, from.id);
        if old.is_none_or(|old| !old.live) || one.slot.fragment != fragment(one.hash) {
            return;
        }
        sealed.directory.put(Slot {
            live: false,
            ..one.slot
        });
        sealed.directory.put(Slot {
            generation: one.to.id,
            live: true,
            ..one.slot
        });
        state.epoch = state.epoch.wrapping_add(1);
        let map = self.ranges.load();
        let range = map.find(&one.key);
        count_row(range, from, one.slot.db, one.bytes.0, -1);
        count_row(range, &one.to, one.slot.db, one.bytes.1, 1);
    }

    /// Makes resident what could not be moved: keys that have another's slot.
    fn load_rest(&self, shard: usize, from: &Arc<Generation>) -> Result<(), StoreError> {
        let now_ms = crate::journal::unix_ms() as i64;
        let (epoch, slots) = {
            let state = self.shards[shard].lock();
            let all = state.sealed.iter().flat_map(|sealed| sealed.directory.iter());
            let left = all.filter(|slot| slot.live && slot.generation == from.id);
            (state.epoch, left.collect::<Vec<Slot>>())
        };
        let mut keys = Vec::new();
        self.visit_slots(shard, &slots, |slot, hash, key, _, _| {
            keys.push((slot.db, hash, key.to_vec()));
        })?;
        let mut expected = epoch;
        for (db, hash, key) in keys {
            let guest = self.read_sealed((db, hash, &key), (expected, &[from.id]), now_ms)?;
            let mut state = self.shards[shard].lock();
            if let Some(guest) = guest.filter(|_| state.epoch == expected) {
                self.unseal(&mut state, guest);
                expected = state.epoch;
            }
        }
        Ok(())
    }
}

/// Whether a generation was dropped, where an error means that none was.
fn noted(dropped: Result<bool, StoreError>) -> bool {
    dropped.unwrap_or_else(|error| {
        log::error!("eviction: {error}");
        false
    })
}

/// Drops the slots of a generation from a shard; all its keys that count are of this range.
pub(super) fn drop_slots(state: &mut ShardState, generation: &Generation, range: Option<&Range>) {
    let Some(sealed) = &mut state.sealed else { return };
    let mut gone = [0i64; DBS];
    sealed.directory.retain(|slot| {
        let is_it = slot.generation == generation.id;
        gone[slot.db as usize] += i64::from(is_it && slot.live);
        !is_it
    });
    let total: i64 = gone.iter().sum();
    let Some(range) = range.filter(|_| total > 0) else {
        return;
    };
    state.epoch = state.epoch.wrapping_add(1);
    let counters = &range.counters;
    for (db, count) in gone.iter().enumerate().filter(|(_, count)| **count > 0) {
        counters.keys[db].fetch_sub(*count, Relaxed);
        if generation.class.expires {
            counters.expires[db].fetch_sub(*count, Relaxed);
        }
        generation.live[db].fetch_sub(*count, Relaxed);
    }
    counters.cold.fetch_sub(total, Relaxed);
    counters.evicted.fetch_add(total as u64, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::super::tx::Expiry;
    use super::super::{Call, Effects, Elements, testing};
    use super::*;
    use crate::config::RangeSpec;

    const KEYS: usize = 300;

    fn memory_keyspace(dir: &std::path::Path) -> Keyspace {
        let spec = RangeSpec::parse(&[b"m", b"m:", b"memory"]).expect("a range");
        testing::keyspace(dir, &[spec])
    }

    fn with_key<R>(keyspace: &Keyspace, key: &[u8], run: impl FnOnce(&mut super::super::Tx<'_>) -> R) -> R {
        let (keys, mut effects) = ([key], Effects::default());
        let call = Call {
            db: 0,
            now_ms: 1_700_000_000_000,
            keys: &keys,
            received: &[],
            elements: Elements::None,
            replay: None,
        };
        let mut tx = keyspace.begin(call, &mut effects).expect("reads");
        let out = run(&mut tx);
        tx.commit();
        out
    }

    fn key(i: usize) -> Vec<u8> {
        format!("m:{i}").into_bytes()
    }

    fn fill(keyspace: &Keyspace, value: &[u8]) {
        for i in 0..KEYS {
            with_key(keyspace, &key(i), |tx| tx.put(&key(i), value, Expiry::Clear));
        }
        assert_eq!(keyspace.seal_all().expect("seals"), KEYS as u64);
    }

    fn value(keyspace: &Keyspace, i: usize) -> Option<Vec<u8>> {
        with_key(keyspace, &key(i), |tx| {
            tx.lookup(&key(i)).map(|entry| entry.value().to_vec())
        })
    }

    #[test]
    fn cleaning_ends_with_its_generation_whose_number_may_be_given_away() {
        let dir = tempfile::tempdir().expect("temp dir");
        let keyspace = memory_keyspace(dir.path());
        fill(&keyspace, b"old");
        let first = keyspace.plain.generation(1).expect("sealed");
        // A pass has moved what there was to move from it, and has not dropped it yet.
        let mut pass = Pass {
            cleaning: Some((first.clone(), keyspace.shards.len())),
            ..Pass::default()
        };
        for i in 0..KEYS {
            assert!(with_key(&keyspace, &key(i), |tx| tx.delete(&key(i))));
        }
        keyspace.drop_empty_generations().expect("drops");
        fill(&keyspace, b"new");
        let second = keyspace.plain.generation(1).expect("sealed");
        assert!(first.is_gone() && second.order > first.order);
        let mut sealer = keyspace.sealing.hold();
        keyspace
            .clean(&mut sealer, &mut pass, Instant::now())
            .expect("cleans");
        drop(sealer);
        assert_eq!(second.live_rows(), KEYS as i64);
        for i in 0..KEYS {
            assert_eq!(value(&keyspace, i).as_deref(), Some(&b"new"[..]), "{i}");
        }
    }

    #[test]
    fn what_no_longer_counts_is_not_taken_over_and_everything_else_is() {
        let dir = tempfile::tempdir().expect("temp dir");
        let keyspace = memory_keyspace(dir.path());
        for i in 0..KEYS {
            with_key(&keyspace, &key(i), |tx| tx.put(&key(i), b"old", Expiry::Clear));
        }
        {
            let mut sealer = keyspace.sealing.hold();
            for shard in 0..keyspace.shards.len() {
                keyspace
                    .seal_shard(&mut sealer, shard, |_, _| true)
                    .expect("seals");
            }
        }
        let generation = keyspace.plain.generation(1).expect("sealed");
        for i in (0..KEYS).filter(|i| i % 3 == 0) {
            assert!(with_key(&keyspace, &key(i), |tx| tx.delete(&key(i))));
        }
        let (written, live) = (generation.written.load(Relaxed), generation.live_bytes());
        keyspace.seal_all().expect("seals");
        assert!(generation.table().is_some());
        assert!(generation.written.load(Relaxed) < written);
        assert_eq!(generation.written.load(Relaxed), live as u64);
        for i in 0..KEYS {
            let expected = (i % 3 != 0).then_some(&b"old"[..]);
            assert_eq!(value(&keyspace, i).as_deref(), expected, "{i}");
        }
        // Read a second time they become resident, and count no more where they were.
        for i in 0..KEYS {
            assert_eq!(value(&keyspace, i).is_some(), i % 3 != 0, "{i}");
        }
        assert!(generation.live_bytes() < live);
        let (rows, bytes) = keyspace.count_sealed();
        let counters = &keyspace.ranges.load().by_name("m").expect("the range").clone();
        assert_eq!(counters.counters.cold.load(Relaxed), rows);
        assert_eq!(counters.counters.sealed_bytes.load(Relaxed), bytes);
    }
}
