//! Members with the lowest or highest scores are taken out, at once or as soon as there are any.
//!
//! The effect is the removal of those members.

use crate::command::args::Args;
use crate::command::blocked;
use crate::command::error::Error;
use crate::command::spec::Outcome;
use crate::keyspace::events::Event;
use crate::keyspace::{Absent, Change, Tx, Wait, WrongType};
use crate::object::{Native, SortedSet};
use crate::resp::number::parse_i64;
use crate::resp::{Protocol, Reply};

/// Which members.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

/// How a reply lists what was taken out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Member, score, member, score …
    Flat,
    /// Pairs of member and score.
    Pairs,
    /// The key, then a list of such pairs.
    KeyAndPairs,
    /// The key, one member, its score.
    KeyAndOne,
}

impl Form {
    fn begin(self, key: &[u8], count: usize, reply: &mut Reply) {
        match self {
            Form::Flat => reply.array(count * 2),
            Form::Pairs => reply.array(count),
            Form::KeyAndPairs => {
                reply.array(2);
                reply.bulk(key);
                reply.array(count);
            }
            Form::KeyAndOne => {
                reply.array(3);
                reply.bulk(key);
            }
        }
    }

    fn write(self, member: &[u8], score: f64, reply: &mut Reply) {
        if matches!(self, Form::Pairs | Form::KeyAndPairs) {
            reply.array(2);
        }
        reply.bulk(member);
        reply.double(score);
    }
}

/// What to take out of a set, and how to say so.
#[derive(Clone, Copy)]
struct Pop {
    end: End,
    count: usize,
    form: Form,
}

impl Pop {
    /// Takes members out of the set under a key and replies them; false, and no reply, if there is no such set.
    fn run(&self, key: &[u8], tx: &mut Tx<'_>, reply: &mut Reply) -> Result<bool, WrongType> {
        tx.event(match self.end {
            End::Min => Event::ZPopMin,
            End::Max => Event::ZPopMax,
        });
        let popped = tx.change(key, Absent::Skip, |set: &mut SortedSet, change| {
            let (len, count) = (set.len(), self.count.min(set.len()));
            let ranks = set.ranks_of(match self.end {
                End::Min => 0..count,
                End::Max => len - count..len,
            });
            self.form.begin(key, count, reply);
            let mut removed = Vec::new();
            set.visit(ranks.clone(), self.end == End::Max, |member, score| {
                self.form.write(member, score, reply);
                if change.is_recorded() {
                    removed.push(member.to_vec());
                }
            });
            set.remove_ranks(ranks, |_, _| ());
            if count > 0 {
                note_removed(key, &removed, change);
            }
        })?;
        Ok(popped.is_some())
    }

    /// The same with the first of several keys that has a set.
    fn run_first(&self, keys: &[&[u8]], tx: &mut Tx<'_>, reply: &mut Reply) -> Result<bool, WrongType> {
        for key in keys {
            if self.run(key, tx, reply)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The same, and if there is none, waits for one.
    fn run_or_wait(
        &self,
        keys: &[&[u8]],
        deadline_ms: Option<i64>,
        tx: &mut Tx<'_>,
        reply: &mut Reply,
    ) -> Outcome {
        if self.run_first(keys, tx, reply)? {
            return Ok(());
        }
        let waits = tx.wait(Wait {
            keys: keys.iter().map(|key| key.to_vec()).collect(),
            deadline_ms,
            on_timeout: Reply::null_array,
            words: None,
        });
        if !waits {
            reply.null_array();
        }
        Ok(())
    }
}

/// Members in one effect; what pops more leaves several.
const REMOVED_AT_ONCE: usize = 1024;

fn note_removed(key: &[u8], members: &[Vec<u8>], change: &mut Change<'_>) {
    if members.is_empty() {
        return change.command(&[]);
    }
    for members in members.chunks(REMOVED_AT_ONCE) {
        let mut words: Vec<&[u8]> = vec![b"ZREM", key];
        words.extend(members.iter().map(Vec::as_slice));
        change.command(&words);
    }
}

fn pop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply, end: End) -> Outcome {
    if args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = match args.rest(2) {
        [] => None,
        [text, ..] => Some(
            parse_i64(text)
                .and_then(|count| usize::try_from(count).ok())
                .ok_or_else(|| Error::new("ERR value is out of range, must be positive"))?,
        ),
    };
    let form = match count {
        Some(_) if reply.protocol() == Protocol::Resp3 => Form::Pairs,
        _ => Form::Flat,
    };
    let count = count.unwrap_or(1);
    let pop = Pop { end, count, form };
    if !pop.run(&args[1], tx, reply)? {
        reply.array(0);
    }
    Ok(())
}

pub fn zpopmin(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    pop(args, tx, reply, End::Min)
}

pub fn zpopmax(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    pop(args, tx, reply, End::Max)
}

fn bzpop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply, end: End) -> Outcome {
    let last = args.len() - 1;
    let deadline_ms = blocked::deadline(&args[last], tx)?;
    let form = Form::KeyAndOne;
    let pop = Pop { end, count: 1, form };
    pop.run_or_wait(&args.all()[1..last], deadline_ms, tx, reply)
}

pub fn bzpopmin(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    bzpop(args, tx, reply, End::Min)
}

pub fn bzpopmax(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    bzpop(args, tx, reply, End::Max)
}

/// Reads `numkeys key [key ...] <MIN | MAX> [COUNT count]` from argument `at` on.
fn parse_several<'a>(args: &Args<'a>, at: usize) -> Result<(&'a [&'a [u8]], Pop), Error> {
    let positive = |text: &[u8]| parse_i64(text).filter(|n| *n > 0).map(|n| n as usize);
    let keys = positive(args.get(at)?);
    let keys = keys.ok_or_else(|| Error::new("ERR numkeys should be greater than 0"))?;
    let from = at + 1;
    let to = from.checked_add(keys).filter(|to| *to < args.len());
    let to = to.ok_or(Error::Syntax)?;
    let mut words = args.options(to);
    let end = match () {
        _ if words.take("MIN") => End::Min,
        _ if words.take("MAX") => End::Max,
        _ => return Err(Error::Syntax),
    };
    let mut count = None;
    while !words.is_done() {
        if count.is_some() || words.left() < 2 || !words.take("COUNT") {
            return Err(Error::Syntax);
        }
        let given = positive(words.value()?);
        count = Some(given.ok_or_else(|| Error::new("ERR count should be greater than 0"))?);
    }
    let pop = Pop {
        end,
        count: count.unwrap_or(1),
        form: Form::KeyAndPairs,
    };
    Ok((&args.all()[from..to], pop))
}

pub fn zmpop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (keys, pop) = parse_several(args, 1)?;
    if !pop.run_first(keys, tx, reply)? {
        reply.null_array();
    }
    Ok(())
}

pub fn bzmpop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (keys, pop) = parse_several(args, 2)?;
    let deadline_ms = blocked::deadline(&args[1], tx)?;
    pop.run_or_wait(keys, deadline_ms, tx, reply)
}
