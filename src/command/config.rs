//! CONFIG: reading and changing the configuration.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
