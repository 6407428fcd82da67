//! What is told of changes of keys: event by event as the real server tells it, and what this server tells beyond.

mod common;

use common::{Conn, Server, Value, encode, show};
use std::time::Duration;

const MEMORY: [&str; 4] = ["--range", "default", "*", "memory"];

/// Runs a script on a server that tells everything; returns the events, with the commands between them.
fn events(server: &Server, script: &str) -> Vec<String> {
    let mut conn = server.connect();
    conn.words("CONFIG SET notify-keyspace-events AKEnm");
    let mut listener = server.connect();
    listener.words("PSUBSCRIBE __key*");
    let mut told = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(ms) = line.strip_prefix("@sleep ") {
            std::thread::sleep(Duration::from_millis(ms.parse().expect("milliseconds")));
        } else if let Some(words) = line.strip_prefix("@restore ") {
            restore(&mut conn, &words.split(' ').collect::<Vec<_>>());
        } else {
            conn.words(line);
        }
        conn.call(&["PUBLISH", "__key-command", line]);
        loop {
            let frame = show(&listener.read_frame().expect("an event"));
            let words: Vec<&str> = frame.split("\\r\\n").skip(4).step_by(2).collect();
            let words = words.join(" ");
            let is_last = words.contains("__key-command");
            told.push(words);
            if is_last {
                break;
            }
        }
    }
    told
}

/// `from to options …`: what is dumped of one key is restored as another.
fn restore(conn: &mut Conn, words: &[&str]) {
    let dumped = conn.call(&["DUMP", words[0]]);
    let Value::Bulk(_, payload) = Value::parse(&dumped) else {
        panic!("nothing to dump of {}", words[0])
    };
    let mut args: Vec<&[u8]> = vec![b"RESTORE", words[1].as_bytes(), b"0", &payload];
    args.extend(words[2..].iter().map(|word| word.as_bytes()));
    conn.call(&args);
}

/// Plays a script on the real server and on both tiers.
fn compare(script: &str) {
    let redis = Server::redis(&[]);
    let expected = events(&redis, script);
    for args in [&MEMORY[..], &[]] {
        let terrace = Server::terrace(args);
        let got = events(&terrace, script);
        let differs = expected.iter().zip(&got).position(|(a, b)| a != b);
        let at = differs.unwrap_or(expected.len().min(got.len()));
        let part = |all: &[String]| all[at.saturating_sub(6)..(at + 8).min(all.len())].join("\n    ");
        assert!(
            expected == got,
            "with {args:?}\n  redis:\n    {}\n  terrace:\n    {}",
            part(&expected),
            part(&got)
        );
    }
}

#[test]
fn strings() {
    compare(
        "SET k v
         SET k w EX 100
         SET k w KEEPTTL
         SET k x NX
         SET k x XX GET
         SETNX k v
         SETNX k2 v
         SETEX k 100 v
         PSETEX k 100000 v
         GETSET k v
         GETSET k3 v
         APPEND k abc
         APPEND k4 abc
         SETRANGE k 2 zz
         SETRANGE k5 0 zz
         SETRANGE k6 3 zz
         MSET a 1 b 2 a 3
         MSETNX a 1 c 2
         MSETNX c 1 d 2
         INCR a
         DECR a
         INCRBY a 5
         DECRBY a 5
         INCR n
         INCRBYFLOAT a 1.5
         INCRBYFLOAT f 1.5
         INCR k
         GETDEL a
         GETDEL a
         GETEX b
         GETEX b EX 100
         GETEX b PERSIST
         GETEX b PERSIST
         GETEX b PXAT 1
         GET nokey
         MGET k nokey
         STRLEN nokey
         GETRANGE nokey 0 1
         SETBIT bits 7 1
         SETBIT bits 7 1
         BITFIELD bits SET u8 0 5 INCRBY u8 8 1
         BITFIELD bits GET u8 0
         BITFIELD bits SET u8 0 5
         BITOP AND dest bits bits
         BITOP AND dest nokey nokey2
         BITOP AND dest nokey nokey2
         BITCOUNT nokey
         PFADD hll a b
         PFADD hll a b
         PFADD empty
         PFCOUNT hll
         PFCOUNT hll empty
         PFMERGE merged hll empty
         PFMERGE merged hll
         DEL k k2 nokey
         UNLINK k3
         TYPE nokey
         EXISTS nokey k4",
    );
}

