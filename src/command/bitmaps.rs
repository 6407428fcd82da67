//! Strings as arrays of bits: single bits, counting, searching, and operations on whole strings. Bit 0 is the highest
//! one of the first byte; what lies behind a string's end is zero. Counting, searching and combining go by words of
//! 64 bits.

use super::args::Args;
use super::error::Error;
use super::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key, keys};
use super::strings::{interval, is_reversed, max_len, stored, string};
use crate::keyspace::entry::EDITED;
use crate::keyspace::{Expiry, Tx};
use crate::resp::Reply;
use crate::resp::number::parse_i64;
use std::ops::Range;

const BITOP_KEYS: &[KeySpec] = &[key(2, "OW UPDATE"), keys(3, 1, "RO ACCESS")];

pub static COMMANDS: &[Spec] = &[
    Spec::new("setbit", 4, WRITE | DENYOOM, acl::BITMAP, Handler::Data(setbit))
        .keys(&[key(1, "RW ACCESS UPDATE")])
        .group("bitmap", "2.2.0")
        .doc(
            "key offset value",
            "O(1)",
            "Sets or clears one bit, and returns what it was.",
        ),
    Spec::new("getbit", 3, READONLY | FAST, acl::BITMAP, Handler::Data(getbit))
        .keys(&[key(1, "RO ACCESS")])
        .group("bitmap", "2.2.0")
        .doc("key offset", "O(1)", "Returns one bit."),
    Spec::new("bitcount", -2, READONLY, acl::BITMAP, Handler::Data(bitcount))
        .keys(&[key(1, "RO ACCESS")])
        .group("bitmap", "2.6.0")
        .doc(
            "key [start end [BYTE | BIT]]",
            "O(N)",
            "Counts the bits that are set.",
        ),
    Spec::new("bitpos", -3, READONLY, acl::BITMAP, Handler::Data(bitpos))
        .keys(&[key(1, "RO ACCESS")])
        .group("bitmap", "2.8.7")
        .doc(
            "key bit [start [end [BYTE | BIT]]]",
            "O(N)",
            "Finds the first bit that is set, or clear.",
        ),
    Spec::new("bitop", -4, WRITE | DENYOOM, acl::BITMAP, Handler::Data(bitop))
        .keys(BITOP_KEYS)
        .group("bitmap", "2.6.0")
        .doc(
            "<AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE> destkey key [key ...]",
            "O(N)",
            "Combines strings bit by bit and stores the result.",
        ),
];

/// A bit's position from an argument; with the bits of a field, also `#n` for the `n`th such field.
pub(super) fn bit_offset(text: &[u8], field_bits: Option<u32>, tx: &Tx<'_>) -> Result<usize, Error> {
    let (digits, unit) = match (text, field_bits) {
        ([b'#', digits @ ..], Some(bits)) => (digits, i64::from(bits)),
        _ => (text, 1),
    };
    parse_i64(digits)
        .and_then(|offset| usize::try_from(offset.checked_mul(unit)?).ok())
        .filter(|offset| offset / 8 < max_len(tx))
        .ok_or_else(|| Error::new("ERR bit offset is not an integer or out of range"))
}

/// The bit at `offset` within its byte.
fn mask(offset: usize) -> u8 {
    0x80 >> (offset % 8)
}

fn setbit(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let offset = bit_offset(&args[2], None, tx)?;
    let on = match &args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(Error::new("ERR bit is not an integer or out of range")),
    };
    let key = &args[1];
    let byte = offset / 8;
    let len = stored(tx, key)?.map_or(0, <[u8]>::len).max(byte + 1);
    let was = tx.edit(key, |entry, change| {
        change.as_received();
        let grows = entry.value().len() < len;
        entry.resize(len);
        let byte = &mut entry.value_mut()[byte];
        let was = *byte & mask(offset) != 0;
        change.told(grows || was != on);
        *byte = if on {
            *byte | mask(offset)
        } else {
            *byte & !mask(offset)
        };
        was
    })?;
    reply.int(was.into());
    Ok(())
}

fn getbit(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let offset = bit_offset(&args[2], None, tx)?;
    let byte = string(tx, &args[1])?.and_then(|value| value.get(offset / 8));
    reply.int(byte.is_some_and(|byte| byte & mask(offset) != 0).into());
    Ok(())
}

/// Bits per item of the positions given: by `BYTE` or `BIT` at `at`, else bytes.
fn unit(args: &Args<'_>, at: usize) -> Result<usize, Error> {
    match args.len() {
        len if len <= at => Ok(8),
        len if len > at + 1 => Err(Error::Syntax),
        _ if args.is(at, "BYTE") => Ok(8),
        _ if args.is(at, "BIT") => Ok(1),
        _ => Err(Error::Syntax),
    }
}

/// An interval of bytes or bits, in bits.
fn bits(start: i64, end: i64, unit: usize, value: &[u8]) -> Range<usize> {
    let items = interval(start, end, value.len() * 8 / unit).unwrap_or(0..0);
    items.start * unit..items.end * unit
}

