//! Ranges over the wire: which range holds a key, that every count is exact, what is kept across restarts, what is
//! refused, and that ordered scans see what is resident, cold, deleted and in between.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::ranges::{count, info, ok};
use common::{Conn, Server, Value, show};
use fastrand::Rng;

const NESTED: &[&str] = &[
    "--range", "a", "a:", "memory", "--range", "ab", "a:b:", "durable", "--range", "abc", "a:b:c:", "memory",
    "--range", "mid", "m..p", "durable",
];

fn refused(conn: &mut Conn, line: &str, part: &str) {
    let reply = String::from_utf8_lossy(&conn.words(line)).into_owned();
    assert!(
        reply.starts_with("-ERR ") && reply.contains(part),
        "{line}: {reply}"
    );
}

/// (keys, expires) of each range.
fn counts(conn: &mut Conn, ranges: &[&str]) -> Vec<(i64, i64)> {
    ranges
        .iter()
        .map(|range| (count(conn, range, "keys"), count(conn, range, "expires")))
        .collect()
}

/// Waits until a count is what it has to become.
fn wait_for(conn: &mut Conn, range: &str, field: &str, expected: i64) {
    let began = Instant::now();
    while count(conn, range, field) != expected {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{field} of {range} is {} and not {expected}",
            count(conn, range, field)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn scan(conn: &mut Conn, line: &str) -> Vec<String> {
    let reply = conn.words(line);
    assert_eq!(reply[0], b'*', "{line}: {}", show(&reply));
    let texts = Value::parse(&reply).texts();
    texts
        .iter()
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}

#[test]
fn of_nested_prefixes_the_longest_holds_a_key() {
    let server = Server::terrace(NESTED);
    let mut conn = server.connect();
    for key in [
        "a", "a:", "a:1", "a:b", "a:b:", "a:b:1", "a:b:c:1", "a;", "l", "m", "ozz", "p", "z",
    ] {
        ok(&mut conn, &format!("SET {key} v"));
    }
    let held = counts(&mut conn, &["default", "a", "ab", "abc", "mid"]).into_iter();
    assert_eq!(held.map(|(keys, _)| keys).collect::<Vec<_>>(), [5, 3, 2, 1, 2]);
    assert_eq!(conn.integer("DBSIZE"), 13);
    assert_eq!(info(&mut conn, "ab")["pattern"], "a:b:*");
    assert_eq!(info(&mut conn, "mid")["pattern"], "m..p");
    assert_eq!(info(&mut conn, "abc")["tier"], "memory");
    refused(&mut conn, "RANGE INFO A", "No such range 'A'");
}

#[test]
fn counts_are_exact_after_every_kind_of_change() {
    let server = Server::terrace(&["--range", "mem", "m:", "memory"]);
    let mut conn = server.connect();
    for (range, prefix) in [("default", "d:"), ("mem", "m:")] {
        let expect = |conn: &mut Conn, line: &str, keys: i64, expires: i64| {
            conn.words(line);
            assert_eq!(counts(conn, &[range]), [(keys, expires)], "{line}");
        };
        let p = prefix;
        expect(&mut conn, &format!("SET {p}1 v"), 1, 0);
        expect(&mut conn, &format!("SET {p}1 w EX 100"), 1, 1);
        expect(&mut conn, &format!("APPEND {p}1 x"), 1, 1);
        expect(&mut conn, &format!("INCR {p}n"), 2, 1);
        expect(&mut conn, &format!("EXPIRE {p}n 50"), 2, 2);
        expect(&mut conn, &format!("PERSIST {p}n"), 2, 1);
        expect(&mut conn, &format!("RENAME {p}1 {p}n"), 1, 1);
        expect(&mut conn, &format!("COPY {p}n {p}m"), 2, 2);
        expect(&mut conn, &format!("COPY {p}n {p}n DB 3"), 3, 3);
        expect(&mut conn, &format!("MOVE {p}m 4"), 3, 3);
        expect(&mut conn, &format!("EXPIRE {p}n -1"), 2, 2);
        expect(&mut conn, "SWAPDB 3 0", 2, 2);
        assert_eq!(conn.integer("DBSIZE"), 1);
        expect(&mut conn, "FLUSHDB", 1, 1);
        expect(&mut conn, &format!("SET {p}gone v PX 1"), 2, 2);
        wait_for(&mut conn, range, "keys", 1);
        assert_eq!(count(&mut conn, range, "expired"), 1);
        ok(&mut conn, "DEBUG SET-ACTIVE-EXPIRE 0");
        expect(&mut conn, &format!("SET {p}gone v PX 1"), 2, 2);
        std::thread::sleep(Duration::from_millis(20));
        expect(&mut conn, &format!("GET {p}gone"), 1, 1);
        ok(&mut conn, "DEBUG SET-ACTIVE-EXPIRE 1");
        assert_eq!(count(&mut conn, range, "expired"), 2);
        expect(&mut conn, "FLUSHALL", 0, 0);
        assert_eq!(count(&mut conn, range, "bytes"), 0);
    }
}

#[test]
fn a_rename_across_ranges_moves_the_count() {
    let server = Server::terrace(&["--range", "mem", "m:", "memory"]);
    let mut conn = server.connect();
    ok(&mut conn, "SET d v EX 100");
    ok(&mut conn, "RENAME d m:d");
    assert_eq!(counts(&mut conn, &["default", "mem"]), [(0, 0), (1, 1)]);
    ok(&mut conn, "RENAME m:d d");
    assert_eq!(counts(&mut conn, &["default", "mem"]), [(1, 1), (0, 0)]);
}

#[test]
fn hits_misses_and_loads_are_counted_by_range() {
    let server = Server::terrace(&["--range", "u", "u:", "durable"]);
    let mut conn = server.connect();
    ok(&mut conn, "SET u:1 v");
    ok(&mut conn, "SET x v");
    conn.words("GET u:1");
    conn.words("EXISTS u:1 u:2");
    ok(&mut conn, "DEBUG RELOAD");
    assert_eq!(count(&mut conn, "u", "cold"), 1);
    assert_eq!(count(&mut conn, "u", "bytes"), 0);
    conn.words("GET u:1");
    let fields = info(&mut conn, "u");
    for (field, expected) in [
        ("hits", "3"),
        ("misses", "1"),
        ("loaded", "1"),
        ("dropped", "1"),
        ("cold", "0"),
        ("keys", "1"),
    ] {
        assert_eq!(fields[field], expected, "{field}");
    }
}

/// What a server should hold, and the same change made in both.
#[derive(Default)]
struct Model(BTreeMap<(u8, String), bool>);

impl Model {
    const RANGES: &'static [&'static str] = &["default", "u", "uv", "mid"];

    fn range_of(key: &str) -> &'static str {
        match key {
            key if key.starts_with("u:v:") => "uv",
            key if key.starts_with("u:") => "u",
            key if ("m".."p").contains(&key) => "mid",
            _ => "default",
        }
    }

    fn step(&mut self, conn: &mut Conn, rng: &mut Rng) {
        let prefix = ["u:", "u:v:", "n", "k"][rng.usize(..4)];
        let key = format!("{prefix}{}", rng.u32(..40));
        let db = rng.u8(..2);
        ok(conn, &format!("SELECT {db}"));
        let place = (db, key.clone());
        match rng.u32(..100) {
            0..50 => {
                ok(conn, &format!("SET {key} v"));
                self.0.insert(place, false);
            }
            50..65 => {
                ok(conn, &format!("SET {key} v EX 1000"));
                self.0.insert(place, true);
            }
            65..90 => {
                conn.integer(&format!("DEL {key}"));
                self.0.remove(&place);
            }
            90..95 => {
                conn.integer(&format!("PERSIST {key}"));
                self.0.entry(place).and_modify(|expires| *expires = false);
            }
            95..97 => ok(conn, "DEBUG RELOAD"),
            97 => {
                ok(conn, "FLUSHDB");
                self.0.retain(|(of, _), _| *of != db);
            }
            _ => {
                ok(conn, "SWAPDB 0 1");
                let swapped = std::mem::take(&mut self.0).into_iter();
                self.0 = swapped
                    .map(|((db, key), expires)| ((1 - db, key), expires))
                    .collect();
            }
        }
    }

    fn check(&self, conn: &mut Conn, when: &str) {
        let held = |range: &str| {
            let of = |((_, key), _): &(&(u8, String), &bool)| Model::range_of(key) == range;
            let keys = self.0.iter().filter(of).count() as i64;
            let expires = self.0.iter().filter(of).filter(|(_, expires)| **expires).count() as i64;
            (keys, expires)
        };
        let expected: Vec<_> = Model::RANGES.iter().map(|range| held(range)).collect();
        assert_eq!(counts(conn, Model::RANGES), expected, "{when}");
        for db in 0..2 {
            ok(conn, &format!("SELECT {db}"));
            let keys: Vec<String> = self
                .0
                .keys()
                .filter(|(of, _)| *of == db)
                .map(|(_, key)| key.clone())
                .collect();
            assert_eq!(
                conn.integer("DBSIZE"),
                keys.len() as i64,
                "{when}: DBSIZE of {db}"
            );
            assert_eq!(scan(conn, "RANGE SCAN - +"), keys, "{when}: keys of {db}");
        }
    }
}

