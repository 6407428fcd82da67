//! Carries out one row: starts both servers, prepares them alike, measures in turns, and hands back the figures.
//! Turns alternate (Terrace, Redis, Terrace, …), so that whatever else the machine does meets both; the server
//! whose turn it is not is idle, since it shares the core.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::collections::{self, Collections};
use crate::load::{self, Fill, KEYS};
use crate::options::Options;
use crate::paced::{self, Request};
use crate::rows::{self, Row, Tier, Upkeep, Work};
use crate::sealed::{self, Choice};
use crate::servers::{Quiet, Server};
use crate::subscribers::sets_per_cpu;
use crate::{Failure, wire};

/// Longest wait for a server to become idle, between turns and after a sustained load.
pub const SETTLE_TIME_MAX: Duration = Duration::from_secs(60);
/// The paced load, as a share of what Redis does at full speed in the same row.
const PACED_SHARE: f64 = 0.6;
/// How long one paced turn lasts, and how many there are for each round of the other rows: a p99 strays more than
/// a throughput, so many short turns and their median serve it better than few long ones.
const PACED_TIME: Duration = Duration::from_secs(2);
const PACED_TURNS_PER_ROUND: usize = 3;
const RULED_TURNS_PER_ROUND: usize = 5;
/// Of a user whom they slow down, or not.
const RULES: usize = 100;
/// Requests of the short turns that a round of throughput is cut into, and how many there are at most: the machine's
/// speed changes within seconds, so both servers take turns as quickly as the clock of a process allows.
const SLICE: u64 = 200_000;
const SLICES_MOST: u64 = 5;
/// While a backup is made its p99 is taken anew for every such time.
const BACKUP_WINDOW: Duration = Duration::from_secs(1);
/// A paced turn that reached less than this share of its rate is a figure of the load, not of the server.
const PACED_RATE_MIN: f64 = 0.97;

/// One figure of a row: what it is, and what each turn gave.
#[derive(Debug)]
pub struct Measure {
    pub label: &'static str,
    pub terrace: Vec<f64>,
    pub redis: Vec<f64>,
}

/// What came out of a row. The first measure is the one that the bar judges.
#[derive(Debug)]
pub struct Outcome {
    pub measures: Vec<Measure>,
    pub notes: Vec<String>,
}

/// Both servers of a row; every step is done to each.
pub struct Pair {
    terrace: Server,
    redis: Server,
}

impl Pair {
    pub fn each(&self) -> [&Server; 2] {
        [&self.terrace, &self.redis]
    }
}

