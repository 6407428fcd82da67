//! Reading a stream by ids: XLEN, XRANGE, XREVRANGE.

use super::{limit, parse_end, parse_start, write_entries};
use crate::command::args::Args;
use crate::command::error::Error;
use crate::command::spec::{Handler, Outcome, Spec, acl, flag::*, key};
use crate::keyspace::Tx;
use crate::object::Stream;
use crate::object::stream::StreamId;
use crate::resp::Reply;

pub static COMMANDS: &[Spec] = &[
    Spec::new("xlen", 2, READONLY | FAST, acl::STREAM, Handler::Data(xlen))
        .keys(&[key(1, "RO")])
        .group("stream", "5.0.0")
        .doc("key", "O(1)", "Counts the entries of a stream."),
    Spec::new("xrange", -4, READONLY, acl::STREAM, Handler::Data(xrange))
        .keys(&[key(1, "RO ACCESS")])
        .group("stream", "5.0.0")
        .doc(
            "key start end [COUNT count]",
            "O(N) for N entries returned, and O(log(M)) to find the first of M",
            "Returns the entries between two ids.",
        ),
    Spec::new("xrevrange", -4, READONLY, acl::STREAM, Handler::Data(xrevrange))
        .keys(&[key(1, "RO ACCESS")])
        .group("stream", "5.0.0")
        .doc(
            "key end start [COUNT count]",
            "O(N) for N entries returned, and O(log(M)) to find the first of M",
            "Returns the entries between two ids, the newest first.",
        ),
];

fn xlen(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let len = tx
        .read::<Stream>(&args[1])?
        .map_or(0, |stream| stream.log().len());
    reply.int(len as i64);
    Ok(())
}

fn xrange(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let from = parse_start(&args[2])?;
    let to = parse_end(&args[3])?;
    reply_range((from, to), false, args, tx, reply)
}

fn xrevrange(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let from = parse_start(&args[3])?;
    let to = parse_end(&args[2])?;
    reply_range((from, to), true, args, tx, reply)
}

/// Entries to return at most: 0 for none, negative for all.
fn count(args: &Args<'_>) -> Result<i64, Error> {
    let mut count = -1;
    let mut words = args.options(4);
    while !words.is_done() {
        if words.left() < 2 || !words.take("COUNT") {
            return Err(Error::Syntax);
        }
        count = words.int()?.max(0);
    }
    Ok(count)
}

fn reply_range(
    (from, to): (StreamId, StreamId),
    reversed: bool,
    args: &Args<'_>,
    tx: &mut Tx<'_>,
    reply: &mut Reply,
) -> Outcome {
    let count = count(args)?;
    let Some(stream) = tx.read::<Stream>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    if count == 0 {
        reply.null_array();
    } else if reversed {
        write_entries(stream.log().range_back(from, to).take(limit(count)), reply);
    } else {
        write_entries(stream.log().range(from, to).take(limit(count)), reply);
    }
    Ok(())
}
