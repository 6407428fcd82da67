//! Rules of users: no text makes the parser panic, a user that was made of rules is made again of those that describe
//! it, and the arrangement of patterns decides as trying each of them does.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../src/acl/mod.rs"]
mod acl;
#[allow(dead_code)]
#[path = "../../src/command/glob.rs"]
mod glob;
/// Where `acl` looks for patterns.
mod command {
    pub(crate) use crate::glob;
}

use acl::patterns::{Access, Patterns};
use acl::users::Users;
use acl::{Named, Vocabulary, file, rules};

/// Names, numbers, subcommands, categories.
const FEW: &[(&str, u32, std::ops::Range<u32>, &[&str])] = &[
    ("get", 1, 0..0, &["read"]),
    ("a|b", 2, 0..0, &["read", "slow"]),
    ("a|c", 3, 0..0, &["slow"]),
    ("a", 4, 2..4, &["slow"]),
    ("b", 64, 0..0, &["read"]),
];

struct Few;

fn named(row: &(&'static str, u32, std::ops::Range<u32>, &[&str])) -> Named {
    Named {
        name: row.0,
        number: row.1,
        subcommands: row.2.clone(),
        is_subcommand: row.0.contains('|'),
    }
}

impl Vocabulary for Few {
    fn bound(&self) -> u32 {
        65
    }

    fn command(&self, name: &[u8]) -> Option<Named> {
        let row = FEW.iter().find(|row| row.0.as_bytes().eq_ignore_ascii_case(name));
        row.map(named)
    }

    fn category(&self, name: &[u8]) -> Option<Vec<Named>> {
        let is = |category: &&str| category.as_bytes().eq_ignore_ascii_case(name);
        let found: Vec<Named> = FEW.iter().filter(|row| row.3.iter().any(is)).map(named).collect();
        (!found.is_empty()).then_some(found)
    }
}

fuzz_target!(|input: &[u8]| {
    let users = Users::new(&Few);
    let words: Vec<&[u8]> = input.split(|byte| *byte == b' ').collect();
    if let Ok(given) = rules::merge_selectors(&words) {
        let mut user = users.make(b"u");
        for rule in &given {
            // A rule that does not apply changes nothing.
            let before = user.clone();
            if users.apply(&mut user, rule).is_err() {
                user = before;
            }
        }
        users.add(vec![user]);
        let text = file::write(&users.all());
        let read = file::read(&text, "f", &users);
        // As in Redis, a pattern of a selector that ends in a parenthesis ends the selector when it is read again.
        let ends_early = given.iter().any(|rule| ends_early(rule));
        let is_line = !ends_early && !user_has_line_ends(&text, users.all().len());
        assert!(read.is_ok() || !is_line, "{}", text.escape_ascii());
        if let (Ok(read), true) = (read, is_line) {
            users.replace(read);
            assert_eq!(file::write(&users.all()).escape_ascii().to_string(), text.escape_ascii().to_string());
        }
    }
    let _ = file::read(input, "f", &users);
    let (key, patterns) = input.split_at(input.len().min(12));
    let mut all = Patterns::default();
    let list: Vec<&[u8]> = patterns.split(|byte| *byte == b'\n').collect();
    list.iter().for_each(|pattern| all.add(pattern, Access::READ));
    let expected = list.iter().any(|pattern| command::glob::matches(pattern, key));
    assert_eq!(all.allow(key, Access::READ), expected);
});

/// The rule is a selector, and one of those in it ends as a selector does.
fn ends_early(rule: &[u8]) -> bool {
    match rule {
        [b'(', inner @ .., b')'] => inner.split(|byte| *byte == b' ').any(|rule| rule.ends_with(b")")),
        _ => false,
    }
}

/// Patterns hold no white space, so a file has as many lines as users.
fn user_has_line_ends(text: &[u8], users: usize) -> bool {
    text.iter().filter(|byte| **byte == b'\n').count() != users
}
