//! KWATCH: what becomes of keys, from an offset of the journal on, and from there live.
//!
//! ```text
//!  FROM ────────────────────────────────────── E ───────────────────────────>  the journal
//!  [ read by the connection, at the client's pace ][ the rest, at once ][ live: messages of __keyvalue@… ]
//!                                                  ^ the client becomes a subscriber of the key
//! ```
//!
//! Without FROM it is a subscription to `__keyvalue@<db>__:<key>`, which begins with the value as it is.
//!
//! Guarantees:
//! * No gap and nothing twice: a client becomes a subscriber while the key's shard is locked, and the journal's end
//!   then is E. Changes that are recorded below E are read from the journal, and later ones come live; what comes live
//!   meanwhile waits in the inbox.
//! * A client that is far behind holds up nobody: only its own connection waits for it. The segments that it has yet to
//!   read stay until it has.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::execute::resolve;
use super::pubsub::{confirm, give_back};
use super::recorded::Recorded;
use super::spec::{Found, Handler, Outcome, Spec, flag::*, keys};
use super::table::Finder;
use crate::journal::{self, Follower, Hold, Journal};
use crate::keyspace::Keyspace;
use crate::keyspace::effects::push_command;
use crate::keyspace::events::Event;
use crate::net::session::Session;
use crate::pubsub::channel;
use crate::pubsub::notify::{self, Head, What};
use crate::resp::Reply;
use crate::resp::number::parse_i64;
use crate::server::Server;

const SINCE: &str = "0.1.0";
const SUBSCRIBING: u32 = PUBSUB | NOSCRIPT | NO_MULTI;

pub static COMMANDS: &[Spec] = &[
    Spec::new("kwatch", -2, SUBSCRIBING, 0, Handler::Admin(kwatch))
        .keys(&[keys(1, 1, "RO ACCESS")])
        .walk(found_keys)
        .group("pubsub", SINCE)
        .doc(
            "key [key ...] [FROM offset]",
            "O(N) for N keys; with FROM, and O(M) for M bytes of journal behind the offset",
            "Lets the client hear what becomes of keys and their values, also since an offset of the journal.",
        ),
    Spec::new("kunwatch", -1, SUBSCRIBING, 0, Handler::Admin(kunwatch))
        .keys(&[keys(1, 1, "RO")])
        .group("pubsub", SINCE)
        .doc(
            "[key [key ...]]",
            "O(N) for N keys",
            "Ends what KWATCH began, for keys or for all of them.",
        ),
];

/// Every argument is a key, but for FROM and its offset at the end.
fn found_keys(args: &Args<'_>) -> Found {
    let keys = watched_keys(args).0.len();
    (1..=keys).map(|at| (at, 0)).collect()
}

fn watched_keys<'a>(args: &Args<'a>) -> (&'a [&'a [u8]], Option<&'a [u8]>) {
    match args.rest(1) {
        [keys @ .., word, offset] if !keys.is_empty() && word.eq_ignore_ascii_case(b"FROM") => {
            (keys, Some(offset))
        }
        keys => (keys, None),
    }
}

fn kwatch(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let (keys, offset) = watched_keys(args);
    let (server, db) = (context.server, context.session.db);
    let catch_up = match offset {
        None => None,
        Some(offset) => Some(CatchUp::new(&server.keyspace, db, keys, offset)?),
    };
    let session = &mut *context.session;
    let pubsub = &server.pubsub;
    let own = session
        .subscriptions
        .get_or_insert_with(|| pubsub.enter(&session.client));
    let mut outcome = Ok(());
    for (at, key) in keys.iter().enumerate() {
        let channel = channel::values_of(db, key);
        if catch_up.is_some() {
            // What it has heard of the key so far comes before what the journal says.
            pubsub.unsubscribe(&server.keyspace, own, &channel);
            session.client.move_inbox_to(context.reply);
            let count = own.channels() + own.patterns() + at + 1;
            confirm(context.reply, b"kwatch", Some(key), count);
            continue;
        }
        outcome = pubsub.subscribe(&server.keyspace, own, &channel);
        if outcome.is_err() {
            break;
        }
        let count = own.channels() + own.patterns();
        confirm(context.reply, b"kwatch", Some(key), count);
    }
    session.catch_up = catch_up.map(Box::new);
    session.note_subscriptions();
    if session.catch_up.is_none() {
        give_back(session, pubsub, &server.keyspace);
    }
    Ok(outcome?)
}

