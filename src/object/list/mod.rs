//! Lists: sequences of byte strings, quick at both ends.
//!
//! Three encodings, which no command sees. A small list is one packed node; a large one a chain of packed nodes, with
//! elements larger than a node may be as plain nodes of their own:
//!
//! ```text
//! List::Packed(node)      one block
//! Large::Chain       →    [ node | node | node | … ]   a queue of 24 bytes each: block, start, count
//!                             ↓      ↓      ↓
//!                           block  block  block        about 8 kB each (`list-max-listpack-size`)
//! Large::Paged       →    those nodes that are in use; the other elements are in a store (`paged`)
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
mod paged;
#[cfg(test)]
mod tests;
mod walk;

use self::chain::{Chain, NodeLimit, Place};
use self::element::{Element, Wanted};
use self::paged::PagedList;
use super::listpack::{Item, Listpack};
use super::pages::Summary;
use super::{Limits, Native, object_conversions};
use std::ops::Range;

pub use self::node::{Node, Side};
pub use self::walk::Walk;

const _: () = assert!(size_of::<List>() <= 24);
/// What a chain counts as its own place.
const _: () = assert!(size_of::<Large>() == size_of::<Chain>());

#[derive(Clone)]
pub enum List {
    Packed(Node),
    Large(Box<Large>),
}

#[derive(Clone)]
pub enum Large {
    Chain(Chain),
    Paged(Box<PagedList>),
}

