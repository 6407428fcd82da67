//! Operations on several sets. Each visits the members of the result, once each, as references into the operands; the
//! `Set` functions below them build a set of the result.
//!
//! Each goes the cheaper of its ways:
//! * an intersection looks the members of the smallest set up in the others;
//! * a difference either looks the first set's members up in the others, the largest of them first, or takes all other
//!   members out of the first;
//! * a union of few sets looks a member up in the sets before its own, of many it keeps those that were met.
//!
//! Results of sets of integers come in ascending order.

use super::{Set, int_of};
use crate::object::listpack::Item;
use crate::object::{Limits, Native};
use std::collections::HashSet;
use std::ops::ControlFlow::{self, Continue};

/// A member whichever encoding it comes from: integers are always numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Member<'a> {
    Int(i64),
    Text(&'a [u8]),
}

impl<'a> Member<'a> {
    fn of(member: Item<'a>) -> Member<'a> {
        match (int_of(member), member) {
            (Some(number), _) | (None, Item::Int(number)) => Member::Int(number),
            (None, Item::Bytes(text)) => Member::Text(text),
        }
    }
}

type Met<'a> = HashSet<Member<'a>, foldhash::fast::RandomState>;

/// Visits what is in every set, until `visit` breaks. Reorders the sets.
pub fn intersection<'a>(sets: &mut [&'a Set], mut visit: impl FnMut(Item<'a>) -> ControlFlow<()>) {
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else {
        return;
    };
    let common = |member: &Item<'a>| others.iter().all(|set| set.contains_item(*member));
    let _ = smallest.iter().filter(common).try_for_each(&mut visit);
}

/// Sets up to which a union needs no memory of what it met.
const FEW_SETS: usize = 3;

/// Visits what is in some set. Reorders the sets.
pub fn union<'a>(sets: &mut [&'a Set], mut visit: impl FnMut(Item<'a>)) {
    if sets.len() > 1 && sets.iter().all(|set| matches!(set, Set::Ints(_))) {
        let mut all: Vec<i64> = sets
            .iter()
            .flat_map(|set| set.iter().filter_map(int_of))
            .collect();
        all.sort_unstable();
        all.dedup();
        return all.into_iter().for_each(|number| visit(Item::Int(number)));
    }
    sets.sort_by_key(|set| std::cmp::Reverse(set.len()));
    if sets.len() <= FEW_SETS {
        for (at, set) in sets.iter().enumerate() {
            let new = |member: &Item<'a>| !sets[..at].iter().any(|set| set.contains_item(*member));
            set.iter().filter(new).for_each(&mut visit);
        }
    } else {
        let mut met = Met::default();
        let all = sets.iter().flat_map(|set| set.iter());
        all.filter(|member| met.insert(Member::of(*member)))
            .for_each(visit);
    }
}

/// Visits what is in `first` and in none of the others. Reorders them.
pub fn difference<'a>(first: &'a Set, others: &mut [&'a Set], mut visit: impl FnMut(Item<'a>)) {
    if others.iter().any(|set| std::ptr::eq(*set, first)) {
        return;
    }
    let all = others.iter().map(|set| set.len()).sum::<usize>() + first.len();
    // Looking up finds early what is in several sets; half its worst case is what Redis counts too.
    if first.len() * (others.len() + 1) / 2 <= all {
        others.sort_by_key(|set| std::cmp::Reverse(set.len()));
        let only = |member: &Item<'a>| !others.iter().any(|set| set.contains_item(*member));
        return first.iter().filter(only).for_each(visit);
    }
    let mut left: Met<'a> = first.iter().map(Member::of).collect();
    for member in others.iter().flat_map(|set| set.iter()) {
        left.remove(&Member::of(member));
        if left.is_empty() {
            return;
        }
    }
    let is_left = |member: &Item<'a>| left.contains(&Member::of(*member));
    first.iter().filter(is_left).for_each(&mut visit);
}

impl Set {
    /// The intersection as a set of its own.
    pub fn of_intersection(sets: &mut [&Set], limits: &Limits) -> Set {
        let smallest = sets.iter().min_by_key(|set| set.len());
        let mut result = match smallest {
            Some(Set::Ints(_)) | None => Set::empty(),
            Some(_) => Set::packed(),
        };
        intersection(sets, |member| {
            result.add_item(member, limits);
            Continue(())
        });
        result.make_ints(limits);
        result
    }

    /// The union as a set of its own.
    pub fn of_union(sets: &mut [&Set], limits: &Limits) -> Set {
        let mut result = Set::empty();
        union(sets, |member| {
            result.add_item(member, limits);
        });
        result
    }

    /// The difference as a set of its own.
    pub fn of_difference<'a>(first: &'a Set, others: &mut [&'a Set], limits: &Limits) -> Set {
        let mut result = Set::empty();
        difference(first, others, |member| {
            result.add_item(member, limits);
        });
        result
    }
}
