//! A list of short strings and integers in one allocation: Redis's listpack, byte for byte.
//!
//! ```text
//! listpack:  total bytes:u32 LE | elements:u16 LE (65535: not known, count them) | element … | 0xff
//! element:   encoding and data | length of that, backwards
//!
//! 0xxxxxxx                          integer of 7 bits, 0..=127
//! 110xxxxx xxxxxxxx                 integer of 13 bits, two's complement
//! 11110001 i16 LE                   11110010 i24 LE    11110011 i32 LE    11110100 i64 LE
//! 10xxxxxx bytes                    string of up to 63 bytes
//! 1110xxxx xxxxxxxx bytes           string of up to 4095 bytes
//! 11110000 length:u32 LE bytes      string
//!
//! length backwards: 7 bits a byte, high bits first, every byte but the first with 0x80, so that it reads from its end
//! ```
//!
//! Guarantees: the block is grown and cut exactly, so a list of n bytes is one allocation of n bytes; every element is
//! in its shortest form (a string that is the decimal form of an i64 is an integer), so that equal elements are equal
//! bytes, and `find` compares those. `from_bytes` refuses what is damaged and rewrites what is not in shortest form.
//!
//! Layout as published in Redis's listpack specification.

pub(super) mod element;

pub use element::Item;

use super::size_class;
use element::{
    Encoded, back_is_longer, back_len, backwards, data_len, is_shortest, item, item_len, write_item,
};
use std::fmt;

const HEADER: usize = 6;
const END: u8 = 0xff;
const UNCOUNTED: u16 = u16::MAX;
/// The most bytes a list should be let grow to; its header could hold four times that.
pub const BYTES_MAX: usize = 1 << 30;

/// The bytes are not a listpack; `at` is the offset of the first place that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged {
    pub at: usize,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the packed list is damaged at its byte {}", self.at)
    }
}

/// Where an element starts: byte offset. Valid until the next change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor(usize);

/// A packed list; see the file's head.
#[derive(Clone, PartialEq, Eq)]
pub struct Listpack {
    bytes: Box<[u8]>,
}

const _: () = assert!(size_of::<Listpack>() == 16);

impl Default for Listpack {
    fn default() -> Self {
        Listpack::new()
    }
}

impl fmt::Debug for Listpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Listpack {
    pub fn new() -> Listpack {
        Listpack {
            bytes: Box::new([HEADER as u8 + 1, 0, 0, 0, 0, 0, END]),
        }
    }

    /// Takes the bytes of a listpack from outside; each element is checked, forwards and backwards.
    pub fn from_bytes(bytes: Box<[u8]>) -> Result<Listpack, Damaged> {
        let damaged = |at| Err(Damaged { at });
        let Some((total, _)) = bytes.split_first_chunk::<4>() else {
            return damaged(0);
        };
        if bytes.len() < HEADER + 1 || u32::from_le_bytes(*total) as usize != bytes.len() {
            return damaged(0);
        }
        let end = bytes.len() - 1;
        let (mut at, mut count, mut shortest) = (HEADER, 0usize, true);
        while at < end {
            let Some(len) = data_len(&bytes[at..end]) else {
                return damaged(at);
            };
            let next = at + len + back_len(len);
            if next > end
                || backwards(&bytes[at + len..next]) != Some(len)
                || back_is_longer(&bytes[at + len..next])
            {
                return damaged(at);
            }
            shortest = shortest && is_shortest(&bytes[at..at + len]);
            (at, count) = (next, count + 1);
        }
        if bytes[end] != END {
            return damaged(end);
        }
        let list = Listpack { bytes };
        match list.count() {
            UNCOUNTED => {}
            noted if noted as usize == count => {}
            _ => return damaged(4),
        }
        Ok(if shortest { list } else { list.rewritten() })
    }

