//! The registry of clients: what `CLIENT LIST` shows, and how one connection reaches another.
//!
//! A connection is reached only through its `Client`: by a flag that it looks at, an inbox of bytes that it writes
//! out, and a waker. So nobody ever waits for a slow client.

use super::connection::Connection;
use super::gather::{FULL_BYTES, Gather};
use super::inbox::Inbox;
pub use super::inbox::Parcel;
use crate::acl::users::DEFAULT;
use crate::config::{Config, OutputBufferLimit};
use crate::resp::Reply;
use crate::server::unix_ms;
use atomic_waker::AtomicWaker;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Weak};

/// `Client::flags`.
pub mod client_flag {
    pub const MONITOR: u32 = 1;
    pub const NO_EVICT: u32 = 1 << 1;
    pub const NO_TOUCH: u32 = 1 << 2;
    pub const UNIX_SOCKET: u32 = 1 << 3;
    /// Waits for a key.
    pub const BLOCKED: u32 = 1 << 4;
    /// Has subscribed to something.
    pub const PUBSUB: u32 = 1 << 5;
    /// Closed because it left too much unread.
    pub const OVER_LIMIT: u32 = 1 << 6;
    /// Between MULTI and EXEC.
    pub const MULTI: u32 = 1 << 7;
    /// A key that it watches has changed: its transaction will not run.
    pub const BROKEN: u32 = 1 << 8;
    /// Is told of changes of keys that it may have cached; of all keys with certain prefixes.
    pub const TRACKING: u32 = 1 << 9;
    pub const TRACKS_PREFIXES: u32 = 1 << 10;
    /// It is not told of its own changes.
    pub const NO_LOOP: u32 = 1 << 11;
    /// The client that it has named in its place was found to be gone.
    pub const BROKEN_REDIRECTION: u32 = 1 << 12;
}

/// In place of the number of queued commands, when no transaction has begun.
pub const NOT_QUEUING: i64 = -1;

/// Pushed bytes that a client may leave unread before it is closed.
const INBOX_MOST: usize = 64 << 20;

/// How much may wait for a client, as the configuration says at the moment. Zero is no limit.
#[derive(Default)]
pub struct OutputLimit {
    hard_bytes: AtomicU64,
    soft_bytes: AtomicU64,
    soft_ms: AtomicI64,
}

impl OutputLimit {
    pub fn set(&self, limit: OutputBufferLimit) {
        self.hard_bytes.store(limit.hard_bytes, Relaxed);
        self.soft_bytes.store(limit.soft_bytes, Relaxed);
        let soft_ms = limit.soft_seconds.saturating_mul(1_000);
        self.soft_ms
            .store(i64::try_from(soft_ms).unwrap_or(i64::MAX), Relaxed);
    }
}

/// Bytes that are held for a client, by what they are for, as of its last request. Its inbox is counted by itself.
#[derive(Default)]
pub struct Held {
    /// For what it sends, used or not; and the same for replies.
    pub input: AtomicUsize,
    pub reply: AtomicUsize,
    /// Commands between MULTI and EXEC.
    pub queued: AtomicUsize,
    pub subscriptions: AtomicUsize,
}

impl Held {
    fn total(&self) -> usize {
        let parts = [&self.input, &self.reply, &self.queued, &self.subscriptions];
        parts.into_iter().map(|part| part.load(Relaxed)).sum()
    }
}

/// What a client has said of itself.
#[derive(Default, Clone)]
pub struct Names {
    pub name: String,
    pub lib_name: String,
    pub lib_ver: String,
}

