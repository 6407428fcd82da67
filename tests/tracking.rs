//! CLIENT TRACKING with several clients: who is told what, in which order, as the real server does it.

mod common;

use common::stage::{PATIENCE, compare};
use common::{Conn, Server, encode, show};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_key_that_was_read_is_told_of_once() {
    compare(
        "a= HELLO 3
         a CLIENT TRACKING ON
         a GET k
         a HGET h f
         b SET k 1
         a?
         b SET k 2
         a PING
         a GET k
         b SET k 3
         a?
         a HGETALL h
         b HSET h f v
         a?
         b HSET h f w
         a EXISTS h
         b EXPIRE h 100
         a?
         a TTL h
         b PERSIST h
         a?
         a STRLEN k
         b DEL k
         a?
         a PING",
    );
}

#[test]
fn own_changes_are_told_of_behind_the_reply() {
    compare(
        "a= HELLO 3
         a CLIENT TRACKING ON
         a GET k
         a SET k 1
         a?
         a PING
         a MULTI
         a GET k
         a SET k 2
         a GET l
         a RPUSH l 1
         a EXEC
         a?
         a?
         a PING
         a CLIENT TRACKING ON NOLOOP
         a GET k
         a SET k 3
         a PING
         b SET k 4
         a GET k
         b SET k 5
         a?
         a PING",
    );
}

#[test]
fn every_key_of_a_command_is_remembered_and_only_of_reads() {
    compare(
        "a= HELLO 3
         a CLIENT TRACKING ON
         a MGET k1 k2 k3
         b MSET k1 1 k2 1 k3 1
         a?
         a?
         a?
         a SINTER s1 s2
         a OBJECT ENCODING k4
         a SORT_RO l1
         a SORT l2
         a GETEX k5
         a LPUSH l3 x
         a LRANGE k1 0 1
         b SADD s2 x
         a?
         b SET k4 1
         a?
         b RPUSH l1 1
         a?
         b RPUSH l2 1
         b SET k5 1
         b LPUSH l3 y
         b SET k1 2
         a?
         a XREAD STREAMS st 0
         b XADD st 1-1 a b
         a?
         a XLEN st
         b XGROUP CREATE st g 0
         b XREADGROUP GROUP g c STREAMS st >
         b XACK st g 1-1
         b XGROUP DESTROY st g
         a PING
         b XTRIM st MAXLEN 0
         a?
         a XLEN new
         b XGROUP CREATE new g 0 MKSTREAM
         a?
         a PING",
    );
}

#[test]
fn names_that_change_hands_are_both_told_of() {
    compare(
        "a= HELLO 3
         a CLIENT TRACKING ON
         b MSET k 1 l 2
         a MGET k l m
         b RENAME k l
         a?
         a?
         b COPY l m
         a?
         a MGET l m
         b MOVE l 3
         a?
         b GETDEL m
         a?
         a LLEN list
         b RPUSH list 1
         a?
         a LLEN list
         b LPOP list
         a?
         a PING",
    );
}

#[test]
fn a_flush_is_told_of_as_all_keys() {
    compare(
        "a= HELLO 3
         a CLIENT TRACKING ON
         c= HELLO 3
         c CLIENT TRACKING ON BCAST PREFIX x
         a GET k
         b FLUSHDB
         a?
         c?
         b SET k 1
         a PING
         a GET k
         a FLUSHALL
         a?
         c?
         a MULTI
         a FLUSHALL
         a SET k 1
         a EXEC
         a?
         c?
         a PING
         c PING",
    );
}

#[test]
fn prefixes_are_told_of_with_all_keys_at_once() {
    compare(
        "a= HELLO 3
         a CLIENT TRACKING ON BCAST PREFIX x PREFIX y
         c= HELLO 3
         c CLIENT TRACKING ON BCAST
         b MSET x2 1 y1 1 z 1 x1 0
         a?
         a?
         c?
         b DEL x2 nokey
         a?
         c?
         a SET x1 1
         a?
         c?
         a CLIENT TRACKING ON BCAST NOLOOP PREFIX w
         a SET x1 2
         c?
         b SET x1 3
         a?
         c?
         a CLIENT TRACKING OFF
         b SET x1 4
         c?
         a PING
         b MULTI
         b SET x1 5
         b SET x0 5
         b EXEC
         c?
         c PING",
    );
}

