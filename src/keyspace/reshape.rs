//! Ranges that change their bounds while commands go on: splitting, merging, carving one out of another of its tier.
//!
//! No key moves, no row is written: keys come to be counted elsewhere. Merging adds counters up; splitting counts (see
//! `recount`). What is made so is written into the store's mark row before the command replies, and a crash on the way
//! leaves either what was before or what was asked for, with exact counts.
//! A count that fails is tried again in the background, and bounds do not change before it is done.

use super::Keyspace;
use super::range::RangeMap;
use super::ranges::RangeError;
use crate::config::{Bounds, DEFAULT_RANGE, RangeSpec, Tier};
use crate::journal::crash_point;
use std::sync::Arc;

impl Keyspace {
    /// Cuts a range in two at a key, which becomes the first of the second. Without a name for that, it is the first's
    /// with the smallest number from 2 on that is free.
    pub fn split_range(
        self: &Arc<Keyspace>,
        name: &str,
        at: &[u8],
        second: Option<&str>,
    ) -> Result<(), RangeError> {
        let _change = self.begin_reshape()?;
        let mut specs = self.specs();
        let holder = self.ranges.load().find(at).spec.name.clone();
        let first = specs
            .iter_mut()
            .find(|spec| spec.name == name)
            .ok_or_else(|| RangeError::Unknown(name.into()))?;
        if name == DEFAULT_RANGE {
            return Err(RangeError::Invalid(
                "The default range can't be split: RANGE CREATE takes keys out of it".into(),
            ));
        }
        let (start, end) = first.bounds.span();
        if !first.bounds.contains(at) || start == at {
            return Err(RangeError::Invalid(format!(
                "The key does not lie between the first and the last of range '{name}'"
            )));
        }
        if holder != name {
            return Err(RangeError::Invalid(format!(
                "The key belongs to range '{holder}', which lies inside of range '{name}'"
            )));
        }
        let mut rest = first.clone();
        first.bounds = written(start, Some(at.to_vec()))?;
        rest.bounds = written(at.to_vec(), end)?;
        first.by_command.shaped = true;
        rest.by_command.shaped = true;
        rest.by_command.absorbed.clear();
        rest.name = match second {
            Some(second) => RangeSpec::check_name(second.as_bytes()).map_err(RangeError::Invalid)?,
            None => free_name(&specs, name),
        };
        if specs.iter().any(|spec| spec.name == rest.name) {
            return Err(RangeError::Exists(rest.name));
        }
        let counted = vec![name.to_string(), rest.name.clone()];
        specs.push(rest);
        self.reshape(&specs, counted)
    }

    /// Makes one range of two neighbours, or of one and another inside of it; they are of one tier and have the same
    /// options. It keeps the first one's name.
    pub fn merge_ranges(&self, name: &str, other: &str) -> Result<(), RangeError> {
        let _change = self.begin_reshape()?;
        let mut specs = self.specs();
        let mut take = |name: &str| {
            let at = specs.iter().position(|spec| spec.name == name);
            at.map(|at| specs.remove(at))
                .ok_or_else(|| RangeError::Unknown(name.into()))
        };
        if [name, other].contains(&DEFAULT_RANGE) {
            return Err(RangeError::Invalid(
                "The default range can't be merged: RANGE DROP with KEEP leaves keys to it".into(),
            ));
        }
        let (mut merged, other) = (take(name)?, take(other)?);
        if merged.tier != other.tier || merged.options != other.options {
            return Err(RangeError::Invalid(format!(
                "Ranges '{name}' and '{}' are not of the same tier and options",
                other.name
            )));
        }
        merged.bounds = union(&merged.bounds, &other.bounds)?.ok_or_else(|| {
            RangeError::Invalid(format!("Ranges '{name}' and '{}' are not neighbours", other.name))
        })?;
        merged.by_command.shaped = true;
        merged.by_command.absorbed.push(other.name.clone());
        merged
            .by_command
            .absorbed
            .extend(other.by_command.absorbed.iter().cloned());
        if let Some(why) = specs.iter().find_map(|beside| merged.conflict_with(beside)) {
            return Err(RangeError::Overlaps(why));
        }
        specs.push(merged);
        self.install_merged(&specs, &other.name, name, false)
    }

