//! Which entries of a large stream a command touches, as far as its arguments and the stream itself tell it: they are
//! in memory before it runs (see `command::elements`). Arguments that cannot be read touch nothing: the command refuses
//! them.

use super::add::TrimOptions;
use super::claim::{ATTEMPTS, CLAIMED_DEFAULT};
use super::info::SHOWN_DEFAULT;
use super::read::streams_at;
use super::{limit, parse_end, parse_id, parse_start};
use crate::command::args::Args;
use crate::keyspace::Elements;
use crate::keyspace::paging::Tell;
use crate::object::pages::{Bounds, Order, Wanted};
use crate::object::stream::StreamId;
use crate::object::{Native, Object, Stream};

type All = Vec<Wanted<'static>>;

/// That of a command on streams.
pub fn of(full_name: &str) -> Elements {
    let tell: fn(&[&[u8]], &[u8], &Object) -> All = match full_name {
        "xadd" => |words: &[&[u8]], _: &[u8], value: &Object| with_stream(value, |_| add(words)),
        "xtrim" => |words: &[&[u8]], _: &[u8], value: &Object| with_stream(value, |_| trim(words)),
        "xdel" => {
            |words: &[&[u8]], _: &[u8], value: &Object| with_stream(value, |stream| delete(words, stream))
        }
        "xrange" => |words: &[&[u8]], _: &[u8], _: &Object| range(words, Order::Up),
        "xrevrange" => |words: &[&[u8]], _: &[u8], _: &Object| range(words, Order::Down),
        "xread" => read,
        "xreadgroup" => read_for_group,
        "xclaim" => |words: &[&[u8]], _: &[u8], _: &Object| vec![Wanted::Ids(ids(words.get(5..)))],
        "xautoclaim" => |words: &[&[u8]], _: &[u8], value: &Object| {
            with_stream(value, |stream| claim(words, stream).unwrap_or_default())
        },
        "xinfo|stream" => |words: &[&[u8]], _: &[u8], _: &Object| info(words),
        "xsetid" => |_: &[&[u8]], _: &[u8], _: &Object| vec![newest()],
        // The others look at groups and at what is known of the whole.
        _ => return Elements::None,
    };
    Elements::Told(Tell(tell))
}

fn with_stream(value: &Object, tell: impl FnOnce(&Stream) -> All) -> All {
    Stream::of(value).map_or(All::new(), tell)
}

fn between(order: Order, from: StreamId, to: StreamId, most: usize) -> Wanted<'static> {
    Wanted::Between(Bounds {
        from,
        to,
        most,
        order,
    })
}

fn oldest(most: usize) -> Wanted<'static> {
    between(Order::Up, StreamId::ZERO, StreamId::MAX, most)
}

fn newest() -> Wanted<'static> {
    between(Order::Down, StreamId::ZERO, StreamId::MAX, 1)
}

/// The ids that these arguments begin with.
fn ids(words: Option<&[&[u8]]>) -> Vec<StreamId> {
    let words = words.unwrap_or_default().iter();
    words.map_while(|word| parse_id(word, 0).ok()).collect()
}

/// What is trimmed, once so many entries have been added.
fn trimmed(options: &TrimOptions, added: u64) -> Option<Wanted<'static>> {
    Some(Wanted::Trim(options.keep?, added))
}

/// An entry joins the last node; where it trims, the first ones go.
fn add(words: &[&[u8]]) -> All {
    let args = Args::new(words);
    let mut options = TrimOptions::default();
    let mut left = args.options(2);
    while let Ok(true) = options
        .take(&mut left)
        .map(|taken| taken || left.take("NOMKSTREAM"))
    {}
    let mut wanted = vec![newest()];
    wanted.extend(trimmed(&options, 1));
    wanted
}

fn trim(words: &[&[u8]]) -> All {
    let args = Args::new(words);
    let mut options = TrimOptions::default();
    let mut left = args.options(2);
    while let Ok(true) = options.take(&mut left) {}
    trimmed(&options, 0).into_iter().collect()
}

