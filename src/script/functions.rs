//! A thread's Lua for functions: libraries loaded, and their functions run.
//!
//! While a library is being loaded it finds nothing but `redis`, and in it the means to register functions.

use super::convert::Failure;
use super::engine::{compile, first_line};
use super::library::{BAD_NAME, Found, FunctionInfo, Library, Source, is_name};
use super::raise::{Call, Raise, Results, define, none};
use super::raw::{Given, Kept};
use super::sandbox::Sandbox;
use super::source::flag;
use super::{api, convert, raw, run};
use crate::resp::Reply;
use mlua::{Function, LuaString, Table, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long a library may take to load.
const LOAD_MOST: Duration = Duration::from_millis(500);

/// A function being registered.
struct Registered {
    info: FunctionInfo,
    callback: Function,
}

struct Engine {
    sandbox: Sandbox,
    /// What a library finds while it is loaded.
    at_load: Table,
    /// The functions of the libraries loaded, by library and by name.
    loaded: HashMap<String, HashMap<String, Kept>>,
    generation: u64,
}

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
    /// What is registered; none when no library is being loaded.
    static REGISTERED: RefCell<Option<Vec<Registered>>> = const { RefCell::new(None) };
}

impl Engine {
    fn new(version: &str, generation: u64) -> mlua::Result<Engine> {
        let sandbox = Sandbox::new(version)?;
        let lua = &sandbox.lua;
        // Without what only scripts have.
        let redis = api::table(lua, version)?;
        for name in ["breakpoint", "debug", "replicate_commands"] {
            redis.raw_set(name, Value::Nil)?;
        }
        sandbox.globals.raw_set("redis", sandbox.protected(&redis)?)?;
        let at_load = lua.create_table()?;
        let tools = lua.create_table()?;
        for pair in redis.pairs::<String, Value>() {
            let (name, value) = pair?;
            if name == "log" || name.starts_with("LOG_") || name.starts_with("REDIS_") {
                tools.raw_set(name, value)?;
            }
        }
        tools.raw_set("register_function", define(lua, register)?)?;
        let missing = sandbox.globals.metatable();
        tools.set_metatable(missing.clone())?;
        at_load.raw_set("redis", sandbox.protected(&tools)?)?;
        at_load.set_metatable(missing)?;
        Ok(Engine {
            sandbox,
            at_load,
            loaded: HashMap::new(),
            generation,
        })
    }

    /// Says what global names stand for.
    fn show(&self, globals: &Table) -> mlua::Result<()> {
        match self.sandbox.front.metatable() {
            Some(meta) => meta.raw_set("__index", globals),
            None => Ok(()),
        }
    }

    /// Runs a library's text, and returns what it has registered. The error has its code.
    fn load(&self, body: &[u8]) -> Result<Vec<Registered>, String> {
        let function = compile(&self.sandbox, body, "@user_function")
            .map_err(|error| format!("ERR Error compiling function: {}", first_line(&error)))?;
        REGISTERED.set(Some(Vec::new()));
        run::begin_without_host(Instant::now() + LOAD_MOST);
        let caller = &self.sandbox.caller;
        let ran = self.show(&self.at_load).and_then(|()| caller.keep(&function));
        let ran = ran.map_err(|error| Failure::of_lua(&error)).and_then(|kept| {
            let ran = caller.call(kept, &Given::Nothing, &mut |_| ());
            caller.forget(kept);
            ran
        });
        let shown = self.show(&self.sandbox.globals);
        let ended = run::is_ended();
        run::begin_without_host(Instant::now());
        let registered = REGISTERED.take().unwrap_or_default();
        let why = match (ran, shown) {
            _ if ended => {
                // It was to be stopped at every instruction.
                let _ = raw::set_hook(&self.sandbox.lua, super::engine::TICK);
                "ERR FUNCTION LOAD timeout".to_owned()
            }
            (Ok(()), Ok(())) => return Ok(registered),
            (Err(failure), _) => String::from_utf8_lossy(&failure.text).into_owned(),
            (_, Err(error)) => format!("ERR {}", first_line(&error)),
        };
        Err(format!("ERR Error registering functions: {why}"))
    }

    fn function(&mut self, found: &Found) -> Result<Kept, String> {
        let library = &found.library.source.name;
        if !self.loaded.contains_key(library) {
            let registered = self.load(found.library.body())?;
            let mut functions = HashMap::new();
            for one in registered {
                let kept = self.sandbox.caller.keep(&one.callback);
                let kept = kept.map_err(|error| format!("ERR {}", first_line(&error)))?;
                functions.insert(one.info.name, kept);
            }
            self.loaded.insert(library.clone(), functions);
        }
        let functions = self.loaded.get(library);
        let function = functions.and_then(|functions| functions.get(&found.info().name));
        // A library may register other functions the second time.
        function.copied().ok_or_else(|| "ERR Function not found".into())
    }

    fn call(
        &mut self,
        found: &Found,
        keys: &[&[u8]],
        args: &[&[u8]],
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let function = self.function(found).map_err(|text| Failure {
            text: text.into_bytes(),
            place: None,
            counted: false,
        })?;
        self.sandbox.run(function, &Given::Arguments(keys, args), reply)
    }
}

fn with_engine<R>(version: &str, generation: u64, with: impl FnOnce(&mut Engine) -> R) -> mlua::Result<R> {
    ENGINE.with_borrow_mut(|engine| {
        if engine
            .as_ref()
            .is_none_or(|engine| engine.generation != generation)
        {
            *engine = Some(Engine::new(version, generation)?);
        }
        // proof: made above, if it was missing.
        let engine = engine.as_mut().expect("an engine");
        let result = with(engine);
        if run::is_ended() {
            raw::set_hook(&engine.sandbox.lua, super::engine::TICK)?;
        }
        Ok(result)
    })
}

