//! RDB files: whole keyspaces.
//!
//! ```text
//! file:   "REDIS" | version: 4 digits | part … | 255 | CRC-64 of all before:u64 LE (0: not computed; from version 5)
//! part:   250 | name | value                        a fact beside the keys
//!         254 | database                            of the keys that follow
//!         251 | keys | keys that expire             of that database, roughly
//!         244 | slot | keys | keys that expire      of a slot of a cluster
//!         245 | library                             functions, as source
//!         247 | module | 2 | when | value … | 0     a module's: 1, 2 number; 3 f32; 4 f64; 5 string
//!         [253 | unix s:i32 LE, or 252 | unix ms:i64 LE] [248 | idle seconds] [249 | frequency:u8] key
//! key:    type:u8 | key | value
//! ```
//!
//! Guarantees: a file is read in pieces of `PIECE` bytes and single values; damage gives an error with its offset, and
//! a checksum that is wrong is one.

use super::error::{CodecError, Problem};
use super::input::Input;
use super::output::{Output, PACK_ABOVE};
use super::payload::CRC;
use super::read::read_value;
use super::{Form, Value, ValueRef, stream, type_of, types, write, write_body};
use crate::object::paged;
use crate::object::pages::Kind;
use crate::object::sorted_set;
use crate::object::{Limits, Stream};
use crc::{Digest, Table};
use std::io::{self, Read, Write};

const MAGIC: &[u8; 5] = b"REDIS";
const SLOT: u8 = 244;
pub(super) const LIBRARY: u8 = 245;
const MODULE_FACT: u8 = 247;
const IDLE: u8 = 248;
const FREQUENCY: u8 = 249;
const FACT: u8 = 250;
const SIZES: u8 = 251;
const EXPIRY_MS: u8 = 252;
const EXPIRY_S: u8 = 253;
const DATABASE: u8 = 254;
const END: u8 = 255;

/// Bytes that are read and written at a time.
const PIECE: usize = 1 << 16;
/// The first version that ends in a checksum.
const CHECKSUM_SINCE: u32 = 5;

type Sum = Digest<'static, u64, Table<16>>;

/// A key with what a file says of it.
pub struct KeyValue {
    pub db: u64,
    pub key: Vec<u8>,
    pub value: Value,
    /// Unix milliseconds.
    pub expiry: Option<i64>,
    pub idle_seconds: Option<u64>,
    pub frequency: Option<u8>,
}

/// A part of a file that means something to who reads it.
pub enum Part {
    Key(KeyValue),
    /// A key of a collection without elements: it is no key.
    EmptyKey,
    /// Name and value of a fact beside the keys: which server wrote the file, when.
    Fact(Vec<u8>, Vec<u8>),
    /// The source of a library of functions.
    Library(Vec<u8>),
}

/// A file, or anything else that reads, with the sum of what was read.
struct Pieces<R> {
    from: R,
    piece: Vec<u8>,
    /// The next byte in the piece.
    at: usize,
    /// The first byte in the piece that is not in the sum.
    unsummed: usize,
    sum: Sum,
    /// Bytes of the whole, and of those before the piece.
    total: u64,
    before: u64,
}

impl<R: Read> Pieces<R> {
    fn sum_up(&mut self) {
        self.sum.update(&self.piece[self.unsummed..self.at]);
        self.unsummed = self.at;
    }

    /// Sees to it that `len` bytes are in the piece.
    fn fill(&mut self, len: usize) -> Result<(), CodecError> {
        self.sum_up();
        self.before += self.at as u64;
        self.piece.drain(..self.at);
        (self.at, self.unsummed) = (0, 0);
        if self.piece.is_empty() && self.piece.capacity() > 4 * PIECE {
            self.piece = Vec::new();
        }
        let more = len.max(PIECE) - self.piece.len().min(len.max(PIECE));
        let read = self.from.by_ref().take(more as u64).read_to_end(&mut self.piece);
        match read {
            Err(error) => self.fail(Problem::Io(error.kind())),
            Ok(_) if self.piece.len() < len => self.fail(Problem::Short),
            Ok(_) => Ok(()),
        }
    }
}

impl<R: Read> Input for Pieces<R> {
    fn at(&self) -> u64 {
        self.before + self.at as u64
    }

