//! Elements in listpack form as nodes use them: read at the start or the end of bytes that hold whole elements.

use crate::object::listpack::Item;
use crate::object::listpack::element::{Encoded, back_len, backwards, data_len, item};

pub(super) use crate::object::listpack::element::Encoded as Element;

/// Bytes of the element at the start.
#[inline]
pub fn len(bytes: &[u8]) -> usize {
    let len = inner_len(bytes);
    len + back_len(len)
}

#[inline]
fn inner_len(bytes: &[u8]) -> usize {
    // proof: nodes hold whole sound elements, and ask for the length of one only where one starts.
    data_len(bytes).expect("an element starts here")
}

/// Bytes of the element at the end.
#[inline]
pub fn last_len(bytes: &[u8]) -> usize {
    let len = match bytes.last() {
        Some(&last) if last < 0x80 => last as usize,
        // proof: nodes hold whole sound elements, and ask for the length of one only where one ends.
        _ => backwards(bytes).expect("an element ends here"),
    };
    len + back_len(len)
}

/// The element at the start, and its bytes.
#[inline]
pub fn decode(bytes: &[u8]) -> (Item<'_>, usize) {
    let len = inner_len(bytes);
    (item(&bytes[..len]), len + back_len(len))
}

/// What elements are compared with.
pub struct Wanted<'a> {
    value: &'a [u8],
    /// Equal elements are equal bytes: each is in its shortest form.
    element: Encoded<'a>,
}

impl<'a> Wanted<'a> {
    pub fn new(value: &'a [u8]) -> Wanted<'a> {
        let element = Encoded::of(value);
        Wanted { value, element }
    }

    /// Whether it equals the element at the start of `bytes`.
    #[inline]
    pub fn is_at(&self, bytes: &[u8]) -> bool {
        self.element.is_at(bytes)
    }

    /// Whether it equals an element that is not in listpack form.
    pub fn is_plain(&self, value: &[u8]) -> bool {
        self.value == value
    }
}
