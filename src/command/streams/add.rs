//! Adding and removing entries: XADD, XTRIM, XDEL, XSETID.

use super::{invalid_id, parse_id, parse_id_arg, write_id};
use crate::command::args::{Args, Options};
use crate::command::error::Error;
use crate::command::spec::{Handler, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::events::Event;
use crate::keyspace::{Absent, Change, Tx};
use crate::object::stream::{ENTRY_BYTES_MAX, IdText, Keep, Log, StreamId, Trim};
use crate::object::{Limits, Stream};
use crate::resp::Reply;
use smallvec::SmallVec;

pub static COMMANDS: &[Spec] = &[
    Spec::new("xadd", -5, WRITE | DENYOOM | FAST, acl::STREAM, Handler::Data(xadd))
        .keys(&[key(1, "RW UPDATE").notes("An update, not an insert: the command may trim, too.")])
        .group("stream", "5.0.0")
        .doc(
            "key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...]",
            "O(1), and O(N) for N entries that trimming removes",
            "Appends an entry to a stream.",
        )
        .tips(&["nondeterministic_output"]),
    Spec::new("xtrim", -4, WRITE, acl::STREAM, Handler::Data(xtrim))
        .keys(&[key(1, "RW DELETE")])
        .group("stream", "5.0.0")
        .doc(
            "key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]",
            "O(N) for N entries that are removed",
            "Removes the oldest entries of a stream.",
        )
        .tips(&["nondeterministic_output"]),
    Spec::new("xdel", -3, WRITE | FAST, acl::STREAM, Handler::Data(xdel))
        .keys(&[key(1, "RW DELETE")])
        .group("stream", "5.0.0")
        .doc(
            "key id [id ...]",
            "O(log(M)) for each id, of M nodes",
            "Deletes entries, and counts those that were there.",
        ),
    Spec::new(
        "xsetid",
        -3,
        WRITE | DENYOOM | FAST,
        acl::STREAM,
        Handler::Data(xsetid),
    )
    .keys(&[key(1, "RW UPDATE")])
    .group("stream", "5.0.0")
    .doc(
        "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
        "O(1)",
        "Sets the last id of a stream, for servers that copy it.",
    ),
];

/// Nodes that an approximate trim looks at when no limit is given, and the bounds of that in entries.
const NODES_TRIMMED_MAX: usize = 100;
const TRIMMED_DEFAULT: usize = 10_000;
const TRIMMED_MAX: usize = 1_000_000;

/// The options in front of an entry's id, and those of XTRIM.
#[derive(Default)]
pub(super) struct TrimOptions {
    pub(super) keep: Option<Keep>,
    approximate: bool,
    limit: Option<u64>,
    no_make: bool,
}

impl TrimOptions {
    /// Takes the option that comes next, if it is one.
    pub(super) fn take(&mut self, words: &mut Options<'_>) -> Result<bool, Error> {
        if words.left() < 2 {
            return Ok(false);
        }
        let by_len = words.take("MAXLEN");
        if by_len || words.take("MINID") {
            if self.keep.is_some() {
                return Err(Error::new(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            self.approximate = words.left() >= 2 && words.take("~");
            let _ = self.approximate || words.left() >= 2 && words.take("=");
            self.keep = Some(if by_len {
                Keep::Newest(not_negative(words.int()?, "MAXLEN")?)
            } else {
                Keep::From(parse_id(words.value()?, 0)?)
            });
            return Ok(true);
        }
        if words.take("LIMIT") {
            self.limit = Some(not_negative(words.int()?, "LIMIT")?);
            return Ok(true);
        }
        Ok(false)
    }

    fn trim(&self, limits: &Limits) -> Result<Option<Trim>, Error> {
        let error = |text: &'static str| Err(Error::new(text));
        let limit = match self.limit {
            Some(1..) if self.keep.is_none() => {
                return error(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                );
            }
            Some(_) if !self.approximate => {
                return error("ERR syntax error, LIMIT cannot be used without the special ~ option");
            }
            Some(limit) => limit,
            None if !self.approximate => 0,
            None => match limits.stream_node_max_entries.saturating_mul(NODES_TRIMMED_MAX) {
                0 => TRIMMED_DEFAULT as u64,
                limit => limit.min(TRIMMED_MAX) as u64,
            },
        };
        Ok(self.keep.map(|keep| Trim {
            keep,
            approximate: self.approximate,
            limit,
        }))
    }
}

fn not_negative(value: i64, option: &str) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::new(format!("ERR The {option} argument must be >= 0.")))
}

/// The id that an entry is to have.
#[derive(Clone, Copy)]
enum NewId {
    /// The time, or the id behind the last one.
    Any,
    /// Of this time, with a number that is new.
    AnyOf(u64),
    Given(StreamId),
}

impl NewId {
    fn parse(text: &[u8]) -> Result<NewId, Error> {
        if text == b"*" {
            return Ok(NewId::Any);
        }
        let arg = parse_id_arg(text, 0).ok_or_else(invalid_id)?;
        Ok(if arg.any_seq {
            NewId::AnyOf(arg.id.ms)
        } else {
            NewId::Given(arg.id)
        })
    }

    /// The id for a stream whose last one is `last`; none if it would not be greater than that.
    fn after(self, last: StreamId, now_ms: i64) -> Option<StreamId> {
        let id = match self {
            NewId::Any if now_ms as u64 > last.ms => StreamId::new(now_ms as u64, 0),
            NewId::Any => last.next()?,
            NewId::AnyOf(ms) if ms == last.ms => StreamId::new(ms, last.seq.checked_add(1)?),
            NewId::AnyOf(ms) => StreamId::new(ms, 0),
            NewId::Given(id) => id,
        };
        (id > last).then_some(id)
    }
}

/// An XADD, read whole.
struct Add<'a> {
    options: TrimOptions,
    id: NewId,
    /// Fields and values in turns.
    pairs: &'a [&'a [u8]],
}

