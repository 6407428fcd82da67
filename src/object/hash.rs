//! Hashes: fields with their values, each of which may expire by itself.
//!
//! ```text
//! packed      one listpack: field, value, field, value, …                          in the order of insertion
//! packed      one listpack: field, value, expiry, field, value, expiry, …          by expiry, those without (0) last
//! table       a `Dict` of fields, and beside it the expiries in order
//! paged       those fields that are in use; the others are in a store (`paged`)
//! ```
//!
//! A hash begins packed. The first field expiry makes its pairs triples, and they stay so. It becomes a table when it
//! has more fields, or a longer field or value, than the limits allow, and stays one. The
//! keyspace makes a large one paged, and a table again before a field of it is given an expiry.
//!
//! Guarantees: a field is there once; `earliest_expiry` is never later than the earliest expiry of a field. Time is no
//! concern of the values themselves: whoever looks at a hash calls `expire` first if that moment has passed.

mod packed;
mod table;

use super::listpack::{Item, Listpack};
use super::paged::Paged;
use super::pages::{Kind, Pages, Summary};
use super::window::choose;
use super::{Limits, Native, object_conversions, size_class};
use packed::{PAIRS, TRIPLES};
use table::Table;

/// `earliest` of a hash that never had a field expiry: packed fields are pairs.
const PLAIN: i64 = i64::MAX;
/// `earliest` of a hash without field expiries that may once have had some: packed fields are triples.
const NONE: i64 = i64::MAX - 1;

#[derive(Clone)]
pub struct Hash {
    fields: Fields,
    /// The earliest expiry of a field, unix milliseconds; `PLAIN` or `NONE` without one.
    earliest: i64,
}

const _: () = assert!(size_of::<Hash>() <= 24);

#[derive(Clone)]
enum Fields {
    Packed(Listpack),
    Large(Box<Large>),
}

#[derive(Clone)]
enum Large {
    Table(Table),
    Paged(Box<Paged>),
}

/// The fields by their encoding.
enum View<'a> {
    Packed(&'a Listpack),
    Table(&'a Table),
    Paged(&'a Paged),
}

enum ViewMut<'a> {
    Packed(&'a mut Listpack),
    Table(&'a mut Table),
    Paged(&'a mut Paged),
}

impl Fields {
    #[inline]
    fn view(&self) -> View<'_> {
        match self {
            Fields::Packed(list) => View::Packed(list),
            Fields::Large(large) => match &**large {
                Large::Table(table) => View::Table(table),
                Large::Paged(paged) => View::Paged(paged),
            },
        }
    }

    #[inline]
    fn view_mut(&mut self) -> ViewMut<'_> {
        match self {
            Fields::Packed(list) => ViewMut::Packed(list),
            Fields::Large(large) => match &mut **large {
                Large::Table(table) => ViewMut::Table(table),
                Large::Paged(paged) => ViewMut::Paged(paged),
            },
        }
    }

    fn table(table: Table) -> Fields {
        Fields::Large(Box::new(Large::Table(table)))
    }

    fn paged(paged: Paged) -> Fields {
        Fields::Large(Box::new(Large::Paged(Box::new(paged))))
    }
}

/// A field as the hash holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair<'a> {
    pub field: Item<'a>,
    pub value: Item<'a>,
    /// Unix milliseconds.
    pub expiry: Option<i64>,
}

/// What becomes of a field's expiry when its value is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldExpiry {
    Clear,
    Keep,
    /// Unix milliseconds.
    At(i64),
}

impl FieldExpiry {
    /// The new expiry of a field that had `old`.
    fn after(self, old: Option<i64>) -> Option<i64> {
        match self {
            FieldExpiry::Clear => None,
            FieldExpiry::Keep => old,
            FieldExpiry::At(at) => Some(at),
        }
    }
}

