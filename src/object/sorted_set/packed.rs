//! The small encoding: a packed list of member, score, member, score … in the order of the elements.
//!
//! A score is written as Redis writes it there: an integer where it is one, else the shortest text that reads back as
//! the same number. -0 is written as 0.

use super::{Cut, NotSorted, compare};
use crate::object::listpack::{self, Cursor, Item, Listpack};
use crate::resp::number::parse_f64;
use std::cmp::Ordering;
use std::io::Write;
use std::ops::Range;

pub(super) use listpack::BYTES_MAX;

/// Integers up to this are kept as such: every one below it is exact in a double.
const WHOLE_MOST: f64 = (1u64 << 52) as f64;

/// A score as it stands in the list.
struct Text {
    bytes: [u8; 32],
    len: usize,
}

impl Text {
    fn new(score: f64) -> Text {
        let mut bytes = [0; 32];
        let mut rest = &mut bytes[..];
        // proof: the longest text is that of -5e-324 and its like with 17 digits: 24 bytes. Writing cannot fail.
        let _ = if score.abs() < WHOLE_MOST && score.fract() == 0.0 {
            rest.write_all(itoa::Buffer::new().format(score as i64).as_bytes())
        } else if score.abs() < 1e21 && score.abs() >= 1e-7 || score.is_infinite() {
            write!(rest, "{score}")
        } else {
            write!(rest, "{score:e}")
        };
        let len = 32 - rest.len();
        Text { bytes, len }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The score that an element of the list holds; none if it is not a number.
fn parse(item: Item<'_>) -> Option<f64> {
    match item {
        Item::Int(score) => Some(score as f64),
        Item::Bytes(text) => parse_f64(text),
    }
}

fn score(item: Item<'_>) -> f64 {
    // proof: scores were written by `Text`, or read once by `check`.
    parse(item).unwrap_or_default()
}

/// Where a member stands, and its score.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub at: Cursor,
    pub score: f64,
}

pub(super) fn find(list: &Listpack, member: &[u8]) -> Option<Found> {
    let at = list.find(list.first()?, member, 1)?;
    let score = score(list.get(list.next(at)?));
    Some(Found { at, score })
}

/// The elements in order.
fn pairs(list: &Listpack) -> impl Iterator<Item = (Item<'_>, f64)> {
    let mut items = list.iter();
    std::iter::from_fn(move || Some((items.next()?, score(items.next()?))))
}

pub(super) fn rank(list: &Listpack, member: &[u8]) -> Option<(usize, f64)> {
    let rank =
        |(rank, (item, score)): (usize, (Item<'_>, f64))| item.eq_bytes(member).then_some((rank, score));
    pairs(list).enumerate().find_map(rank)
}

/// How many elements stand before a cut.
pub(super) fn position(list: &Listpack, cut: &Cut<'_>) -> usize {
    let before = |(item, score): &(Item<'_>, f64)| match cut.needs_members() {
        true => item.with_bytes(|member| cut.is_behind(*score, member)),
        false => cut.is_behind(*score, b""),
    };
    pairs(list).take_while(before).count()
}

pub(super) fn visit(list: &Listpack, ranks: Range<usize>, reverse: bool, mut visit: impl FnMut(&[u8], f64)) {
    let ranks = ranks.start..ranks.end.min(list.len() / 2);
    if ranks.is_empty() {
        return;
    }
    if reverse {
        let last = list.at(ranks.end as i64 * 2 - 1);
        let mut cursor = last;
        for _ in ranks {
            let Some((at, member)) = cursor.and_then(|at| Some((at, list.prev(at)?))) else {
                return;
            };
            let score = score(list.get(at));
            list.get(member).with_bytes(|member| visit(member, score));
            cursor = list.prev(member);
        }
        return;
    }
    let Some(first) = list.at(ranks.start as i64 * 2) else {
        return;
    };
    let mut items = list.iter_from(first);
    for _ in ranks {
        if let (Some(member), Some(item)) = (items.next(), items.next()) {
            member.with_bytes(|member| visit(member, score(item)));
        }
    }
}

/// Adds an element whose member is absent.
pub(super) fn insert(list: &mut Listpack, member: &[u8], score: f64) {
    let at = list.first().and_then(|first| behind(list, first, member, score));
    let text = Text::new(score);
    list.insert_many(at, [member, text.as_bytes()].into_iter());
}

/// Gives an element that is there another score. It moves within the block: nothing is allocated unless the score's
/// length changes.
pub(super) fn rescore(list: &mut Listpack, found: Found, member: &[u8], score: f64) {
    let Some(score_at) = list.next(found.at) else {
        return;
    };
    list.replace(score_at, Text::new(score).as_bytes());
    let next = list.next(score_at);
    if score > found.score {
        let to = next.and_then(|next| behind(list, next, member, score));
        if let Some(next) = next.filter(|_| to != next) {
            list.exchange(found.at, next, to);
        }
    } else if let Some(to) = list.first().and_then(|first| behind(list, first, member, score)) {
        // Where nothing before the element stands behind it, the next one does, or nothing.
        if Some(to) != next {
            list.exchange(to, found.at, next);
        }
    }
}

/// The first element, from one on, that stands behind a score and member.
fn behind(list: &Listpack, from: Cursor, member: &[u8], score: f64) -> Option<Cursor> {
    let mut items = list.iter_from(from);
    loop {
        let at = items.cursor()?;
        let item = items.next()?;
        let other = self::score(items.next()?);
        if other > score || (other == score && item.with_bytes(|other| other > member)) {
            return Some(at);
        }
    }
}

pub(super) fn remove_ranks(list: &mut Listpack, ranks: Range<usize>, taken: impl FnMut(&[u8], f64)) {
    let ranks = ranks.start..ranks.end.min(list.len() / 2);
    visit(list, ranks.clone(), false, taken);
    if let Some(first) = list.at(ranks.start as i64 * 2).filter(|_| !ranks.is_empty()) {
        list.remove(first, ranks.len() * 2);
    }
}

/// A list of elements that come in order.
pub(super) fn from_sorted<'a>(pairs: impl Iterator<Item = (&'a [u8], f64)> + Clone) -> Listpack {
    let texts: Vec<Text> = pairs.clone().map(|(_, score)| Text::new(score)).collect();
    let both = pairs
        .zip(&texts)
        .flat_map(|((member, _), text)| [member, text.as_bytes()]);
    let mut list = Listpack::new();
    list.append_many(both);
    list
}

/// Whether a list is that of a sorted set: pairs in order, every score a number, no member twice. The length of the
/// longest member.
pub(super) fn check(list: &Listpack) -> Result<usize, NotSorted> {
    let mut items = list.iter();
    let mut members: Vec<Vec<u8>> = Vec::new();
    let mut last: Option<f64> = None;
    while let Some(member) = items.next() {
        let score = items.next().and_then(parse).ok_or(NotSorted)?;
        let member = member.to_vec();
        let ordered = match (last, members.last()) {
            (Some(before), Some(other)) => compare(before, other, score, &member) == Ordering::Less,
            _ => true,
        };
        if !ordered {
            return Err(NotSorted);
        }
        last = Some(score);
        members.push(member);
    }
    let longest = members.iter().map(Vec::len).max().unwrap_or(0);
    members.sort_unstable();
    if members.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(NotSorted);
    }
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_written_short_and_read_back() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (3.0, "3"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (1.5e300, "1.5e300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (1e20, "100000000000000000000"),
        ];
        for (score, text) in cases {
            assert_eq!(Text::new(score).as_bytes(), text.as_bytes());
        }
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..100_000 {
            let score = f64::from_bits(rng.u64(..));
            if !score.is_nan() && score != 0.0 {
                let text = Text::new(score);
                let back = parse_f64(text.as_bytes()).map(f64::to_bits);
                assert_eq!(back, Some(score.to_bits()));
            }
        }
    }

    #[test]
    fn lists_that_are_no_sorted_sets_are_refused() {
        let list = |items: &[&str]| {
            let mut list = Listpack::new();
            list.append_many(items.iter().map(|item| item.as_bytes()));
            check(&list)
        };
        assert_eq!(list(&["a", "1", "bcd", "1", "ab", "2.5"]), Ok(3));
        assert_eq!(list(&[]), Ok(0));
        for bad in [
            &["a"][..],
            &["a", "x"],
            &["a", "nan"],
            &["b", "1", "a", "1"],
            &["b", "2", "a", "1"],
            &["a", "1", "a", "1"],
            &["a", "1", "a", "2"],
        ] {
            assert_eq!(list(bad), Err(NotSorted), "{bad:?}");
        }
    }
}
