//! The large encoding: a hash table that owns the elements, and a tree that orders them.
//!
//! ```text
//! element block:  score f64 | length u8, or 0xff and u32 LE | member
//! ```
//!
//! An element is one block. The table holds it by an owning pointer, and the tree by a plain one beside a copy of the
//! score, so that a search in the tree reads no block unless scores are equal.
//!
//! Guarantees: every element in the table is in the tree with the score that its block holds, and no other is; a slot
//! leaves the tree before its block is freed, and the tree goes before the table.

use super::{Cut, Update};
use crate::object::dict::{Dict, DictItem};
use crate::object::ordered::{Member, Ordered, Slot};
use crate::object::size_class;
use crate::pointer::TaggedPtr;
use std::ops::Range;

const SCORE: usize = size_of::<f64>();
/// The length byte that says that four bytes of length follow.
const LONG: u8 = 0xff;

/// An owned element, and with its address the tag of its table.
struct Scored(TaggedPtr);

/// An element's block, seen from the tree of the table that owns it.
#[derive(Clone, Copy)]
struct Handle(*const u8);

// SAFETY: a Scored owns its block, which is plain bytes; handles of it are in the same Table, which moves as a whole.
unsafe impl Send for Scored {}
// SAFETY: a shared Scored only reads its block; all change goes through `&mut self`.
unsafe impl Sync for Scored {}
// SAFETY: a Handle only reads, and blocks change through `&mut Table` alone, which no other thread has then.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// The start of the member in its block, and its length.
///
/// # Safety
/// `block` is that of an element, and is not freed.
#[inline]
unsafe fn member_at(block: *const u8) -> (usize, usize) {
    // SAFETY: the block starts with a score and a length byte; where that is LONG, four bytes of length follow.
    unsafe {
        match *block.add(SCORE) {
            LONG => {
                let len = block.add(SCORE + 1).cast::<u32>().read_unaligned();
                (SCORE + 5, u32::from_le(len) as usize)
            }
            len => (SCORE + 1, len as usize),
        }
    }
}

impl Scored {
    fn new(member: &[u8], score: f64) -> Scored {
        let long = member.len() >= LONG as usize;
        let mut block = Vec::with_capacity(SCORE + if long { 5 } else { 1 } + member.len());
        block.extend_from_slice(&score.to_ne_bytes());
        if long {
            // proof: requests are limited to far shorter strings.
            let len = u32::try_from(member.len()).expect("a member's length fits 32 bits");
            block.push(LONG);
            block.extend_from_slice(&len.to_le_bytes());
        } else {
            block.push(member.len() as u8);
        }
        block.extend_from_slice(member);
        Scored(TaggedPtr::from_box(block.into_boxed_slice()))
    }

    #[inline]
    fn block(&self) -> *mut u8 {
        self.0.block()
    }

    #[inline]
    fn score(&self) -> f64 {
        // SAFETY: the block is owned and starts with the score, which need not be aligned.
        f64::from_ne_bytes(unsafe { self.block().cast::<[u8; SCORE]>().read() })
    }

    fn set_score(&mut self, score: f64) {
        // SAFETY: as `score`; `&mut self` makes the access exclusive, and handles are read through the Table only.
        unsafe { self.block().cast::<[u8; SCORE]>().write(score.to_ne_bytes()) }
    }

    #[inline]
    fn handle(&self) -> Handle {
        Handle(self.block())
    }

    fn block_len(&self) -> usize {
        // SAFETY: the block is owned, so it is there.
        let (at, len) = unsafe { member_at(self.block()) };
        at + len
    }
}

impl Drop for Scored {
    fn drop(&mut self) {
        let block = std::ptr::slice_from_raw_parts_mut(self.block(), self.block_len());
        // SAFETY: the block came from a box of this length, and its slot has left the tree.
        drop(unsafe { Box::from_raw(block) });
    }
}

impl DictItem for Scored {
    #[inline]
    fn key(&self) -> &[u8] {
        // SAFETY: the member lies within the block, which is owned and lives as long as `self`.
        unsafe {
            let (at, len) = member_at(self.block());
            std::slice::from_raw_parts(self.block().add(at), len)
        }
    }

    #[inline]
    fn address(&self) -> *const u8 {
        self.block()
    }

    #[inline]
    fn tag(&self) -> u16 {
        self.0.tag()
    }

    fn set_tag(&mut self, tag: u16) {
        self.0.set_tag(tag);
    }

