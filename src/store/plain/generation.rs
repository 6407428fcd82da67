//! A generation: rows that were written in one time and go together.
//!
//! ```text
//! open          rows come in; RocksDB has them, in a memtable and tables
//! closed        no more come in
//! taken over    on the heap: what counts of it stands in a table of our own (`table`), and its RocksDB is gone
//! ```
//!
//! Taking over reads all rows in order, which merges them too, so nothing is merged before. Until it is done rows are
//! read from RocksDB; it needs a second copy of the generation for that time, which is why generations are a small part
//! of all there is. In a folder RocksDB's tables stay: they are the files that a restart finds.

use super::row::{PREFIX, row_bytes, split_row_key};
use super::table::{Table, TableBuilder};
use super::{Bucket, DBS, FIXED, PlainBatch, PlainRow};
use crate::store::StoreError;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, ReadOptions, WriteOptions};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock};

/// What the rows of a generation have in common, so that they can go together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class {
    /// Name of the range.
    pub range: String,
    /// They expire.
    pub expires: bool,
}

/// The RocksDB of a generation.
pub struct Rocks {
    db: DB,
    /// Made once: a lookup takes little longer than this does.
    reads: ReadOptions,
}

impl Rocks {
    pub(super) fn new(db: DB) -> Rocks {
        Rocks {
            db,
            reads: ReadOptions::default(),
        }
    }
}

impl Drop for Rocks {
    fn drop(&mut self) {
        self.db.cancel_all_background_work(true);
    }
}

/// A part of the store that was filled for a while and goes as a whole.
pub struct Generation {
    pub id: u16,
    pub class: Class,
    /// Grows from one generation to the next: the lower, the colder.
    pub order: u64,
    /// None once `table` is there.
    rocks: ArcSwapOption<Rocks>,
    table: OnceLock<Table>,
    /// Held by who takes the rows over.
    taking: Mutex<()>,
    /// Bytes of the table while it is made.
    taken: AtomicU64,
    checked: bool,
    /// Its folder, when it is not on the heap.
    pub(super) path: Option<PathBuf>,
    /// Rows that count, and their bytes, by database.
    pub live: [AtomicI64; DBS],
    pub live_bytes: [AtomicI64; DBS],
    /// Bytes of all rows that were written, or taken over.
    pub written: AtomicU64,
    /// How often a row was written.
    rows: AtomicU64,
    /// Of the bytes, those that were there when it was settled last.
    settled: AtomicU64,
    /// No rows come in any more.
    pub closed: AtomicBool,
    /// Ranges changed: its keys need not belong to the range that it is named after.
    pub mixed: AtomicBool,
    /// What it takes of memory, as last measured.
    pub(super) memory: AtomicU64,
    /// The files go when nobody reads any more.
    pub(super) doomed: AtomicBool,
}

impl Generation {
    pub(super) fn new((id, order): (u16, u64), class: Class, db: DB, path: Option<PathBuf>) -> Generation {
        Generation {
            id,
            class,
            order,
            rocks: ArcSwapOption::from_pointee(Rocks::new(db)),
            table: OnceLock::new(),
            taking: Mutex::new(()),
            taken: AtomicU64::new(0),
            checked: path.is_some(),
            path,
            live: Default::default(),
            live_bytes: Default::default(),
            written: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            mixed: AtomicBool::new(false),
            memory: AtomicU64::new(0),
            doomed: AtomicBool::new(false),
        }
    }

    pub fn batch(&self) -> PlainBatch {
        PlainBatch::new(self.checked)
    }

    /// Writes rows; they can be read when this returns.
    pub fn write(&self, batch: PlainBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.written.fetch_add(batch.bytes(), Relaxed);
        self.rows.fetch_add(batch.len() as u64, Relaxed);
        match &*self.rocks.load() {
            Some(rocks) => Ok(rocks.db.write_opt(batch.into_rows(), &options)?),
            None => Err(StoreError::new("a generation that takes no more rows")),
        }
    }

