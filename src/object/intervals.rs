//! A set of numbers, as the intervals that they form.
//!
//! Guarantees: intervals do not touch each other, so there are as few as can be; what an operation costs grows with the
//! intervals that it joins or cuts, and with the logarithm of all.

use std::collections::BTreeMap;

/// What intervals are of.
pub trait Number: Copy + Ord {
    const LEAST: Self;
    const GREATEST: Self;
    /// How many there are from one up to another, as far as that can be told.
    fn count(from: Self, to: Self) -> usize;
}

impl Number for i64 {
    const LEAST: i64 = i64::MIN;
    const GREATEST: i64 = i64::MAX;

    fn count(from: i64, to: i64) -> usize {
        to.abs_diff(from) as usize
    }
}

impl Number for u128 {
    const LEAST: u128 = 0;
    const GREATEST: u128 = u128::MAX;

    /// Too many to be counted: intervals are.
    fn count(_: u128, _: u128) -> usize {
        1
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intervals<N> {
    /// End by start; the end is not part of it.
    ends: BTreeMap<N, N>,
    /// Numbers in all of them.
    count: usize,
}

impl<N> Default for Intervals<N> {
    fn default() -> Intervals<N> {
        Intervals {
            ends: BTreeMap::new(),
            count: 0,
        }
    }
}

impl<N: Number> Intervals<N> {
    /// How many numbers.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Heap bytes, about.
    pub fn bytes(&self) -> usize {
        self.ends.len() * 2 * size_of::<(N, N)>()
    }

    pub fn clear(&mut self) {
        *self = Intervals::default();
    }

    /// Adds [from, to).
    pub fn add(&mut self, from: N, to: N) {
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
    pub fn remove(&mut self, from: N, to: N) {
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

    fn take(&mut self, at: N, until: N) {
        self.ends.remove(&at);
        self.count -= N::count(at, until);
    }

    fn put(&mut self, at: N, until: N) {
        if at < until {
            self.ends.insert(at, until);
            self.count += N::count(at, until);
        }
    }

    /// Keeps only what is in [from, to).
    pub fn keep(&mut self, from: N, to: N) {
        self.remove(N::LEAST, from);
        self.remove(to, N::GREATEST);
    }

    /// True when some number of [from, to) is in.
    pub fn meets(&self, from: N, to: N) -> bool {
        let last = self.ends.range(..to).next_back();
        from < to && last.is_some_and(|(_, until)| *until > from)
    }

    /// The interval that a number is in.
    pub fn around(&self, at: N) -> Option<(N, N)> {
        let (from, to) = self.ends.range(..=at).next_back()?;
        (at < *to).then_some((*from, *to))
    }

    /// What of [from, to) is not in.
    pub fn gaps(&self, from: N, to: N) -> Vec<(N, N)> {
        let (mut gaps, mut at) = (Vec::new(), self.around(from).map_or(from, |(_, end)| end));
        if at >= to {
            return gaps;
        }
        for (&start, &end) in self.ends.range(at..to) {
            if at < start {
                gaps.push((at, start));
            }
            at = end;
        }
        if at < to {
            gaps.push((at, to));
        }
        gaps
    }

    pub fn iter(&self) -> impl Iterator<Item = (N, N)> {
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
            assert!(
                intervals
                    .iter()
                    .flat_map(|(from, to)| from..to)
                    .eq(model.iter().copied())
            );
            let apart: Vec<_> = intervals.iter().collect();
            assert!(apart.windows(2).all(|two| two[0].1 < two[1].0));
            let meets = (from..to).any(|at| model.contains(&at));
            assert_eq!(intervals.meets(from, to), meets && from < to);
            let gaps = intervals.gaps(from, to);
            let missing = (from..to).filter(|at| !model.contains(at));
            assert!(gaps.iter().flat_map(|(from, to)| *from..*to).eq(missing));
            assert_eq!(intervals.around(from).is_some(), model.contains(&from));
        }
    }
}
