//! Reading and writing streams.
//!
//! ```text
//! stream:    nodes | (id as a string of 16 bytes | listpack) … | entries | last id
//!            [from type 19: first id | greatest deleted id | entries ever added]
//!            groups | group …
//! group:     name | last id | [from type 19: entries read] | pending | (id, 16 bytes | time | deliveries) …
//!            consumers | consumer …
//! consumer:  name | seen, a time | [from type 21: active, a time] | pending | id, 16 bytes …
//! ```
//!
//! An id in 16 bytes is big-endian; elsewhere it is two numbers. Entries read that are not known are 2^64 - 1.

use super::error::{CodecError, Problem};
use super::input::Input;
use super::output::Output;
use super::types::{STREAM_LISTPACKS, STREAM_LISTPACKS_3};
use crate::object::stream::{Group, Pending, Stream, StreamId};
use crate::object::{Native, listpack::Listpack};

const ID: usize = 16;
const UNKNOWN: u64 = u64::MAX;

pub(super) fn read_stream(input: &mut impl Input, kind: u8) -> Result<Stream, CodecError> {
    let mut stream = Stream::empty();
    for _ in 0..input.count(1 + ID as u64 + 1)? {
        let id = read_node_id(input)?;
        let node = input.listpack()?;
        if stream.log_mut().push_node(id, node).is_err() {
            return input.fail(Problem::Stream);
        }
    }
    read_facts(input, kind, &mut stream)?;
    for _ in 0..input.count(4)? {
        read_group(input, kind, &mut stream)?;
    }
    Ok(stream)
}

/// A stream without its nodes, which stand elsewhere: what `write_facts` has written of it, in the newest form.
pub(super) fn read_facts_alone(input: &mut impl Input) -> Result<Stream, CodecError> {
    let mut stream = Stream::empty();
    let len = input.number()?;
    let [last_id, first_id, max_deleted_id] = [read_id(input)?, read_id(input)?, read_id(input)?];
    let log = stream.log_mut();
    (log.last_id, log.max_deleted_id) = (last_id, max_deleted_id);
    log.entries_added = input.number()?;
    log.expect_entries(len, first_id);
    for _ in 0..input.count(4)? {
        read_group(input, STREAM_LISTPACKS_3, &mut stream)?;
    }
    Ok(stream)
}

fn read_node_id(input: &mut impl Input) -> Result<StreamId, CodecError> {
    let mut scratch = Vec::new();
    let id = input.string(&mut scratch)?.try_into().map(StreamId::from_bytes);
    id.or_else(|_| input.fail(Problem::Stream))
}

fn read_id(input: &mut impl Input) -> Result<StreamId, CodecError> {
    Ok(StreamId::new(input.number()?, input.number()?))
}

/// What is known of a stream beside its entries.
fn read_facts(input: &mut impl Input, kind: u8, stream: &mut Stream) -> Result<(), CodecError> {
    let entries = input.number()?;
    let last_id = read_id(input)?;
    let log = stream.log_mut();
    if entries > 0 && log.is_empty() {
        return input.fail(Problem::Stream);
    }
    // The entries count for more than what is said of them.
    let newest = log.range_back(StreamId::ZERO, StreamId::MAX).next();
    log.last_id = newest.map_or(last_id, |entry| entry.id.max(last_id));
    if kind == STREAM_LISTPACKS {
        log.entries_added = log.len();
        return Ok(());
    }
    read_id(input)?; // the first one, which the entries tell
    log.max_deleted_id = read_id(input)?;
    log.entries_added = input.number()?;
    Ok(())
}

fn read_group(input: &mut impl Input, kind: u8, stream: &mut Stream) -> Result<(), CodecError> {
    let name = input.boxed()?;
    let last_id = read_id(input)?;
    let entries_read = match kind {
        STREAM_LISTPACKS => stream.log().added_until(last_id),
        _ => Some(input.number()?).filter(|read| *read != UNKNOWN),
    };
    let mut waiting = read_pending(input)?;
    let groups = stream.groups_mut();
    if !groups.create(&name, last_id, entries_read) {
        return input.fail(Problem::Duplicate);
    }
    // proof: it was created just above.
    let mut group = groups.get_mut(&name).expect("the group is there");
    for _ in 0..input.count(1 + 8 + 1)? {
        read_consumer(input, kind, &mut group, &mut waiting)?;
    }
    // Every pending entry is some consumer's.
    match waiting.iter().all(|waiting| waiting.taken) {
        true => Ok(()),
        false => input.fail(Problem::Stream),
    }
}

