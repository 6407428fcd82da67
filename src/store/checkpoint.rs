//! The store's files as they are at one moment, under other names.
//!
//! Guarantees: a checkpoint is a store by itself, which whoever opens it finds as it was; nothing that happens to the
//! store later changes it. Sorted files are hard links, because they never change: it costs no more than names. It goes
//! with the value that stands for it; one that a crash left goes at the next start.

use super::StoreError;
use super::block::BlockStore;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Inside the store's folder, so that it is on the same filesystem. RocksDB makes it under a longer name first.
const NAMES: [&str; 2] = ["backup-checkpoint", "backup-checkpoint.tmp"];

pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}

impl BlockStore {
    /// Makes a checkpoint. There is one at a time.
    pub fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        remove_left_over(self.path())?;
        let path = self.path().join(NAMES[0]);
        let made = rocksdb::checkpoint::Checkpoint::new(self.db())
            .and_then(|checkpoint| checkpoint.create_checkpoint(&path));
        match made {
            Ok(()) => Ok(Checkpoint { path }),
            Err(error) => {
                // On a full disk half of it may be there.
                let _ = remove_left_over(self.path());
                Err(error.into())
            }
        }
    }
}

/// Removes what a crash left in a store's folder.
pub(super) fn remove_left_over(store: &Path) -> Result<(), StoreError> {
    for path in NAMES.map(|name| store.join(name)) {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::new(format_args!("{}: {error}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}
