//! The request parser and the reply writer against `redis-protocol`, an independent implementation of the same
//! protocol, and against themselves: however the bytes are cut, the same requests are found.

use std::iter;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use redis_protocol::resp2::types::{OwnedFrame as Frame2, Resp2Frame};
use redis_protocol::resp3::types::{OwnedFrame as Frame3, VerbatimStringFormat};
use redis_protocol::{resp2, resp3};
use terrace::resp;
use terrace::resp::{Limits, Protocol, Reply};

#[path = "../fuzz/feed.rs"]
mod feed;
use feed::{Outcome, feed};

fn encoded(args: &[Vec<u8>]) -> Vec<u8> {
    let frame = Frame2::Array(args.iter().cloned().map(Frame2::BulkString).collect());
    let mut bytes = vec![0; frame.encode_len(false)];
    let len = resp2::encode::encode(&mut bytes, &frame, false).unwrap();
    bytes.truncate(len);
    bytes
}

fn any_bytes(max_len: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max_len)
}

/// Bytes that come close to requests, so that chance gets somewhere.
fn near_requests() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "*1\r\n",
        "*2\r\n",
        "*11\r\n",
        "*0\r\n",
        "*-1\r\n",
        "*",
        "$",
        "$0\r\n",
        "$3\r\n",
        "$20\r\n",
        "$101\r\n",
        "$-1\r\n",
        "\r\n",
        "\r",
        "\n",
        "GET",
        "abc\r\n",
        "PING\r\n",
        "SET a b\n",
        " ",
        "\"",
        "'",
        "\\x4",
        "\\",
        "0",
        "0123456789",
        "$16385\r\n",
        "*1\r\n$4\r\nPING\r\n",
    ];
    let word = prop_oneof![
        8 => proptest::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => any_bytes(4),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

fn limits() -> impl Strategy<Value = Limits> {
    (any::<bool>(), 8usize..60, 0usize..120).prop_map(|(authenticated, max_inline_len, max_bulk_len)| {
        Limits {
            authenticated,
            max_inline_len,
            max_bulk_len: if authenticated { max_bulk_len } else { 1 << 20 },
            ..Limits::default()
        }
    })
}

proptest! {
    #[test]
    fn encoded_requests_are_found_however_they_are_cut(
        requests in vec(vec(any_bytes(300), 1..20), 1..6),
        pieces in vec(1usize..200, 1..20),
        max in 1usize..5,
    ) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for request in &requests {
            bytes.extend(encoded(request));
            ends.push(bytes.len());
        }
        let expected = Outcome { requests, ends, taken: bytes.len(), error: None };
        let limits = Limits::default();
        prop_assert_eq!(&feed(&bytes, iter::empty(), usize::MAX, &limits), &expected);
        prop_assert_eq!(&feed(&bytes, pieces.into_iter().cycle(), max, &limits), &expected);
        prop_assert_eq!(&feed(&bytes, iter::repeat(1), max, &limits), &expected);
    }

    #[test]
    fn cuts_never_change_what_is_found(
        bytes in prop_oneof![near_requests(), any_bytes(200)],
        pieces in vec(1usize..12, 1..20),
        max in 1usize..5,
        limits in limits(),
    ) {
        let whole = feed(&bytes, iter::empty(), usize::MAX, &limits);
        prop_assert_eq!(&feed(&bytes, pieces.into_iter().cycle(), max, &limits), &whole);
        prop_assert_eq!(&feed(&bytes, iter::repeat(1), 1, &limits), &whole);
    }

    #[test]
    fn quoted_inline_arguments_come_back(args in vec(any_bytes(20), 1..6)) {
        let quoted = |arg: &Vec<u8>| format!("\"{}\"", arg.iter().map(|b| format!("\\x{b:02x}")).collect::<String>());
        let line = args.iter().map(quoted).collect::<Vec<_>>().join(" ") + "\r\n";
        let found = feed(line.as_bytes(), iter::repeat(7), 1, &Limits::default());
        prop_assert_eq!((found.requests, found.error), (vec![args], None));
    }

    #[test]
    fn replies_decode_to_what_was_meant(meant in meaning()) {
        let mut reply = Reply::new(Protocol::Resp2);
        write(&meant, &mut reply);
        let decoded = resp2::decode::decode(reply.as_slice()).unwrap();
        prop_assert_eq!(decoded, Some((in_resp2(&meant), reply.len())));

        let mut reply = Reply::new(Protocol::Resp3);
        write(&meant, &mut reply);
        let decoded = resp3::decode::complete::decode(reply.as_slice()).unwrap();
        prop_assert_eq!(decoded, Some((in_resp3(&meant), reply.len())));
    }
}

