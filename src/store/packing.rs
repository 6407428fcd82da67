//! Packing the value of a row, where its range asks for it and it is worth it.
//!
//! Why rows and not blocks: a store has one column family for all ranges, and RocksDB packs whole blocks of it one way,
//! compaction included; a row says for itself how it is packed, so a range's choice holds for its rows wherever they
//! end up, may change at any time (rows written before stay readable), and holds in a plain table too, which has no
//! packed blocks. It also leaves more rows in the block cache, and a read unpacks the one value that it wants. Blocks
//! of the block store are packed with LZ4 besides, which is what makes many small values smaller together.
//!
//! Guarantees: what is packed reads back as it was; a packed value is at least an eighth smaller, else it is left alone.

use super::rows::RowError;
use crate::config::Compression;
use std::cell::RefCell;
use zstd_safe::{CCtx, DCtx};

/// Shorter values are not worth the work.
const LEN_MIN: usize = 64;
/// The quickest level that is no negative one.
const ZSTD_LEVEL: i32 = 1;

/// Packs values one after the other, with memory that it keeps.
#[derive(Default)]
pub struct Packer {
    zstd: Option<CCtx<'static>>,
    packed: Vec<u8>,
}

impl Packer {
    /// The packed form of `bytes`; none if they had better stay as they are.
    pub fn pack(&mut self, how: Compression, bytes: &[u8]) -> Option<&[u8]> {
        if bytes.len() < LEN_MIN || u32::try_from(bytes.len()).is_err() {
            return None;
        }
        let len = match how {
            Compression::None => return None,
            Compression::Lz4 => {
                self.packed
                    .resize(lz4_flex::block::get_maximum_output_size(bytes.len()), 0);
                lz4_flex::block::compress_into(bytes, &mut self.packed).ok()?
            }
            Compression::Zstd => {
                self.packed.resize(zstd_safe::compress_bound(bytes.len()), 0);
                let zstd = self.zstd.get_or_insert_with(CCtx::create);
                zstd.compress(&mut self.packed[..], bytes, ZSTD_LEVEL).ok()?
            }
        };
        (len <= bytes.len() / 8 * 7).then_some(&self.packed[..len])
    }
}

thread_local! {
    static UNPACKER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Appends what was packed to `out`; `len` bytes, as the row says.
pub fn unpack(how: Compression, packed: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), RowError> {
    // No packed value says more than so many times its bytes: what claims to is damaged, and must not take memory.
    let most = match how {
        Compression::Zstd => 1 << 15,
        _ => 1 << 8,
    };
    if len / most > packed.len() {
        return Err(RowError::Packed);
    }
    let start = out.len();
    out.resize(start + len, 0);
    let space = &mut out[start..];
    let unpacked = match how {
        Compression::None => None,
        Compression::Lz4 => lz4_flex::block::decompress_into(packed, space).ok(),
        Compression::Zstd => UNPACKER
            .with_borrow_mut(|zstd| zstd.decompress(space, packed))
            .ok(),
    };
    match unpacked {
        Some(found) if found == len => Ok(()),
        _ => Err(RowError::Packed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_reads_back_and_damage_is_an_error() {
        let text: Vec<u8> = (0..5_000u32)
            .flat_map(|i| format!("line {} ", i % 97).into_bytes())
            .collect();
        for how in [Compression::Lz4, Compression::Zstd] {
            let mut packer = Packer::default();
            for len in [64, 1_000, text.len(), 700] {
                let packed = packer.pack(how, &text[..len]).expect("worth it").to_vec();
                assert!(packed.len() < len);
                let mut out = b"before".to_vec();
                unpack(how, &packed, len, &mut out).expect("unpacks");
                assert_eq!((&out[..6], &out[6..]), (&b"before"[..], &text[..len]));
                assert_eq!(unpack(how, &packed, len + 1, &mut out), Err(RowError::Packed));
                assert_eq!(
                    unpack(how, &packed[..packed.len() - 1], len, &mut out),
                    Err(RowError::Packed)
                );
            }
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_left_alone() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(4_096).collect();
        let mut packer = Packer::default();
        for how in [Compression::None, Compression::Lz4, Compression::Zstd] {
            assert!(packer.pack(how, &noise).is_none());
            assert!(packer.pack(how, &[b'a'; 63]).is_none());
        }
    }
}
