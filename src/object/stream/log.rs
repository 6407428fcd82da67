//! The entries of a stream, in packed nodes, and what is known of those that were there.
//!
//! Guarantees: ids only go up; no node is without an entry that is not deleted; bytes are counted as nodes change.

use super::id::StreamId;
use super::id_map::{IdMap, Range};
use super::node::{DamagedNode, Entry, Node, Walk};
use super::paged::LogPages;
use crate::object::Limits;
use crate::object::listpack::Listpack;
use crate::object::size_class;

/// Bytes of fields and values together that one entry may have.
pub const ENTRY_BYTES_MAX: usize = 1 << 30;

/// The log of a stream. Its facts beside the entries can be set freely (XSETID, a stored stream).
#[derive(Clone, Default)]
pub struct Log {
    pub(super) nodes: IdMap<Node>,
    /// Heap bytes of the nodes.
    pub(super) node_bytes: usize,
    /// Entries that are not deleted.
    pub(super) len: u64,
    /// The first of them; 0-0 when there is none.
    pub(super) first_id: StreamId,
    /// The greatest id ever given.
    pub last_id: StreamId,
    /// The greatest id that XDEL ever deleted.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
    /// Of one whose nodes need not all be in memory: which are, and what has changed.
    pub(super) pages: Option<Box<LogPages>>,
}

/// What a trim leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The newest so many.
    Newest(u64),
    /// Those from this id on.
    From(StreamId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    pub keep: Keep,
    /// Only whole nodes go.
    pub approximate: bool,
    /// At most so many entries are looked at; 0 is no limit.
    pub limit: u64,
}

