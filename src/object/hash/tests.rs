//! Property tests of `Hash` against an ordered map, with the conversions between its encodings in the middle.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn small(entries: usize) -> Limits {
    Limits {
        hash_max_listpack_entries: entries,
        hash_max_listpack_value: 20,
        ..Limits::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>, Vec<u8>, FieldExpiry),
    Remove(Vec<u8>),
    SetExpiry(Vec<u8>, Option<i64>),
    Expire(i64, usize),
}

/// Few fields, some of them integers in their text.
fn field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0u8..40).prop_map(|n| n.to_string().into_bytes()),
        (0u8..40).prop_map(|n| format!("field{n}").into_bytes()),
        Just(b"".to_vec()),
        Just(b"007".to_vec()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..12),
        proptest::collection::vec(any::<u8>(), 12..24),
    ]
}

fn expiry() -> impl Strategy<Value = FieldExpiry> {
    prop_oneof![
        2 => Just(FieldExpiry::Clear),
        1 => Just(FieldExpiry::Keep),
        1 => (1i64..60).prop_map(FieldExpiry::At),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (field(), value(), expiry()).prop_map(|(f, v, e)| Step::Set(f, v, e)),
        3 => field().prop_map(Step::Remove),
        3 => (field(), proptest::option::of(1i64..60)).prop_map(|(f, e)| Step::SetExpiry(f, e)),
        1 => (0i64..60, 1usize..9).prop_map(|(now, most)| Step::Expire(now, most)),
    ]
}

fn contents(hash: &Hash) -> Model {
    let mut found = Model::new();
    hash.each(|pair| {
        let old = found.insert(pair.field.to_vec(), (pair.value.to_vec(), pair.expiry));
        assert!(old.is_none(), "a field is there once");
    });
    found
}

fn agree(hash: &Hash, model: &Model) {
    assert_eq!(&contents(hash), model);
    assert_eq!(hash.len(), model.len());
    let earliest = model.values().filter_map(|(_, expiry)| *expiry).min();
    assert!(hash.earliest_expiry() <= earliest.unwrap_or(i64::MAX));
    for (field, (value, expiry)) in model {
        assert!(hash.get(field).is_some_and(|found| found.eq_bytes(value)));
        assert_eq!(hash.expiry(field), Some(*expiry));
    }
    assert!(hash.get(b"absent").is_none() && hash.expiry(b"absent").is_none());
}

fn apply(hash: &mut Hash, model: &mut Model, step: Step, limits: &Limits) {
    match step {
        Step::Set(field, value, expiry) => {
            let old = model.get(&field).and_then(|(_, expiry)| *expiry);
            let is_new = hash.set(&field, &value, expiry, limits);
            assert_eq!(is_new, model.insert(field, (value, expiry.after(old))).is_none());
        }
        Step::Remove(field) => assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
        Step::SetExpiry(field, expiry) => {
            assert_eq!(hash.set_expiry(&field, expiry), model.contains_key(&field));
            model.entry(field).and_modify(|(_, old)| *old = expiry);
        }
        Step::Expire(now, most) => {
            let due = |expiry: Option<i64>| expiry.is_some_and(|at| at <= now);
            let expired = hash.expire(now, most);
            for field in &expired {
                assert!(model.remove(field).is_some_and(|(_, expiry)| due(expiry)));
            }
            let left = model.values().any(|(_, expiry)| due(*expiry));
            assert!(expired.len() >= most || !left);
            assert!(!left || hash.earliest_expiry() <= now);
        }
    }
}

proptest! {
    #[test]
    fn holds_what_a_map_holds(entries in 0usize..40, steps in proptest::collection::vec(step(), 1..150)) {
        let (mut hash, mut model) = (Hash::empty(), Model::new());
        let limits = small(entries);
        for step in steps {
            apply(&mut hash, &mut model, step, &limits);
            agree(&hash, &model);
        }
        agree(&hash.clone(), &model);
    }

    #[test]
    fn a_scan_meets_every_field_that_stays(
        entries in 0usize..60,
        before in proptest::collection::vec(step(), 1..100),
        between in proptest::collection::vec(step(), 1..100),
        count in 1usize..20,
    ) {
        let (mut hash, mut model) = (Hash::empty(), Model::new());
        let limits = small(entries);
        before.into_iter().for_each(|step| apply(&mut hash, &mut model, step, &limits));
        let mut stayed: BTreeSet<Vec<u8>> = model.keys().cloned().collect();
        let (mut cursor, mut met) = (0, BTreeSet::new());
        let mut steps = between.into_iter();
        loop {
            cursor = hash.scan(cursor, count, |pair| {
                met.insert(pair.field.to_vec());
            });
            if cursor == 0 {
                break;
            }
            steps.by_ref().take(5).for_each(|step| apply(&mut hash, &mut model, step, &limits));
            stayed.retain(|field| model.contains_key(field));
        }
        prop_assert!(met.is_superset(&stayed));
    }
}

