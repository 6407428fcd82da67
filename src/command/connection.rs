//! Commands about the connection itself.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use crate::net::session::Session;
use crate::resp::Reply;

pub static COMMANDS: &[Spec] = &[
    Spec::new("ping", -1, FAST, acl::CONNECTION, Handler::Session(ping))
        .group("connection", "1.0.0")
        .doc("[message]", "O(1)", "Answers, to show that the server is there.")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    Spec::new(
        "echo",
        2,
        LOADING | STALE | FAST,
        acl::CONNECTION,
        Handler::Session(echo),
    )
    .group("connection", "1.0.0")
    .doc("message", "O(1)", "Returns its argument."),
    Spec::new(
        "select",
        2,
        LOADING | STALE | FAST,
        acl::CONNECTION,
        Handler::Admin(select),
    )
    .group("connection", "1.0.0")
    .doc("index", "O(1)", "Goes on in another numbered database."),
    Spec::new(
        "quit",
        -1,
        NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
        acl::CONNECTION,
        Handler::Session(quit),
    )
    .group("connection", "1.0.0")
    .doc("", "O(1)", "Ends the connection."),
];

fn ping(args: &Args<'_>, _: &mut Session, reply: &mut Reply) -> Outcome {
    match args.len() {
        1 => reply.simple("PONG"),
        2 => reply.bulk(&args[1]),
        _ => return Err(Error::Arity("ping".into())),
    }
    Ok(())
}

fn echo(args: &Args<'_>, _: &mut Session, reply: &mut Reply) -> Outcome {
    reply.bulk(&args[1]);
    Ok(())
}

fn select(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let databases = context
        .server
        .config
        .load()
        .databases
        .min(crate::keyspace::range::DBS as u32);
    let index = args.int(1).map_err(|_| Error::new("ERR invalid DB index"))?;
    if index < 0 || index >= i64::from(databases) {
        return Err(Error::OutOfRange("DB index"));
    }
    context.session.select(index as u8);
    context.reply.ok();
    Ok(())
}

fn quit(_: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    session.closing = true;
    reply.ok();
    Ok(())
}
