//! The keyspace and the journal against plain collections: whatever flushes, drops, loads, expiry, reopening and
//! crashes come between, keys, values, expiries and counts are those of a `BTreeMap`.
//!
//! Everything runs inside this process, on the library, with the time handed in. A crash is a copy of the data folder
//! taken while the server lives, cut back to a random place of the journal or advanced by a part of a flush.
//!
//! `PROPTEST_CASES` scales the number of cases of the long tests.

#[path = "model/eviction.rs"]
mod eviction;
#[path = "model/expiry.rs"]
mod expiry;
#[path = "common/open.rs"]
mod open;
#[path = "model/range_map.rs"]
mod range_map;
#[path = "model/read_back.rs"]
mod read_back;
#[path = "model/reshape.rs"]
mod reshape;
#[path = "model/scans.rs"]
mod scans;
#[path = "model/sealing.rs"]
mod sealing;

use open::{CACHE, How, Open};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use terrace::config::{Bounds, EvictionPolicy, FsyncPolicy, KeyspaceEvents, RangeSpec, Tier};
use terrace::journal::{self, Journal, ReadError, record};
use terrace::keyspace::evict::Room;
use terrace::keyspace::range::{DBS, Inherited, RangeMap};
use terrace::keyspace::ranges::Leftover;
use terrace::keyspace::scan::Wanted;
use terrace::keyspace::{Call, Effects, Elements, Settings};
use terrace::store::block::BlockStore;
use terrace::store::flush::{Batch, Meta, RangeMeta, wipe};
use terrace::store::rows::{self, Row};

/// Unix milliseconds at which the injected time begins.
const START_MS: i64 = 1_700_000_000_000;
/// Logical databases that the steps use.
const USED_DBS: u8 = 3;
/// More than any test's data: a flush starts when a step asks for one.
const NEVER: u64 = 1 << 40;
const TTL_MS: i64 = 5_000;

