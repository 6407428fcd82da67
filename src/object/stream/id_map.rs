//! Values in the order of stream ids, densely packed: for entries that come nearly always at the end, and leave nearly
//! always at the front.
//!
//! ```text
//! chunks:  [ (id, value) (id, value) … ]  [ … ]  [ … ]      each sorted, never empty, at most CHUNK_BYTES long
//! ```
//!
//! Appending and taking from the front touch one chunk and move no other. Elsewhere an insertion moves what follows
//! in its chunk, and cuts a full one in two. The list of chunks is itself small: one item for about a hundred values.

use super::super::size_class;
use super::id::StreamId;
use std::collections::VecDeque;

/// Bytes of a full chunk.
const CHUNK_BYTES: usize = 4096;

#[derive(Clone)]
pub struct IdMap<V> {
    chunks: VecDeque<Vec<(StreamId, V)>>,
    len: usize,
    /// Bytes of all chunks, as the allocator rounds them.
    chunk_bytes: usize,
}

/// A place between or on items: chunk and item in it. Behind the last item it is the end of the last chunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    chunk: usize,
    item: usize,
}

impl<V> Default for IdMap<V> {
    fn default() -> IdMap<V> {
        IdMap {
            chunks: VecDeque::new(),
            len: 0,
            chunk_bytes: 0,
        }
    }
}

impl<V> IdMap<V> {
    const ITEM: usize = size_of::<(StreamId, V)>();
    const CHUNK_MAX: usize = CHUNK_BYTES / Self::ITEM;

    pub fn len(&self) -> usize {
        self.len
    }

    /// Heap bytes in use, without those of the values themselves.
    pub fn bytes(&self) -> usize {
        let list = self.chunks.capacity() * size_of::<Vec<(StreamId, V)>>();
        self.chunk_bytes + size_class(list)
    }

    fn bytes_of(chunk: &Vec<(StreamId, V)>) -> usize {
        size_class(chunk.capacity() * Self::ITEM)
    }

    /// Number of the chunk that holds an id, or would: the last one that does not begin behind it.
    fn chunk_of(&self, id: StreamId) -> usize {
        let begins_behind = |chunk: &Vec<(StreamId, V)>| chunk[0].0 > id;
        match self.chunks.back() {
            None => 0,
            Some(last) if !begins_behind(last) => self.chunks.len() - 1,
            _ => self
                .chunks
                .partition_point(|chunk| !begins_behind(chunk))
                .saturating_sub(1),
        }
    }

    /// Where an id is, or else the place before which it belongs.
    fn search(&self, id: StreamId) -> Result<Place, Place> {
        let chunk = self.chunk_of(id);
        let Some(items) = self.chunks.get(chunk) else {
            return Err(Place { chunk: 0, item: 0 });
        };
        match items.last() {
            Some((last, _)) if *last < id => Err(Place {
                chunk,
                item: items.len(),
            }),
            _ => items
                .binary_search_by_key(&id, |(id, _)| *id)
                .map(|item| Place { chunk, item })
                .map_err(|item| Place { chunk, item }),
        }
    }

    fn at(&self, place: Place) -> Option<(StreamId, &V)> {
        let (id, value) = self.chunks.get(place.chunk)?.get(place.item)?;
        Some((*id, value))
    }

    pub fn get(&self, id: StreamId) -> Option<&V> {
        let place = self.search(id).ok()?;
        self.at(place).map(|(_, value)| value)
    }

    /// To change a value in place.
    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut V> {
        let place = self.search(id).ok()?;
        Some(&mut self.chunks[place.chunk][place.item].1)
    }

    pub fn first(&self) -> Option<(StreamId, &V)> {
        self.at(Place { chunk: 0, item: 0 })
    }

    pub fn last(&self) -> Option<(StreamId, &V)> {
        let (id, value) = self.chunks.back()?.last()?;
        Some((*id, value))
    }

    pub fn last_mut(&mut self) -> Option<(StreamId, &mut V)> {
        let (id, value) = self.chunks.back_mut()?.last_mut()?;
        Some((*id, value))
    }

    /// The item with the greatest id that is not behind `id`.
    pub fn floor(&self, id: StreamId) -> Option<(StreamId, &V)> {
        let items = self.chunks.get(self.chunk_of(id))?;
        let at = items.partition_point(|(other, _)| *other <= id).checked_sub(1)?;
        let (id, value) = &items[at];
        Some((*id, value))
    }

