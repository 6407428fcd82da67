//! The server dies at each step of flush, roll, trim and recovery, and at random moments; what it comes back with is
//! compared, key by key, with a plain model.
//!
//! One connection runs random commands with `appendfsync always` in three databases and applies each to the model when
//! its reply is there. So after a crash the state is known but for the one command in flight, which happened or did
//! not. Values, expiries, `DBSIZE` and the counts of the range must all be of the same one of these two states.
//!
//! Where the server dies is said by `FAILPOINTS` in its environment: see `crash_point` in the journal.
//! Collections that are paged have a test of their own (`crash_points/paged.rs`).
//!
//! `TERRACE_CRASH_ROUNDS` sets how often each test does its work. `TERRACE_SEED` repeats the commands of a failed
//! case; what runs in the background beside them, nothing can repeat.

mod common;
#[path = "crash_points/model.rs"]
mod model;
#[path = "crash_points/paged.rs"]
mod paged;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use common::{Conn, Server, Value, show};
use fastrand::Rng;
use model::{Counts, DATABASES, Found, KEYS, Model, Op, agrees, expiry_of, name};

/// The smallest sizes that there are: a few hundred commands cross all of them.
const SMALLEST: &[&str] = &[
    "--appendfsync",
    "always",
    "--journal-flush-size",
    "64kb",
    "--flush-dirty-size",
    "64kb",
    "--journal-segment-size",
    "64kb",
];
/// Every one must be reached within `COMMANDS_MAX` commands, else the test is none.
const POINTS: &[&str] = &[
    "flush-before-ingest",
    "flush-after-ingest",
    "flush-before-trim",
    "roll-before-create",
    "wipe-before-ingest",
    "wipe-after-ingest",
    "segment-before-rename",
    "trim-before-remove",
];
const RECOVERY_POINT: &str = "recover-before-open";
const PASSES_MAX: u64 = 3;
const COMMANDS_MAX: usize = 3000;
/// Commands kept for the report of a failure.
const REMEMBERED: usize = 40;

#[test]
fn a_crash_at_any_point_keeps_what_was_acknowledged() {
    for (point, passes) in (0..rounds()).flat_map(|_| cases()) {
        let mut run = Run::new(&format!("{point} after {passes} passes"));
        run.work(300);
        run.kill_and_compare();
        if run.restart_with(point, passes) {
            run.work(COMMANDS_MAX);
        }
        assert!(run.server_died, "{run}: never reached");
        run.restart_and_compare();
        run.go_on_in_order();
    }
}

#[test]
fn a_crash_in_recovery_leaves_it_repeatable() {
    for round in 0..4 * rounds() {
        let mut run = Run::new(&format!("{RECOVERY_POINT} {round}"));
        // A flush cut short is what makes a replay interesting.
        let points = [
            "flush-after-ingest",
            "wipe-after-ingest",
            "flush-before-trim",
            "wipe-before-ingest",
        ];
        run.work(200);
        run.kill_and_compare();
        if run.restart_with(points[round % 4], 1) {
            run.work(COMMANDS_MAX);
        }
        assert!(!run.restart_with(RECOVERY_POINT, 0), "{run}: never reached");
        run.restart_and_compare();
        run.go_on_in_order();
    }
}

/// Crash upon crash on one data folder, some of them in what the one before left behind.
#[test]
fn crashes_in_a_row_add_nothing_up() {
    for _ in 0..3 * rounds() {
        let mut run = Run::new("crashes in a row");
        for _ in 0..8 {
            let point = POINTS[run.rng.usize(..POINTS.len())];
            let passes = run.rng.u64(..6);
            if run.restart_with(point, passes) {
                // Not compared first: reading everything would leave nothing cold.
                let commands = run.rng.usize(50..800);
                if run.settle_in_flight() {
                    run.work(commands);
                }
            }
            run.server.kill();
        }
        run.restart_and_compare();
        run.go_on_in_order();
    }
}

#[test]
fn a_kill_at_any_moment_keeps_what_was_acknowledged() {
    let mut run = Run::new("kill");
    for _ in 0..10 * rounds() {
        let commands = run.rng.usize(20..700);
        run.work_until_killed(commands);
        run.restart_and_compare();
    }
    run.go_on_in_order();
}

/// Every point, reached for the first time and later.
fn cases() -> impl Iterator<Item = (&'static str, u64)> {
    POINTS
        .iter()
        .flat_map(|point| (0..PASSES_MAX).map(|passes| (*point, passes)))
}

/// How often each test does its work: more than the default finds what is rare.
fn rounds() -> usize {
    std::env::var("TERRACE_CRASH_ROUNDS").map_or(3, |rounds| rounds.parse().expect("a number of rounds"))
}

