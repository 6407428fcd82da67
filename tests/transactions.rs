//! Transactions of several connections at once: nobody sees a part of one, and none is lost.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::accounts::{ACCOUNTS, START, account, call, number};
use common::stage::compare;
use common::{Conn, Server, Value};
use fastrand::Rng;

const MOVERS: usize = 4;
const TIME: Duration = Duration::from_secs(3);

/// Moves an amount from one account to another, and notes in a third place that it did.
fn transfer(conn: &mut Conn, rng: &mut Rng, mover: usize) {
    let (from, to) = (account(rng.usize(..ACCOUNTS)), account(rng.usize(..ACCOUNTS)));
    let amount = rng.i64(1..50).to_string();
    call(conn, &["MULTI"]);
    call(conn, &["DECRBY", &from, &amount]);
    call(conn, &["INCRBY", &to, &amount]);
    call(conn, &["INCR", &format!("moved:{mover}")]);
    call(conn, &["INCR", "moved"]);
    match call(conn, &["EXEC"]) {
        Value::List(_, replies) => assert_eq!(replies.len(), 4),
        other => panic!("EXEC answered {other:?}"),
    }
}

fn sum(values: &[Value]) -> i64 {
    values.iter().map(number).sum()
}

/// All accounts by one MGET, and again by single GETs of a transaction; the counts by another.
fn look(conn: &mut Conn, names: &[String]) {
    let mget: Vec<&str> = std::iter::once("MGET")
        .chain(names.iter().map(String::as_str))
        .collect();
    let Value::List(_, values) = call(conn, &mget) else {
        panic!("MGET answers an array")
    };
    assert_eq!(sum(&values), START * ACCOUNTS as i64, "MGET");
    call(conn, &["MULTI"]);
    for name in names {
        call(conn, &["GET", name]);
    }
    let Value::List(_, values) = call(conn, &["EXEC"]) else {
        panic!("EXEC answers an array")
    };
    assert_eq!(sum(&values), START * ACCOUNTS as i64, "GETs in a transaction");
    let counters: Vec<String> = (0..MOVERS).map(|mover| format!("moved:{mover}")).collect();
    call(conn, &["MULTI"]);
    // A command that may reach for any key: every shard is held.
    call(conn, &["DBSIZE"]);
    for name in counters.iter().map(String::as_str).chain(["moved"]) {
        call(conn, &["GET", name]);
    }
    let Value::List(_, values) = call(conn, &["EXEC"]) else {
        panic!("EXEC answers an array")
    };
    let counts: Vec<i64> = values[1..].iter().map(number).collect();
    assert_eq!(counts[..MOVERS].iter().sum::<i64>(), counts[MOVERS], "{counts:?}");
}

