//! The plain store: RocksDB in its plain-table format, behind memory ranges.
//!
//! It is a row of *generations*. A generation is a RocksDB of its own that is filled for a while, and goes as a whole:
//! then its memory comes back at once, and no deletion is ever written. Which generation has the row of a key, and
//! whether that row still counts, is known above (`keyspace::sealed`, four bytes a row in the shards): so a lookup asks
//! one generation and never an absent key, and the tables need no bloom filters. That directory is the filter: it
//! answers under the shard's lock, says which generation, and can forget.
//!
//! ```text
//! row key:    bucket: 20 bits | database: 4 bits | key
//! row value:  head:u8 | [CRC32C of row key, head and rest:u32 LE] | [expiry, unix ms:i64 LE] | string, or object (codec)
//!
//! head:       bits 0-2: there is an expiry, a checksum, an object (no string)
//!             bits 3-5: how the string came about     bits 6-7: the format, 1
//! ```
//!
//! What was tried of the plain format (RocksDB 11.8), and why it is used so:
//! * Tables are looked up by prefix: a whole-key prefix costs five bytes of index a key. Here the prefix is the bucket: a
//!   part of the key's hash, the shard's number first. At some keys a bucket the index costs one byte a key, and the
//!   rows of a shard lie side by side.
//! * A seek finds a prefix that is there, or nothing; there is no seek between prefixes and none backwards. So rows are
//!   only ever asked for by bucket, and it is the directory that knows which buckets there are.
//! * A table's index is stored in its file, or opening it would read the whole file.
//! * On the heap files cannot be mapped: the manifest is read as garbage then. In a folder they are.
//! * Plain tables have no checksums. On the heap nothing lies between writing and reading. In a folder there may be a disk
//!   and a restart: there every row carries a CRC32C. A row that fails it is an error, never a value.
//! * A heap file doubles its buffer as it grows: files are cut just below a power of two.

