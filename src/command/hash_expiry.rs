//! Fields of hashes that expire: setting when, asking for it, taking it away, and the commands that do so on the way.
//!
//! Guarantees: options are parsed whole before a key is touched; effects name moments, never spans: `HPEXPIREAT`,
//! `HPERSIST`, and `HDEL` for what a moment in the past has deleted. An effect that is run again sets what it says,
//! whatever the time: what expired has its own effect.

use super::args::{Args, Options};
use super::error::Error;
use super::hashes::{bulk_or_null, change};
use super::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::events::Event;
use crate::keyspace::{Absent, Change, Tx};
use crate::object::Hash;
use crate::object::hash::FieldExpiry;
use crate::resp::Reply;
use crate::resp::number::parse_i64;

const READ: &[KeySpec] = &[key(1, "RO ACCESS")];
const UPDATED: &[KeySpec] = &[key(1, "RW UPDATE")];

pub static COMMANDS: &[Spec] = &[
    setting("hexpire", hexpire).doc(
        "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "O(N) for N fields",
        "Lets fields of a hash expire after so many seconds.",
    ),
    setting("hpexpire", hpexpire).doc(
        "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "O(N) for N fields",
        "Lets fields of a hash expire after so many milliseconds.",
    ),
    setting("hexpireat", hexpireat).doc(
        "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "O(N) for N fields",
        "Lets fields of a hash expire at a time given in seconds.",
    ),
    setting("hpexpireat", hpexpireat).doc(
        "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "O(N) for N fields",
        "Lets fields of a hash expire at a time given in milliseconds.",
    ),
    asking("httl", httl)
        .doc(
            "key FIELDS numfields field [field ...]",
            "O(N) for N fields",
            "Returns in how many seconds fields expire.",
        )
        .tips(&["nondeterministic_output"]),
    asking("hpttl", hpttl)
        .doc(
            "key FIELDS numfields field [field ...]",
            "O(N) for N fields",
            "Returns in how many milliseconds fields expire.",
        )
        .tips(&["nondeterministic_output"]),
    asking("hexpiretime", hexpiretime).doc(
        "key FIELDS numfields field [field ...]",
        "O(N) for N fields",
        "Returns when fields expire, in unix seconds.",
    ),
    asking("hpexpiretime", hpexpiretime).doc(
        "key FIELDS numfields field [field ...]",
        "O(N) for N fields",
        "Returns when fields expire, in unix milliseconds.",
    ),
    Spec::new("hpersist", -5, WRITE | FAST, acl::HASH, Handler::Data(hpersist))
        .keys(UPDATED)
        .group("hash", "7.4.0")
        .doc(
            "key FIELDS numfields field [field ...]",
            "O(N) for N fields",
            "Takes the expiry of fields away.",
        ),
    Spec::new("hgetdel", -5, WRITE | FAST, acl::HASH, Handler::Data(hgetdel))
        .keys(&[key(1, "RW ACCESS DELETE")])
        .group("hash", "8.0.0")
        .doc(
            "key FIELDS numfields field [field ...]",
            "O(N) for N fields",
            "Returns the values of fields and deletes them.",
        ),
    Spec::new("hgetex", -5, WRITE | FAST, acl::HASH, Handler::Data(hgetex))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("hash", "8.0.0")
        .doc(
            "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
            "O(N) for N fields",
            "Returns the values of fields and changes when they expire.",
        ),
    Spec::new(
        "hsetex",
        -6,
        WRITE | DENYOOM | FAST,
        acl::HASH,
        Handler::Data(hsetex),
    )
    .keys(UPDATED)
    .group("hash", "8.0.0")
    .doc(
        "key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
        "O(N) for N fields",
        "Sets fields and when they expire, all of them or none.",
    ),
];

type DataHandler = fn(&Args<'_>, &mut Tx<'_>, &mut Reply) -> Outcome;

const fn setting(name: &'static str, handler: DataHandler) -> Spec {
    Spec::new(
        name,
        -6,
        WRITE | DENYOOM | FAST,
        acl::HASH,
        Handler::Data(handler),
    )
    .keys(UPDATED)
    .group("hash", "7.4.0")
}

