//! `CONFIG REWRITE`: the present configuration into the file that it came from.
//!
//! What a person wrote stays: comments, blank lines, order, includes, directives that the table does not know, and
//! every line whose value still holds, byte for byte. A directive that has changed gets its new value in the place
//! of its old one; one that the file does not name is added at the end, unless it is at its default. The new file
//! takes the old one's place in one step, so that a crash leaves one or the other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Config;
use super::directives::{self, Directive, GROUPS};
use super::syntax::{quote, split_args};

const ADDED_BELOW: &str = "# Added by CONFIG REWRITE";

/// A file's lines for one directive, by their index.
type LinesOf = BTreeMap<&'static str, Vec<usize>>;

/// The text of a file that holds `config`, made out of the text that it held.
pub fn rewrite(old: &[u8], config: &Config) -> Vec<u8> {
    let mut lines: Vec<Option<Vec<u8>>> = split_lines(old).map(|line| Some(line.to_vec())).collect();
    let found = find_directives(&lines);
    let mut added = Vec::new();
    for row in GROUPS.iter().flat_map(|group| group.rows) {
        match found.get(row.name) {
            Some(places) => update(row, config, &mut lines, places),
            None if !at_default(row, config) => added.extend(rows_lines(row, config)),
            None => {}
        }
    }
    added.extend(update_users(config, &mut lines));
    if !added.is_empty() && !lines.iter().flatten().any(|line| line == ADDED_BELOW.as_bytes()) {
        lines.push(Some(ADDED_BELOW.into()));
    }
    lines.extend(added.into_iter().map(Some));
    let mut text = Vec::with_capacity(old.len());
    for line in lines.into_iter().flatten() {
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    text
}

/// Rewrites the file at `path`; if there is none, makes one. Its permissions stay.
pub fn rewrite_file(config: &Config, path: &Path) -> io::Result<()> {
    let old = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    replace_file(path, &rewrite(&old, config))
}

/// Puts `text` in the place of what the file at `path` holds, in one step.
pub fn replace_file(path: &Path, text: &[u8]) -> io::Result<()> {
    // A link stays a link: what it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(name);
    let written = replace(&temporary, &target, text);
    if written.is_err() {
        // The error that matters is the one that is returned.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn replace(temporary: &Path, target: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    if let Ok(old) = fs::metadata(target) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(temporary, target)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    // Without this the rename itself could be lost in a crash of the system.
    File::open(folder)?.sync_all()
}

fn split_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let count = if text.is_empty() { 0 } else { usize::MAX };
    text.split(|&byte| byte == b'\n').take(count)
}

fn args_of(line: &[u8]) -> Vec<Vec<u8>> {
    let line = line.trim_ascii();
    if line.first() == Some(&b'#') {
        return Vec::new();
    }
    split_args(line).unwrap_or_default()
}

fn find_directives(lines: &[Option<Vec<u8>>]) -> LinesOf {
    let mut found = LinesOf::new();
    for (index, line) in lines.iter().enumerate() {
        let args = args_of(line.as_deref().unwrap_or_default());
        if let Some((_, row)) = args.first().and_then(|name| directives::lookup(name)) {
            found.entry(row.name).or_default().push(index);
        }
    }
    found
}

fn update(row: &Directive, config: &Config, lines: &mut [Option<Vec<u8>>], places: &[usize]) {
    let old: Vec<Vec<u8>> = places.iter().filter_map(|&place| lines[place].clone()).collect();
    if still_holds(row, config, &old) {
        return;
    }
    put(rows_lines(row, config), lines, places);
}

/// Puts new lines where others were.
fn put(new: Vec<Vec<u8>>, lines: &mut [Option<Vec<u8>>], places: &[usize]) {
    let mut new = new.into_iter();
    for (index, &place) in places.iter().enumerate() {
        let is_last = index + 1 == places.len();
        // If there are more lines than before, they follow where the last one was.
        let text: Vec<Vec<u8>> = if is_last {
            new.by_ref().collect()
        } else {
            new.next().into_iter().collect()
        };
        lines[place] = (!text.is_empty()).then(|| text.join(&b'\n'));
    }
}

/// Puts the lines of the users where such lines are. Returns those for which there is no place.
fn update_users(config: &Config, lines: &mut [Option<Vec<u8>>]) -> Vec<Vec<u8>> {
    let is_user = |line: &Option<Vec<u8>>| {
        let args = args_of(line.as_deref().unwrap_or_default());
        args.first()
            .is_some_and(|name| name.eq_ignore_ascii_case(b"user"))
    };
    let places: Vec<usize> = (0..lines.len()).filter(|at| is_user(&lines[*at])).collect();
    let words = |at: &usize| args_of(lines[*at].as_deref().unwrap_or_default());
    let same = places
        .iter()
        .map(words)
        .map(|words| words[1..].to_vec())
        .eq(config.users.iter().cloned());
    let new = config.users.iter().map(|words| {
        let words = words.iter().map(|word| quote(word));
        std::iter::once("user".to_owned())
            .chain(words)
            .collect::<Vec<_>>()
            .join(" ")
            .into_bytes()
    });
    if same {
        return Vec::new();
    }
    if places.is_empty() {
        return new.collect();
    }
    put(new.collect(), lines, &places);
    Vec::new()
}

/// Whether a server that read these lines would have the present value.
fn still_holds(row: &Directive, config: &Config, lines: &[Vec<u8>]) -> bool {
    let mut read = Config::default();
    for (index, line) in lines.iter().enumerate() {
        let args = args_of(line);
        let values: Vec<&[u8]> = args.iter().skip(1).map(Vec::as_slice).collect();
        if row.set_from_line(&mut read, &values, index > 0).is_err() {
            return false;
        }
    }
    read.settle();
    row.get(&read) == row.get(config)
}

fn at_default(row: &Directive, config: &Config) -> bool {
    still_holds(row, config, &[])
}

fn rows_lines(row: &Directive, config: &Config) -> Vec<Vec<u8>> {
    let line = |args: Vec<Vec<u8>>| {
        let args = args.iter().map(|arg| quote(arg));
        std::iter::once(row.name.to_owned())
            .chain(args)
            .collect::<Vec<_>>()
            .join(" ")
            .into_bytes()
    };
    row.lines(config).into_iter().map(line).collect()
}
