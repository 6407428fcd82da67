//! One segment of a `Dict`: slots in the order of their hashes.
//!
//! ```text
//! slots  | 0 | 1 | 2 | ...               | homes - 1 | tail ... |      each empty, or an item with its tag
//! ```
//!
//! * The segment holds the items whose hash begins with the `depth` bits of `prefix`.
//! * An item's tag is 16 bits of its hash, from bit `depth` rounded down to a multiple of four on: the bits behind
//!   `depth` among them say the home slot, and a split seldom has to hash a key again.
//! * Invariants: tags ascend with the slots; an item stands at its home or behind it, and no slot from its home to its
//!   place is empty. So a search ends at the first empty slot or larger tag, and nothing goes round the end: runs at
//!   the end lie in the tail.

use super::DictItem;
use crate::object::size_class;

const SLOT: usize = 8;
/// A segment that would need more slots than these is to be split.
const SLOTS_MAX: usize = 512;
/// The tag begins at a multiple of this many bits of the hash.
const TAG_STEP: u8 = 4;
const TAG_BITS: u8 = 16;

#[derive(Clone)]
pub struct Segment<T> {
    pub slots: Box<[Option<T>]>,
    /// The first `depth` bits of the hashes in here; the others are 0.
    pub prefix: u64,
    /// Slots that are homes.
    homes: u32,
    len: u32,
    pub depth: u8,
}

fn base(depth: u8) -> u8 {
    depth - depth % TAG_STEP
}

/// The tag of a hash in a segment of this depth.
#[inline]
pub fn tag(hash: u64, depth: u8) -> u16 {
    ((hash << base(depth)) >> (64 - TAG_BITS)) as u16
}

/// The number of homes that `len` items need, seven eighths of them taken.
fn homes_for(len: usize) -> usize {
    (len * 8).div_ceil(7).max(4)
}

/// How many of the slots are homes; the others are the tail.
fn homes_of(slots: usize) -> usize {
    slots - slots / 32 - 2
}

/// All the slots that fit the memory which the allocator gives for at least that many homes and their tail.
fn slots_for(homes: usize) -> usize {
    size_class(((homes + 2) * 32).div_ceil(31) * SLOT) / SLOT
}

impl<T: DictItem> Segment<T> {
    pub fn new(prefix: u64, depth: u8) -> Segment<T> {
        Segment::build(Vec::new(), prefix, depth, slots_for(homes_for(4)))
    }

    /// A segment of items in the order of their tags, with at least that many slots.
    fn build(items: Vec<T>, prefix: u64, depth: u8, slots: usize) -> Segment<T> {
        Segment::build_with_homes(items, prefix, depth, slots, homes_of(slots))
    }

