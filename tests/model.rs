//! The keyspace and the journal against plain collections: whatever flushes, drops, loads, expiry, reopening and
//! crashes come between, keys, values, expiries and counts are those of a `BTreeMap`.
//!
//! Everything runs inside this process, on the library, with the time handed in. A crash is a copy of the data folder
//! taken while the server lives, cut back to a random place of the journal or advanced by a part of a flush.
//!
//! `PROPTEST_CASES` scales the number of cases of the long tests.

#[path = "common/open.rs"]
mod open;

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
    FlushDb(Option<u8>),
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
        1 => prop::option::of(0..USED_DBS).prop_map(Step::FlushDb),
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
            Step::FlushDb(db) => self.flush_db(*db),
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

    fn flush_db(&mut self, db: Option<u8>) {
        self.open.keyspace.flush_db(db, &mut self.open.effects);
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
        self.history = vec![(end, self.model.clone())];
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

// ---- Ranges that change -------------------------------------------------------------------------------------------

/// A change of the ranges that there are; numbers stand for one of them.
#[derive(Clone, Debug)]
enum Reshape {
    Split(usize, Vec<u8>),
    Merge(usize, usize),
    Create(Vec<u8>, bool),
    Drop(usize, usize),
    /// To the other tier; `true` waits until it is done.
    Move(usize, bool),
    Wait,
    Do(Step),
}

fn a_reshape() -> impl Strategy<Value = Reshape> {
    let quiet = prop_oneof![
        40 => a_command(),
        4 => Just(Step::Flush),
        4 => Just(Step::DropClean),
        4 => Just(Step::Seal),
        1 => Just(Step::DropEmpty),
        2 => Just(Step::Expire),
        2 => (0i64..4_000).prop_map(Step::Advance),
        1 => prop::option::of(0..USED_DBS).prop_map(Step::FlushDb),
        1 => (0..USED_DBS, 0..USED_DBS).prop_map(|(a, b)| Step::Swap(a, b)),
        3 => (1usize..40).prop_map(Step::Scan),
        2 => Just(Step::Check),
        1 => Just(Step::Reopen(false)),
        2 => (Just(usize::MAX), 0usize..40).prop_map(|(at, torn)| Step::Crash(at, torn)),
    ];
    prop_oneof![
        30 => quiet.prop_map(Reshape::Do),
        2 => (any::<usize>(), a_key()).prop_map(|(at, key)| Reshape::Split(at, key)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Reshape::Merge(a, b)),
        2 => (a_key(), any::<bool>()).prop_map(|(prefix, durable)| Reshape::Create(prefix, durable)),
        2 => (any::<usize>(), 0usize..3).prop_map(|(at, leftover)| Reshape::Drop(at, leftover)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, wait)| Reshape::Move(at, wait)),
        1 => Just(Reshape::Wait),
    ]
}

impl World {
    fn range_at(&self, at: usize) -> RangeSpec {
        let map = self.open.keyspace.ranges();
        let specs: Vec<RangeSpec> = map.iter().map(|range| range.spec.clone()).collect();
        specs[at % specs.len()].clone()
    }

