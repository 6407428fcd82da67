//! `terrace check` of a backup: every file of every generation is there and as it was written.

use super::folder::{self, Generation};
use super::manifest::Manifest;
use super::pieces::Progress;
use super::{BackupError, restore};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

/// Checks a backup folder or one generation. `say` gets one line for each thing found, `report` hears now and then how
/// far it is. False when something is wrong.
pub fn verify(
    dir: &Path,
    say: &mut dyn FnMut(String),
    report: &mut dyn FnMut(&Progress),
) -> Result<bool, BackupError> {
    let mut sound = true;
    if folder::is_generation(dir) {
        for (generation, manifest) in restore::generations(dir)? {
            sound &= verify_generation(&generation, &manifest, say, report);
        }
        return Ok(sound);
    }
    let found = folder::contents(dir)?;
    for path in &found.unfinished {
        say(format!(
            "{}: not finished, no backup; the next one removes it",
            path.display()
        ));
    }
    for generation in &found.generations {
        sound &= match Manifest::read(&generation.path) {
            Ok(manifest) => verify_generation(generation, &manifest, say, report),
            Err(error) => {
                say(error.to_string());
                false
            }
        };
    }
    if found.generations.is_empty() {
        say(format!("{} holds no backup", dir.display()));
        sound = false;
    }
    Ok(sound)
}

fn verify_generation(
    generation: &Generation,
    manifest: &Manifest,
    say: &mut dyn FnMut(String),
    report: &mut dyn FnMut(&Progress),
) -> bool {
    let progress = Progress::default();
    progress.bytes_total.store(manifest.bytes(), Relaxed);
    let mut wrong = 0;
    for file in &manifest.files {
        if let Err(error) = file.verify(&generation.path, &progress) {
            wrong += 1;
            say(error.to_string());
        }
        report(&progress);
    }
    let path = generation.path.display();
    let (files, bytes) = (manifest.files.len(), manifest.bytes());
    if wrong == 0 {
        say(format!(
            "{path}: sound, {files} files, {bytes} bytes; from {} to {}",
            manifest.oldest, manifest.newest
        ));
    } else {
        say(format!("{path}: {wrong} of {files} files are damaged"));
    }
    wrong == 0
}

/// True for what `verify` is for: a folder with backups in it, or one of them.
pub fn is_backup(dir: &Path) -> bool {
    folder::is_generation(dir)
        || folder::contents(dir)
            .is_ok_and(|found| !(found.generations.is_empty() && found.unfinished.is_empty()))
}
