//! Scripts and functions of several connections at once: nobody sees half of one, none is lost, none waits for ever; and
//! what is kept of functions.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::accounts::{ACCOUNTS, START, account, call, number};
use common::{Conn, Server, Value, show};
use fastrand::Rng;

const MOVERS: usize = 5;
const TIME: Duration = Duration::from_secs(3);
/// Longer than a script is seen to run, shorter than a test may take.
const A_WHILE: Duration = Duration::from_millis(300);

fn error(conn: &mut Conn, words: &[&str]) -> String {
    let reply = show(&conn.call(words));
    assert!(reply.starts_with('-'), "{words:?} answered {reply}");
    reply
}

/// The ways in which an amount is moved.
const DECLARED: &str = "redis.call('decrby',KEYS[1],ARGV[1]) redis.call('incrby',KEYS[2],ARGV[1]) \
     redis.call('incr',KEYS[3]) return redis.call('incr',KEYS[4])";
/// Reaches for a key after it has written to one.
const HALF_DECLARED: &str = "redis.call('decrby',KEYS[1],ARGV[1]) redis.call('incrby',ARGV[2],ARGV[1]) \
     redis.call('incr',ARGV[3]) return redis.call('incr','moved')";
const UNDECLARED: &str = "redis.call('decrby',ARGV[1],ARGV[3]) redis.call('incrby',ARGV[2],ARGV[3]) \
     redis.call('incr',ARGV[4]) return redis.call('incr','moved')";
/// Reaches for every shard after it has written.
const WITH_ALL: &str = "redis.call('decrby',KEYS[1],ARGV[1]) redis.call('incrby',KEYS[2],ARGV[1]) \
     redis.call('dbsize') redis.call('incr',KEYS[3]) return redis.call('incr',KEYS[4])";

fn transfer(conn: &mut Conn, rng: &mut Rng, mover: usize) {
    let (from, to) = (account(rng.usize(..ACCOUNTS)), account(rng.usize(..ACCOUNTS)));
    let amount = rng.i64(1..50).to_string();
    let counter = format!("moved:{mover}");
    let script = match mover {
        0 => DECLARED,
        _ => WITH_ALL,
    };
    let reply = match mover {
        0 | 4 => call(
            conn,
            &["EVAL", script, "4", &from, &to, &counter, "moved", &amount],
        ),
        1 => call(conn, &["EVAL", HALF_DECLARED, "1", &from, &amount, &to, &counter]),
        2 => call(conn, &["EVAL", UNDECLARED, "0", &from, &to, &amount, &counter]),
        _ => {
            call(conn, &["MULTI"]);
            call(conn, &["DECRBY", &from, &amount]);
            let rest = "redis.call('incrby',ARGV[1],ARGV[2]) redis.call('incr',ARGV[3])";
            call(conn, &["EVAL", rest, "0", &to, &amount, &counter]);
            call(conn, &["INCR", "moved"]);
            let Value::List(_, replies) = call(conn, &["EXEC"]) else {
                panic!("EXEC answers an array")
            };
            replies[2].clone()
        }
    };
    assert!(number(&reply) > 0);
}

fn sum(values: &[Value]) -> i64 {
    values.iter().map(number).sum()
}

fn look(conn: &mut Conn, names: &[String]) {
    let mget: Vec<&str> = std::iter::once("MGET")
        .chain(names.iter().map(String::as_str))
        .collect();
    let Value::List(_, values) = call(conn, &mget) else {
        panic!("MGET answers an array")
    };
    assert_eq!(sum(&values), START * ACCOUNTS as i64, "MGET");
    let script = "local sum=0 for i=1,#ARGV do sum=sum+redis.call('get',ARGV[i]) end return sum";
    let eval: Vec<&str> = ["EVAL", script, "0"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    assert_eq!(
        number(&call(conn, &eval)),
        START * ACCOUNTS as i64,
        "GETs in a script"
    );
}

fn counts(conn: &mut Conn) -> (i64, i64) {
    let names: Vec<String> = (0..MOVERS).map(|mover| format!("moved:{mover}")).collect();
    let mget: Vec<&str> = std::iter::once("MGET")
        .chain(names.iter().map(String::as_str))
        .collect();
    let Value::List(_, values) = call(conn, &mget) else {
        panic!("MGET answers an array")
    };
    (sum(&values), number(&call(conn, &["GET", "moved"])))
}

fn fill(conn: &mut Conn, names: &[String]) {
    let amount = START.to_string();
    let counters = (0..MOVERS).map(|mover| format!("moved:{mover}"));
    for name in names {
        conn.call(&["SET", name, &amount]);
    }
    for name in counters.chain(["moved".to_owned()]) {
        conn.call(&["SET", &name, "0"]);
    }
}

#[test]
fn nobody_sees_half_of_a_script_whatever_keys_it_reaches_for() {
    let server = Server::terrace(&["--range", "cache", "cache:", "memory"]);
    let names: Vec<String> = (0..ACCOUNTS).map(account).collect();
    fill(&mut server.connect(), &names);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mover in 0..MOVERS {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let (mut conn, mut rng) = (server.connect(), Rng::with_seed(mover as u64));
                while !stop.load(Ordering::Relaxed) {
                    transfer(&mut conn, &mut rng, mover);
                }
            });
        }
        let began = Instant::now();
        let mut conn = server.connect();
        while began.elapsed() < TIME {
            look(&mut conn, &names);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (of_movers, moved) = counts(&mut server.connect());
    assert_eq!(of_movers, moved);
    assert!(moved > 100, "{moved} moves");
}

