//! MULTI, EXEC, DISCARD, WATCH and UNWATCH: commands that are queued, and then run as one.
//!
//! EXEC locks the shards of all keys that its commands declare, and runs one command after the other while it holds them (`keyspace::held`); nobody else's command on these keys comes in between, and commands on
//! other keys go on. A command that may reach for any key (`FLUSHALL`, `KEYS`, `SORT … BY`) makes it lock every shard.
//! What the commands change in durable ranges is one record of the journal.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::execute::Executor;
use super::permission;
use super::spec::{Handler, Outcome, Spec, acl, flag::*, keys};
use super::table::Command;
use crate::acl::log::Place;
use crate::config::Config;
use crate::keyspace::held::Group;
use crate::keyspace::range::DBS;
use crate::keyspace::{Call, Effects, Elements};
use crate::net::session::Session;
use crate::pubsub::watching::Watching;
use crate::resp::Reply;
use crate::server::Server;
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::Relaxed;

const ANY_TIME: u32 = NOSCRIPT | LOADING | STALE;

pub static COMMANDS: &[Spec] = &[
    Spec::new(
        "multi",
        1,
        ANY_TIME | FAST | ALLOW_BUSY,
        acl::TRANSACTION,
        Handler::Session(multi),
    )
    .group("transactions", "1.2.0")
    .doc(
        "",
        "O(1)",
        "Begins a transaction: commands are queued until EXEC runs them as one.",
    ),
    Spec::new(
        "exec",
        1,
        ANY_TIME | SKIP_SLOWLOG,
        acl::TRANSACTION,
        Handler::Exec,
    )
    .group("transactions", "1.2.0")
    .doc(
        "",
        "That of the queued commands",
        "Runs the queued commands as one, and returns the reply of each.",
    ),
    Spec::new(
        "discard",
        1,
        ANY_TIME | FAST | ALLOW_BUSY,
        acl::TRANSACTION,
        Handler::Admin(discard),
    )
    .group("transactions", "2.0.0")
    .doc(
        "",
        "O(N) for N queued commands",
        "Forgets the queued commands and ends the transaction.",
    ),
    Spec::new(
        "watch",
        -2,
        ANY_TIME | FAST | ALLOW_BUSY,
        acl::TRANSACTION,
        Handler::Admin(watch),
    )
    .keys(&[keys(1, 1, "RO")])
    .group("transactions", "2.2.0")
    .doc(
        "key [key ...]",
        "O(1) for each key",
        "Lets the next transaction run only if these keys have not changed by then.",
    ),
    Spec::new(
        "unwatch",
        1,
        ANY_TIME | FAST | ALLOW_BUSY,
        acl::TRANSACTION,
        Handler::Admin(unwatch),
    )
    .group("transactions", "2.2.0")
    .doc("", "O(N) for N watched keys", "Watches no keys any more."),
];

/// The queue of one connection.
#[derive(Default)]
pub struct Transaction {
    queued: Vec<Queued>,
    /// A command could not be queued: EXEC will refuse.
    aborted: bool,
    bytes: usize,
}

struct Queued {
    command: &'static Command,
    words: Vec<Vec<u8>>,
}

impl Queued {
    fn writes(&self) -> bool {
        let is_script = matches!(self.command.handler, Handler::Script(_));
        self.command.has(WRITE) || is_script && !self.command.has(READONLY)
    }

    fn with_args<R>(&self, run: impl FnOnce(&Args<'_>) -> R) -> R {
        let words: SmallVec<[&[u8]; 8]> = self.words.iter().map(Vec::as_slice).collect();
        run(&Args::new(&words))
    }
}

impl Transaction {
    /// Queues a command, or says why it can be no part of a transaction.
    pub fn add(&mut self, command: &'static Command, args: &Args<'_>, config: &Config) -> Result<(), Error> {
        if command.has(NO_MULTI) {
            return Err(Error::new("ERR Command not allowed inside a transaction"));
        }
        self.bytes += args.all().iter().map(|word| word.len()).sum::<usize>();
        let most = config.client_query_buffer_limit as usize;
        if most > 0 && self.bytes > most {
            return Err(Error::new(
                "ERR the transaction exceeds client-query-buffer-limit",
            ));
        }
        self.queued.push(Queued {
            command,
            words: args.all().iter().map(|word| word.to_vec()).collect(),
        });
        Ok(())
    }

    /// True when a queued command is a script, which may reach for keys that it does not declare.
    fn has_scripts(&self) -> bool {
        let is_script = |queued: &Queued| matches!(queued.command.handler, Handler::Script(_));
        self.queued.iter().any(is_script)
    }

    /// True when a queued command changes the configuration, and with it what ranges inherit.
    fn changes_config(&self) -> bool {
        let changes = |queued: &Queued| queued.command.full_name == "config|set";
        self.queued.iter().any(changes)
    }

