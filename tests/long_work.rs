//! A command that takes long, and a disk that does, are felt by those who asked for them, and by nobody else.

mod common;

use common::{Conn, Server};
use std::time::{Duration, Instant};

const MEMBERS: usize = 1_000_000;

/// One worker thread: whatever it does not hand over stops everybody.
fn server() -> Server {
    Server::terrace(&["--io-threads", "1", "--range", "default", "*", "memory"])
}

/// Makes a set of so many members that work on all of them takes a tenth of a second and more.
fn fill(conn: &mut Conn) {
    let mut words = vec!["SADD".to_string(), "set".to_string()];
    for i in 0..MEMBERS {
        words.push(format!("member:{i}"));
        if words.len() == 20_002 {
            conn.call(&words);
            words.truncate(2);
        }
    }
}

/// Runs a command that takes long while others ask for what is quick: they have their replies before it ends.
fn others_go_on(server: &Server, long: &str, quick: &[&str]) {
    let mut busy = server.connect();
    std::thread::scope(|scope| {
        let began = Instant::now();
        let long_one = scope.spawn(move || {
            let reply = busy.words(long);
            assert_ne!(reply[0], b'-', "{long}: {}", common::show(&reply));
            Instant::now()
        });
        std::thread::sleep(Duration::from_millis(20));
        let mut others = Vec::new();
        for line in quick {
            let mut conn = server.connect();
            others.push((
                *line,
                scope.spawn(move || {
                    conn.words(line);
                    Instant::now()
                }),
            ));
        }
        let ended = long_one.join().expect("the long command");
        for (line, other) in others {
            let answered = other.join().expect("a quick command");
            assert!(
                answered < ended,
                "{line} waited for {long}, which took {:?}",
                ended - began
            );
        }
    });
}

#[test]
fn a_long_command_stops_nobody_else() {
    let server = &server();
    let mut conn = server.connect();
    fill(&mut conn);
    for long in [
        "SUNIONSTORE copy set",
        "SORT set ALPHA STORE sorted",
        "SDIFF set nothing",
        "SETRANGE string 500000000 x",
    ] {
        others_go_on(server, long, &["PING", "SET k v", "GET k"]);
    }
}

#[test]
fn those_who_wait_for_a_key_in_use_stop_nobody_else() {
    let server = &server();
    let mut conn = server.connect();
    fill(&mut conn);
    let mut waiting: Vec<Conn> = (0..4).map(|_| server.connect()).collect();
    let mut busy = server.connect();
    std::thread::scope(|scope| {
        let long = scope.spawn(move || {
            busy.words("SORT set ALPHA STORE sorted");
            Instant::now()
        });
        std::thread::sleep(Duration::from_millis(20));
        for conn in &mut waiting {
            conn.send_raw(b"*2\r\n$5\r\nSCARD\r\n$3\r\nset\r\n")
                .expect("sent");
        }
        std::thread::sleep(Duration::from_millis(20));
        conn.words("PING");
        let answered = Instant::now();
        assert!(answered < long.join().expect("the long command"));
    });
    for conn in &mut waiting {
        assert_eq!(conn.read_frame().expect("a reply"), b":1000000\r\n");
    }
}

/// `everysec` on a disk whose sync takes 2.5 seconds: what is acknowledged and not synced is never more than a second of
/// it, because the replies of further writes wait. Reads do not.
#[test]
fn with_a_slow_disk_replies_wait_so_that_a_crash_takes_no_more_than_a_second() {
    const SYNC: Duration = Duration::from_millis(2_500);
    let mut server = Server::terrace(&["--appendfsync", "everysec"]);
    server.terminate();
    server.set_env(&[("FAILPOINTS", "journal-sync=sleep(2500)")]);
    server.restart();
    let (mut conn, mut reader) = (server.connect(), server.connect());
    let began = Instant::now();
    let mut acknowledged = Vec::new();
    let mut slowest_read = Duration::ZERO;
    while began.elapsed() < 2 * SYNC {
        let sent = Instant::now();
        conn.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
            .expect("sent");
        std::thread::sleep(Duration::from_millis(5));
        let asked = Instant::now();
        assert!(!reader.words("GET other").is_empty());
        slowest_read = slowest_read.max(asked.elapsed());
        conn.read_frame().expect("a reply");
        acknowledged.push((sent, Instant::now()));
    }
    let longest = acknowledged
        .iter()
        .map(|(sent, at)| *at - *sent)
        .max()
        .expect("writes");
    assert!(longest > Duration::from_secs(1), "no reply waited: {longest:?}");
    assert!(
        slowest_read < Duration::from_secs(1),
        "a read waited: {slowest_read:?}"
    );
    // Of those that were sent before the first sync ended, none that was acknowledged is from later than a second in.
    let first = acknowledged[0].1;
    let early = acknowledged.iter().filter(|(_, at)| *at - first < SYNC);
    let last = early.map(|(_, at)| *at - first).max().expect("writes");
    assert!(
        last < Duration::from_millis(1_500),
        "acknowledged without a sync: {last:?}"
    );
    server.set_env(&[]);
}

/// The journal's writer is so far behind that more writes to durable ranges have to wait: nobody else does.
#[test]
fn with_a_full_journal_only_those_wait_who_write_to_durable_ranges() {
    const WRITE: Duration = Duration::from_millis(2_000);
    let words = ["--range", "m", "m:*", "memory", "--journal-ring-size", "64kb"];
    let mut server = Server::terrace(&words);
    let mut conn = server.connect();
    conn.words("SET old value");
    server.terminate();
    server.set_env(&[("FAILPOINTS", "journal-before-write=sleep(2000)")]);
    server.restart();
    let (mut conn, mut other) = (server.connect(), server.connect());
    let large = "v".repeat(40_000);
    let began = Instant::now();
    // The first is being written, the second fills the journal's memory.
    assert_eq!(conn.words("SET first v"), b"+OK\r\n");
    assert_eq!(conn.words(&format!("SET second {large}")), b"+OK\r\n");
    for (line, reply) in [
        ("PING", "+PONG\r\n"),
        ("GET old", "$5\r\nvalue\r\n"),
        ("SET m:1 v", "+OK\r\n"),
        ("MSET m:2 v m:3 v", "+OK\r\n"),
        ("EVAL_RO return(1) 1 old", ":1\r\n"),
    ] {
        assert_eq!(other.words(line), reply.as_bytes(), "{line}");
    }
    assert!(began.elapsed() < WRITE / 2, "they waited: {:?}", began.elapsed());
    assert_eq!(conn.words("SET third v"), b"+OK\r\n");
    assert!(
        began.elapsed() > WRITE / 2,
        "a write did not wait: {:?}",
        began.elapsed()
    );
    server.set_env(&[]);
}

#[test]
fn a_command_comes_to_its_end_where_its_keys_do_not_fit_into_memory() {
    let server = Server::terrace(&["--enable-debug-command", "yes"]);
    let mut conn = server.connect();
    let value = "v".repeat(10_000);
    for at in 0..50 {
        conn.words(&format!("SET key:{at} {value}"));
    }
    assert_eq!(conn.words("DEBUG RELOAD"), b"+OK\r\n");
    assert_eq!(conn.words("CONFIG SET maxmemory 100kb"), b"+OK\r\n");
    let keys: Vec<String> = (0..50).map(|at| format!("key:{at}")).collect();
    let began = Instant::now();
    for _ in 0..5 {
        let reply = conn.words(&format!("MGET {}", keys.join(" ")));
        assert!(reply.len() > 500_000, "{} bytes", reply.len());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
