//! The values that directives hold: how each is read from text and written back.
//!
//! Every reader takes the raw bytes of one argument and answers with the value or with the exact sentence that
//! Redis 7.0 answers for the same mistake, because clients and tests match on those sentences. Nothing here
//! knows a directive by name, and nothing here touches a file.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is wrong with a value: the sentence that follows `CONFIG SET failed … -`.
pub type Wrong = String;

/// An enum whose members have a fixed spelling in the configuration. Spellings are read without regard to case
/// and listed in the order in which the error sentence lists them.
macro_rules! choices {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$what])* $variant,)+ }

        impl $name {
            /// Every spelling, in the order of the error sentence.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// The member with this spelling, in any case.
            pub fn parse(text: &[u8]) -> Option<Self> {
                $(if text.eq_ignore_ascii_case($text.as_bytes()) { return Some(Self::$variant); })+
                None
            }

            /// The canonical spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            pub(in crate::config) fn read(text: &[u8]) -> Result<Self, Wrong> {
                Self::parse(text).ok_or_else(|| not_one_of(Self::NAMES))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

choices! {
    /// Where the keys of a range live.
    Tier {
        /// In memory only: fast, evictable, gone after a stop.
        Memory = "memory",
        /// Journaled and kept on disk.
        Durable = "durable",
    }
}

choices! {
    /// When a write to a durable range is on disk for certain.
    FsyncPolicy {
        /// Within a second.
        EverySec = "everysec",
        /// Before its reply leaves.
        Always = "always",
        /// Whenever the operating system gets to it.
        No = "no",
    }
}

choices! {
    /// Which keys make room when `maxmemory` is reached.
    EvictionPolicy {
        VolatileLru = "volatile-lru",
        VolatileLfu = "volatile-lfu",
        VolatileRandom = "volatile-random",
        VolatileTtl = "volatile-ttl",
        AllKeysLru = "allkeys-lru",
        AllKeysLfu = "allkeys-lfu",
        AllKeysRandom = "allkeys-random",
        NoEviction = "noeviction",
    }
}

choices! {
    /// How the values of a range are packed in their rows of a store.
    Compression {
        /// As they are.
        None = "none",
        /// Quickly.
        Lz4 = "lz4",
        /// Smaller, for more work.
        Zstd = "zstd",
    }
}

choices! {
    /// Whether clients on the TLS port need a certificate.
    TlsClients {
        Yes = "yes",
        No = "no",
        /// One that is shown must be good.
        Optional = "optional",
    }
}

choices! {
    /// How much the log says.
    LogLevel {
        Debug = "debug",
        Verbose = "verbose",
        Notice = "notice",
        Warning = "warning",
    }
}

choices! {
    /// Who may use a risky feature.
    Permission {
        No = "no",
        Yes = "yes",
        /// Only connections from this machine.
        Local = "local",
    }
}

choices! {
    /// Which service manager started the server.
    Supervised {
        Upstart = "upstart",
        Systemd = "systemd",
        Auto = "auto",
        No = "no",
    }
}

impl Permission {
    /// Whether a connection may use the feature; `client_is_local` is true for loopback and unix sockets.
    pub fn allows(self, client_is_local: bool) -> bool {
        self == Permission::Yes || (self == Permission::Local && client_is_local)
    }
}

impl EvictionPolicy {
    /// Whether only keys with an expiry may be evicted.
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl
        )
    }

    /// Whether access frequency rather than access time is what an entry remembers.
    pub fn is_lfu(self) -> bool {
        matches!(self, Self::VolatileLfu | Self::AllKeysLfu)
    }
}

pub(super) fn not_one_of(names: &[&str]) -> Wrong {
    format!("argument(s) must be one of the following: {}", names.join(", "))
}

/// `yes` or `no`, in any case.
pub(super) fn yes_no(text: &[u8]) -> Result<bool, Wrong> {
    match text {
        _ if text.eq_ignore_ascii_case(b"yes") => Ok(true),
        _ if text.eq_ignore_ascii_case(b"no") => Ok(false),
        _ => Err("argument must be 'yes' or 'no'".into()),
    }
}

pub(super) const fn yes_no_text(on: bool) -> &'static str {
    if on { "yes" } else { "no" }
}