    /// Commands so far.
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// A close estimate of the bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes + self.queued.len() * (size_of::<Queued>() + 2 * size_of::<Vec<u8>>())
    }

    /// The keys of all commands, with the logical databases that they will run in; and whether some command may reach
    /// for others.
    fn keys(&self, mut db: u8) -> (Vec<(u8, &[u8])>, bool) {
        let (mut keys, mut all) = (Vec::new(), false);
        for queued in &self.queued {
            let Queued { command, words } = queued;
            all |= matches!(command.handler, Handler::Admin(_)) && command.name != "select";
            let positions = queued.with_args(|args| command.key_positions(args));
            keys.extend(positions.into_iter().map(|at| (db, words[at].as_slice())));
            if command.name == "select" {
                db = queued.with_args(selected).unwrap_or(db);
            }
        }
        (keys, all)
    }
}

/// The database that a SELECT will go to, if it is one that can be.
fn selected(args: &Args<'_>) -> Option<u8> {
    let db = args.int(1).ok().and_then(|db| u8::try_from(db).ok())?;
    (usize::from(db) < DBS).then_some(db)
}

pub fn is_exec(command: &Command) -> bool {
    matches!(command.handler, Handler::Exec)
}

/// The commands that a transaction does not queue.
pub fn runs_at_once(command: &Command) -> bool {
    let at_once = ["multi", "discard", "watch", "quit", "reset"];
    is_exec(command) || at_once.contains(&command.full_name.as_str())
}

/// True when the queued commands may change something.
pub fn writes(session: &Session) -> bool {
    let queue = session.transaction.as_ref();
    queue.is_some_and(|queue| queue.queued.iter().any(Queued::writes))
}

/// The keys of all queued commands, with their logical databases; and whether some command may reach for others.
pub fn queued_keys(session: &Session) -> (Vec<(u8, &[u8])>, bool) {
    let queue = session.transaction.as_ref();
    queue.map_or_else(Default::default, |queue| queue.keys(session.db))
}

/// A command has been refused before it ran: a transaction that it would have been part of is lost, and one that it
/// would have ended is over. Returns the error as the client is to see it.
pub fn rejected(command: Option<&Command>, error: Error, server: &Server, session: &mut Session) -> Error {
    if command.is_some_and(is_exec) {
        session.leave_transaction();
        end_watching(server, session);
        return discarded_because(error);
    }
    if let Some(queue) = &mut session.transaction {
        queue.aborted = true;
    }
    error
}

fn multi(_: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    if session.transaction.is_some() {
        return Err(Error::new("ERR MULTI calls can not be nested"));
    }
    session.enter_transaction();
    reply.ok();
    Ok(())
}

fn discard(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if context.session.leave_transaction().is_none() {
        return Err(Error::new("ERR DISCARD without MULTI"));
    }
    end_watching(context.server, context.session);
    context.reply.ok();
    Ok(())
}

fn watch(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if context.session.transaction.is_some() {
        return Err(Error::new("ERR WATCH inside MULTI is not allowed"));
    }
    let (server, db) = (context.server, context.session.db);
    // What has expired goes now: it is not a change that comes later.
    see(server, context.effects, (db, args.rest(1)), context.now_ms)?;
    let client = &context.session.client;
    let own = context
        .session
        .watching
        .get_or_insert_with(|| server.pubsub.begin_watching(client));
    for key in args.rest(1) {
        server.pubsub.watch(&server.keyspace, own, db, key);
    }
    context.reply.ok();
    Ok(())
}

fn unwatch(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    end_watching(context.server, context.session);
    context.reply.ok();
    Ok(())
}

pub fn end_watching(server: &Server, session: &mut Session) {
    if let Some(own) = session.watching.take() {
        server.pubsub.end_watching(&server.keyspace, &own);
    }
}

/// Looks at keys, so that those that have expired are deleted.
fn see(server: &Server, effects: &mut Effects, (db, keys): (u8, &[&[u8]]), now_ms: i64) -> Result<(), Error> {
    let call = Call {
        db,
        now_ms,
        keys,
        received: &[],
        elements: Elements::None,
        replay: None,
    };
    let mut tx = server.keyspace.begin(call, effects)?;
    for key in keys {
        tx.peek(key);
    }
    tx.commit();
    Ok(())
}

impl Executor {
    pub(super) fn exec(&mut self, session: &mut Session, reply: &mut Reply) -> Outcome {
        let Some(queue) = session.leave_transaction() else {
            return Err(Error::new("ERR EXEC without MULTI"));
        };
        let watching = session.watching.take();
        let outcome = self.exec_queue(&queue, watching.as_deref(), session, reply);
        if let Some(own) = watching {
            self.server.pubsub.end_watching(&self.server.keyspace, &own);
        }
        outcome
    }

