//! Where the keys of a command stand among its arguments: what `COMMAND INFO` says of it, locks and routes go by it.
//!
//! A specification first finds where its keys begin (at a fixed place, or behind a word), then which of the arguments
//! from there on are keys (a run of them, or as many as a number says). Where that would take a wrong argument for a
//! key, the row has a walk of its own beside it ([`super::spec::Spec::walk`]).

use super::args::Args;
use crate::resp::number::parse_i64;
use smallvec::SmallVec;

/// Places of keys in a request, in the order of the specifications.
pub type Positions = SmallVec<[usize; 4]>;

/// A place, and the number of the specification that it belongs to.
pub type Found = SmallVec<[(usize, usize); 4]>;

/// Where a search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument; the name is 0.
    Index(usize),
    /// Behind this word in any case, the first from argument `from` on; where `from` is negative, the first from
    /// there towards the front, counted from the end.
    Keyword { word: &'static str, from: i32 },
    /// Known only to the row's own walk, or not at all.
    Unknown,
}

/// Which arguments are keys, from where the search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Every `step`th up to `last`, which counts from the beginning of the search, or when negative from the end of
    /// the request (-1 is the last argument). With a `limit` of n, -1 ends the first nth part of what is left.
    Range {
        last: i32,
        step: usize,
        limit: usize,
    },
    /// As many as the argument at `at` says, the first of them at `first`, every `step`th; both count from where the
    /// search begins.
    Keynum {
        at: usize,
        first: usize,
        step: usize,
    },
    Unknown,
}

/// Where some keys of a command stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// As `COMMAND INFO` names them: `RO ACCESS` and so on.
    pub flags: &'static str,
    pub begin: Begin,
    pub find: Find,
    pub notes: &'static str,
}

/// The key at argument `first`.
pub const fn key(first: usize, flags: &'static str) -> KeySpec {
    range(first, 0, 1, flags)
}

/// Keys from `first` to the end, every `step`th.
pub const fn keys(first: usize, step: usize, flags: &'static str) -> KeySpec {
    range(first, -1, step, flags)
}

/// Keys from `first` to `last` (from `first`, or from the end where negative), every `step`th.
pub const fn range(first: usize, last: i32, step: usize, flags: &'static str) -> KeySpec {
    let find = Find::Range { last, step, limit: 0 };
    KeySpec::new(Begin::Index(first), find, flags)
}

/// As many keys as argument `index + at` says, from argument `index + first` on.
pub const fn keynum(index: usize, at: usize, first: usize, flags: &'static str) -> KeySpec {
    KeySpec::new(Begin::Index(index), Find::Keynum { at, first, step: 1 }, flags)
}

/// Keys behind a word that is looked for from argument `from` on: up to `last`, of the first `limit`th part (0: all).
pub const fn keyword(word: &'static str, from: i32, last: i32, limit: usize, flags: &'static str) -> KeySpec {
    let find = Find::Range { last, step: 1, limit };
    KeySpec::new(Begin::Keyword { word, from }, find, flags)
}

/// Keys that no rule finds: the row's own walk does, or they depend on data.
pub const fn unknown(flags: &'static str) -> KeySpec {
    KeySpec::new(Begin::Unknown, Find::Unknown, flags)
}

impl KeySpec {
    pub const fn new(begin: Begin, find: Find, flags: &'static str) -> KeySpec {
        KeySpec {
            flags,
            begin,
            find,
            notes: "",
        }
    }

    pub const fn notes(mut self, notes: &'static str) -> KeySpec {
        self.notes = notes;
        self
    }

    /// The place of the only key, where it is a fixed one.
    pub const fn single(&self) -> Option<usize> {
        match (self.begin, self.find) {
            (Begin::Index(first), Find::Range { last: 0, .. }) => Some(first),
            _ => None,
        }
    }

    /// Argument positions of these keys. What would lie behind the last argument is left out.
    pub fn positions(&self, args: &Args<'_>) -> impl Iterator<Item = usize> + use<> {
        let (from, to, step) = self.bounds(args).unwrap_or((1, 0, 1));
        (from..(to + 1).min(args.len())).step_by(step)
    }

    /// First and last position and the step; none where the request has no such keys.
    fn bounds(&self, args: &Args<'_>) -> Option<(usize, usize, usize)> {
        let len = args.len();
        let begin = self.begins_at(len, |at| args.all()[at])?;
        match self.find {
            Find::Range { last, step, limit } => {
                let to = match last {
                    0.. => begin + last as usize,
                    -1 if limit > 0 => (begin + len.checked_sub(begin)? / limit).checked_sub(1)?,
                    _ => len.checked_sub(last.unsigned_abs() as usize)?,
                };
                Some((begin, to, step))
            }
            Find::Keynum { at, first, step } => {
                let count = parse_i64(args.all().get(begin + at)?)?;
                let count = usize::try_from(count).ok()?.min(len);
                let from = begin + first;
                Some((from, from + count.checked_sub(1)? * step, step))
            }
            Find::Unknown => None,
        }
    }

