//! Handing pending entries over to another consumer: XCLAIM, XAUTOCLAIM.

use super::groups::{consumer_of, record_group};
use super::{no_group, parse_id, parse_start, write_entry, write_id};
use crate::command::args::Args;
use crate::command::error::Error;
use crate::command::spec::{Handler, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::{Absent, Change, Tx};
use crate::object::Stream;
use crate::object::stream::{ConsumerNumber, Entry, GroupMut, IdText, Log, Pending, StreamId};
use crate::resp::Reply;
use smallvec::SmallVec;

pub static COMMANDS: &[Spec] = &[
    Spec::new("xclaim", -6, WRITE | FAST, acl::STREAM, Handler::Data(xclaim))
        .keys(&[key(1, "RW UPDATE")])
        .group("stream", "5.0.0")
        .doc(
            "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
            "O(log(N)) for each id, of N pending entries",
            "Hands pending entries over to a consumer, as if they had been delivered to it.",
        )
        .tips(&["nondeterministic_output"]),
    Spec::new(
        "xautoclaim",
        -6,
        WRITE | FAST,
        acl::STREAM,
        Handler::Data(xautoclaim),
    )
    .keys(&[key(1, "RW DELETE")])
    .group("stream", "6.2.0")
    .doc(
        "key group consumer min-idle-time start [COUNT count] [JUSTID]",
        "O(1) for a small COUNT",
        "Hands pending entries that have waited for long over to a consumer, from an id on.",
    )
    .tips(&["nondeterministic_output"]),
];

/// What is known of entries that a consumer has from now on: the facts that an effect has to tell.
pub(super) struct Claimed {
    pub delivered_ms: i64,
    pub deliveries: u64,
    /// Up to which the group has read.
    pub last_id: StreamId,
}

impl Claimed {
    /// Effect: `XCLAIM` with everything spelled out.
    pub fn record(
        &self,
        (key, group, consumer): (&[u8], &[u8], &[u8]),
        ids: &[StreamId],
        change: &mut Change<'_>,
    ) {
        if !change.is_recorded() {
            return change.command(&[]);
        }
        const TEXT: IdText = [0; size_of::<IdText>()];
        let mut texts: SmallVec<[IdText; 16]> = ids.iter().map(|_| TEXT).collect();
        let (mut time, mut count, mut last) = (itoa::Buffer::new(), itoa::Buffer::new(), TEXT);
        let mut words: SmallVec<[&[u8]; 32]> = SmallVec::from_slice(&[b"XCLAIM", key, group, consumer, b"0"]);
        words.extend(ids.iter().zip(&mut texts).map(|(id, text)| id.format(text)));
        words.extend_from_slice(&[
            b"TIME",
            time.format(self.delivered_ms).as_bytes(),
            b"RETRYCOUNT",
            count.format(self.deliveries).as_bytes(),
            b"FORCE",
            b"JUSTID",
            b"LASTID",
            self.last_id.format(&mut last),
        ]);
        change.command(&words);
    }
}

/// A number that is not there has an error of its own.
fn number(text: &[u8], what: &str, command: &str) -> Result<i64, Error> {
    crate::resp::number::parse_i64(text)
        .ok_or_else(|| Error::new(format!("ERR Invalid {what} argument for {command}")))
}

/// Who claims for whom.
#[derive(Clone, Copy)]
struct Claim<'a> {
    key: &'a [u8],
    group: &'a [u8],
    consumer: &'a [u8],
    min_idle_ms: i64,
    now_ms: i64,
    just_id: bool,
}

