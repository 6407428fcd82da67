//! Random streams of commands over a small key space.
//!
//! A template such as `SET {key} {value} {set_options}` becomes a command by filling its places at random, with valid
//! and invalid words; now and then a word is lost, added or spoilt. Everything follows from one seed, which is
//! printed. A difference is shrunk before it is shown: only the commands that it needs remain.

use fastrand::Rng;

use crate::common::{Conn, show};
use crate::normalize::Rule;
use crate::script::whole_scan;
use crate::{Pair, Protocol, Tier};

const COMMANDS: usize = 20_000;
/// Requests sent before their replies are read. Their bytes must fit the sockets' buffers.
const BATCH: usize = 50;
/// A difference deeper in history than this is shown unshrunk.
const SHRINK_MAX: usize = 400;
const DATABASES: u32 = 3;

/// Repeated lines are more frequent. Times are long enough that nothing expires while the test runs.
const TEMPLATES: &[&str] = &[
    "SET {key} {value}",
    "SET {key} {value}",
    "SET {key} {value} {set_options}",
    "SET {key} {value} {set_options}",
    "GET {key}",
    "GET {key}",
    "SETNX {key} {value}",
    "SETEX {key} {seconds} {value}",
    "PSETEX {key} {milliseconds} {value}",
    "GETSET {key} {value}",
    "GETDEL {key}",
    "GETEX {key} {getex_options}",
    "APPEND {key} {value}",
    "STRLEN {key}",
    "INCR {key}",
    "DECR {key}",
    "INCRBY {key} {integer}",
    "DECRBY {key} {integer}",
    "INCRBYFLOAT {key} {float}",
    "MGET {key} {key} {key}",
    "MSET {key} {value} {key} {value}",
    "MSETNX {key} {value} {key} {value}",
    "SETRANGE {key} {offset} {value}",
    "GETRANGE {key} {index} {index}",
    "SUBSTR {key} {index} {index}",
    "LCS {key} {key} {lcs_options}",
    "SETBIT {key} {offset} {bit}",
    "GETBIT {key} {offset}",
    "BITCOUNT {key}",
    "BITCOUNT {key} {index} {index} {unit}",
    "BITPOS {key} {bit}",
    "BITPOS {key} {bit} {index}",
    "BITPOS {key} {bit} {index} {index} {unit}",
    "PFADD {key} {value} {value}",
    "PFADD {key} {integer}",
    "PFCOUNT {key}",
    "PFCOUNT {key} {key}",
    "PFMERGE {key} {key} {key}",
    "PFDEBUG ENCODING {key}",
    "HSET {key} {field} {value}",
    "HSET {key} {field} {value} {field} {value}",
    "HMSET {key} {field} {integer} {field} {value}",
    "HSETNX {key} {field} {value}",
    "HGET {key} {field}",
    "HMGET {key} {field} {field} {field}",
    "HGETALL {key}",
    "HKEYS {key}",
    "HVALS {key}",
    "HLEN {key}",
    "HEXISTS {key} {field}",
    "HSTRLEN {key} {field}",
    "HDEL {key} {field} {field}",
    "HINCRBY {key} {field} {integer}",
    "HINCRBYFLOAT {key} {field} {float}",
    "SADD {key} {value} {integer} {field}",
    "SADD {key} {integer} {integer}",
    "SREM {key} {field} {value} {integer}",
    "SISMEMBER {key} {field}",
    "SMISMEMBER {key} {field} {integer}",
    "SCARD {key}",
    "SMEMBERS {key}",
    "SMOVE {key} {key} {field}",
    "SINTER {key} {key}",
    "SUNION {key} {key} {key}",
    "SDIFF {key} {key} {key}",
    "SINTERSTORE {key} {key} {key}",
    "SUNIONSTORE {key} {key} {key}",
    "SDIFFSTORE {key} {key} {key}",
    "SINTERCARD 2 {key} {key} LIMIT {index}",
    "LPUSH {key} {value} {field}",
    "RPUSH {key} {integer} {value}",
    "LPUSHX {key} {value}",
    "RPUSHX {key} {field}",
    "LPOP {key}",
    "RPOP {key}",
    "LPOP {key} {index}",
    "LLEN {key}",
    "LRANGE {key} {index} {index}",
    "LINDEX {key} {index}",
    "LSET {key} {index} {value}",
    "LINSERT {key} {side_of} {field} {value}",
    "LREM {key} {index} {field}",
    "LTRIM {key} {index} {index}",
    "LPOS {key} {field} RANK {index}",
    "LPOS {key} {field} COUNT {index}",
    "LMOVE {key} {key} {end} {end}",
    "RPOPLPUSH {key} {key}",
    "LMPOP 2 {key} {key} {end} COUNT {index}",
    "ZADD {key} {zadd_options} {score} {field} {score} {field}",
    "ZADD {key} {score} {field} {score} {value}",
    "ZADD {key} {zadd_options} INCR {score} {field}",
    "ZINCRBY {key} {score} {field}",
    "ZREM {key} {field} {field}",
    "ZCARD {key}",
    "ZSCORE {key} {field}",
    "ZMSCORE {key} {field} {field}",
    "ZCOUNT {key} {bound} {bound}",
    "ZLEXCOUNT {key} {lex_bound} {lex_bound}",
    "ZRANGE {key} {index} {index} WITHSCORES",
    "ZRANGE {key} {index} {index} REV",
    "ZRANGE {key} {bound} {bound} BYSCORE LIMIT {index} {index}",
    "ZRANGE {key} {lex_bound} {lex_bound} BYLEX",
    "ZREVRANGEBYSCORE {key} {bound} {bound} WITHSCORES",
    "ZRANGESTORE {key} {key} {index} {index}",
    "ZREMRANGEBYRANK {key} {index} {index}",
    "ZREMRANGEBYSCORE {key} {bound} {bound}",
    "ZREMRANGEBYLEX {key} {lex_bound} {lex_bound}",
    "ZPOPMIN {key}",
    "ZPOPMAX {key} {index}",
    "ZMPOP 1 {key} {extreme}",
    "ZUNIONSTORE {key} 2 {key} {key} WEIGHTS {score} {score}",
    "ZINTERSTORE {key} 2 {key} {key} AGGREGATE {extreme}",
    "ZDIFFSTORE {key} 2 {key} {key}",
    "ZUNION 2 {key} {key} WITHSCORES",
    "ZINTERCARD 2 {key} {key}",
    "XADD {key} {stream_id} {field} {value}",
    "XADD {key} NOMKSTREAM MAXLEN {index} {stream_id} {field} {value} {field} {integer}",
    "XLEN {key}",
    "XRANGE {key} - + COUNT {index}",
    "XREVRANGE {key} {stream_id} -",
    "XDEL {key} {stream_id} {stream_id}",
    "XTRIM {key} MAXLEN {index}",
    "XREAD COUNT 3 STREAMS {key} {key} 0 {stream_id}",
    "BITOP {bit_operation} {key} {key} {key}",
    "BITOP NOT {key} {key}",
    "BITFIELD {key} {bitfield} {bitfield} {bitfield}",
    "BITFIELD_RO {key} GET {bitfield_type} {bitfield_offset}",
    "DEL {key} {key}",
    "UNLINK {key}",
    "EXISTS {key} {key}",
    "TOUCH {key} {key}",
    "TYPE {key}",
    "EXPIRE {key} {seconds} {expire_options}",
    "PEXPIRE {key} {milliseconds} {expire_options}",
    "EXPIREAT {key} {unix_seconds} {expire_options}",
    "PEXPIREAT {key} {unix_milliseconds} {expire_options}",
    "EXPIRE {key} {seconds}",
    "TTL {key}",
    "PTTL {key}",
    "EXPIRETIME {key}",
    "PEXPIRETIME {key}",
    "PERSIST {key}",
    "RENAME {key} {key}",
    "RENAMENX {key} {key}",
    "COPY {key} {key} {copy_options}",
    "MOVE {key} {database}",
    "SELECT {database}",
    "SWAPDB {database} {database}",
    "OBJECT ENCODING {key}",
    "KEYS {pattern}",
    "DBSIZE",
    "ECHO {value}",
];