    fn heap_bytes(&self) -> usize {
        size_class(self.block_len())
    }
}

impl Member for Handle {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: handles are only in a Table's tree, which they leave before their block is freed; the member lies
        // within the block, and members never change.
        unsafe {
            let (at, len) = member_at(self.0);
            std::slice::from_raw_parts(self.0.add(at), len)
        }
    }
}

/// The tree stands first, so that it is dropped before the blocks that it points to.
pub struct Table {
    order: Ordered<Handle>,
    members: Dict<Scored>,
    /// What the hashes of `members` are seeded with.
    hash_seed: u64,
}

impl Table {
    /// A table of elements that come in order. Of a member that comes twice the first counts.
    pub fn from_sorted<'a>(pairs: impl Iterator<Item = (&'a [u8], f64)>, hash_seed: u64) -> Table {
        let mut members = Dict::new(hash_seed);
        let slots = pairs.filter_map(|(member, score)| {
            let mut handle = None;
            members.add(member, || {
                let item = Scored::new(member, score);
                handle = Some(item.handle());
                item
            });
            handle.map(|member| Slot { score, member })
        });
        let order = Ordered::from_sorted(slots);
        Table {
            order,
            members,
            hash_seed,
        }
    }

    pub fn new(hash_seed: u64) -> Table {
        Table::from_sorted(std::iter::empty(), hash_seed)
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn seed(&self) -> u64 {
        self.hash_seed
    }

    /// The hash of a member, whether it is there or not.
    pub fn hash(&self, member: &[u8]) -> u64 {
        self.members.hash(member)
    }

    pub fn bytes(&self) -> usize {
        self.order.bytes() + self.members.bytes()
    }

    pub fn prefetch(&self, members: &[&[u8]]) {
        self.members.prefetch(members);
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.members.get(member).map(Scored::score)
    }

    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        Some((self.order.rank(score, member), score))
    }

    pub fn position(&self, cut: &Cut<'_>) -> usize {
        match cut.needs_members() {
            true => self
                .order
                .partition(|slot| cut.is_behind(slot.score, slot.member.bytes())),
            false => self.order.partition(|slot| cut.is_behind(slot.score, b"")),
        }
    }

    pub fn visit(&self, ranks: Range<usize>, reverse: bool, mut visit: impl FnMut(&[u8], f64)) {
        self.order
            .visit(ranks, reverse, |slot| visit(slot.member.bytes(), slot.score));
    }

    pub fn scan<'a>(&'a self, cursor: u64, count: usize, visit: &mut impl FnMut(&'a [u8], f64)) -> u64 {
        self.members
            .scan(cursor, count, |item| visit(item.key(), item.score()))
    }

    pub fn update(&mut self, member: &[u8], decide: impl FnOnce(Option<f64>) -> Option<f64>) -> Update {
        let Some(item) = self.members.get_mut(member) else {
            return match decide(None) {
                Some(score) => {
                    self.add(member, score);
                    Update::Added
                }
                None => Update::Kept,
            };
        };
        let old = item.score();
        let Some(score) = decide(Some(old)).filter(|score| *score != old) else {
            return Update::Kept;
        };
        let member = item.handle();
        self.order.move_to(old, Slot { score, member });
        item.set_score(score);
        Update::Moved
    }

    /// Adds an element whose member is absent.
    pub fn add(&mut self, member: &[u8], score: f64) {
        let item = Scored::new(member, score);
        let member = item.handle();
        self.members.insert(item);
        self.order.insert(Slot { score, member });
    }

    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let item = self.members.remove(member)?;
        let score = item.score();
        self.order.remove(score, member);
        Some(score)
    }

    pub fn remove_ranks(&mut self, ranks: Range<usize>, mut taken: impl FnMut(&[u8], f64)) {
        let members = &mut self.members;
        // A slot that is handed over is out of the tree, so its block may go.
        self.order.remove_ranks(ranks, |slot| {
            if let Some(item) = members.remove(slot.member.bytes()) {
                taken(item.key(), slot.score);
            }
        });
    }
}

impl Clone for Table {
    fn clone(&self) -> Table {
        let mut slots = Vec::with_capacity(self.len());
        self.order.visit(0..usize::MAX, false, |slot| slots.push(*slot));
        let pairs = slots.iter().map(|slot| (slot.member.bytes(), slot.score));
        Table::from_sorted(pairs, self.hash_seed)
    }
}