    /// Installs a map in which ranges have other bounds, and counts those named.
    pub(super) fn reshape(
        self: &Arc<Keyspace>,
        specs: &[RangeSpec],
        counted: Vec<String>,
    ) -> Result<(), RangeError> {
        {
            let mut stored = self.stored_now().map_err(RangeError::refused)?;
            let _no_sealing = self.sealing.hold();
            let guards = self.lock_all();
            let old = self.ranges.load();
            let map = RangeMap::new(specs, old.inherited, Some(&old));
            let ranges: Vec<_> = counted
                .iter()
                .filter_map(|name| map.by_name(name).cloned())
                .collect();
            self.distrust(&ranges, &mut stored);
            // Whatever becomes of the count, the next mark row has these ranges.
            self.flush.force();
            self.mix_generations(&counted.iter().map(String::as_str).collect::<Vec<_>>());
            self.install(map, &guards);
        }
        if let Err(error) = self.recount(&counted) {
            self.recount_later(counted, &error);
            return Err(RangeError::Unfinished(error));
        }
        crash_point("reshape-before-mark");
        self.write_ranges()
    }

    /// Installs a map without the range `from`, whose keys are those of the range `to` now.
    pub(super) fn install_merged(
        &self,
        specs: &[RangeSpec],
        from: &str,
        to: &str,
        must_be_empty: bool,
    ) -> Result<(), RangeError> {
        {
            let mut stored = self.stored_now().map_err(RangeError::refused)?;
            let _no_sealing = self.sealing.hold();
            let guards = self.lock_all();
            let old = self.ranges.load();
            let map = RangeMap::new(specs, old.inherited, Some(&old));
            let (Some(from), Some(to)) = (old.by_name(from), map.by_name(to)) else {
                return Err(RangeError::Unknown(from.into()));
            };
            let keys = from.counters.total_keys();
            if must_be_empty && keys > 0 {
                return Err(RangeError::NotEmpty(from.spec.name.clone(), keys as u64));
            }
            Keyspace::hand_over(from, to, &mut stored);
            self.mix_generations(&[&from.spec.name]);
            self.install(map, &guards);
        }
        crash_point("reshape-before-mark");
        self.write_ranges()
    }
}

/// The bounds of an interval, if they can be written in the words of `RANGE CREATE`; a prefix where they are one.
fn written(start: Vec<u8>, end: Option<Vec<u8>>) -> Result<Bounds, RangeError> {
    let prefix = Bounds::Prefix(start.clone());
    let bounds = if !start.is_empty() && prefix.span().1 == end {
        prefix
    } else {
        Bounds::Interval { start, end }
    };
    match Bounds::parse(&bounds.to_bytes()) {
        Ok(read) if read == bounds => Ok(bounds),
        _ => Err(RangeError::Invalid(
            "Bounds that begin or end so can't be written: choose another key".into(),
        )),
    }
}

/// The bounds that cover what two cover that touch or lie one in the other; none for others.
fn union(a: &Bounds, b: &Bounds) -> Result<Option<Bounds>, RangeError> {
    let (first, second) = if a.span().0 <= b.span().0 { (a, b) } else { (b, a) };
    let ((start, first_end), (second_start, second_end)) = (first.span(), second.span());
    for (outer, inner) in [(a, b), (b, a)] {
        if outer.encloses(inner) {
            return Ok(Some(outer.clone()));
        }
    }
    if first_end.as_ref() != Some(&second_start) {
        return Ok(None);
    }
    written(start, second_end).map(Some)
}

fn free_name(specs: &[RangeSpec], name: &str) -> String {
    // No name has a number that is longer than this, so it stays a valid one.
    let stem = &name[..name.len().min(56)];
    let mut number = 2;
    loop {
        let free = format!("{stem}-{number}");
        if !specs.iter().any(|spec| spec.name == free) {
            return free;
        }
        number += 1;
    }
}