/// Runs rows, each in fresh folders under one of its own, which goes with it.
pub struct Bench<'a> {
    options: &'a Options,
    root: PathBuf,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl<'a> Bench<'a> {
    pub fn new(options: &'a Options) -> Result<Bench<'a>, Failure> {
        let root = std::env::temp_dir().join(format!("terrace-compare-{}", std::process::id()));
        fs::create_dir_all(&root).map_err(Failure::io(format!("creating {}", root.display())))?;
        Ok(Bench { options, root })
    }

    /// Measures one row; its servers are gone and its files removed afterwards.
    pub fn measure(&self, row: &Row) -> Result<Outcome, Failure> {
        let outcome = match row.work {
            Work::Throughput { .. } => self.throughput(row),
            Work::Latency { request, pipeline } => self.latency(row, request, pipeline),
            Work::MemoryPerKey => self.memory_per_key(row),
            Work::MemoryPerSealedKey { keys } => self.memory_per_sealed_key(row, self.options.scaled(keys)),
            Work::ColdGet {
                keys,
                choice,
                requests,
            } => {
                let requests = self.options.requests.unwrap_or(self.options.scaled(requests));
                // How much is away from memory follows from the limit of memory, which does not shrink.
                let keys = match row.tier {
                    Tier::Sealed => self.options.scaled(keys),
                    _ => keys,
                };
                self.cold_get(row, keys, choice, requests)
            }
            Work::SustainedSet { keys, seconds } => {
                self.sustained_set(row, self.options.scaled(keys), self.options.scaled(seconds))
            }
            Work::Ruled { requests } => self.ruled(
                row,
                self.options.requests.unwrap_or(self.options.scaled(requests)),
            ),
            Work::MemoryPerElement(collections) => self.memory_per_element(row, collections),
            Work::CleanStart { keys } => {
                let keys = self.options.scaled(keys);
                self.clean_start(row, |server| {
                    load::fill(server, Fill::Values, keys)?;
                    Ok(keys)
                })
            }
            Work::MixedStart { bytes } => {
                let bytes = self.options.scaled(bytes);
                self.clean_start(row, |server| collections::fill_mixed(server, bytes))
            }
            Work::Replay { records } => self.replay(row, self.options.scaled(records)),
            Work::Backup { bytes } => self.backup(row, self.options.scaled(bytes)),
            Work::FanOut {
                subscribers,
                messages,
                waits,
            } => self.fan_out(row, subscribers, self.options.scaled(messages), waits),
            Work::MemoryPerSubscription {
                clients,
                channels,
                shared,
            } => self.memory_per_subscription(row, (clients, channels, shared)),
            Work::WatchedElsewhere { requests } => self.watched_elsewhere(
                row,
                self.options.requests.unwrap_or(self.options.scaled(requests)),
            ),
            Work::WatchedHere { requests } => self.watched_here(
                row,
                self.options.requests.unwrap_or(self.options.scaled(requests)),
            ),
        };
        for label in ["terrace", "redis", "backups"] {
            let _ = fs::remove_dir_all(self.root.join(label));
        }
        outcome
    }

    /// Turns per server.
    pub fn rounds(&self) -> usize {
        self.options.rounds
    }

    fn start_terrace(&self, row: &Row) -> Result<Server, Failure> {
        let mut arguments = own(row.tier.arguments());
        arguments.extend(self.options.server_args.iter().cloned());
        if self.options.noise {
            arguments = own(row.against.arguments());
        }
        Server::start(
            "Terrace",
            &self.options.terrace,
            &self.root.join("terrace"),
            &arguments,
            row.work.cores(),
        )
    }

    fn start_redis(&self, row: &Row) -> Result<Server, Failure> {
        let arguments = own(row.against.arguments());
        Server::start(
            "Redis",
            &self.options.redis,
            &self.root.join("redis"),
            &arguments,
            row.work.cores(),
        )
    }

    /// Both servers, started, and filled one after the other.
    pub fn start_pair(&self, row: &Row, fill: Option<Fill>) -> Result<Pair, Failure> {
        let pair = Pair {
            terrace: self.start_terrace(row)?,
            redis: self.start_redis(row)?,
        };
        if let Some(fill) = fill {
            for server in pair.each() {
                load::fill(server, fill, KEYS)?;
                server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
            }
        }
        Ok(pair)
    }

    fn throughput(&self, row: &Row) -> Result<Outcome, Failure> {
        let Work::Throughput {
            fill,
            upkeep,
            command,
            pipeline,
            requests,
            aftermath,
        } = row.work
        else {
            return Err(Failure::Unusable("not a throughput row".to_owned()));
        };
        let requests = self.options.requests.unwrap_or(self.options.scaled(requests));
        // What is to be seen in the aftermath takes a whole turn.
        let slices = if aftermath {
            1
        } else {
            (requests / SLICE).clamp(1, SLICES_MOST)
        };
        let requests = requests / slices;
        let pair = self.start_pair(row, (upkeep == Upkeep::None).then_some(fill))?;
        let written_before = pair.each().map(Server::written_bytes);
        let mut per_cpu = Turns::new("requests / CPU s");
        let mut rate = Turns::new("requests / s");
        let mut p99 = Turns::new("p99 ms, full speed");
        let mut busy = Turns::new("server CPU s");
        for round in 1..=self.options.rounds * slices as usize {
            for server in pair.each() {
                renew(server, fill, upkeep, requests)?;
                server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
                let before = server.cpu()?;
                let result = match command {
                    rows::MULTI_OF_TEN => load::transactions(server, requests)?,
                    command => load::redis_benchmark(server, command, pipeline, requests)?,
                };
                if aftermath {
                    server.settle(Quiet::Long, SETTLE_TIME_MAX)?;
                }
                let used = (server.cpu()? - before).as_secs_f64().max(0.01);
                progress(
                    round,
                    server,
                    &format!(
                        "{:.0} requests/s, {:.0} per CPU second, p99 {} ms",
                        result.requests_per_second,
                        requests as f64 / used,
                        result.p99_ms
                    ),
                );
                per_cpu.add(server, requests as f64 / used);
                rate.add(server, result.requests_per_second);
                p99.add(server, result.p99_ms);
                busy.add(server, used);
            }
        }
        let mut notes = vec![format!("{requests} requests per turn")];
        if aftermath {
            notes.push(written_note(&pair, written_before));
        }
        Ok(Outcome {
            measures: Turns::all([per_cpu, rate, p99, busy]),
            notes,
        })
    }

    fn latency(&self, row: &Row, request: Request, pipeline: u32) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, Some(Fill::Values))?;
        let rate = self.paced_rate(&pair.redis, request, pipeline)?;
        let time = if self.options.quick {
            PACED_TIME / 2
        } else {
            PACED_TIME
        };
        let turns = self.options.rounds * PACED_TURNS_PER_ROUND;
        let mut p99 = Turns::new("p99 ms");
        let mut p50 = Turns::new("p50 ms");
        let mut p999 = Turns::new("p99.9 ms");
        let mut notes = vec![format!(
            "{rate:.0} requests/s, batches of {pipeline}, for {} s",
            time.as_secs()
        )];
        for turn in 1..=turns {
            for server in pair.each() {
                server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
                let result = paced::drive(server, request, pipeline, rate, time)?;
                progress(
                    turn,
                    server,
                    &format!(
                        "p50 {:.3}, p99 {:.3}, p99.9 {:.3} ms",
                        result.p50_ms, result.p99_ms, result.p999_ms
                    ),
                );
                if result.requests_per_second < rate * PACED_RATE_MIN {
                    notes.push(format!(
                        "{} in turn {turn} was given only {:.0} requests/s",
                        server.label, result.requests_per_second
                    ));
                }
                p99.add(server, result.p99_ms);
                p50.add(server, result.p50_ms);
                p999.add(server, result.p999_ms);
            }
        }
        Ok(Outcome {
            measures: Turns::all([p99, p50, p999]),
            notes,
        })
    }

    /// A share of what Redis does at full speed with the same requests.
    fn paced_rate(&self, redis: &Server, request: Request, pipeline: u32) -> Result<f64, Failure> {
        let command: &[&str] = match request {
            Request::Get => &["GET", "key:__rand_int__"],
            Request::Set => &["SET", "key:__rand_int__", load::FIXED_VALUE],
        };
        let requests = if pipeline == 1 { 150_000 } else { 1_000_000 };
        let full = load::redis_benchmark(redis, command, pipeline, requests)?;
        Ok(full.requests_per_second * PACED_SHARE)
    }

    /// One round: filling is not a matter of chance, and a second filling would find another heap.
    fn memory_per_key(&self, row: &Row) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, None)?;
        let mut resident = Turns::new("resident bytes / key");
        let mut reported = Turns::new("used_memory bytes / key");
        let mut notes = vec![format!("{KEYS} keys of 16 bytes, values of 64 bytes")];
        for server in pair.each() {
            server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
            let resident_before = server.resident_bytes()?;
            let used_before = server.info_number("memory", "used_memory");
            load::fill(server, Fill::Values, KEYS)?;
            server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
            let per_key = |after: u64, before: u64| (after as f64 - before as f64) / KEYS as f64;
            let resident_after = server.resident_bytes()?;
            resident.add(server, per_key(resident_after, resident_before));
            notes.push(format!(
                "{}: {:.1} MB resident before, {:.1} MB after",
                server.label,
                resident_before as f64 / 1e6,
                resident_after as f64 / 1e6
            ));
            let used_after = server.info_number("memory", "used_memory");
            if let (Some(before), Some(after)) = (used_before, used_after) {
                reported.add(server, per_key(after, before));
            }
        }
        Ok(Outcome {
            measures: Turns::all([resident, reported]),
            notes,
        })
    }

    /// One round, as for keys.
    fn memory_per_sealed_key(&self, row: &Row, keys: u64) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, None)?;
        let mut resident = Turns::new("resident bytes / key");
        for server in pair.each() {
            server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
            let before = server.resident_bytes()?;
            sealed::fill(server, keys)?;
            sealed::decay();
            let after = server.resident_bytes()?;
            resident.add(server, (after as f64 - before as f64) / keys as f64);
        }
        Ok(Outcome {
            measures: Turns::all([resident]),
            notes: vec![format!("{keys} keys of 16 bytes, values of 64 bytes")],
        })
    }

    /// SETs by a user with many rules, as a share of SETs by one who may do all.
    fn ruled(&self, row: &Row, requests: u64) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, Some(Fill::Values))?;
        let mut share = Turns::new("share of SET without rules");
        for round in 1..=self.options.rounds * RULED_TURNS_PER_ROUND {
            for server in pair.each() {
                let free = sets_per_cpu(server, requests)?;
                rule(server, true)?;
                let ruled = sets_per_cpu(server, requests)?;
                rule(server, false)?;
                progress(
                    round,
                    server,
                    &format!("{free:.0} per CPU second, {ruled:.0} ruled"),
                );
                share.add(server, ruled / free);
            }
        }
        Ok(Outcome {
            measures: Turns::all([share]),
            notes: vec![format!("{requests} requests per turn")],
        })
    }

    fn cold_get(&self, row: &Row, keys: u64, choice: Choice, requests: u64) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, None)?;
        let mut per_cpu = Turns::new("requests / CPU s");
        let is_sealed = matches!(row.tier, Tier::Sealed);
        for server in pair.each() {
            load::fill(server, Fill::Values, keys)?;
            if is_sealed {
                sealed::seal(server)?;
            }
            server.settle(Quiet::Long, SETTLE_TIME_MAX)?;
        }
        for round in 1..=self.options.rounds {
            let wanted = sealed::keys_of(choice, keys, requests, round as u64);
            for server in pair.each() {
                if choice == Choice::Uniform && is_sealed {
                    // What the round before has loaded.
                    sealed::seal(server)?;
                }
                server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
                let before = server.cpu()?;
                sealed::read(server, &wanted)?;
                let used = (server.cpu()? - before).as_secs_f64().max(0.01);
                let figure = requests as f64 / used;
                progress(round, server, &format!("{figure:.0} per CPU second"));
                per_cpu.add(server, figure);
            }
        }
        Ok(Outcome {
            measures: Turns::all([per_cpu]),
            notes: vec![format!("{requests} requests per turn, {keys} keys")],
        })
    }

    /// One round, as for keys.
    fn memory_per_element(&self, row: &Row, collections: Collections) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, None)?;
        let mut reported = Turns::new("used_memory bytes / element");
        let mut resident = Turns::new("resident bytes / element");
        let elements = (collections.keys * collections.elements) as f64;
        for server in pair.each() {
            let used = || {
                server.info_number("memory", "used_memory").ok_or_else(|| {
                    Failure::Unusable(format!("{} does not say what memory it uses", server.label))
                })
            };
            server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
            let (resident_before, used_before) = (server.resident_bytes()?, used()?);
            collections::fill(server, collections)?;
            server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
            let per_element = |after: u64, before: u64| (after as f64 - before as f64) / elements;
            reported.add(server, per_element(used()?, used_before));
            resident.add(server, per_element(server.resident_bytes()?, resident_before));
        }
        Ok(Outcome {
            measures: Turns::all([reported, resident]),
            notes: vec![format!(
                "{} of {} elements of 20 bytes",
                collections.keys, collections.elements
            )],
        })
    }

    /// One round per server: what the second start after the same stop would measure is the page cache.
    fn clean_start(
        &self,
        row: &Row,
        fill: impl Fn(&Server) -> Result<u64, Failure>,
    ) -> Result<Outcome, Failure> {
        let mut ready = Turns::new("s to first GET");
        let mut stop = Turns::new("s to stop");
        let mut notes = Vec::new();
        for start in [Self::start_terrace, Self::start_redis] {
            let server = start(self, row)?;
            let keys = fill(&server)?;
            server.settle(Quiet::Long, SETTLE_TIME_MAX)?;
            let stop_seconds = server.terminate()?.as_secs_f64();
            let server = start(self, row)?;
            expect_some_value(&server)?;
            ready.add(&server, server.started.elapsed().as_secs_f64());
            stop.add(&server, stop_seconds);
            expect_size(&server, keys)?;
            notes.push(format!("{}: {keys} keys", server.label));
            notes.extend(startup_lines(&server));
        }
        Ok(Outcome {
            measures: Turns::all([ready, stop]),
            notes,
        })
    }

    /// Terrace beside itself: what stands in the other server's column is the same load without a backup.
    fn backup(&self, row: &Row, bytes: u64) -> Result<Outcome, Failure> {
        let pair = self.start_pair(row, None)?;
        load::fill(&pair.redis, Fill::Values, KEYS)?;
        let rate = self.paced_rate(&pair.redis, Request::Get, 16)?;
        let server = &pair.terrace;
        // Its strings are the keys that are asked for.
        collections::fill_mixed(server, bytes)?;
        server.settle(Quiet::Long, SETTLE_TIME_MAX)?;
        let folder = self.root.join("backups");
        let figures = ["p99 ms, and idle", "p50 ms, and idle", "p99.9 ms, and idle"];
        let mut measures = figures.map(|label| Turns::new(label).0);
        let mut notes = vec![format!(
            "{rate:.0} requests/s, batches of 16; both columns are Terrace"
        )];
        // The first turn of a kind brings in what the other one then finds.
        paced::drive(server, Request::Get, 16, rate, PACED_TIME)?;
        for round in 1..=self.options.rounds {
            server.settle(Quiet::Long, SETTLE_TIME_MAX)?;
            let idle = paced::drive(server, Request::Get, 16, rate, PACED_TIME)?;
            server.settle(Quiet::Short, SETTLE_TIME_MAX)?;
            // All of it anew: a second backup into the same folder would have little to do.
            let _ = fs::remove_dir_all(&folder);
            let began = Instant::now();
            wire::ask(server.port, &["BACKUP", "TO", &folder.to_string_lossy()])
                .map_err(Failure::io("BACKUP TO"))?;
            let mut worst: Option<paced::Latency> = None;
            let mut windows = 0;
            while windows == 0 || is_backing_up(server) {
                let found = paced::drive(server, Request::Get, 16, rate, BACKUP_WINDOW)?;
                if worst.is_none_or(|worst| found.p99_ms > worst.p99_ms) {
                    worst = Some(found);
                }
                windows += 1;
            }
            let Some(during) = worst else { continue };
            let took = began.elapsed().as_secs_f64();
            let lines = server.log_lines_with(&["backup:"]);
            notes.extend(lines.last().map(|line| format!("round {round}: {line}")));
            notes.push(format!(
                "round {round}: {windows} windows of {BACKUP_WINDOW:?} in {took:.1} s, the worst of them counts"
            ));
            let pairs = [
                (during.p99_ms, idle.p99_ms),
                (during.p50_ms, idle.p50_ms),
                (during.p999_ms, idle.p999_ms),
            ];
            for (measure, (during, idle)) in measures.iter_mut().zip(pairs) {
                measure.terrace.push(during);
                measure.redis.push(idle);
            }
            progress(
                round,
                server,
                &format!("p99 {:.3} ms, idle {:.3} ms", during.p99_ms, idle.p99_ms),
            );
        }
        Ok(Outcome {
            measures: measures.into(),
            notes,
        })
    }

    fn replay(&self, row: &Row, records: u64) -> Result<Outcome, Failure> {
        let mut speed = Turns::new("records / s");
        let mut seconds = Turns::new("s to first PONG");
        let mut notes = vec![format!("{records} records, one SET each")];
        for start in [Self::start_terrace, Self::start_redis] {
            let server = start(self, row)?;
            load::fill(&server, Fill::Values, records)?;
            server.settle(Quiet::Long, SETTLE_TIME_MAX)?;
            server.crash();
            let server = start(self, row)?;
            let took = server.started.elapsed().as_secs_f64();
            speed.add(&server, records as f64 / took);
            seconds.add(&server, took);
            expect_size(&server, records)?;
            notes.extend(startup_lines(&server));
        }
        if matches!(row.tier, Tier::DurableJournalOnly) {
            notes.push("the whole start counts, from exec on".to_owned());
        }
        Ok(Outcome {
            measures: Turns::all([speed, seconds]),
            notes,
        })
    }
}

