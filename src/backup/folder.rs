//! A backup folder and the generations in it.

use super::manifest::{self, Manifest};
use super::{BackupError, on};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const LOCK: &str = "backup.lock";
pub const UNFINISHED: &str = ".unfinished";

/// A generation's folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation {
    pub number: u64,
    pub path: PathBuf,
}

/// Complete generations, oldest first, and the folders of those that are not.
#[derive(Default, Debug)]
pub struct Contents {
    pub generations: Vec<Generation>,
    pub unfinished: Vec<PathBuf>,
    /// Names of things that are neither.
    pub others: usize,
}

pub fn contents(dir: &Path) -> Result<Contents, BackupError> {
    let mut found = Contents::default();
    for item in fs::read_dir(dir).map_err(on(dir))? {
        let path = item.map_err(on(dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let number = |digits: &str| digits.parse().ok().filter(|_| digits.len() >= 6);
        if let Some(number) = number(name) {
            found.generations.push(Generation { number, path });
        } else if name.strip_suffix(UNFINISHED).and_then(number).is_some() {
            found.unfinished.push(path);
        } else if name != LOCK && name != "lost+found" {
            found.others += 1;
        }
    }
    found.generations.sort();
    Ok(found)
}

/// True for the folder of one generation, finished or not.
pub fn is_generation(dir: &Path) -> bool {
    dir.join(manifest::NAME).is_file() || is_unfinished(dir)
}

/// True for the folder of a generation that was not finished.
pub fn is_unfinished(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default();
    name.to_string_lossy().ends_with(UNFINISHED)
}

/// A backup folder that this process writes to; nobody else does meanwhile.
pub struct Target {
    pub dir: PathBuf,
    _lock: File,
    /// The newest complete generation.
    pub previous: Option<(Generation, Manifest)>,
    pub number: u64,
}

impl Target {
    /// Makes the folder if it is missing, and removes what earlier backups did not finish.
    pub fn open(dir: &Path) -> Result<Target, BackupError> {
        fs::create_dir_all(dir).map_err(on(dir))?;
        let before = contents(dir)?;
        if before.generations.is_empty() && before.unfinished.is_empty() && before.others > 0 {
            let dir = dir.display();
            return Err(BackupError::Refused(format!(
                "{dir} has other things in it and no backup: give an empty folder, or one that does not exist"
            )));
        }
        let path = dir.join(LOCK);
        let lock = File::create(&path).map_err(on(&path))?;
        if lock.try_lock().is_err() {
            return Err(BackupError::Refused(format!(
                "another backup into {} is being made",
                dir.display()
            )));
        }
        // Looked at again: until the lock was taken somebody else may have been at work.
        let found = contents(dir)?;
        for path in &found.unfinished {
            log::warn!("backup: {} was not finished, and is removed", path.display());
            fs::remove_dir_all(path).map_err(on(path))?;
        }
        let number = found.generations.last().map_or(1, |last| last.number + 1);
        let previous =
            found
                .generations
                .into_iter()
                .next_back()
                .and_then(|last| match Manifest::read(&last.path) {
                    Ok(manifest) => Some((last, manifest)),
                    Err(error) => {
                        log::warn!("{error}; the backup shares nothing with it");
                        None
                    }
                });
        Ok(Target {
            dir: dir.to_path_buf(),
            _lock: lock,
            previous,
            number,
        })
    }

    /// Where the new generation will be.
    pub fn generation(&self) -> PathBuf {
        self.dir.join(format!("{:06}", self.number))
    }

    /// Where it is until it is complete.
    pub fn unfinished(&self) -> PathBuf {
        self.dir.join(format!("{:06}{UNFINISHED}", self.number))
    }
}
