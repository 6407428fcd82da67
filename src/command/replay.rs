//! Applying the journal's records again after a start.
//!
//! A record holds effects: commands that change one key each, `SELECT`, `MULTI`/`EXEC` around a group, and the few
//! that change whole databases. An effect that a key's row holds already is passed over.

use super::args::Args;
use super::spec::{Handler, flag};
use super::table;
use crate::journal::record::RecordHeader;
use crate::keyspace::range::DBS;
use crate::keyspace::{Call, Effects, Keyspace};
use crate::resp::{Batch, Limits, Parser, Protocol, Reply};
use smallvec::SmallVec;

/// Applies records one after the other.
pub struct Replayer {
    batch: Batch,
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
            batch: Batch::new(),
            limits,
            effects: Effects::default(),
            reply: Reply::new(Protocol::Resp2),
            now_ms,
        }
    }

    /// Applies one record. An error says what in it is not an effect.
    pub fn apply(
        &mut self,
        keyspace: &Keyspace,
        header: &RecordHeader,
        payload: &[u8],
    ) -> Result<(), String> {
        let mut db = 0;
        let mut at = 0;
        while at < payload.len() {
            let rest = &payload[at..];
            let (taken, error) = Parser::new().parse(rest, &self.limits, &mut self.batch, 64);
            if let Some(error) = error {
                return Err(error.to_string());
            }
            if taken == 0 {
                return Err("an effect is cut short".into());
            }
            let batch = std::mem::take(&mut self.batch);
            for i in 0..batch.len() {
                let words: SmallVec<[&[u8]; 8]> = batch.request(i, rest).iter().collect();
                self.apply_one(keyspace, header, &mut db, &words)?;
            }
            self.batch = batch;
            at += taken;
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
        let spec = table::find(&args[0]).filter(|spec| spec.has(flag::WRITE) && spec.accepts(args.len()));
        let Some((spec, Handler::Data(handler))) = spec.map(|spec| (spec, spec.handler)) else {
            return Err(format!("'{}' is not an effect", args[0].escape_ascii()));
        };
        let keys: SmallVec<[&[u8]; 1]> = spec.key_positions(args.len()).map(|at| args.all()[at]).collect();
        let call = Call {
            db,
            now_ms: self.now_ms,
            keys: &keys,
            received: args.all(),
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
