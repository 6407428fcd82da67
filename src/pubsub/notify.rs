//! From what has happened to a key to messages about it.
//!
//! A change is told to those who subscribed to `__keyspace@<db>__:<key>` by name whatever the settings say; to those
//! of patterns, and of `__keyevent@<db>__:<event>`, as `notify-keyspace-events` and the option `notify` of the key's
//! range say.
//!
//! Subscribers of `__keyvalue@<db>__:<key>` get the event, the journal offset behind it (0 in a memory range) and the
//! news of the value, in one string, because that is what every client library hands on ([`news`]). The first message
//! is the value as it was when they subscribed, under the same lock: applying the others to it, in order, is a copy of
//! the key with no gap and nothing twice.

use super::{PubSub, channel};
use crate::keyspace::Keyspace;
use crate::keyspace::effects::Said;
use crate::keyspace::events::{Happened, Listener, News};
use crate::keyspace::subscribers::Subscribers;
use crate::net::clients::client_flag;
use crate::pubsub::message::{Message, Word, word};
use std::sync::atomic::Ordering::Relaxed;

impl Listener for PubSub {
    fn listens(&self) -> bool {
        self.pattern_count.load(Relaxed) + self.event_count.load(Relaxed) > 0
    }

    fn said(&self, keyspace: &Keyspace, said: &Said) {
        if said.to_shard {
            self.publish_to_shard(keyspace, &said.channel, &said.message);
        } else {
            self.publish(keyspace, &said.channel, &said.message);
        }
    }

    fn happened(&self, what: &Happened<'_>) {
        let wanted = |form| what.notify.has(form) && what.notify.has(what.event.class());
        let name = what.event.name().as_bytes();
        let by_pattern = wanted(b'K') && self.patterns() > 0;
        if by_pattern || what.changes.is_some() && what.event.is_change() {
            let channel = channel::changes_of_in_parts(what.db, what.key);
            if let Some(subscribers) = what.changes.filter(|_| what.event.is_change()) {
                self.send_message(subscribers, channel, name);
            }
            if by_pattern {
                self.publish_to_patterns(&[channel.0, channel.1].concat(), name);
            }
        }
        if let Some(subscribers) = what.values.filter(|_| what.event.is_change()) {
            if what.gated {
                self.delivery.gate(subscribers, what.offset);
            }
            let channel = channel::values_of_in_parts(what.db, what.key);
            let (kind, bytes) = parts(what.news);
            let head = Head {
                event: what.event.name(),
                offset: what.offset,
                what: kind,
                more: what.more,
            };
            self.send_message(subscribers, channel, &news(&head, bytes));
        }
        if wanted(b'E') {
            let channel = channel::event(what.db, name);
            if let Some(subscribers) = self.events.read().get(&channel[..]) {
                self.send_message(subscribers, word(&channel), what.key);
            }
            self.publish_to_patterns(&channel, what.key);
        }
    }

    fn touched(&self, who: &Subscribers) {
        self.delivery
            .each(who, |client| client.set(client_flag::BROKEN, true));
    }

    fn stale(&self, key: &[u8], who: &Subscribers, by: u64) {
        self.tell_stale(key, who, by);
    }

    fn changed(&self, key: &[u8], by: u64) {
        self.note_changed(key, by);
    }

    fn all_stale(&self) {
        self.tell_all_stale();
    }
}

/// What the bytes of a message to a subscriber of values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The whole string.
    Value,
    /// Commands of one key that lead from the value before to the one now; in the first message of all one that makes
    /// the value from nothing.
    Effects,
    /// There is no value; no bytes follow.
    Gone,
    /// There may be another value now, and it was not looked at; no bytes follow.
    Unknown,
}

/// The line with which a message to a subscriber of values begins: `<event> <offset> <what>`, and ` more` when another
/// message with the same offset follows.
pub struct Head<'a> {
    pub event: &'a str,
    /// Journal offset behind the change; 0 in a memory range.
    pub offset: u64,
    pub what: What,
    pub more: bool,
}

/// The line, and the bytes.
pub fn news(head: &Head<'_>, bytes: &[u8]) -> Vec<u8> {
    let what = match head.what {
        What::Value => "value",
        What::Effects => "effects",
        What::Gone => "gone",
        What::Unknown => "unknown",
    };
    let more = if head.more { " more" } else { "" };
    let line = format!("{} {} {what}{more}\n", head.event, head.offset);
    [line.as_bytes(), bytes].concat()
}

fn parts(news: &News) -> (What, &[u8]) {
    match news {
        News::None => (What::Gone, b""),
        News::Unknown => (What::Unknown, b""),
        News::Value(value) => (What::Value, value),
        News::Effects(effects) => (What::Effects, effects),
    }
}

impl PubSub {
    /// The first message to a subscriber of values: what the value is now.
    pub(super) fn send_value(&self, client: u32, channel: &[u8], value: &News, offset: u64) {
        let mut subscribers = Subscribers::default();
        subscribers.insert(client);
        let (what, bytes) = parts(value);
        let head = Head {
            event: "now",
            offset,
            what,
            more: false,
        };
        self.send_message(&subscribers, word(channel), &news(&head, bytes));
    }

    fn send_message(&self, subscribers: &Subscribers, channel: Word<'_>, payload: &[u8]) {
        let words = [word(b"message"), channel, word(payload)];
        self.delivery.send(subscribers, &Message::new(&words));
    }
}
