//! Sealing: entries of memory ranges that have gone cold move into the plain store, and back when they are used.
//!
//! ```text
//! choose      a shard is locked: cold entries, and a slot for each that may have a row in the generation
//! reserve     locked again: each has its slot, which does not count yet, and SEALING; its row is in the batch
//! write       no lock: the batch goes to the generations
//! trade       locked again: an entry that is still SEALING leaves; its slot counts
//! ```
//!
//! Whatever changes an entry takes SEALING off it (`tx::settle`), so a row that is late never counts. A row that does
//! not count is never read, and its memory comes back with its generation: when nothing in it counts, when it is
//! evicted, or when more than half of it is such rows and the rest is moved to a newer one (see `generations`).
//!
//! The row of a key counts until the key is written, deleted or loaded, and is then only taken out of the directory: no
//! store is written for it. So every change of a sealed key is right at once, and counts are exact.
//!
//! One thread at a time does any of this (`SealState::one`). It holds a shard for the few microseconds that some dozen
//! small entries take, never while a store is written, and rests as long as it works.

use super::entry::{Entry, NewValue, SEALING};
use super::held;
use super::range::{Range, RangeMap};
use super::sealed::{self, Slot, fragment, origin_bits, origin_flags};
use super::shard::{KeyHasher, ShardGuard, ShardState, shard_of};
use super::{Keyspace, StoreError, clock};
use crate::object::codec;
use crate::store::plain::{Bucket, Class, Generation, PlainBatch, PlainRow};
use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

/// Entries that are sealed together, while their shard is locked.
const PORTION: usize = 48;
/// And their bytes, about: while their rows are written, they are in memory twice.
const PORTION_BYTES: usize = 256 << 10;
/// Entries looked at while a shard is locked.
const LOOK: usize = 192;
/// Larger entries stay resident: to write one would hold its shard for long.
const ENTRY_MOST: usize = 256 << 10;
/// Bytes of rows in one generation: at the most, and at the least before another one begins.
const GENERATION_MOST: u64 = 1 << 30;
const GENERATION_LEAST: u64 = 2 << 20;
/// Generations that a limit of memory is divided into: so much goes at once when it is reached, and so much is in memory
/// twice while it is taken over. Without a limit, that what is sealed is divided into.
const GENERATIONS: u64 = 64;
const GENERATION_UNLIMITED: u64 = 64 << 20;
const GENERATION_TESTED: u64 = 4 << 10;

#[derive(Default)]
pub struct SealState {
    one: Mutex<Sealer>,
    /// Seconds without use after which an entry is sealed; 0 is never.
    after_seconds: AtomicU32,
    /// Whatever can be sealed is, at once: for tests.
    everything: AtomicBool,
    /// Some generation may be evicted.
    evictable: AtomicBool,
    stopping: AtomicBool,
    asked: AtomicBool,
    resting: Mutex<()>,
    wake: Condvar,
}

/// What who seals remembers.
#[derive(Default)]
pub(super) struct Sealer {
    /// Generations that take rows.
    pub(super) open: Vec<Arc<Generation>>,
    /// Full ones, whose rows are to be merged.
    pub(super) full: Vec<Arc<Generation>>,
}

impl SealState {
    pub(super) fn set_after(&self, seconds: u32) {
        self.after_seconds.store(seconds, Relaxed);
    }

    pub(super) fn after_seconds(&self) -> u32 {
        self.after_seconds.load(Relaxed)
    }

    /// From now on entries are sealed as soon as they are written.
    pub fn set_everything(&self, on: bool) {
        self.everything.store(on, Relaxed);
        self.wake();
    }

    pub(super) fn seals_everything(&self) -> bool {
        self.everything.load(Relaxed)
    }

    pub(super) fn set_evictable(&self, any: bool) {
        self.evictable.store(any, Relaxed);
    }

    pub(super) fn is_evictable(&self) -> bool {
        self.evictable.load(Relaxed)
    }

    /// The thread has something to do.
    pub(super) fn wake(&self) {
        if !self.asked.swap(true, Relaxed) {
            let _resting = self.resting.lock();
            self.wake.notify_one();
        }
    }

