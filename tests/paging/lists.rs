//! The steps on lists.

use super::{List, World};

/// Of so many different elements some are equal.
const VALUES: u32 = 60;

pub fn key(number: u32) -> Vec<u8> {
    format!("list:{number}\0").into_bytes()
}

fn bulk(value: &[u8]) -> String {
    format!("${}\r\n{}\r\n", value.len(), String::from_utf8_lossy(value))
}

fn bulk_or_null(value: Option<&Vec<u8>>) -> String {
    value.map_or("$-1\r\n".into(), |value| bulk(value))
}

fn array<'a>(values: impl Iterator<Item = &'a Vec<u8>>) -> String {
    let bulks: Vec<String> = values.map(|value| bulk(value)).collect();
    format!("*{}\r\n{}", bulks.len(), bulks.concat())
}

fn int(number: impl std::fmt::Display) -> String {
    format!(":{number}\r\n")
}

fn text(number: impl std::fmt::Display) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn take(list: &mut List, front: bool) -> Option<Vec<u8>> {
    if front { list.pop_front() } else { list.pop_back() }
}

fn put(list: &mut List, front: bool, value: Vec<u8>) {
    if front {
        list.push_front(value)
    } else {
        list.push_back(value)
    }
}

impl World {
    fn list_key(&mut self) -> Vec<u8> {
        key(self.rng.u32(..3))
    }

    fn list_value(&mut self) -> Vec<u8> {
        match self.rng.u32(..30) {
            0 => vec![b'l'; 9000],
            1..10 => vec![b'v'; self.rng.usize(..40)],
            _ => text(self.rng.u32(..VALUES)),
        }
    }

    fn list(&self, key: &[u8]) -> List {
        self.model.lists.get(key).cloned().unwrap_or_default()
    }

    fn keep(&mut self, key: &[u8], list: List) {
        if list.is_empty() {
            self.model.lists.remove(key);
        } else {
            self.model.lists.insert(key.to_vec(), list);
        }
    }

    pub fn list_step(&mut self) {
        match self.rng.u32(..100) {
            0..35 => self.push(),
            35..60 => self.pop(),
            60..68 => self.move_element(),
            68..78 => self.read_range(),
            78..86 => self.set_index(),
            86..90 => self.trim(),
            90..95 => self.edit(),
            95..97 => self.delete_list(),
            _ => self.check_lists(),
        }
    }

    fn push(&mut self) {
        let (key, front) = (self.list_key(), self.rng.bool());
        let values: Vec<Vec<u8>> = (0..self.rng.usize(1..40)).map(|_| self.list_value()).collect();
        let mut list = self.list(&key);
        let name: &[u8] = if front { b"LPUSH" } else { b"RPUSH" };
        let mut words = vec![name, &key];
        words.extend(values.iter().map(Vec::as_slice));
        for value in &values {
            put(&mut list, front, value.clone());
        }
        self.expect(&words, &int(list.len()));
        self.keep(&key, list);
    }

    fn pop(&mut self) {
        let (key, front, count) = (self.list_key(), self.rng.bool(), self.rng.usize(1..30));
        let name: &[u8] = if front { b"LPOP" } else { b"RPOP" };
        let mut list = self.list(&key);
        if list.is_empty() {
            self.expect(&[name, &key], "$-1\r\n");
            return;
        }
        let taken: Vec<Vec<u8>> = (0..count).map_while(|_| take(&mut list, front)).collect();
        self.expect(&[name, &key, &text(count)], &array(taken.iter()));
        let next = take(&mut list, front);
        self.expect(&[name, &key], &bulk_or_null(next.as_ref()));
        self.keep(&key, list);
    }

    fn move_element(&mut self) {
        let (source, destination) = (self.list_key(), self.list_key());
        let (from, to) = (self.rng.bool(), self.rng.bool());
        let side = |front: bool| -> &[u8] { if front { b"LEFT" } else { b"RIGHT" } };
        let mut list = self.list(&source);
        let moved = take(&mut list, from);
        if source == destination {
            if let Some(moved) = &moved {
                put(&mut list, to, moved.clone());
            }
            self.keep(&source, list);
        } else if let Some(moved) = &moved {
            let mut other = self.list(&destination);
            put(&mut other, to, moved.clone());
            self.keep(&source, list);
            self.keep(&destination, other);
        }
        self.expect(
            &[b"LMOVE", &source, &destination, side(from), side(to)],
            &bulk_or_null(moved.as_ref()),
        );
    }

    fn read_range(&mut self) {
        let key = self.list_key();
        let list = self.list(&key);
        let len = list.len() as i64;
        let start = self.rng.i64(0..=len);
        let stop = start + self.rng.i64(0..50);
        let shift = if self.rng.bool() && stop < len { len } else { 0 };
        let range = start as usize..((stop + 1).min(len).max(start)) as usize;
        self.expect(
            &[b"LRANGE", &key, &text(start - shift), &text(stop - shift)],
            &array(list.range(range)),
        );
        self.expect(&[b"LLEN", &key], &int(len));
        self.expect(
            &[b"LINDEX", &key, &text(start - shift)],
            &bulk_or_null(list.get(start as usize)),
        );
    }

    fn set_index(&mut self) {
        let (key, value) = (self.list_key(), self.list_value());
        let mut list = self.list(&key);
        if list.is_empty() {
            return;
        }
        let index = self.rng.usize(..list.len());
        list[index] = value.clone();
        let shift = if self.rng.bool() { list.len() } else { 0 };
        self.expect(
            &[b"LSET", &key, &text(index as i64 - shift as i64), &value],
            "+OK\r\n",
        );
        self.keep(&key, list);
    }

    fn trim(&mut self) {
        let key = self.list_key();
        let mut list = self.list(&key);
        let from = self.rng.usize(..=list.len() / 4);
        let to = self.rng.usize(..=list.len() / 4);
        list.drain(..from);
        list.truncate(list.len() - to.min(list.len()));
        self.expect(&[b"LTRIM", &key, &text(from), &text(-(to as i64) - 1)], "+OK\r\n");
        self.keep(&key, list);
    }

    fn edit(&mut self) {
        let (key, wanted, value) = (self.list_key(), text(self.rng.u32(..VALUES)), self.list_value());
        let mut list = self.list(&key);
        if self.rng.bool() {
            let place = list.iter().position(|value| *value == wanted);
            let len = match place {
                _ if list.is_empty() => 0,
                None => -1,
                Some(at) => {
                    list.insert(at, value.clone());
                    list.len() as i64
                }
            };
            self.expect(&[b"LINSERT", &key, b"BEFORE", &wanted, &value], &int(len));
        } else {
            let before = list.len();
            list.retain(|value| *value != wanted);
            self.expect(&[b"LREM", &key, b"0", &wanted], &int(before - list.len()));
        }
        self.keep(&key, list);
    }

    fn delete_list(&mut self) {
        let key = self.list_key();
        let there = self.model.lists.remove(&key).is_some();
        self.expect(&[b"DEL", &key], &int(i64::from(there)));
    }

    pub fn check_lists(&mut self) {
        for number in 0..3 {
            let key = key(number);
            let list = self.list(&key);
            self.expect(&[b"LRANGE", &key, b"0", b"-1"], &array(list.iter()));
        }
    }
}
