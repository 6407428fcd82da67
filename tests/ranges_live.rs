//! Ranges that change while clients write: split, merged, moved, dropped. No key is lost or doubled, every count is
//! exact in the end, and after a crash on the way the state is one of those that it may be.

mod common;
#[path = "ranges_live/load.rs"]
mod load;

use common::ranges::{count, info, ok, refused, wait_for};
use common::{Conn, Server, Value, show};
use fastrand::Rng;
use load::{compare, compare_counts, fill, step, while_writing};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const DURABLE: &[&str] = &["--appendfsync", "always"];

/// Of each kind some: cold, loaded, changed since, new, deleted and not told to the store.
fn stir(conn: &mut Conn, model: &mut load::Model, (prefix, keys): (&str, usize)) {
    ok(conn, "DEBUG RELOAD");
    conn.integer("DEBUG SEAL");
    let mut rng = Rng::with_seed(5);
    for _ in 0..keys / 2 {
        let number = rng.usize(..keys + 50);
        step(conn, model, &mut rng, format!("{prefix}{number:06}"));
    }
}

#[test]
fn a_split_range_counts_exactly_on_both_sides_and_merges_again() {
    for tier in ["durable", "memory"] {
        let mut server = Server::terrace(DURABLE);
        let mut conn = server.connect();
        ok(
            &mut conn,
            &format!("RANGE CREATE u u:* {tier} default-ttl 0 max-keys 100000"),
        );
        let mut model = fill(&mut conn, ("u:", 1_000));
        stir(&mut conn, &mut model, ("u:", 1_000));
        let whole = [("u", "u:", "u;")];
        let halves = [("u", "u:", "u:000600"), ("u-2", "u:000600", "u;")];
        compare_counts(&mut conn, &model, &whole, "before");
        ok(&mut conn, "RANGE SPLIT u AT u:000600");
        compare_counts(&mut conn, &model, &halves, "split");
        assert_eq!(info(&mut conn, "u-2")["pattern"], "u:000600..u;");
        assert_eq!(info(&mut conn, "u-2")["max-keys"], "100000");
        ok(&mut conn, "RANGE SPLIT u at u:0002 as low");
        let thirds = [
            ("u", "u:", "u:0002"),
            ("low", "u:0002", "u:000600"),
            ("u-2", "u:000600", "u;"),
        ];
        stir(&mut conn, &mut model, ("u:", 1_000));
        compare_counts(&mut conn, &model, &thirds, "split again");
        server.kill();
        server.restart();
        conn = server.connect();
        if tier == "memory" {
            model.clear();
        }
        compare(&mut conn, &model, &thirds, "after a crash");
        stir(&mut conn, &mut model, ("u:", 1_000));
        refused(&mut conn, "RANGE MERGE u u-2", "are not neighbours");
        ok(&mut conn, "RANGE MERGE u low");
        compare_counts(&mut conn, &model, &halves, "merged");
        assert!(server.terminate().success());
        server.restart();
        conn = server.connect();
        if tier == "memory" {
            model.clear();
        }
        compare(&mut conn, &model, &halves, "after an orderly end");
        stir(&mut conn, &mut model, ("u:", 1_000));
        ok(&mut conn, "RANGE MERGE u-2 u");
        assert_eq!(info(&mut conn, "u-2")["pattern"], "u:*");
        compare(&mut conn, &model, &[("u-2", "u:", "u;")], "one again");
    }
}

