//! The rows of a store: their keys, their values, their version.
//!
//! ```text
//! key:    0x01                                           the mark and counts (one row)
//!         0x10 | database:u8 | key                       an object
//!         0x18 | database | key' | 0x00 0x00 | version:u64 BE | place
//!                                                        an element of a paged collection
//!         0x20 | expiry, unix ms:u64 BE | database | key expiry index, empty value: one for every object that expires
//!
//! object value:  version:u8 | flags:u8 | offset:u64 LE | [expiry, unix ms:i64 LE] | object
//! object:        as the codec has it, or packed:  its first byte | length of the rest:u32 LE | the rest, packed
//! ```
//!
//! Objects are ordered by database and key, so an interval of keys is a contiguous run of rows. `offset` is the
//! journal offset behind the last effect that the row holds: replay skips effects on this key at or below it.
//! `flags` bit 0: the expiry is there; bits 1 and 2: the object is packed, 1 with LZ4, 2 with Zstandard. A row that is
//! packed is of version 2, any other of version 1. The first byte of an object, its type, is never packed.
//!
//! A row of version 3 has `flags` bit 3 and is of a paged collection: in place of the object there is `type |
//! version:u64 LE | origin:u64 LE | elements:u64 LE | [facts]`. Its elements have rows of their own, in the order of
//! their places (`object::pages`):
//!
//! ```text
//! hash    place:  hash:u64 BE | field      value:  that of the field       origin:  the seed of the hashes
//! set             hash:u64 BE | member             nothing                          the same
//! list            position:i64 BE, its sign turned the element                      the first position
//! stream          the node's id, 16 bytes BE       the node, a listpack             0; facts: all but the nodes
//! sorted set      0x00 | hash:u64 BE | member      score:f64 LE                     the seed of the hashes
//!                 0x01 | score, as a number in its order:u64 BE | member
//!                                                  score:f64 LE: 0 and -0 have one place
//! ```
//!
//! In `key'` a byte 0x00 is followed by 0x01, so that these rows are ordered by database and key, too.

use super::packing::{Packer, unpack};
use crate::config::Compression;
use crate::object::codec::{self, CodecError};
use crate::object::pages::{Kind, Summary};
use std::borrow::Cow;
use std::fmt;

pub const VERSION: u8 = 1;
const VERSION_PACKED: u8 = 2;
const VERSION_PAGED: u8 = 3;
pub const META_KEY: &[u8] = &[0x01];
const OBJECT: u8 = 0x10;
const ELEMENT: u8 = 0x18;
const EXPIRY: u8 = 0x20;
const HAS_EXPIRY: u8 = 1;
const PACKED_SHIFT: u8 = 1;
const PACKED_MASK: u8 = 3;
const PAGED: u8 = 1 << 3;
/// The types of paged collections: those that RDB files have for large ones, where elements follow one by one.
const PAGED_HASH: u8 = 4;
const PAGED_SET: u8 = 2;
const PAGED_LIST: u8 = 1;
const PAGED_STREAM: u8 = 21;
const PAGED_SORTED_SET: u8 = 5;

/// Why a row's bytes cannot be used.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum RowError {
    Short,
    Version(u8),
    /// Its object cannot be unpacked.
    Packed,
    /// It is of a paged collection, and is not what it should be, or is read as if it held the elements.
    Paged,
    Object(CodecError),
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::Short => write!(f, "the row is cut short"),
            RowError::Version(version) => {
                write!(
                    f,
                    "row format {version} is newer than this server's {VERSION_PAGED}"
                )
            }
            RowError::Packed => write!(f, "the packed value of the row is damaged"),
            RowError::Paged => write!(f, "the row of a paged collection is damaged"),
            RowError::Object(error) => write!(f, "{error}"),
        }
    }
}

/// An object row's value, read in place.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Row<'a> {
    pub offset: u64,
    pub expiry: Option<i64>,
    packing: Compression,
    paged: bool,
    /// As it stands in the row.
    object: &'a [u8],
}

