//! A sequence of steps that uses every type, for the crash rounds: each step is a row of commands, each command
//! changes one key, and what every key holds after n steps is known. So what is there after a crash is a prefix of
//! what was sent exactly if the keys show n steps, and those that the next step's first commands change show n + 1.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use terrace::object::geo::Point;
use terrace::object::hyperloglog as hll;

use crate::common::{Conn, Value, show};

/// Entries that a stream keeps.
const STREAM_MAX: usize = 300;
/// Fields and members that steps come back to.
const NAMES: u64 = 700;
const HLL_SPARSE_MAX: usize = 3000;

type Command = Vec<String>;

fn command(words: &[&dyn ToString]) -> Command {
    words.iter().map(|word| word.to_string()).collect()
}

/// What must be there before the first step; an error says that it is.
pub fn prepare(client: &mut Conn, conn: usize) {
    client.words(&format!("XGROUP CREATE group:{conn} g 0 MKSTREAM"));
}

/// The commands of step `i`, which begins with 1. The last one counts the steps.
pub fn step(conn: usize, i: u64) -> Vec<Command> {
    let key = |name: &str| format!("{name}:{conn}");
    let name = i % NAMES;
    let place = place(i);
    let third = i.is_multiple_of(3);
    let fifth = i.is_multiple_of(5);
    vec![
        match third {
            true => command(&[&"LPOP", &key("list")]),
            false => command(&[&"RPUSH", &key("list"), &i]),
        },
        match fifth {
            true => command(&[&"HDEL", &key("hash"), &((i - 3) % NAMES)]),
            false => command(&[&"HSET", &key("hash"), &name, &i]),
        },
        match third {
            true => command(&[&"SREM", &key("set"), &(i - 2)]),
            false => command(&[&"SADD", &key("set"), &i]),
        },
        match third {
            true => command(&[&"SPOP", &key("popped")]),
            false => command(&[&"SADD", &key("popped"), &format!("member:{i}")]),
        },
        match fifth {
            true => command(&[&"ZPOPMIN", &key("zset")]),
            false => command(&[&"ZADD", &key("zset"), &i, &name]),
        },
        command(&[
            &"XADD",
            &key("stream"),
            &"MAXLEN",
            &STREAM_MAX,
            &format!("{i}-1"),
            &"n",
            &i,
        ]),
        command(&[
            &"XADD",
            &key("group"),
            &"MAXLEN",
            &STREAM_MAX,
            &format!("{i}-1"),
            &"n",
            &i,
        ]),
        command(&[
            &"XREADGROUP",
            &"GROUP",
            &"g",
            &"c",
            &"STREAMS",
            &key("group"),
            &">",
        ]),
        command(&[&"XACK", &key("group"), &"g", &format!("{i}-1")]),
        command(&[&"PFADD", &key("hll"), &i]),
        command(&[&"GEOADD", &key("geo"), &place.lon, &place.lat, &name]),
        command(&[&"INCR", &key("steps")]),
    ]
}

fn place(i: u64) -> Point {
    Point {
        lon: (i % 360) as f64 - 180.0,
        lat: (i % 170) as f64 - 85.0,
    }
}

/// What the keys hold after some steps.
#[derive(Clone, Default)]
struct Model {
    steps: u64,
    list: VecDeque<u64>,
    hash: BTreeMap<u64, u64>,
    set: BTreeSet<u64>,
    popped: u64,
    /// Scores, ascending, and the members that have them.
    zset: BTreeMap<u64, u64>,
    hll: Vec<u8>,
    geo: BTreeMap<u64, u64>,
}

impl Model {
    fn after(steps: u64) -> Model {
        let mut model = Model {
            hll: hll::empty(),
            ..Model::default()
        };
        (1..=steps).for_each(|i| model.apply(i));
        model
    }

    fn apply(&mut self, i: u64) {
        let name = i % NAMES;
        self.steps = i;
        if i.is_multiple_of(3) {
            self.list.pop_front();
            self.set.remove(&(i - 2));
            self.popped = self.popped.saturating_sub(1);
        } else {
            self.list.push_back(i);
            self.set.insert(i);
            self.popped += 1;
        }
        if i.is_multiple_of(5) {
            self.hash.remove(&((i - 3) % NAMES));
            self.zset.pop_first();
        } else {
            self.hash.insert(name, i);
            self.zset.retain(|_, member| *member != name);
            self.zset.insert(i, name);
        }
        // proof: a value made here is never damaged.
        hll::add(&mut self.hll, i.to_string().as_bytes(), HLL_SPARSE_MAX).expect("a sound value");
        self.geo.insert(name, i);
    }