#[test]
fn a_crash_keeps_whole_scripts() {
    let mut server = Server::terrace(&[]);
    let names: Vec<String> = (0..ACCOUNTS).map(account).collect();
    fill(&mut server.connect(), &names);
    for round in 0..3 {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for mover in 0..MOVERS {
                let (port, stop) = (server.port(), &stop);
                scope.spawn(move || {
                    let mut rng = Rng::with_seed(round * 100 + mover as u64);
                    let mut conn = Conn::open(port).expect("a connection");
                    while !stop.load(Ordering::Relaxed) {
                        let (from, to) = (account(rng.usize(..ACCOUNTS)), account(rng.usize(..ACCOUNTS)));
                        let counter = format!("moved:{mover}");
                        let words = ["EVAL", HALF_DECLARED, "1", &from, "7", &to, &counter];
                        if conn.try_call(&words).is_err() {
                            break;
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(700));
            stop.store(true, Ordering::Relaxed);
            server.kill();
        });
        server.restart();
        let mut conn = server.connect();
        look(&mut conn, &names);
        let (of_movers, moved) = counts(&mut conn);
        assert_eq!(of_movers, moved, "round {round}");
    }
}

const FOR_EVER: &str = "redis.call('get',KEYS[1]) while true do end";

/// Sends a script that does not end, and waits until it is seen to run.
fn start(server: &Server, words: &[&str]) -> Conn {
    let mut conn = server.connect();
    conn.send_raw(&common::encode(words)).expect("sent");
    std::thread::sleep(A_WHILE);
    conn
}

#[test]
fn a_script_that_does_not_end_holds_up_its_keys_alone() {
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    conn.call(&["CONFIG", "SET", "busy-reply-threshold", "200"]);
    conn.call(&["SET", "free", "yes"]);
    let mut runs = start(&server, &["EVAL", FOR_EVER, "1", "held"]);
    assert_eq!(conn.call(&["GET", "free"]), b"$3\r\nyes\r\n");
    assert_eq!(conn.call(&["EVAL", "return 1", "1", "free"]), b":1\r\n");
    let busy = error(&mut conn, &["GET", "held"]);
    assert!(
        busy.starts_with("-BUSY Redis is busy running a script."),
        "{busy}"
    );
    let undeclared = "return redis.call('get','held')";
    let others: [&[&str]; 3] = [
        &["WATCH", "held"],
        &["EVAL", undeclared, "0"],
        &["FUNCTION", "KILL"],
    ];
    for words in others {
        let refused = error(&mut conn, words);
        assert!(refused.starts_with("-BUSY"), "{words:?}: {refused}");
    }
    assert_eq!(conn.call(&["SCRIPT", "KILL"]), b"+OK\r\n");
    let ended = show(&runs.read_frame().expect("a reply"));
    assert!(
        ended.starts_with("-ERR Script killed by user with SCRIPT KILL..."),
        "{ended}"
    );
    assert_eq!(conn.call(&["GET", "held"]), b"$-1\r\n");
    let none = error(&mut conn, &["SCRIPT", "KILL"]);
    assert!(none.starts_with("-NOTBUSY"), "{none}");
    // The connection and its Lua go on.
    assert_eq!(runs.call(&["EVAL", "return 2", "0"]), b":2\r\n");
}

#[test]
fn no_script_holds_up_its_end_by_catching_errors() {
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    for script in [
        "while true do pcall(function() while true do end end) end",
        "while true do redis.pcall('get','x') end",
        "local c = coroutine.wrap(function() while true do end end) while true do pcall(c) end",
        "while true do local t = setmetatable({},{__index=function() while true do end end}) pcall(function() return t.x end) end",
    ] {
        let mut runs = start(&server, &["EVAL", script, "0"]);
        assert_eq!(conn.call(&["SCRIPT", "KILL"]), b"+OK\r\n", "{script}");
        let ended = show(&runs.read_frame().expect("a reply"));
        assert!(ended.starts_with("-ERR Script killed"), "{ended}");
    }
}

#[test]
fn a_script_inside_one_long_function_of_lua_does_not_stop_other_connections() {
    let server = Server::terrace(&["--io-threads", "2"]);
    let mut others: Vec<Conn> = (0..8).map(|_| server.connect()).collect();
    let long = "local a = string.rep('a',22) return string.find(a,string.rep('a?',22)..a..'b') or 1";
    let mut runs = start(&server, &["EVAL", long, "0"]);
    for other in &mut others {
        let began = Instant::now();
        assert_eq!(other.call(&["PING"]), b"+PONG\r\n");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    assert_eq!(runs.read_frame().expect("a reply"), b":1\r\n");
}

#[test]
fn many_clients_that_wait_for_a_script_do_not_keep_it_from_being_ended() {
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    let mut runs = start(&server, &["EVAL", FOR_EVER, "1", "held"]);
    let mut waiting: Vec<Conn> = (0..200).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send_raw(&common::encode(&["INCR", "held"])).expect("sent");
    }
    std::thread::sleep(A_WHILE);
    assert_eq!(conn.call(&["PING"]), b"+PONG\r\n");
    assert_eq!(conn.call(&["SCRIPT", "KILL"]), b"+OK\r\n");
    runs.read_frame().expect("a reply");
    for client in &mut waiting {
        assert_eq!(client.read_frame().expect("a reply")[0], b':');
    }
    assert_eq!(conn.call(&["GET", "held"]), b"$3\r\n200\r\n");
}

#[test]
fn a_script_that_has_written_is_not_ended() {
    let mut server = Server::terrace(&[]);
    let mut conn = server.connect();
    let script = "redis.call('set',KEYS[1],'x') while redis.call('exists','stop') == 0 do end return 'over'";
    let mut runs = start(&server, &["EVAL", script, "1", "held"]);
    let refused = error(&mut conn, &["SCRIPT", "KILL"]);
    assert!(refused.starts_with("-UNKILLABLE"), "{refused}");
    drop(conn);
    runs.close_writing();
    server.kill();
}

#[test]
fn what_a_script_did_is_put_back_when_it_has_to_begin_anew() {
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    // It writes small values of every type, and then reaches for every shard: what it did is undone and done again.
    let script = "redis.call('append','s','x') redis.call('rpush','l','x') redis.call('hincrby','h','f',1) \
         redis.call('sadd','m','x') redis.call('zincrby','z',1,'x') redis.call('xadd','st','*','a','b') \
         redis.call('pexpire','s',100000) redis.call('incr','n') redis.call('del','gone') \
         return redis.call('dbsize')";
    conn.call(&["SET", "gone", "x"]);
    assert_eq!(number(&call(&mut conn, &["EVAL", script, "0"])), 7);
    let lens = [
        "STRLEN s",
        "LLEN l",
        "HGET h f",
        "SCARD m",
        "ZSCORE z x",
        "XLEN st",
        "GET n",
    ];
    for line in lens {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(number(&call(&mut conn, &words)), 1, "{line}");
    }
    assert_eq!(conn.integer("EXISTS gone"), 0);
}

#[test]
fn a_script_with_a_large_value_is_as_whole_as_any() {
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    let fill = "for i=1,5000 do redis.call('rpush',KEYS[1],i) end return redis.call('llen',KEYS[1])";
    assert_eq!(number(&call(&mut conn, &["EVAL", fill, "1", "large"])), 5000);
    let push = "redis.call('rpush',KEYS[1],'x') redis.call('incr',ARGV[1]) return redis.call('llen',KEYS[1])";
    let threads = 4;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut conn = server.connect();
                for _ in 0..200 {
                    call(&mut conn, &["EVAL", push, "1", "large", "pushed"]);
                }
            });
        }
    });
    assert_eq!(conn.integer("LLEN large"), 5000 + threads * 200);
    assert_eq!(number(&call(&mut conn, &["GET", "pushed"])), threads * 200);
}

