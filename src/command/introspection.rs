//! COMMAND: what the server knows of its commands, read off the table.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::spec::{Begin, Find, Handler, KeySpec, Outcome, Spec, acl, flag, flag::*};
use super::table::{self, Command};
use super::{docs, glob, help, key_spec};
use crate::resp::Reply;
use smallvec::{SmallVec, smallvec};

pub static COMMANDS: &[Spec] = &[row("command", -1, Handler::Admin(all))
    .group("server", "2.8.13")
    .doc(
        "",
        "O(N) for N commands",
        "Returns what is known of every command.",
    )
    .tips(&["nondeterministic_output_order"])
    .subcommands(&[
        row("count", 2, Handler::Admin(count))
            .group("server", "2.8.13")
            .doc("", "O(1)", "Returns how many commands there are."),
        row("docs", -2, Handler::Admin(docs))
            .group("server", "7.0.0")
            .doc(
                "[command-name [command-name ...]]",
                "O(N) for N commands",
                "Returns what commands are for and which arguments they take.",
            )
            .tips(&["nondeterministic_output_order"]),
        row("getkeys", -4, Handler::Admin(get_keys))
            .group("server", "2.8.13")
            .doc(
                "command [arg [arg ...]]",
                "O(N) for N arguments",
                "Returns the keys in a whole command.",
            ),
        row("getkeysandflags", -4, Handler::Admin(get_keys_and_flags))
            .group("server", "7.0.0")
            .doc(
                "command [arg [arg ...]]",
                "O(N) for N arguments",
                "Returns the keys in a whole command, and what it does with each.",
            ),
        row("info", -2, Handler::Admin(info))
            .group("server", "2.8.13")
            .doc(
                "[command-name [command-name ...]]",
                "O(N) for N commands",
                "Returns what is known of commands.",
            )
            .tips(&["nondeterministic_output_order"]),
        row("list", -2, Handler::Admin(list))
            .group("server", "7.0.0")
            .doc(
                "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
                "O(N) for N commands",
                "Returns the names of commands.",
            )
            .tips(&["nondeterministic_output_order"]),
        row("help", 2, Handler::Admin(show_help))
            .group("server", "5.0.0")
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

const fn row(name: &'static str, arity: i32, handler: Handler) -> Spec {
    Spec::new(name, arity, LOADING | STALE, acl::CONNECTION, handler)
}

fn all(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let commands = table::all();
    context.reply.array(commands.len());
    commands
        .into_iter()
        .for_each(|command| describe(command, context.reply));
    Ok(())
}

fn info(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if args.len() == 2 {
        return all(args, context);
    }
    context.reply.array(args.len() - 2);
    for name in args.rest(2) {
        match table::find_full(name) {
            Some(command) => describe(command, context.reply),
            None => context.reply.null(),
        }
    }
    Ok(())
}

/// The ten facts of a command.
fn describe(command: &Command, reply: &mut Reply) {
    let (first, last, step) = key_spec::legacy(command.keys);
    reply.array(10);
    reply.bulk(command.full_name.as_bytes());
    reply.int(i64::from(command.arity));
    let names = flag::NAMES.iter().filter(|(bit, _)| command.has(*bit));
    simple_set(names.map(|(_, name)| *name), reply);
    for fact in [first, last, step] {
        reply.int(fact);
    }
    simple_set(command.categories(), reply);
    reply.set(command.tips.len());
    command.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(command.keys.len());
    command.keys.iter().for_each(|spec| describe_keys(spec, reply));
    // Redis has an empty set where there are none, and an array of those that there are.
    match command.subcommands.len() {
        0 => reply.set(0),
        count => reply.array(count),
    }
    command.subcommands.iter().for_each(|sub| describe(sub, reply));
}

fn simple_set<'n>(names: impl Iterator<Item = &'n str>, reply: &mut Reply) {
    let set = reply.defer_set();
    let mut count = 0;
    for name in names {
        reply.simple(name);
        count += 1;
    }
    reply.set_deferred(set, count);
}

/// Flags of a key specification, as the replies spell them: the first tells how the value is used, in capitals.
fn key_flags(flags: &str) -> impl Iterator<Item = String> {
    flags.split_ascii_whitespace().map(|flag| match flag {
        "RO" | "RW" | "OW" | "RM" => flag.to_owned(),
        _ => flag.to_ascii_lowercase(),
    })
}

fn key_flags_set(flags: &str, reply: &mut Reply) {
    let flags: Vec<String> = key_flags(flags).collect();
    simple_set(flags.iter().map(String::as_str), reply);
}

fn describe_keys(spec: &KeySpec, reply: &mut Reply) {
    reply.map(3 + usize::from(!spec.notes.is_empty()));
    if !spec.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    key_flags_set(spec.flags, reply);
    reply.bulk(b"begin_search");
    let (begin, begin_facts) = begin_facts(spec.begin);
    describe_step(begin, &begin_facts, reply);
    reply.bulk(b"find_keys");
    let (find, find_facts) = find_facts(spec.find);
    describe_step(find, &find_facts, reply);
}

/// One of the two steps of a key specification: its type, and the facts of that type.
fn describe_step(kind: &str, facts: &[(&str, Fact)], reply: &mut Reply) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(facts.len());
    for (name, fact) in facts {
        reply.bulk(name.as_bytes());
        match fact {
            Fact::Int(fact) => reply.int(*fact),
            Fact::Word(fact) => reply.bulk(fact.as_bytes()),
        }
    }
}

enum Fact {
    Int(i64),
    Word(&'static str),
}

type Facts = SmallVec<[(&'static str, Fact); 3]>;

fn begin_facts(begin: Begin) -> (&'static str, Facts) {
    match begin {
        Begin::Index(at) => ("index", smallvec![("index", Fact::Int(at as i64))]),
        Begin::Keyword { word, from } => (
            "keyword",
            smallvec![
                ("keyword", Fact::Word(word)),
                ("startfrom", Fact::Int(from.into()))
            ],
        ),
        Begin::Unknown => ("unknown", Facts::new()),
    }
}

fn find_facts(find: Find) -> (&'static str, Facts) {
    match find {
        Find::Range { last, step, limit } => (
            "range",
            smallvec![
                ("lastkey", Fact::Int(last.into())),
                ("keystep", Fact::Int(step as i64)),
                ("limit", Fact::Int(limit as i64)),
            ],
        ),
        Find::Keynum { at, first, step } => (
            "keynum",
            smallvec![
                ("keynumidx", Fact::Int(at as i64)),
                ("firstkey", Fact::Int(first as i64)),
                ("keystep", Fact::Int(step as i64)),
            ],
        ),
        Find::Unknown => ("unknown", Facts::new()),
    }
}

fn count(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.reply.int(table::all().len() as i64);
    Ok(())
}

fn docs(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let commands: Vec<&Command> = match args.rest(2) {
        [] => table::all(),
        names => names.iter().filter_map(|name| table::find_full(name)).collect(),
    };
    context.reply.map(commands.len());
    commands
        .into_iter()
        .for_each(|command| docs::write(command, context.reply));
    Ok(())
}

/// What COMMAND LIST keeps.
enum ListFilter<'a> {
    All,
    Module,
    Category(&'a [u8]),
    Pattern(&'a [u8]),
}

impl<'a> ListFilter<'a> {
    fn parse(args: &Args<'a>) -> Result<ListFilter<'a>, Error> {
        if args.len() == 2 {
            return Ok(ListFilter::All);
        }
        if args.len() != 5 || !args.is(2, "FILTERBY") {
            return Err(Error::Syntax);
        }
        let value = args.get(4)?;
        match () {
            _ if args.is(3, "MODULE") => Ok(ListFilter::Module),
            _ if args.is(3, "ACLCAT") => Ok(ListFilter::Category(value)),
            _ if args.is(3, "PATTERN") => Ok(ListFilter::Pattern(value)),
            _ => Err(Error::Syntax),
        }
    }

    fn keeps(&self, command: &Command) -> bool {
        match self {
            ListFilter::All => true,
            // There are no modules.
            ListFilter::Module => false,
            ListFilter::Category(category) => command
                .categories()
                .any(|name| name.as_bytes()[1..].eq_ignore_ascii_case(category)),
            ListFilter::Pattern(pattern) => {
                glob::matches(&pattern.to_ascii_lowercase(), command.full_name.as_bytes())
            }
        }
    }
}

fn list(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let filter = ListFilter::parse(args)?;
    let names: Vec<&str> = table::all_rows()
        .filter(|command| filter.keeps(command))
        .map(|command| command.full_name.as_str())
        .collect();
    context.reply.array(names.len());
    names.iter().for_each(|name| context.reply.bulk(name.as_bytes()));
    Ok(())
}

/// A key of a command that was given whole, and how it is used.
type UsedKey<'a> = (&'a [u8], &'static str);

/// The keys of the command that stands behind two words.
fn keys_of<'a>(args: &Args<'a>) -> Result<Vec<UsedKey<'a>>, Error> {
    let inner = Args::new(args.rest(2));
    let found =
        table::find(&inner[0]).and_then(|command| match (command.subcommands.is_empty(), inner.len()) {
            (true, _) | (_, 1) => Some(command),
            _ => command.subcommand(&inner[1]),
        });
    let command = found.ok_or_else(|| Error::new("ERR Invalid command specified"))?;
    // Channels of shards are found as keys are, and are none.
    if command.keys.iter().all(|spec| spec.flags.contains("not_key")) {
        return Err(Error::new("ERR The command has no key arguments"));
    }
    if !command.accepts(inner.len()) {
        return Err(Error::new(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let found = command.found_keys(&inner).into_iter();
    let used: Vec<UsedKey<'a>> = found
        .map(|(at, number)| {
            let flags = flags_in_use(command, &command.keys[number], &inner);
            (inner.all()[at], flags)
        })
        .collect();
    if used.is_empty() && !command.has(NO_MANDATORY_KEYS) {
        return Err(Error::new("ERR Invalid arguments specified for command"));
    }
    Ok(used)
}

/// What a command does with its key may depend on its options.
pub(super) fn flags_in_use(command: &Command, spec: &KeySpec, args: &Args<'_>) -> &'static str {
    if !spec.flags.contains("VARIABLE_FLAGS") {
        return spec.flags;
    }
    let has = |word: &str| (2..args.len()).any(|at| args.is(at, word));
    match command.name {
        "set" if (3..args.len()).any(|at| args.is(at, "GET")) => "RW ACCESS UPDATE",
        "set" => "OW UPDATE",
        "bitfield" if has("SET") || has("INCRBY") => "RW ACCESS UPDATE",
        "bitfield" => "RO ACCESS",
        _ => spec.flags,
    }
}

fn get_keys(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let keys = keys_of(args)?;
    context.reply.array(keys.len());
    keys.iter().for_each(|(key, _)| context.reply.bulk(key));
    Ok(())
}

fn get_keys_and_flags(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let keys = keys_of(args)?;
    context.reply.array(keys.len());
    for (key, flags) in keys {
        context.reply.array(2);
        context.reply.bulk(key);
        key_flags_set(flags, context.reply);
    }
    Ok(())
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::reply(
        context.reply,
        "COMMAND",
        &[
            ("(no subcommand)", &["What is known of every command."]),
            ("COUNT", &["How many commands there are."]),
            (
                "DOCS [<command-name> ...]",
                &["What these commands, or all, are for and which arguments they take."],
            ),
            ("GETKEYS <full-command>", &["The keys in a whole command."]),
            (
                "GETKEYSANDFLAGS <full-command>",
                &["The keys in a whole command, and what it does with each."],
            ),
            (
                "INFO [<command-name> ...]",
                &["What is known of these commands, or of all."],
            ),
            (
                "LIST [FILTERBY (MODULE <module-name>|ACLCAT <category>|PATTERN <pattern>)]",
                &["The names of these commands, or of all."],
            ),
        ],
    );
    Ok(())
}
