//! A transaction: the locked shards of its keys, and the only way in which handlers read and change entries.
//!
//! Guarantees:
//! * While a `Tx` lives, its keys are resident, guests, or known to be absent; nothing here waits for a disk. A guest
//!   is the copy of a sealed key: it serves reads, and is made resident before it is changed. Of paged collections,
//!   what the call says that it touches is in memory.
//! * Every change updates counts and bytes, puts the entry among the dirty ones and records its effect, exactly once.
//! * The effects are appended to the journal before the shards are unlocked, also when a handler panics.
//! * Expired keys and fields are never seen: a lookup that meets one deletes it, and that is an effect like any other.

mod amount;
mod heard;
mod settle;

use super::effects::{self, Effects, EffectsMark};
use super::entry::{self, Entry, NewValue, Value};
use super::events::Event;
use super::in_force::MapRef;
use super::load::{Guests, may_wait_if};
use super::paging::Elements;
use super::range::Range;
use super::shard::ShardGuard;
use super::table::Place;
use super::{Keyspace, clock};
use crate::journal::Journal;
use crate::object::pages::Pages;
use crate::object::{Limits, Native, Object};
use crate::resp::Reply;
pub use amount::{LARGE, STRING_ELEMENT};
use heard::Heard;
pub(in crate::keyspace) use settle::{count_change, settle};
use settle::{insert, record_value, reindex};
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
    /// What it touches of the values of its keys.
    pub elements: Elements,
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

/// A key holds a value of another type than the command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongType;

/// What becomes of an absent key that a command wants to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// It starts as an empty value, and is there if the change leaves something in it.
    Create,
    /// Nothing: the change is not run.
    Skip,
}

/// Takes down what an edit did. An edit that says nothing here changed nothing.
pub struct Change<'c> {
    db: u8,
    received: &'c [&'c [u8]],
    /// None where effects are not recorded.
    effects: Option<&'c mut Effects>,
    /// The same for those who have asked for what becomes of the key.
    aside: Option<&'c mut Vec<u8>>,
    is_new: bool,
    made: bool,
    /// The event that the change is, if the command does not say so, and one that follows it.
    called: Option<Event>,
    also: Option<Event>,
    /// Whether the event is told, if that is not just whether something changed.
    told: Option<bool>,
}

impl Change<'_> {
    /// The key was absent.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The effect is the command as received: it is deterministic and changes this key alone.
    pub fn as_received(&mut self) {
        self.command(self.received);
    }

    /// The effect is this command. Several may be given, each on this key alone.
    pub fn command(&mut self, words: &[&[u8]]) {
        self.made = true;
        if let Some(effects) = &mut self.effects {
            effects.push(self.db, words);
        }
        if let Some(aside) = &mut self.aside {
            effects::push_command(aside, words);
        }
    }

    /// The event is told although nothing changed, or is not although something did: where Redis has it so.
    pub fn told(&mut self, told: bool) {
        self.told = Some(told);
    }

    /// The change is this event, whatever the command is called.
    pub fn called(&mut self, event: Event) {
        self.called = Some(event);
    }

    /// The change is this event too, beside the one that the command is called by.
    pub fn also(&mut self, event: Event) {
        self.also = Some(event);
    }

    /// False where nobody reads the effects: what is dear to put together need not be, `command(&[])` will do.
    pub fn is_recorded(&self) -> bool {
        self.effects.is_some() || self.aside.is_some()
    }
}

/// A command found nothing and wants to be run again when one of these keys has changed.
pub struct Wait {
    pub keys: Vec<Vec<u8>>,
    /// Unix milliseconds; none waits for ever.
    pub deadline_ms: Option<i64>,
    /// The reply when the time is over.
    pub on_timeout: fn(&mut Reply),
    /// The command to be run then, if not the one received.
    pub words: Option<Vec<Vec<u8>>>,
}

/// Where a key of the transaction stands.
#[derive(Clone, Copy)]
struct Spot {
    hash: u64,
    /// Index of the guard of its shard.
    guard: usize,
    /// Its entry, which may be a tombstone; never an expired one.
    place: Option<Place>,
}

