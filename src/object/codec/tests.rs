//! Values of every type and encoding through the codec and back; damaged bytes; forms that only older servers write.

use super::*;
use crate::object::hash::FieldExpiry;
use crate::object::list::Side;
use crate::object::stream::{Pending, StreamId};
use crate::object::{Hash, List, Native, Set, SortedSet, Stream};
use proptest::collection::vec;
use proptest::prelude::*;

const FORMS: [Form; 4] = [
    Form::ROW,
    Form::DUMP,
    Form {
        version: 11,
        compress: true,
    },
    Form {
        version: 12,
        compress: true,
    },
];

/// Limits of a few elements, so that every encoding is met.
fn narrow() -> Limits {
    Limits {
        hash_max_listpack_entries: 4,
        hash_max_listpack_value: 30,
        set_max_intset_entries: 4,
        set_max_listpack_entries: 4,
        set_max_listpack_value: 30,
        zset_max_listpack_entries: 4,
        zset_max_listpack_value: 30,
        list_max_listpack_size: 4,
        stream_node_max_entries: 3,
        ..Limits::default()
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let number = (any::<i64>(), 0..64u32).prop_map(|(n, shift)| (n >> shift).to_string().into_bytes());
    let letters = (0..60usize, b'a'..=b'e').prop_map(|(len, letter)| vec![letter; len]);
    prop_oneof![3 => number, 2 => letters, 1 => vec(any::<u8>(), 0..40)]
}

fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(text(), 1..10)
}

/// An object that a failing test can show.
struct Sample(Object);

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.0.encoding(), content(&self.0))
    }
}

fn list() -> impl Strategy<Value = Sample> {
    texts().prop_map(|texts| {
        let mut list = List::empty();
        texts
            .iter()
            .for_each(|text| list.push(Side::Back, &[text], &narrow()));
        Sample(list.into_object())
    })
}

fn set() -> impl Strategy<Value = Sample> {
    let numbers = vec(any::<i32>().prop_map(|n| n.to_string().into_bytes()), 1..10);
    prop_oneof![texts(), numbers].prop_map(|members| {
        let mut set = Set::for_members(&members[0], 1, &narrow());
        members.iter().for_each(|member| {
            set.add(member, &narrow());
        });
        Sample(set.into_object())
    })
}

fn sorted_set() -> impl Strategy<Value = Sample> {
    let score = prop_oneof![
        any::<i16>().prop_map(f64::from),
        any::<f64>().prop_filter("a number", |score| !score.is_nan())
    ];
    vec((text(), score), 1..10).prop_map(|pairs| {
        let mut set = SortedSet::empty();
        pairs.iter().for_each(|(member, score)| {
            set.set(member, *score, &narrow());
        });
        Sample(set.into_object())
    })
}

fn hash() -> impl Strategy<Value = Sample> {
    let time = prop_oneof![3 => Just(None), 1 => (1..1i64 << 44).prop_map(Some)];
    vec((text(), text(), time), 1..10).prop_map(|fields| {
        let mut hash = Hash::empty();
        for (field, value, time) in &fields {
            let expiry = time.map_or(FieldExpiry::Clear, FieldExpiry::At);
            hash.set(field, value, expiry, &narrow());
        }
        Sample(hash.into_object())
    })
}

fn stream() -> impl Strategy<Value = Sample> {
    let entries = vec((0..3u64, vec((text(), text()), 1..3)), 0..10);
    let deleted = vec(any::<usize>(), 0..4);
    let groups = vec((text(), any::<bool>(), vec((0..3u8, 0..30u64), 0..6)), 0..3);
    (entries, deleted, groups).prop_map(|(entries, deleted, groups)| {
        let mut stream = Stream::empty();
        let mut ids = vec![];
        for (step, pairs) in &entries {
            let last = stream.log().last_id;
            let id = StreamId::new(last.ms + step, last.seq + 1);
            let pairs: Vec<&[u8]> = pairs.iter().flat_map(|(f, v)| [&f[..], &v[..]]).collect();
            stream.log_mut().append(id, &pairs, &narrow());
            ids.push(id);
        }
        for at in deleted {
            ids.get(at % (entries.len() + 1))
                .map(|id| stream.log_mut().delete(*id));
        }
        for (name, known, pending) in groups {
            let (last, read) = (stream.log().last_id, known.then_some(7));
            stream.groups_mut().create(&name, last, read);
            let Some(mut group) = stream.groups_mut().get_mut(&name) else {
                continue;
            };
            for (consumer, ms) in pending {
                let (consumer, _) = group.create_consumer(&[b'c', consumer], 5);
                group.note(consumer, ms as i64, ms % 2 == 0);
                let pending = Pending {
                    delivered_ms: 1 << 40,
                    deliveries: ms,
                    consumer,
                };
                group.set_pending(StreamId::new(ms, 1), pending);
            }
        }
        Sample(stream.into_object())
    })
}

