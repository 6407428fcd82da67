//! The scripts that have been running for a while: who they are, which shards they hold, and how they are ended.
//!
//! A script that is over within a moment is not seen here. One that is not is entered by its first tick, and shows from
//! then on which shards it holds, so that commands on keys in them do not run into its locks: they wait outside, and are
//! told BUSY when that takes too long.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

pub struct Running {
    /// A function, not a script.
    pub is_function: bool,
    /// The function's name, or nothing.
    pub name: String,
    /// The command as received.
    pub words: Vec<Vec<u8>>,
    pub began: Instant,
    killed: AtomicBool,
    wrote: AtomicBool,
    /// Numbers of the shards it holds, in no order.
    shards: Mutex<Vec<usize>>,
}

impl Running {
    pub fn new(is_function: bool, name: String, words: Vec<Vec<u8>>, began: Instant) -> Running {
        Running {
            is_function,
            name,
            words,
            began,
            killed: AtomicBool::new(false),
            wrote: AtomicBool::new(false),
            shards: Mutex::default(),
        }
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Acquire)
    }

    /// Says that it has written, and can be ended no more.
    pub fn note_write(&self) {
        self.wrote.store(true, Release);
    }

    pub fn set_shards(&self, shards: Vec<usize>) {
        *self.shards.lock() = shards;
    }
}

/// Why a script is not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotKilled {
    NoneRuns,
    /// What runs is a function, and a script was to be ended, or the other way round.
    OfTheOtherKind,
    Wrote,
}

#[derive(Default)]
pub struct RunningScripts {
    list: Mutex<Vec<Arc<Running>>>,
    count: AtomicUsize,
}

impl RunningScripts {
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    pub fn enter(&self, running: Arc<Running>) {
        let mut list = self.list.lock();
        list.push(running);
        self.count.store(list.len(), Relaxed);
    }

    pub fn leave(&self, running: &Arc<Running>) {
        let mut list = self.list.lock();
        list.retain(|other| !Arc::ptr_eq(other, running));
        self.count.store(list.len(), Relaxed);
    }

    /// The script that holds one of these shards; with `all` any script.
    pub fn holder(&self, shards: &[usize], all: bool) -> Option<Arc<Running>> {
        let list = self.list.lock();
        let holds = |running: &&Arc<Running>| {
            let held = running.shards.lock();
            all || shards.iter().any(|shard| held.contains(shard))
        };
        list.iter().find(holds).cloned()
    }

    /// The function that has been running the longest.
    pub fn oldest_function(&self) -> Option<Arc<Running>> {
        let list = self.list.lock();
        let functions = list.iter().filter(|running| running.is_function);
        functions.min_by_key(|running| running.began).cloned()
    }

    /// Ends every script, or every function, that has not written.
    pub fn kill(&self, functions: bool) -> Result<(), NotKilled> {
        let list = self.list.lock();
        let mut outcome = match list.first() {
            None => Err(NotKilled::NoneRuns),
            Some(_) => Err(NotKilled::OfTheOtherKind),
        };
        for running in list.iter().filter(|running| running.is_function == functions) {
            if running.wrote.load(Acquire) {
                if outcome.is_err() {
                    outcome = Err(NotKilled::Wrote);
                }
            } else {
                running.killed.store(true, Release);
                outcome = Ok(());
            }
        }
        outcome
    }
}
