//! HyperLogLogs: strings in a format of their own that estimate how many different elements were added to them.
//!
//! A command that finds a value damaged changes nothing. What `PFCOUNT` caches in a value follows from the rest of it:
//! it is no change, and is neither recorded nor stored for its own sake.

use super::args::Args;
use super::error::{Error, quoted};
use super::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key, keys};
use super::strings::{stored, string};
use crate::keyspace::entry::EDITED;
use crate::keyspace::{Entry, Expiry, Tx};
use crate::object::hyperloglog::{self as hll, Encoding, Invalid, Registers};
use crate::resp::Reply;

const MERGE_KEYS: &[KeySpec] = &[key(1, "RW ACCESS INSERT"), keys(2, 1, "RO ACCESS")];
const COUNT_KEYS: &[KeySpec] =
    &[keys(1, 1, "RW ACCESS").notes("RW because the count is cached in the value")];

pub static COMMANDS: &[Spec] = &[
    Spec::new(
        "pfadd",
        -2,
        WRITE | DENYOOM | FAST,
        acl::HYPERLOGLOG,
        Handler::Data(pfadd),
    )
    .keys(&[key(1, "RW INSERT")])
    .group("hyperloglog", "2.8.9")
    .doc(
        "key [element [element ...]]",
        "O(1) for each element",
        "Adds elements to a HyperLogLog, and tells whether its estimate may have changed.",
    ),
    Spec::new(
        "pfcount",
        -2,
        READONLY | MAY_REPLICATE,
        acl::HYPERLOGLOG,
        Handler::Data(pfcount),
    )
    .keys(COUNT_KEYS)
    .group("hyperloglog", "2.8.9")
    .doc(
        "key [key ...]",
        "O(1), and O(N) for N keys",
        "Estimates how many different elements were added to one HyperLogLog, or to any of several.",
    ),
    Spec::new(
        "pfmerge",
        -2,
        WRITE | DENYOOM,
        acl::HYPERLOGLOG,
        Handler::Data(pfmerge),
    )
    .keys(MERGE_KEYS)
    .group("hyperloglog", "2.8.9")
    .doc(
        "destkey [sourcekey [sourcekey ...]]",
        "O(N) for N keys",
        "Adds to a HyperLogLog what others have seen.",
    ),
    Spec::new(
        "pfdebug",
        3,
        WRITE | DENYOOM | ADMIN,
        acl::HYPERLOGLOG,
        Handler::Data(pfdebug),
    )
    .keys(&[key(2, "RW ACCESS")])
    .group("hyperloglog", "2.8.9")
    .doc(
        "<DECODE | ENCODING | GETREG | TODENSE> key",
        "O(1)",
        "Shows the registers or the encoding of a HyperLogLog, or makes it dense; for tests.",
    ),
    Spec::new(
        "pfselftest",
        1,
        ADMIN,
        acl::HYPERLOGLOG,
        Handler::Data(pfselftest),
    )
    .group("hyperloglog", "2.8.9")
    .doc(
        "",
        "O(1)",
        "Checks registers, encodings and estimates against each other.",
    ),
];

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Error {
        Error::new(invalid.to_string())
    }
}

fn pfadd(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (key, elements) = (&args[1], args.rest(2));
    let sparse_max = tx.limits().hll_sparse_max_bytes;
    let changed = tx.edit(key, |entry, change| -> Result<bool, Invalid> {
        let changed = if change.is_new() {
            let mut value = hll::empty();
            add_all(&mut value, elements, sparse_max)?;
            hll::expire_count(&mut value);
            replace(entry, &value);
            true
        } else {
            add_to_entry(entry, elements, sparse_max)?
        };
        if changed {
            change.as_received();
        }
        Ok(changed)
    })??;
    reply.int(changed.into());
    Ok(())
}

/// Dense values are changed in place, sparse ones as a copy: all elements go in, or a damaged value stays as it is.
fn add_to_entry(entry: &mut Entry, elements: &[&[u8]], sparse_max: usize) -> Result<bool, Invalid> {
    let changed = match hll::encoding(entry.value())? {
        Encoding::Dense => {
            let value = entry.value_mut();
            elements
                .iter()
                .fold(false, |changed, element| hll::add_dense(value, element) | changed)
        }
        Encoding::Sparse => {
            let mut value = entry.value().to_vec();
            let changed = add_all(&mut value, elements, sparse_max)?;
            if changed {
                replace(entry, &value);
            }
            changed
        }
    };
    if changed {
        hll::expire_count(entry.value_mut());
    }
    Ok(changed)
}

