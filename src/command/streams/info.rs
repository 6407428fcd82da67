//! XINFO: what a stream is made of.

use super::{limit, no_group_of_key, write_entries, write_entry, write_id};
use crate::command::args::Args;
use crate::command::error::Error;
use crate::command::help;
use crate::command::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::Tx;
use crate::net::session::Session;
use crate::object::Stream;
use crate::object::stream::{Consumer, Group, Log, StreamId};
use crate::resp::Reply;

const KEY: &[KeySpec] = &[key(2, "RO ACCESS")];

pub static COMMANDS: &[Spec] = &[Spec::new("xinfo", -2, 0, 0, Handler::Container)
    .group("stream", "5.0.0")
    .doc(
        "",
        "depends on the subcommand",
        "Commands that tell what a stream is made of.",
    )
    .subcommands(&[
        sub("consumers", 4, consumers)
            .group("stream", "5.0.0")
            .doc(
                "key group",
                "O(N) for N consumers",
                "Returns what is known of the consumers of a group.",
            )
            .tips(&["nondeterministic_output"]),
        sub("groups", 3, groups).group("stream", "5.0.0").doc(
            "key",
            "O(N) for N groups",
            "Returns what is known of the groups of a stream.",
        ),
        Spec::new(
            "help",
            2,
            LOADING | STALE,
            acl::STREAM,
            Handler::Session(show_help),
        )
        .group("stream", "5.0.0")
        .doc("", "O(1)", "Lists the subcommands."),
        sub("stream", -3, stream).group("stream", "5.0.0").doc(
            "key [FULL [COUNT count]]",
            "O(1), and with FULL O(N) for N things returned",
            "Returns what is known of a stream.",
        ),
    ])];

const fn sub(
    name: &'static str,
    arity: i32,
    handler: fn(&Args<'_>, &mut Tx<'_>, &mut Reply) -> Outcome,
) -> Spec {
    Spec::new(name, arity, READONLY, acl::STREAM, Handler::Data(handler)).keys(KEY)
}

fn show_help(_: &Args<'_>, _: &mut Session, reply: &mut Reply) -> Outcome {
    help::reply(
        reply,
        "XINFO",
        &[
            ("CONSUMERS <key> <groupname>", &["The consumers of a group."]),
            ("GROUPS <key>", &["The groups of a stream."]),
            (
                "STREAM <key> [FULL [COUNT <count>]]",
                &["A stream; with FULL also its first entries, its groups and their consumers."],
            ),
        ],
    );
    Ok(())
}

fn consumers(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let now_ms = tx.now_ms();
    let stream = tx.read::<Stream>(&args[2])?.ok_or(Error::NoSuchKey)?;
    let group = stream.groups().get(&args[3]);
    let group = group.ok_or_else(|| no_group_of_key(&args[2], &args[3]))?;
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        let inactive = match consumer.active_ms {
            -1 => -1,
            at => since(at, now_ms),
        };
        for (name, fact) in [
            ("pending", consumer.pending_len() as i64),
            ("idle", since(consumer.seen_ms, now_ms)),
            ("inactive", inactive),
        ] {
            reply.bulk(name.as_bytes());
            reply.int(fact);
        }
    }
    Ok(())
}

fn since(at: i64, now_ms: i64) -> i64 {
    now_ms.saturating_sub(at).max(0)
}

fn groups(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let stream = tx.read::<Stream>(&args[2])?.ok_or(Error::NoSuchKey)?;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups().iter() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.int(group.consumer_count() as i64);
        reply.bulk(b"pending");
        reply.int(group.pending_len() as i64);
        write_progress(stream, group, reply);
    }
    Ok(())
}

/// Three facts: how far a group has read, and how far it is behind.
fn write_progress(stream: &Stream, group: &Group, reply: &mut Reply) {
    reply.bulk(b"last-delivered-id");
    write_id(group.last_id, reply);
    for (name, fact) in [("entries-read", group.entries_read), ("lag", stream.lag(group))] {
        reply.bulk(name.as_bytes());
        match fact {
            Some(count) => reply.int(count as i64),
            None => reply.null(),
        }
    }
}

