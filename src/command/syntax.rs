//! The arguments of a command as `COMMAND DOCS` shows them, made out of the notation of command pages.
//!
//! ```text
//! syntax   = item ...                  in this order
//! item     = WORD                      a token: stands for itself, or leads the item behind it
//!          | word                      an argument
//!          | "[" choices "]"           may be left out
//!          | "<" choices ">"           a group
//! choices  = syntax ("|" syntax) ...   one of them
//! ```
//!
//! `key [key ...]` is one argument that may be given several times; so is `[key value ...]`, of two. Groups have no
//! names in the notation: they get those of their parts, joined.
//!
//! The table's own texts are parsed, so a mistake is a fault of a row, which a test finds.

use super::spec::{Begin, Find, KeySpec};

/// What kind of value an argument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    /// The token is all there is.
    PureToken,
    OneOf,
    Block,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }
}

/// One argument, or a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    pub name: String,
    pub kind: Kind,
    /// Stands before it.
    pub token: Option<String>,
    pub optional: bool,
    pub multiple: bool,
    /// The token is repeated with each value.
    pub multiple_token: bool,
    /// Which of the command's key specifications it belongs to.
    pub key_spec: Option<usize>,
    /// Parts of a block, choices of a oneof.
    pub parts: Vec<Argument>,
}

impl Argument {
    fn leaf(name: String, kind: Kind) -> Argument {
        Argument {
            name,
            kind,
            token: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            key_spec: None,
            parts: Vec::new(),
        }
    }

    fn group(kind: Kind, parts: Vec<Argument>) -> Argument {
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        Argument {
            parts: parts.clone(),
            ..Argument::leaf(names.join("_"), kind)
        }
    }
}

/// Why a notation cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError(pub String);

/// The arguments of a notation; `keys` are the command's, `before` the words of its name.
pub fn parse(syntax: &str, keys: &[KeySpec], before: usize) -> Result<Vec<Argument>, SyntaxError> {
    let tokens = split(syntax);
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
    };
    let mut arguments = parser.sequence()?;
    if parser.at < tokens.len() {
        return Err(SyntaxError(format!("`{}` comes too early", tokens[parser.at])));
    }
    let mut place = Place {
        at: Some(before),
        behind: None,
    };
    arguments
        .iter_mut()
        .for_each(|argument| find_keys(argument, keys, &mut place));
    Ok(arguments)
}