#[test]
fn keys() {
    compare(
        "SET a 1
         SET b 2
         EXPIRE a 100
         EXPIRE a 100 NX
         EXPIRE nokey 100
         PEXPIRE a 100000
         EXPIREAT a 33177117420
         PEXPIREAT a 33177117420000
         PERSIST a
         PERSIST a
         EXPIRE b -1
         SET b 2
         PEXPIREAT b 1
         RENAME a c
         SET d 1
         RENAME c d
         RENAME d d
         RENAME nokey x
         SET e 1 EX 100
         RENAMENX d e
         RENAMENX e g
         COPY g h
         COPY g h
         COPY g h REPLACE
         COPY g h DB 3
         COPY nokey i
         MOVE g 2
         MOVE g 2
         MOVE nokey 2
         SELECT 2
         MOVE g 0
         SELECT 0
         RPUSH l 3 1 2
         SORT l
         SORT l STORE sorted
         SORT nokey STORE sorted
         SORT nokey STORE sorted
         TOUCH g nokey
         TTL nokey
         OBJECT ENCODING nokey
         DUMP nokey
         SET m 1
         FLUSHDB
         SET m 1
         SWAPDB 0 1
         FLUSHALL
         RANDOMKEY
         KEYS *",
    );
}

#[test]
fn lists() {
    compare(
        "RPUSH l 1 2 3
         RPUSH l 4
         LPUSH l 0
         LPUSH l2 0
         LPUSHX l 9
         RPUSHX l 9
         LPUSHX nokey 9
         LINSERT l BEFORE 2 x
         LINSERT l BEFORE nope x
         LSET l 0 y
         LREM l 0 nope
         LREM l 0 y
         LPOP l
         RPOP l
         LPOP l 2
         LPOP l 0
         LPOP nokey
         LTRIM l 0 -1
         LTRIM l 0 0
         LTRIM l 5 9
         LPOP l2
         RPUSH s 1 2 3
         LMOVE s d LEFT RIGHT
         LMOVE s d RIGHT LEFT
         LMOVE s d LEFT LEFT
         LMOVE s d LEFT LEFT
         LMOVE d d LEFT RIGHT
         LMOVE d d LEFT LEFT
         RPOPLPUSH d d
         RPOPLPUSH d e
         BLMOVE d e LEFT RIGHT 0
         BRPOPLPUSH d e 0
         BLPOP e 0
         BRPOP e 0
         BLPOP e 0
         RPUSH m 1 2 3 4
         LMPOP 2 nokey m LEFT COUNT 2
         BLMPOP 0 1 m RIGHT COUNT 9
         RPUSH x 1
         RPOP x 5
         LRANGE nokey 0 1
         LLEN nokey
         LINDEX nokey 0
         LPOS nokey 0",
    );
}

#[test]
fn sets() {
    compare(
        "SADD s a b c
         SADD s a
         SADD s a d
         SREM s nope
         SREM s a
         SREM nokey a
         SMOVE s t b
         SMOVE s t nope
         SMOVE s t c
         SMOVE s t d
         SMOVE t t b
         SADD u b
         SMOVE u t b
         SPOP t
         SPOP t 1
         SPOP t 0
         SPOP t 5
         SPOP nokey
         SPOP nokey 2
         SADD one x
         SPOP one
         SADD p 1 2 3
         SADD q 2 3 4
         SINTERSTORE d p q
         SINTERSTORE d p q
         SINTERSTORE d p nokey
         SINTERSTORE d p nokey
         SUNIONSTORE d p q
         SDIFFSTORE d p q
         SDIFFSTORE d p p
         SREM p 1 2 3
         SCARD nokey
         SMEMBERS nokey
         SISMEMBER nokey a
         SINTER nokey nokey2
         SRANDMEMBER nokey",
    );
}

