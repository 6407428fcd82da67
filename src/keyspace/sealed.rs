//! What a shard knows of its sealed keys: which generation of the plain store has the row of a key, and whether that
//! row counts.
//!
//! ```text
//! slot:  fragment of the hash: 18 bits | generation: 9 bits | database: 4 bits | counts: 1 bit       0: empty
//! ```
//!
//! Guarantees, all of them while the shard's lock is held:
//! * every row of a generation has its slot, from before the row is written until the generation is gone: a row that
//!   was overwritten, deleted or loaded keeps its slot, which no longer counts;
//! * no two slots of a shard have the same fragment and generation: a key that would need such a slot stays resident.
//!
//! So a slot stands for one row exactly, although it does not hold its key, and counts made from slots are exact. It
//! costs four bytes, and a fifth more for the room between; a bloom filter would cost one or two, say "perhaps", and
//! could not forget.
//!
//! The slots stand in buckets of one cache line, as the entries do in `table`, and grow in the same way: a slot's home
//! is its fragment scaled to the number of buckets, or the first bucket behind that has room.

use super::entry::Entry;
use crate::pointer::prefetch;
pub use crate::store::plain::FRAGMENT_BITS;
use crate::store::plain::{BUCKET_BITS, Bucket};

const SLOTS: usize = 16;

/// The part of a hash that a slot holds: its highest bits.
#[inline]
pub fn fragment(hash: u64) -> u32 {
    (hash >> (64 - FRAGMENT_BITS)) as u32
}

/// Where the rows of a shard's keys with this fragment are: the shard's number, then the fragment's highest bits.
#[inline]
pub fn bucket(shard: usize, shards: usize, fragment: u32, db: u8) -> Bucket {
    let shard_bits = shards.trailing_zeros();
    let left = (BUCKET_BITS - shard_bits).min(FRAGMENT_BITS);
    let bucket = (shard as u32) << left | fragment >> (FRAGMENT_BITS - left);
    Bucket::new(bucket, db, (shard as u32, fragment))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    pub fragment: u32,
    pub generation: u16,
    pub db: u8,
    /// The row counts: it is what stands under its key.
    pub live: bool,
}

impl Slot {
    fn pack(self) -> u32 {
        self.fragment << 14 | u32::from(self.generation) << 5 | u32::from(self.db) << 1 | u32::from(self.live)
    }

    fn unpack(word: u32) -> Slot {
        Slot {
            fragment: word >> 14,
            generation: (word >> 5 & 511) as u16,
            db: (word >> 1 & 15) as u8,
            live: word & 1 != 0,
        }
    }
}

#[repr(align(64))]
#[derive(Clone, Copy, Default)]
struct Line([u32; SLOTS]);

/// Walks the slots of a fragment.
struct Places<'a> {
    lines: &'a [Line],
    fragment: u32,
    line: usize,
    at: usize,
    /// Lines not looked at yet.
    left: usize,
}

impl Iterator for Places<'_> {
    /// A line and a place in it.
    type Item = (usize, usize);

    #[inline]
    fn next(&mut self) -> Option<(usize, usize)> {
        while self.left > 0 {
            let words = &self.lines[self.line].0;
            while self.at < SLOTS {
                let (at, word) = (self.at, words[self.at]);
                if word == 0 {
                    self.left = 0;
                    return None;
                }
                self.at += 1;
                if word >> 14 == self.fragment {
                    return Some((self.line, at));
                }
            }
            (self.at, self.left) = (0, self.left - 1);
            self.line = if self.line + 1 < self.lines.len() {
                self.line + 1
            } else {
                0
            };
        }
        None
    }
}

/// The slots of a line stand at its front: one goes only when all are placed anew.
#[derive(Default)]
pub struct Directory {
    lines: Vec<Line>,
    len: usize,
}

impl Directory {
    #[inline]
    fn home(&self, fragment: u32) -> usize {
        (fragment as usize * self.lines.len()) >> FRAGMENT_BITS
    }