    fn wait_for_moves(&self) {
        let map = || self.open.keyspace.ranges();
        let moving = || {
            map()
                .iter()
                .any(|range| self.open.keyspace.move_of(&range.spec.name).is_some())
        };
        while moving() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What is refused has changed nothing; what is not, has done what it says.
    fn reshape(&mut self, change: &Reshape, number: usize) {
        let keyspace = self.open.keyspace.clone();
        match change {
            Reshape::Split(at, key) => {
                let _ = keyspace.split_range(&self.range_at(*at).name, key, Some(&format!("s{number}")));
            }
            Reshape::Merge(a, b) => {
                let _ = keyspace.merge_ranges(&self.range_at(*a).name, &self.range_at(*b).name);
            }
            Reshape::Create(prefix, durable) if !prefix.is_empty() => {
                let mut wanted = spec(&format!(
                    "c{number} x {}",
                    if *durable { "durable" } else { "memory" }
                ));
                wanted.bounds = Bounds::Prefix(prefix.clone());
                let _ = keyspace.create_range(wanted);
            }
            Reshape::Create(..) => {}
            Reshape::Drop(at, leftover) => {
                let name = self.range_at(*at).name;
                let leftover = [Leftover::Discard, Leftover::Keep, Leftover::Refuse][*leftover];
                let before = keyspace.range_map();
                let dropped = keyspace.drop_range(&name, leftover).is_ok();
                if dropped && leftover == Leftover::Discard {
                    self.model.retain(|key| before.find(key).spec.name != name);
                }
            }
            Reshape::Move(at, wait) => {
                let range = self.range_at(*at);
                let to = if range.tier == Tier::Memory {
                    Tier::Durable
                } else {
                    Tier::Memory
                };
                let _ = keyspace.begin_move(&range.name, to, self.now);
                if *wait {
                    self.wait_for_moves();
                }
            }
            Reshape::Wait => self.wait_for_moves(),
            Reshape::Do(Step::Crash(..) | Step::Reopen(_) | Step::Flush | Step::Scan(_) | Step::Check) => {
                // A folder is copied, and the rows in it are counted, at rest; and SCAN may return a key twice while
                // a flush writes it.
                self.wait_for_moves();
                self.open.flush_idle();
            }
            Reshape::Do(_) => {}
        }
        // It would keep the folder open.
        drop(keyspace);
        if let Reshape::Do(step) = change {
            if matches!(step, Step::Crash(..)) {
                // What is in memory alone is not there after it.
                self.history = vec![(self.open.end(), self.model.clone())];
            }
            self.apply(step);
        }
    }
}

/// Ranges of the configuration would come back at each start: all but the default one are made by command.
fn ranges_keep_to_the_model(default: &str, lines: &[&str], changes: &[Reshape]) {
    let mut world = World::new(&[default], "d d: durable");
    world.remembers = true;
    for line in lines {
        world.open.keyspace.create_range(spec(line)).expect("no conflict");
    }
    for (number, change) in changes.iter().enumerate() {
        world.reshape(change, number);
    }
    world.wait_for_moves();
    world.open.flush_idle();
    world.finish();
}

proptest! {
    #![proptest_config(cases(25))]

    #[test]
    fn ranges_that_change_keep_to_the_model(changes in prop::collection::vec(a_reshape(), 1..120)) {
        ranges_keep_to_the_model("default * durable", &["m m: durable", "x x..zz memory"], &changes);
    }

    #[test]
    fn memory_ranges_that_change_keep_to_the_model(changes in prop::collection::vec(a_reshape(), 1..120)) {
        ranges_keep_to_the_model("default * memory", &["m m: durable", "t t: memory"], &changes);
    }
}

// ---- SCAN while others write --------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Beside {
    Insert(u16),
    Delete(u16),
    /// Overwrites a key that stays.
    Update(u16),
    Read(u16),
    Flush,
    DropClean,
    Scan(usize),
}

fn beside() -> impl Strategy<Value = Beside> {
    prop_oneof![
        3 => any::<u16>().prop_map(Beside::Insert),
        2 => any::<u16>().prop_map(Beside::Delete),
        2 => any::<u16>().prop_map(Beside::Update),
        2 => any::<u16>().prop_map(Beside::Read),
        2 => Just(Beside::Flush),
        2 => Just(Beside::DropClean),
        6 => (1usize..30).prop_map(Beside::Scan),
    ]
}

fn stays(i: u16) -> Vec<u8> {
    format!("{}stays:{}", if i.is_multiple_of(2) { "m:" } else { "" }, i % 80).into_bytes()
}

fn comes(i: u16) -> Vec<u8> {
    format!("{}comes:{}", if i.is_multiple_of(2) { "m:" } else { "" }, i % 500).into_bytes()
}

fn scan_sees_what_stays(steps: &[Beside]) {
    let dir = tempfile::tempdir().expect("temp dir");
    let specs = [spec("m m: memory")];
    let (mut open, _) = Open::at(
        dir.path(),
        &specs,
        &settings(0, EvictionPolicy::NoEviction),
        START_MS,
    );
    let expected: BTreeSet<Vec<u8>> = (0..80).map(stays).collect();
    for key in &expected {
        open.run(0, START_MS, &[b"SET", key, b"v"]).expect("SET");
    }
    let (mut cursor, mut seen) = (0, BTreeSet::new());
    // Enough steps at the end that the scan under way comes to its own.
    for step in steps.iter().chain(std::iter::repeat_n(&Beside::Scan(10), 100)) {
        let ran = match step {
            Beside::Insert(i) => open.run(0, START_MS, &[b"SET", &comes(*i), b"v"]),
            Beside::Delete(i) => open.run(0, START_MS, &[b"DEL", &comes(*i)]),
            Beside::Update(i) => open.run(0, START_MS, &[b"APPEND", &stays(*i), b"x"]),
            Beside::Read(i) => open.run(0, START_MS, &[b"GET", &stays(*i)]),
            Beside::Flush => {
                open.flush();
                Ok(Vec::new())
            }
            Beside::DropClean => {
                open.keyspace.drop_all_clean();
                Ok(Vec::new())
            }
            Beside::Scan(count) => {
                let step = open.keyspace.scan(0, cursor, *count, START_MS, |found| {
                    seen.insert(found.key.to_vec());
                });
                cursor = step.expect("scan");
                if cursor == 0 {
                    let missing: Vec<_> = expected.difference(&seen).collect();
                    assert!(missing.is_empty(), "not returned: {missing:?}");
                    seen.clear();
                }
                Ok(Vec::new())
            }
        };
        ran.expect("runs");
    }
}

