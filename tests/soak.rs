//! A server at full load for a while, everything at once: keys expire and are evicted, sealed and read again, flushed
//! and dropped from memory, a range moves to and fro between the tiers, another is split and merged. In the end every
//! count is exact, every key is there that should be, and neither memory nor files have grown with time.
//!
//! One minute; `TERRACE_SOAK_SECONDS=1200` (`make soak`) takes twenty.

mod common;

use common::ranges::{count, info, ok, wait_for};
use common::{Conn, Server, folder_bytes};
use fastrand::Rng;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const ARGS: &[&str] = &[
    "--maxmemory",
    "128mb",
    "--range",
    "cache",
    "cache:",
    "memory",
    "maxmemory",
    "16mb",
    "maxmemory-policy",
    "allkeys-lru",
    "--range",
    "brief",
    "brief:",
    "durable",
    "--range",
    "kept",
    "kept:",
    "durable",
    "--range",
    "mover",
    "mover:",
    "memory",
    "maxmemory-policy",
    "noeviction",
    "--seal-after",
    "3",
    "--journal-flush-size",
    "16mb",
    "--flush-dirty-size",
    "8mb",
    "--enable-debug-command",
    "yes",
];
const WRITERS: usize = 2;
const BATCH: usize = 64;
/// Keys of each writer in the ranges whose every key is known.
const KEPT: usize = 30_000;
const MOVING: usize = 5_000;
/// Values of `kept` are this long at most: together they are several times the memory.
const KEPT_LEN: usize = 4_500;
/// Longest life in `brief`.
const BRIEF_MS: u64 = 3_000;
/// How often memory and files are looked at.
const READINGS: u32 = 12;
/// Memory beside `maxmemory`: the process, connections, what the allocator and RocksDB keep.
const BESIDES: u64 = 128 << 20;
const SLACK: u64 = 48 << 20;

/// The version of each key that exists: its value follows from it.
type Model = HashMap<String, u64>;

/// A figure of a range once it stays the same: the server may still be evicting in the background.
fn at_rest(conn: &mut Conn, range: &str, field: &str) -> i64 {
    let mut last = count(conn, range, field);
    for _ in 0..60 {
        std::thread::sleep(Duration::from_secs(1));
        let now = count(conn, range, field);
        if now == last {
            return now;
        }
        last = now;
    }
    panic!("{field} of {range} does not come to rest");
}

#[test]
fn a_loaded_server_stays_exact_and_does_not_grow() {
    let seconds =
        std::env::var("TERRACE_SOAK_SECONDS").map_or(60, |text| text.parse().expect("a number of seconds"));
    let duration = Duration::from_secs(seconds);
    let mut server = Server::terrace(ARGS);
    let stop = AtomicBool::new(false);
    let (models, readings) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || write(server, writer, stop))
            })
            .collect();
        let changes = scope.spawn(|| change_ranges(&mut server.connect(), &stop));
        let readings = read_sizes(&server, duration);
        stop.store(true, Relaxed);
        changes.join().expect("the ranges changed");
        let models: Vec<Model> = writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .collect();
        (models, readings)
    });
    let model: Model = models.into_iter().flatten().collect();
    println!("memory and files, MB: {readings:?}");
    does_not_grow("memory", readings.iter().map(|(memory, _)| *memory));
    does_not_grow("files", readings.iter().map(|(_, files)| *files));

    let mut conn = server.connect();
    wait_for(&mut conn, "mover", "state", "ready");
    std::thread::sleep(Duration::from_millis(BRIEF_MS));
    wait_for(&mut conn, "brief", "keys", "0");
    compare(&mut conn, &model, &["kept", "mover"]);
    let cached = at_rest(&mut conn, "cache", "keys");
    assert_eq!(
        listed(&mut conn, "cache:").len() as i64,
        cached,
        "keys of the cache"
    );
    assert_eq!(
        conn.integer("DBSIZE"),
        cached + model.len() as i64,
        "keys of everything"
    );
    let fields = info(&mut conn, "cache");
    let number = |field: &str| fields[field].parse::<i64>().expect("a number");
    assert!(number("evicted") > 0 && number("sealed") > 0, "{fields:?}");
    assert!(count(&mut conn, "brief", "expired") > 0);
    assert!(count(&mut conn, "kept", "loaded") > 0);

    if info(&mut conn, "mover")["tier"] == "memory" {
        ok(&mut conn, "RANGE ALTER mover TIER durable");
        wait_for(&mut conn, "mover", "tier", "durable");
        wait_for(&mut conn, "mover", "state", "ready");
    }
    assert!(server.terminate().success());
    server.restart();
    compare(&mut server.connect(), &model, &["kept", "mover"]);
    leaves_nothing(&server);
}

