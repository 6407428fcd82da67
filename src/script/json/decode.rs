//! JSON to values.
//!
//! A complaint names the token that was found, and the character where it begins, counted from 1.

use super::super::number;
use super::super::raise::Raise;
use super::{Invalid, Settings};
use mlua::{Lua, Table, Value};

#[derive(Clone, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Text(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    /// What is wrong.
    Wrong(&'static str),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::Text(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Wrong(why) => why,
        }
    }
}

struct Parser<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    /// Where the last token begins, or where it went wrong.
    began: usize,
    depth: i32,
    settings: &'a Settings,
}

/// Reads a whole text.
pub fn read(lua: &Lua, text: &[u8], settings: &Settings) -> Result<Value, Raise> {
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(Raise::text("JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut parser = Parser {
        lua,
        text,
        at: 0,
        began: 0,
        depth: 0,
        settings,
    };
    let first = parser.next();
    let value = parser.value(first)?;
    match parser.next() {
        Token::End => Ok(value),
        other => Err(parser.expected("the end", &other)),
    }
}

impl Parser<'_> {
    fn expected(&self, what: &str, found: &Token) -> Raise {
        Raise::text(format!(
            "Expected {what} but found {} at character {}",
            found.name(),
            self.began + 1
        ))
    }

    fn value(&mut self, token: Token) -> Result<Value, Raise> {
        match token {
            Token::Text(text) => Ok(Value::String(self.lua.create_string(text)?)),
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Boolean(value) => Ok(Value::Boolean(value)),
            Token::Null => Ok(Value::NULL),
            Token::ObjectBegin => self.nested(Parser::object),
            Token::ArrayBegin => self.nested(Parser::array),
            other => Err(self.expected("value", &other)),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Table, Raise>) -> Result<Value, Raise> {
        self.depth += 1;
        if self.depth > self.settings.decode_max_depth {
            return Err(Raise::text(format!(
                "Found too many nested data structures ({}) at character {}",
                self.depth, self.at
            )));
        }
        let table = read(self)?;
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn object(&mut self) -> Result<Table, Raise> {
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if token == Token::ObjectEnd {
            return Ok(table);
        }
        loop {
            let Token::Text(key) = token else {
                return Err(self.expected("object key string", &token));
            };
            let key = self.lua.create_string(key)?;
            token = self.next();
            if token != Token::Colon {
                return Err(self.expected("colon", &token));
            }
            let first = self.next();
            let value = self.value(first)?;
            table.raw_set(key, value)?;
            token = self.next();
            match token {
                Token::ObjectEnd => return Ok(table),
                Token::Comma => token = self.next(),
                other => return Err(self.expected("comma or object end", &other)),
            }
        }
    }

    fn array(&mut self) -> Result<Table, Raise> {
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if token == Token::ArrayEnd {
            return Ok(table);
        }
        for index in 1.. {
            let value = self.value(token)?;
            table.raw_set(index, value)?;
            token = self.next();
            match token {
                Token::ArrayEnd => break,
                Token::Comma => token = self.next(),
                other => return Err(self.expected("comma or array end", &other)),
            }
        }
        Ok(table)
    }

    fn next(&mut self) -> Token {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.began = self.at;
        let Some(byte) = self.text.get(self.at) else {
            return Token::End;
        };
        let single = match byte {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            _ => return self.long(*byte),
        };
        self.at += 1;
        single
    }

    /// A token of several bytes.
    fn long(&mut self, first: u8) -> Token {
        let rest = &self.text[self.at..];
        let words = [
            (&b"true"[..], Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ];
        if let Some((word, token)) = words.into_iter().find(|(word, _)| rest.starts_with(word)) {
            self.at += word.len();
            return token;
        }
        match first {
            b'"' => self.string(),
            b'-' | b'+' | b'0'..=b'9' => {
                let strange = is_invalid(rest) && self.settings.decode_invalid == Invalid::Refused;
                if strange {
                    Token::Wrong("invalid number")
                } else {
                    self.number()
                }
            }
            _ if is_invalid(rest) && self.settings.decode_invalid != Invalid::Refused => self.number(),
            _ => Token::Wrong("invalid token"),
        }
    }

    fn number(&mut self) -> Token {
        match number::prefix(&self.text[self.at..]) {
            Some((value, len)) => {
                self.at += len;
                Token::Number(value)
            }
            None => Token::Wrong("invalid number"),
        }
    }

    fn string(&mut self) -> Token {
        let mut text = Vec::new();
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                None | Some(0) => {
                    self.began = self.at;
                    return Token::Wrong("unexpected end of string");
                }
                Some(b'"') => {
                    self.at += 1;
                    return Token::Text(text);
                }
                Some(b'\\') => {
                    if let Err(why) = self.escape(&mut text) {
                        self.began = self.at;
                        return Token::Wrong(why);
                    }
                }
                Some(byte) => {
                    text.push(*byte);
                    self.at += 1;
                }
            }
        }
    }

    /// What a backslash begins.
    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), &'static str> {
        let byte = match self.text.get(self.at + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.unicode(text).ok_or("invalid unicode escape code"),
            _ => return Err("invalid escape code"),
        };
        text.push(byte);
        self.at += 2;
        Ok(())
    }

    fn unicode(&mut self, text: &mut Vec<u8>) -> Option<()> {
        let unit = |at: usize| -> Option<u32> {
            let digits = self.text.get(at..at + 6)?;
            let digits = digits.strip_prefix(b"\\u")?;
            digits.iter().try_fold(0, |code, digit| {
                Some(code << 4 | char::from(*digit).to_digit(16)?)
            })
        };
        let first = unit(self.at)?;
        let (code, len) = match first {
            0xD800..=0xDBFF => {
                let second = unit(self.at + 6).filter(|unit| (0xDC00..=0xDFFF).contains(unit))?;
                (0x10000 + ((first & 0x3FF) << 10 | second & 0x3FF), 12)
            }
            _ => (first, 6),
        };
        let mut bytes = [0; 4];
        text.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut bytes).as_bytes());
        self.at += len;
        Some(())
    }
}

/// A number that JSON does not have: with a plus, hexadecimal, with a zero in front, infinite, not a number.
fn is_invalid(text: &[u8]) -> bool {
    if text.first() == Some(&b'+') {
        return true;
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    match text.first() {
        Some(b'0') => matches!(text.get(1), Some(b'x' | b'X' | b'0'..=b'9')),
        Some(b'i' | b'I') => text.len() >= 3 && text[..3].eq_ignore_ascii_case(b"inf"),
        Some(b'n' | b'N') => text.len() >= 3 && text[..3].eq_ignore_ascii_case(b"nan"),
        _ => false,
    }
}
