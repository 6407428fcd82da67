//! The patterns of keys of a selector, arranged so that many cost little more than one.
//!
//! Nearly every pattern is a prefix and a `*`. Prefixes of which none begins with another stand in the order of their
//! bytes; then only the greatest one that is not beyond the key can be the key's beginning, and a binary search over
//! the first eight bytes of each finds it:
//!
//! ```text
//! heads     "app:"  "cache:1"  "user:100"  "user:100"      one word each: seven steps for a hundred patterns
//! prefixes  app:    cache:1    user:100:   user:1001:      looked at once, at the end
//! ```
//!
//! A pattern without anything special is a member of a set. What is left is tried one by one, if its first bytes are
//! those of the key.

use crate::command::glob;
use foldhash::fast::RandomState;
use std::collections::HashSet;

/// What is done with a key: read, written, both, or only looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access(u8);

impl Access {
    pub const NONE: Access = Access(0);
    pub const READ: Access = Access(1);
    pub const WRITE: Access = Access(2);
    pub const BOTH: Access = Access(3);

    pub fn new(read: bool, write: bool) -> Access {
        Access(u8::from(read) | u8::from(write) << 1)
    }

    pub fn and(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }

    fn covers(self, needed: Access) -> bool {
        self.0 & needed.0 == needed.0
    }
}

struct Pattern {
    text: Box<[u8]>,
    access: Access,
}

/// Patterns in the order in which they were given, and for each kind of access those that allow it.
#[derive(Default)]
pub struct Patterns {
    list: Vec<Pattern>,
    /// By what is needed, as `Access` counts.
    compiled: [Compiled; 4],
}

impl Clone for Patterns {
    fn clone(&self) -> Patterns {
        let mut copy = Patterns::default();
        for pattern in &self.list {
            copy.list.push(Pattern {
                text: pattern.text.clone(),
                access: pattern.access,
            });
        }
        copy.compile();
        copy
    }
}

impl Patterns {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn clear(&mut self) {
        *self = Patterns::default();
    }

    /// Adds a pattern, or kinds of access to one that is there.
    pub fn add(&mut self, text: &[u8], access: Access) {
        match self.list.iter_mut().find(|pattern| *pattern.text == *text) {
            Some(pattern) => pattern.access = pattern.access.and(access),
            None => self.list.push(Pattern {
                text: text.into(),
                access,
            }),
        }
        self.compile();
    }

    fn compile(&mut self) {
        self.compiled = [Access::NONE, Access::READ, Access::WRITE, Access::BOTH].map(|needed| {
            let allowing = self.list.iter().filter(|pattern| pattern.access.covers(needed));
            Compiled::new(allowing.map(|pattern| &*pattern.text))
        });
    }

    /// True when one pattern fits the key and allows all that is needed.
    #[inline]
    pub fn allow(&self, key: &[u8], needed: Access) -> bool {
        self.compiled[usize::from(needed.0 & 3)].fits(key)
    }

    /// True when every key may be used in this way.
    pub fn allow_all(&self, needed: Access) -> bool {
        let mut all = self.list.iter();
        all.any(|pattern| &*pattern.text == b"*" && pattern.access.covers(needed))
    }

    /// The rules that make these patterns.
    pub fn rules(&self) -> Vec<Vec<u8>> {
        let rule = |pattern: &Pattern| {
            let sign: &[u8] = match pattern.access {
                Access::READ => b"%R~",
                Access::WRITE => b"%W~",
                _ => b"~",
            };
            [sign, &pattern.text].concat()
        };
        self.list.iter().map(rule).collect()
    }
}

#[derive(Default)]
struct Compiled {
    /// Every key that is not empty.
    any: bool,
    exact: HashSet<Box<[u8]>, RandomState>,
    heads: Vec<u64>,
    /// Ascending; none begins with another.
    prefixes: Vec<Box<[u8]>>,
    others: Vec<Other>,
}

/// A pattern that is neither a prefix nor a single key.
struct Other {
    text: Box<[u8]>,
    /// Its plain beginning, up to eight bytes.
    head: u64,
    mask: u64,
}

