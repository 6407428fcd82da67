//! A Lua for scripts: what they find in it, and what they cannot change.
//!
//! Scripts of all clients share a state, so nothing in it may be changed: not the globals, not the libraries' tables,
//! not what strings can do. Lua 5.1 has no tables that are read-only, so each is hidden behind an empty one (its
//! *front*), whose metatable looks things up in the hidden one and refuses to take new ones. The base functions that
//! look or write past metatables are replaced by such that know the fronts (`raw`).
//!
//! There is no file, process, clock, debugger, module loader or compiled code to be had.

use super::convert::{self, Failure};
use super::engine::MEMORY_MOST;
use super::raise::{Call, Raise, Results, define, one, type_name};
use super::raw::{Caller, Given, Kept};
use super::run;
use super::stack::Stack;
use super::{api, bits, json, msgpack, pack, random, raw};
use crate::resp::Reply;
use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};

/// Base functions that scripts do not get.
const REMOVED: [&str; 9] = [
    "dofile", "loadfile", "print", "require", "module", "newproxy", "getfenv", "setfenv", "package",
];

/// How large the heap grows, of what was in use when the collector last ended.
const GARBAGE_PERCENT: std::ffi::c_int = 400;

/// Functions written in Lua: they need nothing that is not there.
const PRELUDE: &str = r#"
local raw_pcall, loadstring, concat, type, select, error = ...

-- Commands raise tables; who catches one gets its text.
local function caught(ok, err, ...)
    if not ok and type(err) == 'table' then
        local text = err.err
        local kind = type(text)
        if kind == 'string' or kind == 'number' then err = text end
    end
    return ok, err, ...
end

local function pcall(...)
    if select('#', ...) == 0 then return false, 'attempt to call a nil value' end
    return caught(raw_pcall(...))
end