use super::StoreError;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rocksdb::{
    BottommostLevelCompaction, CompactOptions, DB, DBCompactionStyle, DBCompressionType, Env,
    KeyEncodingType, LogLevel, Options, PlainTableFactoryOptions, ReadOptions, SliceTransform, WriteBatch,
    WriteOptions,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

/// Bytes of a row key before the key.
const PREFIX: usize = 3;
pub const BUCKET_BITS: u32 = 20;
/// Databases that a row can name.
pub const DBS: usize = 16;
/// Generations that can be there at a time; they are numbered from 1.
pub const GENERATIONS_MOST: u16 = 511;

const EXPIRES: u8 = 1;
const CHECKED: u8 = 2;
const OBJECT: u8 = 4;
const ORIGIN_SHIFT: u32 = 3;
const ORIGIN: u8 = 7;
const FORMAT_SHIFT: u32 = 6;
const FORMAT: u8 = 1;

const MEMTABLE: usize = 8 << 20;
/// With its index below 32 times `WRITE`, to which a heap file's buffer grows by doubling.
const FILE: u64 = 30 << 20;
/// Bytes that are written to a file at a time. A page less than a megabyte, or the buffer, which is one byte longer than
/// a power of two of these, would have to have 40 MB of the allocator in place of 32.
const WRITE: u64 = (1 << 20) - (4 << 10);
/// What an empty generation costs: RocksDB's own structures, measured.
const FIXED: u64 = 240 << 10;
const STATE: &str = "state";
const STATE_MAGIC: &[u8; 8] = b"terrpln1";

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
    fn decode(key: &[u8], value: &'a [u8]) -> Result<PlainRow<'a>, StoreError> {
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

/// Where the row of a key stands: the bucket of its hash and its database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket(u32);

impl Bucket {
    /// `bucket` has `BUCKET_BITS` bits.
    pub fn new(bucket: u32, db: u8) -> Bucket {
        debug_assert!(bucket < 1 << BUCKET_BITS && usize::from(db) < DBS);
        Bucket(bucket << 4 | u32::from(db))
    }

    fn prefix(self) -> [u8; PREFIX] {
        let [_, prefix @ ..] = self.0.to_be_bytes();
        prefix
    }
}

/// What the rows of a generation have in common, so that they can go together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class {
    /// Name of the range.
    pub range: String,
    /// They expire.
    pub expires: bool,
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
fn row_bytes(key: usize, value: usize) -> u32 {
    (key + value + 4) as u32
}

/// A part of the store that was filled for a while and goes as a whole.
pub struct Generation {
    pub id: u16,
    pub class: Class,
    /// Grows from one generation to the next: the lower, the colder.
    pub order: u64,
    db: DB,
    /// Made once: a lookup takes little longer than this does.
    reads: ReadOptions,
    checked: bool,
    /// Its folder, when it is not on the heap.
    path: Option<PathBuf>,
    /// Rows that count, and their bytes, by database.
    pub live: [AtomicI64; DBS],
    pub live_bytes: [AtomicI64; DBS],
    /// Bytes of all rows that were written.
    pub written: AtomicU64,
    /// Of them, those that were there when it was settled last.
    settled: AtomicU64,
    /// No rows come in any more.
    pub closed: AtomicBool,
    /// Ranges changed: its keys need not belong to the range that it is named after.
    pub mixed: AtomicBool,
    /// What it takes of memory, as last measured.
    memory: AtomicU64,
    /// The files go when nobody reads any more.
    doomed: AtomicBool,
}

impl Generation {
    pub fn batch(&self) -> PlainBatch {
        PlainBatch {
            rows: WriteBatch::default(),
            count: 0,
            bytes: 0,
            key: Vec::new(),
            value: Vec::new(),
            checked: self.checked,
        }
    }

    /// Writes rows; they can be read when this returns.
    pub fn write(&self, batch: PlainBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.written.fetch_add(batch.bytes, Relaxed);
        Ok(self.db.write_opt(batch.rows, &options)?)
    }

    /// Hands the row of a key to `read`, with its bytes. None when there is no such row.
    pub fn get<R>(
        &self,
        bucket: Bucket,
        key: &[u8],
        read: impl FnOnce(PlainRow<'_>, u32) -> R,
    ) -> Result<Option<R>, StoreError> {
        let mut row_key = smallvec::SmallVec::<[u8; 64]>::from_slice(&bucket.prefix());
        row_key.extend_from_slice(key);
        match self.db.get_pinned_opt(&row_key, &self.reads)? {
            Some(value) => {
                let bytes = row_bytes(row_key.len(), value.len());
                Ok(Some(read(PlainRow::decode(&row_key, &value)?, bytes)))
            }
            None => Ok(None),
        }
    }

    /// True when there is a row of this key.
    pub fn has(&self, bucket: Bucket, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(bucket, key, |_, _| ())?.is_some())
    }

    /// Reads buckets, one after the other.
    pub fn reader(&self) -> Reader<'_> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        Reader {
            rows: self.db.raw_iterator_opt(options),
        }
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

    /// Brings all rows into tables, merged: a lookup looks into one, and rows need least memory.
    pub fn settle(&self) -> Result<(), StoreError> {
        let written = self.written.load(Relaxed);
        if self.settled.swap(written, Relaxed) == written {
            return Ok(());
        }
        self.db.flush()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        Ok(())
    }

    /// Brings all rows into tables, and leaves it at that: for when there is no memory to merge them in.
    pub fn flush(&self) -> Result<(), StoreError> {
        Ok(self.db.flush()?)
    }

    fn measure(&self) -> u64 {
        let read = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let files = read("rocksdb.total-sst-files-size");
        FIXED + files + read("rocksdb.size-all-mem-tables") + read("rocksdb.estimate-table-readers-mem")
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.db.cancel_all_background_work(true);
        if self.doomed.load(Relaxed)
            && let Some(path) = &self.path
            && let Err(error) = std::fs::remove_dir_all(path)
        {
            log::warn!("memory-dir: {} cannot be removed: {error}", path.display());
        }
    }
}

/// Reads buckets of one generation.
pub struct Reader<'a> {
    rows: rocksdb::DBRawIterator<'a>,
}

impl Reader<'_> {
    /// Hands key, row and bytes of every row of a bucket to `visit`, until it says that it has what it wants.
    pub fn visit(
        &mut self,
        bucket: Bucket,
        mut visit: impl FnMut(&[u8], PlainRow<'_>, u32) -> bool,
    ) -> Result<(), StoreError> {
        self.rows.seek(bucket.prefix());
        while let Some((key, value)) = self.rows.item() {
            let row = PlainRow::decode(key, value)?;
            if visit(&key[PREFIX..], row, row_bytes(key.len(), value.len())) {
                return Ok(());
            }
            self.rows.next();
        }
        Ok(self.rows.status()?)
    }
}

type Table = Vec<Option<Arc<Generation>>>;

/// All generations.
pub struct PlainStore {
    /// None: on the heap.
    folder: Option<PathBuf>,
    /// By number.
    table: ArcSwap<Table>,
    change: Mutex<u64>,
    memory: AtomicU64,
}

fn options(env: Option<&Env>) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_plain_table_factory(&PlainTableFactoryOptions {
        user_key_length: 0,
        bloom_bits_per_key: 0,
        hash_table_ratio: 0.75,
        index_sparseness: 16,
        huge_page_tlb_size: 0,
        encoding_type: KeyEncodingType::Plain,
        full_scan_mode: false,
        store_index_in_file: true,
    });
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(PREFIX));
    options.set_compression_type(DBCompressionType::None);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_write_buffer_size(MEMTABLE);
    options.set_target_file_size_base(FILE);
    options.set_writable_file_max_buffer_size(WRITE);
    options.set_max_open_files(-1);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(1);
    options.set_log_level(LogLevel::Fatal);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_table_cache_num_shard_bits(0);
    match env {
        Some(env) => options.set_env(env),
        None => options.set_allow_mmap_reads(true),
    }
    options
}

