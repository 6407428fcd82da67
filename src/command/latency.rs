//! LATENCY: the spikes that the monitor has seen, and how long each command takes.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::help;
use super::spec::{Handler, Outcome, Spec, flag::*};
use super::table::{self, Command};
use crate::observe::latency::Sample;
use crate::resp::Reply;
use crate::server::Server;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

const OPERATOR: u32 = ADMIN | NOSCRIPT | LOADING | STALE;
const SPECIAL: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_nodes",
    "response_policy:special",
];

pub static COMMANDS: &[Spec] = &[Spec::new("latency", -2, 0, 0, Handler::Container)
    .group("server", "2.8.13")
    .doc("", "Depends on subcommand.", "Commands about what took long.")
    .subcommands(&[
        Spec::new("latest", 2, OPERATOR, 0, Handler::Admin(latest))
            .group("server", "2.8.13")
            .doc("", "O(1)", "Returns the newest spike of each event.")
            .tips(SPECIAL),
        Spec::new("history", 3, OPERATOR, 0, Handler::Admin(history))
            .group("server", "2.8.13")
            .doc("event", "O(1)", "Returns the spikes of an event.")
            .tips(SPECIAL),
        Spec::new("reset", -2, OPERATOR, 0, Handler::Admin(reset))
            .group("server", "2.8.13")
            .doc(
                "[event [event ...]]",
                "O(1)",
                "Forgets the spikes of events, or all.",
            )
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
        Spec::new("doctor", 2, OPERATOR, 0, Handler::Admin(doctor))
            .group("server", "2.8.13")
            .doc("", "O(1)", "Says in words what took long.")
            .tips(SPECIAL),
        Spec::new("graph", 3, OPERATOR, 0, Handler::Admin(graph))
            .group("server", "2.8.13")
            .doc("event", "O(1)", "Draws the spikes of an event.")
            .tips(SPECIAL),
        Spec::new("histogram", -2, OPERATOR, 0, Handler::Admin(histogram))
            .group("server", "7.0.0")
            .doc(
                "[command [command ...]]",
                "O(N) for N commands",
                "Returns how many calls of commands took how long.",
            )
            .tips(SPECIAL),
        Spec::new("help", 2, LOADING | STALE, 0, Handler::Admin(show_help))
            .group("server", "2.8.13")
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

fn latest(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let latest = context.server.latency.lock().latest();
    context.reply.array(latest.len());
    for (event, sample, worst_ms) in latest {
        context.reply.array(4);
        context.reply.bulk(event.as_bytes());
        context.reply.int(sample.unix_seconds);
        context.reply.int(sample.ms as i64);
        context.reply.int(worst_ms as i64);
    }
    Ok(())
}

fn samples(server: &Server, event: &[u8]) -> Vec<Sample> {
    server
        .latency
        .lock()
        .history(&String::from_utf8_lossy(event))
        .to_vec()
}

fn history(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let samples = samples(context.server, &args[2]);
    context.reply.array(samples.len());
    for sample in samples {
        context.reply.array(2);
        context.reply.int(sample.unix_seconds);
        context.reply.int(sample.ms as i64);
    }
    Ok(())
}

fn reset(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let events: Vec<String> = args
        .rest(2)
        .iter()
        .map(|event| String::from_utf8_lossy(event).into_owned())
        .collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let forgotten = context.server.latency.lock().reset(&events);
    context.reply.int(forgotten as i64);
    Ok(())
}

fn doctor(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let threshold_ms = context.server.config.load().latency_monitor_threshold_ms;
    let latest = context.server.latency.lock().latest();
    let mut text = String::new();
    if threshold_ms == 0 {
        text.push_str(
            "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> turns it on; the \
             threshold should be the longest time that no client minds.\n",
        );
    } else if latest.is_empty() {
        text.push_str("Nothing has taken as long as the threshold yet.\n");
    }
    for (event, newest, worst_ms) in latest {
        let samples = samples(context.server, event.as_bytes());
        let mean = samples.iter().map(|sample| sample.ms).sum::<u64>() / samples.len().max(1) as u64;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{event}: {} spikes, mean {mean} ms, newest {} ms, worst of all {worst_ms} ms. {}",
            samples.len(),
            newest.ms,
            advice(event)
        );
    }
    context.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn advice(event: &str) -> &'static str {
    match event {
        "command" => {
            "SLOWLOG GET names the commands: look for ones that visit many keys or very large values, and for cold keys that had to be read from the disk."
        }
        "fast-command" => {
            "These commands do little work of their own: look for a slow disk, for appendfsync always, or for a machine with too few cores or swapped memory."
        }
        "journal-sync" => {
            "The disk took long to make the journal durable. Writes to ranges with appendfsync always wait for it; those with everysec do when it takes more than a second."
        }
        "expire-cycle" => "Many keys expired at the same time: give them times that differ a little.",
        _ => "",
    }
}

/// Eight lines of bars, one column for each spike, with their ages below.
fn graph(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let samples = samples(context.server, &args[2]);
    let event = String::from_utf8_lossy(&args[2]);
    if samples.is_empty() {
        return Err(Error::new(format!(
            "ERR No samples available for event '{event}'"
        )));
    }
    let text = draw(&event, &samples, context.now_ms / 1_000);
    context.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

const COLUMNS: usize = 80;
const ROWS: u64 = 8;

fn draw(event: &str, samples: &[Sample], now: i64) -> String {
    let shown = &samples[samples.len().saturating_sub(COLUMNS)..];
    let high = shown.iter().map(|sample| sample.ms).max().unwrap_or(0).max(1);
    let low = shown.iter().map(|sample| sample.ms).min().unwrap_or(0);
    let mut text = format!(
        "{event} - high {high} ms, low {low} ms\n{}\n",
        "-".repeat(COLUMNS)
    );
    for row in (1..=ROWS).rev() {
        let bar = |sample: &Sample| if sample.ms * ROWS >= row * high { '#' } else { ' ' };
        let line: String = shown.iter().map(bar).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let ages: Vec<String> = shown
        .iter()
        .map(|sample| short_age(now - sample.unix_seconds))
        .collect();
    for at in 0..ages.iter().map(String::len).max().unwrap_or(0) {
        let line: String = ages
            .iter()
            .map(|age| age.chars().nth(at).unwrap_or(' '))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Seconds in a few characters: `9s`, `12m`, `3h`, `5d`.
fn short_age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn histogram(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let named: Vec<&Command> = match args.rest(2) {
        [] => table::all_rows().collect(),
        names => names
            .iter()
            .filter_map(|name| table::find_full(name))
            .flat_map(|command| std::iter::once(command).chain(&command.subcommands))
            .collect(),
    };
    let map = context.reply.defer_map();
    let mut count = 0;
    for command in named {
        if command.stats.calls() > 0 {
            write_histogram(command, context.reply);
            count += 1;
        }
    }
    context.reply.set_deferred(map, count);
    Ok(())
}

/// How many calls took at most so many microseconds, for each bound at which the count grows.
fn write_histogram(command: &Command, reply: &mut Reply) {
    reply.bulk(command.full_name.as_bytes());
    reply.map(2);
    reply.bulk(b"calls");
    reply.int(command.stats.calls() as i64);
    reply.bulk(b"histogram_usec");
    let map = reply.defer_map();
    let mut bounds = 0;
    for (us, calls) in cumulative(
        command
            .stats
            .durations
            .each_ref()
            .map(|count| count.load(Relaxed)),
    ) {
        reply.int(us as i64);
        reply.int(calls as i64);
        bounds += 1;
    }
    reply.set_deferred(map, bounds);
}

/// Bounds in microseconds, the nearest to the buckets' powers of two of nanoseconds; all below 1 are one.
fn cumulative(buckets: [u64; super::spec::BUCKETS]) -> Vec<(u64, u64)> {
    let mut seen = 0;
    let mut bounds: Vec<(u64, u64)> = Vec::new();
    for (at, count) in buckets.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        seen += count;
        let us = (((1u64 << at) + 500) / 1_000).max(1);
        match bounds.last_mut() {
            Some(last) if last.0 == us => last.1 = seen,
            _ => bounds.push((us, seen)),
        }
    }
    bounds
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::reply(
        context.reply,
        "LATENCY",
        &[
            ("DOCTOR", &["What took long, in words."]),
            ("GRAPH <event>", &["A drawing of the spikes of this event."]),
            (
                "HISTOGRAM [<command> ...]",
                &["How many calls of these commands, or of all, took how long."],
            ),
            (
                "HISTORY <event>",
                &["The spikes of this event: unix seconds, milliseconds."],
            ),
            (
                "LATEST",
                &["For each event the newest spike, and the worst of all."],
            ),
            (
                "RESET [<event> ...]",
                &["Forgets the spikes of these events, or of all."],
            ),
        ],
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_add_up_from_bound_to_bound() {
        let mut buckets = [0; super::super::spec::BUCKETS];
        (buckets[3], buckets[9], buckets[10], buckets[15]) = (1, 2, 4, 8);
        assert_eq!(cumulative(buckets), [(1, 7), (33, 15)]);
    }

    #[test]
    fn graphs_have_a_column_for_each_spike() {
        let sample = |unix_seconds, ms| Sample { unix_seconds, ms };
        let text = draw("command", &[sample(0, 80), sample(95, 10), sample(99, 40)], 100);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "command - high 80 ms, low 10 ms");
        assert_eq!(
            &lines[2..],
            ["#", "#", "#", "#", "# #", "# #", "# #", "###", "151", "mss"].as_slice()
        );
    }
}