local function load(reader, name)
    local parts = {}
    local ok, why = raw_pcall(function()
        while true do
            local part = reader()
            if part == nil or part == '' then return end
            if type(part) ~= 'string' then error('reader function must return a string', 0) end
            parts[#parts + 1] = part
        end
    end)
    if not ok then return nil, why end
    return loadstring(concat(parts), name or '=(load)')
end

return pcall, load
"#;

/// A state for scripts.
pub struct Sandbox {
    pub lua: Lua,
    /// What scripts see as `_G`, and what is behind it.
    pub front: Table,
    pub globals: Table,
    pub caller: Caller,
    /// Every front, and what is behind it.
    fronts: Table,
    refused: Function,
}

impl Sandbox {
    pub fn new(version: &str) -> mlua::Result<Sandbox> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let refused = define(&lua, |_, _| {
            Err(Raise::text("Attempt to modify a readonly table"))
        })?;
        let sandbox = Sandbox {
            front: lua.create_table()?,
            globals: lua.globals(),
            fronts: lua.create_table()?,
            caller: Caller::new(&lua, &lua.globals())?,
            refused,
            lua,
        };
        sandbox.furnish(version)?;
        sandbox.replace_base()?;
        sandbox.protect_all()?;
        raw::set_globals(&sandbox.lua, &sandbox.front)?;
        raw::set_hook(&sandbox.lua, super::engine::TICK)?;
        // What scripts leave is little beside what is always there, and is not looked through for every bit of it.
        raw::set_pause(&sandbox.lua, GARBAGE_PERCENT)?;
        Ok(sandbox)
    }

    fn furnish(&self, version: &str) -> mlua::Result<()> {
        let (lua, globals) = (&self.lua, &self.globals);
        for name in REMOVED {
            globals.raw_set(name, Value::Nil)?;
        }
        random::install(lua, &globals.raw_get("math")?)?;
        globals.raw_set("redis", api::table(lua, version)?)?;
        globals.raw_set("cjson", json::table(lua)?)?;
        globals.raw_set("cmsgpack", msgpack::table(lua)?)?;
        globals.raw_set("struct", pack::table(lua)?)?;
        globals.raw_set("bit", bits::table(lua)?)
    }

    /// Puts functions that know the fronts in the place of those that would look or write past them.
    fn replace_base(&self) -> mlua::Result<()> {
        let (lua, globals, fronts) = (&self.lua, &self.globals, &self.fronts);
        let base = |name: &str| globals.raw_get::<Function>(name);
        let tables: Table = globals.raw_get("table")?;
        let next = base("next")?;
        let through = raw::seeing_through(lua, next.clone(), fronts)?;
        globals.raw_set("pairs", raw::pairs(lua, next, fronts, through.clone())?)?;
        globals.raw_set("next", through)?;
        globals.raw_set("rawget", raw::seeing_through(lua, base("rawget")?, fronts)?)?;
        for name in ["rawset", "setmetatable"] {
            globals.raw_set(name, raw::refusing(lua, base(name)?, fronts)?)?;
        }
        for name in ["insert", "setn"] {
            tables.raw_set(name, raw::refusing(lua, tables.raw_get(name)?, fronts)?)?;
        }
        for name in ["foreach", "foreachi"] {
            tables.raw_set(name, raw::seeing_through(lua, tables.raw_get(name)?, fronts)?)?;
        }
        globals.raw_set("loadstring", raw::loading_text(lua, base("loadstring")?)?)?;
        let prelude = lua.load(PRELUDE).set_name("=prelude").into_function()?;
        let (pcall, loader): (Function, Function) = prelude.call((
            base("pcall")?,
            base("loadstring")?,
            tables.raw_get::<Function>("concat")?,
            base("type")?,
            base("select")?,
            base("error")?,
        ))?;
        let load = define(lua, move |lua, call| match call.get(1) {
            Some(Value::Function(reader)) => {
                let name = call.get(2).cloned().unwrap_or(Value::Nil);
                // What reads is the script's own.
                lua.set_memory_limit(MEMORY_MOST)?;
                Ok(loader.call((reader, name))?)
            }
            other => {
                let got = other.map_or("no value", type_name);
                Err(Raise::Arg(1, format!("function expected, got {got}")))
            }
        })?;
        globals.raw_set("pcall", pcall)?;
        globals.raw_set("load", load)?;
        globals.raw_set("collectgarbage", define(lua, collectgarbage)?)
    }

    /// A front of a table; `front` is empty and becomes it.
    fn protect(&self, front: &Table, hidden: &Table) -> mlua::Result<()> {
        let meta = self.lua.create_table()?;
        meta.raw_set("__index", hidden)?;
        meta.raw_set("__newindex", &self.refused)?;
        front.set_metatable(Some(meta))?;
        self.fronts.raw_set(front, hidden)
    }

    fn protect_all(&self) -> mlua::Result<()> {
        let (lua, globals) = (&self.lua, &self.globals);
        // What strings can do is looked up in the hidden table; a script that asks for it gets the front.
        let string_meta = lua.create_table()?;
        let mut names = Vec::new();
        for pair in globals.pairs::<String, Value>() {
            if let (name, Value::Table(table)) = pair? {
                names.push((name, table));
            }
        }
        for (name, table) in names.into_iter().filter(|(name, _)| name != "_G") {
            let front = lua.create_table()?;
            self.protect(&front, &table)?;
            if name == "string" {
                string_meta.raw_set("__index", &front)?;
            }
            globals.raw_set(name, front)?;
        }
        globals.raw_set("_G", &self.front)?;
        let missing = define(lua, missing_global)?;
        let globals_meta = lua.create_table()?;
        globals_meta.raw_set("__index", missing)?;
        globals.set_metatable(Some(globals_meta.clone()))?;
        self.protect(&self.front, globals)?;
        self.replace_getmetatable(&string_meta, &globals_meta)
    }

    fn replace_getmetatable(&self, string_meta: &Table, globals_meta: &Table) -> mlua::Result<()> {
        let (lua, fronts, globals) = (&self.lua, self.fronts.clone(), self.front.clone());
        let of_strings = lua.create_table()?;
        self.protect(&of_strings, string_meta)?;
        let of_globals = lua.create_table()?;
        self.protect(&of_globals, globals_meta)?;
        let function = define(lua, move |lua, call| match call.get(1) {
            None => Err(Raise::Arg(1, "value expected".into())),
            Some(Value::String(_)) => one(lua, &of_strings),
            Some(Value::Table(table)) if *table == globals => one(lua, &of_globals),
            Some(Value::Table(table)) if fronts.raw_get::<Value>(table)?.is_nil() => {
                let Some(meta) = table.metatable() else {
                    return one(lua, Value::Nil);
                };
                match meta.raw_get("__metatable")? {
                    Value::Nil => one(lua, meta),
                    shown => one(lua, shown),
                }
            }
            Some(_) => one(lua, Value::Nil),
        })?;
        self.globals.raw_set("getmetatable", function)
    }

    /// Calls a function, and writes what it returned or says how it failed.
    pub fn run(&self, function: Kept, given: &Given<'_>, reply: &mut Reply) -> Result<(), Failure> {
        let mut write = |stack: &Stack| convert::write_top(stack, run::protocol(), reply);
        self.caller.call(function, given, &mut write)
    }

    /// Adds a table that scripts cannot change; returns its front.
    pub fn protected(&self, hidden: &Table) -> mlua::Result<Table> {
        let front = self.lua.create_table()?;
        self.protect(&front, hidden)?;
        Ok(front)
    }
}

/// The collector belongs to all scripts: it cannot be stopped or made slow.
fn collectgarbage(lua: &Lua, call: &Call) -> Results {
    let option = match call.get(1) {
        None | Some(Value::Nil) => "collect".to_owned(),
        Some(_) => call.bytes(lua, 1)?.to_string_lossy(),
    };
    match option.as_str() {
        "count" => one(lua, lua.used_memory() as f64 / 1024.0),
        "step" => one(lua, lua.gc_step()?),
        "collect" => {
            lua.gc_collect()?;
            one(lua, 0)
        }
        "stop" | "restart" | "setpause" | "setstepmul" => one(lua, 0),
        other => Err(Raise::Arg(1, format!("invalid option '{other}'"))),
    }
}

fn missing_global(_: &Lua, call: &Call) -> Results {
    let name = match call.get(2) {
        Some(Value::String(name)) => name.to_string_lossy(),
        Some(Value::Integer(number)) => number.to_string(),
        _ => "?".into(),
    };
    Err(Raise::text(format!(
        "Script attempted to access nonexistent global variable '{name}'"
    )))
}
