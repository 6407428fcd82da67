//! An order-statistic B+tree: members by score, and among equal scores by their bytes.
//!
//! ```text
//!            inner   first:    s0,m0   s7,m7   s90,m90     the first slot of each child
//!                    counts:   7       83      12          how many slots it holds
//!                    children: |       |       |
//!            leaf         [s0,m0 s1,m1 … s6,m6]            slots of 16 bytes: score, handle of the member
//! ```
//!
//! Guarantees:
//! * Insert, remove, rank and select take O(log n); walking `k` slots takes O(log n + k).
//! * The root apart, a node is never empty, and two neighbours are merged when one of them runs low and both together
//!   fill no more than half a node: the depth stays logarithmic whatever is removed.
//! * Nodes are as long as they are full, in steps of [`STEP`] slots: a million members inserted in random order take
//!   about 20 bytes each, whatever the members' own bytes.
//!
//! A slot holds a handle of its member, not the member: whoever owns the tree keeps the members alive as long as
//! their slots are in it. Everything that looks for a place (a rank, a bound of scores, a bound of members) is one
//! question, [`Ordered::partition`]: how many slots, from the first on, satisfy a condition that later ones do not.
//! Scores compare as numbers, so 0 and -0 are equal; NaN must not be inserted.

use super::size_class;
use std::ops::Range;

/// A copyable handle of a member's bytes.
pub trait Member: Copy {
    fn bytes(&self) -> &[u8];
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub struct Slot<M> {
    pub score: f64,
    pub member: M,
}

impl<M: Member> Slot<M> {
    /// Whether this slot stands before an element. Equal scores are told apart by the member, whose bytes are looked
    /// at only then: that is a cache miss.
    #[inline]
    pub fn is_before(&self, score: f64, member: &[u8]) -> bool {
        self.score < score || (self.score == score && self.member.bytes() < member)
    }
}

/// Slots in a leaf: full ones are a kilobyte.
const LEAF_MOST: usize = 64;
/// Children of an inner node.
const INNER_MOST: usize = 64;
/// Vectors grow by so many items: eight slots more lead to the allocator's next size class.
const STEP: usize = 8;
/// What a bulk build leaves free in each leaf, for what comes later.
const BUILD_FREE: usize = 8;

enum Node<M> {
    Leaf(Vec<Slot<M>>),
    Inner(Box<Inner<M>>),
}

/// Three vectors of the same length: a search reads the first one alone.
struct Inner<M> {
    first: Vec<Slot<M>>,
    counts: Vec<usize>,
    children: Vec<Node<M>>,
}

pub struct Ordered<M> {
    root: Node<M>,
    len: usize,
    /// Heap bytes of all nodes, as the allocator rounds them.
    bytes: usize,
}

/// Bytes of a vector's block.
fn block<T>(vec: &Vec<T>) -> usize {
    size_class(vec.capacity() * size_of::<T>())
}

/// Runs a change of a vector that may move its block, and counts the difference.
fn resize<T>(vec: &mut Vec<T>, bytes: &mut usize, change: impl FnOnce(&mut Vec<T>)) {
    *bytes -= block(vec);
    change(vec);
    *bytes += block(vec);
}

/// Makes room for one more item.
#[inline]
fn grow<T>(vec: &mut Vec<T>, bytes: &mut usize) {
    if vec.len() == vec.capacity() {
        resize(vec, bytes, |vec| vec.reserve_exact(STEP));
    }
}

/// Gives back what removals have left free, one step excepted.
#[inline]
fn shrink<T>(vec: &mut Vec<T>, bytes: &mut usize) {
    if vec.capacity() - vec.len() >= 2 * STEP {
        resize(vec, bytes, |vec| {
            vec.shrink_to((vec.len() + 1).next_multiple_of(STEP))
        });
    }
}

/// The second half of a full vector as one of its own.
fn halve<T>(vec: &mut Vec<T>, bytes: &mut usize) -> Vec<T> {
    let middle = vec.len() / 2;
    let mut right = Vec::with_capacity((vec.len() - middle + 1).next_multiple_of(STEP));
    right.extend(vec.drain(middle..));
    *bytes += block(&right);
    shrink(vec, bytes);
    right
}

/// Appends a vector to another, and frees it.
fn join<T>(left: &mut Vec<T>, mut right: Vec<T>, bytes: &mut usize) {
    resize(left, bytes, |left| {
        left.reserve_exact(right.len().next_multiple_of(STEP));
        left.append(&mut right);
    });
    *bytes -= block(&right);
}

impl<M: Member> Default for Ordered<M> {
    fn default() -> Self {
        Ordered {
            root: Node::Leaf(Vec::new()),
            len: 0,
            bytes: 0,
        }
    }
}

impl<M: Member> Ordered<M> {
    /// A tree of slots that come in order, no two of the same score and member.
    pub fn from_sorted(slots: impl Iterator<Item = Slot<M>>) -> Self {
        let mut tree = Ordered::default();
        let mut level: Vec<Node<M>> = Vec::new();
        let mut slots = slots.peekable();
        while slots.peek().is_some() {
            let mut leaf = Vec::with_capacity(LEAF_MOST - BUILD_FREE);
            leaf.extend(slots.by_ref().take(LEAF_MOST - BUILD_FREE));
            leaf.shrink_to_fit();
            tree.bytes += block(&leaf);
            tree.len += leaf.len();
            level.push(Node::Leaf(leaf));
        }
        while level.len() > 1 {
            let mut nodes = level.into_iter().peekable();
            level = Vec::new();
            while nodes.peek().is_some() {
                let children = nodes.by_ref().take(INNER_MOST).collect();
                level.push(Inner::node(children, &mut tree.bytes));
            }
        }
        if let Some(root) = level.pop() {
            tree.root = root;
        }
        tree
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heap bytes of the nodes, as the allocator rounds them; the members' are not among them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many slots, from the first on, `holds` is true for; once false, it must be false for all that follow.
    #[inline]
    pub fn partition(&self, holds: impl Fn(&Slot<M>) -> bool) -> usize {
        let (mut node, mut before) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(slots) => return before + slots.partition_point(&holds),
                Node::Inner(inner) => {
                    let Some(child) = inner.first.partition_point(&holds).checked_sub(1) else {
                        return before;
                    };
                    before += inner.counts[..child].iter().sum::<usize>();
                    node = &inner.children[child];
                }
            }
        }
    }

