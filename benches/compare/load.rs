//! Work for a server: redis-benchmark for throughput, and a loader that writes each key of a keyspace exactly once.
//! Everything here runs on the core of the load and is bounded in requests and time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::collections::{self, Collections};
use crate::wire::{self, KEY_DIGITS, Spread, VALUE_BYTES};
use crate::{Failure, servers::Server};

/// Connections of every load, redis-benchmark's and our own.
pub const CONNECTIONS: u32 = 50;
/// Keys that random keys are drawn from.
pub const KEYS: u64 = 1_000_000;
/// One redis-benchmark turn may not take longer.
const TURN_TIME_MAX: Duration = Duration::from_secs(300);
/// Requests that the loader sends before it reads the replies of the batch before.
const FILL_BATCH: u64 = 500;

/// A 64-byte value that is the same in every request.
pub const FIXED_VALUE: &str = "v23456789-v23456789-v23456789-v23456789-v23456789-v23456789-v234";
/// A 64-byte value that differs in every request (five random numbers of 12 digits), for work that ends in files,
/// where equal values would compress to nothing.
pub const VARIED_VALUE: &str = "__rand_int____rand_int____rand_int____rand_int____rand_int__tail";

/// What redis-benchmark says about one turn.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    pub requests_per_second: f64,
    pub p99_ms: f64,
}

/// Sends `requests` times `command`, `pipeline` at a time, over 50 connections, random numbers below a million.
pub fn redis_benchmark(
    server: &Server,
    command: &[&str],
    pipeline: u32,
    requests: u64,
) -> Result<Throughput, Failure> {
    let mut child = Command::new("redis-benchmark")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.port.to_string(),
            "--csv",
            "--precision",
            "3",
        ])
        .args(["-c", &CONNECTIONS.to_string(), "-P", &pipeline.to_string()])
        .args(["-n", &requests.to_string(), "-r", &KEYS.to_string()])
        .args(command)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Failure::io("running redis-benchmark (package redis-tools)"))?;
    let begin = Instant::now();
    // Its output is a few hundred bytes, which the pipe holds: it can be read after the end.
    while child
        .try_wait()
        .map_err(Failure::io("waiting for redis-benchmark"))?
        .is_none()
    {
        if begin.elapsed() > TURN_TIME_MAX {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::Unusable(format!(
                "{}: the load did not end in time",
                server.label
            )));
        }
        sleep(Duration::from_millis(10));
    }
    let output = child
        .wait_with_output()
        .map_err(Failure::io("reading redis-benchmark"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_csv(&text).ok_or_else(|| {
        Failure::Unusable(format!(
            "{}: redis-benchmark said {:?}",
            server.label,
            text.trim()
        ))
    })
}

/// SETs of a transaction, and connections that send one each at a time.
const SETS: u64 = 10;
const TRANSACTION_CONNECTIONS: usize = 16;

/// Sends so many transactions of ten SETs of random keys, each written at once and all its replies read. The latency is
/// not measured.
pub fn transactions(server: &Server, transactions: u64) -> Result<Throughput, Failure> {
    let begin = Instant::now();
    transactions_over_sockets(server, transactions)
        .map_err(Failure::io(format!("sending transactions to {}", server.label)))?;
    Ok(Throughput {
        requests_per_second: transactions as f64 / begin.elapsed().as_secs_f64(),
        p99_ms: 0.0,
    })
}

fn transactions_over_sockets(server: &Server, transactions: u64) -> std::io::Result<()> {
    let mut streams = Vec::new();
    for _ in 0..TRANSACTION_CONNECTIONS {
        streams.push(wire::connect(server.port)?);
    }
    let mut random = Spread(transactions);
    let replies = b"+OK\r\n".len()
        + SETS as usize * b"+QUEUED\r\n".len()
        + b"*10\r\n".len()
        + SETS as usize * b"+OK\r\n".len();
    let mut read = vec![0; replies];
    let mut request = Vec::new();
    for first in (0..transactions).step_by(TRANSACTION_CONNECTIONS) {
        let now = (transactions - first).min(TRANSACTION_CONNECTIONS as u64) as usize;
        for stream in &mut streams[..now] {
            request.clear();
            wire::push_request(&mut request, &[b"MULTI"]);
            for _ in 0..SETS {
                let key = format!("key:{:0digits$}", random.next() % KEYS, digits = KEY_DIGITS);
                wire::push_request(&mut request, &[b"SET", key.as_bytes(), FIXED_VALUE.as_bytes()]);
            }
            wire::push_request(&mut request, &[b"EXEC"]);
            stream.write_all(&request)?;
        }
        for stream in &mut streams[..now] {
            stream.read_exact(&mut read)?;
        }
    }
    Ok(())
}

/// The last line is: command, requests per second, then milliseconds: average, least, p50, p95, p99, most.
fn parse_csv(text: &str) -> Option<Throughput> {
    let fields: Vec<&str> = text.lines().last()?.trim_matches('"').split("\",\"").collect();
    let [_, rate, _, _, _, _, p99, _] = fields[..] else {
        return None;
    };
    Some(Throughput {
        requests_per_second: rate.parse().ok()?,
        p99_ms: p99.parse().ok()?,
    })
}

/// What a keyspace holds before it is measured.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// `key:<12 digits>`, each with its own 64 bytes of text that does not compress well.
    Values,
    /// `ctr:<12 digits>`, each `0`.
    Counters,
    /// The same, and the scripts that rows call are known.
    Scripts,
    Collections(Collections),
}