#[test]
fn caching_is_said_for_one_command_or_transaction() {
    compare(
        "a= HELLO 3
         a CLIENT TRACKING ON OPTIN
         a GET k1
         a CLIENT CACHING YES
         a CLIENT GETNAME
         a GET k2
         a GET k3
         b MSET k1 1 k2 1 k3 1
         a?
         a CLIENT CACHING YES
         a MULTI
         a GET k1
         a GET k2
         a EXEC
         a GET k3
         b MSET k1 1 k2 1 k3 1
         a?
         a?
         a MULTI
         a CLIENT CACHING YES
         a GET k1
         a EXEC
         a GET k2
         b MSET k1 1 k2 1
         a?
         a CLIENT CACHING YES
         a NOSUCH
         a GET k1
         a CLIENT CACHING YES
         a GET
         a GET k1
         b SET k1 1
         a CLIENT TRACKING OFF
         a CLIENT TRACKING ON OPTOUT
         a GET k1
         a CLIENT CACHING NO
         a GET k2
         a GET k3
         b MSET k1 1 k2 1 k3 1
         a?
         a?
         a PING",
    );
}

#[test]
fn another_connection_is_told_in_the_older_protocol() {
    compare(
        "r SUBSCRIBE __redis__:invalidate
         a CLIENT TRACKING ON REDIRECT {r}
         a GET k
         b SET k 1
         r?
         a GET k
         a SET k 2
         a PING
         r?
         b FLUSHALL
         r?
         a CLIENT TRACKING OFF
         a CLIENT TRACKING ON BCAST REDIRECT {r}
         b SET k 3
         r?
         c CLIENT TRACKING ON
         c GET k
         b SET k 4
         r?
         c PING
         r~
         b SET k 5
         a PING
         a= CLIENT TRACKINGINFO
         c PING",
    );
}

#[test]
fn who_waits_for_a_key_is_told_too() {
    compare(
        "a= HELLO 3
         a CLIENT TRACKING ON
         a! XREAD BLOCK 0 STREAMS s $
         b XADD s 1-1 a b
         a?
         a?
         a GET k
         a! BLPOP l 0
         b SET k 1
         a?
         b RPUSH l x
         a?
         a PING",
    );
}

fn words(conn: &mut Conn, line: &str) -> String {
    show(&conn.words(line))
}

fn tracker(server: &Server) -> Conn {
    let mut conn = server.connect();
    conn.words("HELLO 3");
    conn.words("CLIENT TRACKING ON");
    conn
}

fn stat(conn: &mut Conn, name: &str) -> i64 {
    let info = conn.bulk("INFO everything").expect("info");
    let info = String::from_utf8_lossy(&info);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect(name).parse().expect("a number")
}

#[test]
fn expired_and_evicted_keys_are_told_of_by_themselves() {
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let (mut a, mut b) = (tracker(&server), server.connect());
    b.words("SET soon v PX 400");
    a.words("GET soon");
    let frame = show(&a.read_frame().expect("an invalidation"));
    assert!(
        frame.starts_with(">2") && frame.ends_with("soon\\r\\n"),
        "{frame}"
    );
    b.words("HSET h f v");
    b.words("HPEXPIRE h 400 FIELDS 1 f");
    a.words("HGETALL h");
    let frame = show(&a.read_frame().expect("an invalidation"));
    assert!(frame.ends_with("h\\r\\n"), "{frame}");
    for i in 0..100 {
        b.words(&format!("SET evict:{i} {}", "x".repeat(1000)));
        a.words(&format!("STRLEN evict:{i}"));
    }
    b.words("CONFIG SET maxmemory-policy allkeys-lru");
    b.words("CONFIG SET maxmemory 1mb");
    for i in 0..3000 {
        b.words(&format!("SET fill:{i} {}", "x".repeat(1000)));
    }
    let frame = show(&a.read_frame().expect("an invalidation"));
    assert!(frame.contains("evict:"), "{frame}");
}

#[test]
fn who_is_told_in_the_place_of_another_may_go() {
    for server in [Server::redis(&[]), Server::terrace(&[])] {
        let (mut a, mut b, mut other) = (server.connect(), server.connect(), server.connect());
        a.words("HELLO 3");
        other.words("HELLO 3");
        let id = other.integer("CLIENT ID");
        a.words(&format!("CLIENT TRACKING ON REDIRECT {id}"));
        assert_eq!(a.integer("CLIENT GETREDIR"), id);
        a.words("GET k");
        b.words("SET k 1");
        assert!(show(&other.read_frame().expect("an invalidation")).ends_with("k\\r\\n"));
        a.words("MGET k l");
        drop(other);
        let began = Instant::now();
        while is_connected(&mut b, id) {
            assert!(began.elapsed() < PATIENCE, "the other is gone");
        }
        let broken = format!(">2\\r\\n$21\\r\\ntracking-redir-broken\\r\\n:{id}\\r\\n");
        for change in ["SET k 2", "DEL k", "SET l 1", "FLUSHALL"] {
            b.words(change);
            if change != "DEL k" {
                assert_eq!(show(&a.read_frame().expect("a message")), broken, "{change}");
            }
        }
        let info = show(&a.words("CLIENT TRACKINGINFO"));
        assert!(info.contains("broken_redirect"), "{info}");
        let line = show(&a.words("CLIENT INFO"));
        assert!(
            line.contains(" flags=tR ") && line.contains(&format!(" redir={id} ")),
            "{line}"
        );
    }
}

