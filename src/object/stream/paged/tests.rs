//! Paged streams held against plain ones, with parts of them going from memory and coming back.

use super::super::Trim;
use super::*;
use crate::object::pages::testing::{Store, flush, want};
use crate::object::{Limits, Native};

fn limits() -> Limits {
    Limits {
        stream_node_max_entries: 7,
        ..Limits::default()
    }
}

/// A paged stream, and one that is not, to which the same is done.
struct World {
    store: Store,
    paged: Stream,
    plain: Stream,
    rng: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            store: Store::new(),
            paged: Stream::empty(),
            plain: Stream::empty(),
            rng: fastrand::Rng::with_seed(seed),
        };
        (0..20).for_each(|_| world.append());
        world.paged.page(1);
        world.paged.each(&mut |place, value| {
            world.store.insert(place.to_vec(), value.to_vec());
        });
        world
    }

    fn want(&mut self, wanted: &Wanted<'_>) {
        want(&self.store, &mut self.paged, wanted);
    }

    fn between(&mut self, order: Order, (from, to): (StreamId, StreamId), most: usize) {
        let bounds = Bounds {
            from,
            to,
            most,
            order,
        };
        self.want(&Wanted::Between(bounds));
    }

    /// About where entries are.
    fn id(&mut self) -> StreamId {
        let (first, last) = (self.plain.log().first_id().ms, self.plain.log().last_id.ms);
        StreamId::new(
            self.rng.u64(first.min(last).saturating_sub(3)..=last + 3),
            self.rng.u64(..2),
        )
    }

    fn append(&mut self) {
        if self.paged.is_paged() {
            self.between(Order::Down, (StreamId::ZERO, StreamId::MAX), 1);
        }
        for _ in 0..self.rng.usize(1..12) {
            let last = self.plain.log().last_id;
            let id = StreamId::new(last.ms + self.rng.u64(..2), last.seq + 1);
            let value = vec![b'v'; self.rng.usize(..20)];
            for stream in [&mut self.paged, &mut self.plain] {
                stream.log_mut().append(id, &[b"field", &value], &limits());
            }
        }
    }

    fn trim(&mut self) {
        let keep = if self.rng.bool() {
            let len = self.plain.log().len();
            Keep::Newest(self.rng.u64(len.saturating_sub(40)..len + 5))
        } else {
            Keep::From(self.id())
        };
        let trim = Trim {
            keep,
            approximate: self.rng.bool(),
            limit: 0,
        };
        self.want(&Wanted::Trim(keep, 0));
        let trimmed = self.plain.log_mut().trim(trim);
        assert_eq!(self.paged.log_mut().trim(trim), trimmed);
    }

    fn delete(&mut self) {
        let mut ids: Vec<StreamId> = (0..3).map(|_| self.id()).collect();
        if self.rng.bool() {
            ids.push(self.plain.log().first_id());
        }
        self.want(&Wanted::Ids(ids.clone()));
        self.between(Order::Up, (StreamId::ZERO, StreamId::MAX), ids.len() + 1);
        for id in ids {
            let found = self.plain.log().get(id).map(|entry| entry.id);
            assert_eq!(self.paged.log().get(id).map(|entry| entry.id), found);
            let deleted = self.plain.log_mut().delete(id);
            assert_eq!(self.paged.log_mut().delete(id), deleted);
        }
    }

    fn read(&mut self) {
        let (from, to, most) = (self.id(), self.id(), self.rng.usize(1..30));
        let up = self.rng.bool();
        self.between(if up { Order::Up } else { Order::Down }, (from, to), most);
        let read = |stream: &Stream| -> Vec<StreamId> {
            let log = stream.log();
            if up {
                log.range(from, to).take(most).map(|entry| entry.id).collect()
            } else {
                log.range_back(from, to)
                    .take(most)
                    .map(|entry| entry.id)
                    .collect()
            }
        };
        assert_eq!(read(&self.paged), read(&self.plain), "{from:?} {to:?} {most}");
    }

    fn check(&mut self) {
        self.want(&Wanted::All);
        let all = |stream: &Stream| {
            let nodes = stream.log().nodes();
            nodes
                .map(|(id, node)| (id, node.as_bytes().to_vec()))
                .collect::<Vec<_>>()
        };
        assert_eq!(all(&self.paged), all(&self.plain));
    }

    fn step(&mut self) {
        match self.rng.u32(..100) {
            0..30 => self.append(),
            30..38 => self.trim(),
            38..50 => self.delete(),
            50..80 => self.read(),
            80..86 => flush(&mut self.store, &mut self.paged),
            86..93 => {
                let most = self.rng.usize(..100);
                Pages::shed(&mut self.paged, most);
            }
            93 => self.check(),
            _ => {
                flush(&mut self.store, &mut self.paged);
                let summary = self.paged.summary();
                assert_eq!(self.store.len() as u64, summary.len, "rows");
                self.paged = Stream::of_summary(&summary).expect("sound");
            }
        }
        let facts = |stream: &Stream| {
            let log = stream.log();
            let ids = (log.first_id(), log.last_id, log.max_deleted_id);
            (log.len(), log.node_count(), log.entries_added, ids)
        };
        assert_eq!(facts(&self.paged), facts(&self.plain));
        for (id, node) in self.paged.log().nodes() {
            let mut all = self.plain.log().nodes();
            let same = all
                .find(|(other, _)| *other == id)
                .map(|(_, node)| node.as_bytes());
            assert_eq!(Some(node.as_bytes()), same, "{id:?}");
        }
    }
}

#[test]
fn is_the_same_whatever_is_in_memory() {
    for seed in 0..30 {
        let mut world = World::new(seed);
        (0..1_000).for_each(|_| world.step());
        world.check();
        world.paged.unpage();
        let ids = |stream: &Stream| -> Vec<StreamId> { stream.log().iter().map(|entry| entry.id).collect() };
        assert_eq!(ids(&world.paged), ids(&world.plain));
    }
}
