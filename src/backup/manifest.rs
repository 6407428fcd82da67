//! `manifest.json`: what a generation says of itself.
//!
//! JSON, one object. `checksum` is the CRC32C of the object's own bytes with 0 in its place, in the form in which it is
//! written here; so a changed digit anywhere is seen.

use super::pieces::{self, PIECE, Progress, Sums};
use super::{BackupError, on};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub const NAME: &str = "manifest.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Manifest {
    pub version: u32,
    pub checksum: u32,
    /// The version of the server that made it.
    pub server: String,
    /// Unix milliseconds, here and below.
    pub began_ms: u64,
    /// The store holds every effect up to this journal offset.
    pub mark: u64,
    /// The earliest and the latest state that can be made of this generation alone.
    pub oldest: Moment,
    pub newest: Moment,
    /// In the words of the configuration file, for who has lost it.
    pub ranges: Vec<String>,
    pub files: Vec<FileEntry>,
}

/// A state of the data: behind every effect below an offset, which was the state at a time.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub offset: u64,
    pub unix_ms: u64,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct FileEntry {
    /// Below the generation's folder, with `/`.
    pub path: String,
    pub length: u64,
    /// CRC32C of the whole, and of each megabyte.
    pub checksum: u32,
    pub pieces: Vec<u32>,
    pub source: Source,
}

/// The file that it was made from: a later backup that meets the same one need not read it again.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub device: u64,
    pub inode: u64,
    pub modified_ns: i64,
    pub length: u64,
}

impl Source {
    pub fn of(path: &Path) -> Result<Source, BackupError> {
        let found = fs::metadata(path).map_err(on(path))?;
        Ok(Source {
            device: found.dev(),
            inode: found.ino(),
            modified_ns: found.mtime() * 1_000_000_000 + found.mtime_nsec(),
            length: found.len(),
        })
    }
}

impl FileEntry {
    pub fn new(path: String, sums: Sums, source: Source) -> FileEntry {
        FileEntry {
            path,
            length: sums.length,
            checksum: sums.checksum,
            pieces: sums.pieces,
            source,
        }
    }

    pub fn equals(&self, sums: &Sums) -> bool {
        (self.length, self.checksum) == (sums.length, sums.checksum) && self.pieces == sums.pieces
    }

    pub fn sums(&self) -> Sums {
        Sums {
            length: self.length,
            checksum: self.checksum,
            pieces: self.pieces.clone(),
        }
    }

    /// Holds the sums of the file at `path` against what they should be.
    pub fn check(&self, path: &Path, found: &Sums) -> Result<(), BackupError> {
        if self.equals(found) {
            return Ok(());
        }
        let same = self.pieces.iter().zip(&found.pieces).take_while(|(a, b)| a == b);
        let from = (same.count() * PIECE) as u64;
        let (to, why) = if found.length < self.length {
            (self.length, "the file is cut short")
        } else if found.length > self.length {
            (found.length, "the file is longer than it was")
        } else {
            ((from + PIECE as u64).min(self.length), "checksum does not match")
        };
        let path = path.to_path_buf();
        Err(BackupError::Damaged { path, from, to, why })
    }

    /// Reads the file below a generation's folder and checks it.
    pub fn verify(&self, generation: &Path, progress: &Progress) -> Result<(), BackupError> {
        let path = self.below(generation);
        self.check(&path, &pieces::sum(&path, progress)?)
    }

    pub fn below(&self, folder: &Path) -> PathBuf {
        folder.join(&self.path)
    }
}

impl Manifest {
    pub fn new(server: &str, began_ms: u64, mark: u64, moments: (Moment, Moment)) -> Manifest {
        Manifest {
            version: VERSION,
            checksum: 0,
            server: server.to_string(),
            began_ms,
            mark,
            oldest: moments.0,
            newest: moments.1,
            ranges: Vec::new(),
            files: Vec::new(),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut unsigned = self.clone();
        unsigned.checksum = 0;
        unsigned.checksum = crc32c::crc32c(&serde_json::to_vec(&unsigned)?);
        serde_json::to_vec(&unsigned)
    }

    /// Writes it into a generation's folder, and syncs it.
    pub fn write(&self, generation: &Path) -> Result<(), BackupError> {
        let path = generation.join(NAME);
        let bytes = self
            .encode()
            .map_err(|error| BackupError::Manifest(path.clone(), error.to_string()))?;
        File::create_new(&path)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            })
            .map_err(on(&path))
    }

    /// Reads that of a generation's folder.
    pub fn read(generation: &Path) -> Result<Manifest, BackupError> {
        let path = generation.join(NAME);
        let bytes = fs::read(&path).map_err(on(&path))?;
        Manifest::decode(&bytes).map_err(|why| BackupError::Manifest(path, why))
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version.version != VERSION {
            let found = version.version;
            return Err(format!(
                "backup format {found} is not this program's, which is {VERSION}"
            ));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match manifest.encode() {
            Ok(again) if again == bytes => Ok(manifest),
            Ok(_) => Err("its checksum does not match".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let moment = |offset| Moment { offset, unix_ms: 9 };
        let mut manifest = Manifest::new("0.1.0", 1, 2, (moment(3), moment(4)));
        manifest.ranges.push("range default * durable".into());
        let sums = Sums {
            length: 5,
            checksum: 6,
            pieces: vec![6],
        };
        let entry = FileEntry::new("store/CURRENT".into(), sums, Source::default());
        manifest.files.push(entry);
        manifest
    }

    #[test]
    fn a_manifest_written_by_format_1_reads_back() {
        let written = br#"{"version":1,"checksum":CRC,"server":"0.1.0","began_ms":1,"mark":2,"oldest":{"offset":3,"unix_ms":9},"newest":{"offset":4,"unix_ms":9},"ranges":["range default * durable"],"files":[{"path":"store/CURRENT","length":5,"checksum":6,"pieces":[6],"source":{"device":0,"inode":0,"modified_ns":0,"length":0}}]}"#;
        let text = String::from_utf8_lossy(written);
        let checksum = crc32c::crc32c(text.replace("CRC", "0").as_bytes());
        let text = text.replace("CRC", &checksum.to_string());
        let read = Manifest::decode(text.as_bytes()).expect("sound");
        assert_eq!(read.files, manifest().files);
        assert_eq!(manifest().encode().expect("encoded"), text.as_bytes());
    }

    #[test]
    fn every_flipped_bit_of_a_manifest_is_seen() {
        let mut bytes = manifest().encode().expect("encoded");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(Manifest::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
