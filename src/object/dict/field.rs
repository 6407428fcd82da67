//! A member of a set or a field of a hash with its value: one heap block behind a thin pointer.
//!
//! ```text
//! | shape (1) | key length (1, 2 or 4) | [value length (the same)] | [expiry (8)] | key | [value] |
//! ```
//!
//! `shape` says how wide the lengths are and whether value and expiry are there, and has room for marks. Numbers are
//! little-endian. Ten bytes of key and ten of value are a block of 23.
//!
//! Guarantees: a `Field` owns its block, whose bytes are all initialized; every slice it hands out lies within it.

use super::DictItem;
use crate::object::size_class;
use crate::pointer::TaggedPtr;

/// Two bits: lengths of 1, 2 or 4 bytes are 0, 1, 2.
const WIDTH: u8 = 3;
const VALUE: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
/// Three bits for whoever keeps the field.
const MARKS_SHIFT: u8 = 4;
const MARKS: u8 = 7 << MARKS_SHIFT;
const EXPIRY: usize = size_of::<i64>();

/// An owned block, and with its address the tag of its table.
pub struct Field(TaggedPtr);

// SAFETY: a Field owns its block and nothing else refers to it; the block is plain bytes.
unsafe impl Send for Field {}
// SAFETY: a shared Field only reads its block; all change goes through `&mut self`.
unsafe impl Sync for Field {}

/// Where the parts of a block are.
struct Parts {
    expiry: usize,
    key: usize,
    value: usize,
    end: usize,
}

impl Parts {
    fn new(shape: u8, key_len: usize, value_len: usize) -> Parts {
        let lengths = if shape & VALUE != 0 { 2 } else { 1 };
        let expiry = 1 + (lengths << (shape & WIDTH));
        let key = expiry + if shape & EXPIRES != 0 { EXPIRY } else { 0 };
        let value = key + key_len;
        Parts {
            expiry,
            key,
            value,
            end: value + value_len,
        }
    }
}

impl Field {
    /// A member of a set: no value, no expiry.
    pub fn member(key: &[u8]) -> Field {
        Field::build(key, None, None)
    }

    /// A field of a hash; `expiry` in unix milliseconds.
    pub fn new(key: &[u8], value: &[u8], expiry: Option<i64>) -> Field {
        Field::build(key, Some(value), expiry)
    }

    /// Key and value are at most 2^32 - 1 bytes long each.
    fn build(key: &[u8], value: Option<&[u8]>, expiry: Option<i64>) -> Field {
        let lengths = [key.len(), value.map_or(0, <[u8]>::len)];
        let longest = u32::try_from(lengths[0].max(lengths[1])).expect("key and value lengths fit 32 bits");
        let width = match longest {
            0..=0xff => 0,
            0x100..=0xffff => 1,
            _ => 2,
        };
        let flag = |flag: u8, on: bool| if on { flag } else { 0 };
        let shape = width | flag(VALUE, value.is_some()) | flag(EXPIRES, expiry.is_some());
        let mut block = Vec::with_capacity(Parts::new(shape, lengths[0], lengths[1]).end);
        block.push(shape);
        for length in &lengths[..1 + usize::from(value.is_some())] {
            block.extend_from_slice(&length.to_le_bytes()[..1 << width]);
        }
        block.extend(expiry.iter().flat_map(|at| at.to_le_bytes()));
        block.extend_from_slice(key);
        block.extend_from_slice(value.unwrap_or_default());
        Field(TaggedPtr::from_box(block.into_boxed_slice()))
    }

    #[inline]
    fn base(&self) -> *mut u8 {
        self.0.block()
    }

    #[inline]
    fn shape(&self) -> u8 {
        // SAFETY: the block is owned and at least one byte long.
        unsafe { *self.base() }
    }

    /// The `index`th length.
    #[inline]
    fn length(&self, index: usize) -> usize {
        let width = self.shape() & WIDTH;
        // SAFETY: the shape says how wide the lengths are and that so many of them are there, behind itself; callers
        // ask for the second only if there is a value. They need not be aligned, so they are read as such.
        unsafe {
            let at = self.base().add(1 + (index << width));
            match width {
                0 => usize::from(*at),
                1 => usize::from(u16::from_le(at.cast::<u16>().read_unaligned())),
                _ => u32::from_le(at.cast::<u32>().read_unaligned()) as usize,
            }
        }
    }

    fn value_len(&self) -> usize {
        if self.shape() & VALUE != 0 {
            self.length(1)
        } else {
            0
        }
    }

    #[inline]
    fn parts(&self) -> Parts {
        Parts::new(self.shape(), self.length(0), self.value_len())
    }

