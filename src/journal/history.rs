//! What becomes of offsets at a crash: none is ever given out twice.
//!
//! Who follows the journal holds an offset, and has been told of everything below it. A crash may take the newest
//! records, so the journal may end below an offset that somebody holds. If the next records got the offsets that are
//! lost, nobody would notice: the client would go on from an offset that now stands for something else, and miss what
//! is below it.
//!
//! ```text
//!   ... | record | record | lost |                              before the crash
//!                         E
//!   ... | record | record |           nothing          | SELECT 0 | record ...    after it
//!                         E                             E + SKIP
//! ```
//!
//! So a start that does not find the journal as an orderly end has left it begins a segment at the journal's end, E,
//! whose first record ends far behind: further than everything that could be lost, which was in memory somewhere. The
//! record is an effect that does nothing. An offset in between is one that was lost, and can be told so.
//!
//! An orderly end leaves a file with the offset of the journal's end. The next start takes it away, durably, before it
//! gives out an offset.

use super::record::encode_record;
use super::segment::{self, ReadError};
use super::{SegmentReader, unix_ms};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// How far offsets go on from a crash. More than any memory holds, and so little that a million crashes fit.
pub const SKIP: u64 = 1 << 42;
const NOTHING: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
const CLOSED: &str = "journal-closed";

/// Bytes of effects between two offsets, without those that crashes have passed over.
pub fn distance(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) % SKIP
}

/// The offset with which the journal goes on that ends at `end`, and the record that leads there.
pub(super) fn skip(end: u64) -> (u64, Vec<u8>) {
    let start = end + SKIP;
    let mut record = Vec::new();
    let offset = start - NOTHING.len() as u64;
    encode_record(&mut record, offset, unix_ms(), (NOTHING, b""));
    (start, record)
}

/// Notes that everything up to `end` is durable, and nothing comes behind it.
pub(super) fn note_close(dir: &Path, end: u64) -> io::Result<()> {
    let unfinished = dir.join("journal-closed.tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(end.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, dir.join(CLOSED))?;
    segment::sync_folder(dir)
}

/// Whether offsets beyond `end` may have been given out: there was a journal, or a store, and no orderly end at `end`.
/// The note of that end is taken away.
pub fn may_be_lost(dir: &Path, end: u64) -> io::Result<bool> {
    let closed = match fs::read(dir.join(CLOSED)) {
        Ok(closed) => {
            fs::remove_file(dir.join(CLOSED))?;
            segment::sync_folder(dir)?;
            closed == end.to_string().as_bytes()
        }
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    Ok(!closed && (end > 0 || !segment::list(dir)?.is_empty()))
}

/// Where the journal ended and where it went on, if a crash has taken what led to this offset.
pub fn lost(dir: &Path, offset: u64) -> Result<Option<(u64, u64)>, ReadError> {
    let segments = segment::list(dir).map_err(|error| ReadError::Io(dir.to_path_buf(), error))?;
    let holding = segments.iter().rfind(|segment| segment.first_offset <= offset);
    let Some(holding) = holding.filter(|segment| segment.first_offset < offset) else {
        return Ok(None);
    };
    // Of a segment that is being written nothing may be in the file yet, or half a record; what leads over a gap is
    // there from the beginning.
    let Ok(Some(first)) = SegmentReader::open(&holding.path)?.next_record() else {
        return Ok(None);
    };
    let leads_over = first.offset > holding.first_offset && first.end() > offset;
    Ok(leads_over.then(|| (holding.first_offset, first.end())))
}

#[cfg(test)]
mod tests {
    use super::super::{Journal, Options, list, read};
    use super::*;

    const EFFECT: &[u8] = b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n";

    fn open(dir: &Path, end: u64) -> Journal {
        let options = Options {
            segment_size: 4096,
            ring_size: 1 << 16,
            sync_every_second: false,
        };
        Journal::open(dir, end, options).expect("open")
    }

    #[test]
    fn offsets_go_on_behind_an_orderly_end_and_are_never_given_out_again_behind_another() {
        let dir = tempfile::tempdir().expect("temp dir");
        let dir = dir.path();
        let end_of = || read(dir, 0, |_| Ok(())).expect("read").end;
        let journal = open(dir, 0);
        let closed_at = journal.append(EFFECT);
        assert!(journal.close());
        assert_eq!(end_of(), closed_at);

        let journal = open(dir, closed_at);
        let (kept, lost_at) = (journal.append(EFFECT), journal.append(EFFECT));
        assert_eq!(kept, closed_at + EFFECT.len() as u64);
        assert!(journal.close());
        // The note is of another journal than what a crash has left.
        let path = &list(dir).expect("list")[1].path;
        let bytes = fs::read(path).expect("read");
        fs::write(path, &bytes[..bytes.len() - 5]).expect("write");
        assert_eq!(end_of(), kept);

        let mut ends = vec![kept];
        for _ in 0..3 {
            let end = end_of();
            let journal = open(dir, end);
            let begun = journal.end();
            assert_eq!((begun, distance(end, begun)), (end + SKIP, 0));
            let appended = journal.append(EFFECT);
            assert!(journal.wait_synced_blocking(appended, || false));
            assert_eq!(distance(end, appended), EFFECT.len() as u64);
            ends.extend([begun, appended]);
            for (offset, expected) in [(end, None), (begun, None), (lost_at, Some((kept, kept + SKIP)))] {
                assert_eq!(lost(dir, offset).expect("looked"), expected, "{offset}");
            }
            // It ends without a word.
            assert!(journal.close());
            fs::remove_file(dir.join(CLOSED)).expect("remove");
        }
        assert!(ends.is_sorted() && end_of() == ends[6]);
    }

    #[test]
    fn a_new_journal_begins_at_its_beginning() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(open(dir.path(), 0).end(), 0);
        assert!(may_be_lost(dir.path(), 0).expect("looked"));
    }
}
