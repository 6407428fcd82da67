//! Dirty entries become sorted rows of the store, in the background.
//!
//! A flush takes the journal's end as its mark-to-be, then visits every shard: each dirty entry becomes a row and is
//! clean. Effects with offsets below the mark were applied before their shard was visited, so they are in the rows;
//! later ones may be too, and each row carries its shard's newest offset so that replay can tell.
//!
//! ```text
//!   mark-to-be ──┐
//!                v
//!   shard 0 1 2 3 ... visited, rows collected      commands go on in the shards not visited and in those done
//!   journal synced up to the newest offset in the portion
//!   portion sorted, written, ingested              (again from "visited" while shards are left)
//!   last portion carries the mark; segments below it are removed; tombstones it held leave memory
//! ```
//!
//! Guarantees: an entry is dropped from memory only when its row is in the store (`is_droppable`); a portion that
//! cannot be written is kept and tried again, so nothing is lost when a disk is full; a flushed database is wiped
//! from the store after the rows that it still had and before the ones it got since.
//!
//! Of a paged collection only elements that changed are written, with its row in the same file: so that row's offset is
//! also that of its elements. Elements of one that is no more go by a range deletion in the file that says so.
//!
//! The store's expiry index has exactly one row for every object row with an expiry, and no other: both are written by
//! the same file, and so is the removal of the row of an expiry that was changed, taken away or came true. A crash
//! therefore never parts them.

use super::entry::{DIRTY, Entry, FLUSH_PARITY, FLUSHED, STALE_EXPIRY, STORED, STORED_EXPIRES, STORED_INDEX};
use super::paging::push_elements;
use super::range::DBS;
use super::shard::ShardState;
use super::{Keyspace, StoreError, held};
use crate::config::Compression;
use crate::journal::{crash_point, distance};
use crate::object::codec;
use crate::store::flush::{Batch, Meta, RangeMeta, wipe};
use crate::store::rows;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU64};
use std::time::Duration;

/// Bytes of rows collected before they are written, at most: what a flush needs of memory beyond the entries.
const PORTION: u64 = 64 << 20;
const POLL: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(500);
/// Bit of `phase` that is set while a flush runs; the lowest bit is its parity.
const RUNNING: u8 = 2;

#[derive(Default)]
pub struct FlushState {
    requests: Mutex<Requests>,
    wake: Condvar,
    done: Condvar,
    phase: AtomicU8,
    dirty_bytes: AtomicI64,
    journal_flush_size: AtomicU64,
    flush_dirty_size: AtomicU64,
    /// Bytes of a portion, and those of the one that is collected or written.
    portion_most: AtomicU64,
    portion_bytes: AtomicU64,
    /// Journal offset at which the last flush began.
    mark: AtomicU64,
    /// Physical databases whose rows have to be wiped, as bits. Set while every shard is locked.
    wipes: AtomicU16,
    /// Rows of what was discarded have to be wiped. Set while every shard is locked.
    discards: AtomicBool,
    /// The mark row has to be written although nothing is dirty: the ranges changed.
    forced: AtomicBool,
    stopping: AtomicBool,
    failure: Mutex<Option<Arc<str>>>,
    failed: AtomicBool,
    pub last_success_ms: AtomicU64,
    pub flushes: AtomicU64,
    pub rows_written: AtomicU64,
    /// Files that came into the store: counted before anything is taken from memory because of them.
    ingests: AtomicU64,
    /// Bytes of the rows, before any packing.
    pub bytes_flushed: AtomicU64,
    /// What the store holds, as its newest mark row says. Held for the whole of a flush.
    stored: Mutex<Stored>,
}

#[derive(Default)]
struct Requests {
    asked: u64,
    done: u64,
    thread_ended: bool,
}

/// Counts of rows, by range name.
#[derive(Default)]
pub struct Stored {
    pub mark: u64,
    /// No row has a higher offset.
    pub newest: u64,
    /// At the mark: logical database → physical database.
    pub databases: Vec<u8>,
    pub counts: HashMap<String, ([i64; DBS], [i64; DBS])>,
    /// The counts are not right yet: see `recount`.
    pub recount: bool,
}

