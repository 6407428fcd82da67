//! Collections that need not fit memory: which are paged, how their elements come into memory and leave it.
//!
//! ```text
//!  flush         a large collection becomes paged: a row for each element; later a row for each that changed
//!  begin         the call says which elements it touches (`Elements`); what is not in memory is read from the store with
//!                no lock held, brought in under the lock, and looked at again
//!  pressure      clean elements are dropped, some at a time; a clean collection leaves memory as any entry does
//!  delete        the version is noted; the next flush deletes the rows of its elements by their interval
//! ```
//!
//! Guarantees:
//! * A handler never meets an element that is not in memory, so nothing is read between two changes of a command.
//! * Elements read without a lock are brought in only if the collection is still the one, in the state, that they were
//!   read for (`Pages::state`); after some rounds in vain they are read with the shard locked, so a command comes to
//!   its end.
//! * The elements of a row's version are those of the row: a file holds a collection's row with all of its elements that
//!   changed, and a version is never used again for other elements. It is the shard's journal offset when the collection
//!   became paged; a deletion has a higher one.
//!
//! Not paged are: small encodings, whatever their size; collections of memory ranges, of ranges on their way to memory,
//! and of ranges with a `max-value-size`, which has to know the size of the whole; hashes with fields that expire.

use super::entry::{DIRTY, Entry};
use super::load::{Locked, may_wait};
use super::range::{Range, RangeMap};
use super::shard::ShardState;
use super::tx::Call;
use super::{Keyspace, StoreError};
use crate::journal::crash_point;
use crate::object::Object;
use crate::object::dict::Dict;
use crate::object::paged::element_of;
use crate::object::pages::{Found, Kind, Lacking, Order, Pages, Rows, Span, Summary, Wanted};
use crate::resp::number::parse_i64;
use crate::store::flush::Batch;
use crate::store::rows::{self, RowError};
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

/// What a command touches of the values of its keys, where they are collections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Elements {
    /// Nothing but what is known of them as a whole.
    None,
    /// Those that it names: from this argument on each one that is so many further.
    Named {
        first: u8,
        step: u8,
    },
    /// Those that a scan from the cursor in its third argument looks at.
    Scanned,
    /// Some by chance, one or as many as its third argument says.
    Drawn,
    /// That with the index in its third argument; or all up to that in the fourth.
    Index,
    Indexes,
    /// So many at an end of a list, or at both.
    Ends {
        front: bool,
        back: bool,
        count: Count,
    },
    /// What the command's own family makes of the arguments and the value.
    Told(Tell),
    All,
    /// All, and the value becomes one that is kept whole.
    Unpaged,
}

