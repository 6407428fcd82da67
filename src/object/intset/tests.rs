//! Intsets against a `BTreeSet`, and against damage.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn value() -> impl Strategy<Value = i64> {
    let border = [
        i16::MIN as i64,
        i16::MAX as i64,
        i32::MIN as i64,
        i32::MAX as i64,
        i64::MIN,
        i64::MAX,
    ];
    prop_oneof![
        4 => -20..20i64,
        1 => any::<i16>().prop_map(i64::from),
        1 => any::<i32>().prop_map(i64::from),
        1 => any::<i64>(),
        1 => (0..6usize, -1..=1i64).prop_map(move |(i, d)| border[i].saturating_add(d)),
    ]
}

fn check(set: &Intset, model: &BTreeSet<i64>) {
    assert!(set.iter().eq(model.iter().copied()));
    assert!(set.iter().rev().eq(model.iter().rev().copied()));
    assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
    assert_eq!(Intset::from_bytes(set.as_bytes().into()).as_ref(), Ok(set));
    assert!(
        (0..model.len() + 1)
            .map(|i| set.get(i))
            .eq(model.iter().copied().map(Some).chain([None]))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_sorted_set(steps in vec((any::<bool>(), value()), 1..60)) {
        let (mut set, mut model) = (Intset::new(), BTreeSet::new());
        for (add, value) in steps {
            if add {
                assert_eq!(set.add(value), model.insert(value));
            } else {
                assert_eq!(set.remove(value), model.remove(&value));
            }
            assert_eq!(set.contains(value), add);
            check(&set, &model);
        }
    }

    #[test]
    fn damage_gives_an_error_or_a_sound_set(values in vec(value(), 0..8), hits in vec((any::<usize>(), any::<u8>()), 1..4), cut in 0..4usize) {
        let mut set = Intset::new();
        for value in values {
            set.add(value);
        }
        let mut bytes = set.as_bytes().to_vec();
        for (at, byte) in hits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(set) = Intset::from_bytes(bytes.into()) {
            check(&set, &set.iter().collect());
        }
    }
}

#[test]
fn the_width_is_that_of_the_widest_member_there_has_been() {
    let mut set = Intset::new();
    set.add(5);
    assert_eq!(set.as_bytes(), b"\x02\0\0\0\x01\0\0\0\x05\0");
    set.add(-40_000);
    assert_eq!(set.as_bytes(), b"\x04\0\0\0\x02\0\0\0\xc0\x63\xff\xff\x05\0\0\0");
    set.remove(-40_000);
    assert_eq!(set.as_bytes(), b"\x04\0\0\0\x01\0\0\0\x05\0\0\0");
}
