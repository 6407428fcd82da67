//! The nodes of a large list: a double-ended queue of them, so that both ends are O(1), and a position in the middle is
//! found by the nodes' counts, which stand side by side.
//!
//! Guarantees: no node is empty; `len` and `heap` are the sums over all nodes. A node is within the limit it was
//! written under, but for a single element that is larger: that is a plain node.

use super::element::{Element, Wanted};
use super::node::{LISTPACK_FRAME, Node, Side};
use crate::object::listpack::Item;
use crate::object::size_class;
use std::collections::VecDeque;
use std::ops::Range;

/// How much a node may hold: `list-max-listpack-size`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeLimit {
    /// Bytes of the node as a listpack.
    Bytes(usize),
    /// Elements, and never more than `SAFE_BYTES`.
    Count(usize),
}

/// What a node limited by its count may still hold in bytes.
const SAFE_BYTES: usize = 8192;
/// For the settings -1 to -5; below counts as -5.
const LEVELS: [usize; 5] = [4096, 8192, 16384, 32768, 65536];

impl NodeLimit {
    /// From the setting: negative ones name a level of bytes, others are elements, at least one.
    pub fn new(list_max_listpack_size: i64) -> NodeLimit {
        match usize::try_from(list_max_listpack_size) {
            Ok(count) => NodeLimit::Count(count.max(1)),
            Err(_) => {
                let level = list_max_listpack_size.unsigned_abs().min(LEVELS.len() as u64);
                NodeLimit::Bytes(LEVELS[level as usize - 1])
            }
        }
    }

    /// True when a listpack of so many bytes and elements is not too large.
    #[inline]
    pub fn holds(self, bytes: usize, count: usize) -> bool {
        match self {
            NodeLimit::Bytes(most) => bytes <= most,
            NodeLimit::Count(most) => bytes <= SAFE_BYTES && count <= most,
        }
    }

    /// True when it is not above half of the limit: a list that shrinks becomes one listpack only then, so that it does
    /// not go back and forth.
    pub fn holds_twice(self, bytes: usize, count: usize) -> bool {
        match self {
            NodeLimit::Bytes(most) => bytes <= most / 2,
            NodeLimit::Count(most) => count <= most / 2,
        }
    }

    /// True when an element of so many bytes is a plain node.
    #[inline]
    pub fn is_large(self, len: usize) -> bool {
        match self {
            NodeLimit::Bytes(most) => len > most,
            NodeLimit::Count(_) => len > SAFE_BYTES,
        }
    }

    /// True when an element of so many bytes, in listpack form, may join a node.
    #[inline]
    pub(super) fn admits(self, node: &Node, len: usize) -> bool {
        !node.is_plain() && self.holds(node.listpack_bytes() + len, node.len() + 1)
    }
}

/// A place between elements: before element `index` of a node, which starts at `offset` of its bytes; or behind its
/// last one.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub node: usize,
    pub index: usize,
    pub offset: usize,
}

#[derive(Clone)]
pub struct Chain {
    nodes: VecDeque<Node>,
    len: usize,
    /// Heap bytes of the nodes' blocks.
    heap: usize,
}

