//! A hash or set that need not fit memory: what is known of it as a whole, and those of its elements that are in use.
//!
//! ```text
//! in memory      version, count; a table of elements, and one of those that are known to be gone
//! in the store   one row for the collection (`Summary`), one row for each element, in the order of their hashes
//! ```
//!
//! | in memory | in the store |
//! |---|---|
//! | an element, clean | an equal row |
//! | an element, dirty | an older row or none |
//! | gone, dirty | perhaps a row still |
//! | gone | none, or it is just being told so |
//! | gone, missed | none: somebody asked for it |
//!
//! Guarantees, besides those of `pages`:
//! * What is in neither table is as the store says, or absent if the elements are all in memory (`whole`).
//! * A table's order of hashes is that of the rows, and stays the same through restarts: a scan's cursor is a hash.
//!
//! Elements have no expiry here: a hash whose fields expire is kept whole.

use super::dict::{Dict, DictItem, Field, Seeded};
use super::pages::{
    Found, Kind, Lacking, Order, Pages, Rows, Span, Summary, VisitChange, Wanted, next_state,
};
use super::window::{self, Chance, Window};

/// Marks of elements in the table.
const DIRTY: u8 = 1;
const MISSED: u8 = 1 << 1;

/// Elements that somebody asked for in vain; when there are more, all of them are forgotten.
const MISSED_MOST: usize = 4096;

#[derive(Clone)]
pub struct Paged {
    kind: Kind,
    version: u64,
    table: Dict<Field>,
    /// Without values.
    gone: Dict<Field>,
    /// Elements of the collection, wherever they are.
    len: usize,
    /// Every element is in memory.
    whole: bool,
    /// Hashes of what is dirty, here or gone.
    changed: Vec<u64>,
    /// Hashes of those gone that the last flush has told the store of.
    told: Vec<u64>,
    missed: Vec<u64>,
    /// Every element with one of these hashes is in memory.
    covered: Window,
    chance: Chance,
    state: u64,
    /// The hash at which clean elements are dropped next.
    hand: u64,
}

/// Bytes of a place before the element.
const HASH_LEN: usize = size_of::<u64>();

/// The element itself, behind its hash.
pub fn name_of(place: &[u8]) -> &[u8] {
    place.get(HASH_LEN..).unwrap_or_default()
}

/// An element as its row has it.
pub fn element_of(kind: Kind, place: &[u8], value: &[u8]) -> Field {
    new_element(kind, name_of(place), value)
}

fn new_element(kind: Kind, element: &[u8], value: &[u8]) -> Field {
    if kind == Kind::Hash {
        Field::new(element, value, None)
    } else {
        Field::member(element)
    }
}

/// Where the row of an element is.
pub fn place_of(seed: u64, element: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(HASH_LEN + element.len());
    set_place(&mut place, hash_of(seed, element), element);
    place
}

fn set_place(place: &mut Vec<u8>, hash: u64, element: &[u8]) {
    place.clear();
    place.extend_from_slice(&hash.to_be_bytes());
    place.extend_from_slice(element);
}

impl Paged {
    /// A collection whose elements are all in memory; its caller writes a row for each (`each`).
    pub fn of_table(kind: Kind, mut table: Dict<Field>, version: u64) -> Paged {
        table.iter_mut().for_each(|item| item.set_marks(0));
        Paged {
            whole: true,
            len: table.len(),
            ..Paged::with_table(kind, table, version)
        }
    }

    /// A collection none of whose elements are in memory.
    pub fn of_summary(summary: &Summary) -> Paged {
        Paged {
            len: summary.len as usize,
            ..Paged::with_table(summary.kind, Dict::new(summary.origin), summary.version)
        }
    }

