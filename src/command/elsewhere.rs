//! Commands of Redis about what this server does not do (yet): a cluster, following another server. They are here
//! so that users' rules can name them, and are answered as by a Redis that has none of it: clients and tools ask some of
//! them to find out.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};

const CHANGE: u32 = ADMIN | STALE | NO_ASYNC_LOADING;
const NONDETERMINISTIC: &[&str] = &["nondeterministic_output"];

pub static COMMANDS: &[Spec] = &[
    Spec::new("cluster", -2, 0, 0, Handler::Container)
        .group("cluster", "3.0.0")
        .doc("", "Depends on subcommand.", "Commands about a cluster.")
        .subcommands(&[
            none("help", 2, LOADING | STALE, "5.0.0"),
            none("addslots", -3, CHANGE, "3.0.0"),
            none("addslotsrange", -4, CHANGE, "7.0.0"),
            none("bumpepoch", 2, CHANGE, "3.0.0").tips(NONDETERMINISTIC),
            none("count-failure-reports", 3, ADMIN | STALE, "3.0.0").tips(NONDETERMINISTIC),
            none("countkeysinslot", 3, STALE, "3.0.0"),
            none("delslots", -3, CHANGE, "3.0.0"),
            none("delslotsrange", -4, CHANGE, "7.0.0"),
            none("failover", -2, CHANGE, "3.0.0"),
            none("flushslots", 2, CHANGE, "3.0.0"),
            none("forget", 3, CHANGE, "3.0.0"),
            none("getkeysinslot", 4, STALE, "3.0.0").tips(NONDETERMINISTIC),
            none("info", 2, STALE, "3.0.0").tips(NONDETERMINISTIC),
            none("keyslot", 3, STALE, "3.0.0"),
            none("links", 2, STALE, "7.0.0").tips(NONDETERMINISTIC),
            none("meet", -4, CHANGE, "3.0.0"),
            none("myid", 2, STALE, "3.0.0"),
            none("nodes", 2, STALE, "3.0.0").tips(NONDETERMINISTIC),
            none("replicas", 3, ADMIN | STALE, "5.0.0").tips(NONDETERMINISTIC),
            none("replicate", 3, CHANGE, "3.0.0"),
            none("reset", -2, ADMIN | NOSCRIPT | STALE, "3.0.0"),
            none("saveconfig", 2, CHANGE, "3.0.0"),
            none("set-config-epoch", 3, CHANGE, "3.0.0"),
            none("setslot", -4, CHANGE, "3.0.0"),
            none("shards", 2, STALE, "7.0.0").tips(NONDETERMINISTIC),
            none("slaves", 3, ADMIN | STALE, "3.0.0").tips(NONDETERMINISTIC),
            none("slots", 2, STALE, "3.0.0").tips(NONDETERMINISTIC),
        ]),
    of_connection("asking", FAST),
    of_connection("readonly", LOADING | STALE | FAST),
    of_connection("readwrite", LOADING | STALE | FAST),
    follows("replicaof", "5.0.0"),
    follows("slaveof", "1.0.0"),
    Spec::new(
        "failover",
        -1,
        ADMIN | NOSCRIPT | STALE,
        0,
        Handler::Admin(failover),
    )
    .group("server", "6.2.0")
    .doc(
        "[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]",
        "O(1)",
        "Fails: there are no replicas.",
    ),
];

/// What a client of a cluster says of its connection.
const fn of_connection(name: &'static str, flags: u32) -> Spec {
    Spec::new(name, 1, flags, acl::CONNECTION, Handler::Admin(no_cluster))
        .group("cluster", "3.0.0")
        .doc("", "O(1)", "Of a cluster.")
}

/// REPLICAOF, by both of its names.
const fn follows(name: &'static str, since: &'static str) -> Spec {
    Spec::new(name, 3, NOSCRIPT | CHANGE, 0, Handler::Admin(replicaof))
        .group("server", since)
        .doc("host port", "O(1)", "Only NO ONE: this server follows nobody.")
}

/// A subcommand of CLUSTER.
const fn none(name: &'static str, arity: i32, flags: u32, since: &'static str) -> Spec {
    Spec::new(name, arity, flags, 0, Handler::Admin(no_cluster))
        .group("cluster", since)
        .doc("", "O(1)", "Of a cluster.")
}

fn no_cluster(_: &Args<'_>, _: &mut Context<'_>) -> Outcome {
    Err(Error::new("ERR This instance has cluster support disabled"))
}

fn replicaof(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if !args.is(1, "no") || !args.is(2, "one") {
        return Err(Error::new("ERR this server cannot follow another one yet"));
    }
    context.reply.ok();
    Ok(())
}

fn failover(args: &Args<'_>, _: &mut Context<'_>) -> Outcome {
    Err(Error::new(if args.len() == 2 && args.is(1, "abort") {
        "ERR No failover in progress."
    } else {
        "ERR FAILOVER requires connected replicas."
    }))
}
