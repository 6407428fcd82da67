//! A transaction: the locked shards of its keys, and the only way in which handlers read and change entries.
//!
//! Guarantees:
//! * While a `Tx` lives, its keys are resident or known to be absent; nothing here waits for a disk.
//! * Every change updates counts and bytes, puts the entry among the dirty ones and records its effect, exactly once.
//! * The effects are appended to the journal before the shards are unlocked, also when a handler panics.
//! * Expired keys are never seen: a lookup that meets one deletes it, and that is an effect like any other.

use super::effects::Effects;
use super::entry::{self, Entry};
use super::range::{DBS, Range, RangeMap};
use super::shard::{ShardGuard, stale_expiry};
use super::{Keyspace, clock};
use crate::journal::Journal;
use arc_swap::Guard;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a transaction is opened for.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Logical database.
    pub db: u8,
    pub now_ms: i64,
    pub keys: &'a [&'a [u8]],
    /// The command as it was received, for changes whose effect is just that.
    pub received: &'a [&'a [u8]],
    /// The journal is being replayed, and this effect ends at that offset: it is recorded already, and nothing expires
    /// by itself.
    pub replay: Option<u64>,
}

/// What becomes of a key's expiry when its value is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// None, or what the range gives by default.
    Clear,
    Keep,
    /// Unix milliseconds.
    At(i64),
}

/// The effect of an edit.
pub enum Effect<'a> {
    /// The command as received is deterministic and touches this key alone.
    AsReceived,
    /// This command.
    Command(&'a [&'a [u8]]),
}

