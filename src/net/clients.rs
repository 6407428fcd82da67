//! The registry of clients: what `CLIENT LIST` shows, and how one connection reaches another.
//!
//! A connection is reached only through its `Client`: by a flag that it looks at, an inbox of bytes that it writes
//! out, and a waker. So nobody ever waits for a slow client.

use crate::config::Config;
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

/// `Client::flags`.
pub mod client_flag {
    pub const MONITOR: u32 = 1;
    pub const NO_EVICT: u32 = 1 << 1;
    pub const NO_TOUCH: u32 = 1 << 2;
    pub const UNIX_SOCKET: u32 = 1 << 3;
    /// Waits for a key.
    pub const BLOCKED: u32 = 1 << 4;
    /// Between MULTI and EXEC.
    pub const MULTI: u32 = 1 << 5;
}

/// In place of the number of queued commands, when no transaction has begun.
pub const NOT_QUEUING: i64 = -1;

/// Pushed bytes that a client may leave unread before it is closed.
const INBOX_MOST: usize = 64 << 20;

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
    pub db: AtomicU8,
    /// 2 or 3.
    pub protocol: AtomicU8,
    pub flags: AtomicU32,
    /// Commands queued since MULTI.
    pub queued: AtomicI64,
    pub last_active_ms: AtomicI64,
    /// Bytes received and not yet run; replies not yet written.
    pub query_bytes: AtomicUsize,
    pub output_bytes: AtomicUsize,
    pub commands: AtomicU64,
    pub net_in: AtomicU64,
    pub net_out: AtomicU64,
    /// `Command::number` of the last command; 0 before the first.
    pub last_command: AtomicU32,
    killed: AtomicBool,
    inbox: Mutex<VecDeque<Bytes>>,
    inbox_bytes: AtomicUsize,
    signalled: AtomicBool,
    pub(super) waker: AtomicWaker,
}

impl Client {
    pub fn name(&self) -> String {
        self.names.lock().name.clone()
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
        self.signal();
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Acquire)
    }

    /// Queues bytes for the client; one that does not read them is closed.
    pub fn send(&self, bytes: Bytes) {
        let queued = self.inbox_bytes.fetch_add(bytes.len(), Relaxed) + bytes.len();
        if queued > INBOX_MOST {
            self.kill();
            return;
        }
        self.inbox.lock().push_back(bytes);
        self.signal();
    }

    /// Makes the connection look at what it waits for.
    pub fn wake(&self) {
        self.signal();
    }

    fn signal(&self) {
        self.signalled.store(true, Release);
        self.waker.wake();
    }

    /// True once for any number of signals.
    pub(super) fn take_signal(&self) -> bool {
        self.signalled.load(Relaxed) && self.signalled.swap(false, AcqRel)
    }

    pub(super) fn take_inbox(&self) -> VecDeque<Bytes> {
        let taken = std::mem::take(&mut *self.inbox.lock());
        self.inbox_bytes
            .fetch_sub(taken.iter().map(Bytes::len).sum(), Relaxed);
        taken
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
            db: AtomicU8::new(0),
            protocol: AtomicU8::new(2),
            flags: AtomicU32::new(if peer.unix_socket {
                client_flag::UNIX_SOCKET
            } else {
                0
            }),
            queued: AtomicI64::new(NOT_QUEUING),
            last_active_ms: AtomicI64::new(now_ms),
            query_bytes: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            commands: AtomicU64::new(0),
            net_in: AtomicU64::new(0),
            net_out: AtomicU64::new(0),
            last_command: AtomicU32::new(0),
            killed: AtomicBool::new(false),
            inbox: Mutex::default(),
            inbox_bytes: AtomicUsize::new(0),
            signalled: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        self.by_id.insert(client.id, client.clone());
        Some(client)
    }

    pub fn remove(&self, id: u64) {
        if self.by_id.remove(&id).is_some() {
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

    /// Ends the connections that have been silent for `timeout` seconds; 0 ends none.
    pub fn close_idle(&self, timeout: u32, now_ms: i64) {
        if timeout == 0 {
            return;
        }
        for client in self.by_id.iter() {
            let idle_ms = now_ms - client.last_active_ms.load(Relaxed);
            if idle_ms > i64::from(timeout) * 1_000
                && !client.has(client_flag::MONITOR | client_flag::BLOCKED)
            {
                client.kill();
            }
        }
    }
}
