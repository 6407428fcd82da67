//! Unions, intersections and differences of sorted sets and plain sets, whose members count with a score of 1.
//!
//! Guarantees: every operand is of a right type before an option is looked at, and nothing is stored before all is
//! known; what is stored is recorded as the result. Scores are put together from the smallest set to the largest, as
//! Redis does it, so that sums are rounded in the same way.

use super::range::store;
use super::{begin_members, write_member};
use crate::command::args::{Args, Options};
use crate::command::error::Error;
use crate::command::spec::Outcome;
use crate::keyspace::{Entry, Tx};
use crate::object::{Native, Object, Set, SortedSet, sorted_set};
use crate::resp::Reply;
use crate::resp::number::{parse_f64, parse_i64};
use smallvec::SmallVec;
use std::collections::HashMap;

type Pairs = Vec<(Box<[u8]>, f64)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What an operand is.
#[derive(Clone, Copy)]
enum Members<'t> {
    None,
    Scored(&'t SortedSet),
    Plain(&'t Set),
}

/// What counts for the score of a member of a plain set.
const PLAIN_SCORE: f64 = 1.0;

impl<'t> Members<'t> {
    fn of(entry: Option<&'t Entry>) -> Result<Members<'t>, Error> {
        match entry.map(Entry::object) {
            None => Ok(Members::None),
            Some(Some(Object::SortedSet(set))) => Ok(Members::Scored(set)),
            Some(Some(Object::Set(set))) => Ok(Members::Plain(set)),
            Some(_) => Err(Error::WrongType),
        }
    }

    fn len(&self) -> usize {
        match self {
            Members::None => 0,
            Members::Scored(set) => set.len(),
            Members::Plain(set) => set.len(),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Members::None => None,
            Members::Scored(set) => set.score(member),
            Members::Plain(set) => set.contains(member).then_some(PLAIN_SCORE),
        }
    }

    fn visit(&self, mut visit: impl FnMut(&[u8], f64)) {
        match self {
            Members::None => {}
            Members::Scored(set) => set.visit(0..set.len(), false, visit),
            Members::Plain(set) => set
                .iter()
                .for_each(|item| item.with_bytes(|member| visit(member, PLAIN_SCORE))),
        }
    }
}

/// An operand, and what its scores are multiplied by.
struct Operand<'t> {
    members: Members<'t>,
    weight: f64,
}

impl Operand<'_> {
    /// A score as it counts. Infinity times zero is zero where it comes first.
    fn weighed(&self, score: f64) -> f64 {
        let score = score * self.weight;
        if score.is_nan() { 0.0 } else { score }
    }
}

/// How the scores of a member in several sets become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    /// Infinity and its opposite make zero.
    fn apply(self, score: f64, other: f64) -> f64 {
        match self {
            Aggregate::Sum => match score + other {
                sum if sum.is_nan() => 0.0,
                sum => sum,
            },
            Aggregate::Min if other < score => other,
            Aggregate::Max if other > score => other,
            Aggregate::Min | Aggregate::Max => score,
        }
    }
}

/// What a command is besides its operands.
#[derive(Clone, Copy)]
struct Form {
    operation: Operation,
    /// The argument that says how many keys there are.
    at: usize,
    stores: bool,
    counts: bool,
}

const fn form(operation: Operation) -> Form {
    Form {
        operation,
        at: 1,
        stores: false,
        counts: false,
    }
}

const fn storing(operation: Operation) -> Form {
    Form {
        at: 2,
        stores: true,
        ..form(operation)
    }
}

