//! The table `redis`: commands, replies, logging.

use super::raise::{Call, Raise, Results, define, define_for_texts, none, one, to_integer};
use super::stack::{Item, Stack};
use super::{convert, raw, run};
use crate::resp::{Protocol, Reply};
use mlua::ffi::lua_State;
use mlua::{Lua, Table, Value};
use sha1::{Digest, Sha1};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::ffi::c_int;

/// Flags of `set_repl`; effects are what is journaled here, whatever they say.
const REPL: [(&str, i64); 5] = [
    ("REPL_NONE", 0),
    ("REPL_AOF", 1),
    ("REPL_SLAVE", 2),
    ("REPL_REPLICA", 2),
    ("REPL_ALL", 3),
];
const LEVELS: [&str; 4] = ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"];

const NO_ARGUMENT: &str = "ERR Please specify at least one argument for this redis lib call";
const NOT_TEXT: &str = "ERR Lua redis lib command arguments must be strings or integers";
const OUTSIDE: &str = "ERR redis.call/pcall can only be called inside a script invocation";

thread_local! {
    /// Kept from one command to the next.
    static REPLY: RefCell<Reply> = RefCell::new(Reply::default());
}

/// The table, with the version that scripts are told.
pub fn table(lua: &Lua, version: &str) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("call", raw::function(lua, call)?)?;
    table.raw_set("pcall", raw::function(lua, pcall)?)?;
    table.raw_set("acl_check_cmd", define_for_texts(lua, acl_check_cmd)?)?;
    table.raw_set("error_reply", define(lua, error_reply)?)?;
    table.raw_set("status_reply", define(lua, status_reply)?)?;
    table.raw_set("sha1hex", define(lua, sha1hex)?)?;
    table.raw_set("log", define(lua, log)?)?;
    table.raw_set("setresp", define(lua, setresp)?)?;
    table.raw_set("set_repl", define(lua, set_repl)?)?;
    table.raw_set("replicate_commands", define(lua, |lua, _| one(lua, true))?)?;
    table.raw_set("breakpoint", define(lua, |lua, _| one(lua, false))?)?;
    table.raw_set("debug", define(lua, |_, _| none())?)?;
    for (name, value) in REPL {
        table.raw_set(name, value)?;
    }
    for (level, name) in LEVELS.into_iter().enumerate() {
        table.raw_set(name, level)?;
    }
    let parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let number = parts.fold(0, |all: u32, part: u32| all << 8 | part);
    table.raw_set("REDIS_VERSION", version)?;
    table.raw_set("REDIS_VERSION_NUM", number)?;
    Ok(table)
}

/// Fails with an error of ours, in the form of a command's.
fn refuse(lua: &Lua, text: &str) -> Raise {
    match convert::error(lua, text.as_bytes()) {
        Ok(error) => Raise::Value(error),
        Err(error) => Raise::Lua(error),
    }
}

/// The arguments, which are text (numbers have become it); none when one is something else.
fn texts(call: &Call) -> Option<SmallVec<[mlua::BorrowedBytes; 8]>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.as_bytes()),
        _ => None,
    };
    call.args.iter().map(text).collect()
}

// SAFETY: both are called by Lua as C functions. Where `command` leaves by a jump, it has nothing with a destructor.
unsafe extern "C-unwind" fn call(state: *mut lua_State) -> c_int {
    command(&unsafe { Stack::of(state) }, true)
}

unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
    command(&unsafe { Stack::of(state) }, false)
}

/// Runs the command whose words are on the stack, and puts its reply there; with `raises` an error is raised.
fn command(stack: &Stack, raises: bool) -> c_int {
    let count = stack.len();
    stack.write_numbers(count);
    let failed = match run_command(stack, count) {
        Ok(reply) => {
            // SAFETY: the reply is this thread's, and no command runs before the value is made of it.
            let reply = unsafe { &*reply };
            convert::push_reply(stack, reply);
            reply.starts_with(b"-")
        }
        Err(why) => {
            convert::push_error(stack, why.as_bytes());
            true
        }
    };
    if run::is_ended() {
        stack.raise_text(b"the script was ended");
    }
    if failed && raises {
        stack.raise();
    }
    1
}

