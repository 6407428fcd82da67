//! What operators look at and turn: INFO, MONITOR, the slow log, CONFIG, and the options of CLIENT that are newer than
//! the oracle of the differential tests. Against a whole server.

#[path = "operator/cli.rs"]
mod cli;
#[path = "operator/clients.rs"]
mod clients;
mod common;
#[path = "operator/metrics.rs"]
mod metrics;
#[path = "operator/migrate.rs"]
mod migrate;
#[path = "operator/process.rs"]
mod process;

use common::{Conn, Server, Value, show};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

fn memory_server(args: &[&str]) -> Server {
    Server::terrace(&[&["--range", "default", "*", "memory"], args].concat())
}

fn info(conn: &mut Conn, sections: &str) -> String {
    let text = conn.bulk(&format!("INFO {sections}")).expect("a text");
    String::from_utf8(text).expect("text")
}

/// Field names of INFO, those of the sections that have a field for each command or database left out.
fn fields(conn: &mut Conn) -> BTreeSet<String> {
    let sections = "server clients memory persistence stats replication cpu cluster";
    let text = info(conn, sections);
    let names = text.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.to_string()).collect()
}

fn field(text: &str, name: &str) -> Option<String> {
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.next().map(str::to_string)
}

#[test]
fn info_has_every_field_of_redis() {
    let (redis, terrace) = (Server::redis(&[]), Server::terrace(&[]));
    let [redis, terrace] = [&redis, &terrace].map(|server| fields(&mut server.connect()));
    let missing: Vec<&String> = redis.difference(&terrace).collect();
    assert!(missing.is_empty(), "not in INFO: {missing:?}");
    assert!(terrace.contains("terrace_version") && terrace.contains("total_blocking_keys"));
}

#[test]
fn info_shows_the_sections_that_are_asked_for() {
    let server = Server::terrace(&["--range", "cache", "cache:", "memory"]);
    let mut conn = server.connect();
    conn.words("SET cache:a 1");
    conn.words("SET b 1 EX 1000");
    conn.words("GET b");
    conn.words("GET nokey");
    let titles = |text: &str| -> Vec<String> {
        let titles = text.lines().filter_map(|line| line.strip_prefix("# "));
        titles.map(str::to_string).collect()
    };
    assert_eq!(titles(&info(&mut conn, "CPU server cpu")), ["Server", "CPU"]);
    assert_eq!(info(&mut conn, "nosuch"), "");
    let (default, all) = (info(&mut conn, ""), info(&mut conn, "everything"));
    assert_eq!(titles(&info(&mut conn, "default")), titles(&default));
    assert!(!titles(&default).contains(&"Commandstats".to_string()));
    assert!(titles(&all).contains(&"Commandstats".to_string()));
    let keys = field(&all, "db0").expect("the database");
    let average = keys.strip_prefix("keys=2,expires=1,avg_ttl=").expect(&keys);
    let average: u64 = average.parse().expect("milliseconds");
    assert!((900_000..=1_000_000).contains(&average), "{average}");
    let cache = field(&all, "range_cache").expect("the range");
    assert!(
        cache.starts_with("tier=memory,keys=1,expires=0,bytes="),
        "{cache}"
    );
    let rest = field(&all, "range_default").expect("the range");
    assert!(
        rest.starts_with("tier=durable,keys=1,expires=1,")
            && rest.contains(",cold=0,hits=1,misses=1,evicted=0,"),
        "{rest}"
    );
    assert_eq!(
        field(&all, "cmdstat_get").map(|stats| stats.starts_with("calls=2,usec=")),
        Some(true)
    );
    assert!(field(&all, "latency_percentiles_usec_get").is_some_and(|shown| shown.starts_with("p50=")));
}

#[test]
fn resetstat_sets_statistics_back() {
    let server = memory_server(&[]);
    let mut conn = server.connect();
    conn.words("GET nokey");
    conn.words("NOSUCH");
    conn.words("CONFIG RESETSTAT");
    let text = info(&mut conn, "everything");
    assert_eq!(field(&text, "cmdstat_get"), None);
    assert_eq!(field(&text, "errorstat_ERR"), None);
    assert_eq!(field(&text, "keyspace_misses").as_deref(), Some("0"));
}