/// A list by its encoding.
enum View<'a> {
    Packed(&'a Node),
    Chain(&'a Chain),
    Paged(&'a PagedList),
}

enum ViewMut<'a> {
    Packed(&'a mut Node),
    Chain(&'a mut Chain),
    Paged(&'a mut PagedList),
}

impl Native for List {
    const NAME: &'static str = "list";

    fn empty() -> List {
        List::Packed(Node::new())
    }

    #[inline]
    fn len(&self) -> usize {
        match self.view() {
            View::Packed(node) => node.len(),
            View::Chain(chain) => chain.len(),
            View::Paged(paged) => paged.len(),
        }
    }

    #[inline]
    fn bytes(&self) -> usize {
        match self.view() {
            View::Packed(node) => node.heap_bytes(),
            View::Chain(chain) => chain.heap_bytes(),
            View::Paged(paged) => paged.bytes(),
        }
    }

    fn encoding(&self) -> &'static str {
        match self.view() {
            View::Packed(_) => "listpack",
            View::Chain(_) | View::Paged(_) => "quicklist",
        }
    }

    object_conversions!(List);
}

impl List {
    #[inline]
    fn view(&self) -> View<'_> {
        match self {
            List::Packed(node) => View::Packed(node),
            List::Large(large) => match &**large {
                Large::Chain(chain) => View::Chain(chain),
                Large::Paged(paged) => View::Paged(paged),
            },
        }
    }

    #[inline]
    fn view_mut(&mut self) -> ViewMut<'_> {
        match self {
            List::Packed(node) => ViewMut::Packed(node),
            List::Large(large) => match &mut **large {
                Large::Chain(chain) => ViewMut::Chain(chain),
                Large::Paged(paged) => ViewMut::Paged(paged),
            },
        }
    }

    fn chain(chain: Chain) -> List {
        List::Large(Box::new(Large::Chain(chain)))
    }

    /// Adds elements at one end, one after the other: the last one will be the outermost.
    #[inline]
    pub fn push(&mut self, side: Side, values: &[&[u8]], limits: &Limits) {
        let limit = self.prepare(values, limits);
        match self.view_mut() {
            ViewMut::Packed(node) => values
                .iter()
                .for_each(|value| node.push(side, &Element::of(value))),
            ViewMut::Chain(chain) => values.iter().for_each(|value| chain.push(side, value, limit)),
            ViewMut::Paged(paged) => values.iter().for_each(|value| paged.push(side, value, limit)),
        }
    }

    /// The element at one end.
    #[inline]
    pub fn peek(&self, side: Side) -> Option<Item<'_>> {
        match self.view() {
            View::Packed(node) => node.peek(side),
            View::Chain(chain) => chain.peek(side),
            View::Paged(paged) => paged.peek(side),
        }
    }

    /// Takes `count` elements off one end, or all if there are no more.
    #[inline]
    pub fn shorten(&mut self, side: Side, count: usize, limits: &Limits) {
        match self.view_mut() {
            ViewMut::Packed(node) => node.shorten(side, count.min(node.len())),
            ViewMut::Chain(chain) => chain.shorten(side, count),
            ViewMut::Paged(paged) => paged.shorten(side, count),
        }
        self.settle(limits);
    }

    /// Element `index` from the front.
    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        if let View::Paged(paged) = self.view() {
            return (index < paged.len()).then(|| paged.get(index));
        }
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
        match self.view_mut() {
            ViewMut::Packed(node) => node.replace(place.offset, &Element::of(value)),
            ViewMut::Chain(chain) => chain.replace(place, value, limit),
            ViewMut::Paged(paged) => paged.set(index, value, limit),
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
            place.offset += self
                .nodes()
                .nth(place.node)
                .map_or(0, |node| node.len_at(place.offset));
            place.index += 1;
        }
        match self.view_mut() {
            ViewMut::Packed(node) => node.insert(place.offset, &Element::of(value)),
            ViewMut::Chain(chain) => chain.insert(place, value, limit),
            ViewMut::Paged(paged) => {
                let from = paged.index_of(place);
                paged.edit(from, |chain| chain.insert(place, value, limit));
            }
        }
        true
    }

    /// Removes the elements that equal `value`, at most so many, beginning at one side. Returns how many there were.
    pub fn remove(&mut self, value: &[u8], side: Side, most: usize, limits: &Limits) -> usize {
        let wanted = Wanted::new(value);
        // Asked of a paged list only: what is before the first one stays where it is.
        let first = self.is_paged().then(|| self.find(&wanted));
        let removed = match self.view_mut() {
            ViewMut::Packed(node) => node.remove_equal(&wanted, side, most),
            ViewMut::Chain(chain) => chain.remove_equal(&wanted, side, most),
            ViewMut::Paged(paged) => first.flatten().map_or(0, |first| {
                let from = paged.index_of(first);
                paged.edit(from, |chain| chain.remove_equal(&wanted, side, most))
            }),
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
        let (first, second, paged) = match self.view() {
            View::Packed(node) => (std::slice::from_ref(node), &[][..], None),
            View::Chain(chain) => {
                let (first, second) = chain.nodes().as_slices();
                (first, second, None)
            }
            View::Paged(paged) => (&[][..], &[][..], Some(paged.all())),
        };
        first.iter().chain(second).chain(paged.into_iter().flatten())
    }

    pub fn node_count(&self) -> usize {
        match self.view() {
            View::Packed(_) => 1,
            View::Chain(chain) => chain.nodes().len(),
            View::Paged(paged) => paged.node_count(),
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
            *self = List::chain(Chain::new(node));
        }
        match self.view_mut() {
            ViewMut::Chain(chain) => chain,
            ViewMut::Packed(_) => unreachable!("it was made a chain above"),
            ViewMut::Paged(_) => unreachable!("only what is packed or loaded is made a chain"),
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
        let ViewMut::Chain(chain) = self.view_mut() else {
            return;
        };
        let only = chain.take_only_if(|node| !node.is_plain() && small(node.listpack_bytes(), node.len()));
        if let Some(node) = only {
            *self = List::Packed(node);
        }
    }

    #[inline]
    fn node(&self, at: usize) -> Option<&Node> {
        match self.view() {
            View::Packed(node) => (at == 0).then_some(node),
            View::Chain(chain) => chain.nodes().get(at),
            View::Paged(_) => None,
        }
    }

    /// The place of element `index`, which there is.
    fn locate(&self, index: usize) -> Place {
        match self.view() {
            View::Packed(node) => Place {
                node: 0,
                index,
                offset: node.offset_of(index),
            },
            View::Chain(chain) => chain.locate(index),
            // By its position instead.
            View::Paged(_) => Place {
                node: 0,
                index,
                offset: 0,
            },
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

/// As a collection that need not fit memory.
impl List {
    pub fn of_summary(summary: &Summary) -> List {
        List::paged(PagedList::of_summary(summary))
    }

    fn paged(paged: PagedList) -> List {
        List::Large(Box::new(Large::Paged(Box::new(paged))))
    }

    fn is_paged(&self) -> bool {
        matches!(self.view(), View::Paged(_))
    }

    pub fn pages(&self) -> Option<&PagedList> {
        match self.view() {
            View::Paged(paged) => Some(paged),
            _ => None,
        }
    }

    pub fn pages_mut(&mut self) -> Option<&mut PagedList> {
        match self.view_mut() {
            ViewMut::Paged(paged) => Some(paged),
            _ => None,
        }
    }

    pub fn can_be_paged(&self) -> bool {
        matches!(self.view(), View::Chain(_))
    }

    /// Makes a chain paged; all of it is in memory still, and none of it in the store.
    pub fn page(&mut self, version: u64) {
        if let ViewMut::Chain(chain) = self.view_mut() {
            let chain = std::mem::replace(chain, Chain::new(Node::new()));
            *self = List::paged(PagedList::of_chain(chain, version));
        }
    }

    /// Makes a chain of a paged list, all of which is in memory.
    pub fn unpage(&mut self) {
        if let ViewMut::Paged(paged) = self.view_mut() {
            *self = List::chain(paged.take_chain());
        }
    }
}
