//! `struct`: values in the layouts of C, as the library of that name has it.
//!
//! A format is a row of options: `>` `<` the order of bytes, `!n` the alignment, `x` padding, `bBhHlLTiI` integers, `f`
//! `d` floating point, `s` a string that ends with a zero, `cn` n bytes (`c0`: as many as the number before says).

use super::raise::{Call, Raise, Results, define, one, to_integer};
use mlua::{Lua, MultiValue, Table, Value};

const ALIGN_MOST: usize = 8;
/// Bytes of an integer at most.
const INTEGER_MOST: usize = 32;

/// A table of the module.
pub fn table(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", define(lua, pack)?)?;
    table.raw_set("unpack", define(lua, unpack)?)?;
    table.raw_set("size", define(lua, size)?)?;
    Ok(table)
}

/// A walk over a format.
struct Format<'a> {
    text: &'a [u8],
    at: usize,
    little: bool,
    align: usize,
}

/// An option with its size.
struct Item {
    option: u8,
    size: usize,
}

impl<'a> Format<'a> {
    fn new(text: &'a [u8]) -> Format<'a> {
        Format {
            text,
            at: 0,
            little: true,
            align: 1,
        }
    }

    /// The digits that follow; none when there are none.
    fn number(&mut self) -> Result<Option<usize>, Raise> {
        let mut number: Option<i32> = None;
        while let Some(digit) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            let next = number.unwrap_or(0).checked_mul(10);
            let next = next.and_then(|next| next.checked_add(i32::from(digit - b'0')));
            number = Some(next.ok_or_else(|| Raise::text("integral size overflow"))?);
            self.at += 1;
        }
        Ok(number.map(|number| number as usize))
    }

    /// The next option that stands for a value or for padding; those that only set something are done on the way.
    fn next(&mut self) -> Result<Option<Item>, Raise> {
        while let Some(option) = self.text.get(self.at).copied() {
            self.at += 1;
            let size = match option {
                b'b' | b'B' | b'x' => 1,
                b'h' | b'H' => 2,
                b'l' | b'L' | b'T' | b'd' => 8,
                b'f' => 4,
                b's' => 0,
                b'c' => self.number()?.unwrap_or(1),
                b'i' | b'I' => self.integer_size()?,
                b' ' => continue,
                b'>' => {
                    self.little = false;
                    continue;
                }
                b'<' => {
                    self.little = true;
                    continue;
                }
                b'!' => {
                    let align = self.number()?.unwrap_or(ALIGN_MOST);
                    if align == 0 || !align.is_power_of_two() {
                        return Err(Raise::text(format!("alignment {align} is not a power of 2")));
                    }
                    self.align = align;
                    continue;
                }
                other => {
                    let option = char::from(other);
                    return Err(Raise::Arg(1, format!("invalid format option '{option}'")));
                }
            };
            return Ok(Some(Item { option, size }));
        }
        Ok(None)
    }

    fn integer_size(&mut self) -> Result<usize, Raise> {
        let size = self.number()?.unwrap_or(4);
        if size > INTEGER_MOST {
            return Err(Raise::text(format!(
                "integral size {size} is larger than limit of {INTEGER_MOST}"
            )));
        }
        Ok(size)
    }

    /// Bytes of padding before an option at this place.
    fn padding(&self, at: usize, item: &Item) -> usize {
        if item.size == 0 || item.option == b'c' {
            return 0;
        }
        let size = item.size.min(self.align);
        // A size that is no power of two pads oddly, but always in the same way.
        size.wrapping_sub(at & (size - 1)) & (size - 1)
    }
}

fn pack(lua: &Lua, call: &Call) -> Results {
    let text = call.bytes(lua, 1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&text);
    let (mut out, mut arg) = (Vec::new(), 2);
    while let Some(item) = format.next()? {
        out.resize(out.len() + format.padding(out.len(), &item), 0);
        match item.option {
            b'x' => {
                out.push(0);
                continue;
            }
            b'f' => {
                let bytes = (number(call, arg)? as f32).to_le_bytes();
                append_ordered(&mut out, &bytes, format.little);
            }
            b'd' => append_ordered(&mut out, &number(call, arg)?.to_le_bytes(), format.little),
            b'c' | b's' => append_string(&mut out, lua, call, (arg, &item))?,
            _ => {
                let value = number(call, arg)?;
                append_ordered(&mut out, &integer(value)[..item.size], format.little);
            }
        }
        arg += 1;
    }
    one(lua, lua.create_string(out)?)
}