fn bitcount(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    // The positions are read only where there is something to count: so does Redis, and it shows in the errors.
    let Some(value) = string(tx, &args[1])? else {
        reply.int(0);
        return Ok(());
    };
    let range = match args.len() {
        2 => 0..value.len() * 8,
        4 | 5 => {
            let (start, end) = (args.int(2)?, args.int(3)?);
            if is_reversed(start, end) {
                0..0
            } else {
                bits(start, end, unit(args, 4)?, value)
            }
        }
        _ => return Err(Error::Syntax),
    };
    reply.int(ones_in(value, range) as i64);
    Ok(())
}

/// How many bits are set.
fn ones(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let rest = words.remainder().iter().map(|byte| u64::from(byte.count_ones()));
    rest.sum::<u64>()
        + words
            .map(|word| u64::from(word_of(word).count_ones()))
            .sum::<u64>()
}

/// Eight bytes as a word; in which order does not matter to what is done with it.
fn word_of(chunk: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(chunk);
    u64::from_ne_bytes(word)
}

/// How many bits of a range within `value` are set.
fn ones_in(value: &[u8], range: Range<usize>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let before = value[first] & !(0xff >> (range.start % 8));
    let behind = value[last] & (0x7f >> ((range.end - 1) % 8));
    ones(&value[first..=last]) - u64::from(before.count_ones() + behind.count_ones())
}

fn bitpos(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let wanted = match args.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(Error::new("ERR The bit argument must be 1 or 0.")),
    };
    let Some(value) = string(tx, &args[1])? else {
        reply.int(if wanted { -1 } else { 0 });
        return Ok(());
    };
    if args.len() > 6 {
        return Err(Error::Syntax);
    }
    let start = if args.len() > 3 { args.int(3)? } else { 0 };
    let unit = unit(args, 5)?;
    let end = if args.len() > 4 { Some(args.int(4)?) } else { None };
    let range = bits(start, end.unwrap_or(-1), unit, value);
    let found = match first_in(value, range.clone(), wanted) {
        Some(at) => at as i64,
        // The zeros behind the string's end count, unless an end was given or nothing was to be searched.
        None if !wanted && end.is_none() && !range.is_empty() => value.len() as i64 * 8,
        None => -1,
    };
    reply.int(found);
    Ok(())
}

/// The first bit within a range of `value` that is set, or clear.
fn first_in(value: &[u8], range: Range<usize>, wanted: bool) -> Option<usize> {
    if range.is_empty() {
        return None;
    }
    // A byte without a bit that is wanted. With it flipped away, what is wanted is a one.
    let dull: u8 = if wanted { 0 } else { 0xff };
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let head = (value[first] ^ dull) & (0xff >> (range.start % 8));
    let (byte, bits) = if head != 0 {
        (first, head)
    } else {
        let byte = first + 1 + first_other(&value[first + 1..=last], dull)?;
        (byte, value[byte] ^ dull)
    };
    Some(byte * 8 + bits.leading_zeros() as usize).filter(|at| range.contains(at))
}

/// The first byte that is not `dull`.
fn first_other(bytes: &[u8], dull: u8) -> Option<usize> {
    let words = bytes.chunks_exact(8);
    let same = u64::from_ne_bytes([dull; 8]);
    let skipped = words.take_while(|word| word_of(word) == same).count() * 8;
    let within = bytes[skipped..].iter().position(|byte| *byte != dull)?;
    Some(skipped + within)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
    /// In the first string and in no other.
    Diff,
    /// In some other string and not in the first.
    Diff1,
    /// In the first string and in some other.
    AndOr,
    /// In exactly one string.
    One,
}

const OPERATIONS: &[(&str, Operation)] = &[
    ("AND", Operation::And),
    ("OR", Operation::Or),
    ("XOR", Operation::Xor),
    ("NOT", Operation::Not),
    ("DIFF", Operation::Diff),
    ("DIFF1", Operation::Diff1),
    ("ANDOR", Operation::AndOr),
    ("ONE", Operation::One),
];

fn bitop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let found = OPERATIONS.iter().find(|(word, _)| args.is(1, word));
    let (word, operation) = *found.ok_or(Error::Syntax)?;
    let (dest, sources) = (&args[2], args.rest(3));
    match operation {
        Operation::Not if sources.len() != 1 => {
            return Err(Error::new(
                "ERR BITOP NOT must be called with a single source key.",
            ));
        }
        Operation::Diff | Operation::Diff1 | Operation::AndOr if sources.len() < 2 => {
            let text = format!("ERR BITOP {word} must be called with at least two source keys.");
            return Err(Error::new(text));
        }
        _ => {}
    }
    let result = combined(operation, sources, tx)?;
    if result.is_empty() {
        tx.delete(dest);
    } else {
        tx.put(dest, &result, Expiry::Clear);
        tx.mark_origin(dest, EDITED);
    }
    reply.int(result.len() as i64);
    Ok(())
}

