//! BITFIELD: integers of 1 to 64 bits at any bit of a string, the highest bit first.
//!
//! Guarantees: all operations are parsed before the first one runs; the string is grown once, to hold every field
//! that may be written, and is grown even if all of those writes fail.

use super::args::{Args, Options};
use super::bitmaps::bit_offset;
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, acl, flag::*, key};
use super::strings::{stored, string};
use crate::keyspace::Tx;
use crate::keyspace::entry::MAX_LEN;
use crate::resp::Reply;
use crate::resp::number::parse_i64;
use smallvec::SmallVec;

pub static COMMANDS: &[Spec] = &[
    Spec::new("bitfield", -2, WRITE | DENYOOM, acl::BITMAP, Handler::Data(bitfield))
        .keys(&[key(1, "RW ACCESS UPDATE VARIABLE_FLAGS")])
        .group("bitmap", "3.2.0")
        .doc(
            "key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> ...]]",
            "O(1) for each operation",
            "Reads, sets and adds to integers of any width within a string.",
        ),
    Spec::new("bitfield_ro", -2, READONLY | FAST, acl::BITMAP, Handler::Data(bitfield_ro))
        .keys(&[key(1, "RO ACCESS")])
        .group("bitmap", "6.0.0")
        .doc(
            "key [GET encoding offset [GET encoding offset ...]]",
            "O(1) for each operation",
            "Reads integers of any width within a string.",
        ),
];

/// Where an integer stands and what it looks like.
#[derive(Clone, Copy, Debug)]
struct Field {
    signed: bool,
    /// 1 to 64; 63 at most for unsigned ones.
    bits: u32,
    /// Its first bit.
    at: usize,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// What happens to a number that its field cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    field: Field,
    action: Action,
    overflow: Overflow,
}

type Operations = SmallVec<[Operation; 4]>;

impl Field {
    fn parse(encoding: &[u8], offset: &[u8], tx: &Tx<'_>) -> Result<Field, Error> {
        let parsed = match encoding {
            [b'i', digits @ ..] => parse_i64(digits).map(|bits| (true, bits, 64)),
            [b'u', digits @ ..] => parse_i64(digits).map(|bits| (false, bits, 63)),
            _ => None,
        };
        let Some((signed, bits, _)) = parsed.filter(|(_, bits, most)| (1..=*most).contains(bits)) else {
            return Err(Error::new(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            ));
        };
        let bits = bits as u32;
        let at = bit_offset(offset, Some(bits), tx)?;
        Ok(Field { signed, bits, at })
    }

    /// Bytes that a string needs to hold this field.
    fn needs(&self) -> usize {
        (self.at + self.bits as usize).div_ceil(8)
    }

