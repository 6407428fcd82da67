//! `cmsgpack`: values to MessagePack and back, as lua-cmsgpack 0.4 does it.

use super::raise::{Call, Raise, Results, define, one};
use mlua::{Lua, MultiValue, Table, Value};

/// Tables within tables beyond this are packed as nil.
const NESTING_MOST: usize = 16;

/// A table of the module.
pub fn table(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", define(lua, pack)?)?;
    let add = |name: &str, run: fn(&Lua, &Call) -> Results| table.raw_set(name, define(lua, run)?);
    add("unpack", |lua, call| unpack(lua, call, 0, 0))?;
    add("unpack_one", |lua, call| {
        let offset = optional(call, 2)?;
        unpack(lua, call, 1, offset)
    })?;
    add("unpack_limit", |lua, call| {
        let limit = call.integer(2)? as i32;
        let offset = optional(call, 3)?;
        unpack(lua, call, limit, offset)
    })?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(table)
}

fn optional(call: &Call, at: usize) -> Result<i32, Raise> {
    match call.get(at) {
        None | Some(Value::Nil) => Ok(0),
        Some(_) => Ok(call.integer(at)? as i32),
    }
}

fn pack(lua: &Lua, call: &Call) -> Results {
    if call.is_empty() {
        return Err(Raise::Arg(0, "MessagePack pack needs input.".into()));
    }
    let mut out = Vec::new();
    for value in &call.args {
        append(&mut out, value, 0)?;
    }
    one(lua, lua.create_string(out)?)
}

