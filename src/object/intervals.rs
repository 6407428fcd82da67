//! A set of numbers, or of whatever else has an order, as the intervals that they form.
//!
//! Guarantees: intervals do not touch each other, so there are as few as can be; what an operation costs grows with the
//! intervals that it joins or cuts, and with the logarithm of all.

use std::collections::BTreeMap;

/// What intervals are of.
pub trait Number: Clone + Ord {
    /// How many there are from one up to another. Where that cannot be told, intervals are counted.
    fn count(_from: &Self, _to: &Self) -> usize {
        1
    }
}

impl Number for i64 {
    fn count(from: &i64, to: &i64) -> usize {
        to.abs_diff(*from) as usize
    }
}

impl Number for u128 {}

/// Strings of bytes, in their order.
impl Number for Vec<u8> {}

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
        while let Some((at, until)) = self.ends.range(..=&end).next_back() {
            if *until < start {
                break;
            }
            let (at, until) = (at.clone(), until.clone());
            self.take(&at, &until);
            (start, end) = (start.min(at), end.max(until));
        }
        self.put(start, end);
    }

    /// Takes [from, to) out.
    pub fn remove(&mut self, from: N, to: N) {
        while from < to
            && let Some((at, until)) = self.ends.range(..&to).next_back()
            && *until > from
        {
            let (at, until) = (at.clone(), until.clone());
            self.take(&at, &until);
            let is_last = at < from;
            self.put(to.clone(), until);
            self.put(at, from.clone());
            if is_last {
                break;
            }
        }
    }

    fn take(&mut self, at: &N, until: &N) {
        self.ends.remove(at);
        self.count -= N::count(at, until);
    }

    fn put(&mut self, at: N, until: N) {
        if at < until {
            self.count += N::count(&at, &until);
            self.ends.insert(at, until);
        }
    }

    /// Keeps only what is in [from, to).
    pub fn keep(&mut self, from: N, to: N) {
        if let Some(least) = self.ends.keys().next().cloned() {
            self.remove(least, from);
        }
        if let Some(greatest) = self.ends.values().next_back().cloned() {
            self.remove(to, greatest);
        }
    }

    /// True when some number of [from, to) is in.
    pub fn meets(&self, from: N, to: N) -> bool {
        let last = self.ends.range(..&to).next_back();
        from < to && last.is_some_and(|(_, until)| *until > from)
    }

    /// The interval that a number is in.
    pub fn around(&self, at: N) -> Option<(N, N)> {
        let (from, to) = self.ends.range(..=&at).next_back()?;
        (at < *to).then(|| (from.clone(), to.clone()))
    }

    /// The interval that holds all from somewhere before this number up to it, whether it holds itself or not.
    pub fn up_to(&self, at: &N) -> Option<(N, N)> {
        let (from, to) = self.ends.range(..at).next_back()?;
        (at <= to).then(|| (from.clone(), to.clone()))
    }

    /// What of [from, to) is not in.
    pub fn gaps(&self, from: N, to: N) -> Vec<(N, N)> {
        let around = self.around(from.clone());
        let (mut gaps, mut at) = (Vec::new(), around.map_or(from, |(_, end)| end));
        if at >= to {
            return gaps;
        }
        for (start, end) in self
            .ends
            .range(&at..&to)
            .map(|(start, end)| (start.clone(), end.clone()))
        {
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
        self.ends.iter().map(|(from, to)| (from.clone(), to.clone()))
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
            assert_eq!(intervals.up_to(&from).is_some(), model.contains(&(from - 1)));
        }
    }
}