#[test]
fn counts_are_exact_after_crashes_and_orderly_ends() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut server = Server::terrace(&[
        "--appendfsync",
        "always",
        "--range",
        "u",
        "u:",
        "durable",
        "--range",
        "uv",
        "u:v:",
        "durable",
        "--range",
        "mid",
        "m..p",
        "durable",
    ]);
    let mut model = Model::default();
    for round in 0..8 {
        let mut conn = server.connect();
        model.check(&mut conn, &format!("round {round}, after the start"));
        for _ in 0..150 {
            model.step(&mut conn, &mut rng);
        }
        model.check(&mut conn, &format!("round {round}, before the end"));
        if round % 2 == 0 {
            server.kill();
        } else {
            assert!(server.terminate().success());
        }
        server.restart();
    }
    model.check(&mut server.connect(), "at last");
}

#[test]
fn ranges_made_by_command_are_kept_across_crashes_and_orderly_ends() {
    let mut server = Server::terrace(&[]);
    let mut conn = server.connect();
    ok(
        &mut conn,
        "RANGE CREATE cache cache:* memory maxmemory 10mb maxmemory-policy allkeys-lru",
    );
    ok(&mut conn, "RANGE CREATE orders o..p durable appendfsync always");
    ok(&mut conn, "RANGE CREATE gone g:* durable");
    ok(&mut conn, "RANGE ALTER orders default-ttl 1000");
    ok(&mut conn, "RANGE ALTER default maxmemory 1gb");
    ok(&mut conn, "RANGE DROP gone");
    ok(&mut conn, "SET cache:1 v");
    ok(&mut conn, "SET o1 v");
    let list = conn.words("RANGE LIST");
    for orderly in [false, true] {
        if orderly {
            assert!(server.terminate().success());
        } else {
            server.kill();
        }
        server.restart();
        let mut conn = server.connect();
        assert_eq!(show(&conn.words("RANGE LIST")), show(&list));
        assert_eq!(counts(&mut conn, &["cache", "orders"]), [(0, 0), (1, 1)]);
        assert_eq!(info(&mut conn, "cache")["maxmemory"], "10485760");
        assert_eq!(info(&mut conn, "default")["maxmemory"], "1073741824");
        assert!((990..=1000).contains(&conn.integer("TTL o1")));
    }
}

