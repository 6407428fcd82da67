//! Moments as people write them: journal offsets, and times.

use super::manifest::Moment;
use std::fmt;

/// Up to where a restored folder holds effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Those that end at or below a journal offset.
    Offset(u64),
    /// Those that were written down at or before a time, in unix milliseconds.
    Time(u64),
}

impl Until {
    /// True when the state at `moment` is this one or an earlier one.
    pub fn is_at_or_after(self, moment: Moment) -> bool {
        match self {
            Until::Offset(offset) => moment.offset <= offset,
            Until::Time(unix_ms) => moment.unix_ms <= unix_ms,
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Until::Offset(offset) => write!(f, "offset {offset}"),
            Until::Time(unix_ms) => write!(f, "{}", Time(*unix_ms)),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}, {}", self.offset, Time(self.unix_ms))
    }
}

/// Unix milliseconds as RFC 3339, in UTC.
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, in_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Counted up year by year and month by month: nothing here is in a hurry.
        let (mut year, mut day) = (1970, days);
        while day >= days_of_year(year) {
            day -= days_of_year(year);
            year += 1;
        }
        let mut month = 1;
        while day >= days_of_month(year, month) {
            day -= days_of_month(year, month);
            month += 1;
        }
        let (seconds, ms) = (in_day / 1_000, in_day % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z",
            day + 1
        )
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Numbers of more digits than this are milliseconds: as seconds they would be in the year 5138 and later.
const DIGITS_OF_SECONDS: usize = 11;
const YEAR_MAX: u64 = 9_999;

/// Unix milliseconds of unix seconds (with a fraction or without), unix milliseconds, or a date and time of RFC 3339.
pub fn parse_time(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: u64 = whole.parse().ok()?;
        return match (whole.len() > DIGITS_OF_SECONDS, text.contains('.')) {
            (true, false) => Some(number),
            (true, true) => None,
            (false, false) => Some(number * 1_000),
            (false, true) => Some(number * 1_000 + millis(fraction)?),
        };
    }
    parse_rfc3339(text)
}

/// The first three digits of a fraction of a second.
fn millis(fraction: &str) -> Option<u64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    Some(digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// `2026-11-21T08:54:52Z`, with a blank for the T, with a fraction, with `+01:00` for the Z.
fn parse_rfc3339(text: &str) -> Option<u64> {
    let date = text.get(..10)?;
    let rest = text.get(10..)?.strip_prefix(['T', 't', ' '])?;
    let number = |text: &str, digits: usize| {
        let all_digits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| all_digits)
    };
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4).filter(|year| (1970..=YEAR_MAX).contains(year))?;
    let month = number(parts.next()?, 2).filter(|month| (1..=12).contains(month))?;
    let day = number(parts.next()?, 2).filter(|day| (1..=days_of_month(year, month)).contains(day))?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = (rest.get(..zone_at)?, rest.get(zone_at..)?);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let minutes_of = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let hour = number(hour, 2).filter(|hour| *hour < 24)?;
        let minute = number(minute, 2).filter(|minute| *minute < 60)?;
        Some(hour * 60 + minute)
    };
    let (minutes, second) = clock.rsplit_once(':')?;
    // A leap second is the first of the next minute.
    let second = number(second, 2).filter(|second| *second <= 60)?;
    let days = (1970..year).map(days_of_year).sum::<u64>()
        + (1..month).map(|month| days_of_month(year, month)).sum::<u64>()
        + day
        - 1;
    let local = (days * 86_400 + minutes_of(minutes)? * 60 + second) * 1_000 + millis(fraction)?;
    match zone.split_at(1) {
        ("Z" | "z", "") => Some(local),
        ("+", ahead) => local.checked_sub(minutes_of(ahead)? * 60_000),
        ("-", behind) => Some(local + minutes_of(behind)? * 60_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_time_is_read() {
        let moment = 1_795_251_292_500;
        for text in [
            "1795251292500",
            "1795251292.5",
            "1795251292.500999",
            "2026-11-21T08:54:52.5Z",
            "2026-11-21 08:54:52.500z",
            "2026-11-21T10:24:52.5+01:30",
            "2026-11-20T22:54:52.5-10:00",
        ] {
            assert_eq!(parse_time(text), Some(moment), "{text}");
        }
        assert_eq!(parse_time("1795251292"), Some(1_795_251_292_000));
        assert_eq!(parse_time("2024-02-29T00:00:00Z"), Some(1_709_164_800_000));
        assert_eq!(parse_time("0"), Some(0));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-1",
            "now",
            "1.",
            "1.x",
            "1795251292500.5",
            "2026-11-21",
            "2026-11-21T08:54:52",
            "2026-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T08:54Z",
            "2026-11-21T08:54:52Zx",
            "1969-12-31T00:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        for unix_ms in [0, 951_827_696_789, 1_709_164_800_000, 1_795_251_292_500] {
            assert_eq!(parse_time(&Time(unix_ms).to_string()), Some(unix_ms));
        }
        assert_eq!(Time(1_795_251_292_500).to_string(), "2026-11-21T08:54:52.500Z");
    }
}