fn kunwatch(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let (server, db) = (context.server, context.session.db);
    let (pubsub, session) = (&server.pubsub, &mut *context.session);
    let Some(own) = &mut session.subscriptions else {
        let none: [&[u8]; 1] = [b""];
        let names = if args.len() > 1 { args.rest(1) } else { &none };
        for name in names {
            confirm(
                context.reply,
                b"kunwatch",
                Some(*name).filter(|_| args.len() > 1),
                0,
            );
        }
        session.replied_pushes = true;
        return Ok(());
    };
    let mut channels: Vec<(Vec<u8>, Vec<u8>)> = args
        .rest(1)
        .iter()
        .map(|key| (key.to_vec(), channel::values_of(db, key)))
        .collect();
    if channels.is_empty() {
        channels = own.watched_values();
    }
    for (key, channel) in &channels {
        pubsub.unsubscribe(&server.keyspace, own, channel);
        session.client.move_inbox_to(context.reply);
        let count = own.channels() + own.patterns();
        confirm(context.reply, b"kunwatch", Some(key), count);
    }
    if channels.is_empty() {
        let count = own.channels() + own.patterns();
        confirm(context.reply, b"kunwatch", None, count);
    }
    session.note_subscriptions();
    give_back(session, pubsub, &server.keyspace);
    Ok(())
}

/// A key, and what is read of it.
struct Behind {
    key: Box<[u8]>,
    channel: Vec<u8>,
    /// Changes that are recorded beyond this offset come live.
    live_from: u64,
    /// What the record at hand does to the key.
    change: Option<Change>,
}

/// What one record does to a key.
struct Change {
    event: String,
    what: What,
    effects: Vec<u8>,
}

/// What a client has to be told from the journal before it hears live.
pub struct CatchUp {
    /// Keeps what is yet to be read.
    _hold: Hold,
    follower: Follower,
    recorded: Recorded,
    finder: Finder,
    db: u8,
    keys: Vec<Behind>,
}

/// Replies are written, and other things looked at, when so much has been put together.
const REPLY_BYTES: usize = 64 << 10;
/// Bytes of journal looked through before others of the same thread have their turn.
const READ_MOST: u64 = 4 << 20;
/// So near its end the journal is read to its end at once.
const NEAR: u64 = 1 << 20;

/// How far a part of the reading has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    More,
    /// There will be more when the journal is durable up to this offset.
    Wait(u64),
    /// It is time to go live.
    Near,
}

impl CatchUp {
    /// Holds what is to be read. An error says why it cannot be.
    fn new(keyspace: &Keyspace, db: u8, keys: &[&[u8]], offset: &[u8]) -> Result<CatchUp, Error> {
        let offset = parse_i64(offset).and_then(|offset| u64::try_from(offset).ok());
        let offset = offset.ok_or_else(|| Error::new("ERR offset is not an integer or out of range"))?;
        let map = keyspace.ranges();
        if let Some(key) = keys.iter().find(|key| !map.find(key).is_durable()) {
            return Err(Error::new(format!(
                "ERR the changes of '{}' are not kept: its range '{}' is not durable",
                key.escape_ascii(),
                map.find(key).spec.name
            )));
        }
        let journal = journal_of(keyspace)?;
        let hold = journal.hold(offset);
        let oldest = journal
            .oldest()
            .map_err(|error| Error::new(format!("ERR the journal cannot be read: {error}")))?;
        if offset < oldest {
            return Err(Error::new(format!(
                "ERR offset {offset} is not in the journal any more, the oldest is {oldest}"
            )));
        }
        let end = journal.end();
        if offset > end {
            return Err(Error::new(format!(
                "ERR offset {offset} is not in the journal, which ends at {end}"
            )));
        }
        let lost = journal::lost(journal.dir(), offset)
            .map_err(|error| Error::new(format!("ERR the journal cannot be read: {error}")))?;
        if let Some((end, start)) = lost {
            return Err(Error::new(format!(
                "ERR offset {offset} was lost in a crash: the journal ended at {end} and goes on at {start}"
            )));
        }
        let behind = |key: &&[u8]| Behind {
            key: (*key).into(),
            channel: channel::values_of(db, key),
            live_from: u64::MAX,
            change: None,
        };
        Ok(CatchUp {
            _hold: hold,
            follower: Follower::new(journal.dir(), offset),
            recorded: Recorded::default(),
            finder: Finder::default(),
            db,
            keys: keys.iter().map(behind).collect(),
        })
    }

    /// Reads a part of what is durable.
    pub fn read_on(&mut self, keyspace: &Keyspace, reply: &mut Reply) -> Result<Progress, Error> {
        let journal = journal_of(keyspace)?;
        let synced = journal.synced();
        let most = self.follower.position().saturating_add(READ_MOST);
        while reply.len() < REPLY_BYTES && self.follower.position() < most {
            if !self.read_record(synced, reply)? {
                break;
            }
        }
        let (position, end) = (self.follower.position(), journal.end());
        Ok(if end.saturating_sub(position) < NEAR {
            Progress::Near
        } else if position >= synced {
            Progress::Wait(end)
        } else {
            Progress::More
        })
    }

