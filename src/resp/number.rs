//! Numbers as clients write them and as Redis 7.0 prints them: 64-bit integers and doubles.
//!
//! What counts as a number is an exact matter: an accepted string is stored as an integer, a refused one is an error
//! that clients match on. (INCRBYFLOAT computes in 80-bit floats: see [`LongDouble`](super::LongDouble).)

use std::io::Write;

/// A decimal integer in its only canonical form: no leading zeros, no `+`, no spaces, no `-0`.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // Nineteen digits always fit into 64 bits without a sign.
    let mut value = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    if negative {
        0i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

/// A double as `strtod` reads it, of which Redis refuses: spaces, anything behind the number, NaN, and numbers out of
/// range (to infinity, or to zero). Hexadecimal floats and infinities, in any case, are taken.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    // Most are short integers, which are exact in a double.
    if text.len() < 16
        && let Some(value) = parse_i64(text)
    {
        return Some(value as f64);
    }
    if let Some(hex) = HexFloat::parse(text) {
        return hex.to_f64();
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let out_of_range = match value {
        _ if value.is_nan() => return None,
        _ if value.is_infinite() => text.iter().any(u8::is_ascii_digit),
        0.0 => significant_digits(text),
        _ => false,
    };
    (!out_of_range).then_some(value)
}

/// Whether a decimal number has a digit other than zero before its exponent.
pub(super) fn significant_digits(text: &[u8]) -> bool {
    text.iter()
        .take_while(|&&byte| byte | 0x20 != b'e')
        .any(|byte| matches!(byte, b'1'..=b'9'))
}

/// A hexadecimal float: `mantissa * 2^exponent`, the mantissa's last bit set if digits were lost behind it.
pub(super) struct HexFloat {
    pub negative: bool,
    pub mantissa: u128,
    pub exponent: i64,
}

impl HexFloat {
    /// `[+-]0x` hex digits with at most one `.`, then optionally `p` and a decimal exponent.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (negative, text) = split_sign(text);
        let [b'0', b'x' | b'X', text @ ..] = text else {
            return None;
        };
        let (digits, power) = match text.iter().position(|byte| byte | 0x20 == b'p') {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let mut mantissa = 0u128;
        let (mut exponent, mut any, mut fraction) = (power, false, false);
        for &byte in digits {
            if byte == b'.' && !fraction {
                fraction = true;
                continue;
            }
            let digit = char::from(byte).to_digit(16)?;
            any = true;
            if mantissa >> 124 == 0 {
                mantissa = mantissa << 4 | u128::from(digit);
                exponent -= if fraction { 4 } else { 0 };
            } else {
                mantissa |= u128::from(digit != 0);
                exponent += if fraction { 0 } else { 4 };
            }
        }
        any.then_some(HexFloat {
            negative,
            mantissa,
            exponent,
        })
    }

    fn to_f64(&self) -> Option<f64> {
        // Beyond these the result is out of range either way, and the power below stays computable.
        let exponent = self.exponent.clamp(-1400, 1400) as i32;
        // In two steps, as 2^-1400 alone would already be zero.
        let half = exponent / 2;
        let magnitude = self.mantissa as f64 * 2f64.powi(half) * 2f64.powi(exponent - half);
        let out_of_range = magnitude.is_infinite() || (magnitude == 0.0 && self.mantissa != 0);
        (!out_of_range).then_some(if self.negative { -magnitude } else { magnitude })
    }
}

pub(super) fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    }
}

/// The digits behind `e` or `p`: a decimal integer, sign and leading zeros allowed. Saturates far beyond any use.
pub(super) fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = (value * 10 + i64::from(digit)).min(1_000_000_000);
    }
    Some(if negative { -value } else { value })
}

/// Room for any double as [`format_f64`] writes it: sign, 17 digits, point, zeros in front of them or an exponent.
pub type F64Text = [u8; 32];