impl PlainStore {
    /// An empty store on the heap.
    pub fn on_heap() -> PlainStore {
        PlainStore {
            folder: None,
            table: ArcSwap::default(),
            change: Mutex::new(0),
            memory: AtomicU64::new(0),
        }
    }

    /// A store in a folder, made if need be, empty, whatever was there; with it, the bytes that `close` was given by a
    /// server that ended in order: the generations named in them can be opened again. What a crash has left is useless,
    /// since nobody knows which rows count, and goes with the first generation that is made or with `clear`.
    pub fn in_folder(folder: &Path) -> Result<(PlainStore, Option<Vec<u8>>), StoreError> {
        let failed = |error: std::io::Error| StoreError::new(format_args!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let path = folder.join(STATE);
        let state = match std::fs::read(&path) {
            Ok(bytes) => {
                // From here on a crash finds no state.
                std::fs::remove_file(&path).map_err(failed)?;
                unwrap_state(bytes)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let store = PlainStore {
            folder: Some(folder.to_path_buf()),
            ..PlainStore::on_heap()
        };
        Ok((store, state))
    }

    pub fn is_in_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// The generation of this number.
    #[inline]
    pub fn generation(&self, id: u16) -> Option<Arc<Generation>> {
        self.table.load().get(usize::from(id)).cloned().flatten()
    }

    /// All generations, the coldest first.
    pub fn generations(&self) -> Vec<Arc<Generation>> {
        let mut all: Vec<_> = self.table.load().iter().flatten().cloned().collect();
        all.sort_by_key(|generation| generation.order);
        all
    }

    /// Starts a generation. None when there are as many as there can be.
    pub fn create(&self, class: Class) -> Result<Option<Arc<Generation>>, StoreError> {
        let mut last = self.change.lock();
        let table = self.table.load();
        let Some(id) =
            (1..=GENERATIONS_MOST).find(|id| table.get(usize::from(*id)).is_none_or(Option::is_none))
        else {
            return Ok(None);
        };
        drop(table);
        *last += 1;
        let path = self.path_of(*last);
        if let Some(path) = path.as_ref().filter(|path| path.exists()) {
            std::fs::remove_dir_all(path).map_err(StoreError::new)?;
        }
        self.open_generation(id, *last, class, path).map(Some)
    }

    /// Opens a generation that `close` has left in the folder.
    pub fn reopen(&self, id: u16, order: u64, class: Class) -> Result<Arc<Generation>, StoreError> {
        let mut last = self.change.lock();
        *last = order.max(*last);
        let path = self.path_of(order);
        if !path.as_ref().is_some_and(|path| path.exists()) {
            return Err(StoreError::new("a generation is missing"));
        }
        let generation = self.open_generation(id, order, class, path)?;
        generation.closed.store(true, Relaxed);
        Ok(generation)
    }

    fn path_of(&self, order: u64) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("generation-{order}")))
    }

