//! One resident key: header, expiry, key and value in a single heap block behind a thin pointer.
//!
//! ```text
//!  0        1        2        3        4            8            12           16
//! +--------+--------+--------+--------+------------+------------+------------+----------+----------+-----+-------+
//! | kind   | flags  | db     | store  | clock      | key length | value len  | [expiry] | [object] | key | value |
//! +--------+--------+--------+--------+------------+------------+------------+----------+----------+-----+-------+
//! ```
//!
//! * `expiry` (unix milliseconds, 8 bytes) is there only when `EXPIRES` is set.
//! * `object` (32 bytes) is there only when the kind is `Object`; then there are no value bytes. A string's bytes are
//!   the value.
//! * A 16-byte key with a 64-byte value is a block of 96 bytes, which is exactly an allocator size class.
//! * The block grows and shrinks with `realloc`; the allocator's size classes make repeated appends amortized
//!   constant, so no capacity is stored.
//!
//! Guarantees: an `Entry` owns its block; every slice it hands out lies within it. It knows nothing of shards,
//! ranges or stores: the flags are kept here and given meaning by `shard` and `tx`.

use super::reclaim::{LARGE_BLOCK, reclaim, reclaim_block};
pub use crate::object::codec::Value;
use crate::object::pages::Pages;
use crate::object::{Object, size_class};
use crate::pointer::TaggedPtr;
use std::alloc::{Layout, alloc, handle_alloc_error, realloc};
use std::ptr::NonNull;

/// What stands under the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A tombstone: the key is deleted, and the store has not been told yet.
    Absent = 0,
    /// A string whose bytes are the value.
    String = 1,
    /// A value of another type, which the object itself names.
    Object = 2,
}

impl Kind {
    fn from_u8(byte: u8) -> Kind {
        match byte {
            1 => Kind::String,
            2 => Kind::Object,
            _ => Kind::Absent,
        }
    }
}

/// The entry has an expiry.
pub const EXPIRES: u8 = 1;
/// The string was made by editing in place; Redis reports such a string as `raw` whatever its length.
pub const EDITED: u8 = 1 << 1;
/// The shard's expiry index holds an item for this entry at or before its next expiry.
pub const INDEXED: u8 = 1 << 2;
/// The string is a sum of INCRBYFLOAT; Redis reports such a string as `embstr` even where it reads as an integer.
pub const FLOAT: u8 = 1 << 3;
/// The string is a copy by COPY; Redis does not share the small integers among such.
pub const COPIED: u8 = 1 << 4;
/// Somebody may watch the key: its shard's records know. Never clear while somebody does.
pub const WATCHED: u8 = 1 << 5;
/// How a string came about. Only what `OBJECT` says depends on it; it is neither stored nor recorded.
pub const ORIGIN: u8 = EDITED | FLOAT | COPIED;

/// Differs from the store, and is in its shard's dirty list.
pub const DIRTY: u8 = 1;
/// The store holds a row of this key, perhaps an older one.
pub const STORED: u8 = 1 << 1;
/// That row carries an expiry.
pub const STORED_EXPIRES: u8 = 1 << 2;
/// Parity of the flush that last took this entry; it may be dropped only when that flush has ended.
pub const FLUSH_PARITY: u8 = 1 << 3;
/// Taken by a flush since it became resident, so that `FLUSH_PARITY` means something.
pub const FLUSHED: u8 = 1 << 4;
/// The next expiry of that row is no longer the entry's, and stands in its shard's list for the next flush.
pub const STALE_EXPIRY: u8 = 1 << 5;
/// The store's expiry index has a row for that row: it expires, or a part of its value does.
pub const STORED_INDEX: u8 = 1 << 6;
/// A row is being written of this entry of a memory range, and the entry has not changed since.
pub const SEALING: u8 = 1 << 7;

#[repr(C)]
struct Header {
    kind: u8,
    flags: u8,
    db: u8,
    store: u8,
    clock: u32,
    key_len: u32,
    value_len: u32,
}

const HEADER: usize = size_of::<Header>();
const EXPIRY: usize = size_of::<i64>();
const OBJECT: usize = size_of::<Object>();
/// So that the object, behind a header of 16 bytes and an expiry of 8 or none, is aligned.
const ALIGN: usize = 8;
const _: () = assert!(
    OBJECT <= 32
        && align_of::<Object>() <= ALIGN
        && HEADER.is_multiple_of(ALIGN)
        && EXPIRY.is_multiple_of(ALIGN)
);
/// The longest key or value an entry can hold.
pub const MAX_LEN: usize = u32::MAX as usize;

