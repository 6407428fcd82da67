//! A thread's Lua: scripts compiled once a thread, and run.
//!
//! Every thread that runs scripts has a state of its own, so scripts on different keys run at the same time. Nothing
//! that a script does stays in a state but what it compiled, so it does not matter which thread runs it.

use super::convert::Failure;
use super::raw::{Given, Kept};
use super::sandbox::Sandbox;
use super::source::Script;
use super::{raw, run};
use crate::resp::Reply;
use mlua::Function;
use mlua::chunk::ChunkMode;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Instructions from one look at the clock to the next.
pub const TICK: c_int = 100_000;
/// Bytes that the state of a thread may take while a script runs.
pub const MEMORY_MOST: usize = 1 << 30;
/// Scripts that a thread keeps compiled.
const COMPILED_MOST: usize = 4096;

struct Engine {
    sandbox: Sandbox,
    /// By the scripts' numbers.
    compiled: HashMap<u64, Kept, foldhash::fast::RandomState>,
    /// Of the catalogue, when the scripts were compiled.
    generation: u64,
    /// Its part of `MEMORY`.
    counted: usize,
}

/// Bytes of all states.
static MEMORY: AtomicUsize = AtomicUsize::new(0);
/// A state's part is counted anew when it has changed by so much.
const COUNTED_FROM: usize = 16 << 10;

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

impl Engine {
    fn new(version: &str, generation: u64) -> mlua::Result<Engine> {
        Ok(Engine {
            sandbox: Sandbox::new(version)?,
            compiled: HashMap::default(),
            generation,
            counted: 0,
        })
    }

    fn count_memory(&mut self) {
        let used = self.sandbox.lua.used_memory();
        if used.abs_diff(self.counted) >= COUNTED_FROM {
            MEMORY.fetch_add(used, Relaxed);
            MEMORY.fetch_sub(self.counted, Relaxed);
            self.counted = used;
        }
    }

    /// Compiles a script, unless it is.
    fn ready(&mut self, script: &Script) -> mlua::Result<Kept> {
        if let Some(function) = self.compiled.get(&script.id) {
            return Ok(*function);
        }
        let caller = &self.sandbox.caller;
        if self.compiled.len() >= COMPILED_MOST {
            self.compiled
                .drain()
                .for_each(|(_, function)| caller.forget(function));
        }
        let function = compile(&self.sandbox, &script.body, "@user_script")?;
        let kept = caller.keep(&function)?;
        self.compiled.insert(script.id, kept);
        Ok(kept)
    }

    fn run(
        &mut self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let function = self.ready(script).map_err(|error| Failure::of_lua(&error))?;
        let given = Given::Names(keys, args);
        self.sandbox.run(function, &given, reply)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        MEMORY.fetch_sub(self.counted, Relaxed);
    }
}

/// Compiles a text.
pub(super) fn compile(sandbox: &Sandbox, text: &[u8], name: &str) -> mlua::Result<Function> {
    let chunk = sandbox.lua.load(text).set_name(name).set_mode(ChunkMode::Text);
    chunk.into_function()
}

/// What an error of Lua's says, without the way it came.
pub fn first_line(error: &mlua::Error) -> String {
    let text = match error {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::RuntimeError(message) => message.clone(),
        mlua::Error::MemoryError(_) => "not enough memory".into(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

fn with_engine<R>(version: &str, generation: u64, with: impl FnOnce(&mut Engine) -> R) -> mlua::Result<R> {
    ENGINE.with_borrow_mut(|engine| {
        // A state whose scripts were flushed is not used again.
        if engine
            .as_ref()
            .is_none_or(|engine| engine.generation != generation)
        {
            *engine = Some(Engine::new(version, generation)?);
        }
        // proof: made above, if it was missing.
        let result = with(engine.as_mut().expect("an engine"));
        if let Some(engine) = engine {
            if run::is_ended() {
                // It was to be stopped at every instruction.
                raw::set_hook(&engine.sandbox.lua, TICK)?;
            }
            engine.count_memory();
        }
        Ok(result)
    })
}

/// Compiles a script, to see that it can be: the error is Lua's.
pub fn check(version: &str, generation: u64, script: &Script) -> Result<(), String> {
    let compiled = with_engine(version, generation, |engine| engine.ready(script));
    match compiled.and_then(|ready| ready) {
        Ok(_) => Ok(()),
        Err(error) => Err(first_line(&error)),
    }
}

/// Runs a script. What it returns is appended to the reply; the host must be set (`run::with_host`).
pub fn run(
    (version, generation): (&str, u64),
    script: &Script,
    (keys, args): (&[&[u8]], &[&[u8]]),
    reply: &mut Reply,
) -> Result<(), Failure> {
    let ran = with_engine(version, generation, |engine| {
        engine.run(script, keys, args, reply)
    });
    ran.unwrap_or_else(|error| Err(Failure::of_lua(&error)))
}

/// Bytes that the states of all threads take, about.
pub fn memory() -> usize {
    MEMORY.load(Relaxed)
}