    /// Callers pass positions that `parts` gave.
    #[inline]
    fn slice(&self, from: usize, to: usize) -> &[u8] {
        // SAFETY: the parts were computed from the shape and lengths that the block was built with, so they lie
        // within it, and all its bytes are initialized.
        unsafe { std::slice::from_raw_parts(self.base().add(from), to - from) }
    }

    fn slice_mut(&mut self, from: usize, to: usize) -> &mut [u8] {
        // SAFETY: as `slice`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base().add(from), to - from) }
    }

    /// Empty for a member of a set.
    pub fn value(&self) -> &[u8] {
        let parts = self.parts();
        self.slice(parts.value, parts.end)
    }

    /// Unix milliseconds.
    pub fn expiry(&self) -> Option<i64> {
        if self.shape() & EXPIRES == 0 {
            return None;
        }
        let at = self.parts().expiry;
        let mut bytes = [0; EXPIRY];
        bytes.copy_from_slice(self.slice(at, at + EXPIRY));
        Some(i64::from_le_bytes(bytes))
    }

    /// Replaces the value and keeps key and expiry; in place if the length stays.
    pub fn set_value(&mut self, value: &[u8]) {
        let parts = self.parts();
        if self.shape() & VALUE != 0 && parts.end - parts.value == value.len() {
            self.slice_mut(parts.value, parts.end).copy_from_slice(value);
        } else {
            *self = self.rebuilt(Some(value), self.expiry());
        }
    }

    pub fn set_expiry(&mut self, expiry: Option<i64>) {
        match expiry {
            Some(at) if self.shape() & EXPIRES != 0 => {
                let from = self.parts().expiry;
                self.slice_mut(from, from + EXPIRY)
                    .copy_from_slice(&at.to_le_bytes());
            }
            _ if expiry == self.expiry() => {}
            _ => {
                let has_value = self.shape() & VALUE != 0;
                *self = self.rebuilt(has_value.then(|| self.value()), expiry);
            }
        }
    }

    /// What was marked last; a field that is made anew, also by another value, has no marks.
    #[inline]
    pub fn marks(&self) -> u8 {
        (self.shape() & MARKS) >> MARKS_SHIFT
    }

    /// Three bits that mean nothing to the field.
    pub fn set_marks(&mut self, marks: u8) {
        let shape = self.shape() & !MARKS | marks << MARKS_SHIFT & MARKS;
        self.slice_mut(0, 1)[0] = shape;
    }

    fn rebuilt(&self, value: Option<&[u8]>, expiry: Option<i64>) -> Field {
        let mut fresh = Field::build(self.key(), value, expiry);
        fresh.set_tag(self.tag());
        fresh
    }
}

impl DictItem for Field {
    #[inline]
    fn key(&self) -> &[u8] {
        let parts = self.parts();
        self.slice(parts.key, parts.value)
    }

    #[inline]
    fn address(&self) -> *const u8 {
        self.base()
    }

    #[inline]
    fn tag(&self) -> u16 {
        self.0.tag()
    }

    fn set_tag(&mut self, tag: u16) {
        self.0.set_tag(tag);
    }

    fn heap_bytes(&self) -> usize {
        size_class(self.parts().end)
    }
}

impl Clone for Field {
    fn clone(&self) -> Field {
        let mut copy = Field(TaggedPtr::from_box(self.slice(0, self.parts().end).into()));
        copy.set_tag(self.tag());
        copy
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        let len = self.parts().end;
        // SAFETY: the block came from a boxed slice of this length, and nothing refers to it any more.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.base(), len)) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_parts_through_every_change() {
        for len in [0usize, 1, 10, 255, 256, 65_535, 65_536] {
            let (key, value) = (vec![b'k'; len], vec![b'v'; len / 2]);
            let mut field = Field::new(&key, &value, None);
            field.set_tag(0xabcd);
            field.set_expiry(Some(-7));
            assert_eq!(
                (field.key(), field.value(), field.expiry()),
                (&key[..], &value[..], Some(-7))
            );
            field.set_expiry(Some(8));
            field.set_value(&key);
            assert_eq!(
                (field.key(), field.value(), field.expiry()),
                (&key[..], &key[..], Some(8))
            );
            field.set_value(&value);
            field.set_expiry(None);
            field.set_marks(5);
            assert_eq!(
                (field.key(), field.value(), field.expiry(), field.marks()),
                (&key[..], &value[..], None, 5)
            );
            assert_eq!(field.tag(), 0xabcd);
        }
    }

    #[test]
    fn a_member_costs_two_bytes_more_than_its_key() {
        let member = Field::member(&[b'm'; 30]);
        assert_eq!(
            (member.heap_bytes(), member.value(), member.expiry()),
            (32, &b""[..], None)
        );
        assert_eq!(Field::new(&[b'k'; 10], &[b'v'; 10], None).heap_bytes(), 32);
        assert_eq!(size_of::<Option<Field>>(), 8);
    }
}
