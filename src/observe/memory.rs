//! What the allocator and the system say about memory.

use std::ptr::null_mut;
use tikv_jemalloc_ctl::{epoch, stats};

/// Bytes that the program has allocated, RocksDB's included.
pub fn allocated() -> u64 {
    refresh();
    stats::allocated::read().unwrap_or(0) as u64
}

/// (allocated, active, resident) bytes of the allocator.
pub fn allocator() -> (u64, u64, u64) {
    refresh();
    let read = |value: Result<usize, _>| value.map_or(0, |bytes| bytes as u64);
    (
        read(stats::allocated::read()),
        read(stats::active::read()),
        read(stats::resident::read()),
    )
}

/// Bytes that the allocator has of the system and nobody uses: holes between allocations, and pages not given back yet.
pub fn unused() -> u64 {
    let (allocated, _, resident) = allocator();
    let metadata = stats::metadata::read().map_or(0, |bytes| bytes as u64);
    resident.saturating_sub(allocated + metadata)
}

fn refresh() {
    // The figures stay as they are when the allocator does not answer.
    let _ = epoch::advance();
}

/// Has the allocator give all unused pages back to the system, as far as it can; takes some milliseconds per gigabyte.
pub fn purge() -> bool {
    // jemalloc's number for all arenas together.
    const PURGE: &std::ffi::CStr = c"arena.4096.purge";
    // SAFETY: the name ends in a zero, and the control takes and returns no value, so that no pointer is followed.
    let code = unsafe { tikv_jemalloc_sys::mallctl(PURGE.as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
    code == 0
}

/// Has the allocator give unused pages back within so many milliseconds; by itself it takes ten seconds, and what a
/// flush has used counts as the server's for so long. To be called before there are threads, whose arenas follow the
/// first.
pub fn give_back_within(milliseconds: isize) {
    for name in [c"arenas.dirty_decay_ms", c"arena.0.dirty_decay_ms"] {
        let mut value = milliseconds;
        // SAFETY: the name ends in a zero; the control reads a number of this type and size from where it is told to,
        // which lives until the call returns, and returns none.
        let code = unsafe {
            let value = std::ptr::from_mut(&mut value).cast();
            tikv_jemalloc_sys::mallctl(name.as_ptr(), null_mut(), null_mut(), value, size_of::<isize>())
        };
        if code != 0 {
            log::warn!("the allocator does not know {name:?}");
        }
    }
}

/// Resident bytes of the process, from the system.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * 4096
}

/// The allocator's figures as text, a line for each.
pub fn allocator_report() -> String {
    refresh();
    let figures = [
        ("allocated", stats::allocated::read(), "asked for by the program"),
        (
            "active",
            stats::active::read(),
            "in pages with something allocated in them",
        ),
        ("metadata", stats::metadata::read(), "the allocator's own"),
        (
            "resident",
            stats::resident::read(),
            "in pages that the system has given",
        ),
        ("mapped", stats::mapped::read(), "in extents in use"),
        (
            "retained",
            stats::retained::read(),
            "address space kept for later",
        ),
    ];
    let line = |(name, bytes, about): (&str, Result<usize, _>, &str)| {
        format!("{name:<10}{:>16} bytes {about}\n", bytes.unwrap_or(0))
    };
    figures.into_iter().map(line).collect()
}
