//! The records of subscribers: beside the entries of a shard, under its lock, but not in them.
//!
//! ```text
//!   shard ── records (8 bytes, nothing while nobody has subscribed) ──> slots: | record | record | free | ...
//!                                                                       index: hash of the topic -> slot
//!   number of a record = slot * shards + shard
//! ```
//!
//! Why beside: a record exists without a value and outlives it, whatever happens to the entry (deleted, replaced,
//! expired, evicted, flushed, cold). Why in the shard: who changes a key or sends to it has the key's lock anyway, so
//! what reaches whom is settled in the order of the changes. A write learns from one bit of its entry
//! (`entry::WATCHED`) that nobody watches.
//!
//! Guarantees:
//! * A record exists exactly while it has a subscriber; the last one takes all its memory along.
//! * The number of a record holds while the record does, and is small and dense, so that what a client has subscribed
//!   to is a bitmap of such numbers. Only records of changes move, when databases are exchanged: those are known to
//!   their clients by name.
//! * An entry whose changes are watched has the flag `WATCHED`; one without watchers may have it for a while.

mod index;
mod wide;

use super::Keyspace;
use super::entry;
use super::shard::{ShardGuard, ShardState};
use super::subscribers::Subscribers;
use crate::journal::Journal;
use crate::pointer::prefetch;
use index::Index;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicUsize};

/// What is subscribed to at a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Messages published to the channel of that name. Channels know no databases: they stand in database 0.
    Messages,
    /// The same of shard channels.
    ShardMessages,
    /// The names of changes of the key: `__keyspace@<db>__:<key>`.
    Changes,
    /// The same with the new value: `__keyvalue@<db>__:<key>`.
    Values,
    /// No messages: the transactions of these clients are off when the key has changed (`WATCH`).
    Transactions,
    /// These clients may have cached what they have read of the key (`CLIENT TRACKING`). The first change ends it.
    Caches,
}

pub const KINDS: [Kind; 6] = [
    Kind::Messages,
    Kind::ShardMessages,
    Kind::Changes,
    Kind::Values,
    Kind::Transactions,
    Kind::Caches,
];

impl Kind {
    /// A write to the key concerns its subscribers.
    pub(super) fn watches(self) -> bool {
        !matches!(self, Kind::Messages | Kind::ShardMessages)
    }

    /// Its subscribers are sent messages, by the name of a channel.
    pub fn is_channel(self) -> bool {
        !matches!(self, Kind::Transactions | Kind::Caches)
    }
}

/// Something that can be subscribed to, and is kept with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topic<'a> {
    pub kind: Kind,
    /// Logical database; 0 for messages.
    pub db: u8,
    pub key: &'a [u8],
}

/// How many there are of each kind, and what they take.
#[derive(Default)]
pub struct RecordCounts {
    records: [AtomicUsize; KINDS.len()],
    subscriptions: [AtomicUsize; KINDS.len()],
    bytes: AtomicI64,
}

impl RecordCounts {
    pub fn records(&self, kind: Kind) -> usize {
        self.records[kind as usize].load(Relaxed)
    }

    pub fn subscriptions(&self, kind: Kind) -> usize {
        self.subscriptions[kind as usize].load(Relaxed)
    }

    /// A record is gone, with what it took and with so many subscribers.
    fn note_end(&self, kind: Kind, bytes: usize, subscribers: usize) {
        self.records[kind as usize].fetch_sub(1, Relaxed);
        self.subscriptions[kind as usize].fetch_sub(subscribers, Relaxed);
        self.bytes.fetch_sub(bytes as i64, Relaxed);
    }

    /// Somebody wants to know of changes of a key.
    pub(super) fn watch(&self) -> bool {
        let mut watching = KINDS.into_iter().filter(|kind| kind.watches());
        watching.any(|kind| self.records(kind) > 0)
    }

    /// Bytes of all records, without the tables that they stand in.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed).max(0) as usize
    }
}

struct Record {
    subscribers: Subscribers,
    key: Box<[u8]>,
    kind: Kind,
    /// Physical database.
    db: u8,
}

impl Record {
    fn is(&self, kind: Kind, db: u8, key: &[u8]) -> bool {
        self.kind == kind && self.db == db && *self.key == *key
    }

    fn bytes(&self) -> usize {
        size_of::<Slot>() + self.key.len() + self.subscribers.heap_bytes()
    }
}

enum Slot {
    Used(Record),
    /// The next free slot.
    Free(Option<u32>),
}

const _: () = assert!(size_of::<Slot>() == 40);

