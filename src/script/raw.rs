//! What has to be written against Lua's own C interface: raising a value as it is, looking at the stack of calls, the
//! count hook, and the base functions that must know protected tables.
//!
//! `mlua` turns an error of a Rust function into a userdata, and a table that was raised into text. Redis's scripts
//! raise tables and plain strings and can tell them apart, so functions of ours answer how they ended, and a C function
//! around each of them (`raising`) raises.
//!
//! All of these run on Lua's stack and may leave by a jump of Lua's (`lua_error`, or for want of memory). None of them
//! has a value with a destructor at such a place; Rust code that has is called behind `mlua`'s own callbacks.

use super::convert::Failure;
use super::engine::MEMORY_MOST;
use super::stack::Stack;
use mlua::ffi::{self, lua_Debug, lua_State};
use mlua::{Function, IntoLuaMulti, Lua, Table, Value, lua_CFunction};
use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;

const READ_ONLY: &CStr = c"Attempt to modify a readonly table";
/// The first byte of compiled code.
const COMPILED: u8 = 27;

/// Makes a function that raises what the inner one says. `inner` answers `true` and its results, or `false`, a value and
/// how it is raised: nil as it is, 0 with the caller's place in front, n + 1 as a complaint about argument n. With
/// `texts` numbers among its arguments are turned into text first, as commands want them.
pub fn raising(lua: &Lua, inner: Function, texts: bool) -> mlua::Result<Function> {
    let function = if texts { raise_texts } else { raise };
    closure(lua, function, inner, 1)
}

/// Makes a function that does not touch protected tables: `original`, which is a C function of Lua without upvalues,
/// may not change them. `tables` has them as its keys.
pub fn refusing(lua: &Lua, original: Function, tables: &Table) -> mlua::Result<Function> {
    closure(lua, refuse, (original, tables), 2)
}

/// Makes a function that sees what a protected table stands for: `tables` says it for each.
pub fn seeing_through(lua: &Lua, original: Function, tables: &Table) -> mlua::Result<Function> {
    closure(lua, see_through, (original, tables), 2)
}

/// `pairs`, for protected tables by way of a `next` that sees through them.
pub fn pairs(lua: &Lua, next: Function, tables: &Table, through: Function) -> mlua::Result<Function> {
    closure(lua, walk, (next, tables, through), 3)
}

/// `loadstring`, for source text alone: compiled code can do anything to the process.
pub fn loading_text(lua: &Lua, original: Function) -> mlua::Result<Function> {
    closure(lua, load_text, original, 1)
}

/// Makes a function of one that is written against the stack.
pub fn function(lua: &Lua, function: lua_CFunction) -> mlua::Result<Function> {
    closure(lua, function, (), 0)
}

fn closure(
    lua: &Lua,
    function: lua_CFunction,
    upvalues: impl IntoLuaMulti,
    count: c_int,
) -> mlua::Result<Function> {
    // SAFETY: the closure takes the `count` upvalues off the stack, which is all that was put there, and leaves itself.
    unsafe {
        lua.exec_raw(upvalues, |state| {
            ffi::lua_pushcclosure(state, function, count);
        })
    }
}

/// Makes a table the one that global names are looked up in.
pub fn set_globals(lua: &Lua, table: &Table) -> mlua::Result<()> {
    // SAFETY: the table is the only value on the stack, and is taken off it.
    unsafe { lua.exec_raw(table, |state| ffi::lua_replace(state, ffi::LUA_GLOBALSINDEX)) }
}

/// How a function gets its keys and its other arguments.
pub enum Given<'a> {
    Nothing,
    /// As `KEYS` and `ARGV`.
    Names(Texts<'a>, Texts<'a>),
    /// As two tables.
    Arguments(Texts<'a>, Texts<'a>),
}

type Texts<'a> = &'a [&'a [u8]];

/// A function that a state keeps.
#[derive(Clone, Copy)]
pub struct Kept(c_int);

/// Calls functions that a state keeps, without a handle for anything: what is called for every script costs no more than
/// the script.
pub struct Caller {
    lua: Lua,
    /// What is on its stack is the caller's while nothing runs.
    state: *mut lua_State,
    /// `run_task`, the handler of errors, and the table of global names.
    task: Kept,
    handler: Kept,
    names: Kept,
}

/// What `run_task` is told.
struct Task<'a> {
    caller: &'a Caller,
    function: Kept,
    given: &'a Given<'a>,
    show: &'a mut dyn FnMut(&Stack),
    outcome: Result<(), Failure>,
}

impl Caller {
    /// For functions whose `KEYS` and `ARGV` are in the table `names`.
    pub fn new(lua: &Lua, names: &Table) -> mlua::Result<Caller> {
        let mut main = std::ptr::null_mut();
        // SAFETY: the stack stays as it is.
        unsafe { lua.exec_raw::<()>((), |state| main = state)? };
        Ok(Caller {
            lua: lua.clone(),
            state: main,
            task: keep(lua, closure(lua, run_task, (), 0)?)?,
            handler: keep(lua, closure(lua, locate, (), 0)?)?,
            names: keep(lua, names)?,
        })
    }

