//! What happens to keys, by the names that Redis gives it, and who is told.
//!
//! ```text
//!  Tx: a change ── nobody watches the key, nobody listens to its range ──> nothing more: one flag test
//!       └── somebody does ──> noted (`Tx::note`) ── commit ──> journal ──> told, while the shard is still locked
//! ```
//!
//! The name of a change follows from the command as it was received ([`Event::of`]); where it does not, the handler
//! says it (`Tx::event`, `Change::also`). Events of one key come in the order of its changes, those of one command in
//! Redis's order, and all of them behind the effect in the journal.

use super::Keyspace;
use super::effects::{Effects, Said, push_command};
use super::entry::{self, Entry};
use super::range::{Range, RangeMap};
use super::records::Kind;
use super::shard::ShardState;
use super::subscribers::Subscribers;
use crate::config::KeyspaceEvents;
use crate::object::codec;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The events, with the letter of their class and their name.
macro_rules! events {
    ($($variant:ident $class:literal $name:literal),* $(,)?) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Event { $($variant),* }

        impl Event {
            /// The letter of `notify-keyspace-events`, and the name.
            const fn row(self) -> (u8, &'static str) {
                match self { $(Event::$variant => ($class, $name)),* }
            }
        }
    };
}

events! {
    Append b'$' "append", IncrBy b'$' "incrby", IncrByFloat b'$' "incrbyfloat", PfAdd b'$' "pfadd",
    Set b'$' "set", SetBit b'$' "setbit", SetRange b'$' "setrange",
    LInsert b'l' "linsert", LPop b'l' "lpop", LPush b'l' "lpush", LRem b'l' "lrem", LSet b'l' "lset",
    LTrim b'l' "ltrim", RPop b'l' "rpop", RPush b'l' "rpush", SortStore b'l' "sortstore",
    SAdd b's' "sadd", SDiffStore b's' "sdiffstore", SInterStore b's' "sinterstore", SPop b's' "spop",
    SRem b's' "srem", SUnionStore b's' "sunionstore",
    HDel b'h' "hdel", HExpire b'h' "hexpire", HExpired b'h' "hexpired", HIncrBy b'h' "hincrby",
    HIncrByFloat b'h' "hincrbyfloat", HPersist b'h' "hpersist", HSet b'h' "hset",
    GeoRadiusStore b'z' "georadiusstore", GeoSearchStore b'z' "geosearchstore", ZAdd b'z' "zadd",
    ZDiffStore b'z' "zdiffstore", ZIncr b'z' "zincr", ZInterStore b'z' "zinterstore", ZPopMax b'z' "zpopmax",
    ZPopMin b'z' "zpopmin", ZRangeStore b'z' "zrangestore", ZRem b'z' "zrem",
    ZRemRangeByLex b'z' "zremrangebylex", ZRemRangeByRank b'z' "zremrangebyrank",
    ZRemRangeByScore b'z' "zremrangebyscore", ZUnionStore b'z' "zunionstore",
    XAdd b't' "xadd", XDel b't' "xdel", XGroupCreate b't' "xgroup-create",
    XGroupCreateConsumer b't' "xgroup-createconsumer", XGroupDelConsumer b't' "xgroup-delconsumer",
    XGroupDestroy b't' "xgroup-destroy", XGroupSetId b't' "xgroup-setid", XSetId b't' "xsetid", XTrim b't' "xtrim",
    CopyTo b'g' "copy_to", Del b'g' "del", Expire b'g' "expire", MoveFrom b'g' "move_from", MoveTo b'g' "move_to",
    Persist b'g' "persist", RenameFrom b'g' "rename_from", RenameTo b'g' "rename_to", Restore b'g' "restore",
    Expired b'x' "expired", Evicted b'e' "evicted", New b'n' "new", KeyMiss b'm' "keymiss",
    // Of no class: only those hear of it who ask for the values of keys.
    FlushDb b' ' "flushdb", FlushAll b' ' "flushall", SwapDb b' ' "swapdb", RangeDrop b' ' "range",
}

/// Longer names than any command has that changes keys.
const NAME_MOST: usize = 24;

