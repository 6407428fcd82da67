//! Memory beside keys: blocks of the store, rows on their way to it, records that no sync covers yet.
//!
//! What of this can become large is bounded by a part of `maxmemory`, and counted in it. So a limit of memory is a limit
//! of the process, but for what every server takes (`ALLOWANCE`, threads, connections, the journal's ring) and for a
//! tenth that the allocator may have in holes between values of many sizes.

use super::Keyspace;
use std::sync::atomic::Ordering::Relaxed;

/// So much is not counted: even a server with a limit of a megabyte has to flush.
const ALLOWANCE: u64 = 4 << 20;
/// Parts of `maxmemory`.
const CACHE_PART: u64 = 4;
const PORTION_PART: u64 = 32;
const UNSYNCED_PART: u64 = 32;
const RING_PART: u64 = 16;
const HOLES_PART: u64 = 10;
const HOLES_MOST_PART: u64 = 4;
/// Keys have the rest, however small the limit is.
const MOST_PART: u64 = 2;
/// Bytes below which none of them goes.
const LEAST: u64 = 2 << 20;

/// A part of a limit; with no limit there is no bound.
fn part(limit: u64, of: u64) -> u64 {
    match limit {
        0 => u64::MAX,
        limit => (limit / of).max(LEAST),
    }
}

/// Bytes of the journal's ring: as configured, where that is no large part of the limit at the start.
pub fn ring_size(configured: u64, limit: u64) -> u64 {
    configured.min(part(limit, RING_PART))
}

impl Keyspace {
    /// Sizes everything by `maxmemory`.
    pub(super) fn bound_beside(&self) {
        let limit = self.limits.maxmemory.load(Relaxed);
        self.store.bound_cache(part(limit, CACHE_PART));
        self.flush.bound_portion(part(limit, PORTION_PART));
        if let Some(journal) = self.journal() {
            journal.bound_unsynced(part(limit, UNSYNCED_PART));
        }
    }

    /// Brings the count up to date: some times a second. `holes` are the bytes that the allocator has and nobody uses.
    /// They are counted where they are many, and not without bound: what is evicted leaves holes too. And they have keys
    /// evicted, but no write refused: that would only keep them from being filled.
    pub fn count_beside(&self, holes: u64) {
        let unsynced = self.journal().map_or(0, |journal| journal.unsynced_bytes());
        let limit = self.limits.maxmemory.load(Relaxed);
        let mut bytes = self.store.memory_bytes() + self.flush.portion_bytes() + unsynced;
        if limit > 0 && self.ranges.load().iter().any(|range| range.is_durable()) {
            // Counted before they are full: keys that were there first and then went would leave as many holes.
            bytes = bytes.max(self.store.cache_bound() + part(limit, PORTION_PART));
        }
        let holes = holes
            .saturating_sub(limit / HOLES_PART)
            .min(limit / HOLES_MOST_PART);
        let counted = |bytes: u64| bytes.saturating_sub(ALLOWANCE).min(limit / MOST_PART);
        self.beside.store(counted(bytes + holes), Relaxed);
        self.holes.store(counted(bytes + holes) - counted(bytes), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_a_least_size_and_no_limit_is_no_bound() {
        assert_eq!(part(0, 8), u64::MAX);
        assert_eq!(part(1 << 20, 8), LEAST);
        assert_eq!(part(256 << 20, 8), 32 << 20);
    }
}
