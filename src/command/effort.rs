//! How much work a request may be, judged before it runs: what may take long runs beside the runtime's other tasks.
//!
//! A worker thread that is busy with one request serves none of its other connections, nor does it look for input that
//! the idle ones could serve. `may_wait` hands both over, which costs some microseconds: too much for every request, and
//! nothing for one that takes a millisecond. So requests are told apart by what is known beforehand: the size of the
//! values, and how much of them the arguments ask for. When that cannot be told, large values count as a whole.

use super::args::Args;
use super::spec::{Spec, flag};
use crate::keyspace::tx::{LARGE, STRING_ELEMENT, Tx};

/// So many bytes are long work to copy.
pub const LONG_BYTES: usize = 1 << 20;
/// What SCAN and its like look at without a COUNT.
const SCAN_COUNT: usize = 10;

/// What a command's work grows with, besides its arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effort {
    /// Nothing.
    Constant,
    /// The elements of its values.
    Values,
    /// As `Values`, but no more than the COUNT or LIMIT that it gives.
    Limited,
    /// As `Values`, but no more than the COUNT that it gives or the usual one.
    Scan,
    /// The elements between the places in its third and fourth argument.
    Window,
    /// What lies outside of the places in its third and fourth argument.
    Outside,
    /// The count behind a group and two ids; without one, nothing.
    Pending,
    /// The count in its third argument; without one, nothing.
    Count,
    /// What a string has to grow by: to the place in its third argument, of which so many make an element.
    Growth(u64),
}

impl Effort {
    /// That of a row of the table. What is not named takes time with its values, unless Redis calls it fast.
    pub fn of(full_name: &str, spec: &Spec) -> Effort {
        match full_name {
            "lrange" | "zrange" | "zrevrange" | "getrange" | "substr" => Effort::Window,
            "ltrim" => Effort::Outside,
            "xpending" => Effort::Pending,
            "xgroup|delconsumer" => Effort::Values,
            "srandmember" | "hrandfield" | "zrandmember" | "spop" | "lpop" | "rpop" | "zpopmin"
            | "zpopmax" => Effort::Count,
            "hscan" | "sscan" | "zscan" | "xautoclaim" => Effort::Scan,
            "xrange" | "xrevrange" | "xread" | "xreadgroup" | "zrangebyscore" | "zrevrangebyscore"
            | "zrangebylex" | "zrevrangebylex" => Effort::Limited,
            "setrange" => Effort::Growth(STRING_ELEMENT as u64),
            "setbit" => Effort::Growth(8 * STRING_ELEMENT as u64),
            "set" | "setex" | "psetex" | "mset" | "msetnx" | "del" | "lindex" | "lset" | "lmove"
            | "rpoplpush" | "blmove" | "brpoplpush" | "lmpop" | "blmpop" | "zmpop" | "bzmpop" | "blpop"
            | "brpop" | "bzpopmin" | "bzpopmax" | "object|encoding" | "object|freq" | "object|idletime"
            | "object|refcount" | "memory|usage" | "bitfield" | "geoadd" | "geodist" | "geohash"
            | "geopos" | "xinfo|consumers" | "xinfo|groups" | "wait" => Effort::Constant,
            name if name.starts_with("xgroup|") => Effort::Constant,
            _ if spec.has(flag::FAST) => Effort::Constant,
            _ => Effort::Values,
        }
    }

    /// True for a request that is better run beside the other tasks of this thread.
    #[inline]
    pub fn is_long(self, args: &Args<'_>, tx: &Tx<'_>) -> bool {
        if args.len() > LARGE || args.all().iter().any(|arg| arg.len() >= LONG_BYTES) {
            return true;
        }
        if self == Effort::Constant || !self.asks_for_much(args) {
            return false;
        }
        match self {
            Effort::Growth(_) => !tx.holds_much(LARGE),
            Effort::Outside => tx.holds_much(LARGE.saturating_add(window(args).unwrap_or(0))),
            _ => tx.holds_much(LARGE),
        }
    }

