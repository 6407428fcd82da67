//! The whole keyspace as an RDB file, as it is at one moment, while commands go on.
//!
//! ```text
//! moment:  no flush runs, every shard is locked      each shard owes the snapshot its entries; the store is frozen
//! then:    whoever locks a shard that owes, pays     its entries are written before anything in it can change
//!          this thread locks the others in turn
//!          the rows of the frozen store follow       but those of keys that were dirty at the moment
//! ```
//!
//! What a shard has sealed is written with its entries. The generations that were there at the moment are kept until the
//! snapshot is made.
//!
//! Guarantees: the file holds every key as it was at the moment, each once; nothing is copied but the piece of the file
//! that is being written and the names of dirty keys, of which a flush just before has left few. The file comes to its
//! name when it is whole and on the disk.
//!
//! Writing into the file while a shard is locked is the one exception from the rule that nobody waits for a disk there:
//! it goes to the system's cache, and a disk that cannot follow slows writers down instead of filling the memory.

use super::discards::stands_against;
use super::entry::{DIRTY, Entry, STORED};
use super::owed::Owed;
use super::range::DBS;
use super::seal::SealedRows;
use super::sealed::Slot;
use super::shard::ShardState;
use super::{Keyspace, StoreError};
use crate::object::codec::file::FileWriter;
use crate::object::codec::{self, Form, Value, ValueRef};
use crate::object::pages::{Kind, Pages, Summary};
use crate::store::block::Frozen;
use crate::store::rows::{self, Row};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::time::Instant;

/// What is known of snapshots made.
pub struct SnapshotState {
    /// Held while one is made.
    one: Mutex<()>,
    /// Somebody has been told that one is made.
    announced: AtomicBool,
    /// The server ends: what is being made is given up.
    stopping: AtomicBool,
    pub last_failed: AtomicBool,
    /// Unix milliseconds of the last success; 0 for none.
    pub last_success_ms: AtomicU64,
    /// Milliseconds that the last one took; -1 for none.
    pub last_took_ms: AtomicI64,
    pub saves: AtomicU64,
}

impl Default for SnapshotState {
    fn default() -> SnapshotState {
        SnapshotState {
            one: Mutex::default(),
            announced: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            last_failed: AtomicBool::new(false),
            last_success_ms: AtomicU64::new(0),
            last_took_ms: AtomicI64::new(-1),
            saves: AtomicU64::new(0),
        }
    }
}

impl SnapshotState {
    /// One is being made, or is about to be.
    pub fn is_running(&self) -> bool {
        self.one.is_locked() || self.announced.load(SeqCst)
    }

    /// Gives up the snapshot that is being made, if there is one, and waits until it is gone.
    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
        drop(self.one.lock());
    }

    fn check_stop(&self) -> Result<(), StoreError> {
        match self.stopping.load(Relaxed) {
            true => Err(StoreError::new("the server is shutting down")),
            false => Ok(()),
        }
    }
}

/// What a file says beside the keys, and in which form it is.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pub form: Form,
    pub server_version: &'a str,
    /// The sources of the libraries of functions.
    pub libraries: &'a [Vec<u8>],
}

impl Frame<'_> {
    /// A file with everything but keys.
    fn begin<W: Write>(&self, to: W) -> io::Result<FileWriter<W>> {
        let mut file = FileWriter::new(to, self.form);
        let seconds = (crate::journal::unix_ms() / 1000).to_string();
        for (name, value) in [
            ("redis-ver", self.server_version),
            ("redis-bits", "64"),
            ("ctime", &seconds),
            ("aof-base", "0"),
        ] {
            file.fact(name, value.as_bytes())?;
        }
        self.libraries
            .iter()
            .try_for_each(|source| file.library(source))?;
        Ok(file)
    }

    /// A whole file without keys.
    pub fn write_alone<W: Write>(&self, to: W) -> io::Result<W> {
        self.begin(to)?.finish()
    }
}

/// A snapshot that was made.
#[derive(Debug, Clone, Copy)]
pub struct Saved {
    pub keys: u64,
    pub bytes: u64,
}

/// A snapshot under way: where shards write their entries.
pub struct Snapshot {
    /// Physical → logical database at the moment.
    logical: [u8; DBS],
    sealed: SealedRows,
    output: Mutex<SnapshotOutput>,
}