#[test]
fn splits_and_merges_that_cannot_be_are_refused() {
    let server = Server::terrace(&[
        "--range", "u", "u:", "memory", "--range", "uv", "u:v:", "durable", "--range", "m", "m..p", "memory",
    ]);
    let mut conn = server.connect();
    for (line, why) in [
        ("RANGE SPLIT t AT x", "No such range 't'"),
        ("RANGE SPLIT u AT v", "does not lie between"),
        ("RANGE SPLIT u AT u:", "does not lie between"),
        ("RANGE SPLIT m AT p", "does not lie between"),
        ("RANGE SPLIT u AT u:v:5", "belongs to range 'uv'"),
        ("RANGE SPLIT default AT k", "default range can't be split"),
        ("RANGE SPLIT u AT u:a AS m", "exists already"),
        ("RANGE SPLIT u AT u:a AS m.m", "the name of a range"),
        ("RANGE SPLIT u AT u:..a", "choose another key"),
        ("RANGE SPLIT u BY u:a", "syntax error"),
        ("RANGE SPLIT u AT u:a AS", "syntax error"),
        ("RANGE MERGE u m", "are not neighbours"),
        ("RANGE MERGE u uv", "not of the same tier and options"),
        ("RANGE MERGE u default", "default range can't be merged"),
        ("RANGE MERGE u u", "No such range 'u'"),
        ("RANGE MERGE u", "wrong number of arguments"),
    ] {
        refused(&mut conn, line, why);
    }
    ok(&mut conn, "RANGE SPLIT u AT u:w");
    ok(&mut conn, "RANGE ALTER u-2 maxmemory 1mb");
    refused(&mut conn, "RANGE MERGE u u-2", "not of the same tier and options");
    // What lies inside stays what it was.
    ok(&mut conn, "SET u:v:1 v");
    assert_eq!(count(&mut conn, "uv", "keys"), 1);
    ok(&mut conn, "RANGE ALTER u maxmemory 1mb");
    ok(&mut conn, "RANGE MERGE u u-2");
    assert_eq!(count(&mut conn, "uv", "keys"), 1);
}

#[test]
fn ranges_of_the_configuration_stay_split_and_merged_after_a_start() {
    let mut server = Server::terrace(&[
        "--appendfsync",
        "always",
        "--range",
        "a",
        "a..m",
        "durable",
        "--range",
        "b",
        "m..z",
        "durable",
    ]);
    let mut conn = server.connect();
    for key in ["a1", "f1", "m1", "x1"] {
        ok(&mut conn, &format!("SET {key} v"));
    }
    ok(&mut conn, "RANGE MERGE a b");
    ok(&mut conn, "RANGE SPLIT a AT f AS c");
    for _ in 0..2 {
        server.kill();
        server.restart();
        let mut conn = server.connect();
        assert_eq!(
            (count(&mut conn, "a", "keys"), count(&mut conn, "c", "keys")),
            (1, 3)
        );
        assert_eq!(info(&mut conn, "c")["pattern"], "f..z");
        refused(&mut conn, "RANGE INFO b", "No such range");
    }
}

#[test]
fn counts_are_exact_after_splits_and_merges_under_load() {
    let mut server = Server::terrace(DURABLE);
    let mut conn = server.connect();
    ok(&mut conn, "RANGE CREATE u u:* durable");
    let model = fill(&mut conn, ("u:", 4_000));
    ok(&mut conn, "SELECT 1");
    ok(&mut conn, "SET u:other v");
    ok(&mut conn, "SELECT 0");
    let (mut model, _) = while_writing(&server, model, ("u:", 5_000), |conn| {
        let began = Instant::now();
        let mut rng = Rng::new();
        while began.elapsed() < Duration::from_secs(4) {
            // Not inside of the range that is made below.
            let at = rng.usize(1..4_900);
            let at = if at < 1_000 { at } else { at + 100 };
            ok(conn, &format!("RANGE SPLIT u AT u:{at:06}"));
            if rng.bool() {
                ok(conn, "DEBUG RELOAD");
            }
            ok(conn, "RANGE CREATE inner u:0010* durable");
            ok(conn, "RANGE DROP inner KEEP");
            if rng.bool() {
                ok(conn, "SELECT 1");
                ok(conn, "FLUSHDB");
                ok(conn, "SELECT 0");
            }
            ok(conn, "RANGE MERGE u u-2");
        }
        ok(conn, "RANGE SPLIT u AT u:002000");
    });
    let ranges = [("u", "u:", "u:002000"), ("u-2", "u:002000", "u;")];
    compare(&mut conn, &model, &ranges, "after the load");
    server.kill();
    server.restart();
    compare(&mut server.connect(), &model, &ranges, "after a crash");
    stir(&mut server.connect(), &mut model, ("u:", 1_000));
    assert!(server.terminate().success());
    server.restart();
    compare(&mut server.connect(), &model, &ranges, "after an orderly end");
}

