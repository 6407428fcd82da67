//! What an admin command sees: the server, its caller's session, and the reply.

use crate::keyspace::Effects;
use crate::net::session::Session;
use crate::resp::Reply;
use crate::server::Server;
use std::sync::Arc;

pub struct Context<'a> {
    pub server: &'a Arc<Server>,
    pub session: &'a mut Session,
    pub reply: &'a mut Reply,
    pub now_ms: i64,
    /// Takes what the command changes.
    pub effects: &'a mut Effects,
    /// The journal offset that the reply has to wait for; 0 for none.
    pub gate: u64,
}
