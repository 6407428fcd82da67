//! Sealed keys over the wire: every command sees them, a restart finds them again, a crash drops them whole.

mod common;

use common::ranges::count;
use common::{Conn, Server, folder_bytes, show};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const KEYS: usize = 20_000;

fn start(memory_dir: &Path) -> Server {
    let dir = memory_dir.to_string_lossy().into_owned();
    Server::terrace(&[
        "--range",
        "default",
        "*",
        "memory",
        "--enable-debug-command",
        "yes",
        "--memory-dir",
        &dir,
    ])
}

fn fill(conn: &mut Conn) {
    let sets: Vec<Vec<Vec<u8>>> = (0..KEYS)
        .map(|i| {
            let mut words = vec![b"SET".to_vec(), format!("key:{i}").into_bytes()];
            words.push(format!("value of {i}").into_bytes());
            if i % 10 == 0 {
                words.extend([b"EX".to_vec(), b"1000".to_vec()]);
            }
            words
        })
        .collect();
    for sets in sets.chunks(1_000) {
        conn.pipeline(sets).expect("SETs");
    }
    conn.words("HSET h a 1 b 2");
    conn.words("RPUSH l x y z");
    conn.words("SET soon gone PX 1500");
}

fn check(conn: &mut Conn) {
    for i in (0..KEYS).step_by(7) {
        let value = conn.bulk(&format!("GET key:{i}"));
        assert_eq!(value, Some(format!("value of {i}").into_bytes()), "key:{i}");
        assert_eq!(conn.integer(&format!("TTL key:{i}")) > 900, i % 10 == 0);
    }
    assert_eq!(
        show(&conn.words("HGETALL h")),
        "*4\\r\\n$1\\r\\na\\r\\n$1\\r\\n1\\r\\n$1\\r\\nb\\r\\n$1\\r\\n2\\r\\n"
    );
    assert_eq!(conn.integer("LLEN l"), 3);
}

fn wait_for_size(conn: &mut Conn, expected: usize) {
    let began = Instant::now();
    while conn.integer("DBSIZE") != expected as i64 {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{}",
            conn.integer("DBSIZE")
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_command_sees_sealed_keys() {
    let server = Server::terrace(&[
        "--range",
        "default",
        "*",
        "memory",
        "--enable-debug-command",
        "yes",
    ]);
    let mut conn = server.connect();
    fill(&mut conn);
    assert!(conn.integer("DEBUG SEAL") > KEYS as i64 * 9 / 10);
    check(&mut conn);
    conn.integer("DEBUG SEAL");
    wait_for_size(&mut conn, KEYS + 2);
    assert_eq!(conn.bulk("GET soon"), None);
    assert_eq!(conn.integer("DEL key:1 key:2 nokey"), 2);
    conn.words("RENAME key:3 key:1");
    assert_eq!(conn.bulk("GET key:1"), Some(b"value of 3".to_vec()));
    assert_eq!(conn.integer("APPEND key:4 !"), 11);
    assert_eq!(conn.integer("PERSIST key:10"), 1);
    assert_eq!(conn.integer("HINCRBY h a 5"), 6);
    conn.integer("DEBUG SEAL");
    assert_eq!(conn.bulk("GET key:4"), Some(b"value of 4!".to_vec()));
    assert_eq!(conn.integer("TTL key:10"), -1);
    assert_eq!(conn.bulk("HGET h a"), Some(b"6".to_vec()));
    wait_for_size(&mut conn, KEYS);
    let keys = show(&conn.words("RANGE SCAN key:19990 key:19995"));
    assert!(
        (19990..19995).all(|i| keys.contains(&format!("key:{i}"))),
        "{keys}"
    );
    let back = show(&conn.words("RANGE SCAN - + LIMIT 2 REVERSE"));
    assert!(
        back.contains("l\\r\\n") && back.contains("key:9999\\r\\n"),
        "{back}"
    );
    assert!(conn.bulk("RANDOMKEY").is_some());
    assert!(show(&conn.words("KEYS key:777")).contains("key:777"));
    conn.words("FLUSHALL");
    assert_eq!(conn.integer("DBSIZE"), 0);
    assert_eq!(conn.bulk("GET key:7"), None);
    assert_eq!(conn.bulk("RANDOMKEY"), None);
    fill(&mut conn);
    check(&mut conn);
}

#[test]
fn a_restart_finds_the_cache_warm() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut server = start(dir.path());
    let mut conn = server.connect();
    fill(&mut conn);
    conn.words("SELECT 3");
    conn.words("SET other db");
    conn.words("SELECT 0");
    conn.words("SWAPDB 3 4");
    // Part of it is sealed before the end, part of it at the end.
    conn.integer("DEBUG SEAL");
    conn.words("SET key:8 anew");
    conn.words("DEL key:9");
    conn.words("SET key:15 \"value of 15\"");
    conn.words("SET key:8 \"value of 8\"");
    drop(conn);
    for _ in 0..2 {
        assert!(server.terminate().success());
        server.restart();
        let mut conn = server.connect();
        assert!(conn.integer("DBSIZE") > KEYS as i64);
        check(&mut conn);
        assert_eq!(conn.bulk("GET key:9"), None);
        conn.words("SELECT 4");
        assert_eq!(conn.bulk("GET other"), Some(b"db".to_vec()));
        assert_eq!(conn.integer("DBSIZE"), 1);
        conn.words("SELECT 0");
        // Its time comes after the restart, and nobody asks for it.
        wait_for_size(&mut conn, KEYS + 1);
    }
}

#[test]
fn a_crash_drops_what_was_sealed_and_nothing_of_it_is_left() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut server = start(dir.path());
    let mut conn = server.connect();
    fill(&mut conn);
    conn.integer("DEBUG SEAL");
    assert!(folder_bytes(dir.path()) > 500_000);
    drop(conn);
    server.kill();
    server.restart();
    let mut conn = server.connect();
    assert_eq!(conn.integer("DBSIZE"), 0);
    assert_eq!(conn.bulk("GET key:7"), None);
    assert_eq!(folder_bytes(dir.path()), 0);
    fill(&mut conn);
    conn.integer("DEBUG SEAL");
    check(&mut conn);
}

