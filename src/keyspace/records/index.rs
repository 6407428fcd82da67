//! From the hash of a topic to the slot of its record.
//!
//! ```text
//!   cells: | tag, slot + 1 | 0 | tag, slot + 1 | ...      a tag is 32 bits of the hash, 0 is an empty cell
//!   home of a tag = tag * cells / 2^32; one that is taken is followed by the next
//! ```
//!
//! Why not a table of the ordinary kind: here the line in which a search ends is known from the hash, so that the
//! searches of a batch of requests can be begun together (`keyspace::prefetch`), and what grows by a quarter wastes
//! less than what doubles. The topics of one key differ in the lowest bits of their tags, so they are neighbours.
//!
//! Guarantees: a quarter of the cells at least is empty, so every search ends; between a cell and its home none is
//! empty.

use super::Kind;

/// The bits of a tag that tell the kinds of a key's topics apart.
const KIND_BITS: u32 = 7;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Cell(u64);

impl Cell {
    fn new(tag: u32, slot: u32) -> Cell {
        Cell(u64::from(tag) << 32 | (u64::from(slot) + 1))
    }

    fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn slot(self) -> Option<u32> {
        (self.0 as u32).checked_sub(1)
    }
}

/// The bits of the hash that do not choose the shard.
fn tag(hash: u64, kind: Kind) -> u32 {
    hash as u32 ^ kind as u32
}

#[derive(Default)]
pub(super) struct Index {
    cells: Box<[Cell]>,
    len: usize,
}

impl Index {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.cells)
    }

    /// The slot of a topic; `is_it` says of one that may be its whether it is.
    #[inline]
    pub(super) fn find(&self, hash: u64, kind: Kind, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let wanted = tag(hash, kind);
        let mut cells = self.chain_of(wanted);
        cells.find_map(|cell| cell.slot().filter(|slot| cell.tag() == wanted && is_it(*slot)))
    }

    /// Slots that may be those of the topics of a key, of whatever kind.
    pub(super) fn likely(&self, hash: u64) -> impl Iterator<Item = u32> {
        let wanted = hash as u32 & !KIND_BITS;
        let of_key = move |cell: &Cell| cell.tag() & !KIND_BITS == wanted;
        self.chain_of(wanted).filter(of_key).filter_map(Cell::slot)
    }

    /// Where the search for the topics of a key begins.
    pub(super) fn home_address(&self, hash: u64) -> Option<*const u8> {
        let cell = self.cells.get(self.home(hash as u32))?;
        Some(std::ptr::from_ref(cell).cast())
    }

    /// Adds the slot of a topic that is not there.
    pub(super) fn insert(&mut self, hash: u64, kind: Kind, slot: u32) {
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            let cells = self.cells.len() + self.cells.len() / 4 + 4;
            let old = std::mem::replace(&mut self.cells, vec![Cell::default(); cells].into());
            old.iter()
                .filter(|cell| cell.slot().is_some())
                .for_each(|cell| self.place(*cell));
        }
        self.len += 1;
        self.place(Cell::new(tag(hash, kind), slot));
    }

    fn place(&mut self, cell: Cell) {
        let mut at = self.home(cell.tag());
        while self.cells[at].slot().is_some() {
            at = self.next(at);
        }
        self.cells[at] = cell;
    }

    /// Takes the slot of a topic out.
    pub(super) fn remove(&mut self, hash: u64, kind: Kind, slot: u32) {
        let wanted = Cell::new(tag(hash, kind), slot);
        if self.cells.is_empty() {
            return;
        }
        let mut at = self.home(wanted.tag());
        while self.cells[at] != wanted {
            if self.cells[at].slot().is_none() {
                return;
            }
            at = self.next(at);
        }
        self.len -= 1;
        self.close_gap(at);
    }

    /// Those behind a cell that is to be empty move up to their homes, so that no search ends before them.
    fn close_gap(&mut self, mut gap: usize) {
        let mut at = gap;
        loop {
            self.cells[gap] = Cell::default();
            let moved = loop {
                at = self.next(at);
                let cell = self.cells[at];
                if cell.slot().is_none() {
                    return;
                }
                if self.distance(self.home(cell.tag()), at) >= self.distance(gap, at) {
                    break cell;
                }
            };
            self.cells[gap] = moved;
            gap = at;
        }
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.cells.len() - from
        }
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.cells.len() { 0 } else { at + 1 }
    }

    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.cells.len() as u64) >> 32) as usize
    }

    /// The cells from the home of a tag to the first empty one.
    #[inline]
    fn chain_of(&self, tag: u32) -> impl Iterator<Item = Cell> {
        let mut at = self.home(tag);
        // Ends: some cells are empty.
        std::iter::from_fn(move || {
            let cell = self.cells.get(at).copied()?;
            at = self.next(at);
            cell.slot().map(|_| cell)
        })
    }
}
