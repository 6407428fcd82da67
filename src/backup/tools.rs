//! The subcommands `terrace backup` and `terrace restore`, for people at a terminal.

use super::BackupError;
use super::client::{self, Place};
use super::folder::Target;
use super::make::{self, Made, line_of};
use super::manifest::Moment;
use super::moment::{Until, parse_time};
use super::pieces::Progress;
use super::restore::Restore;
use crate::config::tools::{BackupFrom, BackupTool, RestoreTool};
use crate::journal;
use crate::keyspace::backup::Frozen;
use crate::server::{VERSION, lock_folder};
use crate::store::block::BlockStore;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Enough to open a store.
const CACHE: usize = 8 << 20;
/// Where redis-cli looks for a password, too.
const PASSWORD: &str = "REDISCLI_AUTH";

fn ended(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// `terrace backup`: asks the server, or reads the folder of one that does not run.
pub fn backup(tool: &BackupTool) -> ExitCode {
    let mut say = |line: String| println!("{line}");
    ended(match &tool.from {
        BackupFrom::Port(host, port) => ask(&Place::Tcp(host.clone(), *port), &tool.to, &mut say),
        BackupFrom::Socket(path) => ask(&Place::Unix(path.clone()), &tool.to, &mut say),
        BackupFrom::Folder(data) => {
            let progress = Progress::default();
            with_progress("backup", &progress, || of_folder(data, &tool.to, &progress))
                .map(|made| {
                    println!(
                        "backup: {} made, {}, {} bytes in {} files, {} of them kept",
                        made.path.display(),
                        made.newest,
                        made.bytes,
                        made.files,
                        made.kept
                    )
                })
                .map_err(|error| error.to_string())
        }
    })
}

fn ask(place: &Place, to: &Path, say: &mut dyn FnMut(String)) -> Result<(), String> {
    use std::os::unix::ffi::OsStrExt;
    let password = std::env::var_os(PASSWORD);
    client::ask(place, password.as_ref().map(|word| word.as_bytes()), to, say)
}

/// A backup of a data folder that no server uses.
fn of_folder(data: &Path, to: &Path, progress: &Progress) -> Result<Made, BackupError> {
    if !data.join("store").is_dir() {
        let why = format!("{} is not a data folder: it has no store", data.display());
        return Err(BackupError::Refused(why));
    }
    let _lock = lock_folder(data).map_err(|error| BackupError::Refused(error.to_string()))?;
    let target = Target::open(to)?;
    let store = BlockStore::open(&data.join("store"), CACHE)?;
    let meta = store.meta()?;
    let mark = meta.as_ref().map_or(0, |meta| meta.mark);
    let journal = data.join("journal");
    let found = journal::inspect(&journal, mark, false)?;
    let ranges = meta.iter().flat_map(|meta| &meta.ranges);
    let ranges = ranges.map(|range| line_of(&range.spec)).collect();
    let frozen = Frozen {
        store: store.checkpoint()?,
        meta,
        journal,
        hold: None,
        end: found.end,
        end_ms: journal::unix_ms(),
    };
    make::make(&target, frozen, ranges, VERSION, progress)
}

/// `terrace restore`.
pub fn restore(tool: &RestoreTool) -> ExitCode {
    let until = match (tool.to_offset, &tool.to_time) {
        (Some(offset), _) => Some(Until::Offset(offset)),
        (None, Some(text)) => match parse_time(text) {
            Some(unix_ms) => Some(Until::Time(unix_ms)),
            None => {
                return ended(Err(format!(
                    "'{text}' is no time: unix seconds or milliseconds, or like 2026-11-21T08:54:52Z"
                )));
            }
        },
        (None, None) => None,
    };
    let restore = Restore {
        backup: tool.backup.clone(),
        data: tool.data.clone(),
        until,
        journal: tool.journal.clone(),
    };
    let progress = Progress::default();
    let restored = with_progress("restore", &progress, || restore.run(&progress));
    ended(restored.map_err(|error| error.to_string()).map(|restored| {
        let Moment { offset, unix_ms } = restored.moment;
        let (from, data, records) = (restored.from.display(), restore.data.display(), restored.records);
        print!("restore: {data} made from {from}: offset {offset}");
        if unix_ms > 0 {
            print!(", last change at {}", super::moment::Time(unix_ms));
        }
        println!("; {records} records of the journal are replayed at the start");
    }))
}

/// Runs something long and prints once a second how far it is.
pub fn with_progress<R>(doing: &str, progress: &Progress, work: impl FnOnce() -> R) -> R {
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let printer = scope.spawn(move || {
            loop {
                std::thread::park_timeout(Duration::from_secs(1));
                if done.load(Relaxed) {
                    return;
                }
                println!("{doing}: {} %", progress.percent());
            }
        });
        let outcome = work();
        done.store(true, Relaxed);
        printer.thread().unpark();
        outcome
    })
}
