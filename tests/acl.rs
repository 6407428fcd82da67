//! Users against whole servers: decisions that follow from generated rules are those of redis-server; changes hold at
//! once; users come back after a restart.
//!
//! `TERRACE_SEED=n` repeats a run of generated rules.

mod common;

use common::{Conn, Server, Value, show};
use fastrand::Rng;
use std::collections::BTreeSet;

const ROUNDS: usize = 400;
const DECISIONS: usize = 40;

fn memory_server(args: &[&str]) -> Server {
    Server::terrace(&[&["--range", "default", "*", "memory"], args].concat())
}

/// Requests for the decision; `{k}` is a key, `{c}` a channel.
const REQUESTS: &[&str] = &[
    "GET {k}",
    "SET {k} v",
    "SET {k} v GET",
    "SET {k} v EX 10",
    "MGET {k} {k}",
    "MSET {k} v {k} v",
    "DEL {k} {k}",
    "EXISTS {k}",
    "TYPE {k}",
    "TOUCH {k}",
    "APPEND {k} v",
    "STRLEN {k}",
    "INCR {k}",
    "GETDEL {k}",
    "GETEX {k}",
    "RENAME {k} {k}",
    "COPY {k} {k}",
    "EXPIRE {k} 1",
    "TTL {k}",
    "BITFIELD {k} GET u8 0",
    "BITFIELD {k} SET u8 0 1",
    "BITOP AND {k} {k}",
    "BITCOUNT {k}",
    "LPUSH {k} a",
    "LRANGE {k} 0 1",
    "LMOVE {k} {k} LEFT LEFT",
    "LMPOP 1 {k} LEFT",
    "BLPOP {k} {k} 0",
    "SADD {k} a",
    "SINTERSTORE {k} {k} {k}",
    "SINTERCARD 2 {k} {k}",
    "SMOVE {k} {k} a",
    "SSCAN {k} 0",
    "HSET {k} f v",
    "HGET {k} f",
    "ZADD {k} 1 a",
    "ZUNIONSTORE {k} 2 {k} {k}",
    "ZUNION 1 {k}",
    "ZRANGESTORE {k} {k} 0 1",
    "XADD {k} * f v",
    "XREAD STREAMS {k} {k} 0 0",
    "XINFO STREAM {k}",
    "XGROUP CREATE {k} g 0",
    "XLEN {k}",
    "GEOADD {k} 0 0 a",
    "GEORADIUS {k} 0 0 1 km STORE {k}",
    "GEOSEARCHSTORE {k} {k} FROMLONLAT 0 0 BYRADIUS 1 km",
    "PFADD {k} a",
    "PFCOUNT {k} {k}",
    "PFMERGE {k} {k}",
    "SORT {k}",
    "SORT {k} STORE {k}",
    "SORT_RO {k}",
    "DUMP {k}",
    "OBJECT ENCODING {k}",
    "OBJECT HELP",
    "MEMORY USAGE {k}",
    "MEMORY DOCTOR",
    "WATCH {k}",
    "KEYS a*",
    "SCAN 0",
    "DBSIZE",
    "FLUSHALL",
    "FLUSHDB",
    "SELECT 0",
    "SELECT 1",
    "SWAPDB 0 1",
    "RANDOMKEY",
    "PING",
    "ECHO a",
    "QUIT",
    "CONFIG GET a",
    "CONFIG SET a b",
    "CONFIG RESETSTAT",
    "CLIENT LIST",
    "CLIENT ID",
    "CLIENT KILL a",
    "COMMAND",
    "COMMAND COUNT",
    "INFO",
    "ACL WHOAMI",
    "ACL LIST",
    "ACL SETUSER a",
    "DEBUG OBJECT {k}",
    "LATENCY RESET",
    "SLOWLOG GET",
    "MULTI",
    "EXEC",
    "DISCARD",
    "AUTH a",
    "HELLO",
    "RESET",
    "SUBSCRIBE {c} {c}",
    "PSUBSCRIBE {c}",
    "SSUBSCRIBE {c}",
    "UNSUBSCRIBE {c}",
    "PUBLISH {c} m",
    "SPUBLISH {c} m",
    "PUBSUB CHANNELS",
    "MONITOR",
    "SHUTDOWN",
];

