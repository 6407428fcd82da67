//! One segment, read record by record: for those who copy or look through journals of any size. Recovery reads whole
//! segments (`segment::read`).

use super::record::{self, FormatError, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader};
use super::segment::ReadError;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

const BUFFER: usize = 256 << 10;

pub struct SegmentReader {
    path: PathBuf,
    file: BufReader<File>,
    header: SegmentHeader,
    /// Of the file, when it was opened: what is appended meanwhile is not read.
    len: u64,
    position: u64,
    record: Vec<u8>,
}

impl SegmentReader {
    pub fn open(path: &Path) -> Result<SegmentReader, ReadError> {
        let failed = |error| ReadError::Io(path.to_path_buf(), error);
        let file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::with_capacity(BUFFER, file);
        let mut header = Vec::new();
        file.by_ref()
            .take(SEGMENT_HEADER as u64)
            .read_to_end(&mut header)
            .map_err(failed)?;
        let header = SegmentHeader::decode(&header).map_err(|why| ReadError::Damaged {
            path: path.to_path_buf(),
            position: 0,
            why,
        })?;
        Ok(SegmentReader {
            path: path.to_path_buf(),
            file,
            header,
            len,
            position: SEGMENT_HEADER as u64,
            record: Vec::new(),
        })
    }

    pub fn header(&self) -> SegmentHeader {
        self.header
    }

    /// Reads on in what was appended since the file was opened. False when nothing was.
    pub fn see_more(&mut self) -> Result<bool, ReadError> {
        let metadata = self.file.get_ref().metadata();
        let metadata = metadata.map_err(|error| ReadError::Io(self.path.clone(), error))?;
        let before = std::mem::replace(&mut self.len, metadata.len());
        Ok(self.len > before)
    }

    /// Reads the next record; none at the end of the file.
    pub fn next_record(&mut self) -> Result<Option<RecordHeader>, ReadError> {
        let left = self.len.saturating_sub(self.position);
        if left == 0 {
            return Ok(None);
        }
        self.record.resize(RECORD_HEADER, 0);
        if left < RECORD_HEADER as u64 {
            return Err(self.damaged(FormatError::Short));
        }
        let failed = |error| ReadError::Io(self.path.clone(), error);
        self.file.read_exact(&mut self.record).map_err(failed)?;
        let length = record::payload_length(&self.record).map_err(|why| self.damaged(why))?;
        // Before any room is made for it: a damaged length may be anything.
        if length > left - RECORD_HEADER as u64 {
            return Err(self.damaged(FormatError::Short));
        }
        self.record.resize(RECORD_HEADER + length as usize, 0);
        self.file
            .read_exact(&mut self.record[RECORD_HEADER..])
            .map_err(failed)?;
        match record::decode_record(&self.record) {
            Ok((header, _)) => {
                self.position += self.record.len() as u64;
                Ok(Some(header))
            }
            Err(why) => Err(self.damaged(why)),
        }
    }

    /// The record read last, as it is in the file.
    pub fn bytes(&self) -> &[u8] {
        &self.record
    }

    fn damaged(&self, why: FormatError) -> ReadError {
        ReadError::Damaged {
            path: self.path.clone(),
            position: self.position,
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::segment;
    use std::fs;

    #[test]
    fn records_come_in_order_and_damage_is_named_with_its_place() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut records = Vec::new();
        for (offset, payload) in [(5, "first"), (10, "second")] {
            record::encode_record(&mut records, offset, 7, (payload.as_bytes(), b""));
        }
        segment::create(dir.path(), 5, 1, &[&records]).expect("segment");
        let path = &segment::list(dir.path()).expect("list")[0].path;
        let read = || -> Result<Vec<(u64, usize)>, ReadError> {
            let mut reader = SegmentReader::open(path)?;
            let mut seen = Vec::new();
            while let Some(header) = reader.next_record()? {
                seen.push((header.offset, reader.bytes().len()));
            }
            Ok(seen)
        };
        assert_eq!(read().expect("sound"), [(5, 37), (10, 38)]);
        let sound = fs::read(path).expect("read");
        for at in [32, 40, 70, 75] {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x80;
            fs::write(path, bytes).expect("write");
            let place = if at < 69 { "at byte 32" } else { "at byte 69" };
            let error = read().expect_err("damaged").to_string();
            assert!(error.contains(place), "{at}: {error}");
        }
        fs::write(path, &sound[..sound.len() - 1]).expect("write");
        assert!(read().is_err());
        fs::write(path, &sound[..20]).expect("write");
        assert!(read().expect_err("short").to_string().contains("at byte 0"));
    }
}
