//! COMMAND: what the server knows of its commands.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
