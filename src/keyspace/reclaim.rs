//! Freeing large objects where nobody waits for it: on a thread of its own.
//!
//! Dropping a set of ten million members takes a second, and an entry is dropped under its shard's lock. So what has
//! more than a few elements is handed over instead; what is small is dropped on the spot, which is cheaper.

use crate::object::Object;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};

/// Elements above which an object is handed over.
const LARGE: usize = 64;

/// Objects handed over and not yet freed, and all that were freed so.
pub static PENDING: AtomicU64 = AtomicU64::new(0);
pub static FREED: AtomicU64 = AtomicU64::new(0);

static QUEUE: OnceLock<Sender<Object>> = OnceLock::new();

/// Frees an object, a large one in the background.
pub fn reclaim(object: Object) {
    if object.len() <= LARGE {
        return;
    }
    PENDING.fetch_add(1, Relaxed);
    if let Err(refused) = QUEUE.get_or_init(start).send(object) {
        // The thread could not be started: freed here after all.
        drop(refused);
        PENDING.fetch_sub(1, Relaxed);
    }
}

fn start() -> Sender<Object> {
    let (sender, receiver) = channel::<Object>();
    let free = move || {
        for object in receiver {
            drop(object);
            PENDING.fetch_sub(1, Relaxed);
            FREED.fetch_add(1, Relaxed);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("reclaim".into()).spawn(free) {
        log::warn!("large values are freed where they are deleted: {error}");
    }
    sender
}
