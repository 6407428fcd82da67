//! One slice of the resident keyspace: a hash table of entries behind one lock, and what must change together with
//! them.
//!
//! Guarantees, all of them while the shard's lock is held:
//! * an entry is `DIRTY` exactly when its hash is in `dirty` (a hash may also stand there for an entry that is gone);
//! * `last_offset` is at or above the journal offset of every effect on a durable key of this shard, so a row written
//!   from here may carry it: every effect up to it is in the row, every later one will have a higher offset;
//! * the next expiry of an entry is that of its row in the store (or of the one that a running flush writes), or the
//!   row's is in `stale_expiries`: so the store's expiry index is kept exact without reading it;
//! * `epoch` moves whenever a key leaves the table while a store may hold it, and whenever a row of the plain store
//!   begins to count or ends, so that who looked into a store without the lock can tell whether what it saw is true.

use super::entry::{self, Entry};
use super::expire::ExpiryIndex;
use super::held;
use super::load::may_wait;
use super::owed::Owed;
use super::records::Records;
use super::sealed::{SealedShard, Slot, fragment};
use super::table::Table;
use parking_lot::Mutex;
use std::hash::{BuildHasher, Hasher};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// How long a thread waits for a shard before it lets others have its other work.
pub(super) const SHORT_WAIT: Duration = Duration::from_micros(200);

/// Hashes (database, key) with a seed of this process.
///
/// Shard and table come from different bits: the table uses the highest 16, the directory of sealed keys the highest 18,
/// the shard those from bit 32. `SCAN` orders a shard by the highest 18 and the lowest 14.
#[derive(Clone)]
pub struct KeyHasher {
    seed: foldhash::fast::FixedState,
}

impl KeyHasher {
    pub fn new(seed: u64) -> KeyHasher {
        KeyHasher {
            seed: foldhash::fast::FixedState::with_seed(seed),
        }
    }

    #[inline]
    pub fn hash(&self, db: u8, key: &[u8]) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write(key);
        hasher.write_u8(db);
        hasher.finish()
    }

    pub fn of(&self, entry: &Entry) -> u64 {
        self.hash(entry.db(), entry.key())
    }
}

/// The shard of a hash; `shards` is a power of two.
#[inline]
pub fn shard_of(hash: u64, shards: usize) -> usize {
    (hash >> 32) as usize & (shards - 1)
}

/// A shard: its own cache line for the lock, so that neighbours do not disturb each other.
#[repr(align(128))]
pub struct Shard {
    state: Mutex<ShardState>,
}

/// The right to a shard's state: its lock, or the loan of a lock that a group of this thread holds (`held`).
pub struct ShardGuard<'a> {
    shard: &'a Shard,
    lent: bool,
    /// Locks and loans belong to the thread that took them.
    not_send: PhantomData<*const ()>,
}

impl ShardGuard<'_> {
    pub(super) fn address(&self) -> *const Shard {
        self.shard
    }
}

impl Deref for ShardGuard<'_> {
    type Target = ShardState;

    #[inline]
    fn deref(&self) -> &ShardState {
        // SAFETY: this guard holds the shard's lock, or has the only loan of it from a group, which does not look at the
        // state while it is lent; so nobody else has a reference to the state.
        unsafe { &*self.shard.state.data_ptr() }
    }
}

impl DerefMut for ShardGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut ShardState {
        // SAFETY: as `deref`, and `&mut self` makes the access exclusive.
        unsafe { &mut *self.shard.state.data_ptr() }
    }
}

impl Drop for ShardGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.lent {
            held::give_back(self.shard);
        } else {
            // SAFETY: a guard that was not lent took the lock when it was made, on this thread, and is its only owner.
            unsafe { self.shard.state.force_unlock() };
        }
    }
}

pub struct ShardState {
    pub(super) table: Table,
    /// Journal offset behind the last effect on a durable key of this shard.
    pub last_offset: u64,
    /// Hashes of the entries that a flush has to take.
    pub dirty: Vec<u64>,
    /// Hash and old expiry of entries whose row in the store's expiry index has to go with the next flush; the paged
    /// collections whose elements have to; and what has to be done before anything else happens in the shard.
    pub stale_expiries: StaleExpiries,
    /// Who has subscribed to keys of this shard.
    pub(super) records: Records,
    pub epoch: u32,
    /// What `table_bytes` was when the keyspace last counted it.
    pub counted_bytes: u32,
    pub expiries: ExpiryIndex,
    /// None while no key is sealed.
    pub(super) sealed: Option<Box<SealedShard>>,
}