#[test]
fn a_pause_of_writes_lets_scripts_run_that_say_that_they_only_read() {
    const READS: &str = "#!lua flags=no-writes\nreturn redis.call('get',KEYS[1])";
    const WRITES: &str = "#!lua\nreturn redis.call('incr',KEYS[1])";
    const LIBRARY: &str = "#!lua name=l\nredis.register_function{function_name='reads',flags={'no-writes'},\
         callback=function(keys) return redis.call('get',keys[1]) end}";
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let (mut conn, mut other) = (server.connect(), server.connect());
    conn.words("SET k 1");
    let sha = show(&conn.call(&["SCRIPT", "LOAD", READS]));
    let sha = &sha[7..47];
    assert_eq!(conn.call(&["FUNCTION", "LOAD", LIBRARY]), b"$1\r\nl\r\n");
    conn.words("CLIENT PAUSE 60000 WRITE");
    for call in [
        ["EVAL", READS, "1", "k"],
        ["EVALSHA", sha, "1", "k"],
        ["FCALL", "reads", "1", "k"],
    ] {
        assert_eq!(conn.call(&call), b"$1\r\n1\r\n", "{call:?}");
    }
    other.set_read_timeout(A_WHILE);
    other
        .send_raw(&common::encode(&["EVAL", WRITES, "1", "k"]))
        .expect("sent");
    assert!(other.read_frame().is_err(), "it writes");
    conn.words("CLIENT UNPAUSE");
    other.set_read_timeout(TIME);
    assert_eq!(other.read_frame().expect("a reply"), b":2\r\n");
}