/// What a call with these arguments wants of the value under a key.
type TellFn = for<'a> fn(received: &'a [&'a [u8]], key: &[u8], value: &Object) -> Vec<Wanted<'a>>;

#[derive(Clone, Copy, Debug)]
pub struct Tell(pub TellFn);

impl PartialEq for Tell {
    fn eq(&self, other: &Tell) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for Tell {}

/// How many elements a command takes off an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    One,
    /// As its third argument says, if there is one.
    Third,
    /// As it says behind COUNT, if it does.
    Named,
}

/// Elements of a scan without a COUNT.
const SCAN_COUNT: usize = 10;
/// Rounds after which elements are read with the shard locked.
const ROUNDS: usize = 3;
/// A collection with fewer clean elements in memory does not drop any.
const SHED_FROM: usize = 1024;
/// Elements dropped at a time: a shard is locked for it.
const SHED: usize = 1024;
/// Rows of a deleted collection from which on, in bytes, its files are written anew at once.
const RECLAIMED_FROM: u64 = 1 << 20;

/// A collection, and what of it has to be read.
pub(super) struct Need {
    db: u8,
    hash: u64,
    key: Vec<u8>,
    version: u64,
    /// Kind and origin of its rows.
    order: (Kind, u64),
    state: u64,
    lacking: Lacking,
    /// All of it is needed.
    all: bool,
}

impl Elements {
    /// What a call with these arguments needs of a paged collection and memory has not.
    fn lacking(self, key: &[u8], value: &Object, received: &[&[u8]]) -> Option<Lacking> {
        let pages = value.pages()?;
        if let Elements::Told(tell) = self {
            let wanted = if pages.is_whole() {
                Vec::new()
            } else {
                (tell.0)(received, key, value)
            };
            return lacking_of_all(pages, &wanted);
        }
        pages.lacking(&self.wanted(received)?)
    }

    /// What a call with these arguments touches. Nothing, where they cannot be read: it is going to be refused.
    fn wanted<'a>(self, received: &'a [&'a [u8]]) -> Option<Wanted<'a>> {
        let int = |at: usize| parse_i64(received.get(at)?);
        Some(match self {
            Elements::None | Elements::Told(_) => return None,
            Elements::Named { first, step } => Wanted::Elements(received.get(first.into()..)?, step.into()),
            Elements::Scanned => {
                let count = named_count(received).unwrap_or(SCAN_COUNT);
                Wanted::Scan(scan_cursor(received.get(2)?)?, count)
            }
            Elements::Drawn => {
                let count = if received.len() > 2 { int(2)? } else { 1 };
                Wanted::Drawn(usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX))
            }
            Elements::Index => Wanted::Indexes(int(2)?, int(2)?),
            Elements::Indexes => Wanted::Indexes(int(2)?, int(3)?),
            Elements::Ends { front, back, count } => {
                let count = match count {
                    Count::One => None,
                    Count::Third => int(2).and_then(|count| count.try_into().ok()),
                    Count::Named => named_count(received),
                };
                let count = count.unwrap_or(1);
                Wanted::Ends {
                    front: if front { count } else { 0 },
                    back: if back { count } else { 0 },
                }
            }
            Elements::All | Elements::Unpaged => Wanted::All,
        })
    }

    /// Nothing of it may go before the call has run.
    fn is_all(self) -> bool {
        matches!(self, Elements::All | Elements::Unpaged)
    }
}

/// What is lacking of several things wanted: all runs of rows at once, or the first that is none.
fn lacking_of_all(pages: &dyn Pages, wanted: &[Wanted<'_>]) -> Option<Lacking> {
    let mut all = Vec::new();
    for lacking in wanted.iter().filter_map(|wanted| pages.lacking(wanted)) {
        match lacking {
            Lacking::Spans(spans) => all.extend(spans),
            other => return Some(other),
        }
    }
    (!all.is_empty()).then_some(Lacking::Spans(all))
}

/// A cursor as the commands read it: nothing is 0, and a negative one counts from the end. What is none, they refuse.
fn scan_cursor(text: &[u8]) -> Option<u64> {
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u64>().ok();
    match text {
        [] => Some(0),
        [b'-', digits @ ..] => number(digits).map(u64::wrapping_neg),
        digits => number(digits),
    }
}

/// The number behind COUNT.
fn named_count(received: &[&[u8]]) -> Option<usize> {
    let at = received
        .iter()
        .rposition(|word| word.eq_ignore_ascii_case(b"COUNT"))?;
    std::str::from_utf8(received.get(at + 1)?).ok()?.parse().ok()
}

/// The rows of a paged collection's elements: of all, if it is a new one, else of those that changed. Nothing of others.
pub(super) fn push_elements(batch: &mut Batch, entry: &mut Entry, is_new: bool) {
    let Some(version) = entry.pages().map(Pages::version) else {
        return;
    };
    let bounds = rows::collection_bounds(entry.db(), entry.key(), version);
    let Some(pages) = entry.pages_mut() else { return };
    if !is_new {
        for (from, to) in pages.dropped() {
            batch.drop_between(rows::place_bounds(&bounds, &from, Some(&to)));
        }
    }
    let mut push = |place: &[u8], value: Option<&[u8]>| {
        let key = |out: &mut Vec<u8>| rows::push_element_key(out, &bounds.0, place);
        batch.push(
            key,
            value.map(|value| |out: &mut Vec<u8>| out.extend_from_slice(value)),
        );
    };
    if is_new {
        pages.each(&mut |place, value| push(place, Some(value)));
        // A crash here is fine, and below: the store has nothing of a file before it has all of it.
        crash_point("page-out");
    } else {
        pages.each_change(&mut push);
        crash_point("page-changes");
        pages.settle_changes();
    }
}

/// Which collections are paged.
impl Keyspace {
    /// Makes a collection paged that is to be, when its row is about to be written with this offset. True if it was not.
    pub(super) fn page_if_large(&self, entry: &mut Entry, range: &Range, offset: u64) -> bool {
        let limits = &self.limits;
        let (most, most_bytes) = (
            limits.paged_threshold.load(Relaxed),
            limits.paged_threshold_size.load(Relaxed),
        );
        let is_large = |object: &Object| {
            object.can_be_paged() && (object.len() as u64 > most || object.bytes() as u64 > most_bytes)
        };
        if !entry.object().is_some_and(is_large) || range.policy.max_value_size > 0 || range.stays_resident()
        {
            return false;
        }
        if let Some(object) = entry.object_mut() {
            object.page(offset);
        }
        self.any_paged.store(true, Relaxed);
        true
    }

    /// Makes a paged collection whose elements are all in memory one that is kept whole. Its elements' rows go with the
    /// next flush, which writes it as one row, or makes it paged again.
    fn unpage(&self, state: &mut ShardState, (db, hash, key): (u8, u64, &[u8]), range: &Range) {
        let Some(entry) = state.find_mut(hash, db, key) else {
            return;
        };
        let Some(version) = entry.pages().map(Pages::version) else {
            return;
        };
        let before = entry.size();
        if let Some(object) = entry.object_mut() {
            object.unpage();
        }
        let after = entry.size();
        self.count_bytes(range, before, after);
        state.stale_expiries.note_pages(db, key, version);
        if state.mark_dirty_at(hash, db, key) {
            self.flush.note_dirty(after);
        }
    }

    /// Has the rows of deleted elements written anew without them, where there are many.
    pub(super) fn reclaim_elements(&self, mut dropped: Vec<(Vec<u8>, Vec<u8>)>) {
        let store = self.store.clone();
        dropped.retain(|bounds| store.approximate_bytes(std::slice::from_ref(bounds)) >= RECLAIMED_FROM);
        if !dropped.is_empty() {
            super::spawn_into(&self.store_jobs, "reclaim", move || {
                dropped.iter().for_each(|(from, to)| store.compact(from, to));
            });
        }
    }
}

/// Bringing elements in.
impl Keyspace {
    /// True when a call needs more of a collection than is in memory: what only one flag says where nothing is paged.
    #[inline]
    pub(super) fn lacks(&self, state: &ShardState, place: (u8, u64, &[u8]), call: &Call<'_>) -> bool {
        call.elements != Elements::None
            && self.any_paged.load(Relaxed)
            && self.lacks_elements(state, place, call)
    }

    fn lacks_elements(&self, state: &ShardState, (db, hash, key): (u8, u64, &[u8]), call: &Call<'_>) -> bool {
        let value = state.find(hash, db, key).and_then(Entry::object);
        let map = self.ranges.load();
        value
            .filter(|value| value.pages().is_some())
            .is_some_and(|value| {
                let elements = self.elements_of(map.find(key), call);
                elements == Elements::Unpaged || elements.lacking(key, value, call.received).is_some()
            })
    }

    /// Some value is, or was, a paged collection.
    pub fn has_paged(&self) -> bool {
        self.any_paged.load(Relaxed)
    }

    /// What a call touches of a collection in this range.
    fn elements_of(&self, range: &Range, call: &Call<'_>) -> Elements {
        if call.elements == Elements::None {
            Elements::None
        } else if range.policy.max_value_size > 0 {
            Elements::Unpaged
        } else if self.has_quotas() && call.keys.len() > 1 && call.elements != Elements::Unpaged {
            // A limit on another key may make a copy of this one's value.
            Elements::All
        } else {
            call.elements
        }
    }

    /// What a call needs of collections whose shards are locked; one that is to be kept whole is made so, if it is in
    /// memory.
    pub(super) fn needs(
        &self,
        locked: &mut Locked<'_>,
        named: &[(u8, &[u8])],
        call: &Call<'_>,
    ) -> SmallVec<[Need; 1]> {
        let mut needs = SmallVec::new();
        if call.elements == Elements::None || !self.any_paged.load(Relaxed) {
            return needs;
        }
        for (db, key) in named {
            let db = self.physical(*db);
            let hash = self.hasher.hash(db, key);
            let shard = self.shard_of(hash);
            let Ok(at) = locked.guards.binary_search_by_key(&shard, |(shard, _)| *shard) else {
                continue;
            };
            let state = &mut *locked.guards[at].1;
            let value = state.find(hash, db, key).and_then(Entry::object);
            let Some((value, pages)) = value.and_then(|value| Some((value, value.pages()?))) else {
                continue;
            };
            let range = locked.map.find(key);
            let elements = self.elements_of(range, call);
            match elements.lacking(key, value, call.received) {
                Some(lacking) => needs.push(Need {
                    db,
                    hash,
                    key: key.to_vec(),
                    version: pages.version(),
                    order: pages.order(),
                    state: pages.state(),
                    lacking,
                    all: elements.is_all(),
                }),
                None if elements == Elements::Unpaged => self.unpage(state, (db, hash, key), range),
                None => {}
            }
        }
        needs
    }

    /// Reads what is needed, for `take_elements_in`.
    pub(super) fn read_needs(&self, needs: SmallVec<[Need; 1]>) -> Result<Vec<(Need, Found)>, StoreError> {
        let read = |need: Need| {
            let found = self.read_elements(&need)?;
            Ok((need, found))
        };
        needs.into_iter().map(read).collect()
    }

    /// After so many rounds others change the collections faster than they can be read without a lock.
    pub(super) fn is_last_round(round: usize) -> bool {
        round >= ROUNDS
    }

    /// Reads what is needed while the shards are locked, until nothing is.
    pub(super) fn read_locked(
        &self,
        locked: &mut Locked<'_>,
        named: &[(u8, &[u8])],
        (call, mut needs): (&Call<'_>, SmallVec<[Need; 1]>),
    ) -> Result<(), StoreError> {
        while !needs.is_empty() {
            let before: Vec<Lacking> = needs.iter().map(|need| need.lacking.clone()).collect();
            let read = self.read_needs(needs)?;
            self.take_elements_in(locked, read, false);
            needs = self.needs(locked, named, call);
            if needs.iter().map(|need| &need.lacking).eq(&before) {
                return Err(missing());
            }
        }
        Ok(())
    }

    fn read_elements(&self, need: &Need) -> Result<Found, StoreError> {
        let (kind, origin) = need.order;
        let bounds = rows::collection_bounds(need.db, &need.key, need.version);
        match &need.lacking {
            Lacking::Rows(places) => self.read_named(&bounds.0, places),
            Lacking::Spans(spans) => may_wait(|| {
                let read = |span: &Span| self.read_span(&bounds, kind, span.clone());
                let read: Result<Vec<_>, StoreError> = spans.iter().map(read).collect();
                Ok(Found::Spans(read?))
            }),
            Lacking::Table => may_wait(|| {
                let mut all = Dict::new(origin);
                for row in self.store.scan(bounds.0.clone(), bounds.1.clone(), false) {
                    let (row_key, value) = row?;
                    all.insert(element_of(kind, place_of(&row_key, &bounds.0)?, &value));
                }
                Ok(Found::Table(all))
            }),
        }
    }

    fn read_named(&self, collection: &[u8], places: &[Vec<u8>]) -> Result<Found, StoreError> {
        let mut found = Vec::with_capacity(places.len());
        for place in places {
            let value = self.read_row(&[collection, place].concat())?;
            found.push((place.clone(), value.map(|value| value.to_vec())));
        }
        Ok(Found::Rows(found))
    }

    fn read_span(
        &self,
        bounds: &(Vec<u8>, Vec<u8>),
        kind: Kind,
        span: Span,
    ) -> Result<(Span, Rows), StoreError> {
        let (from, to) = rows::place_bounds(bounds, &span.from, span.to.as_deref());
        let mut stored = self.store.scan(from, to, span.order == Order::Down);
        span.read(kind, |place, value| {
            let Some(row) = stored.next() else {
                return Ok(false);
            };
            let (row_key, read) = row?;
            place.clear();
            place.extend_from_slice(place_of(&row_key, &bounds.0)?);
            *value = read.into_vec();
            Ok(true)
        })
    }

    /// Brings in what was read, into collections that are still what they were.
    /// Where memory is full they take the place of others, if they `may_shed`.
    pub(super) fn take_elements_in(&self, locked: &mut Locked<'_>, read: Vec<(Need, Found)>, may_shed: bool) {
        for (need, found) in read {
            let shard = self.shard_of(need.hash);
            let guard = locked.guards.binary_search_by_key(&shard, |(shard, _)| *shard);
            let Ok(at) = guard else { continue };
            let state = &mut *locked.guards[at].1;
            let Some(entry) = state.find_mut(need.hash, need.db, &need.key) else {
                continue;
            };
            let before = entry.size();
            let sheds = may_shed && !need.all && self.may_shed(entry) && self.is_over_limit();
            let Some(pages) = entry.pages_mut().filter(|pages| pages.state() == need.state) else {
                continue;
            };
            pages.bring_in(found, if sheds { SHED } else { 0 });
            let after = entry.size();
            let range = locked.map.find(&need.key);
            self.count_bytes(range, before, after);
        }
    }

    /// Before an entry is made resident whose row is that of a paged collection, with this offset and version.
    pub(super) fn settle_paged(
        &self,
        state: &mut ShardState,
        (hash, entry): (u64, &mut Entry),
        (offset, version): (u64, u64),
    ) {
        // It may be written anew without an effect of its own: its row must not become older.
        state.last_offset = state.last_offset.max(offset);
        if entry.pages().is_none() {
            // It was made whole: the rows of its elements go.
            state.stale_expiries.note_pages(entry.db(), entry.key(), version);
            entry.store_set(DIRTY, true);
            state.dirty.push(hash);
            self.flush.note_dirty(entry.size());
        }
    }

    /// Reads all elements of a collection and makes the object of them.
    pub(super) fn whole_object(&self, db: u8, key: &[u8], summary: &Summary) -> Result<Object, StoreError> {
        let object = Object::of_summary(summary);
        let mut object = object.ok_or_else(|| StoreError::new(RowError::Paged))?;
        if let Some(pages) = object.pages_mut()
            && let Some(lacking) = pages.lacking(&Wanted::All)
        {
            let need = Need {
                db,
                hash: 0,
                key: key.to_vec(),
                version: summary.version,
                order: (summary.kind, summary.origin),
                state: 0,
                lacking,
                all: true,
            };
            pages.bring_in(self.read_elements(&need)?, 0);
            if !pages.is_whole() {
                return Err(missing());
            }
        }
        object.unpage();
        Ok(object)
    }
}

fn missing() -> StoreError {
    StoreError::new("rows of a paged collection are missing")
}

fn place_of<'a>(row_key: &'a [u8], collection: &[u8]) -> Result<&'a [u8], StoreError> {
    let place = rows::place_of(row_key, collection);
    place.ok_or_else(|| StoreError::new("an element's row cannot be read"))
}

/// Giving memory back.
impl Keyspace {
    /// True when clean elements of this entry may be dropped, and there are many.
    pub(super) fn may_shed(&self, entry: &Entry) -> bool {
        entry.pages().is_some_and(|pages| pages.clean_len() >= SHED_FROM) && self.flush.has_row(entry)
    }

    /// Drops some clean elements of an entry that may.
    pub(super) fn shed(&self, state: &mut ShardState, (db, hash, key): (u8, u64, &[u8]), range: &Range) {
        let Some(entry) = state.find_mut(hash, db, key) else {
            return;
        };
        let before = entry.size();
        if let Some(pages) = entry.pages_mut() {
            pages.shed(SHED);
        }
        let after = entry.size();
        self.count_bytes(range, before, after);
    }

    /// Makes what is paged in a range that is about to leave for memory whole. What is loaded or flushed meanwhile is
    /// not paged in such a range.
    pub(super) fn unpage_range(&self, name: &str, map: &RangeMap, now_ms: i64) -> Result<(), StoreError> {
        if !self.any_paged.load(Relaxed) {
            return Ok(());
        }
        for shard in &self.shards {
            let paged: Vec<(u8, Vec<u8>)> = shard
                .lock()
                .iter()
                .filter(|entry| entry.pages().is_some() && map.find(entry.key()).spec.name == name)
                .map(|entry| (entry.db(), entry.key().to_vec()))
                .collect();
            for (db, key) in paged {
                let mut effects = super::Effects::default();
                let call = Call {
                    db: self.logical(db),
                    now_ms,
                    keys: &[&key],
                    received: &[],
                    elements: Elements::Unpaged,
                    replay: None,
                };
                self.begin(call, &mut effects)?.commit();
            }
        }
        Ok(())
    }
}