    /// The same elements, each in its shortest form.
    fn rewritten(&self) -> Listpack {
        let mut list = Listpack::new();
        for item in self.iter() {
            match item {
                Item::Int(value) => list.push_back_int(value),
                Item::Bytes(bytes) => list.push_back(bytes),
            }
        }
        list
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn count(&self) -> u16 {
        u16::from_le_bytes([self.bytes[4], self.bytes[5]])
    }

    /// Elements. Counted one by one in lists that ever held 65535 or more.
    pub fn len(&self) -> usize {
        match self.count() {
            UNCOUNTED => self.iter().count(),
            count => count as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER + 1
    }

    /// Length of `as_bytes`.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What the allocator has given for it.
    pub fn heap_bytes(&self) -> usize {
        size_class(self.bytes.len())
    }

    /// Bytes that an element would take here.
    pub fn bytes_of(element: &[u8]) -> usize {
        Encoded::of(element).len()
    }

    fn end(&self) -> usize {
        self.bytes.len() - 1
    }

    fn cursor(&self, at: usize) -> Option<Cursor> {
        (at < self.end()).then_some(Cursor(at))
    }

    pub fn first(&self) -> Option<Cursor> {
        self.cursor(HEADER)
    }

    pub fn last(&self) -> Option<Cursor> {
        self.before(self.end())
    }

    pub fn next(&self, cursor: Cursor) -> Option<Cursor> {
        self.cursor(self.behind(cursor.0))
    }

    pub fn prev(&self, cursor: Cursor) -> Option<Cursor> {
        self.before(cursor.0)
    }

    /// Where the element ends that starts at `at`.
    #[inline]
    fn behind(&self, at: usize) -> usize {
        let len = self.data_len(at);
        at + len + back_len(len)
    }

    #[inline]
    fn data_len(&self, at: usize) -> usize {
        // proof: cursors stand where elements begin, and no list holds an element that is not sound.
        data_len(&self.bytes[at..]).expect("an element begins at the cursor")
    }

    /// The element that ends at `at`.
    fn before(&self, at: usize) -> Option<Cursor> {
        if at <= HEADER {
            return None;
        }
        // proof: an element ends at `at`, and no list holds an element that is not sound.
        let len = backwards(&self.bytes[HEADER..at]).expect("an element ends before the cursor");
        Some(Cursor(at - len - back_len(len)))
    }

    /// The element number `index`, from 0; negative from the end, from -1.
    pub fn at(&self, index: i64) -> Option<Cursor> {
        let count = match self.count() {
            UNCOUNTED => None,
            count => Some(count as i64),
        };
        // From the nearer end, where that is known.
        let index = match count {
            Some(count) if index >= count || index < -count => return None,
            Some(count) if index >= 0 && index > count / 2 => index - count,
            Some(count) if index < 0 && -index > count / 2 + 1 => index + count,
            _ => index,
        };
        if index >= 0 {
            let mut cursor = self.first();
            for _ in 0..index {
                cursor = self.next(cursor?);
            }
            cursor
        } else {
            let mut cursor = self.last();
            for _ in 0..-(index + 1) {
                cursor = self.prev(cursor?);
            }
            cursor
        }
    }

    #[inline]
    pub fn get(&self, cursor: Cursor) -> Item<'_> {
        item(&self.bytes[cursor.0..][..self.data_len(cursor.0)])
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter {
            list: self,
            front: HEADER,
            back: self.end(),
        }
    }

    /// The element at the cursor and all that follow it.
    pub fn iter_from(&self, cursor: Cursor) -> Iter<'_> {
        Iter {
            list: self,
            front: cursor.0,
            back: self.end(),
        }
    }

    /// The first element from `from` on that equals `wanted`, of which `skip` are passed over between two compared
    /// ones: 1 finds a field among pairs of field and value.
    pub fn find(&self, from: Cursor, wanted: &[u8], skip: usize) -> Option<Cursor> {
        let wanted = Encoded::of(wanted);
        let (mut at, end) = (from.0, self.end());
        while at < end {
            if wanted.is_at(&self.bytes[at..end]) {
                return Some(Cursor(at));
            }
            at = self.behind(at);
            for _ in 0..skip {
                if at >= end {
                    return None;
                }
                at = self.behind(at);
            }
        }
        None
    }

    pub fn push_back(&mut self, element: &[u8]) {
        self.put(self.end(), 0, &Encoded::of(element));
    }

    pub fn push_front(&mut self, element: &[u8]) {
        self.put(HEADER, 0, &Encoded::of(element));
    }

    pub fn insert_before(&mut self, cursor: Cursor, element: &[u8]) -> Cursor {
        self.put(cursor.0, 0, &Encoded::of(element))
    }

    pub fn insert_after(&mut self, cursor: Cursor, element: &[u8]) -> Cursor {
        self.put(self.behind(cursor.0), 0, &Encoded::of(element))
    }

    pub fn replace(&mut self, cursor: Cursor, element: &[u8]) -> Cursor {
        let old = self.behind(cursor.0) - cursor.0;
        self.put(cursor.0, old, &Encoded::of(element))
    }

    pub fn push_back_int(&mut self, value: i64) {
        self.put(self.end(), 0, &Encoded::int(value));
    }

    pub fn replace_int(&mut self, cursor: Cursor, value: i64) -> Cursor {
        if (0..=127).contains(&value) && self.bytes[cursor.0] <= 127 {
            // Both are of the shortest form: the byte is the number.
            self.bytes[cursor.0] = value as u8;
            return cursor;
        }
        let old = self.behind(cursor.0) - cursor.0;
        self.put(cursor.0, old, &Encoded::int(value))
    }

    /// Puts an element in the place of `old` bytes at `at`: those of one element, or none.
    fn put(&mut self, at: usize, old: usize, element: &Encoded<'_>) -> Cursor {
        element.write(self.splice(at, old, element.len()));
        if old == 0 {
            self.count_up(1);
        }
        Cursor(at)
    }

