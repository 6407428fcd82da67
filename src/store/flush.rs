//! Making a sorted file, or several, out of rows and handing them to the store.
//!
//! Guarantees: the files hold the new mark and counts beside the rows that they speak of, and enter the store as one,
//! synced with its manifest. A crash before that leaves a `flush-` file, which the next start removes.

use super::StoreError;
use super::block::BlockStore;
use super::packing::Packer;
use super::rows;
use crate::config::{Compression, RangeSpec};
use crate::journal::crash_point;
use rocksdb::SstFileWriter;
use serde::{Deserialize, Serialize};

/// The row that says what the store holds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Meta {
    pub version: u32,
    /// The journal offset up to which the store holds every effect.
    pub mark: u64,
    /// No row carries a higher journal offset than this.
    pub newest: u64,
    /// At the mark: logical database → physical database.
    pub databases: Vec<u8>,
    pub ranges: Vec<RangeMeta>,
    /// The counts of the ranges are not right: they were being counted.
    #[serde(default)]
    pub recount: bool,
    #[serde(default)]
    pub discards: Vec<Discard>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RangeMeta {
    pub spec: RangeSpec,
    /// Rows in the store per physical database.
    pub rows: Vec<i64>,
    /// Those of them that have an expiry.
    pub expires: Vec<i64>,
}

/// What a range held up to an offset is gone: it was dropped with its keys, or left for memory. Its rows are to be
/// wiped, and count no more.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Discard {
    pub range: String,
    /// The keys, from the first up to and without the last; without one, all that follow.
    pub intervals: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Rows and effects up to this journal offset are gone.
    pub at: u64,
    /// The store has none of these rows any more.
    pub wiped: bool,
}

impl Discard {
    pub fn covers(&self, key: &[u8]) -> bool {
        let inside = |(start, end): &(Vec<u8>, Option<Vec<u8>>)| {
            key >= start.as_slice() && end.as_ref().is_none_or(|end| key < end.as_slice())
        };
        self.intervals.iter().any(inside)
    }

    /// The row keys of its objects, and of the elements of paged ones, in every database.
    pub fn row_intervals(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let of = |db: u8, (start, end): &(Vec<u8>, Option<Vec<u8>>)| {
            [rows::interval, rows::element_interval].map(|rows| rows(db, start, end.as_deref()))
        };
        (0..16).flat_map(move |db| self.intervals.iter().flat_map(move |interval| of(db, interval)))
    }
}

const META_VERSION: u32 = 1;
/// Bytes of rows in a file: as many as compaction makes them of.
const FILE_BYTES: usize = 64 << 20;

impl Meta {
    /// The offset up to which the store may hold effects.
    pub fn held(&self) -> u64 {
        self.mark.max(self.newest)
    }