impl Event {
    pub fn class(self) -> u8 {
        self.row().0
    }

    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What a command is called that writes a value, where its name says so; none where the change is not one that
    /// Redis speaks of, or has a name that the handler gives.
    pub fn of(received: &[&[u8]]) -> Option<Event> {
        let mut lower = [0; NAME_MOST];
        let name = lower_case(received.first()?, &mut lower)?;
        Some(match name {
            b"set" | b"setnx" | b"setex" | b"psetex" | b"getset" | b"mset" | b"msetnx" | b"bitop" => {
                Event::Set
            }
            b"append" => Event::Append,
            b"setrange" => Event::SetRange,
            b"incr" | b"incrby" | b"decr" | b"decrby" => Event::IncrBy,
            b"incrbyfloat" => Event::IncrByFloat,
            b"setbit" | b"bitfield" => Event::SetBit,
            b"pfadd" | b"pfmerge" => Event::PfAdd,
            b"lpush" | b"lpushx" => Event::LPush,
            b"rpush" | b"rpushx" => Event::RPush,
            b"linsert" => Event::LInsert,
            b"lset" => Event::LSet,
            b"lrem" => Event::LRem,
            b"ltrim" => Event::LTrim,
            b"sort" => Event::SortStore,
            b"sadd" => Event::SAdd,
            b"srem" => Event::SRem,
            b"spop" => Event::SPop,
            b"sdiffstore" => Event::SDiffStore,
            b"sinterstore" => Event::SInterStore,
            b"sunionstore" => Event::SUnionStore,
            b"hset" | b"hmset" | b"hsetnx" | b"hsetex" => Event::HSet,
            b"hincrby" => Event::HIncrBy,
            b"hincrbyfloat" => Event::HIncrByFloat,
            b"hdel" | b"hgetdel" => Event::HDel,
            b"hexpire" | b"hpexpire" | b"hexpireat" | b"hpexpireat" | b"hgetex" => Event::HExpire,
            b"hpersist" => Event::HPersist,
            b"zadd" | b"geoadd" => Event::ZAdd,
            b"zincrby" => Event::ZIncr,
            b"zrem" => Event::ZRem,
            b"zremrangebylex" => Event::ZRemRangeByLex,
            b"zremrangebyrank" => Event::ZRemRangeByRank,
            b"zremrangebyscore" => Event::ZRemRangeByScore,
            b"zdiffstore" => Event::ZDiffStore,
            b"zinterstore" => Event::ZInterStore,
            b"zunionstore" => Event::ZUnionStore,
            b"zrangestore" => Event::ZRangeStore,
            b"georadius" | b"georadiusbymember" => Event::GeoRadiusStore,
            b"geosearchstore" => Event::GeoSearchStore,
            b"xadd" => Event::XAdd,
            b"xdel" => Event::XDel,
            b"xtrim" => Event::XTrim,
            b"xsetid" => Event::XSetId,
            b"xgroup" => return Event::of_group(received.get(1)?),
            b"copy" => Event::CopyTo,
            b"move" => Event::MoveTo,
            b"rename" | b"renamenx" => Event::RenameTo,
            b"restore" => Event::Restore,
            _ => return None,
        })
    }

    fn of_group(subcommand: &[u8]) -> Option<Event> {
        let mut lower = [0; NAME_MOST];
        Some(match lower_case(subcommand, &mut lower)? {
            b"create" => Event::XGroupCreate,
            b"createconsumer" => Event::XGroupCreateConsumer,
            b"delconsumer" => Event::XGroupDelConsumer,
            b"destroy" => Event::XGroupDestroy,
            b"setid" => Event::XGroupSetId,
            _ => return None,
        })
    }

    /// What it is called when a command deletes a key.
    pub fn of_removal(received: &[&[u8]]) -> &'static [Event] {
        let mut lower = [0; NAME_MOST];
        match received.first().and_then(|name| lower_case(name, &mut lower)) {
            Some(b"rename" | b"renamenx") => &[Event::RenameFrom],
            Some(b"move") => &[Event::MoveFrom],
            Some(b"spop") => &[Event::SPop, Event::Del],
            Some(b"zremrangebylex") => &[Event::ZRemRangeByLex, Event::Del],
            _ => &[Event::Del],
        }
    }

    /// There is no value any more.
    pub(super) fn ends_value(self) -> bool {
        matches!(
            self,
            Event::Del | Event::Expired | Event::Evicted | Event::RenameFrom | Event::MoveFrom
        )
    }

    /// The command looks at how a key is kept, and does not miss it.
    pub fn looks_only(received: &[&[u8]]) -> bool {
        received
            .first()
            .is_some_and(|name| name.eq_ignore_ascii_case(b"OBJECT"))
    }

    /// False of a key that was looked for and is not there, and of a second name for one change.
    pub fn is_change(self) -> bool {
        !matches!(self, Event::KeyMiss | Event::New)
    }

    /// The change is one of the key's value, and not only of who reads a stream and how far: transactions that depend on
    /// the key are off, and who has cached it is told.
    pub(super) fn changes_value(self) -> bool {
        !matches!(
            self,
            Event::KeyMiss
                | Event::New
                | Event::XGroupCreate
                | Event::XGroupCreateConsumer
                | Event::XGroupDelConsumer
                | Event::XGroupDestroy
                | Event::XGroupSetId
                | Event::XSetId
        )
    }

    /// The change puts a key in the place of another, which is no change of that one: the key counts as new.
    pub fn makes_anew(self) -> bool {
        matches!(self, Event::CopyTo | Event::RenameTo | Event::Restore)
    }
}