fn cases(most: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(most),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

// ---- A keyspace with its flush thread ----------------------------------------------------------------------------

fn spec(line: &str) -> RangeSpec {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    RangeSpec::parse(&words).expect("a valid range")
}

fn settings(maxmemory: u64, eviction: EvictionPolicy) -> Settings {
    Settings {
        shards: 8,
        maxmemory,
        maxmemory_samples: 5,
        lfu_log_factor: 10,
        lfu_decay_minutes: 1,
        journal_flush_size: NEVER,
        flush_dirty_size: NEVER,
        seal_after: 0,
        paged_threshold: 65_536,
        paged_threshold_size: 8 << 20,
        max_value_len: 1 << 20,
        inherited: Inherited {
            fsync: FsyncPolicy::EverySec,
            eviction,
            notify: KeyspaceEvents::default(),
            objects: terrace::object::Limits::default(),
        },
    }
}

impl Open {
    /// Opens a data folder as the server does; the offset at which its journal ended.
    fn at(dir: &Path, specs: &[RangeSpec], settings: &Settings, now_ms: i64) -> (Open, u64) {
        Open::with(dir, specs, false, settings, now_ms)
    }

    /// As `at`; if `remembers`, with the ranges that the store remembers, as the server does.
    fn with(
        dir: &Path,
        specs: &[RangeSpec],
        remembers: bool,
        settings: &Settings,
        now_ms: i64,
    ) -> (Open, u64) {
        let how = How {
            specs,
            remembers,
            settings,
            now_ms,
            segment_size: 700,
            seed: 7,
        };
        Open::start(dir, &how)
    }

    /// All keys that a scan with steps of `count` returns; none twice while nothing changes.
    fn scan(&self, db: u8, now_ms: i64, count: usize) -> BTreeSet<Vec<u8>> {
        let (mut cursor, mut keys) = (0, BTreeSet::new());
        loop {
            cursor = self
                .keyspace
                .scan(db, cursor, count, now_ms, |found| {
                    assert!(keys.insert(found.key.to_vec()), "returned twice: {:?}", found.key);
                })
                .expect("scan");
            if cursor == 0 {
                return keys;
            }
        }
    }
}

// ---- The model ---------------------------------------------------------------------------------------------------

type Value = (Vec<u8>, Option<i64>);

#[derive(Clone, Default, Debug, PartialEq)]
struct Model {
    dbs: [BTreeMap<Vec<u8>, Value>; USED_DBS as usize],
}

/// What a range with a default time to live gives to a key that gets none.
fn default_expiry(key: &[u8], ttl: bool, now: i64) -> Option<i64> {
    (ttl && key.starts_with(b"t:")).then_some(now + TTL_MS)
}

impl Model {
    fn expire(&mut self, now: i64) {
        for db in &mut self.dbs {
            db.retain(|_, (_, at)| at.is_none_or(|at| at > now));
        }
    }

    fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        for db in &mut self.dbs {
            db.retain(|key, _| keep(key));
        }
    }

    /// Replaces a value; an expiry that has passed deletes.
    fn put(&mut self, db: u8, key: &[u8], value: Vec<u8>, at: Option<i64>, now: i64) {
        let keys = &mut self.dbs[db as usize];
        if at.is_some_and(|at| at <= now) {
            keys.remove(key);
        } else {
            keys.insert(key.to_vec(), (value, at));
        }
    }

    /// Applies a command and returns its RESP2 reply; none for an error.
    fn run(&mut self, db: u8, now: i64, ttl: bool, words: &[&[u8]]) -> Option<Vec<u8>> {
        let ok = || Some(b"+OK\r\n".to_vec());
        let int = |n: i64| Some(format!(":{n}\r\n").into_bytes());
        let bulk = |value: Option<&Value>| {
            Some(value.map_or(b"$-1\r\n".to_vec(), |(v, _)| {
                [format!("${}\r\n", v.len()).as_bytes(), v, b"\r\n"].concat()
            }))
        };
        let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<i64>().ok();
        let key = words[1];
        let old = self.dbs[db as usize].get(key).cloned();
        let default = default_expiry(key, ttl, now);
        match words[0] {
            b"SET" => {
                let at = match &words[3..] {
                    [] => default,
                    [b"KEEPTTL"] => old.as_ref().map_or(default, |(_, at)| *at),
                    [b"PX", ms] => Some(now + number(ms)?),
                    [b"PXAT", at] => number(at),
                    [b"NX"] if old.is_some() => return bulk(None),
                    [b"XX"] if old.is_none() => return bulk(None),
                    _ => default,
                };
                self.put(db, key, words[2].to_vec(), at, now);
                ok()
            }
            b"GET" => bulk(old.as_ref()),
            b"GETDEL" => {
                self.dbs[db as usize].remove(key);
                bulk(old.as_ref())
            }
            b"APPEND" | b"SETRANGE" | b"INCRBY" => {
                let (mut value, at) = old.unwrap_or((Vec::new(), default));
                let reply = match words[0] {
                    b"APPEND" => {
                        value.extend_from_slice(words[2]);
                        value.len() as i64
                    }
                    b"SETRANGE" => {
                        let (from, new) = (number(words[2])? as usize, words[3]);
                        value.resize(value.len().max(from + new.len()), 0);
                        value[from..from + new.len()].copy_from_slice(new);
                        value.len() as i64
                    }
                    _ => {
                        let before = if value.is_empty() && !self.dbs[db as usize].contains_key(key) {
                            0
                        } else {
                            number(&value).filter(|n| n.to_string().as_bytes() == value)?
                        };
                        let sum = before.checked_add(number(words[2])?)?;
                        value = sum.to_string().into_bytes();
                        sum
                    }
                };
                self.dbs[db as usize].insert(key.to_vec(), (value, at));
                int(reply)
            }
            b"DEL" | b"UNLINK" => {
                let gone = words[1..]
                    .iter()
                    .filter(|key| self.dbs[db as usize].remove(**key).is_some());
                int(gone.count() as i64)
            }
            b"EXISTS" => int(words[1..]
                .iter()
                .filter(|key| self.dbs[db as usize].contains_key(**key))
                .count() as i64),
            b"MSET" | b"MSETNX" => {
                let pairs = words[1..].chunks(2);
                if words[0] == b"MSETNX"
                    && pairs
                        .clone()
                        .any(|pair| self.dbs[db as usize].contains_key(pair[0]))
                {
                    return int(0);
                }
                for pair in pairs {
                    self.put(
                        db,
                        pair[0],
                        pair[1].to_vec(),
                        default_expiry(pair[0], ttl, now),
                        now,
                    );
                }
                if words[0] == b"MSET" { ok() } else { int(1) }
            }
            b"RENAME" | b"RENAMENX" => {
                let (value, at) = old?;
                if words[0] == b"RENAMENX" && self.dbs[db as usize].contains_key(words[2]) {
                    return int(0);
                }
                if key != words[2] {
                    let at = at.or(default_expiry(words[2], ttl, now));
                    self.put(db, words[2], value, at, now);
                    self.dbs[db as usize].remove(key);
                }
                if words[0] == b"RENAME" { ok() } else { int(1) }
            }
            b"PEXPIREAT" => {
                let Some((value, _)) = old else { return int(0) };
                self.put(db, key, value, number(words[2]), now);
                int(1)
            }
            b"PERSIST" => {
                let Some((value, Some(_))) = old else {
                    return int(0);
                };
                self.put(db, key, value, None, now);
                int(1)
            }
            _ => unreachable!("not in the model"),
        }
    }
}

