//! `SORT` and `SORT_RO`: the elements of a list, set or sorted set in an order of their own, or in that of other keys'
//! values, and in their place, if wanted, values of other keys.
//!
//! The keys behind `BY` and `GET` follow from the elements, so nobody can declare them beforehand. Therefore the
//! command reads the elements, opens one transaction of the key, the destination and every key that the elements lead
//! to, and reads the elements again: if each of them is among those it knew, all is there under its locks, and the
//! command is atomic. If others have come it tries again with them too. Only after `ATTEMPTS` of that, on a value that
//! others keep adding to, does it sort the elements as they were read before: then the elements are those of one
//! moment, the other keys' values those of a later one.
//!
//! Guarantees: options are parsed before a key is touched; what is stored is recorded as the result.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::key_spec::{Found, KeySpec, key, unknown};
use super::permission;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use super::table;
use crate::keyspace::load::may_wait_if;
use crate::keyspace::tx::LARGE;
use crate::keyspace::{self, Call, Expiry, Tx};
use crate::object::list::Side;
use crate::object::{Hash, List, Native, Object};
use crate::resp::Reply;
use crate::resp::number::parse_f64;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::Range;

const TYPES: u32 = acl::SET | acl::SORTED_SET | acl::LIST | acl::DANGEROUS;
const PATTERNS: KeySpec =
    unknown("RO ACCESS").notes("Keys of BY and GET: their names follow from the elements.");
const STORED: KeySpec =
    unknown("OW UPDATE").notes("The destination of STORE, which may stand anywhere among the options.");

pub static COMMANDS: &[Spec] = &[
    Spec::new("sort", -2, WRITE | DENYOOM | MOVABLEKEYS, TYPES, Handler::Admin(sort))
        .keys(&[key(1, "RO ACCESS"), PATTERNS, STORED])
        .walk(walk)
        .group("generic", "1.0.0")
        .doc(
            "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]",
            "O(N+M*log(M)) for N elements and M of them returned",
            "Sorts a list, set or sorted set, and returns or stores the result.",
        ),
    Spec::new("sort_ro", -2, READONLY | MOVABLEKEYS, TYPES, Handler::Admin(sort_ro))
        .keys(&[key(1, "RO ACCESS"), PATTERNS])
        .group("generic", "7.0.0")
        .doc(
            "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
            "O(N+M*log(M)) for N elements and M of them returned",
            "Sorts a list, set or sorted set, and returns the result.",
        ),
];

/// How often elements are read again because others have come.
const ATTEMPTS: usize = 8;

/// The key, and the destination of the last STORE.
fn walk(args: &Args<'_>) -> Found {
    let mut found = Found::new();
    if args.len() > 1 {
        found.push((1, 0));
    }
    let (mut at, mut destination) = (2, None);
    while at < args.len() {
        if args.is(at, "LIMIT") {
            at += 2;
        } else if args.is(at, "GET") || args.is(at, "BY") {
            at += 1;
        } else if args.is(at, "STORE") && at + 1 < args.len() {
            destination = Some((at + 1, 2));
        }
        at += 1;
    }
    found.extend(destination);
    found
}

/// What BY or GET asks for of an element.
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// Without a `*` there is no such key.
    Nothing,
    /// The key of which the element is the middle, and a field if its value is a hash.
    Key {
        before: &'a [u8],
        behind: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Pattern<'a> {
        if text == b"#" {
            return Pattern::Element;
        }
        let Some(star) = memchr::memchr(b'*', text) else {
            return Pattern::Nothing;
        };
        let (before, behind) = (&text[..star], &text[star + 1..]);
        match memchr::memmem::find(behind, b"->") {
            Some(arrow) if arrow + 2 < behind.len() => Pattern::Key {
                before,
                behind: &behind[..arrow],
                field: Some(&behind[arrow + 2..]),
            },
            _ => Pattern::Key {
                before,
                behind,
                field: None,
            },
        }
    }

    /// The key that an element leads to.
    fn key(&self, element: &[u8]) -> Option<Vec<u8>> {
        match self {
            Pattern::Key { before, behind, .. } => Some([before, element, behind].concat()),
            _ => None,
        }
    }

    fn value(&self, element: &[u8], tx: &mut Tx<'_>) -> Option<Vec<u8>> {
        let (key, field) = match self {
            Pattern::Element => return Some(element.to_vec()),
            Pattern::Nothing => return None,
            Pattern::Key { field, .. } => (self.key(element)?, field),
        };
        let entry = tx.lookup(&key)?;
        match (field, entry.object()) {
            (None, None) => Some(entry.value().to_vec()),
            (Some(field), Some(object)) => Hash::of(object)?.get(field).map(|value| value.to_vec()),
            _ => None,
        }
    }
}

