//! `terrace check`: reads a data folder and says what is wrong where; with `--repair` cuts the journal off there.

use crate::journal;
use crate::server::lock_folder;
use crate::store::block::BlockStore;
use std::path::Path;
use std::process::ExitCode;

/// Checks the store's blocks and the journal's records behind its mark. Fails when something is wrong and stays so.
pub fn run(dir: &Path, repair: bool) -> ExitCode {
    match check(dir, repair) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn check(dir: &Path, repair: bool) -> Result<(), String> {
    if !dir.join("store").is_dir() {
        return Err(format!("{} is not a data folder: it has no store", dir.display()));
    }
    let _lock = lock_folder(dir).map_err(|error| error.to_string())?;
    let store = BlockStore::open(&dir.join("store"), 8 << 20).map_err(|error| format!("store: {error}"))?;
    store
        .verify()
        .map_err(|error| format!("store damaged: {error}"))?;
    let meta = store.meta().map_err(|error| format!("store: {error}"))?;
    let mark = meta.as_ref().map_or(0, |meta| meta.mark);
    let rows: i64 = meta
        .iter()
        .flat_map(|meta| &meta.ranges)
        .flat_map(|range| &range.rows)
        .sum();
    println!("store: sound, {rows} keys, mark {mark}");
    let found = journal::inspect(&dir.join("journal"), mark, repair).map_err(|error| {
        format!("{error}\n`terrace check --repair` cuts the journal off there; what follows is lost")
    })?;
    println!(
        "journal: sound, {} records behind the mark, end {}",
        found.records, found.end
    );
    match (found.torn_bytes, repair) {
        (0, _) => {}
        (bytes, true) => println!("journal: {bytes} bytes that are no record were cut off"),
        (bytes, false) => {
            println!("journal: {bytes} bytes of a record that a crash cut short; the next start removes them")
        }
    }
    Ok(())
}
