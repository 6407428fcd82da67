//! INFO: the server's state as text.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
