//! KWATCH: what becomes of keys, from an offset of the journal on and live, with no gap and nothing twice.

mod common;

use common::{Conn, Server, Value, encode, show};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The journal keeps what is flushed, and flushes and new segments come often.
const KEPT: &[&str] = &[
    "--journal-retention-time",
    "3600",
    "--journal-flush-size",
    "1mb",
    "--flush-dirty-size",
    "1mb",
    "--journal-segment-size",
    "1mb",
];

/// A message: the key, its line in words, and the bytes.
struct News {
    key: String,
    event: String,
    offset: u64,
    what: String,
    more: bool,
    bytes: Vec<u8>,
}

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?} is no string"),
    }
}

/// None for a confirmation.
fn parse(frame: &[u8]) -> Option<News> {
    let Value::List(_, words) = Value::parse(frame) else {
        panic!("{}", show(frame))
    };
    if text(&words[0]) != "message" {
        return None;
    }
    let Value::Bulk(_, payload) = &words[2] else {
        panic!("{}", show(frame))
    };
    let end = payload.iter().position(|byte| *byte == b'\n').expect("a line");
    let line = String::from_utf8_lossy(&payload[..end]).into_owned();
    let line: Vec<&str> = line.split(' ').collect();
    Some(News {
        key: text(&words[1]).trim_start_matches("__keyvalue@0__:").to_string(),
        event: line[0].to_string(),
        offset: line[1].parse().expect("an offset"),
        what: line[2].to_string(),
        more: line.get(3).is_some_and(|more| *more == "more"),
        bytes: payload[end + 1..].to_vec(),
    })
}

fn next(conn: &mut Conn) -> News {
    loop {
        let frame = conn.read_frame().expect("a message");
        if let Some(news) = parse(&frame) {
            return news;
        }
    }
}

fn shown(conn: &mut Conn) -> String {
    let News {
        key,
        event,
        what,
        more,
        bytes,
        ..
    } = next(conn);
    let more = if more { " more" } else { "" };
    let bytes = show(&bytes).replace("\\r\\n", " ");
    format!("{key}: {event} {what}{more} {bytes}")
        .trim_end()
        .to_string()
}

fn offset(conn: &mut Conn) -> u64 {
    let info = conn.bulk("INFO replication").expect("info");
    let info = String::from_utf8_lossy(&info);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("master_repl_offset:"));
    line.expect("an offset").parse().expect("a number")
}

#[test]
fn a_key_is_watched_live_from_its_value_on() {
    let server = Server::terrace(&[]);
    let (mut conn, mut watcher) = (server.connect(), server.connect());
    conn.words("SET k v");
    assert!(show(&watcher.words("KWATCH k l")).contains("kwatch\\r\\n$1\\r\\nk\\r\\n:1"));
    assert!(show(&watcher.read_frame().expect("a frame")).contains("kwatch\\r\\n$1\\r\\nl\\r\\n:2"));
    assert_eq!(
        show(&watcher.read_frame().expect("a frame")),
        "*3\\r\\n$7\\r\\nmessage\\r\\n$16\\r\\n__keyvalue@0__:k\\r\\n$14\\r\\nnow 27 value\\nv\\r\\n"
    );
    assert_eq!(shown(&mut watcher), "l: now gone");
    conn.words("APPEND k w");
    assert_eq!(shown(&mut watcher), "k: append value vw");
    conn.words("RPUSH l 1");
    assert_eq!(shown(&mut watcher), "l: rpush effects *3 $5 RPUSH $1 l $1 1");
    conn.words("FLUSHALL");
    let mut gone = [shown(&mut watcher), shown(&mut watcher)];
    gone.sort();
    assert_eq!(gone, ["k: flushall gone", "l: flushall gone"]);
    conn.words("SWAPDB 0 1");
    assert!(shown(&mut watcher).ends_with(": swapdb unknown"));
    assert!(shown(&mut watcher).ends_with(": swapdb unknown"));
    assert!(show(&watcher.words("KUNWATCH k")).contains("kunwatch\\r\\n$1\\r\\nk\\r\\n:1"));
    conn.words("SET k 1");
    assert!(show(&watcher.words("KUNWATCH")).contains("kunwatch\\r\\n$1\\r\\nl\\r\\n:0"));
    assert!(show(&watcher.words("KUNWATCH")).contains("kunwatch\\r\\n$-1\\r\\n:0"));
    assert_eq!(show(&watcher.words("GET k")), "$1\\r\\n1\\r\\n");
}

