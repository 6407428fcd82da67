//! Sets against plain ones, through every encoding.

use super::*;
use crate::object::Limits;
use fastrand::Rng;
use std::collections::BTreeSet;
use std::ops::ControlFlow::{Break, Continue};

type Model = BTreeSet<Vec<u8>>;

/// Limits that small tests pass in both directions.
fn narrow() -> Limits {
    Limits {
        set_max_intset_entries: 12,
        set_max_listpack_entries: 20,
        set_max_listpack_value: 10,
        ..Limits::default()
    }
}

fn set_of(members: &[&str], limits: &Limits) -> Set {
    let mut set = Set::empty();
    members.iter().for_each(|member| {
        set.add(member.as_bytes(), limits);
    });
    set
}

fn texts<'a>(members: impl Iterator<Item = Item<'a>>) -> Vec<Vec<u8>> {
    members.map(|member| member.to_vec()).collect()
}

/// A member of one of the kinds that encodings tell apart: small and large integers, what only looks like one, short
/// and long text.
fn any_member(rng: &mut Rng, kind: u32) -> Vec<u8> {
    match if kind == 9 { rng.u32(0..6) } else { kind } {
        0 => rng.i64(-20..20).to_string(),
        1 => rng.i64(..).wrapping_shr(rng.u32(0..64)).to_string(),
        2 => format!("0{}", rng.u32(0..20)),
        3 => format!("m{}", rng.u32(0..60)),
        4 => format!("{:>12}", rng.u32(0..20)),
        _ => ["", "-", "-0", "1.5", "\0", "9223372036854775808"][rng.usize(0..6)].to_owned(),
    }
    .into_bytes()
}

fn check(set: &Set, model: &Model) {
    assert_eq!(set.len(), model.len());
    let members = texts(set.iter());
    assert_eq!(members.len(), model.len());
    assert_eq!(&members.iter().cloned().collect::<Model>(), model);
    if let Set::Ints(ints) = set {
        assert!(ints.iter().is_sorted());
    }
}

#[test]
fn behaves_like_a_plain_set_in_every_encoding() {
    let mut rng = Rng::with_seed(3);
    let mut seen = BTreeSet::new();
    for round in 0..400 {
        let (mut set, mut model) = (Set::empty(), Model::new());
        let kind = [0, 1, 3, 9][round % 4];
        let limits = if round % 5 == 0 {
            Limits::default()
        } else {
            narrow()
        };
        for _ in 0..rng.usize(1..80) {
            // Integers first, so that conversions happen in the middle.
            let kind = if model.len() < 8 && round % 3 == 0 {
                0
            } else {
                kind
            };
            let member = any_member(&mut rng, kind);
            match rng.u32(0..10) {
                0..6 => assert_eq!(set.add(&member, &limits), model.insert(member)),
                6..8 => assert_eq!(set.remove(&member), model.remove(&member)),
                8 => assert_eq!(set.contains(&member), model.contains(&member)),
                _ => {
                    let popped = set.pop(&mut rng);
                    assert_eq!(popped.is_none(), model.is_empty());
                    assert!(popped.is_none_or(|member| model.remove(&member)));
                }
            }
            seen.insert(set.encoding());
            check(&set, &model);
        }
        check(&set.clone(), &model);
    }
    assert_eq!(seen, BTreeSet::from(["hashtable", "intset", "listpack"]));
}

#[test]
fn encodings_change_where_redis_changes_them() {
    let limits = Limits::default();
    let ints: Vec<String> = (0..513).map(|i| i.to_string()).collect();
    let ints: Vec<&str> = ints.iter().map(String::as_str).collect();
    assert_eq!(set_of(&ints[..512], &limits).encoding(), "intset");
    assert_eq!(set_of(&ints, &limits).encoding(), "hashtable");
    let mut set = set_of(&ints[..127], &limits);
    assert!(set.add(b"text", &limits));
    assert_eq!((set.encoding(), set.len()), ("listpack", 128));
    assert!(!set.add(b"text", &limits) && set.add(b"more", &limits));
    assert_eq!((set.encoding(), set.len()), ("hashtable", 129));
    let mut set = set_of(&ints[..128], &limits);
    assert!(set.add(b"text", &limits));
    assert_eq!(set.encoding(), "hashtable");
    assert_eq!(set_of(&[&"x".repeat(64)], &limits).encoding(), "listpack");
    assert_eq!(set_of(&[&"x".repeat(65)], &limits).encoding(), "hashtable");
    let short = Limits {
        set_max_listpack_value: 3,
        ..limits
    };
    let mut set = set_of(&["1234"], &short);
    assert!(set.add(b"abc", &short));
    assert_eq!(set.encoding(), "hashtable", "the integers' texts are too long");
}

