//! A node: entries that follow each other, packed into one listpack in Redis's own layout, so that a stored stream is
//! a copy of its nodes.
//!
//! ```text
//! node:    live | deleted | n | field 1 … field n | 0 | entry …        the first part is the master entry
//! entry:   flags | ms - master's | seq - master's | value 1 … value n | elements        with SAME_FIELDS
//!          flags | ms - master's | seq - master's | m | field 1 | value 1 … value m | elements
//! ```
//!
//! Every part is an element of the listpack. The master's id is the key of the node: the id that its first entry had.
//! `elements` counts those of the entry before it, so that the node can be read backwards; the 0 ends that. An entry is
//! deleted by a flag: it stays until the whole node goes.
//!
//! Guarantees: what is in a `Node` has been checked or was written here, so that walks meet what the layout says.

use super::id::StreamId;
use crate::object::listpack::{Cursor, Item, Iter, Listpack};
use smallvec::SmallVec;

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// Elements that are to be written.
type Items<'a> = SmallVec<[Item<'a>; 12]>;

/// Elements of an entry besides its fields and values: flags, and both halves of the id.
const ENTRY_HEAD: i64 = 3;

#[derive(Clone)]
pub struct Node {
    list: Listpack,
}

/// The bytes of a node are not laid out as they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DamagedNode;

impl Node {
    /// A node with its first entry, whose id is the node's; fields and values in turns.
    pub fn new(pairs: &[&[u8]]) -> Node {
        let count = pairs.len() as i64 / 2;
        let mut items = Items::from_slice(&[Item::Int(1), Item::Int(0), Item::Int(count)]);
        items.extend(pairs.iter().step_by(2).map(|field| Item::of(field)));
        items.push(Item::Int(0));
        let mut list = Listpack::new();
        list.append_items(&items);
        let mut node = Node { list };
        node.append(StreamId::ZERO, true, pairs);
        node
    }

    /// Takes over a listpack from outside.
    pub fn from_listpack(list: Listpack, master: StreamId) -> Result<Node, DamagedNode> {
        check(&list, master).map(|()| Node { list })
    }

    pub fn listpack(&self) -> &Listpack {
        &self.list
    }

    pub fn heap_bytes(&self) -> usize {
        self.list.heap_bytes()
    }

    /// Bytes of the listpack.
    pub fn bytes(&self) -> usize {
        self.list.bytes()
    }

    /// Entries that are not deleted, and entries that are.
    pub fn counts(&self) -> (u64, u64) {
        let mut items = self.list.iter();
        let mut next = || items.next().map_or(0, int) as u64;
        (next(), next())
    }

    /// Appends an entry behind all others.
    pub fn push(&mut self, master: StreamId, id: StreamId, pairs: &[&[u8]]) {
        let same = self.has_fields(pairs);
        // proof: every node has a master entry, which begins with the count.
        let first = self.list.first().expect("a node has a count");
        let live = int(self.list.get(first));
        self.list.replace_int(first, live + 1);
        let delta = StreamId::new(id.ms.wrapping_sub(master.ms), id.seq.wrapping_sub(master.seq));
        self.append(delta, same, pairs);
    }

    fn append(&mut self, delta: StreamId, same: bool, pairs: &[&[u8]]) {
        let count = pairs.len() as i64 / 2;
        let mut items = Items::from_slice(&[
            Item::Int(if same { SAME_FIELDS } else { 0 }),
            Item::Int(delta.ms as i64),
            Item::Int(delta.seq as i64),
        ]);
        if same {
            pairs
                .chunks_exact(2)
                .for_each(|pair| items.push(Item::of(pair[1])));
        } else {
            items.push(Item::Int(count));
            pairs.iter().for_each(|text| items.push(Item::of(text)));
        }
        items.push(Item::Int(items.len() as i64));
        self.list.append_items(&items);
    }

    /// Whether the master entry has just these fields.
    fn has_fields(&self, pairs: &[&[u8]]) -> bool {
        let mut items = self.list.iter().skip(2);
        items.next() == Some(Item::Int(pairs.len() as i64 / 2))
            && pairs
                .iter()
                .step_by(2)
                .all(|field| items.next().is_some_and(|item| item.eq_bytes(field)))
    }