#[test]
fn a_crash_while_ranges_change_leaves_exact_counts() {
    for point in [
        "reshape-before-mark",
        "recount-before-settling",
        "recount-after-moment",
    ] {
        for (before, change) in [
            ("", "RANGE SPLIT u AT u:000300"),
            ("RANGE SPLIT u AT u:000300", "RANGE MERGE u u-2"),
            ("", "RANGE CREATE v u:0003* durable"),
        ] {
            if change.contains("MERGE") && point != "reshape-before-mark" {
                continue;
            }
            let mut server = Server::terrace(DURABLE);
            let mut conn = server.connect();
            ok(&mut conn, "RANGE CREATE u u:* durable");
            let mut model = fill(&mut conn, ("u:", 600));
            stir(&mut conn, &mut model, ("u:", 600));
            if !before.is_empty() {
                ok(&mut conn, before);
            }
            server.kill();
            server.set_env(&[("FAILPOINTS", &format!("{point}=return"))]);
            server.restart();
            let mut conn = server.connect();
            stir(&mut conn, &mut model, ("u:", 600));
            let words: Vec<&str> = change.split(' ').collect();
            assert!(
                conn.try_call(&words).is_err(),
                "{point}: never reached by {change}"
            );
            server.kill();
            server.set_env(&[]);
            server.restart();
            let mut conn = server.connect();
            let list = String::from_utf8_lossy(&conn.words("RANGE LIST")).into_owned();
            let ranges: &[(&str, &str, &str)] = match () {
                _ if list.contains("u-2") => &[("u", "u:", "u:000300"), ("u-2", "u:000300", "u;")],
                _ if list.contains("u:0003*") => &[("v", "u:0003", "u:0004")],
                _ => &[("u", "u:", "u;")],
            };
            compare(&mut conn, &model, ranges, &format!("{point}, {change}"));
        }
    }
}

// ---- Moves --------------------------------------------------------------------------------------------------------

const WHOLE: &[(&str, &str, &str)] = &[("u", "u:", "u;")];

fn move_to(conn: &mut Conn, tier: &str) {
    ok(conn, &format!("RANGE ALTER u TIER {tier}"));
    wait_for(conn, "u", "state", "ready");
    assert_eq!(info(conn, "u")["tier"], tier);
}

#[test]
fn a_range_moves_to_disk_and_back_while_clients_write() {
    let mut server = Server::terrace(&["--flush-dirty-size", "256kb"]);
    let mut conn = server.connect();
    ok(&mut conn, "RANGE CREATE u u:* memory");
    let mut model = fill(&mut conn, ("u:", 6_000));
    // Keys that nobody changes, which every scan has to meet.
    let stay = fill(&mut conn, ("u:stay:", 500));
    model.extend(stay);
    ok(&mut conn, "SET beside v");
    for round in 0..3 {
        for tier in ["durable", "memory"] {
            let (after, longest) = while_writing(&server, model, ("u:", 7_000), |conn| {
                std::thread::sleep(Duration::from_millis(100));
                if round == 1 {
                    ok(conn, "DEBUG RELOAD");
                    conn.integer("DEBUG SEAL");
                }
                ok(conn, &format!("RANGE ALTER u TIER {tier}"));
                std::thread::sleep(Duration::from_millis(20));
                if round == 2 {
                    ok(conn, "DEBUG RELOAD");
                    conn.integer("DEBUG SEAL");
                }
                while info(conn, "u")["state"] != "ready" {
                    meets_what_stays(conn);
                }
                meets_what_stays(conn);
            });
            println!("to {tier}: the longest command took {longest:?}");
            model = after;
            assert_eq!(info(&mut conn, "u")["tier"], tier);
            model.insert("beside".into(), ("v".into(), false));
            compare(&mut conn, &model, WHOLE, &format!("round {round}, {tier}"));
            model.remove("beside");
        }
    }
    move_to(&mut conn, "durable");
    model.insert("beside".into(), ("v".into(), false));
    assert!(server.terminate().success());
    server.restart();
    conn = server.connect();
    assert_eq!(info(&mut conn, "u")["tier"], "durable");
    compare(&mut conn, &model, WHOLE, "after an orderly end");
    stir(&mut conn, &mut model, ("u:", 1_000));
    move_to(&mut conn, "memory");
    compare(&mut conn, &model, WHOLE, "in memory again");
    assert_eq!(info(&mut conn, "u")["disk-bytes"], "0");
    server.kill();
    server.restart();
    conn = server.connect();
    assert_eq!(info(&mut conn, "u")["tier"], "memory");
    model.retain(|key, _| key == "beside");
    compare(&mut conn, &model, WHOLE, "a memory range after a crash");
}

