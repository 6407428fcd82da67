//! Commands on one set, and SMOVE, which is on two: membership, members by chance, scanning.
//!
//! Guarantees: options are parsed before a key is touched; what chance decided is recorded as what came of it.

use super::args::Args;
use super::error::Error;
use super::scan::{self, ScanOptions, Scanned};
use super::spec::{Handler, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::events::Event;
use crate::keyspace::{Absent, Change, Tx, WrongType};
use crate::object::listpack::Item;
use crate::object::{Native, Set};
use crate::resp::Reply;
use crate::resp::number::parse_i64;
use fastrand::Rng;

pub static COMMANDS: &[Spec] = &[
    Spec::new("sadd", -3, WRITE | DENYOOM | FAST, acl::SET, Handler::Data(sadd))
        .keys(&[key(1, "RW INSERT")])
        .group("set", "1.0.0")
        .doc(
            "key member [member ...]",
            "O(N) for N members",
            "Adds members to a set, and counts those that are new.",
        ),
    Spec::new("srem", -3, WRITE | FAST, acl::SET, Handler::Data(srem))
        .keys(&[key(1, "RW DELETE")])
        .group("set", "1.0.0")
        .doc(
            "key member [member ...]",
            "O(N) for N members",
            "Removes members from a set, and counts those that were there.",
        ),
    Spec::new("smove", 4, WRITE | FAST, acl::SET, Handler::Data(smove))
        .keys(&[key(1, "RW ACCESS DELETE"), key(2, "RW INSERT")])
        .group("set", "1.0.0")
        .doc(
            "source destination member",
            "O(1)",
            "Takes a member from one set to another.",
        ),
    Spec::new(
        "sismember",
        3,
        READONLY | FAST,
        acl::SET,
        Handler::Data(sismember),
    )
    .keys(&[key(1, "RO")])
    .group("set", "1.0.0")
    .doc("key member", "O(1)", "Tells whether a member is in a set."),
    Spec::new(
        "smismember",
        -3,
        READONLY | FAST,
        acl::SET,
        Handler::Data(smismember),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("set", "6.2.0")
    .doc(
        "key member [member ...]",
        "O(N) for N members",
        "Tells of each member whether it is in a set.",
    ),
    Spec::new("scard", 2, READONLY | FAST, acl::SET, Handler::Data(scard))
        .keys(&[key(1, "RO")])
        .group("set", "1.0.0")
        .doc("key", "O(1)", "Counts the members of a set."),
    Spec::new("smembers", 2, READONLY, acl::SET, Handler::Data(smembers))
        .keys(&[key(1, "RO ACCESS")])
        .group("set", "1.0.0")
        .doc("key", "O(N) for N members", "Returns every member of a set.")
        .tips(&["nondeterministic_output_order"]),
    Spec::new("spop", -2, WRITE | FAST, acl::SET, Handler::Data(spop))
        .keys(&[key(1, "RW ACCESS DELETE")])
        .group("set", "1.0.0")
        .doc(
            "key [count]",
            "O(N) for N members returned",
            "Removes members by chance, and returns them.",
        )
        .tips(&["nondeterministic_output"]),
    Spec::new("srandmember", -2, READONLY, acl::SET, Handler::Data(srandmember))
        .keys(&[key(1, "RO ACCESS")])
        .group("set", "1.0.0")
        .doc(
            "key [count]",
            "O(N) for N members returned",
            "Returns members by chance: different ones, or with a negative count independent draws.",
        )
        .tips(&["nondeterministic_output"]),
    Spec::new("sscan", -3, READONLY, acl::SET, Handler::Data(sscan))
        .keys(&[key(1, "RO ACCESS")])
        .group("set", "2.8.0")
        .doc(
            "key cursor [MATCH pattern] [COUNT count]",
            "O(1) for a step, O(N) for all of N members",
            "Returns some members of a set and the cursor to go on with; 0 begins and ends.",
        )
        .tips(&["nondeterministic_output"]),
];

/// Writes a member.
#[inline]
pub(super) fn write_item(member: Item<'_>, reply: &mut Reply) {
    match member {
        Item::Int(number) => reply.bulk_int(number),
        Item::Bytes(text) => reply.bulk(text),
    }
}

fn sadd(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let added = add(&args[1], args.rest(2), tx, |change| change.as_received())?;
    reply.int(added as i64);
    Ok(())
}

/// Adds members to the set under a key, which is made if it is absent; returns how many are new. `note` records it.
fn add(
    key: &[u8],
    members: &[&[u8]],
    tx: &mut Tx<'_>,
    note: impl FnOnce(&mut Change<'_>),
) -> Result<usize, WrongType> {
    let limits = tx.limits();
    let added = tx.change(key, Absent::Create, |set: &mut Set, change| {
        // A set that only changes its encoding is not the same in bytes.
        let converted = set.expect(members.first().copied().unwrap_or(b""), members.len(), &limits);
        let added = members.iter().filter(|member| set.add(member, &limits)).count();
        if added > 0 || converted {
            note(change);
        }
        added
    })?;
    Ok(added.unwrap_or(0))
}

fn srem(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let removed = tx.change(&args[1], Absent::Skip, |set: &mut Set, change| {
        let removed = args.rest(2).iter().filter(|member| set.remove(member)).count();
        if removed > 0 {
            change.as_received();
        }
        removed
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

fn smove(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (source, destination, member) = (&args[1], &args[2], &args[3]);
    let Some(is_member) = tx.peek_as::<Set>(source)?.map(|set| set.contains(member)) else {
        reply.int(0);
        return Ok(());
    };
    tx.peek_as::<Set>(destination)?;
    if is_member && source != destination {
        tx.event(Event::SRem);
        tx.change(source, Absent::Skip, |set: &mut Set, change| {
            set.remove(member);
            change.command(&[b"SREM", source, member]);
        })?;
        tx.event(Event::SAdd);
        add(destination, &[member], tx, |change| {
            change.command(&[b"SADD", destination, member]);
        })?;
    }
    reply.int(is_member.into());
    Ok(())
}

fn sismember(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let set = tx.read::<Set>(&args[1])?;
    reply.int(set.is_some_and(|set| set.contains(&args[2])).into());
    Ok(())
}

fn smismember(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let set = tx.read::<Set>(&args[1])?;
    let members = args.rest(2);
    reply.array(members.len());
    for member in members {
        reply.int(set.is_some_and(|set| set.contains(member)).into());
    }
    Ok(())
}

fn scard(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let set = tx.read::<Set>(&args[1])?;
    reply.int(set.map_or(0, Set::len) as i64);
    Ok(())
}

fn smembers(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    match tx.read::<Set>(&args[1])? {
        Some(set) => write_all(set, reply),
        None => reply.set(0),
    }
    Ok(())
}

/// Writes every member, as a set.
pub(super) fn write_all(set: &Set, reply: &mut Reply) {
    reply.set(set.len());
    set.iter().for_each(|member| write_item(member, reply));
}

fn spop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    match args.len() {
        2 => {}
        3 => return spop_many(args, tx, reply),
        _ => return Err(Error::Syntax),
    }
    let key = &args[1];
    let popped = tx.change(key, Absent::Skip, |set: &mut Set, change| {
        let member = set.pop(&mut Rng::new())?;
        change.command(&[b"SREM", key, &member]);
        Some(member)
    })?;
    match popped.flatten() {
        Some(member) => reply.bulk(&member),
        None => reply.null(),
    }
    Ok(())
}

fn spop_many(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let count = parse_i64(&args[2])
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| Error::new("ERR value is out of range, must be positive"))?;
    let key = &args[1];
    match tx.peek_as::<Set>(key)? {
        None => reply.set(0),
        Some(_) if count == 0 => reply.set(0),
        Some(set) if count >= set.len() => {
            write_all(set, reply);
            tx.delete(key);
        }
        Some(_) => {
            let limits = tx.limits();
            let popped = tx.change(key, Absent::Skip, |set: &mut Set, change| {
                let popped = set.pop_many(count, &mut Rng::new(), &limits);
                note_removed(key, &popped, change);
                popped
            })?;
            let popped = popped.unwrap_or_default();
            reply.set(popped.len());
            popped.iter().for_each(|member| reply.bulk(member));
        }
    }
    Ok(())
}

/// Members in one effect; what pops more leaves several.
const REMOVED_AT_ONCE: usize = 1024;

fn note_removed(key: &[u8], members: &[Vec<u8>], change: &mut Change<'_>) {
    if !change.is_recorded() {
        return change.command(&[]);
    }
    for members in members.chunks(REMOVED_AT_ONCE) {
        let mut words: Vec<&[u8]> = vec![b"SREM", key];
        words.extend(members.iter().map(Vec::as_slice));
        change.command(&words);
    }
}

/// The most draws that may come more than once: nothing else bounds such a reply.
const DRAWS_MOST: u64 = 1 << 27;

fn srandmember(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    match args.len() {
        2 => {}
        3 => return srandmember_many(args, tx, reply),
        _ => return Err(Error::Syntax),
    }
    let set = tx.read::<Set>(&args[1])?;
    match set.and_then(|set| set.random(&mut Rng::new())) {
        Some(member) => write_item(member, reply),
        None => reply.null(),
    }
    Ok(())
}

fn srandmember_many(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let out_of_range = || {
        let most = i64::MAX;
        Error::new(format!(
            "ERR value is out of range, value must between -{most} and {most}"
        ))
    };
    let count = args.int(2)?;
    if count == i64::MIN {
        return Err(out_of_range());
    }
    let Some(set) = tx.read::<Set>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    let rng = &mut Rng::new();
    // proof: usize has 64 bits wherever this is built for, and draws are checked to be few.
    let number = count.unsigned_abs() as usize;
    if count >= 0 {
        let number = number.min(set.len());
        reply.array(number);
        set.sample(number, rng, |member| write_item(member, reply));
    } else if count.unsigned_abs() > DRAWS_MOST {
        return Err(out_of_range());
    } else {
        reply.array(number);
        set.draw(number, rng, |member| write_item(member, reply));
    }
    Ok(())
}

fn sscan(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let cursor = scan::cursor(&args[2])?;
    // Redis looks at the key before it looks at the options, and it shows.
    let Some(set) = tx.read::<Set>(&args[1])? else {
        scan::begin_reply(0, reply);
        reply.array(0);
        return Ok(());
    };
    let options = ScanOptions::parse(args.options(3), Scanned::Members)?;
    let mut found: Vec<Item<'_>> = Vec::new();
    let next = set.scan(cursor, options.count, |member| {
        if member.with_bytes(|text| options.lets(text)) {
            found.push(member);
        }
    });
    scan::begin_reply(next, reply);
    reply.array(found.len());
    found.into_iter().for_each(|member| write_item(member, reply));
    Ok(())
}
