//! What a collection that need not fit memory tells the keyspace, whatever its type: which rows it wants, which have
//! changed, and what the row of the collection says.
//!
//! ```text
//! Paged               hashes and sets     rows in the order of hashes       what is in memory: single elements
//! list::paged         lists               rows in the order of positions    what is in memory: runs of elements
//! stream::paged       streams             rows of nodes, in that of ids     what is in memory: nodes, groups, and facts
//! sorted_set::paged   sorted sets         rows in the order of hashes, and  what is in memory: single elements, and which
//!                                         others in that of scores          intervals of scores have no others
//! ```
//!
//! A row of an element is named by its *place*: the bytes that follow those which all rows of the collection begin
//! with. Places are ordered as the rows are. What a place and a row's value mean only the type knows.
//!
//! Guarantees, which every type keeps:
//! * An element that is asked for was brought in before (`lacking`, `bring_in`): what a value is never depends on what
//!   is in memory, so asking for another one is a fault that ends the command.
//! * `state` is another one whenever something has left memory that the store may not say: who has read rows while
//!   nobody held the value can tell whether they are still true. It never repeats.

use super::dict::{Dict, Field};
use super::sorted_set::paged as sorted_set;
use super::stream::{Keep, StreamId};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What the elements are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Fields with values.
    Hash,
    Set,
    List,
    /// Nodes of entries.
    Stream,
    /// Members with their scores, by the hashes of members and by scores: two rows for each.
    SortedSet,
}

/// What the store's row of a collection says; the elements have rows of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    pub kind: Kind,
    /// Another one for every collection that the key has ever held.
    pub version: u64,
    /// What the order of the elements rests on: the seed of their hashes, or the position of a list's first element.
    pub origin: u64,
    /// Elements, which are rows; of a sorted set each is two.
    pub len: u64,
    /// Of a stream, all but its nodes, serialized.
    pub facts: Vec<u8>,
}

/// Which end a walk begins at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Up,
    Down,
}

/// Entries of a stream: so many of those between two ids, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub from: StreamId,
    pub to: StreamId,
    pub most: usize,
    pub order: Order,
}

/// What a command is about to touch.
#[derive(Clone, Debug)]
pub enum Wanted<'a> {
    /// Elements by name: each one of the words that is so many further.
    Elements(&'a [&'a [u8]], usize),
    /// What a scan from this hash on looks at, about so many.
    Scan(u64, usize),
    /// So many by chance.
    Drawn(usize),
    /// The elements between two indexes, both included; negative ones count from the end.
    Indexes(i64, i64),
    /// So many elements at either end.
    Ends {
        front: usize,
        back: usize,
    },
    Between(Bounds),
    /// What stands in some rows that are in the order of the elements.
    Run(Span),
    /// Entries by their ids.
    Ids(Vec<StreamId>),
    /// What a trim takes away when so many have been added, and what is the first entry then.
    Trim(Keep, u64),
    All,
}

/// A run of rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    pub from: Vec<u8>,
    /// Without an end, all that follow.
    pub to: Option<Vec<u8>>,
    /// About so many of them.
    pub most: usize,
    /// Counted from which end.
    pub order: Order,
}

/// What of the store a command needs that is not in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lacking {
    /// The rows with these places.
    Rows(Vec<Vec<u8>>),
    Spans(Vec<Span>),
    /// Every row, as a table.
    Table,
}

/// What the store said.
pub enum Found {
    /// Each row that was asked for, if there is one.
    Rows(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// All rows of each span. A span that was cut short ends where it was.
    Spans(Vec<(Span, Rows)>),
    Table(Dict<Field>),
}

/// Rows one behind the other, in one block: there may be millions.
#[derive(Default)]
pub struct Rows {
    bytes: Vec<u8>,
    /// Lengths of place and value.
    lens: Vec<(u32, u32)>,
}

impl Rows {
    pub fn push(&mut self, place: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(place);
        self.bytes.extend_from_slice(value);
        self.lens.push((place.len() as u32, value.len() as u32));
    }

