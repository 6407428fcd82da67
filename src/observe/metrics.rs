//! The server's figures in Prometheus's text format, version 0.0.4.
//!
//! What INFO shows is taken from INFO: a row names the field and the metric that it becomes, so that both say the same.
//! Commands have more to tell than INFO's lines hold, and are read from their counters.
//!
//! Guarantees: units are base units (seconds, bytes); a counter never falls but by `CONFIG RESETSTAT`; the lines of one
//! metric stand together; no lock is held for longer than INFO holds one.

use crate::command::info;
use crate::command::spec::Stats;
use crate::command::table::{self, Command};
use crate::server::Server;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What goes into the header of a reply with the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The sections of INFO that the rows below name fields of.
const SECTIONS: &[&[u8]] = &[
    b"server",
    b"clients",
    b"memory",
    b"persistence",
    b"stats",
    b"replication",
    b"cpu",
    b"errorstats",
    b"ranges",
    b"keyspace",
];

/// Bounds of histograms: the buckets of `Stats` from 2^10 to 2^33 nanoseconds, a microsecond to nine seconds.
const BOUNDS: std::ops::RangeInclusive<usize> = 10..=33;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
}

use Kind::{Counter, Gauge};

/// A field of INFO and the metric that it becomes. Rows of one metric with different labels stand together.
struct Row {
    field: &'static str,
    /// Without the prefix `terrace_`.
    metric: &'static str,
    /// As `name="value"`; or nothing.
    label: &'static str,
    kind: Kind,
    help: &'static str,
}

const fn row(field: &'static str, metric: &'static str, kind: Kind, help: &'static str) -> Row {
    Row {
        field,
        metric,
        label: "",
        kind,
        help,
    }
}

impl Row {
    const fn label(mut self, label: &'static str) -> Row {
        self.label = label;
        self
    }
}

const CPU: &str = "Processor time used.";
const DENIED: &str = "What the rules of users have refused.";

