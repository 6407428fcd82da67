//! A range: an interval of keys with one storage contract, and the map that finds the range of a key.
//!
//! Guarantees: the map covers every key; its intervals do not overlap; of nested prefixes the longest wins. A map
//! never changes: `RANGE CREATE`, `ALTER` and `DROP` build another and exchange it while every shard is locked, so
//! who holds a shard sees one map. The counters of a range are shared between the maps it is in.

use crate::config::{
    Bounds, Compression, DATABASES_MAX, EvictionPolicy, FsyncPolicy, KeyspaceEvents, RangeSpec, Tier,
};
use crate::object;
use crossbeam_utils::CachePadded;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Numbered databases.
pub const DBS: usize = DATABASES_MAX as usize;

/// What a range holds, exact at every moment that no command is in the middle of.
#[derive(Default)]
pub struct RangeCounters {
    /// Keys per physical database, resident or cold.
    pub keys: [AtomicI64; DBS],
    /// Those of them that have an expiry.
    pub expires: [AtomicI64; DBS],
    /// Keys that are only in a store.
    pub cold: AtomicI64,
    /// Bytes of resident entries.
    pub bytes: AtomicI64,
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub expired: AtomicU64,
    pub evicted: AtomicU64,
    /// Clean entries of a durable range that were dropped from memory.
    pub dropped: AtomicU64,
    /// Cold keys that became resident.
    pub loaded: AtomicU64,
    /// Entries of a memory range that moved into the plain store.
    pub sealed: AtomicU64,
    /// Bytes of the rows there that count.
    pub sealed_bytes: AtomicI64,
    /// Files of rows that a flush wrote with rows of this range among them, and the bytes of those rows.
    pub flushes: AtomicU64,
    pub flushed_bytes: AtomicU64,
}

impl RangeCounters {
    /// Keys that are only in the store, as far as it is known: while keys are counted, all might be.
    pub fn cold_keys(&self) -> i64 {
        self.cold.load(Relaxed).clamp(0, self.total_keys().max(0))
    }

    pub fn total_keys(&self) -> i64 {
        self.keys.iter().map(|keys| keys.load(Relaxed)).sum()
    }
}

/// The policies in force for a range: its own options, or what it inherits from the server's configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Bytes; 0 is no limit of the range's own.
    pub maxmemory: u64,
    pub eviction: EvictionPolicy,
    pub fsync: FsyncPolicy,
    /// Milliseconds given to keys written without an expiry; 0 is none.
    pub default_ttl_ms: i64,
    /// Keys in all databases together; 0 is no limit.
    pub max_keys: u64,
    /// Bytes of a value; 0 is no limit.
    pub max_value_size: u64,
    pub compression: Compression,
    /// The events of its keys that are told to whoever listens.
    pub notify: KeyspaceEvents,
}

pub struct Range {
    pub spec: RangeSpec,
    pub policy: Policy,
    pub counters: Arc<CachePadded<RangeCounters>>,
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "range {}", self.spec.name)
    }
}

impl Range {
    pub fn is_durable(&self) -> bool {
        self.spec.tier == Tier::Durable
    }

    /// About to leave for the other tier: its keys stay resident.
    pub fn stays_resident(&self) -> bool {
        self.spec.by_command.moving.is_some_and(|to| to != self.spec.tier)
    }

    /// What can be relied on: a range on its way is of the tier that it comes from.
    pub fn promised_tier(&self) -> Tier {
        match self.spec.by_command.moving {
            Some(Tier::Durable) => Tier::Memory,
            Some(Tier::Memory) => Tier::Durable,
            None => self.spec.tier,
        }
    }

    /// Changes of its keys are told to whoever listens.
    #[inline]
    pub fn notifies(&self) -> bool {
        !self.policy.notify.is_empty()
    }

    /// Replies about this range's keys wait for the disk.
    pub fn is_gated(&self) -> bool {
        self.is_durable() && self.policy.fsync == FsyncPolicy::Always
    }

    /// Replies to this range's writes wait for a disk that does not keep up.
    pub fn waits_when_late(&self) -> bool {
        self.is_durable() && self.policy.fsync != FsyncPolicy::No
    }
}

