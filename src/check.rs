//! `terrace check`: reads a data folder or a backup and says what is wrong where; with `--repair` cuts a data folder's
//! journal off there.

use crate::backup::{restore, verify};
use crate::journal::{self, SegmentReader};
use crate::server::lock_folder;
use crate::store::block::BlockStore;
use crate::store::flush::Meta;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const CACHE: usize = 8 << 20;

/// Checks everything that has a checksum. Fails when something is wrong and stays so.
pub fn run(dir: &Path, repair: bool) -> ExitCode {
    let checked = match verify::is_backup(dir) {
        true if repair => Err("a backup cannot be repaired".into()),
        true => check_backup(dir),
        false => check(dir, repair),
    };
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Prints how far something is, once a second.
struct Ticker(Instant);

impl Ticker {
    fn new() -> Ticker {
        Ticker(Instant::now())
    }

    fn tick(&mut self, doing: &str, done: u64, total: u64) {
        if self.0.elapsed() >= Duration::from_secs(1) {
            self.0 = Instant::now();
            println!("{doing}: {} %", (done * 100 / total.max(1)).min(100));
        }
    }
}

fn check_backup(dir: &Path) -> Result<(), String> {
    let mut ticker = Ticker::new();
    let mut say = |line: String| println!("{line}");
    let mut report =
        |progress: &crate::backup::pieces::Progress| ticker.tick("check", progress.percent(), 100);
    match verify::verify(dir, &mut say, &mut report) {
        Ok(true) => Ok(()),
        Ok(false) => Err("the backup is damaged".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn check(dir: &Path, repair: bool) -> Result<(), String> {
    restore::refuse_unfinished(dir)?;
    if !dir.join("store").is_dir() {
        return Err(format!(
            "{} is neither a data folder, which has a store, nor a backup",
            dir.display()
        ));
    }
    let _lock = lock_folder(dir).map_err(|error| error.to_string())?;
    let store =
        BlockStore::open_to_read(&dir.join("store"), CACHE).map_err(|error| format!("store: {error}"))?;
    let mut ticker = Ticker::new();
    store
        .verify_with(|done, total| ticker.tick("store", done, total))
        .map_err(|error| {
            format!("store damaged: {error}\nNothing can be cut off there: `terrace restore` makes a folder of a backup")
        })?;
    let meta = store.meta().map_err(|error| format!("store: {error}"))?;
    let mark = meta.as_ref().map_or(0, |meta| meta.mark);
    let rows: i64 = meta
        .iter()
        .flat_map(|meta| &meta.ranges)
        .flat_map(|range| &range.rows)
        .sum();
    println!("store: sound, {rows} keys, mark {mark}");
    let journal = dir.join("journal");
    let held = meta.as_ref().map_or(0, Meta::held);
    let is_missing = match (journal::refuse_missing(&journal, held), repair) {
        (Ok(()), _) => false,
        (Err(_), true) => true,
        (Err(error), false) => {
            return Err(format!(
                "{error}\n`terrace check --repair` begins another; what came behind offset {mark} is lost"
            ));
        }
    };
    let kept = check_kept(&journal, mark)?;
    let found = journal::inspect(&journal, mark, repair).map_err(|error| {
        format!("{error}\n`terrace check --repair` cuts the journal off there; what came behind it is lost")
    })?;
    if is_missing {
        println!("journal: was missing and is begun anew; what came behind offset {mark} is lost");
    }
    println!(
        "journal: sound, {} records behind the mark, end {}",
        found.records, found.end
    );
    if kept > 0 {
        println!("journal: {kept} records before the mark are kept");
    }
    match (found.torn_bytes, repair) {
        (0, _) => {}
        (bytes, true) => println!("journal: {bytes} bytes behind its end were cut off"),
        (bytes, false) => {
            println!("journal: {bytes} bytes of a record that a crash cut short; the next start removes them")
        }
    }
    Ok(())
}

/// The segments that a start does not read, because the store holds them. Damage there is no reason to cut anything
/// off; they serve `terrace restore` only.
fn check_kept(journal: &Path, mark: u64) -> Result<u64, String> {
    let segments = journal::present(journal).map_err(|error| error.to_string())?;
    let mut ticker = Ticker::new();
    let mut records = 0;
    for (done, pair) in (0..).zip(segments.windows(2)) {
        let limit = pair[1].first_offset;
        if limit > mark {
            break;
        }
        ticker.tick("journal", done, segments.len() as u64);
        let mut reached = pair[0].first_offset;
        let read = SegmentReader::open(&pair[0].path).and_then(|mut reader| {
            while reached < limit
                && let Some(header) = reader.next_record()?
            {
                reached = header.end();
                records += 1;
            }
            Ok(())
        });
        read.map_err(|error| {
            format!("{error}\nThe server does not need this segment any more: remove it and those before it")
        })?;
    }
    Ok(records)
}
