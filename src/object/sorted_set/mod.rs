//! Sorted sets: members, each with a score, in the order of (score, member).
//!
//! A packed list of members and scores in order while the set is small (`packed`), then a table of members with a tree
//! over them (`table`), which the keyspace makes one of those members that are in use (`paged`). A set that has become
//! large stays so.
//!
//! Guarantees: ranks, bounds and single changes take O(log n) in a large set, walking k elements O(log n + k). Whatever
//! asks for a part of the set asks by ranks, which [`SortedSet::position`] finds for a [`Cut`]: one walk serves all.
//! Scores are never NaN. 0 and -0 are the same score, and the one that came first stays.

mod packed;
pub mod paged;
mod table;

use self::paged::PagedSet;
use super::listpack::Listpack;
use super::pages::{Order, Summary, Wanted};
use super::{Limits, Native, object_conversions, size_class};
use std::cmp::Ordering;
use std::ops::Range;
use table::Table;

#[derive(Clone)]
pub struct SortedSet(Encoding);

#[derive(Clone)]
enum Encoding {
    Packed(Listpack),
    Table(Box<Table>),
    Paged(Box<PagedSet>),
}

const _: () = assert!(size_of::<SortedSet>() <= 24);

/// A place between elements: an interval stands between two of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Cut<'a> {
    Start,
    End,
    /// In front of the elements of a score, or behind them.
    Score(f64, Side),
    /// In front of a member or behind it, in a set whose scores are all the same.
    Member(&'a [u8], Side),
    /// In front of where an element is, or would be.
    Element(f64, &'a [u8]),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Before,
    Behind,
}

impl Cut<'_> {
    /// Whether an element stands before this cut. The member is looked at only if `needs_members`.
    #[inline]
    fn is_behind(&self, score: f64, member: &[u8]) -> bool {
        match *self {
            Cut::Start => false,
            Cut::End => true,
            Cut::Score(at, Side::Before) => score < at,
            Cut::Score(at, Side::Behind) => score <= at,
            Cut::Member(at, Side::Before) => member < at,
            Cut::Member(at, Side::Behind) => member <= at,
            Cut::Element(at, name) => score < at || score == at && member < name,
        }
    }

    fn needs_members(&self) -> bool {
        matches!(self, Cut::Member(..) | Cut::Element(..))
    }
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::Before => Side::Behind,
            Side::Behind => Side::Before,
        }
    }
}

/// What became of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    Added,
    /// It has another score now.
    Moved,
    Kept,
}

/// The bytes are a packed list, but not one of a sorted set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotSorted;

impl SortedSet {
    /// A set of distinct members in any order. What is not a number is left out.
    pub fn from_pairs(mut pairs: Vec<(Box<[u8]>, f64)>, limits: &Limits) -> SortedSet {
        pairs.retain(|(_, score)| !score.is_nan());
        sort(&mut pairs);
        let longest = pairs.iter().map(|(member, _)| member.len()).max().unwrap_or(0);
        let fits = pairs.len() <= limits.zset_max_listpack_entries
            && longest <= limits.zset_max_listpack_value
            && longest * pairs.len() < packed::BYTES_MAX;
        let pairs = pairs.iter().map(|(member, score)| (&member[..], *score));
        SortedSet(if fits {
            Encoding::Packed(packed::from_sorted(pairs))
        } else {
            Encoding::Table(Box::new(Table::from_sorted(pairs, limits.hash_seed)))
        })
    }

    /// The set that a packed list holds, if its members are distinct and in order.
    pub fn from_listpack(list: Listpack, limits: &Limits) -> Result<SortedSet, NotSorted> {
        let longest = packed::check(&list)?;
        let mut set = SortedSet(Encoding::Packed(list));
        if set.len() > limits.zset_max_listpack_entries || longest > limits.zset_max_listpack_value {
            set.convert(limits.hash_seed);
        }
        Ok(set)
    }

    /// The packed list, if the set is one.
    pub fn as_listpack(&self) -> Option<&Listpack> {
        match &self.0 {
            Encoding::Packed(list) => Some(list),
            Encoding::Table(_) | Encoding::Paged(_) => None,
        }
    }

