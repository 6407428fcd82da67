//! Commands on keys whatever their type.

use super::args::Args;
use super::context::Context;
use super::databases::other_database;
use super::error::Error;
use super::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key, keys};
use crate::keyspace::entry::{COPIED, ORIGIN, Value};
use crate::keyspace::load::may_wait_if;
use crate::keyspace::quota::{QuotaError, ROUNDS_MAX};
use crate::keyspace::tx::LARGE;
use crate::keyspace::{Call, Elements, Entry, Expiry, Tx};
use crate::resp::Reply;

const EVERY_KEY: &[KeySpec] = &[keys(1, 1, "RO")];
const SUMMED: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];

pub static COMMANDS: &[Spec] = &[
    Spec::new("del", -2, WRITE, acl::KEYSPACE, Handler::Data(del))
        .keys(&[keys(1, 1, "RM DELETE")])
        .group("generic", "1.0.0")
        .doc("key [key ...]", "O(N) for N keys", "Deletes keys.")
        .tips(SUMMED),
    Spec::new("unlink", -2, WRITE | FAST, acl::KEYSPACE, Handler::Data(del))
        .keys(&[keys(1, 1, "RM DELETE")])
        .group("generic", "4.0.0")
        .doc(
            "key [key ...]",
            "O(N) for N keys",
            "Deletes keys; the same as DEL, which never waits for memory to be given back either.",
        )
        .tips(SUMMED),
    Spec::new(
        "exists",
        -2,
        READONLY | FAST,
        acl::KEYSPACE,
        Handler::Data(exists),
    )
    .keys(EVERY_KEY)
    .group("generic", "1.0.0")
    .doc(
        "key [key ...]",
        "O(N) for N keys",
        "Counts which of the keys exist; one named twice counts twice.",
    )
    .tips(SUMMED),
    Spec::new("touch", -2, READONLY | FAST, acl::KEYSPACE, Handler::Data(touch))
        .keys(EVERY_KEY)
        .group("generic", "3.2.1")
        .doc(
            "key [key ...]",
            "O(N) for N keys",
            "Counts which of the keys exist, and takes note that they were used.",
        )
        .tips(SUMMED),
    Spec::new("type", 2, READONLY | FAST, acl::KEYSPACE, Handler::Data(type_of))
        .keys(&[key(1, "RO")])
        .group("generic", "1.0.0")
        .doc("key", "O(1)", "Returns the type of the value under a key."),
    Spec::new("rename", 3, WRITE, acl::KEYSPACE, Handler::Data(rename))
        .keys(&[key(1, "RW ACCESS DELETE"), key(2, "OW UPDATE")])
        .group("generic", "1.0.0")
        .doc(
            "key newkey",
            "O(1)",
            "Gives a value another key, in place of what was there.",
        ),
    Spec::new(
        "renamenx",
        3,
        WRITE | FAST,
        acl::KEYSPACE,
        Handler::Data(renamenx),
    )
    .keys(&[key(1, "RW ACCESS DELETE"), key(2, "OW INSERT")])
    .group("generic", "1.0.0")
    .doc(
        "key newkey",
        "O(1)",
        "Gives a value another key, unless that key exists.",
    ),
    Spec::new("copy", -3, WRITE | DENYOOM, acl::KEYSPACE, Handler::Admin(copy))
        .keys(&[key(1, "RO ACCESS"), key(2, "OW UPDATE")])
        .group("generic", "6.2.0")
        .doc(
            "source destination [DB destination-db] [REPLACE]",
            "O(1) for strings",
            "Copies a value and its expiry to another key or database.",
        ),
    Spec::new("move", 3, WRITE | FAST, acl::KEYSPACE, Handler::Admin(move_key))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("generic", "1.0.0")
        .doc("key db", "O(1)", "Takes a key to another database."),
];

/// Source and destination are one and the same.
fn same_object() -> Error {
    Error::new("ERR source and destination objects are the same")
}

fn del(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let deleted = args.rest(1).iter().filter(|key| tx.delete(key)).count();
    reply.int(deleted as i64);
    Ok(())
}

fn exists(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let there = args.rest(1).iter().filter(|key| tx.glance(key).is_some());
    reply.int(there.count() as i64);
    Ok(())
}

fn touch(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let there = args.rest(1).iter().filter(|key| tx.lookup(key).is_some());
    reply.int(there.count() as i64);
    Ok(())
}

fn type_of(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    reply.simple(tx.glance(&args[1]).map_or("none", Entry::type_name));
    Ok(())
}

/// A value on its way from one key to another.
struct Parcel {
    value: Value,
    expiry: Option<i64>,
    /// How the string came about.
    origin: u8,
}

