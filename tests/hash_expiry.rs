//! Fields of hashes that expire, and the commands that are newer than the oracle of the differential tests. Against a
//! whole server; replies follow the commands' published pages.

mod common;

use common::{Conn, Server, show};
use std::time::Duration;

/// Both encodings, and both tiers.
fn for_each_kind(test: impl Fn(&Server, &mut Conn)) {
    for tier in ["memory", "durable"] {
        for entries in ["0", "128"] {
            let server = Server::terrace(&["--range", "default", "*", tier]);
            let mut conn = server.connect();
            conn.words(&format!("CONFIG SET hash-max-listpack-entries {entries}"));
            test(&server, &mut conn);
        }
    }
}

/// Runs commands and compares each reply, shown as one line.
fn expect(conn: &mut Conn, lines: &[(&str, &str)]) {
    for (line, reply) in lines {
        assert_eq!(show(&conn.words(line)).replace("\\'", "'"), *reply, "{line}");
    }
}

fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Elements of an array of integers.
fn ints(conn: &mut Conn, line: &str) -> Vec<i64> {
    let reply = conn.words(line);
    let text = String::from_utf8(reply).expect("text");
    let lines = text.split("\r\n").filter_map(|line| line.strip_prefix(':'));
    lines.map(|line| line.parse().expect("an integer")).collect()
}

#[test]
fn conditions_decide_over_expiries() {
    for_each_kind(|_, conn| {
        conn.words("HSET h a 1 b 2");
        let codes =
            |conn: &mut Conn, line: &str, expected: &[i64]| assert_eq!(ints(conn, line), expected, "{line}");
        codes(conn, "HEXPIRE h 100 XX FIELDS 3 a b x", &[0, 0, -2]);
        codes(conn, "HEXPIRE h 100 GT FIELDS 1 a", &[0]);
        codes(conn, "HEXPIRE h 100 NX FIELDS 2 a x", &[1, -2]);
        codes(conn, "HEXPIRE h 200 NX FIELDS 1 a", &[0]);
        codes(conn, "HPEXPIRE h 50000 GT FIELDS 1 a", &[0]);
        codes(conn, "HPEXPIRE h 50000 LT FIELDS 2 a b", &[1, 1]);
        codes(conn, "hexpire h 70 gt fields 1 a", &[1]);
        codes(conn, "HTTL h FIELDS 3 a b x", &[70, 50, -2]);
        codes(conn, "HPERSIST h FIELDS 3 a x a", &[1, -2, -1]);
        codes(conn, "HTTL h FIELDS 2 a b", &[-1, 50]);
        codes(conn, "HEXPIREAT h 4102444800 FIELDS 1 a", &[1]);
        codes(conn, "HEXPIRETIME h FIELDS 1 a", &[4102444800]);
        codes(conn, "HPEXPIRETIME h FIELDS 1 a", &[4102444800000]);
        codes(conn, "HPEXPIREAT h 4102444800001 FIELDS 1 a", &[1]);
        codes(conn, "HEXPIRETIME h FIELDS 1 a", &[4102444801]);
        let left = ints(conn, "HPTTL h FIELDS 1 b")[0];
        assert!((40_000..=50_000).contains(&left), "{left}");
        codes(conn, "HEXPIRE h 0 FIELDS 2 a x", &[2, -2]);
        codes(conn, "HEXPIREAT h 1 FIELDS 1 b", &[2]);
        codes(conn, "EXISTS h", &[0]);
        for command in ["HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST"] {
            codes(conn, &format!("{command} h FIELDS 2 a b"), &[-2, -2]);
        }
        codes(conn, "HEXPIRE h 10 FIELDS 2 a b", &[-2, -2]);
    });
}

