//! What tests ask of ranges, and have done to them.

use super::{Conn, Value, show};
use std::collections::HashMap;
use std::time::{Duration, Instant};

pub fn ok(conn: &mut Conn, line: &str) {
    let reply = conn.words(line);
    assert_eq!(show(&reply), "+OK\\r\\n", "{line}");
}

pub fn refused(conn: &mut Conn, line: &str, part: &str) {
    let reply = String::from_utf8_lossy(&conn.words(line)).into_owned();
    assert!(reply.starts_with('-') && reply.contains(part), "{line}: {reply}");
}

/// The fields of RANGE INFO, numbers as text.
pub fn info(conn: &mut Conn, range: &str) -> HashMap<String, String> {
    let reply = conn.words(&format!("RANGE INFO {range}"));
    let Value::List(_, items) = Value::parse(&reply) else {
        panic!("RANGE INFO {range}: {}", show(&reply))
    };
    let text = |value: &Value| String::from_utf8_lossy(&value.texts().join(&b' ')).into_owned();
    items
        .chunks_exact(2)
        .map(|pair| (text(&pair[0]), text(&pair[1])))
        .collect()
}

pub fn count(conn: &mut Conn, range: &str, field: &str) -> i64 {
    info(conn, range)[field].parse().expect("a number")
}

/// Waits until a field of RANGE INFO says what it has to.
pub fn wait_for(conn: &mut Conn, range: &str, field: &str, expected: &str) {
    let began = Instant::now();
    loop {
        let found = info(conn, range)[field].clone();
        if found == expected {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{field} of {range} is {found} and not {expected}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
