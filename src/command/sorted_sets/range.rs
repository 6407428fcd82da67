//! Everything between two ranks, scores or members: returned, counted, removed, stored.
//!
//! One parser reads the bounds and options of all these commands; what they mean in a set is an interval of ranks
//! (`Section::ranks`), and one walk goes along it.

use super::{begin_members, write_member};
use crate::command::args::{Args, Options};
use crate::command::error::Error;
use crate::command::spec::Outcome;
use crate::keyspace::{Absent, Expiry, Tx};
use crate::object::pages::{Order, Wanted};
use crate::object::sorted_set::{Cut, Side};
use crate::object::{Native, SortedSet};
use crate::resp::Reply;
use crate::resp::number::{parse_f64, parse_i64};
use std::ops::Range;

/// What the bounds are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Lex,
}

/// Bounds, the lower one first.
enum Bounds<'a> {
    Ranks(i64, i64),
    Cuts(Cut<'a>, Cut<'a>),
}

impl<'a> Bounds<'a> {
    fn parse(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Bounds<'a>, Error> {
        let number = |text| parse_i64(text).ok_or(Error::NotInteger);
        let cuts = |low: Option<Cut<'a>>, high| low.zip(high).map(|(low, high)| Bounds::Cuts(low, high));
        match by {
            By::Rank => Ok(Bounds::Ranks(number(low)?, number(high)?)),
            By::Score => cuts(score_cut(low, Side::Before), score_cut(high, Side::Behind))
                .ok_or_else(|| Error::new("ERR min or max is not a float")),
            By::Lex => cuts(lex_cut(low, Side::Before), lex_cut(high, Side::Behind))
                .ok_or_else(|| Error::new("ERR min or max not valid string range item")),
        }
    }

    /// The ranks between the bounds, counted from the end if `reverse`.
    fn ranks(&self, set: &SortedSet, reverse: bool) -> Range<usize> {
        match self {
            Bounds::Cuts(low, high) => set.between(low, high),
            Bounds::Ranks(start, stop) => {
                let (ranks, len) = (ranks(*start, *stop, set.len()), set.len());
                set.ranks_of(if reverse {
                    len - ranks.end..len - ranks.start
                } else {
                    ranks
                })
            }
        }
    }
}

/// What two positions mean among `len` elements: negative ones count from the end, and both belong to the interval.
fn ranks(start: i64, stop: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { at + len } else { at };
    let start = from_end(start).max(0);
    let end = from_end(stop).min(len - 1) + 1;
    if start < end {
        start as usize..end as usize
    } else {
        0..0
    }
}

/// A bound of scores; one with `(` leaves its own score out. `side` is where it stands without.
fn score_cut(text: &[u8], side: Side) -> Option<Cut<'static>> {
    match text {
        [b'(', text @ ..] => Some(Cut::Score(score_bound(text)?, side.other())),
        text => Some(Cut::Score(score_bound(text)?, side)),
    }
}

/// A number as C's `strtod` reads it at the beginning of a C string: blanks before it and numbers out of range are
/// taken, and nothing at all is 0.
fn score_bound(text: &[u8]) -> Option<f64> {
    let text = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
    if text.is_empty() {
        return Some(0.0);
    }
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | 9..=13));
    let text = &text[blanks.count()..];
    let rounded = || -> Option<f64> { std::str::from_utf8(text).ok()?.parse().ok() };
    parse_f64(text).or_else(rounded).filter(|score| !score.is_nan())
}

/// A bound of members: `[member`, `(member` to leave it out, `-` and `+` for the ends.
fn lex_cut(text: &[u8], side: Side) -> Option<Cut<'_>> {
    match text {
        [b'-'] | [b'-', 0, ..] => Some(Cut::Start),
        [b'+'] | [b'+', 0, ..] => Some(Cut::End),
        [b'[', member @ ..] => Some(Cut::Member(member, side)),
        [b'(', member @ ..] => Some(Cut::Member(member, side.other())),
        _ => None,
    }
}

