//! Sets: members in no order, no two the same.
//!
//! | encoding | the set is one of |
//! |---|---|
//! | `Ints`: integers in ascending order | integers only, at most `set-max-intset-entries` |
//! | `Packed`: a listpack in the order of adding | at most `set-max-listpack-entries`, none longer than `set-max-listpack-value` |
//! | `Table`: a hash table of blobs | anything |
//! | `Paged`: those members that are in use; the others are in a store (`paged`) | what the keyspace makes so |
//!
//! The bounds and the ways between the encodings are those of Redis 7.2. A set goes from a smaller encoding to a larger
//! one and does not come back, but a set that is made anew (the result of an operation, what a large pop leaves)
//! begins with a small one again.
//!
//! | file | what it does |
//! |---|---|
//! | `mod` | one set: adding, removing, looking, scanning, changing the encoding |
//! | `algebra` | several sets: intersections, unions, differences |
//! | `load` | sets from stored forms |
//! | `random` | members by chance |

mod algebra;
mod load;
mod random;
#[cfg(test)]
mod tests;

pub use algebra::{difference, intersection, union};

use super::dict::{Dict, DictItem, Field};
use super::intset::Intset;
use super::listpack::{Cursor, Item, Listpack};
use super::paged::Paged;
use super::pages::{Kind, Summary};
use super::{Limits, Native, object_conversions, size_class};
use crate::resp::number::parse_i64;

type Table = Dict<Field>;

#[derive(Clone)]
pub enum Set {
    Ints(Intset),
    Packed(Listpack),
    Table(Box<Table>),
    Paged(Box<Paged>),
}

const _: () = assert!(size_of::<Set>() <= 24);

/// A listpack does not grow above this, whatever the limits say.
const PACKED_BYTES_MOST: usize = 1 << 30;
/// Nor does an array of integers, in members.
const INTS_MOST: usize = 1 << 30;

fn new_table(limits: &Limits) -> Box<Table> {
    Box::new(Table::new(limits.hash_seed))
}

fn ints_most(limits: &Limits) -> usize {
    limits.set_max_intset_entries.min(INTS_MOST)
}

impl Set {
    /// An empty set in the encoding for `additions` members of which `first` is one.
    pub fn for_members(first: &[u8], additions: usize, limits: &Limits) -> Set {
        if additions <= limits.set_max_intset_entries && parse_i64(first).is_some() {
            Set::Ints(Intset::new())
        } else if additions <= limits.set_max_listpack_entries {
            Set::Packed(Listpack::new())
        } else {
            Set::Table(new_table(limits))
        }
    }

    /// Says that up to `additions` members, `first` among them, are about to be added: a set that could not hold that
    /// many in its encoding changes it at once. True when it does.
    pub fn expect(&mut self, first: &[u8], additions: usize, limits: &Limits) -> bool {
        match self {
            _ if self.is_empty() => *self = Set::for_members(first, additions, limits),
            Set::Ints(_) if additions > limits.set_max_intset_entries => self.make_table(limits),
            Set::Packed(_) if additions > limits.set_max_listpack_entries => self.make_table(limits),
            _ => return false,
        }
        true
    }

    /// Brings what looking members up will touch nearer.
    pub fn prefetch(&self, members: &[&[u8]]) {
        match self {
            Set::Table(table) => table.prefetch(members),
            Set::Paged(paged) => paged.prefetch(members),
            Set::Ints(_) | Set::Packed(_) => {}
        }
    }

