//! Reading and copying files in pieces, with a checksum of each, at a pace that leaves the disk and the cores to the
//! server.

use super::{BackupError, on};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

/// Bytes covered by one checksum.
pub const PIECE: usize = 1 << 20;
/// Bytes read or written at once: some fifty microseconds of a core, which is what a command may have to wait for it.
pub const CHUNK: usize = 128 << 10;
/// Bytes written before they are synced: a sync of much at once would hold up those of the journal.
const SYNC_EVERY: u64 = 8 << 20;
/// After a chunk, at least this long nothing is read or written.
const REST_LEAST: Duration = Duration::from_micros(200);
/// And this many times as long as the chunk took.
const REST_SHARE: u32 = 4;

/// What goes on: how far it is, and whether to go on.
#[derive(Default)]
pub struct Progress {
    pub bytes: AtomicU64,
    pub bytes_total: AtomicU64,
    /// Written, where the rest are second names of what is there.
    pub written: AtomicU64,
    pub stop: AtomicBool,
    /// Rests between chunks: somebody else is at work on this machine.
    pub polite: bool,
}

impl Progress {
    pub fn polite() -> Progress {
        Progress {
            polite: true,
            ..Progress::default()
        }
    }

    /// 0 to 100.
    pub fn percent(&self) -> u64 {
        let total = self.bytes_total.load(Relaxed).max(1);
        (self.bytes.load(Relaxed) * 100 / total).min(100)
    }

    pub fn check(&self) -> Result<(), BackupError> {
        match self.stop.load(Relaxed) {
            true => Err(BackupError::Stopped),
            false => Ok(()),
        }
    }

    /// A chunk was read, and perhaps written, in so long.
    pub fn passed(&self, bytes: usize, took: Duration) -> Result<(), BackupError> {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        if self.polite {
            std::thread::sleep((took * REST_SHARE).max(REST_LEAST));
        }
        self.check()
    }
}

/// Length and checksums (CRC32C) of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub length: u64,
    pub checksum: u32,
    /// Of each `PIECE` bytes, so that damage has a place.
    pub pieces: Vec<u32>,
}

/// Sums what is given to it in whatever portions.
#[derive(Default)]
pub struct Summing {
    sums: Sums,
    /// Of the piece that is not full yet.
    checksum: u32,
    filled: usize,
}

impl Summing {
    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(PIECE - self.filled));
            self.checksum = crc32c::crc32c_append(self.checksum, part);
            self.filled += part.len();
            if self.filled == PIECE {
                self.end_piece();
            }
            bytes = rest;
        }
    }

    fn end_piece(&mut self) {
        let (sums, filled) = (&mut self.sums, std::mem::take(&mut self.filled));
        let checksum = std::mem::take(&mut self.checksum);
        sums.checksum = crc32c::crc32c_combine(sums.checksum, checksum, filled);
        sums.length += filled as u64;
        sums.pieces.push(checksum);
    }

    pub fn finish(mut self) -> Sums {
        if self.filled > 0 {
            self.end_piece();
        }
        self.sums
    }
}

/// Reads a file and hands over each chunk.
pub fn read(
    path: &Path,
    progress: &Progress,
    mut sink: impl FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<Sums, BackupError> {
    let mut file = File::open(path).map_err(on(path))?;
    let (mut summing, mut chunk) = (Summing::default(), vec![0; CHUNK]);
    loop {
        let began = Instant::now();
        let count = match file.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(BackupError::Io(path.to_path_buf(), error)),
        };
        if count == 0 {
            return Ok(summing.finish());
        }
        summing.add(&chunk[..count]);
        sink(&chunk[..count])?;
        progress.passed(count, began.elapsed())?;
    }
}

pub fn sum(path: &Path, progress: &Progress) -> Result<Sums, BackupError> {
    read(path, progress, |_| Ok(()))
}

/// A new file that is written bit by bit and synced as it grows.
pub struct Copy<'a> {
    path: &'a Path,
    file: File,
    unsynced: u64,
    progress: &'a Progress,
}

impl<'a> Copy<'a> {
    pub fn create(path: &'a Path, progress: &'a Progress) -> Result<Copy<'a>, BackupError> {
        Ok(Copy {
            path,
            file: File::create_new(path).map_err(on(path))?,
            unsynced: 0,
            progress,
        })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.file.write_all(bytes).map_err(on(self.path))?;
        self.progress.written.fetch_add(bytes.len() as u64, Relaxed);
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.file.sync_data().map_err(on(self.path))?;
        }
        Ok(())
    }

    pub fn finish(self) -> Result<(), BackupError> {
        self.file.sync_all().map_err(on(self.path))
    }
}

/// Copies a file; the sums are of what was read.
pub fn copy(from: &Path, to: &Path, progress: &Progress) -> Result<Sums, BackupError> {
    let mut copy = Copy::create(to, progress)?;
    let sums = read(from, progress, |chunk| copy.write(chunk))?;
    copy.finish()?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_same_however_the_bytes_come() {
        let bytes: Vec<u8> = (0..PIECE * 2 + 1000).map(|i| (i % 251) as u8).collect();
        let dir = tempfile::tempdir().expect("temp dir");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, &bytes).expect("write");
        let progress = Progress::default();
        let copied = copy(&from, &to, &progress).expect("copy");
        assert_eq!(std::fs::read(&to).expect("read"), bytes);
        let mut summing = Summing::default();
        bytes.chunks(77_777).for_each(|chunk| summing.add(chunk));
        assert_eq!(summing.finish(), copied);
        assert_eq!((copied.length, copied.pieces.len()), (bytes.len() as u64, 3));
        assert_eq!(copied.checksum, crc32c::crc32c(&bytes));
        assert_eq!(progress.bytes.load(Relaxed), bytes.len() as u64);
    }
}
