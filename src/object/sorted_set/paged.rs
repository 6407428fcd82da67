//! A sorted set that need not fit memory: those members that are in use, and which intervals of scores have no others.
//!
//! ```text
//!  in the store    for each member two rows: by its hash, and by its score; one row for the set (`Summary`)
//!  in memory       a table of members with a tree over them, as of any large set; what differs from the rows (`changed`)
//!
//!  scores      -inf ────────────────────────────────────────────────────────────────────────────── +inf
//!  members          ·· ···· ·  ···· ·     ·      ·         ·   ·       ·     ····· ·· ···
//!  covered     ├───────────────────────┤                                   ├──────────────────────────┤
//! ```
//!
//! Guarantees, besides those of `pages`:
//! * What is in memory of an interval that is covered is all that is in it. A member that was asked for by its name is
//!   in memory also where nothing is covered.
//! * Of a member that is in none of the tables the store knows; or there is none, if all are in memory.
//! * A member has both of its rows, or neither; they are written into one file.
//!
//! Ranks are those among the members in memory. In an interval that is covered they differ from those in the whole set
//! by the same number everywhere: so a walk along them is the same, and whatever counts from an end asks `ranks_of`.

use super::table::Table;
use super::{Cut, Side, Update};
use crate::object::dict::{Dict, DictItem, Field};
use crate::object::intervals::Intervals;
use crate::object::paged::hash_of;
use crate::object::pages::{
    Found, Kind, Lacking, Order, Pages, Rows, Span, Summary, VisitChange, Wanted, next_state,
};
use crate::object::window::{self, Chance, Window};
use std::ops::Range;

/// The first byte of places: rows by hash, rows by score, and what is behind those.
const BY_HASH: u8 = 0;
const BY_SCORE: u8 = 1;
const END: u8 = 2;
/// Bytes of a place before the member.
const HEAD: usize = 1 + size_of::<u64>();

/// Elements read beyond those that are needed: a queue is taken off one by one.
const AHEAD: usize = 64;
/// Members that somebody asked for in vain; when there are more, all of them are forgotten.
const MISSED_MOST: usize = 4096;
/// Intervals that are covered; when there are more, none is known any more.
const COVERED_MOST: usize = 1024;

#[derive(Clone)]
pub struct PagedSet {
    version: u64,
    table: Table,
    /// Members of the set, wherever they are.
    len: usize,
    /// Members that differ from their rows, there or gone: with the score that the rows have, if there are any.
    changed: Dict<Field>,
    /// Those gone that the last flush has told the store of.
    told: Dict<Field>,
    /// Those that the store does not have: somebody asked.
    missed: Dict<Field>,
    /// Places by score.
    covered: Intervals<Vec<u8>>,
    /// Every member with one of these hashes is in memory.
    window: Window,
    chance: Chance,
    /// The rank from which on clean members are dropped next.
    hand: usize,
    state: u64,
}

/// A score as a number whose order is that of scores. 0 and -0 are the same.
fn key_of(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn score_of_key(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

fn place(first: u8, number: u64, member: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(HEAD + member.len());
    place.push(first);
    place.extend_from_slice(&number.to_be_bytes());
    place.extend_from_slice(member);
    place
}

fn place_by_score(score: f64, member: &[u8]) -> Vec<u8> {
    place(BY_SCORE, key_of(score), member)
}

/// True for the place of a row by hash.
pub fn is_member_place(place: &[u8]) -> bool {
    place.first() == Some(&BY_HASH)
}

/// The member that a row is of.
pub fn name_of(place: &[u8]) -> &[u8] {
    place.get(HEAD..).unwrap_or_default()
}

/// The places between which the rows by score are.
pub fn ordered_places() -> (Vec<u8>, Option<Vec<u8>>) {
    (vec![BY_SCORE], Some(vec![END]))
}

/// The number in front of the member.
fn number_in(place: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*place.get(1..)?.first_chunk()?))
}

fn score_in(value: &[u8]) -> Option<f64> {
    let score = f64::from_le_bytes(value.try_into().ok()?);
    (!score.is_nan()).then_some(score)
}

/// The cut in front of what has this place by score, or a later one.
fn cut_at(place: &[u8]) -> Cut<'_> {
    match number_in(place) {
        Some(key) => Cut::Element(score_of_key(key), name_of(place)),
        None if place == [BY_SCORE] => Cut::Start,
        None => Cut::End,
    }
}