impl FlushState {
    pub(super) fn set_sizes(&self, journal: u64, dirty: u64) {
        self.journal_flush_size.store(journal, Relaxed);
        self.flush_dirty_size.store(dirty, Relaxed);
    }

    pub(super) fn bound_portion(&self, bytes: u64) {
        self.portion_most.store(bytes.min(PORTION), Relaxed);
    }

    pub(super) fn portion_bytes(&self) -> u64 {
        self.portion_bytes.load(Relaxed)
    }

    /// Counts an entry that became dirty.
    #[inline]
    pub fn note_dirty(&self, bytes: usize) {
        self.dirty_bytes.fetch_add(bytes as i64, Relaxed);
    }

    pub fn dirty_bytes(&self) -> i64 {
        self.dirty_bytes.load(Relaxed).max(0)
    }

    pub fn mark(&self) -> u64 {
        self.mark.load(Relaxed)
    }

    /// The store holds everything up to this offset.
    pub(super) fn begin_at(&self, mark: u64) {
        self.mark.store(mark, Relaxed);
    }

    pub fn is_running(&self) -> bool {
        self.phase.load(Relaxed) & RUNNING != 0
    }

    pub(super) fn note_wipe(&self, db: u8) {
        self.wipes.fetch_or(1 << db, SeqCst);
    }

    /// Databases, or what was discarded, are still to be wiped from the store.
    pub(super) fn has_wipes(&self) -> bool {
        self.wipes.load(SeqCst) != 0 || self.discards.load(SeqCst)
    }

    pub(super) fn ingests(&self) -> u64 {
        self.ingests.load(SeqCst)
    }

    pub(super) fn note_discard(&self) {
        self.discards.store(true, SeqCst);
    }

    pub(super) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock()
    }

    /// As `stored`, which waits for a running flush; none when `give_up` says so first.
    pub(super) fn stored_unless(&self, give_up: impl Fn() -> bool) -> Option<MutexGuard<'_, Stored>> {
        loop {
            match self.stored.try_lock_for(POLL) {
                None if give_up() => return None,
                None => {}
                stored => return stored,
            }
        }
    }

    #[inline]
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        if self.failed.load(Relaxed) {
            self.failure.lock().clone()
        } else {
            None
        }
    }

    /// True when the store holds a row of this entry's key, perhaps an older one. `STORED` alone also stands for rows
    /// that the running flush has taken and not written yet.
    pub(super) fn has_row(&self, entry: &Entry) -> bool {
        let phase = self.phase.load(Relaxed);
        let parity = phase & 1 != 0;
        let in_flight =
            phase & RUNNING != 0 && entry.store_has(FLUSHED) && entry.store_has(FLUSH_PARITY) == parity;
        entry.store_has(STORED) && !in_flight
    }

    /// True when the row of this entry is in the store and equal to it.
    pub(super) fn is_droppable(&self, entry: &Entry) -> bool {
        self.has_row(entry) && !entry.store_has(DIRTY) && !entry.is_absent()
    }

    /// Makes the next flush write its mark row whatever is dirty.
    pub(super) fn force(&self) {
        self.forced.store(true, SeqCst);
    }

    /// A flush is under way, or has been asked for.
    pub fn is_busy(&self) -> bool {
        let requests = self.requests.lock();
        requests.asked != requests.done || self.is_running()
    }

    /// Asks for a flush and returns at once.
    pub fn request(&self) {
        self.requests.lock().asked += 1;
        self.wake.notify_one();
    }

    /// As `Keyspace::flush_now`, until `failing` says why it cannot be.
    fn run_and_wait(&self, failing: impl Fn() -> Option<Arc<str>>) -> Result<(), StoreError> {
        if held::is_active() {
            // The flush would wait for the shards that this thread holds.
            return Err(StoreError::new("this cannot be done within a transaction"));
        }
        let mut requests = self.requests.lock();
        requests.asked += 1;
        let mine = requests.asked;
        self.wake.notify_one();
        while requests.done < mine {
            if requests.thread_ended {
                return Err(StoreError::new("the server is shutting down"));
            }
            if let Some(why) = failing() {
                return Err(StoreError::new(why));
            }
            self.done.wait_for(&mut requests, POLL);
        }
        Ok(())
    }

    /// A last flush, and the end of the flush thread.
    pub(super) fn stop(&self) -> Result<(), StoreError> {
        self.stopping.store(true, SeqCst);
        let mut requests = self.requests.lock();
        requests.asked += 1;
        self.wake.notify_one();
        while !requests.thread_ended {
            self.done.wait(&mut requests);
        }
        match self.failure() {
            Some(why) => Err(StoreError::new(why)),
            None => Ok(()),
        }
    }

    fn note_failure(&self, error: &StoreError) {
        let why: Arc<str> = format!("flush: {error}").into();
        let mut failure = self.failure.lock();
        if failure.as_ref() != Some(&why) {
            log::error!("{why}; writes to durable ranges are refused until it succeeds");
        }
        *failure = Some(why);
        self.failed.store(true, SeqCst);
    }

    fn note_success(&self) {
        if self.failed.swap(false, SeqCst) {
            *self.failure.lock() = None;
            log::info!("flush: the disk takes writes again");
        }
    }
}