fn append_string(
    out: &mut Vec<u8>,
    lua: &Lua,
    call: &Call,
    (arg, item): (usize, &Item),
) -> Result<(), Raise> {
    let text = call.bytes(lua, arg)?;
    let text = text.as_bytes();
    let len = if item.size == 0 { text.len() } else { item.size };
    let text = text
        .get(..len)
        // The complaint is about the argument behind.
        .ok_or_else(|| Raise::Arg(arg + 1, "string too short".into()))?;
    out.extend_from_slice(text);
    if item.option == b's' {
        out.push(0);
    }
    Ok(())
}

/// The number of an argument. Behind the last one stands a mark, which is nil.
fn number(call: &Call, at: usize) -> Result<f64, Raise> {
    if call.get(at).is_none() {
        return Err(Raise::Arg(at, "number expected, got nil".into()));
    }
    call.number(at)
}

/// The bytes of an integer, the lowest first; there are never more than eight that count.
fn integer(value: f64) -> [u8; INTEGER_MOST] {
    let value = match value {
        value if value < 0.0 => to_integer(value) as u64,
        value => value as u64,
    };
    let mut bytes = [0; INTEGER_MOST];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn append_ordered(out: &mut Vec<u8>, bytes: &[u8], little: bool) {
    let start = out.len();
    out.extend_from_slice(bytes);
    if !little {
        out[start..].reverse();
    }
}

fn unpack(lua: &Lua, call: &Call) -> Results {
    let text = call.bytes(lua, 1)?;
    let text = text.as_bytes();
    let data = call.bytes(lua, 2)?;
    let data = &*data.as_bytes();
    let offset = match call.get(3) {
        None | Some(Value::Nil) => 1,
        Some(_) => call.integer(3)?,
    };
    if offset == 0 {
        return Err(Raise::Arg(3, "offset must be 1 or greater".into()));
    }
    let too_short = || Raise::Arg(2, "data string too short".into());
    let mut at = usize::try_from(offset - 1).map_err(|_| too_short())?;
    let mut format = Format::new(&text);
    let mut values = MultiValue::new();
    while let Some(item) = format.next()? {
        at = at.saturating_add(format.padding(at, &item));
        let bytes = data.get(at..).and_then(|rest| rest.get(..item.size));
        let bytes = bytes.ok_or_else(too_short)?;
        at += item.size;
        match item.option {
            b'x' => {}
            b's' => {
                let len = memchr::memchr(0, &data[at..]);
                let len = len.ok_or_else(|| Raise::text("unfinished string in data"))?;
                values.push_back(Value::String(lua.create_string(&data[at..at + len])?));
                at += len + 1;
            }
            b'c' if item.size == 0 => {
                let len = match values.pop_back() {
                    Some(Value::Number(len)) => to_integer(len),
                    Some(Value::Integer(len)) => len,
                    _ => return Err(Raise::text("format 'c0' needs a previous size")),
                };
                let len = usize::try_from(len).map_err(|_| too_short())?;
                let bytes = data.get(at..).and_then(|rest| rest.get(..len));
                values.push_back(Value::String(lua.create_string(bytes.ok_or_else(too_short)?)?));
                at += len;
            }
            b'c' => values.push_back(Value::String(lua.create_string(bytes)?)),
            _ => values.push_back(Value::Number(read_number(&item, bytes, format.little))),
        }
    }
    values.push_back(Value::Integer(at as i64 + 1));
    Ok(values)
}

fn read_number(item: &Item, bytes: &[u8], little: bool) -> f64 {
    let mut lowest_first = [0; INTEGER_MOST];
    for (at, to) in lowest_first[..bytes.len()].iter_mut().enumerate() {
        *to = bytes[if little { at } else { bytes.len() - 1 - at }];
    }
    let mut eight = [0; 8];
    eight.copy_from_slice(&lowest_first[..8]);
    let value = u64::from_le_bytes(eight);
    match item.option {
        b'f' => f32::from_bits(value as u32).into(),
        b'd' => f64::from_bits(value),
        option if option.is_ascii_lowercase() => {
            let unused = 64 - 8 * item.size.clamp(1, 8) as u32;
            ((value << unused) as i64 >> unused) as f64
        }
        _ => value as f64,
    }
}

fn size(lua: &Lua, call: &Call) -> Results {
    let text = call.bytes(lua, 1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&text);
    let mut total = 0_usize;
    while let Some(item) = format.next()? {
        let variable = match item.option {
            b's' => Some("s"),
            b'c' if item.size == 0 => Some("c0"),
            _ => None,
        };
        if let Some(option) = variable {
            return Err(Raise::Arg(1, format!("option '{option}' has no fixed size")));
        }
        total = total.saturating_add(format.padding(total, &item) + item.size);
    }
    one(lua, total as f64)
}