/// The result of an operation: as long as the longest source, the others continued by zeros.
fn combined(operation: Operation, sources: &[&[u8]], tx: &mut Tx<'_>) -> Result<Vec<u8>, Error> {
    let mut result = string(tx, sources[0])?.unwrap_or(b"").to_vec();
    let others = &sources[1..];
    match operation {
        Operation::And => fold(&mut result, others, tx, |a, b| a & b)?,
        Operation::Or => fold(&mut result, others, tx, |a, b| a | b)?,
        Operation::Xor => fold(&mut result, others, tx, |a, b| a ^ b)?,
        Operation::Not => combine(&mut result, b"", |a, _| !a),
        Operation::Diff => fold(&mut result, others, tx, |a, b| a & !b)?,
        Operation::Diff1 | Operation::AndOr => {
            let mut any = Vec::new();
            fold(&mut any, others, tx, |a, b| a | b)?;
            if operation == Operation::Diff1 {
                combine(&mut result, &any, |a, b| b & !a);
            } else {
                combine(&mut result, &any, |a, b| a & b);
            }
        }
        Operation::One => {
            let mut several = Vec::new();
            for key in others {
                let value = string(tx, key)?.unwrap_or(b"");
                let mut shared = result.clone();
                combine(&mut shared, value, |a, b| a & b);
                combine(&mut several, &shared, |a, b| a | b);
                combine(&mut result, value, |a, b| a | b);
            }
            combine(&mut result, &several, |a, b| a & !b);
        }
    }
    Ok(result)
}

/// Combines the strings under `keys` into `result`, one after the other.
fn fold(
    result: &mut Vec<u8>,
    keys: &[&[u8]],
    tx: &mut Tx<'_>,
    apply: impl Fn(u64, u64) -> u64 + Copy,
) -> Result<(), Error> {
    for key in keys {
        combine(result, string(tx, key)?.unwrap_or(b""), apply);
    }
    Ok(())
}

/// `into = apply(into, with)`; the shorter one is continued by zeros.
fn combine(into: &mut Vec<u8>, with: &[u8], apply: impl Fn(u64, u64) -> u64) {
    if into.len() < with.len() {
        into.resize(with.len(), 0);
    }
    let (both, alone) = into.split_at_mut(with.len());
    let mut words = both.chunks_exact_mut(8);
    let others = with.chunks_exact(8);
    let tail = others.remainder();
    for (word, other) in words.by_ref().zip(others) {
        word.copy_from_slice(&apply(word_of(word), word_of(other)).to_ne_bytes());
    }
    for (byte, other) in words.into_remainder().iter_mut().zip(tail) {
        *byte = apply((*byte).into(), (*other).into()) as u8;
    }
    let mut words = alone.chunks_exact_mut(8);
    for word in words.by_ref() {
        word.copy_from_slice(&apply(word_of(word), 0).to_ne_bytes());
    }
    for byte in words.into_remainder() {
        *byte = apply((*byte).into(), 0) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit(value: &[u8], at: usize) -> bool {
        value[at / 8] & mask(at) != 0
    }

    #[test]
    fn counting_and_searching_agree_with_looking_at_every_bit() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..2_000 {
            let kind = rng.u8(0..3);
            let byte = |rng: &mut fastrand::Rng| match kind {
                0 => rng.u8(..),
                1 => 1 << rng.u8(0..8) >> rng.u8(0..8),
                _ => 0xff ^ (rng.u8(0..20) / 19),
            };
            let value: Vec<u8> = (0..rng.usize(1..60)).map(|_| byte(&mut rng)).collect();
            let start = rng.usize(0..value.len() * 8);
            let range = start..rng.usize(start..=value.len() * 8);
            let set = range.clone().filter(|at| bit(&value, *at)).count();
            assert_eq!(ones_in(&value, range.clone()), set as u64);
            for wanted in [false, true] {
                let first = range.clone().find(|at| bit(&value, *at) == wanted);
                assert_eq!(
                    first_in(&value, range.clone(), wanted),
                    first,
                    "{value:?} {range:?}"
                );
            }
        }
    }

    #[test]
    fn combining_continues_the_shorter_string_by_zeros() {
        let long: Vec<u8> = (0..45).collect();
        let mut result = b"\xff\x0f".to_vec();
        combine(&mut result, &long, |a, b| a ^ b);
        let by_byte = |i: usize| long[i] ^ b"\xff\x0f".get(i).unwrap_or(&0);
        assert_eq!(result, (0..45).map(by_byte).collect::<Vec<u8>>());
        let mut result = long.clone();
        combine(&mut result, b"\xff", |a, b| a & b);
        assert_eq!(result.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 0);
        let mut result = long.clone();
        combine(&mut result, b"", |a, _| !a);
        assert!(result.iter().zip(&long).all(|(a, b)| *a == !b));
    }
}
