//! Paged collections: commands on them give what they give on any other, whatever of them is in memory, and nothing of
//! them is left in the store when they are gone.
//!
//! The same random commands run on a keyspace in which every collection that has left the packed form is paged, and on
//! plain ones; in between elements are flushed, dropped, squeezed out, and the folder is opened again as it was left by
//! a stop or by a crash. `TERRACE_SEED=n` repeats one run.

#[path = "paging/lists.rs"]
mod lists;
#[path = "common/open.rs"]
mod open;
#[path = "paging/sorted_sets.rs"]
mod sorted_sets;
#[path = "paging/streams.rs"]
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use open::{CACHE, How, Open};
use tempfile::TempDir;
use terrace::config::{EvictionPolicy, FsyncPolicy, KeyspaceEvents};
use terrace::journal::{self, record};
use terrace::keyspace::Settings;
use terrace::keyspace::evict::Room;
use terrace::keyspace::range::Inherited;
use terrace::object::Limits;
use terrace::object::pages::Kind;
use terrace::store::block::BlockStore;
use terrace::store::rows;

const NOW_MS: i64 = 1_000_000;
const NEVER: u64 = u64::MAX / 2;
const SEEDS: u64 = 10;
const STEPS: usize = 400;
const FIELDS: u32 = 150;

fn settings(maxmemory: u64) -> Settings {
    Settings {
        shards: 4,
        maxmemory,
        maxmemory_samples: 5,
        lfu_log_factor: 10,
        lfu_decay_minutes: 1,
        journal_flush_size: NEVER,
        flush_dirty_size: NEVER,
        seal_after: 0,
        paged_threshold: 5,
        paged_threshold_size: NEVER,
        max_value_len: 1 << 20,
        inherited: Inherited {
            fsync: FsyncPolicy::EverySec,
            eviction: EvictionPolicy::NoEviction,
            notify: KeyspaceEvents::default(),
            objects: Limits {
                hash_max_listpack_entries: 3,
                list_max_listpack_size: 4,
                stream_node_max_entries: 5,
                zset_max_listpack_entries: 3,
                ..Limits::default()
            },
        },
    }
}

/// Opens a data folder; `seed` is another one in every process. Returns where its journal ended.
fn open_at(dir: &Path, seed: u64) -> (Open, u64) {
    let how = How {
        specs: &[],
        remembers: false,
        settings: &settings(0),
        now_ms: NOW_MS,
        segment_size: 4_000,
        seed,
    };
    Open::start(dir, &how)
}

type Hash = BTreeMap<Vec<u8>, Vec<u8>>;
type List = VecDeque<Vec<u8>>;

#[derive(Clone, Default)]
struct Model {
    hashes: BTreeMap<Vec<u8>, Hash>,
    lists: BTreeMap<Vec<u8>, List>,
    streams: BTreeMap<Vec<u8>, streams::Stream>,
    sorted_sets: BTreeMap<Vec<u8>, sorted_sets::SortedSet>,
}

/// The strings of a reply of strings, nested or not.
fn strings(reply: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut rest) = (Vec::new(), reply);
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let (head, behind) = (&rest[..end], &rest[end + 2..]);
        rest = behind;
        if head[0] == b'$' {
            let len: usize = std::str::from_utf8(&head[1..])
                .expect("ascii")
                .parse()
                .expect("a length");
            all.push(rest[..len].to_vec());
            rest = &rest[len + 2..];
        }
    }
    all
}

