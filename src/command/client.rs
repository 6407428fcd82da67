//! CLIENT, HELLO, AUTH, RESET: who the client is and how it is served.

use super::spec::Spec;

pub static COMMANDS: &[Spec] = &[];