#[test]
fn eviction_holds_the_limit_at_full_speed_whatever_the_value_sizes() {
    const LIMIT: i64 = 64 << 20;
    const BATCH: usize = 64;
    for longest in [100, 2_000, 100_000] {
        let server = Server::terrace(&[
            "--maxmemory",
            "64mb",
            "--range",
            "default",
            "*",
            "memory",
            "maxmemory-policy",
            "allkeys-lru",
            "--seal-after",
            "1",
        ]);
        let stop = AtomicBool::new(false);
        let sizes = std::thread::scope(|scope| {
            for client in 0..2u64 {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || {
                    let (mut conn, mut rng) = (server.connect(), fastrand::Rng::with_seed(client));
                    while !stop.load(Relaxed) {
                        let sets: Vec<Vec<Vec<u8>>> = (0..BATCH)
                            .map(|_| {
                                let key = format!("key:{}", rng.u32(..1 << 24)).into_bytes();
                                vec![b"SET".to_vec(), key, vec![b'v'; rng.usize(1..longest)]]
                            })
                            .collect();
                        let replies = conn.pipeline(&sets).expect("replies");
                        assert!(replies.iter().all(|reply| reply == b"+OK\r\n"));
                    }
                });
            }
            let mut conn = server.connect();
            let began = Instant::now();
            let mut sizes = Vec::new();
            // From the moment on at which it is full.
            while sizes.len() < 100 && began.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(20));
                let size = count(&mut conn, "default", "bytes") + count(&mut conn, "default", "sealed-bytes");
                if !sizes.is_empty() || size > LIMIT * 85 / 100 {
                    sizes.push(size);
                }
            }
            stop.store(true, Relaxed);
            sizes
        });
        let most = sizes.iter().max().copied().unwrap_or(0);
        assert!(
            sizes.len() == 100 && most <= LIMIT * 105 / 100,
            "values up to {longest}: {} readings, at most {most}",
            sizes.len()
        );
        assert!(count(&mut server.connect(), "default", "evicted") > 0);
    }
}

fn memory(conn: &mut Conn, field: &str) -> i64 {
    let info = conn.bulk("INFO memory").expect("text");
    let info = String::from_utf8_lossy(&info).into_owned();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok())
        .expect("a number")
}

/// What may not be evicted is sealed when memory is short, and takes less then, not more.
#[test]
fn a_server_full_of_keys_that_may_not_go_stays_within_its_limit() {
    const LIMIT: i64 = 48 << 20;
    const BATCH: usize = 500;
    const REFUSED: usize = 100;
    let server = Server::terrace(&["--maxmemory", "48mb", "--range", "default", "*", "memory"]);
    let mut conn = server.connect();
    let (mut keys, mut refused) = (0, 0);
    // Some writes go through again whenever a part of the keys takes less.
    for batch in 0..4_000 {
        let set = |i: usize| {
            let key = format!("key:{}", batch * BATCH + i).into_bytes();
            vec![b"SET".to_vec(), key, vec![b'v'; 100]]
        };
        let sets: Vec<Vec<Vec<u8>>> = (0..BATCH).map(set).collect();
        let replies = conn.pipeline(&sets).expect("replies");
        let taken = replies.iter().filter(|reply| *reply == b"+OK\r\n").count();
        keys += taken;
        refused = if taken == 0 { refused + 1 } else { 0 };
        if refused > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        if refused == REFUSED {
            break;
        }
    }
    assert_eq!(refused, REFUSED, "{keys} keys, and it never filled");
    assert!(
        count(&mut conn, "default", "sealed") > 50_000,
        "sealing is what it was about"
    );
    assert_eq!(conn.integer("DBSIZE"), keys as i64);
    let used = memory(&mut conn, "used_memory") - memory(&mut conn, "used_memory_startup");
    assert!(used < LIMIT * 115 / 100, "{used} bytes for {keys} keys");
}
