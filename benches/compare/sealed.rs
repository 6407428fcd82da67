//! What memory ranges do with keys that have gone cold: the memory that they take, and reading them, uniformly and by
//! Zipf's law. Redis has the same keys and the same requests; it keeps them as it keeps any.

use std::io::{Read, Write};
use std::time::Duration;

use crate::load::{self, Fill};
use crate::servers::{Quiet, Server};
use crate::wire::{self, KEY_DIGITS, Spread, VALUE_BYTES};
use crate::{Failure, measure::SETTLE_TIME_MAX};

const CONNECTIONS: usize = 16;
const PIPELINE: usize = 16;
/// `$64`, the value, and two line ends.
const REPLY: usize = 5 + VALUE_BYTES + 2;
/// An allocator gives back what was freed within ten seconds.
const DECAY: Duration = Duration::from_secs(12);
const SKEW: f64 = 0.99;

/// Which keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Uniform,
    Zipf,
}

/// Fills a server, and lets Terrace seal all of it.
pub fn fill(server: &Server, keys: u64) -> Result<(), Failure> {
    load::fill(server, Fill::Values, keys)?;
    seal(server)?;
    server.settle(Quiet::Long, SETTLE_TIME_MAX)
}

/// Seals what is resident; Redis is asked nothing.
pub fn seal(server: &Server) -> Result<(), Failure> {
    if server.label == "Terrace" {
        wire::ask(server.port, &["DEBUG", "SEAL"]).map_err(Failure::io("DEBUG SEAL"))?;
    }
    Ok(())
}

/// Waits until what was freed is given back.
pub fn decay() {
    std::thread::sleep(DECAY);
}

/// Draws keys by Zipf's law (Gray et al., "Quickly Generating Billion-Record Synthetic Databases", 1994).
struct Zipf {
    keys: f64,
    zeta: f64,
    eta: f64,
    alpha: f64,
}

impl Zipf {
    fn new(keys: u64) -> Zipf {
        let zeta = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-SKEW)).sum::<f64>();
        let of_all = zeta(keys);
        Zipf {
            keys: keys as f64,
            zeta: of_all,
            eta: (1.0 - (2.0 / keys as f64).powf(1.0 - SKEW)) / (1.0 - zeta(2) / of_all),
            alpha: 1.0 / (1.0 - SKEW),
        }
    }

    /// A rank from 0; `random` is in [0, 1).
    fn rank(&self, random: f64) -> u64 {
        let at = random * self.zeta;
        if at < 1.0 {
            return 0;
        }
        if at < 1.0 + 0.5f64.powf(SKEW) {
            return 1;
        }
        (self.keys * (self.eta * random - self.eta + 1.0).powf(self.alpha)) as u64
    }
}

/// Requests for one turn, made before it: what a generator costs must not count as a slow server.
pub fn keys_of(choice: Choice, keys: u64, requests: u64, seed: u64) -> Vec<u32> {
    let (mut spread, zipf) = (Spread(seed), Zipf::new(keys));
    let draw = |_| match choice {
        Choice::Uniform => (spread.next() % keys) as u32,
        Choice::Zipf => {
            let random = (spread.next() >> 11) as f64 / (1u64 << 53) as f64;
            // Neighbours in rank are no neighbours in key.
            (zipf.rank(random).min(keys - 1) * 7_368_787 % keys) as u32
        }
    };
    (0..requests).map(draw).collect()
}

/// Reads these keys, all of which are there, in batches over some connections.
pub fn read(server: &Server, keys: &[u32]) -> Result<(), Failure> {
    read_over_sockets(server, keys).map_err(Failure::io(format!("reading from {}", server.label)))
}

fn read_over_sockets(server: &Server, keys: &[u32]) -> std::io::Result<()> {
    let mut streams = (0..CONNECTIONS)
        .map(|_| wire::connect(server.port))
        .collect::<Result<Vec<_>, _>>()?;
    let mut request = Vec::new();
    wire::push_request(
        &mut request,
        &[b"GET", &[b"key:", &[b'0'; KEY_DIGITS][..]].concat()],
    );
    let digits_at = request.len() - 2 - KEY_DIGITS;
    let mut batch = Vec::new();
    let mut replies = vec![0; REPLY * PIPELINE];
    for round in keys.chunks(CONNECTIONS * PIPELINE) {
        for (stream, keys) in streams.iter_mut().zip(round.chunks(PIPELINE)) {
            batch.clear();
            for key in keys {
                wire::write_digits(&mut request[digits_at..][..KEY_DIGITS], u64::from(*key));
                batch.extend_from_slice(&request);
            }
            stream.write_all(&batch)?;
        }
        for (stream, keys) in streams.iter_mut().zip(round.chunks(PIPELINE)) {
            let replies = &mut replies[..REPLY * keys.len()];
            stream.read_exact(replies)?;
            if !replies.chunks(REPLY).all(|reply| reply.starts_with(b"$64\r\n")) {
                return Err(std::io::Error::other("a key is missing"));
            }
        }
    }
    Ok(())
}