impl Log {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        let pages = self
            .pages
            .as_ref()
            .map_or(0, |pages| size_class(size_of::<LogPages>()) + pages.bytes());
        self.nodes.bytes() + self.node_bytes + pages
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.pages
            .as_ref()
            .map_or(self.nodes.len(), |pages| pages.nodes() as usize)
    }

    /// So many entries are to come in nodes, from this one on.
    pub fn expect_entries(&mut self, len: u64, first_id: StreamId) {
        (self.len, self.first_id) = (len, first_id);
    }

    /// The nodes as they are stored: each with the id that its ids are relative to.
    pub fn nodes(&self) -> impl Iterator<Item = (StreamId, &Listpack)> {
        self.nodes.iter().map(|(id, node)| (id, node.listpack()))
    }

    /// Takes a node over from a stored stream; nodes come in order. The facts beside the entries are set afterwards.
    pub fn push_node(&mut self, id: StreamId, list: Listpack) -> Result<(), DamagedNode> {
        let node = Node::from_listpack(list, id)?;
        let last = self.nodes.last().map(|(id, node)| node.last_id(id));
        if last.is_some_and(|last| last >= Some(id)) {
            return Err(DamagedNode);
        }
        let (live, _) = node.counts();
        // One without entries says nothing: it is what other servers leave behind an exact trim.
        if live > 0 {
            self.node_bytes += node.heap_bytes();
            self.nodes.insert(id, node);
            if self.len == 0 {
                self.len = live;
                self.find_first();
            } else {
                self.len += live;
            }
        }
        Ok(())
    }

    /// Appends an entry of fields and values in turns. `id` is greater than the last one, and the texts together are
    /// within `ENTRY_BYTES_MAX`.
    pub fn append(&mut self, id: StreamId, pairs: &[&[u8]], limits: &Limits) {
        debug_assert!(id > self.last_id);
        let added: usize = pairs.iter().map(|text| text.len()).sum();
        let pages = &mut self.pages;
        let is_last = |master| pages.as_ref().is_none_or(|pages| pages.is_last(master));
        match self.nodes.last_mut() {
            Some((master, node)) if has_room(node, added, limits) && is_last(master) => {
                let before = node.heap_bytes();
                node.push(master, id, pairs);
                self.node_bytes += node.heap_bytes() - before;
                if let Some(pages) = pages {
                    pages.note_change(master);
                }
            }
            _ => {
                let node = Node::new(pairs);
                self.node_bytes += node.heap_bytes();
                self.nodes.insert(id, node);
                if let Some(pages) = pages {
                    pages.note_new(id);
                }
            }
        }
        self.entries_added += 1;
        self.last_id = id;
        if self.len == 0 {
            self.first_id = id;
        }
        self.len += 1;
    }

    /// Deletes an entry; false when there is none of this id.
    pub fn delete(&mut self, id: StreamId) -> bool {
        self.expect_from(id);
        let Some((master, _)) = self.nodes.floor(id) else {
            return false;
        };
        // proof: `floor` has just found it.
        let node = self.nodes.get_mut(master).expect("the node is there");
        let before = node.heap_bytes();
        if !node.delete(master, id) {
            return false;
        }
        self.node_bytes = self.node_bytes + node.heap_bytes() - before;
        let is_empty = node.counts().0 == 0;
        self.note_change(master);
        if is_empty {
            self.remove_node(master);
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if id == self.first_id {
            self.find_first();
        }
        true
    }

    fn remove_node(&mut self, master: StreamId) {
        if let Some(node) = self.nodes.remove(master) {
            self.node_bytes -= node.heap_bytes();
            if let Some(pages) = &mut self.pages {
                pages.note_gone(master);
            }
        }
    }

    fn note_change(&mut self, master: StreamId) {
        if let Some(pages) = &mut self.pages {
            pages.note_change(master);
        }
    }

    fn find_first(&mut self) {
        self.first_id = self.iter().next().map_or(StreamId::ZERO, |entry| entry.id);
    }

    /// Removes the oldest entries; returns how many.
    pub fn trim(&mut self, trim: Trim) -> u64 {
        let mut trimmed = 0;
        let removes = match trim.keep {
            Keep::Newest(most) => self.len > most,
            Keep::From(id) => self.first_id < id,
        };
        if self.len > 0 && removes {
            self.expect_from(StreamId::ZERO);
        }
        while let Some((master, node)) = self.nodes.first() {
            let (live, _) = node.counts();
            let goes_whole = match trim.keep {
                Keep::Newest(most) if self.len <= most => break,
                Keep::Newest(most) => self.len - live >= most,
                Keep::From(id) => node.last_id(master).is_some_and(|last| last < id),
            };
            if trim.limit > 0 && trimmed + live > trim.limit {
                break;
            }
            if goes_whole {
                self.remove_node(master);
                self.len -= live;
                trimmed += live;
                continue;
            }
            if !trim.approximate {
                trimmed += self.trim_within(master, trim.keep);
            }
            break;
        }
        if trimmed > 0 {
            self.find_first();
        }
        trimmed
    }

    /// Deletes the first entries of the first node.
    fn trim_within(&mut self, master: StreamId, keep: Keep) -> u64 {
        let len = self.len;
        // proof: the caller has just found it.
        let node = self.nodes.get_mut(master).expect("the node is there");
        let before = node.heap_bytes();
        let deleted = node.delete_front(master, |id, deleted| match keep {
            Keep::Newest(most) => len - deleted > most,
            Keep::From(from) => id < from,
        });
        self.node_bytes = self.node_bytes + node.heap_bytes() - before;
        let is_empty = node.counts().0 == 0;
        if deleted > 0 {
            self.note_change(master);
        }
        if is_empty {
            self.remove_node(master);
        }
        self.len -= deleted;
        deleted
    }

    pub fn contains(&self, id: StreamId) -> bool {
        self.get(id).is_some()
    }

    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.expect_from(id);
        let (master, node) = self.nodes.floor(id)?;
        node.find(master, id)
    }

    pub fn iter(&self) -> Entries<'_> {
        self.range(StreamId::ZERO, StreamId::MAX)
    }

    /// Entries from one id to another, both included.
    pub fn range(&self, from: StreamId, to: StreamId) -> Entries<'_> {
        if from <= to {
            self.expect_from(from);
        }
        self.entries(from, to)
    }

    fn entries(&self, from: StreamId, to: StreamId) -> Entries<'_> {
        Entries {
            nodes: self.nodes.range_from_floor(from, to),
            walk: None,
            from,
            to,
            pages: self.pages.as_deref().filter(|_| from <= to && self.len > 0),
            last: None,
        }
    }

    /// The same entries, the last one first.
    pub fn range_back(&self, from: StreamId, to: StreamId) -> EntriesBack<'_> {
        if from <= to {
            self.expect_from(to);
        }
        EntriesBack(self.entries(from, to))
    }

    /// Whether there may be deleted entries from an id on. (What is known is only the greatest deleted id.)
    pub fn has_gaps_from(&self, from: StreamId) -> bool {
        // What was deleted before the first entry leaves no gap among those that are here.
        self.first_id <= self.max_deleted_id && self.len > 0 && from <= self.max_deleted_id
    }

    /// How many entries were ever added up to and with an id, where that can be told.
    pub fn added_until(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        if id >= self.last_id {
            return (id == self.last_id).then_some(self.entries_added);
        }
        if !self.max_deleted_id.is_zero() && self.max_deleted_id >= self.first_id {
            return None;
        }
        // No entry was deleted from among those that are here.
        let before = self.entries_added.wrapping_sub(self.len);
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less => Some(before),
            std::cmp::Ordering::Equal => Some(before.wrapping_add(1)),
            std::cmp::Ordering::Greater => None,
        }
    }
}