/// The place of a cut; of one in front of or behind a member, where all scores are `score`.
fn place_at(cut: &Cut<'_>, score: f64) -> Vec<u8> {
    match *cut {
        Cut::Start => vec![BY_SCORE],
        Cut::End | Cut::Score(f64::INFINITY, Side::Behind) => vec![END],
        Cut::Score(score, Side::Before) => place(BY_SCORE, key_of(score), b""),
        Cut::Score(score, Side::Behind) => place(BY_SCORE, key_of(score) + 1, b""),
        Cut::Member(member, Side::Before) => place_by_score(score, member),
        Cut::Member(member, Side::Behind) => behind(place_by_score(score, member)),
        Cut::Element(score, member) => place_by_score(score, member),
    }
}

/// The least place behind one.
fn behind(mut place: Vec<u8>) -> Vec<u8> {
    place.push(0);
    place
}

impl PagedSet {
    /// A set whose members are all in memory; its caller writes their rows (`each`).
    pub fn of_table(table: Table, version: u64) -> PagedSet {
        let mut set = PagedSet::new(table, version);
        set.len = set.table.len();
        set.cover_if_whole();
        set
    }

    /// A set none of whose members are in memory.
    pub fn of_summary(summary: &Summary) -> PagedSet {
        let mut set = PagedSet::new(Table::new(summary.origin), summary.version);
        set.len = summary.len as usize;
        set
    }

    fn new(table: Table, version: u64) -> PagedSet {
        let none = || Dict::new(table.seed());
        PagedSet {
            version,
            len: 0,
            changed: none(),
            told: none(),
            missed: none(),
            covered: Intervals::default(),
            window: Window::default(),
            chance: Chance::default(),
            hand: 0,
            state: next_state(),
            table,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heap bytes in use, its own place not counted.
    pub fn bytes(&self) -> usize {
        let aside = [&self.changed, &self.told, &self.missed];
        self.table.bytes() + aside.iter().map(|dict| dict.bytes()).sum::<usize>() + self.covered.bytes()
    }

    // ---- What commands do ---------------------------------------------------------------------------------------

    pub fn prefetch(&self, members: &[&[u8]]) {
        self.table.prefetch(members);
    }

    /// True when a member's score, or that it has none, is known here.
    pub fn knows(&self, member: &[u8]) -> bool {
        let tables = [&self.changed, &self.told, &self.missed];
        self.is_whole()
            || self.table.score(member).is_some()
            || tables.iter().any(|dict| dict.contains(member))
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        let score = self.table.score(member);
        assert!(
            score.is_some() || self.knows(member),
            "a member is brought in before it is asked for"
        );
        score
    }

    /// The rank in the whole set.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        self.score(member)?;
        let (rank, score) = self.table.rank(member)?;
        let rank = match rank {
            rank if rank < self.front() => rank,
            rank => {
                assert!(
                    self.is_at_back(rank),
                    "members are brought in before they are counted"
                );
                rank + self.missing()
            }
        };
        Some((rank, score))
    }

    /// True when a member that is in memory has a rank in the whole set that is known.
    pub fn knows_rank(&self, member: &[u8]) -> bool {
        let rank = self.table.rank(member);
        rank.is_none_or(|(rank, _)| rank < self.front() || self.is_at_back(rank))
    }

    /// The ranks that elements have here which have these in the whole set.
    pub fn ranks_of(&self, indexes: Range<usize>) -> Range<usize> {
        let missing = self.missing();
        if missing == 0 || indexes.is_empty() || indexes.end <= self.front() {
            return indexes;
        }
        let first = indexes.start.checked_sub(missing);
        let first = first.filter(|first| self.is_at_back(*first));
        // proof: `lacking` has brought in what is between these indexes and one of both ends.
        let first = first.expect("elements are brought in before they are counted off");
        first..first + indexes.len()
    }

    fn missing(&self) -> usize {
        self.len - self.table.len()
    }

    /// So many elements are known to be the first ones.
    fn front(&self) -> usize {
        let covered = self.covered.around(vec![BY_SCORE]);
        covered.map_or(0, |(_, end)| self.table.position(&cut_at(&end)))
    }

    /// Everything from this rank on is in memory.
    fn is_at_back(&self, rank: usize) -> bool {
        let covered = self.covered.up_to(&vec![END]);
        covered.is_some_and(|(start, _)| rank >= self.table.position(&cut_at(&start)))
    }

    pub fn position(&self, cut: &Cut<'_>) -> usize {
        self.table.position(cut)
    }

    pub fn visit(&self, ranks: Range<usize>, reverse: bool, visit: impl FnMut(&[u8], f64)) {
        self.expect_run(&ranks);
        self.table.visit(ranks, reverse, visit);
    }

    /// No element is missing between those of some ranks.
    fn expect_run(&self, ranks: &Range<usize>) {
        let end = ranks.end.min(self.table.len());
        if ranks.start >= end || self.is_whole() {
            return;
        }
        let place = |rank: usize| {
            let mut place = Vec::new();
            self.table.visit(rank..rank + 1, false, |member, score| {
                place = place_by_score(score, member)
            });
            place
        };
        let covered = self.covered.around(place(ranks.start));
        assert!(
            covered.is_some_and(|(_, until)| place(end - 1) < until),
            "elements are brought in before they are walked over"
        );
    }

    pub fn scan(&self, cursor: u64, count: usize, visit: &mut impl FnMut(&[u8], f64)) -> u64 {
        let window = if self.is_whole() { Window::ALL } else { self.window };
        window::scan(window, cursor, |end| {
            self.table.scan(cursor, count, &mut |member, score| {
                if end == 0 || self.table.hash(member) < end {
                    visit(member, score);
                }
            })
        })
    }

    /// Visits about so many members with hashes in [from, to), and counts them. 0 is behind the last one.
    fn visit_between<'a>(
        &'a self,
        from: u64,
        to: u64,
        most: usize,
        mut visit: impl FnMut(&'a [u8], f64),
    ) -> usize {
        let mut seen = 0;
        self.table.scan(from, most, &mut |member, score| {
            if to == 0 || self.table.hash(member) < to {
                seen += 1;
                visit(member, score);
            }
        });
        seen
    }

    /// Members by chance, of which `count` are to be chosen; none where all are in memory, and all may be.
    pub fn pool(&self, count: usize) -> Option<Vec<(&[u8], f64)>> {
        if self.is_whole() {
            return None;
        }
        let mut pool = Vec::new();
        self.chance.pool(count, self.window, |from, to, most| {
            self.visit_between(from, to, most, |member, score| pool.push((member, score)))
        });
        assert!(
            pool.len() > count,
            "elements are brought in before they are drawn"
        );
        Some(pool)
    }

    pub fn update(&mut self, member: &[u8], decide: impl FnOnce(Option<f64>) -> Option<f64>) -> Update {
        let stored = self.score(member);
        let update = self.table.update(member, decide);
        if update == Update::Added {
            self.len += 1;
            self.told.remove(member);
            self.missed.remove(member);
        }
        if update != Update::Kept {
            note(&mut self.changed, member, stored);
        }
        update
    }

    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        self.score(member)?;
        let score = self.table.remove(member)?;
        note(&mut self.changed, member, Some(score));
        self.len -= 1;
        Some(score)
    }

