//! What clients cost, and who is closed when they cost too much.

use super::{field, info, memory_server};
use crate::common::{Conn, show};
use std::time::{Duration, Instant};

/// A field of a client's line.
fn of_line(line: &str, name: &str) -> u64 {
    let prefix = format!("{name}=");
    let mut fields = line.split(' ').filter_map(|field| field.strip_prefix(&prefix));
    fields.next().expect("the field").parse().expect("a number")
}

fn line_of(conn: &mut Conn, id: i64) -> String {
    let line = conn.bulk(&format!("CLIENT LIST ID {id}")).expect("a line");
    String::from_utf8(line).expect("text")
}

fn eventually(mut is: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if is() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn a_clients_line_says_what_it_costs() {
    let server = memory_server(&[]);
    let (mut conn, mut other) = (server.connect(), server.connect());
    let id = other.integer("CLIENT ID");
    let idle = line_of(&mut conn, id);
    assert!(
        of_line(&idle, "tot-mem") > of_line(&idle, "rbs") + of_line(&idle, "qbuf-free"),
        "{idle}"
    );

    other
        .send_raw(format!("*2\r\n$4\r\nECHO\r\n$400000\r\n{}", "x".repeat(300_000)).as_bytes())
        .expect("sent");
    assert!(eventually(|| of_line(&line_of(&mut conn, id), "qbuf") > 290_000));
    let line = line_of(&mut conn, id);
    assert!(
        of_line(&line, "tot-mem") > of_line(&idle, "tot-mem") + 250_000,
        "{line}"
    );
    other
        .send_raw(format!("{}\r\n", "x".repeat(100_000)).as_bytes())
        .expect("sent");
    assert!(other.read_frame().expect("its echo").len() > 400_000);
    assert!(
        eventually(|| of_line(&line_of(&mut conn, id), "tot-mem") < 200_000),
        "buffers are given back"
    );

    other.words("MULTI");
    other.words(&format!("SET k {}", "x".repeat(5_000)));
    assert!((5_000..6_000).contains(&of_line(&line_of(&mut conn, id), "multi-mem")));
    other.words("DISCARD");
    assert_eq!(of_line(&line_of(&mut conn, id), "multi-mem"), 0);
    let total: u64 = field(&info(&mut conn, "memory"), "mem_clients_normal")
        .expect("a field")
        .parse()
        .expect("one");
    assert!(total >= of_line(&line_of(&mut conn, id), "tot-mem"));
}

#[test]
fn the_clients_that_cost_most_are_closed() {
    let server = memory_server(&["--maxmemory-clients", "1mb"]);
    let (mut conn, mut small, mut large) = (server.connect(), server.connect(), server.connect());
    let unfinished = |bytes: usize| format!("*2\r\n$4\r\nECHO\r\n${bytes}\r\n{}", "x".repeat(bytes));
    small.send_raw(unfinished(300_000).as_bytes()).expect("sent");
    // Not all of it may arrive: the server closes as soon as it has too much.
    let _ = large.send_raw(unfinished(800_000).as_bytes());
    assert!(large.read_to_close().is_ok_and(|bytes| bytes.is_empty()));
    assert_eq!(
        field(&info(&mut conn, "stats"), "evicted_clients").as_deref(),
        Some("1")
    );
    assert!(
        info(&mut conn, "clients").contains("connected_clients:2\r\n"),
        "the smaller one stays"
    );
    conn.words("CONFIG RESETSTAT");
    assert_eq!(
        field(&info(&mut conn, "stats"), "evicted_clients").as_deref(),
        Some("0")
    );
}

/// As in Redis: who asked to be kept counts, and others go for it.
#[test]
fn clients_that_ask_for_it_are_kept() {
    let server = memory_server(&["--maxmemory-clients", "400kb"]);
    let mut kept = server.connect();
    kept.words("CLIENT NO-EVICT ON");
    let mut other = server.connect();
    other.words("PING");
    kept.send_raw(format!("*2\r\n$4\r\nECHO\r\n$900000\r\n{}", "x".repeat(600_000)).as_bytes())
        .expect("sent");
    assert!(other.read_to_close().is_ok_and(|bytes| bytes.is_empty()));
    kept.send_raw(format!("{}\r\n", "x".repeat(300_000)).as_bytes())
        .expect("sent");
    assert!(kept.read_frame().expect("its echo").len() > 900_000);
}

#[test]
fn the_limit_is_bytes_or_a_share_of_maxmemory() {
    let server = memory_server(&[]);
    let mut conn = server.connect();
    for (value, shown) in [("5%", "5%"), ("0%", "0"), ("1mb", "1048576")] {
        assert_eq!(
            conn.words(&format!("CONFIG SET maxmemory-clients {value}")),
            b"+OK\r\n"
        );
        let got = show(&conn.words("CONFIG GET maxmemory-clients"));
        assert!(got.ends_with(&format!("\\r\\n{shown}\\r\\n")), "{got}");
    }
    assert!(show(&conn.words("CONFIG SET maxmemory-clients 101%")).contains("less or equal to 100"));
    // A share of nothing is no limit.
    conn.words("CONFIG SET maxmemory-clients 1%");
    let mut large = server.connect();
    large
        .send_raw(format!("*2\r\n$4\r\nECHO\r\n$900000\r\n{}", "x".repeat(900_000)).as_bytes())
        .expect("sent");
    std::thread::sleep(Duration::from_millis(300));
    large.send_raw(b"\r\n").expect("sent");
    assert!(large.read_frame().is_ok());
    // With a limit on keys that leaves this share.
    large
        .send_raw(format!("*2\r\n$4\r\nECHO\r\n$9000000\r\n{}", "x".repeat(900_000)).as_bytes())
        .expect("sent");
    conn.words("CONFIG SET maxmemory 50mb");
    assert!(large.read_to_close().is_ok(), "524 KB is the limit now");
}

/// Soft and hard limit of open files of a process.
fn limit_files(pid: u32, soft: u64, hard: u64) {
    let pid = rustix::process::Pid::from_raw(pid as i32);
    let limit = rustix::process::Rlimit {
        current: Some(soft),
        maximum: Some(hard),
    };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).expect("may be lowered");
}

fn soft_limit_of_files(pid: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let mut lines = limits
        .lines()
        .filter_map(|line| line.strip_prefix("Max open files"));
    let numbers = lines.next().expect("a line of files").split_whitespace().next();
    numbers.expect("a number").parse().expect("a number")
}

#[test]
fn clients_never_take_the_files_that_the_store_needs() {
    let server = memory_server(&["--maxclients", "100"]);
    let mut conn = server.connect();
    limit_files(server.pid(), 300, 3_500);
    assert_eq!(conn.words("CONFIG SET maxclients 2000"), b"+OK\r\n");
    assert_eq!(soft_limit_of_files(server.pid()), 3_000);
    limit_files(server.pid(), 500, 500);
    let refused = conn.words("CONFIG SET maxclients 3000");
    assert_eq!(
        show(&refused),
        show(
            b"-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to \
              handle the specified number of clients, try with 250\r\n"
        )
    );
    assert_eq!(conn.words("CONFIG SET maxclients 200"), b"+OK\r\n");
}
