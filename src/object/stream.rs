//! Streams: entries of fields and values under growing ids, and groups of consumers that read them.
//!
//! `log` has the entries, in packed nodes (`node`); `group` the consumers. The two know nothing of each other: what
//! reading for a group means is put together in the commands. `paged` is what makes of it one that need not fit memory.

pub mod group;
pub mod id;
mod id_map;
pub mod log;
pub mod node;
mod paged;

pub use group::{Consumer, ConsumerNumber, Group, GroupMut, Groups, Pending};
pub use id::{IdText, StreamId};
pub use log::{ENTRY_BYTES_MAX, Keep, Log, Trim};
pub use node::{DamagedNode, Entry, Fields};

use super::{Native, object_conversions, size_class};

/// A stream; 8 bytes where it stands.
#[derive(Clone, Default)]
pub struct Stream(Box<Parts>);

#[derive(Clone, Default)]
struct Parts {
    log: Log,
    groups: Groups,
}

impl Stream {
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.0.log
    }

    pub fn groups(&self) -> &Groups {
        &self.0.groups
    }

    pub fn groups_mut(&mut self) -> &mut Groups {
        &mut self.0.groups
    }

    /// Both at once: reading for a group changes the group only.
    pub fn parts_mut(&mut self) -> (&mut Log, &mut Groups) {
        (&mut self.0.log, &mut self.0.groups)
    }

    /// How many entries a group has still to read, where that can be told.
    pub fn lag(&self, group: &Group) -> Option<u64> {
        let log = self.log();
        if log.entries_added == 0 {
            return Some(0);
        }
        let read = match group.entries_read {
            Some(read) if !log.has_gaps_from(group.last_id) => read,
            _ => log.added_until(group.last_id)?,
        };
        Some(log.entries_added.wrapping_sub(read))
    }
}

impl Native for Stream {
    const NAME: &'static str = "stream";

    fn empty() -> Stream {
        Stream::default()
    }

    fn len(&self) -> usize {
        self.log().len() as usize
    }

    /// A stream stays when its last entry has gone: its last id and its groups are worth something.
    fn is_empty(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        size_class(size_of::<Parts>()) + self.log().bytes() + self.groups().bytes()
    }

    fn encoding(&self) -> &'static str {
        "stream"
    }

    object_conversions!(Stream);
}

#[cfg(test)]
mod tests;
