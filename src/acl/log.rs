//! What was refused: the newest entry first, the same within a minute counted in one entry.

use std::collections::VecDeque;

/// Within so many milliseconds of its last time an entry takes in the same again.
const SAME_WITHIN_MS: i64 = 60_000;
/// How many entries are looked at for the same.
const LOOKED_AT: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    Auth,
    Command,
    Key,
    Channel,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::Auth => "auth",
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
        }
    }
}

/// Where the command was to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    TopLevel,
    Multi,
    Script,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::TopLevel => "toplevel",
            Place::Multi => "multi",
            Place::Script => "lua",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub id: u64,
    pub count: u64,
    pub reason: Reason,
    pub place: Place,
    /// The command, key or channel.
    pub object: Vec<u8>,
    pub user: Box<[u8]>,
    pub created_ms: i64,
    pub updated_ms: i64,
    /// The client's line of `CLIENT LIST` at the last time.
    pub client: String,
}

/// What was refused, to whom.
pub struct Refused<'a> {
    pub reason: Reason,
    pub place: Place,
    pub object: &'a [u8],
    pub user: &'a [u8],
}

#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
    /// Refusals since the start, by reason: auth, command, key, channel.
    pub refusals: [u64; 4],
}

impl Log {
    /// Notes a refusal; with a new entry there are at most `most`.
    pub fn note(&mut self, refused: &Refused<'_>, client: String, now_ms: i64, most: usize) {
        self.refusals[refused.reason as usize] += 1;
        let same = |entry: &Entry| {
            entry.reason == refused.reason
                && entry.place == refused.place
                && now_ms - entry.updated_ms <= SAME_WITHIN_MS
                && entry.object == refused.object
                && *entry.user == *refused.user
        };
        let known = self.entries.iter().take(LOOKED_AT).position(same);
        if let Some(entry) = known.and_then(|at| self.entries.remove(at)) {
            self.entries.push_front(Entry {
                count: entry.count + 1,
                updated_ms: now_ms,
                client,
                ..entry
            });
            return;
        }
        self.entries.push_front(Entry {
            id: self.next_id,
            count: 1,
            reason: refused.reason,
            place: refused.place,
            object: refused.object.to_vec(),
            user: refused.user.into(),
            created_ms: now_ms,
            updated_ms: now_ms,
            client,
        });
        self.next_id += 1;
        self.entries.truncate(most);
    }

    pub fn newest(&self, most: usize) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter().take(most)
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_counted_for_a_minute() {
        let mut log = Log::default();
        let mut note = |object: &[u8], now_ms: i64| {
            let refused = Refused {
                reason: Reason::Key,
                place: Place::TopLevel,
                object,
                user: b"u",
            };
            log.note(&refused, now_ms.to_string(), now_ms, 3);
        };
        note(b"a", 0);
        note(b"b", 1);
        note(b"a", 60_000);
        note(b"b", 60_002);
        let shown: Vec<(u64, u64, &[u8])> = log.newest(9).map(|e| (e.id, e.count, &e.object[..])).collect();
        assert_eq!(shown, [(2, 1, &b"b"[..]), (0, 2, b"a"), (1, 1, b"b")]);
        assert_eq!(log.refusals, [0, 0, 4, 0]);
    }
}
