//! Which places of a large set a command touches: those that it names, or those in the intervals of its search, of which
//! the center may be a place of the set (see `command::elements`).

use super::{Form, Query, cuts};
use crate::command::args::Args;
use crate::keyspace::Elements;
use crate::keyspace::paging::Tell;
use crate::object::pages::{Order, Wanted};
use crate::object::{Native, Object, SortedSet};

type All<'a> = Vec<Wanted<'a>>;

/// That of a command whose arguments alone do not tell it.
pub fn of(full_name: &str) -> Elements {
    let tell: for<'a> fn(&'a [&'a [u8]], &[u8], &Object) -> All<'a> = match full_name {
        "geoadd" => |words, _, _| added(words),
        "georadius" => |words, key, value| searched(Form::Radius, words, key, value),
        "georadius_ro" => |words, key, value| searched(Form::RadiusReadOnly, words, key, value),
        "georadiusbymember" => |words, key, value| searched(Form::ByMember, words, key, value),
        "georadiusbymember_ro" => |words, key, value| searched(Form::ByMemberReadOnly, words, key, value),
        "geosearch" => |words, key, value| searched(Form::Search, words, key, value),
        "geosearchstore" => |words, key, value| searched(Form::SearchStore, words, key, value),
        _ => return Elements::All,
    };
    Elements::Told(Tell(tell))
}

/// Behind the options each third word is a member.
fn added<'a>(words: &'a [&'a [u8]]) -> All<'a> {
    let args = Args::new(words);
    let mut left = args.options(2);
    while ["NX", "XX", "CH"].iter().any(|option| left.take(option)) {}
    let members = words.get(args.len() - left.left() + 2..);
    vec![Wanted::Elements(members.unwrap_or_default(), 3)]
}

fn searched<'a>(form: Form, words: &'a [&'a [u8]], key: &[u8], value: &Object) -> All<'a> {
    let (source, options) = form.places();
    let set = SortedSet::of(value).filter(|_| words.get(source) == Some(&key));
    let Some((set, pages)) = set.and_then(|set| Some((set, set.pages()?))) else {
        return All::new();
    };
    let centers = match form {
        Form::ByMember | Form::ByMemberReadOnly => vec![2],
        _ => (options..words.len())
            .filter(|at| words[at - 1].eq_ignore_ascii_case(b"FROMMEMBER"))
            .collect(),
    };
    let mut centers = centers.into_iter().filter(|at| *at < words.len());
    if centers.clone().any(|at| !pages.knows(words[at])) {
        return centers
            .by_ref()
            .map(|at| Wanted::Elements(&words[at..=at], 1))
            .collect();
    }
    let query = Query::parse(form, &Args::new(words), Some(set));
    let search = query.ok().and_then(|query| query.search());
    let intervals = search.map_or(Vec::new(), |(search, _)| search.intervals());
    let wanted = |interval: &(f64, f64)| {
        let (min, max) = cuts(interval);
        set.wanted((&min, &max), usize::MAX, Order::Up)
    };
    intervals.iter().map(wanted).collect()
}