    /// Puts a value under an id; returns the one that was there.
    pub fn insert(&mut self, id: StreamId, value: V) -> Option<V> {
        let place = match self.search(id) {
            Ok(place) => {
                let old = &mut self.chunks[place.chunk][place.item].1;
                return Some(std::mem::replace(old, value));
            }
            Err(place) => self.with_room(place),
        };
        let chunk = &mut self.chunks[place.chunk];
        let before = Self::bytes_of(chunk);
        if chunk.len() == chunk.capacity() {
            // Twice as much, but never more than a chunk can hold.
            let more = chunk.len().clamp(1, Self::CHUNK_MAX - chunk.len());
            chunk.reserve_exact(more);
        }
        chunk.insert(place.item, (id, value));
        self.chunk_bytes += Self::bytes_of(chunk) - before;
        self.len += 1;
        None
    }

    /// The place for a new item, in a chunk that has room for it.
    fn with_room(&mut self, place: Place) -> Place {
        let chunks = self.chunks.len();
        let Some(chunk) = self.chunks.get_mut(place.chunk) else {
            self.chunks.reserve_exact(1);
            self.chunks.push_back(Vec::new());
            return Place { chunk: 0, item: 0 };
        };
        if chunk.len() < Self::CHUNK_MAX {
            return place;
        }
        if place.item == chunk.len() && place.chunk + 1 == chunks {
            self.chunks.push_back(Vec::new());
            return Place {
                chunk: place.chunk + 1,
                item: 0,
            };
        }
        let half = chunk.len() / 2;
        let before = Self::bytes_of(chunk);
        let behind = chunk.split_off(half);
        self.chunk_bytes += Self::bytes_of(chunk) + Self::bytes_of(&behind) - before;
        self.chunks.insert(place.chunk + 1, behind);
        match place.item.checked_sub(half) {
            Some(item) if item > 0 => Place {
                chunk: place.chunk + 1,
                item,
            },
            _ => place,
        }
    }

    pub fn remove(&mut self, id: StreamId) -> Option<V> {
        let place = self.search(id).ok()?;
        let chunk = &mut self.chunks[place.chunk];
        let before = Self::bytes_of(chunk);
        let (_, value) = chunk.remove(place.item);
        if chunk.len() < chunk.capacity() / 4 {
            chunk.shrink_to(chunk.len() * 2);
        }
        let is_empty = chunk.is_empty();
        let after = if is_empty { 0 } else { Self::bytes_of(chunk) };
        self.chunk_bytes = self.chunk_bytes + after - before;
        if is_empty {
            self.chunks.remove(place.chunk);
            if self.chunks.len() < self.chunks.capacity() / 4 {
                self.chunks.shrink_to(self.chunks.len() * 2);
            }
        }
        self.len -= 1;
        Some(value)
    }

    /// Every item in order.
    pub fn iter(&self) -> Range<'_, V> {
        self.range(StreamId::ZERO, StreamId::MAX)
    }

    /// Items from one id to another, both included.
    pub fn range(&self, from: StreamId, to: StreamId) -> Range<'_, V> {
        let front = self.search(from).unwrap_or_else(|place| place);
        let back = match self.search(to) {
            Ok(place) => Place {
                item: place.item + 1,
                ..place
            },
            Err(place) => place,
        };
        Range {
            map: self,
            front,
            back: back.max(front),
        }
    }

    /// Items from the greatest id that is not behind `from`, or the first one, up to `to` included.
    pub fn range_from_floor(&self, from: StreamId, to: StreamId) -> Range<'_, V> {
        let from = self.floor(from).map_or(from, |(id, _)| id);
        self.range(from, to)
    }
}

/// Items from both ends.
pub struct Range<'a, V> {
    map: &'a IdMap<V>,
    front: Place,
    /// Behind the last item that is still to come.
    back: Place,
}

impl<V> Range<'_, V> {
    /// Nothing more is wanted.
    pub fn end(&mut self) {
        self.back = self.front;
    }
}

impl<V> Clone for Range<'_, V> {
    fn clone(&self) -> Self {
        Range { ..*self }
    }
}

impl<'a, V> Iterator for Range<'a, V> {
    type Item = (StreamId, &'a V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while self.front < self.back {
            if let Some(item) = self.map.at(self.front) {
                self.front.item += 1;
                return Some(item);
            }
            self.front = Place {
                chunk: self.front.chunk + 1,
                item: 0,
            };
        }
        None
    }
}

