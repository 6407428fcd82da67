//! Taking elements off lists and moving them, for clients that wait for them too.
//!
//! A client that finds nothing is served later by the very command, run again (see `command::blocked`).

use super::{positive, write_item};
use crate::command::args::Args;
use crate::command::blocked;
use crate::command::error::Error;
use crate::command::spec::Outcome;
use crate::keyspace::events::Event;
use crate::keyspace::{Absent, Tx, Wait};
use crate::object::list::Side;
use crate::object::{List, Native};
use crate::resp::Reply;

/// LEFT or RIGHT.
fn side(args: &Args<'_>, at: usize) -> Result<Side, Error> {
    match () {
        _ if args.is(at, "LEFT") => Ok(Side::Front),
        _ if args.is(at, "RIGHT") => Ok(Side::Back),
        _ => Err(Error::Syntax),
    }
}

fn side_name(side: Side) -> &'static [u8] {
    match side {
        Side::Front => b"LEFT",
        Side::Back => b"RIGHT",
    }
}

fn pop_name(side: Side) -> &'static [u8] {
    match side {
        Side::Front => b"LPOP",
        Side::Back => b"RPOP",
    }
}

/// What a pop is called.
fn pop_event(side: Side) -> Event {
    match side {
        Side::Front => Event::LPop,
        Side::Back => Event::RPop,
    }
}

fn push_event(side: Side) -> Event {
    match side {
        Side::Front => Event::LPush,
        Side::Back => Event::RPush,
    }
}

fn push_name(side: Side) -> &'static [u8] {
    match side {
        Side::Front => b"LPUSH",
        Side::Back => b"RPUSH",
    }
}

/// How the reply of a pop looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Bare,
    /// In an array, behind its key.
    Named,
}

impl Form {
    fn begin(self, key: &[u8], reply: &mut Reply) {
        if self == Form::Named {
            reply.array(2);
            reply.bulk(key);
        }
    }
}

/// Takes one element off a list and writes it; false when there is no such list.
#[inline]
fn pop(key: &[u8], side: Side, tx: &mut Tx<'_>, reply: &mut Reply, form: Form) -> Result<bool, Error> {
    let limits = tx.limits();
    tx.event(pop_event(side));
    let taken = tx.change::<List, _>(key, Absent::Skip, |list, change| {
        if let Some(item) = list.peek(side) {
            form.begin(key, reply);
            write_item(item, reply);
            list.shorten(side, 1, &limits);
            change.command(&[pop_name(side), key]);
        }
    })?;
    Ok(taken.is_some())
}

/// Takes up to `count` elements off a list and writes them as an array; false when there is no such list.
fn pop_many(
    key: &[u8],
    side: Side,
    count: usize,
    tx: &mut Tx<'_>,
    reply: &mut Reply,
    form: Form,
) -> Result<bool, Error> {
    let limits = tx.limits();
    tx.event(pop_event(side));
    let taken = tx.change::<List, _>(key, Absent::Skip, |list, change| {
        let count = count.min(list.len());
        form.begin(key, reply);
        reply.array(count);
        list.walk(side, 0)
            .take(count)
            .for_each(|item| write_item(item, reply));
        if count > 0 {
            list.shorten(side, count, &limits);
            let mut digits = itoa::Buffer::new();
            change.command(&[pop_name(side), key, digits.format(count).as_bytes()]);
        }
    })?;
    Ok(taken.is_some())
}

fn pop_command(args: &Args<'_>, side: Side, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    match args.len() {
        2 => {
            if !pop(&args[1], side, tx, reply, Form::Bare)? {
                reply.null();
            }
        }
        3 => {
            let count = positive(&args[2], "ERR value is out of range, must be positive")?;
            if !pop_many(&args[1], side, count, tx, reply, Form::Bare)? {
                reply.null_array();
            }
        }
        _ => {
            return Err(Error::Arity(
                args[0].to_ascii_lowercase().escape_ascii().to_string(),
            ));
        }
    }
    Ok(())
}

pub fn lpop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    pop_command(args, Side::Front, tx, reply)
}

pub fn rpop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    pop_command(args, Side::Back, tx, reply)
}

/// What LMPOP asks for.
#[derive(PartialEq, Eq, Debug)]
struct Pops<'a> {
    keys: &'a [&'a [u8]],
    side: Side,
    count: usize,
}

