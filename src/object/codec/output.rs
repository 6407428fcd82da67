//! Writing the primitives of the format, as drawn at the head of `input`.

use super::input::{INT8, INT16, INT32, LZF};
use super::{Form, lzf};
use crate::resp::number::parse_i64;

/// Strings up to this length are not worth packing.
pub(super) const PACK_ABOVE: usize = 20;
/// What packing has to save, at least.
const PACK_SAVES: usize = 4;
/// The longest text of an integer that has an encoding of its own.
const INTEGER_LEN_MAX: usize = 11;

/// Bytes that are appended to, in a form.
pub(super) struct Output<'a> {
    pub bytes: &'a mut Vec<u8>,
    pub form: Form,
}

impl Output<'_> {
    pub(super) fn number(&mut self, number: u64) {
        push_number(self.bytes, number);
    }

    pub(super) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// A string, as an integer where it is one, packed where that pays and the form says so.
    pub(super) fn string(&mut self, text: &[u8]) {
        if text.len() <= INTEGER_LEN_MAX
            && let Some(value) = parse_i64(text)
            && self.integer(value)
        {
            return;
        }
        if self.form.compress && text.len() > PACK_ABOVE && self.packed(text) {
            return;
        }
        self.raw(text);
    }

    /// A string as it stands.
    pub(super) fn raw(&mut self, text: &[u8]) {
        self.count(text.len());
        self.bytes.extend_from_slice(text);
    }

    /// The text of an integer in its own encoding; false if it is too large for one.
    fn integer(&mut self, value: i64) -> bool {
        let (encoding, len) = match value {
            -0x80..=0x7f => (INT8, 1),
            -0x8000..=0x7fff => (INT16, 2),
            -0x8000_0000..=0x7fff_ffff => (INT32, 4),
            _ => return false,
        };
        self.bytes.push(0xc0 | encoding);
        self.bytes.extend_from_slice(&value.to_le_bytes()[..len]);
        true
    }

    fn packed(&mut self, text: &[u8]) -> bool {
        // The length of what is packed comes first, and is known last.
        let mut packed = Vec::with_capacity(text.len());
        if !lzf::pack(text, text.len() - PACK_SAVES, &mut packed) {
            return false;
        }
        self.bytes.push(0xc0 | LZF);
        self.count(packed.len());
        self.count(text.len());
        self.bytes.extend_from_slice(&packed);
        true
    }

    pub(super) fn time(&mut self, ms: i64) {
        self.bytes.extend_from_slice(&ms.to_le_bytes());
    }

    pub(super) fn score(&mut self, score: f64) {
        self.bytes.extend_from_slice(&score.to_le_bytes());
    }
}

pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..0x40 => out.push(number as u8),
        0x40..0x4000 => out.extend_from_slice(&(0x4000 | number as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}
