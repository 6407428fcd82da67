//! The process itself: how it starts, stops and appears to the system.

use super::{Directive, choice, int, kept, kinds, text, yes_no};
use crate::config::values::{self, Supervised};

const MAX_INT: i64 = i32::MAX as i64;

pub(super) static ROWS: &[Directive] = &[
    int!(
        "databases",
        databases,
        1,
        MAX_INT,
        "Numbered databases for `SELECT`; more than 16 are taken for 16."
    )
    .fixed(),
    yes_no!(
        "daemonize",
        daemonize,
        "The server stays in the foreground; leave this to the service manager."
    )
    .fixed()
    .without_effect(),
    choice!(
        "supervised",
        supervised,
        Supervised,
        "Whether systemd is told when the server is ready and when it ends: `systemd`, `no`, or `auto`, which looks \
         whether it asks."
    )
    .fixed(),
    text!(
        "pidfile",
        pidfile,
        "File for the process's number; empty is none."
    )
    .fixed(),
    yes_no!(
        "always-show-logo",
        always_show_logo,
        "Show the logo even when the log goes to a file."
    )
    .fixed()
    .quiet(),
    kept!(
        "set-proc-title",
        "yes",
        kinds::yes_no,
        "Show more than the program's name in the process list."
    )
    .fixed()
    .without_effect(),
    kept!(
        "proc-title-template",
        "{title} {listen-addr} {server-mode}",
        kinds::any,
        "What to show there."
    )
    .without_effect(),
    kept!(
        "shutdown-timeout",
        "10",
        kinds::count,
        "Seconds that a stop waits for replicas."
    )
    .without_effect(),
    kept!(
        "shutdown-on-sigint",
        "default",
        shutdown_flags,
        "How SIGINT stops the server. It always drains and syncs."
    )
    .list()
    .without_effect(),
    kept!(
        "shutdown-on-sigterm",
        "default",
        shutdown_flags,
        "How SIGTERM stops the server. It always drains and syncs."
    )
    .list()
    .without_effect(),
    kept!(
        "oom-score-adj",
        "no",
        |value| kinds::one_of(value, &["no", "yes", "relative", "absolute"]),
        "Tell the system which process to stop first when memory ends."
    )
    .without_effect(),
    kept!(
        "oom-score-adj-values",
        "0 200 800",
        oom_values,
        "Values for that, from -2000 to 2000."
    )
    .list()
    .without_effect(),
    kept!(
        "disable-thp",
        "yes",
        kinds::yes_no,
        "Turn huge pages off for the process."
    )
    .fixed()
    .without_effect(),
    kept!(
        "server_cpulist",
        "",
        kinds::any,
        "Cores for the server's threads."
    )
    .fixed()
    .without_effect(),
    kept!("bio_cpulist", "", kinds::any, "Cores for background threads.")
        .fixed()
        .without_effect(),
    kept!(
        "aof_rewrite_cpulist",
        "",
        kinds::any,
        "Cores for a rewrite, of which there is none."
    )
    .fixed()
    .without_effect(),
    kept!(
        "bgsave_cpulist",
        "",
        kinds::any,
        "Cores for a snapshot, of which there is none."
    )
    .fixed()
    .without_effect(),
    kept!(
        "ignore-warnings",
        "",
        kinds::any,
        "Warnings at the start to leave out."
    )
    .without_effect(),
    kept!("locale-collate", "", kinds::any, "Locale for comparing text.").without_effect(),
];

/// `default`, or any of the others but not both of `save` and `nosave`.
fn shutdown_flags(value: &[u8]) -> kinds::Checked {
    const NAMES: &[&str] = &["default", "save", "nosave", "now", "force"];
    let mut flags = Vec::new();
    for flag in super::split_at_spaces(value) {
        let flag = values::one_of(flag, NAMES)?;
        if flag != "default" && !flags.contains(&flag) {
            flags.push(flag);
        }
    }
    if flags.contains(&"save") && flags.contains(&"nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    flags.sort_by_key(|flag| NAMES.iter().position(|name| name == flag));
    Ok(if flags.is_empty() {
        "default".into()
    } else {
        flags.join(" ").into_bytes()
    })
}

/// Exactly three numbers.
fn oom_values(value: &[u8]) -> kinds::Checked {
    let values = super::split_at_spaces(value);
    if values.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    if values
        .iter()
        .any(|value| values::int::<i64>(value, -2000, 2000).is_err())
    {
        return Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".into());
    }
    Ok(value.to_vec())
}
