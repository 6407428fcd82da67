//! Strings: reading, writing, counting, and parts of them.
//!
//! Guarantees: options are parsed whole before a key is touched; every change leaves one effect per key that gives the
//! same result whenever it is run again; GET, MGET, plain SET and the counters allocate nothing.

use super::args::{Args, Options};
use super::effort::LONG_BYTES;
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, acl, flag::*, key, keys};
use crate::keyspace::entry::{FLOAT, MAX_LEN};
use crate::keyspace::load::may_wait_if;
use crate::keyspace::{Entry, Expiry, Tx};
use crate::resp::Reply;
use crate::resp::long_double::LongDouble;
use crate::resp::number::parse_i64;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

pub static COMMANDS: &[Spec] = &[
    Spec::new("get", 2, READONLY | FAST, acl::STRING, Handler::Data(get))
        .keys(&[key(1, "RO ACCESS")])
        .group("string", "1.0.0")
        .doc("key", "O(1)", "Returns the string under a key."),
    Spec::new("mget", -2, READONLY | FAST, acl::STRING, Handler::Data(mget))
        .keys(&[keys(1, 1, "RO ACCESS")])
        .group("string", "1.0.0")
        .doc("key [key ...]", "O(N) for N keys", "Returns the strings under several keys.")
        .tips(&["request_policy:multi_shard"]),
    Spec::new("strlen", 2, READONLY | FAST, acl::STRING, Handler::Data(strlen))
        .keys(&[key(1, "RO")])
        .group("string", "2.2.0")
        .doc("key", "O(1)", "Returns how many bytes a string has."),
    Spec::new("getrange", 4, READONLY, acl::STRING, Handler::Data(getrange))
        .keys(&[key(1, "RO ACCESS")])
        .group("string", "2.4.0")
        .doc("key start end", "O(N) for N bytes returned", "Returns a part of a string."),
    Spec::new("substr", 4, READONLY, acl::STRING, Handler::Data(getrange))
        .keys(&[key(1, "RO ACCESS")])
        .group("string", "1.0.0")
        .doc("key start end", "O(N) for N bytes returned", "The old name of GETRANGE."),
    Spec::new("set", -3, WRITE | DENYOOM, acl::STRING, Handler::Data(set))
        .keys(&[key(1, "RW ACCESS UPDATE VARIABLE_FLAGS")])
        .group("string", "1.0.0")
        .doc(
            "key value [NX | XX | IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
            "O(1)",
            "Sets the string under a key, whatever was there before.",
        ),
    Spec::new("setnx", 3, WRITE | DENYOOM | FAST, acl::STRING, Handler::Data(setnx))
        .keys(&[key(1, "OW INSERT")])
        .group("string", "1.0.0")
        .doc("key value", "O(1)", "Sets the string under a key that is absent."),
    Spec::new("setex", 4, WRITE | DENYOOM, acl::STRING, Handler::Data(setex))
        .keys(&[key(1, "OW UPDATE")])
        .group("string", "2.0.0")
        .doc("key seconds value", "O(1)", "Sets a string that expires after so many seconds."),
    Spec::new("psetex", 4, WRITE | DENYOOM, acl::STRING, Handler::Data(psetex))
        .keys(&[key(1, "OW UPDATE")])
        .group("string", "2.6.0")
        .doc("key milliseconds value", "O(1)", "Sets a string that expires after so many milliseconds."),
    Spec::new("getset", 3, WRITE | DENYOOM | FAST, acl::STRING, Handler::Data(getset))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("string", "1.0.0")
        .doc("key value", "O(1)", "Sets a string and returns the one before it."),
    Spec::new("getdel", 2, WRITE | FAST, acl::STRING, Handler::Data(getdel))
        .keys(&[key(1, "RW ACCESS DELETE")])
        .group("string", "6.2.0")
        .doc("key", "O(1)", "Returns a string and deletes its key."),
    Spec::new("digest", 2, READONLY | FAST, acl::STRING, Handler::Data(digest))
        .keys(&[key(1, "RO ACCESS")])
        .group("string", "8.4.0")
        .doc("key", "O(N) for N bytes", "Returns the digest of a string, to compare it without fetching it."),
    Spec::new("delex", -2, WRITE | FAST, acl::STRING, Handler::Data(delex))
        .keys(&[key(1, "RW DELETE")])
        .group("string", "8.4.0")
        .doc(
            "key [IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest]",
            "O(1), or O(N) for the digest of N bytes",
            "Deletes a key if its string is, or is not, the one expected.",
        ),
    Spec::new("getex", -2, WRITE | FAST, acl::STRING, Handler::Data(getex))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("string", "6.2.0")
        .doc(
            "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
            "O(1)",
            "Returns a string and changes when its key expires.",
        ),
    Spec::new("mset", -3, WRITE | DENYOOM, acl::STRING, Handler::Data(mset))
        .keys(&[keys(1, 2, "OW UPDATE")])
        .group("string", "1.0.1")
        .doc("key value [key value ...]", "O(N) for N keys", "Sets several strings at once.")
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"]),
    Spec::new("msetnx", -3, WRITE | DENYOOM, acl::STRING, Handler::Data(msetnx))
        .keys(&[keys(1, 2, "OW INSERT")])
        .group("string", "1.0.1")
        .doc("key value [key value ...]", "O(N) for N keys", "Sets several strings if all of their keys are absent.")
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"]),
    Spec::new("append", 3, WRITE | DENYOOM | FAST, acl::STRING, Handler::Data(append))
        .keys(&[key(1, "RW INSERT")])
        .group("string", "2.0.0")
        .doc("key value", "O(N) for N bytes appended, amortized", "Adds bytes at the end of a string."),
    Spec::new("setrange", 4, WRITE | DENYOOM, acl::STRING, Handler::Data(setrange))
        .keys(&[key(1, "RW UPDATE")])
        .group("string", "2.2.0")
        .doc("key offset value", "O(N) for N bytes written or added", "Overwrites a part of a string; zero bytes fill a gap before it."),
    Spec::new("incr", 2, WRITE | DENYOOM | FAST, acl::STRING, Handler::Data(incr))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("string", "1.0.0")
        .doc("key", "O(1)", "Adds one to the integer under a key; an absent key counts as 0."),
    Spec::new("decr", 2, WRITE | DENYOOM | FAST, acl::STRING, Handler::Data(decr))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("string", "1.0.0")
        .doc("key", "O(1)", "Takes one from the integer under a key; an absent key counts as 0."),
    Spec::new("incrby", 3, WRITE | DENYOOM | FAST, acl::STRING, Handler::Data(incrby))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("string", "1.0.0")
        .doc("key increment", "O(1)", "Adds to the integer under a key; an absent key counts as 0."),
    Spec::new("decrby", 3, WRITE | DENYOOM | FAST, acl::STRING, Handler::Data(decrby))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("string", "1.0.0")
        .doc("key decrement", "O(1)", "Takes from the integer under a key; an absent key counts as 0."),
    Spec::new("incrbyfloat", 3, WRITE | DENYOOM | FAST, acl::STRING, Handler::Data(incrbyfloat))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("string", "2.6.0")
        .doc("key increment", "O(1)", "Adds to the decimal number under a key; an absent key counts as 0."),
];

