//! Backups of durable ranges: making them, checking them, and data folders made of them. `docs/backup.md` is the page
//! for users.
//!
//! ```text
//! backup folder:  backup.lock               while one is being made
//!                 000001/  manifest.json    what is in the generation, with checksums; written last
//!                          store/…          a checkpoint of the store
//!                          journal/…        segments, the last one up to the backup's offset
//!                          functions.dump   the libraries of functions, as they were when it was made
//!                 000002/  …                files that are there already are hard links to them
//!                 000003.unfinished/        being made, or left by a crash: no backup, and removed by the next one
//! ```
//!
//! Guarantees:
//! * A generation is complete by itself, and takes its name when all of it is on the disk. Removing one takes nothing
//!   from another.
//! * Nothing that the server does later changes a generation: files that change are copied.
//! * Every byte of it is covered by a checksum in the manifest, which has one itself.
//! * Whatever goes wrong, the server and its data folder stay as they were.
//!
//! | file | what it does |
//! |---|---|
//! | `manifest`, `pieces` | what a generation says of itself; reading and copying files bit by bit, with checksums |
//! | `folder` | a backup folder and its generations |
//! | `make`, `state` | making a generation; what the server knows of that |
//! | `restore`, `replay` | a data folder out of a generation; the journal for it, cut off at a moment |
//! | `verify`, `moment` | checking backups; times as people write them |
//! | `tools`, `client` | the subcommands; asking a running server |

pub mod client;
pub mod folder;
pub mod make;
pub mod manifest;
pub mod moment;
pub mod pieces;
pub mod replay;
pub mod restore;
pub mod state;
pub mod tools;
pub mod verify;

use crate::journal::ReadError;
use crate::store::StoreError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a backup cannot be made, read or restored.
#[derive(Debug)]
pub enum BackupError {
    Io(PathBuf, io::Error),
    Store(StoreError),
    Journal(ReadError),
    /// A file differs from what its manifest says, between two positions.
    Damaged {
        path: PathBuf,
        from: u64,
        to: u64,
        why: &'static str,
    },
    /// A manifest that cannot be used.
    Manifest(PathBuf, String),
    /// What was asked for makes no sense here; nothing was changed.
    Refused(String),
    /// The moment asked for is not in the backup.
    Unreachable(String),
    /// The server ends, or somebody cancelled it.
    Stopped,
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            BackupError::Store(error) => write!(f, "store: {error}"),
            BackupError::Journal(error) => write!(f, "{error}"),
            BackupError::Damaged { path, from, to, why } => {
                let path = path.display();
                write!(f, "backup damaged: {path} between bytes {from} and {to}: {why}")
            }
            BackupError::Manifest(path, why) => write!(f, "backup damaged: {}: {why}", path.display()),
            BackupError::Refused(why) | BackupError::Unreachable(why) => f.write_str(why),
            BackupError::Stopped => f.write_str("the backup was cancelled"),
        }
    }
}

impl std::error::Error for BackupError {}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> BackupError {
        BackupError::Store(error)
    }
}

impl From<ReadError> for BackupError {
    fn from(error: ReadError) -> BackupError {
        BackupError::Journal(error)
    }
}

/// For `map_err`: names the file that the system refused.
pub fn on(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |error| BackupError::Io(path, error)
}
