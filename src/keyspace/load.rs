//! Opening a transaction: lock the shards of its keys, and bring in the keys that are cold.
//!
//! A key that is not resident, in a durable range that has cold keys, may stand in the store. Then the locks are
//! dropped, the row is read (first without touching the disk, else on a thread that may wait), all shards are
//! locked again and every row is taken in whose key is still absent: at once, so that eviction for one key of a command
//! does not take another. In between a key may have come and gone; the shard's epoch tells, and the read is done again.
//!
//! Of a paged collection the elements that the call touches are brought in the same way (`paging`).
//!
//! A sealed key of a memory range is found in the same way, but its shard knows whether there is a row, and in which
//! part of the plain store: where that is a table of our own it is read at once (`settled`). It comes into the
//! transaction as a *guest*: it can be read, and is made resident when it is changed, or when it is read again not long
//! after.

use super::effects::Effects;
use super::entry::Entry;
use super::in_force::MapRef;
use super::range::{Range, RangeMap};
use super::seal::Guest;
use super::settled::Seen;
use super::shard::{ShardGuard, ShardState};
use super::tx::{Call, Tx};
use super::{Keyspace, StoreError, held};
use crate::object::pages::Pages;
use crate::store::block::{Cached, Pinned};
use crate::store::rows::{self, Row};
use smallvec::SmallVec;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(super) type Guards<'k> = SmallVec<[(usize, ShardGuard<'k>); 1]>;

/// The shards of some keys, locked, under the map that is in force.
pub(super) struct Locked<'k> {
    pub guards: Guards<'k>,
    pub map: arc_swap::Guard<Arc<RangeMap>>,
    /// Physical database and hash of the first key.
    first: (u8, u64),
}

/// What is locked for some keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Their shards, for one command: sealed keys may be guests.
    Keys,
    /// Their shards, for several commands.
    Group,
    /// Every shard, for several commands.
    Every,
}

/// A key of a transaction: physical database, hash, bytes.
pub(super) type Place<'a> = (u8, u64, &'a [u8]);

/// How often several shards are tried for without waiting while others are held.
const POLITE_ROUNDS: usize = 16;

/// Keys of one command that may be guests; of more, those that are sealed become resident.
const GUESTS_MOST: usize = 256;

/// Mostly none or one, and then without an allocation.
pub(super) type Guests = SmallVec<[Guest; 1]>;

/// Keys found to be absent from the store, with the epoch of their shard before the look.
pub(super) type KnownAbsent = HashSet<(u64, u32)>;

/// What a shard says of a key that may be sealed.
pub(super) struct Look {
    pub epoch: u32,
    /// Generations that may have its row.
    pub candidates: SmallVec<[u16; 4]>,
    /// It was read not long ago.
    pub again: bool,
}

impl Look {
    /// None when nothing is sealed that the key could be.
    #[inline]
    pub fn begin(state: &mut ShardState, hash: u64, db: u8) -> Option<Look> {
        let epoch = state.epoch;
        let sealed = state.sealed.as_mut()?;
        let mut candidates = SmallVec::new();
        for id in sealed.candidates(hash, db) {
            candidates.push(id);
        }
        if candidates.is_empty() {
            return None;
        }
        Some(Look {
            epoch,
            candidates,
            again: sealed.note_read(hash),
        })
    }
}

/// What was seen in the stores without a lock, with the epoch of the key's shard before the look.
#[derive(Default)]
pub(super) struct Known {
    pub absent: KnownAbsent,
    guests: Guests,
    loaded: Vec<Loaded>,
}

/// A row of the block store that was read for a key.
struct Loaded {
    hash: u64,
    epoch: u32,
    offset: u64,
    entry: Entry,
    /// Of the paged collection that the row is of.
    version: Option<u64>,
}

impl Known {
    fn has(&self, (db, hash, key): &Place<'_>, epoch: u32) -> bool {
        let is_it = |guest: &Guest| {
            guest.hash == *hash
                && guest.epoch == epoch
                && guest.entry.db() == *db
                && guest.entry.key() == *key
        };
        self.absent.contains(&(*hash, epoch))
            || self.guests.iter().any(is_it)
            || held::knows_absent(*hash, epoch)
    }
}