    /// How many slots stand before this score and member: its rank, if it is there.
    pub fn rank(&self, score: f64, member: &[u8]) -> usize {
        self.partition(|slot| slot.is_before(score, member))
    }

    /// The slot of a rank.
    pub fn select(&self, rank: usize) -> Option<Slot<M>> {
        let (mut node, mut rank) = (&self.root, rank);
        loop {
            match node {
                Node::Leaf(slots) => return slots.get(rank).copied(),
                Node::Inner(inner) => {
                    let (child, before) = inner.child_of(rank)?;
                    rank -= before;
                    node = &inner.children[child];
                }
            }
        }
    }

    /// Calls `visit` with the slots of some ranks, upwards or downwards. Ranks that are not there are left out.
    pub fn visit(&self, ranks: Range<usize>, reverse: bool, mut visit: impl FnMut(&Slot<M>)) {
        let ranks = ranks.start..ranks.end.min(self.len);
        if ranks.is_empty() {
        } else if reverse {
            self.root.visit_down(ranks, &mut visit);
        } else {
            self.root.visit_up(ranks, &mut visit);
        }
    }

    /// Adds a slot. Its score and member must not be there yet.
    pub fn insert(&mut self, slot: Slot<M>) {
        debug_assert!(!slot.score.is_nan());
        if let Some(right) = self.root.insert(slot, slot.member.bytes(), &mut self.bytes) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            self.root = Inner::node(vec![left, right], &mut self.bytes);
        }
        self.len += 1;
    }

    /// Takes out the slot of this score and member; false if it is not there.
    pub fn remove(&mut self, score: f64, member: &[u8]) -> bool {
        let removed = self.root.remove(score, member, &mut self.bytes);
        self.len -= usize::from(removed);
        self.settle_root();
        removed
    }

    /// Gives a slot another score. True if it was there.
    pub fn move_to(&mut self, score: f64, to: Slot<M>) -> bool {
        debug_assert!(!to.score.is_nan());
        if self.root.rescore(score, to) {
            return true;
        }
        let removed = self.remove(score, to.member.bytes());
        if removed {
            self.insert(to);
        }
        removed
    }

    /// Takes out the slots of some ranks, and hands each of them over, upwards.
    pub fn remove_ranks(&mut self, ranks: Range<usize>, mut taken: impl FnMut(Slot<M>)) {
        let ranks = ranks.start..ranks.end.min(self.len);
        if !ranks.is_empty() {
            self.len -= ranks.len();
            self.root.remove_ranks(ranks, &mut self.bytes, &mut taken);
            self.settle_root();
        }
    }

    /// A root of one child gives way to it.
    fn settle_root(&mut self) {
        while let Node::Inner(inner) = &mut self.root {
            if inner.children.len() > 1 {
                return;
            }
            let child = inner.children.pop();
            self.bytes -= inner.bytes();
            self.root = child.unwrap_or(Node::Leaf(Vec::new()));
        }
    }
}

