//! The data folder, the journal, the stores, the ranges; and Redis's directives for its own files.

use std::path::PathBuf;

use super::{Directive, choice, int, kept, kinds, memory, one, text, yes_no};
use crate::config::Config;
use crate::config::range_spec::RangeSpec;
use crate::config::values::{self, FsyncPolicy, Wrong};

const KB: u64 = 1 << 10;
const GB: u64 = 1 << 30;
const MAX_LONG: u64 = i64::MAX as u64;
const SHARDS_MAX: usize = 1 << 16;

pub(super) static ROWS: &[Directive] = &[
    Directive::new(
        "dir",
        |config| config.dir.to_string_lossy().into_owned().into_bytes(),
        |config, args| {
            config.dir = PathBuf::from(values::text(one(args))?);
            Ok(())
        },
        "The data folder. It is made if it is missing, and locked while the server runs.",
    )
    .locked(),
    Directive::new(
        "range",
        |config| {
            let texts = config.ranges.iter().map(|range| range.to_args().join(&b' '));
            texts.collect::<Vec<_>>().join(b"; ".as_slice())
        },
        |config, args| {
            config.ranges = match args {
                [] => Vec::new(),
                _ => vec![RangeSpec::parse(args)?],
            };
            Ok(())
        },
        "`range <name> <prefix or start..end> memory|durable [option value …]`, once per \
         range; see above.",
    )
    .list()
    .fixed()
    .adding(add_range)
    .on_lines(|config| config.ranges.iter().map(RangeSpec::to_args).collect()),
    choice!(
        "appendfsync",
        appendfsync,
        FsyncPolicy,
        "When a write to a durable range is on disk for certain: `always` before its reply, \
         `everysec` within a second (replies wait if the disk is slower than that), `no` when \
         the system gets to it. Ranges may have their own."
    ),
    memory!(
        "journal-segment-size",
        journal_segment_size,
        64 * KB,
        GB,
        "Size at which the journal goes on in a new file."
    )
    .fixed(),
    memory!(
        "journal-ring-size",
        journal_ring_size,
        64 * KB,
        GB,
        "Memory for effects on their way to the journal's file."
    )
    .fixed(),
    memory!(
        "journal-flush-size",
        journal_flush_size,
        64 * KB,
        MAX_LONG,
        "Bytes of journal after which changed entries are flushed, which bounds the replay \
         after a crash."
    ),
    int!(
        "journal-retention-time",
        journal_retention_seconds,
        0,
        i64::MAX / 1_000,
        "Seconds for which the journal is kept although the store holds it, for `terrace restore`; 0 is no bound. \
         Without both directives nothing is kept, with both what satisfies both."
    ),
    memory!(
        "journal-retention-size",
        journal_retention_size,
        0,
        MAX_LONG,
        "Bytes of journal that are kept although the store holds them; 0 is no bound."
    ),
    memory!(
        "flush-dirty-size",
        flush_dirty_size,
        64 * KB,
        MAX_LONG,
        "Bytes of changed entries that start a flush."
    ),
    int!(
        "paged-threshold",
        paged_threshold,
        0,
        i64::MAX,
        "Elements above which a collection of a durable range is paged: each element has a row of its own in the store, \
         and only those in use are in memory."
    ),
    memory!(
        "paged-threshold-size",
        paged_threshold_size,
        0,
        MAX_LONG,
        "Bytes above which it is, however few elements it has."
    ),
    memory!(
        "store-block-cache",
        store_block_cache,
        0,
        MAX_LONG,
        "Memory for blocks of the store of durable ranges."
    )
    .fixed(),
    text!(
        "memory-dir",
        memory_dir,
        "Folder (a tmpfs, or a disk) for what memory ranges have sealed: a restart finds it again. Empty is the heap."
    )
    .fixed(),
    int!(
        "seal-after",
        seal_after_seconds,
        0,
        1 << 24,
        "Seconds without use after which keys of memory ranges are sealed: kept packed; 0 is never."
    ),
    Directive::new(
        "shards",
        |config| config.shards.to_string().into_bytes(),
        |config, args| {
            let shards: usize = values::int(one(args), 1, SHARDS_MAX as i64)?;
            if !shards.is_power_of_two() {
                return Err("argument must be a power of two".into());
            }
            config.shards = shards;
            Ok(())
        },
        "Slices of the resident keyspace, each with its own lock; a power of two.",
    )
    .fixed(),
    Directive::new(
        "save",
        |config| {
            let points = config
                .save
                .iter()
                .map(|(seconds, changes)| format!("{seconds} {changes}"));
            points.collect::<Vec<_>>().join(" ").into_bytes()
        },
        |config, args| {
            config.save = save_points(args)?;
            Ok(())
        },
        "Accepted. Redis's points for snapshots; the journal and its flushes do that work.",
    )
    .list()
    .quiet()
    .adding(|config, args| {
        // An empty list takes back what came before it, as it does in Redis.
        let points = save_points(args)?;
        if points.is_empty() {
            config.save.clear();
        }
        config.save.extend(points);
        Ok(())
    }),
    kept!(
        "appendonly",
        "no",
        kinds::yes_no,
        "Accepted. Whether writes are journaled is a matter of the range's tier."
    )
    .quiet(),
    kept!(
        "appendfilename",
        "appendonly.aof",
        |value| non_empty_file_name("appendfilename", value),
        "Accepted. The journal names its own files."
    )
    .fixed()
    .quiet(),
    kept!(
        "appenddirname",
        "appendonlydir",
        |value| non_empty_file_name("appenddirname", value),
        "Accepted. The journal has its own folder."
    )
    .fixed()
    .quiet(),
    Directive::new(
        "dbfilename",
        |config| config.dbfilename.clone().into_bytes(),
        |config, args| {
            config.dbfilename = values::file_name("dbfilename", one(args))?;
            Ok(())
        },
        "The file in the data folder that SAVE writes, and that a server without data starts from.",
    )
    .protected(),
    kept!(
        "no-appendfsync-on-rewrite",
        "no",
        kinds::yes_no,
        "The journal is never rewritten."
    )
    .without_effect(),
    kept!(
        "auto-aof-rewrite-percentage",
        "100",
        kinds::count,
        "The journal is never rewritten."
    )
    .without_effect(),
    kept!(
        "auto-aof-rewrite-min-size",
        "67108864",
        |value| kinds::memory(value, 0, MAX_LONG),
        "The journal is never rewritten."
    )
    .without_effect(),
    kept!(
        "aof-load-truncated",
        "yes",
        kinds::yes_no,
        "A torn record at the journal's end is always cut off, and the log says so."
    )
    .without_effect(),
    kept!(
        "aof-use-rdb-preamble",
        "yes",
        kinds::yes_no,
        "Form of Redis's append-only file."
    )
    .without_effect(),
    kept!(
        "aof-timestamp-enabled",
        "no",
        kinds::yes_no,
        "Every record of the journal carries its time."
    )
    .quiet(),
    kept!(
        "aof-disable-auto-gc",
        "no",
        kinds::yes_no,
        "Keeps old files of Redis's append-only log."
    )
    .without_effect(),
    kept!(
        "aof-rewrite-incremental-fsync",
        "yes",
        kinds::yes_no,
        "The journal is never rewritten."
    )
    .without_effect(),
    yes_no!(
        "rdbcompression",
        rdbcompression,
        "Packs the strings of snapshots where that makes them shorter."
    ),
    kept!(
        "rdbchecksum",
        "yes",
        kinds::yes_no,
        "The journal and the store are always checksummed."
    )
    .fixed()
    .without_effect(),
    kept!(
        "rdb-del-sync-files",
        "no",
        kinds::yes_no,
        "Removes snapshots made for replicas."
    )
    .without_effect(),
    kept!(
        "rdb-save-incremental-fsync",
        "yes",
        kinds::yes_no,
        "Syncs Redis's snapshots bit by bit."
    )
    .without_effect(),
    kept!(
        "rdb-key-save-delay",
        "0",
        |value| kinds::int(value, i32::MIN.into(), i32::MAX.into()),
        "Slows down Redis's snapshots, for tests."
    )
    .hidden()
    .without_effect(),
    kept!(
        "key-load-delay",
        "0",
        |value| kinds::int(value, i32::MIN.into(), i32::MAX.into()),
        "Slows down loading, for tests."
    )
    .hidden()
    .without_effect(),
    kept!(
        "loading-process-events-interval-bytes",
        "2097152",
        |value| kinds::memory(value, 1024, i32::MAX as u64),
        "How often Redis looks up while it loads."
    )
    .fixed()
    .hidden()
    .without_effect(),
    kept!(
        "stop-writes-on-bgsave-error",
        "yes",
        kinds::yes_no,
        "Writes to durable ranges always stop while the disk fails."
    )
    .without_effect(),
    kept!(
        "sanitize-dump-payload",
        "no",
        |value| kinds::one_of(value, &["no", "yes", "clients"]),
        "Payloads of `RESTORE` are always checked."
    )
    .without_effect(),
];

fn add_range(config: &mut Config, args: &[&[u8]]) -> Result<(), Wrong> {
    let range = RangeSpec::parse(args)?;
    if let Some(conflict) = config.ranges.iter().find_map(|other| range.conflict_with(other)) {
        return Err(conflict);
    }
    config.ranges.push(range);
    Ok(())
}

fn save_points(args: &[&[u8]]) -> Result<Vec<(u64, u64)>, Wrong> {
    let wrong = || Wrong::from("Invalid save parameters");
    let pairs = args.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(wrong());
    }
    let point = |pair: &[&[u8]]| {
        let seconds = values::int(pair[0], 1, i64::MAX).map_err(|_| wrong())?;
        let changes = values::int(pair[1], 0, i32::MAX.into()).map_err(|_| wrong())?;
        Ok((seconds, changes))
    };
    pairs.map(point).collect()
}

fn non_empty_file_name(directive: &str, value: &[u8]) -> kinds::Checked {
    if value.is_empty() {
        return Err(format!("{directive} can't be empty"));
    }
    values::file_name(directive, value).map(String::into_bytes)
}
