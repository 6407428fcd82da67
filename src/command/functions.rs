//! FUNCTION, FCALL and FCALL_RO: functions that are kept by the server.
//!
//! Libraries are kept across restarts in a file of the data folder, `functions.dump`: a line with the version of its
//! form, and the payload that `FUNCTION DUMP` gives. It is written anew with every change, aside, and then takes the
//! place of the old one; the change is in force only then.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::execute::Executor;
use super::glob;
use super::help;
use super::scripting::{ScriptCall, caller, end_running, permit};
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use crate::keyspace::load::may_wait;
use crate::net::session::Session;
use crate::object::codec;
use crate::resp::Reply;
use crate::script::functions;
use crate::script::library::{FunctionInfo, Library, Shelf, Source};
use crate::script::source::flag as script_flag;
use crate::server::{FUNCTIONS_FILE, REDIS_VERSION, Server};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

/// The libraries of a data folder, and the first line of that file.
const FORM: &[u8] = b"terrace functions 1\n";

const CHANGE: u32 = WRITE | NOSCRIPT;
const NODES: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

pub static COMMANDS: &[Spec] = &[
    caller("fcall", "7.0.0", false, |executor, args, session, reply| {
        fcall(executor, args, session, reply, false)
    })
    .doc(
        "function numkeys [key [key ...]] [arg [arg ...]]",
        "That of the function",
        "Runs a function.",
    ),
    caller("fcall_ro", "7.0.0", true, |executor, args, session, reply| {
        fcall(executor, args, session, reply, true)
    })
    .doc(
        "function numkeys [key [key ...]] [arg [arg ...]]",
        "That of the function",
        "Runs a function that may not write.",
    ),
    Spec::new("function", -2, 0, 0, Handler::Container)
        .group("scripting", "7.0.0")
        .doc("", "Depends on subcommand.", "Commands about functions.")
        .subcommands(&[
            sub("load", -3, CHANGE | DENYOOM, load)
                .doc(
                    "[REPLACE] function-code",
                    "That of the library's text",
                    "Loads a library of functions.",
                )
                .tips(NODES),
            sub("delete", 3, CHANGE, delete)
                .doc("library-name", "O(1)", "Forgets a library and its functions.")
                .tips(NODES),
            sub("flush", -2, CHANGE, flush)
                .doc("[ASYNC | SYNC]", "O(N) for N functions", "Forgets all libraries.")
                .tips(NODES),
            sub("list", -2, NOSCRIPT, list)
                .doc(
                    "[LIBRARYNAME library-name-pattern] [WITHCODE]",
                    "O(N) for N functions",
                    "Returns what is known of libraries and their functions.",
                )
                .tips(&["nondeterministic_output_order"]),
            sub("dump", 2, NOSCRIPT, dump).doc(
                "",
                "O(N) for N functions",
                "Returns all libraries as a payload for FUNCTION RESTORE.",
            ),
            sub("restore", -3, CHANGE | DENYOOM, restore)
                .doc(
                    "serialized-value [FLUSH | APPEND | REPLACE]",
                    "O(N) for N functions of the payload",
                    "Loads the libraries of a payload, all of them or none.",
                )
                .tips(NODES),
            sub("stats", 2, NOSCRIPT | ALLOW_BUSY, stats)
                .doc(
                    "",
                    "O(1)",
                    "Returns which function has been running for a while, and how many there are.",
                )
                .tips(&[
                    "nondeterministic_output",
                    "request_policy:all_shards",
                    "response_policy:special",
                ]),
            sub("kill", 2, NOSCRIPT | ALLOW_BUSY, kill)
                .doc(
                    "",
                    "O(1)",
                    "Ends the functions that run, unless they have written.",
                )
                .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
            sub("help", 2, LOADING | STALE, show_help).doc("", "O(1)", "Lists the subcommands."),
        ]),
];

const fn sub(
    name: &'static str,
    arity: i32,
    flags: u32,
    handler: fn(&Args<'_>, &mut Context<'_>) -> Outcome,
) -> Spec {
    Spec::new(name, arity, flags, acl::SCRIPTING, Handler::Admin(handler)).group("scripting", "7.0.0")
}

fn fcall(
    executor: &mut Executor,
    args: &Args<'_>,
    session: &mut Session,
    reply: &mut Reply,
    read_only: bool,
) -> Outcome {
    let found = executor.server.libraries.find(&args[1]);
    let found = found.ok_or_else(|| Error::new("ERR Function not found"))?;
    let (keys, rest) = super::scripting::split(args).map_err(|error| match error {
        Error::NotInteger => Error::new("ERR Bad number of keys provided"),
        other => other,
    })?;
    let info = found.info();
    let full = executor.is_full(keys);
    let call = ScriptCall {
        name: &info.name,
        is_function: true,
        permit: permit(Some(info.flags), read_only, full)?,
        keys,
        reaches: info.reaches.load(Relaxed),
    };
    let ran = executor.run_in_host(args, &call, session, reply, |reply| {
        functions::call(REDIS_VERSION, &found, (keys, rest), reply)
    });
    if ran? {
        info.reaches.store(true, Relaxed);
    }
    Ok(())
}