    /// Brings what looking members up will touch nearer.
    pub fn prefetch(&self, members: &[&[u8]]) {
        match &self.0 {
            Encoding::Packed(_) => {}
            Encoding::Table(table) => table.prefetch(members),
            Encoding::Paged(paged) => paged.prefetch(members),
        }
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Encoding::Packed(list) => packed::find(list, member).map(|found| found.score),
            Encoding::Table(table) => table.score(member),
            Encoding::Paged(paged) => paged.score(member),
        }
    }

    /// The rank of a member, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.0 {
            Encoding::Packed(list) => packed::rank(list, member),
            Encoding::Table(table) => table.rank(member),
            Encoding::Paged(paged) => paged.rank(member),
        }
    }

    /// How many elements stand before a cut. Of a paged set: of those in memory.
    pub fn position(&self, cut: &Cut<'_>) -> usize {
        match (cut, &self.0) {
            (Cut::Start, _) => 0,
            (Cut::End, Encoding::Packed(_) | Encoding::Table(_)) => self.len(),
            (_, Encoding::Packed(list)) => packed::position(list, cut),
            (_, Encoding::Table(table)) => table.position(cut),
            (_, Encoding::Paged(paged)) => paged.position(cut),
        }
    }

    /// The ranks as `visit` counts them of the elements that have these: in a paged set those in memory are counted.
    pub fn ranks_of(&self, indexes: Range<usize>) -> Range<usize> {
        match &self.0 {
            Encoding::Paged(paged) => paged.ranks_of(indexes),
            _ => indexes,
        }
    }

    /// The ranks between two cuts; none if they stand the wrong way round.
    pub fn between(&self, from: &Cut<'_>, to: &Cut<'_>) -> Range<usize> {
        let from = self.position(from);
        from..self.position(to).max(from)
    }

    /// Calls `visit` with the elements of some ranks, upwards or downwards. Ranks that are not there are left out.
    pub fn visit(&self, ranks: Range<usize>, reverse: bool, visit: impl FnMut(&[u8], f64)) {
        match &self.0 {
            Encoding::Packed(list) => packed::visit(list, ranks, reverse, visit),
            Encoding::Table(table) => table.visit(ranks, reverse, visit),
            Encoding::Paged(paged) => paged.visit(ranks, reverse, visit),
        }
    }

    /// Visits some elements from a cursor on (0 begins), and returns the cursor to go on with; 0 when all have been
    /// seen. What is in the set throughout is visited.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(&[u8], f64)) -> u64 {
        match &self.0 {
            Encoding::Packed(_) => {
                self.visit(0..usize::MAX, false, visit);
                0
            }
            Encoding::Table(table) => table.scan(cursor, count, &mut visit),
            Encoding::Paged(paged) => paged.scan(cursor, count, &mut visit),
        }
    }

    /// Lets `decide` say what score a member is to have, given the one that it has now; none leaves all as it is, and
    /// so does what is not a number.
    pub fn update(
        &mut self,
        member: &[u8],
        limits: &Limits,
        decide: impl FnOnce(Option<f64>) -> Option<f64>,
    ) -> Update {
        let decide = |old| decide(old).filter(|score| !score.is_nan());
        let list = match &mut self.0 {
            Encoding::Table(table) => return table.update(member, decide),
            Encoding::Paged(paged) => return paged.update(member, decide),
            Encoding::Packed(list) => list,
        };
        let found = packed::find(list, member);
        let Some(score) = decide(found.map(|found| found.score)) else {
            return Update::Kept;
        };
        let Some(found) = found else {
            self.add(member, score, limits);
            return Update::Added;
        };
        if found.score == score {
            return Update::Kept;
        }
        packed::rescore(list, found, member, score);
        Update::Moved
    }

    /// Gives a member a score.
    pub fn set(&mut self, member: &[u8], score: f64, limits: &Limits) -> Update {
        self.update(member, limits, |_| Some(score))
    }

    /// Adds a member that a packed set does not have, if it still is packed then.
    fn add(&mut self, member: &[u8], score: f64, limits: &Limits) {
        if let Encoding::Packed(list) = &self.0 {
            let room = list.len() / 2 < limits.zset_max_listpack_entries
                && member.len() <= limits.zset_max_listpack_value
                && list.bytes() + member.len() < packed::BYTES_MAX;
            if !room {
                self.convert(limits.hash_seed);
            }
        }
        match &mut self.0 {
            Encoding::Packed(list) => packed::insert(list, member, score),
            Encoding::Table(table) => table.add(member, score),
            Encoding::Paged(_) => unreachable!("only what is packed has to make room"),
        }
    }

    fn convert(&mut self, hash_seed: u64) {
        if let Encoding::Packed(list) = &self.0 {
            let mut pairs = Vec::with_capacity(list.len() / 2);
            packed::visit(list, 0..usize::MAX, false, |member, score| {
                pairs.push((Box::<[u8]>::from(member), score))
            });
            let pairs = pairs.iter().map(|(member, score)| (&member[..], *score));
            self.0 = Encoding::Table(Box::new(Table::from_sorted(pairs, hash_seed)));
        }
    }

    /// Takes out a member; its score if it was there.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.0 {
            Encoding::Packed(list) => {
                let found = packed::find(list, member)?;
                list.remove(found.at, 2);
                Some(found.score)
            }
            Encoding::Table(table) => table.remove(member),
            Encoding::Paged(paged) => paged.remove(member),
        }
    }

    /// Takes out the elements of some ranks, and hands each of them over, upwards.
    pub fn remove_ranks(&mut self, ranks: Range<usize>, taken: impl FnMut(&[u8], f64)) {
        match &mut self.0 {
            Encoding::Packed(list) => packed::remove_ranks(list, ranks, taken),
            Encoding::Table(table) => table.remove_ranks(ranks, taken),
            Encoding::Paged(paged) => paged.remove_ranks(ranks, taken),
        }
    }
}