/// A request, read whole.
struct Request<'t> {
    operands: SmallVec<[Operand<'t>; 4]>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

impl<'t> Request<'t> {
    /// Reads the number of keys, the keys, then the options: so that their errors come in Redis's order.
    fn read(args: &Args<'_>, form: Form, tx: &'t mut Tx<'_>) -> Result<Request<'t>, Error> {
        let number = args.int(form.at)?;
        if number < 1 {
            let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
            let text = format!("ERR at least 1 input key is needed for '{name}' command");
            return Err(Error::new(text));
        }
        let from = form.at + 1;
        let keys = usize::try_from(number)
            .ok()
            .and_then(|number| args.rest(from).get(..number));
        let keys = keys.ok_or(Error::Syntax)?;
        let mut operands = SmallVec::with_capacity(keys.len());
        for entry in tx.lookup_all(keys) {
            let members = Members::of(entry)?;
            operands.push(Operand { members, weight: 1.0 });
        }
        let mut request = Request {
            operands,
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
        };
        let mut words = args.options(from + keys.len());
        while !words.is_done() {
            request.take_option(&mut words, form)?;
        }
        Ok(request)
    }

    fn take_option(&mut self, words: &mut Options<'_>, form: Form) -> Result<(), Error> {
        let weighs = form.operation != Operation::Difference && !form.counts;
        if weighs && words.left() > self.operands.len() && words.take("WEIGHTS") {
            for operand in &mut self.operands {
                let weight = parse_f64(words.value()?);
                operand.weight = weight.ok_or_else(|| Error::new("ERR weight value is not a float"))?;
            }
        } else if weighs && words.left() >= 2 && words.take("AGGREGATE") {
            self.aggregate = match () {
                _ if words.take("SUM") => Aggregate::Sum,
                _ if words.take("MIN") => Aggregate::Min,
                _ if words.take("MAX") => Aggregate::Max,
                _ => return Err(Error::Syntax),
            };
        } else if !form.stores && !form.counts && words.take("WITHSCORES") {
            self.with_scores = true;
        } else if form.counts && words.left() >= 2 && words.take("LIMIT") {
            let limit = parse_i64(words.value()?).and_then(|limit| usize::try_from(limit).ok());
            self.limit = limit.ok_or_else(|| Error::new("ERR LIMIT can't be negative"))?;
        } else {
            return Err(Error::Syntax);
        }
        Ok(())
    }

    fn result(mut self, operation: Operation) -> Pairs {
        match operation {
            Operation::Union => self.union(),
            Operation::Intersection => self.intersection(),
            Operation::Difference => self.difference(),
        }
    }

    fn smallest_first(&mut self) {
        self.operands.sort_by_key(|operand| operand.members.len());
    }

    fn union(&mut self) -> Pairs {
        self.smallest_first();
        let mut scores: HashMap<Box<[u8]>, f64, foldhash::fast::RandomState> = HashMap::default();
        for operand in &self.operands {
            operand.members.visit(|member, score| {
                let score = operand.weighed(score);
                match scores.get_mut(member) {
                    Some(known) => *known = self.aggregate.apply(*known, score),
                    None => drop(scores.insert(member.into(), score)),
                }
            });
        }
        scores.into_iter().collect()
    }

    fn intersection(&mut self) -> Pairs {
        self.smallest_first();
        let mut pairs = Pairs::new();
        let Some((first, others)) = self.operands.split_first() else {
            return pairs;
        };
        first.members.visit(|member, score| {
            let together = others.iter().try_fold(first.weighed(score), |score, other| {
                let found = other.members.score(member)?;
                Some(self.aggregate.apply(score, found * other.weight))
            });
            if let Some(score) = together {
                pairs.push((member.into(), score));
            }
        });
        pairs
    }

    fn difference(&self) -> Pairs {
        let mut pairs = Pairs::new();
        let Some((first, others)) = self.operands.split_first() else {
            return pairs;
        };
        first.members.visit(|member, score| {
            if !others.iter().any(|other| other.members.score(member).is_some()) {
                pairs.push((member.into(), score));
            }
        });
        pairs
    }

    /// How many members the intersection has, up to the limit if there is one.
    fn common(mut self) -> usize {
        self.smallest_first();
        let Some((first, others)) = self.operands.split_first() else {
            return 0;
        };
        let most = if self.limit == 0 { usize::MAX } else { self.limit };
        let mut common = 0;
        first.members.visit(|member, _| {
            if common < most && others.iter().all(|other| other.members.score(member).is_some()) {
                common += 1;
            }
        });
        common
    }
}

fn combine(args: &Args<'_>, form: Form, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let request = Request::read(args, form, tx)?;
    let with_scores = request.with_scores;
    let mut pairs = request.result(form.operation);
    if form.stores {
        store(&args[1], pairs, tx, reply);
        return Ok(());
    }
    sorted_set::sort(&mut pairs);
    begin_members(pairs.len(), with_scores, reply);
    for (member, score) in &pairs {
        write_member(member, *score, with_scores, reply);
    }
    Ok(())
}

pub fn zunion(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    combine(args, form(Operation::Union), tx, reply)
}

pub fn zunionstore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    combine(args, storing(Operation::Union), tx, reply)
}

pub fn zinter(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    combine(args, form(Operation::Intersection), tx, reply)
}

pub fn zinterstore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    combine(args, storing(Operation::Intersection), tx, reply)
}

pub fn zdiff(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    combine(args, form(Operation::Difference), tx, reply)
}

pub fn zdiffstore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    combine(args, storing(Operation::Difference), tx, reply)
}

pub fn zintercard(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let counting = Form {
        counts: true,
        ..form(Operation::Intersection)
    };
    let common = Request::read(args, counting, tx)?.common();
    reply.int(common as i64);
    Ok(())
}
