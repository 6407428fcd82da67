//! Replies of commands as values of Lua, and values of Lua as replies: the rules that Redis has for both protocols.
//!
//! | reply | value |
//! |---|---|
//! | integer, string | number, string |
//! | status, error | a table with `ok`, with `err` |
//! | array | a table from 1 on |
//! | nothing | false; nil where the script has asked for RESP3 |
//! | map, set, double, big number, verbatim text, true and false | a table with `map`, `set`, `double`, `big_number`, `verbatim_string`; booleans |

use super::engine::first_line;
use super::raise::to_integer;
use super::stack::{Item, Stack};
use super::{raw, run};
use crate::resp::{Protocol, Reply};
use mlua::{Lua, Value};

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

    /// Puts the next value on the stack.
    fn push(&mut self, stack: &Stack) {
        let line = self.line();
        let Some((kind, text)) = line.split_first() else {
            return stack.push_nil();
        };
        let len = || crate::resp::number::parse_i64(text).unwrap_or(0);
        match kind {
            b':' => stack.push_number(len() as f64),
            b'$' | b'*' if len() < 0 => stack.push_boolean(false),
            b'$' => stack.push_text(self.string(len())),
            b'+' => {
                stack.push_text(text);
                stack.wrap(c"ok");
            }
            b'-' => {
                push_error(stack, text);
                // It is counted where the command was run.
                stack.push_text(b"ignore_error_stats_update");
                stack.push_boolean(true);
                stack.set_pair(-3);
            }
            b'*' | b'>' => self.push_array(stack, len()),
            b'%' => {
                self.push_pairs(stack, len(), true);
                stack.wrap(c"map");
            }
            b'~' => {
                self.push_pairs(stack, len(), false);
                stack.wrap(c"set");
            }
            b'#' => stack.push_boolean(text == b"t"),
            b',' => {
                stack.push_number(super::number::parse(text).unwrap_or(f64::NAN));
                stack.wrap(c"double");
            }
            b'(' => {
                stack.push_text(text);
                stack.wrap(c"big_number");
            }
            b'=' => self.push_verbatim(stack, len()),
            _ => stack.push_nil(),
        }
    }

    fn push_array(&mut self, stack: &Stack, len: i64) {
        if !stack.has_room() {
            return stack.push_nil();
        }
        stack.push_table(len as usize, 0);
        for index in 1..=len as i32 {
            self.push(stack);
            stack.set_element(-2, index);
        }
    }

    /// A map, or a set as keys of `true`.
    fn push_pairs(&mut self, stack: &Stack, len: i64, is_map: bool) {
        if !stack.has_room() {
            return stack.push_nil();
        }
        stack.push_table(0, len as usize);
        for _ in 0..len {
            self.push(stack);
            if is_map {
                self.push(stack);
            } else {
                stack.push_boolean(true);
            }
            stack.set_pair(-3);
        }
    }

    fn push_verbatim(&mut self, stack: &Stack, len: i64) {
        let text = self.string(len);
        stack.push_table(0, 2);
        stack.push_text(b"format");
        stack.push_text(text.get(..3).unwrap_or_default());
        stack.set_pair(-3);
        stack.push_text(b"string");
        stack.push_text(text.get(4..).unwrap_or_default());
        stack.set_pair(-3);
        stack.wrap(c"verbatim_string");
    }
}

/// Puts a command's reply on the stack as a value.
pub fn push_reply(stack: &Stack, reply: &[u8]) {
    Reader { bytes: reply, at: 0 }.push(stack);
}

/// Puts an error on the stack: a table whose `err` begins with a code. `text` has the code in front of a blank, or is
/// the text alone; then the code is `ERR`.
pub fn push_error(stack: &Stack, text: &[u8]) {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    let text = &text[..end.map_or(0, |last| last + 1)];
    stack.push_table(0, 2);
    stack.push_text(b"err");
    if memchr::memchr(b' ', text).is_some() {
        stack.push_text(text);
    } else {
        stack.push_text(b"ERR ");
        stack.push_text(text);
        stack.join(2);
    }
    stack.set_pair(-3);
}