impl<'a> Add<'a> {
    fn parse(args: &Args<'a>) -> Result<(Add<'a>, Option<IdError>), Error> {
        let mut options = TrimOptions::default();
        let mut words = args.options(2);
        let id = loop {
            if words.take("*") {
                break NewId::Any;
            }
            if options.take(&mut words)? {
                continue;
            }
            if words.take("NOMKSTREAM") {
                options.no_make = true;
                continue;
            }
            match words.next_word() {
                Some(word) => break NewId::parse(word)?,
                // Options only: neither id nor fields are there.
                None => break NewId::Any,
            }
        };
        let pairs = args.rest(args.len() - words.left());
        let zero = matches!(id, NewId::Given(id) if id.is_zero());
        let error = match pairs.len() {
            0 | 1 => Some(IdError::Arity),
            len if len % 2 == 1 => Some(IdError::Arity),
            _ if zero => Some(IdError::Zero),
            _ => None,
        };
        Ok((Add { options, id, pairs }, error))
    }
}

/// What is found wrong after the options have been.
enum IdError {
    Arity,
    Zero,
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Error {
        match error {
            IdError::Arity => Error::Arity("xadd".into()),
            IdError::Zero => Error::new("ERR The ID specified in XADD must be greater than 0-0"),
        }
    }
}

fn xadd(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let (add, error) = Add::parse(args)?;
    let limits = tx.limits();
    let trim = add.options.trim(&limits)?;
    if let Some(error) = error {
        return Err(error.into());
    }
    let key = &args[1];
    let absent = if add.options.no_make {
        Absent::Skip
    } else {
        Absent::Create
    };
    let now_ms = tx.now_ms();
    let added = tx.change::<Stream, _>(key, absent, |stream, change| {
        let log = stream.log_mut();
        let id = next_id(log, &add, now_ms)?;
        log.append(id, add.pairs, &limits);
        let trimmed = trim.map_or(0, |trim| log.trim(trim));
        if trimmed > 0 {
            change.also(Event::XTrim);
        }
        match add.id {
            NewId::Given(_) if !add.options.approximate => change.as_received(),
            _ => record_add(change, key, id, (trimmed > 0).then(|| log.len()), add.pairs),
        }
        Ok::<StreamId, Error>(id)
    })?;
    match added {
        Some(id) => write_id(id?, reply),
        None => reply.null(),
    }
    Ok(())
}

