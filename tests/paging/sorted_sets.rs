//! The steps on sorted sets.

use std::collections::BTreeMap;

use super::{World, strings};

/// Members with scores: whole numbers, of which some are alike.
pub type SortedSet = BTreeMap<Vec<u8>, i64>;
type Pairs = Vec<(Vec<u8>, i64)>;

const MEMBERS: u32 = 120;
const SCORES: i64 = 40;

pub fn key(number: u32) -> Vec<u8> {
    format!("zset:{number}\0").into_bytes()
}

fn int(number: impl std::fmt::Display) -> String {
    format!(":{number}\r\n")
}

fn text(number: impl std::fmt::Display) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn bulk_or_null(value: Option<i64>) -> String {
    value.map_or("$-1\r\n".into(), |value| {
        let value = value.to_string();
        format!("${}\r\n{value}\r\n", value.len())
    })
}

fn pairs(reply: &[u8]) -> Pairs {
    let score = |text: &[u8]| String::from_utf8_lossy(text).parse().expect("a whole number");
    let strings = strings(reply);
    let pairs = strings.chunks_exact(2);
    pairs.map(|pair| (pair[0].clone(), score(&pair[1]))).collect()
}

impl World {
    fn sorted_set(&self, key: &[u8]) -> SortedSet {
        self.model.sorted_sets.get(key).cloned().unwrap_or_default()
    }

    fn keep_sorted_set(&mut self, key: &[u8], set: SortedSet) {
        if set.is_empty() {
            self.model.sorted_sets.remove(key);
        } else {
            self.model.sorted_sets.insert(key.to_vec(), set);
        }
    }

    fn ordered(&self, key: &[u8]) -> Pairs {
        let mut all: Pairs = self.sorted_set(key).into_iter().collect();
        all.sort_by(|one, other| one.1.cmp(&other.1).then_with(|| one.0.cmp(&other.0)));
        all
    }

    fn sorted_set_key(&mut self) -> Vec<u8> {
        key(self.rng.u32(..3))
    }

    /// The key of a set that is there.
    fn filled(&mut self) -> Option<Vec<u8>> {
        let key = self.sorted_set_key();
        self.model.sorted_sets.contains_key(&key).then_some(key)
    }

    fn sorted_member(&mut self) -> Vec<u8> {
        self.rng.u32(..MEMBERS).to_string().into_bytes()
    }

    fn score(&mut self) -> i64 {
        self.rng.i64(-SCORES..SCORES)
    }

    pub fn sorted_set_step(&mut self) {
        match self.rng.u32(..100) {
            0..30 => self.add_scores(),
            30..38 => self.increment(),
            38..46 => self.remove_members(),
            46..54 => self.scores_of_members(),
            54..62 => self.pop_scores(),
            62..70 => self.range_by_index(),
            70..82 => self.range_by_score(),
            82..86 => self.remove_range(),
            86..90 => self.ranks(),
            90..93 => self.scan_sorted_set(),
            93..96 => self.range_by_member(),
            96 => self.delete_sorted_set(),
            _ => self.check_sorted_sets(),
        }
    }

    fn add_scores(&mut self) {
        let key = self.sorted_set_key();
        let mut set = self.sorted_set(&key);
        let rule = self.rng.usize(..5);
        let mut words = vec![b"ZADD".to_vec(), key.clone()];
        let rules: [&[&str]; 5] = [
            &["CH"],
            &["NX", "CH"],
            &["XX", "CH"],
            &["GT", "CH"],
            &["CH", "LT"],
        ];
        words.extend(rules[rule].iter().map(|word| word.as_bytes().to_vec()));
        let mut changed = 0;
        for _ in 0..self.rng.usize(1..30) {
            let (member, score) = (self.sorted_member(), self.score());
            let old = set.get(&member).copied();
            let sets = match (rule, old) {
                (1, old) => old.is_none(),
                (2, None) => false,
                (3, Some(old)) => score > old,
                (4, Some(old)) => score < old,
                _ => true,
            };
            if sets && old != Some(score) {
                changed += 1;
                set.insert(member.clone(), score);
            }
            words.extend([text(score), member]);
        }
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.expect(&words, &int(changed));
        self.keep_sorted_set(&key, set);
    }

