//! What the server ought to hold: a map per database, and the commands that change it.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;

use crate::common::{Value, show};

/// Logical databases in use.
pub const DATABASES: [u8; 3] = [0, 1, 9];
pub const KEYS: u64 = 60;
/// How far the server's clock may be from ours when it turns a time to live into an expiry.
const CLOCK_SLACK_MS: i64 = 20_000;
/// Longer values are replaced instead of edited.
const VALUE_MAX: usize = 8000;

type Bytes = Rc<[u8]>;

#[derive(Debug, PartialEq, Eq)]
pub struct Counts {
    /// By database.
    pub sizes: Vec<i64>,
    pub keys: i64,
    pub expires: i64,
}

/// A key as the server gave it.
#[derive(Debug)]
pub struct Found {
    pub value: Vec<u8>,
    pub expiry: Option<i64>,
}

/// A key as the model has it. Cheap to copy.
#[derive(Clone, PartialEq)]
pub struct Held {
    pub value: Bytes,
    /// Unix milliseconds, between these two.
    pub expiry: Option<(i64, i64)>,
}

pub fn agrees(held: Option<&Held>, found: Option<&Found>) -> bool {
    match (held, found) {
        (None, None) => true,
        (Some(held), Some(found)) => {
            let expiry = match (held.expiry, found.expiry) {
                (None, None) => true,
                (Some((from, to)), Some(at)) => (from..=to).contains(&at),
                _ => false,
            };
            *held.value == *found.value && expiry
        }
        _ => false,
    }
}

pub fn name(key: u64) -> String {
    format!("key:{key}")
}

/// The reply to `PEXPIRETIME`.
pub fn expiry_of(reply: &Value) -> Option<i64> {
    let digits = reply.texts().remove(0);
    let at: i64 = String::from_utf8_lossy(&digits).parse().expect("an integer");
    (at >= 0).then_some(at)
}

