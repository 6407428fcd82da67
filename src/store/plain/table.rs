//! The rows of a generation that takes no more, in memory of our own. RocksDB finds one row at a time, and copies it;
//! here a batch of requests can ask for all its slots together, then for all its rows, and a row is read where it
//! stands, under no lock.
//!
//! ```text
//! shards:  first slot ...        of each shard, from the lowest on that has rows, and the end of the last one's
//! slots:   address ...           a shard has as many as it has rows; a row belongs to the slot that the part of its hash
//!                                is scaled to. Its rows end where those of the next slot begin.
//! rows:    database: 4 bits, length of the key | length of the value | key | value      numbers: 7 bits a byte, low first
//!
//! address: block: 12 bits | byte: 20 bits
//! ```
//!
//! Rows stand in the order of shards and of that part of the hash, so that no slot has to say where its rows end, and
//! the rows of a shard lie side by side. The parts of hashes are spread evenly within a shard, whichever shards a
//! generation has rows of: so a slot has one row on average. A row has neither bucket nor trailer, as in RocksDB's
//! format; it is these four bytes that its slot costs.
//!
//! Rows lie in blocks of a megabyte, so that nothing doubles as it grows; a row does not go over the end of a block,
//! and a larger one has a block of its own.

use super::{Bucket, FRAGMENT_BITS};
use crate::store::StoreError;

const BYTE_BITS: u32 = 20;
const BLOCK: usize = 1 << BYTE_BITS;
const BLOCKS_MOST: usize = 1 << (32 - BYTE_BITS);
const DB_BITS: u32 = 4;

/// The slot of a part of a hash, of so many.
#[inline]
fn scale(fragment: u32, slots: usize) -> usize {
    (fragment as usize * slots) >> FRAGMENT_BITS
}

#[inline]
fn address(block: usize, byte: usize) -> u32 {
    ((block << BYTE_BITS) + byte) as u32
}

fn push_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number_len(number: usize) -> usize {
    (usize::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// Reads a number and moves `at` behind it.
#[inline]
fn number(bytes: &[u8], at: &mut usize) -> usize {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        number |= usize::from(byte & 127) << shift;
        if byte < 128 {
            return number;
        }
        shift += 7;
    }
}

pub struct Table {
    /// The shard that `shards` begins with.
    first: usize,
    shards: Vec<u32>,
    slots: Vec<u32>,
    blocks: Vec<Vec<u8>>,
}

/// A row as it stands in the table.
pub struct TableRow<'a> {
    pub db: u8,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl Table {
    /// The slot that has the row of a key, if there is one; none when nothing of its shard is here.
    #[inline]
    pub fn slot(&self, bucket: Bucket) -> Option<usize> {
        let at = (bucket.shard as usize).checked_sub(self.first)?;
        let (start, end) = (*self.shards.get(at)? as usize, *self.shards.get(at + 1)? as usize);
        (start < end).then(|| start + scale(bucket.fragment, end - start))
    }

    /// Where a slot is; for prefetching.
    #[inline]
    pub fn slot_address(&self, slot: usize) -> *const u8 {
        self.slots.as_ptr().wrapping_add(slot).cast()
    }

    /// Where the first row of a slot is; for prefetching.
    #[inline]
    pub fn row_address(&self, slot: usize) -> Option<*const u8> {
        let at = *self.slots.get(slot)?;
        let block = self.blocks.get((at >> BYTE_BITS) as usize)?;
        Some(block.as_ptr().wrapping_add(at as usize % BLOCK))
    }

    /// The rows of the slot that a key has; few of them have anything to do with it.
    #[inline]
    pub fn rows(&self, bucket: Bucket) -> TableRows<'_> {
        let (at, end) = match self.slot(bucket) {
            Some(slot) => (self.slots[slot], self.slots[slot + 1]),
            None => (0, 0),
        };
        TableRows {
            blocks: &self.blocks,
            at,
            end,
        }
    }

    /// The value in the row of a key.
    #[inline]
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Option<&[u8]> {
        let mut rows = self.rows(bucket);
        rows.find(|row| row.key == key && row.db == bucket.db())
            .map(|row| row.value)
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> u64 {
        let blocks: usize = self.blocks.iter().map(Vec::capacity).sum();
        let numbers = self.shards.capacity() + self.slots.capacity();
        (blocks + numbers * size_of::<u32>() + size_of_val(&self.blocks[..])) as u64
    }
}

/// Walks rows from one address to another.
pub struct TableRows<'a> {
    blocks: &'a [Vec<u8>],
    at: u32,
    end: u32,
}

