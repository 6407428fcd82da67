//! The serialization of values: that of RDB files, so that rows in a store, `DUMP` payloads and RDB files share it.
//!
//! ```text
//! value:    type:u8 | what the type says               see `types`, `read`, `stream`; lengths and strings: `input`
//! payload:  value | version:u16 LE | CRC-64 of all before:u64 LE
//! file:     see `file`
//! ```
//!
//! Read are the types of every server up to RDB version 12 (Redis 7.4) but those of modules. Written are the types that
//! a server of the version in [`Form`] writes and reads. Follows the published descriptions of the RDB format.
//!
//! Guarantees: bytes from outside give a value that holds its type's invariants, or an error that names the place.

mod error;
pub mod file;
mod input;
mod lzf;
mod old;
mod output;
mod payload;
mod read;
mod stream;
mod types;
mod write;

pub use error::{CodecError, Problem};
pub use payload::{dump, dump_libraries, restore, restore_libraries};

use super::{Limits, Object, Stream};
use input::{Input, Slice};
use output::{Output, push_number};

/// The newest version of the format that is read and written.
pub const VERSION_MAX: u16 = 12;
/// The version that is written where nobody asks for another: servers from Redis 7.0 on read it.
pub const VERSION_DEFAULT: u16 = 10;

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// Types that this version of the format does not have are avoided, where the value can be written without.
    pub version: u16,
    /// Longer strings are packed (LZF) where that makes them shorter.
    pub compress: bool,
}

impl Form {
    /// Rows of a store, which packs them by itself, and effects: complete, and cheap to write.
    pub const ROW: Form = Form {
        version: VERSION_MAX,
        compress: false,
    };
    /// `DUMP`.
    pub const DUMP: Form = Form {
        version: VERSION_DEFAULT,
        compress: true,
    };
}

/// A value that was read.
#[derive(Clone)]
pub enum Value {
    String(Vec<u8>),
    Object(Object),
}

/// A value that is to be written.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    String(&'a [u8]),
    Object(&'a Object),
}

/// Appends a string as it stands: the rows of strings.
pub fn encode_string(out: &mut Vec<u8>, value: &[u8]) {
    out.push(types::STRING);
    push_number(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// The string that `encode_string` wrote, where it stands; `bytes` hold nothing else.
pub fn decode_string(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let mut input = Slice::new(bytes);
    let kind = input.byte()?;
    if kind != types::STRING {
        return input.fail(Problem::Type(kind));
    }
    let len = input.number()?;
    match input.left() {
        left if left < len => input.fail(Problem::Short),
        left if left > len => input.fail(Problem::Trailing),
        _ => Ok(&bytes[input.at() as usize..]),
    }
}

/// Appends an object for a row of a store.
pub fn encode_object(out: &mut Vec<u8>, object: &Object) {
    encode(out, ValueRef::Object(object), Form::ROW);
}

/// Appends a value.
pub fn encode(out: &mut Vec<u8>, value: ValueRef<'_>, form: Form) {
    let (kind, mut output) = (type_of(value, form), Output { bytes: out, form });
    output.bytes.push(kind);
    write_body(&mut output, value);
}

fn type_of(value: ValueRef<'_>, form: Form) -> u8 {
    match value {
        ValueRef::String(_) => types::STRING,
        ValueRef::Object(object) => write::type_of(object, form),
    }
}

fn write_body(output: &mut Output<'_>, value: ValueRef<'_>) {
    match value {
        ValueRef::String(text) => output.string(text),
        ValueRef::Object(object) => write::write_object(output, object),
    }
}

/// The value that fills `bytes`.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Value, CodecError> {
    let mut input = Slice::new(bytes);
    let kind = input.byte()?;
    let value = read::read_value(&mut input, kind, limits)?;
    match input.left() {
        0 => Ok(value),
        _ => input.fail(Problem::Trailing),
    }
}

/// The object that fills `bytes`: a row of a store that is no string.
pub fn decode_object(bytes: &[u8], limits: &Limits) -> Result<Object, CodecError> {
    match decode(bytes, limits)? {
        Value::Object(object) => Ok(object),
        Value::String(_) => Slice::new(bytes).fail(Problem::Type(types::STRING)),
    }
}

/// A stream but for its nodes, which have rows of their own (`stream::paged`).
pub fn encode_stream_facts(stream: &Stream) -> Vec<u8> {
    let mut bytes = vec![types::STREAM_LISTPACKS_3];
    let mut output = Output {
        bytes: &mut bytes,
        form: Form::ROW,
    };
    stream::write_facts(&mut output, stream, types::STREAM_LISTPACKS_3);
    bytes
}

/// The stream that `encode_stream_facts` has written, which is to be paged: its nodes are elsewhere.
pub fn decode_stream_facts(bytes: &[u8]) -> Result<Stream, CodecError> {
    let mut input = Slice::new(bytes);
    let kind = input.byte()?;
    if kind != types::STREAM_LISTPACKS_3 {
        return input.fail(Problem::Type(kind));
    }
    let facts = stream::read_facts_alone(&mut input)?;
    match input.left() {
        0 => Ok(facts),
        _ => input.fail(Problem::Trailing),
    }
}

/// The type of a serialized value, as `TYPE` gives it.
pub fn type_name(bytes: &[u8]) -> Result<&'static str, CodecError> {
    let mut input = Slice::new(bytes);
    let kind = input.byte()?;
    read::name_of(kind).map_or_else(|| input.fail(Problem::Type(kind)), Ok)
}

#[cfg(test)]
mod tests;