    fn left(&self) -> u64 {
        self.total.saturating_sub(self.at())
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&[u8], CodecError> {
        if self.piece.len() - self.at < len {
            self.fill(len)?;
        }
        let from = self.at;
        self.at += len;
        Ok(&self.piece[from..self.at])
    }
}

/// Reads a file part by part.
pub struct FileReader<R> {
    input: Pieces<R>,
    version: u32,
    db: u64,
}

impl<R: Read> FileReader<R> {
    /// `len` is the length of the whole file in bytes.
    pub fn new(from: R, len: u64) -> Result<FileReader<R>, CodecError> {
        let mut input = Pieces {
            from,
            piece: Vec::new(),
            at: 0,
            unsummed: 0,
            sum: CRC.digest(),
            total: len,
            before: 0,
        };
        let (magic, digits) = (input.array()?, input.array::<4>()?);
        let version = std::str::from_utf8(&digits)
            .ok()
            .and_then(|digits| digits.parse().ok());
        let (MAGIC, Some(version)) = (&magic, version) else {
            return Err(CodecError::new(0, Problem::Magic));
        };
        if version == 0 || version > super::VERSION_MAX.into() {
            return Err(CodecError::new(MAGIC.len() as u64, Problem::Version(version)));
        }
        Ok(FileReader {
            input,
            version,
            db: 0,
        })
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bytes read so far.
    pub fn at(&self) -> u64 {
        self.input.at()
    }

    /// The next part; none at the end, where the checksum has been found right.
    pub fn next_part(&mut self, limits: &Limits) -> Result<Option<Part>, CodecError> {
        let (mut expiry, mut idle_seconds, mut frequency) = (None, None, None);
        loop {
            let kind = self.input.byte()?;
            match kind {
                EXPIRY_MS => expiry = Some(self.input.time()?),
                EXPIRY_S => expiry = Some(i64::from(i32::from_le_bytes(self.input.array()?)) * 1000),
                IDLE => idle_seconds = Some(self.input.number()?),
                FREQUENCY => frequency = Some(self.input.byte()?),
                DATABASE => self.db = self.input.number()?,
                SIZES => self.skip_numbers(2)?,
                SLOT => self.skip_numbers(3)?,
                MODULE_FACT => self.skip_module()?,
                FACT => {
                    let (mut name, mut value) = (Vec::new(), Vec::new());
                    self.input.string_into(&mut name)?;
                    self.input.string_into(&mut value)?;
                    return Ok(Some(Part::Fact(name, value)));
                }
                LIBRARY => {
                    return self
                        .input
                        .boxed()
                        .map(|source| Some(Part::Library(source.into_vec())));
                }
                END => return self.end().map(|()| None),
                _ => {
                    let mut key = Vec::new();
                    self.input.string_into(&mut key)?;
                    let value = match read_value(&mut self.input, kind, limits) {
                        Err(error) if error.problem == Problem::Empty => return Ok(Some(Part::EmptyKey)),
                        value => value?,
                    };
                    return Ok(Some(Part::Key(KeyValue {
                        db: self.db,
                        key,
                        value,
                        expiry,
                        idle_seconds,
                        frequency,
                    })));
                }
            }
        }
    }

    fn skip_numbers(&mut self, count: usize) -> Result<(), CodecError> {
        for _ in 0..count {
            self.input.number()?;
        }
        Ok(())
    }

    /// What a module has noted beside the keys means nothing without the module.
    fn skip_module(&mut self) -> Result<(), CodecError> {
        self.input.number()?;
        let mut scratch = Vec::new();
        loop {
            match self.input.number()? {
                0 => return Ok(()),
                1 | 2 => self.skip_numbers(1)?,
                3 => self.input.take(4).map(drop)?,
                4 => self.input.take(8).map(drop)?,
                5 => self.input.string(&mut scratch).map(drop)?,
                _ => return self.input.fail(Problem::Module),
            }
        }
    }

    fn end(&mut self) -> Result<(), CodecError> {
        if self.version < CHECKSUM_SINCE {
            return Ok(());
        }
        self.input.sum_up();
        let sum = std::mem::replace(&mut self.input.sum, CRC.digest()).finalize();
        match u64::from_le_bytes(self.input.array()?) {
            0 => Ok(()),
            noted if noted == sum => Ok(()),
            _ => self.input.fail(Problem::Checksum),
        }
    }
}

/// Writes a file.
pub struct FileWriter<W> {
    to: W,
    piece: Vec<u8>,
    sum: Sum,
    form: Form,
    db: Option<u64>,
    /// Bytes that have left the piece.
    written: u64,
}

impl<W: Write> FileWriter<W> {
    pub fn new(to: W, form: Form) -> FileWriter<W> {
        let mut piece = Vec::with_capacity(2 * PIECE);
        piece.extend_from_slice(format!("REDIS{:04}", form.version).as_bytes());
        FileWriter {
            to,
            piece,
            sum: CRC.digest(),
            form,
            db: None,
            written: 0,
        }
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.written + self.piece.len() as u64
    }

