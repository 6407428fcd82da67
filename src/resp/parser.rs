//! Requests out of a connection's bytes: `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, or inline, `GET k\r\n`.
//!
//! What it guarantees:
//! * Nothing is copied. A request is a list of ranges of the buffer; only inline requests with quotes, whose arguments
//!   differ from their bytes, are written to a side buffer in the [`Batch`].
//! * No byte is looked at twice for its place: a partly received request is resumed where it stopped.
//! * The result does not depend on how the bytes were cut on their way here.
//! * Memory grows with bytes received, never with numbers announced: `*1000000000` reserves nothing.
//! * No input panics. What Redis refuses is refused with Redis's words.
//!
//! Three things differ from Redis 7.0, all of them in malformed input. A line longer than `max_inline_len` is always
//! refused; Redis lets it pass when its end happened to arrive in the same read. A NUL byte is an ordinary byte; Redis
//! stops searching at it, so that the connection hangs until 64 KiB have come. And as requests are parsed ahead of
//! their execution, those behind an `AUTH` are judged by the limits from before it, unless `max` is 1.

use std::fmt;

use memchr::{memchr, memchr2};

use super::batch::{Batch, KEEP_SPANS, Span};
use super::inline::{split_plain, split_quoted};
use super::number::parse_i64;

/// What a client may send. Beyond it: a [`ProtocolError`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes in one argument (`proto-max-bulk-len`).
    pub max_bulk_len: usize,
    /// Arguments in one request.
    pub max_multibulk_len: usize,
    /// Bytes in one line: an inline request, or the line that announces a length.
    pub max_inline_len: usize,
    /// Until a client has authenticated it may send no more than 10 arguments, of 16 KiB each. Parse with `max` = 1
    /// meanwhile, so that what follows a successful `AUTH` is judged anew.
    pub authenticated: bool,
}

const MAX_UNAUTHENTICATED_ARGS: usize = 10;
const MAX_UNAUTHENTICATED_BULK_LEN: usize = 16 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bulk_len: 512 * 1024 * 1024,
            max_multibulk_len: i32::MAX as usize,
            max_inline_len: 64 * 1024,
            authenticated: true,
        }
    }
}

/// Why the bytes are not requests. The client is sent `-ERR ` and this text (see `Reply::protocol_error`), and the
/// connection is closed: nothing that follows can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    InvalidMultibulkLength,
    UnauthenticatedMultibulkLength,
    TooBigMultibulkLine,
    /// An argument did not begin with `$` but with this byte.
    ExpectedDollar(u8),
    InvalidBulkLength,
    UnauthenticatedBulkLength,
    TooBigBulkLine,
    TooBigInlineRequest,
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        f.write_str(match self {
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::TooBigMultibulkLine => "too big mbulk count string",
            Self::ExpectedDollar(got) => return write!(f, "expected '$', got '{}'", char::from(*got)),
            Self::InvalidBulkLength => "invalid bulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
            Self::TooBigBulkLine => "too big bulk count string",
            Self::TooBigInlineRequest => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
        })
    }
}

impl std::error::Error for ProtocolError {}

/// What comes next in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The end of an inline request's line.
    Inline,
    /// The line `*count`.
    Count,
    /// The line `$length`.
    Length,
    /// So many bytes of an argument, and its line end.
    Body(usize),
}

/// Where parsing stands in one request. Positions are those of the buffer while it is parsed, and count from the
/// request's first byte while it waits for more: the two agree as soon as whole requests are dropped before it.
#[derive(Clone, Copy, Debug)]
struct Place {
    stage: Stage,
    /// First byte that is not yet understood: a line's, or an argument's.
    at: usize,
    /// No line end lies between `at` and this.
    scanned: usize,
    /// Arguments that the request still lacks.
    missing: usize,
}

impl Place {
    #[inline]
    fn start_of_request(at: usize, first: u8) -> Self {
        let stage = if first == b'*' {
            Stage::Count
        } else {
            Stage::Inline
        };
        Place {
            stage,
            at,
            scanned: at,
            missing: 0,
        }
    }
}

/// Finds requests in a connection's bytes, and keeps its place in one that is only partly there.
#[derive(Default, Debug)]
pub struct Parser {
    /// The request at the buffer's start, of which a part was seen by the previous call.
    partial: Option<Place>,
    /// Its arguments so far.
    partial_spans: Vec<Span>,
}

