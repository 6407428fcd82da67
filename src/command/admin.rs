//! The operator's commands: persistence, slow log, latency, memory, monitoring.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
