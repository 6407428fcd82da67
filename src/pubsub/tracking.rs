//! Client-side caching (`CLIENT TRACKING`): who is told that a key has changed which it may have cached.
//!
//! ```text
//!  a client reads a key ──> it is in the record of the key (`Kind::Caches`)     while the key is locked
//!  the key changes ──> the record is taken away, and all in it are told: once, until they read the key again
//!
//!  a client tracks prefixes (BCAST) ──> every change of any key is held against the prefixes, kept here
//!      a key that fits waits for the end of the writer's batch ──> one message with all keys of a prefix, in order
//! ```
//!
//! Guarantees:
//! * Between a read and the next change no message is lost: a client joins the record of a key in the transaction that
//!   reads it. So what it has cached is what the key holds, or a message is on its way.
//! * A writer has its reply only when the messages about its changes are in the inboxes of those whom they concern.
//! * Messages to the client that caused them come behind its reply.
//! * A client that leaves is in no record any more. Of the records of keys that it has read it knows the numbers; some
//!   may be others' by now, so it can know too many, and never too few.
//!
//! Redis tells keys by name alone; here a key of another database is another key. Exchanging two databases counts as a
//! change of every key.
//!
//! Lock order: a shard, then the prefixes, then what waits for one of them; then `delivery` and an inbox.

use super::PubSub;
use super::delivery::Delivery;
use crate::keyspace::subscribers::Subscribers;
use crate::keyspace::{Keyspace, Tx};
use crate::net::clients::{Client, Parcel, client_flag};
use crate::resp::{Protocol, Reply};
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// Where messages for clients of the older protocol appear, which name another connection to hear them.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// How many keys are forgotten for one command, when too many are noted as cached.
const FORGET_MOST: usize = 100;

/// Which keys a client is told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Those that it has read.
    #[default]
    Read,
    /// Those that it has read right after `CLIENT CACHING YES`.
    OptIn,
    /// Those that it has read, but not right after `CLIENT CACHING NO`.
    OptOut,
    /// Those with certain prefixes.
    Broadcast,
}

/// What one client tracks.
pub struct Tracking {
    /// The client's number in the bitsets, besides the one that its subscriptions have.
    number: u32,
    client: Arc<Client>,
    pub mode: Mode,
    /// `CLIENT CACHING` was said for the command, or transaction, that comes next.
    pub caching: bool,
    /// Records of keys that it has read.
    records: RoaringBitmap,
    prefixes: BTreeSet<Box<[u8]>>,
}

impl Tracking {
    /// Notes that the client may cache what it reads of these keys, if it wants to be told.
    pub fn remember(&mut self, tx: &mut Tx<'_>, keys: &[&[u8]]) {
        let wanted = match self.mode {
            Mode::Read => true,
            Mode::OptIn => self.caching,
            Mode::OptOut => !self.caching,
            Mode::Broadcast => false,
        };
        if wanted {
            for key in keys {
                self.records.insert(tx.cached_by(key, self.number));
            }
        }
    }

    /// In order.
    pub fn prefixes(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.prefixes.iter().map(|prefix| &**prefix)
    }
}

/// Those who track, and what waits to be told.
#[derive(Default)]
pub struct Trackers {
    clients: RwLock<Subscribers>,
    count: AtomicUsize,
    prefixes: RwLock<Prefixes>,
    /// Some key waits at a prefix.
    waiting: AtomicBool,
}

#[derive(Default)]
struct Prefixes {
    by_name: BTreeMap<Box<[u8]>, Prefix>,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<usize, usize>,
}

#[derive(Default)]
struct Prefix {
    clients: Subscribers,
    /// Keys that have changed, with the client that changed each last.
    changed: Mutex<BTreeMap<Box<[u8]>, u64>>,
}

impl Prefixes {
    fn add(&mut self, name: &[u8], client: u32) {
        if !self.by_name.contains_key(name) {
            *self.lengths.entry(name.len()).or_default() += 1;
        }
        self.by_name
            .entry(name.into())
            .or_default()
            .clients
            .insert(client);
    }

    fn remove(&mut self, name: &[u8], client: u32) {
        let Some(prefix) = self.by_name.get_mut(name) else {
            return;
        };
        prefix.clients.remove(client);
        if prefix.clients.is_empty() {
            self.by_name.remove(name);
            let count = self.lengths.entry(name.len()).or_default();
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&name.len());
            }
        }
    }

    /// The prefixes of a key.
    fn of<'p>(&'p self, key: &'p [u8]) -> impl Iterator<Item = &'p Prefix> {
        let lengths = self.lengths.range(..=key.len());
        lengths.filter_map(|(len, _)| self.by_name.get(&key[..*len]))
    }
}

