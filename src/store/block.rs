//! The block store: RocksDB on disk behind durable ranges.
//!
//! Guarantees: rows enter only as whole sorted files (`flush`), so there is no memtable and no WAL; a read sees a file
//! wholly or not at all. A read error is an error, never an absent row.

use super::StoreError;
use super::checkpoint;
use super::flush::Meta;
use super::rows;
use rocksdb::statistics::{StatsLevel, Ticker};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB,
    DBCompressionType, DBPinnableSlice, DataBlockIndexType, Direction, ErrorKind, IngestExternalFileOptions,
    IteratorMode, LogLevel, Options, Range, ReadOptions, ReadTier, Snapshot,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

/// Bytes that a compaction reads of a file at a time.
const READAHEAD: usize = 256 << 10;
/// Rows from one report of `verify` to the next.
const REPORT_ROWS: u64 = 65_536;

/// A read that took longer has waited for the disk; what comes from the page cache takes a tenth of it.
const QUICK: Duration = Duration::from_micros(100);
/// What a read that waited adds to `distrust`, from which each quick one takes one; and how much it may become. One that
/// waited is not enough: perhaps another thread had the core.
const WAITED: u32 = 32;
const DISTRUST_MOST: u32 = 2 * WAITED;

/// A row's value, where it stands in the store's memory.
pub type Pinned<'a> = DBPinnableSlice<'a>;

/// What a read without touching the disk can say.
pub enum Cached<'a> {
    Row(Pinned<'a>),
    Absent,
    /// The disk has to be asked.
    Unknown,
}

pub struct BlockStore {
    db: DB,
    options: Options,
    cache: Cache,
    /// Bytes of the cache, if it is not bounded further.
    cache_size: u64,
    cache_bound: AtomicU64,
    path: PathBuf,
    /// Bytes of the sorted files that came in since the start.
    ingested: AtomicU64,
    /// Whether reads have lately waited for the disk.
    distrust: AtomicU32,
}

/// A store as it was at one moment.
pub struct Frozen<'a> {
    snapshot: Snapshot<'a>,
}

impl Frozen<'_> {
    /// Rows with keys in [from, to), ascending. They are read once and for all: the block cache keeps what it has.
    pub fn scan(&self, from: Vec<u8>, to: Vec<u8>) -> RowIter<'_> {
        let mut read = ReadOptions::default();
        read.fill_cache(false);
        read.set_iterate_lower_bound(from);
        read.set_iterate_upper_bound(to);
        let rows = self.snapshot.iterator_opt(IteratorMode::Start, read);
        Box::new(rows.map(|row| row.map_err(StoreError::from)))
    }
}

/// Rows in key order, with an error in place of a row that cannot be read.
pub type RowIter<'a> = Box<dyn Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), StoreError>> + 'a>;

/// A cache without locks, in which what is asked for often stays: index and filter, before rows.
fn new_cache(size: usize) -> Cache {
    Cache::new_hyper_clock_cache(size, 0)
}

fn options(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    // Index and filter in parts: whole ones are megabytes for each file, and where they do not all fit the cache each
    // read of a row would read one anew.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(4 << 10);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    // Files come in already large and sorted; merging few of them at a time only writes the same rows again.
    options.set_level_zero_file_num_compaction_trigger(6);
    options.set_level_zero_slowdown_writes_trigger(40);
    options.set_level_zero_stop_writes_trigger(60);
    options.set_target_file_size_base(64 << 20);
    options.set_max_bytes_for_level_base(512 << 20);
    options.set_write_buffer_size(1 << 20);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_bytes_per_sync(1 << 20);
    // For each file that is merged: many small ones must not take more memory than the rows in use.
    options.set_compaction_readahead_size(READAHEAD);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // Counts alone, for what compaction writes.
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    options
}

impl BlockStore {
    /// Opens or creates the store in `path`, with `cache_size` bytes of block cache.
    pub fn open(path: &Path, cache_size: usize) -> Result<BlockStore, StoreError> {
        BlockStore::refuse_headless(path)?;
        let cache = new_cache(cache_size);
        let options = options(&cache);
        let db = DB::open(&options, path)
            .map_err(|error| StoreError::new(format_args!("{}: {}", path.display(), error.into_string())))?;
        // Sorted files that a crash left beside the store: their rows are still in the journal.
        for item in std::fs::read_dir(path).map_err(StoreError::new)?.flatten() {
            if item.file_name().to_string_lossy().starts_with("flush-") {
                std::fs::remove_file(item.path()).map_err(StoreError::new)?;
            }
        }
        checkpoint::remove_left_over(path)?;
        Ok(BlockStore {
            db,
            options,
            cache,
            cache_size: cache_size as u64,
            cache_bound: AtomicU64::new(cache_size as u64),
            path: path.to_path_buf(),
            ingested: AtomicU64::new(0),
            distrust: AtomicU32::new(0),
        })
    }