#[test]
fn expecting_many_members_chooses_the_encoding() {
    let limits = narrow();
    let expected = |first: &str, additions| {
        let mut set = Set::empty();
        set.expect(first.as_bytes(), additions, &limits);
        set.encoding()
    };
    assert_eq!(expected("1", 12), "intset");
    assert_eq!(expected("1", 13), "listpack");
    assert_eq!(expected("1", 21), "hashtable");
    assert_eq!(expected("a", 1), "listpack");
    assert_eq!(expected("a", 21), "hashtable");
    for (member, most) in [("1", 12), ("a", 20)] {
        let mut set = set_of(&[member], &limits);
        set.expect(b"x", most, &limits);
        assert_ne!(set.encoding(), "hashtable");
        set.expect(b"x", most + 1, &limits);
        assert_eq!((set.encoding(), set.len()), ("hashtable", 1));
    }
}

/// Some sets in mixed encodings that share members, and their models.
fn some_sets(rng: &mut Rng, count: usize) -> Vec<(Set, Model)> {
    (0..count)
        .map(|_| {
            let (mut set, mut model) = (Set::empty(), Model::new());
            let kind = [0, 0, 3, 9][rng.usize(0..4)];
            for _ in 0..rng.usize(0..40) {
                let member = any_member(rng, kind);
                set.add(&member, &narrow());
                model.insert(member);
            }
            (set, model)
        })
        .collect()
}

#[test]
fn operations_on_several_sets_agree_with_plain_ones() {
    let mut rng = Rng::with_seed(5);
    for _ in 0..600 {
        let count = rng.usize(1..7);
        let all = some_sets(&mut rng, count);
        let sets = || all.iter().map(|(set, _)| set).collect::<Vec<_>>();
        let (first, others) = all.split_first().unwrap();
        let limits = narrow();
        let expected = others.iter().fold(first.1.clone(), |both, (_, m)| &both & m);
        check(&Set::of_intersection(&mut sets(), &limits), &expected);
        let expected = others.iter().fold(first.1.clone(), |any, (_, m)| &any | m);
        check(&Set::of_union(&mut sets(), &limits), &expected);
        let mut visits = 0;
        union(&mut sets(), |_| visits += 1);
        assert_eq!(visits, expected.len(), "a union visits each member once");
        let expected = others.iter().fold(first.1.clone(), |only, (_, m)| &only - m);
        check(
            &Set::of_difference(&first.0, &mut sets()[1..], &limits),
            &expected,
        );
    }
}

#[test]
fn a_difference_from_itself_is_empty_and_intersections_can_stop_early() {
    let limits = narrow();
    let set = set_of(&["1", "2", "3"], &limits);
    assert!(Set::of_difference(&set, &mut [&set], &limits).is_empty());
    let mut visits = 0;
    intersection(&mut [&set, &set], |_| {
        visits += 1;
        if visits == 2 { Break(()) } else { Continue(()) }
    });
    assert_eq!(visits, 2);
}

#[test]
fn results_take_the_smallest_encoding_that_fits() {
    let limits = narrow();
    let table = set_of(&["1", "2", "a text that is too long"], &limits);
    assert_eq!(table.encoding(), "hashtable");
    let ints = set_of(&["1", "2", "3"], &limits);
    assert_eq!(
        Set::of_intersection(&mut [&table, &ints], &limits).encoding(),
        "intset"
    );
    let packed = set_of(&["1", "2", "a"], &limits);
    assert_eq!(
        Set::of_intersection(&mut [&table, &packed], &limits).encoding(),
        "intset"
    );
    assert_eq!(
        Set::of_union(&mut [&packed, &ints], &limits).encoding(),
        "listpack"
    );
    assert_eq!(
        Set::of_union(&mut [&table, &ints], &limits).encoding(),
        "hashtable"
    );
    assert_eq!(
        Set::of_difference(&table, &mut [&ints], &limits).encoding(),
        "hashtable"
    );
    assert_eq!(
        Set::of_difference(&packed, &mut [&ints], &limits).encoding(),
        "listpack"
    );
}