    fn set_counts(&mut self, live: u64, deleted: u64) {
        // proof: every node has a master entry, whose first two elements these are.
        let first = self.list.first().expect("a node has a count");
        let first = self.list.replace_int(first, live as i64);
        let second = self.list.next(first).expect("a node has two counts");
        if self.list.get(second) != Item::Int(deleted as i64) {
            self.list.replace_int(second, deleted as i64);
        }
    }

    /// Marks entries as deleted that are not yet; returns how many these were.
    fn delete_at(&mut self, entries: impl Iterator<Item = (Cursor, i64)>) -> u64 {
        let mut count = 0;
        for (at, flags) in entries {
            // As long as before: places of other entries stay.
            self.list.replace_int(at, flags | DELETED);
            count += 1;
        }
        let (live, deleted) = self.counts();
        self.set_counts(live - count, deleted + count);
        count
    }

    /// Deletes an entry; false when it is not here.
    pub fn delete(&mut self, master: StreamId, id: StreamId) -> bool {
        let Some(entry) = self.find(master, id) else {
            return false;
        };
        let found = (entry.at, entry.flags);
        self.delete_at(std::iter::once(found)) > 0
    }

    /// Deletes the first entries, while `goes` says so of an entry's id and of how many were deleted before it.
    pub fn delete_front(&mut self, master: StreamId, goes: impl Fn(StreamId, u64) -> bool) -> u64 {
        let mut found = Vec::new();
        let mut walk = Walk::new(self, master);
        while let Some(entry) = walk.next_of_all() {
            if !goes(entry.id, found.len() as u64) {
                break;
            }
            if !entry.is_deleted() {
                found.push((entry.at, entry.flags));
            }
        }
        self.delete_at(found.into_iter())
    }

    /// The entry with an id, if it is here and not deleted.
    pub fn find(&self, master: StreamId, id: StreamId) -> Option<Entry<'_>> {
        let mut walk = Walk::new(self, master);
        walk.seek(id);
        let entry = walk.next_of_all()?;
        (entry.id == id && !entry.is_deleted()).then_some(entry)
    }

    /// Id of the last entry, deleted or not.
    pub fn last_id(&self, master: StreamId) -> Option<StreamId> {
        Walk::from_end(self, master).prev_of_all().map(|entry| entry.id)
    }
}

/// An integer of the layout; one that is none does not get into a node.
#[inline]
fn int(item: Item<'_>) -> i64 {
    match item {
        Item::Int(value) => value,
        Item::Bytes(_) => 0,
    }
}

/// An entry in its node.
#[derive(Clone)]
pub struct Entry<'a> {
    pub id: StreamId,
    pub fields: Fields<'a>,
    /// Where its flags stand.
    at: Cursor,
    flags: i64,
}

impl Entry<'_> {
    pub fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }
}

