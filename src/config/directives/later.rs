//! Directives of work that is yet to come: replication, clusters, scripts. Their values are
//! checked and kept, and whoever sets one is told that it does nothing yet.

use super::{Directive, kept, kinds};
use crate::config::values;

const MAX_INT: i64 = i32::MAX as i64;
const MAX_LONG: u64 = i64::MAX as u64;

pub(super) static ROWS: &[Directive] = &[
    kept!(
        "replicaof",
        "",
        replica_of,
        "Host and port of a primary to follow."
    )
    .alias("slaveof")
    .list()
    .fixed()
    .without_effect(),
    kept!("masteruser", "", kinds::any, "User to give the primary.").without_effect(),
    kept!("masterauth", "", kinds::any, "Password to give the primary.")
        .secret()
        .without_effect(),
    kept!(
        "replica-serve-stale-data",
        "yes",
        kinds::yes_no,
        "Answer while the primary is away."
    )
    .alias("slave-serve-stale-data")
    .without_effect(),
    kept!(
        "replica-read-only",
        "yes",
        kinds::yes_no,
        "Refuse writes of clients to a replica."
    )
    .alias("slave-read-only")
    .without_effect(),
    kept!(
        "replica-lazy-flush",
        "no",
        kinds::yes_no,
        "Empty a replica in the background before it is filled."
    )
    .alias("slave-lazy-flush")
    .without_effect(),
    kept!(
        "replica-priority",
        "100",
        kinds::count,
        "Rank among replicas for Sentinel."
    )
    .alias("slave-priority")
    .without_effect(),
    kept!(
        "replica-announced",
        "yes",
        kinds::yes_no,
        "Show this replica to Sentinel."
    )
    .without_effect(),
    kept!(
        "replica-announce-ip",
        "",
        kinds::any,
        "Address that a replica reports."
    )
    .alias("slave-announce-ip")
    .without_effect(),
    kept!(
        "replica-announce-port",
        "0",
        kinds::port,
        "Port that a replica reports."
    )
    .alias("slave-announce-port")
    .without_effect(),
    kept!(
        "replica-ignore-maxmemory",
        "yes",
        kinds::yes_no,
        "Leave eviction to the primary."
    )
    .alias("slave-ignore-maxmemory")
    .without_effect(),
    kept!(
        "replica-ignore-disk-write-errors",
        "no",
        kinds::yes_no,
        "Let a replica go on when its disk fails."
    )
    .without_effect(),
    kept!(
        "repl-diskless-sync",
        "yes",
        kinds::yes_no,
        "Fill replicas without a file."
    )
    .without_effect(),
    kept!(
        "repl-diskless-sync-delay",
        "5",
        kinds::count,
        "Seconds to wait for more replicas."
    )
    .without_effect(),
    kept!(
        "repl-diskless-sync-max-replicas",
        "0",
        kinds::count,
        "Replicas to wait for; 0 is as many as come."
    )
    .without_effect(),
    kept!(
        "repl-diskless-load",
        "disabled",
        |value| kinds::one_of(value, &["disabled", "on-empty-db", "swapdb"]),
        "Load from the primary without a file."
    )
    .without_effect(),
    kept!(
        "repl-disable-tcp-nodelay",
        "no",
        kinds::yes_no,
        "Fewer, larger packets to replicas."
    )
    .without_effect(),
    kept!(
        "repl-ping-replica-period",
        "10",
        |value| kinds::int(value, 1, MAX_INT),
        "Seconds between pings to replicas."
    )
    .alias("repl-ping-slave-period")
    .without_effect(),
    kept!(
        "repl-timeout",
        "60",
        |value| kinds::int(value, 1, MAX_INT),
        "Seconds of silence after which the other side is gone."
    )
    .without_effect(),
    kept!(
        "repl-backlog-size",
        "1048576",
        |value| kinds::memory(value, 1, MAX_LONG),
        "Memory for effects that a replica can catch up with."
    )
    .without_effect(),
    kept!(
        "repl-backlog-ttl",
        "3600",
        kinds::long,
        "Seconds that the backlog is kept without replicas."
    )
    .without_effect(),
    kept!(
        "min-replicas-to-write",
        "0",
        kinds::count,
        "Replicas without which writes are refused."
    )
    .alias("min-slaves-to-write")
    .without_effect(),
    kept!(
        "min-replicas-max-lag",
        "10",
        kinds::count,
        "Seconds a replica may lag and still count."
    )
    .alias("min-slaves-max-lag")
    .without_effect(),
    kept!(
        "propagation-error-behavior",
        "ignore",
        |value| kinds::one_of(value, &["ignore", "panic", "panic-on-replicas"]),
        "What a replica does about an effect that fails."
    )
    .without_effect(),
    kept!("cluster-enabled", "no", kinds::yes_no, "Take part in a cluster.")
        .fixed()
        .without_effect(),
    kept!(
        "cluster-config-file",
        "nodes.conf",
        kinds::any,
        "File for the cluster's state."
    )
    .fixed()
    .without_effect(),
    kept!(
        "cluster-port",
        "0",
        kinds::port,
        "Port for other nodes; 0 is the port plus 10000."
    )
    .fixed()
    .without_effect(),
    kept!(
        "cluster-node-timeout",
        "15000",
        kinds::long,
        "Milliseconds of silence after which a node is gone."
    )
    .without_effect(),
    kept!(
        "cluster-announce-ip",
        "",
        kinds::any,
        "Address that a node reports."
    )
    .without_effect(),
    kept!(
        "cluster-announce-hostname",
        "",
        kinds::any,
        "Host name that a node reports."
    )
    .without_effect(),
    kept!(
        "cluster-announce-human-nodename",
        "",
        kinds::any,
        "Name of a node for people."
    )
    .without_effect(),
    kept!(
        "cluster-announce-port",
        "0",
        kinds::port,
        "Port that a node reports."
    )
    .without_effect(),
    kept!(
        "cluster-announce-tls-port",
        "0",
        kinds::port,
        "TLS port that a node reports."
    )
    .without_effect(),
    kept!(
        "cluster-announce-bus-port",
        "0",
        kinds::port,
        "Port for other nodes that a node reports."
    )
    .without_effect(),
    kept!(
        "cluster-preferred-endpoint-type",
        "ip",
        |value| kinds::one_of(value, &["ip", "hostname", "unknown-endpoint"]),
        "How nodes are named to clients."
    )
    .without_effect(),
    kept!(
        "cluster-require-full-coverage",
        "yes",
        kinds::yes_no,
        "Refuse requests while any slot has no node."
    )
    .without_effect(),
    kept!(
        "cluster-allow-reads-when-down",
        "no",
        kinds::yes_no,
        "Read while the cluster is down."
    )
    .without_effect(),
    kept!(
        "cluster-allow-pubsubshard-when-down",
        "yes",
        kinds::yes_no,
        "Publish to shards while the cluster is down."
    )
    .without_effect(),
    kept!(
        "cluster-allow-replica-migration",
        "yes",
        kinds::yes_no,
        "Let replicas move to primaries that have none."
    )
    .without_effect(),
    kept!(
        "cluster-migration-barrier",
        "1",
        kinds::count,
        "Replicas that a primary keeps when one moves."
    )
    .without_effect(),
    kept!(
        "cluster-replica-no-failover",
        "no",
        kinds::yes_no,
        "Never promote this replica."
    )
    .alias("cluster-slave-no-failover")
    .without_effect(),
    kept!(
        "cluster-replica-validity-factor",
        "10",
        kinds::count,
        "How old the data of a replica may be for it to be promoted."
    )
    .alias("cluster-slave-validity-factor")
    .without_effect(),
    kept!(
        "cluster-link-sendbuf-limit",
        "0",
        |value| kinds::memory(value, 0, u64::MAX),
        "Memory for what waits to be sent to one node; 0 is no limit."
    )
    .without_effect(),
    kept!(
        "lua-enable-deprecated-api",
        "no",
        kinds::yes_no,
        "Old names for scripts."
    )
    .fixed()
    .hidden()
    .without_effect(),
];

/// A host and a port, or `no one`, which is what nothing stands for.
fn replica_of(value: &[u8]) -> kinds::Checked {
    let args = super::split_at_spaces(value);
    if args.is_empty() {
        return Ok(Vec::new());
    }
    let [host, port] = args.as_slice() else {
        return Err("wrong number of arguments".into());
    };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Vec::new());
    }
    values::int::<u16>(port, 0, 65535).map_err(|_| "Invalid master port")?;
    Ok(value.to_vec())
}
