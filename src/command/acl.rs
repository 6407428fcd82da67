//! ACL: who the users are, what they may do, and what was refused them.

use super::args::Args;
use super::context::Context;
use super::error::{Error, quoted};
use super::help;
use super::permission;
use super::spec::{Handler, Outcome, Spec, acl::NAMES, flag::*};
use super::table::{self, Command};
use crate::acl::log::Entry;
use crate::acl::rules::{has_spaces, merge_selectors};
use crate::acl::selector::Selector;
use crate::acl::users::DEFAULT;
use crate::acl::{Denied, User, file};
use crate::config::user_line;
use crate::keyspace::load::may_wait;
use crate::net::clients::Client;
use crate::resp::Reply;
use crate::server::Server;
use std::io::Read;
use std::sync::Arc;

const ANY_TIME: u32 = NOSCRIPT | LOADING | STALE;

pub static COMMANDS: &[Spec] = &[Spec::new("acl", -2, 0, 0, Handler::Container)
    .group("server", "6.0.0")
    .doc(
        "",
        "Depends on subcommand.",
        "Commands about users and what they may do.",
    )
    .subcommands(&[
        row("cat", -2, 0, categories, "6.0.0").doc(
            "[category]",
            "O(1)",
            "Returns the categories of commands, or the commands of one.",
        ),
        row("deluser", -3, ADMIN, delete_users, "6.0.0").doc(
            "username [username ...]",
            "O(N) for N users and connections",
            "Removes users and ends their connections.",
        ),
        row("dryrun", -4, ADMIN, dry_run, "7.0.0").doc(
            "username command [arg [arg ...]]",
            "O(N) for N rules of the user",
            "Tells whether a user could run a command, without running it.",
        ),
        row("genpass", -2, 0, generate_password, "6.0.0").doc(
            "[bits]",
            "O(1)",
            "Returns random hexadecimal digits, fit for a password.",
        ),
        row("getuser", 3, ADMIN, get_user, "6.0.0").doc(
            "username",
            "O(N) for N rules of the user",
            "Returns the passwords and rules of a user.",
        ),
        row("list", 2, ADMIN, list, "6.0.0").doc(
            "",
            "O(N) for N users",
            "Returns every user as a line of a file of users.",
        ),
        row("load", 2, ADMIN, load, "6.0.0").doc(
            "",
            "O(N) for N users and connections",
            "Reads the file of users again, in place of the users there are.",
        ),
        row("log", -2, ADMIN, log, "6.0.0").doc(
            "[count | RESET]",
            "O(N) for N entries",
            "Returns what was refused lately, or forgets it.",
        ),
        row("save", 2, ADMIN, save, "6.0.0").doc(
            "",
            "O(N) for N users",
            "Writes the users into the file of users.",
        ),
        row("setuser", -3, ADMIN, set_user, "6.0.0").doc(
            "username [rule [rule ...]]",
            "O(N) for N rules",
            "Makes a user, or changes its rules.",
        ),
        row("users", 2, ADMIN, users, "6.0.0").doc("", "O(N) for N users", "Returns the names of all users."),
        row("whoami", 2, 0, who_am_i, "6.0.0").doc("", "O(1)", "Returns the name of the caller's user."),
        Spec::new("help", 2, LOADING | STALE, 0, Handler::Admin(show_help))
            .group("server", "6.0.0")
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

const fn row(
    name: &'static str,
    arity: i32,
    flags: u32,
    handler: fn(&Args<'_>, &mut Context<'_>) -> Outcome,
    since: &'static str,
) -> Spec {
    Spec::new(name, arity, ANY_TIME | flags, 0, Handler::Admin(handler)).group("server", since)
}

fn text(arg: &[u8]) -> String {
    String::from_utf8_lossy(quoted(arg, usize::MAX)).into_owned()
}

fn categories(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let reply = &mut *context.reply;
    match args.rest(2) {
        [] => {
            reply.array(NAMES.len());
            NAMES
                .iter()
                .for_each(|(_, name)| reply.bulk(&name.as_bytes()[1..]));
        }
        [wanted] => {
            let is = |name: &&str| name.as_bytes()[1..].eq_ignore_ascii_case(wanted);
            let mut names = NAMES.iter().map(|(_, name)| *name);
            let Some(category) = names.find(is) else {
                return Err(Error::new(format!("ERR Unknown category '{}'", text(wanted))));
            };
            let belongs = |row: &&Command| row.categories().any(|name| name == category);
            let rows: Vec<&Command> = table::all_rows().filter(belongs).collect();
            reply.array(rows.len());
            rows.iter().for_each(|row| reply.bulk(row.full_name.as_bytes()));
        }
        _ => return Err(help::wrong_arguments(args)),
    }
    Ok(())
}

fn who_am_i(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.reply.bulk(&context.session.user.name);
    Ok(())
}

fn users(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let all = context.server.acl.users.all();
    context.reply.array(all.len());
    all.keys().for_each(|name| context.reply.bulk(name));
    Ok(())
}

fn list(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let all = context.server.acl.users.all();
    context.reply.array(all.len());
    all.values().for_each(|user| context.reply.bulk(&user.line()));
    Ok(())
}

fn get_user(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let reply = &mut *context.reply;
    let Some(user) = context.server.acl.users.get(&args[2]) else {
        reply.null();
        return Ok(());
    };
    reply.map(6);
    reply.bulk(b"flags");
    let flags = user.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.password_hashes().count());
    user.password_hashes().for_each(|hash| reply.bulk(hash));
    let Some((own, others)) = user.selectors().split_first() else {
        return Ok(());
    };
    show_selector(own, reply);
    reply.bulk(b"selectors");
    reply.array(others.len());
    for selector in others {
        reply.map(3);
        show_selector(selector, reply);
    }
    Ok(())
}

fn show_selector(selector: &Selector, reply: &mut Reply) {
    for (name, rules) in [
        ("commands", selector.commands.describe()),
        ("keys", selector.describe_keys()),
        ("channels", selector.describe_channels()),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(&rules);
    }
}

fn set_user(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let name = &args[2];
    if has_spaces(name) {
        return Err(Error::new(
            "ERR Usernames can't contain spaces or null characters",
        ));
    }
    let rules = merge_selectors(args.rest(3)).map_err(|open| {
        let open = text(&open);
        Error::new(format!(
            "ERR Unmatched parenthesis in acl selector starting at '{open}'."
        ))
    })?;
    let changed = context.server.acl.users.change(name, &rules).map_err(|wrong| {
        let (rule, why) = (text(&wrong.rule), wrong.why);
        Error::new(format!("ERR Error in ACL SETUSER modifier '{rule}': {why}"))
    })?;
    if let Some(before) = changed.before {
        end_subscribers(&before, &changed.after, context);
    }
    context.reply.ok();
    Ok(())
}

/// Ends the connections of a user that hear what it may hear no longer.
fn end_subscribers(before: &User, after: &User, context: &mut Context<'_>) {
    if after.hears_at_least(before) {
        return;
    }
    let (server, own) = (context.server, context.session.client.id);
    let mut closing = false;
    let pubsub = &server.pubsub;
    pubsub.each_subscription(&server.keyspace, |channel, is_pattern, subscribers| {
        if after.hears(channel, is_pattern) {
            return;
        }
        pubsub.delivery.each(subscribers, |client| {
            if client.is_of_user(&after.name) {
                closing |= client.id == own;
                end(client, own);
            }
        });
    });
    context.session.closing |= closing;
}

/// Ends a connection; the caller's own ends when it has its reply.
fn end(client: &Client, own: u64) {
    if client.id != own {
        client.kill();
    }
}

fn delete_users(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let names = args.rest(2);
    let server = context.server;
    let mut deleted = 0;
    for name in names {
        if *name == DEFAULT {
            return Err(Error::new("ERR The 'default' user cannot be removed"));
        }
        if server.acl.users.delete(name).is_some() {
            deleted += 1;
            end_clients(name, context);
        }
    }
    context.reply.int(deleted);
    Ok(())
}

/// Ends the connections of a user that is there no longer.
fn end_clients(name: &[u8], context: &mut Context<'_>) {
    let own = context.session.client.id;
    for client in context.server.clients.all() {
        if client.is_of_user(name) {
            end(&client, own);
        }
    }
    context.session.closing |= context.session.client.is_of_user(name);
}

fn dry_run(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let Some(user) = context.server.acl.users.get(&args[2]) else {
        return Err(Error::new(format!("ERR User '{}' not found", text(&args[2]))));
    };
    let request = Args::new(args.rest(3));
    let found = table::find_named(&request[0]).and_then(|command| {
        match command.subcommands.is_empty() || request.len() < 2 {
            true => Some(command),
            false => command.subcommand(&request[1]),
        }
    });
    let Some(command) = found else {
        return Err(Error::new(format!(
            "ERR Command '{}' not found",
            text(&request[0])
        )));
    };
    if !command.accepts(request.len()) {
        return Err(Error::Arity(command.full_name.clone()));
    }
    let denied = match permission::check(&user, command, &request) {
        Ok(()) => {
            context.reply.ok();
            return Ok(());
        }
        Err(denied) => denied,
    };
    let told = match denied {
        Denied::Command => {
            let name = &command.full_name;
            format!("This user has no permissions to run the '{name}' command").into_bytes()
        }
        Denied::Key(at) => accessing(&request[at], "key"),
        Denied::Channel(at) => accessing(&request[at], "channel"),
    };
    context.reply.bulk(&told);
    Ok(())
}

fn accessing(name: &[u8], what: &str) -> Vec<u8> {
    [
        b"This user has no permissions to access the '",
        quoted(name, usize::MAX),
        b"' ",
        what.as_bytes(),
    ]
    .concat()
}

/// Bits of a password, four to a digit.
const BITS: i64 = 256;
const BITS_MOST: i64 = 4096;

fn generate_password(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let bits = match args.len() {
        2 => BITS,
        3 => args.int(2)?,
        _ => return Err(help::wrong_arguments(args)),
    };
    if !(1..=BITS_MOST).contains(&bits) {
        return Err(Error::new(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        ));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut random = vec![0; digits.div_ceil(2)];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(|error| Error::new(format!("ERR the system gives no random bytes: {error}")))?;
    let mut password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    password.truncate(digits);
    context.reply.bulk(password.as_bytes());
    Ok(())
}

/// Entries that are shown when no number is given.
const LOG_SHOWN: usize = 10;

fn log(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let most = match args.rest(2) {
        [] => LOG_SHOWN,
        [word] if word.eq_ignore_ascii_case(b"RESET") => {
            context.server.acl.log.lock().clear();
            context.reply.ok();
            return Ok(());
        }
        [_] => usize::try_from(args.int(2)?).unwrap_or(0),
        _ => return Err(help::wrong_arguments(args)),
    };
    let log = context.server.acl.log.lock();
    let entries = log.newest(most);
    context.reply.array(entries.len());
    entries.for_each(|entry| show_entry(entry, context.now_ms, context.reply));
    Ok(())
}

fn show_entry(entry: &Entry, now_ms: i64, reply: &mut Reply) {
    reply.map(10);
    reply.bulk(b"count");
    reply.int(entry.count as i64);
    for (name, value) in [
        ("reason", entry.reason.name().as_bytes()),
        ("context", entry.place.name().as_bytes()),
        ("object", &entry.object),
        ("username", &entry.user),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(value);
    }
    reply.bulk(b"age-seconds");
    reply.double((now_ms - entry.updated_ms).max(0) as f64 / 1_000.0);
    reply.bulk(b"client-info");
    reply.bulk(entry.client.trim_end().as_bytes());
    for (name, value) in [
        ("entry-id", entry.id as i64),
        ("timestamp-created", entry.created_ms),
        ("timestamp-last-updated", entry.updated_ms),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(value);
    }
}

/// The path of the file of users.
fn acl_file(server: &Server) -> Result<String, Error> {
    match server.config.load().aclfile.clone() {
        path if path.is_empty() => Err(Error::new(
            "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the \
             ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file \
             set) in order to store users in the Redis configuration.",
        )),
        path => Ok(path),
    }
}

fn save(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let path = acl_file(context.server)?;
    let content = file::write(&context.server.acl.users.all());
    may_wait(|| crate::config::rewrite::replace_file(path.as_ref(), &content)).map_err(|error| {
        log::warn!("ACL SAVE: {path}: {error}");
        Error::new("ERR There was an error trying to save the ACLs. Please check the server logs for more information")
    })?;
    context.reply.ok();
    Ok(())
}

fn load(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let path = acl_file(context.server)?;
    let before =
        may_wait(|| load_file(context.server, &path)).map_err(|why| Error::new(format!("ERR {why}")))?;
    for user in before.values() {
        match context.server.acl.users.get(&user.name) {
            Some(after) => end_subscribers(user, &after, context),
            None => end_clients(&user.name, context),
        }
    }
    context.reply.ok();
    Ok(())
}

/// Reads the file of users in place of the users there are; returns those of before.
pub fn load_file(server: &Server, path: &str) -> Result<Arc<crate::acl::users::ByName>, String> {
    let content =
        std::fs::read(path).map_err(|error| format!("Error loading ACLs, opening file '{path}': {error}"))?;
    let users = file::read(&content, path, &server.acl.users)?;
    Ok(server.acl.users.replace(users))
}

/// Makes the users that the configuration names.
pub fn at_start(server: &Server) -> Result<(), String> {
    let config = server.config.load();
    let users = &server.acl.users;
    users.set_all_channels_by_default(config.acl_pubsub_allchannels);
    if !config.requirepass.is_empty() {
        users.set_default_password(&config.requirepass);
    }
    if !config.aclfile.is_empty() {
        if !config.users.is_empty() {
            return Err(
                "users stand in the configuration and in an aclfile: define them in one of the two".into(),
            );
        }
        return load_file(server, &config.aclfile).map(drop);
    }
    let mut made = Vec::new();
    for words in &config.users {
        let Some((name, rules)) = words.split_first() else {
            continue;
        };
        let wrong = |why: &dyn std::fmt::Display| {
            let why = format_args!("Error in user declaration '{}': {why}", text(name));
            config.at(&user_line(name), why)
        };
        if has_spaces(name) {
            return Err(wrong(&"Usernames can't contain spaces or null characters"));
        }
        let rules: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
        let rules =
            merge_selectors(&rules).map_err(|_| wrong(&"Unmatched parenthesis in selector definition"))?;
        let mut user = users.make(name);
        for rule in &rules {
            users.apply(&mut user, rule).map_err(|why| wrong(&why))?;
        }
        made.push(user);
    }
    users.add(made);
    Ok(())
}

/// The users as `user` lines of the configuration: none where a file of users holds them. The default user is left out
/// where `requirepass` says all that is to be said of it.
pub fn for_config(server: &Server) -> Vec<Vec<Vec<u8>>> {
    let config = server.config.load();
    if !config.aclfile.is_empty() {
        return Vec::new();
    }
    let users = &server.acl.users;
    let mut plain = users.pristine_default();
    if !config.requirepass.is_empty() {
        let rule = [b">", &config.requirepass[..]].concat();
        // A password always applies.
        let applied = users.apply(&mut plain, &rule);
        debug_assert!(applied.is_ok());
    }
    let all = users.all();
    let said = all
        .values()
        .filter(|user| *user.name != *DEFAULT || user.describe() != plain.describe());
    said.map(|user| {
        let rules = user.describe();
        let rules = rules.split(|byte| *byte == b' ').map(<[u8]>::to_vec);
        std::iter::once(user.name.to_vec()).chain(rules).collect()
    })
    .collect()
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::show(
        context,
        "ACL",
        &[
            (
                "CAT [<category>]",
                &["The categories of commands, or the commands of <category>."],
            ),
            (
                "DELUSER <username> [<username> ...]",
                &["Removes users and ends their connections."],
            ),
            (
                "DRYRUN <username> <command> [<arg> ...]",
                &["Whether the user could run the command; it is not run."],
            ),
            ("GETUSER <username>", &["The passwords and rules of a user."]),
            (
                "GENPASS [<bits>]",
                &["Random hexadecimal digits of 256, or <bits>, bits."],
            ),
            ("LIST", &["Every user as a line of a file of users."]),
            ("LOAD", &["Reads the file of users again."]),
            (
                "LOG [<count> | RESET]",
                &["What was refused lately; RESET forgets it."],
            ),
            ("SAVE", &["Writes the users into the file of users."]),
            (
                "SETUSER <username> <attribute> [<attribute> ...]",
                &["Makes a user, or changes its rules."],
            ),
            ("USERS", &["The names of all users."]),
            ("WHOAMI", &["The name of this connection's user."]),
        ],
    );
    Ok(())
}