/// Fields and values of an entry.
#[derive(Clone)]
pub struct Fields<'a> {
    /// The master entry's, where they are the same.
    names: Option<Iter<'a>>,
    items: Iter<'a>,
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(names) => names.next(),
            None => self.items.next(),
        };
        Some((name?, self.items.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// A walk over the entries of a node, from one of its ends.
#[derive(Clone)]
pub struct Walk<'a> {
    list: &'a Listpack,
    master: StreamId,
    /// The master's fields, and how many.
    names: Iter<'a>,
    count: usize,
    /// Forwards, the flags of the entry that comes; backwards, the last element of the one that comes.
    at: Option<Cursor>,
}

impl<'a> Walk<'a> {
    /// From the first entry on.
    pub fn new(node: &'a Node, master: StreamId) -> Walk<'a> {
        let mut walk = Walk::of(node, master);
        let mut items = walk.names.clone();
        // The names, and the 0 behind them.
        items.pass(walk.count + 1);
        walk.at = items.cursor();
        walk
    }

    /// From the last entry back.
    pub fn from_end(node: &'a Node, master: StreamId) -> Walk<'a> {
        Walk {
            at: node.list.last(),
            ..Walk::of(node, master)
        }
    }

    fn of(node: &'a Node, master: StreamId) -> Walk<'a> {
        let list = &node.list;
        let mut names = list.iter();
        names.next();
        names.next();
        let count = names.next().map_or(0, int) as usize;
        Walk {
            list,
            master,
            names,
            count,
            at: None,
        }
    }

    /// Flags and id of the entry whose flags come next.
    #[inline]
    fn head(&self, items: &mut Iter<'a>) -> (i64, StreamId) {
        let mut next = || items.next().map_or(0, int);
        let (flags, ms, seq) = (next(), next(), next());
        let id = StreamId::new(
            self.master.ms.wrapping_add(ms as u64),
            self.master.seq.wrapping_add(seq as u64),
        );
        (flags, id)
    }

    /// How many fields the entry has whose flags and id were just read.
    #[inline]
    fn field_count(&self, flags: i64, items: &mut Iter<'a>) -> usize {
        if flags & SAME_FIELDS != 0 {
            self.count
        } else {
            items.next().map_or(0, int) as usize
        }
    }

    /// The entry whose flags stand at a place, and what stands behind it.
    #[inline]
    fn entry(&self, at: Cursor) -> (Entry<'a>, Option<Cursor>) {
        let mut items = self.list.iter_from(at);
        let (flags, id) = self.head(&mut items);
        let left = self.field_count(flags, &mut items);
        let names = (flags & SAME_FIELDS != 0).then(|| self.names.clone());
        let elements = if names.is_some() { left } else { 2 * left };
        let fields = Fields {
            names,
            items: items.clone(),
            left,
        };
        items.pass(elements + 1);
        let entry = Entry {
            id,
            fields,
            at,
            flags,
        };
        (entry, items.cursor())
    }

    /// Goes on to the first entry that is not before an id.
    pub fn seek(&mut self, from: StreamId) {
        while let Some(at) = self.at {
            let mut items = self.list.iter_from(at);
            let (flags, id) = self.head(&mut items);
            if id >= from {
                break;
            }
            let count = self.field_count(flags, &mut items);
            let elements = if flags & SAME_FIELDS != 0 {
                count
            } else {
                2 * count
            };
            items.pass(elements + 1);
            self.at = items.cursor();
        }
    }

    /// The next entry, deleted ones too.
    #[inline]
    pub fn next_of_all(&mut self) -> Option<Entry<'a>> {
        let (entry, behind) = self.entry(self.at?);
        self.at = behind;
        Some(entry)
    }

    /// The entry before, deleted ones too.
    pub fn prev_of_all(&mut self) -> Option<Entry<'a>> {
        let mut at = self.at?;
        let elements = int(self.list.get(at));
        if elements == 0 {
            // The end of the master entry.
            self.at = None;
            return None;
        }
        for _ in 0..elements {
            at = self.list.prev(at)?;
        }
        self.at = self.list.prev(at);
        Some(self.entry(at).0)
    }
}

/// Checks a listpack against the layout. Ids go up, and none is below the master's.
fn check(list: &Listpack, master: StreamId) -> Result<(), DamagedNode> {
    let mut items = list.iter();
    let number = |items: &mut Iter<'_>| match items.next() {
        Some(Item::Int(value)) => Ok(value),
        _ => Err(DamagedNode),
    };
    let (live, deleted, count) = (number(&mut items)?, number(&mut items)?, number(&mut items)?);
    let most = list.bytes() as i64;
    if live < 0 || deleted < 0 || live > most || deleted > most || !(0..most).contains(&count) {
        return Err(DamagedNode);
    }
    skip(&mut items, count)?;
    if number(&mut items)? != 0 {
        return Err(DamagedNode);
    }
    let (mut found, mut found_deleted, mut last) = (0, 0, None);
    while items.cursor().is_some() {
        let flags = number(&mut items)?;
        let (ms, seq) = (number(&mut items)?, number(&mut items)?);
        let elements = if flags & SAME_FIELDS != 0 {
            skip(&mut items, count)?;
            ENTRY_HEAD + count
        } else {
            let own = number(&mut items)?;
            if !(0..most).contains(&own) {
                return Err(DamagedNode);
            }
            skip(&mut items, 2 * own)?;
            ENTRY_HEAD + 1 + 2 * own
        };
        let id = StreamId::new(
            master.ms.wrapping_add(ms as u64),
            master.seq.wrapping_add(seq as u64),
        );
        let is_behind = last.map_or(id >= master, |last| id > last);
        if number(&mut items)? != elements || !(0..=3).contains(&flags) || !is_behind {
            return Err(DamagedNode);
        }
        last = Some(id);
        found += 1;
        found_deleted += i64::from(flags & DELETED != 0);
    }
    if found_deleted != deleted || found - found_deleted != live {
        return Err(DamagedNode);
    }
    Ok(())
}

fn skip(items: &mut Iter<'_>, count: i64) -> Result<(), DamagedNode> {
    (0..count).try_for_each(|_| items.next().map(|_| ()).ok_or(DamagedNode))
}
