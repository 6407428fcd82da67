//! Commands on whole databases, `WAIT` and `WAITAOF`.

use super::args::Args;
use super::blocked;
use super::context::Context;
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use crate::journal::Journal;
use crate::keyspace::load::may_wait;
use crate::keyspace::range::DBS;
use crate::net::session::SyncWait;
use crate::resp::number::parse_i64;

const EVERYWHERE: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

pub static COMMANDS: &[Spec] = &[
    Spec::new(
        "dbsize",
        1,
        READONLY | FAST,
        acl::KEYSPACE,
        Handler::Admin(dbsize),
    )
    .group("server", "1.0.0")
    .doc("", "O(1)", "Returns how many keys the database holds.")
    .tips(&["request_policy:all_shards", "response_policy:agg_sum"]),
    Spec::new(
        "flushdb",
        -1,
        WRITE,
        acl::KEYSPACE | acl::DANGEROUS,
        Handler::Admin(flushdb),
    )
    .group("server", "1.0.0")
    .doc(
        "[ASYNC | SYNC]",
        "O(N) for N resident keys of all databases",
        "Deletes every key of the database.",
    )
    .tips(EVERYWHERE),
    Spec::new(
        "flushall",
        -1,
        WRITE,
        acl::KEYSPACE | acl::DANGEROUS,
        Handler::Admin(flushall),
    )
    .group("server", "1.0.0")
    .doc(
        "[ASYNC | SYNC]",
        "O(N) for N resident keys",
        "Deletes every key of every database.",
    )
    .tips(EVERYWHERE),
    Spec::new(
        "swapdb",
        3,
        WRITE | FAST,
        acl::KEYSPACE | acl::DANGEROUS,
        Handler::Admin(swapdb),
    )
    .group("server", "4.0.0")
    .doc(
        "index1 index2",
        "O(1)",
        "Exchanges two databases, for every client at once.",
    ),
    Spec::new("wait", 3, NOSCRIPT, acl::CONNECTION, Handler::Admin(wait))
        .group("generic", "3.0.0")
        .doc(
            "numreplicas timeout",
            "O(1)",
            "Waits until so many replicas have this connection's writes, and returns how many have.",
        )
        .tips(&["request_policy:all_shards", "response_policy:agg_min"]),
    Spec::new("waitaof", 4, NOSCRIPT, acl::CONNECTION, Handler::Admin(waitaof))
        .group("generic", "7.2.0")
        .doc(
            "numlocal numreplicas timeout",
            "O(1)",
            "Waits until this connection's writes are durable in the journal, and returns in how many journals they are.",
        )
        .tips(&["request_policy:all_shards", "response_policy:agg_min"]),
];

/// The number of a database as `MOVE` and `COPY` read it.
pub(super) fn other_database(arg: &[u8], context: &Context<'_>) -> Result<u8, Error> {
    let index = parse_i64(arg).ok_or(Error::NotInteger)?;
    if i32::try_from(index).is_err() {
        return Err(Error::new(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    existing(index, context)
}

fn existing(index: i64, context: &Context<'_>) -> Result<u8, Error> {
    let databases = (context.server.config.load().databases as usize).min(DBS);
    match usize::try_from(index) {
        Ok(index) if index < databases => Ok(index as u8),
        _ => Err(Error::OutOfRange("DB index")),
    }
}

fn dbsize(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let keyspace = &context.server.keyspace;
    let keys = keyspace
        .ranges()
        .keys_in_db(keyspace.physical(context.session.db));
    context.reply.int(keys);
    Ok(())
}

fn flushdb(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    flush(args, context, Some(context.session.db))
}

fn flushall(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    flush(args, context, None)
}

/// `SYNC` and `ASYNC` are the same here: memory is always given back elsewhere.
fn flush(args: &Args<'_>, context: &mut Context<'_>, db: Option<u8>) -> Outcome {
    let mut words = args.options(1);
    if !words.is_done() && !words.take("ASYNC") && !words.take("SYNC") {
        return Err(Error::Syntax);
    }
    words.finish()?;
    let (_, end) = may_wait(|| context.server.keyspace.flush_db(db, context.effects));
    wait_for(end, context);
    context.reply.ok();
    Ok(())
}

fn swapdb(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let index = |at: usize, which: &str| {
        let index = args.int(at).ok().filter(|index| i32::try_from(*index).is_ok());
        index.ok_or_else(|| Error::new(format!("ERR invalid {which} DB index")))
    };
    let (first, second) = (index(1, "first")?, index(2, "second")?);
    let (first, second) = (existing(first, context)?, existing(second, context)?);
    if first == second {
        context.reply.ok();
        return Ok(());
    }
    let end = may_wait(|| {
        let keyspace = &context.server.keyspace;
        keyspace.swap_db(first, second, context.effects)
    });
    wait_for(end, context);
    context.reply.ok();
    Ok(())
}

/// Holds the reply back until the journal is on disk up to `end`, if some range promises that.
fn wait_for(end: u64, context: &mut Context<'_>) {
    if context.server.keyspace.ranges().any_gated() {
        context.gate = context.gate.max(end);
    }
}

/// Of something that is waited for; 0 is for ever.
fn timeout_ms(args: &Args<'_>, at: usize) -> Result<i64, Error> {
    let timeout_ms = args
        .int(at)
        .map_err(|_| Error::new("ERR timeout is not an integer or out of range"))?;
    match timeout_ms < 0 {
        true => Err(Error::new("ERR timeout is negative")),
        false => Ok(timeout_ms),
    }
}

/// There are no replicas, so none has anything: whoever wants some waits for as long as they say.
fn wait(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let wanted = args.int(1)?;
    let timeout_ms = timeout_ms(args, 2)?;
    if wanted > 0 {
        let deadline_ms = (timeout_ms > 0).then(|| context.now_ms.saturating_add(timeout_ms));
        return blocked::idle(args, context, deadline_ms, |reply| reply.int(0));
    }
    context.reply.int(0);
    Ok(())
}

/// Replicas are none; the journal here counts for one, as soon as it is durable beyond everything that is written now.
/// Where no range is durable there is nothing that could be.
fn waitaof(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let local = args.int(1)?;
    if !(0..=1).contains(&local) {
        return Err(Error::new(
            "ERR value is out of range, value must between 0 and 1",
        ));
    }
    let replicas = args.int(2)?;
    if replicas < 0 {
        return Err(Error::new("ERR value is out of range, must be positive"));
    }
    let timeout_ms = timeout_ms(args, 3)?;
    let keyspace = &context.server.keyspace;
    let is_durable = keyspace.ranges().iter().any(|range| range.is_durable());
    if local > 0 && !is_durable {
        return Err(Error::new(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    let journal = keyspace.journal().filter(|_| is_durable);
    let wait = SyncWait {
        // Where nothing is durable, no offset ever is.
        offset: journal.map_or(u64::MAX, Journal::end),
        timeout_ms,
        needs_replicas: replicas > 0,
    };
    let synced = journal.map_or(0, Journal::synced);
    wait.answer(context.reply, synced);
    if wait.needs_replicas || local > 0 && synced < wait.offset {
        context.session.sync_wait = Some(wait);
    }
    Ok(())
}
