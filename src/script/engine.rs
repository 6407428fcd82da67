//! A thread's Lua: scripts compiled once a thread, and run.
//!
//! Every thread that runs scripts has a state of its own, so scripts on different keys run at the same time. Nothing that a
//! script does stays in a state but what it compiled, so it does not matter which thread runs it.

use super::convert::{self, Failure};
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
    compiled: HashMap<String, Function>,
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
            compiled: HashMap::new(),
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

    fn function(&mut self, script: &Script) -> mlua::Result<Function> {
        if let Some(function) = self.compiled.get(&script.sha) {
            return Ok(function.clone());
        }
        if self.compiled.len() >= COMPILED_MOST {
            self.compiled.clear();
        }
        let function = compile(&self.sandbox, &script.body, "@user_script")?;
        self.compiled.insert(script.sha.clone(), function.clone());
        Ok(function)
    }

    fn run(
        &mut self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let began = self.function(script).and_then(|function| {
            let globals = &self.sandbox.globals;
            globals.raw_set("KEYS", self.sandbox.list(keys)?)?;
            globals.raw_set("ARGV", self.sandbox.list(args)?)?;
            raw::call(&self.sandbox.lua, &self.sandbox.handler, &function, None)
        });
        settle(began, reply)
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

/// Writes what a call returned, or says how it failed.
pub(super) fn settle(outcome: mlua::Result<(bool, mlua::Value)>, reply: &mut Reply) -> Result<(), Failure> {
    match outcome {
        Ok((true, value)) => {
            convert::write(&value, run::protocol(), reply);
            Ok(())
        }
        Ok((false, value)) => Err(Failure::of(&value)),
        Err(error) => Err(Failure {
            text: format!("ERR {}", first_line(&error)).into_bytes(),
            place: None,
            counted: false,
        }),
    }
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
    let compiled = with_engine(version, generation, |engine| engine.function(script));
    match compiled.and_then(|function| function) {
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
    ran.unwrap_or_else(|error| settle(Err(error), reply))
}

/// Bytes that the states of all threads take, about.
pub fn memory() -> usize {
    MEMORY.load(Relaxed)
}