#[test]
fn hashes() {
    compare(
        "HSET h a 1 b 2
         HSET h a 1
         HMSET h c 3
         HSETNX h c 4
         HSETNX h d 4
         HINCRBY h a 1
         HINCRBY new a 1
         HINCRBYFLOAT h a 1.5
         HINCRBYFLOAT newf a 1.5
         HINCRBY h c x
         HDEL h nope
         HDEL h a
         HDEL h b c d
         HDEL h b
         HGET nokey a
         HGETALL nokey
         HLEN nokey
         HRANDFIELD nokey
         HSCAN nokey 0",
    );
}

#[test]
fn sorted_sets() {
    compare(
        "ZADD z 1 a 2 b 3 c
         ZADD z 1 a
         ZADD z 5 a
         ZADD z XX 9 nope
         ZADD z INCR 1 a
         ZADD z NX INCR 1 a
         ZINCRBY z 1 a
         ZINCRBY new 1 a
         ZREM z nope
         ZREM z a
         ZADD z 1 a 4 d 5 e 6 f 7 g 8 h
         ZREMRANGEBYRANK z 0 0
         ZREMRANGEBYRANK z 90 99
         ZREMRANGEBYSCORE z 2 2
         ZREMRANGEBYLEX z - (d
         ZPOPMIN z
         ZPOPMAX z
         ZPOPMIN z 2
         ZPOPMIN z 0
         ZPOPMAX z 9
         ZPOPMAX z
         ZADD p 1 a 2 b
         ZADD q 2 b 3 c
         ZUNIONSTORE d 2 p q
         ZINTERSTORE d 2 p q
         ZDIFFSTORE d 2 p q
         ZDIFFSTORE d 2 p p
         ZDIFFSTORE d 2 p p
         ZRANGESTORE d p 0 -1
         ZRANGESTORE d p 5 9
         ZMPOP 2 nokey p MIN
         BZMPOP 0 1 p MAX COUNT 9
         BZPOPMIN q 0
         BZPOPMAX q 0
         ZADD w 1 a
         ZREMRANGEBYSCORE w -inf +inf
         GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
         GEOADD g 13.361389 38.115556 Palermo
         GEOSEARCHSTORE dest g FROMLONLAT 15 37 BYRADIUS 200 km
         GEOSEARCHSTORE dest g FROMLONLAT 0 0 BYRADIUS 1 km
         GEORADIUS g 15 37 200 km STORE dest
         GEORADIUSBYMEMBER g Palermo 200 km STOREDIST dest
         GEORADIUS g 0 0 1 km STORE dest
         ZSCORE nokey a
         ZRANGE nokey 0 -1
         ZCARD nokey",
    );
}

#[test]
fn streams() {
    compare(
        "XADD s 1-1 a 1
         XADD s 1-2 a 1
         XADD s NOMKSTREAM 1-3 a 1
         XADD nokey NOMKSTREAM 1-3 a 1
         XADD s MAXLEN 2 1-4 a 1
         XADD s MAXLEN 9 1-5 a 1
         XDEL s 1-4
         XDEL s 9-9
         XTRIM s MAXLEN 1
         XTRIM s MAXLEN 1
         XSETID s 5-5
         XGROUP CREATE s g 0
         XGROUP CREATE s g 0
         XGROUP CREATE made g $ MKSTREAM
         XGROUP CREATECONSUMER s g bob
         XGROUP CREATECONSUMER s g bob
         XGROUP SETID s g 0
         XREADGROUP GROUP g alice STREAMS s >
         XREADGROUP GROUP g alice STREAMS s 0
         XREADGROUP GROUP g alice STREAMS s >
         XACK s g 1-5
         XREADGROUP GROUP g bob STREAMS s >
         XADD s 6-1 a 1
         XREADGROUP GROUP g bob STREAMS s >
         XCLAIM s g carol 0 6-1
         XAUTOCLAIM s g dave 0 0
         XPENDING s g
         XGROUP DELCONSUMER s g bob
         XGROUP DELCONSUMER s g nobody
         XGROUP DESTROY s g
         XGROUP DESTROY s g
         XRANGE nokey - +
         XLEN nokey",
    );
}

#[test]
fn keys_from_elsewhere_and_keys_that_leave() {
    let other = Server::redis(&[]);
    compare(&format!(
        "SET s v
         RPUSH l 1 2
         @restore s t
         @restore s t
         @restore l t REPLACE
         @restore l t REPLACE IDLETIME 5
         @restore s gone REPLACE ABSTTL
         MIGRATE 127.0.0.1 {port} s 0 5000 REPLACE
         MIGRATE 127.0.0.1 {port} l 0 5000 COPY REPLACE
         MIGRATE 127.0.0.1 {port} none 0 5000
         EXISTS s l",
        port = other.port()
    ));
}

#[test]
fn what_expires_is_told() {
    compare(
        "SET k v PX 30
         @sleep 400
         SET lazy v PX 1
         @sleep 400
         RPUSH l 1
         PEXPIRE l 20
         @sleep 400
         GET k
         EXISTS l",
    );
}

#[test]
fn whoever_waits_is_told_of_behind_the_push() {
    for args in [&MEMORY[..], &[]] {
        let server = Server::terrace(args);
        let redis = Server::redis(&[]);
        let told = [&redis, &server].map(|server| {
            let mut waiting = server.connect();
            waiting.send_raw(&encode(&["BLPOP", "k", "0"])).expect("sent");
            let mut conn = server.connect();
            while !String::from_utf8_lossy(&conn.bulk("INFO clients").expect("a text"))
                .contains("blocked_clients:1")
            {}
            events(server, "RPUSH k 1 2\nLLEN k")
        });
        assert_eq!(told[0], told[1], "with {args:?}");
    }
}

fn message(conn: &mut Conn) -> String {
    let frame = show(&conn.read_frame().expect("a message"));
    let words: Vec<&str> = frame.split("\\r\\n").skip(2).step_by(2).collect();
    words.join(" ")
}

/// Nothing is configured: a subscription by name is enough.
#[test]
fn a_key_is_watched_by_its_name() {
    for args in [&MEMORY[..], &[]] {
        let server = Server::terrace(args);
        let (mut watcher, mut conn) = (server.connect(), server.connect());
        watcher.words("SUBSCRIBE __keyspace@0__:k");
        for line in [
            "SET other 1",
            "SET k 1",
            "APPEND k 2",
            "GET k",
            "GET nokey",
            "PEXPIRE k 50",
        ] {
            conn.words(line);
        }
        for event in ["set", "append", "expire", "expired"] {
            assert_eq!(
                message(&mut watcher),
                format!("message __keyspace@0__:k {event}"),
                "{args:?}"
            );
        }
        // A watch outlives its key, a flush, and an exchange of databases.
        conn.words("FLUSHALL");
        conn.words("RPUSH k 1");
        assert_eq!(message(&mut watcher), "message __keyspace@0__:k rpush");
        conn.words("SWAPDB 0 1");
        conn.words("SET k 1");
        assert_eq!(message(&mut watcher), "message __keyspace@0__:k set");
        conn.words("SELECT 1");
        conn.words("SET k 1");
        conn.words("SWAPDB 0 1");
        conn.words("DEL k");
        conn.words("SELECT 0");
        conn.words("DEL k");
        assert_eq!(message(&mut watcher), "message __keyspace@0__:k del");
        // Who is not there any more costs nothing and gets nothing.
        watcher.words("UNSUBSCRIBE");
        conn.words("SET k 1");
        assert_eq!(show(&watcher.words("ECHO x")), "$1\\r\\nx\\r\\n");
    }
}

/// Nobody looks at the keys: entries in memory, rows on disk, rows that are sealed.
#[test]
fn keys_expire_within_a_second_wherever_they_are() {
    let places: [(&[&str], &[&str]); 4] = [
        (&[], &[]),
        (&[], &["DEBUG FLUSH", "DEBUG DROP-CLEAN"]),
        (&MEMORY, &[]),
        (&MEMORY, &["DEBUG SEAL"]),
    ];
    for (args, steps) in places {
        let args = [args, &["--enable-debug-command", "yes"]].concat();
        let server = Server::terrace(&args);
        let (mut conn, mut by_name, mut all) = (server.connect(), server.connect(), server.connect());
        conn.words("CONFIG SET notify-keyspace-events Ex");
        let due = unix_ms() + 1_500;
        for i in 0..100 {
            conn.words(&format!("SET k{i} v PXAT {due}"));
        }
        for step in steps {
            assert!(!conn.words(step).starts_with(b"-"), "{step}");
        }
        by_name.words("SUBSCRIBE __keyspace@0__:k7");
        all.words("SUBSCRIBE __keyevent@0__:expired");
        assert_eq!(message(&mut by_name), "message __keyspace@0__:k7 expired");
        let mut told: Vec<String> = (0..100).map(|_| message(&mut all)).collect();
        let late_ms = unix_ms() - due;
        assert!(
            (0..1_000).contains(&late_ms),
            "{late_ms} ms late, after {steps:?}"
        );
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 100, "after {steps:?}");
    }
}

