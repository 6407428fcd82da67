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
//! Guarantees: a group locks all its shards at once, in ascending order, and a command of it locks no others (one that
//! might is run in a group of all shards); a shard is lent to one guard at a time.

use super::events::{Noted, mark_more};
use super::load::{Guards, KnownAbsent, Reach};
use super::shard::Shard;
use super::{Effects, Keyspace, StoreError};
use crate::journal::Journal;
use std::cell::RefCell;

#[derive(Default)]
struct Held {
    /// In the order of their addresses, and whether each is lent.
    shards: Vec<(*const Shard, bool)>,
    absent: KnownAbsent,
}

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

fn with_lent<R>(shard: &Shard, change: impl FnOnce(&mut bool) -> R) -> Option<R> {
    HELD.with_borrow_mut(|held| {
        let shards = &mut held.as_mut()?.shards;
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
    HELD.with_borrow(Option::is_some)
}

/// True when the group knows that the store has no row of a key with this hash.
pub(super) fn knows_absent(hash: u64, epoch: u32) -> bool {
    HELD.with_borrow(|held| {
        held.as_ref()
            .is_some_and(|held| held.absent.contains(&(hash, epoch)))
    })
}

/// Shards held for a row of commands.
pub struct Group<'k> {
    keyspace: &'k Keyspace,
    /// Not looked into while the group is active: commands are lent them.
    guards: Guards<'k>,
    gated: bool,
}

impl Keyspace {
    /// Locks the shards of keys of logical databases, or every shard, until the group is committed or dropped.
    pub fn hold(&self, keys: &[(u8, &[u8])], all: bool, now_ms: i64) -> Result<Group<'_>, StoreError> {
        let reach = if all { Reach::Every } else { Reach::Group };
        let (locked, known) = self.lock_resident(keys, reach, false, now_ms)?;
        let gated =
            locked.map.any_gated() && (all || keys.iter().any(|(_, key)| locked.map.find(key).is_gated()));
        let guards = locked.guards;
        // Shards are in one slice, so this is the order of their addresses, too.
        let shards = guards.iter().map(|(_, guard)| (guard.address(), false)).collect();
        HELD.set(Some(Held {
            shards,
            absent: known.absent,
        }));
        Ok(Group {
            keyspace: self,
            guards,
            gated,
        })
    }
}

impl Group<'_> {
    /// Appends what the commands changed as one record, and tells of it. Returns the offset that replies have to wait
    /// for; 0 for none.
    pub fn commit(mut self, effects: &mut Effects) -> u64 {
        HELD.set(None);
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
        self.tell(&heard, end);
        let newest = self.guards.iter().map(|(_, state)| state.last_offset).max();
        let synced = journal.map_or(u64::MAX, Journal::synced);
        newest
            .filter(|newest| self.gated && *newest > synced)
            .unwrap_or(0)
    }

    fn tell(&mut self, heard: &[Noted], offset: u64) {
        let map = self.keyspace.ranges();
        for noted in heard {
            let at = self
                .guards
                .binary_search_by_key(&noted.guard, |(shard, _)| *shard);
            // proof: the event is of a key whose shard was lent by this group.
            let at = at.expect("the shard is held");
            self.keyspace.tell_of(&map, &mut self.guards[at].1, noted, offset);
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        HELD.set(None);
    }
}