impl Keyspace {
    /// Locks the keys of `call`; all of them are then resident or known to be absent.
    #[inline]
    pub fn begin<'k>(&'k self, call: Call<'k>, effects: &'k mut Effects) -> Result<Tx<'k>, StoreError> {
        if let [key] = *call.keys {
            // Nearly every call: one key, and resident. What is otherwise goes the general way.
            let db = self.physical(call.db);
            let hash = self.hasher.hash(db, key);
            let shard = self.shard_of(hash);
            let mut guard = self.shards[shard].lock();
            // SAFETY: the guard is held for as long: it goes into the transaction with the map, or is dropped after it.
            let map = unsafe { self.ranges.held() };
            let range = map.find(key);
            let mut warm =
                self.none_cold(range, call.replay.is_some()) || guard.find(hash, db, key).is_some();
            let (mut guest, mut look) = (None, None);
            if !warm && !range.is_durable() {
                match self.see_sealed(&mut guard, (db, hash, key), call.now_ms)? {
                    Seen::Settled(found) => (warm, guest) = (true, found),
                    Seen::Look(unfinished) => look = Some(unfinished),
                }
            }
            let lacks = self.lacks(&guard, (db, hash, key), &call);
            if warm && !lacks && self.physical(call.db) == db {
                let guards = SmallVec::from_buf([(shard, guard)]);
                let mut tx = Tx::new(self, map, guards, call, (db, hash), effects);
                if let Some(guest) = guest {
                    tx.guests.push(guest);
                }
                return Ok(tx);
            }
            drop((map, guard));
            if let Some(look) = look
                && let Some((guard, guest)) = self.lock_with_guest((db, hash, key), look, call.now_ms)?
                && self.physical(call.db) == db
            {
                // Read while the shard is locked: the map does not change meanwhile.
                let (map, guards) = (
                    MapRef::Loaded(self.ranges.load()),
                    SmallVec::from_buf([(shard, guard)]),
                );
                let mut tx = Tx::new(self, map, guards, call, (db, hash), effects);
                tx.guests.push(guest);
                return Ok(tx);
            }
        }
        self.begin_two(call, None, effects)
    }

    /// Reads a sealed key and locks its shard; none when it is no guest after all: it has become resident, or the shard
    /// has changed meanwhile.
    fn lock_with_guest(
        &self,
        place: Place<'_>,
        look: Look,
        now_ms: i64,
    ) -> Result<Option<(ShardGuard<'_>, Guest)>, StoreError> {
        let mut known = Known::default();
        self.finish_look(place, look, (now_ms, true), &mut known)?;
        let Some(guest) = known.guests.pop() else {
            return Ok(None);
        };
        let guard = self.shards[self.shard_of(place.1)].lock();
        Ok((guard.epoch == guest.epoch).then_some((guard, guest)))
    }

    /// True when no key of the range has to be looked for in a store.
    #[inline]
    fn none_cold(&self, range: &Range, replay: bool) -> bool {
        if replay && range.is_durable() {
            self.recovery.store_is_empty()
        } else {
            range.counters.cold.load(Relaxed) <= 0
        }
    }

    /// As `begin`, for commands whose keys also stand in a second logical database (`MOVE`, `COPY`).
    pub fn begin_two<'k>(
        &'k self,
        call: Call<'k>,
        second: Option<u8>,
        effects: &'k mut Effects,
    ) -> Result<Tx<'k>, StoreError> {
        let databases = [Some(call.db), second];
        let named: SmallVec<[(u8, &[u8]); 2]> = databases
            .iter()
            .flatten()
            .flat_map(|db| call.keys.iter().map(|key| (*db, *key)))
            .collect();
        let (locked, known) = self.lock_with_elements(&named, &call)?;
        let (db, hash) = locked.first;
        // Without keys there is no first one to have told its database.
        let db = if named.is_empty() {
            self.physical(call.db)
        } else {
            db
        };
        let mut tx = Tx::new(
            self,
            MapRef::Loaded(locked.map),
            locked.guards,
            call,
            (db, hash),
            effects,
        );
        tx.guests = known.guests;
        Ok(tx)
    }

    /// Locks the shards of a call's keys; the keys are resident then, with the elements that it touches, or guests, or
    /// known to be absent.
    fn lock_with_elements<'k>(
        &'k self,
        named: &[(u8, &[u8])],
        call: &Call<'_>,
    ) -> Result<(Locked<'k>, Known), StoreError> {
        let (mut round, mut read) = (0, Vec::new());
        loop {
            let (mut locked, known) =
                self.lock_resident(named, Reach::Keys, call.replay.is_some(), call.now_ms)?;
            self.take_elements_in(&mut locked, std::mem::take(&mut read), true);
            let mut needs = self.needs(&mut locked, named, call);
            if Keyspace::is_last_round(round) {
                let needed = std::mem::take(&mut needs);
                self.read_locked(&mut locked, named, (call, needed))?;
            }
            if needs.is_empty() {
                return Ok((locked, known));
            }
            drop(locked);
            if self.is_over_limit() {
                self.make_room(call.now_ms);
            }
            read = self.read_needs(needs)?;
            round += 1;
        }
    }

    /// Locks the shards of keys, given with their logical databases, or every shard; the keys are resident then, or
    /// guests, or known to be absent.
    pub(super) fn lock_resident<'k>(
        &'k self,
        named: &[(u8, &[u8])],
        reach: Reach,
        replay: bool,
        now_ms: i64,
    ) -> Result<(Locked<'k>, Known), StoreError> {
        let (mut known, mut made_room) = (Known::default(), false);
        loop {
            // Read under no lock: if SWAPDB comes in between, the places are computed again below.
            let places: SmallVec<[Place<'_>; 2]> = named
                .iter()
                .map(|(db, key)| {
                    let db = self.physical(*db);
                    (db, self.hasher.hash(db, key), *key)
                })
                .collect();
            let mut guards = if reach == Reach::Every {
                self.lock_all().into_iter().enumerate().collect()
            } else {
                self.lock_places(&places)
            };
            let unmoved = named
                .iter()
                .zip(&places)
                .all(|((db, _), place)| self.physical(*db) == place.0);
            if !unmoved {
                continue;
            }
            self.take_in(&mut guards, &mut known);
            let map = self.ranges.load();
            let may_be_cold = |place: &&Place<'_>| self.may_be_cold(&guards, &map, place, &known, replay);
            let cold: SmallVec<[Place<'_>; 1]> = places.iter().filter(may_be_cold).copied().collect();
            if cold.is_empty() {
                let first = places.first().map_or((0, 0), |place| (place.0, place.1));
                known.guests.retain(|guest| {
                    let state = self.guarded(&guards, guest.hash);
                    state.is_some_and(|state| state.epoch == guest.epoch)
                });
                return Ok((Locked { guards, map, first }, known));
            }
            drop(guards);
            if !std::mem::replace(&mut made_room, true) && self.is_over_limit() {
                // What is loaded takes the place of what was used longer ago. If nothing can go now, the next write
                // sees to it. Only once: where nothing fits, what goes for one key is another one of the command.
                self.make_room(now_ms);
            }
            // All of them before the locks are taken again: a command of many cold keys loads each once.
            let as_guests = reach == Reach::Keys && places.len() <= GUESTS_MOST;
            for place in cold {
                if map.find(place.2).is_durable() {
                    self.load(place, now_ms, &mut known)?;
                } else {
                    self.look_sealed(place, (now_ms, as_guests), &mut known)?;
                }
            }
        }
    }

    fn lock_places<'k>(&'k self, places: &[Place<'_>]) -> Guards<'k> {
        if let [(_, hash, _)] = places {
            let shard = self.shard_of(*hash);
            return SmallVec::from_buf([(shard, self.shards[shard].lock())]);
        }
        let mut shards: SmallVec<[usize; 8]> =
            places.iter().map(|(_, hash, _)| self.shard_of(*hash)).collect();
        shards.sort_unstable();
        shards.dedup();
        self.lock_shards(&shards)
    }

    /// Locks shards, given in ascending order. Who waits for one of them holds no other meanwhile, unless it has the
    /// right to reach (see `held`).
    fn lock_shards<'k>(&'k self, shards: &[usize]) -> Guards<'k> {
        let mut contended = 0;
        for _ in 0..POLITE_ROUNDS {
            let mut guards = Guards::new();
            let Some(first) = shards.get(contended) else {
                return guards;
            };
            guards.push((*first, self.shards[*first].lock()));
            let mut others = (0..shards.len()).filter(|at| *at != contended);
            let taken = others.try_for_each(|at| {
                let shard = shards[at];
                guards.push((shard, self.shards[shard].try_lock().ok_or(at)?));
                Ok(())
            });
            match taken {
                Ok(()) => {
                    guards.sort_unstable_by_key(|(shard, _)| *shard);
                    return guards;
                }
                Err(at) => contended = at,
            }
        }
        let _reach = self.reach();
        shards
            .iter()
            .map(|shard| (*shard, self.shards[*shard].lock()))
            .collect()
    }

    #[inline]
    fn may_be_cold(
        &self,
        guards: &Guards<'_>,
        map: &RangeMap,
        place: &Place<'_>,
        known: &Known,
        replay: bool,
    ) -> bool {
        let (db, hash, key) = *place;
        let range = map.find(key);
        if self.none_cold(range, replay) {
            return false;
        }
        let Some(state) = self.guarded(guards, hash) else {
            return false;
        };
        state.find(hash, db, key).is_none()
            && (range.is_durable() || may_be_sealed(state, hash, db))
            && !known.has(place, state.epoch)
    }

    /// The locked shard of a hash.
    fn guarded<'g>(&self, guards: &'g Guards<'_>, hash: u64) -> Option<&'g ShardState> {
        let shard = self.shard_of(hash);
        let at = guards.binary_search_by_key(&shard, |(shard, _)| *shard).ok()?;
        Some(&guards[at].1)
    }

    /// Reads a sealed key: it becomes a guest, or resident when it is in use, or it is noted to be absent.
    fn look_sealed(
        &self,
        place: Place<'_>,
        (now_ms, as_guest): (i64, bool),
        known: &mut Known,
    ) -> Result<(), StoreError> {
        let (db, hash, _) = place;
        let look = Look::begin(&mut self.shards[self.shard_of(hash)].lock(), hash, db);
        look.map_or(Ok(()), |look| {
            self.finish_look(place, look, (now_ms, as_guest), known)
        })
    }

    /// The part of `look_sealed` that reads: without the lock.
    fn finish_look(
        &self,
        place: Place<'_>,
        look: Look,
        (now_ms, as_guest): (i64, bool),
        known: &mut Known,
    ) -> Result<(), StoreError> {
        let (db, hash, key) = place;
        let shard = &self.shards[self.shard_of(hash)];
        let Look {
            epoch,
            candidates,
            again,
        } = look;
        let Some(guest) = self.read_sealed(place, (epoch, &candidates), now_ms)? else {
            known.absent.insert((hash, epoch));
            return Ok(());
        };
        // What has expired is resident before it is deleted, as everywhere.
        let due = guest.entry.next_expiry().is_some_and(|at| at <= now_ms);
        if as_guest && !again && !due {
            known.guests.push(guest);
            return Ok(());
        }
        let mut state = shard.lock();
        if state.epoch == epoch && state.find(hash, db, key).is_none() {
            self.unseal(&mut state, guest);
        }
        Ok(())
    }

    /// Reads a row of the block store. While rows are in the page cache that is done in place: to hand this thread's
    /// other tasks over would take longer.
    pub(super) fn read_row(&self, row_key: &[u8]) -> Result<Option<Pinned<'_>>, StoreError> {
        if self.store.is_quick() {
            return self.store.read(row_key);
        }
        match self.store.read_cached(row_key)? {
            Cached::Row(row) => Ok(Some(row)),
            Cached::Absent => Ok(None),
            Cached::Unknown => may_wait(|| self.store.read(row_key)),
        }
    }

    /// Looks a key up in the store, to be made resident (`take_in`), or notes that it is absent.
    fn load(&self, (db, hash, key): Place<'_>, now_ms: i64, known: &mut Known) -> Result<(), StoreError> {
        let shard = &self.shards[self.shard_of(hash)];
        let epoch = shard.lock().epoch;
        let bytes = self.read_row(&rows::object_key(db, key))?;
        let bad_row = |why| StoreError::new(format_args!("a row of the store cannot be read: {why}"));
        let row = bytes.as_deref().map(Row::decode).transpose().map_err(bad_row)?;
        let entry = |row: Row<'_>| {
            self.entry_of((db, key), &row, now_ms)
                .map(|entry| (row.offset, entry))
        };
        let loaded = row.map(entry).transpose().map_err(bad_row)?;
        match loaded {
            Some((offset, mut entry)) => {
                let summary = entry.pages().map(Pages::summary);
                // About to leave for memory: there it is kept whole.
                if let Some(summary) = &summary
                    && self.ranges.load().find(key).stays_resident()
                {
                    let object = self.whole_object(db, key, summary)?;
                    entry.assign_object(object, entry.expiry());
                }
                known.loaded.push(Loaded {
                    hash,
                    epoch,
                    offset,
                    entry,
                    version: summary.map(|summary| summary.version),
                });
            }
            None => {
                known.absent.insert((hash, epoch));
            }
        }
        Ok(())
    }

    /// Makes what was read resident, all of it under the locks that the command holds: else what is evicted to bring in
    /// the last of its keys might be the first, for ever.
    fn take_in(&self, guards: &mut Guards<'_>, known: &mut Known) {
        for Loaded {
            hash,
            epoch,
            offset,
            mut entry,
            version,
        } in std::mem::take(&mut known.loaded)
        {
            let shard = self.shard_of(hash);
            let Ok(at) = guards.binary_search_by_key(&shard, |(shard, _)| *shard) else {
                continue;
            };
            let state = &mut *guards[at].1;
            let (db, key) = (entry.db(), entry.key());
            if state.epoch != epoch || state.find(hash, db, key).is_some() {
                // Came, or came and went, in between: what was read may be old. The caller looks again.
                continue;
            }
            if self.row_stands(db, key, offset) {
                self.recovery.note_row(db, key, offset);
                if let Some(version) = version {
                    self.settle_paged(state, (hash, &mut entry), (offset, version));
                }
                self.insert_loaded(state, hash, entry);
            } else {
                known.absent.insert((hash, epoch));
            }
        }
    }
}

