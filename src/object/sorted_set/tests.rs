//! Sorted sets against a plain model, in both encodings and across the change from one to the other.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SMALL: Limits = limits(8, 6);
const NEVER_PACKED: Limits = limits(0, 0);

const fn limits(entries: usize, value: usize) -> Limits {
    Limits {
        hash_max_listpack_entries: 0,
        hash_max_listpack_value: 0,
        set_max_intset_entries: 0,
        set_max_listpack_entries: 0,
        set_max_listpack_value: 0,
        zset_max_listpack_entries: entries,
        zset_max_listpack_value: value,
        list_max_listpack_size: -2,
        stream_node_max_bytes: 0,
        stream_node_max_entries: 0,
        hll_sparse_max_bytes: 0,
        hash_seed: 7,
    }
}

/// Scores by member, and nothing else.
#[derive(Default)]
struct Model(BTreeMap<Vec<u8>, f64>);

type Pair = (Vec<u8>, f64);

impl Model {
    fn sorted(&self) -> Vec<Pair> {
        let mut pairs: Vec<Pair> = self
            .0
            .iter()
            .map(|(member, score)| (member.clone(), *score))
            .collect();
        pairs.sort_by(|one, other| compare(one.1, &one.0, other.1, &other.0));
        pairs
    }

    fn before(&self, cut: &Cut<'_>) -> usize {
        let pairs = self.sorted();
        let before = pairs
            .iter()
            .take_while(|(member, score)| cut.is_behind(*score, member));
        before.count()
    }
}

fn listed(set: &SortedSet, ranks: Range<usize>, reverse: bool) -> Vec<Pair> {
    let mut found = Vec::new();
    set.visit(ranks, reverse, |member, score| {
        found.push((member.to_vec(), score))
    });
    found
}

fn scanned(set: &SortedSet) -> Vec<Pair> {
    let (mut found, mut cursor) = (Vec::new(), 0);
    loop {
        cursor = set.scan(cursor, 7, |member, score| found.push((member.to_vec(), score)));
        if cursor == 0 {
            found.sort_by(|one, other| compare(one.1, &one.0, other.1, &other.0));
            return found;
        }
    }
}

fn assert_equal(set: &SortedSet, model: &Model) {
    let all = model.sorted();
    assert_eq!(set.len(), all.len());
    assert_eq!(listed(set, 0..usize::MAX, false), all);
    assert_eq!(scanned(set), all);
    for (rank, (member, score)) in all.iter().enumerate() {
        assert_eq!(set.score(member), Some(*score));
        assert_eq!(set.rank(member), Some((rank, *score)));
    }
    let mut copy = set.clone();
    assert_eq!(listed(&copy, 0..usize::MAX, false), all);
    copy.remove_ranks(0..usize::MAX, |_, _| ());
    assert!(copy.is_empty());
    assert_eq!(set.len(), all.len());
}

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>, f64),
    Decline(Vec<u8>),
    Remove(Vec<u8>),
    RemoveRanks(usize, usize),
    Walk(usize, usize, bool),
    Cut(f64, bool),
    CutMember(Vec<u8>, bool),
}

fn a_score() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-3i32..4).prop_map(f64::from),
        prop_oneof![
            Just(0.5),
            Just(-0.0),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(1e300),
            Just(5e-324)
        ],
        any::<f64>().prop_filter("a number", |score| !score.is_nan()),
    ]
}

/// Mostly few, so that they meet again; some are integers, some too long for the packed encoding.
fn a_member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u32..40).prop_map(|n| format!("m{n}").into_bytes()),
        4 => (-20i32..20).prop_map(|n| n.to_string().into_bytes()),
        1 => Just(Vec::new()),
        1 => (7usize..300).prop_map(|len| vec![b'x'; len]),
    ]
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (a_member(), a_score()).prop_map(|(member, score)| Step::Set(member, score)),
        1 => a_member().prop_map(Step::Decline),
        5 => a_member().prop_map(Step::Remove),
        1 => (0usize..40, 0usize..5).prop_map(|(from, len)| Step::RemoveRanks(from, len)),
        2 => (0usize..40, 0usize..40, any::<bool>()).prop_map(|(from, len, reverse)| Step::Walk(from, len, reverse)),
        2 => (a_score(), any::<bool>()).prop_map(|(score, behind)| Step::Cut(score, behind)),
        1 => (a_member(), any::<bool>()).prop_map(|(member, behind)| Step::CutMember(member, behind)),
    ]
}

fn side(behind: bool) -> Side {
    if behind { Side::Behind } else { Side::Before }
}

