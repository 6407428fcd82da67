//! A list that need not fit memory: elements have positions, which they keep, and those in use are in memory.
//!
//! ```text
//!  positions      head                                                              tail
//!                  v                                                                  v
//!  elements        [node][node][node]  .  .  .  .  .  [node]  .  .  .  .  [node][node]
//!                  0     97    201                    4711                9000  9102
//!  rows            a row for each position of [head, tail) that a flush has seen
//! ```
//!
//! A push takes the position before the first element or behind the last one, so what is pushed needs nothing of the
//! rest; element `index` is the one at `head + index`. Under pressure the elements furthest from both ends go first.
//!
//! Guarantees: nodes do not overlap, and lie within [head, tail); what is dirty is in memory. Rows are only of positions
//! that were within the list at the last flush (`rows`): what was taken off the ends since goes by intervals.

use super::chain::{Chain, NodeLimit, Place, alone};
use super::element::Element;
use super::node::{Node, Side};
use crate::object::intervals::Intervals;
use crate::object::listpack::Item;
use crate::object::pages::{
    Found, Kind, Lacking, Order, Pages, Rows, Span, Summary, VisitChange, Wanted, next_state,
};
use crate::object::size_class;
use std::collections::BTreeMap;
use std::collections::btree_map::Range as NodeRange;

/// What is read for one command serves the next ones: a queue is taken off its end one by one.
const AHEAD: i64 = 128;

#[derive(Clone)]
pub struct PagedList {
    version: u64,
    /// By the position of the first element.
    nodes: BTreeMap<i64, Node>,
    head: i64,
    tail: i64,
    /// Elements in nodes.
    resident: usize,
    /// Heap bytes of the nodes' blocks.
    heap: usize,
    /// Positions whose rows are older, or are not there.
    dirty: Intervals<i64>,
    /// Between these two positions there may be rows.
    rows: (i64, i64),
    /// What was brought in last lies between these two positions.
    recent: (i64, i64),
    limit: NodeLimit,
    state: u64,
}

/// Positions in the order of rows.
fn place_of(position: i64) -> [u8; 8] {
    (position as u64 ^ 1 << 63).to_be_bytes()
}

fn position_of(place: &[u8]) -> Option<i64> {
    Some((u64::from_be_bytes(place.try_into().ok()?) ^ 1 << 63) as i64)
}

impl PagedList {
    /// A list whose elements are all in memory; its caller writes a row for each (`each`).
    pub fn of_chain(chain: Chain, version: u64) -> PagedList {
        let summary = Summary {
            kind: Kind::List,
            version,
            origin: 0,
            len: chain.len() as u64,
            facts: Vec::new(),
        };
        let mut list = PagedList::of_summary(&summary);
        list.put_chain(chain);
        list
    }

    /// A list none of whose elements are in memory.
    pub fn of_summary(summary: &Summary) -> PagedList {
        let head = summary.origin as i64;
        let tail = head.saturating_add_unsigned(summary.len);
        PagedList {
            version: summary.version,
            nodes: BTreeMap::new(),
            head,
            tail,
            resident: 0,
            heap: 0,
            dirty: Intervals::default(),
            rows: (head, tail),
            recent: (0, 0),
            limit: NodeLimit::new(-2),
            state: next_state(),
        }
    }

