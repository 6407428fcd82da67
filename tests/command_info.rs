//! What `COMMAND INFO` says of every command that both Debian's redis-server and Terrace know, compared fact by fact:
//! arity, flags, first and last key, step, ACL categories, tips, key specifications, and the same of subcommands.
//!
//! Order counts where Redis keeps one (flags, categories, keys); subcommands and tips stand in no order there.
//! What Redis 7.2 says otherwise than the oracle, which is Redis 7.0, is listed with the reason.

mod common;

use common::{Conn, Server, Value};
use std::collections::BTreeMap;

/// Facts that differ on purpose: command, fact, reason.
const INTENDED: &[(&str, &str, &str)] = &[
    ("zrank", "arity", "WITHSCORE came with Redis 7.2"),
    ("zrevrank", "arity", "WITHSCORE came with Redis 7.2"),
];

const FACTS: [&str; 9] = [
    "arity",
    "flags",
    "first key",
    "last key",
    "step",
    "ACL categories",
    "tips",
    "key specifications",
    "subcommands",
];

type Commands = BTreeMap<String, Vec<Value>>;

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(_, text) | Value::Line(_, text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("not a text: {other:?}"),
    }
}

fn children(value: &Value) -> &[Value] {
    match value {
        Value::List(_, children) => children,
        other => panic!("not a list: {other:?}"),
    }
}

/// Every command and subcommand by its full name, with the facts behind it.
fn commands(conn: &mut Conn) -> Commands {
    let mut found = Commands::new();
    for command in children(&Value::parse(&conn.words("COMMAND INFO"))) {
        add(command, &mut found);
    }
    found
}

fn add(command: &Value, found: &mut Commands) {
    let facts = children(command);
    assert_eq!(facts.len(), 1 + FACTS.len(), "{command:?}");
    found.insert(text(&facts[0]), facts[1..].to_vec());
    children(&facts[9]).iter().for_each(|sub| add(sub, found));
}

/// The facts as they are compared: what has no order is sorted, and subcommands are rows of their own.
fn comparable(fact: &str, value: &Value) -> String {
    let mut value = value.clone();
    match (&mut value, fact) {
        (Value::List(_, children), "tips") => children.sort(),
        (Value::List(_, children), "subcommands") => children.clear(),
        // Notes are prose, each server's own.
        (Value::List(_, specs), "key specifications") => specs.iter_mut().for_each(drop_notes),
        _ => {}
    }
    show(&value)
}

fn drop_notes(spec: &mut Value) {
    if let Value::List(_, pairs) = spec
        && text(&pairs[0]) == "notes"
    {
        pairs.drain(..2);
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::List(kind, children) => {
            let parts: Vec<String> = children.iter().map(show).collect();
            format!("{}({})", char::from(*kind), parts.join(" "))
        }
        Value::Null => "null".into(),
        leaf => text(leaf),
    }
}

#[test]
fn facts_of_commands_are_those_of_redis() {
    let servers = [
        Server::redis(&[]),
        Server::terrace(&["--range", "default", "*", "memory"]),
    ];
    let [redis, terrace] = servers.each_ref().map(|server| {
        let mut conn = server.connect();
        conn.words("HELLO 3");
        commands(&mut conn)
    });
    let mut differences = Vec::new();
    let mut compared = 0;
    for (name, ours) in &terrace {
        let Some(theirs) = redis.get(name) else { continue };
        compared += 1;
        for (at, fact) in FACTS.iter().enumerate() {
            let (ours, theirs) = (comparable(fact, &ours[at]), comparable(fact, &theirs[at]));
            let intended = INTENDED
                .iter()
                .any(|(command, what, _)| command == name && what == fact);
            if ours != theirs && !intended {
                differences.push(format!(
                    "{name}, {fact}:\n    redis   {theirs}\n    terrace {ours}"
                ));
            }
        }
    }
    assert!(compared > 60, "only {compared} commands are known to both");
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn a_command_that_does_not_exist_has_no_facts() {
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let reply = Value::parse(
        &server
            .connect()
            .words("COMMAND INFO get nosuch client|id client|nosuch"),
    );
    let names: Vec<Option<String>> = children(&reply)
        .iter()
        .map(|command| match command {
            Value::Null => None,
            command => Some(text(&children(command)[0])),
        })
        .collect();
    assert_eq!(names, [Some("get".into()), None, Some("client|id".into()), None]);
}

/// redis-cli builds its hints from these maps.
#[test]
fn documentation_has_the_arguments_of_a_command() {
    let server = Server::terrace(&["--range", "default", "*", "memory"]);
    let reply = Value::parse(&server.connect().words("COMMAND DOCS get nosuch config|set"));
    let names: Vec<String> = children(&reply).iter().step_by(2).map(text).collect();
    assert_eq!(names, ["get", "config|set"]);
    let get = show(&children(&reply)[1]);
    assert!(
        get.ends_with("arguments *(*(name key type key display_text key key_spec_index 0)))"),
        "{get}"
    );
}

#[test]
fn what_stays_for_old_clients_is_said_to_be_deprecated_as_in_redis() {
    let servers = [
        Server::redis(&[]),
        Server::terrace(&["--range", "default", "*", "memory"]),
    ];
    let [redis, ours] = servers.map(|server| {
        let reply = Value::parse(&server.connect().words("COMMAND DOCS"));
        let mut found = BTreeMap::new();
        note_standing(children(&reply), &mut found);
        found
    });
    assert!(redis.values().filter(|standing| !standing.is_empty()).count() > 20);
    for (name, standing) in &ours {
        assert!(
            redis.get(name).is_none_or(|other| other == standing),
            "{name}: {standing:?}"
        );
    }
}

/// Flags, and since when they are deprecated, of commands by name; and of their subcommands.
fn note_standing(commands: &[Value], found: &mut BTreeMap<String, Vec<String>>) {
    for command in commands.chunks(2) {
        let mut standing = Vec::new();
        for fact in children(&command[1]).chunks(2) {
            match text(&fact[0]).as_str() {
                "doc_flags" | "deprecated_since" => standing.push(show(&fact[1])),
                "subcommands" => note_standing(children(&fact[1]), found),
                _ => {}
            }
        }
        found.insert(text(&command[0]), standing);
    }
}
