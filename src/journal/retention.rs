//! How long segments stay that no start needs any more.
//!
//! A segment that is wholly below the store's mark may go. It stays while somebody reads at or behind an offset in it
//! (`Hold`), and while the directives `journal-retention-time` and `journal-retention-size` ask for it. Segments go from
//! the oldest on, so what is left is without a gap.

use super::segment::{self, Segment};
use super::{crash_point, record};
use parking_lot::Mutex;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// What of the journal behind the mark stays. With neither, nothing does; with both, what satisfies both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds since the segment's last record; 0 is no bound.
    pub time_ms: u64,
    /// Bytes of segments; 0 is no bound.
    pub size: u64,
}

impl Retention {
    fn keeps(&self, age_ms: u64, bytes: u64) -> bool {
        (self.time_ms > 0 || self.size > 0)
            && (self.time_ms == 0 || age_ms <= self.time_ms)
            && (self.size == 0 || bytes <= self.size)
    }
}

/// Offsets that somebody still reads from.
#[derive(Default)]
pub struct Holds(Mutex<Vec<u64>>);

/// While this lives, what is at or above its offset stays in the journal.
pub struct Hold {
    holds: Arc<Holds>,
    offset: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.0.lock();
        if let Some(at) = held.iter().position(|offset| *offset == self.offset) {
            held.swap_remove(at);
        }
    }
}

impl Holds {
    pub fn hold(self: &Arc<Holds>, offset: u64) -> Hold {
        self.0.lock().push(offset);
        Hold {
            holds: self.clone(),
            offset,
        }
    }

    /// Removes what is below `mark` and neither held nor kept. No hold begins meanwhile.
    pub fn trim(&self, dir: &Path, mark: u64, retention: &Retention, now_ms: u64) -> io::Result<()> {
        let held = self.0.lock();
        let below = held.iter().copied().min().map_or(mark, |held| held.min(mark));
        trim(dir, below, retention, now_ms)
    }
}

/// Removes the segments that hold nothing at or above `mark`, but for those that are kept. The last one always stays.
fn trim(dir: &Path, mark: u64, retention: &Retention, now_ms: u64) -> io::Result<()> {
    let segments = segment::list(dir)?;
    let mut first_kept = segments
        .windows(2)
        .take_while(|pair| pair[1].first_offset <= mark)
        .count();
    let mut bytes = 0;
    while let Some(pair) = first_kept.checked_sub(1).and_then(|at| segments.get(at..at + 2)) {
        bytes += fs::metadata(&pair[0].path)?.len();
        // A segment is begun when the one before it is done.
        if !retention.keeps(now_ms.saturating_sub(created_ms(&pair[1])), bytes) {
            break;
        }
        first_kept -= 1;
    }
    for segment in &segments[..first_kept] {
        crash_point("trim-before-remove");
        fs::remove_file(&segment.path)?;
    }
    Ok(())
}

/// When a segment was begun; 0 when its header does not say.
fn created_ms(segment: &Segment) -> u64 {
    let mut header = [0; record::SEGMENT_HEADER];
    File::open(&segment.path)
        .and_then(|mut file| file.read_exact(&mut header))
        .ok()
        .and_then(|()| record::SegmentHeader::decode(&header).ok())
        .map_or(0, |header| header.created_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments at 0, 10, 20, 30 that were begun at 0, 10, 20, 30 ms, 132 bytes each.
    fn journal() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp dir");
        for at in [0, 10, 20, 30] {
            segment::create(dir.path(), at, at, &[[0u8; 100]]).expect("segment");
        }
        dir
    }

    fn left(dir: &tempfile::TempDir) -> Vec<u64> {
        let segments = segment::list(dir.path()).expect("list");
        segments.iter().map(|segment| segment.first_offset).collect()
    }

    #[test]
    fn without_retention_what_is_below_the_mark_goes_and_the_last_stays() {
        let (dir, holds) = (journal(), Holds::default());
        let trim = |mark| holds.trim(dir.path(), mark, &Retention::default(), 100);
        trim(19).expect("trim");
        assert_eq!(left(&dir), [10, 20, 30]);
        trim(1_000).expect("trim");
        assert_eq!(left(&dir), [30]);
    }

    #[test]
    fn time_and_size_keep_the_newest_without_a_gap() {
        for (time_ms, size, expected) in [
            (80, 0, vec![10, 20, 30]),
            (0, 264, vec![10, 20, 30]),
            (0, 263, vec![20, 30]),
            (1_000, 200, vec![20, 30]),
            (75, 1_000, vec![20, 30]),
            (1_000, 0, vec![0, 10, 20, 30]),
            (1, 0, vec![30]),
        ] {
            let (dir, holds) = (journal(), Holds::default());
            let retention = Retention { time_ms, size };
            holds.trim(dir.path(), 30, &retention, 100).expect("trim");
            assert_eq!(left(&dir), expected, "{retention:?}");
        }
    }

    #[test]
    fn what_is_held_stays_until_it_is_let_go() {
        let (dir, holds) = (journal(), Arc::new(Holds::default()));
        let hold = holds.hold(15);
        let trim = || holds.trim(dir.path(), 30, &Retention::default(), 100);
        trim().expect("trim");
        assert_eq!(left(&dir), [10, 20, 30]);
        drop(hold);
        trim().expect("trim");
        assert_eq!(left(&dir), [30]);
    }
}