/// What ranges inherit from the server's configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inherited {
    pub fsync: FsyncPolicy,
    pub eviction: EvictionPolicy,
    pub notify: KeyspaceEvents,
    /// Thresholds of encodings.
    pub objects: object::Limits,
}

pub struct RangeMap {
    /// The range named `default` first, then by name.
    ranges: Vec<Arc<Range>>,
    /// Where each interval starts, ascending, and its range. The first starts at the empty key.
    starts: Vec<(Vec<u8>, usize)>,
    pub inherited: Inherited,
    any_gated: bool,
}

impl RangeMap {
    /// Builds the map of `specs`, which have been checked against each other, sharing the counters of ranges of the
    /// same name in `before`. A missing `default` is added: durable, everything.
    pub fn new(specs: &[RangeSpec], inherited: Inherited, before: Option<&RangeMap>) -> RangeMap {
        let mut specs = specs.to_vec();
        if !specs.iter().any(|spec| spec.name == "default") {
            specs.push(RangeSpec::default_range());
        }
        specs.sort_by(|a, b| (a.name != "default", &a.name).cmp(&(b.name != "default", &b.name)));
        let ranges: Vec<Arc<Range>> = specs
            .into_iter()
            .map(|spec| {
                let counters = before
                    .and_then(|map| map.by_name(&spec.name))
                    .map(|range| range.counters.clone());
                let policy = Policy {
                    maxmemory: spec.options.maxmemory.unwrap_or(0),
                    eviction: spec.options.maxmemory_policy.unwrap_or(inherited.eviction),
                    fsync: spec.options.appendfsync.unwrap_or(inherited.fsync),
                    default_ttl_ms: spec.options.default_ttl.unwrap_or(0) as i64 * 1000,
                    max_keys: spec.options.max_keys.unwrap_or(0),
                    max_value_size: spec.options.max_value_size.unwrap_or(0),
                    compression: spec.options.compression.unwrap_or(Compression::None),
                    notify: spec.options.notify.unwrap_or(inherited.notify),
                };
                Arc::new(Range {
                    spec,
                    policy,
                    counters: counters.unwrap_or_default(),
                })
            })
            .collect();
        let starts = flatten(&ranges);
        let any_gated = ranges.iter().any(|range| range.is_gated());
        RangeMap {
            ranges,
            starts,
            inherited,
            any_gated,
        }
    }

    /// The map of `specs` for who asks about keys alone.
    pub fn of_specs(specs: &[RangeSpec]) -> RangeMap {
        let inherited = Inherited {
            fsync: FsyncPolicy::EverySec,
            eviction: EvictionPolicy::NoEviction,
            notify: KeyspaceEvents::default(),
            objects: object::Limits::default(),
        };
        RangeMap::new(specs, inherited, None)
    }

    /// The range of a key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> &Arc<Range> {
        if self.starts.len() == 1 {
            return &self.ranges[self.starts[0].1];
        }
        let after = self.starts.partition_point(|(start, _)| start.as_slice() <= key);
        // proof: the first interval starts at the empty key, which is at or before every key.
        &self.ranges[self.starts[after - 1].1]
    }

    /// The range of exactly this name: names that differ in case are different names.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Range>> {
        self.ranges.iter().find(|range| range.spec.name == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Range>> {
        self.ranges.iter()
    }

    /// The intervals of a range: more than one where longer prefixes are cut out of it. The end is open.
    pub fn intervals(&self, name: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let ends = self
            .starts
            .iter()
            .skip(1)
            .map(|(start, _)| Some(start.clone()))
            .chain([None]);
        let named = self
            .starts
            .iter()
            .zip(ends)
            .filter(|((_, at), _)| self.ranges[*at].spec.name == name);
        named.map(|((start, _), end)| (start.clone(), end)).collect()
    }

    /// Some range's replies wait for the disk.
    pub fn any_gated(&self) -> bool {
        self.any_gated
    }

    /// Some range is synced once a second.
    pub fn wants_sync_every_second(&self) -> bool {
        self.ranges
            .iter()
            .any(|range| range.is_durable() && range.policy.fsync != FsyncPolicy::No)
    }

    /// Keys in a physical database, over all ranges.
    pub fn keys_in_db(&self, db: u8) -> i64 {
        self.ranges
            .iter()
            .map(|range| range.counters.keys[db as usize].load(Relaxed))
            .sum()
    }

    pub fn expires_in_db(&self, db: u8) -> i64 {
        self.ranges
            .iter()
            .map(|range| range.counters.expires[db as usize].load(Relaxed))
            .sum()
    }
}

