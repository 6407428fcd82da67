//! The commands that a selector lets run.
//!
//! What was said is kept as rules, in order: `-@all +@read -get` stays that, also when a later version knows more
//! commands of the category. The bitmap follows from them: a later rule wins over an earlier one, a rule for a
//! container over those for its subcommands.
//!
//! A rule that takes the place of another (`+get` behind `-get`) removes it, and a rule for a command that changes
//! nothing is not kept, so that the list does not grow with every `ACL SETUSER`.

use super::{Named, Request, RuleError, Vocabulary};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Eq, Debug)]
struct CommandRule {
    allow: bool,
    /// `get`, `client|list`, `select|0` or `@read`.
    name: Box<[u8]>,
}

#[derive(Clone, Default)]
pub struct Commands {
    /// What is true before the rules.
    all_at_first: bool,
    rules: Vec<CommandRule>,
    /// Every command, also those that a bitmap does not know.
    all: bool,
    allowed: Box<[u64]>,
    /// By number of a command that is not allowed: what may follow its name all the same.
    first_args: BTreeMap<u32, Vec<Box<[u8]>>>,
}

impl Commands {
    /// True when nothing is refused.
    pub fn is_all(&self) -> bool {
        self.all
    }

    pub fn set_all(&mut self, allow: bool) {
        *self = Commands {
            all_at_first: allow,
            all: allow,
            ..Commands::default()
        };
    }

    /// Allows or refuses a category; `name` is without its `@`.
    pub fn set_category(
        &mut self,
        allow: bool,
        name: &[u8],
        vocabulary: &dyn Vocabulary,
    ) -> Result<(), RuleError> {
        vocabulary.category(name).ok_or(RuleError::Unknown)?;
        let name = [b"@", name].concat().to_ascii_lowercase();
        self.rules.retain(|rule| *rule.name != *name);
        self.rules.push(CommandRule {
            allow,
            name: name.into(),
        });
        self.follow(vocabulary);
        Ok(())
    }

    /// Allows or refuses a command, or allows it with one first argument.
    pub fn set_command(
        &mut self,
        allow: bool,
        name: &[u8],
        vocabulary: &dyn Vocabulary,
    ) -> Result<(), RuleError> {
        let (known, first_arg) = resolve(allow, name, vocabulary)?;
        let name = match first_arg {
            Some(arg) => [known.name.as_bytes(), b"|", arg].concat(),
            None => known.name.as_bytes().to_vec(),
        };
        if first_arg.is_some() && self.rules.iter().any(|rule| rule.covers_exactly(&name)) {
            return Ok(());
        }
        self.rules
            .retain(|rule| !rule.covers_exactly(&name) && !is_part(&rule.name, &name));
        self.follow(vocabulary);
        if !self.says(allow, &known, first_arg) {
            self.rules.push(CommandRule {
                allow,
                name: name.into(),
            });
            self.follow(vocabulary);
        }
        Ok(())
    }

    /// True when a rule for this command would change nothing.
    fn says(&self, allow: bool, known: &Named, first_arg: Option<&[u8]>) -> bool {
        let own = self.is_allowed(known.number);
        if first_arg.is_some() {
            return own;
        }
        own == allow
            && !self.first_args.contains_key(&known.number)
            && known.subcommands.clone().all(|sub| self.is_allowed(sub) == allow)
    }

    /// Makes the bitmap of the rules.
    fn follow(&mut self, vocabulary: &dyn Vocabulary) {
        let words = vocabulary.bound().div_ceil(64) as usize;
        let first = if self.all_at_first { u64::MAX } else { 0 };
        self.allowed = vec![first; words].into();
        self.first_args.clear();
        for rule in std::mem::take(&mut self.rules) {
            self.apply(&rule, vocabulary);
            self.rules.push(rule);
        }
        self.all = self.all_at_first && self.rules.is_empty();
    }

    fn apply(&mut self, rule: &CommandRule, vocabulary: &dyn Vocabulary) {
        if let [b'@', category @ ..] = &*rule.name {
            for command in vocabulary.category(category).unwrap_or_default() {
                self.set(&command, rule.allow);
            }
            return;
        }
        // What was found when the rule was made is found again.
        match resolve(rule.allow, &rule.name, vocabulary) {
            Ok((command, None)) => self.set(&command, rule.allow),
            Ok((command, Some(arg))) => {
                let args = self.first_args.entry(command.number).or_default();
                args.push(arg.into());
            }
            Err(_) => {}
        }
    }

    fn set(&mut self, command: &Named, allow: bool) {
        for number in command.subcommands.clone().chain([command.number]) {
            let (word, bit) = (number as usize / 64, 1 << (number % 64));
            if let Some(word) = self.allowed.get_mut(word) {
                *word = if allow { *word | bit } else { *word & !bit };
            }
        }
        self.first_args.remove(&command.number);
    }

