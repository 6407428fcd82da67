//! The effects of one transaction as journal payload: RESP commands, each standing for one change.
//!
//! The payload stands by itself: a command on a database other than 0 is framed by `SELECT` there and back, more than
//! one effect by `MULTI` and `EXEC`. So payloads in a row are what a replica can be sent.

use super::events::{Event, NOBODY, Noted};

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
/// A buffer that grew beyond this is given back after its use.
const KEEP_CAPACITY: usize = 1 << 16;

/// Reused from one transaction to the next.
pub struct Effects {
    /// Starts with MULTI, which is left out when there is one effect only.
    buf: Vec<u8>,
    count: usize,
    db: u8,
    /// Kept back until the last command of a group has run.
    grouped: bool,
    /// What is to be told then; `Noted::guard` is the shard.
    heard: Vec<Noted>,
    /// What its commands have published, to be sent then.
    said: Vec<Said>,
    /// The client whose commands these are; 0 for nobody.
    by: u64,
    /// Those of a group's effects that are not its own doing: what had expired. They stay when the group is undone.
    expired: Vec<(u8, Vec<u8>)>,
}

/// A message that a group has published.
pub struct Said {
    /// So many events of the group come before it.
    pub(super) behind: usize,
    pub channel: Box<[u8]>,
    pub message: Box<[u8]>,
    /// To a shard channel.
    pub to_shard: bool,
}

/// A place in the recording.
pub struct EffectsMark {
    len: usize,
    count: usize,
    db: u8,
    heard: usize,
    said: usize,
}

impl Default for Effects {
    fn default() -> Effects {
        Effects {
            buf: MULTI.to_vec(),
            count: 0,
            db: 0,
            grouped: false,
            heard: Vec::new(),
            said: Vec::new(),
            by: NOBODY,
            expired: Vec::new(),
        }
    }
}

fn push_number(buf: &mut Vec<u8>, kind: u8, number: usize) {
    buf.push(kind);
    buf.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    buf.extend_from_slice(b"\r\n");
}

/// Appends a command as an array of strings.
pub fn push_command(buf: &mut Vec<u8>, words: &[&[u8]]) {
    push_number(buf, b'*', words.len());
    for word in words {
        push_number(buf, b'$', word.len());
        buf.extend_from_slice(word);
        buf.extend_from_slice(b"\r\n");
    }
}

impl Effects {
    /// Of the commands of the client with this id.
    pub fn of_client(id: u64) -> Effects {
        Effects {
            by: id,
            ..Effects::default()
        }
    }

    pub(super) fn by(&self) -> u64 {
        self.by
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Says whether the commands that follow are a group: their effects stay here until it is committed.
    pub fn set_grouped(&mut self, grouped: bool) {
        self.grouped = grouped;
    }

    /// Keeps an event of a group until it is committed.
    pub(super) fn keep(&mut self, noted: Noted) {
        self.heard.push(noted);
    }

    pub(super) fn take_heard(&mut self) -> Vec<Noted> {
        std::mem::take(&mut self.heard)
    }

    /// Keeps a message until the group is committed: nobody hears of it before what it speaks of is done.
    pub fn say(&mut self, channel: &[u8], message: &[u8], to_shard: bool) {
        self.said.push(Said {
            behind: self.heard.len(),
            channel: channel.into(),
            message: message.into(),
            to_shard,
        });
    }

    pub(super) fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// How many events are kept, for `take_heard_from`.
    pub(super) fn heard(&self) -> usize {
        self.heard.len()
    }

    /// Takes back the events from number `from` on.
    pub(super) fn take_heard_from(&mut self, from: usize) -> Vec<Noted> {
        self.heard.split_off(from)
    }

    #[inline]
    pub fn is_grouped(&self) -> bool {
        self.grouped
    }

    /// True when there is something for the journal now.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.count > 0 && !self.grouped
    }

    /// Adds a change in a logical database.
    pub fn push(&mut self, db: u8, words: &[&[u8]]) {
        self.select(db);
        push_command(&mut self.buf, words);
        self.count += 1;
    }

    fn select(&mut self, db: u8) {
        if db != self.db {
            push_command(
                &mut self.buf,
                &[b"SELECT", itoa::Buffer::new().format(db).as_bytes()],
            );
            self.db = db;
        }
    }

    /// Where the recording is now, to come back to.
    pub fn mark(&self) -> EffectsMark {
        EffectsMark {
            len: self.buf.len(),
            count: self.count,
            db: self.db,
            heard: self.heard.len(),
            said: self.said.len(),
        }
    }

    /// Takes back what was pushed since.
    pub fn roll_back(&mut self, mark: &EffectsMark) {
        self.buf.truncate(mark.len);
        self.heard.truncate(mark.heard);
        self.said.truncate(mark.said);
        (self.count, self.db) = (mark.count, mark.db);
    }

    /// The whole payload.
    pub fn finish(&mut self) -> &[u8] {
        self.select(0);
        if self.count == 1 {
            return &self.buf[MULTI.len()..];
        }
        self.buf.extend_from_slice(EXEC);
        &self.buf
    }

    /// As `mark`, of a group that may be undone.
    pub fn savepoint(&mut self) -> EffectsMark {
        self.expired.clear();
        self.mark()
    }

    /// Takes back what was pushed since, but for what had expired.
    pub fn undo(&mut self, to: &EffectsMark) {
        let mut at = 0;
        self.heard.retain(|noted| {
            at += 1;
            at <= to.heard || noted.event == Event::Expired
        });
        let kept = std::mem::take(&mut self.heard);
        self.roll_back(to);
        self.heard = kept;
        for (db, key) in std::mem::take(&mut self.expired) {
            self.push(db, &[b"DEL", &key]);
        }
    }

    /// A key of a durable range had expired, and its deletion was just recorded.
    pub(super) fn note_expired(&mut self, db: u8, key: &[u8]) {
        if self.grouped {
            self.expired.push((db, key.to_vec()));
        }
    }

    pub fn clear(&mut self) {
        if self.buf.capacity() > KEEP_CAPACITY {
            self.buf = MULTI.to_vec();
        }
        self.buf.truncate(MULTI.len());
        (self.count, self.db) = (0, 0);
        self.expired.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(pushes: &[(u8, &[&[u8]])]) -> String {
        let mut effects = Effects::default();
        pushes.iter().for_each(|(db, words)| effects.push(*db, words));
        String::from_utf8_lossy(effects.finish()).replace("\r\n", " ")
    }

    #[test]
    fn one_effect_stands_bare_and_several_are_a_group() {
        assert_eq!(payload(&[(0, &[b"DEL", b"k"])]), "*2 $3 DEL $1 k ");
        let group = payload(&[(0, &[b"DEL", b"k"]), (0, &[b"DEL", b"l"])]);
        assert_eq!(group, "*1 $5 MULTI *2 $3 DEL $1 k *2 $3 DEL $1 l *1 $4 EXEC ");
    }

    #[test]
    fn what_is_rolled_back_was_never_there() {
        let mut effects = Effects::default();
        effects.push(0, &[b"DEL", b"k"]);
        let mark = effects.mark();
        effects.push(3, &[b"DEL", b"l"]);
        effects.roll_back(&mark);
        assert_eq!(effects.finish(), b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n");
    }

    #[test]
    fn another_database_is_selected_there_and_back() {
        let payload = payload(&[(12, &[b"DEL", b"k"])]);
        assert_eq!(payload, "*2 $6 SELECT $2 12 *2 $3 DEL $1 k *2 $6 SELECT $1 0 ");
    }
}
