//! Groups against plain maps.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// What is pending, per consumer, in plain maps.
#[derive(Default)]
struct PlainGroup {
    pending: BTreeMap<StreamId, (Vec<u8>, i64, u64)>,
    consumers: BTreeSet<Vec<u8>>,
}

fn check_group(groups: &Groups, plain: &PlainGroup) {
    let group = groups.get(b"g").expect("the group");
    assert_eq!(group.pending_len(), plain.pending.len());
    let names: Vec<&[u8]> = group.consumers().map(Consumer::name).collect();
    assert!(
        names
            .iter()
            .copied()
            .eq(plain.consumers.iter().map(Vec::as_slice))
    );
    for consumer in group.consumers() {
        let of_plain = plain
            .pending
            .iter()
            .filter(|(_, pending)| pending.0 == consumer.name());
        let ids: Vec<StreamId> = of_plain.map(|(id, _)| *id).collect();
        assert_eq!(consumer.pending_len(), ids.len());
        assert!(
            consumer
                .pending(StreamId::ZERO, StreamId::MAX)
                .eq(ids.iter().copied())
        );
    }
    for ((id, pending), (expected_id, expected)) in
        group.pending(StreamId::ZERO, StreamId::MAX).zip(&plain.pending)
    {
        assert_eq!(id, *expected_id);
        assert_eq!(group.consumer(pending.consumer).name(), expected.0);
        assert_eq!(
            (pending.delivered_ms, pending.deliveries),
            (expected.1, expected.2)
        );
    }
    let consumers: usize = group.consumers().map(Consumer::bytes).sum();
    assert!(group.bytes() >= consumers + group.pending.bytes());
    let all: usize = groups
        .iter()
        .map(|(name, group)| Groups::bytes_of(name, group))
        .sum();
    assert_eq!(groups.bytes, all);
}

#[test]
fn groups_agree_with_plain_maps() {
    for seed in 0..16 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut groups, mut plain) = (Groups::default(), PlainGroup::default());
        assert!(groups.create(b"other", StreamId::ZERO, None));
        assert!(groups.create(b"g", StreamId::ZERO, Some(0)) && !groups.create(b"g", StreamId::ZERO, None));
        for step in 0..2000u64 {
            let id = match rng.bool() {
                true => StreamId::new(step, 0),
                false => StreamId::new(rng.u64(..=step), 0),
            };
            let name = format!("consumer-{}", rng.u32(..8)).into_bytes();
            let mut group = groups.get_mut(b"g").expect("the group");
            match rng.u32(..12) {
                0..=6 => {
                    let (number, made) = group.create_consumer(&name, step as i64);
                    assert_eq!(made, plain.consumers.insert(name.clone()));
                    let pending = Pending {
                        delivered_ms: step as i64,
                        deliveries: 1,
                        consumer: number,
                    };
                    group.set_pending(id, pending);
                    plain.pending.insert(id, (name, step as i64, 1));
                }
                7..=8 => assert_eq!(group.acknowledge(id), plain.pending.remove(&id).is_some()),
                9 => {
                    group.deliver_again(id, step as i64);
                    if let Some(pending) = plain.pending.get_mut(&id) {
                        (pending.1, pending.2) = (step as i64, pending.2 + 1);
                    }
                }
                10 if rng.u32(..20) == 0 => {
                    let count = plain.pending.values().filter(|pending| pending.0 == name).count();
                    plain.pending.retain(|_, pending| pending.0 != name);
                    let was = plain.consumers.remove(&name);
                    assert_eq!(group.remove_consumer(&name), was.then_some(count));
                }
                _ => assert_eq!(group.find_pending(id).is_some(), plain.pending.contains_key(&id)),
            }
            drop(group);
            if step % 100 == 0 {
                check_group(&groups, &plain);
            }
        }
        check_group(&groups, &plain);
        assert!(groups.remove(b"g") && !groups.remove(b"g"));
    }
}

#[test]
fn pending_entries_are_small() {
    let mut groups = Groups::default();
    groups.create(b"g", StreamId::ZERO, None);
    let mut group = groups.get_mut(b"g").expect("the group");
    let (consumer, _) = group.create_consumer(b"c", 0);
    for ms in 0..100_000 {
        let pending = Pending {
            delivered_ms: 0,
            deliveries: 1,
            consumer,
        };
        group.set_pending(StreamId::new(ms, 0), pending);
    }
    drop(group);
    assert!(groups.bytes() < 100_000 * 60, "{}", groups.bytes());
}
