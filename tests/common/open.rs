//! A keyspace opened on a data folder as the server does it, in this process: for tests that hand the time in and look
//! behind the protocol.
#![allow(dead_code)] // each test file uses its own part of this module

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use terrace::command::replay::Replayer;
use terrace::command::spec::Handler;
use terrace::command::{Args, Error, table};
use terrace::config::RangeSpec;
use terrace::journal;
use terrace::keyspace::moves::undo_unfinished;
use terrace::keyspace::range::RangeMap;
use terrace::keyspace::reshape::specs_at_start;
use terrace::keyspace::{Call, Effects, Keyspace, Settings};
use terrace::resp::{Protocol, Reply};
use terrace::store::block::BlockStore;

/// Bytes of the store's block cache.
pub const CACHE: usize = 1 << 20;

/// How a folder is opened.
pub struct How<'a> {
    pub specs: &'a [RangeSpec],
    /// Besides them, the ranges that the store remembers.
    pub remembers: bool,
    pub settings: &'a Settings,
    pub now_ms: i64,
    pub segment_size: u64,
    /// Of the hashes: another one in every process.
    pub seed: u64,
}

/// A keyspace with its flush thread.
pub struct Open {
    pub keyspace: Arc<Keyspace>,
    pub flusher: Option<JoinHandle<()>>,
    pub effects: Effects,
}

impl Open {
    /// Returns the offset at which the folder's journal ended, too.
    pub fn start(dir: &Path, how: &How<'_>) -> (Open, u64) {
        let store = BlockStore::open(&dir.join("store"), CACHE).expect("store opens");
        let mut meta = store.meta().expect("mark is readable");
        let mut specs = how.specs.to_vec();
        if how.remembers {
            meta.iter_mut().for_each(undo_unfinished);
            let remembered = meta.iter().flat_map(|meta| &meta.ranges).map(|range| &range.spec);
            specs = specs_at_start(&specs, remembered).expect("no conflict");
        }
        let map = RangeMap::new(&specs, how.settings.inherited, None);
        let keyspace = Arc::new(Keyspace::new(store, map, how.settings, how.seed));
        let mut replayer = Replayer::new(how.now_ms);
        let options = journal::Options {
            segment_size: how.segment_size,
            ring_size: 1 << 16,
            sync_every_second: false,
        };
        let summary = keyspace
            .recover(meta, &dir.join("journal"), options, |keyspace, records| {
                replayer.apply(keyspace, records)
            })
            .expect("recovers");
        let of_thread = keyspace.clone();
        let open = Open {
            keyspace,
            flusher: Some(std::thread::spawn(move || of_thread.flush_loop())),
            effects: Effects::default(),
        };
        (open, summary.end)
    }

    /// Runs a data command as the pipeline does, without a session.
    pub fn run(&mut self, db: u8, now_ms: i64, words: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let args = Args::new(words);
        let named = table::find(words[0]).expect("a command");
        let row = words
            .get(1)
            .and_then(|word| named.subcommand(word))
            .unwrap_or(named);
        let Handler::Data(handler) = row.handler else {
            panic!("not a data command")
        };
        let places = row.key_positions(&args);
        let keys: Vec<&[u8]> = places.iter().map(|at| words[*at]).collect();
        let call = Call {
            db,
            now_ms,
            keys: &keys,
            received: words,
            elements: row.elements,
            replay: None,
        };
        let mut reply = Reply::new(Protocol::Resp2);
        let mut tx = self.keyspace.begin(call, &mut self.effects)?;
        let outcome = handler(&args, &mut tx, &mut reply);
        tx.commit();
        outcome.map(|()| reply.take())
    }

    pub fn end(&self) -> u64 {
        self.keyspace.journal().expect("open").end()
    }

    pub fn flush(&self) {
        self.keyspace.flush_now().expect("flushes");
    }

    /// Returns when no flush is under way that was asked for and nobody waited for.
    pub fn flush_idle(&self) {
        while self.keyspace.flush.is_busy() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn close(&mut self) {
        self.keyspace.close().expect("closes");
        if let Some(flusher) = self.flusher.take() {
            flusher.join().expect("flush thread");
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.flusher.is_some() && !std::thread::panicking() {
            self.close();
        }
    }
}
