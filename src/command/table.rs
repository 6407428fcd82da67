//! The command table: every family's rows, found by name.

use super::effort::Effort;
use super::elements;
use super::permission::Needs;
use super::spec::{Spec, Stats, acl};
use crate::keyspace::Elements;
use crate::resp::RequestArgs;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Every family. A new file of commands is added here and nowhere else.
static FAMILIES: &[&[Spec]] = &[
    super::acl::COMMANDS,
    super::admin::COMMANDS,
    super::backup::COMMANDS,
    super::bitfield::COMMANDS,
    super::bitmaps::COMMANDS,
    super::client::COMMANDS,
    super::config::COMMANDS,
    super::connection::COMMANDS,
    super::databases::COMMANDS,
    super::transactions::COMMANDS,
    super::debug::COMMANDS,
    super::dump::COMMANDS,
    super::expiry::COMMANDS,
    super::functions::COMMANDS,
    super::geo::COMMANDS,
    super::hash_expiry::COMMANDS,
    super::hashes::COMMANDS,
    super::hyperloglog::COMMANDS,
    super::info::COMMANDS,
    super::introspection::COMMANDS,
    super::kwatch::COMMANDS,
    super::keys::COMMANDS,
    super::lcs::COMMANDS,
    super::object::COMMANDS,
    super::pubsub::COMMANDS,
    super::ranges::COMMANDS,
    super::scan::COMMANDS,
    super::scripting::COMMANDS,
    super::set_algebra::COMMANDS,
    super::sets::COMMANDS,
    super::latency::COMMANDS,
    super::lists::COMMANDS,
    super::memory::COMMANDS,
    super::migrate::COMMANDS,
    super::module::COMMANDS,
    super::monitor::COMMANDS,
    super::slowlog::COMMANDS,
    super::sort::COMMANDS,
    super::sorted_sets::COMMANDS,
    super::streams::add::COMMANDS,
    super::streams::claim::COMMANDS,
    super::streams::groups::COMMANDS,
    super::streams::info::COMMANDS,
    super::streams::pending::COMMANDS,
    super::streams::range::COMMANDS,
    super::streams::read::COMMANDS,
    super::strings::COMMANDS,
    super::elsewhere::COMMANDS,
    super::sync::COMMANDS,
];

/// Longer names than any command has.
const NAME_MOST: usize = 32;

/// A row in use: what is known of the command, and what is counted of it.
pub struct Command {
    pub spec: &'static Spec,
    /// `get`, or `client|list`.
    pub full_name: String,
    /// For `by_number`: what stands for the command where there is room for an integer only. Never 0.
    pub number: u32,
    /// What permission to run it depends on.
    pub needs: Needs,
    pub effort: Effort,
    /// What it touches of large collections.
    pub elements: Elements,
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
            effort: Effort::of(&full_name, spec),
            elements: elements::of(&full_name, spec),
            full_name,
            number: LAST_NUMBER.fetch_add(1, Relaxed) + 1,
            needs: Needs::new(spec),
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
static LAST_NUMBER: AtomicU32 = AtomicU32::new(0);

fn table() -> &'static Table {
    TABLE.get_or_init(|| {
        let specs = FAMILIES.iter().flat_map(|family| family.iter());
        specs
            .map(|spec| (spec.name.as_bytes(), Command::new(spec, None)))
            .collect()
    })
}

/// Names that `rename-command` has given to commands, or taken from them, in lower case.
static RENAMED: OnceLock<HashMap<Vec<u8>, Option<&'static Command>>> = OnceLock::new();

/// `rename-command`: clients find commands by other names, or not at all where the new name is empty. To be called
/// before the first client is there. Where a line cannot be followed, its first name, and why.
pub fn rename(lines: &[(Vec<u8>, Vec<u8>)]) -> Result<(), (&[u8], &'static str)> {
    let mut renamed: HashMap<Vec<u8>, Option<&'static Command>> = HashMap::new();
    for (written, to) in lines {
        let (from, to) = (written.to_ascii_lowercase(), to.to_ascii_lowercase());
        let now = |name: &[u8]| renamed.get(name).copied().unwrap_or_else(|| find(name));
        let command = now(&from).ok_or((&written[..], "No such command in rename-command"))?;
        if !to.is_empty() && now(&to).is_some() {
            return Err((written, "Target command name already exists"));
        }
        renamed.insert(from, None);
        if !to.is_empty() {
            renamed.insert(to, Some(command));
        }
    }
    if !renamed.is_empty() {
        // A process has one table and one configuration; a second server in it, as tests have, keeps the first one's.
        let _ = RENAMED.set(renamed);
    }
    Ok(())
}

