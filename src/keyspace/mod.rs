//! All keys of all databases: shards of resident entries, the ranges that say how each is kept, and the way between
//! memory, journal and store.
//!
//! | file | what it does |
//! |---|---|
//! | `entry`, `clock`, `table`, `shard` | one key; its access clock; a hash table of them; a locked slice of the resident keys |
//! | `range`, `ranges`, `in_force` | a range and the map of ranges; creating, altering, dropping them; the map that counts |
//! | `reshape`, `recount` | splitting and merging ranges; counting their keys while commands go on |
//! | `moves`, `discards` | moving a range to the other tier; dropping all that a range holds |
//! | `owed` | work on all entries that counts as done at one moment |
//! | `tx`, `effects` | reading and changing keys under their locks; what is recorded of it |
//! | `held` | several transactions as one |
//! | `load`, `prefetch` | opening a `Tx`: locking shards, bringing cold keys in; starting cache misses early |
//! | `paging` | collections that need not fit memory: bringing elements in, writing those that changed |
//! | `expire`, `evict`, `quota` | removing what is due; making room; limits of a range |
//! | `beside`, `reclaim` | memory that is not of keys; freeing large objects where nobody waits for it |
//! | `records`, `subscribers` | who has subscribed to which key; a set of client numbers |
//! | `events` | what a change is called, and who is told |
//! | `scan`, `whole`, `clear` | iteration; commands on whole databases; emptying them |
//! | `snapshot`, `import`, `backup` | all keys into an RDB file; keys from one; what a backup is made of |
//! | `flush`, `recover` | dirty entries into the store; the state after a start |
//! | `settled` | sealed keys that are read under their shard's lock, and ahead of it |
//! | `seal`, `sealed` | cold entries of memory ranges into the plain store and back; what a shard knows of them |
//! | `generations`, `doomed`, `warm` | what goes from the plain store, and who is told; what is left to the next start |
//!
//! Lock order: the ranges' change lock, then the flush lock, then the sealer's, then the right to reach, then shards.
//! Who holds a shard waits for another one only with the right to reach (`held` has the argument). Nothing waits for a
//! disk while it holds a shard, but a transaction or script that reaches for a key that it did not declare, or for
//! elements of a paged collection; and a command that others have kept from such elements again and again.

pub mod backup;
pub mod beside;
mod clear;
pub mod clock;
pub mod discards;
mod doomed;
pub mod effects;
pub mod entry;
pub mod events;
pub mod evict;
pub mod expire;
pub mod flush;
pub mod generations;
pub mod held;
pub mod import;
mod in_force;
pub mod load;
pub mod moves;
pub mod owed;
pub mod paging;
pub mod prefetch;
pub mod quota;
pub mod range;
pub mod ranges;
pub mod reclaim;
pub mod records;
pub mod recount;
pub mod recover;
pub mod reshape;
pub mod scan;
pub mod seal;
pub mod sealed;
mod settled;
pub mod shard;
pub mod snapshot;
pub mod subscribers;
pub mod table;
#[cfg(test)]
pub mod testing;
pub mod tx;
pub mod vanished;
pub mod warm;
pub mod whole;

pub use effects::Effects;
pub use entry::Entry;
pub use paging::Elements;
pub use tx::{Absent, Call, Change, Expiry, Tx, Wait, WrongType};

use crate::journal::Journal;
use crate::object::pages::Pages;
use crate::object::{self, Object, codec};
use crate::store::StoreError;
use crate::store::block::BlockStore;
use crate::store::flush::Discard;
use crate::store::plain::PlainStore;
use crate::store::rows::{Row, RowError};
use arc_swap::{ArcSwap, Guard};
use clock::Tick;
use entry::{FLUSHED, NewValue, STORED};
use in_force::InForce;
use parking_lot::ReentrantMutex;
use range::{DBS, Inherited, Range, RangeMap};
use shard::{KeyHasher, Shard, ShardState};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// What the keyspace takes from the configuration; all but `shards` may change at run time.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub shards: usize,
    /// Bytes over all ranges; 0 is no limit.
    pub maxmemory: u64,
    pub maxmemory_samples: usize,
    pub lfu_log_factor: u32,
    pub lfu_decay_minutes: u32,
    /// Bytes of journal, and of dirty entries, after which a flush starts.
    pub journal_flush_size: u64,
    pub flush_dirty_size: u64,
    /// Seconds without use after which an entry of a memory range is sealed; 0 is never.
    pub seal_after: u32,
    /// Elements, and bytes, above which a collection of a durable range is paged.
    pub paged_threshold: u64,
    pub paged_threshold_size: u64,
    /// Bytes of a string.
    pub max_value_len: u64,
    pub inherited: Inherited,
}

