//! Values of every type and encoding between Terrace and a real redis-server, in both directions.
//!
//! What a value is, the real server says itself: `DEBUG DIGEST-VALUE` of the value that it made, and of those that
//! came back to it by way of Terrace.

mod common;

use common::{Conn, Server, show};

/// Settings of both servers, a name, and the commands that make the value under the key `k`.
struct Case {
    name: &'static str,
    settings: &'static str,
    commands: Vec<Vec<Vec<u8>>>,
}

const DEFAULTS: &str = "hash-max-listpack-entries 128 hash-max-listpack-value 64 zset-max-listpack-entries 128 \
    zset-max-listpack-value 64 set-max-intset-entries 512 list-max-listpack-size -2 stream-node-max-entries 100";

/// A command: its plain words, then elements.
fn command(words: &str, elements: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let words = words.split_whitespace().map(|word| word.as_bytes().to_vec());
    words.chain(elements).collect()
}

/// Texts of every length class and integer width, some that look like integers and are none, some that pack well.
fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = ["", "a", "-0", "007", "1.5", "hello world hello world hello world"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec();
    for bits in [0, 6, 7, 12, 13, 15, 16, 23, 24, 31, 32, 62] {
        texts.extend([1i64 << bits, -(1i64 << bits)].map(|number| number.to_string().into_bytes()));
    }
    texts.extend([63, 64, 4095, 4096, 20_000].map(|len| vec![b'x'; len]));
    texts.push((0..=255).collect());
    texts
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("element {i}").into_bytes()).collect()
}

fn short(texts: &[Vec<u8>]) -> Vec<Vec<u8>> {
    texts.iter().filter(|text| text.len() <= 64).cloned().collect()
}

/// Each element twice: fields with their values.
fn pairs(elements: &[Vec<u8>]) -> Vec<Vec<u8>> {
    elements
        .iter()
        .flat_map(|element| [element.clone(), element.clone()])
        .collect()
}

fn scored(elements: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let scores = ["1", "-2.5", "inf", "-inf", "1e300", "0.1", "3", "-0"];
    let scores = scores.iter().cycle().map(|score| score.as_bytes().to_vec());
    scores
        .zip(elements)
        .flat_map(|(score, element)| [score, element.clone()])
        .collect()
}

fn cases() -> Vec<Case> {
    let (texts, many) = (texts(), numbered(3000));
    let integers =
        |values: &[i64]| -> Vec<Vec<u8>> { values.iter().map(|v| v.to_string().into_bytes()).collect() };
    let case = |name, settings, commands| Case {
        name,
        settings,
        commands,
    };
    let small = "hash-max-listpack-entries 0 zset-max-listpack-entries 0 list-max-listpack-size 4";
    let mut cases = vec![
        case("packed list", "", vec![command("RPUSH k", short(&texts))]),
        case("list of nodes", small, vec![command("RPUSH k", texts.clone())]),
        case("long list", "", vec![command("RPUSH k", many.clone())]),
        case(
            "intset of 16 bits",
            "",
            vec![command("SADD k", integers(&[1, -5, 300]))],
        ),
        case(
            "intset of 32 bits",
            "",
            vec![command("SADD k", integers(&[1, -5, 70_000]))],
        ),
        case(
            "intset of 64 bits",
            "",
            vec![command("SADD k", integers(&[1, i64::MIN, i64::MAX]))],
        ),
        case("small set", "", vec![command("SADD k", short(&texts))]),
        case(
            "large set",
            "",
            vec![command("SADD k", many.clone()), command("SADD k", texts.clone())],
        ),
        case("packed hash", "", vec![command("HSET k", pairs(&short(&texts)))]),
        case(
            "small hash as a table",
            small,
            vec![command("HSET k", pairs(&texts))],
        ),
        case("large hash", "", vec![command("HSET k", pairs(&many))]),
        case(
            "packed sorted set",
            "",
            vec![command("ZADD k", scored(&short(&texts)))],
        ),
        case(
            "small sorted set as a tree",
            small,
            vec![command("ZADD k", scored(&texts))],
        ),
        case("large sorted set", "", vec![command("ZADD k", scored(&many))]),
        case(
            "emptied stream",
            "",
            ["XADD k 5-5 a b", "XDEL k 5-5"]
                .map(|line| command(line, []))
                .to_vec(),
        ),
        case(
            "stream of one group",
            "",
            vec![command("XGROUP CREATE k g $ MKSTREAM", [])],
        ),
        case("stream", "stream-node-max-entries 10", stream()),
    ];
    cases.extend(
        texts
            .into_iter()
            .map(|text| case("string", "", vec![command("SET k", [text])])),
    );
    cases
}

