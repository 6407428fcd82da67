//! CLIENT: who the clients are, what they are called, and how they are served.

use super::args::Args;
use super::client_filter::{KillFilter, by_type};
use super::client_tracking::{CACHING, GETREDIR, TRACKING, TRACKINGINFO, redirected_to};
use super::context::Context;
use super::error::Error;
use super::help;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use super::table;
use crate::net::clients::{Client, client_flag};
use crate::net::session::{ReplyMode, Session};
use crate::resp::Reply;
use crate::resp::number::parse_i64;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const ANY_TIME: u32 = NOSCRIPT | LOADING | STALE;

pub static COMMANDS: &[Spec] = &[Spec::new("client", -2, 0, 0, Handler::Container)
    .group("connection", "2.4.0")
    .doc(
        "",
        "Depends on subcommand.",
        "Commands about the connections of clients.",
    )
    .subcommands(&[
        row("id", 2, 0, Handler::Session(id))
            .group("connection", "5.0.0")
            .doc("", "O(1)", "Returns the number of the caller's connection."),
        row("info", 2, 0, Handler::Admin(info))
            .group("connection", "6.2.0")
            .doc("", "O(1)", "Returns the caller's line of CLIENT LIST.")
            .tips(&["nondeterministic_output"]),
        row("list", -2, ADMIN, Handler::Admin(list))
            .group("connection", "2.4.0")
            .doc(
                "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
                "O(N) for N connections",
                "Returns a line for each connection.",
            )
            .tips(&["nondeterministic_output"]),
        row("kill", -3, ADMIN, Handler::Admin(kill))
            .group("connection", "2.4.0")
            .doc(
                "<ip:port | <[ID client-id] | [TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | [USER username] | \
                 [ADDR ip:port] | [LADDR ip:port] | [SKIPME <YES | NO>] | [MAXAGE maxage]>>",
                "O(N) for N connections",
                "Ends connections.",
            ),
        row("setname", 3, 0, Handler::Session(set_name))
            .group("connection", "2.6.9")
            .doc("connection-name", "O(1)", "Gives the connection a name."),
        row("getname", 2, 0, Handler::Session(get_name))
            .group("connection", "2.6.9")
            .doc("", "O(1)", "Returns the name of the connection."),
        row("setinfo", 4, 0, Handler::Session(set_info))
            .group("connection", "7.2.0")
            .doc(
                "<LIB-NAME libname | LIB-VER libver>",
                "O(1)",
                "Says which library the client uses.",
            )
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
        row("no-evict", 3, ADMIN, Handler::Session(no_evict))
            .group("connection", "7.0.0")
            .doc("<ON | OFF>", "O(1)", "Keeps the connection when others are closed to save memory."),
        row("no-touch", 3, 0, Handler::Session(no_touch))
            .group("connection", "7.2.0")
            .doc("<ON | OFF>", "O(1)", "Chooses whether the caller's reads count as use of the keys."),
        row("pause", -3, ADMIN, Handler::Admin(pause))
            .group("connection", "3.0.0")
            .doc("timeout [WRITE | ALL]", "O(1)", "Lets commands wait for a while."),
        row("unpause", 2, ADMIN, Handler::Admin(unpause))
            .group("connection", "6.2.0")
            .doc("", "O(N) for N waiting connections", "Ends a pause."),
        row("reply", 3, 0, Handler::Session(reply_mode))
            .group("connection", "3.2.0")
            .doc("<ON | OFF | SKIP>", "O(1)", "Chooses whether the caller gets replies."),
        TRACKING,
        CACHING,
        GETREDIR,
        TRACKINGINFO,
        row("unblock", -3, ADMIN, Handler::Admin(unblock))
            .group("connection", "5.0.0")
            .doc(
                "client-id [TIMEOUT | ERROR]",
                "O(log N) for N connections",
                "Ends the waiting of a client in a blocking command.",
            ),
        Spec::new("help", 2, LOADING | STALE, acl::CONNECTION, Handler::Admin(show_help))
            .group("connection", "5.0.0")
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

/// A row of a subcommand.
pub(super) const fn row(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, ANY_TIME | flags, acl::CONNECTION, handler)
}

/// A name is made of visible ASCII, so that it cannot break a line of CLIENT LIST.
pub fn check_name(name: &[u8]) -> Outcome {
    if name.iter().all(u8::is_ascii_graphic) {
        return Ok(());
    }
    Err(Error::new(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

/// What has been checked to be visible ASCII, as text.
pub fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn id(_: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    reply.int(session.client.id as i64);
    Ok(())
}

fn info(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let line = line(&context.session.client, context, "client|info");
    context.reply.verbatim("txt", line.as_bytes());
    Ok(())
}

fn list(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let clients = match args.rest(2) {
        [] => context.server.clients.all(),
        [option, kind] if option.eq_ignore_ascii_case(b"TYPE") => {
            let filter = by_type(kind)?;
            let mut clients = context.server.clients.all();
            clients.retain(|client| filter.accepts(client, context.now_ms));
            clients
        }
        [option, ids @ ..] if option.eq_ignore_ascii_case(b"ID") && !ids.is_empty() => {
            let mut clients = Vec::new();
            for id in ids {
                let id = parse_i64(id).ok_or_else(|| Error::new("ERR Invalid client ID"))?;
                clients.extend(
                    u64::try_from(id)
                        .ok()
                        .and_then(|id| context.server.clients.get(id)),
                );
            }
            clients
        }
        _ => return Err(Error::Syntax),
    };
    let lines: String = clients
        .iter()
        .map(|client| line(client, context, "client|list"))
        .collect();
    context.reply.verbatim("txt", lines.as_bytes());
    Ok(())
}

/// A client's line, with the fields of Redis 7.2 in its order; those of what is not there are 0. The caller's last
/// command is `own`, which is not yet noted.
fn line(client: &Arc<Client>, context: &Context<'_>, own: &str) -> String {
    let command = if client.id == context.session.client.id {
        own
    } else {
        table::by_number(client.last_command.load(Relaxed)).map_or("NULL", |command| &command.full_name)
    };
    line_of(client, context.now_ms, command)
}

/// The line of a client whose last command is this one.
pub fn line_of(client: &Client, now_ms: i64, command: &str) -> String {
    let names = client.names.lock().clone();
    let user = client.user.lock().clone();
    let seconds = |since_ms: i64| (now_ms - since_ms).max(0) / 1_000;
    let (query, output) = (
        client.query_bytes.load(Relaxed),
        client.output_bytes.load(Relaxed),
    );
    let (queued, held) = (client.queued.load(Relaxed), &client.held);
    let mut line = format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={}",
        client.id,
        client.addr,
        client.laddr,
        client.fd,
        names.name,
        seconds(client.created_ms),
        seconds(client.last_active_ms.load(Relaxed)),
        flags(client),
        client.db.load(Relaxed)
    );
    let inbox = client.inbox_bytes();
    let (input, replies) = (held.input.load(Relaxed), held.reply.load(Relaxed));
    // Arguments are not copied, so they take nothing beside the query buffer. Writing to a String cannot fail.
    let _ = writeln!(
        line,
        " sub={} psub={} ssub={} multi={queued} qbuf={query} qbuf-free={} argv-mem=0 multi-mem={} rbs={replies} \
         rbp={replies} obl={output} oll={} omem={inbox} tot-mem={} events={} cmd={command} user={} redir={} resp={} \
         lib-name={} lib-ver={}",
        client.subscribed[0].load(Relaxed),
        client.subscribed[1].load(Relaxed),
        client.subscribed[2].load(Relaxed),
        input.saturating_sub(query),
        held.queued.load(Relaxed),
        client.inbox_len(),
        client.memory(),
        if output + inbox > 0 { "rw" } else { "r" },
        String::from_utf8_lossy(&user),
        redirected_to(client),
        client.protocol.load(Relaxed),
        names.lib_name,
        names.lib_ver
    );
    line
}

fn flags(client: &Client) -> String {
    let letters = [
        (client_flag::MONITOR, 'O'),
        (client_flag::PUBSUB, 'P'),
        (client_flag::MULTI, 'x'),
        (client_flag::BLOCKED, 'b'),
        (client_flag::TRACKING, 't'),
        (client_flag::BROKEN_REDIRECTION, 'R'),
        (client_flag::TRACKS_PREFIXES, 'B'),
        (client_flag::BROKEN, 'd'),
        (client_flag::UNIX_SOCKET, 'U'),
        (client_flag::NO_EVICT, 'e'),
        (client_flag::NO_TOUCH, 'T'),
    ];
    let set: String = letters
        .iter()
        .filter(|(flag, _)| client.has(*flag))
        .map(|(_, letter)| letter)
        .collect();
    if set.is_empty() { "N".into() } else { set }
}

fn kill(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let KillFilter { filters, skip_me } = KillFilter::parse(args, &context.server.acl.users)?;
    let old_form = args.len() == 3;
    let own_id = context.session.client.id;
    let mut killed = 0;
    for client in context.server.clients.all() {
        let own = client.id == own_id;
        let wanted = filters
            .iter()
            .all(|filter| filter.accepts(&client, context.now_ms));
        if !wanted || own && skip_me {
            continue;
        }
        if own {
            // The caller learns how many there were before it goes.
            context.session.closing = true;
        } else {
            client.kill();
        }
        killed += 1;
    }
    match (old_form, killed) {
        (true, 0) => return Err(Error::new("ERR No such client")),
        (true, _) => context.reply.ok(),
        (false, _) => context.reply.int(killed),
    }
    Ok(())
}

fn set_name(args: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    check_name(&args[2])?;
    session.client.names.lock().name = text(&args[2]);
    reply.ok();
    Ok(())
}

fn get_name(_: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    match session.client.name() {
        name if name.is_empty() => reply.null(),
        name => reply.bulk(name.as_bytes()),
    }
    Ok(())
}

fn set_info(args: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    let (attribute, value) = (text(&args[2]), &args[3]);
    let mut names = session.client.names.lock();
    let field = match attribute.to_ascii_lowercase().as_str() {
        "lib-name" => &mut names.lib_name,
        "lib-ver" => &mut names.lib_ver,
        _ => return Err(Error::new(format!("ERR Unrecognized option '{attribute}'"))),
    };
    if !value.iter().all(u8::is_ascii_graphic) {
        return Err(Error::new(format!(
            "ERR {attribute} cannot contain spaces, newlines or special characters."
        )));
    }
    *field = text(value);
    reply.ok();
    Ok(())
}

fn on_or_off(args: &Args<'_>) -> Result<bool, Error> {
    if args.is(2, "ON") {
        Ok(true)
    } else if args.is(2, "OFF") {
        Ok(false)
    } else {
        Err(Error::Syntax)
    }
}

fn no_evict(args: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    session.client.set(client_flag::NO_EVICT, on_or_off(args)?);
    reply.ok();
    Ok(())
}

fn no_touch(args: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    let on = on_or_off(args)?;
    session.client.set(client_flag::NO_TOUCH, on);
    session.no_touch = on;
    reply.ok();
    Ok(())
}

/// A pause never becomes shorter or milder by another one that comes while it lasts.
fn pause(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let writes_only = match args.rest(3) {
        [] => false,
        [mode] if mode.eq_ignore_ascii_case(b"WRITE") => true,
        [mode] if mode.eq_ignore_ascii_case(b"ALL") => false,
        [_] => return Err(Error::new("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(help::wrong_arguments(args)),
    };
    let timeout_ms = args
        .int(2)
        .map_err(|_| Error::new("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(Error::new("ERR timeout is negative"));
    }
    let until_ms = timeout_ms
        .checked_add(context.now_ms)
        .ok_or_else(|| Error::new("ERR timeout is out of range"))?;
    context.server.pause.extend(until_ms, writes_only, context.now_ms);
    context.reply.ok();
    Ok(())
}

fn unpause(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.server.pause.clear();
    context.reply.ok();
    Ok(())
}

/// OFF and SKIP have no reply of their own: the session takes back what is written.
fn reply_mode(args: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    if args.is(2, "ON") {
        session.reply_mode = ReplyMode::On;
        reply.ok();
    } else if args.is(2, "OFF") {
        session.reply_mode = ReplyMode::Off;
    } else if args.is(2, "SKIP") {
        if session.reply_mode != ReplyMode::Off {
            session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(Error::Syntax);
    }
    Ok(())
}

fn unblock(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let with_error = match args.rest(3) {
        [] => false,
        [reason] if reason.eq_ignore_ascii_case(b"TIMEOUT") => false,
        [reason] if reason.eq_ignore_ascii_case(b"ERROR") => true,
        [_] => return Err(Error::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(help::wrong_arguments(args)),
    };
    let id = u64::try_from(args.int(2)?).unwrap_or(0);
    let woken = context.server.blocked.unblock(id, with_error);
    context.reply.int(woken.into());
    Ok(())
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::reply(
        context.reply,
        "CLIENT",
        &[
            (
                "CACHING (YES|NO)",
                &["Whether the keys of the next command are tracked, with OPTIN or OPTOUT."],
            ),
            ("GETNAME", &["The name of this connection."]),
            (
                "GETREDIR",
                &["The client that gets this connection's tracking messages, or -1."],
            ),
            ("ID", &["The number of this connection."]),
            ("INFO", &["This connection's line of LIST."]),
            ("KILL <ip:port>", &["Ends the connection from this address."]),
            (
                "KILL <option> <value> [<option> <value> [...]]",
                &[
                    "Ends every connection that fits all options:",
                    "ID <client-id>, ADDR <ip:port>, LADDR <ip:port>, USER <username>,",
                    "TYPE (NORMAL|MASTER|REPLICA|PUBSUB), MAXAGE <seconds>: at least so old;",
                    "SKIPME (YES|NO): whether to spare the caller, which is the default.",
                ],
            ),
            (
                "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <client-id> [<client-id> ...]]",
                &["A line for each connection."],
            ),
            (
                "NO-EVICT (ON|OFF)",
                &["Keeps this connection when others are closed to save memory."],
            ),
            (
                "NO-TOUCH (ON|OFF)",
                &["With ON, reading a key does not count as using it."],
            ),
            (
                "PAUSE <timeout> [WRITE|ALL]",
                &["Lets all commands, or those that write, wait for <timeout> milliseconds."],
            ),
            (
                "REPLY (ON|OFF|SKIP)",
                &["Whether this connection gets replies; SKIP leaves out the next one."],
            ),
            (
                "SETINFO <LIB-NAME libname | LIB-VER libver>",
                &["Names the library that this client uses."],
            ),
            ("SETNAME <name>", &["Names this connection."]),
            (
                "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
                &[
                    "Whether this connection, or another, hears of changes of keys that it has read,",
                    "or of all keys with a prefix. [OPTIN] [OPTOUT]: only when CACHING says so, or",
                    "not when it does; [NOLOOP]: not of its own changes.",
                ],
            ),
            ("TRACKINGINFO", &["What is tracked for this connection."]),
            (
                "UNBLOCK <clientid> [TIMEOUT|ERROR]",
                &["Wakes a client that waits in a blocking command."],
            ),
            ("UNPAUSE", &["Ends a pause."]),
        ],
    );
    Ok(())
}
