//! Commands on whole databases: flushing and exchanging them. All of them hold every shard for a moment.

use super::clear::{Clear, OwedClear};
use super::events::{Event, News, mark_more};
use super::flush::FlushState;
use super::range::DBS;
use super::shard::ShardGuard;
use super::{Effects, Keyspace, StoreError, held};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Keyspace {
    /// Deletes every key of a logical database, or of all, at one moment; then takes out what they held, shard by shard.
    /// It is freed on another thread. Returns how many keys there were and the journal offset behind the effect.
    pub fn flush_db(self: &Arc<Keyspace>, db: Option<u8>, effects: &mut Effects) -> (i64, u64) {
        let mut guards = self.lock_all();
        let physical: Vec<u8> = db.map_or((0..DBS as u8).collect(), |db| vec![self.physical(db)]);
        // What a group did before is a record of its own: a row is told from what was flushed by its offset.
        self.append_before(&mut guards, effects);
        match db {
            Some(db) => effects.push(db, &[b"FLUSHDB"]),
            None => effects.push(0, &[b"FLUSHALL"]),
        }
        let end = self.append(effects);
        let event = if db.is_some() {
            Event::FlushDb
        } else {
            Event::FlushAll
        };
        self.tell_values_of(&guards, &physical, (event, News::None), end);
        let (count, clear) = self.clear(&mut guards, &physical, end);
        let keyspace = Arc::downgrade(self);
        Keyspace::owe(&mut guards, &Arc::new(OwedClear { keyspace, clear }));
        drop(guards);
        if held::is_active() {
            // The group still holds every shard, and pays for those that its commands use.
            self.spawn("clear", Keyspace::pay_all);
        } else {
            self.pay_all();
        }
        (count, end)
    }

    /// The part of a flush that replay repeats: `offset` is where the effect ends.
    pub fn replay_flush_db(&self, db: Option<u8>, offset: u64) -> Result<(), StoreError> {
        let mut guards = self.lock_all();
        let physical: Vec<u8> = db.map_or((0..DBS as u8).collect(), |db| vec![self.physical(db)]);
        let (_, clear) = self.clear(&mut guards, &physical, offset);
        for (shard, state) in guards.iter_mut().enumerate() {
            clear.clear_shard(self, state, shard);
        }
        drop(guards);
        self.keep_newer_rows(&physical, offset)
    }

    /// Records what a group has done so far, and tells of it.
    fn append_before(&self, guards: &mut [ShardGuard<'_>], effects: &mut Effects) {
        let end = self.append(effects);
        let mut heard = effects.take_heard();
        mark_more(&mut heard);
        let map = self.ranges.load();
        for noted in &heard {
            // All shards are here, in order.
            self.tell_of(&map, &mut guards[noted.guard], noted, end);
        }
    }

    fn append(&self, effects: &mut Effects) -> u64 {
        let durable = self.ranges.load().iter().any(|range| range.is_durable());
        let end = match self.journal() {
            Some(journal) if durable && !effects.is_empty() => journal.append(effects.finish()),
            _ => 0,
        };
        effects.clear();
        end
    }

    /// What holds from the moment of a flush on, with every shard locked. Returns how many keys there were, and what the
    /// shards have to do.
    fn clear(&self, guards: &mut [ShardGuard<'_>], physical: &[u8], end: u64) -> (i64, Clear) {
        self.db_flushes.fetch_add(1, Relaxed);
        self.break_all_transactions(guards, physical);
        self.forget_all_caches(guards);
        for state in guards.iter_mut() {
            state.epoch = state.epoch.wrapping_add(1);
            state.last_offset = state.last_offset.max(end);
        }
        let begun = self.begin_clear(physical);
        for db in physical.iter().filter(|_| end > 0) {
            self.wiped_at[*db as usize].store(end, Relaxed);
            FlushState::note_wipe(&self.flush, *db);
        }
        begun
    }

    /// Exchanges two logical databases. Returns the journal offset behind the effect.
    pub fn swap_db(&self, a: u8, b: u8, effects: &mut Effects) -> u64 {
        let mut guards = self.lock_all();
        self.append_before(&mut guards, effects);
        let databases = [self.physical(a), self.physical(b)];
        self.break_all_transactions(&guards, &databases);
        self.forget_all_caches(&mut guards);
        self.exchange(a, b);
        self.exchange_watches(&mut guards, (databases[1], databases[0]));
        // A key that was absent and comes with the other database has changed too.
        self.break_all_transactions(&guards, &databases);
        let (mut first, mut second) = (itoa::Buffer::new(), itoa::Buffer::new());
        effects.push(
            0,
            &[b"SWAPDB", first.format(a).as_bytes(), second.format(b).as_bytes()],
        );
        let end = self.append(effects);
        guards
            .iter_mut()
            .for_each(|state| state.last_offset = state.last_offset.max(end));
        self.tell_values_of(&guards, &databases, (Event::SwapDb, News::Unknown), end);
        end
    }

    /// The part of `swap_db` that replay repeats.
    pub fn exchange(&self, a: u8, b: u8) {
        let (physical_a, physical_b) = (self.physical(a), self.physical(b));
        self.databases[a as usize].store(physical_b, Relaxed);
        self.databases[b as usize].store(physical_a, Relaxed);
    }
}
