//! The only pipeline: from a parsed request to its reply and its effects.
//!
//! find the row → arity → authentication → memory → lock and load the keys → handler → effects to the journal →
//! unlock → statistics. What the reply has to wait for is handed to the connection as an offset (`Executor::gate`).

use super::args::Args;
use super::context::Context;
use super::error::{Error, quoted};
use super::permission;
use super::quotas;
use super::script_host::{ScriptHost, Touch, touches};
use super::scripting;
use super::spec::{DataHandler, Handler, Stats, flag};
use super::table::{self, Command, Finder};
use super::transactions::{self, is_exec};
use crate::keyspace::evict::Room;
use crate::keyspace::load::{may_wait, may_wait_if};
use crate::keyspace::quota::{ROUNDS_MAX, Used};
use crate::keyspace::range::DBS;
use crate::keyspace::{Call, Effects};
use crate::net::session::Session;
use crate::pubsub::channel::Channel;
use crate::resp::{Batch, Reply};
use crate::script::running::Running;
use crate::script::source::Script;
use crate::server::{Server, Totals, unix_ms};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// What the connection does after a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    Continue,
    /// Clients are paused: the request has not run and has to be run again later.
    Paused,
    /// A script that has been running for a while holds what the request needs: it has not run and has to be run again
    /// soon.
    HeldUp,
    /// The command waits for a key: `Session::blocked`. Nothing was replied.
    Blocked,
}

/// What time it is to a request.
pub struct Moment {
    now_ms: i64,
    read: u64,
}

/// Runs the requests of one connection, one after the other.
pub struct Executor {
    pub(super) server: Arc<Server>,
    pub(super) effects: Effects,
    /// Unix milliseconds and the clock of the requests being run: one moment for a batch.
    pub(super) now_ms: i64,
    clock: quanta::Clock,
    /// Its reading when the last request had run.
    read: u64,
    tally: Tally,
    /// The journal offset that must be durable before the replies written so far may leave; 0 for none.
    pub gate: u64,
    hashes: Vec<u64>,
    finder: Finder,
    /// What the scripts of this connection run in; none before the first.
    pub(super) script: Option<Box<ScriptHost>>,
    /// The script called last by its hash, and the catalogue's generation then.
    pub(super) last_script: Option<(u64, Arc<Script>)>,
}

/// What a subscriber that speaks the older protocol may send.
const LISTENING: [&str; 11] = [
    "ping",
    "subscribe",
    "unsubscribe",
    "psubscribe",
    "punsubscribe",
    "ssubscribe",
    "sunsubscribe",
    "kwatch",
    "kunwatch",
    "quit",
    "reset",
];

/// Requests in a batch from which on prefetching pays.
const PREFETCH_FROM: usize = 3;

impl Executor {
    /// Of the requests of the client with this id.
    pub fn new(server: Arc<Server>, client: u64) -> Executor {
        Executor {
            effects: Effects::of_client(client),
            now_ms: unix_ms(),
            clock: server.clock.clone(),
            read: server.clock.raw(),
            server,
            tally: Tally::default(),
            gate: 0,
            hashes: Vec::new(),
            finder: Finder::default(),
            script: None,
            last_script: None,
        }
    }

    /// Takes the time for the requests that follow.
    pub fn begin_batch(&mut self) {
        self.now_ms = unix_ms();
        self.read = self.clock.raw();
    }

    /// Unix milliseconds of the requests being run.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Counts what has run: to be called before the replies leave.
    #[inline]
    pub fn end_batch(&mut self) {
        self.tally.settle(&self.server.totals);
    }

