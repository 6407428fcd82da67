//! Several clients play a script on a server; what each is answered can be compared between servers.
//!
//! ```text
//! a! BLPOP k 0       client a sends, and from then on waits (CLIENT LIST says so)
//! a BLPOP k 0        client a sends, and its reply is read
//! a+ PING            client a sends, and nothing is read yet
//! a= HELLO 3         client a sends, and its reply is read and not compared
//! a?                 the next reply to client a is read
//! a~                 client a hangs up; the step ends when nobody waits for it any more
//! ```
//!
//! `{a}` stands for the id of client a.

use super::{Conn, Server, encode, show};
use std::collections::HashMap;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct Stage<'s> {
    server: &'s Server,
    control: Conn,
    clients: HashMap<String, (Conn, String)>,
}

impl<'s> Stage<'s> {
    fn new(server: &'s Server) -> Stage<'s> {
        let mut control = server.connect();
        control.words("FLUSHALL");
        Stage {
            server,
            control,
            clients: HashMap::new(),
        }
    }

    fn client(&mut self, name: &str) -> &mut Conn {
        let server = self.server;
        let enter = || {
            let mut conn = server.connect();
            let id = conn.integer("CLIENT ID").to_string();
            (conn, id)
        };
        &mut self.clients.entry(name.to_string()).or_insert_with(enter).0
    }

    fn send(&mut self, name: &str, command: &str) {
        self.client(name);
        let command = self
            .clients
            .iter()
            .fold(command.to_string(), |text, (other, (_, id))| {
                text.replace(&format!("{{{other}}}"), id)
            });
        let words: Vec<&str> = command.split_whitespace().collect();
        let bytes = encode(&words);
        self.client(name).send_raw(&bytes).expect("send");
    }

    fn read(&mut self, name: &str) -> String {
        let frame = self.client(name).read_frame();
        show(&frame.unwrap_or_else(|error| panic!("no reply to {name}: {error}")))
    }

    fn until(&mut self, what: &str, done: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let list = self.control.bulk("CLIENT LIST").expect("a list");
            if done(&String::from_utf8_lossy(&list)) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{what} in vain");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn until_waiting(&mut self, name: &str) {
        let id = format!("id={} ", self.clients[name].1);
        let waits = |line: &str| line.starts_with(&id) && line.contains(" flags=b");
        self.until(&format!("waited for {name} to wait"), |list| {
            list.lines().any(waits)
        });
    }

    fn step(&mut self, line: &str) -> Option<String> {
        let (name, command) = line.split_once(' ').unwrap_or((line, ""));
        let (name, mark) = match name.chars().last() {
            Some(mark @ ('!' | '+' | '=' | '?' | '~')) => (&name[..name.len() - 1], Some(mark)),
            _ => (name, None),
        };
        match mark {
            Some('?') => return Some(self.read(name)),
            Some('~') => {
                let (conn, id) = self.clients.remove(name).expect("a client");
                drop(conn);
                let id = format!("id={id} ");
                self.until("waited for the end of a client", |list| {
                    !list.lines().any(|line| line.starts_with(&id))
                });
                return None;
            }
            _ => self.send(name, command),
        }
        match mark {
            Some('!') => self.until_waiting(name),
            Some('=') => drop(self.read(name)),
            Some(_) => {}
            None => return Some(self.read(name)),
        }
        None
    }
}

pub fn play(server: &Server, script: &str) -> Vec<String> {
    let mut stage = Stage::new(server);
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .filter_map(|line| stage.step(line).map(|reply| format!("{line} -> {reply}")))
        .collect()
}

/// Plays a script on the real server and on both tiers.
pub fn compare(script: &str) {
    let redis = Server::redis(&[]);
    let expected = play(&redis, script);
    for args in [&["--range", "default", "*", "memory"][..], &[]] {
        let terrace = Server::terrace(args);
        assert_eq!(play(&terrace, script), expected, "with {args:?}");
    }
}
