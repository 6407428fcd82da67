//! Values to JSON.

use super::super::number;
use super::super::raise::{Raise, type_name};
use super::{Invalid, Settings};
use mlua::{Table, Value};

/// Appends a value.
pub fn append(out: &mut Vec<u8>, value: &Value, settings: &Settings) -> Result<(), Raise> {
    append_at(out, value, settings, 0)
}

fn refused(value: &Value, why: &str) -> Raise {
    Raise::text(format!("Cannot serialise {}: {why}", type_name(value)))
}

fn append_at(out: &mut Vec<u8>, value: &Value, settings: &Settings, depth: i32) -> Result<(), Raise> {
    match value {
        Value::String(text) => append_string(out, &text.as_bytes()),
        Value::Integer(number) => append_number(out, *number as f64, settings)?,
        Value::Number(number) => append_number(out, *number, settings)?,
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Nil => out.extend_from_slice(b"null"),
        Value::LightUserData(pointer) if pointer.0.is_null() => out.extend_from_slice(b"null"),
        Value::Table(table) => {
            let depth = depth + 1;
            if depth > settings.encode_max_depth {
                return Err(Raise::text(format!(
                    "Cannot serialise, excessive nesting ({depth})"
                )));
            }
            match array_len(table, settings)? {
                Some(len) if len > 0 => append_array(out, table, len, settings, depth)?,
                _ => append_object(out, table, settings, depth)?,
            }
        }
        other => return Err(refused(other, "type not supported")),
    }
    Ok(())
}

/// The highest index of a table whose keys are all positive integers; none for others.
fn array_len(table: &Table, settings: &Settings) -> Result<Option<usize>, Raise> {
    let (mut most, mut items) = (0_i64, 0_i64);
    for pair in table.pairs::<Value, Value>() {
        match pair?.0 {
            Value::Integer(index) if index >= 1 => most = most.max(index),
            _ => return Ok(None),
        }
        items += 1;
    }
    let (ratio, safe) = (i64::from(settings.sparse_ratio), i64::from(settings.sparse_safe));
    if ratio > 0 && most > items.saturating_mul(ratio) && most > safe {
        if !settings.sparse_convert {
            return Err(Raise::text("Cannot serialise table: excessively sparse array"));
        }
        return Ok(None);
    }
    Ok(Some(most as usize))
}

fn append_array(
    out: &mut Vec<u8>,
    table: &Table,
    len: usize,
    settings: &Settings,
    depth: i32,
) -> Result<(), Raise> {
    out.push(b'[');
    for index in 1..=len {
        if index > 1 {
            out.push(b',');
        }
        append_at(out, &table.raw_get(index)?, settings, depth)?;
    }
    out.push(b']');
    Ok(())
}

fn append_object(out: &mut Vec<u8>, table: &Table, settings: &Settings, depth: i32) -> Result<(), Raise> {
    out.push(b'{');
    let mut first = true;
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        match &key {
            Value::String(text) => append_string(out, &text.as_bytes()),
            Value::Integer(_) | Value::Number(_) => {
                let number = super::super::raise::as_number(&key).unwrap_or_default();
                out.push(b'"');
                append_number(out, number, settings)?;
                out.push(b'"');
            }
            other => return Err(refused(other, "table key must be a number or string")),
        }
        out.push(b':');
        append_at(out, &value, settings, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn append_number(out: &mut Vec<u8>, number: f64, settings: &Settings) -> Result<(), Raise> {
    if number.is_finite() {
        let text = number::general(number, settings.precision as usize);
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    let text: &[u8] = match settings.encode_invalid {
        Invalid::Refused => {
            return Err(Raise::text("Cannot serialise number: must not be NaN or Inf"));
        }
        Invalid::Null => b"null",
        Invalid::Written if number.is_nan() => b"nan",
        Invalid::Written if number > 0.0 => b"inf",
        Invalid::Written => b"-inf",
    };
    out.extend_from_slice(text);
    Ok(())
}

fn append_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..=0x1f | 0x7f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}