impl Hash {
    /// From a listpack of fields and values. None if a field has no value or is there twice.
    pub fn from_packed(list: Listpack, limits: &Limits) -> Option<Hash> {
        let count = list.len();
        if !count.is_multiple_of(PAIRS) || !packed::is_distinct(&list) {
            return None;
        }
        let too_long = list
            .iter()
            .any(|item| item.len() > limits.hash_max_listpack_value);
        let mut hash = Hash {
            fields: Fields::Packed(list),
            earliest: PLAIN,
        };
        if too_long || count / PAIRS > limits.hash_max_listpack_entries {
            hash.become_table(limits);
        }
        Some(hash)
    }

    /// The listpack of a packed hash without field expiries: fields and values.
    pub fn as_packed(&self) -> Option<&Listpack> {
        match self.fields.view() {
            View::Packed(list) if self.earliest == PLAIN => Some(list),
            _ => None,
        }
    }

    /// Elements of the packed list for each field.
    fn stride(&self) -> usize {
        if self.earliest == PLAIN { PAIRS } else { TRIPLES }
    }

    /// Brings what looking fields up will touch nearer.
    pub fn prefetch(&self, fields: &[&[u8]]) {
        match self.fields.view() {
            View::Packed(_) => {}
            View::Table(table) => table.prefetch(fields),
            View::Paged(paged) => paged.prefetch(fields),
        }
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match self.fields.view() {
            View::Packed(list) => packed::get(list, self.stride(), field),
            View::Table(table) => table.get(field).map(Item::Bytes),
            View::Paged(paged) => paged.get(field).map(|found| Item::Bytes(found.value())),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// The expiry of a field, in unix milliseconds; none if there is no such field, `Some(None)` if it has no expiry.
    pub fn expiry(&self, field: &[u8]) -> Option<Option<i64>> {
        match self.fields.view() {
            View::Packed(list) => packed::expiry(list, self.stride(), field),
            View::Table(table) => table.expiry(field),
            View::Paged(paged) => paged.get(field).map(|_| None),
        }
    }

    /// Sets a field. True if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], expiry: FieldExpiry, limits: &Limits) -> bool {
        let longest = field.len().max(value.len());
        if longest > limits.hash_max_listpack_value {
            self.become_table(limits);
        }
        if matches!(expiry, FieldExpiry::At(_)) {
            self.become_triples();
        }
        let (stride, expires) = (
            self.stride(),
            self.earliest != PLAIN || expiry != FieldExpiry::Clear,
        );
        let is_new = match self.fields.view_mut() {
            ViewMut::Packed(list) => packed::set(list, stride, field, value, expiry),
            ViewMut::Table(table) => table.set(field, value, expiry),
            ViewMut::Paged(paged) => {
                assert!(expiry.after(None).is_none(), "a paged hash has no expiries");
                paged.set(field, value)
            }
        };
        if is_new && self.is_crowded(limits) {
            self.become_table(limits);
        }
        if expires {
            self.note_earliest();
        }
        is_new
    }

    /// Gives a field an expiry (unix milliseconds) or takes it away. False if there is no such field.
    pub fn set_expiry(&mut self, field: &[u8], expiry: Option<i64>) -> bool {
        if expiry.is_some() {
            self.become_triples();
        }
        let stride = self.stride();
        let found = match self.fields.view_mut() {
            ViewMut::Packed(list) => packed::set_expiry(list, stride, field, expiry),
            ViewMut::Table(table) => table.set_expiry(field, expiry),
            ViewMut::Paged(paged) => {
                assert!(expiry.is_none(), "a paged hash has no expiries");
                paged.get(field).is_some()
            }
        };
        self.note_earliest();
        found
    }

    /// True if the field was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let stride = self.stride();
        let removed = match self.fields.view_mut() {
            ViewMut::Packed(list) => packed::remove(list, stride, field),
            ViewMut::Table(table) => table.remove(field),
            ViewMut::Paged(paged) => paged.remove(field),
        };
        if removed && self.earliest < NONE {
            self.note_earliest();
        }
        removed
    }

    /// Unix milliseconds: nothing in here expires earlier. Far in the future if nothing does.
    pub fn earliest_expiry(&self) -> i64 {
        self.earliest
    }

