//! Paged lists held against plain ones, with parts of them going from memory and coming back.

use super::super::List;
use super::*;
use crate::object::Limits;
use crate::object::pages::testing::{Store, flush, want};
use std::collections::VecDeque;

fn limits() -> Limits {
    Limits {
        list_max_listpack_size: 7,
        ..Limits::default()
    }
}

struct World {
    store: Store,
    list: List,
    model: VecDeque<Vec<u8>>,
    rng: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> World {
        let mut list = List::chain(Chain::new(Node::new()));
        list.page(1);
        World {
            store: Store::new(),
            list,
            model: VecDeque::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn want(&mut self, wanted: Wanted<'_>) {
        want(&self.store, self.list.pages_mut().expect("paged"), &wanted);
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => vec![b'l'; 9000],
            1..10 => self.rng.u32(..50).to_string().into_bytes(),
            _ => vec![b'v'; self.rng.usize(..30)],
        }
    }

    fn side(&mut self) -> Side {
        if self.rng.bool() { Side::Front } else { Side::Back }
    }

    fn push(&mut self) {
        let side = self.side();
        for _ in 0..self.rng.usize(1..40) {
            let value = self.value();
            self.list.push(side, &[&value], &limits());
            match side {
                Side::Front => self.model.push_front(value),
                Side::Back => self.model.push_back(value),
            }
        }
    }

    fn pop(&mut self) {
        let (side, most) = (self.side(), self.rng.usize(1..30));
        let count = most.min(self.model.len());
        match side {
            Side::Front => self.want(Wanted::Ends { front: most, back: 0 }),
            Side::Back => self.want(Wanted::Ends { front: 0, back: most }),
        }
        let taken: Vec<Vec<u8>> = self
            .list
            .walk(side, 0)
            .take(count)
            .map(|item| item.to_vec())
            .collect();
        let peeked = self.list.peek(side).map(|item| item.to_vec());
        assert_eq!(peeked.as_ref(), taken.first());
        self.list.shorten(side, count, &limits());
        let expected = (0..count).filter_map(|_| match side {
            Side::Front => self.model.pop_front(),
            Side::Back => self.model.pop_back(),
        });
        assert!(expected.eq(taken));
    }

    fn trim(&mut self) {
        let len = self.model.len();
        let from = self.rng.usize(..=len / 4);
        let to = self.rng.usize(len - len / 4..=len);
        self.list.keep(from..to, &limits());
        self.model = self.model.drain(from..to).collect();
    }

    fn read(&mut self) {
        let len = self.model.len() as i64;
        let (from, to) = (self.rng.i64(0..len + 1), self.rng.i64(0..len + 1));
        let shift = if self.rng.bool() && from.max(to) < len {
            len
        } else {
            0
        };
        self.want(Wanted::Indexes(from - shift, to - shift));
        let (from, to) = (from as usize, to as usize);
        let range = from..(to + 1).clamp(from, len as usize);
        let read: Vec<Vec<u8>> = self
            .list
            .walk(Side::Front, from)
            .take(range.len())
            .map(|item| item.to_vec())
            .collect();
        assert!(self.model.range(range).eq(read.iter()));
    }

    fn set(&mut self) {
        if self.model.is_empty() {
            return;
        }
        let (index, value) = (self.rng.usize(..self.model.len()), self.value());
        self.want(Wanted::Indexes(index as i64, index as i64));
        assert_eq!(
            self.list.get(index).map(|item| item.to_vec()).as_ref(),
            self.model.get(index)
        );
        assert!(self.list.set(index, &value, &limits()));
        self.model[index] = value;
    }

    fn edit(&mut self) {
        self.want(Wanted::All);
        let (wanted, value) = (self.rng.u32(..50).to_string().into_bytes(), self.value());
        let at = self.model.iter().position(|value| *value == wanted);
        if self.rng.bool() {
            let side = self.side();
            let done = self.list.insert(&wanted, side, &value, &limits());
            assert_eq!(done, at.is_some());
            if let Some(at) = at {
                self.model.insert(at + usize::from(side == Side::Back), value);
            }
        } else {
            let removed = self.list.remove(&wanted, Side::Back, 1, &limits());
            let last = self.model.iter().rposition(|value| *value == wanted);
            assert_eq!(removed, usize::from(last.is_some()));
            last.map(|at| self.model.remove(at));
        }
    }

    fn check(&mut self) {
        self.want(Wanted::All);
        assert!(
            self.list
                .walk(Side::Front, 0)
                .map(|item| item.to_vec())
                .eq(self.model.iter().cloned())
        );
        let back = self.list.walk(Side::Back, 0).map(|item| item.to_vec());
        assert!(back.eq(self.model.iter().rev().cloned()));
    }

    fn step(&mut self) {
        match self.rng.u32(..100) {
            0..30 => self.push(),
            30..55 => self.pop(),
            55..58 => self.trim(),
            58..70 => self.read(),
            70..80 => self.set(),
            80..83 => self.edit(),
            83..89 => flush(&mut self.store, self.list.pages_mut().expect("paged")),
            89..96 => {
                let most = self.rng.usize(..200);
                self.list.pages_mut().expect("paged").shed(most);
            }
            96 => self.check(),
            _ => {
                let pages = self.list.pages_mut().expect("paged");
                flush(&mut self.store, pages);
                let summary = pages.summary();
                assert_eq!(self.store.len() as u64, summary.len, "rows");
                self.list = List::of_summary(&summary);
            }
        }
        assert_eq!(super::super::Native::len(&self.list), self.model.len());
    }
}

#[test]
fn is_the_same_whatever_is_in_memory() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        (0..2_000).for_each(|_| world.step());
        world.check();
        world.list.unpage();
        let all = world.list.walk(Side::Front, 0).map(|item| item.to_vec());
        assert!(all.eq(world.model));
    }
}
