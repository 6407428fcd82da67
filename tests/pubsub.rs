//! Publish and subscribe with several clients: against the real server, against a plain model, and at the limits.

mod common;

use common::stage::compare;
use common::{Conn, Server, encode, show};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const MEMORY: [&str; 4] = ["--range", "default", "*", "memory"];

#[test]
fn subscriptions_are_confirmed_and_counted() {
    compare(
        "a SUBSCRIBE x y x
         a?
         a?
         a PSUBSCRIBE p* x*
         a?
         a SSUBSCRIBE x s
         a?
         a UNSUBSCRIBE nope
         a UNSUBSCRIBE x
         a PUNSUBSCRIBE p* nope
         a?
         a SUNSUBSCRIBE s
         a SUNSUBSCRIBE
         a SUNSUBSCRIBE
         a UNSUBSCRIBE
         a PUNSUBSCRIBE
         a PUNSUBSCRIBE
         a UNSUBSCRIBE
         a UNSUBSCRIBE u v
         a?
         a SUNSUBSCRIBE u
         a GET k
         a SUBSCRIBE
         a PSUBSCRIBE
         a SSUBSCRIBE
         a PUBLISH x
         a SPUBLISH x",
    );
}

#[test]
fn a_subscriber_of_the_older_protocol_may_do_little_else() {
    compare(
        "a SUBSCRIBE x
         a PING
         a PING hi
         a PING a b
         a GET k
         a GET
         a CONFIG GET x
         a NOSUCH
         a HELLO 3
         a CLIENT ID
         a PUBLISH x y
         a PSUBSCRIBE p
         a SSUBSCRIBE s
         a RESET
         a GET k
         a PING
         a SSUBSCRIBE s
         a GET k
         a SUNSUBSCRIBE
         a GET k
         a SUBSCRIBE x
         a QUIT",
    );
}

#[test]
fn a_subscriber_of_the_newer_protocol_does_everything() {
    compare(
        "a= HELLO 3
         a SUBSCRIBE x
         a PING
         a SET k v
         a GET k
         b PUBLISH x one
         a?
         a PSUBSCRIBE x*
         b PUBLISH x two
         a?
         a?
         a SSUBSCRIBE x
         b SPUBLISH x three
         a?
         a UNSUBSCRIBE
         a UNSUBSCRIBE
         a PUNSUBSCRIBE
         a SUNSUBSCRIBE
         a RESET
         a GET k",
    );
}

#[test]
fn messages_reach_those_who_subscribed() {
    compare(
        "a SUBSCRIBE x y
         a?
         b= HELLO 3
         b SUBSCRIBE x
         c PSUBSCRIBE ?
         d PUBLISH x 1
         a?
         b?
         c?
         d PUBLISH y 2
         a?
         c?
         d PUBLISH zz 3
         d SPUBLISH x 4
         a UNSUBSCRIBE x
         d PUBLISH x 5
         b?
         c?
         b~
         d PUBLISH x 6
         c?
         c~
         d PUBLISH x 7
         d PUBLISH y 8
         a?",
    );
}

#[test]
fn a_channel_is_not_the_value_of_its_name() {
    compare(
        "a SUBSCRIBE k
         d SET k v
         d DEL k
         d SET k v
         d PEXPIRE k 1
         d FLUSHALL
         d PUBLISH k 1
         a?
         d SELECT 3
         d PUBLISH k 2
         a?
         d SWAPDB 0 3
         d PUBLISH k 3
         a?",
    );
}

#[test]
fn channels_are_listed() {
    compare(
        "a SUBSCRIBE x
         a SSUBSCRIBE s
         b SUBSCRIBE x
         b PSUBSCRIBE x* y*
         b?
         a PSUBSCRIBE x*
         d PUBSUB CHANNELS
         d PUBSUB CHANNELS x*
         d PUBSUB CHANNELS y*
         d PUBSUB NUMSUB
         d PUBSUB NUMSUB x y s
         d PUBSUB NUMPAT
         d PUBSUB SHARDCHANNELS
         d PUBSUB SHARDCHANNELS x
         d PUBSUB SHARDNUMSUB
         d PUBSUB SHARDNUMSUB s x
         d PUBSUB CHANNELS a b
         d PUBSUB NUMPAT x
         d PUBSUB NOPE
         d PUBSUB
         b~
         d PUBSUB NUMSUB x
         d PUBSUB NUMPAT
         a~
         d PUBSUB CHANNELS
         d PUBSUB SHARDCHANNELS
         d PUBSUB NUMPAT",
    );
}