/// What `BACKUP STATUS` is asked for: INFO has it as fields.
fn is_backing_up(server: &Server) -> bool {
    server.info_number("persistence", "backup_in_progress") == Some(1)
}

/// Collects one figure per turn for each server.
pub struct Turns(Measure);

impl Turns {
    pub fn new(label: &'static str) -> Turns {
        Turns(Measure {
            label,
            terrace: Vec::new(),
            redis: Vec::new(),
        })
    }

    pub fn add(&mut self, server: &Server, figure: f64) {
        match server.label {
            "Terrace" => self.0.terrace.push(figure),
            _ => self.0.redis.push(figure),
        }
    }

    /// The measures, without those that a server did not report.
    pub fn all<const N: usize>(turns: [Turns; N]) -> Vec<Measure> {
        let both = |measure: &Measure| !measure.terrace.is_empty() && !measure.redis.is_empty();
        turns.into_iter().map(|turns| turns.0).filter(both).collect()
    }
}

/// Brings a server to where every turn of a row begins.
fn renew(server: &Server, fill: Fill, upkeep: Upkeep, requests: u64) -> Result<(), Failure> {
    if upkeep == Upkeep::None {
        return Ok(());
    }
    wire::ask(server.port, &["FLUSHALL"]).map_err(Failure::io("FLUSHALL"))?;
    match (upkeep, fill) {
        (Upkeep::Refill, Fill::Collections(collections)) => {
            let elements = requests;
            collections::fill(
                server,
                Collections {
                    elements,
                    ..collections
                },
            )
        }
        _ => Ok(()),
    }
}