    /// What the arguments say.
    fn asks_for_much(self, args: &Args<'_>) -> bool {
        let int = |at: usize| int(args, at);
        let long = |count: u64| count >= LARGE as u64;
        match self {
            Effort::Constant => false,
            Effort::Values => true,
            Effort::Count => int(2).is_some_and(|count| long(count.unsigned_abs())),
            Effort::Growth(each) => int(2).is_some_and(|place| long(place.unsigned_abs() / each)),
            // Scores are no places.
            Effort::Window => args.len() != 4 || window(args).is_none_or(|len| long(len as u64)),
            // Where one place counts from the front and one from the back, they say what is outside.
            Effort::Outside => match (int(2), int(3)) {
                (Some(start), Some(stop)) if start >= 0 && stop < 0 => {
                    long(start.unsigned_abs().saturating_add(stop.unsigned_abs() - 1))
                }
                _ => true,
            },
            // With IDLE it stands two places further on.
            Effort::Pending => int(7).or(int(5)).is_some_and(|count| long(count.unsigned_abs())),
            Effort::Scan => long(limit(args).unwrap_or(SCAN_COUNT) as u64),
            Effort::Limited => limit(args).is_none_or(|limit| long(limit as u64)),
        }
    }
}

fn int(args: &Args<'_>, at: usize) -> Option<i64> {
    std::str::from_utf8(args.all().get(at)?).ok()?.parse().ok()
}

/// How many elements lie between two places; of places of which one counts from the end nothing is known.
fn window(args: &Args<'_>) -> Option<usize> {
    let (start, stop) = (int(args, 2)?, int(args, 3)?);
    let len = stop.saturating_sub(start).saturating_add(1).max(0);
    ((start < 0) == (stop < 0)).then_some(len as usize)
}

/// The number behind COUNT, or the sum of those behind LIMIT.
fn limit(args: &Args<'_>) -> Option<usize> {
    let words = args.all();
    let named = |word: &str| {
        words
            .iter()
            .rposition(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let number = |at: usize| -> Option<usize> { std::str::from_utf8(words.get(at)?).ok()?.parse().ok() };
    match (named("COUNT"), named("LIMIT")) {
        (Some(at), _) => number(at + 1),
        (None, Some(at)) => Some(number(at + 1)?.saturating_add(number(at + 2)?)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(effort: Effort, line: &str) -> bool {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        effort.asks_for_much(&Args::new(&words))
    }

    #[test]
    fn what_the_arguments_bound_is_not_long_whatever_the_value() {
        assert!(!asks(Effort::Window, "LRANGE l 0 99"));
        assert!(!asks(Effort::Window, "LRANGE l -100 -1"));
        assert!(!asks(Effort::Window, "LRANGE l 9 2"));
        assert!(asks(Effort::Window, "LRANGE l 0 -1"));
        assert!(asks(Effort::Window, "LRANGE l 0 5000"));
        assert!(asks(Effort::Window, "ZRANGE z 0 9 BYSCORE"));
        assert!(!asks(Effort::Count, "SPOP s"));
        assert!(!asks(Effort::Count, "SPOP s 10"));
        assert!(asks(Effort::Count, "SRANDMEMBER s -9000"));
        assert!(!asks(Effort::Scan, "HSCAN h 0"));
        assert!(asks(Effort::Scan, "HSCAN h 0 COUNT 100000"));
        assert!(!asks(
            Effort::Limited,
            "XREADGROUP GROUP g c COUNT 10 STREAMS s >"
        ));
        assert!(!asks(Effort::Outside, "LTRIM l 1 -2"));
        assert!(asks(Effort::Outside, "LTRIM l 9000 -1"));
        assert!(!asks(Effort::Pending, "XPENDING s g"));
        assert!(!asks(Effort::Pending, "XPENDING s g - + 10 c"));
        assert!(asks(Effort::Pending, "XPENDING s g IDLE 5 - + 100000"));
        assert!(asks(Effort::Limited, "XRANGE s - +"));
        assert!(!asks(Effort::Limited, "ZRANGEBYSCORE z 0 9 LIMIT 0 10"));
        assert!(asks(Effort::Limited, "ZRANGEBYSCORE z 0 9 LIMIT 0 -1"));
        assert!(asks(Effort::Growth(64), "SETRANGE b 500000000 x"));
        assert!(!asks(Effort::Growth(512), "SETBIT b 2000000 1"));
    }
}
