//! One rule of `ACL SETUSER`, from its text.
//!
//! ```text
//! on off nopass resetpass reset clearselectors sanitize-payload skip-sanitize-payload
//! >password <password #hash !hash            add and remove passwords
//! ~pattern %R~pattern %W~pattern %RW~pattern allkeys resetkeys
//! &pattern allchannels resetchannels
//! +command +command|sub -command +@category -@category allcommands nocommands
//! (rule rule ...)                            one more selector
//! ```
//!
//! Words are taken in any case. What a rule names is looked at when it is applied, not here.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule<'a> {
    /// An empty word changes nothing.
    Nothing,
    On,
    Off,
    NoPass,
    ResetPass,
    SanitizePayload(bool),
    AddPassword(&'a [u8]),
    RemovePassword(&'a [u8]),
    AddHash(&'a [u8]),
    RemoveHash(&'a [u8]),
    /// What stands between the parentheses.
    Selector(&'a [u8]),
    ClearSelectors,
    Reset,
    AllKeys,
    ResetKeys,
    /// The whole rule, with its `~` or `%`; see [`key_pattern`].
    Keys(&'a [u8]),
    AllChannels,
    ResetChannels,
    Channel(&'a [u8]),
    AllCommands,
    NoCommands,
    /// A command's full name, maybe with an argument in the place of a subcommand.
    Command {
        allow: bool,
        name: &'a [u8],
    },
    Category {
        allow: bool,
        name: &'a [u8],
    },
}

/// Why a rule cannot be applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleError {
    Syntax,
    Unknown,
    KeysAfterAll,
    ChannelsAfterAll,
    NoSuchPassword,
    BadHash,
    FirstArgOfSubcommand,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleError::Syntax => "Syntax error",
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::KeysAfterAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
                 effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::ChannelsAfterAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have \
                 any effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => {
                "The password you are trying to remove from the user does not exist"
            }
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
        })
    }
}

impl std::error::Error for RuleError {}

/// Rules that are a word.
const WORDS: &[(&str, Rule<'static>)] = &[
    ("on", Rule::On),
    ("off", Rule::Off),
    ("nopass", Rule::NoPass),
    ("resetpass", Rule::ResetPass),
    ("sanitize-payload", Rule::SanitizePayload(true)),
    ("skip-sanitize-payload", Rule::SanitizePayload(false)),
    ("clearselectors", Rule::ClearSelectors),
    ("reset", Rule::Reset),
    ("allkeys", Rule::AllKeys),
    ("~*", Rule::AllKeys),
    ("resetkeys", Rule::ResetKeys),
    ("allchannels", Rule::AllChannels),
    ("&*", Rule::AllChannels),
    ("resetchannels", Rule::ResetChannels),
    ("allcommands", Rule::AllCommands),
    ("+@all", Rule::AllCommands),
    ("nocommands", Rule::NoCommands),
    ("-@all", Rule::NoCommands),
];

impl<'a> Rule<'a> {
    pub fn parse(text: &'a [u8]) -> Result<Rule<'a>, RuleError> {
        let mut words = WORDS.iter();
        if let Some((_, rule)) = words.find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(text)) {
            return Ok(*rule);
        }
        Ok(match text {
            [] => Rule::Nothing,
            [b'>', password @ ..] => Rule::AddPassword(password),
            [b'<', password @ ..] => Rule::RemovePassword(password),
            [b'#', hash @ ..] => Rule::AddHash(hash),
            [b'!', hash @ ..] => Rule::RemoveHash(hash),
            [b'(', inner @ .., b')'] => Rule::Selector(inner),
            [b'~' | b'%', ..] => Rule::Keys(text),
            [b'&', pattern @ ..] => Rule::Channel(pattern),
            [sign @ (b'+' | b'-'), b'@', name @ ..] => Rule::Category {
                allow: *sign == b'+',
                name,
            },
            [sign @ (b'+' | b'-'), name @ ..] => Rule::Command {
                allow: *sign == b'+',
                name,
            },
            _ => return Err(RuleError::Syntax),
        })
    }
}

/// True where a name or a pattern could not be told from two in a line.
pub fn has_spaces(text: &[u8]) -> bool {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r' | 0);
    text.iter().any(space)
}

/// The pattern of a rule on keys, and whether it is for reading and for writing.
pub fn key_pattern(rule: &[u8]) -> Result<(&[u8], bool, bool), RuleError> {
    let (mut read, mut write) = (false, false);
    let pattern = match rule {
        [b'~', pattern @ ..] => {
            (read, write) = (true, true);
            pattern
        }
        [_, kinds @ ..] => {
            let mut rest = kinds;
            loop {
                match rest {
                    [b'R' | b'r', after @ ..] if !read => (read, rest) = (true, after),
                    [b'W' | b'w', after @ ..] if !write => (write, rest) = (true, after),
                    [b'~', pattern @ ..] if read || write => break pattern,
                    // Without a `~` the pattern is the empty one.
                    [] if read || write => break rest,
                    _ => return Err(RuleError::Syntax),
                }
            }
        }
        [] => return Err(RuleError::Syntax),
    };
    if has_spaces(pattern) {
        return Err(RuleError::Syntax);
    }
    Ok((pattern, read, write))
}

/// Puts a selector that was given in several arguments back into one. An error is the argument that opens one which
/// nothing closes.
pub fn merge_selectors(args: &[&[u8]]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut merged: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<(Vec<u8>, &[u8])> = None;
    for arg in args {
        let closes = arg.last() == Some(&b')');
        match &mut open {
            Some((selector, _)) => {
                selector.push(b' ');
                selector.extend_from_slice(arg);
                if closes {
                    merged.extend(open.take().map(|(selector, _)| selector));
                }
            }
            None if arg.first() == Some(&b'(') && !closes => open = Some((arg.to_vec(), arg)),
            None => merged.push(arg.to_vec()),
        }
    }
    match open {
        Some((_, first)) => Err(first.to_vec()),
        None => Ok(merged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_apart() {
        for (text, rule) in [
            ("ON", Rule::On),
            ("~*", Rule::AllKeys),
            ("~a", Rule::Keys(b"~a")),
            ("%R", Rule::Keys(b"%R")),
            ("+@ALL", Rule::AllCommands),
            (
                "-@read",
                Rule::Category {
                    allow: false,
                    name: b"read",
                },
            ),
            (
                "+client|list",
                Rule::Command {
                    allow: true,
                    name: b"client|list",
                },
            ),
            ("(+get)", Rule::Selector(b"+get")),
            ("()", Rule::Selector(b"")),
            (">", Rule::AddPassword(b"")),
            ("", Rule::Nothing),
        ] {
            assert_eq!(Rule::parse(text.as_bytes()), Ok(rule), "{text}");
        }
        for text in ["nosuch", ")", "(", "x)", "(+get"] {
            assert_eq!(Rule::parse(text.as_bytes()), Err(RuleError::Syntax), "{text}");
        }
    }

    #[test]
    fn kinds_of_access_stand_before_a_pattern() {
        assert_eq!(key_pattern(b"~x"), Ok((&b"x"[..], true, true)));
        assert_eq!(key_pattern(b"%wR~x"), Ok((&b"x"[..], true, true)));
        assert_eq!(key_pattern(b"%R~"), Ok((&b""[..], true, false)));
        assert_eq!(key_pattern(b"%W"), Ok((&b""[..], false, true)));
        for wrong in [&b"%"[..], b"%~x", b"%X~x", b"%RR~x", b"%R~a b", b"~a\0"] {
            assert_eq!(key_pattern(wrong), Err(RuleError::Syntax));
        }
    }

    #[test]
    fn selectors_in_several_arguments_become_one() {
        let merge = |args: &[&str]| {
            let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
            let text = |arg: Vec<u8>| String::from_utf8(arg).unwrap();
            merge_selectors(&args)
                .map(|merged| merged.into_iter().map(text).collect::<Vec<_>>())
                .map_err(text)
        };
        assert_eq!(
            merge(&["on", "(+get", "~a)", "(x)"]).unwrap(),
            ["on", "(+get ~a)", "(x)"]
        );
        assert_eq!(merge(&["(+get", "(~a)"]).unwrap(), ["(+get (~a)"]);
        assert_eq!(merge(&["on", "(+get", "~a"]).unwrap_err(), "(+get");
    }
}
