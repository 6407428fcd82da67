//! What the tests that talk to a whole server share: starting one, and a client that sees raw bytes.
//!
//! A `Server` is Terrace or the real redis-server, on a free loopback port, with a folder of its own that
//! outlives restarts and is removed with the `Server`. Nothing here outlives a test, also when it panics.
//! `Conn` returns each reply as the exact bytes of its frame, so that a test can compare two servers to the letter.
#![allow(dead_code)] // each test file uses its own part of this module

pub mod accounts;
pub mod ranges;
pub mod stage;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take until it answers PING. Generous: the machine may be busy with other tests.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a reply may take before the test fails instead of hanging.
const REPLY_MAX: Duration = Duration::from_secs(30);

/// Which program a `Server` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Terrace,
    /// Debian's redis-server, the oracle of the differential tests; nothing is kept on disk.
    Redis,
}

/// The binary under test: the one cargo built, or `TERRACE_BIN` where cargo built none.
pub fn terrace_binary() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_terrace") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var("TERRACE_BIN").expect("TERRACE_BIN names the binary to test")),
    }
}

/// A running server; killed when dropped.
pub struct Server {
    program: Program,
    child: Option<Child>,
    port: u16,
    args: Vec<String>,
    /// The first of them is a configuration file.
    file_first: bool,
    /// Variables of the environment, beside those of the test itself.
    env: Vec<(String, String)>,
    dir: TempDir,
}

impl Server {
    pub fn terrace(args: &[&str]) -> Server {
        Server::start(Program::Terrace, args)
    }

    pub fn redis(args: &[&str]) -> Server {
        Server::start(Program::Redis, args)
    }

    /// With a configuration file, which is the first argument.
    pub fn terrace_with_file(file: &str, args: &[&str]) -> Server {
        let args = [&[file], args].concat();
        let mut server = Server::unstarted(Program::Terrace, &args);
        server.file_first = true;
        server.spawn_on_free_port();
        server
    }

    pub fn start(program: Program, args: &[&str]) -> Server {
        let mut server = Server::unstarted(program, args);
        server.spawn_on_free_port();
        server
    }

    fn unstarted(program: Program, args: &[&str]) -> Server {
        Server {
            program,
            child: None,
            port: 0,
            args: args.iter().map(|a| a.to_string()).collect(),
            file_first: false,
            env: Vec::new(),
            dir: TempDir::new().expect("a temporary folder"),
        }
    }

    fn spawn_on_free_port(&mut self) {
        if let Err(log) = self.try_spawn_on_free_port() {
            panic!("{:?} did not start; its log ends:\n{log}", self.program);
        }
    }

    /// A free port may be taken by someone else before the server binds it: then another one is tried. An error is the
    /// end of the log of a server that did not come up.
    fn try_spawn_on_free_port(&mut self) -> Result<(), String> {
        for _ in 0..5 {
            self.port = free_port();
            match self.try_spawn() {
                Err(log) if log.contains("Address already in use") || log.contains("bind") => continue,
                outcome => return outcome,
            }
        }
        panic!("{:?} found no free port", self.program);
    }

