//! What a script runs in: its commands, the keys that it reaches for, and how what it did is undone.
//!
//! ```text
//!  free    holds the shards of the declared keys. A key that was not declared: its shard is taken if nobody holds it.
//!          What is about to be written is copied first, if it is small.
//!             │ a shard is not free; a key is only in the store; a value is large; a command may reach for any key
//!             ▼ all that was written is put back, the locks are dropped, the script begins anew
//!  reach   has the right to reach (`keyspace::held`), which one thread has at a time, and holds the shards of all keys that
//!          are known by now. Whatever else it wants, it waits for. Nothing is copied: it comes to its end.
//! ```
//!
//! So a script never fails for want of a declaration and nobody sees half of one; those that declare their keys and
//! write small values run side by side. A script for which that was not enough begins with the right the next time.

use super::args::Args;
use super::error::Error;
use super::execute::{Executor, Moment, resolve};
use super::permission;
use super::scripting::{ScriptCall, let_others_work};
use super::spec::{Handler, flag};
use super::table::Command;
use crate::acl::log::Place;
use crate::keyspace::effects::EffectsMark;
use crate::keyspace::entry::{self, Value};
use crate::keyspace::{Call, Effects, Elements, Expiry};
use crate::net::session::Session;
use crate::pubsub::channel::Channel;
use crate::resp::Reply;
use crate::script::run::{self, Host};
use crate::script::running::Running;
use crate::server::Server;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Bytes of a value that is copied before it is written; larger ones are written with the right to reach.
const COPIED_MOST: usize = 4 << 10;
/// After so many ticks the thread's other work is handed on again, in case some has come.
const TICKS_BETWEEN_HANDOVERS: u32 = 16;

type Panic = Box<dyn Any + Send>;
type OwnedKey = (u8, Vec<u8>);

/// What a script may do.
#[derive(Clone, Copy, Default)]
pub struct Permit {
    pub read_only: bool,
    /// There is no room for more: commands that need some are refused.
    pub full: bool,
}

/// A value as it was before the script wrote to its key.
struct Saved {
    key: OwnedKey,
    /// With its expiry and the flags of its origin.
    value: Option<(Value, Option<i64>, u8)>,
}

/// What a command has to do with keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Touch {
    Nothing,
    /// Those among its arguments.
    Keys,
    /// Subscribers of a channel, its first argument.
    Channel,
    /// Perhaps any.
    Any,
}

/// Containers and commands that have nothing to do with keys, of those that see the whole server.
const ASIDE: [&str; 18] = [
    "time", "lastsave", "lolwut", "select", "role", "config", "command", "latency", "slowlog", "memory",
    "acl", "client", "auth", "hello", "reset", "script", "wait", "waitaof",
];

pub(super) fn touches(command: &Command, args: &Args<'_>) -> Touch {
    let has_word = |words: &[&str]| (1..args.len()).any(|at| words.iter().any(|word| args.is(at, word)));
    match command.handler {
        Handler::Data(_) | Handler::Script(_) => Touch::Keys,
        Handler::Session(_) | Handler::Container => Touch::Nothing,
        Handler::Exec => Touch::Any,
        Handler::Admin(_) => {
            let container = command.full_name.split('|').next().unwrap_or_default();
            match command.name {
                _ if ASIDE.contains(&container) || container == "function" => Touch::Nothing,
                "copy" if !has_word(&["db"]) => Touch::Keys,
                "sort" | "sort_ro" if !has_word(&["by", "get"]) => Touch::Keys,
                "watch" => Touch::Keys,
                "publish" | "spublish" => Touch::Channel,
                _ => Touch::Any,
            }
        }
    }
}

/// A reading of streams that says that it wants to wait.
fn waits(command: &Command, args: &Args<'_>) -> bool {
    let reads = matches!(command.name, "xread" | "xreadgroup");
    let streams = (1..args.len()).find(|at| args.is(*at, "streams"));
    reads && (1..streams.unwrap_or(args.len())).any(|at| args.is(at, "block"))
}

pub struct ScriptHost {
    executor: Executor,
    session: Session,
    permit: Permit,
    is_function: bool,
    name: String,
    /// The command as received: each word behind its length.
    received: Vec<u8>,
    /// The caller's logical database.
    home_db: u8,
    reaches: bool,
    wrote: bool,
    /// What was put back when it was undone, from the last write to the first.
    saved: Vec<Saved>,
    savepoint: Option<EffectsMark>,
    /// Keys that it reached for and could not have.
    wanted: Vec<OwnedKey>,
    written: Vec<OwnedKey>,
    /// It has to be run again, with the right to reach.
    restarts: bool,
    needs_right: bool,
    ticks: u32,
    running: Option<Arc<Running>>,
    /// A lock only because a panic cannot be shared between threads.
    panic: Mutex<Option<Panic>>,
}

