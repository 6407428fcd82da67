//! Functions that scripts call: how they read arguments, and how they fail in Lua's words.

use super::raw;
use mlua::{Function, IntoLua, Lua, MultiValue, Value};

/// How a function fails.
pub enum Raise {
    /// With this value, as it is.
    Value(Value),
    /// With a text behind the place of the call.
    Where(Vec<u8>),
    /// With a complaint about an argument.
    Arg(usize, String),
    Lua(mlua::Error),
}

impl Raise {
    pub fn text(text: impl Into<String>) -> Raise {
        Raise::Where(text.into().into_bytes())
    }

    /// A text without a place.
    pub fn plain(lua: &Lua, text: &str) -> Raise {
        match lua.create_string(text) {
            Ok(text) => Raise::Value(Value::String(text)),
            Err(error) => Raise::Lua(error),
        }
    }
}

impl From<mlua::Error> for Raise {
    fn from(error: mlua::Error) -> Raise {
        Raise::Lua(error)
    }
}

pub type Results = Result<MultiValue, Raise>;

/// One result.
pub fn one(lua: &Lua, value: impl IntoLua) -> Results {
    Ok(MultiValue::from_iter([value.into_lua(lua)?]))
}

/// No result.
pub fn none() -> Results {
    Ok(MultiValue::new())
}

/// Makes a function for scripts out of one of ours. The limit of memory is put off while it runs: what it makes is
/// bounded by what it is given, and `mlua` need not guard each of its steps.
pub fn define(lua: &Lua, function: impl Fn(&Lua, &Call) -> Results + 'static) -> mlua::Result<Function> {
    define_with(lua, function, false)
}

/// As `define`, for functions that take numbers as text.
pub fn define_for_texts(
    lua: &Lua,
    function: impl Fn(&Lua, &Call) -> Results + 'static,
) -> mlua::Result<Function> {
    define_with(lua, function, true)
}

fn define_with(
    lua: &Lua,
    function: impl Fn(&Lua, &Call) -> Results + 'static,
    texts: bool,
) -> mlua::Result<Function> {
    let inner = lua.create_function(move |lua, args: MultiValue| {
        let limit = lua.set_memory_limit(0)?;
        let results = answer(lua, function(lua, &Call { args }));
        lua.set_memory_limit(limit)?;
        results
    })?;
    raw::raising(lua, inner, texts)
}

/// What `raw::raising` is told.
fn answer(lua: &Lua, results: Results) -> mlua::Result<MultiValue> {
    let mut told = match results {
        Ok(mut results) => {
            results.push_front(Value::Boolean(true));
            return Ok(results);
        }
        Err(Raise::Lua(error)) => return Err(error),
        Err(Raise::Value(value)) => MultiValue::from_iter([value]),
        Err(Raise::Where(text)) => {
            MultiValue::from_iter([Value::String(lua.create_string(text)?), Value::Integer(0)])
        }
        // One more, because 0 says something else.
        Err(Raise::Arg(at, text)) => MultiValue::from_iter([
            Value::String(lua.create_string(text)?),
            Value::Integer(at as i64 + 1),
        ]),
    };
    told.push_front(Value::Boolean(false));
    Ok(told)
}

/// The arguments of one call, counted from 1 as Lua does.
pub struct Call {
    pub args: MultiValue,
}

impl Call {
    pub fn len(&self) -> usize {
        self.args.len()
    }

    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// An argument; none when there are fewer.
    pub fn get(&self, at: usize) -> Option<&Value> {
        self.args.get(at - 1)
    }

    fn wrong_type(&self, at: usize, wanted: &str) -> Raise {
        let got = self.get(at).map_or("no value", type_name);
        Raise::Arg(at, format!("{wanted} expected, got {got}"))
    }

    pub fn number(&self, at: usize) -> Result<f64, Raise> {
        self.get(at)
            .and_then(as_number)
            .ok_or_else(|| self.wrong_type(at, "number"))
    }

    pub fn integer(&self, at: usize) -> Result<i64, Raise> {
        Ok(to_integer(self.number(at)?))
    }

    /// A string, or a number as text.
    pub fn bytes(&self, lua: &Lua, at: usize) -> Result<mlua::LuaString, Raise> {
        match self.get(at) {
            Some(value @ (Value::String(_) | Value::Integer(_) | Value::Number(_))) => {
                let text = lua.coerce_string(value.clone())?;
                text.ok_or_else(|| self.wrong_type(at, "string"))
            }
            _ => Err(self.wrong_type(at, "string")),
        }
    }
}

/// What Lua calls the type of a value.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        _ => "userdata",
    }
}

/// A number, or a string that reads as one.
pub fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::String(text) => super::number::parse(&text.as_bytes()),
        _ => None,
    }
}

/// As a C compiler for this machine casts: towards zero; what does not fit is the smallest integer.
pub fn to_integer(number: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) {
        number as i64
    } else {
        i64::MIN
    }
}
