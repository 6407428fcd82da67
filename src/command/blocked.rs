//! Clients that wait for a key: who they are, in which order they are served, and how.
//!
//! ```text
//!  handler finds nothing ── Tx::wait ──> waiter joins the queue of each key        (the keys' shards are locked)
//!  a write to a key commits ──> has anybody waited for it? ──> the first waiter's command runs as a transaction of its
//!  own, on the writer's thread ──> its reply is handed to the waiter's connection; the next one's turn
//! ```
//!
//! Guarantees:
//! * First come, first served, per key; of several keys of one waiter the first that has something, in the order of
//!   its arguments.
//! * No wake-up is lost: a waiter joins while its keys are locked, so a write either came before, and was seen, or comes
//!   after, and sees the waiter.
//! * The writer has served the waiters before it gets its own reply: what it pushed for them is gone by then.
//! * A waiter is answered once: by a served command, a timeout, `CLIENT UNBLOCK`, or not at all when it is gone. All
//!   four go through `Waiter::state`.
//! * Locks are taken in this order: `Waiter::serving`, shards, `Waiter::state`. So who holds shards may end a wait, as
//!   `CLIENT UNBLOCK` in a transaction does, while somebody who serves the waiter waits for one of them.
//!
//! Nothing runs for a client that waits: its connection sleeps until it is woken, hung up on, or its time is over.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::execute::resolve;
use super::spec::{Handler, Outcome};
use super::table::{Command, Finder};
use crate::keyspace::vanished::Vanished;
use crate::keyspace::{Call, Effects, Keyspace, Tx, Wait};
use crate::net::clients::{Client, client_flag};
use crate::net::session::Session;
use crate::resp::number::parse_f64;
use crate::resp::{Protocol, Reply};
use dashmap::DashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Where the waiters of a key queue: one queue for each type that they wait for.
type QueueKey = Box<[u8]>;

/// How the wait of a client ended.
pub enum Ended {
    /// With this reply, once the journal is durable up to `gate` (0 for at once).
    Reply { bytes: Vec<u8>, gate: u64 },
    /// As if its time were over.
    Timeout,
}

enum State {
    Waiting,
    /// Its command is run again. It ends so, if nothing comes of that: somebody has asked for it meanwhile.
    Served(Option<Ended>),
    Ended(Ended),
    /// Nobody waits any more.
    Gone,
}

/// A command that waits, and all that is needed to run it again.
pub struct Waiter {
    client: Arc<Client>,
    command: &'static Command,
    words: Vec<Vec<u8>>,
    protocol: Protocol,
    /// Unix milliseconds.
    pub deadline_ms: Option<i64>,
    on_timeout: fn(&mut Reply),
    queues: Vec<QueueKey>,
    /// Held while its command is run again: neither a timeout nor another writer may answer meanwhile.
    serving: Mutex<()>,
    state: Mutex<State>,
}

impl Waiter {
    /// How the wait ended, if it did.
    pub fn take_end(&self) -> Option<Ended> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Ended(end) => Some(end),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Ends the wait for want of time; false when it has ended already.
    pub fn give_up(&self) -> bool {
        let _serving = self.serving.lock();
        let mut state = self.state.lock();
        let waiting = matches!(*state, State::Waiting);
        if waiting {
            *state = State::Gone;
        }
        waiting
    }

    /// Ends the wait; false when it has ended already.
    fn end(&self, end: Ended) -> bool {
        let mut state = self.state.lock();
        match &mut *state {
            State::Waiting => *state = State::Ended(end),
            State::Served(asked @ None) => {
                *asked = Some(end);
                return true;
            }
            _ => return false,
        }
        drop(state);
        self.client.wake();
        true
    }

    /// The reply of a command whose time is over.
    pub fn write_timeout(&self, reply: &mut Reply) {
        (self.on_timeout)(reply);
    }
}

/// The waiters of the server.
#[derive(Default)]
pub struct Blocked {
    queues: DashMap<QueueKey, VecDeque<Arc<Waiter>>>,
    by_client: DashMap<u64, Arc<Waiter>>,
    count: AtomicUsize,
    vanished: Arc<Vanished>,
}

