//! Property tests of `Dict` against the standard map: contents, scans across growth and shrinkage, fairness.

use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// Hashes of which `u64::MAX >> keep` hides what tells keys apart: 0 leaves all bits, 60 leaves sixteen hashes.
#[derive(Clone)]
struct Poor(u32);

struct PoorHasher(u32, foldhash::quality::FoldHasher<'static>);

impl BuildHasher for Poor {
    type Hasher = PoorHasher;

    fn build_hasher(&self) -> PoorHasher {
        PoorHasher(self.0, foldhash::quality::FixedState::with_seed(1).build_hasher())
    }
}

impl Hasher for PoorHasher {
    fn finish(&self) -> u64 {
        self.1.finish() & !(u64::MAX.checked_shr(64 - self.0).unwrap_or(0))
    }

    fn write(&mut self, bytes: &[u8]) {
        self.1.write(bytes);
    }
}

fn key(number: u32) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

fn number(field: &Field) -> u32 {
    std::str::from_utf8(&field.key()[4..]).unwrap().parse().unwrap()
}

fn filled(count: u32) -> Dict<Field> {
    let mut dict = Dict::new(7);
    (0..count).for_each(|n| dict.insert(Field::member(&key(n))));
    dict
}

impl<T: DictItem, H: BuildHasher> Dict<T, H> {
    /// Every invariant that the types do not keep.
    fn check(&self) {
        assert_eq!(self.directory.len(), 1 << self.depth);
        assert_eq!(
            self.deepest,
            self.segments.iter().filter(|s| s.depth == self.depth).count()
        );
        assert_eq!(self.len, self.segments.iter().map(Segment::len).sum::<usize>());
        let slots: usize = self.segments.iter().map(Segment::heap_bytes).sum();
        assert_eq!(self.bytes, slots + self.iter().map(T::heap_bytes).sum::<usize>());
        let mut places = 0;
        for (number, segment) in self.segments.iter().enumerate() {
            let first = self.place(segment.prefix);
            let count = 1 << (self.depth - segment.depth);
            assert!(
                self.directory[first..first + count]
                    .iter()
                    .all(|&n| n as usize == number)
            );
            places += count;
            let hashes: Vec<u64> = segment.items().map(|item| self.hash(item.key())).collect();
            let tags: Vec<u16> = segment.items().map(DictItem::tag).collect();
            assert!(tags.is_sorted());
            for (hash, tag) in hashes.iter().zip(tags) {
                assert_eq!(self.segment(*hash), number);
                assert_eq!(segment::tag(*hash, segment.depth), tag);
            }
        }
        assert_eq!(places, self.directory.len());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, u32),
    Remove(u32, u32),
    Change(u32, usize),
    Replace(u32, usize),
    Scan(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0u32..3000;
    prop_oneof![
        6 => (number.clone(), 1u32..400).prop_map(|(n, count)| Step::Insert(n, count)),
        4 => (number.clone(), 1u32..700).prop_map(|(n, count)| Step::Remove(n, count)),
        1 => (number.clone(), 0usize..300).prop_map(|(n, len)| Step::Change(n, len)),
        1 => (number, 0usize..300).prop_map(|(n, len)| Step::Replace(n, len)),
        3 => (1usize..600).prop_map(Step::Scan),
    ]
}

/// A scan that goes on while the table changes: what was there all the time, and what has been met.
struct Scan {
    cursor: u64,
    stayed: HashSet<u32>,
    met: Vec<u32>,
}

fn run(hidden: u32, steps: Vec<Step>) {
    let mut dict: Dict<Field, Poor> = Dict::with_hasher(Poor(hidden));
    let mut model: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut scan: Option<Scan> = None;
    for step in steps {
        match step {
            Step::Insert(first, count) => (first..first + count).for_each(|n| {
                let fresh = !model.contains_key(&n);
                assert_eq!(dict.add(&key(n), || Field::new(&key(n), b"v", None)), fresh);
                model.entry(n).or_insert(b"v".to_vec());
            }),
            Step::Remove(first, count) => (first..first + count).for_each(|n| {
                let removed = dict.remove(&key(n)).map(|field| field.value().to_vec());
                assert_eq!(removed, model.remove(&n));
                if let Some(scan) = &mut scan {
                    scan.stayed.remove(&n);
                }
            }),
            Step::Change(n, len) => {
                let value = vec![b'c'; len];
                let done = dict.change(&key(n), |field| field.set_value(&value)).is_some();
                assert_eq!(done, model.contains_key(&n));
                model.entry(n).and_modify(|old| *old = value);
            }
            Step::Replace(n, len) => {
                let value = vec![b'r'; len];
                let old = dict.replace(Field::new(&key(n), &value, None));
                assert_eq!(old.map(|field| field.value().to_vec()), model.insert(n, value));
            }
            Step::Scan(count) => {
                let state = scan.get_or_insert_with(|| Scan {
                    cursor: 0,
                    stayed: model.keys().copied().collect(),
                    met: vec![],
                });
                state.cursor = dict.scan(state.cursor, count, |field| state.met.push(number(field)));
                if state.cursor == 0 {
                    let Scan { stayed, met, .. } = scan.take().unwrap();
                    let mut times: HashMap<u32, u32> = HashMap::new();
                    met.iter().for_each(|n| *times.entry(*n).or_default() += 1);
                    assert!(stayed.iter().all(|n| times.get(n) == Some(&1)));
                }
            }
        }
    }
    dict.check();
    let contents: HashMap<u32, Vec<u8>> = dict.iter().map(|f| (number(f), f.value().to_vec())).collect();
    assert_eq!(contents, model);
    assert_eq!(dict.len(), model.len());
    assert!((0..4000).all(|n| dict.get(&key(n)).map(|f| f.value()) == model.get(&n).map(|v| &v[..])));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn holds_what_a_map_holds(steps in proptest::collection::vec(step(), 1..60)) {
        run(0, steps);
    }

    #[test]
    fn colliding_hashes_do_no_harm(hidden in 50u32..=64, steps in proptest::collection::vec(step(), 1..25)) {
        run(hidden, steps);
    }

    #[test]
    fn any_number_is_a_cursor(cursor in any::<u64>(), count in 0usize..100) {
        let dict = filled(2000);
        let mut met = HashSet::new();
        let mut cursor = dict.scan(cursor, count, |field| assert!(met.insert(number(field))));
        while cursor != 0 {
            cursor = dict.scan(cursor, count, |field| assert!(met.insert(number(field))));
        }
    }
}

#[test]
fn an_item_costs_about_ten_bytes_at_every_size() {
    let mut dict = Dict::new(3);
    let (mut items, mut worst, mut sum, mut count) = (0, 0.0f64, 0.0, 0);
    for n in 0..300_000u32 {
        let field = Field::member(&n.to_le_bytes());
        items += field.heap_bytes();
        dict.insert(field);
        if n > 1000 && n % 97 == 0 {
            let bytes = (dict.bytes() - items) as f64 / f64::from(n + 1);
            (worst, sum, count) = (worst.max(bytes), sum + bytes, count + 1);
        }
    }
    let mean = sum / f64::from(count);
    assert!(
        worst < 13.0 && mean < 11.2,
        "at most {worst:.2}, {mean:.2} on average"
    );
    dict.check();
}

#[test]
fn memory_comes_back_when_items_go() {
    let mut dict = filled(50_000);
    let (full, mut rng) = (dict.bytes(), fastrand::Rng::with_seed(5));
    while dict.len() > 100 {
        dict.remove_random(&mut rng).unwrap();
    }
    dict.check();
    assert!(dict.bytes() < full / 100, "{} of {full}", dict.bytes());
    while dict.remove_random(&mut rng).is_some() {}
    assert!(dict.is_empty() && dict.random(&mut rng).is_none());
    dict.check();
}

/// A chi-squared test: with n - 1 degrees of freedom the sum is above n + 6 * sqrt(2n) practically never.
#[test]
fn every_item_is_drawn_equally_often() {
    for count in [1u32, 7, 40, 600, 3000] {
        let mut dict = filled(count + 900);
        (0..900).for_each(|n| drop(dict.remove(&key(n + count)).unwrap()));
        let mut rng = fastrand::Rng::with_seed(11);
        let mut drawn = vec![0u32; count as usize];
        let draws = count * 100;
        (0..draws).for_each(|_| drawn[number(dict.random(&mut rng).unwrap()) as usize] += 1);
        let sum: f64 = drawn
            .iter()
            .map(|&d| (f64::from(d) - 100.0).powi(2) / 100.0)
            .sum();
        let most = f64::from(count) + 6.0 * (2.0 * f64::from(count)).sqrt();
        assert!(sum < most, "{count} items: {sum} is above {most}");
    }
}

#[test]
fn equal_hashes_make_one_segment_long_and_the_directory_no_larger() {
    let mut dict: Dict<Field, Poor> = Dict::with_hasher(Poor(64));
    (0..5000).for_each(|n| dict.insert(Field::member(&key(n))));
    assert!(dict.directory.len() <= 128, "{}", dict.directory.len());
    assert!((0..5000).all(|n| dict.contains(&key(n))));
    let mut met = 0;
    dict.scan(0, 10, |_| met += 1);
    assert_eq!(met, 5000, "equal hashes come in one portion");
    assert!((0..5000).all(|n| dict.remove(&key(n)).is_some()));
    dict.check();
}
