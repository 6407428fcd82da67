//! Consumer groups: how far each has read, who has which entries and has not acknowledged them.
//!
//! ```text
//! group:     last delivered id, entries read | pending: id -> time, deliveries, consumer | consumers
//! consumer:  name, seen, active | pending: ids
//! ```
//!
//! Guarantees: an id is pending at most once in a group, and stands in the list of just that consumer which the
//! group's list names. Pending entries need not exist in the stream: they stay until they are acknowledged.

use super::super::size_class;
use super::id::StreamId;
use super::id_map::{IdMap, Range};
use std::ops::{Deref, DerefMut};

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// When it was last delivered, in unix milliseconds.
    pub delivered_ms: i64,
    pub deliveries: u64,
    pub consumer: ConsumerNumber,
}

/// Stands for a consumer in its group, as long as the consumer exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerNumber(u32);

#[derive(Clone)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it last asked for something, in unix milliseconds.
    pub seen_ms: i64,
    /// When it last got or claimed something; -1 for never.
    pub active_ms: i64,
    pending: IdMap<()>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How many entries are pending.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Pending ids from one to another, both included.
    pub fn pending(&self, from: StreamId, to: StreamId) -> impl Iterator<Item = StreamId> + Clone + '_ {
        self.pending.range(from, to).map(|(id, ())| id)
    }

    fn bytes(&self) -> usize {
        size_class(size_of::<Consumer>()) + size_class(self.name.len()) + self.pending.bytes()
    }
}

#[derive(Clone, Default)]
pub struct Group {
    pub last_id: StreamId,
    /// Entries that were read up to the last id; none when that is not known.
    pub entries_read: Option<u64>,
    pending: IdMap<Pending>,
    /// By number; a place is used again after its consumer has gone.
    consumers: Vec<Option<Box<Consumer>>>,
    /// Numbers in the order of names.
    by_name: Vec<ConsumerNumber>,
    /// Heap bytes of the consumers.
    consumer_bytes: usize,
}

impl Group {
    pub fn bytes(&self) -> usize {
        self.pending.bytes()
            + self.consumer_bytes
            + size_class(self.consumers.capacity() * size_of::<Option<Box<Consumer>>>())
            + size_class(self.by_name.capacity() * size_of::<ConsumerNumber>())
    }

    pub fn consumer_count(&self) -> usize {
        self.by_name.len()
    }

    /// Consumers by name.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.by_name.iter().map(|number| self.consumer(*number))
    }

    pub fn consumer(&self, number: ConsumerNumber) -> &Consumer {
        // proof: a number is given for a consumer that exists, and goes from every list with it.
        self.consumers[number.0 as usize]
            .as_ref()
            .expect("a consumer that exists")
    }

    /// Notes that a consumer asked for something, or got something too.
    pub fn note(&mut self, number: ConsumerNumber, now_ms: i64, active: bool) {
        let consumer = self.consumer_mut(number);
        consumer.seen_ms = now_ms;
        if active {
            consumer.active_ms = now_ms;
        }
    }

    fn consumer_mut(&mut self, number: ConsumerNumber) -> &mut Consumer {
        // proof: as in `consumer`.
        self.consumers[number.0 as usize]
            .as_mut()
            .expect("a consumer that exists")
    }

    fn search(&self, name: &[u8]) -> Result<usize, usize> {
        self.by_name
            .binary_search_by(|number| self.consumer(*number).name().cmp(name))
    }

    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerNumber> {
        self.search(name).ok().map(|at| self.by_name[at])
    }

    /// Makes a consumer; the other value is false when it was there already.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: i64) -> (ConsumerNumber, bool) {
        let at = match self.search(name) {
            Ok(at) => return (self.by_name[at], false),
            Err(at) => at,
        };
        let consumer = Box::new(Consumer {
            name: name.into(),
            seen_ms: now_ms,
            active_ms: -1,
            pending: IdMap::default(),
        });
        self.consumer_bytes += consumer.bytes();
        let free = self.consumers.iter().position(Option::is_none);
        let free = free.unwrap_or_else(|| {
            self.consumers.push(None);
            self.consumers.len() - 1
        });
        self.consumers[free] = Some(consumer);
        let number = ConsumerNumber(free as u32);
        self.by_name.insert(at, number);
        (number, true)
    }

    /// Removes a consumer and what is pending for it; returns how many entries these were.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let at = self.search(name).ok()?;
        let number = self.by_name.remove(at);
        let consumer = self.consumers[number.0 as usize].take()?;
        self.consumer_bytes -= consumer.bytes();
        for (id, ()) in consumer.pending.iter() {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    pub fn pending(&self, from: StreamId, to: StreamId) -> Range<'_, Pending> {
        self.pending.range(from, to)
    }

    pub fn find_pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(id)
    }

    /// First and last pending id.
    pub fn pending_bounds(&self) -> Option<(StreamId, StreamId)> {
        Some((self.pending.first()?.0, self.pending.last()?.0))
    }

    /// Notes a delivery: the entry is pending for this consumer from now on, whatever was before.
    pub fn set_pending(&mut self, id: StreamId, pending: Pending) {
        match self.pending.insert(id, pending) {
            Some(old) if old.consumer == pending.consumer => return,
            Some(old) => self.change_ids(old.consumer, |ids| {
                ids.remove(id);
            }),
            None => {}
        }
        self.change_ids(pending.consumer, |ids| {
            ids.insert(id, ());
        });
    }

    fn change_ids(&mut self, number: ConsumerNumber, change: impl FnOnce(&mut IdMap<()>)) {
        let ids = &mut self.consumer_mut(number).pending;
        let before = ids.bytes();
        change(ids);
        let after = ids.bytes();
        self.consumer_bytes = self.consumer_bytes + after - before;
    }

    /// Notes one more delivery to the same consumer.
    pub fn deliver_again(&mut self, id: StreamId, now_ms: i64) {
        if let Some(pending) = self.pending.get_mut(id) {
            pending.delivered_ms = now_ms;
            pending.deliveries += 1;
        }
    }

    /// Takes an entry off the pending ones; false when it was none.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(id) else {
            return false;
        };
        self.change_ids(pending.consumer, |ids| {
            ids.remove(id);
        });
        true
    }
}