impl ScriptHost {
    pub fn new(server: &Arc<Server>, session: &Session) -> ScriptHost {
        ScriptHost {
            executor: Executor::new(server.clone(), session.client.id),
            session: Session::new(session.client.clone(), &server.acl.users),
            permit: Permit::default(),
            is_function: false,
            name: String::new(),
            received: Vec::new(),
            home_db: 0,
            reaches: false,
            wrote: false,
            saved: Vec::new(),
            savepoint: None,
            wanted: Vec::new(),
            written: Vec::new(),
            restarts: false,
            needs_right: false,
            ticks: 0,
            running: None,
            panic: Mutex::default(),
        }
    }

    /// For a call that is received now.
    pub(super) fn prepare(
        &mut self,
        args: &Args<'_>,
        call: &ScriptCall<'_>,
        session: &mut Session,
        outer: Moment,
    ) {
        self.permit = call.permit;
        self.is_function = call.is_function;
        self.name.clear();
        self.name.push_str(call.name);
        self.received.clear();
        for word in args.all() {
            self.received
                .extend_from_slice(&(word.len() as u64).to_le_bytes());
            self.received.extend_from_slice(word);
        }
        self.executor.begin_at(outer);
        self.wanted.clear();
        self.needs_right = false;
        self.ticks = 0;
        // Where the caller is, and what it may: everything that a command of the script is judged by.
        self.session.no_touch = session.no_touch;
        self.session.user = session.user.clone();
        self.session.tracking = session.tracking.take();
        self.home_db = session.db;
    }

    /// The call is over.
    pub(super) fn give_back(&mut self, session: &mut Session) {
        session.tracking = self.session.tracking.take();
        self.executor.end_batch();
    }

    /// The script begins, perhaps again; its effects come behind those that there are.
    pub(super) fn begin(&mut self, reaches: bool, effects: &mut Effects) {
        std::mem::swap(effects, &mut self.executor.effects);
        self.savepoint = Some(self.executor.effects.savepoint());
        self.executor.effects.set_grouped(true);
        self.session.db = self.home_db;
        self.reaches = reaches;
        self.wrote = false;
        self.restarts = false;
        self.saved.clear();
        self.written.clear();
    }

    /// The host that a thread was lent.
    pub(super) fn back(host: Option<Box<dyn Host>>) -> Option<Box<ScriptHost>> {
        host?.into_any().downcast().ok()
    }

    /// The script is over. True when what it did was undone, and it has to be run again.
    pub(super) fn end(&mut self, effects: &mut Effects, alone: bool) -> bool {
        if let Some(running) = &self.running {
            self.executor.server.running.leave(running);
        }
        if self.restarts {
            self.running = None;
            self.undo();
        }
        self.executor.effects.set_grouped(!alone);
        std::mem::swap(effects, &mut self.executor.effects);
        self.restarts
    }

    pub(super) fn wanted(&self) -> &[OwnedKey] {
        &self.wanted
    }

    pub(super) fn written(&self) -> &[OwnedKey] {
        &self.written
    }

    pub(super) fn needs_right(&self) -> bool {
        self.needs_right
    }

    pub(super) fn is_killed(&mut self) -> bool {
        let running = self.running.take();
        running.is_some_and(|running| running.is_killed())
    }

    pub(super) fn take_panic(&mut self) -> Option<Panic> {
        self.panic.get_mut().take()
    }

    fn run_command(&mut self, args: &Args<'_>, reply: &mut Reply) -> Result<(), Error> {
        let command = resolve(args, self.executor.finder())
            .map_err(|_| Error::new("ERR Unknown Redis command called from script"))?;
        self.admit(command, args)?;
        if !self.secure(command, args) {
            self.restarts = true;
            run::end();
            return Ok(());
        }
        if command.has(flag::WRITE) {
            self.wrote = true;
            if let Some(running) = &self.running {
                running.note_write();
            }
        }
        let monitors = &self.executor.server.monitors;
        if monitors.any() && !command.has(flag::SKIP_MONITOR | flag::ADMIN) {
            monitors.feed_of_script(args, &self.session);
        }
        let outcome = self.executor.run(command, args, &mut self.session, reply);
        self.executor
            .note(command, args, &mut self.session, outcome.is_err());
        outcome
    }