/// A message: these keys, or all, are not to be cached any more. Each form is encoded once.
struct Invalidation<'a> {
    /// None for all keys.
    keys: Option<&'a [&'a [u8]]>,
    push: OnceCell<Parcel>,
    message: OnceCell<Parcel>,
}

impl<'a> Invalidation<'a> {
    fn new(keys: Option<&'a [&'a [u8]]>) -> Invalidation<'a> {
        Invalidation {
            keys,
            push: OnceCell::new(),
            message: OnceCell::new(),
        }
    }

    fn write_keys(&self, mut reply: Reply) -> Parcel {
        match self.keys {
            None => reply.null(),
            Some(keys) => {
                reply.array(keys.len());
                keys.iter().for_each(|key| reply.bulk(key));
            }
        }
        Parcel::from(reply.take())
    }

    fn as_push(&self) -> &Parcel {
        self.push.get_or_init(|| {
            let mut reply = Reply::new(Protocol::Resp3);
            reply.push(2);
            reply.bulk(b"invalidate");
            self.write_keys(reply)
        })
    }

    fn as_message(&self) -> &Parcel {
        self.message.get_or_init(|| {
            let mut reply = Reply::new(Protocol::Resp2);
            reply.push(3);
            reply.bulk(b"message");
            reply.bulk(CHANNEL);
            self.write_keys(reply)
        })
    }
}

fn speaks_resp3(client: &Client) -> bool {
    client.protocol.load(Relaxed) == 3
}

/// Tells a client that tracks, or the one that it has named in its place.
fn tell(delivery: &Delivery, client: &Arc<Client>, what: &Invalidation<'_>) {
    match client.redirection() {
        None if speaks_resp3(client) => delivery.hand(client, what.as_push()),
        // What is no reply cannot be told from one in the older protocol.
        None => {}
        Some((_, Some(other))) if speaks_resp3(&other) => delivery.hand(&other, what.as_push()),
        Some((_, Some(other))) if other.has(client_flag::PUBSUB) => {
            delivery.hand(&other, what.as_message());
        }
        Some((_, Some(_))) => {}
        Some((id, None)) => {
            client.set(client_flag::BROKEN_REDIRECTION, true);
            if speaks_resp3(client) {
                let mut reply = Reply::new(Protocol::Resp3);
                reply.push(2);
                reply.bulk(b"tracking-redir-broken");
                reply.int(id as i64);
                delivery.hand(client, &Parcel::from(reply.take()));
            }
        }
    }
}

impl PubSub {
    /// Begins to track for a client that has not tracked so far.
    pub fn begin_tracking(&self, client: &Arc<Client>, mode: Mode) -> Box<Tracking> {
        let number = self.delivery.enter(client);
        self.trackers.clients.write().insert(number);
        self.trackers.count.fetch_add(1, Relaxed);
        Box::new(Tracking {
            number,
            client: client.clone(),
            mode,
            caching: false,
            records: RoaringBitmap::new(),
            prefixes: BTreeSet::new(),
        })
    }

    /// Adds a prefix to those that a client tracks.
    pub fn track_prefix(&self, keyspace: &Keyspace, own: &mut Tracking, prefix: &[u8]) {
        if own.prefixes.insert(prefix.into()) {
            self.trackers.prefixes.write().add(prefix, own.number);
            keyspace.set_broadcasting(true);
        }
    }

    /// Ends it all, in time proportional to the keys that the client has read.
    pub fn end_tracking(&self, keyspace: &Keyspace, own: &Tracking) {
        let client = &own.client;
        for flag in [
            client_flag::TRACKING,
            client_flag::TRACKS_PREFIXES,
            client_flag::NO_LOOP,
            client_flag::BROKEN_REDIRECTION,
        ] {
            client.set(flag, false);
        }
        client.redirect_to(None);
        if !own.prefixes.is_empty() {
            let mut prefixes = self.trackers.prefixes.write();
            own.prefixes
                .iter()
                .for_each(|prefix| prefixes.remove(prefix, own.number));
            keyspace.set_broadcasting(!prefixes.by_name.is_empty());
        }
        for record in &own.records {
            keyspace.unsubscribe_from(record, own.number);
        }
        self.trackers.clients.write().remove(own.number);
        self.trackers.count.fetch_sub(1, Relaxed);
        self.delivery.leave(own.number);
    }