/// Runs a library's text in a state of its own, to learn of its functions. The error has its code.
pub fn learn(version: &str, source: Source) -> Result<Library, String> {
    let engine = Engine::new(version, 0).map_err(|error| format!("ERR {}", first_line(&error)))?;
    let registered = engine.load(&source.code[source.body..])?;
    if registered.is_empty() {
        return Err("ERR No functions registered".into());
    }
    let functions = registered.into_iter().map(|one| one.info).collect();
    Ok(Library { source, functions })
}

/// Runs a function. What it returns is appended to the reply; the host must be set (`run::with_host`).
pub fn call(
    version: &str,
    found: &Found,
    (keys, args): (&[&[u8]], &[&[u8]]),
    reply: &mut Reply,
) -> Result<(), Failure> {
    let ran = with_engine(version, found.generation, |engine| {
        engine.call(found, keys, args, reply)
    });
    ran.unwrap_or_else(|error| Err(Failure::of_lua(&error)))
}

/// Fails with an error in the form of a command's.
fn refuse(lua: &mlua::Lua, text: &str) -> Raise {
    match convert::error(lua, format!("ERR {text}").as_bytes()) {
        Ok(error) => Raise::Value(error),
        Err(error) => Raise::Lua(error),
    }
}

fn register(lua: &mlua::Lua, call: &Call) -> Results {
    let registered = read_registration(lua, call).map_err(|why| match why {
        Refused::Text(text) => refuse(lua, text),
        Refused::Lua(error) => Raise::Lua(error),
    })?;
    let added = REGISTERED.with_borrow_mut(|all| {
        let Some(all) = all else {
            return Err("redis.register_function can only be called on FUNCTION LOAD command");
        };
        let name = &registered.info.name;
        if all.iter().any(|other| other.info.name.eq_ignore_ascii_case(name)) {
            return Err("Function already exists in the library");
        }
        all.push(registered);
        Ok(())
    });
    match added {
        Ok(()) => none(),
        Err(why) => Err(refuse(lua, why)),
    }
}

enum Refused {
    Text(&'static str),
    Lua(mlua::Error),
}

impl From<&'static str> for Refused {
    fn from(text: &'static str) -> Refused {
        Refused::Text(text)
    }
}

impl From<mlua::Error> for Refused {
    fn from(error: mlua::Error) -> Refused {
        Refused::Lua(error)
    }
}

/// A string, or a number as text.
fn text(lua: &mlua::Lua, value: &Value) -> Result<Option<LuaString>, Refused> {
    match value {
        Value::String(_) | Value::Integer(_) | Value::Number(_) => Ok(lua.coerce_string(value.clone())?),
        _ => Ok(None),
    }
}

fn read_registration(lua: &mlua::Lua, call: &Call) -> Result<Registered, Refused> {
    let mut description = None;
    let mut flags = 0;
    let (name, callback) = match (call.get(1), call.get(2)) {
        (Some(Value::Table(named)), None) => {
            let (mut name, mut callback) = (None, None);
            for pair in named.pairs::<Value, Value>() {
                let (key, value) = pair?;
                let key = text(lua, &key)?;
                let key = key.ok_or("named argument key given to redis.register_function is not a string")?;
                match key.to_string_lossy().as_str() {
                    "function_name" => {
                        let given = text(lua, &value)?;
                        name = Some(given.ok_or(
                            "function_name argument given to redis.register_function must be a string",
                        )?);
                    }
                    "description" => {
                        let given = text(lua, &value)?;
                        let given = given.ok_or(
                            "description argument given to redis.register_function must be a string",
                        )?;
                        description = Some(given.as_bytes().to_vec());
                    }
                    "callback" => match value {
                        Value::Function(function) => callback = Some(function),
                        _ => {
                            return Err(
                                "callback argument given to redis.register_function must be a function"
                                    .into(),
                            );
                        }
                    },
                    "flags" => flags = read_flags(&value)?,
                    _ => return Err("unknown argument given to redis.register_function".into()),
                }
            }
            let name = name.ok_or("redis.register_function must get a function name argument")?;
            let callback = callback.ok_or("redis.register_function must get a callback argument")?;
            (name, callback)
        }
        (Some(_), None) => {
            return Err("calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).".into());
        }
        (Some(name), Some(callback)) if call.len() == 2 => {
            let name =
                text(lua, name)?.ok_or("first argument to redis.register_function must be a string")?;
            let Value::Function(callback) = callback else {
                return Err("second argument to redis.register_function must be a function".into());
            };
            (name, callback.clone())
        }
        _ => return Err("wrong number of arguments to redis.register_function".into()),
    };
    if !is_name(&name.as_bytes()) {
        return Err(BAD_NAME.into());
    }
    let info = FunctionInfo {
        name: name.to_string_lossy(),
        description,
        flags,
        reaches: AtomicBool::new(false),
    };
    Ok(Registered { info, callback })
}

fn read_flags(value: &Value) -> Result<u8, Refused> {
    let Value::Table(names) = value else {
        return Err(
            "flags argument to redis.register_function must be a table representing function flags".into(),
        );
    };
    let mut flags = 0;
    for at in 1.. {
        match names.raw_get(at)? {
            Value::Nil => break,
            Value::String(name) => match flag::named(&name.to_string_lossy()) {
                Some(flag) => flags |= flag,
                None => return Err("unknown flag given".into()),
            },
            _ => return Err("unknown flag given".into()),
        }
    }
    Ok(flags)
}
