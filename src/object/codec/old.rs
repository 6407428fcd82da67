//! The packed forms of servers before 7.0, read into packed lists: ziplist, and before 2.6 zipmap.
//!
//! ```text
//! ziplist:  bytes:u32 LE | offset of the last entry:u32 LE | entries:u16 LE (65535: not known) | entry … | 0xff
//! entry:    length of the entry before (u8, or 0xfe and u32 LE) | encoding | data
//!           00llllll bytes     01llllll llllllll bytes     10000000 length:u32 BE bytes
//!           11000000 i16 LE    11010000 i32 LE    11100000 i64 LE    11110000 i24 LE    11111110 i8
//!           1111vvvv (1 to 13)                    the integer v - 1
//!
//! zipmap:   pairs:u8 (254 and more: not known) | (length | field | length | unused:u8 | value | unused bytes) … | 0xff
//! length:   u8 below 254, or 0xfe and u32 LE
//! ```
//!
//! Guarantees: every length is checked against what is there, also the lengths backwards; damage gives its offset.

use crate::object::listpack::{Damaged, Listpack};

const END: u8 = 0xff;
const WIDE: u8 = 0xfe;
const ZIPLIST_HEADER: usize = 10;

/// Bytes with a place in them.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let found = self.bytes[self.at..].get(..len);
        let found = found.ok_or(Damaged { at: self.at })?;
        self.at += len;
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| Damaged { at })
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// One byte, or `WIDE` and four.
    fn len(&mut self) -> Result<usize, Damaged> {
        match self.byte()? {
            WIDE => self.array().map(|wide| u32::from_le_bytes(wide) as usize),
            END => Err(Damaged { at: self.at - 1 }),
            len => Ok(len as usize),
        }
    }

    fn at_end(&self) -> bool {
        self.bytes.get(self.at) == Some(&END)
    }

    /// Past the end mark, which has to be the last byte.
    fn end(&mut self) -> Result<(), Damaged> {
        match self.at + 1 == self.bytes.len() && self.at_end() {
            true => Ok(()),
            false => Err(Damaged { at: self.at }),
        }
    }
}

/// The elements of a ziplist.
pub(super) fn ziplist(bytes: &[u8]) -> Result<Listpack, Damaged> {
    let mut walk = Walk { bytes, at: 0 };
    if u32::from_le_bytes(walk.array()?) as usize != bytes.len() {
        return Err(Damaged { at: 0 });
    }
    let last = u32::from_le_bytes(walk.array()?) as usize;
    let noted = u16::from_le_bytes(walk.array()?);
    let mut list = Listpack::new();
    let (mut count, mut start, mut before) = (0usize, ZIPLIST_HEADER, 0);
    while !walk.at_end() {
        start = walk.at;
        if walk.len()? != before {
            return Err(Damaged { at: start });
        }
        ziplist_entry(&mut walk, &mut list)?;
        before = walk.at - start;
        count += 1;
    }
    walk.end()?;
    if last != start {
        return Err(Damaged { at: 4 });
    }
    if noted != u16::MAX && noted as usize != count {
        return Err(Damaged { at: 8 });
    }
    Ok(list)
}

/// Appends the entry whose encoding comes next.
fn ziplist_entry(walk: &mut Walk<'_>, list: &mut Listpack) -> Result<(), Damaged> {
    let at = walk.at;
    let encoding = walk.byte()?;
    let integer = match encoding {
        0xc0 => i16::from_le_bytes(walk.array()?) as i64,
        0xd0 => i32::from_le_bytes(walk.array()?) as i64,
        0xe0 => i64::from_le_bytes(walk.array()?),
        0xf0 => {
            let [low, middle, high] = walk.array()?;
            i32::from_le_bytes([0, low, middle, high]) as i64 >> 8
        }
        0xfe => i8::from_le_bytes(walk.array()?) as i64,
        0xf1..=0xfd => (encoding & 0x0f) as i64 - 1,
        _ => {
            let len = match encoding {
                0..=0x3f => encoding as usize,
                0x40..=0x7f => ((encoding & 0x3f) as usize) << 8 | walk.byte()? as usize,
                0x80 => u32::from_be_bytes(walk.array()?) as usize,
                _ => return Err(Damaged { at }),
            };
            list.push_back(walk.take(len)?);
            return Ok(());
        }
    };
    list.push_back_int(integer);
    Ok(())
}

/// The fields and values of a zipmap, in turn.
pub(super) fn zipmap(bytes: &[u8]) -> Result<Listpack, Damaged> {
    let mut walk = Walk { bytes, at: 0 };
    let noted = walk.byte()?;
    let mut list = Listpack::new();
    let mut count = 0usize;
    while !walk.at_end() {
        let len = walk.len()?;
        list.push_back(walk.take(len)?);
        let len = walk.len()?;
        let unused = walk.byte()?;
        list.push_back(walk.take(len)?);
        walk.take(unused as usize)?;
        count += 1;
    }
    walk.end()?;
    if noted < WIDE && noted as usize != count {
        return Err(Damaged { at: 0 });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn texts(list: &Listpack) -> Vec<String> {
        list.iter()
            .map(|item| String::from_utf8_lossy(&item.to_vec()).into_owned())
            .collect()
    }

    /// Every encoding of a ziplist's entries, as the published description of the format draws them.
    fn every_entry() -> Vec<u8> {
        let entries: [&[u8]; 10] = [
            b"\x02hi",
            b"\xc0\x00\xff",
            b"\xd0\x00\x00\x00\x80",
            b"\xe0\x00\x00\x00\x00\x00\x01\x00\x00",
            b"\xf0\x00\x00\x80",
            b"\xfe\x9c",
            b"\xf1",
            b"\xfd",
            b"\x40\x03abc",
            b"\x80\x00\x00\x00\x02xy",
        ];
        let (mut body, mut before, mut start) = (Vec::new(), 0, 0);
        for entry in entries {
            start = body.len();
            body.push(before as u8);
            body.extend_from_slice(entry);
            before = body.len() - start;
        }
        let mut bytes = ((ZIPLIST_HEADER + body.len() + 1) as u32).to_le_bytes().to_vec();
        bytes.extend(((ZIPLIST_HEADER + start) as u32).to_le_bytes());
        bytes.extend((entries.len() as u16).to_le_bytes());
        bytes.extend(body);
        bytes.push(END);
        bytes
    }

    #[test]
    fn every_entry_of_a_ziplist_is_read() {
        let expected = [
            "hi",
            "-256",
            "-2147483648",
            "1099511627776",
            "-8388608",
            "-100",
            "0",
            "12",
            "abc",
            "xy",
        ];
        assert_eq!(
            ziplist(&every_entry()).map(|list| texts(&list)),
            Ok(expected.map(String::from).to_vec())
        );
    }

    #[test]
    fn a_zipmap_is_read_with_its_gaps() {
        let bytes = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xff";
        assert_eq!(
            zipmap(bytes).map(|list| texts(&list)),
            Ok(["foo", "bar", "hello", "world"].map(String::from).to_vec())
        );
        assert_eq!(zipmap(b"\x03\xff"), Err(Damaged { at: 0 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damage_never_panics(hits in vec((any::<usize>(), any::<u8>()), 0..3), noise in vec(any::<u8>(), 0..40)) {
            let mut bytes = every_entry();
            for (at, byte) in hits {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = (ziplist(&bytes), zipmap(&bytes), ziplist(&noise), zipmap(&noise));
        }
    }
}