/// A value on its way in: a string that its caller keeps, or an object that becomes the entry's.
pub enum NewValue<'a> {
    String(&'a [u8]),
    Object(Object),
}

/// An owned resident entry: the address of its block, and 16 bits that its table keeps with it.
pub struct Entry {
    block: TaggedPtr,
}

// SAFETY: an Entry owns its block and nothing else refers to it; the block is plain bytes and perhaps an Object, which
// is Send (see the assertion below).
unsafe impl Send for Entry {}
// SAFETY: a shared Entry only reads its block; all change goes through `&mut self`.
unsafe impl Sync for Entry {}

const fn assert_shareable<T: Send + Sync>() {}
const _: () = assert_shareable::<Object>();

fn layout(len: usize) -> Layout {
    // proof: every length is below 16 + 8 + 32 + 2 * u32::MAX, far under isize::MAX.
    Layout::from_size_align(len, ALIGN).expect("entry length fits a layout")
}

impl Entry {
    /// A string entry; `key` and `value` are at most `MAX_LEN` bytes.
    pub fn new(db: u8, key: &[u8], value: &[u8], expiry: Option<i64>, clock: u32) -> Entry {
        Entry::with_kind(Kind::String, db, key, value, expiry, clock)
    }

    /// An entry of any value; the key, and a string's bytes, are at most `MAX_LEN` long.
    #[inline]
    pub fn with_value(db: u8, key: &[u8], value: NewValue<'_>, expiry: Option<i64>, clock: u32) -> Entry {
        match value {
            NewValue::String(bytes) => Entry::new(db, key, bytes, expiry, clock),
            NewValue::Object(object) => {
                let mut entry = Entry::new(db, key, b"", expiry, clock);
                entry.assign_object(object, expiry);
                entry
            }
        }
    }

    /// A tombstone for `key`.
    pub fn tombstone(db: u8, key: &[u8], clock: u32) -> Entry {
        Entry::with_kind(Kind::Absent, db, key, b"", None, clock)
    }

    fn with_kind(kind: Kind, db: u8, key: &[u8], value: &[u8], expiry: Option<i64>, clock: u32) -> Entry {
        assert!(
            key.len() <= MAX_LEN && value.len() <= MAX_LEN,
            "key and value lengths fit 32 bits"
        );
        let flags = if expiry.is_some() { EXPIRES } else { 0 };
        let header = Header {
            kind: kind as u8,
            flags,
            db,
            store: 0,
            clock,
            key_len: key.len() as u32,
            value_len: value.len() as u32,
        };
        let layout = layout(block_len(&header));
        // SAFETY: the layout is at least a header long; the header is written before anything reads it, and key and
        // value are inside the block because its length was computed from them, and both are written below: nothing of
        // the block that can be read is uninitialized.
        let block = unsafe {
            let Some(block) = NonNull::new(alloc(layout).cast::<Header>()) else {
                handle_alloc_error(layout)
            };
            block.write(header);
            let tail = block.cast::<u8>().add(HEADER);
            if let Some(at) = expiry {
                tail.copy_from_nonoverlapping(NonNull::from(&at).cast(), EXPIRY);
            }
            let key_at = tail.add(if expiry.is_some() { EXPIRY } else { 0 });
            std::ptr::copy_nonoverlapping(key.as_ptr(), key_at.as_ptr(), key.len());
            std::ptr::copy_nonoverlapping(value.as_ptr(), key_at.as_ptr().add(key.len()), value.len());
            block
        };
        Entry {
            block: TaggedPtr::new(block.cast(), 0),
        }
    }

    #[inline]
    fn block(&self) -> *mut Header {
        self.block.block().cast()
    }

    /// What the table noted of the key's hash.
    #[inline]
    pub fn fragment(&self) -> u16 {
        self.block.tag()
    }

    pub fn set_fragment(&mut self, fragment: u16) {
        self.block.set_tag(fragment);
    }

    /// Where the block stands; for prefetching.
    #[inline]
    pub fn address(&self) -> *const u8 {
        self.block().cast_const().cast()
    }