#[test]
fn replies_may_be_off_and_pushes_go_on() {
    compare(
        "a= HELLO 3
         a+ CLIENT REPLY OFF
         a SUBSCRIBE x
         a+ PING
         d PUBLISH x 1
         a?
         a UNSUBSCRIBE
         a CLIENT REPLY ON
         a+ CLIENT REPLY SKIP
         a SUBSCRIBE x
         a PING",
    );
}

#[test]
fn subscribers_are_killed_by_their_type() {
    compare(
        "a SUBSCRIBE x
         b SUBSCRIBE x
         d CLIENT KILL TYPE pubsub
         d PUBLISH x 1
         d CLIENT KILL TYPE pubsub",
    );
}

/// Redis 7.2 sends what a client publishes to itself behind the reply; 7.0, the oracle, before it.
#[test]
fn what_a_client_sends_to_itself_comes_behind_the_reply() {
    let server = Server::terrace(&MEMORY);
    let mut conn = server.connect();
    conn.words("HELLO 3");
    conn.words("SUBSCRIBE x");
    let requests = [encode(&["PUBLISH", "x", "1"]), encode(&["PING"])].concat();
    conn.send_raw(&requests).expect("sent");
    let frames: Vec<String> = (0..3)
        .map(|_| show(&conn.read_frame().expect("a frame")))
        .collect();
    assert_eq!(frames[0], ":1\\r\\n");
    assert!(frames[1].starts_with(">3\\r\\n$7\\r\\nmessage"), "{}", frames[1]);
    assert_eq!(frames[2], "+PONG\\r\\n");
}

#[test]
fn subscriptions_show_in_the_list_of_clients() {
    let server = Server::terrace(&MEMORY);
    let (mut a, mut d) = (server.connect(), server.connect());
    a.send_raw(&encode(&["SUBSCRIBE", "x", "y"])).expect("sent");
    (0..2).for_each(|_| drop(a.read_frame().expect("a confirmation")));
    a.words("PSUBSCRIBE p");
    a.words("SSUBSCRIBE s");
    let list = d.bulk("CLIENT LIST TYPE pubsub").expect("a list");
    let list = String::from_utf8_lossy(&list);
    assert!(
        list.contains(" flags=P ") && list.contains(" sub=2 psub=1 ssub=1 "),
        "{list}"
    );
    assert_eq!(list.lines().count(), 1);
    assert_eq!(info(&mut d, "pubsub_channels"), 2);
    assert_eq!(info(&mut d, "pubsubshard_channels"), 1);
    assert_eq!(info(&mut d, "pubsub_patterns"), 1);
    assert!(d.integer("MEMORY USAGE x") > 40);
    drop(a);
    until(|| info(&mut d, "pubsub_clients") == 0);
    assert_nothing_left(&mut d);
}

fn info(conn: &mut Conn, field: &str) -> i64 {
    let text = conn.bulk("INFO stats").expect("a text");
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap_or_else(|| panic!("no {field}"))
        .parse()
        .expect("a number")
}