impl<M: Member> Node<M> {
    fn first(&self) -> Slot<M> {
        match self {
            Node::Leaf(slots) => slots[0],
            Node::Inner(inner) => inner.first[0],
        }
    }

    fn count(&self) -> usize {
        match self {
            Node::Leaf(slots) => slots.len(),
            Node::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    /// Slots of a leaf, children of an inner node.
    fn items(&self) -> usize {
        match self {
            Node::Leaf(slots) => slots.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    /// Adds a slot below this node. When the node was full, the part of it that now stands to its right.
    ///
    /// A leaf that is full where the new slot comes last is not halved: the slot begins the next leaf, so that
    /// members inserted in ascending order leave full leaves behind them; and the same at the other end.
    fn insert(&mut self, slot: Slot<M>, member: &[u8], bytes: &mut usize) -> Option<Node<M>> {
        let slots = match self {
            Node::Inner(inner) => return inner.insert(slot, member, bytes),
            Node::Leaf(slots) => slots,
        };
        let at = slots.partition_point(|other| other.is_before(slot.score, member));
        if slots.len() < LEAF_MOST {
            grow(slots, bytes);
            slots.insert(at, slot);
            return None;
        }
        if at == 0 || at == LEAF_MOST {
            let mut alone = Vec::new();
            grow(&mut alone, bytes);
            alone.push(slot);
            let right = if at == 0 {
                std::mem::replace(slots, alone)
            } else {
                alone
            };
            return Some(Node::Leaf(right));
        }
        let mut right = halve(slots, bytes);
        let (half, at) = match at.checked_sub(slots.len()) {
            Some(at) => (&mut right, at),
            None => (slots, at),
        };
        grow(half, bytes);
        half.insert(at, slot);
        Some(Node::Leaf(right))
    }

    fn remove(&mut self, score: f64, member: &[u8], bytes: &mut usize) -> bool {
        let slots = match self {
            Node::Inner(inner) => return inner.remove(score, member, bytes),
            Node::Leaf(slots) => slots,
        };
        let at = slots.partition_point(|slot| slot.is_before(score, member));
        let found = slots
            .get(at)
            .is_some_and(|slot| slot.score == score && slot.member.bytes() == member);
        if found {
            slots.remove(at);
            shrink(slots, bytes);
        }
        found
    }

    /// Changes a score where that moves the slot past no other one, nor past the ends of its leaf.
    fn rescore(&mut self, score: f64, to: Slot<M>) -> bool {
        let mut node = self;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_for(score, to.member.bytes());
                    node = &mut inner.children[child];
                }
                Node::Leaf(slots) => {
                    let member = to.member.bytes();
                    let at = slots.partition_point(|slot| slot.is_before(score, member));
                    let [left, slot, right] = match slots.get_mut(at.wrapping_sub(1)..at.saturating_add(2)) {
                        Some([left, slot, right]) => [left, slot, right],
                        _ => return false,
                    };
                    let fits = slot.score == score
                        && slot.member.bytes() == member
                        && left.score < to.score
                        && to.score < right.score;
                    if fits {
                        slot.score = to.score;
                    }
                    return fits;
                }
            }
        }
    }

    fn remove_ranks(&mut self, ranks: Range<usize>, bytes: &mut usize, taken: &mut impl FnMut(Slot<M>)) {
        match self {
            Node::Leaf(slots) => {
                slots.drain(ranks).for_each(&mut *taken);
                shrink(slots, bytes);
            }
            Node::Inner(inner) => inner.remove_ranks(ranks, bytes, taken),
        }
    }

    fn visit_up(&self, ranks: Range<usize>, visit: &mut impl FnMut(&Slot<M>)) {
        match self {
            Node::Leaf(slots) => slots[ranks].iter().for_each(visit),
            Node::Inner(inner) => {
                for (child, ranks) in inner.parts(ranks) {
                    inner.children[child].visit_up(ranks, visit);
                }
            }
        }
    }

    fn visit_down(&self, ranks: Range<usize>, visit: &mut impl FnMut(&Slot<M>)) {
        match self {
            Node::Leaf(slots) => slots[ranks].iter().rev().for_each(visit),
            Node::Inner(inner) => {
                let (last, before) = inner.child_of(ranks.end - 1).unwrap_or((0, 0));
                let mut end = before + inner.counts[last];
                for child in (0..=last).rev() {
                    let start = end - inner.counts[child];
                    let from = ranks.start.max(start) - start;
                    inner.children[child].visit_down(from..ranks.end.min(end) - start, visit);
                    if start <= ranks.start {
                        return;
                    }
                    end = start;
                }
            }
        }
    }
}

impl<M: Member> Inner<M> {
    fn node(children: Vec<Node<M>>, bytes: &mut usize) -> Node<M> {
        let inner = Inner {
            first: children.iter().map(Node::first).collect(),
            counts: children.iter().map(Node::count).collect(),
            children,
        };
        *bytes += inner.bytes();
        Node::Inner(Box::new(inner))
    }