#[test]
fn wrong_arguments_are_refused_in_words() {
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let conn = &mut server.connect();
    conn.words("SET string v");
    conn.words("HSET h a 1");
    let missing = "-ERR Mandatory argument FIELDS is missing or not at the right position\\r\\n";
    let unequal = "-ERR The `numfields` parameter must match the number of arguments\\r\\n";
    let positive = "-ERR Number of fields must be a positive integer\\r\\n";
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value\\r\\n";
    let greater = "-ERR Parameter `numFields` should be greater than 0\\r\\n";
    let negative = "-ERR invalid expire time, must be >= 0\\r\\n";
    let not_integer = "-ERR value is not an integer or out of range\\r\\n";
    expect(
        conn,
        &[
            (
                "HEXPIRE h 10 FIELDS 1",
                "-ERR wrong number of arguments for 'hexpire' command\\r\\n",
            ),
            (
                "HTTL h FIELDS 1",
                "-ERR wrong number of arguments for 'httl' command\\r\\n",
            ),
            ("HEXPIRE string 10 FIELDS 1 a", wrong_type),
            ("HEXPIRE h abc FIELDS 1 a", not_integer),
            ("HEXPIRE h -1 FIELDS 1 a", negative),
            (
                "HEXPIRE h 9223372036854775807 FIELDS 1 a",
                "-ERR invalid expire time in 'hexpire' command\\r\\n",
            ),
            (
                "HPEXPIREAT h 70368744177664 FIELDS 1 a",
                "-ERR invalid expire time in 'hpexpireat' command\\r\\n",
            ),
            ("HEXPIRE h 10 NONE FIELDS 1 a", missing),
            ("HEXPIRE h 10 NX XX FIELDS 1 a", missing),
            ("HEXPIRE h 10 FIELDS 0 a", greater),
            ("HEXPIRE h 10 FIELDS abc a", greater),
            ("HEXPIRE h 10 FIELDS 2 a", unequal),
            ("HEXPIRE h 10 FIELDS 1 a b", unequal),
            ("HTTL string FIELDS 1 a", wrong_type),
            ("HTTL h FIELD 1 a", missing),
            ("HTTL h FIELDS 0 a", positive),
            ("HTTL nokey FIELDS 2 a", unequal),
            ("HPERSIST string FIELDS 1 a", wrong_type),
            ("HPERSIST h FIELDS -1 a", positive),
            ("HGETDEL string FIELDS 1 a", wrong_type),
            ("HGETDEL h FIELDS 0 a", positive),
            ("HGETDEL h FIELDS 2 a", unequal),
            ("HGETEX string FIELDS 1 a", wrong_type),
            ("HGETEX h XFIELDX 1 a", missing),
            ("HGETEX h PXAT 1 1", missing),
            ("HGETEX h PERSIST 1 FIELDS 1 a", missing),
            ("HGETEX h EX abc FIELDS 1 a", not_integer),
            ("HGETEX h PX -1 FIELDS 1 a", negative),
            (
                "HGETEX h EX 281474976710656 FIELDS 1 a",
                "-ERR invalid expire time in 'hgetex' command\\r\\n",
            ),
            ("HSETEX string FIELDS 1 a b", wrong_type),
            (
                "HSETEX h FIELDS 2 a b c",
                "-ERR wrong number of arguments for 'hsetex' command\\r\\n",
            ),
            ("HSETEX h NX FIELDS 1 a b", "-ERR unknown argument\\r\\n"),
            (
                "HSETEX h FXX FNX FIELDS 1 a b",
                "-ERR Only one of FXX or FNX arguments can be specified\\r\\n",
            ),
            (
                "HSETEX h EX 10 KEEPTTL FIELDS 1 a b",
                "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified\\r\\n",
            ),
            ("HSETEX h EX FIELDS 1 a b", not_integer),
            ("HSETEX h FIELDS 0 a b", "-ERR invalid number of fields\\r\\n"),
            ("HGETALL h", "*2\\r\\n$1\\r\\na\\r\\n$1\\r\\n1\\r\\n"),
        ],
    );
}

#[test]
fn expired_fields_are_never_seen() {
    for_each_kind(|_, conn| {
        conn.words("HSET h a 1 b 2 c 3");
        conn.words("HSET gone a 1");
        assert_eq!(ints(conn, "HPEXPIRE h 30 FIELDS 2 a c"), [1, 1]);
        assert_eq!(ints(conn, "HPEXPIRE gone 30 FIELDS 1 a"), [1]);
        sleep(40);
        expect(
            conn,
            &[
                ("HLEN h", ":1\\r\\n"),
                ("HGETALL h", "*2\\r\\n$1\\r\\nb\\r\\n$1\\r\\n2\\r\\n"),
                ("HGET h a", "$-1\\r\\n"),
                ("EXISTS gone", ":0\\r\\n"),
                ("TYPE gone", "+none\\r\\n"),
                ("HSETNX h a again", ":1\\r\\n"),
                ("HTTL h FIELDS 1 a", "*1\\r\\n:-1\\r\\n"),
            ],
        );
    });
}