    pub fn keep(&self, function: &Function) -> mlua::Result<Kept> {
        keep(&self.lua, function)
    }

    pub fn forget(&self, kept: Kept) {
        // SAFETY: the number came from `keep`, and whoever forgets it has it no more.
        unsafe { ffi::luaL_unref(self.state, ffi::LUA_REGISTRYINDEX, kept.0) }
    }

    /// Calls a function within the limit of memory, and shows its first result.
    pub fn call(
        &self,
        function: Kept,
        given: &Given<'_>,
        show: &mut dyn FnMut(&Stack),
    ) -> Result<(), Failure> {
        let mut task = Task {
            caller: self,
            function,
            given,
            show,
            outcome: Ok(()),
        };
        let _ = self.lua.set_memory_limit(MEMORY_MOST);
        // SAFETY: nothing runs in this state, so its stack has the room that Lua grants; the task outlives the call, and
        // whatever is raised ends there.
        let ended = unsafe {
            let stack = Stack::of(self.state);
            ffi::lua_rawgeti_(self.state, ffi::LUA_REGISTRYINDEX, self.task.0);
            ffi::lua_pushlightuserdata(self.state, (&raw mut task).cast());
            if ffi::lua_pcall(self.state, 1, 0, 0) == ffi::LUA_OK {
                task.outcome
            } else {
                let failure = Failure::read(&stack);
                stack.pop(1);
                Err(failure)
            }
        };
        let _ = self.lua.set_memory_limit(0);
        ended
    }
}

fn keep(lua: &Lua, value: impl mlua::IntoLua) -> mlua::Result<Kept> {
    let mut number = 0;
    // SAFETY: the value is taken off the stack, where it is alone.
    unsafe {
        let value = value.into_lua(lua)?;
        lua.exec_raw::<()>(value, |state| {
            number = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        })?;
    }
    Ok(Kept(number))
}

// SAFETY: called by `Caller::call` alone, with its task, which nobody else uses meanwhile. What it borrows of the task
// needs nothing done when it leaves by a jump.
unsafe extern "C-unwind" fn run_task(state: *mut lua_State) -> c_int {
    unsafe {
        let task = &mut *ffi::lua_touserdata(state, 1).cast::<Task<'_>>();
        let stack = Stack::of(state);
        stack.back_to(0);
        for kept in [task.caller.handler, task.function, task.caller.names] {
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, kept.0);
        }
        let args = give(&stack, task.given);
        if ffi::lua_pcall(state, args, 1, 1) == ffi::LUA_OK {
            (task.show)(&stack);
        } else {
            task.outcome = Err(Failure::read(&stack));
        }
        0
    }
}

/// Leaves handler, function and arguments of handler, function and names on the stack; how many arguments these are.
fn give(stack: &Stack, given: &Given<'_>) -> c_int {
    match given {
        Given::Nothing => {
            stack.back_to(2);
            0
        }
        Given::Names(keys, args) => {
            for (name, texts) in [(&b"KEYS"[..], keys), (b"ARGV", args)] {
                stack.push_text(name);
                stack.push_list(texts);
                stack.set_pair(3);
            }
            stack.back_to(2);
            0
        }
        Given::Arguments(keys, args) => {
            stack.back_to(2);
            stack.push_list(keys);
            stack.push_list(args);
            2
        }
    }
}

/// Makes one value on the stack.
pub fn make(lua: &Lua, push: impl FnOnce(&Stack)) -> mlua::Result<Value> {
    // SAFETY: this is the C function that runs, and what it pushes is what it returns.
    unsafe { lua.exec_raw((), |state| push(&Stack::of(state))) }
}

/// Says how far the heap grows before the collector begins anew, in percent of what was in use when it last ended.
pub fn set_pause(lua: &Lua, percent: c_int) -> mlua::Result<()> {
    // SAFETY: the stack stays as it is.
    unsafe {
        lua.exec_raw((), |state| {
            ffi::lua_gc(state, ffi::LUA_GCSETPAUSE, percent);
        })
    }
}

/// Calls `super::run::tick` after every so many instructions of the running coroutine and those that it makes.
pub fn set_hook(lua: &Lua, instructions: c_int) -> mlua::Result<()> {
    // SAFETY: nothing is put on the stack; the hook keeps to Lua's rules for hooks.
    unsafe {
        lua.exec_raw((), |state| {
            ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, instructions);
        })
    }
}

// SAFETY: called by Lua as a hook. Rust code runs only inside `tick`, which does not unwind, and is over before the
// error is raised.
unsafe extern "C-unwind" fn hook(state: *mut lua_State, _: *mut lua_Debug) {
    if super::run::tick() {
        return;
    }
    unsafe {
        // From now on each instruction raises, so that no `pcall` of the script holds it up.
        ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, 1);
        ffi::lua_pushstring(state, c"the script was ended".as_ptr());
        ffi::lua_error(state);
    }
}