// ---- Steps -------------------------------------------------------------------------------------------------------

/// A command, shown as one line.
#[derive(Clone)]
struct Words(Vec<Vec<u8>>);

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self
            .0
            .iter()
            .map(|word| format!("{:?}", word.escape_ascii().to_string()));
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Run(u8, Words),
    /// As `Run`, with a time so many milliseconds from now behind the words.
    RunUntil(u8, Words, i64),
    /// `true` in a transaction that holds every shard.
    FlushDb(Option<u8>, bool),
    Swap(u8, u8),
    Advance(i64),
    Flush,
    DropClean,
    /// Everything in memory ranges that can be is sealed.
    Seal,
    /// What is sealed and no longer counts goes.
    DropEmpty,
    Expire,
    Squeeze(u64),
    Scan(usize),
    Check,
    /// A clean stop and start; `true` also exchanges the ranges for others of the same tiers.
    Reopen(bool),
    /// A crash that loses what was appended after one of the last commands.
    Crash(usize, usize),
    /// A crash while a flush has written some of its rows, and not its mark.
    CrashInFlush(u64),
}

fn a_key() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop::sample::select(&["", "m:", "m:d:", "m:x:", "y", "t:", "d:"]);
    let rest = prop::sample::select(&["", "a", "b"]);
    (prefix, rest).prop_map(|(prefix, rest)| [prefix, rest].concat().into_bytes())
}

fn a_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (-50i64..50).prop_map(|n| n.to_string().into_bytes()),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (0usize..400).prop_map(|n| vec![b'x'; n]),
    ]
}

fn words<const N: usize>(words: [&[u8]; N]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

fn a_command() -> impl Strategy<Value = Step> {
    let db = || prop_oneof![4 => Just(0u8), 1 => 1..USED_DBS];
    let flag = prop::sample::select(&["KEEPTTL", "NX", "XX"]);
    let amount = || (-9i64..9).prop_map(|n| n.to_string().into_bytes());
    let one = prop::sample::select(&["GET", "GETDEL", "DEL", "UNLINK", "PERSIST", "EXISTS"]);
    let soon = || prop_oneof![4 => 1i64..9_000, 1 => -500i64..1];
    let run = prop_oneof![
        4 => (a_key(), a_value()).prop_map(|(k, v)| words([b"SET", &k, &v])),
        1 => (a_key(), a_value(), flag).prop_map(|(k, v, f)| words([b"SET", &k, &v, f.as_bytes()])),
        1 => (a_key(), a_value(), 1i64..9_000)
            .prop_map(|(k, v, ms)| words([b"SET", &k, &v, b"PX", ms.to_string().as_bytes()])),
        4 => (a_key(), one).prop_map(|(k, name)| words([name.as_bytes(), &k])),
        2 => (a_key(), a_value()).prop_map(|(k, v)| words([b"APPEND", &k, &v])),
        1 => (a_key(), 0usize..30, "[a-z]{1,9}")
            .prop_map(|(k, at, v)| words([b"SETRANGE", &k, at.to_string().as_bytes(), v.as_bytes()])),
        3 => (a_key(), amount()).prop_map(|(k, n)| words([b"INCRBY", &k, &n])),
        1 => (a_key(), a_key(), a_value(), any::<bool>()).prop_map(|(a, b, v, nx)| {
            words([if nx { b"MSETNX".as_slice() } else { b"MSET" }, &a, &v, &b, b"2"])
        }),
        1 => (a_key(), a_key()).prop_map(|(a, b)| words([b"DEL", &a, &b])),
        2 => (a_key(), a_key(), any::<bool>())
            .prop_map(|(a, b, nx)| words([if nx { b"RENAMENX".as_slice() } else { b"RENAME" }, &a, &b])),
    ];
    let until = prop_oneof![
        2 => a_key().prop_map(|k| words([b"PEXPIREAT", &k])),
        1 => (a_key(), a_value()).prop_map(|(k, v)| words([b"SET", &k, &v, b"PXAT"])),
    ];
    prop_oneof![
        6 => (db(), run).prop_map(|(db, words)| Step::Run(db, Words(words))),
        1 => (db(), until, soon()).prop_map(|(db, words, ms)| Step::RunUntil(db, Words(words), ms)),
    ]
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => a_command(),
        1 => (prop::option::of(0..USED_DBS), any::<bool>()).prop_map(|(db, held)| Step::FlushDb(db, held)),
        1 => (0..USED_DBS, 0..USED_DBS).prop_map(|(a, b)| Step::Swap(a, b)),
        4 => (0i64..4_000).prop_map(Step::Advance),
        6 => Just(Step::Flush),
        5 => Just(Step::DropClean),
        5 => Just(Step::Seal),
        1 => Just(Step::DropEmpty),
        3 => Just(Step::Expire),
        2 => (1u64..4_000).prop_map(Step::Squeeze),
        4 => (1usize..40).prop_map(Step::Scan),
        2 => Just(Step::Check),
        1 => any::<bool>().prop_map(Step::Reopen),
        1 => (any::<usize>(), 0usize..40).prop_map(|(at, torn)| Step::Crash(at, torn)),
        1 => any::<u64>().prop_map(Step::CrashInFlush),
    ]
}