fn add_all(value: &mut Vec<u8>, elements: &[&[u8]], sparse_max: usize) -> Result<bool, Invalid> {
    let mut changed = false;
    for element in elements {
        changed |= hll::add(value, element, sparse_max)?;
    }
    Ok(changed)
}

/// Puts other bytes into an entry, which stays an edited string: Redis calls a HyperLogLog `raw`.
fn replace(entry: &mut Entry, value: &[u8]) {
    entry.resize(value.len());
    entry.value_mut().copy_from_slice(value);
}

fn pfcount(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let count = match args.rest(1) {
        [key] => count_of(key, tx)?,
        keys => union(keys, tx)?.0.estimate(),
    };
    // proof: at most 2^63 by far; the estimate of full registers is below 2^64 / 2^14.
    reply.int(count as i64);
    Ok(())
}

fn count_of(key: &[u8], tx: &mut Tx<'_>) -> Result<u64, Error> {
    let Some(value) = string(tx, key)? else {
        return Ok(0);
    };
    hll::encoding(value)?;
    if let Some(count) = hll::cached_count(value) {
        return Ok(count);
    }
    let count = hll::estimate(value)?;
    // Nothing is said to have changed: wherever the cached count gets lost it is found again.
    tx.edit(key, |entry, _| hll::cache_count(entry.value_mut(), count))?;
    Ok(count)
}

/// The highest registers of several keys, and whether one of their values is dense.
fn union(keys: &[&[u8]], tx: &mut Tx<'_>) -> Result<(Registers, bool), Error> {
    let (mut registers, mut dense) = (Registers::default(), false);
    for key in keys {
        if let Some(value) = string(tx, key)? {
            dense |= hll::encoding(value)? == Encoding::Dense;
            registers.merge(value)?;
        }
    }
    Ok((registers, dense))
}

fn pfmerge(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let dest = &args[1];
    let (registers, dense) = union(args.rest(1), tx)?;
    let mut value = stored(tx, dest)?.map_or_else(hll::empty, <[u8]>::to_vec);
    if dense {
        hll::to_dense(&mut value)?;
    }
    registers.raise(&mut value, tx.limits().hll_sparse_max_bytes)?;
    tx.put(dest, &value, Expiry::Keep);
    tx.mark_origin(dest, EDITED);
    reply.ok();
    Ok(())
}

fn pfdebug(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let key = &args[2];
    let value = stored(tx, key)?.ok_or_else(|| Error::new("ERR The specified key does not exist"))?;
    let encoding = hll::encoding(value)?;
    if args.is(1, "GETREG") {
        let mut registers = Registers::default();
        registers.merge(value)?;
        // Redis reads registers from dense values only, and clients see the conversion.
        make_dense(key, tx)?;
        reply.array(hll::REGISTERS);
        registers.iter().for_each(|register| reply.int(register.into()));
    } else if args.is(1, "DECODE") {
        if encoding == Encoding::Dense {
            return Err(Error::new("ERR HLL encoding is not sparse"));
        }
        reply.bulk(hll::describe(value)?.as_bytes());
    } else if args.is(1, "ENCODING") {
        reply.simple(match encoding {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        });
    } else if args.is(1, "TODENSE") {
        let changed = make_dense(key, tx)?;
        reply.int(changed.into());
    } else {
        let mut text = b"ERR Unknown PFDEBUG subcommand '".to_vec();
        text.extend_from_slice(quoted(&args[1], usize::MAX));
        return Err(Error::new(
            String::from_utf8_lossy(&[&text[..], b"'"].concat()).into_owned(),
        ));
    }
    Ok(())
}

/// Makes a value dense; false when it was.
fn make_dense(key: &[u8], tx: &mut Tx<'_>) -> Result<bool, Error> {
    let changed = tx.edit(key, |entry, change| -> Result<bool, Invalid> {
        let mut value = entry.value().to_vec();
        let changed = hll::to_dense(&mut value)?;
        if changed {
            replace(entry, &value);
            change.command(&[b"PFDEBUG", b"TODENSE", key]);
        }
        Ok(changed)
    })??;
    Ok(changed)
}

fn pfselftest(_: &Args<'_>, _: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    hll::self_test(&mut fastrand::Rng::new()).map_err(Error::new)?;
    reply.ok();
    Ok(())
}
