//! What scripts make of bytes: no text makes `cjson`, `cmsgpack` or `struct` panic, and what they read they write so that
//! it reads the same; whatever a script returns becomes one whole reply.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::any::Any;
use std::cell::RefCell;

#[allow(dead_code)]
#[path = "../../src/resp/mod.rs"]
mod resp;
#[allow(dead_code)]
#[path = "../../src/script/mod.rs"]
mod script;

use resp::{Protocol, Reply};
use script::source::Script;
use script::{engine, run};

/// A host without commands.
struct Nobody;

impl run::Host for Nobody {
    fn call(&mut self, _: &[&[u8]], reply: &mut Reply) {
        reply.error("ERR no commands");
    }

    fn may_call(&self, _: &[&[u8]]) -> Option<bool> {
        None
    }

    fn goes_on(&mut self) -> bool {
        false
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Each reads the bytes, writes what it read, and reads that again.
const SCRIPTS: [&str; 4] = [
    "local ok, v = pcall(cjson.decode, ARGV[1]) if not ok then return v end \
     local wrote, text = pcall(cjson.encode, v) if not wrote then return text end \
     local again = cjson.encode(cjson.decode(text)) return {v, #again == #text or error('not the same')}",
    "local ok, v = pcall(cmsgpack.unpack_one, ARGV[1]) if not ok then return v end \
     local ok, p, v = pcall(cmsgpack.unpack_one, ARGV[1]) local bytes = cmsgpack.pack(v) \
     local _, again = cmsgpack.unpack_one(bytes) return {v, again}",
    "local n = #ARGV[1] local half = math.floor(n / 2) \
     local r = {pcall(struct.unpack, ARGV[1]:sub(1, half), ARGV[1]:sub(half + 1))} \
     pcall(struct.size, ARGV[1]) pcall(struct.pack, ARGV[1]:sub(1, half), unpack(r, 2)) return r",
    "local f = loadstring(ARGV[1]) return {tostring(f), redis.sha1hex(ARGV[1]), redis.error_reply(ARGV[1])}",
];

thread_local! {
    static LOADED: RefCell<Vec<Script>> = RefCell::new(
        SCRIPTS.iter().map(|text| Script::new(text.as_bytes()).expect("a script")).collect()
    );
}

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    LOADED.with_borrow(|scripts| {
        let script = &scripts[usize::from(*which) % scripts.len()];
        let protocol = if which & 0x80 == 0 { Protocol::Resp2 } else { Protocol::Resp3 };
        let mut reply = Reply::new(protocol);
        let (_, outcome) = run::with_host(Box::new(Nobody), || {
            engine::run(("7.2.4", 0), script, (&[], &[bytes]), &mut reply)
        });
        if let Err(failure) = outcome {
            let text = String::from_utf8_lossy(&failure.text);
            assert!(!text.contains("not the same"), "{text}");
        } else {
            assert!(reply.as_slice().ends_with(b"\r\n"));
        }
    });
});