impl<'a> Pops<'a> {
    /// `numkeys key [key ...] LEFT | RIGHT [COUNT count]`, from argument `from` on.
    fn parse(args: &Args<'a>, from: usize) -> Result<Pops<'a>, Error> {
        let one_or_more = |text, error| {
            positive(text, error).and_then(|number| match number {
                0 => Err(Error::new(error)),
                number => Ok(number),
            })
        };
        let keys = one_or_more(args.get(from)?, "ERR numkeys should be greater than 0")?;
        let first = from + 1;
        let after = keys.checked_add(first).filter(|after| *after < args.len());
        let after = after.ok_or(Error::Syntax)?;
        let side = side(args, after)?;
        let mut words = args.options(after + 1);
        let mut count = 1;
        if words.take("COUNT") {
            count = one_or_more(words.value()?, "ERR count should be greater than 0")?;
        }
        words.finish()?;
        let keys = &args.all()[first..after];
        Ok(Pops { keys, side, count })
    }

    /// Takes from the first of the keys that is a list; false when there is none.
    fn run(&self, tx: &mut Tx<'_>, reply: &mut Reply) -> Result<bool, Error> {
        for key in self.keys {
            if pop_many(key, self.side, self.count, tx, reply, Form::Named)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

pub fn lmpop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    if !Pops::parse(args, 1)?.run(tx, reply)? {
        reply.null_array();
    }
    Ok(())
}

/// What LMOVE asks for: from which end of which list to which of which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Move<'a> {
    source: &'a [u8],
    from: Side,
    destination: &'a [u8],
    to: Side,
}

impl Move<'_> {
    /// Moves an element and writes it; false when the source is absent.
    fn run(&self, tx: &mut Tx<'_>, reply: &mut Reply) -> Result<bool, Error> {
        let moved = if self.source == self.destination {
            self.turn(tx)?
        } else {
            self.carry(tx)?
        };
        if let Some(element) = &moved {
            reply.bulk(element);
        }
        Ok(moved.is_some())
    }

    /// Within one list. One effect, because what takes the only element off would take the key and its expiry with it.
    fn turn(&self, tx: &mut Tx<'_>) -> Result<Option<Vec<u8>>, Error> {
        let limits = tx.limits();
        let (key, from, to) = (self.source, self.from, self.to);
        tx.event(push_event(to));
        let moved = tx.change::<List, _>(key, Absent::Skip, |list, change| {
            let element = list.peek(from)?.to_vec();
            // To where it was is a change all the same: who watches the list is told.
            if from != to {
                list.push(to, &[&element], &limits);
                list.shorten(from, 1, &limits);
            }
            change.command(&[b"LMOVE", key, key, side_name(from), side_name(to)]);
            change.also(pop_event(from));
            Some(element)
        })?;
        Ok(moved.flatten())
    }

    fn carry(&self, tx: &mut Tx<'_>) -> Result<Option<Vec<u8>>, Error> {
        if tx.peek_as::<List>(self.source)?.is_none() {
            return Ok(None);
        }
        tx.peek_as::<List>(self.destination)?;
        let limits = tx.limits();
        let before = tx.events();
        tx.event(pop_event(self.from));
        let taken = tx.change::<List, _>(self.source, Absent::Skip, |list, change| {
            let element = list.peek(self.from)?.to_vec();
            list.shorten(self.from, 1, &limits);
            change.command(&[pop_name(self.from), self.source]);
            Some(element)
        })?;
        let Some(element) = taken.flatten() else {
            return Ok(None);
        };
        let taken_at = tx.events();
        tx.event(push_event(self.to));
        tx.change::<List, _>(self.destination, Absent::Create, |list, change| {
            list.push(self.to, &[&element], &limits);
            change.command(&[push_name(self.to), self.destination, &element]);
        })?;
        tx.told_first(taken_at, before);
        Ok(Some(element))
    }
}

/// The moves of LMOVE and BLMOVE: `source destination LEFT | RIGHT LEFT | RIGHT` from argument 1 on.
fn parse_move<'a>(args: &'a Args<'_>) -> Result<Move<'a>, Error> {
    Ok(Move {
        source: &args[1],
        from: side(args, 3)?,
        destination: &args[2],
        to: side(args, 4)?,
    })
}

/// The move of RPOPLPUSH and BRPOPLPUSH.
fn last_to_first<'a>(args: &'a Args<'_>) -> Move<'a> {
    Move {
        source: &args[1],
        from: Side::Back,
        destination: &args[2],
        to: Side::Front,
    }
}

fn move_or_null(wanted: Move<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    if !wanted.run(tx, reply)? {
        reply.null();
    }
    Ok(())
}

pub fn lmove(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    move_or_null(parse_move(args)?, tx, reply)
}

pub fn rpoplpush(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    move_or_null(last_to_first(args), tx, reply)
}

/// Waits for one of these keys; false when the command may not, and has to reply as if nothing had come.
fn wait(keys: &[&[u8]], deadline_ms: Option<i64>, tx: &mut Tx<'_>) -> bool {
    tx.wait(Wait {
        keys: keys.iter().map(|key| key.to_vec()).collect(),
        deadline_ms,
        on_timeout: Reply::null_array,
        words: None,
    })
}

fn move_or_wait(wanted: Move<'_>, deadline_ms: Option<i64>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    if !wanted.run(tx, reply)? && !wait(&[wanted.source], deadline_ms, tx) {
        reply.null();
    }
    Ok(())
}

pub fn blmove(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let wanted = parse_move(args)?;
    let deadline_ms = blocked::deadline(&args[5], tx)?;
    move_or_wait(wanted, deadline_ms, tx, reply)
}

pub fn brpoplpush(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let deadline_ms = blocked::deadline(&args[3], tx)?;
    move_or_wait(last_to_first(args), deadline_ms, tx, reply)
}

/// BLPOP and BRPOP: `key [key ...] timeout`.
fn pop_or_wait(args: &Args<'_>, side: Side, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let last = args.len() - 1;
    let deadline_ms = blocked::deadline(&args[last], tx)?;
    let keys = &args.all()[1..last];
    for key in keys {
        if pop(key, side, tx, reply, Form::Named)? {
            return Ok(());
        }
    }
    if !wait(keys, deadline_ms, tx) {
        reply.null_array();
    }
    Ok(())
}

pub fn blpop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    pop_or_wait(args, Side::Front, tx, reply)
}

pub fn brpop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    pop_or_wait(args, Side::Back, tx, reply)
}

pub fn blmpop(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let pops = Pops::parse(args, 2)?;
    let deadline_ms = blocked::deadline(&args[1], tx)?;
    if !pops.run(tx, reply)? && !wait(pops.keys, deadline_ms, tx) {
        reply.null_array();
    }
    Ok(())
}
