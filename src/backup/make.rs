//! Making a generation out of a frozen store and journal.
//!
//! ```text
//! 000002.unfinished/ made | files linked or copied | manifest written | all synced | renamed to 000002
//! ```
//!
//! A crash or a full disk anywhere before the last step leaves no backup, and the ones before it as they were.

use super::folder::Target;
use super::manifest::{FileEntry, Manifest, Moment, Source};
use super::pieces::{self, Copy, Progress, Summing};
use super::{BackupError, on};
use crate::config::RangeSpec;
use crate::journal::record::RecordHeader;
use crate::journal::{self, Segment, SegmentReader, crash_point};
use crate::keyspace::backup::Frozen;
use crate::server::FUNCTIONS_FILE;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// A generation that was made.
#[derive(Debug, Clone)]
pub struct Made {
    pub path: PathBuf,
    pub newest: Moment,
    pub bytes: u64,
    /// Of them those that were copied; the others have second names.
    pub written: u64,
    pub files: u64,
    /// Files that the generation before has too.
    pub kept: u64,
}

/// Writes a generation. When it fails nothing is left of it.
pub fn make(
    target: &Target,
    frozen: Frozen,
    ranges: Vec<String>,
    server: &str,
    progress: &Progress,
) -> Result<Made, BackupError> {
    let mut making = Making {
        target,
        dir: target.unfinished(),
        progress,
        files: Vec::new(),
        kept: 0,
    };
    let made = making.run(frozen, ranges, server);
    if made.is_err() {
        let _ = fs::remove_dir_all(&making.dir);
    }
    made
}

struct Making<'a> {
    target: &'a Target,
    /// The unfinished generation.
    dir: PathBuf,
    progress: &'a Progress,
    files: Vec<FileEntry>,
    kept: u64,
}

/// A file to be taken in: its path in the generation, and where it is.
struct Wanted {
    path: String,
    from: PathBuf,
    length: u64,
}