pub struct Client {
    pub id: u64,
    pub addr: String,
    pub laddr: String,
    pub fd: i32,
    pub created_ms: i64,
    pub names: Mutex<Names>,
    /// The name of its user.
    pub user: Mutex<Box<[u8]>>,
    pub db: AtomicU8,
    /// 2 or 3.
    pub protocol: AtomicU8,
    pub flags: AtomicU32,
    /// Commands queued since MULTI.
    pub queued: AtomicI64,
    pub last_active_ms: AtomicI64,
    /// Unix milliseconds since which it has to say who it is and has not; 0 when it has.
    pub stranger_since_ms: AtomicI64,
    /// Bytes received and not yet run; replies not yet written.
    pub query_bytes: AtomicUsize,
    pub output_bytes: AtomicUsize,
    pub held: Held,
    pub commands: AtomicU64,
    pub net_in: AtomicU64,
    pub net_out: AtomicU64,
    /// `Command::number` of the last command; 0 before the first.
    pub last_command: AtomicU32,
    /// Subscriptions: to channels, patterns, shard channels.
    pub subscribed: [AtomicU32; 3],
    /// What was pushed to it speaks of the journal up to this offset, and is sent when that is durable.
    pub gate: AtomicU64,
    /// Who is told in its place of changes of keys that it may have cached.
    redirection: Mutex<Option<(u64, Weak<Client>)>>,
    killed: AtomicBool,
    inbox: Mutex<Inbox>,
    /// What is in the inbox, and what was taken out of it and is not yet written.
    inbox_bytes: AtomicUsize,
    /// Unix milliseconds since which the inbox is above the soft limit; 0 when it is not.
    over_soft_since_ms: AtomicI64,
    signalled: AtomicBool,
    /// It is among those who will be told to send.
    due: AtomicBool,
    gather: Arc<Gather>,
    pub(super) waker: AtomicWaker,
}

impl Client {
    pub fn name(&self) -> String {
        self.names.lock().name.clone()
    }

    pub fn is_of_user(&self, name: &[u8]) -> bool {
        **self.user.lock() == *name
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags.load(Relaxed) & flag != 0
    }

    pub fn set(&self, flag: u32, on: bool) {
        if on {
            self.flags.fetch_or(flag, Relaxed)
        } else {
            self.flags.fetch_and(!flag, Relaxed)
        };
    }

    /// Names another client to be told in its place.
    pub fn redirect_to(&self, other: Option<&Arc<Client>>) {
        *self.redirection.lock() = other.map(|other| (other.id, Arc::downgrade(other)));
    }

    /// The id of the client that is told in its place, and the client if it is still there.
    pub fn redirection(&self) -> Option<(u64, Option<Arc<Client>>)> {
        let redirection = self.redirection.lock();
        let (id, other) = redirection.as_ref()?;
        Some((*id, other.upgrade().filter(|other| !other.is_killed())))
    }

    /// Connected from this machine: by the unix socket, or a loopback address.
    pub fn is_local(&self) -> bool {
        let ip = self
            .addr
            .parse::<SocketAddr>()
            .map(|addr| addr.ip().to_canonical());
        self.has(client_flag::UNIX_SOCKET) || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// Ends the connection soon.
    pub fn kill(&self) {
        self.killed.store(true, Release);
        self.signalled.store(true, Release);
        // Even when a signal is waiting already: who writes to a socket that takes nothing looks for this one alone.
        self.waker.wake();
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Acquire)
    }

    /// Queues bytes for the client; one that does not read them is closed.
    pub fn send(self: &Arc<Client>, message: &Parcel) {
        let queued = self.inbox_bytes.fetch_add(message.len(), Relaxed) + message.len();
        if queued > INBOX_MOST {
            self.kill();
            return;
        }
        self.inbox.lock().push(message);
        self.signal_gathered(queued);
    }

    /// As `send`, within a limit that is told each time. False when the client is being closed.
    pub fn deliver(self: &Arc<Client>, message: &Parcel, limit: &OutputLimit) -> bool {
        if self.is_killed() {
            return false;
        }
        let queued = self.inbox_bytes.fetch_add(message.len(), Relaxed) + message.len();
        let exceeds = |most: u64| most > 0 && queued as u64 > most;
        if exceeds(limit.hard_bytes.load(Relaxed)) || !self.is_within_soft(limit, queued as u64) {
            self.kill_over_limit();
            return false;
        }
        self.inbox.lock().push(message);
        self.signal_gathered(queued);
        true
    }

