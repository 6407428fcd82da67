//! The named differences that two right answers may have. Everything else must be equal to the byte.

use crate::common::Value;

/// How two replies are compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Byte by byte.
    Exact,
    /// An aggregate's elements in any order.
    Unordered,
    /// Integers, also inside aggregates, may be this far apart; negative ones (-1, -2: no expiry, no key) may not.
    Near(i64),
    /// Any integer on both sides, 0 or more.
    Integer,
    /// Numbers, as text or double, equal to 12 digits.
    Float,
    /// Errors with the same first word: the rest of the text names something that is the server's own.
    ErrorCode,
    /// The same kind of frame; errors must still be equal.
    Type,
    /// Strings of the same length, also inside aggregates: a digest, an id, a member by chance.
    Length,
    /// What is told of consumers: integers of 1000 and more are times and near each other, and when a consumer was
    /// active last is told since Redis 7.2 only.
    Consumers,
    /// `ACL LOG`: ages, the lines of clients, and what Redis 7.2 tells beyond are the server's own.
    Refusals,
    /// Names of encodings: Redis 7.2, whose names Terrace has, packs small sets and lists that the oracle does not.
    Encoding,
}

/// Facts of consumers that Redis 7.0 does not tell.
const SINCE_7_2: [&[u8]; 2] = [b"inactive", b"active-time"];
/// From where on an integer is a time in milliseconds, and how far two of them may be apart.
const TIMES_FROM: i64 = 1000;
const TIMES_APART: u64 = 5000;

impl Rule {
    /// Reads the words after `@normalize`.
    pub fn parse(words: &str) -> Result<Rule, String> {
        let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
        match name {
            "unordered" => Ok(Rule::Unordered),
            "near" => rest
                .trim()
                .parse()
                .map(Rule::Near)
                .map_err(|_| format!("near what? {words}")),
            "integer" => Ok(Rule::Integer),
            "float" => Ok(Rule::Float),
            "error" => Ok(Rule::ErrorCode),
            "type" => Ok(Rule::Type),
            "length" => Ok(Rule::Length),
            "consumers" => Ok(Rule::Consumers),
            "refusals" => Ok(Rule::Refusals),
            "encoding" => Ok(Rule::Encoding),
            _ => Err(format!("no such normalization: {words}")),
        }
    }

    /// Whether both frames are right answers to one command.
    pub fn accepts(&self, expected: &[u8], got: &[u8]) -> bool {
        if expected == got {
            return true;
        }
        if *self == Rule::Exact || expected[0] != got[0] {
            return false;
        }
        if expected[0] == b'-' {
            return *self == Rule::ErrorCode && first_word(expected) == first_word(got);
        }
        let (a, b) = (Value::parse(expected), Value::parse(got));
        match self {
            Rule::Exact | Rule::ErrorCode => false,
            Rule::Type => true,
            Rule::Unordered => sorted(a) == sorted(b),
            Rule::Near(distance) => near(&a, &b, *distance),
            Rule::Integer => [&a, &b].iter().all(|v| integer(v).is_some_and(|n| n >= 0)),
            Rule::Float => match (float(&a), float(&b)) {
                (Some(x), Some(y)) => (x - y).abs() <= x.abs().max(y.abs()) * 1e-12,
                _ => false,
            },
            Rule::Length => expected.len() == got.len(),
            Rule::Consumers => same_but_times(&a, &without_new_facts(b)),
            Rule::Refusals => comparable_refusals(a) == comparable_refusals(b),
            Rule::Encoding => is_packed_since(&a, &b),
        }
    }
}

/// What the oracle calls by the first name is a listpack in Redis 7.2.
fn is_packed_since(before: &Value, now: &Value) -> bool {
    let is = |value: &Value, name: &[u8]| matches!(value, Value::Bulk(_, text) if text == name);
    is(now, b"listpack") && (is(before, b"hashtable") || is(before, b"quicklist"))
}

fn first_word(error: &[u8]) -> Option<&[u8]> {
    error.split(|&b| b == b' ' || b == b'\r').next()
}

fn sorted(value: Value) -> Value {
    match value {
        Value::List(b'%', children) => {
            // A map's order is that of its pairs; its keys stay with their values.
            let mut pairs: Vec<[Value; 2]> = children
                .chunks(2)
                .map(|pair| [pair[0].clone(), pair[1].clone()])
                .collect();
            pairs.sort();
            Value::List(b'%', pairs.into_iter().flatten().collect())
        }
        Value::List(kind, mut children) => {
            children.sort();
            Value::List(kind, children)
        }
        leaf => leaf,
    }
}

fn without_new_facts(value: Value) -> Value {
    let Value::List(kind, children) = value else {
        return value;
    };
    let mut kept = Vec::new();
    let mut children = children.into_iter();
    while let Some(child) = children.next() {
        match &child {
            Value::Bulk(_, name) if SINCE_7_2.contains(&name.as_slice()) => drop(children.next()),
            _ => kept.push(without_new_facts(child)),
        }
    }
    Value::List(kind, kept)
}

/// The facts of each refusal that both servers tell.
fn comparable_refusals(value: Value) -> Value {
    const ADDED: [&[u8]; 3] = [b"entry-id", b"timestamp-created", b"timestamp-last-updated"];
    const OWN: [&[u8]; 2] = [b"age-seconds", b"client-info"];
    let Value::List(kind, children) = value else {
        return value;
    };
    let mut kept = Vec::new();
    let mut children = children.into_iter();
    while let Some(child) = children.next() {
        match &child {
            Value::Bulk(_, name) if ADDED.contains(&name.as_slice()) => drop(children.next()),
            Value::Bulk(_, name) if OWN.contains(&name.as_slice()) => {
                assert!(children.next().is_some(), "a fact without a value");
                kept.push(child);
            }
            _ => kept.push(comparable_refusals(child)),
        }
    }
    Value::List(kind, kept)
}

fn same_but_times(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::List(kind_a, xs), Value::List(kind_b, ys)) => {
            kind_a == kind_b && xs.len() == ys.len() && xs.iter().zip(ys).all(|(x, y)| same_but_times(x, y))
        }
        _ => match (integer(a), integer(b)) {
            (Some(x), Some(y)) if x.min(y) >= TIMES_FROM => x.abs_diff(y) <= TIMES_APART,
            _ => a == b,
        },
    }
}

fn near(a: &Value, b: &Value, distance: i64) -> bool {
    match (a, b) {
        (Value::List(kind_a, xs), Value::List(kind_b, ys)) => {
            kind_a == kind_b && xs.len() == ys.len() && xs.iter().zip(ys).all(|(x, y)| near(x, y, distance))
        }
        _ => match (integer(a), integer(b)) {
            (Some(x), Some(y)) => x == y || (x >= 0 && y >= 0 && x.abs_diff(y) <= distance as u64),
            _ => a == b,
        },
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Line(b':', digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Bulk(b'$', text) | Value::Line(b',', text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}
