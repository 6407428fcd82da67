//! `DUMP` and `RESTORE`: values as bytes that another server understands.

use super::args::{Args, Options};
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::{Expiry, Tx};
use crate::object::codec::{self, Form, Problem, ValueRef};
use crate::resp::Reply;

pub static COMMANDS: &[Spec] = &[
    Spec::new("dump", 2, READONLY, acl::KEYSPACE, Handler::Data(dump))
        .keys(&[key(1, "RO ACCESS")])
        .group("generic", "2.6.0")
        .doc(
            "key",
            "O(N) for N bytes of the value",
            "Returns a value as bytes that RESTORE takes, here or on another server.",
        )
        .tips(&["nondeterministic_output"]),
    Spec::new(
        "restore",
        -4,
        WRITE | DENYOOM,
        acl::KEYSPACE | acl::DANGEROUS,
        Handler::Data(restore),
    )
    .keys(&[key(1, "OW UPDATE")])
    .group("generic", "2.6.0")
    .doc(
        "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        "O(N) for N bytes of the value; O(N*log(N)) for N elements of a sorted set",
        "Makes a value of the bytes that DUMP returned.",
    ),
    // What nodes of a cluster send each other; users' rules may name it.
    Spec::new(
        "restore-asking",
        -4,
        WRITE | DENYOOM | ASKING,
        acl::KEYSPACE | acl::DANGEROUS,
        Handler::Data(restore),
    )
    .keys(&[key(1, "OW UPDATE")])
    .group("server", "3.0.0")
    .doc(
        "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        "O(N) for N bytes of the value; O(N*log(N)) for N elements of a sorted set",
        "As RESTORE, between the nodes of a cluster.",
    ),
];

fn dump(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    match tx.lookup(&args[1]) {
        Some(entry) => {
            let value = entry
                .object()
                .map_or_else(|| ValueRef::String(entry.value()), ValueRef::Object);
            reply.bulk(&codec::dump(value, Form::DUMP));
        }
        None => reply.null(),
    }
    Ok(())
}

#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    /// The time is a moment, not a span.
    absolute: bool,
    idle_seconds: Option<u32>,
    frequency: Option<u8>,
}

impl RestoreOptions {
    fn parse(mut words: Options<'_>) -> Result<RestoreOptions, Error> {
        let mut options = RestoreOptions::default();
        while let Some(word) = words.next_word() {
            match word.to_ascii_uppercase().as_slice() {
                b"REPLACE" => options.replace = true,
                b"ABSTTL" => options.absolute = true,
                b"IDLETIME" if words.left() > 0 && options.frequency.is_none() => {
                    let seconds = u64::try_from(words.int()?)
                        .map_err(|_| Error::new("ERR Invalid IDLETIME value, must be >= 0"))?;
                    options.idle_seconds = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
                }
                b"FREQ" if words.left() > 0 && options.idle_seconds.is_none() => {
                    let frequency = u8::try_from(words.int()?)
                        .map_err(|_| Error::new("ERR Invalid FREQ value, must be >= 0 and <= 255"))?;
                    options.frequency = Some(frequency);
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(options)
    }
}

fn restore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let options = RestoreOptions::parse(args.options(4))?;
    let key = &args[1];
    if !options.replace && tx.exists(key) {
        return Err(Error::new("BUSYKEY Target key name already exists."));
    }
    let ttl = args.int(2)?;
    if ttl < 0 {
        return Err(Error::new("ERR Invalid TTL value, must be >= 0"));
    }
    let expiry = match ttl {
        0 => Expiry::Clear,
        at if options.absolute => Expiry::At(at),
        // A span that leaves the range of times is one that has passed, as in Redis.
        span => Expiry::At(tx.now_ms().wrapping_add(span)),
    };
    let value = codec::restore(&args[3], &tx.limits()).map_err(|error| match error.problem {
        Problem::Version(_) | Problem::Checksum => {
            Error::new("ERR DUMP payload version or checksum are wrong")
        }
        _ => Error::new("ERR Bad data format"),
    })?;
    tx.put_value(key, value, expiry);
    if options.idle_seconds.is_some() || options.frequency.is_some() {
        tx.set_access(key, options.idle_seconds, options.frequency);
    }
    reply.ok();
    Ok(())
}