/// What a range command fixes by its name; what it leaves open its options may say.
#[derive(Clone, Copy, Default)]
pub(super) struct Fixed {
    by: Option<By>,
    reverse: Option<bool>,
    /// The elements are stored: no scores are asked for.
    stores: bool,
}

/// A part of a sorted set, and how it is gone along.
struct Section<'a> {
    bounds: Bounds<'a>,
    reverse: bool,
    /// Elements passed over, and the most taken then; negative for none, and for all.
    offset: i64,
    limit: i64,
    with_scores: bool,
}

impl<'a> Section<'a> {
    /// Reads two bounds and what follows them, from argument `at` on.
    fn parse(args: &Args<'a>, at: usize, fixed: Fixed) -> Result<Section<'a>, Error> {
        let (mut by, mut reverse) = (fixed.by, fixed.reverse);
        let (mut offset, mut limit, mut with_scores) = (0, -1, false);
        let mut words: Options<'a> = args.options(at + 2);
        while !words.is_done() {
            if !fixed.stores && words.take("WITHSCORES") {
                with_scores = true;
            } else if words.left() > 2 && words.take("LIMIT") {
                (offset, limit) = (words.int()?, words.int()?);
            } else if reverse.is_none() && words.take("REV") {
                reverse = Some(true);
            } else if by.is_none() && words.take("BYLEX") {
                by = Some(By::Lex);
            } else if by.is_none() && words.take("BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(Error::Syntax);
            }
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(Error::new(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(Error::new(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (mut low, mut high) = (args.get(at)?, args.get(at + 1)?);
        if reverse && by != By::Rank {
            (low, high) = (high, low);
        }
        if by == By::Rank {
            offset = 0;
        }
        Ok(Section {
            bounds: Bounds::parse(by, low, high)?,
            reverse,
            offset,
            limit,
            with_scores,
        })
    }

    /// What it looks at in a set.
    fn wanted(&self, set: &SortedSet) -> Wanted<'static> {
        match &self.bounds {
            Bounds::Ranks(start, stop) if self.reverse => {
                let from_end = |at: &i64| -at.saturating_add(1);
                Wanted::Indexes(from_end(stop), from_end(start))
            }
            Bounds::Ranks(start, stop) => Wanted::Indexes(*start, *stop),
            Bounds::Cuts(low, high) => {
                let skipped = usize::try_from(self.offset).unwrap_or(0);
                let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
                let order = if self.reverse { Order::Down } else { Order::Up };
                set.wanted((low, high), skipped.saturating_add(limit).max(1), order)
            }
        }
    }

    fn ranks(&self, set: &SortedSet) -> Range<usize> {
        let all = self.bounds.ranks(set, self.reverse);
        let skipped = usize::try_from(self.offset).map_or(all.len(), |offset| offset.min(all.len()));
        let left = all.len() - skipped;
        let taken = usize::try_from(self.limit).map_or(left, |limit| limit.min(left));
        if self.reverse {
            let end = all.end - skipped;
            end - taken..end
        } else {
            let start = all.start + skipped;
            start..start + taken
        }
    }
}

fn range(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply, fixed: Fixed) -> Outcome {
    let section = Section::parse(args, 2, fixed)?;
    let Some(set) = tx.read::<SortedSet>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    let (ranks, with_scores) = (section.ranks(set), section.with_scores);
    begin_members(ranks.len(), with_scores, reply);
    set.visit(ranks, section.reverse, |member, score| {
        write_member(member, score, with_scores, reply)
    });
    Ok(())
}

pub fn zrange(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    range(args, tx, reply, Fixed::default())
}

pub(super) const fn fixed(by: By, reverse: bool) -> Fixed {
    Fixed {
        by: Some(by),
        reverse: Some(reverse),
        stores: false,
    }
}

pub fn zrevrange(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    range(args, tx, reply, fixed(By::Rank, true))
}

pub fn zrangebyscore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    range(args, tx, reply, fixed(By::Score, false))
}

pub fn zrevrangebyscore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    range(args, tx, reply, fixed(By::Score, true))
}

pub fn zrangebylex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    range(args, tx, reply, fixed(By::Lex, false))
}

pub fn zrevrangebylex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    range(args, tx, reply, fixed(By::Lex, true))
}

pub(super) const STORES: Fixed = Fixed {
    by: None,
    reverse: None,
    stores: true,
};

pub fn zrangestore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let section = Section::parse(args, 3, STORES)?;
    let mut pairs = Vec::new();
    if let Some(set) = tx.read::<SortedSet>(&args[2])? {
        set.visit(section.ranks(set), false, |member, score| {
            pairs.push((member.into(), score))
        });
    }
    store(&args[1], pairs, tx, reply);
    Ok(())
}

