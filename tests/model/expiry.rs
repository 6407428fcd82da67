//! Keys whose time comes: the store's index of expiries, and many keys at once.

use super::*;

#[test]
fn the_stores_expiry_index_holds_live_expiries_and_nothing_else() {
    let dir = tempfile::tempdir().expect("temp dir");
    let specs = [spec("default * durable")];
    let settings = settings(0, EvictionPolicy::NoEviction);
    let (mut open, _) = Open::at(dir.path(), &specs, &settings, START_MS);
    let mut now = START_MS;
    let index_rows = |open: &Open| {
        let rows = all_rows(open.keyspace.store());
        check_index(&rows);
        rows.keys()
            .filter(|key| rows::split_expiry_key(key).is_some())
            .count()
    };
    let at = |ms: i64| ms.to_string().into_bytes();
    for i in 0..100 {
        let key = format!("key:{i}");
        open.run(
            0,
            now,
            &[b"SET", key.as_bytes(), b"value", b"PXAT", &at(now + 60_000)],
        )
        .expect("SET");
    }
    open.flush();
    assert_eq!(index_rows(&open), 100);
    // Changed again and again, in memory and cold, earlier and later, several times between two flushes.
    for round in 1..=100 {
        for change in 0..3 {
            let until = at(now + 60_000 + (round * 37 + change * 11) % 1_000);
            open.run(0, now, &[b"PEXPIREAT", b"key:0", &until])
                .expect("PEXPIREAT");
        }
        open.run(
            0,
            now,
            &[b"SET", b"key:1", b"again", b"PXAT", &at(now + 90_000 - round)],
        )
        .expect("SET");
        open.flush();
        assert_eq!(index_rows(&open), 100);
        if round % 2 == 0 {
            open.keyspace.drop_all_clean();
        }
    }
    // There and back again: the row that is there is the right one.
    open.run(0, now, &[b"PERSIST", b"key:2"]).expect("PERSIST");
    open.run(0, now, &[b"PEXPIREAT", b"key:2", &at(now + 60_000)])
        .expect("PEXPIREAT");
    open.flush();
    assert_eq!(index_rows(&open), 100);
    open.run(0, now, &[b"SET", b"key:2", b"for ever"]).expect("SET");
    open.run(0, now, &[b"PERSIST", b"key:3"]).expect("PERSIST");
    open.run(0, now, &[b"DEL", b"key:4"]).expect("DEL");
    open.run(0, now, &[b"RENAME", b"key:5", b"new:5"])
        .expect("RENAME");
    open.run(0, now, &[b"GETEX", b"key:6", b"PERSIST"])
        .expect("GETEX");
    open.flush();
    assert_eq!(index_rows(&open), 96);
    // A stop and a start in between: what has to go is known from the rows alone.
    open.run(0, now, &[b"PEXPIREAT", b"key:7", &at(now + 70_000)])
        .expect("PEXPIREAT");
    open.close();
    drop(open);
    let (mut open, _) = Open::at(dir.path(), &specs, &settings, now);
    open.run(0, now, &[b"PERSIST", b"key:8"]).expect("PERSIST");
    open.flush();
    assert_eq!(index_rows(&open), 95);
    // Cold keys come due: each row is looked at once, whatever is flushed in between.
    open.keyspace.drop_all_clean();
    now += 80_000;
    let (mut expired, mut looks) = (0, 0);
    loop {
        let (count, more) = open
            .keyspace
            .expire_cold(now, 10, &mut open.effects)
            .expect("reads the index");
        (expired, looks) = (expired + count, looks + 1);
        if looks % 4 == 0 {
            open.flush();
        }
        if !more {
            break;
        }
    }
    assert_eq!((expired, looks), (94, 10), "all but key:1, ten at a time");
    open.flush();
    assert_eq!(index_rows(&open), 1);
    // Rows that come later with earlier expiries are not overlooked.
    open.run(0, START_MS, &[b"SET", b"late", b"v", b"PXAT", &at(now - 1_000)])
        .expect("SET");
    open.flush();
    open.keyspace.drop_all_clean();
    assert_eq!(
        open.keyspace
            .expire_cold(now, 10, &mut open.effects)
            .expect("reads")
            .0,
        1
    );
    for db in 0..2 {
        open.run(db, now, &[b"SET", b"k", b"v", b"PXAT", &at(now + 5_000)])
            .expect("SET");
    }
    open.flush();
    assert_eq!(index_rows(&open), 3);
    open.keyspace.flush_db(Some(0), &mut open.effects);
    open.flush();
    assert_eq!(index_rows(&open), 1);
}

#[test]
fn a_million_keys_of_one_second_go_and_nobody_waits_long() {
    const KEYS: u32 = 1_000_000;
    let dir = tempfile::tempdir().expect("temp dir");
    let specs = [spec("default * memory")];
    let many = Settings {
        shards: 1024,
        ..settings(0, EvictionPolicy::NoEviction)
    };
    let (mut open, _) = Open::at(dir.path(), &specs, &many, START_MS);
    for i in 0..KEYS {
        let at = (START_MS + 1_000 + i64::from(i % 1_000)).to_string();
        open.run(
            0,
            START_MS,
            &[
                b"SET",
                format!("key:{i}").as_bytes(),
                b"value",
                b"PXAT",
                at.as_bytes(),
            ],
        )
        .expect("SET");
    }
    let (now, stop) = (START_MS + 3_000, AtomicBool::new(false));
    let keyspace = open.keyspace.clone();
    let (removed, took, longest) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut longest, mut i) = (Duration::ZERO, 0u32);
            while !stop.load(Relaxed) {
                i += 1;
                let started = Instant::now();
                open.run(0, START_MS, &[b"EXISTS", format!("other:{i}").as_bytes()])
                    .expect("EXISTS");
                longest = longest.max(started.elapsed());
            }
            longest
        });
        let (started, mut removed) = (Instant::now(), 0);
        let mut effects = Effects::default();
        loop {
            let (count, more) = keyspace.expire_resident(now, Duration::from_millis(25), &mut effects);
            removed += count;
            if !more {
                break;
            }
        }
        let took = started.elapsed();
        stop.store(true, Relaxed);
        (removed, took, watch.join().expect("watches"))
    });
    println!("{removed} keys in {took:?}; a command waited {longest:?} at most");
    assert_eq!(removed, u64::from(KEYS));
    let map = keyspace.ranges();
    let counters = &map.by_name("default").expect("range").counters;
    assert_eq!((counters.total_keys(), counters.bytes.load(Relaxed)), (0, 0));
}
