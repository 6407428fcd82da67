//! What a range is asked to be: its name, the keys it covers, its tier and its own options.
//!
//! The `range` directive and `RANGE CREATE` read their arguments here, so that both accept the same language and
//! refuse the same mistakes:
//!
//! ```text
//! range <name> <keys> memory|durable [option value ...]
//!
//! *           every key that no other range covers; for the range named `default`, and only for it
//! cache:*     the keys that start with `cache:` (`cache:` says the same; only one star at the end is taken off)
//! a..m        the keys from `a` up to and without `m`, in byte order
//! a..   ..m   the same, open at one end
//! ```
//!
//! Ranges do not overlap, but prefixes may lie inside one another, and a prefix inside an interval or the other way
//! round: the innermost one that fits a key covers it, of prefixes the longest.

use serde::{Deserialize, Serialize};

use super::values::{Compression, EvictionPolicy, FsyncPolicy, KeyspaceEvents, Tier, int, memory};

/// The range that covers whatever no other range does.
pub const DEFAULT_RANGE: &str = "default";

const NAME_LEN_MAX: usize = 64;

/// One range as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSpec {
    pub name: String,
    pub bounds: Bounds,
    pub tier: Tier,
    pub options: RangeOptions,
    #[serde(default)]
    pub by_command: ByCommand,
}

/// What commands have made of a range. It is no part of its words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByCommand {
    /// Its bounds or its tier are such as RANGE SPLIT, MERGE or ALTER TIER have made them.
    pub shaped: bool,
    /// The names of ranges that were merged into it.
    pub absorbed: Vec<String>,
    /// The tier that it is on its way to. On its way to disk it is of the durable tier already, but for crashes.
    #[serde(default)]
    pub moving: Option<Tier>,
}

/// The keys that a range covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bounds {
    /// Every key that no other range covers.
    All,
    /// The keys that start with these bytes, never none.
    Prefix(Vec<u8>),
    /// The keys from `start`, which may be empty, up to and without `end`; without an `end`, all that follow.
    Interval { start: Vec<u8>, end: Option<Vec<u8>> },
}

/// In place of an option's value: the range no longer has one of its own.
const INHERIT: &[u8] = b"inherit";

/// The options that a range has of its own. What is `None` is inherited from the directive of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeOptions {
    /// Bytes of memory for this range's resident keys; 0 is no limit of its own.
    pub maxmemory: Option<u64>,
    pub maxmemory_policy: Option<EvictionPolicy>,
    pub appendfsync: Option<FsyncPolicy>,
    /// Seconds that a key lives when it is written without an expiry; 0 is for ever.
    pub default_ttl: Option<u64>,
    /// Keys in all databases together; 0 is no limit.
    #[serde(default)]
    pub max_keys: Option<u64>,
    /// Bytes of one value; 0 is no limit.
    #[serde(default)]
    pub max_value_size: Option<u64>,
    /// How values are packed in their rows.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// Which events of its keys are told, as in `notify-keyspace-events`.
    pub notify: Option<KeyspaceEvents>,
}

impl RangeSpec {
    /// Reads `<name> <keys> <tier> [option value ...]`. The error is one sentence without a prefix.
    pub fn parse(args: &[&[u8]]) -> Result<RangeSpec, String> {
        let [name, keys, tier, options @ ..] = args else {
            return Err("a range needs a name, its keys, and memory or durable".into());
        };
        let name = parse_name(name)?;
        let bounds = Bounds::parse(keys)?;
        if (bounds == Bounds::All) != (name == DEFAULT_RANGE) {
            return Err(format!(
                "the range named '{DEFAULT_RANGE}' covers '*', and no other range does"
            ));
        }
        let tier = Tier::read(tier).map_err(|_| "the tier of a range must be memory or durable")?;
        let mut spec = RangeSpec {
            name,
            bounds,
            tier,
            options: RangeOptions::default(),
            by_command: ByCommand::default(),
        };
        let mut pairs = options.chunks_exact(2);
        for pair in &mut pairs {
            spec.options.set(pair[0], pair[1])?;
        }
        match pairs.remainder() {
            [] => Ok(spec),
            [lone, ..] => Err(format!("range option '{}' has no value", lone.escape_ascii())),
        }
    }

    /// The default range when nothing is said about it.
    pub fn default_range() -> RangeSpec {
        RangeSpec {
            name: DEFAULT_RANGE.into(),
            bounds: Bounds::All,
            tier: Tier::Durable,
            options: RangeOptions::default(),
            by_command: ByCommand::default(),
        }
    }

