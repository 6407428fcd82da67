//! What systemd is told of the server's state, by the protocol of sd_notify(3): a datagram with `NAME=value` lines to
//! the socket that the environment names.

use crate::config::Supervised;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

const SOCKET: &str = "NOTIFY_SOCKET";

/// The other end, where there is one.
pub struct Supervisor(Option<SocketAddr>);

impl Supervisor {
    /// As the directive `supervised` says. What cannot be is a warning in the log, and nobody is told anything.
    pub fn find(supervised: Supervised) -> Supervisor {
        let named = env::var_os(SOCKET).filter(|name| !name.is_empty());
        let address = match (supervised, named) {
            (Supervised::Systemd | Supervised::Auto, Some(name)) => match address(&name) {
                Ok(address) => Some(address),
                Err(error) => {
                    log::warn!("{SOCKET}={}: {error}", name.display());
                    None
                }
            },
            (Supervised::Systemd, None) => {
                log::warn!("supervised systemd: {SOCKET} is not set, so the unit is not of Type=notify");
                None
            }
            (Supervised::Upstart, _) => {
                log::warn!("supervised upstart: only systemd is told anything");
                None
            }
            _ => None,
        };
        Supervisor(address)
    }

    pub fn loading(&self) {
        self.tell("STATUS=Loading the data");
    }

    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=Ready to accept connections");
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Flushing what has changed");
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.0 else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(state.as_bytes(), address));
        if let Err(error) = sent {
            log::warn!("systemd could not be told of the server's state: {error}");
        }
    }
}

/// A path, or with `@` in front a name that stands in no folder.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn states_reach_both_kinds_of_socket() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let hidden = format!("@terrace-test-{}", std::process::id());
        for name in [path.as_os_str(), OsStr::new(&hidden)] {
            let address = address(name).unwrap();
            let heard = UnixDatagram::bind_addr(&address).unwrap();
            heard.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Supervisor(Some(address)).ready();
            let mut state = [0; 100];
            let len = heard.recv(&mut state).unwrap();
            assert!(state[..len].starts_with(b"READY=1\n"));
        }
        Supervisor(None).stopping();
    }
}
