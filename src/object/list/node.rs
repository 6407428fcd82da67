//! One node of a list: elements in listpack form, one behind the other, in a block with room at either end.
//!
//! ```text
//! packed   +---------+----------+---------+---------+-- - - --+---------+----------+
//!          | end u32 | room     | element | element |         | element | room     |
//!          +---------+----------+---------+---------+-- - - --+---------+----------+
//!          0         4          start                                   end        a size class of the allocator
//!
//! plain    +------------------------------------------+
//!          | the one element, as it is                |
//!          +------------------------------------------+
//! ```
//!
//! * The elements are byte for byte those of a listpack; its header and its last byte, of which all can be computed,
//!   are left out in memory and added by [`Node::write_listpack`].
//! * A block is exactly an allocator's size class: it costs no more than one grown exactly, and what is left of the
//!   class is room for the next elements.
//! * Pushing and popping at either end moves no other element, but for now and then: when the room is at the wrong
//!   end, the elements slide to the other one; when there is none, the block grows by a class; when much is unused,
//!   it shrinks. Each of these follows pushes or pops of a fixed part of the block's bytes.
//!
//! Guarantees: between `start` and `end` stand whole elements, `count` of them. What the block's bytes mean to lists
//! is decided in `chain` and the list itself.

use super::element::{self, Element, Wanted};
use crate::object::listpack::Item;
use crate::object::size_class;
use smallvec::SmallVec;
use std::ops::Range;

/// One of the two ends of a list, and of each node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Front,
    Back,
}

/// Bytes at the beginning of a packed block that say where its elements end.
const HEAD: usize = size_of::<u32>();
/// Bytes that a listpack has before its elements.
pub const LISTPACK_HEAD: usize = 6;
/// Bytes that it has around them.
pub const LISTPACK_FRAME: usize = LISTPACK_HEAD + 1;
/// The count of a listpack with more elements than its header can say.
const UNCOUNTED: usize = u16::MAX as usize;
/// Stands in `count` for a plain node.
const PLAIN: u32 = u32::MAX;
/// A packed block is shorter than its positions can say.
const BLOCK_MOST: usize = u32::MAX as usize;

/// Ranges of a node's bytes, one element each.
pub type Matches = SmallVec<[Range<usize>; 8]>;

#[derive(Clone)]
pub struct Node {
    block: Box<[u8]>,
    start: u32,
    /// Elements, or `PLAIN`.
    count: u32,
}

impl Node {
    /// A packed node without elements, and without a block.
    pub(super) fn new() -> Node {
        Node {
            block: Box::default(),
            start: HEAD as u32,
            count: 0,
        }
    }

    /// A node whose only element is `value`, as it is.
    pub(super) fn plain(value: &[u8]) -> Node {
        Node {
            block: value.into(),
            start: 0,
            count: PLAIN,
        }
    }

    /// A packed node of `count` elements that are in listpack form already.
    pub(super) fn packed(elements: &[u8], count: usize) -> Node {
        let mut node = Node::new();
        node.count = count as u32;
        node.adopt(elements, size_class(HEAD + elements.len()), Side::Back);
        node
    }

    pub fn is_plain(&self) -> bool {
        self.count == PLAIN
    }