fn meets_what_stays(conn: &mut Conn) {
    let ordered = Value::parse(&conn.words("RANGE SCAN u:stay: u:stay;")).texts();
    assert_eq!(ordered.len(), 500, "RANGE SCAN");
    let (mut cursor, mut found) = (b"0".to_vec(), BTreeSet::new());
    loop {
        let words = [
            b"SCAN".as_slice(),
            &cursor,
            b"MATCH",
            b"u:stay:*",
            b"COUNT",
            b"400",
        ];
        let mut texts = Value::parse(&conn.call(&words)).texts();
        cursor = texts.remove(0);
        found.extend(texts);
        if cursor == b"0" {
            break;
        }
    }
    assert_eq!(found.len(), 500, "SCAN");
}

/// Writes until the server dies; what was acknowledged is in the model, the one in flight is returned.
fn write_until_it_dies(conn: &mut Conn, model: &mut load::Model) -> String {
    let began = Instant::now();
    for number in 0.. {
        // The first are there already.
        let (key, value) = (format!("u:{:06}", number % 900), format!("last{number}"));
        if conn.try_call(&["SET", &key, &value]).is_err() {
            return key;
        }
        model.insert(key, (value, false));
        assert!(began.elapsed() < Duration::from_secs(30), "it does not die");
    }
    unreachable!("numbers do not end")
}

/// A key of which it is not known whether its last write happened: what the server says.
fn settle_in_flight(conn: &mut Conn, model: &mut load::Model, key: &str) {
    match conn.bulk(&format!("GET {key}")) {
        Some(value) => {
            let expires = conn.integer(&format!("TTL {key}")) >= 0;
            model.insert(
                key.into(),
                (String::from_utf8_lossy(&value).into_owned(), expires),
            );
        }
        None => {
            model.remove(key);
        }
    }
}

#[test]
fn a_crash_in_a_move_leaves_one_tier_or_the_other_with_all_that_it_promised() {
    let points = [
        ("durable", "move-after-switch"),
        ("durable", "move-while-flushing"),
        ("durable", "flush-after-ingest"),
        ("durable", "move-before-finish"),
        ("durable", "move-after-finish"),
        ("memory", "move-while-loading"),
        ("memory", "move-before-switch"),
        ("memory", "move-after-switch"),
        ("memory", "wipe-before-ingest"),
        ("memory", "wipe-after-ingest"),
        ("memory", "move-after-finish"),
    ];
    for (to, point) in points {
        let from = if to == "durable" { "memory" } else { "durable" };
        let mut server = Server::terrace(DURABLE);
        let mut conn = server.connect();
        ok(&mut conn, &format!("RANGE CREATE u u:* {from}"));
        let mut model = fill(&mut conn, ("u:", 600));
        ok(&mut conn, "SET beside v");
        if from == "durable" {
            stir(&mut conn, &mut model, ("u:", 600));
        } else {
            model.clear();
        }
        server.kill();
        server.set_env(&[("FAILPOINTS", &format!("{point}=return"))]);
        server.restart();
        conn = server.connect();
        if from == "memory" {
            model = fill(&mut conn, ("u:", 600));
        }
        model.insert("beside".into(), ("v".into(), false));
        let began = conn.try_call(&["RANGE", "ALTER", "u", "TIER", to]);
        let in_flight = match began {
            Ok(reply) => {
                assert_eq!(reply, b"+OK\r\n");
                write_until_it_dies(&mut conn, &mut model)
            }
            Err(_) => "none".into(),
        };
        server.kill();
        server.set_env(&[]);
        for when in ["first", "second"] {
            server.restart();
            conn = server.connect();
            let tier = info(&mut conn, "u")["tier"].clone();
            println!("{point} on the way to {to}: {tier}");
            if tier == "memory" {
                model.retain(|key, _| key == "beside");
            } else {
                settle_in_flight(&mut conn, &mut model, &in_flight);
            }
            assert_eq!(info(&mut conn, "u")["state"], "ready");
            let when = format!("{point} on the way to {to}, {when} start");
            compare(&mut conn, &model, WHOLE, &when);
            server.kill();
        }
        // It can be moved there again, and stays.
        server.restart();
        conn = server.connect();
        stir(&mut conn, &mut model, ("u:", 300));
        move_to(&mut conn, to);
        stir(&mut conn, &mut model, ("u:", 300));
        compare(&mut conn, &model, WHOLE, &format!("{point}, moved at last"));
        server.kill();
        server.restart();
        if to == "memory" {
            model.retain(|key, _| key == "beside");
        }
        compare(
            &mut server.connect(),
            &model,
            WHOLE,
            &format!("{point}, at the end"),
        );
    }
}