/// The same as a handle.
pub fn error(lua: &Lua, text: &[u8]) -> mlua::Result<Value> {
    raw::make(lua, |stack| push_error(stack, text))
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
    /// Of something that went wrong in Lua itself.
    pub fn of_lua(error: &mlua::Error) -> Failure {
        Failure {
            text: format!("ERR {}", first_line(error)).into_bytes(),
            place: None,
            counted: false,
        }
    }

    /// Of the error on the top of the stack: what the handler of errors made, or a text.
    pub fn read(stack: &Stack) -> Failure {
        if let Item::Text(text) = stack.item(-1) {
            return Failure {
                text: [b"ERR ", text].concat(),
                place: None,
                counted: false,
            };
        }
        if stack.item(-1) != Item::Table || !stack.has_room() {
            return Failure {
                text: b"ERR unknown error".to_vec(),
                place: None,
                counted: false,
            };
        }
        // All of them before the first is copied: fetching may leave by a jump.
        let base = stack.len();
        for field in [c"err", c"source", c"line", c"ignore_error_stats_update"] {
            stack.push_copy(base);
            stack.push_field(field);
        }
        let field = |at: i32| stack.item(base + 2 * at);
        let text = |item| match item {
            Item::Text(text) => Some(text.to_vec()),
            _ => None,
        };
        let line = match field(3) {
            Item::Number(line) => Some(to_integer(line)),
            _ => None,
        };
        let failure = Failure {
            text: text(field(1)).unwrap_or_else(|| b"ERR unknown error".to_vec()),
            place: text(field(2)).zip(line),
            counted: field(4) == Item::Boolean(true),
        };
        stack.back_to(base);
        failure
    }
}

/// Writes what a script returned, which is on the top of the stack. `script` is the protocol that the script has asked
/// for: it says what booleans are. Whether that is an error which was counted already is noted (`run::is_counted`).
pub fn write_top(stack: &Stack, script: Protocol, reply: &mut Reply) {
    if stack.item(-1) == Item::Table && stack.has_room() {
        let base = stack.len();
        run::note_counted(stack.push_field(c"ignore_error_stats_update") == Item::Boolean(true));
        stack.back_to(base);
    }
    write_at(stack, script, reply, 0);
}

fn write_at(stack: &Stack, script: Protocol, reply: &mut Reply, nesting: usize) {
    match stack.item(-1) {
        Item::Text(text) => reply.bulk(text),
        Item::Number(number) => reply.int(to_integer(number)),
        Item::Boolean(value) if script == Protocol::Resp3 => reply.bool(value),
        Item::Boolean(true) => reply.int(1),
        Item::Table if nesting >= NESTING_MOST || !stack.has_room() => {
            reply.error("ERR reached lua stack limit");
        }
        Item::Table => write_table(stack, script, reply, nesting + 1),
        Item::Boolean(false) | Item::Nil | Item::Other => reply.null(),
    }
}

/// Writes the table on the top, and leaves it there alone.
fn write_table(stack: &Stack, script: Protocol, reply: &mut Reply, nesting: usize) {
    let base = stack.len();
    if let Item::Text(text) = stack.push_field(c"err") {
        reply.error_bytes(text);
    } else if let Item::Text(text) = stack.back_to(base).push_field(c"ok") {
        reply.simple_bytes(text);
    } else if let Item::Number(number) = stack.back_to(base).push_field(c"double") {
        reply.double(number);
    } else if stack.back_to(base).push_field(c"map") == Item::Table {
        write_pairs(stack, script, reply, nesting, true);
    } else if stack.back_to(base).push_field(c"set") == Item::Table {
        write_pairs(stack, script, reply, nesting, false);
    } else if let Item::Text(digits) = stack.back_to(base).push_field(c"big_number") {
        reply.big_number(digits);
    } else if stack.back_to(base).push_field(c"verbatim_string") == Item::Table
        && write_verbatim(stack, reply)
    {
    } else {
        stack.back_to(base);
        write_array(stack, script, reply, nesting);
    }
    stack.back_to(base);
}

/// Writes the table on the top as verbatim text, if it is one.
fn write_verbatim(stack: &Stack, reply: &mut Reply) -> bool {
    let base = stack.len();
    stack.push_field(c"string");
    let Item::Text(text) = stack.item(-1) else {
        return false;
    };
    stack.push_copy(base);
    let Item::Text(format) = stack.push_field(c"format") else {
        return false;
    };
    let format = String::from_utf8_lossy(format);
    let format: String = format.chars().chain("   ".chars()).take(3).collect();
    reply.verbatim(&format, text);
    true
}

fn write_array(stack: &Stack, script: Protocol, reply: &mut Reply, nesting: usize) {
    let array = reply.defer_array();
    let mut len = 0;
    while stack.push_element(-1, len + 1) != Item::Nil {
        write_at(stack, script, reply, nesting);
        stack.pop(1);
        len += 1;
    }
    stack.pop(1);
    reply.set_deferred(array, len as usize);
}

/// Writes the table on the top as a map, or its keys as a set.
fn write_pairs(stack: &Stack, script: Protocol, reply: &mut Reply, nesting: usize, is_map: bool) {
    let deferred = if is_map {
        reply.defer_map()
    } else {
        reply.defer_set()
    };
    let mut len = 0;
    stack.push_nil();
    while stack.next_pair() {
        // The key as a copy on the top: what is below is for `next_pair`.
        stack.push_copy(-2);
        write_at(stack, script, reply, nesting);
        stack.pop(1);
        if is_map {
            write_at(stack, script, reply, nesting);
        }
        stack.pop(1);
        len += 1;
    }
    reply.set_deferred(deferred, len);
}