/// The name of a queue: the type waited for, the logical database, the key.
fn queue_key(kind: Kind, db: u8, key: &[u8]) -> QueueKey {
    [&[kind as u8, db][..], key].concat().into()
}

/// The types that can be waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    List,
    SortedSet,
    Stream,
}

const KINDS: [(Kind, &str, &str); 3] = [
    (Kind::List, "list", "list"),
    (Kind::SortedSet, "sorted-set", "zset"),
    (Kind::Stream, "stream", "stream"),
];

impl Kind {
    fn of(command: &Command) -> Kind {
        let found = KINDS.iter().find(|(_, group, _)| *group == command.group);
        found.map_or(Kind::List, |(kind, _, _)| *kind)
    }

    fn type_name(self) -> &'static str {
        KINDS[self as usize].2
    }
}

/// Lets the caller wait until a moment, for ever without one, for no key; only the moment and `CLIENT UNBLOCK` end that.
/// Within a transaction nothing waits.
pub(super) fn idle(
    args: &Args<'_>,
    context: &mut Context<'_>,
    deadline_ms: Option<i64>,
    on_timeout: fn(&mut Reply),
) -> Outcome {
    if context.effects.is_grouped() {
        on_timeout(context.reply);
        return Ok(());
    }
    let command = resolve(args, &mut Finder::default())?;
    let wait = Wait {
        keys: Vec::new(),
        deadline_ms,
        on_timeout,
        words: None,
    };
    let (blocked, protocol) = (&context.server.blocked, context.reply.protocol());
    context.session.blocked = Some(blocked.join(command, args, wait, context.session, protocol));
    Ok(())
}

impl Blocked {
    pub fn new(vanished: Arc<Vanished>) -> Blocked {
        Blocked {
            vanished,
            ..Blocked::default()
        }
    }

    /// True when anybody waits: what a write asks first.
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys that somebody waits for.
    pub fn keys(&self) -> usize {
        self.queues.len()
    }