#[rustfmt::skip] // a table, a line for each row
static ROWS: &[Row] = &[
    row("uptime_in_seconds", "uptime_seconds", Gauge, "Time since the start."),
    row("connected_clients", "connected_clients", Gauge, "Clients that are connected."),
    row("maxclients", "clients_max", Gauge, "Clients that may be connected."),
    row("blocked_clients", "blocked_clients", Gauge, "Clients that wait for a key."),
    row("tracking_clients", "tracking_clients", Gauge, "Clients that are told of changes of what they cache."),
    row("pubsub_clients", "pubsub_clients", Gauge, "Clients that have subscribed to something."),
    row("mem_clients_normal", "clients_memory_bytes", Gauge, "Memory of all clients: buffers, transactions, subscriptions."),
    row("used_memory", "memory_used_bytes", Gauge, "Memory that is allocated, the store's caches included."),
    row("used_memory_peak", "memory_used_peak_bytes", Gauge, "The most that was allocated since the start."),
    row("used_memory_rss", "memory_resident_bytes", Gauge, "Memory that the system has given to the process."),
    row("used_memory_dataset", "memory_dataset_bytes", Gauge, "Memory of resident keys and values."),
    row("used_memory_overhead", "memory_overhead_bytes", Gauge, "Memory of all else: tables, buffers, caches."),
    row("used_memory_vm_total", "memory_scripts_bytes", Gauge, "Memory of scripts and functions that run."),
    row("maxmemory", "memory_max_bytes", Gauge, "The directive maxmemory; 0 is no limit."),
    row("total_system_memory", "memory_system_bytes", Gauge, "Memory of the machine."),
    row("mem_fragmentation_ratio", "memory_fragmentation_ratio", Gauge, "Resident memory to used memory."),
    row("total_connections_received", "connections_received_total", Counter, "Connections that were accepted."),
    row("rejected_connections", "connections_rejected_total", Counter, "Connections that were refused: too many, or protected mode."),
    row("evicted_clients", "clients_evicted_total", Counter, "Clients closed for maxmemory-clients."),
    row("client_output_buffer_limit_disconnections", "clients_output_limit_closed_total", Counter, "Clients closed for what they left unread."),
    row("total_commands_processed", "commands_processed_total", Counter, "Commands that were received and run."),
    row("instantaneous_ops_per_sec", "commands_per_second", Gauge, "Commands in the last second."),
    row("total_net_input_bytes", "network_received_bytes_total", Counter, "Bytes read from clients."),
    row("total_net_output_bytes", "network_sent_bytes_total", Counter, "Bytes written to clients."),
    row("keyspace_hits", "keyspace_hits_total", Counter, "Reads that found their key."),
    row("keyspace_misses", "keyspace_misses_total", Counter, "Reads that did not find their key."),
    row("lazyfree_pending_objects", "reclaim_pending", Gauge, "Large values that wait to be freed."),
    row("expired_keys", "expired_keys_total", Counter, "Keys whose time had come."),
    row("evicted_keys", "evicted_keys_total", Counter, "Keys of memory ranges that were given up for memory."),
    row("total_error_replies", "error_replies_total", Counter, "Replies that were errors."),
    row("acl_access_denied_auth", "acl_denied_total", Counter, DENIED).label("reason=\"auth\""),
    row("acl_access_denied_cmd", "acl_denied_total", Counter, DENIED).label("reason=\"command\""),
    row("acl_access_denied_key", "acl_denied_total", Counter, DENIED).label("reason=\"key\""),
    row("acl_access_denied_channel", "acl_denied_total", Counter, DENIED).label("reason=\"channel\""),
    row("pubsub_channels", "pubsub_channels", Gauge, "Channels with subscribers."),
    row("pubsub_patterns", "pubsub_patterns", Gauge, "Patterns with subscribers."),
    row("pubsub_messages_delivered", "pubsub_messages_delivered_total", Counter, "Messages left for subscribers."),
    row("used_cpu_user", "cpu_seconds_total", Counter, CPU).label("mode=\"user\""),
    row("used_cpu_sys", "cpu_seconds_total", Counter, CPU).label("mode=\"system\""),
    row("master_repl_offset", "journal_offset_bytes", Counter, "The end of the journal."),
    row("aof_current_size", "journal_unflushed_bytes", Gauge, "Journal behind what the store holds: what a start would replay."),
    row("aof_last_write_status", "journal_ok", Gauge, "1 while the disk takes the journal and the store's files, else 0."),
    row("journal_syncs", "journal_syncs_total", Counter, "Times that the journal was made durable."),
    row("journal_sync_seconds", "journal_sync_seconds_total", Counter, "Time that this took."),
    row("aof_base_size", "store_disk_bytes", Gauge, "Files of the store of durable ranges."),
    row("store_write_amplification", "store_write_amplification_ratio", Gauge, "Bytes written by the store to bytes flushed."),
    row("rdb_last_save_time", "last_save_timestamp_seconds", Gauge, "When the store was last brought up to date, or a snapshot made."),
    row("rdb_bgsave_in_progress", "snapshot_running", Gauge, "1 while a snapshot is made."),
    row("rdb_last_bgsave_status", "snapshot_ok", Gauge, "1 if the last snapshot succeeded, else 0."),
    row("rdb_saves", "snapshots_total", Counter, "Snapshots made."),
    row("backup_in_progress", "backup_running", Gauge, "1 while a backup is made."),
    row("backup_last_status", "backup_ok", Gauge, "1 if the last backup succeeded, else 0."),
    row("backup_last_time", "backup_last_timestamp_seconds", Gauge, "When the last backup was made; 0 for none."),
    row("backups_made", "backups_total", Counter, "Backups made."),
    row("backups_failed", "backups_failed_total", Counter, "Backups that failed."),
];