/// Runs the command of the texts on the stack. The reply is there until the next command. Nothing here is Lua's: it may
/// have destructors.
fn run_command(stack: &Stack, count: c_int) -> Result<*const [u8], &'static str> {
    let text = |at| match stack.item(at) {
        Item::Text(text) => Some(text),
        _ => None,
    };
    let words: Option<SmallVec<[&[u8]; 8]>> = (1..=count).map(text).collect();
    let words = words.ok_or(NOT_TEXT)?;
    if words.is_empty() {
        return Err(NO_ARGUMENT);
    }
    REPLY.with_borrow_mut(|reply| {
        reply.clear();
        reply.set_protocol(run::protocol());
        run::host(|host| host.call(&words, reply)).ok_or(OUTSIDE)?;
        Ok(std::ptr::from_ref(reply.as_slice()))
    })
}

fn acl_check_cmd(lua: &Lua, call: &Call) -> Results {
    if call.is_empty() {
        return Err(refuse(lua, NO_ARGUMENT));
    }
    let texts = texts(call).ok_or_else(|| refuse(lua, NOT_TEXT))?;
    let words: SmallVec<[&[u8]; 8]> = texts.iter().map(|text| &text[..]).collect();
    match run::host(|host| host.may_call(&words)) {
        Some(Some(allowed)) => one(lua, allowed),
        Some(None) => Err(refuse(lua, "ERR Invalid command passed to redis.acl_check_cmd()")),
        None => Err(refuse(
            lua,
            "ERR redis.acl_check_cmd can only be called inside a script invocation",
        )),
    }
}

/// The only argument, if it is a string.
fn only_string(call: &Call) -> Option<&mlua::LuaString> {
    match call.get(1) {
        Some(Value::String(text)) if call.len() == 1 => Some(text),
        _ => None,
    }
}

fn error_reply(lua: &Lua, call: &Call) -> Results {
    let Some(text) = only_string(call) else {
        return one(
            lua,
            convert::error(lua, b"ERR wrong number or type of arguments")?,
        );
    };
    let text = text.as_bytes();
    let text = text.strip_prefix(b"-").unwrap_or(&text);
    one(lua, convert::error(lua, text)?)
}

fn status_reply(lua: &Lua, call: &Call) -> Results {
    let Some(text) = only_string(call) else {
        return one(
            lua,
            convert::error(lua, b"ERR wrong number or type of arguments")?,
        );
    };
    let table = lua.create_table()?;
    table.raw_set("ok", text)?;
    one(lua, table)
}

/// A hash in hexadecimal.
pub fn sha1_hex(bytes: &[u8]) -> String {
    Sha1::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn sha1hex(lua: &Lua, call: &Call) -> Results {
    if call.len() != 1 {
        return Err(refuse(lua, "ERR wrong number of arguments"));
    }
    // What is no text counts as none.
    let hash = match call.bytes(lua, 1) {
        Ok(text) => sha1_hex(&text.as_bytes()),
        Err(_) => sha1_hex(b""),
    };
    one(lua, hash)
}

fn log(lua: &Lua, call: &Call) -> Results {
    if call.len() < 2 {
        return Err(refuse(lua, "ERR redis.log() requires two arguments or more."));
    }
    let Some(level) = call.get(1).and_then(super::raise::as_number) else {
        return Err(refuse(lua, "ERR First argument must be a number (log level)."));
    };
    let level = match to_integer(level) {
        0 => log::Level::Trace,
        1 => log::Level::Debug,
        2 => log::Level::Info,
        3 => log::Level::Warn,
        _ => return Err(refuse(lua, "ERR Invalid debug level.")),
    };
    let mut words = Vec::new();
    for at in 2..=call.len() {
        if let Ok(text) = call.bytes(lua, at) {
            words.push(String::from_utf8_lossy(&text.as_bytes()).into_owned());
        }
    }
    let line = words.join(" ").replace(['\r', '\n'], " ");
    log::log!(level, "script: {line}");
    none()
}

fn setresp(lua: &Lua, call: &Call) -> Results {
    if call.len() != 1 {
        return Err(refuse(lua, "ERR redis.setresp() requires one argument."));
    }
    match call.get(1).and_then(super::raise::as_number) {
        Some(2.0) => run::set_protocol(Protocol::Resp2),
        Some(3.0) => run::set_protocol(Protocol::Resp3),
        _ => return Err(refuse(lua, "ERR RESP version must be 2 or 3.")),
    }
    none()
}

fn set_repl(lua: &Lua, call: &Call) -> Results {
    if call.len() != 1 {
        return Err(refuse(lua, "ERR redis.set_repl() requires two arguments."));
    }
    let flags = call.get(1).and_then(super::raise::as_number);
    if flags.is_some_and(|flags| !(0..=3).contains(&to_integer(flags))) {
        return Err(refuse(
            lua,
            "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ));
    }
    none()
}