impl Parser {
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives back the memory that a long request in parts has taken, once it is whole.
    pub fn shrink(&mut self) {
        if self.partial.is_none() {
            self.partial_spans = Vec::new();
        }
    }

    /// Parses whole requests from `buf` into `batch` (which is emptied first), at most `max` of them. Returns how many
    /// bytes they took, and the error that follows them, if one does: answer the requests first, then send the error
    /// and close.
    ///
    /// Drop the bytes taken before the next call: `buf` always begins with the first byte that no request has taken.
    /// What is left may move, and grow, but not change. Empty requests (`*0`, `*-1`, an empty line) are taken without
    /// appearing in the batch, as Redis does.
    pub fn parse(
        &mut self,
        buf: &[u8],
        limits: &Limits,
        batch: &mut Batch,
        max: usize,
    ) -> (usize, Option<ProtocolError>) {
        batch.clear();
        let mut taken = 0;
        if max > 0
            && let Some(place) = self.partial.take()
        {
            match self.resume(place, buf, limits, batch) {
                Ok(Some(end)) => taken = end,
                Ok(None) => return (0, None),
                Err(error) => return (0, Some(error)),
            }
        }
        while batch.len() < max && taken < buf.len() {
            match self.begin(taken, buf, limits, batch) {
                Ok(Some(end)) => taken = end,
                Ok(None) => break,
                Err(error) => return (taken, Some(error)),
            }
        }
        (taken, None)
    }

    /// How many more bytes than the `buffered` ones of it the request at hand needs at least; 0 when that is not known.
    ///
    /// The figure is the client's word. Reserve for it, but not more at once than you would lend to a stranger.
    pub fn bytes_wanted(&self, buffered: usize) -> usize {
        match self.partial {
            Some(Place {
                stage: Stage::Body(len),
                at,
                ..
            }) => at.saturating_add(len).saturating_add(2).saturating_sub(buffered),
            _ => 0,
        }
    }

    /// Parses the request that begins at `start`. Returns its end; `None` when it is not all there.
    #[inline]
    fn begin(
        &mut self,
        start: usize,
        buf: &[u8],
        limits: &Limits,
        batch: &mut Batch,
    ) -> Result<Option<usize>, ProtocolError> {
        let mut place = Place::start_of_request(start, buf[start]);
        let first_span = batch.spans.len();
        let whole = match place.stage {
            Stage::Inline => return self.inline(place, start, buf, limits, batch),
            _ => multibulk(&mut place, buf, limits, &mut batch.spans)?,
        };
        if whole {
            if batch.spans.len() > first_span {
                batch.push_request(place.at, false);
            }
            return Ok(Some(place.at));
        }
        self.partial_spans
            .extend(batch.spans.drain(first_span..).map(|span| Span {
                start: span.start - start,
                end: span.end - start,
            }));
        self.keep(place, start);
        Ok(None)
    }

    /// Goes on with the request at the buffer's start, of which a part was seen before.
    #[cold]
    fn resume(
        &mut self,
        mut place: Place,
        buf: &[u8],
        limits: &Limits,
        batch: &mut Batch,
    ) -> Result<Option<usize>, ProtocolError> {
        if place.stage == Stage::Inline {
            return self.inline(place, 0, buf, limits, batch);
        }
        let whole = multibulk(&mut place, buf, limits, &mut self.partial_spans);
        if whole == Ok(false) {
            self.keep(place, 0);
            return Ok(None);
        }
        // Mostly a pipeline was cut in one of its last requests, so this is short. A long one gives its memory back.
        let mut spans = std::mem::take(&mut self.partial_spans);
        if whole.is_ok() && !spans.is_empty() {
            batch.spans.extend_from_slice(&spans);
            batch.push_request(place.at, false);
        }
        if spans.capacity() <= KEEP_SPANS {
            spans.clear();
            self.partial_spans = spans;
        }
        whole.map(|_| Some(place.at))
    }

    /// Remembers the place in the unfinished request that begins at `start`.
    fn keep(&mut self, place: Place, start: usize) {
        self.partial = Some(Place {
            at: place.at - start,
            scanned: place.scanned.max(place.at) - start,
            ..place
        });
    }