/// Words that are wrong nearly everywhere. None of them makes a server allocate much.
const JUNK: &[&str] = &[
    "",
    "abc",
    "-1",
    "0",
    "1.5",
    " 1",
    "1 ",
    "+1",
    "01",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551616",
    "1e3",
    "0x10",
    "nan",
    "inf",
    "NX",
    "KEEPTTL",
    "\r\n",
    "\0",
];

type Request = Vec<Vec<u8>>;

pub fn run(tier: Tier, protocol: Protocol) {
    let seed = match std::env::var("TERRACE_SEED") {
        Ok(seed) if seed == "random" => fastrand::u64(..),
        Ok(seed) => seed.parse().expect("TERRACE_SEED is a number, or \"random\""),
        // The same streams every time, so that a failure speaks of the change at hand.
        Err(_) => 7,
    };
    println!("{tier:?} {protocol:?}: TERRACE_SEED={seed}");
    let mut stream = Stream {
        rng: Rng::with_seed(seed),
    };
    let pair = Pair::start(tier, protocol);
    let mut conns = pair.connect();
    let mut history: Vec<Request> = Vec::new();
    while history.len() < COMMANDS {
        let batch: Vec<Request> = (0..BATCH).map(|_| stream.command()).collect();
        let before = history.len();
        history.extend(batch.iter().cloned());
        pair.banish_keys();
        let differs = first_difference(&mut conns, &batch)
            .filter(|(at, ..)| !pair.is_telltale(&String::from_utf8_lossy(&batch[*at].join(&b' '))));
        if let Some((at, expected, got)) = differs {
            let needed = shrink(&mut conns, &history[..=before + at]);
            panic!(
                "{tier:?} {protocol:?}, TERRACE_SEED={seed}: command {} differs\n{}\n    redis   {expected}\n    terrace {got}",
                before + at,
                needed.iter().map(show_request).collect::<Vec<_>>().join("\n"),
            );
        }
        if (history.len() / BATCH).is_multiple_of(20) {
            compare_keyspaces(&mut conns, seed);
        }
    }
}

