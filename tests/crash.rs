//! `kill -9` under load, round after round on the same data folder: what was promised is there, and what is there is
//! a prefix of what was sent.
//!
//! Each connection writes a sequence of its own: for i = 1, 2, 3 … `SET k:<conn>:<i> <i>` and `INCR c:<conn>`. So
//! its keys are a prefix of 1..=n without a hole exactly if the server kept a prefix of what the connection sent,
//! and the counter tells how long it is. Meanwhile flushes are provoked, by small segments and by BGSAVE.
//!
//! Other rounds use every type in such a sequence (`crash/types.rs`).
//!
//! `TERRACE_CRASH_ROUNDS` sets the rounds per policy, `TERRACE_SEED` repeats the random waits.
//! `TERRACE_CRASH_SELF=1` tests redis-server with its append-only file: what fails then is a fault of the test.

mod common;
#[path = "crash/types.rs"]
mod types;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Conn, Server, Value, encode, show};
use fastrand::Rng;

const CONNECTIONS: usize = 4;
/// Segments, dirty memory and flush batches far below their defaults: a second of load crosses all of them often.
/// Collections are paged before long.
const SMALL_SIZES: &[&str] = &[
    "--journal-flush-size",
    "4mb",
    "--flush-dirty-size",
    "2mb",
    "--journal-segment-size",
    "1mb",
    "--hash-max-listpack-entries",
    "50",
    "--paged-threshold",
    "100",
];
/// What `everysec` may lose: its second, and the time that a busy machine takes to come to it.
const EVERYSEC_LOSS_MAX: Duration = Duration::from_millis(1200);

#[test]
fn always_loses_no_acknowledged_write() {
    run("always", 1, &STRINGS, all_acknowledged);
}

#[test]
fn always_loses_no_acknowledged_write_of_any_type() {
    run("always", 1, &TYPES, all_acknowledged);
}

fn all_acknowledged(acknowledged: &Acknowledged, _killed: Instant) -> u64 {
    acknowledged.last().map_or(0, |(_, count)| *count)
}

#[test]
fn everysec_loses_at_most_the_last_second() {
    run("everysec", 16, &STRINGS, all_but_the_last_second);
}

#[test]
fn everysec_loses_at_most_the_last_second_of_any_type() {
    run("everysec", 4, &TYPES, all_but_the_last_second);
}

fn all_but_the_last_second(acknowledged: &Acknowledged, killed: Instant) -> u64 {
    let old_enough = |at: &Instant| killed.duration_since(*at) > EVERYSEC_LOSS_MAX;
    acknowledged
        .iter()
        .take_while(|(at, _)| old_enough(at))
        .last()
        .map_or(0, |(_, count)| *count)
}

#[test]
fn a_transaction_is_kept_whole_or_not_at_all() {
    run("always", 1, &TRANSACTIONS, all_acknowledged);
    run("no", 4, &TRANSACTIONS, |_, _| 0);
}

#[test]
fn a_script_is_kept_whole_or_not_at_all() {
    run("always", 1, &SCRIPTS, all_acknowledged);
    run("no", 4, &SCRIPTS, |_, _| 0);
}

#[test]
fn no_fsync_keeps_a_prefix() {
    // A killed process loses nothing that the kernel has; how much that is, nobody promised.
    run("no", 16, &STRINGS, |_, _| 0);
    run("no", 4, &TYPES, |_, _| 0);
}

/// What a connection writes, step by step, and how to see after a crash how far it came.
struct Sequence {
    prepare: fn(&mut Conn, usize),
    /// The commands of a connection's step; the last one answers the step's number.
    step: fn(usize, u64) -> Vec<Vec<String>>,
    /// How many steps of a connection are there; panics, naming the place, if they are no prefix of what was sent.
    check: fn(&mut Conn, usize, &str) -> u64,
    /// How many keys there are after so many steps of all connections, apart from one counter for each.
    keys: fn(u64) -> Option<u64>,
}

const STRINGS: Sequence = Sequence {
    prepare: |_, _| {},
    step: |conn, i| {
        let words = |words: [&str; 3]| words.iter().map(ToString::to_string).collect();
        vec![
            words(["SET", &format!("k:{conn}:{i}"), &i.to_string()]),
            vec!["INCR".to_string(), format!("c:{conn}")],
        ]
    },
    check: check_prefix,
    keys: Some,
};

/// Each step is one transaction on keys of the connection and on one that all connections count in.
const TRANSACTIONS: Sequence = Sequence {
    prepare: |_, _| {},
    step: |conn, i| {
        let key = format!("k:{conn}:{i}");
        let own = format!("c:{conn}");
        let rows: [&[&str]; 6] = [
            &["MULTI"],
            &["INCR", "c:all"],
            &["SET", &key, &i.to_string()],
            &["INCR", &own],
            &["EXEC"],
            &["INCRBY", &own, "0"],
        ];
        rows.iter()
            .map(|row| row.iter().map(ToString::to_string).collect())
            .collect()
    },
    check: check_whole,
    keys: Some,
};

