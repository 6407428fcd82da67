//! Packed lists against a plain `Vec`, against bytes that a real server wrote, and against damage.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn texts(list: &Listpack) -> Vec<Vec<u8>> {
    list.iter().map(|item| item.to_vec()).collect()
}

fn packed(elements: &[Vec<u8>]) -> Listpack {
    let mut list = Listpack::new();
    list.append_many(elements.iter().map(Vec::as_slice));
    list
}

/// Everything that can be asked of a list, against the model.
fn check(list: &Listpack, model: &[Vec<u8>]) {
    assert_eq!(texts(list), model);
    let backwards: Vec<_> = list.iter().rev().map(|item| item.to_vec()).collect();
    assert!(backwards.iter().eq(model.iter().rev()));
    assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
    assert_eq!(
        list.bytes(),
        7 + model.iter().map(|e| Listpack::bytes_of(e)).sum::<usize>()
    );
    let again = Listpack::from_bytes(list.as_bytes().into()).expect("a sound list");
    assert_eq!(again.as_bytes(), list.as_bytes());
    for index in -(model.len() as i64) - 2..model.len() as i64 + 2 {
        let expected = match index {
            0.. => model.get(index as usize),
            _ => model
                .len()
                .checked_sub(index.unsigned_abs() as usize)
                .and_then(|i| model.get(i)),
        };
        let got = list.at(index).map(|cursor| list.get(cursor).to_vec());
        assert_eq!(got.as_ref(), expected, "{index}");
    }
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    let number = (any::<i64>(), 0..64u32).prop_map(|(n, shift)| (n >> shift).to_string().into_bytes());
    let text = prop_oneof![0..80usize, 4090..4100usize, 16370..16390usize]
        .prop_flat_map(|len| vec(any::<u8>(), 1).prop_map(move |seed| vec![seed[0]; len]));
    let odd = prop_oneof![
        Just("-0"),
        Just("007"),
        Just("+1"),
        Just("9223372036854775808"),
        Just("1 "),
        Just("-")
    ];
    prop_oneof![4 => number, 2 => text, 1 => odd.prop_map(|s| s.as_bytes().to_vec())]
}

