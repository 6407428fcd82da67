//! What is measured, as data: one row is a name, the two servers' settings, the work, and the bar.

use crate::collections::{Collections, Kind};
use crate::load::{FIXED_VALUE, Fill, VARIED_VALUE};
use crate::paced::Request;
use crate::sealed::Choice;
use crate::servers::Cores;

/// How Terrace is set up for a row.
#[derive(Clone, Copy, Debug)]
pub enum Tier {
    /// The default range is a memory range.
    Memory,
    /// As `Memory`, and its keys can be sealed at a word.
    Sealed,
    /// The default range is durable, synced every second.
    Durable,
    /// Durable, and flushes put off for good, so that the journal alone holds the data.
    DurableJournalOnly,
    /// Durable, with less memory than data.
    DurableBounded,
    /// Durable, with a tenth of the memory that five million keys would take.
    DurableTenth,
}

impl Tier {
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Tier::Memory => &["--range", "default", "*", "memory"],
            Tier::Sealed => &[
                "--range",
                "default",
                "*",
                "memory",
                "--enable-debug-command",
                "yes",
            ],
            Tier::Durable => &["--appendfsync", "everysec"],
            Tier::DurableTenth => &["--appendfsync", "everysec", "--maxmemory", "60mb"],
            Tier::DurableBounded => &["--appendfsync", "everysec", "--maxmemory", "2gb"],
            Tier::DurableJournalOnly => &[
                "--appendfsync",
                "everysec",
                "--journal-flush-size",
                "100gb",
                "--flush-dirty-size",
                "100gb",
            ],
        }
    }
}

/// How Redis is set up for a row. It writes no snapshots in any of them.
#[derive(Clone, Copy, Debug)]
pub enum Baseline {
    /// No persistence.
    Plain,
    /// Append-only file, synced every second, rewritten when Redis's defaults say so.
    AppendOnly,
    /// The same, never rewritten, so that a start replays every command.
    AppendOnlyUncut,
}

impl Baseline {
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Baseline::Plain => &["--save", "", "--appendonly", "no"],
            Baseline::AppendOnly => &["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"],
            Baseline::AppendOnlyUncut => &[
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--auto-aof-rewrite-percentage",
                "0",
            ],
        }
    }
}

/// What is done between two turns to what the servers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing: a turn leaves as much as it found.
    None,
    /// Every turn begins without keys.
    Empty,
    /// Every turn begins with one collection that has an element for each of its requests.
    Refill,
}

/// The work of a row, the same for both servers.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// As many requests as the load can send; judged by requests per second of server CPU.
    Throughput {
        fill: Fill,
        upkeep: Upkeep,
        command: &'static [&'static str],
        pipeline: u32,
        /// Requests per turn.
        requests: u64,
        /// Whether the work that a turn leaves behind (flush, compaction, rewrite) is waited for and counted.
        aftermath: bool,
    },
    /// Requests at one fixed rate, a share of what Redis can do; judged by p99.
    Latency { request: Request, pipeline: u32 },
    /// Resident memory that a million keys add; judged by bytes per key.
    MemoryPerKey,
    /// Resident memory that so many keys add once they are sealed; judged by bytes per key.
    MemoryPerSealedKey { keys: u64 },
    /// GET of keys that are not resident (sealed, or on the disk), as many as the load can send; judged by requests per
    /// second of server CPU.
    ColdGet {
        keys: u64,
        choice: Choice,
        requests: u64,
    },
    /// SET of keys drawn by Zipf's law, for so long; judged by requests per second of server CPU.
    SustainedSet { keys: u64, seconds: u64 },
    /// What collections add to what the server says that it uses; judged by bytes per element.
    MemoryPerElement(Collections),
    /// From exec to the first answered GET, after SIGTERM; judged by Terrace's seconds.
    CleanStart { keys: u64 },
    /// The same with so many bytes in values of every type.
    MixedStart { bytes: u64 },
    /// From exec to the first PONG, after SIGKILL; judged by Terrace's records per second.
    Replay { records: u64 },
    /// GETs at a fixed rate while a backup of so many bytes is made; judged by p99 beside that of the idle server.
    Backup { bytes: u64 },
    /// Messages to one channel with so many subscribers; judged by deliveries per second of server CPU. The publisher
    /// waits until every batch of 16 has arrived everywhere, or goes on.
    FanOut {
        subscribers: u64,
        messages: u64,
        waits: bool,
    },
    /// Resident memory that subscriptions add; judged by bytes per subscription.
    MemoryPerSubscription {
        clients: u64,
        channels: u64,
        shared: bool,
    },
    /// SET by a user with a hundred rules; judged as a share of SET by one who may do all.
    Ruled { requests: u64 },
    /// SET while a million other keys are watched; judged as a share of SET while none are.
    WatchedElsewhere { requests: u64 },
    /// SET of keys that are all watched; judged by requests per second of server CPU. Redis tells all events.
    WatchedHere { requests: u64 },
}

