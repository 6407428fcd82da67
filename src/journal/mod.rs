//! The journal: the ordered record of every effect on durable ranges.
//!
//! `append` reserves offsets and copies into a ring (see `ring`); a writer thread carries what is contiguous to the
//! current segment; a sync thread makes it durable, once a second or when somebody waits. So one sync covers every
//! record written since the one before: group commit.
//!
//! Guarantees:
//! * Records reach the disk in the order of their offsets, and nothing is in the file before everything below it is.
//! * Everything below `synced()` survives a crash of the machine; what is below `written()`, one of the process.
//! * A write or sync that fails loses nothing: it is tried again until it succeeds, and meanwhile `failure()` tells
//!   commands to refuse. What was appended before stays in the ring.

pub mod record;
mod ring;
mod segment;

pub use segment::{ReadError, ReadSummary, Record, Segment, inspect, list, read, remove_below};

use parking_lot::{Condvar, Mutex};
use ring::Ring;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How long the writer lets records gather when nobody waits for them. A killed process loses no more than this.
const LINGER: Duration = Duration::from_millis(5);
const RETRY: Duration = Duration::from_millis(200);
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Bytes of records in one write.
const BATCH: u64 = 1 << 20;

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
    synced: watch::Sender<u64>,
    /// The highest offset that somebody waits for.
    wanted: AtomicU64,
    sync_every_second: AtomicBool,
    writer_parked: AtomicBool,
    stopping: AtomicBool,
    /// Everything is synced, or cannot be: the sync thread ends. Later than `stopping`, because until the writer has
    /// ended there may be more to sync.
    sync_stopping: AtomicBool,
    /// Why the last write and the last sync failed, if they did: each thread takes back its own only.
    failures: [Mutex<Option<Arc<str>>>; 2],
    failed: AtomicBool,
    /// The segment being written and those rolled since the last sync.
    unsynced: Mutex<Vec<Arc<File>>>,
    wake_writer: (Mutex<()>, Condvar),
    wake_syncer: (Mutex<()>, Condvar),
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
    /// Opens a new segment at offset `start`, behind everything that recovery has read.
    pub fn open(dir: &Path, start: u64, options: Options) -> io::Result<Journal> {
        let file = Arc::new(segment::create(dir, start, unix_ms())?);
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            ring: Ring::new(options.ring_size, start),
            written: AtomicU64::new(start),
            synced: watch::Sender::new(start),
            wanted: AtomicU64::new(start),
            sync_every_second: AtomicBool::new(options.sync_every_second),
            writer_parked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            sync_stopping: AtomicBool::new(false),
            failures: Default::default(),
            failed: AtomicBool::new(false),
            unsynced: Mutex::new(vec![file.clone()]),
            wake_writer: Default::default(),
            wake_syncer: Default::default(),
            options,
        });
        let (for_writer, for_syncer) = (shared.clone(), shared.clone());
        let writer = move || {
            Writer {
                shared: for_writer,
                file,
                start,
                len: 0,
                buf: Vec::new(),
            }
            .run()
        };
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

    pub fn synced(&self) -> u64 {
        *self.shared.synced.borrow()
    }

    /// Why effects cannot reach the disk now, if they cannot.
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

    /// As `wait_synced`, for threads. False when the journal was closed first.
    pub fn wait_synced_blocking(&self, offset: u64) -> bool {
        self.shared.want(offset);
        while self.synced() < offset {
            if self.shared.stopping.load(Ordering::Relaxed) && self.shared.failed.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        true
    }

    /// Removes the segments below `mark`.
    pub fn remove_below(&self, mark: u64) -> io::Result<()> {
        segment::remove_below(&self.shared.dir, mark)
    }

    /// Writes and syncs everything, and ends the threads. Appends must have ended. False when the disk refused.
    pub fn close(&self) -> bool {
        let end = self.end();
        self.shared.stopping.store(true, Ordering::SeqCst);
        let clean = self.wait_synced_blocking(end);
        self.shared.sync_stopping.store(true, Ordering::SeqCst);
        self.shared.wake_writer();
        self.shared.wake_syncer();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
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
        let mut last = Instant::now();
        loop {
            let written = self.written.load(Ordering::Acquire);
            let behind = written > *self.synced.borrow();
            let every_second = self.sync_every_second.load(Ordering::Relaxed);
            let stopping = self.sync_stopping.load(Ordering::SeqCst);
            if behind && !stopping && (self.somebody_waits() || every_second && last.elapsed() >= SYNC_EVERY)
            {
                last = Instant::now();
                match self.sync_files() {
                    Ok(()) => {
                        self.synced.send_replace(written);
                        self.succeeded(Step::Sync);
                    }
                    Err(error) => {
                        self.fail(Step::Sync, &error);
                        std::thread::sleep(RETRY);
                    }
                }
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

    fn sync_files(&self) -> io::Result<()> {
        let files = self.unsynced.lock().clone();
        for file in &files {
            file.sync_data()?;
        }
        // All but the newest are complete; the newest is written on.
        let mut unsynced = self.unsynced.lock();
        let complete = files.len().saturating_sub(1);
        unsynced.drain(..complete);
        Ok(())
    }
}

/// The writer thread's own state.
struct Writer {
    shared: Arc<Shared>,
    file: Arc<File>,
    /// Offset of the first record of the current segment.
    start: u64,
    /// Bytes of records in the current segment.
    len: u64,
    buf: Vec<u8>,
}

impl Writer {
    fn run(mut self) {
        loop {
            self.buf.clear();
            let now = unix_ms();
            let buf = &mut self.buf;
            let reached = self.shared.ring.drain(BATCH, |offset, payload| {
                record::encode_record(buf, offset, now, payload)
            });
            if self.buf.is_empty() {
                if self.shared.stopping.load(Ordering::SeqCst) && self.shared.ring.reserved() == reached {
                    return;
                }
                self.park();
                continue;
            }
            if !self.write_until_done() {
                return;
            }
            self.shared.written.store(reached, Ordering::Release);
            if self.shared.somebody_waits() {
                self.shared.wake_syncer();
            } else if self.buf.len() < BATCH as usize / 4 {
                self.linger();
            }
            if self.len >= self.shared.options.segment_size {
                self.roll(reached);
            }
            if self.buf.capacity() > 4 * BATCH as usize {
                self.buf = Vec::new();
            }
        }
    }

    /// Writes `buf` behind what is in the segment. A failed write is taken back and tried again; false when the
    /// server stops before the disk takes it.
    fn write_until_done(&mut self) -> bool {
        let position = record::SEGMENT_HEADER as u64 + self.len;
        loop {
            let mut file = &*self.file;
            let written = file
                .seek(SeekFrom::Start(position))
                .and_then(|_| file.write_all(&self.buf));
            match written {
                Ok(()) => {
                    self.len += self.buf.len() as u64;
                    self.shared.succeeded(Step::Write);
                    return true;
                }
                Err(error) => {
                    // Half a batch may be in the file; it is cut off so that a crash now leaves whole records.
                    let _ = self.file.set_len(position);
                    self.shared.fail(Step::Write, &error);
                    if self.shared.stopping.load(Ordering::SeqCst) {
                        return false;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    /// Goes on in a new segment. The old one is synced first, so that a segment with another behind it is whole even
    /// after a power cut. Until both succeed the old segment simply grows.
    fn roll(&mut self, offset: u64) {
        crash_point("roll-before-create");
        let created = self
            .file
            .sync_data()
            .and_then(|()| segment::create(&self.shared.dir, offset, unix_ms()));
        match created {
            Ok(file) => {
                self.file = Arc::new(file);
                (self.start, self.len) = (offset, 0);
                self.shared.unsynced.lock().push(self.file.clone());
            }
            Err(error) => log::warn!(
                "journal: no new segment at {offset} behind {}: {error}",
                self.start
            ),
        }
    }

    /// Sleeps until something is appended.
    fn park(&self) {
        let shared = &self.shared;
        let mut guard = shared.wake_writer.0.lock();
        shared.writer_parked.store(true, Ordering::SeqCst);
        // Either the append sees `writer_parked`, or this sees what it reserved: both are sequentially consistent.
        if shared.ring.reserved() == shared.ring.drained() && !shared.stopping.load(Ordering::SeqCst) {
            shared.wake_writer.1.wait(&mut guard);
        } else {
            // Reserved but still being copied.
            drop(guard);
            std::thread::yield_now();
        }
        shared.writer_parked.store(false, Ordering::SeqCst);
    }

    fn linger(&self) {
        let mut guard = self.shared.wake_writer.0.lock();
        if !self.shared.somebody_waits() && !self.shared.stopping.load(Ordering::SeqCst) {
            self.shared.wake_writer.1.wait_for(&mut guard, LINGER);
        }
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
                assert!(journal.wait_synced_blocking(end));
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
