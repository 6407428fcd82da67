//! Reading values of every type that servers have written.
//!
//! ```text
//! list:        count | element …                        quicklist: count | [plain or packed] node …
//! set:         count | member …
//! sorted set:  count | (member | score) …
//! hash:        count | (field | value) …                with times: earliest | count | (time | field | value) …
//! packed:      one string: intset, listpack, ziplist or zipmap
//! ```
//!
//! Packed forms hold (member, score), (field, value) or (field, value, time) one after the other. In a hash with times
//! the time 0 stands for none; in the unpacked form others are those after the earliest, plus 1.
//!
//! Guarantees: no bytes panic or make it allocate more than a multiple of their own number; what it returns holds the
//! type's invariants: no members twice, no scores that are no numbers, no collection without elements.

use super::error::{CodecError, Problem};
use super::input::Input;
use super::stream::read_stream;
use super::types::*;
use super::{Value, old};
use crate::object::hash::FieldExpiry;
use crate::object::list::Side;
use crate::object::listpack::{Item, Listpack};
use crate::object::{Hash, Limits, List, Native, Set, SortedSet, Stream};
use std::collections::HashSet;

/// Up to so many elements each is compared with each.
const COMPARED: usize = 16;

/// Reads the value of a type.
pub(super) fn read_value(input: &mut impl Input, kind: u8, limits: &Limits) -> Result<Value, CodecError> {
    let object = match kind {
        STRING => return input.boxed().map(|text| Value::String(text.into_vec())),
        LIST | LIST_ZIPLIST | LIST_QUICKLIST | LIST_QUICKLIST_2 => {
            read_list(input, kind, limits)?.into_object()
        }
        SET | SET_INTSET | SET_LISTPACK => read_set(input, kind, limits)?.into_object(),
        ZSET | ZSET_2 | ZSET_ZIPLIST | ZSET_LISTPACK => read_sorted_set(input, kind, limits)?.into_object(),
        HASH | HASH_ZIPMAP | HASH_ZIPLIST | HASH_LISTPACK => read_hash(input, kind, limits)?.into_object(),
        HASH_TIMES_EARLY..=HASH_LISTPACK_TIMES => read_hash_with_times(input, kind, limits)?.into_object(),
        STREAM_LISTPACKS | STREAM_LISTPACKS_2 | STREAM_LISTPACKS_3 => read_stream(input, kind)?.into_object(),
        MODULE | MODULE_2 => return input.fail(Problem::Module),
        _ => return input.fail(Problem::Type(kind)),
    };
    Ok(Value::Object(object))
}

/// The count of a collection, each element of at least `each` bytes.
fn read_count(input: &mut impl Input, each: u64) -> Result<usize, CodecError> {
    match input.count(each)? {
        0 => input.fail(Problem::Empty),
        count => Ok(count),
    }
}

fn read_ziplist(input: &mut impl Input) -> Result<Listpack, CodecError> {
    let bytes = input.boxed()?;
    input.check(old::ziplist(&bytes))
}

fn read_list(input: &mut impl Input, kind: u8, limits: &Limits) -> Result<List, CodecError> {
    let (mut list, mut scratch) = (List::empty(), Vec::new());
    match kind {
        LIST_ZIPLIST => list.load_packed(&read_ziplist(input)?),
        _ => {
            for _ in 0..read_count(input, 1)? {
                match kind {
                    LIST => list.push(Side::Back, &[input.string(&mut scratch)?], limits),
                    LIST_QUICKLIST => list.load_packed(&read_ziplist(input)?),
                    _ => match input.number()? {
                        NODE_PLAIN => list.load_plain(input.string(&mut scratch)?),
                        NODE_PACKED => list.load_packed(&input.listpack()?),
                        _ => return input.fail(Problem::Length),
                    },
                }
            }
        }
    }
    if list.is_empty() {
        return input.fail(Problem::Empty);
    }
    if kind != LIST {
        list.settle_loaded(limits);
    }
    Ok(list)
}

fn read_set(input: &mut impl Input, kind: u8, limits: &Limits) -> Result<Set, CodecError> {
    match kind {
        SET_INTSET => {
            let members = input.intset()?;
            if members.is_empty() {
                return input.fail(Problem::Empty);
            }
            Ok(Set::from_intset(members, limits))
        }
        SET_LISTPACK => {
            let members = input.listpack()?;
            check_packed(input, &members, 1)?;
            Ok(Set::from_listpack(members, limits))
        }
        _ => {
            let (count, mut scratch) = (read_count(input, 1)?, Vec::new());
            let first = input.boxed()?;
            let mut set = Set::for_members(&first, count, limits);
            set.add(&first, limits);
            for _ in 1..count {
                if !set.add(input.string(&mut scratch)?, limits) {
                    return input.fail(Problem::Duplicate);
                }
            }
            Ok(set)
        }
    }
}

fn read_sorted_set(input: &mut impl Input, kind: u8, limits: &Limits) -> Result<SortedSet, CodecError> {
    let packed = match kind {
        ZSET_ZIPLIST => read_ziplist(input)?,
        ZSET_LISTPACK => input.listpack()?,
        _ => return read_large_sorted_set(input, kind, limits),
    };
    check_packed(input, &packed, 2)?;
    SortedSet::from_listpack(packed, limits).or_else(|_| input.fail(Problem::Number))
}

fn read_large_sorted_set(input: &mut impl Input, kind: u8, limits: &Limits) -> Result<SortedSet, CodecError> {
    let count = read_count(input, if kind == ZSET { 2 } else { 9 })?;
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let member = input.boxed()?;
        let score = match kind {
            ZSET => input.text_score()?,
            _ => input.score()?,
        };
        pairs.push((member, score));
    }
    if !are_distinct(pairs.iter().map(|(member, _)| &member[..])) {
        return input.fail(Problem::Duplicate);
    }
    Ok(SortedSet::from_pairs(pairs, limits))
}