/// Rows of one flush, collected so far, and what has to be done once they are in the store.
#[derive(Default)]
struct Portion {
    batch: Batch,
    /// (shard, hash) of the tombstones in it.
    tombstones: Vec<(usize, u64)>,
    /// Rows and tombstones of the shard that is locked. They come to the others once it is unlocked: to make room for 64
    /// MB of them is to move them, and nobody must wait for that.
    visited: Batch,
    visited_tombstones: Vec<(usize, u64)>,
    /// What it changes, by range name.
    deltas: HashMap<String, Delta>,
    /// Rows carry offsets up to this one.
    newest: u64,
    /// The earliest expiry in it.
    earliest: Option<i64>,
    /// Where the elements of collections were that are no more.
    dropped: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a portion changes in a range.
#[derive(Default)]
struct Delta {
    /// Rows and rows with expiry that it adds, by database.
    rows: [(i64, i64); DBS],
    bytes: usize,
}

impl Portion {
    /// The elements between these row keys go.
    fn note_pages(&mut self, bounds: (Vec<u8>, Vec<u8>)) {
        self.batch.drop_between(bounds.clone());
        self.dropped.push(bounds);
    }

    fn take_visited(&mut self) {
        self.batch.append(&mut self.visited);
        self.tombstones.append(&mut self.visited_tombstones);
    }
}

impl Keyspace {
    /// Flushes everything that is dirty now; returns when it is in the store, or with why it cannot be: the journal is
    /// synced before what it says comes into the store.
    pub fn flush_now(&self) -> Result<(), StoreError> {
        self.flush.run_and_wait(|| self.failure())
    }

    /// What the store holds, once no flush is under way; or why the one that is does not come to its end.
    pub(super) fn stored_now(&self) -> Result<MutexGuard<'_, Stored>, StoreError> {
        let stored = self.flush.stored_unless(|| self.failure().is_some());
        stored.ok_or_else(|| StoreError::new(self.failure().unwrap_or_else(|| "the disk refused".into())))
    }

    /// The flush thread: runs until `stop`.
    pub fn flush_loop(&self) {
        let state = &self.flush;
        loop {
            let asked = {
                let mut requests = state.requests.lock();
                if requests.asked == requests.done && !self.flush_is_due() {
                    state.wake.wait_for(&mut requests, POLL);
                }
                requests.asked
            };
            let stopping = state.stopping.load(SeqCst);
            if asked != state.requests.lock().done || self.flush_is_due() {
                let finished = self.flush_once();
                let mut requests = state.requests.lock();
                if finished {
                    requests.done = asked;
                }
                state.done.notify_all();
            }
            if stopping {
                state.requests.lock().thread_ended = true;
                state.done.notify_all();
                return;
            }
        }
    }

    fn flush_is_due(&self) -> bool {
        let state = &self.flush;
        let journal = self
            .journal()
            .map_or(0, |journal| distance(state.mark.load(Relaxed), journal.end()));
        let most = self.limits.maxmemory.load(Relaxed);
        let pressed = most > 0 && state.dirty_bytes() as u64 > most / 8;
        journal > state.journal_flush_size.load(Relaxed)
            || state.dirty_bytes() as u64 > state.flush_dirty_size.load(Relaxed)
            || pressed
    }