impl<'a> Row<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Row<'a>, RowError> {
        let (head, rest) = bytes.split_at_checked(10).ok_or(RowError::Short)?;
        let packing = match (head[0], head[1] >> PACKED_SHIFT & PACKED_MASK) {
            (VERSION, 0) => Compression::None,
            (VERSION_PACKED, 1) => Compression::Lz4,
            (VERSION_PACKED, 2) => Compression::Zstd,
            (VERSION_PAGED, 0) => Compression::None,
            (version, _) if version > VERSION_PAGED || version == 0 => {
                return Err(RowError::Version(version));
            }
            _ => return Err(RowError::Packed),
        };
        let offset = u64::from_le_bytes(head[2..].try_into().map_err(|_| RowError::Short)?);
        let (expiry, object) = if head[1] & HAS_EXPIRY == 0 {
            (None, rest)
        } else {
            let (expiry, object) = rest.split_first_chunk().ok_or(RowError::Short)?;
            (Some(i64::from_le_bytes(*expiry)), object)
        };
        Ok(Row {
            offset,
            expiry,
            packing,
            paged: head[0] == VERSION_PAGED,
            object,
        })
    }

    /// A row of an object that stands elsewhere.
    pub fn of_object(expiry: Option<i64>, object: &'a [u8]) -> Row<'a> {
        Row {
            offset: 0,
            expiry,
            packing: Compression::None,
            paged: false,
            object,
        }
    }

    /// What the row says of a paged collection; none if it holds its object.
    pub fn summary(&self) -> Result<Option<Summary>, RowError> {
        if !self.paged {
            return Ok(None);
        }
        let (&kind, numbers) = self.object.split_first().ok_or(RowError::Paged)?;
        let kind = match kind {
            PAGED_HASH => Kind::Hash,
            PAGED_SET => Kind::Set,
            PAGED_LIST => Kind::List,
            PAGED_STREAM => Kind::Stream,
            PAGED_SORTED_SET => Kind::SortedSet,
            _ => return Err(RowError::Paged),
        };
        let (numbers, facts) = numbers.split_first_chunk::<24>().ok_or(RowError::Paged)?;
        if kind != Kind::Stream && !facts.is_empty() {
            return Err(RowError::Paged);
        }
        let (numbers, _) = numbers.as_chunks::<8>();
        let [version, origin, len] = [0, 1, 2].map(|at| u64::from_le_bytes(numbers[at]));
        Ok(Some(Summary {
            kind,
            version,
            origin,
            len,
            facts: facts.to_vec(),
        }))
    }

    /// The object's serialization.
    pub fn object(&self) -> Result<Cow<'a, [u8]>, RowError> {
        if self.paged {
            return Err(RowError::Paged);
        }
        if self.packing == Compression::None {
            return Ok(Cow::Borrowed(self.object));
        }
        let (kind, rest) = self.object.split_first().ok_or(RowError::Short)?;
        let (len, packed) = rest.split_first_chunk().ok_or(RowError::Short)?;
        let mut object = vec![*kind];
        unpack(
            self.packing,
            packed,
            u32::from_le_bytes(*len) as usize,
            &mut object,
        )?;
        Ok(Cow::Owned(object))
    }

    /// The name of the object's type, as `TYPE` gives it.
    pub fn type_name(&self) -> Result<&'static str, RowError> {
        codec::type_name(&self.object[..self.object.len().min(1)]).map_err(RowError::Object)
    }
}

/// Appends a row's value; `object` appends the object's serialization.
pub fn encode_row(out: &mut Vec<u8>, offset: u64, expiry: Option<i64>, object: impl FnOnce(&mut Vec<u8>)) {
    out.push(VERSION);
    out.push(if expiry.is_some() { HAS_EXPIRY } else { 0 });
    out.extend_from_slice(&offset.to_le_bytes());
    if let Some(at) = expiry {
        out.extend_from_slice(&at.to_le_bytes());
    }
    object(out);
}