pub struct Tx<'a> {
    keyspace: &'a Keyspace,
    map: MapRef<'a>,
    guards: SmallVec<[(usize, ShardGuard<'a>); 1]>,
    call: Call<'a>,
    /// Physical database.
    db: u8,
    /// Hash of the first key, which is nearly always the one asked for.
    first_hash: u64,
    effects: &'a mut Effects,
    /// Keys that are sealed, and were read for this transaction.
    pub(super) guests: Guests,
    /// Accesses are noted on the entries' clocks.
    touches: bool,
    may_wait: bool,
    /// What the changes from now on are called, where the command does not say so.
    event: Option<Event>,
    /// What is to be told at the end, if anybody wants to know.
    heard: Option<Box<Heard>>,
    /// Aside, because it is rare: a transaction is handed on by value, and is dear to move when it is large.
    wait: Option<Box<Wait>>,
    finished: bool,
}

impl<'a> Tx<'a> {
    pub(super) fn new(
        keyspace: &'a Keyspace,
        map: MapRef<'a>,
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
            guests: Guests::new(),
            touches: true,
            may_wait: false,
            event: None,
            heard: None,
            wait: None,
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

    /// The range of a key.
    pub(super) fn range_of(&self, key: &[u8]) -> Arc<Range> {
        self.map.find(key).clone()
    }

    /// Where effects and events are now, to come back to.
    pub(super) fn effects_mark(&self) -> (EffectsMark, usize) {
        (self.effects.mark(), self.events())
    }

    pub(super) fn roll_back_effects(&mut self, (mark, events): &(EffectsMark, usize)) {
        self.effects.roll_back(mark);
        if let Some(heard) = &mut self.heard {
            heard.events.truncate(*events);
        }
    }

    /// From now on reads and edits leave the access clocks as they are (`CLIENT NO-TOUCH`).
    pub fn leave_clocks(&mut self) {
        self.touches = false;
    }

    /// The command may wait: it is one of a connection, not of a transaction or a script.
    pub fn allow_wait(&mut self) {
        self.may_wait = true;
    }

    /// Asks for the command to be run again later, in place of a reply. False when it may not wait: then the caller
    /// replies as if its time were over.
    pub fn wait(&mut self, wait: Wait) -> bool {
        if self.may_wait {
            self.wait = Some(Box::new(wait));
        }
        self.may_wait
    }

    pub fn take_wait(&mut self) -> Option<Wait> {
        self.wait.take().map(|wait| *wait)
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

    /// Finds a key. What has expired, itself or fields of it, is deleted first, with its effect.
    #[inline]
    fn find(&mut self, key: &[u8]) -> Spot {
        let (hash, guard) = self.locate(key);
        // Only in a transaction that has read sealed keys.
        self.admit(key);
        let (db, state) = (self.db, &self.guards[guard].1);
        let place = state
            .table
            .position(hash, |entry| entry.db() == db && entry.key() == key);
        let spot = Spot { hash, guard, place };
        // During replay nothing expires by itself: what expired then has its effect.
        if self.call.replay.is_none()
            && place
                .and_then(|place| state.table.at(place))
                .and_then(Entry::next_expiry)
                .is_some_and(|at| at <= self.call.now_ms)
        {
            return self.expire(key, spot);
        }
        spot
    }

    /// Where a key stands among the guests.
    #[inline]
    fn guest(&self, key: &[u8]) -> Option<usize> {
        if self.guests.is_empty() {
            return None;
        }
        let (hash, _) = self.locate(key);
        self.guests
            .iter()
            .position(|guest| guest.hash == hash && guest.entry.db() == self.db && guest.entry.key() == key)
    }

    /// Makes a key resident that is a guest.
    #[inline]
    fn admit(&mut self, key: &[u8]) {
        let Some(at) = self.guest(key) else { return };
        let guest = self.guests.swap_remove(at);
        let (_, guard) = self.locate(key);
        self.keyspace.unseal(&mut self.guards[guard].1, guest);
    }

    /// Deletes a key that has expired, or those fields that have.
    #[cold]
    fn expire(&mut self, key: &[u8], spot: Spot) -> Spot {
        let (db, now_ms) = (self.db, self.call.now_ms);
        if self.at(spot).is_some_and(|entry| entry.is_expired(now_ms)) {
            self.map.find(key).counters.expired.fetch_add(1, Relaxed);
            self.remove(key, &[Event::Expired]);
            if self.map.find(key).is_durable() {
                self.effects.note_expired(self.call.db, key);
            }
        } else if let Some(place) = spot.place {
            let object = self.at(spot).and_then(Entry::object);
            let spot_is_large = object.is_some_and(|object| object.len() > LARGE);
            let state = &mut *self.guards[spot.guard].1;
            let range = self.map.find(key);
            let found = (spot.hash, place);
            let effects = &mut *self.effects;
            let keyspace = self.keyspace;
            let before = effects.heard();
            // All of them, because none may be seen any more: of a large hash it may be many.
            may_wait_if(spot_is_large, || {
                keyspace.expire_fields(state, found, (now_ms, usize::MAX), range, effects);
            });
            let noted = self.effects.take_heard_from(before);
            self.note_all(spot.guard, noted);
        }
        Spot {
            place: self.guards[spot.guard]
                .1
                .table
                .position(spot.hash, |entry| entry.db() == db && entry.key() == key),
            ..spot
        }
    }

    /// The entry at a spot, unless it is a tombstone.
    #[inline]
    fn at(&self, spot: Spot) -> Option<&Entry> {
        let entry = self.guards[spot.guard].1.table.at(spot.place?);
        entry.filter(|entry| !entry.is_absent())
    }

    /// Reads a key: counts a hit or a miss, and remembers the access for eviction.
    #[inline]
    pub fn lookup(&mut self, key: &[u8]) -> Option<&Entry> {
        if let Some(at) = self.guest(key) {
            self.map.find(key).counters.hits.fetch_add(1, Relaxed);
            return Some(&self.guests[at].entry);
        }
        let spot = self.find(key);
        let counters = &self.map.find(key).counters;
        if self.at(spot).is_none() {
            counters.misses.fetch_add(1, Relaxed);
            self.miss(key);
            return None;
        }
        let entry = self.guards[spot.guard].1.table.at_mut(spot.place?)?;
        counters.hits.fetch_add(1, Relaxed);
        if self.touches {
            clock::touch(entry, self.keyspace.tick(self.call.now_ms));
        }
        Some(entry)
    }

    /// Reads a key without using it: counts a hit or a miss, but eviction does not see the access.
    pub fn glance(&mut self, key: &[u8]) -> Option<&Entry> {
        if let Some(at) = self.guest(key) {
            self.map.find(key).counters.hits.fetch_add(1, Relaxed);
            return Some(&self.guests[at].entry);
        }
        let spot = self.find(key);
        let counters = &self.map.find(key).counters;
        let found = self.at(spot).is_some();
        let counter = if found { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Relaxed);
        if !found {
            self.miss(key);
        }
        self.at(spot)
    }

    /// Reads a key without leaving a trace: the old value of a write.
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        if let Some(at) = self.guest(key) {
            return Some(&self.guests[at].entry);
        }
        let spot = self.find(key);
        self.at(spot)
    }

    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// Reads several keys, each as `lookup`, to have them side by side.
    pub fn lookup_all(&mut self, keys: &[&[u8]]) -> SmallVec<[Option<&Entry>; 4]> {
        for key in keys {
            self.lookup(key);
        }
        // Nothing moves any more: whatever had expired went with its lookup, and it is the same moment still.
        let spots: SmallVec<[Result<usize, Spot>; 4]> = keys
            .iter()
            .map(|key| self.guest(key).ok_or_else(|| self.find(key)))
            .collect();
        let entry = |at: Result<usize, Spot>| match at {
            Ok(guest) => Some(&self.guests[guest].entry),
            Err(spot) => self.at(spot),
        };
        spots.into_iter().map(entry).collect()
    }

    /// Reads several values of type `T`, as `lookup_all`.
    pub fn read_all<T: Native>(&mut self, keys: &[&[u8]]) -> Result<SmallVec<[Option<&T>; 4]>, WrongType> {
        let entries = self.lookup_all(keys);
        entries
            .into_iter()
            .map(|entry| entry.map(typed).transpose())
            .collect()
    }

    /// Reads a value of type `T`, as `lookup`.
    #[inline]
    pub fn read<T: Native>(&mut self, key: &[u8]) -> Result<Option<&T>, WrongType> {
        self.lookup(key).map(typed).transpose()
    }

    /// Reads a value of type `T`, as `peek`.
    pub fn peek_as<T: Native>(&mut self, key: &[u8]) -> Result<Option<&T>, WrongType> {
        self.peek(key).map(typed).transpose()
    }

    /// Replaces the value of a key by a string. Effect: `SET`.
    #[inline]
    pub fn put(&mut self, key: &[u8], value: &[u8], expiry: Expiry) {
        self.replace(key, NewValue::String(value), expiry);
    }

    /// Replaces the value of a key by one of any type. Effect: `SET`, or `RESTORE` with the serialized object.
    pub fn put_value(&mut self, key: &[u8], value: Value, expiry: Expiry) {
        match value {
            Value::String(bytes) => self.put(key, &bytes, expiry),
            Value::Object(object) => self.put_object(key, object, expiry),
        }
    }

    /// Replaces the value of a key by an object; an empty one removes it. Effect: `RESTORE`, or `DEL`.
    pub fn put_object(&mut self, key: &[u8], object: Object, expiry: Expiry) {
        if object.is_empty() {
            self.remove(key, &[Event::Del]);
        } else {
            self.replace(key, NewValue::Object(object), expiry);
        }
    }

    #[inline]
    fn replace(&mut self, key: &[u8], value: NewValue<'_>, expiry: Expiry) {
        let spot = self.find(key);
        let old = self.at(spot).map(Entry::expiry);
        let range = self.map.find(key);
        let at = match expiry {
            Expiry::At(at) => Some(at),
            Expiry::Keep => old.unwrap_or_else(|| default_expiry(range, &self.call)),
            Expiry::Clear => default_expiry(range, &self.call),
        };
        if at.is_some_and(|at| at <= self.call.now_ms) && self.call.replay.is_none() {
            self.remove(key, &[Event::Del]);
            return;
        }
        if range.is_durable() && self.call.replay.is_none() {
            record_value(self.effects, self.call.db, key, &value, at);
        }
        let (keyspace, db) = (self.keyspace, self.db);
        let state = &mut *self.guards[spot.guard].1;
        let clock = clock::fresh(keyspace.tick(self.call.now_ms));
        let watched = match spot.place.and_then(|place| state.table.at_mut(place)) {
            Some(entry) => {
                let (before, before_next) = (entry.size(), entry.next_expiry());
                let pages = entry.pages().map(Pages::version);
                entry.assign_value(value, at);
                entry.set_clock(clock);
                let stale = reindex(entry, before_next);
                keyspace.count_bytes(range, before, entry.size());
                let watched = entry.has(entry::WATCHED);
                state.stale_expiries.note(spot.hash, stale);
                if let Some(version) = pages {
                    state.stale_expiries.note_pages(db, key, version);
                }
                settle(keyspace, state, spot.hash, spot.place, range);
                watched
            }
            None => {
                let entry = Entry::with_value(db, key, value, at, clock);
                keyspace.count_bytes(range, 0, entry.size());
                insert(keyspace, state, spot.hash, entry, range)
            }
        };
        count_change(range, db, old, Some(at));
        if self.is_heard(watched, range) {
            let expires = matches!(expiry, Expiry::At(_));
            self.note_write(key, old.is_none(), (None, expires.then_some(Event::Expire)), None);
        }
    }

    /// Takes a value out of the keyspace, with its expiry and its origin flags. Effect: `DEL`.
    pub fn take(&mut self, key: &[u8]) -> Option<(Value, Option<i64>, u8)> {
        let spot = self.find(key);
        let state = &mut *self.guards[spot.guard].1;
        let entry = state
            .table
            .at_mut(spot.place?)
            .filter(|entry| !entry.is_absent())?;
        let (before, expiry, origin) = (entry.size(), entry.expiry(), entry.flags(entry::ORIGIN));
        let pages = entry.pages().map(Pages::version);
        let value = entry.take_value();
        self.keyspace
            .count_bytes(self.map.find(key), before, entry.size());
        if let Some(version) = pages {
            state.stale_expiries.note_pages(self.db, key, version);
        }
        self.remove(key, Event::of_removal(self.call.received));
        Some((value, expiry, origin))
    }

    /// Changes a string in place; an absent key starts as an empty one, and stays absent if the change says nothing.
    /// The string counts as edited (`raw`) unless `change` clears that flag.
    #[inline]
    pub fn edit<R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Entry, &mut Change<'_>) -> R,
    ) -> Result<R, WrongType> {
        let spot = self.find(key);
        if self.at(spot).is_some_and(|entry| entry.object().is_some()) {
            return Err(WrongType);
        }
        Ok(self.edit_at(spot, key, |entry, noted| {
            let origin = entry.flags(entry::ORIGIN);
            entry.set(entry::EDITED, true);
            let result = change(entry, noted);
            if !noted.made {
                entry.set(entry::ORIGIN, false);
                entry.set(origin, true);
            }
            result
        }))
    }

    /// Changes a value of type `T` in place. None when the key is absent and is to be left so. A value that ends
    /// empty loses its key: the same happens when its effects are replayed.
    #[inline]
    pub fn change<T: Native, R>(
        &mut self,
        key: &[u8],
        absent: Absent,
        change: impl FnOnce(&mut T, &mut Change<'_>) -> R,
    ) -> Result<Option<R>, WrongType> {
        let spot = self.find(key);
        match self.at(spot) {
            None if absent == Absent::Skip => return Ok(None),
            Some(entry) => {
                typed::<T>(entry)?;
            }
            None => {}
        }
        let mut is_empty = false;
        let result = self.edit_at(spot, key, |entry, noted| {
            if entry.object().is_none() {
                entry.assign_object(T::empty().into_object(), entry.expiry());
            }
            let value = entry.object_mut().and_then(T::of_mut);
            // proof: the type was checked above, or the object was made just now.
            let value = value.expect("value is of its type");
            let result = change(value, noted);
            is_empty = value.is_empty();
            result
        });
        // A new one that stayed as it was is not in the table.
        if is_empty && let Some(entry) = self.peek(key) {
            let watched = entry.has(entry::WATCHED);
            self.forget(key);
            if self.is_heard(watched, self.map.find(key)) {
                self.note(key, Event::Del);
            }
        }
        Ok(Some(result))
    }

    /// Runs a change on the entry of a key, or on a new empty string, and does what follows from it.
    #[inline]
    fn edit_at<R>(
        &mut self,
        spot: Spot,
        key: &[u8],
        change: impl FnOnce(&mut Entry, &mut Change<'_>) -> R,
    ) -> R {
        let range = self.map.find(key);
        let journaled = range.is_durable() && self.call.replay.is_none();
        let mut aside = self.wants_values(spot, key).then(Vec::new);
        let mut noted = Change {
            db: self.call.db,
            received: self.call.received,
            effects: journaled.then_some(&mut *self.effects),
            aside: aside.as_mut(),
            is_new: false,
            made: false,
            called: None,
            also: None,
            told: None,
        };
        let (keyspace, tick) = (self.keyspace, self.keyspace.tick(self.call.now_ms));
        let state = &mut *self.guards[spot.guard].1;
        let found = spot.place.and_then(|place| state.table.at_mut(place));
        if let Some(entry) = found.filter(|entry| !entry.is_absent()) {
            let (before, before_next) = (entry.size(), entry.next_expiry());
            let result = change(entry, &mut noted);
            let (made, told) = (noted.made, noted.told.unwrap_or(noted.made));
            let events = (noted.called, noted.also);
            let watched = entry.has(entry::WATCHED);
            if made {
                if self.touches {
                    clock::touch(entry, tick);
                }
                keyspace.count_bytes(range, before, entry.size());
                if entry.next_expiry() != before_next {
                    let stale = reindex(entry, before_next);
                    state.stale_expiries.note(spot.hash, stale);
                }
                settle(keyspace, state, spot.hash, spot.place, range);
            }
            if told && self.is_heard(watched, range) {
                self.note_write(key, false, events, aside);
            }
            return result;
        }
        let expiry = default_expiry(range, &self.call);
        let mut entry = Entry::new(self.db, key, b"", expiry, clock::fresh(tick));
        noted.is_new = true;
        let result = change(&mut entry, &mut noted);
        if !noted.made {
            return result;
        }
        if let Some(at) = expiry {
            noted.command(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
        }
        let events = (noted.called, noted.also);
        count_change(range, self.db, None, Some(expiry));
        let watched = match spot.place.and_then(|place| state.table.at_mut(place)) {
            Some(tombstone) => {
                let before = tombstone.size();
                tombstone.revive(entry);
                keyspace.count_bytes(range, before, tombstone.size());
                let watched = tombstone.has(entry::WATCHED);
                settle(keyspace, state, spot.hash, spot.place, range);
                watched
            }
            None => {
                keyspace.count_bytes(range, 0, entry.size());
                insert(keyspace, state, spot.hash, entry, range)
            }
        };
        if self.is_heard(watched, range) {
            self.note_write(key, true, events, aside);
        }
        result
    }

    /// Says when a key was last used, and how often: what a copy from elsewhere brings with it. No effect.
    pub fn set_access(&mut self, key: &[u8], idle_seconds: Option<u32>, frequency: Option<u8>) {
        let (spot, tick) = (self.find(key), self.keyspace.tick(self.call.now_ms));
        let table = &mut self.guards[spot.guard].1.table;
        if let Some(entry) = spot.place.and_then(|place| table.at_mut(place)) {
            entry.set_clock(clock::at(tick, idle_seconds.unwrap_or(0), frequency));
        }
    }

    /// Notes how a string came about that was just put: flags of `entry::ORIGIN`. No effect.
    pub fn mark_origin(&mut self, key: &[u8], origin: u8) {
        let spot = self.find(key);
        let table = &mut self.guards[spot.guard].1.table;
        if origin != 0
            && let Some(entry) = spot.place.and_then(|place| table.at_mut(place))
        {
            entry.set(origin & entry::ORIGIN, true);
        }
    }

    /// Deletes a key; false when there was none. Effect: `DEL`.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        self.exists(key) && self.remove(key, Event::of_removal(self.call.received))
    }

    /// Deletes the entry of a key, expired or not.
    fn remove(&mut self, key: &[u8], events: &[Event]) -> bool {
        let (hash, guard) = self.locate(key);
        let found = self.guards[guard].1.find(hash, self.db, key);
        let watched = found.is_some_and(|entry| entry.has(entry::WATCHED));
        let removed = self.forget(key);
        if removed && self.is_heard(watched, self.map.find(key)) {
            events.iter().for_each(|event| self.note(key, *event));
        }
        let range = self.map.find(key);
        if removed && range.is_durable() && self.call.replay.is_none() {
            self.effects.push(self.call.db, &[b"DEL", key]);
        }
        removed
    }

    /// Deletes the entry of a key without an effect of its own: what was recorded before leads to it.
    fn forget(&mut self, key: &[u8]) -> bool {
        self.admit(key);
        let (hash, guard) = self.locate(key);
        let range = self.map.find(key);
        self.keyspace
            .remove_entry(&mut self.guards[guard].1, hash, self.db, key, range)
    }

    /// Gives a key an expiry, or takes it away. An expiry that has passed deletes the key. False when there is no
    /// such key, or nothing to take away. Effect: `PEXPIREAT`, `PERSIST` or `DEL`.
    pub fn set_expiry(&mut self, key: &[u8], at: Option<i64>) -> bool {
        let spot = self.find(key);
        let Some(old) = self.at(spot).map(Entry::expiry) else {
            return false;
        };
        if old.is_none() && at.is_none() {
            return false;
        }
        if at.is_some_and(|at| at <= self.call.now_ms) && self.call.replay.is_none() {
            return self.remove(key, &[Event::Del]);
        }
        let range = self.map.find(key);
        let mut watched = false;
        let state = &mut *self.guards[spot.guard].1;
        if let Some(entry) = spot.place.and_then(|place| state.table.at_mut(place)) {
            let (before, before_next) = (entry.size(), entry.next_expiry());
            entry.set_expiry(at);
            watched = entry.has(entry::WATCHED);
            let stale = reindex(entry, before_next);
            self.keyspace.count_bytes(range, before, entry.size());
            state.stale_expiries.note(spot.hash, stale);
        }
        settle(self.keyspace, state, spot.hash, spot.place, range);
        count_change(range, self.db, Some(old), Some(at));
        if range.is_durable() && self.call.replay.is_none() {
            let mut digits = itoa::Buffer::new();
            match at {
                Some(at) => {
                    let words: [&[u8]; 3] = [b"PEXPIREAT", key, digits.format(at).as_bytes()];
                    self.effects.push(self.call.db, &words);
                }
                None => self.effects.push(self.call.db, &[b"PERSIST", key]),
            }
        }
        if self.is_heard(watched, range) {
            self.note(
                key,
                if at.is_some() {
                    Event::Expire
                } else {
                    Event::Persist
                },
            );
        }
        true
    }

    /// Bytes of what is kept of the key's subscribers, whether it has a value or not.
    pub fn subscriber_bytes(&self, key: &[u8]) -> usize {
        let (hash, guard) = self.locate(key);
        self.guards[guard].1.records.bytes_at(hash, self.db, key)
    }

    /// The thresholds of encodings.
    pub fn limits(&self) -> Limits {
        self.map.inherited.objects
    }

    /// Appends the effects to the journal. Returns the offset that replies have to wait for; 0 for none.
    #[inline]
    pub fn commit(mut self) -> u64 {
        self.finish()
    }

    /// As `commit`, for who drops the transaction then: to hand it on would move it.
    pub fn finish(&mut self) -> u64 {
        if self.finished {
            return 0;
        }
        self.finished = true;
        if let Some(end) = self.call.replay {
            self.guards
                .iter_mut()
                .for_each(|(_, state)| state.last_offset = state.last_offset.max(end));
        }
        let mut end = 0;
        if self.effects.is_due()
            && let Some(journal) = self.keyspace.journal()
        {
            end = journal.append(self.effects.finish());
            for (_, state) in &mut self.guards {
                state.last_offset = end;
            }
            self.effects.clear();
        }
        if let Some(heard) = self.heard.take() {
            self.tell(heard.events, end);
        }
        self.gate(end)
    }

    /// The newest offset that these shards have seen, where a range among the keys waits for the disk; or what was just
    /// appended, where it must wait because the disk is late.
    fn gate(&self, appended: u64) -> u64 {
        if appended > 0 && self.keyspace.is_late(self.call.now_ms) {
            let held = |key: &&[u8]| self.map.find(key).waits_when_late();
            return if self.call.keys.iter().any(held) {
                appended
            } else {
                0
            };
        }
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

/// The value of type `T` in a live entry.
fn typed<T: Native>(entry: &Entry) -> Result<&T, WrongType> {
    entry.object().and_then(T::of).ok_or(WrongType)
}

fn default_expiry(range: &Range, call: &Call<'_>) -> Option<i64> {
    let ttl = range.policy.default_ttl_ms;
    (ttl > 0 && call.replay.is_none()).then(|| call.now_ms.saturating_add(ttl))
}
