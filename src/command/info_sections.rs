//! The sections of INFO.

use super::info::Text;
use super::spec::Stats;
use super::table::{self, Command};
use crate::config::format_percentile;
use crate::journal::distance;
use crate::keyspace::range::{DBS, RangeCounters};
use crate::keyspace::reclaim;
use crate::keyspace::records::Kind;
use crate::net::clients::Client;
use crate::observe::{memory, process};
use crate::script::engine;
use crate::server::{REDIS_VERSION, Server, VERSION, unix_ms};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{SystemTime, UNIX_EPOCH};

pub fn server(server: &Server, text: &mut Text) {
    let config = server.config.load();
    text.field("redis_version", REDIS_VERSION);
    text.field("terrace_version", VERSION);
    text.field("redis_git_sha1", "00000000");
    text.field("redis_git_dirty", 0);
    text.field("redis_build_id", 0);
    text.field("redis_mode", "standalone");
    text.field("os", process::os());
    text.field("arch_bits", usize::BITS);
    text.field("monotonic_clock", "POSIX clock_gettime");
    text.field("multiplexing_api", "epoll");
    text.field("atomicvar_api", "rust-atomics");
    text.field("gcc_version", "0.0.0");
    text.field("process_id", std::process::id());
    text.field("process_supervised", config.supervised);
    text.field("run_id", &server.run_id);
    text.field("tcp_port", config.port);
    // A clock before 1970 shows as 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    text.field("server_time_usec", now.as_micros());
    let uptime = server.started.elapsed().as_secs();
    text.field("uptime_in_seconds", uptime);
    text.field("uptime_in_days", uptime / 86_400);
    text.field("hz", config.hz);
    text.field("configured_hz", config.hz);
    text.field("lru_clock", now.as_secs() & 0xff_ffff);
    let executable = std::env::current_exe().unwrap_or_default();
    text.field("executable", executable.display());
    let file = server.config_file.clone().unwrap_or_default();
    text.field("config_file", file.display());
    text.field("io_threads_active", 0);
    let mut listeners = 0;
    if config.port != 0 {
        let binds: String = config.bind.iter().map(|bind| format!(",bind={bind}")).collect();
        text.field("listener0", format_args!("name=tcp{binds},port={}", config.port));
        listeners += 1;
    }
    if !config.unixsocket.is_empty() {
        text.field(
            format_args!("listener{listeners}"),
            format_args!("name=unix,bind={}", config.unixsocket),
        );
    }
}

pub fn clients(server: &Server, text: &mut Text) {
    let all = server.clients.all();
    let largest = |of: fn(&Client) -> &AtomicUsize| {
        all.iter()
            .map(|client| of(client).load(Relaxed))
            .max()
            .unwrap_or(0)
    };
    text.field("connected_clients", all.len());
    text.field("cluster_connections", 0);
    text.field("maxclients", server.config.load().maxclients);
    text.field(
        "client_recent_max_input_buffer",
        largest(|client| &client.query_bytes),
    );
    text.field(
        "client_recent_max_output_buffer",
        largest(|client| &client.output_bytes),
    );
    text.field("blocked_clients", server.blocked.len());
    text.field("tracking_clients", server.pubsub.trackers.count());
    text.zeros(&["clients_in_timeout_table"]);
    text.field("total_blocking_keys", server.blocked.keys());
    text.zeros(&["total_blocking_keys_on_nokey"]);
}

/// The figures about memory that INFO and MEMORY STATS share.
pub struct MemoryFigures {
    pub used: u64,
    pub active: u64,
    pub resident_by_allocator: u64,
    pub resident: u64,
    pub peak: u64,
    pub startup: u64,
    /// Bytes of entries.
    pub dataset: u64,
    /// All else that is used: tables, buffers, the store's caches.
    pub overhead: u64,
}

