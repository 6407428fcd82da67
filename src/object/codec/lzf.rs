//! LZF, the compression of strings: fast, and good enough for text that repeats itself.
//!
//! ```text
//! 000lllll bytes                   l + 1 literal bytes
//! lllooooo oooooooo                copy l + 2 bytes (l is 1..=6) from o + 1 bytes back
//! 111ooooo llllllll oooooooo       copy l + 9 bytes from o + 1 bytes back
//! ```
//!
//! The format is that of the library of this name, as its documentation describes it.

/// Bits of the table of places seen: as many as the string has, within these.
const HASH_BITS_MIN: u32 = 6;
const HASH_BITS_MAX: u32 = 14;
const LITERALS_MAX: usize = 32;
const COPY_MAX: usize = 264;
const BACK_MAX: usize = 1 << 13;

/// Unpacks `packed`, which is `len` bytes long unpacked, into `out`; false if it is not that.
pub(super) fn unpack(packed: &[u8], len: u64, out: &mut Vec<u8>) -> bool {
    out.clear();
    // Three bytes unpack to no more than `COPY_MAX`: a longer length cannot be true, and is not allocated for.
    if len > (packed.len() as u64 / 3 + 1) * COPY_MAX as u64 {
        return false;
    }
    let len = len as usize;
    out.reserve_exact(len);
    let mut rest = packed;
    while let Some((&control, behind)) = rest.split_first() {
        if control < 0x20 {
            let Some((literals, behind)) = behind.split_at_checked(control as usize + 1) else {
                return false;
            };
            if out.len() + literals.len() > len {
                return false;
            }
            out.extend_from_slice(literals);
            rest = behind;
        } else {
            let Some((count, back, behind)) = reference(control, behind) else {
                return false;
            };
            if back > out.len() || out.len() + count > len {
                return false;
            }
            copy(out, count, back);
            rest = behind;
        }
    }
    out.len() == len
}

/// Bytes to copy, how far back they are, and what follows.
fn reference(control: u8, rest: &[u8]) -> Option<(usize, usize, &[u8])> {
    let (more, rest) = match control >> 5 {
        7 => rest.split_first().map(|(&more, rest)| (more as usize, rest))?,
        _ => (0, rest),
    };
    let (&low, rest) = rest.split_first()?;
    let back = ((control & 0x1f) as usize) << 8 | low as usize;
    Some(((control >> 5) as usize + 2 + more, back + 1, rest))
}

/// Appends `count` bytes from `back` bytes before the end; where they overlap what is appended, it repeats.
fn copy(out: &mut Vec<u8>, count: usize, back: usize) {
    let from = out.len() - back;
    let mut left = count;
    while left > 0 {
        // What has been appended doubles the run that can be copied at once.
        let piece = left.min(out.len() - from);
        out.extend_from_within(from..from + piece);
        left -= piece;
    }
}

/// Appends `bytes` packed to `out`, if that takes fewer than `limit` bytes; else leaves `out` as it was and says false.
pub(super) fn pack(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    // Position + 1 of the last place with this hash; 0 for none.
    let bits = bytes.len().max(1).ilog2().clamp(HASH_BITS_MIN, HASH_BITS_MAX);
    let hash = |bytes: &[u8]| {
        let three = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        (three.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize
    };
    let mut seen = vec![0u32; 1 << bits];
    let (mut at, mut literals_at) = (0, 0);
    while at + 3 <= bytes.len() {
        let slot = &mut seen[hash(&bytes[at..])];
        let before = std::mem::replace(slot, at as u32 + 1) as usize;
        let back = at + 1 - before;
        if before == 0 || back > BACK_MAX || bytes[before - 1..before + 2] != bytes[at..at + 3] {
            at += 1;
            continue;
        }
        let count = common(&bytes[before - 1..], &bytes[at..]);
        push_literals(&bytes[literals_at..at], out);
        push_reference(count, back - 1, out);
        if out.len() - start >= limit {
            break;
        }
        // The last places of what was copied are worth finding again.
        for place in at + count - 2..(at + count).min(bytes.len() - 2) {
            seen[hash(&bytes[place..])] = place as u32 + 1;
        }
        at += count;
        literals_at = at;
    }
    push_literals(&bytes[literals_at..], out);
    if out.len() - start >= limit {
        out.truncate(start);
        return false;
    }
    true
}

/// Bytes at which both are equal, as many as one reference can copy.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take(COPY_MAX).take_while(|(a, b)| a == b).count()
}

fn push_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn push_reference(count: usize, back: usize, out: &mut Vec<u8>) {
    let (high, low) = ((back >> 8) as u8, back as u8);
    match count - 2 {
        short @ 1..=6 => out.extend_from_slice(&[(short as u8) << 5 | high, low]),
        long => out.extend_from_slice(&[7 << 5 | high, (long - 7) as u8, low]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn round(bytes: &[u8]) -> Option<usize> {
        let (mut packed, mut out) = (Vec::new(), Vec::new());
        if !pack(bytes, usize::MAX, &mut packed) {
            return None;
        }
        assert!(unpack(&packed, bytes.len() as u64, &mut out));
        assert!(out == bytes);
        assert!(!unpack(&packed, bytes.len() as u64 + 1, &mut out));
        Some(packed.len())
    }

    #[test]
    fn runs_of_every_length_and_distance_unpack() {
        for len in (0..700).chain([8190, 8192, 8193, 8194, 8195, 70_000]) {
            assert!(round(&vec![b'x'; len]).is_some());
            let mut apart = b"once upon a time".to_vec();
            apart.extend((0..len).map(|i| (i * i / 7) as u8));
            apart.extend_from_slice(b"once upon a time");
            assert!(round(&apart).is_some());
        }
        assert!(round(&[b'x'; 10_000]).is_some_and(|len| len < 150));
    }

    #[test]
    fn what_does_not_pay_is_not_packed() {
        let mut out = b"kept".to_vec();
        assert!(!pack(b"abcdefghijklmnopqrstuvwxyz", 22, &mut out));
        assert_eq!(out, b"kept");
    }

    #[test]
    fn a_false_length_allocates_nothing() {
        let mut out = Vec::new();
        assert!(!unpack(b"\x00a", u64::MAX, &mut out));
        assert_eq!(out.capacity(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_packed_unpacks(bytes in vec(0..4u8, 0..3000)) {
            prop_assert!(round(&bytes).is_some());
        }

        #[test]
        fn damage_never_panics(bytes in vec(any::<u8>(), 0..200), len in 0..5000u64) {
            unpack(&bytes, len, &mut Vec::new());
        }
    }
}
