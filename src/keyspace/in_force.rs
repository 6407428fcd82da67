//! The map of ranges that is in force.
//!
//! `load` takes a guard of arc-swap, which costs as much as a lookup of a key; under a shard's lock a plain reference will
//! do, because a map is replaced only by who holds every shard (`Keyspace::install`).

use super::range::RangeMap;
use super::shard::ShardGuard;
use arc_swap::{ArcSwap, Guard};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

pub(super) struct InForce {
    map: ArcSwap<RangeMap>,
    /// Of the same map.
    address: AtomicPtr<RangeMap>,
}

/// A map in use.
pub(super) enum MapRef<'k> {
    /// Because a shard is held.
    Held(&'k RangeMap),
    Loaded(Guard<Arc<RangeMap>>),
}

impl InForce {
    pub fn new(map: RangeMap) -> InForce {
        let map = Arc::new(map);
        InForce {
            address: AtomicPtr::new(Arc::as_ptr(&map).cast_mut()),
            map: ArcSwap::new(map),
        }
    }

    #[inline]
    pub fn load(&self) -> Guard<Arc<RangeMap>> {
        self.map.load()
    }

    pub fn load_full(&self) -> Arc<RangeMap> {
        self.map.load_full()
    }

    /// As who holds every shard.
    pub fn replace(&self, map: RangeMap, held: &[ShardGuard<'_>], shards: usize) {
        // Once in a while; and what `held` gives out rests on it.
        assert_eq!(held.len(), shards, "every shard is held");
        let map = Arc::new(map);
        self.address.store(Arc::as_ptr(&map).cast_mut(), Release);
        self.map.store(map);
    }

    /// # Safety
    /// The caller holds a shard until it has dropped what this returns.
    #[inline]
    pub unsafe fn held(&self) -> MapRef<'_> {
        // SAFETY: the address is that of the map in `map`, which is replaced only by who holds every shard; as the
        // caller holds one, this is the map until it lets go.
        MapRef::Held(unsafe { &*self.address.load(Acquire) })
    }
}

impl Deref for MapRef<'_> {
    type Target = RangeMap;

    #[inline]
    fn deref(&self) -> &RangeMap {
        match self {
            MapRef::Held(map) => map,
            MapRef::Loaded(map) => map,
        }
    }
}
