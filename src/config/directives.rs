//! One row per directive: the only place that knows a directive's name, bounds, and what it is for.
//!
//! The rows stand in the submodules, grouped as the documentation groups them. Most are made by the small macros
//! below, which tie a kind of value to a field of [`Config`]:
//!
//! ```text
//! int!("port", port, 0, 65535, "TCP port; 0 is none").fixed()
//!      name    field bounds    meaning                changed at start only
//! ```
//!
//! A directive that means nothing here yet has no field: `kept!` rows check and keep the value, so that it can be
//! read back, and name the kind of value and the default instead.
//!
//! Guarantees: a failed `set` leaves the configuration as it was; what `get` answers, `set` accepts and makes the
//! same configuration of (but for `range`, which has one line per range).

use super::Config;
use super::values::Wrong;

mod data;
mod eviction;
mod later;

mod network;
mod objects;
mod observe;
mod process;
mod security;
mod tls;

/// Applies arguments to a configuration, or says why not and leaves it as it was.
type Apply = fn(&mut Config, &[&[u8]]) -> Result<(), Wrong>;

/// Lines of a file, each as the arguments after the directive's name.
type Lines = Vec<Vec<Vec<u8>>>;

/// When a directive may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// By `CONFIG SET`, at any time.
    Live,
    /// By `CONFIG SET`, where `enable-protected-configs` allows it.
    Protected,
    /// In the file or on the command line only.
    Fixed,
    /// As `Fixed`; but `CONFIG SET` without permission is told so in the words for protected directives.
    Locked,
}

/// What setting the directive does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What the row says.
    Full,
    /// Nothing needs to happen: what it asks for is met in another way, or it will matter to something not yet
    /// there. Accepted without a word.
    Quiet,
    /// Nothing, which someone who set it should know: the log gets a warning when it is not at its default.
    None,
}

/// A group of directives that belong together in the documentation.
pub struct Group {
    pub title: &'static str,
    pub rows: &'static [Directive],
}

/// Every directive.
pub static GROUPS: &[Group] = &[
    Group {
        title: "Listening and connections",
        rows: network::ROWS,
    },
    Group {
        title: "Users",
        rows: security::ROWS,
    },
    Group {
        title: "TLS",
        rows: tls::ROWS,
    },
    Group {
        title: "Data on disk and ranges",
        rows: data::ROWS,
    },
    Group {
        title: "Memory, eviction and expiry",
        rows: eviction::ROWS,
    },
    Group {
        title: "Looking at the server",
        rows: observe::ROWS,
    },
    Group {
        title: "The process",
        rows: process::ROWS,
    },
    Group {
        title: "Encodings",
        rows: objects::ROWS,
    },
    Group {
        title: "Known, without effect yet",
        rows: later::ROWS,
    },
];

/// One directive.
pub struct Directive {
    pub name: &'static str,
    /// An older name for the same directive.
    pub alias: Option<&'static str>,
    pub change: Change,
    pub effect: Effect,
    /// Left out of `CONFIG GET *`, though it can be asked for by its name.
    pub hidden: bool,
    /// The value must not show up in logs.
    pub secret: bool,
    /// One sentence on what it is for.
    pub about: &'static str,
    /// Takes any number of arguments; a single one is split at its spaces.
    list: bool,
    get: fn(&Config) -> Vec<u8>,
    set: Apply,
    /// Applies a second and further line of the same file, where that adds to the first.
    add: Option<Apply>,
    /// The arguments of each line that a file would need, where that is not one line with the value.
    lines: Option<fn(&Config) -> Lines>,
}

impl Directive {
    const fn new(
        name: &'static str,
        get: fn(&Config) -> Vec<u8>,
        set: Apply,
        about: &'static str,
    ) -> Directive {
        Directive {
            name,
            alias: None,
            change: Change::Live,
            effect: Effect::Full,
            hidden: false,
            secret: false,
            about,
            list: false,
            get,
            set,
            add: None,
            lines: None,
        }
    }

    const fn alias(mut self, alias: &'static str) -> Directive {
        self.alias = Some(alias);
        self
    }