    fn with_table(kind: Kind, table: Dict<Field>, version: u64) -> Paged {
        Paged {
            kind,
            version,
            gone: Dict::new(table.seed()),
            table,
            len: 0,
            whole: false,
            changed: Vec::new(),
            told: Vec::new(),
            missed: Vec::new(),
            covered: Window::default(),
            chance: Chance::default(),
            state: next_state(),
            hand: 0,
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
        let lists = self.changed.capacity() + self.told.capacity() + self.missed.capacity();
        self.table.bytes() + self.gone.bytes() + lists * size_of::<u64>()
    }

    // ---- What commands do ---------------------------------------------------------------------------------------

    pub fn prefetch(&self, elements: &[&[u8]]) {
        self.table.prefetch(elements);
    }

    pub fn get(&self, element: &[u8]) -> Option<&Field> {
        let found = self.table.get(element);
        assert!(
            found.is_some() || self.whole || self.gone.contains(element),
            "an element is brought in before it is asked for"
        );
        found
    }

    /// Sets an element; true if it is new. In a set the value is empty.
    pub fn set(&mut self, element: &[u8], value: &[u8]) -> bool {
        let kind = self.kind;
        let known = self.table.change(element, |item| {
            let marks = item.marks();
            if kind == Kind::Hash {
                item.set_value(value);
            }
            item.set_marks(DIRTY);
            marks
        });
        let marks = known.unwrap_or_else(|| {
            let gone = self.gone.remove(element);
            assert!(
                gone.is_some() || self.whole,
                "an element is brought in before it is set"
            );
            let mut item = new_element(kind, element, value);
            item.set_marks(DIRTY);
            self.table.insert(item);
            self.len += 1;
            gone.map_or(0, |gone| gone.marks())
        });
        self.note_change(element, marks);
        known.is_none()
    }

    /// Adds a member of a set; false when it was there, and then nothing has changed.
    pub fn add(&mut self, member: &[u8]) -> bool {
        self.get(member).is_none() && self.set(member, b"")
    }

    /// True if the element was there.
    pub fn remove(&mut self, element: &[u8]) -> bool {
        if self.get(element).is_none() {
            return false;
        }
        let marks = self.table.remove(element).map_or(0, |item| item.marks());
        let mut gone = Field::member(element);
        gone.set_marks(DIRTY);
        self.gone.insert(gone);
        self.note_change(element, marks);
        self.len -= 1;
        true
    }

    fn note_change(&mut self, element: &[u8], before: u8) {
        if before & DIRTY == 0 {
            self.changed.push(self.table.hash(element));
        }
    }

    /// All elements, as a table: they are in memory.
    pub fn all(&self) -> &Dict<Field> {
        assert!(self.whole, "all elements are brought in before they are visited");
        &self.table
    }

    /// Visits elements in the order of their hashes, from `cursor` on (0 begins), about `count` of them. Returns the
    /// cursor to go on with; 0 when all have been seen.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(&'a Field)) -> u64 {
        let covered = if self.whole { Window::ALL } else { self.covered };
        window::scan(covered, cursor, |end| {
            self.table.scan(cursor, count, |item| {
                if end == 0 || self.table.hash(item.key()) < end {
                    visit(item);
                }
            })
        })
    }

    /// The elements as a table of nothing else: they are in memory.
    pub fn into_table(mut self) -> Dict<Field> {
        assert!(self.whole, "all elements are brought in before they are taken");
        self.table.iter_mut().for_each(|item| item.set_marks(0));
        self.table
    }

    /// True when nothing is known of this element but by the store.
    pub fn lacks(&self, element: &[u8]) -> bool {
        !self.whole && !self.table.contains(element) && !self.gone.contains(element)
    }

    /// True when some element with a hash from `cursor` on may be missing, and the next ones are.
    pub fn lacks_window(&self, cursor: u64) -> bool {
        !self.whole && self.covered.known_from(cursor).is_none()
    }

    fn lacking_drawn(&self, count: usize) -> Option<Lacking> {
        if self.whole {
            return None;
        }
        let step = |from, to, most| self.visit_between(from, to, most, |_| ());
        match self.chance.lacking((count, self.len), self.covered, step) {
            window::Lacking::Nothing => None,
            window::Lacking::From(hash, most) => Some(Lacking::Spans(vec![span_from(hash, most)])),
            window::Lacking::All => Some(Lacking::Table),
        }
    }

