//! Journal segments: no bytes make the decoder panic or read beyond them; what it accepts, it would have written; what
//! it writes, it accepts, and not with any byte changed.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../src/journal/record.rs"]
mod record;

fuzz_target!(|input: &[u8]| {
    let _ = record::SegmentHeader::decode(input);
    if let Ok((header, payload)) = record::decode_record(input) {
        let mut written = Vec::new();
        record::encode_record(&mut written, header.offset, header.unix_ms, (payload, b""));
        // Flags are not read yet; all else is as it was, up to the checksum that covers them.
        assert_eq!(written.len(), record::RECORD_HEADER + payload.len());
        assert_eq!(written[8..24], input[8..24]);
    }
    let [at, change, payload @ ..] = input else { return };
    if payload.is_empty() {
        return;
    }
    let (first, second) = payload.split_at(payload.len() / 2);
    let mut written = Vec::new();
    record::encode_record(&mut written, u64::from(*at) << 40, 7, (first, second));
    let (header, read) = record::decode_record(&written).expect("what was written is read");
    assert_eq!((header.offset, read), (u64::from(*at) << 40, payload));
    let at = usize::from(*at) % written.len();
    written[at] ^= change | 1;
    assert!(record::decode_record(&written).is_err());
});