/// The records of a shard.
#[derive(Default)]
pub struct Records(Option<Box<Table>>);

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Option<u32>,
    index: Index,
}

impl Table {
    fn at(&self, slot: u32) -> Option<&Record> {
        match self.slots.get(slot as usize) {
            Some(Slot::Used(record)) => Some(record),
            _ => None,
        }
    }

    fn at_mut(&mut self, slot: u32) -> Option<&mut Record> {
        match self.slots.get_mut(slot as usize) {
            Some(Slot::Used(record)) => Some(record),
            _ => None,
        }
    }

    fn find(&self, hash: u64, (kind, db, key): (Kind, u8, &[u8])) -> Option<u32> {
        let is_it = |slot| self.at(slot).is_some_and(|record| record.is(kind, db, key));
        self.index.find(hash, kind, is_it)
    }

    fn add(&mut self, hash: u64, record: Record) -> u32 {
        let kind = record.kind;
        let slot = match self.free {
            Some(slot) => {
                if let Slot::Free(next) = self.slots[slot as usize] {
                    self.free = next;
                }
                self.slots[slot as usize] = Slot::Used(record);
                slot
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    // By a quarter, not by doubling: a million records should not pay for another million.
                    self.slots.reserve_exact(self.slots.len() / 4 + 2);
                }
                self.slots.push(Slot::Used(record));
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(hash, kind, slot);
        slot
    }

    fn remove(&mut self, hash: u64, slot: u32) -> Option<Record> {
        let kind = self.at(slot)?.kind;
        self.index.remove(hash, kind, slot);
        let free = Slot::Free(self.free.replace(slot));
        match std::mem::replace(&mut self.slots[slot as usize], free) {
            Slot::Used(record) => Some(record),
            Slot::Free(_) => None,
        }
    }
}

impl Records {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The subscribers of a kind at a key of a physical database.
    pub(super) fn find(&self, hash: u64, topic: (Kind, u8, &[u8])) -> Option<&Subscribers> {
        let table = self.0.as_ref()?;
        let slot = table.find(hash, topic)?;
        Some(&table.at(slot)?.subscribers)
    }

    /// True when a write to this key concerns somebody.
    #[inline]
    pub(super) fn is_watched(&self, hash: u64, db: u8, key: &[u8]) -> bool {
        !self.is_empty()
            && KINDS
                .into_iter()
                .filter(|kind| kind.watches())
                .any(|kind| self.find(hash, (kind, db, key)).is_some())
    }

    /// True when somebody is told by name what happens to this key.
    pub(super) fn is_heard(&self, hash: u64, db: u8, key: &[u8]) -> bool {
        !self.is_empty()
            && [Kind::Changes, Kind::Values]
                .into_iter()
                .any(|kind| self.find(hash, (kind, db, key)).is_some())
    }

    /// Keys with their physical databases, once for each kind of watching.
    pub(super) fn watched(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let slots = self.0.iter().flat_map(|table| &table.slots);
        slots.filter_map(|slot| match slot {
            Slot::Used(record) if record.kind.watches() => Some((record.db, &*record.key)),
            _ => None,
        })
    }

    /// Bytes of the records at a key of a physical database.
    pub(super) fn bytes_at(&self, hash: u64, db: u8, key: &[u8]) -> usize {
        let Some(table) = &self.0 else { return 0 };
        KINDS
            .into_iter()
            .filter_map(|kind| table.at(table.find(hash, (kind, db, key))?))
            .map(Record::bytes)
            .sum()
    }