impl Making<'_> {
    fn run(&mut self, frozen: Frozen, ranges: Vec<String>, server: &str) -> Result<Made, BackupError> {
        let began_ms = journal::unix_ms();
        for folder in [&self.dir, &self.dir.join("store"), &self.dir.join("journal")] {
            fs::create_dir(folder).map_err(on(folder))?;
        }
        let mark = frozen.meta.as_ref().map_or(0, |meta| meta.mark);
        let newest_row = frozen.meta.as_ref().map_or(0, |meta| meta.newest.max(mark));
        let store = store_files(frozen.store.path())?;
        let since = self.target.previous.as_ref().map(|(_, last)| last.newest.offset);
        let journal = segments(&frozen.journal, mark, since, frozen.end)?;
        let (sealed, live) = (&journal.sealed, &journal.live);
        let total: u64 = store.iter().chain(sealed).map(|file| file.length).sum();
        let live_most = fs::metadata(&live.path).map_or(0, |found| found.len());
        self.progress.bytes_total.store(total + live_most, Relaxed);
        let beside = functions_file(&frozen.journal);
        for wanted in store.iter().chain(sealed).chain(&beside) {
            crash_point("backup-before-file");
            self.take(wanted)?;
        }
        self.take_live(live, journal.from, frozen.end)?;
        let oldest = Moment {
            offset: newest_row,
            unix_ms: time_of(&self.dir.join("journal"), newest_row)?.unwrap_or(frozen.end_ms),
        };
        let newest = Moment {
            offset: frozen.end,
            unix_ms: frozen.end_ms.max(oldest.unix_ms),
        };
        // Nothing is needed of it any more, and it is in the server's own folder.
        drop(frozen);
        let mut manifest = Manifest::new(server, began_ms, mark, (oldest, newest));
        manifest.ranges = ranges;
        manifest.files = std::mem::take(&mut self.files);
        crash_point("backup-before-manifest");
        manifest.write(&self.dir)?;
        crash_point("backup-after-manifest");
        let path = self.put_in_place()?;
        Ok(Made {
            path,
            newest,
            bytes: manifest.bytes(),
            written: self.progress.written.load(Relaxed),
            files: manifest.files.len() as u64,
            kept: self.kept,
        })
    }

    /// Takes a file in that will not change any more: by a second name where that can be, else as a copy.
    fn take(&mut self, wanted: &Wanted) -> Result<(), BackupError> {
        let to = self.dir.join(&wanted.path);
        let source = Source::of(&wanted.from)?;
        let before = self.target.previous.as_ref().and_then(|(generation, manifest)| {
            let same = manifest.files.iter().find(|file| file.path == wanted.path)?;
            Some((same.clone(), same.below(&generation.path)))
        });
        if let Some((file, at)) = &before
            && file.source == source
            && fs::metadata(at).is_ok_and(|found| found.len() == file.length)
            && fs::hard_link(at, &to).is_ok()
        {
            self.kept += 1;
            self.progress.bytes.fetch_add(wanted.length, Relaxed);
            self.files.push(file.clone());
            return self.progress.check();
        }
        let sums = match fs::hard_link(&wanted.from, &to) {
            Ok(()) => pieces::sum(&to, self.progress)?,
            Err(error) if must_copy(&error) => match &before {
                // Another file of the same content, as in a data folder that was itself copied.
                Some((file, at)) if file.length == source.length => {
                    let sums = pieces::sum(&wanted.from, self.progress)?;
                    if file.equals(&sums) && fs::hard_link(at, &to).is_ok() {
                        self.kept += 1;
                        sums
                    } else {
                        pieces::copy(&wanted.from, &to, self.progress)?
                    }
                }
                _ => pieces::copy(&wanted.from, &to, self.progress)?,
            },
            Err(error) => return Err(BackupError::Io(to, error)),
        };
        self.files.push(FileEntry::new(wanted.path.clone(), sums, source));
        Ok(())
    }

    /// Copies the segment that may still be written to, up to offset `end`. What is before `from` is left out, but for
    /// the record that ends there: by it a restore knows that two journals are of one history.
    fn take_live(&mut self, segment: &Segment, from: u64, end: u64) -> Result<(), BackupError> {
        let mut reader = SegmentReader::open(&segment.path)?;
        let mut header = reader.header();
        let mut next = next_below(&mut reader, header.first_offset, end)?;
        while let Some(record) = next.filter(|record| record.end() < from) {
            (header.first_offset, header.created_ms) = (record.end(), record.unix_ms);
            next = next_below(&mut reader, record.end(), end)?;
        }
        let path = format!("journal/{}", journal::file_name(header.first_offset));
        let to = self.dir.join(&path);
        let mut copy = Copy::create(&to, self.progress)?;
        let mut summing = Summing::default();
        let mut chunk = header.encode().to_vec();
        loop {
            let began = Instant::now();
            while chunk.len() < pieces::CHUNK
                && let Some(record) = next
            {
                chunk.extend_from_slice(reader.bytes());
                next = next_below(&mut reader, record.end(), end)?;
            }
            summing.add(&chunk);
            copy.write(&chunk)?;
            self.progress.passed(chunk.len(), began.elapsed())?;
            chunk.clear();
            if next.is_none() {
                break;
            }
        }
        copy.finish()?;
        // It is another file every time.
        let entry = FileEntry::new(path, summing.finish(), Source::default());
        self.files.push(entry);
        Ok(())
    }

    /// Makes everything durable and gives the generation its name.
    fn put_in_place(&self) -> Result<PathBuf, BackupError> {
        for folder in ["store", "journal", "."] {
            sync_folder(&self.dir.join(folder))?;
        }
        let path = self.target.generation();
        fs::rename(&self.dir, &path).map_err(on(&path))?;
        crash_point("backup-after-rename");
        sync_folder(&self.target.dir)?;
        Ok(path)
    }
}