#[test]
fn a_range_made_around_durable_keys_takes_their_counts_along() {
    let mut server = Server::terrace(&["--appendfsync", "always"]);
    let mut conn = server.connect();
    for i in 0..300 {
        let expiry = if i % 3 == 0 { " EX 1000" } else { "" };
        ok(&mut conn, &format!("SET u:{i} v{expiry}"));
        ok(&mut conn, &format!("SET w:{i} v"));
    }
    ok(&mut conn, "DEBUG RELOAD");
    // Of each kind some: cold, loaded, changed, new, deleted and not told to the store.
    for i in 0..20 {
        conn.words(&format!("GET u:{i}"));
        ok(&mut conn, &format!("SET u:{} v", 100 + i));
        ok(&mut conn, &format!("SET u:new:{i} v EX 1000"));
        conn.integer(&format!("DEL u:{}", 200 + i));
    }
    let expires = count(&mut conn, "default", "expires");
    ok(&mut conn, "RANGE CREATE u u:* durable");
    let before = [(300, 0), (300, expires)];
    assert_eq!(counts(&mut conn, &["default", "u"]), before);
    assert!(count(&mut conn, "u", "cold") > 0);
    server.kill();
    server.restart();
    let mut conn = server.connect();
    assert_eq!(counts(&mut conn, &["default", "u"]), before);
    ok(&mut conn, "RANGE DROP u KEEP");
    assert_eq!(counts(&mut conn, &["default"]), [(600, expires)]);
    assert!(server.terminate().success());
    server.restart();
    let mut conn = server.connect();
    assert_eq!(counts(&mut conn, &["default"]), [(600, expires)]);
    assert_eq!(scan(&mut conn, "RANGE SCAN u: u;").len(), 300);
}

