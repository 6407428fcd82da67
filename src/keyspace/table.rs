//! The hash table of a shard: entries in buckets of one cache line.
//!
//! ```text
//! bucket (64 bytes): | slot 0 | slot 1 | ... | slot 7 |      slot: 0, or 16 bits of the key's hash | 48-bit pointer
//! ```
//!
//! * A key's home bucket is its fragment (the 16 hash bits in its slot) scaled to the number of buckets, so the
//!   buckets need not be a power of two: the table grows by a third, stays three fifths to four fifths full, and costs
//!   about eleven bytes a key at every size.
//! * An entry stands in its home bucket, or behind it in the first one that has room. Invariant: every bucket between
//!   an entry's home and its place is full. So a search ends at the first bucket with a free slot, and a removal from
//!   a full bucket pulls a later entry back.
//! * Growing needs the fragments only, which are in the slots: no entry is touched, no key is hashed again.
//!
//! With the fragment most lookups touch one bucket and one entry: two cache misses, both of which can be started
//! beforehand (`Keyspace::prefetch`).

use super::entry::Entry;

const SLOTS: usize = 8;

#[repr(align(64))]
#[derive(Default)]
struct Bucket {
    slots: [Option<Entry>; SLOTS],
}

impl Bucket {
    fn is_full(&self) -> bool {
        self.slots.iter().all(Option::is_some)
    }
}

/// The bits of a hash that stand in the slot.
#[inline]
fn fragment(hash: u64) -> u16 {
    (hash >> 48) as u16
}

/// Where an entry stands: holds until something is inserted or removed.
#[derive(Clone, Copy)]
pub struct Place {
    bucket: usize,
    slot: usize,
}

#[derive(Default)]
pub struct Table {
    buckets: Box<[Bucket]>,
    len: usize,
}

impl Table {
    #[inline]
    fn home(&self, fragment: u16) -> usize {
        (fragment as usize * self.buckets.len()) >> 16
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() {
            0
        } else {
            bucket + 1
        }
    }

