//! Limits of a range on its keys and values: `max-keys` and `max-value-size`.
//!
//! A command that may add keys or let values grow is checked twice, with its shards locked: before it runs, whether the
//! keys that it would make fit; and after, where a value might have become too large, whether one has. Then every key
//! that it changed gets its old value back and its effects are taken back, so a refused command has changed nothing.
//! How large a value can become is estimated generously beforehand, so that copies are made of values near the limit
//! alone.
//!
//! `max-keys` of a range is held exactly by commands that come one after the other; commands that run in the same
//! moment may each add the last key.

use super::Keyspace;
use super::effects::EffectsMark;
use super::entry::{self, Value};
use super::evict::Room;
use super::range::Range;
use super::tx::{Expiry, Tx};
use crate::config::EvictionPolicy;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Times that room is made for one command, because others take it meanwhile.
pub const ROUNDS_MAX: usize = 16;

/// Why a command is refused.
#[derive(Debug)]
pub enum QuotaError {
    /// The range holds as many keys as it may, or would with those that the command adds.
    Keys {
        range: Arc<Range>,
        added: usize,
    },
    Value {
        range: Arc<Range>,
    },
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuotaError::Keys { range, .. } => write!(
                f,
                "OOM command not allowed when range '{}' holds its max-keys of {}.",
                range.spec.name, range.policy.max_keys
            ),
            QuotaError::Value { range } => write!(
                f,
                "ERR value would be larger than the max-value-size of {} bytes of range '{}'",
                range.policy.max_value_size, range.spec.name
            ),
        }
    }
}

/// What a command does with one of its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    Reads,
    /// May delete the key or make its value smaller.
    Shrinks,
    /// May make the key, or its value larger.
    Grows,
}

/// A key of a command.
#[derive(Clone, Copy)]
pub struct Used<'a> {
    pub key: &'a [u8],
    pub how: Use,
}

/// What has to be looked at after a command, and what it takes to undo it.
pub struct Undo<'a> {
    saved: Vec<Saved<'a>>,
    mark: (EffectsMark, usize),
}

struct Saved<'a> {
    key: &'a [u8],
    /// Value, expiry and origin flags; none of an absent key.
    held: Option<(Value, Option<i64>, u8)>,
    size: usize,
}

/// A value of up to so many bytes may be packed, and become many times larger when it no longer is.
const PACKED_MAX: usize = 128 << 10;
const UNPACKED_FACTOR: usize = 16;
/// What a value of few bytes may begin with, as a HyperLogLog does.
const SLACK: usize = 64 << 10;
/// What an element may take beyond its own bytes.
const PER_ARGUMENT: usize = 128;

/// No value of a command of these arguments becomes larger, if those that are there have `held` bytes.
fn size_bound(held: usize, received: &[&[u8]]) -> usize {
    let arguments = received.iter().map(|arg| arg.len() + PER_ARGUMENT).sum::<usize>();
    // An offset says how long a string becomes, in bytes, or in units of at most eight.
    let offset = received.iter().filter_map(|arg| number(arg)).max().unwrap_or(0);
    let held = if held <= PACKED_MAX {
        held * UNPACKED_FACTOR
    } else {
        held
    };
    held.saturating_add(arguments)
        .saturating_add(offset.saturating_mul(8))
        .saturating_add(SLACK)
}

fn number(arg: &[u8]) -> Option<usize> {
    std::str::from_utf8(arg.strip_prefix(b"#").unwrap_or(arg))
        .ok()?
        .parse()
        .ok()
}

impl Range {
    /// Keys can be evicted to make room for others.
    fn evicts(&self) -> bool {
        !self.is_durable() && self.policy.eviction != EvictionPolicy::NoEviction
    }
}

impl Keyspace {
    /// Some range limits its keys or the size of its values.
    #[inline]
    pub fn has_quotas(&self) -> bool {
        self.limits.quotas.load(Relaxed)
    }

    /// Evicts keys so that as many as a refused command adds have room. False when there is none. Called without locks.
    pub fn make_key_room(&self, refused: &QuotaError, now_ms: i64) -> bool {
        let QuotaError::Keys { range, added } = refused else {
            return false;
        };
        if !range.evicts() || *added as u64 > range.policy.max_keys {
            return false;
        }
        let over = || range.is_full_for(*added);
        while over() {
            if self.evict_while(over, || false, (Some(range), self.tick(now_ms))) == Room::Full {
                return false;
            }
        }
        true
    }
}

impl Range {
    fn is_full_for(&self, added: usize) -> bool {
        let most = self.policy.max_keys;
        most > 0 && self.counters.total_keys().max(0) as u64 + added as u64 > most
    }
}