fn lower_case<'b>(name: &[u8], buffer: &'b mut [u8; NAME_MOST]) -> Option<&'b [u8]> {
    let lower = buffer.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    Some(lower)
}

/// Something that has happened to a key, and who asked for it by the key's name.
pub struct Happened<'a> {
    /// Logical database.
    pub db: u8,
    pub key: &'a [u8],
    pub event: Event,
    /// Journal offset behind its effect; 0 where it has none.
    pub offset: u64,
    /// Nobody is to know of it before the journal is durable up to the offset.
    pub gated: bool,
    /// Another change of the key with the same offset follows.
    pub more: bool,
    /// What is to be told to those who listen to all keys.
    pub notify: KeyspaceEvents,
    pub changes: Option<&'a Subscribers>,
    pub values: Option<&'a Subscribers>,
    /// What the value is now, or what was done to it, for `values`.
    pub news: &'a News,
}

/// What those learn of a change who asked for values.
#[derive(Default, Debug)]
pub enum News {
    /// There is no value.
    #[default]
    None,
    /// There may be another value, which was not looked at.
    Unknown,
    /// A string's new value.
    Value(Vec<u8>),
    /// What was done to a collection, as commands of one key.
    Effects(Vec<u8>),
}

impl News {
    /// One command on one key.
    pub(super) fn command(words: &[&[u8]]) -> News {
        let mut bytes = Vec::new();
        push_command(&mut bytes, words);
        News::Effects(bytes)
    }

    /// The whole value of an entry.
    pub(super) fn of(entry: &Entry) -> News {
        match entry.object() {
            None => News::Value(entry.value().to_vec()),
            Some(object) if object.pages().is_some_and(|pages| !pages.is_whole()) => News::Unknown,
            Some(object) => {
                let payload = codec::dump(codec::ValueRef::Object(object), codec::Form::ROW);
                let mut digits = itoa::Buffer::new();
                let at = digits.format(entry.expiry().unwrap_or(0)).as_bytes();
                News::command(&[b"RESTORE", entry.key(), at, &payload, b"REPLACE", b"ABSTTL"])
            }
        }
    }
}

/// Who tells clients what has happened.
pub trait Listener: Send + Sync {
    /// Anybody listens to more than keys by their names: a pattern, or a kind of event.
    fn listens(&self) -> bool;

    /// Called while the key's shard is locked. Waits for nobody.
    fn happened(&self, what: &Happened<'_>);

    /// A key has changed on which these made their transactions depend. Called as `happened`, before the change is seen.
    fn touched(&self, who: &Subscribers);

    /// A key has changed that these may have cached, or they are to forget it. `by` is the client whose command it was,
    /// 0 for nobody's. Called as `touched`.
    fn stale(&self, key: &[u8], who: &Subscribers, by: u64);

    /// A key has changed, and somebody wants to know of every one (`Keyspace::set_broadcasting`). Called as `touched`.
    fn changed(&self, key: &[u8], by: u64);

    /// A group has published something. Called when it is committed, on the thread that holds its shards and may use them.
    fn said(&self, keyspace: &Keyspace, said: &Said);

    /// Every key may have changed. Called while all shards are locked.
    fn all_stale(&self);
}

/// In place of the number of the client whose command it was.
pub(super) const NOBODY: u64 = 0;

/// An event that waits for its transaction's end.
pub(super) struct Noted {
    pub event: Event,
    pub guard: usize,
    pub hash: u64,
    /// Logical and physical database.
    pub db: (u8, u8),
    pub key: Box<[u8]>,
    pub news: News,
    /// Somebody wants to know what becomes of the value.
    pub values: bool,
    /// Another one of this key follows, of the same record.
    pub more: bool,
}

/// Notes of each event whether others follow of the same key: all of them have one offset, and who resumes at an offset
/// has to know whether it has heard all of it.
pub(super) fn mark_more(events: &mut [Noted]) {
    if !events.iter().any(|noted| noted.values) {
        return;
    }
    let mut seen = HashSet::new();
    let changes = events
        .iter_mut()
        .filter(|noted| noted.values && noted.event.is_change());
    for noted in changes.rev() {
        noted.more = !seen.insert((noted.db.1, noted.hash));
    }
}

impl Keyspace {
    /// Says who is to be told; once, before anything happens.
    pub fn set_listener(&self, listener: Arc<dyn Listener>) {
        // A second one is not heard.
        let _ = self.listener.set(listener);
    }

