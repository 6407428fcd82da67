//! The bytes of the Redis protocol, RESP2 and RESP3: requests in ([`parser`]), replies out ([`reply`]), and the
//! numbers in both ([`number`], [`long_double`]).
//!
//! This layer does no I/O, knows no command and no key, and uses nothing of the other layers. Everything in it is
//! deterministic: the same bytes give the same requests however they were cut on their way here.

mod batch;
mod inline;
pub mod long_double;
pub mod number;
pub mod parser;
pub mod reply;

pub use batch::{Batch, RequestArgs};
pub use long_double::LongDouble;
pub use parser::{Limits, Parser, ProtocolError};
pub use reply::{Deferred, Protocol, Reply};