/// Settings that commands read without a lock.
#[derive(Default)]
struct Limits {
    maxmemory: AtomicU64,
    samples: AtomicU32,
    lfu_log_factor: AtomicU32,
    lfu_decay_minutes: AtomicU32,
    max_value_len: AtomicU64,
    counting: AtomicBool,
    /// Some range has a limit of its own.
    range_limits: AtomicBool,
    /// Some range bounds its keys or values.
    quotas: AtomicBool,
    paged_threshold: AtomicU64,
    paged_threshold_size: AtomicU64,
}

pub struct Keyspace {
    shards: Box<[Shard]>,
    hasher: KeyHasher,
    hash_seed: u64,
    ranges: InForce,
    /// Logical → physical database: `SWAPDB` exchanges two of them. Changes only while every shard is locked.
    databases: [AtomicU8; DBS],
    /// Rows of a physical database at or below this journal offset are gone: it was flushed.
    wiped_at: [AtomicU64; DBS],
    limits: Limits,
    /// Bytes of resident entries over all ranges, and of the tables (refreshed by the expire cycle).
    entry_bytes: AtomicI64,
    table_bytes: AtomicI64,
    /// Bytes of what is not of keys (see `beside`).
    beside: AtomicU64,
    /// The part of it that holes are.
    holes: AtomicU64,
    store: Arc<BlockStore>,
    plain: PlainStore,
    pub sealing: seal::SealState,
    journal: OnceLock<Journal>,
    pub flush: flush::FlushState,
    pub snapshots: snapshot::SnapshotState,
    /// Some value is, or was, a paged collection.
    any_paged: AtomicBool,
    cold_sweep: expire::ColdSweep,
    /// The shard that the expire cycle visits next.
    expire_next: AtomicUsize,
    /// The shard that had something to evict when every one was looked at.
    evict_next: AtomicUsize,
    recovery: recover::RecoveryState,
    positions: scan::Positions,
    listener: OnceLock<Arc<dyn events::Listener>>,
    /// The listener is told of every change of every key.
    broadcasting: AtomicBool,
    pub record_counts: records::RecordCounts,
    longest_eviction_nanos: AtomicU64,
    /// Held while the set of ranges changes.
    change: ReentrantMutex<()>,
    /// Ranges whose count failed and is tried again: their bounds do not change before.
    uncounted: parking_lot::Mutex<Vec<String>>,
    /// How often databases were flushed: a count that was under way then is made again.
    db_flushes: AtomicU64,
    /// What was discarded and may still have rows, or effects that replay would meet.
    discards: ArcSwap<Vec<Discard>>,
    any_discards: AtomicBool,
    moves: moves::MoveState,
    /// Threads that end by themselves: before the last flush, and after the store.
    jobs: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    store_jobs: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    /// The right to wait for a shard while others are held (see `held`).
    reach: parking_lot::Mutex<()>,
    pub vanished: Arc<vanished::Vanished>,
}

impl Keyspace {
    /// An empty keyspace over a store; `recover` fills it and opens the journal.
    pub fn new(store: BlockStore, map: RangeMap, settings: &Settings, hash_seed: u64) -> Keyspace {
        Keyspace::with_plain(store, PlainStore::on_heap(), map, settings, hash_seed)
    }

    /// As `new`, with the store behind memory ranges.
    pub fn with_plain(
        store: BlockStore,
        plain: PlainStore,
        mut map: RangeMap,
        settings: &Settings,
        hash_seed: u64,
    ) -> Keyspace {
        map.inherited.objects.hash_seed = hash_seed;
        let shards = settings.shards.clamp(1, 1 << 16).next_power_of_two();
        let keyspace = Keyspace {
            shards: (0..shards).map(|_| Shard::new()).collect(),
            hasher: KeyHasher::new(hash_seed),
            hash_seed,
            ranges: InForce::new(map),
            databases: std::array::from_fn(|db| AtomicU8::new(db as u8)),
            wiped_at: Default::default(),
            limits: Limits::default(),
            entry_bytes: AtomicI64::new(0),
            table_bytes: AtomicI64::new(0),
            beside: AtomicU64::new(0),
            holes: AtomicU64::new(0),
            store: Arc::new(store),
            plain,
            sealing: seal::SealState::default(),
            journal: OnceLock::new(),
            flush: flush::FlushState::default(),
            snapshots: snapshot::SnapshotState::default(),
            any_paged: AtomicBool::new(false),
            cold_sweep: expire::ColdSweep::default(),
            expire_next: AtomicUsize::new(0),
            evict_next: AtomicUsize::new(0),
            recovery: recover::RecoveryState::default(),
            positions: scan::Positions::default(),
            listener: OnceLock::new(),
            broadcasting: AtomicBool::new(false),
            record_counts: records::RecordCounts::default(),
            longest_eviction_nanos: AtomicU64::new(0),
            change: ReentrantMutex::new(()),
            uncounted: parking_lot::Mutex::default(),
            db_flushes: AtomicU64::new(0),
            discards: ArcSwap::default(),
            any_discards: AtomicBool::new(false),
            moves: moves::MoveState::default(),
            jobs: parking_lot::Mutex::default(),
            store_jobs: parking_lot::Mutex::default(),
            reach: parking_lot::Mutex::new(()),
            vanished: Arc::default(),
        };
        keyspace.apply_settings(settings);
        keyspace
    }

