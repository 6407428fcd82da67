//! Commands on whole databases: flushing and exchanging them. All of them hold every shard for a moment.

use super::entry::Entry;
use super::events::{Event, News, mark_more};
use super::flush::FlushState;
use super::range::{DBS, Range};
use super::reclaim::{reclaim_entries, reclaim_table};
use super::shard::ShardGuard;
use super::{Effects, Keyspace, StoreError};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Keyspace {
    /// Deletes every key of a logical database, or of all. The entries are freed on another thread. Returns how many
    /// keys there were and the journal offset behind the effect.
    pub fn flush_db(&self, db: Option<u8>, effects: &mut Effects) -> (i64, u64) {
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
        (self.clear(guards, &physical, end), end)
    }

    /// The part of a flush that replay repeats: `offset` is where the effect ends.
    pub fn replay_flush_db(&self, db: Option<u8>, offset: u64) -> Result<(), StoreError> {
        let guards = self.lock_all();
        let physical: Vec<u8> = db.map_or((0..DBS as u8).collect(), |db| vec![self.physical(db)]);
        self.clear(guards, &physical, offset);
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

    /// Takes everything out of physical databases; how many keys that was. What was there is freed in the background.
    fn clear(&self, mut guards: Vec<ShardGuard<'_>>, physical: &[u8], end: u64) -> i64 {
        let map = self.ranges.load();
        self.db_flushes.fetch_add(1, Relaxed);
        self.break_all_transactions(&guards, physical);
        self.forget_all_caches(&mut guards);
        self.clear_sealed(&mut guards, physical);
        let all = physical.len() == DBS;
        let mut gone = Gone::default();
        for state in &mut guards {
            // Everybody waits for this: no entry is looked at if all of them go, and else each is once.
            if all {
                reclaim_table(std::mem::take(&mut state.table));
            } else {
                reclaim_entries(state.extract(|entry| {
                    let wanted = physical.contains(&entry.db());
                    if wanted {
                        gone.note(map.find(entry.key()), entry);
                    }
                    wanted
                }));
            }
            state.epoch = state.epoch.wrapping_add(1);
            state.last_offset = state.last_offset.max(end);
            if state.is_empty() {
                state.expiries.clear();
                state.dirty.clear();
                state.stale_expiries.take();
            }
        }
        let mut count = 0;
        for range in map.iter() {
            let keys: i64 = physical
                .iter()
                .map(|db| range.counters.keys[*db as usize].swap(0, Relaxed))
                .sum();
            physical
                .iter()
                .for_each(|db| range.counters.expires[*db as usize].store(0, Relaxed));
            let (bytes, cold) = if all {
                let counters = &range.counters;
                (counters.bytes.load(Relaxed) as usize, counters.cold.load(Relaxed))
            } else {
                let (resident, bytes) = gone.of(range);
                (bytes, keys - resident)
            };
            self.count_bytes(range, bytes, 0);
            range.counters.cold.fetch_sub(cold, Relaxed);
            count += keys;
        }
        for db in physical.iter().filter(|_| end > 0) {
            self.wiped_at[*db as usize].store(end, Relaxed);
            FlushState::note_wipe(&self.flush, *db);
        }
        count
    }

    /// Exchanges two logical databases. Returns the journal offset behind the effect.
    pub fn swap_db(&self, a: u8, b: u8, effects: &mut Effects) -> u64 {
        let mut guards = self.lock_all();
        self.append_before(&mut guards, effects);
        self.break_all_transactions(&guards, &[self.physical(a), self.physical(b)]);
        self.forget_all_caches(&mut guards);
        self.exchange(a, b);
        self.exchange_watches(&mut guards, (self.physical(a), self.physical(b)));
        let (mut first, mut second) = (itoa::Buffer::new(), itoa::Buffer::new());
        effects.push(
            0,
            &[b"SWAPDB", first.format(a).as_bytes(), second.format(b).as_bytes()],
        );
        let end = self.append(effects);
        guards
            .iter_mut()
            .for_each(|state| state.last_offset = state.last_offset.max(end));
        let databases = [self.physical(a), self.physical(b)];
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

/// Resident keys and bytes that have gone, by range: there are few ranges, and the next entry's is mostly the last one's.
#[derive(Default)]
struct Gone<'m>(Vec<(&'m Arc<Range>, i64, usize)>);

impl<'m> Gone<'m> {
    fn note(&mut self, range: &'m Arc<Range>, entry: &Entry) {
        let known = self.0.iter().position(|(known, ..)| Arc::ptr_eq(known, range));
        let at = known.unwrap_or_else(|| {
            self.0.push((range, 0, 0));
            self.0.len() - 1
        });
        let (_, keys, bytes) = &mut self.0[at];
        *keys += i64::from(!entry.is_absent());
        *bytes += entry.size();
    }

    fn of(&self, range: &Arc<Range>) -> (i64, usize) {
        let known = self.0.iter().find(|(known, ..)| Arc::ptr_eq(known, range));
        known.map_or((0, 0), |(_, keys, bytes)| (*keys, *bytes))
    }
}