    /// Right-aligned ones, as many as the field has bits.
    fn mask(&self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// How far the field stands from the low end of a window of 16 bytes that begins with the field's first byte. A
    /// field reaches into nine of them at most.
    fn shift(&self) -> u32 {
        128 - self.bits - (self.at % 8) as u32
    }

    fn window(&self, value: &[u8]) -> u128 {
        let bytes = value.get(self.at / 8..).unwrap_or(&[]);
        let len = bytes.len().min(9);
        let mut window = [0; 16];
        window[..len].copy_from_slice(&bytes[..len]);
        u128::from_be_bytes(window)
    }

    fn read(&self, value: &[u8]) -> u64 {
        (self.window(value) >> self.shift()) as u64 & self.mask()
    }

    /// `value` holds the whole field; bits of `raw` above the field's are left out.
    fn write(&self, value: &mut [u8], raw: u64) {
        let mask = u128::from(self.mask()) << self.shift();
        let window = self.window(value) & !mask | u128::from(raw & self.mask()) << self.shift();
        let (first, end) = (self.at / 8, self.needs());
        value[first..end].copy_from_slice(&window.to_be_bytes()[..end - first]);
    }

    /// The number that the field's bits stand for.
    fn number(&self, raw: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed {
            ((raw << unused) as i64) >> unused
        } else {
            raw as i64
        }
    }

    fn limits(&self) -> (i128, i128) {
        if self.signed {
            (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        } else {
            (0, (1 << self.bits) - 1)
        }
    }

    /// The field's new bits; none when the number does not fit and that fails.
    fn fit(&self, number: i128, is_set: bool, overflow: Overflow) -> Option<u64> {
        let (min, max) = self.limits();
        if (min..=max).contains(&number) {
            return Some(number as u64);
        }
        match overflow {
            Overflow::Wrap => Some(number as u64),
            Overflow::Fail => None,
            // SET finds the distance to the maximum with 64 bits, in Redis; the lowest numbers wrap around there.
            Overflow::Saturate if number > max || is_set && max - number > i64::MAX.into() => {
                Some(max as u64)
            }
            Overflow::Saturate => Some(min as u64),
        }
    }
}

impl Operation {
    fn take(words: &mut Options<'_>, overflow: Overflow, tx: &Tx<'_>) -> Result<Operation, Error> {
        let action: fn(i64) -> Action = match () {
            _ if words.left() >= 3 && words.take("GET") => |_| Action::Get,
            _ if words.left() >= 4 && words.take("SET") => Action::Set,
            _ if words.left() >= 4 && words.take("INCRBY") => Action::Add,
            _ => return Err(Error::Syntax),
        };
        let field = Field::parse(words.value()?, words.value()?, tx)?;
        let action = match action(0) {
            Action::Get => Action::Get,
            _ => action(words.int()?),
        };
        Ok(Operation {
            field,
            action,
            overflow,
        })
    }

    fn is_get(&self) -> bool {
        matches!(self.action, Action::Get)
    }

    fn run(&self, value: &mut [u8], reply: &mut Reply) {
        let field = self.field;
        let raw = field.read(value);
        let old = field.number(raw);
        let new = match self.action {
            Action::Get => return reply.int(old),
            Action::Set(number) if field.signed => field.fit(number.into(), true, self.overflow),
            // A negative number is a very large one here.
            Action::Set(number) => field.fit((number as u64).into(), true, self.overflow),
            Action::Add(by) => field.fit(i128::from(old) + i128::from(by), false, self.overflow),
        };
        let Some(new) = new else {
            return reply.null();
        };
        field.write(value, new);
        match self.action {
            Action::Add(_) => reply.int(field.number(new & field.mask())),
            _ => reply.int(old),
        }
    }
}

fn operations(mut words: Options<'_>, tx: &Tx<'_>) -> Result<Operations, Error> {
    let mut operations = Operations::new();
    let mut overflow = Overflow::Wrap;
    while !words.is_done() {
        if words.left() >= 2 && words.take("OVERFLOW") {
            overflow = match () {
                _ if words.take("WRAP") => Overflow::Wrap,
                _ if words.take("SAT") => Overflow::Saturate,
                _ if words.take("FAIL") => Overflow::Fail,
                _ => return Err(Error::new("ERR Invalid OVERFLOW type specified")),
            };
        } else {
            operations.push(Operation::take(&mut words, overflow, tx)?);
        }
    }
    Ok(operations)
}

fn bitfield(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let operations = operations(args.options(2), tx)?;
    let writes = operations.iter().filter(|operation| !operation.is_get());
    let Some(needed) = writes.map(|operation| operation.field.needs()).max() else {
        return read_all(&operations, &args[1], tx, reply);
    };
    if needed > MAX_LEN {
        return Err(Error::StringTooLong);
    }
    let key = &args[1];
    let len = stored(tx, key)?.map_or(0, <[u8]>::len).max(needed);
    reply.array(operations.len());
    tx.edit(key, |entry, change| {
        change.as_received();
        let mut changed = entry.value().len() < len;
        entry.resize(len);
        let value = entry.value_mut();
        for operation in &operations {
            let before = operation.field.read(value);
            operation.run(value, reply);
            changed |= operation.field.read(value) != before;
        }
        change.told(changed);
    })?;
    Ok(())
}

fn bitfield_ro(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let operations = operations(args.options(2), tx)?;
    if !operations.iter().all(Operation::is_get) {
        return Err(Error::new("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_all(&operations, &args[1], tx, reply)
}

fn read_all(operations: &[Operation], key: &[u8], tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let value = string(tx, key)?.unwrap_or(b"");
    reply.array(operations.len());
    for Operation { field, .. } in operations {
        reply.int(field.number(field.read(value)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_reads_back_and_leaves_its_neighbours_alone() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..5_000 {
            let field = Field {
                signed: rng.bool(),
                bits: rng.u32(1..64),
                at: rng.usize(0..100),
            };
            let old: Vec<u8> = (0..field.needs() + rng.usize(0..3)).map(|_| rng.u8(..)).collect();
            let (mut value, raw) = (old.clone(), rng.u64(..));
            field.write(&mut value, raw);
            assert_eq!(field.read(&value), raw & field.mask());
            field.write(&mut value, field.read(&old));
            assert_eq!(value, old);
        }
    }

    #[test]
    fn numbers_that_do_not_fit_wrap_saturate_or_fail() {
        let field = |signed, bits| Field { signed, bits, at: 0 };
        let fit = |field: Field, number: i128, overflow| {
            let raw = field.fit(number, false, overflow)?;
            Some(field.number(raw & field.mask()))
        };
        let cases = [
            (field(true, 8), 128, Some(-128), Some(127)),
            (field(true, 8), -129, Some(127), Some(-128)),
            (field(false, 8), 256, Some(0), Some(255)),
            (field(false, 8), -1, Some(255), Some(0)),
            (field(true, 64), 1 << 63, Some(i64::MIN), Some(i64::MAX)),
            (field(false, 63), 1 << 63, Some(0), Some(i64::MAX)),
            (field(true, 1), 1, Some(-1), Some(0)),
        ];
        for (field, number, wrapped, saturated) in cases {
            assert_eq!(fit(field, number, Overflow::Wrap), wrapped, "{field:?} {number}");
            assert_eq!(
                fit(field, number, Overflow::Saturate),
                saturated,
                "{field:?} {number}"
            );
            assert_eq!(fit(field, number, Overflow::Fail), None, "{field:?} {number}");
        }
        assert_eq!(
            fit(field(true, 64), i64::MIN.into(), Overflow::Fail),
            Some(i64::MIN)
        );
    }
}
