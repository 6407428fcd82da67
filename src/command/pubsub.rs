//! SUBSCRIBE, PUBLISH and their like: channels, shard channels, patterns.
//!
//! A confirmation is a push, and takes its place among the messages: those of a channel come behind the confirmation
//! that it is subscribed to, and before the one that it is no longer. So what is in the client's inbox goes into the
//! reply before a subscription's end is confirmed.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::help;
use super::spec::{Handler, KeySpec, Outcome, Spec, flag::*, key, keys};
use crate::keyspace::Keyspace;
use crate::net::session::Session;
use crate::pubsub::PubSub;
use crate::pubsub::subscriptions::Subscriptions;
use crate::resp::Reply;
use crate::store::StoreError;

const SUBSCRIBING: u32 = PUBSUB | NOSCRIPT | LOADING | STALE;
const ASKING: u32 = PUBSUB | LOADING | STALE;
const PUBLISHING: u32 = PUBSUB | LOADING | STALE | FAST | MAY_REPLICATE;

pub static COMMANDS: &[Spec] = &[
    row("subscribe", -2, SUBSCRIBING, subscribe, "2.0.0").doc(
        "channel [channel ...]",
        "O(N) for N channels",
        "Lets the client hear what is published to channels.",
    ),
    row("unsubscribe", -1, SUBSCRIBING, unsubscribe, "2.0.0").doc(
        "[channel [channel ...]]",
        "O(N) for N channels",
        "Ends the client's subscriptions to channels, or to all of them.",
    ),
    row("psubscribe", -2, SUBSCRIBING, psubscribe, "2.0.0").doc(
        "pattern [pattern ...]",
        "O(N) for N patterns",
        "Lets the client hear what is published to channels that fit patterns.",
    ),
    row("punsubscribe", -1, SUBSCRIBING, punsubscribe, "2.0.0").doc(
        "[pattern [pattern ...]]",
        "O(N) for N patterns",
        "Ends the client's subscriptions to patterns, or to all of them.",
    ),
    row("ssubscribe", -2, SUBSCRIBING, ssubscribe, "7.0.0")
        .keys(SHARD_CHANNELS)
        .doc(
            "shardchannel [shardchannel ...]",
            "O(N) for N channels",
            "Lets the client hear what is published to shard channels.",
        ),
    row("sunsubscribe", -1, SUBSCRIBING, sunsubscribe, "7.0.0")
        .keys(SHARD_CHANNELS)
        .doc(
            "[shardchannel [shardchannel ...]]",
            "O(N) for N channels",
            "Ends the client's subscriptions to shard channels, or to all of them.",
        ),
    row("publish", 3, PUBLISHING, publish, "2.0.0").doc(
        "channel message",
        "O(N+M) for N subscribers of the channel and M patterns of the server",
        "Sends a message to a channel, and returns how many heard it.",
    ),
    row("spublish", 3, PUBLISHING, spublish, "7.0.0")
        .keys(&[key(1, "not_key")])
        .doc(
            "shardchannel message",
            "O(N) for N subscribers of the channel",
            "Sends a message to a shard channel, and returns how many heard it.",
        ),
    Spec::new("pubsub", -2, 0, 0, Handler::Container)
        .group("pubsub", "2.8.0")
        .doc("", "Depends on subcommand.", "Commands about channels.")
        .subcommands(&[
            row("channels", -2, ASKING, channels, "2.8.0").doc(
                "[pattern]",
                "O(N) for N channels",
                "Returns the channels that have subscribers.",
            ),
            row("numsub", -2, ASKING, numsub, "2.8.0").doc(
                "[channel [channel ...]]",
                "O(N) for N channels asked for",
                "Returns how many subscribers channels have.",
            ),
            row("numpat", 2, ASKING, numpat, "2.8.0").doc(
                "",
                "O(1)",
                "Returns how many different patterns are subscribed to.",
            ),
            row("shardchannels", -2, ASKING, shard_channels, "7.0.0").doc(
                "[pattern]",
                "O(N) for N shard channels",
                "Returns the shard channels that have subscribers.",
            ),
            row("shardnumsub", -2, ASKING, shard_numsub, "7.0.0").doc(
                "[shardchannel [shardchannel ...]]",
                "O(N) for N channels asked for",
                "Returns how many subscribers shard channels have.",
            ),
            row("help", 2, LOADING | STALE, show_help, "6.2.0").doc("", "O(1)", "Lists the subcommands."),
        ]),
];

