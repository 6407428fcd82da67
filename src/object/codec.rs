//! The object serialization: that of RDB files, so that rows in a store, `DUMP` payloads and RDB files share it.
//!
//! ```text
//! string object:  type 0:u8 | length | bytes
//! length:         00xxxxxx                              6 bits
//!                 01xxxxxx xxxxxxxx                     14 bits, big-endian
//!                 10000000 + 4 bytes                    32 bits, big-endian
//!                 10000001 + 8 bytes                    64 bits, big-endian
//! ```
//!
//! Follows the published description of the RDB format. Integers and compressed strings (lengths that start with 11)
//! are not written, and are refused by `decode_string` as `Unsupported`.

use std::fmt;

const TYPE_STRING: u8 = 0;

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum CodecError {
    /// The bytes end before the object does.
    Short,
    /// Bytes follow the object.
    Trailing,
    /// An object type or string encoding that this version does not read.
    Unsupported(u8),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Short => write!(f, "the object is cut short"),
            CodecError::Trailing => write!(f, "bytes follow the object"),
            CodecError::Unsupported(byte) => write!(f, "object type or encoding {byte} is not supported"),
        }
    }
}

fn encode_len(out: &mut Vec<u8>, len: usize) {
    match len {
        0..0x40 => out.push(len as u8),
        0x40..0x4000 => out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends a string object.
pub fn encode_string(out: &mut Vec<u8>, value: &[u8]) {
    out.push(TYPE_STRING);
    encode_len(out, value.len());
    out.extend_from_slice(value);
}

/// Interim.
pub fn encode_object(out: &mut Vec<u8>, _object: &super::Object) {
    out.push(255);
}

/// Interim.
pub fn decode_object(bytes: &[u8], _limits: &super::Limits) -> Result<super::Object, CodecError> {
    Err(CodecError::Unsupported(bytes.first().copied().unwrap_or(0)))
}

/// The type of a serialized value, as `TYPE` gives it.
pub fn type_name(object: &[u8]) -> Result<&'static str, CodecError> {
    match object.first() {
        Some(&TYPE_STRING) => Ok("string"),
        Some(other) => Err(CodecError::Unsupported(*other)),
        None => Err(CodecError::Short),
    }
}

/// Interim.
pub fn dump(object: &super::Object) -> Vec<u8> {
    let mut out = Vec::new();
    encode_object(&mut out, object);
    out
}

fn decode_len(bytes: &[u8]) -> Result<(usize, &[u8]), CodecError> {
    let (first, rest) = bytes.split_first().ok_or(CodecError::Short)?;
    let wide = |len: usize| rest.split_at_checked(len).ok_or(CodecError::Short);
    let number = |digits: &[u8]| digits.iter().fold(0usize, |n, byte| n << 8 | *byte as usize);
    match first >> 6 {
        0 => Ok(((first & 0x3f) as usize, rest)),
        1 => wide(1).map(|(low, rest)| (((first & 0x3f) as usize) << 8 | low[0] as usize, rest)),
        2 if *first == 0x80 => wide(4).map(|(digits, rest)| (number(digits), rest)),
        2 if *first == 0x81 => wide(8).map(|(digits, rest)| (number(digits), rest)),
        _ => Err(CodecError::Unsupported(*first)),
    }
}

/// The value of a string object that fills `bytes`.
pub fn decode_string(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (kind, rest) = bytes.split_first().ok_or(CodecError::Short)?;
    if *kind != TYPE_STRING {
        return Err(CodecError::Unsupported(*kind));
    }
    let (len, rest) = decode_len(rest)?;
    match rest.len() {
        have if have < len => Err(CodecError::Short),
        have if have > len => Err(CodecError::Trailing),
        _ => Ok(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_every_length_class_read_back() {
        for len in [0, 1, 63, 64, 16383, 16384, 70_000] {
            let value = vec![b'x'; len];
            let mut bytes = Vec::new();
            encode_string(&mut bytes, &value);
            assert_eq!(decode_string(&bytes), Ok(&value[..]));
            assert_eq!(decode_string(&bytes[..bytes.len() - 1]), Err(CodecError::Short));
            bytes.push(0);
            assert_eq!(decode_string(&bytes), Err(CodecError::Trailing));
        }
    }
}
