//! Applying the journal's records again after a start.
//!
//! A record holds effects: commands that change one key each, `SELECT`, `MULTI`/`EXEC` around a group, and the few
//! that change whole databases. An effect that a key's row holds already is passed over.

use super::args::Args;
use super::execute::resolve;
use super::spec::{Handler, flag};
use super::table::{self, Finder};
use crate::config::Tier;
use crate::journal::Record;
use crate::journal::record::RecordHeader;
use crate::keyspace::range::DBS;
use crate::keyspace::{Call, Effects, Keyspace};
use crate::resp::{Batch, Limits, Parser, Protocol, Reply};
use smallvec::SmallVec;

/// Effects parsed at once.
const EFFECTS_AT_ONCE: usize = 64;

/// Applies records one after the other.
pub struct Replayer {
    batches: Vec<Batch>,
    hashes: Vec<u64>,
    finder: Finder,
    limits: Limits,
    effects: Effects,
    reply: Reply,
    now_ms: i64,
}

impl Replayer {
    pub fn new(now_ms: i64) -> Replayer {
        let limits = Limits {
            max_bulk_len: usize::MAX,
            max_multibulk_len: usize::MAX,
            max_inline_len: 1 << 16,
            authenticated: true,
        };
        Replayer {
            batches: Vec::new(),
            hashes: Vec::new(),
            finder: Finder::by_own_names(),
            limits,
            effects: Effects::default(),
            reply: Reply::new(Protocol::Resp2),
            now_ms,
        }
    }

    /// Applies records in order. An error says what in them is not an effect.
    pub fn apply(&mut self, keyspace: &Keyspace, records: &[Record<'_>]) -> Result<(), String> {
        let mut batches = std::mem::take(&mut self.batches);
        batches.resize_with(batches.len().max(records.len()), Batch::new);
        let mut taken = SmallVec::<[usize; 32]>::new();
        for ((_, payload), batch) in records.iter().zip(&mut batches) {
            taken.push(self.parse(payload, batch)?);
        }
        let requests = records
            .iter()
            .zip(&batches)
            .filter(|(_, batch)| !batch.is_empty());
        let finder = &mut self.finder;
        let keys =
            requests.filter_map(|((_, payload), batch)| table::aim(&batch.request(0, payload), finder));
        keyspace.prefetch(0, keys, &mut self.hashes);
        for (((header, payload), batch), taken) in records.iter().zip(&mut batches).zip(taken) {
            let (mut db, mut at) = (0, taken);
            self.apply_batch(keyspace, header, &mut db, batch, payload)?;
            while at < payload.len() {
                let rest = &payload[at..];
                at += self.parse(rest, batch)?;
                self.apply_batch(keyspace, header, &mut db, batch, rest)?;
            }
        }
        self.batches = batches;
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

    fn apply_batch(
        &mut self,
        keyspace: &Keyspace,
        header: &RecordHeader,
        db: &mut u8,
        batch: &Batch,
        bytes: &[u8],
    ) -> Result<(), String> {
        for i in 0..batch.len() {
            let words: SmallVec<[&[u8]; 8]> = batch.request(i, bytes).iter().collect();
            self.apply_one(keyspace, header, db, &words)?;
        }
        Ok(())
    }

    fn apply_one(
        &mut self,
        keyspace: &Keyspace,
        header: &RecordHeader,
        db: &mut u8,
        words: &[&[u8]],
    ) -> Result<(), String> {
        let args = Args::new(words);
        let number = |at: usize| {
            let number = args
                .int(at)
                .ok()
                .and_then(|n| u8::try_from(n).ok())
                .filter(|n| usize::from(*n) < DBS);
            number.ok_or_else(|| format!("no such database in {}", args[0].escape_ascii()))
        };
        match &args[0] {
            b"MULTI" | b"EXEC" => {}
            b"SELECT" => *db = number(1)?,
            b"SWAPDB" => keyspace.exchange(number(1)?, number(2)?),
            b"FLUSHDB" => keyspace
                .replay_flush_db(Some(*db), header.end())
                .map_err(|error| error.to_string())?,
            b"FLUSHALL" => keyspace
                .replay_flush_db(None, header.end())
                .map_err(|error| error.to_string())?,
            b"RANGE" => apply_range(keyspace, header, words)?,
            _ => self.apply_data(keyspace, header, *db, &args)?,
        }
        Ok(())
    }

    fn apply_data(
        &mut self,
        keyspace: &Keyspace,
        header: &RecordHeader,
        db: u8,
        args: &Args<'_>,
    ) -> Result<(), String> {
        let spec = resolve(args, &mut self.finder)
            .ok()
            .filter(|spec| spec.has(flag::WRITE) && spec.accepts(args.len()));
        let Some((spec, Handler::Data(handler))) = spec.map(|spec| (spec, spec.handler)) else {
            return Err(format!("'{}' is not an effect", args[0].escape_ascii()));
        };
        let places = spec.key_positions(args);
        let keys: SmallVec<[&[u8]; 1]> = places.iter().map(|at| args.all()[*at]).collect();
        if keys.iter().any(|key| keyspace.is_effect_gone(key, header.end())) {
            return Ok(());
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
            return Ok(());
        }
        // An effect may fail where the key's later rows are in the store already (see `keyspace::recover`, rule 2):
        // what it would have made is replaced by an effect that follows.
        let _ = handler(args, &mut tx, &mut self.reply);
        tx.commit();
        self.reply.clear();
        Ok(())
    }
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
