//! The tree against a sorted map, at sizes that split and merge nodes of every level.

use super::*;
use std::collections::BTreeMap;

/// As thin as the handles that are used in earnest, so that the nodes take as much.
type Name = &'static String;

impl Member for Name {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

type Tree = Ordered<Name>;

/// The text of a number, kept for as long as the tests run.
fn member(number: u64) -> Name {
    Box::leak(Box::new(format!("m{number:06}")))
}

fn slot(score: f64, member: Name) -> Slot<Name> {
    Slot { score, member }
}

fn listed(tree: &Tree, ranks: Range<usize>, reverse: bool) -> Vec<(f64, Name)> {
    let mut found = Vec::new();
    tree.visit(ranks, reverse, |slot| found.push((slot.score, slot.member)));
    found
}

/// Checks what the nodes say of each other, and returns (slots, heap bytes, depth).
fn check(node: &Node<Name>) -> (usize, usize, usize) {
    match node {
        Node::Leaf(slots) => {
            assert!(slots.len() <= LEAF_MOST && slots.capacity() <= LEAF_MOST + STEP);
            let sorted = slots
                .windows(2)
                .all(|pair| pair[0].is_before(pair[1].score, pair[1].member.bytes()));
            assert!(sorted);
            (slots.len(), block(slots), 1)
        }
        Node::Inner(inner) => {
            let children = inner.children.len();
            assert!((1..=INNER_MOST).contains(&children));
            assert!(inner.first.len() == children && inner.counts.len() == children);
            let (mut slots, mut bytes, mut depth) = (0, inner.bytes(), 0);
            for (at, child) in inner.children.iter().enumerate() {
                let below = check(child);
                assert!(below.0 > 0 && below.0 == inner.counts[at]);
                assert_eq!(inner.first[at].member, child.first().member);
                assert!(inner.first[at].score == child.first().score && (depth == 0 || depth == below.2 + 1));
                (slots, bytes, depth) = (slots + below.0, bytes + below.1, below.2 + 1);
            }
            (slots, bytes, depth)
        }
    }
}

fn check_tree(tree: &Tree) -> usize {
    let (slots, bytes, depth) = check(&tree.root);
    assert_eq!((slots, bytes), (tree.len(), tree.bytes()));
    depth
}

/// Scores as integers, so that they can be keys of the model.
type Model = BTreeMap<(i64, Name), ()>;

fn compare(tree: &Tree, model: &Model, rng: &mut fastrand::Rng) {
    check_tree(tree);
    let all: Vec<(f64, Name)> = model
        .keys()
        .map(|(score, member)| (*score as f64, *member))
        .collect();
    assert_eq!(listed(tree, 0..usize::MAX, false), all);
    for _ in 0..20 {
        let from = rng.usize(0..=all.len());
        let to = rng.usize(from..=all.len());
        assert_eq!(listed(tree, from..to, false), all[from..to]);
        let mut down = listed(tree, from..to, true);
        down.reverse();
        assert_eq!(down, all[from..to]);
        let Some((score, member)) = all.get(from) else {
            assert!(tree.select(from).is_none());
            continue;
        };
        assert_eq!(tree.rank(*score, member.bytes()), from);
        assert_eq!(tree.select(from).map(|slot| slot.member), Some(*member));
        let lower = all.partition_point(|(other, _)| other < score);
        assert_eq!(tree.partition(|slot| slot.score < *score), lower);
    }
}

/// Random changes of a tree and a map, growing to `size` and shrinking to nothing in turns.
fn random_changes(seed: u64, size: usize, scores: i64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut tree, mut model) = (Tree::default(), Model::new());
    for phase in 0..4 {
        let grows = phase % 2 == 0;
        for step in 0..size * 2 {
            let key = (rng.i64(0..scores), member(rng.u64(0..size as u64)));
            match rng.u8(0..100) {
                dice if (dice < 70) == grows => {
                    if model.insert(key, ()).is_none() {
                        tree.insert(slot(key.0 as f64, key.1));
                    }
                }
                0..=97 => {
                    let key = model.range(key..).next().map_or(key, |(key, ())| *key);
                    assert_eq!(
                        tree.remove(key.0 as f64, key.1.bytes()),
                        model.remove(&key).is_some()
                    );
                }
                98 => {
                    let to = rng.i64(0..scores);
                    if model.contains_key(&key) && !model.contains_key(&(to, key.1)) {
                        model.remove(&key);
                        model.insert((to, key.1), ());
                        assert!(tree.move_to(key.0 as f64, slot(to as f64, key.1)));
                    }
                }
                _ => remove_some(&mut tree, &mut model, &mut rng),
            }
            if step % (size / 3 + 1) == 0 {
                compare(&tree, &model, &mut rng);
            }
        }
        compare(&tree, &model, &mut rng);
    }
}