proptest! {
    #![proptest_config(cases(50))]

    #[test]
    fn a_scan_returns_every_key_that_stays(steps in prop::collection::vec(beside(), 1..200)) {
        scan_sees_what_stays(&steps);
    }
}

#[test]
fn a_scan_returns_every_key_that_stays_while_threads_write_flush_and_drop() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut open, _) = Open::at(
        dir.path(),
        &[],
        &settings(0, EvictionPolicy::NoEviction),
        START_MS,
    );
    let expected: BTreeSet<Vec<u8>> = (0..80).map(stays).collect();
    for key in &expected {
        open.run(0, START_MS, &[b"SET", key, b"v"]).expect("SET");
    }
    let stop = AtomicBool::new(false);
    let keyspace = open.keyspace.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = fastrand::Rng::with_seed(3);
            while !stop.load(Relaxed) {
                let (stays, comes) = (stays(rng.u16(..)), comes(rng.u16(..)));
                let words: &[&[u8]] = match rng.u8(..4) {
                    0 => &[b"SET", &comes, b"v"],
                    1 => &[b"DEL", &comes],
                    2 => &[b"SET", &stays, b"w"],
                    _ => &[b"GET", &stays],
                };
                open.run(0, START_MS, words).expect("runs");
            }
        });
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                keyspace.flush.run_and_wait().expect("flushes");
                keyspace.drop_all_clean();
            }
        });
        let until = Instant::now() + Duration::from_secs(4);
        let mut scans = 0;
        while Instant::now() < until {
            let (mut cursor, mut seen) = (0, BTreeSet::new());
            loop {
                let step = keyspace.scan(0, cursor, 20, START_MS, |found| {
                    seen.insert(found.key.to_vec());
                });
                cursor = step.expect("scan");
                if cursor == 0 {
                    break;
                }
            }
            scans += 1;
            if let Some(missing) = expected.difference(&seen).next() {
                stop.store(true, Relaxed);
                panic!("scan {scans} did not return {}", missing.escape_ascii());
            }
        }
        stop.store(true, Relaxed);
        println!("{scans} scans");
    });
}

// ---- The range map ------------------------------------------------------------------------------------------------

fn range_word() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&[0u8, b'a', b'b', 0xff]), 0..4)
}

fn bounds() -> impl Strategy<Value = Bounds> {
    prop_oneof![
        3 => range_word().prop_filter("never empty", |p| !p.is_empty()).prop_map(Bounds::Prefix),
        1 => (range_word(), prop::option::of(range_word())).prop_map(|(start, end)| match end {
            Some(end) if end < start => Bounds::Interval { start: end, end: Some(start) },
            end => Bounds::Interval { start, end },
        }),
    ]
}

/// The range that lies inside of all others that hold the key.
fn naive_find<'a>(specs: &'a [RangeSpec], key: &[u8]) -> &'a str {
    let holds = |spec: &&RangeSpec| spec.bounds.contains(key);
    let inside = |a: &RangeSpec, b: &RangeSpec| a.bounds != b.bounds && b.bounds.encloses(&a.bounds);
    let mut holders = specs.iter().filter(holds);
    let inmost = holders.find(|spec| !specs.iter().filter(holds).any(|other| inside(other, spec)));
    inmost.map_or("default", |spec| &spec.name)
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn the_map_finds_what_the_longest_match_finds(
        wanted in prop::collection::vec(bounds(), 0..8),
        keys in prop::collection::vec(range_word(), 1..30),
    ) {
        let mut specs: Vec<RangeSpec> = Vec::new();
        for (at, bounds) in wanted.into_iter().enumerate() {
            let spec = RangeSpec { name: format!("r{at}"), bounds, ..RangeSpec::default_range() };
            if specs.iter().all(|other| spec.conflict_with(other).is_none()) {
                specs.push(spec);
            }
        }
        let inherited = Inherited { fsync: FsyncPolicy::No, eviction: EvictionPolicy::NoEviction, notify: KeyspaceEvents::default(), objects: terrace::object::Limits::default() };
        let map = RangeMap::new(&specs, inherited, None);
        for key in &keys {
            let found = map.find(key).spec.name.clone();
            prop_assert_eq!(&found, naive_find(&specs, key), "{}", key.escape_ascii());
            let inside = map.intervals(&found).iter().any(|(start, end)| key >= start && end.as_ref().is_none_or(|end| key < end));
            prop_assert!(inside, "{} is in no interval of {}", key.escape_ascii(), found);
        }
    }
}

