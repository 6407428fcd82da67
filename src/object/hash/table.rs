//! A large hash: a table of fields, and the moments at which some of them expire in order.
//!
//! Invariant: for every field with an expiry, the pair of it and the field's hash is in `expiries`. There may be pairs
//! for which there is no field any more (where two hashes were alike); they are dropped when their time comes.

use super::super::dict::{Dict, DictItem, Field};
use super::super::listpack::Item;
use super::{FieldExpiry, Pair};
use std::collections::{BTreeSet, HashSet};

/// What one item of a set costs in memory, its share of half-empty nodes included.
const EXPIRY_BYTES: usize = 26;

#[derive(Clone)]
pub struct Table {
    fields: Dict<Field>,
    /// Unix milliseconds and the field's hash.
    expiries: BTreeSet<(i64, u64)>,
}

pub fn pair(field: &Field) -> Pair<'_> {
    Pair {
        field: Item::Bytes(field.key()),
        value: Item::Bytes(field.value()),
        expiry: field.expiry(),
    }
}

impl Table {
    /// A table of these fields.
    pub fn new<'a>(pairs: impl Iterator<Item = Pair<'a>>, seed: u64) -> Table {
        let mut table = Table {
            fields: Dict::new(seed),
            expiries: BTreeSet::new(),
        };
        for Pair { field, value, expiry } in pairs {
            let field = field.with_bytes(|field| value.with_bytes(|value| Field::new(field, value, expiry)));
            table.index(field.key(), expiry);
            table.fields.insert(field);
        }
        table
    }

    /// A table of fields none of which expires.
    pub fn of_fields(fields: Dict<Field>) -> Table {
        Table {
            fields,
            expiries: BTreeSet::new(),
        }
    }

    pub fn into_fields(self) -> Dict<Field> {
        self.fields
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Heap bytes in use.
    pub fn bytes(&self) -> usize {
        self.fields.bytes() + self.expiries.len() * EXPIRY_BYTES
    }

    pub fn prefetch(&self, fields: &[&[u8]]) {
        self.fields.prefetch(fields);
    }

    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.fields.get(field).map(Field::value)
    }

    pub fn expiry(&self, field: &[u8]) -> Option<Option<i64>> {
        self.fields.get(field).map(Field::expiry)
    }

    fn index(&mut self, field: &[u8], expiry: Option<i64>) {
        if let Some(at) = expiry {
            self.expiries.insert((at, self.fields.hash(field)));
        }
    }

    /// Forgets an expiry that a field had, unless another one of the same hash has it too.
    fn forget(&mut self, field: &[u8], expiry: Option<i64>) {
        let Some(at) = expiry else { return };
        let hash = self.fields.hash(field);
        let shared = |other: &Field| other.expiry() == Some(at) && other.key() != field;
        if !self.fields.like(hash).any(shared) {
            self.expiries.remove(&(at, hash));
        }
    }

    /// Sets a field; true if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], expiry: FieldExpiry) -> bool {
        let changed = self.fields.change(field, |found| {
            let old = found.expiry();
            let new = expiry.after(old);
            found.set_value(value);
            found.set_expiry(new);
            (old, new)
        });
        match changed {
            Some((old, new)) if old != new => {
                self.forget(field, old);
                self.index(field, new);
            }
            Some(_) => {}
            None => {
                let new = expiry.after(None);
                self.index(field, new);
                self.fields.insert(Field::new(field, value, new));
            }
        }
        changed.is_none()
    }

    pub fn set_expiry(&mut self, field: &[u8], expiry: Option<i64>) -> bool {
        let changed = self.fields.change(field, |found| {
            let old = found.expiry();
            found.set_expiry(expiry);
            old
        });
        let Some(old) = changed else { return false };
        if old != expiry {
            self.forget(field, old);
            self.index(field, expiry);
        }
        true
    }

    pub fn remove(&mut self, field: &[u8]) -> bool {
        let Some(removed) = self.fields.remove(field) else {
            return false;
        };
        self.forget(field, removed.expiry());
        true
    }

    /// Removes fields whose expiry has passed, those of earlier moments first, until at least `most` are gone or none
    /// is left; returns them.
    pub fn expire(&mut self, now_ms: i64, most: usize) -> Vec<Vec<u8>> {
        let mut expired = Vec::new();
        while expired.len() < most
            && let Some(&(at, hash)) = self.expiries.first()
            && at <= now_ms
        {
            self.expiries.pop_first();
            let alike = self.fields.like(hash);
            let due = alike.filter(|field| field.expiry().is_some_and(|at| at <= now_ms));
            let due: Vec<Vec<u8>> = due.map(|field| field.key().to_vec()).collect();
            due.iter().for_each(|field| drop(self.fields.remove(field)));
            expired.extend(due);
        }
        expired
    }

    /// The earliest moment at which a field may expire.
    pub fn earliest(&self) -> Option<i64> {
        self.expiries.first().map(|(at, _)| *at)
    }

    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        self.fields.iter().map(pair)
    }

    pub fn scan<'a>(&'a self, cursor: u64, count: usize, visit: &mut impl FnMut(Pair<'a>)) -> u64 {
        self.fields.scan(cursor, count, |field| visit(pair(field)))
    }

    pub fn random(&self, rng: &mut fastrand::Rng) -> Option<Pair<'_>> {
        self.fields.random(rng).map(pair)
    }

    /// As the function of that name.
    pub fn sample(&self, count: usize, rng: &mut fastrand::Rng) -> Vec<Pair<'_>> {
        sample(&self.fields, count, rng)
    }
}

/// Distinct fields at random; `count` is well below the number of fields.
pub fn sample<'a>(fields: &'a Dict<Field>, count: usize, rng: &mut fastrand::Rng) -> Vec<Pair<'a>> {
    let (mut seen, mut chosen) = (HashSet::with_capacity(count), Vec::with_capacity(count));
    while chosen.len() < count.min(fields.len())
        && let Some(field) = fields.random(rng)
    {
        if seen.insert(std::ptr::from_ref(field)) {
            chosen.push(pair(field));
        }
    }
    chosen
}
