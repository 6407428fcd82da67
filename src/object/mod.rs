//! The native values: semantics and encodings, one file or folder per type, and the codec that all of them share.
//!
//! A value knows nothing of keys, locks, effects or replies. Its encodings (packed for small, tables and trees for
//! large) are its own affair: no command sees them but by the name that `OBJECT ENCODING` asks for.
//!
//! Strings live inside their entry; what is done to their bytes stands in the command family, and what is stored of
//! them in `codec`.

pub mod codec;
pub mod dict;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod intervals;
pub mod intset;
pub mod list;
pub mod listpack;
pub mod ordered;
pub mod paged;
pub mod pages;
pub mod set;
pub mod sorted_set;
pub mod stream;
pub mod window;

pub use hash::Hash;
pub use list::List;
use pages::{Kind, Pages, Summary};
pub use set::Set;
pub use sorted_set::SortedSet;
pub use stream::Stream;

/// Thresholds at which values change their encoding, as the configuration directives of these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub hash_max_listpack_entries: usize,
    pub hash_max_listpack_value: usize,
    pub set_max_intset_entries: usize,
    pub set_max_listpack_entries: usize,
    pub set_max_listpack_value: usize,
    pub zset_max_listpack_entries: usize,
    pub zset_max_listpack_value: usize,
    /// -1 to -5 are 4 to 64 kB a node; positive numbers are elements.
    pub list_max_listpack_size: i64,
    /// 0 is no limit.
    pub stream_node_max_bytes: usize,
    pub stream_node_max_entries: usize,
    pub hll_sparse_max_bytes: usize,
    /// Seeds the hash tables of large values: the same for as long as the server runs, so that a value which is sealed
    /// and loaded again is scanned in the same order. The keyspace puts its own here.
    pub hash_seed: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            list_max_listpack_size: -2,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            hll_sparse_max_bytes: 3000,
            hash_seed: 0,
        }
    }
}

/// A type of values.
pub trait Native: Sized + Clone + Send + Sync {
    /// As `TYPE` gives it.
    const NAME: &'static str;
    /// The smallest encoding, without elements.
    fn empty() -> Self;
    /// Elements.
    fn len(&self) -> usize;
    /// Without elements: its key goes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Heap bytes in use, as the allocator rounds them. Takes constant time.
    fn bytes(&self) -> usize;
    /// As `OBJECT ENCODING` of Redis 7.2 names it.
    fn encoding(&self) -> &'static str;
    /// The value of this type in an object.
    fn of(object: &Object) -> Option<&Self>;
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    fn into_object(self) -> Object;
}

/// Declares `Object` and what is the same for every type of it.
macro_rules! objects {
    ($($type:ident),*) => {
        /// A value of any type but string.
        #[derive(Clone)]
        pub enum Object { $($type($type)),* }

        impl Object {
            /// As `TYPE` gives it.
            pub fn type_name(&self) -> &'static str {
                match self { $(Object::$type(_) => <$type as Native>::NAME),* }
            }

            /// As `OBJECT ENCODING` gives it.
            pub fn encoding(&self) -> &'static str {
                match self { $(Object::$type(value) => value.encoding()),* }
            }

            /// Elements.
            pub fn len(&self) -> usize {
                match self { $(Object::$type(value) => value.len()),* }
            }

            /// Without elements: its key goes. A stream stays.
            pub fn is_empty(&self) -> bool {
                match self { $(Object::$type(value) => Native::is_empty(value)),* }
            }

            /// Heap bytes in use, as the allocator rounds them.
            pub fn bytes(&self) -> usize {
                match self { $(Object::$type(value) => value.bytes()),* }
            }
        }
    };
}

objects!(List, Hash, Set, SortedSet, Stream);

impl Object {
    /// Unix milliseconds: no part of the value expires by itself earlier. Far in the future if none does.
    #[inline]
    pub fn earliest_expiry(&self) -> i64 {
        match self {
            Object::Hash(hash) => hash.earliest_expiry(),
            _ => i64::MAX,
        }
    }

    /// Brings what looking these elements up will touch nearer.
    pub fn prefetch(&self, elements: &[&[u8]]) {
        match self {
            Object::Hash(hash) => hash.prefetch(elements),
            Object::Set(set) => set.prefetch(elements),
            Object::SortedSet(set) => set.prefetch(elements),
            Object::List(_) | Object::Stream(_) => {}
        }
    }