/// Requests that may be run in earnest, and answer at once.
const HARMLESS: &[&str] = &[
    "GET {k}",
    "SET {k} v",
    "STRLEN {k}",
    "MGET {k} {k}",
    "DEL {k}",
    "EXISTS {k} {k}",
    "INCR {k}",
    "LPUSH {k} a",
    "TYPE {k}",
    "PING",
    "ECHO a",
    "PUBLISH {c} m",
    "CONFIG GET nosuch",
    "CLIENT GETNAME",
    "DBSIZE",
    "SELECT 0",
    "COPY {k} {k}",
    "SORT {k} BY x* GET y*",
    "SORT {k} GET #",
    "ACL WHOAMI",
    "PUBSUB NUMPAT",
    "COMMAND COUNT",
];

const KEYS: &[&str] = &[
    "a", "a1", "ab", "b", "b:1", "abc:def", "\u{e9}", "zz", "*", "user:1",
];
const PATTERNS: &[&str] = &[
    "a*", "a", "b*", "*", "?", "[ab]*", "b:*", "abc:*", "a?", "user:?", "\\*", "z*z", "\u{e9}*",
];

struct Names {
    /// Commands of both servers.
    commands: Vec<String>,
    categories: Vec<String>,
}

impl Names {
    fn of(conns: &mut [Conn; 2]) -> Names {
        let [theirs, ours] = conns.each_mut().map(|conn| {
            let list = Value::parse(&conn.words("COMMAND LIST")).texts().into_iter();
            list.map(|name| String::from_utf8(name).expect("a name"))
                .collect::<BTreeSet<_>>()
        });
        let categories = Value::parse(&conns[0].words("ACL CAT")).texts().into_iter();
        Names {
            commands: theirs.intersection(&ours).cloned().collect(),
            categories: categories
                .map(|name| String::from_utf8(name).expect("a name"))
                .collect(),
        }
    }
}

fn pick<'a>(random: &mut Rng, from: &'a [impl AsRef<str>]) -> &'a str {
    from[random.usize(..from.len())].as_ref()
}

fn rule(random: &mut Rng, names: &Names) -> String {
    let sign = if random.u8(..3) > 0 { '+' } else { '-' };
    let pattern = pick(random, PATTERNS);
    match random.u8(..40) {
        0..11 => format!("{sign}{}", pick(random, &names.commands)),
        11..21 => format!("{sign}@{}", pick(random, &names.categories)),
        21 => format!(
            "+{}|{}",
            pick(random, &names.commands),
            pick(random, &["a", "0", "b:1"])
        ),
        22 => format!("{sign}config|{}", pick(random, &["get", "set", "nosuch"])),
        23 => format!("{sign}@all"),
        24..27 => format!("~{pattern}"),
        27 => format!("%R~{pattern}"),
        28 => format!("%W~{pattern}"),
        29 => format!("%RW~{pattern}"),
        30..33 => format!("&{pattern}"),
        33 => pick(random, &["allkeys", "allchannels", "~*", "&*"]).into(),
        34 => pick(random, &["resetkeys", "resetchannels", "resetkeys"]).into(),
        35 => pick(
            random,
            &["on", "off", "nopass", ">p", "<p", "resetpass", "sanitize-payload"],
        )
        .into(),
        36 => pick(
            random,
            &["clearselectors", "nosuch", "%X~a", "+nosuch", "(", "reset"],
        )
        .into(),
        _ => {
            let inner: Vec<String> = (0..random.usize(..4)).map(|_| rule(random, names)).collect();
            format!("({})", inner.join(" "))
        }
    }
}

fn request(random: &mut Rng, templates: &[&str]) -> Vec<String> {
    let template = pick(random, templates).to_owned();
    let mut words: Vec<String> = template.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        if word == "{k}" || word == "{c}" {
            *word = pick(random, KEYS).to_owned();
        }
    }
    words
}

fn differs(seed: u64, rules: &[Vec<String>], request: &[String], replies: &[Vec<u8>; 2]) -> ! {
    let rules: Vec<String> = rules.iter().map(|rules| rules.join(" ")).collect();
    panic!(
        "seed {seed}\n  ACL SETUSER u {}\n  {}\n    redis   {}\n    terrace {}",
        rules.join("\n  ACL SETUSER u "),
        request.join(" "),
        show(&replies[0]),
        show(&replies[1])
    )
}

