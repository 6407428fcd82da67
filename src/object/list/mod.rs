//! Lists: sequences of byte strings, quick at both ends.
//!
//! Two encodings, which no command sees. A small list is one packed node; a large one a chain of packed nodes, with
//! elements larger than a node may be as plain nodes of their own:
//!
//! ```text
//! List::Packed(node)      one block
//! List::Chain(box)   →    [ node | node | node | … ]   a queue of 24 bytes each: block, start, count
//!                             ↓      ↓      ↓
//!                           block  block  block        about 8 kB each (`list-max-listpack-size`)
//! ```
//!
//! * A list becomes a chain when the elements to be added would make it exceed one node, and goes back when removals
//!   leave one node that is at most half full: as Redis 7.2 does it, so that `OBJECT ENCODING` says the same.
//! * The elements within a node are those of a listpack byte for byte (see `node`): stored forms are copies of them.
//! * `list-compress-depth` is accepted and has no effect: inner nodes are kept as they are.
//!
//! Guarantees: the packed form has no plain node; a chain has no empty one. An element's bytes come back as they were
//! given; those that read as integers are kept as such, and are printed when asked for.

mod chain;
mod element;
mod node;
#[cfg(test)]
mod tests;
mod walk;

use self::chain::{Chain, NodeLimit, Place};
use self::element::{Element, Wanted};
use super::listpack::{Item, Listpack};
use super::{Limits, Native, object_conversions};
use std::ops::Range;

pub use self::node::{Node, Side};
pub use self::walk::Walk;

const _: () = assert!(size_of::<List>() <= 24);

#[derive(Clone)]
pub enum List {
    Packed(Node),
    Chain(Box<Chain>),
}

impl Native for List {
    const NAME: &'static str = "list";

    fn empty() -> List {
        List::Packed(Node::new())
    }

    #[inline]
    fn len(&self) -> usize {
        match self {
            List::Packed(node) => node.len(),
            List::Chain(chain) => chain.len(),
        }
    }

    #[inline]
    fn bytes(&self) -> usize {
        match self {
            List::Packed(node) => node.heap_bytes(),
            List::Chain(chain) => chain.heap_bytes(),
        }
    }

    fn encoding(&self) -> &'static str {
        match self {
            List::Packed(_) => "listpack",
            List::Chain(_) => "quicklist",
        }
    }

    object_conversions!(List);
}

impl List {
    /// Adds elements at one end, one after the other: the last one will be the outermost.
    #[inline]
    pub fn push(&mut self, side: Side, values: &[&[u8]], limits: &Limits) {
        let limit = self.prepare(values, limits);
        match self {
            List::Packed(node) => values
                .iter()
                .for_each(|value| node.push(side, &Element::of(value))),
            List::Chain(chain) => values.iter().for_each(|value| chain.push(side, value, limit)),
        }
    }

