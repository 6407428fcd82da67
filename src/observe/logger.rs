//! The log: one line per event, to standard output or a file.
//!
//! A file that was moved away or removed, as tools that rotate logs do, is begun anew under its name with the next line.

use crate::config::LogLevel;
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

struct Logger {
    file: Option<Mutex<LogFile>>,
}

struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and inode of the file: what stands under the name may be another one by now.
    identity: (u64, u64),
}

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let found = file.metadata()?;
        Ok(LogFile {
            path: path.into(),
            file,
            identity: (found.dev(), found.ino()),
        })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let is_it = |found: std::fs::Metadata| (found.dev(), found.ino()) == self.identity;
        if !std::fs::metadata(&self.path).is_ok_and(is_it)
            && let Ok(anew) = LogFile::open(&self.path)
        {
            *self = anew;
        }
        self.file.write_all(line.as_bytes())
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Redis's marks: `.` debug, `-` verbose, `*` notice, `#` warning.
        let mark = match record.level() {
            Level::Error | Level::Warn => '#',
            Level::Info => '*',
            Level::Debug => '-',
            Level::Trace => '.',
        };
        let line = format!(
            "{}:M {} {mark} {}\n",
            std::process::id(),
            timestamp(),
            record.args()
        );
        // A log that cannot be written must not stop the server.
        let _ = match &self.file {
            Some(file) => file.lock().write(&line),
            None => io::stdout().lock().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

/// Starts logging to `file`, or to standard output when it is empty.
pub fn start(file: &Path, level: LogLevel) -> io::Result<()> {
    let file = if file.as_os_str().is_empty() {
        None
    } else {
        Some(Mutex::new(LogFile::open(file)?))
    };
    set_level(level);
    log::set_boxed_logger(Box::new(Logger { file })).map_err(io::Error::other)
}

/// Changes how much is logged.
pub fn set_level(level: LogLevel) {
    log::set_max_level(filter(level));
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::Trace,
        LogLevel::Verbose => LevelFilter::Debug,
        LogLevel::Notice => LevelFilter::Info,
        LogLevel::Warning => LevelFilter::Warn,
    }
}

/// UTC, as `21 Nov 2026 03:04:05.678`.
fn timestamp() -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let ms = crate::server::unix_ms();
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (seconds, ms) = (in_day / 1_000, in_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!(
        "{day:02} {} {year} {hour:02}:{minute:02}:{second:02}.{ms:03}",
        MONTHS[month - 1]
    )
}

/// Year, month (1 to 12) and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn civil(days: i64) -> (i64, usize, i64) {
    // Years are taken to begin in March, so that the leap day is the last of its year.
    let from_march = days + 719_468;
    let era = from_march.div_euclid(146_097);
    let day_of_era = from_march.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (
        year_of_era + era * 400 + i64::from(month <= 2),
        month as usize,
        day,
    )
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(-1), (1969, 12, 31));
    }
}
