//! Payloads of RESTORE: no bytes make the codec panic or allocate without measure, and a value that was taken is one
//! that is written and read again.

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
use object::codec::{self, Form, Value, ValueRef};

fuzz_target!(|input: &[u8]| {
    // Checksums are not what is looked for here: the value alone, as `restore` decodes it.
    let _ = codec::restore(input, &Limits::default());
    let [narrow, value @ ..] = input else { return };
    let mut limits = Limits::default();
    if narrow % 2 == 1 {
        limits.hash_max_listpack_entries = 2;
        limits.set_max_listpack_entries = 2;
        limits.set_max_intset_entries = 2;
        limits.zset_max_listpack_entries = 2;
        limits.list_max_listpack_size = 2;
    }
    let Ok(value) = codec::decode(value, &limits) else {
        return;
    };
    let value = match &value {
        Value::String(text) => ValueRef::String(text),
        Value::Object(object) => ValueRef::Object(object),
    };
    for form in [Form::ROW, Form::DUMP] {
        let payload = codec::dump(value, form);
        let again = codec::restore(&payload, &limits).expect("what was written is read");
        if let (Value::Object(again), ValueRef::Object(object)) = (&again, value) {
            assert_eq!(
                (again.type_name(), again.len()),
                (object.type_name(), object.len())
            );
        }
    }
});
