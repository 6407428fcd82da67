//! Ids of stream entries: a time in milliseconds and a number within it, ordered.

use std::fmt;

/// `ms-seq`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl StreamId {
    pub const ZERO: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    pub fn is_zero(self) -> bool {
        self == StreamId::ZERO
    }

    /// The id that follows; none behind the last.
    pub fn next(self) -> Option<StreamId> {
        let wide = self.wide().checked_add(1)?;
        Some(StreamId::from_wide(wide))
    }

    /// The id before; none before the first.
    pub fn prev(self) -> Option<StreamId> {
        let wide = self.wide().checked_sub(1)?;
        Some(StreamId::from_wide(wide))
    }

    fn wide(self) -> u128 {
        u128::from(self.ms) << 64 | u128::from(self.seq)
    }

    fn from_wide(wide: u128) -> StreamId {
        StreamId::new((wide >> 64) as u64, wide as u64)
    }

    /// Its text, into `buffer`.
    pub fn format(self, buffer: &mut IdText) -> &[u8] {
        let mut digits = itoa::Buffer::new();
        let mut len = 0;
        let mut put = |text: &[u8]| {
            buffer[len..len + text.len()].copy_from_slice(text);
            len += text.len();
        };
        put(digits.format(self.ms).as_bytes());
        put(b"-");
        put(digits.format(self.seq).as_bytes());
        &buffer[..len]
    }

    /// Both halves in big-endian order, as Redis stores ids: the order of bytes is that of ids.
    pub fn to_bytes(self) -> [u8; 16] {
        self.wide().to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> StreamId {
        StreamId::from_wide(u128::from_be_bytes(bytes))
    }
}

/// Room for the longest id's text.
pub type IdText = [u8; 41];

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_carry_into_the_milliseconds() {
        let id = StreamId::new;
        assert_eq!(id(1, u64::MAX).next(), Some(id(2, 0)));
        assert_eq!(id(2, 0).prev(), Some(id(1, u64::MAX)));
        assert_eq!(id(5, 5).next(), Some(id(5, 6)));
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(StreamId::ZERO.prev(), None);
    }

    #[test]
    fn texts_and_bytes_are_those_of_both_halves() {
        let mut text = [0; 41];
        assert_eq!(StreamId::new(15, 3).format(&mut text), b"15-3");
        let longest = StreamId::MAX.to_string();
        assert_eq!(StreamId::MAX.format(&mut text), longest.as_bytes());
        assert_eq!(longest.len(), text.len());
        let id = StreamId::new(1, 0x0203);
        assert_eq!(id.to_bytes()[7], 1);
        assert_eq!(id.to_bytes()[14..], [2, 3]);
        assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
    }
}