    /// Sleeps, unless there is something to do.
    pub(super) fn rest(&self, most: Duration) {
        let mut resting = self.resting.lock();
        if !self.asked.swap(false, Relaxed) {
            self.wake.wait_for(&mut resting, most);
        }
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Relaxed);
        self.wake();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// As `hold`, for who cannot wait long.
    pub(super) fn hold_soon(&self) -> Option<parking_lot::MutexGuard<'_, Sealer>> {
        const SOON: Duration = Duration::from_millis(20);
        self.one.try_lock_for(SOON)
    }

    /// Holds off sealing.
    pub(super) fn hold(&self) -> parking_lot::MutexGuard<'_, Sealer> {
        self.one.lock()
    }
}

/// A sealed key that was read: what its entry would be.
pub struct Guest {
    pub hash: u64,
    /// It holds while the shard's epoch is this one.
    pub epoch: u32,
    /// Bytes of its row.
    pub(super) bytes: u32,
    pub(super) generation: u16,
    pub entry: Entry,
}

/// An entry that is to be sealed.
struct Chosen {
    hash: u64,
    db: u8,
    key: SmallVec<[u8; 32]>,
    generation: Arc<Generation>,
    /// The generation may have a row of it, or one of another key in its place.
    is_taken: bool,
    /// Bytes of its row, once it is written.
    bytes: u32,
}

/// A sealed key and its row, read without a lock.
pub struct SealedKey {
    pub hash: u64,
    pub key: Vec<u8>,
    pub expiry: Option<i64>,
    is_object: bool,
    payload: Vec<u8>,
}

impl SealedKey {
    /// The name of its type, as `TYPE` gives it.
    pub fn kind(&self) -> Result<&'static str, StoreError> {
        match self.is_object {
            true => codec::type_name(&self.payload).map_err(StoreError::new),
            false => Ok("string"),
        }
    }

    /// The bytes of a string; none of another type.
    pub fn value(&self) -> Option<&[u8]> {
        (!self.is_object).then_some(&self.payload[..])
    }
}

/// The sealed keys of a shard in one database, those with the lowest fragments first.
#[derive(Default)]
pub struct SealedPart {
    pub keys: Vec<SealedKey>,
    /// There are more, from this fragment on.
    pub next: Option<u32>,
}

/// Generations to read rows from; they stay as long as this is held.
pub struct SealedRows {
    generations: Vec<Arc<Generation>>,
    hasher: KeyHasher,
    shards: usize,
}

impl SealedRows {
    /// Hands slot, hash, key, row and bytes of each slot to `visit`.
    pub(super) fn visit(
        &self,
        shard: usize,
        slots: &[Slot],
        mut visit: impl FnMut(&Slot, u64, &[u8], PlainRow<'_>, u32),
    ) -> Result<(), StoreError> {
        let mut slots: Vec<&Slot> = slots.iter().collect();
        slots.sort_by_key(|slot| slot.generation);
        for slots in slots.chunk_by(|a, b| a.generation == b.generation) {
            let is_it = |generation: &&Arc<Generation>| generation.id == slots[0].generation;
            let Some(generation) = self.generations.iter().find(is_it) else {
                continue;
            };
            let rows = generation.rows()?;
            let mut reader = rows.reader();
            for slot in slots {
                let bucket = sealed::bucket(shard, self.shards, slot.fragment, slot.db);
                reader.visit(bucket, |key, row, bytes| {
                    let hash = self.hasher.hash(slot.db, key);
                    let is_it = fragment(hash) == slot.fragment && shard_of(hash, self.shards) == shard;
                    if is_it {
                        visit(slot, hash, key, row, bytes);
                    }
                    is_it
                })?;
            }
        }
        Ok(())
    }
}

impl SealedRows {
    /// The sealed keys of a shard that `wanted` accepts, which are of this range, are gone.
    pub(super) fn forget_keys(
        &self,
        state: &mut ShardState,
        shard: usize,
        range: &Range,
        wanted: impl Fn(&[u8]) -> bool,
    ) {
        let Some(sealed) = &mut state.sealed else { return };
        let live: Vec<Slot> = sealed.directory.iter().filter(|slot| slot.live).collect();
        let mut gone: Vec<(Slot, u32)> = Vec::new();
        let read = self.visit(shard, &live, |slot, _, key, _, bytes| {
            if wanted(key) {
                gone.push((*slot, bytes));
            }
        });
        if let Err(error) = read {
            log::error!("sealed keys could not be read, and stay: {error}");
        }
        for (slot, bytes) in gone {
            sealed.directory.put(Slot { live: false, ..slot });
            let generations = self.generations.iter();
            for generation in generations.filter(|generation| generation.id == slot.generation) {
                count_row(range, generation, slot.db, bytes, -1);
            }
        }
    }

