//! What the parser has found: requests as lists of ranges, in memory that is used again for the next ones.

/// One argument: `start..end` of the buffer, or of the side buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    /// Its spans end here, and begin where those of the request before it end.
    spans_end: usize,
    /// Position in the buffer behind its last byte.
    end: usize,
    /// Its spans are ranges of the side buffer.
    unescaped: bool,
}

/// The requests that one call of [`Parser::parse`] found. Keep it and pass it again: its memory is reused.
#[derive(Default, Debug)]
pub struct Batch {
    requests: Vec<Request>,
    pub(super) spans: Vec<Span>,
    /// Arguments of inline requests with quotes, unescaped, one behind the other.
    pub(super) side: Vec<u8>,
}

/// What a batch keeps for the next one though this one did not need it: one giant request should not hold memory for
/// the rest of a connection's life.
pub(super) const KEEP_SPANS: usize = 4 * 1024;
const KEEP_SIDE_BYTES: usize = 16 * 1024;
/// Arguments that are laid side by side without an allocation.
const FEW: usize = 8;

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests in it.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub fn clear(&mut self) {
        self.requests.clear();
        clear_keeping(&mut self.spans, KEEP_SPANS);
        clear_keeping(&mut self.side, KEEP_SIDE_BYTES);
    }

    /// The arguments of request `i`, in `buf`, which holds the same bytes at the same positions as when it was parsed.
    #[inline]
    pub fn request<'a>(&'a self, i: usize, buf: &'a [u8]) -> RequestArgs<'a> {
        let request = &self.requests[i];
        let first = if i == 0 { 0 } else { self.requests[i - 1].spans_end };
        RequestArgs {
            source: if request.unescaped { &self.side } else { buf },
            spans: &self.spans[first..request.spans_end],
        }
    }

    /// Position in the buffer just behind request `i`.
    pub fn request_end(&self, i: usize) -> usize {
        self.requests[i].end
    }

    /// It has more memory than most have a use for.
    pub fn is_large(&self) -> bool {
        self.spans.capacity() > KEEP_SPANS || self.side.capacity() > KEEP_SIDE_BYTES
    }

    /// The spans since the last request are a request, which ends at `end` of the buffer.
    #[inline]
    pub(super) fn push_request(&mut self, end: usize, unescaped: bool) {
        self.requests.push(Request {
            spans_end: self.spans.len(),
            end,
            unescaped,
        });
    }
}

/// Empties `vec`, and gives back memory beyond `keep` items that its last use had no need of.
fn clear_keeping<T>(vec: &mut Vec<T>, keep: usize) {
    let needed = vec.len();
    vec.clear();
    if vec.capacity() > keep && needed <= keep {
        vec.shrink_to(keep);
    }
}

/// The arguments of one request, the command's name first; there is at least one.
#[derive(Clone, Copy, Debug)]
pub struct RequestArgs<'a> {
    source: &'a [u8],
    spans: &'a [Span],
}

impl<'a> RequestArgs<'a> {
    /// Arguments in it, the command's name counted.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `i`; panics when there is none, as indexing does.
    #[inline]
    pub fn get(&self, i: usize) -> &'a [u8] {
        let span = self.spans[i];
        &self.source[span.start..span.end]
    }

    /// Does something with all of them side by side. They are laid where they stay: to hand them on by value costs more
    /// than to find them.
    #[inline]
    pub fn with_words<R>(&self, run: impl FnOnce(&[&'a [u8]]) -> R) -> R {
        if self.len() > FEW {
            return run(&self.iter().collect::<Vec<_>>());
        }
        let mut few: [&[u8]; FEW] = [b""; FEW];
        for (word, span) in few.iter_mut().zip(self.spans) {
            *word = &self.source[span.start..span.end];
        }
        run(&few[..self.len()])
    }

    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let source = self.source;
        self.spans.iter().map(move |span| &source[span.start..span.end])
    }
}