    /// Asks for the memory in which the search for a key's records will look, as far as the step before has brought it
    /// near: the table, the index, the slots, the keys (see `keyspace::prefetch`).
    pub(super) fn prefetch(&self, hash: u64, step: PrefetchStep) {
        let Some(table) = &self.0 else { return };
        if step == PrefetchStep::Table {
            return prefetch(std::ptr::from_ref(&**table).cast());
        }
        if step == PrefetchStep::Index {
            return table.index.home_address(hash).into_iter().for_each(prefetch);
        }
        for slot in table.index.likely(hash) {
            let Some(slot) = table.slots.get(slot as usize) else {
                continue;
            };
            match slot {
                Slot::Used(record) if step == PrefetchStep::Keys => prefetch(record.key.as_ptr()),
                _ if step == PrefetchStep::Slots => {
                    let first = std::ptr::from_ref(slot).cast::<u8>();
                    prefetch(first);
                    prefetch(first.wrapping_add(size_of::<Slot>() - 1));
                }
                _ => {}
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let Some(table) = &self.0 else { return 0 };
        size_of::<Table>() + table.slots.capacity() * size_of::<Slot>() + table.index.bytes()
    }

    /// Gives the tables back when nothing is left in them.
    fn shrink(&mut self) {
        if self.0.as_ref().is_some_and(|table| table.index.is_empty()) {
            self.0 = None;
        }
    }
}

/// What of a shard's records is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PrefetchStep {
    Table,
    Index,
    Slots,
    Keys,
}

pub(super) const PREFETCH_STEPS: [PrefetchStep; 3] =
    [PrefetchStep::Index, PrefetchStep::Slots, PrefetchStep::Keys];

/// What a new subscription is.
pub struct Subscribed {
    pub record: u32,
    /// It was not there already.
    pub is_new: bool,
}

impl Keyspace {
    /// The subscribers of a kind at a key of a physical database; looks nowhere while there are none of that kind.
    #[inline]
    pub(super) fn subscribers_of<'s>(
        &self,
        state: &'s ShardState,
        hash: u64,
        topic: (Kind, u8, &[u8]),
    ) -> Option<&'s Subscribers> {
        if self.record_counts.records(topic.0) == 0 {
            return None;
        }
        state.records.find(hash, topic)
    }

    /// Physical database and hash of a topic, and its shard, locked.
    fn lock_topic(&self, topic: &Topic<'_>) -> (u8, u64, usize, ShardGuard<'_>) {
        loop {
            let db = self.topic_db(topic);
            let hash = self.hasher.hash(db, topic.key);
            let shard = self.shard_of(hash);
            let guard = self.shards[shard].lock();
            // Databases may have been exchanged before the lock was there.
            if self.topic_db(topic) == db {
                return (db, hash, shard, guard);
            }
        }
    }

    fn topic_db(&self, topic: &Topic<'_>) -> u8 {
        if topic.kind.watches() {
            self.physical(topic.db)
        } else {
            0
        }
    }

    /// Adds a client to the subscribers of a topic.
    pub fn subscribe(&self, topic: &Topic<'_>, client: u32) -> Subscribed {
        let (db, hash, shard, mut state) = self.lock_topic(topic);
        let (slot, is_new) = self.add_subscriber(&mut state, (db, hash), topic, client);
        Subscribed {
            record: self.number_of(shard, slot),
            is_new,
        }
    }

    /// As `subscribe`, in the shard of the topic. Returns the slot of the record, and whether the client is new there.
    pub(super) fn add_subscriber(
        &self,
        state: &mut ShardState,
        (db, hash): (u8, u64),
        topic: &Topic<'_>,
        client: u32,
    ) -> (u32, bool) {
        let table = state.records.0.get_or_insert_default();
        let slot = table.find(hash, (topic.kind, db, topic.key));
        let slot = slot.unwrap_or_else(|| {
            self.record_counts.records[topic.kind as usize].fetch_add(1, Relaxed);
            let record = Record {
                subscribers: Subscribers::default(),
                key: topic.key.into(),
                kind: topic.kind,
                db,
            };
            self.record_counts.bytes.fetch_add(record.bytes() as i64, Relaxed);
            table.add(hash, record)
        });
        let mut is_new = false;
        if let Some(record) = table.at_mut(slot) {
            let before = record.bytes();
            is_new = record.subscribers.insert(client);
            let delta = record.bytes() as i64 - before as i64;
            self.record_counts.bytes.fetch_add(delta, Relaxed);
        }
        if is_new {
            self.record_counts.subscriptions[topic.kind as usize].fetch_add(1, Relaxed);
        }
        if topic.kind.watches()
            && let Some(entry) = state.find_mut(hash, db, topic.key)
        {
            entry.set(entry::WATCHED, true);
        }
        (slot, is_new)
    }

    /// The number of the record in a slot of a shard.
    pub(super) fn number_of(&self, shard: usize, slot: u32) -> u32 {
        slot * self.shards.len() as u32 + shard as u32
    }

    /// Adds a client to the subscribers of a topic. Returns the journal's end at that moment: what is recorded below it
    /// of the key is not told to this client.
    pub fn subscribe_from_now_on(&self, topic: &Topic<'_>, client: u32) -> u64 {
        let (db, hash, _, mut state) = self.lock_topic(topic);
        self.add_subscriber(&mut state, (db, hash), topic, client);
        self.journal().map_or(0, Journal::end)
    }

