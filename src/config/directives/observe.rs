//! What the server writes down about itself, and what it tells those who watch.

use super::{Directive, choice, int, kept, kinds, one, text};
use crate::config::values::{self, KeyspaceEvents, LogLevel, format_percentile};

pub(super) static ROWS: &[Directive] = &[
    choice!(
        "loglevel",
        loglevel,
        LogLevel,
        "How much the log says: `debug`, `verbose`, `notice` or `warning`."
    ),
    text!("logfile", logfile, "File for the log; empty is standard output.").fixed(),
    int!(
        "metrics-port",
        metrics_port,
        0,
        65535,
        "Port that answers `GET /metrics` for Prometheus, on the addresses of `bind`; 0 is none."
    )
    .fixed(),
    int!(
        "slowlog-log-slower-than",
        slowlog_log_slower_than_us,
        -1,
        i64::MAX,
        "Microseconds from which a command is in the slow log; 0 is every command, -1 is none."
    ),
    int!(
        "busy-reply-threshold",
        busy_reply_threshold_ms,
        0,
        i64::MAX,
        "Milliseconds that a command waits for a script; then it is told BUSY."
    )
    .alias("lua-time-limit"),
    int!(
        "slowlog-max-len",
        slowlog_max_len,
        0,
        i64::MAX,
        "Commands that the slow log remembers."
    ),
    int!(
        "latency-monitor-threshold",
        latency_monitor_threshold_ms,
        0,
        i64::MAX,
        "Milliseconds from which an event is in the latency monitor; 0 turns it off."
    ),
    super::yes_no!(
        "latency-tracking",
        latency_tracking,
        "Keep a histogram of each command's latency."
    ),
    Directive::new(
        "latency-tracking-info-percentiles",
        |config| {
            let percentiles = config
                .latency_tracking_info_percentiles
                .iter()
                .copied()
                .map(format_percentile);
            percentiles.collect::<Vec<_>>().join(" ").into_bytes()
        },
        |config, args| {
            config.latency_tracking_info_percentiles = values::percentiles(args)?;
            Ok(())
        },
        "Percentiles that `INFO latencystats` shows.",
    )
    .list(),
    Directive::new(
        "notify-keyspace-events",
        |config| config.notify_keyspace_events.to_string().into_bytes(),
        |config, args| {
            config.notify_keyspace_events = KeyspaceEvents::read(one(args))?;
            Ok(())
        },
        "Kinds of keyspace event that are published, by their letters; empty is none.",
    ),
    kept!("syslog-enabled", "no", kinds::yes_no, "Log to the system's log.")
        .fixed()
        .without_effect(),
    kept!("syslog-ident", "redis", kinds::any, "Name in the system's log.")
        .fixed()
        .without_effect(),
    kept!(
        "syslog-facility",
        "local0",
        |value| kinds::one_of(
            value,
            &[
                "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"
            ]
        ),
        "Facility in the system's log."
    )
    .fixed()
    .without_effect(),
    kept!(
        "crash-log-enabled",
        "yes",
        kinds::yes_no,
        "Write a report when the server crashes."
    )
    .without_effect(),
    kept!(
        "crash-memcheck-enabled",
        "yes",
        kinds::yes_no,
        "Test the memory after a crash."
    )
    .without_effect(),
    kept!(
        "watchdog-period",
        "0",
        kinds::count,
        "Milliseconds after which a stuck server reports where."
    )
    .hidden()
    .without_effect(),
];
