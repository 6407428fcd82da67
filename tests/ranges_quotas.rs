//! Limits and policies of ranges: what is refused and that it changed nothing, what is evicted instead, how values are
//! packed, and what the counters say.

mod common;

use common::ranges::{count, info, ok, refused};
use common::{Conn, Server, Value, show};

#[test]
fn a_range_that_cannot_evict_refuses_the_key_too_many() {
    let mut server = Server::terrace(&[
        "--appendfsync",
        "always",
        "--range",
        "m",
        "m:",
        "memory",
        "max-keys",
        "3",
    ]);
    let mut conn = server.connect();
    ok(&mut conn, "RANGE CREATE d d:* durable max-keys 3");
    for p in ["m:", "d:"] {
        let full = "holds its max-keys of 3";
        ok(&mut conn, &format!("MSET {p}1 v {p}2 v"));
        refused(&mut conn, &format!("MSET {p}1 w {p}3 w {p}4 w"), full);
        assert_eq!(conn.words(&format!("GET {p}1")), b"$1\r\nv\r\n");
        // The same key twice is one.
        ok(&mut conn, &format!("MSET {p}3 v {p}3 w"));
        for line in [
            "SET {p}4 v",
            "INCR {p}4",
            "LPUSH {p}4 v",
            "SINTERSTORE {p}4 x",
            "COPY {p}1 {p}4",
            "RENAME other {p}4",
        ] {
            ok(&mut conn, "SET other v");
            refused(&mut conn, &line.replace("{p}", p), full);
            assert_eq!(conn.integer("EXISTS other"), 1);
        }
        // What makes no key is taken.
        ok(&mut conn, &format!("SET {p}1 other"));
        conn.integer(&format!("APPEND {p}1 x"));
        ok(&mut conn, &format!("RENAME {p}1 {p}4"));
        assert_eq!(conn.integer(&format!("DEL {p}1 {p}5")), 0);
        assert_eq!(conn.words(&format!("LPOP {p}5")), b"$-1\r\n");
        assert_eq!(conn.integer(&format!("COPY {p}4 {p}3 REPLACE")), 1);
        assert_eq!(conn.integer(&format!("DEL {p}2")), 1);
        assert_eq!(conn.integer(&format!("COPY {p}4 {p}6 DB 1")), 1);
        refused(&mut conn, &format!("SET {p}2 v"), full);
        let name = &p[..1];
        ok(&mut conn, &format!("RANGE ALTER {name} max-keys 4"));
        ok(&mut conn, &format!("SET {p}2 v"));
        assert_eq!(count(&mut conn, name, "max-keys"), 4);
        assert_eq!(count(&mut conn, name, "keys"), 4);
    }
    server.kill();
    server.restart();
    let mut conn = server.connect();
    assert_eq!(count(&mut conn, "d", "keys"), 4);
    refused(&mut conn, "SET d:9 v", "holds its max-keys of 4");
}

#[test]
fn a_range_that_evicts_makes_room_for_new_keys() {
    let server = Server::terrace(&[
        "--range",
        "m",
        "m:",
        "memory",
        "max-keys",
        "100",
        "maxmemory-policy",
        "allkeys-lru",
    ]);
    let mut conn = server.connect();
    for i in 0..1_000 {
        ok(&mut conn, &format!("SET m:{i} v"));
        assert!(count(&mut conn, "m", "keys") <= 100);
    }
    assert_eq!(count(&mut conn, "m", "keys"), 100);
    assert_eq!(count(&mut conn, "m", "evicted"), 900);
    assert_eq!(conn.integer("DBSIZE"), 100);
    let many: Vec<String> = (0..60).map(|i| format!("m:n{i} v")).collect();
    ok(&mut conn, &format!("MSET {}", many.join(" ")));
    assert_eq!(count(&mut conn, "m", "keys"), 100);
    let too_many: Vec<String> = (0..101).map(|i| format!("m:x{i} v")).collect();
    refused(
        &mut conn,
        &format!("MSET {}", too_many.join(" ")),
        "holds its max-keys of 100",
    );
    // Nothing there may be evicted.
    ok(&mut conn, "RANGE ALTER m maxmemory-policy volatile-lru");
    refused(&mut conn, "SET m:new v", "holds its max-keys of 100");
    conn.integer(&format!("EXPIRE m:n{} 1000", 5));
    conn.integer("EXPIRE m:n6 1000");
    ok(&mut conn, "SET m:new v");
    assert_eq!(conn.integer("EXISTS m:n5 m:n6"), 1);
}

