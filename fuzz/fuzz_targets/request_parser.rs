//! The request parser: no bytes make it panic, no cuts change what it finds, and where `redis-protocol` sees a request
//! it sees the same one. The first bytes of the input choose the limits and the cuts; the others are what a client
//! sends.

#![no_main]

use std::iter;

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::encode;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

#[path = "../feed.rs"]
mod feed;
#[allow(dead_code)]
#[path = "../../src/resp/mod.rs"]
mod resp;

use feed::{Outcome, feed};
use resp::Limits;

fuzz_target!(|input: &[u8]| {
    let [choice, max, cuts @ .., _] = input else {
        return;
    };
    let (cuts, bytes) = cuts.split_at(cuts.len().min(4));
    // Small limits, so that small inputs reach them.
    let limits = Limits {
        max_bulk_len: if choice & 1 == 0 { 64 } else { 512 * 1024 * 1024 },
        max_inline_len: if choice & 2 == 0 { 32 } else { 64 * 1024 },
        authenticated: choice & 4 == 0,
        ..Limits::default()
    };
    let whole = feed(bytes, iter::empty(), usize::MAX, &limits);
    let cut = feed(bytes, sizes(cuts), usize::from(*max).max(1), &limits);
    assert_eq!(cut, whole);
    assert_eq!(feed(bytes, iter::repeat(1), 1, &limits), whole);
    agrees_with_redis_protocol(bytes, &whole);
    finds_what_redis_protocol_writes(bytes, cuts);
});

/// Sizes of pieces, over and over.
fn sizes(cuts: &[u8]) -> impl Iterator<Item = usize> {
    cuts.iter().map(|&cut| usize::from(cut)).cycle()
}

/// Each request that the other parser takes for an array of strings is that array here too. (It is stricter about line
/// ends, and knows no inline requests.)
fn agrees_with_redis_protocol(bytes: &[u8], whole: &Outcome) {
    let mut start = 0;
    for (request, &end) in whole.requests.iter().zip(&whole.ends) {
        if let Ok(Some((OwnedFrame::Array(frames), len))) = decode(&bytes[start..end])
            && !frames.is_empty()
            && let Some(strings) = frames.into_iter().map(string).collect::<Option<Vec<_>>>()
        {
            assert_eq!((&strings, len), (request, end - start));
        }
        start = end;
    }
}

fn string(frame: OwnedFrame) -> Option<Vec<u8>> {
    match frame {
        OwnedFrame::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

/// The bytes taken as arguments, encoded by the other library, are found again.
fn finds_what_redis_protocol_writes(bytes: &[u8], cuts: &[u8]) {
    let args: Vec<Vec<u8>> = bytes.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect();
    let frame = OwnedFrame::Array(args.iter().cloned().map(OwnedFrame::BulkString).collect());
    let mut encoded = vec![0; frame.encode_len(false)];
    let len = encode(&mut encoded, &frame, false).expect("there is room for the frame");
    let found = feed(&encoded[..len], sizes(cuts), 16, &Limits::default());
    assert_eq!(
        found,
        Outcome {
            requests: vec![args],
            ends: vec![len],
            taken: len,
            error: None
        }
    );
}
