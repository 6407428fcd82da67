//! CLIENT TRACKING and what goes with it: the client hears when a key changes that it may have cached. How it hears is
//! in `pubsub::tracking`.

use super::args::Args;
use super::client::row;
use super::context::Context;
use super::error::Error;
use super::spec::{Handler, Outcome, Spec};
use crate::net::clients::{Client, client_flag};
use crate::net::session::Session;
use crate::pubsub::tracking::{Mode, Tracking};
use crate::resp::Reply;
use crate::server::Server;
use std::sync::Arc;

pub const TRACKING: Spec = row("tracking", -3, 0, Handler::Admin(tracking))
    .group("connection", "6.0.0")
    .doc(
        "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
        "O(1); O(N) to end it, for N keys that the client has read",
        "Chooses whether the caller is told of changes of keys that it may have cached.",
    );

pub const CACHING: Spec = row("caching", 3, 0, Handler::Session(caching))
    .group("connection", "6.0.0")
    .doc(
        "<YES | NO>",
        "O(1)",
        "Says whether the keys of the caller's next command are tracked.",
    );

pub const GETREDIR: Spec = row("getredir", 2, 0, Handler::Session(get_redirection))
    .group("connection", "6.0.0")
    .doc("", "O(1)", "Returns where the caller's tracking messages go.");

pub const TRACKINGINFO: Spec = row("trackinginfo", 2, 0, Handler::Session(tracking_info))
    .group("connection", "6.2.0")
    .doc("", "O(1)", "Returns what is tracked for the caller.");