    pub fn new(mark: u64, newest: u64, databases: Vec<u8>, ranges: Vec<RangeMeta>) -> Meta {
        Meta {
            version: META_VERSION,
            mark,
            newest,
            databases,
            ranges,
            recount: false,
            discards: Vec::new(),
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Meta, StoreError> {
        let meta: Meta = serde_json::from_slice(bytes)
            .map_err(|error| StoreError::new(format_args!("the store's mark cannot be read: {error}")))?;
        if meta.version != META_VERSION {
            let why = format_args!(
                "store format {} is newer than this server's {META_VERSION}",
                meta.version
            );
            return Err(StoreError::new(why));
        }
        Ok(meta)
    }

    fn encode(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(StoreError::new)
    }
}

struct RowRef {
    /// Eight bytes of the key behind what all keys begin with: most comparisons need no more.
    prefix: u64,
    key: (usize, usize),
    /// `None` deletes the row.
    value: Option<(usize, usize)>,
    /// How the value is to be packed; what has been seen to is not packed any more.
    packing: Compression,
}

/// Rows to be sorted and written, in one arena.
#[derive(Default)]
pub struct Batch {
    arena: Vec<u8>,
    rows: Vec<RowRef>,
    packer: Packer,
    /// Row keys from which on, and up to which, all older rows go.
    dropped: Vec<(Vec<u8>, Vec<u8>)>,
    /// Some row is still to be packed.
    unpacked: bool,
}

impl Batch {
    /// Adds a row, or the deletion of one; `key` and `value` append to the arena they are given.
    pub fn push(&mut self, key: impl FnOnce(&mut Vec<u8>), value: Option<impl FnOnce(&mut Vec<u8>)>) {
        let start = self.arena.len();
        key(&mut self.arena);
        let key = (start, self.arena.len());
        let value = value.map(|value| {
            value(&mut self.arena);
            (key.1, self.arena.len())
        });
        self.rows.push(RowRef {
            prefix: 0,
            key,
            value,
            packing: Compression::None,
        });
    }

    /// Deletes the rows between two row keys that came in with earlier files; rows of this batch stay.
    pub fn drop_between(&mut self, bounds: (Vec<u8>, Vec<u8>)) {
        self.dropped.push(bounds);
    }

    /// The row pushed last is to be packed once it comes to another batch: `push` runs while a shard is locked.
    pub fn pack_last(&mut self, how: Compression) {
        if how != Compression::None
            && let Some(row) = self.rows.last_mut()
        {
            row.packing = how;
            self.unpacked = true;
        }
    }

    /// Moves the rows of `other` here, packed where they are to be, and leaves it empty with the memory that it had.
    pub fn append(&mut self, other: &mut Batch) {
        self.dropped.append(&mut other.dropped);
        if std::mem::take(&mut other.unpacked) {
            self.append_packed(other);
            return;
        }
        let shift = self.arena.len();
        let moved = |(start, end): (usize, usize)| (start + shift, end + shift);
        self.arena.append(&mut other.arena);
        self.rows.extend(other.rows.drain(..).map(|row| RowRef {
            key: moved(row.key),
            value: row.value.map(moved),
            ..row
        }));
    }

    fn append_packed(&mut self, other: &mut Batch) {
        for row in other.rows.drain(..) {
            let start = self.arena.len();
            self.arena.extend_from_slice(&other.arena[row.key.0..row.key.1]);
            let key = (start, self.arena.len());
            let value = row.value.map(|(from, to)| {
                rows::pack_row(
                    &mut self.arena,
                    &other.arena[from..to],
                    row.packing,
                    &mut self.packer,
                );
                (key.1, self.arena.len())
            });
            self.rows.push(RowRef {
                key,
                value,
                packing: Compression::None,
                ..row
            });
        }
        other.arena.clear();
    }

    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.arena.len() + self.rows.len() * size_of::<RowRef>()
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.dropped.is_empty()
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        let key = |row: &RowRef| &arena[row.key.0..row.key.1];
        let Some(first) = self.rows.first().map(key) else {
            return;
        };
        let common = |most, row: &RowRef| {
            first
                .iter()
                .zip(key(row))
                .take(most)
                .take_while(|(a, b)| a == b)
                .count()
        };
        let skip = self.rows.iter().fold(first.len(), common);
        for row in &mut self.rows {
            let mut bytes = [0; 8];
            let rest = &arena[row.key.0 + skip..row.key.1];
            bytes[..rest.len().min(8)].copy_from_slice(&rest[..rest.len().min(8)]);
            row.prefix = u64::from_be_bytes(bytes);
        }
        // Equal prefixes decide nothing: a key may end where another goes on with zeros.
        self.rows.sort_unstable_by(|a, b| {
            let key = |row: &RowRef| &arena[row.key.0..row.key.1];
            a.prefix.cmp(&b.prefix).then_with(|| key(a).cmp(key(b)))
        });
    }

    /// Writes the rows and `meta` as sorted files, mostly one, which become part of the store at one moment. May be
    /// called again after an error.
    pub fn write(&mut self, store: &BlockStore, meta: &Meta) -> Result<(), StoreError> {
        self.sort();
        let (mut files, mut left) = (Vec::new(), &self.rows[..]);
        while files.is_empty() || !left.is_empty() {
            let path = store.path().join(format!("flush-rows-{}.sst", files.len()));
            let mut writer = SstFileWriter::create(store.options());
            writer.open(&path)?;
            if files.is_empty() {
                // The kind byte of the mark sorts before every other row.
                writer.put(rows::META_KEY, meta.encode()?)?;
                // Rows of this very file stay, and so do those of the files that follow: they count as newer.
                for (from, to) in &self.dropped {
                    writer.delete_range(from, to)?;
                }
            }
            left = self.write_some(&mut writer, left)?;
            writer.finish()?;
            files.push(path);
        }
        crash_point("flush-before-ingest");
        // A crash here is fine: the files are not yet part of the store, and the journal still has their rows.
        store.ingest(&files)?;
        crash_point("flush-after-ingest");
        Ok(())
    }

    /// Writes the first of these rows into a file, as many as it is to hold; returns the others.
    fn write_some<'a>(
        &self,
        writer: &mut SstFileWriter<'_>,
        rows: &'a [RowRef],
    ) -> Result<&'a [RowRef], StoreError> {
        let mut bytes = 0;
        for (at, row) in rows.iter().enumerate() {
            if bytes >= FILE_BYTES {
                return Ok(&rows[at..]);
            }
            let key = &self.arena[row.key.0..row.key.1];
            bytes += key.len();
            match row.value {
                Some((start, end)) => {
                    writer.put(key, &self.arena[start..end])?;
                    bytes += end - start;
                }
                None => writer.delete(key)?,
            }
        }
        Ok(&[])
    }
}