impl Chain {
    /// A chain of one node; of none, if it is empty.
    pub fn new(node: Node) -> Chain {
        let mut chain = Chain {
            nodes: VecDeque::new(),
            len: 0,
            heap: 0,
        };
        if !node.is_empty() {
            chain.insert_node(0, node);
        }
        chain
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn heap_bytes(&self) -> usize {
        let table = self.nodes.capacity() * size_of::<Node>();
        self.heap + size_class(table) + size_class(size_of::<Chain>())
    }

    #[inline]
    pub fn nodes(&self) -> &VecDeque<Node> {
        &self.nodes
    }

    pub fn into_nodes(self) -> VecDeque<Node> {
        self.nodes
    }

    /// Takes the node out, if it is the only one and `wanted`.
    #[inline]
    pub fn take_only_if(&mut self, wanted: impl Fn(&Node) -> bool) -> Option<Node> {
        if self.nodes.len() != 1 || !wanted(&self.nodes[0]) {
            return None;
        }
        (self.len, self.heap) = (0, 0);
        self.nodes.pop_front()
    }

    /// Changes a node, keeping the sums.
    #[inline]
    fn change<R>(&mut self, node: usize, change: impl FnOnce(&mut Node) -> R) -> R {
        let node = &mut self.nodes[node];
        let (len, heap) = (node.len(), node.heap_bytes());
        let result = change(node);
        self.len = self.len - len + node.len();
        self.heap = self.heap - heap + node.heap_bytes();
        result
    }

    pub fn insert_node(&mut self, at: usize, node: Node) {
        if self.nodes.len() == self.nodes.capacity() {
            // By a quarter, not twice: what a node costs here stays near its own size.
            self.nodes.reserve_exact((self.nodes.len() / 4).max(2));
        }
        self.len += node.len();
        self.heap += node.heap_bytes();
        self.nodes.insert(at, node);
    }

    fn remove_node(&mut self, at: usize) {
        if let Some(node) = self.nodes.remove(at) {
            self.len -= node.len();
            self.heap -= node.heap_bytes();
        }
        self.give_back();
    }

    fn give_back(&mut self) {
        if self.nodes.len() * 2 < self.nodes.capacity() && self.nodes.capacity() > 8 {
            self.nodes.shrink_to(self.nodes.len() + self.nodes.len() / 4);
        }
    }

    /// Index of the node at one end.
    fn end(&self, side: Side) -> Option<usize> {
        let last = self.nodes.len().checked_sub(1)?;
        Some(if side == Side::Front { 0 } else { last })
    }

    #[inline]
    pub fn peek(&self, side: Side) -> Option<Item<'_>> {
        let node = match side {
            Side::Front => self.nodes.front(),
            Side::Back => self.nodes.back(),
        };
        node?.peek(side)
    }

    #[inline]
    pub fn push(&mut self, side: Side, value: &[u8], limit: NodeLimit) {
        let element = Element::of(value);
        match self.end(side) {
            Some(end) if limit.admits(&self.nodes[end], element.len()) => {
                self.change(end, |node| node.push(side, &element));
            }
            _ => {
                let at = if side == Side::Front { 0 } else { self.nodes.len() };
                self.insert_node(at, alone(value, limit));
            }
        }
    }

    /// Takes `count` elements off one end, whole nodes at once.
    #[inline]
    pub fn shorten(&mut self, side: Side, mut count: usize) {
        while count > 0 {
            let Some(end) = self.end(side) else { return };
            let len = self.nodes[end].len();
            if count < len {
                return self.change(end, |node| node.shorten(side, count));
            }
            self.remove_node(end);
            count -= len;
        }
    }

    /// The place before element `index`, which there is.
    pub fn locate(&self, index: usize) -> Place {
        let behind = self.len - index;
        let (mut node, mut first);
        if index <= behind {
            (node, first) = (0, 0);
            while first + self.nodes[node].len() <= index {
                first += self.nodes[node].len();
                node += 1;
            }
        } else {
            node = self.nodes.len() - 1;
            first = self.len - self.nodes[node].len();
            while first > index {
                node -= 1;
                first -= self.nodes[node].len();
            }
        }
        Place {
            node,
            index: index - first,
            offset: self.nodes[node].offset_of(index - first),
        }
    }

    /// Puts an element at a place.
    pub fn insert(&mut self, place: Place, value: &[u8], limit: NodeLimit) {
        if !self.insert_into_node(place, value, limit) {
            self.insert_between_nodes(place, value, limit);
        }
    }

    /// Puts the element into the node of the place, or into the neighbour that the place borders on.
    fn insert_into_node(&mut self, place: Place, value: &[u8], limit: NodeLimit) -> bool {
        if limit.is_large(value.len()) {
            return false;
        }
        let element = Element::of(value);
        let admits = |node: usize| {
            self.nodes
                .get(node)
                .is_some_and(|node| limit.admits(node, element.len()))
        };
        let (at_start, at_end) = (place.index == 0, self.is_end(place));
        if admits(place.node) {
            self.change(place.node, |node| node.insert(place.offset, &element));
        } else if at_start && place.node > 0 && admits(place.node - 1) {
            self.change(place.node - 1, |node| node.push(Side::Back, &element));
        } else if at_end && admits(place.node + 1) {
            self.change(place.node + 1, |node| node.push(Side::Front, &element));
        } else {
            return false;
        }
        true
    }