    #[inline]
    fn is_allowed(&self, number: u32) -> bool {
        let word = self.allowed.get(number as usize / 64);
        self.all || word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// The decision.
    #[inline]
    pub fn allow(&self, request: &impl Request) -> bool {
        self.is_allowed(request.number()) || request.is_free() || self.allow_first_arg(request)
    }

    #[cold]
    fn allow_first_arg(&self, request: &impl Request) -> bool {
        let args = self.first_args.get(&request.number());
        let given = request.first_arg();
        args.zip(given)
            .is_some_and(|(args, given)| args.iter().any(|arg| arg.eq_ignore_ascii_case(given)))
    }

    /// The rules that make this, `+@all` or `-@all` first.
    pub fn describe(&self) -> Vec<u8> {
        let mut text: Vec<u8> = if self.all_at_first { b"+@all" } else { b"-@all" }.to_vec();
        for rule in &self.rules {
            text.extend_from_slice(if rule.allow { b" +" } else { b" -" });
            text.extend_from_slice(&rule.name);
        }
        text
    }
}

impl CommandRule {
    fn covers_exactly(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// True when `name` is a subcommand or first argument of `whole`.
fn is_part(name: &[u8], whole: &[u8]) -> bool {
    name.len() > whole.len() && name.starts_with(whole) && name[whole.len()] == b'|'
}

/// The command that a rule names, and the first argument that it is about, if that is no subcommand.
fn resolve<'n>(
    allow: bool,
    name: &'n [u8],
    vocabulary: &dyn Vocabulary,
) -> Result<(Named, Option<&'n [u8]>), RuleError> {
    let bar = name.iter().rposition(|byte| *byte == b'|');
    let (Some(bar), true) = (bar, allow) else {
        let known = vocabulary.command(name).ok_or(RuleError::Unknown)?;
        return Ok((known, None));
    };
    let (command, part) = (&name[..bar], &name[bar + 1..]);
    let known = vocabulary.command(command).ok_or(RuleError::Unknown)?;
    if known.is_subcommand {
        return Err(RuleError::FirstArgOfSubcommand);
    }
    if part.is_empty() {
        return Err(RuleError::Syntax);
    }
    if known.subcommands.is_empty() {
        return Ok((known, Some(part)));
    }
    let sub = vocabulary.command(name).ok_or(RuleError::Unknown)?;
    Ok((sub, None))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Few;
    use super::*;

    fn described(rules: &str) -> String {
        let mut commands = Commands::default();
        commands.set_all(false);
        for rule in rules.split(' ') {
            let (allow, name) = (rule.starts_with('+'), &rule.as_bytes()[1..]);
            match name {
                b"@all" => commands.set_all(allow),
                [b'@', category @ ..] => commands.set_category(allow, category, &Few).unwrap(),
                name => commands.set_command(allow, name, &Few).unwrap(),
            }
        }
        String::from_utf8(commands.describe()).unwrap()
    }

    #[test]
    fn rules_are_kept_while_they_mean_something() {
        for (given, kept) in [
            ("+get", "-@all +get"),
            ("+get -get", "-@all"),
            ("-get", "-@all"),
            ("+@all -get", "+@all -get"),
            ("+@all -get +get", "+@all"),
            ("+@read -get", "-@all +@read -get"),
            ("+@read +get", "-@all +@read"),
            ("+config|get +CONFIG", "-@all +config"),
            ("+config -config|set", "-@all +config -config|set"),
            ("+config -config|set -config", "-@all"),
            ("+@slow -@slow +@slow", "-@all +@slow"),
            ("+select|0 +select|Ab +SELECT|AB", "-@all +select|0 +select|Ab"),
            ("+select|0 +select", "-@all +select"),
            ("+select|0 -select", "-@all"),
            ("+@all +select|0", "+@all"),
        ] {
            assert_eq!(described(given), kept, "{given}");
        }
    }

    #[test]
    fn what_cannot_be_named_is_refused() {
        let refusal = |rule: &str| {
            let allow = rule.starts_with('+');
            Commands::default()
                .set_command(allow, &rule.as_bytes()[1..], &Few)
                .unwrap_err()
        };
        assert_eq!(refusal("+nosuch"), RuleError::Unknown);
        assert_eq!(refusal("+config|nosuch"), RuleError::Unknown);
        assert_eq!(refusal("-select|0"), RuleError::Unknown);
        assert_eq!(refusal("+config|get|x"), RuleError::FirstArgOfSubcommand);
        assert_eq!(refusal("+get|"), RuleError::Syntax);
        assert_eq!(refusal("+|"), RuleError::Unknown);
    }
}
