//! What a scan returns while others write.

use super::*;

#[derive(Clone, Debug)]
enum Beside {
    Insert(u16),
    Delete(u16),
    /// Overwrites a key that stays.
    Update(u16),
    Read(u16),
    Flush,
    DropClean,
    Scan(usize),
}

fn beside() -> impl Strategy<Value = Beside> {
    prop_oneof![
        3 => any::<u16>().prop_map(Beside::Insert),
        2 => any::<u16>().prop_map(Beside::Delete),
        2 => any::<u16>().prop_map(Beside::Update),
        2 => any::<u16>().prop_map(Beside::Read),
        2 => Just(Beside::Flush),
        2 => Just(Beside::DropClean),
        6 => (1usize..30).prop_map(Beside::Scan),
    ]
}

fn stays(i: u16) -> Vec<u8> {
    format!("{}stays:{}", if i.is_multiple_of(2) { "m:" } else { "" }, i % 80).into_bytes()
}

fn comes(i: u16) -> Vec<u8> {
    format!("{}comes:{}", if i.is_multiple_of(2) { "m:" } else { "" }, i % 500).into_bytes()
}

fn scan_sees_what_stays(steps: &[Beside]) {
    let dir = tempfile::tempdir().expect("temp dir");
    let specs = [spec("m m: memory")];
    let (mut open, _) = Open::at(
        dir.path(),
        &specs,
        &settings(0, EvictionPolicy::NoEviction),
        START_MS,
    );
    let expected: BTreeSet<Vec<u8>> = (0..80).map(stays).collect();
    for key in &expected {
        open.run(0, START_MS, &[b"SET", key, b"v"]).expect("SET");
    }
    let (mut cursor, mut seen) = (0, BTreeSet::new());
    // Enough steps at the end that the scan under way comes to its own.
    for step in steps.iter().chain(std::iter::repeat_n(&Beside::Scan(10), 100)) {
        let ran = match step {
            Beside::Insert(i) => open.run(0, START_MS, &[b"SET", &comes(*i), b"v"]),
            Beside::Delete(i) => open.run(0, START_MS, &[b"DEL", &comes(*i)]),
            Beside::Update(i) => open.run(0, START_MS, &[b"APPEND", &stays(*i), b"x"]),
            Beside::Read(i) => open.run(0, START_MS, &[b"GET", &stays(*i)]),
            Beside::Flush => {
                open.flush();
                Ok(Vec::new())
            }
            Beside::DropClean => {
                open.keyspace.drop_all_clean();
                Ok(Vec::new())
            }
            Beside::Scan(count) => {
                let step = open.keyspace.scan(0, cursor, *count, START_MS, |found| {
                    seen.insert(found.key.to_vec());
                });
                cursor = step.expect("scan");
                if cursor == 0 {
                    let missing: Vec<_> = expected.difference(&seen).collect();
                    assert!(missing.is_empty(), "not returned: {missing:?}");
                    seen.clear();
                }
                Ok(Vec::new())
            }
        };
        ran.expect("runs");
    }
}

proptest! {
    #![proptest_config(cases(50))]

    #[test]
    fn a_scan_returns_every_key_that_stays(steps in prop::collection::vec(beside(), 1..200)) {
        scan_sees_what_stays(&steps);
    }
}

#[test]
fn a_scan_returns_every_key_that_stays_while_threads_write_flush_and_drop() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut open, _) = Open::at(
        dir.path(),
        &[],
        &settings(0, EvictionPolicy::NoEviction),
        START_MS,
    );
    let expected: BTreeSet<Vec<u8>> = (0..80).map(stays).collect();
    for key in &expected {
        open.run(0, START_MS, &[b"SET", key, b"v"]).expect("SET");
    }
    let stop = AtomicBool::new(false);
    let keyspace = open.keyspace.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = fastrand::Rng::with_seed(3);
            while !stop.load(Relaxed) {
                let (stays, comes) = (stays(rng.u16(..)), comes(rng.u16(..)));
                let words: &[&[u8]] = match rng.u8(..4) {
                    0 => &[b"SET", &comes, b"v"],
                    1 => &[b"DEL", &comes],
                    2 => &[b"SET", &stays, b"w"],
                    _ => &[b"GET", &stays],
                };
                open.run(0, START_MS, words).expect("runs");
            }
        });
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                keyspace.flush_now().expect("flushes");
                keyspace.drop_all_clean();
            }
        });
        let until = Instant::now() + Duration::from_secs(4);
        let mut scans = 0;
        while Instant::now() < until {
            let (mut cursor, mut seen) = (0, BTreeSet::new());
            loop {
                let step = keyspace.scan(0, cursor, 20, START_MS, |found| {
                    seen.insert(found.key.to_vec());
                });
                cursor = step.expect("scan");
                if cursor == 0 {
                    break;
                }
            }
            scans += 1;
            if let Some(missing) = expected.difference(&seen).next() {
                stop.store(true, Relaxed);
                panic!("scan {scans} did not return {}", missing.escape_ascii());
            }
        }
        stop.store(true, Relaxed);
        println!("{scans} scans");
    });
}
