//! CONFIG: reading and changing the configuration while the server runs.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, flag::*};
use super::{glob, help, table};
use crate::config::Config;
use crate::keyspace::load::may_wait;
use crate::server::Server;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

const OPERATOR: u32 = ADMIN | NOSCRIPT | LOADING | STALE;

pub static COMMANDS: &[Spec] = &[Spec::new("config", -2, 0, 0, Handler::Container)
    .group("server", "2.0.0")
    .doc(
        "",
        "Depends on subcommand.",
        "Commands about the server's configuration.",
    )
    .subcommands(&[
        Spec::new("get", -3, OPERATOR, 0, Handler::Admin(get))
            .group("server", "2.0.0")
            .doc(
                "parameter [parameter ...]",
                "O(N) for N patterns",
                "Returns the directives that match, with their values.",
            ),
        Spec::new("set", -4, OPERATOR, 0, Handler::Admin(set))
            .group("server", "2.0.0")
            .doc(
                "parameter value [parameter value ...]",
                "O(N) for N directives",
                "Changes directives: all of them, or none if one is refused.",
            )
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
        Spec::new("resetstat", 2, OPERATOR, 0, Handler::Admin(reset_stat))
            .group("server", "2.0.0")
            .doc(
                "",
                "O(N) for N commands",
                "Sets the statistics of INFO back to zero.",
            ),
        Spec::new("rewrite", 2, OPERATOR, 0, Handler::Admin(rewrite))
            .group("server", "2.8.0")
            .doc(
                "",
                "O(N) for N directives",
                "Writes the configuration into its file.",
            ),
        Spec::new("help", 2, LOADING | STALE, 0, Handler::Admin(show_help))
            .group("server", "5.0.0")
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

/// A name without a pattern's characters also finds directives that `CONFIG GET *` leaves out, and is shown as the
/// client spells it.
fn get(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let config = context.server.config.load();
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |name: &[u8], value: Vec<u8>| {
        if !found.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            found.push((name.to_vec(), value));
        }
    };
    for pattern in args.rest(2) {
        if pattern.iter().any(|byte| b"*?[".contains(byte)) {
            let pattern = pattern.to_ascii_lowercase();
            config
                .entries()
                .filter(|(name, _)| glob::matches(&pattern, name.as_bytes()))
                .for_each(|(name, value)| add(name.as_bytes(), value));
        } else if let Some(value) = config.get(pattern) {
            add(pattern, value);
        }
    }
    context.reply.map(found.len());
    for (name, value) in found {
        context.reply.bulk(&name);
        context.reply.bulk(&value);
    }
    Ok(())
}

fn set(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> = args
        .rest(2)
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect();
    let local = context.session.client.is_local();
    context.server.change_config(|config| {
        let changed = config
            .set_many_from(&pairs, local)
            .map_err(|error| Error::new(error.to_string()))?;
        if changed.maxclients > config.maxclients {
            make_room_for_clients(context.server, changed.maxclients)?;
        }
        // Also where the value is the same: the files may be new.
        let tls = pairs.iter().map(|(name, _)| *name).find(|name| is_tls(name));
        if let Some(name) = tls {
            load_tls(context.server, &changed, name)?;
        }
        let place = pairs.iter().map(|(name, _)| *name).find(|name| says_where(name));
        if let Some(name) = place {
            listen(context.server, &changed, name)?;
        }
        Ok::<Config, Error>(changed)
    })?;
    context.reply.ok();
    Ok(())
}

fn make_room_for_clients(server: &Server, wanted: u32) -> Outcome {
    let most = server.allow_clients(wanted);
    if most < wanted {
        return Err(Error::new(format!(
            "ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to \
             handle the specified number of clients, try with {most}"
        )));
    }
    Ok(())
}

fn is_tls(name: &[u8]) -> bool {
    name.get(..4)
        .is_some_and(|begin| begin.eq_ignore_ascii_case(b"tls-"))
}

fn says_where(name: &[u8]) -> bool {
    let names = ["bind", "port", "tls-port", "metrics-port"];
    names
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

fn listen(server: &Server, config: &Config, name: &[u8]) -> Outcome {
    server.listen(config).map_err(|error| {
        log::warn!("the server listens where it did: {error}");
        let why = if name.eq_ignore_ascii_case(b"bind") {
            "Failed to bind to specified addresses."
        } else {
            "Unable to listen on this port. Check server logs."
        };
        let name = String::from_utf8_lossy(name);
        Error::new(format!(
            "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
        ))
    })
}

fn load_tls(server: &Server, config: &Config, name: &[u8]) -> Outcome {
    may_wait(|| server.load_tls(config)).map_err(|why| {
        log::warn!("TLS stays as it is: {why}");
        let name = String::from_utf8_lossy(name);
        Error::new(format!(
            "ERR CONFIG SET failed (possibly related to argument '{name}') - Unable to update TLS configuration. \
             Check server logs."
        ))
    })
}

fn reset_stat(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    reset_stats(context.server);
    context.reply.ok();
    Ok(())
}

fn reset_stats(server: &Server) {
    table::all_rows().for_each(|command| command.stats.reset());
    server.errors.reset();
    let totals = &server.totals;
    let zero = |counter: &AtomicU64| counter.store(0, Relaxed);
    [
        &totals.connections,
        &totals.rejected_connections,
        &totals.net_in,
        &totals.net_out,
        &totals.reads,
        &totals.writes,
        &totals.expire_us,
        &totals.commands,
        &totals.output_limit_closed,
        &totals.evicted_clients,
    ]
    .into_iter()
    .for_each(zero);
    for range in server.keyspace.ranges().iter() {
        let counters = &range.counters;
        [
            &counters.hits,
            &counters.misses,
            &counters.expired,
            &counters.evicted,
        ]
        .into_iter()
        .for_each(zero);
    }
}

fn rewrite(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let Some(path) = &context.server.config_file else {
        return Err(Error::new("ERR The server is running without a config file"));
    };
    let mut config = Config::clone(&context.server.config.load());
    config.users = super::acl::for_config(context.server);
    may_wait(|| config.rewrite_file(path)).map_err(|error| {
        log::warn!("CONFIG REWRITE failed: {error}");
        Error::new(format!("ERR Rewriting config file: {error}"))
    })?;
    log::info!("CONFIG REWRITE: {} written", path.display());
    context.reply.ok();
    Ok(())
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::reply(
        context.reply,
        "CONFIG",
        &[
            (
                "GET <pattern> [<pattern> ...]",
                &["The directives whose names match, with their values."],
            ),
            (
                "SET <directive> <value> [<directive> <value> ...]",
                &["Changes directives: all of them, or none if one is refused."],
            ),
            ("RESETSTAT", &["Sets the statistics of INFO back to zero."]),
            ("REWRITE", &["Writes the configuration into its file."]),
        ],
    );
    Ok(())
}
