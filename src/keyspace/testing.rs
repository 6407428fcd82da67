//! A keyspace for tests of units: without a journal, with few shards and no limits.

use super::range::{Inherited, RangeMap};
use super::{Keyspace, Settings};
use crate::config::{EvictionPolicy, FsyncPolicy, KeyspaceEvents, RangeSpec};
use crate::object;
use crate::store::block::BlockStore;
use std::path::Path;

pub fn keyspace(dir: &Path, ranges: &[RangeSpec]) -> Keyspace {
    let inherited = Inherited {
        fsync: FsyncPolicy::EverySec,
        eviction: EvictionPolicy::NoEviction,
        notify: KeyspaceEvents::default(),
        objects: object::Limits::default(),
    };
    let settings = Settings {
        shards: 8,
        maxmemory: 0,
        maxmemory_samples: 5,
        lfu_log_factor: 10,
        lfu_decay_minutes: 1,
        journal_flush_size: u64::MAX,
        flush_dirty_size: u64::MAX,
        seal_after: 0,
        paged_threshold: u64::MAX,
        paged_threshold_size: u64::MAX,
        max_value_len: 1 << 20,
        inherited,
    };
    let store = BlockStore::open(dir, 1 << 20).expect("store opens");
    Keyspace::new(store, RangeMap::new(ranges, inherited, None), &settings, 7)
}
