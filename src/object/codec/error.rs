//! Why bytes cannot be read as the values that they should be.

use crate::object::{intset, listpack};
use std::fmt;
use std::io;

/// What is wrong, and where: the offset of a byte at or shortly behind the wrong place, from the start of the payload
/// or file.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct CodecError {
    pub at: u64,
    pub problem: Problem,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Problem {
    /// The bytes end before the value does, or a length is more than what is left.
    Short,
    /// Bytes follow the value.
    Trailing,
    /// A type that no server writes, or that this one does not know yet.
    Type(u8),
    /// A value of a module.
    Module,
    /// A string encoding that does not exist.
    StringEncoding(u8),
    /// A length where a special encoding stands, or the other way round.
    Length,
    /// A compressed string that does not unpack to what it says.
    Compressed,
    /// A packed list is damaged at this byte of it.
    Packed(usize),
    /// An integer set is damaged at this byte of it.
    Integers(usize),
    /// A field or member is there twice.
    Duplicate,
    /// A collection without elements. The value has been read to its end.
    Empty,
    /// A packed collection that ends within a pair.
    Half,
    /// A score or time that is none.
    Number,
    /// A stream whose parts contradict each other.
    Stream,
    /// Not the start of such a file.
    Magic,
    /// A format version that is newer than what is known.
    Version(u32),
    /// The checksum is another one.
    Checksum,
    /// A database number that this server does not have.
    Database(u64),
    /// Reading failed.
    Io(io::ErrorKind),
}

impl CodecError {
    pub(super) fn new(at: u64, problem: Problem) -> CodecError {
        CodecError { at, problem }
    }
}

impl From<listpack::Damaged> for Problem {
    fn from(damaged: listpack::Damaged) -> Problem {
        Problem::Packed(damaged.at)
    }
}

impl From<intset::Damaged> for Problem {
    fn from(damaged: intset::Damaged) -> Problem {
        Problem::Integers(damaged.at)
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.problem, self.at)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Short => write!(f, "the bytes end too early, or a length is too large"),
            Problem::Trailing => write!(f, "bytes follow the value"),
            Problem::Type(byte) => write!(f, "values of type {byte} are not known"),
            Problem::Module => write!(f, "a module's value, which cannot be read without the module"),
            Problem::StringEncoding(byte) => write!(f, "string encoding {byte} is not known"),
            Problem::Length => write!(f, "no length stands where one should"),
            Problem::Compressed => write!(f, "a compressed string is damaged"),
            Problem::Packed(at) => write!(f, "a packed list is damaged at its byte {at}"),
            Problem::Integers(at) => write!(f, "a set of integers is damaged at its byte {at}"),
            Problem::Duplicate => write!(f, "a field or member is there twice"),
            Problem::Empty => write!(f, "a collection has no elements"),
            Problem::Half => write!(f, "a packed collection ends within a pair"),
            Problem::Number => write!(f, "a score or a time is no number"),
            Problem::Stream => write!(f, "a stream's parts contradict each other"),
            Problem::Magic => write!(f, "this is no RDB file"),
            Problem::Version(version) => write!(f, "format version {version} is newer than what is known"),
            Problem::Checksum => write!(f, "the checksum is wrong"),
            Problem::Database(number) => write!(f, "there is no database {number}"),
            Problem::Io(kind) => write!(f, "reading failed: {kind}"),
        }
    }
}

impl std::error::Error for CodecError {}
