//! EVAL and its like, SCRIPT: scripts in Lua.
//!
//! A script runs as a transaction does: the shards of the keys that it declares are held throughout, its commands go
//! through the pipeline of all commands, and what they change is one record of the journal. `script_host` is what a
//! script runs in; it says what becomes of keys that were not declared.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::execute::Executor;
use super::help;
use super::script_host::{Permit, ScriptHost};
use super::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, keynum};
use super::table::Command;
use crate::keyspace::load::may_wait;
use crate::net::session::Session;
use crate::resp::Reply;
use crate::script::convert::Failure;
use crate::script::running::NotKilled;
use crate::script::source::{Script, flag as script_flag};
use crate::script::{engine, run};
use crate::server::REDIS_VERSION;
use smallvec::SmallVec;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const CALL: u32 = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS;
const HASH_LEN: usize = 40;

pub(super) const KEYS: &[KeySpec] = &[keynum(2, 0, 1, "RW ACCESS UPDATE")];
pub(super) const KEYS_RO: &[KeySpec] = &[keynum(2, 0, 1, "RO ACCESS")];

/// A row of a command that runs a script or a function.
pub(super) const fn caller(
    name: &'static str,
    since: &'static str,
    read_only: bool,
    handler: fn(&mut Executor, &Args<'_>, &mut Session, &mut Reply) -> Outcome,
) -> Spec {
    let (flags, keys) = if read_only {
        (CALL | READONLY, KEYS_RO)
    } else {
        (CALL, KEYS)
    };
    Spec::new(name, -3, flags, acl::SCRIPTING, Handler::Script(handler))
        .keys(keys)
        .group("scripting", since)
}

pub static COMMANDS: &[Spec] = &[
    caller("eval", "2.6.0", false, |executor, args, session, reply| {
        eval(executor, args, session, reply, false)
    })
    .doc(
        "script numkeys [key [key ...]] [arg [arg ...]]",
        "That of the script",
        "Runs a Lua script.",
    ),
    caller("eval_ro", "7.0.0", true, |executor, args, session, reply| {
        eval(executor, args, session, reply, true)
    })
    .doc(
        "script numkeys [key [key ...]] [arg [arg ...]]",
        "That of the script",
        "Runs a Lua script that may not write.",
    ),
    caller("evalsha", "2.6.0", false, |executor, args, session, reply| {
        evalsha(executor, args, session, reply, false)
    })
    .doc(
        "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        "That of the script",
        "Runs a Lua script that the server knows, by its hash.",
    ),
    caller("evalsha_ro", "7.0.0", true, |executor, args, session, reply| {
        evalsha(executor, args, session, reply, true)
    })
    .doc(
        "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        "That of the script",
        "Runs a Lua script that the server knows, by its hash; it may not write.",
    ),
    Spec::new("script", -2, 0, 0, Handler::Container)
        .group("scripting", "2.6.0")
        .doc("", "Depends on subcommand.", "Commands about scripts.")
        .subcommands(&[
            sub("load", 3, NOSCRIPT | STALE, load, "2.6.0")
                .doc(
                    "script",
                    "O(N) for N bytes of the script",
                    "Makes a script known without running it, and returns its hash.",
                )
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            sub("exists", -3, NOSCRIPT, exists, "2.6.0")
                .doc(
                    "sha1 [sha1 ...]",
                    "O(N) for N hashes",
                    "Says of hashes whether their scripts are known.",
                )
                .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"]),
            sub("flush", -2, NOSCRIPT, flush, "2.6.0")
                .doc(
                    "[ASYNC | SYNC]",
                    "O(N) for N known scripts",
                    "Forgets all scripts.",
                )
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            sub("kill", 2, NOSCRIPT | ALLOW_BUSY, kill, "2.6.0")
                .doc("", "O(1)", "Ends the scripts that run, unless they have written.")
                .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
            sub("debug", 3, NOSCRIPT, debug, "3.2.0").doc(
                "<YES | SYNC | NO>",
                "O(1)",
                "Is there for clients that turn the debugger off; there is none.",
            ),
            sub("help", 2, LOADING | STALE, show_help, "5.0.0").doc("", "O(1)", "Lists the subcommands."),
        ]),
];

const fn sub(
    name: &'static str,
    arity: i32,
    flags: u32,
    handler: fn(&Args<'_>, &mut Context<'_>) -> Outcome,
    since: &'static str,
) -> Spec {
    Spec::new(name, arity, flags, acl::SCRIPTING, Handler::Admin(handler)).group("scripting", since)
}

/// A script or function about to run.
pub(super) struct ScriptCall<'a> {
    /// What an error names: the hash, or the function.
    pub name: &'a str,
    pub is_function: bool,
    pub permit: Permit,
    pub keys: &'a [&'a [u8]],
    /// It has needed the right to reach before.
    pub reaches: bool,
}

