//! Several transactions as one: the shards that a thread holds throughout.
//!
//! ```text
//!  Keyspace::hold ──> every shard needed is locked, all keys are resident or known to be absent
//!        each command: Keyspace::begin locks its shards as always, and is lent them; its effects are kept back
//!  Group::commit  ──> the effects of all commands as one record of the journal; unlocked
//! ```
//!
//! So a command does not know whether it runs alone or in a group, and what runs alone pays nothing for it: only who
//! finds a shard locked asks whether it is its own thread that holds it.
//!
//! Guarantees: a group locks all its shards at once, and a command of it locks no others (one that might is run in a
//! group of all shards); a shard is lent to one guard at a time.
//!
//! A script may reach for keys that it did not declare. Then its group is extended:
//! * `try_extend` takes a shard if nobody holds it, and never waits;
//! * `extend` waits for it, and is for threads that have the *right to reach*, which one thread has at a time.
//!
//! Nobody waits for ever, because: (1) a thread that holds a shard waits for another shard only if it has the right to
//! reach; that is so for groups, for commands of several keys (`Keyspace::lock_shards` lets go before it waits) and for
//! what locks all shards. (2) Nobody waits for the right while holding a shard. So whoever has the right waits for
//! threads that wait for no shard and not for the right, and these come to their end.

use super::effects::Said;
use super::events::{Noted, mark_more};
use super::load::{Guards, KnownAbsent, Place, Reach, may_wait};
use super::range::Range;
use super::records::Topic;
use super::shard::{SHORT_WAIT, Shard};
use super::{Effects, Keyspace, StoreError};
use crate::journal::{Journal, unix_ms};
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};

/// What a thread's group holds; it stands where it is from group to group.
#[derive(Default)]
struct Held {
    /// There is a group.
    active: bool,
    /// In the order of their addresses, and whether each is lent.
    shards: SmallVec<[(*const Shard, bool); 4]>,
    absent: KnownAbsent,
    /// Numbers of the shards that were taken later; the group lets go of them.
    extra: Vec<usize>,
}

thread_local! {
    static HELD: RefCell<Held> = RefCell::default();
}

fn with_lent<R>(shard: &Shard, change: impl FnOnce(&mut bool) -> R) -> Option<R> {
    HELD.with_borrow_mut(|held| {
        let shards = &mut held.shards;
        let at = shards.binary_search_by_key(&std::ptr::from_ref(shard), |(shard, _)| *shard);
        Some(change(&mut shards[at.ok()?].1))
    })
}

/// Lends a shard of this thread's group; false when the thread has no group, or not this shard in it.
pub(super) fn borrow(shard: &Shard) -> bool {
    let taken = with_lent(shard, |lent| {
        assert!(!*lent, "a shard is locked once by a command");
        *lent = true;
    });
    taken.is_some()
}

pub(super) fn give_back(shard: &Shard) {
    with_lent(shard, |lent| *lent = false);
}

/// True on a thread whose commands run in a group: it must not wait for what other threads do with the shards.
pub fn is_active() -> bool {
    HELD.with_borrow(|held| held.active)
}

/// True when the group knows that the store has no row of a key with this hash.
pub(super) fn knows_absent(hash: u64, epoch: u32) -> bool {
    HELD.with_borrow(|held| !held.absent.is_empty() && held.absent.contains(&(hash, epoch)))
}

/// Shards held for a row of commands.
pub struct Group<'k> {
    keyspace: &'k Keyspace,
    /// Not looked into while the group is active: commands are lent them.
    guards: Guards<'k>,
    gated: bool,
    /// They wait also if the disk does not keep up.
    gated_when_late: bool,
}