    /// No sealed key of these databases counts in a shard any more. Their generations count none already; the bytes of
    /// keys in mixed ones are still to be taken off their ranges.
    pub(super) fn forget_databases(
        &self,
        state: &mut ShardState,
        shard: usize,
        (databases, mixed): (&[u8], &[u16]),
        map: &RangeMap,
    ) {
        let Some(sealed) = &mut state.sealed else { return };
        if !mixed.is_empty() {
            let goes =
                |slot: &Slot| slot.live && databases.contains(&slot.db) && mixed.contains(&slot.generation);
            let slots: Vec<Slot> = sealed.directory.iter().filter(goes).collect();
            let read = self.visit(shard, &slots, |_, _, key, _, bytes| {
                let counters = &map.find(key).counters;
                counters.sealed_bytes.fetch_sub(bytes.into(), Relaxed);
            });
            if let Err(error) = read {
                log::error!("sealed keys could not be read, and their bytes stay counted: {error}");
            }
        }
        sealed
            .directory
            .for_each_mut(|slot| slot.live &= !databases.contains(&slot.db));
    }
}

/// Counts a row that begins to count, or ends.
pub(super) fn count_row(range: &Range, generation: &Generation, db: u8, bytes: u32, sign: i64) {
    let bytes = i64::from(bytes) * sign;
    generation.live[db as usize].fetch_add(sign, Relaxed);
    generation.live_bytes[db as usize].fetch_add(bytes, Relaxed);
    range.counters.cold.fetch_add(sign, Relaxed);
    range.counters.sealed_bytes.fetch_add(bytes, Relaxed);
}

impl Keyspace {
    #[inline]
    pub(super) fn bucket_of(&self, hash: u64, db: u8) -> Bucket {
        sealed::bucket(self.shard_of(hash), self.shards.len(), fragment(hash), db)
    }

    // ---- Reading ------------------------------------------------------------------------------------------------

    /// Reads a sealed key from one of the generations that may have it. Called without locks.
    pub(super) fn read_sealed(
        &self,
        (db, hash, key): (u8, u64, &[u8]),
        (epoch, generations): (u32, &[u16]),
        now_ms: i64,
    ) -> Result<Option<Guest>, StoreError> {
        for id in generations {
            let Some(generation) = self.plain.generation(*id) else {
                continue;
            };
            let guest = |row: PlainRow<'_>, bytes: u32| -> Result<Guest, StoreError> {
                Ok(Guest {
                    hash,
                    epoch,
                    bytes,
                    generation: *id,
                    entry: self.entry_of_sealed((db, key), &row, now_ms)?,
                })
            };
            if let Some(guest) = generation.get(self.bucket_of(hash, db), key, guest)? {
                return guest.map(Some);
            }
        }
        Ok(None)
    }

    pub(super) fn entry_of_sealed(
        &self,
        (db, key): (u8, &[u8]),
        row: &PlainRow<'_>,
        now: i64,
    ) -> Result<Entry, StoreError> {
        let clock = clock::fresh(self.tick(now));
        if row.is_object {
            let object = codec::decode_object(row.payload, &self.object_limits()).map_err(StoreError::new)?;
            return Ok(Entry::with_value(
                db,
                key,
                NewValue::Object(object),
                row.expiry,
                clock,
            ));
        }
        let mut entry = Entry::new(db, key, row.payload, row.expiry, clock);
        entry.set(origin_flags(row.origin), true);
        Ok(entry)
    }

    /// Makes a sealed key resident; the guest must hold still.
    pub(super) fn unseal(&self, state: &mut ShardState, guest: Guest) {
        let Guest { hash, mut entry, .. } = guest;
        let map = self.ranges.load();
        let range = map.find(entry.key());
        let (db, id) = (entry.db(), guest.generation);
        if let Some(sealed) = &mut state.sealed {
            sealed.directory.put(Slot {
                fragment: fragment(hash),
                generation: id,
                db,
                live: false,
            });
        }
        state.epoch = state.epoch.wrapping_add(1);
        if let Some(generation) = self.plain.generation(id) {
            count_row(range, &generation, db, guest.bytes, -1);
        }
        range.counters.loaded.fetch_add(1, Relaxed);
        self.count_bytes(range, 0, entry.size());
        // The item that it had in the expiry index when it was sealed is there still.
        entry.set(super::entry::INDEXED, entry.next_expiry().is_some());
        state.insert(hash, entry);
    }

