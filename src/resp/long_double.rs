//! The arithmetic of INCRBYFLOAT and HINCRBYFLOAT: Redis computes them in x86's 80-bit `long double` and prints the
//! result with 17 decimals, trailing zeros removed. So `0.1 + 0.2` is `0.3`, and `3.0e3 + 5.0e-3` is
//! `3000.00499999999999989`. Clients compare such strings, so the digits have to be the same ones.
//!
//! Rust has no such type. This one holds 64 bits of mantissa and reads, adds and prints them exactly, rounding to
//! nearest, ties to even, wherever the 80-bit type would. Not modelled: results smaller than its smallest normal
//! number, 3.4e-4932, keep all their bits; 17 decimals never show them.

use super::number::{HexFloat, parse_exponent, significant_digits, split_sign};

/// `±mantissa * 2^exponent`, the mantissa's top bit set unless it is zero; or an infinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongDouble {
    negative: bool,
    mantissa: u64,
    exponent: i32,
    infinite: bool,
}

/// Bytes that Redis reads a number from at most (`MAX_LONG_DOUBLE_CHARS` - 1).
const MAX_TEXT_LEN: usize = 5 * 1024 - 1;
/// Numbers are below 2 to this power.
const MAX_POWER: i64 = 16384;
/// Half of the smallest number there is. This and less is zero, and that is out of range for a number that is not.
const HALF_SMALLEST_POWER: i64 = -16446;

impl LongDouble {
    /// A number as `strtold` reads it: decimal or hexadecimal, or an infinity. Refused: spaces, anything behind the
    /// number, NaN, and numbers out of range (to infinity, or to zero).
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_TEXT_LEN {
            return None;
        }
        if let Some(hex) = HexFloat::parse(text) {
            return Self::round(hex.negative, hex.mantissa, hex.exponent).in_range(hex.mantissa != 0);
        }
        // The grammar of decimals, infinity and NaN is that of doubles; only their range is not.
        let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        let (negative, unsigned) = split_sign(text);
        if value.is_nan() {
            return None;
        }
        if !unsigned.iter().any(u8::is_ascii_digit) {
            return Some(Self::infinity(negative));
        }
        if !significant_digits(unsigned) {
            return Some(Self {
                negative,
                mantissa: 0,
                exponent: 0,
                infinite: false,
            });
        }
        decimal(negative, unsigned)?.in_range(true)
    }

    pub fn from_i64(value: i64) -> Self {
        Self::round(value < 0, u128::from(value.unsigned_abs()), 0)
    }

    pub fn is_infinite(&self) -> bool {
        self.infinite
    }

    /// The sum, rounded to 64 bits; `None` when it is infinite or not a number.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.infinite || other.infinite {
            return None;
        }
        let (large, small) = if (self.mantissa != 0, self.exponent) >= (other.mantissa != 0, other.exponent) {
            (self, other)
        } else {
            (other, self)
        };
        if small.mantissa == 0 {
            return Some(large);
        }
        // 62 bits to spare below the larger mantissa, and two above. What of the smaller one falls off is marked in
        // the last bit, so that rounding sees that something was there.
        let distance = large.exponent.abs_diff(small.exponent);
        let wide = u128::from(large.mantissa) << 62;
        let shifted = shift_right_marked(u128::from(small.mantissa) << 62, distance);
        let (negative, sum) = match (large.negative == small.negative, wide >= shifted) {
            (true, _) => (large.negative, wide + shifted),
            (false, true) => (large.negative, wide - shifted),
            (false, false) => (small.negative, shifted - wide),
        };
        let sum = Self::round(negative, sum, i64::from(large.exponent) - 62);
        (!sum.infinite).then_some(sum)
    }

    /// As C's `%.17Lf`, without trailing zeros. Infinities are `inf` and `-inf`.
    pub fn to_text(self) -> Vec<u8> {
        let mut text = Vec::with_capacity(32);
        if self.negative {
            text.push(b'-');
        }
        if self.infinite {
            text.extend_from_slice(b"inf");
        } else if self.exponent >= 0 {
            let mut whole = Big::from(self.mantissa);
            whole.shift_left(self.exponent as usize);
            whole.write_decimal(&mut text);
        } else {
            self.write_fraction(&mut text);
        }
        if text == b"-0" { b"0".to_vec() } else { text }
    }

    /// A number with bits behind the point, so below 2^64: in units of 10^-17 it fits into 128 bits, exactly.
    fn write_fraction(self, text: &mut Vec<u8>) {
        const UNITS: u128 = 100_000_000_000_000_000;
        let product = u128::from(self.mantissa) * UNITS;
        let units = shift_right_rounded(product, self.exponent.unsigned_abs());
        text.extend_from_slice(itoa::Buffer::new().format(units / UNITS).as_bytes());
        let fraction = units % UNITS;
        if fraction != 0 {
            // The one in front keeps the zeros behind the point; its place is then taken by the point.
            let at = text.len();
            text.extend_from_slice(itoa::Buffer::new().format(UNITS + fraction).as_bytes());
            text[at] = b'.';
            while text.last() == Some(&b'0') {
                text.pop();
            }
        }
    }

    fn infinity(negative: bool) -> Self {
        Self {
            negative,
            mantissa: 0,
            exponent: 0,
            infinite: true,
        }
    }

    /// `mantissa * 2^exponent` rounded to 64 bits. Zero is zero, too much is infinite.
    fn round(negative: bool, mantissa: u128, exponent: i64) -> Self {
        if mantissa == 0 {
            return Self {
                negative,
                mantissa: 0,
                exponent: 0,
                infinite: false,
            };
        }
        let zeros = mantissa.leading_zeros();
        let excess = 64u32.saturating_sub(zeros);
        let mut rounded = shift_right_rounded(mantissa, excess);
        let mut exponent = exponent + i64::from(excess);
        if rounded >> 64 != 0 {
            rounded >>= 1;
            exponent += 1;
        }
        // 64 bits at most are left, by the two steps above.
        let narrow = rounded as u64;
        let left = narrow.leading_zeros();
        let exponent = exponent - i64::from(left);
        match i32::try_from(exponent) {
            Ok(exponent) if i64::from(exponent) + 64 <= MAX_POWER => Self {
                negative,
                mantissa: narrow << left,
                exponent,
                infinite: false,
            },
            Err(_) if exponent < 0 => Self {
                negative,
                mantissa: 0,
                exponent: 0,
                infinite: false,
            },
            _ => Self::infinity(negative),
        }
    }

    /// `None` when rounding made an infinity, or a zero of what is `not_zero`.
    fn in_range(self, not_zero: bool) -> Option<Self> {
        let power = i64::from(self.exponent) + 63;
        let vanishes = power < HALF_SMALLEST_POWER
            || (power == HALF_SMALLEST_POWER && self.mantissa == 1 << 63)
            || self.mantissa == 0;
        let out_of_range = self.infinite || (not_zero && vanishes);
        (!out_of_range).then_some(self)
    }
}

