//! Replies of commands as values of Lua, and values of Lua as replies: the rules that Redis has for both protocols.
//!
//! | reply | value |
//! |---|---|
//! | integer, string | number, string |
//! | status, error | a table with `ok`, with `err` |
//! | array | a table from 1 on |
//! | nothing | false; nil where the script has asked for RESP3 |
//! | map, set, double, big number, verbatim text, true and false | a table with `map`, `set`, `double`, `big_number`, `verbatim_string`; booleans |

use super::raise::to_integer;
use crate::resp::{Protocol, Reply};
use mlua::{Lua, Table, Value};

/// Tables within tables of what a script returns.
const NESTING_MOST: usize = 1500;

/// A reply that this server wrote, as it is read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let len = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
        self.at = (self.at + len + 2).min(self.bytes.len());
        &rest[..len]
    }

    /// The bytes of a string, whose length was in the line before.
    fn string(&mut self, len: i64) -> &'a [u8] {
        let from = self.at;
        let to = (from + len as usize).min(self.bytes.len());
        self.at = (to + 2).min(self.bytes.len());
        &self.bytes[from..to]
    }

    fn value(&mut self, lua: &Lua) -> mlua::Result<Value> {
        let line = self.line();
        let Some((kind, text)) = line.split_first() else {
            return Ok(Value::Nil);
        };
        let len = || crate::resp::number::parse_i64(text).unwrap_or(0);
        match kind {
            b':' => Ok(Value::Integer(len())),
            b'$' | b'*' if len() < 0 => Ok(Value::Boolean(false)),
            b'$' => Ok(Value::String(lua.create_string(self.string(len()))?)),
            b'+' => tagged(lua, "ok", lua.create_string(text)?),
            b'-' => error(lua, text),
            b'*' | b'>' => {
                let table = lua.create_table_with_capacity(len() as usize, 0)?;
                for index in 1..=len() {
                    let value = self.value(lua)?;
                    table.raw_set(index, value)?;
                }
                Ok(Value::Table(table))
            }
            b'%' => {
                let map = lua.create_table()?;
                for _ in 0..len() {
                    let key = self.value(lua)?;
                    let value = self.value(lua)?;
                    map.raw_set(key, value)?;
                }
                tagged(lua, "map", map)
            }
            b'~' => {
                let set = lua.create_table()?;
                for _ in 0..len() {
                    set.raw_set(self.value(lua)?, true)?;
                }
                tagged(lua, "set", set)
            }
            b'_' => Ok(Value::Nil),
            b'#' => Ok(Value::Boolean(text == b"t")),
            b',' => tagged(lua, "double", super::number::parse(text).unwrap_or(f64::NAN)),
            b'(' => tagged(lua, "big_number", lua.create_string(text)?),
            b'=' => {
                let text = self.string(len());
                let verbatim = lua.create_table()?;
                let format = text.get(..3).unwrap_or_default();
                verbatim.raw_set("format", lua.create_string(format)?)?;
                let rest = text.get(4..).unwrap_or_default();
                verbatim.raw_set("string", lua.create_string(rest)?)?;
                tagged(lua, "verbatim_string", verbatim)
            }
            _ => Ok(Value::Nil),
        }
    }
}

fn tagged(lua: &Lua, name: &str, value: impl mlua::IntoLua) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

/// A reply of a command as a value.
pub fn value_of(lua: &Lua, reply: &[u8]) -> mlua::Result<Value> {
    Reader { bytes: reply, at: 0 }.value(lua)
}

/// An error as a value: a table whose `err` begins with a code. `text` may have the code behind a dash, or is the text
/// alone; then the code is `ERR`.
pub fn error(lua: &Lua, text: &[u8]) -> mlua::Result<Value> {
    let text = match memchr::memchr(b' ', text) {
        Some(_) => text.to_vec(),
        None => [b"ERR ", text].concat(),
    };
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("err", lua.create_string(trimmed(&text))?)?;
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(Value::Table(table))
}

fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    &text[..end.map_or(0, |last| last + 1)]
}

/// How a script ended that failed.
pub struct Failure {
    /// With its code.
    pub text: Vec<u8>,
    /// Where in the source.
    pub place: Option<(Vec<u8>, i64)>,
    /// It is the error of a command, which was counted already.
    pub counted: bool,
}

