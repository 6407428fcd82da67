//! What has to be known of the sealed keys to go on with them after a restart, without looking at them.
//!
//! With `memory-dir` everything in memory ranges is sealed when the server ends in order, and this is written beside it:
//!
//! ```text
//! version:u8 | hash seed:u64 | databases: logical → physical, 16 bytes
//! ranges:u32 × ( name | bounds | tier:u8 | keys: 16 × i64 | expires: 16 × i64 | cold:i64 | bytes:i64 )
//! generations:u32 × ( id:u16 | order:u64 | written:u64 | range name | expires:u8 | mixed:u8 | 16 × i64 | 16 × i64 )
//! shards:u32 × ( slots:u32 × u32 | expiry items:u32 × ( slot of time:i64 | hash:u64 ) )
//! ```
//!
//! Numbers are little-endian, texts have their length before them (u32). The file carries a checksum (`store::plain`).
//! It stands for the rows only as they were then, so it is removed when it is read: after a crash there is none, and
//! what the folder holds is dropped. The same happens when the ranges or the number of shards have changed.

use super::range::{DBS, RangeMap};
use super::sealed::Directory;
use super::{Keyspace, StoreError};
use crate::store::plain::{Class, Generation};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const VERSION: u8 = 1;
/// Rounds of sealing at the end: a key that has another's slot in one generation goes to the next.
const ROUNDS: usize = 8;

#[derive(Default)]
struct Output(Vec<u8>);

