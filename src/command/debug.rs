//! `DEBUG`: looking inside, and doing what tests need. Allowed by `enable-debug-command` alone.

use super::args::Args;
use super::blocked;
use super::context::Context;
use super::digest::Digest;
use super::error::Error;
use super::execute::resolve;
use super::object::{encoding_name, help_reply, refcount_of};
use super::spec::{Handler, Outcome, Spec, flag::*};
use super::table::Finder;
use crate::keyspace::load::may_wait;
use crate::keyspace::range::DBS;
use crate::keyspace::{Call, Effects, Elements, Entry, Tx, clock};
use crate::net::clients::{Client, client_flag};
use crate::object::codec;
use crate::resp::Reply;
use crate::resp::number::{parse_f64, parse_i64};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

pub static COMMANDS: &[Spec] = &[Spec::new(
    "debug",
    -2,
    ADMIN | NOSCRIPT | LOADING | STALE,
    0,
    Handler::Admin(debug),
)
.group("server", "1.0.0")
.doc(
    "subcommand [argument [argument ...]]",
    "Depends on the subcommand",
    "Looks inside the server; for tests.",
)];

/// Keys read in one step of a digest.
const SCAN_STEP: usize = 1 << 14;

fn debug(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let permission = context.server.config.load().enable_debug_command;
    if !permission.allows(is_local(&context.session.client)) {
        return Err(Error::new(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        ));
    }
    match (args[1].to_ascii_uppercase().as_slice(), args.len()) {
        (b"OBJECT", 3) => object(args, context),
        (b"SLEEP", 3) => sleep(args, context),
        (b"SET-ACTIVE-EXPIRE", 3) => set_active_expire(args, context),
        (b"RELOAD", _) => reload(args, context),
        (b"DIGEST", 2) => digest(context),
        (b"DIGEST-VALUE", _) => digest_value(args, context),
        (b"STRINGMATCH-LEN", 4) => stringmatch_len(args, context),
        (b"SEAL", 2) => seal(context),
        (b"SEAL", 3) => seal_everything(args, context),
        (b"ERROR", 3) => {
            let line = args[2].iter().map(|byte| match byte {
                b'\r' | b'\n' => b' ',
                byte => *byte,
            });
            context.reply.error_bytes(&line.collect::<Vec<u8>>());
            Ok(())
        }
        (b"HELP", 2) => help(context),
        _ => Err(Error::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
            String::from_utf8_lossy(&args[1])
                .chars()
                .take(128)
                .collect::<String>()
        ))),
    }
}

fn is_local(client: &Client) -> bool {
    let loopback = |addr: SocketAddr| addr.ip().to_canonical().is_loopback();
    client.has(client_flag::UNIX_SOCKET) || client.addr.parse().is_ok_and(loopback)
}

