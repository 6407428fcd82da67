//! A connection in miniature: bytes arrive in pieces, whole requests are taken out, the rest waits. Shared by the
//! fuzz target and the property tests of the parser; whoever includes it has the module `resp` beside it.

use super::resp::{Batch, Limits, Parser, ProtocolError};

/// What became of the bytes.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// Their arguments.
    pub requests: Vec<Vec<Vec<u8>>>,
    /// Position behind each request.
    pub ends: Vec<usize>,
    /// Bytes that whole requests took, those between them included.
    pub taken: usize,
    pub error: Option<ProtocolError>,
}

/// Parses `bytes`, which arrive in pieces of the sizes that `pieces` yields (at least one byte each; when it ends, the
/// rest arrives at once), at most `max` requests at a time.
pub fn feed(bytes: &[u8], pieces: impl IntoIterator<Item = usize>, max: usize, limits: &Limits) -> Outcome {
    let mut pieces = pieces.into_iter();
    let (mut parser, mut batch) = (Parser::new(), Batch::new());
    let mut outcome = Outcome {
        requests: Vec::new(),
        ends: Vec::new(),
        taken: 0,
        error: None,
    };
    let (mut buffered, mut arrived) = (Vec::new(), 0);
    while arrived < bytes.len() && outcome.error.is_none() {
        let piece = pieces
            .next()
            .map_or(usize::MAX, |size| size.max(1))
            .min(bytes.len() - arrived);
        let wanted = parser.bytes_wanted(buffered.len());
        let known = outcome.requests.len();
        buffered.extend_from_slice(&bytes[arrived..arrived + piece]);
        arrived += piece;
        drain(&mut parser, &mut batch, &mut buffered, max, limits, &mut outcome);
        assert!(
            piece >= wanted || outcome.requests.len() == known,
            "wanted {wanted}, but {piece} did"
        );
    }
    outcome
}

/// Takes every whole request out of `buffered`.
fn drain(
    parser: &mut Parser,
    batch: &mut Batch,
    buffered: &mut Vec<u8>,
    max: usize,
    limits: &Limits,
    outcome: &mut Outcome,
) {
    loop {
        let (taken, error) = parser.parse(buffered, limits, batch, max);
        assert!(batch.len() <= max && taken <= buffered.len());
        for i in 0..batch.len() {
            let args = batch.request(i, buffered);
            assert!(!args.is_empty() && batch.request_end(i) <= taken);
            outcome.requests.push(args.iter().map(<[u8]>::to_vec).collect());
            outcome.ends.push(outcome.taken + batch.request_end(i));
        }
        buffered.drain(..taken);
        outcome.taken += taken;
        outcome.error = error;
        if error.is_some() || batch.len() < max {
            return;
        }
    }
}
