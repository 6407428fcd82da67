//! MONITOR: every command as a line, to the clients that asked.

use crate::command::Args;
use crate::net::clients::Client;
use crate::net::session::Session;
use bytes::Bytes;
use parking_lot::Mutex;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

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
    pub fn feed(&self, args: &Args<'_>, session: &Session, now_ms: i64) {
        let mut line = format!(
            "+{}.{:06} [{} {}]",
            now_ms / 1_000,
            now_ms % 1_000 * 1_000,
            session.db,
            session.client.addr
        );
        for arg in args.all() {
            line.push_str(" \"");
            for byte in *arg {
                push_escaped(&mut line, *byte);
            }
            line.push('"');
        }
        line.push_str("\r\n");
        let line = Bytes::from(line);
        for client in self.clients.lock().iter() {
            client.send(line.clone());
        }
    }
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