// ---- The world: a keyspace and its model side by side ------------------------------------------------------------

struct World {
    dir: TempDir,
    open: Open,
    model: Model,
    now: i64,
    specs: Vec<RangeSpec>,
    /// Another way to cut the same tiers.
    others: Vec<RangeSpec>,
    /// Ranges are what commands made of them.
    remembers: bool,
    ttl: bool,
    /// The model after each command, by the journal's end.
    history: Vec<(u64, Model)>,
    /// Physical databases flushed since rows were last written.
    wiped: BTreeSet<u8>,
    /// Nothing has been flushed since a crash.
    replayed: bool,
}

impl World {
    fn new(lines: &[&str], other: &str) -> World {
        let dir = tempfile::tempdir().expect("temp dir");
        let specs: Vec<RangeSpec> = lines.iter().map(|line| spec(line)).collect();
        let mut others = specs.clone();
        others.push(spec(other));
        let (open, end) = Open::at(
            dir.path(),
            &specs,
            &settings(0, EvictionPolicy::NoEviction),
            START_MS,
        );
        World {
            dir,
            open,
            model: Model::default(),
            now: START_MS,
            ttl: lines.iter().any(|line| line.contains("default-ttl")),
            specs,
            others,
            remembers: false,
            history: vec![(end, Model::default())],
            wiped: BTreeSet::new(),
            replayed: false,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Run(db, words) => self.run(*db, &words.0),
            Step::RunUntil(db, words, ms) => {
                let at = (self.now + ms).to_string().into_bytes();
                self.run(*db, &[words.0.as_slice(), &[at]].concat());
            }
            Step::FlushDb(db, held) => self.flush_db(*db, *held),
            Step::Swap(a, b) => {
                self.open.keyspace.swap_db(*a, *b, &mut self.open.effects);
                self.model.dbs.swap(*a as usize, *b as usize);
            }
            Step::Advance(ms) => {
                self.now += ms;
                self.model.expire(self.now);
            }
            Step::Flush => {
                self.open.flush();
                self.wiped.clear();
                self.check_rows();
            }
            Step::DropClean => self.open.keyspace.drop_all_clean(),
            Step::Seal => {
                self.open.keyspace.seal_all().expect("seals");
            }
            Step::DropEmpty => {
                let dropped = self.open.keyspace.drop_empty_generations();
                dropped.expect("drops generations");
            }
            Step::Expire => self.expire(),
            Step::Squeeze(bytes) => self.squeeze(*bytes),
            Step::Scan(count) => self.check_scan(*count),
            Step::Check => self.check(),
            Step::Reopen(other) => self.reopen(*other),
            Step::Crash(at, torn) => self.crash(*at, *torn),
            Step::CrashInFlush(seed) => self.crash_in_flush(*seed),
        }
        let end = self.open.end();
        self.history.push((end, self.model.clone()));
    }

