//! Strings as arrays of bits.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
