//! From what has happened to a key to messages about it.
//!
//! A change is told to those who subscribed to `__keyspace@<db>__:<key>` by name whatever the settings say; to those
//! of patterns, and of `__keyevent@<db>__:<event>`, as `notify-keyspace-events` and the option `notify` of the key's
//! range say. Subscribers of `__keyvalue@<db>__:<key>` get an array: the event, the journal offset behind it, and the
//! news of the value.

use super::{PubSub, channel};
use crate::keyspace::events::{Event, Happened, Listener};
use crate::keyspace::subscribers::Subscribers;
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
        if wanted(b'E') {
            let channel = channel::event(what.db, name);
            if let Some(subscribers) = self.events.read().get(&channel[..]) {
                self.send_message(subscribers, &channel, what.key);
            }
            self.publish_to_patterns(&channel, what.key);
        }
    }
}

/// A key that was looked for and is not there, or a second name for one change.
fn is_no_change(event: Event) -> bool {
    matches!(event, Event::KeyMiss | Event::New)
}

impl PubSub {
    fn send_message(&self, subscribers: &Subscribers, channel: &[u8], payload: &[u8]) {
        let words: [&[u8]; 3] = [b"message", channel, payload];
        self.delivery.send(subscribers, &Message::new(&words));
    }
}
