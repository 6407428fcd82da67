//! Moving a live range from one tier to the other, on a thread of its own, while commands go on.
//!
//! ```text
//! memory -> durable                                  durable -> memory
//!   sealed keys are made resident, none is sealed      cold keys are made resident, none may leave memory
//!   moment: the range is durable, every entry of it    moment, once none is cold: the range is a memory range; each
//!           is dirty: each shard owes the marking        shard owes to forget what its entries have in the store; the
//!   shards pay, a flush writes everything                range's rows are discarded (see `discards`)
//!   moment: the mark row says that it is durable
//! ```
//!
//! Both moments that change the tier are in the journal, and hold every shard for an instant only. From the first one on
//! writes of a range that becomes durable are journaled as any; but it counts as a memory range until everything of it
//! is in the store. So after a crash
//! * a range that was becoming durable is a memory range, and empty, as after any crash: the mark row says that it was
//!   on its way, and its rows are discarded; or it is durable and holds everything;
//! * a range that was leaving for memory is durable and holds every acknowledged write; or it is a memory range, empty.
//!
//! One move at a time; other ranges do not change their bounds meanwhile.

use super::discards::UNTIL_THE_END;
use super::entry::{self, Entry};
use super::evict::Room;
use super::owed::Owed;
use super::paging::Elements;
use super::range::{DBS, Range, RangeMap};
use super::ranges::RangeError;
use super::shard::{KeyHasher, ShardState};
use super::tx::Call;
use super::{Effects, Keyspace};
use crate::config::Tier;
use crate::journal::crash_point;
use crate::store::StoreError;
use crate::store::flush::{Discard, Meta};
use crate::store::rows::{self, Row};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::time::{Duration, Instant};

/// Between two shards that are made to pay, and between two portions of cold keys: others come first.
const PAUSE: Duration = Duration::from_micros(50);
/// Cold keys loaded between two looks at the limits.
const PORTION: usize = 64;
/// Flushes that are waited for to make room once.
const ROUNDS_MAX: usize = 16;
const RETRY: Duration = Duration::from_millis(200);
/// How long to wait before the keys that have become cold meanwhile are looked for.
const AGAIN: Duration = Duration::from_millis(1);

/// A move under way.
pub struct Move {
    pub range: String,
    pub to: Tier,
    /// Of a thousand.
    progress: AtomicU64,
    /// When it began, by the caller's time and by this machine's.
    began: (i64, Instant),
}

/// What is known of moves.
#[derive(Default)]
pub struct MoveState {
    current: arc_swap::ArcSwapOption<Move>,
    /// Some move is under way.
    any: AtomicBool,
    /// The server ends: a move to memory is given up, one to disk hurries.
    stopping: AtomicBool,
}

impl MoveState {
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.any.load(Relaxed)
    }

    fn set(&self, current: Option<Arc<Move>>) {
        self.any.store(current.is_some(), SeqCst);
        self.current.store(current);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    pub fn current(&self) -> Option<Arc<Move>> {
        self.current.load_full()
    }
}

impl Move {
    /// How much of it is done, in percent.
    pub fn percent(&self) -> f64 {
        self.progress.load(Relaxed) as f64 / 10.0
    }

    /// Unix milliseconds.
    fn now_ms(&self) -> i64 {
        self.began.0 + self.began.1.elapsed().as_millis() as i64
    }

    fn note(&self, done: i64, all: i64, (from, to): (i64, i64)) {
        let share = (to - from) * done.clamp(0, all.max(1)) / all.max(1);
        self.progress.store((from + share) as u64, Relaxed);
    }
}

/// Every entry of a range is dirty from the moment on.
struct MarkDirty {
    map: Arc<RangeMap>,
    range: Arc<Range>,
    hasher: KeyHasher,
    at: u64,
}

