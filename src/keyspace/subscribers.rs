//! A set of client numbers: few of them in place, many as a Roaring bitmap.
//!
//! Clients that subscribe have small dense numbers (`pubsub::numbers`), so a room of 500 costs about two bytes a
//! client, one of half a million 64 KB, and one of up to three nothing beside its record.

use roaring::RoaringBitmap;

/// As many numbers as fit in the space of the pointer to a bitmap and its tag.
const FEW: usize = 3;

pub enum Subscribers {
    /// In no order; the first `len` count.
    Few {
        len: u8,
        numbers: [u32; FEW],
    },
    Many(Box<RoaringBitmap>),
}

const _: () = assert!(size_of::<Subscribers>() == 16);

impl Default for Subscribers {
    fn default() -> Subscribers {
        Subscribers::Few {
            len: 0,
            numbers: [0; FEW],
        }
    }
}

impl Subscribers {
    /// Adds a number; false when it is there already.
    pub fn insert(&mut self, number: u32) -> bool {
        match self {
            Subscribers::Many(many) => many.insert(number),
            Subscribers::Few { len, numbers } => {
                let used = usize::from(*len);
                if numbers[..used].contains(&number) {
                    return false;
                }
                if used < FEW {
                    numbers[used] = number;
                    *len += 1;
                } else {
                    let all = numbers.iter().copied().chain([number]);
                    *self = Subscribers::Many(Box::new(all.collect()));
                }
                true
            }
        }
    }

    /// Takes a number out; false when it is not there.
    pub fn remove(&mut self, number: u32) -> bool {
        match self {
            Subscribers::Many(many) => {
                let removed = many.remove(number);
                // A little below the step up, so that one who comes and goes does not change the form each time.
                if many.len() < FEW as u64 {
                    let few: RoaringBitmap = std::mem::take(many);
                    *self = Subscribers::default();
                    few.iter().for_each(|number| {
                        self.insert(number);
                    });
                }
                removed
            }
            Subscribers::Few { len, numbers } => {
                let used = usize::from(*len);
                let Some(at) = numbers[..used].iter().position(|other| *other == number) else {
                    return false;
                };
                numbers[at] = numbers[used - 1];
                *len -= 1;
                true
            }
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Subscribers::Few { len, .. } => usize::from(*len),
            Subscribers::Many(many) => many.len() as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Subscribers::Few { len, .. } => *len == 0,
            Subscribers::Many(many) => many.is_empty(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let (few, many): (&[u32], _) = match self {
            Subscribers::Few { len, numbers } => (&numbers[..usize::from(*len)], None),
            Subscribers::Many(many) => (&[], Some(many.iter())),
        };
        few.iter().copied().chain(many.into_iter().flatten())
    }

    /// Shows each number; faster than `iter`, which has to look at every step where it is.
    #[inline]
    pub fn for_each(&self, mut show: impl FnMut(u32)) {
        match self {
            Subscribers::Few { len, numbers } => {
                numbers[..usize::from(*len)]
                    .iter()
                    .for_each(|number| show(*number));
            }
            Subscribers::Many(many) => many.iter().for_each(show),
        }
    }

    /// A close estimate of the heap bytes in use.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Subscribers::Few { .. } => 0,
            Subscribers::Many(many) => bitmap_bytes(many),
        }
    }
}

/// A close estimate of the heap bytes of a bitmap.
pub fn bitmap_bytes(bitmap: &RoaringBitmap) -> usize {
    size_of::<RoaringBitmap>() + bitmap.serialized_size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn holds_what_a_set_holds(steps in proptest::collection::vec((any::<bool>(), 0u32..12), 0..200)) {
            let (mut subscribers, mut model) = (Subscribers::default(), BTreeSet::new());
            for (insert, number) in steps {
                let number = number * 9_000;
                if insert {
                    prop_assert_eq!(subscribers.insert(number), model.insert(number));
                } else {
                    prop_assert_eq!(subscribers.remove(number), model.remove(&number));
                }
                prop_assert_eq!(subscribers.len(), model.len());
                prop_assert_eq!(subscribers.is_empty(), model.is_empty());
                let found: BTreeSet<u32> = subscribers.iter().collect();
                prop_assert_eq!(&found, &model);
            }
        }
    }
}
