//! RDB files of whole servers: what SAVE writes is loaded by a real redis-server and is of one moment; Terrace starts
//! from such a file, imports one, and refuses one that is damaged.

mod common;

use common::{Conn, Server, Value, show, terrace_binary};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TIERS: [&str; 2] = ["memory", "durable"];

fn terrace(tier: &str) -> Server {
    Server::terrace(&["--range", "default", "*", tier])
}

fn expect_ok(reply: &[u8]) {
    assert_eq!(reply, b"+OK\r\n", "{}", show(reply));
}

/// Keys of every type, small and large, in two databases, with and without a time.
fn fill(conn: &mut Conn, prefix: &str) {
    let big = |command: &str, words: &dyn Fn(usize) -> String| {
        (0..1500).fold(command.to_string(), |line, i| line + " " + &words(i))
    };
    for line in [
        format!("SET {prefix}:text hello"),
        format!("SET {prefix}:number 12345"),
        format!("SET {prefix}:brief text PX 100000000"),
        format!("RPUSH {prefix}:list a b 3"),
        big(&format!("RPUSH {prefix}:long"), &|i| format!("element-{i}")),
        format!("SADD {prefix}:ints 1 2 3"),
        format!("SADD {prefix}:set a b 3"),
        big(&format!("SADD {prefix}:members"), &|i| format!("member-{i}")),
        format!("HSET {prefix}:hash f v g 7"),
        big(&format!("HSET {prefix}:fields"), &|i| format!("field-{i} {i}")),
        format!("ZADD {prefix}:zset 1 a 2.5 b"),
        big(&format!("ZADD {prefix}:scores"), &|i| {
            format!("{} member-{i}", i % 7)
        }),
        format!("XADD {prefix}:stream 1-1 f v"),
        format!("XGROUP CREATE {prefix}:stream g 0"),
        "SELECT 3".to_string(),
        format!("SET {prefix}:elsewhere there"),
        "SELECT 0".to_string(),
    ] {
        let reply = conn.words(&line);
        assert_ne!(reply[0], b'-', "{line}: {}", show(&reply));
    }
}

/// A real server that starts from this file.
fn redis_from(file: &Path) -> Server {
    let mut redis = Server::redis(&[]);
    redis.kill();
    std::fs::copy(file, redis.data_dir().join("dump.rdb")).expect("a copy");
    redis.restart();
    redis
}

fn digest(conn: &mut Conn) -> Vec<u8> {
    conn.words("DEBUG DIGEST")
}

fn dump_of(server: &Server) -> PathBuf {
    server.data_dir().join("dump.rdb")
}

#[test]
fn a_real_server_loads_what_save_wrote() {
    for tier in TIERS {
        let mut server = terrace(tier);
        let redis = Server::redis(&[]);
        let (mut conn, mut made) = (server.connect(), redis.connect());
        for prefix in ["one", "two", "three"] {
            fill(&mut conn, prefix);
            fill(&mut made, prefix);
        }
        if tier == "durable" {
            // All keys are rows now, and none is resident.
            expect_ok(&conn.words("SAVE"));
            server.terminate();
            server.restart();
            conn = server.connect();
        }
        for line in [
            "SET one:text changed",
            "DEL two:list",
            "HSET three:hash new field",
            "LPUSH four x",
        ] {
            conn.words(line);
            made.words(line);
        }
        expect_ok(&conn.words("SAVE"));
        let loaded = redis_from(&dump_of(&server));
        let mut loaded = loaded.connect();
        assert_eq!(digest(&mut loaded), digest(&mut made), "{tier}");
        assert_eq!(loaded.integer("DBSIZE"), made.integer("DBSIZE"));
        assert!(loaded.integer("PTTL one:brief") > 90_000_000);
    }
}

#[test]
fn what_packs_is_packed_where_the_setting_says_so() {
    for tier in TIERS {
        let server = terrace(tier);
        let mut conn = server.connect();
        conn.call(&["SET", "text", &"abc".repeat(50_000)]);
        conn.call(&["HSET", "hash", "field", &"xyz".repeat(20_000)]);
        let mut sizes = Vec::new();
        for packed in ["yes", "no"] {
            conn.call(&["CONFIG", "SET", "rdbcompression", packed]);
            // Rows that are in the store, and those that are not.
            expect_ok(&conn.call(&["SAVE"]));
            sizes.push(std::fs::metadata(dump_of(&server)).expect("a file").len());
        }
        assert!(sizes[0] < 10_000 && sizes[1] > 200_000, "{tier}: {sizes:?}");
    }
}