    /// Makes the client a subscriber of the keys. Returns the offset up to which the journal is to be read now, once it
    /// is durable that far.
    pub fn go_live(&mut self, server: &Server, session: &mut Session) -> u64 {
        let (pubsub, keyspace) = (&server.pubsub, &server.keyspace);
        let own = session
            .subscriptions
            .get_or_insert_with(|| pubsub.enter(&session.client));
        for behind in &mut self.keys {
            behind.live_from = pubsub.subscribe_from_now_on(keyspace, own, &behind.channel);
        }
        session.note_subscriptions();
        let ends = self.keys.iter().map(|behind| behind.live_from);
        ends.max().unwrap_or(0)
    }

    /// Reads the rest.
    pub fn read_to(&mut self, end: u64, reply: &mut Reply) -> Result<(), Error> {
        while self.read_record(end, reply)? {}
        Ok(())
    }

    /// Reads a record that begins below `end`; false when there is none.
    fn read_record(&mut self, end: u64, reply: &mut Reply) -> Result<bool, Error> {
        let unreadable = |why: String| Error::new(format!("ERR the journal cannot be read: {why}"));
        let read = self.follower.next(end);
        let Some((header, payload)) = read.map_err(|error| unreadable(error.to_string()))? else {
            return Ok(false);
        };
        let (keys, finder, db) = (&mut self.keys, &mut self.finder, self.db);
        let found = self
            .recorded
            .each(payload, |of, args| note_effect(keys, finder, (of, db), args));
        found.map_err(unreadable)?;
        for behind in &mut self.keys {
            let change = behind.change.take();
            if let Some(change) = change.filter(|_| header.end() <= behind.live_from) {
                let bytes: &[u8] = match change.what {
                    What::Gone => b"",
                    _ => &change.effects,
                };
                let head = Head {
                    event: &change.event,
                    offset: header.end(),
                    what: change.what,
                    more: false,
                };
                let news = notify::news(&head, bytes);
                reply.push(3);
                reply.bulk(b"message");
                reply.bulk(&behind.channel);
                reply.bulk(&news);
            }
        }
        Ok(true)
    }
}

fn journal_of(keyspace: &Keyspace) -> Result<&Journal, Error> {
    let journal = keyspace.journal();
    journal.ok_or_else(|| Error::new("ERR the journal is not open"))
}

/// Notes what an effect does to the keys, if anything.
fn note_effect(keys: &mut [Behind], finder: &mut Finder, (of, db): (u8, u8), args: &Args<'_>) {
    let is_db = |at: usize| args.int(at).is_ok_and(|number| number == i64::from(db));
    let of_all = match &args[0] {
        b"FLUSHALL" => Some(("flushall", What::Gone)),
        b"FLUSHDB" if of == db => Some(("flushdb", What::Gone)),
        b"SWAPDB" if is_db(1) || is_db(2) => Some(("swapdb", What::Unknown)),
        // Which keys a range held is not known any more.
        b"RANGE" => Some(("range", What::Unknown)),
        b"FLUSHDB" | b"SWAPDB" => return,
        _ => None,
    };
    if let Some((event, what)) = of_all {
        for behind in keys {
            behind.change = Some(Change {
                event: event.into(),
                what,
                effects: Vec::new(),
            });
        }
        return;
    }
    let Ok(command) = resolve(args, finder) else {
        return;
    };
    if of != db {
        return;
    }
    for at in command.key_positions(args) {
        for behind in keys.iter_mut().filter(|behind| *behind.key == args[at]) {
            behind.add(args);
        }
    }
}

impl Behind {
    /// One more effect of the record at hand.
    fn add(&mut self, args: &Args<'_>) {
        let change = self.change.get_or_insert_with(|| Change {
            event: String::new(),
            what: What::Gone,
            effects: Vec::new(),
        });
        change.event = event_of(args);
        change.what = What::Effects;
        if args.is(0, "DEL") {
            // What was before does not matter any more.
            change.what = What::Gone;
            change.effects.clear();
        }
        push_command(&mut change.effects, args.all());
    }
}

/// What an effect is called where the command as it was received is not known any more.
fn event_of(args: &Args<'_>) -> String {
    let name = args[0].to_ascii_lowercase();
    let event = match &name[..] {
        b"pexpireat" => Some(Event::Expire),
        b"persist" => Some(Event::Persist),
        b"del" => Some(Event::Del),
        _ => Event::of(args.all()),
    };
    event.map_or_else(
        || String::from_utf8_lossy(&name).into_owned(),
        |event| event.name().into(),
    )
}