fn filled(count: usize, limits: &Limits) -> Hash {
    let mut hash = Hash::empty();
    for n in 0..count {
        hash.set(
            format!("field{n}").as_bytes(),
            b"value",
            FieldExpiry::Clear,
            limits,
        );
    }
    hash
}

#[test]
fn encodings_follow_the_limits_and_do_not_go_back() {
    let limits = small(4);
    let mut hash = filled(4, &limits);
    assert_eq!(hash.encoding(), "listpack");
    hash.set_expiry(b"field1", Some(5));
    assert_eq!(hash.encoding(), "listpackex");
    assert_eq!(hash.earliest_expiry(), 5);
    hash.set_expiry(b"field1", None);
    assert_eq!(hash.encoding(), "listpackex");
    hash.set(b"fifth", b"", FieldExpiry::Clear, &limits);
    assert_eq!(hash.encoding(), "hashtable");
    (0..4).for_each(|n| assert!(hash.remove(format!("field{n}").as_bytes())));
    assert_eq!((hash.encoding(), hash.len()), ("hashtable", 1));
    let mut long = filled(1, &limits);
    long.set(b"field0", &[b'x'; 20], FieldExpiry::Clear, &limits);
    assert_eq!(long.encoding(), "listpack");
    long.set(b"field0", &[b'x'; 21], FieldExpiry::Clear, &limits);
    assert_eq!(long.encoding(), "hashtable");
}

#[test]
fn triples_stand_by_their_expiries() {
    let mut hash = filled(4, &small(9));
    for (field, at) in [("field3", 7), ("field0", 9), ("field2", 7)] {
        hash.set_expiry(field.as_bytes(), Some(at));
    }
    let mut order = Vec::new();
    hash.each(|pair| order.push((String::from_utf8(pair.field.to_vec()).unwrap(), pair.expiry)));
    let expected = [
        ("field3", Some(7)),
        ("field2", Some(7)),
        ("field0", Some(9)),
        ("field1", None),
    ];
    assert_eq!(order, expected.map(|(field, at)| (field.to_string(), at)));
}

#[test]
fn random_fields_are_drawn_equally_often_and_samples_are_distinct() {
    for (count, limits) in [(30, small(100)), (30, small(0)), (2000, small(0))] {
        let hash = filled(count, &limits);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut drawn: HashMap<Vec<u8>, usize> = HashMap::new();
        hash.draw(count * 100, &mut rng, |pair| {
            *drawn.entry(pair.field.to_vec()).or_default() += 1
        });
        assert_eq!(drawn.len(), count);
        assert!(drawn.values().all(|times| (40..170).contains(times)));
        assert!(hash.random(&mut rng).is_some());
        for wanted in [1, count / 5, count / 2, count - 1, count, count + 5] {
            let sample = hash.sample(wanted, &mut rng);
            let distinct: BTreeSet<Vec<u8>> = sample.iter().map(|pair| pair.field.to_vec()).collect();
            assert_eq!(
                (sample.len(), distinct.len()),
                (wanted.min(count), wanted.min(count))
            );
        }
    }
    let mut rng = fastrand::Rng::with_seed(1);
    assert!(Hash::empty().random(&mut rng).is_none() && Hash::empty().sample(3, &mut rng).is_empty());
}

#[test]
fn a_listpack_becomes_a_hash_only_if_it_is_one() {
    let list = |words: &[&str]| {
        let mut list = Listpack::new();
        words.iter().for_each(|word| list.push_back(word.as_bytes()));
        list
    };
    let hash = |words: &[&str]| Hash::from_packed(list(words), &small(2));
    assert!(hash(&["a", "1", "b"]).is_none() && hash(&["a", "1", "a", "2"]).is_none());
    let found = hash(&["a", "1", "7", "a"]).unwrap();
    assert_eq!(
        (found.encoding(), found.get(b"7").unwrap().to_vec()),
        ("listpack", b"a".to_vec())
    );
    assert_eq!(
        hash(&["a", "1", "7", "a", "c", ""]).unwrap().encoding(),
        "hashtable"
    );
    assert_eq!(
        hash(&["a", "123456789012345678901"]).unwrap().encoding(),
        "hashtable"
    );
}