    fn header(&self) -> &Header {
        // SAFETY: the block is owned, aligned for Header, and its header is always initialized.
        unsafe { &*self.block() }
    }

    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as `header`, and `&mut self` makes the access exclusive.
        unsafe { &mut *self.block() }
    }

    fn bytes(&self, at: usize, len: usize) -> &[u8] {
        debug_assert!(at + len <= block_len(self.header()));
        // SAFETY: callers pass positions computed from the header, which lie within the initialized block.
        unsafe { std::slice::from_raw_parts(self.block().cast::<u8>().add(at), len) }
    }

    fn object_at(&self) -> usize {
        HEADER + expiry_len(self.header())
    }

    fn key_at(&self) -> usize {
        HEADER + expiry_len(self.header()) + object_len(self.header())
    }

    fn is_object(&self) -> bool {
        self.header().kind == Kind::Object as u8
    }

    /// The value, if it is of another type than string.
    pub fn object(&self) -> Option<&Object> {
        // SAFETY: an entry of this kind holds an initialized object there (see `assign_object`), aligned because the
        // block, the header and the expiry are; the borrow is that of the entry.
        self.is_object()
            .then(|| unsafe { &*self.block().cast::<u8>().add(self.object_at()).cast::<Object>() })
    }

    pub fn object_mut(&mut self) -> Option<&mut Object> {
        // SAFETY: as `object`, and `&mut self` makes the access exclusive.
        self.is_object()
            .then(|| unsafe { &mut *self.block().cast::<u8>().add(self.object_at()).cast::<Object>() })
    }

    /// Takes the object out: the entry is an empty string then, which its caller replaces or drops.
    fn take_object(&mut self) -> Option<Object> {
        if !self.is_object() {
            return None;
        }
        // SAFETY: the object is initialized, and is never seen here again: `reshape` drops its place from the block.
        let object = unsafe {
            self.block()
                .cast::<u8>()
                .add(self.object_at())
                .cast::<Object>()
                .read()
        };
        self.reshape(self.expiry(), Kind::String, 0);
        Some(object)
    }

    /// Takes the value out, and leaves an empty string. Of a paged collection all is in memory; it is none any more.
    pub fn take_value(&mut self) -> Value {
        match self.take_object() {
            Some(mut object) => {
                object.unpage();
                Value::Object(object)
            }
            None => Value::String(self.value().to_vec()),
        }
    }

    /// A copy of the value, as `take_value` gives it.
    pub fn clone_value(&self) -> Value {
        match self.object() {
            Some(object) => {
                let mut object = object.clone();
                object.unpage();
                Value::Object(object)
            }
            None => Value::String(self.value().to_vec()),
        }
    }

    /// What is known of the value as a collection that need not fit memory, if it is one.
    #[inline]
    pub fn pages(&self) -> Option<&dyn Pages> {
        self.object().and_then(Object::pages)
    }

    pub fn pages_mut(&mut self) -> Option<&mut dyn Pages> {
        self.object_mut().and_then(Object::pages_mut)
    }

    /// As `TYPE` gives it.
    pub fn type_name(&self) -> &'static str {
        match self.kind() {
            Kind::Absent => "none",
            Kind::String => "string",
            Kind::Object => self.object().map_or("none", Object::type_name),
        }
    }

    pub fn kind(&self) -> Kind {
        Kind::from_u8(self.header().kind)
    }

    /// True for a tombstone.
    pub fn is_absent(&self) -> bool {
        self.header().kind == Kind::Absent as u8
    }

    /// The physical database.
    pub fn db(&self) -> u8 {
        self.header().db
    }

    pub fn key(&self) -> &[u8] {
        self.bytes(self.key_at(), self.header().key_len as usize)
    }

    /// The bytes of a string; none of another type.
    pub fn value(&self) -> &[u8] {
        let header = self.header();
        self.bytes(self.key_at() + header.key_len as usize, header.value_len as usize)
    }

    pub fn value_mut(&mut self) -> &mut [u8] {
        let (at, len) = (
            self.key_at() + self.header().key_len as usize,
            self.header().value_len as usize,
        );
        // SAFETY: position and length come from the header and lie within the block; `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.block().cast::<u8>().add(at), len) }
    }

    /// Unix milliseconds, if the key expires.
    pub fn expiry(&self) -> Option<i64> {
        let header = self.header();
        if header.flags & EXPIRES == 0 {
            return None;
        }
        let mut at = [0; EXPIRY];
        at.copy_from_slice(self.bytes(HEADER, EXPIRY));
        Some(i64::from_ne_bytes(at))
    }

    /// True when the key's expiry has passed at `now_ms`.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.header().flags & EXPIRES != 0 && self.expiry().is_some_and(|at| at <= now_ms)
    }

    /// When something here expires first: the key itself, or a part of its value.
    #[inline]
    pub fn next_expiry(&self) -> Option<i64> {
        let within = self.object().map_or(i64::MAX, Object::earliest_expiry);
        let key = self.expiry().unwrap_or(i64::MAX);
        // No moment is as far away as the mark of an object that has none.
        Some(key.min(within)).filter(|at| *at < i64::MAX - 1)
    }

    pub fn has(&self, flag: u8) -> bool {
        self.header().flags & flag != 0
    }

    /// Those flags in `mask` that are set.
    pub fn flags(&self, mask: u8) -> u8 {
        self.header().flags & mask
    }

    pub fn set(&mut self, flag: u8, on: bool) {
        let flags = &mut self.header_mut().flags;
        *flags = if on { *flags | flag } else { *flags & !flag };
    }

    pub fn store_has(&self, flag: u8) -> bool {
        self.header().store & flag != 0
    }

    pub fn store_set(&mut self, flag: u8, on: bool) {
        let flags = &mut self.header_mut().store;
        *flags = if on { *flags | flag } else { *flags & !flag };
    }

    /// The access clock: see `clock`.
    pub fn clock(&self) -> u32 {
        self.header().clock
    }

    pub fn set_clock(&mut self, clock: u32) {
        self.header_mut().clock = clock;
    }

    /// Bytes that the allocator has given for this entry, its object's included.
    pub fn size(&self) -> usize {
        size_class(block_len(self.header())) + self.object().map_or(0, Object::bytes)
    }

    /// About how many bytes a flush writes because of one change.
    pub fn written_size(&self) -> usize {
        match self.pages() {
            Some(pages) => size_class(block_len(self.header())) + pages.element_size(),
            None => self.size(),
        }
    }

    /// Bytes of the value: those of a string, or what an object takes.
    pub fn value_size(&self) -> usize {
        self.object()
            .map_or(self.header().value_len as usize, Object::bytes)
    }

    /// Moves the tail of the block so that the expiry field, key and value fit `expiry`, `kind` and `value_len`. New
    /// value bytes are zero. An object stays if both kinds have one; the place of a new one is uninitialized, and an
    /// object that goes must have been taken out before.
    fn reshape(&mut self, expiry: Option<i64>, kind: Kind, value_len: usize) {
        assert!(value_len <= MAX_LEN, "value length fits 32 bits");
        let header = self.header();
        let (old_len, old_object, key_len) = (block_len(header), object_len(header), header.key_len as usize);
        let new_object = if kind == Kind::Object { OBJECT } else { 0 };
        let kept_object = old_object.min(new_object);
        let kept = kept_object + key_len + (header.value_len as usize).min(value_len);
        // What is kept lies in one piece: the object if it stays, the key, the beginning of the value.
        let old_at = self.key_at() - kept_object;
        let new_key_at = HEADER + if expiry.is_some() { EXPIRY } else { 0 } + new_object;
        let (new_at, new_len) = (new_key_at - kept_object, new_key_at + key_len + value_len);
        // SAFETY: `old_len` is the length the block was allocated with. The tail is moved while the block is as long
        // as the longer of both shapes: before shrinking, after growing. Bytes beyond `kept` are zeroed.
        unsafe {
            let mut base = self.block().cast::<u8>();
            if new_len < old_len {
                std::ptr::copy(base.add(old_at), base.add(new_at), kept);
            }
            if new_len != old_len {
                base = if old_len >= LARGE_BLOCK && new_len < old_len / 2 {
                    exchange(base, layout(old_len), layout(new_len))
                } else {
                    realloc(base, layout(old_len), new_len)
                };
                let Some(block) = NonNull::new(base) else {
                    handle_alloc_error(layout(new_len))
                };
                self.block = TaggedPtr::new(block, self.fragment());
            }
            if new_len >= old_len {
                std::ptr::copy(base.add(old_at), base.add(new_at), kept);
            }
            std::ptr::write_bytes(base.add(new_at + kept), 0, new_len - new_at - kept);
            if let Some(at) = expiry {
                std::ptr::copy_nonoverlapping(at.to_ne_bytes().as_ptr(), base.add(HEADER), EXPIRY);
            }
        }
        let header = self.header_mut();
        header.kind = kind as u8;
        header.value_len = value_len as u32;
        header.flags = if expiry.is_some() {
            header.flags | EXPIRES
        } else {
            header.flags & !EXPIRES
        };
    }

    fn drop_object(&mut self) {
        if let Some(object) = self.take_object() {
            reclaim(object);
        }
    }

    /// Replaces value and expiry; the entry becomes a string.
    pub fn assign(&mut self, value: &[u8], expiry: Option<i64>) {
        self.drop_object();
        if self.header().value_len as usize != value.len() || expiry.is_some() || self.has(EXPIRES) {
            self.reshape(expiry, Kind::String, value.len());
        }
        self.header_mut().kind = Kind::String as u8;
        self.set(ORIGIN, false);
        self.value_mut().copy_from_slice(value);
    }

    /// Replaces value and expiry; the entry becomes one of the object's type.
    pub fn assign_object(&mut self, object: Object, expiry: Option<i64>) {
        self.drop_object();
        self.reshape(expiry, Kind::Object, 0);
        self.set(ORIGIN, false);
        // SAFETY: `reshape` made room for an object there, aligned as `object` says, and nothing is in it yet.
        unsafe {
            let place = self.block().cast::<u8>().add(self.object_at());
            place.cast::<Object>().write(object);
        }
    }

    /// Replaces value and expiry.
    #[inline]
    pub fn assign_value(&mut self, value: NewValue<'_>, expiry: Option<i64>) {
        match value {
            NewValue::String(bytes) => self.assign(bytes, expiry),
            NewValue::Object(object) => self.assign_object(object, expiry),
        }
    }

    /// A tombstone becomes what `other` is, and keeps what it knows of the store.
    pub fn revive(&mut self, other: Entry) {
        let (store, fragment, watched) = (self.header().store, self.fragment(), self.has(WATCHED));
        *self = other;
        self.header_mut().store = store;
        self.set(WATCHED, watched);
        self.set_fragment(fragment);
    }

    /// Makes the string `len` bytes long; what is new is zero.
    pub fn resize(&mut self, len: usize) {
        debug_assert!(!self.is_object(), "only strings are edited by their bytes");
        if self.header().value_len as usize != len {
            self.reshape(self.expiry(), Kind::String, len);
        }
    }

    /// Replaces the bytes of a string and keeps the expiry; the string is no longer an edited one.
    pub fn overwrite(&mut self, value: &[u8]) {
        self.resize(value.len());
        self.value_mut().copy_from_slice(value);
        self.set(ORIGIN, false);
    }

    pub fn set_expiry(&mut self, expiry: Option<i64>) {
        if expiry.is_some() || self.has(EXPIRES) {
            self.reshape(expiry, self.kind(), self.header().value_len as usize);
        }
    }

    /// Turns the entry into a tombstone.
    pub fn bury(&mut self) {
        self.drop_object();
        self.reshape(None, Kind::Absent, 0);
        self.set(ORIGIN | INDEXED, false);
    }
}