impl Owed for MarkDirty {
    fn pay(&self, state: &mut ShardState, _: usize) {
        let ShardState { table, dirty, .. } = state;
        let ours = |entry: &&mut Entry| Arc::ptr_eq(self.map.find(entry.key()), &self.range);
        for entry in table.iter_mut().filter(ours) {
            // A row of the plain store that is on its way comes too late.
            entry.store_set(entry::SEALING, false);
            if !entry.store_has(entry::DIRTY) {
                entry.store_set(entry::DIRTY, true);
                dirty.push(self.hasher.of(entry));
            }
        }
        // Its rows must be newer than whatever was discarded or flushed before.
        state.settle_discard(self.at);
    }
}

/// The entries of a range have nothing to do with the store any more.
struct Detach {
    map: Arc<RangeMap>,
    range: Arc<Range>,
    at: u64,
    /// Bytes of the tombstones that went.
    gone: AtomicI64,
}

impl Owed for Detach {
    fn pay(&self, state: &mut ShardState, _: usize) {
        let mut tombstones = false;
        for entry in state.table.iter_mut() {
            if Arc::ptr_eq(self.map.find(entry.key()), &self.range) {
                entry.store_set(u8::MAX, false);
                tombstones |= entry.is_absent();
            }
        }
        if tombstones {
            let gone = state
                .extract(|entry| entry.is_absent() && Arc::ptr_eq(self.map.find(entry.key()), &self.range));
            let bytes: usize = gone.iter().map(Entry::size).sum();
            self.gone.fetch_add(bytes as i64, Relaxed);
        }
        state.settle_discard(self.at);
    }
}

/// Keys that are cold, and the row key behind which there may be more.
type ColdKeys = (Vec<Vec<u8>>, Option<Vec<u8>>);

/// Why a move ends before its end.
enum Ended {
    Stopping,
    NoRoom,
    Failed(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Ended {
        Ended::Failed(error)
    }
}

impl Keyspace {
    /// Begins to move a range to a tier; the rest goes on in the background.
    pub fn begin_move(self: &Arc<Keyspace>, name: &str, to: Tier, now_ms: i64) -> Result<(), RangeError> {
        let change = self.begin_reshape()?;
        let map = self.ranges.load_full();
        let range = map
            .by_name(name)
            .ok_or_else(|| RangeError::Unknown(name.into()))?;
        if range.spec.tier == to {
            return Ok(());
        }
        if to == Tier::Memory {
            self.check_room(range)?;
        }
        let under_way = Arc::new(Move {
            range: name.into(),
            to,
            progress: AtomicU64::new(0),
            began: (now_ms, Instant::now()),
        });
        let current = under_way.clone();
        let is_spawned = self.spawn("move", move |keyspace| {
            // It begins when what follows here is done.
            drop(keyspace.change.lock());
            keyspace.run_move(&current);
        });
        if !is_spawned {
            return Err(RangeError::NoThread);
        }
        self.moves.set(Some(under_way));
        let guards = self.lock_all();
        self.install(self.with_move(name, range.spec.tier, Some(to)), &guards);
        drop(guards);
        drop(change);
        Ok(())
    }

    /// The move of a range, if it is under way.
    pub fn move_of(&self, name: &str) -> Option<Arc<Move>> {
        self.moves.current().filter(|current| current.range == name)
    }

    /// An error while a move is under way, or a count that failed is made again.
    pub(super) fn check_idle(&self) -> Result<(), RangeError> {
        match self.moves.current() {
            Some(current) => Err(RangeError::Moving(current.range.clone())),
            None => self.check_counted(),
        }
    }

    /// The map with a range's tier and move set so.
    fn with_move(&self, name: &str, tier: Tier, moving: Option<Tier>) -> RangeMap {
        let mut specs = self.specs();
        for spec in specs.iter_mut().filter(|spec| spec.name == name) {
            spec.tier = tier;
            spec.by_command.shaped = true;
            spec.by_command.moving = moving;
        }
        let old = self.ranges.load();
        RangeMap::new(&specs, old.inherited, Some(&old))
    }