/// Entries with the same fields and with others, deleted ones, and groups in every state.
fn stream() -> Vec<Vec<Vec<u8>>> {
    let mut commands = vec![];
    for (i, text) in texts().into_iter().enumerate() {
        let id = format!("XADD k {}-{i} field", i / 3 + 1);
        let other = if i % 4 == 0 {
            vec![b"other".to_vec(), text.clone()]
        } else {
            vec![]
        };
        commands.push(command(&id, [text].into_iter().chain(other)));
    }
    let lines = [
        "XDEL k 1-1 3-7",
        "XGROUP CREATE k g 0",
        "XGROUP CREATE k later 5-12 ENTRIESREAD 7",
        "XREADGROUP GROUP g alice COUNT 9 STREAMS k >",
        "XREADGROUP GROUP g bob COUNT 3 STREAMS k >",
        "XACK k g 1-0 2-3",
        "XGROUP CREATECONSUMER k g carol",
    ];
    commands.extend(lines.map(|line| command(line, [])));
    commands
}

fn set_up(conn: &mut Conn, settings: &str) {
    let words: Vec<&str> = DEFAULTS
        .split_whitespace()
        .chain(settings.split_whitespace())
        .collect();
    for pair in words.chunks(2) {
        expect_ok(&conn.call(&["CONFIG", "SET", pair[0], pair[1]]), settings);
    }
}

fn expect_ok(reply: &[u8], what: &str) {
    assert_eq!(reply, b"+OK\r\n", "{what}: {}", show(reply));
}

fn dump(conn: &mut Conn, key: &str) -> Vec<u8> {
    conn.bulk(&format!("DUMP {key}"))
        .unwrap_or_else(|| panic!("{key} is not there"))
}

fn restore(conn: &mut Conn, key: &[u8], payload: &[u8], what: &str) {
    expect_ok(&conn.call(&[b"RESTORE", key, b"0", payload, b"REPLACE"]), what);
}

fn make(conn: &mut Conn, case: &Case) {
    set_up(conn, case.settings);
    conn.words("DEL k");
    for words in &case.commands {
        let reply = conn.call(words);
        assert_ne!(reply[0], b'-', "{}: {}", case.name, show(&reply));
    }
}

/// The digest of a value, as the real server computes it.
fn digest(redis: &mut Conn, key: &str) -> Vec<u8> {
    redis.words(&format!("DEBUG DIGEST-VALUE {key}"))
}

/// Redis makes every value; Terrace takes it, gives it back, keeps it over a restart, and gives it back again.
#[test]
fn values_of_redis_come_back_as_they_were() {
    for (tier, restarts) in [("memory", false), ("durable", true)] {
        // What was answered is there after a crash, so that the half that no SAVE covers comes back, too.
        let mut server = Server::terrace(&["--range", "default", "*", tier, "--appendfsync", "always"]);
        let redis = Server::redis(&[]);
        let (mut terrace, mut redis) = (server.connect(), redis.connect());
        let cases = cases();
        let key = |number: usize| format!("kept:{number}");
        for (number, case) in cases.iter().enumerate() {
            make(&mut redis, case);
            set_up(&mut terrace, case.settings);
            let payload = dump(&mut redis, "k");
            restore(&mut terrace, key(number).as_bytes(), &payload, case.name);
            redis.words(&format!("RENAME k {}", key(number)));
            if number == cases.len() / 2 {
                // The first half comes back from rows of the store, the others from the journal.
                expect_ok(&terrace.words("SAVE"), "SAVE");
            }
        }
        if restarts {
            server.kill();
            server.restart();
            terrace = server.connect();
        }
        for (number, case) in cases.iter().enumerate() {
            let payload = dump(&mut terrace, &key(number));
            restore(&mut redis, b"back", &payload, case.name);
            let (made, back) = (digest(&mut redis, &key(number)), digest(&mut redis, "back"));
            assert_eq!(made, back, "{tier} {} {}", case.name, case.settings);
        }
    }
}

/// Terrace makes every value by the same commands as Redis, and gives it to Redis.
#[test]
fn values_of_terrace_are_those_that_redis_would_have_made() {
    let (server, redis) = (Server::terrace(&[]), Server::redis(&[]));
    let (mut terrace, mut redis) = (server.connect(), redis.connect());
    for case in cases() {
        make(&mut redis, &case);
        make(&mut terrace, &case);
        let payload = dump(&mut terrace, "k");
        restore(&mut redis, b"other", &payload, case.name);
        // The times at which consumers were seen are of each server's own clock.
        let times_differ = case.name == "stream";
        if !times_differ {
            let (made, other) = (digest(&mut redis, "k"), digest(&mut redis, "other"));
            assert_eq!(made, other, "{} {}", case.name, case.settings);
        }
        for line in ["XRANGE k - +", "XINFO GROUPS k"]
            .iter()
            .filter(|_| case.name.contains("stream"))
        {
            let other = redis.words(&line.replace(" k", " other"));
            assert_eq!(redis.words(line), other, "{} {line}", case.name);
        }
    }
}