/// A decimal integer within bounds. As in Redis there is one spelling per number: no sign `+`, no leading zero,
/// no space.
pub(super) fn int<T: TryFrom<i64>>(text: &[u8], min: i64, max: i64) -> Result<T, Wrong> {
    let number = strict_int(text).ok_or("argument couldn't be parsed into an integer")?;
    let outside = || format!("argument must be between {min} and {max} inclusive");
    if number < min || number > max {
        return Err(outside());
    }
    T::try_from(number).map_err(|_| outside())
}

fn strict_int(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let zero = text == b"0";
    if !zero && !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    // `parse` refuses anything but digits after the sign, and what does not fit.
    str::from_utf8(text).ok()?.parse().ok()
}

/// File permission bits in octal, `0` to `777`.
pub(super) fn octal(text: &[u8]) -> Result<u32, Wrong> {
    let wrong = || Wrong::from("argument couldn't be parsed as an octal number");
    let digits = str::from_utf8(text).map_err(|_| wrong())?;
    let bits = u32::from_str_radix(digits, 8).map_err(|_| wrong())?;
    if bits > 0o777 {
        return Err("argument must be between 0 and 777 inclusive".into());
    }
    Ok(bits)
}

/// A number of bytes: digits and a unit. `k`, `m`, `g` count in thousands, `kb`, `mb`, `gb` in 1024s, `b` or
/// nothing in bytes; case does not matter. What does not fit in 64 bits is the largest number that does.
pub fn memory_size(text: &[u8]) -> Option<u64> {
    let digits_len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(digits_len);
    let scale: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let step = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, step).saturating_mul(scale))
}

/// The shortest exact spelling of a number of bytes that [`memory_size`] reads back: `64mb`, `1gb`, `1000`.
pub fn format_memory(bytes: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A number of bytes within bounds.
pub(super) fn memory(text: &[u8], min: u64, max: u64) -> Result<u64, Wrong> {
    let bytes = memory_size(text).ok_or("argument must be a memory value")?;
    if bytes < min || bytes > max {
        return Err(format!("argument must be between {min} and {max} inclusive"));
    }
    Ok(bytes)
}

/// A number of bytes, or a share of another such number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BytesOrShare {
    Bytes(u64),
    /// From 1 to 100.
    Percent(u64),
}

impl BytesOrShare {
    pub(super) fn read(text: &[u8]) -> Result<BytesOrShare, Wrong> {
        let wrong = || Wrong::from("argument must be a memory or percent value");
        let Some(share) = text.strip_suffix(b"%") else {
            return memory_size(text).map(BytesOrShare::Bytes).ok_or_else(wrong);
        };
        match strict_int(share).ok_or_else(wrong)? {
            ..0 => Err(wrong()),
            0 => Ok(BytesOrShare::Bytes(0)),
            percent @ 1..=100 => Ok(BytesOrShare::Percent(percent as u64)),
            _ => Err("percentage argument must be less or equal to 100".into()),
        }
    }

    /// In bytes, where the share is of `whole`.
    pub fn bytes_of(self, whole: u64) -> u64 {
        match self {
            BytesOrShare::Bytes(bytes) => bytes,
            BytesOrShare::Percent(percent) => whole / 100 * percent,
        }
    }
}

/// As it is read.
impl fmt::Display for BytesOrShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BytesOrShare::Bytes(bytes) => write!(f, "{bytes}"),
            BytesOrShare::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Text that has to be UTF-8, as paths, addresses and names are here.
pub(super) fn text(value: &[u8]) -> Result<String, Wrong> {
    String::from_utf8(value.to_vec()).map_err(|_| "argument must be valid UTF-8".into())
}

/// The name of a file without any folder.
pub(super) fn file_name(directive: &str, value: &[u8]) -> Result<String, Wrong> {
    let name = text(value)?;
    if name.contains('/') {
        return Err(format!("{directive} can't be a path, just a filename"));
    }
    Ok(name)
}

