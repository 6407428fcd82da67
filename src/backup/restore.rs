//! `terrace restore`: a data folder out of a backup, as it was at a moment.
//!
//! ```text
//! DATA/restore-unfinished/  store and journal are made in here
//! DATA/journal, DATA/store, DATA/functions.dump  moved into place, in this order
//! DATA/restore-unfinished/  removed: from now on a server may start
//! ```
//!
//! The server that starts on it replays the journal from the store's mark to its end, which is the moment. A store is
//! no older than its newest row, so a moment needs a backup that was made before it.

use super::folder::{self, Generation};
use super::manifest::{Manifest, Moment};
use super::moment::Until;
use super::pieces::{self, Progress};
use super::replay::{Assembler, Place};
use super::{BackupError, make, on};
use crate::server::{FUNCTIONS_FILE, lock_folder};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

/// In a data folder that is being made.
const UNFINISHED: &str = "restore-unfinished";

/// What is asked for.
#[derive(Debug)]
pub struct Restore {
    /// A backup folder, or one generation in it.
    pub backup: PathBuf,
    pub data: PathBuf,
    /// None for the newest state.
    pub until: Option<Until>,
    /// The journal of a data folder, which goes on where the backup ends.
    pub journal: Option<PathBuf>,
}

/// What a restored folder holds.
#[derive(Debug)]
pub struct Restored {
    pub from: PathBuf,
    pub moment: Moment,
    /// Records that the server replays when it starts.
    pub records: u64,
    pub bytes: u64,
}

/// Says why a server may not start on a folder, if it may not.
pub fn refuse_unfinished(dir: &Path) -> Result<(), String> {
    match dir.join(UNFINISHED).exists() {
        false => Ok(()),
        true => Err(format!(
            "{} was not restored to its end: run terrace restore again",
            dir.display()
        )),
    }
}

impl Restore {
    /// Makes the data folder. When it fails, nothing that a server would start from is there.
    pub fn run(&self, progress: &Progress) -> Result<Restored, BackupError> {
        let (chosen, later) = self.choose()?;
        let (generation, manifest) = &chosen;
        let _lock = lock_folder(&self.data).map_err(|error| BackupError::Refused(error.to_string()))?;
        let unfinished = self.make_room()?;
        progress.bytes_total.store(manifest.bytes(), Relaxed);
        let made = self.fill(&unfinished, generation, manifest, &later, progress);
        let assembled = match made {
            Ok(assembled) => assembled,
            Err(error) => {
                let _ = fs::remove_dir_all(&unfinished);
                return Err(error);
            }
        };
        for part in ["journal", "store", FUNCTIONS_FILE] {
            let (from, to) = (unfinished.join(part), self.data.join(part));
            if part == FUNCTIONS_FILE && !from.exists() {
                continue;
            }
            make::sync_folder(&from)?;
            fs::rename(&from, &to).map_err(on(&to))?;
            make::sync_folder(&self.data)?;
        }
        fs::remove_dir_all(&unfinished).map_err(on(&unfinished))?;
        make::sync_folder(&self.data)?;
        Ok(Restored {
            from: generation.path.clone(),
            moment: assembled.0,
            records: assembled.1,
            bytes: progress.written.load(Relaxed),
        })
    }

    /// The newest generation from which the moment can be reached, and those after it.
    fn choose(&self) -> Result<(Chosen, Vec<Chosen>), BackupError> {
        let mut generations = generations(&self.backup)?;
        let oldest = generations.first().map(|(_, manifest)| manifest.oldest);
        let reaches = |chosen: &Chosen| {
            self.until
                .is_none_or(|until| until.is_at_or_after(chosen.1.oldest))
        };
        let Some(at) = generations.iter().rposition(reaches) else {
            let until = self.until.map(|until| until.to_string()).unwrap_or_default();
            return Err(match oldest {
                None => BackupError::Refused(format!("{} holds no backup", self.backup.display())),
                Some(oldest) => BackupError::Unreachable(format!(
                    "{until} is before everything in {}: the oldest moment that can be restored is {oldest}",
                    self.backup.display()
                )),
            });
        };
        let later = generations.split_off(at + 1);
        let chosen = generations.pop().ok_or(BackupError::Stopped)?;
        Ok((chosen, later))
    }