impl MemoryFigures {
    pub fn take(server: &Server) -> MemoryFigures {
        let (used, active, resident_by_allocator) = memory::allocator();
        let dataset: i64 = server
            .keyspace
            .ranges()
            .iter()
            .map(|range| range.counters.bytes.load(Relaxed))
            .sum();
        let dataset = (dataset.max(0) as u64).min(used);
        MemoryFigures {
            used,
            active,
            resident_by_allocator,
            resident: memory::resident(),
            peak: server.totals.peak_memory.fetch_max(used, Relaxed).max(used),
            startup: server.totals.startup_memory.load(Relaxed),
            dataset,
            overhead: used - dataset,
        }
    }

    /// Parts of a hundred of what came since the start.
    pub fn dataset_percent(&self) -> f64 {
        percent(self.dataset, self.used.saturating_sub(self.startup)).min(100.0)
    }
}

pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 * 100.0 / whole as f64
}

pub fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// What Lua takes: the states of all threads, which run scripts and functions, and the texts of both.
fn scripts(server: &Server, text: &mut Text) {
    let states = engine::memory() as u64;
    let scripts = server.scripts.bytes();
    text.field("used_memory_vm_eval", states);
    text.bytes("used_memory_lua", states);
    text.field("used_memory_scripts_eval", scripts);
    text.field("number_of_cached_scripts", server.scripts.len());
    let shelf = server.libraries.shelf();
    text.field("number_of_functions", shelf.functions());
    text.field("number_of_libraries", shelf.libraries.len());
    text.zeros(&["used_memory_vm_functions"]);
    text.bytes("used_memory_vm_total", states);
    text.field("used_memory_functions", shelf.bytes());
    text.bytes("used_memory_scripts", scripts + shelf.bytes() as u64);
}

pub fn memory(server: &Server, text: &mut Text) {
    let config = server.config.load();
    let figures = MemoryFigures::take(server);
    text.bytes("used_memory", figures.used);
    text.bytes("used_memory_rss", figures.resident);
    text.bytes("used_memory_peak", figures.peak);
    let peak_percent = percent(figures.used, figures.peak);
    text.field("used_memory_peak_perc", format_args!("{peak_percent:.2}%"));
    text.field("used_memory_overhead", figures.overhead);
    text.field("used_memory_startup", figures.startup);
    text.field("used_memory_dataset", figures.dataset);
    text.field(
        "used_memory_dataset_perc",
        format_args!("{:.2}%", figures.dataset_percent()),
    );
    text.field("allocator_allocated", figures.used);
    text.field("allocator_active", figures.active);
    text.field("allocator_resident", figures.resident_by_allocator);
    text.bytes("total_system_memory", process::system_memory());
    scripts(server, text);
    text.bytes("maxmemory", config.maxmemory);
    text.field("maxmemory_policy", config.maxmemory_policy);
    fragmentation(&figures, text);
    text.zeros(&[
        "mem_not_counted_for_evict",
        "mem_replication_backlog",
        "mem_total_replication_buffers",
        "mem_clients_slaves",
    ]);
    text.field("mem_clients_normal", server.clients.memory());
    text.zeros(&["mem_cluster_links", "mem_aof_buffer"]);
    text.field("mem_allocator", "jemalloc");
    text.zeros(&["active_defrag_running"]);
    text.field("lazyfree_pending_objects", reclaim::PENDING.load(Relaxed));
    text.field("lazyfreed_objects", reclaim::FREED.load(Relaxed));
}

fn fragmentation(figures: &MemoryFigures, text: &mut Text) {
    let MemoryFigures {
        used,
        active,
        resident,
        resident_by_allocator,
        ..
    } = *figures;
    for (name, a, b) in [
        ("allocator_frag", active, used),
        ("allocator_rss", resident_by_allocator, active),
        ("rss_overhead", resident, resident_by_allocator),
        ("mem_fragmentation", resident, used),
    ] {
        text.field(format_args!("{name}_ratio"), format_args!("{:.2}", ratio(a, b)));
        text.field(format_args!("{name}_bytes"), a as i64 - b as i64);
    }
}