    fn bytes(&self) -> usize {
        size_class(size_of::<Self>()) + block(&self.first) + block(&self.counts) + block(&self.children)
    }

    /// The child in whose interval an element belongs.
    #[inline]
    fn child_for(&self, score: f64, member: &[u8]) -> usize {
        let standing =
            |slot: &Slot<M>| slot.score < score || (slot.score == score && slot.member.bytes() <= member);
        self.first.partition_point(standing).saturating_sub(1)
    }

    /// The child that holds a rank, and how many slots stand before that child.
    fn child_of(&self, rank: usize) -> Option<(usize, usize)> {
        let mut before = 0;
        for (child, count) in self.counts.iter().enumerate() {
            if rank - before < *count {
                return Some((child, before));
            }
            before += count;
        }
        None
    }

    /// The children that hold some of these ranks, each with its part of them in its own counting.
    fn parts(&self, ranks: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (first, mut start) = self.child_of(ranks.start).unwrap_or((self.counts.len(), 0));
        self.counts[first..]
            .iter()
            .enumerate()
            .map_while(move |(at, count)| {
                let from = ranks.start.max(start) - start;
                let to = ranks.end.checked_sub(start).filter(|to| *to > 0)?.min(*count);
                start += count;
                Some((first + at, from..to))
            })
    }

    fn insert(&mut self, slot: Slot<M>, member: &[u8], bytes: &mut usize) -> Option<Node<M>> {
        let child = self.child_for(slot.score, member);
        let split = self.children[child].insert(slot, member, bytes);
        self.first[child] = self.children[child].first();
        let Some(right) = split else {
            self.counts[child] += 1;
            return None;
        };
        self.counts[child] = self.children[child].count();
        self.add_child(child + 1, right, bytes)
    }

    /// Adds a child; when the node was full, the part of it that now stands to its right.
    fn add_child(&mut self, at: usize, child: Node<M>, bytes: &mut usize) -> Option<Node<M>> {
        if self.children.len() < INNER_MOST {
            self.put_child(at, child, bytes);
            return None;
        }
        if at == INNER_MOST {
            return Some(Inner::node(vec![child], bytes));
        }
        let mut right = Inner {
            first: halve(&mut self.first, bytes),
            counts: halve(&mut self.counts, bytes),
            children: halve(&mut self.children, bytes),
        };
        *bytes += size_class(size_of::<Self>());
        match at.checked_sub(self.children.len()) {
            Some(at) => right.put_child(at, child, bytes),
            None => self.put_child(at, child, bytes),
        }
        Some(Node::Inner(Box::new(right)))
    }

