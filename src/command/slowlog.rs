//! SLOWLOG: the newest commands that took long.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::help;
use super::spec::{Handler, Outcome, Spec, flag::*};
use crate::observe::slowlog::SlowEntry;
use crate::resp::Reply;

/// Entries that GET shows unless told how many.
const SHOWN: usize = 10;

pub static COMMANDS: &[Spec] = &[Spec::new("slowlog", -2, 0, 0, Handler::Container)
    .group("server", "2.2.12")
    .doc(
        "",
        "Depends on subcommand.",
        "Commands about the log of slow commands.",
    )
    .subcommands(&[
        Spec::new("get", -2, ADMIN | LOADING | STALE, 0, Handler::Admin(get))
            .group("server", "2.2.12")
            .doc(
                "[count]",
                "O(N) for N entries returned",
                "Returns the newest entries.",
            )
            .tips(&["request_policy:all_nodes", "nondeterministic_output"]),
        Spec::new("len", 2, ADMIN | LOADING | STALE, 0, Handler::Admin(len))
            .group("server", "2.2.12")
            .doc("", "O(1)", "Returns how many entries there are.")
            .tips(&[
                "request_policy:all_nodes",
                "response_policy:agg_sum",
                "nondeterministic_output",
            ]),
        Spec::new("reset", 2, ADMIN | LOADING | STALE, 0, Handler::Admin(reset))
            .group("server", "2.2.12")
            .doc("", "O(N) for N entries", "Empties the log.")
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
        Spec::new("help", 2, LOADING | STALE, 0, Handler::Admin(show_help))
            .group("server", "6.2.0")
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

fn get(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let most = match args.len() {
        2 => SHOWN,
        3 => match args.int(2) {
            Ok(-1) => usize::MAX,
            Ok(count) if count >= 0 => count as usize,
            _ => {
                return Err(Error::new("ERR count should be greater than or equal to -1"));
            }
        },
        _ => return Err(help::wrong_arguments(args)),
    };
    let log = context.server.slowlog.lock();
    context.reply.array(log.len().min(most));
    log.entries()
        .take(most)
        .for_each(|entry| write(entry, context.reply));
    Ok(())
}

fn write(entry: &SlowEntry, reply: &mut Reply) {
    reply.array(6);
    reply.int(entry.id as i64);
    reply.int(entry.unix_seconds);
    reply.int(entry.us as i64);
    reply.array(entry.args.len());
    entry.args.iter().for_each(|arg| reply.bulk(arg));
    reply.bulk(entry.addr.as_bytes());
    reply.bulk(entry.name.as_bytes());
}

fn len(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let len = context.server.slowlog.lock().len();
    context.reply.int(len as i64);
    Ok(())
}

fn reset(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.server.slowlog.lock().reset();
    context.reply.ok();
    Ok(())
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::reply(
        context.reply,
        "SLOWLOG",
        &[
            (
                "GET [<count>]",
                &[
                    "The newest entries, 10 unless told how many, all for -1. An entry is:",
                    "number, unix seconds, microseconds taken, arguments, client's address,",
                    "client's name.",
                ],
            ),
            ("LEN", &["How many entries there are."]),
            ("RESET", &["Empties the log."]),
        ],
    );
    Ok(())
}
