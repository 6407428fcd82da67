//! Consumer groups: XGROUP and its subcommands, and XACK.

use super::{no_group_of_key, parse_bound, parse_id};
use crate::command::args::{Args, Options};
use crate::command::error::Error;
use crate::command::help;
use crate::command::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::events::Event;
use crate::keyspace::{Absent, Change, Tx};
use crate::net::session::Session;
use crate::object::Stream;
use crate::object::stream::{ConsumerNumber, Group, GroupMut, IdText, StreamId};
use crate::resp::Reply;
use smallvec::SmallVec;

pub static COMMANDS: &[Spec] = &[
    Spec::new("xack", -4, WRITE | FAST, acl::STREAM, Handler::Data(xack))
        .keys(&[key(1, "RW UPDATE")])
        .group("stream", "5.0.0")
        .doc(
            "key group id [id ...]",
            "O(1) for each id",
            "Takes entries off those that a group's consumers have still to acknowledge.",
        ),
    Spec::new("xgroup", -2, 0, 0, Handler::Container)
        .group("stream", "5.0.0")
        .doc(
            "",
            "depends on the subcommand",
            "Commands that manage consumer groups.",
        )
        .subcommands(&[
            sub("create", -5, WRITE | DENYOOM, create, INSERTED)
                .group("stream", "5.0.0")
                .doc(
                    "key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]",
                    "O(1)",
                    "Makes a consumer group that has read up to an id.",
                ),
            sub("createconsumer", 5, WRITE | DENYOOM, create_consumer, INSERTED)
                .group("stream", "6.2.0")
                .doc("key group consumer", "O(1)", "Makes a consumer in a group."),
            sub("delconsumer", 5, WRITE, delete_consumer, DELETED)
                .group("stream", "5.0.0")
                .doc(
                    "key group consumer",
                    "O(N) for N entries that are pending for it",
                    "Removes a consumer and what is pending for it.",
                ),
            sub("destroy", 4, WRITE, destroy, DELETED)
                .group("stream", "5.0.0")
                .doc(
                    "key group",
                    "O(N) for N entries that are pending in it",
                    "Removes a consumer group.",
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
            sub("setid", -5, WRITE, set_id, &[key(2, "RW UPDATE")])
                .group("stream", "5.0.0")
                .doc(
                    "key group <id | $> [ENTRIESREAD entries-read]",
                    "O(1)",
                    "Sets up to which id a group has read.",
                ),
        ]),
];

const INSERTED: &[KeySpec] = &[key(2, "RW INSERT")];
const DELETED: &[KeySpec] = &[key(2, "RW DELETE")];

const fn sub(
    name: &'static str,
    arity: i32,
    flags: u32,
    handler: fn(&Args<'_>, &mut Tx<'_>, &mut Reply) -> Outcome,
    keys: &'static [KeySpec],
) -> Spec {
    Spec::new(name, arity, flags, acl::STREAM, Handler::Data(handler)).keys(keys)
}

fn show_help(_: &Args<'_>, _: &mut Session, reply: &mut Reply) -> Outcome {
    help::reply(
        reply,
        "XGROUP",
        &[
            (
                "CREATE <key> <groupname> <id|$> [option]",
                &[
                    "Makes a group that has read up to an id. Options:",
                    "* MKSTREAM",
                    "  Makes the stream, too, if there is none.",
                    "* ENTRIESREAD <entries-read>",
                    "  How many entries that were.",
                ],
            ),
            (
                "CREATECONSUMER <key> <groupname> <consumer>",
                &["Makes a consumer in a group."],
            ),
            (
                "DELCONSUMER <key> <groupname> <consumer>",
                &["Removes a consumer and what is pending for it."],
            ),
            ("DESTROY <key> <groupname>", &["Removes a group."]),
            (
                "SETID <key> <groupname> <id|$> [ENTRIESREAD <entries-read>]",
                &["Sets up to which id, and how many entries, a group has read."],
            ),
        ],
    );
    Ok(())
}

fn xack(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let acknowledged = tx.change::<Stream, _>(&args[1], Absent::Skip, |stream, change| {
        let Some(mut group) = stream.groups_mut().get_mut(&args[2]) else {
            return Ok(0);
        };
        let ids = args.rest(3).iter().map(|id| parse_id(id, 0));
        let ids: SmallVec<[StreamId; 8]> = ids.collect::<Result<_, _>>()?;
        let count = ids.into_iter().filter(|id| group.acknowledge(*id)).count();
        if count > 0 {
            change.as_received();
        }
        Ok::<usize, Error>(count)
    })?;
    reply.int(acknowledged.transpose()?.unwrap_or(0) as i64);
    Ok(())
}

/// The options of CREATE and SETID, from argument 5 on.
struct GroupOptions {
    make_stream: bool,
    entries_read: Option<u64>,
}

impl GroupOptions {
    fn parse(args: &Args<'_>, for_create: bool) -> Result<GroupOptions, Error> {
        let mut options = GroupOptions {
            make_stream: false,
            entries_read: None,
        };
        let mut words = args.options(5);
        while !words.is_done() {
            if for_create && words.take("MKSTREAM") {
                options.make_stream = true;
            } else if words.left() > 1 && words.take("ENTRIESREAD") {
                options.entries_read = entries_read(&mut words)?;
            } else {
                return Err(help::wrong_arguments(args));
            }
        }
        Ok(options)
    }
}

/// A number of entries; -1 stands for not known.
fn entries_read(words: &mut Options<'_>) -> Result<Option<u64>, Error> {
    match words.int()? {
        -1 => Ok(None),
        read => u64::try_from(read)
            .map(Some)
            .map_err(|_| Error::new("ERR value for ENTRIESREAD must be positive or -1")),
    }
}

fn no_stream() -> Error {
    Error::new(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
    )
}

fn create(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let options = GroupOptions::parse(args, true)?;
    let absent = if options.make_stream {
        Absent::Create
    } else {
        Absent::Skip
    };
    let created = tx.change::<Stream, _>(&args[2], absent, |stream, change| {
        // As many words as all options together can have, each once.
        if args.len() > 8 {
            return Err(help::wrong_arguments(args));
        }
        let id = match &args[4] {
            b"$" => stream.log().last_id,
            id => parse_id(id, 0)?,
        };
        if !stream.groups_mut().create(&args[3], id, options.entries_read) {
            return Err(Error::new("BUSYGROUP Consumer Group name already exists"));
        }
        change.as_received();
        Ok(())
    })?;
    created.ok_or_else(no_stream)??;
    reply.ok();
    Ok(())
}

/// Changes a group of a stream; both must be there.
fn change_group<R>(
    args: &Args<'_>,
    tx: &mut Tx<'_>,
    change_it: impl FnOnce(GroupMut<'_>, StreamId, &mut Change<'_>) -> Result<R, Error>,
) -> Result<R, Error> {
    let done = tx.change::<Stream, _>(&args[2], Absent::Skip, |stream, change| {
        let last_id = stream.log().last_id;
        let group = stream.groups_mut().get_mut(&args[3]);
        let group = group.ok_or_else(|| no_group_of_key(&args[2], &args[3]))?;
        change_it(group, last_id, change)
    })?;
    done.ok_or_else(no_stream)?
}

fn set_id(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let options = GroupOptions::parse(args, false)?;
    change_group(args, tx, |mut group, last_id, change| {
        if args.len() > 7 {
            return Err(help::wrong_arguments(args));
        }
        group.last_id = match &args[4] {
            b"$" => last_id,
            id => parse_bound(id, 0)?,
        };
        group.entries_read = options.entries_read;
        change.as_received();
        Ok(())
    })?;
    reply.ok();
    Ok(())
}

fn destroy(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let destroyed = tx.change::<Stream, _>(&args[2], Absent::Skip, |stream, change| {
        let destroyed = stream.groups_mut().remove(&args[3]);
        if destroyed {
            change.as_received();
        }
        destroyed
    })?;
    reply.int(destroyed.ok_or_else(no_stream)?.into());
    Ok(())
}

fn create_consumer(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let now_ms = tx.now_ms();
    let is_new = change_group(args, tx, |mut group, _, change| {
        let (_, is_new) = group.create_consumer(&args[4], now_ms);
        if is_new {
            change.as_received();
        }
        Ok(is_new)
    })?;
    reply.int(is_new.into());
    Ok(())
}

fn delete_consumer(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let pending = change_group(args, tx, |mut group, _, change| {
        let pending = group.remove_consumer(&args[4]);
        if pending.is_some() {
            change.as_received();
        }
        Ok(pending)
    })?;
    reply.int(pending.unwrap_or(0) as i64);
    Ok(())
}

/// The consumer of that name; one that is new is made, whether there is something for it or not.
pub(super) fn consumer_of(
    [key, name, consumer]: [&[u8]; 3],
    group: &mut GroupMut<'_>,
    now_ms: i64,
    change: &mut Change<'_>,
) -> ConsumerNumber {
    let (number, is_new) = group.create_consumer(consumer, now_ms);
    if is_new {
        change.command(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer]);
        change.also(Event::XGroupCreateConsumer);
    }
    group.note(number, now_ms, false);
    number
}

/// Effect: `XGROUP SETID` to how far a group has read.
pub(super) fn record_group(change: &mut Change<'_>, (key, name): (&[u8], &[u8]), group: &Group) {
    if !change.is_recorded() {
        return change.command(&[]);
    }
    let mut text: IdText = [0; size_of::<IdText>()];
    let id = group.last_id.format(&mut text);
    let mut digits = itoa::Buffer::new();
    let read = match group.entries_read {
        Some(read) => digits.format(read),
        None => "-1",
    };
    change.command(&[
        b"XGROUP",
        b"SETID",
        key,
        name,
        id,
        b"ENTRIESREAD",
        read.as_bytes(),
    ]);
}