    /// Takes over changed settings; what ranges inherit is changed by `ranges::inherit`.
    pub fn apply_settings(&self, settings: &Settings) {
        let limits = &self.limits;
        limits.maxmemory.store(settings.maxmemory, Relaxed);
        limits
            .samples
            .store(settings.maxmemory_samples.max(1) as u32, Relaxed);
        limits.lfu_log_factor.store(settings.lfu_log_factor, Relaxed);
        limits
            .lfu_decay_minutes
            .store(settings.lfu_decay_minutes, Relaxed);
        limits
            .max_value_len
            .store(settings.max_value_len.min(entry::MAX_LEN as u64), Relaxed);
        self.flush
            .set_sizes(settings.journal_flush_size, settings.flush_dirty_size);
        self.sealing.set_after(settings.seal_after);
        limits.paged_threshold.store(settings.paged_threshold, Relaxed);
        limits
            .paged_threshold_size
            .store(settings.paged_threshold_size, Relaxed);
        self.note_policies(&self.ranges.load());
        self.bound_beside();
    }

    fn note_policies(&self, map: &RangeMap) {
        self.limits
            .counting
            .store(map.iter().any(|range| range.policy.eviction.is_lfu()), Relaxed);
        self.limits
            .range_limits
            .store(map.iter().any(|range| range.policy.maxmemory > 0), Relaxed);
        self.limits.quotas.store(
            map.iter()
                .any(|range| range.policy.max_keys > 0 || range.policy.max_value_size > 0),
            Relaxed,
        );
    }

    pub fn ranges(&self) -> Guard<Arc<RangeMap>> {
        self.ranges.load()
    }

    /// The ranges, to be kept.
    pub fn range_map(&self) -> Arc<RangeMap> {
        self.ranges.load_full()
    }

    pub fn journal(&self) -> Option<&Journal> {
        self.journal.get()
    }

    pub fn store(&self) -> &BlockStore {
        &self.store
    }

    pub fn physical(&self, db: u8) -> u8 {
        self.databases[db as usize].load(Relaxed)
    }

    #[inline]
    fn shard_of(&self, hash: u64) -> usize {
        shard::shard_of(hash, self.shards.len())
    }

    /// This moment for access clocks.
    pub fn tick(&self, now_ms: i64) -> Tick {
        Tick {
            seconds: (now_ms / 1000) as u32,
            lfu_log_factor: self.limits.lfu_log_factor.load(Relaxed),
            lfu_decay_minutes: self.limits.lfu_decay_minutes.load(Relaxed),
            counting: self.limits.counting.load(Relaxed),
        }
    }

    /// The longest string that a command may make.
    pub fn max_value_len(&self) -> usize {
        self.limits.max_value_len.load(Relaxed) as usize
    }

    /// The thresholds at which values change their encoding.
    #[inline]
    pub fn object_limits(&self) -> object::Limits {
        self.ranges.load().inherited.objects
    }

    #[inline]
    fn count_bytes(&self, range: &Range, before: usize, after: usize) {
        if before != after {
            let delta = after as i64 - before as i64;
            range.counters.bytes.fetch_add(delta, Relaxed);
            self.entry_bytes.fetch_add(delta, Relaxed);
        }
    }

    /// Bytes that entries, tables, the plain store and what is beside them use: what `maxmemory` is held against.
    pub fn memory_bytes(&self) -> u64 {
        let resident = self.entry_bytes.load(Relaxed) + self.table_bytes.load(Relaxed);
        resident.max(0) as u64 + self.plain.memory_bytes() + self.beside.load(Relaxed)
    }

    /// Deletes an entry, live or expired. In a durable range whose store may hold a row of the key, a tombstone stays
    /// until the store has been told. False when there was none, or a tombstone already.
    fn remove_entry(&self, state: &mut ShardState, hash: u64, db: u8, key: &[u8], range: &Range) -> bool {
        let Some(entry) = state.find_mut(hash, db, key).filter(|entry| !entry.is_absent()) else {
            return false;
        };
        self.note_vanishing(entry);
        let (before, expiry) = (entry.size(), entry.expiry());
        let pages = entry.pages().map(Pages::version);
        tx::count_change(range, db, Some(expiry), None);
        if range.is_durable() && entry.store_has(STORED | FLUSHED) {
            let next = entry.next_expiry();
            let stale = shard::stale_expiry(entry, next, None);
            entry.bury();
            let after = entry.size();
            state.stale_expiries.note(hash, stale);
            if let Some(version) = pages {
                state.stale_expiries.note_pages(db, key, version);
            }
            if ShardState::mark_dirty_at(state, hash, db, key) {
                self.flush.note_dirty(after);
            }
            self.count_bytes(range, before, after);
        } else {
            state.remove(hash, db, key);
            self.count_bytes(range, before, 0);
        }
        true
    }