#[test]
fn fields_expire_without_being_touched() {
    for_each_kind(|_, conn| {
        for n in 0..20 {
            conn.words(&format!("HSETEX h{n} PX 50 FIELDS 2 a 1 b 2"));
            conn.words(&format!("HSETEX kept{n} PX 60 FIELDS 2 a 1 b 2"));
            conn.words(&format!("HSETEX kept{n} EX 1000 FIELDS 1 c 3"));
        }
        assert_eq!(conn.integer("DBSIZE"), 40);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while conn.integer("DBSIZE") > 20 {
            assert!(
                std::time::Instant::now() < deadline,
                "expired hashes are still counted"
            );
            sleep(20);
        }
        assert_eq!(conn.integer("DBSIZE"), 20);
        assert_eq!(
            show(&conn.words("HGETALL kept3")),
            "*2\\r\\n$1\\r\\nc\\r\\n$1\\r\\n3\\r\\n"
        );
    });
}

#[test]
fn what_happens_to_an_expiry_when_the_value_changes() {
    for_each_kind(|_, conn| {
        conn.words("HSETEX h EX 100 FIELDS 4 a 1 b 2 c 3 d 4");
        conn.words("HSET h a 9");
        conn.words("HINCRBY h b 5");
        conn.words("HINCRBYFLOAT h c 0.5");
        conn.words("HSETEX h KEEPTTL FIELDS 1 d 5");
        assert_eq!(ints(conn, "HTTL h FIELDS 4 a b c d"), [-1, 100, 100, 100]);
        assert_eq!(
            show(&conn.words("HMGET h a b c d")),
            "*4\\r\\n$1\\r\\n9\\r\\n$1\\r\\n7\\r\\n$3\\r\\n3.5\\r\\n$1\\r\\n5\\r\\n"
        );
        conn.words("HSETEX h FIELDS 1 d 6");
        conn.words("RENAME h other");
        assert_eq!(ints(conn, "HTTL other FIELDS 4 a b c d"), [-1, 100, 100, -1]);
        conn.words("COPY other copy");
        conn.words("HPERSIST other FIELDS 1 b");
        assert_eq!(ints(conn, "HTTL copy FIELDS 2 b c"), [100, 100]);
    });
}

#[test]
fn get_and_set_with_a_twist() {
    for_each_kind(|_, conn| {
        expect(
            conn,
            &[
                ("HSETEX h FXX FIELDS 1 a 1", ":0\\r\\n"),
                ("EXISTS h", ":0\\r\\n"),
                ("HSETEX h FNX EX 100 FIELDS 2 a 1 b 2", ":1\\r\\n"),
                ("HSETEX h FNX FIELDS 2 b 3 c 3", ":0\\r\\n"),
                ("HSETEX h FXX PX 100000 FIELDS 2 a 4 b 5", ":1\\r\\n"),
                ("HTTL h FIELDS 3 a b c", "*3\\r\\n:100\\r\\n:100\\r\\n:-2\\r\\n"),
                ("HSETEX h EXAT 1 FIELDS 1 c 3", ":1\\r\\n"),
                ("HEXISTS h c", ":0\\r\\n"),
                ("HGETEX h FIELDS 2 a x", "*2\\r\\n$1\\r\\n4\\r\\n$-1\\r\\n"),
                ("HTTL h FIELDS 1 a", "*1\\r\\n:100\\r\\n"),
                ("HGETEX h EX 200 FIELDS 1 a", "*1\\r\\n$1\\r\\n4\\r\\n"),
                ("HTTL h FIELDS 2 a b", "*2\\r\\n:200\\r\\n:100\\r\\n"),
                (
                    "HGETEX h PERSIST FIELDS 2 a b",
                    "*2\\r\\n$1\\r\\n4\\r\\n$1\\r\\n5\\r\\n",
                ),
                ("HTTL h FIELDS 2 a b", "*2\\r\\n:-1\\r\\n:-1\\r\\n"),
                ("HGETEX h PXAT 1 FIELDS 1 a", "*1\\r\\n$1\\r\\n4\\r\\n"),
                ("HGETALL h", "*2\\r\\n$1\\r\\nb\\r\\n$1\\r\\n5\\r\\n"),
                ("HGETDEL h FIELDS 2 x b", "*2\\r\\n$-1\\r\\n$1\\r\\n5\\r\\n"),
                ("EXISTS h", ":0\\r\\n"),
                ("HGETDEL h FIELDS 1 b", "*1\\r\\n$-1\\r\\n"),
                ("HGETEX h EX 5 FIELDS 1 b", "*1\\r\\n$-1\\r\\n"),
            ],
        );
    });
}

