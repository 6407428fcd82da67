//! Strings: reading, writing, counting.

use super::args::{Args, Options};
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::{Effect, Entry, Expiry, Tx};
use crate::resp::Reply;
use crate::resp::number::parse_i64;

pub static COMMANDS: &[Spec] = &[
    Spec::new("get", 2, READONLY | FAST, acl::STRING, Handler::Data(get))
        .keys(&[key(1, "RO ACCESS")])
        .group("string", "1.0.0")
        .doc("key", "O(1)", "Returns the string under a key."),
    Spec::new("set", -3, WRITE | DENYOOM, acl::STRING, Handler::Data(set))
        .keys(&[key(1, "RW ACCESS UPDATE VARIABLE_FLAGS")])
        .group("string", "1.0.0")
        .doc(
            "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
            "O(1)",
            "Sets the string under a key, whatever was there before.",
        ),
    Spec::new("incr", 2, WRITE | DENYOOM | FAST, acl::STRING, Handler::Data(incr))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("string", "1.0.0")
        .doc("key", "O(1)", "Adds one to the integer under a key; an absent key counts as 0."),
];

/// The string under a key, read as a command that only looks would.
fn string<'t>(tx: &'t mut Tx<'_>, key: &[u8]) -> Result<Option<&'t [u8]>, Error> {
    Ok(tx.lookup(key).map(Entry::value))
}

fn get(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    match string(tx, &args[1])? {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
    Ok(())
}

/// When SET writes at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

struct SetOptions {
    condition: Condition,
    get: bool,
    expiry: Expiry,
}

fn set_options(mut words: Options<'_>, now_ms: i64) -> Result<SetOptions, Error> {
    let mut options = SetOptions {
        condition: Condition::Always,
        get: false,
        expiry: Expiry::Clear,
    };
    while !words.is_done() {
        if options.condition == Condition::Always && words.take("NX") {
            options.condition = Condition::IfAbsent;
        } else if options.condition == Condition::Always && words.take("XX") {
            options.condition = Condition::IfPresent;
        } else if words.take("GET") {
            options.get = true;
        } else if options.expiry != Expiry::Clear {
            return Err(Error::Syntax);
        } else if words.take("KEEPTTL") {
            options.expiry = Expiry::Keep;
        } else {
            options.expiry = Expiry::At(expiry(&mut words, now_ms, "set")?);
        }
    }
    Ok(options)
}

/// `EX`, `PX`, `EXAT` or `PXAT` and its value, as unix milliseconds.
fn expiry(words: &mut Options<'_>, now_ms: i64, command: &str) -> Result<i64, Error> {
    let (seconds, relative) = match () {
        _ if words.take("EX") => (true, true),
        _ if words.take("PX") => (false, true),
        _ if words.take("EXAT") => (true, false),
        _ if words.take("PXAT") => (false, false),
        _ => return Err(Error::Syntax),
    };
    let invalid = || Error::InvalidExpire(command.into());
    let value = words.int()?;
    let ms = if seconds {
        value.checked_mul(1_000).ok_or_else(invalid)?
    } else {
        value
    };
    if value <= 0 {
        return Err(invalid());
    }
    if relative {
        ms.checked_add(now_ms).ok_or_else(invalid)
    } else {
        Ok(ms)
    }
}

fn set(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (key, value) = (&args[1], &args[2]);
    if args.len() == 3 {
        tx.put(key, value, Expiry::Clear);
        reply.ok();
        return Ok(());
    }
    let options = set_options(args.options(3), tx.now_ms())?;
    let there = if options.get {
        let old = string(tx, key)?;
        match old {
            Some(old) => reply.bulk(old),
            None => reply.null(),
        }
        old.is_some()
    } else {
        options.condition != Condition::Always && tx.exists(key)
    };
    let wanted = match options.condition {
        Condition::Always => true,
        Condition::IfAbsent => !there,
        Condition::IfPresent => there,
    };
    if wanted {
        tx.put(key, value, options.expiry);
    }
    match (options.get, wanted) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Ok(())
}

fn incr(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    increment(&args[1], 1, tx, reply)
}

fn increment(key: &[u8], by: i64, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let old = match tx.peek(key) {
        Some(entry) => parse_i64(entry.value()).ok_or(Error::NotInteger)?,
        None => 0,
    };
    let new = old.checked_add(by).ok_or(Error::Overflow)?;
    tx.edit(key, Effect::AsReceived, |entry| {
        entry.overwrite(itoa::Buffer::new().format(new).as_bytes())
    });
    reply.int(new);
    Ok(())
}