type Words<'a> = &'a [&'a [u8]];

/// The keys and the other arguments of a call.
pub(super) fn split<'a>(args: &Args<'a>) -> Result<(Words<'a>, Words<'a>), Error> {
    let count = args.int(2)?;
    let rest = args.rest(3);
    if count < 0 {
        return Err(Error::new("ERR Number of keys can't be negative"));
    }
    match usize::try_from(count).ok().filter(|count| *count <= rest.len()) {
        Some(count) => Ok(rest.split_at(count)),
        None => Err(Error::new(
            "ERR Number of keys can't be greater than number of args",
        )),
    }
}

fn eval(
    executor: &mut Executor,
    args: &Args<'_>,
    session: &mut Session,
    reply: &mut Reply,
    read_only: bool,
) -> Outcome {
    let keys = split(args)?;
    let known = executor
        .server
        .scripts
        .find(crate::script::api::sha1_hex(&args[1]).as_bytes());
    let script = match known {
        Some(script) => script,
        None => learn(executor, &args[1])?,
    };
    run_script(executor, args, &script, keys, (session, reply), read_only)
}

fn evalsha(
    executor: &mut Executor,
    args: &Args<'_>,
    session: &mut Session,
    reply: &mut Reply,
    read_only: bool,
) -> Outcome {
    let unknown = || Error::new("NOSCRIPT No matching script. Please use EVAL.");
    if args[1].len() != HASH_LEN {
        return Err(unknown());
    }
    let keys = split(args)?;
    let script = executor.known_script(&args[1]).ok_or_else(unknown)?;
    run_script(executor, args, &script, keys, (session, reply), read_only)
}

/// Compiles a script and keeps it.
fn learn(executor: &Executor, text: &[u8]) -> Result<Arc<Script>, Error> {
    compile(&executor.server.scripts, text)
}

fn compile(scripts: &crate::script::catalog::Catalog, text: &[u8]) -> Result<Arc<Script>, Error> {
    let script = Script::new(text).map_err(Error::new)?;
    engine::check(REDIS_VERSION, scripts.generation(), &script)
        .map_err(|why| Error::new(format!("ERR Error compiling script (new function): {why}")))?;
    Ok(scripts.add(script))
}

fn run_script(
    executor: &mut Executor,
    args: &Args<'_>,
    script: &Arc<Script>,
    (keys, rest): (&[&[u8]], &[&[u8]]),
    (session, reply): (&mut Session, &mut Reply),
    read_only: bool,
) -> Outcome {
    let full = executor.is_full(keys);
    let permit = permit(script.flags, read_only, full)?;
    let call = ScriptCall {
        name: &script.sha,
        is_function: false,
        permit,
        keys,
        reaches: script.reaches.load(Relaxed),
    };
    let generation = executor.server.scripts.generation();
    let ran = executor.run_in_host(args, &call, session, reply, |reply| {
        engine::run((REDIS_VERSION, generation), script, (keys, rest), reply)
    });
    if ran? {
        script.reaches.store(true, Relaxed);
    }
    Ok(())
}

