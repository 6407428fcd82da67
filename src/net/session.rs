//! What a connection is to the commands it sends: its database, its user, how it wants replies.

use super::clients::{Client, NOT_QUEUING, client_flag};
use crate::acl::User;
use crate::acl::users::Users;
use crate::command::blocked::Waiter;
use crate::command::kwatch::CatchUp;
use crate::command::table::Command;
use crate::command::transactions::Transaction;
use crate::command::{Args, Error};
use crate::config::Config;
use crate::pubsub::subscriptions::Subscriptions;
use crate::pubsub::tracking::Tracking;
use crate::pubsub::watching::Watching;
use crate::resp::Reply;
use crate::server::unix_ms;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// `CLIENT REPLY`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// Off for the command that asked, and for the next.
    SkipNext,
    Skip,
}

/// What SYNC is to send: `REPLCONF`.
#[derive(Clone, Copy, Default)]
pub struct SnapshotWish {
    /// No changes behind it.
    pub alone: bool,
    /// Functions only.
    pub without_keys: bool,
}

/// What `WAITAOF` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncWait {
    /// The journal's offset behind everything that the connection has written.
    pub offset: u64,
    /// 0 is for ever.
    pub timeout_ms: i64,
    /// It wants replicas, of which there are none.
    pub needs_replicas: bool,
}

impl SyncWait {
    /// How many journals have it durably: here, and elsewhere.
    pub fn answer(&self, reply: &mut Reply, synced: u64) {
        reply.array(2);
        reply.int(i64::from(synced >= self.offset));
        reply.int(0);
    }
}

pub struct Session {
    pub client: Arc<Client>,
    /// Logical database.
    pub db: u8,
    /// It has said who it is, or need not have when it came.
    pub authenticated: bool,
    /// Who it is; as of `users_version`.
    pub user: Arc<User>,
    users_version: u64,
    pub reply_mode: ReplyMode,
    /// The connection ends when the replies so far are written.
    pub closing: bool,
    /// The reply just written is a guess: it is to be held until the journal is durable.
    pub sync_wait: Option<SyncWait>,
    /// The command just run waits for a key.
    pub blocked: Option<Arc<Waiter>>,
    /// Between MULTI and EXEC: the commands so far.
    pub transaction: Option<Box<Transaction>>,
    /// None while the client watches no key.
    pub watching: Option<Box<Watching>>,
    /// `CLIENT NO-TOUCH`: reads leave the access clocks of keys as they are.
    pub no_touch: bool,
    /// None while the client has subscribed to nothing.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// What the client has missed is to be told before anything else is done for it.
    pub catch_up: Option<Box<CatchUp>>,
    pub snapshot_wish: SnapshotWish,
    /// To be sent before anything else is done for the client.
    pub snapshot: Option<File>,
    /// None while it does not track keys.
    pub tracking: Option<Box<Tracking>>,
    /// What the command just run has replied are pushes, which `CLIENT REPLY` does not keep back.
    pub replied_pushes: bool,
    pub last_command: Option<&'static Command>,
}

impl Session {
    pub fn new(client: Arc<Client>, users: &Users) -> Session {
        let users_version = users.version();
        let user = users.default_user();
        let authenticated = user.is_open();
        note_stranger(&client, !authenticated);
        Session {
            client,
            db: 0,
            authenticated,
            user,
            users_version,
            reply_mode: ReplyMode::On,
            closing: false,
            sync_wait: None,
            blocked: None,
            transaction: None,
            watching: None,
            no_touch: false,
            subscriptions: None,
            catch_up: None,
            snapshot_wish: SnapshotWish::default(),
            snapshot: None,
            tracking: None,
            replied_pushes: false,
            last_command: None,
        }
    }

    /// The client has proved who it is, at a version of the users.
    pub fn become_user(&mut self, (user, version): (Arc<User>, u64)) {
        *self.client.user.lock() = user.name.clone();
        (self.user, self.users_version, self.authenticated) = (user, version, true);
        note_stranger(&self.client, false);
    }

    /// Sees changes of the users. An error: the own one is there no longer, and the connection ends.
    #[inline]
    pub fn look_at(&mut self, users: &Users) -> Result<(), Error> {
        if self.users_version == users.version() {
            return Ok(());
        }
        self.look_again(users)
    }

