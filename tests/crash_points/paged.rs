//! The server dies while collections become paged, while what has changed of them is written, and while the rows of
//! deleted ones go. A real server runs the same commands: after each crash both hold the same, or do with the one
//! command in flight.

use super::common::{Conn, Server, show};
use fastrand::Rng;

/// Each large encoding is paged by the next flush.
const PAGED: &[&str] = &["--paged-threshold", "20"];
/// Both servers have these: collections leave their packed forms early.
const ENCODINGS: &[&str] = &[
    "--hash-max-listpack-entries",
    "8",
    "--zset-max-listpack-entries",
    "8",
    "--list-max-listpack-size",
    "8",
    "--stream-node-max-entries",
    "8",
];
const POINTS: &[&str] = &[
    "page-out",
    "page-changes",
    "page-drop",
    "flush-before-ingest",
    "flush-after-ingest",
    "flush-before-trim",
];
const COMMANDS_MAX: usize = 4000;
const KEYS: u32 = 2;

#[test]
fn a_crash_within_paging_keeps_what_was_acknowledged() {
    let rounds: u64 =
        std::env::var("TERRACE_CRASH_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number"));
    let mut run = Run::new();
    for round in 0..rounds {
        for (at, point) in POINTS.iter().enumerate() {
            let passes = (round + at as u64) % 3;
            run.die_at(point, passes);
            run.recover();
        }
    }
}

struct Run {
    server: Server,
    conn: Conn,
    redis: Server,
    model: Conn,
    rng: Rng,
    /// Ids of a stream only grow.
    next_id: u64,
    in_flight: Vec<String>,
}

impl Run {
    fn new() -> Run {
        let seed = std::env::var("TERRACE_SEED")
            .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        println!("TERRACE_SEED={seed}");
        let server = Server::terrace(&[super::SMALLEST, PAGED, ENCODINGS].concat());
        let redis = Server::redis(ENCODINGS);
        Run {
            conn: server.connect(),
            server,
            model: redis.connect(),
            redis,
            rng: Rng::with_seed(seed),
            next_id: 1,
            in_flight: Vec::new(),
        }
    }

    fn die_at(&mut self, point: &str, passes: u64) {
        self.server.kill();
        let when = format!("{point}={passes}*off->return");
        self.server.set_env(&[("FAILPOINTS", &when)]);
        let alive = self.server.try_restart();
        self.server.set_env(&[]);
        if !alive {
            return;
        }
        self.conn = self.server.connect();
        for _ in 0..COMMANDS_MAX {
            let words = self.choose();
            let Ok(reply) = self.conn.try_call(&words) else {
                self.in_flight = words;
                return;
            };
            if words[0] != "DEBUG" {
                let expected = self.model.call(&words);
                assert_eq!(show(&reply), show(&expected), "{words:?}");
            }
        }
        panic!("{point} was never reached");
    }

    fn recover(&mut self) {
        self.server.kill();
        self.server.restart();
        self.conn = self.server.connect();
        let digest = show(&self.conn.words("DEBUG DIGEST"));
        if digest != show(&self.model.words("DEBUG DIGEST")) && !self.in_flight.is_empty() {
            self.model.call(&self.in_flight);
        }
        self.in_flight.clear();
        assert_eq!(digest, show(&self.model.words("DEBUG DIGEST")), "after a crash");
        let _ = &self.redis;
    }

    /// The next command: it does the same on every server.
    fn choose(&mut self) -> Vec<String> {
        let rng = &mut self.rng;
        let key = rng.u32(..KEYS);
        let mut element = || rng.u32(..200);
        let (one, two, three) = (element(), element(), element());
        let value = "v".repeat(rng.usize(..120));
        let count = rng.u32(1..6);
        let line = match rng.u32(..100) {
            0..16 => format!("HSET h:{key} {one} {value}a {two} {value}b"),
            16..20 => format!("HDEL h:{key} {one} {two}"),
            20..30 => format!("SADD s:{key} {one}{value} {two} {three}"),
            30..34 => format!("SREM s:{key} {one} {two}"),
            34..46 => format!("ZADD z:{key} {one} {two}{value} {two} {three} {three} {one}"),
            46..50 => format!("ZINCRBY z:{key} {one} {two}"),
            50..53 => format!("ZPOPMIN z:{key} {count}"),
            53..55 => format!("ZREMRANGEBYSCORE z:{key} {one} {}", one + 3),
            55..57 => format!("ZRANGEBYSCORE z:{key} {one} {} LIMIT 1 3", one + 20),
            57..65 => format!("RPUSH l:{key} {one}{value} {two} {three}"),
            65..69 => format!("LPUSH l:{key} {one} {value}x"),
            69..72 => format!("LPOP l:{key} {count}"),
            72..74 => format!("LTRIM l:{key} 1 -3"),
            74..86 => {
                self.next_id += 1;
                format!("XADD x:{key} {}-1 f {one}{value}", self.next_id)
            }
            86..88 => format!("XTRIM x:{key} MAXLEN {}", 20 + one),
            88..90 => format!("RENAME {0}:{key} {0}:new", ["h", "s", "z", "l"][one as usize % 4]),
            90..94 => format!("DEL {}:{key}", ["h", "s", "z", "l", "x"][one as usize % 5]),
            94..97 => format!("GET {key}"),
            _ => "DEBUG RELOAD".to_string(),
        };
        line.split(' ').map(str::to_string).collect()
    }
}
