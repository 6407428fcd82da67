//! Lists: adding and taking at both ends, reading, changing in the middle, and moving between lists.
//!
//! Guarantees: options are parsed whole before a key is touched; every change leaves effects that name one key each:
//! what is taken off an end is `LPOP` or `RPOP`, what is moved besides `LPUSH` or `RPUSH` with the element.

mod take;

use crate::command::args::Args;
use crate::command::error::Error;
use crate::command::spec::{Handler, KeySpec, Outcome, Spec, acl, flag::*, key, keynum, range};
use crate::keyspace::{Absent, Tx};
use crate::object::list::Side;
use crate::object::listpack::Item;
use crate::object::{List, Native};
use crate::resp::Reply;
use crate::resp::number::parse_i64;
use std::ops::Range;

const MOVE_KEYS: &[KeySpec] = &[key(1, "RW ACCESS DELETE"), key(2, "RW INSERT")];

pub static COMMANDS: &[Spec] = &[
    Spec::new(
        "lpush",
        -3,
        WRITE | DENYOOM | FAST,
        acl::LIST,
        Handler::Data(lpush),
    )
    .keys(&[key(1, "RW INSERT")])
    .group("list", "1.0.0")
    .doc(
        "key element [element ...]",
        "O(N) for N elements added",
        "Adds elements at the front of a list; an absent key counts as empty.",
    ),
    Spec::new(
        "rpush",
        -3,
        WRITE | DENYOOM | FAST,
        acl::LIST,
        Handler::Data(rpush),
    )
    .keys(&[key(1, "RW INSERT")])
    .group("list", "1.0.0")
    .doc(
        "key element [element ...]",
        "O(N) for N elements added",
        "Adds elements at the back of a list; an absent key counts as empty.",
    ),
    Spec::new(
        "lpushx",
        -3,
        WRITE | DENYOOM | FAST,
        acl::LIST,
        Handler::Data(lpushx),
    )
    .keys(&[key(1, "RW INSERT")])
    .group("list", "2.2.0")
    .doc(
        "key element [element ...]",
        "O(N) for N elements added",
        "Adds elements at the front of a list that exists.",
    ),
    Spec::new(
        "rpushx",
        -3,
        WRITE | DENYOOM | FAST,
        acl::LIST,
        Handler::Data(rpushx),
    )
    .keys(&[key(1, "RW INSERT")])
    .group("list", "2.2.0")
    .doc(
        "key element [element ...]",
        "O(N) for N elements added",
        "Adds elements at the back of a list that exists.",
    ),
    Spec::new("lpop", -2, WRITE | FAST, acl::LIST, Handler::Data(take::lpop))
        .keys(&[key(1, "RW ACCESS DELETE")])
        .group("list", "1.0.0")
        .doc(
            "key [count]",
            "O(N) for N elements returned",
            "Takes elements off the front of a list and returns them.",
        ),
    Spec::new("rpop", -2, WRITE | FAST, acl::LIST, Handler::Data(take::rpop))
        .keys(&[key(1, "RW ACCESS DELETE")])
        .group("list", "1.0.0")
        .doc(
            "key [count]",
            "O(N) for N elements returned",
            "Takes elements off the back of a list and returns them.",
        ),
    Spec::new(
        "lmpop",
        -4,
        WRITE | MOVABLEKEYS,
        acl::LIST,
        Handler::Data(take::lmpop),
    )
    .keys(&[keynum(1, 0, 1, "RW ACCESS DELETE")])
    .group("list", "7.0.0")
    .doc(
        "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        "O(N+M) for N keys and M elements returned",
        "Takes elements off one end of the first of several lists that has any.",
    ),
    Spec::new("lmove", 5, WRITE | DENYOOM, acl::LIST, Handler::Data(take::lmove))
        .keys(MOVE_KEYS)
        .group("list", "6.2.0")
        .doc(
            "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
            "O(1)",
            "Moves an element from an end of one list to an end of another or the same, and returns it.",
        ),
    Spec::new(
        "rpoplpush",
        3,
        WRITE | DENYOOM,
        acl::LIST,
        Handler::Data(take::rpoplpush),
    )
    .keys(MOVE_KEYS)
    .group("list", "1.2.0")
    .doc(
        "source destination",
        "O(1)",
        "Moves the last element of a list to the front of another or the same, and returns it.",
    ),
    Spec::new(
        "blpop",
        -3,
        WRITE | NOSCRIPT | BLOCKING,
        acl::LIST,
        Handler::Data(take::blpop),
    )
    .keys(&[range(1, -2, 1, "RW ACCESS DELETE")])
    .group("list", "2.0.0")
    .doc(
        "key [key ...] timeout",
        "O(N) for N keys",
        "Takes the first element of the first of several lists that has any, or waits until one has.",
    ),
    Spec::new(
        "brpop",
        -3,
        WRITE | NOSCRIPT | BLOCKING,
        acl::LIST,
        Handler::Data(take::brpop),
    )
    .keys(&[range(1, -2, 1, "RW ACCESS DELETE")])
    .group("list", "2.0.0")
    .doc(
        "key [key ...] timeout",
        "O(N) for N keys",
        "Takes the last element of the first of several lists that has any, or waits until one has.",
    ),
    Spec::new(
        "blmpop",
        -5,
        WRITE | BLOCKING | MOVABLEKEYS,
        acl::LIST,
        Handler::Data(take::blmpop),
    )
    .keys(&[keynum(2, 0, 1, "RW ACCESS DELETE")])
    .group("list", "7.0.0")
    .doc(
        "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        "O(N+M) for N keys and M elements returned",
        "Takes elements off one end of the first of several lists that has any, or waits until one has.",
    ),
    Spec::new(
        "blmove",
        6,
        WRITE | DENYOOM | NOSCRIPT | BLOCKING,
        acl::LIST,
        Handler::Data(take::blmove),
    )
    .keys(MOVE_KEYS)
    .group("list", "6.2.0")
    .doc(
        "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
        "O(1)",
        "Moves an element from an end of one list to an end of another, or waits until there is one to move.",
    ),
    Spec::new(
        "brpoplpush",
        4,
        WRITE | DENYOOM | NOSCRIPT | BLOCKING,
        acl::LIST,
        Handler::Data(take::brpoplpush),
    )
    .keys(MOVE_KEYS)
    .group("list", "2.2.0")
    .doc(
        "source destination timeout",
        "O(1)",
        "Moves the last element of a list to the front of another, or waits until there is one to move.",
    ),
    Spec::new("llen", 2, READONLY | FAST, acl::LIST, Handler::Data(llen))
        .keys(&[key(1, "RO")])
        .group("list", "1.0.0")
        .doc("key", "O(1)", "Returns how many elements a list has."),
    Spec::new("lrange", 4, READONLY, acl::LIST, Handler::Data(lrange))
        .keys(&[key(1, "RO ACCESS")])
        .group("list", "1.0.0")
        .doc(
            "key start stop",
            "O(S+N) for N elements returned, S the distance to the nearer end by nodes",
            "Returns the elements between two positions, both included.",
        ),
    Spec::new("lindex", 3, READONLY, acl::LIST, Handler::Data(lindex))
        .keys(&[key(1, "RO ACCESS")])
        .group("list", "1.0.0")
        .doc(
            "key index",
            "O(N) for N nodes to the nearer end",
            "Returns the element at a position.",
        ),
    Spec::new("lpos", -3, READONLY, acl::LIST, Handler::Data(lpos))
        .keys(&[key(1, "RO ACCESS")])
        .group("list", "6.0.6")
        .doc(
            "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
            "O(N) for N elements compared",
            "Returns the positions at which a list has an element.",
        ),
    Spec::new("lset", 4, WRITE | DENYOOM, acl::LIST, Handler::Data(lset))
        .keys(&[key(1, "RW UPDATE")])
        .group("list", "1.0.0")
        .doc(
            "key index element",
            "O(N) for N nodes to the nearer end",
            "Replaces the element at a position.",
        ),
    Spec::new("linsert", 5, WRITE | DENYOOM, acl::LIST, Handler::Data(linsert))
        .keys(&[key(1, "RW INSERT")])
        .group("list", "2.2.0")
        .doc(
            "key <BEFORE | AFTER> pivot element",
            "O(N) for N elements before the pivot",
            "Adds an element beside the first one that equals another.",
        ),
    Spec::new("lrem", 4, WRITE, acl::LIST, Handler::Data(lrem))
        .keys(&[key(1, "RW DELETE")])
        .group("list", "1.0.0")
        .doc(
            "key count element",
            "O(N)",
            "Removes elements that equal one, so many from the front, from the back, or all.",
        ),
    Spec::new("ltrim", 4, WRITE, acl::LIST, Handler::Data(ltrim))
        .keys(&[key(1, "RW DELETE")])
        .group("list", "1.0.0")
        .doc(
            "key start stop",
            "O(N) for N elements removed, by nodes",
            "Removes all elements but those between two positions.",
        ),
];

