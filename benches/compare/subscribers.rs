//! Those who subscribe: what they take, what a message to many of them costs, and what a write costs whose key is
//! watched, or is not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::load::{self, FIXED_VALUE, Fill, KEYS};
use crate::measure::{Bench, Outcome, SETTLE_TIME_MAX, Turns, progress};
use crate::rows::Row;
use crate::servers::{Quiet, Server};
use crate::wire::{self, KEY_DIGITS};
use crate::{Failure, sealed};

/// Connections that watch a million keys between them.
const WATCHERS: u64 = 100;
/// Channels in one SUBSCRIBE.
const AT_ONCE: u64 = 100;
/// Messages published at once.
const BATCH: usize = 16;
/// Messages that subscribers may be behind where the publisher does not wait for them.
const AHEAD: u64 = 512;
/// One turn may not take longer.
const TURN_TIME_MAX: Duration = Duration::from_secs(120);
/// The channel and the message: 100 bytes.
const ROOM: &[u8] = b"room:000000000000";
const MESSAGE: [u8; 100] = [b'm'; 100];

/// What a client subscribes to: a prefix before twelve digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Rooms,
    /// Changes of the keys that are written.
    WrittenKeys,
    /// Changes of keys that are not.
    OtherKeys,
}

impl Names {
    fn prefix(self) -> &'static [u8] {
        match self {
            Names::Rooms => b"room:",
            Names::WrittenKeys => b"__keyspace@0__:key:",
            Names::OtherKeys => b"__keyspace@0__:off:",
        }
    }
}

/// Clients that have subscribed.
pub struct Subscribers(Vec<TcpStream>);

impl Subscribers {
    /// So many clients subscribe to so many channels each: all to the same ones, or each to its own.
    pub fn new(
        server: &Server,
        clients: u64,
        channels: u64,
        names: Names,
        shared: bool,
    ) -> Result<Subscribers, Failure> {
        let subscribe = || {
            let mut streams = Vec::new();
            for client in 0..clients {
                let first = if shared { 0 } else { client * channels };
                let mut stream = wire::connect(server.port)?;
                let mut from = first;
                while from < first + channels {
                    let to = (from + AT_ONCE).min(first + channels);
                    subscribe_to(&mut stream, names, from..to)?;
                    from = to;
                }
                streams.push(stream);
            }
            Ok(streams)
        };
        let streams = subscribe().map_err(Failure::io(format!("subscribing at {}", server.label)))?;
        Ok(Subscribers(streams))
    }

    /// A client for every ten thousand of a million keys.
    pub fn of_all_keys(server: &Server, names: Names) -> Result<Subscribers, Failure> {
        Subscribers::new(server, WATCHERS, KEYS / WATCHERS, names, false)
    }

    /// Publishes messages, and reads each at every subscriber.
    pub fn fan_out(&mut self, server: &Server, messages: u64) -> Result<(), Failure> {
        self.publish(server, messages)
            .map_err(Failure::io(format!("publishing at {}", server.label)))
    }

    fn publish(&mut self, server: &Server, messages: u64) -> std::io::Result<()> {
        let mut publisher = wire::connect(server.port)?;
        let (mut request, mut frame) = (Vec::new(), Vec::new());
        wire::push_request(&mut request, &[b"PUBLISH", ROOM, &MESSAGE]);
        wire::push_request(&mut frame, &[b"message", ROOM, &MESSAGE]);
        let batch = request.repeat(BATCH);
        let answer = format!(":{}\r\n", self.0.len()).repeat(BATCH);
        let mut replies = vec![0; answer.len()];
        let mut frames = vec![0; frame.len() * BATCH];
        for _ in 0..messages / BATCH as u64 {
            publisher.write_all(&batch)?;
            publisher.read_exact(&mut replies)?;
            if replies != answer.as_bytes() {
                return Err(std::io::Error::other("not every subscriber was reached"));
            }
            for stream in &mut self.0 {
                stream.read_exact(&mut frames)?;
                if !frames.starts_with(&frame) {
                    return Err(std::io::Error::other("another message"));
                }
            }
        }
        Ok(())
    }