/// Runs `look` on keys of a logical database.
fn with_keys<R>(
    keys: &[&[u8]],
    db: u8,
    context: &Context<'_>,
    look: impl FnOnce(&mut Tx<'_>) -> R,
) -> Result<R, Error> {
    let call = Call {
        db,
        now_ms: context.now_ms,
        keys,
        received: &[],
        elements: Elements::All,
        replay: None,
    };
    let mut effects = Effects::default();
    let mut tx = context.server.keyspace.begin(call, &mut effects)?;
    Ok(look(&mut tx))
}

fn object(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let key = args.all()[2];
    let tick = context.server.keyspace.tick(context.now_ms);
    let line = with_keys(&[key], context.session.db, context, |tx| {
        tx.peek(key).map(|entry| {
            format!(
                "Value at:{:p} refcount:{} encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
                entry.value().as_ptr(),
                refcount_of(entry),
                encoding_name(entry),
                serialized_len(entry),
                entry.clock() >> 8,
                clock::idle_seconds(entry.clock(), tick),
            )
        })
    })?;
    context.reply.simple(&line.ok_or(Error::NoSuchKey)?);
    Ok(())
}

/// Bytes that the value takes in a row of a store, without its type.
fn serialized_len(entry: &Entry) -> usize {
    let mut out = Vec::new();
    match entry.object() {
        None => codec::encode_string(&mut out, entry.value()),
        Some(object) => codec::encode_object(&mut out, object),
    }
    out.len() - 1
}

/// This connection sleeps; no other does.
fn sleep(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let seconds = parse_f64(&args[2]).unwrap_or(0.0);
    // A cast from a float saturates; what is not a number is 0.
    let hold_ms = (seconds * 1_000.0) as i64;
    let until_ms = context.now_ms.saturating_add(hold_ms.max(0));
    if !context.effects.is_grouped() {
        // Who tries out the slow log does it by this; what a client waits is not measured otherwise.
        let nanos = (hold_ms.max(0) as u64).saturating_mul(1_000_000);
        let command = resolve(args, &mut Finder::default())?;
        context.server.note_slow(command, args, context.session, nanos);
    }
    blocked::idle(args, context, Some(until_ms), Reply::ok)
}

fn set_active_expire(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let on = parse_i64(&args[2]).unwrap_or(0) != 0;
    context.server.active_expire.store(on, Relaxed);
    context.reply.ok();
    Ok(())
}

/// Flushes, and drops from memory what is in the store, so that all of it is read back from there. What is kept in
/// memory ranges stays as it is. The options of Redis say nothing here.
fn reload(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let known = |word: &&[u8]| {
        ["MERGE", "NOFLUSH", "NOSAVE"]
            .iter()
            .any(|option| word.eq_ignore_ascii_case(option.as_bytes()))
    };
    if !args.rest(2).iter().all(known) {
        return Err(Error::new(
            "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
        ));
    }
    let keyspace = &context.server.keyspace;
    may_wait(|| keyspace.flush_now())?;
    keyspace.drop_all_clean();
    context.reply.ok();
    Ok(())
}

/// Seals every entry of memory ranges that can be sealed. Replies with how many there were.
fn seal(context: &mut Context<'_>) -> Outcome {
    let count = may_wait(|| context.server.keyspace.seal_all())?;
    context.reply.int(count as i64);
    Ok(())
}

/// Whether entries are sealed as soon as they are written.
fn seal_everything(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let on = parse_i64(&args[2]).unwrap_or(0) != 0;
    context.server.keyspace.sealing.set_everything(on);
    context.reply.ok();
    Ok(())
}

fn digest(context: &mut Context<'_>) -> Outcome {
    let (keyspace, now_ms) = (&context.server.keyspace, context.now_ms);
    let mut all = Digest::default();
    for db in 0..DBS as u8 {
        // By key, since a key that is flushed meanwhile is met twice.
        let mut found: HashMap<Vec<u8>, Digest> = HashMap::new();
        let mut cursor = 0;
        loop {
            let mut keys = Vec::new();
            cursor =
                may_wait(|| keyspace.scan(db, cursor, SCAN_STEP, now_ms, |at| keys.push(at.key.to_vec())))?;
            for key in keys {
                let mut digest = Digest::default();
                digest.mix(&key);
                let there = with_keys(&[&key], db, context, |tx| {
                    tx.peek(&key).map(|entry| digest.mix_value(entry)).is_some()
                })?;
                if there {
                    found.insert(key, digest);
                }
            }
            if cursor == 0 {
                break;
            }
        }
        if !found.is_empty() {
            all.mix(&u32::from(db).to_be_bytes());
            found.values().for_each(|digest| all.xor(&digest.0));
        }
    }
    context.reply.simple(&all.hex());
    Ok(())
}

fn digest_value(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let keys = args.rest(2);
    let digests: Vec<Digest> = with_keys(keys, context.session.db, context, |tx| {
        let digest = |key: &&[u8]| {
            let mut digest = Digest::default();
            if let Some(entry) = tx.peek(key) {
                digest.mix_value(entry);
            }
            digest
        };
        keys.iter().map(digest).collect()
    })?;
    context.reply.array(digests.len());
    digests
        .iter()
        .for_each(|mixed| context.reply.simple(&mixed.hex()));
    Ok(())
}

/// Whether a pattern matches so many letters `a`: shows what a pattern costs.
fn stringmatch_len(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    /// Long enough for any test of the matcher's time, short enough to allocate.
    const LEN_MOST: i64 = 1 << 20;
    let len = args.int(3)?;
    if !(0..=LEN_MOST).contains(&len) {
        return Err(Error::OutOfRange("length"));
    }
    let text = vec![b'a'; len as usize];
    let matches = super::glob::matches(&args[2], &text);
    context.reply.int(i64::from(matches));
    Ok(())
}

fn help(context: &mut Context<'_>) -> Outcome {
    let lines = [
        "DIGEST",
        "    A digest of all keys and values, equal to that of Redis for equal data.",
        "DIGEST-VALUE <key> [<key> ...]",
        "    A digest of each value.",
        "OBJECT <key>",
        "    How a value is kept.",
        "RELOAD",
        "    Flush, and drop what can be read back from the store.",
        "SEAL [0|1]",
        "    Move every entry of memory ranges into the plain store, now or from now on.",
        "SET-ACTIVE-EXPIRE <0|1>",
        "    Whether expired keys are removed before they are asked for.",
        "SLEEP <seconds>",
        "    Let this connection wait. Decimals are allowed.",
        "STRINGMATCH-LEN <pattern> <len>",
        "    Match a pattern against so many letters a.",
    ];
    help_reply("DEBUG", &lines, context.reply);
    Ok(())
}
