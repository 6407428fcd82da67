//! Starting the cache misses of a batch of requests before the first of them runs.
//!
//! A lookup in a large keyspace waits for memory three times, each wait for what the one before brought: the shard's
//! lock, the bucket, the entry. For a batch the waits of all keys are overlapped: first the lock lines of all shards
//! are asked for, then (locking each for a moment) the buckets, then the entries. By the time the first command runs,
//! nearly everything is on its way.

use super::Keyspace;

/// Asks for the cache line at an address. Any address will do: nothing is read.
#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it neither faults nor changes anything, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

const LINE: usize = 64;

impl Keyspace {
    /// Brings the shards, buckets and entries of keys in a logical database nearer. `hashes` is scratch space.
    pub fn prefetch<'a>(&self, db: u8, keys: impl Iterator<Item = &'a [u8]>, hashes: &mut Vec<u64>) {
        let db = self.physical(db);
        hashes.clear();
        let mut last: Option<&[u8]> = None;
        for key in keys {
            // One key again and again is near already.
            if last.replace(key) == Some(key) {
                continue;
            }
            let hash = self.hasher.hash(db, key);
            let shard = std::ptr::from_ref(&self.shards[self.shard_of(hash)]).cast::<u8>();
            prefetch(shard);
            prefetch(shard.wrapping_add(LINE));
            hashes.push(hash);
        }
        for hash in &*hashes {
            let state = self.shards[self.shard_of(*hash)].lock();
            if let Some(bucket) = state.table().home_address(*hash) {
                prefetch(bucket);
            }
        }
        for hash in &*hashes {
            let state = self.shards[self.shard_of(*hash)].lock();
            if let Some(entry) = state.table().entry_address(*hash) {
                prefetch(entry);
                prefetch(entry.wrapping_add(LINE));
            }
        }
    }
}
