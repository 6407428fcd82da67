//! Commands, keys and channels that belong together: a command may run if one selector allows all that it needs.

use super::commands::Commands;
use super::patterns::{Access, Patterns};
use super::rules::{Rule, has_spaces, key_pattern};
use super::{Denied, Request, RuleError, Vocabulary};
use crate::command::glob;

/// What a new selector, and one that was reset, allows.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Defaults {
    /// `acl-pubsub-default allchannels`.
    pub all_channels: bool,
}

#[derive(Clone, Default)]
pub struct Selector {
    pub commands: Commands,
    all_keys: bool,
    keys: Patterns,
    all_channels: bool,
    channels: Vec<Box<[u8]>>,
}

impl Selector {
    /// Allows nothing but what `defaults` says.
    pub fn new(defaults: Defaults) -> Selector {
        let mut selector = Selector {
            all_channels: defaults.all_channels,
            ..Selector::default()
        };
        selector.commands.set_all(false);
        selector
    }

    /// Reads the rules between the parentheses of a selector.
    pub fn parse(
        text: &[u8],
        defaults: Defaults,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Selector, RuleError> {
        let mut selector = Selector::new(defaults);
        for rule in text.split(|byte| *byte == b' ') {
            selector.apply(Rule::parse(rule)?, vocabulary)?;
        }
        Ok(selector)
    }

    /// Applies a rule; one that is about the user as a whole is a syntax error here.
    pub fn apply(&mut self, rule: Rule<'_>, vocabulary: &dyn Vocabulary) -> Result<(), RuleError> {
        match rule {
            Rule::Nothing => {}
            Rule::AllKeys => {
                self.all_keys = true;
                self.keys.clear();
            }
            Rule::ResetKeys => {
                self.all_keys = false;
                self.keys.clear();
            }
            Rule::Keys(_) if self.all_keys => return Err(RuleError::KeysAfterAll),
            Rule::Keys(text) => {
                let (pattern, read, write) = key_pattern(text)?;
                self.keys.add(pattern, Access::new(read, write));
            }
            Rule::AllChannels => {
                self.all_channels = true;
                self.channels.clear();
            }
            Rule::ResetChannels => {
                self.all_channels = false;
                self.channels.clear();
            }
            Rule::Channel(_) if self.all_channels => return Err(RuleError::ChannelsAfterAll),
            Rule::Channel(pattern) if has_spaces(pattern) => return Err(RuleError::Syntax),
            Rule::Channel(pattern) => {
                if !self.channels.iter().any(|known| **known == *pattern) {
                    self.channels.push(pattern.into());
                }
            }
            Rule::AllCommands => self.commands.set_all(true),
            Rule::NoCommands => self.commands.set_all(false),
            Rule::Category { allow, name } => self.commands.set_category(allow, name, vocabulary)?,
            Rule::Command { allow, name } => self.commands.set_command(allow, name, vocabulary)?,
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    /// True when nothing is refused.
    pub fn is_unlimited(&self) -> bool {
        self.commands.is_all() && self.all_keys && self.all_channels
    }

    pub fn hears_all(&self) -> bool {
        self.all_channels
    }

    pub fn channels(&self) -> &[Box<[u8]>] {
        &self.channels
    }

    /// The decision of this selector alone.
    #[inline]
    pub fn check(&self, request: &impl Request) -> Result<(), Denied> {
        if !self.commands.allow(request) {
            return Err(Denied::Command);
        }
        if !self.all_keys {
            for (at, needed) in request.keys() {
                if !self.keys.allow(request.arg(at), needed) {
                    return Err(Denied::Key(at));
                }
            }
        }
        if !self.all_channels {
            let (mut places, literal) = request.channels();
            if let Some(at) = places.find(|at| !self.hears(request.arg(*at), literal)) {
                return Err(Denied::Channel(at));
            }
        }
        Ok(())
    }

    /// True when a channel is allowed; a pattern only if it was given as it is.
    pub fn hears(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|allowed| match is_pattern {
                true => **allowed == *channel,
                false => glob::matches(allowed, channel),
            })
    }

    /// True when every key may be used in this way.
    pub fn reaches_all_keys(&self, needed: Access) -> bool {
        self.all_keys || self.keys.allow_all(needed)
    }

    pub fn describe_keys(&self) -> Vec<u8> {
        match self.all_keys {
            true => b"~*".to_vec(),
            false => self.keys.rules().join(&b' '),
        }
    }

    pub fn describe_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let rules: Vec<Vec<u8>> = self
            .channels
            .iter()
            .map(|channel| [b"&", &channel[..]].concat())
            .collect();
        rules.join(&b' ')
    }

    /// The rules that make this selector of a new one.
    pub fn describe(&self) -> Vec<u8> {
        let reset: &[u8] = if self.all_channels { b"" } else { b"resetchannels" };
        let parts = [
            self.describe_keys(),
            reset.to_vec(),
            self.describe_channels(),
            self.commands.describe(),
        ];
        let parts: Vec<Vec<u8>> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(&b' ')
    }
}