/// What a script of these flags may do, called in this way; none for flags is a script of the old kind.
pub(super) fn permit(flags: Option<u8>, read_only: bool, full: bool) -> Result<Permit, Error> {
    let has = |flag| flags.is_some_and(|flags| flags & flag != 0);
    if flags.is_some() && read_only && !has(script_flag::NO_WRITES) {
        return Err(Error::new(
            "ERR Can not execute a script with write flag using *_ro command.",
        ));
    }
    let any_memory = has(script_flag::ALLOW_OOM | script_flag::NO_WRITES);
    if flags.is_some() && full && !any_memory {
        return Err(Error::OutOfMemory);
    }
    Ok(Permit {
        read_only: read_only || has(script_flag::NO_WRITES),
        full: full && !any_memory,
    })
}

impl Executor {
    /// A pause of writes lets a script run that has said that it does not write.
    pub(super) fn runs_in_pause(&self, spec: &Command, args: &Args<'_>) -> bool {
        if self.server.pause.holds(false, self.now_ms) || args.len() < 2 {
            return false;
        }
        let (scripts, libraries) = (&self.server.scripts, &self.server.libraries);
        let only_reads = |script: &Script| script.has(script_flag::NO_WRITES);
        match spec.full_name.as_str() {
            "eval" => Script::new(&args[1]).is_ok_and(|script| only_reads(&script)),
            "evalsha" => scripts.find(&args[1]).is_some_and(|script| only_reads(&script)),
            "fcall" => libraries
                .find(&args[1])
                .is_some_and(|function| function.info().flags & script_flag::NO_WRITES != 0),
            _ => false,
        }
    }

    /// A script by its hash; mostly the one that this connection called last.
    fn known_script(&mut self, sha: &[u8]) -> Option<Arc<Script>> {
        let generation = self.server.scripts.generation();
        if let Some((known_at, script)) = &self.last_script
            && *known_at == generation
            && script.sha.as_bytes() == sha
        {
            return Some(script.clone());
        }
        let script = self.server.scripts.find(sha)?;
        self.last_script = Some((generation, script.clone()));
        Some(script)
    }

    /// Runs a script or function under the locks of its keys, again if it has to be, and appends its reply. True when it
    /// needed the right to reach for good.
    pub(super) fn run_in_host(
        &mut self,
        args: &Args<'_>,
        call: &ScriptCall<'_>,
        session: &mut Session,
        reply: &mut Reply,
        start: impl Fn(&mut Reply) -> Result<(), Failure>,
    ) -> Result<bool, Error> {
        let server = self.server.clone();
        if server.monitors.any() {
            server.monitors.feed(args, session);
        }
        let mut host = match self.script.take() {
            Some(host) => host,
            None => Box::new(ScriptHost::new(&server, session)),
        };
        host.prepare(args, call, session, self.moment());
        let inside = self.effects.is_grouped();
        let mut reaches = inside || call.reaches;
        let begin = reply.len();
        let outcome = loop {
            reply.truncate(begin);
            if reaches
                && !inside
                && server.running.any()
                && let Some(running) = server.running.holder(&[], true)
            {
                // It may have the right to reach, or hold what this one reaches for.
                host.give_back(session);
                self.script = Some(host);
                return Err(self.busy(&running));
            }
            let right = (reaches && !inside).then(|| server.keyspace.reach());
            let group = if inside {
                None
            } else {
                let declared = call.keys.iter().map(|key| (session.db, *key));
                let learned = host.wanted().iter().map(|(db, key)| (*db, key.as_slice()));
                let keys: SmallVec<[(u8, &[u8]); 8]> = declared.chain(learned).collect();
                let held = server.keyspace.hold(&keys, false, self.now_ms);
                drop(keys);
                match held {
                    Ok(group) => Some(group),
                    Err(error) => {
                        host.give_back(session);
                        self.script = Some(host);
                        return Err(error.into());
                    }
                }
            };
            host.begin(reaches, &mut self.effects);
            let (back, outcome) = run::with_host(host, || start(reply));
            host = ScriptHost::back(back).unwrap_or_else(|| Box::new(ScriptHost::new(&server, session)));
            let undone = host.end(&mut self.effects, !inside);
            if let Some(group) = group {
                self.gate = self.gate.max(group.commit(&mut self.effects));
            }
            drop(right);
            if !undone {
                break outcome;
            }
            reaches = true;
        };
        session.client.db.store(session.db, Relaxed);
        host.give_back(session);
        if !inside && server.blocked.any() {
            let keys = host.written().iter().map(|(db, key)| (*db, key.as_slice()));
            server
                .blocked
                .serve(&server.keyspace, &mut self.effects, keys, self.now_ms);
        }
        let for_good = host.needs_right() && !inside;
        let killed = host.is_killed();
        let panic = host.take_panic();
        self.script = Some(host);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        if let Err(failure) = outcome {
            reply.truncate(begin);
            return Err(explain(failure, call.name, killed));
        }
        if let [b'-', text @ .., b'\r', b'\n'] = &reply.as_slice()[begin..] {
            let error = Error::Script {
                text: text.to_vec(),
                counted: run::is_counted(),
            };
            reply.truncate(begin);
            return Err(error);
        }
        Ok(for_good)
    }

