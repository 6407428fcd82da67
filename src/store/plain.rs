//! The plain store: RocksDB in its plain-table format, behind memory ranges.
//!
//! It is a row of *generations*. A generation is a RocksDB of its own that is filled for a while, and goes as a whole:
//! then its memory comes back at once, and no deletion is ever written. Which generation has the row of a key, and
//! whether that row still counts, is known above (`keyspace::sealed`, four bytes a row in the shards): so a lookup asks
//! one generation and never an absent key, and the tables need no bloom filters. That directory is the filter: it
//! answers under the shard's lock, says which generation, and can forget.
//!
//! RocksDB collects the rows of a generation, sorts and merges them; `row` draws a row. When no more come in, a
//! generation on the heap is taken over into a table of our own (`table`), which a batch of requests can be looked up
//! in at once. In a folder RocksDB's files stay what is read.
//!
//! What was tried of the plain format (RocksDB 11.8), and why it is used so:
//! * Tables are looked up by prefix: a whole-key prefix costs five bytes of index a key. Here the prefix is the bucket:
//!   a part of the key's hash, the shard's number first. At some keys a bucket the index costs one byte a key, and the
//!   rows of a shard lie side by side.
//! * A seek finds a prefix that is there, or nothing; there is no seek between prefixes and none backwards. So rows are
//!   only ever asked for by bucket, and it is the directory that knows which buckets there are.
//! * A table's index is stored in its file, or opening it would read the whole file.
//! * On the heap files cannot be mapped: the manifest is read as garbage then. In a folder they are.
//! * Plain tables have no checksums. On the heap nothing lies between writing and reading. In a folder there may be a
//!   disk and a restart: there every row carries a CRC32C. A row that fails it is an error, never a value.
//! * A heap file doubles its buffer as it grows: files are cut just below a power of two.

mod generation;
mod row;
mod table;

use super::StoreError;
use arc_swap::{ArcSwap, Guard};
pub use generation::{Class, Generation, Peek, Reader, Rows};
use parking_lot::Mutex;
use rocksdb::{
    DB, DBCompactionStyle, DBCompressionType, Env, KeyEncodingType, LogLevel, Options,
    PlainTableFactoryOptions, SliceTransform,
};
use row::PREFIX;
pub use row::{BUCKET_BITS, Bucket, DBS, FRAGMENT_BITS, PlainBatch, PlainRow};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
pub use table::Table;

/// Generations that can be there at a time; they are numbered from 1.
pub const GENERATIONS_MOST: u16 = 511;

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

/// Generations by their numbers.
type Numbered = Vec<Option<Arc<Generation>>>;

/// The generations as they are at a moment.
pub struct View(Guard<Arc<Numbered>>);

impl View {
    #[inline]
    pub fn get(&self, id: u16) -> Option<&Generation> {
        self.0.get(usize::from(id))?.as_deref()
    }
}

/// All generations.
pub struct PlainStore {
    /// None: on the heap.
    folder: Option<PathBuf>,
    table: ArcSwap<Numbered>,
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

    /// The generations, for a few lookups that take no time.
    #[inline]
    pub fn view(&self) -> View {
        View(self.table.load())
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
        let generation = Arc::new(Generation::new((id, order), class, db, path));
        let mut table = Numbered::clone(&self.table.load());
        table.resize(table.len().max(usize::from(id) + 1), None);
        table[usize::from(id)] = Some(generation.clone());
        self.table.store(Arc::new(table));
        self.count(&generation);
        Ok(generation)
    }

    /// Takes a generation out; its memory, or its files, go when nobody reads it any more.
    pub fn remove(&self, generation: &Arc<Generation>) {
        let _change = self.change.lock();
        let mut table = Numbered::clone(&self.table.load());
        if let Some(place) = table.get_mut(usize::from(generation.id)) {
            *place = None;
        }
        self.table.store(Arc::new(table));
        generation.doomed.store(true, Relaxed);
        self.memory.fetch_sub(generation.memory.swap(0, Relaxed), Relaxed);
    }

    /// Takes over the rows of a closed generation on the heap: `place` says of a row where it stands, if it counts. What
    /// counts was written and is known to count: nobody is about to say so of a row.
    pub fn take_over(
        &self,
        generation: &Generation,
        place: impl Fn(u8, &[u8]) -> Option<Bucket>,
    ) -> Result<(), StoreError> {
        debug_assert!(generation.closed.load(Relaxed));
        let taken = match generation.is_to_be_taken_over() {
            true => generation.take_over(place, || self.measure(generation)),
            false => Ok(()),
        };
        self.measure(generation);
        taken
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
            generation.close()?;
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

    /// A bucket, and a part of a hash that has nothing to do with it.
    fn bucket(number: u32, db: u8) -> Bucket {
        Bucket::new(number, db, (number >> 4, number & 15))
    }

    /// Of the same bucket, and another part of a hash.
    fn beside(bucket: Bucket) -> Bucket {
        Bucket {
            fragment: bucket.fragment + 1000,
            ..bucket
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
        let (one, other) = (bucket(77, 3), bucket(77, 4));
        put(&generation, one, b"a", b"1");
        generation.settle().expect("settles");
        put(&generation, one, b"b", b"2");
        put(&generation, other, b"a", b"3");
        put(&generation, one, b"a", b"4");
        for _ in 0..2 {
            assert_eq!(read(&generation, one, b"a"), Some(b"4".to_vec()));
            assert_eq!(read(&generation, one, b"b"), Some(b"2".to_vec()));
            assert_eq!(read(&generation, one, b"c"), None);
            assert_eq!(read(&generation, bucket(78, 3), b"a"), None);
            let mut keys = Vec::new();
            let rows = generation.rows().expect("rows");
            let mut reader = rows.reader();
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
        let before = store.memory_bytes();
        generation.closed.store(true, Relaxed);
        // The one of another database does not count any more.
        let place = |db, key: &[u8]| (db == 3).then_some(if key == b"a" { one } else { beside(one) });
        store.take_over(&generation, place).expect("takes over");
        assert!(generation.table().is_some() && generation.batch().is_empty());
        assert!(store.memory_bytes() < before, "{} {before}", store.memory_bytes());
        assert_eq!(read(&generation, one, b"a"), Some(b"4".to_vec()));
        assert_eq!(read(&generation, beside(one), b"b"), Some(b"2".to_vec()));
        assert_eq!(read(&generation, other, b"a"), None);
        store.remove(&generation);
        assert_eq!(store.memory_bytes(), 0);
        assert!(store.generation(1).is_none());
    }

    #[test]
    fn a_folder_keeps_its_rows_over_an_orderly_end_only() {
        let dir = tempfile::tempdir().expect("temp dir");
        let bucket = bucket(1, 0);
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
}