/// One of `names`, canonically spelled.
pub(super) fn one_of(value: &[u8], names: &[&'static str]) -> Result<&'static str, Wrong> {
    let same = |name: &&&str| value.eq_ignore_ascii_case(name.as_bytes());
    names.iter().find(same).copied().ok_or_else(|| not_one_of(names))
}

/// Latency percentiles, each from 0 to 100.
pub(super) fn percentiles(values: &[&[u8]]) -> Result<Vec<f64>, Wrong> {
    const NAME: &str = "latency-tracking-info-percentiles";
    let one = |value: &&[u8]| {
        let number = str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<f64>().ok());
        match number {
            Some(number) if number.is_nan() => Err(format!("Invalid {NAME} parameters")),
            Some(number) if (0.0..=100.0).contains(&number) => Ok(number),
            Some(_) => Err(format!("{NAME} parameters should sit between [0.0,100.0]")),
            None => Err(format!("Invalid {NAME} parameters")),
        }
    };
    values.iter().filter(|value| !value.is_empty()).map(one).collect()
}

/// At most six digits after the point and no zeros at the end: `50`, `99.9`.
pub fn format_percentile(percentile: f64) -> String {
    let text = format!("{percentile:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How much may wait to be sent to one client. Zero means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputBufferLimit {
    /// The client is closed as soon as more waits.
    pub hard_bytes: u64,
    /// The client is closed when more has waited for longer than `soft_seconds`.
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

/// The limit of each class of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputBufferLimits {
    pub normal: OutputBufferLimit,
    pub replica: OutputBufferLimit,
    pub pubsub: OutputBufferLimit,
}

impl Default for OutputBufferLimits {
    fn default() -> Self {
        let limit = |hard_mb: u64, soft_mb: u64, soft_seconds| OutputBufferLimit {
            hard_bytes: hard_mb << 20,
            soft_bytes: soft_mb << 20,
            soft_seconds,
        };
        OutputBufferLimits {
            normal: limit(0, 0, 0),
            replica: limit(256, 64, 60),
            pubsub: limit(32, 8, 60),
        }
    }
}

impl OutputBufferLimits {
    /// Changes the classes that `values` names, in groups of class, hard limit, soft limit and soft seconds.
    /// On an error nothing has changed.
    pub(super) fn merge(&mut self, values: &[&[u8]]) -> Result<(), Wrong> {
        let mut merged = *self;
        let mut groups = values.chunks_exact(4);
        for group in &mut groups {
            let bad = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
            let place = match group[0].to_ascii_lowercase().as_slice() {
                b"normal" => &mut merged.normal,
                b"replica" | b"slave" => &mut merged.replica,
                b"pubsub" => &mut merged.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
            };
            *place = OutputBufferLimit {
                hard_bytes: memory_size(group[1]).ok_or(bad)?,
                soft_bytes: memory_size(group[2]).ok_or(bad)?,
                soft_seconds: int(group[3], 0, i64::from(i32::MAX)).map_err(|_| bad)?,
            };
        }
        if !groups.remainder().is_empty() {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        *self = merged;
        Ok(())
    }

    /// The classes with the names that Redis reports them by.
    pub(super) fn classes(&self) -> [(&'static str, OutputBufferLimit); 3] {
        [
            ("normal", self.normal),
            ("slave", self.replica),
            ("pubsub", self.pubsub),
        ]
    }
}

impl fmt::Display for OutputBufferLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (class, limit)) in self.classes().into_iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(
                f,
                "{gap}{class} {} {} {}",
                limit.hard_bytes, limit.soft_bytes, limit.soft_seconds
            )?;
        }
        Ok(())
    }
}

/// The kinds of keyspace notification that are on: a set of the letters of `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceEvents(u16);

impl KeyspaceEvents {
    /// Every letter in the order of output. The first ten are what `A` stands for.
    const LETTERS: &'static [u8] = b"g$lshzxetdKEmn";
    const ALL: u16 = (1 << 10) - 1;

    pub(super) fn read(text: &[u8]) -> Result<Self, Wrong> {
        let mut events = 0;
        for &letter in text {
            match Self::LETTERS.iter().position(|&known| known == letter) {
                Some(bit) => events |= 1 << bit,
                None if letter == b'A' => events |= Self::ALL,
                None => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            }
        }
        Ok(KeyspaceEvents(events))
    }

    /// Whether nothing is ever sent.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the kind with this letter (any but `A`) is on.
    pub fn has(self, letter: u8) -> bool {
        Self::LETTERS
            .iter()
            .position(|&known| known == letter)
            .is_some_and(|bit| self.0 & (1 << bit) != 0)
    }
}