    pub fn remove_ranks(&mut self, ranks: Range<usize>, mut taken: impl FnMut(&[u8], f64)) {
        self.expect_run(&ranks);
        let changed = &mut self.changed;
        let before = self.table.len();
        self.table.remove_ranks(ranks, |member, score| {
            note(changed, member, Some(score));
            taken(member, score);
        });
        self.len -= before - self.table.len();
    }

    /// The members as a table of nothing else: they are in memory.
    pub fn into_table(self) -> Table {
        assert!(
            self.is_whole(),
            "all elements are brought in before they are taken"
        );
        self.table
    }

    // ---- What is lacking ----------------------------------------------------------------------------------------

    /// What a walk from one cut to another looks at, which takes so many elements.
    pub fn between(&self, (from, to): (&Cut<'_>, &Cut<'_>), most: usize, order: Order) -> Wanted<'static> {
        let mut score = 0.0;
        if from.needs_members() || to.needs_members() {
            // Where scores are not the same, what is between two members depends on all of them.
            let mut ends = [None, None];
            if self.front() > 0 && self.is_at_back(self.table.len() - 1) {
                for (rank, end) in [0, self.table.len() - 1].into_iter().zip(&mut ends) {
                    self.table
                        .visit(rank..rank + 1, false, |_, score| *end = Some(score));
                }
            }
            score = match ends {
                [Some(first), Some(last)] if first == last => first,
                [Some(_), Some(_)] => return Wanted::All,
                _ => return Wanted::Ends { front: 1, back: 1 },
            };
        }
        Wanted::Run(Span {
            from: place_at(from, score),
            to: Some(place_at(to, score)),
            most,
            order,
        })
    }

    /// Of a walk along places by score, what is not in memory.
    fn lacking_run(&self, from: Vec<u8>, to: Vec<u8>, most: usize, order: Order) -> Option<Span> {
        if from >= to || most == 0 {
            return None;
        }
        let count = |from: &[u8], to: &[u8]| {
            let end = self.table.position(&cut_at(to));
            end - self.table.position(&cut_at(from)).min(end)
        };
        let (from, to, have) = match order {
            Order::Up => {
                let known = self.covered.around(from.clone());
                let known = known.map_or(from.clone(), |(_, end)| end);
                let have = count(&from, &known);
                (known, to, have)
            }
            Order::Down => {
                let known = self.covered.up_to(&to);
                let known = known.map_or(to.clone(), |(start, _)| start);
                let have = count(&known, &to);
                (from, known, have)
            }
        };
        (from < to && have < most).then(|| Span {
            from,
            to: Some(to),
            most: (most - have).saturating_add(AHEAD),
            order,
        })
    }

    fn lacking_front(&self, most: usize) -> Option<Span> {
        self.lacking_run(vec![BY_SCORE], vec![END], most, Order::Up)
    }

    fn lacking_back(&self, most: usize) -> Option<Span> {
        self.lacking_run(vec![BY_SCORE], vec![END], most, Order::Down)
    }

    /// From the nearer end on.
    fn lacking_indexes(&self, from: i64, to: i64) -> Option<Span> {
        let len = i64::try_from(self.len).unwrap_or(i64::MAX);
        let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
        let (start, end) = (from_end(from).max(0), from_end(to).saturating_add(1).min(len));
        if start >= end {
            None
        } else if end <= len - start {
            self.lacking_front(end as usize)
        } else {
            self.lacking_back((len - start) as usize)
        }
    }

    fn lacking_spans(&self, wanted: &Wanted<'_>) -> Vec<Span> {
        let run = |from, to: Option<Vec<u8>>, most, order| {
            self.lacking_run(from, to.unwrap_or_else(|| vec![END]), most, order)
        };
        match wanted {
            Wanted::Run(span) => run(span.from.clone(), span.to.clone(), span.most, span.order)
                .into_iter()
                .collect(),
            Wanted::Ends { front, back } => {
                let ends = [self.lacking_front(*front), self.lacking_back(*back)];
                ends.into_iter().flatten().collect()
            }
            Wanted::Indexes(from, to) => self.lacking_indexes(*from, *to).into_iter().collect(),
            Wanted::Scan(cursor, most) if self.window.known_from(*cursor).is_none() => {
                vec![span_by_hash(*cursor, *most)]
            }
            Wanted::Drawn(count) => {
                let step = |from, to, most| self.visit_between(from, to, most, |_, _| ());
                match self.chance.lacking((*count, self.len), self.window, step) {
                    window::Lacking::Nothing => Vec::new(),
                    window::Lacking::From(hash, most) => vec![span_by_hash(hash, most)],
                    window::Lacking::All => self.lacking_spans(&Wanted::All),
                }
            }
            Wanted::All => {
                let gaps = self.covered.gaps(vec![BY_SCORE], vec![END]);
                let span = |(from, to)| Span {
                    from,
                    to: Some(to),
                    most: usize::MAX,
                    order: Order::Up,
                };
                gaps.into_iter().map(span).collect()
            }
            _ => Vec::new(),
        }
    }

    // ---- What comes from the store ------------------------------------------------------------------------------

    fn bring_in_one(&mut self, member: &[u8], score: Option<f64>) {
        let known = [&self.changed, &self.told];
        if self.table.score(member).is_some() || known.iter().any(|dict| dict.contains(member)) {
            return;
        }
        match score {
            Some(score) => self.table.add(member, score),
            None => {
                self.missed.add(member, || Field::member(member));
            }
        }
    }

    fn bring_in_span(&mut self, span: &Span, rows: &Rows) {
        for (place, value) in rows.iter() {
            if let Some(score) = score_in(value) {
                self.bring_in_one(name_of(place), Some(score));
            }
        }
        if is_member_place(&span.from) {
            let end = span.to.as_deref().filter(|to| is_member_place(to));
            let hash = |place| number_in(place).unwrap_or(0);
            self.window.add(hash(&span.from), end.map_or(0, hash));
            return;
        }
        if self.covered.count() >= COVERED_MOST {
            self.covered.clear();
        }
        let to = span.to.clone().unwrap_or_else(|| vec![END]);
        self.covered.add(span.from.clone(), to);
    }

    fn cover_if_whole(&mut self) {
        if self.is_whole() {
            self.covered.add(vec![BY_SCORE], vec![END]);
        }
    }
}

