//! ZADD and ZINCRBY: members get scores.
//!
//! The effect is the command as received, which gives the same set whenever it is run on the same one; of an increment
//! it is the score that came of it.

use crate::command::args::{Args, Options};
use crate::command::error::Error;
use crate::command::spec::Outcome;
use crate::keyspace::events::Event;
use crate::keyspace::{Absent, Change, Tx};
use crate::object::{SortedSet, sorted_set::Update};
use crate::resp::Reply;
use crate::resp::number::{format_f64, parse_f64};
use smallvec::SmallVec;

/// What the words before the scores ask for.
#[derive(Clone, Copy, Default)]
struct Rules {
    only_new: bool,
    only_old: bool,
    /// Only to a greater score, or only to a lesser one.
    only_up: bool,
    only_down: bool,
    /// Members that moved count too.
    count_moved: bool,
    increment: bool,
}

impl Rules {
    fn parse(words: &mut Options<'_>, increment: bool) -> Rules {
        let mut rules = Rules {
            increment,
            ..Rules::default()
        };
        loop {
            let rule = match () {
                _ if words.take("NX") => &mut rules.only_new,
                _ if words.take("XX") => &mut rules.only_old,
                _ if words.take("GT") => &mut rules.only_up,
                _ if words.take("LT") => &mut rules.only_down,
                _ if words.take("CH") => &mut rules.count_moved,
                _ if words.take("INCR") => &mut rules.increment,
                _ => return rules,
            };
            *rule = true;
        }
    }

    fn check(&self, pairs: usize) -> Result<(), Error> {
        let refuse = |why: &'static str| Err(Error::new(why));
        if self.only_new && self.only_old {
            return refuse("ERR XX and NX options at the same time are not compatible");
        }
        if u8::from(self.only_new) + u8::from(self.only_up) + u8::from(self.only_down) > 1 {
            return refuse("ERR GT, LT, and/or NX options at the same time are not compatible");
        }
        if self.increment && pairs > 1 {
            return refuse("ERR INCR option supports a single increment-element pair");
        }
        Ok(())
    }

    /// The score that a member is to have; none if it is to stay as it is.
    fn decide(&self, old: Option<f64>, given: f64) -> Result<Option<f64>, NotANumber> {
        let Some(old) = old else {
            return Ok((!self.only_old).then_some(given));
        };
        if self.only_new {
            return Ok(None);
        }
        let score = if self.increment { old + given } else { given };
        if score.is_nan() {
            return Err(NotANumber);
        }
        let refused = (self.only_up && score <= old) || (self.only_down && score >= old);
        Ok((!refused).then_some(score))
    }
}

/// Infinity and its opposite have no sum.
struct NotANumber;

impl From<NotANumber> for Error {
    fn from(_: NotANumber) -> Error {
        Error::new("ERR resulting score is not a number (NaN)")
    }
}

/// The members that these arguments name, and the scores between them.
pub(super) fn members<'a>(words: &'a [&'a [u8]]) -> &'a [&'a [u8]] {
    let args = Args::new(words);
    let mut left = args.options(2);
    Rules::parse(&mut left, false);
    words.get(args.len() - left.left() + 1..).unwrap_or_default()
}

/// What became of all members.
#[derive(Default)]
struct Tally {
    added: usize,
    moved: usize,
    /// The score of the last member, if the rules let it have one.
    score: Option<f64>,
}

pub fn zadd(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    add(args, false, tx, reply)
}

pub fn zincrby(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    add(args, true, tx, reply)
}

fn add(args: &Args<'_>, increment: bool, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let mut words = args.options(2);
    let rules = Rules::parse(&mut words, increment);
    let pairs = args.rest(args.len() - words.left());
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    rules.check(pairs.len() / 2)?;
    let scores = pairs.iter().step_by(2).map(|text| parse_f64(text));
    let scores: Option<SmallVec<[f64; 8]>> = scores.collect();
    let scores = scores.ok_or(Error::NotFloat)?;
    let members = pairs.iter().skip(1).step_by(2).copied();
    let absent = if rules.only_old {
        Absent::Skip
    } else {
        Absent::Create
    };
    let (key, limits) = (&args[1], tx.limits());
    if rules.increment {
        tx.event(Event::ZIncr);
    }
    let tally = tx.change(key, absent, |set: &mut SortedSet, change| {
        let mut tally = Tally::default();
        for (member, given) in members.zip(scores) {
            let mut decided = Ok(None);
            let update = set.update(member, &limits, |old| {
                decided = rules.decide(old, given);
                decided.as_ref().ok().copied().flatten()
            });
            tally.score = decided?;
            tally.added += usize::from(update == Update::Added);
            tally.moved += usize::from(update == Update::Moved);
        }
        if tally.added + tally.moved > 0 {
            note(key, pairs[1], &tally, &rules, change);
        }
        Ok::<Tally, NotANumber>(tally)
    })?;
    let tally = tally.transpose()?.unwrap_or_default();
    match tally.score {
        _ if !rules.increment => {
            let moved = if rules.count_moved { tally.moved } else { 0 };
            reply.int((tally.added + moved) as i64);
        }
        Some(score) => reply.double(score),
        None => reply.null(),
    }
    Ok(())
}

fn note(key: &[u8], member: &[u8], tally: &Tally, rules: &Rules, change: &mut Change<'_>) {
    match tally.score {
        Some(score) if rules.increment => {
            change.command(&[b"ZADD", key, format_f64(score, &mut [0; 32]), member]);
        }
        _ => change.as_received(),
    }
}