    /// One flush of everything dirty. False when the server stops before the disk takes it.
    fn flush_once(&self) -> bool {
        let state = &self.flush;
        let Some(journal) = self.journal() else {
            return true;
        };
        let mut stored = state.stored.lock();
        let parity = (state.phase.load(Relaxed) & 1) ^ 1;
        let (mark, databases) = {
            // With a shard locked no SWAPDB is under way: mark and databases are of one moment.
            let _guard = self.shards[0].lock();
            state.phase.store(RUNNING | parity, SeqCst);
            let databases: Vec<u8> = (0..DBS as u8).map(|db| self.physical(db)).collect();
            (journal.end(), databases)
        };
        let nothing = mark == stored.mark && state.dirty_bytes() == 0 && !state.has_wipes();
        let forced = state.forced.swap(false, SeqCst);
        if nothing && !forced {
            state.phase.store(parity, SeqCst);
            return true;
        }
        state.dirty_bytes.store(0, Relaxed);
        let mut portion = Portion::default();
        for shard in 0..self.shards.len() {
            loop {
                let mut guard = self.shards[shard].lock();
                // Set only while every shard is locked, so what is seen here holds for this visit.
                if !state.has_wipes() {
                    self.collect(shard, &mut guard, parity != 0, &mut portion);
                    drop(guard);
                    portion.take_visited();
                    break;
                }
                drop(guard);
                let rows = std::mem::take(&mut portion);
                if !(self.write_portion(rows, &mut stored, None) && self.wipe_what_is_gone(&mut stored)) {
                    return false;
                }
            }
            let bytes = portion.batch.memory_bytes() as u64;
            state.portion_bytes.store(bytes, Relaxed);
            if bytes >= state.portion_most.load(Relaxed) {
                let rows = std::mem::take(&mut portion);
                if !self.write_portion(rows, &mut stored, None) {
                    return false;
                }
            }
        }
        if !self.write_portion(portion, &mut stored, Some((mark, databases))) {
            return false;
        }
        state.portion_bytes.store(0, Relaxed);
        state.phase.store(parity, SeqCst);
        state.begin_at(mark);
        state.flushes.fetch_add(1, Relaxed);
        state.last_success_ms.store(crate::journal::unix_ms(), Relaxed);
        self.forget_discards(mark);
        crash_point("flush-before-trim");
        // A crash here is fine: segments below the mark are skipped and removed by the next flush.
        if let Err(error) = journal.remove_below(mark) {
            log::warn!("journal: old segments could not be removed: {error}");
        }
        true
    }

    /// Turns the dirty entries of a shard into rows.
    fn collect(&self, shard: usize, state: &mut ShardState, parity: bool, portion: &mut Portion) {
        for (db, key, version) in state.stale_expiries.take_pages() {
            portion.note_pages(rows::collection_bounds(db, &key, version));
            // A crash here is fine: replay deletes the collection again, which notes its rows again.
            crash_point("page-drop");
        }
        if state.dirty.is_empty() {
            return;
        }
        let offset = state.last_offset;
        portion.newest = portion.newest.max(offset);
        let map = self.ranges.load();
        self.collect_stale(state, &mut portion.visited);
        for hash in std::mem::take(&mut state.dirty) {
            state.visit_like(hash, |entry| {
                if !entry.store_has(DIRTY) {
                    return;
                }
                let range = map.find(entry.key());
                let had = (entry.store_has(STORED), entry.store_has(STORED_EXPIRES));
                let has = (!entry.is_absent(), entry.expiry().is_some());
                // The name is copied for a range's first row only.
                if !portion.deltas.contains_key(range.spec.name.as_str()) {
                    portion.deltas.insert(range.spec.name.clone(), Default::default());
                }
                let Some(deltas) = portion.deltas.get_mut(range.spec.name.as_str()) else {
                    return;
                };
                deltas.rows[entry.db() as usize].0 += i64::from(has.0) - i64::from(had.0);
                deltas.rows[entry.db() as usize].1 += i64::from(has.1) - i64::from(had.1);
                let before = portion.visited.bytes();
                let size = entry.size();
                let is_new = self.page_if_large(entry, range, offset);
                push_rows(
                    &mut portion.visited,
                    entry,
                    offset,
                    range.policy.compression,
                    is_new,
                );
                self.count_bytes(range, size, entry.size());
                deltas.bytes += portion.visited.bytes() - before;
                if let Some(at) = entry.next_expiry() {
                    portion.earliest = Some(portion.earliest.map_or(at, |earliest| earliest.min(at)));
                }
                if entry.is_absent() {
                    portion.visited_tombstones.push((shard, hash));
                }
                entry.store_set(DIRTY, false);
                entry.store_set(STORED, has.0);
                entry.store_set(STORED_EXPIRES, has.1);
                entry.store_set(STORED_INDEX, entry.next_expiry().is_some());
                entry.store_set(FLUSHED, true);
                entry.store_set(FLUSH_PARITY, parity);
            });
        }
    }

