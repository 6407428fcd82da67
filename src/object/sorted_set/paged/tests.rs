//! Against a plain map, whatever is in memory.

use super::super::SortedSet;
use super::*;
use crate::object::pages::testing::{Store, flush, want};
use crate::object::{Limits, Native};
use std::collections::BTreeMap;

fn limits() -> Limits {
    Limits {
        zset_max_listpack_entries: 0,
        ..Limits::default()
    }
}

/// A set, what the store has of it, and what it is to be.
struct World {
    set: SortedSet,
    store: Store,
    model: BTreeMap<Vec<u8>, f64>,
    rng: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> World {
        let mut set = SortedSet::from_pairs(Vec::new(), &limits());
        set.set(b"first", 0.0, &limits());
        set.page(1);
        let mut store = Store::new();
        set.pages().expect("paged").each(&mut |place, value| {
            store.insert(place.to_vec(), value.to_vec());
        });
        World {
            set,
            store,
            model: BTreeMap::from([(b"first".to_vec(), 0.0)]),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn want(&mut self, wanted: &Wanted<'_>) {
        want(&self.store, self.set.pages_mut().expect("paged"), wanted);
    }

    /// As the commands do: what is wanted may depend on what has come.
    fn want_between(&mut self, cuts: (&Cut<'_>, &Cut<'_>), most: usize, order: Order) {
        for _ in 0..10 {
            let wanted = self.set.wanted(cuts, most, order);
            if self.set.pages().expect("paged").lacking(&wanted).is_none() {
                return;
            }
            self.want(&wanted);
        }
        panic!("never enough");
    }

    fn ordered(&self) -> Vec<(Vec<u8>, f64)> {
        let mut all: Vec<_> = self
            .model
            .iter()
            .map(|(member, score)| (member.clone(), *score))
            .collect();
        all.sort_by(|one, other| super::super::compare(one.1, &one.0, other.1, &other.0));
        all
    }

    fn visited(&self, ranks: Range<usize>, reverse: bool) -> Vec<(Vec<u8>, f64)> {
        let mut seen = Vec::new();
        self.set.visit(ranks, reverse, |member, score| {
            seen.push((member.to_vec(), score))
        });
        seen
    }

    fn member(&mut self) -> Vec<u8> {
        self.rng.u32(..300).to_string().into_bytes()
    }

    fn score(&mut self) -> f64 {
        match self.rng.u32(..20) {
            0 => f64::INFINITY,
            1 => f64::NEG_INFINITY,
            2 => -0.0,
            3 => 0.0,
            4 => -5e-324,
            _ => f64::from(self.rng.i32(-40..40)) / 4.0,
        }
    }

    fn change(&mut self) {
        let (member, score) = (self.member(), self.score());
        self.want(&Wanted::Elements(&[&member], 1));
        let update = self.set.set(&member, score, &limits());
        let expected = match self.model.get(&member) {
            None => Update::Added,
            Some(old) if *old == score => Update::Kept,
            Some(_) => Update::Moved,
        };
        assert_eq!(update, expected);
        if update != Update::Kept {
            self.model.insert(member, score);
        }
    }

    fn remove(&mut self) {
        let member = self.member();
        self.want(&Wanted::Elements(&[&member], 1));
        assert_eq!(self.set.remove(&member), self.model.remove(&member));
    }

    fn pop(&mut self) {
        let (count, back) = (self.rng.usize(1..5), self.rng.bool());
        let (front, count) = (if back { 0 } else { count }, count.min(self.model.len()));
        self.want(&Wanted::Ends {
            front,
            back: if back { count } else { 0 },
        });
        let indexes = if back {
            self.model.len() - count..self.model.len()
        } else {
            0..count
        };
        let expected = self.ordered()[indexes.clone()].to_vec();
        let ranks = self.set.ranks_of(indexes);
        let mut taken = Vec::new();
        self.set
            .remove_ranks(ranks, |member, score| taken.push((member.to_vec(), score)));
        assert_eq!(taken, expected);
        for (member, _) in &expected {
            self.model.remove(member);
        }
    }

    fn indexes(&mut self) {
        let len = self.model.len();
        let start = self.rng.usize(..=len);
        let end = (start + self.rng.usize(..20)).min(len);
        if start == end {
            return;
        }
        let shift = if self.rng.bool() { len as i64 } else { 0 };
        self.want(&Wanted::Indexes(start as i64 - shift, end as i64 - 1 - shift));
        let ranks = self.set.ranks_of(start..end);
        assert_eq!(self.visited(ranks, false), self.ordered()[start..end]);
    }

    fn between(&mut self) {
        let (low, high) = (self.score(), self.score());
        let side = |rng: &mut fastrand::Rng| if rng.bool() { Side::Before } else { Side::Behind };
        let (low, high) = (
            Cut::Score(low, side(&mut self.rng)),
            Cut::Score(high, side(&mut self.rng)),
        );
        let most = if self.rng.bool() {
            usize::MAX
        } else {
            self.rng.usize(1..9)
        };
        let reverse = self.rng.bool();
        let order = if reverse { Order::Down } else { Order::Up };
        self.want_between((&low, &high), most, order);
        let ranks = self.set.between(&low, &high);
        let taken = most.min(ranks.len());
        let ranks = if reverse {
            ranks.end - taken..ranks.end
        } else {
            ranks.start..ranks.start + taken
        };
        let mut expected = self.ordered();
        expected.retain(|(member, score)| !low.is_behind(*score, member) && high.is_behind(*score, member));
        if reverse {
            expected.reverse();
        }
        expected.truncate(most);
        assert_eq!(
            self.visited(ranks, reverse),
            expected,
            "{low:?} {high:?} {most} {order:?}"
        );
    }

    fn rank(&mut self) {
        let member = self.member();
        self.want(&Wanted::Elements(&[&member], 1));
        if !self.set.pages().expect("paged").knows_rank(&member) {
            self.want(&Wanted::All);
        }
        let rank = self.ordered().iter().position(|(other, _)| *other == member);
        assert_eq!(self.set.rank(&member).map(|(rank, _)| rank), rank);
    }

    fn scan(&mut self) {
        let (mut cursor, mut seen) = (0, Vec::new());
        loop {
            self.want(&Wanted::Scan(cursor, 10));
            cursor = self
                .set
                .scan(cursor, 10, |member, score| seen.push((member.to_vec(), score)));
            if cursor == 0 {
                break;
            }
            self.shed(50);
        }
        seen.sort_by(|one, other| super::super::compare(one.1, &one.0, other.1, &other.0));
        assert_eq!(seen, self.ordered());
    }

    fn shed(&mut self, most: usize) {
        self.set.pages_mut().expect("paged").shed(most);
    }

    fn flush(&mut self) {
        flush(&mut self.store, self.set.pages_mut().expect("paged"));
        assert_eq!(self.store.len(), 2 * self.model.len(), "two rows for each");
    }
}

#[test]
fn is_the_same_whatever_is_in_memory() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..3_000 {
            match world.rng.u32(..100) {
                0..40 => world.change(),
                40..50 => world.remove(),
                50..54 if world.model.len() > 1 => world.pop(),
                54..62 => world.indexes(),
                62..75 => world.between(),
                75..78 => world.rank(),
                78 => world.scan(),
                79..85 => world.flush(),
                85..95 => {
                    let most = world.rng.usize(..120);
                    world.shed(most);
                }
                95 => {
                    world.flush();
                    world.set = SortedSet::of_summary(&world.set.pages().expect("paged").summary());
                }
                96 => {
                    world.want(&Wanted::All);
                    assert_eq!(world.visited(0..usize::MAX, false), world.ordered());
                }
                _ => {}
            }
            assert_eq!(world.set.len(), world.model.len());
        }
    }
}