fn unix_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a time after 1970").as_millis() as i64
}

#[test]
fn evicted_keys_are_told() {
    let args = [
        &MEMORY[..],
        &["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random"],
    ]
    .concat();
    let server = Server::terrace(&args);
    let (mut listener, mut conn) = (server.connect(), server.connect());
    conn.words("CONFIG SET notify-keyspace-events Ee");
    listener.words("SUBSCRIBE __keyevent@0__:evicted");
    let value = "x".repeat(1_000);
    for i in 0..5_000 {
        conn.call(&["SET", &format!("k{i}"), &value]);
    }
    assert!(message(&mut listener).starts_with("message __keyevent@0__:evicted k"));
}

#[test]
fn each_range_tells_what_it_is_told_to() {
    let args = [
        "--range", "default", "*", "memory", "--range", "loud", "loud:*", "memory", "notify", "KEA",
    ];
    let server = Server::terrace(&args);
    let (mut listener, mut conn) = (server.connect(), server.connect());
    listener.words("PSUBSCRIBE __key*");
    conn.words("SET quiet:k 1");
    conn.words("SET loud:k 1");
    assert_eq!(
        message(&mut listener),
        "pmessage __key* __keyspace@0__:loud:k set"
    );
    assert_eq!(
        message(&mut listener),
        "pmessage __key* __keyevent@0__:set loud:k"
    );
}

