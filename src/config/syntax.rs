//! The syntax of one line of redis.conf: words, quotes and escapes, both ways.

/// Splits a line into its arguments; `None` if quotes are not balanced.
///
/// Words are parted by white space. `"…"` may hold `\n`, `\r`, `\t`, `\b`, `\a`, `\xHH` and any other character
/// after a backslash as itself; `'…'` may hold `\'`. A closing quote must end its word.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let (arg, after) = split_one(rest)?;
        args.push(arg);
        rest = after.trim_ascii_start();
    }
    Some(args)
}

fn split_one(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut arg = Vec::new();
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => return quoted(arg, after, b'"'),
            b'\'' => return quoted(arg, after, b'\''),
            _ if byte.is_ascii_whitespace() || byte == 0 => return Some((arg, after)),
            _ => {
                arg.push(byte);
                after
            }
        };
    }
    Some((arg, rest))
}

/// The rest of a word whose opening quote has been read.
fn quoted(mut arg: Vec<u8>, text: &[u8], quote: u8) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text;
    loop {
        let (byte, len) = match rest {
            [b'\\', escaped @ ..] if quote == b'"' && !escaped.is_empty() => unescape(escaped),
            [b'\\', b'\'', ..] => (b'\'', 2),
            [byte, after @ ..] if *byte == quote => {
                let ends = after.first().is_none_or(u8::is_ascii_whitespace);
                return ends.then_some((arg, after));
            }
            [byte, ..] => (*byte, 1),
            [] => return None,
        };
        arg.push(byte);
        rest = &rest[len..];
    }
}

/// The byte that an escape stands for, and the length of the escape with its backslash.
fn unescape(after_backslash: &[u8]) -> (u8, usize) {
    match after_backslash {
        [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            (hex(*high) << 4 | hex(*low), 4)
        }
        [b'n', ..] => (b'\n', 2),
        [b'r', ..] => (b'\r', 2),
        [b't', ..] => (b'\t', 2),
        [b'b', ..] => (0x08, 2),
        [b'a', ..] => (0x07, 2),
        [other, ..] => (*other, 2),
        [] => (b'\\', 1),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

/// The argument as a line holds it: bare if it can be, else in double quotes, so that [`split_args`] gives it back.
pub fn quote(arg: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if !arg.is_empty() && arg[0] != b'#' && arg.iter().all(plain) {
        // Only ASCII, so nothing is lost.
        return String::from_utf8_lossy(arg).into_owned();
    }
    let mut text = String::from("\"");
    for &byte in arg {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<Vec<String>> {
        let args = split_args(line.as_bytes())?;
        Some(
            args.into_iter()
                .map(|arg| String::from_utf8(arg).unwrap())
                .collect(),
        )
    }

    #[test]
    fn words_quotes_and_escapes_are_those_of_redis() {
        let cases: [(&str, &[&str]); 9] = [
            ("hz 10", &["hz", "10"]),
            ("  a\t b  ", &["a", "b"]),
            (r#"save """#, &["save", ""]),
            (r#"a "b c" 'd e'"#, &["a", "b c", "d e"]),
            (r#""\x41\n\t\"\\\q""#, &["A\n\t\"\\q"]),
            (r#"'it\'s \n'"#, &[r"it's \n"]),
            (r#"foo"bar""#, &["foobar"]),
            (r"back\slash", &[r"back\slash"]),
            ("", &[]),
        ];
        for (line, args) in cases {
            assert_eq!(split(line).unwrap(), args, "{line}");
        }
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [r#"hz "10"#, "hz '10", r#"hz "10"x"#, r#"hz "10\"#, r#"hz "10\""#] {
            assert_eq!(split(line), None, "{line}");
        }
    }

    #[test]
    fn every_byte_survives_quoting() {
        let all: Vec<u8> = (0..=255).collect();
        for arg in [
            all.as_slice(),
            b"",
            b"#x",
            b"a b",
            b"plain:1",
            "käse".as_bytes(),
            b"\\x41",
        ] {
            assert_eq!(split_args(quote(arg).as_bytes()).unwrap(), [arg.to_vec()]);
        }
        assert_eq!(quote(b"plain:1"), "plain:1");
    }
}
