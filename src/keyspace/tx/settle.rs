//! What follows from a change of an entry: the lists that it must stand in, the counts, its effect.

use super::super::Keyspace;
use super::super::effects::Effects;
use super::super::entry::{self, Entry, NewValue};
use super::super::range::{DBS, Range};
use super::super::shard::{ShardState, stale_expiry};
use super::super::table::Place;
use super::LARGE;
use crate::object::codec;
use crate::object::pages::Pages;
use std::sync::atomic::Ordering::Relaxed;

/// A changed element of a large collection counts for so many times its size.
const LARGE_WEIGHT: usize = 4;

/// After a change: the entry's expiry is in the index, an entry of a durable range among the dirty ones, and one of a
/// memory range no longer about to be sealed.
#[inline]
pub(in crate::keyspace) fn settle(
    keyspace: &Keyspace,
    state: &mut ShardState,
    hash: u64,
    place: Option<Place>,
    range: &Range,
) {
    let Some(entry) = place.and_then(|place| state.table.at_mut(place)) else {
        return;
    };
    if !entry.has(entry::INDEXED)
        && let Some(at) = entry.next_expiry()
    {
        entry.set(entry::INDEXED, true);
        state.expiries.add(at, hash);
    }
    if !range.is_durable() {
        // A row that is being written is not of this entry any more.
        entry.store_set(entry::SEALING, false);
    } else if !entry.store_has(entry::DIRTY) {
        entry.store_set(entry::DIRTY, true);
        keyspace.flush.note_dirty(entry.written_size());
        state.dirty.push(hash);
    } else if let Some(object) = entry.object()
        && object.len() > LARGE
    {
        // It grows with each change; and what a flush writes of it, it writes with the shard locked: so it comes soon.
        let element = object
            .pages()
            .map_or_else(|| object.bytes() / object.len(), Pages::element_size);
        keyspace.flush.note_dirty(LARGE_WEIGHT * element);
    }
}

/// Adds an entry whose key is not in the table, settled. True when the key is watched.
#[inline]
pub(super) fn insert(
    keyspace: &Keyspace,
    state: &mut ShardState,
    hash: u64,
    mut entry: Entry,
    range: &Range,
) -> bool {
    if let Some(at) = entry.next_expiry() {
        entry.set(entry::INDEXED, true);
        state.expiries.add(at, hash);
    }
    if range.is_durable() {
        entry.store_set(entry::DIRTY, true);
        keyspace.flush.note_dirty(entry.size());
        state.dirty.push(hash);
    }
    state.insert(hash, entry).has(entry::WATCHED)
}

pub(super) fn record_value(effects: &mut Effects, db: u8, key: &[u8], value: &NewValue<'_>, at: Option<i64>) {
    let mut digits = itoa::Buffer::new();
    match (value, at) {
        (NewValue::String(value), None) => effects.push(db, &[b"SET", key, value]),
        (NewValue::String(value), Some(at)) => {
            effects.push(db, &[b"SET", key, value, b"PXAT", digits.format(at).as_bytes()]);
        }
        (NewValue::Object(object), at) => {
            let payload = codec::dump(codec::ValueRef::Object(object), codec::Form::ROW);
            let at = digits.format(at.unwrap_or(0)).as_bytes();
            effects.push(db, &[b"RESTORE", key, at, &payload, b"REPLACE", b"ABSTTL"]);
        }
    }
}

/// After an expiry changed: the index's item still stands for the entry only if it comes no later than the new next
/// expiry. Returns what is to be noted as stale.
pub(super) fn reindex(entry: &mut Entry, before: Option<i64>) -> Option<i64> {
    let after = entry.next_expiry();
    if before.zip(after).is_none_or(|(before, after)| after < before) {
        entry.set(entry::INDEXED, false);
    }
    stale_expiry(entry, before, after)
}

/// Counts keys and expiries: outer `None` is no key, inner `None` a key without expiry.
pub(in crate::keyspace) fn count_change(
    range: &Range,
    db: u8,
    old: Option<Option<i64>>,
    new: Option<Option<i64>>,
) {
    debug_assert!((db as usize) < DBS);
    let counters = &range.counters;
    let keys = i64::from(new.is_some()) - i64::from(old.is_some());
    if keys != 0 {
        counters.keys[db as usize].fetch_add(keys, Relaxed);
    }
    let expires = i64::from(new.flatten().is_some()) - i64::from(old.flatten().is_some());
    if expires != 0 {
        counters.expires[db as usize].fetch_add(expires, Relaxed);
    }
}
