//! Commands about the connection itself: who is there, which protocol it speaks, which database it is in.

use super::args::Args;
use super::context::Context;
use super::error::{Error, quoted};
use super::permission;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use crate::acl::log::Place;
use crate::acl::users::DEFAULT;
use crate::net::session::Session;
use crate::resp::{Protocol, Reply};
use crate::server::REDIS_VERSION;
use std::sync::atomic::Ordering::Relaxed;

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
    Spec::new("auth", -2, GREETING, acl::CONNECTION, Handler::Admin(auth))
        .group("connection", "1.0.0")
        .doc(
            "[username] password",
            "O(N) for N passwords of the user",
            "Says who the client is, and proves it.",
        ),
    Spec::new("hello", -1, GREETING, acl::CONNECTION, Handler::Admin(hello))
        .group("connection", "6.0.0")
        .doc(
            "[protover [AUTH username password] [SETNAME clientname]]",
            "O(1)",
            "Greets the server, and chooses the protocol of the replies.",
        ),
    Spec::new("reset", 1, GREETING, acl::CONNECTION, Handler::Admin(reset))
        .group("connection", "6.2.0")
        .doc(
            "",
            "O(1)",
            "Brings the connection back to how it was at its start.",
        ),
];

const GREETING: u32 = NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY;

fn ping(args: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    match args.len() {
        1 | 2 if session.only_listens() => {
            reply.array(2);
            reply.bulk(b"pong");
            reply.bulk(args.rest(1).first().copied().unwrap_or_default());
        }
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
    let index = i32::try_from(args.int(1)?).map_err(|_| {
        Error::new("ERR value is out of range, value must between -2147483648 and 2147483647")
    })?;
    if index < 0 || index as u32 >= databases {
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

const WRONG_PASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// Makes the client the user that it says it is. `word` is the command as the client wrote it.
fn authenticate(word: &[u8], user: &[u8], password: &[u8], context: &mut Context<'_>) -> Outcome {
    match context.server.acl.users.authenticate(user, password) {
        Some(proved) => {
            context.session.become_user(proved);
            Ok(())
        }
        None => {
            let place = match context.effects.is_grouped() {
                true => Place::Multi,
                false => Place::TopLevel,
            };
            permission::note_failed_login(user, (word, place), context.server, context.session);
            Err(Error::new(WRONG_PASS))
        }
    }
}

fn auth(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    match args.rest(1) {
        [_] if context.server.acl.users.default_user().needs_no_password() => {
            return Err(Error::new(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        [password] => authenticate(&args[0], DEFAULT, password, context)?,
        [user, password] => authenticate(&args[0], user, password, context)?,
        _ => return Err(Error::Syntax),
    }
    context.reply.ok();
    Ok(())
}

/// The arguments of HELLO.
#[derive(Default)]
struct Greeting<'a> {
    protocol: Option<i64>,
    auth: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> Greeting<'a> {
    fn parse(args: &Args<'a>) -> Result<Greeting<'a>, Error> {
        let mut greeting = Greeting::default();
        if args.len() > 1 {
            let version = args
                .int(1)
                .map_err(|_| Error::new("ERR Protocol version is not an integer or out of range"))?;
            if !(2..=3).contains(&version) {
                return Err(Error::new("NOPROTO unsupported protocol version"));
            }
            greeting.protocol = Some(version);
        }
        let mut words = args.options(2);
        while !words.is_done() {
            let left = words.left();
            if left > 2 && words.take("AUTH") {
                greeting.auth = Some((words.value()?, words.value()?));
            } else if left > 1 && words.take("SETNAME") {
                let name = words.value()?;
                super::client::check_name(name)?;
                greeting.name = Some(name);
            } else {
                let word = String::from_utf8_lossy(quoted(words.value()?, usize::MAX));
                return Err(Error::new(format!("ERR Syntax error in HELLO option '{word}'")));
            }
        }
        Ok(greeting)
    }
}

fn hello(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let greeting = Greeting::parse(args)?;
    if let Some((user, password)) = greeting.auth {
        authenticate(&args[0], user, password, context)?;
    }
    if !context.session.authenticated {
        return Err(Error::new(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    let client = &context.session.client;
    if let Some(name) = greeting.name {
        client.names.lock().name = super::client::text(name);
    }
    if let Some(version) = greeting.protocol {
        speak(version as u8, context);
    }
    let reply = &mut *context.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(i64::from(context.session.client.protocol.load(Relaxed)));
    reply.bulk(b"id");
    reply.int(context.session.client.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

/// From now on replies are in this version of the protocol, 2 or 3.
fn speak(version: u8, context: &mut Context<'_>) {
    context.session.client.protocol.store(version, Relaxed);
    context.reply.set_protocol(if version == 3 {
        Protocol::Resp3
    } else {
        Protocol::Resp2
    });
}

fn reset(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.server.monitors.remove(context.session.client.id);
    if let Some(own) = context.session.subscriptions.take() {
        context.server.pubsub.leave(&context.server.keyspace, own);
    }
    super::transactions::end_watching(context.server, context.session);
    super::client_tracking::end_tracking(context.server, context.session);
    // Nothing more is sent to it; what was sent before comes before the reply, in the protocol that it was sent for.
    context.session.client.move_inbox_to(context.reply);
    context.session.note_subscriptions();
    context.session.replied_pushes = false;
    context.session.reset(&context.server.acl.users);
    speak(2, context);
    context.reply.simple("RESET");
    Ok(())
}
