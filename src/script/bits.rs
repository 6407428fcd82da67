//! `bit`: operations on 32 bits, as LuaBitOp has them.

use super::raise::{Call, Raise, define, one};
use mlua::{Lua, Table};

/// Adding this moves the integer part of a double into its low bits, modulo 2^32, rounded to even.
const SHIFT_TO_BITS: f64 = 6_755_399_441_055_744.0;

fn bits(call: &Call, at: usize) -> Result<u32, Raise> {
    Ok((call.number(at)? + SHIFT_TO_BITS).to_bits() as u32)
}

pub fn table(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let add = |name: &str, run: fn(&Call) -> Result<u32, Raise>| {
        let function = define(lua, move |lua, call| one(lua, f64::from(run(call)? as i32)))?;
        table.raw_set(name, function)
    };
    add("tobit", |call| bits(call, 1))?;
    add("bnot", |call| Ok(!bits(call, 1)?))?;
    add("bswap", |call| Ok(bits(call, 1)?.swap_bytes()))?;
    add("band", |call| fold(call, |a, b| a & b))?;
    add("bor", |call| fold(call, |a, b| a | b))?;
    add("bxor", |call| fold(call, |a, b| a ^ b))?;
    add("lshift", |call| shift(call, |a, by| a << by))?;
    add("rshift", |call| shift(call, |a, by| a >> by))?;
    add("arshift", |call| shift(call, |a, by| (a as i32 >> by) as u32))?;
    add("rol", |call| shift(call, u32::rotate_left))?;
    add("ror", |call| shift(call, u32::rotate_right))?;
    table.raw_set("tohex", define(lua, |lua, call| one(lua, tohex(call)?))?)?;
    Ok(table)
}

fn fold(call: &Call, join: fn(u32, u32) -> u32) -> Result<u32, Raise> {
    let first = bits(call, 1)?;
    (2..=call.len()).try_fold(first, |all, at| Ok(join(all, bits(call, at)?)))
}

fn shift(call: &Call, shift: fn(u32, u32) -> u32) -> Result<u32, Raise> {
    Ok(shift(bits(call, 1)?, bits(call, 2)? & 31))
}

fn tohex(call: &Call) -> Result<String, Raise> {
    let value = bits(call, 1)?;
    let digits = if call.len() < 2 { 8 } else { bits(call, 2)? as i32 };
    let shown = digits.unsigned_abs().min(8) as usize;
    let text = if digits < 0 {
        format!("{value:08X}")
    } else {
        format!("{value:08x}")
    };
    Ok(text[8 - shown..].to_owned())
}
