//! The steps on streams: entries of one field, and a group with one consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::World;

#[derive(Clone, Default)]
pub struct Stream {
    entries: BTreeMap<u64, Vec<u8>>,
    last: u64,
    /// How far the group has read, and what is pending in it.
    group: Option<(u64, BTreeSet<u64>)>,
}

pub fn key(number: u32) -> Vec<u8> {
    format!("stream:{number}\0").into_bytes()
}

fn id(number: u64) -> Vec<u8> {
    format!("{number}-0").into_bytes()
}

fn bulk(value: &[u8]) -> String {
    format!("${}\r\n{}\r\n", value.len(), String::from_utf8_lossy(value))
}

fn entry(number: u64, value: &[u8]) -> String {
    format!("*2\r\n{}*2\r\n$1\r\nf\r\n{}", bulk(&id(number)), bulk(value))
}

fn array<'a>(entries: impl Iterator<Item = (&'a u64, &'a Vec<u8>)>) -> String {
    let (mut out, mut count) = (String::new(), 0);
    for (number, value) in entries {
        out += &entry(*number, value);
        count += 1;
    }
    format!("*{count}\r\n{out}")
}

impl Stream {
    fn keep_newest(&mut self, most: usize) -> usize {
        let over = self.entries.len().saturating_sub(most);
        (0..over).for_each(|_| drop(self.entries.pop_first()));
        over
    }
}

impl World {
    fn stream_key(&mut self) -> Vec<u8> {
        key(self.rng.u32(..2))
    }

    fn stream(&self, key: &[u8]) -> Stream {
        self.model.streams.get(key).cloned().unwrap_or_default()
    }

    pub fn stream_step(&mut self) {
        match self.rng.u32(..100) {
            0..35 => self.add(),
            35..42 => self.trim_stream(),
            42..52 => self.delete_entries(),
            52..72 => self.read_entries(),
            72..85 => self.read_as_group(),
            85..92 => self.acknowledge(),
            92..94 => self.delete_stream(),
            _ => self.check_streams(),
        }
    }

    fn add(&mut self) {
        let key = self.stream_key();
        let mut stream = self.stream(&key);
        for _ in 0..self.rng.usize(1..20) {
            let number = stream.last + self.rng.u64(1..3);
            let value = vec![b'v'; self.rng.usize(..30)];
            stream.entries.insert(number, value.clone());
            stream.last = number;
            let (most, id) = (self.rng.usize(..60), id(number));
            if self.rng.u32(..20) == 0 {
                stream.keep_newest(most);
                let most = most.to_string().into_bytes();
                let words: [&[u8]; 8] = [b"XADD", &key, b"MAXLEN", b"=", &most, &id, b"f", &value];
                self.expect(&words, &bulk(&id));
            } else {
                self.expect(&[b"XADD", &key, &id, b"f", &value], &bulk(&id));
            }
        }
        self.model.streams.insert(key, stream);
    }

    /// A place in a stream or near it.
    fn number(&mut self, stream: &Stream) -> u64 {
        let first = stream.entries.first_key_value().map_or(0, |(first, _)| *first);
        self.rng.u64(first.saturating_sub(3)..=stream.last + 3)
    }

    fn trim_stream(&mut self) {
        let key = self.stream_key();
        let mut stream = self.stream(&key);
        let (name, least): (&[u8], Vec<u8>);
        let before = stream.entries.len();
        if self.rng.bool() {
            let most = self.rng.usize(before / 2..=before);
            stream.keep_newest(most);
            (name, least) = (b"MAXLEN", most.to_string().into_bytes());
        } else {
            let from = self.number(&stream);
            stream.entries = stream.entries.split_off(&from);
            (name, least) = (b"MINID", id(from));
        }
        let trimmed = before - stream.entries.len();
        self.expect(&[b"XTRIM", &key, name, b"=", &least], &format!(":{trimmed}\r\n"));
        self.keep_stream(key, stream);
    }

    fn keep_stream(&mut self, key: Vec<u8>, stream: Stream) {
        if self.model.streams.contains_key(&key) {
            self.model.streams.insert(key, stream);
        }
    }

