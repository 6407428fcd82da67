//! What is known of a command: one row beside its handler. `COMMAND`, routing, locking, ACL and metrics derive from it.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::execute::Executor;
use crate::keyspace::Tx;
use crate::net::session::Session;
use crate::resp::Reply;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

pub use super::key_spec::{
    Begin, Find, Found, KeySpec, Positions, key, keynum, keys, keyword, range, unknown,
};

pub type Outcome = Result<(), Error>;

/// Works on keys under their locks, and on nothing of the connection.
pub type DataHandler = fn(&Args<'_>, &mut Tx<'_>, &mut Reply) -> Outcome;

/// The three kinds of handler, by what they may reach.
#[derive(Clone, Copy)]
pub enum Handler {
    Data(DataHandler),
    /// The connection's session.
    Session(fn(&Args<'_>, &mut Session, &mut Reply) -> Outcome),
    /// The session and the whole server. May wait for a disk.
    Admin(fn(&Args<'_>, &mut Context<'_>) -> Outcome),
    /// Runs the commands of the connection that were queued.
    Exec,
    /// Runs commands by itself: a script.
    Script(fn(&mut Executor, &Args<'_>, &mut Session, &mut Reply) -> Outcome),
    /// Only subcommands.
    Container,
}

/// Command flags, as `COMMAND INFO` names them.
pub mod flag {
    pub const WRITE: u32 = 1;
    pub const READONLY: u32 = 1 << 1;
    pub const DENYOOM: u32 = 1 << 2;
    pub const ADMIN: u32 = 1 << 3;
    pub const PUBSUB: u32 = 1 << 4;
    pub const NOSCRIPT: u32 = 1 << 5;
    pub const BLOCKING: u32 = 1 << 6;
    pub const LOADING: u32 = 1 << 7;
    pub const STALE: u32 = 1 << 8;
    pub const SKIP_MONITOR: u32 = 1 << 9;
    pub const SKIP_SLOWLOG: u32 = 1 << 10;
    pub const FAST: u32 = 1 << 11;
    pub const NO_AUTH: u32 = 1 << 12;
    /// It writes nothing and is more than a read. `COMMAND INFO` does not show it.
    pub const MAY_REPLICATE: u32 = 1 << 13;
    pub const NO_MANDATORY_KEYS: u32 = 1 << 14;
    pub const NO_ASYNC_LOADING: u32 = 1 << 15;
    pub const NO_MULTI: u32 = 1 << 16;
    pub const MOVABLEKEYS: u32 = 1 << 17;
    pub const ALLOW_BUSY: u32 = 1 << 18;
    pub const ASKING: u32 = 1 << 19;

    /// In the order in which Redis lists them.
    pub const NAMES: &[(u32, &str)] = &[
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_MONITOR, "skip_monitor"),
        (SKIP_SLOWLOG, "skip_slowlog"),
        (ASKING, "asking"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_MANDATORY_KEYS, "no_mandatory_keys"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (NO_MULTI, "no_multi"),
        (MOVABLEKEYS, "movablekeys"),
        (ALLOW_BUSY, "allow_busy"),
    ];
}

/// ACL categories. Those that follow from the flags need not be named in a row.
pub mod acl {
    pub const KEYSPACE: u32 = 1;
    pub const STRING: u32 = 1 << 1;
    pub const BITMAP: u32 = 1 << 2;
    pub const CONNECTION: u32 = 1 << 3;
    pub const DANGEROUS: u32 = 1 << 4;
    pub const READ: u32 = 1 << 5;
    pub const WRITE: u32 = 1 << 6;
    pub const PUBSUB: u32 = 1 << 7;
    pub const ADMIN: u32 = 1 << 8;
    pub const FAST: u32 = 1 << 9;
    pub const SLOW: u32 = 1 << 10;
    pub const BLOCKING: u32 = 1 << 11;
    pub const SET: u32 = 1 << 12;
    pub const SORTED_SET: u32 = 1 << 13;
    pub const LIST: u32 = 1 << 14;
    pub const HASH: u32 = 1 << 15;
    pub const HYPERLOGLOG: u32 = 1 << 16;
    pub const GEO: u32 = 1 << 17;
    pub const STREAM: u32 = 1 << 18;
    pub const TRANSACTION: u32 = 1 << 19;
    pub const SCRIPTING: u32 = 1 << 20;

    /// In the order in which Redis lists them.
    pub const NAMES: &[(u32, &str)] = &[
        (KEYSPACE, "@keyspace"),
        (READ, "@read"),
        (WRITE, "@write"),
        (SET, "@set"),
        (SORTED_SET, "@sortedset"),
        (LIST, "@list"),
        (HASH, "@hash"),
        (STRING, "@string"),
        (BITMAP, "@bitmap"),
        (HYPERLOGLOG, "@hyperloglog"),
        (GEO, "@geo"),
        (STREAM, "@stream"),
        (PUBSUB, "@pubsub"),
        (ADMIN, "@admin"),
        (FAST, "@fast"),
        (SLOW, "@slow"),
        (BLOCKING, "@blocking"),
        (DANGEROUS, "@dangerous"),
        (CONNECTION, "@connection"),
        (TRANSACTION, "@transaction"),
        (SCRIPTING, "@scripting"),
    ];

    /// What a command flag implies.
    pub const IMPLIED: &[(u32, u32)] = &[
        (super::flag::WRITE, WRITE),
        (super::flag::READONLY, READ),
        (super::flag::ADMIN, ADMIN | DANGEROUS),
        (super::flag::PUBSUB, PUBSUB),
        (super::flag::FAST, FAST),
        (super::flag::BLOCKING, BLOCKING),
    ];
}

/// Calls of a command since the start or `CONFIG RESETSTAT`.
pub struct Stats {
    /// Calls by duration: bucket `i` counts those of less than 2^i nanoseconds that no lower bucket counts.
    pub durations: [AtomicU64; BUCKETS],
    pub nanos: AtomicU64,
    /// Refused before the handler ran.
    pub rejected: AtomicU64,
    /// The handler replied with an error.
    pub failed: AtomicU64,
}

/// Up to 2^39 nanoseconds: nine minutes.
pub const BUCKETS: usize = 40;

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            durations: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// The bucket of a call that took so long.
    #[inline]
    pub fn bucket(nanos: u64) -> usize {
        ((u64::BITS - nanos.leading_zeros()) as usize).min(BUCKETS - 1)
    }

    /// Counts calls of one bucket, with what they took together.
    #[inline]
    pub fn note(&self, bucket: usize, calls: u64, nanos: u64) {
        self.durations[bucket].fetch_add(calls, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    pub fn calls(&self) -> u64 {
        self.durations.iter().map(|count| count.load(Relaxed)).sum()
    }

    pub fn reset(&self) {
        let counters = [&self.nanos, &self.rejected, &self.failed];
        self.durations
            .iter()
            .chain(counters)
            .for_each(|counter| counter.store(0, Relaxed));
    }
}

/// Finds the keys of a request: places, each with the number of the key specification that describes it.
pub type Walk = fn(&Args<'_>) -> Found;

pub struct Spec {
    /// Lower case; a subcommand's is its own part alone.
    pub name: &'static str,
    /// Arguments with the name; negative: at least so many. For subcommands the container's name counts too.
    pub arity: i32,
    pub flags: u32,
    pub acl: u32,
    pub keys: &'static [KeySpec],
    /// Finds the keys in place of `keys`, where these would miss one or take another argument for one.
    pub walk: Option<Walk>,
    /// The place of the key of a command that has just one, at a fixed place; else 0. Follows from `keys` and `walk`.
    only_key: usize,
    pub handler: Handler,
    pub subcommands: &'static [Spec],
    pub group: &'static str,
    pub since: &'static str,
    pub complexity: &'static str,
    /// One sentence of our own.
    pub summary: &'static str,
    /// What follows the name, in the notation of command pages: `key value [NX | XX]`.
    pub syntax: &'static str,
    /// Hints for clients and proxies.
    pub tips: &'static [&'static str],
}

impl Spec {
    /// A row without keys, subcommands and documentation; the builder methods add them.
    pub const fn new(name: &'static str, arity: i32, flags: u32, acl: u32, handler: Handler) -> Spec {
        Spec {
            name,
            arity,
            flags,
            acl,
            keys: &[],
            walk: None,
            only_key: 0,
            handler,
            subcommands: &[],
            group: "generic",
            since: "1.0.0",
            complexity: "",
            summary: "",
            syntax: "",
            tips: &[],
        }
    }

    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Spec {
        self.keys = keys;
        self.only_key = match (keys, self.walk) {
            ([only], None) => match only.single() {
                Some(at) => at,
                None => 0,
            },
            _ => 0,
        };
        self
    }

    /// For rows whose key specifications describe the keys without always finding them.
    pub const fn walk(mut self, walk: Walk) -> Spec {
        self.walk = Some(walk);
        self.only_key = 0;
        self
    }

    pub const fn subcommands(mut self, subcommands: &'static [Spec]) -> Spec {
        self.subcommands = subcommands;
        self
    }

    /// Group and the Redis (or Terrace) version that brought the command.
    pub const fn group(mut self, group: &'static str, since: &'static str) -> Spec {
        self.group = group;
        self.since = since;
        self
    }

    pub const fn doc(
        mut self,
        syntax: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Spec {
        self.syntax = syntax;
        self.complexity = complexity;
        self.summary = summary;
        self
    }

    pub const fn tips(mut self, tips: &'static [&'static str]) -> Spec {
        self.tips = tips;
        self
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub fn accepts(&self, args: usize) -> bool {
        if self.arity >= 0 {
            args == self.arity as usize
        } else {
            args >= self.arity.unsigned_abs() as usize
        }
    }

    /// The key of a request of a command that has just one, at a fixed place.
    #[inline]
    pub fn only_key<'a>(&self, args: &Args<'a>) -> Option<&'a &'a [u8]> {
        let at = self.only_key;
        (at > 0).then(|| args.all().get(at)).flatten()
    }

    /// The place of that key; 0 for commands that have none or more.
    #[inline]
    pub fn only_key_place(&self) -> usize {
        self.only_key
    }

    /// Argument positions of the keys of a request. It may be too short or have syntax errors: then what looks like
    /// keys is found.
    #[inline]
    pub fn key_positions(&self, args: &Args<'_>) -> Positions {
        match self.only_key {
            0 => self.found_keys(args).into_iter().map(|(at, _)| at).collect(),
            at if at < args.len() => Positions::from_slice(&[at]),
            _ => Positions::new(),
        }
    }

    /// Positions of keys, each with the number of its specification.
    pub fn found_keys(&self, args: &Args<'_>) -> Found {
        if let Some(walk) = self.walk {
            return walk(args);
        }
        let specs = self.keys.iter().enumerate();
        specs
            .flat_map(|(number, spec)| spec.positions(args).map(move |at| (at, number)))
            .collect()
    }

    /// Names of the ACL categories, those that follow from the flags included.
    pub fn categories(&self) -> impl Iterator<Item = &'static str> + use<> {
        // What a script reads is not known, so that it only reads puts it in no category.
        let is_script = matches!(self.handler, Handler::Script(_));
        let counts = |bit: u32| self.has(bit) && !(is_script && bit == flag::READONLY);
        let implied = acl::IMPLIED.iter().filter(|(flag, _)| counts(*flag));
        let mut bits = implied.fold(self.acl, |bits, (_, implied)| bits | implied);
        if bits & acl::FAST == 0 {
            bits |= acl::SLOW;
        }
        acl::NAMES
            .iter()
            .filter(move |(bit, _)| bits & bit != 0)
            .map(|(_, name)| *name)
    }
}