/// The string under a key, read as a command that only looks would.
pub(super) fn string<'t>(tx: &'t mut Tx<'_>, key: &[u8]) -> Result<Option<&'t [u8]>, Error> {
    tx.lookup(key).map(bytes).transpose()
}

/// The string that a write is about to change: neither a hit nor a miss.
pub(super) fn stored<'t>(tx: &'t mut Tx<'_>, key: &[u8]) -> Result<Option<&'t [u8]>, Error> {
    tx.peek(key).map(bytes).transpose()
}

fn bytes(entry: &Entry) -> Result<&[u8], Error> {
    match entry.object() {
        None => Ok(entry.value()),
        Some(_) => Err(Error::WrongType),
    }
}

/// Bytes that a string may have. Effects are run again whatever the limit has become since.
pub(super) fn max_len(tx: &Tx<'_>) -> usize {
    if tx.is_replay() {
        MAX_LEN
    } else {
        tx.keyspace().max_value_len()
    }
}

/// Length of a string of two parts, if it may be that long.
fn joined_len(tx: &Tx<'_>, first: usize, second: usize) -> Result<usize, Error> {
    first
        .checked_add(second)
        .filter(|len| *len <= max_len(tx))
        .ok_or(Error::StringTooLong)
}

/// What `start` to `end` means in something of `len` items: negative positions count from the end, and both ends
/// belong to it. None when nothing is left.
pub(super) fn interval(start: i64, end: i64, len: usize) -> Option<Range<usize>> {
    let len = len as i64;
    let from_start = |at: i64| if at < 0 { (at + len).max(0) } else { at };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    (start <= end).then_some(start as usize..end as usize + 1)
}