impl<'a> Claim<'a> {
    /// Runs `claim_it` on the log and the group, if they are there.
    fn run<R>(
        &self,
        tx: &mut Tx<'_>,
        claim_it: impl FnOnce(&Log, &mut GroupMut<'_>, &mut Change<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let done = tx.change::<Stream, _>(self.key, Absent::Skip, |stream, change| {
            let (log, groups) = stream.parts_mut();
            let mut group = groups.get_mut(self.group)?;
            Some(claim_it(log, &mut group, change))
        })?;
        done.flatten().ok_or_else(|| no_group(self.key, self.group, ""))?
    }

    /// The consumer that claims.
    fn claimer(&self, group: &mut GroupMut<'_>, change: &mut Change<'_>) -> ConsumerNumber {
        consumer_of([self.key, self.group, self.consumer], group, self.now_ms, change)
    }

    /// Hands an entry over and writes it into the reply.
    fn take(
        &self,
        entry: &Entry<'_>,
        pending: Pending,
        group: &mut GroupMut<'_>,
        change: &mut Change<'_>,
        reply: &mut Reply,
    ) {
        group.set_pending(entry.id, pending);
        group.note(pending.consumer, self.now_ms, true);
        if self.just_id {
            write_id(entry.id, reply);
        } else {
            write_entry(entry, reply);
        }
        let claimed = Claimed {
            delivered_ms: pending.delivered_ms,
            deliveries: pending.deliveries,
            last_id: group.last_id,
        };
        claimed.record((self.key, self.group, self.consumer), &[entry.id], change);
    }

    /// Forgets a pending entry that was deleted from the stream.
    fn drop_pending(&self, id: StreamId, group: &mut GroupMut<'_>, change: &mut Change<'_>) {
        if group.acknowledge(id) {
            let mut text: IdText = [0; size_of::<IdText>()];
            change.command(&[b"XACK", self.key, self.group, id.format(&mut text)]);
        }
    }

    fn is_idle(&self, pending: &Pending) -> bool {
        self.min_idle_ms == 0 || self.now_ms.saturating_sub(pending.delivered_ms) >= self.min_idle_ms
    }
}

/// The options of XCLAIM.
struct ClaimOptions {
    ids: SmallVec<[StreamId; 8]>,
    delivered_ms: i64,
    retry_count: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

impl ClaimOptions {
    fn parse(args: &Args<'_>, now_ms: i64) -> Result<ClaimOptions, Error> {
        let ids: SmallVec<[StreamId; 8]> = args
            .rest(5)
            .iter()
            .map_while(|word| parse_id(word, 0).ok())
            .collect();
        let mut words = args.options(5 + ids.len());
        let mut options = ClaimOptions {
            ids,
            delivered_ms: -1,
            retry_count: None,
            force: false,
            just_id: false,
            last_id: StreamId::ZERO,
        };
        while !words.is_done() {
            let more = words.left() > 1;
            let value = |name: &str, words: &mut crate::command::args::Options<'_>| {
                number(words.value()?, &format!("{name} option"), "XCLAIM")
            };
            if words.take("FORCE") {
                options.force = true;
            } else if words.take("JUSTID") {
                options.just_id = true;
            } else if more && words.take("IDLE") {
                options.delivered_ms = now_ms.wrapping_sub(value("IDLE", &mut words)?);
            } else if more && words.take("TIME") {
                options.delivered_ms = value("TIME", &mut words)?;
            } else if more && words.take("RETRYCOUNT") {
                options.retry_count = u64::try_from(value("RETRYCOUNT", &mut words)?).ok();
            } else if more && words.take("LASTID") {
                options.last_id = parse_id(words.value()?, 0)?;
            } else {
                let word = String::from_utf8_lossy(words.value()?).into_owned();
                return Err(Error::new(format!("ERR Unrecognized XCLAIM option '{word}'")));
            }
        }
        // A moment that cannot be is taken for now: clients reckon with clocks of their own.
        if !(0..=now_ms).contains(&options.delivered_ms) {
            options.delivered_ms = now_ms;
        }
        Ok(options)
    }
}

fn xclaim(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let claim = Claim {
        key: args.all()[1],
        group: args.all()[2],
        consumer: args.all()[3],
        min_idle_ms: 0,
        now_ms: tx.now_ms(),
        just_id: false,
    };
    claim.run(tx, |log, group, change| {
        let min_idle_ms = number(&args[4], "min-idle-time", "XCLAIM")?.max(0);
        let options = ClaimOptions::parse(args, claim.now_ms)?;
        let claim = Claim {
            min_idle_ms,
            just_id: options.just_id,
            ..claim
        };
        claim_ids(&claim, &options, (log, group), change, reply);
        Ok(())
    })
}

