//! The rows of a store: their keys, their values, their version.
//!
//! ```text
//! key:    0x01                                           the mark and counts (one row)
//!         0x10 | database:u8 | key                       an object
//!         0x20 | expiry, unix ms:u64 BE | database | key expiry index, empty value: one for every object that expires
//!
//! object value:  version:u8 | flags:u8 | offset:u64 LE | [expiry, unix ms:i64 LE] | object (codec)
//! ```
//!
//! Objects are ordered by database and key, so an interval of keys is a contiguous run of rows. `offset` is the
//! journal offset behind the last effect that the row holds: replay skips effects on this key at or below it.
//! `flags` bit 0: the expiry is there.

use crate::object::codec::{self, CodecError};
use std::fmt;

pub const VERSION: u8 = 1;
pub const META_KEY: &[u8] = &[0x01];
const OBJECT: u8 = 0x10;
const EXPIRY: u8 = 0x20;
const HAS_EXPIRY: u8 = 1;

/// Why a row's bytes cannot be used.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum RowError {
    Short,
    Version(u8),
    Object(CodecError),
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::Short => write!(f, "the row is cut short"),
            RowError::Version(version) => {
                write!(f, "row format {version} is newer than this server's {VERSION}")
            }
            RowError::Object(error) => write!(f, "{error}"),
        }
    }
}

/// An object row's value, read in place.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Row<'a> {
    pub offset: u64,
    pub expiry: Option<i64>,
    pub object: &'a [u8],
}

impl<'a> Row<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Row<'a>, RowError> {
        let (head, rest) = bytes.split_at_checked(10).ok_or(RowError::Short)?;
        if head[0] != VERSION {
            return Err(RowError::Version(head[0]));
        }
        let offset = u64::from_le_bytes(head[2..].try_into().map_err(|_| RowError::Short)?);
        if head[1] & HAS_EXPIRY == 0 {
            return Ok(Row {
                offset,
                expiry: None,
                object: rest,
            });
        }
        let (expiry, object) = rest.split_first_chunk().ok_or(RowError::Short)?;
        Ok(Row {
            offset,
            expiry: Some(i64::from_le_bytes(*expiry)),
            object,
        })
    }

    /// The value of a string row.
    pub fn string(&self) -> Result<&'a [u8], RowError> {
        codec::decode_string(self.object).map_err(RowError::Object)
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
        assert_eq!(
            (row.offset, row.expiry, row.string()),
            (7, Some(9), Ok(&b"value"[..]))
        );
        let mut bytes = Vec::new();
        encode_string_row(&mut bytes, 7, Some(9), b"value");
        assert_eq!(bytes, written);
        assert_eq!(Row::decode(b"\x02\0\0\0\0\0\0\0\0\0"), Err(RowError::Version(2)));
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