/// A scan passes over keys that have rows, to find them among the rows: after a move there are none.
#[test]
fn a_scan_that_a_move_meets_returns_every_key() {
    let server = Server::terrace(&["--range", "u", "u:", "durable"]);
    let mut conn = server.connect();
    fill(&mut conn, ("u:old:", 1_000));
    ok(&mut conn, "SAVE");
    fill(&mut conn, ("u:new:", 1_000));
    let mut seen = BTreeSet::new();
    let mut cursor = "0".to_string();
    let mut steps = 0;
    loop {
        let Value::List(_, parts) = Value::parse(&conn.call(&["SCAN", &cursor, "COUNT", "100"])) else {
            panic!("SCAN answers an array")
        };
        let [Value::Bulk(_, next), Value::List(_, keys)] = &parts[..] else {
            panic!("SCAN answered {parts:?}")
        };
        seen.extend(keys.iter().map(|key| format!("{key:?}")));
        steps += 1;
        if steps == 1 {
            move_to(&mut conn, "memory");
        }
        cursor = String::from_utf8_lossy(next).into_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 2_000);
}

#[test]
fn a_move_that_cannot_be_is_refused() {
    let server = Server::terrace(&["--range", "u", "u:", "durable"]);
    let mut conn = server.connect();
    fill(&mut conn, ("u:", 2_000));
    refused(&mut conn, "RANGE ALTER u TIER disk", "must be memory or durable");
    refused(&mut conn, "RANGE ALTER t TIER memory", "No such range 't'");
    ok(&mut conn, "RANGE ALTER u TIER durable");
    ok(&mut conn, "DEBUG RELOAD");
    ok(&mut conn, "RANGE ALTER u maxmemory 1kb");
    refused(&mut conn, "RANGE ALTER u TIER memory", "do not fit in maxmemory");
    assert_eq!(info(&mut conn, "u")["tier"], "durable");
    refused(
        &mut conn,
        "RANGE ALTER u max-keys 9000 TIER memory",
        "the options are in force",
    );
    assert_eq!(info(&mut conn, "u")["max-keys"], "9000");
    ok(&mut conn, "RANGE ALTER u maxmemory 0 TIER memory max-keys 5000");
    wait_for(&mut conn, "u", "tier", "memory");
    assert_eq!(count(&mut conn, "u", "keys"), 2_000);
    assert_eq!(info(&mut conn, "u")["max-keys"], "5000");
}