/// So many rows by hash from a hash on.
fn span_by_hash(hash: u64, most: usize) -> Span {
    Span {
        from: place(BY_HASH, hash, b""),
        to: Some(vec![BY_SCORE]),
        most,
        order: Order::Up,
    }
}

/// Notes that a member differs from its rows, unless it does already.
fn note(changed: &mut Dict<Field>, member: &[u8], stored: Option<f64>) {
    changed.add(member, || match stored {
        Some(score) => Field::new(member, &score.to_le_bytes(), None),
        None => Field::member(member),
    });
}

impl Pages for PagedSet {
    fn summary(&self) -> Summary {
        Summary {
            kind: Kind::SortedSet,
            version: self.version,
            origin: self.table.seed(),
            len: self.len as u64,
            facts: Vec::new(),
        }
    }

    fn state(&self) -> u64 {
        self.state
    }

    fn is_whole(&self) -> bool {
        self.table.len() == self.len
    }

    fn clean_len(&self) -> usize {
        self.table.len().saturating_sub(self.changed.len())
    }

    fn element_size(&self) -> usize {
        self.table.bytes() / self.table.len().max(1)
    }

    fn lacking(&self, wanted: &Wanted<'_>) -> Option<Lacking> {
        if self.is_whole() {
            return None;
        }
        if let Wanted::Elements(words, step) = *wanted {
            let missing = words.iter().step_by(step).filter(|member| !self.knows(member));
            let place = |member: &&[u8]| place(BY_HASH, hash_of(self.table.seed(), member), member);
            let missing: Vec<_> = missing.map(place).collect();
            return (!missing.is_empty()).then_some(Lacking::Rows(missing));
        }
        let spans = self.lacking_spans(wanted);
        (!spans.is_empty()).then_some(Lacking::Spans(spans))
    }