    /// True when the place is behind the last element of its node; also where there is no such node.
    fn is_end(&self, place: Place) -> bool {
        self.nodes
            .get(place.node)
            .is_none_or(|node| place.index == node.len())
    }

    /// Gives the element a node of its own, cutting the node of the place in two if need be, and joins what fits
    /// together afterwards.
    fn insert_between_nodes(&mut self, place: Place, value: &[u8], limit: NodeLimit) {
        let node = place.node;
        if place.index == 0 {
            return self.insert_node(node, alone(value, limit));
        }
        if self.is_end(place) {
            return self.insert_node(node + 1, alone(value, limit));
        }
        let tail = self.change(node, |node| node.split_off(place.offset, place.index));
        self.insert_node(node + 1, tail);
        self.insert_node(node + 1, alone(value, limit));
        // From the back, so that the indexes before stay what they are.
        self.join(node + 2, limit);
        self.join(node + 1, limit);
        self.join(node, limit);
        if node > 0 {
            self.join(node - 1, limit);
        }
    }

    /// Makes one node of this and the next, if it may hold both.
    fn join(&mut self, at: usize, limit: NodeLimit) {
        let (Some(one), Some(next)) = (self.nodes.get(at), self.nodes.get(at + 1)) else {
            return;
        };
        let bytes = one.listpack_bytes() + next.listpack_bytes() - LISTPACK_FRAME;
        if one.is_plain() || next.is_plain() || !limit.holds(bytes, one.len() + next.len()) {
            return;
        }
        if let Some(next) = self.nodes.remove(at + 1) {
            self.len -= next.len();
            self.heap -= next.heap_bytes();
            self.change(at, |node| node.append(&next));
        }
    }

    /// Puts `value` in the place of the element there.
    pub fn replace(&mut self, place: Place, value: &[u8], limit: NodeLimit) {
        let node = &self.nodes[place.node];
        let old = node.len_at(place.offset);
        if !node.is_plain() && !limit.is_large(value.len()) {
            let element = Element::of(value);
            let bytes = node.listpack_bytes() - old + element.len();
            if element.len() <= old || limit.holds(bytes, node.len()) {
                return self.change(place.node, |node| node.replace(place.offset, &element));
            }
        }
        let nodes = self.nodes.len();
        self.remove(
            place.node,
            std::slice::from_ref(&(place.offset..place.offset + old)),
        );
        // The element was its node's only one: its neighbours are neighbours of the place now.
        let index = if self.nodes.len() < nodes { 0 } else { place.index };
        self.insert(Place { index, ..place }, value, limit);
    }

    /// Removes the elements that equal `wanted`, at most so many, beginning at one side; returns how many.
    pub fn remove_equal(&mut self, wanted: &Wanted<'_>, side: Side, most: usize) -> usize {
        let (mut removed, mut emptied) = (0, false);
        for i in 0..self.nodes.len() {
            if removed == most {
                break;
            }
            let node = match side {
                Side::Front => i,
                Side::Back => self.nodes.len() - 1 - i,
            };
            let found = self.nodes[node].find_all(wanted, side, most - removed);
            removed += found.len();
            if found.len() == self.nodes[node].len() {
                // Taken out below, all of them at once.
                self.change(node, |node| *node = Node::new());
                emptied = true;
            } else {
                self.change(node, |node| node.remove(&found));
            }
        }
        if emptied {
            self.nodes.retain(|node| !node.is_empty());
            self.give_back();
        }
        removed
    }

    /// Removes elements of one node by the ranges of its bytes, in ascending order; the node too if it was all of them.
    pub fn remove(&mut self, node: usize, elements: &[Range<usize>]) {
        if elements.len() == self.nodes[node].len() {
            self.remove_node(node);
        } else {
            self.change(node, |node| node.remove(elements));
        }
    }
}

/// A node with this one element.
pub(super) fn alone(value: &[u8], limit: NodeLimit) -> Node {
    if limit.is_large(value.len()) {
        return Node::plain(value);
    }
    let mut node = Node::new();
    node.push(Side::Back, &Element::of(value));
    node
}
