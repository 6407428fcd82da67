//! LCS: the longest common subsequence of two strings.
//!
//! The textbook table of lengths is kept one row at a time. To walk back from its end, one bit per cell is enough:
//! whether the cell above is larger than the one to the left. That is a thirty-second of the table whose size the
//! limit is held against, and which of several longest subsequences is found does not change.

use super::args::{Args, Options};
use super::error::Error;
use super::spec::{Handler, Outcome, Spec, acl, flag::*, range};
use super::strings::{max_len, string};
use crate::keyspace::Tx;
use crate::keyspace::load::may_wait;
use crate::resp::Reply;
use std::ops::Range;

pub static COMMANDS: &[Spec] = &[Spec::new("lcs", -3, READONLY, acl::STRING, Handler::Data(lcs))
    .keys(&[range(1, 1, 1, "RO ACCESS")])
    .group("string", "7.0.0")
    .doc(
        "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
        "O(N*M) for strings of N and M bytes",
        "Finds the longest common subsequence of two strings.",
    )];

/// Beyond so many cells the other tasks of this thread are better served elsewhere meanwhile.
const LONG_WORK: usize = 1 << 20;

#[derive(Default)]
struct LcsOptions {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: usize,
}

fn lcs_options(mut words: Options<'_>) -> Result<LcsOptions, Error> {
    let mut options = LcsOptions::default();
    while !words.is_done() {
        if words.take("LEN") {
            options.len = true;
        } else if words.take("IDX") {
            options.idx = true;
        } else if words.take("WITHMATCHLEN") {
            options.with_match_len = true;
        } else if words.take("MINMATCHLEN") {
            options.min_match_len = words.int()?.max(0) as usize;
        } else {
            return Err(Error::Syntax);
        }
    }
    if options.len && options.idx {
        return Err(Error::new(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    Ok(options)
}

fn lcs(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let not_strings = |_| Error::new("ERR The specified keys must contain string values");
    let a = string(tx, &args[1]).map_err(not_strings)?.unwrap_or(b"").to_vec();
    let most = max_len(tx);
    let b = string(tx, &args[2]).map_err(not_strings)?.unwrap_or(b"");
    let options = lcs_options(args.options(3))?;
    let cells = (a.len() + 1).checked_mul(b.len() + 1).filter(|cells| {
        cells
            .checked_mul(size_of::<u32>())
            .is_some_and(|bytes| bytes <= most)
    });
    let cells = cells.ok_or_else(|| {
        Error::new("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    })?;
    let work = || Lengths::of(&a, b, !options.len);
    let lengths = if cells > LONG_WORK { may_wait(work) } else { work() };
    if options.len {
        reply.int(lengths.total as i64);
    } else if options.idx {
        write_matches(&lengths.runs(&a, b), &options, lengths.total, reply);
    } else {
        let mut common = Vec::with_capacity(lengths.total);
        for run in lengths.runs(&a, b).into_iter().rev() {
            common.extend_from_slice(&a[run.a]);
        }
        reply.bulk(&common);
    }
    Ok(())
}

/// The runs from the strings' ends to their beginnings, then the length of the whole.
fn write_matches(runs: &[Run], options: &LcsOptions, total: usize, reply: &mut Reply) {
    let shown = || runs.iter().filter(|run| run.a.len() >= options.min_match_len);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(shown().count());
    for run in shown() {
        reply.array(2 + usize::from(options.with_match_len));
        for part in [&run.a, &run.b] {
            reply.array(2);
            reply.int(part.start as i64);
            reply.int(part.end as i64 - 1);
        }
        if options.with_match_len {
            reply.int(run.a.len() as i64);
        }
    }
    reply.bulk(b"len");
    reply.int(total as i64);
}

/// Bytes of the subsequence that stand together in both strings.
#[derive(PartialEq, Eq, Debug)]
struct Run {
    a: Range<usize>,
    b: Range<usize>,
}

/// What is kept of the table of lengths.
struct Lengths {
    /// Length of the longest common subsequence of both whole strings.
    total: usize,
    /// Bit `i * b.len() + j`: the subsequence of `a[..i]` and `b[..=j]` is longer than that of `a[..=i]` and `b[..j]`.
    up: Vec<u64>,
}

impl Lengths {
    /// `keep`: the bits are wanted, not the length alone.
    fn of(a: &[u8], b: &[u8], keep: bool) -> Lengths {
        let mut up = vec![0u64; if keep { (a.len() * b.len()).div_ceil(64) } else { 0 }];
        // The row above, overwritten from left to right by the current one; both start with a zero.
        let mut row = vec![0u32; b.len() + 1];
        for (i, byte) in a.iter().enumerate() {
            let (mut diagonal, mut left) = (0, 0);
            for (j, other) in b.iter().enumerate() {
                let above = row[j + 1];
                let here = if byte == other {
                    diagonal + 1
                } else {
                    above.max(left)
                };
                if keep && above > left {
                    let cell = i * b.len() + j;
                    up[cell / 64] |= 1 << (cell % 64);
                }
                (diagonal, left) = (above, here);
                row[j + 1] = here;
            }
        }
        Lengths {
            total: row[b.len()] as usize,
            up,
        }
    }

    /// The runs of one longest subsequence, the last one first.
    fn runs(&self, a: &[u8], b: &[u8]) -> Vec<Run> {
        let mut runs = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            let len = (1..=i.min(j))
                .take_while(|back| a[i - back] == b[j - back])
                .count();
            if len > 0 {
                runs.push(Run {
                    a: i - len..i,
                    b: j - len..j,
                });
                (i, j) = (i - len, j - len);
                continue;
            }
            let cell = (i - 1) * b.len() + (j - 1);
            if self.up[cell / 64] >> (cell % 64) & 1 == 1 {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(a: &[u8], b: &[u8]) -> (usize, Vec<u8>) {
        let lengths = Lengths::of(a, b, true);
        assert_eq!(lengths.total, Lengths::of(a, b, false).total);
        let runs = lengths.runs(a, b);
        let text = runs.iter().rev().flat_map(|run| a[run.a.clone()].to_vec());
        (lengths.total, text.collect())
    }

    #[test]
    fn the_walk_back_finds_as_many_bytes_as_the_table_counted() {
        assert_eq!(common(b"ohmytext", b"mynewtext"), (6, b"mytext".to_vec()));
        assert_eq!(common(b"", b"abc"), (0, Vec::new()));
        assert_eq!(common(b"aaaa", b"aa"), (2, b"aa".to_vec()));
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut text = || {
                (0..rng.usize(0..60))
                    .map(|_| rng.u8(b'a'..b'd'))
                    .collect::<Vec<u8>>()
            };
            let (a, b) = (text(), text());
            let (len, found) = common(&a, &b);
            assert_eq!(found.len(), len);
            let mut rest = b.iter();
            assert!(found.iter().all(|byte| rest.any(|other| other == byte)));
        }
    }
}