    /// Tells those who track prefixes which keys have changed. Called when a batch of commands has run, before its
    /// replies go out.
    pub fn broadcast(&self) {
        if !self.trackers.waiting.load(Acquire) {
            return;
        }
        // Nobody else's keys are being told meanwhile: who finds nothing waiting knows that his have been.
        let mut prefixes = self.trackers.prefixes.write();
        for prefix in prefixes.by_name.values_mut() {
            let changed = std::mem::take(prefix.changed.get_mut());
            if !changed.is_empty() {
                self.broadcast_keys(&prefix.clients, &changed);
            }
        }
        self.trackers.waiting.store(false, Release);
    }

    fn broadcast_keys(&self, clients: &Subscribers, changed: &BTreeMap<Box<[u8]>, u64>) {
        let all: Vec<&[u8]> = changed.keys().map(|key| &**key).collect();
        let message = Invalidation::new(Some(&all));
        self.delivery.each(clients, |client| {
            if !client.has(client_flag::NO_LOOP) {
                return tell(&self.delivery, client, &message);
            }
            let others = changed.iter().filter(|(_, by)| **by != client.id);
            let others: Vec<&[u8]> = others.map(|(key, _)| &**key).collect();
            if !others.is_empty() {
                tell(&self.delivery, client, &Invalidation::new(Some(&others)));
            }
        });
    }

    /// Of keys that are noted as cached no more than `most` stay so; 0 is no limit.
    pub fn limit_tracking(&self, keyspace: &Keyspace, most: usize) {
        if most > 0 {
            keyspace.limit_caches(most, FORGET_MOST);
        }
    }

    pub(super) fn tell_stale(&self, key: &[u8], who: &Subscribers, by: u64) {
        let keys = [key];
        let message = Invalidation::new(Some(&keys));
        self.delivery.each(who, |client| {
            if client.id != by || !client.has(client_flag::NO_LOOP) {
                tell(&self.delivery, client, &message);
            }
        });
    }

    pub(super) fn tell_all_stale(&self) {
        if self.trackers.count() > 0 {
            let message = Invalidation::new(None);
            let clients = self.trackers.clients.read();
            self.delivery
                .each(&clients, |client| tell(&self.delivery, client, &message));
        }
    }

    pub(super) fn note_changed(&self, key: &[u8], by: u64) {
        let prefixes = self.trackers.prefixes.read();
        for prefix in prefixes.of(key) {
            prefix.changed.lock().insert(key.into(), by);
            self.trackers.waiting.store(true, Release);
        }
    }
}

impl Trackers {
    /// Clients that track.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Prefixes that are tracked.
    pub fn prefixes(&self) -> usize {
        self.prefixes.read().by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_all_prefixes_that_it_begins_with() {
        let mut prefixes = Prefixes::default();
        for (client, name) in ["", "a", "ab", "b", "abcd"].iter().enumerate() {
            prefixes.add(name.as_bytes(), client as u32);
            prefixes.add(name.as_bytes(), 100);
        }
        let of = |prefixes: &Prefixes, key: &str| -> Vec<u32> {
            let found = prefixes.of(key.as_bytes());
            found.filter_map(|prefix| prefix.clients.iter().min()).collect()
        };
        assert_eq!(of(&prefixes, "abc"), [0, 1, 2]);
        assert_eq!(of(&prefixes, "b"), [0, 3]);
        assert_eq!(of(&prefixes, ""), [0]);
        for (client, name) in ["", "a", "ab", "b", "abcd"].iter().enumerate() {
            prefixes.remove(name.as_bytes(), client as u32);
        }
        assert_eq!(of(&prefixes, "abc"), [100, 100, 100]);
        for name in ["", "a", "ab", "b", "abcd", "abcd"] {
            prefixes.remove(name.as_bytes(), 100);
        }
        assert!(prefixes.by_name.is_empty() && prefixes.lengths.is_empty());
    }

    #[test]
    fn all_keys_are_a_null_in_the_words_of_each_protocol() {
        let all = Invalidation::new(None);
        assert_eq!(all.as_push().bytes(), *b">2\r\n$10\r\ninvalidate\r\n_\r\n");
        assert!(
            all.as_message()
                .bytes()
                .ends_with(b"__redis__:invalidate\r\n$-1\r\n")
        );
    }
}