const fn asking(name: &'static str, handler: DataHandler) -> Spec {
    Spec::new(name, -5, READONLY | FAST, acl::HASH, Handler::Data(handler))
        .keys(READ)
        .group("hash", "7.4.0")
}

/// What is replied of a field that is absent.
const NO_FIELD: i64 = -2;
/// What is replied of a field without an expiry.
const NO_EXPIRY: i64 = -1;
const NOT_WANTED: i64 = 0;
const DONE: i64 = 1;
/// The moment has passed: the field is deleted.
const DELETED: i64 = 2;

/// The latest moment at which a field can expire: Redis stores it in 48 bits and keeps two of them free.
const LATEST_MS: i64 = (1 << 46) - 1;

const NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

/// `FIELDS numfields field …` from an argument on to the end.
fn fields<'a>(args: &Args<'a>, at: usize, not_positive: &'static str) -> Result<&'a [&'a [u8]], Error> {
    if !args.is(at, "FIELDS") {
        return Err(Error::new(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = args.get(at + 1).ok().and_then(parse_i64);
    let count = count
        .filter(|count| *count > 0)
        .ok_or_else(|| Error::new(not_positive))?;
    let fields = args.rest(at + 2);
    if fields.len() as i64 != count {
        return Err(Error::new(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(fields)
}

/// How a command gives a time.
#[derive(Clone, Copy)]
struct Unit {
    seconds: bool,
    /// From now on, not from 1970 on.
    relative: bool,
}

const SPANS: &[(&str, Unit)] = &[
    (
        "EX",
        Unit {
            seconds: true,
            relative: true,
        },
    ),
    (
        "PX",
        Unit {
            seconds: false,
            relative: true,
        },
    ),
    (
        "EXAT",
        Unit {
            seconds: true,
            relative: false,
        },
    ),
    (
        "PXAT",
        Unit {
            seconds: false,
            relative: false,
        },
    ),
];

impl Unit {
    /// Unix milliseconds; an error names the command.
    fn parse(self, text: &[u8], now_ms: i64, command: &str) -> Result<i64, Error> {
        let value = parse_i64(text).ok_or(Error::NotInteger)?;
        if value < 0 {
            return Err(Error::new("ERR invalid expire time, must be >= 0"));
        }
        let ms = value.checked_mul(if self.seconds { 1_000 } else { 1 });
        let start = if self.relative { now_ms } else { 0 };
        ms.and_then(|ms| ms.checked_add(start))
            .filter(|at| *at <= LATEST_MS)
            .ok_or_else(|| Error::InvalidExpire(command.into()))
    }

    /// The time option that comes next, if one does.
    fn take(words: &mut Options<'_>) -> Option<Unit> {
        let found = SPANS.iter().find(|(word, _)| words.take(word));
        found.map(|(_, unit)| *unit)
    }
}

/// When a new expiry is taken. A field without one counts as expiring later than any time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Nx,
    Xx,
    Gt,
    Lt,
}

impl Condition {
    fn take(words: &mut Options<'_>) -> Condition {
        let conditions = [
            ("NX", Condition::Nx),
            ("XX", Condition::Xx),
            ("GT", Condition::Gt),
            ("LT", Condition::Lt),
        ];
        let found = conditions.into_iter().find(|(word, _)| words.take(word));
        found.map_or(Condition::Always, |(_, condition)| condition)
    }

    fn holds(self, old: Option<i64>, new: i64) -> bool {
        match self {
            Condition::Always => true,
            Condition::Nx => old.is_none(),
            Condition::Xx => old.is_some(),
            Condition::Gt => old.is_some_and(|old| new > old),
            Condition::Lt => old.is_none_or(|old| new < old),
        }
    }
}

/// What was done to fields, as the effects say it.
#[derive(Default)]
struct Done<'a> {
    deleted: Vec<&'a [u8]>,
    /// All of them expire at the same moment.
    expire: Vec<&'a [u8]>,
    persist: Vec<&'a [u8]>,
}

impl<'a> Done<'a> {
    /// Sets the expiry of a field that is there. A moment that has passed deletes it, except in replay.
    fn expire(&mut self, hash: &mut Hash, field: &'a [u8], at: i64, deadline: Option<i64>) -> i64 {
        if deadline.is_some_and(|now_ms| at <= now_ms) {
            hash.remove(field);
            self.deleted.push(field);
            return DELETED;
        }
        hash.set_expiry(field, Some(at));
        self.expire.push(field);
        DONE
    }

    fn note(&self, key: &[u8], at: i64, noted: &mut Change<'_>) {
        if !self.deleted.is_empty() {
            noted.command(&[&[b"HDEL", key][..], &self.deleted].concat());
            noted.called(Event::HDel);
        }
        let (mut digits, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
        if !self.expire.is_empty() {
            let at = digits.format(at).as_bytes();
            let count = count.format(self.expire.len()).as_bytes();
            noted.command(&[&[b"HPEXPIREAT", key, at, b"FIELDS", count][..], &self.expire].concat());
            if self.deleted.is_empty() {
                noted.called(Event::HExpire);
            }
        }
        if !self.persist.is_empty() {
            let count = count.format(self.persist.len()).as_bytes();
            noted.command(&[&[b"HPERSIST", key, b"FIELDS", count][..], &self.persist].concat());
            noted.called(Event::HPersist);
        }
    }
}

/// The time up to which fields have expired; none in replay, where nothing expires by itself.
fn deadline(tx: &Tx<'_>) -> Option<i64> {
    (!tx.is_replay()).then(|| tx.now_ms())
}

fn ints(results: &[i64], reply: &mut Reply) {
    reply.array(results.len());
    results.iter().for_each(|result| reply.int(*result));
}

/// Changes fields of a hash that is there, and replies an integer for each.
fn for_each<'a>(
    tx: &mut Tx<'_>,
    key: &[u8],
    fields: &'a [&'a [u8]],
    at: i64,
    mut run: impl FnMut(&mut Hash, &'a [u8], &mut Done<'a>) -> i64,
) -> Result<Vec<i64>, Error> {
    let results = tx.change::<Hash, _>(key, Absent::Skip, |hash, noted| {
        let mut done = Done::default();
        let results = fields.iter().map(|field| run(hash, field, &mut done)).collect();
        done.note(key, at, noted);
        results
    })?;
    Ok(results.unwrap_or_else(|| vec![NO_FIELD; fields.len()]))
}

fn set(unit: Unit, command: &str, args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let key = &args[1];
    // The type comes first, as in Redis.
    tx.peek_as::<Hash>(key)?;
    let at = unit.parse(&args[2], tx.now_ms(), command)?;
    let mut words = args.options(3);
    let condition = Condition::take(&mut words);
    let fields_at = args.len() - words.left();
    let fields = fields(
        args,
        fields_at,
        "ERR Parameter `numFields` should be greater than 0",
    )?;
    let deadline = deadline(tx);
    let results = for_each(tx, key, fields, at, |hash, field, done| {
        match hash.expiry(field) {
            None => NO_FIELD,
            Some(old) if condition.holds(old, at) => done.expire(hash, field, at, deadline),
            Some(_) => NOT_WANTED,
        }
    })?;
    ints(&results, reply);
    Ok(())
}

fn hexpire(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    set(SPANS[0].1, "hexpire", args, tx, reply)
}

fn hpexpire(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    set(SPANS[1].1, "hpexpire", args, tx, reply)
}

fn hexpireat(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    set(SPANS[2].1, "hexpireat", args, tx, reply)
}

fn hpexpireat(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    set(SPANS[3].1, "hpexpireat", args, tx, reply)
}

/// Replies what `show` makes of the expiry of each field and of the time.
fn ask(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply, show: fn(i64, i64) -> i64) -> Outcome {
    let now_ms = tx.now_ms();
    let hash = tx.read::<Hash>(&args[1])?;
    let fields = fields(args, 2, NOT_POSITIVE)?;
    let results = fields
        .iter()
        .map(|field| match hash.and_then(|hash| hash.expiry(field)) {
            None => NO_FIELD,
            Some(None) => NO_EXPIRY,
            Some(Some(at)) => show(at, now_ms),
        });
    ints(&results.collect::<Vec<i64>>(), reply);
    Ok(())
}

/// To the next second: a field that is there has one left at least.
fn to_seconds(ms: i64) -> i64 {
    ms.saturating_add(999).div_euclid(1_000)
}

fn httl(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    ask(args, tx, reply, |at, now| to_seconds(at - now))
}

fn hpttl(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    ask(args, tx, reply, |at, now| at - now)
}

fn hexpiretime(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    ask(args, tx, reply, |at, _| to_seconds(at))
}

fn hpexpiretime(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    ask(args, tx, reply, |at, _| at)
}

/// Takes the expiry of a field away.
fn persist<'a>(hash: &mut Hash, field: &'a [u8], done: &mut Done<'a>) -> i64 {
    match hash.expiry(field) {
        None => NO_FIELD,
        Some(None) => NO_EXPIRY,
        Some(Some(_)) => {
            hash.set_expiry(field, None);
            done.persist.push(field);
            DONE
        }
    }
}

fn hpersist(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    tx.peek_as::<Hash>(&args[1])?;
    let fields = fields(args, 2, NOT_POSITIVE)?;
    let results = for_each(tx, &args[1], fields, 0, persist)?;
    ints(&results, reply);
    Ok(())
}

/// Replies the value of each field before `run` changes it.
fn get_each<'a>(
    tx: &mut Tx<'_>,
    key: &[u8],
    fields: &'a [&'a [u8]],
    at: i64,
    reply: &mut Reply,
    mut run: impl FnMut(&mut Hash, &'a [u8], &mut Done<'a>),
) -> Outcome {
    reply.array(fields.len());
    let found = tx.change::<Hash, _>(key, Absent::Skip, |hash, noted| {
        let mut done = Done::default();
        for field in fields {
            let value = hash.get(field);
            bulk_or_null(value, reply);
            if value.is_some() {
                run(hash, field, &mut done);
            }
        }
        done.note(key, at, noted);
    })?;
    if found.is_none() {
        fields.iter().for_each(|_| reply.null());
    }
    Ok(())
}