    fn run(&mut self, db: u8, words: &[Vec<u8>]) {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let expected = self.model.run(db, self.now, self.ttl, &words);
        let reply = self.open.run(db, self.now, &words).ok();
        assert_eq!(reply, expected);
    }

    fn flush_db(&mut self, db: Option<u8>, held: bool) {
        let (keyspace, effects) = (self.open.keyspace.clone(), &mut self.open.effects);
        let group = held.then(|| keyspace.hold(&[], true, self.now).expect("holds all"));
        keyspace.flush_db(db, effects);
        if let Some(group) = group {
            group.commit(effects);
        }
        for db in (0..USED_DBS).filter(|at| db.is_none_or(|db| db == *at)) {
            self.model.dbs[db as usize].clear();
            self.wiped.insert(self.open.keyspace.physical(db));
        }
    }

    fn expire(&mut self) {
        let keyspace = &self.open.keyspace;
        keyspace.expire_resident(self.now, Duration::from_secs(1), &mut self.open.effects);
        keyspace
            .expire_cold(self.now, 3, &mut self.open.effects)
            .expect("reads the index");
    }

    /// A limit that only dropping what is clean can meet: the memory ranges do not evict.
    fn squeeze(&mut self, bytes: u64) {
        let keyspace = &self.open.keyspace;
        keyspace.apply_settings(&settings(bytes, EvictionPolicy::NoEviction));
        loop {
            match keyspace.make_room(self.now) {
                Room::Enough | Room::Full => break,
                Room::WaitForFlush => self.open.flush(),
            }
        }
        keyspace.apply_settings(&settings(0, EvictionPolicy::NoEviction));
        // Memory pressure starts flushes by itself; the steps that copy the folder need it at rest.
        self.open.flush();
        self.wiped.clear();
    }

    // -- stops and crashes --

    fn start(&mut self, dir: TempDir) -> u64 {
        let settings = settings(0, EvictionPolicy::NoEviction);
        let (open, end) = Open::with(dir.path(), &self.specs, self.remembers, &settings, self.now);
        (self.open, self.dir) = (open, dir);
        let open = &self.open;
        self.model
            .retain(|key| open.keyspace.ranges().find(key).is_durable());
        // After a crash offsets go on far behind the end.
        self.history = vec![(self.open.end(), self.model.clone())];
        end
    }

