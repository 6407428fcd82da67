//! The range of a key is that of the longest match.

use super::*;

fn range_word() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&[0u8, b'a', b'b', 0xff]), 0..4)
}

fn bounds() -> impl Strategy<Value = Bounds> {
    prop_oneof![
        3 => range_word().prop_filter("never empty", |p| !p.is_empty()).prop_map(Bounds::Prefix),
        1 => (range_word(), prop::option::of(range_word())).prop_map(|(start, end)| match end {
            Some(end) if end < start => Bounds::Interval { start: end, end: Some(start) },
            end => Bounds::Interval { start, end },
        }),
    ]
}

/// The range that lies inside of all others that hold the key.
fn naive_find<'a>(specs: &'a [RangeSpec], key: &[u8]) -> &'a str {
    let holds = |spec: &&RangeSpec| spec.bounds.contains(key);
    let inside = |a: &RangeSpec, b: &RangeSpec| a.bounds != b.bounds && b.bounds.encloses(&a.bounds);
    let mut holders = specs.iter().filter(holds);
    let inmost = holders.find(|spec| !specs.iter().filter(holds).any(|other| inside(other, spec)));
    inmost.map_or("default", |spec| &spec.name)
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn the_map_finds_what_the_longest_match_finds(
        wanted in prop::collection::vec(bounds(), 0..8),
        keys in prop::collection::vec(range_word(), 1..30),
    ) {
        let mut specs: Vec<RangeSpec> = Vec::new();
        for (at, bounds) in wanted.into_iter().enumerate() {
            let spec = RangeSpec { name: format!("r{at}"), bounds, ..RangeSpec::default_range() };
            if specs.iter().all(|other| spec.conflict_with(other).is_none()) {
                specs.push(spec);
            }
        }
        let inherited = Inherited { fsync: FsyncPolicy::No, eviction: EvictionPolicy::NoEviction, notify: KeyspaceEvents::default(), objects: terrace::object::Limits::default() };
        let map = RangeMap::new(&specs, inherited, None);
        for key in &keys {
            let found = map.find(key).spec.name.clone();
            prop_assert_eq!(&found, naive_find(&specs, key), "{}", key.escape_ascii());
            let inside = map.intervals(&found).iter().any(|(start, end)| key >= start && end.as_ref().is_none_or(|end| key < end));
            prop_assert!(inside, "{} is in no interval of {}", key.escape_ascii(), found);
        }
    }
}