#[test]
fn commands_and_errors_of_scripts_are_counted_as_in_redis() {
    let figures = [Server::redis(&[]), memory_server(&[])].map(|server| {
        let mut conn = server.connect();
        conn.words("CONFIG RESETSTAT");
        conn.words("SET a x");
        for script in [
            "return redis.error_reply('MY x')",
            "return {err='OTHER x'}",
            "return redis.pcall('lpush','a','1')",
            "return redis.call('lpush','a','1')",
            "redis.pcall('lpush','a','1')",
            "error('no')",
        ] {
            conn.call(&["EVAL", script, "0"]);
        }
        let transactions = ["MULTI", "GET a", "GET a", "EXEC"].repeat(500);
        for line in ["NOSUCH", "GET", "SET a y"].into_iter().chain(transactions) {
            conn.words(line);
        }
        let text = info(&mut conn, "everything");
        let names = ["MY", "OTHER", "WRONGTYPE", "ERR"].map(|code| format!("errorstat_{code}"));
        let mut seen: Vec<_> = names.iter().map(|name| field(&text, name)).collect();
        seen.push(field(&text, "total_error_replies"));
        seen.push(field(&text, "total_commands_processed"));
        for command in ["eval", "get", "exec", "multi"] {
            let figures = field(&text, &format!("cmdstat_{command}")).expect("figures");
            let of_time = |part: &&str| !part.starts_with("usec");
            seen.push(Some(
                figures.split(',').filter(of_time).collect::<Vec<_>>().join(","),
            ));
        }
        seen
    });
    assert_eq!(figures[0], figures[1]);
}

#[test]
fn the_list_of_clients_says_what_each_waits_for() {
    let server = memory_server(&[]);
    let (mut conn, mut waits) = (server.connect(), server.connect());
    waits.words("CLIENT SETNAME waits");
    waits
        .send_raw(&common::encode(&["BLPOP", "k", "0"]))
        .expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    let list = conn.words("CLIENT LIST").escape_ascii().to_string();
    let line = list.split("\\n").find(|line| line.contains("name=waits"));
    assert!(line.is_some_and(|line| line.contains("cmd=blpop")), "{list}");
}

#[test]
fn monitors_see_commands_as_in_redis() {
    let lines = [Server::redis(&[]), memory_server(&[])].map(|server| {
        let mut monitor = server.connect();
        assert_eq!(monitor.words("MONITOR"), b"+OK\r\n");
        let mut conn = server.connect();
        for line in [
            "SELECT 3",
            "AUTH foo",
            "AUTH default foo",
            "HELLO 3 AUTH default x SETNAME me",
            "CONFIG GET timeout",
            "NOSUCH",
            "INCR a b",
            "MULTI",
            "GET a",
            "EXEC",
            "MIGRATE 127.0.0.1 1 nokey 0 100 AUTH secret",
        ] {
            conn.words(line);
        }
        conn.call(&[b"GET".as_slice(), b"a\x00\x07\x08\t\n\r\\\"\xff~"]);
        conn.words("RESET");
        conn.words("PING");
        let mut seen = Vec::new();
        while seen.last().is_none_or(|line: &String| !line.contains("PING")) {
            let line = monitor.read_frame().expect("a line");
            seen.push(without_moment(&show(&line)));
        }
        seen
    });
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[0].len(), 11, "{:?}", lines[0]);
}

/// A monitor's line with digits in place of time and port.
fn without_moment(line: &str) -> String {
    let (moment, rest) = line.split_once(' ').expect("a moment");
    let (client, command) = rest.split_once("] ").expect("a client");
    let shape: String = moment
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let (client, _port) = client.rsplit_once(':').expect("a port");
    format!("{shape} {client} {command}")
}