    /// What each command of a step leaves behind, as text, in the order of the commands.
    fn shows(&self) -> Vec<String> {
        let n = self.steps;
        let stream: Vec<u64> = (n.saturating_sub(STREAM_MAX as u64) + 1..=n).collect();
        let counted = hll::estimate(&self.hll).expect("a sound value");
        let geo = self
            .geo
            .iter()
            .map(|(name, i)| (name.to_string(), place(*i).score().to_string()));
        vec![
            list(self.list.iter()),
            sorted(
                self.hash
                    .iter()
                    .map(|(field, value)| (field.to_string(), value.to_string())),
            ),
            sorted(self.set.iter().map(|member| (member.to_string(), String::new()))),
            self.popped.to_string(),
            list(self.zset.iter().flat_map(|(score, member)| [member, score])),
            list(stream.iter().map(|i| format!("{i}-1"))),
            n.to_string(),
            n.to_string(),
            format!("{n} acknowledged"),
            counted.to_string(),
            sorted(geo),
            n.to_string(),
        ]
    }
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

fn sorted(pairs: impl Iterator<Item = (String, String)>) -> String {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    list(pairs.iter().map(|(name, value)| format!("{name}={value}")))
}

/// The texts in a reply, however they are nested.
fn texts(client: &mut Conn, line: &str) -> Vec<String> {
    let reply = client.words(line);
    assert_ne!(reply[0], b'-', "{line}: {}", show(&reply));
    let text = |text: Vec<u8>| String::from_utf8(text).expect("a text");
    Value::parse(&reply).texts().into_iter().map(text).collect()
}

/// The same texts as `Model::shows`, from the server.
fn shown(client: &mut Conn, conn: usize) -> Vec<String> {
    let pairs = |texts: Vec<String>| {
        let pair = |pair: &[String]| (pair[0].clone(), pair[1].clone());
        sorted(texts.chunks(2).map(pair))
    };
    let count = |client: &mut Conn, line: String| client.integer(&line).to_string();
    let newest = texts(client, &format!("XREVRANGE group:{conn} + - COUNT 1"));
    let newest = newest
        .first()
        .map_or("0", |id| id.trim_end_matches("-1"))
        .to_owned();
    let groups = texts(client, &format!("XINFO GROUPS group:{conn}"));
    let delivered = groups
        .iter()
        .position(|text| text == "last-delivered-id")
        .map(|at| {
            groups[at + 1]
                .trim_end_matches("-1")
                .trim_end_matches("-0")
                .to_owned()
        })
        .expect("a group");
    let pending = texts(client, &format!("XPENDING group:{conn} g - + 10"));
    let acknowledged = match pending.first() {
        None => format!("{delivered} acknowledged"),
        Some(first) => format!("{first} pending"),
    };
    vec![
        texts(client, &format!("LRANGE list:{conn} 0 -1")).join(" "),
        pairs(texts(client, &format!("HGETALL hash:{conn}"))),
        sorted(
            texts(client, &format!("SMEMBERS set:{conn}"))
                .into_iter()
                .map(|member| (member, String::new())),
        ),
        count(client, format!("SCARD popped:{conn}")),
        texts(client, &format!("ZRANGE zset:{conn} 0 -1 WITHSCORES")).join(" "),
        texts(client, &format!("XRANGE stream:{conn} - +"))
            .into_iter()
            .filter(|text| text.ends_with("-1"))
            .collect::<Vec<_>>()
            .join(" "),
        newest,
        delivered,
        acknowledged,
        count(client, format!("PFCOUNT hll:{conn}")),
        pairs(texts(client, &format!("ZRANGE geo:{conn} 0 -1 WITHSCORES"))),
        client
            .bulk(&format!("GET steps:{conn}"))
            .map_or("0".to_owned(), |text| show(&text)),
    ]
}

/// How many steps of the connection are there. Fails when the keys do not show a prefix of what it sent. The one step
/// that a crash may cut off is completed, so that the next round starts whole.
pub fn check(client: &mut Conn, conn: usize, place: &str) -> u64 {
    prepare(client, conn);
    let shown = shown(client, conn);
    let steps: u64 = shown
        .last()
        .and_then(|text| text.parse().ok())
        .expect("a counter");
    let mut model = Model::after(steps);
    let before = model.shows();
    model.apply(steps + 1);
    let after = model.shows();
    let commands = step(conn, steps + 1);
    let (mut any_done, mut is_cut) = (false, false);
    let mut to_do = Vec::new();
    for (at, command) in commands.into_iter().enumerate() {
        // What is delivered and not yet acknowledged is pending.
        let is_before = shown[at] == before[at] || shown[at].ends_with(" pending");
        let is_after = shown[at] == after[at];
        assert!(
            if is_cut { is_before } else { is_before || is_after },
            "{place}: step {}, {command:?} (cut off before: {is_cut})\n    shows {}\n    before {}\n    after {}",
            steps + 1,
            shown[at],
            before[at],
            after[at]
        );
        any_done |= is_after && !is_before;
        is_cut |= !is_after;
        // Also where nothing tells whether it was done: then doing it again changes nothing.
        if is_before {
            to_do.push(command);
        }
    }
    if !any_done {
        return steps;
    }
    for command in to_do {
        let reply = client.call(&command);
        assert_ne!(reply[0], b'-', "{place}: {command:?}: {}", show(&reply));
    }
    steps + 1
}