/// The ranges of a start: those of the configuration, and those that commands made and the store remembers. Of a range
/// that is in both the configuration says everything, but for what a command has made of its bounds and tier: keys
/// depend on that.
pub fn specs_at_start<'s>(
    configured: &[RangeSpec],
    stored: impl Iterator<Item = &'s RangeSpec>,
) -> Result<Vec<RangeSpec>, String> {
    let stored: Vec<&RangeSpec> = stored.collect();
    let absorbed = |spec: &RangeSpec| {
        stored.iter().any(|by| {
            by.by_command.absorbed.contains(&spec.name) && !stored.iter().any(|s| s.name == spec.name)
        })
    };
    let mut specs: Vec<RangeSpec> = Vec::new();
    for spec in configured {
        if absorbed(spec) {
            log::warn!(
                "range '{}' of the configuration was merged into another",
                spec.name
            );
        } else {
            specs.push(spec.clone());
        }
    }
    for spec in stored {
        let shaped = spec.by_command.shaped;
        match specs.iter_mut().find(|known| known.name == spec.name) {
            Some(known) if shaped => {
                if known.bounds != spec.bounds || known.tier != spec.tier {
                    log::warn!(
                        "range '{}': bounds and tier are those that a command has given it, not the configuration's",
                        spec.name
                    );
                }
                let options = known.options.clone();
                *known = spec.clone();
                known.options = options;
            }
            Some(_) => {}
            // What RANGE ALTER said of the default range's options; its tier is the configuration's to say.
            None if spec.name != DEFAULT_RANGE || spec.tier == Tier::Durable || shaped => {
                specs.push(spec.clone())
            }
            None => {}
        }
    }
    for (at, spec) in specs.iter().enumerate() {
        if let Some(why) = specs[..at].iter().find_map(|other| spec.conflict_with(other)) {
            return Err(why);
        }
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(line: &str) -> RangeSpec {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        RangeSpec::parse(&words).expect("a valid range")
    }

    fn shaped(line: &str, absorbed: &[&str]) -> RangeSpec {
        let mut spec = spec(line);
        spec.by_command.shaped = true;
        spec.by_command.absorbed = absorbed.iter().map(|name| name.to_string()).collect();
        spec
    }

    fn names(specs: &[RangeSpec]) -> Vec<String> {
        let words = |spec: &RangeSpec| {
            let words = spec.to_args().join(&b' ');
            String::from_utf8_lossy(&words).into_owned()
        };
        specs.iter().map(words).collect()
    }

    #[test]
    fn neighbours_become_one_and_a_prefix_cut_in_two_becomes_itself_again() {
        let of = |a: &str, b: &str| {
            let (a, b) = (Bounds::parse(a.as_bytes()), Bounds::parse(b.as_bytes()));
            let union = union(&a.expect("bounds"), &b.expect("bounds")).expect("can be written");
            union.map(|bounds| String::from_utf8_lossy(&bounds.to_bytes()).into_owned())
        };
        assert_eq!(of("u:..u:m", "u:m..u;").as_deref(), Some("u:*"));
        assert_eq!(of("m..z", "a..m").as_deref(), Some("a..z"));
        assert_eq!(of("a..m", "m..").as_deref(), Some("a.."));
        assert_eq!(of("u:*", "u:v:*").as_deref(), Some("u:*"));
        assert_eq!(of("a..m", "n..z"), None);
        assert!(written(b"a..".to_vec(), Some(b"b".to_vec())).is_err());
        assert!(written(b"a".to_vec(), Some(b"b*".to_vec())).is_err());
    }

    #[test]
    fn what_commands_made_of_configured_ranges_outlives_a_start() {
        let configured = [
            spec("a a..m memory max-keys 5"),
            spec("b m..z memory"),
            spec("c 0..9 durable"),
        ];
        let stored = [
            shaped("a a..z durable", &["b"]),
            shaped("c 0..5 durable", &[]),
            shaped("c-2 5..9 durable", &[]),
            spec("d A..B memory"),
        ];
        let specs = specs_at_start(&configured, stored.iter()).expect("no conflict");
        assert_eq!(
            names(&specs),
            [
                "a a..z durable max-keys 5",
                "c 0..5 durable",
                "c-2 5..9 durable",
                "d A..B memory"
            ]
        );
        // What the configuration has of a range that no command has shaped is what holds.
        let stored = [spec("a a..b durable"), spec("default * memory")];
        let specs = specs_at_start(&configured[..1], stored.iter()).expect("no conflict");
        assert_eq!(names(&specs), ["a a..m memory max-keys 5"]);
        assert!(specs_at_start(&configured, [spec("e l..n memory")].iter()).is_err());
    }
}