#[test]
fn the_slow_log_hides_passwords_and_cuts_long_arguments() {
    let entries = [Server::redis(&[]), memory_server(&[])].map(|server| {
        let mut conn = server.connect();
        conn.words("CONFIG SET slowlog-log-slower-than 0");
        conn.words("CONFIG SET requirepass secret timeout 0");
        conn.words("AUTH secret");
        conn.words("HELLO 2 AUTH default secret");
        conn.words(&format!("SET k {}", "v".repeat(200)));
        conn.words(&format!("MGET{}", " k".repeat(40)));
        conn.words("CONFIG SET slowlog-log-slower-than -1 requirepass \"\"");
        let log = Value::parse(&conn.words("SLOWLOG GET"));
        let Value::List(_, entries) = log else {
            panic!("no list: {log:?}")
        };
        let args = |entry: &Value| match entry {
            Value::List(_, parts) => parts[3].texts(),
            other => panic!("no entry: {other:?}"),
        };
        entries.iter().map(args).collect::<Vec<_>>()
    });
    assert_eq!(entries[0], entries[1]);
    assert_eq!(entries[0].len(), 6);
}

#[test]
fn no_touch_leaves_the_access_clock_alone() {
    let server = memory_server(&["--maxmemory-policy", "allkeys-lru"]);
    let mut conn = server.connect();
    conn.words("SET k v");
    assert_eq!(conn.words("CLIENT NO-TOUCH on"), b"+OK\r\n");
    std::thread::sleep(Duration::from_millis(2_100));
    conn.words("GET k");
    conn.words("APPEND k w");
    assert!(conn.integer("OBJECT IDLETIME k") >= 2);
    conn.words("CLIENT NO-TOUCH off");
    conn.words("GET k");
    assert_eq!(conn.integer("OBJECT IDLETIME k"), 0);
}

#[test]
fn setinfo_is_shown_in_the_clients_line() {
    let server = memory_server(&[]);
    let mut conn = server.connect();
    for (line, reply) in [
        ("CLIENT SETINFO lib-name terrace-test", "+OK\\r\\n"),
        ("CLIENT SETINFO LIB-VER 1.2.3", "+OK\\r\\n"),
        (
            "CLIENT SETINFO lib-os x",
            "-ERR Unrecognized option \\'lib-os\\'\\r\\n",
        ),
        ("CLIENT SETNAME me", "+OK\\r\\n"),
        ("CLIENT NO-EVICT on", "+OK\\r\\n"),
        ("CLIENT NO-TOUCH maybe", "-ERR syntax error\\r\\n"),
    ] {
        assert_eq!(show(&conn.words(line)), reply, "{line}");
    }
    let spaced = conn.call(&["CLIENT", "SETINFO", "lib-name", "a b"]);
    assert_eq!(
        show(&spaced),
        "-ERR lib-name cannot contain spaces, newlines or special characters.\\r\\n"
    );
    let line = String::from_utf8(conn.bulk("CLIENT INFO").expect("a line")).expect("text");
    assert!(
        line.ends_with("resp=2 lib-name=terrace-test lib-ver=1.2.3\n"),
        "{line}"
    );
    assert!(line.contains(" name=me ") && line.contains(" flags=e ") && line.contains(" cmd=client|info "));
    conn.words("RESET");
    let line = String::from_utf8(conn.bulk("CLIENT INFO").expect("a line")).expect("text");
    assert!(line.contains(" name= ") && line.contains(" flags=N ") && line.contains("lib-ver=1.2.3"));
}

/// Every field of the oracle's line stands in ours, in its order.
#[test]
fn a_clients_line_has_the_fields_of_redis() {
    let [redis, terrace] = [Server::redis(&[]), memory_server(&[])].map(|server| {
        let line = server.connect().bulk("CLIENT INFO").expect("a line");
        let fields = String::from_utf8(line).expect("text");
        let names = fields
            .split_whitespace()
            .filter_map(|field| field.split_once('='));
        names.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    });
    assert_eq!(terrace[..redis.len()], redis);
    assert_eq!(terrace[redis.len()..], ["lib-name", "lib-ver"]);
}

