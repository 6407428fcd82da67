//! A message on its way to many clients: encoded once for each protocol, and shared from then on.

use crate::resp::{Protocol, Reply};
use bytes::Bytes;
use std::cell::OnceCell;

pub struct Message<'a> {
    words: &'a [&'a [u8]],
    resp2: OnceCell<Bytes>,
    resp3: OnceCell<Bytes>,
}

impl<'a> Message<'a> {
    /// A push of these words; nothing is encoded before somebody wants it.
    pub fn new(words: &'a [&'a [u8]]) -> Message<'a> {
        Message {
            words,
            resp2: OnceCell::new(),
            resp3: OnceCell::new(),
        }
    }

    pub fn encoded(&self, protocol: Protocol) -> &Bytes {
        let cell = match protocol {
            Protocol::Resp2 => &self.resp2,
            Protocol::Resp3 => &self.resp3,
        };
        cell.get_or_init(|| {
            // Exactly: what has no room left is shared without another allocation.
            let bulks = self.words.iter().map(|word| bulk_len(word.len()));
            let bytes = head_len(self.words.len()) + bulks.sum::<usize>();
            let mut reply = Reply::with_capacity(protocol, bytes);
            reply.push(self.words.len());
            self.words.iter().for_each(|word| reply.bulk(word));
            debug_assert_eq!(reply.len(), bytes);
            Bytes::from(reply.take())
        })
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
        let message = Message::new(&[b"message", b"c", b"m"]);
        let first = message.encoded(Protocol::Resp2);
        assert_eq!(&first[..], b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n");
        assert_eq!(first.as_ptr(), message.encoded(Protocol::Resp2).as_ptr());
        assert!(message.encoded(Protocol::Resp3).starts_with(b">3\r\n"));
    }
}
