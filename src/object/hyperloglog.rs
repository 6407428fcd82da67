//! HyperLogLog: how many different elements were seen, to within 0.81 %, in at most 12 kB. The value is a string in
//! Redis's own format, to the byte, so that it may move between the two servers.
//!
//! ```text
//!  0             4          5              8                 16
//! +-------------+----------+--------------+-----------------+---------------
//! | H  Y  L  L  | encoding | 0   0   0    | cached count    | registers ...
//! +-------------+----------+--------------+-----------------+---------------
//!                 0 dense, 1 sparse         little endian; stale when the highest bit is set
//!
//! dense    16384 registers of 6 bits, the lowest bits of a byte first
//! sparse   runs of equal registers:
//!          00nnnnnn            n + 1 registers are 0
//!          01nnnnnn nnnnnnnn   n + 1 registers are 0
//!          1vvvvvnn            n + 1 registers are v + 1
//! ```
//!
//! An element's hash (MurmurHash64A) picks a register by its low 14 bits; the register keeps the longest run of zero
//! bits that the rest of such a hash began with, plus one. The estimate is Ertl's ("New cardinality estimation
//! algorithms for HyperLogLog sketches", 2017), which needs no table of corrections.
//!
//! Values come from clients, who may send any bytes: every run is checked before it is used, and a value that does not
//! say exactly 16384 registers is [`Invalid::Corrupted`].

use std::fmt;

/// Registers, and the bits of a hash that choose one.
pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a hash that a register's value is taken from; the value is at most one more.
const VALUE_BITS: u32 = 64 - INDEX_BITS;
const REGISTER_MAX: u8 = 0x3f;

const MAGIC: &[u8; 4] = b"HYLL";
const ENCODING_AT: usize = 4;
const COUNT_AT: usize = 8;
const HEADER: usize = 16;
const DENSE_LEN: usize = HEADER + REGISTERS * 6 / 8;
/// In the last byte of the cached count.
const STALE: u8 = 0x80;

const DENSE: u8 = 0;
const SPARSE: u8 = 1;

/// The most that one opcode of the sparse form says.
const ZEROS_MOST: usize = 64;
const VALUE_MOST: u8 = 32;
const VALUE_RUN_MOST: usize = 4;

const HASH_SEED: u64 = 0xadc8_3b19;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Dense,
    Sparse,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// The header is not that of a HyperLogLog.
    Foreign,
    /// The runs do not add up to the registers.
    Corrupted,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invalid::Foreign => "WRONGTYPE Key is not a valid HyperLogLog string value.",
            Invalid::Corrupted => "INVALIDOBJ Corrupted HLL object detected",
        })
    }
}

impl std::error::Error for Invalid {}

/// A value that has seen nothing: sparse, one run of zeros, the count 0 cached.
pub fn empty() -> Vec<u8> {
    let mut value = vec![0; HEADER];
    value[..ENCODING_AT].copy_from_slice(MAGIC);
    value[ENCODING_AT] = SPARSE;
    push_zeros(&mut value, REGISTERS);
    value
}

/// How a value is encoded, if its header is right. Everything else here wants a value that passed.
pub fn encoding(value: &[u8]) -> Result<Encoding, Invalid> {
    if value.len() < HEADER || !value.starts_with(MAGIC) {
        return Err(Invalid::Foreign);
    }
    match value[ENCODING_AT] {
        DENSE if value.len() == DENSE_LEN => Ok(Encoding::Dense),
        SPARSE => Ok(Encoding::Sparse),
        _ => Err(Invalid::Foreign),
    }
}

fn is_dense(value: &[u8]) -> bool {
    value[ENCODING_AT] == DENSE
}

/// The count that was cached, unless the value has changed since.
pub fn cached_count(value: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&value[COUNT_AT..HEADER]);
    (bytes[7] & STALE == 0).then(|| u64::from_le_bytes(bytes))
}

pub fn cache_count(value: &mut [u8], count: u64) {
    value[COUNT_AT..HEADER].copy_from_slice(&count.to_le_bytes());
}

/// Says that the cached count is no longer right.
pub fn expire_count(value: &mut [u8]) {
    value[HEADER - 1] |= STALE;
}

