//! What is appended reads back, and what is damaged is told.

use super::*;

fn journal_options(segment_size: u64) -> journal::Options {
    journal::Options {
        segment_size,
        ring_size: 1 << 16,
        sync_every_second: false,
    }
}

/// Offsets and payloads.
type Records = Vec<(u64, Vec<u8>)>;

/// Every record of a journal.
fn records(dir: &Path) -> Result<(Records, journal::ReadSummary), ReadError> {
    let mut records = Vec::new();
    let summary = journal::read(dir, 0, |found| {
        records.extend(
            found
                .iter()
                .map(|(header, payload)| (header.offset, payload.to_vec())),
        );
        Ok(())
    })?;
    Ok((records, summary))
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn what_threads_append_reads_back(
        segment_size in 100u64..200_000,
        lengths in prop::collection::vec(prop::collection::vec(prop_oneof![30 => 16usize..300, 1 => 16usize..90_000], 1..200), 1..5),
    ) {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = Journal::open(dir.path(), 0, journal_options(segment_size)).expect("opens");
        let append = |(thread, lengths): (usize, &Vec<usize>)| -> Vec<(u64, Vec<u8>)> {
            let one = |(i, len): (usize, &usize)| {
                let payload = vec![(thread * 61 + i) as u8; *len];
                let end = journal.append(&payload);
                if i % 50 == 49 {
                    assert!(journal.wait_synced_blocking(end, || true) && journal.synced() >= end);
                }
                (end - *len as u64, payload)
            };
            lengths.iter().enumerate().map(one).collect()
        };
        let mut appended: Vec<(u64, Vec<u8>)> = std::thread::scope(|scope| {
            let append = &append;
            let threads: Vec<_> = lengths.iter().enumerate().map(|of| scope.spawn(move || append(of))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("appends")).collect()
        });
        prop_assert!(journal.close());
        appended.sort();
        let (read, summary) = records(dir.path()).expect("sound");
        prop_assert!(read == appended, "what was read differs");
        prop_assert_eq!((summary.end, summary.torn_bytes), (journal.end(), 0));
    }
}

/// A small journal of several segments; each file's name and bytes.
fn small_journal() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = Journal::open(dir.path(), 0, journal_options(150)).expect("opens");
    for i in 0..9u8 {
        let end = journal.append(&vec![b'a' + i; 16 + 7 * usize::from(i)]);
        assert!(journal.wait_synced_blocking(end, || true));
    }
    assert!(journal.close());
    let mut segments = journal::list(dir.path()).expect("list");
    // A segment that was begun and holds nothing yet says nothing about what is before it.
    while segments
        .last()
        .is_some_and(|last| std::fs::read(&last.path).expect("read").len() <= record::SEGMENT_HEADER)
    {
        segments.pop();
    }
    assert!(segments.len() > 2, "several segments");
    let name = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned()
    };
    segments
        .iter()
        .map(|segment| (name(&segment.path), std::fs::read(&segment.path).expect("read")))
        .collect()
}

fn write_journal(files: &[(String, Vec<u8>)]) -> TempDir {
    let dir = tempfile::tempdir().expect("temp dir");
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).expect("write");
    }
    dir
}

/// Where the records of a segment start, and its end.
fn record_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![record::SEGMENT_HEADER];
    while let Some(at) = starts.last().copied().filter(|at| *at < bytes.len()) {
        let (_, payload) = record::decode_record(&bytes[at..]).expect("sound");
        starts.push(at + record::RECORD_HEADER + payload.len());
    }
    starts
}

#[test]
fn a_journal_cut_off_anywhere_in_its_last_segment_is_a_prefix() {
    let files = small_journal();
    let (whole, _) = records(write_journal(&files).path()).expect("sound");
    let (name, last) = files.last().expect("a segment");
    let starts = record_starts(last);
    let before = whole.len() - (starts.len() - 1);
    // A header is on disk before its segment has its name: without a whole one, it is damage.
    for len in 0..=last.len() {
        let mut cut = files.clone();
        cut.pop();
        cut.push((name.clone(), last[..len].to_vec()));
        let dir = write_journal(&cut);
        if len < record::SEGMENT_HEADER {
            let error = records(dir.path()).expect_err("no header").to_string();
            assert!(error.contains(name) && error.contains("at byte 0"), "{error}");
            continue;
        }
        let complete = starts.iter().skip(1).filter(|end| **end <= len).count();
        for again in [false, true] {
            let (read, summary) = records(dir.path()).expect("a torn end is no damage");
            assert_eq!(read, whole[..before + complete], "cut at {len}");
            assert!(!again || summary.torn_bytes == 0, "what is torn is cut off once");
        }
    }
}

#[test]
fn a_flipped_byte_before_the_end_is_an_error_that_names_file_and_position() {
    let files = small_journal();
    let (whole, _) = records(write_journal(&files).path()).expect("sound");
    for (at, (name, bytes)) in files.iter().enumerate() {
        let starts = record_starts(bytes);
        let last_file = at + 1 == files.len();
        for flip in 0..bytes.len() {
            let mut damaged = files.clone();
            damaged[at].1[flip] ^= 1 << (flip % 8);
            let result = records(write_journal(&damaged).path());
            let start = starts
                .iter()
                .rev()
                .find(|start| **start <= flip)
                .copied()
                .unwrap_or(0);
            let behind_all = last_file && start == starts[starts.len() - 2];
            let unused = (28..record::SEGMENT_HEADER).contains(&flip);
            match result {
                Ok((read, _)) if behind_all => assert_eq!(read, whole[..whole.len() - 1], "{name} {flip}"),
                Ok((read, _)) => assert!(unused && read == whole, "{name}: the flip at {flip} was not seen"),
                Err(error) => {
                    let said = error.to_string();
                    let ReadError::Damaged { path, position, .. } = error else {
                        panic!("{name} {flip}: {said}")
                    };
                    assert!(
                        path.ends_with(name) && position == start as u64,
                        "{name} {flip}: {said}"
                    );
                    assert!(
                        said.contains(name.as_str()) && said.contains(&format!("at byte {start}")),
                        "{said}"
                    );
                }
            }
        }
    }
}
