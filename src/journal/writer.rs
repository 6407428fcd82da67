//! The writer thread: carries what is contiguous in the ring to the current segment, and rolls segments.
//!
//! Guarantees: records are in one segment after another in the order of their offsets; a batch is in the file wholly, or
//! cut off and tried again; what is written is also in the tail until it is synced.

use super::{RETRY, Shared, Step, crash_point, record, segment, unix_ms};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the writer lets records gather when nobody waits for them. A killed process loses no more than this.
const LINGER: Duration = Duration::from_millis(5);
/// Bytes of records in one write.
const BATCH: u64 = 1 << 20;

/// The writer thread's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    file: Arc<File>,
    /// Offset of the first record of the current segment.
    start: u64,
    /// Bytes of records in the current segment.
    len: u64,
    buf: Vec<u8>,
    /// Records not yet in the file: the offset behind some of them, and a time before which none of these was appended.
    unwritten: VecDeque<(u64, u64)>,
    /// When the ring was looked into last, in unix milliseconds.
    looked_ms: u64,
    /// In doubt: when the tail is written anew.
    next_try: Instant,
}

impl Writer {
    /// The segment has `len` bytes of records.
    pub fn new(shared: Arc<Shared>, file: Arc<File>, (start, len): (u64, u64)) -> Writer {
        Writer {
            shared,
            file,
            start,
            len,
            buf: Vec::new(),
            unwritten: VecDeque::new(),
            looked_ms: unix_ms(),
            next_try: Instant::now(),
        }
    }

    pub fn run(mut self) {
        loop {
            let stopping = self.shared.stopping.load(Ordering::SeqCst);
            if self.is_in_doubt() && Instant::now() >= self.next_try {
                self.replace_tail();
            }
            // Who ends does not wait for a disk that may never take it.
            if self.shared.tail.is_full() && !stopping {
                self.shared.wake_syncer();
                std::thread::sleep(LINGER);
                continue;
            }
            self.buf.clear();
            let now = unix_ms();
            self.look(now);
            let buf = &mut self.buf;
            let reached = self.shared.ring.drain(BATCH, |offset, payload| {
                record::encode_record(buf, offset, now, payload)
            });
            if self.buf.is_empty() {
                if stopping {
                    return;
                }
                self.park();
                self.looked_ms = unix_ms();
                continue;
            }
            if !self.write_until_done() {
                return;
            }
            self.shared.tail.push(reached, now, &self.buf);
            self.shared.written.store(reached, Ordering::Release);
            self.note_written(reached);
            if self.shared.somebody_waits() || self.shared.tail.wants_sync() {
                self.shared.wake_syncer();
            } else if self.buf.len() < BATCH as usize / 4 {
                self.linger();
                self.looked_ms = unix_ms();
            }
            if self.len >= self.shared.options.segment_size {
                self.roll(reached);
            }
            if self.buf.capacity() > 4 * BATCH as usize {
                self.buf = Vec::new();
            }
        }
    }

    /// Takes down what has come since the last look.
    fn look(&mut self, now_ms: u64) {
        let reserved = self.shared.ring.reserved();
        let known = self
            .unwritten
            .back()
            .map_or_else(|| self.shared.ring.drained(), |(end, _)| *end);
        if reserved > known {
            self.unwritten.push_back((reserved, self.looked_ms));
            self.note_written(self.shared.ring.drained());
        }
        self.looked_ms = now_ms;
    }

    fn note_written(&mut self, reached: u64) {
        while self.unwritten.front().is_some_and(|(end, _)| *end <= reached) {
            self.unwritten.pop_front();
        }
        let since_ms = self.unwritten.front().map_or(0, |(_, at_ms)| *at_ms);
        self.shared.unwritten_since_ms.store(since_ms, Ordering::Relaxed);
    }

    /// Writes `buf` behind what is in the segment. A failed write is taken back and tried again; false when the
    /// server stops before the disk takes it.
    fn write_until_done(&mut self) -> bool {
        let position = record::SEGMENT_HEADER as u64 + self.len;
        crash_point("journal-before-write");
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
    /// after a power cut, and only the newest can be in doubt. Until both succeed the old segment simply grows.
    fn roll(&mut self, offset: u64) {
        crash_point("roll-before-create");
        if !self.shared.sync() {
            return;
        }
        match segment::create(&self.shared.dir, offset, unix_ms(), segment::EMPTY) {
            Ok(file) => {
                self.go_on_in(file, offset, 0);
                if let Err(error) = segment::sync_folder(&self.shared.dir) {
                    self.shared.doubt(&error);
                }
            }
            Err(error) => log::warn!(
                "journal: no new segment at {offset} behind {}: {error}",
                self.start
            ),
        }
    }

    fn go_on_in(&mut self, file: File, start: u64, len: u64) {
        self.file = Arc::new(file);
        (self.start, self.len) = (start, len);
        *self.shared.current.lock() = self.file.clone();
    }

    /// After a failed sync: writes what was not synced to a new segment, from memory. If that fails too, it is tried
    /// again later.
    fn replace_tail(&mut self) {
        // This thread alone moves `written`, and `synced` stays while there is doubt.
        let (synced, written) = (
            *self.shared.synced.borrow(),
            self.shared.written.load(Ordering::Acquire),
        );
        let batches = self.shared.tail.batches();
        let len = batches.iter().map(|batch| batch.len() as u64).sum();
        let replaced = segment::create(&self.shared.dir, synced, unix_ms(), &batches).and_then(|file| {
            // At once: the old file may be the one whose name it has taken.
            self.go_on_in(file, synced, len);
            segment::sync_folder(&self.shared.dir)
        });
        match replaced {
            Ok(()) => {
                log::warn!("journal: {len} bytes from {synced} on were written anew after a failed sync");
                self.shared.doubtful.store(false, Ordering::SeqCst);
                self.shared.settled(written);
            }
            Err(error) => {
                self.shared.fail(Step::Sync, &error);
                self.next_try = Instant::now() + RETRY;
            }
        }
    }

    fn is_in_doubt(&self) -> bool {
        self.shared.doubtful.load(Ordering::SeqCst)
    }

    /// Sleeps until something is appended.
    fn park(&self) {
        let shared = &self.shared;
        let mut guard = shared.wake_writer.0.lock();
        shared.writer_parked.store(true, Ordering::SeqCst);
        // Either the append sees `writer_parked`, or this sees what it reserved: both are sequentially consistent.
        let idle = shared.ring.reserved() == shared.ring.drained();
        if idle && self.is_in_doubt() {
            shared.wake_writer.1.wait_until(&mut guard, self.next_try);
        } else if idle && !shared.stopping.load(Ordering::SeqCst) {
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