#[inline]
fn write_item(item: Item<'_>, reply: &mut Reply) {
    match item {
        Item::Bytes(bytes) => reply.bulk(bytes),
        Item::Int(value) => reply.bulk_int(value),
    }
}

/// What a position means in a list of `len` elements: negative ones count from the end.
fn position(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index + len as i64 } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

/// What `start` to `stop`, both included, mean in a list of `len` elements; empty when nothing lies between.
fn interval(start: i64, stop: i64, len: usize) -> Range<usize> {
    let from_start = |at: i64| if at < 0 { at + len as i64 } else { at };
    let (start, stop) = (from_start(start).max(0), from_start(stop).min(len as i64 - 1));
    if start > stop {
        return 0..0;
    }
    start as usize..stop as usize + 1
}

fn push(args: &Args<'_>, side: Side, absent: Absent, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let limits = tx.limits();
    let len = tx.change::<List, _>(&args[1], absent, |list, change| {
        list.push(side, args.rest(2), &limits);
        change.as_received();
        list.len()
    })?;
    reply.int(len.unwrap_or(0) as i64);
    Ok(())
}

fn lpush(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    push(args, Side::Front, Absent::Create, tx, reply)
}

fn rpush(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    push(args, Side::Back, Absent::Create, tx, reply)
}

