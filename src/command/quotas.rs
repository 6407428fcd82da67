//! What a command's row says about its keys, in the terms of the ranges' limits.

use super::args::Args;
use super::spec::flag;
use super::table::Command;
use crate::keyspace::quota::{Use, Used};
use smallvec::SmallVec;

/// The keys of a request, and what the command does with each: the flags of key specifications say it, as the command
/// pages describe them. What may use more memory is marked so as a whole; a key that is overwritten may grow always.
pub fn used<'a>(spec: &Command, args: &Args<'a>) -> SmallVec<[Used<'a>; 4]> {
    let places = spec.found_keys(args);
    let used = places.iter().map(|(at, number)| Used {
        key: args.all()[*at],
        how: how(spec, *number),
    });
    used.collect()
}

fn how(spec: &Command, number: usize) -> Use {
    let flags = spec.keys.get(number).map_or("RW", |keys| keys.flags);
    match flags {
        _ if flags.starts_with("RO") => Use::Reads,
        _ if flags.starts_with("OW") => Use::Grows,
        _ if spec.has(flag::DENYOOM) && !flags.contains("DELETE") => Use::Grows,
        _ => Use::Shrinks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn rows_say_which_keys_may_grow() {
        let hows = |line: &str| -> Vec<Use> {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let row = table::find(words[0]).expect("a command");
            used(row, &Args::new(&words))
                .iter()
                .map(|used| used.how)
                .collect()
        };
        for (line, expected) in [
            ("SET k v", vec![Use::Grows]),
            ("MSET a 1 b 2", vec![Use::Grows, Use::Grows]),
            ("DEL a b", vec![Use::Shrinks, Use::Shrinks]),
            ("LPOP l", vec![Use::Shrinks]),
            ("RENAME a b", vec![Use::Shrinks, Use::Grows]),
            ("SINTERSTORE d a b", vec![Use::Grows, Use::Reads, Use::Reads]),
            ("LMOVE a b LEFT LEFT", vec![Use::Shrinks, Use::Grows]),
            ("HSET h f v", vec![Use::Grows]),
            ("EXPIRE k 1", vec![Use::Shrinks]),
        ] {
            assert_eq!(hows(line), expected, "{line}");
        }
    }
}
