//! Accounts between which tests of isolation move amounts: what all hold together never changes.

use super::{Conn, Value};

pub const ACCOUNTS: usize = 40;
pub const START: i64 = 1000;

/// Half of the accounts are in a memory range, half in the durable one.
pub fn account(number: usize) -> String {
    match number % 2 {
        0 => format!("cache:{number}"),
        _ => format!("account:{number}"),
    }
}

pub fn call(conn: &mut Conn, words: &[&str]) -> Value {
    Value::parse(&conn.call(words))
}

pub fn number(value: &Value) -> i64 {
    match value {
        Value::Bulk(_, text) | Value::Line(b':', text) => {
            String::from_utf8_lossy(text).parse().expect("an integer")
        }
        other => panic!("{other:?} is no number"),
    }
}