    /// Refuses a folder that has files of a store and not the one that names them: RocksDB would begin a new store there,
    /// and remove them.
    fn refuse_headless(path: &Path) -> Result<(), StoreError> {
        let is_of_store = |name: &str| name.ends_with(".sst") && !name.starts_with("flush-");
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        let has_files = names.any(|name| name.to_str().is_some_and(is_of_store));
        if has_files && !path.join("CURRENT").exists() {
            return Err(StoreError::new(format_args!(
                "{}: the file CURRENT is missing, though there are files of a store; they are left as they are",
                path.display()
            )));
        }
        Ok(())
    }

    /// Opens the store in `path` to look at: nothing in the folder changes but RocksDB's own log.
    pub fn open_to_read(path: &Path, cache_size: usize) -> Result<BlockStore, StoreError> {
        let cache = new_cache(cache_size);
        let mut options = options(&cache);
        options.create_if_missing(false);
        let db = DB::open_for_read_only(&options, path, false)
            .map_err(|error| StoreError::new(format_args!("{}: {}", path.display(), error.into_string())))?;
        Ok(BlockStore {
            db,
            options,
            cache,
            cache_size: cache_size as u64,
            cache_bound: AtomicU64::new(cache_size as u64),
            path: path.to_path_buf(),
            ingested: AtomicU64::new(0),
            distrust: AtomicU32::new(0),
        })
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a row without touching the disk.
    pub fn read_cached(&self, row_key: &[u8]) -> Result<Cached<'_>, StoreError> {
        let mut read = ReadOptions::default();
        read.set_read_tier(ReadTier::BlockCache);
        match self.db.get_pinned_opt(row_key, &read) {
            Ok(Some(row)) => Ok(Cached::Row(row)),
            Ok(None) => Ok(Cached::Absent),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(Cached::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a row; may wait for the disk.
    pub fn read(&self, row_key: &[u8]) -> Result<Option<Pinned<'_>>, StoreError> {
        let begin = Instant::now();
        let row = self.db.get_pinned(row_key)?;
        let distrust = self.distrust.load(Relaxed);
        if begin.elapsed() > QUICK {
            self.distrust
                .store((distrust + WAITED).min(DISTRUST_MOST), Relaxed);
        } else if distrust > 0 {
            // Of several reads at once some may not be counted: no harm.
            self.distrust.store(distrust - 1, Relaxed);
        }
        Ok(row)
    }

    /// True when reads have lately not waited for the disk: what is read is in the system's page cache, mostly.
    pub fn is_quick(&self) -> bool {
        self.distrust.load(Relaxed) <= WAITED
    }

    /// The mark and counts; none in a new store.
    pub fn meta(&self) -> Result<Option<Meta>, StoreError> {
        self.db
            .get(rows::META_KEY)?
            .map(|bytes| Meta::decode(&bytes))
            .transpose()
    }

    /// Rows with keys in [from, to), ascending, or descending from the last below `to`.
    pub fn scan(&self, from: Vec<u8>, to: Vec<u8>, reverse: bool) -> RowIter<'_> {
        let mut read = ReadOptions::default();
        let (start, direction) = if reverse {
            (to.clone(), Direction::Reverse)
        } else {
            (from.clone(), Direction::Forward)
        };
        read.set_iterate_lower_bound(from);
        read.set_iterate_upper_bound(to);
        let mode = if reverse {
            IteratorMode::End
        } else {
            IteratorMode::From(&start, direction)
        };
        let rows = self.db.iterator_opt(mode, read);
        Box::new(rows.map(|row| row.map_err(StoreError::from)))
    }

    /// The store as it is now, whatever comes in later.
    pub fn freeze(&self) -> Frozen<'_> {
        Frozen {
            snapshot: self.db.snapshot(),
        }
    }

