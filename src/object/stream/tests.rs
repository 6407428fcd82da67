//! Streams against plain lists and maps.

use super::*;
use crate::object::Limits;
use std::collections::BTreeMap;

type Pairs = Vec<Vec<u8>>;
type Model = BTreeMap<StreamId, Pairs>;

fn read(entry: &Entry<'_>) -> (StreamId, Pairs) {
    let pairs = entry.fields.clone();
    let pairs = pairs.flat_map(|(name, value)| [name.to_vec(), value.to_vec()]);
    (entry.id, pairs.collect())
}

fn check(log: &Log, model: &Model) {
    assert_eq!(log.len(), model.len() as u64);
    assert_eq!(log.first_id(), model.keys().next().copied().unwrap_or_default());
    let expected: Vec<(StreamId, Pairs)> = model.iter().map(|(id, pairs)| (*id, pairs.clone())).collect();
    assert_eq!(log.iter().map(|entry| read(&entry)).collect::<Vec<_>>(), expected);
    let back = log.range_back(StreamId::ZERO, StreamId::MAX);
    let mut back: Vec<_> = back.map(|entry| read(&entry)).collect();
    back.reverse();
    assert_eq!(back, expected);
    let bytes: usize = log.nodes().map(|(_, list)| list.heap_bytes()).sum();
    assert!(log.bytes() >= bytes && log.bytes() < bytes + 4096 + log.node_count() * 64);
}

/// The same log out of its stored nodes.
fn rebuilt(log: &Log) -> Log {
    let mut again = Log::default();
    for (id, list) in log.nodes() {
        let bytes = list.as_bytes().into();
        let list = crate::object::listpack::Listpack::from_bytes(bytes).expect("a sound list");
        again.push_node(id, list).expect("a sound node");
    }
    again.last_id = log.last_id;
    again.max_deleted_id = log.max_deleted_id;
    again.entries_added = log.entries_added;
    again
}

fn some_pairs(rng: &mut fastrand::Rng) -> Pairs {
    let text = |rng: &mut fastrand::Rng| match rng.u32(..5) {
        0 => rng.i64(..).to_string().into_bytes(),
        1 => rng.i64(-200..200).to_string().into_bytes(),
        2 => vec![b'x'; rng.usize(..100)],
        _ => format!("value-{}", rng.u32(..50)).into_bytes(),
    };
    let count = if rng.u32(..4) == 0 { rng.usize(1..5) } else { 2 };
    let mut pairs = Vec::new();
    for field in 0..count {
        pairs.push(match rng.u32(..6) {
            0 => text(rng),
            _ => format!("field{field}").into_bytes(),
        });
        pairs.push(text(rng));
    }
    pairs
}

#[test]
fn logs_agree_with_a_map_whatever_happens_to_them() {
    for seed in 0..24 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let limits = Limits {
            stream_node_max_entries: [3, 10, 100, 0][seed as usize % 4],
            stream_node_max_bytes: [4096, 300, 0][seed as usize % 3],
            ..Limits::default()
        };
        let (mut log, mut model) = (Log::default(), Model::new());
        let mut added = 0;
        for step in 0..1500 {
            match rng.u32(..20) {
                0..=11 => {
                    let last = log.last_id;
                    let id = match rng.u32(..4) {
                        0 => last.next().expect("far from the end"),
                        1 => StreamId::new(last.ms + rng.u64(1..1 << 40), rng.u64(..)),
                        _ => StreamId::new(last.ms + rng.u64(1..50), 0),
                    };
                    let pairs = some_pairs(&mut rng);
                    let texts: Vec<&[u8]> = pairs.iter().map(Vec::as_slice).collect();
                    log.append(id, &texts, &limits);
                    model.insert(id, pairs);
                    added += 1;
                    assert_eq!((log.last_id, log.entries_added), (id, added));
                }
                12..=15 if !model.is_empty() => {
                    let id = *model.keys().nth(rng.usize(..model.len())).expect("an entry");
                    assert!(log.contains(id));
                    assert!(log.delete(id) && !log.delete(id) && !log.contains(id));
                    model.remove(&id);
                    assert!(log.max_deleted_id >= id);
                }
                16 => assert!(!log.delete(StreamId::new(rng.u64(..100), 3))),
                17 if rng.u32(..4) == 0 => {
                    let most = rng.u64(..=model.len() as u64 + 2);
                    let keep = match rng.bool() {
                        true => Keep::Newest(most),
                        false => Keep::From(
                            *model
                                .keys()
                                .nth(rng.usize(..=model.len()))
                                .unwrap_or(&log.last_id),
                        ),
                    };
                    let trim = Trim {
                        keep,
                        approximate: rng.bool(),
                        limit: rng.u64(..3) * 7,
                    };
                    check_trim(&mut log, &mut model, trim);
                }
                _ => {
                    let some = |rng: &mut fastrand::Rng| match model.is_empty() || rng.bool() {
                        true => StreamId::new(rng.u64(..=log.last_id.ms), rng.u64(..)),
                        false => *model.keys().nth(rng.usize(..model.len())).expect("an entry"),
                    };
                    let (from, to) = (some(&mut rng), some(&mut rng));
                    let expected: Vec<StreamId> = match from <= to {
                        true => model.range(from..=to).map(|item| *item.0).collect(),
                        false => Vec::new(),
                    };
                    assert!(
                        log.range(from, to)
                            .map(|entry| entry.id)
                            .eq(expected.iter().copied())
                    );
                    let back = log.range_back(from, to).map(|entry| entry.id);
                    assert!(back.eq(expected.iter().rev().copied()));
                }
            }
            if step % 50 == 0 {
                check(&log, &model);
                check(&rebuilt(&log), &model);
            }
        }
        check(&log, &model);
    }
}

