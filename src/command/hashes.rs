//! Hashes: fields with their values. What expires among the fields is in `hash_expiry`.
//!
//! Guarantees: options are parsed whole before a key is touched; an expired field is never seen, because looking at a
//! key deletes what has expired in it; every change leaves effects that give the same result whenever they are run.

use super::args::Args;
use super::error::Error;
use super::scan::{self, ScanOptions, Scanned};
use super::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::{Absent, Change, Tx};
use crate::object::hash::{FieldExpiry, Pair};
use crate::object::listpack::Item;
use crate::object::{Hash, Limits, Native};
use crate::resp::long_double::LongDouble;
use crate::resp::number::parse_i64;
use crate::resp::{Protocol, Reply};

const READ: &[KeySpec] = &[key(1, "RO ACCESS")];
const LOOKED_AT: &[KeySpec] = &[key(1, "RO")];
const UPDATED: &[KeySpec] = &[key(1, "RW UPDATE")];
const COUNTED: &[KeySpec] = &[key(1, "RW ACCESS UPDATE")];

pub static COMMANDS: &[Spec] = &[
    row("hset", -4, WRITE | DENYOOM | FAST, hset).keys(UPDATED).doc(
        "key field value [field value ...]",
        "O(N) for N fields",
        "Sets fields of a hash, and counts those that are new.",
    ),
    row("hmset", -4, WRITE | DENYOOM | FAST, hmset).keys(UPDATED).doc(
        "key field value [field value ...]",
        "O(N) for N fields",
        "Sets fields of a hash; HSET does that too and replies how many are new.",
    ),
    row("hsetnx", 4, WRITE | DENYOOM | FAST, hsetnx)
        .keys(&[key(1, "RW INSERT")])
        .doc(
            "key field value",
            "O(1)",
            "Sets a field of a hash that is absent.",
        ),
    row("hget", 3, READONLY | FAST, hget).keys(READ).doc(
        "key field",
        "O(1)",
        "Returns the value of a field.",
    ),
    row("hmget", -3, READONLY | FAST, hmget).keys(READ).doc(
        "key field [field ...]",
        "O(N) for N fields",
        "Returns the values of several fields.",
    ),
    row("hgetall", 2, READONLY, hgetall)
        .keys(READ)
        .doc("key", "O(N) for N fields", "Returns every field with its value.")
        .tips(&["nondeterministic_output_order"]),
    row("hkeys", 2, READONLY, hkeys)
        .keys(READ)
        .doc("key", "O(N) for N fields", "Returns every field of a hash.")
        .tips(&["nondeterministic_output_order"]),
    row("hvals", 2, READONLY, hvals)
        .keys(READ)
        .doc("key", "O(N) for N fields", "Returns every value of a hash.")
        .tips(&["nondeterministic_output_order"]),
    row("hlen", 2, READONLY | FAST, hlen)
        .keys(LOOKED_AT)
        .doc("key", "O(1)", "Counts the fields of a hash."),
    row("hexists", 3, READONLY | FAST, hexists).keys(LOOKED_AT).doc(
        "key field",
        "O(1)",
        "Tells whether a hash has a field.",
    ),
    since("3.2.0", row("hstrlen", 3, READONLY | FAST, hstrlen))
        .keys(LOOKED_AT)
        .doc(
            "key field",
            "O(1)",
            "Returns how many bytes the value of a field has.",
        ),
    row("hdel", -3, WRITE | FAST, hdel)
        .keys(&[key(1, "RW DELETE")])
        .doc(
            "key field [field ...]",
            "O(N) for N fields",
            "Deletes fields, and counts those that were there. A hash without fields is no longer there.",
        ),
    row("hincrby", 4, WRITE | DENYOOM | FAST, hincrby)
        .keys(COUNTED)
        .doc(
            "key field increment",
            "O(1)",
            "Adds to the integer in a field; an absent field counts as 0.",
        ),
    since(
        "2.6.0",
        row("hincrbyfloat", 4, WRITE | DENYOOM | FAST, hincrbyfloat),
    )
    .keys(COUNTED)
    .doc(
        "key field increment",
        "O(1)",
        "Adds to the decimal number in a field; an absent field counts as 0.",
    ),
    since("6.2.0", row("hrandfield", -2, READONLY, hrandfield))
        .keys(READ)
        .doc(
            "key [count [WITHVALUES]]",
            "O(N) for N fields returned",
            "Returns fields by chance: distinct ones, or for a negative count any.",
        )
        .tips(&["nondeterministic_output"]),
    since("2.8.0", row("hscan", -3, READONLY, hscan))
        .keys(READ)
        .doc(
            "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
            "O(1) for a step, O(N) for all of N fields",
            "Returns some fields and the cursor to go on with; 0 begins and ends.",
        )
        .tips(&["nondeterministic_output"]),
];