#[test]
fn what_was_missed_is_told_first() {
    let server = Server::terrace(KEPT);
    let (mut conn, mut watcher) = (server.connect(), server.connect());
    let start = offset(&mut conn);
    for line in [
        "SET k v",
        "SET other x",
        "INCRBY n 5",
        "MULTI",
        "RPUSH l 1",
        "RPUSH l 2",
        "SET k w",
        "EXEC",
        "PEXPIREAT k 99999999999999",
        "DEL k",
        "SET k z",
        "SELECT 1",
        "SET k elsewhere",
        "SELECT 0",
        "FLUSHDB",
        "HSET k f v",
    ] {
        conn.words(line);
    }
    // What is flushed is still in the journal.
    conn.words("BGSAVE");
    watcher
        .send_raw(&encode(&["KWATCH", "k", "l", "FROM", &start.to_string()]))
        .expect("sent");
    let mut told: Vec<String> = (0..9).map(|_| shown(&mut watcher)).collect();
    conn.words("HSET k f w");
    told.push(shown(&mut watcher));
    assert_eq!(
        told,
        [
            "k: set effects *3 $3 SET $1 k $1 v",
            "k: set effects *3 $3 SET $1 k $1 w",
            "l: rpush effects *3 $5 RPUSH $1 l $1 1 *3 $5 RPUSH $1 l $1 2",
            "k: expire effects *3 $9 PEXPIREAT $1 k $14 99999999999999",
            "k: del gone",
            "k: set effects *3 $3 SET $1 k $1 z",
            "k: flushdb gone",
            "l: flushdb gone",
            "k: hset effects *4 $4 HSET $1 k $1 f $1 v",
            "k: hset effects *4 $4 HSET $1 k $1 f $1 w",
        ]
    );
}

#[test]
fn what_cannot_be_resumed_is_refused() {
    let server = Server::terrace(&[
        "--range",
        "cache",
        "cache:*",
        "memory",
        "--journal-flush-size",
        "1mb",
        "--journal-segment-size",
        "1mb",
    ]);
    let mut conn = server.connect();
    for (line, error) in [
        ("KWATCH", "-ERR wrong number of arguments for 'kwatch' command"),
        (
            "KWATCH k cache:1 FROM 0",
            "-ERR the changes of 'cache:1' are not kept: its range 'cache' is not durable",
        ),
        ("KWATCH k FROM x", "-ERR offset is not an integer or out of range"),
        (
            "KWATCH k FROM -1",
            "-ERR offset is not an integer or out of range",
        ),
        (
            "KWATCH k FROM 1000",
            "-ERR offset 1000 is not in the journal, which ends at 0",
        ),
    ] {
        let reply = show(&conn.words(line)).replace("\\'", "'");
        assert_eq!(reply, format!("{error}\\r\\n"), "{line}");
    }
    let value = "x".repeat(10_000);
    for i in 0..500 {
        conn.call(&["SET", &format!("k{i}"), &value]);
    }
    let began = Instant::now();
    loop {
        conn.words("SAVE");
        conn.words("SET k v");
        let reply = show(&server.connect().words("KWATCH k FROM 1"));
        if reply.starts_with("-ERR offset 1 is not in the journal any more, the oldest is ") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{reply}");
        for i in 0..200 {
            conn.call(&["SET", &format!("k{i}"), &value]);
        }
    }
    assert_eq!(show(&conn.words("MULTI")), "+OK\\r\\n");
    assert_eq!(
        show(&conn.words("KWATCH k")),
        "-ERR Command not allowed inside a transaction\\r\\n"
    );
}

/// The server is killed, and of what it wrote last some bytes are gone, as when the whole machine goes down.
fn crash(server: &mut Server, bytes: u64) {
    server.kill();
    let journal = server.data_dir().join("journal");
    let names = std::fs::read_dir(journal).expect("the folder");
    let paths = names.map(|name| name.expect("a file").path());
    let newest = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        .max();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(newest.expect("a segment"));
    let file = file.expect("opens");
    let len = file.metadata().expect("metadata").len();
    file.set_len(len - bytes).expect("cut");
}

#[test]
fn an_offset_that_a_crash_has_taken_is_told_from_one_that_came_after() {
    let mut server = Server::terrace(KEPT);
    let mut conn = server.connect();
    conn.words("SET k 1");
    let kept = offset(&mut conn);
    conn.words("SET k 2");
    let lost = offset(&mut conn);
    conn.words("WAITAOF 1 0 0");
    crash(&mut server, 3);
    server.restart();

    let mut conn = server.connect();
    let begun = offset(&mut conn);
    for n in 3..10 {
        conn.words(&format!("SET k {n}"));
    }
    assert_eq!(conn.bulk("GET k").expect("a value"), b"9");
    assert_eq!(
        show(&conn.words(&format!("KWATCH k FROM {lost}"))),
        format!(
            "-ERR offset {lost} was lost in a crash: the journal ended at {kept} and goes on at {begun}\\r\\n"
        )
    );
    for from in [kept, begun] {
        let mut watcher = server.connect();
        watcher.words(&format!("KWATCH k FROM {from}"));
        for n in 3..10 {
            let news = next(&mut watcher);
            assert!(news.bytes.ends_with(format!("\r\n{n}\r\n").as_bytes()));
            assert!(news.offset > begun);
        }
    }
    // Another one, before anything is written.
    let end = offset(&mut conn);
    conn.words("WAITAOF 1 0 0");
    server.kill();
    server.restart();
    server.kill();
    server.restart();
    let mut watcher = server.connect();
    watcher.words(&format!("KWATCH k FROM {end}"));
    let mut conn = server.connect();
    assert!(offset(&mut conn) > end + 100);
    conn.words("SET k last");
    assert!(next(&mut watcher).bytes.ends_with(b"last\r\n"));
    // An orderly end loses nothing.
    let end = offset(&mut conn);
    assert!(server.terminate().success());
    server.restart();
    assert_eq!(offset(&mut server.connect()), end);
}