    fn launch(&mut self) {
        let log = File::create(self.log_path()).expect("a log file in our own folder");
        let errors = log.try_clone().expect("a second handle on the log");
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.child = Some(
            command
                .spawn()
                .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}")),
        );
    }

    fn try_spawn(&mut self) -> Result<(), String> {
        self.launch();
        let began = Instant::now();
        loop {
            if self.try_ping().is_ok() {
                return Ok(());
            }
            let child = self.child.as_mut().expect("just started");
            if child.try_wait().expect("its status").is_some() || began.elapsed() > START_MAX {
                self.kill();
                return Err(self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn command(&self) -> Command {
        let mut command = match self.program {
            Program::Terrace => Command::new(terrace_binary()),
            Program::Redis => Command::new("redis-server"),
        };
        let (file, args) = self.args.split_at(usize::from(self.file_first));
        command.args(file);
        command.args([
            "--port",
            &self.port.to_string(),
            "--bind",
            "127.0.0.1",
            "--enable-debug-command",
            "yes",
        ]);
        command.arg("--dir").arg(self.data_dir());
        if self.program == Program::Redis {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        command.args(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn try_ping(&self) -> io::Result<()> {
        let mut conn = Conn::open(self.port)?;
        match conn.try_call(&[b"PING"])?.as_slice() {
            b"+PONG\r\n" => Ok(()),
            other => Err(io::Error::other(format!("PING answered {}", show(other)))),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// Where the server keeps its data. The log lies beside, not inside.
    pub fn data_dir(&self) -> PathBuf {
        let dir = self.dir.path().join("data");
        std::fs::create_dir_all(&dir).expect("a folder in our own folder");
        dir
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The last 4 KB of what the server said.
    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4096)..]).into_owned()
    }

    pub fn connect(&self) -> Conn {
        Conn::open(self.port).unwrap_or_else(|e| panic!("cannot connect: {e}; log:\n{}", self.log_tail()))
    }

    /// SIGKILL: what a crash of the process looks like.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end, at most `START_MAX`.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running server");
        let status = Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success(), "SIGTERM was not delivered");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("its status") {
                return status;
            }
            if began.elapsed() > START_MAX {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server ignored SIGTERM; its log ends:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts again on the same folder and arguments, after `kill` or `terminate`. The port may change.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "stop it first");
        self.spawn_on_free_port();
    }

    /// As `restart`, and returns at once.
    pub fn begin_restart(&mut self) {
        assert!(self.child.is_none(), "stop it first");
        self.port = free_port();
        self.launch();
    }

    /// As `restart`, for a server that may end by itself before it answers: false when it did.
    pub fn try_restart(&mut self) -> bool {
        assert!(self.child.is_none(), "stop it first");
        self.try_spawn_on_free_port().is_ok()
    }

    /// Sets the environment variables of the next `restart`.
    pub fn set_env(&mut self, variables: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        self.env = variables.iter().map(owned).collect();
    }

    /// Changes the extra arguments for the next `restart`.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|a| a.to_string()).collect();
    }

    /// User and system time the process has used, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("its stat file");
        // Fields after the parenthesised name, which may hold spaces: state is the first, utime the 12th.
        let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks: f64 = fields[11..13]
            .iter()
            .map(|f| f.parse::<f64>().expect("ticks"))
            .sum();
        ticks / 100.0 // USER_HZ is 100 on every Linux
    }

    /// Resident memory of the process in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status file");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        let kb: u64 = line
            .split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("a number");
        kb * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() && self.program == Program::Terrace {
            eprintln!("---- end of the server's log\n{}\n----", self.log_tail());
        }
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Bytes of a folder's files, all levels.
pub fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => folder_bytes(&e.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A blocking connection that returns replies as raw frames.
pub struct Conn {
    stream: TcpStream,
    received: Vec<u8>,
    used: usize,
}

impl Conn {
    pub fn open(port: u16) -> io::Result<Conn> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_MAX))?;
        stream.set_write_timeout(Some(REPLY_MAX))?;
        Ok(Conn {
            stream,
            received: Vec::new(),
            used: 0,
        })
    }

    pub fn set_read_timeout(&self, timeout: Duration) {
        self.stream
            .set_read_timeout(Some(timeout))
            .expect("a socket option");
    }

    /// Sends one request and returns its reply's frame.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        self.try_call(args).unwrap_or_else(|e| {
            let words: Vec<String> = args.iter().map(|a| show(a.as_ref())).collect();
            panic!("no reply to {}: {e}", words.join(" "))
        })
    }

    pub fn try_call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Vec<u8>> {
        self.send_raw(&encode(args))?;
        self.read_frame()
    }

    /// Sends a line of plain words. For tests whose arguments hold no blanks.
    pub fn words(&mut self, line: &str) -> Vec<u8> {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.call(&args)
    }

    /// `words`, for a reply that must be an integer.
    pub fn integer(&mut self, line: &str) -> i64 {
        let reply = self.words(line);
        match Value::parse(&reply) {
            Value::Line(b':', digits) => String::from_utf8_lossy(&digits).parse().expect("an integer"),
            _ => panic!("{line} answered {}", show(&reply)),
        }
    }

    /// `words`, for a reply that must be a bulk string or null.
    pub fn bulk(&mut self, line: &str) -> Option<Vec<u8>> {
        let reply = self.words(line);
        match Value::parse(&reply) {
            Value::Bulk(_, bytes) => Some(bytes),
            Value::Null | Value::Line(b'_', _) => None,
            _ => panic!("{line} answered {}", show(&reply)),
        }
    }

    /// Sends every request before it reads the first reply. The batch must fit the sockets' buffers on both sides.
    pub fn pipeline(&mut self, requests: &[Vec<Vec<u8>>]) -> io::Result<Vec<Vec<u8>>> {
        let bytes: Vec<u8> = requests.iter().flat_map(|args| encode(args)).collect();
        self.send_raw(&bytes)?;
        requests.iter().map(|_| self.read_frame()).collect()
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// No more requests: the server sees the end of the stream.
    pub fn close_writing(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The next frame, exact bytes. `UnexpectedEof` when the server closed the connection.
    pub fn read_frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(len) = frame_len(&self.received[self.used..]) {
                let frame = self.received[self.used..self.used + len].to_vec();
                self.used += len;
                if self.used == self.received.len() {
                    self.received.clear();
                    self.used = 0;
                }
                return Ok(frame);
            }
            self.receive()?;
        }
    }

    /// Everything up to the end of the stream. Fails when the server keeps the connection open.
    pub fn read_to_close(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.receive() {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
                // A server that closes with our bytes unread makes the kernel send a reset.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break,
                Err(e) => return Err(e),
            }
        }
        let rest = self.received.split_off(self.used);
        self.received.clear();
        self.used = 0;
        Ok(rest)
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut chunk = [0u8; 64 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.received.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }
}