    fn increment(&mut self) {
        let (key, member, by) = (self.sorted_set_key(), self.sorted_member(), self.score());
        let mut set = self.sorted_set(&key);
        let score = set.get(&member).copied().unwrap_or(0) + by;
        set.insert(member.clone(), score);
        self.expect(
            &[b"ZINCRBY", &key, &text(by), &member],
            &bulk_or_null(Some(score)),
        );
        self.keep_sorted_set(&key, set);
    }

    fn remove_members(&mut self) {
        let (key, one, other) = (self.sorted_set_key(), self.sorted_member(), self.sorted_member());
        let mut set = self.sorted_set(&key);
        let gone = [&one, &other]
            .iter()
            .filter(|member| set.remove(**member).is_some())
            .count();
        self.expect(&[b"ZREM", &key, &one, &other], &int(gone));
        self.keep_sorted_set(&key, set);
    }

    fn scores_of_members(&mut self) {
        let (key, one, other) = (self.sorted_set_key(), self.sorted_member(), self.sorted_member());
        let set = self.sorted_set(&key);
        let score = |member: &Vec<u8>| bulk_or_null(set.get(member).copied());
        self.expect(&[b"ZSCORE", &key, &one], &score(&one));
        let both = format!("*2\r\n{}{}", score(&one), score(&other));
        self.expect(&[b"ZMSCORE", &key, &one, &other], &both);
        self.expect(&[b"ZCARD", &key], &int(set.len()));
    }

    fn pop_scores(&mut self) {
        let (key, count, back) = (self.sorted_set_key(), self.rng.usize(1..10), self.rng.bool());
        let name: &[u8] = if back { b"ZPOPMAX" } else { b"ZPOPMIN" };
        let popped = self.run(&[name, &key, &text(count)]);
        let mut expected = self.ordered(&key);
        if back {
            expected.reverse();
        }
        expected.truncate(count);
        assert_eq!(pairs(&popped), expected);
        let mut set = self.sorted_set(&key);
        set.retain(|member, _| !expected.iter().any(|(gone, _)| gone == member));
        self.keep_sorted_set(&key, set);
    }

    fn range_by_index(&mut self) {
        let key = self.sorted_set_key();
        let mut expected = self.ordered(&key);
        let len = expected.len();
        let start = self.rng.usize(..=len);
        let stop = start + self.rng.usize(..20);
        let shift = if self.rng.bool() && stop < len {
            len as i64
        } else {
            0
        };
        let (from, to) = (text(start as i64 - shift), text(stop as i64 - shift));
        let reply = if self.rng.bool() {
            expected.reverse();
            self.run(&[b"ZREVRANGE", &key, &from, &to, b"WITHSCORES"])
        } else {
            self.run(&[b"ZRANGE", &key, &from, &to, b"WITHSCORES"])
        };
        let range = start..(stop + 1).min(len).max(start);
        assert_eq!(pairs(&reply), expected[range], "{start} {stop} of {len}");
    }

    fn range_by_score(&mut self) {
        let (key, low, high) = (self.sorted_set_key(), self.score(), self.score());
        let mut expected = self.ordered(&key);
        expected.retain(|(_, score)| low <= *score && *score <= high);
        let (low, high) = (text(low), text(high));
        self.expect(&[b"ZCOUNT", &key, &low, &high], &int(expected.len()));
        let (offset, count) = (self.rng.usize(..4), self.rng.usize(..8));
        let reverse = self.rng.bool();
        let (name, low, high): (&[u8], _, _) = if reverse {
            expected.reverse();
            (b"ZREVRANGEBYSCORE", high, low)
        } else {
            (b"ZRANGEBYSCORE", low, high)
        };
        let mut words: Vec<&[u8]> = vec![name, &key, &low, &high, b"WITHSCORES"];
        let (offset_text, count_text) = (text(offset), text(count));
        if self.rng.bool() {
            words.extend([&b"LIMIT"[..], &offset_text, &count_text]);
            expected = expected.into_iter().skip(offset).take(count).collect();
        }
        assert_eq!(pairs(&self.run(&words)), expected, "{}", words.len());
    }