enum Order<'a> {
    /// By the elements themselves.
    Elements,
    /// As they stand.
    Kept,
    /// By what they lead to.
    Values(Pattern<'a>),
}

struct Plan<'a> {
    key: &'a [u8],
    order: Order<'a>,
    offset: i64,
    count: i64,
    gets: Vec<Pattern<'a>>,
    descending: bool,
    alpha: bool,
    destination: Option<&'a [u8]>,
}

impl<'a> Plan<'a> {
    /// `reads_all` tells whether the user may read keys that no argument names.
    fn parse(args: &Args<'a>, may_store: bool, reads_all: impl Fn() -> bool) -> Result<Plan<'a>, Error> {
        let mut plan = Plan {
            key: args.get(1)?,
            order: Order::Elements,
            offset: 0,
            count: -1,
            gets: Vec::new(),
            descending: false,
            alpha: false,
            destination: None,
        };
        let mut words = args.options(2);
        while !words.is_done() {
            let values = words.left() - 1;
            if words.take("ASC") {
                plan.descending = false;
            } else if words.take("DESC") {
                plan.descending = true;
            } else if words.take("ALPHA") {
                plan.alpha = true;
            } else if values >= 2 && words.take("LIMIT") {
                plan.offset = words.int()?;
                plan.count = words.int()?;
            } else if may_store && values >= 1 && words.take("STORE") {
                plan.destination = Some(words.value()?);
            } else if values >= 1 && words.take("BY") {
                let text = words.value()?;
                if text.contains(&b'*') && !reads_all() {
                    return Err(denied("BY"));
                }
                plan.order = match (Pattern::parse(text), plan.order) {
                    // One constant pattern among several is enough.
                    (_, Order::Kept) => Order::Kept,
                    (pattern @ Pattern::Key { .. }, _) => Order::Values(pattern),
                    _ => Order::Kept,
                };
            } else if values >= 1 && words.take("GET") {
                if !reads_all() {
                    return Err(denied("GET"));
                }
                plan.gets.push(Pattern::parse(words.value()?));
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(plan)
    }

    /// Patterns that may lead to keys.
    fn patterns(&self) -> impl Iterator<Item = &Pattern<'a>> {
        let by = match &self.order {
            Order::Values(pattern) => Some(pattern),
            _ => None,
        };
        by.into_iter().chain(&self.gets)
    }

    fn reads_other_keys(&self) -> bool {
        self.patterns()
            .any(|pattern| matches!(pattern, Pattern::Key { .. }))
    }

    /// The part of `len` elements that LIMIT lets through.
    fn range(&self, len: usize) -> Range<usize> {
        let most = len as i64;
        let start = self.offset.clamp(0, most);
        let count = if self.count < 0 {
            most
        } else {
            self.count.min(most)
        };
        start as usize..(start + count).min(most) as usize
    }
}

/// What is to be sorted.
struct Elements {
    items: Vec<Vec<u8>>,
    /// They stand in no order.
    is_set: bool,
}

fn sort(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    sort_as(args, true, context)
}

fn sort_ro(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    sort_as(args, false, context)
}

fn sort_as(args: &Args<'_>, may_store: bool, context: &mut Context<'_>) -> Outcome {
    let user = context.session.user.clone();
    let command = table::find_named(&args[0]);
    let reads_all = || command.is_some_and(|command| permission::reads_all_keys(&user, command, args));
    run(args, &Plan::parse(args, may_store, reads_all)?, context)
}

/// The names of the keys that an option leads to are not known before, so it needs permission for all.
fn denied(option: &str) -> Error {
    Error::new(format!(
        "ERR {option} option of SORT denied due to insufficient ACL permissions."
    ))
}

/// Opens transactions until one has every key that is needed; see the file's head.
fn run(args: &Args<'_>, plan: &Plan<'_>, context: &mut Context<'_>) -> Outcome {
    let mut known: HashSet<Vec<u8>> = HashSet::new();
    let mut before: Option<Elements> = None;
    for attempt in 0.. {
        let others: Vec<Vec<u8>> = known
            .iter()
            .flat_map(|element| plan.patterns().filter_map(|pattern| pattern.key(element)))
            .collect();
        let declared = [plan.key].into_iter().chain(plan.destination);
        let keys: Vec<&[u8]> = declared.chain(others.iter().map(Vec::as_slice)).collect();
        let call = Call {
            db: context.session.db,
            now_ms: context.now_ms,
            keys: &keys,
            received: args.all(),
            elements: keyspace::Elements::All,
            replay: None,
        };
        let mut tx = context.server.keyspace.begin(call, context.effects)?;
        if context.session.no_touch {
            tx.leave_clocks();
        }
        let is_long = tx.holds_much(LARGE);
        let now = may_wait_if(is_long, || elements(plan, &mut tx));
        if args.is(0, "SORT_RO")
            && let Some(tracking) = &mut context.session.tracking
        {
            tracking.remember(&mut tx, &[plan.key]);
        }
        let now = now?;
        let covered = !plan.reads_other_keys() || now.items.iter().all(|item| known.contains(item));
        if !covered && attempt < ATTEMPTS {
            known.extend(now.items.iter().cloned());
            before = Some(now);
            continue;
        }
        let elements = if covered { Some(now) } else { before };
        let elements = elements.unwrap_or(Elements::NONE);
        let outcome = may_wait_if(is_long, || finish(plan, elements, &mut tx, context.reply));
        context.gate = context.gate.max(tx.commit());
        return outcome;
    }
    Ok(())
}

impl Elements {
    const NONE: Elements = Elements {
        items: Vec::new(),
        is_set: false,
    };
}

/// Reads the elements, in the order in which they stand: backwards, where they have one, if DESC asks for no other.
fn elements(plan: &Plan<'_>, tx: &mut Tx<'_>) -> Result<Elements, Error> {
    let Some(entry) = tx.lookup(plan.key) else {
        return Ok(Elements::NONE);
    };
    let backwards = plan.descending && matches!(plan.order, Order::Kept);
    let mut items = Vec::new();
    let is_set = match entry.object() {
        Some(Object::List(list)) => {
            let side = if backwards { Side::Back } else { Side::Front };
            items.extend(list.walk(side, 0).map(|item| item.to_vec()));
            false
        }
        Some(Object::Set(set)) => {
            items.extend(set.iter().map(|item| item.to_vec()));
            true
        }
        Some(Object::SortedSet(sorted)) => {
            sorted.visit(0..sorted.len(), backwards, |member, _| {
                items.push(member.to_vec())
            });
            false
        }
        _ => return Err(Error::WrongType),
    };
    Ok(Elements { items, is_set })
}

/// Sorts, and replies or stores. Every key that the elements lead to is locked.
fn finish(plan: &Plan<'_>, elements: Elements, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let range = plan.range(elements.items.len());
    let sorted = sorted(plan, elements, tx)?;
    let mut results: Vec<Option<Vec<u8>>> = Vec::new();
    for element in sorted.into_iter().take(range.end).skip(range.start) {
        if plan.gets.is_empty() {
            results.push(Some(element));
        } else {
            results.extend(plan.gets.iter().map(|pattern| pattern.value(&element, tx)));
        }
    }
    match plan.destination {
        Some(destination) => store(destination, &results, tx, reply),
        None => {
            reply.array(results.len());
            for result in &results {
                match result {
                    Some(value) => reply.bulk(value),
                    None => reply.null(),
                }
            }
        }
    }
    Ok(())
}

fn store(destination: &[u8], results: &[Option<Vec<u8>>], tx: &mut Tx<'_>, reply: &mut Reply) {
    if results.is_empty() {
        tx.delete(destination);
    } else {
        let values: Vec<&[u8]> = results
            .iter()
            .map(|value| value.as_deref().unwrap_or(b""))
            .collect();
        let mut list = List::empty();
        list.push(Side::Back, &values, &tx.limits());
        tx.put_object(destination, list.into_object(), Expiry::Clear);
    }
    reply.int(results.len() as i64);
}

/// The elements in the order that is asked for.
fn sorted(plan: &Plan<'_>, elements: Elements, tx: &mut Tx<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let mut items = elements.items;
    match &plan.order {
        // What is stored of a set must not depend on how it is kept.
        Order::Kept if elements.is_set && plan.destination.is_some() => {
            items.sort();
            if plan.descending {
                items.reverse();
            }
            Ok(items)
        }
        Order::Kept => Ok(items),
        Order::Elements if plan.alpha => {
            items.sort_by(|a, b| directed(a.cmp(b), plan));
            Ok(items)
        }
        Order::Elements => by_score(items, |item, _| Some(item.to_vec()), plan, tx),
        Order::Values(pattern) if plan.alpha => {
            let mut keyed: Vec<(Option<Vec<u8>>, Vec<u8>)> = items
                .into_iter()
                .map(|item| (pattern.value(&item, tx), item))
                .collect();
            // What leads to nothing comes first.
            keyed.sort_by(|a, b| directed(a.0.cmp(&b.0), plan));
            Ok(keyed.into_iter().map(|(_, item)| item).collect())
        }
        Order::Values(pattern) => by_score(items, |item, tx| pattern.value(item, tx), plan, tx),
    }
}

fn directed(order: Ordering, plan: &Plan<'_>) -> Ordering {
    if plan.descending { order.reverse() } else { order }
}

/// Sorts by numbers; equal ones by the elements. What leads to nothing counts as 0.
fn by_score<'t>(
    items: Vec<Vec<u8>>,
    mut value: impl FnMut(&[u8], &mut Tx<'t>) -> Option<Vec<u8>>,
    plan: &Plan<'_>,
    tx: &mut Tx<'t>,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut scored: Vec<(f64, Vec<u8>)> = Vec::with_capacity(items.len());
    let mut all_numbers = true;
    for item in items {
        let score = value(&item, tx).map_or(Some(0.0), |text| parse_score(&text));
        all_numbers &= score.is_some();
        scored.push((score.unwrap_or(0.0), item));
    }
    if !all_numbers {
        return Err(Error::new(
            "ERR One or more scores can't be converted into double",
        ));
    }
    scored.sort_by(|a, b| {
        // No score is NaN, which `parse_score` refuses.
        let order = a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal);
        directed(order.then_with(|| a.1.cmp(&b.1)), plan)
    });
    Ok(scored.into_iter().map(|(_, item)| item).collect())
}

/// A number as C's `strtod` reads all of a text: blanks may stand before it, a zero byte ends it, nothing is 0.
fn parse_score(text: &[u8]) -> Option<f64> {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    let text = &text[..end];
    if text.is_empty() {
        return Some(0.0);
    }
    let start = text.iter().position(|byte| !matches!(byte, b' ' | 9..=13))?;
    parse_f64(&text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_as_redis_reads_them() {
        for (text, score) in [
            ("", Some(0.0)),
            (" 5", Some(5.0)),
            ("\t\n-1.5e3", Some(-1500.0)),
            ("7\0x", Some(7.0)),
            ("5 ", None),
            (" ", None),
            ("a", None),
            ("nan", None),
            ("inf", Some(f64::INFINITY)),
            ("0x10", Some(16.0)),
        ] {
            assert_eq!(parse_score(text.as_bytes()), score, "{text:?}");
        }
    }

    #[test]
    fn patterns_lead_to_keys_and_fields() {
        let of = |text: &'static str| {
            let pattern = Pattern::parse(text.as_bytes());
            let field = match &pattern {
                Pattern::Key { field, .. } => field.map(|field| String::from_utf8_lossy(field).into_owned()),
                _ => None,
            };
            let key = pattern.key(b"7").map(|key| String::from_utf8(key).unwrap());
            (key.unwrap_or_default(), field.unwrap_or_default())
        };
        let pair = |key: &str, field: &str| (key.to_owned(), field.to_owned());
        assert_eq!(of("w_*"), pair("w_7", ""));
        assert_eq!(of("a*b*c"), pair("a7b*c", ""));
        assert_eq!(of("h:*->f"), pair("h:7", "f"));
        assert_eq!(of("h*x->f->g"), pair("h7x", "f->g"));
        assert_eq!(of("h*->"), pair("h7->", ""));
        assert_eq!(of("->*"), pair("->7", ""));
        assert_eq!(of("constant"), pair("", ""));
        assert_eq!(of("#"), pair("", ""));
    }

    #[test]
    fn limits_are_cut_to_what_is_there() {
        let range = |offset, count, len| {
            let (offset, count) = (i64::to_string(&offset), i64::to_string(&count));
            let words: [&[u8]; 5] = [b"SORT", b"k", b"LIMIT", offset.as_bytes(), count.as_bytes()];
            Plan::parse(&Args::new(&words), true, || true).unwrap().range(len)
        };
        assert_eq!(range(0, -1, 5), 0..5);
        assert_eq!(range(1, 2, 5), 1..3);
        assert_eq!(range(-3, 2, 5), 0..2);
        assert_eq!(range(3, 100, 5), 3..5);
        assert_eq!(range(i64::MAX, i64::MAX, 5), 5..5);
        assert_eq!(range(0, 0, 5), 0..0);
        assert!(range(0, 10, 0).is_empty());
    }

    #[test]
    fn the_last_destination_is_the_one_that_counts() {
        let places = |request: &str| {
            let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            walk(&Args::new(&words))
                .into_iter()
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        assert_eq!(places("SORT k"), [1]);
        assert_eq!(places("SORT k STORE a store b"), [1, 5]);
        assert_eq!(places("SORT k GET STORE DESC"), [1]);
        assert_eq!(places("SORT k LIMIT STORE STORE STORE d"), [1, 6]);
        assert_eq!(places("SORT k STORE"), [1]);
    }
}
