//! Numbers as C prints and reads them: `%.14g` and `strtod`.

/// As C's `%.<precision>g`.
pub fn general(value: f64, precision: usize) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_nan() {
        return format!("{sign}nan");
    }
    if value.is_infinite() {
        return format!("{sign}inf");
    }
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    // proof: what `{:e}` makes of a finite number has an exponent behind an `e`.
    let (digits, exponent) = scientific.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("a number");
    if exponent < -4 || exponent >= precision as i32 {
        let digits = trimmed(digits);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

/// Without the zeros behind the last digit that counts.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

/// The number at the start of a text, as `strtod` reads it, and how many bytes it takes; none when there is none.
pub fn prefix(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let rest = &text[start..];
    let signed = |value: f64| if negative { -value } else { value };
    for (word, value) in [
        ("infinity", f64::INFINITY),
        ("inf", f64::INFINITY),
        ("nan", f64::NAN),
    ] {
        if rest.len() >= word.len() && rest[..word.len()].eq_ignore_ascii_case(word.as_bytes()) {
            return Some((signed(value), start + word.len()));
        }
    }
    if rest.len() > 2
        && rest[..2].eq_ignore_ascii_case(b"0x")
        && let Some((value, len)) = hexadecimal(&rest[2..])
    {
        return Some((signed(value), start + 2 + len));
    }
    let len = decimal_len(rest)?;
    // proof: digits, a point, an exponent: ASCII, and what Rust reads as a number, too.
    let value: f64 = std::str::from_utf8(&rest[..len]).ok()?.parse().ok()?;
    Some((signed(value), start + len))
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn decimal_len(text: &[u8]) -> Option<usize> {
    let whole = digits(text);
    let mut len = whole;
    let mut fraction = 0;
    if text.get(len) == Some(&b'.') {
        fraction = digits(&text[len + 1..]);
        len += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if matches!(text.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'-' | b'+')));
        let exponent = text.get(len + 1 + sign..).map_or(0, digits);
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    Some(len)
}

/// Hexadecimal digits with a point and a binary exponent, perhaps.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let (mut value, mut scale, mut at, mut seen, mut point) = (0.0_f64, 0_i32, 0, false, false);
    while let Some(byte) = text.get(at) {
        match char::from(*byte).to_digit(16) {
            Some(digit) => {
                value = value * 16.0 + f64::from(digit);
                scale -= if point { 4 } else { 0 };
                seen = true;
            }
            None if *byte == b'.' && !point => point = true,
            None => break,
        }
        at += 1;
    }
    if !seen {
        return None;
    }
    if matches!(text.get(at), Some(b'p' | b'P')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'-' | b'+')));
        let len = text.get(at + 1 + sign..).map_or(0, digits);
        if len > 0 {
            let exponent = std::str::from_utf8(&text[at + 1..at + 1 + sign + len]).ok()?;
            scale = scale.saturating_add(exponent.parse().unwrap_or(i32::from(i16::MAX)));
            at += 1 + sign + len;
        }
    }
    Some((value * 2.0_f64.powi(scale), at))
}

/// A whole text as Lua reads a number: with blanks around it.
pub fn parse(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii();
    let (value, len) = prefix(text)?;
    (len == text.len()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_c_prints_them() {
        let cases = [
            (0.1, 14, "0.1"),
            (1e100, 14, "1e+100"),
            (-0.0, 14, "-0"),
            (1e-17, 14, "1e-17"),
            (123456789012345678.0, 14, "1.2345678901235e+17"),
            (100000000000000.0, 14, "1e+14"),
            (12345678901234.0, 14, "12345678901234"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (5.0, 14, "5"),
            (9.9999, 3, "10"),
        ];
        for (value, precision, text) in cases {
            assert_eq!(general(value, precision), text);
        }
    }

    #[test]
    fn a_number_is_read_as_far_as_it_goes() {
        type Read = Option<(f64, usize)>;
        let cases: [(&[u8], Read); 9] = [
            (b"0x10", Some((16.0, 4))),
            (b"0x", Some((0.0, 1))),
            (b"1e", Some((1.0, 1))),
            (b"1.5e3,", Some((1500.0, 5))),
            (b"-", None),
            (b"+1", Some((1.0, 2))),
            (b"1.]", Some((1.0, 2))),
            (b".5", Some((0.5, 2))),
            (b"-infx", Some((f64::NEG_INFINITY, 4))),
        ];
        for (text, found) in cases {
            assert_eq!(prefix(text), found, "{}", text.escape_ascii());
        }
    }
}