    /// Reads what comes, on a thread of its own, until it is dropped.
    pub fn drain(self) -> Result<Drain, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(AtomicU64::new(0));
        let mut streams = self.0;
        for stream in &streams {
            stream
                .set_nonblocking(true)
                .map_err(Failure::io("a socket option"))?;
        }
        let (stopped, counted) = (stop.clone(), heard.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            let mut bytes = 0;
            while !stopped.load(Ordering::Relaxed) {
                let before = bytes;
                for stream in &mut streams {
                    match stream.read(&mut buffer) {
                        Ok(read) => bytes += read as u64,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        // The server is being stopped.
                        Err(_) => return bytes,
                    }
                }
                counted.store(bytes, Ordering::Relaxed);
                if bytes == before {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            bytes
        });
        Ok(Drain {
            stop,
            heard,
            thread: Some(thread),
        })
    }
}

/// Subscribers that read all that comes.
pub struct Drain {
    stop: Arc<AtomicBool>,
    /// Bytes so far.
    heard: Arc<AtomicU64>,
    thread: Option<JoinHandle<u64>>,
}

impl Drain {
    /// Publishes messages to so many subscribers and reads what the publisher is answered; the subscribers may be so
    /// many messages behind. Ends when they have all.
    fn publish(&self, server: &Server, messages: u64, subscribers: u64, ahead: u64) -> std::io::Result<()> {
        let mut publisher = wire::connect(server.port)?;
        let (mut request, mut frame) = (Vec::new(), Vec::new());
        wire::push_request(&mut request, &[b"PUBLISH", ROOM, &MESSAGE]);
        wire::push_request(&mut frame, &[b"message", ROOM, &MESSAGE]);
        let batch = request.repeat(BATCH);
        let mut replies = vec![0; format!(":{subscribers}\r\n").len() * BATCH];
        let bytes_of = |messages: u64| messages * subscribers * frame.len() as u64;
        let began = Instant::now();
        let mut sent = 0;
        while sent < messages {
            publisher.write_all(&batch)?;
            publisher.read_exact(&mut replies)?;
            sent += BATCH as u64;
            let behind = if sent < messages { ahead } else { 0 };
            while self.heard.load(Ordering::Relaxed) + bytes_of(behind) < bytes_of(sent) {
                if began.elapsed() > TURN_TIME_MAX {
                    return Err(std::io::Error::other("messages are missing"));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        Ok(())
    }

    /// Hangs up; returns how many bytes came.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        thread.and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn subscribe_to(stream: &mut TcpStream, names: Names, numbers: std::ops::Range<u64>) -> std::io::Result<()> {
    let name = |number: u64| {
        let mut name = [names.prefix(), &[b'0'; KEY_DIGITS]].concat();
        let digits_at = name.len() - KEY_DIGITS;
        wire::write_digits(&mut name[digits_at..], number);
        name
    };
    let channels: Vec<Vec<u8>> = numbers.map(name).collect();
    let mut words: Vec<&[u8]> = vec![b"SUBSCRIBE"];
    words.extend(channels.iter().map(Vec::as_slice));
    let mut request = Vec::new();
    wire::push_request(&mut request, &words);
    stream.write_all(&request)?;
    // Each confirmation has three lines of heads and two of text, and a number.
    let mut lines_left = channels.len() * 6;
    let mut buffer = [0; 16 << 10];
    while lines_left > 0 {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let lines = buffer[..read].iter().filter(|byte| **byte == b'\n').count();
        lines_left = lines_left.saturating_sub(lines);
    }
    Ok(())
}

const SET: &[&str] = &["SET", "key:__rand_int__", FIXED_VALUE];

/// SETs per second of server CPU.
pub fn sets_per_cpu(server: &Server, requests: u64) -> Result<f64, Failure> {
    server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
    let before = server.cpu()?;
    load::redis_benchmark(server, SET, 16, requests)?;
    Ok(requests as f64 / (server.cpu()? - before).as_secs_f64().max(0.01))
}

impl Bench<'_> {
    /// Messages that reach subscribers, per second of server CPU. The publisher waits until all have each batch, or
    /// goes on.
    pub fn fan_out(
        &self,
        row: &Row,
        subscribers: u64,
        messages: u64,
        waits: bool,
    ) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, None)?;
        let mut delivered = Turns::new("delivered / CPU s");
        for round in 1..=self.rounds() {
            for server in pair.each() {
                let mut all = Subscribers::new(server, subscribers, 1, Names::Rooms, true)?;
                server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
                let before = server.cpu()?;
                if waits {
                    all.fan_out(server, messages)?;
                } else {
                    let drain = all.drain()?;
                    drain
                        .publish(server, messages, subscribers, AHEAD)
                        .map_err(Failure::io(format!("publishing at {}", server.label)))?;
                }
                let used = (server.cpu()? - before).as_secs_f64().max(0.01);
                let figure = (messages * subscribers) as f64 / used;
                progress(round, server, &format!("{figure:.0} delivered per CPU second"));
                delivered.add(server, figure);
            }
        }
        Ok(Outcome {
            measures: Turns::all([delivered]),
            notes: vec![format!("{messages} messages of {} bytes per turn", MESSAGE.len())],
        })
    }

