//! MIGRATE: keys go to another server.
//!
//! The other server is sent the keys as `RESTORE`, all at once; those that it has taken are deleted here. No key is
//! locked while the network is waited for, where Redis stops the world. So a key may change meanwhile, and is deleted
//! only if it is still what was sent; else what it has become is sent in its place. When the command has succeeded, the
//! other server has the last value, and this one none. A key whose answer never came stays here, and may be on both.

use super::args::{Args, Options};
use super::context::Context;
use super::error::Error;
use super::spec::{Found, Handler, Outcome, Spec, acl, flag::*, key, keyword};
use crate::keyspace::effects::push_command;
use crate::keyspace::load::may_wait;
use crate::keyspace::{Call, Elements, Entry, Tx};
use crate::object::codec::{self, Form, ValueRef};
use crate::resp::number::parse_i64;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const MOVED: &str = "RW ACCESS DELETE";
const TIMEOUT_MS: u64 = 1_000;
/// How often a key is sent again that changes all the time.
const ROUNDS_MOST: usize = 100;

pub static COMMANDS: &[Spec] = &[Spec::new(
    "migrate",
    -6,
    WRITE | MOVABLEKEYS,
    acl::KEYSPACE | acl::DANGEROUS,
    Handler::Admin(migrate),
)
.keys(&[
    key(3, MOVED),
    keyword("KEYS", -2, -1, 0, "RW ACCESS DELETE INCOMPLETE"),
])
.walk(found_keys)
.group("generic", "2.6.0")
.doc(
    "host port <key | \"\"> destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 username password] [KEYS key [key ...]]",
    "O(N) for N bytes of the values, here, over the network and there",
    "Moves keys to another server, or copies them.",
)
.tips(&["nondeterministic_output"])];

/// The key at its place, or where that is empty all behind KEYS.
fn found_keys(args: &Args<'_>) -> Found {
    let mut at = 6;
    while at < args.len() && args[3].is_empty() {
        at += match () {
            _ if args.is(at, "KEYS") => return (at + 1..args.len()).map(|at| (at, 1)).collect(),
            _ if args.is(at, "AUTH") => 2,
            _ if args.is(at, "AUTH2") => 3,
            _ => 1,
        };
    }
    [(3, 0)].into_iter().collect()
}

struct Plan<'a> {
    host: &'a [u8],
    port: &'a [u8],
    db: i64,
    timeout: Duration,
    copy: bool,
    replace: bool,
    /// The words behind `AUTH`.
    auth: Vec<&'a [u8]>,
    keys: Vec<&'a [u8]>,
}