    fn bring_in(&mut self, found: Found, shed: usize) {
        if shed > 0 {
            self.shed(shed);
        }
        match found {
            Found::Rows(rows) => {
                if self.missed.len() > MISSED_MOST {
                    self.missed = Dict::new(self.table.seed());
                    self.state = next_state();
                }
                for (place, value) in rows {
                    self.bring_in_one(name_of(&place), value.as_deref().and_then(score_in));
                }
            }
            Found::Spans(spans) => spans
                .iter()
                .for_each(|(span, rows)| self.bring_in_span(span, rows)),
            Found::Table(_) => {}
        }
        self.cover_if_whole();
    }

    /// In the order of scores, round and round.
    fn shed(&mut self, most: usize) {
        if self.hand >= self.table.len() {
            self.hand = 0;
        }
        let ranks = self.hand..self.hand.saturating_add(most).min(self.table.len());
        let (mut going, mut run) = (Vec::new(), None);
        self.table.visit(ranks.clone(), false, |member, score| {
            if !self.changed.contains(member) {
                going.push(member.to_vec());
            }
            let place = place_by_score(score, member);
            let from = run.take().map_or_else(|| place.clone(), |(from, _)| from);
            run = Some((from, place));
        });
        self.hand = ranks.end - going.len();
        let Some((from, last)) = run.filter(|_| !going.is_empty()) else {
            return;
        };
        self.covered.remove(from, behind(last));
        for member in &going {
            self.table.remove(member);
        }
        self.window = Window::default();
        self.state = next_state();
    }

    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        assert!(
            self.is_whole(),
            "all elements are brought in before they are visited"
        );
        self.table.visit(0..self.len, false, |member, score| {
            let value = score.to_le_bytes();
            visit(&place(BY_HASH, self.table.hash(member), member), &value);
            visit(&place_by_score(score, member), &value);
        });
    }

    fn each_change(&self, visit: &mut VisitChange<'_>) {
        for item in self.changed.iter() {
            let member = item.key();
            let by_score = |score| place_by_score(score, member);
            let score = self.table.score(member);
            let value = score.map(f64::to_le_bytes);
            let new = score.map(by_score);
            let old = score_in(item.value())
                .map(by_score)
                .filter(|old| Some(old) != new.as_ref());
            visit(
                &place(BY_HASH, self.table.hash(member), member),
                value.as_ref().map(<[u8; 8]>::as_slice),
            );
            if let Some(old) = old {
                visit(&old, None);
            }
            if let (Some(new), Some(value)) = (new, value) {
                visit(&new, Some(&value));
            }
        }
    }

    fn settle_changes(&mut self) {
        if !self.told.is_empty() {
            self.told = Dict::new(self.table.seed());
            self.state = next_state();
        }
        let changed = std::mem::replace(&mut self.changed, Dict::new(self.table.seed()));
        for item in changed
            .iter()
            .filter(|item| self.table.score(item.key()).is_none())
        {
            self.told.add(item.key(), || Field::member(item.key()));
        }
    }
}

#[cfg(test)]
mod tests;
