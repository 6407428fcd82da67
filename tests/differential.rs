//! The same commands to Debian's redis-server and to Terrace, the replies compared byte by byte.
//!
//! Three sources: the scripts in `tests/differential/*.txt`, picked by hand; random streams (`random.rs`); raw
//! bytes, malformed ones too (`protocol.rs`). Scripts and streams run for each tier, in RESP2 and in RESP3.
//! Whatever may differ between two right answers is named where it occurs (`@normalize`); all else must be equal.
//!
//! `TERRACE_DIFF_SELF=1` puts redis-server on both sides: what fails then is a fault of the test.
//! `TERRACE_DIFF_ONLY=strings` runs one script. `TERRACE_SEED=n` repeats a random stream.
//!
//! The oracle is Redis 7.0: what is newer is tested elsewhere.

mod common;
#[path = "differential/normalize.rs"]
mod normalize;
#[path = "differential/protocol.rs"]
mod protocol;
#[path = "differential/random.rs"]
mod random;
#[path = "differential/script.rs"]
mod script;

use std::cell::RefCell;
use std::collections::BTreeSet;

use common::{Conn, Server, Value};

/// The two kinds of storage, and where their keys are; one command has one reply everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Memory,
    Durable,
    /// A memory range whose keys are in the plain store whenever a command comes.
    Sealed,
    /// A durable range whose keys are only in the block store whenever a command comes.
    Cold,
    /// As `Cold`, and each large encoding is paged, however few elements it has.
    Paged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Resp2,
    Resp3,
}

/// Both servers; index 0 is the oracle, 1 the server under test.
pub struct Pair {
    pub servers: [Server; 2],
    pub protocol: Protocol,
    /// What is in memory is on the disk as well, and gives way when memory is full.
    pub spills: bool,
    /// Collections are rows for their elements: how a list is cut into nodes is not kept.
    pub pages: bool,
    /// What puts every key out of memory.
    banish: Option<&'static str>,
    /// For it; the oracle has such a connection too, so that both count the same clients.
    aside: RefCell<[Conn; 2]>,
}

impl Pair {
    pub fn start(tier: Tier, protocol: Protocol) -> Pair {
        let servers = [Server::redis(&[]), server_under_test(tier)];
        let command = match tier {
            _ if against_itself() => None,
            Tier::Memory | Tier::Durable => None,
            Tier::Sealed => Some("DEBUG SEAL"),
            Tier::Cold | Tier::Paged => Some("DEBUG RELOAD"),
        };
        Pair {
            protocol,
            spills: matches!(tier, Tier::Durable | Tier::Cold),
            pages: tier == Tier::Paged,
            banish: command,
            aside: RefCell::new([0, 1].map(|side| servers[side].connect())),
            servers,
        }
    }

    /// Whether the reply to a line may differ.
    pub fn is_telltale(&self, line: &str) -> bool {
        let line = line.to_lowercase();
        self.banish.is_some() && TELLTALE.iter().any(|(start, _)| line.starts_with(start))
    }

    /// A reply without what may differ in it: the count that a HyperLogLog's last reader has left in it is of memory.
    pub fn lasting(&self, mut reply: Vec<u8>) -> Vec<u8> {
        const MAGIC: &[u8] = b"HYLL";
        let at = reply.windows(MAGIC.len()).position(|bytes| bytes == MAGIC);
        if self.banish.is_some()
            && let Some(count) = at.and_then(|at| reply.get_mut(at + 8..at + 16))
        {
            count.fill(0);
        }
        reply
    }

    /// Before a command: puts the keys of the server under test where its tier says.
    pub fn banish_keys(&self) {
        let Some(command) = self.banish else { return };
        let mut aside = self.aside.borrow_mut();
        if aside[1]
            .try_call(&command.split(' ').collect::<Vec<_>>())
            .is_err()
        {
            // A script has closed all connections.
            *aside = [0, 1].map(|side| self.servers[side].connect());
        }
    }

    /// A connection to each, speaking the pair's protocol.
    pub fn connect(&self) -> [Conn; 2] {
        [0, 1].map(|side| {
            let mut conn = self.servers[side].connect();
            if self.protocol == Protocol::Resp3 {
                let hello = conn.words("HELLO 3");
                assert!(
                    hello.starts_with(b"%"),
                    "HELLO 3 answered {}",
                    common::show(&hello)
                );
            }
            conn
        })
    }
}

const MEMORY: &[&str] = &["--range", "default", "*", "memory"];
const DEBUG: &[&str] = &["--enable-debug-command", "yes"];

/// Where a reply may tell that a key has left memory, or that somebody saw to it.
const TELLTALE: &[(&str, &str)] = &[
    (
        "object",
        "access clocks and encodings that outlast their reason are of memory",
    ),
    ("slowlog", "logs the command that puts keys out of memory"),
    ("client kill", "counts the connection that sends it"),
];

fn against_itself() -> bool {
    std::env::var("TERRACE_DIFF_SELF").is_ok_and(|v| v != "0")
}

