//! The native values: semantics and encodings, one file per type, and the codec that all of them share.
//!
//! Strings live inside their entry; what is done to their bytes stands in the command family, and what is stored of
//! them in `codec`.

pub mod codec;
pub mod intset;
pub mod listpack;

/// The allocator's size class for `len` bytes: four classes per doubling above 128 bytes, multiples of 16 below.
pub fn size_class(len: usize) -> usize {
    if len <= 128 {
        return len.next_multiple_of(16);
    }
    let step = (len - 1).ilog2().saturating_sub(2);
    len.next_multiple_of(1 << step)
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