    /// Resident memory that subscriptions add, their connections included. One round, as for keys.
    pub fn memory_per_subscription(
        &self,
        row: &Row,
        (clients, channels, shared): (u64, u64, bool),
    ) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, None)?;
        let mut resident = Turns::new("resident bytes / subscription");
        for server in pair.each() {
            server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
            let before = server.resident_bytes()?;
            let _all = Subscribers::new(server, clients, channels, Names::Rooms, shared)?;
            sealed::decay();
            let after = server.resident_bytes()?;
            let figure = (after as f64 - before as f64) / (clients * channels) as f64;
            progress(1, server, &format!("{figure:.1} bytes a subscription"));
            resident.add(server, figure);
        }
        Ok(Outcome {
            measures: Turns::all([resident]),
            notes: vec![format!("{clients} clients, {channels} channels each")],
        })
    }

    /// SETs while the changes of as many other keys are subscribed to, as a share of SETs before.
    pub fn watched_elsewhere(&self, row: &Row, requests: u64) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, Some(Fill::Values))?;
        let mut share = Turns::new("share of SET unwatched");
        let mut per_cpu = Turns::new("requests / CPU s");
        for round in 1..=self.rounds() {
            for server in pair.each() {
                let before = sets_per_cpu(server, requests)?;
                let all = Subscribers::of_all_keys(server, Names::OtherKeys)?.drain()?;
                let figure = sets_per_cpu(server, requests)?;
                all.end();
                progress(
                    round,
                    server,
                    &format!("{before:.0} per CPU second, {figure:.0} watched"),
                );
                share.add(server, figure / before);
                per_cpu.add(server, figure);
            }
        }
        Ok(Outcome {
            measures: Turns::all([share, per_cpu]),
            notes: vec![format!("{requests} requests per turn")],
        })
    }

    /// SETs of keys whose every change is told to somebody.
    pub fn watched_here(&self, row: &Row, requests: u64) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, Some(Fill::Values))?;
        let mut per_cpu = Turns::new("requests / CPU s");
        let mut heard = Turns::new("bytes heard / request");
        for server in pair.each() {
            if server.label != "Terrace" {
                wire::ask(server.port, &["CONFIG", "SET", "notify-keyspace-events", "KEA"])
                    .map_err(Failure::io("CONFIG SET"))?;
            }
        }
        for round in 1..=self.rounds() {
            for server in pair.each() {
                let all = Subscribers::of_all_keys(server, Names::WrittenKeys)?.drain()?;
                let figure = sets_per_cpu(server, requests)?;
                let bytes = all.end();
                progress(
                    round,
                    server,
                    &format!("{figure:.0} per CPU second, {bytes} bytes heard"),
                );
                per_cpu.add(server, figure);
                heard.add(server, bytes as f64 / requests as f64);
            }
        }
        Ok(Outcome {
            measures: Turns::all([per_cpu, heard]),
            notes: vec![format!("{requests} requests per turn")],
        })
    }
}
