//! Reading the primitives of the format: lengths, strings, numbers, from a payload or from a file.
//!
//! ```text
//! length:  00xxxxxx                    6 bits
//!          01xxxxxx xxxxxxxx           14 bits, big-endian
//!          10000000 + 4 bytes          32 bits, big-endian
//!          10000001 + 8 bytes          64 bits, big-endian
//!          11xxxxxx                    no length: the string encoding x
//! string:  length | bytes
//!          11000000 i8     11000001 i16 LE     11000010 i32 LE       as decimal text
//!          11000011 | length of what follows | length unpacked | LZF
//! score:   f64 LE, or as text: length:u8 | text, where the lengths 253, 254, 255 stand for nan, inf, -inf
//! time:    unix milliseconds:i64 LE
//! ```
//!
//! Guarantees: no length is believed before that many bytes are known to be left; what is unpacked is at most 88 times
//! as long as its packed form.

use super::error::{CodecError, Problem};
use super::lzf;
use crate::object::intset::Intset;
use crate::object::listpack::Listpack;
use crate::resp::number::parse_f64;

pub(super) const INT8: u8 = 0;
pub(super) const INT16: u8 = 1;
pub(super) const INT32: u8 = 2;
pub(super) const LZF: u8 = 3;

/// The longest string that an entry holds.
const STRING_MAX: u64 = u32::MAX as u64;

/// A length, or the string encoding that stands in its place.
pub(super) enum Length {
    Plain(u64),
    Special(u8),
}

/// Bytes that are read from the front.
pub(super) trait Input {
    /// Bytes read so far.
    fn at(&self) -> u64;
    /// Bytes that are left at most.
    fn left(&self) -> u64;
    /// The next bytes.
    fn take(&mut self, len: usize) -> Result<&[u8], CodecError>;

    fn fail<T>(&self, problem: Problem) -> Result<T, CodecError> {
        Err(CodecError::new(self.at(), problem))
    }

    /// Turns what a check found into an error at this place.
    fn check<T, E: Into<Problem>>(&self, result: Result<T, E>) -> Result<T, CodecError> {
        result.map_err(|problem| CodecError::new(self.at(), problem.into()))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let at = self.at();
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| CodecError::new(at, Problem::Short))
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn length_or_special(&mut self) -> Result<Length, CodecError> {
        let first = self.byte()?;
        Ok(Length::Plain(match first {
            0..=0x3f => first as u64,
            0x40..=0x7f => ((first & 0x3f) as u64) << 8 | self.byte()? as u64,
            0x80 => u32::from_be_bytes(self.array()?) as u64,
            0x81 => u64::from_be_bytes(self.array()?),
            0xc0.. => return Ok(Length::Special(first & 0x3f)),
            _ => return self.fail(Problem::Length),
        }))
    }

    /// A length, or any other number written as one.
    fn number(&mut self) -> Result<u64, CodecError> {
        match self.length_or_special()? {
            Length::Plain(number) => Ok(number),
            Length::Special(_) => self.fail(Problem::Length),
        }
    }

    /// A count of elements that take at least `each` bytes; never more than what is left can hold.
    fn count(&mut self, each: u64) -> Result<usize, CodecError> {
        let count = self.number()?;
        if count > self.left() / each {
            return self.fail(Problem::Short);
        }
        Ok(count as usize)
    }

    fn fits(&self, len: u64) -> Result<usize, CodecError> {
        if len > self.left() || len > STRING_MAX {
            return self.fail(Problem::Short);
        }
        Ok(len as usize)
    }

    /// A string: where it stands, or unpacked into `scratch`.
    fn string<'s>(&'s mut self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], CodecError> {
        match self.length_or_special()? {
            Length::Plain(len) => {
                let len = self.fits(len)?;
                self.take(len)
            }
            Length::Special(LZF) => {
                let packed = self.number()?;
                let packed = self.fits(packed)?;
                let len = self.number()?;
                if len > STRING_MAX {
                    return self.fail(Problem::Compressed);
                }
                let at = self.at();
                match lzf::unpack(self.take(packed)?, len, scratch) {
                    true => Ok(scratch),
                    false => Err(CodecError::new(at, Problem::Compressed)),
                }
            }
            Length::Special(encoding) => {
                let value = self.integer(encoding)?;
                scratch.clear();
                scratch.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
                Ok(scratch)
            }
        }
    }

    fn integer(&mut self, encoding: u8) -> Result<i32, CodecError> {
        Ok(match encoding {
            INT8 => i8::from_le_bytes(self.array()?) as i32,
            INT16 => i16::from_le_bytes(self.array()?) as i32,
            INT32 => i32::from_le_bytes(self.array()?),
            _ => return self.fail(Problem::StringEncoding(encoding)),
        })
    }

    /// A string, into a buffer.
    fn string_into(&mut self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut scratch = Vec::new();
        let text = self.string(&mut scratch)?;
        out.clear();
        out.extend_from_slice(text);
        Ok(())
    }

    /// A string of its own, in one exact allocation.
    fn boxed(&mut self) -> Result<Box<[u8]>, CodecError> {
        let mut scratch = Vec::new();
        self.string(&mut scratch).map(Box::from)
    }

    fn listpack(&mut self) -> Result<Listpack, CodecError> {
        let bytes = self.boxed()?;
        self.check(Listpack::from_bytes(bytes))
    }

    fn intset(&mut self) -> Result<Intset, CodecError> {
        let bytes = self.boxed()?;
        self.check(Intset::from_bytes(bytes))
    }

    fn time(&mut self) -> Result<i64, CodecError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A score in eight bytes.
    fn score(&mut self) -> Result<f64, CodecError> {
        let score = f64::from_le_bytes(self.array()?);
        if score.is_nan() {
            return self.fail(Problem::Number);
        }
        Ok(score)
    }

    /// A score as text.
    fn text_score(&mut self) -> Result<f64, CodecError> {
        match self.byte()? {
            253 => self.fail(Problem::Number),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            len => {
                let score = parse_f64(self.take(len as usize)?);
                score.map_or_else(|| self.fail(Problem::Number), Ok)
            }
        }
    }
}

/// A payload.
pub(super) struct Slice<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Slice<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Slice<'a> {
        Slice { bytes, at: 0 }
    }
}

impl Input for Slice<'_> {
    fn at(&self) -> u64 {
        self.at as u64
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&[u8], CodecError> {
        match self.bytes[self.at..].get(..len) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => self.fail(Problem::Short),
        }
    }
}
