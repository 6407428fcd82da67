//! Lists, sets, hashes, sorted sets and streams that a server is filled with. Both servers get the same requests.
//!
//! Elements are `element:` and 12 digits, as redis-benchmark makes them of `element:__rand_int__`; keys are the kind,
//! a colon and 12 digits, so that the only key of a single collection is `list:000000000000` and so on.

use std::io::{self, BufReader, Write};
use std::net::TcpStream;

use crate::wire::{self, Spread, VALUE_BYTES};
use crate::{Failure, servers::Server};

/// Elements in one request.
const ELEMENTS_AT_ONCE: u64 = 50;
/// Bytes that are sent before the replies to them are read.
const BATCH_BYTES: usize = 64 * 1024;
/// Scores are whole numbers below this.
const SCORES: u64 = 1_000_000;
/// Bytes of the values of fields.
const FIELD_VALUE_BYTES: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    List,
    Set,
    Hash,
    SortedSet,
    /// With a consumer group `group` that has read nothing yet.
    Stream,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Hash => "hash",
            Kind::SortedSet => "zset",
            Kind::Stream => "stream",
        }
    }

    fn command(self) -> &'static [u8] {
        match self {
            Kind::List => b"RPUSH",
            Kind::Set => b"SADD",
            Kind::Hash => b"HSET",
            Kind::SortedSet => b"ZADD",
            Kind::Stream => b"XADD",
        }
    }
}

/// So many collections of a kind, all of one size.
#[derive(Clone, Copy, Debug)]
pub struct Collections {
    pub kind: Kind,
    pub keys: u64,
    /// In each.
    pub elements: u64,
}

/// Writes collections into a server that has no other keys, and makes sure that they are there.
pub fn fill(server: &Server, collections: Collections) -> Result<(), Failure> {
    let Collections { kind, keys, elements } = collections;
    let write = || {
        let mut writer = Writer::connect(server)?;
        for number in 0..keys {
            writer.collection(kind, number, elements)?;
        }
        writer.finish()
    };
    write().map_err(Failure::io(format!("filling {}", server.label)))?;
    expect_keys(server, if elements > 0 { keys } else { 0 })
}

/// Writes strings and small and large collections of every kind, about `bytes` of elements altogether. Returns the
/// number of keys.
pub fn fill_mixed(server: &Server, bytes: u64) -> Result<u64, Failure> {
    const SMALL: [(Kind, u64); 5] = [
        (Kind::Hash, 20),
        (Kind::List, 50),
        (Kind::Set, 50),
        (Kind::SortedSet, 50),
        (Kind::Stream, 5),
    ];
    const LARGE: [Kind; 4] = [Kind::Hash, Kind::List, Kind::Set, Kind::SortedSet];
    const LARGE_PER_ROUND: u64 = 10;
    /// Bytes of one round: its string, its small collections, and what it adds to the large ones.
    const ROUND_BYTES: u64 =
        80 + 20 * 30 + 50 * 20 * 2 + 50 * 28 + 5 * 25 + LARGE_PER_ROUND * (30 + 20 + 20 + 28);
    let rounds = bytes / ROUND_BYTES;
    let write = || {
        let mut writer = Writer::connect(server)?;
        for round in 0..rounds {
            writer.string(round)?;
            for (kind, elements) in SMALL {
                // Number 0 of each kind is the large one.
                writer.collection(kind, round + 1, elements)?;
            }
            for kind in LARGE {
                writer.elements(kind, 0, round * LARGE_PER_ROUND..(round + 1) * LARGE_PER_ROUND)?;
            }
        }
        writer.finish()
    };
    write().map_err(Failure::io(format!("filling {}", server.label)))?;
    let keys = rounds * (1 + SMALL.len() as u64) + LARGE.len() as u64;
    expect_keys(server, keys)?;
    Ok(keys)
}

fn expect_keys(server: &Server, keys: u64) -> Result<(), Failure> {
    match wire::ask(server.port, &["DBSIZE"]) {
        Ok(Some(size)) if size == keys.to_string() => Ok(()),
        other => Err(Failure::Unusable(format!(
            "{}: DBSIZE after filling {keys} keys: {other:?}",
            server.label
        ))),
    }
}

/// One connection that writes in batches, and reads the replies of a batch when the next one is on its way.
struct Writer {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
    batch: Vec<u8>,
    in_batch: u64,
    unread: u64,
    spread: Spread,
}

impl Writer {
    fn connect(server: &Server) -> io::Result<Writer> {
        let stream = wire::connect(server.port)?;
        Ok(Writer {
            replies: BufReader::new(stream.try_clone()?),
            stream,
            batch: Vec::with_capacity(2 * BATCH_BYTES),
            in_batch: 0,
            unread: 0,
            spread: Spread(1),
        })
    }

    fn string(&mut self, number: u64) -> io::Result<()> {
        let mut value = [0; VALUE_BYTES];
        self.spread.fill_text(&mut value);
        self.request(&[b"SET", format!("key:{number:012}").as_bytes(), &value])
    }

    fn collection(&mut self, kind: Kind, number: u64, elements: u64) -> io::Result<()> {
        self.elements(kind, number, 0..elements)?;
        if kind == Kind::Stream && elements > 0 {
            let key = key(kind, number);
            self.request(&[b"XGROUP", b"CREATE", key.as_bytes(), b"group", b"0"])?;
        }
        Ok(())
    }

    fn elements(&mut self, kind: Kind, number: u64, elements: std::ops::Range<u64>) -> io::Result<()> {
        let key = key(kind, number);
        let at_once = if kind == Kind::Stream { 1 } else { ELEMENTS_AT_ONCE };
        for start in elements.clone().step_by(at_once as usize) {
            let mut words = Vec::with_capacity(2 * at_once as usize);
            for index in start..elements.end.min(start + at_once) {
                // No two collections hold the same elements, but those of hashes are fields, of which many are alike.
                let element = if kind == Kind::Hash {
                    index
                } else {
                    number * elements.end + index
                };
                let element = format!("element:{element:012}").into_bytes();
                match kind {
                    Kind::List | Kind::Set => words.push(element),
                    Kind::Hash => {
                        let mut value = vec![0; FIELD_VALUE_BYTES];
                        self.spread.fill_text(&mut value);
                        words.extend([element, value]);
                    }
                    Kind::SortedSet => {
                        let score = self.spread.next() % SCORES;
                        words.extend([score.to_string().into_bytes(), element]);
                    }
                    Kind::Stream => words.extend([b"*".to_vec(), b"field".to_vec(), element]),
                }
            }
            let head = [kind.command(), key.as_bytes()];
            let request: Vec<&[u8]> = head.into_iter().chain(words.iter().map(Vec::as_slice)).collect();
            self.request(&request)?;
        }
        Ok(())
    }

    fn request(&mut self, words: &[&[u8]]) -> io::Result<()> {
        wire::push_request(&mut self.batch, words);
        self.in_batch += 1;
        if self.batch.len() >= BATCH_BYTES {
            self.send()?;
        }
        Ok(())
    }

    /// Sends the batch, then reads the replies of the one before: an error among them ends the filling.
    fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.batch)?;
        self.batch.clear();
        for _ in 0..self.unread {
            wire::read_reply(&mut self.replies)?;
        }
        self.unread = std::mem::take(&mut self.in_batch);
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.send()?;
        self.send()
    }
}

fn key(kind: Kind, number: u64) -> String {
    format!("{}:{number:012}", kind.prefix())
}
