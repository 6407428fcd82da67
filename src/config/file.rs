//! Reading configuration files: lines into directives, `include`, and what to say about a wrong one.
//!
//! A wrong value stops the start, with the file, the line and Redis's words for it. A directive that Terrace does
//! not know, or knows and does nothing with, never does: it becomes one warning, so that a file written for Redis
//! starts the server. Later lines win over earlier ones, and the command line, which is read last, over both.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::directives::{self, Directive, Effect};
use super::syntax::{quote, split_args};
use super::{Config, DATABASES_MAX};

/// Includes within includes, beyond which a file most likely includes itself.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Where a line was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File { path: PathBuf, line: usize },
    StandardInput { line: usize },
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line } => write!(f, "{}:{line}", path.display()),
            Place::StandardInput { line } => write!(f, "standard input:{line}"),
            Place::CommandLine => f.write_str("command line"),
        }
    }
}

/// What `Config::at` calls the line of a user.
pub fn user_line(name: &[u8]) -> String {
    format!("user {}", name.escape_ascii())
}

/// What `Config::at` calls the line that renames a command.
pub fn rename_line(from: &[u8]) -> String {
    format!("rename-command {}", from.escape_ascii())
}

/// Why there is no configuration. Displayed, it is what the server prints before it ends.
#[derive(Debug)]
pub enum ConfigError {
    /// A file cannot be read.
    Unreadable { path: PathBuf, error: io::Error },
    /// A line is wrong.
    Line { place: Place, text: String, why: String },
    /// The command line makes no sense as a whole.
    Usage(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { path, error } => {
                write!(
                    f,
                    "Fatal error, can't open config file '{}': {error}",
                    path.display()
                )
            }
            ConfigError::Line { place, text, why } => {
                let version = env!("CARGO_PKG_VERSION");
                writeln!(f, "*** FATAL CONFIG FILE ERROR (Terrace {version}) ***")?;
                match place {
                    Place::File { path, line } => {
                        writeln!(
                            f,
                            "Reading the configuration file, at line {line} of {}",
                            path.display()
                        )?;
                    }
                    Place::StandardInput { line } => {
                        writeln!(
                            f,
                            "Reading the configuration file, at line {line} of the standard input"
                        )?;
                    }
                    Place::CommandLine => writeln!(f, "Reading the command line")?,
                }
                write!(f, ">>> '{text}'\n{why}")
            }
            ConfigError::Usage(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Builds a configuration out of files and arguments, in the order in which they are given to it.
#[derive(Default)]
pub struct Loader {
    config: Config,
    warnings: Vec<String>,
    /// Rows set so far, by name, with the place where each was set last.
    set: Vec<(&'static str, Place)>,
    /// Names warned about already.
    unknown: HashSet<String>,
    /// Ranges that the command line has given.
    command_line_ranges: HashSet<Vec<u8>>,
}

impl Loader {
    /// Applies a file and all that it includes.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        self.file_at_depth(path, 0)
    }

    fn file_at_depth(&mut self, path: &Path, depth: usize) -> Result<(), ConfigError> {
        let text = std::fs::read(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        self.text(&text, depth, |line| Place::File {
            path: path.to_owned(),
            line,
        })
    }

    /// Applies text that came through the standard input.
    pub fn standard_input(&mut self, text: &[u8]) -> Result<(), ConfigError> {
        self.text(text, 0, |line| Place::StandardInput { line })
    }

    fn text(&mut self, text: &[u8], depth: usize, place: impl Fn(usize) -> Place) -> Result<(), ConfigError> {
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            self.line(line, depth, place(index + 1))?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], depth: usize, place: Place) -> Result<(), ConfigError> {
        let wrong = |place: Place, why: String| {
            let text = String::from_utf8_lossy(line).into_owned();
            ConfigError::Line { place, text, why }
        };
        let Some(args) = split_args(line) else {
            return Err(wrong(place, "Unbalanced quotes in configuration line".into()));
        };
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let Some((name, values)) = args.split_first() else {
            return Ok(());
        };
        if name.eq_ignore_ascii_case(b"include") {
            return match values {
                _ if depth == INCLUDE_DEPTH_MAX => Err(wrong(place, "Too many nested includes".into())),
                [pattern] => self.include(pattern, depth + 1),
                _ => Err(wrong(place, "wrong number of arguments".into())),
            };
        }
        self.directive(name, values, &place)
            .map_err(|why| wrong(place, why))
    }

    /// An include whose last part is a pattern takes every file that fits, in the order of their names, and may
    /// find none; any other must be there.
    fn include(&mut self, pattern: &[u8], depth: usize) -> Result<(), ConfigError> {
        let pattern = String::from_utf8_lossy(pattern).into_owned();
        let path = Path::new(&pattern);
        let last = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if !last.contains(['*', '?']) {
            return self.file_at_depth(path, depth);
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Ok(());
        };
        let fits = |name: &str| !name.starts_with('.') && fits_pattern(last.as_bytes(), name.as_bytes());
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| fits(&entry.file_name().to_string_lossy()))
            .map(|entry| folder.join(entry.file_name()))
            .collect();
        files.sort();
        files.iter().try_for_each(|file| self.file_at_depth(file, depth))
    }

    /// Applies one option of the command line.
    pub fn option(&mut self, name: &[u8], values: &[&[u8]]) -> Result<(), ConfigError> {
        // A range given here takes the place of the file's range of the same name, like any other directive.
        if let (true, Some(range)) = (name.eq_ignore_ascii_case(b"range"), values.first())
            && self.command_line_ranges.insert(range.to_vec())
        {
            self.config.ranges.retain(|known| known.name.as_bytes() != *range);
        }
        self.directive(name, values, &Place::CommandLine).map_err(|why| {
            let quoted = std::iter::once(String::from_utf8_lossy(name).into_owned())
                .chain(values.iter().map(|arg| quote(arg)));
            ConfigError::Line {
                place: Place::CommandLine,
                text: quoted.collect::<Vec<_>>().join(" "),
                why,
            }
        })
    }

    fn directive(&mut self, name: &[u8], values: &[&[u8]], place: &Place) -> Result<(), String> {
        let Some((_, row)) = directives::lookup(name) else {
            return self.without_row(name, values, place);
        };
        let earlier = self.set.iter().position(|(name, _)| *name == row.name);
        row.set_from_line(&mut self.config, values, earlier.is_some())?;
        match earlier {
            Some(index) => self.set[index].1 = place.clone(),
            None => self.set.push((row.name, place.clone())),
        }
        Ok(())
    }

    /// A directive that the table does not have: warned about once, whatever its value.
    fn without_row(&mut self, name: &[u8], values: &[&[u8]], place: &Place) -> Result<(), String> {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let known = directives::FILE_ONLY.iter().find(|(known, _)| *known == name);
        if known.is_some_and(|&(_, least)| values.len() < least) {
            return Err("Bad directive or wrong number of arguments".into());
        }
        match (name.as_str(), values) {
            ("user", [user, ..]) => {
                self.user(user, values)?;
                self.note_line(user_line(user), place);
                return Ok(());
            }
            ("rename-command", [from, to]) => {
                self.config.renames.push((from.to_vec(), to.to_vec()));
                self.note_line(rename_line(from), place);
                return Ok(());
            }
            _ => {}
        }
        let what = if known.is_some() {
            "has no effect yet"
        } else {
            "is not a directive of Terrace and is ignored"
        };
        if self.unknown.insert(name.clone()) {
            self.warnings.push(format!("{place}: '{name}' {what}"));
        }
        Ok(())
    }

    /// A line for a user. Its rules are read when the server starts.
    fn user(&mut self, user: &[u8], values: &[&[u8]]) -> Result<(), String> {
        if self.config.users.iter().any(|known| known[0] == user) {
            let user = String::from_utf8_lossy(user);
            return Err(format!(
                "Error in user declaration '{user}': Duplicate user found. A user can only be defined once in config files"
            ));
        }
        let words = values.iter().map(|word| word.to_vec());
        self.config.users.push(words.collect());
        Ok(())
    }

    fn note_line(&mut self, line: String, place: &Place) {
        self.config.places.insert(line, place.to_string());
    }

    /// The configuration, and the warnings for the log.
    pub fn finish(mut self) -> (Config, Vec<String>) {
        let default = Config::default();
        for (name, place) in &self.set {
            let idle =
                |row: &Directive| row.effect == Effect::None && row.get(&self.config) != row.get(&default);
            if directives::lookup(name.as_bytes()).is_some_and(|(_, row)| idle(row)) {
                self.warnings.push(format!("{place}: '{name}' has no effect yet"));
            }
        }
        let databases = self.set.iter().find(|(name, _)| *name == "databases");
        if let Some((_, place)) = databases.filter(|_| self.config.databases > DATABASES_MAX) {
            let warning = format!("{place}: 'databases' is {DATABASES_MAX}, there are no more");
            self.warnings.push(warning);
            self.config.databases = DATABASES_MAX;
        }
        for (name, place) in std::mem::take(&mut self.set) {
            self.note_line(name.into(), &place);
        }
        self.config.settle();
        (self.config, self.warnings)
    }
}

/// `*` fits any run of bytes, `?` any one byte.
fn fits_pattern(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| fits_pattern(rest, &name[skip..])),
        ([b'?', rest @ ..], [_, after @ ..]) => fits_pattern(rest, after),
        ([byte, rest @ ..], [first, after @ ..]) => byte == first && fits_pattern(rest, after),
        _ => false,
    }
}