    fn put_child(&mut self, at: usize, child: Node<M>, bytes: &mut usize) {
        grow(&mut self.first, bytes);
        grow(&mut self.counts, bytes);
        grow(&mut self.children, bytes);
        self.first.insert(at, child.first());
        self.counts.insert(at, child.count());
        self.children.insert(at, child);
    }

    /// Takes children out of the vectors, whatever they hold by now.
    fn drop_children(&mut self, range: Range<usize>, bytes: &mut usize) {
        self.first.drain(range.clone());
        self.counts.drain(range.clone());
        for child in self.children.drain(range) {
            *bytes -= match &child {
                Node::Leaf(slots) => block(slots),
                Node::Inner(inner) => inner.bytes(),
            };
        }
        shrink(&mut self.first, bytes);
        shrink(&mut self.counts, bytes);
        shrink(&mut self.children, bytes);
    }

    fn remove(&mut self, score: f64, member: &[u8], bytes: &mut usize) -> bool {
        let child = self.child_for(score, member);
        let removed = self.children[child].remove(score, member, bytes);
        if removed {
            self.counts[child] -= 1;
            self.settle(child, bytes);
        }
        removed
    }

    /// After slots have been removed below a child: an empty one goes, a low one may join a neighbour.
    fn settle(&mut self, child: usize, bytes: &mut usize) {
        if self.counts[child] == 0 {
            return self.drop_children(child..child + 1, bytes);
        }
        self.first[child] = self.children[child].first();
        let items = self.children[child].items();
        if items >= LOW {
            return;
        }
        let fits = |at: usize| {
            let neighbour = self.children.get(at);
            neighbour.is_some_and(|neighbour| neighbour.items() + items <= LEAF_MOST / 2)
        };
        if fits(child + 1) {
            self.join_next(child, bytes);
        } else if child > 0 && fits(child - 1) {
            self.join_next(child - 1, bytes);
        }
    }

    /// Merges a child with the next one.
    fn join_next(&mut self, child: usize, bytes: &mut usize) {
        let next = std::mem::replace(&mut self.children[child + 1], Node::Leaf(Vec::new()));
        match (&mut self.children[child], next) {
            (Node::Leaf(left), Node::Leaf(right)) => join(left, right, bytes),
            (Node::Inner(left), Node::Inner(right)) => {
                *bytes -= size_class(size_of::<Self>());
                join(&mut left.first, right.first, bytes);
                join(&mut left.counts, right.counts, bytes);
                join(&mut left.children, right.children, bytes);
            }
            _ => unreachable!("all leaves are equally deep"),
        }
        self.counts[child] += self.counts[child + 1];
        self.drop_children(child + 1..child + 2, bytes);
    }

    fn remove_ranks(&mut self, ranks: Range<usize>, bytes: &mut usize, taken: &mut impl FnMut(Slot<M>)) {
        let Some((first, before)) = self.child_of(ranks.start) else {
            return;
        };
        if ranks.end - before <= self.counts[first] {
            self.counts[first] -= ranks.len();
            self.children[first].remove_ranks(ranks.start - before..ranks.end - before, bytes, taken);
            return self.settle(first, bytes);
        }
        let mut last = first;
        for (child, part) in self.parts(ranks).collect::<Vec<_>>() {
            self.counts[child] -= part.len();
            self.children[child].remove_ranks(part, bytes, taken);
            last = child;
        }
        // Only the outermost of them can have anything left.
        let emptied = |child: usize| usize::from(self.counts[child] == 0);
        let gone = first + 1 - emptied(first)..last + emptied(last);
        if gone.start < gone.end {
            self.drop_children(gone, bytes);
        }
        for child in [first + 1, first] {
            if child < self.children.len() {
                self.settle(child, bytes);
            }
        }
    }
}

/// A node with fewer items looks for a neighbour to join.
const LOW: usize = LEAF_MOST / 4;
const _: () = assert!(LEAF_MOST == INNER_MOST, "one measure of emptiness serves both");

#[cfg(test)]
mod tests;
