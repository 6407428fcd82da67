//! `cjson`: values to JSON and back, as lua-cjson 2.1 does it, its settings and complaints included.

mod decode;
mod encode;

use super::raise::{Call, Raise, Results, define, one};
use mlua::{Lua, Table, Value};
use parking_lot::Mutex;
use std::sync::{Arc, LazyLock};

/// What becomes of numbers that JSON does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Settings {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_max_depth: i32,
    decode_max_depth: i32,
    precision: i32,
    keep_buffer: bool,
    encode_invalid: Invalid,
    decode_invalid: Invalid,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            precision: 14,
            keep_buffer: true,
            encode_invalid: Invalid::Refused,
            decode_invalid: Invalid::Written,
        }
    }
}

type Shared = Arc<Mutex<Settings>>;

/// What scripts set is in force for the scripts of all threads.
static OF_ALL: LazyLock<Shared> = LazyLock::new(Shared::default);

/// A table of the module, with the settings that all scripts share.
pub fn table(lua: &Lua) -> mlua::Result<Table> {
    table_with(lua, OF_ALL.clone())
}

fn table_with(lua: &Lua, shared: Shared) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let add = |name: &str, run: fn(&Lua, &Call, &mut Settings) -> Results| {
        let shared = shared.clone();
        let function = define(lua, move |lua, call| {
            let before = *shared.lock();
            let mut settings = before;
            let results = run(lua, call, &mut settings);
            if settings != before {
                *shared.lock() = settings;
            }
            results
        })?;
        table.raw_set(name, function)
    };
    add("encode", |lua, call, settings| {
        only_argument(call)?;
        // proof: there is one argument.
        let value = call.get(1).unwrap_or(&Value::Nil);
        let mut text = Vec::new();
        encode::append(&mut text, value, settings)?;
        one(lua, lua.create_string(text)?)
    })?;
    add("decode", |lua, call, settings| {
        only_argument(call)?;
        let text = call.bytes(lua, 1)?;
        one(lua, decode::read(lua, &text.as_bytes(), settings)?)
    })?;
    add("encode_max_depth", |lua, call, settings| {
        integer(lua, call, &mut settings.encode_max_depth, i32::MAX)
    })?;
    add("decode_max_depth", |lua, call, settings| {
        integer(lua, call, &mut settings.decode_max_depth, i32::MAX)
    })?;
    add("encode_number_precision", |lua, call, settings| {
        integer(lua, call, &mut settings.precision, 14)
    })?;
    add("encode_keep_buffer", |lua, call, settings| {
        at_most(call, 1)?;
        boolean(call, 1, &mut settings.keep_buffer)?;
        one(lua, settings.keep_buffer)
    })?;
    add("encode_sparse_array", |_, call, settings| {
        at_most(call, 3)?;
        boolean(call, 1, &mut settings.sparse_convert)?;
        bounded(call, 2, &mut settings.sparse_ratio, 0, i32::MAX)?;
        bounded(call, 3, &mut settings.sparse_safe, 0, i32::MAX)?;
        Ok([
            Value::Boolean(settings.sparse_convert),
            Value::Integer(settings.sparse_ratio.into()),
            Value::Integer(settings.sparse_safe.into()),
        ]
        .into_iter()
        .collect())
    })?;
    add("encode_invalid_numbers", |lua, call, settings| {
        invalid(lua, call, &mut settings.encode_invalid, true)
    })?;
    add("decode_invalid_numbers", |lua, call, settings| {
        invalid(lua, call, &mut settings.decode_invalid, false)
    })?;
    table.raw_set(
        "new",
        define(lua, |lua, _| one(lua, table_with(lua, Shared::default())?))?,
    )?;
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}

fn only_argument(call: &Call) -> Result<(), Raise> {
    match call.len() {
        1 => Ok(()),
        _ => Err(Raise::Arg(1, "expected 1 argument".into())),
    }
}

fn at_most(call: &Call, most: usize) -> Result<(), Raise> {
    if call.len() > most {
        return Err(Raise::Arg(most + 1, "found too many arguments".into()));
    }
    Ok(())
}

fn given(call: &Call, at: usize) -> Option<&Value> {
    call.get(at).filter(|value| !value.is_nil())
}

fn bounded(call: &Call, at: usize, setting: &mut i32, least: i32, most: i32) -> Result<(), Raise> {
    if given(call, at).is_none() {
        return Ok(());
    }
    let wanted = call.integer(at)?;
    let fits = i32::try_from(wanted)
        .ok()
        .filter(|wanted| (least..=most).contains(wanted));
    *setting = fits.ok_or_else(|| Raise::Arg(at, format!("expected integer between {least} and {most}")))?;
    Ok(())
}

fn integer(lua: &Lua, call: &Call, setting: &mut i32, most: i32) -> Results {
    at_most(call, 1)?;
    bounded(call, 1, setting, 1, most)?;
    one(lua, *setting)
}

fn boolean(call: &Call, at: usize, setting: &mut bool) -> Result<(), Raise> {
    match given(call, at) {
        None => {}
        Some(Value::Boolean(wanted)) => *setting = *wanted,
        Some(value) => *setting = option(call, at, value, &["off", "on"])? == 1,
    }
    Ok(())
}

/// The place of a word among those that may be given.
fn option(call: &Call, at: usize, value: &Value, words: &[&str]) -> Result<usize, Raise> {
    let Value::String(word) = value else {
        let got = call.get(at).map_or("no value", super::raise::type_name);
        return Err(Raise::Arg(at, format!("string expected, got {got}")));
    };
    let word = word.to_string_lossy();
    let found = words.iter().position(|option| *option == word);
    found.ok_or_else(|| Raise::Arg(at, format!("invalid option '{word}'")))
}

fn invalid(lua: &Lua, call: &Call, setting: &mut Invalid, may_be_null: bool) -> Results {
    at_most(call, 1)?;
    let words = ["off", "on", "null"];
    let words = if may_be_null { &words[..] } else { &words[..2] };
    match given(call, 1) {
        None => {}
        Some(Value::Boolean(true)) => *setting = Invalid::Written,
        Some(Value::Boolean(false)) => *setting = Invalid::Refused,
        Some(value) => {
            *setting = match option(call, 1, value, words)? {
                0 => Invalid::Refused,
                1 => Invalid::Written,
                _ => Invalid::Null,
            }
        }
    }
    match setting {
        Invalid::Refused => one(lua, false),
        Invalid::Written => one(lua, true),
        Invalid::Null => one(lua, "null"),
    }
}