    fn remove_range(&mut self) {
        let key = self.sorted_set_key();
        let all = self.ordered(&key);
        let removed: Pairs = if self.rng.bool() {
            let low = self.score();
            let removed: Pairs = all
                .into_iter()
                .filter(|(_, score)| (low..=low + 4).contains(score))
                .collect();
            let words: [&[u8]; 4] = [b"ZREMRANGEBYSCORE", &key, &text(low), &text(low + 4)];
            self.expect(&words, &int(removed.len()));
            removed
        } else {
            let start = self.rng.usize(..=all.len());
            let removed: Pairs = all.into_iter().skip(start).take(4).collect();
            let words: [&[u8]; 4] = [b"ZREMRANGEBYRANK", &key, &text(start), &text(start + 3)];
            self.expect(&words, &int(removed.len()));
            removed
        };
        let mut set = self.sorted_set(&key);
        set.retain(|member, _| !removed.iter().any(|(gone, _)| gone == member));
        self.keep_sorted_set(&key, set);
    }

    fn ranks(&mut self) {
        let (key, member) = (self.sorted_set_key(), self.sorted_member());
        let all = self.ordered(&key);
        let rank = all.iter().position(|(other, _)| *other == member);
        let shown = |rank: Option<usize>| rank.map_or("$-1\r\n".into(), int);
        self.expect(&[b"ZRANK", &key, &member], &shown(rank));
        let from_end = rank.map(|rank| all.len() - 1 - rank);
        self.expect(&[b"ZREVRANK", &key, &member], &shown(from_end));
    }

    /// All scores are made the same first: else what is between two members says nothing.
    fn range_by_member(&mut self) {
        let Some(key) = self.filled() else { return };
        let members: Vec<Vec<u8>> = self.sorted_set(&key).into_keys().collect();
        let mut words: Vec<&[u8]> = vec![b"ZADD", &key];
        members
            .iter()
            .for_each(|member| words.extend([&b"7"[..], member]));
        self.run(&words);
        self.open.flush();
        if self.rng.bool() {
            self.open.keyspace.drop_all_clean();
        }
        let all = members.iter().cloned().map(|member| (member, 7)).collect();
        self.keep_sorted_set(&key, all);
        let (low, high) = (self.sorted_member(), self.sorted_member());
        let expected: Vec<&Vec<u8>> = members
            .iter()
            .filter(|member| low <= **member && **member < high)
            .collect();
        let (low, high) = ([b"[", &low[..]].concat(), [b"(", &high[..]].concat());
        self.expect(&[b"ZLEXCOUNT", &key, &low, &high], &int(expected.len()));
        let reply = self.run(&[b"ZRANGEBYLEX", &key, &low, &high, b"LIMIT", b"1", b"5"]);
        let expected: Vec<Vec<u8>> = expected.into_iter().skip(1).take(5).cloned().collect();
        assert_eq!(strings(&reply), expected);
    }

    /// A scan to its end, with elements going from memory meanwhile.
    fn scan_sorted_set(&mut self) {
        let key = self.sorted_set_key();
        let (mut cursor, mut met) = (b"0".to_vec(), Pairs::new());
        loop {
            let reply = self.run(&[b"ZSCAN", &key, &cursor, b"COUNT", b"7"]);
            let mut reply = strings(&reply);
            cursor = reply.remove(0);
            let score = |text: &[u8]| String::from_utf8_lossy(text).parse().expect("a number");
            met.extend(
                reply
                    .chunks_exact(2)
                    .map(|pair| (pair[0].clone(), score(&pair[1]))),
            );
            if cursor == b"0" {
                break;
            }
            if self.rng.u32(..3) == 0 {
                self.open.keyspace.drop_all_clean();
            }
        }
        met.sort_by(|one, other| one.1.cmp(&other.1).then_with(|| one.0.cmp(&other.0)));
        assert_eq!(met, self.ordered(&key), "ZSCAN, each once");
    }

    fn delete_sorted_set(&mut self) {
        let key = self.sorted_set_key();
        let there = self.model.sorted_sets.remove(&key).is_some();
        self.expect(&[b"DEL", &key], &int(i64::from(there)));
    }

    pub fn check_sorted_sets(&mut self) {
        for number in 0..3 {
            let key = key(number);
            let reply = self.run(&[b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"]);
            assert_eq!(pairs(&reply), self.ordered(&key));
        }
    }
}