    fn exec_queue(
        &mut self,
        queue: &Transaction,
        watching: Option<&Watching>,
        session: &mut Session,
        reply: &mut Reply,
    ) -> Outcome {
        if queue.aborted {
            return Err(Error::new(
                "EXECABORT Transaction discarded because of previous errors.",
            ));
        }
        for queued in queue.queued.iter().filter(|queued| queued.command.has(WRITE)) {
            // Before anything is locked: making room may have to wait for a flush.
            queued
                .with_args(|args| self.prepare_write(queued.command, args))
                .map_err(discarded_because)?;
        }
        let server = self.server.clone();
        let mut db = session.db;
        for queued in &queue.queued {
            // Before, too: else they would be read while the shards of all keys are held.
            queued.with_args(|args| self.bring_elements_in(queued.command, args, db))?;
            if queued.command.name == "select" {
                db = queued.with_args(selected).unwrap_or(db);
            }
        }
        let (mut keys, all) = queue.keys(session.db);
        keys.extend(watching.into_iter().flat_map(Watching::keys));
        let scripts = queue.has_scripts();
        let _change = queue.changes_config().then(|| server.begin_config_change());
        // What a script reaches for is added to what is held, if that is not all there is.
        let right = (scripts && !all).then(|| server.keyspace.reach());
        let group = server.keyspace.hold(&keys, all, self.now_ms)?;
        self.run_group(group, queue, watching, session, reply);
        drop(right);
        if server.blocked.any() {
            let (blocked, keyspace) = (&server.blocked, &server.keyspace);
            if all || scripts {
                blocked.serve_all(keyspace, &mut self.effects, self.now_ms);
            } else {
                blocked.serve(keyspace, &mut self.effects, keys.into_iter(), self.now_ms);
            }
        }
        Ok(())
    }

    /// Has the elements of paged collections read that a command touches.
    fn bring_elements_in(&mut self, command: &Command, args: &Args<'_>, db: u8) -> Outcome {
        let keyspace = &self.server.keyspace;
        if command.elements == Elements::None || !keyspace.has_paged() {
            return Ok(());
        }
        let places = command.key_positions(args);
        let keys: Vec<&[u8]> = places.iter().map(|at| &args[*at]).collect();
        let call = Call {
            db,
            now_ms: self.now_ms,
            keys: &keys,
            received: args.all(),
            elements: command.elements,
            replay: None,
        };
        keyspace.begin(call, &mut self.effects)?.commit();
        Ok(())
    }

    /// Runs the commands while their shards are held. What they changed is recorded also if one of them panics.
    fn run_group(
        &mut self,
        group: Group<'_>,
        queue: &Transaction,
        watching: Option<&Watching>,
        session: &mut Session,
        reply: &mut Reply,
    ) {
        self.effects.set_grouped(true);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            if watching.is_some_and(|watching| self.is_broken(watching)) {
                reply.null_array();
                return;
            }
            reply.array(queue.len());
            for queued in &queue.queued {
                queued.with_args(|args| self.run_queued(queued.command, args, session, reply));
            }
            // Within a group nothing waits: what it answered at once stands.
            session.sync_wait = None;
        }));
        self.effects.set_grouped(false);
        self.gate = self.gate.max(group.commit(&mut self.effects));
        if let Err(panic) = ran {
            resume_unwind(panic);
        }
    }

    /// A watched key has changed, or has just expired.
    fn is_broken(&mut self, watching: &Watching) -> bool {
        for (db, key) in watching.keys() {
            // A key that cannot be read has not been seen unchanged.
            if see(&self.server, &mut self.effects, (db, &[key]), self.now_ms).is_err() {
                return true;
            }
        }
        watching.is_broken()
    }

    fn run_queued(
        &mut self,
        command: &'static Command,
        args: &Args<'_>,
        session: &mut Session,
        reply: &mut Reply,
    ) {
        let start = reply.len();
        // Rules may have changed since the command was queued.
        let allowed = session.look_at(&self.server.acl.users).and_then(|()| {
            permission::check(&session.user, command, args).map_err(|denied| {
                permission::note(denied, Place::Multi, (command, args), &self.server, session);
                permission::refusal_by_exec(denied)
            })
        });
        if let Err(error) = allowed {
            self.server.errors.note(&error);
            error.write(reply);
            return;
        }
        let outcome = self.run(command, args, session, reply);
        if self.server.monitors.any() && !command.has(SKIP_MONITOR | ADMIN) {
            self.server.monitors.feed(args, session);
        }
        let failed = outcome.is_err();
        if let Err(error) = outcome {
            reply.truncate(start);
            if !error.is_counted() {
                self.server.errors.note(&error);
            }
            error.write(reply);
        }
        self.note(command, args, session, failed);
        session.client.commands.fetch_add(1, Relaxed);
    }
}

fn discarded_because(error: Error) -> Error {
    let text = error.to_string();
    let why = text.strip_prefix("ERR ").unwrap_or(&text);
    Error::new(format!("EXECABORT Transaction discarded because of: {why}"))
}
