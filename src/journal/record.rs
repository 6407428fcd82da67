//! The journal's bytes on disk: segment headers and records.
//!
//! A segment is a file `journal-<offset>.log` named by the offset of its first record:
//!
//! ```text
//! segment:  "TRCJRNL" version:u8 | first offset:u64 | created, unix ms:u64 | crc32c of the 24 bytes:u32 | 4 zero bytes
//! record:   length:u32 | crc32c:u32 | offset:u64 | unix ms:u64 | length's upper half:u32 | 4 zero bytes | payload
//! ```
//!
//! All numbers are little-endian. The record's CRC covers everything behind it. Payloads are RESP effects; offsets
//! count payload bytes alone, so a record's offset plus its length is the next record's offset, unless records in
//! between were for memory only, in which case it is higher.

use std::fmt;

pub const VERSION: u8 = 1;
pub const SEGMENT_HEADER: usize = 32;
pub const RECORD_HEADER: usize = 32;
const MAGIC: &[u8; 7] = b"TRCJRNL";

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct SegmentHeader {
    pub first_offset: u64,
    pub created_ms: u64,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct RecordHeader {
    /// Bytes of the payload.
    pub length: u64,
    pub offset: u64,
    pub unix_ms: u64,
}

impl RecordHeader {
    /// The offset behind the record.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// Why bytes are not a segment header or a record.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum FormatError {
    /// The bytes end before the header or payload does.
    Short,
    BadMagic,
    Version(u8),
    BadCrc,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Short => write!(f, "the file ends in the middle of a record"),
            FormatError::BadMagic => write!(f, "not a journal segment"),
            FormatError::Version(version) => write!(
                f,
                "journal format {version} is newer than this server's {VERSION}"
            ),
            FormatError::BadCrc => write!(f, "checksum does not match"),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..7].copy_from_slice(MAGIC);
        bytes[7] = VERSION;
        bytes[8..16].copy_from_slice(&self.first_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Whether the checksum matches, whatever version it is of.
    pub fn is_whole(header: &[u8]) -> bool {
        header.len() == SEGMENT_HEADER && u32_at(header, 24) == Some(crc32c::crc32c(&header[..24]))
    }

    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, FormatError> {
        let header = bytes.get(..SEGMENT_HEADER).ok_or(FormatError::Short)?;
        if &header[..7] != MAGIC {
            return Err(FormatError::BadMagic);
        }
        if header[7] != VERSION {
            return Err(FormatError::Version(header[7]));
        }
        if !SegmentHeader::is_whole(header) {
            return Err(FormatError::BadCrc);
        }
        let field = |at| u64_at(header, at).ok_or(FormatError::Short);
        Ok(SegmentHeader {
            first_offset: field(8)?,
            created_ms: field(16)?,
        })
    }
}

/// Appends a record of `payload`, given in up to two parts, to `out`.
pub fn encode_record(out: &mut Vec<u8>, offset: u64, unix_ms: u64, payload: (&[u8], &[u8])) {
    let start = out.len();
    let length = ((payload.0.len() + payload.1.len()) as u64).to_le_bytes();
    out.extend_from_slice(&length[..4]);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&unix_ms.to_le_bytes());
    out.extend_from_slice(&length[4..]);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload.0);
    out.extend_from_slice(payload.1);
    let crc = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Bytes of the payload of the record whose header is at the start of `bytes`.
pub fn payload_length(bytes: &[u8]) -> Result<u64, FormatError> {
    let half = |at| u32_at(bytes, at).map(u64::from).ok_or(FormatError::Short);
    Ok(half(0)? | half(24)? << 32)
}

/// Reads the record at the start of `bytes`: its header and payload.
pub fn decode_record(bytes: &[u8]) -> Result<(RecordHeader, &[u8]), FormatError> {
    let field = |at| u64_at(bytes, at).ok_or(FormatError::Short);
    let length = payload_length(bytes)?;
    let crc = u32_at(bytes, 4).ok_or(FormatError::Short)?;
    let header = RecordHeader {
        length,
        offset: field(8)?,
        unix_ms: field(16)?,
    };
    // What is damaged may say any length.
    let end = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_add(RECORD_HEADER))
        .ok_or(FormatError::Short)?;
    let checked = bytes.get(8..end).ok_or(FormatError::Short)?;
    if length == 0 || crc32c::crc32c(checked) != crc {
        return Err(FormatError::BadCrc);
    }
    Ok((header, &bytes[RECORD_HEADER..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_every_flipped_bit_is_seen() {
        let mut bytes = Vec::new();
        encode_record(
            &mut bytes,
            77,
            1_700_000_000_000,
            (b"*1\r\n$8\r\n", b"FLUSHALL\r\n"),
        );
        let (header, payload) = decode_record(&bytes).expect("whole record");
        assert_eq!((header.offset, header.end(), payload.len()), (77, 77 + 18, 18));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_record(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            assert_eq!(decode_record(&bytes[..len]), Err(FormatError::Short));
        }
    }

    #[test]
    fn a_length_may_take_more_than_32_bits() {
        let mut header = [0; RECORD_HEADER];
        header[..4].copy_from_slice(&7u32.to_le_bytes());
        header[24..28].copy_from_slice(&1u32.to_le_bytes());
        assert_eq!(payload_length(&header), Ok((1 << 32) + 7));
        header[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
        header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode_record(&header), Err(FormatError::Short));
    }

    #[test]
    fn a_segment_header_written_by_format_1_reads_back() {
        let written: [u8; SEGMENT_HEADER] =
            *b"TRCJRNL\x01\x05\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\xc9\xd0\x1d\x25\0\0\0\0";
        let header = SegmentHeader {
            first_offset: 5,
            created_ms: 7,
        };
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        assert_eq!(written[..24], header.encode()[..24]);
    }
}
