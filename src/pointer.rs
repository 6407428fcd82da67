//! Addresses: one with 16 bits of its owner's beside it, in eight bytes with a niche; and asking for memory before it is
//! needed.

use std::num::NonZeroU64;
use std::ptr::NonNull;

/// The bits that are the address; user addresses of 64-bit systems fit them.
const ADDRESS: u64 = (1 << 48) - 1;

/// Owns nothing: whoever holds it allocates and frees the block.
#[derive(Clone, Copy)]
pub struct TaggedPtr {
    packed: NonZeroU64,
}

impl TaggedPtr {
    #[inline]
    pub fn new(block: NonNull<u8>, tag: u16) -> TaggedPtr {
        let address = block.as_ptr().expose_provenance() as u64;
        assert!(address <= ADDRESS, "heap addresses fit 48 bits");
        TaggedPtr::pack(address, tag)
    }

    /// A block of bytes, which its owner gives back by `Box::from_raw`.
    pub fn from_box(block: Box<[u8]>) -> TaggedPtr {
        TaggedPtr::new(NonNull::from(Box::leak(block)).cast(), 0)
    }

    #[inline]
    fn pack(address: u64, tag: u16) -> TaggedPtr {
        // proof: the address came from a pointer that is not null.
        let packed = NonZeroU64::new(address | u64::from(tag) << 48).expect("a block's address is not null");
        TaggedPtr { packed }
    }

    #[inline]
    pub fn block(self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut((self.packed.get() & ADDRESS) as usize)
    }

    #[inline]
    pub fn tag(self) -> u16 {
        (self.packed.get() >> 48) as u16
    }

    #[inline]
    pub fn set_tag(&mut self, tag: u16) {
        *self = TaggedPtr::pack(self.packed.get() & ADDRESS, tag);
    }
}

/// Asks for the cache line at an address. Any address will do: nothing is read.
#[inline]
pub fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it neither faults nor changes anything, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