impl Failure {
    pub fn of(value: &Value) -> Failure {
        let Value::Table(table) = value else {
            let text = match value {
                Value::String(text) => text.as_bytes().to_vec(),
                _ => b"unknown error".to_vec(),
            };
            return Failure {
                text: [b"ERR ", &text[..]].concat(),
                place: None,
                counted: false,
            };
        };
        let bytes = |name: &str| match table.raw_get(name) {
            Ok(Value::String(text)) => Some(text.as_bytes().to_vec()),
            _ => None,
        };
        let line = match table.raw_get("line") {
            Ok(Value::Integer(line)) => Some(line),
            _ => None,
        };
        Failure {
            text: bytes("err").unwrap_or_else(|| b"ERR unknown error".to_vec()),
            place: bytes("source").zip(line),
            counted: is_counted(table),
        }
    }
}

fn is_counted(table: &Table) -> bool {
    matches!(
        table.raw_get("ignore_error_stats_update"),
        Ok(Value::Boolean(true))
    )
}

/// Writes what a script returned. `script` is the protocol that the script has asked for: it says what booleans are.
pub fn write(value: &Value, script: Protocol, reply: &mut Reply) {
    write_at(value, script, reply, 0);
}

fn write_at(value: &Value, script: Protocol, reply: &mut Reply, nesting: usize) {
    match value {
        Value::String(text) => reply.bulk(&text.as_bytes()),
        Value::Integer(number) => reply.int(*number),
        Value::Number(number) => reply.int(to_integer(*number)),
        Value::Boolean(value) if script == Protocol::Resp3 => reply.bool(*value),
        Value::Boolean(true) => reply.int(1),
        Value::Table(_) if nesting >= NESTING_MOST => reply.error("ERR reached lua stack limit"),
        Value::Table(table) => write_table(table, script, reply, nesting + 1),
        _ => reply.null(),
    }
}

fn write_table(table: &Table, script: Protocol, reply: &mut Reply, nesting: usize) {
    let get = |name: &str| table.raw_get::<Value>(name).unwrap_or(Value::Nil);
    if let Value::String(text) = get("err") {
        return reply.error_bytes(&text.as_bytes());
    }
    if let Value::String(text) = get("ok") {
        return reply.simple(&one_line(&text.as_bytes()));
    }
    match get("double") {
        Value::Integer(number) => return reply.double(number as f64),
        Value::Number(number) => return reply.double(number),
        _ => {}
    }
    if let Value::Table(map) = get("map") {
        return write_pairs(&map, reply, true, |value, reply| {
            write_at(value, script, reply, nesting);
        });
    }
    if let Value::Table(set) = get("set") {
        return write_pairs(&set, reply, false, |value, reply| {
            write_at(value, script, reply, nesting);
        });
    }
    if let Value::String(digits) = get("big_number") {
        return reply.big_number(&one_line(&digits.as_bytes()));
    }
    if let Value::Table(verbatim) = get("verbatim_string")
        && let (Ok(Value::String(text)), Ok(Value::String(format))) =
            (verbatim.raw_get("string"), verbatim.raw_get("format"))
    {
        let format = String::from_utf8_lossy(&format.as_bytes()).into_owned();
        let format: String = format.chars().chain("   ".chars()).take(3).collect();
        return reply.verbatim(&format, &text.as_bytes());
    }
    let array = reply.defer_array();
    let mut len = 0;
    loop {
        let value = table.raw_get::<Value>(len + 1).unwrap_or(Value::Nil);
        if value.is_nil() {
            break;
        }
        write_at(&value, script, reply, nesting);
        len += 1;
    }
    reply.set_deferred(array, len);
}

fn write_pairs(table: &Table, reply: &mut Reply, is_map: bool, mut write: impl FnMut(&Value, &mut Reply)) {
    let deferred = if is_map {
        reply.defer_map()
    } else {
        reply.defer_set()
    };
    let mut len = 0;
    for pair in table.pairs::<Value, Value>() {
        let Ok((key, value)) = pair else { break };
        write(&key, reply);
        if is_map {
            write(&value, reply);
        }
        len += 1;
    }
    reply.set_deferred(deferred, len);
}

/// Line ends become blanks. Bytes that are not text are kept as far as a line of text can.
fn one_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(['\r', '\n'], " ")
}
