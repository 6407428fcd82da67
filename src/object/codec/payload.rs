//! What `DUMP` gives and `RESTORE` takes: a value, the version of its form, and a checksum over both.

use super::error::{CodecError, Problem};
use super::file::LIBRARY;
use super::input::{Input, Slice};
use super::output::Output;
use super::{Form, VERSION_MAX, Value, ValueRef, decode, encode, type_of, write};
use crate::object::Limits;
use crc::{CRC_64_REDIS, Crc, Table};

/// The checksum of payloads and files.
pub(super) static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

const VERSION: usize = size_of::<u16>();
const CHECKSUM: usize = size_of::<u64>();

/// A value as a payload of its own. Its version is that of the form, or the first one that has the value's type.
pub fn dump(value: ValueRef<'_>, form: Form) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, value, form);
    close(
        &mut out,
        form.version.max(write::version_of(type_of(value, form))),
    );
    out
}

fn close(out: &mut Vec<u8>, version: u16) {
    out.extend_from_slice(&version.to_le_bytes());
    let checksum = CRC.checksum(out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The texts of libraries as a payload: what `FUNCTION DUMP` gives.
pub fn dump_libraries<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        out.push(LIBRARY);
        let mut output = Output {
            bytes: &mut out,
            form: Form::DUMP,
        };
        output.string(text);
    }
    close(&mut out, Form::DUMP.version);
    out
}

/// The texts of libraries in a payload: what `FUNCTION RESTORE` takes. Errors as those of `restore`.
pub fn restore_libraries(payload: &[u8]) -> Result<Vec<Vec<u8>>, CodecError> {
    let body = open(payload)?;
    let (mut input, mut texts) = (Slice::new(body), Vec::new());
    while input.left() > 0 {
        let kind = input.byte()?;
        if kind != LIBRARY {
            return input.fail(Problem::Type(kind));
        }
        let mut text = Vec::new();
        input.string_into(&mut text)?;
        texts.push(text);
    }
    Ok(texts)
}

/// The value of a payload. Version and checksum are looked at first: `Problem::Version`, `Problem::Checksum`.
pub fn restore(payload: &[u8], limits: &Limits) -> Result<Value, CodecError> {
    decode(open(payload)?, limits)
}

/// What stands before version and checksum, which are right.
fn open(payload: &[u8]) -> Result<&[u8], CodecError> {
    let fail = |at: usize, problem| Err(CodecError::new(at as u64, problem));
    let Some((summed, checksum)) = payload.split_last_chunk::<CHECKSUM>() else {
        return fail(0, Problem::Checksum);
    };
    let Some((value, version)) = summed.split_last_chunk::<VERSION>() else {
        return fail(0, Problem::Checksum);
    };
    let version = u16::from_le_bytes(*version);
    if version > VERSION_MAX {
        return fail(value.len(), Problem::Version(version.into()));
    }
    if CRC.checksum(summed) != u64::from_le_bytes(*checksum) {
        return fail(summed.len(), Problem::Checksum);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(CRC.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn payloads_of_strings_come_back_and_damage_is_seen() {
        for text in [&b""[..], b"abc", b"-129", b"123456789012", &[b'x'; 5000]] {
            let payload = dump(ValueRef::String(text), Form::DUMP);
            let back = restore(&payload, &Limits::default());
            assert!(matches!(back, Ok(Value::String(back)) if *back == *text));
            for at in 0..payload.len() {
                let mut damaged = payload.clone();
                damaged[at] ^= 1;
                assert!(restore(&damaged, &Limits::default()).is_err());
            }
        }
        assert!(restore(b"short", &Limits::default()).is_err());
    }
}