/// As `realloc` for a large block that becomes far smaller: what is left over is given back in the background.
///
/// # Safety
///
/// That of `realloc`; the new layout is smaller than the old one.
unsafe fn exchange(old: *mut u8, old_layout: Layout, new_layout: Layout) -> *mut u8 {
    // SAFETY: both blocks are at least as long as the new one, and apart. The old one is the caller's to give away.
    unsafe {
        let new = alloc(new_layout);
        if !new.is_null() {
            std::ptr::copy_nonoverlapping(old, new, new_layout.size());
            reclaim_block(old, old_layout);
        }
        new
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.drop_object();
        let layout = layout(block_len(self.header()));
        // SAFETY: the block was allocated with this layout, and nothing refers to it any more.
        unsafe { reclaim_block(self.block().cast(), layout) }
    }
}

#[inline]
fn expiry_len(header: &Header) -> usize {
    if header.flags & EXPIRES != 0 { EXPIRY } else { 0 }
}

#[inline]
fn object_len(header: &Header) -> usize {
    if header.kind == Kind::Object as u8 {
        OBJECT
    } else {
        0
    }
}

#[inline]
fn block_len(header: &Header) -> usize {
    HEADER + expiry_len(header) + object_len(header) + header.key_len as usize + header.value_len as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_key_and_value_through_every_reshape() {
        let mut entry = Entry::new(3, b"key", b"value", None, 7);
        entry.set_expiry(Some(99));
        assert_eq!(
            (entry.key(), entry.value(), entry.expiry()),
            (&b"key"[..], &b"value"[..], Some(99))
        );
        entry.resize(8);
        assert_eq!(entry.value(), b"value\0\0\0");
        entry.set_expiry(None);
        entry.resize(2);
        assert_eq!(
            (entry.key(), entry.value(), entry.expiry()),
            (&b"key"[..], &b"va"[..], None)
        );
        entry.assign(b"longer than before", Some(5));
        assert_eq!(
            (entry.value(), entry.expiry(), entry.db()),
            (&b"longer than before"[..], Some(5), 3)
        );
        entry.bury();
        assert!(entry.is_absent() && entry.value().is_empty() && entry.key() == b"key");
    }

    #[test]
    fn sixteen_and_sixty_four_bytes_fill_one_size_class() {
        assert_eq!(Entry::new(0, &[b'k'; 16], &[b'v'; 64], None, 0).size(), 96);
    }
}