    /// Where the rows are now.
    pub fn rows(&self) -> Result<Rows<'_>, StoreError> {
        if let Some(table) = self.table.get() {
            return Ok(Rows::Table(table));
        }
        if let Some(rocks) = self.rocks.load_full() {
            return Ok(Rows::Rocks(rocks));
        }
        // Taken over between the two looks: the table comes before RocksDB goes.
        let table = self.table.get().map(Rows::Table);
        table.ok_or_else(|| StoreError::new("a generation without rows"))
    }

    /// Hands the row of a key to `read`, with its bytes. None when there is no such row.
    pub fn get<R>(
        &self,
        bucket: Bucket,
        key: &[u8],
        read: impl FnOnce(PlainRow<'_>, u32) -> R,
    ) -> Result<Option<R>, StoreError> {
        let rocks = match self.rows()? {
            Rows::Table(table) => {
                let found = row_in(table, bucket, key)?;
                return Ok(found.map(|(row, bytes)| read(row, bytes)));
            }
            Rows::Rocks(rocks) => rocks,
        };
        let mut row_key = smallvec::SmallVec::<[u8; 64]>::from_slice(&bucket.prefix());
        row_key.extend_from_slice(key);
        match rocks.db.get_pinned_opt(&row_key, &rocks.reads)? {
            Some(value) => {
                let bytes = row_bytes(row_key.len(), value.len());
                Ok(Some(read(PlainRow::decode(&row_key, &value)?, bytes)))
            }
            None => Ok(None),
        }
    }

    /// The row of a key and its bytes, if that is a matter of some waits for memory.
    #[inline]
    pub fn peek(&self, bucket: Bucket, key: &[u8]) -> Result<Peek<'_>, StoreError> {
        let Some(table) = self.table.get() else {
            return Ok(Peek::Elsewhere);
        };
        Ok(match row_in(table, bucket, key)? {
            Some((row, bytes)) => Peek::Row(row, bytes),
            None => Peek::Absent,
        })
    }

    /// The table, when the rows were taken over.
    #[inline]
    pub fn table(&self) -> Option<&Table> {
        self.table.get()
    }

    /// True when there is a row of this key.
    pub fn has(&self, bucket: Bucket, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(bucket, key, |_, _| ())?.is_some())
    }

    pub fn live_rows(&self) -> i64 {
        self.live.iter().map(|rows| rows.load(Relaxed)).sum()
    }

    pub fn live_bytes(&self) -> i64 {
        self.live_bytes.iter().map(|bytes| bytes.load(Relaxed)).sum()
    }

    /// True once it has been taken out of the store: its number may be another one's.
    pub fn is_gone(&self) -> bool {
        self.doomed.load(Relaxed)
    }

    /// True when its rows can be taken over, and were not yet.
    pub fn is_to_be_taken_over(&self) -> bool {
        self.path.is_none() && self.closed.load(Relaxed) && self.table.get().is_none()
    }

    /// Makes the table: of each row `place` says where it stands, if it counts. `grown` is called now and then, with
    /// more memory in use than before. The generation is closed, and what was written is known to count or not.
    pub(super) fn take_over(
        &self,
        place: impl Fn(u8, &[u8]) -> Option<Bucket>,
        grown: impl Fn(),
    ) -> Result<(), StoreError> {
        let (Some(_taking), Some(rocks)) = (self.taking.try_lock(), self.rocks.load_full()) else {
            return Ok(());
        };
        let table = self.make_table(&rocks, place, grown);
        self.taken.store(0, Relaxed);
        let Some((table, bytes)) = table? else {
            return Ok(());
        };
        // Not nothing, or it would look as one into which nothing was written yet.
        self.written.store(bytes.max(1), Relaxed);
        let _ = self.table.set(table);
        self.rocks.store(None);
        Ok(())
    }

    /// The table and the bytes of its rows; none when the generation has gone meanwhile.
    fn make_table(
        &self,
        rocks: &Rocks,
        place: impl Fn(u8, &[u8]) -> Option<Bucket>,
        grown: impl Fn(),
    ) -> Result<Option<(Table, u64)>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        let mut rows = rocks.db.raw_iterator_opt(options);
        let mut builder = TableBuilder::new(self.rows.load(Relaxed) as usize);
        let (mut group, mut last, mut bytes, mut blocks) = (Group::default(), 0, 0, 0);
        rows.seek_to_first();
        while let Some((row_key, value)) = rows.item() {
            let (bucket, db, key) = split_row_key(row_key)?;
            if bucket != last {
                group.move_to(&mut builder)?;
                last = bucket;
            }
            if let Some(at) = place(db, key) {
                bytes += u64::from(row_bytes(row_key.len(), value.len()));
                group.add(at, key, value);
            }
            if builder.blocks() != blocks {
                blocks = builder.blocks();
                self.taken.store(builder.bytes(), Relaxed);
                grown();
                if self.is_gone() {
                    return Ok(None);
                }
            }
            rows.next();
        }
        rows.status()?;
        group.move_to(&mut builder)?;
        Ok(Some((builder.finish(), bytes)))
    }

    /// Brings all rows into tables, merged: a lookup looks into one, and rows need least memory.
    pub fn settle(&self) -> Result<(), StoreError> {
        let written = self.written.load(Relaxed);
        let Some(rocks) = self.rocks.load_full() else {
            return Ok(());
        };
        if self.settled.swap(written, Relaxed) == written {
            return Ok(());
        }
        rocks.db.flush()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        rocks.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        Ok(())
    }

    /// Brings all rows into tables, and leaves it at that: for when there is no memory to merge them in.
    pub fn flush(&self) -> Result<(), StoreError> {
        match self.rocks.load_full() {
            Some(rocks) => Ok(rocks.db.flush()?),
            None => Ok(()),
        }
    }

    /// Leaves the files to the next start.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        self.flush()?;
        self.cancel();
        Ok(())
    }

    fn cancel(&self) {
        if let Some(rocks) = self.rocks.load_full() {
            rocks.db.cancel_all_background_work(true);
        }
    }

    pub(super) fn measure(&self) -> u64 {
        let table = self.table.get().map_or(0, Table::bytes) + self.taken.load(Relaxed);
        let rocks = self.rocks.load_full().map_or(0, |rocks| {
            let read = |name: &str| rocks.db.property_int_value(name).ok().flatten().unwrap_or(0);
            let files = read("rocksdb.total-sst-files-size");
            FIXED + files + read("rocksdb.size-all-mem-tables") + read("rocksdb.estimate-table-readers-mem")
        });
        table + rocks
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.cancel();
        if self.doomed.load(Relaxed)
            && let Some(path) = &self.path
            && let Err(error) = std::fs::remove_dir_all(path)
        {
            log::warn!("memory-dir: {} cannot be removed: {error}", path.display());
        }
    }
}

