//! `DEBUG DIGEST`: a digest of a value as Redis computes it, so that the data of both can be compared.
//!
//! What stands in an order (a key, the elements of a list, the entries of a stream) is mixed in one after the other;
//! what has none (members, fields, keys) is hashed by itself and combined by exclusive or.

use crate::keyspace::Entry;
use crate::object::list::Side;
use crate::object::listpack::Item;
use crate::object::{Native, Object};
use crate::resp::number::{F64Text, format_f64};
use sha1::{Digest as _, Sha1};

#[derive(Clone, Copy, Default)]
pub struct Digest(pub [u8; 20]);

impl Digest {
    /// Adds something whose place among others does not matter.
    pub fn xor(&mut self, bytes: &[u8]) {
        let hash = Sha1::digest(bytes);
        self.0.iter_mut().zip(hash).for_each(|(byte, hash)| *byte ^= hash);
    }

    /// Adds something whose place matters.
    pub fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    /// Adds a value, and whether its key expires.
    pub fn mix_value(&mut self, entry: &Entry) {
        self.mix(&type_number(entry).to_be_bytes());
        match entry.object() {
            None => self.mix(entry.value()),
            Some(object) => self.mix_object(object),
        }
        if entry.expiry().is_some() {
            self.xor(b"!!expire!!");
        }
    }

    fn mix_object(&mut self, object: &Object) {
        let mut text = Vec::new();
        match object {
            Object::List(list) => list
                .walk(Side::Front, 0)
                .for_each(|item| self.mix(bytes(item, &mut text))),
            Object::Set(set) => set.iter().for_each(|item| self.xor(bytes(item, &mut text))),
            Object::SortedSet(set) => set.visit(0..set.len(), false, |member, score| {
                let mut element = Digest::default();
                element.mix(member);
                element.mix(format_f64(score, &mut F64Text::default()));
                self.xor(&element.0);
            }),
            Object::Hash(hash) => {
                hash.each(|pair| {
                    let mut element = Digest::default();
                    element.mix(bytes(pair.field, &mut text));
                    element.mix(bytes(pair.value, &mut text));
                    self.xor(&element.0);
                });
            }
            Object::Stream(stream) => stream.log().iter().for_each(|entry| {
                self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                for (field, value) in entry.fields {
                    self.mix(bytes(field, &mut text));
                    self.mix(bytes(value, &mut text));
                }
            }),
        }
    }

    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The number that Redis gives the type.
fn type_number(entry: &Entry) -> u32 {
    match entry.object() {
        None => 0,
        Some(Object::List(_)) => 1,
        Some(Object::Set(_)) => 2,
        Some(Object::SortedSet(_)) => 3,
        Some(Object::Hash(_)) => 4,
        Some(Object::Stream(_)) => 6,
    }
}

/// The text of an element.
fn bytes<'a>(item: Item<'_>, text: &'a mut Vec<u8>) -> &'a [u8] {
    text.clear();
    item.write(text);
    text
}