impl From<f64> for LongDouble {
    /// Exact, as every double is a long double. NaN, which has no place here, becomes zero.
    fn from(value: f64) -> Self {
        let bits = value.to_bits();
        let (power, fraction) = ((bits >> 52 & 0x7ff) as i64, bits & ((1 << 52) - 1));
        match power {
            0x7ff if fraction == 0 => Self::infinity(value < 0.0),
            0x7ff => Self::from_i64(0),
            0 => Self::round(value.is_sign_negative(), u128::from(fraction), -1074),
            _ => Self::round(
                value.is_sign_negative(),
                u128::from(fraction | 1 << 52),
                power - 1075,
            ),
        }
    }
}

/// Reads an unsigned decimal that is known to be well formed and not zero. `None`: far out of range.
fn decimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, power) = match text.iter().position(|byte| byte | 0x20 == b'e') {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let point = digits
        .iter()
        .position(|&byte| byte == b'.')
        .unwrap_or(digits.len());
    let fraction_len = digits.len().saturating_sub(point + 1);
    let digits: Vec<u8> = digits.iter().copied().filter(|&byte| byte != b'.').collect();
    let leading_zeros = digits.iter().take_while(|&&byte| byte == b'0').count();
    // The number is below 10^(digits + power), and not below a tenth of that.
    let power = power - fraction_len as i64;
    let digits = &digits[leading_zeros..];
    if !(-5000..=5000).contains(&(digits.len() as i64 + power)) {
        return None;
    }
    let mut number = Big::default();
    for group in digits.chunks(GROUP) {
        let value = group
            .iter()
            .fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
        number.multiply_add(10u32.pow(group.len() as u32), value);
    }
    let mut exponent = 0;
    let mut lost = false;
    let power_len = power.unsigned_abs() as usize;
    if power < 0 {
        // Before dividing by 10^n, so many bits more that 64 and some are left of the quotient: log2 of 10 is below
        // 10/3.
        let shift = power_len * 10 / 3 + 130;
        number.shift_left(shift);
        exponent = -(shift as i64);
    }
    for done in (0..power_len).step_by(GROUP) {
        let ten = 10u32.pow((power_len - done).min(GROUP) as u32);
        if power < 0 {
            lost |= number.divide(ten) != 0;
        } else {
            number.multiply_add(ten, 0);
        }
    }
    let (top, dropped, more_lost) = number.top_bits();
    let marked = top | u128::from(lost || more_lost);
    Some(LongDouble::round(negative, marked, exponent + dropped))
}

/// To nearest, ties to even.
fn shift_right_rounded(value: u128, by: u32) -> u128 {
    match by {
        0 => value,
        1..=127 => {
            let (kept, rest, half) = (value >> by, value & ((1 << by) - 1), 1 << (by - 1));
            kept + u128::from(rest > half || (rest == half && kept & 1 == 1))
        }
        128 => u128::from(value > 1 << 127),
        _ => 0,
    }
}