/// The register of an element, and what the element makes of it: 1 to 51.
fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur_64a(element, HASH_SEED);
    let index = hash as usize & (REGISTERS - 1);
    // The bit behind the last one ends the run of zeros; so the value is at most 51.
    let rest = hash >> INDEX_BITS | 1 << VALUE_BITS;
    (index, rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A, the same on machines of either byte order.
fn murmur_64a(bytes: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let words = bytes.chunks_exact(8);
    let tail = words.remainder();
    for word in words {
        let mut word = little_endian(word).wrapping_mul(FACTOR);
        word ^= word >> SHIFT;
        hash = (hash ^ word.wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    if !tail.is_empty() {
        hash = (hash ^ little_endian(tail)).wrapping_mul(FACTOR);
    }
    hash = (hash ^ hash >> SHIFT).wrapping_mul(FACTOR);
    hash ^ hash >> SHIFT
}

/// Up to eight bytes as a word.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Adds an element to a dense value in place; true when that changed a register.
pub fn add_dense(dense: &mut [u8], element: &[u8]) -> bool {
    let (index, value) = place(element);
    raise(&mut dense[HEADER..], index, value)
}

/// Adds an element; true when that changed a register. A sparse value that would get longer than `sparse_max` bytes,
/// or has to hold a register above 32, becomes dense.
pub fn add(value: &mut Vec<u8>, element: &[u8], sparse_max: usize) -> Result<bool, Invalid> {
    if is_dense(value) {
        return Ok(add_dense(value, element));
    }
    let (index, register) = place(element);
    raise_sparse(value, index, register, sparse_max)
}

fn register(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * 6 / 8, index * 6 % 8);
    // The last register ends with the last byte, and needs nothing of one behind it.
    let high = registers.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([registers[byte], high]) >> shift) as u8 & REGISTER_MAX
}

fn set_register(registers: &mut [u8], index: usize, value: u8) {
    let (byte, shift) = (index * 6 / 8, index * 6 % 8);
    let mask = u16::from(REGISTER_MAX) << shift;
    let high = registers.get(byte + 1).copied().unwrap_or(0);
    let both = u16::from_le_bytes([registers[byte], high]) & !mask | u16::from(value) << shift;
    let [low, high] = both.to_le_bytes();
    registers[byte] = low;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = high;
    }
}

/// Sets a dense register unless it is as high already.
fn raise(registers: &mut [u8], index: usize, value: u8) -> bool {
    let is_higher = register(registers, index) < value;
    if is_higher {
        set_register(registers, index, value);
    }
    is_higher
}

/// One opcode of the sparse form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    /// Bytes of the opcode: 1 or 2.
    len: usize,
    registers: usize,
    /// 0 for a run of zeros.
    value: u8,
}

/// The opcode at `at`; none when it is cut off.
fn run_at(value: &[u8], at: usize) -> Option<Run> {
    let byte = *value.get(at)?;
    let (len, registers, value) = match byte >> 6 {
        0 => (1, usize::from(byte & 0x3f) + 1, 0),
        1 => {
            let low = *value.get(at + 1)?;
            (2, (usize::from(byte & 0x3f) << 8 | usize::from(low)) + 1, 0)
        }
        _ => (1, usize::from(byte & 3) + 1, (byte >> 2 & 0x1f) + 1),
    };
    Some(Run {
        len,
        registers,
        value,
    })
}

/// Calls `visit` with the first register, the number of registers and the value of every run of a sparse value.
fn each_run(value: &[u8], mut visit: impl FnMut(usize, Run)) -> Result<(), Invalid> {
    let (mut at, mut first) = (HEADER, 0);
    while at < value.len() {
        let run = run_at(value, at).ok_or(Invalid::Corrupted)?;
        if first + run.registers > REGISTERS {
            return Err(Invalid::Corrupted);
        }
        visit(first, run);
        at += run.len;
        first += run.registers;
    }
    if first == REGISTERS {
        Ok(())
    } else {
        Err(Invalid::Corrupted)
    }
}

fn push_zeros(into: &mut Vec<u8>, registers: usize) {
    let most = registers - 1;
    if registers > ZEROS_MOST {
        into.extend_from_slice(&[0x40 | (most >> 8) as u8, most as u8]);
    } else {
        into.push(most as u8);
    }
}

fn value_opcode(value: u8, registers: usize) -> u8 {
    0x80 | (value - 1) << 2 | (registers - 1) as u8
}

/// Where a register stands in the sparse form.
struct Found {
    /// The byte at which the run before begins, or the run itself if it is the first.
    before: usize,
    at: usize,
    first: usize,
    run: Run,
}

