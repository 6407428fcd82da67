//! Members by chance. The generator is passed in.

use super::{Set, Table};
use crate::object::dict::DictItem;
use crate::object::intset::Intset;
use crate::object::listpack::{Item, Listpack};
use crate::object::pages::Pages;
use crate::object::window::choose;
use crate::object::{Limits, Native};
use fastrand::Rng;
use std::collections::HashSet;

/// From a table, fewer than one in so many members are drawn one by one, each until it is one not drawn before; for
/// more, one walk over all decides on each member.
const WALK_FROM: usize = 3;

/// A pop that leaves fewer than one in so many of those popped makes the set anew.
const ANEW_BELOW: usize = 5;

impl Set {
    pub(super) fn packed() -> Set {
        Set::Packed(Listpack::new())
    }

    /// A member, each as likely as any other.
    pub fn random(&self, rng: &mut Rng) -> Option<Item<'_>> {
        if self.is_empty() {
            return None;
        }
        match self {
            Set::Ints(ints) => ints.get(rng.usize(0..ints.len())).map(Item::Int),
            Set::Packed(packed) => {
                let at = packed.at(rng.usize(0..packed.len()) as i64)?;
                Some(packed.get(at))
            }
            Set::Table(table) => table.random(rng).map(|field| Item::Bytes(field.key())),
            Set::Paged(paged) => {
                let field = match paged.pool(1) {
                    Some(pool) => rng.choice(pool),
                    None => paged.all().random(rng),
                };
                field.map(|field| Item::Bytes(field.key()))
            }
        }
    }

    /// Draws `count` times; a member may come more than once. Nothing comes from an empty set.
    pub fn draw<'a>(&'a self, count: usize, rng: &mut Rng, mut visit: impl FnMut(Item<'a>)) {
        match self {
            // Finding a place in it takes a walk: one for all is better than one for each.
            Set::Packed(packed) if count > 1 && !self.is_empty() => {
                let all: Vec<Item<'a>> = packed.iter().collect();
                (0..count).for_each(|_| visit(all[rng.usize(0..all.len())]));
            }
            Set::Paged(paged) if !paged.is_whole() => {
                let pool = paged.pool(count).unwrap_or_default();
                (0..count).for_each(|_| visit(Item::Bytes(pool[rng.usize(..pool.len())].key())));
            }
            _ => (0..count).filter_map(|_| self.random(rng)).for_each(visit),
        }
    }

    /// Visits `count` different members, or all if there are no more. Each such selection is as likely as any other;
    /// the order says nothing.
    pub fn sample<'a>(&'a self, count: usize, rng: &mut Rng, mut visit: impl FnMut(Item<'a>)) {
        match self {
            Set::Table(table) if count.saturating_mul(WALK_FROM) < table.len() => {
                draw_different(table, count, rng, visit);
            }
            Set::Paged(paged) if !paged.is_whole() => {
                let mut pool = paged.pool(count).unwrap_or_default();
                choose(&mut pool, count, rng);
                pool.iter().for_each(|field| visit(Item::Bytes(field.key())));
            }
            Set::Paged(paged) if count.saturating_mul(WALK_FROM) < paged.len() => {
                draw_different(paged.all(), count, rng, visit);
            }
            _ => {
                let mut chosen = Selection::new(count, self.len());
                self.iter().filter(|_| chosen.takes(rng)).for_each(&mut visit);
            }
        }
    }

    /// Removes and returns a member.
    pub fn pop(&mut self, rng: &mut Rng) -> Option<Vec<u8>> {
        if let Set::Table(table) = self {
            return table.remove_random(rng).map(|field| field.key().to_vec());
        }
        let member = self.random(rng)?.to_vec();
        self.remove(&member);
        Some(member)
    }

    /// Removes and returns `count` members, or all if there are no more.
    pub fn pop_many(&mut self, count: usize, rng: &mut Rng, limits: &Limits) -> Vec<Vec<u8>> {
        let count = count.min(self.len());
        let left = self.len() - count;
        match self {
            // What the store has of it is told by what goes.
            Set::Paged(_) => {
                let mut popped = Vec::with_capacity(count);
                self.sample(count, rng, |member| popped.push(member.to_vec()));
                popped.iter().for_each(|member| {
                    self.remove(member);
                });
                popped
            }
            Set::Table(_) if left.saturating_mul(ANEW_BELOW) > count => {
                (0..count).filter_map(|_| self.pop(rng)).collect()
            }
            Set::Table(_) => {
                let mut kept = Set::packed();
                self.sample(left, rng, |member| {
                    kept.add_item(member, limits);
                });
                let gone = self.iter().filter(|member| !kept.contains_item(*member));
                let popped = gone.map(|member| member.to_vec()).collect();
                *self = kept;
                popped
            }
            Set::Ints(_) | Set::Packed(_) => self.split_off(count, rng),
        }
    }

    /// Takes members out of a small encoding, in one walk.
    fn split_off(&mut self, count: usize, rng: &mut Rng) -> Vec<Vec<u8>> {
        let mut chosen = Selection::new(count, self.len());
        let mut popped = Vec::with_capacity(count);
        let (mut ints, mut packed) = (Intset::new(), Listpack::new());
        for member in self.iter() {
            match (&self, member) {
                _ if chosen.takes(rng) => popped.push(member.to_vec()),
                (Set::Ints(_), Item::Int(number)) => {
                    ints.add(number);
                }
                (_, Item::Int(number)) => packed.push_back_int(number),
                (_, Item::Bytes(text)) => packed.push_back(text),
            }
        }
        *self = match self {
            Set::Ints(_) => Set::Ints(ints),
            _ => Set::Packed(packed),
        };
        popped
    }
}

/// Draws members until `count` different ones have come. `count` must be well below the number of members.
fn draw_different<'a>(table: &'a Table, count: usize, rng: &mut Rng, mut visit: impl FnMut(Item<'a>)) {
    // A member of a table that does not change is known by where it stands.
    let mut drawn: HashSet<*const u8, foldhash::fast::RandomState> = HashSet::default();
    while drawn.len() < count {
        let Some(field) = table.random(rng) else { return };
        let member = field.key();
        if drawn.insert(member.as_ptr()) {
            visit(Item::Bytes(member));
        }
    }
}

/// Chooses a given number out of items that come one by one, of which the number is known: each is taken with the
/// chance `still wanted / still to come` (Knuth's algorithm S).
struct Selection {
    wanted: usize,
    to_come: usize,
}

impl Selection {
    fn new(wanted: usize, items: usize) -> Selection {
        Selection {
            wanted: wanted.min(items),
            to_come: items,
        }
    }

    fn takes(&mut self, rng: &mut Rng) -> bool {
        let takes = self.to_come > 0 && rng.usize(0..self.to_come) < self.wanted;
        self.to_come = self.to_come.saturating_sub(1);
        self.wanted -= usize::from(takes);
        takes
    }
}