fn object() -> impl Strategy<Value = Sample> {
    prop_oneof![list(), set(), sorted_set(), hash(), stream()]
}

/// All that a value holds; without order where the type has none.
fn content(object: &Object) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut all: Vec<String> = vec![];
    match object {
        Object::List(list) => all.extend(list.walk(Side::Front, 0).map(|item| text(&item.to_vec()))),
        Object::Set(set) => all.extend(set.iter().map(|item| text(&item.to_vec()))),
        Object::SortedSet(set) => set.visit(0..usize::MAX, false, |member, score| {
            all.push(format!("{} {score:?}", text(member)));
        }),
        Object::Hash(hash) => hash.each(|pair| {
            let (field, value) = (text(&pair.field.to_vec()), text(&pair.value.to_vec()));
            all.push(format!("{field} {value} {:?}", pair.expiry));
        }),
        Object::Stream(stream) => all.extend(stream_content(stream)),
    }
    if matches!(object, Object::Set(_) | Object::Hash(_)) {
        all.sort();
    }
    all
}

fn stream_content(stream: &Stream) -> Vec<String> {
    let log = stream.log();
    let mut all = vec![format!(
        "{} {} {} {} {}",
        log.len(),
        log.first_id(),
        log.last_id,
        log.max_deleted_id,
        log.entries_added
    )];
    all.extend(log.iter().map(|entry| {
        let fields: Vec<_> = entry.fields.map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
        format!("{} {fields:?}", entry.id)
    }));
    for (name, group) in stream.groups().iter() {
        all.push(format!("{name:?} {} {:?}", group.last_id, group.entries_read));
        for (id, pending) in group.pending(StreamId::ZERO, StreamId::MAX) {
            let name = group.consumer(pending.consumer).name().to_vec();
            all.push(format!(
                "{id} {} {} {name:?}",
                pending.delivered_ms, pending.deliveries
            ));
        }
        for consumer in group.consumers() {
            let pending: Vec<_> = consumer.pending(StreamId::ZERO, StreamId::MAX).collect();
            all.push(format!(
                "{:?} {} {} {pending:?}",
                consumer.name(),
                consumer.seen_ms,
                consumer.active_ms
            ));
        }
    }
    all
}