    /// Visits about so many elements with hashes in [from, to), and counts them. 0 is behind the last one.
    fn visit_between<'a>(
        &'a self,
        from: u64,
        to: u64,
        most: usize,
        mut visit: impl FnMut(&'a Field),
    ) -> usize {
        let mut seen = 0;
        self.table.scan(from, most, |item| {
            if to == 0 || self.table.hash(item.key()) < to {
                seen += 1;
                visit(item);
            }
        });
        seen
    }

    /// Elements by chance, of which `count` are to be chosen; none where all are in memory, and all may be.
    pub fn pool(&self, count: usize) -> Option<Vec<&Field>> {
        if self.whole {
            return None;
        }
        let mut pool = Vec::new();
        self.chance.pool(count, self.covered, |from, to, most| {
            self.visit_between(from, to, most, |item| pool.push(item))
        });
        assert!(
            pool.len() > count,
            "elements are brought in before they are drawn"
        );
        Some(pool)
    }

    fn bring_in_window(&mut self, span: &Span, rows: &Rows) {
        for (place, value) in rows.iter() {
            self.bring_in_one(place, Some(value));
        }
        let hash = |place: &[u8]| place.first_chunk().map_or(0, |hash| u64::from_be_bytes(*hash));
        self.covered
            .add(hash(&span.from), span.to.as_deref().map_or(0, hash));
    }

    fn bring_in_all(&mut self, mut all: Dict<Field>) {
        // What is in memory is newer, and mostly less.
        let known: Vec<Vec<u8>> = self.table.iter().map(|item| item.key().to_vec()).collect();
        for element in known {
            if let Some(item) = self.table.remove(&element) {
                all.replace(item);
            }
        }
        self.gone.iter().for_each(|gone| drop(all.remove(gone.key())));
        self.table = all;
        self.forget_missed();
        self.covered = Window::default();
        self.whole = true;
    }

    fn bring_in_one(&mut self, place: &[u8], value: Option<&[u8]>) {
        let element = name_of(place);
        if self.table.contains(element) || self.gone.contains(element) {
            return;
        }
        match value {
            Some(value) => self.table.insert(new_element(self.kind, element, value)),
            None => {
                let mut missed = Field::member(element);
                missed.set_marks(MISSED);
                self.missed.push(self.table.hash(element));
                self.gone.insert(missed);
            }
        }
    }

    fn forget_missed(&mut self) {
        for hash in std::mem::take(&mut self.missed) {
            self.forget_gone(hash, MISSED);
        }
        self.state = next_state();
    }

    /// Forgets what is gone, of this hash and with just these marks.
    fn forget_gone(&mut self, hash: u64, marks: u8) {
        let like = self.gone.like(hash).filter(|item| item.marks() == marks);
        let elements: Vec<Vec<u8>> = like.map(|item| item.key().to_vec()).collect();
        elements
            .iter()
            .for_each(|element| drop(self.gone.remove(element)));
    }
}

