//! COMMAND DOCS: a row of the table as documentation for programs, as redis-cli's hints use it.

use super::syntax::{self, Argument, Kind};
use super::table::Command;
use crate::resp::Reply;

/// Commands that stay for old clients, since when they do, and what to use in their place.
const DEPRECATED: [(&str, &str, &str); 17] = [
    ("brpoplpush", "6.2.0", "`BLMOVE` with `RIGHT` and `LEFT`"),
    ("cluster|slaves", "5.0.0", "`CLUSTER REPLICAS`"),
    ("cluster|slots", "7.0.0", "`CLUSTER SHARDS`"),
    (
        "georadius",
        "6.2.0",
        "`GEOSEARCH`, `GEOSEARCHSTORE` with `BYRADIUS`",
    ),
    ("georadius_ro", "6.2.0", "`GEOSEARCH` with `BYRADIUS`"),
    (
        "georadiusbymember",
        "6.2.0",
        "`GEOSEARCH`, `GEOSEARCHSTORE` with `FROMMEMBER`, `BYRADIUS`",
    ),
    (
        "georadiusbymember_ro",
        "6.2.0",
        "`GEOSEARCH` with `FROMMEMBER`, `BYRADIUS`",
    ),
    ("getset", "6.2.0", "`SET` with `GET`"),
    ("hmset", "4.0.0", "`HSET`"),
    ("rpoplpush", "6.2.0", "`LMOVE` with `RIGHT` and `LEFT`"),
    ("slaveof", "5.0.0", "`REPLICAOF`"),
    ("substr", "2.0.0", "`GETRANGE`"),
    ("zrangebylex", "6.2.0", "`ZRANGE` with `BYLEX`"),
    ("zrangebyscore", "6.2.0", "`ZRANGE` with `BYSCORE`"),
    ("zrevrange", "6.2.0", "`ZRANGE` with `REV`"),
    ("zrevrangebylex", "6.2.0", "`ZRANGE` with `BYLEX`, `REV`"),
    ("zrevrangebyscore", "6.2.0", "`ZRANGE` with `BYSCORE`, `REV`"),
];
/// Commands that servers and tests use among themselves.
const OF_SYSTEMS: [&str; 5] = ["debug", "pfdebug", "pfselftest", "replconf", "restore-asking"];

/// Writes a command's name and its map.
pub fn write(command: &Command, reply: &mut Reply) {
    reply.bulk(command.full_name.as_bytes());
    let map = reply.defer_map();
    let mut pairs = 4;
    for (name, text) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group),
        ("complexity", command.complexity),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    let deprecated = DEPRECATED.iter().find(|(name, ..)| *name == command.full_name);
    let of_systems = OF_SYSTEMS.contains(&command.full_name.as_str());
    if deprecated.is_some() || of_systems {
        pairs += 1;
        reply.bulk(b"doc_flags");
        reply.set(1);
        reply.simple(if of_systems { "syscmd" } else { "deprecated" });
    }
    if let Some((_, since, instead)) = deprecated {
        pairs += 2;
        for (name, text) in [("deprecated_since", since), ("replaced_by", instead)] {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
        }
    }
    let arguments = arguments(command);
    if !arguments.is_empty() {
        pairs += 1;
        reply.bulk(b"arguments");
        write_arguments(&arguments, reply);
    }
    if !command.subcommands.is_empty() {
        pairs += 1;
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        command.subcommands.iter().for_each(|sub| write(sub, reply));
    }
    reply.set_deferred(map, pairs);
}

/// The arguments of a row; a test sees to it that all of them can be read.
fn arguments(command: &Command) -> Vec<Argument> {
    let before = 1 + usize::from(command.full_name.contains('|'));
    syntax::parse(command.syntax, command.keys, before).unwrap_or_default()
}

fn write_arguments(arguments: &[Argument], reply: &mut Reply) {
    reply.array(arguments.len());
    arguments
        .iter()
        .for_each(|argument| write_argument(argument, reply));
}

fn write_argument(argument: &Argument, reply: &mut Reply) {
    let map = reply.defer_map();
    let mut pairs = 2;
    for (name, text) in [("name", argument.name.as_str()), ("type", argument.kind.name())] {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if !matches!(argument.kind, Kind::OneOf | Kind::Block) {
        pairs += 1;
        reply.bulk(b"display_text");
        reply.bulk(argument.name.as_bytes());
    }
    if let Some(spec) = argument.key_spec {
        pairs += 1;
        reply.bulk(b"key_spec_index");
        reply.int(spec as i64);
    }
    if let Some(token) = &argument.token {
        pairs += 1;
        reply.bulk(b"token");
        reply.bulk(token.as_bytes());
    }
    let flags = [
        (argument.optional, "optional"),
        (argument.multiple, "multiple"),
        (argument.multiple_token, "multiple_token"),
    ];
    let set = flags.iter().filter(|(on, _)| *on).count();
    if set > 0 {
        pairs += 1;
        reply.bulk(b"flags");
        reply.set(set);
        flags
            .iter()
            .filter(|(on, _)| *on)
            .for_each(|(_, flag)| reply.simple(flag));
    }
    if !argument.parts.is_empty() {
        pairs += 1;
        reply.bulk(b"arguments");
        write_arguments(&argument.parts, reply);
    }
    reply.set_deferred(map, pairs);
}