fn server_under_test(tier: Tier) -> Server {
    if against_itself() {
        return Server::redis(&[]);
    }
    match tier {
        Tier::Memory => Server::terrace(MEMORY),
        Tier::Durable => Server::terrace(&[]),
        Tier::Sealed => Server::terrace(&[MEMORY, DEBUG].concat()),
        Tier::Cold => Server::terrace(&[DEBUG, &["--appendfsync", "no"]].concat()),
        Tier::Paged => {
            let options: &[&str] = &["--appendfsync", "no", "--paged-threshold", "0"];
            Server::terrace(&[DEBUG, options].concat())
        }
    }
}

#[test]
fn scripts_on_a_memory_range_in_resp2() {
    script::run_all(Tier::Memory, Protocol::Resp2);
}

#[test]
fn scripts_on_a_memory_range_in_resp3() {
    script::run_all(Tier::Memory, Protocol::Resp3);
}

#[test]
fn scripts_on_a_durable_range_in_resp2() {
    script::run_all(Tier::Durable, Protocol::Resp2);
}

#[test]
fn scripts_on_a_durable_range_in_resp3() {
    script::run_all(Tier::Durable, Protocol::Resp3);
}

#[test]
fn random_commands_on_a_memory_range_in_resp2() {
    random::run(Tier::Memory, Protocol::Resp2);
}

#[test]
fn random_commands_on_a_memory_range_in_resp3() {
    random::run(Tier::Memory, Protocol::Resp3);
}

#[test]
fn random_commands_on_a_durable_range_in_resp2() {
    random::run(Tier::Durable, Protocol::Resp2);
}

#[test]
fn random_commands_on_a_durable_range_in_resp3() {
    random::run(Tier::Durable, Protocol::Resp3);
}

#[test]
fn scripts_on_sealed_keys() {
    script::run_all(Tier::Sealed, Protocol::Resp2);
}

#[test]
fn scripts_on_cold_keys() {
    script::run_all(Tier::Cold, Protocol::Resp2);
}

#[test]
fn scripts_on_paged_collections() {
    script::run_all(Tier::Paged, Protocol::Resp3);
}

#[test]
fn random_commands_on_paged_collections() {
    random::run(Tier::Paged, Protocol::Resp2);
}

#[test]
fn random_commands_on_sealed_keys() {
    random::run(Tier::Sealed, Protocol::Resp3);
}

#[test]
fn random_commands_on_cold_keys() {
    random::run(Tier::Cold, Protocol::Resp3);
}

#[test]
fn raw_and_malformed_bytes() {
    protocol::run(&Pair::start(Tier::Memory, Protocol::Resp2));
}

/// Commands that no script can compare, each with the reason.
const NOT_COMPARED: &[(&str, &str)] = &[
    ("range", "Redis has no ranges"),
    ("kwatch", "Redis has no such command; in tests/kwatch.rs"),
    ("kunwatch", "Redis has no such command; in tests/kwatch.rs"),
    ("backup", "Redis has no backups of its own; in tests/backup.rs"),
    ("shutdown", "ends the server; the crash tests cover it"),
    (
        "sync",
        "sends a file; redis-cli --rdb asks for it in tests/operator.rs",
    ),
    ("psync", "as sync"),
    (
        "monitor",
        "turns the connection into an endless stream; tests/operator.rs compares its lines",
    ),
    ("client|setinfo", "newer than the oracle; in tests/operator.rs"),
    ("migrate", "goes to another server; in tests/operator.rs"),
    ("waitaof", "newer than the oracle; in tests/operator.rs"),
    ("client|no-touch", "newer than the oracle; in tests/operator.rs"),
    ("digest", "newer than the oracle; in tests/operator.rs"),
    ("delex", "newer than the oracle; in tests/operator.rs"),
    ("hexpire", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hpexpire", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hexpireat", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hpexpireat", "newer than the oracle; in tests/hash_expiry.rs"),
    ("httl", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hpttl", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hexpiretime", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hpexpiretime", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hpersist", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hgetdel", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hgetex", "newer than the oracle; in tests/hash_expiry.rs"),
    ("hsetex", "newer than the oracle; in tests/hash_expiry.rs"),
];

/// A container in the list above stands for its subcommands too.
fn is_not_compared(name: &str) -> bool {
    let container = name.split('|').next().unwrap_or(name);
    NOT_COMPARED
        .iter()
        .any(|(listed, _)| *listed == name || *listed == container)
}

/// A row of the command table that no script mentions is a row that nothing holds to Redis's behaviour.
#[test]
fn every_command_of_the_table_is_compared() {
    if against_itself() || std::env::var_os("TERRACE_DIFF_ONLY").is_some() {
        return; // the oracle has far more commands than the scripts, and one script has far fewer
    }
    let server = server_under_test(Tier::Memory);
    let listed = Value::parse(&server.connect().words("COMMAND LIST")).texts();
    assert!(
        listed.len() > 50,
        "COMMAND LIST names only {} commands",
        listed.len()
    );
    let compared = script::commands_in_scripts();
    let missing: BTreeSet<String> = listed
        .iter()
        .map(|name| String::from_utf8_lossy(name).to_lowercase())
        .filter(|name| !compared.contains(name) && !is_not_compared(name))
        .collect();
    assert!(
        missing.is_empty(),
        "no script in tests/differential/ mentions: {missing:?}"
    );
}
