//! The command line, which is redis-server's, and the subcommands.
//!
//! ```text
//! terrace [conf-file | -] [--directive value ...]
//! terrace check [--repair] [--dir folder | folder]
//! terrace import file [conf-file] [--directive value ...]
//! terrace backup, terrace restore: see `tools`
//! ```
//!
//! The words after `--name` up to the next one that begins with `--` are its values; `--name=…` is not a form of
//! Redis's and not one here. The first word after a name is its value even if it begins with `--`, so that a
//! password may look like an option; `--save` alone is the exception, and means `--save ""`.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::Config;
use super::file::{ConfigError, Loader};
use super::syntax::split_args;
use super::tools::{self, BackupTool, RestoreTool};

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Serve(Box<Startup>),
    /// Look through a data folder, and cut off what is damaged if `repair` says so.
    Check {
        dir: PathBuf,
        repair: bool,
    },
    /// Take the keys of an RDB file into a data folder.
    Import {
        file: PathBuf,
        startup: Box<Startup>,
    },
    /// Make a backup.
    Backup(BackupTool),
    /// Make a data folder of a backup.
    Restore(RestoreTool),
    /// The text to print.
    Version(String),
    /// The text to print.
    Help(String),
}

/// What a server starts with.
#[derive(Debug)]
pub struct Startup {
    pub config: Config,
    /// The file that `CONFIG REWRITE` writes to, as an absolute path; none if there was no file.
    pub file: Option<PathBuf>,
    /// What to say in the log, one line each.
    pub warnings: Vec<String>,
}

const HELP: &str = "\
Usage: terrace [conf-file | -] [--directive value ...]
       terrace check [--repair] [--dir folder | folder]
       terrace import file [conf-file] [--directive value ...]
       terrace backup [--host name] [--port number] [--unix socket] folder
       terrace backup --data folder folder
       terrace restore [--to-offset number | --to-time time] [--journal folder]
                       backup folder
       terrace -v | --version
       terrace -h | --help

Starts a server. The file is in the syntax of redis.conf; - reads it from the
standard input. Every directive of the file can be given as an option, too, and
options win over the file.

  terrace
  terrace /etc/terrace.conf --loglevel verbose
  terrace --port 7000 --dir data --appendfsync always
  terrace --range default '*' memory --maxmemory 2gb

check looks through a data folder while no server uses it, or through a backup,
and says what it finds; with --repair it also cuts off a data folder's journal
where it is damaged or lacks a part.

import takes the keys of an RDB file, such as a dump.rdb of Redis, into a data
folder while no server uses it, in place of keys of the same name. A file that
is damaged changes nothing.

backup asks the server on that port or socket for a backup into a folder of its
machine, with the password in REDISCLI_AUTH if there is one; or makes one of a
data folder while no server uses it.

restore makes a data folder of a backup, as it was at its end, or at an offset
of the journal or a time (unix seconds or milliseconds, or like
2026-11-21T08:54:52Z). --journal names a data folder, perhaps of a running
server, whose journal goes on where the backup ends.
";

impl Command {
    /// Reads the arguments after the program's name. Reads the files that they name, and the standard input if
    /// they say `-`.
    pub fn parse<A: AsRef<[u8]>>(args: &[A]) -> Result<Command, ConfigError> {
        let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
        match args.as_slice() {
            [b"-v" | b"--version"] => Ok(Command::Version(format!("Terrace {}", env!("CARGO_PKG_VERSION")))),
            [b"-h" | b"--help"] => Ok(Command::Help(HELP.into())),
            [mode @ (b"--test-memory" | b"--check-system" | b"--sentinel"), ..] => Err(ConfigError::Usage(
                format!("terrace has no {}; see terrace --help", mode.escape_ascii()),
            )),
            [b"check", rest @ ..] => check(rest),
            [b"backup", rest @ ..] => tools::backup(rest).map(Command::Backup),
            [b"restore", rest @ ..] => tools::restore(rest).map(Command::Restore),
            [b"import", file, rest @ ..] if !file.starts_with(b"-") => Ok(Command::Import {
                file: absolute(&PathBuf::from(String::from_utf8_lossy(file).into_owned())),
                startup: Box::new(serve(rest)?),
            }),
            [b"import", ..] => Err(ConfigError::Usage(
                "terrace import: which file? See terrace --help".to_string(),
            )),
            _ => serve(&args).map(|startup| Command::Serve(Box::new(startup))),
        }
    }
}

fn check(args: &[&[u8]]) -> Result<Command, ConfigError> {
    let mut repair = false;
    let mut dir = None;
    let mut rest = args.iter();
    while let Some(&arg) = rest.next() {
        let folder = match arg {
            b"--repair" => {
                repair = true;
                continue;
            }
            b"--dir" => rest.next().copied(),
            _ if arg.starts_with(b"-") => None,
            _ => Some(arg),
        };
        match folder {
            Some(folder) if dir.is_none() => dir = Some(folder),
            _ => {
                return Err(ConfigError::Usage(format!(
                    "terrace check: '{}' is not understood; see terrace --help",
                    arg.escape_ascii()
                )));
            }
        }
    }
    let dir = PathBuf::from(String::from_utf8_lossy(dir.unwrap_or(b".")).into_owned());
    Ok(Command::Check { dir, repair })
}

fn serve(args: &[&[u8]]) -> Result<Startup, ConfigError> {
    let mut loader = Loader::default();
    let (file, options) = match args {
        [b"-", options @ ..] => {
            let mut text = Vec::new();
            let path = PathBuf::from("standard input");
            std::io::stdin()
                .read_to_end(&mut text)
                .map_err(|error| ConfigError::Unreadable { path, error })?;
            loader.standard_input(&text)?;
            (None, options)
        }
        [first, options @ ..] if !first.starts_with(b"-") => {
            let path = PathBuf::from(String::from_utf8_lossy(first).into_owned());
            loader.file(&path)?;
            (Some(absolute(&path)), options)
        }
        options => (None, options),
    };
    for option in split_options(options)? {
        let values: Vec<&[u8]> = option[1..].iter().map(Vec::as_slice).collect();
        loader.option(&option[0], &values)?;
    }
    let (config, warnings) = loader.finish();
    Ok(Startup {
        config,
        file,
        warnings,
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Groups the words into options, each a name and its values; never an empty group.
fn split_options(args: &[&[u8]]) -> Result<Vec<Vec<Vec<u8>>>, ConfigError> {
    let mut options: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut value_due = false;
    for (index, &arg) in args.iter().enumerate() {
        let name = arg
            .strip_prefix(b"--")
            .filter(|name| !name.is_empty() && !value_due);
        match (name, options.last_mut()) {
            (Some(name), _) => {
                // One word may hold both, as in "--port 7000".
                let words = split_args(name)
                    .filter(|words| !words.is_empty())
                    .unwrap_or_else(|| vec![name.to_vec()]);
                value_due = words.len() == 1;
                options.push(words);
            }
            (None, Some(option)) => {
                option.push(arg.to_vec());
                value_due = false;
            }
            (None, None) => {
                let word = arg.escape_ascii();
                return Err(ConfigError::Usage(format!(
                    "'{word}' is not an option; see terrace --help"
                )));
            }
        }
        let next_is_option = args.get(index + 1).is_none_or(|next| next.starts_with(b"--"));
        if let (true, true, Some(option)) = (value_due, next_is_option, options.last_mut())
            && option[0].eq_ignore_ascii_case(b"save")
        {
            option.push(Vec::new());
            value_due = false;
        }
    }
    Ok(options)
}