// ---- The journal --------------------------------------------------------------------------------------------------

fn journal_options(segment_size: u64) -> journal::Options {
    journal::Options {
        segment_size,
        ring_size: 1 << 16,
        sync_every_second: false,
    }
}

/// Offsets and payloads.
type Records = Vec<(u64, Vec<u8>)>;

/// Every record of a journal.
fn records(dir: &Path) -> Result<(Records, journal::ReadSummary), ReadError> {
    let mut records = Vec::new();
    let summary = journal::read(dir, 0, |found| {
        records.extend(
            found
                .iter()
                .map(|(header, payload)| (header.offset, payload.to_vec())),
        );
        Ok(())
    })?;
    Ok((records, summary))
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn what_threads_append_reads_back(
        segment_size in 100u64..200_000,
        lengths in prop::collection::vec(prop::collection::vec(prop_oneof![30 => 16usize..300, 1 => 16usize..90_000], 1..200), 1..5),
    ) {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = Journal::open(dir.path(), 0, journal_options(segment_size)).expect("opens");
        let append = |(thread, lengths): (usize, &Vec<usize>)| -> Vec<(u64, Vec<u8>)> {
            let one = |(i, len): (usize, &usize)| {
                let payload = vec![(thread * 61 + i) as u8; *len];
                let end = journal.append(&payload);
                if i % 50 == 49 {
                    assert!(journal.wait_synced_blocking(end, || true) && journal.synced() >= end);
                }
                (end - *len as u64, payload)
            };
            lengths.iter().enumerate().map(one).collect()
        };
        let mut appended: Vec<(u64, Vec<u8>)> = std::thread::scope(|scope| {
            let append = &append;
            let threads: Vec<_> = lengths.iter().enumerate().map(|of| scope.spawn(move || append(of))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("appends")).collect()
        });
        prop_assert!(journal.close());
        appended.sort();
        let (read, summary) = records(dir.path()).expect("sound");
        prop_assert!(read == appended, "what was read differs");
        prop_assert_eq!((summary.end, summary.torn_bytes), (journal.end(), 0));
    }
}

/// A small journal of several segments; each file's name and bytes.
fn small_journal() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = Journal::open(dir.path(), 0, journal_options(150)).expect("opens");
    for i in 0..9u8 {
        let end = journal.append(&vec![b'a' + i; 16 + 7 * usize::from(i)]);
        assert!(journal.wait_synced_blocking(end, || true));
    }
    assert!(journal.close());
    let mut segments = journal::list(dir.path()).expect("list");
    // A segment that was begun and holds nothing yet says nothing about what is before it.
    while segments
        .last()
        .is_some_and(|last| std::fs::read(&last.path).expect("read").len() <= record::SEGMENT_HEADER)
    {
        segments.pop();
    }
    assert!(segments.len() > 2, "several segments");
    let name = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned()
    };
    segments
        .iter()
        .map(|segment| (name(&segment.path), std::fs::read(&segment.path).expect("read")))
        .collect()
}

fn write_journal(files: &[(String, Vec<u8>)]) -> TempDir {
    let dir = tempfile::tempdir().expect("temp dir");
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).expect("write");
    }
    dir
}

/// Where the records of a segment start, and its end.
fn record_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![record::SEGMENT_HEADER];
    while let Some(at) = starts.last().copied().filter(|at| *at < bytes.len()) {
        let (_, payload) = record::decode_record(&bytes[at..]).expect("sound");
        starts.push(at + record::RECORD_HEADER + payload.len());
    }
    starts
}

