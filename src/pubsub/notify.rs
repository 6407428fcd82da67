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
use crate::keyspace::events::{Event, Happened, Listener, News};
use crate::keyspace::subscribers::Subscribers;
use crate::net::clients::client_flag;
use crate::pubsub::message::Message;
use std::sync::atomic::Ordering::Relaxed;

impl Listener for PubSub {
    fn listens(&self) -> bool {
        self.pattern_count.load(Relaxed) + self.event_count.load(Relaxed) > 0
    }

    fn happened(&self, what: &Happened<'_>) {
        let wanted = |form| what.notify.has(form) && what.notify.has(what.event.class());
        let name = what.event.name().as_bytes();
        let by_pattern = wanted(b'K') && self.patterns() > 0;
        if by_pattern || what.changes.is_some() && !is_no_change(what.event) {
            let channel = channel::changes_of(what.db, what.key);
            if let Some(subscribers) = what.changes.filter(|_| !is_no_change(what.event)) {
                self.send_message(subscribers, &channel, name);
            }
            if by_pattern {
                self.publish_to_patterns(&channel, name);
            }
        }
        if let Some(subscribers) = what.values.filter(|_| !is_no_change(what.event)) {
            let channel = channel::values_of(what.db, what.key);
            let news = news(what.event.name(), what.offset, what.news);
            self.send_message(subscribers, &channel, &news);
        }
        if wanted(b'E') {
            let channel = channel::event(what.db, name);
            if let Some(subscribers) = self.events.read().get(&channel[..]) {
                self.send_message(subscribers, &channel, what.key);
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

/// `<event> <offset> <what>`, a line end, and the bytes: what a subscriber of values gets.
///
/// ```text
/// value      the whole string
/// effects    commands of one key that lead from the value before to the one now; the first message of all has one
///            that makes the value from nothing
/// gone       there is no value; no bytes follow
/// ```
fn news(event: &str, offset: u64, news: &News) -> Vec<u8> {
    let (what, bytes): (&str, &[u8]) = match news {
        News::None => ("gone", b""),
        News::Value(value) => ("value", value),
        News::Effects(effects) => ("effects", effects),
    };
    [format!("{event} {offset} {what}\n").as_bytes(), bytes].concat()
}

/// A key that was looked for and is not there, or a second name for one change.
fn is_no_change(event: Event) -> bool {
    matches!(event, Event::KeyMiss | Event::New)
}

impl PubSub {
    /// The first message to a subscriber of values: what the value is now.
    pub(super) fn send_value(&self, client: u32, channel: &[u8], value: &News, offset: u64) {
        let mut subscribers = Subscribers::default();
        subscribers.insert(client);
        self.send_message(&subscribers, channel, &news("now", offset, value));
    }

    fn send_message(&self, subscribers: &Subscribers, channel: &[u8], payload: &[u8]) {
        let words: [&[u8]; 3] = [b"message", channel, payload];
        self.delivery.send(subscribers, &Message::new(&words));
    }
}
