//! Sealed keys whose generation has been taken over into a table of our own (`store::plain`): a lookup is three waits
//! for memory (the shard's directory, the slot in the table, the row), and needs neither RocksDB nor a place without
//! locks.
//!
//! So such a key is read while its shard is locked, and the waits of a batch of requests are begun together, in stages,
//! as those for resident keys are (`prefetch`).

use super::load::{Look, Place};
use super::seal::{Guest, Sealer};
use super::sealed::{self, fragment};
use super::shard::{ShardState, shard_of};
use super::{Keyspace, StoreError};
use crate::pointer::prefetch;
use crate::store::plain::{Bucket, Generation, Peek, PlainRow, Table};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const LINE: usize = 64;
/// An object with more bytes takes too long to be made while its shard is locked.
const OBJECT_MOST: usize = 4 << 10;
/// Requests of a batch whose rows are asked for together.
const STAGE: usize = 32;

/// What becomes of a key that may be sealed, while its shard is locked.
pub(super) enum Seen {
    /// It is a guest, or else it is resident by now or absent.
    Settled(Option<Guest>),
    /// It has to be looked for without the lock.
    Look(Look),
}

/// What the tables say of a key.
enum Found {
    Guest(Guest),
    Absent,
    Unknown,
}

impl Keyspace {
    /// Looks for a key that is not resident. One that is read again not long after becomes resident.
    pub(super) fn see_sealed(
        &self,
        state: &mut ShardState,
        place: Place<'_>,
        now_ms: i64,
    ) -> Result<Seen, StoreError> {
        let Some(look) = Look::begin(state, place.1, place.0) else {
            return Ok(Seen::Settled(None));
        };
        let guest = match self.find_settled(place, &look, now_ms)? {
            Found::Guest(guest) => guest,
            Found::Absent => return Ok(Seen::Settled(None)),
            Found::Unknown => return Ok(Seen::Look(look)),
        };
        // What has expired, and what has no room, goes the general way.
        let due = guest.entry.next_expiry().is_some_and(|at| at <= now_ms);
        if due || look.again && self.is_over_limit() {
            return Ok(Seen::Look(look));
        }
        if look.again {
            self.unseal(state, guest);
            return Ok(Seen::Settled(None));
        }
        Ok(Seen::Settled(Some(guest)))
    }

    fn find_settled(
        &self,
        (db, hash, key): Place<'_>,
        look: &Look,
        now_ms: i64,
    ) -> Result<Found, StoreError> {
        let (view, bucket) = (self.plain.view(), self.bucket_of(hash, db));
        for id in &look.candidates {
            let Some(generation) = view.get(*id) else {
                continue;
            };
            match generation.peek(bucket, key)? {
                Peek::Absent => {}
                Peek::Elsewhere => return Ok(Found::Unknown),
                Peek::Row(row, _) if is_large(&row) => return Ok(Found::Unknown),
                Peek::Row(row, bytes) => {
                    let entry = self.entry_of_sealed((db, key), &row, now_ms)?;
                    return Ok(Found::Guest(Guest {
                        hash,
                        epoch: look.epoch,
                        bytes,
                        generation: *id,
                        entry,
                    }));
                }
            }
        }
        Ok(Found::Absent)
    }

    /// Asks for the rows of keys that are probably sealed, whose slots in the directories are on their way.
    #[cold]
    pub(super) fn prefetch_sealed(&self, db: u8, hashes: &[u64]) {
        let view = self.plain.view();
        for hashes in hashes.chunks(STAGE) {
            let mut slots: SmallVec<[(&Table, usize); STAGE]> = SmallVec::new();
            for hash in hashes {
                let Some(state) = self.shards[self.shard_of(*hash)].try_lock() else {
                    continue;
                };
                let Some(sealed) = &state.sealed else { continue };
                sealed.prefetch_recent(*hash);
                let generation = sealed.candidates(*hash, db).next().and_then(|id| view.get(id));
                if let Some(table) = generation.and_then(Generation::table)
                    && let Some(slot) = table.slot(self.bucket_of(*hash, db))
                {
                    prefetch(table.slot_address(slot));
                    slots.push((table, slot));
                }
            }
            for row in slots.iter().filter_map(|(table, slot)| table.row_address(*slot)) {
                prefetch(row);
                prefetch(row.wrapping_add(LINE));
                prefetch(row.wrapping_add(2 * LINE));
            }
        }
    }

    // ---- Taking over --------------------------------------------------------------------------------------------

    /// Brings the rows of generations to where they are read from. Nobody has to wait for that.
    pub(super) fn merge(&self, generations: Vec<Arc<Generation>>) -> Result<(), StoreError> {
        for generation in generations {
            if generation.is_to_be_taken_over() && self.has_room_for(&generation) {
                self.take_generation_over(&generation)?;
                continue;
            }
            // Merging needs a second copy for a moment.
            match self.is_short() || generation.is_to_be_taken_over() {
                true => generation.flush()?,
                false => generation.settle()?,
            }
            self.plain.measure(&generation);
        }
        Ok(())
    }

    /// For that time its rows are in memory twice. That of one generation as they are made is so little that it is taken
    /// for granted: as a table of our own the rows need far less, and without it memory that is short would get shorter.
    fn has_room_for(&self, generation: &Generation) -> bool {
        let most = self.limits.maxmemory.load(Relaxed);
        let needed = generation.live_bytes().max(0) as u64;
        most == 0
            || needed <= 2 * self.generation_bytes(&generation.class)
            || self.memory_bytes() + needed <= most
    }

    /// Takes over the rows of a closed generation that count. Whoever has sealed keys into it has done so: since it was
    /// closed the sealer was free, or is the caller.
    pub(super) fn take_generation_over(&self, generation: &Generation) -> Result<(), StoreError> {
        let place = |db: u8, key: &[u8]| -> Option<Bucket> {
            let hash = self.hasher.hash(db, key);
            let shard = shard_of(hash, self.shards.len());
            let state = self.shards[shard].lock();
            let directory = &state.sealed.as_ref()?.directory;
            let slot = directory.find(fragment(hash), generation.id)?;
            let bucket = || sealed::bucket(shard, self.shards.len(), slot.fragment, db);
            (slot.live && slot.db == db).then(bucket)
        };
        self.plain.take_over(generation, place)
    }

    /// Closes the generations that nothing comes into for now, if they are worth a table; and finds one that could not
    /// be taken over before.
    pub(super) fn close_idle(&self, sealer: &mut Sealer, is_idle: bool) {
        /// With fewer generations than this each may be small.
        const FEW: usize = 128;
        const LEAST: u64 = 256 << 10;
        if self.plain.is_in_folder() {
            return;
        }
        let generations = self.plain.generations();
        if is_idle {
            let mut open = std::mem::take(&mut sealer.open);
            open.retain(|open| {
                let least = match generations.len() < FEW {
                    true => LEAST,
                    false => self.generation_bytes(&open.class) / 2,
                };
                let closes = open.written.load(Relaxed) >= least;
                if closes {
                    open.closed.store(true, Relaxed);
                    sealer.full.push(open.clone());
                }
                !closes
            });
            sealer.open = open;
        }
        let is_left = |generation: &&Arc<Generation>| {
            generation.is_to_be_taken_over() && sealer.full.iter().all(|full| full.id != generation.id)
        };
        let left = generations.iter().find(is_left).cloned();
        sealer.full.extend(left.filter(|left| self.has_room_for(left)));
    }
}

fn is_large(row: &PlainRow<'_>) -> bool {
    row.is_object && row.payload.len() > OBJECT_MOST
}