/// Removes every row of physical databases and every row of what was discarded, those of the expiry index too; `meta`
/// says so in the same file.
pub fn wipe(
    store: &BlockStore,
    databases: &[u8],
    discards: &[Discard],
    meta: &Meta,
) -> Result<(), StoreError> {
    let path = store.path().join("flush-wipe.sst");
    let mut writer = SstFileWriter::create(store.options());
    writer.open(&path)?;
    writer.put(rows::META_KEY, meta.encode()?)?;
    let of_databases = databases
        .iter()
        .flat_map(|db| [rows::db_bounds(*db), rows::element_db_bounds(*db)]);
    let of_discards = discards.iter().flat_map(Discard::row_intervals);
    let mut intervals: Vec<_> = of_databases.chain(of_discards).collect();
    intervals.sort();
    for (from, to) in intervals {
        writer.delete_range(from, to)?;
    }
    // The index is in the order of time, so the rows of some databases or ranges are anywhere in it.
    let (from, to) = rows::expiry_bounds(i64::MAX);
    let gone =
        |db: u8, key: &[u8]| databases.contains(&db) || discards.iter().any(|discard| discard.covers(key));
    for row in store.scan(from, to, false) {
        let (row_key, _) = row?;
        if rows::split_expiry_key(&row_key).is_some_and(|(_, db, key)| gone(db, key)) {
            writer.delete(row_key)?;
        }
    }
    writer.finish()?;
    crash_point("wipe-before-ingest");
    store.ingest(&[path])?;
    crash_point("wipe-after-ingest");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(mark: u64) -> Meta {
        Meta::new(mark, mark, (0..16).collect(), Vec::new())
    }

    #[test]
    fn rows_and_mark_enter_together_and_deletions_win_over_older_files() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = BlockStore::open(dir.path(), 1 << 20).expect("open");
        let mut batch = Batch::default();
        for key in [b"b", b"a", b"c"] {
            let value = |out: &mut Vec<u8>| rows::encode_string_row(out, 5, None, key);
            batch.push(|out| rows::push_object_key(out, 0, key), Some(value));
        }
        batch.write(&store, &meta(5)).expect("write");
        let mut second = Batch::default();
        second.push(
            |out| rows::push_object_key(out, 0, b"b"),
            None::<fn(&mut Vec<u8>)>,
        );
        second.write(&store, &meta(9)).expect("write");
        assert_eq!(store.meta().expect("meta").expect("present").mark, 9);
        assert!(store.read(&rows::object_key(0, b"b")).expect("get").is_none());
        let (from, to) = rows::db_bounds(0);
        let keys = |reverse| -> Vec<u8> {
            store
                .scan(from.clone(), to.clone(), reverse)
                .map(|row| row.expect("row").0[2])
                .collect()
        };
        assert_eq!((keys(false), keys(true)), (b"ac".to_vec(), b"ca".to_vec()));
    }

    #[test]
    fn a_wipe_removes_one_database_and_later_rows_stand() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = BlockStore::open(dir.path(), 1 << 20).expect("open");
        let put = |db: u8| {
            let mut batch = Batch::default();
            let value = |out: &mut Vec<u8>| rows::encode_string_row(out, 5, None, b"v");
            batch.push(|out| rows::push_object_key(out, db, b"k"), Some(value));
            let index_key = |out: &mut Vec<u8>| rows::push_expiry_key(out, 9, db, b"k");
            batch.push(index_key, Some(|_: &mut Vec<u8>| {}));
            batch.write(&store, &meta(1)).expect("write");
        };
        put(0);
        put(1);
        wipe(&store, &[0], &[], &meta(2)).expect("wipe");
        assert!(store.read(&rows::object_key(0, b"k")).expect("get").is_none());
        let (from, to) = rows::expiry_bounds(i64::MAX);
        let index: Vec<_> = store
            .scan(from, to, false)
            .map(|row| row.expect("row").0)
            .collect();
        let databases: Vec<_> = index
            .iter()
            .map(|row| rows::split_expiry_key(row).map(|(_, db, _)| db))
            .collect();
        assert_eq!(databases, [Some(1)]);
        assert!(store.read(&rows::object_key(1, b"k")).expect("get").is_some());
        put(0);
        assert!(store.read(&rows::object_key(0, b"k")).expect("get").is_some());
        let discard = Discard {
            range: "r".into(),
            intervals: vec![(b"k".to_vec(), Some(b"l".to_vec()))],
            at: 9,
            wiped: false,
        };
        wipe(&store, &[], &[discard], &meta(3)).expect("wipe");
        for db in [0, 1] {
            assert!(store.read(&rows::object_key(db, b"k")).expect("get").is_none());
        }
        let (from, to) = rows::expiry_bounds(i64::MAX);
        assert_eq!(store.scan(from, to, false).count(), 0);
    }
}