    /// Where the slots of a fragment stand: between its home and the first line with room.
    #[inline]
    fn places(&self, fragment: u32) -> Places<'_> {
        Places {
            lines: &self.lines,
            fragment,
            line: self.home(fragment),
            at: 0,
            left: self.lines.len(),
        }
    }

    /// Where the slots of a hash are; for prefetching.
    #[inline]
    pub fn home_address(&self, hash: u64) -> Option<*const u8> {
        let line = self.lines.get(self.home(fragment(hash)))?;
        Some(std::ptr::from_ref(line).cast())
    }

    /// The slots of a fragment.
    #[inline]
    pub fn like(&self, fragment: u32) -> impl Iterator<Item = Slot> {
        self.places(fragment)
            .map(|(line, at)| Slot::unpack(self.lines[line].0[at]))
    }

    /// The slot of a row.
    pub fn find(&self, fragment: u32, generation: u16) -> Option<Slot> {
        self.like(fragment).find(|slot| slot.generation == generation)
    }

    /// Changes the slot of a row, or adds it.
    pub fn put(&mut self, slot: Slot) {
        let found = self
            .places(slot.fragment)
            .find(|(line, at)| Slot::unpack(self.lines[*line].0[*at]).generation == slot.generation);
        match found {
            Some((line, at)) => self.lines[line].0[at] = slot.pack(),
            None => {
                // At most nine tenths full.
                if (self.len + 1) * 10 > self.lines.len() * SLOTS * 9 {
                    self.resize(self.lines.len() * 9 / 8 + 1);
                }
                self.len += 1;
                self.place(slot.pack());
            }
        }
    }

    fn place(&mut self, word: u32) {
        let mut line = self.home(word >> 14);
        loop {
            if let Some(free) = self.lines[line].0.iter_mut().find(|word| **word == 0) {
                *free = word;
                return;
            }
            line = (line + 1) % self.lines.len();
        }
    }

    fn resize(&mut self, lines: usize) {
        let old = std::mem::replace(&mut self.lines, vec![Line::default(); lines.max(1)]);
        // Those that went round the end come first and would take the places of others: a second place is as good.
        for word in old.iter().flat_map(|line| line.0).filter(|word| *word != 0) {
            self.place(word);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        self.words().map(Slot::unpack)
    }

    /// The slots as they are kept.
    pub fn words(&self) -> impl Iterator<Item = u32> {
        let words = self.lines.iter().flat_map(|line| line.0);
        words.filter(|word| *word != 0)
    }

    /// A directory of slots that `words` gave; none when one of them says nothing.
    pub fn of_words(words: impl ExactSizeIterator<Item = u32>) -> Option<Directory> {
        let mut directory = Directory::default();
        directory.resize(words.len() * 8 / 7 / SLOTS + 1);
        for word in words {
            if word == 0 {
                return None;
            }
            directory.len += 1;
            directory.place(word);
        }
        Some(directory)
    }

    /// Keeps the slots for which `keep` holds, as `keep` leaves them.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut Slot) -> bool) {
        let old = std::mem::take(&mut self.lines);
        let mut kept: Vec<u32> = Vec::new();
        for word in old.into_iter().flat_map(|line| line.0).filter(|word| *word != 0) {
            let mut slot = Slot::unpack(word);
            if keep(&mut slot) {
                kept.push(slot.pack());
            }
        }
        self.len = kept.len();
        if !kept.is_empty() {
            self.resize(self.len * 8 / 7 / SLOTS + 1);
            kept.into_iter().for_each(|word| self.place(word));
        }
    }

    /// Changes slots in place: `change` says nothing about fragment and generation.
    pub fn for_each_mut(&mut self, mut change: impl FnMut(&mut Slot)) {
        for word in self.lines.iter_mut().flat_map(|line| &mut line.0) {
            if *word != 0 {
                let mut slot = Slot::unpack(*word);
                change(&mut slot);
                *word = slot.pack();
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }
}

/// Sealed keys that were read a short while ago.
const RECENT: usize = 32;

#[derive(Default)]
pub struct SealedShard {
    pub directory: Directory,
    /// By some bits of their hashes: other bits.
    recent: [u16; RECENT],
}

impl SealedShard {
    /// Notes that a sealed key was read; true when it was not long ago that it was read before.
    pub fn note_read(&mut self, hash: u64) -> bool {
        let place = &mut self.recent[(hash >> 16) as usize % RECENT];
        let tag = hash as u16 | 1;
        let again = *place == tag;
        *place = if again { 0 } else { tag };
        again
    }

    /// Asks for what `note_read` looks at.
    #[inline]
    pub fn prefetch_recent(&self, hash: u64) {
        prefetch(std::ptr::from_ref(&self.recent[(hash >> 16) as usize % RECENT]).cast());
    }

    /// The generations that may have the row of a key.
    #[inline]
    pub fn candidates(&self, hash: u64, db: u8) -> impl Iterator<Item = u16> {
        let slots = self.directory.like(fragment(hash));
        slots
            .filter(move |slot| slot.live && slot.db == db)
            .map(|slot| slot.generation)
    }

    pub fn bytes(&self) -> usize {
        size_of::<SealedShard>() + self.directory.bytes()
    }
}

/// Three bits for how a string came about.
pub fn origin_bits(entry: &Entry) -> u8 {
    let flags = entry.flags(super::entry::ORIGIN);
    flags >> 1 & 1 | flags >> 2 & 6
}

/// The flags of an entry for these three bits.
pub fn origin_flags(bits: u8) -> u8 {
    (bits & 1) << 1 | (bits & 6) << 2
}

#[cfg(test)]
mod tests {
    use super::super::entry::{COPIED, EDITED, FLOAT};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn slot(fragment: u32, generation: u16, live: bool) -> Slot {
        Slot {
            fragment,
            generation,
            db: (fragment % 16) as u8,
            live,
        }
    }

    /// Few homes, so that lines overflow and go round the end.
    fn spread(n: u32) -> u32 {
        [0, 1, (1 << FRAGMENT_BITS) - 1, 1 << 17][n as usize % 4] ^ (n / 4 % 8)
    }

    proptest! {
        #[test]
        fn holds_what_a_map_holds(steps in proptest::collection::vec((0u8..8, 0u32..32, 1u16..9), 1..400)) {
            let (mut directory, mut model) = (Directory::default(), BTreeMap::new());
            for (what, n, generation) in steps {
                let at = slot(spread(n), generation, what % 2 == 0);
                if what < 7 {
                    directory.put(at);
                    model.insert((at.fragment, generation), at);
                } else {
                    directory.retain(|slot| slot.generation != generation);
                    model.retain(|(_, of), _| *of != generation);
                }
                for fragment in (0..32).map(spread) {
                    for generation in 1..9 {
                        let expected = model.get(&(fragment, generation)).copied();
                        prop_assert_eq!(directory.find(fragment, generation), expected);
                    }
                }
                prop_assert_eq!(directory.iter().count(), model.len());
            }
        }
    }

    #[test]
    fn a_row_costs_less_than_six_bytes() {
        let mut directory = Directory::default();
        for n in 0..2_000u64 {
            directory.put(slot(
                fragment(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                1 + n as u16 % 3,
                true,
            ));
            if n > 500 {
                let bytes = directory.bytes() as f64 / directory.len as f64;
                assert!(bytes < 6.0, "{bytes} at {n}");
            }
        }
    }

    #[test]
    fn buckets_begin_with_the_shard_and_fit() {
        for shards in [1usize, 8, 4096, 1 << 16] {
            let last = bucket(shards - 1, shards, (1 << FRAGMENT_BITS) - 1, 15);
            assert_ne!(last, bucket(0, shards, 0, 15));
        }
    }

    #[test]
    fn origins_fit_three_bits() {
        for flags in [0, EDITED, FLOAT, COPIED, EDITED | COPIED, EDITED | FLOAT | COPIED] {
            let mut entry = Entry::new(0, b"k", b"v", None, 0);
            entry.set(flags, true);
            assert_eq!(origin_flags(origin_bits(&entry)), flags);
        }
    }
}