    /// Adds a member; false when it was there.
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        match self {
            Set::Ints(_) => match parse_i64(member) {
                Some(number) => self.add_int(number, limits),
                None => {
                    self.leave_ints(member.len(), limits);
                    self.append(member);
                    true
                }
            },
            Set::Packed(packed) => {
                if find(packed, member).is_some() {
                    return false;
                }
                let fits = packed.len() < limits.set_max_listpack_entries
                    && member.len() <= limits.set_max_listpack_value
                    && packed.bytes() + member.len() < PACKED_BYTES_MOST;
                if !fits {
                    self.make_table(limits);
                }
                self.append(member);
                true
            }
            Set::Table(table) => table.add(member, || Field::member(member)),
            Set::Paged(paged) => paged.add(member),
        }
    }

    /// As `add`, for a member of another set.
    pub fn add_item(&mut self, member: Item<'_>, limits: &Limits) -> bool {
        match (&self, member) {
            (Set::Ints(_), Item::Int(number)) => self.add_int(number, limits),
            _ => member.with_bytes(|member| self.add(member, limits)),
        }
    }

    fn add_int(&mut self, number: i64, limits: &Limits) -> bool {
        let Set::Ints(ints) = self else {
            return self.add_item(Item::Int(number), limits);
        };
        let new = ints.add(number);
        if new && ints.len() > ints_most(limits) {
            self.make_table(limits);
        }
        new
    }

    /// Adds a member that is absent and that the encoding has room for. `Ints` takes none.
    fn append(&mut self, member: &[u8]) {
        match self {
            Set::Ints(_) => debug_assert!(false, "the set has left the integers"),
            Set::Packed(packed) => packed.push_back(member),
            Set::Table(table) => table.insert(Field::member(member)),
            Set::Paged(paged) => {
                paged.add(member);
            }
        }
    }

    /// Makes room in a set of integers for a text of `len` bytes.
    fn leave_ints(&mut self, len: usize, limits: &Limits) {
        let Set::Ints(ints) = self else { return };
        // Either the smallest or the largest has the longest text.
        let ends = [ints.iter().next(), ints.iter().next_back()];
        let longest = ends.iter().flatten().map(|number| Item::Int(*number).len());
        let longest = longest.max().unwrap_or(0);
        // An integer takes at most nine bytes and its length one.
        let fits = ints.len() < limits.set_max_listpack_entries
            && len.max(longest) <= limits.set_max_listpack_value
            && ints.len() * 10 + len < PACKED_BYTES_MOST;
        if fits {
            let mut packed = Listpack::new();
            ints.iter().for_each(|number| packed.push_back_int(number));
            *self = Set::Packed(packed);
        } else {
            self.make_table(limits);
        }
    }

    fn make_table(&mut self, limits: &Limits) {
        if let Set::Table(_) | Set::Paged(_) = self {
            return;
        }
        let mut table = new_table(limits);
        for member in self.iter() {
            table.insert(member.with_bytes(Field::member));
        }
        *self = Set::Table(table);
    }

    /// Turns a set whose members are all integers into `Ints`, if it is not too large for that.
    fn make_ints(&mut self, limits: &Limits) {
        if matches!(self, Set::Ints(_)) || self.len() > ints_most(limits) {
            return;
        }
        let mut ints = Intset::new();
        for member in self.iter() {
            let Some(number) = int_of(member) else { return };
            ints.add(number);
        }
        *self = Set::Ints(ints);
    }

    /// Removes a member; false when there was none.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            Set::Ints(ints) => parse_i64(member).is_some_and(|number| ints.remove(number)),
            Set::Packed(packed) => match find(packed, member) {
                Some(at) => {
                    packed.remove(at, 1);
                    true
                }
                None => false,
            },
            Set::Table(table) => table.remove(member).is_some(),
            Set::Paged(paged) => paged.remove(member),
        }
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        match self {
            Set::Ints(ints) => parse_i64(member).is_some_and(|number| ints.contains(number)),
            Set::Packed(packed) => find(packed, member).is_some(),
            Set::Table(table) => table.contains(member),
            Set::Paged(paged) => paged.get(member).is_some(),
        }
    }

    /// As `contains`, for a member of another set.
    pub fn contains_item(&self, member: Item<'_>) -> bool {
        match (self, member) {
            (Set::Ints(ints), Item::Int(number)) => ints.contains(number),
            _ => member.with_bytes(|member| self.contains(member)),
        }
    }

    /// The members: ascending, in the order of adding, or in that of the table.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        let table = match self {
            Set::Ints(ints) => return Members::Ints(ints.iter().map(Item::Int)),
            Set::Packed(packed) => return Members::Packed(packed.iter()),
            Set::Table(table) => table,
            Set::Paged(paged) => paged.all(),
        };
        Members::Table(table.iter().map(|field| Item::Bytes(field.key())))
    }

    /// Visits some members from `cursor` on, at least `count` if there are so many, and returns the cursor to go on
    /// with; 0 begins and ends. Members that are there from beginning to end are visited, whatever else changes. Small
    /// encodings are visited whole.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(Item<'a>)) -> u64 {
        match self {
            Set::Table(table) => table.scan(cursor, count, |field| visit(Item::Bytes(field.key()))),
            Set::Paged(paged) => paged.scan(cursor, count, |field| visit(Item::Bytes(field.key()))),
            _ => {
                self.iter().for_each(visit);
                0
            }
        }
    }
}

