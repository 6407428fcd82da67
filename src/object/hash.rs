//! Hashes: fields with their values, each of which may expire by itself.
//!
//! ```text
//! packed      one listpack: field, value, field, value, …                          in the order of insertion
//! packed      one listpack: field, value, expiry, field, value, expiry, …          by expiry, those without (0) last
//! table       a `Dict` of fields, and beside it the expiries in order
//! ```
//!
//! A hash begins packed. The first field expiry makes its pairs triples, and they stay so. It becomes a table when it
//! has more fields, or a longer field or value, than the limits allow, and stays one.
//!
//! Guarantees: a field is there once; `earliest_expiry` is never later than the earliest expiry of a field. Time is no
//! concern of the values themselves: whoever looks at a hash calls `expire` first if that moment has passed.

mod packed;
mod table;

use super::listpack::{Item, Listpack};
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
    Table(Box<Table>),
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
        match &self.fields {
            Fields::Packed(list) if self.earliest == PLAIN => Some(list),
            _ => None,
        }
    }

    /// Elements of the packed list for each field.
    fn stride(&self) -> usize {
        if self.earliest == PLAIN { PAIRS } else { TRIPLES }
    }

    /// Brings what looking fields up will touch nearer.
    pub fn prefetch(&self, fields: &[&[u8]]) {
        if let Fields::Table(table) = &self.fields {
            table.prefetch(fields);
        }
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match &self.fields {
            Fields::Packed(list) => packed::get(list, self.stride(), field),
            Fields::Table(table) => table.get(field).map(Item::Bytes),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// The expiry of a field, in unix milliseconds; none if there is no such field, `Some(None)` if it has no expiry.
    pub fn expiry(&self, field: &[u8]) -> Option<Option<i64>> {
        match &self.fields {
            Fields::Packed(list) => packed::expiry(list, self.stride(), field),
            Fields::Table(table) => table.expiry(field),
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
        let is_new = match &mut self.fields {
            Fields::Packed(list) => packed::set(list, stride, field, value, expiry),
            Fields::Table(table) => table.set(field, value, expiry),
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
        let found = match &mut self.fields {
            Fields::Packed(list) => packed::set_expiry(list, stride, field, expiry),
            Fields::Table(table) => table.set_expiry(field, expiry),
        };
        self.note_earliest();
        found
    }

    /// True if the field was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let stride = self.stride();
        let removed = match &mut self.fields {
            Fields::Packed(list) => packed::remove(list, stride, field),
            Fields::Table(table) => table.remove(field),
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
        let expired = match &mut self.fields {
            Fields::Packed(list) => packed::expire(list, now_ms, most),
            Fields::Table(table) => table.expire(now_ms, most),
        };
        self.note_earliest();
        expired
    }

    /// Visits every field.
    pub fn each<'a>(&'a self, mut visit: impl FnMut(Pair<'a>)) {
        match &self.fields {
            Fields::Packed(list) => packed::pairs(list, self.stride()).for_each(visit),
            Fields::Table(table) => table.pairs().for_each(&mut visit),
        }
    }

    /// Visits fields from `cursor` on (0 begins) until at least `count` have been visited; a packed hash is visited
    /// whole. Returns the cursor to go on with; 0 when all have been seen. Fields that are there throughout are met,
    /// those of a table once.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(Pair<'a>)) -> u64 {
        match &self.fields {
            Fields::Packed(list) => {
                packed::pairs(list, self.stride()).for_each(visit);
                0
            }
            Fields::Table(table) => table.scan(cursor, count, &mut visit),
        }
    }

    /// A field, each with the same probability.
    pub fn random(&self, rng: &mut fastrand::Rng) -> Option<Pair<'_>> {
        match &self.fields {
            Fields::Packed(list) => packed::random(list, self.stride(), rng),
            Fields::Table(table) => table.random(rng),
        }
    }

    /// Visits `count` fields, each time one of all.
    pub fn draw<'a>(&'a self, count: usize, rng: &mut fastrand::Rng, mut visit: impl FnMut(Pair<'a>)) {
        match &self.fields {
            Fields::Packed(list) => {
                let pairs: Vec<Pair<'a>> = packed::pairs(list, self.stride()).collect();
                for _ in 0..if pairs.is_empty() { 0 } else { count } {
                    visit(pairs[rng.usize(..pairs.len())]);
                }
            }
            Fields::Table(table) => (0..count).filter_map(|_| table.random(rng)).for_each(visit),
        }
    }

    /// Distinct fields at random, `count` of them, or all if there are fewer.
    pub fn sample(&self, count: usize, rng: &mut fastrand::Rng) -> Vec<Pair<'_>> {
        let len = self.len();
        if let Fields::Table(table) = &self.fields
            && count < len / 3
        {
            return table.sample(count, rng);
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
        match &self.fields {
            Fields::Packed(list) => {
                list.len() > limits.hash_max_listpack_entries.saturating_mul(self.stride())
            }
            Fields::Table(_) => false,
        }
    }

    fn become_table(&mut self, limits: &Limits) {
        if let Fields::Packed(list) = &self.fields {
            let table = Table::new(packed::pairs(list, self.stride()), limits.hash_seed);
            self.fields = Fields::Table(Box::new(table));
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
        self.earliest = match &self.fields {
            Fields::Packed(_) if self.earliest == PLAIN => PLAIN,
            Fields::Packed(list) => packed::earliest(list).unwrap_or(NONE),
            Fields::Table(table) => table.earliest().unwrap_or(NONE),
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
        match &self.fields {
            Fields::Packed(list) => list.len() / self.stride(),
            Fields::Table(table) => table.len(),
        }
    }

    fn bytes(&self) -> usize {
        match &self.fields {
            Fields::Packed(list) => list.heap_bytes(),
            Fields::Table(table) => size_class(size_of::<Table>()) + table.bytes(),
        }
    }

    fn encoding(&self) -> &'static str {
        match &self.fields {
            Fields::Packed(_) if self.earliest == PLAIN => "listpack",
            Fields::Packed(_) => "listpackex",
            Fields::Table(_) => "hashtable",
        }
    }

    object_conversions!(Hash);
}

#[cfg(test)]
mod tests;