impl<'a> Plan<'a> {
    fn parse(args: &Args<'a>) -> Result<Plan<'a>, Error> {
        let items = args.all();
        let mut plan = Plan {
            host: items[1],
            port: items[2],
            db: 0,
            timeout: Duration::ZERO,
            copy: false,
            replace: false,
            auth: Vec::new(),
            keys: vec![items[3]],
        };
        plan.parse_options(args.options(6), items)?;
        let timeout_ms = args.int(5)?;
        plan.db = args.int(4)?;
        let timeout_ms = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0);
        plan.timeout = Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_MS));
        Ok(plan)
    }

    fn parse_options(&mut self, mut words: Options<'a>, items: &[&'a [u8]]) -> Result<(), Error> {
        while let Some(word) = words.next_word() {
            match word.to_ascii_uppercase().as_slice() {
                b"COPY" => self.copy = true,
                b"REPLACE" => self.replace = true,
                b"AUTH" => self.auth = vec![words.value()?],
                b"AUTH2" => self.auth = vec![words.value()?, words.value()?],
                b"KEYS" if !items[3].is_empty() => {
                    return Err(Error::new(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                b"KEYS" => {
                    self.keys = items[items.len() - words.left()..].to_vec();
                    break;
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(())
    }
}

/// What a key held when it was sent.
#[derive(PartialEq)]
struct Sent {
    payload: Vec<u8>,
    /// Unix milliseconds.
    expiry: Option<i64>,
}

fn sent_of(entry: &Entry) -> Sent {
    let value = entry
        .object()
        .map_or_else(|| ValueRef::String(entry.value()), ValueRef::Object);
    Sent {
        payload: codec::dump(value, Form::DUMP),
        expiry: entry.expiry(),
    }
}

fn migrate(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let plan = Plan::parse(args)?;
    let mut left: Vec<(&[u8], Sent)> = Vec::new();
    for key in &plan.keys {
        let sent = with_key(context, args, key, |tx| tx.lookup(key).map(sent_of))?;
        left.extend(sent.map(|sent| (*key, sent)));
    }
    if left.is_empty() {
        context.reply.simple("NOKEY");
        return Ok(());
    }
    let peer = may_wait(|| Peer::connect(&plan));
    let mut peer = peer.map_err(|error| Failed::to_connect(&error).error())?;
    let (mut refused, mut replace) = (None, plan.replace);
    for _ in 0..ROUNDS_MOST {
        let answers = may_wait(|| peer.send(&left, replace, context.now_ms));
        let (taken, why) = answers.map_err(|failed| failed.error())?;
        refused = refused.or(why);
        let mut changed = Vec::new();
        for (at, (key, sent)) in left.into_iter().enumerate() {
            if plan.copy || !taken.contains(&at) {
                continue;
            }
            match with_key(context, args, key, |tx| leave(tx, key, sent))? {
                Left::Gone => {}
                Left::Deleted => may_wait(|| peer.delete(key)).map_err(|failed| failed.error())?,
                Left::Changed(sent) => changed.push((key, sent)),
            }
        }
        (left, replace) = (changed, true);
        if left.is_empty() {
            return match refused {
                Some(why) => Err(Error::new(format!(
                    "ERR Target instance replied with error: {why}"
                ))),
                None => {
                    context.reply.ok();
                    Ok(())
                }
            };
        }
    }
    Err(Error::new(
        "ERR the keys change faster than they can be sent, some are on both servers",
    ))
}

fn with_key<R>(
    context: &mut Context<'_>,
    args: &Args<'_>,
    key: &[u8],
    run: impl FnOnce(&mut Tx<'_>) -> R,
) -> Result<R, Error> {
    let keys = [key];
    let call = Call {
        db: context.session.db,
        now_ms: context.now_ms,
        keys: &keys,
        received: args.all(),
        elements: Elements::All,
        replay: None,
    };
    let mut tx = context.server.keyspace.begin(call, context.effects)?;
    let result = run(&mut tx);
    context.gate = context.gate.max(tx.commit());
    Ok(result)
}

/// What has become of a key that the other server has taken.
enum Left {
    Gone,
    /// Somebody else has deleted it since it was sent.
    Deleted,
    Changed(Sent),
}

fn leave(tx: &mut Tx<'_>, key: &[u8], sent: Sent) -> Left {
    match tx.peek(key).map(sent_of) {
        None => Left::Deleted,
        Some(now) if now == sent => {
            tx.delete(key);
            Left::Gone
        }
        Some(now) => Left::Changed(now),
    }
}

enum Failed {
    Connecting,
    Writing,
    Reading,
    /// What it answered to a command before the first key.
    Refused(String),
}

impl Failed {
    /// Redis learns that it is refused when it writes.
    fn to_connect(error: &io::Error) -> Failed {
        match error.kind() {
            ErrorKind::ConnectionRefused => Failed::Writing,
            _ => Failed::Connecting,
        }
    }

    fn error(self) -> Error {
        let doing = match self {
            Failed::Refused(why) => {
                return Error::new(format!("ERR Target instance replied with error: {why}"));
            }
            Failed::Connecting => return Error::new("IOERR error or timeout connecting to the client"),
            Failed::Writing => "writing",
            Failed::Reading => "reading",
        };
        Error::new(format!("IOERR error or timeout {doing} to target instance"))
    }
}

/// The other server.
struct Peer {
    stream: BufReader<TcpStream>,
    /// What has to be sent before the first key, and how many replies that brings.
    greeting: Vec<u8>,
    greetings: usize,
}

impl Peer {
    fn connect(plan: &Plan<'_>) -> io::Result<Peer> {
        let host = std::str::from_utf8(plan.host).map_err(io::Error::other)?;
        let port = parse_i64(plan.port).and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| io::Error::other("no port"))?;
        let mut failed = io::Error::other("no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, plan.timeout) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(plan.timeout))?;
                    stream.set_write_timeout(Some(plan.timeout))?;
                    stream.set_nodelay(true)?;
                    return Ok(Peer::greet(stream, plan));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn greet(stream: TcpStream, plan: &Plan<'_>) -> Peer {
        let mut greeting = Vec::new();
        if !plan.auth.is_empty() {
            let words: Vec<&[u8]> = std::iter::once(&b"AUTH"[..])
                .chain(plan.auth.iter().copied())
                .collect();
            push_command(&mut greeting, &words);
        }
        push_command(&mut greeting, &[b"SELECT", plan.db.to_string().as_bytes()]);
        Peer {
            stream: BufReader::new(stream),
            greeting,
            greetings: 1 + usize::from(!plan.auth.is_empty()),
        }
    }

    /// Sends keys. Returns which of them were taken, and why the first was not that was not.
    fn send(
        &mut self,
        keys: &[(&[u8], Sent)],
        replace: bool,
        now_ms: i64,
    ) -> Result<(Vec<usize>, Option<String>), Failed> {
        let mut request = std::mem::take(&mut self.greeting);
        for (key, sent) in keys {
            let ttl = sent.expiry.map_or(0, |at| (at - now_ms).max(1)).to_string();
            let mut words: Vec<&[u8]> = vec![b"RESTORE", key, ttl.as_bytes(), &sent.payload];
            if replace {
                words.push(b"REPLACE");
            }
            push_command(&mut request, &words);
        }
        self.write(&request)?;
        let mut refused = None;
        for _ in 0..std::mem::take(&mut self.greetings) {
            if let Err(why) = self.answer()? {
                refused = refused.or(Some(why));
            }
        }
        // What it takes without having taken those is not where it should be.
        let is_welcome = refused.is_none();
        let mut taken = Vec::new();
        for at in 0..keys.len() {
            match self.answer()? {
                Ok(()) if is_welcome => taken.push(at),
                Ok(()) => {}
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Ok((taken, refused))
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Failed> {
        let mut request = Vec::new();
        push_command(&mut request, &[b"DEL", key]);
        self.write(&request)?;
        self.answer()?.map_err(Failed::Refused)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.stream
            .get_mut()
            .write_all(bytes)
            .map_err(|_| Failed::Writing)
    }

    /// The next reply, which is one line; an error reply is the inner error.
    fn answer(&mut self) -> Result<Result<(), String>, Failed> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        if read.is_err() || !line.ends_with(b"\r\n") {
            return Err(Failed::Reading);
        }
        let text = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
        Ok(match text.strip_prefix('-') {
            Some(why) => Err(why.to_string()),
            None => Ok(()),
        })
    }
}
