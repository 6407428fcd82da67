//! The operator's commands: persistence, the end, time, and who is there.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::info_sections::last_save_seconds;
use super::lolwut;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use crate::keyspace::load::may_wait;
use std::time::{SystemTime, UNIX_EPOCH};

const OPERATOR: u32 = ADMIN | NOSCRIPT | NO_ASYNC_LOADING;
const FACT: u32 = LOADING | STALE | FAST;

pub static COMMANDS: &[Spec] = &[
    Spec::new("save", 1, OPERATOR | NO_MULTI, 0, Handler::Admin(save))
        .group("server", "1.0.0")
        .doc(
            "",
            "O(N) for N keys",
            "Writes what has changed into the store, and all keys into an RDB file; waits for both.",
        ),
    Spec::new("bgsave", -1, OPERATOR, 0, Handler::Admin(bgsave))
        .group("server", "1.0.0")
        .doc(
            "[SCHEDULE]",
            "O(1)",
            "Writes what has changed into the store, and all keys into an RDB file, in the background.",
        ),
    Spec::new("bgrewriteaof", 1, OPERATOR, 0, Handler::Admin(bgrewriteaof))
        .group("server", "1.0.0")
        .doc(
            "",
            "O(1)",
            "Shortens the journal by writing what has changed into the store, in the background.",
        ),
    Spec::new(
        "lastsave",
        1,
        FACT,
        acl::ADMIN | acl::DANGEROUS,
        Handler::Admin(lastsave),
    )
    .group("server", "1.0.0")
    .doc(
        "",
        "O(1)",
        "Returns when the store was last brought up to date, in unix seconds.",
    )
    .tips(&["nondeterministic_output"]),
    Spec::new(
        "shutdown",
        -1,
        ADMIN | NOSCRIPT | LOADING | STALE | NO_MULTI | ALLOW_BUSY,
        0,
        Handler::Admin(shutdown),
    )
    .group("server", "1.0.0")
    .doc(
        "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        "O(N) for N keys changed since the last flush",
        "Ends the server.",
    ),
    Spec::new("time", 1, FACT, 0, Handler::Admin(time))
        .group("server", "2.6.0")
        .doc(
            "",
            "O(1)",
            "Returns the server's time: unix seconds, and microseconds.",
        )
        .tips(&["nondeterministic_output"]),
    Spec::new(
        "role",
        1,
        NOSCRIPT | FACT,
        acl::ADMIN | acl::DANGEROUS,
        Handler::Admin(role),
    )
    .group("server", "2.8.12")
    .doc("", "O(1)", "Returns the server's part in replication."),
    Spec::new("lolwut", -1, READONLY | FAST, 0, Handler::Admin(lolwut::lolwut))
        .group("server", "5.0.0")
        .doc(
            "[VERSION version]",
            "O(1)",
            "Shows a small picture, and the version.",
        ),
];

const SAVING: &str = "ERR Background save already in progress";

/// The journal has every change already; this brings the store up to its end, too, and writes a file for other servers.
fn save(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    match may_wait(|| context.server.save()) {
        None => return Err(Error::new(SAVING)),
        Some(saved) => saved?,
    };
    context.reply.ok();
    Ok(())
}

fn bgsave(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if args.len() > 2 || args.len() == 2 && !args.is(1, "SCHEDULE") {
        return Err(Error::Syntax);
    }
    let Some(announced) = context.server.keyspace.announce_snapshot() else {
        return Err(Error::new(SAVING));
    };
    let server = context.server.clone();
    std::thread::Builder::new()
        .name("save".into())
        .spawn(move || {
            let _announced = announced;
            // What becomes of it is in the log and in INFO; another one that was a little earlier does as well.
            drop(server.save());
        })
        .map_err(|error| Error::new(format!("ERR {error}")))?;
    context.reply.simple("Background saving started");
    Ok(())
}

fn bgrewriteaof(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.server.keyspace.flush.request();
    context
        .reply
        .simple("Background append only file rewriting started");
    Ok(())
}

fn lastsave(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.reply.int(last_save_seconds(context.server));
    Ok(())
}

/// The end is the same whatever the options: connections are drained, the journal is synced, dirty entries are flushed.
/// Nothing that was acknowledged is ever given up, so NOSAVE has nothing to leave out and FORCE nothing to ignore.
fn shutdown(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let (mut save, mut nosave, mut abort, mut others) = (false, false, false, false);
    for at in 1..args.len() {
        match () {
            _ if args.is(at, "SAVE") => save = true,
            _ if args.is(at, "NOSAVE") => nosave = true,
            _ if args.is(at, "NOW") || args.is(at, "FORCE") => others = true,
            _ if args.is(at, "ABORT") => abort = true,
            _ => return Err(Error::Syntax),
        }
    }
    if save && nosave || abort && (save || nosave || others) {
        return Err(Error::Syntax);
    }
    if abort {
        return Err(Error::new("ERR No shutdown in progress."));
    }
    log::info!("SHUTDOWN received from {}", context.session.client.addr);
    context.server.stop();
    // The reply is the end of the connection.
    context.session.closing = true;
    Ok(())
}

fn time(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    // A clock before 1970 shows as 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    context.reply.array(2);
    context.reply.bulk_int(now.as_secs() as i64);
    context.reply.bulk_int(i64::from(now.subsec_micros()));
    Ok(())
}

fn role(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let offset = context
        .server
        .keyspace
        .journal()
        .map_or(0, |journal| journal.end());
    context.reply.array(3);
    context.reply.bulk(b"master");
    context.reply.int(offset as i64);
    context.reply.array(0);
    Ok(())
}