#[test]
fn memory_of_scripts_is_bounded() {
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    let script = "local s = string.rep('x', 1000000) while true do s = s .. s end";
    let refused = error(&mut conn, &["EVAL", script, "0"]);
    assert!(refused.contains("not enough memory"), "{refused}");
    assert_eq!(conn.call(&["EVAL", "return 1", "0"]), b":1\r\n");
}

const LIBRARY: &str = "#!lua name=counting\n\
     redis.register_function('add', function(keys, args) return redis.call('incrby', keys[1], args[1]) end)\n\
     redis.register_function{function_name='look', flags={'no-writes'}, callback=function(keys) return redis.call('get', keys[1]) end}";

#[test]
fn libraries_survive_restarts_and_crashes() {
    let mut server = Server::terrace(&["--appendfsync", "always"]);
    let mut conn = server.connect();
    assert_eq!(conn.call(&["FUNCTION", "LOAD", LIBRARY]), b"$8\r\ncounting\r\n");
    assert_eq!(conn.call(&["FCALL", "add", "1", "n", "5"]), b":5\r\n");
    drop(conn);
    server.kill();
    server.restart();
    let mut conn = server.connect();
    assert_eq!(
        conn.call(&["FCALL_RO", "look", "1", "n"]).len(),
        "$1\r\n5\r\n".len()
    );
    assert_eq!(conn.call(&["FUNCTION", "DELETE", "counting"]), b"+OK\r\n");
    drop(conn);
    server.terminate();
    server.restart();
    let gone = error(&mut server.connect(), &["FCALL", "add", "1", "n", "5"]);
    assert!(gone.starts_with("-ERR Function not found"), "{gone}");
}

#[test]
fn libraries_go_from_one_server_to_another() {
    let from = Server::redis(&[]);
    let to = Server::terrace(&[]);
    from.connect().call(&["FUNCTION", "LOAD", LIBRARY]);
    let Value::Bulk(_, payload) = Value::parse(&from.connect().call(&["FUNCTION", "DUMP"])) else {
        panic!("FUNCTION DUMP answers a string")
    };
    let restore: [&[u8]; 3] = [b"FUNCTION", b"RESTORE", &payload];
    assert_eq!(to.connect().call(&restore), b"+OK\r\n");
    let Value::Bulk(_, payload) = Value::parse(&to.connect().call(&["FUNCTION", "DUMP"])) else {
        panic!("FUNCTION DUMP answers a string")
    };
    from.connect().call(&["FUNCTION", "FLUSH"]);
    let restore: [&[u8]; 3] = [b"FUNCTION", b"RESTORE", &payload];
    assert_eq!(from.connect().call(&restore), b"+OK\r\n");
    for server in [&from, &to] {
        assert_eq!(server.connect().call(&["FCALL", "add", "1", "n", "5"]), b":5\r\n");
    }
}

#[test]
fn a_function_is_seen_and_ended() {
    let server = Server::terrace(&[]);
    let mut conn = server.connect();
    let library = "#!lua name=slow\nredis.register_function('endless', function() while true do end end)";
    conn.call(&["FUNCTION", "LOAD", library]);
    let mut runs = start(&server, &["FCALL", "endless", "1", "held", "arg"]);
    let stats = show(&conn.call(&["FUNCTION", "STATS"]));
    assert!(stats.contains("endless") && stats.contains("held"), "{stats}");
    assert_eq!(conn.call(&["FUNCTION", "KILL"]), b"+OK\r\n");
    let ended = show(&runs.read_frame().expect("a reply"));
    assert!(
        ended.contains("Script killed by user") && ended.contains("script: endless"),
        "{ended}"
    );
}