/// The options of CLIENT TRACKING.
#[derive(Default)]
struct Options<'a> {
    redirect_to: Option<Arc<Client>>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, server: &Server) -> Result<Options<'a>, Error> {
        let mut options = Options::default();
        let mut words = args.options(3);
        while !words.is_done() {
            let has_value = words.left() > 1;
            if has_value && words.take("REDIRECT") {
                if options.redirect_to.is_some() {
                    return Err(Error::new(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                let id = u64::try_from(words.int()?).ok();
                let other = id.and_then(|id| server.clients.get(id));
                options.redirect_to =
                    Some(other.ok_or_else(|| {
                        Error::new("ERR The client ID you want redirect to does not exist")
                    })?);
            } else if has_value && words.take("PREFIX") {
                options.prefixes.push(words.value()?);
            } else if words.take("BCAST") {
                options.broadcast = true;
            } else if words.take("OPTIN") {
                options.opt_in = true;
            } else if words.take("OPTOUT") {
                options.opt_out = true;
            } else if words.take("NOLOOP") {
                options.no_loop = true;
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(options)
    }

    /// Whether the options go together, and with what the client tracks already.
    fn check(&self, own: Option<&Tracking>) -> Outcome {
        let mode = own.map(|own| own.mode);
        let is_other = |mine: Mode, was: bool| mode.is_some_and(|mode| (mode == mine) != was);
        let refused = if !self.broadcast && !self.prefixes.is_empty() {
            "PREFIX option requires BCAST mode to be enabled"
        } else if is_other(Mode::Broadcast, self.broadcast) {
            "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
             with a different mode."
        } else if self.broadcast && (self.opt_in || self.opt_out) {
            "OPTIN and OPTOUT are not compatible with BCAST"
        } else if self.opt_in && self.opt_out {
            "You can't specify both OPTIN mode and OPTOUT mode"
        } else if self.opt_in && mode == Some(Mode::OptOut) || self.opt_out && mode == Some(Mode::OptIn) {
            "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
             with a different mode."
        } else {
            return self.check_prefixes(own);
        };
        Err(Error::new(format!("ERR {refused}")))
    }

    fn check_prefixes(&self, own: Option<&Tracking>) -> Outcome {
        let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        let refuse = |prefix: &[u8], which: &str, other: &[u8]| {
            let (prefix, other) = (String::from_utf8_lossy(prefix), String::from_utf8_lossy(other));
            Err(Error::new(format!(
                "ERR Prefix '{prefix}' overlaps with {which} prefix '{other}'. \
                 Prefixes for a single client must not overlap."
            )))
        };
        for (i, prefix) in self.prefixes.iter().enumerate() {
            let mut existing = own.into_iter().flat_map(Tracking::prefixes);
            if let Some(other) = existing.find(|other| overlap(prefix, other)) {
                return refuse(prefix, "an existing", other);
            }
            if let Some(other) = self.prefixes[i + 1..].iter().find(|other| overlap(prefix, other)) {
                return refuse(prefix, "another provided", other);
            }
        }
        Ok(())
    }

    fn mode(&self) -> Mode {
        match () {
            _ if self.broadcast => Mode::Broadcast,
            _ if self.opt_in => Mode::OptIn,
            _ if self.opt_out => Mode::OptOut,
            _ => Mode::Read,
        }
    }
}

fn tracking(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    let options = Options::parse(args, context.server)?;
    if args.is(2, "ON") {
        options.check(context.session.tracking.as_deref())?;
        track(&options, context);
    } else if args.is(2, "OFF") {
        end_tracking(context.server, context.session);
    } else {
        return Err(Error::Syntax);
    }
    context.reply.ok();
    Ok(())
}

fn track(options: &Options<'_>, context: &mut Context<'_>) {
    let (pubsub, keyspace) = (&context.server.pubsub, &context.server.keyspace);
    let client = &context.session.client;
    let mode = options.mode();
    let own = context
        .session
        .tracking
        .get_or_insert_with(|| pubsub.begin_tracking(client, mode));
    own.mode = mode;
    client.redirect_to(options.redirect_to.as_ref());
    for (flag, on) in [
        (client_flag::TRACKING, true),
        (client_flag::TRACKS_PREFIXES, options.broadcast),
        (client_flag::NO_LOOP, options.no_loop),
        (client_flag::BROKEN_REDIRECTION, false),
    ] {
        client.set(flag, on);
    }
    if options.broadcast {
        // All keys begin with nothing.
        let all: &[&[u8]] = &[b""];
        let prefixes = match &options.prefixes[..] {
            [] => all,
            prefixes => prefixes,
        };
        for prefix in prefixes {
            pubsub.track_prefix(keyspace, own, prefix);
        }
    }
}

pub fn end_tracking(server: &Server, session: &mut Session) {
    if let Some(own) = session.tracking.take() {
        server.pubsub.end_tracking(&server.keyspace, &own);
    }
}

fn caching(args: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    let Some(own) = &mut session.tracking else {
        return Err(Error::new(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode \
             enabled",
        ));
    };
    let (word, mode, name) = if args.is(2, "YES") {
        ("YES", Mode::OptIn, "OPTIN")
    } else if args.is(2, "NO") {
        ("NO", Mode::OptOut, "OPTOUT")
    } else {
        return Err(Error::Syntax);
    };
    if own.mode != mode {
        return Err(Error::new(format!(
            "ERR CLIENT CACHING {word} is only valid when tracking is enabled in {name} mode."
        )));
    }
    own.caching = true;
    reply.ok();
    Ok(())
}

/// 0 when the client itself is told, -1 when nobody is.
pub fn redirected_to(client: &Client) -> i64 {
    match client.redirection() {
        Some((id, _)) => id as i64,
        None if client.has(client_flag::TRACKING) => 0,
        None => -1,
    }
}

fn get_redirection(_: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    reply.int(redirected_to(&session.client));
    Ok(())
}

fn tracking_info(_: &Args<'_>, session: &mut Session, reply: &mut Reply) -> Outcome {
    let (client, own) = (&session.client, session.tracking.as_deref());
    let mode = own.map_or(Mode::Read, |own| own.mode);
    let caching = own.is_some_and(|own| own.caching);
    let flags = [
        (own.is_some(), "on"),
        (own.is_none(), "off"),
        (mode == Mode::Broadcast, "bcast"),
        (mode == Mode::OptIn, "optin"),
        (mode == Mode::OptIn && caching, "caching-yes"),
        (mode == Mode::OptOut, "optout"),
        (mode == Mode::OptOut && caching, "caching-no"),
        (client.has(client_flag::NO_LOOP), "noloop"),
        (client.has(client_flag::BROKEN_REDIRECTION), "broken_redirect"),
    ];
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.iter().filter(|(on, _)| *on).count());
    for (_, name) in flags.iter().filter(|(on, _)| *on) {
        reply.bulk(name.as_bytes());
    }
    reply.bulk(b"redirect");
    reply.int(redirected_to(client));
    reply.bulk(b"prefixes");
    reply.array(own.map_or(0, |own| own.prefixes().len()));
    own.into_iter()
        .flat_map(Tracking::prefixes)
        .for_each(|prefix| reply.bulk(prefix));
    Ok(())
}