/// Changes the libraries; what results is in the file before it is in force.
fn change(server: &Server, change: impl FnOnce(&mut Shelf) -> Result<(), String>) -> Result<(), Error> {
    let dir = server.config.load().dir.clone();
    let keep = |shelf: &Shelf| {
        may_wait(|| write_file(&dir, shelf))
            .map_err(|error| format!("ERR the libraries could not be kept: {error}"))
    };
    server.libraries.change(change, keep).map_err(Error::new)
}

fn payload(shelf: &Shelf) -> Vec<u8> {
    codec::dump_libraries(shelf.libraries.values().map(|library| &*library.source.code))
}

fn write_file(dir: &Path, shelf: &Shelf) -> io::Result<()> {
    let (path, aside) = (
        dir.join(FUNCTIONS_FILE),
        dir.join(format!("{FUNCTIONS_FILE}.new")),
    );
    let mut file = File::create(&aside)?;
    file.write_all(&[FORM, &payload(shelf)].concat())?;
    // A crash before this leaves the old file; one after it, the new one, whole.
    file.sync_all()?;
    std::fs::rename(&aside, &path)?;
    File::open(dir)?.sync_all()
}

/// The libraries that a data folder keeps; called before the server serves.
pub fn read_file(server: &Server) -> Result<(), String> {
    let path = server.config.load().dir.join(FUNCTIONS_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let why = |why: String| format!("{}: {why}", path.display());
    let payload = bytes.strip_prefix(FORM);
    let payload =
        payload.ok_or_else(|| why("this is not a file of libraries, or of a later version".into()))?;
    let texts = codec::restore_libraries(payload).map_err(|error| why(error.to_string()))?;
    let learned = learn_all(&texts).map_err(why)?;
    server
        .libraries
        .change(|shelf| add_all(shelf, learned, false), |_| Ok(()))
}

/// Takes in the libraries of a file of keys, in place of those of the same names.
pub fn take_in(server: &Server, texts: &[Vec<u8>]) -> Result<(), String> {
    if texts.is_empty() {
        return Ok(());
    }
    let learned = learn_all(texts)?;
    change(server, |shelf| add_all(shelf, learned, true)).map_err(|error| error.to_string())
}

fn learn(text: &[u8]) -> Result<Library, String> {
    functions::learn(REDIS_VERSION, Source::new(text)?)
}

fn learn_all(texts: &[Vec<u8>]) -> Result<Vec<Library>, String> {
    texts.iter().map(|text| learn(text)).collect()
}

fn add_all(shelf: &mut Shelf, libraries: Vec<Library>, replace: bool) -> Result<(), String> {
    libraries
        .into_iter()
        .try_for_each(|library| shelf.add(library, replace))
}

fn load(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let mut replace = false;
    // proof: the arity says that there is a last argument behind these.
    for at in 2..args.len() - 1 {
        if !args.is(at, "replace") {
            let option = String::from_utf8_lossy(&args[at]).into_owned();
            return Err(Error::new(format!("ERR Unknown option given: {option}")));
        }
        replace = true;
    }
    let source = Source::new(&args[args.len() - 1]).map_err(Error::new)?;
    let name = source.name.clone();
    if !replace && context.server.libraries.shelf().libraries.contains_key(&name) {
        return Err(Error::new(format!("ERR Library '{name}' already exists")));
    }
    let library = functions::learn(REDIS_VERSION, source).map_err(Error::new)?;
    change(context.server, |shelf| shelf.add(library, replace))?;
    context.reply.bulk(name.as_bytes());
    Ok(())
}

fn delete(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let name = String::from_utf8_lossy(&args[2]).into_owned();
    change(context.server, |shelf| match shelf.remove(&name) {
        true => Ok(()),
        false => Err("ERR Library not found".into()),
    })?;
    context.reply.ok();
    Ok(())
}

fn flush(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if args.len() > 3 {
        return Err(help::wrong_arguments(args));
    }
    if args.len() == 3 && !args.is(2, "sync") && !args.is(2, "async") {
        return Err(Error::new("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    change(context.server, |shelf| {
        *shelf = Shelf::default();
        Ok(())
    })?;
    context.reply.ok();
    Ok(())
}

fn list(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let (mut pattern, mut with_code) = (None, false);
    let mut words = args.options(2);
    while let Some(word) = words.next_word() {
        if !with_code && word.eq_ignore_ascii_case(b"withcode") {
            with_code = true;
        } else if pattern.is_none() && word.eq_ignore_ascii_case(b"libraryname") {
            let name = words.next_word();
            pattern = Some(name.ok_or_else(|| Error::new("ERR library name argument was not given"))?);
        } else {
            let word = String::from_utf8_lossy(word).into_owned();
            return Err(Error::new(format!("ERR Unknown argument {word}")));
        }
    }
    let shelf = context.server.libraries.shelf();
    let fits = |library: &&std::sync::Arc<Library>| {
        let name = library.source.name.as_bytes();
        pattern.is_none_or(|pattern| glob::matches(&pattern.to_ascii_lowercase(), &name.to_ascii_lowercase()))
    };
    let libraries: Vec<_> = shelf.libraries.values().filter(fits).collect();
    let reply = &mut *context.reply;
    reply.array(libraries.len());
    for library in libraries {
        reply.map(if with_code { 4 } else { 3 });
        reply.bulk(b"library_name");
        reply.bulk(library.source.name.as_bytes());
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        library
            .functions
            .iter()
            .for_each(|info| show_function(reply, info));
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.source.code);
        }
    }
    Ok(())
}