/// As a collection that need not fit memory.
impl Set {
    pub fn of_summary(summary: &Summary) -> Set {
        Set::Paged(Box::new(Paged::of_summary(summary)))
    }

    pub fn pages(&self) -> Option<&Paged> {
        match self {
            Set::Paged(paged) => Some(paged),
            _ => None,
        }
    }

    pub fn pages_mut(&mut self) -> Option<&mut Paged> {
        match self {
            Set::Paged(paged) => Some(paged),
            _ => None,
        }
    }

    pub fn can_be_paged(&self) -> bool {
        matches!(self, Set::Table(_))
    }

    /// Makes a table paged; all of it is in memory still, and none of it in the store.
    pub fn page(&mut self, version: u64) {
        *self = match std::mem::replace(self, Set::packed()) {
            Set::Table(table) => Set::Paged(Box::new(Paged::of_table(Kind::Set, *table, version))),
            set => set,
        };
    }

    /// Makes a table of a paged set, all of which is in memory.
    pub fn unpage(&mut self) {
        *self = match std::mem::replace(self, Set::packed()) {
            Set::Paged(paged) => Set::Table(Box::new(paged.into_table())),
            set => set,
        };
    }
}

impl Native for Set {
    const NAME: &'static str = "set";

    fn empty() -> Set {
        Set::Ints(Intset::new())
    }

    fn len(&self) -> usize {
        match self {
            Set::Ints(ints) => ints.len(),
            Set::Packed(packed) => packed.len(),
            Set::Table(table) => table.len(),
            Set::Paged(paged) => paged.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Set::Ints(ints) => ints.heap_bytes(),
            Set::Packed(packed) => packed.heap_bytes(),
            Set::Table(table) => size_class(size_of::<Table>()) + table.bytes(),
            Set::Paged(paged) => size_class(size_of::<Paged>()) + paged.bytes(),
        }
    }

    fn encoding(&self) -> &'static str {
        match self {
            Set::Ints(_) => "intset",
            Set::Packed(_) => "listpack",
            Set::Table(_) | Set::Paged(_) => "hashtable",
        }
    }

    object_conversions!(Set);
}

/// The iterators of the three encodings as one.
enum Members<I, P, T> {
    Ints(I),
    Packed(P),
    Table(T),
}

impl<'a, I, P, T> Iterator for Members<I, P, T>
where
    I: Iterator<Item = Item<'a>>,
    P: Iterator<Item = Item<'a>>,
    T: Iterator<Item = Item<'a>>,
{
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        match self {
            Members::Ints(ints) => ints.next(),
            Members::Packed(packed) => packed.next(),
            Members::Table(table) => table.next(),
        }
    }
}

fn find(packed: &Listpack, member: &[u8]) -> Option<Cursor> {
    packed.find(packed.first()?, member, 0)
}

/// A member that is an integer in its only canonical form.
fn int_of(member: Item<'_>) -> Option<i64> {
    match member {
        Item::Int(number) => Some(number),
        Item::Bytes(text) => parse_i64(text),
    }
}
