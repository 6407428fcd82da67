//! The command table: every family's rows, found by name.

use super::spec::{Spec, Stats};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::OnceLock;

/// Every family. A new file of commands is added here and nowhere else.
static FAMILIES: &[&[Spec]] = &[
    super::admin::COMMANDS,
    super::bitfield::COMMANDS,
    super::bitmaps::COMMANDS,
    super::client::COMMANDS,
    super::config::COMMANDS,
    super::connection::COMMANDS,
    super::databases::COMMANDS,
    super::expiry::COMMANDS,
    super::info::COMMANDS,
    super::introspection::COMMANDS,
    super::keys::COMMANDS,
    super::lcs::COMMANDS,
    super::object::COMMANDS,
    super::ranges::COMMANDS,
    super::scan::COMMANDS,
    super::strings::COMMANDS,
];

/// Longer names than any command has.
const NAME_MOST: usize = 32;

/// A row in use: what is known of the command, and what is counted of it.
pub struct Command {
    pub spec: &'static Spec,
    /// `get`, or `client|list`.
    pub full_name: String,
    pub stats: Stats,
    pub subcommands: Vec<Command>,
}

impl Deref for Command {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        self.spec
    }
}

impl Command {
    fn new(spec: &'static Spec, container: Option<&Spec>) -> Command {
        let full_name = match container {
            Some(container) => format!("{}|{}", container.name, spec.name),
            None => spec.name.to_owned(),
        };
        let subcommands = spec
            .subcommands
            .iter()
            .map(|sub| Command::new(sub, Some(spec)))
            .collect();
        Command {
            spec,
            full_name,
            stats: Stats::default(),
            subcommands,
        }
    }

    /// A subcommand by its name in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&Command> {
        self.subcommands
            .iter()
            .find(|sub| sub.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

type Table = HashMap<&'static [u8], Command, foldhash::fast::FixedState>;

static TABLE: OnceLock<Table> = OnceLock::new();

fn table() -> &'static Table {
    TABLE.get_or_init(|| {
        let specs = FAMILIES.iter().flat_map(|family| family.iter());
        specs
            .map(|spec| (spec.name.as_bytes(), Command::new(spec, None)))
            .collect()
    })
}

/// Every command, by name.
pub fn all() -> Vec<&'static Command> {
    let mut all: Vec<&Command> = table().values().collect();
    all.sort_by_key(|command| command.name);
    all
}

/// The command of a name in any case.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    if name.len() > NAME_MOST {
        return None;
    }
    let mut lower = [0; NAME_MOST];
    let lower = &mut lower[..name.len()];
    for (to, from) in lower.iter_mut().zip(name) {
        *to = from.to_ascii_lowercase();
    }
    table().get(&*lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_lower_case_and_stands_once() {
        let rows = FAMILIES.iter().map(|family| family.len()).sum::<usize>();
        assert_eq!(all().len(), rows);
        assert!(
            all()
                .iter()
                .all(|spec| spec.name.to_ascii_lowercase() == spec.name && spec.name.len() <= NAME_MOST)
        );
    }

    #[test]
    fn every_row_is_documented() {
        for command in all() {
            for row in std::iter::once(command).chain(&command.subcommands) {
                assert!(
                    !row.summary.is_empty() && !row.complexity.is_empty(),
                    "{}",
                    row.full_name
                );
            }
        }
    }
}
