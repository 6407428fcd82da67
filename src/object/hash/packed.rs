//! A packed hash: the fields of a listpack, with `stride` elements each.
//!
//! Pairs are field and value. Triples are field, value and expiry (unix milliseconds, 0 for none); they stand in the
//! order of their expiries, those without at the end, so that what expires next is in front.

use super::super::listpack::{Cursor, Item, Listpack};
use super::{FieldExpiry, Pair};

pub const PAIRS: usize = 2;
pub const TRIPLES: usize = 3;

fn find(list: &Listpack, stride: usize, field: &[u8]) -> Option<Cursor> {
    list.find(list.first()?, field, stride - 1)
}

fn integer(item: Item<'_>) -> i64 {
    match item {
        Item::Int(value) => value,
        Item::Bytes(_) => 0,
    }
}

fn some_time(expiry: i64) -> Option<i64> {
    (expiry != 0).then_some(expiry)
}

/// The expiry of the field at a cursor.
fn expiry_at(list: &Listpack, stride: usize, field: Cursor) -> Option<i64> {
    if stride == PAIRS {
        return None;
    }
    let expiry = list.next(field).and_then(|value| list.next(value))?;
    some_time(integer(list.get(expiry)))
}

pub fn get<'a>(list: &'a Listpack, stride: usize, field: &[u8]) -> Option<Item<'a>> {
    let found = find(list, stride, field)?;
    list.next(found).map(|value| list.get(value))
}

pub fn expiry(list: &Listpack, stride: usize, field: &[u8]) -> Option<Option<i64>> {
    let found = find(list, stride, field)?;
    Some(expiry_at(list, stride, found))
}

pub fn pairs(list: &Listpack, stride: usize) -> impl Iterator<Item = Pair<'_>> {
    let mut items = list.iter();
    std::iter::from_fn(move || {
        let (field, value) = (items.next()?, items.next()?);
        let expiry = if stride == TRIPLES {
            some_time(integer(items.next()?))
        } else {
            None
        };
        Some(Pair { field, value, expiry })
    })
}

/// Sets a field; true if it is new.
pub fn set(list: &mut Listpack, stride: usize, field: &[u8], value: &[u8], expiry: FieldExpiry) -> bool {
    let found = find(list, stride, field);
    let old = found.and_then(|at| expiry_at(list, stride, at));
    let new = expiry.after(old);
    if let Some(at) = found
        && new == old
        && let Some(at) = list.next(at)
    {
        list.replace(at, value);
        return false;
    }
    if let Some(at) = found {
        list.remove(at, stride);
    }
    match stride {
        PAIRS => list.append_many([field, value].into_iter()),
        _ => insert_triple(list, field, value, new),
    }
    found.is_none()
}

/// Inserts a triple at the place of its expiry.
fn insert_triple(list: &mut Listpack, field: &[u8], value: &[u8], expiry: Option<i64>) {
    // 0 stands for none; a field that expired with the year 1970 has expired.
    let expiry = expiry.map(|at| at.max(1));
    let mut digits = itoa::Buffer::new();
    let text = digits.format(expiry.unwrap_or(0)).as_bytes();
    let later = expiry.and_then(|at| first_behind(list, at));
    match later {
        Some(cursor) => {
            let cursor = list.insert_before(cursor, field);
            let cursor = list.insert_after(cursor, value);
            list.insert_after(cursor, text);
        }
        None => list.append_many([field, value, text].into_iter()),
    }
}

/// The first triple that expires later than `expiry` or never.
fn first_behind(list: &Listpack, expiry: i64) -> Option<Cursor> {
    let mut cursor = list.first();
    while let Some(field) = cursor {
        let at = list.next(field).and_then(|value| list.next(value))?;
        if some_time(integer(list.get(at))).is_none_or(|other| other > expiry) {
            return Some(field);
        }
        cursor = list.next(at);
    }
    None
}

/// Changes the expiry of a field of triples; pairs have none to take away. False if there is no such field.
pub fn set_expiry(list: &mut Listpack, stride: usize, field: &[u8], expiry: Option<i64>) -> bool {
    let Some(at) = find(list, stride, field) else {
        return false;
    };
    if stride == TRIPLES
        && expiry_at(list, stride, at) != expiry
        && let Some(value) = list.next(at)
    {
        let value = list.get(value).to_vec();
        list.remove(at, stride);
        insert_triple(list, field, &value, expiry);
    }
    true
}

pub fn remove(list: &mut Listpack, stride: usize, field: &[u8]) -> bool {
    let Some(at) = find(list, stride, field) else {
        return false;
    };
    list.remove(at, stride);
    true
}

/// Removes triples from the front whose expiry has passed, at most `most`; returns their fields.
pub fn expire(list: &mut Listpack, now_ms: i64, most: usize) -> Vec<Vec<u8>> {
    let expired: Vec<Vec<u8>> = pairs(list, TRIPLES)
        .take_while(|pair| pair.expiry.is_some_and(|at| at <= now_ms))
        .take(most)
        .map(|pair| pair.field.to_vec())
        .collect();
    if let Some(first) = list.first()
        && !expired.is_empty()
    {
        list.remove(first, expired.len() * TRIPLES);
    }
    expired
}

/// The earliest expiry among triples.
pub fn earliest(list: &Listpack) -> Option<i64> {
    expiry_at(list, TRIPLES, list.first()?)
}

/// Triples without expiries, from pairs.
pub fn with_expiries(list: &Listpack) -> Listpack {
    let texts: Vec<Vec<u8>> = list.iter().map(|item| item.to_vec()).collect();
    let mut triples = Listpack::new();
    triples.append_many(
        texts
            .chunks_exact(PAIRS)
            .flat_map(|pair| [&pair[0][..], &pair[1][..], b"0"]),
    );
    triples
}

/// Whether no field is there twice, in pairs.
pub fn is_distinct(list: &Listpack) -> bool {
    let mut fields: Vec<Vec<u8>> = pairs(list, PAIRS).map(|pair| pair.field.to_vec()).collect();
    fields.sort_unstable();
    fields.windows(2).all(|two| two[0] != two[1])
}

pub fn random<'a>(list: &'a Listpack, stride: usize, rng: &mut fastrand::Rng) -> Option<Pair<'a>> {
    let count = list.len() / stride;
    let chosen = if count == 0 { 0 } else { rng.usize(..count) };
    let field = list.at((chosen * stride) as i64)?;
    let value = list.next(field)?;
    Some(Pair {
        field: list.get(field),
        value: list.get(value),
        expiry: expiry_at(list, stride, field),
    })
}