impl fmt::Display for KeyspaceEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0 & Self::ALL == Self::ALL;
        if all {
            f.write_str("A")?;
        }
        for (bit, &letter) in Self::LETTERS.iter().enumerate() {
            let covered = all && Self::ALL & (1 << bit) != 0;
            if self.0 & (1 << bit) != 0 && !covered {
                write!(f, "{}", char::from(letter))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_units_are_those_of_redis() {
        let cases: [(&str, Option<u64>); 12] = [
            ("1k", Some(1000)),
            ("1kb", Some(1024)),
            ("1M", Some(1_000_000)),
            ("1mB", Some(1 << 20)),
            ("2g", Some(2_000_000_000)),
            ("1gb", Some(1 << 30)),
            ("7b", Some(7)),
            ("", Some(0)),
            ("99999999999999999999", Some(u64::MAX)),
            ("1tb", None),
            ("-1", None),
            ("1.5", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(memory_size(text.as_bytes()), bytes, "{text}");
        }
    }

    #[test]
    fn formatted_memory_reads_back_as_itself() {
        for (bytes, text) in [
            (0, "0"),
            (1 << 30, "1gb"),
            (1536 << 20, "1536mb"),
            (1000, "1000"),
            (4096, "4kb"),
        ] {
            assert_eq!(format_memory(bytes), text);
            assert_eq!(memory_size(text.as_bytes()), Some(bytes));
        }
    }

    #[test]
    fn integers_have_one_spelling() {
        assert_eq!(int::<i64>(b"-1", -1, 5), Ok(-1));
        assert_eq!(int::<u16>(b"0", 0, 5), Ok(0));
        for text in [
            "",
            "-",
            "01",
            "+1",
            " 1",
            "1 ",
            "-0",
            "1.5",
            "abc",
            "99999999999999999999",
        ] {
            let wrong = int::<i64>(text.as_bytes(), 0, 5).unwrap_err();
            assert_eq!(wrong, "argument couldn't be parsed into an integer", "{text}");
        }
        let wrong = int::<i64>(b"6", 0, 5).unwrap_err();
        assert_eq!(wrong, "argument must be between 0 and 5 inclusive");
    }

    #[test]
    fn percentages_are_bounded() {
        let shown = |text| BytesOrShare::read(text).map(|read| read.to_string());
        assert_eq!(shown(b"50%"), Ok("50%".into()));
        assert_eq!(shown(b"0%"), Ok("0".into()));
        assert_eq!(shown(b"1gb"), Ok("1073741824".into()));
        assert_eq!(BytesOrShare::Percent(5).bytes_of(1000), 50);
        assert_eq!(
            shown(b"101%").unwrap_err(),
            "percentage argument must be less or equal to 100"
        );
        for text in ["-5%", "%", "x"] {
            assert_eq!(
                shown(text.as_bytes()).unwrap_err(),
                "argument must be a memory or percent value"
            );
        }
    }

    #[test]
    fn keyspace_events_are_written_in_canonical_order() {
        for (given, kept) in [
            ("KEA", "AKE"),
            ("Kg", "gK"),
            ("Kg$lshzxetd", "AK"),
            ("KEAm", "AKEm"),
            ("", ""),
        ] {
            assert_eq!(KeyspaceEvents::read(given.as_bytes()).unwrap().to_string(), kept);
        }
        assert!(KeyspaceEvents::read(b"KA").unwrap().has(b'x'));
        assert!(!KeyspaceEvents::read(b"KA").unwrap().has(b'E'));
        assert!(KeyspaceEvents::read(b"Q").is_err());
    }

    #[test]
    fn a_wrong_group_of_buffer_limits_changes_nothing() {
        let mut limits = OutputBufferLimits::default();
        let wrong = limits
            .merge(&[b"normal", b"1mb", b"2", b"3", b"foo", b"1", b"1", b"1"])
            .unwrap_err();
        assert_eq!(
            wrong,
            "Invalid client class specified in buffer limit configuration."
        );
        assert_eq!(limits, OutputBufferLimits::default());
        limits.merge(&[b"Replica", b"1mb", b"2", b"3"]).unwrap();
        assert_eq!(
            limits.to_string(),
            "normal 0 0 0 slave 1048576 2 3 pubsub 33554432 8388608 60"
        );
    }

    #[test]
    fn percentiles_are_written_short() {
        let read = percentiles(&[b"50.0", b"99.999", b"1e1"]).unwrap();
        let written: Vec<String> = read.into_iter().map(format_percentile).collect();
        assert_eq!(written, ["50", "99.999", "10"]);
        assert!(percentiles(&[b"nan"]).unwrap_err().starts_with("Invalid"));
        assert!(
            percentiles(&[b"101"])
                .unwrap_err()
                .contains("should sit between [0.0,100.0]")
        );
    }
}