fn hgetdel(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    tx.peek_as::<Hash>(&args[1])?;
    let fields = fields(args, 2, NOT_POSITIVE)?;
    get_each(tx, &args[1], fields, 0, reply, |hash, field, done| {
        hash.remove(field);
        done.deleted.push(field);
    })
}

fn hgetex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    tx.peek_as::<Hash>(&args[1])?;
    let mut words = args.options(2);
    let unit = Unit::take(&mut words);
    let time = unit.map(|unit| words.value().map(|value| (unit, value)));
    let persists = unit.is_none() && words.take("PERSIST");
    let fields = fields(args, args.len() - words.left(), NOT_POSITIVE)?;
    let at = match time.transpose()? {
        Some((unit, value)) => Some(unit.parse(value, tx.now_ms(), "hgetex")?),
        None => None,
    };
    let deadline = deadline(tx);
    get_each(
        tx,
        &args[1],
        fields,
        at.unwrap_or(0),
        reply,
        |hash, field, done| {
            if let Some(at) = at {
                done.expire(hash, field, at, deadline);
            } else if persists {
                persist(hash, field, done);
            }
        },
    )
}

/// When HSETEX sets anything: if none of the fields is there, or if all are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Any,
    None,
    All,
}

struct SetEx<'a> {
    presence: Presence,
    /// Not `Keep` and no time: the fields lose their expiry.
    expiry: FieldExpiry,
    pairs: &'a [&'a [u8]],
}