/// One server on one data folder, and what it ought to hold.
struct Run {
    title: String,
    seed: u64,
    rng: Rng,
    server: Server,
    conn: Option<Conn>,
    model: Model,
    /// The command whose reply never came.
    in_flight: Option<Op>,
    server_died: bool,
    recent: VecDeque<String>,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "TERRACE_SEED={} {}; the last commands:", self.seed, self.title)?;
        self.recent.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl Run {
    fn new(title: &str) -> Run {
        let seed = std::env::var("TERRACE_SEED")
            .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        let server = Server::terrace(SMALLEST);
        Run {
            title: title.to_string(),
            seed,
            rng: Rng::with_seed(seed),
            conn: Some(server.connect()),
            server,
            model: Model::default(),
            in_flight: None,
            server_died: false,
            recent: VecDeque::new(),
        }
    }

    fn note(&mut self, line: String) {
        self.recent.push_back(line);
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }

    fn conn(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("a running server")
    }

    /// Runs commands until the server dies, at most so many.
    fn work(&mut self, commands: usize) {
        for _ in 0..commands {
            let op = self.model.choose(&mut self.rng);
            if !self.step(op) {
                self.server_died = true;
                return;
            }
        }
    }

    /// Runs so many commands and sends one more whose reply the server may not live to give.
    fn work_until_killed(&mut self, commands: usize) {
        self.work(commands);
        assert!(!self.server_died, "{self}: the server died by itself");
        let op = self.model.choose(&mut self.rng);
        self.note(format!("{op:?}, then SIGKILL"));
        let request = common::encode(&op.words());
        self.conn().send_raw(&request).expect("a running server");
        std::thread::sleep(Duration::from_micros(self.rng.u64(..3000)));
        self.server.kill();
        self.in_flight = Some(op);
    }

    /// One command and its reply, held against the model's. False when the connection broke before the reply.
    fn step(&mut self, op: Op) -> bool {
        self.note(format!("{} {op:?}", self.model.selected));
        let Ok(reply) = self.conn().try_call(&op.words()) else {
            self.in_flight = Some(op);
            return false;
        };
        let expected = self.model.apply(&op);
        if let Some(expected) = expected {
            assert_eq!(show(&reply), expected, "{self}reply to {op:?}");
        }
        // A time to live became an expiry by the server's clock: it says which.
        match op.key_with_new_ttl() {
            Some(key) => self.learn_expiry(key),
            None => true,
        }
    }

    fn learn_expiry(&mut self, key: u64) -> bool {
        let Ok(reply) = self.conn().try_call(&["PEXPIRETIME".to_string(), name(key)]) else {
            return false;
        };
        let found = Value::parse(&reply);
        if let Some(held) = self.model.current().get_mut(&key) {
            held.expiry = held
                .expiry
                .take()
                .map(|_| expiry_of(&found).map_or((0, 0), |at| (at, at)));
        }
        true
    }

    fn kill_and_compare(&mut self) {
        self.server.kill();
        self.restart_and_compare();
    }

    /// Starts the server so that it dies the next time but `passes` that it comes to `point`; false when it did so
    /// before it could answer.
    fn restart_with(&mut self, point: &str, passes: u64) -> bool {
        self.server.kill();
        let failpoints = match passes {
            0 => format!("{point}=return"),
            _ => format!("{point}={passes}*off->return"),
        };
        self.note(format!("restart with {failpoints}"));
        self.server.set_env(&[("FAILPOINTS", &failpoints)]);
        let alive = self.server.try_restart();
        self.server.set_env(&[]);
        self.conn = alive.then(|| self.server.connect());
        // It may reach the point by itself, before the first command.
        let works = alive && self.select_again();
        self.server_died |= !works;
        works
    }

    fn restart_and_compare(&mut self) {
        self.server.kill();
        self.server.restart();
        self.note("restart".into());
        self.conn = Some(self.server.connect());
        self.server_died = false;
        self.compare("after a crash");
    }

    /// More work on what was recovered; then an orderly end, and cold reads in two ways.
    fn go_on_in_order(&mut self) {
        self.work(150);
        assert!(!self.server_died, "{self}: the server died by itself");
        assert!(
            self.server.terminate().success(),
            "{self}: SIGTERM ends with status 0"
        );
        self.server.restart();
        self.note("SIGTERM and restart".into());
        self.conn = Some(self.server.connect());
        self.compare("after SIGTERM");
        assert_eq!(self.conn().words("DEBUG RELOAD"), b"+OK\r\n");
        self.compare("after DEBUG RELOAD");
        self.work(50);
        self.compare("at the end");
    }

    /// A new connection begins in database 0. False when the server died first.
    fn select_again(&mut self) -> bool {
        let select = format!("SELECT {}", DATABASES[self.model.selected]);
        let words: Vec<&str> = select.split(' ').collect();
        self.conn().try_call(&words).is_ok()
    }

    /// Finds out whether the command in flight happened, from one key that it would have changed. False when the
    /// server died first.
    fn settle_in_flight(&mut self) -> bool {
        let Some(op) = self.in_flight.take() else {
            return true;
        };
        let mut after = self.model.clone();
        after.apply(&op);
        after.selected = self.model.selected;
        let differ =
            |(db, key): &(usize, u64)| self.model.databases[*db].get(key) != after.databases[*db].get(key);
        let places = (0..DATABASES.len()).flat_map(|db| (0..KEYS).map(move |key| (db, key)));
        let changed: Vec<(usize, u64)> = places.filter(differ).collect();
        let Some((db, key)) = changed.first().copied() else {
            return true;
        };
        let Ok(found) = self.read(db, &[key]) else {
            self.in_flight = Some(op);
            return false;
        };
        let found = found[0].as_ref();
        let happened = agrees(after.databases[db].get(&key), found);
        let happened_not = agrees(self.model.databases[db].get(&key), found);
        assert!(
            happened || happened_not,
            "{self}{} of database {}: {found:?}",
            name(key),
            DATABASES[db]
        );
        self.note(format!("in flight: {op:?}, happened: {happened}"));
        if happened {
            self.model = after;
        }
        self.select_again()
    }

    /// Value and expiry of keys of a database.
    fn read(&mut self, db: usize, keys: &[u64]) -> std::io::Result<Vec<Option<Found>>> {
        let mut requests = vec![vec![b"SELECT".to_vec(), DATABASES[db].to_string().into_bytes()]];
        for key in keys {
            requests.push(vec![b"GET".to_vec(), name(*key).into_bytes()]);
            requests.push(vec![b"PEXPIRETIME".to_vec(), name(*key).into_bytes()]);
        }
        let replies = self.conn().pipeline(&requests)?;
        let found = |pair: &[Vec<u8>]| match Value::parse(&pair[0]) {
            Value::Bulk(_, value) => Some(Found {
                value,
                expiry: expiry_of(&Value::parse(&pair[1])),
            }),
            _ => None,
        };
        Ok(replies[1..].chunks(2).map(found).collect())
    }

    /// What was read is exact where the model knew an expiry only roughly.
    fn tighten(&mut self, db: usize, keys: &[u64], found: &[Option<Found>]) {
        for (key, found) in keys.iter().zip(found) {
            if let (Some(held), Some(found)) = (self.model.databases[db].get_mut(key), found) {
                held.expiry = found.expiry.map(|at| (at, at));
            }
        }
    }

    /// Everything that the server holds is what the model holds, or would with the command in flight.
    fn compare(&mut self, when: &str) {
        let counts = self.counts();
        let keys: Vec<u64> = (0..KEYS).collect();
        let found: Vec<Vec<Option<Found>>> = (0..DATABASES.len())
            .map(|db| self.read(db, &keys).expect("a running server"))
            .collect();
        let before = self.model.difference(&found);
        let happened = before.is_some() && self.in_flight.is_some();
        if let Some(op) = self.in_flight.take().filter(|_| happened) {
            let selected = self.model.selected;
            self.model.apply(&op);
            self.model.selected = selected;
            self.note(format!("in flight, happened: {op:?}"));
        }
        let after = self.model.difference(&found);
        assert!(
            after.is_none(),
            "{self}{when}: {}; without the command in flight: {}",
            after.unwrap_or_default(),
            before.unwrap_or_default()
        );
        // Before the reads, which loaded every key, and after them.
        assert_eq!(counts, self.model.counts(), "{self}{when}: counts at first");
        let counts = self.counts();
        assert_eq!(
            counts,
            self.model.counts(),
            "{self}{when}: counts with every key loaded"
        );
        for (db, found) in found.iter().enumerate() {
            self.tighten(db, &keys, found);
        }
        assert!(self.select_again(), "{self}{when}: the server died by itself");
    }

    fn counts(&mut self) -> Counts {
        let conn = self.conn();
        let sizes = DATABASES
            .iter()
            .map(|db| {
                conn.words(&format!("SELECT {db}"));
                conn.integer("DBSIZE")
            })
            .collect();
        let Value::List(_, fields) = Value::parse(&conn.words("RANGE INFO default")) else {
            panic!("RANGE INFO answers a map")
        };
        let number = |wanted: &str| {
            let pair = fields
                .chunks(2)
                .find(|pair| pair[0].texts()[0] == wanted.as_bytes());
            let digits = pair.expect("a field")[1].texts().remove(0);
            String::from_utf8_lossy(&digits).parse().expect("a number")
        };
        Counts {
            sizes,
            keys: number("keys"),
            expires: number("expires"),
        }
    }
}
