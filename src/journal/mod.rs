//! The journal: the ordered record of every effect on durable ranges.
//!
//! `append` reserves offsets and copies into a ring (see `ring`); a writer thread carries what is contiguous to the
//! current segment; a sync thread makes it durable, within a second or when somebody waits. So one sync covers every
//! record written since the one before: group commit.
//!
//! Guarantees:
//! * Records reach the disk in the order of their offsets, and nothing is in the file before everything below it is.
//! * Everything below `synced()` survives a crash of the machine; what is below `written()`, one of the process.
//! * While records are not in the file, or not synced, for longer than `everysec` allows, `is_late` says so: replies of
//!   such ranges wait until it is done, so that a slow disk never makes a crash take more than it should.
//! * A write or sync that fails loses nothing: `failure()` tells commands to refuse until what was appended has reached
//!   the disk after all. A failed write is tried again; a failed sync is not, see `tail`.

mod follow;
mod history;
mod reader;
pub mod record;
mod retention;
mod ring;
mod segment;
mod tail;
mod writer;

pub use follow::Follower;
pub use history::{distance, lost};
pub use reader::SegmentReader;
pub use retention::{Hold, Retention};
pub use segment::{
    EMPTY, ReadError, ReadSummary, Record, Rejection, Segment, create, file_name, inspect, list, present,
    read, refuse_missing, settle, sync_folder,
};

use parking_lot::{Condvar, Mutex};
use retention::Holds;
use ring::Ring;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tail::Tail;
use tokio::sync::watch;
use writer::Writer;

const RETRY: Duration = Duration::from_millis(200);
/// How old a record is, at least, when it is synced although nobody waits: the rest of a second is for the sync itself.
const SYNC_AFTER_MS: u64 = 600;
/// How old a record may get that is not synced, and one that is not even in the file.
const UNSYNCED_MS_MAX: u64 = 1_000;
const UNWRITTEN_MS_MAX: u64 = 200;
/// How long `close` waits for a disk that refuses.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Options {
    pub segment_size: u64,
    pub ring_size: usize,
    /// Sync once a second although nobody waits.
    pub sync_every_second: bool,
}

pub struct Journal {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    dir: PathBuf,
    options: Options,
    ring: Ring,
    written: AtomicU64,
    /// When the oldest record was appended that is not in the file yet, in unix milliseconds; 0 for none.
    unwritten_since_ms: AtomicU64,
    synced: watch::Sender<u64>,
    /// The highest offset that somebody waits for.
    wanted: AtomicU64,
    sync_every_second: AtomicBool,
    writer_parked: AtomicBool,
    /// Everything is synced, or cannot be: both threads end.
    stopping: AtomicBool,
    /// Why the last write and the last sync failed, if they did: each thread takes back its own only.
    failures: [Mutex<Option<Arc<str>>>; 2],
    failed: AtomicBool,
    /// The segment being written: all before it are synced.
    current: Mutex<Arc<File>>,
    /// What is written and not synced yet.
    tail: Tail,
    /// A sync failed, and the tail has not been written anew since.
    doubtful: AtomicBool,
    /// Who needs segments below the mark, and what of them stays for the directives' sake.
    holds: Arc<Holds>,
    retention: Mutex<Retention>,
    /// Held from the beginning of a sync until its outcome is noted: a system reports an error once only, and whoever
    /// syncs next is told that all is well.
    syncing: Mutex<()>,
    sync_times: SyncTimes,
    wake_writer: (Mutex<()>, Condvar),
    wake_syncer: (Mutex<()>, Condvar),
}

/// How long syncs have taken.
#[derive(Default)]
pub struct SyncTimes {
    pub count: AtomicU64,
    pub nanos: AtomicU64,
    /// The longest since somebody looked, who sets it back.
    pub longest_nanos: AtomicU64,
}

impl SyncTimes {
    fn note(&self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.longest_nanos.fetch_max(nanos, Ordering::Relaxed);
    }
}