/// Brackets and bars are words of their own.
fn split(syntax: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for char in syntax.chars() {
        match char {
            '[' | ']' | '<' | '>' | '|' => words.extend([char.to_string(), String::new()]),
            ' ' => words.push(String::new()),
            _ => {
                // proof: there is a word from the start on, and none is taken away.
                words.last_mut().unwrap().push(char);
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

struct Parser<'a> {
    tokens: &'a [String],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn sequence(&mut self) -> Result<Vec<Argument>, SyntaxError> {
        let mut items: Vec<Argument> = Vec::new();
        while let Some(word) = self.peek() {
            match word {
                "]" | ">" | "|" => break,
                "[" if self.take_repetition(&mut items) => {}
                "[" => {
                    let group = self.bracketed("]")?;
                    items.push(Argument {
                        optional: true,
                        ..group
                    });
                }
                "<" => {
                    let group = self.bracketed(">")?;
                    items.push(group);
                }
                "..." => {
                    self.at += 1;
                    let all = std::mem::take(&mut items);
                    if all.is_empty() {
                        return Err(SyntaxError("nothing before `...`".into()));
                    }
                    items.push(repeated(all, false));
                }
                word => {
                    let item = if is_token(word) {
                        Argument {
                            token: Some(word.into()),
                            ..Argument::leaf(word.to_ascii_lowercase(), Kind::PureToken)
                        }
                    } else {
                        Argument::leaf(word.into(), kind_of(word))
                    };
                    self.at += 1;
                    items.push(item);
                }
            }
        }
        Ok(items)
    }

    /// A group up to its closing bracket.
    fn bracketed(&mut self, close: &str) -> Result<Argument, SyntaxError> {
        self.at += 1;
        let mut choices = Vec::new();
        loop {
            let items = self.sequence()?;
            if items.is_empty() {
                return Err(SyntaxError(format!("an empty group before `{close}`")));
            }
            choices.push(joined(items));
            match self.peek() {
                Some("|") => self.at += 1,
                Some(word) if word == close => break,
                _ => return Err(SyntaxError(format!("`{close}` is missing"))),
            }
        }
        self.at += 1;
        if choices.len() == 1 {
            return Ok(choices.remove(0));
        }
        Ok(Argument::group(Kind::OneOf, choices))
    }

    /// `a b [a b ...]`: what stands in the brackets stands before them too. Takes it and marks what it repeats.
    fn take_repetition(&mut self, items: &mut Vec<Argument>) -> bool {
        let Some(len) = self.tokens[self.at + 1..]
            .windows(2)
            .position(|pair| pair == ["...", "]"])
        else {
            return false;
        };
        let inner = &self.tokens[self.at + 1..self.at + 1 + len];
        let before = &self.tokens[self.at.saturating_sub(len)..self.at];
        if inner.is_empty() || inner != before {
            return false;
        }
        // Items are not words: as many of the last items as the repeated words make.
        let mut again = Parser { tokens: inner, at: 0 };
        let Ok(count) = again.sequence().map(|items| items.len()) else {
            return false;
        };
        let repeats = items.split_off(items.len().saturating_sub(count));
        let token_too = inner.len() > 1 && is_token(&inner[0]);
        items.push(repeated(repeats, token_too));
        self.at += len + 3;
        true
    }
}

fn is_token(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_uppercase()) && !word.bytes().any(|byte| byte.is_ascii_lowercase())
        || matches!(word, "*" | "=" | "~" | "$" | "/")
}

/// One argument out of a sequence: a token leads what is behind it.
fn joined(mut items: Vec<Argument>) -> Argument {
    if items.len() == 1 {
        return items.remove(0);
    }
    if items[0].kind != Kind::PureToken || items[0].optional {
        return Argument::group(Kind::Block, items);
    }
    let first = items.remove(0);
    if items.len() == 1 && items[0].token.is_none() && !items[0].optional {
        let only = items.remove(0);
        return Argument {
            token: first.token,
            ..only
        };
    }
    Argument {
        token: first.token,
        ..Argument::group(Kind::Block, items)
    }
}

fn repeated(items: Vec<Argument>, multiple_token: bool) -> Argument {
    Argument {
        multiple: true,
        multiple_token,
        ..joined(items)
    }
}

/// What the usual names stand for.
fn kind_of(name: &str) -> Kind {
    match name {
        "pattern" => Kind::Pattern,
        "unix-time-seconds" | "unix-time-milliseconds" => Kind::UnixTime,
        "seconds" | "milliseconds" | "count" | "cursor" | "offset" | "start" | "end" | "stop" | "index"
        | "increment" | "decrement" | "db" | "index1" | "index2" | "destination-db" | "client-id"
        | "timeout" | "maxage" | "protover" | "version" | "limit" | "min-match-len" | "bit"
        | "numreplicas" | "numkeys" | "n" => Kind::Integer,
        "float-increment" => Kind::Double,
        _ => Kind::String,
    }
}

/// Where an argument stands.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    /// Its number in a request; behind an argument of unknown length none is known.
    at: Option<usize>,
    /// The token just before it.
    behind: Option<String>,
}

/// Marks the arguments that are keys by where they stand.
fn find_keys(argument: &mut Argument, keys: &[KeySpec], place: &mut Place) {
    if let Some(token) = &argument.token {
        place.behind = Some(token.clone());
        if let Some(at) = &mut place.at {
            *at += 1;
        }
    }
    match argument.kind {
        Kind::PureToken => {}
        Kind::OneOf => {
            // The places behind are known only where every choice is as long.
            let mut ends = Vec::new();
            for part in &mut argument.parts {
                let mut end = place.clone();
                find_keys(part, keys, &mut end);
                ends.push(end.at);
            }
            ends.dedup();
            place.at = if let [end] = ends[..] { end } else { None };
            place.behind = None;
        }
        Kind::Block => {
            for part in &mut argument.parts {
                find_keys(part, keys, place);
            }
        }
        _ => {
            if let Some(spec) = keys.iter().position(|spec| begins(spec, place)) {
                argument.kind = Kind::Key;
                argument.key_spec = Some(spec);
            }
            if let Some(at) = &mut place.at {
                *at += 1;
            }
            place.behind = None;
        }
    }
    if argument.optional || argument.multiple {
        place.at = None;
        place.behind = None;
    }
}