/// Replies of a key whatever its type, to compare before and after.
fn all_of(conn: &mut Conn, key: &str) -> Vec<Vec<u8>> {
    ["DUMP", "PTTL", "OBJECT ENCODING"]
        .map(|command| conn.words(&format!("{command} {key}")))
        .to_vec()
}

#[test]
fn a_value_too_large_is_refused_and_nothing_has_changed() {
    let mut server = Server::terrace(&[
        "--appendfsync",
        "always",
        "--range",
        "m",
        "m:",
        "memory",
        "max-value-size",
        "2000",
    ]);
    let mut conn = server.connect();
    ok(
        &mut conn,
        "RANGE CREATE d d:* durable max-value-size 2000 default-ttl 1000",
    );
    let (long, half) = ("x".repeat(2_001), "y".repeat(1_200));
    for p in ["m:", "d:"] {
        let too_large = "max-value-size of 2000 bytes";
        refused(&mut conn, &format!("SET {p}s {long}"), too_large);
        refused(&mut conn, &format!("MSET {p}a v {p}s {long}"), too_large);
        assert_eq!(conn.integer(&format!("EXISTS {p}s {p}a")), 0);
        ok(&mut conn, &format!("SET {p}s {}", &long[1..]));
        conn.integer(&format!("PERSIST {p}s"));
        refused(&mut conn, &format!("SETRANGE {p}s 1999 ab"), too_large);
        refused(&mut conn, &format!("SETBIT {p}s 16000 1"), too_large);
        refused(&mut conn, &format!("BITFIELD {p}s SET u8 #2000 1"), too_large);
        conn.integer(&format!("RPUSH {p}l {half}"));
        conn.integer(&format!("HSET {p}h f {half}"));
        conn.integer(&format!("SADD {p}set a b"));
        ok(&mut conn, &format!("SET other {long}"));
        conn.integer(&format!("RPUSH other:l {half}"));
        for line in [
            "APPEND {p}s x",
            "RPUSH {p}l {half}",
            "HSET {p}h g {half}",
            "SADD {p}set {long}",
            "COPY other {p}s REPLACE",
            "RENAME other {p}s",
            "LMOVE other:l {p}l LEFT LEFT",
            "ZADD {p}z 1 {long}",
            "XADD {p}x * f {long}",
            "HSET {p}h f v h {long}",
        ] {
            let line = line
                .replace("{p}", p)
                .replace("{half}", &half)
                .replace("{long}", &long);
            let keys = [
                format!("{p}s"),
                format!("{p}l"),
                format!("{p}h"),
                format!("{p}set"),
                format!("{p}z"),
                format!("{p}x"),
                "other".into(),
                "other:l".into(),
            ];
            let before: Vec<_> = keys.iter().map(|key| all_of(&mut conn, key)).collect();
            let held = count(&mut conn, &p[..1], "keys");
            refused(&mut conn, &line, too_large);
            for (key, before) in keys.iter().zip(before) {
                let after = all_of(&mut conn, key);
                assert_eq!(show(&after[0]), show(&before[0]), "{line}: {key}");
                assert_eq!(after[1] == b":-1\r\n", before[1] == b":-1\r\n", "{line}: {key}");
            }
            assert_eq!(count(&mut conn, &p[..1], "keys"), held);
        }
        // Replacing what is there by as much again is no growth.
        conn.integer(&format!("HSET {p}h f {half}"));
        ok(&mut conn, &format!("SET {p}s {}", &long[1..]));
        conn.integer(&format!("PERSIST {p}s"));
        // What was made larger before the limit came may shrink, and be read.
        ok(&mut conn, &format!("RANGE ALTER {} max-value-size 100", &p[..1]));
        assert_eq!(conn.integer(&format!("HDEL {p}h f")), 1);
        assert_eq!(conn.integer(&format!("STRLEN {p}s")), 2_000);
        refused(
            &mut conn,
            &format!("APPEND {p}s x"),
            "max-value-size of 100 bytes",
        );
        ok(&mut conn, &format!("RANGE ALTER {} max-value-size 0", &p[..1]));
        assert_eq!(conn.integer(&format!("APPEND {p}s x")), 2_001);
        ok(&mut conn, &format!("RANGE ALTER {} max-value-size 2000", &p[..1]));
    }
    // A refused command is not in the journal.
    refused(&mut conn, "SETRANGE d:s 3000 x", "max-value-size");
    server.kill();
    server.restart();
    assert_eq!(server.connect().integer("STRLEN d:s"), 2_001);
}