fn append(out: &mut Vec<u8>, value: &Value, nesting: usize) -> mlua::Result<()> {
    match value {
        Value::String(text) => append_string(out, &text.as_bytes()),
        Value::Boolean(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Integer(number) => append_number(out, *number as f64),
        Value::Number(number) => append_number(out, *number),
        Value::Table(table) if nesting < NESTING_MOST => append_table(out, table, nesting)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn append_number(out: &mut Vec<u8>, number: f64) {
    // What is an integer of 64 bits: 2^63 itself is not.
    let is_integer = number.trunc() == number && (i64::MIN as f64..-(i64::MIN as f64)).contains(&number);
    if is_integer {
        append_integer(out, number as i64);
    } else if f64::from(number as f32) == number {
        out.push(0xca);
        out.extend_from_slice(&(number as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn append_integer(out: &mut Vec<u8>, number: i64) {
    match number {
        -32..=0x7f => out.push(number as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => tagged(out, 0xcd, &(number as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => tagged(out, 0xce, &(number as u32).to_be_bytes()),
        0x1_0000_0000.. => tagged(out, 0xcf, &number.to_be_bytes()),
        -0x80..=-33 => tagged(out, 0xd0, &(number as i8).to_be_bytes()),
        -0x8000..=-0x81 => tagged(out, 0xd1, &(number as i16).to_be_bytes()),
        -0x8000_0000..=-0x8001 => tagged(out, 0xd2, &(number as i32).to_be_bytes()),
        _ => tagged(out, 0xd3, &number.to_be_bytes()),
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn append_string(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        len @ 0..32 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => tagged(out, 0xda, &(len as u16).to_be_bytes()),
        len => tagged(out, 0xdb, &(len as u32).to_be_bytes()),
    }
    out.extend_from_slice(text);
}

fn append_len(out: &mut Vec<u8>, len: usize, (short, tag): (u8, u8)) {
    match len {
        0..16 => out.push(short | len as u8),
        16..=0xffff => tagged(out, tag, &(len as u16).to_be_bytes()),
        _ => tagged(out, tag + 1, &(len as u32).to_be_bytes()),
    }
}

fn append_table(out: &mut Vec<u8>, table: &Table, nesting: usize) -> mlua::Result<()> {
    let (mut count, mut most, mut is_array) = (0_i64, 0_i64, true);
    for pair in table.pairs::<Value, Value>() {
        match pair?.0 {
            Value::Integer(index) if index > 0 => most = most.max(index),
            _ => is_array = false,
        }
        count += 1;
    }
    if is_array && most == count {
        append_len(out, count as usize, (0x90, 0xdc));
        for index in 1..=count {
            append(out, &table.raw_get(index)?, nesting + 1)?;
        }
        return Ok(());
    }
    append_len(out, count as usize, (0x80, 0xde));
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        append(out, &key, nesting + 1)?;
        append(out, &value, nesting + 1)?;
    }
    Ok(())
}

/// Reads up to `limit` values (0 for all) from `offset` on; with a limit the place behind them comes first, -1 for the
/// end.
fn unpack(lua: &Lua, call: &Call, limit: i32, offset: i32) -> Results {
    let text = call.bytes(lua, 1)?;
    let bytes = &*text.as_bytes();
    if offset < 0 || limit < 0 {
        return Err(Raise::text(format!(
            "Invalid request to unpack with offset of {offset} and limit of {}.",
            bytes.len()
        )));
    }
    let offset = offset as usize;
    if offset > bytes.len() {
        return Err(Raise::text(format!(
            "Start offset {offset} greater than input length {}.",
            bytes.len()
        )));
    }
    let mut reader = Reader {
        lua,
        bytes,
        at: offset,
        nesting: 0,
    };
    let mut values = MultiValue::new();
    while reader.at < bytes.len() && (limit == 0 || values.len() < limit as usize) {
        values.push_back(reader.value()?);
    }
    if limit > 0 {
        let at = if reader.at < bytes.len() {
            reader.at as i64
        } else {
            -1
        };
        values.push_front(Value::Integer(at));
    }
    Ok(values)
}

struct Reader<'a> {
    lua: &'a Lua,
    bytes: &'a [u8],
    at: usize,
    nesting: usize,
}

/// Tables within tables that are read at most: as deep as this thread's stack surely takes.
const READ_NESTING_MOST: usize = 4000;

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Raise> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len));
        self.at += len;
        taken.ok_or_else(|| Raise::text("Missing bytes in input."))
    }

    /// An unsigned number of up to 8 bytes.
    fn number(&mut self, len: usize) -> Result<u64, Raise> {
        let bytes = self.take(len)?;
        Ok(bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    }

    fn string(&mut self, len: usize) -> Result<Value, Raise> {
        let bytes = self.take(len)?;
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    fn value(&mut self) -> Result<Value, Raise> {
        let tag = self.number(1)? as u8;
        let signed =
            |number: u64, bits: u32| Value::Number(((number << (64 - bits)) as i64 >> (64 - bits)) as f64);
        Ok(match tag {
            0..=0x7f => Value::Integer(tag.into()),
            0xe0..=0xff => Value::Integer((tag as i8).into()),
            0x80..=0x8f => self.map(usize::from(tag & 0xf))?,
            0x90..=0x9f => self.array(usize::from(tag & 0xf))?,
            0xa0..=0xbf => self.string(usize::from(tag & 0x1f))?,
            0xc0 => Value::Nil,
            0xc2 => Value::Boolean(false),
            0xc3 => Value::Boolean(true),
            0xca => Value::Number(f32::from_bits(self.number(4)? as u32).into()),
            0xcb => Value::Number(f64::from_bits(self.number(8)?)),
            // Those of 64 bits come out signed.
            0xcc..=0xcf => Value::Integer(self.number(1 << (tag - 0xcc))? as i64),
            0xd0..=0xd3 => {
                let len = 1 << (tag - 0xd0);
                signed(self.number(len)?, 8 * len as u32)
            }
            0xd9..=0xdb => {
                let len = self.number(1 << (tag - 0xd9))? as usize;
                self.string(len)?
            }
            0xdc | 0xdd => {
                let len = self.number(2 << (tag - 0xdc))? as usize;
                self.array(len)?
            }
            0xde | 0xdf => {
                let len = self.number(2 << (tag - 0xde))? as usize;
                self.map(len)?
            }
            _ => return Err(Raise::text("Bad data format in input.")),
        })
    }

    fn enter(&mut self) -> Result<(), Raise> {
        self.nesting += 1;
        if self.nesting > READ_NESTING_MOST {
            return Err(Raise::text("Bad data format in input."));
        }
        Ok(())
    }

    fn array(&mut self, len: usize) -> Result<Value, Raise> {
        self.enter()?;
        let table = self.lua.create_table()?;
        for index in 1..=len {
            let value = self.value()?;
            table.raw_set(index, value)?;
        }
        self.nesting -= 1;
        Ok(Value::Table(table))
    }

    fn map(&mut self, len: usize) -> Result<Value, Raise> {
        self.enter()?;
        let table = self.lua.create_table()?;
        for _ in 0..len {
            let key = self.value()?;
            let value = self.value()?;
            match &key {
                Value::Nil => return Err(Raise::plain(self.lua, "table index is nil")),
                Value::Number(number) if number.is_nan() => {
                    return Err(Raise::plain(self.lua, "table index is NaN"));
                }
                _ => table.raw_set(key, value)?,
            }
        }
        self.nesting -= 1;
        Ok(Value::Table(table))
    }
}
