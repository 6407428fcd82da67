//! Commands: what they are called and how they are run. One file per family; a row of the table beside each handler.
//!
//! `execute` is the only pipeline: from a parsed request to its reply and effects.

pub mod args;
pub mod context;
pub mod docs;
pub mod error;
pub mod execute;
pub mod glob;
pub mod help;
pub mod key_spec;
pub mod quotas;
pub mod replay;
pub mod spec;
pub mod syntax;
pub mod table;

pub mod acl;
pub mod admin;
pub mod backup;
pub mod bitfield;
pub mod bitmaps;
pub mod blocked;
pub mod client;
pub mod client_filter;
mod client_tracking;
pub mod config;
pub mod connection;
pub mod databases;
pub mod debug;
pub mod digest;
pub mod dump;
pub mod expiry;
pub mod geo;
pub mod hash_expiry;
pub mod hashes;
pub mod hyperloglog;
pub mod info;
pub mod info_sections;
pub mod introspection;
pub mod keys;
pub mod kwatch;
pub mod latency;
pub mod lcs;
pub mod lists;
pub mod lolwut;
pub mod memory;
pub mod monitor;
pub mod object;
pub mod permission;
pub mod pubsub;
pub mod ranges;
mod recorded;
pub mod scan;
pub mod set_algebra;
pub mod sets;
pub mod slowlog;
pub mod sort;
pub mod sorted_sets;
pub mod streams;
pub mod strings;
pub mod transactions;

pub use args::Args;
pub use context::Context;
pub use error::Error;
pub use execute::{After, Executor};