/// True where both positions count from the end and stand the wrong way round. Most commands see an empty interval
/// then, even where positions before the beginning would both mean the first item.
pub(super) fn is_reversed(start: i64, end: i64) -> bool {
    start < 0 && end < 0 && start > end
}

fn bulk_or_null(value: Option<&[u8]>, reply: &mut Reply) {
    match value {
        Some(value) => may_wait_if(value.len() >= LONG_BYTES, || reply.bulk(value)),
        None => reply.null(),
    }
}

fn get(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    bulk_or_null(string(tx, &args[1])?, reply);
    Ok(())
}

fn mget(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let keys = args.rest(1);
    reply.array(keys.len());
    for key in keys {
        // A key of another type counts as absent here.
        bulk_or_null(string(tx, key).unwrap_or(None), reply);
    }
    Ok(())
}

fn strlen(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    reply.int(string(tx, &args[1])?.map_or(0, |value| value.len() as i64));
    Ok(())
}

fn getrange(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (start, end) = (args.int(2)?, args.int(3)?);
    let value = string(tx, &args[1])?.unwrap_or(b"");
    let part = interval(start, end, value.len()).filter(|_| !is_reversed(start, end));
    reply.bulk(part.map_or(b"", |part| &value[part]));
    Ok(())
}

/// How a time is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clock {
    Ex,
    Px,
    ExAt,
    PxAt,
}

const CLOCKS: &[(&str, Clock)] = &[
    ("EX", Clock::Ex),
    ("PX", Clock::Px),
    ("EXAT", Clock::ExAt),
    ("PXAT", Clock::PxAt),
];

/// What the options say of the expiry. The time itself is read later, where the command looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lifetime<'a> {
    Unsaid,
    Keep,
    Persist,
    Time(Clock, &'a [u8]),
}