    /// How many elements.
    #[inline]
    pub fn len(&self) -> usize {
        if self.is_plain() { 1 } else { self.count as usize }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Heap bytes, as the allocator rounds them.
    pub(super) fn heap_bytes(&self) -> usize {
        if self.is_plain() {
            size_class(self.block.len())
        } else {
            self.block.len()
        }
    }

    #[inline]
    fn start(&self) -> usize {
        self.start as usize
    }

    /// Behind the last element of a packed node.
    #[inline]
    fn end(&self) -> usize {
        self.block
            .first_chunk()
            .map_or(HEAD, |end| u32::from_ne_bytes(*end) as usize)
    }

    #[inline]
    fn set_end(&mut self, end: usize) {
        if let Some(place) = self.block.first_chunk_mut() {
            *place = (end as u32).to_ne_bytes();
        }
    }

    /// The elements of a packed node, in listpack form; the value of a plain one.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        if self.is_plain() {
            return &self.block;
        }
        // Of a node without a block these are the empty bytes.
        self.block.get(self.start()..self.end()).unwrap_or(&[])
    }

    /// Bytes of this node as a listpack.
    pub fn listpack_bytes(&self) -> usize {
        self.bytes().len() + LISTPACK_FRAME
    }

    /// Appends the whole listpack of a packed node: total bytes and count, little-endian, elements, 0xff.
    pub fn write_listpack(&self, out: &mut Vec<u8>) {
        debug_assert!(!self.is_plain());
        out.extend_from_slice(&(self.listpack_bytes() as u32).to_le_bytes());
        out.extend_from_slice(&(self.len().min(UNCOUNTED) as u16).to_le_bytes());
        out.extend_from_slice(self.bytes());
        out.push(0xff);
    }

    /// The element at one end; none in an empty node.
    #[inline]
    pub(super) fn peek(&self, side: Side) -> Option<Item<'_>> {
        let bytes = self.bytes();
        if self.is_plain() {
            return Some(Item::Bytes(bytes));
        }
        let at = match side {
            _ if bytes.is_empty() => return None,
            Side::Front => 0,
            Side::Back => bytes.len() - element::last_len(bytes),
        };
        Some(element::decode(&bytes[at..]).0)
    }

    /// True when `extra` bytes may still be added.
    fn fits(&self, extra: usize) -> bool {
        HEAD + self.bytes().len() + extra <= BLOCK_MOST
    }

    /// Adds an element at one end of a packed node.
    #[inline]
    pub(super) fn push(&mut self, side: Side, element: &Element<'_>) {
        debug_assert!(!self.is_plain() && self.fits(element.len()));
        let len = element.len();
        self.make_room(side, len);
        let at = match side {
            Side::Front => {
                self.start -= len as u32;
                self.start()
            }
            Side::Back => {
                let end = self.end();
                self.set_end(end + len);
                end
            }
        };
        element.write(&mut self.block[at..at + len]);
        self.count += 1;
    }

    /// Takes `count` elements off one end of a packed node, which has as many.
    pub(super) fn shorten(&mut self, side: Side, count: usize) {
        debug_assert!(!self.is_plain() && count <= self.len());
        let bytes = self.bytes();
        match side {
            Side::Front => {
                let cut = (0..count).fold(0, |at, _| at + element::len(&bytes[at..]));
                self.start += cut as u32;
            }
            Side::Back => {
                let left = (0..count).fold(bytes.len(), |end, _| end - element::last_len(&bytes[..end]));
                self.set_end(self.start() + left);
            }
        }
        self.count -= count as u32;
        self.give_back();
    }

    /// Where element `index` starts within `bytes()`; their end when there is no such element.
    pub(super) fn offset_of(&self, index: usize) -> usize {
        if self.is_plain() {
            return index.min(1) * self.block.len();
        }
        let bytes = self.bytes();
        let behind = self.len().saturating_sub(index);
        if index <= behind {
            (0..index).fold(0, |at, _| at + element::len(&bytes[at..]))
        } else {
            (0..behind).fold(bytes.len(), |end, _| end - element::last_len(&bytes[..end]))
        }
    }

    /// The element that starts at `offset` of `bytes()`.
    pub(super) fn get(&self, offset: usize) -> Item<'_> {
        if self.is_plain() {
            return Item::Bytes(&self.block);
        }
        element::decode(&self.bytes()[offset..]).0
    }

    /// How many of `bytes()` the element at `offset` takes.
    pub(super) fn len_at(&self, offset: usize) -> usize {
        if self.is_plain() {
            return self.block.len();
        }
        element::len(&self.bytes()[offset..])
    }

    /// How many of `bytes()` the element takes that ends at `end`.
    fn len_before(&self, end: usize) -> usize {
        if self.is_plain() {
            return self.block.len();
        }
        element::last_len(&self.bytes()[..end])
    }

    /// Puts an element before the one at `offset` of a packed node's `bytes()`, or at their end.
    pub(super) fn insert(&mut self, offset: usize, element: &Element<'_>) {
        debug_assert!(!self.is_plain() && self.fits(element.len()));
        let at = self.open(offset, element.len());
        element.write(&mut self.block[at..at + element.len()]);
        self.count += 1;
    }

    /// Puts `element` in the place of the one at `offset`.
    pub(super) fn replace(&mut self, offset: usize, element: &Element<'_>) {
        let (old, new) = (self.len_at(offset), element.len());
        if new > old {
            self.open(offset, new - old);
        } else {
            self.close(offset..offset + old - new);
        }
        let at = self.start() + offset;
        element.write(&mut self.block[at..at + new]);
        self.give_back();
    }

    /// Removes the elements at these ranges of `bytes()`, which are in ascending order, one element each.
    pub(super) fn remove(&mut self, elements: &[Range<usize>]) {
        match elements {
            [] => return,
            [one] => self.close(one.clone()),
            _ => self.close_all(elements),
        }
        self.count -= elements.len() as u32;
        self.give_back();
    }

    /// Takes away many ranges at once: what is between them moves together, each byte once.
    fn close_all(&mut self, ranges: &[Range<usize>]) {
        let (start, end) = (self.start(), self.end());
        let mut to = start + ranges[0].start;
        for (i, range) in ranges.iter().enumerate() {
            let next = ranges.get(i + 1).map_or(end, |next| start + next.start);
            let kept = start + range.end..next;
            let len = kept.len();
            self.block.copy_within(kept, to);
            to += len;
        }
        self.set_end(to);
    }

    fn is_at(&self, offset: usize, wanted: &Wanted<'_>) -> bool {
        match self.is_plain() {
            true => wanted.is_plain(&self.block),
            false => wanted.is_at(&self.bytes()[offset..]),
        }
    }

    /// Index and offset of the first element that equals `wanted`.
    pub(super) fn find(&self, wanted: &Wanted<'_>) -> Option<(usize, usize)> {
        let mut offset = 0;
        for index in 0..self.len() {
            if self.is_at(offset, wanted) {
                return Some((index, offset));
            }
            offset += self.len_at(offset);
        }
        None
    }

    /// Where the elements are that equal `wanted`, at most so many from one side; in ascending order.
    pub(super) fn find_all(&self, wanted: &Wanted<'_>, side: Side, most: usize) -> Matches {
        let mut found = Matches::new();
        let mut rest = 0..self.bytes().len();
        for _ in 0..self.len() {
            if found.len() == most {
                break;
            }
            let element = match side {
                Side::Front => rest.start..rest.start + self.len_at(rest.start),
                Side::Back => rest.end - self.len_before(rest.end)..rest.end,
            };
            match side {
                Side::Front => rest.start = element.end,
                Side::Back => rest.end = element.start,
            }
            if self.is_at(element.start, wanted) {
                found.push(element);
            }
        }
        if side == Side::Back {
            found.reverse();
        }
        found
    }

    /// Removes the elements of a packed node that equal `wanted`, at most so many from one side; returns how many.
    pub(super) fn remove_equal(&mut self, wanted: &Wanted<'_>, side: Side, most: usize) -> usize {
        let found = self.find_all(wanted, side, most);
        self.remove(&found);
        found.len()
    }

    /// Cuts the node before the element at `offset`, whose index is `index`; what follows is returned.
    pub(super) fn split_off(&mut self, offset: usize, index: usize) -> Node {
        debug_assert!(!self.is_plain());
        let tail = Node::packed(&self.bytes()[offset..], self.len() - index);
        self.set_end(self.start() + offset);
        self.count = index as u32;
        self.give_back();
        tail
    }

    /// Adds the elements of another packed node at the end.
    pub(super) fn append(&mut self, other: &Node) {
        debug_assert!(!self.is_plain() && !other.is_plain() && self.fits(other.bytes().len()));
        let (more, count) = (other.bytes(), other.count);
        self.make_room(Side::Back, more.len());
        let end = self.end();
        self.block[end..end + more.len()].copy_from_slice(more);
        self.set_end(end + more.len());
        self.count += count;
    }

    /// Makes a gap of `len` bytes at `offset` of the elements, moving those of the shorter side; returns where in the
    /// block it is.
    fn open(&mut self, offset: usize, len: usize) -> usize {
        let used = self.bytes().len();
        let (room_before, room_behind) = self.room();
        let nearer = if offset < used - offset {
            Side::Front
        } else {
            Side::Back
        };
        let side = match nearer {
            Side::Front if room_before < len && room_behind >= len => Side::Back,
            Side::Back if room_behind < len && room_before >= len => Side::Front,
            nearer => nearer,
        };
        self.make_room(side, len);
        let (start, end) = (self.start(), self.end());
        match side {
            Side::Front => {
                self.block.copy_within(start..start + offset, start - len);
                self.start -= len as u32;
            }
            Side::Back => {
                self.block.copy_within(start + offset..end, start + offset + len);
                self.set_end(end + len);
            }
        }
        self.start() + offset
    }

    /// Takes away a range of the elements' bytes, moving those of the shorter side.
    fn close(&mut self, range: Range<usize>) {
        let (start, end) = (self.start(), self.end());
        if range.start < end - start - range.end {
            self.block
                .copy_within(start..start + range.start, start + range.len());
            self.start += range.len() as u32;
        } else {
            self.block
                .copy_within(start + range.end..end, start + range.start);
            self.set_end(end - range.len());
        }
    }

    /// Unused bytes before and behind the elements.
    #[inline]
    fn room(&self) -> (usize, usize) {
        match self.block.len() {
            0 => (0, 0),
            len => (self.start() - HEAD, len - self.end()),
        }
    }

    /// Sees to it that `need` bytes are free at one end.
    #[inline]
    fn make_room(&mut self, side: Side, need: usize) {
        let (before, behind) = self.room();
        let there = match side {
            Side::Front => before,
            Side::Back => behind,
        };
        if there < need {
            self.rearrange(side, need, before + behind);
        }
    }

    /// All room to one end, in a larger block unless this one has enough.
    #[cold]
    fn rearrange(&mut self, side: Side, need: usize, room: usize) {
        let used = self.bytes().len();
        // Sliding for little room would slide again soon, for every few elements of a queue that is always full.
        let slack = used / 16;
        if room >= need && room >= slack {
            let (start, end) = (self.start(), self.end());
            let to = match side {
                Side::Front => self.block.len() - used,
                Side::Back => HEAD,
            };
            self.block.copy_within(start..end, to);
            self.start = to as u32;
            self.set_end(to + used);
            return;
        }
        let slack = if room >= need { slack } else { 0 };
        let len = size_class(HEAD + used + need + slack);
        let old = std::mem::take(&mut self.block);
        self.adopt_from(&old, used, len, side);
    }

    fn adopt_from(&mut self, old: &[u8], used: usize, len: usize, room_at: Side) {
        let start = self.start();
        self.adopt(old.get(start..start + used).unwrap_or(&[]), len, room_at);
    }

    /// Gives unused memory back where there is much of it.
    #[inline]
    fn give_back(&mut self) {
        let needed = HEAD + self.bytes().len();
        // Two classes less: elements that come and go at the border of a class do not make it grow and shrink.
        if needed * 8 <= self.block.len() * 5 {
            self.shrink(needed);
        }
    }

    #[cold]
    fn shrink(&mut self, needed: usize) {
        let len = size_class(needed);
        if len < self.block.len() {
            let old = std::mem::take(&mut self.block);
            self.adopt_from(&old, needed - HEAD, len, Side::Back);
        }
    }

    /// Takes a new block of `len` bytes with these elements, the room at one end.
    fn adopt(&mut self, elements: &[u8], len: usize, room_at: Side) {
        let mut block = vec![0; len].into_boxed_slice();
        let start = match room_at {
            Side::Front => len - elements.len(),
            Side::Back => HEAD,
        };
        block[start..start + elements.len()].copy_from_slice(elements);
        self.block = block;
        self.start = start as u32;
        self.set_end(start + elements.len());
    }
}
