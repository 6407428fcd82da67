//! Rows of a store: no bytes make the decoder panic; what is encoded is decoded, and row keys split into what they were
//! made of.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unused_imports)]
#[path = "../../src/object/mod.rs"]
mod object;
#[allow(dead_code)]
#[path = "../../src/resp/number.rs"]
mod number;
#[allow(dead_code)]
#[path = "../../src/pointer.rs"]
mod pointer;
/// Where `object` looks for numbers.
mod resp {
    pub(crate) use crate::number;
}
/// Where rows look for how they are packed.
mod config {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Compression {
        None,
        Lz4,
        Zstd,
    }
}
#[allow(dead_code)]
#[path = "../../src/store/packing.rs"]
mod packing;
#[allow(dead_code)]
#[path = "../../src/store/rows.rs"]
mod rows;

use config::Compression;

fuzz_target!(|input: &[u8]| {
    if let Ok(row) = rows::Row::decode(input) {
        let _ = row.object();
        let _ = row.type_name();
    }
    let _ = rows::split_object_key(input);
    let _ = rows::split_expiry_key(input);
    let [db, expires, value @ ..] = input else { return };
    let (db, expiry) = (db % 16, (expires % 2 == 1).then_some(i64::from(*expires) << 33));
    let mut written = Vec::new();
    rows::encode_string_row(&mut written, u64::from(*expires) << 50, expiry, value);
    let row = rows::Row::decode(&written).expect("what was written is read");
    assert_eq!((row.offset, row.expiry), (u64::from(*expires) << 50, expiry));
    let object = row.object().expect("the string").into_owned();
    for how in [Compression::Lz4, Compression::Zstd] {
        let mut packed = Vec::new();
        rows::pack_row(&mut packed, &written, how, &mut packing::Packer::default());
        let row = rows::Row::decode(&packed).expect("what was packed is read");
        assert_eq!((row.offset, row.expiry), (u64::from(*expires) << 50, expiry));
        assert_eq!(*row.object().expect("the string"), object);
    }
    assert_eq!(rows::split_object_key(&rows::object_key(db, value)), Some((db, value)));
    let mut key = Vec::new();
    rows::push_expiry_key(&mut key, expiry.unwrap_or(0), db, value);
    assert_eq!(rows::split_expiry_key(&key), Some((expiry.unwrap_or(0), db, value)));
});
