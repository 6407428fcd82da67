//! SYNC, PSYNC and REPLCONF, as far as tools go: `redis-cli --rdb` and `--functions-rdb` ask for one snapshot and end.
//! There are no replicas yet; who wants to be one is told so.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, flag::*};
use crate::keyspace::load::may_wait;
use crate::net::session::Session;
use crate::resp::Reply;

const REPLICA: u32 = ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI;

pub static COMMANDS: &[Spec] = &[
    Spec::new("sync", 1, REPLICA, 0, Handler::Admin(sync))
        .group("server", "1.0.0")
        .doc(
            "",
            "O(N) for N keys",
            "Sends a snapshot, after REPLCONF rdb-only 1.",
        ),
    Spec::new("psync", -3, REPLICA, 0, Handler::Admin(psync))
        .group("server", "2.8.0")
        .doc(
            "replicationid offset",
            "O(N) for N keys",
            "The same; the offset is not looked at.",
        ),
    Spec::new(
        "replconf",
        -1,
        ADMIN | NOSCRIPT | LOADING | STALE | ALLOW_BUSY,
        0,
        Handler::Session(replconf),
    )
    .group("server", "3.0.0")
    .doc("", "O(1)", "Says what the caller wants of SYNC."),
];

fn sync(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    send(context, false)
}

fn psync(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    send(context, true)
}

/// The snapshot is made into a file without a name, which the connection then sends at the client's pace.
fn send(context: &mut Context<'_>, says_offset: bool) -> Outcome {
    let wish = context.session.snapshot_wish;
    if !wish.alone {
        return Err(Error::new(
            "ERR there is no replication yet: a snapshot is sent after REPLCONF rdb-only 1, and nothing behind it",
        ));
    }
    let server = context.server;
    let taken = may_wait(|| server.snapshot_for_client(wish.without_keys));
    let file = taken.map_err(|error| Error::new(format!("ERR {error}")))?;
    if says_offset {
        let offset = server.keyspace.journal().map_or(0, |journal| journal.end());
        context
            .reply
            .simple(&format!("FULLRESYNC {} {offset}", server.run_id));
    }
    context.session.snapshot = Some(file);
    Ok(())
}

/// Pairs of an option and its value. What only matters to replicas is accepted.
fn replconf(args: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    for at in (1..args.len()).step_by(2) {
        match args[at].to_ascii_lowercase().as_slice() {
            b"rdb-only" => session.snapshot_wish.alone = args.int(at + 1)? == 1,
            b"rdb-filter-only" => session.snapshot_wish.without_keys = only_functions(&args[at + 1])?,
            b"listening-port" => drop(args.int(at + 1)?),
            b"ip-address" | b"capa" | b"version" => {}
            // These have no reply, from nobody.
            b"ack" | b"getack" => return Ok(()),
            _ => {
                let option = args[at].escape_ascii();
                return Err(Error::new(format!("ERR Unrecognized REPLCONF option: {option}")));
            }
        }
    }
    reply.ok();
    Ok(())
}

/// What a snapshot is to hold: everything if nothing is named.
fn only_functions(names: &[u8]) -> Result<bool, Error> {
    let mut names = names.split(|byte| *byte == b' ').filter(|name| !name.is_empty());
    let unknown = names
        .clone()
        .find(|name| !name.eq_ignore_ascii_case(b"functions"));
    match unknown {
        Some(name) => Err(Error::new(format!(
            "ERR Unsupported rdb-filter-only option: {}",
            name.escape_ascii()
        ))),
        None => Ok(names.next().is_some()),
    }
}