/// Appends the value of a paged collection's row.
pub fn encode_paged_row(out: &mut Vec<u8>, offset: u64, expiry: Option<i64>, summary: &Summary) {
    let start = out.len();
    encode_row(out, offset, expiry, |out| {
        out.push(match summary.kind {
            Kind::Hash => PAGED_HASH,
            Kind::Set => PAGED_SET,
            Kind::List => PAGED_LIST,
            Kind::Stream => PAGED_STREAM,
            Kind::SortedSet => PAGED_SORTED_SET,
        });
        for number in [summary.version, summary.origin, summary.len] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&summary.facts);
    });
    out[start] = VERSION_PAGED;
    out[start + 1] |= PAGED;
}

/// Appends a row's value with its object packed; `row` is as `encode_row` made it. Where packing is not worth it, the
/// row itself.
pub fn pack_row(out: &mut Vec<u8>, row: &[u8], how: Compression, packer: &mut Packer) {
    let head_len = match row.get(1) {
        Some(flags) if flags & HAS_EXPIRY != 0 => 18,
        _ => 10,
    };
    let parts = row
        .split_at_checked(head_len)
        .and_then(|(head, object)| Some((head, object.split_first()?)));
    let Some((head, (kind, rest))) = parts else {
        out.extend_from_slice(row);
        return;
    };
    let Some(packed) = packer.pack(how, rest) else {
        out.extend_from_slice(row);
        return;
    };
    let code = match how {
        Compression::None => 0,
        Compression::Lz4 => 1,
        Compression::Zstd => 2,
    };
    out.extend_from_slice(&[VERSION_PACKED, head[1] | code << PACKED_SHIFT]);
    out.extend_from_slice(&head[2..]);
    out.push(*kind);
    // The packer takes nothing whose length does not fit.
    out.extend_from_slice(&(rest.len() as u32).to_le_bytes());
    out.extend_from_slice(packed);
}

/// Appends the value of a string's row.
pub fn encode_string_row(out: &mut Vec<u8>, offset: u64, expiry: Option<i64>, value: &[u8]) {
    encode_row(out, offset, expiry, |out| codec::encode_string(out, value));
}

/// Appends an object's key.
pub fn push_object_key(out: &mut Vec<u8>, db: u8, key: &[u8]) {
    out.push(OBJECT);
    out.push(db);
    out.extend_from_slice(key);
}

pub fn object_key(db: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 2);
    push_object_key(&mut out, db, key);
    out
}

/// Database and key of an object row; none for rows of other kinds.
pub fn split_object_key(row_key: &[u8]) -> Option<(u8, &[u8])> {
    match row_key {
        [OBJECT, db, key @ ..] => Some((*db, key)),
        _ => None,
    }
}

/// The row keys at which a database begins and the next one does.
pub fn db_bounds(db: u8) -> (Vec<u8>, Vec<u8>) {
    (
        vec![OBJECT, db],
        if db == u8::MAX {
            vec![OBJECT + 1]
        } else {
            vec![OBJECT, db + 1]
        },
    )
}

/// The row keys of the objects of a database with keys in [start, end); without an end, of all that follow.
pub fn interval(db: u8, start: &[u8], end: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let to = end.map_or_else(|| db_bounds(db).1, |end| object_key(db, end));
    (object_key(db, start), to)
}

/// Appends what the rows of all elements begin with whose collections have this key, or one that begins with it.
fn push_element_start(out: &mut Vec<u8>, db: u8, key: &[u8]) {
    out.push(ELEMENT);
    out.push(db);
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(1);
        }
    }
}

/// What the row keys of a collection's elements begin with.
pub fn collection_key(db: u8, key: &[u8], version: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 12);
    push_element_start(&mut out, db, key);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&version.to_be_bytes());
    out
}

