//! Replies to clients: a buffer that knows RESP2 from RESP3.
//!
//! Whoever writes a reply says what it is (a map, a double, nothing at all); how a client of the older protocol sees
//! that is decided here and nowhere else. Line ends cannot be smuggled into one-line replies by way of an error.

use std::fmt::Display;
use std::io::Write;

use super::number::{F64Text, format_f64};
use super::parser::ProtocolError;

/// Which protocol a client has asked for (`HELLO 2`, `HELLO 3`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Replies, one behind the other, as they will go out.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    buf: Vec<u8>,
    protocol: Protocol,
}

/// An aggregate whose length is not known yet. Give it back to [`Reply::set_deferred`], inner ones before outer ones.
#[must_use = "without its length the reply is not valid"]
#[derive(Debug)]
pub struct Deferred {
    at: usize,
    prefix: u8,
    per_item: usize,
}

impl Reply {
    pub fn new(protocol: Protocol) -> Self {
        Reply {
            buf: Vec::new(),
            protocol,
        }
    }

    /// Behind what is in this memory already.
    pub fn within(protocol: Protocol, buf: Vec<u8>) -> Self {
        Reply { buf, protocol }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Holds for what is written from now on.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    fn resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.buf
    }

    /// Hands the bytes over, and begins anew without memory.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buf)
    }

    /// Begins anew, keeping the memory.
    pub fn clear(&mut self) {
        self.buf.clear();
    }

    /// Bytes that it holds memory for.
    pub fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Takes back what was written since the reply was `len` bytes long.
    pub fn truncate(&mut self, len: usize) {
        self.buf.truncate(len);
    }

    pub fn reserve(&mut self, bytes: usize) {
        self.buf.reserve(bytes);
    }

    /// Bytes that are a reply already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    pub fn ok(&mut self) {
        self.buf.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string. It must have no line end in it.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']));
        self.line(b'+', text.as_bytes());
    }

    /// [`Self::simple`] for a client's bytes, which need not be UTF-8; line ends in them become spaces.
    pub fn simple_bytes(&mut self, text: &[u8]) {
        self.line(b'+', &one_line(text));
    }

    /// An error, with its code in front: `ERR syntax error`. Line ends in it become spaces.
    pub fn error(&mut self, error: impl Display) {
        self.buf.push(b'-');
        let start = self.buf.len();
        // Writing to memory does not fail; an error whose own Display does is sent as far as it came.
        let _ = write!(self.buf, "{error}");
        self.end_error(start);
    }

    /// [`Self::error`] for texts that quote a client's bytes, which need not be UTF-8.
    pub fn error_bytes(&mut self, error: &[u8]) {
        self.buf.push(b'-');
        let start = self.buf.len();
        self.buf.extend_from_slice(error);
        self.end_error(start);
    }

    /// The last reply before the connection is closed.
    pub fn protocol_error(&mut self, error: &ProtocolError) {
        match *error {
            ProtocolError::ExpectedDollar(got) if !got.is_ascii() => {
                let mut text = b"ERR Protocol error: expected '$', got ' '".to_vec();
                let quoted = text.len() - 2;
                text[quoted] = got;
                self.error_bytes(&text);
            }
            _ => self.error(format_args!("ERR {error}")),
        }
    }

    fn end_error(&mut self, start: usize) {
        while self.buf.len() > start && matches!(self.buf.last(), Some(b'\r' | b'\n')) {
            self.buf.pop();
        }
        for byte in &mut self.buf[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.buf.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub fn int(&mut self, value: i64) {
        match value {
            0 => self.buf.extend_from_slice(b":0\r\n"),
            1 => self.buf.extend_from_slice(b":1\r\n"),
            _ => self.line(b':', itoa::Buffer::new().format(value).as_bytes()),
        }
    }

    /// A string of any bytes, in two parts.
    #[inline]
    pub fn bulk_in_parts(&mut self, first: &[u8], rest: &[u8]) {
        self.header(b'$', first.len() + rest.len());
        self.buf.extend_from_slice(first);
        self.buf.extend_from_slice(rest);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// A string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.buf.reserve(bytes.len() + 32);
        self.header(b'$', bytes.len());
        self.buf.extend_from_slice(bytes);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// An integer as a string.
    pub fn bulk_int(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// There is no such value.
    #[inline]
    pub fn null(&mut self) {
        let null: &[u8] = if self.resp3() { b"_\r\n" } else { b"$-1\r\n" };
        self.buf.extend_from_slice(null);
    }

    /// There is nothing where there would be an array.
    pub fn null_array(&mut self) {
        let null: &[u8] = if self.resp3() { b"_\r\n" } else { b"*-1\r\n" };
        self.buf.extend_from_slice(null);
    }

    /// `len` replies follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// `pairs` keys and values follow, in turns.
    pub fn map(&mut self, pairs: usize) {
        let (prefix, per_item) = self.map_form();
        self.header(prefix, pairs * per_item);
    }

    /// `len` replies follow, no two the same.
    pub fn set(&mut self, len: usize) {
        let prefix = self.resp3_prefix(b'~');
        self.header(prefix, len);
    }

    /// `len` replies follow, and together they answer no request.
    pub fn push(&mut self, len: usize) {
        let prefix = self.resp3_prefix(b'>');
        self.header(prefix, len);
    }

    /// An array whose length will be told later.
    pub fn defer_array(&mut self) -> Deferred {
        Deferred {
            at: self.buf.len(),
            prefix: b'*',
            per_item: 1,
        }
    }

    /// A map whose number of pairs will be told later.
    pub fn defer_map(&mut self) -> Deferred {
        let (prefix, per_item) = self.map_form();
        Deferred {
            at: self.buf.len(),
            prefix,
            per_item,
        }
    }

    /// A set whose length will be told later.
    pub fn defer_set(&mut self) -> Deferred {
        Deferred {
            at: self.buf.len(),
            prefix: self.resp3_prefix(b'~'),
            per_item: 1,
        }
    }

    /// Tells the length of a deferred aggregate: elements, or of a map, pairs. What was written since then is moved up
    /// to make room, once.
    pub fn set_deferred(&mut self, deferred: Deferred, len: usize) {
        let end = self.buf.len();
        self.header(deferred.prefix, len * deferred.per_item);
        let header_len = self.buf.len() - end;
        self.buf[deferred.at..].rotate_right(header_len);
    }

    /// A double: `,0.5` in RESP3, a string in RESP2; 17 significant digits as in Redis 7.0.
    pub fn double(&mut self, value: f64) {
        let mut text: F64Text = [0; 32];
        self.double_text(format_f64(value, &mut text));
    }

    /// A double that is text already.
    pub fn double_text(&mut self, text: &[u8]) {
        if self.resp3() {
            self.line(b',', text);
        } else {
            self.bulk(text);
        }
    }

    /// True or false; 1 or 0 in RESP2.
    pub fn bool(&mut self, value: bool) {
        self.buf.extend_from_slice(match (self.resp3(), value) {
            (true, true) => b"#t\r\n",
            (true, false) => b"#f\r\n",
            (false, true) => b":1\r\n",
            (false, false) => b":0\r\n",
        });
    }

    /// Text for people, with its format in three letters (`txt`, `mkd`); a string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        if !self.resp3() {
            return self.bulk(text);
        }
        self.buf.reserve(text.len() + 32);
        self.header(b'=', text.len() + 4);
        self.buf.extend_from_slice(format.as_bytes());
        self.buf.push(b':');
        self.buf.extend_from_slice(text);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// An integer of any size, as the digits that are given; a string in RESP2. Line ends in them become spaces.
    pub fn big_number(&mut self, digits: &[u8]) {
        let digits = one_line(digits);
        if self.resp3() {
            self.line(b'(', &digits);
        } else {
            self.bulk(&digits);
        }
    }

    fn resp3_prefix(&self, prefix: u8) -> u8 {
        if self.resp3() { prefix } else { b'*' }
    }

    /// The prefix of a map, and how many elements each of its pairs counts for.
    fn map_form(&self) -> (u8, usize) {
        if self.resp3() { (b'%', 1) } else { (b'*', 2) }
    }

    fn line(&mut self, prefix: u8, text: &[u8]) {
        self.buf.reserve(text.len() + 3);
        self.buf.push(prefix);
        self.buf.extend_from_slice(text);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// `$64\r\n` and the like; one write for the short lengths that nearly all of them have.
    #[inline]
    fn header(&mut self, prefix: u8, len: usize) {
        // Below 10 and below 100 these are digits, so the casts lose nothing.
        match len {
            0..10 => self
                .buf
                .extend_from_slice(&[prefix, b'0' + len as u8, b'\r', b'\n']),
            10..100 => {
                let (tens, ones) = ((len / 10) as u8, (len % 10) as u8);
                self.buf
                    .extend_from_slice(&[prefix, b'0' + tens, b'0' + ones, b'\r', b'\n']);
            }
            _ => self.line(prefix, itoa::Buffer::new().format(len).as_bytes()),
        }
    }
}

fn one_line(text: &[u8]) -> Vec<u8> {
    let blank = |byte: &u8| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            *byte
        }
    };
    text.iter().map(blank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl Fn(&mut Reply)) -> String {
        let mut reply = Reply::new(protocol);
        write(&mut reply);
        String::from_utf8(reply.take()).unwrap()
    }

    fn both(write: impl Fn(&mut Reply)) -> (String, String) {
        (written(Protocol::Resp2, &write), written(Protocol::Resp3, &write))
    }

    #[test]
    fn each_protocol_has_its_own_forms() {
        type Case = (fn(&mut Reply), &'static str, &'static str);
        let cases: [Case; 14] = [
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.map(2), "*4\r\n", "%2\r\n"),
            (|r| r.set(100), "*100\r\n", "~100\r\n"),
            (|r| r.push(3), "*3\r\n", ">3\r\n"),
            (|r| r.bool(true), ":1\r\n", "#t\r\n"),
            (|r| r.bool(false), ":0\r\n", "#f\r\n"),
            (
                |r| r.double(0.1),
                "$19\r\n0.10000000000000001\r\n",
                ",0.10000000000000001\r\n",
            ),
            (|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|r| r.verbatim("txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (|r| r.big_number(b"12"), "$2\r\n12\r\n", "(12\r\n"),
            (|r| r.int(-12), ":-12\r\n", ":-12\r\n"),
            (|r| r.bulk_int(-12), "$3\r\n-12\r\n", "$3\r\n-12\r\n"),
            (|r| r.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(both(write), (resp2.to_owned(), resp3.to_owned()));
        }
    }

    #[test]
    fn errors_stay_on_one_line() {
        let (text, _) = both(|r| r.error("ERR a\r\nb\n"));
        assert_eq!(text, "-ERR a  b\r\n");
        let mut reply = Reply::default();
        reply.protocol_error(&ProtocolError::ExpectedDollar(0xff));
        reply.protocol_error(&ProtocolError::ExpectedDollar(b'\n'));
        let expected = b"-ERR Protocol error: expected '$', got '\xff'\r\n\
              -ERR Protocol error: expected '$', got ' '\r\n";
        assert_eq!(reply.as_slice(), expected);
    }

    #[test]
    fn deferred_lengths_nest() {
        let (resp2, resp3) = both(|r| {
            let outer = r.defer_array();
            r.int(5);
            let inner = r.defer_map();
            for _ in 0..24 {
                r.bulk(b"");
            }
            r.set_deferred(inner, 12);
            let empty = r.defer_set();
            r.set_deferred(empty, 0);
            r.set_deferred(outer, 3);
        });
        assert_eq!(
            resp2,
            format!("*3\r\n:5\r\n*24\r\n{}*0\r\n", "$0\r\n\r\n".repeat(24))
        );
        assert_eq!(
            resp3,
            format!("*3\r\n:5\r\n%12\r\n{}~0\r\n", "$0\r\n\r\n".repeat(24))
        );
    }

    #[test]
    fn lengths_of_every_width_are_written() {
        for len in [0, 9, 10, 99, 100, 12345] {
            let (text, _) = both(|r| r.bulk(&vec![b'x'; len]));
            assert_eq!(text, format!("${len}\r\n{}\r\n", "x".repeat(len)));
        }
    }
}
