//! What one client has subscribed to: the other side of the bitsets of the keys.
//!
//! Channels are the numbers of their records in a bitmap, two bytes each or less; a client in ten thousand rooms costs
//! about as much for them as the names of two hundred.

use super::channel::Channel;
use crate::keyspace::records::Kind;
use crate::keyspace::subscribers::bitmap_bytes;
use roaring::RoaringBitmap;
use std::collections::HashSet;
use std::collections::hash_set::{self, Iter};

/// A set of names that knows how long they are together.
#[derive(Clone, Default)]
pub(super) struct Names {
    set: HashSet<Box<[u8]>>,
    bytes: usize,
}

impl Names {
    pub fn insert(&mut self, name: Box<[u8]>) {
        let len = name.len();
        if self.set.insert(name) {
            self.bytes += len;
        }
    }

    pub fn remove(&mut self, name: &[u8]) {
        if self.set.remove(name) {
            self.bytes -= name.len();
        }
    }

    pub fn len(&self) -> usize {
        self.set.len()
    }

    pub fn iter(&self) -> Iter<'_, Box<[u8]>> {
        self.set.iter()
    }

    /// A close estimate of the bytes in use.
    fn bytes(&self) -> usize {
        self.bytes + 2 * self.len() * size_of::<Box<[u8]>>()
    }
}

impl IntoIterator for Names {
    type Item = Box<[u8]>;
    type IntoIter = hash_set::IntoIter<Box<[u8]>>;

    fn into_iter(self) -> Self::IntoIter {
        self.set.into_iter()
    }
}

pub struct Subscriptions {
    /// The client's number in the bitsets.
    pub(super) number: u32,
    /// Records of channels.
    pub(super) channels: RoaringBitmap,
    pub(super) shard_channels: RoaringBitmap,
    /// Channels that are not of messages, by their whole names.
    pub(super) names: Names,
    pub(super) patterns: Names,
}

impl Subscriptions {
    pub(super) fn new(number: u32) -> Subscriptions {
        Subscriptions {
            number,
            channels: RoaringBitmap::new(),
            shard_channels: RoaringBitmap::new(),
            names: Names::default(),
            patterns: Names::default(),
        }
    }

    pub fn channels(&self) -> usize {
        self.channels.len() as usize + self.names.len()
    }

    pub fn shard_channels(&self) -> usize {
        self.shard_channels.len() as usize
    }

    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    pub fn pattern_names(&self) -> Vec<Box<[u8]>> {
        self.patterns.iter().cloned().collect()
    }

    /// The keys whose values are subscribed to, and the channels of those.
    pub fn watched_values(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let of = |name: &[u8]| match Channel::of(name) {
            Channel::Key(topic) if topic.kind == Kind::Values => Some((topic.key.to_vec(), name.to_vec())),
            _ => None,
        };
        self.names.iter().filter_map(|name| of(name)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.channels() + self.shard_channels() + self.patterns() == 0
    }

    /// A close estimate of the bytes in use.
    pub fn bytes(&self) -> usize {
        let bitmaps = bitmap_bytes(&self.channels) + bitmap_bytes(&self.shard_channels);
        size_of::<Subscriptions>() + bitmaps + self.names.bytes() + self.patterns.bytes()
    }
}
