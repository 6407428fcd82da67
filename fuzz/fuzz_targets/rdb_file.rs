//! RDB files: no bytes make the reader panic, allocate without measure or go on for ever.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../src/resp/number.rs"]
mod number;
#[allow(dead_code, unused_imports)]
#[path = "../../src/object/mod.rs"]
mod object;
#[allow(dead_code)]
#[path = "../../src/pointer.rs"]
mod pointer;
/// Where `object` looks for numbers.
mod resp {
    pub(crate) use crate::number;
}

use object::Limits;
use object::codec::file::FileReader;

fuzz_target!(|input: &[u8]| {
    // With a head of its own, as the fuzzer would rarely guess one.
    for file in [input, &[b"REDIS0012", input].concat()] {
        let Ok(mut reader) = FileReader::new(file, file.len() as u64) else {
            continue;
        };
        let mut at = reader.at();
        while let Ok(Some(_)) = reader.next_part(&Limits::default()) {
            assert!(reader.at() > at && reader.at() <= file.len() as u64);
            at = reader.at();
        }
    }
});
