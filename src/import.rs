//! Starting from an RDB file: `terrace import`, and the first start of a server whose data folder holds just that.
//!
//! ```text
//! no store, but a file       mark is made | store is made | keys are taken in and flushed | mark is removed
//! mark, at a start           what the start before left is removed; again from the beginning
//! ```
//!
//! So a start that ends in between never leaves a server that has half of the keys and thinks it has all.

use crate::config::Startup;
use crate::keyspace::import::Imported;
use crate::server::Server;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// In the data folder while its first keys are taken in.
const MARK: &str = "import-unfinished";

/// Before the store is opened: the RDB file to start from, if there is one and no store yet.
pub fn prepare(dir: &Path, name: &str) -> Result<Option<PathBuf>, String> {
    let (mark, store, file) = (dir.join(MARK), dir.join("store"), dir.join(name));
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    if mark.exists() {
        if !file.exists() {
            return Err(format!(
                "the first start from {} did not end, and the file is gone; remove {} to start without it",
                file.display(),
                mark.display()
            ));
        }
        for left in [&store, &dir.join("journal")] {
            match fs::remove_dir_all(left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(left, error)),
                _ => {}
            }
        }
    } else if store.exists() || !file.exists() {
        return Ok(None);
    }
    let made = fs::File::create(&mark).and_then(|mark| mark.sync_all());
    made.and_then(|()| fs::File::open(dir)?.sync_all())
        .map_err(|error| failed(&mark, error))?;
    Ok(Some(file))
}

/// After the recovery of an empty store: takes the file in.
pub fn at_start(server: &Arc<Server>, file: &Path) -> Result<(), String> {
    log::info!("no store yet: starting from {}", file.display());
    let mut report = |line: Progress<'_>| log::info!("{line}");
    let imported = take(server, file, &mut report)?;
    log::info!("{}", Summary(&imported));
    let mark = server.config.load().dir.join(MARK);
    fs::remove_file(&mark).map_err(|error| format!("{}: {error}", mark.display()))
}

/// `terrace import`: takes a file into a data folder that no server uses.
pub fn run(file: &Path, startup: Startup) -> ExitCode {
    let imported = Server::open(startup.config, startup.file)
        .map_err(|error| error.to_string())
        .and_then(|server| {
            let mut report = |line: Progress<'_>| println!("{line}");
            let imported = take(&server, file, &mut report);
            server.stop();
            server.close().map_err(|error| error.to_string())?;
            imported
        });
    match imported {
        Ok(imported) => {
            println!("{}", Summary(&imported));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn take(server: &Server, file: &Path, report: &mut dyn FnMut(Progress<'_>)) -> Result<Imported, String> {
    let mut on_the_way = |doing: &str, at, len, keys| report(Progress { doing, at, len, keys });
    server
        .import(file, &mut on_the_way)
        .map_err(|error| format!("{}: {error}", file.display()))
}

struct Progress<'a> {
    doing: &'a str,
    at: u64,
    len: u64,
    keys: u64,
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.at as f64 * 100.0 / self.len.max(1) as f64;
        write!(f, "import: {} {percent:.1} %, {} keys", self.doing, self.keys)
    }
}

struct Summary<'a>(&'a Imported);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported {
            keys,
            expired,
            libraries,
        } = self.0;
        write!(f, "import: {keys} keys")?;
        if *expired > 0 {
            write!(f, ", {expired} left out because their time has passed")?;
        }
        if !libraries.is_empty() {
            write!(f, "; libraries of functions: {}", libraries.len())?;
        }
        Ok(())
    }
}