    /// An inline request, from `start` to the end of its line.
    fn inline(
        &mut self,
        mut place: Place,
        start: usize,
        buf: &[u8],
        limits: &Limits,
        batch: &mut Batch,
    ) -> Result<Option<usize>, ProtocolError> {
        let newline = memchr(b'\n', &buf[place.scanned..]).map(|i| place.scanned + i);
        if newline.unwrap_or(buf.len()) - start > limits.max_inline_len {
            return Err(ProtocolError::TooBigInlineRequest);
        }
        let Some(newline) = newline else {
            place.scanned = buf.len();
            self.keep(place, start);
            return Ok(None);
        };
        let line = &buf[start..newline];
        let first_span = batch.spans.len();
        let quoted = memchr2(b'"', b'\'', line).is_some();
        if quoted {
            split_quoted(line, &mut batch.spans, &mut batch.side).ok_or(ProtocolError::UnbalancedQuotes)?;
        } else {
            split_plain(line, start, &mut batch.spans);
        }
        if batch.spans.len() > first_span {
            batch.push_request(newline + 1, quoted);
        }
        Ok(Some(newline + 1))
    }
}

/// Reads on from `place` in a `*count` request, adding its arguments to `spans`. Returns whether all of it is there;
/// if not, `place` is where to go on.
#[inline]
fn multibulk(
    place: &mut Place,
    buf: &[u8],
    limits: &Limits,
    spans: &mut Vec<Span>,
) -> Result<bool, ProtocolError> {
    let mut at = place.at;
    if place.stage == Stage::Count {
        let count = match quick_length(buf, at) {
            Some((count, next)) => (count, next),
            None => match count_line(place, buf, limits)? {
                Some(found) => found,
                None => return Ok(false),
            },
        };
        place.missing = checked_count(count.0, limits)?;
        place.stage = Stage::Length;
        at = count.1;
    }
    let mut missing = place.missing;
    let mut awaited = match place.stage {
        Stage::Body(len) => Some(len),
        _ => None,
    };
    while missing > 0 {
        let len = match awaited.take() {
            Some(len) => len,
            None => {
                let found = match quick_length(buf, at) {
                    Some(found) if buf[at] == b'$' => Some(found),
                    _ => {
                        *place = Place {
                            stage: Stage::Length,
                            at,
                            scanned: place.scanned,
                            missing,
                        };
                        bulk_line(place, buf, limits)?
                    }
                };
                let Some((len, next)) = found else {
                    return Ok(false);
                };
                at = next;
                checked_bulk_len(len, limits)?
            }
        };
        // The two bytes behind an argument are skipped, whatever they are: Redis does not look at them either.
        if buf.len() - at < 2 || buf.len() - at - 2 < len {
            *place = Place {
                stage: Stage::Body(len),
                at,
                scanned: at,
                missing,
            };
            return Ok(false);
        }
        spans.push(Span {
            start: at,
            end: at + len,
        });
        at += len + 2;
        missing -= 1;
    }
    (place.at, place.missing) = (at, 0);
    Ok(true)
}

#[inline]
fn checked_count(count: usize, limits: &Limits) -> Result<usize, ProtocolError> {
    if count > limits.max_multibulk_len {
        return Err(ProtocolError::InvalidMultibulkLength);
    }
    if count > MAX_UNAUTHENTICATED_ARGS && !limits.authenticated {
        return Err(ProtocolError::UnauthenticatedMultibulkLength);
    }
    Ok(count)
}

#[inline]
fn checked_bulk_len(len: usize, limits: &Limits) -> Result<usize, ProtocolError> {
    if len > limits.max_bulk_len {
        return Err(ProtocolError::InvalidBulkLength);
    }
    if len > MAX_UNAUTHENTICATED_BULK_LEN && !limits.authenticated {
        return Err(ProtocolError::UnauthenticatedBulkLength);
    }
    Ok(len)
}

/// The number of a line like `$64\r\n` whose first byte, `$` or `*`, is at `at`, and the position behind the line.
/// `None` for whatever is not a plain whole line of one to nine digits: then look again, slowly.
///
/// Of the line's end, `\r` is looked for and one byte behind it is awaited, as in Redis.
#[inline(always)]
fn quick_length(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    match buf.get(at + 1..)? {
        [ones @ b'0'..=b'9', b'\r', _, ..] => Some((usize::from(ones - b'0'), at + 4)),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', _, ..] => {
            Some((usize::from(tens - b'0') * 10 + usize::from(ones - b'0'), at + 5))
        }
        line => long_length(line).map(|(value, width)| (value, at + 1 + width)),
    }
}

