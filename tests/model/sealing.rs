//! Sealed keys are told apart, and sealing holds the limit.

use super::*;

#[test]
fn keys_whose_hashes_are_alike_are_kept_apart_when_they_are_sealed() {
    const KEYS: u32 = 8_000;
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut open, _) = Open::at(
        dir.path(),
        &[spec("m m: memory")],
        &settings(0, EvictionPolicy::NoEviction),
        START_MS,
    );
    let key = |i: u32| format!("m:{i}").into_bytes();
    let set = |open: &mut Open, i: u32, value: &str| {
        let value = format!("{value}{i}").into_bytes();
        open.run(0, START_MS, &[b"SET", &key(i), &value]).expect("SET");
    };
    (0..KEYS).for_each(|i| set(&mut open, i, "old"));
    // Those whose slot is another's are in a generation of their own.
    let sealed = open.keyspace.seal_all().expect("seals");
    assert_eq!(sealed, u64::from(KEYS));
    assert!(
        open.keyspace.plain_generations() > 1,
        "no two hashes were alike: more keys are needed"
    );
    // Those that are written anew go into another one, beside what they were.
    (0..KEYS)
        .filter(|i| i % 3 == 0)
        .for_each(|i| set(&mut open, i, "new"));
    for i in (0..KEYS).filter(|i| i % 3 == 1) {
        assert_eq!(open.run(0, START_MS, &[b"DEL", &key(i)]).expect("DEL"), b":1\r\n");
    }
    open.keyspace.seal_all().expect("seals");
    for i in 0..KEYS {
        let expected = match i % 3 {
            0 => format!("new{i}"),
            1 => String::new(),
            _ => format!("old{i}"),
        };
        let expected = match expected.len() {
            0 => b"$-1\r\n".to_vec(),
            len => format!("${len}\r\n{expected}\r\n").into_bytes(),
        };
        assert_eq!(
            open.run(0, START_MS, &[b"GET", &key(i)]).expect("GET"),
            expected,
            "{i}"
        );
    }
    assert_eq!(open.scan(0, START_MS, 10).len() as u32, KEYS - KEYS.div_ceil(3));
    assert_eq!(
        open.keyspace.ranges().keys_in_db(0),
        i64::from(KEYS - KEYS.div_ceil(3))
    );
}

#[test]
fn sealing_holds_the_limit_under_a_write_load_whatever_the_value_sizes() {
    const LIMIT: u64 = 64 << 20;
    for most in [60usize, 3_000, 60_000] {
        let dir = tempfile::tempdir().expect("temp dir");
        let settings = Settings {
            shards: 256,
            seal_after: 300,
            ..settings(LIMIT, EvictionPolicy::AllKeysLru)
        };
        let (mut open, _) = Open::at(dir.path(), &[spec("m m: memory")], &settings, START_MS);
        let of_thread = open.keyspace.clone();
        let sealer = std::thread::spawn(move || of_thread.seal_loop());
        let (mut rng, mut written, mut peak) = (fastrand::Rng::with_seed(5), 0u64, 0);
        let mut i = 0u64;
        let began = Instant::now();
        while written < 2 * LIMIT || began.elapsed() < Duration::from_secs(4) {
            let now = START_MS + began.elapsed().as_millis() as i64;
            let value = vec![b'v'; rng.usize(..most)];
            let key = format!("m:{i}").into_bytes();
            if open.keyspace.is_over_limit() {
                let room = open.keyspace.make_room_for([&key[..]].into_iter(), now);
                assert_eq!(room, Room::Enough);
            }
            open.run(0, now, &[b"SET", &key, &value]).expect("SET");
            i += 1;
            written += value.len() as u64 + 16;
            if i.is_multiple_of(512) {
                open.keyspace
                    .expire_resident(now, Duration::from_millis(1), &mut open.effects);
                peak = peak.max(open.keyspace.memory_bytes());
            }
        }
        assert!(
            peak < LIMIT + LIMIT / 20,
            "values to {most}: {peak} of {LIMIT} in use"
        );
        let map = open.keyspace.ranges();
        let counters = &map.by_name("m").expect("range").counters;
        let (keys, evicted) = (counters.total_keys() as u64, counters.evicted.load(Relaxed));
        assert!(counters.sealed.load(Relaxed) > 0, "nothing was sealed");
        assert_eq!(keys + evicted, i, "every key is there or was evicted");
        // What was written last is there.
        let last = open.run(0, START_MS, &[b"EXISTS", format!("m:{}", i - 1).as_bytes()]);
        assert_eq!(last.expect("EXISTS"), b":1\r\n");
        drop(map);
        open.close();
        sealer.join().expect("sealing thread");
    }
}