#[test]
fn packed_rows_read_back_in_every_type_and_take_less_room() {
    let mut server = Server::terrace(&[]);
    let mut conn = server.connect();
    let text = "the quick brown fox jumps over the lazy dog and on "
        .repeat(40)
        .replace(' ', "_");
    for how in ["none", "lz4", "zstd"] {
        ok(
            &mut conn,
            &format!("RANGE CREATE {how} {how}:* durable compression {how}"),
        );
        assert_eq!(info(&mut conn, how)["compression"], how);
        for i in 0..50 {
            ok(&mut conn, &format!("SET {how}:s{i} {text}{i} EX 1000"));
        }
        conn.integer(&format!("RPUSH {how}:l a b {text}"));
        conn.integer(&format!("HSET {how}:h f {text} g v"));
        conn.integer(&format!("SADD {how}:set {text} m"));
        conn.integer(&format!("ZADD {how}:z 1 {text} 2 m"));
        conn.words(&format!("XADD {how}:x 1-1 f {text}"));
        ok(&mut conn, &format!("SET {how}:short v"));
    }
    let keys = |how: &str| ["s7", "l", "h", "set", "z", "x", "short"].map(|key| format!("{how}:{key}"));
    let read = |conn: &mut Conn, how: &str| {
        keys(how).map(|key| {
            (
                conn.words(&format!("DUMP {key}")),
                conn.words(&format!("TYPE {key}")),
            )
        })
    };
    let before = ["none", "lz4", "zstd"].map(|how| read(&mut conn, how));
    ok(&mut conn, "DEBUG RELOAD");
    for how in ["none", "lz4", "zstd"] {
        assert_eq!(count(&mut conn, how, "cold"), 56);
        let types = conn.words(&format!("SCAN 0 MATCH {how}:* COUNT 1000 TYPE stream"));
        assert!(show(&types).contains(&format!("{how}:x")), "{}", show(&types));
    }
    let scanned = conn.words("RANGE SCAN zstd:s7 zstd:s8 LIMIT 1 WITHVALUES");
    let scanned = Value::parse(&scanned).texts();
    assert_eq!(scanned, [b"zstd:s7".to_vec(), format!("{text}7").into_bytes()]);
    assert_eq!(["none", "lz4", "zstd"].map(|how| read(&mut conn, how)), before);
    for (i, how) in ["none", "lz4", "zstd"].iter().enumerate() {
        // What was packed one way and is written again is packed the new way.
        ok(
            &mut conn,
            &format!("RANGE ALTER {how} compression {}", ["zstd", "none", "lz4"][i]),
        );
        conn.integer(&format!("APPEND {how}:s7 z"));
    }
    assert!(server.terminate().success());
    server.restart();
    let mut conn = server.connect();
    for how in ["none", "lz4", "zstd"] {
        assert_eq!(
            show(&conn.words(&format!("GET {how}:s7"))),
            show(format!("${}\r\n{text}7z\r\n", text.len() + 2).as_bytes())
        );
        assert_eq!(conn.words(&format!("TYPE {how}:h")), b"+hash\r\n");
    }
}

#[test]
fn counters_say_what_flushes_wrote() {
    let server = Server::terrace(&["--range", "mem", "m:", "memory"]);
    let mut conn = server.connect();
    for i in 0..2_000 {
        ok(&mut conn, &format!("SET k:{i} {}", "v".repeat(100)));
    }
    ok(&mut conn, "SET m:1 v");
    ok(&mut conn, "DEBUG RELOAD");
    let fields = info(&mut conn, "default");
    let number = |field: &str| fields[field].parse::<f64>().expect("a number");
    assert!(
        number("flushes") >= 1.0 && number("flushed-bytes") > 200_000.0,
        "{fields:?}"
    );
    assert!(
        number("disk-bytes") > 1_000.0 && number("write-amplification") > 0.0,
        "{fields:?}"
    );
    let memory = info(&mut conn, "mem");
    for field in ["flushes", "flushed-bytes", "disk-bytes", "sealed", "sealed-bytes"] {
        assert_eq!(memory[field], "0", "{field}");
    }
    let text = String::from_utf8_lossy(&conn.words("INFO ranges")).into_owned();
    for part in [
        "range_default:tier=durable,keys=2000,",
        "flushed_bytes=",
        "disk_bytes=",
        "compression=none",
        "store_write_amplification:",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