    /// Where the search begins in a request of `len` words.
    fn begins_at<'a>(&self, len: usize, word: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
        match self.begin {
            Begin::Index(at) => Some(at),
            Begin::Keyword { word: wanted, from } => {
                let is_it = |at: &usize| word(*at).eq_ignore_ascii_case(wanted.as_bytes());
                let found = if from >= 0 {
                    (from as usize..len).find(is_it)
                } else {
                    let last = len.checked_sub(from.unsigned_abs() as usize)?;
                    (1..=last).rev().find(is_it)
                };
                found.map(|at| at + 1)
            }
            Begin::Unknown => None,
        }
    }

    /// Where the first key stands in a request of `len` words, nothing being checked but that it is there.
    #[inline]
    pub fn first<'a>(&self, len: usize, word: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
        let begin = match self.begin {
            Begin::Index(at) => at,
            _ => self.begins_at(len, word)?,
        };
        let first = match self.find {
            Find::Keynum { first, .. } => begin + first,
            _ => begin,
        };
        (first < len).then_some(first)
    }
}

/// First key, last key and step, for clients that do not know key specifications: one run that covers all fixed ones.
pub fn legacy(keys: &[KeySpec]) -> (i64, i64, i64) {
    let fixed = keys.iter().filter_map(|spec| match (spec.begin, spec.find) {
        (
            Begin::Index(first),
            Find::Range {
                last: last @ 0..,
                step,
                ..
            },
        ) => Some((first as i64, first as i64 + i64::from(last), step as i64)),
        (Begin::Index(first), Find::Range { last, step, .. }) => {
            Some((first as i64, i64::from(last), step as i64))
        }
        _ => None,
    });
    let fixed: SmallVec<[(i64, i64, i64); 4]> = fixed.collect();
    match fixed[..] {
        [] => (0, 0, 0),
        [only] => only,
        _ => {
            let first = fixed.iter().map(|run| run.0).min().unwrap_or(0);
            // As unsigned numbers, places counted from the end are beyond all others.
            let last = fixed.iter().map(|run| run.1 as u64).max().unwrap_or(0);
            (first, last as i64, 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(spec: KeySpec, request: &str) -> Vec<usize> {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        spec.positions(&Args::new(&words)).collect()
    }

    #[test]
    fn runs_of_keys() {
        assert_eq!(found(key(1, ""), "GET a"), [1]);
        assert_eq!(found(key(2, ""), "GET a"), [0; 0]);
        assert_eq!(found(keys(1, 1, ""), "DEL a b c"), [1, 2, 3]);
        assert_eq!(found(keys(1, 2, ""), "MSET a b c d"), [1, 3]);
        assert_eq!(found(range(1, -2, 1, ""), "BLPOP a b 0"), [1, 2]);
        assert_eq!(found(range(1, -2, 1, ""), "BLPOP"), [0; 0]);
        assert_eq!(found(range(1, 1, 1, ""), "LCS a b"), [1, 2]);
    }

    #[test]
    fn as_many_keys_as_a_number_says() {
        let spec = keynum(1, 0, 1, "");
        assert_eq!(found(spec, "ZUNION 2 a b WITHSCORES"), [2, 3]);
        assert_eq!(found(spec, "ZUNION 9 a b"), [2, 3]);
        for request in [
            "ZUNION 0 a",
            "ZUNION -1 a",
            "ZUNION x a",
            "ZUNION",
            "ZUNION 99999999999999999999 a",
        ] {
            assert_eq!(found(spec, request), [0; 0], "{request}");
        }
        assert_eq!(found(spec, "ZUNION 9223372036854775807 a"), [2]);
        assert_eq!(found(keynum(2, 0, 1, ""), "ZUNIONSTORE d 1 a"), [3]);
    }

    #[test]
    fn keys_behind_a_word() {
        let streams = keyword("STREAMS", 1, -1, 2, "");
        assert_eq!(found(streams, "XREAD streams a b 0 0"), [2, 3]);
        assert_eq!(found(streams, "XREAD COUNT 1 STREAMS a b 0"), [4]);
        assert_eq!(found(streams, "XREAD STREAMS a"), [0; 0]);
        assert_eq!(found(streams, "XREAD COUNT 1"), [0; 0]);
        assert_eq!(found(streams, "XREAD a b STREAMS"), [0; 0]);
        let store = keyword("STORE", 3, 0, 0, "");
        assert_eq!(found(store, "G a 1 STORE b STORE c"), [4]);
        assert_eq!(found(store, "G a 1 STORE"), [0; 0]);
        let migrate = keyword("KEYS", -2, -1, 0, "");
        assert_eq!(found(migrate, "MIGRATE h p  0 9 KEYS a b"), [7, 8]);
    }

    #[test]
    fn the_first_key_is_where_it_is() {
        let first = |spec: KeySpec, request: &str| {
            let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            spec.first(words.len(), |at| words[at])
        };
        assert_eq!(first(key(1, ""), "GET a"), Some(1));
        assert_eq!(first(key(1, ""), "GET"), None);
        assert_eq!(first(keynum(1, 0, 1, ""), "ZUNION 1 a"), Some(2));
        assert_eq!(
            first(keyword("STREAMS", 1, -1, 2, ""), "XREAD STREAMS a 0"),
            Some(2)
        );
        assert_eq!(first(keyword("STREAMS", 1, -1, 2, ""), "XREAD a 0"), None);
    }

    #[test]
    fn older_clients_see_one_run() {
        assert_eq!(legacy(&[]), (0, 0, 0));
        assert_eq!(legacy(&[keys(1, 2, "")]), (1, -1, 2));
        assert_eq!(legacy(&[key(2, ""), keys(3, 1, "")]), (2, -1, 1));
        assert_eq!(legacy(&[key(1, ""), key(2, "")]), (1, 2, 1));
        assert_eq!(legacy(&[key(1, ""), keynum(2, 0, 1, "")]), (1, 1, 1));
        assert_eq!(legacy(&[keyword("STREAMS", 1, -1, 2, "")]), (0, 0, 0));
    }
}