/// What a command means to answer; the flag of an aggregate: its length is told afterwards.
#[derive(Clone, Debug)]
enum Meaning {
    Ok,
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    BulkInt(i64),
    Null,
    NullArray,
    Double(f64),
    Bool(bool),
    Verbatim(String),
    BigNumber(String),
    Array(Vec<Meaning>, bool),
    Set(Vec<i64>, bool),
    Map(Vec<(Vec<u8>, Meaning)>, bool),
    Push(Vec<Meaning>),
}

fn meaning() -> impl Strategy<Value = Meaning> {
    let double = prop_oneof![
        any::<f64>(),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(0.1),
        Just(1e17)
    ];
    let leaf = prop_oneof![
        Just(Meaning::Ok),
        Just(Meaning::Null),
        Just(Meaning::NullArray),
        "[ -~]{0,20}".prop_map(Meaning::Simple),
        "ERR [ -~]{0,20}".prop_map(Meaning::Error),
        any::<i64>().prop_map(Meaning::Int),
        (0i64..3).prop_map(Meaning::Int),
        any_bytes(150).prop_map(Meaning::Bulk),
        any::<i64>().prop_map(Meaning::BulkInt),
        double
            .prop_filter("NaN equals nothing", |value| !value.is_nan())
            .prop_map(Meaning::Double),
        any::<bool>().prop_map(Meaning::Bool),
        "[ -~\r\n]{0,20}".prop_map(Meaning::Verbatim),
        "-?[1-9][0-9]{0,40}".prop_map(Meaning::BigNumber),
        (btree_set(any::<i64>(), 0..12), any::<bool>())
            .prop_map(|(items, later)| { Meaning::Set(items.into_iter().collect(), later) }),
    ];
    let value = leaf.prop_recursive(3, 60, 12, |inner| {
        prop_oneof![
            (vec(inner.clone(), 0..12), any::<bool>())
                .prop_map(|(items, later)| Meaning::Array(items, later)),
            (btree_map(any_bytes(8), inner, 0..12), any::<bool>())
                .prop_map(|(pairs, later)| { Meaning::Map(pairs.into_iter().collect(), later) }),
        ]
    });
    prop_oneof![4 => value.clone(), 1 => vec(value, 1..4).prop_map(Meaning::Push)]
}

fn write(meant: &Meaning, reply: &mut Reply) {
    match meant {
        Meaning::Ok => reply.ok(),
        Meaning::Simple(text) => reply.simple(text),
        Meaning::Error(text) => reply.error(text),
        Meaning::Int(value) => reply.int(*value),
        Meaning::Bulk(bytes) => reply.bulk(bytes),
        Meaning::BulkInt(value) => reply.bulk_int(*value),
        Meaning::Null => reply.null(),
        Meaning::NullArray => reply.null_array(),
        Meaning::Double(value) => reply.double(*value),
        Meaning::Bool(value) => reply.bool(*value),
        Meaning::Verbatim(text) => reply.verbatim("txt", text.as_bytes()),
        Meaning::BigNumber(digits) => reply.big_number(digits.as_bytes()),
        Meaning::Array(items, later) => {
            let deferred = later.then(|| reply.defer_array());
            if deferred.is_none() {
                reply.array(items.len());
            }
            items.iter().for_each(|item| write(item, reply));
            deferred
                .into_iter()
                .for_each(|deferred| reply.set_deferred(deferred, items.len()));
        }
        Meaning::Set(items, later) => {
            let deferred = later.then(|| reply.defer_set());
            if deferred.is_none() {
                reply.set(items.len());
            }
            items.iter().for_each(|item| reply.int(*item));
            deferred
                .into_iter()
                .for_each(|deferred| reply.set_deferred(deferred, items.len()));
        }
        Meaning::Map(pairs, later) => {
            let deferred = later.then(|| reply.defer_map());
            if deferred.is_none() {
                reply.map(pairs.len());
            }
            for (key, value) in pairs {
                reply.bulk(key);
                write(value, reply);
            }
            deferred
                .into_iter()
                .for_each(|deferred| reply.set_deferred(deferred, pairs.len()));
        }
        Meaning::Push(items) => {
            reply.push(items.len());
            items.iter().for_each(|item| write(item, reply));
        }
    }
}