#[test]
fn a_range_that_evicts_takes_every_write_while_others_change() {
    const BALLAST: usize = 8 << 20;
    let server = Server::terrace(&[
        "--maxmemory",
        "24mb",
        "--range",
        "cache",
        "cache:",
        "memory",
        "maxmemory-policy",
        "allkeys-lru",
        "--range",
        "other",
        "other:",
        "memory",
        "maxmemory-policy",
        "noeviction",
        "--enable-debug-command",
        "yes",
    ]);
    let mut conn = server.connect();
    let mut set = |key: String, len: usize| {
        let reply = conn.call(&[b"SET", key.as_bytes(), &vec![b'v'; len]]);
        assert_eq!(show(&reply), "+OK\\r\\n", "{key}");
    };
    (0..10_000).for_each(|key| set(format!("cache:{key:06}"), 900));
    // All that may be evicted is sealed, and a third of memory is of a range that is never evicted.
    server.connect().integer("DEBUG SEAL");
    (0..BALLAST / 1_000).for_each(|key| set(format!("other:{key:06}"), 1_000));
    let mut changes = server.connect();
    for round in 0..4 {
        ok(&mut changes, "RANGE SPLIT other AT other:004000");
        ok(&mut changes, "RANGE SPLIT cache AT cache:005000");
        // Too large to be sealed: few entries, one of which has to be found for the next.
        (0..60).for_each(|key| set(format!("cache:{:06}:{round}", key * 150), 300_000));
        ok(&mut changes, "RANGE MERGE other other-2");
        ok(&mut changes, "RANGE MERGE cache cache-2");
    }
}

// ---- Dropping all -------------------------------------------------------------------------------------------------