    const fn fixed(mut self) -> Directive {
        self.change = Change::Fixed;
        self
    }

    const fn protected(mut self) -> Directive {
        self.change = Change::Protected;
        self
    }

    const fn locked(mut self) -> Directive {
        self.change = Change::Locked;
        self
    }

    const fn quiet(mut self) -> Directive {
        self.effect = Effect::Quiet;
        self
    }

    const fn without_effect(mut self) -> Directive {
        self.effect = Effect::None;
        self
    }

    const fn hidden(mut self) -> Directive {
        self.hidden = true;
        self
    }

    const fn secret(mut self) -> Directive {
        self.secret = true;
        self
    }

    const fn list(mut self) -> Directive {
        self.list = true;
        self
    }

    const fn adding(mut self, add: Apply) -> Directive {
        self.add = Some(add);
        self
    }

    const fn on_lines(mut self, lines: fn(&Config) -> Lines) -> Directive {
        self.lines = Some(lines);
        self
    }

    /// The value as `CONFIG GET` answers it.
    pub fn get(&self, config: &Config) -> Vec<u8> {
        (self.get)(config)
    }

    /// The value when nothing sets it.
    pub fn default_value(&self) -> Vec<u8> {
        self.get(&Config::default())
    }

    /// Applies one value as `CONFIG SET` gives it.
    pub fn set_from_one(&self, config: &mut Config, value: &[u8]) -> Result<(), Wrong> {
        if self.list {
            return (self.set)(config, &split_at_spaces(value));
        }
        (self.set)(config, &[value])
    }

    /// Applies the arguments of a line of a file. `again` says that an earlier line of the same source set this
    /// directive too.
    pub(super) fn set_from_line(
        &self,
        config: &mut Config,
        args: &[&[u8]],
        again: bool,
    ) -> Result<(), Wrong> {
        let set = if again {
            self.add.unwrap_or(self.set)
        } else {
            self.set
        };
        match args {
            [] => Err("wrong number of arguments".into()),
            [value] if self.list => set(config, &split_at_spaces(value)),
            [_, _, ..] if !self.list => Err("wrong number of arguments".into()),
            _ => set(config, args),
        }
    }

    /// The arguments of each line that a file needs for the present value.
    pub(super) fn lines(&self, config: &Config) -> Lines {
        match self.lines {
            Some(lines) => lines(config),
            None if self.list => vec![or_empty(split_at_spaces(&self.get(config)))],
            None => vec![vec![self.get(config)]],
        }
    }
}

/// An empty value is no arguments at all, which is how lists are emptied.
fn split_at_spaces(value: &[u8]) -> Vec<&[u8]> {
    value
        .split(|&byte| byte == b' ')
        .filter(|part| !part.is_empty())
        .collect()
}

/// A line needs at least one argument; that of an empty list is empty.
fn or_empty(args: Vec<&[u8]>) -> Vec<Vec<u8>> {
    if args.is_empty() {
        return vec![Vec::new()];
    }
    args.into_iter().map(<[u8]>::to_vec).collect()
}

/// Every name and every alias with its row.
pub fn names() -> impl Iterator<Item = (&'static str, &'static Directive)> {
    let rows = GROUPS.iter().flat_map(|group| group.rows);
    rows.flat_map(|row| {
        std::iter::once(row.name)
            .chain(row.alias)
            .map(move |name| (name, row))
    })
}

/// The row with this name or alias, in any case, and the name as the table spells it.
pub fn lookup(name: &[u8]) -> Option<(&'static str, &'static Directive)> {
    names().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Directives that are only known in files: name and least number of arguments. `CONFIG GET` does not show them.
pub(super) const FILE_ONLY: &[(&str, usize)] = &[("rename-command", 2), ("loadmodule", 1), ("user", 1)];

/// The one argument of a directive that takes one. The callers above have counted.
fn one<'a>(args: &[&'a [u8]]) -> &'a [u8] {
    args.first().copied().unwrap_or_default()
}