/// The same for the parts of the lines of ranges.
#[rustfmt::skip] // as above
static RANGE_ROWS: &[Row] = &[
    row("keys", "range_keys", Gauge, "Keys of the range."),
    row("expires", "range_expires", Gauge, "Keys of the range that expire."),
    row("cold", "range_cold_keys", Gauge, "Keys of the range that are only in a store."),
    row("bytes", "range_resident_bytes", Gauge, "Memory of the range's resident keys."),
    row("sealed_bytes", "range_sealed_bytes", Gauge, "Packed rows of the range's cold keys, of the memory tier."),
    row("disk_bytes", "range_disk_bytes", Gauge, "What the range takes on the disk, estimated."),
    row("maxmemory", "range_memory_max_bytes", Gauge, "The range's own limit; 0 is none."),
    row("hits", "range_hits_total", Counter, "Reads that found their key in the range."),
    row("misses", "range_misses_total", Counter, "Reads that did not find their key in the range."),
    row("evicted", "range_evicted_total", Counter, "Keys of the range that were given up for memory."),
    row("expired", "range_expired_total", Counter, "Keys of the range whose time had come."),
    row("dropped", "range_dropped_total", Counter, "Copies of stored keys that left memory."),
    row("sealed", "range_sealed_total", Counter, "Keys that were packed."),
    row("loaded", "range_loaded_total", Counter, "Cold keys that became resident."),
    row("flushes", "range_flushes_total", Counter, "Files that a flush wrote with rows of the range."),
    row("flushed_bytes", "range_flushed_bytes_total", Counter, "Bytes of those rows."),
];

/// And for those of databases.
static DB_ROWS: &[Row] = &[
    row("keys", "db_keys", Gauge, "Keys of the database."),
    row(
        "expires",
        "db_expires",
        Gauge,
        "Keys of the database that expire.",
    ),
];

/// The text of all metrics at this moment. May read what the store knows of its files: not for a thread that serves
/// clients.
pub fn text(server: &Server) -> String {
    let info = info::text(server, SECTIONS);
    let fields: BTreeMap<&str, &str> = info.lines().filter_map(|line| line.split_once(':')).collect();
    let mut page = Page::default();
    write_facts(&fields, &mut page);
    page.fields(ROWS, |row| fields.get(row.field).copied().and_then(number));
    write_errors(&fields, &mut page);
    let members = |prefix| -> Vec<(&str, BTreeMap<&str, &str>)> {
        let lines = fields
            .iter()
            .filter_map(|(field, value)| Some((field.strip_prefix(prefix)?, value)));
        let lines = lines.map(|(name, value)| (name, parts(value)));
        lines.filter(|(_, parts)| parts.contains_key("keys")).collect()
    };
    write_members(&members("db"), "db", DB_ROWS, &mut page);
    let ranges = members("range_");
    write_members(&ranges, "range", RANGE_ROWS, &mut page);
    page.head("range_info", "gauge", "1, with what a range is.");
    for (name, parts) in &ranges {
        let part = |name| parts.get(name).copied().unwrap_or_default();
        let labels = labels(&[
            ("range", name),
            ("tier", part("tier")),
            ("appendfsync", part("appendfsync")),
            ("maxmemory_policy", part("maxmemory_policy")),
        ]);
        page.line("range_info", &labels, 1);
    }
    write_commands(&mut page);
    page.text
}

/// `a=1,b=2`, as a map.
fn parts(value: &str) -> BTreeMap<&str, &str> {
    value.split(',').filter_map(|part| part.split_once('=')).collect()
}

/// A field's value as a metric's: a number, or a state that is good or not.
fn number(value: &str) -> Option<&str> {
    match value {
        "ok" => Some("1"),
        "err" => Some("0"),
        value => value.parse::<f64>().is_ok_and(f64::is_finite).then_some(value),
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, metric: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            self.text,
            "# HELP terrace_{metric} {help}\n# TYPE terrace_{metric} {kind}\n"
        );
    }

    fn line(&mut self, metric: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.text, "terrace_{metric} {value}"),
            labels => writeln!(self.text, "terrace_{metric}{{{labels}}} {value}"),
        };
    }

    fn head_of(&mut self, row: &Row) {
        let kind = if row.kind == Counter { "counter" } else { "gauge" };
        self.head(row.metric, kind, row.help);
    }

    /// The metrics of rows, as far as there are values for them.
    fn fields<'a>(&mut self, rows: &[Row], value: impl Fn(&Row) -> Option<&'a str>) {
        let mut last = "";
        for row in rows {
            let Some(value) = value(row) else { continue };
            if row.metric != last {
                self.head_of(row);
            }
            last = row.metric;
            self.line(row.metric, row.label, value);
        }
    }
}

/// Labels as a line has them. What a name may not hold there is escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let comma = if text.is_empty() { "" } else { "," };
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(text, "{comma}{name}=\"{value}\"");
    }
    text
}

