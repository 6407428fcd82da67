//! What leaves memory, by which policy, and what never does.

use super::*;

const POLICIES: [(&str, bool); 8] = [
    ("noeviction", false),
    ("allkeys-lru", false),
    ("allkeys-lfu", false),
    ("allkeys-random", false),
    ("volatile-lru", true),
    ("volatile-lfu", true),
    ("volatile-random", true),
    ("volatile-ttl", true),
];

#[test]
fn every_policy_keeps_its_limit_and_takes_only_what_it_may() {
    const LIMIT: i64 = 40_000;
    /// More than any entry here takes.
    const ENTRY: i64 = 256;
    for (policy, volatile) in POLICIES {
        let dir = tempfile::tempdir().expect("temp dir");
        let specs = [spec(&format!(
            "m m: memory maxmemory {LIMIT} maxmemory-policy {policy}"
        ))];
        let (mut open, _) = Open::at(
            dir.path(),
            &specs,
            &settings(0, EvictionPolicy::NoEviction),
            START_MS,
        );
        let mut rng = fastrand::Rng::with_seed(11);
        let (mut kept, mut refused, mut durable) = (BTreeSet::new(), 0, BTreeMap::new());
        for i in 0..3_000u32 {
            let now = START_MS + i64::from(i);
            let lasting = rng.u8(..10) == 0;
            let key = format!("m:{i}").into_bytes();
            let value = vec![b'v'; rng.usize(..100)];
            let outside = format!("d:{i}").into_bytes();
            open.run(0, now, &[b"SET", &outside, &value]).expect("SET");
            durable.insert(outside, value.clone());
            if open.keyspace.is_over_limit() && open.keyspace.make_room(now) != Room::Enough {
                refused += 1;
                continue;
            }
            if lasting && volatile {
                open.run(0, now, &[b"SET", &key, &value]).expect("SET");
                kept.insert(key);
            } else {
                open.run(0, now, &[b"SET", &key, &value, b"PX", b"1000000"])
                    .expect("SET");
            }
            let bytes = open
                .keyspace
                .ranges()
                .by_name("m")
                .expect("range")
                .counters
                .bytes
                .load(Relaxed);
            assert!(bytes <= LIMIT + ENTRY, "{policy}: {bytes} bytes");
        }
        assert!(
            policy == "noeviction" || volatile || refused == 0,
            "{policy}: {refused} refused"
        );
        for key in &kept {
            assert_eq!(
                open.run(0, START_MS, &[b"EXISTS", key]).expect("EXISTS"),
                b":1\r\n",
                "{policy}"
            );
        }
        open.flush();
        assert_eq!(
            open.scan(0, START_MS, 100)
                .iter()
                .filter(|key| key.starts_with(b"d:"))
                .count(),
            durable.len()
        );
    }
}

#[test]
fn memory_pressure_never_takes_a_durable_key() {
    const LIMIT: u64 = 150_000;
    let dir = tempfile::tempdir().expect("temp dir");
    let specs = [spec("m m: memory")];
    let (mut open, _) = Open::at(
        dir.path(),
        &specs,
        &settings(LIMIT, EvictionPolicy::AllKeysLru),
        START_MS,
    );
    let mut written = BTreeMap::new();
    for i in 0..6_000i64 {
        let key = format!("{}{i}", if i % 3 == 0 { "m:" } else { "" }).into_bytes();
        let value = vec![b'a' + (i % 26) as u8; (i % 90) as usize];
        while open.keyspace.is_over_limit() {
            match open.keyspace.make_room(START_MS + i) {
                Room::Enough => {}
                Room::WaitForFlush => open.flush(),
                Room::Full => panic!("something can always be dropped or evicted"),
            }
        }
        open.run(0, START_MS + i, &[b"SET", &key, &value]).expect("SET");
        if i % 3 != 0 {
            written.insert(key, value);
        }
    }
    let dropped = open
        .keyspace
        .ranges()
        .by_name("default")
        .expect("range")
        .counters
        .dropped
        .load(Relaxed);
    assert!(dropped > 1_000, "only {dropped} were dropped: nothing was tested");
    open.keyspace
        .apply_settings(&settings(0, EvictionPolicy::AllKeysLru));
    open.flush();
    let mut durable = open.scan(0, START_MS, 1_000);
    durable.retain(|key| !key.starts_with(b"m:"));
    assert!(durable.iter().eq(written.keys()));
    for (key, value) in &written {
        let reply = open.run(0, START_MS, &[b"GET", key]).expect("GET");
        assert!(
            reply.ends_with(&[value, b"\r\n".as_slice()].concat()),
            "{}",
            key.escape_ascii()
        );
    }
}