/// A double as C's `%.17g`, which is how Redis 7.0 prints scores: `3`, `0.10000000000000001`, `1e+17`, `inf`.
pub fn format_f64(value: f64, text: &mut F64Text) -> &[u8] {
    if !value.is_finite() {
        let name: &[u8] = match value {
            _ if value.is_nan() => b"nan",
            _ if value < 0.0 => b"-inf",
            _ => b"inf",
        };
        return copy(name, text);
    }
    let whole = value as i64;
    if value.abs() < 1e17 && whole as f64 == value && (whole != 0 || value.is_sign_positive()) {
        return copy(itoa::Buffer::new().format(whole).as_bytes(), text);
    }
    // Seventeen digits, correctly rounded: `-d.dddddddddddddddde-xxx`, which `%g` only arranges differently.
    let mut scientific = [0u8; 32];
    let mut rest = &mut scientific[..];
    // It is at most 24 bytes long, so this cannot fail.
    let _ = write!(rest, "{:.16e}", value.abs());
    let used = 32 - rest.len();
    let mut digits = [0u8; 17];
    digits[0] = scientific[0];
    digits[1..].copy_from_slice(&scientific[2..18]);
    let exponent = parse_exponent(&scientific[19..used]).unwrap_or(0);
    let significant = digits
        .iter()
        .rposition(|&digit| digit != b'0')
        .map_or(1, |last| last + 1);
    arrange(
        value.is_sign_negative(),
        &digits[..significant],
        exponent as i32,
        text,
    )
}

fn copy<'a>(from: &[u8], text: &'a mut F64Text) -> &'a [u8] {
    text[..from.len()].copy_from_slice(from);
    &text[..from.len()]
}

/// Writes `d.ddd * 10^exponent` as `%g` does: plain, or with an exponent when that is below -4 or not below 17.
fn arrange<'a>(negative: bool, digits: &[u8], exponent: i32, text: &'a mut F64Text) -> &'a [u8] {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        text[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    if negative {
        put(b"-");
    }
    let point = exponent + 1;
    if !(-4..17).contains(&exponent) {
        put(&digits[..1]);
        if digits.len() > 1 {
            put(b".");
            put(&digits[1..]);
        }
        put(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            put(b"0");
        }
        put(itoa::Buffer::new().format(exponent.abs()).as_bytes());
    } else if point <= 0 {
        put(b"0.");
        put(&b"000"[..point.unsigned_abs() as usize]);
        put(digits);
    } else {
        let whole = (point as usize).min(digits.len());
        put(&digits[..whole]);
        put(&b"0000000000000000"[..point as usize - whole]);
        if whole < digits.len() {
            put(b".");
            put(&digits[whole..]);
        }
    }
    &text[..at]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: f64) -> String {
        String::from_utf8(format_f64(value, &mut [0; 32]).to_vec()).unwrap()
    }

    #[test]
    fn integers_are_read_in_canonical_form_only() {
        for good in [
            0,
            1,
            -1,
            10,
            i64::MAX,
            i64::MIN,
            i64::MAX - 1,
            999_999_999_999_999_999,
        ] {
            assert_eq!(parse_i64(good.to_string().as_bytes()), Some(good));
        }
        let bad = [
            "",
            "-",
            "-0",
            "+1",
            "01",
            "-01",
            "1 ",
            " 1",
            "1a",
            "00",
            "0x1",
            "9223372036854775808",
        ];
        for text in bad
            .into_iter()
            .chain(["-9223372036854775809", "18446744073709551617"])
        {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_are_read_as_redis_reads_them() {
        let good = [
            ("1.", 1.0),
            (".5", 0.5),
            ("0x10", 16.0),
            ("-0x1p-1", -0.5),
            ("0x.8", 0.5),
            ("1e+5", 1e5),
        ];
        for (text, value) in good {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        assert_eq!(parse_f64(b"-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_f64(b"0e99999"), Some(0.0));
        assert_eq!(parse_f64(b"4.9e-324"), Some(5e-324));
        for text in [
            "", " 1", "1 ", ".", "1e", "1e400", "1e-400", "nan", "0x", "0x1p", "0x1p9999", "1_0", "1f",
        ] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_are_printed_with_seventeen_digits() {
        let cases = [
            (0.1, "0.10000000000000001"),
            (-0.0, "-0"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5, "1.5"),
            (123456789012345678.0, "1.2345678901234568e+17"),
            (1e300, "1.0000000000000001e+300"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (-0.00001234, "-1.234e-05"),
            (5e-324, "4.9406564584124654e-324"),
            (99999999999999999.0, "1e+17"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in cases {
            assert_eq!(shown(value), text);
        }
        assert!(format_f64(-f64::MAX, &mut [0; 32]).len() <= 24);
        assert_eq!(shown(-0.00012345678901234567), "-0.00012345678901234567");
    }
}