pub struct Tx<'a> {
    keyspace: &'a Keyspace,
    map: Guard<Arc<RangeMap>>,
    guards: SmallVec<[(usize, ShardGuard<'a>); 1]>,
    call: Call<'a>,
    /// Physical database.
    db: u8,
    /// Hash of the first key, which is nearly always the one asked for.
    first_hash: u64,
    effects: &'a mut Effects,
    /// Accesses are noted on the entries' clocks.
    touches: bool,
    finished: bool,
}

impl<'a> Tx<'a> {
    pub(super) fn new(
        keyspace: &'a Keyspace,
        map: Guard<Arc<RangeMap>>,
        guards: SmallVec<[(usize, ShardGuard<'a>); 1]>,
        call: Call<'a>,
        (db, first_hash): (u8, u64),
        effects: &'a mut Effects,
    ) -> Tx<'a> {
        Tx {
            keyspace,
            map,
            guards,
            call,
            db,
            first_hash,
            effects,
            touches: true,
            finished: false,
        }
    }

    /// Unix milliseconds: one moment for the whole transaction.
    pub fn now_ms(&self) -> i64 {
        self.call.now_ms
    }

    /// The logical database.
    pub fn db(&self) -> u8 {
        self.call.db
    }

    pub fn keyspace(&self) -> &'a Keyspace {
        self.keyspace
    }

    pub fn is_replay(&self) -> bool {
        self.call.replay.is_some()
    }

    /// From now on reads and edits leave the access clocks as they are (`CLIENT NO-TOUCH`).
    pub fn leave_clocks(&mut self) {
        self.touches = false;
    }

    /// Goes on in another logical database, whose keys were declared too (see `Keyspace::begin_two`).
    pub fn select(&mut self, db: u8) {
        self.call.db = db;
        self.db = self.keyspace.physical(db);
        self.first_hash = self
            .call
            .keys
            .first()
            .map_or(0, |key| self.keyspace.hasher.hash(self.db, key));
    }

    #[inline]
    fn locate(&self, key: &[u8]) -> (u64, usize) {
        let is_first = self
            .call
            .keys
            .first()
            .is_some_and(|first| std::ptr::eq(*first, key));
        let hash = if is_first {
            self.first_hash
        } else {
            self.keyspace.hasher.hash(self.db, key)
        };
        if self.guards.len() == 1 {
            return (hash, 0);
        }
        let shard = self.keyspace.shard_of(hash);
        // proof: every key a handler may ask for was declared, and `begin` locked the shards of declared keys.
        let guard = self
            .guards
            .binary_search_by_key(&shard, |(shard, _)| *shard)
            .expect("key was declared");
        (hash, guard)
    }

    /// Deletes the key if its expiry has passed.
    #[inline]
    fn purge(&mut self, key: &[u8], hash: u64, at: usize) {
        let state = &self.guards[at].1;
        // Only a shard that has seen an expiry can hold an expired key.
        if state.expiries.items() > 0
            && self.call.replay.is_none()
            && state
                .find(hash, self.db, key)
                .is_some_and(|entry| entry.is_expired(self.call.now_ms))
        {
            self.map.find(key).counters.expired.fetch_add(1, Relaxed);
            self.remove(key);
        }
    }

    /// The live entry of a key.
    #[inline]
    fn live(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let (hash, at) = self.locate(key);
        self.purge(key, hash, at);
        self.guards[at]
            .1
            .find_mut(hash, self.db, key)
            .filter(|entry| !entry.is_absent())
    }

    /// Reads a key: counts a hit or a miss, and remembers the access for eviction.
    #[inline]
    pub fn lookup(&mut self, key: &[u8]) -> Option<&Entry> {
        let (hash, at) = self.locate(key);
        self.purge(key, hash, at);
        let counters = &self.map.find(key).counters;
        let found = self.guards[at]
            .1
            .find_mut(hash, self.db, key)
            .filter(|entry| !entry.is_absent());
        let Some(entry) = found else {
            counters.misses.fetch_add(1, Relaxed);
            return None;
        };
        counters.hits.fetch_add(1, Relaxed);
        if self.touches {
            clock::touch(entry, self.keyspace.tick(self.call.now_ms));
        }
        Some(entry)
    }

    /// Reads a key without using it: counts a hit or a miss, but eviction does not see the access.
    pub fn glance(&mut self, key: &[u8]) -> Option<&Entry> {
        let found = self.live(key).is_some();
        let counters = &self.map.find(key).counters;
        let counter = if found { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Relaxed);
        self.peek(key)
    }

    /// Reads a key without leaving a trace: the old value of a write.
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        self.live(key).map(|entry| &*entry)
    }

    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.live(key).is_some()
    }

    /// Replaces the value of a key by a string. Effect: `SET`.
    pub fn put(&mut self, key: &[u8], value: &[u8], expiry: Expiry) {
        let old = self.live(key).map(|entry| entry.expiry());
        let range = self.map.find(key).clone();
        let at = match expiry {
            Expiry::At(at) => Some(at),
            Expiry::Keep => old.unwrap_or_else(|| self.default_expiry(&range)),
            Expiry::Clear => self.default_expiry(&range),
        };
        if at.is_some_and(|at| at <= self.call.now_ms) && self.call.replay.is_none() {
            self.remove(key);
            return;
        }
        self.store_string(key, value, at, old, &range);
        self.record_put(key, value, at, &range);
    }

    fn default_expiry(&self, range: &Range) -> Option<i64> {
        let ttl = range.policy.default_ttl_ms;
        (ttl > 0 && self.call.replay.is_none()).then(|| self.call.now_ms.saturating_add(ttl))
    }

    fn store_string(
        &mut self,
        key: &[u8],
        value: &[u8],
        at: Option<i64>,
        old: Option<Option<i64>>,
        range: &Range,
    ) {
        let (hash, guard) = self.locate(key);
        let (db, clock) = (self.db, clock::fresh(self.keyspace.tick(self.call.now_ms)));
        let durable = range.is_durable();
        let state = &mut *self.guards[guard].1;
        let (before, after, unsettled) = match state.find_mut(hash, db, key) {
            Some(entry) => {
                let before = entry.size();
                entry.assign(value, at);
                let stale = reindex(entry, old.flatten(), at);
                entry.set_clock(clock);
                let sizes = (before, entry.size(), is_unsettled(entry, durable));
                state.stale_expiries.note(hash, stale);
                sizes
            }
            None => {
                let entry = Entry::new(db, key, value, at, clock);
                let (size, unsettled) = (entry.size(), is_unsettled(&entry, durable));
                state.insert(hash, entry);
                (0, size, unsettled)
            }
        };
        self.keyspace.count_bytes(range, before, after);
        count_change(range, db, old, Some(at));
        if unsettled {
            self.changed(hash, guard, key, range);
        }
    }

    /// After a change: index the expiry, mark the entry dirty.
    fn changed(&mut self, hash: u64, guard: usize, key: &[u8], range: &Range) {
        let (db, durable) = (self.db, range.is_durable());
        let state = &mut *self.guards[guard].1;
        let found = state
            .table
            .find_mut(hash, |entry| entry.db() == db && entry.key() == key);
        let Some(entry) = found else { return };
        let newly_indexed = entry.expiry().filter(|_| !entry.has(entry::INDEXED));
        let newly_dirty = durable && !entry.store_has(entry::DIRTY);
        let size = entry.size();
        if let Some(at) = newly_indexed {
            entry.set(entry::INDEXED, true);
            state.expiries.add(at, hash);
        }
        if newly_dirty {
            entry.store_set(entry::DIRTY, true);
            state.dirty.push(hash);
            self.keyspace.flush.note_dirty(size);
        }
    }

    fn record_put(&mut self, key: &[u8], value: &[u8], at: Option<i64>, range: &Range) {
        if !self.journaled(range) {
            return;
        }
        match at {
            None => self.effects.push(self.call.db, &[b"SET", key, value]),
            Some(at) => {
                let mut digits = itoa::Buffer::new();
                let at = digits.format(at).as_bytes();
                self.effects
                    .push(self.call.db, &[b"SET", key, value, b"PXAT", at]);
            }
        }
    }

    fn journaled(&self, range: &Range) -> bool {
        range.is_durable() && self.call.replay.is_none()
    }

    fn record(&mut self, range: &Range, words: &[&[u8]]) {
        if self.journaled(range) {
            self.effects.push(self.call.db, words);
        }
    }

    /// Changes a string in place; a key that is absent starts as an empty one. The string counts as edited (`raw`)
    /// unless `change` clears that flag.
    pub fn edit<R>(&mut self, key: &[u8], effect: Effect<'_>, change: impl FnOnce(&mut Entry) -> R) -> R {
        let old = self.live(key).map(|entry| entry.expiry());
        let range = self.map.find(key).clone();
        let default = if old.is_none() {
            self.default_expiry(&range)
        } else {
            None
        };
        if old.is_none() {
            self.store_string(key, b"", default, old, &range);
        }
        let (hash, guard) = self.locate(key);
        let (db, tick) = (self.db, self.keyspace.tick(self.call.now_ms));
        // proof: the key was live, or was stored just above under the same lock.
        let entry = self.guards[guard]
            .1
            .find_mut(hash, db, key)
            .expect("entry is resident");
        let before = entry.size();
        entry.set(entry::EDITED, true);
        let result = change(entry);
        if self.touches {
            clock::touch(entry, tick);
        }
        let (after, unsettled) = (entry.size(), is_unsettled(entry, range.is_durable()));
        self.keyspace.count_bytes(&range, before, after);
        if unsettled {
            self.changed(hash, guard, key, &range);
        }
        match effect {
            Effect::AsReceived => self.record(&range, self.call.received),
            Effect::Command(words) => self.record(&range, words),
        }
        if let Some(at) = default {
            self.record(
                &range,
                &[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()],
            );
        }
        result
    }

    /// Notes how a string came about that was just put: flags of `entry::ORIGIN`. No effect.
    pub fn mark_origin(&mut self, key: &[u8], origin: u8) {
        if origin != 0
            && let Some(entry) = self.live(key)
        {
            entry.set(origin & entry::ORIGIN, true);
        }
    }

    /// Deletes a key; false when there was none. Effect: `DEL`.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        if self.live(key).is_none() {
            return false;
        }
        self.remove(key);
        true
    }

    /// Deletes the entry of a key, expired or not.
    fn remove(&mut self, key: &[u8]) {
        let (hash, guard) = self.locate(key);
        let range = self.map.find(key).clone();
        if self
            .keyspace
            .remove_entry(&mut self.guards[guard].1, hash, self.db, key, &range)
        {
            self.record(&range, &[b"DEL", key]);
        }
    }

    /// Gives a key an expiry, or takes it away. An expiry that has passed deletes the key. False when there is no
    /// such key, or nothing to take away. Effect: `PEXPIREAT`, `PERSIST` or `DEL`.
    pub fn set_expiry(&mut self, key: &[u8], at: Option<i64>) -> bool {
        let Some(entry) = self.live(key) else { return false };
        let old = entry.expiry();
        if old.is_none() && at.is_none() {
            return false;
        }
        if at.is_some_and(|at| at <= self.call.now_ms) && self.call.replay.is_none() {
            self.remove(key);
            return true;
        }
        let range = self.map.find(key).clone();
        let (hash, guard) = self.locate(key);
        let db = self.db;
        let state = &mut *self.guards[guard].1;
        if let Some(entry) = state.find_mut(hash, db, key) {
            let before = entry.size();
            entry.set_expiry(at);
            let stale = reindex(entry, old, at);
            let after = entry.size();
            state.stale_expiries.note(hash, stale);
            self.keyspace.count_bytes(&range, before, after);
        }
        count_change(&range, db, Some(old), Some(at));
        self.changed(hash, guard, key, &range);
        match at {
            Some(at) => self.record(
                &range,
                &[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()],
            ),
            None => self.record(&range, &[b"PERSIST", key]),
        }
        true
    }

    /// Appends the effects to the journal. Returns the offset that replies have to wait for; 0 for none.
    pub fn commit(mut self) -> u64 {
        self.finish()
    }

    fn finish(&mut self) -> u64 {
        if self.finished {
            return 0;
        }
        self.finished = true;
        if let Some(end) = self.call.replay {
            self.guards
                .iter_mut()
                .for_each(|(_, state)| state.last_offset = state.last_offset.max(end));
        }
        if !self.effects.is_empty()
            && let Some(journal) = self.keyspace.journal()
        {
            let end = journal.append(self.effects.finish());
            for (_, state) in &mut self.guards {
                state.last_offset = end;
            }
            self.effects.clear();
        }
        self.gate()
    }

    /// The newest offset that these shards have seen, where a range among the keys waits for the disk.
    fn gate(&self) -> u64 {
        if !self.map.any_gated() || !self.call.keys.iter().any(|key| self.map.find(key).is_gated()) {
            return 0;
        }
        let newest = self
            .guards
            .iter()
            .map(|(_, state)| state.last_offset)
            .max()
            .unwrap_or(0);
        let synced = self.keyspace.journal().map_or(u64::MAX, Journal::synced);
        if newest > synced { newest } else { 0 }
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// True when an entry still has to be put among the dirty ones, or its expiry into the index.
fn is_unsettled(entry: &Entry, durable: bool) -> bool {
    durable && !entry.store_has(entry::DIRTY) || entry.has(entry::EXPIRES) && !entry.has(entry::INDEXED)
}

/// After an expiry changed: the index's item still stands for it only if it comes no later than the new expiry. Returns
/// the old one if the store's index has to be told (see `stale_expiry`).
fn reindex(entry: &mut Entry, old: Option<i64>, new: Option<i64>) -> Option<i64> {
    if old.zip(new).is_none_or(|(old, new)| new < old) {
        entry.set(entry::INDEXED, false);
    }
    if old == new {
        None
    } else {
        stale_expiry(entry, old)
    }
}

/// Counts keys and expiries: outer `None` is no key, inner `None` a key without expiry.
pub(super) fn count_change(range: &Range, db: u8, old: Option<Option<i64>>, new: Option<Option<i64>>) {
    debug_assert!((db as usize) < DBS);
    let counters = &range.counters;
    let keys = i64::from(new.is_some()) - i64::from(old.is_some());
    if keys != 0 {
        counters.keys[db as usize].fetch_add(keys, Relaxed);
    }
    let expires = i64::from(new.flatten().is_some()) - i64::from(old.flatten().is_some());
    if expires != 0 {
        counters.expires[db as usize].fetch_add(expires, Relaxed);
    }
}
