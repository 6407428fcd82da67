//! Which hashes of a large collection are known, and which of its elements are taken by chance.
//!
//! Elements are in the order of hashes, so those that follow a hash chosen by chance are as good as any others. They
//! are read from there on, many more than are asked for, and some of these are chosen: the one that follows the hash
//! would be likelier the farther the one before it is away, and of `AROUND` neighbours such distances make up a like
//! sum. So the chance of an element differs from that of another by an eighth or so. Elements that are taken together
//! are neighbours more often than others; what their neighbours are, nothing but a seed has chosen.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Elements that one is chosen from.
const AROUND: usize = 64;
/// The same for each further one.
const AROUND_EACH: usize = 4;

/// Hashes from one up to another, past the end of all hashes too: every element with one of them is in memory.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Window(Option<(u64, u64)>);

impl Window {
    /// All hashes. As the end of a window 0 is behind the last one.
    pub const ALL: Window = Window(Some((0, 0)));

    /// Where what is known from this hash on ends, at the latest behind the last one; none if nothing is.
    pub fn known_from(&self, hash: u64) -> Option<u64> {
        let (from, to) = self.0?;
        match () {
            _ if from < to || to == 0 => (from <= hash && (to == 0 || hash < to)).then_some(to),
            _ if from <= hash => Some(0),
            _ => (hash < to).then_some(to),
        }
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.0.map_or(0, |(_, to)| to)
    }

    /// Notes that [from, to) is known: with what is known already, if that ends there, else in its place.
    pub fn add(&mut self, from: u64, to: u64) {
        self.0 = Some(match self.0 {
            Some((first, last)) if last == from && first != last => {
                let goes_round = last <= first;
                if goes_round && (to == 0 || first <= to) {
                    (0, 0)
                } else {
                    (first, to)
                }
            }
            _ => (from, to),
        });
    }

    /// Visits what is known from a hash on, which is not 0, past the end of all hashes too, until there is enough.
    /// `step` visits about so many of what is in [from, to), and says how many they were.
    fn walk(&self, start: u64, most: usize, mut step: impl FnMut(u64, u64, usize) -> usize) {
        let Some(end) = self.known_from(start) else { return };
        let seen = step(start, end, most);
        if end == 0
            && seen < most
            && let Some(end) = self.known_from(0)
        {
            let end = if end == 0 { start } else { end.min(start) };
            step(0, end, most - seen);
        }
    }
}

/// Runs a step of a scan from `cursor` on, up to the end of what is known, which it is told. Returns the cursor to go
/// on with.
pub fn scan(window: Window, cursor: u64, step: impl FnOnce(u64) -> u64) -> u64 {
    // proof: what a scan wants has been looked for, and what is known ends only together with `state`.
    let end = window
        .known_from(cursor)
        .expect("what is scanned is brought in before");
    match (step(end), end) {
        (next, 0) => next,
        (0, end) => end,
        (next, end) => next.min(end),
    }
}

/// Where the next elements by chance are looked for: at another place each time.
#[derive(Default)]
pub struct Chance(AtomicU64);

impl Clone for Chance {
    fn clone(&self) -> Chance {
        Chance::default()
    }
}

impl Chance {
    /// The same until `pool` has been asked.
    fn place(&self) -> u64 {
        match self.0.load(Relaxed) {
            0 => {
                let place = fastrand::u64(1..);
                self.0.store(place, Relaxed);
                place
            }
            place => place,
        }
    }

    /// Where to read on, and how much, if less is known than `count` elements are chosen from. Without a place: all are
    /// needed, because there are few.
    pub fn lacking(
        &self,
        (count, len): (usize, usize),
        window: Window,
        step: impl FnMut(u64, u64, usize) -> usize,
    ) -> Lacking {
        let most = most_of(count);
        if most >= len / 2 {
            return Lacking::All;
        }
        let place = self.place();
        if window.known_from(place).is_none() {
            return Lacking::From(place, most);
        }
        let (mut have, mut step) = (0, step);
        window.walk(place, most, |from, to, most| {
            let seen = step(from, to, most);
            have += seen;
            seen
        });
        if have < count + AROUND / 2 {
            Lacking::From(window.end(), most)
        } else {
            Lacking::Nothing
        }
    }

    /// Visits the elements that `count` are to be chosen from, which were brought in; and the next ones will be others.
    pub fn pool(&self, count: usize, window: Window, step: impl FnMut(u64, u64, usize) -> usize) {
        window.walk(self.place(), most_of(count), step);
        self.0.store(0, Relaxed);
    }
}

/// What has to be read before elements can be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lacking {
    Nothing,
    /// So many elements, from this hash on.
    From(u64, usize),
    All,
}

fn most_of(count: usize) -> usize {
    count.saturating_mul(AROUND_EACH).saturating_add(AROUND)
}

/// Chooses `count` different ones of a pool.
pub fn choose<T>(pool: &mut Vec<T>, count: usize, rng: &mut fastrand::Rng) {
    for taken in 0..count.min(pool.len()) {
        let other = rng.usize(taken..pool.len());
        pool.swap(taken, other);
    }
    pool.truncate(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_join_where_one_ends_and_the_next_begins() {
        let mut window = Window::default();
        assert_eq!(window.known_from(0), None);
        window.add(10, 20);
        assert_eq!(
            [9, 10, 19, 20].map(|hash| window.known_from(hash)),
            [None, Some(20), Some(20), None]
        );
        window.add(20, 0);
        assert_eq!(
            [9, 10, u64::MAX].map(|hash| window.known_from(hash)),
            [None, Some(0), Some(0)]
        );
        window.add(0, 5);
        assert_eq!(
            [4, 5, 10, u64::MAX].map(|hash| window.known_from(hash)),
            [Some(5), None, Some(0), Some(0)]
        );
        let mut whole = window;
        window.add(5, 8);
        assert_eq!(
            [7, 8, 10].map(|hash| window.known_from(hash)),
            [Some(8), None, Some(0)]
        );
        whole.add(5, 11);
        assert_eq!(whole, Window::ALL);
        window.add(30, 40);
        assert_eq!(
            [7, 10, 30].map(|hash| window.known_from(hash)),
            [None, None, Some(40)]
        );
    }

    #[test]
    fn a_walk_goes_past_the_end_of_all_hashes_once() {
        let walk = |window: Window, start, most| {
            let mut steps = Vec::new();
            window.walk(start, most, |from, to, most| {
                steps.push((from, to, most));
                1
            });
            steps
        };
        assert_eq!(walk(Window::ALL, 7, 9), [(7, 0, 9), (0, 7, 8)]);
        assert_eq!(walk(Window(Some((5, 3))), 7, 9), [(7, 0, 9), (0, 3, 8)]);
        assert_eq!(walk(Window(Some((5, 9))), 7, 9), [(7, 9, 9)]);
        assert_eq!(walk(Window(Some((5, 0))), 7, 1), [(7, 0, 1)]);
    }
}
