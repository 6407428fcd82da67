//! What a channel's name stands for.
//!
//! ```text
//! __keyspace@<db>__:<key>   the changes of that key, by name           kept with the key
//! __keyvalue@<db>__:<key>   the same, with the new value               kept with the key
//! __keyevent@<db>__:<event> the keys that this happens to              kept aside: it is of no key
//! anything else             messages; it is the key of that name       kept with the key, in database 0
//! ```

use crate::keyspace::range::DBS;
use crate::keyspace::records::{Kind, Topic};
use std::sync::LazyLock;

const CHANGES: &[u8] = b"__keyspace@";
const VALUES: &[u8] = b"__keyvalue@";
const EVENTS: &[u8] = b"__keyevent@";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel<'a> {
    Key(Topic<'a>),
    /// By its whole name.
    Event(&'a [u8]),
}

impl<'a> Channel<'a> {
    pub fn of(name: &'a [u8]) -> Channel<'a> {
        if name.starts_with(b"__key") {
            for (prefix, kind) in [(CHANGES, Kind::Changes), (VALUES, Kind::Values)] {
                if let Some((db, key)) = name.strip_prefix(prefix).and_then(split) {
                    return Channel::Key(Topic { kind, db, key });
                }
            }
            if name.strip_prefix(EVENTS).and_then(split).is_some() {
                return Channel::Event(name);
            }
        }
        Channel::Key(Topic {
            kind: Kind::Messages,
            db: 0,
            key: name,
        })
    }
}

/// `<db>__:<rest>`; the database as this server writes it.
fn split(text: &[u8]) -> Option<(u8, &[u8])> {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let db: u8 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let canonical = itoa::Buffer::new().format(db).as_bytes() == number;
    let rest = rest.strip_prefix(b"__:")?;
    (canonical && usize::from(db) < DBS).then_some((db, rest))
}

/// The name of the channel of a topic.
pub fn name_of(topic: &Topic<'_>) -> Vec<u8> {
    let prefix = match topic.kind {
        Kind::Messages | Kind::ShardMessages | Kind::Transactions | Kind::Caches => {
            return topic.key.to_vec();
        }
        Kind::Changes => CHANGES,
        Kind::Values => VALUES,
    };
    of_database(prefix, topic.db, topic.key)
}

/// Of each database what comes before the key.
static BEFORE_KEYS: LazyLock<[[Vec<u8>; 2]; DBS]> = LazyLock::new(|| {
    std::array::from_fn(|db| [CHANGES, VALUES].map(|prefix| of_database(prefix, db as u8, b"")))
});

/// The channel of the changes of a key, in two parts.
pub fn changes_of_in_parts(db: u8, key: &[u8]) -> (&[u8], &[u8]) {
    (&BEFORE_KEYS[usize::from(db)][0], key)
}

/// The channel of the values of a key, in two parts.
pub fn values_of_in_parts(db: u8, key: &[u8]) -> (&[u8], &[u8]) {
    (&BEFORE_KEYS[usize::from(db)][1], key)
}

/// The channel of the values of a key.
pub fn values_of(db: u8, key: &[u8]) -> Vec<u8> {
    of_database(VALUES, db, key)
}

/// The channel of an event.
pub fn event(db: u8, event: &[u8]) -> Vec<u8> {
    of_database(EVENTS, db, event)
}

fn of_database(prefix: &[u8], db: u8, rest: &[u8]) -> Vec<u8> {
    [prefix, itoa::Buffer::new().format(db).as_bytes(), b"__:", rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_changes_are_of_a_key_and_back() {
        for (name, kind, db, key) in [
            (&b"__keyspace@0__:k"[..], Kind::Changes, 0, &b"k"[..]),
            (b"__keyspace@15__:", Kind::Changes, 15, b""),
            (b"__keyvalue@1__:a:__:b", Kind::Values, 1, b"a:__:b"),
            (b"news", Kind::Messages, 0, b"news"),
            (b"", Kind::Messages, 0, b""),
        ] {
            let topic = Topic { kind, db, key };
            assert_eq!(Channel::of(name), Channel::Key(topic));
            assert_eq!(name_of(&topic), name);
        }
        assert_eq!(
            Channel::of(b"__keyevent@0__:set"),
            Channel::Event(b"__keyevent@0__:set")
        );
    }

    #[test]
    fn what_only_looks_like_a_change_is_a_channel() {
        for name in [
            &b"__keyspace@16__:k"[..],
            b"__keyspace@00__:k",
            b"__keyspace@__:k",
            b"__keyspace@1:k",
            b"__keyspace@1__k",
            b"__keyspace@*__:k",
            b"__keyevent@999__:set",
            b"__key",
        ] {
            let Channel::Key(topic) = Channel::of(name) else {
                panic!("{}", name.escape_ascii())
            };
            assert_eq!((topic.kind, topic.key), (Kind::Messages, name));
        }
    }
}