#[test]
fn old_connections_are_killed_by_age() {
    let server = memory_server(&[]);
    let mut old = server.connect();
    old.words("PING");
    std::thread::sleep(Duration::from_millis(2_100));
    let mut young = server.connect();
    let mut others = [server.connect(), server.connect()];
    assert_eq!(young.integer("CLIENT KILL MAXAGE 2 SKIPME no"), 1);
    assert!(old.read_to_close().is_ok());
    assert_eq!(young.words("PING"), b"+PONG\r\n");
    // By several ids at once, of which one is its own and one is nobody's.
    let own = young.integer("CLIENT ID");
    let [second, third] = others.each_mut().map(|other| other.integer("CLIENT ID"));
    let ids = format!("CLIENT KILL ID {own} {second} {third} 99999");
    assert_eq!(young.integer(&ids), 2);
    for mut killed in others {
        assert!(killed.read_to_close().is_ok());
    }
}

#[test]
fn what_is_waited_for_is_durable_and_a_library_is_when_it_is_loaded() {
    let mut server = Server::terrace(&["--appendfsync", "no"]);
    let mut conn = server.connect();
    conn.words("SET k v");
    assert_eq!(conn.words("WAITAOF 1 0 0"), b"*2\r\n:1\r\n:0\r\n");
    let began = Instant::now();
    assert_eq!(conn.words("WAITAOF 1 1 50"), b"*2\r\n:1\r\n:0\r\n");
    assert!(began.elapsed() >= Duration::from_millis(50));
    // Within a transaction nothing waits.
    conn.words("MULTI");
    conn.words("WAITAOF 0 3 0");
    conn.words("WAIT 3 0");
    assert_eq!(conn.words("EXEC"), b"*2\r\n*2\r\n:1\r\n:0\r\n:0\r\n");
    for (line, error) in [
        (
            "WAITAOF 2 0 0",
            "-ERR value is out of range, value must between 0 and 1",
        ),
        ("WAITAOF x 0 0", "-ERR value is not an integer or out of range"),
        ("WAITAOF 0 -1 0", "-ERR value is out of range, must be positive"),
        ("WAITAOF 0 0 -1", "-ERR timeout is negative"),
        ("WAITAOF 0 0 x", "-ERR timeout is not an integer or out of range"),
        (
            "WAITAOF 0 0",
            "-ERR wrong number of arguments for 'waitaof' command",
        ),
    ] {
        let reply = show(&conn.words(line)).replace("\\'", "'");
        assert_eq!(reply, format!("{error}\\r\\n"), "{line}");
    }
    let library = "#!lua name=kept\nredis.register_function('answer', function() return 42 end)";
    conn.call(&["FUNCTION", "LOAD", library]);
    server.kill();
    server.restart();
    let mut conn = server.connect();
    assert_eq!(conn.bulk("GET k").expect("a value"), b"v");
    assert_eq!(conn.integer("FCALL answer 0"), 42);

    let server = memory_server(&[]);
    let mut conn = server.connect();
    let refused = "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    assert_eq!(show(&conn.words("WAITAOF 1 0 0")), format!("{refused}\\r\\n"));
    assert_eq!(conn.words("WAITAOF 0 0 0"), b"*2\r\n:0\r\n:0\r\n");
}

#[test]
fn settings_take_effect_at_once() {
    let server = memory_server(&[]);
    let mut conn = server.connect();
    conn.words("CONFIG SET maxmemory 1 maxmemory-policy noeviction");
    assert!(
        show(&conn.words("SET k v")).starts_with("+OK"),
        "an empty server has room for one"
    );
    assert!(show(&conn.words("SET k2 v")).starts_with("-OOM"));
    conn.words("CONFIG SET maxmemory 0");
    assert_eq!(conn.words("SET k2 v"), b"+OK\r\n");
    conn.words("CONFIG SET maxclients 1");
    assert!(
        show(&server.connect().read_frame().expect("an error")).starts_with("-ERR max number of clients")
    );
    conn.words("CONFIG SET maxclients 100 timeout 1");
    let mut idle = server.connect();
    idle.words("PING");
    let unchanged = conn.words("CONFIG SET timeout 0 maxmemory-policy nosuch");
    assert!(show(&unchanged).starts_with("-ERR CONFIG SET failed"));
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        conn.words("PING");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(idle.read_to_close().is_ok(), "an idle connection ends");
}