/// Every key of every database, read in several ways; then back to database 0.
fn compare_keyspaces(conns: &mut [Conn; 2], seed: u64) {
    for database in 0..DATABASES {
        let select = vec![b"SELECT".to_vec(), database.to_string().into_bytes()];
        assert_eq!(first_difference(conns, &[select]), None);
        let [expected, got] = conns.each_mut().map(|conn| whole_scan(conn, &[]));
        assert_eq!(expected, got, "TERRACE_SEED={seed}: SCAN returns other keys");
        for key in expected {
            let reads: Vec<Request> = ["GET", "PTTL", "TYPE", "STRLEN", "HGETALL"]
                .map(|command| vec![command.as_bytes().to_vec(), key.clone()])
                .to_vec();
            if let Some((at, expected, got)) = first_difference(conns, &reads) {
                let read = show_request(&reads[at]);
                panic!("TERRACE_SEED={seed}: {read} of database {database}: redis {expected}, terrace {got}");
            }
        }
    }
    assert_eq!(
        first_difference(conns, &[vec![b"SELECT".to_vec(), b"0".to_vec()]]),
        None
    );
}

/// Sends the requests to both; where the replies first differ, and how.
fn first_difference(conns: &mut [Conn; 2], requests: &[Request]) -> Option<(usize, String, String)> {
    let [expected, got] = conns.each_mut().map(|conn| conn.pipeline(requests));
    let expected = expected.expect("the oracle answers");
    let got = match got {
        Ok(got) => got,
        Err(e) => {
            return Some((
                requests.len() - 1,
                "answers all".into(),
                format!("in this batch: {e}"),
            ));
        }
    };
    let differs = |at: &usize| !rule_of(&requests[*at]).accepts(&expected[*at], &got[*at]);
    (0..requests.len())
        .find(differs)
        .map(|at| (at, show(&expected[at]), show(&got[at])))
}

/// Times that count from now differ by what passes between the two servers' clocks.
fn rule_of(request: &Request) -> Rule {
    match request.first().map(|name| name.to_ascii_lowercase()).as_deref() {
        Some(b"ttl" | b"expiretime") => Rule::Near(5),
        Some(b"pttl" | b"pexpiretime") => Rule::Near(5000),
        Some(b"keys" | b"hgetall" | b"hkeys" | b"hvals") => Rule::Unordered,
        Some(b"smembers" | b"sinter" | b"sunion" | b"sdiff") => Rule::Unordered,
        Some(b"object") => Rule::Encoding,
        _ => Rule::Exact,
    }
}