impl Pages for Paged {
    fn summary(&self) -> Summary {
        Summary {
            kind: self.kind,
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
        self.whole
    }

    fn clean_len(&self) -> usize {
        self.table.len().saturating_sub(self.changed.len())
    }

    fn element_size(&self) -> usize {
        self.table.bytes() / self.table.len().max(1)
    }

    fn lacking(&self, wanted: &Wanted<'_>) -> Option<Lacking> {
        match *wanted {
            Wanted::Elements(words, step) => {
                let named = words.iter().step_by(step);
                let missing: Vec<Vec<u8>> = named
                    .filter(|element| self.lacks(element))
                    .map(|element| place_of(self.table.seed(), element))
                    .collect();
                (!missing.is_empty()).then_some(Lacking::Rows(missing))
            }
            Wanted::Scan(cursor, most) => self
                .lacks_window(cursor)
                .then(|| Lacking::Spans(vec![span_from(cursor, most)])),
            Wanted::Drawn(count) => self.lacking_drawn(count),
            Wanted::All => (!self.whole).then_some(Lacking::Table),
            _ => None,
        }
    }

    fn bring_in(&mut self, found: Found, shed: usize) {
        if shed > 0 {
            self.shed(shed);
        }
        match found {
            Found::Rows(rows) => {
                if self.missed.len() > MISSED_MOST {
                    self.forget_missed();
                }
                for (place, value) in rows {
                    self.bring_in_one(&place, value.as_deref());
                }
            }
            Found::Spans(spans) => spans
                .iter()
                .for_each(|(span, rows)| self.bring_in_window(span, rows)),
            Found::Table(all) => self.bring_in_all(all),
        }
    }

    fn shed(&mut self, most: usize) {
        let mut clean: Vec<Vec<u8>> = Vec::new();
        self.hand = self.table.scan(self.hand, most, |item| {
            if item.marks() & DIRTY == 0 {
                clean.push(item.key().to_vec());
            }
        });
        if clean.is_empty() {
            return;
        }
        clean.iter().for_each(|element| drop(self.table.remove(element)));
        self.whole = false;
        self.covered = Window::default();
        self.state = next_state();
    }

    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        let mut place = Vec::new();
        for item in self.all().iter() {
            set_place(&mut place, self.table.hash(item.key()), item.key());
            visit(&place, item.value());
        }
    }

    fn each_change(&self, visit: &mut VisitChange<'_>) {
        let mut hashes = self.changed.clone();
        hashes.sort_unstable();
        // Two elements may have one hash; each is to come once.
        hashes.dedup();
        let mut place = Vec::new();
        for hash in hashes {
            let changed = |item: &&Field| item.marks() & DIRTY != 0 && self.table.hash(item.key()) == hash;
            for item in self.table.like(hash).filter(changed) {
                set_place(&mut place, hash, item.key());
                visit(&place, Some(item.value()));
            }
            for item in self.gone.like(hash).filter(changed) {
                set_place(&mut place, hash, item.key());
                visit(&place, None);
            }
        }
    }

    fn settle_changes(&mut self) {
        if !self.told.is_empty() {
            for hash in std::mem::take(&mut self.told) {
                self.forget_gone(hash, 0);
            }
            self.state = next_state();
        }
        let hasher = Seeded::new(self.table.seed());
        for hash in std::mem::take(&mut self.changed) {
            // Whatever is alike is among those changed, too.
            self.table.like_mut(hash).for_each(|item| item.set_marks(0));
            let told = |item: &&mut Field| item.marks() == DIRTY && hasher.hash(item.key()) == hash;
            for item in self.gone.like_mut(hash).filter(told) {
                item.set_marks(0);
                self.told.push(hash);
            }
        }
    }
}

/// So many elements from a hash on.
fn span_from(hash: u64, most: usize) -> Span {
    Span {
        from: hash.to_be_bytes().to_vec(),
        to: None,
        most,
        order: Order::Up,
    }
}

/// The hash that orders an element's row.
pub fn hash_of(seed: u64, element: &[u8]) -> u64 {
    Seeded::new(seed).hash(element)
}

#[cfg(test)]
mod tests {
    use super::super::pages::testing::{Store, flush, want};
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_order_of_rows_on_disk_stays_what_it_is() {
        // Rows of every store that was ever written are found by these: who changes the hash loses them.
        assert_eq!(hash_of(0, b""), 0xcfbc_9eae_bd51_464b);
        assert_eq!(hash_of(7, b"field"), 0x3906_6785_7b61_6370);
        assert_eq!(hash_of(u64::MAX, &[b'x'; 100]), 0xfa7d_ea4f_6d6d_11e9);
        assert_eq!(hash_of(1, &[b'y'; 400]), 0x0aad_0cf9_6082_5d1a);
    }