pub fn persistence(server: &Server, text: &mut Text) {
    let flush = &server.keyspace.flush;
    let failed = server.keyspace.failure().is_some();
    let snapshots = &server.keyspace.snapshots;
    let status = if failed || snapshots.last_failed.load(Relaxed) {
        "err"
    } else {
        "ok"
    };
    text.zeros(&[
        "loading",
        "async_loading",
        "current_cow_peak",
        "current_cow_size",
        "current_cow_size_age",
    ]);
    text.field("current_fork_perc", "0.00");
    text.zeros(&["current_save_keys_processed", "current_save_keys_total"]);
    // No change waits to be saved: the journal has it already.
    text.field("rdb_changes_since_last_save", 0);
    let journal_end = server.keyspace.journal().map_or(0, |journal| journal.end());
    text.field("rdb_bgsave_in_progress", u8::from(snapshots.is_running()));
    text.field("rdb_last_save_time", last_save_seconds(server));
    text.field("rdb_last_bgsave_status", status);
    let took_ms = snapshots.last_took_ms.load(Relaxed);
    text.field(
        "rdb_last_bgsave_time_sec",
        if took_ms < 0 { -1 } else { took_ms / 1_000 },
    );
    text.field("rdb_current_bgsave_time_sec", -1);
    text.field("rdb_saves", snapshots.saves.load(Relaxed));
    text.zeros(&["rdb_last_cow_size", "rdb_last_load_keys_expired"]);
    text.field("rdb_last_load_keys_loaded", 0);
    // The journal does what Redis's append-only file does, but is never rewritten.
    let durable = server.keyspace.ranges().iter().any(|range| range.is_durable());
    text.field("aof_enabled", u8::from(durable));
    text.zeros(&["aof_rewrite_in_progress", "aof_rewrite_scheduled"]);
    text.field("aof_last_rewrite_time_sec", -1);
    text.field("aof_current_rewrite_time_sec", -1);
    text.field("aof_last_bgrewrite_status", "ok");
    text.zeros(&["aof_rewrites", "aof_rewrites_consecutive_failures"]);
    text.field("aof_last_write_status", status);
    text.zeros(&[
        "aof_last_cow_size",
        "module_fork_in_progress",
        "module_fork_last_cow_size",
    ]);
    if durable {
        text.field("aof_current_size", distance(flush.mark(), journal_end));
        text.field("aof_base_size", server.keyspace.store().disk_bytes());
        text.zeros(&[
            "aof_pending_rewrite",
            "aof_buffer_length",
            "aof_pending_bio_fsync",
            "aof_delayed_fsync",
        ]);
    }
    if let Some(journal) = server.keyspace.journal() {
        let times = journal.sync_times();
        let seconds = times.nanos.load(Relaxed) as f64 / 1e9;
        text.field("journal_syncs", times.count.load(Relaxed));
        text.field("journal_sync_seconds", format_args!("{seconds:.6}"));
    }
    backups(server, text);
}

/// Redis has none of these.
fn backups(server: &Server, text: &mut Text) {
    let status = server.backups.status();
    text.field("backup_in_progress", u8::from(status.state == "running"));
    if status.state == "running" {
        text.field("backup_current_percent", status.percent);
        text.field("backup_current_bytes", status.bytes);
        text.field("backup_current_bytes_total", status.bytes_total);
    }
    let failed = status.state == "failed";
    text.field("backup_last_status", if failed { "err" } else { "ok" });
    text.field("backup_last_time", status.last_success_ms / 1_000);
    text.field(
        "backup_last_duration_ms",
        status.took_ms.map_or(-1, |ms| ms as i64),
    );
    text.field("backup_last_offset", status.offset);
    text.field("backups_made", server.backups.made.load(Relaxed));
    text.field("backups_failed", server.backups.failed.load(Relaxed));
}