// A shard is two cache lines, which are fetched together.
const _: () = assert!(size_of::<Shard>() == 128);

/// What a shard mostly has nothing of, and takes eight bytes then.
#[derive(Default)]
pub struct StaleExpiries(Option<Box<StaleList>>);

#[derive(Default)]
struct StaleList {
    items: Vec<(u64, i64)>,
    /// Database, key and version of paged collections that are no more, and whose elements may have rows.
    pages: Vec<(u8, Box<[u8]>, u64)>,
    /// What is to be done with the shard's entries before anything happens to them, in this order.
    owed: Vec<Arc<dyn Owed>>,
    /// The number of the shard, for who is owed something.
    shard: usize,
}

impl StaleExpiries {
    /// Notes the expiry that the store knows of the key with this hash, if `stale_expiry` said so.
    pub fn note(&mut self, hash: u64, stale: Option<i64>) {
        if let Some(at) = stale {
            self.0.get_or_insert_default().items.push((hash, at));
        }
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Vec<(u64, i64)> {
        self.0.take().map_or(Vec::new(), |list| list.items)
    }

    /// The elements of a paged collection are to go from the store with the next flush.
    pub(super) fn note_pages(&mut self, db: u8, key: &[u8], version: u64) {
        let pages = &mut self.0.get_or_insert_default().pages;
        pages.push((db, key.into(), version));
    }

    /// Takes out the paged collections that are no more.
    pub(super) fn take_pages(&mut self) -> Vec<(u8, Box<[u8]>, u64)> {
        self.0
            .as_mut()
            .map_or(Vec::new(), |list| std::mem::take(&mut list.pages))
    }

    /// Before anything else happens in the shard of this number, this has to.
    pub(super) fn owe(&mut self, owed: Arc<dyn Owed>, shard: usize) {
        let list = self.0.get_or_insert_default();
        list.shard = shard;
        list.owed.push(owed);
    }

    /// Takes out what is waiting, and the number of the shard.
    fn take_owed(&mut self) -> (Vec<Arc<dyn Owed>>, usize) {
        let Some(list) = &mut self.0 else {
            return (Vec::new(), 0);
        };
        let owed = (std::mem::take(&mut list.owed), list.shard);
        if list.items.is_empty() && list.pages.is_empty() {
            self.0 = None;
        }
        owed
    }

    fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |list| {
            list.items.capacity() * size_of::<(u64, i64)>() + list.pages.len() * 64
        })
    }
}

impl Shard {
    pub fn new() -> Shard {
        Shard {
            state: Mutex::new(ShardState {
                table: Table::default(),
                last_offset: 0,
                dirty: Vec::new(),
                stale_expiries: StaleExpiries::default(),
                records: Records::default(),
                epoch: 0,
                counted_bytes: 0,
                expiries: ExpiryIndex::default(),
                sealed: None,
            }),
        }
    }

    #[inline]
    pub fn lock(&self) -> ShardGuard<'_> {
        let lent = match self.state.try_lock() {
            Some(guard) => {
                std::mem::forget(guard);
                false
            }
            None => self.lock_taken(),
        };
        let mut guard = ShardGuard {
            shard: self,
            lent,
            not_send: PhantomData,
        };
        if guard.stale_expiries.0.is_some() {
            pay(&mut guard);
        }
        guard
    }

    /// As `lock`, but does not wait: none when another thread holds the lock.
    pub fn try_lock(&self) -> Option<ShardGuard<'_>> {
        let lent = match self.state.try_lock() {
            Some(guard) => {
                std::mem::forget(guard);
                false
            }
            None if held::borrow(self) => true,
            None => return None,
        };
        let mut guard = ShardGuard {
            shard: self,
            lent,
            not_send: PhantomData,
        };
        if guard.stale_expiries.0.is_some() {
            pay(&mut guard);
        }
        Some(guard)
    }

    /// The guard of a lock that this thread took with `lock` and kept by forgetting that guard.
    pub(super) fn adopt(&self) -> ShardGuard<'_> {
        debug_assert!(self.state.is_locked());
        ShardGuard {
            shard: self,
            lent: false,
            not_send: PhantomData,
        }
    }

    /// True when it is this thread's group that holds the lock, and lends it.
    #[cold]
    fn lock_taken(&self) -> bool {
        let lent = held::borrow(self);
        if !lent {
            // Mostly it is free in an instant. Who holds it for longer works on something large, and the other tasks
            // of this thread are better served elsewhere meanwhile.
            let taken = self.state.try_lock_for(SHORT_WAIT);
            std::mem::forget(taken.unwrap_or_else(|| may_wait(|| self.state.lock())));
        }
        lent
    }
}