    /// Refuses to take cold keys into a memory that has no room for them.
    fn check_room(&self, range: &Range) -> Result<(), RangeError> {
        let counters = &range.counters;
        let (cold, keys) = (
            counters.cold.load(Relaxed).max(0) as u64,
            counters.total_keys().max(1) as u64,
        );
        // Rows are packed on disk and objects are not: what they will take is not known, only that it is not less.
        let needed = (self.disk_bytes_of(range) as u128 * u128::from(cold) / u128::from(keys)) as u64;
        let held = counters.bytes.load(Relaxed).max(0) as u64;
        let (own, whole) = (range.policy.maxmemory, self.limits.maxmemory.load(Relaxed));
        let full = own > 0 && held + needed > own || whole > 0 && self.memory_bytes() + needed > whole;
        if full && cold > 0 {
            return Err(RangeError::NoRoom(range.spec.name.clone(), cold));
        }
        Ok(())
    }

    fn run_move(&self, current: &Move) {
        let name = &current.range;
        log::info!("range '{name}' moves to {}", current.to);
        let ended = match current.to {
            Tier::Durable => self.move_to_durable(current),
            Tier::Memory => self.move_to_memory(current),
        };
        match ended {
            Ok(()) => log::info!("range '{name}' is a {} range", current.to),
            Err(why) => {
                match why {
                    Ended::Stopping => log::info!("range '{name}' stays as it is: the server ends"),
                    Ended::NoRoom => {
                        log::warn!("range '{name}' stays as it is: memory has no room for its keys");
                    }
                    Ended::Failed(error) => log::error!("range '{name}' stays as it is: {error}"),
                }
                let _change = self.change.lock();
                let guards = self.lock_all();
                let tier = self.ranges.load().by_name(name).map(|range| range.spec.tier);
                // Once it is durable for commands, there is no way back but a crash.
                if let Some(tier) = tier.filter(|tier| *tier != current.to) {
                    self.install(self.with_move(name, tier, None), &guards);
                }
            }
        }
        self.moves.set(None);
    }

    // ---- To disk ------------------------------------------------------------------------------------------------

    /// Makes the sealed keys of a memory range resident.
    fn load_sealed_keys(&self, current: &Move) -> Result<(), Ended> {
        let map = self.ranges.load_full();
        let Some(range) = map.by_name(&current.range) else {
            return Ok(());
        };
        for shard in 0..self.shards.len() {
            for db in 0..DBS as u8 {
                if range.counters.cold.load(Relaxed) <= 0 {
                    return Ok(());
                }
                let (guard, sealed) = self.lock_with_sealed(shard, db, (0, usize::MAX))?;
                drop(guard);
                let ours = sealed
                    .keys
                    .iter()
                    .filter(|key| Arc::ptr_eq(map.find(&key.key), range));
                for key in ours {
                    // Keys that are held by a group are resident.
                    drop(self.hold(&[(self.logical(db), &key.key)], false, current.now_ms())?);
                }
            }
            self.make_room_to_move(current)?;
            if self.moves.stopping.load(Relaxed) {
                return Err(Ended::Stopping);
            }
        }
        Ok(())
    }

    /// Has other keys leave memory for those that were loaded.
    fn make_room_to_move(&self, current: &Move) -> Result<(), Ended> {
        for _ in 0..ROUNDS_MAX {
            // No range's own limit is asked about.
            match self.make_room_for(std::iter::empty(), current.now_ms()) {
                Room::Enough => return Ok(()),
                Room::Full => break,
                Room::WaitForFlush => self.flush_until_done()?,
            }
        }
        Err(Ended::NoRoom)
    }

