//! `BACKUP`: copies of the durable ranges while the server runs. `docs/backup.md` is the page for users.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::help;
use super::spec::{Handler, Outcome, Spec, flag::*};
use crate::keyspace::load::may_wait;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The Terrace version that brought them.
const SINCE: &str = "0.1.0";
const OPERATOR: u32 = ADMIN | NOSCRIPT | NO_ASYNC_LOADING;

pub static COMMANDS: &[Spec] = &[Spec::new("backup", -2, 0, 0, Handler::Container)
    .group("server", SINCE)
    .doc("", "Depends on the subcommand", "Commands about backups.")
    .subcommands(&[
        Spec::new("to", 3, OPERATOR | NO_MULTI, 0, Handler::Admin(to))
            .group("server", SINCE)
            .doc(
                "folder",
                "O(1), and in the background O(N) for N bytes that the last backup has not",
                "Makes a backup of the durable ranges into a folder, in the background.",
            ),
        Spec::new("status", 2, OPERATOR, 0, Handler::Admin(status))
            .group("server", SINCE)
            .doc(
                "",
                "O(1)",
                "Returns how far the backup is, or how the last one ended.",
            )
            .tips(&["nondeterministic_output"]),
        Spec::new("cancel", 2, OPERATOR, 0, Handler::Admin(cancel))
            .group("server", SINCE)
            .doc("", "O(1)", "Gives up the backup that is being made."),
        Spec::new("help", 2, LOADING | STALE, 0, Handler::Admin(show_help))
            .group("server", SINCE)
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

fn to(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let dir = Path::new(OsStr::from_bytes(&args[2]));
    if !dir.is_absolute() {
        return Err(Error::new(
            "ERR The folder must be given from the root on: it is the server that writes to it",
        ));
    }
    may_wait(|| context.server.start_backup(dir)).map_err(|error| Error::new(format!("ERR {error}")))?;
    context.reply.simple("Background backup started");
    Ok(())
}

fn status(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let status = context.server.backups.status();
    let texts = [
        ("state", status.state),
        ("folder", &status.folder),
        ("path", &status.path),
        ("error", &status.error),
    ];
    let numbers = [
        ("percent", status.percent),
        ("bytes", status.bytes),
        ("bytes-total", status.bytes_total),
        ("bytes-written", status.written),
        ("files", status.files),
        ("files-kept", status.files_kept),
        ("offset", status.offset),
    ];
    let reply = &mut *context.reply;
    reply.map(texts.len() + numbers.len());
    for (name, text) in texts {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.int(number as i64);
    }
    Ok(())
}

fn cancel(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if !context.server.backups.cancel() {
        return Err(Error::new("ERR No backup is being made"));
    }
    context.reply.ok();
    Ok(())
}

const HELP: help::Lines = &[
    ("CANCEL", &["Give up the backup that is being made."]),
    ("STATUS", &["How far it is, or how the last one ended."]),
    (
        "TO <folder>",
        &["Make a backup of the durable ranges into a folder of the server's machine."],
    ),
];

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::show(context, "BACKUP", HELP);
    Ok(())
}