fn lpushx(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    push(args, Side::Front, Absent::Skip, tx, reply)
}

fn rpushx(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    push(args, Side::Back, Absent::Skip, tx, reply)
}

/// A number that is not negative, or the error given, whatever is wrong with it.
fn positive(text: &[u8], error: &'static str) -> Result<usize, Error> {
    let number = parse_i64(text).and_then(|number| usize::try_from(number).ok());
    number.ok_or(Error::new(error))
}

fn llen(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let list = tx.read::<List>(&args[1])?;
    reply.int(list.map_or(0, |list| list.len() as i64));
    Ok(())
}

fn lrange(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (start, stop) = (args.int(2)?, args.int(3)?);
    let Some(list) = tx.read::<List>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    let range = interval(start, stop, list.len());
    reply.array(range.len());
    let elements = list.walk(Side::Front, range.start).take(range.len());
    elements.for_each(|item| write_item(item, reply));
    Ok(())
}

fn lindex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    // The position is read only where there is a list: so does Redis, and it shows in the errors.
    let Some(list) = tx.read::<List>(&args[1])? else {
        reply.null();
        return Ok(());
    };
    let at = position(args.int(2)?, list.len());
    match at.and_then(|at| list.get(at)) {
        Some(item) => write_item(item, reply),
        None => reply.null(),
    }
    Ok(())
}

#[derive(PartialEq, Eq, Debug)]
struct PosOptions {
    side: Side,
    /// Matches passed over before the first one that counts.
    skip: usize,
    /// How many are asked for, 0 for all; none: the first one alone, and not as an array.
    count: Option<usize>,
    /// Elements compared at most.
    compared: usize,
}