#[test]
fn generated_rules_decide_as_in_redis() {
    let seed = std::env::var("TERRACE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = Rng::with_seed(seed);
    let servers = [Server::redis(&[]), memory_server(&[])];
    let mut admins = servers.each_ref().map(|server| server.connect());
    let names = Names::of(&mut admins);
    let mut both = |args: &[String]| admins.each_mut().map(|conn| conn.call(args));
    for _ in 0..ROUNDS {
        both(&["ACL", "DELUSER", "u"].map(String::from));
        let mut said = Vec::new();
        for _ in 0..random.usize(1..4) {
            // redis-server 7.0 does not survive an open parenthesis behind a whole selector.
            let rules: Vec<String> = (0..random.usize(1..9))
                .map(|_| rule(&mut random, &names))
                .collect();
            let call = [["ACL", "SETUSER", "u"].map(String::from).to_vec(), rules.clone()].concat();
            if call.iter().any(|word| word == "(") && call.iter().any(|word| word.ends_with(')')) {
                continue;
            }
            let replies = both(&call);
            said.push(rules);
            if replies[0] != replies[1] {
                differs(seed, &said, &[], &replies);
            }
        }
        for _ in 0..DECISIONS {
            let request = request(&mut random, REQUESTS);
            let call = [["ACL", "DRYRUN", "u"].map(String::from).to_vec(), request.clone()].concat();
            let replies = both(&call);
            if replies[0] != replies[1] {
                differs(seed, &said, &request, &replies);
            }
        }
        in_earnest(seed, &said, &servers, &mut both, &mut random);
    }
}

/// The same decisions when a client of the user sends the commands.
fn in_earnest(
    seed: u64,
    said: &[Vec<String>],
    servers: &[Server; 2],
    both: &mut impl FnMut(&[String]) -> [Vec<u8>; 2],
    random: &mut Rng,
) {
    both(&["FLUSHALL"].map(String::from));
    both(&["ACL", "SETUSER", "u", "on", "nopass"].map(String::from));
    let mut clients = servers.each_ref().map(|server| server.connect());
    for conn in &mut clients {
        assert_eq!(show(&conn.words("AUTH u x")), "+OK\\r\\n");
    }
    for _ in 0..8 {
        let request = request(random, HARMLESS);
        let replies = clients.each_mut().map(|conn| conn.call(&request));
        let refused = replies.each_ref().map(|reply| reply.starts_with(b"-"));
        if refused[0] != refused[1] || refused[0] && replies[0] != replies[1] {
            differs(seed, said, &request, &replies);
        }
    }
}

#[test]
fn changes_hold_for_the_next_command_of_every_connection() {
    let server = memory_server(&[]);
    let mut admin = server.connect();
    admin.words("ACL SETUSER u on nopass ~* &* +@all");
    let mut clients: Vec<Conn> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.words("AUTH u x"), b"+OK\r\n");
    }
    for round in 0..200 {
        let (rule, begins) = if round % 2 == 0 {
            ("-set", &b"-NOPERM"[..])
        } else {
            ("+set", &b"+OK"[..])
        };
        admin.words(&format!("ACL SETUSER u {rule}"));
        for client in &mut clients {
            assert!(client.words("SET k v").starts_with(begins), "round {round}");
        }
    }
    // In one batch too: what stands behind the change is judged by it.
    admin.words("ACL SETUSER u reset on nopass ~* +@all");
    let requests: Vec<Vec<Vec<u8>>> = ["SET k v", "ACL SETUSER u -set", "SET k v", "PING"]
        .iter()
        .map(|line| line.split(' ').map(|word| word.as_bytes().to_vec()).collect())
        .collect();
    let mut client = server.connect();
    client.words("AUTH u x");
    let replies = client.pipeline(&requests).expect("four replies");
    assert!(replies[0] == b"+OK\r\n" && replies[2].starts_with(b"-NOPERM") && replies[3] == b"+PONG\r\n");
}