/// Data of ten times `maxmemory`, written and then read and written at full speed.
#[test]
fn a_durable_range_larger_than_memory_leaves_the_process_small() {
    const LIMIT: u64 = 64 << 20;
    /// What a server takes beside `maxmemory`, however small that is.
    const BASE: u64 = 64 << 20;
    const CLIENTS: u64 = 2;
    let server = Server::terrace(&["--maxmemory", "64mb"]);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let most = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, stop, written) = (&server, &stop, &written);
            scope.spawn(move || fill_and_read(&mut server.connect(), client, (written, 10 * LIMIT), stop));
        }
        let mut most = 0;
        let mut filled = None;
        while filled.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(5)) {
            most = most.max(server.resident_bytes());
            if filled.is_none() && written.load(Relaxed) >= 10 * LIMIT {
                filled = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Relaxed);
        most
    });
    println!("resident at most: {} MB", most >> 20);
    assert!(
        most <= LIMIT + LIMIT / 5 + BASE,
        "resident: {} MB with a limit of {} MB",
        most >> 20,
        LIMIT >> 20
    );
}

/// Writes keys with values of many sizes until enough is written, then reads and writes them anew, until told to stop.
fn fill_and_read(conn: &mut Conn, client: u64, (written, enough): (&AtomicU64, u64), stop: &AtomicBool) {
    let mut rng = Rng::with_seed(client);
    let noise: Vec<u8> = (0..1 << 20).map(|_| rng.u8(..)).collect();
    let mut keys = 0;
    while !stop.load(Relaxed) {
        let fills = written.load(Relaxed) < enough;
        let requests: Vec<Vec<Vec<u8>>> = (0..BATCH)
            .map(|_| {
                let number = if fills { keys } else { rng.u64(..keys) };
                let key = format!("key:{client}:{number}").into_bytes();
                if !fills && rng.bool() {
                    return vec![b"GET".to_vec(), key];
                }
                keys += u64::from(fills);
                let len = [rng.usize(20..200), rng.usize(20..200), rng.usize(200..8_000)][rng.usize(..3)];
                let from = rng.usize(..noise.len() - len);
                vec![b"SET".to_vec(), key, noise[from..from + len].to_vec()]
            })
            .collect();
        let bytes: usize = requests.iter().flatten().map(Vec::len).sum();
        let replies = conn.pipeline(&requests).expect("replies");
        assert!(
            replies
                .iter()
                .all(|reply| reply.starts_with(b"+") || reply.starts_with(b"$"))
        );
        written.fetch_add(if fills { bytes as u64 } else { 0 }, Relaxed);
    }
}

/// One client that never stops: it owns the keys of `kept` and `mover` that bear its number.
fn write(server: &Server, writer: usize, stop: &AtomicBool) -> Model {
    let (mut conn, mut rng) = (server.connect(), Rng::with_seed(writer as u64));
    let (mut model, mut version) = (Model::new(), 0);
    while !stop.load(Relaxed) {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..BATCH {
            version += 1;
            let (words, reply) = request(&mut rng, &mut model, (writer, version));
            requests.push(words.into_iter().map(String::into_bytes).collect());
            expected.push(reply);
        }
        let replies = conn.pipeline(&requests).expect("replies");
        for ((request, expected), reply) in requests.iter().zip(expected).zip(replies) {
            if let Some(expected) = expected {
                assert!(
                    reply == expected.as_bytes(),
                    "{}: {} and not {}",
                    common::show(&request.join(&b' ')),
                    common::show(&reply),
                    common::show(expected.as_bytes()),
                );
            }
        }
    }
    model
}

/// The next request, applied to the model; and its reply, where that is known.
fn request(rng: &mut Rng, model: &mut Model, own: (usize, u64)) -> (Vec<String>, Option<String>) {
    let (writer, version) = own;
    let set = |key: String, value: String| vec!["SET".to_string(), key, value];
    let known = |rng: &mut Rng| match rng.u32(..4) {
        0 => format!("mover:{writer}:{:06}", rng.usize(..MOVING)),
        // Some are used far more often than others.
        1 => format!("kept:{writer}:{:06}", rng.usize(..KEPT / 50)),
        _ => format!("kept:{writer}:{:06}", rng.usize(..KEPT)),
    };
    match rng.u32(..100) {
        0..25 => {
            let key = known(rng);
            model.insert(key.clone(), version);
            (set(key, value(version)), Some("+OK\r\n".into()))
        }
        25..30 => {
            let key = known(rng);
            let deleted = i32::from(model.remove(&key).is_some());
            (vec!["DEL".into(), key], Some(format!(":{deleted}\r\n")))
        }
        30..50 => {
            let key = known(rng);
            let reply = model.get(&key).map_or("$-1\r\n".to_string(), |version| {
                let value = value(*version);
                format!("${}\r\n{value}\r\n", value.len())
            });
            (vec!["GET".into(), key], Some(reply))
        }
        50..75 => {
            let key = format!("cache:{:06}", rng.u32(..200_000));
            (set(key, "c".repeat(rng.usize(10..400))), Some("+OK\r\n".into()))
        }
        75..90 => (
            vec!["GET".into(), format!("cache:{:06}", rng.u32(..200_000))],
            None,
        ),
        _ => {
            let mut words = set(format!("brief:{:05}", rng.u32(..20_000)), "b".repeat(50));
            words.extend(["PX".into(), rng.u64(100..BRIEF_MS).to_string()]);
            (words, Some("+OK\r\n".into()))
        }
    }
}