/// Unix seconds of the last flush or snapshot, or of the start when there has been none.
pub fn last_save_seconds(server: &Server) -> i64 {
    let keyspace = &server.keyspace;
    let flushed = keyspace.flush.last_success_ms.load(Relaxed);
    match flushed.max(keyspace.snapshots.last_success_ms.load(Relaxed)) as i64 {
        0 => server.started_ms / 1_000,
        ms => ms / 1_000,
    }
}

pub fn stats(server: &Server, text: &mut Text) {
    let totals = &server.totals;
    let sum = |of: fn(&RangeCounters) -> u64| -> u64 {
        let map = server.keyspace.ranges();
        map.iter().map(|range| of(&range.counters)).sum()
    };
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    text.field("total_connections_received", totals.connections.load(Relaxed));
    text.field("total_commands_processed", totals.commands.load(Relaxed));
    text.field("instantaneous_ops_per_sec", totals.ops_per_second.load(Relaxed));
    text.field("total_net_input_bytes", totals.net_in.load(Relaxed));
    text.field("total_net_output_bytes", totals.net_out.load(Relaxed));
    text.zeros(&["total_net_repl_input_bytes", "total_net_repl_output_bytes"]);
    text.field(
        "instantaneous_input_kbps",
        kilobytes(totals.net_in_per_second.load(Relaxed)),
    );
    text.field(
        "instantaneous_output_kbps",
        kilobytes(totals.net_out_per_second.load(Relaxed)),
    );
    text.field("instantaneous_input_repl_kbps", "0.00");
    text.field("instantaneous_output_repl_kbps", "0.00");
    text.field("rejected_connections", totals.rejected_connections.load(Relaxed));
    let refusals = server.acl.log.lock().refusals;
    for (what, count) in ["auth", "cmd", "key", "channel"].iter().zip(refusals) {
        text.field(format_args!("acl_access_denied_{what}"), count);
    }
    text.zeros(&["sync_full", "sync_partial_ok", "sync_partial_err"]);
    text.field("expired_keys", sum(|counters| counters.expired.load(Relaxed)));
    text.field("expired_stale_perc", "0.00");
    text.zeros(&["expired_time_cap_reached_count"]);
    let expire_us = totals.expire_us.load(Relaxed);
    text.field("expire_cycle_cpu_milliseconds", expire_us / 1_000);
    text.field("evicted_keys", sum(|counters| counters.evicted.load(Relaxed)));
    text.field("evicted_clients", totals.evicted_clients.load(Relaxed));
    text.zeros(&["total_eviction_exceeded_time", "current_eviction_exceeded_time"]);
    text.field("keyspace_hits", sum(|counters| counters.hits.load(Relaxed)));
    text.field("keyspace_misses", sum(|counters| counters.misses.load(Relaxed)));
    pubsub(server, text);
    text.zeros(&[
        "latest_fork_usec",
        "total_forks",
        "migrate_cached_sockets",
        "slave_expires_tracked_keys",
        "active_defrag_hits",
        "active_defrag_misses",
        "active_defrag_key_hits",
        "active_defrag_key_misses",
        "total_active_defrag_time",
        "current_active_defrag_time",
    ]);
    let counts = &server.keyspace.record_counts;
    text.field("tracking_total_keys", counts.records(Kind::Caches));
    text.field("tracking_total_items", counts.subscriptions(Kind::Caches));
    text.field("tracking_total_prefixes", server.pubsub.trackers.prefixes());
    text.zeros(&["unexpected_error_replies"]);
    text.field("total_error_replies", server.errors.total());
    text.zeros(&["dump_payload_sanitizations"]);
    text.field("total_reads_processed", totals.reads.load(Relaxed));
    text.field("total_writes_processed", totals.writes.load(Relaxed));
    text.zeros(&[
        "io_threaded_reads_processed",
        "io_threaded_writes_processed",
        "reply_buffer_shrinks",
        "reply_buffer_expands",
    ]);
}

