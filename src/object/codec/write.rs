//! Writing values, in the encodings in which real servers write them.
//!
//! The layouts are drawn at the heads of `read` and `stream`.

use super::Form;
use super::output::Output;
use super::stream::write_stream;
use super::types::*;
use crate::object::listpack::Listpack;
use crate::object::{Hash, List, Native, Object, Set, SortedSet};

/// Hashes without a field that expires give a moment from here on.
const NO_TIME: i64 = i64::MAX - 1;

pub(super) fn type_of_stream(form: Form) -> u8 {
    if form.version >= VERSION_OF_PACKED_SETS {
        STREAM_LISTPACKS_3
    } else {
        STREAM_LISTPACKS_2
    }
}

/// The type that an object is written as.
pub(super) fn type_of(object: &Object, form: Form) -> u8 {
    match object {
        Object::List(_) => LIST_QUICKLIST_2,
        Object::Set(Set::Ints(_)) => SET_INTSET,
        Object::Set(Set::Packed(_)) if form.version >= VERSION_OF_PACKED_SETS => SET_LISTPACK,
        Object::Set(_) => SET,
        Object::Hash(hash) => match (hash.as_packed().is_some(), hash.encoding() == "hashtable") {
            (true, _) => HASH_LISTPACK,
            (_, false) => HASH_LISTPACK_TIMES,
            _ if has_times(hash) => HASH_TIMES,
            _ => HASH,
        },
        Object::SortedSet(set) if set.as_listpack().is_some() => ZSET_LISTPACK,
        Object::SortedSet(_) => ZSET_2,
        Object::Stream(_) => type_of_stream(form),
    }
}

/// Whether any field expires.
fn has_times(hash: &Hash) -> bool {
    hash.earliest_expiry() < NO_TIME
}

/// The version that a reader has to know at least.
pub(super) fn version_of(kind: u8) -> u16 {
    match kind {
        HASH_TIMES | HASH_LISTPACK_TIMES => VERSION_OF_FIELD_TIMES,
        SET_LISTPACK | STREAM_LISTPACKS_3 => VERSION_OF_PACKED_SETS,
        _ => 0,
    }
}

/// Appends what follows the type.
pub(super) fn write_object(output: &mut Output<'_>, object: &Object) {
    let kind = type_of(object, output.form);
    match object {
        Object::List(list) => write_list(output, list),
        Object::Set(set) => write_set(output, set, kind),
        Object::SortedSet(set) => write_sorted_set(output, set),
        Object::Hash(hash) => write_hash(output, hash, kind),
        Object::Stream(stream) => write_stream(output, stream, kind),
    }
}

fn write_list(output: &mut Output<'_>, list: &List) {
    output.count(list.node_count());
    let mut listpack = Vec::new();
    for node in list.nodes() {
        if node.is_plain() {
            output.number(NODE_PLAIN);
            output.string(node.bytes());
        } else {
            output.number(NODE_PACKED);
            listpack.clear();
            node.write_listpack(&mut listpack);
            output.string(&listpack);
        }
    }
}

fn write_set(output: &mut Output<'_>, set: &Set, kind: u8) {
    match set {
        Set::Ints(members) => output.string(members.as_bytes()),
        Set::Packed(members) if kind == SET_LISTPACK => output.string(members.as_bytes()),
        _ => {
            output.count(set.len());
            set.iter()
                .for_each(|member| member.with_bytes(|member| output.string(member)));
        }
    }
}

fn write_sorted_set(output: &mut Output<'_>, set: &SortedSet) {
    if let Some(packed) = set.as_listpack() {
        return output.string(packed.as_bytes());
    }
    output.count(set.len());
    // Downwards, as Redis does: so every element that it reads goes in front of the others.
    set.visit(0..set.len(), true, |member, score| {
        output.string(member);
        output.score(score);
    });
}

fn write_hash(output: &mut Output<'_>, hash: &Hash, kind: u8) {
    match kind {
        HASH_LISTPACK => {
            if let Some(packed) = hash.as_packed() {
                output.string(packed.as_bytes());
            }
        }
        HASH_LISTPACK_TIMES => write_packed_times(output, hash),
        _ => {
            let earliest = hash.earliest_expiry();
            if kind == HASH_TIMES {
                output.time(earliest);
            }
            output.count(hash.len());
            hash.each(|pair| {
                if kind == HASH_TIMES {
                    output.number(pair.expiry.map_or(0, |at| at.wrapping_sub(earliest) as u64 + 1));
                }
                pair.field.with_bytes(|field| output.string(field));
                pair.value.with_bytes(|value| output.string(value));
            });
        }
    }
}

/// Triples, which stand in the order of their times, those without a time at the end.
fn write_packed_times(output: &mut Output<'_>, hash: &Hash) {
    let mut packed = Listpack::new();
    hash.each(|pair| {
        pair.field.with_bytes(|field| packed.push_back(field));
        pair.value.with_bytes(|value| packed.push_back(value));
        packed.push_back_int(pair.expiry.unwrap_or(0));
    });
    output.time(hash.earliest_expiry());
    output.string(packed.as_bytes());
}
