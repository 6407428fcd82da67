//! Reading what is new: XREAD, and XREADGROUP for a consumer of a group.
//!
//! Both look at their streams in order and return what they find in any of them; if there is nothing, they may wait
//! and are run again then. XREADGROUP changes the group: it is written with the effects of single keys, XCLAIM for what
//! is pending from now on and XGROUP SETID for how far the group has read.

use super::claim::Claimed;
use super::groups::{consumer_of, record_group};
use super::{limit, no_group, parse_id, write_entries, write_entry, write_id};
use crate::command::args::Args;
use crate::command::blocked;
use crate::command::error::Error;
use crate::command::spec::{Found, Handler, Outcome, Spec, acl, flag::*, keyword};
use crate::keyspace::{Absent, Change, Tx, Wait};
use crate::object::Stream;
use crate::object::stream::{ConsumerNumber, Entry, GroupMut, Log, Pending, StreamId};
use crate::resp::{Deferred, Protocol, Reply};
use smallvec::SmallVec;

pub static COMMANDS: &[Spec] = &[
    Spec::new(
        "xread",
        -4,
        READONLY | BLOCKING | MOVABLEKEYS,
        acl::STREAM,
        Handler::Data(xread),
    )
    .keys(&[keyword("STREAMS", 1, -1, 2, "RO ACCESS")])
    .walk(find_streams)
    .group("stream", "5.0.0")
    .doc(
        "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
        "O(N) for N entries returned",
        "Returns the entries of streams behind the given ids, or waits for some.",
    ),
    Spec::new(
        "xreadgroup",
        -7,
        WRITE | BLOCKING | MOVABLEKEYS,
        acl::STREAM,
        Handler::Data(xreadgroup),
    )
    .keys(&[keyword("STREAMS", 4, -1, 2, "RO ACCESS")])
    .walk(find_streams)
    .group("stream", "5.0.0")
    .doc(
        "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]",
        "O(N) for N entries returned",
        "Returns entries that no consumer of a group was given before, or waits for some; or those pending for a consumer.",
    ),
];

/// Where the word STREAMS stands. Words that are values of options are passed over, whatever they are.
pub(super) fn streams_at(args: &Args<'_>) -> Option<usize> {
    let mut at = 1;
    while at < args.len() {
        match () {
            _ if args.is(at, "STREAMS") => return Some(at),
            _ if args.is(at, "GROUP") => at += 3,
            _ if args.is(at, "BLOCK") || args.is(at, "COUNT") => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// The keys: the first half of what stands behind STREAMS.
fn find_streams(args: &Args<'_>) -> Found {
    let from = streams_at(args).map_or(args.len(), |at| at + 1);
    let count = args.len().saturating_sub(from) / 2;
    (from..from + count).map(|at| (at, 0)).collect()
}

/// What of a stream a consumer reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// What is pending for it, behind this id.
    After(StreamId),
    /// `>`: what no consumer of the group was given.
    New,
}

/// The options of both commands.
struct ReadOptions<'a> {
    /// 0 for all.
    count: i64,
    /// With BLOCK: until when, or none for ever.
    wait: Option<Option<i64>>,
    group: Option<(&'a [u8], &'a [u8])>,
    no_ack: bool,
    keys: &'a [&'a [u8]],
    ids: &'a [&'a [u8]],
}