impl<'a> SetEx<'a> {
    fn parse(args: &Args<'a>, now_ms: i64) -> Result<SetEx<'a>, Error> {
        let mut set = SetEx {
            presence: Presence::Any,
            expiry: FieldExpiry::Clear,
            pairs: &[],
        };
        let mut words = args.options(2);
        while !words.is_done() {
            if words.take("FIELDS") {
                set.pairs = SetEx::pairs(&mut words, args)?;
                return Ok(set);
            }
            set.option(&mut words, now_ms)?;
        }
        Err(Error::new("ERR missing FIELDS argument"))
    }

    /// Takes one word, with its value if it has one.
    fn option(&mut self, words: &mut Options<'a>, now_ms: i64) -> Outcome {
        let presences = [("FNX", Presence::None), ("FXX", Presence::All)];
        if let Some((_, presence)) = presences.into_iter().find(|(word, _)| words.take(word)) {
            if self.presence != Presence::Any {
                return Err(Error::new(
                    "ERR Only one of FXX or FNX arguments can be specified",
                ));
            }
            self.presence = presence;
            return Ok(());
        }
        let unit = Unit::take(words);
        if unit.is_none() && !words.take("KEEPTTL") {
            return Err(Error::new("ERR unknown argument"));
        }
        if self.expiry != FieldExpiry::Clear {
            return Err(Error::new(
                "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
            ));
        }
        self.expiry = match unit {
            Some(unit) => FieldExpiry::At(unit.parse(words.value()?, now_ms, "hsetex")?),
            None => FieldExpiry::Keep,
        };
        Ok(())
    }

    /// `numfields field value …` to the end.
    fn pairs(words: &mut Options<'a>, args: &Args<'a>) -> Result<&'a [&'a [u8]], Error> {
        let count = words.value().ok().and_then(parse_i64);
        let count = count
            .filter(|count| *count > 0)
            .ok_or_else(|| Error::new("ERR invalid number of fields"))?;
        let pairs = args.rest(args.len() - words.left());
        if count.checked_mul(2) != Some(pairs.len() as i64) {
            return Err(Error::Arity("hsetex".into()));
        }
        Ok(pairs)
    }

