//! Ranges that are split, merged, made, dropped and moved in between.

use super::*;

/// A change of the ranges that there are; numbers stand for one of them.
#[derive(Clone, Debug)]
enum Reshape {
    Split(usize, Vec<u8>),
    Merge(usize, usize),
    Create(Vec<u8>, bool),
    Drop(usize, usize),
    /// To the other tier; `true` waits until it is done.
    Move(usize, bool),
    Wait,
    Do(Step),
}

fn a_reshape() -> impl Strategy<Value = Reshape> {
    let quiet = prop_oneof![
        40 => a_command(),
        4 => Just(Step::Flush),
        4 => Just(Step::DropClean),
        4 => Just(Step::Seal),
        1 => Just(Step::DropEmpty),
        2 => Just(Step::Expire),
        2 => (0i64..4_000).prop_map(Step::Advance),
        1 => (prop::option::of(0..USED_DBS), any::<bool>()).prop_map(|(db, held)| Step::FlushDb(db, held)),
        1 => (0..USED_DBS, 0..USED_DBS).prop_map(|(a, b)| Step::Swap(a, b)),
        3 => (1usize..40).prop_map(Step::Scan),
        2 => Just(Step::Check),
        1 => Just(Step::Reopen(false)),
        2 => (Just(usize::MAX), 0usize..40).prop_map(|(at, torn)| Step::Crash(at, torn)),
    ];
    prop_oneof![
        30 => quiet.prop_map(Reshape::Do),
        2 => (any::<usize>(), a_key()).prop_map(|(at, key)| Reshape::Split(at, key)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Reshape::Merge(a, b)),
        2 => (a_key(), any::<bool>()).prop_map(|(prefix, durable)| Reshape::Create(prefix, durable)),
        2 => (any::<usize>(), 0usize..3).prop_map(|(at, leftover)| Reshape::Drop(at, leftover)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, wait)| Reshape::Move(at, wait)),
        1 => Just(Reshape::Wait),
    ]
}

impl World {
    fn range_at(&self, at: usize) -> RangeSpec {
        let map = self.open.keyspace.ranges();
        let specs: Vec<RangeSpec> = map.iter().map(|range| range.spec.clone()).collect();
        specs[at % specs.len()].clone()
    }

    fn wait_for_moves(&self) {
        let map = || self.open.keyspace.ranges();
        let moving = || {
            map()
                .iter()
                .any(|range| self.open.keyspace.move_of(&range.spec.name).is_some())
        };
        while moving() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What is refused has changed nothing; what is not, has done what it says.
    fn reshape(&mut self, change: &Reshape, number: usize) {
        let keyspace = self.open.keyspace.clone();
        match change {
            Reshape::Split(at, key) => {
                let _ = keyspace.split_range(&self.range_at(*at).name, key, Some(&format!("s{number}")));
            }
            Reshape::Merge(a, b) => {
                let _ = keyspace.merge_ranges(&self.range_at(*a).name, &self.range_at(*b).name);
            }
            Reshape::Create(prefix, durable) if !prefix.is_empty() => {
                let mut wanted = spec(&format!(
                    "c{number} x {}",
                    if *durable { "durable" } else { "memory" }
                ));
                wanted.bounds = Bounds::Prefix(prefix.clone());
                let _ = keyspace.create_range(wanted);
            }
            Reshape::Create(..) => {}
            Reshape::Drop(at, leftover) => {
                let name = self.range_at(*at).name;
                let leftover = [Leftover::Discard, Leftover::Keep, Leftover::Refuse][*leftover];
                let before = keyspace.range_map();
                let dropped = keyspace.drop_range(&name, leftover).is_ok();
                if dropped && leftover == Leftover::Discard {
                    self.model.retain(|key| before.find(key).spec.name != name);
                }
            }
            Reshape::Move(at, wait) => {
                let range = self.range_at(*at);
                let to = if range.tier == Tier::Memory {
                    Tier::Durable
                } else {
                    Tier::Memory
                };
                let _ = keyspace.begin_move(&range.name, to, self.now);
                if *wait {
                    self.wait_for_moves();
                }
            }
            Reshape::Wait => self.wait_for_moves(),
            Reshape::Do(Step::Crash(..) | Step::Reopen(_) | Step::Flush | Step::Scan(_) | Step::Check) => {
                // A folder is copied, and the rows in it are counted, at rest; and SCAN may return a key twice while
                // a flush writes it.
                self.wait_for_moves();
                self.open.flush_idle();
            }
            Reshape::Do(_) => {}
        }
        // It would keep the folder open.
        drop(keyspace);
        if let Reshape::Do(step) = change {
            if matches!(step, Step::Crash(..)) {
                // What is in memory alone is not there after it.
                self.history = vec![(self.open.end(), self.model.clone())];
            }
            self.apply(step);
        }
    }
}

/// Ranges of the configuration would come back at each start: all but the default one are made by command.
fn ranges_keep_to_the_model(default: &str, lines: &[&str], changes: &[Reshape]) {
    let mut world = World::new(&[default], "d d: durable");
    world.remembers = true;
    for line in lines {
        world.open.keyspace.create_range(spec(line)).expect("no conflict");
    }
    for (number, change) in changes.iter().enumerate() {
        world.reshape(change, number);
    }
    world.wait_for_moves();
    world.open.flush_idle();
    world.finish();
}

proptest! {
    #![proptest_config(cases(25))]

    #[test]
    fn ranges_that_change_keep_to_the_model(changes in prop::collection::vec(a_reshape(), 1..120)) {
        ranges_keep_to_the_model("default * durable", &["m m: durable", "x x..zz memory"], &changes);
    }

    #[test]
    fn memory_ranges_that_change_keep_to_the_model(changes in prop::collection::vec(a_reshape(), 1..120)) {
        ranges_keep_to_the_model("default * memory", &["m m: durable", "t t: memory"], &changes);
    }
}