fn read_hash(input: &mut impl Input, kind: u8, limits: &Limits) -> Result<Hash, CodecError> {
    let packed = match kind {
        HASH => return read_fields(input, limits),
        HASH_ZIPMAP => {
            let bytes = input.boxed()?;
            input.check(old::zipmap(&bytes))?
        }
        HASH_ZIPLIST => read_ziplist(input)?,
        _ => input.listpack()?,
    };
    check_groups(input, &packed, 2)?;
    Hash::from_packed(packed, limits).map_or_else(|| input.fail(Problem::Duplicate), Ok)
}

fn read_fields(input: &mut impl Input, limits: &Limits) -> Result<Hash, CodecError> {
    let count = read_count(input, 2)?;
    let mut hash = Hash::empty();
    let (mut field, mut scratch) = (Vec::new(), Vec::new());
    for _ in 0..count {
        input.string_into(&mut field)?;
        let is_new = add(&mut hash, &field, input.string(&mut scratch)?, None, limits);
        if !is_new {
            return input.fail(Problem::Duplicate);
        }
    }
    Ok(hash)
}

fn read_hash_with_times(input: &mut impl Input, kind: u8, limits: &Limits) -> Result<Hash, CodecError> {
    let earliest = match kind {
        HASH_TIMES | HASH_LISTPACK_TIMES => input.time()?,
        _ => 0,
    };
    if matches!(kind, HASH_LISTPACK_TIMES | HASH_LISTPACK_TIMES_EARLY) {
        return read_packed_times(input, limits);
    }
    let count = read_count(input, 3)?;
    let mut hash = Hash::empty();
    let (mut field, mut scratch) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let time = match input.number()? {
            0 => None,
            time if kind == HASH_TIMES => Some(earliest.wrapping_add_unsigned(time - 1)),
            time => Some(time as i64),
        };
        input.string_into(&mut field)?;
        let time = read_time(input, time)?;
        let is_new = add(&mut hash, &field, input.string(&mut scratch)?, time, limits);
        if !is_new {
            return input.fail(Problem::Duplicate);
        }
    }
    Ok(hash)
}

/// A field's time, which is after the year 1970.
fn read_time(input: &impl Input, time: Option<i64>) -> Result<Option<i64>, CodecError> {
    match time {
        Some(..=0) => input.fail(Problem::Number),
        time => Ok(time),
    }
}

/// Triples of field, value and time.
fn read_packed_times(input: &mut impl Input, limits: &Limits) -> Result<Hash, CodecError> {
    let packed = input.listpack()?;
    check_groups(input, &packed, 3)?;
    let mut hash = Hash::empty();
    let mut items = packed.iter();
    while let (Some(field), Some(value), Some(time)) = (items.next(), items.next(), items.next()) {
        let time = match time {
            Item::Int(0) => None,
            Item::Int(time) => read_time(input, Some(time))?,
            Item::Bytes(_) => return input.fail(Problem::Number),
        };
        let is_new =
            field.with_bytes(|field| value.with_bytes(|value| add(&mut hash, field, value, time, limits)));
        if !is_new {
            return input.fail(Problem::Duplicate);
        }
    }
    Ok(hash)
}

/// Adds a field; false if it was there.
fn add(hash: &mut Hash, field: &[u8], value: &[u8], time: Option<i64>, limits: &Limits) -> bool {
    let expiry = time.map_or(FieldExpiry::Clear, FieldExpiry::At);
    hash.set(field, value, expiry, limits)
}

/// Whether a packed collection has elements, and whole groups of them.
fn check_groups(input: &impl Input, list: &Listpack, stride: usize) -> Result<(), CodecError> {
    match list.len() {
        0 => input.fail(Problem::Empty),
        len if !len.is_multiple_of(stride) => input.fail(Problem::Half),
        _ => Ok(()),
    }
}

/// And whether the first elements of the groups are all different.
fn check_packed(input: &impl Input, list: &Listpack, stride: usize) -> Result<(), CodecError> {
    check_groups(input, list, stride)?;
    match are_distinct(list.iter().step_by(stride)) {
        true => Ok(()),
        false => input.fail(Problem::Duplicate),
    }
}

/// Whether no two are equal.
fn are_distinct<T: Eq + std::hash::Hash>(items: impl Iterator<Item = T> + Clone) -> bool {
    if items.clone().nth(COMPARED).is_none() {
        let mut rest = items;
        while let Some(item) = rest.next() {
            if rest.clone().any(|other| other == item) {
                return false;
            }
        }
        return true;
    }
    let mut seen = HashSet::with_hasher(foldhash::fast::RandomState::default());
    items.into_iter().all(|item| seen.insert(item))
}

/// The name of the type of values, as `TYPE` gives it.
pub(super) fn name_of(kind: u8) -> Option<&'static str> {
    Some(match kind {
        STRING => "string",
        LIST | LIST_ZIPLIST | LIST_QUICKLIST | LIST_QUICKLIST_2 => List::NAME,
        SET | SET_INTSET | SET_LISTPACK => Set::NAME,
        ZSET | ZSET_2 | ZSET_ZIPLIST | ZSET_LISTPACK => SortedSet::NAME,
        HASH | HASH_ZIPMAP | HASH_ZIPLIST | HASH_LISTPACK | HASH_TIMES_EARLY..=HASH_LISTPACK_TIMES => {
            Hash::NAME
        }
        STREAM_LISTPACKS | STREAM_LISTPACKS_2 | STREAM_LISTPACKS_3 => Stream::NAME,
        _ => return None,
    })
}