#[test]
fn encodings_and_scans_are_those_of_newer_versions() {
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let conn = &mut server.connect();
    conn.words("CONFIG SET hash-max-listpack-entries 4");
    expect(
        conn,
        &[
            ("HSET h a 1 b 2", ":2\\r\\n"),
            ("OBJECT ENCODING h", "$8\\r\\nlistpack\\r\\n"),
            ("HEXPIRE h 100 FIELDS 1 b", "*1\\r\\n:1\\r\\n"),
            ("OBJECT ENCODING h", "$10\\r\\nlistpackex\\r\\n"),
            ("HKEYS h", "*2\\r\\n$1\\r\\nb\\r\\n$1\\r\\na\\r\\n"),
            (
                "HSCAN h 0 NOVALUES",
                "*2\\r\\n$1\\r\\n0\\r\\n*2\\r\\n$1\\r\\nb\\r\\n$1\\r\\na\\r\\n",
            ),
            (
                "HSCAN h 0 NOVALUES MATCH a",
                "*2\\r\\n$1\\r\\n0\\r\\n*1\\r\\n$1\\r\\na\\r\\n",
            ),
            ("HSET h c 3 d 4 e 5", ":3\\r\\n"),
            ("OBJECT ENCODING h", "$9\\r\\nhashtable\\r\\n"),
            ("HTTL h FIELDS 2 a b", "*2\\r\\n:-1\\r\\n:100\\r\\n"),
        ],
    );
}

/// The journal alone: nothing has been flushed when the process is killed.
#[test]
fn a_killed_server_comes_back_with_the_same_fields_and_expiries() {
    for entries in ["0", "128"] {
        let mut server = Server::terrace(&["--range", "default", "*", "durable"]);
        let conn = &mut server.connect();
        conn.words(&format!("CONFIG SET hash-max-listpack-entries {entries}"));
        conn.words("CONFIG SET appendfsync always");
        conn.words("HSET h a 1 b 2 c 3 d 4 e 5 f 1.5");
        conn.words("HEXPIREAT h 4102444800 FIELDS 4 a b f e");
        conn.words("HPERSIST h FIELDS 1 a");
        conn.words("HPEXPIRE h 1 FIELDS 1 c");
        conn.words("HINCRBYFLOAT h f 0.1");
        conn.words("HGETDEL h FIELDS 1 d");
        conn.words("HSETEX h KEEPTTL FIELDS 2 e 6 g 7");
        conn.words("HSETEX gone PX 5 FIELDS 1 a 1");
        conn.words("HSETEX later PX 700 FIELDS 1 a 1");
        sleep(10);
        conn.words("HLEN h");
        server.kill();
        server.restart();
        let conn = &mut server.connect();
        expect(
            conn,
            &[
                ("HLEN h", ":5\\r\\n"),
                (
                    "HMGET h a b e f g",
                    "*5\\r\\n$1\\r\\n1\\r\\n$1\\r\\n2\\r\\n$1\\r\\n6\\r\\n$3\\r\\n1.6\\r\\n$1\\r\\n7\\r\\n",
                ),
                (
                    "HEXPIRETIME h FIELDS 5 a b e f g",
                    "*5\\r\\n:-1\\r\\n:4102444800\\r\\n:4102444800\\r\\n:4102444800\\r\\n:-1\\r\\n",
                ),
                ("EXISTS gone", ":0\\r\\n"),
            ],
        );
        sleep(1000);
        assert_eq!(conn.integer("DBSIZE"), 1);
    }
}