fn in_resp2(meant: &Meaning) -> Frame2 {
    let text = |text: &str| Frame2::BulkString(text.as_bytes().to_vec());
    match meant {
        Meaning::Ok => Frame2::SimpleString(b"OK".to_vec()),
        Meaning::Simple(text) => Frame2::SimpleString(text.as_bytes().to_vec()),
        Meaning::Error(text) => Frame2::Error(text.clone()),
        Meaning::Int(value) => Frame2::Integer(*value),
        Meaning::Bulk(bytes) => Frame2::BulkString(bytes.clone()),
        Meaning::BulkInt(value) => text(&value.to_string()),
        Meaning::Null | Meaning::NullArray => Frame2::Null,
        Meaning::Double(value) => {
            let mut buf = [0; 32];
            let shown = resp::number::format_f64(*value, &mut buf);
            assert_eq!(std::str::from_utf8(shown).unwrap().parse(), Ok(*value));
            Frame2::BulkString(shown.to_vec())
        }
        Meaning::Bool(value) => Frame2::Integer(i64::from(*value)),
        Meaning::Verbatim(shown) | Meaning::BigNumber(shown) => text(shown),
        Meaning::Array(items, _) | Meaning::Push(items) => {
            Frame2::Array(items.iter().map(in_resp2).collect())
        }
        Meaning::Set(items, _) => Frame2::Array(items.iter().map(|item| Frame2::Integer(*item)).collect()),
        Meaning::Map(pairs, _) => Frame2::Array(
            pairs
                .iter()
                .flat_map(|(key, value)| [Frame2::BulkString(key.clone()), in_resp2(value)])
                .collect(),
        ),
    }
}

fn in_resp3(meant: &Meaning) -> Frame3 {
    let attributes = None;
    let all = |items: &[Meaning]| items.iter().map(in_resp3).collect();
    let number = |data: i64| Frame3::Number {
        data,
        attributes: None,
    };
    match meant {
        Meaning::Ok => Frame3::SimpleString {
            data: b"OK".to_vec(),
            attributes,
        },
        Meaning::Simple(text) => Frame3::SimpleString {
            data: text.as_bytes().to_vec(),
            attributes,
        },
        Meaning::Error(text) => Frame3::SimpleError {
            data: text.clone(),
            attributes,
        },
        Meaning::Int(value) => number(*value),
        Meaning::Bulk(bytes) => Frame3::BlobString {
            data: bytes.clone(),
            attributes,
        },
        Meaning::BulkInt(value) => Frame3::BlobString {
            data: value.to_string().into_bytes(),
            attributes,
        },
        Meaning::Null | Meaning::NullArray => Frame3::Null,
        Meaning::Double(value) => Frame3::Double {
            data: *value,
            attributes,
        },
        Meaning::Bool(value) => Frame3::Boolean {
            data: *value,
            attributes,
        },
        Meaning::Verbatim(text) => Frame3::VerbatimString {
            data: text.as_bytes().to_vec(),
            format: VerbatimStringFormat::Text,
            attributes,
        },
        Meaning::BigNumber(digits) => Frame3::BigNumber {
            data: digits.as_bytes().to_vec(),
            attributes,
        },
        Meaning::Array(items, _) => Frame3::Array {
            data: all(items),
            attributes,
        },
        Meaning::Push(items) => Frame3::Push {
            data: all(items),
            attributes,
        },
        Meaning::Set(items, _) => Frame3::Set {
            data: items.iter().map(|item| number(*item)).collect(),
            attributes,
        },
        Meaning::Map(pairs, _) => {
            let key = |key: &Vec<u8>| Frame3::BlobString {
                data: key.clone(),
                attributes: None,
            };
            Frame3::Map {
                data: pairs.iter().map(|(k, value)| (key(k), in_resp3(value))).collect(),
                attributes,
            }
        }
    }
}