fn value(version: u64) -> String {
    let text = format!("{version:012}");
    text.repeat(1 + version as usize * 7 % (KEPT_LEN / text.len()))
}

/// Moves, splits and merges until told to stop; the ranges are whole again then.
fn change_ranges(conn: &mut Conn, stop: &AtomicBool) {
    let tiers = ["durable", "memory"];
    for tier in tiers.iter().cycle() {
        if stop.load(Relaxed) {
            return;
        }
        soon(conn, &format!("RANGE ALTER mover TIER {tier}"));
        soon(conn, "RANGE SPLIT kept AT kept:0:020000");
        std::thread::sleep(Duration::from_millis(500));
        soon(conn, "RANGE MERGE kept kept-2");
    }
}

/// One change of the ranges, as soon as the one before it is over; unless memory has no room for it now.
fn soon(conn: &mut Conn, line: &str) {
    let began = Instant::now();
    loop {
        let reply = common::show(&conn.words(line));
        if reply == "+OK\\r\\n" || reply.contains("do not fit in maxmemory") {
            return;
        }
        assert!(
            reply.contains("try again later") && began.elapsed() < Duration::from_secs(60),
            "{line}: {reply}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Memory of the server and bytes of its folder, in MB, at even times.
fn read_sizes(server: &Server, duration: Duration) -> Vec<(u64, u64)> {
    let began = Instant::now();
    (1..=READINGS)
        .map(|reading| {
            let at = duration * reading / READINGS;
            std::thread::sleep(at.saturating_sub(began.elapsed()));
            let files = folder_bytes(&server.data_dir());
            (server.resident_bytes() >> 20, files >> 20)
        })
        .collect()
}

/// The last third of the readings against the third before it; the first is for filling up.
fn does_not_grow(what: &str, readings: impl Iterator<Item = u64>) {
    let readings: Vec<u64> = readings.collect();
    let third = readings.len() / 3;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let (before, last) = (
        most(&readings[third..2 * third]),
        most(&readings[readings.len() - third..]),
    );
    assert!(
        last <= before + before / 4 + (SLACK >> 20),
        "{what} grew from {before} to {last} MB: {readings:?}"
    );
}

fn listed(conn: &mut Conn, prefix: &str) -> Vec<Vec<u8>> {
    let end = prefix.replace(':', ";");
    common::Value::parse(&conn.words(&format!("RANGE SCAN {prefix} {end}"))).texts()
}

/// Every key of these ranges is there with its value, no other is, and they are counted exactly.
fn compare(conn: &mut Conn, model: &Model, ranges: &[&str]) {
    for range in ranges {
        let prefix = format!("{range}:");
        let mut keys: Vec<&String> = model.keys().filter(|key| key.starts_with(&prefix)).collect();
        keys.sort();
        assert_eq!(count(conn, range, "keys"), keys.len() as i64, "keys of {range}");
        let found = listed(conn, &prefix);
        assert!(
            found
                .iter()
                .map(Vec::as_slice)
                .eq(keys.iter().map(|key| key.as_bytes())),
            "{range}: {} keys are listed, {} there should be",
            found.len(),
            keys.len()
        );
        for keys in keys.chunks(500) {
            let gets: Vec<Vec<Vec<u8>>> = keys
                .iter()
                .map(|key| vec![b"GET".to_vec(), key.as_bytes().to_vec()])
                .collect();
            let replies = conn.pipeline(&gets).expect("replies");
            for (key, reply) in keys.iter().zip(replies) {
                let value = value(model[*key]);
                let expected = format!("${}\r\n{value}\r\n", value.len());
                assert!(reply == expected.as_bytes(), "{key}: {}", common::show(&reply));
            }
        }
    }
}

/// When everything is deleted, what it took is given back.
fn leaves_nothing(server: &Server) {
    const LEFT_FILES: u64 = 32 << 20;
    let mut conn = server.connect();
    ok(&mut conn, "FLUSHALL");
    ok(&mut conn, "DEBUG RELOAD");
    assert_eq!(conn.integer("DBSIZE"), 0);
    let began = Instant::now();
    loop {
        let (memory, files) = (server.resident_bytes(), folder_bytes(&server.data_dir()));
        if memory <= BESIDES && files <= LEFT_FILES {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "left of it: {} MB of memory, {} MB of files",
            memory >> 20,
            files >> 20
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