/// The payload of the next message: its first line, and what follows it.
fn news(conn: &mut Conn) -> (String, Vec<u8>) {
    parse_news(&conn.read_frame().expect("a message"))
}

fn parse_news(frame: &[u8]) -> (String, Vec<u8>) {
    let common::Value::List(_, words) = common::Value::parse(frame) else {
        panic!("{}", show(frame))
    };
    let common::Value::Bulk(_, payload) = &words[2] else {
        panic!("{}", show(frame))
    };
    let end = payload.iter().position(|byte| *byte == b'\n').expect("a line");
    let line = String::from_utf8_lossy(&payload[..end]).into_owned();
    (line, payload[end + 1..].to_vec())
}

#[test]
fn a_value_comes_with_its_change() {
    let server = Server::terrace(&MEMORY);
    let (mut watcher, mut conn) = (server.connect(), server.connect());
    conn.words("SET k before");
    watcher.words("SUBSCRIBE __keyvalue@0__:k");
    assert_eq!(news(&mut watcher), ("now 0 value".into(), b"before".to_vec()));
    for line in [
        "APPEND k x",
        "SET k y EX 1000",
        "PERSIST k",
        "DEL k",
        "RPUSH k 1 2",
        "LPOP k",
        "RENAME k l",
        "RENAME l k",
    ] {
        conn.words(line);
    }
    let mut expect = |line: &str, bytes: &[u8]| {
        let (got_line, got) = news(&mut watcher);
        assert_eq!((&got_line[..], show(&got)), (line, show(bytes)));
    };
    expect("append 0 value", b"beforex");
    expect("set 0 value more", b"y");
    let (line, bytes) = news(&mut watcher);
    assert!(
        line == "expire 0 effects" && bytes.starts_with(b"*3\r\n$9\r\nPEXPIREAT"),
        "{line}"
    );
    let mut expect = |line: &str, bytes: &[u8]| {
        let (got_line, got) = news(&mut watcher);
        assert_eq!((&got_line[..], show(&got)), (line, show(bytes)));
    };
    expect("persist 0 effects", &encode(&["PERSIST", "k"]));
    expect("del 0 gone", b"");
    expect("rpush 0 effects", &encode(&["RPUSH", "k", "1", "2"]));
    expect("lpop 0 effects", &encode(&["LPOP", "k"]));
    expect("rename_from 0 gone", b"");
    let (line, bytes) = news(&mut watcher);
    assert!(
        line == "rename_to 0 effects" && bytes.starts_with(b"*6\r\n$7\r\nRESTORE"),
        "{line}"
    );
    let mut late = server.connect();
    late.words("SUBSCRIBE __keyvalue@0__:k");
    let (line, bytes) = news(&mut late);
    assert!(
        line == "now 0 effects" && bytes.starts_with(b"*6\r\n$7\r\nRESTORE"),
        "{line}"
    );
}

