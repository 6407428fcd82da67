//! What a backup is made of: the store at one moment, and the journal behind it up to one offset.
//!
//! ```text
//!   store as it is                 mark ......... newest row               (a flush may have written rows newer than the mark)
//!   journal, held                  [-------------------------------- end)
//!   what can be made of both                      ^ oldest ......... ^ newest state
//! ```
//!
//! That is what a crash at `end` would have left, so recovery makes the state at `end` of it; and with a journal cut off
//! earlier the state there, but not before the newest row of the store.
//!
//! No shard is locked: the flush lock alone keeps the store and its mark together, for as long as it takes to give the
//! store's files second names.

use super::{Keyspace, StoreError};
use crate::journal::{Hold, crash_point, unix_ms};
use crate::store::checkpoint::Checkpoint;
use crate::store::flush::Meta;
use std::path::PathBuf;

pub struct Frozen {
    pub store: Checkpoint,
    /// None in a store that was never flushed.
    pub meta: Option<Meta>,
    pub journal: PathBuf,
    /// Keeps the segments; none when nobody removes any.
    pub hold: Option<Hold>,
    /// The journal offset of the state that the backup holds. Everything below it is on the disk.
    pub end: u64,
    /// Records with times up to this one are below `end`, later ones are not.
    pub end_ms: u64,
}

impl Keyspace {
    /// Freezes what a backup needs, with the journal from `since` on if it is still there. Waits for a running flush
    /// and for a sync of the journal; fails when `give_up` says so first.
    pub fn freeze_for_backup(
        &self,
        since: Option<u64>,
        give_up: impl Fn() -> bool,
    ) -> Result<Frozen, StoreError> {
        let journal = self
            .journal()
            .ok_or_else(|| StoreError::new("the journal is not open yet"))?;
        let (store, meta, hold) = {
            let stored = self
                .flush
                .stored_unless(&give_up)
                .ok_or_else(|| StoreError::new("given up while a flush was running"))?;
            let hold = journal.hold(since.map_or(stored.mark, |since| since.min(stored.mark)));
            crash_point("backup-before-checkpoint");
            (self.store.checkpoint()?, self.store.meta()?, hold)
        };
        crash_point("backup-after-checkpoint");
        // In this order: a record that is written later than this has a later time.
        let end_ms = unix_ms() - 1;
        let end = journal.end();
        if !journal.wait_synced_blocking(end, give_up) {
            return Err(StoreError::new("the journal cannot be synced"));
        }
        Ok(Frozen {
            store,
            meta,
            journal: journal.dir().to_path_buf(),
            hold: Some(hold),
            end,
            end_ms,
        })
    }

    /// Removes the segments that neither a start nor anybody else needs any more. Does nothing while a flush runs,
    /// which does it at its end.
    pub fn trim_journal(&self) {
        let Some((journal, stored)) = self.journal().zip(self.flush.stored_unless(|| true)) else {
            return;
        };
        if let Err(error) = journal.remove_below(stored.mark) {
            log::warn!("journal: old segments could not be removed: {error}");
        }
    }
}