impl Compiled {
    fn new<'p>(texts: impl Iterator<Item = &'p [u8]>) -> Compiled {
        let mut compiled = Compiled::default();
        for text in texts {
            let special = text.iter().position(|byte| b"*?[\\".contains(byte));
            match special {
                None => drop(compiled.exact.insert(text.into())),
                Some(0) if text == b"*" => compiled.any = true,
                Some(at) if at + 1 == text.len() && text[at] == b'*' => {
                    compiled.prefixes.push(text[..at].into());
                }
                Some(at) => {
                    let plain = at.min(8);
                    compiled.others.push(Other {
                        text: text.into(),
                        head: head(&text[..plain]),
                        mask: head(&[0xff; 8][..plain]),
                    });
                }
            }
        }
        compiled.prefixes.sort_unstable();
        // What follows its own beginning in this order adds nothing.
        compiled
            .prefixes
            .dedup_by(|next, before| next.starts_with(before));
        compiled.heads = compiled.prefixes.iter().map(|prefix| head(prefix)).collect();
        compiled
    }

    #[inline]
    fn fits(&self, key: &[u8]) -> bool {
        if self.any && !key.is_empty() {
            return true;
        }
        let key_head = head(key);
        if !self.heads.is_empty() && self.has_prefix_of(key, key_head) {
            return true;
        }
        if !self.exact.is_empty() && self.exact.contains(key) {
            return true;
        }
        self.others
            .iter()
            .any(|other| key_head & other.mask == other.head && glob::matches(&other.text, key))
    }

    #[inline]
    fn has_prefix_of(&self, key: &[u8], key_head: u64) -> bool {
        let mut beyond = self.heads.partition_point(|head| *head <= key_head);
        if beyond > 0 && self.heads[beyond - 1] == key_head {
            // The words do not tell which of these is not beyond the key.
            beyond = self.prefixes[..beyond].partition_point(|prefix| **prefix <= *key);
        }
        beyond > 0 && key.starts_with(&self.prefixes[beyond - 1])
    }
}

/// The first eight bytes as a number that compares as they do; zeros stand for missing ones.
#[inline]
fn head(text: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = text.len().min(8);
    word[..len].copy_from_slice(&text[..len]);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[(&str, Access)]) -> Patterns {
        let mut patterns = Patterns::default();
        list.iter()
            .for_each(|(text, access)| patterns.add(text.as_bytes(), *access));
        patterns
    }

    #[test]
    fn access_counts_for_the_pattern_that_fits() {
        let all = patterns(&[
            ("a*", Access::BOTH),
            ("r*", Access::READ),
            ("w*", Access::WRITE),
            ("rw*", Access::WRITE),
        ]);
        assert!(all.allow(b"a1", Access::BOTH) && all.allow(b"r1", Access::READ));
        assert!(!all.allow(b"r1", Access::WRITE) && !all.allow(b"x", Access::NONE));
        assert!(all.allow(b"w", Access::NONE) && all.allow(b"rw1", Access::READ));
        // Each kind by another pattern is not both by one.
        assert!(all.allow(b"rw1", Access::WRITE) && !all.allow(b"rw1", Access::BOTH));
    }

    /// The arrangement decides as trying every pattern would.
    #[test]
    fn compiled_patterns_decide_as_a_glob_does() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut text = |most: usize, letters: &[u8]| -> Vec<u8> {
            (0..random.usize(0..=most))
                .map(|_| letters[random.usize(..letters.len())])
                .collect()
        };
        for _ in 0..2_000 {
            let list: Vec<Vec<u8>> = (0..12).map(|_| text(12, b"aaab\0*?[\\")).collect();
            let prefixes: Vec<Vec<u8>> = (0..6).map(|_| [text(11, b"aab"), vec![b'*']].concat()).collect();
            let mut all = Patterns::default();
            let list = [list, prefixes].concat();
            list.iter().for_each(|pattern| all.add(pattern, Access::READ));
            for _ in 0..20 {
                let key = text(14, b"aaab\0");
                let expected = list.iter().any(|pattern| glob::matches(pattern, &key));
                assert_eq!(
                    all.allow(&key, Access::READ),
                    expected,
                    "{} of {:?}",
                    key.escape_ascii(),
                    list.iter()
                        .map(|p| p.escape_ascii().to_string())
                        .collect::<Vec<_>>()
                );
            }
        }
    }

    #[test]
    fn patterns_are_given_back_as_rules() {
        let all = patterns(&[
            ("a", Access::READ),
            ("b*", Access::WRITE),
            ("c", Access::BOTH),
            ("a", Access::WRITE),
        ]);
        let rules = all.rules();
        assert_eq!(rules, [&b"~a"[..], b"%W~b*", b"~c"]);
    }
}