fn remove_some(tree: &mut Tree, model: &mut Model, rng: &mut fastrand::Rng) {
    let from = rng.usize(0..=model.len());
    let ranks = from..from + rng.usize(0..=model.len() / 20 + 1);
    let gone: Vec<_> = model
        .keys()
        .skip(from)
        .take(ranks.len())
        .map(|(score, member)| (*score, *member))
        .collect();
    let mut taken = Vec::new();
    tree.remove_ranks(ranks, |slot| taken.push((slot.score as i64, slot.member)));
    assert_eq!(taken, gone);
    gone.iter().for_each(|key| assert!(model.remove(key).is_some()));
}

#[test]
fn small_trees_behave_like_a_sorted_map() {
    (0..30).for_each(|seed| random_changes(seed, 10 + seed as usize * 10, 5));
}

#[test]
fn large_trees_behave_like_a_sorted_map() {
    random_changes(1, 20_000, 100_000);
    random_changes(2, 12_000, 3);
}

#[test]
fn removing_everything_in_any_order_leaves_an_empty_tree() {
    for how in 0..4 {
        let mut tree = Tree::from_sorted((0..10_000).map(|i| slot(i as f64, member(i))));
        check_tree(&tree);
        match how {
            0 => (0..10_000).for_each(|i| assert!(tree.remove(i as f64, member(i).bytes()))),
            1 => (0..10_000)
                .rev()
                .for_each(|i| assert!(tree.remove(i as f64, member(i).bytes()))),
            2 => tree.remove_ranks(0..10_000, |_| ()),
            _ => {
                for _ in 0..100 {
                    tree.remove_ranks(50..150, |_| ());
                    check_tree(&tree);
                }
                tree.remove_ranks(0..100, |_| ());
            }
        }
        assert!(tree.is_empty() && tree.bytes() <= 256, "{}", tree.bytes());
        tree.insert(slot(1.0, member(1)));
        check_tree(&tree);
    }
}

#[test]
fn ascending_and_descending_members_fill_their_leaves() {
    for descending in [false, true] {
        let mut tree = Tree::default();
        for i in 0..20_000 {
            let i = if descending { 20_000 - i } else { i };
            tree.insert(slot(i as f64, member(i)));
        }
        check_tree(&tree);
        assert!(tree.bytes() < 20_000 * 18, "{}", tree.bytes());
    }
}

#[test]
fn members_in_random_order_take_little_more_than_their_slots() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut tree = Tree::default();
    for i in 0..100_000 {
        tree.insert(slot(rng.f64(), member(i)));
    }
    assert!(check_tree(&tree) <= 4);
    assert!(tree.bytes() < 100_000 * 21, "{}", tree.bytes());
}

#[test]
fn a_built_tree_is_that_of_single_insertions() {
    for len in [0, 1, 55, 56, 57, 3584, 3585, 50_000] {
        let slots = || (0..len).map(|i| slot((i / 3) as f64, member(i)));
        let built = Tree::from_sorted(slots());
        check_tree(&built);
        let mut tree = Tree::default();
        slots().for_each(|slot| tree.insert(slot));
        assert_eq!(
            listed(&built, 0..usize::MAX, false),
            listed(&tree, 0..usize::MAX, false)
        );
    }
}

#[test]
fn zero_and_minus_zero_are_one_score() {
    let mut tree = Tree::default();
    tree.insert(slot(0.0, member(2)));
    tree.insert(slot(-0.0, member(1)));
    assert_eq!(tree.rank(-0.0, b"m000002"), 1);
    assert!(tree.remove(0.0, b"m000001") && !tree.remove(0.0, b"m000001"));
}