impl<V> DoubleEndedIterator for Range<'_, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        while self.front < self.back {
            if let Some(item) = self.back.item.checked_sub(1) {
                self.back.item = item;
                return self.map.at(self.back);
            }
            let chunk = self.back.chunk.checked_sub(1)?;
            self.back = Place {
                chunk,
                item: self.map.chunks[chunk].len(),
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn check(map: &IdMap<u32>, model: &BTreeMap<StreamId, u32>) {
        assert_eq!(map.len(), model.len());
        assert!(map.iter().eq(model.iter().map(|(id, value)| (*id, value))));
        assert!(
            map.iter()
                .rev()
                .eq(model.iter().rev().map(|(id, value)| (*id, value)))
        );
        let bytes: usize = map.chunks.iter().map(IdMap::bytes_of).sum();
        assert_eq!(map.chunk_bytes, bytes);
        assert!(map.chunks.iter().all(|chunk| !chunk.is_empty()));
        assert_eq!(
            map.first().map(|item| item.0),
            model.first_key_value().map(|item| *item.0)
        );
        assert_eq!(
            map.last().map(|item| item.0),
            model.last_key_value().map(|item| *item.0)
        );
    }

    #[test]
    fn agrees_with_a_tree_whatever_the_order_of_insertion() {
        for seed in 0..12 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut map, mut model) = (IdMap::default(), BTreeMap::new());
            let spread = [40, 3000, 100_000][seed as usize % 3];
            for step in 0..6000u64 {
                let id = match seed % 4 {
                    0 => StreamId::new(step / 3, step % 3),
                    1 => StreamId::new(100_000 - step, 7),
                    _ => StreamId::new(rng.u64(..spread), rng.u64(..2)),
                };
                let shrink = step > 4000;
                match rng.u32(..10) {
                    0..=2 if !shrink => {
                        assert_eq!(map.insert(id, step as u32), model.insert(id, step as u32))
                    }
                    3..=5 if !shrink => assert_eq!(map.insert(id, 1), model.insert(id, 1)),
                    6 => assert_eq!(map.remove(id), model.remove(&id)),
                    7 => {
                        let first = model.first_key_value().map(|item| *item.0).unwrap_or_default();
                        assert_eq!(map.remove(first), model.remove(&first));
                    }
                    _ if shrink && !model.is_empty() => {
                        let any = *model.keys().nth(rng.usize(..model.len())).unwrap();
                        assert_eq!(map.remove(any), model.remove(&any));
                    }
                    _ => {
                        assert_eq!(map.get(id), model.get(&id));
                        let floor = model.range(..=id).next_back();
                        assert_eq!(map.floor(id), floor.map(|(id, value)| (*id, value)));
                    }
                }
                if step % 97 == 0 {
                    check(&map, &model);
                    let (a, b) = (id, StreamId::new(rng.u64(..spread), 0));
                    let expected: Vec<StreamId> = match a <= b {
                        true => model.range(a..=b).map(|item| *item.0).collect(),
                        false => Vec::new(),
                    };
                    assert!(map.range(a, b).map(|item| item.0).eq(expected.iter().copied()));
                    assert!(
                        map.range(a, b)
                            .rev()
                            .map(|item| item.0)
                            .eq(expected.iter().rev().copied())
                    );
                }
            }
            check(&map, &model);
        }
    }

    #[test]
    fn both_ends_of_a_range_meet() {
        let mut map = IdMap::default();
        (0..1000).for_each(|ms| assert!(map.insert(StreamId::new(ms, 0), ()).is_none()));
        let mut range = map.range(StreamId::new(10, 0), StreamId::new(990, 0));
        let mut met = 0;
        while let (Some(front), Some(back)) = (range.next(), range.next_back()) {
            assert!(front.0 < back.0);
            met += 2;
        }
        assert!(met >= 980);
        assert!(range.next().is_none() && range.next_back().is_none());
    }

    #[test]
    fn items_at_the_end_are_packed_without_slack() {
        let mut map = IdMap::default();
        (0..100_000).for_each(|ms| assert!(map.insert(StreamId::new(ms, 0), ()).is_none()));
        assert!(map.bytes() < 100_000 * 17, "{}", map.bytes());
    }
}
