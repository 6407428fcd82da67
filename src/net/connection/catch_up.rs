//! `KWATCH … FROM`: a client is told what it has missed before anything else is done for it.
//!
//! The journal is read at the client's pace, a part at a time. Only the last part is read at once, when the client is a
//! subscriber already: what it is told live comes behind it.

use super::{Connection, End};
use crate::command::Error;
use crate::command::kwatch::{CatchUp, Progress};
use crate::keyspace::load::may_wait;

/// Writers may be so fast that the client is never near the end of the journal when it is durable.
const WAITS_MOST: usize = 20;

impl Connection {
    pub(super) async fn catch_up(&mut self, mut behind: Box<CatchUp>) -> Result<(), End> {
        let server = self.server.clone();
        let mut waits_left = WAITS_MOST;
        loop {
            if self.client.is_killed() {
                return Err(End::Closed);
            }
            let read = may_wait(|| behind.read_on(&server.keyspace, &mut self.reply));
            let progress = self.or_end(read)?;
            // Of other keys and channels.
            self.client.move_inbox_to(&mut self.reply);
            self.write_reply().await?;
            match progress {
                Progress::Near => break,
                Progress::Wait(_) if waits_left == 0 => break,
                Progress::Wait(offset) => {
                    waits_left -= 1;
                    self.executor.gate = self.executor.gate.max(offset);
                    self.pass_gate().await?;
                }
                Progress::More => tokio::task::yield_now().await,
            }
        }
        let end = behind.go_live(&server, &mut self.session);
        self.executor.gate = self.executor.gate.max(end);
        self.pass_gate().await?;
        let read = may_wait(|| behind.read_to(end, &mut self.reply));
        self.or_end(read)?;
        self.client.move_inbox_to(&mut self.reply);
        self.write_reply().await
    }

    /// A journal that cannot be read ends the connection: the client would take a gap for the truth.
    fn or_end<T>(&self, read: Result<T, Error>) -> Result<T, End> {
        read.map_err(|error| {
            log::error!("client {} closed: {error}", self.client.addr);
            End::Io
        })
    }
}
