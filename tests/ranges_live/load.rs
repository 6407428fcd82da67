//! Clients that write while ranges change, each with a plain model of its own keys; in the end every key, and every
//! count that the server keeps, is compared.

use super::common::ranges::{info, ok};
use super::common::{Conn, Server, Value, show};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The value of each key that exists, and whether it expires.
pub type Model = BTreeMap<String, (String, bool)>;

/// One change of a key by its client, applied to the server and to the model.
pub fn step(conn: &mut Conn, model: &mut Model, rng: &mut Rng, key: String) {
    let number = rng.u32(..);
    match rng.u32(..100) {
        0..35 => {
            ok(conn, &format!("SET {key} v{number}"));
            model.insert(key, (format!("v{number}"), false));
        }
        35..50 => {
            ok(conn, &format!("SET {key} w{number} EX 10000"));
            model.insert(key, (format!("w{number}"), true));
        }
        50..65 => {
            let deleted = conn.integer(&format!("DEL {key}"));
            assert_eq!(deleted == 1, model.remove(&key).is_some(), "DEL {key}");
        }
        65..80 => {
            let held = model.entry(key.clone()).or_default();
            held.0.push('x');
            let len = conn.integer(&format!("APPEND {key} x"));
            assert_eq!(len as usize, held.0.len(), "APPEND {key}");
        }
        80..85 => {
            let persisted = conn.integer(&format!("PERSIST {key}"));
            let expired = model
                .get_mut(&key)
                .is_some_and(|held| std::mem::take(&mut held.1));
            assert_eq!(persisted == 1, expired, "PERSIST {key}");
        }
        _ => {
            let found = conn.words(&format!("GET {key}"));
            let expected = model.get(&key).map_or("$-1\r\n".to_string(), |(value, _)| {
                format!("${}\r\n{value}\r\n", value.len())
            });
            assert_eq!(show(&found), show(expected.as_bytes()), "GET {key}");
        }
    }
}

/// Runs `act` while clients write to keys `prefix` + six digits below `keys`; each owns those of its remainder. Returns
/// what there is in the end, and the longest that any command took.
pub fn while_writing(
    server: &Server,
    model: Model,
    (prefix, keys): (&str, usize),
    act: impl FnOnce(&mut Conn),
) -> (Model, Duration) {
    const CLIENTS: usize = 2;
    let (stop, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    let models = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let mut own: Model = model
                    .iter()
                    .filter(|(key, _)| owner(key, prefix) == Some(client))
                    .map(|(key, held)| (key.clone(), held.clone()))
                    .collect();
                let (stop, longest) = (&stop, &longest);
                scope.spawn(move || {
                    let (mut conn, mut rng) = (server.connect(), Rng::new());
                    while !stop.load(Relaxed) {
                        let number = rng.usize(..keys / CLIENTS) * CLIENTS + client;
                        let began = Instant::now();
                        step(&mut conn, &mut own, &mut rng, format!("{prefix}{number:06}"));
                        longest.fetch_max(began.elapsed().as_micros() as u64, Relaxed);
                    }
                    own
                })
            })
            .collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&mut server.connect())));
        stop.store(true, Relaxed);
        let models: Vec<Model> = clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .collect();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        models
    });
    let mut merged: Model = model
        .into_iter()
        .filter(|(key, _)| owner(key, prefix).is_none())
        .collect();
    merged.extend(models.into_iter().flatten());
    (merged, Duration::from_micros(longest.into_inner()))
}

fn owner(key: &str, prefix: &str) -> Option<usize> {
    let number: usize = key.strip_prefix(prefix)?.parse().ok()?;
    Some(number % 2)
}

/// Every key has its value, every range its counts, before and after all keys were read.
pub fn compare(conn: &mut Conn, model: &Model, ranges: &[(&str, &str, &str)], when: &str) {
    compare_counts(conn, model, ranges, when);
    let listed = Value::parse(&conn.words("RANGE SCAN - +")).texts();
    let expected: Vec<&[u8]> = model.keys().map(|key| key.as_bytes()).collect();
    assert_eq!(listed.len(), expected.len(), "{when}: keys listed");
    assert!(
        listed.iter().map(Vec::as_slice).eq(expected),
        "{when}: keys listed"
    );
    for chunk in model.iter().collect::<Vec<_>>().chunks(500) {
        let requests: Vec<Vec<Vec<u8>>> = chunk
            .iter()
            .flat_map(|(key, _)| ["GET", "TTL"].map(|command| vec![command.into(), key.as_bytes().to_vec()]))
            .collect();
        let replies = conn.pipeline(&requests).expect("replies");
        for ((key, (value, expires)), found) in chunk.iter().zip(replies.chunks(2)) {
            let expected = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(show(&found[0]), show(expected.as_bytes()), "{when}: {key}");
            assert_eq!(found[1] != b":-1\r\n", *expires, "{when}: expiry of {key}");
        }
    }
    compare_counts(conn, model, ranges, &format!("{when}, all resident"));
}

/// Counts of ranges: name, first key, first key behind; DBSIZE.
pub fn compare_counts(conn: &mut Conn, model: &Model, ranges: &[(&str, &str, &str)], when: &str) {
    for (name, start, end) in ranges {
        let held = model.range(start.to_string()..end.to_string());
        let expected = held.fold((0, 0), |(keys, expires), (_, held)| {
            (keys + 1, expires + i64::from(held.1))
        });
        let fields = info(conn, name);
        let number = |field: &str| fields[field].parse::<i64>().expect("a number");
        assert_eq!((number("keys"), number("expires")), expected, "{when}: {name}");
        assert!(
            (0..=expected.0).contains(&number("cold")),
            "{when}: cold keys of {name}: {fields:?}"
        );
        assert!(number("bytes") >= 0, "{when}: bytes of {name}: {fields:?}");
    }
    assert_eq!(conn.integer("DBSIZE"), model.len() as i64, "{when}: DBSIZE");
}

/// Writes `keys` keys as a start; some expire.
pub fn fill(conn: &mut Conn, (prefix, keys): (&str, usize)) -> Model {
    let mut model = Model::new();
    for number in 0..keys {
        let (key, value) = (format!("{prefix}{number:06}"), format!("first{number}"));
        let expires = number % 5 == 0;
        let words = ["SET", &key, &value, "EX", "10000"];
        let words: Vec<&str> = words[..if expires { 5 } else { 3 }].to_vec();
        assert_eq!(conn.call(&words), b"+OK\r\n");
        model.insert(key, (value, expires));
    }
    model
}