/// An exact trim leaves just what is asked for; an approximate one never removes more.
fn check_trim(log: &mut Log, model: &mut Model, trim: Trim) {
    let before = model.len() as u64;
    let goes = match trim.keep {
        Keep::Newest(most) => before.saturating_sub(most),
        Keep::From(id) => model.range(..id).count() as u64,
    };
    let trimmed = log.trim(trim);
    if trim.approximate || trim.limit > 0 {
        assert!(trimmed <= goes);
    } else {
        assert_eq!(trimmed, goes);
    }
    if trim.limit > 0 {
        assert!(trimmed <= trim.limit);
    }
    (0..trimmed).for_each(|_| drop(model.pop_first()));
    check(log, model);
}

#[test]
fn entries_of_the_same_fields_do_not_repeat_them() {
    let limits = Limits::default();
    let mut log = Log::default();
    for ms in 0..1000 {
        log.append(
            StreamId::new(1_700_000_000_000 + 3 * ms, 0),
            &[b"a-rather-long-field", b"v"],
            &limits,
        );
    }
    assert_eq!(log.node_count(), 10);
    assert!(log.bytes() < 1000 * 16, "{}", log.bytes());
}

#[test]
fn damaged_nodes_are_refused() {
    use crate::object::listpack::Listpack;
    let mut log = Log::default();
    let limits = Limits::default();
    log.append(StreamId::new(5, 5), &[b"f", b"v"], &limits);
    log.append(StreamId::new(6, 0), &[b"f", b"w"], &limits);
    log.append(StreamId::new(7, 0), &[b"g", b"1", b"h", b"2"], &limits);
    log.delete(StreamId::new(6, 0));
    let (id, list) = log.nodes().next().expect("a node");
    let items: Vec<Vec<u8>> = list.iter().map(|item| item.to_vec()).collect();
    let made = |items: &[Vec<u8>]| {
        let mut list = Listpack::new();
        items.iter().for_each(|item| list.push_back(item));
        Log::default().push_node(id, list)
    };
    assert_eq!(made(&items), Ok(()));
    for at in 0..items.len() {
        let mut fewer = items.clone();
        fewer.remove(at);
        assert_eq!(made(&fewer), Err(DamagedNode), "without {at}");
        let mut other = items.clone();
        other[at] = b"9".to_vec();
        let is_text = [3, 8, 13, 19, 20, 21, 22].contains(&at);
        // Ids that still go up.
        let is_id = [7, 12, 16, 17].contains(&at);
        assert_eq!(made(&other).is_ok(), is_text || is_id, "9 at {at}");
    }
    assert_eq!(made(&[]), Err(DamagedNode));
    let (_, list) = log.nodes().next().expect("a node");
    let mut again = Log::default();
    assert_eq!(again.push_node(id, list.clone()), Ok(()));
    assert_eq!(
        again.push_node(StreamId::new(7, 0), list.clone()),
        Err(DamagedNode)
    );
}

#[test]
fn positions_are_told_where_they_can_be() {
    let limits = Limits::default();
    let mut log = Log::default();
    let id = |ms| StreamId::new(ms, 0);
    assert_eq!(log.added_until(id(3)), Some(0));
    (1..=5).for_each(|ms| log.append(id(ms), &[b"f", b"v"], &limits));
    assert_eq!(log.added_until(StreamId::ZERO), Some(0));
    assert_eq!(log.added_until(id(1)), Some(1));
    assert_eq!(log.added_until(id(3)), None);
    assert_eq!(log.added_until(id(5)), Some(5));
    assert_eq!(log.added_until(id(6)), None);
    log.trim(Trim {
        keep: Keep::Newest(3),
        approximate: false,
        limit: 0,
    });
    assert_eq!(log.added_until(id(2)), Some(2));
    assert_eq!(log.added_until(id(3)), Some(3));
    assert!(log.delete(id(4)));
    assert_eq!(log.added_until(id(3)), None);
    assert_eq!(log.added_until(id(5)), Some(5));
    assert!(log.has_gaps_from(id(4)) && !log.has_gaps_from(id(5)));
    assert!(log.delete(id(3)) && log.delete(id(5)));
    assert_eq!(log.added_until(id(5)), Some(5));
}