/// Bits that fall off set the last bit.
fn shift_right_marked(value: u128, by: u32) -> u128 {
    match by {
        0..=127 => value >> by | u128::from(value & ((1 << by) - 1) != 0),
        _ => u128::from(value != 0),
    }
}

/// Decimal digits that are read, scaled and printed at once: as many as a limb holds.
const GROUP: usize = 9;

/// A natural number of any size, lowest limb first, no zero limb on top. Just what is needed to read and print.
#[derive(Default)]
struct Big(Vec<u32>);

impl From<u64> for Big {
    fn from(value: u64) -> Self {
        let mut big = Big(vec![value as u32, (value >> 32) as u32]);
        big.trim();
        big
    }
}

impl Big {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn multiply_add(&mut self, factor: u32, plus: u32) {
        let mut carry = u64::from(plus);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }

    /// Returns the remainder.
    fn divide(&mut self, divisor: u32) -> u32 {
        let mut rest = 0;
        for limb in self.0.iter_mut().rev() {
            let value = rest << 32 | u64::from(*limb);
            *limb = (value / u64::from(divisor)) as u32;
            rest = value % u64::from(divisor);
        }
        self.trim();
        rest as u32
    }

    fn shift_left(&mut self, by: usize) {
        self.multiply_add(1 << (by % 32), 0);
        if !self.0.is_empty() {
            self.0.splice(0..0, std::iter::repeat_n(0, by / 32));
        }
    }

    /// The upper limbs, at least 97 bits if there are so many; how many bits stand below; whether any of those is set.
    fn top_bits(&self) -> (u128, i64, bool) {
        let below = self.0.len().saturating_sub(4);
        let top = self.0[below..]
            .iter()
            .rev()
            .fold(0, |top, &limb| top << 32 | u128::from(limb));
        (
            top,
            below as i64 * 32,
            self.0[..below].iter().any(|&limb| limb != 0),
        )
    }

    fn write_decimal(mut self, text: &mut Vec<u8>) {
        let start = text.len();
        while !self.0.is_empty() {
            let mut group = self.divide(10u32.pow(GROUP as u32));
            for _ in 0..GROUP {
                text.push(b'0' + (group % 10) as u8);
                group /= 10;
            }
        }
        while text.len() > start + 1 && text.last() == Some(&b'0') {
            text.pop();
        }
        if text.len() == start {
            text.push(b'0');
        }
        text[start..].reverse();
    }
}

/// The sum of two numbers as INCRBYFLOAT answers it. `None`: one of them is no number, or the sum is none.
pub fn add_long_double(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    Some(
        LongDouble::parse(a)?
            .checked_add(LongDouble::parse(b)?)?
            .to_text(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_the_digits_of_redis() {
        let cases = [
            ("10.5", "0.1", "10.6"),
            ("3.0e3", "5.0e-3", "3000.00499999999999989"),
            ("0.1", "0.2", "0.3"),
            ("1e20", "1", "100000000000000000000"),
            ("1e30", "0", "1000000000000000000024696061952"),
            ("1e-17", "0", "0.00000000000000001"),
            ("5e-18", "0", "0"),
            ("5.1e-18", "0", "0.00000000000000001"),
            ("-1e-20", "0", "0"),
            ("-0", "0", "0"),
            ("0x10", "0x1p-1", "16.5"),
            ("0x1e2", "1", "483"),
            ("1.", ".5", "1.5"),
            ("1", "0e9999999", "1"),
            ("1e-4950", "1", "1"),
            ("3", "-3.5", "-0.5"),
        ];
        for (a, b, sum) in cases {
            let got = add_long_double(a.as_bytes(), b.as_bytes());
            assert_eq!(got.as_deref(), Some(sum.as_bytes()), "{a} + {b}");
        }
        let large = add_long_double(b"1e400", b"0").unwrap();
        assert!(large.starts_with(b"100000000000000000002818806839475865145864534336290520386259106"));
        assert_eq!(large.len(), 401);
    }

    #[test]
    fn what_redis_refuses_is_refused() {
        for text in [
            "nan",
            " 1",
            "1 ",
            "",
            "0x",
            "0x1p",
            "1p3",
            "1.2e4932",
            "1e-4951",
            "1e-5000",
            "1e999999999999",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(LongDouble::parse(&[b'1'; 5120]), None);
        assert_eq!(add_long_double(b"1e4932", b"1e4932"), None);
        assert_eq!(add_long_double(b"inf", b"-inf"), None);
        assert!(LongDouble::parse(b"-INF").unwrap().is_infinite());
    }

    #[test]
    fn integers_and_doubles_are_exact() {
        assert_eq!(LongDouble::from_i64(i64::MIN).to_text(), b"-9223372036854775808");
        assert_eq!(LongDouble::from(0.1).to_text(), b"0.10000000000000001");
        assert_eq!(LongDouble::from(-2.5).to_text(), b"-2.5");
        assert_eq!(
            LongDouble::from(1e300),
            LongDouble::parse(format!("{:.0}", 1e300).as_bytes()).unwrap()
        );
    }
}
