//! A hash table for the large encodings of sets, hashes and sorted sets, by extendible hashing.
//!
//! ```text
//! hash of a key   | d bits: directory | next bits: home slot in the segment ...                                 |
//!
//! directory       [ 0 | 0 | 1 | 2 ]         2^d numbers of segments; a segment of depth l has 2^(d-l) neighbours
//!                   \ /   |   |
//! segments        [ ... ][...][...]         at most 512 slots of 8 bytes each (more only where hashes collide)
//! ```
//!
//! Guarantees:
//! * Growth and shrinkage happen one segment at a time: no operation moves more than some hundred items (doubling the
//!   directory copies four bytes per segment), so that no insertion stalls.
//! * Everything stands in the order of the hashes, so a scan needs no state: its cursor is a hash, and an item that is
//!   there throughout is met exactly once, whatever grows or shrinks between the calls.
//! * Ten to eleven bytes per item in slots and directory, at every size.
//! * Equal hashes fill one segment and make it longer; they never make the directory grow.
//!
//! Time: constant, but for the segment of many equal hashes, which is searched in order. The hash is seeded by the
//! caller, so that nobody outside can choose keys that collide.

mod field;
mod segment;

pub use field::Field;

use crate::pointer::prefetch;
use segment::Segment;
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hasher};

/// What a `Dict` holds: an owned pointer of 8 bytes (of which `Option` takes no more) with 16 bits to spare for the
/// table: `Field`, or a pointer into another structure that shares the item.
pub trait DictItem {
    fn key(&self) -> &[u8];

    /// Where its bytes are.
    fn address(&self) -> *const u8;

    /// The 16 bits that the table last noted in this item; it must not read anything but the pointer itself.
    fn tag(&self) -> u16;

    fn set_tag(&mut self, tag: u16);

    /// Heap bytes that belong to this item, as the allocator rounds them.
    fn heap_bytes(&self) -> usize;
}

/// Segments are not split deeper: 16 bits of the hash must remain below.
const DEPTH_MAX: u8 = 44;
/// The directory doubles only while there are this many items for each of its places.
const ITEMS_PER_PLACE: usize = 64;
/// Two neighbours whose items together are not more become one segment.
const MERGE_MAX: usize = 256;

/// Hashes keys the same way wherever the seed is the same: rows of stores are ordered by it (see `paged`).
#[derive(Clone)]
pub struct Seeded {
    seed: u64,
    state: foldhash::quality::FixedState,
}

impl Seeded {
    pub fn new(seed: u64) -> Seeded {
        Seeded {
            seed,
            state: foldhash::quality::FixedState::with_seed(seed),
        }
    }

    /// As a table with this seed hashes the key.
    pub fn hash(&self, key: &[u8]) -> u64 {
        hash_with(self, key)
    }
}

impl BuildHasher for Seeded {
    type Hasher = <foldhash::quality::FixedState as BuildHasher>::Hasher;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        self.state.build_hasher()
    }
}

/// A hash table of items with distinct keys.
#[derive(Clone)]
pub struct Dict<T, H = Seeded> {
    directory: Vec<u32>,
    segments: Vec<Segment<T>>,
    /// `directory.len()` is 2 to this.
    depth: u8,
    /// Segments whose depth is `depth`: with none left the directory can be halved.
    deepest: usize,
    len: usize,
    /// The most slots any segment has, or once had.
    widest: usize,
    /// Heap bytes of slots and of items.
    bytes: usize,
    hasher: H,
}

fn hash_with<H: BuildHasher>(hasher: &H, key: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(key);
    hasher.finish()
}

impl<T: DictItem> Dict<T> {
    pub fn new(seed: u64) -> Dict<T> {
        Dict::with_hasher(Seeded::new(seed))
    }

    pub fn seed(&self) -> u64 {
        self.hasher.seed
    }
}