    /// Removes at most `most` fields whose expiry has passed at `now_ms`, and returns them.
    pub fn expire(&mut self, now_ms: i64, most: usize) -> Vec<Vec<u8>> {
        if self.earliest > now_ms {
            return Vec::new();
        }
        let expired = match self.fields.view_mut() {
            ViewMut::Packed(list) => packed::expire(list, now_ms, most),
            ViewMut::Table(table) => table.expire(now_ms, most),
            ViewMut::Paged(_) => Vec::new(),
        };
        self.note_earliest();
        expired
    }

    /// Visits every field.
    pub fn each<'a>(&'a self, mut visit: impl FnMut(Pair<'a>)) {
        match self.fields.view() {
            View::Packed(list) => packed::pairs(list, self.stride()).for_each(visit),
            View::Table(table) => table.pairs().for_each(&mut visit),
            View::Paged(paged) => paged.all().iter().map(table::pair).for_each(&mut visit),
        }
    }

    /// Visits fields from `cursor` on (0 begins) until at least `count` have been visited; a packed hash is visited
    /// whole. Returns the cursor to go on with; 0 when all have been seen. Fields that are there throughout are met,
    /// those of a table once.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(Pair<'a>)) -> u64 {
        match self.fields.view() {
            View::Packed(list) => {
                packed::pairs(list, self.stride()).for_each(visit);
                0
            }
            View::Table(table) => table.scan(cursor, count, &mut visit),
            View::Paged(paged) => paged.scan(cursor, count, |field| visit(table::pair(field))),
        }
    }

    /// A field, each with the same probability.
    pub fn random(&self, rng: &mut fastrand::Rng) -> Option<Pair<'_>> {
        match self.fields.view() {
            View::Packed(list) => packed::random(list, self.stride(), rng),
            View::Table(table) => table.random(rng),
            View::Paged(paged) => {
                let field = match paged.pool(1) {
                    Some(pool) => rng.choice(pool),
                    None => paged.all().random(rng),
                };
                field.map(table::pair)
            }
        }
    }

    /// Visits `count` fields, each time one of all.
    pub fn draw<'a>(&'a self, count: usize, rng: &mut fastrand::Rng, mut visit: impl FnMut(Pair<'a>)) {
        match self.fields.view() {
            View::Packed(list) => {
                let pairs: Vec<Pair<'a>> = packed::pairs(list, self.stride()).collect();
                for _ in 0..if pairs.is_empty() { 0 } else { count } {
                    visit(pairs[rng.usize(..pairs.len())]);
                }
            }
            View::Table(table) => (0..count).filter_map(|_| table.random(rng)).for_each(visit),
            View::Paged(paged) if !paged.is_whole() => {
                let pool = paged.pool(count).unwrap_or_default();
                (0..count).for_each(|_| visit(table::pair(pool[rng.usize(..pool.len())])));
            }
            View::Paged(paged) => (0..count)
                .filter_map(|_| paged.all().random(rng).map(table::pair))
                .for_each(visit),
        }
    }

    /// Distinct fields at random, `count` of them, or all if there are fewer.
    pub fn sample(&self, count: usize, rng: &mut fastrand::Rng) -> Vec<Pair<'_>> {
        let len = self.len();
        let few = count < len / 3;
        match self.fields.view() {
            View::Paged(paged) if !paged.is_whole() => {
                let mut pool = paged.pool(count).unwrap_or_default();
                choose(&mut pool, count, rng);
                return pool.into_iter().map(table::pair).collect();
            }
            View::Paged(paged) if few => return table::sample(paged.all(), count, rng),
            View::Table(table) if few => return table.sample(count, rng),
            _ => {}
        }
        let mut all = Vec::with_capacity(len);
        self.each(|pair| all.push(pair));
        for taken in 0..count.min(len.saturating_sub(1)) {
            all.swap(taken, rng.usize(taken..len));
        }
        all.truncate(count);
        all
    }

    fn is_crowded(&self, limits: &Limits) -> bool {
        match self.fields.view() {
            View::Packed(list) => list.len() > limits.hash_max_listpack_entries.saturating_mul(self.stride()),
            View::Table(_) | View::Paged(_) => false,
        }
    }

    fn become_table(&mut self, limits: &Limits) {
        if let Fields::Packed(list) = &self.fields {
            let table = Table::new(packed::pairs(list, self.stride()), limits.hash_seed);
            self.fields = Fields::table(table);
        }
    }

    fn become_triples(&mut self) {
        if let Fields::Packed(list) = &mut self.fields
            && self.earliest == PLAIN
        {
            *list = packed::with_expiries(list);
            self.earliest = NONE;
        }
    }

    fn note_earliest(&mut self) {
        self.earliest = match self.fields.view() {
            View::Packed(_) if self.earliest == PLAIN => PLAIN,
            View::Packed(list) => packed::earliest(list).unwrap_or(NONE),
            View::Table(table) => table.earliest().unwrap_or(NONE),
            View::Paged(_) => NONE,
        };
    }
}

