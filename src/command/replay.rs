//! Applying the journal's records again after a start.
//!
//! A record holds effects: commands that change one key each, `SELECT`, `MULTI`/`EXEC` around a group, and the few
//! that change whole databases. An effect that a key's row holds already is passed over.

use super::args::Args;
use super::execute::resolve;
use super::spec::{Handler, flag};
use super::table::{self, Finder};
use crate::config::Tier;
use crate::journal::record::RecordHeader;
use crate::journal::{Record, Rejection};
use crate::keyspace::range::DBS;
use crate::keyspace::{Call, Effects, Keyspace};
use crate::resp::{Batch, Limits, Parser, Protocol, Reply};
use smallvec::SmallVec;

/// Effects parsed at once.
const EFFECTS_AT_ONCE: usize = 64;
/// Records whose keys are brought near together.
const WINDOW: usize = 32;
/// Fewer records than these are applied by one thread: to start others would take longer.
const SHARED_FROM: usize = 512;
/// Where records that concern many keys are so frequent in a group, one thread goes on alone.
const STOPS_MOST: usize = 16;
/// More threads than these would mostly read what is for others.
const HANDS_MOST: usize = 8;

/// Applies records, those about different keys at once.
///
/// Several hands go over the same records, each on a thread of its own, and each applies what is about the keys of its
/// part of the shards: so the effects on a key keep their order. At a record with an effect on more than one key all of
/// them stop; when they have, it is applied by one, and they go on behind it.
pub struct Replayer {
    hands: Vec<Hand>,
}

/// Which shards are whose: those whose number leaves this remainder.
#[derive(Clone, Copy)]
struct Part {
    me: usize,
    of: usize,
}

impl Part {
    const ALL: Part = Part { me: 0, of: 1 };

    fn has(self, keyspace: &Keyspace, db: u8, key: &[u8]) -> bool {
        self.of == 1 || keyspace.shard_number(db, key) % self.of == self.me
    }
}

/// Whether an effect, or a record, is one for this hand.
enum Reach {
    Done,
    /// It concerns more than one key, and others are at work.
    TooFar,
}

/// Where a hand has stopped: at which record, before which of its effects.
type Stop = (usize, usize);

impl Replayer {
    /// With as many hands as there are processors, within reason.
    pub fn new(now_ms: i64) -> Replayer {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Replayer::with_hands(now_ms, processors.min(HANDS_MOST))
    }

    fn with_hands(now_ms: i64, hands: usize) -> Replayer {
        Replayer {
            hands: (0..hands.max(1)).map(|_| Hand::new(now_ms)).collect(),
        }
    }

