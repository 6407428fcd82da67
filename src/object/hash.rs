//! Placeholder until the type lands on this branch.

use super::{Native, object_conversions};

#[derive(Clone, Default)]
pub struct Hash(Vec<Vec<u8>>);

impl Native for Hash {
    const NAME: &'static str = "hash";

    fn empty() -> Hash {
        Hash::default()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.len() * 32
    }

    fn encoding(&self) -> &'static str {
        "listpack"
    }

    object_conversions!(Hash);
}