    /// The rows of the expiry index that no longer say what their keys do. An entry is there while its row in the store
    /// is: a deleted one as a tombstone. Entries of databases that were flushed are not; the wipe sees to theirs.
    fn collect_stale(&self, state: &mut ShardState, batch: &mut Batch) {
        for (hash, at) in state.stale_expiries.take() {
            state.visit_like(hash, |entry| {
                if !entry.store_has(STALE_EXPIRY) || self.hasher.of(entry) != hash {
                    return;
                }
                entry.store_set(STALE_EXPIRY, false);
                // An expiry that came back has its row written again by this very file.
                if entry.next_expiry() != Some(at) {
                    let index_key =
                        |out: &mut Vec<u8>| rows::push_expiry_key(out, at, entry.db(), entry.key());
                    batch.push(index_key, None::<fn(&mut Vec<u8>)>);
                }
            });
        }
    }

    /// Writes a portion, and the mark if it is the last; tries until it succeeds or the server stops.
    fn write_portion(&self, mut portion: Portion, stored: &mut Stored, mark: Option<(u64, Vec<u8>)>) -> bool {
        if portion.batch.is_empty() && mark.is_none() {
            return true;
        }
        for (name, deltas) in &portion.deltas {
            let counts = stored.counts.entry(name.clone()).or_default();
            for (db, (rows, expires)) in deltas.rows.iter().enumerate() {
                counts.0[db] += rows;
                counts.1[db] += expires;
            }
        }
        if let Some((mark, databases)) = mark {
            (stored.mark, stored.databases) = (mark, databases);
        }
        stored.newest = stored.newest.max(portion.newest);
        // Without this a crash could leave the store ahead of the journal: a state that is no prefix of it.
        let newest = portion.newest.max(stored.mark);
        let meta = self.meta(stored);
        if !self.until_done(|| {
            self.synced_to(newest)
                .and_then(|()| portion.batch.write(&self.store, &meta))
        }) {
            return false;
        }
        self.flush
            .rows_written
            .fetch_add(portion.batch.len() as u64, Relaxed);
        self.flush.ingests.fetch_add(1, SeqCst);
        let map = self.ranges.load();
        for (name, delta) in &portion.deltas {
            let bytes = delta.bytes as u64;
            self.flush.bytes_flushed.fetch_add(bytes, Relaxed);
            if let Some(range) = map.by_name(name) {
                range.counters.flushes.fetch_add(1, Relaxed);
                range.counters.flushed_bytes.fetch_add(bytes, Relaxed);
            }
        }
        self.reclaim_elements(portion.dropped);
        if let Some(at) = portion.earliest {
            self.cold_sweep.note_rows_from(at);
        }
        for (shard, hash) in portion.tombstones {
            let mut state = self.shards[shard].lock();
            let done =
                |entry: &Entry| entry.is_absent() && !entry.store_has(DIRTY) && self.hasher.of(entry) == hash;
            while let Some(entry) = state.remove_if(hash, done) {
                // The row is gone now; who read it before must read again.
                state.epoch = state.epoch.wrapping_add(1);
                self.count_bytes(self.ranges.load().find(entry.key()), entry.size(), 0);
            }
        }
        true
    }

