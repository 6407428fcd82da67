//! Users as the lines of a file: `user <name> <rule> …`.
//!
//! A file is taken as a whole or not at all, and all that is wrong with it is told at once.

use super::RuleError;
use super::rules::merge_selectors;
use super::user::User;
use super::users::{ByName, Users};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Reads the text of a file, whose name is for errors. An error is a line that names every mistake.
pub fn read(text: &[u8], name: &str, users: &Users) -> Result<Vec<User>, String> {
    let mut read = Vec::new();
    let mut known = BTreeSet::new();
    let mut wrong = String::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let words: Vec<&[u8]> = line
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
            .collect();
        let [b"user", user, rules @ ..] = words.as_slice() else {
            add(
                &mut wrong,
                format_args!("{name}:{number} should start with user keyword followed by the username. "),
            );
            continue;
        };
        if !known.insert(user.to_vec()) {
            let user = String::from_utf8_lossy(user);
            add(
                &mut wrong,
                format_args!("WARNING: Duplicate user '{user}' found on line {number}. "),
            );
            continue;
        }
        read.extend(read_user(user, rules, (name, number), users, &mut wrong));
    }
    if wrong.is_empty() {
        return Ok(read);
    }
    wrong
        .push_str("WARNING: ACL errors detected, no change to the previously active ACL rules was performed");
    Err(wrong)
}

fn add(wrong: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = wrong.write_fmt(text);
}

fn read_user(
    user: &[u8],
    rules: &[&[u8]],
    (name, number): (&str, usize),
    users: &Users,
    wrong: &mut String,
) -> Option<User> {
    let Ok(rules) = merge_selectors(rules) else {
        add(
            wrong,
            format_args!("{name}:{number}: Unmatched parenthesis in selector definition. "),
        );
        return None;
    };
    let mut made = users.make(user);
    // Of a line's mistakes the first is told, and every name that is not known: these hold no secret.
    let mut told = false;
    for rule in rules {
        match users.apply(&mut made, &rule) {
            Ok(()) => {}
            Err(why @ RuleError::Unknown) => {
                let rule = String::from_utf8_lossy(&rule);
                add(
                    wrong,
                    format_args!("{name}:{number}: Error in applying operation '{rule}': {why}. "),
                );
            }
            Err(why) if !told => {
                told = true;
                add(wrong, format_args!("{name}:{number}: {why}. "));
            }
            Err(_) => {}
        }
    }
    Some(made)
}

/// The text of a file with all users.
pub fn write(users: &ByName) -> Vec<u8> {
    let mut text = Vec::new();
    for user in users.values() {
        text.extend_from_slice(&user.line());
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::Few;
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let users = Users::new(&Few);
        let text = b"user b on  >p ~x (+get   ~y)  ~z\n\n  user default on nopass ~* &* +@all \n";
        let first = read(text, "f", &users).unwrap();
        users.replace(first);
        let written = write(&users.all());
        users.replace(read(&written, "f", &users).unwrap());
        assert_eq!(write(&users.all()), written);
    }

    #[test]
    fn every_mistake_is_told() {
        let users = Users::new(&Few);
        let text = b"foo bar\nuser\nuser x\nuser a on\nuser b nosuch other\nuser c (+get\nuser a on\nuser d +nosuch ~* ~b";
        let wrong = read(text, "f", &users).err().unwrap();
        assert_eq!(
            wrong,
            "f:1 should start with user keyword followed by the username. \
             f:2 should start with user keyword followed by the username. \
             f:5: Syntax error. \
             f:6: Unmatched parenthesis in selector definition. \
             WARNING: Duplicate user 'a' found on line 7. \
             f:8: Error in applying operation '+nosuch': Unknown command or category name in ACL. \
             f:8: Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
             effect. Try 'resetkeys' to start with an empty list of patterns. \
             WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
        );
    }
}