/// What the judged figure has to reach.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// Terrace / Redis, not less.
    RatioAtLeast(f64),
    /// Terrace / Redis, not more.
    RatioAtMost(f64),
    /// Terrace's own figure, not less.
    AtLeast(f64),
    /// Terrace's own figure, not more.
    AtMost(f64),
}

impl Bar {
    pub fn is_met(self, terrace: f64, ratio: f64) -> bool {
        match self {
            Bar::RatioAtLeast(least) => ratio >= least,
            Bar::RatioAtMost(most) => ratio <= most,
            Bar::AtLeast(least) => terrace >= least,
            Bar::AtMost(most) => terrace <= most,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub tier: Tier,
    pub against: Baseline,
    pub work: Work,
    pub bar: Bar,
}

const SET: &[&str] = &["SET", "key:__rand_int__", FIXED_VALUE];
const SET_VARIED: &[&str] = &["SET", "key:__rand_int__", VARIED_VALUE];
const GET: &[&str] = &["GET", "key:__rand_int__"];
const INCR: &[&str] = &["INCR", "ctr:__rand_int__"];
const KEY: &str = "key:__rand_int__";
const MSET: &[&str] = &[
    "MSET",
    KEY,
    FIXED_VALUE,
    KEY,
    FIXED_VALUE,
    KEY,
    FIXED_VALUE,
    KEY,
    FIXED_VALUE,
    KEY,
    FIXED_VALUE,
    KEY,
    FIXED_VALUE,
    KEY,
    FIXED_VALUE,
    KEY,
    FIXED_VALUE,
    KEY,
    FIXED_VALUE,
    KEY,
    FIXED_VALUE,
];
/// A row's command that stands for a whole transaction, of ten SETs of random keys (`load::transactions`).
pub const MULTI_OF_TEN: &[&str] = &["MULTI", "SET", "..."];
const ELEMENT: &str = "element:__rand_int__";
const LIST: &str = "list:000000000000";
const SORTED_SET: &str = "zset:000000000000";
const STREAM: &str = "stream:000000000000";
const LPUSH: &[&str] = &["LPUSH", LIST, ELEMENT];
const RPOP: &[&str] = &["RPOP", LIST];
const LRANGE: &[&str] = &["LRANGE", LIST, "0", "99"];
const SADD: &[&str] = &["SADD", "set:000000000000", ELEMENT];
const HSET: &[&str] = &["HSET", "hash:000000000000", ELEMENT, "0123456789"];
const ZADD: &[&str] = &["ZADD", SORTED_SET, "__rand_int__", ELEMENT];
const ZPOPMIN: &[&str] = &["ZPOPMIN", SORTED_SET];
const ZRANK: &[&str] = &["ZRANK", SORTED_SET, ELEMENT];
const XADD: &[&str] = &["XADD", STREAM, "*", "field", ELEMENT];
/// Sets a key if it holds what is expected.
const COMPARE_AND_SET: &str =
    "if redis.call('GET',KEYS[1]) == ARGV[1] then return redis.call('SET',KEYS[1],ARGV[2]) end return 0";
/// Counts the calls of a minute.
const RATE_LIMITER: &str = "local n = redis.call('INCR',KEYS[1]) if n == 1 then redis.call('PEXPIRE',KEYS[1],ARGV[1]) end if n > tonumber(ARGV[2]) then return 0 end return 1";
/// What the rows of scripts call, by hash.
pub const SCRIPTS: &[&str] = &[COMPARE_AND_SET, RATE_LIMITER];
const EVALSHA_COMPARE_AND_SET: &[&str] = &[
    "EVALSHA",
    "03fb2408c8bd92e2804f68d212b137edbf3af01d",
    "1",
    "ctr:__rand_int__",
    "0",
    "0",
];
const EVALSHA_RATE_LIMITER: &[&str] = &[
    "EVALSHA",
    "671a43440ad259b599347265fdbb61343cbe5ae4",
    "1",
    "rate:__rand_int__",
    "60000",
    "100",
];
const XREADGROUP: &[&str] = &[
    "XREADGROUP",
    "GROUP",
    "group",
    "consumer",
    "COUNT",
    "1",
    "STREAMS",
    STREAM,
    ">",
];

impl Work {
    /// A replay has no load beside it: each server has all cores.
    pub fn cores(self) -> Cores {
        match self {
            Work::Replay { .. } => Cores::All,
            _ => Cores::Own,
        }
    }
}

/// A throughput row of a memory range against Redis without persistence.
const fn memory(
    name: &'static str,
    command: &'static [&'static str],
    fill: Fill,
    pipeline: u32,
    requests: u64,
    bar: f64,
) -> Row {
    Row {
        name,
        tier: Tier::Memory,
        against: Baseline::Plain,
        work: Work::Throughput {
            fill,
            upkeep: Upkeep::None,
            command,
            pipeline,
            requests,
            aftermath: false,
        },
        bar: Bar::RatioAtLeast(bar),
    }
}

/// A throughput row on one collection of a memory range, pipeline 16.
const fn collection(
    name: &'static str,
    command: &'static [&'static str],
    (kind, elements): (Kind, u64),
    upkeep: Upkeep,
    requests: u64,
    bar: f64,
) -> Row {
    Row {
        name,
        tier: Tier::Memory,
        against: Baseline::Plain,
        work: Work::Throughput {
            fill: Fill::Collections(Collections {
                kind,
                keys: 1,
                elements,
            }),
            upkeep,
            command,
            pipeline: 16,
            requests,
            aftermath: false,
        },
        bar: Bar::RatioAtLeast(bar),
    }
}