/// The command that clients know by this name, in any case.
#[inline]
pub fn find_named(name: &[u8]) -> Option<&'static Command> {
    match RENAMED.get() {
        None => find(name),
        Some(renamed) => match renamed.get(&name.to_ascii_lowercase()) {
            Some(command) => *command,
            None => find(name),
        },
    }
}

/// The command of a full name in any case: `get`, or `client|list`.
pub fn find_full(name: &[u8]) -> Option<&'static Command> {
    match memchr::memchr(b'|', name) {
        Some(at) => find(&name[..at])?.subcommand(&name[at + 1..]),
        None => find(name),
    }
}

/// Every command, by name.
pub fn all() -> Vec<&'static Command> {
    let mut all: Vec<&Command> = table().values().collect();
    all.sort_by_key(|command| command.name);
    all
}

/// Every command and subcommand, by name, a container before its subcommands.
pub fn all_rows() -> impl Iterator<Item = &'static Command> {
    all()
        .into_iter()
        .flat_map(|command| std::iter::once(command).chain(&command.subcommands))
}

/// The command or subcommand with this number.
pub fn by_number(number: u32) -> Option<&'static Command> {
    all_rows().find(|command| command.number == number)
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

/// Finds commands one after the other: in a pipeline the next is most often the same as the last.
#[derive(Default)]
pub struct Finder {
    /// By the names that commands have of themselves, whatever clients call them.
    own_names: bool,
    last: Option<(SmallVec<[u8; NAME_MOST]>, &'static Command)>,
}

impl Finder {
    /// As `find`, for the journal.
    pub fn by_own_names() -> Finder {
        Finder {
            own_names: true,
            ..Finder::default()
        }
    }

    /// As `find_named`.
    #[inline]
    pub fn find(&mut self, name: &[u8]) -> Option<&'static Command> {
        if let Some((last, command)) = &self.last
            && is_same(last, name)
        {
            return Some(command);
        }
        let command = if self.own_names {
            find(name)?
        } else {
            find_named(name)?
        };
        self.last = Some((SmallVec::from_slice(name), command));
        Some(command)
    }
}

/// Names are short: to compare them here takes less than to have it done.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one == other)
}

/// What a request is about, for prefetching: its first key and, of a type with elements, one that it may name.
/// Nothing is checked but that they are there.
#[inline]
pub fn aim<'a>(request: &RequestArgs<'a>, finder: &mut Finder) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let command = finder.find(request.get(0))?;
    let keys = command.keys.first()?;
    let at = keys.first(request.len(), |at| request.get(at))?;
    // Fields come before their values, members after their scores.
    let element = match command.acl {
        acl::HASH => at + 1,
        acl::SET | acl::SORTED_SET => request.len() - 1,
        _ => at,
    };
    let element = (element > at && element < request.len()).then(|| request.get(element));
    Some((request.get(at), element))
}

/// The key of a request that can have one only; none where it takes more to say what its keys are.
#[inline]
pub fn sole_key<'a>(request: &RequestArgs<'a>, finder: &mut Finder) -> Option<&'a [u8]> {
    let command = finder.find(request.get(0))?;
    let at = match command.only_key_place() {
        // With one argument there is no second one.
        0 if request.len() == 2 => command.keys.first()?.first(2, |at| request.get(at))?,
        0 => return None,
        at => at,
    };
    (at < request.len()).then(|| request.get(at))
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
        for row in all_rows() {
            assert!(
                !row.summary.is_empty() && !row.complexity.is_empty(),
                "{}",
                row.full_name
            );
        }
    }
}