    /// What is known of it as a collection that need not fit memory, if it is one.
    pub fn pages(&self) -> Option<&dyn Pages> {
        match self {
            Object::List(list) => list.pages().map(|pages| pages as &dyn Pages),
            Object::Hash(hash) => hash.pages().map(|pages| pages as &dyn Pages),
            Object::Set(set) => set.pages().map(|pages| pages as &dyn Pages),
            Object::Stream(stream) => stream.is_paged().then_some(stream as &dyn Pages),
            Object::SortedSet(set) => set.pages().map(|pages| pages as &dyn Pages),
        }
    }

    pub fn pages_mut(&mut self) -> Option<&mut dyn Pages> {
        match self {
            Object::List(list) => list.pages_mut().map(|pages| pages as &mut dyn Pages),
            Object::Hash(hash) => hash.pages_mut().map(|pages| pages as &mut dyn Pages),
            Object::Set(set) => set.pages_mut().map(|pages| pages as &mut dyn Pages),
            Object::Stream(stream) => stream.is_paged().then_some(stream as &mut dyn Pages),
            Object::SortedSet(set) => set.pages_mut().map(|pages| pages as &mut dyn Pages),
        }
    }

    /// A paged collection as its row describes it; none if that cannot be read.
    pub fn of_summary(summary: &Summary) -> Option<Object> {
        Some(match summary.kind {
            Kind::Hash => Object::Hash(Hash::of_summary(summary)),
            Kind::Set => Object::Set(Set::of_summary(summary)),
            Kind::List => Object::List(List::of_summary(summary)),
            Kind::Stream => Object::Stream(Stream::of_summary(summary)?),
            Kind::SortedSet => Object::SortedSet(SortedSet::of_summary(summary)),
        })
    }

    pub fn can_be_paged(&self) -> bool {
        match self {
            Object::Hash(hash) => hash.can_be_paged(),
            Object::Set(set) => set.can_be_paged(),
            Object::List(list) => list.can_be_paged(),
            Object::Stream(stream) => stream.can_be_paged(),
            Object::SortedSet(set) => set.can_be_paged(),
        }
    }

    /// Makes a collection paged that can be.
    pub fn page(&mut self, version: u64) {
        match self {
            Object::Hash(hash) => hash.page(version),
            Object::Set(set) => set.page(version),
            Object::List(list) => list.page(version),
            Object::Stream(stream) => stream.page(version),
            Object::SortedSet(set) => set.page(version),
        }
    }

    /// Makes a paged collection one that is kept whole; all of it is in memory.
    pub fn unpage(&mut self) {
        if self.pages().is_none() {
            return;
        }
        match self {
            Object::Hash(hash) => hash.unpage(),
            Object::Set(set) => set.unpage(),
            Object::List(list) => list.unpage(),
            Object::Stream(stream) => stream.unpage(),
            Object::SortedSet(set) => set.unpage(),
        }
    }

    /// Removes at least `most` parts whose expiry has passed at `now_ms`, or all; returns the fields of the hash that
    /// they were.
    pub fn expire(&mut self, now_ms: i64, most: usize) -> Vec<Vec<u8>> {
        match self {
            Object::Hash(hash) => hash.expire(now_ms, most),
            _ => Vec::new(),
        }
    }
}

/// Writes the three conversions that a type's `Native` needs, by the name of its variant.
macro_rules! object_conversions {
    ($type:ident) => {
        fn of(object: &$crate::object::Object) -> Option<&Self> {
            match object {
                $crate::object::Object::$type(value) => Some(value),
                _ => None,
            }
        }

        fn of_mut(object: &mut $crate::object::Object) -> Option<&mut Self> {
            match object {
                $crate::object::Object::$type(value) => Some(value),
                _ => None,
            }
        }

        fn into_object(self) -> $crate::object::Object {
            $crate::object::Object::$type(self)
        }
    };
}
pub(crate) use object_conversions;

/// The allocator's size class for `len` bytes: four classes per doubling above 128 bytes, multiples of 16 below.
#[inline]
pub fn size_class(len: usize) -> usize {
    if len <= 128 {
        return len.next_multiple_of(16);
    }
    let step = (len - 1).ilog2().saturating_sub(2);
    // The next multiple of a power of two, without the division that the compiler would make of it.
    ((len - 1) | ((1 << step) - 1)) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_are_the_allocators() {
        for (len, class) in [
            (1, 16),
            (96, 96),
            (97, 112),
            (129, 160),
            (161, 192),
            (257, 320),
            (4097, 5120),
        ] {
            assert_eq!(size_class(len), class, "{len}");
        }
    }
}