    /// The time of the requests being run, for an executor whose commands are part of one.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            now_ms: self.now_ms,
            read: self.clock.raw(),
        }
    }

    /// As `begin_batch`, with that time.
    pub(super) fn begin_at(&mut self, moment: Moment) {
        (self.now_ms, self.read) = (moment.now_ms, moment.read);
    }

    pub(super) fn finder(&mut self) -> &mut Finder {
        &mut self.finder
    }

    /// Whether what a request changes may have to be journaled.
    pub fn may_append(&mut self, args: &Args<'_>, session: &Session) -> bool {
        let spec = resolve(args, &mut self.finder);
        spec.is_ok_and(|spec| may_write(spec, session) && self.is_about_durable(spec, args))
    }

    /// Starts bringing in what the requests of a batch will need of memory: the first key of each, and an
    /// element of its value.
    pub fn prefetch(&mut self, batch: &Batch, input: &[u8], session: &Session) {
        if batch.len() < PREFETCH_FROM {
            return;
        }
        let finder = &mut self.finder;
        let keys = (0..batch.len()).filter_map(|i| table::aim(&batch.request(i, input), finder));
        self.server.keyspace.prefetch(session.db, keys, &mut self.hashes);
    }

    /// Runs one request and appends its reply.
    pub fn execute(&mut self, args: &Args<'_>, session: &mut Session, reply: &mut Reply) -> After {
        let start = reply.len();
        let spec = match resolve(args, &mut self.finder) {
            Ok(spec) => spec,
            Err(_) if is_http(&args[0]) => return hang_up(reply, session),
            Err(error) => {
                session.last_command = None;
                return self.reject(None, error, reply, session);
            }
        };
        if let Err(error) = self.admit(spec, args, session) {
            return self.reject(Some(spec), error, reply, session);
        }
        if session.transaction.is_some() && !transactions::runs_at_once(spec) {
            return self.queue(spec, args, session, reply);
        }
        let may_replicate = spec.has(flag::MAY_REPLICATE) || may_write(spec, session);
        if self.server.pause.holds(may_replicate, self.now_ms) && !self.runs_in_pause(spec, args) {
            return After::Paused;
        }
        if self.server.running.any() && !(spec.has(flag::ALLOW_BUSY) && spec.keys.is_empty()) {
            match self
                .held_up_by(spec, args, session)
                .map(|running| self.busy(&running))
            {
                None => {}
                Some(Error::HeldUp) => return After::HeldUp,
                Some(busy) => return self.reject(Some(spec), busy, reply, session),
            }
        }
        session.replied_pushes = false;
        let outcome = self.run(spec, args, session, reply);
        if matches!(outcome, Err(Error::HeldUp)) {
            reply.truncate(start);
            return After::HeldUp;
        }
        if session.blocked.is_some() {
            reply.truncate(start);
            self.note(spec, args, session, false);
            self.end_tracked(Some(spec), session);
            return After::Blocked;
        }
        if self.server.blocked.any() && spec.has(flag::WRITE) {
            self.serve_blocked(spec, args, session.db);
        }
        if self.server.monitors.any() && !spec.has(flag::SKIP_MONITOR | flag::ADMIN) {
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
        self.note(spec, args, session, failed);
        self.end_tracked(Some(spec), session);
        session.settle_reply(reply, start);
        After::Continue
    }

    /// After a command of a client that tracks keys: `CLIENT CACHING` was for this command, and too many keys are not
    /// remembered.
    #[inline]
    fn end_tracked(&self, spec: Option<&Command>, session: &mut Session) {
        let Some(tracking) = &mut session.tracking else {
            return;
        };
        let is_client = spec.is_some_and(|spec| spec.full_name.starts_with("client"));
        tracking.caching &= is_client || session.transaction.is_some();
        let most = self.server.config.load().tracking_table_max_keys;
        self.server.pubsub.limit_tracking(&self.server.keyspace, most);
    }

    /// Keeps a command for EXEC.
    fn queue(
        &mut self,
        spec: &'static Command,
        args: &Args<'_>,
        session: &mut Session,
        reply: &mut Reply,
    ) -> After {
        let start = reply.len();
        session.last_command = Some(spec);
        if let Err(error) = session.queue(spec, args, &self.server.config.load()) {
            return self.reject(Some(spec), error, reply, session);
        }
        reply.simple("QUEUED");
        session.settle_reply(reply, start);
        After::Continue
    }

    /// What may refuse a request before anything is locked.
    fn admit(&self, spec: &'static Command, args: &Args<'_>, session: &mut Session) -> Result<(), Error> {
        if !spec.accepts(args.len()) {
            return Err(Error::Arity(spec.full_name.clone()));
        }
        let users = &self.server.acl.users;
        session.look_at(users)?;
        if !session.authenticated && !spec.has(flag::NO_AUTH) && !users.are_open() {
            return Err(Error::NoAuth);
        }
        if let Err(denied) = permission::check(&session.user, spec, args) {
            let place = permission::place(session);
            permission::note(denied, place, (spec, args), &self.server, session);
            return Err(permission::refusal(denied, spec));
        }
        if session.only_listens() && !LISTENING.contains(&spec.full_name.as_str()) {
            return Err(Error::OnlyListens(spec.full_name.clone()));
        }
        Ok(())
    }

    pub(super) fn run(
        &mut self,
        spec: &'static Command,
        args: &Args<'_>,
        session: &mut Session,
        reply: &mut Reply,
    ) -> Result<(), Error> {
        self.tally.settle_unless(spec, &self.server.totals);
        if spec.has(flag::WRITE) && !self.effects.is_grouped() {
            self.prepare_write(spec, args)?;
        }
        match spec.handler {
            Handler::Data(handler) => {
                if spec.has(flag::WRITE) && self.server.keyspace.has_quotas() {
                    let used = quotas::used(spec, args);
                    return self.run_bounded(spec, handler, args, &used, session, reply);
                }
                self.run_data(spec, handler, args, None, session, reply)
            }
            Handler::Session(handler) => handler(args, session, reply),
            Handler::Exec => self.exec(session, reply),
            Handler::Script(handler) => handler(self, args, session, reply),
            Handler::Admin(handler) => {
                let mut context = Context {
                    server: &self.server,
                    session,
                    reply,
                    now_ms: self.now_ms,
                    effects: &mut self.effects,
                    gate: 0,
                };
                let outcome = handler(args, &mut context);
                self.gate = self.gate.max(context.gate);
                outcome
            }
            Handler::Container => Err(Error::Arity(spec.name.into())),
        }
    }

    /// A write while some range bounds its keys or values; room for keys is made until it fits.
    fn run_bounded(
        &mut self,
        spec: &'static Command,
        handler: DataHandler,
        args: &Args<'_>,
        used: &[Used<'_>],
        session: &mut Session,
        reply: &mut Reply,
    ) -> Result<(), Error> {
        let mut rounds = 0;
        loop {
            match self.run_data(spec, handler, args, Some(used), session, reply) {
                Err(Error::Quota(refused))
                    if rounds < ROUNDS_MAX && self.server.keyspace.make_key_room(&refused, self.now_ms) =>
                {
                    rounds += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn run_data(
        &mut self,
        spec: &'static Command,
        handler: DataHandler,
        args: &Args<'_>,
        bounded: Option<&[Used<'_>]>,
        session: &mut Session,
        reply: &mut Reply,
    ) -> Result<(), Error> {
        let alone = !self.effects.is_grouped();
        let several: SmallVec<[&[u8]; 4]>;
        let keys = match spec.only_key(args) {
            Some(key) => std::slice::from_ref(key),
            None => {
                let places = spec.key_positions(args);
                several = places.iter().map(|at| args.all()[*at]).collect();
                &several
            }
        };
        let call = Call {
            db: session.db,
            now_ms: self.now_ms,
            keys,
            received: args.all(),
            elements: spec.elements,
            replay: None,
        };
        // Used where it was made: it is dear to move.
        let mut begun = self.server.keyspace.begin(call, &mut self.effects);
        let tx = match begun {
            Ok(ref mut tx) => tx,
            Err(error) => return Err(error.into()),
        };
        // TOUCH is for touching, whoever sends it.
        if session.no_touch && spec.name != "touch" {
            tx.leave_clocks();
        }
        if alone && spec.has(flag::BLOCKING) {
            tx.allow_wait();
        }
        let undo = match bounded {
            Some(used) => tx.check_quota(used, args.all())?,
            None => None,
        };
        let is_long = spec.effort.is_long(args, tx);
        let mut outcome = may_wait_if(is_long, || handler(args, tx, reply));
        if let Some(undo) = undo {
            outcome = tx.settle_quota(undo).map_err(Error::from).and(outcome);
        }
        if spec.has(flag::READONLY)
            && let Some(tracking) = &mut session.tracking
        {
            tracking.remember(tx, keys);
        }
        if let Some(wait) = tx.take_wait() {
            // While the keys are locked: no write comes between the look and the wait.
            let blocked = &self.server.blocked;
            session.blocked = Some(blocked.join(spec, args, wait, session, reply.protocol()));
        }
        // Effects are as long as what has changed.
        self.gate = self.gate.max(may_wait_if(is_long, || tx.finish()));
        outcome
    }

    /// A write may have brought what others wait for.
    pub(super) fn serve_blocked(&mut self, spec: &Command, args: &Args<'_>, db: u8) {
        let (blocked, keyspace) = (&self.server.blocked, &self.server.keyspace);
        let positions = spec.key_positions(args);
        let keys = || positions.iter().map(|at| &args[*at]);
        match spec.handler {
            Handler::Data(_) => {
                let keys = keys().map(|key| (db, key));
                blocked.serve(keyspace, &mut self.effects, keys, self.now_ms);
            }
            _ if positions.is_empty() => blocked.serve_all(keyspace, &mut self.effects, self.now_ms),
            // Perhaps in another database. Who waits for other keys, too, is not asked about those.
            _ => {
                let keys = (0..DBS as u8).flat_map(|db| keys().map(move |key| (db, key)));
                blocked.serve(keyspace, &mut self.effects, keys, self.now_ms);
            }
        }
    }

    /// Makes room, and refuses changes of durable ranges while the disk does not take them.
    #[inline]
    pub(super) fn prepare_write(&self, spec: &Command, args: &Args<'_>) -> Result<(), Error> {
        if self.server.keyspace.is_over_limit() {
            let mut keys = spec.key_positions(args).into_iter().map(|at| &args[at]);
            if !self.make_room(&mut keys) && spec.has(flag::DENYOOM) {
                return Err(Error::OutOfMemory);
            }
        }
        self.refuse_unwritable(spec, args)
    }

    /// Makes room for writes to these keys; false when there is none.
    pub(super) fn make_room(&self, keys: &mut dyn Iterator<Item = &[u8]>) -> bool {
        let began = Instant::now();
        let is_made = self.make_room_untimed(keys);
        self.server.note_eviction(began.elapsed());
        is_made
    }

    fn make_room_untimed(&self, keys: &mut dyn Iterator<Item = &[u8]>) -> bool {
        let keyspace = &self.server.keyspace;
        let keys: SmallVec<[&[u8]; 4]> = keys.collect();
        loop {
            match keyspace.make_room_for(keys.iter().copied(), self.now_ms) {
                Room::Enough => return true,
                Room::Full => return false,
                Room::WaitForFlush => {
                    if may_wait(|| keyspace.flush_now()).is_err() {
                        return false;
                    }
                }
            }
        }
    }

    /// Refuses changes of durable ranges while the disk does not take them.
    #[inline]
    pub(super) fn refuse_unwritable(&self, spec: &Command, args: &Args<'_>) -> Result<(), Error> {
        match self.server.keyspace.failure() {
            Some(why) if self.is_about_durable(spec, args) => Err(Error::Misconf(why.to_string())),
            _ => Ok(()),
        }
    }

    /// Whether a request is about keys of durable ranges, or about all keys where there are such ranges.
    fn is_about_durable(&self, spec: &Command, args: &Args<'_>) -> bool {
        let map = self.server.keyspace.ranges();
        let durable = |at: usize| map.find(&args[at]).is_durable();
        spec.keys.is_empty() && map.iter().any(|range| range.is_durable())
            || spec.key_positions(args).into_iter().any(durable)
    }

    /// A script that has been running for a while, and holds the shard of something that a request may touch.
    fn held_up_by(&self, spec: &Command, args: &Args<'_>, session: &Session) -> Option<Arc<Running>> {
        let keyspace = &self.server.keyspace;
        let number = |key: &[u8]| keyspace.shard_number(session.db, key);
        let (shards, all): (SmallVec<[usize; 4]>, bool) = match touches(spec, args) {
            _ if is_exec(spec) => {
                let (keys, all) = transactions::queued_keys(session);
                let numbers = keys.iter().map(|(db, key)| keyspace.shard_number(*db, key));
                (numbers.collect(), all)
            }
            Touch::Nothing => return None,
            Touch::Keys => {
                let keys = spec.key_positions(args);
                (keys.iter().map(|at| number(&args[*at])).collect(), false)
            }
            Touch::Channel => match Channel::of(&args[1]) {
                Channel::Key(topic) => (SmallVec::from_slice(&[keyspace.shard_of_topic(&topic)]), false),
                _ => return None,
            },
            Touch::Any => (SmallVec::new(), true),
        };
        self.server.running.holder(&shards, all)
    }

    /// What becomes of a request that a running script is in the way of.
    pub(super) fn busy(&self, running: &Running) -> Error {
        let threshold = self.server.config.load().busy_reply_threshold_ms;
        match threshold >= 0 && running.began.elapsed().as_millis() >= threshold as u128 {
            true => scripting::busy(running.is_function),
            false => Error::HeldUp,
        }
    }

    fn reject(
        &self,
        spec: Option<&Command>,
        error: Error,
        reply: &mut Reply,
        session: &mut Session,
    ) -> After {
        let start = reply.len();
        if let Some(spec) = spec {
            spec.stats.rejected.fetch_add(1, Relaxed);
        }
        let error = transactions::rejected(spec, error, &self.server, session);
        self.end_tracked(spec, session);
        self.server.errors.note(&error);
        error.write(reply);
        session.settle_reply(reply, start);
        After::Continue
    }

    pub(super) fn note(
        &mut self,
        spec: &'static Command,
        args: &Args<'_>,
        session: &mut Session,
        failed: bool,
    ) {
        let ended = self.clock.raw();
        let nanos = self.clock.delta_as_nanos(self.read, ended);
        self.read = ended;
        self.tally.note(spec, nanos, &self.server.totals);
        if failed {
            spec.stats.failed.fetch_add(1, Relaxed);
        }
        session.last_command = Some(spec);
        if nanos >= self.server.slow_nanos.load(Relaxed) {
            self.server.note_slow(spec, args, session, nanos);
        }
    }
}

/// Whether a request may change keys; what a transaction does is known from what it has queued.
fn may_write(spec: &Command, session: &Session) -> bool {
    spec.has(flag::WRITE)
        || matches!(spec.handler, Handler::Script(_)) && !spec.has(flag::READONLY)
        || is_exec(spec) && transactions::writes(session)
}

/// Calls that are not in their command's statistics yet: those of a pipeline are mostly alike, and are counted at once.
#[derive(Default)]
struct Tally {
    spec: Option<&'static Command>,
    bucket: usize,
    calls: u64,
    nanos: u64,
}

impl Tally {
    #[inline]
    fn note(&mut self, spec: &'static Command, nanos: u64, totals: &Totals) {
        let bucket = Stats::bucket(nanos);
        // Those of a transaction are run, and noted, while EXEC is.
        if bucket != self.bucket || self.spec.is_some_and(|last| !std::ptr::eq(last, spec)) {
            self.settle(totals);
        }
        (self.spec, self.bucket) = (Some(spec), bucket);
        self.calls += 1;
        self.nanos += nanos;
    }

    /// Before a command runs: it may ask for the figures, and is not to be counted as another one.
    #[inline]
    fn settle_unless(&mut self, spec: &'static Command, totals: &Totals) {
        if self.spec.is_some_and(|last| !std::ptr::eq(last, spec)) {
            self.settle(totals);
        }
    }

    #[inline]
    fn settle(&mut self, totals: &Totals) {
        if let Some(spec) = self.spec.take() {
            spec.stats.note(self.bucket, self.calls, self.nanos);
            totals.commands.fetch_add(self.calls, Relaxed);
            (self.calls, self.nanos) = (0, 0);
        }
    }
}

/// The first word of an HTTP request's line that a browser can be made to send to any port.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

/// Ends a connection without a word: what is behind the browser's lines may be commands that its user never meant.
fn hang_up(reply: &mut Reply, session: &mut Session) -> After {
    log::warn!(
        "client {} closed: it sent an HTTP request, possibly an attack by way of a browser",
        session.client.addr
    );
    reply.clear();
    session.closing = true;
    After::Continue
}

/// The row of a request: of the command, or of its subcommand.
#[inline]
pub fn resolve(args: &Args<'_>, finder: &mut Finder) -> Result<&'static Command, Error> {
    let Some(command) = finder.find(&args[0]) else {
        return Err(unknown(args));
    };
    if command.subcommands.is_empty() || args.len() < 2 {
        return Ok(command);
    }
    command
        .subcommand(&args[1])
        .ok_or_else(|| Error::UnknownSubcommand {
            name: command.name.to_ascii_uppercase(),
            sub: quoted(&args[1], QUOTED_MOST).to_vec(),
        })
}

/// Bytes of a command's name, and of all its arguments together, that an error quotes.
const QUOTED_MOST: usize = 128;

fn unknown(args: &Args<'_>) -> Error {
    let mut beginning = Vec::new();
    for arg in args.rest(1) {
        if beginning.len() >= QUOTED_MOST {
            break;
        }
        let arg = quoted(arg, QUOTED_MOST - beginning.len());
        beginning.extend_from_slice(&[b"'", arg, b"' "].concat());
    }
    Error::UnknownCommand {
        name: quoted(&args[0], QUOTED_MOST).to_vec(),
        args: beginning,
    }
}