#[test]
fn a_key_never_changes_its_tier() {
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    ok(&mut conn, "SET c:1 v");
    ok(&mut conn, "DEBUG RELOAD");
    refused(
        &mut conn,
        "RANGE CREATE c c:* memory",
        "Keys of range 'default' would change their tier, 'c:1' for one",
    );
    assert_eq!(scan(&mut conn, "RANGE LIST"), ["default", "*", "durable"]);
    conn.integer("DEL c:1");
    ok(&mut conn, "RANGE CREATE c c:* memory");
    ok(&mut conn, "SET c:1 v");
    refused(&mut conn, "RANGE DROP c", "holds 1 keys");
    refused(&mut conn, "RANGE DROP c KEEP", "would change their tier");
    refused(&mut conn, "RANGE CREATE ch c:h:* durable extra", "has no value");
    ok(&mut conn, "RANGE CREATE ch c:h:* durable");
    ok(&mut conn, "SET c:h:1 v");
    refused(&mut conn, "RANGE DROP ch KEEP", "would change their tier");
    assert_eq!(
        counts(&mut conn, &["default", "c", "ch"]),
        [(0, 0), (1, 0), (1, 0)]
    );
}

#[test]
fn a_range_with_keys_is_dropped_only_when_told_what_becomes_of_them() {
    let mut server = Server::terrace(&["--appendfsync", "always"]);
    let mut conn = server.connect();
    for (name, tier) in [("cache", "memory"), ("users", "durable")] {
        ok(&mut conn, &format!("RANGE CREATE {name} {name}:* {tier}"));
        for i in 0..500 {
            ok(&mut conn, &format!("SELECT {}", i % 3));
            ok(&mut conn, &format!("SET {name}:{i} v"));
        }
    }
    ok(&mut conn, "SET other v");
    ok(&mut conn, "DEBUG RELOAD");
    // One that has expired and is still counted must not be in the way.
    ok(&mut conn, "DEBUG SET-ACTIVE-EXPIRE 0");
    ok(&mut conn, "SET users:gone v PX 1");
    std::thread::sleep(Duration::from_millis(10));
    for name in ["cache", "users"] {
        refused(&mut conn, &format!("RANGE DROP {name}"), "say DISCARD");
        refused(&mut conn, &format!("RANGE DROP {name} BOTH"), "syntax error");
        ok(&mut conn, &format!("RANGE DROP {name} discard"));
        refused(&mut conn, &format!("RANGE DROP {name}"), "No such range");
    }
    refused(
        &mut conn,
        "RANGE DROP default DISCARD",
        "can't be created or dropped",
    );
    assert_eq!(counts(&mut conn, &["default"]), [(1, 0)]);
    server.kill();
    server.restart();
    let mut conn = server.connect();
    assert_eq!(counts(&mut conn, &["default"]), [(1, 0)]);
    assert_eq!(scan(&mut conn, "RANGE LIST"), ["default", "*", "durable"]);
    assert_eq!(
        conn.integer("DBSIZE") + {
            ok(&mut conn, "SELECT 1");
            conn.integer("DBSIZE")
        },
        1
    );
}