/// As a collection that need not fit memory.
impl Hash {
    pub fn of_summary(summary: &Summary) -> Hash {
        Hash {
            fields: Fields::paged(Paged::of_summary(summary)),
            earliest: NONE,
        }
    }

    pub fn pages(&self) -> Option<&Paged> {
        match self.fields.view() {
            View::Paged(paged) => Some(paged),
            _ => None,
        }
    }

    pub fn pages_mut(&mut self) -> Option<&mut Paged> {
        match self.fields.view_mut() {
            ViewMut::Paged(paged) => Some(paged),
            _ => None,
        }
    }

    /// A large hash none of whose fields expires.
    pub fn can_be_paged(&self) -> bool {
        matches!(self.fields.view(), View::Table(_)) && self.earliest >= NONE
    }

    /// Makes a hash paged that can be; all of it is in memory still, and none of it in the store.
    pub fn page(&mut self, version: u64) {
        if !self.can_be_paged() {
            return;
        }
        let fields = std::mem::replace(&mut self.fields, Fields::Packed(Listpack::new()));
        self.fields = match fields {
            Fields::Large(large) => match *large {
                Large::Table(table) => {
                    Fields::paged(Paged::of_table(Kind::Hash, table.into_fields(), version))
                }
                large => Fields::Large(Box::new(large)),
            },
            fields => fields,
        };
        self.earliest = NONE;
    }

    /// Makes a table of a paged hash, all of which is in memory.
    pub fn unpage(&mut self) {
        let fields = std::mem::replace(&mut self.fields, Fields::Packed(Listpack::new()));
        self.fields = match fields {
            Fields::Large(large) => match *large {
                Large::Paged(paged) => Fields::table(Table::of_fields(paged.into_table())),
                large => Fields::Large(Box::new(large)),
            },
            fields => fields,
        };
    }
}

impl Native for Hash {
    const NAME: &'static str = "hash";

    fn empty() -> Hash {
        Hash {
            fields: Fields::Packed(Listpack::new()),
            earliest: PLAIN,
        }
    }

    fn len(&self) -> usize {
        match self.fields.view() {
            View::Packed(list) => list.len() / self.stride(),
            View::Table(table) => table.len(),
            View::Paged(paged) => paged.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self.fields.view() {
            View::Packed(list) => list.heap_bytes(),
            View::Table(table) => size_class(size_of::<Large>()) + table.bytes(),
            View::Paged(paged) => {
                size_class(size_of::<Large>()) + size_class(size_of::<Paged>()) + paged.bytes()
            }
        }
    }

    fn encoding(&self) -> &'static str {
        match self.fields.view() {
            View::Packed(_) if self.earliest == PLAIN => "listpack",
            View::Packed(_) => "listpackex",
            View::Table(_) | View::Paged(_) => "hashtable",
        }
    }

    object_conversions!(Hash);
}

#[cfg(test)]
mod tests;