fn run(set: &mut SortedSet, model: &mut Model, step: Step, limits: &Limits) {
    match step {
        Step::Set(member, score) => {
            let expected = match model.0.get(&member) {
                None => Update::Added,
                Some(old) if *old == score => Update::Kept,
                Some(_) => Update::Moved,
            };
            assert_eq!(set.set(&member, score, limits), expected);
            if expected != Update::Kept {
                model.0.insert(member, score);
            }
        }
        Step::Decline(member) => {
            let old = model.0.get(&member).copied();
            let update = set.update(&member, limits, |found| {
                assert_eq!(found, old);
                None
            });
            assert_eq!(update, Update::Kept);
        }
        Step::Remove(member) => assert_eq!(set.remove(&member), model.0.remove(&member)),
        Step::RemoveRanks(from, len) => {
            let gone: Vec<Pair> = model.sorted().into_iter().skip(from).take(len).collect();
            let mut taken = Vec::new();
            set.remove_ranks(from..from + len, |member, score| {
                taken.push((member.to_vec(), score))
            });
            assert_eq!(taken, gone);
            model
                .0
                .retain(|member, _| !gone.iter().any(|(other, _)| other == member));
        }
        Step::Walk(from, len, reverse) => {
            let mut expected: Vec<Pair> = model.sorted().into_iter().skip(from).take(len).collect();
            if reverse {
                expected.reverse();
            }
            assert_eq!(listed(set, from..from + len, reverse), expected);
        }
        Step::Cut(score, behind) => {
            let cut = Cut::Score(score, side(behind));
            assert_eq!(set.position(&cut), model.before(&cut));
        }
        Step::CutMember(member, behind) => {
            // Members alone are in order only where no score differs.
            let mut scores = model.0.values();
            let first = scores.next().copied();
            if scores.all(|score| Some(*score) == first) {
                let cut = Cut::Member(&member, side(behind));
                assert_eq!(set.position(&cut), model.before(&cut));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sets_of_every_encoding_behave_like_the_model(steps in prop::collection::vec(a_step(), 1..120)) {
        for limits in [SMALL, NEVER_PACKED, Limits::default()] {
            let (mut set, mut model) = (SortedSet::empty(), Model::default());
            for step in steps.clone() {
                run(&mut set, &mut model, step, &limits);
            }
            assert_equal(&set, &model);
        }
    }

    #[test]
    fn members_of_one_score_are_cut_by_their_bytes(
        members in prop::collection::vec(a_member(), 1..60), cut in a_member(), behind in any::<bool>(),
    ) {
        for limits in [SMALL, Limits::default()] {
            let (mut set, mut model) = (SortedSet::empty(), Model::default());
            for member in &members {
                run(&mut set, &mut model, Step::Set(member.clone(), 1.0), &limits);
            }
            run(&mut set, &mut model, Step::CutMember(cut.clone(), behind), &limits);
        }
    }

    #[test]
    fn sets_made_at_once_are_those_of_single_additions(pairs in prop::collection::vec((a_member(), a_score()), 0..40)) {
        let mut model = Model::default();
        for (member, score) in pairs {
            model.0.insert(member, score);
        }
        for limits in [SMALL, NEVER_PACKED, Limits::default()] {
            let pairs: Vec<_> = model.0.iter().map(|(member, score)| (member.clone().into(), *score)).collect();
            let set = SortedSet::from_pairs(pairs, &limits);
            assert_equal(&set, &model);
            if let Some(list) = set.as_listpack() {
                let read = SortedSet::from_listpack(list.clone(), &NEVER_PACKED).expect("a sorted set");
                assert_equal(&read, &model);
            }
        }
    }
}

#[test]
fn the_encoding_changes_where_the_limits_say_and_never_back() {
    let mut set = SortedSet::empty();
    for i in 0..8 {
        set.set(format!("m{i}").as_bytes(), 1.0, &SMALL);
    }
    assert_eq!(set.encoding(), "listpack");
    set.set(b"m3", 7.0, &SMALL);
    assert_eq!(set.encoding(), "listpack");
    set.set(b"m8", 1.0, &SMALL);
    assert_eq!(set.encoding(), "skiplist");
    set.remove_ranks(1..usize::MAX, |_, _| ());
    assert_eq!((set.encoding(), set.len()), ("skiplist", 1));
    let mut set = SortedSet::empty();
    set.set(b"sixlng", 1.0, &SMALL);
    assert_eq!(set.encoding(), "listpack");
    set.set(b"seven l", 1.0, &SMALL);
    assert_eq!(set.encoding(), "skiplist");
}

#[test]
fn a_large_set_takes_few_bytes_beside_its_members() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut set = SortedSet::empty();
    for i in 0..50_000 {
        set.set(format!("member:{i:09}").as_bytes(), rng.f64(), &Limits::default());
    }
    // A member of 16 bytes is a block of 32 with its score.
    let each = set.bytes() / set.len();
    assert!(each <= 32 + 24 + 11, "{each}");
    set.remove_ranks(10..usize::MAX, |_, _| ());
    assert!(set.bytes() < 4096, "{}", set.bytes());
}

#[test]
fn members_of_any_length_are_kept() {
    for len in [0, 1, 254, 255, 256, 70_000] {
        let mut set = SortedSet::empty();
        set.set(&vec![b'x'; len], 1.5, &NEVER_PACKED);
        assert_eq!(listed(&set, 0..1, false), [(vec![b'x'; len], 1.5)]);
        assert_eq!(set.remove(&vec![b'x'; len]), Some(1.5));
    }
}

#[test]
fn members_given_twice_and_scores_that_are_no_numbers_do_no_harm() {
    let pairs = |scores: &[f64]| scores.iter().map(|score| (b"m"[..].into(), *score)).collect();
    let mut set = SortedSet::from_pairs(pairs(&[1.0, 1.0, f64::NAN, 2.0]), &NEVER_PACKED);
    assert_eq!(listed(&set, 0..9, false), [(b"m".to_vec(), 1.0)]);
    assert_eq!(set.set(b"m", f64::NAN, &NEVER_PACKED), Update::Kept);
    assert_eq!(set.set(b"new", f64::NAN, &NEVER_PACKED), Update::Kept);
    assert_eq!((set.remove(b"m"), set.len()), (Some(1.0), 0));
}