    fn reopen(&mut self, other: bool) {
        let end = self.open.end();
        self.open.close();
        if other {
            std::mem::swap(&mut self.specs, &mut self.others);
        }
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("temp dir"));
        // The store must be closed before the folder is opened again.
        let (parked, _) = Open::at(
            self.dir.path(),
            &[],
            &settings(0, EvictionPolicy::NoEviction),
            self.now,
        );
        self.open = parked;
        assert_eq!(self.start(dir), end, "a clean stop loses nothing of the journal");
        self.wiped.clear();
        self.check_scan(7);
    }

    /// Copies the folder as a crash would leave it; everything appended is on disk.
    fn copy(&self) -> TempDir {
        let end = self.open.end();
        assert!(
            self.open
                .keyspace
                .journal()
                .expect("open")
                .wait_synced_blocking(end, || true)
        );
        // A compaction may remove files between the listing and the copying; then the copy is made again.
        for _ in 0..50 {
            let dir = tempfile::tempdir().expect("temp dir");
            let copied = ["store", "journal"]
                .iter()
                .all(|name| copy_folder(self.dir.path(), dir.path(), name));
            if copied
                && BlockStore::open(&dir.path().join("store"), CACHE)
                    .is_ok_and(|store| store.verify().is_ok())
            {
                return dir;
            }
        }
        panic!("no sound copy");
    }

    fn crash(&mut self, at: usize, torn: usize) {
        let dir = self.copy();
        let newest = self
            .open
            .keyspace
            .store()
            .meta()
            .expect("mark")
            .map_or(0, |meta| meta.newest.max(meta.mark));
        self.recover_at(dir, newest, at, torn);
    }

    /// Recovers a copy whose journal is cut off behind one of the states not below `newest`.
    fn recover_at(&mut self, dir: TempDir, newest: u64, at: usize, torn: usize) {
        self.history.retain(|(end, _)| *end >= newest);
        let (end, mut model) = self.history[at % self.history.len()].clone();
        // Of states at one offset the last counts: between them nothing durable changed.
        model = self
            .history
            .iter()
            .rev()
            .find(|(other, _)| *other == end)
            .map_or(model, |(_, last)| last.clone());
        cut(&dir.path().join("journal"), end, torn);
        model.expire(self.now);
        self.model = model;
        assert_eq!(self.start(dir), end, "the journal was cut there");
        // FLUSHDBs that are replayed wipe again; which, is not known here.
        self.wiped.clear();
        self.replayed = true;
        self.check_scan(5);
        if torn.is_multiple_of(2) {
            self.check();
        }
    }

    /// The store as a crash in the middle of a flush leaves it: the rows of some keys are new, the mark is the old one.
    fn crash_in_flush(&mut self, seed: u64) {
        if std::mem::take(&mut self.replayed) {
            self.open.flush();
            self.wiped.clear();
        }
        let before = self.copy();
        self.open.flush();
        let after = self.copy();
        let store = BlockStore::open(&before.path().join("store"), CACHE).expect("opens");
        let newer = BlockStore::open(&after.path().join("store"), CACHE).expect("opens");
        let meta = newer.meta().expect("mark");
        let newest = meta.as_ref().map_or(0, |meta| meta.newest.max(meta.mark));
        let Some(meta) = meta else { return };
        let old = store.meta().expect("mark").unwrap_or(Meta {
            mark: 0,
            databases: (0..DBS as u8).collect(),
            ..meta.clone()
        });
        let meta = Meta {
            mark: old.mark,
            databases: old.databases.clone(),
            ..meta
        };
        let wiped: Vec<u8> = self.wiped.iter().copied().collect();
        wipe(&store, &wiped, &[], &meta).expect("wipes");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (was, is) = (all_rows(&store), all_rows(&newer));
        let mut batch = Batch::default();
        let changed: BTreeSet<&Vec<u8>> = was
            .keys()
            .chain(is.keys())
            .filter(|key| was.get(*key) != is.get(*key))
            .collect();
        let share = rng.f64();
        let mut result = was.clone();
        // A key's rows, its own and those of the expiry index, are always in one file.
        let mut taken = BTreeMap::new();
        for key in changed {
            let of_index = || rows::split_expiry_key(key).map(|(_, db, key)| (db, key));
            let place = rows::split_object_key(key).or_else(of_index);
            if !*taken.entry(place).or_insert_with(|| rng.f64() <= share) {
                continue;
            }
            batch.push(
                |out| out.extend(key),
                is.get(key).map(|row| move |out: &mut Vec<u8>| out.extend(row)),
            );
            match is.get(key) {
                Some(row) => result.insert(key.clone(), row.clone()),
                None => result.remove(key),
            };
        }
        let meta = Meta {
            ranges: self.count(&meta, &result),
            ..meta
        };
        batch.write(&store, &meta).expect("writes");
        drop((store, newer));
        let at = rng.usize(..);
        self.recover_at(before, newest, at, rng.usize(..3));
    }

    fn count(&self, meta: &Meta, rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<RangeMeta> {
        // After a start with other ranges those of the last run stand there until something is written.
        let specs: Vec<RangeSpec> = meta.ranges.iter().map(|range| range.spec.clone()).collect();
        let map = RangeMap::new(&specs, self.open.keyspace.ranges().inherited, None);
        let mut ranges: Vec<RangeMeta> = meta.ranges.clone();
        for range in &mut ranges {
            (range.rows, range.expires) = (vec![0; DBS], vec![0; DBS]);
        }
        for (row_key, value) in rows {
            let Some((db, key)) = rows::split_object_key(row_key) else {
                continue;
            };
            let name = &map.find(key).spec.name;
            let range = ranges
                .iter_mut()
                .find(|range| range.spec.name == *name)
                .expect("known range");
            range.rows[db as usize] += 1;
            range.expires[db as usize] += i64::from(Row::decode(value).expect("row").expiry.is_some());
        }
        ranges
    }

    // -- checks --

    /// The counts in the mark row are those of the rows beside it, and the expiry index is that of these rows.
    fn check_rows(&self) {
        let store = self.open.keyspace.store();
        let Some(meta) = store.meta().expect("mark") else {
            return;
        };
        let rows = all_rows(store);
        assert_eq!(meta.ranges, self.count(&meta, &rows), "counts of rows");
        check_index(&rows);
    }

    /// What can be seen without making anything resident.
    fn check_scan(&self, count: usize) {
        for db in 0..USED_DBS {
            let expected: BTreeSet<Vec<u8>> = self.model.dbs[db as usize].keys().cloned().collect();
            assert_eq!(self.open.scan(db, self.now, count), expected, "SCAN of {db}");
            let wanted = Wanted {
                start: b"",
                end: None,
                most: usize::MAX,
                reverse: count.is_multiple_of(2),
                values: true,
            };
            let mut pairs = self
                .open
                .keyspace
                .range_scan(db, &wanted, self.now)
                .expect("scan");
            if wanted.reverse {
                pairs.reverse();
            }
            let all = self.model.dbs[db as usize]
                .iter()
                .map(|(key, (value, _))| (key.clone(), Some(value.clone())));
            assert_eq!(pairs, all.collect::<Vec<_>>(), "RANGE SCAN of {db}");
        }
    }

    /// Everything: makes every key resident, and what has expired go.
    fn check(&mut self) {
        self.check_scan(3);
        let mut effects = Effects::default();
        let keyspace = &self.open.keyspace;
        while keyspace
            .expire_cold(self.now, 64, &mut effects)
            .expect("reads the index")
            .1
        {}
        keyspace.expire_resident(self.now, Duration::from_secs(9), &mut effects);
        for db in 0..USED_DBS {
            for key in every_key() {
                let call = Call {
                    db,
                    now_ms: self.now,
                    keys: &[&key],
                    received: &[],
                    elements: Elements::None,
                    replay: None,
                };
                let mut tx = self.open.keyspace.begin(call, &mut effects).expect("loads");
                let found = tx
                    .peek(&key)
                    .map(|entry| (entry.value().to_vec(), entry.expiry()));
                assert_eq!(
                    found,
                    self.model.dbs[db as usize].get(&key).cloned(),
                    "{db} {}",
                    key.escape_ascii()
                );
                tx.commit();
            }
        }
        self.check_counts();
    }

    /// All keys are resident and none has expired: the counts have one right value each.
    fn check_counts(&self) {
        let map = self.open.keyspace.ranges();
        for range in map.iter() {
            let counters = &range.counters;
            for db in 0..USED_DBS {
                let physical = self.open.keyspace.physical(db) as usize;
                let of_range = self.model.dbs[db as usize]
                    .iter()
                    .filter(|(key, _)| map.find(key).spec.name == range.spec.name);
                let expiries: Vec<bool> = of_range.map(|(_, (_, at))| at.is_some()).collect();
                let counted = (
                    counters.keys[physical].load(Relaxed),
                    counters.expires[physical].load(Relaxed),
                );
                let expected = (
                    expiries.len() as i64,
                    expiries.iter().filter(|at| **at).count() as i64,
                );
                assert_eq!(
                    counted, expected,
                    "keys and expiries of {} in {db}",
                    range.spec.name
                );
            }
            if range.is_durable() {
                assert_eq!(counters.cold.load(Relaxed), 0, "cold keys of {}", range.spec.name);
            }
        }
        self.check_sealed();
    }

    /// What is counted as sealed is what the shards know of.
    fn check_sealed(&self) {
        let (mut cold, mut bytes) = (0, 0);
        for range in self
            .open
            .keyspace
            .ranges()
            .iter()
            .filter(|range| !range.is_durable())
        {
            cold += range.counters.cold.load(Relaxed);
            bytes += range.counters.sealed_bytes.load(Relaxed);
        }
        assert_eq!(
            (cold, bytes),
            self.open.keyspace.count_sealed(),
            "sealed keys and bytes"
        );
        assert!((cold == 0) == (bytes == 0));
    }

    /// Deletes everything, after which nothing is left anywhere.
    fn finish(mut self) {
        self.check();
        for db in 0..USED_DBS {
            for key in every_key() {
                self.run(db, &words([b"DEL", &key]));
            }
        }
        self.open.flush();
        self.check();
        for range in self.open.keyspace.ranges().iter() {
            assert_eq!(
                range.counters.bytes.load(Relaxed),
                0,
                "bytes of {}",
                range.spec.name
            );
            assert_eq!(range.counters.cold.load(Relaxed), 0, "keys are left");
        }
        assert_eq!(all_rows(self.open.keyspace.store()).len(), 0, "rows are left");
    }
}