    pub fn len(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// Heap bytes, its own place counted.
    pub fn bytes(&self) -> usize {
        let table = self.nodes.len() * 2 * size_of::<(i64, Node)>();
        size_class(size_of::<PagedList>()) + self.heap + table + self.dirty.bytes()
    }

    // ---- Nodes --------------------------------------------------------------------------------------------------

    fn insert_node(&mut self, at: i64, node: Node) {
        self.resident += node.len();
        self.heap += node.heap_bytes();
        self.nodes.insert(at, node);
    }

    fn remove_node(&mut self, at: i64) -> Option<Node> {
        let node = self.nodes.remove(&at)?;
        self.resident -= node.len();
        self.heap -= node.heap_bytes();
        Some(node)
    }

    /// Changes a node that stays where it begins.
    fn change(&mut self, at: i64, change: impl FnOnce(&mut Node)) {
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        let (len, heap) = (node.len(), node.heap_bytes());
        change(node);
        self.resident = self.resident - len + node.len();
        self.heap = self.heap - heap + node.heap_bytes();
    }

    /// The node that holds the element at a position.
    fn node_with(&self, position: i64) -> Option<(i64, &Node)> {
        let (at, node) = self.nodes.range(..=position).next_back()?;
        (position < at + node.len() as i64).then_some((*at, node))
    }

    /// The same, of an element that a command asks for.
    fn expect_node(&self, position: i64) -> (i64, &Node) {
        let found = self.node_with(position);
        // proof: `lacking` has named it to who has begun the command, and what is in memory leaves it between commands
        // only.
        found.expect("an element is brought in before it is asked for")
    }

    fn end_of(at: i64, node: &Node) -> i64 {
        at + node.len() as i64
    }

    // ---- What commands do ---------------------------------------------------------------------------------------

    pub fn push(&mut self, side: Side, value: &[u8], limit: NodeLimit) {
        self.limit = limit;
        let len = Element::of(value).len();
        let admits = |(at, node): (&i64, &Node)| limit.admits(node, len).then_some(*at);
        match side {
            Side::Front => {
                let first = self.nodes.first_key_value().filter(|(at, _)| **at == self.head);
                let first = first.and_then(admits);
                self.head -= 1;
                self.dirty.add(self.head, self.head + 1);
                // A node is known by where it begins: this one moves.
                let node = first.and_then(|at| self.remove_node(at));
                let node = node.map(|mut node| {
                    node.push(side, &Element::of(value));
                    node
                });
                self.insert_node(self.head, node.unwrap_or_else(|| alone(value, limit)));
            }
            Side::Back => {
                let last = self.nodes.last_key_value();
                let last = last.filter(|(at, node)| PagedList::end_of(**at, node) == self.tail);
                match last.and_then(admits) {
                    Some(at) => self.change(at, |node| node.push(side, &Element::of(value))),
                    None => self.insert_node(self.tail, alone(value, limit)),
                }
                self.dirty.add(self.tail, self.tail + 1);
                self.tail += 1;
            }
        }
    }

    pub fn peek(&self, side: Side) -> Option<Item<'_>> {
        if self.head == self.tail {
            return None;
        }
        match side {
            Side::Front => self.expect_node(self.head).1.peek(side),
            Side::Back => self.expect_node(self.tail - 1).1.peek(side),
        }
    }

    /// Takes elements off one end, in memory or not.
    pub fn shorten(&mut self, side: Side, count: usize) {
        let count = count.min(self.len()) as i64;
        match side {
            Side::Front => {
                self.head += count;
                while let Some(at) = self.nodes.first_key_value().map(|(at, _)| *at)
                    && at < self.head
                {
                    let Some(mut node) = self.remove_node(at) else {
                        break;
                    };
                    let over = (self.head - at) as usize;
                    if over < node.len() {
                        node.shorten(side, over);
                        self.insert_node(self.head, node);
                    }
                }
            }
            Side::Back => {
                self.tail -= count;
                while let Some((at, end)) = self.last_bounds()
                    && end > self.tail
                {
                    if at >= self.tail {
                        self.remove_node(at);
                    } else {
                        let over = (end - self.tail) as usize;
                        self.change(at, |node| node.shorten(side, over));
                    }
                }
            }
        }
        self.dirty.keep(self.head, self.tail);
    }

    fn last_bounds(&self) -> Option<(i64, i64)> {
        let (at, node) = self.nodes.last_key_value()?;
        Some((*at, PagedList::end_of(*at, node)))
    }

