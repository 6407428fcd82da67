//! What the server knows of its backups: the one under way, and how the last one ended.

use super::BackupError;
use super::folder::Target;
use super::make::{self, Made};
use super::pieces::Progress;
use crate::journal::unix_ms;
use crate::keyspace::Keyspace;
use parking_lot::{Condvar, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[derive(Default)]
pub struct Backups {
    state: Mutex<State>,
    ended: Condvar,
    pub made: AtomicU64,
    pub failed: AtomicU64,
}

#[derive(Default)]
struct State {
    running: Option<Arc<Progress>>,
    /// No more are begun.
    stopping: bool,
    folder: PathBuf,
    began_ms: u64,
    last: Last,
    /// Milliseconds that the last one took.
    took_ms: Option<u64>,
    last_success_ms: u64,
}

#[derive(Default, Clone)]
enum Last {
    #[default]
    None,
    Made(Made),
    Failed(String),
}

/// What a client or an operator is told.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// `none`, `running`, `done` or `failed`.
    pub state: &'static str,
    pub folder: String,
    /// Of the last one that was made.
    pub path: String,
    pub error: String,
    pub percent: u64,
    pub bytes: u64,
    pub bytes_total: u64,
    pub written: u64,
    pub files: u64,
    pub files_kept: u64,
    pub offset: u64,
    pub took_ms: Option<u64>,
    pub last_success_ms: u64,
}

impl Backups {
    /// Begins a backup into a folder in a thread of its own. What is wrong with the folder is said at once.
    pub fn start(
        self: &Arc<Backups>,
        keyspace: Arc<Keyspace>,
        dir: &Path,
        server: &'static str,
    ) -> Result<(), BackupError> {
        let progress = Arc::new(Progress::polite());
        {
            let mut state = self.state.lock();
            if state.stopping {
                return Err(BackupError::Stopped);
            }
            if state.running.is_some() {
                return Err(BackupError::Refused("a backup is being made already".into()));
            }
            state.running = Some(progress.clone());
            state.folder = dir.to_path_buf();
            state.began_ms = unix_ms();
        }
        let target = match Target::open(dir) {
            Ok(target) => target,
            Err(error) => {
                self.state.lock().running = None;
                return Err(error);
            }
        };
        let backups = self.clone();
        let spawned = std::thread::Builder::new().name("backup".into()).spawn(move || {
            let made = run(&keyspace, &target, server, &progress);
            // Before anybody hears of the end: who does may remove the folder, or begin the next one.
            drop((target, keyspace));
            backups.end(made);
        });
        spawned.map(drop).map_err(|error| {
            self.state.lock().running = None;
            BackupError::Refused(error.to_string())
        })
    }

    fn end(&self, made: Result<Made, BackupError>) {
        let mut state = self.state.lock();
        let now = unix_ms();
        let took_ms = now.saturating_sub(state.began_ms);
        state.running = None;
        state.took_ms = Some(took_ms);
        state.last = match made {
            Ok(made) => {
                self.made.fetch_add(1, Relaxed);
                state.last_success_ms = now;
                log::info!(
                    "backup: {} made in {:.3} s: offset {}, {} bytes in {} files, {} of them kept, {} bytes written",
                    made.path.display(),
                    took_ms as f64 / 1e3,
                    made.newest.offset,
                    made.bytes,
                    made.files,
                    made.kept,
                    made.written
                );
                Last::Made(made)
            }
            Err(error) => {
                self.failed.fetch_add(1, Relaxed);
                log::warn!("backup into {} failed: {error}", state.folder.display());
                Last::Failed(error.to_string())
            }
        };
        self.ended.notify_all();
    }

    /// Gives up the one that is under way. False when there is none.
    pub fn cancel(&self) -> bool {
        let state = self.state.lock();
        if let Some(running) = &state.running {
            running.stop.store(true, Relaxed);
        }
        state.running.is_some()
    }

    /// Gives up the one that is under way, waits until it is gone, and lets none begin any more.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        while let Some(running) = &state.running {
            running.stop.store(true, Relaxed);
            self.ended.wait_for(&mut state, Duration::from_millis(50));
        }
    }

    pub fn status(&self) -> Status {
        let state = self.state.lock();
        let mut status = Status {
            folder: state.folder.display().to_string(),
            took_ms: state.took_ms,
            last_success_ms: state.last_success_ms,
            state: "none",
            ..Status::default()
        };
        match &state.last {
            Last::None => {}
            Last::Made(made) => {
                status.state = "done";
                status.path = made.path.display().to_string();
                (status.percent, status.bytes, status.bytes_total) = (100, made.bytes, made.bytes);
                (status.files, status.files_kept) = (made.files, made.kept);
                status.written = made.written;
                status.offset = made.newest.offset;
            }
            Last::Failed(why) => {
                status.state = "failed";
                status.error.clone_from(why);
            }
        }
        if let Some(running) = &state.running {
            status.state = "running";
            status.percent = running.percent();
            status.bytes = running.bytes.load(Relaxed);
            status.bytes_total = running.bytes_total.load(Relaxed);
            status.written = running.written.load(Relaxed);
        }
        status
    }
}

fn run(keyspace: &Keyspace, target: &Target, server: &str, progress: &Progress) -> Result<Made, BackupError> {
    log::info!("backup: making {}", target.generation().display());
    let since = target.previous.as_ref().map(|(_, last)| last.newest.offset);
    let frozen = keyspace.freeze_for_backup(since, || progress.stop.load(Relaxed))?;
    let ranges = keyspace
        .ranges()
        .iter()
        .map(|range| make::line_of(&range.spec))
        .collect();
    make::make(target, frozen, ranges, server, progress)
}