#[test]
fn a_journal_cut_off_anywhere_in_its_last_segment_is_a_prefix() {
    let files = small_journal();
    let (whole, _) = records(write_journal(&files).path()).expect("sound");
    let (name, last) = files.last().expect("a segment");
    let starts = record_starts(last);
    let before = whole.len() - (starts.len() - 1);
    for len in 0..=last.len() {
        let mut cut = files.clone();
        cut.pop();
        cut.push((name.clone(), last[..len].to_vec()));
        let dir = write_journal(&cut);
        let complete = starts.iter().skip(1).filter(|end| **end <= len).count();
        for again in [false, true] {
            let (read, summary) = records(dir.path()).expect("a torn end is no damage");
            assert_eq!(read, whole[..before + complete], "cut at {len}");
            assert!(!again || summary.torn_bytes == 0, "what is torn is cut off once");
        }
    }
}

#[test]
fn a_flipped_byte_before_the_end_is_an_error_that_names_file_and_position() {
    let files = small_journal();
    let (whole, _) = records(write_journal(&files).path()).expect("sound");
    for (at, (name, bytes)) in files.iter().enumerate() {
        let starts = record_starts(bytes);
        let last_file = at + 1 == files.len();
        for flip in 0..bytes.len() {
            let mut damaged = files.clone();
            damaged[at].1[flip] ^= 1 << (flip % 8);
            let result = records(write_journal(&damaged).path());
            let start = starts
                .iter()
                .rev()
                .find(|start| **start <= flip)
                .copied()
                .unwrap_or(0);
            let behind_all = last_file && start == starts[starts.len() - 2];
            let unused = (28..record::SEGMENT_HEADER).contains(&flip);
            match result {
                Ok((read, _)) if behind_all => assert_eq!(read, whole[..whole.len() - 1], "{name} {flip}"),
                Ok((read, _)) => assert!(unused && read == whole, "{name}: the flip at {flip} was not seen"),
                Err(error) => {
                    let said = error.to_string();
                    let ReadError::Damaged { path, position, .. } = error else {
                        panic!("{name} {flip}: {said}")
                    };
                    assert!(
                        path.ends_with(name) && position == start as u64,
                        "{name} {flip}: {said}"
                    );
                    assert!(
                        said.contains(name.as_str()) && said.contains(&format!("at byte {start}")),
                        "{said}"
                    );
                }
            }
        }
    }
}

// ---- Eviction -----------------------------------------------------------------------------------------------------

const POLICIES: [(&str, bool); 8] = [
    ("noeviction", false),
    ("allkeys-lru", false),
    ("allkeys-lfu", false),
    ("allkeys-random", false),
    ("volatile-lru", true),
    ("volatile-lfu", true),
    ("volatile-random", true),
    ("volatile-ttl", true),
];

#[test]
fn every_policy_keeps_its_limit_and_takes_only_what_it_may() {
    const LIMIT: i64 = 40_000;
    /// More than any entry here takes.
    const ENTRY: i64 = 256;
    for (policy, volatile) in POLICIES {
        let dir = tempfile::tempdir().expect("temp dir");
        let specs = [spec(&format!(
            "m m: memory maxmemory {LIMIT} maxmemory-policy {policy}"
        ))];
        let (mut open, _) = Open::at(
            dir.path(),
            &specs,
            &settings(0, EvictionPolicy::NoEviction),
            START_MS,
        );
        let mut rng = fastrand::Rng::with_seed(11);
        let (mut kept, mut refused, mut durable) = (BTreeSet::new(), 0, BTreeMap::new());
        for i in 0..3_000u32 {
            let now = START_MS + i64::from(i);
            let lasting = rng.u8(..10) == 0;
            let key = format!("m:{i}").into_bytes();
            let value = vec![b'v'; rng.usize(..100)];
            let outside = format!("d:{i}").into_bytes();
            open.run(0, now, &[b"SET", &outside, &value]).expect("SET");
            durable.insert(outside, value.clone());
            if open.keyspace.is_over_limit() && open.keyspace.make_room(now) != Room::Enough {
                refused += 1;
                continue;
            }
            if lasting && volatile {
                open.run(0, now, &[b"SET", &key, &value]).expect("SET");
                kept.insert(key);
            } else {
                open.run(0, now, &[b"SET", &key, &value, b"PX", b"1000000"])
                    .expect("SET");
            }
            let bytes = open
                .keyspace
                .ranges()
                .by_name("m")
                .expect("range")
                .counters
                .bytes
                .load(Relaxed);
            assert!(bytes <= LIMIT + ENTRY, "{policy}: {bytes} bytes");
        }
        assert!(
            policy == "noeviction" || volatile || refused == 0,
            "{policy}: {refused} refused"
        );
        for key in &kept {
            assert_eq!(
                open.run(0, START_MS, &[b"EXISTS", key]).expect("EXISTS"),
                b":1\r\n",
                "{policy}"
            );
        }
        open.flush();
        assert_eq!(
            open.scan(0, START_MS, 100)
                .iter()
                .filter(|key| key.starts_with(b"d:"))
                .count(),
            durable.len()
        );
    }
}