fn wait_for_save(conn: &mut Conn) {
    let began = Instant::now();
    while show(&conn.words("INFO persistence")).contains("rdb_bgsave_in_progress:1") {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the snapshot does not end"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Pairs of keys in different shards are only ever changed together. Whatever is written meanwhile, a file holds both
/// halves of every pair with the same value.
#[test]
fn a_snapshot_is_of_one_moment() {
    const PAIRS: usize = 3000;
    for tier in TIERS {
        let server = terrace(tier);
        let stop = AtomicBool::new(false);
        let write = |seed: usize| {
            let mut conn = server.connect();
            let mut value = seed;
            while !stop.load(Ordering::Relaxed) {
                let batch: Vec<Vec<Vec<u8>>> = (0..50)
                    .map(|_| {
                        value += 1;
                        let pair = (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % PAIRS;
                        let line = format!("MSET left:{pair} {value} right:{pair} {value}");
                        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
                    })
                    .collect();
                conn.pipeline(&batch).expect("replies");
            }
        };
        std::thread::scope(|scope| {
            let writers = [scope.spawn(|| write(1)), scope.spawn(|| write(1_000_000))];
            let mut conn = server.connect();
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(300));
                let reply = conn.words("BGSAVE");
                assert_eq!(reply[0], b'+', "{}", show(&reply));
                wait_for_save(&mut conn);
            }
            stop.store(true, Ordering::Relaxed);
            writers
                .into_iter()
                .for_each(|writer| writer.join().expect("no panic"));
        });
        let redis = redis_from(&dump_of(&server));
        let mut conn = redis.connect();
        let mut seen = 0;
        for pair in 0..PAIRS {
            let left = conn.bulk(&format!("GET left:{pair}"));
            assert_eq!(left, conn.bulk(&format!("GET right:{pair}")), "{tier} {pair}");
            seen += usize::from(left.is_some());
        }
        assert!(seen > PAIRS / 2, "{tier}: only {seen} pairs in the file");
    }
}

/// One value after the other joins a collection of every type and the oldest leaves, all in one transaction; so in a
/// file all of them hold the same values. They are paged, and mostly not in memory.
#[test]
fn a_snapshot_of_paged_collections_is_of_one_moment() {
    const HELD: usize = 2000;
    let server = Server::terrace(&[
        "--range",
        "default",
        "*",
        "durable",
        "--paged-threshold",
        "100",
        "--stream-node-max-entries",
        "10",
    ]);
    let stop = AtomicBool::new(false);
    let write = || {
        let mut conn = server.connect();
        let mut next: usize = 1;
        while !stop.load(Ordering::Relaxed) {
            let batch = (0..20).flat_map(|_| {
                let (new, old) = (next, next.saturating_sub(HELD));
                next += 1;
                [
                    "MULTI".to_string(),
                    format!("RPUSH list {new}"),
                    format!("HSET hash {new} {new}"),
                    format!("SADD set {new}"),
                    format!("ZADD zset {new} {new}"),
                    format!("XADD stream {new}-1 f {new}"),
                    format!("LTRIM list -{HELD} -1"),
                    format!("HDEL hash {old}"),
                    format!("SREM set {old}"),
                    format!("ZREMRANGEBYSCORE zset -inf {old}"),
                    format!("XTRIM stream MINID {}-1", old + 1),
                    "EXEC".to_string(),
                ]
            });
            let words = |line: String| line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            let batch: Vec<Vec<Vec<u8>>> = batch.map(words).collect();
            conn.pipeline(&batch).expect("replies");
        }
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(write);
        let mut conn = server.connect();
        // Whatever fails here, the writer has to end.
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(500));
                // What is clean leaves memory.
                expect_ok(&conn.words("DEBUG RELOAD"));
                assert_eq!(conn.words("BGSAVE")[0], b'+');
                wait_for_save(&mut conn);
                expect_same_values(&redis_from(&dump_of(&server)));
            }
        }));
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("no panic");
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn expect_same_values(redis: &Server) {
    let mut conn = redis.connect();
    let mut numbers = |line: &str| -> Vec<u64> {
        let texts = Value::parse(&conn.words(line)).texts();
        let number = |text: &Vec<u8>| String::from_utf8_lossy(text).parse().expect("a number");
        texts.iter().map(number).collect()
    };
    let list = numbers("LRANGE list 0 -1");
    assert!(!list.is_empty(), "nothing in the file");
    assert_eq!(numbers("ZRANGE zset 0 -1"), list, "sorted set");
    for line in ["HKEYS hash", "SMEMBERS set"] {
        let mut all = numbers(line);
        all.sort_unstable();
        assert_eq!(all, list, "{line}");
    }
    let len = conn.integer("XLEN stream") as usize;
    assert_eq!(len, list.len(), "stream");
}