impl<'a> Lifetime<'a> {
    /// An option may be repeated, and the last one counts; it may not be combined with another.
    fn after(self, earlier: Lifetime<'a>) -> Result<Lifetime<'a>, Error> {
        match (earlier, self) {
            (Lifetime::Unsaid, _) => Ok(self),
            (Lifetime::Time(was, _), Lifetime::Time(is, _)) if was == is => Ok(self),
            _ if earlier == self => Ok(self),
            _ => Err(Error::Syntax),
        }
    }

    /// Takes `EX seconds` and its like.
    fn take_time(words: &mut Options<'a>) -> Result<Lifetime<'a>, Error> {
        let found = CLOCKS.iter().find(|(word, _)| words.take(word));
        let (_, clock) = found.ok_or(Error::Syntax)?;
        Ok(Lifetime::Time(*clock, words.value()?))
    }
}

/// A time as unix milliseconds.
fn unix_ms(clock: Clock, value: &[u8], now_ms: i64, command: &str) -> Result<i64, Error> {
    let value = parse_i64(value).ok_or(Error::NotInteger)?;
    let unit_ms = match clock {
        Clock::Ex | Clock::ExAt => 1000,
        Clock::Px | Clock::PxAt => 1,
    };
    let base = match clock {
        Clock::Ex | Clock::Px => now_ms,
        Clock::ExAt | Clock::PxAt => 0,
    };
    Some(value)
        .filter(|value| *value > 0)
        .and_then(|value| value.checked_mul(unit_ms)?.checked_add(base))
        .ok_or_else(|| Error::InvalidExpire(command.into()))
}

/// Hexadecimal digits of a digest.
const DIGEST_DIGITS: usize = 16;

/// A digest as `DIGEST` writes it, in either case.
fn parse_digest(text: &[u8]) -> Result<u64, Error> {
    let digits = std::str::from_utf8(text).ok().filter(|digits| {
        digits.len() == DIGEST_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| Error::new("ERR digest must be exactly 16 hexadecimal characters"))
}

/// When SET writes at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition<'a> {
    Always,
    IfAbsent,
    IfPresent,
    IfEqual(&'a [u8]),
    /// Also when the key is absent.
    IfNotEqual(&'a [u8]),
    /// By the digest of the value.
    IfDigest(u64),
    /// Also when the key is absent.
    IfNotDigest(u64),
}

impl<'a> Condition<'a> {
    /// Takes a condition, if one is next.
    fn take(words: &mut Options<'a>) -> Result<Option<Condition<'a>>, Error> {
        Ok(match () {
            _ if words.take("NX") => Some(Condition::IfAbsent),
            _ if words.take("XX") => Some(Condition::IfPresent),
            _ if words.take("IFEQ") => Some(Condition::IfEqual(words.value()?)),
            _ if words.take("IFNE") => Some(Condition::IfNotEqual(words.value()?)),
            _ if words.take("IFDEQ") => Some(Condition::IfDigest(parse_digest(words.value()?)?)),
            _ if words.take("IFDNE") => Some(Condition::IfNotDigest(parse_digest(words.value()?)?)),
            _ => None,
        })
    }

    fn holds(self, key: &[u8], tx: &mut Tx<'_>) -> Result<bool, Error> {
        Ok(match self {
            Condition::Always => true,
            Condition::IfAbsent => !tx.exists(key),
            Condition::IfPresent => tx.exists(key),
            Condition::IfEqual(wanted) => stored(tx, key)? == Some(wanted),
            Condition::IfNotEqual(unwanted) => stored(tx, key)? != Some(unwanted),
            Condition::IfDigest(wanted) => stored(tx, key)?.map(xxh3_64) == Some(wanted),
            Condition::IfNotDigest(unwanted) => stored(tx, key)?.map(xxh3_64) != Some(unwanted),
        })
    }
}

#[derive(PartialEq, Eq, Debug)]
struct SetOptions<'a> {
    condition: Condition<'a>,
    get: bool,
    lifetime: Lifetime<'a>,
}

fn set_options<'a>(mut words: Options<'a>) -> Result<SetOptions<'a>, Error> {
    let mut options = SetOptions {
        condition: Condition::Always,
        get: false,
        lifetime: Lifetime::Unsaid,
    };
    while !words.is_done() {
        if let Some(condition) = Condition::take(&mut words)? {
            if options.condition != Condition::Always && options.condition != condition {
                return Err(Error::Syntax);
            }
            options.condition = condition;
        } else if words.take("GET") {
            options.get = true;
        } else if words.take("KEEPTTL") {
            options.lifetime = Lifetime::Keep.after(options.lifetime)?;
        } else {
            options.lifetime = Lifetime::take_time(&mut words)?.after(options.lifetime)?;
        }
    }
    Ok(options)
}

fn set(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (key, value) = (&args[1], &args[2]);
    if args.len() == 3 {
        tx.put(key, value, Expiry::Clear);
        reply.ok();
        return Ok(());
    }
    let options = set_options(args.options(3))?;
    let expiry = match options.lifetime {
        Lifetime::Time(clock, time) => Expiry::At(unix_ms(clock, time, tx.now_ms(), "set")?),
        Lifetime::Keep => Expiry::Keep,
        Lifetime::Unsaid | Lifetime::Persist => Expiry::Clear,
    };
    if options.get {
        bulk_or_null(string(tx, key)?, reply);
    }
    let wanted = options.condition.holds(key, tx)?;
    if wanted {
        tx.put(key, value, expiry);
    }
    match (options.get, wanted) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Ok(())
}

/// The digest of a string: XXH3 of 64 bits, in hexadecimal.
fn digest(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    match string(tx, &args[1])? {
        Some(value) => reply.bulk(format!("{:016x}", xxh3_64(value)).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

/// Without a condition a key of any type goes; with one, a string that meets it. An absent key meets none.
fn delex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let key = &args[1];
    let mut words = args.options(2);
    let condition = match args.len() {
        2 => Condition::IfPresent,
        4 => Condition::take(&mut words)?.ok_or(Error::Syntax)?,
        _ => return Err(Error::Syntax),
    };
    // NX and XX take no value: what stands behind them is left.
    words.finish()?;
    let deleted = tx.exists(key) && condition.holds(key, tx)? && tx.delete(key);
    reply.int(deleted.into());
    Ok(())
}

fn setnx(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let absent = !tx.exists(&args[1]);
    if absent {
        tx.put(&args[1], &args[2], Expiry::Clear);
    }
    reply.int(absent.into());
    Ok(())
}

fn setex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let at = unix_ms(Clock::Ex, &args[2], tx.now_ms(), "setex")?;
    tx.put(&args[1], &args[3], Expiry::At(at));
    reply.ok();
    Ok(())
}

fn psetex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let at = unix_ms(Clock::Px, &args[2], tx.now_ms(), "psetex")?;
    tx.put(&args[1], &args[3], Expiry::At(at));
    reply.ok();
    Ok(())
}

fn getset(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    bulk_or_null(string(tx, &args[1])?, reply);
    tx.put(&args[1], &args[2], Expiry::Clear);
    Ok(())
}

fn getdel(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    bulk_or_null(string(tx, &args[1])?, reply);
    tx.delete(&args[1]);
    Ok(())
}

fn getex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let mut words = args.options(2);
    let mut lifetime = Lifetime::Unsaid;
    while !words.is_done() {
        let next = if words.take("PERSIST") {
            Lifetime::Persist
        } else {
            Lifetime::take_time(&mut words)?
        };
        lifetime = next.after(lifetime)?;
    }
    let (key, now_ms) = (&args[1], tx.now_ms());
    let Some(value) = string(tx, key)? else {
        // The time of an absent key is not even read.
        reply.null();
        return Ok(());
    };
    reply.bulk(value);
    match lifetime {
        Lifetime::Unsaid | Lifetime::Keep => {}
        Lifetime::Persist => {
            tx.set_expiry(key, None);
        }
        Lifetime::Time(clock, time) => {
            let at = unix_ms(clock, time, now_ms, "getex")?;
            tx.set_expiry(key, Some(at));
        }
    }
    Ok(())
}

/// Keys and values in turn, or an arity error when the last value is missing.
fn pairs<'a>(
    args: &Args<'a>,
    name: &str,
) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone, Error> {
    if args.len().is_multiple_of(2) {
        return Err(Error::Arity(name.into()));
    }
    Ok(args.rest(1).chunks_exact(2).map(|pair| (pair[0], pair[1])))
}

