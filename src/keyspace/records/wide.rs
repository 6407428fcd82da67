//! What happens to many keys at once, told to those who have subscribed to any of them. All of it runs while every
//! shard is locked, but for `limit_caches`.

use super::super::entry;
use super::super::events::{Event, Happened, News};
use super::super::shard::{ShardGuard, ShardState};
use super::super::subscribers::Subscribers;
use super::{Keyspace, Kind, Record, Slot};
use crate::config::KeyspaceEvents;
use std::sync::atomic::Ordering::Relaxed;

impl Keyspace {
    /// Every key that is cached may have changed, and whoever caches keys is told so.
    pub(in crate::keyspace) fn forget_all_caches(&self, guards: &mut [ShardGuard<'_>]) {
        if self.record_counts.records(Kind::Caches) > 0 {
            for state in guards {
                self.forget_caches_in(state, usize::MAX, 0, |_, _| {});
            }
        }
        if let Some(listener) = self.listener.get() {
            listener.all_stale();
        }
    }

    /// Takes up to `most` records of cached keys out of a shard, from a slot on, and shows each.
    fn forget_caches_in(
        &self,
        state: &mut ShardState,
        most: usize,
        from: usize,
        mut show: impl FnMut(&[u8], &Subscribers),
    ) -> usize {
        let Some(table) = &mut state.records.0 else {
            return 0;
        };
        let (slots, mut taken) = (table.slots.len(), 0);
        for at in 0..slots {
            if taken == most {
                break;
            }
            let slot = ((from + at) % slots) as u32;
            let Some(record) = table.at(slot).filter(|record| record.kind == Kind::Caches) else {
                continue;
            };
            let hash = self.hasher.hash(record.db, &record.key);
            if let Some(record) = table.remove(hash, slot) {
                self.note_caches_end(&record);
                show(&record.key, &record.subscribers);
                taken += 1;
            }
        }
        state.records.shrink();
        taken
    }

    /// Lets clients forget keys, whichever chance brings, until no more than `most` are noted as cached, or `effort`
    /// are forgotten.
    pub fn limit_caches(&self, most: usize, effort: usize) {
        let Some(listener) = self.listener.get() else {
            return;
        };
        let excess = self.record_counts.records(Kind::Caches).saturating_sub(most);
        if excess == 0 {
            return;
        }
        let mut left = excess.min(effort);
        let first = fastrand::usize(..self.shards.len());
        for at in 0..self.shards.len() {
            if left == 0 {
                return;
            }
            let mut state = self.shards[(first + at) % self.shards.len()].lock();
            // Not all from one shard, while there are others.
            let share = left.div_ceil(4);
            let from = fastrand::usize(..1 << 20);
            left -= self.forget_caches_in(&mut state, share, from, |key, who| listener.stale(key, who, 0));
        }
    }

    /// Keys of physical databases are about to go, or to be others'.
    pub(in crate::keyspace) fn break_all_transactions(&self, guards: &[ShardGuard<'_>], databases: &[u8]) {
        let Some(listener) = self.listener.get() else {
            return;
        };
        if self.record_counts.records(Kind::Transactions) == 0 {
            return;
        }
        for table in guards.iter().filter_map(|state| state.records.0.as_ref()) {
            for slot in &table.slots {
                if let Slot::Used(record) = slot
                    && record.kind == Kind::Transactions
                    && databases.contains(&record.db)
                    && self.may_exist(guards, record)
                {
                    listener.touched(&record.subscribers);
                }
            }
        }
    }

    /// False when there is no such key for sure.
    fn may_exist(&self, guards: &[ShardGuard<'_>], record: &Record) -> bool {
        let hash = self.hasher.hash(record.db, &record.key);
        match guards[self.shard_of(hash)].find(hash, record.db, &record.key) {
            Some(entry) => !entry.is_absent(),
            None => self.ranges.load().find(&record.key).counters.cold.load(Relaxed) > 0,
        }
    }

    /// After two physical databases were exchanged: who watches a key of a logical database watches the key that is
    /// there now.
    pub(in crate::keyspace) fn exchange_watches(&self, guards: &mut [ShardGuard<'_>], (a, b): (u8, u8)) {
        let mut moved = Vec::new();
        for state in guards.iter_mut() {
            let Some(table) = &mut state.records.0 else {
                continue;
            };
            for slot in 0..table.slots.len() as u32 {
                let Some(record) = table.at(slot) else { continue };
                if record.kind.watches() && [a, b].contains(&record.db) {
                    let hash = self.hasher.hash(record.db, &record.key);
                    moved.extend(table.remove(hash, slot));
                }
            }
            state.records.shrink();
        }
        for mut record in moved {
            record.db = if record.db == a { b } else { a };
            let hash = self.hasher.hash(record.db, &record.key);
            let state = &mut guards[self.shard_of(hash)];
            if let Some(entry) = state.find_mut(hash, record.db, &record.key) {
                entry.set(entry::WATCHED, true);
            }
            let table = state.records.0.get_or_insert_default();
            table.add(hash, record);
        }
    }

    /// Tells those who want to know what becomes of values that all keys of physical databases are gone, or may be
    /// others: at the journal offset `end`, which is 0 where nothing is recorded.
    pub(in crate::keyspace) fn tell_values_of(
        &self,
        guards: &[ShardGuard<'_>],
        databases: &[u8],
        (event, news): (Event, News),
        end: u64,
    ) {
        let Some(listener) = self.listener.get() else {
            return;
        };
        if self.record_counts.records(Kind::Values) == 0 {
            return;
        }
        let map = self.ranges.load();
        for table in guards.iter().filter_map(|state| state.records.0.as_ref()) {
            for slot in &table.slots {
                let Slot::Used(record) = slot else { continue };
                if record.kind != Kind::Values || !databases.contains(&record.db) {
                    continue;
                }
                let range = map.find(&record.key);
                listener.happened(&Happened {
                    db: self.logical(record.db),
                    key: &record.key,
                    event,
                    offset: if range.is_durable() { end } else { 0 },
                    gated: range.is_gated(),
                    more: false,
                    notify: KeyspaceEvents::default(),
                    changes: None,
                    values: Some(&record.subscribers),
                    news: &news,
                });
            }
        }
    }
}
