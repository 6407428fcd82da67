//! Publish and subscribe: channels, patterns, and what is heard of changes of keys.
//!
//! | file | what it does |
//! |---|---|
//! | `channel` | which key a channel's name stands for |
//! | `message` | what is sent, encoded once for each protocol |
//! | `notify` | what is told of changes of keys |
//! | `subscriptions` | what one client has subscribed to |
//! | `delivery` | from the numbers of clients to their inboxes |
//! | `watching` | the keys on which a client's transaction depends |
//! | `tracking` | the keys that a client may have cached |
//!
//! The subscribers of a channel are kept with the key of that name, in its shard (`keyspace::records`); patterns and
//! the channels of events (`__keyevent@…`) belong to no key and are kept here.
//!
//! Guarantees:
//! * A publisher never waits for a subscriber: it leaves a shared copy in its inbox. Who does not read is closed at
//!   `client-output-buffer-limit pubsub`.
//! * Messages are left while the channel's shard (or the list of patterns) is locked. So those of one channel reach all
//!   subscribers in one order, and none comes after the client has been told that it no longer subscribes.
//!
//! Lock order: a shard, then `events` or `patterns`, then `delivery`, then an inbox.

pub mod channel;
pub mod delivery;
pub mod message;
pub mod notify;
pub mod subscriptions;
pub mod tracking;
pub mod watching;

use crate::command::glob;
use crate::keyspace::records::{Kind, Topic};
use crate::keyspace::subscribers::Subscribers;
use crate::keyspace::{Call, Effects, Elements, Keyspace};
use crate::net::clients::Client;
use crate::server::unix_ms;
use crate::store::StoreError;
use channel::Channel;
use delivery::Delivery;
use message::{Message, word};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use subscriptions::Subscriptions;
use tracking::Trackers;

type ByName = HashMap<Box<[u8]>, Subscribers>;

#[derive(Default)]
pub struct PubSub {
    pub delivery: Delivery,
    pub trackers: Trackers,
    /// Clients that have subscribed to something.
    clients: AtomicUsize,
    patterns: RwLock<ByName>,
    /// How many patterns there are: what a publisher asks first.
    pattern_count: AtomicUsize,
    /// Channels of events, by their whole names.
    events: RwLock<ByName>,
    event_count: AtomicUsize,
}

impl PubSub {
    /// Sends a message to the subscribers of a channel, and to those of patterns that fit it. Returns how many got it.
    pub fn publish(&self, keyspace: &Keyspace, channel: &[u8], payload: &[u8]) -> usize {
        let words = [word(b"message"), word(channel), word(payload)];
        let message = Message::new(&words);
        let send = |subscribers: &Subscribers| self.delivery.send(subscribers, &message);
        let direct = match Channel::of(channel) {
            Channel::Key(topic) => keyspace.with_subscribers(&topic, send),
            Channel::Event(name) => self.events.read().get(name).map(send),
        };
        direct.unwrap_or(0) + self.publish_to_patterns(channel, payload)
    }

    /// How many would get a message that is published to a channel, or to a shard channel.
    pub fn listeners(&self, keyspace: &Keyspace, channel: &[u8], to_shard: bool) -> usize {
        let count = |subscribers: &Subscribers| self.delivery.count(subscribers);
        if to_shard {
            let direct = keyspace.with_subscribers(&shard_topic(channel), count);
            return direct.unwrap_or(0);
        }
        let direct = match Channel::of(channel) {
            Channel::Key(topic) => keyspace.with_subscribers(&topic, count),
            Channel::Event(name) => self.events.read().get(name).map(count),
        };
        let patterns = self.patterns.read();
        let fitting = patterns
            .iter()
            .filter(|(pattern, _)| glob::matches(pattern, channel));
        direct.unwrap_or(0) + fitting.map(|(_, subscribers)| count(subscribers)).sum::<usize>()
    }

    /// Sends a message to the subscribers of a shard channel.
    pub fn publish_to_shard(&self, keyspace: &Keyspace, channel: &[u8], payload: &[u8]) -> usize {
        let words = [word(b"smessage"), word(channel), word(payload)];
        let message = Message::new(&words);
        let send = |subscribers: &Subscribers| self.delivery.send(subscribers, &message);
        keyspace
            .with_subscribers(&shard_topic(channel), send)
            .unwrap_or(0)
    }

