//! How much the values of a transaction's keys are: what is done with large ones is done beside the thread's other work.

use super::Tx;

/// Elements from which on work on all of them is long.
pub const LARGE: usize = 4096;
/// Bytes of a string that are as much work as an element of another type.
pub const STRING_ELEMENT: usize = 64;

impl Tx<'_> {
    /// True when the values of the keys have more than `most` elements together.
    pub fn holds_much(&self, most: usize) -> bool {
        let (db, mut sum) = (self.db, 0);
        self.call.keys.iter().any(|key| {
            let (hash, guard) = self.locate(key);
            let resident = || {
                let table = &self.guards[guard].1.table;
                table.find(hash, |entry| entry.db() == db && entry.key() == *key)
            };
            let entry = match self.guest(key) {
                Some(at) => Some(&self.guests[at].entry),
                None => resident(),
            };
            sum += entry.map_or(0, |entry| match entry.object() {
                Some(object) => object.len(),
                None => entry.value().len() / STRING_ELEMENT,
            });
            sum > most
        })
    }
}
