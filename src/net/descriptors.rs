//! How many files the process may have open: every client is one, and the store and the journal need theirs.
//!
//! Systems begin a process with few, often 1024, and let it have far more if it asks. Where clients could take all of
//! them, no file could be opened for a flush, and writes would be refused; so room is kept for files, and where the
//! system does not give enough, fewer clients are let in than the configuration says.

use crate::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no clients: tables of the store (512 at most), segments, backups, sockets, the log.
const OTHER_FILES: u64 = 1_000;

/// Raises the limit as far as so many clients need it. Returns how many there may be: fewer where the system gives less.
pub fn raise_for(clients: u32) -> u32 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = u64::from(clients) + OTHER_FILES;
    let most = maximum.map_or(wanted, |most| most.min(wanted));
    let mut has = current.unwrap_or(u64::MAX);
    if has < most {
        let raised = Rlimit {
            current: Some(most),
            maximum,
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => has = most,
            Err(error) => log::warn!("the limit of open files stays at {has}: {error}"),
        }
    }
    room_for_clients(has).min(clients)
}

/// Clients that fit beside the files; at least half of what there is is theirs.
fn room_for_clients(files: u64) -> u32 {
    let room = files.saturating_sub(OTHER_FILES).max(files / 2);
    u32::try_from(room).unwrap_or(u32::MAX)
}

/// Lets as many clients in as the configuration says, or fewer, and says so.
pub fn fit_clients(config: &mut Config) {
    let most = raise_for(config.maxclients);
    if most < config.maxclients {
        log::warn!(
            "maxclients is {most} and not {}: the system allows no more open files (ulimit -n), and the store needs some",
            config.maxclients
        );
        config.maxclients = most;
    }
}

#[cfg(test)]
mod tests {
    use super::room_for_clients;

    #[test]
    fn files_keep_their_part_of_what_there_is() {
        assert_eq!(room_for_clients(11_000), 10_000);
        assert_eq!(room_for_clients(1_024), 512);
        assert_eq!(room_for_clients(0), 0);
        assert_eq!(room_for_clients(u64::MAX), u32::MAX);
    }
}
