//! Whole databases: counting, flushing, exchanging, moving and copying keys between them.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