    #[cold]
    fn look_again(&mut self, users: &Users) -> Result<(), Error> {
        self.users_version = users.version();
        let now = users.get(&self.user.name);
        match now.filter(|user| user.identity == self.user.identity) {
            Some(user) => {
                self.user = user;
                Ok(())
            }
            None => {
                (self.user, self.authenticated, self.closing) = (users.default_user(), false, true);
                Err(Error::NoAuth)
            }
        }
    }

    pub fn select(&mut self, db: u8) {
        self.db = db;
        self.client.db.store(db, Relaxed);
    }

    /// Commands are queued from now on.
    pub fn enter_transaction(&mut self) {
        self.transaction = Some(Box::default());
        self.client.queued.store(0, Relaxed);
        self.client.set(client_flag::MULTI, true);
    }

    /// Adds a command to the transaction that has begun.
    pub fn queue(
        &mut self,
        command: &'static Command,
        args: &Args<'_>,
        config: &Config,
    ) -> Result<(), Error> {
        if let Some(transaction) = &mut self.transaction {
            transaction.add(command, args, config)?;
            self.client.queued.store(transaction.len() as i64, Relaxed);
        }
        Ok(())
    }

    /// Commands are run at once again.
    pub fn leave_transaction(&mut self) -> Option<Box<Transaction>> {
        self.client.queued.store(NOT_QUEUING, Relaxed);
        self.client.set(client_flag::MULTI, false);
        self.transaction.take()
    }

    /// As a new connection, but for what the client has said of its library.
    pub fn reset(&mut self, users: &Users) {
        self.select(0);
        self.become_user((users.default_user(), users.version()));
        self.authenticated = self.user.is_open();
        note_stranger(&self.client, !self.authenticated);
        self.reply_mode = ReplyMode::On;
        self.no_touch = false;
        self.leave_transaction();
        for flag in [client_flag::MONITOR, client_flag::NO_EVICT, client_flag::NO_TOUCH] {
            self.client.set(flag, false);
        }
        self.client.names.lock().name.clear();
    }

    /// Shows to others what is subscribed to.
    pub fn note_subscriptions(&mut self) {
        self.replied_pushes = true;
        let own = self.subscriptions.as_deref();
        let counts = own.map_or([0; 3], |own| {
            [own.channels(), own.patterns(), own.shard_channels()]
        });
        self.client.set(client_flag::PUBSUB, counts != [0; 3]);
        for (shown, count) in self.client.subscribed.iter().zip(counts) {
            shown.store(count as u32, Relaxed);
        }
    }

    /// A close estimate of the bytes that are kept for it: commands between MULTI and EXEC, and subscriptions.
    pub fn kept_bytes(&self) -> (usize, usize) {
        let queued = self.transaction.as_ref().map_or(0, |queue| queue.bytes());
        (queued, self.subscriptions.as_ref().map_or(0, |own| own.bytes()))
    }

    /// The client is sent more than replies.
    #[inline]
    pub fn hears(&self) -> bool {
        self.subscriptions.is_some() || self.tracking.is_some()
    }

    /// A subscriber that speaks the older protocol cannot tell messages from replies, so it may do little else.
    #[inline]
    pub fn only_listens(&self) -> bool {
        self.subscriptions.is_some() && self.client.protocol.load(Relaxed) == 2
    }

    /// Takes back the reply of a command that the client does not want to see; it begins at `start`.
    #[inline]
    pub fn settle_reply(&mut self, reply: &mut Reply, start: usize) {
        if self.reply_mode == ReplyMode::On {
            return;
        }
        if !std::mem::take(&mut self.replied_pushes) {
            reply.truncate(start);
        }
        self.reply_mode = match self.reply_mode {
            ReplyMode::SkipNext => ReplyMode::Skip,
            ReplyMode::Skip => ReplyMode::On,
            mode => mode,
        };
    }
}

/// From when on a client is one that has to say who it is.
fn note_stranger(client: &Client, is_stranger: bool) {
    let since = if is_stranger { unix_ms() } else { 0 };
    client.stranger_since_ms.store(since, Relaxed);
}
