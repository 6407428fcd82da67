//! The arguments of the subcommands that work on backups and data folders.

use super::file::ConfigError;
use std::path::PathBuf;

/// `terrace backup`.
#[derive(Debug, PartialEq, Eq)]
pub struct BackupTool {
    pub from: BackupFrom,
    pub to: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
pub enum BackupFrom {
    Port(String, u16),
    Socket(PathBuf),
    /// The data folder of a server that does not run.
    Folder(PathBuf),
}

/// `terrace restore`.
#[derive(Debug, PartialEq, Eq)]
pub struct RestoreTool {
    pub to_offset: Option<u64>,
    /// As it was given.
    pub to_time: Option<String>,
    pub journal: Option<PathBuf>,
    pub backup: PathBuf,
    pub data: PathBuf,
}

/// Options, each with its value, and the words between them.
struct Words<'a> {
    tool: &'static str,
    options: Vec<(&'static str, &'a [u8])>,
    rest: Vec<&'a [u8]>,
}

impl<'a> Words<'a> {
    fn read(tool: &'static str, known: &[&'static str], args: &[&'a [u8]]) -> Result<Words<'a>, ConfigError> {
        let mut words = Words {
            tool,
            options: Vec::new(),
            rest: Vec::new(),
        };
        let mut args = args.iter().copied();
        while let Some(arg) = args.next() {
            let name = known.iter().find(|name| name.as_bytes() == arg);
            match (name, arg.starts_with(b"--")) {
                (Some(name), _) if words.option(name).is_none() => {
                    let value = args.next().ok_or_else(|| words.wrong(arg))?;
                    words.options.push((name, value));
                }
                (None, false) => words.rest.push(arg),
                _ => return Err(words.wrong(arg)),
            }
        }
        Ok(words)
    }

    fn option(&self, name: &str) -> Option<&'a [u8]> {
        self.options
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.option(name).map(path)
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, ConfigError> {
        let Some(value) = self.option(name) else {
            return Ok(None);
        };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| self.wrong(value))
    }

    fn wrong(&self, word: &[u8]) -> ConfigError {
        let (tool, word) = (self.tool, word.escape_ascii());
        ConfigError::Usage(format!(
            "terrace {tool}: '{word}' is not understood; see terrace --help"
        ))
    }

    fn usage(&self, why: &str) -> ConfigError {
        ConfigError::Usage(format!("terrace {}: {why}; see terrace --help", self.tool))
    }
}

fn path(word: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(word))
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

pub(super) fn backup(args: &[&[u8]]) -> Result<BackupTool, ConfigError> {
    let words = Words::read("backup", &["--host", "--port", "--unix", "--data"], args)?;
    let [to] = words.rest[..] else {
        return Err(words.usage("one folder is needed"));
    };
    let tcp = words.option("--host").is_some() || words.option("--port").is_some();
    let from = match (tcp, words.path("--unix"), words.path("--data")) {
        (_, None, None) => {
            let host = words.option("--host").map_or("127.0.0.1".into(), text);
            BackupFrom::Port(host, words.number("--port")?.unwrap_or(6379))
        }
        (false, Some(socket), None) => BackupFrom::Socket(socket),
        (false, None, Some(data)) => BackupFrom::Folder(data),
        _ => return Err(words.usage("either a port, or --unix, or --data")),
    };
    Ok(BackupTool { from, to: path(to) })
}

pub(super) fn restore(args: &[&[u8]]) -> Result<RestoreTool, ConfigError> {
    let words = Words::read("restore", &["--to-offset", "--to-time", "--journal"], args)?;
    let [backup, data] = words.rest[..] else {
        return Err(words.usage("a backup and the folder to be made are needed"));
    };
    let tool = RestoreTool {
        to_offset: words.number("--to-offset")?,
        to_time: words.option("--to-time").map(text),
        journal: words.path("--journal"),
        backup: path(backup),
        data: path(data),
    };
    if tool.to_offset.is_some() && tool.to_time.is_some() {
        return Err(words.usage("either --to-offset or --to-time"));
    }
    Ok(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split_whitespace().map(str::as_bytes).collect()
    }

    #[test]
    fn a_backup_is_asked_of_a_server_or_made_of_a_folder() {
        let from = |line: &str| backup(&words(line)).map(|tool| tool.from).ok();
        let port = |host: &str, port| Some(BackupFrom::Port(host.into(), port));
        assert_eq!(from("/b"), port("127.0.0.1", 6379));
        assert_eq!(from("--port 7000 /b"), port("127.0.0.1", 7000));
        assert_eq!(from("/b --host db"), port("db", 6379));
        assert_eq!(from("--unix /s /b"), Some(BackupFrom::Socket("/s".into())));
        assert_eq!(from("--data d b"), Some(BackupFrom::Folder("d".into())));
        for wrong in [
            "",
            "a b",
            "--port",
            "--port x b",
            "--port 70000 b",
            "--unix s --data d b",
            "--port 1 --port 2 b",
            "--what b",
        ] {
            assert_eq!(from(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_restore_names_a_moment_in_one_way() {
        let tool = restore(&words("--to-offset 5 b --journal j d")).expect("understood");
        assert_eq!((tool.to_offset, tool.to_time), (Some(5), None));
        assert_eq!((tool.backup, tool.data), ("b".into(), "d".into()));
        assert_eq!(tool.journal, Some("j".into()));
        for wrong in [
            "b",
            "a b c",
            "--to-offset -1 b d",
            "--to-offset 1 --to-time 2 b d",
        ] {
            assert!(restore(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