    /// What may refuse a command, in Redis's order.
    fn admit(&self, command: &'static Command, args: &Args<'_>) -> Result<(), Error> {
        if !command.accepts(args.len()) {
            return Err(Error::new(
                "ERR Wrong number of args calling Redis command from script",
            ));
        }
        if command.has(flag::NOSCRIPT) || matches!(command.handler, Handler::Exec | Handler::Script(_)) {
            return Err(Error::new("ERR This Redis command is not allowed from script"));
        }
        self.permits(command, args)?;
        if waits(command, args) {
            let name = command.name;
            return Err(Error::new(format!(
                "ERR {name} command is not allowed with BLOCK option from scripts"
            )));
        }
        if self.permit.read_only && command.has(flag::WRITE | flag::MAY_REPLICATE) {
            return Err(Error::new(
                "ERR Write commands are not allowed from read-only scripts.",
            ));
        }
        if self.permit.full && !self.wrote && command.has(flag::DENYOOM) {
            return Err(Error::OutOfMemory);
        }
        if command.has(flag::WRITE) {
            self.executor.refuse_unwritable(command, args)?;
        }
        Ok(())
    }

    /// Whether the caller may run the command: the one place that asks.
    fn permits(&self, command: &'static Command, args: &Args<'_>) -> Result<(), Error> {
        permission::check(&self.session.user, command, args).map_err(|denied| {
            let server = &self.executor.server;
            permission::note(denied, Place::Script, (command, args), server, &self.session);
            permission::refusal_by_script(denied)
        })
    }

    /// Makes sure that the shards of all that a command may touch are held, and that it can be undone. False when the
    /// script has to begin anew with the right to reach.
    fn secure(&mut self, command: &'static Command, args: &Args<'_>) -> bool {
        match touches(command, args) {
            Touch::Nothing => true,
            Touch::Keys => {
                let db = self.session.db;
                let held = match command.only_key(args) {
                    Some(key) => self.hold(db, key),
                    None => {
                        let keys = command.key_positions(args);
                        keys.iter().all(|at| self.hold(db, &args[*at]))
                    }
                };
                held && (!command.has(flag::WRITE) || self.note_writes(command, args))
            }
            // What was said cannot be taken back.
            _ if !self.reaches => {
                self.needs_right = true;
                false
            }
            Touch::Channel => {
                if let Channel::Key(topic) = Channel::of(&args[1]) {
                    self.executor.server.keyspace.extend_to_topic(&topic);
                }
                true
            }
            Touch::Any => {
                self.executor.server.keyspace.extend_to_all();
                true
            }
        }
    }

    fn hold(&mut self, db: u8, key: &[u8]) -> bool {
        let keyspace = &self.executor.server.keyspace;
        if keyspace.holds(db, key) {
            return true;
        }
        if self.reaches {
            keyspace.extend(db, key);
        } else if !keyspace.try_extend(db, key) {
            self.wanted.push((db, key.to_vec()));
            return false;
        }
        if let Some(running) = &self.running {
            running.set_shards(self.executor.server.keyspace.held_shards());
        }
        true
    }

    /// Takes down which keys a command is about to write, and what they hold, in case it is undone.
    fn note_writes(&mut self, command: &'static Command, args: &Args<'_>) -> bool {
        let waited_for = self.executor.server.blocked.any();
        if self.reaches && !waited_for {
            return true;
        }
        let db = self.session.db;
        let found: SmallVec<[(usize, usize); 4]> = match command.only_key(args) {
            Some(_) => SmallVec::from_slice(&[(1, 0)]),
            None => command.found_keys(args),
        };
        let places = found.into_iter().filter(|(_, spec)| {
            let spec = command.keys.get(*spec);
            spec.is_none_or(|spec| !spec.flags.starts_with("RO"))
        });
        for (at, _) in places {
            let key = match command.only_key(args) {
                Some(key) => *key,
                None => &args[at],
            };
            if waited_for {
                self.written.push((db, key.to_vec()));
            }
            if !self.reaches && !self.save(db, key) {
                self.needs_right = true;
                return false;
            }
        }
        true
    }

