//! The metrics port: what it answers is held against the text format by a strict reader, and against INFO.

use super::{field, info, memory_server};
use crate::common::Server;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// What a family of samples is, and its samples: name and labels as they stand, and the value.
#[derive(Default)]
struct Family {
    kind: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads the text format strictly: HELP and TYPE before the samples of their family, which stand together; names,
/// labels and values well formed; nothing twice.
fn read_strictly(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n') && !text.contains('\r'));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut helped, mut now) = (BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help text");
            assert!(is_name(name) && !words.is_empty(), "{line}");
            assert!(helped.insert(name.to_string()), "twice: {line}");
            now = name.to_string();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(name, now, "TYPE follows HELP");
            let family = Family {
                kind: kind.to_string(),
                samples: Vec::new(),
            };
            assert!(
                families.insert(name.to_string(), family).is_none(),
                "twice: {line}"
            );
        } else {
            let (name, labels, value) = read_sample(line);
            let family = families.get_mut(&now).expect("a type before samples");
            let suffix = name.strip_prefix(now.as_str());
            let fits = match family.kind.as_str() {
                "histogram" => suffix.is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end)),
                _ => suffix == Some(""),
            };
            assert!(fits, "{line} stands among samples of {now}");
            let known =
                |sample: &(String, BTreeMap<String, String>, f64)| sample.0 == name && sample.1 == labels;
            assert!(!family.samples.iter().any(known), "twice: {line}");
            family.samples.push((name, labels, value));
        }
    }
    families
}

fn read_sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (head, value) = line.rsplit_once(' ').expect("a value");
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let Some((name, rest)) = head.split_once('{') else {
        assert!(is_name(head), "{line}");
        return (head.to_string(), BTreeMap::new(), value);
    };
    assert!(is_name(name), "{line}");
    let mut rest = rest.strip_suffix('}').expect("a closing brace");
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").expect("a label");
        assert!(is_name(label), "{line}");
        let end = quoted.find('"').expect("the end of a label");
        assert!(
            !quoted[..end].contains('\\'),
            "none of these tests needs escapes: {line}"
        );
        assert!(
            labels
                .insert(label.to_string(), quoted[..end].to_string())
                .is_none()
        );
        rest = &quoted[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_string(), labels, value)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// What the port answers to these bytes.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("an option");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn get(port: u16) -> BTreeMap<String, Family> {
    let answer = ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
        "{head}"
    );
    read_strictly(body)
}

fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.get(name).unwrap_or_else(|| panic!("no {name}"));
    let fits = |own: &BTreeMap<String, String>| {
        own.len() == labels.len()
            && labels
                .iter()
                .all(|(name, value)| own.get(*name).is_some_and(|own| own == value))
    };
    let found = family.samples.iter().find(|sample| fits(&sample.1));
    found.unwrap_or_else(|| panic!("no {name} with {labels:?}")).2
}

#[test]
fn metrics_are_the_figures_of_info() {
    let port = free_port();
    let server = Server::terrace(&[
        "--metrics-port",
        &port.to_string(),
        "--range",
        "cache",
        "cache:",
        "memory",
    ]);
    let mut conn = server.connect();
    for line in [
        "SET cache:a 1",
        "SET b 1 EX 1000",
        "GET b",
        "GET nokey",
        "NOSUCH",
        "INCR b",
        "LPUSH b x",
    ] {
        conn.words(line);
    }
    let metrics = get(port);
    for (name, labels, expected) in [
        ("terrace_connected_clients", vec![], 1.0),
        ("terrace_keyspace_hits_total", vec![], 1.0),
        ("terrace_keyspace_misses_total", vec![], 1.0),
        ("terrace_journal_ok", vec![], 1.0),
        ("terrace_db_keys", vec![("db", "0")], 2.0),
        ("terrace_db_expires", vec![("db", "0")], 1.0),
        ("terrace_range_keys", vec![("range", "cache")], 1.0),
        ("terrace_range_expires", vec![("range", "default")], 1.0),
        ("terrace_range_misses_total", vec![("range", "default")], 1.0),
        ("terrace_errors_total", vec![("code", "WRONGTYPE")], 1.0),
        ("terrace_command_failed_total", vec![("command", "lpush")], 1.0),
        ("terrace_acl_denied_total", vec![("reason", "key")], 0.0),
    ] {
        assert_eq!(value(&metrics, name, &labels), expected, "{name}");
    }
    let text = info(&mut conn, "everything");
    let same = |name: &str, of: &str| {
        let shown: f64 = field(&text, of).expect(of).parse().expect("a number");
        assert_eq!(value(&metrics, name, &[]), shown, "{name}");
    };
    same("terrace_journal_offset_bytes", "master_repl_offset");
    same("terrace_memory_max_bytes", "maxmemory");
    same("terrace_connections_received_total", "total_connections_received");
    assert!(value(&metrics, "terrace_memory_used_bytes", &[]) > 1e6);
    let tiers = &metrics["terrace_range_info"].samples;
    assert!(
        tiers
            .iter()
            .any(|(_, labels, _)| labels["range"] == "cache" && labels["tier"] == "memory")
    );
}

/// Every field of INFO that a metric is made of is there: a family without a sample is one whose field has gone.
#[test]
fn no_metric_is_without_a_value() {
    let port = free_port();
    let server = memory_server(&["--metrics-port", &port.to_string()]);
    server.connect().words("SET k v");
    server.connect().words("NOSUCH");
    let empty: Vec<String> = get(port)
        .into_iter()
        .filter(|(_, family)| family.samples.is_empty())
        .map(|(name, _)| name)
        .collect();
    assert!(empty.is_empty(), "{empty:?}");
}

#[test]
fn histograms_add_up() {
    let port = free_port();
    let server = memory_server(&["--metrics-port", &port.to_string()]);
    let mut conn = server.connect();
    for i in 0..50 {
        conn.words(&format!("SET k{i} v"));
    }
    let metrics = get(port);
    let family = &metrics["terrace_command_duration_seconds"];
    let of = |suffix: &str| -> Vec<&(String, BTreeMap<String, String>, f64)> {
        let samples = family.samples.iter();
        samples
            .filter(|(name, labels, _)| name.ends_with(suffix) && labels["command"] == "set")
            .collect()
    };
    let buckets = of("_bucket");
    let bounds: Vec<f64> = buckets
        .iter()
        .map(|(_, labels, _)| labels["le"].parse().expect("a bound"))
        .collect();
    assert!(
        bounds.is_sorted() && bounds.last().is_some_and(|last| last.is_infinite()),
        "{bounds:?}"
    );
    assert!(buckets.iter().map(|(_, _, count)| *count).is_sorted());
    assert_eq!((of("_count")[0].2, buckets.last().expect("one").2), (50.0, 50.0));
    assert!((1e-6..5.0).contains(&of("_sum")[0].2));
}

#[test]
fn the_port_answers_nothing_else() {
    let port = free_port();
    let server = memory_server(&["--metrics-port", &port.to_string()]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_string(), "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n".to_string(), "405"),
        ("SET a b\r\n\r\n".to_string(), "400"),
        (
            format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9_000)),
            "400",
        ),
    ] {
        let answer = ask(port, &request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:.40} {answer}"
        );
    }
    let head = ask(port, "HEAD /metrics?a=b HTTP/1.0\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    // Scrapers that say nothing hold places, and no more than there are.
    let idle: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).expect("accepted"))
        .collect();
    assert_eq!(server.connect().words("PING"), b"+PONG\r\n");
    drop(idle);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!get(port).is_empty());
}
