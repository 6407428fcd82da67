//! Lists held against a plain queue of byte strings, under limits that force each encoding, and conversions between.

use super::*;
use crate::object::size_class;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

type Model = VecDeque<Vec<u8>>;

fn limits(list_max_listpack_size: i64) -> Limits {
    Limits {
        list_max_listpack_size,
        ..Limits::default()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(Side, Vec<Vec<u8>>),
    Shorten(Side, usize),
    Set(usize, Vec<u8>),
    /// Beside the element at this index, or beside nothing.
    Insert(usize, Side, Vec<u8>),
    /// All that equal the element at this index, at most so many.
    Remove(usize, Side, usize),
    Keep(usize, usize),
    Limit(i64),
    Reload,
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Front), Just(Side::Back)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |len| vec(any::<u8>(), len);
    prop_oneof![
        4 => (0..5i64).prop_map(|n| n.to_string().into_bytes()),
        4 => any::<i64>().prop_flat_map(|n| (0..63u32).prop_map(move |bits| (n >> bits).to_string().into_bytes())),
        4 => bytes(0..12),
        4 => bytes(30..140),
        1 => bytes(1000..5000),
        1 => (4080..8300usize).prop_map(|len| vec![b'x'; len]),
        1 => (16370..16400usize).prop_map(|len| vec![b'y'; len]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let at = || any::<usize>();
    prop_oneof![
        8 => (side(), vec(value(), 1..6)).prop_map(|(side, values)| Op::Push(side, values)),
        2 => (side(), value(), 1..300usize).prop_map(|(side, value, n)| Op::Push(side, vec![value; n])),
        4 => (side(), 1..8usize).prop_map(|(side, count)| Op::Shorten(side, count)),
        1 => (side(), 1..400usize).prop_map(|(side, count)| Op::Shorten(side, count)),
        4 => (at(), value()).prop_map(|(at, value)| Op::Set(at, value)),
        6 => (at(), side(), value()).prop_map(|(at, side, value)| Op::Insert(at, side, value)),
        3 => (at(), side(), prop_oneof![1..4usize, Just(usize::MAX)]).prop_map(|(at, side, most)| Op::Remove(at, side, most)),
        1 => (at(), at()).prop_map(|(start, end)| Op::Keep(start, end)),
        1 => prop_oneof![-6..0i64, 0..4i64, 10..200i64].prop_map(Op::Limit),
        1 => Just(Op::Reload),
    ]
}

fn texts(walk: Walk<'_>) -> Vec<Vec<u8>> {
    walk.map(|item| item.to_vec()).collect()
}

/// What is true of every list.
fn check(list: &List, model: &Model) {
    assert_eq!(list.len(), model.len());
    assert!(texts(list.walk(Side::Front, 0)).iter().eq(model));
    assert!(texts(list.walk(Side::Back, 0)).iter().eq(model.iter().rev()));
    let blocks: usize = list.nodes().map(Node::heap_bytes).sum();
    match list {
        List::Packed(node) => assert!(!node.is_plain() && list.bytes() == blocks),
        List::Large(_) => {
            assert!(list.nodes().all(|node| !node.is_empty()));
            let table = size_class(size_of::<Node>() * 2 * list.node_count().max(4));
            assert!(list.bytes() > blocks && list.bytes() <= blocks + table + 64);
        }
    }
    for node in list.nodes().filter(|node| !node.is_plain()) {
        let mut listpack = Vec::new();
        node.write_listpack(&mut listpack);
        assert_eq!(listpack.len(), node.listpack_bytes());
        let listpack = Listpack::from_bytes(listpack.into()).unwrap();
        assert_eq!(listpack.len(), node.len());
        assert!(node.heap_bytes() <= 16 || node.heap_bytes() <= size_class(listpack.bytes()) * 2);
    }
}

/// The list that its stored form gives.
fn reloaded(list: &List, limits: &Limits) -> List {
    let mut copy = List::empty();
    for node in list.nodes() {
        if node.is_plain() {
            copy.load_plain(node.bytes());
            continue;
        }
        let mut listpack = Vec::new();
        node.write_listpack(&mut listpack);
        copy.load_packed(&Listpack::from_bytes(listpack.into()).unwrap());
    }
    copy.settle_loaded(limits);
    copy
}

/// Removes from the model what `List::remove` should remove.
fn remove_from(model: &mut Model, value: &[u8], side: Side, most: usize) -> usize {
    let mut equal: Vec<usize> = (0..model.len()).filter(|i| model[*i] == value).collect();
    if side == Side::Back {
        equal.reverse();
    }
    equal.truncate(most);
    equal.sort();
    for at in equal.iter().rev() {
        model.remove(*at);
    }
    equal.len()
}

fn apply(list: &mut List, model: &mut Model, limits: &mut Limits, op: Op) {
    let pick = |at: usize, model: &Model| at.checked_rem(model.len());
    match op {
        Op::Push(side, values) => {
            let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            list.push(side, &slices, limits);
            for value in values {
                match side {
                    Side::Front => model.push_front(value),
                    Side::Back => model.push_back(value),
                }
            }
        }
        Op::Shorten(side, count) => {
            let count = count.min(model.len());
            list.shorten(side, count, limits);
            match side {
                Side::Front => drop(model.drain(..count)),
                Side::Back => model.truncate(model.len() - count),
            }
        }
        Op::Set(at, value) => match pick(at, model) {
            Some(at) => {
                assert!(list.set(at, &value, limits));
                model[at] = value;
            }
            None => assert!(!list.set(at, &value, limits)),
        },
        Op::Insert(at, side, value) => {
            let pivot = pick(at, model).map_or(b"no such element".to_vec(), |at| model[at].clone());
            let place = model.iter().position(|element| *element == pivot);
            assert_eq!(list.insert(&pivot, side, &value, limits), place.is_some());
            if let Some(place) = place {
                model.insert(place + usize::from(side == Side::Back), value);
            }
        }
        Op::Remove(at, side, most) => {
            let value = pick(at, model).map_or(b"no such element".to_vec(), |at| model[at].clone());
            let removed = list.remove(&value, side, most, limits);
            assert_eq!(removed, remove_from(model, &value, side, most));
        }
        Op::Keep(start, end) => {
            let len = model.len();
            let (start, end) = (start % (len + 1), end % (len + 1));
            let range = start.min(end)..start.max(end);
            // Mostly a small part of either end, so that lists grow at all.
            let range = range.start / 8..len - (len - range.end) / 8;
            list.keep(range.clone(), limits);
            model.truncate(range.end);
            model.drain(..range.start);
        }
        Op::Limit(size) => limits.list_max_listpack_size = size,
        Op::Reload => *list = reloaded(list, limits),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_list_is_a_queue_whatever_its_encoding(
        size in prop_oneof![-5..0i64, 1..40i64],
        ops in vec(op(), 1..80),
        probes in vec(any::<usize>(), 4),
    ) {
        let (mut list, mut model, mut limits) = (List::empty(), Model::new(), limits(size));
        for op in ops {
            apply(&mut list, &mut model, &mut limits, op);
            check(&list, &model);
            for probe in &probes {
                let at = probe % (model.len() + 1);
                prop_assert_eq!(list.get(at).map(|item| item.to_vec()), model.get(at).cloned());
                prop_assert!(texts(list.walk(Side::Front, at)).iter().eq(model.range(at..)));
                prop_assert!(texts(list.walk(Side::Back, at)).iter().eq(model.range(..model.len() - at).rev()));
            }
            prop_assert_eq!(list.peek(Side::Front).map(|item| item.to_vec()), model.front().cloned());
            prop_assert_eq!(list.peek(Side::Back).map(|item| item.to_vec()), model.back().cloned());
        }
    }
}

fn filled(elements: usize, limits: &Limits) -> List {
    let mut list = List::empty();
    for n in 0..elements {
        list.push(Side::Back, &[n.to_string().as_bytes()], limits);
    }
    list
}

#[test]
fn encodings_change_where_redis_changes_them() {
    let limits = limits(4);
    let mut list = filled(4, &limits);
    assert_eq!(list.encoding(), "listpack");
    list.push(Side::Front, &[b"a"], &limits);
    assert_eq!(list.encoding(), "quicklist");
    for (side, encoding) in [
        (Side::Front, "quicklist"),
        (Side::Back, "quicklist"),
        (Side::Back, "listpack"),
    ] {
        list.shorten(side, 1, &limits);
        assert_eq!(list.encoding(), encoding);
    }
}

#[test]
fn an_element_larger_than_a_node_stands_alone() {
    let limits = limits(-1);
    let large = vec![b'x'; 5000];
    let mut list = filled(100, &limits);
    list.insert(b"50", Side::Front, &large, &limits);
    let plain: Vec<bool> = list.nodes().map(Node::is_plain).collect();
    assert_eq!(plain, [false, true, false]);
    list.set(50, b"small again", &limits);
    assert_eq!(list.node_count(), 2);
    assert_eq!(list.get(50), Some(Item::Bytes(b"small again")));
}

#[test]
fn a_queue_of_steady_length_keeps_its_memory() {
    let limits = limits(-2);
    let mut list = filled(100, &limits);
    let bytes = list.bytes();
    for n in 0..100_000 {
        list.push(Side::Front, &[n.to_string().as_bytes()], &limits);
        list.shorten(Side::Back, 1, &limits);
        assert!(list.bytes() <= bytes * 4);
    }
    assert_eq!(list.get(0), Some(Item::Int(99_999)));
}