/// A server on a file of its own, which `common::Server` does not know how to give it.
struct OnFile(std::process::Child);

impl OnFile {
    fn start(file: &Path, port: u16) -> OnFile {
        let child = std::process::Command::new(common::terrace_binary())
            .arg(file)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a server");
        OnFile(child)
    }
}

impl Drop for OnFile {
    fn drop(&mut self) {
        // It has ended already where the test passes.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn rewrite_keeps_what_was_set_and_shutdown_ends_the_server() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("terrace.conf");
    let data = folder.path().join("data");
    std::fs::write(&file, format!("# mine\ntimeout 7\ndir {}\n", data.display())).expect("a file");
    let without = Server::terrace(&[]);
    let refused = without.connect().words("CONFIG REWRITE");
    assert_eq!(
        show(&refused),
        "-ERR The server is running without a config file\\r\\n"
    );
    let port = without.port();
    drop(without);
    let mut server = OnFile::start(&file, port);
    let mut conn = connect(port);
    assert_eq!(conn.words("CONFIG SET timeout 9 slowlog-max-len 3"), b"+OK\r\n");
    assert_eq!(conn.words("CONFIG REWRITE"), b"+OK\r\n");
    conn.send_raw(b"SHUTDOWN NOSAVE\r\n").expect("sent");
    assert_eq!(conn.read_to_close().expect("the end"), b"");
    assert!(server.0.wait().expect("its end").success());
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(
        text.starts_with("# mine\ntimeout 9\n") && text.contains("slowlog-max-len 3"),
        "{text}"
    );
}

fn connect(port: u16) -> Conn {
    for _ in 0..1_000 {
        if let Ok(mut conn) = Conn::open(port)
            && conn.try_call(&[b"PING"]).is_ok_and(|reply| reply == b"+PONG\r\n")
        {
            return conn;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody listens on {port}")
}

#[test]
fn histograms_count_the_calls_of_commands() {
    let server = memory_server(&[]);
    let mut conn = server.connect();
    for _ in 0..10 {
        conn.words("GET k");
    }
    let reply = Value::parse(&conn.words("LATENCY HISTOGRAM get nosuch"));
    let texts = reply.texts();
    assert_eq!(
        texts[..4],
        [
            b"get".to_vec(),
            b"calls".to_vec(),
            b"10".to_vec(),
            b"histogram_usec".to_vec()
        ]
    );
    assert_eq!(
        texts.last(),
        Some(&b"10".to_vec()),
        "the last bound has all calls"
    );
}

#[test]
fn values_are_compared_by_themselves_or_by_digest() {
    let server = memory_server(&[]);
    let mut conn = server.connect();
    let mut is = |line: &str, reply: &str| assert_eq!(show(&conn.words(line)), reply, "{line}");
    is("DIGEST k", "$-1\\r\\n");
    is("SET k v IFDEQ 0123456789abcdef", "$-1\\r\\n");
    is("SET k v IFDNE 0123456789abcdef", "+OK\\r\\n");
    is("SET k w IFEQ other", "$-1\\r\\n");
    is("SET k w IFEQ v", "+OK\\r\\n");
    is("SET k hello IFNE x", "+OK\\r\\n");
    is("DIGEST k", "$16\\r\\n9555e8555c62dcfd\\r\\n");
    is("SET k world IFDNE 9555e8555c62dcfd", "$-1\\r\\n");
    is("SET k world IFDEQ 9555E8555C62DCFD GET", "$5\\r\\nhello\\r\\n");
    is(
        "SET k x IFDEQ 9555e8555c62dcf",
        "-ERR digest must be exactly 16 hexadecimal characters\\r\\n",
    );
    is("DELEX k IFEQ hello", ":0\\r\\n");
    is("DELEX k NX", "-ERR syntax error\\r\\n");
    is("DELEX k NX x", "-ERR syntax error\\r\\n");
    is("DELEX k IFDNE d6476c25083d69be", ":0\\r\\n");
    is("DELEX k IFDEQ d6476c25083d69be", ":1\\r\\n");
    is("DELEX k IFNE x", ":0\\r\\n");
    is("RPUSH l a", ":1\\r\\n");
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value\\r\\n";
    is("DIGEST l", wrong_type);
    is("DELEX l IFEQ a", wrong_type);
    is("DELEX l", ":1\\r\\n");
}

#[test]
fn who_comes_while_the_data_is_read_is_told_so_and_then_served() {
    let mut server = Server::terrace(&["--appendfsync", "always"]);
    server.connect().words("SET key value");
    server.kill();
    server.set_env(&[("FAILPOINTS", "recover-before-open=sleep(2000)")]);
    server.begin_restart();
    let mut conn = loop {
        match Conn::open(server.port()) {
            Ok(conn) => break conn,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let loading = "-LOADING Terrace is loading the dataset in memory\r\n";
    assert_eq!(show(&conn.words("GET key")), show(loading.as_bytes()));
    assert_eq!(show(&conn.words("PING")), show(loading.as_bytes()));
    // Half of a request before the server is there, half of it after.
    conn.send_raw(b"*2\r\n$3\r\nGET\r\n$3\r\nk").expect("sent");
    while !server.log_tail().contains("ready to accept connections") {
        std::thread::sleep(Duration::from_millis(10));
    }
    // The word that it is ready goes to connections that wait a moment later.
    std::thread::sleep(Duration::from_millis(200));
    conn.send_raw(b"ey\r\n").expect("sent");
    assert_eq!(
        show(&conn.read_frame().expect("a reply")),
        show(b"$5\r\nvalue\r\n")
    );
}

#[test]
fn a_start_can_be_ended_by_a_signal() {
    let mut server = Server::terrace(&["--appendfsync", "always"]);
    server.connect().words("SET key value");
    server.kill();
    server.set_env(&[("FAILPOINTS", "recover-before-open=sleep(20000)")]);
    server.begin_restart();
    while Conn::open(server.port()).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let began = std::time::Instant::now();
    assert!(server.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(10));
    server.set_env(&[]);
    server.restart();
    assert_eq!(server.connect().bulk("GET key"), Some(b"value".to_vec()));
}

#[test]
fn the_server_can_be_told_to_listen_elsewhere() {
    let (server, other) = (Server::terrace(&[]), Server::terrace(&[]));
    let mut conn = server.connect();
    let taken = show(&conn.words(&format!("CONFIG SET port {}", other.port())));
    assert!(
        taken.contains("Unable to listen on this port. Check server logs."),
        "{taken}"
    );
    assert_eq!(server.connect().words("PING"), b"+PONG\r\n");
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    assert_eq!(conn.words(&format!("CONFIG SET port {port}")), b"+OK\r\n");
    let mut elsewhere = Conn::open(port).expect("the new port");
    assert_eq!(elsewhere.words("PING"), b"+PONG\r\n");
    // The old connection goes on; new ones are not taken where the old port was.
    assert_eq!(conn.words("PING"), b"+PONG\r\n");
    let began = std::time::Instant::now();
    while Conn::open(server.port()).is_ok_and(|mut old| old.try_call(&[b"PING"]).is_ok()) {
        assert!(began.elapsed() < Duration::from_secs(10), "the old port is open");
        std::thread::sleep(Duration::from_millis(10));
    }
    let wrong = show(&conn.words("CONFIG SET bind 198.51.100.7"));
    assert!(
        wrong.contains("Failed to bind to specified addresses."),
        "{wrong}"
    );
    assert_eq!(elsewhere.words("PING"), b"+PONG\r\n");
}