    /// Adds whole sorted files to the store, all or none; durable when this returns.
    pub(super) fn ingest(&self, files: &[PathBuf]) -> Result<(), StoreError> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let len = |file: &PathBuf| std::fs::metadata(file).map_or(0, |file| file.len());
        let bytes: u64 = files.iter().map(len).sum();
        self.db.ingest_external_file_opts(&options, files.to_vec())?;
        self.ingested.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Bytes written since the start: the files that came in, and what compaction made of them.
    pub fn bytes_written(&self) -> u64 {
        self.ingested.load(Relaxed) + self.options.get_ticker_count(Ticker::CompactWriteBytes)
    }

    /// About how many bytes of files hold the rows between each pair of row keys.
    pub fn approximate_bytes(&self, intervals: &[(Vec<u8>, Vec<u8>)]) -> u64 {
        let ranges: Vec<Range<'_>> = intervals.iter().map(|(from, to)| Range::new(from, to)).collect();
        self.db.get_approximate_sizes(&ranges).into_iter().sum()
    }

    /// Removes the files that hold nothing but rows between these row keys, whoever may still read an older state: the
    /// rows must be gone already.
    pub fn remove_files(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        // The end is part of what RocksDB removes here: so it is a key that no row has, right before it.
        let mut last = to.to_vec();
        match last.pop() {
            Some(0) | None => {}
            Some(byte) => {
                last.push(byte - 1);
                last.extend_from_slice(&[0xff; 64]);
            }
        }
        Ok(self.db.delete_file_in_range(from, last.as_slice())?)
    }

    /// Has the rows between these row keys written anew, without what is deleted; takes as long as that takes.
    pub fn compact(&self, from: &[u8], to: &[u8]) {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Skip);
        self.db.compact_range_opt(Some(from), Some(to), &options);
    }

    /// Bytes of the store's files.
    pub fn disk_bytes(&self) -> u64 {
        self.db
            .property_int_value("rocksdb.total-sst-files-size")
            .ok()
            .flatten()
            .unwrap_or(0)
    }

    /// Makes the block cache no larger than this, nor larger than it was opened with.
    pub fn bound_cache(&self, most: u64) {
        let bound = self.cache_size.min(most);
        self.cache_bound.store(bound, Relaxed);
        let bound = usize::try_from(bound).unwrap_or(usize::MAX);
        self.cache.clone().set_capacity(bound);
    }

    /// Bytes that the block cache may become.
    pub fn cache_bound(&self) -> u64 {
        self.cache_bound.load(Relaxed)
    }

    /// Bytes of memory that RocksDB holds: block cache and table readers.
    pub fn memory_bytes(&self) -> u64 {
        let read = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        read("rocksdb.block-cache-usage") + read("rocksdb.estimate-table-readers-mem")
    }

    /// Reads every block of every file and checks its checksum.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.verify_with(|_, _| {})
    }

    /// As `verify`. `report` hears now and then how many rows of how many have been read; rows that newer files replace
    /// are among the latter only.
    pub fn verify_with(&self, mut report: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        let total = self.db.live_files()?.iter().map(|file| file.num_entries).sum();
        let mut read = ReadOptions::default();
        read.set_verify_checksums(true);
        read.fill_cache(false);
        for (done, row) in (0..).zip(self.db.iterator_opt(IteratorMode::Start, read)) {
            row?;
            if done % REPORT_ROWS == 0 {
                report(done, total);
            }
        }
        Ok(())
    }

    /// Ends background work, so that the process can leave at once.
    pub fn close(&self) {
        self.db.cancel_all_background_work(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_store_without_its_head_are_left_as_they_are() {
        let dir = tempfile::tempdir().expect("temp dir");
        drop(BlockStore::open(dir.path(), 1 << 20).expect("a new store"));
        drop(BlockStore::open(dir.path(), 1 << 20).expect("opens again"));
        let rows = dir.path().join("000012.sst");
        std::fs::write(&rows, b"rows").expect("write");
        std::fs::remove_file(dir.path().join("CURRENT")).expect("remove");
        for _ in 0..2 {
            let refused = BlockStore::open(dir.path(), 1 << 20).err().expect("refused");
            assert!(refused.to_string().contains("CURRENT is missing"), "{refused}");
        }
        assert_eq!(std::fs::read(&rows).expect("still there"), b"rows");
        assert!(!dir.path().join("CURRENT").exists());
    }
}