#[test]
fn a_file_of_users_is_loaded_and_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users.acl");
    let name = path.to_str().expect("text");
    std::fs::write(
        &path,
        "user default on nopass ~* &* +@all\nuser a on >p ~a* +get (+set ~b*)\nuser b on nopass\n",
    )
    .expect("a file");
    let mut server = memory_server(&["--aclfile", name]);
    let mut admin = server.connect();
    assert_eq!(
        Value::parse(&admin.words("ACL USERS")).texts(),
        [&b"a"[..], b"b", b"default"]
    );
    let (mut a, mut b) = (server.connect(), server.connect());
    assert_eq!(
        (a.words("AUTH a p"), b.words("AUTH b x")),
        (b"+OK\r\n".to_vec(), b"+OK\r\n".to_vec())
    );
    assert!(a.words("SET a1 v").starts_with(b"-NOPERM"));

    // What is wrong is told, and changes nothing.
    std::fs::write(&path, "user a on nosuch\nfoo\n").expect("a file");
    let told = String::from_utf8(admin.words("ACL LOAD")).expect("text");
    assert_eq!(
        told,
        format!(
            "-ERR {name}:1: Syntax error. {name}:2 should start with user keyword followed by the username. WARNING: \
             ACL errors detected, no change to the previously active ACL rules was performed\r\n"
        )
    );
    assert_eq!(admin.words("ACL SAVE"), b"+OK\r\n");
    let saved = std::fs::read_to_string(&path).expect("the file");
    assert!(saved.starts_with("user a on #148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940 ~a* resetchannels -@all +get (~b* resetchannels -@all +set)\n"), "{saved}");

    // A user that the file no longer has is gone with its connections; the others go on with their new rules.
    std::fs::write(
        &path,
        saved
            .replace("user b", "user c")
            .replace("~a* resetchannels", "~* resetchannels"),
    )
    .expect("a file");
    assert_eq!(admin.words("ACL LOAD"), b"+OK\r\n");
    assert_eq!(a.words("GET other"), b"$-1\r\n");
    assert!(b.read_to_close().is_ok());
    server.terminate();
    server.restart();
    let users = Value::parse(&server.connect().words("ACL USERS")).texts();
    assert_eq!(users, [&b"a"[..], b"c", b"default"]);
}

#[test]
fn users_and_renamed_commands_stand_in_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.conf");
    let text = "range default * memory\nuser a on >p ~a* +get +config|get # no comment\nrename-command FLUSHALL \"\"\nrename-command config sesame\n";
    let name = path.to_str().expect("text");
    let refused = |text: &str, why: &str| {
        std::fs::write(&path, text).expect("a file");
        let refused = std::process::Command::new(common::terrace_binary())
            .args([name, "--port", "0", "--unixsocket"])
            .arg(folder.path().join("s"))
            .arg("--dir")
            .arg(folder.path().join("d"))
            .output()
            .expect("a run");
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && told.contains(&format!("{name}:{why}")),
            "{told}"
        );
    };
    refused(text, "2: Error in user declaration 'a'");
    refused(
        "port 0\n\nrename-command Nonsense x",
        "3: rename-command Nonsense: No such command",
    );
    refused("port 0\ntls-port 1", "2: ");

    std::fs::write(&path, text.replace(" # no comment", "")).expect("a file");
    let mut server = Server::terrace_with_file(name, &[]);
    let mut admin = server.connect();
    assert!(
        admin
            .words("FLUSHALL")
            .starts_with(b"-ERR unknown command 'FLUSHALL'")
    );
    assert!(
        admin
            .words("CONFIG GET port")
            .starts_with(b"-ERR unknown command")
    );
    assert!(admin.words("SESAME GET port").starts_with(b"*2"));
    // Rules name commands as they were.
    let mut a = server.connect();
    a.words("AUTH a p");
    assert!(
        a.words("sesame get port").starts_with(b"*2") && a.words("sesame set a b").starts_with(b"-NOPERM")
    );
    admin.words("ACL SETUSER a -get");
    admin.words("ACL SETUSER b on nopass");
    assert_eq!(admin.words("SESAME REWRITE"), b"+OK\r\n");
    let rewritten = std::fs::read_to_string(&path).expect("the file");
    assert!(
        rewritten.contains("rename-command FLUSHALL \"\"\n"),
        "{rewritten}"
    );
    server.terminate();
    server.restart();
    let list = Value::parse(&server.connect().words("ACL LIST")).texts();
    let list: Vec<String> = list
        .iter()
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    assert_eq!(
        list,
        [
            "user a on #148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940 ~a* resetchannels -@all +config|get",
            "user b on nopass resetchannels -@all",
            "user default on nopass ~* &* +@all",
        ]
    );
}