/// As a collection that need not fit memory.
impl SortedSet {
    pub fn of_summary(summary: &Summary) -> SortedSet {
        SortedSet(Encoding::Paged(Box::new(PagedSet::of_summary(summary))))
    }

    pub fn pages(&self) -> Option<&PagedSet> {
        match &self.0 {
            Encoding::Paged(paged) => Some(paged),
            _ => None,
        }
    }

    pub fn pages_mut(&mut self) -> Option<&mut PagedSet> {
        match &mut self.0 {
            Encoding::Paged(paged) => Some(paged),
            _ => None,
        }
    }

    pub fn can_be_paged(&self) -> bool {
        matches!(self.0, Encoding::Table(_))
    }

    /// Makes a table paged; all of it is in memory still, and none of it in the store.
    pub fn page(&mut self, version: u64) {
        if let Encoding::Table(table) = &mut self.0 {
            let table = std::mem::replace(&mut **table, Table::new(0));
            self.0 = Encoding::Paged(Box::new(PagedSet::of_table(table, version)));
        }
    }

    /// Makes a table of a paged set, all of which is in memory.
    pub fn unpage(&mut self) {
        if let Encoding::Paged(_) = self.0
            && let Encoding::Paged(paged) = std::mem::replace(&mut self.0, Encoding::Packed(Listpack::new()))
        {
            self.0 = Encoding::Table(Box::new(paged.into_table()));
        }
    }

    /// Elements to choose so many from by chance, where not all are in memory.
    pub fn pool(&self, count: usize) -> Option<Vec<(&[u8], f64)>> {
        self.pages()?.pool(count)
    }

    /// What a walk from one cut to another looks at, which takes so many elements.
    pub fn wanted(&self, cuts: (&Cut<'_>, &Cut<'_>), most: usize, order: Order) -> Wanted<'static> {
        self.pages()
            .map_or(Wanted::All, |paged| paged.between(cuts, most, order))
    }
}

/// Puts elements in order.
pub fn sort(pairs: &mut [(Box<[u8]>, f64)]) {
    pairs.sort_unstable_by(|one, other| compare(one.1, &one.0, other.1, &other.0));
}

/// The order of elements.
fn compare(score: f64, member: &[u8], other_score: f64, other: &[u8]) -> Ordering {
    let scores = score.partial_cmp(&other_score).unwrap_or(Ordering::Equal);
    scores.then_with(|| member.cmp(other))
}

impl Native for SortedSet {
    const NAME: &'static str = "zset";

    fn empty() -> SortedSet {
        SortedSet(Encoding::Packed(Listpack::new()))
    }

    fn len(&self) -> usize {
        match &self.0 {
            Encoding::Packed(list) => list.len() / 2,
            Encoding::Table(table) => table.len(),
            Encoding::Paged(paged) => paged.len(),
        }
    }

    fn bytes(&self) -> usize {
        match &self.0 {
            Encoding::Packed(list) => list.heap_bytes(),
            Encoding::Table(table) => size_class(size_of::<Table>()) + table.bytes(),
            Encoding::Paged(paged) => size_class(size_of::<PagedSet>()) + paged.bytes(),
        }
    }

    fn encoding(&self) -> &'static str {
        match &self.0 {
            Encoding::Packed(_) => "listpack",
            Encoding::Table(_) | Encoding::Paged(_) => "skiplist",
        }
    }

    object_conversions!(SortedSet);
}

#[cfg(test)]
mod tests;
