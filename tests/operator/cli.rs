//! The real redis-cli in every one of its modes: each is answered, or refused in words.

use super::memory_server;
use crate::common::{Conn, Server};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What redis-cli says to these arguments, both outputs together. One that takes longer than a minute is ended, and has
/// failed.
fn cli(server: &Server, args: &[&str]) -> String {
    cli_with(server, args, b"")
}

fn cli_with(server: &Server, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("timeout")
        .args(["60", "redis-cli", "-p", &server.port().to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("redis-cli");
    let mut to = child.stdin.take().expect("its input");
    // It may end before it has read everything.
    let _ = to.write_all(input);
    drop(to);
    let output = child.wait_with_output().expect("its end");
    assert_ne!(output.status.code(), Some(124), "redis-cli {args:?} hangs");
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// A server with some keys of every type.
fn filled(args: &[&str]) -> Server {
    let server = memory_server(args);
    fill(&mut server.connect());
    server
}

fn fill(conn: &mut Conn) {
    for i in 0..30 {
        conn.words(&format!("SET text:{i} {}", "x".repeat(i + 1)));
    }
    conn.words("RPUSH list:a 1 2 3 4 5");
    conn.words("HSET hash:a f v g w");
    conn.words("SADD set:a 1 2 3");
    conn.words("ZADD zset:a 1 m 2 n");
    conn.words("XADD stream:a * f v");
}

#[track_caller]
fn says(text: &str, wanted: &[&str]) {
    for words in wanted {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
}

#[test]
fn keys_are_sampled() {
    let server = filled(&[]);
    let big = cli(&server, &["--bigkeys"]);
    says(
        &big,
        &[
            "Sampled 35 keys in the keyspace!",
            "Biggest string found '\"text:29\"' has 30 bytes",
            "Biggest   list found '\"list:a\"' has 5 items",
            "Biggest   hash found '\"hash:a\"' has 2 fields",
            "Biggest    set found '\"set:a\"' has 3 members",
            "Biggest   zset found '\"zset:a\"' has 2 members",
            "Biggest stream found '\"stream:a\"' has 1 entries",
            "30 strings with 465 bytes",
        ],
    );
    let memory = cli(&server, &["--memkeys"]);
    says(
        &memory,
        &[
            "Sampled 35 keys in the keyspace!",
            "Biggest string found '\"text:2",
            "bytes",
        ],
    );
    let scanned = cli(&server, &["--scan", "--pattern", "*:a"]);
    let mut keys: Vec<&str> = scanned.lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["hash:a", "list:a", "set:a", "stream:a", "zset:a"]);
}

#[test]
fn hot_keys_need_a_policy_that_counts() {
    let server = filled(&["--maxmemory-policy", "allkeys-lfu"]);
    let mut conn = server.connect();
    for _ in 0..2_000 {
        conn.words("GET text:7");
    }
    says(
        &cli(&server, &["--hotkeys"]),
        &["hot key found with counter:", "keyname: \"text:7\""],
    );
    let without = filled(&[]);
    says(
        &cli(&without, &["--hotkeys"]),
        &["ERR An LFU maxmemory policy is not selected"],
    );
}

#[test]
fn latencies_are_measured() {
    let server = memory_server(&[]);
    let line = cli(&server, &["-i", "0.3", "--latency"]);
    let figures: Vec<f64> = line
        .split_whitespace()
        .map(|word| word.parse().expect("a number"))
        .collect();
    assert_eq!(figures.len(), 4, "min, max, mean, samples: {line}");
    assert!(figures[3] > 3.0);
    // It goes on for ever, as does the next: the first line of each is enough.
    for mode in [&["-i", "0.2", "--latency-history"][..], &["-i", "0.1", "--stat"]] {
        let lines = first_lines(&server, mode);
        assert!(!lines.is_empty() && !lines.contains("ERR"), "{mode:?}: {lines}");
    }
    says(&cli(&server, &["--intrinsic-latency", "1"]), &["total runs"]);
}

/// What a mode without an end says in two seconds.
fn first_lines(server: &Server, args: &[&str]) -> String {
    let output = Command::new("timeout")
        .args([
            "2",
            "stdbuf",
            "-o0",
            "redis-cli",
            "-p",
            &server.port().to_string(),
        ])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("redis-cli");
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn rolling_figures_are_shown() {
    let server = filled(&[]);
    let lines = first_lines(&server, &["-i", "0.2", "--stat"]);
    says(
        &lines,
        &["keys       mem      clients blocked requests            connections"],
    );
    let second = lines
        .lines()
        .find(|line| line.starts_with("35 "))
        .expect("a line of figures");
    assert!(second.contains('M') || second.contains('K'), "{second}");
}

#[test]
fn monitors_run_in_it() {
    let server = memory_server(&[]);
    let port = server.port();
    let writer = std::thread::spawn(move || {
        let mut conn = Conn::open(port).expect("a connection");
        for _ in 0..30 {
            conn.words("SET seen 1");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    says(
        &first_lines(&server, &["MONITOR"]),
        &["OK\n", "\"SET\" \"seen\" \"1\""],
    );
    writer.join().expect("its end");
}

#[test]
fn commands_are_piped_in() {
    let server = memory_server(&[]);
    let mut raw = Vec::new();
    for i in 0..5_000 {
        raw.extend_from_slice(format!("SET piped:{i} {i}\r\n").as_bytes());
    }
    raw.extend_from_slice(b"INCR\r\n");
    says(
        &cli_with(&server, &["--pipe"], &raw),
        &["errors: 1, replies: 5001"],
    );
    assert_eq!(server.connect().integer("DBSIZE"), 5_000);
}

/// The file is a whole one: redis-server starts from it, and has everything.
#[test]
fn snapshots_are_fetched() {
    for tier in ["memory", "durable"] {
        let server = Server::terrace(&["--range", "default", "*", tier]);
        let mut conn = server.connect();
        fill(&mut conn);
        conn.call(&[
            "FUNCTION",
            "LOAD",
            "#!lua name=lib\nredis.register_function('f', function() return 7 end)",
        ]);
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("dump.rdb");
        let said = cli(&server, &["--rdb", file.to_str().expect("a path")]);
        says(&said, &["Transfer finished with success."]);
        assert_eq!(conn.words("PING"), b"+PONG\r\n");
        let redis = Server::redis(&["--dir", folder.path().to_str().expect("a path")]);
        assert_eq!(redis.connect().integer("DBSIZE"), 35);
        assert_eq!(redis.connect().words("LRANGE list:a 0 0"), b"*1\r\n$1\r\n1\r\n");
        assert_eq!(redis.connect().integer("FCALL f 0"), 7);
        functions_alone(&server, folder.path());
        assert_eq!(left_behind(&server.data_dir()), 0, "no file stays");
    }
}

fn functions_alone(server: &Server, folder: &Path) {
    let file = folder.join("functions.rdb");
    says(
        &cli(server, &["--functions-rdb", file.to_str().expect("a path")]),
        &["Transfer finished with success."],
    );
    let own = folder.to_str().expect("a path");
    let redis = Server::redis(&["--dir", own, "--dbfilename", "functions.rdb"]);
    assert_eq!(redis.connect().integer("DBSIZE"), 0);
    assert_eq!(redis.connect().integer("FCALL f 0"), 7);
}

fn left_behind(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir)
        .expect("the folder")
        .flatten()
        .map(|item| item.file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".rdb"))
        .count()
}

#[test]
fn what_there_is_not_is_refused_in_words() {
    let server = memory_server(&[]);
    says(
        &cli(&server, &["--replica"]),
        &["ERR there is no replication yet"],
    );
    let folder = tempfile::TempDir::new().expect("a folder");
    let script = folder.path().join("script.lua");
    std::fs::write(&script, "return {KEYS[1], ARGV[1]}").expect("a file");
    let script = script.to_str().expect("a path");
    says(&cli(&server, &["--eval", script, "k", ",", "v"]), &["k", "v"]);
    // It does not look at what SCRIPT DEBUG answers: the script runs, to its end.
    says(&cli(&server, &["--ldb", "--eval", script, "k"]), &["k"]);
    says(&cli(&server, &["SCRIPT", "DEBUG", "YES"]), &["ERR "]);
    for line in [
        "REPLICAOF a 1",
        "FAILOVER",
        "SLAVEOF a 1",
        "CLUSTER INFO",
        "SENTINEL masters",
        "MODULE LIST",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let said = cli(&server, &words);
        assert!(
            said.starts_with("ERR ") || line.starts_with("MODULE"),
            "{line}: {said}"
        );
    }
}

/// In a session it asks for COMMAND DOCS, for the hints behind what is being typed.
#[test]
fn hints_come_from_the_servers_own_words() {
    let server = memory_server(&[]);
    let said = cli_with(
        &server,
        &["--no-raw"],
        b"help set\nGET nokey\nhelp @hash\nhelp range create\n",
    );
    says(
        &said,
        &[
            "key value [NX|XX",
            "(nil)",
            "key field value [field value ...]",
            "RANGE CREATE",
        ],
    );
    let json = cli(&server, &["--json", "CONFIG", "GET", "port"]);
    says(&json, &["{\"port\":"]);
}
