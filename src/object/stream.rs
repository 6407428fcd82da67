//! Placeholder until the type lands on this branch.

use super::{Native, object_conversions};

#[derive(Clone, Default)]
pub struct Stream(Vec<Vec<u8>>);

impl Native for Stream {
    const NAME: &'static str = "stream";

    fn empty() -> Stream {
        Stream::default()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.len() * 32
    }

    fn encoding(&self) -> &'static str {
        "stream"
    }

    object_conversions!(Stream);
}
