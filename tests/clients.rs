//! The `redis` crate, as an application uses it, against the server: strings, keys, expiry, pipelines, both protocols.
//!
//! What is tested is the meeting of client and server (handshake, types of replies); that replies are Redis's is the
//! differential tests' affair.

mod common;

use std::time::Duration;

use common::Server;
use redis::{
    Commands, Connection, ExistenceCheck, Expiry, RedisResult, SetExpiry, SetOptions, TypedCommands,
};

/// Runs one test in RESP2 and in RESP3, on an empty server each.
fn in_both_protocols(test: fn(&mut Connection)) {
    for protocol in ["resp2", "resp3"] {
        let server = start();
        let url = format!("redis://127.0.0.1:{}/?protocol={protocol}", server.port());
        let client = redis::Client::open(url).expect("a valid URL");
        let mut conn = client
            .get_connection()
            .unwrap_or_else(|e| panic!("{protocol}: {e}"));
        conn.set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a socket option");
        test(&mut conn);
    }
}

/// `TERRACE_DIFF_SELF=1` tests the tests, with redis-server.
fn start() -> Server {
    match std::env::var("TERRACE_DIFF_SELF") {
        Ok(v) if v != "0" => Server::redis(&[]),
        _ => Server::terrace(&[]),
    }
}

#[test]
fn strings() {
    in_both_protocols(|conn| {
        assert_eq!(TypedCommands::get(conn, "k").unwrap(), None);
        TypedCommands::set(conn, "k", "v").unwrap();
        assert_eq!(TypedCommands::get(conn, "k").unwrap().as_deref(), Some("v"));
        let options = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .get(true);
        let old: Option<String> = Commands::set_options(conn, "k", "w", options).unwrap();
        assert_eq!(old.as_deref(), Some("v"));
        assert_eq!(TypedCommands::append(conn, "k", "alue").unwrap(), 5);
        assert_eq!(TypedCommands::strlen(conn, "k").unwrap(), 5);
        assert_eq!(TypedCommands::getrange(conn, "k", 1, -1).unwrap(), "alue");
        assert_eq!(
            TypedCommands::get_del(conn, "k").unwrap().as_deref(),
            Some("value")
        );

        let binary: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let _: () = Commands::set(conn, "binary", &binary).unwrap();
        let back: Vec<u8> = Commands::get(conn, "binary").unwrap();
        assert_eq!(back, binary);
    });
}

#[test]
fn several_keys_at_once() {
    in_both_protocols(|conn| {
        TypedCommands::mset(conn, &[("a", "1"), ("b", "2")]).unwrap();
        let values: Vec<Option<i64>> = Commands::mget(conn, &["a", "b", "c"]).unwrap();
        assert_eq!(values, [Some(1), Some(2), None]);
        assert!(!TypedCommands::mset_nx(conn, &[("b", "3"), ("c", "3")]).unwrap());
        assert_eq!(TypedCommands::del(conn, &["a", "b", "c"]).unwrap(), 2);
    });
}

#[test]
fn counters_and_bits() {
    in_both_protocols(|conn| {
        let n: i64 = Commands::incr(conn, "n", 5).unwrap();
        assert_eq!(n, 5);
        let n: i64 = Commands::decr(conn, "n", 7).unwrap();
        assert_eq!(n, -2);
        let f: f64 = Commands::incr(conn, "f", 1.25).unwrap();
        assert_eq!(f, 1.25);
        assert!(!TypedCommands::setbit(conn, "bits", 9, true).unwrap());
        assert!(TypedCommands::getbit(conn, "bits", 9).unwrap());
        assert_eq!(TypedCommands::bitcount(conn, "bits").unwrap(), 1);
    });
}

#[test]
fn expiry() {
    in_both_protocols(|conn| {
        TypedCommands::set_ex(conn, "k", "v", 100).unwrap();
        let seconds: i64 = Commands::ttl(conn, "k").unwrap();
        assert!((99..=100).contains(&seconds), "{seconds}");
        assert!(TypedCommands::persist(conn, "k").unwrap());
        let none: i64 = Commands::ttl(conn, "k").unwrap();
        assert_eq!(none, -1);
        let value: Option<String> = Commands::get_ex(conn, "k", Expiry::EX(50)).unwrap();
        assert_eq!(value.as_deref(), Some("v"));
        assert!(TypedCommands::pexpire(conn, "k", 20).unwrap());
        std::thread::sleep(Duration::from_millis(60));
        assert!(!TypedCommands::exists(conn, "k").unwrap());
        let options = SetOptions::default().with_expiration(SetExpiry::PX(20));
        let _: () = Commands::set_options(conn, "k", "v", options).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(TypedCommands::get(conn, "k").unwrap(), None);
    });
}