#[test]
fn options_are_inherited_altered_and_checked() {
    let server = Server::terrace(&["--appendfsync", "no", "--maxmemory-policy", "allkeys-lfu"]);
    let mut conn = server.connect();
    ok(&mut conn, "RANGE CREATE s s:* memory default-ttl 50");
    let fields = info(&mut conn, "s");
    assert_eq!(
        (&*fields["appendfsync"], &*fields["maxmemory-policy"]),
        ("no", "allkeys-lfu")
    );
    ok(&mut conn, "SET s:1 v");
    assert!((49..=50).contains(&conn.integer("TTL s:1")));
    assert_eq!(counts(&mut conn, &["s"]), [(1, 1)]);
    ok(
        &mut conn,
        "RANGE ALTER s default-ttl 0 maxmemory-policy volatile-ttl appendfsync always",
    );
    let fields = info(&mut conn, "s");
    assert_eq!(
        (&*fields["appendfsync"], &*fields["maxmemory-policy"]),
        ("always", "volatile-ttl")
    );
    ok(&mut conn, "SET s:1 v");
    assert_eq!(conn.integer("TTL s:1"), -1);
    ok(&mut conn, "RANGE ALTER s maxmemory-policy inherit");
    assert_eq!(info(&mut conn, "s")["maxmemory-policy"], "allkeys-lfu");
    refused(
        &mut conn,
        "RANGE ALTER s maxmemory lots",
        "range option 'maxmemory'",
    );
    refused(
        &mut conn,
        "RANGE ALTER s default-ttl 7 color blue",
        "unknown range option 'color'",
    );
    assert_eq!(
        info(&mut conn, "s")["default-ttl"],
        "0",
        "all options are taken, or none"
    );
    refused(&mut conn, "RANGE ALTER s maxmemory 1 default-ttl", "syntax error");
    refused(&mut conn, "RANGE ALTER t maxmemory 1", "No such range 't'");
    refused(&mut conn, "RANGE CREATE s t:* memory", "exists already");
    refused(&mut conn, "RANGE CREATE t s:* memory", "overlap");
    refused(&mut conn, "RANGE CREATE t r..s:b memory", "overlap");
    refused(
        &mut conn,
        "RANGE CREATE default * memory",
        "can't be created or dropped",
    );
    refused(&mut conn, "RANGE CREATE t t:* disk", "must be memory or durable");
    ok(&mut conn, "RANGE CREATE S S:* memory");
    ok(&mut conn, "SET S:1 v");
    ok(&mut conn, "SET S:2 v");
    let held = counts(&mut conn, &["s", "S"]);
    assert_eq!(held, [(1, 0), (2, 0)], "names that differ in case are two names");
}

#[test]
fn an_ordered_scan_has_bounds_a_limit_and_a_direction() {
    let server = Server::terrace(&["--range", "mem", "m:", "memory"]);
    let mut conn = server.connect();
    for key in ["a", "b", "m:1", "m:2", "c", "z"] {
        ok(&mut conn, &format!("SET {key} v{key}"));
    }
    for (bounds, expected) in [
        ("- +", "a b c m:1 m:2 z"),
        ("b m:2", "b c m:1"),
        ("b +", "b c m:1 m:2 z"),
        ("- b", "a"),
        ("+ -", ""),
        ("m:2 b", ""),
        ("b b", ""),
        ("- + LIMIT 2", "a b"),
        ("- + LIMIT 0", ""),
        ("- + LIMIT 2 REVERSE", "z m:2"),
        ("b m:2 reverse limit 2", "m:1 c"),
        ("- + LIMIT 1 WITHVALUES", "a va"),
        ("m: m; REVERSE WITHVALUES", "m:2 vm:2 m:1 vm:1"),
    ] {
        let found = scan(&mut conn, &format!("RANGE SCAN {bounds}")).join(" ");
        assert_eq!(found, expected, "{bounds}");
        ok(&mut conn, "DEBUG RELOAD");
    }
    refused(&mut conn, "RANGE SCAN - + LIMIT -1", "out of range");
    refused(&mut conn, "RANGE SCAN - + LIMIT", "syntax error");
    refused(&mut conn, "RANGE SCAN - + BACKWARDS", "syntax error");
    conn.words("HELLO 3");
    let pairs = conn.words("RANGE SCAN - + LIMIT 2 WITHVALUES");
    assert_eq!(
        show(&pairs),
        "*2\\r\\n*2\\r\\n$1\\r\\na\\r\\n$2\\r\\nva\\r\\n*2\\r\\n$1\\r\\nb\\r\\n$2\\r\\nvb\\r\\n"
    );
}