    /// The name, if it is one that a range may have.
    pub fn check_name(name: &[u8]) -> Result<String, String> {
        parse_name(name)
    }

    /// The arguments that [`RangeSpec::parse`] reads back as this range.
    pub fn to_args(&self) -> Vec<Vec<u8>> {
        let mut args = vec![self.name.clone().into_bytes(), self.bounds.to_bytes()];
        args.push(self.tier.as_str().into());
        for (name, value) in self.options.entries() {
            args.push(name.into());
            args.push(value.into_bytes());
        }
        args
    }

    /// Why this range cannot stand beside `other`, if it cannot.
    pub fn conflict_with(&self, other: &RangeSpec) -> Option<String> {
        if self.name == other.name {
            return Some(format!("range '{}' is there already", self.name));
        }
        if self.bounds.overlaps(&other.bounds) {
            return Some(format!(
                "the keys of range '{}' overlap those of range '{}'",
                self.name, other.name
            ));
        }
        None
    }
}

fn parse_name(name: &[u8]) -> Result<String, String> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.iter().all(allowed) {
        return Err(format!(
            "the name of a range is 1 to {NAME_LEN_MAX} of the characters A-Z a-z 0-9 _ -"
        ));
    }
    // Only ASCII is left, so nothing is lost.
    Ok(String::from_utf8_lossy(name).into_owned())
}

impl Bounds {
    /// Reads `*`, a prefix, or an interval, as the file's opening describes.
    pub fn parse(keys: &[u8]) -> Result<Bounds, String> {
        if keys == b"*" {
            return Ok(Bounds::All);
        }
        if let Some(prefix) = keys.strip_suffix(b"*") {
            return Ok(Bounds::Prefix(prefix.to_vec()));
        }
        let Some(dots) = keys.windows(2).position(|pair| pair == b"..") else {
            return match keys {
                [] => Err("the keys of a range cannot be empty".into()),
                prefix => Ok(Bounds::Prefix(prefix.to_vec())),
            };
        };
        let (start, end) = (&keys[..dots], &keys[dots + 2..]);
        let open_ended = end.is_empty();
        if start.is_empty() && open_ended {
            return Err("'..' has neither a start nor an end".into());
        }
        if !open_ended && start >= end {
            return Err("the start of a range must be below its end".into());
        }
        Ok(Bounds::Interval {
            start: start.to_vec(),
            end: (!open_ended).then(|| end.to_vec()),
        })
    }

    /// The text that [`Bounds::parse`] reads back as these bounds.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Bounds::All => b"*".to_vec(),
            Bounds::Prefix(prefix) => [prefix.as_slice(), b"*"].concat(),
            Bounds::Interval { start, end } => {
                [start, b"..".as_slice(), end.as_deref().unwrap_or_default()].concat()
            }
        }
    }

    /// Whether the key lies within, were there no other ranges.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Bounds::All => true,
            Bounds::Prefix(prefix) => key.starts_with(prefix),
            Bounds::Interval { start, end } => {
                key >= start.as_slice() && end.as_ref().is_none_or(|end| key < end.as_slice())
            }
        }
    }

    /// The first key within, and the first key after, if there is one.
    pub fn span(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Bounds::All => (Vec::new(), None),
            Bounds::Prefix(prefix) => (prefix.clone(), successor(prefix)),
            Bounds::Interval { start, end } => (start.clone(), end.clone()),
        }
    }

    /// Whether every key of `other` lies within.
    pub fn encloses(&self, other: &Bounds) -> bool {
        let ((start, end), (other_start, other_end)) = (self.span(), other.span());
        start <= other_start
            && match (end, other_end) {
                (None, _) => true,
                (Some(end), Some(other_end)) => other_end <= end,
                (Some(_), None) => false,
            }
    }

    /// Whether both would claim the same key, and neither lies inside the other.
    fn overlaps(&self, other: &Bounds) -> bool {
        match (self, other) {
            (Bounds::All, _) | (_, Bounds::All) => self == other,
            (Bounds::Prefix(a), Bounds::Prefix(b)) => a == b,
            _ => {
                let ((start_a, end_a), (start_b, end_b)) = (self.span(), other.span());
                let begins_before = |start: &[u8], end: &Option<Vec<u8>>| {
                    end.as_ref().is_none_or(|end| start < end.as_slice())
                };
                let meet = begins_before(&start_a, &end_b) && begins_before(&start_b, &end_a);
                let intervals =
                    [self, other].map(|bounds| matches!(bounds, Bounds::Interval { .. })) == [true; 2];
                meet && (intervals || self.encloses(other) == other.encloses(self))
            }
        }
    }
}

