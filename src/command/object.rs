//! `OBJECT`: how a value is kept.

use super::args::Args;
use super::error::Error;
use super::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::entry::{EDITED, Entry, FLOAT, ORIGIN};
use crate::keyspace::{Tx, clock};
use crate::net::session::Session;
use crate::resp::Reply;
use crate::resp::number::parse_i64;

const KEY: &[KeySpec] = &[key(2, "RO")];

pub static COMMANDS: &[Spec] = &[Spec::new("object", -2, 0, 0, Handler::Container)
    .group("generic", "2.2.3")
    .doc("", "O(1)", "Commands that tell how a value is kept.")
    .subcommands(&[
        about("encoding", "2.2.3", encoding).doc("key", "O(1)", "Names the form in which a value is kept."),
        about("freq", "4.0.0", freq).doc(
            "key",
            "O(1)",
            "Returns how often a key is used, on a logarithmic scale.",
        ),
        Spec::new("help", 2, LOADING | STALE, acl::KEYSPACE, Handler::Session(help))
            .group("generic", "6.2.0")
            .doc("", "O(1)", "Lists the subcommands."),
        about("idletime", "2.2.3", idletime).doc(
            "key",
            "O(1)",
            "Returns for how many seconds a key has not been used.",
        ),
        about("refcount", "2.2.3", refcount).doc(
            "key",
            "O(1)",
            "Returns how many references to a value Redis would count.",
        ),
    ])];

const fn about(
    name: &'static str,
    since: &'static str,
    handler: fn(&Args<'_>, &mut Tx<'_>, &mut Reply) -> Outcome,
) -> Spec {
    Spec::new(name, 3, READONLY, acl::KEYSPACE, Handler::Data(handler))
        .keys(KEY)
        .group("generic", since)
        .tips(&["nondeterministic_output"])
}

/// Redis shares one object for each of the integers below this.
const SHARED_INTEGERS: i64 = 10_000;
const SHARED_REFCOUNT: i64 = i32::MAX as i64;
/// The longest string that Redis keeps in one piece with its header.
const EMBEDDED_MOST: usize = 44;

/// The encoding that Redis would report for a value.
pub(super) fn encoding_name(entry: &Entry) -> &'static str {
    if let Some(object) = entry.object() {
        object.encoding()
    } else if entry.has(EDITED) {
        "raw"
    } else if parse_i64(entry.value()).is_some() && !entry.has(FLOAT) {
        "int"
    } else if entry.value().len() <= EMBEDDED_MOST {
        "embstr"
    } else {
        "raw"
    }
}

/// The references that Redis would count.
pub(super) fn refcount_of(entry: &Entry) -> i64 {
    match parse_i64(entry.value()) {
        Some(number)
            if entry.object().is_none() && !entry.has(ORIGIN) && (0..SHARED_INTEGERS).contains(&number) =>
        {
            SHARED_REFCOUNT
        }
        _ => 1,
    }
}

fn encoding(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    match tx.glance(&args[2]).map(encoding_name) {
        Some(name) => reply.bulk(name.as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

fn refcount(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    number(tx.glance(&args[2]).map(refcount_of), reply);
    Ok(())
}

fn number(number: Option<i64>, reply: &mut Reply) {
    match number {
        Some(number) => reply.int(number),
        None => reply.null(),
    }
}

fn idletime(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let clock = tx.glance(&args[2]).map(Entry::clock);
    if clock.is_some() && counts_frequency(&args[2], tx) {
        return Err(Error::new(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let tick = tx.keyspace().tick(tx.now_ms());
    number(
        clock.map(|clock| i64::from(clock::idle_seconds(clock, tick))),
        reply,
    );
    Ok(())
}

fn freq(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let clock = tx.glance(&args[2]).map(Entry::clock);
    if clock.is_some() && !counts_frequency(&args[2], tx) {
        return Err(Error::new(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let tick = tx.keyspace().tick(tx.now_ms());
    number(clock.map(|clock| i64::from(clock::frequency(clock, tick))), reply);
    Ok(())
}

/// True when the range of the key evicts by frequency.
fn counts_frequency(key: &[u8], tx: &Tx<'_>) -> bool {
    tx.keyspace().range_of(key).policy.eviction.is_lfu()
}

fn help(_: &Args<'_>, _: &mut Session, reply: &mut Reply) -> Outcome {
    let lines = [
        "ENCODING <key>",
        "    The form in which the value is kept, by the name that Redis has for it.",
        "FREQ <key>",
        "    How often the key is used, on a logarithmic scale; under an LFU policy.",
        "IDLETIME <key>",
        "    Seconds since the key was last used; not under an LFU policy.",
        "REFCOUNT <key>",
        "    References to the value that Redis would count.",
    ];
    help_reply("OBJECT", &lines, reply);
    Ok(())
}

/// The reply of a container's `HELP`.
pub(super) fn help_reply(container: &str, lines: &[&str], reply: &mut Reply) {
    reply.array(lines.len() + 3);
    reply.simple(&format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    lines
        .iter()
        .chain(&["HELP", "    This list."])
        .for_each(|line| reply.simple(line));
}