impl PosOptions {
    fn parse(args: &Args<'_>) -> Result<PosOptions, Error> {
        let (mut rank, mut count, mut compared) = (1, None, 0);
        let mut words = args.options(3);
        while !words.is_done() {
            if words.take("RANK") {
                rank = pos_rank(words.value()?)?;
            } else if words.take("COUNT") {
                count = Some(positive(words.value()?, "ERR COUNT can't be negative")?);
            } else if words.take("MAXLEN") {
                compared = positive(words.value()?, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(PosOptions {
            side: if rank > 0 { Side::Front } else { Side::Back },
            skip: usize::try_from(rank.unsigned_abs()).map_or(usize::MAX, |rank| rank - 1),
            count,
            compared: if compared == 0 { usize::MAX } else { compared },
        })
    }

    /// The positions of an element, in the order in which they are met.
    fn find<'a>(&self, list: &'a List, element: &'a [u8]) -> impl Iterator<Item = usize> + use<'a> {
        let (len, side) = (list.len(), self.side);
        let wanted = Item::of(element);
        let most = match self.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count,
        };
        let compared = list.walk(side, 0).take(self.compared).enumerate();
        compared
            .filter(move |(_, item)| *item == wanted)
            .map(move |(at, _)| match side {
                Side::Front => at,
                Side::Back => len - 1 - at,
            })
            .skip(self.skip)
            .take(most)
    }
}

fn pos_rank(text: &[u8]) -> Result<i64, Error> {
    match parse_i64(text).ok_or(Error::NotInteger)? {
        0 => Err(Error::new(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
        )),
        i64::MIN => Err(Error::new(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        rank => Ok(rank),
    }
}

fn lpos(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let options = PosOptions::parse(args)?;
    let list = tx.read::<List>(&args[1])?;
    let mut found = list.into_iter().flat_map(|list| options.find(list, &args[2]));
    if options.count.is_some() {
        let array = reply.defer_array();
        let mut count = 0;
        for at in found {
            reply.int(at as i64);
            count += 1;
        }
        reply.set_deferred(array, count);
    } else {
        match found.next() {
            Some(at) => reply.int(at as i64),
            None => reply.null(),
        }
    }
    Ok(())
}

fn lset(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let limits = tx.limits();
    let done = tx.change::<List, _>(&args[1], Absent::Skip, |list, change| {
        let at = position(args.int(2)?, list.len());
        let at = at.ok_or(Error::new("ERR index out of range"))?;
        list.set(at, &args[3], &limits);
        change.as_received();
        Ok(())
    })?;
    done.unwrap_or(Err(Error::NoSuchKey))?;
    reply.ok();
    Ok(())
}

fn linsert(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let side = match () {
        _ if args.is(2, "BEFORE") => Side::Front,
        _ if args.is(2, "AFTER") => Side::Back,
        _ => return Err(Error::Syntax),
    };
    let limits = tx.limits();
    let len = tx.change::<List, _>(&args[1], Absent::Skip, |list, change| {
        if !list.insert(&args[3], side, &args[4], &limits) {
            return -1;
        }
        change.as_received();
        list.len() as i64
    })?;
    reply.int(len.unwrap_or(0));
    Ok(())
}

fn lrem(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let count = args.int(2)?;
    let side = if count < 0 { Side::Back } else { Side::Front };
    let most = match usize::try_from(count.unsigned_abs()) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(most) => most,
    };
    let limits = tx.limits();
    let removed = tx.change::<List, _>(&args[1], Absent::Skip, |list, change| {
        let removed = list.remove(&args[3], side, most, &limits);
        if removed > 0 {
            change.as_received();
        }
        removed
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

fn ltrim(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (start, stop) = (args.int(2)?, args.int(3)?);
    let limits = tx.limits();
    tx.change::<List, _>(&args[1], Absent::Skip, |list, change| {
        let range = interval(start, stop, list.len());
        change.told(true);
        if range.len() < list.len() {
            list.keep(range, &limits);
            change.as_received();
        }
    })?;
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_intervals_are_those_of_lists() {
        assert_eq!(
            [0, 2, 3, -1, -3, -4, i64::MIN].map(|at| position(at, 3)),
            [Some(0), Some(2), None, Some(2), Some(0), None, None]
        );
        let cases = [
            ((0, -1), 0..3),
            ((1, 1), 1..2),
            ((-2, 100), 1..3),
            ((-100, -50), 0..0),
            ((i64::MIN, i64::MAX), 0..3),
            ((3, 5), 0..0),
            ((2, 1), 0..0),
        ];
        for ((start, stop), range) in cases {
            assert_eq!(interval(start, stop, 3), range, "{start} {stop}");
        }
    }
}