fn claim_ids(
    claim: &Claim<'_>,
    options: &ClaimOptions,
    (log, group): (&Log, &mut GroupMut<'_>),
    change: &mut Change<'_>,
    reply: &mut Reply,
) {
    if options.last_id > group.last_id {
        group.last_id = options.last_id;
        record_group(change, (claim.key, claim.group), group);
    }
    let consumer = claim.claimer(group, change);
    let array = reply.defer_array();
    let mut count = 0;
    for id in &options.ids {
        let found = group.find_pending(*id).copied();
        let Some(entry) = log.get(*id) else {
            claim.drop_pending(*id, group, change);
            continue;
        };
        let deliveries = match found {
            None if !options.force => continue,
            Some(pending) if !claim.is_idle(&pending) => continue,
            Some(pending) => pending.deliveries,
            None => 1,
        };
        let pending = Pending {
            delivered_ms: options.delivered_ms,
            deliveries: match options.retry_count {
                Some(count) => count,
                None => deliveries.wrapping_add(u64::from(!claim.just_id)),
            },
            consumer,
        };
        claim.take(&entry, pending, group, change, reply);
        count += 1;
    }
    reply.set_deferred(array, count);
}

/// Pending entries looked at for each that is to be claimed.
pub(super) const ATTEMPTS: usize = 10;
pub(super) const CLAIMED_DEFAULT: usize = 100;

/// The options of XAUTOCLAIM: how many, and whether ids alone will do.
fn auto_options(args: &Args<'_>) -> Result<(usize, bool), Error> {
    let (mut count, mut just_id) = (CLAIMED_DEFAULT, false);
    let mut words = args.options(6);
    while !words.is_done() {
        if words.left() > 1 && words.take("COUNT") {
            // More than this is refused by Redis as well: it takes 16 bytes for each.
            let most = i64::MAX / 16;
            let given = words.int().ok().filter(|count| (1..=most).contains(count));
            let given = given.and_then(|count| usize::try_from(count).ok());
            count = given.ok_or_else(|| Error::new("ERR COUNT must be > 0"))?;
        } else if words.take("JUSTID") {
            just_id = true;
        } else {
            return Err(Error::Syntax);
        }
    }
    Ok((count, just_id))
}

fn xautoclaim(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let min_idle_ms = number(&args[4], "min-idle-time", "XAUTOCLAIM")?.max(0);
    let start = parse_start(&args[5])?;
    let (count, just_id) = auto_options(args)?;
    let claim = Claim {
        key: args.all()[1],
        group: args.all()[2],
        consumer: args.all()[3],
        min_idle_ms,
        now_ms: tx.now_ms(),
        just_id,
    };
    claim.run(tx, |log, group, change| {
        claim_from(&claim, (start, count), (log, group), change, reply);
        Ok(())
    })
}

fn claim_from(
    claim: &Claim<'_>,
    (start, count): (StreamId, usize),
    (log, group): (&Log, &mut GroupMut<'_>),
    change: &mut Change<'_>,
    reply: &mut Reply,
) {
    let consumer = claim.claimer(group, change);
    let (found, cursor) = candidates(claim, (start, count), log, group);
    reply.array(3);
    write_id(cursor, reply);
    let array = reply.defer_array();
    let mut claimed = 0;
    let mut deleted: SmallVec<[StreamId; 8]> = SmallVec::new();
    for (id, pending) in found {
        let Some(entry) = log.get(id) else {
            claim.drop_pending(id, group, change);
            deleted.push(id);
            continue;
        };
        let pending = Pending {
            delivered_ms: claim.now_ms,
            deliveries: pending.deliveries.wrapping_add(u64::from(!claim.just_id)),
            consumer,
        };
        claim.take(&entry, pending, group, change, reply);
        claimed += 1;
    }
    reply.set_deferred(array, claimed);
    reply.array(deleted.len());
    deleted.into_iter().for_each(|id| write_id(id, reply));
}

/// Pending entries to claim or, where the stream has them no more, to forget; and the id to go on from, 0-0 at the end.
fn candidates(
    claim: &Claim<'_>,
    (start, count): (StreamId, usize),
    log: &Log,
    group: &GroupMut<'_>,
) -> (Vec<(StreamId, Pending)>, StreamId) {
    let mut items = group.pending(start, StreamId::MAX);
    let mut found = Vec::new();
    let mut attempts = count.saturating_mul(ATTEMPTS);
    while attempts > 0 && found.len() < count {
        let Some((id, pending)) = items.next() else {
            break;
        };
        if claim.is_idle(pending) || !log.contains(id) {
            found.push((id, *pending));
        }
        attempts -= 1;
    }
    let cursor = items.next().map_or(StreamId::ZERO, |(id, _)| id);
    (found, cursor)
}
