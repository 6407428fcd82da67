//! The journal from an offset on, read while it is being written.
//!
//! The segment that is open goes on growing; where it has ended, the next one is looked for. A segment may hold more
//! than belongs to it (see `tail`): records that have been met already are passed over. Nothing is read that the caller
//! does not say to be in the files, so no record is met half written.

use super::SegmentReader;
use super::record::{RECORD_HEADER, RecordHeader};
use super::segment::{self, ReadError};
use std::path::{Path, PathBuf};

pub struct Follower {
    dir: PathBuf,
    /// Everything below has been handed out.
    position: u64,
    open: Option<(u64, SegmentReader)>,
}

impl Follower {
    /// The segments with what is at and above `position` must be held.
    pub fn new(dir: &Path, position: u64) -> Follower {
        Follower {
            dir: dir.to_path_buf(),
            position,
            open: None,
        }
    }

    /// Everything below has been handed out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next record, if it begins below `end`: everything below `end` is in the files.
    pub fn next(&mut self, end: u64) -> Result<Option<(RecordHeader, &[u8])>, ReadError> {
        while self.position < end {
            let Some((_, reader)) = &mut self.open else {
                self.open_segment()?;
                continue;
            };
            match reader.next_record()? {
                Some(header) if header.end() > self.position => {
                    self.position = header.end();
                    return Ok(self
                        .open
                        .as_ref()
                        .map(|(_, reader)| (header, &reader.bytes()[RECORD_HEADER..])));
                }
                Some(_) => {}
                None => self.open_segment()?,
            }
        }
        Ok(None)
    }

    /// Goes on in the segment that has the position, which may be the one that is open, with more in it.
    fn open_segment(&mut self) -> Result<(), ReadError> {
        let segments = segment::list(&self.dir).map_err(|error| ReadError::Io(self.dir.clone(), error))?;
        let found = segments
            .iter()
            .rfind(|segment| segment.first_offset <= self.position);
        let Some(found) = found else {
            let first = segments.first();
            return Err(ReadError::Gap {
                path: first.map_or_else(|| self.dir.clone(), |first| first.path.clone()),
                expected: self.position,
                found: first.map_or(0, |first| first.first_offset),
            });
        };
        match &mut self.open {
            Some((first, reader)) if *first == found.first_offset => match reader.see_more()? {
                true => Ok(()),
                false => Err(ReadError::Gap {
                    path: found.path.clone(),
                    expected: self.position,
                    found: self.position,
                }),
            },
            _ => {
                self.open = Some((found.first_offset, SegmentReader::open(&found.path)?));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Journal, Options};
    use super::*;

    #[test]
    fn what_is_appended_meanwhile_is_read_once_and_in_order() {
        let dir = tempfile::tempdir().expect("temp dir");
        let options = Options {
            segment_size: 4096,
            ring_size: 1 << 16,
            sync_every_second: false,
        };
        let journal = Journal::open(dir.path(), 0, options).expect("open");
        let append = |from: usize, to: usize| {
            let append = |i| journal.append(format!("*2\r\n$3\r\nDEL\r\n$5\r\n{i:05}\r\n").as_bytes());
            (from..to).map(append).last().expect("some")
        };
        let mut follower = Follower::new(dir.path(), 0);
        let (mut seen, mut at, mut appended) = (0, 0, 0);
        for count in [1, 1, 500, 3, 700] {
            let end = append(appended, appended + count);
            appended += count;
            assert!(journal.wait_synced_blocking(end, || false));
            while let Some((header, payload)) = follower.next(end).expect("read") {
                assert_eq!(header.offset, at);
                assert!(payload.ends_with(format!("{seen:05}\r\n").as_bytes()));
                (at, seen) = (header.end(), seen + 1);
            }
            assert_eq!((seen, follower.position()), (appended, end));
        }
        let mut late = Follower::new(dir.path(), 24 * 600);
        let (first, _) = late.next(at).expect("read").expect("a record");
        assert_eq!(first.offset, 24 * 600);
        assert!(segment::list(dir.path()).expect("list").len() > 1);
        assert!(journal.close());
    }
}