fn mset(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    for (key, value) in pairs(args, "mset")? {
        tx.put(key, value, Expiry::Clear);
    }
    reply.ok();
    Ok(())
}

fn msetnx(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let pairs = pairs(args, "msetnx")?;
    let all_absent = !pairs.clone().any(|(key, _)| tx.exists(key));
    if all_absent {
        pairs.for_each(|(key, value)| tx.put(key, value, Expiry::Clear));
    }
    reply.int(all_absent.into());
    Ok(())
}

fn append(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (key, tail) = (&args[1], &args[2]);
    let Some(old_len) = stored(tx, key)?.map(<[u8]>::len) else {
        tx.put(key, tail, Expiry::Clear);
        reply.int(tail.len() as i64);
        return Ok(());
    };
    let len = joined_len(tx, old_len, tail.len())?;
    tx.edit(key, |entry, change| {
        entry.resize(len);
        entry.value_mut()[old_len..].copy_from_slice(tail);
        change.as_received();
    })?;
    reply.int(len as i64);
    Ok(())
}

fn setrange(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (key, part) = (&args[1], &args[3]);
    let offset = usize::try_from(args.int(2)?).map_err(|_| Error::OutOfRange("offset"))?;
    let old_len = stored(tx, key)?.map_or(0, <[u8]>::len);
    if part.is_empty() {
        reply.int(old_len as i64);
        return Ok(());
    }
    let end = joined_len(tx, offset, part.len())?;
    let len = end.max(old_len);
    tx.edit(key, |entry, change| {
        entry.resize(len);
        entry.value_mut()[offset..end].copy_from_slice(part);
        change.as_received();
    })?;
    reply.int(len as i64);
    Ok(())
}