struct SnapshotOutput {
    file: FileWriter<File>,
    keys: u64,
    /// Keys that differed from the store at the moment: their rows are not of it.
    dirty: HashSet<(u8, Box<[u8]>), foldhash::fast::RandomState>,
    /// Paged collections that differed from the store.
    changed: HashMap<(u8, Box<[u8]>), Changed>,
    failed: Option<io::Error>,
}

/// How a paged collection differed from the store.
struct Changed {
    expiry: Option<i64>,
    summary: Summary,
    /// Values of elements by their places; none of those that are gone.
    elements: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// All rows between these places are gone.
    dropped: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Changed {
    fn of(entry: &Entry, pages: &dyn Pages) -> Changed {
        let mut elements = BTreeMap::new();
        pages.each_change(&mut |place, value| {
            elements.insert(place.to_vec(), value.map(<[u8]>::to_vec));
        });
        Changed {
            expiry: entry.expiry(),
            summary: pages.summary(),
            elements,
            dropped: pages.dropped(),
        }
    }
}

impl Owed for Snapshot {
    /// Writes the entries of a shard that is locked, but for those that equal their rows. An error is kept for the end.
    fn pay(&self, state: &mut ShardState, shard: usize) {
        let output = &mut *self.output.lock();
        for entry in state.iter() {
            if output.failed.is_some() {
                return;
            }
            let dirty = entry.store_has(DIRTY) || entry.is_absent();
            if dirty && let Some(pages) = entry.pages() {
                // Its elements are in the frozen store, but for these.
                let changed = Changed::of(entry, pages);
                output.changed.insert((entry.db(), entry.key().into()), changed);
                continue;
            }
            if dirty {
                output.dirty.insert((entry.db(), entry.key().into()));
            }
            if entry.is_absent() || entry.store_has(STORED) && !dirty {
                continue;
            }
            let value = entry
                .object()
                .map_or_else(|| ValueRef::String(entry.value()), ValueRef::Object);
            let db = self.logical[entry.db() as usize].into();
            let written = output.file.key(db, entry.key(), entry.expiry(), value);
            output.keys += 1;
            output.failed = written.err();
        }
        self.take_sealed(state, shard, output);
    }
}

impl Snapshot {
    /// Writes the keys that the shard has sealed.
    fn take_sealed(&self, state: &ShardState, shard: usize, output: &mut SnapshotOutput) {
        let Some(sealed) = &state.sealed else { return };
        let slots: Vec<Slot> = sealed.directory.iter().filter(|slot| slot.live).collect();
        let mut failed = None;
        let read = self.sealed.visit(shard, &slots, |slot, _, key, row, _| {
            if failed.is_some() || output.failed.is_some() {
                return;
            }
            let (db, expiry) = (self.logical[slot.db as usize], row.expiry);
            let written = if row.is_object {
                let row = Row::of_object(expiry, row.payload);
                output.row(db, (slot.db, key), &row)
            } else {
                output.keys += 1;
                let value = ValueRef::String(row.payload);
                let written = output.file.key(db.into(), key, expiry, value);
                written.map_err(StoreError::new)
            };
            failed = written.err();
        });
        if let Some(error) = failed.or(read.err()) {
            output.failed.get_or_insert(io::Error::other(error));
        }
    }
}

/// That a snapshot will be made; until this is dropped.
pub struct Announced(Arc<Keyspace>);

impl Drop for Announced {
    fn drop(&mut self) {
        self.0.snapshots.announced.store(false, SeqCst);
    }
}

impl Keyspace {
    /// From here on a snapshot is under way for everybody who asks. None when one is already.
    pub fn announce_snapshot(self: &Arc<Keyspace>) -> Option<Announced> {
        if self.snapshots.one.is_locked() || self.snapshots.announced.swap(true, SeqCst) {
            return None;
        }
        Some(Announced(self.clone()))
    }

    /// Writes a snapshot to the file of this name in a folder, in place of what was there. None when one is under way
    /// already.
    pub fn save(&self, dir: &Path, name: &str, frame: Frame<'_>) -> Option<Result<Saved, StoreError>> {
        let _one = self.snapshots.one.try_lock()?;
        let began = Instant::now();
        let made = self.write_snapshot(dir, name, frame);
        let state = &self.snapshots;
        state.last_failed.store(made.is_err(), Relaxed);
        match &made {
            Ok(saved) => {
                let took = began.elapsed();
                state.last_success_ms.store(crate::journal::unix_ms(), Relaxed);
                state.last_took_ms.store(took.as_millis() as i64, Relaxed);
                state.saves.fetch_add(1, Relaxed);
                log::info!(
                    "snapshot: {} keys, {} bytes in {:.3} s",
                    saved.keys,
                    saved.bytes,
                    took.as_secs_f64()
                );
            }
            Err(error) => log::error!("snapshot: {error}"),
        }
        Some(made)
    }