impl<'a> Iterator for TableRows<'a> {
    type Item = TableRow<'a>;

    #[inline]
    fn next(&mut self) -> Option<TableRow<'a>> {
        while self.at < self.end {
            let (block, mut at) = ((self.at >> BYTE_BITS) as usize, self.at as usize % BLOCK);
            let bytes = &self.blocks[block][..];
            if at == bytes.len() {
                self.at = address(block + 1, 0);
                continue;
            }
            let head = number(bytes, &mut at);
            let value = number(bytes, &mut at);
            let (key, rest) = bytes[at..].split_at(head >> DB_BITS);
            at += key.len() + value;
            // A row in a block of its own may be longer than an address can say.
            self.at = match at == bytes.len() {
                true => address(block + 1, 0),
                false => address(block, at),
            };
            return Some(TableRow {
                db: head as u8 & ((1 << DB_BITS) - 1),
                key,
                value: &rest[..value],
            });
        }
        None
    }
}

/// A table in the making: takes rows in the order of their shards and of the parts of their hashes.
pub struct TableBuilder {
    table: Table,
    /// Rows of the last shard: the parts of their hashes, and their addresses.
    shard: Vec<(u32, u32)>,
    full_bytes: u64,
}

impl TableBuilder {
    /// Of so many rows at the most: memory for their slots is taken at once.
    pub fn new(rows: usize) -> TableBuilder {
        TableBuilder {
            table: Table {
                first: 0,
                shards: Vec::new(),
                slots: Vec::with_capacity(rows + 1),
                blocks: Vec::new(),
            },
            shard: Vec::new(),
            full_bytes: 0,
        }
    }

    pub fn push(&mut self, bucket: Bucket, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.begin_shard(bucket.shard as usize);
        let head = key.len() << DB_BITS | usize::from(bucket.db());
        let len = number_len(head) + number_len(value.len()) + key.len() + value.len();
        let has_room = |block: &Vec<u8>| block.len() + len <= BLOCK;
        if !self.table.blocks.last().is_some_and(has_room) {
            self.begin_block(len)?;
        }
        self.shard.push((bucket.fragment, self.end()));
        // `begin_block` has made one, if there was none.
        if let Some(block) = self.table.blocks.last_mut() {
            push_number(block, head);
            push_number(block, value.len());
            block.extend_from_slice(key);
            block.extend_from_slice(value);
        }
        Ok(())
    }

    /// Where the next row goes, if there is room for it.
    fn end(&self) -> u32 {
        let last = self.table.blocks.len().saturating_sub(1);
        match self.table.blocks.last().map_or(0, Vec::len) {
            full if full >= BLOCK => address(last + 1, 0),
            len => address(last, len),
        }
    }

    fn begin_block(&mut self, least: usize) -> Result<(), StoreError> {
        if self.table.blocks.len() + 1 >= BLOCKS_MOST {
            return Err(StoreError::new("a generation has too many rows for one table"));
        }
        self.cut_block();
        self.table.blocks.push(Vec::with_capacity(least.max(BLOCK)));
        Ok(())
    }

    /// Gives back what the last block has left, if it is much.
    fn cut_block(&mut self) {
        if let Some(block) = self.table.blocks.last_mut() {
            if block.capacity() - block.len() > BLOCK / 32 {
                block.shrink_to_fit();
            }
            self.full_bytes += block.capacity() as u64;
        }
    }

    fn begin_shard(&mut self, shard: usize) {
        let table = &mut self.table;
        if table.shards.is_empty() {
            table.first = shard;
        }
        debug_assert!(
            shard + 1 >= table.first + table.shards.len(),
            "shards come in order"
        );
        if shard - table.first < table.shards.len() {
            return;
        }
        self.end_shard();
        let start = self.table.slots.len() as u32;
        self.table.shards.resize(shard - self.table.first + 1, start);
    }

    /// Makes the slots of the last shard.
    fn end_shard(&mut self) {
        let (count, end) = (self.shard.len(), self.end());
        let mut rows = self.shard.iter().peekable();
        for slot in 0..count {
            while rows
                .next_if(|(fragment, _)| scale(*fragment, count) < slot)
                .is_some()
            {}
            let start = rows.peek().map_or(end, |(_, start)| *start);
            self.table.slots.push(start);
        }
        self.shard.clear();
    }