fn has_room(node: &Node, added: usize, limits: &Limits) -> bool {
    let bytes_max = match limits.stream_node_max_bytes {
        0 => ENTRY_BYTES_MAX,
        most => most.min(ENTRY_BYTES_MAX),
    };
    let (live, deleted) = node.counts();
    let entries_max = limits.stream_node_max_entries as u64;
    node.bytes() + added < bytes_max && (entries_max == 0 || live + deleted < entries_max)
}

/// Entries in order.
#[derive(Clone)]
pub struct Entries<'a> {
    nodes: Range<'a, Node>,
    walk: Option<Walk<'a>>,
    from: StreamId,
    to: StreamId,
    /// Of a stream that need not fit memory: a walk goes over what was brought in, and no further.
    pages: Option<&'a LogPages>,
    /// The node that was walked over last.
    last: Option<StreamId>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            while let Some(entry) = self.walk.as_mut().and_then(Walk::next_of_all) {
                if entry.id > self.to {
                    self.walk = None;
                    self.nodes.end();
                    self.pages = None;
                } else if !entry.is_deleted() {
                    return Some(entry);
                }
            }
            let next = self.nodes.next();
            if let Some(pages) = self.pages {
                pages.expect_up(self.last.unwrap_or(self.from), next.map(|(id, _)| id), self.to);
            }
            let (master, node) = next?;
            self.last = Some(master);
            let mut walk = Walk::new(node, master);
            walk.seek(self.from);
            self.walk = Some(walk);
        }
    }
}

/// Entries in the opposite order.
#[derive(Clone)]
pub struct EntriesBack<'a>(Entries<'a>);

impl<'a> Iterator for EntriesBack<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let inner = &mut self.0;
        loop {
            while let Some(entry) = inner.walk.as_mut().and_then(Walk::prev_of_all) {
                if entry.id < inner.from {
                    inner.walk = None;
                    inner.nodes.end();
                    inner.pages = None;
                } else if entry.id <= inner.to && !entry.is_deleted() {
                    return Some(entry);
                }
            }
            let next = inner.nodes.next_back();
            if let Some(pages) = inner.pages {
                pages.expect_down(inner.last.unwrap_or(inner.to), next.map(|(id, _)| id), inner.from);
            }
            let (master, node) = next?;
            inner.last = Some(master);
            inner.walk = Some(Walk::from_end(node, master));
        }
    }
}