    /// The caller holds `change`.
    fn open_generation(
        &self,
        id: u16,
        order: u64,
        class: Class,
        path: Option<PathBuf>,
    ) -> Result<Arc<Generation>, StoreError> {
        let db = match &path {
            Some(path) => DB::open(&options(None), path)?,
            None => DB::open(&options(Some(&Env::mem_env()?)), "/generation")?,
        };
        let generation = Arc::new(Generation {
            id,
            class,
            order,
            db,
            reads: ReadOptions::default(),
            checked: path.is_some(),
            path,
            live: Default::default(),
            live_bytes: Default::default(),
            written: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            mixed: AtomicBool::new(false),
            memory: AtomicU64::new(0),
            doomed: AtomicBool::new(false),
        });
        let mut table = Table::clone(&self.table.load());
        table.resize(table.len().max(usize::from(id) + 1), None);
        table[usize::from(id)] = Some(generation.clone());
        self.table.store(Arc::new(table));
        self.count(&generation);
        Ok(generation)
    }

    /// Takes a generation out; its memory, or its files, go when nobody reads it any more.
    pub fn remove(&self, generation: &Arc<Generation>) {
        let _change = self.change.lock();
        let mut table = Table::clone(&self.table.load());
        if let Some(place) = table.get_mut(usize::from(generation.id)) {
            *place = None;
        }
        self.table.store(Arc::new(table));
        generation.doomed.store(true, Relaxed);
        self.memory.fetch_sub(generation.memory.swap(0, Relaxed), Relaxed);
    }

    /// Brings the count of memory up to date with a generation.
    pub fn measure(&self, generation: &Generation) {
        let _change = self.change.lock();
        if !generation.doomed.load(Relaxed) {
            self.count(generation);
        }
    }

    /// The caller holds `change`.
    fn count(&self, generation: &Generation) {
        let now = generation.measure();
        let before = generation.memory.swap(now, Relaxed);
        // One after the other, and modulo 2^64: the sum is right whichever is larger.
        self.memory.fetch_add(now.wrapping_sub(before), Relaxed);
    }

    /// Bytes of memory that all generations take: rows, indexes, and RocksDB's own.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.load(Relaxed)
    }

    /// Removes everything in the folder that is not a generation in use.
    pub fn clear_left_over(&self) -> Result<(), StoreError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let used: Vec<PathBuf> = self
            .generations()
            .iter()
            .filter_map(|generation| generation.path.clone())
            .collect();
        for item in std::fs::read_dir(folder).map_err(StoreError::new)?.flatten() {
            let is_generation = item.file_name().to_string_lossy().starts_with("generation-");
            if is_generation && !used.contains(&item.path()) {
                std::fs::remove_dir_all(item.path()).map_err(StoreError::new)?;
            }
        }
        Ok(())
    }

    /// Leaves the generations to the next start, and what that has to know of them.
    pub fn close(&self, state: &[u8]) -> Result<(), StoreError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for generation in self.generations() {
            generation.db.flush()?;
            generation.db.cancel_all_background_work(true);
        }
        let mut bytes = STATE_MAGIC.to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(state).to_le_bytes());
        bytes.extend_from_slice(state);
        let temporary = folder.join("state.new");
        // A crash here is fine: without the state the next start begins empty.
        std::fs::write(&temporary, bytes).map_err(StoreError::new)?;
        std::fs::rename(&temporary, folder.join(STATE)).map_err(StoreError::new)
    }
}