#[inline]
fn row_in<'a>(
    table: &'a Table,
    bucket: Bucket,
    key: &[u8],
) -> Result<Option<(PlainRow<'a>, u32)>, StoreError> {
    let Some(value) = table.get(bucket, key) else {
        return Ok(None);
    };
    Ok(Some((
        unchecked(value)?,
        row_bytes(PREFIX + key.len(), value.len()),
    )))
}

/// Only in a folder rows have a checksum, which would be of the row key.
#[inline]
fn unchecked(value: &[u8]) -> Result<PlainRow<'_>, StoreError> {
    PlainRow::decode(&[], value)
}

/// What `Generation::peek` finds.
pub enum Peek<'a> {
    Row(PlainRow<'a>, u32),
    Absent,
    /// The rows are still in RocksDB: to look there may take a while.
    Elsewhere,
}

/// Rows of one bucket, on their way into a table, which wants them in the order of hashes.
#[derive(Default)]
struct Group {
    rows: Vec<(Bucket, Range<usize>, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Group {
    fn add(&mut self, at: Bucket, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.rows.push((at, start..middle, middle..self.bytes.len()));
    }

    fn move_to(&mut self, builder: &mut TableBuilder) -> Result<(), StoreError> {
        self.rows.sort_unstable_by_key(|(at, ..)| (at.shard, at.fragment));
        for (at, key, value) in self.rows.drain(..) {
            builder.push(at, &self.bytes[key], &self.bytes[value])?;
        }
        self.bytes.clear();
        Ok(())
    }
}

/// The rows of a generation, to be read as long as this is held.
pub enum Rows<'a> {
    Table(&'a Table),
    Rocks(Arc<Rocks>),
}

impl Rows<'_> {
    /// Reads buckets, one after the other.
    pub fn reader(&self) -> Reader<'_> {
        match self {
            Rows::Table(table) => Reader::Table(table),
            Rows::Rocks(rocks) => {
                let mut options = ReadOptions::default();
                options.set_prefix_same_as_start(true);
                Reader::Rocks(rocks.db.raw_iterator_opt(options))
            }
        }
    }
}

/// Reads buckets of one generation.
pub enum Reader<'a> {
    Table(&'a Table),
    Rocks(rocksdb::DBRawIterator<'a>),
}

impl Reader<'_> {
    /// Hands key, row and bytes of rows to `visit`, until it says that it has what it wants: of every row of the
    /// bucket, or of those of it that may be meant.
    pub fn visit(
        &mut self,
        bucket: Bucket,
        mut visit: impl FnMut(&[u8], PlainRow<'_>, u32) -> bool,
    ) -> Result<(), StoreError> {
        match self {
            Reader::Table(table) => {
                for row in table.rows(bucket).filter(|row| row.db == bucket.db()) {
                    let bytes = row_bytes(PREFIX + row.key.len(), row.value.len());
                    if visit(row.key, unchecked(row.value)?, bytes) {
                        break;
                    }
                }
                Ok(())
            }
            Reader::Rocks(rows) => {
                rows.seek(bucket.prefix());
                while let Some((key, value)) = rows.item() {
                    let row = PlainRow::decode(key, value)?;
                    if visit(&key[PREFIX..], row, row_bytes(key.len(), value.len())) {
                        return Ok(());
                    }
                    rows.next();
                }
                Ok(rows.status()?)
            }
        }
    }
}