/// What is not a number stands in the labels of a metric that is always 1.
fn write_facts(fields: &BTreeMap<&str, &str>, page: &mut Page) {
    let field = |name| fields.get(name).copied().unwrap_or_default();
    page.head("info", "gauge", "1, with what the server is.");
    let labels = labels(&[
        ("version", field("terrace_version")),
        ("redis_version", field("redis_version")),
        ("role", field("role")),
        ("maxmemory_policy", field("maxmemory_policy")),
    ]);
    page.line("info", &labels, 1);
}

fn write_errors(fields: &BTreeMap<&str, &str>, page: &mut Page) {
    page.head(
        "errors_total",
        "counter",
        "Replies that were errors, by their code.",
    );
    for (field, value) in fields {
        if let (Some(code), Some(count)) = (field.strip_prefix("errorstat_"), value.strip_prefix("count=")) {
            page.line("errors_total", &labels(&[("code", code)]), count);
        }
    }
}

/// A metric after the other, each with a line for every member.
fn write_members(members: &[(&str, BTreeMap<&str, &str>)], label: &str, rows: &[Row], page: &mut Page) {
    for row in rows {
        page.head_of(row);
        for (name, parts) in members {
            if let Some(value) = parts.get(row.field).copied().and_then(number) {
                page.line(row.metric, &labels(&[(label, name)]), value);
            }
        }
    }
}

/// Calls by duration, refusals and failures of the commands that have been called.
fn write_commands(page: &mut Page) {
    let called: Vec<&Command> = table::all_rows()
        .filter(|command| command.stats.calls() + command.stats.rejected.load(Relaxed) > 0)
        .collect();
    page.head(
        "command_duration_seconds",
        "histogram",
        "How long calls of a command took.",
    );
    for command in &called {
        write_histogram(command, page);
    }
    let mut counter = |metric: &str, help: &str, of: fn(&Stats) -> &AtomicU64| {
        page.head(metric, "counter", help);
        for command in &called {
            let count = of(&command.stats).load(Relaxed);
            page.line(metric, &labels(&[("command", &command.full_name)]), count);
        }
    };
    counter(
        "command_rejected_total",
        "Calls refused before they ran.",
        |stats| &stats.rejected,
    );
    counter("command_failed_total", "Calls that ended in an error.", |stats| {
        &stats.failed
    });
}

fn write_histogram(command: &Command, page: &mut Page) {
    // Read once: the lines of a histogram have to fit each other while calls go on.
    let counts = command
        .stats
        .durations
        .each_ref()
        .map(|count| count.load(Relaxed));
    let seconds = command.stats.nanos.load(Relaxed) as f64 / 1e9;
    let name = [("command", command.full_name.as_str())];
    let bucket = "command_duration_seconds_bucket";
    for bound in BOUNDS {
        let seen: u64 = counts[..=bound].iter().sum();
        let limit = ((1u64 << bound) as f64 / 1e9).to_string();
        page.line(bucket, &labels(&[name[0], ("le", &limit)]), seen);
    }
    let all: u64 = counts.iter().sum();
    page.line(bucket, &labels(&[name[0], ("le", "+Inf")]), all);
    page.line("command_duration_seconds_sum", &labels(&name), seconds);
    page.line("command_duration_seconds_count", &labels(&name), all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_have_their_units_and_stand_together() {
        let mut seen = BTreeSet::new();
        let mut last = "";
        for row in ROWS.iter().chain(RANGE_ROWS).chain(DB_ROWS) {
            let counts = row.metric.ends_with("_total") || row.metric == "journal_offset_bytes";
            assert_eq!(counts, row.kind == Counter, "{}", row.metric);
            assert!(
                row.metric == last || seen.insert(row.metric),
                "{} twice",
                row.metric
            );
            assert!(
                row.help.ends_with('.') && !row.help.contains(['\n', '\\']),
                "{}",
                row.metric
            );
            last = row.metric;
        }
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(labels(&[("a", "x\"y\\z\n"), ("b", "")]), r#"a="x\"y\\z\n",b="""#);
    }

    #[test]
    fn states_are_numbers() {
        assert_eq!(
            ["ok", "err", "-1", "0.50", "nan", "", "x"].map(number),
            [Some("1"), Some("0"), Some("-1"), Some("0.50"), None, None, None]
        );
    }
}
