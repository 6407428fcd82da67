//! Work on all resident entries that counts as done at one moment, without holding every shard while it is done.
//!
//! ```text
//! moment:  every shard is locked for an instant     each is told what it owes
//! then:    whoever locks a shard that owes, pays    the work is done there before anything else can happen
//!          the thread that asked for it locks the others in turn
//! ```
//!
//! So everybody sees the keyspace as if the work had been done at the moment, and nobody waits for more than one shard's
//! part of it: some hundred entries. Snapshots, flushed databases, counts of ranges, their moves between tiers and their
//! ends work so.

use super::shard::{ShardGuard, ShardState};
use super::{Keyspace, held};
use std::sync::Arc;

/// Work that a shard owes. It is done with the shard locked, once per shard.
pub trait Owed: Send + Sync {
    /// The shard's number is what its sealed rows are found by.
    fn pay(&self, state: &mut ShardState, shard: usize);
}

impl Keyspace {
    /// Locks every shard. What is owed is paid before, shard by shard, so that all are held for a moment only.
    pub(super) fn lock_all(&self) -> Vec<ShardGuard<'_>> {
        // In a group every shard is held already: only a group of all of them gets here.
        let _reach = (!held::is_active()).then(|| self.reach());
        self.pay_all();
        self.shards.iter().map(|shard| shard.lock()).collect()
    }

    /// From this moment on every shard owes this; `guards` are all shards.
    pub(super) fn owe(guards: &mut [ShardGuard<'_>], owed: &Arc<impl Owed + 'static>) {
        for (shard, state) in guards.iter_mut().enumerate() {
            state.stale_expiries.owe(owed.clone(), shard);
        }
    }

    /// Has every shard pay what it owes.
    pub(super) fn pay_all(&self) {
        for shard in &self.shards {
            drop(shard.lock());
        }
    }
}