    /// Lets a command wait. Called while the keys it waits for are locked.
    pub fn join(
        &self,
        command: &'static Command,
        args: &Args<'_>,
        wait: Wait,
        session: &Session,
        protocol: Protocol,
    ) -> Arc<Waiter> {
        let kind = Kind::of(command);
        let words = wait
            .words
            .unwrap_or_else(|| args.all().iter().map(|word| word.to_vec()).collect());
        let mut queues: Vec<QueueKey> = Vec::new();
        for key in &wait.keys {
            let queue = queue_key(kind, session.db, key);
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        let waiter = Arc::new(Waiter {
            client: session.client.clone(),
            command,
            words,
            protocol,
            deadline_ms: wait.deadline_ms,
            on_timeout: wait.on_timeout,
            queues,
            serving: Mutex::default(),
            state: Mutex::new(State::Waiting),
        });
        self.count.fetch_add(1, Relaxed);
        if waiter.is_group_read() {
            self.vanished.reader_waits();
        }
        for queue in &waiter.queues {
            self.queues
                .entry(queue.clone())
                .or_default()
                .push_back(waiter.clone());
        }
        waiter.client.set(client_flag::BLOCKED, true);
        self.by_client.insert(waiter.client.id, waiter.clone());
        waiter
    }

    /// Takes a waiter out of every queue, whatever became of it. Called once, by its own connection.
    pub fn leave(&self, waiter: &Arc<Waiter>) {
        {
            let _serving = waiter.serving.lock();
            *waiter.state.lock() = State::Gone;
        }
        self.dequeue(waiter);
        waiter.client.set(client_flag::BLOCKED, false);
        self.by_client.remove(&waiter.client.id);
        self.count.fetch_sub(1, Relaxed);
        if waiter.is_group_read() {
            self.vanished.reader_leaves();
        }
    }

    fn dequeue(&self, waiter: &Arc<Waiter>) {
        for name in &waiter.queues {
            if let Some(mut queue) = self.queues.get_mut(name) {
                queue.retain(|other| !Arc::ptr_eq(other, waiter));
            }
            self.queues.remove_if(name, |_, queue| queue.is_empty());
        }
    }

    /// `CLIENT UNBLOCK`: false when that client waits for nothing.
    pub fn unblock(&self, client: u64, with_error: bool) -> bool {
        let Some(waiter) = self.by_client.get(&client).map(|waiter| waiter.clone()) else {
            return false;
        };
        if !with_error {
            return waiter.end(Ended::Timeout);
        }
        let mut reply = Reply::new(waiter.protocol);
        reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK");
        waiter.end(Ended::Reply {
            bytes: reply.take(),
            gate: 0,
        })
    }

    /// The waiter at a place of a queue.
    fn at(&self, name: &[u8], place: usize) -> Option<Arc<Waiter>> {
        self.queues.get(name)?.get(place).cloned()
    }

    /// After a write to these keys of a logical database: serves who waits for them.
    pub fn serve<'k>(
        &self,
        keyspace: &Keyspace,
        effects: &mut Effects,
        keys: impl Iterator<Item = (u8, &'k [u8])>,
        now_ms: i64,
    ) {
        let mut served = WokenAtTheEnd::default();
        let mut ready: VecDeque<(u8, Vec<u8>)> = keys.map(|(db, key)| (db, key.to_vec())).collect();
        while let Some((db, key)) = ready.pop_front() {
            for (kind, _, _) in KINDS {
                let name = queue_key(kind, db, &key);
                let mut place = 0;
                while let Some(waiter) = self.at(&name, place) {
                    match waiter.serve((db, &key), kind, keyspace, effects, now_ms) {
                        Served::Done => {
                            self.dequeue(&waiter);
                            served.0.push(waiter.client.clone());
                            ready.extend(waiter.keys_written().into_iter().map(|key| (db, key)));
                        }
                        // What one of them does not find in a stream, another may.
                        Served::NotYet if kind == Kind::Stream => place += 1,
                        Served::NotYet => break,
                    }
                }
            }
        }
    }

    /// Tells readers by a group of streams that have expired, or were evicted.
    pub fn serve_vanished(&self, keyspace: &Keyspace, effects: &mut Effects, now_ms: i64) {
        let keys = self.vanished.take();
        self.serve(
            keyspace,
            effects,
            keys.iter().map(|(db, key)| (*db, &key[..])),
            now_ms,
        );
    }

    /// After a change of whole databases: serves whoever can be.
    pub fn serve_all(&self, keyspace: &Keyspace, effects: &mut Effects, now_ms: i64) {
        let split = |name: &[u8]| (name[1], name[2..].to_vec());
        let keys: HashSet<(u8, Vec<u8>)> = self.queues.iter().map(|queue| split(queue.key())).collect();
        let keys = keys.iter().map(|(db, key)| (*db, key.as_slice()));
        self.serve(keyspace, effects, keys, now_ms);
    }
}

/// Clients that have been served: they go on when all have been whom one write leads to, so that none of them takes what
/// is another's.
#[derive(Default)]
struct WokenAtTheEnd(SmallVec<[Arc<Client>; 4]>);

impl Drop for WokenAtTheEnd {
    fn drop(&mut self) {
        self.0.iter().for_each(|client| client.wake());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    /// It has its reply, or waits no more.
    Done,
    NotYet,
}

impl Waiter {
    /// Runs the command again, now that a key of it has changed.
    fn serve(
        &self,
        (db, key): (u8, &[u8]),
        kind: Kind,
        keyspace: &Keyspace,
        effects: &mut Effects,
        now_ms: i64,
    ) -> Served {
        let _serving = self.serving.lock();
        {
            let mut state = self.state.lock();
            if !matches!(*state, State::Waiting) || self.client.is_killed() {
                return Served::Done;
            }
            *state = State::Served(None);
        }
        let run = || self.run_again((db, key), kind, keyspace, effects, now_ms);
        let reply = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            // Whoever waits is not to wait for this.
            *self.state.lock() = State::Ended(Ended::Timeout);
            self.client.wake();
            resume_unwind(panic)
        });
        let mut state = self.state.lock();
        let asked = match std::mem::replace(&mut *state, State::Waiting) {
            State::Served(asked) => asked,
            _ => None,
        };
        let Some(end) = reply.or(asked) else {
            return Served::NotYet;
        };
        *state = State::Ended(end);
        Served::Done
    }