/// The same as a script, which reaches for the counter of all connections without a declaration, after it has written.
const SCRIPTS: Sequence = Sequence {
    prepare: |_, _| {},
    step: |conn, i| {
        let script = "redis.call('set', KEYS[1], ARGV[1]) redis.call('incr', 'c:all') \
             return redis.call('incr', KEYS[2])";
        let (key, own) = (format!("k:{conn}:{i}"), format!("c:{conn}"));
        let words = ["EVAL", script, "2", &key, &own, &i.to_string()];
        vec![words.iter().map(ToString::to_string).collect()]
    },
    check: check_whole,
    keys: Some,
};

const TYPES: Sequence = Sequence {
    prepare: types::prepare,
    step: types::step,
    check: types::check,
    keys: |_| None,
};

/// What one connection had acknowledged, and when: (time of the reply, writes acknowledged by then), ascending.
type Acknowledged = Vec<(Instant, u64)>;

/// What one connection did in one round.
struct Written {
    acknowledged: Acknowledged,
    /// The last number it sent; acknowledged or not, it may be there.
    sent: u64,
}

/// Runs all rounds of one policy. `promised` says how many writes of one connection must have survived, at least.
fn run(
    policy: &str,
    pipeline: u64,
    sequence: &'static Sequence,
    promised: fn(&Acknowledged, Instant) -> u64,
) {
    let seed =
        std::env::var("TERRACE_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().expect("a number"));
    let rounds: usize =
        std::env::var("TERRACE_CRASH_ROUNDS").map_or(6, |r| r.parse().expect("a number of rounds"));
    println!("{policy}: TERRACE_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut server = start(policy);
    let mut survived = [0u64; CONNECTIONS];
    for round in 0..rounds {
        let load = Duration::from_millis(rng.u64(300..3000));
        let (written, killed) =
            write_until_killed(&mut server, load, pipeline, sequence, &survived, &mut rng);
        server.restart();
        for (conn, written) in written.iter().enumerate() {
            let least = promised(&written.acknowledged, killed).max(survived[conn]);
            let place = format!("{policy} round {round}, connection {conn}");
            let count = (sequence.check)(&mut server.connect(), conn, &place);
            let acknowledged = written.acknowledged.last().map_or(0, |(_, count)| *count);
            println!(
                "{policy} round {round} connection {conn}: {count} of {} sent, {acknowledged} acknowledged",
                written.sent
            );
            assert!(
                (least..=written.sent.max(survived[conn])).contains(&count),
                "{policy} round {round} connection {conn}: {count} writes survived; promised {least}, sent {}",
                written.sent
            );
            survived[conn] = count;
        }
        check_counts(&mut server.connect(), (sequence.keys)(survived.iter().sum()));
    }
    // The last state must also survive an orderly end.
    assert!(server.terminate().success(), "SIGTERM ends with status 0");
    server.restart();
    for (conn, count) in survived.iter().enumerate() {
        let place = format!("after SIGTERM, connection {conn}");
        let found = (sequence.check)(&mut server.connect(), conn, &place);
        assert_eq!(found, *count, "{place}");
    }
}

fn start(policy: &str) -> Server {
    if std::env::var("TERRACE_CRASH_SELF").is_ok_and(|v| v != "0") {
        return Server::redis(&["--appendonly", "yes", "--appendfsync", policy]);
    }
    Server::terrace(&[&["--appendfsync", policy], SMALL_SIZES].concat())
}

/// Load from all connections, flushes now and then, and SIGKILL after `load`. Returns what each connection did,
/// and the moment of the kill.
fn write_until_killed(
    server: &mut Server,
    load: Duration,
    pipeline: u64,
    sequence: &'static Sequence,
    survived: &[u64],
    rng: &mut Rng,
) -> (Vec<Written>, Instant) {
    let stopping = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = survived
            .iter()
            .enumerate()
            .map(|(conn, from)| (conn, *from, server.connect()))
            .map(|(conn, from, mut stream)| {
                (sequence.prepare)(&mut stream, conn);
                scope.spawn(move || write_sequence(stream, conn, from, pipeline, sequence.step))
            })
            .collect();
        let mut flusher = server.connect();
        let mut flusher_rng = rng.fork();
        let stopping = &stopping;
        scope.spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(flusher_rng.u64(20..400)));
                if flusher.try_call(&["BGSAVE"]).is_err() {
                    break;
                }
            }
        });
        std::thread::sleep(load);
        let killed = Instant::now();
        server.kill();
        stopping.store(true, Ordering::Relaxed);
        (
            writers
                .into_iter()
                .map(|w| w.join().expect("the writer ends with its connection"))
                .collect(),
            killed,
        )
    })
}