    fn publish_to_patterns(&self, channel: &[u8], payload: &[u8]) -> usize {
        if self.pattern_count.load(Relaxed) == 0 {
            return 0;
        }
        let patterns = self.patterns.read();
        let fitting = patterns
            .iter()
            .filter(|(pattern, _)| glob::matches(pattern, channel));
        fitting
            .map(|(pattern, subscribers)| {
                let words = [word(b"pmessage"), word(pattern), word(channel), word(payload)];
                self.delivery.send(subscribers, &Message::new(&words))
            })
            .sum()
    }

    /// Adds a client to the subscribers of a channel.
    pub fn subscribe(
        &self,
        keyspace: &Keyspace,
        own: &mut Subscriptions,
        channel: &[u8],
    ) -> Result<(), StoreError> {
        match Channel::of(channel) {
            Channel::Key(topic) if topic.kind == Kind::Values => {
                self.subscribe_to_value(keyspace, own, channel, &topic)?;
                own.names.insert(channel.into());
            }
            Channel::Key(topic) => {
                let subscribed = keyspace.subscribe(&topic, own.number);
                if topic.kind == Kind::Messages {
                    own.channels.insert(subscribed.record);
                } else {
                    own.names.insert(channel.into());
                }
            }
            Channel::Event(name) => {
                let mut events = self.events.write();
                events.entry(name.into()).or_default().insert(own.number);
                self.event_count.store(events.len(), Relaxed);
                own.names.insert(name.into());
            }
        }
        Ok(())
    }

    /// The key may be cold: it is brought in, so that its value can be shown.
    fn subscribe_to_value(
        &self,
        keyspace: &Keyspace,
        own: &Subscriptions,
        channel: &[u8],
        topic: &Topic<'_>,
    ) -> Result<(), StoreError> {
        let call = Call {
            db: topic.db,
            now_ms: unix_ms(),
            keys: &[topic.key],
            received: &[],
            elements: Elements::All,
            replay: None,
        };
        let mut effects = Effects::default();
        let mut tx = keyspace.begin(call, &mut effects)?;
        tx.subscribe_to_value(topic.key, own.number, |value, offset| {
            self.send_value(own.number, channel, value, offset);
        });
        tx.commit();
        Ok(())
    }

    /// As `subscribe`, to a channel of values, but nothing is shown of what the value is. Returns the journal's end at
    /// that moment: the changes of the key that are recorded below it are told to others only, later ones to this
    /// client.
    pub fn subscribe_from_now_on(&self, keyspace: &Keyspace, own: &mut Subscriptions, channel: &[u8]) -> u64 {
        let Channel::Key(topic) = Channel::of(channel) else {
            return 0;
        };
        own.names.insert(channel.into());
        keyspace.subscribe_from_now_on(&topic, own.number)
    }

    /// Takes a client out of the subscribers of a channel; nothing is sent to it from there any more.
    pub fn unsubscribe(&self, keyspace: &Keyspace, own: &mut Subscriptions, channel: &[u8]) {
        match Channel::of(channel) {
            Channel::Key(topic) => {
                let left = keyspace.unsubscribe(&topic, own.number);
                if let Some(record) = left.filter(|_| topic.kind == Kind::Messages) {
                    own.channels.remove(record);
                }
            }
            Channel::Event(name) => {
                let mut events = self.events.write();
                remove(&mut events, name, own.number);
                self.event_count.store(events.len(), Relaxed);
            }
        }
        own.names.remove(channel);
    }

    /// Takes a client out of every channel; returns their names.
    pub fn unsubscribe_all(&self, keyspace: &Keyspace, own: &mut Subscriptions) -> Vec<Box<[u8]>> {
        let records = std::mem::take(&mut own.channels);
        let mut left: Vec<Box<[u8]>> = records
            .iter()
            .filter_map(|record| keyspace.unsubscribe_from(record, own.number))
            .collect();
        for name in own.names.clone() {
            self.unsubscribe(keyspace, own, &name);
            left.push(name);
        }
        left
    }

    pub fn subscribe_to_shard(&self, keyspace: &Keyspace, own: &mut Subscriptions, channel: &[u8]) {
        let subscribed = keyspace.subscribe(&shard_topic(channel), own.number);
        own.shard_channels.insert(subscribed.record);
    }

    pub fn unsubscribe_from_shard(&self, keyspace: &Keyspace, own: &mut Subscriptions, channel: &[u8]) {
        if let Some(record) = keyspace.unsubscribe(&shard_topic(channel), own.number) {
            own.shard_channels.remove(record);
        }
    }