/// The commands that the last one's difference needs, found by leaving out ever smaller runs of them.
fn shrink(conns: &mut [Conn; 2], history: &[Request]) -> Vec<Request> {
    let (last, earlier) = history.split_last().expect("at least the one that differs");
    let mut needed: Vec<Request> = earlier[earlier.len().saturating_sub(SHRINK_MAX)..].to_vec();
    let mut fails = |candidate: &[Request]| {
        let mut requests: Vec<Request> = vec![
            vec![b"SELECT".to_vec(), b"0".to_vec()],
            vec![b"FLUSHALL".to_vec()],
        ];
        requests.extend_from_slice(candidate);
        requests.push(last.clone());
        let differs_at = first_difference(conns, &requests).map(|(at, ..)| at);
        differs_at == Some(requests.len() - 1)
    };
    if fails(&needed) {
        let mut run = needed.len().div_ceil(2);
        while run > 0 {
            let mut start = 0;
            while start < needed.len() {
                let mut candidate = needed.clone();
                candidate.drain(start..(start + run).min(candidate.len()));
                if fails(&candidate) {
                    needed = candidate;
                } else {
                    start += run;
                }
            }
            run /= 2;
        }
    } else {
        // It needs more history than is tried: show what last touched the same keys.
        needed.retain(|request| request.iter().skip(1).any(|word| last[1..].contains(word)));
        needed.drain(..needed.len().saturating_sub(20));
    }
    needed.push(last.clone());
    needed
}

fn show_request(request: &Request) -> String {
    request
        .iter()
        .map(|word| format!("\"{}\"", word.escape_ascii()))
        .collect::<Vec<_>>()
        .join(" ")
}

struct Stream {
    rng: Rng,
}

impl Stream {
    fn command(&mut self) -> Request {
        let template = if self.rng.u32(0..2000) == 0 {
            "FLUSHDB"
        } else {
            self.pick(TEMPLATES)
        };
        let mut request = Vec::new();
        for place in template.split(' ') {
            self.fill(place, &mut request);
        }
        self.spoil(&mut request);
        if self.rng.u8(..) < 64 {
            request[0].make_ascii_lowercase();
        }
        request
    }