#[test]
fn nobody_sees_a_part_of_a_transaction() {
    let server = Server::terrace(&["--range", "cache", "cache:*", "memory"]);
    let names: Vec<String> = (0..ACCOUNTS).map(account).collect();
    let mut setup = server.connect();
    for name in &names {
        call(&mut setup, &["SET", name, &START.to_string()]);
    }
    for name in (0..MOVERS)
        .map(|mover| format!("moved:{mover}"))
        .chain(["moved".to_string()])
    {
        call(&mut setup, &["SET", &name, "0"]);
    }
    let stopping = AtomicBool::new(false);
    let (stopping, names, server) = (&stopping, &names, &server);
    std::thread::scope(|scope| {
        let movers: Vec<_> = (0..MOVERS)
            .map(|mover| {
                scope.spawn(move || {
                    let (mut conn, mut rng) = (server.connect(), Rng::with_seed(mover as u64));
                    let mut done = 0;
                    while !stopping.load(Ordering::Relaxed) {
                        transfer(&mut conn, &mut rng, mover);
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        // Eviction of clean entries and flushes go on underneath.
        scope.spawn(move || {
            let mut conn = server.connect();
            while !stopping.load(Ordering::Relaxed) {
                call(&mut conn, &["BGSAVE"]);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let started = Instant::now();
        let mut conn = server.connect();
        while started.elapsed() < TIME {
            look(&mut conn, names);
        }
        stopping.store(true, Ordering::Relaxed);
        let done: i64 = movers
            .into_iter()
            .map(|mover| mover.join().expect("a mover ends"))
            .sum();
        let moved = number(&call(&mut conn, &["GET", "moved"]));
        assert!(
            done > 0 && moved == done,
            "{moved} of {done} transactions were counted"
        );
        look(&mut conn, names);
    });
}

#[test]
fn a_watched_key_that_another_client_changes_stops_the_transaction() {
    for change in [
        "SET k 1",
        "APPEND k x",
        "DEL k",
        "EXPIRE k 100",
        "PEXPIREAT k 1",
        "RENAME k l",
        "RENAME other k",
        "COPY other k REPLACE",
        "MOVE k 5",
        "GETDEL k",
        "SETRANGE k 0 y",
        "GETEX k PERSIST",
        "PERSIST k",
        "SORT other STORE k",
        "SINTERSTORE k nothing",
        "FLUSHDB",
        "FLUSHALL",
        "SWAPDB 0 1",
        "GET k",
        "SET unwatched 1",
        "SETNX k 1",
        "LPUSH k 1",
        "SET k old",
    ] {
        compare(&format!(
            "b SET k old EX 1000
             b RPUSH other 1
             a WATCH k none
             b {change}
             a MULTI
             a SET done 1
             a EXEC
             a GET done
             a MULTI
             a SET done 2
             a EXEC"
        ));
    }
}

#[test]
fn a_watched_key_that_comes_with_another_database_stops_the_transaction() {
    compare(
        "b SELECT 1
         b SET d x
         b SET e x
         b SELECT 0
         a WATCH d
         b SWAPDB 0 1
         a MULTI
         a SET done 1
         a EXEC
         a WATCH f
         b SWAPDB 0 1
         a MULTI
         a SET done 2
         a EXEC",
    );
}

#[test]
fn what_is_watched_ends_with_the_transaction() {
    compare(
        "a WATCH k
         b SET k 1
         a UNWATCH
         a MULTI
         a PING
         a EXEC
         a WATCH k
         b SET k 2
         a MULTI
         a DISCARD
         a MULTI
         a PING
         a EXEC
         a WATCH k
         b SET k 3
         a RESET
         a MULTI
         a PING
         a EXEC
         a WATCH k
         c WATCH k
         c MULTI
         c INCR k
         c EXEC
         a MULTI
         a INCR k
         a EXEC",
    );
}

/// Who reads a stream, and how far, is not the stream.
#[test]
fn what_groups_do_stops_no_transaction() {
    for (change, stops) in [
        ("XREADGROUP GROUP g c COUNT 1 STREAMS s >", false),
        ("XREADGROUP GROUP g c STREAMS s 0", false),
        ("XREADGROUP GROUP g old COUNT 1 STREAMS s >", false),
        ("XACK s g 1-1", false),
        ("XCLAIM s g c 0 1-1", false),
        ("XAUTOCLAIM s g c 0 0", false),
        ("XGROUP CREATE s h 0", false),
        ("XGROUP CREATECONSUMER s g c", false),
        ("XGROUP DELCONSUMER s g old", false),
        ("XGROUP SETID s g 0", false),
        ("XGROUP DESTROY s g", false),
        ("XSETID s 9-9", false),
        ("XADD s 2-1 f v", true),
        ("XTRIM s MAXLEN 0", true),
        ("XDEL s 1-1", true),
        ("XGROUP CREATE t g 0 MKSTREAM", true),
    ] {
        compare(&format!(
            "b XADD s 1-1 f v
             b XGROUP CREATE s g 0
             b XREADGROUP GROUP g old STREAMS s >
             b XADD s 1-2 f v
             a WATCH s t
             b= {change}
             a MULTI
             a SET done {stops}
             a EXEC"
        ));
    }
}

#[test]
fn a_watched_key_that_expires_stops_the_transaction() {
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    let exec = |conn: &mut Conn| {
        call(conn, &["MULTI"]);
        call(conn, &["SET", "done", "1"]);
        call(conn, &["EXEC"])
    };
    call(&mut conn, &["SET", "k", "v", "PX", "30"]);
    call(&mut conn, &["WATCH", "k"]);
    std::thread::sleep(Duration::from_millis(60));
    assert!(
        !matches!(exec(&mut conn), Value::List(..)),
        "it has expired since"
    );
    call(&mut conn, &["SET", "k", "v", "PX", "1"]);
    std::thread::sleep(Duration::from_millis(20));
    call(&mut conn, &["WATCH", "k"]);
    assert!(
        matches!(exec(&mut conn), Value::List(..)),
        "it had expired before"
    );
}

/// Optimistic counters: whoever loses a race tries again, and nothing is counted twice.
#[test]
fn counting_by_watch_and_exec_loses_nothing() {
    const ROUNDS: i64 = 200;
    let server = Server::terrace(&[]);
    let server = &server;
    std::thread::scope(|scope| {
        for _ in 0..MOVERS {
            scope.spawn(move || {
                let mut conn = server.connect();
                let mut done = 0;
                while done < ROUNDS {
                    call(&mut conn, &["WATCH", "count"]);
                    let count = match call(&mut conn, &["GET", "count"]) {
                        value @ Value::Bulk(..) => number(&value),
                        _ => 0,
                    };
                    call(&mut conn, &["MULTI"]);
                    call(&mut conn, &["SET", "count", &(count + 1).to_string()]);
                    if let Value::List(..) = call(&mut conn, &["EXEC"]) {
                        done += 1;
                    }
                }
            });
        }
    });
    let count = number(&call(&mut server.connect(), &["GET", "count"]));
    assert_eq!(count, ROUNDS * MOVERS as i64);
}

/// Runs loops at once, each on a connection of its own, until a short time is over. A reply that does not come fails.
fn side_by_side(server: &Server, loops: &[&(dyn Fn(&mut Conn) + Sync)]) {
    let end = Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        for run in loops {
            scope.spawn(|| {
                let mut conn = server.connect();
                while Instant::now() < end {
                    run(&mut conn);
                }
            });
        }
    });
}

#[test]
fn settings_change_in_transactions_and_outside_at_once() {
    let server = Server::terrace(&[]);
    let set = |conn: &mut Conn, policy: &str| {
        call(conn, &["CONFIG", "SET", "maxmemory-policy", policy]);
    };
    side_by_side(
        &server,
        &[
            &|conn| {
                call(conn, &["MULTI"]);
                set(conn, "allkeys-lfu");
                call(conn, &["SET", "k", "v"]);
                let Value::List(_, replies) = call(conn, &["EXEC"]) else {
                    panic!("EXEC answers an array")
                };
                assert_eq!(replies.len(), 2);
            },
            &|conn| set(conn, "volatile-lru"),
            &|conn| {
                call(conn, &["RANGE", "CREATE", "r", "r:*", "memory"]);
                call(conn, &["RANGE", "DROP", "r"]);
            },
        ],
    );
}

#[test]
fn a_transaction_ends_the_waits_of_clients_that_are_being_served() {
    let server = Server::terrace(&[]);
    let known = std::sync::Mutex::new(Vec::new());
    let wait = |conn: &mut Conn| {
        let id = number(&call(conn, &["CLIENT", "ID"])).to_string();
        let mut known = known.lock().expect("a lock");
        if !known.contains(&id) {
            known.push(id);
        }
        drop(known);
        call(conn, &["BLPOP", "k", "1"]);
    };
    let push = |conn: &mut Conn| {
        call(conn, &["LPUSH", "k", "v"]);
    };
    let unblock = |conn: &mut Conn| {
        let ids = known.lock().expect("a lock").clone();
        call(conn, &["MULTI"]);
        for id in &ids {
            call(conn, &["CLIENT", "UNBLOCK", id]);
        }
        call(conn, &["EXEC"]);
    };
    side_by_side(
        &server,
        &[&wait, &wait, &wait, &wait, &push, &push, &unblock, &unblock],
    );
}
