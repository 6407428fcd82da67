//! Commands on single members of a sorted set: their scores and ranks, members by chance, scanning, removal.

use super::{begin_members, write_member};
use crate::command::args::Args;
use crate::command::error::Error;
use crate::command::scan::{self, ScanOptions, Scanned};
use crate::command::spec::Outcome;
use crate::keyspace::{Absent, Tx};
use crate::object::window::choose;
use crate::object::{Native, SortedSet};
use crate::resp::Reply;
use crate::resp::number::format_f64;
use fastrand::Rng;
use std::collections::HashSet;

/// The largest score that Redis keeps as an integer in a listpack.
const INTEGER_MOST: f64 = (i64::MAX / 2) as f64;

pub fn zrem(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let removed = tx.change(&args[1], Absent::Skip, |set: &mut SortedSet, change| {
        let members = args.rest(2).iter();
        let removed = members.filter(|member| set.remove(member).is_some()).count();
        if removed > 0 {
            change.as_received();
        }
        removed
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

pub fn zcard(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let set = tx.read::<SortedSet>(&args[1])?;
    reply.int(set.map_or(0, SortedSet::len) as i64);
    Ok(())
}

fn write_score(score: Option<f64>, reply: &mut Reply) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

pub fn zscore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let set = tx.read::<SortedSet>(&args[1])?;
    write_score(set.and_then(|set| set.score(&args[2])), reply);
    Ok(())
}

pub fn zmscore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let set = tx.read::<SortedSet>(&args[1])?;
    let members = args.rest(2);
    reply.array(members.len());
    for member in members {
        write_score(set.and_then(|set| set.score(member)), reply);
    }
    Ok(())
}

pub fn zrank(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    rank(args, false, tx, reply)
}

pub fn zrevrank(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    rank(args, true, tx, reply)
}

fn rank(args: &Args<'_>, reverse: bool, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let with_score = match args.len() {
        3 => false,
        4 if args.is(3, "WITHSCORE") => true,
        4 => return Err(Error::Syntax),
        _ => return Err(Error::Arity(if reverse { "zrevrank" } else { "zrank" }.into())),
    };
    let set = tx.read::<SortedSet>(&args[1])?;
    let found = set.and_then(|set| {
        let (rank, score) = set.rank(&args[2])?;
        let rank = if reverse { set.len() - 1 - rank } else { rank };
        Some((rank as i64, score))
    });
    match found {
        None if with_score => reply.null_array(),
        None => reply.null(),
        Some((rank, score)) if with_score => {
            reply.array(2);
            reply.int(rank);
            reply.double(score);
        }
        Some((rank, _)) => reply.int(rank),
    }
    Ok(())
}

/// The most draws that may come more than once: nothing else bounds such a reply.
const DRAWS_MOST: usize = 1 << 27;

pub fn zrandmember(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let rng = &mut Rng::new();
    if args.len() == 2 {
        match tx.read::<SortedSet>(&args[1])? {
            Some(set) => draw(set, 1, rng, |member, _| reply.bulk(member)),
            None => reply.null(),
        }
        return Ok(());
    }
    let count = args.int(2)?;
    if count == i64::MIN {
        let most = i64::MAX;
        let text = format!("ERR value is out of range, value must between -{most} and {most}");
        return Err(Error::new(text));
    }
    let with_scores = match args.len() {
        3 => false,
        4 if args.is(3, "WITHSCORES") => true,
        _ => return Err(Error::Syntax),
    };
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::new("ERR value is out of range"));
    }
    let Some(set) = tx.read::<SortedSet>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    // proof: usize has 64 bits wherever this is built for.
    let number = count.unsigned_abs() as usize;
    if count < 0 && number > DRAWS_MOST {
        return Err(Error::new("ERR value is out of range"));
    }
    let number = if count < 0 { number } else { number.min(set.len()) };
    begin_members(number, with_scores, reply);
    let mut write = |member: &[u8], score| write_member(member, score, with_scores, reply);
    if count < 0 {
        draw(set, number, rng, write);
    } else if number == set.len() {
        set.visit(0..number, false, write);
    } else if let Some(mut pool) = set.pool(number) {
        choose(&mut pool, number, rng);
        pool.into_iter().for_each(|(member, score)| write(member, score));
    } else {
        for rank in sample(number, set.len(), rng) {
            set.visit(rank..rank + 1, false, &mut write);
        }
    }
    Ok(())
}

/// Visits so many members, each time one of all.
fn draw(set: &SortedSet, count: usize, rng: &mut Rng, mut visit: impl FnMut(&[u8], f64)) {
    if let Some(pool) = set.pool(count) {
        for _ in 0..count {
            let (member, score) = pool[rng.usize(..pool.len())];
            visit(member, score);
        }
        return;
    }
    for _ in 0..count {
        let rank = rng.usize(..set.len());
        set.visit(rank..rank + 1, false, &mut visit);
    }
}

/// So many of the numbers below `len`, each with the same probability, in no order that means anything (Floyd's
/// algorithm: one draw for each).
fn sample(number: usize, len: usize, rng: &mut Rng) -> Vec<usize> {
    let mut chosen = HashSet::with_capacity(number);
    let mut ranks = Vec::with_capacity(number);
    for last in len - number..len {
        let drawn = rng.usize(..=last);
        let rank = if chosen.insert(drawn) { drawn } else { last };
        chosen.insert(rank);
        ranks.push(rank);
    }
    ranks
}

pub fn zscan(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let cursor = scan::cursor(&args[2])?;
    // Redis looks at the key before it looks at the options, and it shows.
    let Some(set) = tx.read::<SortedSet>(&args[1])? else {
        scan::begin_reply(0, reply);
        reply.array(0);
        return Ok(());
    };
    let options = ScanOptions::parse(args.options(3), Scanned::Members)?;
    let packed = set.as_listpack().is_some();
    let mut found: Vec<(Vec<u8>, f64)> = Vec::new();
    let next = set.scan(cursor, options.count, |member, score| {
        if options.lets(member) {
            found.push((member.to_vec(), score));
        }
    });
    scan::begin_reply(next, reply);
    reply.array(found.len() * 2);
    for (member, score) in &found {
        reply.bulk(member);
        // Where a listpack holds an integer, Redis shows that.
        match *score as i64 {
            whole if packed && score.abs() <= INTEGER_MOST && whole as f64 == *score => {
                reply.bulk(itoa::Buffer::new().format(whole).as_bytes());
            }
            _ => reply.bulk(format_f64(*score, &mut [0; 32])),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_hold_no_number_twice() {
        let mut rng = Rng::with_seed(1);
        for (number, len) in [(0, 5), (1, 1), (3, 10), (9, 10), (10, 10)] {
            let mut ranks = sample(number, len, &mut rng);
            assert!(ranks.iter().all(|rank| *rank < len));
            ranks.sort_unstable();
            ranks.dedup();
            assert_eq!(ranks.len(), number);
        }
    }
}