    fn synced_to(&self, offset: u64) -> Result<(), StoreError> {
        match self.journal() {
            Some(journal) if !journal.wait_synced_blocking(offset, || self.flush.stopping.load(SeqCst)) => {
                Err(StoreError::new("the journal cannot be synced"))
            }
            _ => Ok(()),
        }
    }

    /// Removes the rows of databases that were flushed, and of what was discarded.
    fn wipe_what_is_gone(&self, stored: &mut Stored) -> bool {
        let wipes = self.flush.wipes.swap(0, SeqCst);
        self.flush.discards.store(false, SeqCst);
        let mut discards = Vec::clone(&self.discards());
        discards.retain(|discard| !discard.wiped);
        for discard in &discards {
            stored.counts.remove(&discard.range);
        }
        let end = self.journal().map_or(0, |journal| journal.end());
        let databases: Vec<u8> = (0..DBS as u8).filter(|db| wipes & 1 << db != 0).collect();
        for counts in stored.counts.values_mut() {
            for db in &databases {
                (counts.0[*db as usize], counts.1[*db as usize]) = (0, 0);
            }
        }
        // The store is then without rows that effects below took away: it is the state at no offset before them.
        stored.newest = stored.newest.max(end);
        let mut meta = self.meta(stored);
        for discard in &mut meta.discards {
            discard.wiped |= discards.iter().any(|wiped| wiped.at == discard.at);
        }
        let done = self.until_done(|| {
            self.synced_to(end)
                .and_then(|()| wipe(&self.store, &databases, &discards, &meta))
        });
        self.flush.ingests.fetch_add(1, SeqCst);
        if done && !discards.is_empty() {
            self.note_wiped(&discards);
            self.reclaim(&discards);
        }
        done
    }

    fn until_done(&self, mut write: impl FnMut() -> Result<(), StoreError>) -> bool {
        loop {
            match write() {
                Ok(()) => {
                    self.flush.note_success();
                    return true;
                }
                Err(error) => {
                    self.flush.note_failure(&error);
                    if self.flush.stopping.load(SeqCst) {
                        return false;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    /// The mark row for what the store holds.
    fn meta(&self, stored: &Stored) -> Meta {
        let map = self.ranges.load();
        let discards = self.discards();
        let range = |range: &Arc<super::range::Range>| {
            let name = &range.spec.name;
            // Until they are wiped, its rows are counted here still, and do not count.
            let gone = discards
                .iter()
                .any(|discard| !discard.wiped && discard.range == *name);
            let counts = stored.counts.get(name).filter(|_| !gone);
            let (rows, expires) = counts.copied().unwrap_or_default();
            RangeMeta {
                spec: range.spec.clone(),
                rows: rows.to_vec(),
                expires: expires.to_vec(),
            }
        };
        Meta {
            recount: stored.recount,
            discards: Vec::clone(&discards),
            ..Meta::new(
                stored.mark,
                stored.newest,
                stored.databases.clone(),
                map.iter().map(range).collect(),
            )
        }
    }
}

/// The rows of an entry; of a paged collection that was none before, one for every element.
fn push_rows(batch: &mut Batch, entry: &mut Entry, offset: u64, packing: Compression, is_new: bool) {
    push_elements(batch, entry, is_new);
    let entry = &*entry;
    let key = |out: &mut Vec<u8>| rows::push_object_key(out, entry.db(), entry.key());
    if entry.is_absent() {
        batch.push(key, None::<fn(&mut Vec<u8>)>);
        return;
    }
    let object = |out: &mut Vec<u8>| match entry.object() {
        None => codec::encode_string(out, entry.value()),
        Some(object) => codec::encode_object(out, object),
    };
    if let Some(pages) = entry.pages() {
        let summary = pages.summary();
        let row = |out: &mut Vec<u8>| rows::encode_paged_row(out, offset, entry.expiry(), &summary);
        batch.push(key, Some(row));
    } else {
        batch.push(
            key,
            Some(|out: &mut Vec<u8>| rows::encode_row(out, offset, entry.expiry(), object)),
        );
        batch.pack_last(packing);
    }
    if let Some(at) = entry.next_expiry() {
        let index_key = |out: &mut Vec<u8>| rows::push_expiry_key(out, at, entry.db(), entry.key());
        batch.push(index_key, Some(|_: &mut Vec<u8>| {}));
    }
}
