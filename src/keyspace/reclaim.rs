//! Freeing large objects where nobody waits for it: on a thread of its own.
//!
//! Dropping a set of ten million members takes a second, and an entry is dropped under its shard's lock. So what has
//! more than a few elements is handed over instead; what is small is dropped on the spot, which is cheaper. So it is
//! with the block of a long string: giving half a gigabyte back to the system takes a tenth of a second.

use super::entry::Entry;
use super::table::Table;
use crate::object::Object;
use std::alloc::{Layout, dealloc};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};

/// Elements above which an object is handed over.
const LARGE: usize = 64;
/// Bytes from which on a block is handed over.
pub(super) const LARGE_BLOCK: usize = 1 << 20;

/// Objects handed over and not yet freed, and all that were freed so.
pub static PENDING: AtomicU64 = AtomicU64::new(0);
pub static FREED: AtomicU64 = AtomicU64::new(0);

static QUEUE: OnceLock<Sender<Waste>> = OnceLock::new();

enum Waste {
    Object(Object),
    Block(Block),
    Table(Table),
    Entries(Vec<Entry>),
}

/// Memory that nothing refers to any more.
struct Block(*mut u8, Layout);

// SAFETY: whoever has the block owns it alone, and memory may be given back by any thread.
unsafe impl Send for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `reclaim_block` demands that the layout is that of the allocation, and that nothing refers to it.
        unsafe { dealloc(self.0, self.1) }
    }
}

/// Frees an object, a large one in the background.
pub fn reclaim(object: Object) {
    if object.len() > LARGE {
        hand_over(Waste::Object(object));
    }
}

/// Gives a block back to the allocator, a large one in the background.
///
/// # Safety
///
/// The block was allocated with this layout, and is not used after the call.
pub unsafe fn reclaim_block(block: *mut u8, layout: Layout) {
    let block = Block(block, layout);
    if layout.size() >= LARGE_BLOCK {
        hand_over(Waste::Block(block));
    }
}

/// Frees what a shard held, in the background.
pub(super) fn reclaim_table(table: Table) {
    if !table.is_empty() {
        hand_over(Waste::Table(table));
    }
}

/// Frees entries in the background.
pub(super) fn reclaim_entries(entries: Vec<Entry>) {
    if !entries.is_empty() {
        hand_over(Waste::Entries(entries));
    }
}

fn hand_over(waste: Waste) {
    PENDING.fetch_add(1, Relaxed);
    if let Err(refused) = QUEUE.get_or_init(start).send(waste) {
        // The thread could not be started: freed here after all.
        drop(refused);
        PENDING.fetch_sub(1, Relaxed);
    }
}

fn start() -> Sender<Waste> {
    let (sender, receiver) = channel::<Waste>();
    let free = move || {
        for waste in receiver {
            match waste {
                Waste::Object(object) => drop(object),
                Waste::Block(block) => drop(block),
                Waste::Table(table) => drop(table),
                Waste::Entries(entries) => drop(entries),
            }
            PENDING.fetch_sub(1, Relaxed);
            FREED.fetch_add(1, Relaxed);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("reclaim".into()).spawn(free) {
        log::warn!("large values are freed where they are deleted: {error}");
    }
    sender
}