impl Keyspace {
    /// Locks the shards of keys of logical databases, or every shard, until the group is committed or dropped.
    pub fn hold(&self, keys: &[(u8, &[u8])], all: bool, now_ms: i64) -> Result<Group<'_>, StoreError> {
        if let ([(db, key)], false) = (keys, all)
            && let Some(group) = self.hold_warm(*db, key)
        {
            return Ok(group);
        }
        let reach = if all { Reach::Every } else { Reach::Group };
        let (locked, known) = self.lock_resident(keys, reach, false, now_ms)?;
        let any = |asks: fn(&Range) -> bool| keys.iter().any(|(_, key)| asks(locked.map.find(key)));
        let gated = locked.map.any_gated() && (all || any(Range::is_gated));
        let gated_when_late = all || any(Range::waits_when_late);
        if !known.absent.is_empty() {
            HELD.with_borrow_mut(|held| held.absent = known.absent);
        }
        Ok(self.group(locked.guards, gated, gated_when_late))
    }

    /// The same of one key, if nothing has to be looked for in a store.
    fn hold_warm(&self, db: u8, key: &[u8]) -> Option<Group<'_>> {
        let (db, logical) = (self.physical(db), db);
        let hash = self.hasher.hash(db, key);
        let shard = self.shard_of(hash);
        let guard = self.shards[shard].lock();
        if self.would_load(&guard, (db, hash, key)) || self.physical(logical) != db {
            return None;
        }
        // SAFETY: the guard goes into the group, which outlives this.
        let map = unsafe { self.ranges.held() };
        let range = map.find(key);
        let (gated, gated_when_late) = (range.is_gated(), range.waits_when_late());
        Some(self.group(SmallVec::from_buf([(shard, guard)]), gated, gated_when_late))
    }

    /// A group of this thread.
    fn group<'k>(&'k self, guards: Guards<'k>, gated: bool, gated_when_late: bool) -> Group<'k> {
        lend(&guards);
        Group {
            keyspace: self,
            guards,
            gated,
            gated_when_late,
        }
    }
}

impl Group<'_> {
    /// Appends what the commands changed as one record, and tells of it. Returns the offset that replies have to wait
    /// for; 0 for none.
    pub fn commit(mut self, effects: &mut Effects) -> u64 {
        self.end();
        let journal = self.keyspace.journal();
        let mut end = 0;
        if let Some(journal) = journal.filter(|_| !effects.is_empty()) {
            end = journal.append(effects.finish());
            self.guards
                .iter_mut()
                .for_each(|(_, state)| state.last_offset = end);
        }
        effects.clear();
        let mut heard = effects.take_heard();
        mark_more(&mut heard);
        self.tell(&heard, &effects.take_said(), end);
        if end > 0 && self.gated_when_late && self.keyspace.is_late(unix_ms() as i64) {
            return end;
        }
        let newest = self.guards.iter().map(|(_, state)| state.last_offset).max();
        let synced = journal.map_or(u64::MAX, Journal::synced);
        newest
            .filter(|newest| self.gated && *newest > synced)
            .unwrap_or(0)
    }

    /// Tells of events and messages, in the order in which they came.
    fn tell(&mut self, heard: &[Noted], said: &[Said], offset: u64) {
        let map = self.keyspace.ranges();
        let mut said = said.iter().peekable();
        for (number, noted) in heard.iter().enumerate() {
            while let Some(next) = said.next_if(|next| next.behind <= number) {
                self.publish(next);
            }
            let at = self
                .guards
                .binary_search_by_key(&noted.guard, |(shard, _)| *shard);
            // proof: the event is of a key whose shard was lent by this group.
            let at = at.expect("the shard is held");
            self.keyspace.tell_of(&map, &mut self.guards[at].1, noted, offset);
        }
        said.for_each(|rest| self.publish(rest));
    }

    /// The shards are lent again for it: the channel may stand in one of them.
    fn publish(&self, said: &Said) {
        lend(&self.guards);
        if let Some(listener) = self.keyspace.listener.get() {
            listener.said(self.keyspace, said);
        }
        end_lending();
    }
}

/// Commands of this thread may be lent these shards from now on.
fn lend(guards: &Guards<'_>) {
    HELD.with_borrow_mut(|held| {
        debug_assert!(!held.active, "a thread has one group");
        held.active = true;
        // Shards are in one slice, so this is the order of their addresses, too.
        let shards = guards.iter().map(|(_, guard)| (guard.address(), false));
        held.shards.extend(shards);
    });
}

/// They are lent no more. Returns the numbers of those that were taken later.
fn end_lending() -> Vec<usize> {
    HELD.with_borrow_mut(|held| {
        held.active = false;
        held.shards.clear();
        if !held.absent.is_empty() {
            held.absent = KnownAbsent::new();
        }
        std::mem::take(&mut held.extra)
    })
}

impl Group<'_> {
    /// Shards are lent no more; those that were taken later are the group's like the others.
    fn end(&mut self) {
        let extra = end_lending();
        if extra.is_empty() {
            return;
        }
        self.gated = self.keyspace.ranges().any_gated();
        self.gated_when_late = true;
        for shard in extra {
            self.guards.push((shard, self.keyspace.shards[shard].adopt()));
        }
        self.guards.sort_unstable_by_key(|(shard, _)| *shard);
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

thread_local! {
    /// This thread has the right to reach.
    static MAY_REACH: Cell<bool> = const { Cell::new(false) };
}

/// The right to reach; nothing, where the thread had it before.
pub struct Right<'k>(Option<MutexGuard<'k, ()>>);

