//! A message on its way to many clients: encoded once for each protocol, and shared from then on.

use crate::resp::{Protocol, Reply};
use bytes::Bytes;
use std::cell::OnceCell;

/// Room for a length and line ends.
const FRAME_BYTES: usize = 12;

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
            let bytes: usize = self.words.iter().map(|word| word.len()).sum();
            let mut reply = Reply::with_capacity(protocol, bytes + FRAME_BYTES * (1 + self.words.len()));
            reply.push(self.words.len());
            self.words.iter().for_each(|word| reply.bulk(word));
            Bytes::from(reply.take())
        })
    }
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