/// The same for lines of more digits; the width is that of digits and line end.
#[inline(never)]
fn long_length(line: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (i, &byte) in line.iter().take(10).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let plain = byte == b'\r' && i > 0 && line[0] != b'0';
            return (plain && i + 1 < line.len()).then_some((value, i + 2));
        }
        value = value * 10 + usize::from(digit);
    }
    None
}

/// The line `*count`, in every case; a negative count is 0.
#[cold]
fn count_line(
    place: &mut Place,
    buf: &[u8],
    limits: &Limits,
) -> Result<Option<(usize, usize)>, ProtocolError> {
    let Some((line, next)) = line(place, buf, limits, ProtocolError::TooBigMultibulkLine)? else {
        return Ok(None);
    };
    let count = parse_i64(&line[1..]).ok_or(ProtocolError::InvalidMultibulkLength)?;
    Ok(Some((usize::try_from(count).unwrap_or(0), next)))
}

/// The line `$length`, in every case.
#[cold]
fn bulk_line(
    place: &mut Place,
    buf: &[u8],
    limits: &Limits,
) -> Result<Option<(usize, usize)>, ProtocolError> {
    let Some((line, next)) = line(place, buf, limits, ProtocolError::TooBigBulkLine)? else {
        return Ok(None);
    };
    // An empty line leaves its own end to be taken for the first byte.
    let first = line.first().copied().unwrap_or(b'\r');
    if first != b'$' {
        return Err(ProtocolError::ExpectedDollar(first));
    }
    let len = parse_i64(&line[1..]).ok_or(ProtocolError::InvalidBulkLength)?;
    let len = usize::try_from(len).map_err(|_| ProtocolError::InvalidBulkLength)?;
    Ok(Some((len, next)))
}