const SHARD_CHANNELS: &[KeySpec] = &[keys(1, 1, "not_key")];

const fn row(
    name: &'static str,
    arity: i32,
    flags: u32,
    handler: fn(&Args<'_>, &mut Context<'_>) -> Outcome,
    since: &'static str,
) -> Spec {
    Spec::new(name, arity, flags, 0, Handler::Admin(handler)).group("pubsub", since)
}

type Name = Box<[u8]>;

/// One of the three kinds of subscription, and how it is spoken of.
struct Sort {
    on: &'static [u8],
    off: &'static [u8],
    subscribe: fn(&PubSub, &Keyspace, &mut Subscriptions, &[u8]) -> Result<(), StoreError>,
    unsubscribe: fn(&PubSub, &Keyspace, &mut Subscriptions, &[u8]),
    unsubscribe_all: fn(&PubSub, &Keyspace, &mut Subscriptions) -> Vec<Name>,
    /// The number in a confirmation: channels and patterns are counted together, shard channels by themselves.
    count: fn(&Subscriptions) -> usize,
}

static CHANNELS: Sort = Sort {
    on: b"subscribe",
    off: b"unsubscribe",
    subscribe: PubSub::subscribe,
    unsubscribe: PubSub::unsubscribe,
    unsubscribe_all: PubSub::unsubscribe_all,
    count: |own| own.channels() + own.patterns(),
};

static PATTERNS: Sort = Sort {
    on: b"psubscribe",
    off: b"punsubscribe",
    subscribe: |pubsub, _, own, pattern| {
        pubsub.subscribe_to_pattern(own, pattern);
        Ok(())
    },
    unsubscribe: |pubsub, _, own, pattern| pubsub.unsubscribe_from_pattern(own, pattern),
    unsubscribe_all: |pubsub, _, own| {
        let patterns = own.pattern_names();
        patterns
            .iter()
            .for_each(|pattern| pubsub.unsubscribe_from_pattern(own, pattern));
        patterns
    },
    count: |own| own.channels() + own.patterns(),
};

static SHARD_CHANNELS_SORT: Sort = Sort {
    on: b"ssubscribe",
    off: b"sunsubscribe",
    subscribe: |pubsub, keyspace, own, channel| {
        pubsub.subscribe_to_shard(keyspace, own, channel);
        Ok(())
    },
    unsubscribe: PubSub::unsubscribe_from_shard,
    unsubscribe_all: PubSub::unsubscribe_from_all_shards,
    count: Subscriptions::shard_channels,
};

fn subscribe(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    begin(&CHANNELS, args, context)
}

fn unsubscribe(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    end(&CHANNELS, args, context)
}

fn psubscribe(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    begin(&PATTERNS, args, context)
}

fn punsubscribe(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    end(&PATTERNS, args, context)
}

fn ssubscribe(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if context.effects.is_grouped() {
        return Err(Error::new(
            "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client",
        ));
    }
    begin(&SHARD_CHANNELS_SORT, args, context)
}

fn sunsubscribe(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    end(&SHARD_CHANNELS_SORT, args, context)
}

fn begin(sort: &Sort, args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let (pubsub, keyspace) = (&context.server.pubsub, &context.server.keyspace);
    let session = &mut *context.session;
    let own = session
        .subscriptions
        .get_or_insert_with(|| pubsub.enter(&session.client));
    let mut outcome = Ok(());
    for name in args.rest(1) {
        outcome = (sort.subscribe)(pubsub, keyspace, own, name);
        if outcome.is_err() {
            break;
        }
        confirm(context.reply, sort.on, Some(name), (sort.count)(own));
    }
    session.note_subscriptions();
    give_back(session, pubsub, keyspace);
    // The user's channels may have been taken away since the command was allowed, before it became a subscriber.
    let is_pattern = std::ptr::eq(sort, &PATTERNS);
    session.look_at(&context.server.acl.users)?;
    if !args
        .rest(1)
        .iter()
        .all(|name| session.user.hears(name, is_pattern))
    {
        session.closing = true;
    }
    Ok(outcome?)
}

