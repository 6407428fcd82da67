//! Sealed keys that are evicted, all of a generation at once, and who is told of it.
//!
//! A directory of sealed keys does not hold the keys. So before a generation goes, rows of it are read: of the watched
//! keys that have a slot there or, where somebody listens to all keys, every one. A slot stands for one row, so what was
//! read without a lock is true as long as the slot counts.

use super::Keyspace;
use super::events::{Event, News};
use super::generations::drop_slots;
use super::range::Range;
use super::sealed::{Slot, fragment};
use super::shard::ShardState;
use crate::store::plain::Generation;

/// A key that is about to be evicted.
struct Doomed {
    slot: Slot,
    hash: u64,
    key: Vec<u8>,
}

impl Keyspace {
    /// Takes the slots of a generation out of a shard; all its keys that count are of this range.
    pub(super) fn drop_from_shard(&self, shard: usize, generation: &Generation, range: Option<&Range>) {
        let slots = {
            let mut state = self.shards[shard].lock();
            let slots = self.slots_to_tell_of(&state, generation, range);
            if slots.is_empty() {
                return drop_slots(&mut state, generation, range);
            }
            slots
        };
        let doomed = self.doomed(shard, &slots);
        let mut state = self.shards[shard].lock();
        // What was written, deleted or loaded meanwhile is not evicted.
        let still = |doomed: &Doomed| {
            let sealed = state.sealed.as_ref();
            let slot = sealed.and_then(|sealed| sealed.directory.find(doomed.slot.fragment, generation.id));
            slot.is_some_and(|slot| slot.live)
        };
        let doomed: Vec<Doomed> = doomed.into_iter().filter(still).collect();
        drop_slots(&mut state, generation, range);
        for Doomed { slot, hash, key } in doomed {
            let evicted = (Event::Evicted, News::None);
            self.note_aside(&mut state, hash, (slot.db, &key), evicted, None);
        }
    }

    /// The slots that count, of keys that somebody may want to hear of.
    fn slots_to_tell_of(
        &self,
        state: &ShardState,
        generation: &Generation,
        range: Option<&Range>,
    ) -> Vec<Slot> {
        let Some(sealed) = &state.sealed else {
            return Vec::new();
        };
        let notifies = range.is_some_and(|range| range.policy.notify.has(b'e'));
        if self.is_broadcasting() || notifies && self.is_listened_to() {
            let all = sealed.directory.iter();
            return all
                .filter(|slot| slot.live && slot.generation == generation.id)
                .collect();
        }
        let slot_of = |(db, key): (u8, &[u8])| {
            let slot = sealed
                .directory
                .find(fragment(self.hasher.hash(db, key)), generation.id);
            slot.filter(|slot| slot.live && slot.db == db)
        };
        let mut slots: Vec<Slot> = state.records.watched().filter_map(slot_of).collect();
        // A key may be watched for several reasons.
        slots.sort_unstable_by_key(|slot| slot.fragment);
        slots.dedup();
        slots
    }

    fn doomed(&self, shard: usize, slots: &[Slot]) -> Vec<Doomed> {
        let mut doomed = Vec::new();
        let read = self.visit_slots(shard, slots, |slot, hash, key, _, _| {
            doomed.push(Doomed {
                slot: *slot,
                hash,
                key: key.to_vec(),
            });
        });
        if let Err(error) = read {
            log::error!("sealed keys are evicted, and nobody can be told: {error}");
        }
        doomed
    }
}