    /// An entry out of a row. Takes time with a large value, so no lock is held.
    fn entry_of(&self, (db, key): (u8, &[u8]), row: &Row<'_>, now: i64) -> Result<Entry, RowError> {
        let clock = clock::fresh(self.tick(now));
        let mut entry = if let Some(summary) = row.summary()? {
            self.any_paged.store(true, Relaxed);
            let value = NewValue::Object(Object::of_summary(&summary).ok_or(RowError::Paged)?);
            Entry::with_value(db, key, value, row.expiry, clock)
        } else {
            let object = row.object()?;
            match codec::decode_string(&object) {
                Ok(value) => Entry::new(db, key, value, row.expiry, clock),
                Err(_) => {
                    let value =
                        codec::decode_object(&object, &self.object_limits()).map_err(RowError::Object)?;
                    Entry::with_value(db, key, NewValue::Object(value), row.expiry, clock)
                }
            }
        };
        entry.store_set(STORED, true);
        entry.store_set(entry::STORED_EXPIRES, row.expiry.is_some());
        entry.store_set(entry::STORED_INDEX, entry.next_expiry().is_some());
        Ok(entry)
    }

    /// Makes an entry resident that was made of a row; the key must not be resident.
    fn insert_loaded(&self, state: &mut ShardState, hash: u64, mut entry: Entry) {
        let map = self.ranges.load();
        let range = map.find(entry.key());
        self.count_bytes(range, 0, entry.size());
        if let Some(at) = entry.next_expiry() {
            entry.set(entry::INDEXED, true);
            state.expiries.add(at, hash);
        }
        state.insert(hash, entry);
        range.counters.cold.fetch_sub(1, Relaxed);
        range.counters.loaded.fetch_add(1, Relaxed);
    }

    /// Runs something on a thread of its own, which ends before the keyspace closes. False, and logged, when the system
    /// has no thread for it.
    fn spawn(self: &Arc<Keyspace>, name: &str, run: impl FnOnce(&Keyspace) + Send + 'static) -> bool {
        let keyspace = self.clone();
        spawn_into(&self.jobs, name, move || run(&keyspace))
    }

    /// Appends an effect that is no command on keys; returns the offset behind it. Called with every shard locked.
    fn append_words(&self, words: &[&[u8]]) -> u64 {
        let mut effects = Effects::default();
        effects.push(0, words);
        self.journal()
            .map_or(0, |journal| journal.append(effects.finish()))
    }

    /// The disk does not keep up with the journal: see `Journal::is_late`.
    #[inline]
    pub(in crate::keyspace) fn is_late(&self, now_ms: i64) -> bool {
        self.journal()
            .is_some_and(|journal| journal.is_late(now_ms.unsigned_abs()))
    }

    /// Why durable ranges cannot take writes now, if so.
    #[inline]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.journal()
            .and_then(Journal::failure)
            .or_else(|| self.flush.failure())
    }

    /// Ends flushing, flushes what is dirty, and closes the journal: the next start replays nothing.
    pub fn close(&self) -> Result<(), StoreError> {
        self.stop_jobs();
        self.sealing.stop();
        let sealed = self.close_plain();
        let flushed = self.flush.stop();
        let closed = self.journal().is_none_or(Journal::close);
        self.store.close();
        join_all(&self.store_jobs);
        flushed?;
        sealed?;
        if closed {
            Ok(())
        } else {
            Err(StoreError::new("the journal could not be synced"))
        }
    }
}

fn spawn_into(
    jobs: &parking_lot::Mutex<Vec<JoinHandle<()>>>,
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> bool {
    let mut jobs = jobs.lock();
    jobs.retain(|job| !job.is_finished());
    match std::thread::Builder::new().name(name.into()).spawn(run) {
        Ok(job) => {
            jobs.push(job);
            true
        }
        Err(error) => {
            log::error!("no thread for '{name}': {error}");
            false
        }
    }
}

fn join_all(jobs: &parking_lot::Mutex<Vec<JoinHandle<()>>>) {
    let jobs = std::mem::take(&mut *jobs.lock());
    for job in jobs {
        // A job that panicked has said so.
        let _ = job.join();
    }
}