/// The row keys between which a collection's elements are.
pub fn collection_bounds(db: u8, key: &[u8], version: u64) -> (Vec<u8>, Vec<u8>) {
    (
        collection_key(db, key, version),
        collection_key(db, key, version.saturating_add(1)),
    )
}

/// Appends an element's row key; `collection` is what `collection_key` returns.
pub fn push_element_key(out: &mut Vec<u8>, collection: &[u8], place: &[u8]) {
    out.extend_from_slice(collection);
    out.extend_from_slice(place);
}

/// The row keys between which those with places from one up to another are; without an end, all that follow.
pub fn place_bounds(
    (collection, end): &(Vec<u8>, Vec<u8>),
    from: &[u8],
    to: Option<&[u8]>,
) -> (Vec<u8>, Vec<u8>) {
    let row_key = |place: &[u8]| [collection, place].concat();
    (row_key(from), to.map_or_else(|| end.clone(), row_key))
}

/// The place of a row of this collection.
pub fn place_of<'a>(row_key: &'a [u8], collection: &[u8]) -> Option<&'a [u8]> {
    row_key.strip_prefix(collection)
}

/// The row keys between which the elements of a database are.
pub fn element_db_bounds(db: u8) -> (Vec<u8>, Vec<u8>) {
    let to = if db == u8::MAX {
        vec![ELEMENT + 1]
    } else {
        vec![ELEMENT, db + 1]
    };
    (vec![ELEMENT, db], to)
}

/// As `interval`, for the elements of paged collections.
pub fn element_interval(db: u8, start: &[u8], end: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let row_key = |key: &[u8]| {
        let mut out = Vec::with_capacity(key.len() + 2);
        push_element_start(&mut out, db, key);
        out
    };
    let to = end.map_or_else(|| element_db_bounds(db).1, row_key);
    (row_key(start), to)
}

pub fn push_expiry_key(out: &mut Vec<u8>, at_ms: i64, db: u8, key: &[u8]) {
    out.push(EXPIRY);
    out.extend_from_slice(&(at_ms.max(0) as u64).to_be_bytes());
    out.push(db);
    out.extend_from_slice(key);
}

/// Expiry, database and key of an expiry index row.
pub fn split_expiry_key(row_key: &[u8]) -> Option<(i64, u8, &[u8])> {
    let [EXPIRY, rest @ ..] = row_key else { return None };
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (db, key) = rest.split_first()?;
    Some((u64::from_be_bytes(*at) as i64, *db, key))
}

/// The row key at which the expiries from `at_ms` on begin in the index.
pub fn expiry_start(at_ms: i64) -> Vec<u8> {
    let mut start = vec![EXPIRY];
    start.extend_from_slice(&(at_ms.max(0) as u64).to_be_bytes());
    start
}

