//! What a key is made of: OBJECT and DEBUG.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