    /// Copies what a key holds; false when that is too much.
    fn save(&mut self, db: u8, key: &[u8]) -> bool {
        if self
            .saved
            .iter()
            .any(|saved| saved.key.0 == db && saved.key.1 == key)
        {
            return true;
        }
        let executor = &mut self.executor;
        let call = Call {
            db,
            now_ms: executor.now_ms,
            keys: &[key],
            received: &[],
            elements: Elements::None,
            replay: None,
        };
        let Ok(mut tx) = executor.server.keyspace.begin(call, &mut executor.effects) else {
            return false;
        };
        let value = match tx.peek(key) {
            Some(entry) if entry.size() > COPIED_MOST || entry.pages().is_some() => return false,
            Some(entry) => Some((entry.clone_value(), entry.expiry(), entry.flags(entry::ORIGIN))),
            None => None,
        };
        tx.commit();
        self.saved.push(Saved {
            key: (db, key.to_vec()),
            value,
        });
        true
    }

    /// Puts back what the script has written.
    fn undo(&mut self) {
        let executor = &mut self.executor;
        while let Some(saved) = self.saved.pop() {
            let (db, key) = (saved.key.0, saved.key.1.as_slice());
            let call = Call {
                db,
                now_ms: executor.now_ms,
                keys: &[key],
                received: &[],
                elements: Elements::None,
                replay: None,
            };
            // proof: the key was read under the same locks; it is resident or known to be absent.
            let Ok(mut tx) = executor.server.keyspace.begin(call, &mut executor.effects) else {
                log::error!("a key could not be read that a script had written");
                continue;
            };
            match saved.value {
                None => {
                    tx.delete(key);
                }
                Some((value, expiry, origin)) => {
                    tx.put_value(key, value, expiry.map_or(Expiry::Clear, Expiry::At));
                    if expiry.is_none() {
                        tx.set_expiry(key, None);
                    }
                    tx.mark_origin(key, origin);
                }
            }
            tx.commit();
        }
        if let Some(savepoint) = &self.savepoint {
            executor.effects.undo(savepoint);
        }
    }

    /// The words of the command as received.
    fn words(&self) -> Vec<Vec<u8>> {
        let (mut words, mut rest) = (Vec::new(), self.received.as_slice());
        while let Some((len, behind)) = rest.split_first_chunk() {
            let (word, behind) = behind.split_at(u64::from_le_bytes(*len) as usize);
            words.push(word.to_vec());
            rest = behind;
        }
        words
    }

    /// The server is to end, and half of a script is done, which cannot be undone. What is in the journal is whole: so
    /// this is the end, as if the script had never run.
    fn leave_the_process(&self) -> ! {
        log::warn!("the server ends in the middle of a script, which will not have run");
        if let Some(journal) = self.executor.server.keyspace.journal() {
            journal.close();
        }
        std::process::exit(0)
    }

    /// The script has been running for a while: others can see it from now on.
    fn show(&mut self) -> Arc<Running> {
        if let Some(running) = &self.running {
            return running.clone();
        }
        let running = Running::new(self.is_function, self.name.clone(), self.words(), Instant::now());
        if self.wrote {
            running.note_write();
        }
        running.set_shards(self.executor.server.keyspace.held_shards());
        let running = Arc::new(running);
        self.executor.server.running.enter(running.clone());
        self.running = Some(running.clone());
        running
    }
}

impl Host for ScriptHost {
    fn call(&mut self, words: &[&[u8]], reply: &mut Reply) {
        if self.restarts || self.panic.get_mut().is_some() {
            return run::end();
        }
        let args = Args::new(words);
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_command(&args, reply)));
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                reply.clear();
                self.executor.server.errors.note(&error);
                error.write(reply);
            }
            Err(panic) => {
                *self.panic.get_mut() = Some(panic);
                run::end();
            }
        }
    }

    fn may_call(&self, words: &[&[u8]]) -> Option<bool> {
        let args = Args::new(words);
        let command = resolve(&args, &mut super::table::Finder::default()).ok()?;
        Some(permission::check(&self.session.user, command, &args).is_ok())
    }

    fn goes_on(&mut self) -> bool {
        self.ticks += 1;
        let running = self.show();
        if self.ticks <= 2 || self.ticks.is_multiple_of(TICKS_BETWEEN_HANDOVERS) {
            let_others_work();
        }
        if *self.executor.server.shutdown.borrow() {
            if self.wrote {
                self.leave_the_process();
            }
            return false;
        }
        !running.is_killed()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
