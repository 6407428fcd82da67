//! The effects in the records of the journal, for those who look at them without applying them.

use super::args::Args;
use crate::resp::{Batch, Limits, Parser};
use smallvec::SmallVec;

/// Effects parsed at once.
const EFFECTS_AT_ONCE: usize = 64;

pub struct Recorded {
    batch: Batch,
    limits: Limits,
}

impl Default for Recorded {
    fn default() -> Recorded {
        Recorded {
            batch: Batch::new(),
            limits: Limits {
                max_bulk_len: usize::MAX,
                max_multibulk_len: usize::MAX,
                max_inline_len: 1 << 16,
                authenticated: true,
            },
        }
    }
}

impl Recorded {
    /// Shows each effect of a record with its logical database, without what frames them. An error says what is none.
    pub fn each(&mut self, payload: &[u8], mut show: impl FnMut(u8, &Args<'_>)) -> Result<(), String> {
        let (mut db, mut rest) = (0, payload);
        while !rest.is_empty() {
            let (taken, error) = Parser::new().parse(rest, &self.limits, &mut self.batch, EFFECTS_AT_ONCE);
            if let Some(error) = error {
                return Err(error.to_string());
            }
            if taken == 0 {
                return Err("an effect is cut short".into());
            }
            for i in 0..self.batch.len() {
                let words: SmallVec<[&[u8]; 8]> = self.batch.request(i, rest).iter().collect();
                let args = Args::new(&words);
                match &args[0] {
                    b"MULTI" | b"EXEC" => {}
                    b"SELECT" => {
                        let number = args.int(1).ok().and_then(|db| u8::try_from(db).ok());
                        db = number.ok_or("no such database in SELECT")?;
                    }
                    _ => show(db, &args),
                }
            }
            rest = &rest[taken..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_shown_with_their_databases() {
        let payload = b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n\
              *2\r\n$3\r\nDEL\r\n$1\r\nb\r\n*1\r\n$4\r\nEXEC\r\n";
        let mut seen = Vec::new();
        let mut recorded = Recorded::default();
        recorded
            .each(payload, |db, args| seen.push((db, args[1].to_vec())))
            .expect("effects");
        assert_eq!(seen, [(0, b"a".to_vec()), (3, b"b".to_vec())]);
        assert!(recorded.each(&payload[..20], |_, _| {}).is_err());
    }
}