    pub fn get(&self, index: usize) -> Item<'_> {
        let position = self.head + index as i64;
        let (at, node) = self.expect_node(position);
        node.get(node.offset_of((position - at) as usize))
    }

    /// Puts `value` in the place of element `index`, which there is.
    pub fn set(&mut self, index: usize, value: &[u8], limit: NodeLimit) {
        self.limit = limit;
        let position = self.head + index as i64;
        let (at, node) = self.expect_node(position);
        let index = (position - at) as usize;
        let (offset, len) = (node.offset_of(index), node.len());
        let element = Element::of(value);
        let bytes = node.listpack_bytes() - node.len_at(offset) + element.len();
        if !node.is_plain() && !limit.is_large(value.len()) && limit.holds(bytes, len) {
            self.change(at, |node| node.replace(offset, &element));
        } else if let Some(mut node) = self.remove_node(at) {
            if index + 1 < len {
                let mut behind = node.split_off(offset, index);
                behind.shorten(Side::Front, 1);
                self.insert_node(position + 1, behind);
            } else if index > 0 {
                node.shorten(Side::Back, 1);
            }
            if index > 0 {
                self.insert_node(at, node);
            }
            self.insert_node(position, alone(value, limit));
        }
        self.dirty.add(position, position + 1);
    }

    /// The nodes from that with element `index` on, or up to and with it, from the other side; and its position there.
    pub fn nodes_from(&self, side: Side, index: usize) -> (Run<'_>, usize) {
        let position = self.head + index as i64;
        let (at, node) = self.expect_node(position);
        let nodes = match side {
            Side::Front => self.nodes.range(at..),
            Side::Back => self.nodes.range(..=at),
        };
        let next = match side {
            Side::Front => at,
            Side::Back => PagedList::end_of(at, node),
        };
        let end = match side {
            Side::Front => self.tail,
            Side::Back => self.head,
        };
        let run = Run {
            nodes,
            side,
            next,
            end,
        };
        (run, (position - at) as usize)
    }

    /// All nodes: all elements are in memory.
    pub fn all(&self) -> impl Iterator<Item = &Node> {
        self.expect_whole();
        self.nodes.values()
    }

    /// The index of a place in the list as a chain.
    pub fn index_of(&self, place: Place) -> usize {
        self.nodes.values().take(place.node).map(Node::len).sum::<usize>() + place.index
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    fn expect_whole(&self) {
        assert!(
            self.is_whole(),
            "all elements are brought in before they are visited"
        );
    }

    /// Changes the list as a chain: all elements are in memory. Those before element `from` stay what they are.
    pub fn edit<R>(&mut self, from: usize, edit: impl FnOnce(&mut Chain) -> R) -> R {
        let mut chain = self.take_chain();
        let result = edit(&mut chain);
        self.tail = self.head + chain.len() as i64;
        self.put_chain(chain);
        self.dirty.add(self.head + from as i64, self.tail);
        self.dirty.keep(self.head, self.tail);
        result
    }

    fn put_chain(&mut self, chain: Chain) {
        let mut at = self.head;
        for node in chain.into_nodes() {
            let end = PagedList::end_of(at, &node);
            self.insert_node(at, node);
            at = end;
        }
    }

    /// Takes the elements out, as a list of nothing else: they are in memory.
    pub fn take_chain(&mut self) -> Chain {
        self.expect_whole();
        (self.resident, self.heap) = (0, 0);
        let mut chain = Chain::new(Node::new());
        for node in std::mem::take(&mut self.nodes).into_values() {
            chain.insert_node(chain.nodes().len(), node);
        }
        chain
    }

    // ---- What comes from the store ------------------------------------------------------------------------------

    /// The parts of [from, to) that are not in memory.
    fn gaps(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let (mut gaps, mut at) = (Vec::new(), from.max(self.head));
        let to = to.min(self.tail);
        if let Some((start, node)) = self.node_with(at) {
            at = PagedList::end_of(start, node);
        }
        if at >= to {
            return gaps;
        }
        for (start, node) in self.nodes.range(at..to) {
            if at < *start {
                gaps.push((at, *start));
            }
            at = PagedList::end_of(*start, node);
        }
        if at < to {
            gaps.push((at, to));
        }
        gaps
    }

    /// The positions wanted, and some more, if not all of these are in memory.
    fn lacking_between(&self, from: i64, to: i64, side: Side) -> Vec<(i64, i64)> {
        let gaps = self.gaps(from, to);
        if gaps.is_empty() {
            return gaps;
        }
        match side {
            Side::Front => self.gaps(from, to.max(from.saturating_add(AHEAD))),
            Side::Back => self.gaps(from.min(to.saturating_sub(AHEAD)), to),
        }
    }

    fn position(&self, index: i64) -> i64 {
        if index < 0 {
            self.tail.saturating_add(index)
        } else {
            self.head.saturating_add(index)
        }
    }

    fn gaps_of(&self, wanted: &Wanted<'_>) -> Vec<(i64, i64)> {
        let clamp = |at: i64| at.clamp(self.head, self.tail);
        match *wanted {
            Wanted::All => self.gaps(self.head, self.tail),
            Wanted::Indexes(from, to) => {
                let to = clamp(self.position(to).saturating_add(1));
                self.lacking_between(clamp(self.position(from)), to, Side::Front)
            }
            Wanted::Ends { front, back } => {
                let most = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
                let front = clamp(self.head.saturating_add(most(front)));
                let back = clamp(self.tail.saturating_sub(most(back)));
                let mut gaps = self.lacking_between(self.head, front, Side::Front);
                let from = gaps.last().map_or(back, |last| back.max(last.1));
                gaps.extend(self.lacking_between(from, self.tail, Side::Back));
                gaps
            }
            _ => Vec::new(),
        }
    }

    /// Adds the rows of an interval of positions, where they are not in memory.
    fn bring_in_rows(&mut self, span: &Span, rows: &Rows) {
        let from = position_of(&span.from).unwrap_or(self.head);
        let to = span.to.as_deref().and_then(position_of).unwrap_or(self.tail);
        self.recent = (from, to);
        let mut rows = rows
            .iter()
            .filter_map(|(place, value)| Some((position_of(place)?, value)))
            .peekable();
        for (from, to) in self.gaps(from, to) {
            while rows.next_if(|(position, _)| *position < from).is_some() {}
            let (mut at, mut next, mut node) = (from, from, Node::new());
            while let Some((position, value)) = rows.next_if(|(position, _)| *position < to) {
                let element = Element::of(value);
                let joins = position == next && self.limit.admits(&node, element.len());
                if !joins && !node.is_empty() {
                    self.insert_node(at, std::mem::replace(&mut node, Node::new()));
                }
                if node.is_empty() {
                    at = position;
                }
                next = position + 1;
                if self.limit.is_large(value.len()) {
                    self.insert_node(position, Node::plain(value));
                } else {
                    node.push(Side::Back, &element);
                }
            }
            if !node.is_empty() {
                self.insert_node(at, node);
            }
        }
    }

    /// The nodes furthest from both ends first.
    fn inner_nodes(&self) -> impl Iterator<Item = (i64, &Node)> {
        let middle = self.head + (self.tail - self.head) / 2;
        let mut before = self.nodes.range(..middle).rev().peekable();
        let mut behind = self.nodes.range(middle..).peekable();
        std::iter::from_fn(move || {
            let (at, node) = match (before.peek(), behind.peek()) {
                (Some((at, node)), Some((other, _)))
                    if middle - PagedList::end_of(**at, node) <= **other - middle =>
                {
                    before.next()
                }
                (Some(_), None) => before.next(),
                _ => behind.next(),
            }?;
            Some((*at, node))
        })
    }

    fn shed_but(&mut self, most: usize, spared: (i64, i64)) {
        let mut left = most;
        let goes = |at: i64, node: &Node| {
            let end = PagedList::end_of(at, node);
            !self.dirty.meets(at, end) && (end <= spared.0 || spared.1 <= at)
        };
        let mut going = Vec::new();
        for (at, node) in self.inner_nodes().filter(|(at, node)| goes(*at, node)) {
            going.push(at);
            left = left.saturating_sub(node.len());
            if left == 0 {
                break;
            }
        }
        if going.is_empty() {
            return;
        }
        for at in going {
            self.remove_node(at);
        }
        self.state = next_state();
    }
}

