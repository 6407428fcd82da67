//! Which elements of a large sorted set a command touches, as far as its arguments and the set itself tell it: they are
//! in memory before it runs (see `command::elements`). Arguments that cannot be read touch nothing: the command refuses
//! them.

use super::add;
use super::range::{self, By, Fixed, STORES, fixed};
use crate::keyspace::Elements;
use crate::keyspace::paging::Tell;
use crate::object::pages::Wanted;
use crate::object::{Native, Object, SortedSet};

type All<'a> = Vec<Wanted<'a>>;

/// That of a command on sorted sets whose arguments alone do not tell it.
pub fn of(full_name: &str) -> Elements {
    let tell: for<'a> fn(&'a [&'a [u8]], &[u8], &Object) -> All<'a> = match full_name {
        "zadd" => |words, _, _| vec![Wanted::Elements(add::members(words), 2)],
        "zrank" | "zrevrank" => rank,
        "zrange" => |words, _, value| walk(words, (2, Fixed::default()), value),
        "zrevrange" => |words, _, value| walk(words, (2, fixed(By::Rank, true)), value),
        "zrangebyscore" => |words, _, value| walk(words, (2, fixed(By::Score, false)), value),
        "zrevrangebyscore" => |words, _, value| walk(words, (2, fixed(By::Score, true)), value),
        "zrangebylex" => |words, _, value| walk(words, (2, fixed(By::Lex, false)), value),
        "zrevrangebylex" => |words, _, value| walk(words, (2, fixed(By::Lex, true)), value),
        // Of what it replaces it needs nothing.
        "zrangestore" => |words, key, value| match words.get(2) {
            Some(source) if *source == key => walk(words, (3, STORES), value),
            _ => All::new(),
        },
        "zremrangebyrank" => |words, _, value| between(words, By::Rank, value),
        "zcount" | "zremrangebyscore" => |words, _, value| between(words, By::Score, value),
        "zlexcount" | "zremrangebylex" => |words, _, value| between(words, By::Lex, value),
        // Those that make sets of several; they take sets for sorted sets.
        _ => return Elements::All,
    };
    Elements::Told(Tell(tell))
}

fn walk<'a>(words: &[&[u8]], form: (usize, Fixed), value: &Object) -> All<'a> {
    let wanted = SortedSet::of(value).and_then(|set| range::wanted(words, form, set));
    wanted.into_iter().collect()
}

fn between<'a>(words: &[&[u8]], by: By, value: &Object) -> All<'a> {
    let wanted = SortedSet::of(value).and_then(|set| range::wanted_between(words, by, set));
    wanted.into_iter().collect()
}

/// The member; and all, unless it stands near an end, where memory knows everything.
fn rank<'a>(words: &'a [&'a [u8]], _: &[u8], value: &Object) -> All<'a> {
    let pages = SortedSet::of(value).and_then(SortedSet::pages);
    let (Some(member), Some(pages)) = (words.get(2), pages) else {
        return All::new();
    };
    if pages.knows(member) && !pages.knows_rank(member) {
        vec![Wanted::All]
    } else {
        vec![Wanted::Elements(&words[2..3], 1)]
    }
}