fn end(sort: &Sort, args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let (pubsub, keyspace) = (&context.server.pubsub, &context.server.keyspace);
    let session = &mut *context.session;
    let Some(own) = &mut session.subscriptions else {
        // Nothing is subscribed to, and every name is told so.
        let none = [None];
        let names = args.rest(1).iter().map(|name| Some(*name));
        let names: Vec<Option<&[u8]>> = names.collect();
        let names = if names.is_empty() { &none[..] } else { &names[..] };
        names
            .iter()
            .for_each(|name| confirm(context.reply, sort.off, *name, 0));
        session.replied_pushes = true;
        return Ok(());
    };
    if args.len() > 1 {
        for name in args.rest(1) {
            (sort.unsubscribe)(pubsub, keyspace, own, name);
            session.client.move_inbox_to(context.reply);
            confirm(context.reply, sort.off, Some(name), (sort.count)(own));
        }
    } else {
        let before = (sort.count)(own);
        let names = (sort.unsubscribe_all)(pubsub, keyspace, own);
        session.client.move_inbox_to(context.reply);
        for (i, name) in names.iter().enumerate() {
            confirm(context.reply, sort.off, Some(name), before - i - 1);
        }
        if names.is_empty() {
            confirm(context.reply, sort.off, None, before);
        }
    }
    session.note_subscriptions();
    give_back(session, pubsub, keyspace);
    Ok(())
}

/// Who has subscribed to nothing needs no number.
pub(super) fn give_back(session: &mut Session, pubsub: &PubSub, keyspace: &Keyspace) {
    if session.subscriptions.as_ref().is_some_and(|own| own.is_empty())
        && let Some(own) = session.subscriptions.take()
    {
        pubsub.leave(keyspace, own);
    }
}

pub(super) fn confirm(reply: &mut Reply, what: &[u8], name: Option<&[u8]>, count: usize) {
    reply.push(3);
    reply.bulk(what);
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.int(count as i64);
}

fn publish(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    publish_to(args, context, false)
}

fn spublish(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    publish_to(args, context, true)
}

/// In a transaction or script it is sent when that is done.
fn publish_to(args: &Args<'_>, context: &mut Context<'_>, to_shard: bool) -> Outcome {
    let (pubsub, keyspace) = (&context.server.pubsub, &context.server.keyspace);
    let (channel, message) = (&args[1], &args[2]);
    let heard = if context.effects.is_grouped() {
        context.effects.say(channel, message, to_shard);
        pubsub.listeners(keyspace, channel, to_shard)
    } else if to_shard {
        pubsub.publish_to_shard(keyspace, channel, message)
    } else {
        pubsub.publish(keyspace, channel, message)
    };
    context.reply.int(heard as i64);
    Ok(())
}

fn channels(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    list(args, context, false)
}

fn shard_channels(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    list(args, context, true)
}

fn list(args: &Args<'_>, context: &mut Context<'_>, of_shards: bool) -> Outcome {
    if args.len() > 3 {
        return Err(help::wrong_arguments(args));
    }
    let pattern = args.rest(2).first().copied();
    let server = context.server;
    let names = server.pubsub.channels(&server.keyspace, pattern, of_shards);
    context.reply.array(names.len());
    names.iter().for_each(|name| context.reply.bulk(name));
    Ok(())
}

fn numsub(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    count_each(args, context, PubSub::subscribers_of)
}

fn shard_numsub(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    count_each(args, context, PubSub::subscribers_of_shard)
}

fn count_each(
    args: &Args<'_>,
    context: &mut Context<'_>,
    count: fn(&PubSub, &Keyspace, &[u8]) -> usize,
) -> Outcome {
    let server = context.server;
    let names = args.rest(2);
    context.reply.array(names.len() * 2);
    for name in names {
        context.reply.bulk(name);
        let count = count(&server.pubsub, &server.keyspace, name);
        context.reply.int(count as i64);
    }
    Ok(())
}

fn numpat(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.reply.int(context.server.pubsub.patterns() as i64);
    Ok(())
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::show(
        context,
        "PUBSUB",
        &[
            ("CHANNELS [<pattern>]", &["The channels that have subscribers."]),
            ("NUMPAT", &["How many different patterns are subscribed to."]),
            (
                "NUMSUB [<channel> ...]",
                &["How many subscribers these channels have."],
            ),
            (
                "SHARDCHANNELS [<pattern>]",
                &["The shard channels that have subscribers."],
            ),
            (
                "SHARDNUMSUB [<shardchannel> ...]",
                &["How many subscribers these shard channels have."],
            ),
        ],
    );
    Ok(())
}
