//! Sets from stored forms.

use super::super::intset::Intset;
use super::super::listpack::Listpack;
use super::{Set, ints_most};
use crate::object::Limits;

impl Set {
    /// The set of these integers.
    pub fn from_intset(members: Intset, limits: &Limits) -> Set {
        let fits = members.len() <= ints_most(limits);
        let mut set = Set::Ints(members);
        if !fits {
            set.make_table(limits);
        }
        set
    }

    /// The set of these members, which are distinct. Only their number is held against the limits, as in Redis.
    pub fn from_listpack(members: Listpack, limits: &Limits) -> Set {
        let fits = members.len() <= limits.set_max_listpack_entries;
        let mut set = Set::Packed(members);
        if !fits {
            set.make_table(limits);
        }
        set
    }
}
