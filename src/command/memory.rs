//! MEMORY: what memory is used for.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::help;
use super::info::human;
use super::info_sections::{MemoryFigures, percent, ratio};
use super::spec::{Handler, Outcome, Spec, flag::*, key};
use crate::keyspace::Tx;
use crate::keyspace::load::may_wait;
use crate::keyspace::range::DBS;
use crate::observe::{memory, process};
use crate::resp::Reply;
use crate::server::Server;
use std::fmt::Write;

/// A pointer and a tag in its shard's table, at the usual load.
const TABLE_SLOT: usize = 12;

/// Below this a server is too small for ratios to mean anything.
const DOCTOR_LEAST: u64 = 64 << 20;

pub static COMMANDS: &[Spec] = &[Spec::new("memory", -2, 0, 0, Handler::Container)
    .group("server", "4.0.0")
    .doc("", "Depends on subcommand.", "Commands about memory.")
    .subcommands(&[
        Spec::new("usage", -3, READONLY, 0, Handler::Data(usage))
            .keys(&[key(2, "RO")])
            .group("server", "4.0.0")
            .doc(
                "key [SAMPLES count]",
                "O(1)",
                "Returns how many bytes a key and its value take.",
            ),
        Spec::new("stats", 2, 0, 0, Handler::Admin(stats))
            .group("server", "4.0.0")
            .doc("", "O(1)", "Returns figures about the server's memory.")
            .tips(&[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ]),
        Spec::new("doctor", 2, 0, 0, Handler::Admin(doctor))
            .group("server", "4.0.0")
            .doc(
                "",
                "O(1)",
                "Says in words what is wrong with the server's memory.",
            )
            .tips(&[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ]),
        Spec::new("malloc-stats", 2, 0, 0, Handler::Admin(malloc_stats))
            .group("server", "4.0.0")
            .doc(
                "",
                "Depends on how much is allocated",
                "Returns the allocator's own report.",
            )
            .tips(&[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ]),
        Spec::new("purge", 2, 0, 0, Handler::Admin(purge))
            .group("server", "4.0.0")
            .doc("", "O(1)", "Asks the allocator to give unused pages back.")
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
        Spec::new("help", 2, LOADING | STALE, 0, Handler::Admin(show_help))
            .group("server", "4.0.0")
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

/// Every value is one allocation, so there is nothing to take samples of.
fn usage(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let mut options = args.options(3);
    while !options.is_done() {
        if options.left() < 2 || !options.take("SAMPLES") {
            return Err(Error::Syntax);
        }
        if options.int()? < 0 {
            return Err(Error::Syntax);
        }
    }
    let subscribers = tx.subscriber_bytes(&args[2]);
    match tx.peek(&args[2]) {
        Some(entry) => reply.int((entry.size() + TABLE_SLOT + subscribers) as i64),
        None if subscribers > 0 => reply.int(subscribers as i64),
        None => reply.null(),
    }
    Ok(())
}

fn stats(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let server = context.server;
    let figures = MemoryFigures::take(server);
    let map = server.keyspace.ranges();
    let keys: i64 = map.iter().map(|range| range.counters.total_keys()).sum();
    let since_start = figures.used.saturating_sub(figures.startup);
    let reply = &mut *context.reply;
    let pairs = reply.defer_map();
    let mut count = 0;
    let mut int = |reply: &mut Reply, name: &str, value: u64| {
        reply.bulk(name.as_bytes());
        reply.int(value as i64);
        count += 1;
    };
    int(reply, "peak.allocated", figures.peak);
    int(reply, "total.allocated", figures.used);
    int(reply, "startup.allocated", figures.startup);
    for name in ["replication.backlog", "clients.slaves"] {
        int(reply, name, 0);
    }
    int(reply, "clients.normal", server.clients.memory() as u64);
    for name in ["cluster.links", "aof.buffer"] {
        int(reply, name, 0);
    }
    int(reply, "lua.caches", server.scripts.bytes());
    int(reply, "functions.caches", server.libraries.shelf().bytes() as u64);
    let databases = (0..DBS as u8).filter(|db| map.keys_in_db(server.keyspace.physical(*db)) > 0);
    let databases: Vec<u8> = databases.collect();
    let tables = server.keyspace.memory_bytes().saturating_sub(figures.dataset);
    for db in &databases {
        reply.bulk(format!("db.{db}").as_bytes());
        reply.map(2);
        reply.bulk(b"overhead.hashtable.main");
        // All databases share the shards' tables.
        reply.int((tables / databases.len() as u64) as i64);
        reply.bulk(b"overhead.hashtable.expires");
        reply.int(0);
    }
    int(reply, "overhead.total", figures.overhead);
    int(reply, "keys.count", keys.max(0) as u64);
    int(
        reply,
        "keys.bytes-per-key",
        since_start.checked_div(keys.max(0) as u64).unwrap_or(0),
    );
    int(reply, "dataset.bytes", figures.dataset);
    let ints = count + databases.len();
    let rest = write_ratios(&figures, reply);
    reply.set_deferred(pairs, ints + rest);
    Ok(())
}

/// The rest of MEMORY STATS; returns how many pairs that is.
fn write_ratios(figures: &MemoryFigures, reply: &mut Reply) -> usize {
    let MemoryFigures {
        used,
        active,
        resident,
        resident_by_allocator,
        ..
    } = *figures;
    let doubles = |reply: &mut Reply, name: &str, value: f64| {
        reply.bulk(name.as_bytes());
        reply.double(value);
    };
    doubles(reply, "dataset.percentage", figures.dataset_percent());
    doubles(reply, "peak.percentage", percent(used, figures.peak));
    for (name, bytes) in [
        ("allocator.allocated", used),
        ("allocator.active", active),
        ("allocator.resident", resident_by_allocator),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(bytes as i64);
    }
    let pairs = [
        (
            "allocator-fragmentation.ratio",
            "allocator-fragmentation.bytes",
            active,
            used,
        ),
        (
            "allocator-rss.ratio",
            "allocator-rss.bytes",
            resident_by_allocator,
            active,
        ),
        (
            "rss-overhead.ratio",
            "rss-overhead.bytes",
            resident,
            resident_by_allocator,
        ),
        ("fragmentation", "fragmentation.bytes", resident, used),
    ];
    for (ratio_name, bytes_name, a, b) in pairs {
        doubles(reply, ratio_name, ratio(a, b));
        reply.bulk(bytes_name.as_bytes());
        reply.int(a as i64 - b as i64);
    }
    2 + 3 + 2 * pairs.len()
}

fn doctor(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let text = diagnosis(context.server);
    context.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn diagnosis(server: &Server) -> String {
    let figures = MemoryFigures::take(server);
    if figures.used < DOCTOR_LEAST {
        return format!(
            "{} in use: too little to say anything about it. Come back with more data.\n",
            human(figures.used)
        );
    }
    let mut text = String::new();
    let mut note = |line: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "* {line}");
    };
    let most = server.config.load().maxmemory;
    if figures.peak > figures.used / 2 * 3 {
        note(format_args!(
            "At its peak the server used {}, now {}. Memory given back then may be in pieces: a high fragmentation is no \
             fault here.",
            human(figures.peak),
            human(figures.used)
        ));
    }
    let fragmentation = ratio(figures.resident, figures.used);
    if fragmentation > 1.4 {
        note(format_args!(
            "The process takes {fragmentation:.2} times of what it uses. The allocator keeps pages that values have left; \
             if it stays so, a restart puts them together."
        ));
    }
    let swapped = process::swapped();
    if swapped > 0 {
        note(format_args!(
            "{} of the server are swapped out. The machine has too little memory, or maxmemory is too high.",
            human(swapped)
        ));
    }
    if most > 0 && server.keyspace.memory_bytes() > most / 10 * 9 {
        note(format_args!(
            "Over nine tenths of maxmemory ({}) are in use: keys of memory ranges are evicted, those of durable ranges \
             are read from the disk.",
            human(most)
        ));
    }
    if text.is_empty() {
        text.push_str("Nothing is wrong with the memory of this server.\n");
    }
    text
}

fn malloc_stats(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context
        .reply
        .verbatim("txt", memory::allocator_report().as_bytes());
    Ok(())
}

/// The allocator's background thread gives unused pages back by itself, some seconds later: this is for those who cannot
/// wait.
fn purge(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if !may_wait(memory::purge) {
        return Err(Error::new("ERR Error purging dirty pages"));
    }
    context.reply.ok();
    Ok(())
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::reply(
        context.reply,
        "MEMORY",
        &[
            ("DOCTOR", &["What is wrong with the server's memory, in words."]),
            ("MALLOC-STATS", &["The allocator's own report."]),
            ("PURGE", &["Asks the allocator to give unused pages back."]),
            ("STATS", &["Figures about the server's memory."]),
            (
                "USAGE <key> [SAMPLES <count>]",
                &["How many bytes the key and its value take."],
            ),
        ],
    );
    Ok(())
}