/// Applies what a subscriber of values hears to another server.
fn mirror(copy: &mut Conn, key: &str, (line, bytes): &(String, Vec<u8>)) {
    match line.split(' ').nth(2) {
        Some("gone") => drop(copy.words(&format!("DEL {key}"))),
        Some("value") => drop(copy.call(&[b"SET", key.as_bytes(), bytes, b"KEEPTTL"])),
        _ => {
            copy.send_raw(bytes).expect("sent");
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let len = common::frame_len(rest).expect("whole commands");
                copy.read_frame().expect("a reply");
                rest = &rest[len..];
            }
        }
    }
}

/// A copy made of what is heard equals the original, whenever the subscription began: no gap, and nothing twice.
#[test]
fn a_copy_made_of_what_is_heard_is_equal() {
    for args in [&MEMORY[..], &[]] {
        let server = Server::terrace(args);
        let other = Server::terrace(&MEMORY);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..3u64 {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(writer);
                    let mut conn = server.connect();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let n = random.usize(..50);
                        let line = match random.usize(..12) {
                            0 if n == 0 => "FLUSHALL".to_string(),
                            0 => "APPEND s x".to_string(),
                            1 => format!("SET s {n}"),
                            2 | 3 => format!("RPUSH l {n}"),
                            4 => "LPOP l".to_string(),
                            5 => format!("LTRIM l 0 {n}"),
                            6 => format!("HSET h f{n} {n}"),
                            7 => format!("HDEL h f{n}"),
                            8 => format!("ZADD z {n} m{}", n % 7),
                            9 => format!("ZREM z m{}", n % 7),
                            10 => "SPOP set".to_string(),
                            _ => format!("SADD set {n} {}", n + 1),
                        };
                        conn.words(&line);
                    }
                });
            }
            let _stop = Stop(&stop);
            let mut copy = other.connect();
            for key in ["s", "l", "h", "z", "set"] {
                std::thread::sleep(Duration::from_millis(20));
                let mut watcher = server.connect();
                watcher.words(&format!("SUBSCRIBE __keyvalue@0__:{key}"));
                let mut last = 0;
                for _ in 0..400 {
                    let news = news(&mut watcher);
                    let offset: u64 = news
                        .0
                        .split(' ')
                        .nth(1)
                        .expect("an offset")
                        .parse()
                        .expect("a number");
                    assert!(offset >= last, "offsets go on: {}", news.0);
                    last = offset;
                    mirror(&mut copy, key, &news);
                }
                // The writers stop for a moment: what is there then is what the copy must come to.
                let mut control = server.connect();
                control.words("CLIENT PAUSE 3000 WRITE");
                std::thread::sleep(Duration::from_millis(100));
                watcher.send_raw(&encode(&["PING", "end"])).expect("sent");
                loop {
                    let frame = watcher.read_frame().expect("a frame");
                    if frame.windows(4).any(|part| part == b"pong") {
                        break;
                    }
                    mirror(&mut copy, key, &parse_news(&frame));
                }
                let digests = [&mut control, &mut copy]
                    .map(|conn| show(&conn.words(&format!("DEBUG DIGEST-VALUE {key}"))));
                control.words("CLIENT UNPAUSE");
                assert_eq!(digests[0], digests[1], "{key} with {args:?}");
            }
        });
    }
}