impl<'a> Tx<'a> {
    /// Before a command with these keys: refuses it where it may make more keys than a range takes. What is returned
    /// has to come to `settle_quota` after it; none where no value can become too large.
    pub fn check_quota<'k>(
        &mut self,
        keys: &[Used<'k>],
        received: &[&[u8]],
    ) -> Result<Option<Undo<'k>>, QuotaError> {
        self.check_new_keys(keys)?;
        let ranges = |tx: &Tx<'_>, how: Use| -> Option<u64> {
            let grown = keys.iter().filter(|used| used.how == how);
            let limits = grown.map(|used| tx.range_of(used.key).policy.max_value_size);
            limits.filter(|limit| *limit > 0).min()
        };
        let Some(limit) = ranges(self, Use::Grows) else {
            return Ok(None);
        };
        let mut held = 0;
        for used in keys {
            held += self.peek(used.key).map_or(0, entry::Entry::value_size);
        }
        // What a serialized value unpacks to, its length does not say.
        let serialized = received
            .first()
            .is_some_and(|name| name.eq_ignore_ascii_case(b"restore"));
        if !serialized && size_bound(held, received) as u64 <= limit {
            return Ok(None);
        }
        let changed = keys.iter().filter(|used| used.how != Use::Reads);
        let saved = changed.map(|used| self.save(used.key)).collect();
        Ok(Some(Undo {
            saved,
            mark: self.effects_mark(),
        }))
    }

    fn check_new_keys(&mut self, keys: &[Used<'_>]) -> Result<(), QuotaError> {
        let bounded = |tx: &Tx<'_>, used: &&Used<'_>| tx.range_of(used.key).policy.max_keys > 0;
        let mut ranges: SmallVec<[Arc<Range>; 1]> = SmallVec::new();
        for used in keys.iter().filter(|used| used.how == Use::Grows) {
            let range = self.range_of(used.key);
            if bounded(self, &used) && !ranges.iter().any(|known| Arc::ptr_eq(known, &range)) {
                ranges.push(range);
            }
        }
        for range in ranges {
            if !range.is_full_for(keys.len()) {
                continue;
            }
            let mut seen: SmallVec<[&[u8]; 4]> = SmallVec::new();
            let mut added = 0i64;
            for used in keys.iter().filter(|used| used.how != Use::Reads) {
                let inside = Arc::ptr_eq(&self.range_of(used.key), &range);
                if !inside || seen.contains(&used.key) {
                    continue;
                }
                seen.push(used.key);
                match (used.how, self.exists(used.key)) {
                    (Use::Grows, false) => added += 1,
                    // It goes where the other comes (RENAME).
                    (Use::Shrinks, true) => added -= 1,
                    _ => {}
                }
            }
            let added = added.max(0) as usize;
            if added > 0 && range.is_full_for(added) {
                return Err(QuotaError::Keys { range, added });
            }
        }
        Ok(())
    }

    /// Before a value of `size` bytes is put under a key that it may have to make.
    pub fn check_copy(&mut self, key: &[u8], size: usize) -> Result<(), QuotaError> {
        let range = self.range_of(key);
        let limit = range.policy.max_value_size;
        if limit > 0 && size as u64 > limit {
            return Err(QuotaError::Value { range });
        }
        if range.is_full_for(1) && !self.exists(key) {
            return Err(QuotaError::Keys { range, added: 1 });
        }
        Ok(())
    }

    fn save<'k>(&mut self, key: &'k [u8]) -> Saved<'k> {
        let entry = self.peek(key);
        Saved {
            key,
            size: entry.map_or(0, entry::Entry::value_size),
            held: entry.map(|entry| (entry.clone_value(), entry.expiry(), entry.flags(entry::ORIGIN))),
        }
    }

    /// After a command: if a value has grown beyond what its range takes, everything is as before.
    pub fn settle_quota(&mut self, undo: Undo<'_>) -> Result<(), QuotaError> {
        for saved in &undo.saved {
            let range = self.range_of(saved.key);
            let limit = range.policy.max_value_size;
            let size = self.peek(saved.key).map_or(0, entry::Entry::value_size);
            if limit > 0 && size as u64 > limit && size > saved.size {
                self.undo(undo);
                return Err(QuotaError::Value { range });
            }
        }
        Ok(())
    }

    fn undo(&mut self, undo: Undo<'_>) {
        for saved in undo.saved {
            match saved.held {
                None => {
                    self.delete(saved.key);
                }
                Some((value, expiry, origin)) => {
                    self.put_value(saved.key, value, expiry.map_or(Expiry::Clear, Expiry::At));
                    if expiry.is_none() {
                        // The range may give one by default.
                        self.set_expiry(saved.key, None);
                    }
                    self.mark_origin(saved.key, origin);
                }
            }
        }
        // What undoes it is no effect either.
        self.roll_back_effects(&undo.mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_and_a_packed_value_count_for_what_they_may_become() {
        assert!(size_bound(0, &[b"SETRANGE", b"k", b"1000000", b"x"]) > 1_000_000);
        assert!(size_bound(0, &[b"BITFIELD", b"k", b"SET", b"i64", b"#200000", b"1"]) > 1_600_000);
        assert!(size_bound(4_000, &[b"HSET", b"k", b"f", b"v"]) > 40_000);
        assert!(size_bound(0, &[b"SET", b"k", b"v"]) < 100_000);
    }
}
