//! MIGRATE: to another server of the same kind, and to redis-server, whose words the errors are.

use crate::common::{Conn, Server, show};
use std::sync::atomic::{AtomicBool, Ordering};

fn migrate(conn: &mut Conn, port: u16, rest: &str) -> String {
    let line = format!("MIGRATE 127.0.0.1 {port} {rest}");
    let words: Vec<&str> = line
        .split(' ')
        .map(|word| if word == "-" { "" } else { word })
        .collect();
    show(&conn.call(&words)).replace("\\r\\n", "").replace("\\'", "'")
}

/// Keys move, are copied, take the place of others, or stay where they are, whoever moves and whoever takes them.
fn moves(from: &Server, to: &Server) {
    let (mut here, mut there) = (from.connect(), to.connect());
    let port = to.port();
    here.words("SET s value PX 90000");
    here.words("RPUSH l 1 2 3");
    here.words("HSET h f v");
    assert_eq!(migrate(&mut here, port, "s 0 1000"), "+OK");
    assert_eq!(here.integer("EXISTS s"), 0);
    assert_eq!(there.bulk("GET s").expect("a value"), b"value");
    assert!((80_000..=90_000).contains(&there.integer("PTTL s")));
    assert_eq!(migrate(&mut here, port, "s 0 1000"), "+NOKEY");
    assert_eq!(migrate(&mut here, port, "l 3 0 COPY"), "+OK");
    assert_eq!(here.integer("LLEN l"), 3);
    there.words("SELECT 3");
    assert_eq!(there.integer("LLEN l"), 3);
    let busy = "-ERR Target instance replied with error: BUSYKEY Target key name already exists.";
    here.words("SET more 1");
    assert_eq!(migrate(&mut here, port, "- 3 1000 KEYS l more nokey"), busy);
    // What was taken is gone here, and what was refused is not.
    assert_eq!((here.integer("EXISTS more"), here.integer("EXISTS l")), (0, 1));
    here.words("RPUSH l 4");
    assert_eq!(migrate(&mut here, port, "- 3 1000 REPLACE KEYS l h"), "+OK");
    assert_eq!((here.integer("DBSIZE"), there.integer("DBSIZE")), (0, 3));
    assert_eq!(there.integer("LLEN l"), 4);

    here.words("SET k v");
    for (rest, expected) in [
        ("k 0 x", "-ERR value is not an integer or out of range"),
        ("k x 0", "-ERR value is not an integer or out of range"),
        ("k 0 0 AUTH", "-ERR syntax error"),
        ("k 0 0 AUTH2 a", "-ERR syntax error"),
        ("k 0 0 NOPE", "-ERR syntax error"),
        (
            "k 0 0 KEYS a b",
            "-ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
        ),
        (
            "k 99 1000",
            "-ERR Target instance replied with error: ERR DB index is out of range",
        ),
        (
            "k 0 1000 AUTH2 nobody secret",
            "-ERR Target instance replied with error: WRONGPASS invalid username-password pair or user is disabled.",
        ),
    ] {
        assert_eq!(migrate(&mut here, port, rest), expected, "{rest}");
    }
    assert_eq!(here.integer("EXISTS k"), 1);
    let refused = "-IOERR error or timeout writing to target instance";
    assert_eq!(migrate(&mut here, 1, "k 0 1000"), refused);
    // One that takes everything and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_port = silent.local_addr().expect("an address").port();
    assert_eq!(
        migrate(&mut here, silent_port, "k 0 50"),
        "-IOERR error or timeout reading to target instance"
    );
    assert_eq!(here.bulk("GET k").expect("a value"), b"v");
}

#[test]
fn keys_move_between_servers_of_both_kinds() {
    let (first, second) = (Server::terrace(&[]), Server::terrace(&[]));
    let (redis, other_redis) = (Server::redis(&[]), Server::redis(&[]));
    // What is to be expected.
    moves(&redis, &other_redis);
    moves(&first, &second);
    for server in [&first, &second, &redis] {
        server.connect().words("FLUSHALL");
    }
    moves(&first, &redis);
    redis.connect().words("FLUSHALL");
    first.connect().words("FLUSHALL");
    moves(&redis, &second);
}

#[test]
fn a_password_is_shown_to_the_other_server() {
    let (first, second) = (
        Server::terrace(&[]),
        Server::terrace(&["--requirepass", "secret"]),
    );
    let mut conn = first.connect();
    conn.words("SET k v");
    assert!(migrate(&mut conn, second.port(), "k 0 1000").contains("NOAUTH"));
    assert_eq!(
        migrate(&mut conn, second.port(), "k 0 1000 COPY AUTH secret"),
        "+OK"
    );
    assert_eq!(
        migrate(&mut conn, second.port(), "k 0 1000 REPLACE AUTH2 default secret"),
        "+OK"
    );
    assert_eq!(conn.integer("DBSIZE"), 0);
}

/// A counter goes to and fro while it is counted: no count is lost on the way.
#[test]
fn a_key_that_changes_while_it_moves_arrives_as_it_is_at_last() {
    let (first, second) = (Server::terrace(&[]), Server::terrace(&[]));
    let stop = AtomicBool::new(false);
    let counted = std::thread::scope(|scope| {
        let counter = scope.spawn(|| {
            let (mut conn, mut counted) = (first.connect(), 0);
            while !stop.load(Ordering::Relaxed) {
                conn.words("INCR n");
                counted += 1;
            }
            counted
        });
        let (mut conn, mut there, mut sum) = (first.connect(), second.connect(), 0);
        for _ in 0..200 {
            if migrate(&mut conn, second.port(), "n 0 1000") == "+OK" {
                let moved = there.bulk("GETDEL n").expect("the key");
                sum += String::from_utf8_lossy(&moved).parse::<i64>().expect("a number");
            }
        }
        stop.store(true, Ordering::Relaxed);
        let counted: i64 = counter.join().expect("counted");
        let left = conn.bulk("GET n").unwrap_or_else(|| b"0".to_vec());
        (
            counted,
            sum + String::from_utf8_lossy(&left).parse::<i64>().expect("a number"),
        )
    });
    assert_eq!(counted.0, counted.1);
}