/// Locks of several shards, and what may be beyond them.
impl Keyspace {
    /// True when a key whose shard this thread holds may be in a store only: to use it, the store would have to be read
    /// while shards are held.
    pub(super) fn would_load(&self, state: &ShardState, (db, hash, key): Place<'_>) -> bool {
        // SAFETY: who has a shard's state holds the shard.
        let map = unsafe { self.ranges.held() };
        let range = map.find(key);
        !self.none_cold(range, false)
            && state.find(hash, db, key).is_none()
            && (range.is_durable() || may_be_sealed(state, hash, db))
            && !held::knows_absent(hash, state.epoch)
    }
}

#[inline]
fn may_be_sealed(state: &ShardState, hash: u64, db: u8) -> bool {
    let sealed = state.sealed.as_ref();
    sealed.is_some_and(|sealed| sealed.candidates(hash, db).next().is_some())
}

/// Runs something that may wait for a disk, or take long; on a runtime's worker thread its other tasks go on elsewhere
/// meanwhile.
pub fn may_wait<R>(run: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(run)
        }
        _ => run(),
    }
}

/// As `may_wait`, where it depends. What cannot be long is better run in place.
#[inline]
pub fn may_wait_if<R>(is_long: bool, run: impl FnOnce() -> R) -> R {
    if is_long { may_wait(run) } else { run() }
}