    /// Applies records in order, as far as order matters. An error says what in them is not an effect.
    pub fn apply(&mut self, keyspace: &Keyspace, records: &[Record<'_>]) -> Result<(), Rejection> {
        let (mut from, mut stops) = (0, 0);
        while from < records.len() {
            let alone = records.len() - from < SHARED_FROM || stops >= STOPS_MOST;
            let hands = if alone { 1 } else { self.hands.len() };
            let Some((record, effect)) = apply_together(&mut self.hands[..hands], keyspace, records, from)?
            else {
                return Ok(());
            };
            self.hands[0]
                .apply_rest(keyspace, &records[record], effect)
                .map_err(|why| Rejection { record, why })?;
            from = record + 1;
            stops += 1;
        }
        Ok(())
    }
}

/// Each hand applies its part, from a record on. They all stop at the same place, if at any.
fn apply_together(
    hands: &mut [Hand],
    keyspace: &Keyspace,
    records: &[Record<'_>],
    from: usize,
) -> Result<Option<Stop>, Rejection> {
    let of = hands.len();
    let Some((first, others)) = hands.split_first_mut() else {
        return Ok(None);
    };
    std::thread::scope(|scope| {
        let apply = |me: usize, hand: &mut Hand| hand.apply(keyspace, records, from, Part { me, of });
        let others: Vec<_> = (1..)
            .zip(others)
            .map(|(me, hand)| scope.spawn(move || apply(me, hand)))
            .collect();
        let mut result = apply(0, first);
        for other in others {
            let its = other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = match (result, its) {
                (Err(mine), Err(its)) if its.record < mine.record => Err(its),
                (Ok(mine), Ok(its)) if mine != its => Err(Rejection {
                    record: mine.or(its).map_or(from, |(record, _)| record),
                    why: "threads of the replay disagree on whose it is".into(),
                }),
                (Ok(_), its) => its,
                (mine, _) => mine,
            };
        }
        result
    })
}

struct Hand {
    batches: Vec<Batch>,
    hashes: Vec<u64>,
    finder: Finder,
    limits: Limits,
    effects: Effects,
    reply: Reply,
    now_ms: i64,
}

impl Hand {
    fn new(now_ms: i64) -> Hand {
        let limits = Limits {
            max_bulk_len: usize::MAX,
            max_multibulk_len: usize::MAX,
            max_inline_len: 1 << 16,
            authenticated: true,
        };
        Hand {
            batches: (0..WINDOW).map(|_| Batch::new()).collect(),
            hashes: Vec::new(),
            finder: Finder::by_own_names(),
            limits,
            effects: Effects::default(),
            reply: Reply::new(Protocol::Resp2),
            now_ms,
        }
    }

    fn apply(
        &mut self,
        keyspace: &Keyspace,
        records: &[Record<'_>],
        from: usize,
        part: Part,
    ) -> Result<Option<Stop>, Rejection> {
        let mut batches = std::mem::take(&mut self.batches);
        let mut next = from;
        let mut stop = Ok(None);
        while next < records.len() && matches!(stop, Ok(None)) {
            stop = self.apply_window(keyspace, (records, &mut next), &mut batches, part);
        }
        self.batches = batches;
        stop
    }

    /// Applies the records of this part until so many were found, or all have been seen.
    fn apply_window(
        &mut self,
        keyspace: &Keyspace,
        (records, next): (&[Record<'_>], &mut usize),
        batches: &mut [Batch],
        part: Part,
    ) -> Result<Option<Stop>, Rejection> {
        let mut window = SmallVec::<[(usize, usize); WINDOW]>::new();
        while window.len() < batches.len() && *next < records.len() {
            let (record, batch) = (*next, &mut batches[window.len()]);
            let payload = records[record].1;
            let taken = self
                .parse(payload, batch)
                .map_err(|why| Rejection { record, why })?;
            let is_one = batch.len() == 1 && taken == payload.len();
            // Of one key for certain: what has more makes every hand stop, so none may pass it over.
            let others = is_one
                && table::sole_key(&batch.request(0, payload), &mut self.finder)
                    .is_some_and(|key| !part.has(keyspace, 0, key));
            if !others {
                window.push((record, taken));
            }
            *next += 1;
        }
        let finder = &mut self.finder;
        let requests = window
            .iter()
            .zip(&*batches)
            .filter(|(_, batch)| !batch.is_empty());
        let keys = requests
            .filter_map(|((record, _), batch)| table::aim(&batch.request(0, records[*record].1), finder));
        keyspace.prefetch(0, keys, &mut self.hashes);
        for ((record, taken), batch) in window.into_iter().zip(batches) {
            let effect = self
                .apply_record(keyspace, &records[record], (batch, taken), (0, part))
                .map_err(|why| Rejection { record, why })?;
            if let Some(effect) = effect {
                return Ok(Some((record, effect)));
            }
        }
        Ok(None)
    }

    /// Applies the effects of a record behind so many that have been applied.
    fn apply_rest(&mut self, keyspace: &Keyspace, record: &Record<'_>, done: usize) -> Result<(), String> {
        let mut batch = Batch::new();
        let taken = self.parse(record.1, &mut batch)?;
        self.apply_record(keyspace, record, (&mut batch, taken), (done, Part::ALL))?;
        Ok(())
    }

    /// Finds effects at the start of `bytes`; returns how many bytes they take.
    fn parse(&self, bytes: &[u8], batch: &mut Batch) -> Result<usize, String> {
        let (taken, error) = Parser::new().parse(bytes, &self.limits, batch, EFFECTS_AT_ONCE);
        match error {
            Some(error) => Err(error.to_string()),
            None if taken == 0 => Err("an effect is cut short".into()),
            None => Ok(taken),
        }
    }

    /// Applies effects of a record, of which the first `done` have been applied; the batch has those in the first
    /// `taken` bytes. Returns the number of the effect that is too far for this part.
    fn apply_record(
        &mut self,
        keyspace: &Keyspace,
        (header, payload): &Record<'_>,
        (batch, mut taken): (&mut Batch, usize),
        (done, part): (usize, Part),
    ) -> Result<Option<usize>, String> {
        let (mut db, mut at, mut count) = (0, 0, 0);
        loop {
            for i in 0..batch.len() {
                let words: SmallVec<[&[u8]; 8]> = batch.request(i, &payload[at..]).iter().collect();
                let args = Args::new(&words);
                if &args[0] == b"SELECT" {
                    db = number(&args, 1)?;
                } else if count >= done
                    && let Reach::TooFar = self.apply_one(keyspace, header, db, (&args, part))?
                {
                    return Ok(Some(count));
                }
                count += 1;
            }
            at += taken;
            if at >= payload.len() {
                return Ok(None);
            }
            taken = self.parse(&payload[at..], batch)?;
        }
    }

    fn apply_one(
        &mut self,
        keyspace: &Keyspace,
        header: &RecordHeader,
        db: u8,
        (args, part): (&Args<'_>, Part),
    ) -> Result<Reach, String> {
        match &args[0] {
            b"MULTI" | b"EXEC" => {}
            b"SWAPDB" | b"FLUSHDB" | b"FLUSHALL" | b"RANGE" if part.of > 1 => return Ok(Reach::TooFar),
            b"SWAPDB" => keyspace.exchange(number(args, 1)?, number(args, 2)?),
            b"FLUSHDB" => keyspace
                .replay_flush_db(Some(db), header.end())
                .map_err(|error| error.to_string())?,
            b"FLUSHALL" => keyspace
                .replay_flush_db(None, header.end())
                .map_err(|error| error.to_string())?,
            b"RANGE" => apply_range(keyspace, header, args.all())?,
            _ => return self.apply_data(keyspace, header, db, (args, part)),
        }
        Ok(Reach::Done)
    }

    fn apply_data(
        &mut self,
        keyspace: &Keyspace,
        header: &RecordHeader,
        db: u8,
        (args, part): (&Args<'_>, Part),
    ) -> Result<Reach, String> {
        let spec = resolve(args, &mut self.finder)
            .ok()
            .filter(|spec| spec.has(flag::WRITE) && spec.accepts(args.len()));
        let Some((spec, Handler::Data(handler))) = spec.map(|spec| (spec, spec.handler)) else {
            return Err(format!("'{}' is not an effect", args[0].escape_ascii()));
        };
        let places = spec.key_positions(args);
        let keys: SmallVec<[&[u8]; 1]> = places.iter().map(|at| args.all()[*at]).collect();
        // A list that is rotated onto itself is named twice.
        let one = keys.first().filter(|key| keys.iter().all(|other| other == *key));
        match one {
            Some(key) if !part.has(keyspace, db, key) => return Ok(Reach::Done),
            None if part.of > 1 => return Ok(Reach::TooFar),
            _ => {}
        }
        if keys.iter().any(|key| keyspace.is_effect_gone(key, header.end())) {
            return Ok(Reach::Done);
        }
        let call = Call {
            db,
            now_ms: self.now_ms,
            keys: &keys,
            received: args.all(),
            elements: spec.elements,
            replay: Some(header.end()),
        };
        let mut tx = keyspace
            .begin(call, &mut self.effects)
            .map_err(|error| error.to_string())?;
        if keys.iter().any(|key| keyspace.row_holds(db, key, header.end())) {
            return Ok(Reach::Done);
        }
        // An effect may fail where the key's later rows are in the store already (see `keyspace::recover`, rule 2):
        // what it would have made is replaced by an effect that follows.
        let _ = handler(args, &mut tx, &mut self.reply);
        tx.commit();
        self.reply.clear();
        Ok(Reach::Done)
    }
}

/// The number of a database.
fn number(args: &Args<'_>, at: usize) -> Result<u8, String> {
    let number = args.int(at).ok().and_then(|n| u8::try_from(n).ok());
    number
        .filter(|n| usize::from(*n) < DBS)
        .ok_or_else(|| format!("no such database in {}", args[0].escape_ascii()))
}

/// A moment at which all that a range holds is gone, or changes its tier.
fn apply_range(keyspace: &Keyspace, header: &RecordHeader, words: &[&[u8]]) -> Result<(), String> {
    let name = words.get(2).map(|name| String::from_utf8_lossy(name));
    match (words, name) {
        ([_, b"DROP", _, b"DISCARD"], Some(name)) => keyspace.replay_discard(&name, None, header.end()),
        ([_, b"ALTER", _, b"TIER", b"memory"], Some(name)) => {
            keyspace.replay_discard(&name, Some(Tier::Memory), header.end());
        }
        ([_, b"ALTER", _, b"TIER", b"durable"], Some(name)) => keyspace.replay_switch(&name),
        _ => return Err("an effect on a range that is not known".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::testing;

    const KEYS: usize = 60;
    const DATABASES: u8 = 3;

    fn effect(out: &mut Vec<u8>, words: &[&[u8]]) {
        out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Changes of single keys, groups of them over databases, and now and then one of whole databases.
    fn payload(rng: &mut fastrand::Rng, i: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let change = |rng: &mut fastrand::Rng, out: &mut Vec<u8>| {
            let key = format!("key:{}", rng.usize(..KEYS)).into_bytes();
            match rng.u8(..4) {
                0 => effect(out, &[b"DEL", &key]),
                // As no effect is, and as one of a list is that is rotated.
                1 if rng.u8(..100) == 0 => {
                    let other = format!("key:{}", rng.usize(..KEYS)).into_bytes();
                    effect(out, &[b"MSET", &key, b"one", &other, b"other"]);
                }
                1 if rng.bool() => effect(out, &[b"MSET", &key, b"one", &key, i.to_string().as_bytes()]),
                1 => effect(out, &[b"SET", &key, i.to_string().as_bytes()]),
                _ => effect(out, &[b"APPEND", &key, format!(".{i}").as_bytes()]),
            }
        };
        match rng.usize(..1000) {
            0 => effect(&mut out, &[b"FLUSHALL"]),
            1..4 => effect(&mut out, &[b"SWAPDB", b"0", b"1"]),
            4..6 => {
                effect(&mut out, &[b"SELECT", b"2"]);
                effect(&mut out, &[b"MULTI"]);
                change(rng, &mut out);
                effect(&mut out, &[b"FLUSHDB"]);
                change(rng, &mut out);
                effect(&mut out, &[b"EXEC"]);
            }
            6..60 => {
                effect(&mut out, &[b"MULTI"]);
                (0..rng.usize(1..100)).for_each(|_| change(rng, &mut out));
                effect(&mut out, &[b"SELECT", b"1"]);
                change(rng, &mut out);
                effect(&mut out, &[b"EXEC"]);
            }
            _ => change(rng, &mut out),
        }
        out
    }

    /// The value of every key in every database.
    fn state(keyspace: &Keyspace) -> Vec<Vec<u8>> {
        let Handler::Data(get) = table::find(b"GET").expect("a command").handler else {
            panic!("not a data command")
        };
        let mut effects = Effects::default();
        let mut value = |db: u8, key: &[u8]| {
            let words = [b"GET".as_slice(), key];
            let call = Call {
                db,
                now_ms: 1,
                keys: &[key],
                received: &words,
                elements: crate::keyspace::Elements::None,
                replay: None,
            };
            let mut reply = Reply::new(Protocol::Resp2);
            let mut tx = keyspace.begin(call, &mut effects).expect("begins");
            get(&Args::new(&words), &mut tx, &mut reply).expect("answers");
            tx.commit();
            reply.take()
        };
        (0..DATABASES)
            .flat_map(|db| (0..KEYS).map(move |key| (db, format!("key:{key}"))))
            .map(|(db, key)| value(db, key.as_bytes()))
            .collect()
    }

    #[test]
    fn several_hands_leave_what_one_leaves() {
        for seed in 0..6 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let payloads: Vec<Vec<u8>> = (0..3_000).map(|i| payload(&mut rng, i)).collect();
            let mut offset = 0;
            let records: Vec<Record<'_>> = payloads
                .iter()
                .map(|payload| {
                    let length = payload.len() as u64;
                    let header = RecordHeader {
                        length,
                        offset,
                        unix_ms: 1,
                    };
                    offset = header.end();
                    (header, payload.as_slice())
                })
                .collect();
            let states = [1, 4].map(|hands| {
                let dir = tempfile::tempdir().expect("temp dir");
                let keyspace = testing::keyspace(dir.path(), &[]);
                let mut replayer = Replayer::with_hands(1, hands);
                replayer.apply(&keyspace, &records).expect("applies");
                state(&keyspace)
            });
            assert!(
                states[0].iter().any(|value| value.len() > 5),
                "nothing is left to compare"
            );
            assert!(states[0] == states[1], "seed {seed}");
        }
    }

    #[test]
    fn what_is_no_effect_is_refused_with_its_place() {
        let dir = tempfile::tempdir().expect("temp dir");
        let keyspace = testing::keyspace(dir.path(), &[]);
        let mut payloads = vec![b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n".to_vec(); 2 * SHARED_FROM];
        payloads[700] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n".to_vec();
        let header = RecordHeader {
            length: 1,
            offset: 0,
            unix_ms: 1,
        };
        let records: Vec<Record<'_>> = payloads
            .iter()
            .map(|payload| (header, payload.as_slice()))
            .collect();
        let refused = Replayer::with_hands(1, 3)
            .apply(&keyspace, &records)
            .expect_err("GET is no effect");
        assert_eq!(
            (refused.record, refused.why.as_str()),
            (700, "'GET' is not an effect")
        );
    }
}
