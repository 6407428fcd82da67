//! Going through the keys of a database.

use super::args::{Args, Options};
use super::context::Context;
use super::error::Error;
use super::glob;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use crate::keyspace::load::may_wait;
use crate::resp::Reply;

pub static COMMANDS: &[Spec] = &[
    Spec::new("scan", -2, READONLY, acl::KEYSPACE, Handler::Admin(scan))
        .group("generic", "2.8.0")
        .doc(
            "cursor [MATCH pattern] [COUNT count] [TYPE type]",
            "O(1) for a step, O(N) for all of N keys",
            "Returns some keys and the cursor to go on with; 0 begins and ends.",
        )
        .tips(&["nondeterministic_output", "request_policy:special"]),
    Spec::new(
        "keys",
        2,
        READONLY,
        acl::KEYSPACE | acl::DANGEROUS,
        Handler::Admin(keys),
    )
    .group("generic", "1.0.0")
    .doc(
        "pattern",
        "O(N) for N keys in the database",
        "Returns every key that matches a pattern.",
    )
    .tips(&["request_policy:all_shards", "nondeterministic_output_order"]),
    Spec::new("randomkey", 1, READONLY, acl::KEYSPACE, Handler::Admin(randomkey))
        .group("generic", "1.0.0")
        .doc("", "O(1)", "Returns some key of the database.")
        .tips(&["request_policy:all_shards", "nondeterministic_output"]),
];

/// Keys visited by `KEYS` before it goes on from a cursor.
const KEYS_STEP: usize = 1 << 14;

/// What is gone through: it decides on the options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanned {
    Keys,
    /// A set or a sorted set.
    Members,
    /// A hash.
    Fields,
}

pub(super) struct ScanOptions<'a> {
    pub count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    /// Fields without their values.
    pub no_values: bool,
}

impl<'a> ScanOptions<'a> {
    pub(super) fn parse(mut words: Options<'a>, scanned: Scanned) -> Result<ScanOptions<'a>, Error> {
        let mut options = ScanOptions {
            count: 10,
            pattern: None,
            kind: None,
            no_values: false,
        };
        while !words.is_done() {
            if scanned == Scanned::Fields && words.take("NOVALUES") {
                options.no_values = true;
                continue;
            }
            if words.left() < 2 {
                return Err(Error::Syntax);
            }
            if words.take("COUNT") {
                let count = words.int()?;
                options.count = usize::try_from(count)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or(Error::Syntax)?;
            } else if words.take("MATCH") {
                options.pattern = Some(words.value()?);
            } else if scanned == Scanned::Keys && words.take("TYPE") {
                options.kind = Some(words.value()?);
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(options)
    }

    /// True when `MATCH` lets a key, member or field through.
    pub(super) fn lets(&self, text: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| takes(pattern, text))
    }
}

/// True when a pattern takes a key; a lone `*` takes the empty one too.
fn takes(pattern: &[u8], key: &[u8]) -> bool {
    pattern == b"*" || glob::matches(pattern, key)
}

/// A cursor, read as C's `strtoul` would: nothing is 0, and a negative one counts from the end.
pub(super) fn cursor(text: &[u8]) -> Result<u64, Error> {
    let invalid = || Error::new("ERR invalid cursor");
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return if text.is_empty() { Ok(0) } else { Err(invalid()) };
    }
    let mut number: u64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        number = number
            .checked_mul(10)
            .and_then(|number| number.checked_add(u64::from(digit)))
            .filter(|_| digit < 10)
            .ok_or_else(invalid)?;
    }
    Ok(if negative { number.wrapping_neg() } else { number })
}

fn scan(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let cursor = cursor(&args[1])?;
    let options = ScanOptions::parse(args.options(2), Scanned::Keys)?;
    let (db, now_ms) = (context.session.db, context.now_ms);
    let mut found: Vec<Vec<u8>> = Vec::new();
    let next = may_wait(|| {
        context
            .server
            .keyspace
            .scan(db, cursor, options.count, now_ms, |at| {
                let wanted = options.lets(at.key)
                    && options
                        .kind
                        .is_none_or(|kind| kind.eq_ignore_ascii_case(at.kind.as_bytes()));
                if wanted {
                    found.push(at.key.to_vec());
                }
            })
    })?;
    begin_reply(next, context.reply);
    context.reply.array(found.len());
    found.iter().for_each(|key| context.reply.bulk(key));
    Ok(())
}

/// The cursor; what was found follows as one array.
pub(super) fn begin_reply(next: u64, reply: &mut Reply) {
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
}

fn keys(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let pattern = &args[1];
    let (db, now_ms) = (context.session.db, context.now_ms);
    let keyspace = &context.server.keyspace;
    let mut found: Vec<Vec<u8>> = Vec::new();
    may_wait(|| -> Outcome {
        let mut cursor = 0;
        loop {
            cursor = keyspace.scan(db, cursor, KEYS_STEP, now_ms, |at| {
                if takes(pattern, at.key) {
                    found.push(at.key.to_vec());
                }
            })?;
            if cursor == 0 {
                return Ok(());
            }
        }
    })?;
    if keyspace.ranges().iter().any(|range| range.is_durable()) {
        // A key that is flushed meanwhile is met twice.
        found.sort_unstable();
        found.dedup();
    }
    context.reply.array(found.len());
    found.iter().for_each(|key| context.reply.bulk(key));
    Ok(())
}

fn randomkey(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let (db, now_ms) = (context.session.db, context.now_ms);
    match may_wait(|| context.server.keyspace.random_key(db, now_ms))? {
        Some(key) => context.reply.bulk(&key),
        None => context.reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_redis_reads_them() {
        for (text, number) in [
            ("0", 0),
            ("", 0),
            ("12", 12),
            ("+7", 7),
            ("-1", u64::MAX),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(cursor(text.as_bytes()).ok(), Some(number), "{text}");
        }
        for text in ["18446744073709551616", "1.5", " 1", "abc", "1 ", "-"] {
            assert!(cursor(text.as_bytes()).is_err(), "{text}");
        }
    }
}