impl Pages for PagedList {
    fn summary(&self) -> Summary {
        Summary {
            kind: Kind::List,
            version: self.version,
            origin: self.head as u64,
            len: self.len() as u64,
            facts: Vec::new(),
        }
    }

    fn state(&self) -> u64 {
        self.state
    }

    fn is_whole(&self) -> bool {
        self.resident == self.len()
    }

    fn clean_len(&self) -> usize {
        self.resident.saturating_sub(self.dirty.count())
    }

    fn element_size(&self) -> usize {
        self.heap / self.resident.max(1)
    }

    fn lacking(&self, wanted: &Wanted<'_>) -> Option<Lacking> {
        let gaps = self.gaps_of(wanted);
        let span = |(from, to)| Span {
            from: place_of(from).to_vec(),
            to: Some(place_of(to).to_vec()),
            most: usize::MAX,
            order: Order::Up,
        };
        (!gaps.is_empty()).then(|| Lacking::Spans(gaps.into_iter().map(span).collect()))
    }

    fn bring_in(&mut self, found: Found, shed: usize) {
        let Found::Spans(spans) = found else { return };
        for (span, rows) in &spans {
            self.bring_in_rows(span, rows);
        }
        if shed > 0 {
            self.shed_but(shed, self.recent);
        }
    }

