//! MONITOR: the caller sees every command from now on.

use super::args::Args;
use super::context::Context;
use super::spec::{Handler, Outcome, Spec, flag::*};
use crate::net::clients::client_flag;

pub static COMMANDS: &[Spec] = &[Spec::new(
    "monitor",
    1,
    ADMIN | NOSCRIPT | LOADING | STALE,
    0,
    Handler::Admin(monitor),
)
.group("server", "1.0.0")
.doc(
    "",
    "O(1)",
    "Shows every command that the server runs, as it runs.",
)];

fn monitor(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let client = &context.session.client;
    client.set(client_flag::MONITOR, true);
    context.server.monitors.add(client);
    context.reply.ok();
    Ok(())
}
