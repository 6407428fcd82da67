//! What a transaction tells of its changes: noted as they are made, told when it ends.

use super::super::entry;
use super::super::events::{Event, NOBODY, News, Noted, mark_more};
use super::super::range::Range;
use super::super::records::{Kind, Topic};
use super::{Spot, Tx};

/// What has happened and is to be told.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) events: Vec<Noted>,
}

impl Tx<'_> {
    /// Adds a client to those who are told what becomes of the value of a key, and shows what it is now, with the
    /// journal offset of that: what it is told from then on follows without a gap.
    pub fn subscribe_to_value(&mut self, key: &[u8], client: u32, show: impl FnOnce(&News, u64)) {
        let found = self.find(key);
        let topic = Topic {
            kind: Kind::Values,
            db: self.call.db,
            key,
        };
        let offset = if self.map.find(key).is_durable() {
            self.guards[found.guard].1.last_offset
        } else {
            0
        };
        let state = &mut self.guards[found.guard].1;
        self.keyspace
            .add_subscriber(state, (self.db, found.hash), &topic, client);
        let news = self.at(found).map_or(News::None, News::of);
        show(&news, offset);
    }

    /// From now on changes are called this, whatever the command is.
    pub fn event(&mut self, event: Event) {
        self.event = Some(event);
    }

    /// Whether anybody wants to know what happens to a key of this range: what every change asks.
    #[inline]
    pub(super) fn is_heard(&self, watched: bool, range: &Range) -> bool {
        (watched || self.keyspace.is_broadcasting() || self.is_listened_to(range))
            && self.call.replay.is_none()
    }

    #[inline]
    fn is_listened_to(&self, range: &Range) -> bool {
        range.notifies() && self.keyspace.is_listened_to()
    }

    /// Says that a key has changed to those whose transactions depend on it, and to those who may have cached it.
    fn signal(&mut self, key: &[u8], by: u64) {
        let (hash, guard) = self.locate(key);
        let state = &mut self.guards[guard].1;
        self.keyspace.signal(state, (hash, self.db, key), by);
    }

    /// A client that has read a key may keep a copy until it hears that the key has changed. Returns the number of the
    /// record that says so.
    pub fn cached_by(&mut self, key: &[u8], client: u32) -> u32 {
        let (hash, guard) = self.locate(key);
        let topic = Topic {
            kind: Kind::Caches,
            db: self.call.db,
            key,
        };
        let (shard, state) = &mut self.guards[guard];
        let (slot, _) = self
            .keyspace
            .add_subscriber(state, (self.db, hash), &topic, client);
        self.keyspace.number_of(*shard, slot)
    }

    /// Notes that a value was written.
    #[cold]
    pub(super) fn note_write(
        &mut self,
        key: &[u8],
        is_new: bool,
        (called, also): (Option<Event>, Option<Event>),
        mut effects: Option<Vec<u8>>,
    ) {
        let event = called.or(self.event).or_else(|| Event::of(self.call.received));
        if is_new || event.is_some_and(Event::changes_value) {
            self.signal(key, self.effects.by());
        }
        if is_new || event.is_some_and(Event::makes_anew) {
            let before = self.events();
            self.note(key, Event::New);
            // In its new place a key is new before it has left the old one.
            let leaves = |noted: &Noted| matches!(noted.event, Event::RenameFrom | Event::MoveFrom);
            if before > 0
                && self
                    .heard
                    .as_ref()
                    .is_some_and(|heard| leaves(&heard.events[before - 1]))
            {
                self.told_first(before, before - 1);
            }
        }
        // What came with an expiry from elsewhere was not given one.
        let also = also.filter(|also| *also != Event::Expire || event == Some(Event::Set));
        let also = also.filter(|also| event != Some(*also));
        for event in event.into_iter().chain(also) {
            // All of them came with the first; the next has nothing to add.
            let rest = effects.as_ref().map(|_| Vec::new());
            let news = self.news(key, event, std::mem::replace(&mut effects, rest));
            self.note_with(key, event, news);
        }
    }

    #[cold]
    pub(super) fn note(&mut self, key: &[u8], event: Event) {
        if event.changes_value() {
            // Whoever met it first: that a key has expired is news to its own client, too.
            let by = if event == Event::Expired {
                NOBODY
            } else {
                self.effects.by()
            };
            self.signal(key, by);
        }
        let news = self.news(key, event, None);
        self.note_with(key, event, news);
    }

    /// Whether somebody wants to know what becomes of the value at a spot.
    #[inline]
    pub(super) fn wants_values(&self, spot: Spot, key: &[u8]) -> bool {
        let state = &self.guards[spot.guard].1;
        !state.records.is_empty()
            && self.at(spot).is_none_or(|entry| entry.has(entry::WATCHED))
            && self
                .keyspace
                .subscribers_of(state, spot.hash, (Kind::Values, self.db, key))
                .is_some()
    }

    /// What those are told of an event who want to know what becomes of the value; `effects` made it, if they are known.
    pub(super) fn news(&self, key: &[u8], event: Event, effects: Option<Vec<u8>>) -> News {
        let (hash, guard) = self.locate(key);
        let state = &self.guards[guard].1;
        let values = self
            .keyspace
            .subscribers_of(state, hash, (Kind::Values, self.db, key));
        if values.is_none() {
            return News::None;
        }
        let entry = state.find(hash, self.db, key).filter(|entry| !entry.is_absent());
        match (event, entry) {
            (_, None) => News::None,
            (Event::Expire, Some(entry)) => {
                let mut digits = itoa::Buffer::new();
                let at = digits.format(entry.expiry().unwrap_or(0)).as_bytes();
                News::command(&[b"PEXPIREAT", key, at])
            }
            (Event::Persist, _) => News::command(&[b"PERSIST", key]),
            (event, _) if event.ends_value() => News::None,
            (_, Some(entry)) => match (entry.object(), effects) {
                (Some(_), Some(effects)) => News::Effects(effects),
                _ => News::of(entry),
            },
        }
    }

    /// The one place where an event is noted.
    pub(super) fn note_with(&mut self, key: &[u8], event: Event, news: News) {
        let (hash, guard) = self.locate(key);
        let state = &self.guards[guard].1;
        let values = self
            .keyspace
            .subscribers_of(state, hash, (Kind::Values, self.db, key))
            .is_some();
        self.heard.get_or_insert_default().events.push(Noted {
            event,
            guard,
            hash,
            db: (self.call.db, self.db),
            key: key.into(),
            news,
            values,
            more: false,
        });
    }

    /// What was noted of keys of one guard's shard is told with the rest.
    pub(super) fn note_all(&mut self, guard: usize, noted: Vec<Noted>) {
        if !noted.is_empty() {
            let heard = &mut self.heard.get_or_insert_default().events;
            heard.extend(noted.into_iter().map(|noted| Noted { guard, ..noted }));
        }
    }

    /// A key was looked for and is not there.
    #[inline]
    pub(super) fn miss(&mut self, key: &[u8]) {
        let range = self.map.find(key);
        let is_told = || range.policy.notify.has(b'm') && !Event::looks_only(self.call.received);
        if self.call.replay.is_none() && self.is_listened_to(range) && is_told() {
            self.note(key, Event::KeyMiss);
        }
    }

    /// How many events there are so far, for `told_first`.
    pub fn events(&self) -> usize {
        self.heard.as_ref().map_or(0, |heard| heard.events.len())
    }

    /// The events from number `from` on are told before those from number `to` on, which came first.
    pub fn told_first(&mut self, from: usize, to: usize) {
        if let Some(heard) = &mut self.heard {
            heard.events[to..].rotate_left(from - to);
        }
    }

    #[cold]
    pub(super) fn tell(&mut self, mut heard: Vec<Noted>, offset: u64) {
        if !self.effects.is_grouped() {
            mark_more(&mut heard);
        }
        for mut noted in heard {
            let (shard, state) = &mut self.guards[noted.guard];
            if self.effects.is_grouped() {
                noted.guard = *shard;
                self.effects.keep(noted);
            } else {
                self.keyspace.tell_of(&self.map, state, &noted, offset);
            }
        }
    }
}