    /// Locks a shard together with what it has sealed in a database, from a fragment on: at least `most` keys, if there
    /// are so many. Both are of one moment.
    pub(super) fn lock_with_sealed(
        &self,
        shard: usize,
        db: u8,
        (from, most): (u32, usize),
    ) -> Result<(ShardGuard<'_>, SealedPart), StoreError> {
        /// Reads without the lock, before a busy shard is read under it.
        const TRIES: usize = 4;
        let mut tries = 0;
        loop {
            let state = self.shards[shard].lock();
            let slots = slots_from(&state, db, from);
            let taken = whole_fragments(&slots, most);
            let next = slots.get(taken).map(|slot| slot.fragment);
            if taken == 0 {
                let keys = Vec::new();
                return Ok((state, SealedPart { keys, next }));
            }
            let epoch = state.epoch;
            if tries == TRIES {
                let keys = self.read_slots(shard, &slots[..taken])?;
                return Ok((state, SealedPart { keys, next }));
            }
            drop(state);
            let read = self.read_slots(shard, &slots[..taken]);
            let state = self.shards[shard].lock();
            if state.epoch == epoch {
                let keys = read?;
                return Ok((state, SealedPart { keys, next }));
            }
            tries += 1;
        }
    }

    /// The keys of slots and their rows.
    fn read_slots(&self, shard: usize, slots: &[Slot]) -> Result<Vec<SealedKey>, StoreError> {
        let mut found = Vec::with_capacity(slots.len());
        self.visit_slots(shard, slots, |_, hash, key, row, _| {
            found.push(SealedKey {
                hash,
                key: key.to_vec(),
                expiry: row.expiry,
                is_object: row.is_object,
                payload: row.payload.to_vec(),
            });
        })?;
        Ok(found)
    }