/// What is behind the head of a state file, if it is sound.
fn unwrap_state(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let rest = bytes.strip_prefix(STATE_MAGIC)?;
    let (sum, state) = rest.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*sum) == crc32c::crc32c(state)).then(|| state.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> Class {
        Class {
            range: "r".into(),
            expires: false,
        }
    }

    fn put(generation: &Generation, bucket: Bucket, key: &[u8], value: &[u8]) {
        let mut batch = generation.batch();
        batch.put(bucket, key, (None, 0, false), |out| out.extend_from_slice(value));
        generation.write(batch).expect("writes");
    }

    fn read(generation: &Generation, bucket: Bucket, key: &[u8]) -> Option<Vec<u8>> {
        generation
            .get(bucket, key, |row, _| row.payload.to_vec())
            .expect("reads")
    }

    #[test]
    fn rows_are_found_in_memtables_and_in_tables_and_by_bucket() {
        let store = PlainStore::on_heap();
        let generation = store.create(class()).expect("opens").expect("room");
        let (one, other) = (Bucket::new(77, 3), Bucket::new(77, 4));
        put(&generation, one, b"a", b"1");
        generation.settle().expect("settles");
        put(&generation, one, b"b", b"2");
        put(&generation, other, b"a", b"3");
        put(&generation, one, b"a", b"4");
        for _ in 0..2 {
            assert_eq!(read(&generation, one, b"a"), Some(b"4".to_vec()));
            assert_eq!(read(&generation, one, b"b"), Some(b"2".to_vec()));
            assert_eq!(read(&generation, one, b"c"), None);
            assert_eq!(read(&generation, Bucket::new(78, 3), b"a"), None);
            let mut keys = Vec::new();
            let mut reader = generation.reader();
            reader
                .visit(one, |key, row, _| {
                    keys.push((key.to_vec(), row.payload.to_vec()));
                    false
                })
                .expect("reads");
            let expected: [(Vec<u8>, Vec<u8>); 2] = [(b"a".into(), b"4".into()), (b"b".into(), b"2".into())];
            assert_eq!(keys, expected);
            generation.settle().expect("settles");
        }
        store.measure(&generation);
        assert!(store.memory_bytes() > FIXED);
        store.remove(&generation);
        assert_eq!(store.memory_bytes(), 0);
        assert!(store.generation(1).is_none());
    }

    #[test]
    fn a_folder_keeps_its_rows_over_an_orderly_end_only() {
        let dir = tempfile::tempdir().expect("temp dir");
        let bucket = Bucket::new(1, 0);
        let (store, state) = PlainStore::in_folder(dir.path()).expect("opens");
        assert!(state.is_none());
        let generation = store.create(class()).expect("opens").expect("room");
        put(&generation, bucket, b"k", b"v");
        store.close(b"what is known").expect("closes");
        drop((generation, store));
        let (store, state) = PlainStore::in_folder(dir.path()).expect("opens");
        assert_eq!(state.as_deref(), Some(&b"what is known"[..]));
        let generation = store.reopen(1, 1, class()).expect("opens");
        assert_eq!(read(&generation, bucket, b"k"), Some(b"v".to_vec()));
        // A crash: nothing is closed.
        drop((generation, store));
        let (store, state) = PlainStore::in_folder(dir.path()).expect("opens");
        assert!(state.is_none());
        store.clear_left_over().expect("clears");
        assert_eq!(std::fs::read_dir(dir.path()).expect("folder").count(), 0);
    }

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
