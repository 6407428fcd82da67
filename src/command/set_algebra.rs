//! Commands on several sets: intersections, unions, differences, and the forms that store them.
//!
//! Guarantees: every operand is of the right type before anything is done; what is stored is recorded as the result.

use super::args::Args;
use super::error::Error;
use super::sets::{write_all, write_item};
use super::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key, keynum, keys};
use crate::keyspace::{Expiry, Tx};
use crate::object::set::{Set, difference, intersection, union};
use crate::object::{Limits, Native};
use crate::resp::Reply;
use crate::resp::number::parse_i64;
use smallvec::SmallVec;
use std::ops::ControlFlow::{Break, Continue};

const OPERANDS: &[KeySpec] = &[keys(1, 1, "RO ACCESS")];
const STORED: &[KeySpec] = &[key(1, "OW UPDATE"), keys(2, 1, "RO ACCESS")];
const UNORDERED: &[&str] = &["nondeterministic_output_order"];

pub static COMMANDS: &[Spec] = &[
    Spec::new("sinter", -2, READONLY, acl::SET, Handler::Data(sinter))
        .keys(OPERANDS)
        .group("set", "1.0.0")
        .doc(
            "key [key ...]",
            "O(N*M) for M sets, the smallest of N members",
            "Returns what is in every one of the sets.",
        )
        .tips(UNORDERED),
    Spec::new(
        "sintercard",
        -3,
        READONLY | MOVABLEKEYS,
        acl::SET,
        Handler::Data(sintercard),
    )
    .keys(&[keynum(1, 0, 1, "RO ACCESS")])
    .group("set", "7.0.0")
    .doc(
        "numkeys key [key ...] [LIMIT limit]",
        "O(N*M) for M sets, the smallest of N members",
        "Counts what is in every one of the sets, up to a limit.",
    ),
    Spec::new(
        "sinterstore",
        -3,
        WRITE | DENYOOM,
        acl::SET,
        Handler::Data(sinterstore),
    )
    .keys(&[key(1, "RW UPDATE"), keys(2, 1, "RO ACCESS")])
    .group("set", "1.0.0")
    .doc(
        "destination key [key ...]",
        "O(N*M) for M sets, the smallest of N members",
        "Stores what is in every one of the sets, and counts it.",
    ),
    Spec::new("sunion", -2, READONLY, acl::SET, Handler::Data(sunion))
        .keys(OPERANDS)
        .group("set", "1.0.0")
        .doc(
            "key [key ...]",
            "O(N) for N members in all",
            "Returns what is in any of the sets.",
        )
        .tips(UNORDERED),
    Spec::new(
        "sunionstore",
        -3,
        WRITE | DENYOOM,
        acl::SET,
        Handler::Data(sunionstore),
    )
    .keys(STORED)
    .group("set", "1.0.0")
    .doc(
        "destination key [key ...]",
        "O(N) for N members in all",
        "Stores what is in any of the sets, and counts it.",
    ),
    Spec::new("sdiff", -2, READONLY, acl::SET, Handler::Data(sdiff))
        .keys(OPERANDS)
        .group("set", "1.0.0")
        .doc(
            "key [key ...]",
            "O(N) for N members in all",
            "Returns what is in the first set and in none of the others.",
        )
        .tips(UNORDERED),
    Spec::new(
        "sdiffstore",
        -3,
        WRITE | DENYOOM,
        acl::SET,
        Handler::Data(sdiffstore),
    )
    .keys(STORED)
    .group("set", "1.0.0")
    .doc(
        "destination key [key ...]",
        "O(N) for N members in all",
        "Stores what is in the first set and in none of the others, and counts it.",
    ),
];

/// The operands, of which some may be absent.
type Sets<'t> = SmallVec<[Option<&'t Set>; 4]>;
/// The operands that are there.
type Present<'t> = SmallVec<[&'t Set; 4]>;

/// All operands, or nothing if one is absent: then so is the intersection.
fn every<'t>(sets: Sets<'t>) -> Option<Present<'t>> {
    sets.into_iter().collect()
}

/// The first operand and the others; nothing if the first is absent: then so is the difference.
fn first_and_others<'t>(sets: Sets<'t>) -> Option<(&'t Set, Present<'t>)> {
    let mut sets = sets.into_iter();
    let first = sets.next()??;
    Some((first, sets.flatten().collect()))
}