#[test]
fn what_is_discarded_is_gone_at_once_and_its_room_is_given_back() {
    let mut server = Server::terrace(DURABLE);
    let mut conn = server.connect();
    ok(&mut conn, "RANGE CREATE big b:* durable");
    ok(&mut conn, "RANGE CREATE inner b:in:* durable");
    ok(&mut conn, "SET b:in:1 v");
    ok(&mut conn, "SET a v");
    let noise = |rng: &mut Rng| -> String { (0..1_000).map(|_| rng.alphanumeric()).collect() };
    let mut rng = Rng::new();
    for part in 0..20 {
        let requests: Vec<Vec<Vec<u8>>> = (0..1_000)
            .map(|i| {
                let words = [
                    "SET".into(),
                    format!("b:{part}:{i}"),
                    noise(&mut rng),
                    "EX".into(),
                    "1000".into(),
                ];
                let most = if i % 3 == 0 { 5 } else { 3 };
                words[..most]
                    .iter()
                    .map(|word| word.clone().into_bytes())
                    .collect()
            })
            .collect();
        conn.pipeline(&requests).expect("replies");
        if part % 5 == 0 {
            ok(&mut conn, "DEBUG RELOAD");
        }
    }
    let before = common::folder_bytes(&server.data_dir().join("store"));
    let began = Instant::now();
    ok(&mut conn, "RANGE DROP big DISCARD");
    println!("the drop took {:?}", began.elapsed());
    assert_eq!(conn.integer("DBSIZE"), 2);
    assert_eq!(conn.integer("EXISTS b:0:1 b:19:999"), 0);
    assert_eq!(
        show(&conn.words("RANGE SCAN - +")),
        "*2\\r\\n$1\\r\\na\\r\\n$6\\r\\nb:in:1\\r\\n"
    );
    // The same keys anew, in the range around: nothing of what was there shows.
    assert_eq!(conn.integer("APPEND b:0:1 x"), 1);
    assert_eq!(conn.integer("TTL b:0:1"), -1);
    assert_eq!(count(&mut conn, "default", "keys"), 2);
    let began = Instant::now();
    loop {
        ok(&mut conn, "DEBUG RELOAD");
        let now = common::folder_bytes(&server.data_dir().join("store"));
        if now < before / 5 {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{now} bytes of {before} are still there"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    for _ in 0..2 {
        server.kill();
        server.restart();
        conn = server.connect();
        assert_eq!(conn.integer("DBSIZE"), 3);
        assert_eq!(conn.bulk("GET b:0:1").as_deref(), Some(&b"x"[..]));
        assert_eq!(count(&mut conn, "default", "keys"), 2);
        assert_eq!(count(&mut conn, "inner", "keys"), 1);
    }
}

#[test]
fn a_crash_after_a_discard_keeps_what_was_written_since_and_nothing_else() {
    for point in [
        "",
        "drop-after-moment",
        "wipe-before-ingest",
        "wipe-after-ingest",
        "flush-before-trim",
    ] {
        let mut server = Server::terrace(DURABLE);
        let mut conn = server.connect();
        ok(&mut conn, "RANGE CREATE u u:* durable");
        let mut model = fill(&mut conn, ("u:", 600));
        stir(&mut conn, &mut model, ("u:", 600));
        server.kill();
        if !point.is_empty() {
            server.set_env(&[("FAILPOINTS", &format!("{point}=return"))]);
        }
        server.restart();
        conn = server.connect();
        // No flush before the drop's own, which is what the crash is to meet.
        for _ in 0..300 {
            let number = fastrand::usize(..600);
            step(&mut conn, &mut model, &mut Rng::new(), format!("u:{number:06}"));
        }
        let dropped = conn.try_call(&["RANGE", "DROP", "u", "DISCARD"]);
        let mut in_flight = "none".to_string();
        if dropped.is_ok() {
            model.clear();
            // A value of before under it would show.
            for number in 0..300 {
                let key = format!("u:{number:06}");
                match conn.try_call(&["APPEND", &key, "x"]) {
                    Ok(reply) => {
                        assert_eq!(reply, b":1\r\n", "{point}: {key}");
                        model.insert(key, ("x".into(), false));
                    }
                    Err(_) => {
                        in_flight = key;
                        break;
                    }
                }
            }
        }
        for when in ["first", "second"] {
            server.kill();
            server.set_env(&[]);
            server.restart();
            conn = server.connect();
            let list = show(&conn.words("RANGE LIST"));
            if dropped.is_err() && !list.contains("u:*") {
                model.clear();
            }
            settle_in_flight(&mut conn, &mut model, &in_flight);
            let range = if list.contains("u:*") { "u" } else { "default" };
            compare(
                &mut conn,
                &model,
                &[(range, "u:", "u;")],
                &format!("{point}, {when} start"),
            );
        }
        stir(&mut conn, &mut model, ("u:", 600));
        assert!(server.terminate().success());
        server.restart();
        let mut conn = server.connect();
        let range = if show(&conn.words("RANGE LIST")).contains("u:*") {
            "u"
        } else {
            "default"
        };
        compare(
            &mut conn,
            &model,
            &[(range, "u:", "u;")],
            &format!("{point}, at the end"),
        );
    }
}

#[test]
fn ranges_are_dropped_and_made_again_beside_clients_that_write() {
    let mut server = Server::terrace(&["--flush-dirty-size", "64kb"]);
    let mut conn = server.connect();
    ok(&mut conn, "RANGE CREATE u u:* durable");
    let model = fill(&mut conn, ("u:", 1_000));
    let (mut model, longest) = while_writing(&server, model, ("u:", 1_500), |conn| {
        for round in 0..25 {
            let tier = if round % 3 == 0 { "memory" } else { "durable" };
            ok(conn, &format!("RANGE CREATE t t:* {tier}"));
            for i in 0..300 {
                assert_eq!(conn.integer(&format!("APPEND t:{i} x")), 1, "round {round}");
                if i % 4 == 0 {
                    conn.integer(&format!("EXPIRE t:{i} 1000"));
                }
            }
            if round % 2 == 0 {
                ok(conn, "DEBUG RELOAD");
                conn.integer("DEBUG SEAL");
            }
            ok(conn, "RANGE DROP t DISCARD");
            assert_eq!(conn.words("RANGE SCAN t: t; LIMIT 1"), b"*0\r\n");
        }
    });
    println!("the longest command took {longest:?}");
    compare(&mut conn, &model, WHOLE, "after the load");
    ok(&mut conn, "DEBUG RELOAD");
    server.kill();
    server.restart();
    conn = server.connect();
    compare(&mut conn, &model, WHOLE, "after a crash");
    stir(&mut conn, &mut model, ("u:", 500));
    compare(&mut conn, &model, WHOLE, "at the end");
}