/// Writes steps `from + 1`, `from + 2`, … until the connection breaks.
fn write_sequence(
    mut stream: Conn,
    conn: usize,
    from: u64,
    pipeline: u64,
    step: fn(usize, u64) -> Vec<Vec<String>>,
) -> Written {
    let mut written = Written {
        acknowledged: vec![(Instant::now(), from)],
        sent: from,
    };
    loop {
        let steps: Vec<_> = (written.sent + 1..=written.sent + pipeline)
            .map(|i| (i, step(conn, i)))
            .collect();
        let commands = steps.iter().flat_map(|(_, commands)| commands);
        let batch: Vec<u8> = commands.flat_map(|command| encode(command)).collect();
        written.sent += pipeline;
        if stream.send_raw(&batch).is_err() {
            return written;
        }
        for (i, commands) in steps {
            let mut last = Vec::new();
            for command in &commands {
                let Ok(reply) = stream.read_frame() else {
                    return written;
                };
                assert_ne!(reply[0], b'-', "{command:?}: {}", show(&reply));
                last = reply;
            }
            assert_eq!(show(&last), format!(":{i}\\r\\n"), "{:?}", commands.last());
            written.acknowledged.push((Instant::now(), i));
        }
    }
}

/// How many writes of the connection are there. Fails when they are no prefix of what it sent, or a value is wrong.
/// The one command that a crash may cut off between SET and INCR is repeated, so that the next round starts whole.
fn check_prefix(client: &mut Conn, conn: usize, place: &str) -> u64 {
    let counter: u64 = match client.bulk(&format!("GET c:{conn}")) {
        Some(text) => String::from_utf8_lossy(&text).parse().expect("a counter"),
        None => 0,
    };
    let keys: Vec<u64> = (1..=counter + 1).collect();
    for chunk in keys.chunks(500) {
        let request: Vec<String> = std::iter::once("MGET".to_string())
            .chain(chunk.iter().map(|i| format!("k:{conn}:{i}")))
            .collect();
        let Value::List(_, values) = Value::parse(&client.call(&request)) else {
            panic!("MGET answers an array")
        };
        for (i, value) in chunk.iter().zip(values) {
            match value {
                Value::Bulk(_, text) => {
                    assert_eq!(show(&text), i.to_string(), "{place}: value of k:{conn}:{i}")
                }
                _ if *i == counter + 1 => return counter,
                _ => panic!("{place}: k:{conn}:{i} is missing, and the counter says {counter}"),
            }
        }
    }
    // SET was kept and its INCR was not: a prefix too.
    assert_eq!(
        client.integer(&format!("INCR c:{conn}")),
        counter as i64 + 1,
        "{place}: counter"
    );
    counter + 1
}

/// As `check_prefix`, where a key and its count come together or not at all, and so does the sum of all counts.
fn check_whole(client: &mut Conn, conn: usize, place: &str) -> u64 {
    let number = |text: Option<Vec<u8>>| -> u64 {
        text.map_or(0, |text| {
            String::from_utf8_lossy(&text).parse().expect("a counter")
        })
    };
    let counts: Vec<u64> = (0..CONNECTIONS)
        .map(|conn| number(client.bulk(&format!("GET c:{conn}"))))
        .collect();
    let sum = number(client.bulk("GET c:all"));
    assert_eq!(sum, counts.iter().sum::<u64>(), "{place}: {counts:?}");
    let next = counts[conn] + 1;
    let torn = client.integer(&format!("EXISTS k:{conn}:{next}"));
    assert_eq!(
        torn, 0,
        "{place}: k:{conn}:{next} is there, its transaction is not"
    );
    check_prefix(client, conn, place)
}

/// DBSIZE, SCAN and the sequences agree: nothing is there that nobody wrote, and nothing is counted twice. `written`
/// keys are there besides the counters, where that is known.
fn check_counts(client: &mut Conn, written: Option<u64>) {
    let mut seen = HashSet::new();
    let mut cursor = "0".to_string();
    loop {
        let reply = client.words(&format!("SCAN {cursor} COUNT 1000"));
        let Value::List(_, parts) = Value::parse(&reply) else {
            panic!("SCAN answered {}", show(&reply))
        };
        cursor = String::from_utf8(parts[0].texts().remove(0)).expect("a cursor");
        seen.extend(parts[1].texts());
        if cursor == "0" {
            break;
        }
    }
    let counters = seen.iter().filter(|key| key.starts_with(b"c:")).count() as u64;
    if let Some(written) = written {
        assert_eq!(seen.len() as u64, written + counters, "keys found by SCAN");
    }
    assert_eq!(
        client.integer("DBSIZE"),
        seen.len() as i64,
        "DBSIZE and the keys found by SCAN"
    );
}