/// The line at `place`, without its end, and the position behind it. `None` when its end is not there yet.
fn line<'a>(
    place: &mut Place,
    buf: &'a [u8],
    limits: &Limits,
    too_big: ProtocolError,
) -> Result<Option<(&'a [u8], usize)>, ProtocolError> {
    let from = place.scanned.max(place.at);
    let end = memchr(b'\r', &buf[from..]).map_or(buf.len(), |i| from + i);
    if end - place.at > limits.max_inline_len {
        return Err(too_big);
    }
    place.scanned = end;
    // The `\r` and one byte more, or not yet.
    Ok((end + 1 < buf.len()).then(|| (&buf[place.at..end], end + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Requests = Vec<Vec<Vec<u8>>>;

    fn parse_within(limits: &Limits, bytes: &[u8]) -> (Requests, usize, Option<String>) {
        let mut batch = Batch::new();
        let (taken, error) = Parser::new().parse(bytes, limits, &mut batch, usize::MAX);
        let requests = (0..batch.len())
            .map(|i| batch.request(i, bytes).iter().map(<[u8]>::to_vec).collect())
            .collect();
        (requests, taken, error.map(|error| error.to_string()))
    }

    fn parse(bytes: &[u8]) -> (Requests, usize, Option<String>) {
        parse_within(&Limits::default(), bytes)
    }

    /// The arguments of the only request, spaces between them.
    fn only(bytes: &[u8]) -> String {
        let (requests, taken, error) = parse(bytes);
        assert_eq!((requests.len(), taken, error), (1, bytes.len(), None));
        String::from_utf8(requests[0].join(&b'|')).unwrap()
    }

    fn error(bytes: &[u8]) -> String {
        parse(bytes).2.unwrap_or_default()
    }

    #[test]
    fn requests_of_both_kinds_are_found_with_their_ends() {
        let bytes =
            b"*2\r\n$3\r\nGET\r\n$0\r\n\r\nPING x\n*0\r\n*-1\r\n\r\n*1\r\n$2\r\n\r\n\r\n*1\r\n$4\r\nPI";
        let mut batch = Batch::new();
        let mut parser = Parser::new();
        let (taken, error) = parser.parse(bytes, &Limits::default(), &mut batch, 64);
        assert_eq!((taken, error, batch.len()), (bytes.len() - 10, None, 3));
        assert_eq!(
            batch.request(0, bytes).iter().collect::<Vec<_>>(),
            [b"GET".as_slice(), b""]
        );
        assert_eq!(batch.request(1, bytes).get(1), b"x");
        assert_eq!(batch.request(2, bytes).get(0), b"\r\n");
        assert_eq!(
            (batch.request_end(0), batch.request_end(1), batch.request_end(2)),
            (19, 26, 49)
        );
        assert_eq!(parser.bytes_wanted(10), 4);
    }

    #[test]
    fn no_more_than_max_requests_are_taken() {
        let bytes = b"PING\r\nPING\r\nPING\r\n";
        let mut batch = Batch::new();
        let mut parser = Parser::new();
        assert_eq!(parser.parse(bytes, &Limits::default(), &mut batch, 2), (12, None));
        assert_eq!(batch.len(), 2);
        assert_eq!(
            parser.parse(&bytes[12..], &Limits::default(), &mut batch, 0),
            (0, None)
        );
        assert_eq!(
            parser.parse(&bytes[12..], &Limits::default(), &mut batch, 2),
            (6, None)
        );
        assert_eq!(batch.len(), 1);
    }

    #[test]
    fn inline_quotes_are_resolved() {
        assert_eq!(only(b"  SET  a\tb \r\n"), "SET|a|b");
        assert_eq!(only(b"ECHO \"a\\n\\x41\\q\\\\\"\r\n"), "ECHO|a\nAq\\");
        assert_eq!(only(b"ECHO 'a\\'b\\n'\r\n"), "ECHO|a'b\\n");
        assert_eq!(only(b"ECHO a\"b c\"\r\n"), "ECHO|ab c");
        assert_eq!(only(b"ECHO \"\" \"\\x4\"\n"), "ECHO||x4");
        assert_eq!(only(b"ECHO a\x0bb \x0bc\"\"\r\n"), "ECHO|a\x0bb|c");
        for bad in ["\"a\"b", "\"a", "'a'b", "'a", "\"a\\", "'a\\'", "a'"] {
            assert_eq!(
                error(format!("ECHO {bad}\r\n").as_bytes()),
                "Protocol error: unbalanced quotes in request"
            );
        }
    }

    #[test]
    fn malformed_requests_are_refused_in_redis_words() {
        for bad in [
            "*",
            "*x",
            "*01",
            "*+1",
            "*-0",
            "*2147483648",
            "*1 ",
            "*99999999999999999999",
        ] {
            assert_eq!(
                error(format!("{bad}\r\n").as_bytes()),
                "Protocol error: invalid multibulk length",
                "{bad}"
            );
        }
        for bad in ["$", "$-1", "$04", "$536870913", "$x", "$18446744073709551616"] {
            let bytes = format!("*1\r\n{bad}\r\n");
            assert_eq!(
                error(bytes.as_bytes()),
                "Protocol error: invalid bulk length",
                "{bad}"
            );
        }
        assert_eq!(error(b"*1\r\nx4\r\n"), "Protocol error: expected '$', got 'x'");
        assert_eq!(error(b"*1\r\n\r\n"), "Protocol error: expected '$', got '\r'");
        let long = "1".repeat(65537);
        assert_eq!(error(long.as_bytes()), "Protocol error: too big inline request");
        assert_eq!(
            error(format!("*{long}").as_bytes()),
            "Protocol error: too big mbulk count string"
        );
        assert_eq!(
            error(format!("*1\r\n${long}").as_bytes()),
            "Protocol error: too big bulk count string"
        );
        assert_eq!(error(&long.as_bytes()[1..]), "");
    }

    #[test]
    fn strangers_may_send_little() {
        let limits = Limits {
            authenticated: false,
            ..Limits::default()
        };
        let refusal = |bytes: &[u8]| parse_within(&limits, bytes).2.unwrap_or_default();
        assert_eq!(refusal(b"*10\r\n$16384\r\n"), "");
        assert_eq!(
            refusal(b"*11\r\n"),
            "Protocol error: unauthenticated multibulk length"
        );
        assert_eq!(
            refusal(b"*1\r\n$16385\r\n"),
            "Protocol error: unauthenticated bulk length"
        );
    }

    #[test]
    fn requests_before_an_error_are_returned() {
        let (requests, taken, error) = parse(b"PING\r\n*x\r\nPING\r\n");
        assert_eq!((requests.len(), taken), (1, 6));
        assert_eq!(error.as_deref(), Some("Protocol error: invalid multibulk length"));
    }

    #[test]
    fn announced_lengths_reserve_nothing() {
        let mut parser = Parser::new();
        let mut batch = Batch::new();
        let (taken, error) = parser.parse(
            b"*1000000000\r\n$3\r\nSET\r\n",
            &Limits::default(),
            &mut batch,
            64,
        );
        assert_eq!((taken, error), (0, None));
        assert!(parser.partial_spans.capacity() < 64 && batch.spans.capacity() < 64);
    }
}
