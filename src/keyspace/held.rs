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

use super::load::KnownAbsent;
use super::shard::{Shard, ShardGuard};
use super::{Effects, Keyspace, StoreError};
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
    guards: Vec<ShardGuard<'k>>,
    gated: bool,
}

impl Keyspace {
    /// Locks the shards of keys of logical databases, or every shard, until the group is committed or dropped.
    pub fn hold(&self, keys: &[(u8, &[u8])], all: bool, now_ms: i64) -> Result<Group<'_>, StoreError> {
        let (locked, absent) = self.lock_resident(keys, all, false, now_ms)?;
        let gated =
            locked.map.any_gated() && (all || keys.iter().any(|(_, key)| locked.map.find(key).is_gated()));
        let guards: Vec<ShardGuard<'_>> = locked.guards.into_iter().map(|(_, guard)| guard).collect();
        // Shards are in one slice, so this is the order of their addresses, too.
        let shards = guards.iter().map(|guard| (guard.address(), false)).collect();
        HELD.set(Some(Held { shards, absent }));
        Ok(Group {
            keyspace: self,
            guards,
            gated,
        })
    }
}

impl Group<'_> {
    /// Appends what the commands changed as one record. Returns the offset that replies have to wait for; 0 for none.
    pub fn commit(mut self, effects: &mut Effects) -> u64 {
        HELD.set(None);
        let Some(journal) = self.keyspace.journal() else {
            effects.clear();
            return 0;
        };
        if !effects.is_empty() {
            let end = journal.append(effects.finish());
            effects.clear();
            self.guards.iter_mut().for_each(|state| state.last_offset = end);
        }
        let newest = self.guards.iter().map(|state| state.last_offset).max();
        newest
            .filter(|newest| self.gated && *newest > journal.synced())
            .unwrap_or(0)
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        HELD.set(None);
    }
}
