//! One element of a packed list: its forms, as drawn at the head of `listpack`.

use crate::resp::number::parse_i64;

/// An element. Every element of a list has one form, so that within lists equal means equal; against bytes from
/// outside compare with `eq_bytes`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Item<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl<'a> Item<'a> {
    /// The form in which a list holds these bytes.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Item<'a> {
        match parse_i64(bytes) {
            Some(value) => Item::Int(value),
            None => Item::Bytes(bytes),
        }
    }
}

impl Item<'_> {
    /// Appends its text.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Item::Int(value) => out.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes()),
            Item::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.write(&mut out);
        out
    }

    /// Hands its text to `with`, without an allocation.
    pub fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Item::Int(value) => with(itoa::Buffer::new().format(*value).as_bytes()),
            Item::Bytes(bytes) => with(bytes),
        }
    }

    pub fn eq_bytes(&self, other: &[u8]) -> bool {
        match self {
            Item::Int(value) => parse_i64(other) == Some(*value),
            Item::Bytes(bytes) => *bytes == other,
        }
    }

    /// Length of its text.
    pub fn len(&self) -> usize {
        match self {
            Item::Int(value) => {
                let digits = value
                    .unsigned_abs()
                    .checked_ilog10()
                    .map_or(1, |log| log as usize + 1);
                digits + usize::from(*value < 0)
            }
            Item::Bytes(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes that an item takes in a list.
#[inline]
pub(super) fn item_len(item: Item<'_>) -> usize {
    match item {
        Item::Int(0..=127) => 2,
        Item::Bytes(bytes) if bytes.len() < 64 => bytes.len() + 2,
        item => Encoded::from(item).len(),
    }
}

/// Writes an item to the start of `to`; returns how many bytes it takes.
#[inline]
pub(super) fn write_item(item: Item<'_>, to: &mut [u8]) -> usize {
    match item {
        Item::Int(value @ 0..=127) => {
            to[..2].copy_from_slice(&[value as u8, 1]);
            2
        }
        Item::Bytes(bytes) if bytes.len() < 64 => {
            let len = bytes.len();
            to[0] = 0x80 | len as u8;
            to[1..=len].copy_from_slice(bytes);
            to[len + 1] = len as u8 + 1;
            len + 2
        }
        item => {
            let item = Encoded::from(item);
            item.write(&mut to[..item.len()]);
            item.len()
        }
    }
}

/// An element as it will be written: head (encoding, and all of an integer), body (a string's bytes), length backwards.
pub(in crate::object) struct Encoded<'a> {
    head: [u8; 9],
    head_len: u8,
    back_len: u8,
    back: [u8; 5],
    body: &'a [u8],
}

impl<'a> From<Item<'a>> for Encoded<'a> {
    /// Of an item in the form of a list.
    #[inline]
    fn from(item: Item<'a>) -> Encoded<'a> {
        match item {
            Item::Int(value) => Encoded::int(value),
            Item::Bytes(bytes) => Encoded::string(bytes),
        }
    }
}

impl<'a> Encoded<'a> {
    pub(in crate::object) fn of(bytes: &'a [u8]) -> Encoded<'a> {
        match parse_i64(bytes) {
            Some(value) => Encoded::int(value),
            None => Encoded::string(bytes),
        }
    }

    pub(in crate::object) fn int(value: i64) -> Encoded<'static> {
        let le = value.to_le_bytes();
        let mut head = [0; 9];
        let mut wide = |kind: u8, len: usize| {
            head[0] = kind;
            head[1..=len].copy_from_slice(&le[..len]);
            len as u8 + 1
        };
        let head_len = match value {
            0..=127 => wide(le[0], 0),
            -0x1000..=0xfff => {
                head[..2].copy_from_slice(&(0xc000 | (value as u16 & 0x1fff)).to_be_bytes());
                2
            }
            -0x8000..=0x7fff => wide(0xf1, 2),
            -0x80_0000..=0x7f_ffff => wide(0xf2, 3),
            -0x8000_0000..=0x7fff_ffff => wide(0xf3, 4),
            _ => wide(0xf4, 8),
        };
        Encoded::new(head, head_len, b"")
    }

    fn string(bytes: &'a [u8]) -> Encoded<'a> {
        let mut head = [0; 9];
        let head_len = match bytes.len() {
            len @ 0..=63 => {
                head[0] = 0x80 | len as u8;
                1
            }
            len @ 64..=4095 => {
                head[..2].copy_from_slice(&(0xe000 | len as u16).to_be_bytes());
                2
            }
            len => {
                head[0] = 0xf0;
                head[1..5].copy_from_slice(&(len as u32).to_le_bytes());
                5
            }
        };
        Encoded::new(head, head_len, bytes)
    }

    fn new(head: [u8; 9], head_len: u8, body: &'a [u8]) -> Encoded<'a> {
        let len = head_len as usize + body.len();
        let back_len = back_len(len);
        let mut back = [0; 5];
        for (i, byte) in back[..back_len].iter_mut().enumerate() {
            let more = if i == 0 { 0 } else { 0x80 };
            *byte = (len >> (7 * (back_len - 1 - i))) as u8 & 0x7f | more;
        }
        Encoded {
            head,
            head_len,
            back_len: back_len as u8,
            back,
            body,
        }
    }

    pub(in crate::object) fn head(&self) -> &[u8] {
        &self.head[..self.head_len as usize]
    }

    fn back(&self) -> &[u8] {
        &self.back[..self.back_len as usize]
    }

    pub(in crate::object) fn len(&self) -> usize {
        self.head_len as usize + self.body.len() + self.back_len as usize
    }

    /// `to` is `len` bytes long.
    pub(in crate::object) fn write(&self, to: &mut [u8]) {
        let (head, rest) = to.split_at_mut(self.head_len as usize);
        let (body, back) = rest.split_at_mut(self.body.len());
        head.copy_from_slice(self.head());
        body.copy_from_slice(self.body);
        back.copy_from_slice(self.back());
    }

    /// Whether the element at the start of `bytes` is this one.
    #[inline]
    pub(in crate::object) fn is_at(&self, bytes: &[u8]) -> bool {
        bytes[0] == self.head[0]
            && bytes
                .strip_prefix(self.head())
                .is_some_and(|rest| rest.starts_with(self.body))
    }
}

/// Bytes of the length that stands behind `len` bytes of encoding and data.
#[inline]
pub(in crate::object) fn back_len(len: usize) -> usize {
    // The borders one below the powers of two are the format's.
    match len {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

/// Bytes of encoding and data at the start of `bytes`; none where no element begins, or its length is cut off.
#[inline]
pub(in crate::object) fn data_len(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    Some(match first {
        0..=0x7f => 1,
        0x80..=0xbf => 1 + (first & 0x3f) as usize,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 2 + (((first & 0x0f) as usize) << 8 | *bytes.get(1)? as usize),
        0xf0 => 5 + u32::from_le_bytes(*bytes.get(1..)?.first_chunk()?) as usize,
        0xf1 => 3,
        0xf2 => 4,
        0xf3 => 5,
        0xf4 => 9,
        _ => return None,
    })
}

/// The item whose encoding and data are `bytes`.
#[inline]
pub(in crate::object) fn item(bytes: &[u8]) -> Item<'_> {
    let first = bytes[0];
    match first {
        0..=0x7f => Item::Int(first as i64),
        0x80..=0xbf => Item::Bytes(&bytes[1..]),
        0xc0..=0xdf => {
            let bits = u16::from_be_bytes([first, bytes[1]]);
            Item::Int(((bits << 3) as i16 >> 3) as i64)
        }
        0xe0..=0xef => Item::Bytes(&bytes[2..]),
        0xf0 => Item::Bytes(&bytes[5..]),
        _ => {
            let mut wide = [0; 8];
            let len = bytes.len() - 1;
            wide[8 - len..].copy_from_slice(&bytes[1..]);
            Item::Int(i64::from_le_bytes(wide) >> (64 - 8 * len))
        }
    }
}

/// The length that ends at the end of `bytes`; none if it is no sound one.
pub(in crate::object) fn backwards(bytes: &[u8]) -> Option<usize> {
    let mut len = 0;
    for (i, &byte) in bytes.iter().rev().take(5).enumerate() {
        len |= ((byte & 0x7f) as usize) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(len);
        }
    }
    None
}

/// Whether the length behind an element, which is the right one, has bytes that it does not need.
pub(in crate::object) fn back_is_longer(back: &[u8]) -> bool {
    // The first byte ends it, read backwards; another without its high bit would have ended it earlier.
    back[1..].iter().any(|byte| byte & 0x80 == 0) || back[0] & 0x80 != 0
}

/// Whether encoding and data are the ones that this file would have chosen.
pub(in crate::object) fn is_shortest(bytes: &[u8]) -> bool {
    match item(bytes) {
        Item::Int(value) => Encoded::int(value).head() == bytes,
        Item::Bytes(text) => {
            parse_i64(text).is_none() && Encoded::string(text).head_len as usize + text.len() == bytes.len()
        }
    }
}
