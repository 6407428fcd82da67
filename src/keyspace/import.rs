//! Keys from an RDB file into the keyspace, as if commands had set them.

use super::evict::Room;
use super::{Call, Effects, Elements, Expiry, Keyspace, StoreError};
use crate::object::codec::file::{FileReader, KeyValue, Part};
use crate::object::codec::{CodecError, Problem};
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two reports on the way.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// Keys between two looks at limits and time.
const STEP: u64 = 256;
/// Dirty bytes above which an import waits for the store.
const DIRTY_MAX: i64 = 512 << 20;

/// Why a file could not be taken in.
#[derive(Debug)]
pub enum ImportError {
    Io(std::io::Error),
    /// The file is damaged, or holds what this server cannot keep.
    File(CodecError),
    Store(StoreError),
    /// The keys do not fit the memory that there may be.
    Full,
    /// The functions could not be taken in, after the keys were.
    Libraries(String),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Io(error) => write!(f, "{error}"),
            ImportError::File(error) => write!(f, "{error}"),
            ImportError::Store(error) => write!(f, "{error}"),
            ImportError::Libraries(error) => write!(f, "the keys are there, the functions are not: {error}"),
            ImportError::Full => write!(f, "the memory limit is reached"),
        }
    }
}

impl std::error::Error for ImportError {}

/// What a file brought.
#[derive(Debug, Default, Clone)]
pub struct Imported {
    pub keys: u64,
    /// Keys whose time had passed.
    pub expired: u64,
    /// The texts of libraries of functions, for the caller to take in.
    pub libraries: Vec<Vec<u8>>,
}

/// How far an import is: what it does, bytes read, bytes in all, keys seen.
pub type Report<'a> = &'a mut dyn FnMut(&str, u64, u64, u64);

impl Keyspace {
    /// Reads the file twice: the first time to see that all of it can be read, so that a damaged file changes nothing.
    /// Keys that exist are replaced.
    pub fn import(
        &self,
        path: &Path,
        databases: u64,
        now_ms: i64,
        report: Report<'_>,
    ) -> Result<Imported, ImportError> {
        let mut check = Walk::open(path, "checking", databases)?;
        while check.next(self, report)?.is_some() {}
        let mut walk = Walk::open(path, "importing", databases)?;
        let (mut imported, mut effects) = (Imported::default(), Effects::default());
        while let Some(part) = walk.next(self, report)? {
            match part {
                Part::Key(key) => {
                    self.import_key(key, now_ms, &mut imported, &mut effects)?;
                    if imported.keys.is_multiple_of(STEP) {
                        self.keep_limits(now_ms)?;
                    }
                }
                Part::Library(source) => imported.libraries.push(source),
                Part::EmptyKey | Part::Fact(..) => {}
            }
        }
        Ok(imported)
    }

    fn import_key(
        &self,
        from: KeyValue,
        now_ms: i64,
        imported: &mut Imported,
        effects: &mut Effects,
    ) -> Result<(), ImportError> {
        if from.expiry.is_some_and(|at| at <= now_ms) {
            imported.expired += 1;
            return Ok(());
        }
        let call = Call {
            db: from.db as u8,
            now_ms,
            keys: &[&from.key],
            received: &[],
            elements: Elements::None,
            replay: None,
        };
        let mut tx = self.begin(call, effects).map_err(ImportError::Store)?;
        tx.put_value(
            &from.key,
            from.value,
            from.expiry.map_or(Expiry::Clear, Expiry::At),
        );
        if from.idle_seconds.is_some() || from.frequency.is_some() {
            let idle = from
                .idle_seconds
                .map(|idle| u32::try_from(idle).unwrap_or(u32::MAX));
            tx.set_access(&from.key, idle, from.frequency);
        }
        tx.commit();
        imported.keys += 1;
        Ok(())
    }

    /// What a client's write waits for.
    fn keep_limits(&self, now_ms: i64) -> Result<(), ImportError> {
        if self.flush.dirty_bytes() > DIRTY_MAX {
            self.flush_now().map_err(ImportError::Store)?;
        }
        while self.is_over_limit() {
            match self.make_room(now_ms) {
                Room::Enough => break,
                Room::Full => return Err(ImportError::Full),
                Room::WaitForFlush => self.flush_now().map_err(ImportError::Store)?,
            }
        }
        Ok(())
    }
}

/// A file that is read part by part, with a report now and then.
struct Walk<'a> {
    reader: FileReader<File>,
    doing: &'a str,
    len: u64,
    databases: u64,
    parts: u64,
    reported: Instant,
}

impl<'a> Walk<'a> {
    fn open(path: &Path, doing: &'a str, databases: u64) -> Result<Walk<'a>, ImportError> {
        let file = File::open(path).map_err(ImportError::Io)?;
        let len = file.metadata().map_err(ImportError::Io)?.len();
        Ok(Walk {
            reader: FileReader::new(file, len).map_err(ImportError::File)?,
            doing,
            len,
            databases,
            parts: 0,
            reported: Instant::now(),
        })
    }

    fn next(&mut self, keyspace: &Keyspace, report: Report<'_>) -> Result<Option<Part>, ImportError> {
        let part = self
            .reader
            .next_part(&keyspace.object_limits())
            .map_err(ImportError::File)?;
        if let Some(Part::Key(key)) = &part
            && key.db >= self.databases
        {
            return Err(ImportError::File(CodecError {
                at: self.reader.at(),
                problem: Problem::Database(key.db),
            }));
        }
        self.parts += 1;
        if self.parts.is_multiple_of(STEP) && self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            report(self.doing, self.reader.at(), self.len, self.parts);
        }
        Ok(part)
    }
}