#[test]
fn samples_are_different_members_and_every_member_comes() {
    let mut rng = Rng::with_seed(7);
    for size in [1, 10, 15, 200] {
        for prefix in ["", "m"] {
            let members: Vec<String> = (0..size).map(|i| format!("{prefix}{i}")).collect();
            let set = set_of(&members.iter().map(String::as_str).collect::<Vec<_>>(), &narrow());
            for count in [0, 1, 5, size / 2, size, size * 2] {
                let mut sampled = Vec::new();
                set.sample(count, &mut rng, |member| sampled.push(member.to_vec()));
                assert_eq!(sampled.len(), count.min(size));
                assert!(sampled.iter().all(|member| set.contains(member)));
                assert_eq!(sampled.iter().collect::<BTreeSet<_>>().len(), sampled.len());
            }
            let mut drawn = BTreeSet::new();
            set.draw(size * 20, &mut rng, |member| {
                drawn.insert(member.to_vec());
            });
            assert_eq!(drawn.len(), size);
        }
    }
    Set::empty().draw(3, &mut rng, |_| panic!("nothing can be drawn"));
}

#[test]
fn every_member_is_sampled_as_often_as_any_other() {
    let mut rng = Rng::with_seed(8);
    for size in [10usize, 60] {
        let members: Vec<String> = (0..size).map(|i| format!("m{i}")).collect();
        let set = set_of(&members.iter().map(String::as_str).collect::<Vec<_>>(), &narrow());
        for count in [1, 4, size - 1] {
            let mut times = std::collections::BTreeMap::new();
            let rounds = 4_000;
            for _ in 0..rounds {
                set.sample(count, &mut rng, |member| {
                    *times.entry(member.to_vec()).or_insert(0.0) += 1.0
                });
            }
            let mean = (rounds * count) as f64 / size as f64;
            let deviation = 6.0 * mean.sqrt();
            assert_eq!(times.len(), size);
            assert!(
                times.values().all(|n: &f64| (n - mean).abs() < deviation),
                "{times:?}"
            );
        }
    }
}

#[test]
fn popping_many_leaves_the_others() {
    let mut rng = Rng::with_seed(9);
    for size in [10usize, 18, 300] {
        for prefix in ["", "m"] {
            for count in [0, 1, size / 2, size - 9, size - 1, size, size + 5] {
                let members: Vec<String> = (0..size).map(|i| format!("{prefix}{i}")).collect();
                let mut set = set_of(&members.iter().map(String::as_str).collect::<Vec<_>>(), &narrow());
                let popped = set.pop_many(count, &mut rng, &narrow());
                assert_eq!(popped.len(), count.min(size));
                let left: Model = texts(set.iter()).into_iter().collect();
                let popped: Model = popped.into_iter().collect();
                assert_eq!(
                    (left.len(), popped.len()),
                    (size - count.min(size), count.min(size))
                );
                assert!(left.is_disjoint(&popped));
            }
        }
    }
}

#[test]
fn what_a_large_pop_leaves_is_small_again() {
    let members: Vec<String> = (0..300).map(|i| format!("m{i}")).collect();
    let mut set = set_of(&members.iter().map(String::as_str).collect::<Vec<_>>(), &narrow());
    assert_eq!(set.encoding(), "hashtable");
    set.pop_many(290, &mut Rng::with_seed(1), &narrow());
    assert_eq!((set.encoding(), set.len()), ("listpack", 10));
}

#[test]
fn a_scan_meets_what_stays_whatever_comes_and_goes() {
    let mut rng = Rng::with_seed(10);
    let limits = narrow();
    let mut set = Set::empty();
    let stays: Vec<Vec<u8>> = (0..1000).map(|i| format!("stays{i}").into_bytes()).collect();
    stays.iter().for_each(|member| assert!(set.add(member, &limits)));
    for _ in 0..5 {
        let (mut cursor, mut met, mut comes) = (0, BTreeSet::new(), 0);
        loop {
            cursor = set.scan(cursor, 10, |member| {
                met.insert(member.to_vec());
            });
            for _ in 0..rng.usize(0..40) {
                comes += 1;
                set.add(format!("comes{comes}").as_bytes(), &limits);
            }
            if rng.u32(0..4) == 0 {
                (0..comes).for_each(|i| {
                    set.remove(format!("comes{i}").as_bytes());
                });
            }
            if cursor == 0 {
                break;
            }
        }
        assert!(stays.iter().all(|member| met.contains(member)));
        (0..=comes).for_each(|i| {
            set.remove(format!("comes{i}").as_bytes());
        });
    }
}

#[test]
fn small_sets_are_scanned_whole() {
    let set = set_of(&["3", "1", "2"], &narrow());
    let mut met = Vec::new();
    assert_eq!(set.scan(0, 1, |member| met.push(member.to_vec())), 0);
    assert_eq!(met, [b"1", b"2", b"3"]);
}