#[test]
fn an_ordered_scan_sees_the_newest_of_resident_and_stored() {
    let server = Server::terrace(&["--range", "mem", "n", "memory"]);
    let mut conn = server.connect();
    let (mut model, mut rng) = (BTreeMap::<String, String>::new(), Rng::with_seed(7));
    for step in 0..3_000 {
        let key = format!("{}{}", ["k", "n", "x"][rng.usize(..3)], rng.u32(..60));
        match rng.u32(..100) {
            0..55 => {
                ok(&mut conn, &format!("SET {key} v{step}"));
                model.insert(key, format!("v{step}"));
            }
            55..75 => {
                conn.integer(&format!("DEL {key}"));
                model.remove(&key);
            }
            75..80 => {
                conn.words(&format!("GET {key}"));
            }
            80..82 => {
                conn.words(&format!("SET {key} v PX 1"));
                model.remove(&key);
                std::thread::sleep(Duration::from_millis(3));
            }
            82..85 => ok(&mut conn, "DEBUG RELOAD"),
            _ => check_ordered_scan(&mut conn, &model, &mut rng),
        }
    }
}

fn check_ordered_scan(conn: &mut Conn, model: &BTreeMap<String, String>, rng: &mut Rng) {
    let mut bounds = [0, 1].map(|_| format!("{}{}", ["k", "n", "x"][rng.usize(..3)], rng.u32(..60)));
    bounds.sort();
    let [start, end] = bounds;
    let limit = rng.usize(..30);
    let mut expected: Vec<&String> = model
        .range(start.clone()..end.clone())
        .map(|(key, _)| key)
        .collect();
    let mut line = format!("RANGE SCAN {start} {end} LIMIT {limit} WITHVALUES");
    if rng.bool() {
        line.push_str(" REVERSE");
        expected.reverse();
    }
    let expected: Vec<&String> = expected
        .into_iter()
        .take(limit)
        .flat_map(|key| [key, &model[key]])
        .collect();
    assert_eq!(scan(conn, &line).iter().collect::<Vec<_>>(), expected, "{line}");
}

/// Keys that nobody deletes are met by every scan, whatever flushes, loads and drops go on meanwhile.
#[test]
fn scans_miss_no_key_while_flushes_run() {
    const KEYS: usize = 3_000;
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    let all: BTreeSet<Vec<u8>> = (0..KEYS).map(|i| format!("k:{i:05}").into_bytes()).collect();
    for key in &all {
        conn.call(&[b"SET", key.as_slice(), b"v"]);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = server.connect();
            while !stop.load(Ordering::Relaxed) {
                ok(&mut conn, "DEBUG RELOAD");
            }
        });
        scope.spawn(|| {
            let (mut conn, mut rng) = (server.connect(), Rng::new());
            while !stop.load(Ordering::Relaxed) {
                let key = format!("k:{:05}", rng.usize(..KEYS));
                let command = ["GET", "APPEND", "PERSIST"][rng.usize(..3)];
                conn.words(&match command {
                    "APPEND" => format!("APPEND {key} x"),
                    command => format!("{command} {key}"),
                });
            }
        });
        let began = Instant::now();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while began.elapsed() < Duration::from_secs(3) {
                check_scans(&mut conn, &all);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

fn check_scans(conn: &mut Conn, all: &BTreeSet<Vec<u8>>) {
    let missing = |found: Vec<Vec<u8>>| {
        let found: BTreeSet<Vec<u8>> = found.into_iter().collect();
        all.difference(&found).count()
    };
    let ordered = Value::parse(&conn.words("RANGE SCAN - +")).texts();
    assert_eq!(ordered.len(), all.len(), "RANGE SCAN returns each key once");
    assert_eq!(missing(ordered), 0, "RANGE SCAN");
    let keys = Value::parse(&conn.words("KEYS k:*")).texts();
    assert_eq!(keys.len(), all.len(), "KEYS returns each key once");
    assert_eq!(missing(keys), 0, "KEYS");
    let (mut cursor, mut found) = (b"0".to_vec(), Vec::new());
    loop {
        let mut texts = Value::parse(&conn.call(&[b"SCAN".as_slice(), &cursor, b"COUNT", b"97"])).texts();
        cursor = texts.remove(0);
        found.append(&mut texts);
        if cursor == b"0" {
            break;
        }
    }
    assert_eq!(missing(found), 0, "SCAN");
}
