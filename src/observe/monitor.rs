//! MONITOR: every command as a line, to the clients that asked.

use super::redact::redacted;
use crate::command::Args;
use crate::net::clients::{Client, Parcel, client_flag};
use crate::net::session::Session;
use parking_lot::Mutex;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Default)]
pub struct Monitors {
    clients: Mutex<Vec<Arc<Client>>>,
    count: AtomicUsize,
}

impl Monitors {
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    pub fn add(&self, client: &Arc<Client>) {
        let mut clients = self.clients.lock();
        if !clients.iter().any(|other| other.id == client.id) {
            clients.push(client.clone());
        }
        self.count.store(clients.len(), Relaxed);
    }

    pub fn remove(&self, id: u64) {
        let mut clients = self.clients.lock();
        clients.retain(|client| client.id != id);
        self.count.store(clients.len(), Relaxed);
    }

    /// Sends a command to every monitor; the line is made once.
    pub fn feed(&self, args: &Args<'_>, session: &Session) {
        self.send(args, beginning(session));
    }

    /// The same of a command that a script runs.
    pub fn feed_of_script(&self, args: &Args<'_>, session: &Session) {
        self.send(args, beginning_by(session.db, "lua"));
    }

    fn send(&self, args: &Args<'_>, mut line: String) {
        for arg in redacted(args) {
            line.push_str(" \"");
            for byte in arg {
                push_escaped(&mut line, *byte);
            }
            line.push('"');
        }
        line.push_str("\r\n");
        let line = Parcel::from(line.into_bytes());
        for client in self.clients.lock().iter() {
            client.send(&line);
        }
    }
}

/// When, in which database, by whom.
fn beginning(session: &Session) -> String {
    let client = &session.client;
    let addr = match client.addr.strip_suffix(":0") {
        Some(path) if client.has(client_flag::UNIX_SOCKET) => format!("unix:{path}"),
        _ => client.addr.clone(),
    };
    beginning_by(session.db, &addr)
}

fn beginning_by(db: u8, who: &str) -> String {
    // A clock before 1970 shows as 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("+{}.{:06} [{db} {who}]", now.as_secs(), now.subsec_micros())
}

fn push_escaped(line: &mut String, byte: u8) {
    match byte {
        b'\\' | b'"' => {
            line.push('\\');
            line.push(char::from(byte));
        }
        b'\n' => line.push_str("\\n"),
        b'\r' => line.push_str("\\r"),
        b'\t' => line.push_str("\\t"),
        0x07 => line.push_str("\\a"),
        0x08 => line.push_str("\\b"),
        b' '..=b'~' => line.push(char::from(byte)),
        // Writing to a String cannot fail.
        _ => drop(write!(line, "\\x{byte:02x}")),
    }
}