fn every_key() -> Vec<Vec<u8>> {
    let prefixes = ["", "m:", "m:d:", "m:x:", "y", "t:", "d:"];
    let keys = prefixes
        .iter()
        .flat_map(|prefix| ["", "a", "b"].map(|rest| [prefix, rest].concat().into_bytes()));
    keys.collect()
}

/// The expiry index has a row for every object row with an expiry, and no other.
fn check_index(rows: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let (mut objects, mut index) = (BTreeSet::new(), BTreeSet::new());
    for (row_key, value) in rows {
        if let Some((db, key)) = rows::split_object_key(row_key) {
            let expiry = Row::decode(value).expect("row").expiry;
            objects.extend(expiry.map(|at| (at, db, key)));
        } else {
            index.extend(rows::split_expiry_key(row_key));
        }
    }
    assert_eq!(index, objects, "rows of the expiry index, and expiries of rows");
}

/// Rows of objects and of the expiry index.
fn all_rows(store: &BlockStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let rows = store.scan(vec![0x10], vec![0xff], false);
    rows.map(|row| row.expect("row"))
        .map(|(key, row)| (key.into_vec(), row.into_vec()))
        .collect()
}

fn copy_folder(from: &Path, to: &Path, name: &str) -> bool {
    std::fs::create_dir_all(to.join(name)).expect("folder");
    let Ok(files) = std::fs::read_dir(from.join(name)) else {
        return false;
    };
    files
        .flatten()
        .all(|file| std::fs::copy(file.path(), to.join(name).join(file.file_name())).is_ok())
}

