//! How often each error code was replied: the `errorstats` of INFO.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Display;

/// Codes beyond this many are not told apart: a client can make up codes of its own only through scripts.
const CODES_MOST: usize = 128;

#[derive(Default)]
pub struct ErrorStats {
    counts: Mutex<BTreeMap<String, u64>>,
}

impl ErrorStats {
    /// Counts an error by its first word.
    pub fn note(&self, error: &impl Display) {
        let text = error.to_string();
        let code = text.split(' ').next().unwrap_or("ERR");
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(code) {
            *count += 1;
        } else if counts.len() < CODES_MOST {
            counts.insert(code.to_owned(), 1);
        }
    }

    pub fn counts(&self) -> Vec<(String, u64)> {
        self.counts
            .lock()
            .iter()
            .map(|(code, count)| (code.clone(), *count))
            .collect()
    }

    pub fn total(&self) -> u64 {
        self.counts.lock().values().sum()
    }

    pub fn reset(&self) {
        self.counts.lock().clear();
    }
}