fn delete(words: &[&[u8]], stream: &Stream) -> All {
    let ids = ids(words.get(2..));
    let mut wanted = All::new();
    // When the first entry goes another one is the first.
    if ids.contains(&stream.log().first_id()) {
        wanted.push(oldest(ids.len() + 1));
    }
    wanted.push(Wanted::Ids(ids));
    wanted
}

fn number_behind(words: &[&[u8]], name: &str) -> Option<i64> {
    let at = words
        .iter()
        .rposition(|word| word.eq_ignore_ascii_case(name.as_bytes()))?;
    crate::resp::number::parse_i64(words.get(at + 1)?)
}

fn range(words: &[&[u8]], order: Order) -> All {
    let (Some(one), Some(other)) = (words.get(2), words.get(3)) else {
        return All::new();
    };
    let (from, to) = match order {
        Order::Up => (one, other),
        Order::Down => (other, one),
    };
    let (Ok(from), Ok(to)) = (parse_start(from), parse_end(to)) else {
        return All::new();
    };
    let most = match number_behind(&words[4..], "COUNT") {
        Some(..=0) => return All::new(),
        count => count.map_or(usize::MAX, limit),
    };
    vec![between(order, from, to, most)]
}

/// What stands behind the ids of a key's streams, and how many are asked for. A key may be named twice.
fn sources<'a>(words: &[&'a [u8]], key: &[u8]) -> (Vec<&'a [u8]>, usize) {
    let args = Args::new(words);
    let Some(at) = streams_at(&args) else {
        return (Vec::new(), 0);
    };
    let streams = &words[at + 1..];
    let (keys, ids) = streams.split_at(streams.len() / 2);
    let of_key = keys.iter().zip(ids).filter(|(name, _)| **name == key);
    let count = number_behind(&words[..at], "COUNT").unwrap_or(0);
    (of_key.map(|(_, id)| *id).collect(), limit(count))
}

/// Entries behind an id; none where nothing can be.
fn behind(id: StreamId, stream: &Stream, most: usize) -> Option<Wanted<'static>> {
    let from = id.next().filter(|_| id < stream.log().last_id)?;
    Some(between(Order::Up, from, StreamId::MAX, most))
}

fn read(words: &[&[u8]], key: &[u8], value: &Object) -> All {
    with_stream(value, |stream| {
        let (ids, most) = sources(words, key);
        let after = ids.iter().filter_map(|id| parse_id(id, 0).ok());
        after.filter_map(|id| behind(id, stream, most)).collect()
    })
}

fn read_for_group(words: &[&[u8]], key: &[u8], value: &Object) -> All {
    with_stream(value, |stream| {
        let at = words.iter().position(|word| word.eq_ignore_ascii_case(b"GROUP"));
        let name = |number: usize| words.get(at? + number).copied();
        let Some(group) = name(1).and_then(|group| stream.groups().get(group)) else {
            return All::new();
        };
        let (ids, most) = sources(words, key);
        let wanted = |id: &&[u8]| match parse_id(id, 0) {
            Ok(id) if id < StreamId::MAX => {
                let consumer = group.find_consumer(name(2)?)?;
                let pending = group.consumer(consumer).pending(id.next()?, StreamId::MAX);
                Some(Wanted::Ids(pending.take(most).collect()))
            }
            Err(_) if **id != *b">" => None,
            _ => behind(group.last_id, stream, most),
        };
        ids.iter().filter_map(wanted).collect()
    })
}

fn claim(words: &[&[u8]], stream: &Stream) -> Option<All> {
    let group = stream.groups().get(words.get(2)?)?;
    let start = parse_start(words.get(5)?).ok()?;
    let count = match number_behind(&words[6..], "COUNT") {
        None => CLAIMED_DEFAULT,
        Some(count) => usize::try_from(count).ok()?,
    };
    let pending = group.pending(start, StreamId::MAX);
    let ids = pending.take(count.saturating_mul(ATTEMPTS)).map(|(id, _)| id);
    Some(vec![Wanted::Ids(ids.collect())])
}

/// The first and the last entry, or the first ones.
fn info(words: &[&[u8]]) -> All {
    let count = match words.get(3) {
        None => 1,
        Some(_) => limit(number_behind(&words[3..], "COUNT").unwrap_or(SHOWN_DEFAULT)),
    };
    vec![oldest(count), newest()]
}