    /// The moment from which on the range is durable for commands; false when some key of it is sealed after all.
    fn switch_to_durable(&self, name: &str) -> bool {
        let _change = self.change.lock();
        let _no_sealing = self.sealing.hold();
        let mut guards = self.lock_all();
        let cold = |range: &Arc<Range>| range.counters.cold.load(Relaxed) > 0;
        if self.ranges.load().by_name(name).is_some_and(cold) {
            return false;
        }
        let at = self.append_words(&[b"RANGE", b"ALTER", name.as_bytes(), b"TIER", b"durable"]);
        self.install(self.with_move(name, Tier::Durable, Some(Tier::Durable)), &guards);
        let map = self.ranges.load_full();
        let Some(range) = map.by_name(name).cloned() else {
            return true;
        };
        self.flush
            .note_dirty(range.counters.bytes.load(Relaxed).max(0) as usize);
        let mark = Arc::new(MarkDirty {
            map,
            range,
            hasher: self.hasher.clone(),
            at,
        });
        Keyspace::owe(&mut guards, &mark);
        drop(guards);
        crash_point("move-after-switch");
        true
    }

    fn move_to_durable(&self, current: &Move) -> Result<(), Ended> {
        loop {
            self.load_sealed_keys(current)?;
            if self.switch_to_durable(&current.range) {
                break;
            }
        }
        let shards = self.shards.len() as i64;
        for (done, shard) in self.shards.iter().enumerate() {
            drop(shard.lock());
            current.note(done as i64, shards, (0, 300));
            if !self.moves.stopping.load(Relaxed) {
                std::thread::sleep(PAUSE);
            }
        }
        crash_point("move-while-flushing");
        self.flush_until_done()?;
        current.progress.store(900, Relaxed);
        crash_point("move-before-finish");
        {
            let _change = self.change.lock();
            // A flush that is under way would write its last mark row with what is said here, before it has written
            // everything: but everything of the range is written already, and newer changes are in the journal.
            let guards = self.lock_all();
            self.install(self.with_move(&current.range, Tier::Durable, None), &guards);
        }
        self.flush.force();
        self.flush_until_done()?;
        crash_point("move-after-finish");
        Ok(())
    }

    /// A flush, however long the disk refuses.
    fn flush_until_done(&self) -> Result<(), Ended> {
        loop {
            match self.flush_now() {
                Ok(()) => return Ok(()),
                Err(error) if self.moves.stopping.load(Relaxed) => return Err(error.into()),
                Err(_) => std::thread::sleep(RETRY),
            }
        }
    }

    // ---- To memory ----------------------------------------------------------------------------------------------

    fn move_to_memory(&self, current: &Move) -> Result<(), Ended> {
        loop {
            self.load_cold_keys(current)?;
            self.unpage_range(&current.range, &self.ranges.load_full(), current.now_ms())?;
            crash_point("move-before-switch");
            if self.switch_to_memory(&current.range) {
                break;
            }
            if self.moves.stopping.load(Relaxed) {
                return Err(StoreError::new("the server is shutting down").into());
            }
            std::thread::sleep(AGAIN);
        }
        crash_point("move-after-switch");
        current.progress.store(900, Relaxed);
        self.flush.force();
        self.flush_until_done()?;
        crash_point("move-after-finish");
        Ok(())
    }

    /// Makes the cold keys of a range resident.
    fn load_cold_keys(&self, current: &Move) -> Result<(), Ended> {
        let map = self.ranges.load_full();
        let Some(range) = map.by_name(&current.range) else {
            return Ok(());
        };
        let cold = || range.counters.cold.load(Relaxed);
        let all = cold();
        for (start, end) in map.intervals(&current.range) {
            for db in 0..DBS as u8 {
                let (mut from, to) = rows::interval(db, &start, end.as_deref());
                while cold() > 0 {
                    let (keys, next) = self.next_cold_keys((db, &from, &to))?;
                    self.load_keys(db, &keys, current.now_ms())?;
                    current.note(all - cold(), all, (0, 800));
                    crash_point("move-while-loading");
                    match next {
                        Some(next) => from = next,
                        None => break,
                    }
                    if self.moves.stopping.load(Relaxed) {
                        return Err(Ended::Stopping);
                    }
                    let own = range.policy.maxmemory;
                    if own > 0 && range.counters.bytes.load(Relaxed).max(0) as u64 > own {
                        return Err(Ended::NoRoom);
                    }
                    self.make_room_to_move(current)?;
                    std::thread::sleep(PAUSE);
                }
            }
        }
        Ok(())
    }