/// Cuts a journal off at an offset, leaving up to `torn` bytes of the record there.
fn cut(dir: &Path, offset: u64, torn: usize) {
    for segment in journal::list(dir).expect("list") {
        let bytes = std::fs::read(&segment.path).expect("read");
        let mut at = record::SEGMENT_HEADER;
        while at < bytes.len() {
            let (header, payload) = record::decode_record(&bytes[at..]).expect("sound");
            if header.offset >= offset {
                let len = at + torn.min(record::RECORD_HEADER + payload.len() - 1);
                std::fs::write(&segment.path, &bytes[..len]).expect("write");
                for later in journal::list(dir).expect("list") {
                    if later.first_offset > segment.first_offset {
                        std::fs::remove_file(later.path).expect("remove");
                    }
                }
                return;
            }
            at += record::RECORD_HEADER + payload.len();
        }
    }
}

fn keeps_to_the_model(lines: &[&str], other: &str, steps: &[Step]) {
    let mut world = World::new(lines, other);
    steps.iter().for_each(|step| world.apply(step));
    world.finish();
}

proptest! {
    #![proptest_config(cases(50))]

    #[test]
    fn a_durable_keyspace_keeps_to_the_model(steps in prop::collection::vec(a_step(), 1..150)) {
        keeps_to_the_model(&[], "d d: durable", &steps);
    }

    #[test]
    fn ranges_of_both_tiers_keep_to_the_model(steps in prop::collection::vec(a_step(), 1..150)) {
        let lines = ["m m: memory", "md m:d: durable", "y x..zz memory", "t t: durable default-ttl 5"];
        keeps_to_the_model(&lines, "d d: durable", &steps);
    }

    #[test]
    fn a_memory_keyspace_with_durable_ranges_keeps_to_the_model(steps in prop::collection::vec(a_step(), 1..150)) {
        let lines = ["default * memory", "m m: durable", "md m:d: memory", "t t: durable default-ttl 5"];
        keeps_to_the_model(&lines, "mx m:x: durable", &steps);
    }
}

proptest! {
    #![proptest_config(cases(25))]

    #[test]
    fn a_memory_keyspace_keeps_to_the_model(steps in prop::collection::vec(a_step(), 1..150)) {
        keeps_to_the_model(&["default * memory"], "d d: memory", &steps);
    }
}