/// Whether the keys of a specification begin here, or one of a fixed few stands here.
fn begins(spec: &KeySpec, place: &Place) -> bool {
    let first = match spec.begin {
        Begin::Index(first) => first,
        Begin::Keyword { word, .. } => return place.behind.as_deref() == Some(word),
        Begin::Unknown => return false,
    };
    match (spec.find, place.at) {
        (Find::Range { last, step, .. }, Some(at)) => {
            let fixed = usize::try_from(last).unwrap_or(0);
            (first..=first + fixed)
                .step_by(step.max(1))
                .any(|place| place == at)
        }
        (Find::Keynum { first: behind, .. }, Some(at)) => at == first + behind,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::spec::{key, keynum, keys, keyword};
    use crate::command::table;

    /// A short form of a tree, for comparison.
    fn show(arguments: &[Argument]) -> String {
        let one = |argument: &Argument| {
            let mut text = argument.name.clone();
            text += &format!(":{}", argument.kind.name());
            if let Some(token) = &argument.token {
                text += &format!("={token}");
            }
            if let Some(spec) = argument.key_spec {
                text += &format!("@{spec}");
            }
            let marks = [
                (argument.optional, '?'),
                (argument.multiple, '*'),
                (argument.multiple_token, '+'),
            ];
            text.extend(marks.iter().filter(|(on, _)| *on).map(|(_, mark)| mark));
            if !argument.parts.is_empty() {
                text += &format!("({})", show(&argument.parts));
            }
            text
        };
        arguments.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn shown(syntax: &str, keys: &[KeySpec], before: usize) -> String {
        show(&parse(syntax, keys, before).unwrap())
    }

    #[test]
    fn notations_become_trees() {
        let one = [key(1, "RO ACCESS")];
        assert_eq!(shown("key", &one, 1), "key:key@0");
        assert_eq!(
            shown("key value [NX | XX] [GET] [EX seconds | KEEPTTL]", &one, 1),
            "key:key@0 value:string nx_xx:oneof?(nx:pure-token=NX xx:pure-token=XX) get:pure-token=GET? \
             seconds_keepttl:oneof?(seconds:integer=EX keepttl:pure-token=KEEPTTL)"
        );
        assert_eq!(shown("key [key ...]", &[keys(1, 1, "RO")], 1), "key:key@0*");
        assert_eq!(
            shown("key value [key value ...]", &[keys(1, 2, "OW")], 1),
            "key_value:block*(key:key@0 value:string)"
        );
        assert_eq!(shown("[event ...]", &[], 2), "event:string?*");
        assert_eq!(
            shown("key [SAMPLES count]", &[key(2, "RO")], 2),
            "key:key@0 count:integer=SAMPLES?"
        );
    }

    #[test]
    fn tokens_lead_what_is_behind_them() {
        assert_eq!(
            shown("[protover [AUTH username password] [SETNAME clientname]]", &[], 1),
            "protover_username_password_clientname:block?(protover:integer \
             username_password:block=AUTH?(username:string password:string) clientname:string=SETNAME?)"
        );
        assert_eq!(
            shown("[FILTERBY <MODULE module-name | PATTERN pattern>]", &[], 2),
            "module-name_pattern:oneof=FILTERBY?(module-name:string=MODULE pattern:pattern=PATTERN)"
        );
        assert_eq!(
            shown(
                "source destination [DB destination-db]",
                &[key(1, "RO"), key(2, "OW")],
                1
            ),
            "source:key@0 destination:key@1 destination-db:integer=DB?"
        );
        assert_eq!(
            shown(
                "<AND | NOT> destkey key [key ...]",
                &[key(2, "OW"), keys(3, 1, "RO")],
                1
            ),
            "and_not:oneof(and:pure-token=AND not:pure-token=NOT) destkey:key@0 key:key@1*"
        );
    }

    #[test]
    fn keys_behind_words_and_numbers_are_found() {
        assert_eq!(
            shown(
                "[COUNT count] STREAMS key [key ...] id [id ...]",
                &[keyword("STREAMS", 1, -1, 2, "RO")],
                1
            ),
            "count:integer=COUNT? streams:pure-token=STREAMS key:key@0* id:string*"
        );
        assert_eq!(
            shown(
                "destination numkeys key [key ...] [STORE key]",
                &[
                    key(1, "OW"),
                    keynum(2, 0, 1, "RO"),
                    keyword("STORE", 3, 0, 0, "OW")
                ],
                1
            ),
            "destination:key@0 numkeys:integer key:key@1* key:key=STORE@2?"
        );
    }

    #[test]
    fn mistakes_are_found() {
        for syntax in ["[a", "a ]", "<>", "...", "a | b"] {
            assert!(parse(syntax, &[], 1).is_err(), "{syntax}");
        }
    }

    #[test]
    fn every_row_has_a_notation_that_can_be_read() {
        for row in table::all_rows() {
            let before = 1 + usize::from(row.full_name.contains('|'));
            let arguments = parse(row.syntax, row.keys, before)
                .unwrap_or_else(|error| panic!("{}: {error:?}", row.full_name));
            let named = |spec: usize| {
                row.keys[spec].begin == Begin::Unknown
                    || arguments.iter().any(|argument| mentions(argument, spec))
            };
            assert!(
                (0..row.keys.len()).all(named),
                "{}: a key is not in its syntax",
                row.full_name
            );
        }
    }

    fn mentions(argument: &Argument, spec: usize) -> bool {
        argument.key_spec == Some(spec) || argument.parts.iter().any(|part| mentions(part, spec))
    }
}