    pub fn len(&self) -> usize {
        self.lens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Places and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.bytes[..];
        self.lens.iter().map(move |(place, value)| {
            let (row, behind) = rest.split_at(*place as usize + *value as usize);
            rest = behind;
            row.split_at(*place as usize)
        })
    }
}

impl Span {
    /// Takes what comes from `next`, place and value in the span's order, until there are enough. What an order of
    /// hashes has alike stays together. The span ends there.
    pub fn read<E>(
        mut self,
        kind: Kind,
        mut next: impl FnMut(&mut Vec<u8>, &mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(Span, Rows), E> {
        let (mut rows, mut last) = (Rows::default(), Vec::new());
        let (mut place, mut value) = (Vec::new(), Vec::new());
        while next(&mut place, &mut value)? {
            let border = &place[..kind.border(&place)];
            if rows.len() >= self.most.max(1) && last != border {
                match self.order {
                    Order::Up => self.to = Some(border.to_vec()),
                    Order::Down => self.from = last,
                }
                break;
            }
            last.clear();
            last.extend_from_slice(border);
            rows.push(&place, &value);
        }
        Ok((self, rows))
    }
}

impl Kind {
    /// Bytes of a place that no two spans have alike.
    fn border(self, place: &[u8]) -> usize {
        match self {
            Kind::Hash | Kind::Set => place.len().min(size_of::<u64>()),
            Kind::SortedSet if sorted_set::is_member_place(place) => place.len().min(1 + size_of::<u64>()),
            Kind::List | Kind::Stream | Kind::SortedSet => place.len(),
        }
    }

    /// The places between which each element has one row; without a second one, all that follow.
    pub fn listed(self) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Kind::SortedSet => sorted_set::ordered_places(),
            _ => (Vec::new(), None),
        }
    }
}

/// Is told the place of a row and its value, unless it is to go.
pub type VisitChange<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// A collection that need not fit memory.
pub trait Pages {
    /// What its row is to say.
    fn summary(&self) -> Summary;

    fn version(&self) -> u64 {
        self.summary().version
    }

    /// Kind and origin of its rows.
    fn order(&self) -> (Kind, u64) {
        let summary = self.summary();
        (summary.kind, summary.origin)
    }

    fn state(&self) -> u64;

    /// Every element is in memory.
    fn is_whole(&self) -> bool;

    /// Elements in memory that equal their rows.
    fn clean_len(&self) -> usize;

    /// Bytes of an element, as those in memory are on average.
    fn element_size(&self) -> usize;

    /// What of the elements wanted only the store knows.
    fn lacking(&self, wanted: &Wanted<'_>) -> Option<Lacking>;

    /// Adds what was read from the store while `state` was what it is; `shed` clean elements may go for it.
    fn bring_in(&mut self, found: Found, shed: usize);

    /// Drops about `most` clean elements; the last flush of them has ended.
    fn shed(&mut self, most: usize);

    /// Every element, as its row is to be: they are in memory.
    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8]));

    /// Every row that is to change once, with its value unless it is to go.
    fn each_change(&self, visit: &mut VisitChange<'_>);

    /// The places from one up to another between which all rows are to go.
    fn dropped(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        Vec::new()
    }

    /// Every change has been written into a file: the elements are clean. Called once for each flush, when the one
    /// before has ended.
    fn settle_changes(&mut self);
}

/// Another number each time.
pub(super) fn next_state() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// A store of one collection, for tests of the types.
#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::object::paged::element_of;
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::ops::Bound;

    pub type Store = BTreeMap<Vec<u8>, Vec<u8>>;

    /// What the store says of what is lacking.
    pub fn find(store: &Store, pages: &dyn Pages, lacking: Lacking) -> Found {
        let (kind, origin) = pages.order();
        match lacking {
            Lacking::Rows(places) => {
                let row = |place: Vec<u8>| {
                    let value = store.get(&place).cloned();
                    (place, value)
                };
                Found::Rows(places.into_iter().map(row).collect())
            }
            Lacking::Spans(spans) => {
                Found::Spans(spans.into_iter().map(|span| read(store, kind, span)).collect())
            }
            Lacking::Table => {
                let mut all = Dict::new(origin);
                for (place, value) in store {
                    all.insert(element_of(kind, place, value));
                }
                Found::Table(all)
            }
        }
    }

    fn read(store: &Store, kind: Kind, span: Span) -> (Span, Rows) {
        let to = span.to.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = store.range((Bound::Included(span.from.clone()), to));
        let order = span.order;
        let read = span.read(kind, |place, value| {
            let row = match order {
                Order::Up => rows.next(),
                Order::Down => rows.next_back(),
            };
            let Some(row) = row else {
                return Ok::<_, Infallible>(false);
            };
            place.clone_from(row.0);
            value.clone_from(row.1);
            Ok(true)
        });
        match read {
            Ok(read) => read,
            Err(never) => match never {},
        }
    }

    /// Brings in what a command would want.
    pub fn want(store: &Store, pages: &mut dyn Pages, wanted: &Wanted<'_>) {
        for _ in 0..100 {
            let Some(lacking) = pages.lacking(wanted) else {
                return;
            };
            let found = find(store, pages, lacking);
            pages.bring_in(found, 0);
        }
        panic!("never enough: {wanted:?}");
    }

    /// Writes what has changed.
    pub fn flush(store: &mut Store, pages: &mut dyn Pages) {
        for (from, to) in pages.dropped() {
            store.retain(|place, _| *place < from || *place >= to);
        }
        let mut seen = std::collections::HashSet::new();
        pages.each_change(&mut |place, value| {
            assert!(seen.insert(place.to_vec()), "once");
            match value {
                Some(value) => store.insert(place.to_vec(), value.to_vec()),
                None => store.remove(place),
            };
        });
        pages.settle_changes();
    }
}