/// Things of each kind that FULL shows when no count is given.
pub(super) const SHOWN_DEFAULT: i64 = 10;

/// With FULL, how many things of each kind are wanted; 0 for all.
fn full(args: &Args<'_>) -> Result<Option<i64>, Error> {
    if args.len() == 3 {
        return Ok(None);
    }
    let known = args.is(3, "FULL") && (args.len() == 4 || args.len() == 6 && args.is(4, "COUNT"));
    if !known {
        return Err(help::wrong_arguments(args));
    }
    if args.len() == 4 {
        return Ok(Some(SHOWN_DEFAULT));
    }
    let count = args.int(5)?;
    Ok(Some(if count < 0 { SHOWN_DEFAULT } else { count }))
}

fn stream(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let stream = tx.read::<Stream>(&args[2])?.ok_or(Error::NoSuchKey)?;
    match full(args)? {
        None => write_short(stream, reply),
        Some(count) => write_full(stream, limit(count), reply),
    }
    Ok(())
}

/// Seven facts on the log.
fn write_log(log: &Log, reply: &mut Reply) {
    // Redis counts the inner nodes of its tree, too: with one packed node there are two.
    let tree_nodes = log.node_count() + 1;
    for (name, fact) in [
        ("length", log.len()),
        ("radix-tree-keys", log.node_count() as u64),
        ("radix-tree-nodes", tree_nodes as u64),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(fact as i64);
    }
    reply.bulk(b"last-generated-id");
    write_id(log.last_id, reply);
    reply.bulk(b"max-deleted-entry-id");
    write_id(log.max_deleted_id, reply);
    reply.bulk(b"entries-added");
    reply.int(log.entries_added as i64);
    reply.bulk(b"recorded-first-entry-id");
    write_id(log.first_id(), reply);
}

fn write_short(stream: &Stream, reply: &mut Reply) {
    let log = stream.log();
    reply.map(10);
    write_log(log, reply);
    reply.bulk(b"groups");
    reply.int(stream.groups().len() as i64);
    let first = log.iter().next();
    let last = log.range_back(StreamId::ZERO, StreamId::MAX).next();
    for (name, entry) in [("first-entry", first), ("last-entry", last)] {
        reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => write_entry(&entry, reply),
            None => reply.null(),
        }
    }
}

fn write_full(stream: &Stream, count: usize, reply: &mut Reply) {
    reply.map(9);
    write_log(stream.log(), reply);
    reply.bulk(b"entries");
    write_entries(stream.log().iter().take(count), reply);
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups().iter() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        write_progress(stream, group, reply);
        write_pending_of_group(group, count, reply);
        reply.bulk(b"consumers");
        reply.array(group.consumer_count());
        for consumer in group.consumers() {
            write_consumer(group, consumer, count, reply);
        }
    }
}

fn write_pending_of_group(group: &Group, count: usize, reply: &mut Reply) {
    reply.bulk(b"pel-count");
    reply.int(group.pending_len() as i64);
    reply.bulk(b"pending");
    reply.array(group.pending_len().min(count));
    for (id, pending) in group.pending(StreamId::ZERO, StreamId::MAX).take(count) {
        reply.array(4);
        write_id(id, reply);
        reply.bulk(group.consumer(pending.consumer).name());
        reply.int(pending.delivered_ms);
        reply.int(pending.deliveries as i64);
    }
}

fn write_consumer(group: &Group, consumer: &Consumer, count: usize, reply: &mut Reply) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    for (name, fact) in [
        ("seen-time", consumer.seen_ms),
        ("active-time", consumer.active_ms),
        ("pel-count", consumer.pending_len() as i64),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(fact);
    }
    reply.bulk(b"pending");
    reply.array(consumer.pending_len().min(count));
    for id in consumer.pending(StreamId::ZERO, StreamId::MAX).take(count) {
        let pending = group.find_pending(id);
        reply.array(3);
        write_id(id, reply);
        reply.int(pending.map_or(0, |pending| pending.delivered_ms));
        reply.int(pending.map_or(0, |pending| pending.deliveries as i64));
    }
}
