//! A load of fixed rate, to compare latencies at the same load: redis-benchmark only knows "as fast as possible",
//! where the faster server is also the busier one.
//!
//! Batches fall due at even intervals and go to 50 connections in turn; a connection has at most one batch under
//! way. A latency counts from the moment the batch was *due*, so that a stall is charged to every batch that it
//! held up, not only to the one that met it. One thread polls the sockets that owe a reply: it has a core of its
//! own, and sleeping would blur the figures by more than they differ.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::load::{CONNECTIONS, FIXED_VALUE, KEYS};
use crate::wire::{self, KEY_DIGITS, Spread, VALUE_BYTES};
use crate::{Failure, servers::Server};

/// How long replies may be outstanding after the last batch was due.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(20);

/// The requests of a paced load; keys are drawn from a filled keyspace, so every reply's length is known.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    Get,
    Set,
}

impl Request {
    fn reply_bytes(self) -> usize {
        match self {
            Request::Get => "$64\r\n\r\n".len() + VALUE_BYTES,
            Request::Set => "+OK\r\n".len(),
        }
    }
}

/// Latencies of one paced turn, in milliseconds, of whole batches: from due to the last reply's last byte.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// Requests per second that were really sent and answered.
    pub requests_per_second: f64,
}

/// Drives `server` at `rate` requests per second, `pipeline` per batch, for `time`.
pub fn drive(
    server: &Server,
    request: Request,
    pipeline: u32,
    rate: f64,
    time: Duration,
) -> Result<Latency, Failure> {
    let interval = Duration::from_secs_f64(f64::from(pipeline) / rate);
    let batches = (time.as_secs_f64() / interval.as_secs_f64()) as u32;
    Load::open(server.port, request, pipeline)
        .and_then(|load| load.run(interval, batches))
        .map(|(waits, took)| summarize(waits, f64::from(pipeline), took))
        .map_err(Failure::io(format!("{} under a paced load", server.label)))
}

/// Every latency is kept and sorted, so the quantiles are exact; `waits` are nanoseconds.
fn summarize(mut waits: Vec<u64>, pipeline: f64, took: Duration) -> Latency {
    waits.sort_unstable();
    let last = waits.len().saturating_sub(1);
    let at = |quantile: f64| {
        let index = (waits.len() as f64 * quantile) as usize;
        waits.get(index.min(last)).map_or(0.0, |&wait| wait as f64 / 1e6)
    };
    Latency {
        p50_ms: at(0.50),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        requests_per_second: waits.len() as f64 * pipeline / took.as_secs_f64(),
    }
}

struct Connection {
    stream: TcpStream,
    /// When each batch assigned to this connection was due; the front one is under way if `owed` is not 0.
    due: VecDeque<Instant>,
    /// Reply bytes still to come for the batch under way.
    owed: usize,
}

struct Load {
    connections: Vec<Connection>,
    /// One batch; the digits of its keys are drawn anew for each sending.
    batch: Vec<u8>,
    key_digits_at: Vec<usize>,
    reply_bytes: usize,
    spread: Spread,
}

impl Load {
    fn open(port: u16, request: Request, pipeline: u32) -> io::Result<Load> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = wire::connect(port)?;
            stream.set_nonblocking(true)?;
            connections.push(Connection {
                stream,
                due: VecDeque::new(),
                owed: 0,
            });
        }
        let mut batch = Vec::new();
        let mut key_digits_at = Vec::new();
        for _ in 0..pipeline {
            let key = b"key:000000000000";
            match request {
                Request::Get => wire::push_request(&mut batch, &[b"GET", key]),
                Request::Set => wire::push_request(&mut batch, &[b"SET", key, FIXED_VALUE.as_bytes()]),
            }
            let behind_key = match request {
                Request::Get => "\r\n".len(),
                Request::Set => "\r\n$64\r\n\r\n".len() + VALUE_BYTES,
            };
            key_digits_at.push(batch.len() - behind_key - KEY_DIGITS);
        }
        let reply_bytes = request.reply_bytes() * pipeline as usize;
        Ok(Load {
            connections,
            batch,
            key_digits_at,
            reply_bytes,
            spread: Spread(1),
        })
    }

    /// Sends all batches and collects all replies. Returns the latencies in nanoseconds and the time it took.
    fn run(mut self, interval: Duration, batches: u32) -> io::Result<(Vec<u64>, Duration)> {
        let mut waits = Vec::with_capacity(batches as usize);
        let begin = Instant::now();
        let end_max = begin + interval * batches + DRAIN_TIME_MAX;
        let mut issued = 0;
        // Connections with a batch under way, by index.
        let mut busy: Vec<usize> = Vec::with_capacity(self.connections.len());
        while waits.len() < batches as usize {
            let now = Instant::now();
            if now > end_max {
                return Err(ErrorKind::TimedOut.into());
            }
            while issued < batches && begin + interval * issued <= now {
                let index = issued as usize % self.connections.len();
                self.connections[index].due.push_back(begin + interval * issued);
                if self.connections[index].owed == 0 {
                    self.send(index)?;
                    busy.push(index);
                }
                issued += 1;
            }
            let mut place = 0;
            while place < busy.len() {
                let index = busy[place];
                if self.receive(index, &mut waits)? && self.connections[index].owed == 0 {
                    busy.swap_remove(place);
                } else {
                    place += 1;
                }
            }
        }
        Ok((waits, begin.elapsed()))
    }

    /// Sends the next batch of a connection that owes nothing.
    fn send(&mut self, index: usize) -> io::Result<()> {
        for &at in &self.key_digits_at {
            let number = self.spread.next() % KEYS;
            wire::write_digits(&mut self.batch[at..][..KEY_DIGITS], number);
        }
        let connection = &mut self.connections[index];
        connection.owed = self.reply_bytes;
        // With nothing else under way a batch of a few kilobytes fits into the socket's buffer: one write.
        let written = connection.stream.write(&self.batch)?;
        match written == self.batch.len() {
            true => Ok(()),
            false => Err(io::Error::other("a batch did not fit into the socket's buffer")),
        }
    }

    /// Reads what has come. True if that ended the batch under way; then the next one that is due was sent.
    fn receive(&mut self, index: usize, waits: &mut Vec<u64>) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let connection = &mut self.connections[index];
        let count = match connection.stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let untouched = connection.owed == self.reply_bytes;
        if (untouched && buffer[0] == b'-') || count > connection.owed {
            let shown = String::from_utf8_lossy(&buffer[..count.min(120)]).into_owned();
            return Err(io::Error::other(format!("unexpected reply {shown:?}")));
        }
        connection.owed -= count;
        if connection.owed > 0 {
            return Ok(false);
        }
        // `due` has a front: it was pushed before this batch was sent, and only this line takes it away.
        if let Some(due) = connection.due.pop_front() {
            waits.push(due.elapsed().as_nanos() as u64);
        }
        if !connection.due.is_empty() {
            self.send(index)?;
        }
        Ok(true)
    }
}
