//! What has settled: rows in RocksDB. Nothing outside this folder names RocksDB.
//!
//! `rows` says what a row is, `packing` how its value is made smaller, `block` is the store behind durable ranges,
//! `flush` makes sorted files of rows and hands them over; `checkpoint` is the store's files at one moment; `plain` is
//! the store behind memory ranges.

pub mod block;
pub mod checkpoint;
pub mod flush;
pub mod packing;
pub mod plain;
pub mod rows;

use std::fmt;

/// A store that cannot be opened, read or written.
#[derive(Debug, Clone)]
pub struct StoreError(String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    pub fn new(why: impl fmt::Display) -> StoreError {
        StoreError(why.to_string())
    }
}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> StoreError {
        StoreError(error.into_string())
    }
}