/// The row keys of the expiry index from its beginning to just behind `at_ms`.
pub fn expiry_bounds(at_ms: i64) -> (Vec<u8>, Vec<u8>) {
    let mut end = vec![EXPIRY];
    end.extend_from_slice(&(at_ms.max(0) as u64 + 1).to_be_bytes());
    (vec![EXPIRY], end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_written_by_format_1_reads_back() {
        let written = b"\x01\x01\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x00\x05value";
        let row = Row::decode(written).expect("sound row");
        assert_eq!((row.offset, row.expiry), (7, Some(9)));
        assert_eq!(row.object().as_deref(), Ok(&b"\x00\x05value"[..]));
        let mut bytes = Vec::new();
        encode_string_row(&mut bytes, 7, Some(9), b"value");
        assert_eq!(bytes, written);
        assert_eq!(Row::decode(b"\x04\0\0\0\0\0\0\0\0\0"), Err(RowError::Version(4)));
    }

    #[test]
    fn a_paged_row_written_by_format_3_reads_back() {
        let written =
            b"\x03\x09\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x04\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0";
        let row = Row::decode(written).expect("sound row");
        assert_eq!(
            (row.offset, row.expiry, row.type_name()),
            (7, Some(9), Ok("hash"))
        );
        assert_eq!(row.object(), Err(RowError::Paged));
        let summary = row.summary().expect("sound").expect("paged");
        let expected = Summary {
            kind: Kind::Hash,
            version: 5,
            origin: 6,
            len: 8,
            facts: Vec::new(),
        };
        assert_eq!(summary, expected);
        let mut bytes = Vec::new();
        encode_paged_row(&mut bytes, 7, Some(9), &summary);
        assert_eq!(bytes, written);
        let cut = Row::decode(&written[..written.len() - 1]).expect("a sound head");
        assert_eq!(cut.summary(), Err(RowError::Paged));
    }

    #[test]
    fn a_paged_row_says_of_which_type_it_is() {
        for (kind, name) in [
            (Kind::Hash, "hash"),
            (Kind::Set, "set"),
            (Kind::List, "list"),
            (Kind::Stream, "stream"),
            (Kind::SortedSet, "zset"),
        ] {
            let summary = Summary {
                kind,
                version: 5,
                origin: 6,
                len: 8,
                facts: Vec::new(),
            };
            let mut bytes = Vec::new();
            encode_paged_row(&mut bytes, 7, None, &summary);
            let row = Row::decode(&bytes).expect("a sound row");
            assert_eq!(row.type_name(), Ok(name));
            assert_eq!(row.summary(), Ok(Some(summary)));
        }
    }

    #[test]
    fn elements_are_ordered_as_their_keys_are() {
        let keys: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"\0a", b"a", b"a\0", b"aa"];
        for (at, key) in keys.iter().enumerate() {
            let (from, to) = collection_bounds(1, key, 3);
            let mut element = Vec::new();
            push_element_key(&mut element, &from, b"\xff\xff");
            assert!(from < element && element < to && to < element_db_bounds(1).1);
            assert_eq!(place_of(&element, &from), Some(&b"\xff\xff"[..]));
            for (end, other) in keys.iter().enumerate() {
                let (start, _) = element_interval(1, other, None);
                assert_eq!(start <= element, end <= at, "{key:?} {other:?}");
            }
        }
    }

    #[test]
    fn packed_rows_written_by_format_2_read_back() {
        let object = [&b"\x00\x40\x50"[..], &[b'a'; 80]].concat();
        let lz4 =
            b"\x02\x03\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x00\x52\0\0\0\x3f\x40\x50\x61\x01\0\x37\x50aaaaa";
        let row = Row::decode(lz4).expect("sound row");
        assert_eq!(
            (row.offset, row.expiry, row.type_name()),
            (7, Some(9), Ok("string"))
        );
        assert_eq!(row.object().as_deref(), Ok(&object[..]));
        for how in [Compression::Lz4, Compression::Zstd] {
            for expiry in [None, Some(9)] {
                let (mut row, mut packed) = (Vec::new(), Vec::new());
                encode_row(&mut row, 7, expiry, |out| out.extend_from_slice(&object));
                pack_row(&mut packed, &row, how, &mut Packer::default());
                assert!(packed.len() < row.len());
                let read = Row::decode(&packed).expect("sound row");
                assert_eq!((read.offset, read.expiry), (7, expiry));
                assert_eq!(read.object().as_deref(), Ok(&object[..]));
                let cut = Row::decode(&packed[..packed.len() - 1]).expect("a sound head");
                assert_eq!(cut.object(), Err(RowError::Packed));
            }
        }
    }

    #[test]
    fn keys_split_into_what_they_were_made_of_and_sort_by_time() {
        assert_eq!(split_object_key(&object_key(3, b"k")), Some((3, &b"k"[..])));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        push_expiry_key(&mut a, 255, 9, b"z");
        push_expiry_key(&mut b, 256, 0, b"a");
        assert!(a < b && a < expiry_bounds(255).1 && b >= expiry_bounds(255).1);
        assert_eq!(split_expiry_key(&b), Some((256, 0, &b"a"[..])));
    }
}
