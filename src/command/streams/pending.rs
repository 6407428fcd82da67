//! XPENDING: what was delivered to the consumers of a group and not acknowledged.

use super::{limit, no_group, parse_end, parse_start, write_id};
use crate::command::args::Args;
use crate::command::error::Error;
use crate::command::spec::{Handler, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::Tx;
use crate::object::Stream;
use crate::object::stream::{Consumer, Group, Pending, StreamId};
use crate::resp::Reply;

pub static COMMANDS: &[Spec] = &[
    Spec::new("xpending", -3, READONLY, acl::STREAM, Handler::Data(xpending))
        .keys(&[key(1, "RO ACCESS")])
        .group("stream", "5.0.0")
        .doc(
            "key group [[IDLE min-idle-time] start end count [consumer]]",
            "O(N) for N entries returned or passed over",
            "Returns what is pending in a group: a summary, or the entries between two ids.",
        )
        .tips(&["nondeterministic_output"]),
];

/// What is asked for beside the summary.
struct Listing<'a> {
    min_idle_ms: i64,
    from: StreamId,
    to: StreamId,
    count: i64,
    consumer: Option<&'a [u8]>,
}

impl<'a> Listing<'a> {
    /// None for the summary.
    fn parse(args: &Args<'a>) -> Result<Option<Listing<'a>>, Error> {
        if args.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&args.len()) {
            return Err(Error::Syntax);
        }
        let (mut at, mut min_idle_ms) = (3, 0);
        if args.is(3, "IDLE") {
            min_idle_ms = args.int(4)?;
            if args.len() < 8 {
                return Err(Error::Syntax);
            }
            at = 5;
        }
        let count = args.int(at + 2)?.max(0);
        Ok(Some(Listing {
            min_idle_ms,
            from: parse_start(&args[at])?,
            to: parse_end(&args[at + 1])?,
            count,
            consumer: args.all().get(at + 3).copied(),
        }))
    }
}

fn xpending(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let listing = Listing::parse(args)?;
    let now_ms = tx.now_ms();
    let stream = tx.read::<Stream>(&args[1])?;
    let group = stream.and_then(|stream| stream.groups().get(&args[2]));
    let group = group.ok_or_else(|| no_group(&args[1], &args[2], ""))?;
    match listing {
        None => write_summary(group, reply),
        Some(listing) => write_listing(&listing, group, now_ms, reply),
    }
    Ok(())
}

fn write_summary(group: &Group, reply: &mut Reply) {
    reply.array(4);
    reply.int(group.pending_len() as i64);
    let Some((first, last)) = group.pending_bounds() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    write_id(first, reply);
    write_id(last, reply);
    let busy = || group.consumers().filter(|consumer| consumer.pending_len() > 0);
    reply.array(busy().count());
    for consumer in busy() {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.pending_len() as i64);
    }
}

fn write_listing(listing: &Listing<'_>, group: &Group, now_ms: i64, reply: &mut Reply) {
    let consumer = match listing.consumer.map(|name| group.find_consumer(name)) {
        None => None,
        Some(Some(number)) => Some(group.consumer(number)),
        Some(None) => {
            reply.array(0);
            return;
        }
    };
    let array = reply.defer_array();
    let mut count = 0;
    if listing.count > 0 {
        let idle = |pending: &Pending| now_ms.saturating_sub(pending.delivered_ms);
        let listed = listed(listing, group, consumer)
            .filter(|(_, pending)| listing.min_idle_ms == 0 || idle(pending) >= listing.min_idle_ms);
        for (id, pending) in listed.take(limit(listing.count)) {
            reply.array(4);
            write_id(id, reply);
            reply.bulk(group.consumer(pending.consumer).name());
            reply.int(idle(&pending).max(0));
            reply.int(pending.deliveries as i64);
            count += 1;
        }
    }
    reply.set_deferred(array, count);
}

/// Pending entries of a consumer or of all, between the bounds.
fn listed<'g>(
    listing: &Listing<'_>,
    group: &'g Group,
    consumer: Option<&'g Consumer>,
) -> Box<dyn Iterator<Item = (StreamId, Pending)> + 'g> {
    let (from, to) = (listing.from, listing.to);
    match consumer {
        None => Box::new(group.pending(from, to).map(|(id, pending)| (id, *pending))),
        Some(consumer) => Box::new(
            consumer
                .pending(from, to)
                .filter_map(|id| group.find_pending(id).map(|pending| (id, *pending))),
        ),
    }
}
