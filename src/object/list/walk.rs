//! Walking over a list's elements from either end.

use super::node::{Node, Side};
use super::paged::Run;
use super::{List, Native, element};
use crate::object::listpack::Item;

/// The elements of a list one after the other, from one side to the other.
pub struct Walk<'a> {
    list: &'a List,
    side: Side,
    /// Nodes before this one, or from this one on, are still to be walked.
    border: usize,
    /// Where a paged list is to be walked from: nothing is looked at before it is asked for.
    start: Option<usize>,
    /// In place of the others, the nodes of a paged list.
    run: Option<Run<'a>>,
    rest: Rest<'a>,
}

/// What is left of the current node.
enum Rest<'a> {
    /// Elements in listpack form.
    Packed(&'a [u8]),
    Plain(&'a [u8]),
}

impl<'a> Walk<'a> {
    pub(super) fn new(list: &'a List, side: Side, skip: usize) -> Walk<'a> {
        let mut walk = Walk {
            list,
            side,
            border: match side {
                Side::Front => list.node_count(),
                Side::Back => 0,
            },
            start: None,
            run: None,
            rest: Rest::Packed(&[]),
        };
        if skip < list.len() {
            let index = match side {
                Side::Front => skip,
                Side::Back => list.len() - 1 - skip,
            };
            match list.pages() {
                Some(_) => walk.start = Some(index),
                None => walk.start_at(index),
            }
        }
        walk
    }

    fn start_at(&mut self, index: usize) {
        if let Some(paged) = self.list.pages() {
            let (mut run, index) = paged.nodes_from(self.side, index);
            if let Some(node) = run.next() {
                self.start_in(node, node.offset_of(index));
            }
            self.run = Some(run);
            return;
        }
        let place = self.list.locate(index);
        let Some(node) = self.list.node(place.node) else {
            return;
        };
        self.start_in(node, place.offset);
        match self.side {
            Side::Front => self.border = place.node + 1,
            Side::Back => self.border = place.node,
        }
    }

    fn start_in(&mut self, node: &'a Node, offset: usize) {
        self.rest = Rest::of(node);
        if let Rest::Packed(bytes) = &mut self.rest {
            *bytes = match self.side {
                Side::Front => &bytes[offset..],
                Side::Back => &bytes[..offset + node.len_at(offset)],
            };
        }
    }

    /// Goes on to the next node; false when there is none.
    #[cold]
    fn turn(&mut self) -> bool {
        if let Some(index) = self.start.take() {
            self.start_at(index);
            return true;
        }
        if let Some(run) = &mut self.run {
            let next = run.next();
            self.rest = next.map_or(Rest::Packed(&[]), Rest::of);
            return next.is_some();
        }
        let next = match self.side {
            Side::Front => self.border,
            Side::Back if self.border == 0 => return false,
            Side::Back => self.border - 1,
        };
        let Some(node) = self.list.node(next) else {
            return false;
        };
        self.rest = Rest::of(node);
        self.border = match self.side {
            Side::Front => next + 1,
            Side::Back => next,
        };
        true
    }
}

impl<'a> Rest<'a> {
    fn of(node: &'a Node) -> Rest<'a> {
        match node.is_plain() {
            true => Rest::Plain(node.bytes()),
            false => Rest::Packed(node.bytes()),
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        loop {
            match self.rest {
                Rest::Packed([]) => {
                    if !self.turn() {
                        return None;
                    }
                }
                Rest::Packed(bytes) if self.side == Side::Front => {
                    let (item, len) = element::decode(bytes);
                    self.rest = Rest::Packed(&bytes[len..]);
                    return Some(item);
                }
                Rest::Packed(bytes) => {
                    let at = bytes.len() - element::last_len(bytes);
                    self.rest = Rest::Packed(&bytes[..at]);
                    return Some(element::decode(&bytes[at..]).0);
                }
                Rest::Plain(value) => {
                    self.rest = Rest::Packed(&[]);
                    return Some(Item::Bytes(value));
                }
            }
        }
    }
}