    /// One command in thirty loses, gains or changes a word.
    fn spoil(&mut self, request: &mut Request) {
        let at = self.rng.usize(1..request.len() + 1);
        match self.rng.u32(0..90) {
            0 if request.len() > 1 => drop(request.pop()),
            1 => request.insert(at, self.pick(JUNK).into()),
            2 if at < request.len() => request[at] = self.pick(JUNK).into(),
            _ => {}
        }
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.rng.usize(..words.len())]
    }

    fn flip(&mut self) -> bool {
        self.rng.bool()
    }

    fn fill(&mut self, place: &str, out: &mut Request) {
        match place {
            "{key}" => {
                let key = self.pick(&[
                    "a",
                    "b",
                    "c",
                    "key:1",
                    "key:2",
                    "key:3",
                    "n",
                    "f",
                    "",
                    "k\0k",
                    "ключ",
                    "long:key:name",
                ]);
                out.push(key.into());
            }
            "{field}" => {
                let field = self.pick(&[
                    "a",
                    "f",
                    "1",
                    "07",
                    "",
                    "field\0",
                    "поле",
                    "a field that is longer than others",
                ]);
                out.push(field.into());
            }
            "{value}" => out.push(self.value()),
            "{integer}" => out.push(self.integer()),
            "{float}" => {
                let float = self.pick(&[
                    "1.5", "-2.25", "0", "3.0e2", "1e-3", "100", "0.1", "abc", "nan", "inf", "-inf", "1e400",
                    "",
                ]);
                out.push(float.into());
            }
            "{seconds}" => self.time(1, out),
            "{milliseconds}" => self.time(1000, out),
            "{unix_seconds}" => self.unix_time(1, out),
            "{unix_milliseconds}" => self.unix_time(1000, out),
            "{future_seconds}" => self.future_time(1, out),
            "{future_milliseconds}" => self.future_time(1000, out),
            "{database}" => {
                let database = match self.rng.u32(0..20) {
                    0 => "16".to_string(),
                    1 => self.pick(JUNK).to_string(),
                    _ => self.rng.u32(0..DATABASES).to_string(),
                };
                out.push(database.into_bytes());
            }
            "{offset}" => {
                let offset = self.rng.u32(0..120).to_string();
                out.push(offset.into_bytes());
            }
            "{index}" => {
                let index = self.rng.i32(-12..20).to_string();
                out.push(index.into_bytes());
            }
            "{end}" => out.push(self.pick(&["LEFT", "RIGHT", "left", "RIGHT", "UP"]).into()),
            "{side_of}" => out.push(self.pick(&["BEFORE", "AFTER", "after", "BESIDE"]).into()),
            "{extreme}" => out.push(self.pick(&["MIN", "MAX", "max", "SUM"]).into()),
            "{score}" => {
                let score = self.pick(&["1", "2", "-3", "0.5", "1e3", "inf", "-inf", "3", "4", "x", "nan"]);
                out.push(score.into());
            }
            "{bound}" => {
                let bound = self.pick(&["-inf", "+inf", "1", "(1", "2.5", "(3", "0", "1000", "(x"]);
                out.push(bound.into());
            }
            "{lex_bound}" => {
                let bound = self.pick(&["-", "+", "[a", "(a", "[f", "(07", "[1", "a"]);
                out.push(bound.into());
            }
            "{zadd_options}" => {
                self.maybe(&["NX", "XX", "GT", "LT", "CH"], out);
                self.maybe(&["CH", "GT", "xx"], out);
            }
            "{stream_id}" => {
                let id = format!("{}-{}", self.rng.u32(0..60), self.rng.u32(0..4));
                out.push(id.into_bytes());
            }
            "{bit}" => out.push(self.pick(&["0", "1", "0", "1", "0", "1", "2"]).into()),
            "{unit}" => self.maybe(&["BYTE", "BIT", "bit", "BITS"], out),
            "{bit_operation}" => out.push(self.pick(&["AND", "OR", "XOR", "and", "NOT", "NAND"]).into()),
            "{bitfield}" => self.bitfield(out),
            "{bitfield_type}" => out.push(self.bitfield_type()),
            "{bitfield_offset}" => out.push(self.bitfield_offset()),
            "{pattern}" => out.push(
                self.pick(&["*", "key:*", "?", "[a-c]", "[^a]*", "k*1", "nothing", "\\*"])
                    .into(),
            ),
            "{set_options}" => self.set_options(out),
            "{getex_options}" => self.getex_options(out),
            "{expire_options}" => {
                self.maybe(&["NX", "XX", "GT", "LT", "gt", "ZZ"], out);
                if self.rng.u32(0..10) == 0 {
                    self.maybe(&["NX", "XX", "GT", "LT"], out);
                }
            }
            "{copy_options}" => {
                self.maybe(&["REPLACE", "replace", "REPLACE", "OVER"], out);
                if self.rng.u32(0..4) == 0 {
                    out.push("DB".into());
                    self.fill("{database}", out);
                }
            }
            "{lcs_options}" => self.lcs_options(out),
            word => out.push(word.into()),
        }
    }

    fn maybe(&mut self, words: &[&'static str], out: &mut Request) {
        if self.flip() {
            out.push(self.pick(words).into());
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.u32(0..12) {
            0..=4 => self.integer(),
            5 => self.pick(&["3.14", "1e5", "-0.5", "10.0", "1.", ".5"]).into(),
            6 => Vec::new(),
            7 => (0..self.rng.usize(0..40)).map(|_| self.rng.u8(..)).collect(),
            8 => vec![b'x'; self.rng.usize(40..50)], // around the limit of embstr
            9 => "foobar".repeat(self.rng.usize(1..60)).into_bytes(),
            _ => self
                .pick(&[
                    "hello",
                    "hello world",
                    "0",
                    "\u{e9}t\u{e9}",
                    "ohmytext",
                    "mynewtext",
                ])
                .into(),
        }
    }

    fn integer(&mut self) -> Vec<u8> {
        match self.rng.u32(0..14) {
            0 => self.pick(JUNK).into(),
            1 => "9223372036854775807".into(),
            2 => "-9223372036854775808".into(),
            3 => self.rng.i64(..).to_string().into_bytes(),
            _ => self.rng.i32(-200..20_000).to_string().into_bytes(),
        }
    }

    /// From now: 1 to 12 days, no two alike (GT and LT would depend on the milliseconds between two commands).
    fn time(&mut self, unit: i64, out: &mut Request) {
        let time = match self.rng.u32(0..16) {
            // The one of JUNK that is a time: two alike are what this avoids.
            0 => self.pick(JUNK).replace("4294967296", "x"),
            1 => "0".to_string(),
            2 => "-100".to_string(),
            3 => "9223372036854775807".to_string(),
            _ => ((100_000 + self.rng.i64(0..10_000) * 100) * unit).to_string(),
        };
        out.push(time.into_bytes());
    }

    /// Somewhere in the 2060s, or long gone, or no time.
    fn unix_time(&mut self, unit: i64, out: &mut Request) {
        match self.rng.u32(0..16) {
            0 => out.push(self.pick(JUNK).into()),
            1 => out.push("1".into()),
            _ => self.future_time(unit, out),
        }
    }

    fn future_time(&mut self, unit: i64, out: &mut Request) {
        let time = (3_000_000_000 + self.rng.i64(0..100_000)) * unit;
        out.push(time.to_string().into_bytes());
    }

    fn set_options(&mut self, out: &mut Request) {
        self.maybe(&["NX", "XX", "nx", "GET"], out);
        self.maybe(&["GET", "get", "XX"], out);
        match self.rng.u32(0..8) {
            0 => self.option("EX", "{seconds}", out),
            1 => self.option("PX", "{milliseconds}", out),
            // Never in the past: such a key counts in DBSIZE until someone notices, and when is each server's affair.
            2 => self.option("EXAT", "{future_seconds}", out),
            3 => self.option("PXAT", "{future_milliseconds}", out),
            4 => out.push("KEEPTTL".into()),
            5 => self.maybe(&["EX", "PX", "PERSIST"], out),
            _ => {}
        }
    }

    fn getex_options(&mut self, out: &mut Request) {
        match self.rng.u32(0..8) {
            0 => self.option("EX", "{seconds}", out),
            1 => self.option("PX", "{milliseconds}", out),
            2 => self.option("exat", "{unix_seconds}", out),
            3 => self.option("PXAT", "{unix_milliseconds}", out),
            4 => out.push("PERSIST".into()),
            5 => self.maybe(&["KEEPTTL", "NX", "PERSIST"], out),
            _ => {}
        }
    }

    fn lcs_options(&mut self, out: &mut Request) {
        self.maybe(&["LEN", "IDX", "idx", "IDX"], out);
        if self.rng.u32(0..4) == 0 {
            out.push("MINMATCHLEN".into());
            out.push(self.pick(&["0", "2", "4", "-1", "x"]).into());
        }
        self.maybe(&["WITHMATCHLEN", "withmatchlen", "WITH"], out);
    }

    fn option(&mut self, name: &str, place: &str, out: &mut Request) {
        out.push(name.into());
        self.fill(place, out);
    }

    fn bitfield(&mut self, out: &mut Request) {
        let name = self.pick(&["GET", "SET", "INCRBY", "incrby", "OVERFLOW"]);
        out.push(name.into());
        if name == "OVERFLOW" {
            return out.push(self.pick(&["WRAP", "SAT", "FAIL", "sat", "NONE"]).into());
        }
        out.push(self.bitfield_type());
        out.push(self.bitfield_offset());
        if name != "GET" {
            out.push(self.integer());
        }
    }

    fn bitfield_type(&mut self) -> Vec<u8> {
        match self.rng.u32(0..20) {
            0 => self.pick(&["u64", "i65", "u0", "x8", "i", "8"]).into(),
            n if n % 2 == 0 => format!("u{}", self.rng.u32(1..64)).into_bytes(),
            _ => format!("i{}", self.rng.u32(1..65)).into_bytes(),
        }
    }

    fn bitfield_offset(&mut self) -> Vec<u8> {
        match self.rng.u32(0..20) {
            0 => self.pick(&["-1", "#-1", "#", "x", "4294967296"]).into(),
            n if n % 2 == 0 => self.rng.u32(0..300).to_string().into_bytes(),
            _ => format!("#{}", self.rng.u32(0..20)).into_bytes(),
        }
    }
}