    /// Writes a snapshot into a file of the caller's.
    pub fn save_into(&self, file: File, frame: Frame<'_>) -> Result<Saved, StoreError> {
        let one = self.snapshots.one.try_lock();
        let _one = one.ok_or_else(|| StoreError::new("Background save already in progress"))?;
        self.fill_snapshot(file, frame)
    }

    fn write_snapshot(&self, dir: &Path, name: &str, frame: Frame<'_>) -> Result<Saved, StoreError> {
        let temporary = dir.join(format!("temp-{}.rdb", std::process::id()));
        let made = File::create(&temporary)
            .map_err(StoreError::new)
            .and_then(|file| self.fill_snapshot(file, frame));
        let placed = made.and_then(|saved| {
            std::fs::rename(&temporary, dir.join(name)).map_err(StoreError::new)?;
            // So that the name is on the disk, too.
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(StoreError::new)?;
            Ok(saved)
        });
        if placed.is_err() {
            // It may not have been made at all.
            let _ = std::fs::remove_file(&temporary);
        }
        placed.map_err(|error| StoreError::new(format_args!("{}: {error}", dir.join(name).display())))
    }

    fn fill_snapshot(&self, file: File, frame: Frame<'_>) -> Result<Saved, StoreError> {
        let file = frame.begin(file).map_err(StoreError::new)?;
        let (snapshot, wiped_at, discards, frozen) = {
            // While a flush runs, what is stored and what is not cannot be told from the entries alone.
            let _no_flush = self.stored_now()?;
            let mut guards = self.lock_all();
            let snapshot = Arc::new(self.snapshot_of(file));
            Keyspace::owe(&mut guards, &snapshot);
            let wiped_at: [u64; DBS] = std::array::from_fn(|db| self.wiped_at[db].load(Relaxed));
            (snapshot, wiped_at, self.discards(), self.store.freeze())
        };
        self.pay_all();
        self.snapshots.check_stop()?;
        // Every shard has paid and has let go of its reference: nobody else writes from here on.
        let mut output = snapshot.output.lock();
        let stored = (0..DBS as u8).try_for_each(|db| {
            let (from, to) = rows::db_bounds(db);
            for row in frozen.scan(from, to) {
                self.snapshots.check_stop()?;
                let (row_key, value) = row?;
                let row = Row::decode(&value).map_err(StoreError::new)?;
                if row.offset > wiped_at[db as usize]
                    && let Some((_, key)) = rows::split_object_key(&row_key)
                    && stands_against(&discards, key, row.offset)
                {
                    let logical = snapshot.logical[db as usize];
                    match row.summary().map_err(StoreError::new)? {
                        Some(summary) => output.paged_row(&frozen, logical, (db, key), (&row, summary))?,
                        None => output.row(logical, (db, key), &row)?,
                    }
                }
            }
            Ok::<(), StoreError>(())
        });
        drop(output);
        stored?;
        finish(snapshot)
    }

    fn snapshot_of(&self, file: FileWriter<File>) -> Snapshot {
        let mut logical = [0; DBS];
        for db in 0..DBS as u8 {
            logical[self.physical(db) as usize] = db;
        }
        Snapshot {
            logical,
            sealed: self.sealed_rows(),
            output: Mutex::new(SnapshotOutput {
                file,
                keys: 0,
                dirty: HashSet::default(),
                changed: HashMap::new(),
                failed: None,
            }),
        }
    }
}

impl SnapshotOutput {
    /// Writes the row of a key, unread where it can be.
    fn row(&mut self, logical: u8, key: (u8, &[u8]), row: &Row<'_>) -> Result<(), StoreError> {
        if let Some(error) = self.failed.take() {
            return Err(StoreError::new(error));
        }
        if !self.dirty.is_empty() && self.dirty.contains(&(key.0, key.1.into())) {
            return Ok(());
        }
        let (db, key, expiry) = (logical.into(), key.1, row.expiry);
        let object = row.object().map_err(StoreError::new)?;
        let taken = self.file.serialized_key(db, key, expiry, &object);
        if !taken.map_err(StoreError::new)? {
            let value = codec::decode(&object, &Default::default()).map_err(StoreError::new)?;
            let value = match &value {
                Value::String(text) => ValueRef::String(text),
                Value::Object(object) => ValueRef::Object(object),
            };
            self.file.key(db, key, expiry, value).map_err(StoreError::new)?;
        }
        self.keys += 1;
        Ok(())
    }