    fn build_with_homes(items: Vec<T>, prefix: u64, depth: u8, slots: usize, homes: usize) -> Segment<T> {
        let mut segment = Segment {
            slots: Box::default(),
            prefix,
            homes: homes as u32,
            len: items.len() as u32,
            depth,
        };
        let end = items
            .iter()
            .fold(0, |next, item| segment.home(item.tag()).max(next) + 1);
        // One slot more than is taken: then there is room for any item.
        let slots = if end < slots { slots } else { slots_for(end) };
        let mut placed: Vec<Option<T>> = Vec::with_capacity(slots);
        for item in items {
            let home = segment.home(item.tag());
            placed.extend((placed.len()..home).map(|_| None));
            placed.push(Some(item));
        }
        placed.resize_with(slots, || None);
        segment.slots = placed.into_boxed_slice();
        segment
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn heap_bytes(&self) -> usize {
        size_class(self.slots.len() * SLOT)
    }

    /// The first hash behind this segment; 0 behind the last one.
    pub fn end(&self) -> u64 {
        // In two steps, because a shift by 64 is none.
        self.prefix.wrapping_add((1 << (63 - self.depth)) << 1)
    }

    pub fn items(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    pub fn items_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    #[inline]
    fn home(&self, tag: u16) -> usize {
        let shared = self.depth % TAG_STEP;
        let own = u32::from(tag) & (0xffff >> shared);
        (own as usize * self.homes as usize) >> (TAG_BITS - shared)
    }

    /// Where the search for a hash begins.
    #[inline]
    pub fn home_address(&self, hash: u64) -> *const u8 {
        let home = self.home(tag(hash, self.depth));
        std::ptr::from_ref(&self.slots[home]).cast()
    }

    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let tag = tag(hash, self.depth);
        let home = self.home(tag);
        for (i, slot) in self.slots[home..].iter().enumerate() {
            match slot {
                Some(item) if item.tag() < tag => {}
                Some(item) if item.tag() == tag => {
                    if item.key() == key {
                        return Some(home + i);
                    }
                }
                _ => return None,
            }
        }
        None
    }

    /// The items with the tag of this hash.
    pub fn like(&self, hash: u64) -> impl Iterator<Item = &T> {
        let tag = tag(hash, self.depth);
        let run = self.slots[self.home(tag)..].iter().map_while(Option::as_ref);
        run.take_while(move |item| item.tag() <= tag)
            .filter(move |item| item.tag() == tag)
    }

    /// As `like`; the items keep their tags.
    pub fn like_mut(&mut self, hash: u64) -> impl Iterator<Item = &mut T> {
        let tag = tag(hash, self.depth);
        let home = self.home(tag);
        let run = self.slots[home..].iter_mut().map_while(Option::as_mut);
        run.take_while(move |item| item.tag() <= tag)
            .filter(move |item| item.tag() == tag)
    }

    /// Adds an item; gives it back if there is no room.
    pub fn insert(&mut self, hash: u64, mut item: T) -> Result<(), T> {
        if homes_for(self.len() + 1) > self.homes as usize {
            return Err(item);
        }
        let tag = tag(hash, self.depth);
        let home = self.home(tag);
        let stays = |slot: &Option<T>| slot.as_ref().is_some_and(|other| other.tag() <= tag);
        let Some(place) = position(&self.slots, home, |slot| !stays(slot)) else {
            return Err(item);
        };
        let Some(free) = position(&self.slots, place, Option::is_none) else {
            return Err(item);
        };
        item.set_tag(tag);
        self.slots[place..=free].rotate_right(1);
        self.slots[place] = Some(item);
        self.len += 1;
        Ok(())
    }

    /// Takes the item out of a slot; those behind it that are not at home move up.
    pub fn remove(&mut self, slot: usize) -> Option<T> {
        let item = self.slots[slot].take()?;
        self.len -= 1;
        let mut end = slot + 1;
        while let Some(Some(next)) = self.slots.get(end)
            && self.home(next.tag()) < end
        {
            end += 1;
        }
        self.slots[slot..end].rotate_left(1);
        Some(item)
    }

    /// Visits items whose hash is `from` or more, until `left` is 0: each takes one off. Returns the hash to go on
    /// with, or none when the segment has been seen to its end.
    pub fn scan<'a>(
        &'a self,
        from: u64,
        left: &mut usize,
        hash: impl Fn(&T) -> u64,
        visit: &mut impl FnMut(&'a T),
    ) -> Option<u64> {
        let unit = 64 - base(self.depth) - TAG_BITS;
        let first = tag(from, self.depth);
        // A cursor from a deeper segment can lie between two hashes of the same tag.
        let exact = from & ((1 << unit) - 1) == 0;
        let mut last = first;
        for item in self.slots[self.home(first)..].iter().flatten() {
            let tag = item.tag();
            if tag < first || (tag == first && !exact && hash(item) < from) {
                continue;
            }
            if *left == 0 && tag != last {
                // The tag that comes next, below the bits in front of all tags.
                let front = (from >> unit) - u64::from(first);
                return Some((front + u64::from(last) + 1) << unit);
            }
            visit(item);
            last = tag;
            *left = left.saturating_sub(1);
        }
        None
    }

    /// True when it should be split rather than made longer.
    pub fn is_long(&self) -> bool {
        let homes = homes_for(self.len() + 1);
        if homes > self.homes as usize {
            slots_for(homes) > SLOTS_MAX
        } else {
            self.slots.len() >= SLOTS_MAX
        }
    }

    /// True when most slots are empty and memory can be given back.
    pub fn is_sparse(&self) -> bool {
        self.slots.len() > 16 && self.len() * 4 < self.slots.len()
    }

    fn take_items(&mut self) -> Vec<T> {
        let mut items = Vec::with_capacity(self.len());
        items.extend(std::mem::take(&mut self.slots).into_iter().flatten());
        items
    }

    /// Makes room for one item more at least.
    pub fn grow(&mut self) {
        let items = self.take_items();
        let homes = homes_for(items.len() + 1);
        *self = if homes > self.homes as usize {
            Segment::build(items, self.prefix, self.depth, slots_for(homes))
        } else {
            // A run has reached the end: the tail becomes longer.
            Segment::build_with_homes(items, self.prefix, self.depth, 0, self.homes as usize)
        };
    }

    pub fn shrink(&mut self) {
        let items = self.take_items();
        let slots = slots_for(homes_for(items.len() + items.len() / 4));
        *self = Segment::build(items, self.prefix, self.depth, slots);
    }

    /// A segment from items in no order or without tags.
    fn fresh(items: Vec<T>, prefix: u64, depth: u8) -> Segment<T> {
        let slots = slots_for(homes_for(items.len() + items.len() / 16));
        Segment::build(items, prefix, depth, slots)
    }

    /// Keeps the lower half of its hashes and returns a segment of the upper half; both are one deeper.
    pub fn split(&mut self, hash: impl Fn(&T) -> u64) -> Segment<T> {
        let (depth, prefix) = (self.depth + 1, self.prefix);
        let mut items = self.take_items();
        let bit = 1 << (TAG_BITS - 1 - self.depth % TAG_STEP);
        let lower = items.partition_point(|item| item.tag() & bit == 0);
        if base(depth) != base(self.depth) {
            retag(&mut items[..lower], depth, &hash);
            retag(&mut items[lower..], depth, &hash);
        }
        let upper = items.split_off(lower);
        *self = Segment::fresh(items, prefix, depth);
        Segment::fresh(upper, prefix | 1 << (64 - depth), depth)
    }

    /// Takes up the items of the segment of the upper half.
    pub fn join(&mut self, mut upper: Segment<T>, hash: impl Fn(&T) -> u64) {
        let depth = self.depth - 1;
        let mut items = self.take_items();
        items.append(&mut upper.take_items());
        if base(depth) != base(self.depth) {
            retag(&mut items, depth, &hash);
        }
        *self = Segment::fresh(items, self.prefix, depth);
    }
}

fn position<T>(slots: &[Option<T>], from: usize, wanted: impl Fn(&Option<T>) -> bool) -> Option<usize> {
    Some(from + slots.get(from..)?.iter().position(wanted)?)
}

/// Notes the tags of another depth and sorts by them.
fn retag<T: DictItem>(items: &mut [T], depth: u8, hash: impl Fn(&T) -> u64) {
    for item in items.iter_mut() {
        item.set_tag(tag(hash(item), depth));
    }
    items.sort_unstable_by_key(|item| item.tag());
}
