//! Finding keys: SCAN, KEYS, RANDOMKEY.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