#[test]
fn what_is_between_members_is_read_where_all_scores_are_the_same() {
    let mut world = World::new(1);
    for number in 0..2_000u32 {
        let member = format!("{number:04}").into_bytes();
        world.set.set(&member, 0.0, &limits());
        world.model.insert(member, 0.0);
    }
    world.flush();
    world.set = SortedSet::of_summary(&world.set.pages().expect("paged").summary());
    let (low, high) = (
        Cut::Member(b"0100", Side::Before),
        Cut::Member(b"0104", Side::Behind),
    );
    world.want_between((&low, &high), usize::MAX, Order::Up);
    let ranks = world.set.between(&low, &high);
    let seen: Vec<_> = world
        .visited(ranks, false)
        .into_iter()
        .map(|(member, _)| member)
        .collect();
    assert_eq!(
        seen,
        ["0100", "0101", "0102", "0103", "0104"].map(|text| text.as_bytes().to_vec())
    );
    assert!(!world.set.pages().expect("paged").is_whole());
    // One member with another score, and what is between depends on all.
    let rows = Wanted::Elements(&[b"zzz"], 1);
    world.want(&rows);
    world.set.set(b"zzz", 1.0, &limits());
    world.want_between((&low, &high), usize::MAX, Order::Up);
    assert!(world.set.pages().expect("paged").is_whole());
}

#[test]
fn scores_are_ordered_as_numbers_are() {
    let scores = [
        f64::NEG_INFINITY,
        -1e300,
        -2.0,
        -5e-324,
        0.0,
        5e-324,
        1.0,
        1.5,
        f64::MAX,
        f64::INFINITY,
    ];
    assert!(scores.windows(2).all(|two| key_of(two[0]) < key_of(two[1])));
    assert!(scores.iter().all(|score| score_of_key(key_of(*score)) == *score));
    assert_eq!(key_of(-0.0), key_of(0.0));
    // Rows of every store that was ever written are found by these.
    assert_eq!(key_of(1.0), 0xbff0_0000_0000_0000);
    assert_eq!(key_of(-1.0), 0x400f_ffff_ffff_ffff);
}