/// A request as a RESP array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Length of the frame at the start of `bytes`, or `None` while it is incomplete. Panics on what is no RESP.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let line_end = bytes.windows(2).position(|w| w == b"\r\n")? + 2;
    let number = || -> i64 {
        let digits = std::str::from_utf8(&bytes[1..line_end - 2]).unwrap_or("");
        digits
            .parse()
            .unwrap_or_else(|_| panic!("no length in {}", show(&bytes[..line_end])))
    };
    let children = match bytes[0] {
        b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => 0,
        b'$' | b'!' | b'=' => match number() {
            -1 => 0,
            len => {
                let total = line_end + len as usize + 2;
                return (bytes.len() >= total).then_some(total);
            }
        },
        b'*' | b'~' | b'>' => number().max(0),
        b'%' => number() * 2,
        b'|' => number() * 2 + 1, // the attributes, and the reply that they belong to
        other => panic!("{:?} starts no RESP frame: {}", other as char, show(bytes)),
    };
    let mut total = line_end;
    for _ in 0..children {
        total += frame_len(&bytes[total..])?;
    }
    Some(total)
}

/// A frame taken apart, for tests that look inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `+ - : , # ( _`, with the rest of the line.
    Line(u8, Vec<u8>),
    /// `$ ! =`, with the bytes.
    Bulk(u8, Vec<u8>),
    /// RESP2's null string and null array.
    Null,
    /// `* ~ > % |`, with the children in order; a map's keys and values alternate.
    List(u8, Vec<Value>),
}

impl Value {
    pub fn parse(frame: &[u8]) -> Value {
        let (value, rest) = Value::parse_one(frame);
        assert!(rest.is_empty(), "more than one frame in {}", show(frame));
        value
    }

    fn parse_one(bytes: &[u8]) -> (Value, &[u8]) {
        let line_end = bytes
            .windows(2)
            .position(|w| w == b"\r\n")
            .expect("a whole frame");
        let (line, rest) = (&bytes[1..line_end], &bytes[line_end + 2..]);
        let number = || String::from_utf8_lossy(line).parse::<i64>().expect("a length");
        match bytes[0] {
            kind @ (b'$' | b'!' | b'=') => match number() {
                -1 => (Value::Null, rest),
                len => (
                    Value::Bulk(kind, rest[..len as usize].to_vec()),
                    &rest[len as usize + 2..],
                ),
            },
            kind @ (b'*' | b'~' | b'>' | b'%' | b'|') => {
                let mut rest = rest;
                let count = match (kind, number()) {
                    (_, -1) => return (Value::Null, rest),
                    (b'%', n) => n * 2,
                    (b'|', n) => n * 2 + 1,
                    (_, n) => n,
                };
                let children = (0..count)
                    .map(|_| {
                        let (child, after) = Value::parse_one(rest);
                        rest = after;
                        child
                    })
                    .collect();
                (Value::List(kind, children), rest)
            }
            kind => (Value::Line(kind, line.to_vec()), rest),
        }
    }

    /// The children of a list, the texts of its leaves.
    pub fn texts(&self) -> Vec<Vec<u8>> {
        match self {
            Value::Line(_, text) | Value::Bulk(_, text) => vec![text.clone()],
            Value::Null => vec![],
            Value::List(_, children) => children.iter().flat_map(Value::texts).collect(),
        }
    }
}

/// Bytes as printable text, at most 400 of them.
pub fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(400)];
    let more = if cut.len() < bytes.len() {
        format!("… ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    format!("{}{more}", cut.escape_ascii())
}