pub fn replication(server: &Server, text: &mut Text) {
    text.field("role", "master");
    text.field("connected_slaves", 0);
    text.field("master_failover_state", "no-failover");
    text.field("master_replid", &server.run_id);
    text.field("master_replid2", "0".repeat(40));
    let offset = server.keyspace.journal().map_or(0, |journal| journal.end());
    text.field("master_repl_offset", offset);
    text.field("second_repl_offset", -1);
    text.zeros(&[
        "repl_backlog_active",
        "repl_backlog_size",
        "repl_backlog_first_byte_offset",
        "repl_backlog_histlen",
    ]);
}

pub fn cpu(_: &Server, text: &mut Text) {
    let (all, main) = (process::cpu_time(), process::main_thread_cpu_time());
    for (name, seconds) in [
        ("sys", all.system),
        ("user", all.user),
        ("sys_children", all.children_system),
        ("user_children", all.children_user),
        ("sys_main_thread", main.system),
        ("user_main_thread", main.user),
    ] {
        text.field(format_args!("used_cpu_{name}"), format_args!("{seconds:.6}"));
    }
}

/// Commands that have been called or refused, subcommands in place of their containers.
fn called() -> impl Iterator<Item = (&'static Command, u64)> {
    table::all_rows().map(|command| (command, command.stats.calls()))
}

pub fn command_stats(_: &Server, text: &mut Text) {
    for (command, calls) in called() {
        let stats = &command.stats;
        let (rejected, failed) = (stats.rejected.load(Relaxed), stats.failed.load(Relaxed));
        if calls + rejected + failed == 0 {
            continue;
        }
        let us = stats.nanos.load(Relaxed) / 1_000;
        text.field(
            format_args!("cmdstat_{}", command.full_name),
            format_args!(
                "calls={calls},usec={us},usec_per_call={:.2},rejected_calls={rejected},failed_calls={failed}",
                ratio(us, calls)
            ),
        );
    }
}

pub fn error_stats(server: &Server, text: &mut Text) {
    for (code, count) in server.errors.counts() {
        text.field(format_args!("errorstat_{code}"), format_args!("count={count}"));
    }
}

pub fn latency_stats(server: &Server, text: &mut Text) {
    let config = server.config.load();
    if !config.latency_tracking {
        return;
    }
    for (command, _) in called().filter(|(_, calls)| *calls > 0) {
        let shown: Vec<String> = config
            .latency_tracking_info_percentiles
            .iter()
            .map(|percentile| {
                let us = percentile_nanos(&command.stats, *percentile) as f64 / 1_000.0;
                format!("p{}={us:.3}", format_percentile(*percentile))
            })
            .collect();
        text.field(
            format_args!("latency_percentiles_usec_{}", command.full_name),
            shown.join(","),
        );
    }
}

/// The upper bound of the bucket in which the percentile lies: at least so many of the calls were faster.
fn percentile_nanos(stats: &Stats, percentile: f64) -> u64 {
    let counts = stats.durations.each_ref().map(|count| count.load(Relaxed));
    let wanted = (counts.iter().sum::<u64>() as f64 * percentile / 100.0).ceil();
    let mut seen = 0;
    let bucket = counts.iter().position(|count| {
        seen += count;
        seen > 0 && seen as f64 >= wanted
    });
    bucket.map_or(0, |bucket| 1 << bucket)
}