    /// Hands slot, hash, key, row and bytes of each slot to `visit`.
    pub(super) fn visit_slots(
        &self,
        shard: usize,
        slots: &[Slot],
        visit: impl FnMut(&Slot, u64, &[u8], PlainRow<'_>, u32),
    ) -> Result<(), StoreError> {
        if slots.is_empty() {
            return Ok(());
        }
        self.sealed_rows().visit(shard, slots, visit)
    }

    /// The generations as they are now, to read rows from them.
    pub(super) fn sealed_rows(&self) -> SealedRows {
        SealedRows {
            generations: self.plain.generations(),
            hasher: self.hasher.clone(),
            shards: self.shards.len(),
        }
    }

    /// Some sealed key of a database, from a shard chosen at random or one behind it.
    pub(super) fn random_sealed(&self, db: u8, now_ms: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let start = fastrand::usize(..self.shards.len());
        for at in 0..self.shards.len() {
            let shard = (start + at) & (self.shards.len() - 1);
            let from = fastrand::u32(..1 << sealed::FRAGMENT_BITS);
            for from in [from, 0] {
                let (_state, part) = self.lock_with_sealed(shard, db, (from, 1))?;
                let live = |key: &SealedKey| key.expiry.is_none_or(|at| at > now_ms);
                if let Some(key) = part.keys.into_iter().find(live) {
                    return Ok(Some(key.key));
                }
            }
        }
        Ok(None)
    }

    /// True when some key of a memory range is sealed.
    pub(super) fn any_sealed(&self) -> bool {
        let sealed = |range: &Arc<Range>| !range.is_durable() && range.counters.cold.load(Relaxed) > 0;
        self.ranges.load().iter().any(sealed)
    }

    /// How many generations there are.
    pub fn plain_generations(&self) -> usize {
        self.plain.generations().len()
    }

    /// How many rows of the plain store count, and their bytes: counted, where `RangeCounters` only adds up.
    pub fn count_sealed(&self) -> (i64, i64) {
        let live = |state: &ShardState| {
            let slots = state.sealed.iter().flat_map(|sealed| sealed.directory.iter());
            slots.filter(|slot| slot.live).count() as i64
        };
        let keys = self.shards.iter().map(|shard| live(&shard.lock())).sum();
        let generations = self.plain.generations();
        (keys, generations.iter().map(|of| of.live_bytes()).sum())
    }

    /// At the end nobody waits for a shard. What is about to leave for disk stays resident.
    pub(super) fn is_sealable(&self, entry: &Entry) -> bool {
        !entry.is_absent()
            && (entry.size() <= ENTRY_MOST || self.sealing.is_stopping())
            && (!self.moves.is_any() || !self.ranges.load().find(entry.key()).stays_resident())
    }

    // ---- Sealing ------------------------------------------------------------------------------------------------

    /// Seals every entry of memory ranges that can be, and settles the store. Returns how many.
    pub fn seal_all(&self) -> Result<u64, StoreError> {
        /// What has another's slot in one generation goes to the next. The few that would stay could keep a good part of
        /// the allocator's pages from being given back.
        const ROUNDS: usize = 3;
        if held::is_active() {
            // The sealer may be waiting for a shard that this thread holds.
            return Err(StoreError::new("this cannot be done within a transaction"));
        }
        let mut sealer = self.sealing.one.lock();
        let mut count = 0;
        for _ in 0..ROUNDS {
            let sealed = self.seal_round(&mut sealer)?;
            if sealed == 0 {
                break;
            }
            count += sealed;
        }
        Ok(count)
    }

    /// Seals what the open generations take, closes and settles them.
    fn seal_round(&self, sealer: &mut Sealer) -> Result<u64, StoreError> {
        let mut count = 0;
        for shard in 0..self.shards.len() {
            // What leaves a table moves others to where this has been: until nothing is found any more.
            loop {
                let sealed = self.seal_shard(sealer, shard, |_, _| true)?;
                count += sealed;
                if sealed == 0 {
                    break;
                }
            }
            // One after the other, so that RocksDB's copy of no two is there beside the table.
            self.settle_all(std::mem::take(&mut sealer.full))?;
        }
        let open = std::mem::take(&mut sealer.open);
        for generation in &open {
            generation.closed.store(true, Relaxed);
        }
        self.settle_all(open)?;
        Ok(count)
    }

    fn settle_all(&self, generations: Vec<Arc<Generation>>) -> Result<(), StoreError> {
        for generation in generations {
            match generation.is_to_be_taken_over() {
                true => self.take_generation_over(&generation)?,
                false => generation.settle()?,
            }
            self.plain.measure(&generation);
        }
        Ok(())
    }

    /// Seals entries of a shard that are wanted, most of them. Returns how many.
    pub(super) fn seal_shard(
        &self,
        sealer: &mut Sealer,
        shard: usize,
        wanted: impl Fn(&Entry, &Range) -> bool,
    ) -> Result<u64, StoreError> {
        let (mut count, mut bucket) = (0, Some(0));
        while let Some(from) = bucket {
            let (chosen, next) = self.choose(sealer, shard, from, &wanted)?;
            count += self.seal_chosen(shard, chosen)?;
            bucket = next;
        }
        Ok(count)
    }

    /// Chooses entries of a shard, from a bucket of its table on; the bucket to go on from, if any are left.
    fn choose(
        &self,
        sealer: &mut Sealer,
        shard: usize,
        bucket: usize,
        wanted: impl Fn(&Entry, &Range) -> bool,
    ) -> Result<(Vec<Chosen>, Option<usize>), StoreError> {
        let map = self.ranges.load();
        let mut found: Vec<(u64, u8, SmallVec<[u8; 32]>, Class)> = Vec::new();
        let next = {
            let state = self.shards[shard].lock();
            let (mut looked, mut bytes, mut at) = (0, 0, bucket);
            while at < state.table.buckets()
                && looked < LOOK
                && found.len() < PORTION
                && bytes < PORTION_BYTES
            {
                for entry in state.table.bucket(at) {
                    looked += 1;
                    let range = map.find(entry.key());
                    if !range.is_durable() && self.is_sealable(entry) && wanted(entry, range) {
                        let class = Class {
                            range: range.spec.name.clone(),
                            expires: entry.expiry().is_some(),
                        };
                        bytes += entry.size();
                        found.push((self.hasher.of(entry), entry.db(), entry.key().into(), class));
                    }
                }
                at += 1;
            }
            (at < state.table.buckets()).then_some(at)
        };
        let mut chosen = Vec::with_capacity(found.len());
        for (hash, db, key, class) in found {
            if let Some(generation) = self.open_for(sealer, class)? {
                chosen.push(Chosen {
                    hash,
                    db,
                    key,
                    generation,
                    is_taken: false,
                    bytes: 0,
                });
            }
        }
        Ok((chosen, next))
    }

    /// The generation that takes rows of a class.
    pub(super) fn open_for(
        &self,
        sealer: &mut Sealer,
        class: Class,
    ) -> Result<Option<Arc<Generation>>, StoreError> {
        let full = self.generation_bytes(&class);
        if let Some(at) = sealer.open.iter().position(|open| open.class == class) {
            let open = &sealer.open[at];
            if !open.closed.load(Relaxed) && open.written.load(Relaxed) < full {
                return Ok(Some(open.clone()));
            }
            let done = sealer.open.swap_remove(at);
            done.closed.store(true, Relaxed);
            sealer.full.push(done);
        }
        self.begin_directories();
        let generation = self.plain.create(class)?;
        sealer.open.extend(generation.clone());
        Ok(generation)
    }

    /// Gives every shard its directory at once. Made one by one while entries leave, each would take the place of one in
    /// the allocator's pages, and keep a whole page of them: that was eight bytes a key.
    fn begin_directories(&self) {
        for shard in &self.shards {
            shard.lock().sealed.get_or_insert_default();
        }
    }

    /// Bytes of rows after which a generation is full.
    pub(super) fn generation_bytes(&self, class: &Class) -> u64 {
        if self.sealing.seals_everything() && self.plain_generations() < GENERATIONS as usize {
            // Where that is tested, tables are read too.
            return GENERATION_TESTED;
        }
        let map = self.ranges.load();
        let own = map
            .by_name(&class.range)
            .map_or(0, |range| range.policy.maxmemory);
        let limits = [self.limits.maxmemory.load(Relaxed), own];
        let least = limits.into_iter().filter(|limit| *limit > 0).min();
        let full = match least {
            Some(limit) => (limit / GENERATIONS).max(GENERATION_LEAST),
            None if self.plain.is_in_folder() => GENERATION_MOST,
            None => (self.plain.memory_bytes() / GENERATIONS).max(GENERATION_UNLIMITED),
        };
        full.min(GENERATION_MOST)
    }

    /// Seals entries of one shard that are still there. Returns how many.
    fn seal_chosen(&self, shard: usize, mut chosen: Vec<Chosen>) -> Result<u64, StoreError> {
        if chosen.is_empty() {
            return Ok(0);
        }
        self.drop_twins(shard, &mut chosen)?;
        let mut batches: Vec<(Arc<Generation>, PlainBatch)> = Vec::new();
        {
            let mut state = self.shards[shard].lock();
            chosen.retain_mut(|one| self.reserve(&mut state, one, &mut batches));
        }
        let written = batches.into_iter().try_for_each(|(generation, batch)| {
            let written = generation.write(batch);
            self.plain.measure(&generation);
            written
        });
        let mut state = self.shards[shard].lock();
        let mut count = 0;
        for one in &chosen {
            count += u64::from(self.trade(&mut state, one, written.is_ok()));
        }
        drop(state);
        written?;
        Ok(count)
    }

    /// Takes out those whose slot belongs to another key. A slot that is there is the key's own exactly when the
    /// generation has a row of the key.
    fn drop_twins(&self, shard: usize, chosen: &mut Vec<Chosen>) -> Result<(), StoreError> {
        {
            let state = self.shards[shard].lock();
            if let Some(sealed) = &state.sealed {
                for one in chosen.iter_mut() {
                    one.is_taken = sealed
                        .directory
                        .find(fragment(one.hash), one.generation.id)
                        .is_some();
                }
            }
        }
        let mut failed = None;
        chosen.retain(|one| {
            let own = match one.is_taken {
                true => one.generation.has(self.bucket_of(one.hash, one.db), &one.key),
                false => Ok(true),
            };
            own.unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        });
        failed.map_or(Ok(()), Err)
    }

    /// Gives an entry its slot and puts its row into a batch. False when it cannot be sealed now.
    fn reserve(
        &self,
        state: &mut ShardState,
        one: &mut Chosen,
        batches: &mut Vec<(Arc<Generation>, PlainBatch)>,
    ) -> bool {
        let found = state.table.find_mut(one.hash, |entry| {
            entry.db() == one.db && entry.key() == &one.key[..]
        });
        let Some(entry) = found.filter(|entry| self.is_sealable(entry)) else {
            return false;
        };
        if entry.expiry().is_some() != one.generation.class.expires {
            return false;
        }
        let directory = &mut state.sealed.get_or_insert_default().directory;
        let slot = directory.find(fragment(one.hash), one.generation.id);
        // Of two with one fragment that were chosen together, the second finds the slot of the first.
        if slot.is_some() != one.is_taken || slot.is_some_and(|slot| slot.live) {
            return false;
        }
        directory.put(Slot {
            fragment: fragment(one.hash),
            generation: one.generation.id,
            db: one.db,
            live: false,
        });
        entry.store_set(SEALING, true);
        let at = batches
            .iter()
            .position(|(generation, _)| generation.id == one.generation.id);
        let at = at.unwrap_or_else(|| {
            batches.push((one.generation.clone(), one.generation.batch()));
            batches.len() - 1
        });
        let about = (entry.expiry(), origin_bits(entry), entry.object().is_some());
        let payload = |out: &mut Vec<u8>| match entry.object() {
            None => out.extend_from_slice(entry.value()),
            Some(object) => codec::encode_object(out, object),
        };
        one.bytes = batches[at]
            .1
            .put(self.bucket_of(one.hash, one.db), &one.key, about, payload);
        true
    }

    /// The row of an entry is written: if nothing has changed the entry since, the row takes its place.
    fn trade(&self, state: &mut ShardState, one: &Chosen, is_written: bool) -> bool {
        let found = state.table.find_mut(one.hash, |entry| {
            entry.db() == one.db && entry.key() == &one.key[..]
        });
        let Some(entry) = found.filter(|entry| entry.store_has(SEALING)) else {
            return false;
        };
        entry.store_set(SEALING, false);
        if !is_written {
            return false;
        }
        let Some(entry) = state.remove(one.hash, one.db, &one.key) else {
            return false;
        };
        let map = self.ranges.load();
        let range = map.find(&one.key);
        state.sealed.get_or_insert_default().directory.put(Slot {
            fragment: fragment(one.hash),
            generation: one.generation.id,
            db: one.db,
            live: true,
        });
        state.epoch = state.epoch.wrapping_add(1);
        self.count_bytes(range, entry.size(), 0);
        count_row(range, &one.generation, one.db, one.bytes, 1);
        range.counters.sealed.fetch_add(1, Relaxed);
        true
    }

    /// Hands every sealed key, with whether it expires and the bytes of its row, to `visit`; every shard is locked.
    pub(super) fn for_each_sealed(
        &self,
        guards: &[ShardGuard<'_>],
        mut visit: impl FnMut(u8, &[u8], bool, u32),
    ) -> Result<(), StoreError> {
        for (shard, state) in guards.iter().enumerate() {
            let Some(sealed) = &state.sealed else { continue };
            let live: Vec<Slot> = sealed.directory.iter().filter(|slot| slot.live).collect();
            self.visit_slots(shard, &live, |slot, _, key, row, bytes| {
                visit(slot.db, key, row.expiry.is_some(), bytes);
            })?;
        }
        Ok(())
    }

    /// Keys of these ranges become those of others: what was sealed so far may be of others than it is named after.
    /// Sealing is held off. What is mixed cannot be evicted until it is moved, so this is said of no range without need.
    pub(super) fn mix_generations(&self, ranges: &[&str]) {
        for generation in self.plain.generations() {
            if ranges.contains(&generation.class.range.as_str()) {
                generation.mixed.store(true, Relaxed);
                generation.closed.store(true, Relaxed);
            }
        }
    }
}

/// The slots of a database that count, from a fragment on, in the order of fragments.
fn slots_from(state: &ShardState, db: u8, from: u32) -> Vec<Slot> {
    let Some(sealed) = &state.sealed else {
        return Vec::new();
    };
    let wanted = |slot: &Slot| slot.live && slot.db == db && slot.fragment >= from;
    let mut slots: Vec<Slot> = sealed.directory.iter().filter(wanted).collect();
    slots.sort_unstable_by_key(|slot| slot.fragment);
    slots
}

/// How many slots are the first `most`, and all that have the fragment of the last of them.
fn whole_fragments(slots: &[Slot], most: usize) -> usize {
    let mut taken = most.min(slots.len());
    while taken > 0 && taken < slots.len() && slots[taken].fragment == slots[taken - 1].fragment {
        taken += 1;
    }
    taken
}