    fn delete_entries(&mut self) {
        let key = self.stream_key();
        let mut stream = self.stream(&key);
        let mut numbers: Vec<u64> = (0..2).map(|_| self.number(&stream)).collect();
        numbers.extend(stream.entries.keys().next().filter(|_| self.rng.bool()));
        let ids: Vec<Vec<u8>> = numbers.iter().map(|number| id(*number)).collect();
        let deleted = numbers
            .iter()
            .filter(|number| stream.entries.remove(number).is_some())
            .count();
        let mut words: Vec<&[u8]> = vec![b"XDEL", &key];
        words.extend(ids.iter().map(Vec::as_slice));
        self.expect(&words, &format!(":{deleted}\r\n"));
        self.keep_stream(key, stream);
    }

    fn read_entries(&mut self) {
        let key = self.stream_key();
        let stream = self.stream(&key);
        let (from, count) = (self.number(&stream), self.rng.usize(1..30));
        let to = from + self.rng.u64(..60);
        let (start, end, most) = (id(from), id(to), count.to_string().into_bytes());
        self.expect(
            &[b"XRANGE", &key, &start, &end, b"COUNT", &most],
            &array(stream.entries.range(from..=to).take(count)),
        );
        self.expect(
            &[b"XREVRANGE", &key, &end, &start, b"COUNT", &most],
            &array(stream.entries.range(from..=to).rev().take(count)),
        );
        self.expect(&[b"XLEN", &key], &format!(":{}\r\n", stream.entries.len()));
        let found = array(stream.entries.range(from + 1..).take(count));
        let reply = match found.as_str() {
            "*0\r\n" => "*-1\r\n".into(),
            found => format!("*1\r\n*2\r\n{}{found}", bulk(&key)),
        };
        self.expect(&[b"XREAD", b"COUNT", &most, b"STREAMS", &key, &start], &reply);
    }

    fn read_as_group(&mut self) {
        let key = self.stream_key();
        let mut stream = self.stream(&key);
        if !self.model.streams.contains_key(&key) {
            return;
        }
        let Some((last, pending)) = &mut stream.group else {
            self.expect(&[b"XGROUP", b"CREATE", &key, b"g", b"0"], "+OK\r\n");
            stream.group = Some(Default::default());
            return self.keep_stream(key, stream);
        };
        let count = self.rng.usize(1..20);
        let new: Vec<(u64, Vec<u8>)> = stream
            .entries
            .range(*last + 1..)
            .take(count)
            .map(|(number, value)| (*number, value.clone()))
            .collect();
        pending.extend(new.iter().map(|(number, _)| *number));
        *last = new.last().map_or(*last, |(number, _)| *number);
        let reply = match new.len() {
            0 => "*-1\r\n".into(),
            _ => {
                let entries = array(new.iter().map(|(number, value)| (number, value)));
                format!("*1\r\n*2\r\n{}{entries}", bulk(&key))
            }
        };
        let count = count.to_string();
        self.read_group((&key, b">"), count.as_bytes(), &reply);
        self.keep_stream(key, stream);
    }

    fn read_group(&mut self, (key, from): (&[u8], &[u8]), count: &[u8], reply: &str) {
        let words: [&[u8]; 9] = [
            b"XREADGROUP",
            b"GROUP",
            b"g",
            b"c",
            b"COUNT",
            count,
            b"STREAMS",
            key,
            from,
        ];
        self.expect(&words, reply);
    }

    fn acknowledge(&mut self) {
        let key = self.stream_key();
        let mut stream = self.stream(&key);
        let Some((_, pending)) = &mut stream.group else {
            return;
        };
        let mut shown = format!("*1\r\n*2\r\n{}*{}\r\n", bulk(&key), pending.len().min(5));
        for number in pending.iter().take(5) {
            match stream.entries.get(number) {
                Some(value) => shown += &entry(*number, value),
                None => write!(shown, "*2\r\n{}*-1\r\n", bulk(&id(*number))).expect("a string"),
            }
        }
        self.read_group((&key, b"0"), b"5", &shown);
        if let Some(first) = pending.pop_first() {
            self.expect(&[b"XACK", &key, b"g", &id(first)], ":1\r\n");
        }
        self.keep_stream(key, stream);
    }

    fn delete_stream(&mut self) {
        let key = self.stream_key();
        let there = self.model.streams.remove(&key).is_some();
        self.expect(&[b"DEL", &key], &format!(":{}\r\n", i64::from(there)));
    }

    pub fn check_streams(&mut self) {
        for number in 0..2 {
            let key = key(number);
            let stream = self.stream(&key);
            self.expect(&[b"XRANGE", &key, b"-", b"+"], &array(stream.entries.iter()));
        }
    }
}
