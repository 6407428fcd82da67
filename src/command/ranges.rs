//! RANGE: the storage contracts of key intervals.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