    fn output(&mut self) -> Output<'_> {
        Output {
            bytes: &mut self.piece,
            form: self.form,
        }
    }

    /// A fact beside the keys.
    pub fn fact(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        let mut output = self.output();
        output.bytes.push(FACT);
        output.string(name.as_bytes());
        output.string(value);
        self.settle()
    }

    /// The source of a library of functions.
    pub fn library(&mut self, source: &[u8]) -> io::Result<()> {
        let mut output = self.output();
        output.bytes.push(LIBRARY);
        output.string(source);
        self.settle()
    }

    /// A key of a logical database.
    pub fn key(&mut self, db: u64, key: &[u8], expiry: Option<i64>, value: ValueRef<'_>) -> io::Result<()> {
        self.head(db, expiry);
        let kind = type_of(value, self.form);
        let mut output = self.output();
        output.bytes.push(kind);
        output.string(key);
        write_body(&mut output, value);
        self.settle()
    }

    /// Begins a key that holds a collection of `len` elements, which follow one by one (`element`).
    pub fn collection(
        &mut self,
        db: u64,
        key: &[u8],
        expiry: Option<i64>,
        (kind, len): (Kind, u64),
    ) -> io::Result<()> {
        self.head(db, expiry);
        let mut output = self.output();
        output.bytes.push(match kind {
            Kind::Hash => types::HASH,
            Kind::Set => types::SET,
            Kind::List => types::LIST,
            Kind::Stream => write::type_of_stream(output.form),
            Kind::SortedSet => types::ZSET_2,
        });
        output.string(key);
        output.number(len);
        self.settle()
    }

    /// An element of the collection that was begun, by the place and the value of its row.
    pub fn element(&mut self, kind: Kind, place: &[u8], value: &[u8]) -> io::Result<()> {
        let mut output = self.output();
        match kind {
            Kind::Hash => {
                output.string(paged::name_of(place));
                output.string(value);
            }
            Kind::Set => output.string(paged::name_of(place)),
            Kind::List => output.string(value),
            Kind::Stream => {
                output.raw(place);
                output.string(value);
            }
            // A score is the same eight bytes in both.
            Kind::SortedSet => {
                output.string(sorted_set::paged::name_of(place));
                output.bytes.extend_from_slice(value);
            }
        }
        self.settle()
    }

    /// What stands behind the nodes of a stream, which were written as its elements.
    pub fn end_stream(&mut self, facts: &Stream) -> io::Result<()> {
        let mut output = self.output();
        let kind = write::type_of_stream(output.form);
        stream::write_facts(&mut output, facts, kind);
        self.settle()
    }

    /// A key whose value has been serialized already, and packs nothing; false if its type is none of this file's
    /// version, or something of it might be packed.
    pub fn serialized_key(
        &mut self,
        db: u64,
        key: &[u8],
        expiry: Option<i64>,
        value: &[u8],
    ) -> io::Result<bool> {
        let Some((&kind, body)) = value.split_first() else {
            return Ok(false);
        };
        // Field times have no other form, whatever the version.
        let newer = kind != types::HASH_TIMES
            && kind != types::HASH_LISTPACK_TIMES
            && write::version_of(kind) > self.form.version;
        if newer || self.form.compress && body.len() > PACK_ABOVE {
            return Ok(false);
        }
        self.head(db, expiry);
        let mut output = self.output();
        output.bytes.push(kind);
        output.string(key);
        output.bytes.extend_from_slice(body);
        self.settle().map(|()| true)
    }

    /// What stands before the type of a key.
    fn head(&mut self, db: u64, expiry: Option<i64>) {
        let moved = self.db.replace(db) != Some(db);
        let mut output = self.output();
        if moved {
            output.bytes.push(DATABASE);
            output.number(db);
        }
        if let Some(at) = expiry {
            output.bytes.push(EXPIRY_MS);
            output.time(at);
        }
    }