/// A pending entry whose consumer comes later.
struct Waiting {
    id: StreamId,
    delivered_ms: i64,
    deliveries: u64,
    taken: bool,
}

/// The pending entries of a group, in the order of their ids.
fn read_pending(input: &mut impl Input) -> Result<Vec<Waiting>, CodecError> {
    let count = input.count(ID as u64 + 8 + 1)?;
    let mut pending = Vec::<Waiting>::with_capacity(count);
    for _ in 0..count {
        let id = StreamId::from_bytes(input.array()?);
        let (delivered_ms, deliveries) = (input.time()?, input.number()?);
        pending.push(Waiting {
            id,
            delivered_ms,
            deliveries,
            taken: false,
        });
    }
    pending.sort_by_key(|waiting| waiting.id);
    match pending.windows(2).all(|pair| pair[0].id < pair[1].id) {
        true => Ok(pending),
        false => input.fail(Problem::Duplicate),
    }
}

fn read_consumer(
    input: &mut impl Input,
    kind: u8,
    group: &mut Group,
    waiting: &mut [Waiting],
) -> Result<(), CodecError> {
    let name = input.boxed()?;
    let seen_ms = input.time()?;
    // Earlier types do not tell it: the one is taken for the other.
    let active_ms = if kind == STREAM_LISTPACKS_3 {
        input.time()?
    } else {
        seen_ms
    };
    let (consumer, true) = group.create_consumer(&name, seen_ms) else {
        return input.fail(Problem::Duplicate);
    };
    group.note(consumer, active_ms, true);
    group.note(consumer, seen_ms, false);
    for _ in 0..input.count(ID as u64)? {
        let id = StreamId::from_bytes(input.array()?);
        let found = waiting.binary_search_by_key(&id, |waiting| waiting.id);
        let Some(found) = found.ok().map(|at| &mut waiting[at]).filter(|found| !found.taken) else {
            return input.fail(Problem::Stream);
        };
        found.taken = true;
        let pending = Pending {
            delivered_ms: found.delivered_ms,
            deliveries: found.deliveries,
            consumer,
        };
        group.set_pending(id, pending);
    }
    Ok(())
}

pub(super) fn write_stream(output: &mut Output<'_>, stream: &Stream, kind: u8) {
    let log = stream.log();
    output.count(log.node_count());
    for (id, node) in log.nodes() {
        output.raw(&id.to_bytes());
        output.string(Listpack::as_bytes(node));
    }
    write_facts(output, stream, kind);
}

/// What stands behind the nodes of a stream.
pub(super) fn write_facts(output: &mut Output<'_>, stream: &Stream, kind: u8) {
    let log = stream.log();
    output.number(log.len());
    for id in [log.last_id, log.first_id(), log.max_deleted_id] {
        write_id(output, id);
    }
    output.number(log.entries_added);
    output.count(stream.groups().len());
    for (name, group) in stream.groups().iter() {
        output.string(name);
        write_group(output, group, kind);
    }
}

fn write_id(output: &mut Output<'_>, id: StreamId) {
    output.number(id.ms);
    output.number(id.seq);
}

fn write_group(output: &mut Output<'_>, group: &Group, kind: u8) {
    write_id(output, group.last_id);
    output.number(group.entries_read.unwrap_or(UNKNOWN));
    output.count(group.pending_len());
    for (id, pending) in group.pending(StreamId::ZERO, StreamId::MAX) {
        output.bytes.extend_from_slice(&id.to_bytes());
        output.time(pending.delivered_ms);
        output.number(pending.deliveries);
    }
    output.count(group.consumer_count());
    for consumer in group.consumers() {
        output.string(consumer.name());
        output.time(consumer.seen_ms);
        if kind == STREAM_LISTPACKS_3 {
            output.time(consumer.active_ms);
        }
        output.count(consumer.pending_len());
        for id in consumer.pending(StreamId::ZERO, StreamId::MAX) {
            output.bytes.extend_from_slice(&id.to_bytes());
        }
    }
}
