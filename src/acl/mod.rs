//! Who may do what: users, their rules, and the decision.
//!
//! | file | what it holds |
//! |---|---|
//! | `rules` | one rule of `ACL SETUSER`, from its text |
//! | `commands` | the commands that a selector lets run, as a bitmap |
//! | `patterns` | the patterns of keys, arranged so that many cost little more than one |
//! | `selector` | commands, keys and channels that belong together |
//! | `user` | a name, passwords, selectors; the decision |
//! | `users` | all users, and how they change |
//! | `file` | users as the lines of a file |
//! | `log` | what was refused |
//!
//! Guarantees: nothing here does I/O, and nothing here knows a command but by the [`Vocabulary`]. A user is never
//! changed, it is replaced: a connection keeps the one that it had until it sees that the version of [`users::Users`]
//! is another, which it looks at before every command.

pub mod commands;
pub mod file;
pub mod log;
pub mod patterns;
pub mod rules;
pub mod selector;
pub mod user;
pub mod users;

use std::ops::Range;

pub use patterns::Access;
pub use rules::RuleError;
pub use user::User;

/// What is known of users in one server.
pub struct Acl {
    pub users: users::Users,
    pub log: parking_lot::Mutex<log::Log>,
}

impl Acl {
    /// With the user `default`, who may do everything and needs no password.
    pub fn new(vocabulary: &'static dyn Vocabulary) -> Acl {
        Acl {
            users: users::Users::new(vocabulary),
            log: parking_lot::Mutex::default(),
        }
    }
}

/// A command as rules see it.
#[derive(Clone, Debug)]
pub struct Named {
    /// The full name, `get` or `client|list`.
    pub name: &'static str,
    pub number: u32,
    /// The numbers of its subcommands.
    pub subcommands: Range<u32>,
    pub is_subcommand: bool,
}

/// What rules can name: the table of commands.
pub trait Vocabulary: Sync {
    /// All numbers of commands are below this.
    fn bound(&self) -> u32;

    /// The command `name`, or the subcommand `container|name`, in any case.
    fn command(&self, name: &[u8]) -> Option<Named>;

    /// The commands and subcommands of a category, which is named without its `@`; none if there is no such category.
    fn category(&self, name: &[u8]) -> Option<Vec<Named>>;
}

/// Why a command is refused. The greater of two is the one worth telling: it came further.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Denied {
    Command,
    /// The key at this argument.
    Key(usize),
    /// The channel at this argument.
    Channel(usize),
}

/// The channels that a request names: arguments, and whether they are patterns.
pub type Channels = (Range<usize>, bool);

/// A request, as far as the decision depends on it.
pub trait Request {
    fn number(&self) -> u32;

    /// Everybody may send it: `AUTH` and its like.
    fn is_free(&self) -> bool;

    /// The argument behind the command's name.
    fn first_arg(&self) -> Option<&[u8]>;

    fn arg(&self, at: usize) -> &[u8];

    /// Places of keys, and what is done with each.
    fn keys(&self) -> smallvec::SmallVec<[(usize, Access); 4]>;

    fn channels(&self) -> Channels;
}

/// A small table of commands for the tests of this layer.
#[cfg(test)]
pub mod testing {
    use super::{Named, Vocabulary};

    pub struct Few;

    /// Name, number, subcommands, categories.
    const FEW: &[(&str, u32, std::ops::Range<u32>, &[&str])] = &[
        ("get", 1, 0..0, &["read", "fast"]),
        ("set", 2, 0..0, &["write", "slow"]),
        ("config|get", 3, 0..0, &["admin", "slow"]),
        ("config|set", 4, 0..0, &["admin", "slow"]),
        ("config|help", 5, 0..0, &["slow"]),
        ("config", 6, 3..6, &["slow"]),
        ("select", 70, 0..0, &["fast"]),
    ];

    fn named(row: &(&'static str, u32, std::ops::Range<u32>, &[&str])) -> Named {
        Named {
            name: row.0,
            number: row.1,
            subcommands: row.2.clone(),
            is_subcommand: row.0.contains('|'),
        }
    }

    impl Vocabulary for Few {
        fn bound(&self) -> u32 {
            71
        }

        fn command(&self, name: &[u8]) -> Option<Named> {
            let mut rows = FEW.iter();
            rows.find(|row| row.0.as_bytes().eq_ignore_ascii_case(name))
                .map(named)
        }

        fn category(&self, name: &[u8]) -> Option<Vec<Named>> {
            let is = |category: &&str| category.as_bytes().eq_ignore_ascii_case(name);
            let found: Vec<Named> = FEW.iter().filter(|row| row.3.iter().any(is)).map(named).collect();
            (!found.is_empty()).then_some(found)
        }
    }
}
