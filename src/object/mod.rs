//! The native values: semantics and encodings, one file per type, and the codec that all of them share.
//!
//! Strings live inside their entry; what is done to their bytes stands in the command family, and what is stored of
//! them in `codec`.

pub mod codec;
