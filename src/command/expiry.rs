//! When keys expire: setting it, asking for it, taking it away.

use super::args::{Args, Options};
use super::error::Error;
use super::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::Tx;
use crate::resp::Reply;

const CHANGED: &[KeySpec] = &[key(1, "RW UPDATE")];
const READ: &[KeySpec] = &[key(1, "RO ACCESS")];

pub static COMMANDS: &[Spec] = &[
    setting("expire", "1.0.0", expire).doc(
        "key seconds [NX | XX | GT | LT]",
        "O(1)",
        "Lets a key expire after so many seconds.",
    ),
    setting("pexpire", "2.6.0", pexpire).doc(
        "key milliseconds [NX | XX | GT | LT]",
        "O(1)",
        "Lets a key expire after so many milliseconds.",
    ),
    setting("expireat", "1.2.0", expireat).doc(
        "key unix-time-seconds [NX | XX | GT | LT]",
        "O(1)",
        "Lets a key expire at a time given in seconds.",
    ),
    setting("pexpireat", "2.6.0", pexpireat).doc(
        "key unix-time-milliseconds [NX | XX | GT | LT]",
        "O(1)",
        "Lets a key expire at a time given in milliseconds.",
    ),
    asking("ttl", "1.0.0", ttl)
        .doc("key", "O(1)", "Returns in how many seconds a key expires.")
        .tips(&["nondeterministic_output"]),
    asking("pttl", "2.6.0", pttl)
        .doc("key", "O(1)", "Returns in how many milliseconds a key expires.")
        .tips(&["nondeterministic_output"]),
    asking("expiretime", "7.0.0", expiretime).doc(
        "key",
        "O(1)",
        "Returns when a key expires, in unix seconds.",
    ),
    asking("pexpiretime", "7.0.0", pexpiretime).doc(
        "key",
        "O(1)",
        "Returns when a key expires, in unix milliseconds.",
    ),
    Spec::new("persist", 2, WRITE | FAST, acl::KEYSPACE, Handler::Data(persist))
        .keys(CHANGED)
        .group("generic", "2.2.0")
        .doc("key", "O(1)", "Takes a key's expiry away."),
];

type DataHandler = fn(&Args<'_>, &mut Tx<'_>, &mut Reply) -> Outcome;

const fn setting(name: &'static str, since: &'static str, handler: DataHandler) -> Spec {
    Spec::new(name, -3, WRITE | FAST, acl::KEYSPACE, Handler::Data(handler))
        .keys(CHANGED)
        .group("generic", since)
}

const fn asking(name: &'static str, since: &'static str, handler: DataHandler) -> Spec {
    Spec::new(name, 2, READONLY | FAST, acl::KEYSPACE, Handler::Data(handler))
        .keys(READ)
        .group("generic", since)
}

/// When a new expiry is taken. A key without one counts as expiring later than any time.
#[derive(Default)]
struct Condition {
    /// There is none yet; or, there is one.
    nx: bool,
    xx: bool,
    /// It is later; or, earlier.
    gt: bool,
    lt: bool,
}

impl Condition {
    fn parse(mut words: Options<'_>) -> Result<Condition, Error> {
        let mut condition = Condition::default();
        while let Some(word) = words.next_word() {
            match word.to_ascii_uppercase().as_slice() {
                b"NX" => condition.nx = true,
                b"XX" => condition.xx = true,
                b"GT" => condition.gt = true,
                b"LT" => condition.lt = true,
                _ => {
                    // Redis's text ends at a zero byte.
                    let shown = word.split(|byte| *byte == 0).next().unwrap_or_default();
                    let word = String::from_utf8_lossy(shown);
                    return Err(Error::new(format!("ERR Unsupported option {word}")));
                }
            }
        }
        if condition.nx && (condition.xx || condition.gt || condition.lt) {
            return Err(Error::new(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if condition.gt && condition.lt {
            return Err(Error::new(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(condition)
    }

    fn holds(&self, old: Option<i64>, new: i64) -> bool {
        !(self.nx && old.is_some()
            || self.xx && old.is_none()
            || self.gt && old.is_none_or(|old| new <= old)
            || self.lt && old.is_some_and(|old| new >= old))
    }
}

/// How a command gives a time.
struct Unit {
    command: &'static str,
    seconds: bool,
    /// From now on, not from 1970 on.
    relative: bool,
}

impl Unit {
    fn to_unix_ms(&self, value: i64, now_ms: i64) -> Result<i64, Error> {
        let ms = value.checked_mul(if self.seconds { 1_000 } else { 1 });
        let start = if self.relative { now_ms } else { 0 };
        ms.and_then(|ms| ms.checked_add(start))
            .ok_or_else(|| Error::InvalidExpire(self.command.into()))
    }
}

/// A time that has passed deletes the key.
fn set(unit: Unit, args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let condition = Condition::parse(args.options(3))?;
    let at = unit.to_unix_ms(args.int(2)?, tx.now_ms())?;
    let key = &args[1];
    let wanted = match tx.peek(key) {
        Some(entry) => condition.holds(entry.expiry(), at),
        None => false,
    };
    reply.int(i64::from(wanted && tx.set_expiry(key, Some(at))));
    Ok(())
}

fn expire(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let unit = Unit {
        command: "expire",
        seconds: true,
        relative: true,
    };
    set(unit, args, tx, reply)
}

fn pexpire(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let unit = Unit {
        command: "pexpire",
        seconds: false,
        relative: true,
    };
    set(unit, args, tx, reply)
}

fn expireat(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let unit = Unit {
        command: "expireat",
        seconds: true,
        relative: false,
    };
    set(unit, args, tx, reply)
}

fn pexpireat(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let unit = Unit {
        command: "pexpireat",
        seconds: false,
        relative: false,
    };
    set(unit, args, tx, reply)
}

fn persist(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    reply.int(i64::from(tx.set_expiry(&args[1], None)));
    Ok(())
}

/// Replies what `show` makes of the key's expiry; -1 without one, -2 without a key.
fn ask(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply, show: fn(i64, i64) -> i64) -> Outcome {
    let now_ms = tx.now_ms();
    reply.int(match tx.glance(&args[1]).map(|entry| entry.expiry()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => show(at, now_ms),
    });
    Ok(())
}

/// To the nearest second.
fn to_seconds(ms: i64) -> i64 {
    ms / 1_000 + i64::from(ms % 1_000 >= 500)
}

fn ttl(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    ask(args, tx, reply, |at, now| to_seconds(at - now))
}

fn pttl(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    ask(args, tx, reply, |at, now| at - now)
}

fn expiretime(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    ask(args, tx, reply, |at, _| to_seconds(at))
}

fn pexpiretime(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    ask(args, tx, reply, |at, _| at)
}