    #[test]
    fn is_the_same_whatever_is_in_memory() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut model: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
            let mut rows = Store::new();
            let mut paged = Paged::of_table(Kind::Hash, Dict::new(9), 1);
            for step in 0..4_000 {
                let element = rng.u32(..300).to_string().into_bytes();
                want(&rows, &mut paged, &Wanted::Elements(&[&element], 1));
                match rng.u32(..100) {
                    0..30 => {
                        let value = vec![b'v'; rng.usize(..20)];
                        let is_new = paged.set(&element, &value);
                        assert_eq!(is_new, model.insert(element, value).is_none(), "{step}");
                    }
                    30..55 => assert_eq!(paged.remove(&element), model.remove(&element).is_some(), "{step}"),
                    55..90 => {
                        let value = paged.get(&element).map(|item| item.value().to_vec());
                        assert_eq!(value.as_ref(), model.get(&element), "{step}");
                    }
                    90..94 => flush(&mut rows, &mut paged),
                    94..97 => paged.shed(rng.usize(..200)),
                    97 => {
                        flush(&mut rows, &mut paged);
                        paged = Paged::of_summary(&paged.summary());
                    }
                    _ => {
                        want(&rows, &mut paged, &Wanted::All);
                        assert_eq!(paged.all().len(), model.len(), "{step}");
                    }
                }
                assert_eq!(paged.len(), model.len(), "{step}");
            }
        }
    }

    #[test]
    fn elements_by_chance_are_any_and_none_much_likelier_than_another() {
        const ELEMENTS: usize = 600;
        const DRAWS: usize = 60_000;
        let mut rows = Store::new();
        let mut paged = Paged::of_table(Kind::Set, Dict::new(3), 1);
        for number in 0..ELEMENTS {
            paged.set(number.to_string().as_bytes(), b"");
        }
        flush(&mut rows, &mut paged);
        paged = Paged::of_summary(&paged.summary());
        let mut rng = fastrand::Rng::with_seed(5);
        let mut times: HashMap<Vec<u8>, usize> = HashMap::new();
        for draw in 0..DRAWS {
            want(&rows, &mut paged, &Wanted::Drawn(1));
            let pool = paged.pool(1).expect("not all of it is in memory");
            let drawn = pool[rng.usize(..pool.len())].key().to_vec();
            *times.entry(drawn).or_default() += 1;
            if draw % 3 == 0 {
                paged.shed(ELEMENTS);
            }
        }
        let mean = DRAWS / ELEMENTS;
        assert_eq!(times.len(), ELEMENTS);
        assert!(times.values().all(|times| (mean / 3..mean * 3).contains(times)));
    }

    #[test]
    fn what_is_drawn_for_a_few_of_few_is_all() {
        let mut rows = Store::new();
        let mut paged = Paged::of_table(Kind::Set, Dict::new(3), 1);
        for number in 0..100 {
            paged.set(format!("{number}").as_bytes(), b"");
        }
        flush(&mut rows, &mut paged);
        paged = Paged::of_summary(&paged.summary());
        want(&rows, &mut paged, &Wanted::Drawn(1));
        assert!(paged.pool(1).is_none() && paged.is_whole());
    }

    #[test]
    fn a_scan_by_windows_meets_every_element_once() {
        let mut rows = Store::new();
        let mut paged = Paged::of_table(Kind::Hash, Dict::new(3), 1);
        for number in 0..1_000u32 {
            paged.set(number.to_string().as_bytes(), b"old");
        }
        flush(&mut rows, &mut paged);
        paged = Paged::of_summary(&paged.summary());
        for number in 0..200u32 {
            let element = number.to_string().into_bytes();
            want(&rows, &mut paged, &Wanted::Elements(&[&element], 1));
            match number % 2 {
                0 => assert!(paged.remove(&element)),
                _ => assert!(!paged.set(&element, b"new")),
            }
        }
        let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut cursor = 0;
        loop {
            want(&rows, &mut paged, &Wanted::Scan(cursor, 10));
            cursor = paged.scan(cursor, 10, |item| {
                *seen.entry(item.key().to_vec()).or_default() += 1;
            });
            if cursor == 0 {
                break;
            }
            paged.shed(50);
        }
        assert_eq!(seen.len(), 900);
        assert!(seen.values().all(|times| *times == 1));
    }
}
