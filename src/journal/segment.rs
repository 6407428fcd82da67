//! Segment files: naming, creating, listing, reading back.
//!
//! A segment ends where the next one begins, even if there is more in its file: see `tail`.

use super::history::distance;
use super::record::{self, FormatError, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// No records.
pub const EMPTY: &[&[u8]] = &[];
/// The name of a segment that is being made. There is one at a time; a crash may leave it.
const UNFINISHED: &str = "journal-unfinished.tmp";

/// A segment file and the offset of its first record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub path: PathBuf,
    pub first_offset: u64,
}

/// A journal that cannot be read to its end.
#[derive(Debug)]
pub enum ReadError {
    Io(PathBuf, io::Error),
    /// Bytes that are no record, with sound records behind them.
    Damaged {
        path: PathBuf,
        position: u64,
        why: FormatError,
    },
    /// Effects between two offsets are in no segment.
    Gap {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    /// There is no segment, though the store holds effects up to an offset.
    Missing {
        dir: PathBuf,
        held: u64,
    },
    /// The caller could not apply a record.
    Rejected {
        path: PathBuf,
        position: u64,
        why: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            ReadError::Damaged { path, position, why } => {
                write!(f, "journal damaged: {} at byte {position}: {why}", path.display())
            }
            ReadError::Gap {
                path,
                expected,
                found,
            } => {
                write!(
                    f,
                    "journal incomplete: {} starts at offset {found}, expected {expected}",
                    path.display()
                )
            }
            ReadError::Missing { dir, held } => {
                write!(
                    f,
                    "journal missing: no segment in {}, where the store holds effects up to offset {held}",
                    dir.display()
                )
            }
            ReadError::Rejected { path, position, why } => {
                write!(
                    f,
                    "journal record not understood: {} at byte {position}: {why}",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// What reading a journal found.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub struct ReadSummary {
    /// The offset behind the last sound record.
    pub end: u64,
    pub records: u64,
    /// Bytes behind the last sound record that are no record: a write that a crash cut short. After a repair, all that
    /// was cut off.
    pub torn_bytes: u64,
}

/// A new segment with `records` in it, which is durable then but for the folder's own sync: its header is never torn. It
/// takes the place of one with the same first offset. When it fails there is no new segment.
pub fn create(
    dir: &Path,
    first_offset: u64,
    created_ms: u64,
    records: &[impl AsRef<[u8]>],
) -> io::Result<File> {
    let unfinished = dir.join(UNFINISHED);
    let made = write_new(&unfinished, first_offset, created_ms, records).and_then(|file| {
        super::crash_point("segment-before-rename");
        // A crash here is fine: the next start removes the file, and everything in it is in another segment too.
        fs::rename(&unfinished, dir.join(file_name(first_offset)))?;
        Ok(file)
    });
    if made.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    made
}

fn write_new(
    path: &Path,
    first_offset: u64,
    created_ms: u64,
    records: &[impl AsRef<[u8]>],
) -> io::Result<File> {
    let _ = fs::remove_file(path);
    let mut file = File::create_new(path)?;
    let header = SegmentHeader {
        first_offset,
        created_ms,
    };
    file.write_all(&header.encode())?;
    for record in records {
        file.write_all(record.as_ref())?;
    }
    match records.is_empty() {
        true => file.sync_data()?,
        false => sync(&file)?,
    }
    Ok(file)
}

/// Makes the records in a segment durable. `FAILPOINTS="journal-sync=1*return"` makes it fail.
pub fn sync(file: &File) -> io::Result<()> {
    fail::fail_point!("journal-sync", |_| Err(io::Error::other("injected failure")));
    file.sync_data()
}

/// Makes the names in the folder durable.
pub fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes durable what a start has read up to offset `end`: the newest segment may hold records that no sync has covered,
/// or whose sync failed, so that asking for another proves nothing. It is written anew. Segments before it are durable:
/// a new one is begun only then.
pub fn settle(dir: &Path, end: u64) -> io::Result<()> {
    let Some(newest) = list(dir)?.pop() else {
        return Ok(());
    };
    if newest.first_offset >= end {
        return Ok(());
    }
    let bytes = fs::read(&newest.path)?;
    let records = bytes.get(SEGMENT_HEADER..).unwrap_or_default();
    let created_ms = SegmentHeader::decode(&bytes).map_or(0, |header| header.created_ms);
    create(dir, newest.first_offset, created_ms, &[records])?;
    sync_folder(dir)
}

/// The name of the segment that begins at an offset.
pub fn file_name(first_offset: u64) -> String {
    format!("journal-{first_offset:020}.log")
}

/// The segments in `dir`, by offset.
pub fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let digits = name
            .strip_prefix("journal-")
            .and_then(|name| name.strip_suffix(".log"));
        if let Some(first_offset) = digits.and_then(|digits| digits.parse().ok()) {
            segments.push(Segment { path, first_offset });
        }
    }
    segments.sort_by_key(|segment| segment.first_offset);
    Ok(segments)
}

/// A record's header and payload.
pub type Record<'a> = (RecordHeader, &'a [u8]);

/// Records handed over at once: so many that several threads may share them.
const GROUP: usize = 8192;

/// Why the caller does not take a record, and which of the group it is.
#[derive(Debug)]
pub struct Rejection {
    pub record: usize,
    pub why: String,
}

/// Reads every record from offset `from` on, in order, in groups. A torn end is cut off.
pub fn read(
    dir: &Path,
    from: u64,
    apply: impl FnMut(&[Record<'_>]) -> Result<(), Rejection>,
) -> Result<ReadSummary, ReadError> {
    walk(dir, from, Treat::Torn, apply)
}

/// Reads every record without using it. With `repair`, what is torn or damaged is cut off, the segments behind a damaged
/// or missing one are removed, and where there is none, one begins at `from`; without, nothing is changed.
pub fn inspect(dir: &Path, from: u64, repair: bool) -> Result<ReadSummary, ReadError> {
    walk(
        dir,
        from,
        if repair { Treat::Damaged } else { Treat::Nothing },
        |_| Ok(()),
    )
}

/// What is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Treat {
    Nothing,
    Torn,
    Damaged,
}

fn walk(
    dir: &Path,
    from: u64,
    treat: Treat,
    mut apply: impl FnMut(&[Record<'_>]) -> Result<(), Rejection>,
) -> Result<ReadSummary, ReadError> {
    let segments = present(dir)?;
    let needed = segments
        .iter()
        .rposition(|segment| segment.first_offset <= from)
        .unwrap_or(0);
    let mut summary = ReadSummary {
        end: from,
        ..ReadSummary::default()
    };
    for (i, segment) in segments.iter().enumerate().skip(needed) {
        let path = &segment.path;
        if segment.first_offset > summary.end {
            if treat == Treat::Damaged {
                summary.torn_bytes = remove(&segments[i..])?;
                break;
            }
            return Err(ReadError::Gap {
                path: path.clone(),
                expected: summary.end,
                found: segment.first_offset,
            });
        }
        let mut bytes = fs::read(path).map_err(|error| ReadError::Io(path.clone(), error))?;
        if treat == Treat::Damaged {
            mend_header(dir, segment, &mut bytes).map_err(|error| ReadError::Io(path.clone(), error))?;
        }
        let limit = segments.get(i + 1).map(|next| next.first_offset);
        let bad = read_segment((segment, limit), &bytes, from, &mut summary, &mut apply)?;
        let Some((position, why)) = bad else { continue };
        let is_torn = i + 1 == segments.len() && position >= SEGMENT_HEADER;
        if (!is_torn || sound_record_behind(&bytes[position..], summary.end)) && treat != Treat::Damaged {
            return Err(ReadError::Damaged {
                path: path.clone(),
                position: position as u64,
                why,
            });
        }
        summary.torn_bytes = (bytes.len() - position) as u64;
        if treat != Treat::Nothing {
            summary.torn_bytes += remove(&segments[i + 1..])?;
            truncate(segment, position).map_err(|error| ReadError::Io(path.clone(), error))?;
        }
        break;
    }
    if treat == Treat::Damaged && present(dir)?.is_empty() {
        begin(dir, from).map_err(|error| ReadError::Io(dir.to_path_buf(), error))?;
    }
    Ok(summary)
}

/// A journal that begins at an offset, where there is none.
fn begin(dir: &Path, from: u64) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    create(dir, from, super::unix_ms(), EMPTY)?;
    sync_folder(dir)
}

/// Writes a damaged header anew where sound records are behind it: all that it says stands in the file's name, too.
fn mend_header(dir: &Path, segment: &Segment, bytes: &mut [u8]) -> io::Result<()> {
    let Some((header, records)) = bytes.split_at_mut_checked(SEGMENT_HEADER) else {
        return Ok(());
    };
    // A newer version's is no damage.
    if SegmentHeader::is_whole(header) || record::decode_record(records).is_err() {
        return Ok(());
    }
    let created_ms = super::unix_ms();
    let first_offset = segment.first_offset;
    let made = SegmentHeader {
        first_offset,
        created_ms,
    };
    header.copy_from_slice(&made.encode());
    create(dir, first_offset, created_ms, &[&*records])?;
    sync_folder(dir)
}

/// Refuses a journal that is gone though the store holds effects up to an offset: there is always a segment.
pub fn refuse_missing(dir: &Path, held: u64) -> Result<(), ReadError> {
    match held > 0 && present(dir)?.is_empty() {
        true => Err(ReadError::Missing {
            dir: dir.to_path_buf(),
            held,
        }),
        false => Ok(()),
    }
}

/// The segments in `dir`; none where there is no such folder.
pub fn present(dir: &Path) -> Result<Vec<Segment>, ReadError> {
    match list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|error| ReadError::Io(dir.to_path_buf(), error)),
    }
}

/// Removes segments, the last first; returns their bytes.
fn remove(segments: &[Segment]) -> Result<u64, ReadError> {
    let mut removed = 0;
    for Segment { path, .. } in segments.iter().rev() {
        let len = fs::metadata(path).and_then(|file| fs::remove_file(path).map(|()| file.len()));
        removed += len.map_err(|error| ReadError::Io(path.clone(), error))?;
    }
    Ok(removed)
}

/// Cuts a segment off at `position`. One without a whole header is written anew, and empty.
fn truncate(segment: &Segment, position: usize) -> io::Result<()> {
    let path = &segment.path;
    if position < SEGMENT_HEADER {
        let dir = path.parent().unwrap_or(Path::new("."));
        create(dir, segment.first_offset, super::unix_ms(), EMPTY)?;
        return sync_folder(dir);
    }
    own_copy(path)?;
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(position as u64)?;
    file.sync_all()
}

/// A backup may know the file by another name, and keeps it as it is.
fn own_copy(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.nlink() == 1 {
        return Ok(());
    }
    let copy = path.with_file_name(UNFINISHED);
    fs::copy(path, &copy)?;
    fs::rename(copy, path)
}

type Bad = (usize, FormatError);

/// Applies the records of one segment below `limit`; `Some` is the place and reason of the first bytes that are no
/// record.
fn read_segment(
    (segment, limit): (&Segment, Option<u64>),
    bytes: &[u8],
    from: u64,
    summary: &mut ReadSummary,
    apply: &mut impl FnMut(&[Record<'_>]) -> Result<(), Rejection>,
) -> Result<Option<Bad>, ReadError> {
    if let Err(why) = SegmentHeader::decode(bytes) {
        return Ok(Some((0, why)));
    }
    let (mut position, mut reached) = (SEGMENT_HEADER, segment.first_offset);
    let mut group: Vec<Record<'_>> = Vec::with_capacity(GROUP);
    loop {
        let ended = position >= bytes.len() || limit.is_some_and(|limit| reached >= limit);
        let found = (!ended).then(|| record::decode_record(&bytes[position..]));
        if !matches!(found, Some(Ok(_))) || group.len() == GROUP {
            apply(&group).map_err(|Rejection { record, why }| {
                let len = |(_, payload): &Record<'_>| RECORD_HEADER + payload.len();
                let from_there: usize = group[record..].iter().map(len).sum();
                ReadError::Rejected {
                    path: segment.path.clone(),
                    position: (position - from_there) as u64,
                    why,
                }
            })?;
            summary.records += group.len() as u64;
            summary.end = group.last().map_or(summary.end, |(header, _)| header.end());
            group.clear();
        }
        match found {
            None => return Ok(None),
            Some(Err(why)) => return Ok(Some((position, why))),
            Some(Ok((header, payload))) => {
                if header.end() > from {
                    group.push((header, payload));
                }
                reached = header.end();
                position += RECORD_HEADER + payload.len();
            }
        }
    }
}

/// True when a sound record stands somewhere behind the first byte: then what is before it is damage, not a torn end.
/// Its offset must be one that can follow `end` so closely, a crash in between or not, which spares the checksum at
/// nearly every position.
fn sound_record_behind(bytes: &[u8], end: u64) -> bool {
    let plausible = |at: &usize| {
        let offset = bytes[at + 8..at + 16]
            .try_into()
            .map(u64::from_le_bytes)
            .unwrap_or(0);
        offset >= end && distance(end, offset) < bytes.len() as u64
    };
    let positions = 1..bytes.len().saturating_sub(RECORD_HEADER);
    positions
        .filter(plausible)
        .any(|at| record::decode_record(&bytes[at..]).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(records: &[(u64, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut file = create(dir.path(), 0, 1, EMPTY).expect("segment");
        for (offset, payload) in records {
            let mut bytes = Vec::new();
            record::encode_record(&mut bytes, *offset, 1, (payload.as_bytes(), b""));
            file.write_all(&bytes).expect("write");
        }
        let path = list(dir.path()).expect("list")[0].path.clone();
        (dir, path)
    }

    fn payloads(dir: &Path, from: u64) -> Result<(Vec<String>, ReadSummary), ReadError> {
        let mut seen = Vec::new();
        let summary = read(dir, from, |records| {
            seen.extend(
                records
                    .iter()
                    .map(|(_, payload)| String::from_utf8_lossy(payload).into_owned()),
            );
            Ok(())
        })?;
        Ok((seen, summary))
    }

    #[test]
    fn a_torn_end_is_cut_off_at_every_length() {
        let (dir, path) = journal(&[(0, "first effect"), (12, "second")]);
        let whole = fs::read(&path).expect("read");
        let second_at = whole.len() - RECORD_HEADER - 6;
        for len in second_at + 1..whole.len() {
            fs::write(&path, &whole[..len]).expect("write");
            let (seen, summary) = payloads(dir.path(), 0).expect("torn is not damaged");
            assert_eq!(
                (seen.len(), summary.end, summary.torn_bytes),
                (1, 12, (len - second_at) as u64)
            );
            assert_eq!(fs::metadata(&path).expect("metadata").len(), second_at as u64);
        }
    }

    #[test]
    fn damage_before_the_end_stops_with_file_and_position_until_repair_is_asked_for() {
        let (dir, path) = journal(&[(0, "first effect"), (12, "second")]);
        let mut bytes = fs::read(&path).expect("read");
        bytes[SEGMENT_HEADER + RECORD_HEADER] ^= 1;
        fs::write(&path, &bytes).expect("write");
        let error = payloads(dir.path(), 0).expect_err("damaged").to_string();
        assert!(
            error.contains("at byte 32") && error.contains("journal-0000"),
            "{error}"
        );
        assert!(inspect(dir.path(), 0, false).is_err());
        assert_eq!(inspect(dir.path(), 0, true).expect("repaired").records, 0);
        assert_eq!(payloads(dir.path(), 0).expect("sound again").0.len(), 0);
    }

    #[test]
    fn a_repair_goes_on_from_what_is_before_a_gap_and_begins_a_journal_that_is_gone() {
        let (dir, _) = journal(&[(0, "first effect"), (12, "second")]);
        create(dir.path(), 30, 1, &[[0u8; 100]]).expect("segment");
        create(dir.path(), 50, 1, EMPTY).expect("segment");
        let error = payloads(dir.path(), 0).expect_err("a gap").to_string();
        assert!(error.contains("starts at offset 30, expected 18"), "{error}");
        let repaired = inspect(dir.path(), 0, true).expect("repaired");
        assert_eq!((repaired.end, repaired.torn_bytes), (18, 132 + 32));
        assert_eq!(payloads(dir.path(), 0).expect("sound").0.len(), 2);

        let gone = dir.path().join("gone");
        assert!(refuse_missing(&gone, 0).is_ok());
        for from in [0, 18] {
            let error = refuse_missing(&gone, 18).expect_err("missing").to_string();
            assert!(error.contains("journal missing"), "{error}");
            assert_eq!(inspect(&gone, from, true).expect("repaired").end, from);
            assert!(refuse_missing(&gone, 18).is_ok());
            assert_eq!(payloads(&gone, from).expect("sound").1.end, from);
            fs::remove_dir_all(&gone).expect("removed");
        }
    }

    #[test]
    fn a_repair_of_a_journal_without_its_first_segment_begins_another() {
        for from in [0, 5] {
            let dir = tempfile::tempdir().expect("temp dir");
            create(dir.path(), 12, 1, EMPTY).expect("segment");
            assert!(payloads(dir.path(), from).is_err());
            assert_eq!(inspect(dir.path(), from, true).expect("repaired").torn_bytes, 32);
            assert_eq!(list(dir.path()).expect("list")[0].first_offset, from);
            assert_eq!(payloads(dir.path(), from).expect("sound").1.end, from);
        }
    }

    #[test]
    fn a_damaged_header_is_mended_and_nothing_behind_it_lost() {
        let (dir, path) = journal(&[(0, "first effect"), (12, "second")]);
        let sound = fs::read(&path).expect("read");
        for at in [0, 7, 9, 17, 25] {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).expect("write");
            assert!(payloads(dir.path(), 0).is_err());
            let repaired = inspect(dir.path(), 0, true).expect("repaired");
            assert_eq!((repaired.end, repaired.torn_bytes), (18, 0));
            assert_eq!(payloads(dir.path(), 0).expect("sound").0.len(), 2);
        }
    }

    #[test]
    fn reading_starts_behind_the_mark() {
        let (dir, _) = journal(&[(0, "first effect"), (12, "second")]);
        create(dir.path(), 18, 1, EMPTY).expect("segment");
        assert_eq!(payloads(dir.path(), 12).expect("read").0, ["second"]);
    }
}