/// The lock of a shard that owes something.
#[cold]
fn pay(state: &mut ShardState) {
    let (owed, shard) = state.stale_expiries.take_owed();
    for owed in owed {
        owed.pay(state, shard);
    }
}

impl ShardState {
    #[inline]
    pub fn find(&self, hash: u64, db: u8, key: &[u8]) -> Option<&Entry> {
        self.table
            .find(hash, |entry| entry.db() == db && entry.key() == key)
    }

    #[inline]
    pub fn find_mut(&mut self, hash: u64, db: u8, key: &[u8]) -> Option<&mut Entry> {
        self.table
            .find_mut(hash, |entry| entry.db() == db && entry.key() == key)
    }

    /// Adds an entry whose key is not in the table.
    pub fn insert(&mut self, hash: u64, mut entry: Entry) -> &mut Entry {
        if !self.records.is_empty() {
            let watched = self.records.is_watched(hash, entry.db(), entry.key());
            entry.set(entry::WATCHED, watched);
        }
        self.table.insert(hash, entry)
    }

    pub fn remove(&mut self, hash: u64, db: u8, key: &[u8]) -> Option<Entry> {
        self.remove_if(hash, |entry| entry.db() == db && entry.key() == key)
    }

    /// Removes the first entry of this hash that `wanted` accepts; it may be asked about entries of other hashes.
    pub fn remove_if(&mut self, hash: u64, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let entry = self.table.remove(hash, wanted);
        self.table.shrink();
        entry
    }

    /// Visits the entries with this hash, and perhaps some others.
    pub fn visit_like(&mut self, hash: u64, visit: impl FnMut(&mut Entry)) {
        self.table.visit_like(hash, visit);
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Puts the entry of a key among those the next flush takes; true when it was not there yet.
    pub fn mark_dirty_at(&mut self, hash: u64, db: u8, key: &[u8]) -> bool {
        let Some(entry) = self
            .find_mut(hash, db, key)
            .filter(|entry| !entry.store_has(entry::DIRTY))
        else {
            return false;
        };
        entry.store_set(entry::DIRTY, true);
        self.dirty.push(hash);
        true
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.table.iter()
    }

    /// The rows that count and that may be of a sealed key with this hash.
    pub(super) fn sealed_slots(&self, hash: u64) -> Vec<Slot> {
        let Some(sealed) = &self.sealed else {
            return Vec::new();
        };
        let like = sealed.directory.like(fragment(hash));
        like.filter(|slot| slot.live).collect()
    }

    pub(super) fn has_sealed(&self, hash: u64) -> bool {
        let sealed = self.sealed.as_ref();
        sealed.is_some_and(|sealed| sealed.directory.like(fragment(hash)).any(|slot| slot.live))
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes of the table itself, the expiry index, the lists for the flush and the directory of sealed keys.
    pub fn table_bytes(&self) -> usize {
        self.table.bytes()
            + self.sealed.as_ref().map_or(0, |sealed| sealed.bytes())
            + self.expiries.bytes()
            + self.dirty.capacity() * size_of::<u64>()
            + self.stale_expiries.bytes()
            + self.records.bytes()
    }

    /// Takes every entry for which `wanted` holds out of the table.
    pub fn extract(&mut self, wanted: impl FnMut(&mut Entry) -> bool) -> Vec<Entry> {
        self.table.extract(wanted)
    }

    /// Up to `most` entries from one place of the table, chosen by `random`.
    pub fn sample(&self, random: usize, most: usize) -> impl Iterator<Item = &Entry> {
        self.table.iter_from(random).take(most)
    }
}

/// To be called when the next expiry of an entry changes, or goes: returns the old one when a row of the store's expiry
/// index says so, for `stale_expiries`. Until the next flush only the first change counts: the row holds no other.
pub fn stale_expiry(entry: &mut Entry, old: Option<i64>, new: Option<i64>) -> Option<i64> {
    if old == new || !entry.store_has(entry::STORED_INDEX) || entry.store_has(entry::STALE_EXPIRY) {
        return None;
    }
    entry.store_set(entry::STALE_EXPIRY, true);
    old
}

impl Default for Shard {
    fn default() -> Shard {
        Shard::new()
    }
}