/// `yes` or `no` in a `bool` field.
macro_rules! yes_no {
    ($name:literal, $field:ident, $about:literal) => {
        crate::config::directives::Directive::new(
            $name,
            |config| crate::config::values::yes_no_text(config.$field).into(),
            |config, args| {
                config.$field = crate::config::values::yes_no(crate::config::directives::one(args))?;
                Ok(())
            },
            $about,
        )
    };
}

/// An integer within bounds in a field of any integer type.
macro_rules! int {
    ($name:literal, $field:ident, $min:expr, $max:expr, $about:literal) => {
        crate::config::directives::Directive::new(
            $name,
            |config| config.$field.to_string().into_bytes(),
            |config, args| {
                config.$field = crate::config::values::int(crate::config::directives::one(args), $min, $max)?;
                Ok(())
            },
            $about,
        )
    };
}

/// A number of bytes within bounds in a `u64` field.
macro_rules! memory {
    ($name:literal, $field:ident, $min:expr, $max:expr, $about:literal) => {
        crate::config::directives::Directive::new(
            $name,
            |config| config.$field.to_string().into_bytes(),
            |config, args| {
                config.$field =
                    crate::config::values::memory(crate::config::directives::one(args), $min, $max)?;
                Ok(())
            },
            $about,
        )
        .on_lines(|config| {
            vec![vec![
                crate::config::values::format_memory(config.$field).into_bytes(),
            ]]
        })
    };
}

/// A member of an enum made by `choices!`.
macro_rules! choice {
    ($name:literal, $field:ident, $type:ty, $about:literal) => {
        crate::config::directives::Directive::new(
            $name,
            |config| config.$field.as_str().into(),
            |config, args| {
                config.$field = <$type>::read(crate::config::directives::one(args))?;
                Ok(())
            },
            $about,
        )
    };
}

/// UTF-8 text in a `String` field.
macro_rules! text {
    ($name:literal, $field:ident, $about:literal) => {
        crate::config::directives::Directive::new(
            $name,
            |config| config.$field.clone().into_bytes(),
            |config, args| {
                config.$field = crate::config::values::text(crate::config::directives::one(args))?;
                Ok(())
            },
            $about,
        )
    };
}

/// A value without a field: checked and brought to its canonical form by `$check`, from the submodule `kinds`,
/// which is given the arguments joined by spaces.
macro_rules! kept {
    ($name:literal, $default:literal, $check:expr, $about:literal) => {
        crate::config::directives::Directive::new(
            $name,
            |config| config.kept($name, $default),
            |config, args| {
                let check: fn(&[u8]) -> Result<Vec<u8>, crate::config::values::Wrong> = $check;
                let value = check(&args.join(&b' '))?;
                config.keep($name, $default, value);
                Ok(())
            },
            $about,
        )
    };
}

use {choice, int, kept, memory, text, yes_no};

/// The kinds of value that `kept!` rows check.
mod kinds {
    use crate::config::values::{self, Wrong};

    pub type Checked = Result<Vec<u8>, Wrong>;

    pub fn any(value: &[u8]) -> Checked {
        Ok(value.to_vec())
    }

    pub fn yes_no(value: &[u8]) -> Checked {
        values::yes_no(value).map(|on| values::yes_no_text(on).into())
    }

    pub fn int(value: &[u8], min: i64, max: i64) -> Checked {
        values::int::<i64>(value, min, max).map(|number| number.to_string().into_bytes())
    }

    /// From 0 to the largest 32-bit integer.
    pub fn count(value: &[u8]) -> Checked {
        int(value, 0, i32::MAX.into())
    }

    /// From 0 to the largest 64-bit integer.
    pub fn long(value: &[u8]) -> Checked {
        int(value, 0, i64::MAX)
    }

    pub fn port(value: &[u8]) -> Checked {
        int(value, 0, 65535)
    }

    pub fn memory(value: &[u8], min: u64, max: u64) -> Checked {
        values::memory(value, min, max).map(|bytes| bytes.to_string().into_bytes())
    }

    pub fn one_of(value: &[u8], names: &[&'static str]) -> Checked {
        values::one_of(value, names).map(|name| name.into())
    }
}