impl Output {
    fn u32(&mut self, number: usize) {
        self.0.extend_from_slice(&(number as u32).to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn i64(&mut self, number: i64) {
        self.u64(number as u64);
    }

    fn text(&mut self, text: &[u8]) {
        self.u32(text.len());
        self.0.extend_from_slice(text);
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn i64(&mut self) -> Option<i64> {
        self.u64().map(|number| number as i64)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        self.take(len)
    }
}

/// The seed that the hashes of a warm state were made with.
pub fn hash_seed(state: &[u8]) -> Option<u64> {
    let mut input = Input(state);
    (input.u8()? == VERSION).then(|| input.u64()).flatten()
}

impl Keyspace {
    /// Seals everything and leaves it to the next start. Nothing else uses the keyspace any more.
    pub(super) fn close_plain(&self) -> Result<(), StoreError> {
        if !self.plain.is_in_folder() {
            return Ok(());
        }
        self.unmix()?;
        for _ in 0..ROUNDS {
            if self.seal_all()? == 0 {
                break;
            }
        }
        self.drop_empty_generations()?;
        self.plain.close(&self.warm_state())
    }

    fn warm_state(&self) -> Vec<u8> {
        let mut out = Output(vec![VERSION]);
        out.u64(self.hash_seed);
        (0..DBS as u8).for_each(|db| out.0.push(self.physical(db)));
        let map = self.ranges.load();
        let generations = self.plain.generations();
        out.u32(map.iter().count());
        for range in map.iter() {
            out.text(range.spec.name.as_bytes());
            out.text(&range.spec.bounds.to_bytes());
            out.0.push(range.is_durable().into());
            // What could not be sealed does not come back, so it is the rows that are counted.
            let of_range = |expires: bool| {
                let class = move |of: &&Arc<Generation>| {
                    of.class.range == range.spec.name && of.class.expires >= expires
                };
                generations.iter().filter(class)
            };
            for expires in [false, true] {
                for db in 0..DBS {
                    out.i64(of_range(expires).map(|of| of.live[db].load(Relaxed)).sum());
                }
            }
            out.i64(of_range(false).map(|of| of.live_rows()).sum());
            out.i64(of_range(false).map(|of| of.live_bytes()).sum());
        }
        out.u32(generations.len());
        for generation in &generations {
            out.0.extend_from_slice(&generation.id.to_le_bytes());
            out.u64(generation.order);
            out.u64(generation.written.load(Relaxed));
            out.text(generation.class.range.as_bytes());
            out.0.push(generation.class.expires.into());
            out.0.push(generation.mixed.load(Relaxed).into());
            let counts = generation.live.iter().chain(&generation.live_bytes);
            counts.for_each(|count| out.i64(count.load(Relaxed)));
        }
        out.u32(self.shards.len());
        for shard in &self.shards {
            let state = shard.lock();
            let slots: Vec<u32> = state
                .sealed
                .iter()
                .flat_map(|sealed| sealed.directory.words())
                .collect();
            out.u32(slots.len());
            slots
                .iter()
                .for_each(|slot| out.0.extend_from_slice(&slot.to_le_bytes()));
            out.u32(state.expiries.items());
            state.expiries.for_each(|at, hash| {
                out.i64(at);
                out.u64(hash);
            });
        }
        out.0
    }

    /// Takes over what `close_plain` has left, before anything uses the keyspace. False when it cannot be used: then
    /// everything that was sealed is gone, and the folder is empty.
    pub fn warm_up(&self, state: &[u8]) -> Result<bool, StoreError> {
        let taken = self.take_warm(&mut Input(state)).is_some();
        if !taken {
            for generation in self.plain.generations() {
                self.plain.remove(&generation);
            }
            for shard in &self.shards {
                let mut state = shard.lock();
                state.sealed = None;
            }
        }
        self.plain.clear_left_over()?;
        Ok(taken)
    }

    fn take_warm(&self, input: &mut Input<'_>) -> Option<()> {
        if input.u8()? != VERSION || input.u64()? != self.hash_seed {
            return None;
        }
        let databases = input.take(DBS)?;
        let map = self.ranges.load();
        let counts = read_ranges(input, &map)?;
        for _ in 0..input.u32()? {
            let (id, order, written) = (input.u16()?, input.u64()?, input.u64()?);
            let class = Class {
                range: String::from_utf8(input.text()?.to_vec()).ok()?,
                expires: input.u8()? != 0,
            };
            let mixed = input.u8()? != 0;
            let generation = self
                .plain
                .reopen(id, order, class)
                .inspect_err(|error| log::warn!("memory-dir: {error}"))
                .ok()?;
            generation.written.store(written, Relaxed);
            generation.mixed.store(mixed, Relaxed);
            for count in generation.live.iter().chain(&generation.live_bytes) {
                count.store(input.i64()?, Relaxed);
            }
        }
        if input.u32()? as usize != self.shards.len() {
            return None;
        }
        for shard in &self.shards {
            let mut state = shard.lock();
            let slots = input.u32()? as usize;
            if slots > 0 {
                let words = input.take(slots.checked_mul(4)?)?.chunks_exact(4);
                // proof: each piece has four bytes.
                let words = words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
                state.sealed.get_or_insert_default().directory = Directory::of_words(words)?;
            }
            for _ in 0..input.u32()? {
                let (at, hash) = (input.i64()?, input.u64()?);
                state.expiries.add_slot(at, hash);
            }
        }
        for (db, physical) in databases.iter().enumerate() {
            self.databases[db].store(physical & (DBS as u8 - 1), Relaxed);
        }
        // Only now that nothing can fail.
        for (range, numbers) in counts {
            let counters = &map.by_name(&range)?.counters;
            for (count, number) in counters.keys.iter().chain(&counters.expires).zip(&numbers) {
                count.fetch_add(*number, Relaxed);
            }
            counters.cold.fetch_add(numbers[2 * DBS], Relaxed);
            counters.sealed_bytes.fetch_add(numbers[2 * DBS + 1], Relaxed);
        }
        Some(())
    }
}

type Counts = Vec<(String, Vec<i64>)>;

/// The counts of memory ranges. None when the ranges are others now.
fn read_ranges(input: &mut Input<'_>, map: &RangeMap) -> Option<Counts> {
    let count = input.u32()? as usize;
    let mut counts = Counts::new();
    for _ in 0..count {
        let name = String::from_utf8(input.text()?.to_vec()).ok()?;
        let (bounds, durable) = (input.text()?, input.u8()? != 0);
        let numbers: Vec<i64> = (0..2 * DBS + 2).map(|_| input.i64()).collect::<Option<_>>()?;
        let range = map.by_name(&name)?;
        if range.spec.bounds.to_bytes() != bounds || range.is_durable() != durable {
            return None;
        }
        if !durable {
            counts.push((name, numbers));
        }
    }
    (count == map.iter().count()).then_some(counts)
}
