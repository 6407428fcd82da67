//! The arguments of one request, the name first, and the ways to read them.
//!
//! Options are parsed whole before anything runs: a handler never changes a key and then finds a syntax error.

use super::error::Error;
use crate::resp::number::parse_i64;

/// Arguments in place in the connection's buffer.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    items: &'a [&'a [u8]],
}

impl<'a> Args<'a> {
    pub fn new(items: &'a [&'a [u8]]) -> Args<'a> {
        Args { items }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn all(&self) -> &'a [&'a [u8]] {
        self.items
    }

    /// The arguments from `from` on; none when there are fewer.
    pub fn rest(&self, from: usize) -> &'a [&'a [u8]] {
        self.items.get(from..).unwrap_or(&[])
    }

    /// The argument at `at`; arity has been checked, so a missing one is a syntax error of an option.
    pub fn get(&self, at: usize) -> Result<&'a [u8], Error> {
        self.items.get(at).copied().ok_or(Error::Syntax)
    }

    /// An integer, or `value is not an integer or out of range`.
    pub fn int(&self, at: usize) -> Result<i64, Error> {
        parse_i64(self.get(at)?).ok_or(Error::NotInteger)
    }

    /// True when the argument is this word in any case.
    pub fn is(&self, at: usize, word: &str) -> bool {
        self.items
            .get(at)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Option words from `from` on, taken one by one.
    pub fn options(&self, from: usize) -> Options<'a> {
        Options {
            args: *self,
            at: from,
        }
    }
}

impl<'a> std::ops::Index<usize> for Args<'a> {
    type Output = [u8];

    fn index(&self, at: usize) -> &[u8] {
        self.items[at]
    }
}

/// A walk over options and their values.
pub struct Options<'a> {
    args: Args<'a>,
    at: usize,
}

impl<'a> Options<'a> {
    /// The next word; none at the end.
    pub fn next_word(&mut self) -> Option<&'a [u8]> {
        let word = self.args.items.get(self.at).copied();
        self.at += usize::from(word.is_some());
        word
    }

    /// Takes the next word if it is `word` in any case.
    pub fn take(&mut self, word: &str) -> bool {
        let found = self.args.is(self.at, word);
        self.at += usize::from(found);
        found
    }

    /// The value of the option just taken, or a syntax error.
    pub fn value(&mut self) -> Result<&'a [u8], Error> {
        self.next_word().ok_or(Error::Syntax)
    }

    /// The integer value of the option just taken.
    pub fn int(&mut self) -> Result<i64, Error> {
        parse_i64(self.value()?).ok_or(Error::NotInteger)
    }

    /// True when all has been taken.
    pub fn is_done(&self) -> bool {
        self.at >= self.args.len()
    }

    /// How many words are left.
    pub fn left(&self) -> usize {
        self.args.len().saturating_sub(self.at)
    }

    /// A syntax error unless all has been taken.
    pub fn finish(&self) -> Result<(), Error> {
        if self.is_done() {
            Ok(())
        } else {
            Err(Error::Syntax)
        }
    }
}