    /// Ends the connection if too much has been waiting for too long, though nothing more comes.
    pub fn check_soft(&self, limit: &OutputLimit) {
        if !self.is_killed()
            && self.over_soft_since_ms.load(Relaxed) != 0
            && !self.is_within_soft(limit, self.inbox_bytes.load(Relaxed) as u64)
        {
            self.kill_over_limit();
        }
    }

    fn kill_over_limit(&self) {
        self.set(client_flag::OVER_LIMIT, true);
        self.kill();
    }

    /// Makes the connection send so many bytes, when it is worth it.
    fn signal_gathered(self: &Arc<Client>, queued: usize) {
        // Whoever looks into the inbox has taken these back before, so none of them is left from an earlier time.
        if self.signalled.load(Relaxed) {
            return;
        }
        if queued > FULL_BYTES {
            return self.signal();
        }
        if self.due.load(Relaxed) || self.due.swap(true, AcqRel) {
            return;
        }
        if !self.gather.note_due(self) {
            self.send_gathered();
        }
    }

    /// What was gathered for it is to be sent.
    pub(super) fn send_gathered(&self) {
        self.due.swap(false, AcqRel);
        self.signal();
    }

    /// False when too much has waited for too long.
    fn is_within_soft(&self, limit: &OutputLimit, queued: u64) -> bool {
        let soft = limit.soft_bytes.load(Relaxed);
        let since = self.over_soft_since_ms.load(Relaxed);
        if soft == 0 || queued <= soft {
            if since != 0 {
                self.over_soft_since_ms.store(0, Relaxed);
            }
            return true;
        }
        let now = unix_ms();
        if since == 0 {
            self.over_soft_since_ms.store(now, Relaxed);
        }
        since == 0 || now - since <= limit.soft_ms.load(Relaxed)
    }

    /// Makes the connection look at what it waits for.
    pub fn wake(&self) {
        self.signal();
    }

    /// Who comes when a signal is waiting already need not wake again: the connection looks at everything it was
    /// given when it takes the signal.
    fn signal(&self) {
        if !self.signalled.swap(true, AcqRel) {
            self.waker.wake();
        }
    }

    /// True once for any number of signals.
    pub(super) fn take_signal(&self) -> bool {
        self.signalled.load(Relaxed) && self.signalled.swap(false, AcqRel)
    }

    /// Exchanges the inbox for an empty one. Its bytes count until they are `written`.
    pub(super) fn take_inbox(&self, empty: &mut Inbox) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut *self.inbox.lock(), empty);
    }

    /// So many bytes of the inbox are with the client.
    pub(super) fn written(&self, bytes: usize) {
        self.inbox_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Puts what is in the inbox behind the replies so far.
    pub fn move_inbox_to(&self, reply: &mut Reply) {
        if self.inbox_bytes() == 0 {
            return;
        }
        let taken = std::mem::take(&mut *self.inbox.lock());
        for bytes in taken.parts() {
            reply.raw(bytes);
            self.written(bytes.len());
        }
    }

    /// Bytes that wait for the client beside its replies, and how many pieces of them are in the inbox.
    pub fn inbox_bytes(&self) -> usize {
        self.inbox_bytes.load(Relaxed)
    }

    pub fn inbox_len(&self) -> usize {
        self.inbox.lock().len()
    }

    /// All bytes that it costs.
    pub fn memory(&self) -> usize {
        size_of::<Client>() + size_of::<Connection>() + self.held.total() + self.inbox_bytes()
    }
}

/// A new connection's own facts.
pub struct Peer {
    pub addr: String,
    pub laddr: String,
    pub fd: i32,
    pub unix_socket: bool,
}

/// Every connected client, by id.
#[derive(Default)]
pub struct Clients {
    by_id: DashMap<u64, Arc<Client>>,
    last_id: AtomicU64,
    count: AtomicUsize,
    pub gather: Arc<Gather>,
}

