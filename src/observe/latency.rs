//! The latency monitor: the newest spikes of each kind of event.

use std::collections::BTreeMap;

const SAMPLES_MOST: usize = 160;

/// One second's worst: unix seconds and milliseconds taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub unix_seconds: i64,
    pub ms: u64,
}

#[derive(Default)]
pub struct Latency {
    events: BTreeMap<&'static str, (Vec<Sample>, u64)>,
}

impl Latency {
    /// Notes that an event took `ms`. Of one second the worst is kept.
    pub fn note(&mut self, event: &'static str, unix_ms: i64, ms: u64) {
        let (samples, worst) = self.events.entry(event).or_default();
        *worst = (*worst).max(ms);
        let unix_seconds = unix_ms / 1_000;
        match samples.last_mut() {
            Some(last) if last.unix_seconds == unix_seconds => last.ms = last.ms.max(ms),
            _ => samples.push(Sample { unix_seconds, ms }),
        }
        if samples.len() > SAMPLES_MOST {
            samples.remove(0);
        }
    }

    /// (event, newest sample, all-time worst), by name.
    pub fn latest(&self) -> Vec<(&'static str, Sample, u64)> {
        let newest = |(event, (samples, worst)): (&&'static str, &(Vec<Sample>, u64))| {
            samples.last().map(|sample| (*event, *sample, *worst))
        };
        self.events.iter().filter_map(newest).collect()
    }

    pub fn history(&self, event: &str) -> &[Sample] {
        self.events.get(event).map_or(&[], |(samples, _)| samples)
    }

    /// Forgets events; all of them when none is named. Returns how many were forgotten.
    pub fn reset(&mut self, events: &[&str]) -> usize {
        let before = self.events.len();
        self.events
            .retain(|event, _| !events.is_empty() && !events.contains(event));
        before - self.events.len()
    }
}
