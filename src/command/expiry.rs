//! When keys expire: giving, reading and taking away expiries.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