    fn shed(&mut self, most: usize) {
        self.shed_but(most, (0, 0));
    }

    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.expect_whole();
        self.visit(self.head, self.tail, visit);
    }

    fn each_change(&self, visit: &mut VisitChange<'_>) {
        for (from, to) in self.dirty.iter() {
            self.visit(from, to, &mut |place, value| visit(place, Some(value)));
        }
    }

    fn dropped(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (from, to) = self.rows;
        let ends = [(from, to.min(self.head)), (from.max(self.tail), to)];
        ends.into_iter()
            .filter(|(from, to)| from < to)
            .map(|(from, to)| (place_of(from).to_vec(), place_of(to).to_vec()))
            .collect()
    }

    fn settle_changes(&mut self) {
        self.dirty.clear();
        self.rows = (self.head, self.tail);
    }
}

impl PagedList {
    /// Visits the elements of [from, to), which are in memory, by their places.
    fn visit(&self, from: i64, to: i64, visit: &mut dyn FnMut(&[u8], &[u8])) {
        if from >= to {
            return;
        }
        let (nodes, mut skip) = self.nodes_from(Side::Front, (from - self.head) as usize);
        let mut position = from;
        for node in nodes {
            let (mut offset, end) = (node.offset_of(std::mem::take(&mut skip)), node.bytes().len());
            loop {
                node.get(offset)
                    .with_bytes(|value| visit(&place_of(position), value));
                position += 1;
                if position == to {
                    // What follows may not be in memory.
                    return;
                }
                offset += node.len_at(offset);
                if offset >= end {
                    break;
                }
            }
        }
    }
}

/// Nodes one behind the other, from one side to the other.
pub struct Run<'a> {
    nodes: NodeRange<'a, i64, Node>,
    side: Side,
    /// Where the next one begins, or ends.
    next: i64,
    /// Where the list ends, or begins.
    end: i64,
}

impl<'a> Iterator for Run<'a> {
    type Item = &'a Node;

    fn next(&mut self) -> Option<&'a Node> {
        if self.next == self.end {
            return None;
        }
        let found = match self.side {
            Side::Front => self.nodes.next(),
            Side::Back => self.nodes.next_back(),
        };
        let bounds = found.map(|(at, node)| (*at, PagedList::end_of(*at, node), node));
        // proof: as for `expect_node`: what a command walks over was brought in.
        let (at, end, node) = bounds.expect("elements are brought in before they are walked over");
        let (begins, then) = match self.side {
            Side::Front => (at, end),
            Side::Back => (end, at),
        };
        assert!(
            begins == self.next,
            "elements are brought in before they are walked over"
        );
        self.next = then;
        Some(node)
    }
}

#[cfg(test)]
mod tests;
