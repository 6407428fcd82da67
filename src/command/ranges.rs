//! `RANGE`: the ranges of the keyspace, and their keys in order. `docs/ranges.md` is the page for users.

use super::args::{Args, Options};
use super::context::Context;
use super::error::Error;
use super::object::help_reply;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use crate::config::{RangeSpec, Tier};
use crate::keyspace::Keyspace;
use crate::keyspace::load::may_wait;
use crate::keyspace::range::{DBS, Range};
use crate::keyspace::ranges::{Leftover, RangeError};
use crate::keyspace::scan::Wanted;
use crate::net::session::Session;
use crate::resp::{Protocol, Reply};
use std::sync::atomic::Ordering::Relaxed;

/// The Terrace version that brought them.
const SINCE: &str = "0.1.0";

pub static COMMANDS: &[Spec] = &[Spec::new("range", -2, 0, 0, Handler::Container)
    .group("server", SINCE)
    .doc(
        "",
        "Depends on the subcommand",
        "Commands on the ranges of the keyspace.",
    )
    .subcommands(&[
        Spec::new("list", 2, LOADING | STALE, 0, Handler::Admin(list))
            .group("server", SINCE)
            .doc(
                "",
                "O(N) for N ranges",
                "Lists the ranges, each in the words that would make it.",
            ),
        Spec::new("info", 3, LOADING | STALE, 0, Handler::Admin(info))
            .group("server", SINCE)
            .doc(
                "name",
                "O(1)",
                "Returns what a range is, which options are in force in it, and what it holds.",
            ),
        Spec::new(
            "create",
            -5,
            ADMIN | NOSCRIPT | NO_MULTI,
            0,
            Handler::Admin(create),
        )
        .group("server", SINCE)
        .doc(
            "name keys <MEMORY | DURABLE> [option value [option value ...]]",
            "O(N) for N resident keys, and the cold keys that the range takes over",
            "Makes a range.",
        ),
        Spec::new("alter", -5, ADMIN | NOSCRIPT | NO_MULTI, 0, Handler::Admin(alter))
            .group("server", SINCE)
            .doc(
                "name option value [option value ...]",
                "O(1); a move to the other tier goes on in the background, O(N) for N keys",
                "Changes options of a range, or moves it to the other tier.",
            ),
        Spec::new(
            "drop",
            -3,
            WRITE | ADMIN | NOSCRIPT | NO_MULTI,
            0,
            Handler::Admin(drop),
        )
        .group("server", SINCE)
        .doc(
            "name [DISCARD | KEEP]",
            "O(1), and the rest in the background",
            "Removes a range, and its keys if told to.",
        ),
        Spec::new("split", -5, ADMIN | NOSCRIPT | NO_MULTI, 0, Handler::Admin(split))
            .group("server", SINCE)
            .doc(
                "name AT key [AS name]",
                "O(N) for N keys of the range, in the background",
                "Makes two ranges of one.",
            ),
        Spec::new("merge", 4, ADMIN | NOSCRIPT | NO_MULTI, 0, Handler::Admin(merge))
            .group("server", SINCE)
            .doc("name name", "O(1)", "Makes one range of two neighbours."),
        Spec::new("scan", -4, READONLY, acl::KEYSPACE, Handler::Admin(scan))
            .group("server", SINCE)
            .doc(
                "from to [LIMIT count] [REVERSE] [WITHVALUES]",
                "O(N+M) for N resident keys and M cold keys in the interval, up to the limit",
                "Returns the keys of an interval in order.",
            ),
        Spec::new("help", 2, LOADING | STALE, 0, Handler::Session(help))
            .group("server", SINCE)
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

fn list(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let map = context.server.keyspace.ranges();
    context.reply.array(map.iter().count());
    for range in map.iter() {
        let mut spec = range.spec.clone();
        spec.tier = range.promised_tier();
        let words = spec.to_args();
        context.reply.array(words.len());
        words.iter().for_each(|word| context.reply.bulk(word));
    }
    Ok(())
}

/// A name as given. One that is not text is no range's.
fn name(args: &Args<'_>) -> String {
    String::from_utf8_lossy(&args[2]).into_owned()
}

fn info(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let keyspace = &context.server.keyspace;
    let name = name(args);
    let map = keyspace.ranges();
    let range = map.by_name(&name).ok_or(RangeError::Unknown(name))?;
    let reply = &mut *context.reply;
    let texts = texts(keyspace, range);
    let numbers = numbers(keyspace, range);
    reply.map(texts.len() + numbers.len() + 1);
    for (field, text) in &texts {
        reply.bulk(field.as_bytes());
        reply.bulk(text);
    }
    for (field, number) in numbers {
        reply.bulk(field.as_bytes());
        reply.int(number);
    }
    reply.bulk(b"databases");
    databases(keyspace, range, reply);
    Ok(())
}

/// What the range is, and the options in force: its own, or inherited.
fn texts(keyspace: &Keyspace, range: &Range) -> Vec<(&'static str, Vec<u8>)> {
    let (spec, policy) = (&range.spec, &range.policy);
    let number = |number: u64| number.to_string().into_bytes();
    let moving = keyspace.move_of(&spec.name);
    // Until a move is over, nobody is to rely on where it leads.
    let tier = match moving.as_ref().map(|under_way| under_way.to) {
        Some(Tier::Memory) => Tier::Durable,
        Some(Tier::Durable) => Tier::Memory,
        None => range.promised_tier(),
    };
    let (state, progress) = moving.map_or(("ready", "100.0".to_string()), |under_way| {
        let state = match under_way.to {
            Tier::Memory => "moving to memory",
            Tier::Durable => "moving to durable",
        };
        (state, format!("{:.1}", under_way.percent()))
    });
    let amplification = if range.is_durable() {
        keyspace.write_amplification()
    } else {
        0.0
    };
    vec![
        ("name", spec.name.clone().into_bytes()),
        ("pattern", spec.bounds.to_bytes()),
        ("tier", tier.as_str().into()),
        ("state", state.into()),
        ("progress", progress.into_bytes()),
        ("maxmemory", number(policy.maxmemory)),
        ("maxmemory-policy", policy.eviction.to_string().into_bytes()),
        ("appendfsync", policy.fsync.to_string().into_bytes()),
        ("default-ttl", number(policy.default_ttl_ms as u64 / 1_000)),
        ("notify", policy.notify.to_string().into_bytes()),
        ("max-keys", number(policy.max_keys)),
        ("max-value-size", number(policy.max_value_size)),
        ("compression", policy.compression.to_string().into_bytes()),
        ("write-amplification", format!("{amplification:.2}").into_bytes()),
    ]
}

/// What the range holds, and what has happened in it since the start.
fn numbers(keyspace: &Keyspace, range: &Range) -> Vec<(&'static str, i64)> {
    let counters = &range.counters;
    let disk_bytes = may_wait(|| keyspace.disk_bytes_of(range));
    let expires: i64 = counters.expires.iter().map(|count| count.load(Relaxed)).sum();
    vec![
        ("keys", counters.total_keys()),
        ("expires", expires),
        ("bytes", counters.bytes.load(Relaxed)),
        ("sealed-bytes", counters.sealed_bytes.load(Relaxed)),
        ("disk-bytes", disk_bytes as i64),
        ("cold", counters.cold_keys()),
        ("hits", counters.hits.load(Relaxed) as i64),
        ("misses", counters.misses.load(Relaxed) as i64),
        ("evicted", counters.evicted.load(Relaxed) as i64),
        ("expired", counters.expired.load(Relaxed) as i64),
        ("dropped", counters.dropped.load(Relaxed) as i64),
        ("sealed", counters.sealed.load(Relaxed) as i64),
        ("loaded", counters.loaded.load(Relaxed) as i64),
        ("flushes", counters.flushes.load(Relaxed) as i64),
        ("flushed-bytes", counters.flushed_bytes.load(Relaxed) as i64),
    ]
}

/// Keys by database, of those that hold any.
fn databases(keyspace: &Keyspace, range: &Range, reply: &mut Reply) {
    let keys = |db: u8| range.counters.keys[keyspace.physical(db) as usize].load(Relaxed);
    let held: Vec<(u8, i64)> = (0..DBS as u8)
        .map(|db| (db, keys(db)))
        .filter(|(_, keys)| *keys > 0)
        .collect();
    reply.map(held.len());
    for (db, keys) in held {
        reply.bulk_int(i64::from(db));
        reply.int(keys);
    }
}

fn create(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let spec = RangeSpec::parse(args.rest(2)).map_err(RangeError::Invalid)?;
    may_wait(|| context.server.keyspace.create_range(spec))?;
    context.reply.ok();
    Ok(())
}

fn alter(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let words = args.rest(3);
    if !words.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    let is_tier = |pair: &(&[u8], &[u8])| pair.0.eq_ignore_ascii_case(b"tier");
    let pairs = words.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let (tiers, options): (Vec<_>, Vec<_>) = pairs.partition(is_tier);
    let tier = tiers.last().map(|(_, tier)| {
        let wrong = || RangeError::Invalid("the tier of a range must be memory or durable".into());
        Tier::parse(tier).ok_or_else(wrong)
    });
    let (tier, keyspace) = (tier.transpose()?, &context.server.keyspace);
    if !options.is_empty() {
        may_wait(|| keyspace.alter_range(&name(args), &options))?;
    }
    if let Some(tier) = tier {
        // A move may need what the options give, a larger limit say: so they come first, and stay.
        let refused = |error: RangeError| match options.is_empty() {
            true => Error::from(error),
            false => Error::Other(format!("{error}; the options are in force").into()),
        };
        may_wait(|| keyspace.begin_move(&name(args), tier, context.now_ms)).map_err(refused)?;
    }
    context.reply.ok();
    Ok(())
}

fn drop(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let mut words = args.options(3);
    let leftover = match () {
        _ if words.take("DISCARD") => Leftover::Discard,
        _ if words.take("KEEP") => Leftover::Keep,
        _ => Leftover::Refuse,
    };
    words.finish()?;
    // It is on disk when this returns, in the store or in the journal.
    may_wait(|| context.server.keyspace.drop_range(&name(args), leftover))?;
    context.reply.ok();
    Ok(())
}

fn split(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let mut words = args.options(3);
    if !words.take("AT") {
        return Err(Error::Syntax);
    }
    let at = words.value()?;
    let second = match words.take("AS") {
        true => Some(String::from_utf8_lossy(words.value()?).into_owned()),
        false => None,
    };
    words.finish()?;
    may_wait(|| {
        context
            .server
            .keyspace
            .split_range(&name(args), at, second.as_deref())
    })?;
    context.reply.ok();
    Ok(())
}

fn merge(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let other = String::from_utf8_lossy(&args[3]).into_owned();
    may_wait(|| context.server.keyspace.merge_ranges(&name(args), &other))?;
    context.reply.ok();
    Ok(())
}

struct ScanOptions {
    most: usize,
    reverse: bool,
    values: bool,
}

impl ScanOptions {
    fn parse(mut words: Options<'_>) -> Result<ScanOptions, Error> {
        let mut options = ScanOptions {
            most: usize::MAX,
            reverse: false,
            values: false,
        };
        while !words.is_done() {
            if words.take("LIMIT") {
                options.most = usize::try_from(words.int()?).map_err(|_| Error::OutOfRange("LIMIT"))?;
            } else if words.take("REVERSE") {
                options.reverse = true;
            } else if words.take("WITHVALUES") {
                options.values = true;
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(options)
    }
}

/// The interval between two bounds: `-` is before every key, `+` behind every key. None when nothing can be in it.
fn interval<'a>(start: &'a [u8], end: &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let start = match start {
        b"-" => &b""[..],
        b"+" => return None,
        start => start,
    };
    match end {
        b"+" => Some((start, None)),
        b"-" => None,
        end => Some((start, Some(end))),
    }
}

fn scan(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let options = ScanOptions::parse(args.options(4))?;
    let Some((start, end)) = interval(&args[2], &args[3]) else {
        context.reply.array(0);
        return Ok(());
    };
    let wanted = Wanted {
        start,
        end,
        most: options.most,
        reverse: options.reverse,
        values: options.values,
    };
    let (db, now_ms) = (context.session.db, context.now_ms);
    let found = may_wait(|| context.server.keyspace.range_scan(db, &wanted, now_ms))?;
    let reply = &mut *context.reply;
    let pairs = options.values && reply.protocol() == Protocol::Resp3;
    let flat = options.values && !pairs;
    reply.array(if flat { found.len() * 2 } else { found.len() });
    for (key, value) in &found {
        if pairs {
            reply.array(2);
        }
        reply.bulk(key);
        if options.values {
            match value {
                Some(value) => reply.bulk(value),
                None => reply.null(),
            }
        }
    }
    Ok(())
}

fn help(_: &Args<'_>, _: &mut Session, reply: &mut Reply) -> Outcome {
    let lines = [
        "ALTER <name> <option> <value> [<option> <value> ...]",
        "    Change options of a range: maxmemory, maxmemory-policy, max-keys, max-value-size,",
        "    default-ttl, appendfsync, compression, notify. TIER memory|durable moves it in the background.",
        "CREATE <name> <keys> memory|durable [<option> <value> ...]",
        "    Make a range of the keys that begin with a prefix (user:*), or of an interval (a..m).",
        "DROP <name> [DISCARD|KEEP]",
        "    Remove a range. DISCARD deletes its keys, KEEP leaves them to the range around it.",
        "INFO <name>",
        "    What a range is, the options in force in it, and what it holds.",
        "LIST",
        "    The ranges, each in the words that would make it.",
        "MERGE <name> <name>",
        "    Make one range of two neighbours of the same tier and options; it keeps the first name.",
        "SCAN <start> <end> [LIMIT <count>] [REVERSE] [WITHVALUES]",
        "    Keys from start up to and without end, in order; - and + are before and behind all.",
        "SPLIT <name> AT <key> [AS <name>]",
        "    Make two ranges of one; the key is the first of the second.",
    ];
    help_reply("RANGE", &lines, reply);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_ends_are_dash_and_plus() {
        assert_eq!(interval(b"-", b"+"), Some((&b""[..], None)));
        assert_eq!(interval(b"a", b"+"), Some((&b"a"[..], None)));
        assert_eq!(interval(b"-", b"b"), Some((&b""[..], Some(&b"b"[..]))));
        assert_eq!(interval(b"+", b"-"), None);
        assert_eq!(interval(b"+", b"z"), None);
        assert_eq!(interval(b"a", b"-"), None);
    }
}