impl Parcel {
    /// Takes the value of a key away. Effect: `DEL`.
    fn take(tx: &mut Tx<'_>, key: &[u8]) -> Option<Parcel> {
        let (value, expiry, origin) = tx.take(key)?;
        Some(Parcel {
            value,
            expiry,
            origin,
        })
    }

    fn copy(tx: &mut Tx<'_>, key: &[u8]) -> Option<Parcel> {
        tx.peek(key).map(|entry| Parcel {
            value: entry.clone_value(),
            expiry: entry.expiry(),
            origin: entry.flags(ORIGIN) | COPIED,
        })
    }

    /// Effect: `SET` or `RESTORE`.
    fn put(self, tx: &mut Tx<'_>, key: &[u8]) {
        tx.put_value(key, self.value, self.expiry.map_or(Expiry::Clear, Expiry::At));
        tx.mark_origin(key, self.origin);
    }
}

fn rename(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    if !tx.exists(from) {
        return Err(Error::NoSuchKey);
    }
    if from != to
        && let Some(parcel) = Parcel::take(tx, from)
    {
        parcel.put(tx, to);
    }
    reply.ok();
    Ok(())
}

fn renamenx(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    if !tx.exists(from) {
        return Err(Error::NoSuchKey);
    }
    let free = from != to && !tx.exists(to);
    if free && let Some(parcel) = Parcel::take(tx, from) {
        parcel.put(tx, to);
    }
    reply.int(i64::from(free));
    Ok(())
}

struct CopyOptions {
    db: u8,
    replace: bool,
}

fn copy_options(args: &Args<'_>, context: &Context<'_>) -> Result<CopyOptions, Error> {
    let mut options = CopyOptions {
        db: context.session.db,
        replace: false,
    };
    let mut words = args.options(3);
    while !words.is_done() {
        if words.take("REPLACE") {
            options.replace = true;
        } else if words.left() >= 2 && words.take("DB") {
            options.db = other_database(words.value()?, context)?;
        } else {
            return Err(Error::Syntax);
        }
    }
    Ok(options)
}

/// Runs `act` on keys of the session's database and of another; what it changes is committed.
fn in_two<R>(
    args: &Args<'_>,
    context: &mut Context<'_>,
    (keys, other): (&[&[u8]], u8),
    act: impl FnOnce(&mut Tx<'_>) -> R,
) -> Result<R, Error> {
    let call = Call {
        db: context.session.db,
        now_ms: context.now_ms,
        keys,
        received: args.all(),
        elements: Elements::All,
        replay: None,
    };
    let keyspace = &context.server.keyspace;
    let mut tx = keyspace.begin_two(call, Some(other), context.effects)?;
    let is_long = tx.holds_much(LARGE);
    let result = may_wait_if(is_long, || act(&mut tx));
    context.gate = context.gate.max(tx.commit());
    Ok(result)
}

/// False when there is nothing to copy, or something in the way that is not to be replaced.
fn copy_between(
    tx: &mut Tx<'_>,
    (from, from_db): (&[u8], u8),
    (to, to_db): (&[u8], u8),
    replace: bool,
) -> Result<bool, QuotaError> {
    let Some(size) = tx.lookup(from).map(Entry::value_size) else {
        return Ok(false);
    };
    tx.select(to_db);
    if !replace && tx.exists(to) {
        return Ok(false);
    }
    tx.check_copy(to, size)?;
    tx.select(from_db);
    let parcel = Parcel::copy(tx, from);
    tx.select(to_db);
    Ok(parcel.map(|parcel| parcel.put(tx, to)).is_some())
}

fn copy(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let options = copy_options(args, context)?;
    let (from, to) = (args.all()[1], args.all()[2]);
    let db = context.session.db;
    if from == to && options.db == db {
        return Err(same_object());
    }
    let mut rounds = 0;
    let copied = loop {
        let copied = in_two(args, context, (&[from, to], options.db), |tx| {
            copy_between(tx, (from, db), (to, options.db), options.replace)
        })?;
        match copied {
            Err(refused) if rounds < ROUNDS_MAX => {
                rounds += 1;
                if !context.server.keyspace.make_key_room(&refused, context.now_ms) {
                    return Err(refused.into());
                }
            }
            copied => break copied?,
        }
    };
    context.reply.int(i64::from(copied));
    Ok(())
}

fn move_key(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let other = other_database(&args[2], context)?;
    let (key, db) = (args.all()[1], context.session.db);
    if other == db {
        return Err(same_object());
    }
    let moved = in_two(args, context, (&[key], other), |tx| {
        if !tx.exists(key) {
            return false;
        }
        tx.select(other);
        if tx.exists(key) {
            return false;
        }
        tx.select(db);
        let parcel = Parcel::take(tx, key);
        tx.select(other);
        parcel.map(|parcel| parcel.put(tx, key)).is_some()
    })?;
    context.reply.int(i64::from(moved));
    Ok(())
}