fn decoded(bytes: &[u8]) -> Object {
    decode_object(bytes, &narrow()).unwrap_or_else(|e| panic!("{e}: {bytes:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn objects_come_back_in_the_same_encoding(Sample(object) in object()) {
        for form in FORMS {
            let mut bytes = Vec::new();
            encode(&mut bytes, ValueRef::Object(&object), form);
            let back = decoded(&bytes);
            prop_assert_eq!(type_name(&bytes), Ok(object.type_name()));
            let times_lost = form.version < 11 && matches!(object, Object::Stream(_));
            if !times_lost {
                prop_assert_eq!(content(&back), content(&object));
            }
            if form.version >= 11 {
                prop_assert_eq!(back.encoding(), object.encoding());
            }
            prop_assert_eq!(back.len(), object.len());
            bytes.push(0);
            prop_assert!(decode(&bytes, &narrow()).is_err());
        }
    }

    #[test]
    fn damaged_objects_give_an_error_or_a_sound_value(Sample(object) in object(), hits in vec((any::<usize>(), any::<u8>()), 1..4), cut in 0..3usize) {
        let mut bytes = Vec::new();
        encode(&mut bytes, ValueRef::Object(&object), Form::ROW);
        for (at, byte) in hits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(Value::Object(object)) = decode(&bytes, &narrow()) {
            let mut again = Vec::new();
            encode_object(&mut again, &object);
            prop_assert_eq!(content(&decoded(&again)), content(&object));
        }
    }

    #[test]
    fn noise_never_panics(kind in 0..30u8, bytes in vec(any::<u8>(), 0..60)) {
        let bytes = [&[kind][..], &bytes].concat();
        let _ = decode(&bytes, &Limits::default());
    }
}

#[test]
fn strings_of_every_length_class_read_back_where_they_stand() {
    for len in [0, 1, 63, 64, 16383, 16384, 70_000] {
        let value = vec![b'x'; len];
        let mut bytes = Vec::new();
        encode_string(&mut bytes, &value);
        assert_eq!(decode_string(&bytes), Ok(&value[..]));
        let short = decode_string(&bytes[..bytes.len() - 1]).map_err(|e| e.problem);
        assert_eq!(short, Err(Problem::Short));
        bytes.push(0);
        assert_eq!(
            decode_string(&bytes).map_err(|e| e.problem),
            Err(Problem::Trailing)
        );
    }
}

#[test]
fn forms_of_older_servers_are_read() {
    let listed = |bytes: &[u8]| content(&decoded(bytes));
    assert_eq!(listed(b"\x01\x03\x01a\xc0\x05\xc1\x00\x01"), ["a", "5", "256"]);
    let scores = b"\x03\x03\x01a\x031.5\x01b\xff\x01c\xfe";
    assert_eq!(listed(scores), ["b -inf", "a 1.5", "c inf"]);
    assert_eq!(
        listed(b"\x09\x0d\x01\x03foo\x05\x00hello\xff"),
        ["foo hello None"]
    );
    // A hash of the release candidates that had field times first: none, then 258.
    assert_eq!(
        listed(b"\x16\x02\x00\x01a\x01b\x41\x02\x01c\x01d"),
        ["a b None", "c d Some(258)"]
    );
    assert_eq!(
        listed(b"\x18\x00\x01\0\0\0\0\0\0\x02\x00\x01a\x01b\x03\x01c\x01d"),
        ["a b None", "c d Some(258)"]
    );
}

#[test]
fn what_is_there_twice_or_not_at_all_is_refused() {
    let problem = |bytes: &[u8]| decode(bytes, &narrow()).map(|_| ()).map_err(|e| e.problem);
    assert_eq!(problem(b"\x02\x02\x01a\x01a"), Err(Problem::Duplicate));
    assert_eq!(problem(b"\x04\x02\x01a\x01b\x01a\x01b"), Err(Problem::Duplicate));
    assert_eq!(problem(b"\x03\x02\x01a\x011\x01a\x012"), Err(Problem::Duplicate));
    assert_eq!(problem(b"\x03\x01\x01a\xfd"), Err(Problem::Number));
    for empty in [
        &b"\x01\x00"[..],
        b"\x02\x00",
        b"\x03\x00",
        b"\x04\x00",
        b"\x0b\x08\x02\0\0\0\0\0\0\0",
        b"\x12\x00",
    ] {
        assert_eq!(problem(empty), Err(Problem::Empty), "{empty:?}");
    }
    assert_eq!(
        problem(b"\x10\x0a\x0a\0\0\0\x01\0\x81a\x02\xff"),
        Err(Problem::Half)
    );
    assert_eq!(problem(b"\x07\x00"), Err(Problem::Module));
    assert_eq!(problem(b"\x63\x00"), Err(Problem::Type(0x63)));
    assert_eq!(
        problem(b"\x02\x81\xff\xff\xff\xff\xff\xff\xff\xff"),
        Err(Problem::Short)
    );
}

#[test]
fn a_small_list_of_another_server_is_packed() {
    let list = decode_object(
        b"\x12\x01\x02\x0d\x0d\0\0\0\x02\0\x81a\x02\x81b\x02\xff",
        &Limits::default(),
    );
    assert_eq!(list.map(|list| list.encoding()), Ok("listpack"));
}