/// The smallest key above every key that starts with `prefix`; none if the prefix is all `0xff`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// What a range has of its own; none where it takes back what it had.
fn own<T>(value: &[u8], read: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<Option<T>, String> {
    match value.eq_ignore_ascii_case(INHERIT) {
        true => Ok(None),
        false => read(value).map(Some),
    }
}

impl RangeOptions {
    /// Sets one option; `RANGE ALTER` goes through here too.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        let option = name.to_ascii_lowercase();
        let named = |wrong: String| format!("range option '{}': {wrong}", option.escape_ascii());
        match option.as_slice() {
            b"maxmemory" => self.maxmemory = own(value, |value| memory(value, 0, u64::MAX)).map_err(named)?,
            b"maxmemory-policy" => self.maxmemory_policy = own(value, EvictionPolicy::read).map_err(named)?,
            b"appendfsync" => self.appendfsync = own(value, FsyncPolicy::read).map_err(named)?,
            b"default-ttl" => {
                self.default_ttl = own(value, |value| int(value, 0, i64::from(u32::MAX))).map_err(named)?;
            }
            b"max-keys" => self.max_keys = own(value, |value| int(value, 0, i64::MAX)).map_err(named)?,
            b"max-value-size" => {
                self.max_value_size = own(value, |value| memory(value, 0, u64::MAX)).map_err(named)?;
            }
            b"compression" => self.compression = own(value, Compression::read).map_err(named)?,
            b"notify" => self.notify = own(value, KeyspaceEvents::read).map_err(named)?,
            _ => return Err(format!("unknown range option '{}'", name.escape_ascii())),
        }
        Ok(())
    }

    /// The options that are set, as name and value.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let mut entries = Vec::new();
        entries.extend(self.maxmemory.map(|bytes| ("maxmemory", bytes.to_string())));
        entries.extend(
            self.maxmemory_policy
                .map(|policy| ("maxmemory-policy", policy.to_string())),
        );
        entries.extend(self.appendfsync.map(|policy| ("appendfsync", policy.to_string())));
        entries.extend(
            self.default_ttl
                .map(|seconds| ("default-ttl", seconds.to_string())),
        );
        entries.extend(self.max_keys.map(|keys| ("max-keys", keys.to_string())));
        entries.extend(
            self.max_value_size
                .map(|bytes| ("max-value-size", bytes.to_string())),
        );
        entries.extend(self.compression.map(|how| ("compression", how.to_string())));
        entries.extend(self.notify.map(|events| ("notify", events.to_string())));
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RangeSpec, String> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        RangeSpec::parse(&args)
    }

    fn spec(line: &str) -> RangeSpec {
        parse(line).unwrap()
    }

    #[test]
    fn every_form_of_bounds_is_read_and_written_back() {
        let interval = |start: &str, end: Option<&str>| Bounds::Interval {
            start: start.into(),
            end: end.map(|end| end.into()),
        };
        let cases = [
            ("cache:*", Bounds::Prefix(b"cache:".to_vec())),
            ("cache:", Bounds::Prefix(b"cache:".to_vec())),
            ("star**", Bounds::Prefix(b"star*".to_vec())),
            ("dots..*", Bounds::Prefix(b"dots..".to_vec())),
            ("a..m", interval("a", Some("m"))),
            ("..m", interval("", Some("m"))),
            ("a..", interval("a", None)),
        ];
        for (text, bounds) in cases {
            assert_eq!(Bounds::parse(text.as_bytes()).unwrap(), bounds, "{text}");
            assert_eq!(Bounds::parse(&bounds.to_bytes()).unwrap(), bounds, "{text}");
        }
    }

    #[test]
    fn options_are_read_in_any_order_and_case() {
        let range = spec(
            "sessions s:* MEMORY Default-TTL 3600 maxmemory 100mb maxmemory-policy allkeys-lfu \
             Compression ZSTD max-keys 10 MAX-VALUE-SIZE 1kb",
        );
        assert_eq!(range.tier, Tier::Memory);
        assert_eq!(range.options.default_ttl, Some(3600));
        assert_eq!(range.options.maxmemory, Some(100 << 20));
        assert_eq!(range.options.maxmemory_policy, Some(EvictionPolicy::AllKeysLfu));
        assert_eq!(range.options.appendfsync, None);
        assert_eq!(range.options.compression, Some(Compression::Zstd));
        assert_eq!(
            (range.options.max_keys, range.options.max_value_size),
            (Some(10), Some(1024))
        );
        let args = range.to_args();
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        assert_eq!(RangeSpec::parse(&args).unwrap(), range);
    }

    #[test]
    fn mistakes_are_refused_with_a_sentence() {
        let cases = [
            ("a b", "a range needs a name"),
            ("bad.name x* memory", "the name of a range"),
            ("a * memory", "covers '*'"),
            ("default x* memory", "covers '*'"),
            ("a .. memory", "neither a start nor an end"),
            ("a m..a memory", "must be below"),
            ("a a..a memory", "must be below"),
            ("a x* disk", "must be memory or durable"),
            ("a x* memory maxmemory", "has no value"),
            (
                "a x* memory maxmemory abc",
                "range option 'maxmemory': argument must be a memory value",
            ),
            (
                "a x* memory appendfsync often",
                "range option 'appendfsync': argument(s) must be one of",
            ),
            ("a x* memory default-ttl -1", "between 0 and"),
            ("a x* memory max-keys many", "range option 'max-keys'"),
            ("a x* memory max-value-size -1", "range option 'max-value-size'"),
            ("a x* memory compression lzma", "range option 'compression'"),
            ("a x* memory color blue", "unknown range option 'color'"),
        ];
        for (line, part) in cases {
            let wrong = parse(line).unwrap_err();
            assert!(wrong.contains(part), "{line}: {wrong}");
        }
        assert!(RangeSpec::parse(&[b"a", b"", b"memory"]).is_err());
        assert!(parse(&format!("{} x* memory", "n".repeat(65))).is_err());
    }

    #[test]
    fn prefixes_may_nest_and_intervals_not_in_one_another() {
        let conflict = |a: &str, b: &str| {
            let (a, b) = (spec(&format!("a {a} memory")), spec(&format!("b {b} durable")));
            assert_eq!(a.conflict_with(&b).is_some(), b.conflict_with(&a).is_some());
            a.conflict_with(&b).is_some()
        };
        assert!(!conflict("cache:*", "cache:hot:*"));
        assert!(conflict("cache:*", "cache:"));
        assert!(!conflict("a..m", "m..z"));
        assert!(conflict("a..m", "l..z"));
        assert!(conflict("a..", "x.."));
        assert!(conflict("..m", "a..b"));
        assert!(!conflict("a..m", "cache:*"), "an interval around a prefix");
        assert!(
            !conflict("cache:a..cache:b", "cache:*"),
            "an interval within a prefix"
        );
        assert!(conflict("cache:..cache;", "cache:*"), "the same keys");
        assert!(conflict("a..cache:m", "cache:*"), "a part of a prefix");
        assert!(conflict("a..z", "b..c"), "an interval within an interval");
        assert!(!conflict("a..cache:", "cache:*"));
        assert!(
            !conflict("cache;..z", "cache:*"),
            "the interval begins right after the prefix"
        );
        assert!(!conflict("a..m", "z*"));
    }

    #[test]
    fn a_name_is_taken_once_and_default_stands_beside_all() {
        let default = RangeSpec::default_range();
        assert!(default.conflict_with(&spec("a a..m memory")).is_none());
        assert!(default.conflict_with(&default).unwrap().contains("there already"));
    }

    #[test]
    fn contains_agrees_with_span() {
        for bounds in [
            Bounds::Prefix(b"a\xff".to_vec()),
            Bounds::Prefix(b"\xff".to_vec()),
            Bounds::parse(b"b..c").unwrap(),
        ] {
            let (start, end) = bounds.span();
            for key in [
                b"".as_slice(),
                b"a",
                b"a\xff",
                b"a\xff\xff",
                b"b",
                b"bz",
                b"c",
                b"\xfe",
                b"\xff",
                b"\xff\xff",
            ] {
                let within = key >= start.as_slice() && end.as_ref().is_none_or(|end| key < end.as_slice());
                assert_eq!(bounds.contains(key), within, "{bounds:?} {key:?}");
            }
        }
    }

    #[test]
    fn a_spec_survives_serde() {
        let range = spec("x a..b durable appendfsync always");
        let text = serde_json::to_string(&range).unwrap();
        assert_eq!(serde_json::from_str::<RangeSpec>(&text).unwrap(), range);
    }
}