    /// True when there is no room for more, and none could be made.
    pub(super) fn is_full(&self, keys: &[&[u8]]) -> bool {
        self.server.keyspace.is_over_limit() && !self.make_room(&mut keys.iter().copied())
    }
}

/// The error of a script as its client sees it.
fn explain(failure: Failure, name: &str, killed: bool) -> Error {
    let mut text = if killed {
        b"ERR Script killed by user with SCRIPT KILL...".to_vec()
    } else {
        failure.text
    };
    text.extend_from_slice(format!(" script: {name}").as_bytes());
    if let Some((source, line)) = failure.place {
        text.extend_from_slice(b", on ");
        text.extend_from_slice(&source);
        text.extend_from_slice(format!(":{line}").as_bytes());
    }
    text.push(b'.');
    Error::Script {
        text,
        counted: failure.counted,
    }
}

fn load(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let script = compile(&context.server.scripts, &args[2])?;
    context.reply.bulk(script.sha.as_bytes());
    Ok(())
}

fn exists(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.reply.array(args.len() - 2);
    for sha in args.rest(2) {
        let known = context.server.scripts.find(sha).is_some();
        context.reply.int(known.into());
    }
    Ok(())
}

fn flush(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if args.len() > 3 || args.len() == 3 && !args.is(2, "sync") && !args.is(2, "async") {
        return Err(Error::new("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    context.server.scripts.clear();
    context.reply.ok();
    Ok(())
}

fn kill(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    end_running(context, false)
}

pub(super) fn end_running(context: &mut Context<'_>, functions: bool) -> Outcome {
    match context.server.running.kill(functions) {
        Ok(()) => {
            context.reply.ok();
            Ok(())
        }
        Err(NotKilled::NoneRuns) => Err(Error::new("NOTBUSY No scripts in execution right now.")),
        Err(NotKilled::OfTheOtherKind) => Err(busy(!functions)),
        Err(NotKilled::Wrote) => Err(Error::new(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        )),
    }
}

/// What is told to those who would have to wait too long for a script or function.
pub(super) fn busy(by_function: bool) -> Error {
    Error::new(if by_function {
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
    } else {
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    })
}

fn debug(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if args.is(2, "no") {
        context.reply.ok();
        return Ok(());
    }
    if args.is(2, "yes") || args.is(2, "sync") {
        return Err(Error::new("ERR the Lua debugger is not available"));
    }
    Err(Error::new("ERR Use SCRIPT DEBUG YES/SYNC/NO"))
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::show(
        context,
        "SCRIPT",
        &[
            (
                "DEBUG (YES|SYNC|NO)",
                &["There is no debugger; NO is accepted, for clients that say so."],
            ),
            (
                "EXISTS <sha1> [<sha1> ...]",
                &["Whether scripts of these hashes are known."],
            ),
            (
                "FLUSH [ASYNC|SYNC]",
                &["Forgets all scripts; both words mean the same."],
            ),
            ("KILL", &["Ends the scripts that run, unless they have written."]),
            ("LOAD <script>", &["Makes a script known without running it."]),
        ],
    );
    Ok(())
}

/// Hands the thread's other work to another one: what it does may take long.
pub(super) fn let_others_work() {
    may_wait(|| std::thread::sleep(std::time::Duration::from_micros(50)));
}