fn next_id(log: &Log, add: &Add<'_>, now_ms: i64) -> Result<StreamId, Error> {
    if log.last_id == StreamId::MAX {
        return Err(Error::new(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let id = add.id.after(log.last_id, now_ms).ok_or_else(|| {
        Error::new("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    })?;
    if add.pairs.iter().map(|text| text.len()).sum::<usize>() > ENTRY_BYTES_MAX {
        return Err(Error::new("ERR Elements are too large to be stored"));
    }
    Ok(id)
}

/// Effect: `XADD` with the id that the entry got, trimmed to the length that was left.
fn record_add(change: &mut Change<'_>, key: &[u8], id: StreamId, trimmed_to: Option<u64>, pairs: &[&[u8]]) {
    if !change.is_recorded() {
        return change.command(&[]);
    }
    let mut text: IdText = [0; size_of::<IdText>()];
    let mut digits = itoa::Buffer::new();
    let mut words: SmallVec<[&[u8]; 16]> = SmallVec::from_slice(&[b"XADD", key]);
    if let Some(len) = trimmed_to {
        words.extend_from_slice(&[b"MAXLEN", b"=", digits.format(len).as_bytes()]);
    }
    words.push(id.format(&mut text));
    words.extend_from_slice(pairs);
    change.command(&words);
}

fn xtrim(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let mut options = TrimOptions::default();
    let mut words = args.options(2);
    while !words.is_done() {
        if !options.take(&mut words)? {
            return Err(Error::Syntax);
        }
    }
    let no_strategy = || Error::new("ERR syntax error, XTRIM must be called with a trimming strategy");
    if options.keep.is_none() && options.limit.unwrap_or(0) == 0 {
        return Err(no_strategy());
    }
    let trim = options.trim(&tx.limits())?.ok_or_else(no_strategy)?;
    let trimmed = tx.change::<Stream, _>(&args[1], Absent::Skip, |stream, change| {
        let log = stream.log_mut();
        let trimmed = log.trim(trim);
        if trimmed > 0 {
            let mut digits = itoa::Buffer::new();
            let len = digits.format(log.len()).as_bytes();
            change.command(&[b"XTRIM", &args[1], b"MAXLEN", b"=", len]);
        }
        trimmed
    })?;
    reply.int(trimmed.unwrap_or(0) as i64);
    Ok(())
}

fn xdel(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let deleted = tx.change::<Stream, _>(&args[1], Absent::Skip, |stream, change| {
        let ids = args.rest(2).iter().map(|id| parse_id(id, 0));
        let ids: SmallVec<[StreamId; 8]> = ids.collect::<Result<_, _>>()?;
        let log = stream.log_mut();
        let deleted = ids.into_iter().filter(|id| log.delete(*id)).count();
        if deleted > 0 {
            change.as_received();
        }
        Ok::<usize, Error>(deleted)
    })?;
    reply.int(deleted.transpose()?.unwrap_or(0) as i64);
    Ok(())
}

/// What XSETID sets.
struct SetId {
    last: StreamId,
    entries_added: Option<u64>,
    max_deleted: StreamId,
}

impl SetId {
    fn parse(args: &Args<'_>) -> Result<SetId, Error> {
        let mut set = SetId {
            last: parse_id(&args[2], 0)?,
            entries_added: None,
            max_deleted: StreamId::ZERO,
        };
        let mut words = args.options(3);
        while !words.is_done() {
            if words.left() < 2 {
                return Err(Error::Syntax);
            }
            if words.take("ENTRIESADDED") {
                let added = u64::try_from(words.int()?);
                set.entries_added =
                    Some(added.map_err(|_| Error::new("ERR entries_added must be positive"))?);
            } else if words.take("MAXDELETEDID") {
                set.max_deleted = parse_id(words.value()?, 0)?;
                if set.last < set.max_deleted {
                    return Err(Error::new(
                        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                    ));
                }
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(set)
    }

    /// What the stream itself has against it.
    fn check(&self, log: &Log) -> Result<(), Error> {
        if self.last < log.max_deleted_id {
            return Err(Error::new(
                "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
            ));
        }
        if log.is_empty() {
            return Ok(());
        }
        let newest = log.range_back(StreamId::ZERO, StreamId::MAX).next();
        if newest.is_some_and(|entry| self.last < entry.id) {
            return Err(Error::new(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if self.entries_added.is_some_and(|added| added < log.len()) {
            return Err(Error::new(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
        Ok(())
    }
}

fn xsetid(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let set = SetId::parse(args)?;
    let done = tx.change::<Stream, _>(&args[1], Absent::Skip, |stream, change| {
        let log = stream.log_mut();
        set.check(log)?;
        log.last_id = set.last;
        log.entries_added = set.entries_added.unwrap_or(log.entries_added);
        if !set.max_deleted.is_zero() {
            log.max_deleted_id = set.max_deleted;
        }
        change.as_received();
        Ok::<(), Error>(())
    })?;
    done.ok_or(Error::NoSuchKey)??;
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_greater_than_the_last() {
        let id = StreamId::new;
        assert_eq!(NewId::Any.after(id(5, 1), 9), Some(id(9, 0)));
        assert_eq!(NewId::Any.after(id(9, 1), 9), Some(id(9, 2)));
        assert_eq!(NewId::Any.after(id(10, u64::MAX), 9), Some(id(11, 0)));
        assert_eq!(NewId::AnyOf(5).after(id(5, 1), 9), Some(id(5, 2)));
        assert_eq!(NewId::AnyOf(5).after(id(5, u64::MAX), 9), None);
        assert_eq!(NewId::AnyOf(4).after(id(5, 1), 9), None);
        assert_eq!(NewId::AnyOf(0).after(id(0, 0), 9), Some(id(0, 1)));
        assert_eq!(NewId::Given(id(5, 1)).after(id(5, 1), 9), None);
    }
}