/// The groups of a stream, by name.
#[derive(Clone, Default)]
pub struct Groups {
    groups: Vec<(Box<[u8]>, Box<Group>)>,
    /// Heap bytes of names and groups.
    bytes: usize,
}

impl Groups {
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes + size_class(self.groups.capacity() * size_of::<(Box<[u8]>, Box<Group>)>())
    }

    fn bytes_of(name: &[u8], group: &Group) -> usize {
        size_class(name.len()) + size_class(size_of::<Group>()) + group.bytes()
    }

    fn search(&self, name: &[u8]) -> Result<usize, usize> {
        self.groups.binary_search_by(|(other, _)| (**other).cmp(name))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, &**group))
    }

    pub fn get(&self, name: &[u8]) -> Option<&Group> {
        let at = self.search(name).ok()?;
        Some(&self.groups[at].1)
    }

    pub fn get_mut(&mut self, name: &[u8]) -> Option<GroupMut<'_>> {
        let at = self.search(name).ok()?;
        let group = &mut *self.groups[at].1;
        Some(GroupMut {
            before: group.bytes(),
            group,
            total: &mut self.bytes,
        })
    }

    /// Makes a group; false when there is one of this name.
    pub fn create(&mut self, name: &[u8], last_id: StreamId, entries_read: Option<u64>) -> bool {
        let Err(at) = self.search(name) else {
            return false;
        };
        let group = Box::new(Group {
            last_id,
            entries_read,
            ..Group::default()
        });
        self.bytes += Self::bytes_of(name, &group);
        self.groups.insert(at, (name.into(), group));
        true
    }

    /// Removes a group; false when there is none of this name.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let Ok(at) = self.search(name) else {
            return false;
        };
        let (name, group) = self.groups.remove(at);
        self.bytes -= Self::bytes_of(&name, &group);
        true
    }
}

/// A group that is being changed: its bytes are counted when that is over.
pub struct GroupMut<'a> {
    group: &'a mut Group,
    before: usize,
    total: &'a mut usize,
}

impl Deref for GroupMut<'_> {
    type Target = Group;

    fn deref(&self) -> &Group {
        self.group
    }
}

impl DerefMut for GroupMut<'_> {
    fn deref_mut(&mut self) -> &mut Group {
        self.group
    }
}

impl Drop for GroupMut<'_> {
    fn drop(&mut self) {
        *self.total = *self.total + self.group.bytes() - self.before;
    }
}

#[cfg(test)]
mod tests;