/// A file as a real server saves it, and the digest of what is in it.
fn file_of_redis(dir: &Path) -> (PathBuf, Vec<u8>) {
    let redis = Server::redis(&[]);
    let mut conn = redis.connect();
    fill(&mut conn, "from");
    expect_ok(&conn.words("SAVE"));
    let file = dir.join("dump.rdb");
    std::fs::copy(dump_of(&redis), &file).expect("a copy");
    (file, digest(&mut conn))
}

/// What the keys of a server digest to, as the real one says it.
fn digest_of(server: &Server) -> Vec<u8> {
    expect_ok(&server.connect().words("SAVE"));
    digest(&mut redis_from(&dump_of(server)).connect())
}

#[test]
fn a_server_without_data_starts_from_a_file_and_only_then() {
    for tier in TIERS {
        let (_, expected) = {
            let dir = tempfile::TempDir::new().expect("a folder");
            let (file, expected) = file_of_redis(dir.path());
            let mut server = terrace(tier);
            server.kill();
            let data = server.data_dir();
            std::fs::remove_dir_all(&data).expect("removed");
            std::fs::copy(&file, server.data_dir().join("dump.rdb")).expect("a copy");
            server.restart();
            assert_eq!(digest_of(&server), expected, "{tier}");
            let mut conn = server.connect();
            conn.words("FLUSHALL");
            server.terminate();
            server.restart();
            assert_eq!(
                server.connect().integer("DBSIZE"),
                0,
                "{tier}: the file is old news"
            );
            (server, expected)
        };
        assert!(!expected.is_empty());
    }
}

fn import(file: &Path, dir: &Path) -> Output {
    let mut command = Command::new(terrace_binary());
    command.arg("import").arg(file).arg("--dir").arg(dir);
    command.output().expect("the program runs")
}

#[test]
fn import_takes_a_file_and_refuses_a_damaged_one_with_its_place() {
    let dir = tempfile::TempDir::new().expect("a folder");
    let (file, expected) = file_of_redis(dir.path());
    let mut server = Server::terrace(&[]);
    server.terminate();
    std::fs::remove_dir_all(server.data_dir()).expect("removed");
    let mut damaged = std::fs::read(&file).expect("the file");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let broken = dir.path().join("broken.rdb");
    std::fs::write(&broken, &damaged).expect("written");
    let refused = import(&broken, &server.data_dir());
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && why.contains("broken.rdb") && why.contains("at byte"),
        "{why}"
    );
    let taken = import(&file, &server.data_dir());
    let said = String::from_utf8_lossy(&taken.stdout).into_owned();
    assert!(
        taken.status.success() && said.contains("14 keys"),
        "{said} {taken:?}"
    );
    server.restart();
    assert_eq!(digest_of(&server), expected);
}

#[test]
fn a_start_from_a_damaged_file_fails_and_leaves_it_for_another_try() {
    let dir = tempfile::TempDir::new().expect("a folder");
    let (file, expected) = file_of_redis(dir.path());
    let mut server = Server::terrace(&[]);
    server.terminate();
    std::fs::remove_dir_all(server.data_dir()).expect("removed");
    let sound = std::fs::read(&file).expect("the file");
    let own = server.data_dir().join("dump.rdb");
    std::fs::write(&own, &sound[..sound.len() - 20]).expect("written");
    assert!(!server.try_restart(), "it must not start");
    std::fs::write(&own, &sound).expect("written");
    server.restart();
    assert_eq!(digest_of(&server), expected);
}

/// Redis 7.0 knows no times of fields: a file with them is for newer servers, and for Terrace.
#[test]
fn times_of_fields_go_with_the_file() {
    let mut server = Server::terrace(&[]);
    let mut conn = server.connect();
    conn.words("HSET hash f v g w");
    conn.words("HPEXPIREAT hash 4102444800000 FIELDS 1 f");
    expect_ok(&conn.words("SAVE"));
    server.terminate();
    for folder in ["store", "journal"] {
        std::fs::remove_dir_all(server.data_dir().join(folder)).expect("removed");
    }
    server.restart();
    let reply = server.connect().words("HPEXPIRETIME hash FIELDS 2 f g");
    assert_eq!(show(&reply), r"*2\r\n:4102444800000\r\n:-1\r\n");
}