fn assert_nothing_left(conn: &mut Conn) {
    for field in [
        "pubsub_channels",
        "pubsubshard_channels",
        "pubsub_patterns",
        "pubsub_clients",
        "pubsub_key_subscriptions",
        "pubsub_key_bytes",
    ] {
        assert_eq!(info(conn, field), 0, "{field}");
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < common::stage::PATIENCE, "in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One client of the model, and what it must have been sent since it was last looked at.
#[derive(Default)]
struct Listener {
    channels: BTreeSet<String>,
    patterns: BTreeSet<String>,
    shard: BTreeSet<String>,
    /// In the order of the publishing; what one publishing sends to one client stands in no order.
    expected: Vec<BTreeSet<String>>,
}

impl Listener {
    fn hear(&mut self, channel: &str, payload: &str) -> usize {
        let mut heard = BTreeSet::new();
        if self.channels.contains(channel) {
            heard.insert(push(&["message", channel, payload]));
        }
        for pattern in &self.patterns {
            if channel.starts_with(pattern.trim_end_matches('*')) {
                heard.insert(push(&["pmessage", pattern, channel, payload]));
            }
        }
        let count = heard.len();
        self.expected.push(heard);
        count
    }

    fn hear_shard(&mut self, channel: &str, payload: &str) -> usize {
        let hears = self.shard.contains(channel);
        if hears {
            self.expected.push([push(&["smessage", channel, payload])].into());
        }
        usize::from(hears)
    }
}

/// As `show` shows it, in whichever protocol: the kind of frame is left out.
fn push(words: &[&str]) -> String {
    show(&encode(words))[1..].to_string()
}

/// Everything that was sent to a client so far.
fn drain(conn: &mut Conn) -> Vec<String> {
    conn.send_raw(&encode(&["PING", "the-end"])).expect("sent");
    let mut frames = Vec::new();
    loop {
        let frame = show(&conn.read_frame().expect("a frame"));
        if frame.contains("the-end") {
            return frames;
        }
        frames.push(frame[1..].to_string());
    }
}

fn check(name: usize, listener: &mut Listener, conn: &mut Conn, seed: u64) {
    let mut got = drain(conn).into_iter();
    for expected in std::mem::take(&mut listener.expected) {
        let found: BTreeSet<String> = got.by_ref().take(expected.len()).collect();
        assert_eq!(found, expected, "client {name}, seed {seed}");
    }
    assert_eq!(got.next(), None, "client {name}, seed {seed}");
}

/// Who hears what, against a plain model: clients of both protocols come, go, subscribe and publish at random.
#[test]
fn the_right_clients_hear_every_message() {
    let server = Server::terrace(&MEMORY);
    let mut publisher = server.connect();
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut clients: BTreeMap<usize, (Listener, Conn)> = BTreeMap::new();
        for step in 0..1_500 {
            let name = random.usize(..12);
            let channel = format!(
                "{}{}",
                ["a", "b", "__keyspace@0__:", "__keyevent@0__:"][random.usize(..4)],
                random.usize(..5)
            );
            let pattern = format!("{}*", &channel[..random.usize(1..=channel.len())]);
            match random.usize(..20) {
                0 => {
                    clients.remove(&name);
                }
                1..=4 => subscribe(&server, &mut clients, name, "SUBSCRIBE", &channel),
                5 => subscribe(&server, &mut clients, name, "PSUBSCRIBE", &pattern),
                6 => subscribe(&server, &mut clients, name, "SSUBSCRIBE", &channel),
                7..=9 => {
                    let Some((listener, conn)) = clients.get_mut(&name) else {
                        continue;
                    };
                    check(name, listener, conn, seed);
                    let known = listener.patterns.iter().next().cloned().unwrap_or(pattern);
                    listener.channels.remove(&channel);
                    listener.patterns.remove(&known);
                    listener.shard.remove(&channel);
                    conn.words(&format!("UNSUBSCRIBE {channel}"));
                    conn.words(&format!("PUNSUBSCRIBE {known}"));
                    conn.words(&format!("SUNSUBSCRIBE {channel}"));
                }
                10 => {
                    let Some((listener, conn)) = clients.get_mut(&name) else {
                        continue;
                    };
                    check(name, listener, conn, seed);
                    let most = listener.channels.len().max(1);
                    listener.channels.clear();
                    conn.send_raw(&encode(&["UNSUBSCRIBE"])).expect("sent");
                    (0..most).for_each(|_| drop(conn.read_frame().expect("a confirmation")));
                }
                _ => {
                    // A client that hung up is heard of no more once its number is given back.
                    let own = clients.values().filter(|(l, _)| {
                        !(l.channels.is_empty() && l.patterns.is_empty() && l.shard.is_empty())
                    });
                    let own = own.count() as i64;
                    until(|| info(&mut publisher, "pubsub_clients") == own);
                    let (payload, of_shards) = (step.to_string(), random.usize(..5) == 0);
                    let command = if of_shards { "SPUBLISH" } else { "PUBLISH" };
                    let heard: usize = clients
                        .values_mut()
                        .map(|(listener, _)| match of_shards {
                            true => listener.hear_shard(&channel, &payload),
                            false => listener.hear(&channel, &payload),
                        })
                        .sum();
                    let said = publisher.integer(&format!("{command} {channel} {payload}"));
                    assert_eq!(said, heard as i64, "{command} {channel}, seed {seed}");
                }
            }
        }
        for (name, (mut listener, mut conn)) in clients {
            check(name, &mut listener, &mut conn, seed);
        }
        until(|| info(&mut publisher, "pubsub_clients") == 0);
        assert_nothing_left(&mut publisher);
    }
}

fn subscribe(
    server: &Server,
    clients: &mut BTreeMap<usize, (Listener, Conn)>,
    name: usize,
    command: &str,
    to: &str,
) {
    let (listener, conn) = clients.entry(name).or_insert_with(|| {
        let mut conn = server.connect();
        conn.words(if name.is_multiple_of(2) {
            "HELLO 2"
        } else {
            "HELLO 3"
        });
        (Listener::default(), conn)
    });
    // Messages on their way would come before the confirmation.
    check(name, listener, conn, 0);
    let set = match command {
        "SUBSCRIBE" => &mut listener.channels,
        "PSUBSCRIBE" => &mut listener.patterns,
        _ => &mut listener.shard,
    };
    set.insert(to.to_string());
    let confirmed = show(&conn.words(&format!("{command} {to}")));
    assert!(confirmed.contains(&command.to_lowercase()), "{confirmed}");
}

/// Subscribers come and go while others publish; in the end nothing is left.
#[test]
fn a_storm_leaves_nothing_behind() {
    let server = Server::terrace(&MEMORY);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut conn = server.connect();
                    let mut sent = 0u64;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let batch: Vec<Vec<Vec<u8>>> = (0..32)
                            .map(|i| {
                                let channel = format!("c{}", (sent + i) % 50);
                                vec![b"PUBLISH".to_vec(), channel.into_bytes(), vec![b'x'; 100]]
                            })
                            .collect();
                        conn.pipeline(&batch).expect("counts");
                        sent += 32;
                    }
                })
            })
            .collect();
        let comers: Vec<_> = (0..4u64)
            .map(|seed| {
                let server = &server;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..60 {
                        let mut conn = server.connect();
                        for _ in 0..10 {
                            let channel = format!("c{}", random.usize(..50));
                            conn.send_raw(&encode(&["SUBSCRIBE", &channel, "all"]))
                                .expect("sent");
                            conn.send_raw(&encode(&["PSUBSCRIBE", "c1*"])).expect("sent");
                            conn.send_raw(&encode(&["UNSUBSCRIBE", &channel])).expect("sent");
                        }
                        // Half of them read to the end of what they asked for; half just go.
                        if random.bool() {
                            for _ in 0..40 {
                                conn.read_frame().expect("a frame");
                            }
                        }
                    }
                })
            })
            .collect();
        comers
            .into_iter()
            .for_each(|thread| thread.join().expect("a client"));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        publishers
            .into_iter()
            .for_each(|thread| thread.join().expect("a publisher"));
    });
    let mut conn = server.connect();
    until(|| info(&mut conn, "pubsub_clients") == 0);
    assert_nothing_left(&mut conn);
}

