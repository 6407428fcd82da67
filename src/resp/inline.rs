//! Inline requests, as people type them: how a line becomes arguments. The rules are those of Redis's `sdssplitargs`.

use super::batch::Span;

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Vertical tab and form feed separate nothing inside an argument; they are only skipped before one, as in Redis.
fn ends_argument(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Splits an inline request without quotes, which stands at `start` in the buffer.
pub(super) fn split_plain(line: &[u8], start: usize, spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(skipped) = line[at..].iter().position(|&byte| !is_space(byte)) {
        let first = at + skipped;
        at = line[first..]
            .iter()
            .position(|&byte| ends_argument(byte))
            .map_or(line.len(), |len| first + len);
        spans.push(Span {
            start: start + first,
            end: start + at,
        });
    }
}

/// Splits an inline request with quotes; its arguments, unescaped, go to `side`. `None`: the quotes are wrong.
pub(super) fn split_quoted(line: &[u8], spans: &mut Vec<Span>, side: &mut Vec<u8>) -> Option<()> {
    let mut at = 0;
    while let Some(skipped) = line[at..].iter().position(|&byte| !is_space(byte)) {
        let start = side.len();
        at = unquote_argument(line, at + skipped, side)?;
        spans.push(Span {
            start,
            end: side.len(),
        });
    }
    Some(())
}

/// Appends the argument at `at` to `side`; returns the position behind it. A quote may open in the middle of an
/// argument, but closing it ends the argument. `None`: a quote is not closed, or something sticks to its end.
fn unquote_argument(line: &[u8], mut at: usize, side: &mut Vec<u8>) -> Option<usize> {
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' | b'\'' => {
                let end = if byte == b'"' {
                    unquote_double(line, at + 1, side)?
                } else {
                    unquote_single(line, at + 1, side)?
                };
                return line.get(end).is_none_or(|&next| is_space(next)).then_some(end);
            }
            _ if ends_argument(byte) => break,
            _ => side.push(byte),
        }
        at += 1;
    }
    Some(at)
}

/// The text between double quotes, from `at`; returns the position behind the closing one.
fn unquote_double(line: &[u8], mut at: usize, side: &mut Vec<u8>) -> Option<usize> {
    loop {
        let (byte, width) = match line.get(at..)? {
            [b'"', ..] => return Some(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) << 4 | hex_digit(*low), 4)
            }
            [b'\\', escaped, ..] => (unescape(*escaped), 2),
            [byte, ..] => (*byte, 1),
            [] => return None,
        };
        side.push(byte);
        at += width;
    }
}

/// The text between single quotes, where only `\'` is an escape.
fn unquote_single(line: &[u8], mut at: usize, side: &mut Vec<u8>) -> Option<usize> {
    loop {
        let (byte, width) = match line.get(at..)? {
            [b'\'', ..] => return Some(at + 1),
            [b'\\', b'\'', ..] => (b'\'', 2),
            [byte, ..] => (*byte, 1),
            [] => return None,
        };
        side.push(byte);
        at += width;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// The value of a byte that is known to be a hexadecimal digit.
fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}