    fn fields(&self) -> impl Iterator<Item = &'a [u8]> {
        self.pairs.iter().step_by(2).copied()
    }

    fn wants(&self, hash: &Hash) -> bool {
        match self.presence {
            Presence::Any => true,
            Presence::None => !self.fields().any(|field| hash.contains(field)),
            Presence::All => self.fields().all(|field| hash.contains(field)),
        }
    }

    /// Values first, then the moment; where expiries are kept, one command that keeps them.
    fn note(&self, key: &[u8], done: &Done<'_>, noted: &mut Change<'_>) {
        if self.expiry == FieldExpiry::Keep {
            let mut count = itoa::Buffer::new();
            let count = count.format(self.pairs.len() / 2).as_bytes();
            noted.command(&[&[b"HSETEX", key, b"KEEPTTL", b"FIELDS", count][..], self.pairs].concat());
            return;
        }
        noted.command(&[&[b"HSET", key][..], self.pairs].concat());
        if let FieldExpiry::At(at) = self.expiry {
            done.note(key, at, noted);
            noted.called(Event::HSet);
            noted.also(if done.deleted.is_empty() {
                Event::HExpire
            } else {
                Event::HDel
            });
        }
    }
}

fn hsetex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let key = &args[1];
    let set = SetEx::parse(args, tx.now_ms())?;
    let deadline = deadline(tx);
    let done = change(tx, key, |hash, limits, noted| {
        if !set.wants(hash) {
            return Ok(false);
        }
        for pair in set.pairs.chunks_exact(2) {
            hash.set(pair[0], pair[1], set.expiry, limits);
        }
        let mut done = Done::default();
        if let FieldExpiry::At(at) = set.expiry {
            for field in set
                .fields()
                .filter(|_| deadline.is_some_and(|now_ms| at <= now_ms))
            {
                hash.remove(field);
                done.deleted.push(field);
            }
            if done.deleted.is_empty() {
                done.expire.extend(set.fields());
            }
        }
        set.note(key, &done, noted);
        Ok(true)
    })?;
    reply.int(done.into());
    Ok(())
}
