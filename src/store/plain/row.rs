//! Rows of the plain store: where they stand, how they are written, how they are read.
//!
//! ```text
//! row key:    bucket: 20 bits | database: 4 bits | key
//! row value:  head:u8 | [CRC32C of row key, head and rest:u32 LE] | [expiry, unix ms:i64 LE] | string, or object (codec)
//!
//! head:       bits 0-2: there is an expiry, a checksum, an object (no string)
//!             bits 3-5: how the string came about     bits 6-7: the format, 1
//! ```

use crate::store::StoreError;
use rocksdb::WriteBatch;

/// Bytes of a row key before the key.
pub(super) const PREFIX: usize = 3;
pub const BUCKET_BITS: u32 = 20;
/// Bits of the part of a hash that tells the rows of a shard apart.
pub const FRAGMENT_BITS: u32 = 18;
const DB_BITS: u32 = 4;
/// Databases that a row can name.
pub const DBS: usize = 16;

const EXPIRES: u8 = 1;
const CHECKED: u8 = 2;
const OBJECT: u8 = 4;
const ORIGIN_SHIFT: u32 = 3;
const ORIGIN: u8 = 7;
const FORMAT_SHIFT: u32 = 6;
const FORMAT: u8 = 1;

/// A sealed row, read in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlainRow<'a> {
    pub expiry: Option<i64>,
    /// Three bits that say how a string came about.
    pub origin: u8,
    /// The payload is an object's serialization; else the bytes of a string.
    pub is_object: bool,
    pub payload: &'a [u8],
}

impl<'a> PlainRow<'a> {
    pub(super) fn decode(key: &[u8], value: &'a [u8]) -> Result<PlainRow<'a>, StoreError> {
        let bad = || StoreError::new("a row of the plain store is damaged");
        let (head, mut rest) = value.split_first().ok_or_else(bad)?;
        if head >> FORMAT_SHIFT != FORMAT {
            return Err(bad());
        }
        if head & CHECKED != 0 {
            let (sum, behind) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
            if u32::from_le_bytes(*sum) != checksum(key, *head, behind) {
                return Err(bad());
            }
            rest = behind;
        }
        let mut expiry = None;
        if head & EXPIRES != 0 {
            let (at, behind) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
            expiry = Some(i64::from_le_bytes(*at));
            rest = behind;
        }
        Ok(PlainRow {
            expiry,
            origin: head >> ORIGIN_SHIFT & ORIGIN,
            is_object: head & OBJECT != 0,
            payload: rest,
        })
    }
}

fn checksum(key: &[u8], head: u8, rest: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(key), &[head]);
    crc32c::crc32c_append(sum, rest)
}

/// Where the row of a key stands: the bucket of its hash and its database; and within the rows of its shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    pub(super) prefix: u32,
    pub(super) shard: u32,
    pub(super) fragment: u32,
}

impl Bucket {
    /// `bucket` has `BUCKET_BITS` bits, and follows from the shard and the fragment of `FRAGMENT_BITS`: in the same
    /// order.
    pub fn new(bucket: u32, db: u8, (shard, fragment): (u32, u32)) -> Bucket {
        debug_assert!(bucket < 1 << BUCKET_BITS && usize::from(db) < DBS && fragment < 1 << FRAGMENT_BITS);
        Bucket {
            prefix: bucket << DB_BITS | u32::from(db),
            shard,
            fragment,
        }
    }

    #[inline]
    pub(super) fn db(self) -> u8 {
        self.prefix as u8 & (DBS as u8 - 1)
    }

    pub(super) fn prefix(self) -> [u8; PREFIX] {
        let [_, prefix @ ..] = self.prefix.to_be_bytes();
        prefix
    }
}

/// Bucket, database and key of a row key.
pub(super) fn split_row_key(row_key: &[u8]) -> Result<(u32, u8, &[u8]), StoreError> {
    let bad = || StoreError::new("a row of the plain store has no key");
    let ([high, middle, low], key) = row_key.split_first_chunk::<PREFIX>().ok_or_else(bad)?;
    let prefix = u32::from_be_bytes([0, *high, *middle, *low]);
    Ok((prefix >> DB_BITS, prefix as u8 & (DBS as u8 - 1), key))
}

/// Rows to be written to a generation together.
pub struct PlainBatch {
    rows: WriteBatch,
    count: usize,
    bytes: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    checked: bool,
}

impl PlainBatch {
    pub(super) fn new(checked: bool) -> PlainBatch {
        PlainBatch {
            rows: WriteBatch::default(),
            count: 0,
            bytes: 0,
            key: Vec::new(),
            value: Vec::new(),
            checked,
        }
    }

    pub(super) fn into_rows(self) -> WriteBatch {
        self.rows
    }

    /// Adds the row of a key; `payload` appends a string, or an object's serialization. Returns the bytes of the row.
    pub fn put(
        &mut self,
        bucket: Bucket,
        key: &[u8],
        (expiry, origin, is_object): (Option<i64>, u8, bool),
        payload: impl FnOnce(&mut Vec<u8>),
    ) -> u32 {
        self.key.clear();
        self.key.extend_from_slice(&bucket.prefix());
        self.key.extend_from_slice(key);
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let head = FORMAT << FORMAT_SHIFT
            | (origin & ORIGIN) << ORIGIN_SHIFT
            | flag(expiry.is_some(), EXPIRES)
            | flag(self.checked, CHECKED)
            | flag(is_object, OBJECT);
        self.value.clear();
        self.value.push(head);
        if self.checked {
            self.value.extend_from_slice(&[0; 4]);
        }
        let start = self.value.len();
        if let Some(at) = expiry {
            self.value.extend_from_slice(&at.to_le_bytes());
        }
        payload(&mut self.value);
        if self.checked {
            let sum = checksum(&self.key, head, &self.value[start..]);
            self.value[1..start].copy_from_slice(&sum.to_le_bytes());
        }
        self.rows.put(&self.key, &self.value);
        self.count += 1;
        let bytes = row_bytes(self.key.len(), self.value.len());
        self.bytes += u64::from(bytes);
        bytes
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Bytes of a row in a table: lengths and type of its key are three to eight bytes more.
#[inline]
pub(super) fn row_bytes(key: usize, value: usize) -> u32 {
    (key + value + 4) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_format_1_reads_back_and_a_damaged_one_does_not() {
        let row = b"\x4b\x7f\x93\x59\xd9\x05\0\0\0\0\0\0\0v";
        let key = b"\0\0\x10k";
        let mut sound = row.to_vec();
        let sum = checksum(key, row[0], &row[5..]);
        sound[1..5].copy_from_slice(&sum.to_le_bytes());
        let read = PlainRow::decode(key, &sound).expect("sound");
        assert_eq!(
            (read.expiry, read.origin, read.is_object, read.payload),
            (Some(5), 1, false, &b"v"[..])
        );
        for at in 1..sound.len() {
            let mut bad = sound.clone();
            bad[at] ^= 1;
            assert!(PlainRow::decode(key, &bad).is_err(), "{at}");
        }
        assert!(PlainRow::decode(b"\0\0\x10j", &sound).is_err());
    }
}