/// After the confirmation that a subscription has ended nothing comes from there, however fast others publish.
#[test]
fn nothing_comes_after_the_end_of_a_subscription() {
    let server = Server::terrace(&MEMORY);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = server.connect();
            let batch = vec![vec![b"PUBLISH".to_vec(), b"c".to_vec(), b"m".to_vec()]; 64];
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                conn.pipeline(&batch).expect("counts");
            }
        });
        let mut conn = server.connect();
        for round in 0..300 {
            assert!(
                show(&conn.words("SUBSCRIBE c")).contains("subscribe"),
                "round {round}"
            );
            conn.send_raw(&encode(&["UNSUBSCRIBE", "c"])).expect("sent");
            while !show(&conn.read_frame().expect("a frame")).contains("unsubscribe") {}
            assert_eq!(show(&conn.words("ECHO x")), "$1\\r\\nx\\r\\n", "round {round}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn who_does_not_read_is_closed_and_counted() {
    let args = [&MEMORY[..], &["--client-output-buffer-limit", "pubsub 4mb 0 0"]].concat();
    let server = Server::terrace(&args);
    let (mut a, mut other, mut d) = (server.connect(), server.connect(), server.connect());
    a.words("SUBSCRIBE c");
    other.words("SUBSCRIBE d");
    let message = "x".repeat(1 << 20);
    until(|| d.call(&["PUBLISH", "c", &message]) == b":0\r\n");
    until(|| info(&mut d, "client_output_buffer_limit_disconnections") == 1);
    assert_eq!(d.integer("PUBLISH d x"), 1);
    assert!(show(&other.read_frame().expect("a message")).contains("message"));
}

#[test]
fn the_soft_limit_has_its_time() {
    let args = [&MEMORY[..], &["--client-output-buffer-limit", "pubsub 0 1mb 1"]].concat();
    let server = Server::terrace(&args);
    let (mut a, mut d) = (server.connect(), server.connect());
    a.words("SUBSCRIBE c");
    let message = "x".repeat(1 << 20);
    for _ in 0..30 {
        assert_eq!(d.call(&["PUBLISH", "c", &message]), b":1\r\n");
    }
    let started = Instant::now();
    // Without another message.
    until(|| info(&mut d, "client_output_buffer_limit_disconnections") == 1);
    assert!(started.elapsed() > Duration::from_millis(500));
    assert_eq!(d.call(&["PUBLISH", "c", "x"]), b":0\r\n");
}

/// Messages that come in a row are sent together, and all of them come, in order. A server whose turns are taken by
/// others may find itself idle all the time; so there is more than one try.
#[test]
fn a_busy_server_sends_several_messages_at_once() {
    const CLIENTS: i64 = 100;
    const MESSAGES: i64 = 2_000;
    let server = Server::terrace(&MEMORY);
    let mut conn = server.connect();
    let mut all: Vec<Conn> = (0..CLIENTS).map(|_| server.connect()).collect();
    all.iter_mut().for_each(|conn| {
        conn.words("SUBSCRIBE c");
    });
    let batch = |from: i64| -> Vec<Vec<Vec<u8>>> {
        let publish = |n: i64| ["PUBLISH", "c", &n.to_string()].map(|word| word.as_bytes().to_vec());
        (from..from + 16).map(|n| publish(n).to_vec()).collect()
    };
    let mut sends_of_a_try = || {
        let before = info(&mut conn, "total_writes_processed");
        for from in (0..MESSAGES).step_by(16) {
            conn.pipeline(&batch(from)).expect("counts");
        }
        for conn in &mut all {
            for n in 0..MESSAGES {
                let got = show(&conn.read_frame().expect("a message"));
                assert!(got.ends_with(&format!("\\r\\n{n}\\r\\n")), "{got} for {n}");
            }
        }
        info(&mut conn, "total_writes_processed") - before
    };
    let few = MESSAGES * CLIENTS / 32;
    assert!((0..10).any(|_| sends_of_a_try() < few), "more than {few} sends");
}

/// However long messages may wait: there is nothing to wait for.
#[test]
fn an_idle_server_sends_at_once() {
    for longest in ["1000000", "0"] {
        let args = [&MEMORY[..], &["--pubsub-gather-usec", longest]].concat();
        let server = Server::terrace(&args);
        let mut conn = server.connect();
        let mut all: Vec<Conn> = (0..100).map(|_| server.connect()).collect();
        all.iter_mut().for_each(|conn| {
            conn.words("SUBSCRIBE c");
        });
        let began = Instant::now();
        for _ in 0..100 {
            assert_eq!(conn.integer("PUBLISH c x"), 100);
            for conn in &mut all {
                conn.read_frame().expect("a message");
            }
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?} with {longest}");
    }
}

/// What a transaction or script publishes is heard when it is done, in order with what is told of its changes.
#[test]
fn what_is_published_within_a_group_comes_in_order_with_its_changes() {
    compare(
        "b CONFIG SET notify-keyspace-events KEA
         a SUBSCRIBE c1 __keyspace@0__:h1 __keyspace@0__:k1
         a?
         a?
         p PSUBSCRIBE c*
         b MULTI
         b SET h1 1
         b PUBLISH c1 x
         b SET k1 1
         b PUBLISH c1 y
         b PUBLISH nobody y
         b EXEC
         a?
         a?
         a?
         a?
         p?
         p?
         b EVAL redis.call('PUBLISH','c1','first')redis.call('SET',KEYS[1],'2')return{redis.call('PUBLISH','c1','x')} 1 h1
         a?
         a?
         a?
         b MULTI
         b PUBLISH c1 kept
         b LPUSH h1 z
         b EXEC
         a?
         b EVAL redis.call('PUBLISH','c1','said')redis.call('LPUSH',KEYS[1],'2') 1 h1
         a?
         s SSUBSCRIBE sc
         b MULTI
         b SPUBLISH sc x
         b SET h1 3
         b EXEC
         s?
         a?
         b PUBLISH c1 last
         a?",
    );
}