#[test]
fn memory_pressure_never_takes_a_durable_key() {
    const LIMIT: u64 = 150_000;
    let dir = tempfile::tempdir().expect("temp dir");
    let specs = [spec("m m: memory")];
    let (mut open, _) = Open::at(
        dir.path(),
        &specs,
        &settings(LIMIT, EvictionPolicy::AllKeysLru),
        START_MS,
    );
    let mut written = BTreeMap::new();
    for i in 0..6_000i64 {
        let key = format!("{}{i}", if i % 3 == 0 { "m:" } else { "" }).into_bytes();
        let value = vec![b'a' + (i % 26) as u8; (i % 90) as usize];
        while open.keyspace.is_over_limit() {
            match open.keyspace.make_room(START_MS + i) {
                Room::Enough => {}
                Room::WaitForFlush => open.flush(),
                Room::Full => panic!("something can always be dropped or evicted"),
            }
        }
        open.run(0, START_MS + i, &[b"SET", &key, &value]).expect("SET");
        if i % 3 != 0 {
            written.insert(key, value);
        }
    }
    let dropped = open
        .keyspace
        .ranges()
        .by_name("default")
        .expect("range")
        .counters
        .dropped
        .load(Relaxed);
    assert!(dropped > 1_000, "only {dropped} were dropped: nothing was tested");
    open.keyspace
        .apply_settings(&settings(0, EvictionPolicy::AllKeysLru));
    open.flush();
    let mut durable = open.scan(0, START_MS, 1_000);
    durable.retain(|key| !key.starts_with(b"m:"));
    assert!(durable.iter().eq(written.keys()));
    for (key, value) in &written {
        let reply = open.run(0, START_MS, &[b"GET", key]).expect("GET");
        assert!(
            reply.ends_with(&[value, b"\r\n".as_slice()].concat()),
            "{}",
            key.escape_ascii()
        );
    }
}

// ---- A million keys in one second ---------------------------------------------------------------------------------