    /// Takes a client out of every shard channel; returns their names.
    pub fn unsubscribe_from_all_shards(
        &self,
        keyspace: &Keyspace,
        own: &mut Subscriptions,
    ) -> Vec<Box<[u8]>> {
        let records = std::mem::take(&mut own.shard_channels);
        let keys = records
            .iter()
            .filter_map(|record| keyspace.unsubscribe_from(record, own.number));
        keys.collect()
    }

    pub fn subscribe_to_pattern(&self, own: &mut Subscriptions, pattern: &[u8]) {
        let mut patterns = self.patterns.write();
        patterns.entry(pattern.into()).or_default().insert(own.number);
        self.pattern_count.store(patterns.len(), Relaxed);
        own.patterns.insert(pattern.into());
    }

    pub fn unsubscribe_from_pattern(&self, own: &mut Subscriptions, pattern: &[u8]) {
        let mut patterns = self.patterns.write();
        remove(&mut patterns, pattern, own.number);
        self.pattern_count.store(patterns.len(), Relaxed);
        own.patterns.remove(pattern);
    }

    /// The subscriptions of a client that has had none so far.
    pub fn enter(&self, client: &Arc<Client>) -> Box<Subscriptions> {
        self.clients.fetch_add(1, Relaxed);
        Box::new(Subscriptions::new(self.delivery.enter(client)))
    }

    /// Ends all subscriptions of a client, in time proportional to their number.
    pub fn leave(&self, keyspace: &Keyspace, mut own: Box<Subscriptions>) {
        self.unsubscribe_all(keyspace, &mut own);
        self.unsubscribe_from_all_shards(keyspace, &mut own);
        for pattern in own.patterns.clone() {
            self.unsubscribe_from_pattern(&mut own, &pattern);
        }
        self.delivery.leave(own.number);
        self.clients.fetch_sub(1, Relaxed);
    }

    /// Clients that have subscribed to something.
    pub fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// Subscribers of a channel; patterns do not count.
    pub fn subscribers_of(&self, keyspace: &Keyspace, channel: &[u8]) -> usize {
        let found = match Channel::of(channel) {
            Channel::Key(topic) => keyspace.with_subscribers(&topic, Subscribers::len),
            Channel::Event(name) => self.events.read().get(name).map(Subscribers::len),
        };
        found.unwrap_or(0)
    }

    pub fn subscribers_of_shard(&self, keyspace: &Keyspace, channel: &[u8]) -> usize {
        let found = keyspace.with_subscribers(&shard_topic(channel), Subscribers::len);
        found.unwrap_or(0)
    }

    /// The names of all channels, or of all shard channels, that have subscribers and fit a pattern.
    pub fn channels(&self, keyspace: &Keyspace, pattern: Option<&[u8]>, of_shards: bool) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut add = |name: Vec<u8>| {
            if pattern.is_none_or(|pattern| glob::matches(pattern, &name)) {
                names.push(name);
            }
        };
        keyspace.visit_topics(|topic, _| {
            if topic.kind.is_channel() && (topic.kind == Kind::ShardMessages) == of_shards {
                add(channel::name_of(&topic));
            }
        });
        if !of_shards {
            self.events.read().keys().for_each(|name| add(name.to_vec()));
        }
        names
    }

    /// Shows every channel (`false`) and pattern (`true`) with its subscribers, while its lock is held.
    pub fn each_subscription(&self, keyspace: &Keyspace, mut show: impl FnMut(&[u8], bool, &Subscribers)) {
        keyspace.visit_topics(|topic, subscribers| {
            if topic.kind != Kind::Transactions {
                show(&channel::name_of(&topic), false, subscribers);
            }
        });
        let shown = [(&self.events, false), (&self.patterns, true)];
        for (names, are_patterns) in shown {
            for (name, subscribers) in names.read().iter() {
                show(name, are_patterns, subscribers);
            }
        }
    }

    /// Different patterns that are subscribed to.
    pub fn patterns(&self) -> usize {
        self.pattern_count.load(Relaxed)
    }

    /// Channels of events that are subscribed to.
    pub fn event_channels(&self) -> usize {
        self.event_count.load(Relaxed)
    }
}

fn shard_topic(channel: &[u8]) -> Topic<'_> {
    Topic {
        kind: Kind::ShardMessages,
        db: 0,
        key: channel,
    }
}

fn remove(all: &mut ByName, name: &[u8], client: u32) {
    if let Some(subscribers) = all.get_mut(name) {
        subscribers.remove(client);
        if subscribers.is_empty() {
            all.remove(name);
        }
    }
    if all.is_empty() {
        *all = ByName::default();
    }
}