impl<'a> ReadOptions<'a> {
    fn parse(args: &Args<'a>, for_group: bool, tx: &Tx<'_>) -> Result<ReadOptions<'a>, Error> {
        let mut options = ReadOptions {
            count: 0,
            wait: None,
            group: None,
            no_ack: false,
            keys: &[],
            ids: &[],
        };
        let mut words = args.options(1);
        while !words.is_done() {
            let more = words.left() - 1;
            if more > 0 && words.take("BLOCK") {
                let ms = words
                    .int()
                    .map_err(|_| Error::new("ERR timeout is not an integer or out of range"))?;
                options.wait = Some(blocked::deadline_ms(ms, tx)?);
            } else if more > 0 && words.take("COUNT") {
                options.count = words.int()?.max(0);
            } else if more > 0 && words.take("STREAMS") {
                let streams = args.rest(args.len() - words.left());
                if streams.len() % 2 == 1 {
                    return Err(Error::new(
                        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                    ));
                }
                (options.keys, options.ids) = streams.split_at(streams.len() / 2);
                break;
            } else if more > 1 && words.take("GROUP") {
                only_of_groups(for_group, "GROUP")?;
                options.group = Some((words.value()?, words.value()?));
            } else if words.take("NOACK") {
                only_of_groups(for_group, "NOACK")?;
                options.no_ack = true;
            } else {
                return Err(Error::Syntax);
            }
        }
        if options.keys.is_empty() {
            return Err(Error::Syntax);
        }
        if for_group && options.group.is_none() {
            return Err(Error::new("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(options)
    }
}

fn only_of_groups(for_group: bool, option: &str) -> Result<(), Error> {
    if for_group {
        return Ok(());
    }
    Err(Error::new(format!(
        "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
    )))
}

/// The streams in which something is found, as they are written into the reply.
struct Answer<'r> {
    reply: &'r mut Reply,
    /// Of a reply that may have several streams: its length is told in the end.
    array: Option<Deferred>,
    several: bool,
    count: usize,
}

impl<'r> Answer<'r> {
    fn new(reply: &'r mut Reply, keys: usize) -> Answer<'r> {
        Answer {
            reply,
            array: None,
            several: keys > 1,
            count: 0,
        }
    }

    /// Begins a stream: its entries follow.
    fn begin(&mut self, key: &[u8]) -> &mut Reply {
        let as_map = self.reply.protocol() == Protocol::Resp3;
        if self.count == 0 {
            match (self.several, as_map) {
                (true, true) => self.array = Some(self.reply.defer_map()),
                (true, false) => self.array = Some(self.reply.defer_array()),
                (false, true) => self.reply.map(1),
                (false, false) => self.reply.array(1),
            }
        }
        self.count += 1;
        if !as_map {
            self.reply.array(2);
        }
        self.reply.bulk(key);
        self.reply
    }

    /// Ends the reply; false when nothing was found.
    fn end(self) -> bool {
        if let Some(array) = self.array {
            self.reply.set_deferred(array, self.count);
        }
        self.count > 0
    }
}

/// Nothing was found: waits, if that is asked for and possible.
fn wait_or_nothing(
    options: &ReadOptions<'_>,
    words: impl FnOnce() -> Option<Vec<Vec<u8>>>,
    tx: &mut Tx<'_>,
    reply: &mut Reply,
) {
    if let Some(deadline_ms) = options.wait {
        let wait = Wait {
            keys: options.keys.iter().map(|key| key.to_vec()).collect(),
            deadline_ms,
            on_timeout: Reply::null_array,
            words: words(),
        };
        if tx.wait(wait) {
            return;
        }
    }
    reply.null_array();
}

fn xread(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let options = ReadOptions::parse(args, false, tx)?;
    let mut after: SmallVec<[StreamId; 4]> = SmallVec::new();
    for (key, id) in options.keys.iter().zip(options.ids) {
        let stream = tx.peek_as::<Stream>(key)?;
        after.push(match *id {
            b"$" => stream.map_or(StreamId::ZERO, |stream| stream.log().last_id),
            b">" => {
                return Err(Error::new(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            id => parse_id(id, 0)?,
        });
    }
    let mut answer = Answer::new(reply, options.keys.len());
    for (key, after) in options.keys.iter().zip(&after) {
        let Some(stream) = tx.read::<Stream>(key)? else {
            continue;
        };
        let mut entries = new_entries(stream.log(), *after).peekable();
        if entries.peek().is_some() {
            write_entries(entries.take(limit(options.count)), answer.begin(key));
        }
    }
    if !answer.end() {
        // When it is run again, `$` must still mean the end as it is now.
        let words = || {
            let mut words: Vec<Vec<u8>> = args.all().iter().map(|word| word.to_vec()).collect();
            let first = words.len() - after.len();
            for (word, id) in words[first..].iter_mut().zip(&after) {
                *word = id.to_string().into_bytes();
            }
            Some(words)
        };
        wait_or_nothing(&options, words, tx, reply);
    }
    Ok(())
}

/// Entries behind an id.
fn new_entries(log: &Log, after: StreamId) -> impl Iterator<Item = Entry<'_>> {
    // Nothing is looked for where nothing can be.
    let from = after.next().filter(|_| after < log.last_id);
    let entries = from.map(|from| log.range(from, StreamId::MAX));
    entries.into_iter().flatten()
}

/// A group and one of its consumers, for whom a stream is read.
struct Reading<'a> {
    key: &'a [u8],
    group: &'a [u8],
    consumer: &'a [u8],
    count: usize,
    no_ack: bool,
    now_ms: i64,
}

fn xreadgroup(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let options = ReadOptions::parse(args, true, tx)?;
    let (group, consumer) = options.group.ok_or(Error::Syntax)?;
    let mut sources: SmallVec<[Source; 4]> = SmallVec::new();
    for (key, id) in options.keys.iter().zip(options.ids) {
        sources.push(source(key, group, id, tx)?);
    }
    let now_ms = tx.now_ms();
    let mut answer = Answer::new(reply, options.keys.len());
    for (key, source) in options.keys.iter().zip(&sources) {
        let reading = Reading {
            key,
            group,
            consumer,
            count: limit(options.count),
            no_ack: options.no_ack,
            now_ms,
        };
        tx.change::<Stream, _>(key, Absent::Skip, |stream, change| {
            let (log, groups) = stream.parts_mut();
            let Some(mut group) = groups.get_mut(reading.group) else {
                return;
            };
            let number = consumer_of([key, reading.group, consumer], &mut group, now_ms, change);
            match source {
                Source::New => reading.deliver(log, &mut group, number, change, &mut answer),
                Source::After(id) => {
                    let from = id.next().unwrap_or(StreamId::MAX);
                    reading.show_pending(log, &mut group, (number, from), change, answer.begin(key));
                }
            }
        })?;
    }
    if !answer.end() {
        wait_or_nothing(&options, || None, tx, reply);
    }
    Ok(())
}

/// What is to be read of a stream, once it is sure that it has the group.
fn source(key: &[u8], group: &[u8], id: &[u8], tx: &mut Tx<'_>) -> Result<Source, Error> {
    let stream = tx.read::<Stream>(key)?;
    if stream.and_then(|stream| stream.groups().get(group)).is_none() {
        return Err(no_group(key, group, " in XREADGROUP with GROUP option"));
    }
    match id {
        b">" => Ok(Source::New),
        b"$" => Err(Error::new(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
        )),
        // The greatest id stands for new entries, too.
        id => Ok(match parse_id(id, 0)? {
            StreamId::MAX => Source::New,
            id => Source::After(id),
        }),
    }
}

impl Reading<'_> {
    /// Gives the consumer what no other was given yet.
    fn deliver(
        &self,
        log: &Log,
        group: &mut GroupMut<'_>,
        consumer: ConsumerNumber,
        change: &mut Change<'_>,
        answer: &mut Answer<'_>,
    ) {
        let mut entries = new_entries(log, group.last_id).take(self.count).peekable();
        if entries.peek().is_none() {
            return;
        }
        let reply = answer.begin(self.key);
        let array = reply.defer_array();
        let mut ids: SmallVec<[StreamId; 16]> = SmallVec::new();
        for entry in entries {
            advance(group, log, entry.id);
            write_entry(&entry, reply);
            ids.push(entry.id);
        }
        reply.set_deferred(array, ids.len());
        if !self.no_ack {
            let pending = Pending {
                delivered_ms: self.now_ms,
                deliveries: 1,
                consumer,
            };
            ids.iter().for_each(|id| group.set_pending(*id, pending));
            group.note(consumer, self.now_ms, true);
            self.record_claim(&ids, 1, group.last_id, change);
        }
        record_group(change, (self.key, self.group), group);
    }

    /// Shows the consumer what is pending for it, from an id on. It counts as one more delivery.
    fn show_pending(
        &self,
        log: &Log,
        group: &mut GroupMut<'_>,
        (consumer, from): (ConsumerNumber, StreamId),
        change: &mut Change<'_>,
        reply: &mut Reply,
    ) {
        let pending = group.consumer(consumer).pending(from, StreamId::MAX);
        let ids: SmallVec<[StreamId; 16]> = pending.take(self.count).collect();
        reply.array(ids.len());
        for id in ids {
            let Some(entry) = log.get(id) else {
                // It was deleted since.
                reply.array(2);
                write_id(id, reply);
                reply.null_array();
                continue;
            };
            write_entry(&entry, reply);
            group.deliver_again(id, self.now_ms);
            let deliveries = group.find_pending(id).map_or(1, |pending| pending.deliveries);
            self.record_claim(&[id], deliveries, group.last_id, change);
        }
    }

    /// Effect: `XCLAIM` of entries that this consumer was given now.
    fn record_claim(&self, ids: &[StreamId], deliveries: u64, last_id: StreamId, change: &mut Change<'_>) {
        let claim = Claimed {
            delivered_ms: self.now_ms,
            deliveries,
            last_id,
        };
        claim.record((self.key, self.group, self.consumer), ids, change);
    }
}

/// Notes that a group has read up to an entry.
fn advance(group: &mut GroupMut<'_>, log: &Log, id: StreamId) {
    group.entries_read = match group.entries_read {
        Some(read) if !log.has_gaps_from(id) => Some(read + 1),
        read if log.entries_added == 0 => read,
        _ => log.added_until(id),
    };
    group.last_id = id;
}