#[test]
fn the_stores_expiry_index_holds_live_expiries_and_nothing_else() {
    let dir = tempfile::tempdir().expect("temp dir");
    let specs = [spec("default * durable")];
    let settings = settings(0, EvictionPolicy::NoEviction);
    let (mut open, _) = Open::at(dir.path(), &specs, &settings, START_MS);
    let mut now = START_MS;
    let index_rows = |open: &Open| {
        let rows = all_rows(open.keyspace.store());
        check_index(&rows);
        rows.keys()
            .filter(|key| rows::split_expiry_key(key).is_some())
            .count()
    };
    let at = |ms: i64| ms.to_string().into_bytes();
    for i in 0..100 {
        let key = format!("key:{i}");
        open.run(
            0,
            now,
            &[b"SET", key.as_bytes(), b"value", b"PXAT", &at(now + 60_000)],
        )
        .expect("SET");
    }
    open.flush();
    assert_eq!(index_rows(&open), 100);
    // Changed again and again, in memory and cold, earlier and later, several times between two flushes.
    for round in 1..=100 {
        for change in 0..3 {
            let until = at(now + 60_000 + (round * 37 + change * 11) % 1_000);
            open.run(0, now, &[b"PEXPIREAT", b"key:0", &until])
                .expect("PEXPIREAT");
        }
        open.run(
            0,
            now,
            &[b"SET", b"key:1", b"again", b"PXAT", &at(now + 90_000 - round)],
        )
        .expect("SET");
        open.flush();
        assert_eq!(index_rows(&open), 100);
        if round % 2 == 0 {
            open.keyspace.drop_all_clean();
        }
    }
    // There and back again: the row that is there is the right one.
    open.run(0, now, &[b"PERSIST", b"key:2"]).expect("PERSIST");
    open.run(0, now, &[b"PEXPIREAT", b"key:2", &at(now + 60_000)])
        .expect("PEXPIREAT");
    open.flush();
    assert_eq!(index_rows(&open), 100);
    open.run(0, now, &[b"SET", b"key:2", b"for ever"]).expect("SET");
    open.run(0, now, &[b"PERSIST", b"key:3"]).expect("PERSIST");
    open.run(0, now, &[b"DEL", b"key:4"]).expect("DEL");
    open.run(0, now, &[b"RENAME", b"key:5", b"new:5"])
        .expect("RENAME");
    open.run(0, now, &[b"GETEX", b"key:6", b"PERSIST"])
        .expect("GETEX");
    open.flush();
    assert_eq!(index_rows(&open), 96);
    // A stop and a start in between: what has to go is known from the rows alone.
    open.run(0, now, &[b"PEXPIREAT", b"key:7", &at(now + 70_000)])
        .expect("PEXPIREAT");
    open.close();
    drop(open);
    let (mut open, _) = Open::at(dir.path(), &specs, &settings, now);
    open.run(0, now, &[b"PERSIST", b"key:8"]).expect("PERSIST");
    open.flush();
    assert_eq!(index_rows(&open), 95);
    // Cold keys come due: each row is looked at once, whatever is flushed in between.
    open.keyspace.drop_all_clean();
    now += 80_000;
    let (mut expired, mut looks) = (0, 0);
    loop {
        let (count, more) = open
            .keyspace
            .expire_cold(now, 10, &mut open.effects)
            .expect("reads the index");
        (expired, looks) = (expired + count, looks + 1);
        if looks % 4 == 0 {
            open.flush();
        }
        if !more {
            break;
        }
    }
    assert_eq!((expired, looks), (94, 10), "all but key:1, ten at a time");
    open.flush();
    assert_eq!(index_rows(&open), 1);
    // Rows that come later with earlier expiries are not overlooked.
    open.run(0, START_MS, &[b"SET", b"late", b"v", b"PXAT", &at(now - 1_000)])
        .expect("SET");
    open.flush();
    open.keyspace.drop_all_clean();
    assert_eq!(
        open.keyspace
            .expire_cold(now, 10, &mut open.effects)
            .expect("reads")
            .0,
        1
    );
    for db in 0..2 {
        open.run(db, now, &[b"SET", b"k", b"v", b"PXAT", &at(now + 5_000)])
            .expect("SET");
    }
    open.flush();
    assert_eq!(index_rows(&open), 3);
    open.keyspace.flush_db(Some(0), &mut open.effects);
    open.flush();
    assert_eq!(index_rows(&open), 1);
}

#[test]
fn a_million_keys_of_one_second_go_and_nobody_waits_long() {
    const KEYS: u32 = 1_000_000;
    let dir = tempfile::tempdir().expect("temp dir");
    let specs = [spec("default * memory")];
    let many = Settings {
        shards: 1024,
        ..settings(0, EvictionPolicy::NoEviction)
    };
    let (mut open, _) = Open::at(dir.path(), &specs, &many, START_MS);
    for i in 0..KEYS {
        let at = (START_MS + 1_000 + i64::from(i % 1_000)).to_string();
        open.run(
            0,
            START_MS,
            &[
                b"SET",
                format!("key:{i}").as_bytes(),
                b"value",
                b"PXAT",
                at.as_bytes(),
            ],
        )
        .expect("SET");
    }
    let (now, stop) = (START_MS + 3_000, AtomicBool::new(false));
    let keyspace = open.keyspace.clone();
    let (removed, took, longest) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut longest, mut i) = (Duration::ZERO, 0u32);
            while !stop.load(Relaxed) {
                i += 1;
                let started = Instant::now();
                open.run(0, START_MS, &[b"EXISTS", format!("other:{i}").as_bytes()])
                    .expect("EXISTS");
                longest = longest.max(started.elapsed());
            }
            longest
        });
        let (started, mut removed) = (Instant::now(), 0);
        let mut effects = Effects::default();
        loop {
            let (count, more) = keyspace.expire_resident(now, Duration::from_millis(25), &mut effects);
            removed += count;
            if !more {
                break;
            }
        }
        let took = started.elapsed();
        stop.store(true, Relaxed);
        (removed, took, watch.join().expect("watches"))
    });
    println!("{removed} keys in {took:?}; a command waited {longest:?} at most");
    assert_eq!(removed, u64::from(KEYS));
    let map = keyspace.ranges();
    let counters = &map.by_name("default").expect("range").counters;
    assert_eq!((counters.total_keys(), counters.bytes.load(Relaxed)), (0, 0));
}