// SAFETY: a C function with one upvalue, a function; it uses no more of the stack than its arguments and 4 values, which
// Lua grants.
unsafe extern "C-unwind" fn raise(state: *mut lua_State) -> c_int {
    unsafe {
        let args = ffi::lua_gettop(state);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, args, ffi::LUA_MULTRET);
        if ffi::lua_toboolean(state, 1) != 0 {
            return ffi::lua_gettop(state) - 1;
        }
        ffi::lua_settop(state, 3);
        if ffi::lua_type(state, 3) != ffi::LUA_TNUMBER {
            ffi::lua_settop(state, 2);
            ffi::lua_error(state);
        }
        let how = ffi::lua_tonumber(state, 3) as c_int;
        if how > 0 {
            ffi::luaL_argerror(state, how - 1, ffi::lua_tostring(state, 2));
        }
        ffi::luaL_where(state, 1);
        ffi::lua_pushvalue(state, 2);
        ffi::lua_concat(state, 2);
        ffi::lua_error(state)
    }
}

// SAFETY: as `raise`.
unsafe extern "C-unwind" fn raise_texts(state: *mut lua_State) -> c_int {
    unsafe {
        let stack = Stack::of(state);
        stack.write_numbers(stack.len());
        raise(state)
    }
}

// SAFETY: a C function with two upvalues, a C function and a table; the first is called with the very same stack.
unsafe extern "C-unwind" fn refuse(state: *mut lua_State) -> c_int {
    unsafe {
        if ffi::lua_type(state, 1) == ffi::LUA_TTABLE {
            ffi::lua_pushvalue(state, 1);
            ffi::lua_rawget(state, ffi::lua_upvalueindex(2));
            let protected = ffi::lua_type(state, -1) != ffi::LUA_TNIL;
            ffi::lua_pop(state, 1);
            if protected {
                ffi::lua_pushstring(state, READ_ONLY.as_ptr());
                ffi::lua_error(state);
            }
        }
        original(state)
    }
}

// SAFETY: as `refuse`.
unsafe extern "C-unwind" fn see_through(state: *mut lua_State) -> c_int {
    unsafe {
        if ffi::lua_type(state, 1) == ffi::LUA_TTABLE {
            ffi::lua_pushvalue(state, 1);
            ffi::lua_rawget(state, ffi::lua_upvalueindex(2));
            if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
                ffi::lua_replace(state, 1);
            } else {
                ffi::lua_pop(state, 1);
            }
        }
        original(state)
    }
}

// SAFETY: the first upvalue is a C function; it gets the stack as Lua gave it to us.
unsafe fn original(state: *mut lua_State) -> c_int {
    unsafe {
        match ffi::lua_tocfunction(state, ffi::lua_upvalueindex(1)) {
            Some(function) => function(state),
            None => 0,
        }
    }
}

// SAFETY: a C function with three upvalues: two functions and a table.
unsafe extern "C-unwind" fn walk(state: *mut lua_State) -> c_int {
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::lua_pushvalue(state, 1);
        ffi::lua_rawget(state, ffi::lua_upvalueindex(2));
        let protected = ffi::lua_type(state, -1) == ffi::LUA_TTABLE;
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(if protected { 3 } else { 1 }));
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushnil(state);
        3
    }
}

// SAFETY: a C function with one upvalue, a C function; the string is looked at while it is on the stack.
unsafe extern "C-unwind" fn load_text(state: *mut lua_State) -> c_int {
    unsafe {
        if ffi::lua_type(state, 1) == ffi::LUA_TSTRING {
            let mut len = 0;
            let text = ffi::lua_tolstring(state, 1, &mut len);
            if len > 0 && text.cast::<u8>().read() == COMPILED {
                ffi::lua_pushnil(state);
                let why = c"[string \"\x1bLuaQ\"]:1: unexpected symbol near 'char(27)'";
                ffi::lua_pushstring(state, why.as_ptr());
                return 2;
            }
        }
        original(state)
    }
}

// SAFETY: called as an error handler, with the error as its only argument; `lua_Debug` is filled by `lua_getstack`
// before it is read.
unsafe extern "C-unwind" fn locate(state: *mut lua_State) -> c_int {
    unsafe {
        ffi::lua_settop(state, 1);
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            ffi::lua_createtable(state, 0, 3);
            ffi::lua_pushstring(state, c"ERR ".as_ptr());
            ffi::luaL_tolstring(state, 1, std::ptr::null_mut());
            ffi::lua_concat(state, 2);
            ffi::lua_setfield(state, 2, c"err".as_ptr());
            ffi::lua_replace(state, 1);
        }
        let mut place = MaybeUninit::<lua_Debug>::zeroed();
        let place = place.as_mut_ptr();
        // Level 0 is this function, 1 the one that raised: a function of ours or of Lua's library, or a script's.
        let mut level = 1;
        while level <= 2 && ffi::lua_getstack(state, level, place) != 0 {
            ffi::lua_getinfo(state, c"Sl".as_ptr(), place);
            if level == 2 || *(*place).what != b'C' as std::ffi::c_char {
                ffi::lua_pushstring(state, (*place).source);
                ffi::lua_setfield(state, 1, c"source".as_ptr());
                ffi::lua_pushnumber(state, f64::from((*place).currentline));
                ffi::lua_setfield(state, 1, c"line".as_ptr());
                break;
            }
            level += 1;
        }
        1
    }
}