    fn is_group_read(&self) -> bool {
        self.command.name == "xreadgroup"
    }

    /// Runs the command again; none when it finds nothing still.
    fn run_again(
        &self,
        (db, key): (u8, &[u8]),
        kind: Kind,
        keyspace: &Keyspace,
        effects: &mut Effects,
        now_ms: i64,
    ) -> Option<Ended> {
        let words: SmallVec<[&[u8]; 8]> = self.words.iter().map(Vec::as_slice).collect();
        let args = Args::new(&words);
        let Handler::Data(handler) = self.command.handler else {
            return None;
        };
        let keys: SmallVec<[&[u8]; 4]> = self.keys(&args);
        let call = Call {
            db,
            now_ms,
            keys: &keys,
            received: args.all(),
            elements: self.command.elements,
            replay: None,
        };
        let mut reply = Reply::new(self.protocol);
        let mut tx = match keyspace.begin(call, effects) {
            Ok(tx) => tx,
            Err(error) => {
                Error::from(error).write(&mut reply);
                return Some(Ended::Reply {
                    bytes: reply.take(),
                    gate: 0,
                });
            }
        };
        let is_group_read = self.is_group_read();
        // Of another type, or gone, is not what it waits for; but who reads by a group is told.
        let found = tx.peek(key).map(crate::keyspace::Entry::type_name);
        if found != Some(kind.type_name()) && !is_group_read {
            return None;
        }
        tx.allow_wait();
        let outcome = handler(&args, &mut tx, &mut reply);
        if tx.take_wait().is_some() {
            return None;
        }
        if let Err(error) = outcome {
            reply.clear();
            group_is_gone(error, found.is_some(), is_group_read).write(&mut reply);
        }
        let gate = tx.commit();
        Some(Ended::Reply {
            bytes: reply.take(),
            gate,
        })
    }

    fn keys<'a>(&self, args: &Args<'a>) -> SmallVec<[&'a [u8]; 4]> {
        let positions = self.command.key_positions(args);
        positions.into_iter().map(|at| args.all()[at]).collect()
    }

    /// The keys that the command may have written beside those it waited for: where an element was moved to.
    fn keys_written(&self) -> Vec<Vec<u8>> {
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        let positions = self.command.key_positions(&Args::new(&words));
        positions.into_iter().map(|at| self.words[at].clone()).collect()
    }
}

/// What a reader by a consumer group is told when it is woken and cannot read.
fn group_is_gone(error: Error, key_exists: bool, is_group_read: bool) -> Error {
    match error {
        Error::Other(text) if is_group_read && text.starts_with("NOGROUP") => Error::new(if key_exists {
            "NOGROUP the consumer group this client was blocked on no longer exists"
        } else {
            "UNBLOCKED the stream key no longer exists"
        }),
        other => other,
    }
}

/// Seconds that a command may wait, as a moment; none is for ever.
pub fn deadline(seconds: &[u8], tx: &Tx<'_>) -> Result<Option<i64>, Error> {
    let seconds =
        parse_f64(seconds).ok_or_else(|| Error::new("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1000.0).ceil();
    if ms > i64::MAX as f64 {
        return Err(Error::new("ERR timeout is out of range"));
    }
    deadline_ms(ms as i64, tx)
}

/// Milliseconds that a command may wait, as a moment; none is for ever.
pub fn deadline_ms(ms: i64, tx: &Tx<'_>) -> Result<Option<i64>, Error> {
    if ms < 0 {
        return Err(Error::new("ERR timeout is negative"));
    }
    let at = tx.now_ms().checked_add(ms);
    let at = at.ok_or_else(|| Error::new("ERR timeout is out of range"))?;
    Ok((ms > 0).then_some(at))
}
