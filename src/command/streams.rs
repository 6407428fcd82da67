//! Commands on streams, and what they have in common: ids in arguments, entries in replies.

pub mod add;
pub mod claim;
pub mod groups;
pub mod info;
pub mod pending;
pub mod range;
pub mod read;
pub mod touched;

use super::error::{Error, quoted};
use crate::object::listpack::Item;
use crate::object::stream::{Entry, IdText, StreamId};
use crate::resp::Reply;
use crate::resp::number::parse_i64;

/// The longest text that is looked at for an id.
const ID_LEN_MAX: usize = 127;
/// What an error quotes of a name: all of it.
const QUOTED_MOST: usize = usize::MAX;

fn invalid_id() -> Error {
    Error::new("ERR Invalid stream ID specified as stream command argument")
}

/// An id as it stands in an argument.
struct IdArg {
    id: StreamId,
    /// The second half is `*`: any that is new.
    any_seq: bool,
}

/// `ms`, `ms-seq`, or where the caller takes it `ms-*`; the second half is `seq` when it is not there.
fn parse_id_arg(text: &[u8], seq: u64) -> Option<IdArg> {
    if text.len() > ID_LEN_MAX {
        return None;
    }
    let (ms, rest) = match memchr::memchr(b'-', text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let ms = parse_half(ms)?;
    let (seq, any_seq) = match rest {
        None => (seq, false),
        Some(b"*") => (0, true),
        Some(half) => (parse_half(half)?, false),
    };
    Some(IdArg {
        id: StreamId::new(ms, seq),
        any_seq,
    })
}

/// An id, spelled out.
fn parse_id(text: &[u8], seq: u64) -> Result<StreamId, Error> {
    match parse_id_arg(text, seq) {
        Some(IdArg { id, any_seq: false }) => Ok(id),
        _ => Err(invalid_id()),
    }
}

/// An id, or `-` and `+` for the least and the greatest.
fn parse_bound(text: &[u8], seq: u64) -> Result<StreamId, Error> {
    match text {
        b"-" => Ok(StreamId::ZERO),
        b"+" => Ok(StreamId::MAX),
        _ => parse_id(text, seq),
    }
}

/// Where an interval begins: `(` leaves the id itself out.
fn parse_start(text: &[u8]) -> Result<StreamId, Error> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => {
            let next = parse_id(id, 0)?.next();
            next.ok_or_else(|| Error::new("ERR invalid start ID for the interval"))
        }
        _ => parse_bound(text, 0),
    }
}

/// Where an interval ends; as `parse_start`.
fn parse_end(text: &[u8]) -> Result<StreamId, Error> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => {
            let prev = parse_id(id, u64::MAX)?.prev();
            prev.ok_or_else(|| Error::new("ERR invalid end ID for the interval"))
        }
        _ => parse_bound(text, u64::MAX),
    }
}

/// One half of an id. Besides plain numbers, what C's `strtoull` takes: blanks and a sign in front, leading zeros.
fn parse_half(text: &[u8]) -> Option<u64> {
    if let Some(value) = parse_i64(text) {
        return u64::try_from(value).ok();
    }
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative { value.wrapping_neg() } else { value })
}

fn no_group(key: &[u8], group: &[u8], tail: &str) -> Error {
    Error::new(format!(
        "NOGROUP No such key '{}' or consumer group '{}'{tail}",
        text(key),
        text(group)
    ))
}

fn no_group_of_key(key: &[u8], group: &[u8]) -> Error {
    Error::new(format!(
        "NOGROUP No such consumer group '{}' for key name '{}'",
        text(group),
        text(key)
    ))
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(quoted(name, QUOTED_MOST)).into_owned()
}

fn write_id(id: StreamId, reply: &mut Reply) {
    let mut text: IdText = [0; size_of::<IdText>()];
    reply.bulk(id.format(&mut text));
}

fn write_item(item: Item<'_>, reply: &mut Reply) {
    match item {
        Item::Int(value) => reply.bulk_int(value),
        Item::Bytes(bytes) => reply.bulk(bytes),
    }
}

/// An id, and the fields and values under it.
fn write_entry(entry: &Entry<'_>, reply: &mut Reply) {
    reply.array(2);
    write_id(entry.id, reply);
    let fields = entry.fields.clone();
    reply.array(2 * fields.len());
    for (field, value) in fields {
        write_item(field, reply);
        write_item(value, reply);
    }
}

/// Entries as an array; returns how many.
fn write_entries<'a>(entries: impl Iterator<Item = Entry<'a>>, reply: &mut Reply) -> usize {
    let array = reply.defer_array();
    let mut count = 0;
    for entry in entries {
        write_entry(&entry, reply);
        count += 1;
    }
    reply.set_deferred(array, count);
    count
}

/// At most `count` things; 0 stands for all.
fn limit(count: i64) -> usize {
    match usize::try_from(count) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(count) => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        let parsed =
            |text: &str| parse_id_arg(text.as_bytes(), 7).map(|arg| (arg.id.ms, arg.id.seq, arg.any_seq));
        assert_eq!(parsed("5"), Some((5, 7, false)));
        assert_eq!(parsed("5-3"), Some((5, 3, false)));
        assert_eq!(parsed("5-*"), Some((5, 0, true)));
        assert_eq!(parsed("0"), Some((0, 7, false)));
        assert_eq!(
            parsed("18446744073709551615-18446744073709551615"),
            Some((u64::MAX, u64::MAX, false))
        );
        assert_eq!(parsed(" 5- +07"), Some((5, 7, false)));
        assert_eq!(parsed("5--1"), None);
        assert_eq!(parsed("5--01"), Some((5, u64::MAX, false)));
        for wrong in [
            "",
            "-",
            "+",
            "-1",
            "5-",
            "-5",
            "a",
            "5-a",
            "5 ",
            "*",
            "*-1",
            "18446744073709551616",
            "5-3-1",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        assert_eq!(parsed(&"0".repeat(128)), None);
    }

    #[test]
    fn intervals_may_leave_their_bounds_out() {
        assert_eq!(parse_start(b"(5").unwrap(), StreamId::new(5, 1));
        assert_eq!(parse_end(b"(5").unwrap(), StreamId::new(5, u64::MAX - 1));
        assert_eq!(parse_end(b"(5-0").unwrap(), StreamId::new(4, u64::MAX));
        assert_eq!(parse_start(b"-").unwrap(), StreamId::ZERO);
        for wrong in [&b"("[..], b"(-", b"(+", b"((5"] {
            assert!(parse_start(wrong).is_err());
        }
        assert!(
            parse_end(b"(0-0")
                .unwrap_err()
                .to_string()
                .contains("invalid end ID")
        );
        assert!(
            parse_start(b"(18446744073709551615-18446744073709551615")
                .unwrap_err()
                .to_string()
                .contains("start")
        );
    }
}
