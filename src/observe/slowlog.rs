//! The slow log: the newest commands that took long.

use super::redact::redacted;
use crate::command::Args;
use crate::net::session::Session;
use std::collections::VecDeque;

const ARGS_MOST: usize = 32;
const ARG_BYTES_MOST: usize = 128;

pub struct SlowEntry {
    pub id: u64,
    pub unix_seconds: i64,
    pub us: u64,
    /// Long arguments and long rows of them are cut, as Redis does.
    pub args: Vec<Vec<u8>>,
    pub addr: String,
    pub name: String,
}

#[derive(Default)]
pub struct SlowLog {
    entries: VecDeque<SlowEntry>,
    next_id: u64,
    max_len: usize,
}

impl SlowLog {
    pub fn set_max_len(&mut self, max_len: usize) {
        self.max_len = max_len;
        self.entries.truncate(max_len);
    }

    pub fn push(&mut self, args: &Args<'_>, session: &Session, unix_ms: i64, us: u64) {
        let (addr, name) = (session.client.addr.clone(), session.client.name());
        let entry = SlowEntry {
            id: self.next_id,
            unix_seconds: unix_ms / 1_000,
            us,
            args: cut(&redacted(args)),
            addr,
            name,
        };
        self.next_id += 1;
        self.entries.push_front(entry);
        self.entries.truncate(self.max_len);
    }

    /// Newest first.
    pub fn entries(&self) -> impl Iterator<Item = &SlowEntry> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn reset(&mut self) {
        self.entries.clear();
    }
}

fn cut(args: &[&[u8]]) -> Vec<Vec<u8>> {
    let shown = if args.len() > ARGS_MOST {
        ARGS_MOST - 1
    } else {
        args.len()
    };
    let cut_arg = |arg: &&[u8]| {
        if arg.len() <= ARG_BYTES_MOST {
            return arg.to_vec();
        }
        let more = format!("... ({} more bytes)", arg.len() - ARG_BYTES_MOST);
        [&arg[..ARG_BYTES_MOST], more.as_bytes()].concat()
    };
    let mut out: Vec<Vec<u8>> = args[..shown].iter().map(cut_arg).collect();
    if shown < args.len() {
        out.push(format!("... ({} more arguments)", args.len() - shown).into_bytes());
    }
    out
}
