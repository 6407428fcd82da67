//! The scripts that the server knows by their hash.

use super::source::Script;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Default)]
pub struct Catalog {
    scripts: DashMap<String, Arc<Script>>,
    /// Moves when all scripts are forgotten: threads then drop what they have compiled.
    generation: AtomicU64,
    bytes: AtomicU64,
}

impl Catalog {
    /// A script by its hash in hexadecimal digits of any case.
    pub fn find(&self, sha: &[u8]) -> Option<Arc<Script>> {
        let sha = std::str::from_utf8(sha).ok()?;
        match self.scripts.get(sha) {
            Some(script) => Some(script.clone()),
            None => self
                .scripts
                .get(&sha.to_ascii_lowercase())
                .map(|script| script.clone()),
        }
    }

    /// Adds a script, unless it is there.
    pub fn add(&self, script: Script) -> Arc<Script> {
        let sha = script.sha.clone();
        let bytes = script.bytes as u64;
        let entry = self.scripts.entry(sha).or_insert_with(|| {
            self.bytes.fetch_add(bytes, Relaxed);
            Arc::new(script)
        });
        entry.clone()
    }

    pub fn clear(&self) {
        self.scripts.clear();
        self.bytes.store(0, Relaxed);
        self.generation.fetch_add(1, Relaxed);
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    pub fn len(&self) -> usize {
        self.scripts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    /// Bytes of the scripts' texts.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}