fn show_function(reply: &mut Reply, info: &FunctionInfo) {
    reply.map(3);
    reply.bulk(b"name");
    reply.bulk(info.name.as_bytes());
    reply.bulk(b"description");
    match &info.description {
        Some(text) => reply.bulk(text),
        None => reply.null(),
    }
    reply.bulk(b"flags");
    let flags = script_flag::NAMES
        .iter()
        .filter(|(flag, _)| info.flags & flag != 0);
    reply.set(flags.clone().count());
    flags.for_each(|(_, name)| reply.simple(name));
}

fn dump(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let shelf = context.server.libraries.shelf();
    context.reply.bulk(&payload(&shelf));
    Ok(())
}

fn restore(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if args.len() > 4 {
        return Err(help::wrong_arguments(args));
    }
    let (flush, replace) = match args.len() {
        4 if args.is(3, "flush") => (true, false),
        4 if args.is(3, "replace") => (false, true),
        4 if !args.is(3, "append") => {
            return Err(Error::new(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
        _ => (false, false),
    };
    let texts = codec::restore_libraries(&args[2])
        .map_err(|_| Error::new("ERR DUMP payload version or checksum are wrong"))?;
    let libraries = learn_all(&texts).map_err(Error::new)?;
    change(context.server, |shelf| {
        if flush {
            *shelf = Shelf::default();
        }
        let known = |library: &&Library| shelf.libraries.contains_key(&library.source.name);
        if let Some(library) = libraries.iter().find(known).filter(|_| !replace) {
            return Err(format!("ERR Library {} already exists", library.source.name));
        }
        add_all(shelf, libraries, replace)
    })?;
    context.reply.ok();
    Ok(())
}

fn stats(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let server = context.server;
    let running = server.running.oldest_function();
    let reply = &mut *context.reply;
    reply.map(2);
    reply.bulk(b"running_script");
    match running {
        None => reply.null(),
        Some(running) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(running.name.as_bytes());
            reply.bulk(b"command");
            reply.array(running.words.len());
            running.words.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.int(running.began.elapsed().as_millis() as i64);
        }
    }
    let shelf = server.libraries.shelf();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.int(shelf.libraries.len() as i64);
    reply.bulk(b"functions_count");
    reply.int(shelf.functions() as i64);
    Ok(())
}

fn kill(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    end_running(context, true)
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::show(
        context,
        "FUNCTION",
        &[
            (
                "LOAD [REPLACE] <FUNCTION CODE>",
                &["Loads a library; with REPLACE in the place of one of its name."],
            ),
            ("DELETE <LIBRARY NAME>", &["Forgets a library."]),
            (
                "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
                &["What is known of libraries, with their texts if wanted."],
            ),
            (
                "STATS",
                &["The function that has been running for a while, and how many there are."],
            ),
            (
                "KILL",
                &["Ends the functions that run, unless they have written."],
            ),
            (
                "FLUSH [ASYNC|SYNC]",
                &["Forgets all libraries; both words mean the same."],
            ),
            ("DUMP", &["All libraries as a payload."]),
            (
                "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
                &[
                    "Loads the libraries of a payload. What is there already is forgotten (FLUSH),",
                    "in the way (APPEND, the default), or replaced (REPLACE).",
                ],
            ),
        ],
    );
    Ok(())
}
