//! What an operator meets on a bad day: a full disk, a damaged journal, a folder in use, a client that never reads.

mod common;

use common::{Conn, Server, encode, terrace_binary};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn run(args: &[&str]) -> Output {
    Command::new(terrace_binary())
        .args(args)
        .output()
        .expect("the binary runs")
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .concat()
        .iter()
        .map(|byte| *byte as char)
        .collect()
}

/// A small filesystem of its own; none without the right to mount one.
struct SmallDisk {
    path: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<SmallDisk> {
        let path = tempfile::tempdir().expect("a temporary folder");
        let size = format!("size={megabytes}m");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(path.path())
            .output();
        done.is_ok_and(|output| output.status.success())
            .then_some(SmallDisk { path })
    }

    fn grow(&self, megabytes: u32) {
        let size = format!("remount,size={megabytes}m");
        let done = Command::new("mount")
            .args(["-o", &size])
            .arg(self.path.path())
            .status();
        assert!(done.expect("mount runs").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount(40) else {
        println!("skipped: no right to mount a small filesystem");
        return;
    };
    let dir = disk.path.path().join("data");
    let dir = dir.to_str().expect("a plain path");
    let args = [
        "--dir",
        dir,
        "--appendfsync",
        "everysec",
        "--journal-segment-size",
        "4mb",
    ];
    let mut server = Server::terrace(&args);
    let mut conn = server.connect();
    conn.words("SET first value");
    let value = vec![b'v'; 64 * 1024];
    let mut written = 0;
    let refusal = loop {
        let reply = conn.call(&[b"SET".as_slice(), format!("big:{written}").as_bytes(), &value]);
        if reply != b"+OK\r\n" {
            break reply;
        }
        written += 1;
        // Slower than the disk, so that its refusal is noticed before much more is promised.
        std::thread::sleep(Duration::from_millis(2));
        assert!(written < 10_000, "the disk never filled");
    };
    assert!(refusal.starts_with(b"-MISCONF "), "{}", common::show(&refusal));
    assert_eq!(conn.words("GET first"), b"$5\r\nvalue\r\n");
    assert_eq!(conn.integer("DBSIZE"), written + 1);
    assert!(conn.words("DEL first").starts_with(b"-MISCONF "));
    disk.grow(400);
    let began = Instant::now();
    while conn.words("SET after space") != b"+OK\r\n" {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "writes are still refused"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    server.kill();
    server.restart();
    let mut conn = server.connect();
    assert_eq!(conn.integer("DBSIZE"), written + 2);
    assert_eq!(
        conn.integer(&format!("STRLEN big:{}", written - 1)),
        value.len() as i64
    );
}

/// A server whose syncs fail as `failures` says (see the crate `fail`): with `everysec`, and a range `safe:` in which
/// replies wait for the disk.
fn with_failing_syncs(failures: &str) -> Server {
    with_failpoints(&format!("journal-sync={failures}"))
}

fn with_failpoints(failpoints: &str) -> Server {
    let mut server = Server::terrace(&[
        "--appendfsync",
        "everysec",
        "--range",
        "safe",
        "safe:*",
        "durable",
        "appendfsync",
        "always",
    ]);
    server.terminate();
    server.set_env(&[("FAILPOINTS", failpoints)]);
    server.restart();
    server.set_env(&[]);
    server
}

/// Writes until one is refused; the keys of those that were not.
fn write_until_refused(conn: &mut Conn) -> Vec<String> {
    let mut taken = Vec::new();
    let began = Instant::now();
    loop {
        let key = format!("taken:{}", taken.len());
        let reply = conn.words(&format!("SET {key} value"));
        if reply != b"+OK\r\n" {
            assert!(reply.starts_with(b"-MISCONF "), "{}", common::show(&reply));
            return taken;
        }
        taken.push(key);
        assert!(began.elapsed() < Duration::from_secs(20), "no sync failed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn assert_keys(conn: &mut Conn, keys: &[String]) {
    for key in keys {
        assert_eq!(conn.words(&format!("EXISTS {key}")), b":1\r\n", "{key}");
    }
}

/// The system says that a sync failed once, drops the pages that it could not write, and says that all is well when it
/// is asked again. Here the test drops them: what stood behind the last good sync is zeros on disk.
#[test]
fn after_a_failed_sync_nothing_rests_on_what_was_written_before_it() {
    let server = &mut with_failing_syncs("1*off->12*return->off");
    let (mut conn, mut waiting) = (server.connect(), server.connect());
    assert_eq!(conn.words("SET safe:1 value"), b"+OK\r\n");
    let segment = newest_segment(&server.data_dir());
    let synced = fs::metadata(&segment).expect("the segment").len() as usize;
    assert_eq!(conn.words("SET first value"), b"+OK\r\n");
    waiting
        .send_raw(&encode(&["SET", "safe:2", "value"]))
        .expect("sent");
    let mut taken = write_until_refused(&mut conn);
    assert!(conn.words("DEL first").starts_with(b"-MISCONF "));
    assert_eq!(conn.words("GET first"), b"$5\r\nvalue\r\n");
    assert_eq!(conn.words("GET safe:1"), b"$5\r\nvalue\r\n");
    let mut bytes = fs::read(&segment).expect("the segment");
    assert!(bytes.len() > synced);
    bytes[synced..].fill(0);
    fs::write(&segment, bytes).expect("the pages are dropped");
    waiting.set_read_timeout(Duration::from_millis(500));
    assert!(waiting.read_frame().is_err(), "a sync that failed lets nobody go");
    let began = Instant::now();
    while conn.words("SET after value") != b"+OK\r\n" {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "writes are still refused"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    waiting.set_read_timeout(Duration::from_secs(20));
    assert_eq!(waiting.read_frame().expect("a reply"), b"+OK\r\n");
    assert_eq!(conn.words("SET safe:3 value"), b"+OK\r\n");
    server.kill();
    taken.extend(["safe:1", "first", "safe:2", "after", "safe:3"].map(String::from));
    for _ in 0..2 {
        server.restart();
        assert_keys(&mut server.connect(), &taken);
        assert_eq!(server.connect().integer("DBSIZE"), taken.len() as i64);
        server.kill();
    }
    let dir = server.data_dir();
    let check = run(&["check", dir.to_str().expect("a plain path")]);
    assert!(check.status.success(), "{}", text(&check));
}

#[test]
fn a_server_killed_while_no_sync_succeeds_loses_nothing_that_it_acknowledged() {
    let server = &mut with_failing_syncs("return");
    let mut conn = server.connect();
    let taken = write_until_refused(&mut conn);
    assert!(!taken.is_empty());
    std::thread::sleep(Duration::from_millis(500));
    assert!(conn.words("SET more value").starts_with(b"-MISCONF "));
    assert_keys(&mut conn, &taken);
    server.kill();
    server.restart();
    assert_keys(&mut server.connect(), &taken);
    assert_eq!(server.connect().words("SET more value"), b"+OK\r\n");
}

#[test]
fn a_server_whose_disk_refuses_ends_when_it_is_told_to() {
    let server = &mut with_failing_syncs("return");
    write_until_refused(&mut server.connect());
    let began = Instant::now();
    assert!(
        !server.terminate().success(),
        "it could not keep its promise and says so"
    );
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

fn ranges(conn: &mut Conn) -> String {
    common::show(&conn.words("RANGE LIST"))
}

#[test]
fn ranges_are_not_changed_while_the_disk_refuses_and_nobody_waits_for_it() {
    let server = &mut with_failing_syncs("return");
    let mut conn = server.connect();
    write_until_refused(&mut conn);
    let before = ranges(&mut conn);
    conn.set_read_timeout(Duration::from_secs(5));
    for change in [
        "RANGE CREATE d d:* durable",
        "RANGE CREATE d d:* memory",
        "RANGE ALTER safe max-keys 5",
        "RANGE ALTER safe TIER memory",
        "RANGE SPLIT safe AT safe:k",
        "RANGE DROP safe DISCARD",
        "RANGE DROP safe KEEP",
        "RANGE MERGE safe other",
    ] {
        let reply = common::show(&conn.words(change));
        assert!(reply.starts_with("-MISCONF "), "{change}: {reply}");
        assert_eq!(ranges(&mut conn), before, "{change}");
    }
    let saved = common::show(&conn.words("SAVE"));
    assert!(saved.starts_with('-'), "{saved}");
    assert_eq!(conn.words("GET taken:0"), b"$5\r\nvalue\r\n");
}

#[test]
fn a_range_whose_keys_could_not_be_counted_is_counted_when_they_can() {
    let mut server = with_failpoints("recount-rows=3*return->off");
    let mut conn = server.connect();
    for i in 0..50 {
        conn.words(&format!("SET c:{i} value"));
        conn.words(&format!("SET d:{i} value"));
    }
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    let reply = common::show(&conn.words("RANGE CREATE c c:* durable"));
    assert!(
        reply.starts_with("-MISCONF The change is in force but not finished"),
        "{reply}"
    );
    let began = Instant::now();
    loop {
        let reply = common::show(&conn.words("RANGE SPLIT c AT c:3"));
        if reply.starts_with("+OK") {
            break;
        }
        assert!(reply.contains("are being counted: try again later"), "{reply}");
        assert!(began.elapsed() < Duration::from_secs(20), "never counted");
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..2 {
        let mut conn = server.connect();
        for (range, keys) in [("default", 50), ("c", 23), ("c-2", 27)] {
            let info = conn.words(&format!("RANGE INFO {range}"));
            let info = String::from_utf8_lossy(&info);
            assert!(
                info.contains(&format!("\r\nkeys\r\n:{keys}\r\n")),
                "{range}: {info}"
            );
        }
        assert_eq!(conn.integer("DBSIZE"), 100);
        server.kill();
        server.restart();
    }
}

#[test]
fn a_journal_that_is_gone_stops_the_start_until_another_is_begun() {
    let mut server = Server::terrace(&["--appendfsync", "always"]);
    let mut conn = server.connect();
    conn.words("SET kept value");
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    conn.words("SET lost value");
    let dir = server.data_dir();
    let path = dir.to_str().expect("a plain path");
    server.kill();
    fs::remove_dir_all(dir.join("journal")).expect("removed");
    let socket = format!("{path}/socket");
    let start = run(&["--port", "0", "--unixsocket", &socket, "--dir", path]);
    assert!(!start.status.success());
    for said in [text(&start), text(&run(&["check", path]))] {
        assert!(said.contains("journal missing: no segment in "), "{said}");
    }
    let repair = run(&["check", "--repair", path]);
    assert!(repair.status.success(), "{}", text(&repair));
    server.restart();
    let mut conn = server.connect();
    assert_eq!(conn.words("MGET kept lost"), b"*2\r\n$5\r\nvalue\r\n$-1\r\n");
    assert_eq!(conn.words("SET lost again"), b"+OK\r\n");
    server.kill();
    server.restart();
    assert_eq!(server.connect().words("GET lost"), b"$5\r\nagain\r\n");
}

fn newest_segment(dir: &Path) -> PathBuf {
    let items = fs::read_dir(dir.join("journal")).expect("a journal");
    items
        .map(|item| item.expect("an item").path())
        .max_by_key(|path| fs::metadata(path).map_or(0, |m| m.len()))
        .expect("a segment")
}

#[test]
fn a_damaged_journal_stops_the_start_with_file_and_position_until_it_is_repaired() {
    let mut server = Server::terrace(&["--appendfsync", "always"]);
    let mut conn = server.connect();
    for i in 0..100 {
        conn.words(&format!("SET key:{i:03} value"));
    }
    let dir = server.data_dir();
    server.kill();
    let segment = newest_segment(&dir);
    let mut bytes = fs::read(&segment).expect("the segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&segment, bytes).expect("the damage");
    let path = dir.to_str().expect("a plain path");
    let start = run(&[
        "--port",
        "0",
        "--unixsocket",
        &format!("{path}/socket"),
        "--dir",
        path,
    ]);
    let said = text(&start);
    assert!(!start.status.success());
    assert!(
        said.contains("journal damaged") && said.contains("at byte") && said.contains(".log"),
        "{said}"
    );
    let check = run(&["check", path]);
    assert!(
        !check.status.success() && text(&check).contains("at byte"),
        "{}",
        text(&check)
    );
    let repair = run(&["check", "--repair", path]);
    assert!(repair.status.success(), "{}", text(&repair));
    assert!(run(&["check", path]).status.success());
    server.restart();
    let left = server.connect().integer("DBSIZE");
    assert!(
        (30..=60).contains(&left),
        "{left} of 100 keys are left of a journal cut in half"
    );
}

#[test]
fn a_torn_last_record_is_cut_off_and_said() {
    let mut server = Server::terrace(&["--appendfsync", "always"]);
    let mut conn = server.connect();
    for i in 0..10 {
        conn.words(&format!("SET key:{i} value"));
    }
    let dir = server.data_dir();
    server.kill();
    let segment = newest_segment(&dir);
    let bytes = fs::read(&segment).expect("the segment");
    fs::write(&segment, &bytes[..bytes.len() - 3]).expect("the tear");
    server.restart();
    assert_eq!(server.connect().integer("DBSIZE"), 9);
    assert!(
        server.log_tail().contains("bytes removed"),
        "{}",
        server.log_tail()
    );
}

#[test]
fn a_data_folder_takes_one_server_only() {
    let server = Server::terrace(&[]);
    let dir = server.data_dir();
    let path = dir.to_str().expect("a plain path");
    let second = run(&[
        "--port",
        "0",
        "--unixsocket",
        &format!("{path}/socket"),
        "--dir",
        path,
    ]);
    assert!(!second.status.success());
    assert!(
        text(&second).contains("in use by another server"),
        "{}",
        text(&second)
    );
}

#[test]
fn a_client_that_never_reads_costs_no_more_than_one_batch_of_replies() {
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let mut conn = server.connect();
    let value = vec![b'v'; 1 << 20];
    conn.call(&[b"SET".as_slice(), b"k", &value]);
    let before = server.resident_bytes();
    let mut silent = Conn::open(server.port()).expect("a connection");
    let requests: Vec<u8> = (0..2_000).flat_map(|_| encode(&["GET", "k"])).collect();
    // The server stops reading from a client that does not read; the rest stays in the sockets.
    silent
        .send_raw(&requests)
        .expect("requests fit the socket's buffers");
    std::thread::sleep(Duration::from_millis(500));
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(
        grown < 64 << 20,
        "{grown} bytes for 2 GB of replies that nobody reads"
    );
    assert_eq!(conn.words("PING"), b"+PONG\r\n");
}

#[test]
fn lengths_that_are_only_announced_cost_nothing() {
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let before = server.resident_bytes();
    let mut conns: Vec<Conn> = (0..50)
        .map(|_| Conn::open(server.port()).expect("a connection"))
        .collect();
    for conn in &mut conns {
        conn.send_raw(b"*1000000\r\n$500000000\r\nabc").expect("sent");
    }
    std::thread::sleep(Duration::from_millis(300));
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes for 25 GB announced");
    assert_eq!(server.connect().words("PING"), b"+PONG\r\n");
}

#[test]
fn a_reply_beyond_the_hard_output_limit_closes_its_connection_only() {
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let mut conn = server.connect();
    let value = vec![b'v'; 1 << 20];
    conn.call(&[b"SET".as_slice(), b"k", &value]);
    conn.call(&["CONFIG", "SET", "client-output-buffer-limit", "normal 100kb 0 0"]);
    assert!(server.connect().try_call(&["GET", "k"]).is_err());
    assert_eq!(conn.words("PING"), b"+PONG\r\n");
}
