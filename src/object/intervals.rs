//! A set of numbers, as the intervals that they form.
//!
//! Guarantees: intervals do not touch each other, so there are as few as can be; what an operation costs grows with the
//! intervals that it joins or cuts, and with the logarithm of all.

use std::collections::BTreeMap;

#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// End by start; the end is not part of it.
    ends: BTreeMap<i64, i64>,
    /// Numbers in all of them.
    count: usize,
}

impl Intervals {
    /// How many numbers.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Heap bytes, about.
    pub fn bytes(&self) -> usize {
        self.ends.len() * 2 * size_of::<(i64, i64)>()
    }

    pub fn clear(&mut self) {
        *self = Intervals::default();
    }

    /// Adds [from, to).
    pub fn add(&mut self, from: i64, to: i64) {
        if from >= to {
            return;
        }
        let (mut start, mut end) = (from, to);
        while let Some((&at, &until)) = self.ends.range(..=end).next_back() {
            if until < start {
                break;
            }
            (start, end) = (start.min(at), end.max(until));
            self.take(at, until);
        }
        self.put(start, end);
    }

    /// Takes [from, to) out.
    pub fn remove(&mut self, from: i64, to: i64) {
        while from < to
            && let Some((&at, &until)) = self.ends.range(..to).next_back()
            && until > from
        {
            self.take(at, until);
            self.put(to, until);
            self.put(at, from);
            if at < from {
                break;
            }
        }
    }

    fn take(&mut self, at: i64, until: i64) {
        self.ends.remove(&at);
        self.count -= (until - at) as usize;
    }

    fn put(&mut self, at: i64, until: i64) {
        if at < until {
            self.ends.insert(at, until);
            self.count += (until - at) as usize;
        }
    }

    /// Keeps only what is in [from, to).
    pub fn keep(&mut self, from: i64, to: i64) {
        self.remove(i64::MIN, from);
        self.remove(to, i64::MAX);
    }

    /// True when some number of [from, to) is in.
    pub fn meets(&self, from: i64, to: i64) -> bool {
        let last = self.ends.range(..to).next_back();
        last.is_some_and(|(_, until)| *until > from)
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.ends.iter().map(|(from, to)| (*from, *to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn is_a_set_of_numbers() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut intervals, mut model) = (Intervals::default(), BTreeSet::new());
        for _ in 0..5_000 {
            let from = rng.i64(-50..50);
            let to = from + rng.i64(-1..12);
            match rng.u32(..8) {
                0..4 => {
                    intervals.add(from, to);
                    model.extend(from..to);
                }
                4..7 => {
                    intervals.remove(from, to);
                    model.retain(|at| !(from..to).contains(at));
                }
                _ if rng.u32(..10) == 0 => {
                    intervals.keep(from - 20, to + 20);
                    model.retain(|at| (from - 20..to + 20).contains(at));
                }
                _ => {}
            }
            assert_eq!(intervals.count(), model.len());
            assert!(intervals.iter().flat_map(|(from, to)| from..to).eq(model.iter().copied()));
            let apart: Vec<_> = intervals.iter().collect();
            assert!(apart.windows(2).all(|two| two[0].1 < two[1].0));
            let meets = (from..to).any(|at| model.contains(&at));
            assert_eq!(intervals.meets(from, to), meets && from < to);
        }
    }
}