fn find(value: &[u8], index: usize) -> Result<Found, Invalid> {
    let (mut before, mut at, mut first) = (HEADER, HEADER, 0);
    loop {
        let run = run_at(value, at).ok_or(Invalid::Corrupted)?;
        if first + run.registers > REGISTERS {
            return Err(Invalid::Corrupted);
        }
        if index < first + run.registers {
            return Ok(Found {
                before,
                at,
                first,
                run,
            });
        }
        (before, at, first) = (at, at + run.len, first + run.registers);
    }
}

/// Raises one register of a sparse value. The run that holds it is split into up to three, and the runs around it are
/// joined where they have come to say the same: both just as Redis does it, so that the bytes are the same.
fn raise_sparse(value: &mut Vec<u8>, index: usize, register: u8, sparse_max: usize) -> Result<bool, Invalid> {
    if register > VALUE_MOST {
        return raise_promoted(value, index, register);
    }
    let Found {
        before,
        at,
        first,
        run,
    } = find(value, index)?;
    if run.value >= register {
        return Ok(false);
    }
    let mut split = Vec::with_capacity(5);
    let push = |split: &mut Vec<u8>, registers: usize| match (registers, run.value) {
        (0, _) => {}
        (_, 0) => push_zeros(split, registers),
        (_, old) => split.push(value_opcode(old, registers)),
    };
    push(&mut split, index - first);
    split.push(value_opcode(register, 1));
    push(&mut split, first + run.registers - 1 - index);
    if split.len() > run.len && value.len() + split.len() - run.len > sparse_max {
        return raise_promoted(value, index, register);
    }
    value.splice(at..at + run.len, split);
    join_values(value, before);
    expire_count(value);
    Ok(true)
}

fn raise_promoted(value: &mut Vec<u8>, index: usize, register: u8) -> Result<bool, Invalid> {
    to_dense(value)?;
    Ok(raise(&mut value[HEADER..], index, register))
}

/// Joins neighbouring runs of one value, among the five opcodes from `at` on.
fn join_values(value: &mut Vec<u8>, mut at: usize) {
    for _ in 0..5 {
        let Some(run) = run_at(value, at) else { return };
        let joined = run_at(value, at + run.len)
            .filter(|next| run.value != 0 && next.value == run.value)
            .map(|next| run.registers + next.registers)
            .filter(|registers| *registers <= VALUE_RUN_MOST);
        match joined {
            Some(registers) => {
                value[at] = value_opcode(run.value, registers);
                value.remove(at + 1);
            }
            None => at += run.len,
        }
    }
}

/// Makes a value dense; false when it was. The cached count stays as it is.
pub fn to_dense(value: &mut Vec<u8>) -> Result<bool, Invalid> {
    if is_dense(value) {
        return Ok(false);
    }
    let mut dense = vec![0; DENSE_LEN];
    dense[..HEADER].copy_from_slice(&value[..HEADER]);
    dense[ENCODING_AT] = DENSE;
    let registers = &mut dense[HEADER..];
    each_run(value, |first, run| {
        if run.value != 0 {
            (first..first + run.registers).for_each(|index| set_register(registers, index, run.value));
        }
    })?;
    *value = dense;
    Ok(true)
}

/// The registers of one value or the highest of several.
pub struct Registers(Box<[u8; REGISTERS]>);

impl Default for Registers {
    fn default() -> Registers {
        Registers(Box::new([0; REGISTERS]))
    }
}

impl Registers {
    /// Takes in a value: each register becomes the higher of the two.
    pub fn merge(&mut self, value: &[u8]) -> Result<(), Invalid> {
        if is_dense(value) {
            for (four, packed) in self.0.chunks_exact_mut(4).zip(value[HEADER..].chunks_exact(3)) {
                for (mine, theirs) in four.iter_mut().zip(unpack(packed)) {
                    *mine = (*mine).max(theirs);
                }
            }
            return Ok(());
        }
        each_run(value, |first, run| {
            if run.value != 0 {
                for mine in &mut self.0[first..first + run.registers] {
                    *mine = (*mine).max(run.value);
                }
            }
        })
    }