fn incr(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    increment(&args[1], 1, tx, reply)
}

fn decr(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    increment(&args[1], -1, tx, reply)
}

fn incrby(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    increment(&args[1], args.int(2)?, tx, reply)
}

fn decrby(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let by = args.int(2)?.checked_neg();
    let by = by.ok_or_else(|| Error::new("ERR decrement would overflow"))?;
    increment(&args[1], by, tx, reply)
}

fn increment(key: &[u8], by: i64, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let new = tx.edit(key, |entry, change| {
        let old = match parse_i64(entry.value()) {
            Some(old) => old,
            None if change.is_new() => 0,
            None => return Err(Error::NotInteger),
        };
        let new = old.checked_add(by).ok_or(Error::Overflow)?;
        entry.overwrite(itoa::Buffer::new().format(new).as_bytes());
        change.as_received();
        Ok(new)
    })??;
    reply.int(new);
    Ok(())
}

fn incrbyfloat(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let key = &args[1];
    let parse = |text: &[u8]| LongDouble::parse(text).ok_or(Error::NotFloat);
    let old = stored(tx, key)?.map_or(Ok(LongDouble::from_i64(0)), parse)?;
    let new = old
        .checked_add(parse(&args[2])?)
        .ok_or_else(|| Error::new("ERR increment would produce NaN or Infinity"))?
        .to_text();
    // The sum and not the summand: what is replayed must not depend on how numbers are read and rounded.
    let effect: [&[u8]; 4] = [b"SET", key, &new, b"KEEPTTL"];
    tx.edit(key, |entry, change| {
        entry.overwrite(&new);
        entry.set(FLOAT, true);
        change.command(&effect);
    })?;
    reply.bulk(&new);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<'a>(words: &'a [&'a [u8]]) -> Result<SetOptions<'a>, Error> {
        set_options(Args::new(words).options(0))
    }

    #[test]
    fn set_compares_with_a_value_when_told_to() {
        let options = parsed(&[b"ifeq", b"old", b"GET", b"EX", b"10"]).unwrap();
        assert_eq!(options.condition, Condition::IfEqual(b"old"));
        assert!(options.get && options.lifetime == Lifetime::Time(Clock::Ex, b"10"));
        assert_eq!(
            parsed(&[b"IFNE", b"NX"]).unwrap().condition,
            Condition::IfNotEqual(b"NX")
        );
    }

    #[test]
    fn digests_are_sixteen_hexadecimal_digits() {
        assert_eq!(xxh3_64(b"Hello world"), 0xb6ac_b9d8_4a38_ff74);
        assert_eq!(
            parse_digest(b"B6ACb9d84a38ff74").ok(),
            Some(0xb6ac_b9d8_4a38_ff74)
        );
        for wrong in [
            &b""[..],
            b"b6acb9d84a38ff7",
            b"b6acb9d84a38ff744",
            b"+6acb9d84a38ff74",
            b"g6acb9d84a38ff74",
        ] {
            assert!(parse_digest(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn set_takes_one_condition_only() {
        let wrong: &[&[&[u8]]] = &[
            &[b"IFEQ", b"a", b"NX"],
            &[b"XX", b"IFNE", b"a"],
            &[b"IFEQ", b"a", b"IFNE", b"b"],
            &[b"IFEQ", b"a", b"IFEQ", b"b"],
            &[b"IFEQ"],
            &[b"IFNE"],
        ];
        for words in wrong {
            assert!(matches!(parsed(words), Err(Error::Syntax)), "{words:?}");
        }
    }

    #[test]
    fn intervals_count_negative_positions_from_the_end() {
        assert_eq!(interval(0, -1, 5), Some(0..5));
        assert_eq!(interval(-2, 100, 5), Some(3..5));
        assert_eq!(interval(-100, -50, 5), Some(0..1));
        assert_eq!(interval(3, 2, 5), None);
        assert_eq!(interval(0, -1, 0), None);
        assert_eq!(interval(i64::MIN, i64::MAX, 5), Some(0..5));
        assert_eq!(interval(i64::MAX, i64::MIN, 5), None);
    }
}