fn sinter(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let sets = tx.read_all::<Set>(args.rest(1))?;
    match every(sets).as_deref_mut() {
        None => reply.set(0),
        Some([only]) => write_all(only, reply),
        Some(sets) => {
            let (header, mut count) = (reply.defer_set(), 0);
            intersection(sets, |member| {
                write_item(member, reply);
                count += 1;
                Continue(())
            });
            reply.set_deferred(header, count);
        }
    }
    Ok(())
}

/// The keys of `SINTERCARD`, and the most that it counts.
fn parse_sintercard<'a>(args: &Args<'a>) -> Result<(&'a [&'a [u8]], usize), Error> {
    let number = parse_i64(&args[1]).and_then(|number| usize::try_from(number).ok());
    let number = number
        .filter(|number| *number > 0)
        .ok_or_else(|| Error::new("ERR numkeys should be greater than 0"))?;
    let keys = args
        .rest(2)
        .get(..number)
        .ok_or_else(|| Error::new("ERR Number of keys can't be greater than number of args"))?;
    let (mut words, mut limit) = (args.options(2 + number), 0);
    while !words.is_done() {
        if words.left() < 2 || !words.take("LIMIT") {
            return Err(Error::Syntax);
        }
        limit = parse_i64(words.value()?)
            .and_then(|limit| usize::try_from(limit).ok())
            .ok_or_else(|| Error::new("ERR LIMIT can't be negative"))?;
    }
    Ok((keys, if limit == 0 { usize::MAX } else { limit }))
}

fn sintercard(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (keys, limit) = parse_sintercard(args)?;
    let sets = tx.read_all::<Set>(keys)?;
    let count = match every(sets).as_deref_mut() {
        None => 0,
        Some([only]) => only.len().min(limit),
        Some(sets) => {
            let mut count = 0;
            intersection(sets, |_| {
                count += 1;
                if count == limit { Break(()) } else { Continue(()) }
            });
            count
        }
    };
    reply.int(count as i64);
    Ok(())
}

fn sunion(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let sets = tx.read_all::<Set>(args.rest(1))?;
    let mut sets: Present<'_> = sets.into_iter().flatten().collect();
    if let [only] = sets[..] {
        write_all(only, reply);
        return Ok(());
    }
    let (header, mut count) = (reply.defer_set(), 0);
    union(&mut sets, |member| {
        write_item(member, reply);
        count += 1;
    });
    reply.set_deferred(header, count);
    Ok(())
}

fn sdiff(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let sets = tx.read_all::<Set>(args.rest(1))?;
    match first_and_others(sets) {
        None => reply.set(0),
        Some((only, others)) if others.is_empty() => write_all(only, reply),
        Some((first, mut others)) => {
            let (header, mut count) = (reply.defer_set(), 0);
            difference(first, &mut others, |member| {
                write_item(member, reply);
                count += 1;
            });
            reply.set_deferred(header, count);
        }
    }
    Ok(())
}

fn sinterstore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    store(args, tx, reply, |sets, limits| match every(sets) {
        Some(mut sets) => Set::of_intersection(&mut sets, limits),
        None => Set::empty(),
    })
}

fn sunionstore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    store(args, tx, reply, |sets, limits| {
        let mut sets: Present<'_> = sets.into_iter().flatten().collect();
        Set::of_union(&mut sets, limits)
    })
}

fn sdiffstore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    store(args, tx, reply, |sets, limits| match first_and_others(sets) {
        Some((first, mut others)) => Set::of_difference(first, &mut others, limits),
        None => Set::empty(),
    })
}

/// Puts a result in place of whatever the destination holds; an empty one deletes it.
fn store(
    args: &Args<'_>,
    tx: &mut Tx<'_>,
    reply: &mut Reply,
    result: impl FnOnce(Sets<'_>, &Limits) -> Set,
) -> Outcome {
    let (destination, limits) = (&args[1], tx.limits());
    let result = result(tx.read_all(args.rest(2))?, &limits);
    let len = result.len();
    if len == 0 {
        tx.delete(destination);
    } else {
        tx.put_object(destination, result.into_object(), Expiry::Clear);
    }
    reply.int(len as i64);
    Ok(())
}
