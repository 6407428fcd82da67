//! Looking at the server: what it keeps so that its operator can see what it does.

pub mod errors;
pub mod latency;
pub mod logger;
pub mod memory;
pub mod metrics;
pub mod monitor;
pub mod process;
pub mod redact;
pub mod slowlog;
pub mod supervisor;
