//! A sorted set of integers in one allocation: Redis's intset, byte for byte.
//!
//! ```text
//! width:u32 LE (2, 4 or 8) | members:u32 LE | member: width bytes LE, two's complement | …    ascending
//! ```
//!
//! Guarantees: members are distinct and ascending, all as wide as the widest has ever had to be; the block is grown
//! and cut exactly. Layout as published in the description of the RDB format.

use super::size_class;
use std::fmt;

const HEADER: usize = 8;

/// The bytes are not an intset; `at` is the offset of the first place that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged {
    pub at: usize,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the set of integers is damaged at its byte {}", self.at)
    }
}

/// A set of integers; see the file's head.
#[derive(Clone, PartialEq, Eq)]
pub struct Intset {
    bytes: Box<[u8]>,
}

const _: () = assert!(size_of::<Intset>() == 16);

impl Default for Intset {
    fn default() -> Self {
        Intset::new()
    }
}

impl fmt::Debug for Intset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

fn width_of(value: i64) -> usize {
    match value {
        -0x8000..=0x7fff => 2,
        -0x8000_0000..=0x7fff_ffff => 4,
        _ => 8,
    }
}

/// The member of `width` bytes at `at`.
#[inline]
fn read(bytes: &[u8], width: usize, at: usize) -> i64 {
    let mut wide = [0; 8];
    wide[8 - width..].copy_from_slice(&bytes[at..at + width]);
    i64::from_le_bytes(wide) >> (64 - 8 * width)
}

impl Intset {
    pub fn new() -> Intset {
        Intset {
            bytes: Box::new([2, 0, 0, 0, 0, 0, 0, 0]),
        }
    }

    /// Takes the bytes of an intset from outside; width, length and order are checked.
    pub fn from_bytes(bytes: Box<[u8]>) -> Result<Intset, Damaged> {
        let Some((header, members)) = bytes.split_at_checked(HEADER) else {
            return Err(Damaged { at: 0 });
        };
        let number = |at: usize| {
            header[at..at + 4]
                .iter()
                .rev()
                .fold(0, |n, &byte| n << 8 | byte as usize)
        };
        let (width, len) = (number(0), number(4));
        if !matches!(width, 2 | 4 | 8) {
            return Err(Damaged { at: 0 });
        }
        if width * len != members.len() {
            return Err(Damaged { at: 4 });
        }
        let starts = (HEADER..bytes.len()).step_by(width);
        for at in starts.skip(1) {
            if read(&bytes, width, at - width) >= read(&bytes, width, at) {
                return Err(Damaged { at });
            }
        }
        Ok(Intset { bytes })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the allocator has given for it.
    pub fn heap_bytes(&self) -> usize {
        size_class(self.bytes.len())
    }

    fn width(&self) -> usize {
        self.bytes[0] as usize
    }

    pub fn len(&self) -> usize {
        (self.bytes.len() - HEADER) / self.width()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    /// The member number `index`, from 0, in ascending order.
    pub fn get(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| self.member(index))
    }

    #[inline]
    fn member(&self, index: usize) -> i64 {
        let width = self.width();
        read(&self.bytes, width, HEADER + index * width)
    }

    /// Where `value` is, or where it would have to go.
    pub fn search(&self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.member(middle).cmp(&value) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub fn contains(&self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// True if the value is new.
    pub fn add(&mut self, value: i64) -> bool {
        let Err(index) = self.search(value) else {
            return false;
        };
        let width = self.width().max(width_of(value));
        let old_width = self.width();
        let len = self.len();
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        let new_bytes = HEADER + (len + 1) * width;
        bytes.reserve_exact(new_bytes - bytes.len());
        bytes.resize(new_bytes, 0);
        if width == old_width {
            let at = HEADER + index * width;
            bytes.copy_within(at..HEADER + len * width, at + width);
        } else {
            // From the last one down, as each goes further up than it stood.
            for from in (0..len).rev() {
                let member = read(&bytes, old_width, HEADER + from * old_width);
                let to = HEADER + (from + usize::from(from >= index)) * width;
                bytes[to..to + width].copy_from_slice(&member.to_le_bytes()[..width]);
            }
            bytes[0] = width as u8;
        }
        let at = HEADER + index * width;
        bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        self.settle(bytes, len + 1);
        true
    }

    /// True if the value was there.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(index) = self.search(value) else {
            return false;
        };
        let (width, len) = (self.width(), self.len());
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        let at = HEADER + index * width;
        bytes.copy_within(at + width.., at);
        bytes.truncate(HEADER + (len - 1) * width);
        self.settle(bytes, len - 1);
        true
    }

    fn settle(&mut self, mut bytes: Vec<u8>, len: usize) {
        bytes[4..HEADER].copy_from_slice(&(len as u32).to_le_bytes());
        self.bytes = bytes.into_boxed_slice();
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ {
        (0..self.len()).map(|index| self.member(index))
    }
}

#[cfg(test)]
mod tests;