/// A place where the tests of recovery end the process: `FAILPOINTS="name=2*off->return"` in its environment.
pub fn crash_point(name: &'static str) {
    fail::fail_point!(name, |_| std::process::abort());
}

/// What can fail, and in which thread.
#[derive(Clone, Copy)]
enum Step {
    Write,
    Sync,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Write => "write",
            Step::Sync => "sync",
        }
    }
}

pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

impl Journal {
    /// Opens a new segment at offset `end`, behind everything that recovery has read. Offsets go on from there, or from
    /// far behind, where some may be lost (see `history`).
    pub fn open(dir: &Path, end: u64, options: Options) -> io::Result<Journal> {
        let (start, records) = match history::may_be_lost(dir, end)? {
            true => {
                let (start, record) = history::skip(end);
                (start, vec![record])
            }
            false => (end, Vec::new()),
        };
        let len = records.iter().map(Vec::len).sum::<usize>() as u64;
        let file = Arc::new(segment::create(dir, end, unix_ms(), &records)?);
        segment::sync_folder(dir)?;
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            ring: Ring::new(options.ring_size, start),
            written: AtomicU64::new(start),
            unwritten_since_ms: AtomicU64::new(0),
            synced: watch::Sender::new(start),
            wanted: AtomicU64::new(start),
            sync_every_second: AtomicBool::new(options.sync_every_second),
            writer_parked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            failures: Default::default(),
            failed: AtomicBool::new(false),
            current: Mutex::new(file.clone()),
            tail: Tail::default(),
            doubtful: AtomicBool::new(false),
            holds: Arc::default(),
            retention: Mutex::default(),
            syncing: Mutex::new(()),
            sync_times: SyncTimes::default(),
            wake_writer: Default::default(),
            wake_syncer: Default::default(),
            options,
        });
        let (for_writer, for_syncer) = (shared.clone(), shared.clone());
        let writer = move || Writer::new(for_writer, file, (start, len)).run();
        let threads = vec![
            std::thread::Builder::new().name("journal".into()).spawn(writer)?,
            std::thread::Builder::new()
                .name("journal-sync".into())
                .spawn(move || for_syncer.sync_loop())?,
        ];
        Ok(Journal {
            shared,
            threads: Mutex::new(threads),
        })
    }

    /// Appends one atomic group of effects; returns the offset behind it. Called with the shards of its keys locked,
    /// and never waits.
    pub fn append(&self, effects: &[u8]) -> u64 {
        let end = self.shared.ring.append(effects);
        if self.shared.writer_parked.load(Ordering::SeqCst) {
            self.shared.wake_writer();
        }
        end
    }

    /// The offset behind the newest record.
    pub fn end(&self) -> u64 {
        self.shared.ring.reserved()
    }

    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Acquire)
    }

    pub fn sync_times(&self) -> &SyncTimes {
        &self.shared.sync_times
    }

    pub fn synced(&self) -> u64 {
        *self.shared.synced.borrow()
    }

    /// True when a crash now could take more than a second's records: the disk does not keep up.
    #[inline]
    pub fn is_late(&self, now_ms: u64) -> bool {
        let older = |since_ms: u64, most| since_ms > 0 && now_ms.saturating_sub(since_ms) > most;
        older(
            self.shared.unwritten_since_ms.load(Ordering::Relaxed),
            UNWRITTEN_MS_MAX,
        ) || older(self.shared.tail.since_ms(), UNSYNCED_MS_MAX)
    }

    /// Why effects cannot reach the disk now, if they cannot.
    #[inline]
    pub fn failure(&self) -> Option<Arc<str>> {
        if !self.shared.failed.load(Ordering::Relaxed) {
            return None;
        }
        self.shared
            .failures
            .iter()
            .find_map(|failure| failure.lock().clone())
    }

    /// False when the writer is so far behind that commands should wait before they take locks.
    pub fn has_room(&self) -> bool {
        self.shared.ring.has_room()
    }

    pub fn set_sync_every_second(&self, on: bool) {
        self.shared.sync_every_second.store(on, Ordering::Relaxed);
    }

    /// Returns when everything below `offset` is durable.
    pub async fn wait_synced(&self, offset: u64) {
        if self.synced() >= offset {
            return;
        }
        let mut synced = self.shared.synced.subscribe();
        self.shared.want(offset);
        // An error means that the sender is gone, which it is not while `self` lives.
        let _ = synced.wait_for(|synced| *synced >= offset).await;
    }

    /// As `wait_synced`, for threads. False when the disk refuses and `give_up` says so.
    pub fn wait_synced_blocking(&self, offset: u64, give_up: impl Fn() -> bool) -> bool {
        self.shared.want(offset);
        while self.synced() < offset {
            if self.shared.failed.load(Ordering::Relaxed) && give_up() {
                return false;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        true
    }

    /// The folder of the segments.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// So many bytes of records that no sync covers may be in memory before one begins.
    pub fn bound_unsynced(&self, bytes: u64) {
        self.shared
            .tail
            .bound(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// Bytes of records in memory that no sync covers.
    pub fn unsynced_bytes(&self) -> u64 {
        self.shared.tail.bytes() as u64
    }

    pub fn set_retention(&self, retention: Retention) {
        *self.shared.retention.lock() = retention;
    }

    /// The offset of the oldest record that is still there.
    pub fn oldest(&self) -> io::Result<u64> {
        let segments = list(&self.shared.dir)?;
        Ok(segments.first().map_or(0, |segment| segment.first_offset))
    }

    /// Keeps what is at or above `offset` in the journal for as long as the result lives.
    pub fn hold(&self, offset: u64) -> Hold {
        self.shared.holds.hold(offset)
    }

    /// Removes the segments below `mark`, but for those that are held or kept for some time.
    pub fn remove_below(&self, mark: u64) -> io::Result<()> {
        let retention = *self.shared.retention.lock();
        self.shared
            .holds
            .trim(&self.shared.dir, mark, &retention, unix_ms())
    }

    /// Writes and syncs everything, and ends the threads. Appends must have ended. False when the disk refused.
    pub fn close(&self) -> bool {
        let end = self.end();
        let began = Instant::now();
        let clean = self.wait_synced_blocking(end, || began.elapsed() > CLOSE_PATIENCE);
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.wake_writer();
        self.shared.wake_syncer();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        if clean && let Err(error) = history::note_close(self.dir(), end) {
            log::warn!("journal: its end is not noted: {error}");
        }
        clean
    }
}

impl Shared {
    fn want(&self, offset: u64) {
        self.wanted.fetch_max(offset, Ordering::SeqCst);
        self.wake_writer();
        self.wake_syncer();
    }

    fn wake_writer(&self) {
        let _guard = self.wake_writer.0.lock();
        self.wake_writer.1.notify_one();
    }

    fn wake_syncer(&self) {
        let _guard = self.wake_syncer.0.lock();
        self.wake_syncer.1.notify_one();
    }

    fn fail(&self, step: Step, error: &io::Error) {
        let why: Arc<str> = format!("{}: {error}", step.name()).into();
        let mut failure = self.failures[step as usize].lock();
        if failure.as_ref() != Some(&why) {
            log::error!("journal {why}; writes to durable ranges are refused until it succeeds");
        }
        *failure = Some(why);
        self.failed.store(true, Ordering::SeqCst);
    }

    /// A step succeeded. Writes are taken again when the other one has not failed either.
    fn succeeded(&self, step: Step) {
        if !self.failed.load(Ordering::Relaxed) || self.failures[step as usize].lock().take().is_none() {
            return;
        }
        // Both locks, so that a failure noted meanwhile is not overwritten.
        let [write, sync] = self.failures.each_ref().map(|failure| failure.lock());
        if write.is_none() && sync.is_none() {
            self.failed.store(false, Ordering::SeqCst);
            log::info!("journal: the disk takes writes again");
        }
    }

    fn somebody_waits(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > *self.synced.borrow()
    }

    /// Makes what is written durable: once a second, and at once when somebody waits for it.
    fn sync_loop(&self) {
        loop {
            let written = self.written.load(Ordering::Acquire);
            let behind = written > *self.synced.borrow();
            let every_second = self.sync_every_second.load(Ordering::Relaxed);
            let stopping = self.stopping.load(Ordering::SeqCst);
            let since_ms = self.tail.since_ms();
            let due = self.somebody_waits()
                || every_second && since_ms > 0 && unix_ms().saturating_sub(since_ms) >= SYNC_AFTER_MS
                || self.tail.wants_sync();
            if behind && due && !stopping && !self.doubtful.load(Ordering::SeqCst) {
                self.sync();
                continue;
            }
            if stopping {
                return;
            }
            let mut guard = self.wake_syncer.0.lock();
            if self.written.load(Ordering::Acquire) == written {
                self.wake_syncer
                    .1
                    .wait_for(&mut guard, Duration::from_millis(100));
            }
        }
    }

    /// Syncs what is written, and notes the outcome. False when it is in doubt now.
    fn sync(&self) -> bool {
        let _one = self.syncing.lock();
        if self.doubtful.load(Ordering::SeqCst) {
            return false;
        }
        // In this order: what is below `written` and not in this file is in one before it, which is synced.
        let written = self.written.load(Ordering::Acquire);
        let file = self.current.lock().clone();
        let began = Instant::now();
        let synced = segment::sync(&file);
        self.sync_times.note(began.elapsed());
        match synced {
            Ok(()) => self.settled(written),
            Err(error) => self.doubt(&error),
        }
        !self.doubtful.load(Ordering::SeqCst)
    }

    /// Everything below `offset` is durable.
    fn settled(&self, offset: u64) {
        self.tail.drop_below(offset);
        self.synced.send_replace(offset);
        self.succeeded(Step::Sync);
    }

    /// From now on nothing is synced until the writer has written the tail anew.
    fn doubt(&self, error: &io::Error) {
        self.doubtful.store(true, Ordering::SeqCst);
        self.fail(Step::Sync, error);
        self.wake_writer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            segment_size: 4096,
            ring_size: 1 << 16,
            sync_every_second: false,
        }
    }

    #[test]
    fn what_is_synced_reads_back_over_many_segments() {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = Journal::open(dir.path(), 0, options()).expect("open");
        for i in 0..1_000 {
            let end = journal.append(format!("*2\r\n$3\r\nDEL\r\n$4\r\n{i:04}\r\n").as_bytes());
            if i % 100 == 0 {
                assert!(journal.wait_synced_blocking(end, || false));
            }
        }
        assert!(journal.close());
        assert!(list(dir.path()).expect("list").len() > 5);
        let mut at = 0;
        let summary = read(dir.path(), 0, |records| {
            for (header, payload) in records {
                assert_eq!(header.offset, at);
                assert!(payload.ends_with(b"\r\n"));
                at = header.end();
            }
            Ok(())
        })
        .expect("read");
        assert_eq!(
            (summary.records, summary.end, summary.torn_bytes),
            (1_000, journal.end(), 0)
        );
    }

    #[test]
    fn a_journal_reopened_at_its_end_goes_on_from_there() {
        let dir = tempfile::tempdir().expect("temp dir");
        for round in 0..3 {
            let end = read(dir.path(), 0, |_| Ok(())).expect("read").end;
            assert_eq!(end, round * 18);
            let journal = Journal::open(dir.path(), end, options()).expect("open");
            journal.append(b"*2\r\n$3\r\nDEL\r\n$1\r\nk");
            assert!(journal.close());
        }
    }
}