/// Ends the threads of a test, also when it fails.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The oracle too sends only what the classes say.
#[test]
fn classes_choose_what_is_told() {
    for classes in ["K$", "El", "KEg", "KExe", "A", "", "Kn"] {
        let told = [Server::redis(&[]), Server::terrace(&MEMORY)].map(|server| {
            let (mut listener, mut conn) = (server.connect(), server.connect());
            conn.call(&["CONFIG", "SET", "notify-keyspace-events", classes]);
            listener.words("PSUBSCRIBE __key*");
            for line in [
                "SET k v",
                "RPUSH l 1",
                "LPOP l",
                "EXPIRE k 10",
                "DEL k",
                "PUBLISH __key-end x",
            ] {
                conn.words(line);
            }
            let mut told = Vec::new();
            while told
                .last()
                .is_none_or(|last: &String| !last.contains("__key-end"))
            {
                told.push(message(&mut listener));
            }
            told
        });
        assert_eq!(told[0], told[1], "{classes}");
    }
}

/// Nobody keeps the names of sealed keys in memory; those whose names somebody waits for are told of all the same.
#[test]
fn sealed_keys_that_are_evicted_are_told_of() {
    for listens_to_all in [false, true] {
        let mut args = MEMORY.to_vec();
        args.extend([
            "--enable-debug-command",
            "yes",
            "--maxmemory-policy",
            "allkeys-lru",
        ]);
        args.extend(["--maxmemory", "64mb"]);
        let server = Server::terrace(&args);
        let (mut conn, mut listener, mut cache) = (server.connect(), server.connect(), server.connect());
        let value = "x".repeat(1000);
        for i in 0..10_000 {
            conn.call(&["SET", &format!("cold:{i}"), &value]);
        }
        cache.words("HELLO 3");
        cache.words("CLIENT TRACKING ON");
        cache.words("STRLEN cold:7");
        cache.words("STRLEN cold:8");
        if listens_to_all {
            conn.words("CONFIG SET notify-keyspace-events KEe");
            listener.words("PSUBSCRIBE __keyspace@0__:cold:7");
        } else {
            listener.words("SUBSCRIBE __keyspace@0__:cold:7");
        }
        assert!(conn.integer("DEBUG SEAL") > 9_000);
        conn.words("CONFIG SET maxmemory 4mb");
        for i in 0..8_000 {
            conn.call(&["SET", &format!("fill:{i}"), &value]);
        }
        assert!(message(&mut listener).ends_with("cold:7 evicted"), "by name");
        let told = show(&cache.read_frame().expect("an invalidation"));
        assert!(told.contains("cold:"), "{told}");
        assert_eq!(show(&conn.words("EXISTS cold:7")), ":0\\r\\n");
    }
}