/// Writes keys 0 to `keys` - 1, each once, in a scattered order, pipelined over one connection. Collections say
/// themselves how many they are.
pub fn fill(server: &Server, fill: Fill, keys: u64) -> Result<(), Failure> {
    if let Fill::Collections(collections) = fill {
        return collections::fill(server, collections);
    }
    if let Fill::Scripts = fill {
        for script in crate::rows::SCRIPTS {
            wire::ask(server.port, &["SCRIPT", "LOAD", script]).map_err(Failure::io("loading a script"))?;
        }
    }
    let size = || wire::ask(server.port, &["DBSIZE"]).map_err(Failure::io("asking for DBSIZE"));
    let before: u64 = size()?.and_then(|size| size.parse().ok()).unwrap_or(0);
    fill_over_socket(server, fill, keys).map_err(Failure::io(format!("filling {}", server.label)))?;
    match size() {
        Ok(Some(size)) if size == (before + keys).to_string() => Ok(()),
        other => Err(Failure::Unusable(format!(
            "{}: DBSIZE after filling {keys} keys: {other:?}",
            server.label
        ))),
    }
}

fn fill_over_socket(server: &Server, fill: Fill, keys: u64) -> std::io::Result<()> {
    let mut stream = wire::connect(server.port)?;
    let (mut request, key_digits_at, value_at) = fill_request(fill);
    let mut spread = Spread(keys);
    let mut batch = Vec::with_capacity(request.len() * FILL_BATCH as usize);
    let mut unread = 0;
    for index in 0..keys {
        // Numbers of keys here have no prime factors but 2 and 5, and this step has neither: every key comes once.
        let number = index * 7_368_787 % keys;
        wire::write_digits(&mut request[key_digits_at..][..KEY_DIGITS], number);
        if let Some(value_at) = value_at {
            spread.fill_text(&mut request[value_at..][..VALUE_BYTES]);
        }
        batch.extend_from_slice(&request);
        let in_batch = index % FILL_BATCH + 1;
        if in_batch == FILL_BATCH || index + 1 == keys {
            // The server works on this batch while the replies of the one before are read.
            stream.write_all(&batch)?;
            batch.clear();
            expect_ok(&mut stream, unread)?;
            unread = in_batch;
        }
    }
    expect_ok(&mut stream, unread)
}

/// A SET request, and where in it the digits of the key and the value (if it varies) stand.
fn fill_request(fill: Fill) -> (Vec<u8>, usize, Option<usize>) {
    let (prefix, value): (&[u8], &[u8]) = match fill {
        Fill::Counters | Fill::Scripts => (b"ctr:", b"0"),
        _ => (b"key:", FIXED_VALUE.as_bytes()),
    };
    let key = [prefix, &[b'0'; KEY_DIGITS]].concat();
    let mut request = Vec::new();
    wire::push_request(&mut request, &[b"SET", &key, value]);
    let value_at = request.len() - 2 - value.len();
    // Between key and value: CRLF, `$`, the length's digits, CRLF.
    let key_digits_at = value_at - 5 - value.len().to_string().len() - KEY_DIGITS;
    let varies = matches!(fill, Fill::Values).then_some(value_at);
    (request, key_digits_at, varies)
}

/// Reads `count` replies that must all be OK.
fn expect_ok(stream: &mut TcpStream, count: u64) -> std::io::Result<()> {
    const OK: &[u8] = b"+OK\r\n";
    let mut replies = vec![0; OK.len() * count as usize];
    // An error reply is longer than OK, so this cannot wait for bytes that never come.
    stream.read_exact(&mut replies)?;
    match replies.chunks(OK.len()).all(|reply| reply == OK) {
        true => Ok(()),
        false => {
            let start = replies
                .chunks(OK.len())
                .position(|reply| reply != OK)
                .unwrap_or(0)
                * OK.len();
            let shown = &replies[start..replies.len().min(start + 120)];
            Err(std::io::Error::other(format!(
                "SET answered {:?}",
                String::from_utf8_lossy(shown)
            )))
        }
    }
}