fn is_connected(conn: &mut Conn, id: i64) -> bool {
    let (list, id) = (conn.bulk("CLIENT LIST").expect("a list"), format!("id={id} "));
    String::from_utf8_lossy(&list)
        .lines()
        .any(|line| line.starts_with(&id))
}

/// The table is bounded: keys that chance brings are to be forgotten, and told of.
#[test]
fn too_many_keys_are_forgotten() {
    let server = Server::terrace(&[]);
    let (mut a, mut b) = (tracker(&server), server.connect());
    b.words("CONFIG SET tracking-table-max-keys 10");
    let mut told = 0;
    for i in 0..100 {
        a.send_raw(&encode(&["GET", &format!("k{i}")])).expect("sent");
        a.send_raw(&encode(&["PING"])).expect("sent");
        loop {
            let frame = show(&a.read_frame().expect("a frame"));
            told += i64::from(frame.starts_with(">2"));
            if frame.contains("PONG") {
                break;
            }
        }
    }
    assert_eq!(told, 90);
    assert_eq!(stat(&mut b, "tracking_total_keys"), 10);
    assert_eq!(stat(&mut b, "tracking_total_items"), 10);
    b.words("CONFIG SET tracking-table-max-keys 0");
    for i in 0..100 {
        assert_eq!(words(&mut a, &format!("GET other{i}")), "_\\r\\n");
    }
    assert_eq!(stat(&mut b, "tracking_total_keys"), 110);
}

#[test]
fn nothing_is_left_of_trackers_that_are_gone() {
    let server = Server::terrace(&[]);
    let mut control = server.connect();
    let before = stat(&mut control, "pubsub_key_bytes");
    for round in 0..3 {
        let mut clients: Vec<Conn> = (0..20).map(|_| tracker(&server)).collect();
        for client in &mut clients {
            for key in 0..200 {
                client.words(&format!("GET k{key}"));
            }
        }
        let mut broadcast = server.connect();
        broadcast.words("HELLO 3");
        broadcast.words("CLIENT TRACKING ON BCAST PREFIX p PREFIX q");
        assert_eq!(stat(&mut control, "tracking_clients"), 21);
        assert_eq!(stat(&mut control, "tracking_total_keys"), 200);
        assert_eq!(stat(&mut control, "tracking_total_items"), 4000);
        assert_eq!(stat(&mut control, "tracking_total_prefixes"), 2);
        assert_eq!(stat(&mut control, "pubsub_key_subscriptions"), 0);
        control.words("MSET k0 1 k1 1 k2 1");
        assert_eq!(stat(&mut control, "tracking_total_items"), 197 * 20);
        match round {
            0 => {
                for client in clients.iter_mut().chain([&mut broadcast]) {
                    client.send_raw(&encode(&["RESET"])).expect("sent");
                    while !show(&client.read_frame().expect("a frame")).contains("RESET") {}
                }
            }
            1 => {
                for client in clients.iter_mut().chain([&mut broadcast]) {
                    client
                        .send_raw(&encode(&["CLIENT", "TRACKING", "OFF"]))
                        .expect("sent");
                    while !show(&client.read_frame().expect("a frame")).contains("OK") {}
                }
            }
            _ => drop((clients, broadcast)),
        }
        let began = Instant::now();
        while stat(&mut control, "tracking_clients") > 0 {
            assert!(began.elapsed() < PATIENCE, "trackers are gone");
        }
        for name in [
            "tracking_total_keys",
            "tracking_total_items",
            "tracking_total_prefixes",
        ] {
            assert_eq!(stat(&mut control, name), 0, "{name} in round {round}");
        }
        assert_eq!(stat(&mut control, "pubsub_key_bytes"), before, "round {round}");
    }
}

