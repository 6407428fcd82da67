//! What others have left for a client, in order, until its connection writes it.
//!
//! When it does is for `net::gather` to say.
//!
//! Small messages are copied one behind the other, because that costs less than to share them: a copy of a hundred
//! bytes is nothing beside the count of sharers that every delivery and every write would have to change, and the
//! connection would copy them all the same, to write them at once. Large ones are shared.

use bytes::Bytes;

/// A message up to this is copied.
const COPY_MOST: usize = 2 << 10;
/// Memory that an empty inbox keeps. There are many, and they mostly wait.
const KEEP_BYTES: usize = 2 << 10;
/// Memory that the first message takes; then four times as much, because growing costs more than a message.
const FIRST_BYTES: usize = 512;
const GROWTH: usize = 4;

/// A message for any number of inboxes.
pub enum Parcel {
    Small(Vec<u8>),
    Large(Bytes),
}

impl Parcel {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Parcel::Small(bytes) => bytes,
            Parcel::Large(bytes) => bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }
}

impl From<Vec<u8>> for Parcel {
    fn from(bytes: Vec<u8>) -> Parcel {
        match bytes.len() {
            0..=COPY_MOST => Parcel::Small(bytes),
            _ => Parcel::Large(Bytes::from(bytes)),
        }
    }
}

#[derive(Default)]
pub struct Inbox {
    copied: Vec<u8>,
    /// Large messages, and how many copied bytes come before each.
    shared: Vec<(usize, Bytes)>,
    messages: usize,
}

impl Inbox {
    pub fn push(&mut self, message: &Parcel) {
        self.messages += 1;
        match message {
            Parcel::Small(bytes) => {
                let free = self.copied.capacity() - self.copied.len();
                if free < bytes.len() {
                    self.grow(bytes.len());
                }
                self.copied.extend_from_slice(bytes);
            }
            Parcel::Large(bytes) => self.shared.push((self.copied.len(), bytes.clone())),
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        let wanted = (self.copied.capacity() * GROWTH).max(FIRST_BYTES);
        let wanted = wanted.max(self.copied.len() + bytes);
        self.copied.reserve_exact(wanted - self.copied.len());
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages
    }

    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// There are no large messages between others.
    pub fn is_one_part(&self) -> bool {
        self.shared.is_empty()
    }

    /// Everything, in order; small messages together in one part.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.shared.iter().map(|(at, _)| *at));
        let ends = self.shared.iter().map(|(at, _)| *at).chain([self.copied.len()]);
        let large = self.shared.iter().map(|(_, bytes)| &bytes[..]);
        let runs = starts.zip(ends).map(|(from, to)| &self.copied[from..to]);
        runs.zip(large.chain([&[][..]]))
            .flat_map(|(run, large)| [run, large])
            .filter(|part| !part.is_empty())
    }

    /// Forgets everything, and keeps some memory for what comes next.
    pub fn clear(&mut self) {
        self.messages = 0;
        self.shared = Vec::new();
        if self.copied.capacity() > KEEP_BYTES {
            self.copied = Vec::new();
        }
        self.copied.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_all_sizes_stay_in_order() {
        let mut inbox = Inbox::default();
        let mut all = Vec::new();
        for (size, letter) in [
            (3, b'a'),
            (5, b'b'),
            (COPY_MOST + 1, b'c'),
            (4_000, b'd'),
            (1, b'e'),
            (2, b'f'),
        ] {
            let message = Parcel::from(vec![letter; size]);
            all.extend_from_slice(message.bytes());
            inbox.push(&message);
        }
        assert_eq!(inbox.len(), 6);
        assert_eq!(
            inbox.parts().map(<[u8]>::len).collect::<Vec<_>>(),
            [8, COPY_MOST + 1, 4_000, 3]
        );
        assert_eq!(inbox.parts().collect::<Vec<_>>().concat(), all);
        assert!(!inbox.is_one_part());
        inbox.clear();
        assert!(inbox.is_one_part());
        assert!(inbox.is_empty() && inbox.parts().next().is_none());
        assert!(inbox.copied.capacity() <= KEEP_BYTES);
    }
}