fn own(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

pub fn progress(round: usize, server: &Server, what: &str) {
    eprintln!("    {round} {:8} {what}", server.label);
}

/// How much each server wrote to the disk, which tells whether flushes and compactions are in the figure.
fn written_note(pair: &Pair, before: [Option<u64>; 2]) -> String {
    let mut parts = Vec::new();
    for (server, before) in pair.each().into_iter().zip(before) {
        if let (Some(before), Some(after)) = (before, server.written_bytes()) {
            parts.push(format!(
                "{} {:.0} MB",
                server.label,
                after.saturating_sub(before) as f64 / 1e6
            ));
        }
    }
    format!("written to disk over all turns: {}", parts.join(", "))
}

fn expect_some_value(server: &Server) -> Result<(), Failure> {
    match wire::ask(server.port, &["GET", "key:000000000042"]) {
        Ok(Some(value)) if value.len() == wire::VALUE_BYTES => Ok(()),
        other => Err(Failure::Unusable(format!(
            "{}: GET after the start: {other:?}",
            server.label
        ))),
    }
}

fn expect_size(server: &Server, keys: u64) -> Result<(), Failure> {
    match wire::ask(server.port, &["DBSIZE"]) {
        Ok(Some(size)) if size == keys.to_string() => Ok(()),
        other => Err(Failure::Unusable(format!(
            "{}: DBSIZE after the start should be {keys}: {other:?}",
            server.label
        ))),
    }
}

/// What the server itself logged about its start.
fn startup_lines(server: &Server) -> Vec<String> {
    let lines = server.log_lines_with(&["replay", "recover", "db loaded"]);
    lines
        .into_iter()
        .take(3)
        .map(|line| format!("{} logged: {line}", server.label))
        .collect()
}

/// Gives everybody's user a hundred rules, or lets it do all.
fn rule(server: &Server, ruled: bool) -> Result<(), Failure> {
    let mut words: Vec<String> = "ACL SETUSER default reset on nopass"
        .split(' ')
        .map(String::from)
        .collect();
    if ruled {
        let patterns = (0..RULES / 2).map(|at| format!("~app{at}:*"));
        let commands = "get set del expire hset hget lpush rpop sadd zadd incr decr append strlen mget mset ttl pttl persist \
                        exists type touch unlink hdel hlen hkeys hvals hgetall llen lrange lindex lset ltrim lrem srem scard \
                        smembers sismember spop zrem zcard zscore zrank zrange zcount xadd xlen xrange setex getset";
        let commands: Vec<&str> = commands.split_whitespace().collect();
        words.extend(patterns);
        words.extend(["~key:*", "&*", "+@connection", "+acl", "+info", "+config"].map(String::from));
        words.extend((0..RULES / 2).map(|at| format!("+{}", commands[at % commands.len()])));
    } else {
        words.extend(["~*", "&*", "+@all"].map(String::from));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    wire::ask(server.port, &words).map_err(Failure::io("ACL SETUSER"))?;
    Ok(())
}