/// A command; keys and databases by their index.
#[derive(Clone)]
pub enum Op {
    Set(u64, Bytes),
    SetPx(u64, Bytes, i64),
    SetEx(u64, Bytes, i64),
    SetKeepTtl(u64, Bytes),
    Mset(Vec<(u64, Bytes)>),
    Del(Vec<u64>),
    GetDel(u64),
    Append(u64, Bytes),
    SetRange(u64, usize, Bytes),
    Incr(u64),
    /// In quarters, which floating point holds exactly.
    IncrByFloat(u64, i64),
    Expire(u64, i64),
    Persist(u64),
    Rename(u64, u64),
    Copy(u64, u64, usize),
    Move(u64, usize),
    Get(u64),
    FlushDb,
    FlushAll,
    SwapDb(usize, usize),
    Select(usize),
    BgSave,
    /// Drops what is clean from memory.
    Reload,
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.words().iter().enumerate() {
            let cut = show(&word[..word.len().min(24)]);
            let more = if word.len() > 24 {
                format!("…({})", word.len())
            } else {
                String::new()
            };
            write!(f, "{}{cut}{more}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl Op {
    pub fn words(&self) -> Vec<Vec<u8>> {
        let text =
            |words: String| -> Vec<Vec<u8>> { words.split(' ').map(|w| w.as_bytes().to_vec()).collect() };
        let with = |words: String, value: &Bytes| -> Vec<Vec<u8>> {
            let mut words = text(words);
            words.push(value.to_vec());
            words
        };
        match self {
            Op::Set(key, value) => with(format!("SET {}", name(*key)), value),
            Op::SetPx(key, value, ms) => [
                with(format!("SET {}", name(*key)), value),
                text(format!("PX {ms}")),
            ]
            .concat(),
            Op::SetEx(key, value, s) => with(format!("SETEX {} {s}", name(*key)), value),
            Op::SetKeepTtl(key, value) => {
                [with(format!("SET {}", name(*key)), value), text("KEEPTTL".into())].concat()
            }
            Op::Mset(pairs) => {
                let pairs = pairs
                    .iter()
                    .flat_map(|(key, value)| [name(*key).into_bytes(), value.to_vec()]);
                std::iter::once(b"MSET".to_vec()).chain(pairs).collect()
            }
            Op::Del(keys) => {
                let keys = keys.iter().map(|key| name(*key).into_bytes());
                std::iter::once(b"DEL".to_vec()).chain(keys).collect()
            }
            Op::GetDel(key) => text(format!("GETDEL {}", name(*key))),
            Op::Append(key, value) => with(format!("APPEND {}", name(*key)), value),
            Op::SetRange(key, at, value) => with(format!("SETRANGE {} {at}", name(*key)), value),
            Op::Incr(key) => text(format!("INCR {}", name(*key))),
            Op::IncrByFloat(key, quarters) => {
                text(format!("INCRBYFLOAT {} {}", name(*key), *quarters as f64 / 4.0))
            }
            Op::Expire(key, seconds) => text(format!("EXPIRE {} {seconds}", name(*key))),
            Op::Persist(key) => text(format!("PERSIST {}", name(*key))),
            Op::Rename(from, to) => text(format!("RENAME {} {}", name(*from), name(*to))),
            Op::Copy(from, to, db) => text(format!(
                "COPY {} {} DB {} REPLACE",
                name(*from),
                name(*to),
                DATABASES[*db]
            )),
            Op::Move(key, db) => text(format!("MOVE {} {}", name(*key), DATABASES[*db])),
            Op::Get(key) => text(format!("GET {}", name(*key))),
            Op::FlushDb => text("FLUSHDB".into()),
            Op::FlushAll => text("FLUSHALL".into()),
            Op::SwapDb(a, b) => text(format!("SWAPDB {} {}", DATABASES[*a], DATABASES[*b])),
            Op::Select(db) => text(format!("SELECT {}", DATABASES[*db])),
            Op::BgSave => text("BGSAVE".into()),
            Op::Reload => text("DEBUG RELOAD".into()),
        }
    }

    /// The key whose expiry the server works out from its own clock.
    pub fn key_with_new_ttl(&self) -> Option<u64> {
        match self {
            Op::SetPx(key, ..) | Op::SetEx(key, ..) | Op::Expire(key, _) => Some(*key),
            _ => None,
        }
    }
}

#[derive(Clone, Default)]
pub struct Model {
    /// By index in `DATABASES`.
    pub databases: [HashMap<u64, Held>; 3],
    /// What the connection has selected.
    pub selected: usize,
}

impl Model {
    pub fn current(&mut self) -> &mut HashMap<u64, Held> {
        &mut self.databases[self.selected]
    }

    pub fn counts(&self) -> Counts {
        let expires =
            |db: &HashMap<u64, Held>| db.values().filter(|held| held.expiry.is_some()).count() as i64;
        let sizes: Vec<i64> = self.databases.iter().map(|db| db.len() as i64).collect();
        Counts {
            keys: sizes.iter().sum(),
            expires: self.databases.iter().map(expires).sum(),
            sizes,
        }
    }

    /// The first key in which the model and the server differ; `found` is by database and key.
    pub fn difference(&self, found: &[Vec<Option<Found>>]) -> Option<String> {
        for (db, found) in found.iter().enumerate() {
            for (key, found) in found.iter().enumerate() {
                let held = self.databases[db].get(&(key as u64));
                if !agrees(held, found.as_ref()) {
                    let held = held.map(|held| (show(&held.value), held.expiry));
                    let found = found.as_ref().map(|found| (show(&found.value), found.expiry));
                    let place = format!("{} of database {}", name(key as u64), DATABASES[db]);
                    return Some(format!("{place} is {found:?}, should be {held:?}"));
                }
            }
        }
        None
    }

    /// The next command, one that the model can follow.
    pub fn choose(&self, rng: &mut Rng) -> Op {
        let key = rng.u64(..KEYS);
        let other = rng.u64(..KEYS);
        let held = self.databases[self.selected]
            .get(&key)
            .map_or(&b""[..], |held| &held.value);
        let editable = held.len() < VALUE_MAX;
        let floats = !self.databases[self.selected].contains_key(&key) || quarters(held).is_some();
        let elsewhere = (self.selected + rng.usize(1..DATABASES.len())) % DATABASES.len();
        match rng.u32(..1000) {
            0..150 => Op::Set(key, value(rng)),
            150..200 => Op::SetPx(key, value(rng), rng.i64(1_000_000..9_000_000)),
            200..230 => Op::SetEx(key, value(rng), rng.i64(1_000..9_000)),
            230..250 => Op::SetKeepTtl(key, value(rng)),
            250..300 => Op::Mset(
                (0..rng.u64(1..6))
                    .map(|_| (rng.u64(..KEYS), value(rng)))
                    .collect(),
            ),
            300..350 => Op::Del((0..rng.u64(1..4)).map(|_| rng.u64(..KEYS)).collect()),
            350..380 => Op::GetDel(key),
            380..460 if editable => Op::Append(key, value(rng)),
            460..530 if editable => Op::SetRange(key, rng.usize(..300), value(rng)),
            530..580 => Op::Incr(key),
            580..640 if floats => Op::IncrByFloat(key, rng.i64(-9..90)),
            640..700 => Op::Expire(
                key,
                if rng.u32(..6) == 0 {
                    -1
                } else {
                    rng.i64(1_000..9_000)
                },
            ),
            700..750 => Op::Persist(key),
            750..800 if key != other => Op::Rename(key, other),
            800..830 => Op::Copy(key, other, elsewhere),
            830..850 if key != other => Op::Copy(key, other, self.selected),
            850..890 => Op::Move(key, elsewhere),
            890..910 => Op::Get(key),
            910..917 => Op::FlushDb,
            917..920 => Op::FlushAll,
            920..935 => Op::SwapDb(self.selected, elsewhere),
            935..950 => Op::Select(elsewhere),
            950..980 => Op::BgSave,
            980..990 => Op::Reload,
            _ => Op::Set(key, rng.i64(-50..50).to_string().into_bytes().into()),
        }
    }

    /// Does what the server does. Returns the reply, as `show` shows it, where it is easy to tell.
    pub fn apply(&mut self, op: &Op) -> Option<String> {
        let ok = Some("+OK\\r\\n".to_string());
        match op {
            Op::Set(key, value) => self.put(*key, value, None),
            Op::SetPx(key, value, ms) => self.put(*key, value, Some(in_ms(*ms))),
            Op::SetEx(key, value, s) => self.put(*key, value, Some(in_ms(s * 1000))),
            Op::SetKeepTtl(key, value) => {
                let expiry = self.current().get(key).and_then(|held| held.expiry);
                self.put(*key, value, expiry);
            }
            Op::Mset(pairs) => pairs.iter().for_each(|(key, value)| self.put(*key, value, None)),
            Op::Select(db) => self.selected = *db,
            Op::FlushDb => self.current().clear(),
            Op::FlushAll => self.databases.iter_mut().for_each(HashMap::clear),
            Op::SwapDb(a, b) => self.databases.swap(*a, *b),
            Op::Reload => {}
            Op::BgSave => return None,
            Op::Rename(from, to) => {
                let Some(held) = self.current().remove(from) else {
                    return Some("-ERR no such key\\r\\n".into());
                };
                self.current().insert(*to, held);
            }
            Op::Get(key) => return Some(bulk(self.current().get(key))),
            Op::GetDel(key) => return Some(bulk(self.current().remove(key).as_ref())),
            Op::IncrByFloat(key, by) => return Some(self.add_quarters(*key, *by)),
            _ => return self.apply_counted(op),
        }
        ok
    }

    /// Commands that reply with a number.
    fn apply_counted(&mut self, op: &Op) -> Option<String> {
        let number = match op {
            Op::Del(keys) => keys
                .iter()
                .filter(|key| self.current().remove(key).is_some())
                .count() as i64,
            Op::Append(key, tail) => self.edit(*key, |value| value.extend_from_slice(tail)),
            // Nothing to write makes no key either.
            Op::SetRange(key, _, part) if part.is_empty() => {
                self.current().get(key).map_or(0, |held| held.value.len() as i64)
            }
            Op::SetRange(key, at, part) => self.edit(*key, |value| {
                value.resize(value.len().max(at + part.len()), 0);
                value[*at..at + part.len()].copy_from_slice(part);
            }),
            Op::Incr(key) => return Some(self.increment(*key)),
            Op::Expire(key, s) if *s < 0 => i64::from(self.current().remove(key).is_some()),
            Op::Expire(key, s) => match self.current().get_mut(key) {
                Some(held) => {
                    held.expiry = Some(in_ms(s * 1000));
                    1
                }
                None => 0,
            },
            Op::Persist(key) => {
                let held = self.current().get_mut(key);
                i64::from(held.is_some_and(|held| held.expiry.take().is_some()))
            }
            Op::Copy(from, to, db) => match self.current().get(from).cloned() {
                Some(held) => {
                    self.databases[*db].insert(*to, held);
                    1
                }
                None => 0,
            },
            Op::Move(key, db) if !self.databases[*db].contains_key(key) => match self.current().remove(key) {
                Some(held) => {
                    self.databases[*db].insert(*key, held);
                    1
                }
                None => 0,
            },
            Op::Move(..) => 0,
            _ => return None,
        };
        Some(format!(":{number}\\r\\n"))
    }

    fn put(&mut self, key: u64, value: &Bytes, expiry: Option<(i64, i64)>) {
        let value = value.clone();
        self.current().insert(key, Held { value, expiry });
    }

    /// Changes a value, from an empty one where there is none; returns its length.
    fn edit(&mut self, key: u64, change: impl FnOnce(&mut Vec<u8>)) -> i64 {
        let empty = Held {
            value: Rc::from(&b""[..]),
            expiry: None,
        };
        let held = self.current().entry(key).or_insert(empty);
        let mut value = held.value.to_vec();
        change(&mut value);
        held.value = value.into();
        held.value.len() as i64
    }

    fn increment(&mut self, key: u64) -> String {
        let old = self.current().get(&key).map_or("0".into(), |held| {
            String::from_utf8_lossy(&held.value).into_owned()
        });
        let Some(number) = old.parse::<i64>().ok().filter(|number| number.to_string() == old) else {
            return "-ERR value is not an integer or out of range\\r\\n".into();
        };
        let text = (number + 1).to_string();
        self.edit(key, |value| *value = text.clone().into_bytes());
        format!(":{text}\\r\\n")
    }

    fn add_quarters(&mut self, key: u64, by: i64) -> String {
        let old = self
            .current()
            .get(&key)
            .map_or(Some(0), |held| quarters(&held.value));
        let sum = old.expect("chosen for a number") + by;
        let text = (sum as f64 / 4.0).to_string();
        self.edit(key, |value| *value = text.clone().into_bytes());
        format!("${}\\r\\n{text}\\r\\n", text.len())
    }
}

fn bulk(held: Option<&Held>) -> String {
    match held {
        Some(held) => show(
            &[
                format!("${}\r\n", held.value.len()).as_bytes(),
                &held.value,
                b"\r\n",
            ]
            .concat(),
        ),
        None => "$-1\\r\\n".into(),
    }
}

fn in_ms(ms: i64) -> (i64, i64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let at = since.as_millis() as i64 + ms;
    (at - CLOCK_SLACK_MS, at + CLOCK_SLACK_MS)
}

/// The number in a value that is written as INCRBYFLOAT writes it, four times itself.
fn quarters(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() < 12)?;
    let number: f64 = text.parse().ok()?;
    (number.to_string() == text && (number * 4.0).fract() == 0.0).then_some((number * 4.0) as i64)
}

/// Mostly short, sometimes long enough that a hundred of them fill a segment.
fn value(rng: &mut Rng) -> Bytes {
    let len = match rng.u32(..10) {
        0 => rng.usize(..1),
        1..8 => rng.usize(1..40),
        _ => rng.usize(40..3000),
    };
    let first = rng.u8(b'a'..=b'z');
    (0..len).map(|i| first.wrapping_add((i % 7) as u8)).collect()
}