/// The first key that no longer starts with `prefix`; none when there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn interval(bounds: &Bounds) -> (Vec<u8>, Option<Vec<u8>>) {
    match bounds {
        Bounds::All => (Vec::new(), None),
        Bounds::Prefix(prefix) => (prefix.clone(), prefix_end(prefix)),
        Bounds::Interval { start, end } => (start.clone(), end.clone()),
    }
}

/// Cuts nested intervals into a row of disjoint ones. Each boundary belongs to the innermost interval around it: of
/// the intervals that hold it, the one that starts last (and, of two that start together, ends first).
fn flatten(ranges: &[Arc<Range>]) -> Vec<(Vec<u8>, usize)> {
    let intervals: Vec<_> = ranges.iter().map(|range| interval(&range.spec.bounds)).collect();
    let mut cuts: Vec<&Vec<u8>> = intervals
        .iter()
        .flat_map(|(start, end)| [Some(start), end.as_ref()])
        .flatten()
        .collect();
    cuts.sort();
    cuts.dedup();
    let mut starts: Vec<(Vec<u8>, usize)> = Vec::new();
    for cut in cuts {
        let holds = |at: &usize| {
            let (start, end) = &intervals[*at];
            start <= cut && end.as_ref().is_none_or(|end| cut < end)
        };
        let narrower = |a: &usize, b: &usize| {
            let ends = |at: &usize| {
                intervals[*at]
                    .1
                    .as_ref()
                    .map_or((1, &[][..]), |end| (0, end.as_slice()))
            };
            intervals[*a]
                .0
                .cmp(&intervals[*b].0)
                .then_with(|| ends(b).cmp(&ends(a)))
                .then(a.cmp(b))
        };
        // The default range holds every cut, so there is always one.
        let Some(inner) = (0..intervals.len()).filter(holds).max_by(narrower) else {
            continue;
        };
        if starts.last().is_none_or(|(_, last)| *last != inner) {
            starts.push((cut.clone(), inner));
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(specs: &[&[&str]]) -> RangeMap {
        let parse = |words: &&[&str]| {
            let args: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            RangeSpec::parse(&args).expect("a valid range")
        };
        let specs: Vec<RangeSpec> = specs.iter().map(parse).collect();
        let inherited = Inherited {
            fsync: FsyncPolicy::EverySec,
            eviction: EvictionPolicy::NoEviction,
            notify: KeyspaceEvents::default(),
            objects: object::Limits::default(),
        };
        RangeMap::new(&specs, inherited, None)
    }

    #[test]
    fn the_longest_prefix_wins_and_default_holds_the_rest() {
        let map = map(&[
            &["a", "a:", "memory"],
            &["ab", "a:b:", "durable"],
            &["i", "m..p", "memory"],
        ]);
        let name = |key: &str| map.find(key.as_bytes()).spec.name.clone();
        for (key, range) in [
            ("", "default"),
            ("a", "default"),
            ("a:", "a"),
            ("a:a", "a"),
            ("a:b:", "ab"),
            ("a:b:zzz", "ab"),
            ("a:c", "a"),
            ("a;", "default"),
            ("m", "i"),
            ("ozzz", "i"),
            ("p", "default"),
            ("\u{7f}", "default"),
        ] {
            assert_eq!(name(key), range, "{key}");
        }
    }

    #[test]
    fn a_prefix_of_high_bytes_has_no_end() {
        assert_eq!(prefix_end(&[0xff, 0xff]), None);
        assert_eq!(prefix_end(&[1, 0xff]), Some(vec![2]));
    }
}