/// A row of the memory that collections take in a memory range.
const fn per_element(name: &'static str, kind: Kind, keys: u64, elements: u64) -> Row {
    Row {
        name,
        tier: Tier::Memory,
        against: Baseline::Plain,
        work: Work::MemoryPerElement(Collections { kind, keys, elements }),
        bar: Bar::RatioAtMost(1.0),
    }
}

/// A latency row of a memory range against Redis without persistence.
const fn latency(name: &'static str, request: Request, pipeline: u32) -> Row {
    Row {
        name,
        tier: Tier::Memory,
        against: Baseline::Plain,
        work: Work::Latency { request, pipeline },
        bar: Bar::RatioAtMost(1.0),
    }
}

/// A row of subscribers to a memory range.
const fn subscribing(name: &'static str, work: Work, bar: Bar) -> Row {
    Row {
        name,
        tier: Tier::Memory,
        against: Baseline::Plain,
        work,
        bar,
    }
}

/// Every row, in the order they are run and printed.
pub const ALL: &[Row] = &[
    memory("memory SET -P 16", SET, Fill::Values, 16, 3_000_000, 1.5),
    memory("memory GET -P 16", GET, Fill::Values, 16, 3_000_000, 1.5),
    memory("memory INCR -P 16", INCR, Fill::Counters, 16, 3_000_000, 1.5),
    memory("memory GET -P 64", GET, Fill::Values, 64, 4_000_000, 1.5),
    memory("memory SET -P 1", SET, Fill::Values, 1, 500_000, 1.05),
    memory("memory GET -P 1", GET, Fill::Values, 1, 500_000, 1.05),
    Row {
        name: "durable SET -P 16, sustained",
        tier: Tier::Durable,
        against: Baseline::AppendOnly,
        work: Work::Throughput {
            fill: Fill::Values,
            upkeep: Upkeep::None,
            command: SET_VARIED,
            pipeline: 16,
            requests: 12_000_000,
            aftermath: true,
        },
        bar: Bar::RatioAtLeast(1.5),
    },
    Row {
        name: "durable SET -P 16, Zipf 0.99, ten minutes",
        tier: Tier::Durable,
        against: Baseline::AppendOnly,
        work: Work::SustainedSet {
            keys: 5_000_000,
            seconds: 600,
        },
        bar: Bar::RatioAtLeast(1.5),
    },
    Row {
        name: "durable GET -P 16, resident",
        tier: Tier::Durable,
        against: Baseline::Plain,
        work: Work::Throughput {
            fill: Fill::Values,
            upkeep: Upkeep::None,
            command: GET,
            pipeline: 16,
            requests: 3_000_000,
            aftermath: false,
        },
        bar: Bar::RatioAtLeast(1.4),
    },
    Row {
        name: "memory per key",
        tier: Tier::Memory,
        against: Baseline::Plain,
        work: Work::MemoryPerKey,
        bar: Bar::RatioAtMost(0.7),
    },
    Row {
        name: "memory per sealed key",
        tier: Tier::Sealed,
        against: Baseline::Plain,
        work: Work::MemoryPerSealedKey { keys: 5_000_000 },
        bar: Bar::RatioAtMost(0.6),
    },
    Row {
        name: "sealed GET -P 16, uniform",
        tier: Tier::Sealed,
        against: Baseline::Plain,
        work: Work::ColdGet {
            keys: 5_000_000,
            choice: Choice::Uniform,
            requests: 3_000_000,
        },
        bar: Bar::RatioAtLeast(0.8),
    },
    Row {
        name: "sealed GET -P 16, Zipf 0.99",
        tier: Tier::Sealed,
        against: Baseline::Plain,
        work: Work::ColdGet {
            keys: 5_000_000,
            choice: Choice::Zipf,
            requests: 4_000_000,
        },
        bar: Bar::RatioAtLeast(1.3),
    },
    Row {
        name: "cold GET -P 16, uniform",
        tier: Tier::DurableTenth,
        against: Baseline::Plain,
        work: Work::ColdGet {
            keys: 5_000_000,
            choice: Choice::Uniform,
            requests: 1_000_000,
        },
        bar: Bar::AtLeast(100_000.0),
    },
    Row {
        name: "SET -P 16, a user with a hundred rules",
        tier: Tier::Memory,
        against: Baseline::Plain,
        work: Work::Ruled { requests: 1_000_000 },
        bar: Bar::AtLeast(0.95),
    },
    memory(
        "memory MULTI of ten SETs -P 1",
        MULTI_OF_TEN,
        Fill::Values,
        1,
        200_000,
        1.3,
    ),
    memory(
        "memory EVALSHA compare-and-set -P 16",
        EVALSHA_COMPARE_AND_SET,
        Fill::Scripts,
        16,
        1_000_000,
        1.3,
    ),
    memory(
        "memory EVALSHA rate limiter -P 16",
        EVALSHA_RATE_LIMITER,
        Fill::Scripts,
        16,
        1_000_000,
        1.3,
    ),
    memory("memory MSET 10 -P 16", MSET, Fill::Values, 16, 400_000, 1.3),
    collection(
        "LPUSH -P 16",
        LPUSH,
        (Kind::List, 0),
        Upkeep::Empty,
        1_500_000,
        1.3,
    ),
    collection(
        "RPOP -P 16",
        RPOP,
        (Kind::List, 0),
        Upkeep::Refill,
        1_500_000,
        1.3,
    ),
    collection(
        "LRANGE 100 -P 16",
        LRANGE,
        (Kind::List, 1_000),
        Upkeep::None,
        200_000,
        1.3,
    ),
    collection("SADD -P 16", SADD, (Kind::Set, 0), Upkeep::Empty, 1_500_000, 1.3),
    collection("HSET -P 16", HSET, (Kind::Hash, 0), Upkeep::Empty, 1_500_000, 1.3),
    collection(
        "ZADD -P 16",
        ZADD,
        (Kind::SortedSet, 0),
        Upkeep::Empty,
        1_000_000,
        1.3,
    ),
    collection(
        "ZPOPMIN -P 16",
        ZPOPMIN,
        (Kind::SortedSet, 0),
        Upkeep::Refill,
        1_000_000,
        1.3,
    ),
    collection(
        "ZADD to a million -P 16",
        ZADD,
        (Kind::SortedSet, 1_000_000),
        Upkeep::None,
        600_000,
        1.2,
    ),
    collection(
        "ZRANK of a million -P 16",
        ZRANK,
        (Kind::SortedSet, 1_000_000),
        Upkeep::None,
        1_000_000,
        1.2,
    ),
    collection(
        "XADD -P 16",
        XADD,
        (Kind::Stream, 0),
        Upkeep::Empty,
        1_000_000,
        1.2,
    ),
    collection(
        "XREADGROUP -P 16",
        XREADGROUP,
        (Kind::Stream, 0),
        Upkeep::Refill,
        500_000,
        1.2,
    ),
    per_element("memory: 100,000 hashes of 20", Kind::Hash, 100_000, 20),
    per_element("memory: 100,000 lists of 50", Kind::List, 100_000, 50),
    per_element("memory: 100,000 sets of 50", Kind::Set, 100_000, 50),
    per_element("memory: 100,000 sorted sets of 50", Kind::SortedSet, 100_000, 50),
    per_element("memory: a hash of a million", Kind::Hash, 1, 1_000_000),
    per_element("memory: a list of a million", Kind::List, 1, 1_000_000),
    per_element("memory: a set of a million", Kind::Set, 1, 1_000_000),
    per_element("memory: a sorted set of a million", Kind::SortedSet, 1, 1_000_000),
    per_element("memory: a stream of a million", Kind::Stream, 1, 1_000_000),
    latency("p99 memory SET -P 1", Request::Set, 1),
    latency("p99 memory GET -P 1", Request::Get, 1),
    latency("p99 memory SET -P 16", Request::Set, 16),
    latency("p99 memory GET -P 16", Request::Get, 16),
    Row {
        name: "p99 durable SET -P 16",
        tier: Tier::Durable,
        against: Baseline::AppendOnly,
        work: Work::Latency {
            request: Request::Set,
            pipeline: 16,
        },
        bar: Bar::RatioAtMost(1.0),
    },
    Row {
        name: "start after a clean stop",
        tier: Tier::Durable,
        against: Baseline::AppendOnly,
        work: Work::CleanStart { keys: 5_000_000 },
        bar: Bar::AtMost(1.0),
    },
    Row {
        name: "start with 1 GB of mixed types",
        tier: Tier::Durable,
        against: Baseline::AppendOnly,
        work: Work::MixedStart { bytes: 1_000_000_000 },
        bar: Bar::AtMost(2.0),
    },
    Row {
        name: "replay after a crash",
        tier: Tier::DurableJournalOnly,
        against: Baseline::AppendOnlyUncut,
        work: Work::Replay { records: 5_000_000 },
        bar: Bar::AtLeast(1_000_000.0),
    },
    Row {
        name: "p99 GET -P 16 during a backup",
        tier: Tier::DurableBounded,
        against: Baseline::Plain,
        work: Work::Backup { bytes: 5_200_000_000 },
        bar: Bar::RatioAtMost(2.0),
    },
    subscribing(
        "PUBLISH to 500 subscribers",
        Work::FanOut {
            subscribers: 500,
            messages: 8_000,
            waits: true,
        },
        Bar::RatioAtLeast(1.5),
    ),
    subscribing(
        "PUBLISH to 500 subscribers, not waited for",
        Work::FanOut {
            subscribers: 500,
            messages: 8_000,
            waits: false,
        },
        Bar::RatioAtLeast(1.5),
    ),
    subscribing(
        "memory per subscription, a million rooms",
        Work::MemoryPerSubscription {
            clients: 100,
            channels: 10_000,
            shared: false,
        },
        Bar::RatioAtMost(0.5),
    ),
    subscribing(
        "memory per subscription, 1,000 rooms",
        Work::MemoryPerSubscription {
            clients: 500,
            channels: 1_000,
            shared: true,
        },
        Bar::AtMost(16.0),
    ),
    subscribing(
        "SET -P 16, a million other keys watched",
        Work::WatchedElsewhere { requests: 3_000_000 },
        Bar::AtLeast(0.97),
    ),
    subscribing(
        "SET -P 16, every key watched",
        Work::WatchedHere { requests: 2_000_000 },
        Bar::RatioAtLeast(2.0),
    ),
];
