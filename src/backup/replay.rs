//! The journal of a restored folder: records of one history, from several places, up to a moment.
//!
//! ```text
//!   generation     |mark ............. end|
//!   a later one              |.................... end|          records that the one before has too are held against it
//!   --journal                                |............
//!   restored       |mark ........................... moment|     nothing behind it
//! ```

use super::manifest::Moment;
use super::moment::Until;
use super::pieces::Progress;
use super::{BackupError, on};
use crate::journal::record::RecordHeader;
use crate::journal::{self, EMPTY, ReadError, Segment, SegmentReader};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Writes the journal of a restored folder.
pub struct Assembler<'a> {
    /// The new journal's folder.
    dir: PathBuf,
    until: Option<Until>,
    /// A state before this one cannot be made: up to here records are taken whatever their times.
    oldest: u64,
    progress: &'a Progress,
    /// Behind the last record taken, and what tells it from others.
    reached: Option<u64>,
    last: Option<Last>,
    /// A record behind the moment was met: nothing more is taken.
    pub ended: bool,
    pub records: u64,
}

#[derive(Clone, Copy)]
struct Last {
    unix_ms: u64,
    checksum: u32,
}

/// Whose journal is read, as far as it makes a difference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is complete, or damaged.
    Backup,
    /// It may be in use, or its server may have crashed: its end may be torn.
    DataFolder,
}

impl<'a> Assembler<'a> {
    pub fn new(dir: &Path, until: Option<Until>, oldest: u64, progress: &'a Progress) -> Assembler<'a> {
        Assembler {
            dir: dir.to_path_buf(),
            until,
            oldest,
            progress,
            reached: None,
            last: None,
            ended: false,
            records: 0,
        }
    }

    /// The state that was reached.
    pub fn moment(&self) -> Moment {
        Moment {
            offset: self.reached.unwrap_or(0),
            unix_ms: self.last.map_or(0, |last| last.unix_ms),
        }
    }

    /// Takes what a journal holds, from `from` on at first, and later behind what is there already. Takes nothing when
    /// it does not go on from there.
    pub fn take(&mut self, journal: &Path, place: Place, from: u64) -> Result<(), BackupError> {
        let segments = journal::list(journal).map_err(on(journal))?;
        let from = self.reached.unwrap_or(from);
        let Some(start) = segments.iter().rposition(|segment| segment.first_offset <= from) else {
            return Ok(());
        };
        for (at, segment) in segments.iter().enumerate().skip(start) {
            let next = segments.get(at + 1).map(|next| next.first_offset);
            let reached = self.reached.unwrap_or(from);
            if segment.first_offset > reached {
                return Err(BackupError::Journal(ReadError::Gap {
                    path: segment.path.clone(),
                    expected: reached,
                    found: segment.first_offset,
                }));
            }
            match self.take_segment(segment, next) {
                Err(BackupError::Journal(ReadError::Damaged { .. }))
                    if next.is_none() && place == Place::DataFolder => {}
                taken => taken?,
            }
            if self.ended {
                break;
            }
        }
        Ok(())
    }

    fn take_segment(&mut self, segment: &Segment, limit: Option<u64>) -> Result<(), BackupError> {
        let mut reader = SegmentReader::open(&segment.path)?;
        let first = self.reached.unwrap_or(segment.first_offset);
        let reached_before = self.reached;
        let mut file: Option<BufWriter<File>> = None;
        let mut reached = segment.first_offset;
        let taken = loop {
            let began = Instant::now();
            if limit.is_some_and(|limit| reached >= limit) {
                break Ok(());
            }
            let header = match reader.next_record() {
                Ok(Some(header)) => header,
                Ok(None) => break Ok(()),
                // What came before is whole.
                Err(error) => break Err(error.into()),
            };
            let before = std::mem::replace(&mut reached, header.end());
            // A crash has taken what is between: whoever has something of it has what did not happen here.
            let is_lost = |at| before < at && at < header.end();
            if header.offset > before && self.reached.is_some_and(is_lost) {
                break Err(self.another_history(&segment.path));
            }
            if reached_before.is_some_and(|before| header.offset < before) {
                self.compare(&header, reader.bytes(), &segment.path)?;
                continue;
            }
            if self.is_behind(&header) {
                self.ended = true;
                break Ok(());
            }
            let file = match &mut file {
                Some(file) => file,
                None => file.insert(self.create(first, reader.header().created_ms)?),
            };
            file.write_all(reader.bytes()).map_err(on(&self.dir))?;
            self.records += 1;
            self.reached = Some(header.end());
            self.last = Some(Last {
                unix_ms: header.unix_ms,
                checksum: checksum_of(reader.bytes()),
            });
            self.progress.passed(reader.bytes().len(), began.elapsed())?;
        };
        if self.reached.is_none() {
            // No record at all: the state is that at the segment's beginning.
            self.reached = Some(first);
            file = Some(self.create(first, reader.header().created_ms)?);
        }
        if let Some(file) = file {
            let file = file
                .into_inner()
                .map_err(|error| BackupError::Io(self.dir.clone(), error.into_error()))?;
            file.sync_all().map_err(on(&self.dir))?;
        }
        taken
    }

    fn create(&self, first: u64, created_ms: u64) -> Result<BufWriter<File>, BackupError> {
        journal::create(&self.dir, first, created_ms, EMPTY)
            .map(|file| BufWriter::with_capacity(1 << 20, file))
            .map_err(on(&self.dir))
    }

    fn is_behind(&self, header: &RecordHeader) -> bool {
        match self.until {
            None => false,
            Some(Until::Offset(offset)) => header.end() > offset,
            Some(Until::Time(unix_ms)) => header.unix_ms > unix_ms && header.offset >= self.oldest,
        }
    }

    /// A record that another journal had, too: the last one taken must be in both. A folder that was restored to an
    /// earlier moment goes on from there with other records at the same offsets.
    fn compare(&self, header: &RecordHeader, bytes: &[u8], path: &Path) -> Result<(), BackupError> {
        let reached = self.reached.unwrap_or(0);
        let differs = match self.last {
            Some(last) if header.end() == reached => {
                (last.unix_ms, last.checksum) != (header.unix_ms, checksum_of(bytes))
            }
            _ => header.end() > reached,
        };
        if !differs {
            return Ok(());
        }
        Err(self.another_history(path))
    }

    fn another_history(&self, path: &Path) -> BackupError {
        let reached = self.reached.unwrap_or(0);
        BackupError::Refused(format!(
            "{} is of another history: it does not go on from the backup at offset {reached}",
            path.display()
        ))
    }
}

/// The checksum that a record carries.
fn checksum_of(record: &[u8]) -> u32 {
    let bytes = record.get(4..8).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