    /// Raises every register of a value to these.
    pub fn raise(&self, value: &mut Vec<u8>, sparse_max: usize) -> Result<(), Invalid> {
        for (index, register) in self.0.iter().enumerate().filter(|(_, register)| **register != 0) {
            if is_dense(value) {
                raise(&mut value[HEADER..], index, *register);
            } else {
                raise_sparse(value, index, *register, sparse_max)?;
            }
        }
        expire_count(value);
        Ok(())
    }

    pub fn iter(&self) -> impl Iterator<Item = u8> {
        self.0.iter().copied()
    }

    /// How many different elements were seen.
    pub fn estimate(&self) -> u64 {
        let mut histogram = Histogram::default();
        self.iter().for_each(|register| histogram.add(register, 1));
        histogram.estimate()
    }
}

/// Four registers from three bytes.
fn unpack(packed: &[u8]) -> [u8; 4] {
    let bits = u32::from_le_bytes([packed[0], packed[1], packed[2], 0]);
    [0, 6, 12, 18].map(|shift| (bits >> shift) as u8 & REGISTER_MAX)
}

/// How many different elements a value has seen.
pub fn estimate(value: &[u8]) -> Result<u64, Invalid> {
    let mut histogram = Histogram::default();
    if is_dense(value) {
        for packed in value[HEADER..].chunks_exact(3) {
            unpack(packed)
                .into_iter()
                .for_each(|register| histogram.add(register, 1));
        }
    } else {
        each_run(value, |_, run| histogram.add(run.value, run.registers as u32))?;
    }
    Ok(histogram.estimate())
}

/// How many registers have each value. Those above 51 no element can make, but a hostile value can have them.
struct Histogram([u32; REGISTER_MAX as usize + 1]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([0; REGISTER_MAX as usize + 1])
    }
}

impl Histogram {
    fn add(&mut self, register: u8, count: u32) {
        self.0[usize::from(register)] += count;
    }

    /// Ertl's improved raw estimator (algorithm 6 of the paper). The order of the operations is that of Redis: counts
    /// are compared with its own to the last digit.
    fn estimate(&self) -> u64 {
        /// 0.5 / ln 2.
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let registers = REGISTERS as f64;
        let count = |value: u32| f64::from(self.0[value as usize]);
        let mut sum = registers * tau((registers - count(VALUE_BITS + 1)) / registers);
        for value in (1..=VALUE_BITS).rev() {
            sum = (sum + count(value)) * 0.5;
        }
        sum += registers * sigma(count(0) / registers);
        // An infinite sum, of a value without a single element, gives 0.
        (ALPHA * registers * registers / sum).round() as u64
    }
}

/// x + the sum of x^(2^k) * 2^(k-1), of the registers that are still zero.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum == before {
            return sum;
        }
    }
}

/// A third of 1 - x - the sum of (1 - x^(2^-k))^2 * 2^-k, of the registers that are full.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum == before {
            return sum / 3.0;
        }
    }
}

/// The runs of a sparse value as `PFDEBUG DECODE` writes them: `z:` and `Z:` runs of zeros, `v:value,registers`.
pub fn describe(sparse: &[u8]) -> Result<String, Invalid> {
    let mut words = Vec::new();
    each_run(sparse, |_, run| {
        words.push(match (run.value, run.len) {
            (0, 1) => format!("z:{}", run.registers),
            (0, _) => format!("Z:{}", run.registers),
            (value, _) => format!("v:{value},{}", run.registers),
        });
    })?;
    Ok(words.join(" "))
}

/// What `PFSELFTEST` runs: registers keep what is put into them, both encodings agree, and estimates are near.
pub fn self_test(rng: &mut fastrand::Rng) -> Result<(), String> {
    let mut dense = empty();
    to_dense(&mut dense).map_err(|error| error.to_string())?;
    let wanted: Vec<u8> = (0..REGISTERS).map(|_| rng.u8(0..=REGISTER_MAX)).collect();
    for (index, value) in wanted.iter().enumerate() {
        set_register(&mut dense[HEADER..], index, *value);
    }
    if (0..REGISTERS).any(|index| register(&dense[HEADER..], index) != wanted[index]) {
        return Err("ERR TESTFAILED a register does not hold what was put into it".to_owned());
    }
    let (mut sparse, mut dense, prefix) = (empty(), empty(), rng.u64(..));
    to_dense(&mut dense).map_err(|error| error.to_string())?;
    for seen in 1..=100_000_u64 {
        let element = (prefix ^ seen).to_le_bytes();
        let changed = add(&mut sparse, &element, SELF_TEST_SPARSE_MAX);
        if changed != Ok(add_dense(&mut dense, &element)) {
            return Err(format!("ERR TESTFAILED the encodings differ at {seen} elements"));
        }
        if seen.is_power_of_two() || seen % 10_000 == 0 {
            let (a, b) = (estimate(&sparse), estimate(&dense));
            // Five standard errors, and a little for the smallest counts.
            let allowed = (seen as f64 * 5.0 * 1.04 / (REGISTERS as f64).sqrt()).ceil() as u64 + 2;
            if a != b || b.is_ok_and(|b| b.abs_diff(seen) > allowed) {
                return Err(format!(
                    "ERR TESTFAILED {seen} elements are counted as {a:?} and {b:?}"
                ));
            }
        }
    }
    Ok(())
}

