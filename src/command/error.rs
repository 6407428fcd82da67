//! Why a command is refused or fails; each becomes one exact RESP error, in Redis's words where Redis has them.

use crate::keyspace::WrongType;
use crate::keyspace::quota::QuotaError;
use crate::keyspace::ranges::RangeError;
use crate::resp::Reply;
use crate::store::StoreError;
use std::borrow::Cow;
use std::fmt;

#[derive(Debug)]
pub enum Error {
    Syntax,
    NotInteger,
    NotFloat,
    WrongType,
    /// The full name of the command, `config|get`.
    Arity(String),
    /// The name and the arguments as the reply quotes them, with blanks between.
    UnknownCommand {
        name: Vec<u8>,
        args: Vec<u8>,
    },
    /// The container in capitals, and what was asked for.
    UnknownSubcommand {
        name: String,
        sub: Vec<u8>,
    },
    NoAuth,
    /// The full name of a command that a subscriber may not send.
    OnlyListens(String),
    OutOfMemory,
    /// Durable ranges cannot be written now.
    Misconf(String),
    OutOfRange(&'static str),
    NoSuchKey,
    InvalidExpire(String),
    StringTooLong,
    Overflow,
    Store(StoreError),
    /// What a script ended with; `counted` when it is the error of a command, which was counted when that was run.
    Script {
        text: Vec<u8>,
        counted: bool,
    },
    /// A script that has been running for a while is in the way, and nothing was done: no reply, it is run again soon.
    HeldUp,
    /// A range's limit on its keys or values.
    Quota(QuotaError),
    /// Any other, with its code.
    Other(Cow<'static, str>),
}

impl Error {
    /// An error with its code: `ERR …`.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Error {
        Error::Other(text.into())
    }
}

impl Error {
    /// Writes the error as a reply. What it quotes of the request goes out byte for byte.
    pub fn write(&self, reply: &mut Reply) {
        match self {
            Error::UnknownCommand { name, args } => {
                reply.error_bytes(&[b"ERR unknown command '", &name[..], UNKNOWN, args].concat());
            }
            Error::UnknownSubcommand { name, sub } => {
                let hint = format!("'. Try {name} HELP.");
                reply.error_bytes(&[b"ERR unknown subcommand '", &sub[..], hint.as_bytes()].concat());
            }
            Error::Script { text, .. } => reply.error_bytes(text),
            other => reply.error(other),
        }
    }

    pub fn is_counted(&self) -> bool {
        matches!(self, Error::Script { counted: true, .. })
    }
}

const UNKNOWN: &[u8] = b"', with args beginning with: ";

/// What a reply quotes of a client's argument: as much as a C program would print of it, at most `most` bytes.
pub fn quoted(arg: &[u8], most: usize) -> &[u8] {
    let end = memchr::memchr(0, arg).unwrap_or(arg.len());
    &arg[..end.min(most)]
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Syntax => f.write_str("ERR syntax error"),
            Error::NotInteger => f.write_str("ERR value is not an integer or out of range"),
            Error::NotFloat => f.write_str("ERR value is not a valid float"),
            Error::WrongType => {
                f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value")
            }
            Error::Arity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Error::UnknownCommand { name, .. } => {
                write!(f, "ERR unknown command '{}'", String::from_utf8_lossy(name))
            }
            Error::UnknownSubcommand { name, .. } => {
                write!(f, "ERR unknown subcommand. Try {name} HELP.")
            }
            Error::NoAuth => f.write_str("NOAUTH Authentication required."),
            Error::OnlyListens(name) => write!(
                f,
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            ),
            Error::OutOfMemory => f.write_str("OOM command not allowed when used memory > 'maxmemory'."),
            Error::Misconf(why) => write!(
                f,
                "MISCONF Durable ranges can't be written now ({why}). Commands that change them are refused until the disk takes writes again."
            ),
            Error::OutOfRange(what) => write!(f, "ERR {what} is out of range"),
            Error::NoSuchKey => f.write_str("ERR no such key"),
            Error::InvalidExpire(name) => write!(f, "ERR invalid expire time in '{name}' command"),
            Error::StringTooLong => {
                f.write_str("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
            }
            Error::Overflow => f.write_str("ERR increment or decrement would overflow"),
            Error::Store(error) => write!(f, "ERR the store cannot be read: {error}"),
            Error::Script { text, .. } => f.write_str(&String::from_utf8_lossy(text)),
            Error::HeldUp => f.write_str("BUSY A script is in the way."),
            Error::Quota(error) => write!(f, "{error}"),
            Error::Other(text) => f.write_str(text),
        }
    }
}

impl From<WrongType> for Error {
    fn from(_: WrongType) -> Error {
        Error::WrongType
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::Store(error)
    }
}

impl From<QuotaError> for Error {
    fn from(error: QuotaError) -> Error {
        Error::Quota(error)
    }
}

impl From<RangeError> for Error {
    fn from(error: RangeError) -> Error {
        Error::Other(error.to_string().into())
    }
}