    /// Makes `new` bytes out of `old` ones at `at`, and returns them to be written.
    fn splice(&mut self, at: usize, old: usize, new: usize) -> &mut [u8] {
        let len = self.bytes.len() - old + new;
        assert!(len <= u32::MAX as usize, "a packed list's length fits 32 bits");
        if old != new {
            let mut bytes = std::mem::take(&mut self.bytes).into_vec();
            let behind = at + old..bytes.len();
            if new > old {
                bytes.reserve_exact(new - old);
                bytes.resize(len, 0);
                bytes.copy_within(behind, at + new);
            } else {
                bytes.copy_within(behind, at + new);
                bytes.truncate(len);
            }
            bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
            self.bytes = bytes.into_boxed_slice();
        }
        &mut self.bytes[at..at + new]
    }

    fn count_up(&mut self, more: usize) {
        if self.count() != UNCOUNTED {
            self.set_count(self.count() as usize + more);
        }
    }

    fn set_count(&mut self, count: usize) {
        let count = count.min(UNCOUNTED as usize) as u16;
        self.bytes[4..HEADER].copy_from_slice(&count.to_le_bytes());
    }

    /// Removes `count` elements, or as many as there are; returns the one that follows.
    pub fn remove(&mut self, cursor: Cursor, count: usize) -> Option<Cursor> {
        let (mut to, end, mut removed) = (cursor.0, self.end(), 0);
        while removed < count && to < end {
            to = self.behind(to);
            removed += 1;
        }
        self.splice(cursor.0, to - cursor.0, 0);
        self.count_down(removed);
        self.cursor(cursor.0)
    }

    fn count_down(&mut self, fewer: usize) {
        if self.is_empty() {
            self.set_count(0);
        } else if self.count() != UNCOUNTED {
            self.set_count(self.count() as usize - fewer);
        }
    }

    /// Appends many elements, with one reallocation.
    pub fn append_many<'a>(&mut self, elements: impl Iterator<Item = &'a [u8]> + Clone) {
        self.insert_many(None, elements);
    }

    /// Puts many elements in front of one, or at the end, with one reallocation.
    pub fn insert_many<'a>(
        &mut self,
        before: Option<Cursor>,
        elements: impl Iterator<Item = &'a [u8]> + Clone,
    ) {
        let (mut len, mut count) = (0, 0);
        for element in elements.clone() {
            len += Encoded::of(element).len();
            count += 1;
        }
        let at = before.map_or(self.end(), |cursor| cursor.0);
        let mut rest = self.splice(at, 0, len);
        for element in elements {
            let element = Encoded::of(element);
            let (place, behind) = std::mem::take(&mut rest).split_at_mut(element.len());
            element.write(place);
            rest = behind;
        }
        self.count_up(count);
    }

    /// Exchanges two neighbouring runs of elements: from `first` up to `second`, and from there up to `end` (none: the
    /// end of the list).
    pub fn exchange(&mut self, first: Cursor, second: Cursor, end: Option<Cursor>) {
        let end = end.map_or(self.end(), |cursor| cursor.0);
        self.bytes[first.0..end].rotate_left(second.0 - first.0);
    }

    /// Appends many elements that are in the form of the list already (`Item::of`), with one reallocation.
    pub fn append_items(&mut self, items: &[Item<'_>]) {
        let len = items.iter().map(|item| item_len(*item)).sum();
        let mut rest = self.splice(self.end(), 0, len);
        for item in items {
            let written = write_item(*item, rest);
            rest = &mut rest[written..];
        }
        self.count_up(items.len());
    }

    /// Moves the element at the cursor and all behind it into a list of their own.
    pub fn split_off(&mut self, cursor: Cursor) -> Listpack {
        let moved = self.iter_from(cursor).count();
        let (at, len) = (cursor.0, self.end() - cursor.0);
        let mut tail = Listpack::new();
        tail.splice(HEADER, 0, len)
            .copy_from_slice(&self.bytes[at..at + len]);
        tail.set_count(moved);
        self.splice(at, len, 0);
        self.count_down(moved);
        tail
    }

    /// Appends a copy of another list's elements.
    pub fn append(&mut self, other: &Listpack) {
        let elements = &other.bytes[HEADER..other.end()];
        self.splice(self.end(), 0, elements.len())
            .copy_from_slice(elements);
        match other.count() {
            UNCOUNTED => self.set_count(UNCOUNTED as usize),
            count => self.count_up(count as usize),
        }
    }
}

/// The elements of a list, from both ends.
#[derive(Clone)]
pub struct Iter<'a> {
    list: &'a Listpack,
    front: usize,
    /// Where the last element ends that is still to come.
    back: usize,
}

impl Iter<'_> {
    /// Where the next element starts.
    #[inline]
    pub fn cursor(&self) -> Option<Cursor> {
        (self.front < self.back).then_some(Cursor(self.front))
    }

    /// Passes over elements, or as many as there are.
    #[inline]
    pub fn pass(&mut self, count: usize) {
        for _ in 0..count {
            if self.front >= self.back {
                break;
            }
            self.front = self.list.behind(self.front);
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (at, len) = (self.front, self.list.data_len(self.front));
        self.front = at + len + back_len(len);
        Some(item(&self.list.bytes[at..at + len]))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let cursor = self.list.before(self.back)?;
        self.back = cursor.0;
        Some(self.list.get(cursor))
    }
}

#[cfg(test)]
mod tests;