    /// Buckets from `from` on to `to`, going round.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.buckets.len() - from
        }
    }

    /// The place of the entry of this hash that `wanted` accepts.
    #[inline]
    pub fn position(&self, hash: u64, wanted: impl Fn(&Entry) -> bool) -> Option<Place> {
        if self.buckets.is_empty() {
            return None;
        }
        let fragment = fragment(hash);
        let mut at = self.home(fragment);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut full = true;
            for (i, slot) in bucket.slots.iter().enumerate() {
                match slot {
                    Some(entry) if entry.fragment() == fragment && wanted(entry) => {
                        return Some(Place { bucket: at, slot: i });
                    }
                    Some(_) => {}
                    None => full = false,
                }
            }
            if !full {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// The entry of this hash that `wanted` accepts.
    #[inline]
    pub fn find(&self, hash: u64, wanted: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        let place = self.position(hash, wanted)?;
        self.at(place)
    }

    #[inline]
    pub fn find_mut(&mut self, hash: u64, wanted: impl Fn(&Entry) -> bool) -> Option<&mut Entry> {
        let place = self.position(hash, wanted)?;
        self.at_mut(place)
    }

    /// The entry at a place.
    #[inline]
    pub fn at(&self, place: Place) -> Option<&Entry> {
        self.buckets[place.bucket].slots[place.slot].as_ref()
    }

    #[inline]
    pub fn at_mut(&mut self, place: Place) -> Option<&mut Entry> {
        self.buckets[place.bucket].slots[place.slot].as_mut()
    }

    /// Visits every entry whose fragment is that of `hash`: those of the hash, and sometimes others.
    pub fn visit_like(&mut self, hash: u64, mut visit: impl FnMut(&mut Entry)) {
        if self.buckets.is_empty() {
            return;
        }
        let fragment = fragment(hash);
        let mut at = self.home(fragment);
        for _ in 0..self.buckets.len() {
            let bucket = &mut self.buckets[at];
            bucket
                .slots
                .iter_mut()
                .flatten()
                .filter(|entry| entry.fragment() == fragment)
                .for_each(&mut visit);
            if !bucket.is_full() {
                return;
            }
            at = self.next(at);
        }
    }

    /// Adds an entry whose key is not in the table.
    pub fn insert(&mut self, hash: u64, mut entry: Entry) -> &mut Entry {
        // At most four fifths full.
        if (self.len + 1) * 5 > self.buckets.len() * SLOTS * 4 {
            self.resize(self.buckets.len() * 4 / 3 + 1);
        }
        entry.set_fragment(fragment(hash));
        self.len += 1;
        self.place(entry)
    }

    fn place(&mut self, entry: Entry) -> &mut Entry {
        let mut at = self.home(entry.fragment());
        while self.buckets[at].is_full() {
            at = self.next(at);
        }
        let free = self.buckets[at].slots.iter().position(Option::is_none);
        // proof: the loop above ends at a bucket that is not full; there is one because the table is not.
        self.buckets[at].slots[free.expect("a free slot")].insert(entry)
    }

    fn resize(&mut self, buckets: usize) {
        let fresh = (0..buckets.max(1)).map(|_| Bucket::default()).collect();
        let old = std::mem::replace(&mut self.buckets, fresh);
        for entry in old.into_iter().flat_map(|bucket| bucket.slots).flatten() {
            self.place(entry);
        }
    }

    /// Gives memory back once most of it is unused.
    pub fn shrink(&mut self) {
        if self.buckets.len() > 8 && self.len * 5 < self.buckets.len() * SLOTS {
            self.resize(self.len * 3 / 2 / SLOTS + 1);
        }
    }

    pub fn remove(&mut self, hash: u64, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let Place { bucket, slot } = self.position(hash, wanted)?;
        let was_full = self.buckets[bucket].is_full();
        let entry = self.buckets[bucket].slots[slot].take();
        self.len -= 1;
        if was_full {
            self.pull_back(bucket, slot);
        }
        entry
    }

    /// Fills a hole in a bucket that was full with an entry from behind whose way led through it, and so on with the
    /// hole that leaves.
    fn pull_back(&mut self, mut hole: usize, mut slot: usize) {
        let mut at = self.next(hole);
        while at != hole {
            let full = self.buckets[at].is_full();
            let passed = |entry: &Entry| {
                let home = self.home(entry.fragment());
                self.distance(home, at) >= self.distance(hole, at)
            };
            let found = self.buckets[at]
                .slots
                .iter()
                .position(|entry| entry.as_ref().is_some_and(passed));
            if let Some(from) = found {
                self.buckets[hole].slots[slot] = self.buckets[at].slots[from].take();
                (hole, slot) = (at, from);
            }
            if !full {
                return;
            }
            at = self.next(at);
        }
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The entries in a bucket.
    pub fn bucket(&self, at: usize) -> impl Iterator<Item = &Entry> {
        self.buckets[at].slots.iter().flatten()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(|bucket| &bucket.slots).flatten()
    }

    /// Entries from bucket `start` modulo the number of buckets on, going round once.
    pub fn iter_from(&self, start: usize) -> impl Iterator<Item = &Entry> {
        let start = start % self.buckets.len().max(1);
        let (before, behind) = self.buckets.split_at(start.min(self.buckets.len()));
        behind
            .iter()
            .chain(before)
            .flat_map(|bucket| &bucket.slots)
            .flatten()
    }

    /// Takes out every entry that `wanted` accepts.
    pub fn extract(&mut self, mut wanted: impl FnMut(&mut Entry) -> bool) -> Vec<Entry> {
        let old = std::mem::take(&mut self.buckets);
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for mut entry in old.into_iter().flat_map(|bucket| bucket.slots).flatten() {
            if wanted(&mut entry) {
                gone.push(entry)
            } else {
                kept.push(entry)
            }
        }
        self.len = kept.len();
        if !kept.is_empty() {
            self.resize(self.len * 3 / 2 / SLOTS + 1);
            kept.into_iter().for_each(|entry| {
                self.place(entry);
            });
        }
        gone
    }

    /// Every entry, to change what is not its key.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.buckets
            .iter_mut()
            .flat_map(|bucket| bucket.slots.iter_mut().flatten())
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the buckets.
    pub fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    /// The address of the home bucket of a hash; none in an empty table.
    #[inline]
    pub fn home_address(&self, hash: u64) -> Option<*const u8> {
        let bucket = self.buckets.get(self.home(fragment(hash)))?;
        Some(std::ptr::from_ref(bucket).cast())
    }

    /// The first entry in the home bucket of a hash that has its fragment: most often that of the hash.
    #[inline]
    pub fn likely(&self, hash: u64) -> Option<&Entry> {
        let fragment = fragment(hash);
        let bucket = self.buckets.get(self.home(fragment))?;
        bucket
            .slots
            .iter()
            .flatten()
            .find(|entry| entry.fragment() == fragment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(key: u32) -> Entry {
        Entry::new(0, &key.to_le_bytes(), b"", None, 0)
    }

    /// Few homes, so that buckets overflow and go round the end.
    fn hash(key: u32) -> u64 {
        u64::from([0u16, 1, 0x7fff, 0xfffe, 0xffff, 0x1234][key as usize % 6]) << 48 | u64::from(key)
    }

    fn is(key: u32) -> impl Fn(&Entry) -> bool {
        move |entry| entry.key() == key.to_le_bytes()
    }

    proptest! {
        #[test]
        fn holds_what_a_map_holds(steps in proptest::collection::vec((any::<bool>(), 0u32..200), 1..600)) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (insert, key) in steps {
                if insert && !model.contains_key(&key) {
                    table.insert(hash(key), entry(key));
                    model.insert(key, ());
                } else if !insert {
                    prop_assert_eq!(table.remove(hash(key), is(key)).is_some(), model.remove(&key).is_some());
                    table.shrink();
                }
                prop_assert_eq!(table.len(), model.len());
                for key in 0..200 {
                    prop_assert_eq!(table.find(hash(key), is(key)).is_some(), model.contains_key(&key));
                }
            }
            prop_assert_eq!(table.iter().count(), model.len());
            let gone = table.extract(|entry| entry.key()[0] % 2 == 0);
            prop_assert_eq!(gone.len(), model.keys().filter(|key| *key % 2 == 0).count());
            for key in model.keys() {
                prop_assert_eq!(table.find(hash(*key), is(*key)).is_some(), key % 2 != 0);
            }
        }
    }

    #[test]
    fn a_key_costs_about_eleven_bytes_at_every_size() {
        let mut table = Table::default();
        for key in 0..100_000u32 {
            table.insert(u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15), entry(key));
            if key > 1_000 {
                let bytes = table.bytes() as f64 / f64::from(key + 1);
                assert!((9.9..13.5).contains(&bytes), "{bytes} at {key}");
            }
        }
    }
}