/// Caches that do what the messages say are never wrong for long: when writers pause, each holds what the keys hold.
#[test]
fn what_is_cached_is_what_the_keys_hold() {
    const KEYS: usize = 20;
    for args in [&["--range", "default", "*", "memory"][..], &[]] {
        let server = Server::terrace(args);
        let stop = AtomicBool::new(false);
        let (server, stop) = (&server, &stop);
        std::thread::scope(|scope| {
            for writer in 0..3u64 {
                scope.spawn(move || {
                    let (mut conn, mut rng) = (server.connect(), fastrand::Rng::with_seed(writer));
                    while !stop.load(Ordering::Relaxed) {
                        let (key, n) = (rng.usize(..KEYS), rng.usize(..1000));
                        match rng.usize(..10) {
                            0 => drop(conn.words(&format!("DEL k{key}"))),
                            1 => drop(conn.words(&format!("SET k{key} {n} PX 5"))),
                            2 => drop(conn.words(&format!("RENAME k{key} k{}", (key + 1) % KEYS))),
                            3 if n < 20 => drop(conn.words("FLUSHALL")),
                            _ => drop(conn.words(&format!("SET k{key} {n}"))),
                        }
                    }
                });
            }
            let _stop = Stop(stop);
            let (mut conn, mut rng) = (tracker(server), fastrand::Rng::with_seed(99));
            let mut cache: Vec<Option<Vec<u8>>> = vec![None; KEYS];
            let mut control = server.connect();
            for _ in 0..5 {
                let began = Instant::now();
                while began.elapsed() < Duration::from_millis(300) {
                    let key = rng.usize(..KEYS);
                    if cache[key].is_none() {
                        conn.send_raw(&encode(&["GET", &format!("k{key}")]))
                            .expect("sent");
                        let value = read_reply(&mut conn, &mut cache);
                        cache[key] = Some(value);
                    } else {
                        ping(&mut conn, &mut cache);
                    }
                }
                control.words("CLIENT PAUSE 5000 WRITE");
                std::thread::sleep(Duration::from_millis(100));
                // What has expired is deleted, and told of, when it is looked at.
                let held: Vec<Vec<u8>> = (0..KEYS).map(|key| value_of(&mut control, key)).collect();
                ping(&mut conn, &mut cache);
                for (key, cached) in cache.iter().enumerate() {
                    if let Some(cached) = cached {
                        assert_eq!(show(cached), show(&held[key]), "k{key} with {args:?}");
                    }
                }
                control.words("CLIENT UNPAUSE");
            }
        });
    }
}

/// As a client of the newer protocol sees it.
fn value_of(control: &mut Conn, key: usize) -> Vec<u8> {
    match control.words(&format!("GET k{key}")) {
        reply if reply == b"$-1\r\n" => b"_\r\n".to_vec(),
        reply => reply,
    }
}

fn ping(conn: &mut Conn, cache: &mut [Option<Vec<u8>>]) {
    conn.send_raw(&encode(&["PING"])).expect("sent");
    read_reply(conn, cache);
}

/// Reads up to the next reply, and forgets what the messages before it say.
fn read_reply(conn: &mut Conn, cache: &mut [Option<Vec<u8>>]) -> Vec<u8> {
    loop {
        let frame = conn.read_frame().expect("a frame");
        if !frame.starts_with(b">") {
            return frame;
        }
        let text = show(&frame);
        if text.ends_with("_\\r\\n") {
            cache.fill(None);
            continue;
        }
        cache[key_of(&text)] = None;
    }
}

/// The number of the key that a message ends with.
fn key_of(message: &str) -> usize {
    let names = message.split("\\r\\n").filter(|word| word.starts_with('k'));
    let name = names.last().expect("a key");
    name[1..].parse().expect("a number")
}

/// Ends the threads of a test, also when it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Who leaves by RESET speaks the older protocol from then on, in which nothing can be told from a reply.
#[test]
fn nothing_comes_behind_the_reply_of_reset() {
    let server = Server::terrace(&[]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = server.connect();
            while !done.load(Ordering::Relaxed) {
                writer.send_raw(&b"SET k v\r\n".repeat(10)).expect("sent");
                (0..10).for_each(|_| drop(writer.read_frame().expect("a reply")));
            }
        });
        let mut conn = server.connect();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            for asked in [&["HELLO 3", "CLIENT TRACKING ON BCAST"][..], &["MONITOR"]] {
                for line in asked {
                    conn.send_raw(format!("{line}\r\n").as_bytes()).expect("sent");
                    conn.read_frame().expect("a reply");
                }
                conn.send_raw(b"RESET\r\n").expect("sent");
                while conn.read_frame().expect("a frame") != b"+RESET\r\n" {}
                conn.send_raw(b"ECHO end\r\n").expect("sent");
                assert_eq!(show(&conn.read_frame().expect("a reply")), "$3\\r\\nend\\r\\n");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