impl Drop for Right<'_> {
    fn drop(&mut self) {
        if self.0.is_some() {
            MAY_REACH.set(false);
        }
    }
}

impl Keyspace {
    /// Waits for the right to reach, if the thread has it not. Not to be called while a shard is held without it.
    pub fn reach(&self) -> Right<'_> {
        if MAY_REACH.get() {
            return Right(None);
        }
        debug_assert!(!is_active());
        let right = match self.reach.try_lock_for(SHORT_WAIT) {
            Some(right) => right,
            // A script may have it for long.
            None => may_wait(|| self.reach.lock()),
        };
        MAY_REACH.set(true);
        Right(Some(right))
    }

    /// True when this thread's group holds the shard of a key of a logical database.
    pub fn holds(&self, db: u8, key: &[u8]) -> bool {
        self.holds_shard(self.shard_of(self.hasher.hash(self.physical(db), key)))
    }

    fn holds_shard(&self, shard: usize) -> bool {
        with_lent(&self.shards[shard], |_| ()).is_some()
    }

    /// Adds the shard of a key to this thread's group, unless somebody else holds it, or the key would have to be read
    /// from a store: then the group stays as it is, and the answer is false.
    pub fn try_extend(&self, db: u8, key: &[u8]) -> bool {
        let db = self.physical(db);
        let hash = self.hasher.hash(db, key);
        let shard = self.shard_of(hash);
        if self.holds_shard(shard) {
            let state = self.shards[shard].lock();
            return !self.would_load(&state, (db, hash, key));
        }
        let Some(guard) = self.shards[shard].try_lock() else {
            return false;
        };
        let place: Place<'_> = (db, hash, key);
        if self.would_load(&guard, place) {
            return false;
        }
        std::mem::forget(guard);
        self.take_down(shard);
        true
    }

    /// Adds the shard of a key to this thread's group; for threads that have the right to reach.
    pub fn extend(&self, db: u8, key: &[u8]) {
        self.extend_to(self.shard_of(self.hasher.hash(self.physical(db), key)));
    }

    /// Adds the shard of a topic to this thread's group; for threads that have the right to reach.
    pub fn extend_to_topic(&self, topic: &Topic<'_>) {
        self.extend_to(self.shard_of_topic(topic));
    }

    /// The number of the shard of a topic.
    pub fn shard_of_topic(&self, topic: &Topic<'_>) -> usize {
        let db = if topic.kind.watches() {
            self.physical(topic.db)
        } else {
            topic.db
        };
        self.shard_of(self.hasher.hash(db, topic.key))
    }

    fn extend_to(&self, shard: usize) {
        if !self.holds_shard(shard) {
            std::mem::forget(self.shards[shard].lock());
            self.take_down(shard);
        }
    }

    /// Adds every shard to this thread's group; for threads that have the right to reach.
    pub fn extend_to_all(&self) {
        let others: Vec<usize> = (0..self.shards.len())
            .filter(|shard| !self.holds_shard(*shard))
            .collect();
        for shard in &others {
            std::mem::forget(self.shards[*shard].lock());
        }
        HELD.with_borrow_mut(|held| {
            let added = others
                .iter()
                .map(|shard| (std::ptr::from_ref(&self.shards[*shard]), false));
            held.shards.extend(added);
            held.shards.sort_unstable_by_key(|(shard, _)| *shard);
            held.extra.extend(others);
        });
    }

    /// Notes a shard that was locked for this thread's group.
    fn take_down(&self, shard: usize) {
        let address = std::ptr::from_ref(&self.shards[shard]);
        HELD.with_borrow_mut(|held| {
            let at = held.shards.partition_point(|(other, _)| *other < address);
            held.shards.insert(at, (address, false));
            held.extra.push(shard);
        });
    }

    /// The numbers of the shards that this thread's group holds.
    pub fn held_shards(&self) -> Vec<usize> {
        let first = self.shards.as_ptr();
        let number = |shard: *const Shard| (shard as usize - first as usize) / size_of::<Shard>();
        HELD.with_borrow(|held| held.shards.iter().map(|(shard, _)| number(*shard)).collect())
    }

    /// The number of the shard of a key of a logical database.
    pub fn shard_number(&self, db: u8, key: &[u8]) -> usize {
        self.shard_of(self.hasher.hash(self.physical(db), key))
    }
}
