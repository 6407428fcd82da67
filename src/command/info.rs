//! INFO: the server's state as text, in sections. Fields and their order are those of Redis 7.2; what there is not
//! here is 0. Two things are Terrace's own: `terrace_version`, and the section of the ranges.

use super::args::Args;
use super::context::Context;
use super::info_sections as sections;
use super::spec::{Handler, Outcome, Spec, acl, flag::*};
use crate::server::Server;
use std::fmt::{Display, Write};

pub static COMMANDS: &[Spec] =
    &[
        Spec::new("info", -1, LOADING | STALE, acl::DANGEROUS, Handler::Admin(info))
            .group("server", "1.0.0")
            .doc(
                "[section [section ...]]",
                "O(1)",
                "Returns what there is to know about the server.",
            )
            .tips(&[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ]),
    ];

/// Text of `name:value` lines under headings.
#[derive(Default)]
pub struct Text {
    text: String,
}

impl Text {
    fn heading(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push_str("\r\n");
        }
        self.text.push_str(&format!("# {title}\r\n"));
    }

    pub fn field(&mut self, name: impl Display, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{name}:{value}\r\n");
    }

    /// Fields that say that something is not there.
    pub fn zeros(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.field(name, 0));
    }

    /// A number of bytes, and again for people.
    pub fn bytes(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.field(format_args!("{name}_human"), human(bytes));
    }
}

/// Bytes with a unit, two digits behind the point.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.2}{}", UNITS[unit])
}

struct Section {
    name: &'static str,
    title: &'static str,
    /// Shown when no section is asked for.
    default: bool,
    write: fn(&Server, &mut Text),
}

const fn section(
    name: &'static str,
    title: &'static str,
    default: bool,
    write: fn(&Server, &mut Text),
) -> Section {
    Section {
        name,
        title,
        default,
        write,
    }
}

static SECTIONS: &[Section] = &[
    section("server", "Server", true, sections::server),
    section("clients", "Clients", true, sections::clients),
    section("memory", "Memory", true, sections::memory),
    section("persistence", "Persistence", true, sections::persistence),
    section("stats", "Stats", true, sections::stats),
    section("replication", "Replication", true, sections::replication),
    section("cpu", "CPU", true, sections::cpu),
    section("modules", "Modules", true, |_, _| {}),
    section("commandstats", "Commandstats", false, sections::command_stats),
    section("errorstats", "Errorstats", true, sections::error_stats),
    section("latencystats", "Latencystats", false, sections::latency_stats),
    section("cluster", "Cluster", true, sections::cluster),
    section("ranges", "Ranges", true, sections::ranges),
    section("keyspace", "Keyspace", true, sections::keyspace),
];

/// The text of the sections that were asked for, each once.
pub fn text(server: &Server, asked: &[&[u8]]) -> String {
    let asks = |name: &str| {
        asked
            .iter()
            .any(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    let everything = asks("all") || asks("everything");
    let defaults = asked.is_empty() || asks("default");
    let mut text = Text::default();
    for section in SECTIONS {
        if everything || defaults && section.default || asks(section.name) {
            text.heading(section.title);
            (section.write)(server, &mut text);
        }
    }
    text.text
}

fn info(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let text = text(context.server, args.rest(1));
    context.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_are_shown_for_people() {
        for (bytes, shown) in [(0, "0B"), (1023, "1023B"), (1536, "1.50K"), (5 << 30, "5.00G")] {
            assert_eq!(human(bytes), shown);
        }
    }
}
