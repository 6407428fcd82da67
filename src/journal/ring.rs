//! The ring that carries effects from the commands to the writer thread, without a lock.
//!
//! ```text
//!            drained                      reserved
//!               |                            |
//!   ring  ......[ rec ][ rec ][ copying ][rec].......     position of a byte = its offset modulo the capacity
//!   words  .....L......L......0..........L...........     one word for every 16 bytes of the ring
//! ```
//!
//! An append reserves its offsets with one atomic add, copies its bytes into their place, and then stores its length
//! in the word of the 16 bytes in which it starts. No effect is shorter than 16 bytes (the shortest command with its
//! framing is 17), so no two records share a word. The writer follows the words from `drained`; a zero means that the
//! record there is still being copied.
//!
//! A record that does not fit (it is large, or the writer is behind) is handed over in a map instead, so that an
//! append never waits: it happens under a shard lock. Waiting for room is done before locks are taken.

use parking_lot::Mutex;
use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const GRAIN: u64 = 16;

pub struct Ring {
    bytes: Box<[UnsafeCell<u8>]>,
    words: Box<[AtomicU64]>,
    reserved: crossbeam_utils::CachePadded<AtomicU64>,
    drained: crossbeam_utils::CachePadded<AtomicU64>,
    outside: Mutex<BTreeMap<u64, Vec<u8>>>,
    outside_len: AtomicUsize,
}

// SAFETY: a byte of the ring is written only by the append that reserved its offset, while that offset is less than a
// capacity above `drained`, and read only by the one writer after the record's word was stored with Release and loaded
// with Acquire. So no byte is accessed by two threads at once.
unsafe impl Sync for Ring {}

impl Ring {
    /// `capacity` bytes, rounded up to a power of two of at least 64 KiB; the first offset is `start`.
    pub fn new(capacity: usize, start: u64) -> Ring {
        let capacity = capacity.max(1 << 16).next_power_of_two();
        // SAFETY: all zeros is a valid byte in a cell, and a valid atomic number. Zeroed by the allocator, the pages
        // cost nothing until they are used: a server of memory ranges alone never touches them.
        let (bytes, words) = unsafe {
            let words = Box::new_zeroed_slice(capacity / GRAIN as usize);
            (Box::new_zeroed_slice(capacity).assume_init(), words.assume_init())
        };
        Ring {
            bytes,
            words,
            reserved: AtomicU64::new(start).into(),
            drained: AtomicU64::new(start).into(),
            outside: Mutex::new(BTreeMap::new()),
            outside_len: AtomicUsize::new(0),
        }
    }

    fn capacity(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        &self.words[((offset % self.capacity()) / GRAIN) as usize]
    }

    /// Puts a record in; returns the offset behind it.
    pub fn append(&self, payload: &[u8]) -> u64 {
        let len = payload.len() as u64;
        assert!(
            len >= GRAIN,
            "an effect is never shorter than a grain of the ring"
        );
        let start = self.reserved.fetch_add(len, Ordering::SeqCst);
        if start + len - self.drained.load(Ordering::Acquire) > self.capacity() {
            self.outside.lock().insert(start, payload.to_vec());
            self.outside_len.fetch_add(1, Ordering::Release);
            return start + len;
        }
        let at = (start % self.capacity()) as usize;
        let first = payload.len().min(self.bytes.len() - at);
        // SAFETY: the offsets were reserved by this call alone and fit the ring above `drained` (checked above), so
        // nothing else touches these bytes until the word below is stored.
        unsafe {
            std::ptr::copy_nonoverlapping(payload.as_ptr(), self.bytes[at].get(), first);
            std::ptr::copy_nonoverlapping(
                payload[first..].as_ptr(),
                self.bytes[0].get(),
                payload.len() - first,
            );
        }
        self.word(start).store(len, Ordering::Release);
        start + len
    }

    /// The offset behind the newest record.
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::SeqCst)
    }

    /// Everything below this offset has been taken out.
    pub fn drained(&self) -> u64 {
        self.drained.load(Ordering::Acquire)
    }

    /// Less than half full: what a batch of commands asks for before it takes locks.
    pub fn has_room(&self) -> bool {
        self.reserved.load(Ordering::Relaxed) - self.drained.load(Ordering::Relaxed) < self.capacity() / 2
    }

    /// Hands the records that are ready, in order, to `take` (offset and payload in two parts), until about `most`
    /// bytes are taken or a record is not ready. For the one writer thread alone. Returns the offset reached.
    pub fn drain(&self, most: u64, mut take: impl FnMut(u64, (&[u8], &[u8]))) -> u64 {
        let from = self.drained.load(Ordering::Relaxed);
        let end = self.reserved.load(Ordering::Acquire);
        let mut at = from;
        while at < end && at - from < most {
            let len = self.word(at).swap(0, Ordering::Acquire);
            if len > 0 {
                let begin = (at % self.capacity()) as usize;
                let first = (len as usize).min(self.bytes.len() - begin);
                // SAFETY: the word says that `len` bytes from this offset are written; their append is done with
                // them, and no later one can reach them before `drained` moves below.
                let parts = unsafe {
                    (
                        std::slice::from_raw_parts(self.bytes[begin].get(), first),
                        std::slice::from_raw_parts(self.bytes[0].get(), len as usize - first),
                    )
                };
                take(at, parts);
                at += len;
            } else if let Some(payload) = self.take_outside(at) {
                take(at, (&payload, b""));
                at += payload.len() as u64;
            } else {
                break;
            }
        }
        self.drained.store(at, Ordering::Release);
        at
    }

    fn take_outside(&self, at: u64) -> Option<Vec<u8>> {
        if self.outside_len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let payload = self.outside.lock().remove(&at)?;
        self.outside_len.fetch_sub(1, Ordering::Release);
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn everything_comes_out_once_and_in_order_of_offset_from_many_threads() {
        let ring = Arc::new(Ring::new(1 << 16, 1000));
        let append = |id: u8| {
            let ring = ring.clone();
            move || {
                for i in 0..5_000usize {
                    let len = if i % 1_000 == 999 {
                        100_000
                    } else {
                        16 + (i * 7 + id as usize) % 90
                    };
                    ring.append(&vec![id; len]);
                }
            }
        };
        let threads: Vec<_> = (1..5).map(|id| std::thread::spawn(append(id))).collect();
        let (mut at, mut counts) = (1000, [0; 5]);
        while counts.iter().sum::<i32>() < 20_000 {
            ring.drain(1 << 20, |offset, (a, b)| {
                assert_eq!(offset, at);
                assert!(a.iter().chain(b).all(|byte| *byte == a[0]));
                counts[a[0] as usize] += 1;
                at += (a.len() + b.len()) as u64;
            });
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("appender"));
        assert_eq!((counts, ring.reserved()), ([0, 5_000, 5_000, 5_000, 5_000], at));
    }
}