    /// An empty `restore-unfinished` in a folder that has nothing else.
    fn make_room(&self) -> Result<PathBuf, BackupError> {
        let unfinished = self.data.join(UNFINISHED);
        if unfinished.exists() {
            // All that is there was made by a restore that did not end: it began in an empty folder.
            for name in ["journal", "store", FUNCTIONS_FILE, UNFINISHED] {
                let left = self.data.join(name);
                let removed = if name == FUNCTIONS_FILE {
                    fs::remove_file(&left)
                } else {
                    fs::remove_dir_all(&left)
                };
                match removed {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(BackupError::Io(left, error));
                    }
                    _ => {}
                }
            }
        }
        for item in fs::read_dir(&self.data).map_err(on(&self.data))? {
            let name = item.map_err(on(&self.data))?.file_name();
            if !["terrace.lock", "lost+found"].map(Into::into).contains(&name) {
                let dir = self.data.display();
                return Err(BackupError::Refused(format!(
                    "{dir} is not empty: restore into a folder that is, or that does not exist"
                )));
            }
        }
        for folder in [
            &unfinished,
            &unfinished.join("store"),
            &unfinished.join("journal"),
        ] {
            fs::create_dir(folder).map_err(on(folder))?;
        }
        make::sync_folder(&self.data)?;
        Ok(unfinished)
    }

    /// Copies the store, and the journal up to the moment; returns the moment and the number of records.
    fn fill(
        &self,
        unfinished: &Path,
        generation: &Generation,
        manifest: &Manifest,
        later: &[Chosen],
        progress: &Progress,
    ) -> Result<(Moment, u64), BackupError> {
        for file in &manifest.files {
            let from = file.below(&generation.path);
            if file.path.starts_with("store/") || file.path == FUNCTIONS_FILE {
                file.check(&from, &pieces::copy(&from, &file.below(unfinished), progress)?)?;
            } else {
                // Its records are checked one by one as they are read; that all are there shows in its length.
                let length = fs::metadata(&from).map_err(on(&from))?.len();
                if length != file.length {
                    file.check(&from, &pieces::sum(&from, progress)?)?;
                }
            }
        }
        let journal = &unfinished.join("journal");
        let mut assembler = Assembler::new(journal, self.until, manifest.oldest.offset, progress);
        assembler.take(&generation.path.join("journal"), Place::Backup, manifest.mark)?;
        let mut newest = manifest.newest;
        // Without a moment it is the chosen generation as it is, and what a journal has beyond it.
        for (generation, manifest) in later.iter().filter(|_| self.until.is_some()) {
            if assembler.ended {
                break;
            }
            assembler.take(&generation.path.join("journal"), Place::Backup, manifest.mark)?;
            if assembler.moment().offset >= manifest.newest.offset {
                newest = manifest.newest;
            }
        }
        if let Some(dir) = self.journal.as_ref().filter(|_| !assembler.ended) {
            assembler.take(&journal_of(dir), Place::DataFolder, manifest.mark)?;
        }
        let moment = assembler.moment();
        self.check_reached(assembler.ended, moment, newest)?;
        Ok((moment, assembler.records))
    }

    /// The records end before the moment that was asked for: fine if it is known that there were no more.
    fn check_reached(&self, ended: bool, moment: Moment, newest: Moment) -> Result<(), BackupError> {
        let beyond = match self.until {
            Some(Until::Offset(offset)) => moment.offset < offset,
            Some(Until::Time(unix_ms)) => unix_ms > newest.unix_ms && self.journal.is_none(),
            None => false,
        };
        match self.until {
            Some(until) if beyond && !ended => Err(BackupError::Unreachable(format!(
                "{until} is behind everything in {}: the newest moment that can be restored is {}; \
                 --journal takes a data folder whose journal goes on from there",
                self.backup.display(),
                Moment {
                    offset: moment.offset,
                    unix_ms: newest.unix_ms.max(moment.unix_ms),
                }
            ))),
            _ => Ok(()),
        }
    }
}

type Chosen = (Generation, Manifest);

/// The generations of a backup folder, or the one whose folder it is, oldest first.
pub fn generations(dir: &Path) -> Result<Vec<Chosen>, BackupError> {
    if folder::is_unfinished(dir) {
        let why = format!("{} is a backup that was not finished", dir.display());
        return Err(BackupError::Refused(why));
    }
    let found = if folder::is_generation(dir) {
        let path = dir.to_path_buf();
        vec![Generation { number: 0, path }]
    } else {
        folder::contents(dir)?.generations
    };
    let with_manifest = |generation: Generation| {
        let manifest = Manifest::read(&generation.path)?;
        Ok((generation, manifest))
    };
    found.into_iter().map(with_manifest).collect()
}

/// A data folder's journal, or the folder itself if it is one.
fn journal_of(dir: &Path) -> PathBuf {
    let below = dir.join("journal");
    if below.is_dir() { below } else { dir.to_path_buf() }
}