    /// Keys of rows from a row key on that are not resident, and the row key to go on from.
    fn next_cold_keys(&self, (db, from, to): (u8, &[u8], &[u8])) -> Result<ColdKeys, StoreError> {
        let mut keys = Vec::new();
        for row in self.store.scan(from.to_vec(), to.to_vec(), false) {
            let (row_key, value) = row?;
            if keys.len() == PORTION {
                return Ok((keys, Some(row_key.into_vec())));
            }
            let Some((_, key)) = rows::split_object_key(&row_key) else {
                continue;
            };
            let offset = Row::decode(&value).map_err(StoreError::new)?.offset;
            let hash = self.hasher.hash(db, key);
            let state = self.shards[self.shard_of(hash)].lock();
            if state.find(hash, db, key).is_none() && self.row_stands(db, key, offset) {
                keys.push(key.to_vec());
            }
        }
        Ok((keys, None))
    }

    fn load_keys(&self, db: u8, keys: &[Vec<u8>], now_ms: i64) -> Result<(), StoreError> {
        let mut effects = Effects::default();
        for key in keys {
            let call = Call {
                db: self.logical(db),
                now_ms,
                keys: &[key],
                received: &[],
                elements: Elements::None,
                replay: None,
            };
            // What has expired goes with the look.
            let mut tx = self.begin(call, &mut effects)?;
            tx.exists(key);
            tx.commit();
        }
        Ok(())
    }

    /// The moment from which on the range is a memory range; false when some key of it is cold after all.
    fn switch_to_memory(&self, name: &str) -> bool {
        let _change = self.change.lock();
        let detach = {
            let _no_sealing = self.sealing.hold();
            let mut guards = self.lock_all();
            let map = self.ranges.load_full();
            let Some(range) = map.by_name(name).cloned() else {
                return true;
            };
            if range.counters.cold.load(Relaxed) > 0 {
                return false;
            }
            let at = self.append_words(&[b"RANGE", b"ALTER", name.as_bytes(), b"TIER", b"memory"]);
            self.add_discard(Discard {
                range: name.into(),
                intervals: map.intervals(name),
                at,
                wiped: false,
            });
            self.install(self.with_move(name, Tier::Memory, None), &guards);
            self.positions.begin_anew();
            let detach = Arc::new(Detach {
                map,
                range,
                at,
                gone: AtomicI64::new(0),
            });
            Keyspace::owe(&mut guards, &detach);
            detach
        };
        for shard in &self.shards {
            drop(shard.lock());
            std::thread::sleep(PAUSE);
        }
        // Nobody pays after the last shard.
        let gone = detach.gone.load(SeqCst);
        detach.range.counters.bytes.fetch_sub(gone, Relaxed);
        self.entry_bytes.fetch_sub(gone, Relaxed);
        true
    }

    /// Ends moves and what else goes on in the background for ranges.
    pub(super) fn stop_jobs(&self) {
        self.moves.stopping.store(true, SeqCst);
        super::join_all(&self.jobs);
    }
}

/// What a crash in the middle of a move leaves in the mark row: a range that was becoming durable is a memory range,
/// and the rows that it has already are discarded.
pub fn undo_unfinished(meta: &mut Meta) {
    let specs: Vec<_> = meta.ranges.iter().map(|range| range.spec.clone()).collect();
    let map = RangeMap::of_specs(&specs);
    for range in &mut meta.ranges {
        if range.spec.by_command.moving.take() != Some(Tier::Durable) {
            continue;
        }
        log::warn!(
            "range '{}' was on its way to disk: it is a memory range, and empty",
            range.spec.name
        );
        range.spec.tier = Tier::Memory;
        range.rows.fill(0);
        range.expires.fill(0);
        meta.discards.push(Discard {
            range: range.spec.name.clone(),
            intervals: map.intervals(&range.spec.name),
            at: UNTIL_THE_END,
            wiped: false,
        });
    }
}