/// Puts a set of these elements in the place of whatever is under a key, and replies how many they are.
pub(super) fn store(key: &[u8], pairs: Vec<(Box<[u8]>, f64)>, tx: &mut Tx<'_>, reply: &mut Reply) {
    reply.int(pairs.len() as i64);
    if pairs.is_empty() {
        tx.delete(key);
    } else {
        let set = SortedSet::from_pairs(pairs, &tx.limits());
        tx.put_object(key, set.into_object(), Expiry::Clear);
    }
}

fn count(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply, by: By) -> Outcome {
    let bounds = Bounds::parse(by, args.get(2)?, args.get(3)?)?;
    let set = tx.read::<SortedSet>(&args[1])?;
    reply.int(set.map_or(0, |set| bounds.ranks(set, false).len()) as i64);
    Ok(())
}

pub fn zcount(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    count(args, tx, reply, By::Score)
}

pub fn zlexcount(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    count(args, tx, reply, By::Lex)
}

fn remove(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply, by: By) -> Outcome {
    let bounds = Bounds::parse(by, args.get(2)?, args.get(3)?)?;
    let removed = tx.change(&args[1], Absent::Skip, |set: &mut SortedSet, change| {
        let ranks = bounds.ranks(set, false);
        let removed = ranks.len();
        if removed > 0 {
            set.remove_ranks(ranks, |_, _| ());
            change.as_received();
        }
        removed
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

pub fn zremrangebyrank(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    remove(args, tx, reply, By::Rank)
}

pub fn zremrangebyscore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    remove(args, tx, reply, By::Score)
}

pub fn zremrangebylex(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    remove(args, tx, reply, By::Lex)
}

/// What a range command looks at: its bounds begin at argument `at`. Nothing where they cannot be read.
pub(super) fn wanted(
    words: &[&[u8]],
    (at, fixed): (usize, Fixed),
    set: &SortedSet,
) -> Option<Wanted<'static>> {
    let section = Section::parse(&Args::new(words), at, fixed).ok()?;
    Some(section.wanted(set))
}

/// The same of a command that has bounds and nothing else.
pub(super) fn wanted_between(words: &[&[u8]], by: By, set: &SortedSet) -> Option<Wanted<'static>> {
    let section = Section {
        bounds: Bounds::parse(by, words.get(2)?, words.get(3)?).ok()?,
        reverse: false,
        offset: 0,
        limit: -1,
        with_scores: false,
    };
    Some(section.wanted(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_scores_are_read_as_c_reads_numbers() {
        let good = [
            ("", 0.0),
            (" 1", 1.0),
            ("\t-2.5", -2.5),
            ("1e400", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("1\0x", 1.0),
        ];
        for (text, score) in good {
            assert_eq!(score_bound(text.as_bytes()), Some(score), "{text}");
        }
        for text in ["1 ", "nan", "x", "1x", " ", "--1"] {
            assert_eq!(score_bound(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn positions_count_from_both_ends() {
        for (start, stop, len, expected) in [
            (0, -1, 3, 0..3),
            (-100, 100, 3, 0..3),
            (0, -100, 3, 0..0),
            (1, 1, 3, 1..2),
            (2, 1, 3, 0..0),
            (3, 5, 3, 0..0),
            (-1, -1, 3, 2..3),
            (i64::MIN, i64::MAX, 3, 0..3),
            (i64::MAX, i64::MIN, 3, 0..0),
        ] {
            assert_eq!(ranks(start, stop, len), expected, "{start} {stop}");
        }
    }
}