#[test]
fn keys_whose_hashes_are_alike_are_kept_apart_when_they_are_sealed() {
    const KEYS: u32 = 8_000;
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut open, _) = Open::at(
        dir.path(),
        &[spec("m m: memory")],
        &settings(0, EvictionPolicy::NoEviction),
        START_MS,
    );
    let key = |i: u32| format!("m:{i}").into_bytes();
    let set = |open: &mut Open, i: u32, value: &str| {
        let value = format!("{value}{i}").into_bytes();
        open.run(0, START_MS, &[b"SET", &key(i), &value]).expect("SET");
    };
    (0..KEYS).for_each(|i| set(&mut open, i, "old"));
    // Those whose slot is another's are in a generation of their own.
    let sealed = open.keyspace.seal_all().expect("seals");
    assert_eq!(sealed, u64::from(KEYS));
    assert!(
        open.keyspace.plain_generations() > 1,
        "no two hashes were alike: more keys are needed"
    );
    // Those that are written anew go into another one, beside what they were.
    (0..KEYS)
        .filter(|i| i % 3 == 0)
        .for_each(|i| set(&mut open, i, "new"));
    for i in (0..KEYS).filter(|i| i % 3 == 1) {
        assert_eq!(open.run(0, START_MS, &[b"DEL", &key(i)]).expect("DEL"), b":1\r\n");
    }
    open.keyspace.seal_all().expect("seals");
    for i in 0..KEYS {
        let expected = match i % 3 {
            0 => format!("new{i}"),
            1 => String::new(),
            _ => format!("old{i}"),
        };
        let expected = match expected.len() {
            0 => b"$-1\r\n".to_vec(),
            len => format!("${len}\r\n{expected}\r\n").into_bytes(),
        };
        assert_eq!(
            open.run(0, START_MS, &[b"GET", &key(i)]).expect("GET"),
            expected,
            "{i}"
        );
    }
    assert_eq!(open.scan(0, START_MS, 10).len() as u32, KEYS - KEYS.div_ceil(3));
    assert_eq!(
        open.keyspace.ranges().keys_in_db(0),
        i64::from(KEYS - KEYS.div_ceil(3))
    );
}

#[test]
fn sealing_holds_the_limit_under_a_write_load_whatever_the_value_sizes() {
    const LIMIT: u64 = 64 << 20;
    for most in [60usize, 3_000, 60_000] {
        let dir = tempfile::tempdir().expect("temp dir");
        let settings = Settings {
            shards: 256,
            seal_after: 300,
            ..settings(LIMIT, EvictionPolicy::AllKeysLru)
        };
        let (mut open, _) = Open::at(dir.path(), &[spec("m m: memory")], &settings, START_MS);
        let of_thread = open.keyspace.clone();
        let sealer = std::thread::spawn(move || of_thread.seal_loop());
        let (mut rng, mut written, mut peak) = (fastrand::Rng::with_seed(5), 0u64, 0);
        let mut i = 0u64;
        let began = Instant::now();
        while written < 2 * LIMIT || began.elapsed() < Duration::from_secs(4) {
            let now = START_MS + began.elapsed().as_millis() as i64;
            let value = vec![b'v'; rng.usize(..most)];
            let key = format!("m:{i}").into_bytes();
            if open.keyspace.is_over_limit() {
                let room = open.keyspace.make_room_for([&key[..]].into_iter(), now);
                assert_eq!(room, Room::Enough);
            }
            open.run(0, now, &[b"SET", &key, &value]).expect("SET");
            i += 1;
            written += value.len() as u64 + 16;
            if i.is_multiple_of(512) {
                open.keyspace
                    .expire_resident(now, Duration::from_millis(1), &mut open.effects);
                peak = peak.max(open.keyspace.memory_bytes());
            }
        }
        assert!(
            peak < LIMIT + LIMIT / 20,
            "values to {most}: {peak} of {LIMIT} in use"
        );
        let map = open.keyspace.ranges();
        let counters = &map.by_name("m").expect("range").counters;
        let (keys, evicted) = (counters.total_keys() as u64, counters.evicted.load(Relaxed));
        assert!(counters.sealed.load(Relaxed) > 0, "nothing was sealed");
        assert_eq!(keys + evicted, i, "every key is there or was evicted");
        // What was written last is there.
        let last = open.run(0, START_MS, &[b"EXISTS", format!("m:{}", i - 1).as_bytes()]);
        assert_eq!(last.expect("EXISTS"), b":1\r\n");
        drop(map);
        open.close();
        sealer.join().expect("sealing thread");
    }
}