#[test]
fn keys_and_scan() {
    in_both_protocols(|conn| {
        for i in 0..500 {
            TypedCommands::set(conn, format!("key:{i}"), i).unwrap();
        }
        TypedCommands::set(conn, "other", "x").unwrap();
        let found: RedisResult<Vec<String>> = Commands::scan_match::<_, String>(conn, "key:*")
            .unwrap()
            .collect();
        let mut found = found.unwrap();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 500);
        let size: i64 = redis::cmd("DBSIZE").query(conn).unwrap();
        assert_eq!(size, 501);
        TypedCommands::rename(conn, "other", "renamed").unwrap();
        assert!(TypedCommands::exists(conn, "renamed").unwrap());
        assert_eq!(TypedCommands::unlink(conn, "renamed").unwrap(), 1);
    });
}

#[test]
fn pipelines() {
    in_both_protocols(|conn| {
        let mut pipe = redis::pipe();
        for i in 0..1000 {
            pipe.set(format!("k:{i}"), i).ignore();
        }
        let (first, last): (i64, i64) = pipe.get("k:0").get("k:999").query(conn).unwrap();
        assert_eq!((first, last), (0, 999));
    });
}

#[test]
fn errors_keep_their_code_and_the_connection() {
    in_both_protocols(|conn| {
        TypedCommands::set(conn, "k", "text").unwrap();
        let error = redis::cmd("INCR").arg("k").query::<i64>(conn).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("value is not an integer or out of range"),
            "{error}"
        );
        let error = redis::cmd("NOSUCH").query::<i64>(conn).unwrap_err();
        assert!(error.to_string().contains("unknown command 'NOSUCH'"), "{error}");
        assert_eq!(TypedCommands::get(conn, "k").unwrap().as_deref(), Some("text"));
    });
}

/// A connection of its own that subscribes, as the crate does it.
#[test]
fn publish_and_subscribe() {
    for protocol in ["resp2", "resp3"] {
        let server = start();
        let url = format!("redis://127.0.0.1:{}/?protocol={protocol}", server.port());
        let client = redis::Client::open(url).expect("a valid URL");
        let mut listening = client.get_connection().expect("a connection");
        let mut conn = client.get_connection().expect("a connection");
        let mut heard = listening.as_pubsub();
        heard
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a socket option");
        heard.subscribe("news").expect("subscribed");
        heard.psubscribe("n*").expect("subscribed");
        let reached: i64 = Commands::publish(&mut conn, "news", "one").expect("published");
        assert_eq!(reached, 2);
        let mut got: Vec<(String, String, bool)> = (0..2)
            .map(|_| {
                let message = heard.get_message().expect("a message");
                let payload = message.get_payload().expect("text");
                (
                    message.get_channel_name().to_string(),
                    payload,
                    message.from_pattern(),
                )
            })
            .collect();
        got.sort();
        let news = |by_pattern| ("news".to_string(), "one".to_string(), by_pattern);
        assert_eq!(got, [news(false), news(true)], "{protocol}");
        heard.unsubscribe("news").expect("unsubscribed");
        heard.punsubscribe("n*").expect("unsubscribed");
        let reached: i64 = Commands::publish(&mut conn, "news", "two").expect("published");
        assert_eq!(reached, 0);
    }
}

/// A value by its subscription, in the words of any library.
#[test]
fn a_value_is_subscribed_to() {
    if std::env::var("TERRACE_DIFF_SELF").is_ok_and(|v| v != "0") {
        return; // redis-server has no such channels
    }
    let server = start();
    let url = format!("redis://127.0.0.1:{}", server.port());
    let client = redis::Client::open(url).expect("a valid URL");
    let mut listening = client.get_connection().expect("a connection");
    let mut conn = client.get_connection().expect("a connection");
    let mut heard = listening.as_pubsub();
    heard
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a socket option");
    heard.subscribe("__keyvalue@0__:k").expect("subscribed");
    TypedCommands::set(&mut conn, "k", "v").expect("set");
    let next = |heard: &mut redis::PubSub<'_>| -> String {
        heard
            .get_message()
            .expect("a message")
            .get_payload()
            .expect("text")
    };
    assert_eq!(next(&mut heard), "now 0 gone\n");
    assert_eq!(next(&mut heard), "set 27 value\nv");
}
