//! A message on its way to many clients: encoded once for each protocol, and shared from then on.

use crate::net::clients::Parcel;
use crate::resp::{Protocol, Reply};
use std::cell::{Cell, OnceCell};

/// A word, which may come in two parts: so the name of a channel need not be put together first.
pub type Word<'a> = (&'a [u8], &'a [u8]);

/// A word in one part.
pub fn word(bytes: &[u8]) -> Word<'_> {
    (bytes, b"")
}

thread_local! {
    /// The memory of an earlier message.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

pub struct Message<'a> {
    words: &'a [Word<'a>],
    resp2: OnceCell<Parcel>,
    resp3: OnceCell<Parcel>,
}

impl<'a> Message<'a> {
    /// A push of these words; nothing is encoded before somebody wants it.
    pub fn new(words: &'a [Word<'a>]) -> Message<'a> {
        Message {
            words,
            resp2: OnceCell::new(),
            resp3: OnceCell::new(),
        }
    }

    pub fn encoded(&self, protocol: Protocol) -> &Parcel {
        let cell = match protocol {
            Protocol::Resp2 => &self.resp2,
            Protocol::Resp3 => &self.resp3,
        };
        cell.get_or_init(|| self.encode(protocol))
    }

    /// Into memory that is there already: this is done for each message.
    fn encode(&self, protocol: Protocol) -> Parcel {
        let bulks = self
            .words
            .iter()
            .map(|(first, rest)| bulk_len(first.len() + rest.len()));
        let bytes = head_len(self.words.len()) + bulks.sum::<usize>();
        let mut buffer = SPARE.take();
        buffer.reserve_exact(bytes);
        let mut reply = Reply::within(protocol, buffer);
        reply.push(self.words.len());
        for (first, rest) in self.words {
            reply.bulk_in_parts(first, rest);
        }
        debug_assert_eq!(reply.len(), bytes);
        Parcel::from(reply.take())
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        for cell in [&mut self.resp2, &mut self.resp3] {
            if let Some(Parcel::Small(mut bytes)) = cell.take() {
                bytes.clear();
                SPARE.set(bytes);
            }
        }
    }
}

/// Bytes of a line that begins with a sign and holds a number.
fn head_len(number: usize) -> usize {
    4 + number.checked_ilog10().unwrap_or(0) as usize
}

fn bulk_len(bytes: usize) -> usize {
    head_len(bytes) + bytes + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_one_copy() {
        let words = [word(b"message"), word(b"c"), word(b"m")];
        let message = Message::new(&words);
        let first = message.encoded(Protocol::Resp2).bytes();
        assert_eq!(first, b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n");
        assert_eq!(first.as_ptr(), message.encoded(Protocol::Resp2).bytes().as_ptr());
        assert!(message.encoded(Protocol::Resp3).bytes().starts_with(b">3\r\n"));
    }

    #[test]
    fn messages_of_all_sizes_are_what_replies_make_of_them() {
        for size in [0, 1, 9, 10, 99, 100, 150, 1_000, 2_000, 3_000, 100_000] {
            let long = vec![b'x'; size];
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let mut reply = Reply::new(protocol);
                let words = [word(b"pmessage"), (b"ab", &long), word(b""), word(&long)];
                reply.push(words.len());
                words
                    .iter()
                    .for_each(|(first, rest)| reply.bulk(&[*first, rest].concat()));
                let message = Message::new(&words);
                assert_eq!(message.encoded(protocol).bytes(), reply.as_slice(), "{size}");
            }
        }
    }
}