/// The next record of a segment that was read up to `reached`. What is at `end` or behind it may be half written.
fn next_below(
    reader: &mut SegmentReader,
    reached: u64,
    end: u64,
) -> Result<Option<RecordHeader>, BackupError> {
    if reached >= end {
        return Ok(None);
    }
    let record = reader.next_record()?;
    Ok(record.filter(|record| record.offset < end))
}

/// Names on another filesystem, or on one that knows one name per file only.
fn must_copy(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EXDEV | libc::EPERM | libc::EMLINK | libc::EOPNOTSUPP | libc::ENOSYS)
    )
}

pub(super) fn sync_folder(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(on(dir))
}

fn store_files(checkpoint: &Path) -> Result<Vec<Wanted>, BackupError> {
    let mut files = Vec::new();
    for item in fs::read_dir(checkpoint).map_err(on(checkpoint))? {
        let from = item.map_err(on(checkpoint))?.path();
        let found = fs::metadata(&from).map_err(on(&from))?;
        if let Some(name) = from.file_name().filter(|_| found.is_file()) {
            files.push(Wanted {
                path: format!("store/{}", name.to_string_lossy()),
                length: found.len(),
                from,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The libraries of functions, if the data folder has any: as they are now.
fn functions_file(journal: &Path) -> Option<Wanted> {
    let from = journal.parent()?.join(FUNCTIONS_FILE);
    let found = fs::metadata(&from).ok()?;
    Some(Wanted {
        path: FUNCTIONS_FILE.into(),
        length: found.len(),
        from,
    })
}

fn segment_path(segment: &Segment) -> String {
    let name = segment.path.file_name().unwrap_or_default();
    format!("journal/{}", name.to_string_lossy())
}

/// The segments of a backup.
struct Journal {
    /// What is before this offset is not needed.
    from: u64,
    /// Those that will not change any more.
    sealed: Vec<Wanted>,
    /// The last one, which may.
    live: Segment,
}

/// The segments reach back to offset `since`, so that nothing is missing between two backups, if the journal still does;
/// else to the mark.
fn segments(dir: &Path, mark: u64, since: Option<u64>, end: u64) -> Result<Journal, BackupError> {
    let mut segments = journal::list(dir).map_err(on(dir))?;
    // At least one: an empty journal has one that begins at its end.
    segments.retain(|segment| segment.first_offset <= end);
    let holding = |offset: u64| {
        segments
            .iter()
            .rposition(|segment| segment.first_offset <= offset)
    };
    let since = since.filter(|since| *since < mark && holding(*since).is_some());
    let from = since.unwrap_or(mark);
    let start = holding(from);
    let wanted = start.map(|start| segments.split_off(start)).unwrap_or_default();
    let Some((live, sealed)) = wanted.split_last() else {
        let why = format!("{}: no segment holds offset {mark}", dir.display());
        return Err(BackupError::Refused(why));
    };
    let sealed = sealed.iter().map(|segment| {
        let length = fs::metadata(&segment.path).map_err(on(&segment.path))?.len();
        Ok(Wanted {
            path: segment_path(segment),
            from: segment.path.clone(),
            length,
        })
    });
    Ok(Journal {
        from,
        sealed: sealed.collect::<Result<_, BackupError>>()?,
        live: live.clone(),
    })
}

/// When the last effect below `offset` was written down; none when nothing in the journal says so.
fn time_of(journal: &Path, offset: u64) -> Result<Option<u64>, BackupError> {
    let segments = journal::list(journal).map_err(on(journal))?;
    let Some(at) = segments
        .iter()
        .rposition(|segment| segment.first_offset <= offset)
    else {
        return Ok(None);
    };
    let mut reader = SegmentReader::open(&segments[at].path)?;
    // A segment is begun when what is before it is written.
    let mut time = reader.header().created_ms;
    while let Some(header) = reader.next_record()? {
        if header.end() > offset {
            break;
        }
        time = header.unix_ms;
    }
    Ok(Some(time))
}

/// A range in the words of the configuration file.
pub fn line_of(spec: &RangeSpec) -> String {
    format!("range {}", String::from_utf8_lossy(&spec.to_args().join(&b' ')))
}