    /// Takes a client out of the subscribers of a topic; returns the number of the record. None when it was not among
    /// them. From then on nothing more is sent to it from there.
    pub fn unsubscribe(&self, topic: &Topic<'_>, client: u32) -> Option<u32> {
        let (db, hash, shard, mut state) = self.lock_topic(topic);
        let slot = state
            .records
            .0
            .as_ref()?
            .find(hash, (topic.kind, db, topic.key))?;
        self.leave_record(&mut state, slot, client)
            .then(|| self.number_of(shard, slot))
    }

    /// Takes a client out of the subscribers of a record of messages. Returns the key.
    pub fn unsubscribe_from(&self, record: u32, client: u32) -> Option<Box<[u8]>> {
        let shards = self.shards.len() as u32;
        let slot = record / shards;
        let mut state = self.shards[(record % shards) as usize].lock();
        let key = state.records.0.as_ref()?.at(slot)?.key.clone();
        self.leave_record(&mut state, slot, client).then_some(key)
    }

    fn leave_record(&self, state: &mut ShardState, slot: u32, client: u32) -> bool {
        let Some(table) = &mut state.records.0 else {
            return false;
        };
        let Some(record) = table.at_mut(slot) else {
            return false;
        };
        let before = record.bytes();
        if !record.subscribers.remove(client) {
            return false;
        }
        if record.subscribers.is_empty() {
            self.record_counts.note_end(record.kind, before, 1);
            let hash = self.hasher.hash(record.db, &record.key);
            table.remove(hash, slot);
            state.records.shrink();
        } else {
            self.record_counts.subscriptions[record.kind as usize].fetch_sub(1, Relaxed);
            let delta = record.bytes() as i64 - before as i64;
            self.record_counts.bytes.fetch_add(delta, Relaxed);
        }
        true
    }

    /// Takes the record of those who may have cached a key; none when nobody has.
    pub(super) fn take_caches(
        &self,
        state: &mut ShardState,
        (hash, db, key): (u64, u8, &[u8]),
    ) -> Option<Subscribers> {
        let table = state.records.0.as_mut()?;
        let slot = table.find(hash, (Kind::Caches, db, key))?;
        let record = table.remove(hash, slot)?;
        state.records.shrink();
        self.note_caches_end(&record);
        Some(record.subscribers)
    }

    fn note_caches_end(&self, record: &Record) {
        let subscribers = record.subscribers.len();
        self.record_counts
            .note_end(Kind::Caches, record.bytes(), subscribers);
    }

    /// Shows the subscribers of a topic, if it has any, while its shard is locked: whoever is told there is told before
    /// anything that happens to the key later, and nobody who has left is.
    pub fn with_subscribers<R>(&self, topic: &Topic<'_>, with: impl FnOnce(&Subscribers) -> R) -> Option<R> {
        let (db, hash, _, state) = self.lock_topic(topic);
        state.records.find(hash, (topic.kind, db, topic.key)).map(with)
    }

    /// Shows every topic that has subscribers, one shard after the other.
    pub fn visit_topics(&self, mut visit: impl FnMut(Topic<'_>, &Subscribers)) {
        for shard in &self.shards {
            let state = shard.lock();
            let Some(table) = &state.records.0 else { continue };
            for slot in &table.slots {
                let Slot::Used(record) = slot else { continue };
                let topic = Topic {
                    kind: record.kind,
                    db: if record.kind.watches() {
                        self.logical(record.db)
                    } else {
                        0
                    },
                    key: &record.key,
                };
                visit(topic, &record.subscribers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shard::KeyHasher;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn record(key: u32, kind: Kind) -> Record {
        Record {
            subscribers: Subscribers::default(),
            key: key.to_le_bytes().into(),
            kind,
            db: 0,
        }
    }

    proptest! {
        #[test]
        fn holds_what_a_map_holds(steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0u32..40), 0..300)) {
            let hasher = KeyHasher::new(7);
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (add, watches, key) in steps {
                let kind = if watches { Kind::Changes } else { Kind::Messages };
                let bytes = key.to_le_bytes();
                let hash = hasher.hash(0, &bytes);
                let found = table.find(hash, (kind, 0, &bytes));
                prop_assert_eq!(found, model.get(&(watches, key)).copied());
                match found {
                    None if add => {
                        model.insert((watches, key), table.add(hash, record(key, kind)));
                    }
                    Some(slot) if !add => {
                        prop_assert!(table.remove(hash, slot).is_some());
                        model.remove(&(watches, key));
                    }
                    _ => {}
                }
                prop_assert_eq!(table.index.is_empty(), model.is_empty());
            }
        }
    }
}