/// Ends the threads of a test, also when it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const KEYS: usize = 5;

/// The numbers pushed to a list, by an effect or a whole value.
fn pushed(bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = common::frame_len(rest).expect("whole commands");
        let Value::List(_, words) = Value::parse(&rest[..len]) else {
            panic!("a command")
        };
        assert_eq!(text(&words[0]), "RPUSH");
        found.extend(
            words[2..]
                .iter()
                .map(|word| text(word).parse::<u64>().expect("a number")),
        );
        rest = &rest[len..];
    }
    found
}

/// A watcher that goes away again and again hears each number of each list once, and in order, through flushes and
/// `kill -9`.
#[test]
fn every_change_comes_once_through_disconnects_and_crashes() {
    let mut args = KEPT.to_vec();
    args.extend(["--appendfsync", "always"]);
    let mut server = Server::terrace(&args);
    let mut heard = [Heard::default(); KEYS];
    for round in 0..3u64 {
        let stop = AtomicBool::new(false);
        let (stop, running) = (&stop, &server);
        std::thread::scope(|scope| {
            for writer in 0..KEYS {
                scope.spawn(move || write(running, writer, stop));
            }
            let _stop = Stop(stop);
            let mut rng = fastrand::Rng::with_seed(round);
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(2) {
                watch(running, rng.usize(1..400), &mut heard);
            }
        });
        // The writers have their replies; what the watcher has not heard yet is in the journal.
        server.kill();
        server.restart();
    }
    let mut conn = server.connect();
    let counts: Vec<u64> = (0..KEYS)
        .map(|key| conn.integer(&format!("LLEN l{key}")) as u64)
        .collect();
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    let began = Instant::now();
    while heard
        .iter()
        .zip(&counts)
        .any(|(heard, count)| heard.count != *count)
    {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{heard:?} of {counts:?}"
        );
        watch(&server, 1, &mut heard);
    }
}

/// What a watcher has heard of a list: how long it is, and up to which offset.
#[derive(Clone, Copy, Default, Debug)]
struct Heard {
    count: u64,
    offset: u64,
}

/// Pushes the numbers that follow, alone and in transactions, until told to stop.
fn write(server: &Server, writer: usize, stop: &AtomicBool) {
    let mut conn = server.connect();
    let mut n = conn.integer(&format!("LLEN l{writer}")) as u64;
    while !stop.load(Ordering::Relaxed) {
        let words = |n: u64| format!("RPUSH l{writer} {n}");
        if n.is_multiple_of(7) {
            conn.words("MULTI");
            conn.words(&words(n + 1));
            conn.words(&words(n + 2));
            conn.words("EXEC");
            n += 2;
        } else {
            conn.words(&words(n + 1));
            n += 1;
        }
        if n.is_multiple_of(100) {
            conn.words("BGSAVE");
        }
    }
}

/// Watches all lists, each from where it was heard of last, hears so many messages, and hangs up.
fn watch(server: &Server, messages: usize, heard: &mut [Heard; KEYS]) {
    let mut conn = server.connect();
    conn.set_read_timeout(Duration::from_millis(500));
    for (key, heard) in heard.iter().enumerate() {
        let words = ["KWATCH", &format!("l{key}"), "FROM", &heard.offset.to_string()];
        conn.send_raw(&encode(&words)).expect("sent");
    }
    let (mut left, mut open) = (messages, *heard);
    while left > 0 {
        let Ok(frame) = conn.read_frame() else { break };
        assert!(!frame.starts_with(b"-"), "{}", show(&frame));
        let Some(news) = parse(&frame) else { continue };
        assert_eq!(news.what, "effects", "{}", news.event);
        let key: usize = news.key[1..].parse().expect("a list");
        let so_far = &mut open[key];
        assert!(news.offset > heard[key].offset, "offsets of a key rise");
        for number in pushed(&news.bytes) {
            assert_eq!(number, so_far.count + 1, "l{key} at {}", news.offset);
            so_far.count = number;
        }
        if !news.more {
            so_far.offset = news.offset;
            heard[key] = *so_far;
            left -= 1;
        }
    }
}