fn pairs(strings: &[Vec<u8>]) -> Hash {
    let pairs = strings.chunks_exact(2);
    pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

struct World {
    dir: TempDir,
    open: Open,
    model: Model,
    /// The model after each step, by the journal's end.
    history: Vec<(u64, Model)>,
    rng: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> World {
        let dir = tempfile::tempdir().expect("temp dir");
        let (open, end) = open_at(dir.path(), 1);
        World {
            dir,
            open,
            model: Model::default(),
            history: vec![(end, Model::default())],
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key:{}\0", self.rng.u32(..3)).into_bytes()
    }

    fn field(&mut self) -> Vec<u8> {
        self.rng.u32(..FIELDS).to_string().into_bytes()
    }

    fn run(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.open.run(0, NOW_MS, words).expect("no error")
    }

    fn expect(&mut self, words: &[&[u8]], reply: &str) {
        let got = self.run(words);
        let shown: Vec<_> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
        assert_eq!(String::from_utf8_lossy(&got), reply, "{}", shown.join(" "));
    }

    fn step(&mut self) {
        let kind = self.rng.u32(..230);
        match kind {
            100..140 => self.list_step(),
            140..180 => self.stream_step(),
            180.. => self.sorted_set_step(),
            0..30 => self.set(),
            30..42 => self.remove(),
            42..52 => self.get(),
            52..55 => self.count(),
            55..58 => self.check_one(),
            58..62 => self.scan(),
            62..65 => self.delete(),
            65..68 => self.rename(),
            68..70 => self.expire_a_field(),
            70..80 => {
                self.open.flush();
                self.check_rows();
            }
            80..86 => self.open.keyspace.drop_all_clean(),
            86..89 => self.squeeze(),
            89..91 => self.reopen(),
            91..94 => self.crash(),
            94 => {
                self.open.keyspace.flush_db(None, &mut self.open.effects);
                self.model = Model::default();
            }
            95..100 => self.set_many(),
        }
        self.check_bytes(kind);
        let end = self.open.keyspace.journal().expect("open").end();
        self.history.push((end, self.model.clone()));
    }

    fn counted_bytes(&self) -> i64 {
        let ranges = self.open.keyspace.ranges();
        let bytes = ranges.iter().map(|range| {
            let bytes = &range.counters.bytes;
            bytes.load(std::sync::atomic::Ordering::Relaxed)
        });
        bytes.sum()
    }

    fn check_bytes(&self, kind: u32) {
        let sum = self.open.keyspace.sum_entry_bytes();
        assert_eq!(
            self.counted_bytes(),
            sum,
            "bytes are counted wrongly after a step of kind {kind}"
        );
    }

    fn set(&mut self) {
        let (key, field) = (self.key(), self.field());
        let value = vec![b'v'; self.rng.usize(..40)];
        let other = self.field();
        let hash = self.model.hashes.entry(key.clone()).or_default();
        let mut new = i64::from(hash.insert(field.clone(), value.clone()).is_none());
        new += i64::from(hash.insert(other.clone(), b"7".to_vec()).is_none());
        self.expect(
            &[b"HSET", &key, &field, &value, &other, b"7"],
            &format!(":{new}\r\n"),
        );
        let counter = [b"n", field.as_slice()].concat();
        let hash = self.model.hashes.entry(key.clone()).or_default();
        let old: i64 = hash
            .get(&counter)
            .map_or(0, |old| String::from_utf8_lossy(old).parse().expect("a number"));
        hash.insert(counter.clone(), (old + 3).to_string().into_bytes());
        self.expect(&[b"HINCRBY", &key, &counter, b"3"], &format!(":{}\r\n", old + 3));
        let is_new = hash_setnx(self.model.hashes.entry(key.clone()).or_default(), &other);
        self.expect(
            &[b"HSETNX", &key, &other, b"x"],
            &format!(":{}\r\n", i64::from(is_new)),
        );
    }

    fn set_many(&mut self) {
        let key = self.key();
        for _ in 0..self.rng.usize(..80) {
            let field = self.field();
            let hash = self.model.hashes.entry(key.clone()).or_default();
            let new = hash.insert(field.clone(), b"many".to_vec()).is_none();
            self.expect(
                &[b"HSET", &key, &field, b"many"],
                &format!(":{}\r\n", i64::from(new)),
            );
        }
    }

    fn remove(&mut self) {
        let (key, one, other) = (self.key(), self.field(), self.field());
        let mut gone = 0;
        if let Some(hash) = self.model.hashes.get_mut(&key) {
            gone = [&one, &other]
                .iter()
                .filter(|field| hash.remove(**field).is_some())
                .count();
            if hash.is_empty() {
                self.model.hashes.remove(&key);
            }
        }
        self.expect(&[b"HDEL", &key, &one, &other], &format!(":{gone}\r\n"));
    }

    fn get(&mut self) {
        let (key, one, other) = (self.key(), self.field(), self.field());
        let value = |field: &Vec<u8>| {
            let value = self.model.hashes.get(&key).and_then(|hash| hash.get(field));
            value.map_or("$-1\r\n".into(), |value| {
                format!("${}\r\n{}\r\n", value.len(), String::from_utf8_lossy(value))
            })
        };
        let (first, second): (String, String) = (value(&one), value(&other));
        let there = self
            .model
            .hashes
            .get(&key)
            .is_some_and(|hash| hash.contains_key(&one));
        self.expect(&[b"HMGET", &key, &one, &other], &format!("*2\r\n{first}{second}"));
        self.expect(&[b"HGET", &key, &other], &second);
        self.expect(&[b"HEXISTS", &key, &one], &format!(":{}\r\n", i64::from(there)));
    }

    fn count(&mut self) {
        let key = self.key();
        let len = self.model.hashes.get(&key).map_or(0, BTreeMap::len);
        self.expect(&[b"HLEN", &key], &format!(":{len}\r\n"));
    }

    fn check_one(&mut self) {
        let key = self.key();
        let all = self.run(&[b"HGETALL", &key]);
        let expected = self.model.hashes.get(&key).cloned().unwrap_or_default();
        assert_eq!(pairs(&strings(&all)), expected, "HGETALL");
    }

    /// A scan to its end, with elements going from memory meanwhile.
    fn scan(&mut self) {
        let key = self.key();
        let count = self.rng.usize(1..40).to_string();
        let (mut cursor, mut found, mut met) = (b"0".to_vec(), Hash::new(), 0);
        loop {
            let reply = self.run(&[b"HSCAN", &key, &cursor, b"COUNT", count.as_bytes()]);
            let mut reply = strings(&reply);
            cursor = reply.remove(0);
            met += reply.len() / 2;
            found.append(&mut pairs(&reply));
            if cursor == b"0" {
                break;
            }
            match self.rng.u32(..6) {
                0 => self.open.keyspace.drop_all_clean(),
                1 => self.squeeze(),
                2 => self.open.flush(),
                _ => {}
            }
        }
        let expected = self.model.hashes.get(&key).cloned().unwrap_or_default();
        assert_eq!(
            (found, met),
            (expected.clone(), expected.len()),
            "HSCAN, each once"
        );
    }

    fn delete(&mut self) {
        let key = self.key();
        let there = self.model.hashes.remove(&key).is_some();
        self.expect(&[b"DEL", &key], &format!(":{}\r\n", i64::from(there)));
    }

    fn rename(&mut self) {
        let (from, to) = (self.key(), self.key());
        if from != to
            && let Some(hash) = self.model.hashes.remove(&from)
        {
            self.model.hashes.insert(to.clone(), hash);
            self.expect(&[b"RENAME", &from, &to], "+OK\r\n");
        }
    }

    /// A field that expires some time takes the whole hash into memory; one without lets it go again.
    fn expire_a_field(&mut self) {
        let (key, field) = (self.key(), self.field());
        let there = self
            .model
            .hashes
            .get(&key)
            .is_some_and(|hash| hash.contains_key(&field));
        let found = if there { 1 } else { -2 };
        let words: [&[u8]; 6] = [b"HPEXPIREAT", &key, b"9000000", b"FIELDS", b"1", &field];
        self.expect(&words, &format!("*1\r\n:{found}\r\n"));
        if self.rng.bool() {
            self.open.flush();
        }
        let words: [&[u8]; 5] = [b"HPERSIST", &key, b"FIELDS", b"1", &field];
        self.expect(&words, &format!("*1\r\n:{found}\r\n"));
    }

    /// A limit that only dropping what is clean can meet.
    fn squeeze(&mut self) {
        let keyspace = &self.open.keyspace;
        keyspace.apply_settings(&settings(self.rng.u64(1..20_000)));
        loop {
            match keyspace.make_room(NOW_MS) {
                Room::Enough | Room::Full => break,
                Room::WaitForFlush => self.open.flush(),
            }
        }
        keyspace.apply_settings(&settings(0));
        self.open.flush();
    }

    fn start(&mut self, dir: TempDir, end: u64) {
        let (open, ended) = open_at(dir.path(), self.rng.u64(..));
        assert_eq!(ended, end, "the journal's end");
        (self.open, self.dir) = (open, dir);
        // After a crash offsets go on far behind the end.
        let begun = self.open.keyspace.journal().expect("open").end();
        self.history = vec![(begun, self.model.clone())];
        self.check();
    }

    fn reopen(&mut self) {
        let end = self.open.keyspace.journal().expect("open").end();
        self.open.close();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("temp dir"));
        // The store must be closed before the folder is opened again.
        self.open = open_at(self.dir.path(), 1).0;
        self.start(dir, end);
    }

    /// As a crash leaves the folder: the journal ends behind one of the states that the store is not ahead of.
    fn crash(&mut self) {
        while self.open.keyspace.flush.is_busy() {
            std::thread::yield_now();
        }
        let keyspace = &self.open.keyspace;
        let end = keyspace.journal().expect("open").end();
        let synced = keyspace
            .journal()
            .expect("open")
            .wait_synced_blocking(end, || true);
        assert!(synced);
        let meta = keyspace.store().meta().expect("mark");
        let newest = meta.map_or(0, |meta| meta.newest.max(meta.mark));
        let dir = self.copy();
        self.history.retain(|(end, _)| *end >= newest);
        let (end, _) = self.history[self.rng.usize(..self.history.len())];
        // Of states at one offset the last counts.
        let state = self.history.iter().rev().find(|(other, _)| *other == end);
        self.model = state.expect("it was found there").1.clone();
        cut(&dir.path().join("journal"), end);
        self.open.close();
        self.start(dir, end);
    }

    fn copy(&self) -> TempDir {
        // A compaction may remove files between the listing and the copying; then the copy is made again.
        for _ in 0..50 {
            let dir = tempfile::tempdir().expect("temp dir");
            let copied = ["store", "journal"]
                .iter()
                .all(|name| copy_folder(self.dir.path(), dir.path(), name));
            let store = || BlockStore::open(&dir.path().join("store"), CACHE);
            if copied && store().is_ok_and(|store| store.verify().is_ok()) {
                return dir;
            }
        }
        panic!("no sound copy");
    }

    fn check(&mut self) {
        for number in 0..3 {
            let key = format!("key:{number}\0").into_bytes();
            let len = self.model.hashes.get(&key).map_or(0, BTreeMap::len);
            self.expect(&[b"HLEN", &key], &format!(":{len}\r\n"));
            let all = self.run(&[b"HGETALL", &key]);
            let expected = self.model.hashes.get(&key).cloned().unwrap_or_default();
            assert_eq!(pairs(&strings(&all)), expected, "HGETALL");
        }
        self.check_lists();
        self.check_streams();
        self.check_sorted_sets();
    }

    /// Rows of elements are those of collections that are there.
    fn check_rows(&self) {
        let (from, to) = rows::element_db_bounds(0);
        let elements = self.open.keyspace.store().scan(from, to, false).count();
        let (from, to) = rows::db_bounds(0);
        let rows = self.open.keyspace.store().scan(from, to, false);
        let paged = rows.map(|row| {
            let row = row.expect("a row").1;
            let summary = rows::Row::decode(&row).and_then(|row| row.summary());
            summary.expect("sound").map_or(0, |summary| match summary.kind {
                // By hash, and by score.
                Kind::SortedSet => 2 * summary.len,
                _ => summary.len,
            })
        });
        assert_eq!(paged.sum::<u64>(), elements as u64, "rows of elements");
    }

    fn finish(mut self) {
        self.open.flush();
        self.check_rows();
        self.check();
        for number in 0..3 {
            let key = format!("key:{number}\0").into_bytes();
            let others = [lists::key(number), streams::key(number), sorted_sets::key(number)];
            self.run(&[b"DEL", &key, &others[0], &others[1], &others[2]]);
        }
        self.open.flush();
        self.model = Model::default();
        self.check();
        let rows = self.open.keyspace.store().scan(vec![0x10], vec![0xff], false);
        assert_eq!(rows.count(), 0, "rows are left");
        assert_eq!(self.counted_bytes(), 0, "bytes are counted that are gone");
    }
}

fn hash_setnx(hash: &mut Hash, field: &[u8]) -> bool {
    let is_new = !hash.contains_key(field);
    if is_new {
        hash.insert(field.to_vec(), b"x".to_vec());
    }
    is_new
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

/// Cuts a journal off at an offset.
fn cut(dir: &Path, offset: u64) {
    for segment in journal::list(dir).expect("list") {
        if segment.first_offset > offset {
            std::fs::remove_file(segment.path).expect("remove");
            continue;
        }
        let bytes = std::fs::read(&segment.path).expect("read");
        let mut at = record::SEGMENT_HEADER;
        while at < bytes.len() {
            let (header, payload) = record::decode_record(&bytes[at..]).expect("sound");
            if header.offset >= offset {
                std::fs::write(&segment.path, &bytes[..at]).expect("write");
                break;
            }
            at += record::RECORD_HEADER + payload.len();
        }
    }
}

#[test]
fn paged_collections_are_what_others_are_through_stops_and_crashes() {
    let only: Option<u64> = std::env::var("TERRACE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        println!("TERRACE_SEED={seed}");
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.finish();
    }
}

/// Sets, hashes and sorted sets of which next to nothing is in memory, nor is afterwards.
#[test]
fn elements_by_chance_are_read_without_the_others() {
    const ELEMENTS: usize = 5000;
    let mut world = World::new(1);
    let names: Vec<Vec<u8>> = (0..ELEMENTS)
        .map(|number| number.to_string().into_bytes())
        .collect();
    for name in &names {
        world.run(&[b"SADD", b"set", name, b"-"]);
        world.run(&[b"HSET", b"hash", name, name]);
        world.run(&[b"ZADD", b"zset", name, name]);
    }
    world.open.flush();
    world.open.keyspace.drop_all_clean();
    let mut left: std::collections::HashSet<Vec<u8>> = names.iter().cloned().collect();
    left.insert(b"-".to_vec());
    for round in 0..40 {
        let drawn = |world: &mut World, words: &[&[u8]]| strings(&world.run(words));
        let distinct =
            |drawn: Vec<Vec<u8>>| drawn.into_iter().collect::<std::collections::HashSet<_>>().len();
        for popped in [
            drawn(&mut world, &[b"SPOP", b"set"]),
            drawn(&mut world, &[b"SPOP", b"set", b"9"]),
        ] {
            assert!(matches!(popped.len(), 1 | 9));
            assert!(
                popped.iter().all(|member| left.remove(member)),
                "each was there, once"
            );
        }
        let members = drawn(&mut world, &[b"SRANDMEMBER", b"set", b"20"]);
        assert!(members.iter().all(|member| left.contains(member)));
        assert_eq!(distinct(members), 20);
        assert_eq!(drawn(&mut world, &[b"SRANDMEMBER", b"set", b"-30"]).len(), 30);
        let fields = drawn(&mut world, &[b"HRANDFIELD", b"hash", b"10", b"WITHVALUES"]);
        assert!(fields.chunks(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(distinct(fields), 10);
        assert_eq!(drawn(&mut world, &[b"HRANDFIELD", b"hash"]).len(), 1);
        let scored = drawn(&mut world, &[b"ZRANDMEMBER", b"zset", b"10", b"WITHSCORES"]);
        assert!(scored.chunks(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(distinct(scored), 10);
        assert_eq!(drawn(&mut world, &[b"ZRANDMEMBER", b"zset", b"-10"]).len(), 10);
        if round % 4 == 0 {
            world.open.flush();
            world.open.keyspace.drop_all_clean();
        }
    }
    world.expect(&[b"SCARD", b"set"], &format!(":{}\r\n", left.len()));
    world.open.flush();
    world.open.keyspace.drop_all_clean();
    world.run(&[b"SRANDMEMBER", b"set"]);
    let bytes = world.open.keyspace.sum_entry_bytes();
    assert!(bytes < 20_000, "{bytes} bytes are in memory for one member");
    let all: std::collections::HashSet<Vec<u8>> =
        strings(&world.run(&[b"SMEMBERS", b"set"])).into_iter().collect();
    assert_eq!(all, left);
}