    /// Hands a full piece on.
    fn settle(&mut self) -> io::Result<()> {
        if self.piece.len() < PIECE {
            return Ok(());
        }
        self.sum.update(&self.piece);
        self.to.write_all(&self.piece)?;
        self.written += self.piece.len() as u64;
        self.piece.clear();
        self.piece.shrink_to(4 * PIECE);
        Ok(())
    }

    /// Ends the file; what it was written to is returned.
    pub fn finish(mut self) -> io::Result<W> {
        self.piece.push(END);
        self.sum.update(&self.piece);
        let sum = self.sum.finalize();
        self.piece.extend_from_slice(&sum.to_le_bytes());
        self.to.write_all(&self.piece)?;
        Ok(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{List, Native, list::Side};

    fn written() -> Vec<u8> {
        let mut list = List::empty();
        (0..20_000).for_each(|i: u32| list.push(Side::Back, &[i.to_string().as_bytes()], &Limits::default()));
        let list = list.into_object();
        let mut file = FileWriter::new(Vec::new(), Form::DUMP);
        let check = |result: io::Result<()>| result.expect("a Vec takes everything");
        check(file.fact("redis-ver", b"7.2.4"));
        check(file.key(0, b"text", Some(1 << 40), ValueRef::String(b"value")));
        check(file.key(0, b"list", None, ValueRef::Object(&list)));
        check(file.key(9, b"text", None, ValueRef::String(&[b'x'; 100_000])));
        assert!(
            file.serialized_key(9, b"raw", None, b"\x00\x01a")
                .is_ok_and(|taken| taken)
        );
        assert!(
            file.serialized_key(9, b"new", None, b"\x14\x00")
                .is_ok_and(|taken| !taken)
        );
        let long = [&b"\x00\x1e"[..], &[b'x'; 30]].concat();
        assert!(
            file.serialized_key(9, b"long", None, &long)
                .is_ok_and(|taken| !taken)
        );
        file.finish().expect("a Vec takes everything")
    }

    fn shown(bytes: &[u8]) -> Result<Vec<String>, CodecError> {
        let mut file = FileReader::new(bytes, bytes.len() as u64)?;
        let mut all = vec![];
        while let Some(part) = file.next_part(&Limits::default())? {
            all.push(match part {
                Part::Key(key) => {
                    let len = match &key.value {
                        Value::String(text) => text.len(),
                        Value::Object(object) => object.len(),
                    };
                    format!(
                        "{} {} {:?} {len}",
                        key.db,
                        String::from_utf8_lossy(&key.key),
                        key.expiry
                    )
                }
                Part::EmptyKey => "empty".to_string(),
                Part::Fact(name, value) => {
                    format!(
                        "{} {}",
                        String::from_utf8_lossy(&name),
                        String::from_utf8_lossy(&value)
                    )
                }
                Part::Library(source) => format!("library {}", source.len()),
            });
        }
        Ok(all)
    }

    #[test]
    fn what_is_written_is_read() {
        let expected = [
            "redis-ver 7.2.4",
            "0 text Some(1099511627776) 5",
            "0 list None 20000",
            "9 text None 100000",
            "9 raw None 1",
        ];
        assert_eq!(shown(&written()), Ok(expected.map(String::from).to_vec()));
    }

    #[test]
    fn what_is_no_key_is_passed_over() {
        let bytes = b"REDIS0004\xfb\x01\x00\xf4\x01\x02\x03\xf7\x05\x02\x01\x05\x01a\x03abcd\x00\xf5\x03lib\xfd\xff\0\0\0\xf8\x07\x00\x01k\x01v\x01\x01e\x00\xff";
        assert_eq!(
            shown(bytes),
            Ok(["library 3", "0 k Some(255000) 1", "empty"]
                .map(String::from)
                .to_vec())
        );
    }

    #[test]
    fn damage_is_found_with_its_place() {
        let sound = written();
        for at in (0..sound.len())
            .step_by(sound.len() / 60)
            .chain(sound.len() - 9..sound.len())
        {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            assert!(shown(&damaged).is_err(), "{at}");
            let cut = shown(&sound[..at]).map_err(|error| error.at);
            assert!(matches!(cut, Err(place) if place <= at as u64), "{at} {cut:?}");
        }
        assert_eq!(
            shown(b"REDIS0013").map_err(|e| e.problem),
            Err(Problem::Version(13))
        );
        assert_eq!(shown(b"RADIS0011").map_err(|e| e.problem), Err(Problem::Magic));
    }
}