    /// Writes a key whose value is a paged collection, element by element.
    fn paged_row(
        &mut self,
        frozen: &Frozen<'_>,
        logical: u8,
        (db, key): (u8, &[u8]),
        (row, summary): (&Row<'_>, Summary),
    ) -> Result<(), StoreError> {
        if let Some(error) = self.failed.take() {
            return Err(StoreError::new(error));
        }
        if self.dirty.contains(&(db, key.into())) {
            return Ok(());
        }
        let changed = self.changed.remove(&(db, Box::from(key)));
        let changed = changed.unwrap_or_else(|| Changed {
            expiry: row.expiry,
            summary: summary.clone(),
            elements: BTreeMap::new(),
            dropped: Vec::new(),
        });
        let (expiry, len) = (changed.expiry, changed.summary.len);
        let begun = self
            .file
            .collection(logical.into(), key, expiry, (summary.kind, len));
        begun.map_err(StoreError::new)?;
        let mut written = 0;
        let mut write = |place: &[u8], value: &[u8]| {
            written += 1;
            let taken = self.file.element(summary.kind, place, value);
            taken.map_err(StoreError::new)
        };
        // Two sequences in the order of places: of one place, what has changed counts.
        let (first, end) = summary.kind.listed();
        let is_listed = |place: &Vec<u8>| first <= *place && end.as_ref().is_none_or(|end| place < end);
        let changes = changed.elements.into_iter();
        let mut changes = changes.filter(|(place, _)| is_listed(place)).peekable();
        let bounds = rows::collection_bounds(db, key, summary.version);
        let (from, to) = rows::place_bounds(&bounds, &first, end.as_deref());
        for stored in frozen.scan(from, to) {
            let (row_key, value) = stored?;
            let Some(place) = rows::place_of(&row_key, &bounds.0) else {
                continue;
            };
            let mut is_stale = changed
                .dropped
                .iter()
                .any(|(from, to)| from.as_slice() <= place && place < to.as_slice());
            while let Some((changed, value)) = changes.next_if(|(changed, _)| changed.as_slice() <= place) {
                is_stale |= changed == place;
                if let Some(value) = value {
                    write(&changed, &value)?;
                }
            }
            if !is_stale {
                write(place, &value)?;
            }
        }
        for (place, value) in changes {
            if let Some(value) = value {
                write(&place, &value)?;
            }
        }
        if written != len {
            // The file says how many there are before it says which.
            return Err(StoreError::new(
                "a paged collection has not as many elements as it says",
            ));
        }
        if summary.kind == Kind::Stream {
            let facts = codec::decode_stream_facts(&changed.summary.facts).map_err(StoreError::new)?;
            self.file.end_stream(&facts).map_err(StoreError::new)?;
        }
        self.keys += 1;
        Ok(())
    }
}

/// A file to write and read in a folder, which is gone when it is closed.
pub fn nameless_file(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!("temp-{}-{:x}.rdb", std::process::id(), fastrand::u64(..)));
    let file = File::create_new(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Removes what snapshots of servers that crashed have left in a data folder.
pub fn remove_left_over(dir: &Path) -> io::Result<()> {
    for item in std::fs::read_dir(dir)?.flatten() {
        let name = item.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("temp-") && name.ends_with(".rdb") {
            std::fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

/// Ends the file and brings it to the disk.
fn finish(snapshot: Arc<Snapshot>) -> Result<Saved, StoreError> {
    let snapshot = Arc::into_inner(snapshot).ok_or_else(|| StoreError::new("a shard still writes"))?;
    let output = snapshot.output.into_inner();
    if let Some(error) = output.failed {
        return Err(StoreError::new(error));
    }
    let (keys, bytes) = (output.keys, output.file.bytes());
    let file = output.file.finish().map_err(StoreError::new)?;
    file.sync_all().map_err(StoreError::new)?;
    Ok(Saved { keys, bytes })
}