type DataHandler = fn(&Args<'_>, &mut Tx<'_>, &mut Reply) -> Outcome;

const fn row(name: &'static str, arity: i32, flags: u32, handler: DataHandler) -> Spec {
    Spec::new(name, arity, flags, acl::HASH, Handler::Data(handler)).group("hash", "2.0.0")
}

const fn since(version: &'static str, spec: Spec) -> Spec {
    spec.group("hash", version)
}

fn bulk(item: Item<'_>, reply: &mut Reply) {
    item.with_bytes(|bytes| reply.bulk(bytes));
}

pub(super) fn bulk_or_null(item: Option<Item<'_>>, reply: &mut Reply) {
    match item {
        Some(item) => bulk(item, reply),
        None => reply.null(),
    }
}

/// Changes a hash that is made if it is absent.
pub(super) fn change<R>(
    tx: &mut Tx<'_>,
    key: &[u8],
    change: impl FnOnce(&mut Hash, &Limits, &mut Change<'_>) -> Result<R, Error>,
) -> Result<R, Error> {
    let limits = tx.limits();
    let changed = tx.change::<Hash, _>(key, Absent::Create, |hash, noted| change(hash, &limits, noted))?;
    // proof: None is for keys that are left absent.
    changed.expect("an absent hash is made")
}

/// Fields and values from the third argument on; how many are new.
fn set_pairs(args: &Args<'_>, tx: &mut Tx<'_>) -> Result<i64, Error> {
    if !args.len().is_multiple_of(2) {
        let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
        return Err(Error::Arity(name));
    }
    change(tx, &args[1], |hash, limits, noted| {
        let pairs = args.rest(2).chunks_exact(2);
        let set = pairs.filter(|pair| hash.set(pair[0], pair[1], FieldExpiry::Clear, limits));
        let new = set.count() as i64;
        noted.as_received();
        Ok(new)
    })
}

fn hset(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    reply.int(set_pairs(args, tx)?);
    Ok(())
}

fn hmset(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    set_pairs(args, tx)?;
    reply.ok();
    Ok(())
}

fn hsetnx(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let is_new = change(tx, &args[1], |hash, limits, noted| {
        let is_new = !hash.contains(&args[2]);
        if is_new {
            hash.set(&args[2], &args[3], FieldExpiry::Clear, limits);
            noted.as_received();
        }
        Ok(is_new)
    })?;
    reply.int(is_new.into());
    Ok(())
}

fn hget(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let hash = tx.read::<Hash>(&args[1])?;
    bulk_or_null(hash.and_then(|hash| hash.get(&args[2])), reply);
    Ok(())
}

fn hmget(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let hash = tx.read::<Hash>(&args[1])?;
    let fields = args.rest(2);
    reply.array(fields.len());
    for field in fields {
        bulk_or_null(hash.and_then(|hash| hash.get(field)), reply);
    }
    Ok(())
}

fn hgetall(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let Some(hash) = tx.read::<Hash>(&args[1])? else {
        reply.map(0);
        return Ok(());
    };
    reply.map(hash.len());
    hash.each(|pair| {
        bulk(pair.field, reply);
        bulk(pair.value, reply);
    });
    Ok(())
}

/// Replies one part of every field.
fn each<'t>(
    args: &Args<'_>,
    tx: &'t mut Tx<'_>,
    reply: &mut Reply,
    part: fn(Pair<'t>) -> Item<'t>,
) -> Outcome {
    let Some(hash) = tx.read::<Hash>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    reply.array(hash.len());
    hash.each(|pair| bulk(part(pair), reply));
    Ok(())
}

fn hkeys(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    each(args, tx, reply, |pair| pair.field)
}

fn hvals(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    each(args, tx, reply, |pair| pair.value)
}

fn hlen(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    reply.int(tx.read::<Hash>(&args[1])?.map_or(0, Hash::len) as i64);
    Ok(())
}

fn hexists(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let hash = tx.read::<Hash>(&args[1])?;
    reply.int(hash.is_some_and(|hash| hash.contains(&args[2])).into());
    Ok(())
}

fn hstrlen(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let hash = tx.read::<Hash>(&args[1])?;
    let value = hash.and_then(|hash| hash.get(&args[2]));
    reply.int(value.map_or(0, |value| value.len()) as i64);
    Ok(())
}

fn hdel(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let removed = tx.change::<Hash, _>(&args[1], Absent::Skip, |hash, noted| {
        let removed = args.rest(2).iter().filter(|field| hash.remove(field)).count();
        if removed > 0 {
            noted.as_received();
        }
        removed
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

/// Counting leaves the expiry of a field as it is.
fn hincrby(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (field, by) = (&args[2], args.int(3)?);
    let new = change(tx, &args[1], |hash, limits, noted| {
        let old = match hash.get(field) {
            None => 0,
            Some(Item::Int(old)) => old,
            Some(Item::Bytes(text)) => {
                parse_i64(text).ok_or_else(|| Error::new("ERR hash value is not an integer"))?
            }
        };
        let new = old.checked_add(by).ok_or(Error::Overflow)?;
        let mut digits = itoa::Buffer::new();
        hash.set(field, digits.format(new).as_bytes(), FieldExpiry::Keep, limits);
        noted.as_received();
        Ok(new)
    })?;
    reply.int(new);
    Ok(())
}

fn hincrbyfloat(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (key, field) = (&args[1], &args[2]);
    let by = LongDouble::parse(&args[3]).ok_or(Error::NotFloat)?;
    if by.is_infinite() {
        return Err(Error::new("ERR value is NaN or Infinity"));
    }
    let new = change(tx, key, |hash, limits, noted| {
        let old = match hash.get(field) {
            None => Some(LongDouble::from_i64(0)),
            Some(value) => value.with_bytes(LongDouble::parse),
        };
        let old = old.ok_or_else(|| Error::new("ERR hash value is not a float"))?;
        let sum = old.checked_add(by);
        let new = sum.ok_or_else(|| Error::new("ERR increment would produce NaN or Infinity"))?;
        let new = new.to_text();
        hash.set(field, &new, FieldExpiry::Keep, limits);
        // The sum and not the summand: what is replayed must not depend on how numbers are read and rounded.
        noted.command(&[b"HSET", key, field, &new]);
        if let Some(Some(at)) = hash.expiry(field) {
            let mut digits = itoa::Buffer::new();
            let at = digits.format(at).as_bytes();
            noted.command(&[b"HPEXPIREAT", key, at, b"FIELDS", b"1", field]);
        }
        Ok(new)
    })?;
    reply.bulk(&new);
    Ok(())
}

/// How many fields, distinct or not, and with their values or without.
struct Draw {
    count: usize,
    distinct: bool,
    with_values: bool,
}

impl Draw {
    fn parse(args: &Args<'_>) -> Result<Draw, Error> {
        let count = args.int(2)?;
        if count == i64::MIN {
            return Err(Error::new(
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ));
        }
        let with_values = args.len() == 4 && args.is(3, "WITHVALUES");
        if args.len() > 3 && !with_values {
            return Err(Error::Syntax);
        }
        if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
            return Err(Error::OutOfRange("value"));
        }
        Ok(Draw {
            count: count.unsigned_abs() as usize,
            distinct: count >= 0,
            with_values,
        })
    }

    /// The reply's head for so many fields.
    fn begin(&self, fields: usize, reply: &mut Reply) {
        let nested = self.with_values && reply.protocol() == Protocol::Resp2;
        reply.array(if nested { 2 * fields } else { fields });
    }

    fn write(&self, pair: Pair<'_>, reply: &mut Reply) {
        if self.with_values && reply.protocol() == Protocol::Resp3 {
            reply.array(2);
        }
        bulk(pair.field, reply);
        if self.with_values {
            bulk(pair.value, reply);
        }
    }
}

fn hrandfield(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let mut rng = fastrand::Rng::new();
    if args.len() == 2 {
        let hash = tx.read::<Hash>(&args[1])?;
        let drawn = hash.and_then(|hash| hash.random(&mut rng));
        bulk_or_null(drawn.map(|pair| pair.field), reply);
        return Ok(());
    }
    let draw = Draw::parse(args)?;
    let Some(hash) = tx.read::<Hash>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    if draw.distinct {
        let sample = hash.sample(draw.count, &mut rng);
        draw.begin(sample.len(), reply);
        sample.into_iter().for_each(|pair| draw.write(pair, reply));
    } else {
        draw.begin(draw.count, reply);
        hash.draw(draw.count, &mut rng, |pair| draw.write(pair, reply));
    }
    Ok(())
}

fn hscan(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let cursor = scan::cursor(&args[2])?;
    let Some(hash) = tx.read::<Hash>(&args[1])? else {
        scan::begin_reply(0, reply);
        reply.array(0);
        return Ok(());
    };
    let options = ScanOptions::parse(args.options(3), Scanned::Fields)?;
    let mut found: Vec<Pair<'_>> = Vec::new();
    let next = hash.scan(cursor, options.count, |pair| {
        if pair.field.with_bytes(|field| options.lets(field)) {
            found.push(pair);
        }
    });
    scan::begin_reply(next, reply);
    reply.array(found.len() * if options.no_values { 1 } else { 2 });
    for pair in found {
        bulk(pair.field, reply);
        if !options.no_values {
            bulk(pair.value, reply);
        }
    }
    Ok(())
}