fn pubsub(server: &Server, text: &mut Text) {
    let counts = &server.keyspace.record_counts;
    let channels = [Kind::Messages, Kind::Changes, Kind::Values];
    let of_keys: usize = channels.iter().map(|kind| counts.records(*kind)).sum();
    let subscriptions = channels.iter().chain(&[Kind::ShardMessages]);
    let subscriptions: usize = subscriptions.map(|kind| counts.subscriptions(*kind)).sum();
    text.field("pubsub_channels", of_keys + server.pubsub.event_channels());
    text.field("pubsub_patterns", server.pubsub.patterns());
    text.field("pubsubshard_channels", counts.records(Kind::ShardMessages));
    text.field("pubsub_clients", server.pubsub.clients());
    text.field("pubsub_key_subscriptions", subscriptions);
    text.field("pubsub_key_bytes", counts.bytes());
    text.field(
        "pubsub_messages_delivered",
        server.pubsub.delivery.messages.load(Relaxed),
    );
    text.field(
        "client_output_buffer_limit_disconnections",
        server.totals.output_limit_closed.load(Relaxed),
    );
}

pub fn cluster(_: &Server, text: &mut Text) {
    text.field("cluster_enabled", 0);
}

pub fn ranges(server: &Server, text: &mut Text) {
    let keyspace = &server.keyspace;
    for range in keyspace.ranges().iter() {
        let (counters, policy) = (&range.counters, &range.policy);
        let expires: i64 = counters.expires.iter().map(|count| count.load(Relaxed)).sum();
        let count = |count: &AtomicU64| count.load(Relaxed).to_string();
        let fields: Vec<(&str, String)> = vec![
            ("tier", range.promised_tier().to_string()),
            ("keys", counters.total_keys().to_string()),
            ("expires", expires.to_string()),
            ("bytes", counters.bytes.load(Relaxed).to_string()),
            ("cold", counters.cold_keys().to_string()),
            ("hits", count(&counters.hits)),
            ("misses", count(&counters.misses)),
            ("evicted", count(&counters.evicted)),
            ("expired", count(&counters.expired)),
            ("dropped", count(&counters.dropped)),
            ("sealed", count(&counters.sealed)),
            ("loaded", count(&counters.loaded)),
            ("sealed_bytes", counters.sealed_bytes.load(Relaxed).to_string()),
            ("disk_bytes", keyspace.disk_bytes_of(range).to_string()),
            ("flushes", count(&counters.flushes)),
            ("flushed_bytes", count(&counters.flushed_bytes)),
            ("maxmemory", policy.maxmemory.to_string()),
            ("maxmemory_policy", policy.eviction.to_string()),
            ("max_keys", policy.max_keys.to_string()),
            ("max_value_size", policy.max_value_size.to_string()),
            ("default_ttl", (policy.default_ttl_ms / 1_000).to_string()),
            ("appendfsync", policy.fsync.to_string()),
            ("compression", policy.compression.to_string()),
        ];
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        text.field(format_args!("range_{}", range.spec.name), fields.join(","));
    }
    text.field(
        "store_write_amplification",
        format_args!("{:.2}", keyspace.write_amplification()),
    );
}

pub fn keyspace(server: &Server, text: &mut Text) {
    let map = server.keyspace.ranges();
    for db in 0..DBS as u8 {
        let physical = server.keyspace.physical(db);
        let keys = map.keys_in_db(physical);
        if keys > 0 {
            let expires = map.expires_in_db(physical);
            let average = match expires {
                0 => 0,
                _ => server.keyspace.average_ttl_ms(physical, unix_ms()),
            };
            text.field(
                format_args!("db{db}"),
                format_args!("keys={keys},expires={expires},avg_ttl={average}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_bounds_of_their_buckets() {
        let stats = Stats::default();
        assert_eq!(percentile_nanos(&stats, 50.0), 0);
        stats.note(Stats::bucket(1_000), 99, 99_000);
        stats.note(Stats::bucket(1_000_000), 1, 1_000_000);
        assert_eq!(percentile_nanos(&stats, 0.0), 1_024);
        assert_eq!(percentile_nanos(&stats, 50.0), 1_024);
        assert_eq!(percentile_nanos(&stats, 99.0), 1_024);
        assert_eq!(percentile_nanos(&stats, 99.9), 1 << 20);
    }
}
