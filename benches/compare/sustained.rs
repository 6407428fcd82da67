//! Writing for a long time, as an application does: some keys much more often than others (Zipf's law), until journal,
//! flushes, compactions and rewrites have all been at work. What they leave behind counts as well.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::load::{self, Fill};
use crate::measure::{Bench, Outcome, SETTLE_TIME_MAX, Turns, progress};
use crate::rows::Row;
use crate::sealed::{self, Choice};
use crate::servers::{Quiet, Server};
use crate::wire::{self, KEY_DIGITS, Spread, VALUE_BYTES};

const CONNECTIONS: usize = 16;
const PIPELINE: usize = 16;
const REPLY: &[u8] = b"+OK\r\n";
/// Keys drawn before a turn; it goes over them again and again.
const DRAWN: u64 = 4_000_000;

/// What one turn gave.
struct Written {
    requests: u64,
    seconds: f64,
    /// Of batches, from sending to the last reply, in milliseconds: the 99th and 99.9th of a hundred, and the longest.
    waits: [f64; 3],
}

impl Bench<'_> {
    pub fn sustained_set(&self, row: &Row, keys: u64, seconds: u64) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, None)?;
        for server in pair.each() {
            load::fill(server, Fill::Values, keys)?;
        }
        let mut per_cpu = Turns::new("requests / CPU s");
        let mut rate = Turns::new("requests / s");
        let mut p99 = Turns::new("p99 ms, full speed");
        let mut p999 = Turns::new("p99.9 ms");
        let mut longest = Turns::new("longest ms");
        for round in 1..=self.rounds() {
            let wanted = sealed::keys_of(Choice::Zipf, keys, DRAWN, round as u64);
            for server in pair.each() {
                server.settle(Quiet::Long, SETTLE_TIME_MAX)?;
                let before = server.cpu()?;
                let written = write(server, &wanted, Duration::from_secs(seconds))
                    .map_err(Failure::io(format!("writing to {}", server.label)))?;
                server.settle(Quiet::Long, SETTLE_TIME_MAX)?;
                let used = (server.cpu()? - before).as_secs_f64().max(0.01);
                let figure = written.requests as f64 / used;
                progress(
                    round,
                    server,
                    &format!("{figure:.0} per CPU second, p99.9 {:.1} ms", written.waits[1]),
                );
                per_cpu.add(server, figure);
                rate.add(server, written.requests as f64 / written.seconds);
                p99.add(server, written.waits[0]);
                p999.add(server, written.waits[1]);
                longest.add(server, written.waits[2]);
            }
        }
        Ok(Outcome {
            measures: Turns::all([per_cpu, rate, p99, p999, longest]),
            notes: vec![
                format!(
                    "{seconds} s per turn, {keys} keys, {CONNECTIONS} connections, batches of {PIPELINE}"
                ),
                "Terrace's p99.9 is to stay under 20 ms".to_owned(),
            ],
        })
    }
}

fn write(server: &Server, keys: &[u32], time: Duration) -> std::io::Result<Written> {
    let mut streams = (0..CONNECTIONS)
        .map(|_| wire::connect(server.port))
        .collect::<Result<Vec<_>, _>>()?;
    let mut request = Vec::new();
    let key = [b"key:", &[b'0'; KEY_DIGITS][..]].concat();
    wire::push_request(&mut request, &[b"SET", &key, &[b'v'; VALUE_BYTES]]);
    let value_at = request.len() - 2 - VALUE_BYTES;
    let key_digits_at = value_at - b"\r\n$64\r\n".len() - KEY_DIGITS;
    let (mut batch, mut replies) = (Vec::new(), [0; REPLY.len() * PIPELINE]);
    let (mut waits, mut spread) = (Vec::new(), Spread(keys.len() as u64));
    let begin = Instant::now();
    let mut sent = [begin; CONNECTIONS];
    let rounds = keys.chunks_exact(CONNECTIONS * PIPELINE).cycle();
    for round in rounds.take_while(|_| begin.elapsed() < time) {
        for ((stream, keys), sent) in streams.iter_mut().zip(round.chunks(PIPELINE)).zip(&mut sent) {
            batch.clear();
            for key in keys {
                wire::write_digits(&mut request[key_digits_at..][..KEY_DIGITS], u64::from(*key));
                spread.fill_text(&mut request[value_at..][..VALUE_BYTES]);
                batch.extend_from_slice(&request);
            }
            *sent = Instant::now();
            stream.write_all(&batch)?;
        }
        for (stream, sent) in streams.iter_mut().zip(&sent) {
            stream.read_exact(&mut replies)?;
            waits.push(sent.elapsed().as_micros() as u32);
            if !replies.chunks(REPLY.len()).all(|reply| reply == REPLY) {
                return Err(std::io::Error::other("a write was refused"));
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    waits.sort_unstable();
    let at = |of_thousand: usize| {
        let index = (waits.len() * of_thousand / 1000).min(waits.len().saturating_sub(1));
        waits.get(index).map_or(0.0, |wait| f64::from(*wait) / 1e3)
    };
    Ok(Written {
        requests: (waits.len() * PIPELINE) as u64,
        seconds,
        waits: [at(990), at(999), at(1000)],
    })
}
