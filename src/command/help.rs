//! The HELP subcommand of containers: one shape for all of them.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use crate::resp::Reply;

/// Writes the lines of a HELP reply: each subcommand with its arguments, and what it does, indented below. HELP itself
/// is added.
pub fn reply(out: &mut Reply, container: &str, entries: &[(&str, &[&str])]) {
    let lines: usize = entries.iter().map(|(_, about)| 1 + about.len()).sum();
    out.array(lines + 3);
    out.simple(&format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    let own: (&str, &[&str]) = ("HELP", &["Shows these lines."]);
    for (usage, about) in entries.iter().chain([&own]) {
        out.simple(usage);
        for line in *about {
            out.simple(&format!("    {line}"));
        }
    }
}

/// For subcommands that take fewer arguments than their arity lets through.
pub fn wrong_arguments(args: &Args<'_>) -> Error {
    Error::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{}'. Try {} HELP.",
        String::from_utf8_lossy(&args[1]),
        String::from_utf8_lossy(&args[0]).to_ascii_uppercase()
    ))
}

/// A container's HELP, without a handler for each.
pub type Lines = &'static [(&'static str, &'static [&'static str])];

/// [`reply`] into a context.
pub fn show(context: &mut Context<'_>, container: &str, entries: Lines) {
    reply(context.reply, container, entries);
}
