//! Ranges that change while clients write: split, merged, moved, dropped. No key is lost or doubled, every count is exact
//! in the end, and after a crash on the way the state is one of those that it may be.

mod common;
#[path = "ranges_live/load.rs"]
mod load;

use common::Server;
use fastrand::Rng;
use load::{compare, compare_counts, count, fill, info, ok, refused, step, while_writing};
use std::time::{Duration, Instant};

const DURABLE: &[&str] = &["--appendfsync", "always"];

/// Of each kind some: cold, loaded, changed since, new, deleted and not told to the store.
fn stir(conn: &mut common::Conn, model: &mut load::Model, (prefix, keys): (&str, usize)) {
    ok(conn, "DEBUG RELOAD");
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
            let at = rng.usize(1..5_000);
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