#[derive(Debug, Clone)]
enum Step {
    Back(Vec<u8>),
    Front(Vec<u8>),
    Int(i64),
    Before(usize, Vec<u8>),
    After(usize, Vec<u8>),
    Replace(usize, Vec<u8>),
    ReplaceInt(usize, i64),
    Remove(usize, usize),
    Many(Vec<Vec<u8>>),
    Split(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<usize>;
    prop_oneof![
        element().prop_map(Step::Back),
        element().prop_map(Step::Front),
        any::<i64>().prop_map(Step::Int),
        (at(), element()).prop_map(|(i, e)| Step::Before(i, e)),
        (at(), element()).prop_map(|(i, e)| Step::After(i, e)),
        (at(), element()).prop_map(|(i, e)| Step::Replace(i, e)),
        (at(), any::<i64>()).prop_map(|(i, v)| Step::ReplaceInt(i, v)),
        (at(), 0..4usize).prop_map(|(i, n)| Step::Remove(i, n)),
        vec(element(), 0..4).prop_map(Step::Many),
        at().prop_map(Step::Split),
    ]
}

fn text(value: i64) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Applies a step to both; steps at an element do nothing in an empty list.
fn apply(list: &mut Listpack, model: &mut Vec<Vec<u8>>, step: Step) {
    let place = |list: &Listpack, i: usize| {
        let i = i.checked_rem(list.len())?;
        Some((i, list.at(i as i64).expect("within the list")))
    };
    match step {
        Step::Back(e) => {
            list.push_back(&e);
            model.push(e);
        }
        Step::Front(e) => {
            list.push_front(&e);
            model.insert(0, e);
        }
        Step::Int(v) => {
            list.push_back_int(v);
            model.push(text(v));
        }
        Step::Many(es) => {
            list.append_many(es.iter().map(Vec::as_slice));
            model.extend(es);
        }
        Step::Before(i, e) => {
            let Some((i, cursor)) = place(list, i) else { return };
            let new = list.insert_before(cursor, &e);
            assert!(list.get(new).eq_bytes(&e));
            model.insert(i, e);
        }
        Step::After(i, e) => {
            let Some((i, cursor)) = place(list, i) else { return };
            let new = list.insert_after(cursor, &e);
            assert!(list.get(new).eq_bytes(&e));
            model.insert(i + 1, e);
        }
        Step::Replace(i, e) => {
            let Some((i, cursor)) = place(list, i) else { return };
            assert_eq!(list.replace(cursor, &e), cursor);
            model[i] = e;
        }
        Step::ReplaceInt(i, v) => {
            let Some((i, cursor)) = place(list, i) else { return };
            list.replace_int(cursor, v);
            model[i] = text(v);
        }
        Step::Remove(i, n) => {
            let Some((i, cursor)) = place(list, i) else { return };
            let next = list.remove(cursor, n);
            model.drain(i..(i + n).min(model.len()));
            assert_eq!(next.map(|c| list.get(c).to_vec()), model.get(i).cloned());
        }
        Step::Split(i) => {
            let Some((i, cursor)) = place(list, i) else { return };
            let tail = list.split_off(cursor);
            check(&tail, &model[i..]);
            check(list, &model[..i]);
            list.append(&tail);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_vec(steps in vec(step(), 1..40)) {
        let (mut list, mut model) = (Listpack::new(), Vec::new());
        for step in steps {
            apply(&mut list, &mut model, step);
            check(&list, &model);
        }
    }

    #[test]
    fn finds_what_is_there_at_every_stride(elements in vec(element(), 1..20), skip in 0..3usize, pick in any::<usize>(), other in element()) {
        let list = packed(&elements);
        for wanted in [&elements[pick % elements.len()], &other] {
            let expected = elements.iter().step_by(skip + 1).position(|e| e == wanted).map(|i| i * (skip + 1));
            let got = list.find(list.first().expect("not empty"), wanted, skip);
            prop_assert_eq!(got, expected.and_then(|i| list.at(i as i64)));
        }
    }

    #[test]
    fn damage_gives_an_error_or_a_sound_list(elements in vec(element(), 0..8), hits in vec((any::<usize>(), any::<u8>()), 1..4), cut in 0..4usize) {
        let mut bytes = packed(&elements).as_bytes().to_vec();
        for (at, byte) in hits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(list) = Listpack::from_bytes(bytes.into()) {
            check(&list, &texts(&list));
        }
    }

    #[test]
    fn items_know_their_text(element in element()) {
        let list = packed(std::slice::from_ref(&element));
        let item = list.iter().next().expect("one element");
        prop_assert_eq!(item.to_vec(), element.clone());
        prop_assert_eq!(item.len(), element.len());
        prop_assert!(item.eq_bytes(&element) && item.with_bytes(|text| text == element));
        prop_assert!(!item.eq_bytes(&[&element[..], b"0"].concat()));
    }
}

#[test]
fn bytes_are_those_of_a_real_server() {
    let mut list = Listpack::new();
    for value in [
        0,
        127,
        128,
        -1,
        4095,
        -4096,
        4096,
        32767,
        32768,
        -8388608,
        8388608,
        i32::MIN as i64,
        1 << 40,
    ] {
        list.push_back_int(value);
    }
    list.push_back(b"a");
    list.push_back(&[b'x'; 64]);
    list.push_back(&[b'y'; 4096]);
    let written = include_bytes!("testdata/listpack-of-redis-7.0");
    assert!(list.as_bytes() == written);
    assert_eq!(Listpack::from_bytes(written[..].into()), Ok(list));
}

#[test]
fn longer_forms_than_needed_are_rewritten() {
    // "1" as a string, 2 as 13 bits, 3 as 64 bits.
    let bytes = b"\x19\0\0\0\x03\0\x811\x02\xc0\x02\x02\xf4\x03\0\0\0\0\0\0\0\x09\xff";
    let mut bytes = bytes.to_vec();
    bytes[0] = bytes.len() as u8;
    let list = Listpack::from_bytes(bytes.into()).expect("sound elements");
    assert_eq!(list, packed(&[b"1".to_vec(), b"2".to_vec(), b"3".to_vec()]));
}

#[test]
fn the_count_is_given_up_at_65535_and_comes_back_when_empty() {
    let mut list = Listpack::new();
    let many = vec![vec![b'1']; 65_534];
    list.append_many(many.iter().map(Vec::as_slice));
    assert_eq!((list.count(), list.len()), (65_534, 65_534));
    list.push_back(b"2");
    list.push_back(b"3");
    assert_eq!((list.count(), list.len()), (UNCOUNTED, 65_536));
    assert_eq!(list.at(65_535).map(|c| list.get(c)), Some(Item::Int(3)));
    assert_eq!((list.at(65_536), list.at(-65_537)), (None, None));
    let all = list.first().expect("not empty");
    assert_eq!(list.remove(all, usize::MAX), None);
    assert_eq!(list, Listpack::new());
}

#[test]
fn runs_of_elements_change_places_and_many_go_in_at_once() {
    let texts = |list: &Listpack| list.iter().map(|item| item.to_vec()).collect::<Vec<_>>();
    let mut list = Listpack::new();
    list.append_many([&b"a"[..], b"longer", b"7", b"-70000"].into_iter());
    let at = |list: &Listpack, index| list.at(index).expect("an element");
    let (first, second, last) = (at(&list, 0), at(&list, 1), at(&list, 3));
    list.exchange(first, second, Some(last));
    assert_eq!(texts(&list), [&b"longer"[..], b"7", b"a", b"-70000"]);
    let (first, second) = (at(&list, 0), at(&list, 2));
    list.exchange(first, second, None);
    assert_eq!(texts(&list), [&b"a"[..], b"-70000", b"longer", b"7"]);
    list.insert_many(Some(at(&list, 2)), [&b"12"[..], b"x"].into_iter());
    assert_eq!(texts(&list), [&b"a"[..], b"-70000", b"12", b"x", b"longer", b"7"]);
    assert_eq!(list.len(), 6);
    let read = Listpack::from_bytes(list.as_bytes().into()).expect("a sound list");
    assert_eq!(texts(&read), texts(&list));
}
