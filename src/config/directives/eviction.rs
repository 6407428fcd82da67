//! How much memory keys may take, which ones leave first, and when they expire.

use super::{Directive, choice, int, kept, kinds, memory, one, yes_no};
use crate::config::values::{self, EvictionPolicy};

const MAX_INT: i64 = i32::MAX as i64;
const MAX_LONG: u64 = i64::MAX as u64;
const HZ_MIN: u32 = 1;
const HZ_MAX: u32 = 500;

pub(super) static ROWS: &[Directive] = &[
    memory!(
        "maxmemory",
        maxmemory,
        0,
        u64::MAX,
        "Memory for all keys, resident and sealed, and what belongs to them; 0 is no limit. A range may have a limit of its own."
    ),
    choice!(
        "maxmemory-policy",
        maxmemory_policy,
        EvictionPolicy,
        "Which keys of memory ranges leave when `maxmemory` is reached. Keys of durable ranges \
         only leave memory, never the disk."
    ),
    int!(
        "maxmemory-samples",
        maxmemory_samples,
        1,
        MAX_INT,
        "Keys that are compared to find one that leaves."
    ),
    int!(
        "maxmemory-eviction-tenacity",
        maxmemory_eviction_tenacity,
        0,
        100,
        "How long one round of eviction may go on, from 0 to 100."
    ),
    int!(
        "lfu-log-factor",
        lfu_log_factor,
        0,
        MAX_INT,
        "How slowly the access counter of the `lfu` policies grows."
    ),
    int!(
        "lfu-decay-time",
        lfu_decay_time_minutes,
        0,
        MAX_INT,
        "Minutes after which that counter loses one; 0 is never."
    ),
    int!(
        "active-expire-effort",
        active_expire_effort,
        1,
        10,
        "How hard the server looks for expired keys, from 1 to 10."
    ),
    Directive::new(
        "hz",
        |config| config.hz.to_string().into_bytes(),
        |config, args| {
            let hz: u32 = values::int(one(args), 0, MAX_INT)?;
            config.hz = hz.clamp(HZ_MIN, HZ_MAX);
            Ok(())
        },
        "Rounds of background work per second, from 1 to 500.",
    ),
    yes_no!(
        "dynamic-hz",
        dynamic_hz,
        "More such rounds when there are many clients."
    ),
    yes_no!(
        "lazyfree-lazy-eviction",
        lazyfree_lazy_eviction,
        "Free evicted values in the background."
    ),
    yes_no!(
        "lazyfree-lazy-expire",
        lazyfree_lazy_expire,
        "Free expired values in the background."
    ),
    yes_no!(
        "lazyfree-lazy-server-del",
        lazyfree_lazy_server_del,
        "Free values that a command replaces in the background."
    ),
    yes_no!(
        "lazyfree-lazy-user-del",
        lazyfree_lazy_user_del,
        "`DEL` does what `UNLINK` does."
    ),
    yes_no!(
        "lazyfree-lazy-user-flush",
        lazyfree_lazy_user_flush,
        "`FLUSHDB` and `FLUSHALL` are `ASYNC` unless told otherwise."
    ),
    kept!(
        "activerehashing",
        "yes",
        kinds::yes_no,
        "Tables grow by themselves."
    )
    .quiet(),
    kept!(
        "activedefrag",
        "no",
        kinds::yes_no,
        "Moves values to join free memory."
    )
    .without_effect(),
    kept!(
        "active-defrag-ignore-bytes",
        "104857600",
        |value| kinds::memory(value, 1, MAX_LONG),
        "A bound of `activedefrag`."
    )
    .without_effect(),
    kept!(
        "active-defrag-threshold-lower",
        "10",
        |value| kinds::int(value, 0, 1000),
        "A bound of `activedefrag`."
    )
    .without_effect(),
    kept!(
        "active-defrag-threshold-upper",
        "100",
        |value| kinds::int(value, 0, 1000),
        "A bound of `activedefrag`."
    )
    .without_effect(),
    kept!(
        "active-defrag-cycle-min",
        "1",
        |value| kinds::int(value, 1, 99),
        "A bound of `activedefrag`."
    )
    .without_effect(),
    kept!(
        "active-defrag-cycle-max",
        "25",
        |value| kinds::int(value, 1, 99),
        "A bound of `activedefrag`."
    )
    .without_effect(),
    kept!(
        "active-defrag-max-scan-fields",
        "1000",
        |value| kinds::int(value, 1, i64::MAX),
        "A bound of `activedefrag`."
    )
    .without_effect(),
    kept!(
        "jemalloc-bg-thread",
        "yes",
        kinds::yes_no,
        "The allocator always has its background thread."
    )
    .quiet(),
];
