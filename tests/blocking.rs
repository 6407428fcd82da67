//! Commands that wait, with several clients, against the real server: the same steps on both, the replies compared. The
//! notation is that of `common::stage`.

mod common;

use common::stage::{PATIENCE, compare};
use common::{Conn, Server};
use std::time::{Duration, Instant};

/// One who was served goes on when all have been whom the write leads to.
#[test]
fn nobody_who_is_served_takes_what_another_waits_for() {
    for _ in 0..10 {
        compare(
            "a! BLPOP l1 0
             c! BLPOP l2 0
             c+ LPOP l1
             b! BRPOPLPUSH l2 l1 0
             d RPUSH l2 v w
             c?
             c?
             b?
             a?
             d EXISTS l1 l2",
        );
    }
}

#[test]
fn who_came_first_is_served_first() {
    compare(
        "a! BLPOP k 0
         b! BRPOP k 0
         c! BLPOP k other 0
         d RPUSH k 1 2
         a?
         b?
         d EXISTS k
         d LPUSH k 3 4
         c?
         d LRANGE k 0 -1
         d BLPOP nokey k 0",
    );
}

#[test]
fn of_several_keys_the_one_that_got_something_is_taken() {
    compare(
        "a! BLPOP k1 k2 k3 0
         d RPUSH k2 x
         a?
         d RPUSH k3 y
         d RPUSH k1 z
         a BLPOP k1 k2 k3 0
         a BRPOP k1 k2 k3 0
         b! BZPOPMIN z1 z2 0
         c! BZPOPMAX z2 z1 0
         d ZADD z2 1 m 2 n 3 o
         b?
         c?
         d ZRANGE z2 0 -1 WITHSCORES",
    );
}

#[test]
fn a_wait_ends_with_its_time() {
    compare(
        "a BLPOP k 0.01
         a BRPOP k l 0.01
         a BLMOVE k l LEFT RIGHT 0.01
         a BRPOPLPUSH k l 0.01
         a BLMPOP 0.01 2 k l LEFT
         a BZPOPMIN k 0.01
         a BZPOPMAX k 0.01
         a BZMPOP 0.01 1 k MIN
         a XREAD BLOCK 10 STREAMS k 0
         d RPUSH k late
         d LLEN k",
    );
}

#[test]
fn timeouts_are_checked() {
    compare(
        "a BLPOP k -1
         a BLPOP k x
         a BLPOP k nan
         a BZPOPMIN k -0.1
         a BLMOVE a b LEFT LEFT -1
         a BLMPOP -1 1 k LEFT
         a BLMPOP x 1 k LEFT
         a BZMPOP -1 1 k MIN
         a XREAD BLOCK -1 STREAMS k 0
         a XREAD BLOCK x STREAMS k 0
         a PING",
    );
}

#[test]
fn what_is_moved_wakes_the_next() {
    compare(
        "a! BLMOVE s d LEFT RIGHT 0
         b! BLPOP d 0
         c RPUSH s v
         a?
         b?
         c EXISTS s d
         a! BRPOPLPUSH s s2 0
         b! BRPOPLPUSH s2 s3 0
         c RPUSH s w
         a?
         b?
         c LRANGE s3 0 -1",
    );
}

#[test]
fn a_destination_of_another_type_is_an_error_when_it_is_served() {
    compare(
        "c SET d string
         a! BLMOVE s d LEFT RIGHT 0
         c RPUSH s v
         a?
         c LRANGE s 0 -1",
    );
}

#[test]
fn a_key_of_another_type_is_not_what_is_waited_for() {
    compare(
        "a! BLPOP k 0
         c SET k string
         c DEL k
         c ZADD k 1 m
         b BLPOP k 0
         c DEL k
         c RPUSH k v
         a?",
    );
}

#[test]
fn a_reader_of_two_streams_waits_on_when_one_becomes_a_list() {
    compare(
        "d XADD x 1-1 a b
         d XADD y 1-1 a b
         d RPUSH src a
         a! XREAD BLOCK 0 STREAMS x y $ $
         d COPY src x REPLACE
         d SORT src ALPHA STORE x
         d DEL x
         d XADD x 5-0 a b
         a?
         b! BLPOP moved 0
         d SELECT 1
         d RPUSH moved e
         d MOVE moved 0
         b?",
    );
}

#[test]
fn keys_that_come_by_other_ways_serve_too() {
    compare(
        "a! BLPOP k 0
         c RPUSH other v
         c RENAME other k
         a?
         a! BLPOP k 0
         c RPUSH other v
         c COPY other k
         a?
         a! BLPOP k 0
         c SELECT 1
         c RPUSH k in-1
         c MOVE k 0
         a?
         a! BLPOP k 0
         c RPUSH k in-1
         c SWAPDB 0 1
         a?
         a! BZPOPMIN z 0
         c SELECT 0
         c ZADD y 1 m
         c ZUNIONSTORE z 1 y
         a?",
    );
}