impl<T: DictItem, H: BuildHasher> Dict<T, H> {
    pub fn with_hasher(hasher: H) -> Dict<T, H> {
        let first = Segment::new(0, 0);
        Dict {
            directory: vec![0],
            depth: 0,
            deepest: 1,
            len: 0,
            widest: 0,
            bytes: first.heap_bytes(),
            segments: vec![first],
            hasher,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heap bytes in use, those of the items included.
    pub fn bytes(&self) -> usize {
        self.bytes
            + self.directory.capacity() * size_of::<u32>()
            + self.segments.capacity() * size_of::<Segment<T>>()
    }

    /// The hash of a key, whether it is there or not.
    pub fn hash(&self, key: &[u8]) -> u64 {
        hash_with(&self.hasher, key)
    }

    /// The items of a hash, and perhaps some whose hash is alike.
    pub fn like(&self, hash: u64) -> impl Iterator<Item = &T> {
        self.segments[self.segment(hash)].like(hash)
    }

    /// As `like`, for changes that leave the keys and `heap_bytes` as they are.
    pub fn like_mut(&mut self, hash: u64) -> impl Iterator<Item = &mut T> {
        let at = self.segment(hash);
        self.segments[at].like_mut(hash)
    }

    /// The place in the directory of a hash.
    fn place(&self, hash: u64) -> usize {
        // In two steps, because a shift by 64 is none.
        ((hash >> 1) >> (63 - self.depth)) as usize
    }

    /// The number of the segment of a hash.
    fn segment(&self, hash: u64) -> usize {
        self.directory[self.place(hash)] as usize
    }

    fn find(&self, key: &[u8]) -> Option<(usize, usize)> {
        let hash = self.hash(key);
        let at = self.segment(hash);
        Some((at, self.segments[at].find(hash, key)?))
    }

    /// Starts the cache misses of looking keys up: of all slots first, then of the items in them.
    pub fn prefetch(&self, keys: &[&[u8]]) {
        let homes: SmallVec<[(u64, usize); 16]> = keys
            .iter()
            .map(|key| {
                let hash = self.hash(key);
                let at = self.segment(hash);
                prefetch(self.segments[at].home_address(hash));
                (hash, at)
            })
            .collect();
        for (hash, at) in homes {
            if let Some(item) = self.segments[at].like(hash).next() {
                prefetch(item.address());
            }
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    pub fn get(&self, key: &[u8]) -> Option<&T> {
        let (at, slot) = self.find(key)?;
        self.segments[at].slots[slot].as_ref()
    }

    /// For changes that leave the key and `heap_bytes` as they are; others go through `change`.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut T> {
        let (at, slot) = self.find(key)?;
        self.segments[at].slots[slot].as_mut()
    }

    /// Changes an item, but not its key. None if there is no such item.
    pub fn change<R>(&mut self, key: &[u8], change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let (at, slot) = self.find(key)?;
        let item = self.segments[at].slots[slot].as_mut()?;
        let (before, tag) = (item.heap_bytes(), item.tag());
        let result = change(item);
        item.set_tag(tag);
        self.bytes = self.bytes + item.heap_bytes() - before;
        Some(result)
    }

    /// Adds an item whose key is absent.
    pub fn insert(&mut self, item: T) {
        let hash = self.hash(item.key());
        debug_assert!(self.segments[self.segment(hash)].find(hash, item.key()).is_none());
        self.insert_hashed(hash, item);
    }

    /// Adds what `make` returns, which has this key, unless the key is there. True if it was added.
    pub fn add(&mut self, key: &[u8], make: impl FnOnce() -> T) -> bool {
        let hash = self.hash(key);
        if self.segments[self.segment(hash)].find(hash, key).is_some() {
            return false;
        }
        self.insert_hashed(hash, make());
        true
    }

    fn insert_hashed(&mut self, hash: u64, mut item: T) {
        self.bytes += item.heap_bytes();
        self.len += 1;
        loop {
            let at = self.segment(hash);
            match self.segments[at].insert(hash, item) {
                Ok(()) => return,
                Err(back) => item = back,
            }
            self.make_room(at);
        }
    }

    /// Puts an item in the place of the one with its key, which is returned; without one it is added.
    pub fn replace(&mut self, mut item: T) -> Option<T> {
        let Some((at, slot)) = self.find(item.key()) else {
            self.insert(item);
            return None;
        };
        self.bytes += item.heap_bytes();
        let place = &mut self.segments[at].slots[slot];
        if let Some(old) = place {
            item.set_tag(old.tag());
            self.bytes -= old.heap_bytes();
        }
        place.replace(item)
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<T> {
        let (at, slot) = self.find(key)?;
        self.remove_at(at, slot)
    }

    fn remove_at(&mut self, at: usize, slot: usize) -> Option<T> {
        let item = self.segments[at].remove(slot)?;
        self.bytes -= item.heap_bytes();
        self.len -= 1;
        if self.segments[at].is_sparse() {
            self.give_back(at);
        }
        Some(item)
    }

    /// All items, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flat_map(|segment| segment.items())
    }

    /// As `iter`, for changes that leave the keys and `heap_bytes` as they are.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.segments.iter_mut().flat_map(|segment| segment.items_mut())
    }

    /// Visits items in the order of their hashes, from `cursor` on (0 begins), until at least `count` have been
    /// visited. Returns the cursor to go on with; 0 when all have been seen.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(&'a T)) -> u64 {
        let (mut from, mut left) = (cursor, count.max(1));
        loop {
            let segment = &self.segments[self.segment(from)];
            let hash = |item: &T| self.hash(item.key());
            if let Some(next) = segment.scan(from, &mut left, hash, &mut visit) {
                return next;
            }
            from = segment.end();
            if left == 0 || from == 0 {
                return from;
            }
        }
    }

    /// An item, each with the same probability.
    pub fn random(&self, rng: &mut fastrand::Rng) -> Option<&T> {
        let (at, slot) = self.random_place(rng)?;
        self.segments[at].slots[slot].as_ref()
    }

    /// Takes out an item, each with the same probability.
    pub fn remove_random(&mut self, rng: &mut fastrand::Rng) -> Option<T> {
        let (at, slot) = self.random_place(rng)?;
        self.remove_at(at, slot)
    }

    /// Throws at a board of as many slots for every segment as the widest has, until an item is hit: two throws are
    /// common, ten happen in a table that has shrunk.
    fn random_place(&self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        if self.is_empty() {
            return None;
        }
        let width = match &self.segments[..] {
            [only] => only.slots.len(),
            _ => self.widest,
        };
        loop {
            let (at, slot) = (rng.usize(..self.segments.len()), rng.usize(..width));
            if let Some(Some(_)) = self.segments[at].slots.get(slot) {
                return Some((at, slot));
            }
        }
    }

    /// Makes a segment longer, or splits it if it is as long as a segment should be.
    fn make_room(&mut self, at: usize) {
        let (segment, can_split) = (&self.segments[at], self.can_split(at));
        if segment.is_long() && can_split {
            self.split(at);
        } else {
            self.reshape(at, Segment::grow);
        }
    }

    /// Only where the directory does not become larger than the number of items allows: hashes that agree in many
    /// bits would double it again and again.
    fn can_split(&self, at: usize) -> bool {
        let depth = self.segments[at].depth;
        let places = self.directory.len() * 2;
        depth < DEPTH_MAX && (depth < self.depth || places * ITEMS_PER_PLACE <= self.len)
    }

    /// Lets a segment change its slots, and keeps the counts.
    fn reshape(&mut self, at: usize, change: impl FnOnce(&mut Segment<T>)) {
        let segment = &mut self.segments[at];
        self.bytes -= segment.heap_bytes();
        change(segment);
        self.bytes += segment.heap_bytes();
        self.widest = self.widest.max(segment.slots.len());
    }

    fn split(&mut self, at: usize) {
        let hasher = &self.hasher;
        let high = self.segments[at].depth;
        self.bytes -= self.segments[at].heap_bytes();
        let upper = self.segments[at].split(|item| hash_with(hasher, item.key()));
        self.bytes += self.segments[at].heap_bytes() + upper.heap_bytes();
        self.widest = self
            .widest
            .max(self.segments[at].slots.len())
            .max(upper.slots.len());
        if high == self.depth {
            self.directory = self.directory.iter().flat_map(|&number| [number; 2]).collect();
            self.depth += 1;
            self.deepest = 0;
        }
        if high + 1 == self.depth {
            self.deepest += 2;
        }
        self.segments.push(upper);
        self.point_to(self.segments.len() - 1);
    }

    /// Enters a segment's number at its places in the directory.
    fn point_to(&mut self, number: usize) {
        let (prefix, depth) = (self.segments[number].prefix, self.segments[number].depth);
        let first = self.place(prefix);
        let places = 1 << (self.depth - depth);
        // proof: a split leaves hundreds of items in memory, so there are far fewer than 2^32 segments.
        self.directory[first..first + places].fill(u32::try_from(number).expect("segments are few"));
    }

    /// Makes a segment with few items smaller, together with its neighbour if that has few too.
    fn give_back(&mut self, at: usize) {
        match self.neighbour(at) {
            Some(other) if self.segments[at].len() + self.segments[other].len() <= MERGE_MAX => {
                self.merge(at, other)
            }
            _ => self.reshape(at, Segment::shrink),
        }
    }

    /// The segment that was split off together with this one, if neither was split again.
    fn neighbour(&self, at: usize) -> Option<usize> {
        let segment = &self.segments[at];
        if segment.depth == 0 {
            return None;
        }
        let other = self.segment(segment.prefix ^ (1 << (64 - segment.depth)));
        (self.segments[other].depth == segment.depth).then_some(other)
    }

    fn merge(&mut self, one: usize, other: usize) {
        let depth = self.segments[one].depth;
        let lower_first = self.segments[one].prefix < self.segments[other].prefix;
        let (into, from) = if lower_first { (one, other) } else { (other, one) };
        let upper = self.segments.swap_remove(from);
        // What was the last segment has the number of the removed one now.
        let moved = self.segments.len();
        let into = if into == moved { from } else { into };
        if from < moved {
            self.point_to(from);
        }
        self.bytes -= upper.heap_bytes();
        let hasher = &self.hasher;
        let mut merged = std::mem::replace(&mut self.segments[into], Segment::new(0, 0));
        self.bytes -= merged.heap_bytes();
        merged.join(upper, |item| hash_with(hasher, item.key()));
        self.bytes += merged.heap_bytes();
        self.segments[into] = merged;
        self.point_to(into);
        if depth == self.depth {
            self.deepest -= 2;
        }
        self.give_back_directory();
    }

    fn give_back_directory(&mut self) {
        while self.deepest == 0 && self.depth > 0 {
            self.directory = self.directory.iter().copied().step_by(2).collect();
            self.depth -= 1;
            let depth = self.depth;
            self.deepest = self.segments.iter().filter(|s| s.depth == depth).count();
            self.segments.shrink_to(self.segments.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests;