    pub fn blocks(&self) -> usize {
        self.table.blocks.len()
    }

    /// Bytes of memory that it takes so far.
    pub fn bytes(&self) -> u64 {
        let last = self.table.blocks.last().map_or(0, Vec::len) as u64;
        self.full_bytes + last + (self.table.slots.len() * size_of::<u32>()) as u64
    }

    pub fn finish(mut self) -> Table {
        self.end_shard();
        self.cut_block();
        let end = self.end();
        let mut table = self.table;
        table.shards.push(table.slots.len() as u32);
        table.slots.push(end);
        table.shards.shrink_to_fit();
        table.slots.shrink_to_fit();
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Rows = BTreeMap<(u32, u32), (u8, Vec<u8>, Vec<u8>)>;

    fn bucket(shard: u32, fragment: u32, db: u8) -> Bucket {
        Bucket::new(0, db, (shard, fragment))
    }

    fn build(rows: &Rows) -> Table {
        let mut builder = TableBuilder::new(rows.len());
        for ((shard, fragment), (db, key, value)) in rows {
            builder
                .push(bucket(*shard, *fragment, *db), key, value)
                .expect("room");
        }
        builder.finish()
    }

    fn check(rows: &Rows) {
        let table = build(rows);
        for ((shard, fragment), (db, key, value)) in rows {
            let at = bucket(*shard, *fragment, *db);
            assert_eq!(table.get(at, key), Some(&value[..]), "{shard} {fragment}");
            assert_eq!(
                table.get(bucket(*shard, *fragment, db ^ 1), key),
                None,
                "of another database"
            );
            assert!(table.row_address(table.slot(at).expect("a slot")).is_some());
        }
        let shards: std::collections::BTreeSet<u32> = rows.keys().map(|(shard, _)| *shard).collect();
        for shard in 0..shards.last().map_or(3, |last| last + 3) {
            let mut found = 0;
            for fragment in 0..1 << 10 {
                let fragment = fragment << (FRAGMENT_BITS - 10);
                assert_eq!(table.get(bucket(shard, fragment, 0), b"not there"), None);
                found += table.rows(bucket(shard, fragment, 0)).count();
            }
            assert_eq!(found > 0, shards.contains(&shard));
        }
    }

    #[test]
    fn every_row_is_found_and_nothing_else() {
        let mut rng = fastrand::Rng::with_seed(3);
        for (count, most) in [(0, 1), (1, 1), (40, 100), (900, 300), (60, 700_000)] {
            let mut rows = Rows::new();
            for _ in 0..count {
                let place = (5 + rng.u32(..20) / 3 * 2, rng.u32(..1 << FRAGMENT_BITS));
                let value = vec![rng.u8(..); rng.usize(..most)];
                // Few keys: often it is the database that tells rows of one slot apart.
                rows.insert(place, (rng.u8(..8) * 2, vec![b'k'; rng.usize(..20) * 9], value));
            }
            let mut seen = std::collections::BTreeSet::new();
            rows.retain(|(shard, _), (db, key, _)| seen.insert((*shard, *db, key.clone())));
            check(&rows);
        }
    }

    #[test]
    fn rows_as_large_as_a_block_and_larger_are_whole() {
        let mut rows = Rows::new();
        for (fragment, len) in [
            BLOCK - 9,
            1,
            BLOCK,
            3 * BLOCK,
            BLOCK - 6,
            0,
            BLOCK / 2,
            BLOCK / 2 - 10,
            7,
            2 * BLOCK,
        ]
        .into_iter()
        .enumerate()
        {
            let at = (fragment as u32 % 3, fragment as u32 * 20_000);
            rows.insert(
                at,
                (2, format!("k{fragment}").into_bytes(), vec![fragment as u8; len]),
            );
        }
        check(&rows);
    }

    #[test]
    fn a_row_costs_its_bytes_and_little_more() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut rows = Rows::new();
        while rows.len() < 40_000 {
            let at = (rng.u32(..64), rng.u32(..1 << FRAGMENT_BITS));
            let key = format!("key:{:012}", rows.len()).into_bytes();
            rows.insert(at, (0, key, vec![7; 65]));
        }
        let bytes = build(&rows).bytes() as f64 / rows.len() as f64;
        assert!(bytes < 16.0 + 65.0 + 3.0 + 4.0 + 1.0, "{bytes}");
    }
}