#[test]
fn one_push_serves_as_many_as_it_has_elements_for() {
    compare(
        "a! BLMPOP 0 1 k LEFT COUNT 2
         b! BLMPOP 0 2 j k RIGHT COUNT 10
         c! BLPOP k 0
         d RPUSH k 1 2 3 4 5
         a?
         b?
         d RPUSH k 6
         c?
         a! BZMPOP 0 2 y z MAX COUNT 2
         d ZADD z 1 a 2 b 3 c
         a?
         d ZCARD z",
    );
}

#[test]
fn clients_are_unblocked_by_id() {
    compare(
        "a! BLPOP k 0
         d CLIENT UNBLOCK {a}
         a?
         a! BLPOP k 0
         d CLIENT UNBLOCK {a} TIMEOUT
         a?
         a! XREAD BLOCK 0 STREAMS s $
         d CLIENT UNBLOCK {a} ERROR
         a?
         d CLIENT UNBLOCK {a}
         d CLIENT UNBLOCK 99999
         d CLIENT UNBLOCK {a} NEVER
         d CLIENT UNBLOCK x
         a! WAIT 1 0
         d CLIENT UNBLOCK {a}
         a?
         a! WAIT 1 0
         d CLIENT UNBLOCK {a} ERROR
         a?
         a WAIT 1 10
         d RPUSH k v
         d LLEN k",
    );
}

#[test]
fn who_hung_up_gets_nothing() {
    compare(
        "a! BLPOP k 0
         b! BLPOP k 0
         a~
         d RPUSH k 1 2
         b?
         d LRANGE k 0 -1",
    );
}

#[test]
fn what_is_sent_meanwhile_is_answered_afterwards() {
    compare(
        "a! BLPOP k 0
         a+ PING
         a+ ECHO x
         d RPUSH k v
         a?
         a?
         a?",
    );
}

#[test]
fn streams_wake_every_reader() {
    compare(
        "a! XREAD BLOCK 0 STREAMS s $
         b! XREAD BLOCK 0 COUNT 1 STREAMS other s 0 $
         d XADD s 1-1 f v
         a?
         b?
         a! XREAD BLOCK 0 STREAMS s 1-2
         d XADD s 1-2 f v
         d XADD s 1-3 f v
         a?
         a XREAD BLOCK 0 STREAMS s 0",
    );
}

#[test]
fn readers_of_a_group_share_what_comes() {
    compare(
        "d XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g one BLOCK 0 STREAMS s >
         b! XREADGROUP GROUP g two BLOCK 0 COUNT 1 STREAMS s >
         d XADD s 1-1 f v
         a?
         d XADD s 1-2 f v
         b?
         a! XREADGROUP GROUP g one BLOCK 0 NOACK STREAMS s >
         d XADD s 1-3 f v
         a?
         d XPENDING s g
         a XREADGROUP GROUP g one BLOCK 0 STREAMS s 0",
    );
}

#[test]
fn readers_of_a_group_that_goes_are_told() {
    compare(
        "d XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g one BLOCK 0 STREAMS s >
         d XGROUP DESTROY s g
         a?
         d XGROUP CREATE s g $
         a! XREADGROUP GROUP g one BLOCK 0 STREAMS s >
         d DEL s
         a?
         d XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g one BLOCK 0 STREAMS s >
         d PEXPIRE s 50
         a?",
    );
}

#[test]
fn a_thousand_waiting_clients_cost_no_time() {
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let mut waiting: Vec<Conn> = (0..1000).map(|_| server.connect()).collect();
    for (i, conn) in waiting.iter_mut().enumerate() {
        let bytes = common::encode(&["BLPOP", &format!("k{}", i % 10), "0"]);
        conn.send_raw(&bytes).expect("send");
    }
    let mut conn = server.connect();
    let blocked = |conn: &mut Conn| {
        let info = conn.bulk("INFO clients").expect("info");
        String::from_utf8_lossy(&info).contains("blocked_clients:1000\r\n")
    };
    let started = Instant::now();
    while !blocked(&mut conn) {
        assert!(started.elapsed() < PATIENCE, "they do not wait");
        std::thread::sleep(Duration::from_millis(10));
    }
    let before = server.cpu_seconds();
    std::thread::sleep(Duration::from_secs(1));
    let spent = server.cpu_seconds() - before;
    assert!(spent < 0.5, "{spent} seconds of CPU in one second of waiting");
    let elements: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    for key in 0..10 {
        conn.words(&format!("RPUSH k{key} {}", elements.join(" ")));
    }
    for conn in &mut waiting {
        assert!(!conn.read_frame().expect("an element").is_empty());
    }
    assert_eq!(conn.integer("DBSIZE"), 0);
}