    /// The element at one end.
    #[inline]
    pub fn peek(&self, side: Side) -> Option<Item<'_>> {
        match self {
            List::Packed(node) => node.peek(side),
            List::Chain(chain) => chain.peek(side),
        }
    }

    /// Takes `count` elements off one end, or all if there are no more.
    #[inline]
    pub fn shorten(&mut self, side: Side, count: usize, limits: &Limits) {
        match self {
            List::Packed(node) => node.shorten(side, count.min(node.len())),
            List::Chain(chain) => chain.shorten(side, count),
        }
        self.settle(limits);
    }

    /// Element `index` from the front.
    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        let place = (index < self.len()).then(|| self.locate(index))?;
        Some(self.node(place.node)?.get(place.offset))
    }

    /// The elements from one side to the other, without the first `skip` of them.
    pub fn walk(&self, side: Side, skip: usize) -> Walk<'_> {
        Walk::new(self, side, skip)
    }

    /// Puts `value` in the place of element `index`; false when there is none.
    pub fn set(&mut self, index: usize, value: &[u8], limits: &Limits) -> bool {
        if index >= self.len() {
            return false;
        }
        let limit = self.prepare(&[value], limits);
        let place = self.locate(index);
        match self {
            List::Packed(node) => node.replace(place.offset, &Element::of(value)),
            List::Chain(chain) => chain.replace(place, value, limit),
        }
        self.settle(limits);
        true
    }

    /// Puts `value` beside the first element that equals `pivot`, on the side given; false when there is none.
    pub fn insert(&mut self, pivot: &[u8], side: Side, value: &[u8], limits: &Limits) -> bool {
        let Some(mut place) = self.find(&Wanted::new(pivot)) else {
            return false;
        };
        // The place stays what it is: a packed list's node becomes the first one of a chain.
        let limit = self.prepare(&[value], limits);
        if side == Side::Back {
            place.offset += self.node(place.node).map_or(0, |node| node.len_at(place.offset));
            place.index += 1;
        }
        match self {
            List::Packed(node) => node.insert(place.offset, &Element::of(value)),
            List::Chain(chain) => chain.insert(place, value, limit),
        }
        true
    }

    /// Removes the elements that equal `value`, at most so many, beginning at one side. Returns how many there were.
    pub fn remove(&mut self, value: &[u8], side: Side, most: usize, limits: &Limits) -> usize {
        let wanted = Wanted::new(value);
        let removed = match self {
            List::Packed(node) => node.remove_equal(&wanted, side, most),
            List::Chain(chain) => chain.remove_equal(&wanted, side, most),
        };
        if removed > 0 {
            self.settle(limits);
        }
        removed
    }

    /// Removes all elements but those of a range, which lies within the list.
    pub fn keep(&mut self, range: Range<usize>, limits: &Limits) {
        let behind = self.len() - range.end;
        self.shorten(Side::Back, behind, limits);
        self.shorten(Side::Front, range.start, limits);
    }

    /// Its nodes, for stored forms. A packed list is one node.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        let (first, second) = match self {
            List::Packed(node) => (std::slice::from_ref(node), &[][..]),
            List::Chain(chain) => chain.nodes().as_slices(),
        };
        first.iter().chain(second)
    }

    pub fn node_count(&self) -> usize {
        match self {
            List::Packed(_) => 1,
            List::Chain(chain) => chain.nodes().len(),
        }
    }

    /// Adds the elements of a listpack as one node, whatever the limits; call `settle_loaded` at the end.
    pub fn load_packed(&mut self, listpack: &Listpack) {
        let bytes = listpack.as_bytes();
        self.load(Node::packed(
            &bytes[node::LISTPACK_HEAD..bytes.len() - 1],
            listpack.len(),
        ));
    }

    /// Adds an element as a plain node, whatever the limits; call `settle_loaded` at the end.
    pub fn load_plain(&mut self, value: &[u8]) {
        self.load(Node::plain(value));
    }

    fn load(&mut self, node: Node) {
        if node.is_empty() {
            return;
        }
        match self {
            List::Packed(empty) if empty.is_empty() && !node.is_plain() => *empty = node,
            _ => {
                let chain = self.make_chain();
                chain.insert_node(chain.nodes().len(), node);
            }
        }
    }

    /// Ends loading: only a list of one node that is small enough is a packed one.
    pub fn settle_loaded(&mut self, limits: &Limits) {
        let limit = NodeLimit::new(limits.list_max_listpack_size);
        match self {
            List::Packed(node) if !limit.holds(node.listpack_bytes(), node.len()) => {
                self.make_chain();
            }
            _ => self.make_packed_if(|bytes, count| limit.holds(bytes, count)),
        }
    }

    /// Sees to it that these elements can be added, or one of them put in another's place: a packed list that they
    /// would make too large becomes a chain. They count as they are, not as they will be written.
    #[inline]
    fn prepare(&mut self, added: &[&[u8]], limits: &Limits) -> NodeLimit {
        let limit = NodeLimit::new(limits.list_max_listpack_size);
        if let List::Packed(node) = self {
            let bytes = node.listpack_bytes() + added.iter().map(|value| value.len()).sum::<usize>();
            if !limit.holds(bytes, node.len() + added.len()) {
                self.make_chain();
            }
        }
        limit
    }

    fn make_chain(&mut self) -> &mut Chain {
        if let List::Packed(node) = self {
            let node = std::mem::replace(node, Node::new());
            *self = List::Chain(Box::new(Chain::new(node)));
        }
        match self {
            List::Chain(chain) => chain,
            List::Packed(_) => unreachable!("it was made a chain above"),
        }
    }

    /// After a removal: one node that is at most half full is a packed list again.
    #[inline]
    fn settle(&mut self, limits: &Limits) {
        let limit = NodeLimit::new(limits.list_max_listpack_size);
        self.make_packed_if(|bytes, count| limit.holds_twice(bytes, count));
    }

    #[inline]
    fn make_packed_if(&mut self, small: impl Fn(usize, usize) -> bool) {
        let List::Chain(chain) = self else { return };
        let only = chain.take_only_if(|node| !node.is_plain() && small(node.listpack_bytes(), node.len()));
        if let Some(node) = only {
            *self = List::Packed(node);
        }
    }

    #[inline]
    fn node(&self, at: usize) -> Option<&Node> {
        match self {
            List::Packed(node) => (at == 0).then_some(node),
            List::Chain(chain) => chain.nodes().get(at),
        }
    }

    /// The place of element `index`, which there is.
    fn locate(&self, index: usize) -> Place {
        match self {
            List::Packed(node) => Place {
                node: 0,
                index,
                offset: node.offset_of(index),
            },
            List::Chain(chain) => chain.locate(index),
        }
    }

    /// The place of the first element that equals `wanted`.
    fn find(&self, wanted: &Wanted<'_>) -> Option<Place> {
        let mut nodes = self.nodes().enumerate();
        nodes.find_map(|(node, it)| {
            let (index, offset) = it.find(wanted)?;
            Some(Place { node, index, offset })
        })
    }
}