    #[inline]
    pub(super) fn is_listened_to(&self) -> bool {
        self.listener.get().is_some_and(|listener| listener.listens())
    }

    /// Tells of an event of a transaction, which ended at `offset`; 0 where nothing was recorded.
    pub(super) fn tell_of(&self, map: &RangeMap, state: &mut ShardState, noted: &Noted, offset: u64) {
        let range = map.find(&noted.key);
        let offset = match range.is_durable() {
            // Nothing was recorded: what is told of is told as of the last effect.
            true if offset == 0 => state.last_offset,
            true => offset,
            false => 0,
        };
        self.tell(state, noted, range, offset);
    }

    /// Tells whoever wants to know of an event of a key in this shard.
    fn tell(&self, state: &mut ShardState, noted: &Noted, range: &Range, offset: u64) {
        let Some(listener) = self.listener.get() else {
            return;
        };
        let (db, physical) = noted.db;
        let find = |kind| self.subscribers_of(state, noted.hash, (kind, physical, &noted.key));
        let (changes, values) = (find(Kind::Changes), find(Kind::Values));
        let is_known_watched = changes.is_some() || values.is_some();
        listener.happened(&Happened {
            db,
            key: &noted.key,
            event: noted.event,
            offset,
            gated: range.is_gated(),
            more: noted.more,
            notify: range.policy.notify,
            changes,
            values,
            news: &noted.news,
        });
        if !is_known_watched
            && !state.records.is_watched(noted.hash, physical, &noted.key)
            && let Some(entry) = state.find_mut(noted.hash, physical, &noted.key)
        {
            entry.set(entry::WATCHED, false);
        }
    }

    /// Every change of every key is of interest to somebody.
    #[inline]
    pub(super) fn is_broadcasting(&self) -> bool {
        self.broadcasting.load(Relaxed)
    }

    pub fn set_broadcasting(&self, on: bool) {
        self.broadcasting.store(on, Relaxed);
    }

    /// Says that a key has changed to those whose transactions depend on it, and to those who may have cached it.
    pub(super) fn signal(&self, state: &mut ShardState, (hash, db, key): (u64, u8, &[u8]), by: u64) {
        let Some(listener) = self.listener.get() else {
            return;
        };
        if let Some(who) = self.subscribers_of(state, hash, (Kind::Transactions, db, key)) {
            listener.touched(who);
        }
        if self.record_counts.records(Kind::Caches) > 0
            && let Some(who) = self.take_caches(state, (hash, db, key))
        {
            listener.stale(key, &who, by);
        }
        if self.is_broadcasting() {
            listener.changed(key, by);
        }
    }

    /// As `Tx::note`, for what happens outside of transactions: signalled at once, and told when it is recorded, if it
    /// is (`tell_recorded`).
    pub(super) fn note_aside(
        &self,
        state: &mut ShardState,
        hash: u64,
        (db, key): (u8, &[u8]),
        (event, news): (Event, News),
        effects: Option<&mut Effects>,
    ) {
        self.signal(state, (hash, db, key), NOBODY);
        let map = self.ranges.load();
        let range = map.find(key);
        let listened = range.notifies() && self.is_listened_to();
        if !listened && !state.records.is_heard(hash, db, key) {
            return;
        }
        let noted = Noted {
            event,
            guard: 0,
            hash,
            db: (self.logical(db), db),
            key: key.into(),
            news,
            values: self
                .subscribers_of(state, hash, (Kind::Values, db, key))
                .is_some(),
            more: false,
        };
        match effects {
            Some(effects) => effects.keep(noted),
            None => self.tell_of(&map, state, &noted, 0),
        }
    }

    /// Tells what was noted aside of keys of this shard, and is recorded now.
    pub(super) fn tell_recorded(&self, state: &mut ShardState, mut heard: Vec<Noted>) {
        if heard.is_empty() {
            return;
        }
        mark_more(&mut heard);
        let map = self.ranges.load();
        for noted in &heard {
            self.tell_of(&map, state, noted, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_names_of_their_events() {
        for (words, event) in [
            (&["SET", "k", "v"][..], Some("set")),
            (&["DecrBy", "k", "1"], Some("incrby")),
            (&["XGROUP", "Create", "k"], Some("xgroup-create")),
            (&["XGROUP", "NOPE", "k"], None),
            (&["GET", "k"], None),
            (&["ANAMETHATISLONGERTHANANYCOMMANDS"], None),
            (&[], None),
        ] {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            assert_eq!(Event::of(&words).map(Event::name), event);
        }
        assert_eq!(Event::of_removal(&[b"rename"]), [Event::RenameFrom]);
        assert_eq!(Event::of_removal(&[b"getdel"]), [Event::Del]);
    }
}