/// As `hll-sparse-max-bytes` is by default.
const SELF_TEST_SPARSE_MAX: usize = 3000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_raises_the_register_that_it_raises_in_redis() {
        // As `PFDEBUG DECODE` of a Redis server shows them.
        let mut value = empty();
        assert_eq!(add(&mut value, b"hello", 3000), Ok(true));
        assert_eq!(describe(&value).unwrap(), "Z:9216 v:1,1 Z:7167");
    }

    #[test]
    fn the_self_test_passes() {
        assert_eq!(self_test(&mut fastrand::Rng::with_seed(3)), Ok(()));
    }

    #[test]
    fn a_new_value_is_eighteen_bytes() {
        let value = empty();
        assert_eq!(value, b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
        assert_eq!(encoding(&value), Ok(Encoding::Sparse));
        assert_eq!((cached_count(&value), estimate(&value)), (Some(0), Ok(0)));
        assert_eq!(describe(&value).unwrap(), "Z:16384");
    }

    #[test]
    fn every_way_to_split_a_run_gives_the_registers_asked_for() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let (mut value, mut model) = (empty(), vec![0; REGISTERS]);
            // Few registers, close together, so that runs touch, join and split.
            let base = rng.usize(..REGISTERS - 100);
            for _ in 0..rng.usize(..400) {
                let (index, register) = (base + rng.usize(..100), rng.u8(1..=4));
                let changed = raise_sparse(&mut value, index, register, usize::MAX);
                assert_eq!(changed, Ok(model[index] < register));
                model[index] = model[index].max(register);
            }
            let mut registers = Registers::default();
            registers.merge(&value).unwrap();
            assert!(registers.iter().eq(model.iter().copied()));
            to_dense(&mut value).unwrap();
            let mut dense = Registers::default();
            dense.merge(&value).unwrap();
            assert!(dense.iter().eq(model.into_iter()));
        }
    }

    #[test]
    fn a_sparse_value_becomes_dense_at_its_bound_and_at_high_registers() {
        let mut value = empty();
        for i in 0..10_000_u32 {
            add(&mut value, &i.to_le_bytes(), 300).unwrap();
            let sparse = encoding(&value) == Ok(Encoding::Sparse);
            assert!(if sparse {
                value.len() <= 300
            } else {
                value.len() == DENSE_LEN
            });
        }
        assert_eq!(encoding(&value), Ok(Encoding::Dense));
        let mut value = empty();
        raise_sparse(&mut value, 16383, 33, usize::MAX).unwrap();
        assert_eq!(encoding(&value), Ok(Encoding::Dense));
        assert_eq!(register(&value[HEADER..], 16383), 33);
    }

    #[test]
    fn hostile_bytes_are_refused_and_never_read_past_their_end() {
        let mut rng = fastrand::Rng::with_seed(8);
        for _ in 0..20_000 {
            let mut value = empty();
            value.truncate(HEADER);
            value.extend((0..rng.usize(..40)).map(|_| rng.u8(..)));
            let right = each_run(&value, |_, _| {}).is_ok();
            assert_eq!(estimate(&value).is_ok(), right);
            assert_eq!(Registers::default().merge(&value).is_ok(), right);
            assert_eq!(describe(&value).is_ok(), right);
            assert_eq!(to_dense(&mut value.clone()).is_ok(), right);
            let _ = add(&mut value, &rng.u64(..).to_le_bytes(), 3000);
        }
        for foreign in [
            &b"HYLL"[..],
            b"HYLLx0123456789abc",
            &[0; 16],
            b"HYLL\0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(encoding(foreign), Err(Invalid::Foreign));
        }
    }
}