impl Clients {
    /// Adds a client, or refuses it: there are `maxclients` already.
    pub fn admit(&self, peer: Peer, config: &Config, now_ms: i64) -> Option<Arc<Client>> {
        if self.count.fetch_add(1, AcqRel) >= config.maxclients as usize {
            self.count.fetch_sub(1, AcqRel);
            return None;
        }
        let client = Arc::new(Client {
            id: self.last_id.fetch_add(1, Relaxed) + 1,
            addr: peer.addr,
            laddr: peer.laddr,
            fd: peer.fd,
            created_ms: now_ms,
            names: Mutex::default(),
            user: Mutex::new(DEFAULT.into()),
            db: AtomicU8::new(0),
            protocol: AtomicU8::new(2),
            flags: AtomicU32::new(if peer.unix_socket {
                client_flag::UNIX_SOCKET
            } else {
                0
            }),
            queued: AtomicI64::new(NOT_QUEUING),
            last_active_ms: AtomicI64::new(now_ms),
            stranger_since_ms: AtomicI64::new(0),
            query_bytes: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            held: Held::default(),
            commands: AtomicU64::new(0),
            net_in: AtomicU64::new(0),
            net_out: AtomicU64::new(0),
            last_command: AtomicU32::new(0),
            subscribed: Default::default(),
            gate: AtomicU64::new(0),
            redirection: Mutex::default(),
            killed: AtomicBool::new(false),
            inbox: Mutex::default(),
            inbox_bytes: AtomicUsize::new(0),
            over_soft_since_ms: AtomicI64::new(0),
            signalled: AtomicBool::new(false),
            due: AtomicBool::new(false),
            gather: self.gather.clone(),
            waker: AtomicWaker::new(),
        });
        self.by_id.insert(client.id, client.clone());
        Some(client)
    }

    pub fn remove(&self, id: u64) {
        if let Some((_, client)) = self.by_id.remove(&id) {
            // Whoever still knows it sees that it is gone.
            client.killed.store(true, Release);
            self.count.fetch_sub(1, AcqRel);
        }
    }

    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id
            .get(&id)
            .map(|client| client.clone())
            .filter(|client| !client.is_killed())
    }

    /// All clients that have not been told to go, by id.
    pub fn all(&self) -> Vec<Arc<Client>> {
        let staying = self.by_id.iter().filter(|client| !client.is_killed());
        let mut all: Vec<_> = staying.map(|client| client.clone()).collect();
        all.sort_by_key(|client| client.id);
        all
    }

    /// Ends the connections of clients that have not said who they are for `timeout` seconds; 0 ends none.
    pub fn close_strangers(&self, timeout: u32, now_ms: i64) {
        if timeout == 0 {
            return;
        }
        for client in self.by_id.iter() {
            let since = client.stranger_since_ms.load(Relaxed);
            if since != 0 && now_ms - since > i64::from(timeout) * 1_000 {
                client.kill();
            }
        }
    }

    /// Bytes that all clients cost together.
    pub fn memory(&self) -> usize {
        let staying = self.by_id.iter().filter(|client| !client.is_killed());
        staying.map(|client| client.memory()).sum()
    }

    /// Ends the connections of the clients that cost most, until what all cost together is within a limit, and returns
    /// them. Those that asked to be kept count, and stay.
    pub fn evict(&self, limit: u64) -> Vec<Arc<Client>> {
        let mut left = self.memory() as u64;
        if left <= limit {
            return Vec::new();
        }
        let mut candidates = self.all();
        candidates.retain(|client| !client.has(client_flag::NO_EVICT));
        candidates.sort_by_cached_key(|client| Reverse(client.memory()));
        let leaves = |client: &Arc<Client>| {
            let too_much = left > limit;
            left = left.saturating_sub(client.memory() as u64);
            too_much
        };
        let evicted: Vec<_> = candidates.into_iter().take_while(leaves).collect();
        evicted.iter().for_each(|client| client.kill());
        evicted
    }

    /// Ends the connections that have been silent for `timeout` seconds; 0 ends none.
    pub fn close_idle(&self, timeout: u32, now_ms: i64) {
        if timeout == 0 {
            return;
        }
        for client in self.by_id.iter() {
            let idle_ms = now_ms - client.last_active_ms.load(Relaxed);
            if idle_ms > i64::from(timeout) * 1_000
                && !client.has(client_flag::MONITOR | client_flag::BLOCKED | client_flag::PUBSUB)
            {
                client.kill();
            }
        }
    }
}
