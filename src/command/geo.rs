//! Places: sorted sets whose scores are interleaved longitudes and latitudes, see `object::geo`.
//!
//! Searches read every place of up to nine intervals of scores and keep those that the shape covers. Results come in
//! the order of these intervals unless they are sorted; `COUNT` alone sorts, because it means the nearest ones.

use super::args::{Args, Options};
use super::error::Error;
use super::spec::{Found, Handler, KeySpec, Outcome, Spec, acl, flag::*, key, keyword};
use crate::keyspace::tx::Absent;
use crate::keyspace::{Expiry, Tx};
use crate::object::geo::{Point, Search, Shape};
use crate::object::sorted_set::{Cut, Side, Update};
use crate::object::{Native, SortedSet};
use crate::resp::Reply;
use crate::resp::number::{parse_f64, parse_i64};

pub mod touched;

const READ_KEY: &[KeySpec] = &[key(1, "RO ACCESS")];
const RADIUS_KEYS: &[KeySpec] = &[
    key(1, "RO ACCESS"),
    keyword("STORE", 6, 0, 0, "OW UPDATE"),
    keyword("STOREDIST", 6, 0, 0, "OW UPDATE"),
];
const RADIUS_BY_MEMBER_KEYS: &[KeySpec] = &[
    key(1, "RO ACCESS"),
    keyword("STORE", 5, 0, 0, "OW UPDATE"),
    keyword("STOREDIST", 5, 0, 0, "OW UPDATE"),
];

const SEARCH_COST: &str = "O(N+log(M)) for N places in the boxes around the area and M in the set";

pub static COMMANDS: &[Spec] = &[
    Spec::new("geoadd", -5, WRITE | DENYOOM, acl::GEO, Handler::Data(geoadd))
        .keys(&[key(1, "RW UPDATE")])
        .group("geo", "3.2.0")
        .doc(
            "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
            "O(log(N)) for each place added to N",
            "Adds places to a sorted set, or moves them.",
        ),
    Spec::new("geodist", -4, READONLY, acl::GEO, Handler::Data(geodist))
        .keys(READ_KEY)
        .group("geo", "3.2.0")
        .doc(
            "key member1 member2 [M | KM | FT | MI]",
            "O(1)",
            "Returns how far two places are from each other.",
        ),
    Spec::new("geohash", -2, READONLY, acl::GEO, Handler::Data(geohash))
        .keys(READ_KEY)
        .group("geo", "3.2.0")
        .doc(
            "key [member [member ...]]",
            "O(1) for each member",
            "Returns places as the eleven letters that other services know.",
        ),
    Spec::new("geopos", -2, READONLY, acl::GEO, Handler::Data(geopos))
        .keys(READ_KEY)
        .group("geo", "3.2.0")
        .doc(
            "key [member [member ...]]",
            "O(1) for each member",
            "Returns longitudes and latitudes of places.",
        ),
    Spec::new("geosearch", -7, READONLY, acl::GEO, Handler::Data(geosearch))
        .keys(READ_KEY)
        .group("geo", "6.2.0")
        .doc(
            "key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
            SEARCH_COST,
            "Finds places in a circle or a box.",
        ),
    Spec::new("geosearchstore", -8, WRITE | DENYOOM, acl::GEO, Handler::Data(geosearchstore))
        .keys(&[key(1, "OW UPDATE"), key(2, "RO ACCESS")])
        .group("geo", "6.2.0")
        .doc(
            "destination source <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
            SEARCH_COST,
            "Stores the places in a circle or a box, or their distances.",
        ),
    Spec::new("georadius", -6, WRITE | DENYOOM | MOVABLEKEYS, acl::GEO, Handler::Data(georadius))
        .keys(RADIUS_KEYS)
        .walk(radius_keys)
        .group("geo", "3.2.0")
        .doc(
            "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE storekey | STOREDIST storedistkey]",
            SEARCH_COST,
            "Finds, or stores, places in a circle; GEOSEARCH and GEOSEARCHSTORE are its successors.",
        ),
    Spec::new(
        "georadiusbymember",
        -5,
        WRITE | DENYOOM | MOVABLEKEYS,
        acl::GEO,
        Handler::Data(georadiusbymember),
    )
    .keys(RADIUS_BY_MEMBER_KEYS)
    .walk(radius_keys)
    .group("geo", "3.2.0")
    .doc(
        "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE storekey | STOREDIST storedistkey]",
        SEARCH_COST,
        "Finds, or stores, places around a member; GEOSEARCH and GEOSEARCHSTORE are its successors.",
    ),
    Spec::new("georadius_ro", -6, READONLY, acl::GEO, Handler::Data(georadius_ro))
        .keys(READ_KEY)
        .group("geo", "3.2.10")
        .doc(
            "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
            SEARCH_COST,
            "Finds places in a circle, and stores nothing.",
        ),
    Spec::new(
        "georadiusbymember_ro",
        -5,
        READONLY,
        acl::GEO,
        Handler::Data(georadiusbymember_ro),
    )
    .keys(READ_KEY)
    .group("geo", "3.2.10")
    .doc(
        "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
        SEARCH_COST,
        "Finds places around a member, and stores nothing.",
    ),
];

/// The keys that the specifications find, and the one behind the last `STORE` or `STOREDIST`, which is the one that
/// counts, if they have missed it.
fn radius_keys(args: &Args<'_>) -> Found {
    const OPTIONS_FROM: usize = 5;
    const WORDS: [&str; 2] = ["STORE", "STOREDIST"];
    let mut found = Found::new();
    found.push((1, 0));
    for (spec, word) in WORDS.iter().enumerate() {
        let first = (OPTIONS_FROM..args.len()).find(|at| args.is(*at, word));
        found.extend(first.map(|at| (at + 1, spec + 1)));
    }
    let (mut last, mut at) = (None, OPTIONS_FROM);
    while at < args.len() {
        if let Some(spec) = WORDS.iter().position(|word| args.is(at, word)) {
            at += 1;
            last = Some((at, spec + 1));
        }
        at += 1;
    }
    found.extend(last.filter(|last| !found.contains(last)));
    found.retain(|(at, _)| *at < args.len());
    found
}

/// Metres in a unit.
fn unit_m(word: &[u8]) -> Result<f64, Error> {
    const UNITS: [(&str, f64); 4] = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    UNITS
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, metres)| *metres)
        .ok_or_else(|| Error::new("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

fn point(lon: &[u8], lat: &[u8]) -> Result<Point, Error> {
    let coordinate = |text: &[u8]| parse_f64(text).ok_or(Error::NotFloat);
    let (lon, lat) = (coordinate(lon)?, coordinate(lat)?);
    Point::new(lon, lat)
        .ok_or_else(|| Error::new(format!("ERR invalid longitude,latitude pair {lon:.6},{lat:.6}")))
}

fn number(text: &[u8], error: &'static str) -> Result<f64, Error> {
    parse_f64(text).ok_or_else(|| Error::new(error))
}

/// A radius and its unit, and the metres of the unit.
fn circle(radius: &[u8], unit: &[u8]) -> Result<(Shape, f64), Error> {
    let radius = number(radius, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(Error::new("ERR radius cannot be negative"));
    }
    let unit_m = unit_m(unit)?;
    let radius_m = radius * unit_m;
    Ok((Shape::Circle { radius_m }, unit_m))
}

fn rectangle(width: &[u8], height: &[u8], unit: &[u8]) -> Result<(Shape, f64), Error> {
    let width = number(width, "ERR need numeric width")?;
    let height = number(height, "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(Error::new("ERR height or width cannot be negative"));
    }
    let unit_m = unit_m(unit)?;
    let (width_m, height_m) = (width * unit_m, height * unit_m);
    Ok((Shape::Box { width_m, height_m }, unit_m))
}

fn geoadd(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let mut words = args.options(2);
    let (mut only_new, mut only_old, mut count_moved) = (false, false, false);
    loop {
        if words.take("NX") {
            only_new = true;
        } else if words.take("XX") {
            only_old = true;
        } else if words.take("CH") {
            count_moved = true;
        } else {
            break;
        }
    }
    let (places, rest) = args.rest(args.len() - words.left()).as_chunks::<3>();
    if !rest.is_empty() || only_new && only_old {
        return Err(Error::Syntax);
    }
    let places = places
        .iter()
        .map(|[lon, lat, member]| Ok((point(lon, lat)?.score(), *member)))
        .collect::<Result<Vec<(f64, &[u8])>, Error>>()?;
    if places.is_empty() {
        return Err(Error::Syntax);
    }
    let limits = tx.limits();
    let absent = if only_old { Absent::Skip } else { Absent::Create };
    let counts = tx.change::<SortedSet, _>(&args[1], absent, |set, change| {
        let (mut added, mut moved) = (0, 0);
        for (score, member) in places {
            let decide = |old: Option<f64>| {
                let is_meant = if old.is_some() { !only_new } else { !only_old };
                is_meant.then_some(score)
            };
            match set.update(member, &limits, decide) {
                Update::Added => added += 1,
                Update::Moved => moved += 1,
                Update::Kept => {}
            }
        }
        if added + moved > 0 {
            change.as_received();
        }
        (added, moved)
    })?;
    let (added, moved) = counts.unwrap_or((0, 0));
    reply.int(if count_moved { added + moved } else { added });
    Ok(())
}

fn geodist(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let unit_m = match args.len() {
        4 => 1.0,
        5 => unit_m(&args[4])?,
        _ => return Err(Error::Syntax),
    };
    let place = |set: &SortedSet, member| set.score(member).map(Point::of_score);
    let both = tx
        .read::<SortedSet>(&args[1])?
        .and_then(|set| Some((place(set, &args[2])?, place(set, &args[3])?)));
    match both {
        Some((one, other)) => write_distance(one.distance_m(other) / unit_m, reply),
        None => reply.null(),
    }
    Ok(())
}

fn write_distance(distance: f64, reply: &mut Reply) {
    reply.bulk(format!("{distance:.4}").as_bytes());
}

fn geohash(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let set = tx.read::<SortedSet>(&args[1])?;
    let members = args.rest(2);
    reply.array(members.len());
    for member in members {
        match set.and_then(|set| set.score(member)) {
            Some(score) => reply.bulk(&Point::of_score(score).text()),
            None => reply.null(),
        }
    }
    Ok(())
}

fn geopos(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let set = tx.read::<SortedSet>(&args[1])?;
    let members = args.rest(2);
    reply.array(members.len());
    for member in members {
        match set.and_then(|set| set.score(member)) {
            Some(score) => write_point(Point::of_score(score), reply),
            None => reply.null_array(),
        }
    }
    Ok(())
}

fn write_point(place: Point, reply: &mut Reply) {
    reply.array(2);
    for coordinate in [place.lon, place.lat] {
        let text = format!("{coordinate:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        reply.double_text(if text == "-0" { b"0" } else { text.as_bytes() });
    }
}

/// The commands that search, by what they take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `GEORADIUS`: place and radius in front of the options.
    Radius,
    RadiusReadOnly,
    /// `GEORADIUSBYMEMBER`: member and radius in front of the options.
    ByMember,
    ByMemberReadOnly,
    /// `GEOSEARCH`: place and shape are options.
    Search,
    SearchStore,
}

impl Form {
    /// Where the set stands among the arguments, and where the options begin.
    fn places(self) -> (usize, usize) {
        match self {
            Form::Radius | Form::RadiusReadOnly => (1, 6),
            Form::ByMember | Form::ByMemberReadOnly => (1, 5),
            Form::Search => (1, 2),
            Form::SearchStore => (2, 3),
        }
    }

    /// Whether place and shape are options.
    fn is_search(self) -> bool {
        matches!(self, Form::Search | Form::SearchStore)
    }

    fn takes_store(self) -> bool {
        matches!(self, Form::Radius | Form::ByMember)
    }
}

fn georadius(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    search(Form::Radius, args, tx, reply)
}

fn georadius_ro(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    search(Form::RadiusReadOnly, args, tx, reply)
}

fn georadiusbymember(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    search(Form::ByMember, args, tx, reply)
}

fn georadiusbymember_ro(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    search(Form::ByMemberReadOnly, args, tx, reply)
}

fn geosearch(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    search(Form::Search, args, tx, reply)
}

fn geosearchstore(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    search(Form::SearchStore, args, tx, reply)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    NearestFirst,
    FarthestFirst,
}

/// The center of a search.
#[derive(Clone, Copy)]
enum From {
    Place(Point),
    /// That of a member; none if there is no set: then nothing will be found, but the options are still read.
    Member(Option<Point>),
}

/// A search as its options say it.
#[derive(Default)]
struct Query<'a> {
    from: Option<From>,
    /// With the metres of its unit.
    shape: Option<(Shape, f64)>,
    order: Option<Order>,
    count: Option<usize>,
    any: bool,
    with_distance: bool,
    with_hash: bool,
    with_place: bool,
    store: Option<&'a [u8]>,
    store_distance: bool,
}

impl<'a> Query<'a> {
    /// Reads the arguments. Members are looked up meanwhile: Redis does it in their turn, and it shows in the errors.
    fn parse(form: Form, args: &Args<'a>, set: Option<&SortedSet>) -> Result<Query<'a>, Error> {
        let mut query = Query::default();
        match form {
            Form::Radius | Form::RadiusReadOnly => {
                query.from = Some(From::Place(point(&args[2], &args[3])?));
                query.shape = Some(circle(&args[4], &args[5])?);
            }
            Form::ByMember | Form::ByMemberReadOnly if set.is_some() => {
                query.from = Some(From::Member(member_place(set, &args[2])?));
                query.shape = Some(circle(&args[3], &args[4])?);
            }
            Form::SearchStore => query.store = Some(args.get(1)?),
            _ => {}
        }
        let mut words = args.options(form.places().1);
        while !words.is_done() {
            if !query.take_result_option(form, &mut words)? && !query.take_area(form, set, &mut words)? {
                return Err(Error::Syntax);
            }
        }
        query.check(form, args)?;
        Ok(query)
    }

    /// Takes an option that says what is done with the results; false when the next word is none.
    fn take_result_option(&mut self, form: Form, words: &mut Options<'a>) -> Result<bool, Error> {
        let has_value = words.left() > 1;
        if words.take("WITHDIST") {
            self.with_distance = true;
        } else if words.take("WITHHASH") {
            self.with_hash = true;
        } else if words.take("WITHCOORD") {
            self.with_place = true;
        } else if words.take("ANY") {
            self.any = true;
        } else if words.take("ASC") {
            self.order = Some(Order::NearestFirst);
        } else if words.take("DESC") {
            self.order = Some(Order::FarthestFirst);
        } else if has_value && words.take("COUNT") {
            let count = parse_i64(words.value()?).ok_or(Error::NotInteger)?;
            let count = usize::try_from(count).ok().filter(|count| *count > 0);
            self.count = Some(count.ok_or_else(|| Error::new("ERR COUNT must be > 0"))?);
        } else if has_value && form.takes_store() && words.take("STORE") {
            (self.store, self.store_distance) = (Some(words.value()?), false);
        } else if has_value && form.takes_store() && words.take("STOREDIST") {
            (self.store, self.store_distance) = (Some(words.value()?), true);
        } else if form == Form::SearchStore && words.take("STOREDIST") {
            self.store_distance = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes an option of `GEOSEARCH` that says where to search; false when the next word is none. Neither is one of
    /// the other kind than an earlier one; one of the same kind replaces it.
    fn take_area(
        &mut self,
        form: Form,
        set: Option<&SortedSet>,
        words: &mut Options<'a>,
    ) -> Result<bool, Error> {
        if !form.is_search() {
            return Ok(false);
        }
        let left = words.left();
        let from_place = matches!(self.from, Some(From::Place(_)));
        let from_member = matches!(self.from, Some(From::Member(_)));
        let is_circle = matches!(self.shape, Some((Shape::Circle { .. }, _)));
        let is_box = matches!(self.shape, Some((Shape::Box { .. }, _)));
        if left > 1 && !from_place && words.take("FROMMEMBER") {
            self.from = Some(From::Member(member_place(set, words.value()?)?));
        } else if left > 2 && !from_member && words.take("FROMLONLAT") {
            self.from = Some(From::Place(point(words.value()?, words.value()?)?));
        } else if left > 2 && !is_box && words.take("BYRADIUS") {
            self.shape = Some(circle(words.value()?, words.value()?)?);
        } else if left > 3 && !is_circle && words.take("BYBOX") {
            self.shape = Some(rectangle(words.value()?, words.value()?, words.value()?)?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Options that must not, or must, stand together.
    fn check(&self, form: Form, args: &Args<'_>) -> Result<(), Error> {
        if self.store.is_some() && self.result_parts() > 0 {
            let what = match form {
                Form::SearchStore => "GEOSEARCHSTORE",
                _ => "STORE option in GEORADIUS",
            };
            return Err(Error::new(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let name = String::from_utf8_lossy(&args[0]);
        if form.is_search() && self.from.is_none() {
            return Err(Error::new(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )));
        }
        if form.is_search() && self.shape.is_none() {
            return Err(Error::new(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {name}"
            )));
        }
        if self.any && self.count.is_none() {
            return Err(Error::new("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// How many of the three `WITH…` options are given.
    fn result_parts(&self) -> usize {
        [self.with_distance, self.with_hash, self.with_place]
            .iter()
            .filter(|part| **part)
            .count()
    }

    /// The search, and the metres of the unit that distances are told in. None without a set.
    fn search(&self) -> Option<(Search, f64)> {
        let center = match self.from? {
            From::Place(place) => place,
            From::Member(place) => place?,
        };
        let (shape, unit_m) = self.shape?;
        Some((Search { center, shape }, unit_m))
    }

    /// The results, in their order, and no more than asked for.
    fn results(&self, search: &Search, set: &SortedSet) -> Vec<Hit> {
        // `COUNT` wants the nearest ones, unless any will do.
        let order = match (self.order, self.count, self.any) {
            (None, Some(_), false) => Some(Order::NearestFirst),
            (order, ..) => order,
        };
        let enough = self.count.filter(|_| self.any).unwrap_or(usize::MAX);
        let mut hits = find(search, set, enough);
        match order {
            Some(Order::NearestFirst) => hits.sort_by(|a, b| a.distance_m.total_cmp(&b.distance_m)),
            Some(Order::FarthestFirst) => hits.sort_by(|a, b| b.distance_m.total_cmp(&a.distance_m)),
            None => {}
        }
        hits.truncate(self.count.unwrap_or(usize::MAX));
        hits
    }

    fn write(&self, hits: &[Hit], unit_m: f64, reply: &mut Reply) {
        let parts = self.result_parts();
        reply.array(hits.len());
        for hit in hits {
            if parts > 0 {
                reply.array(parts + 1);
            }
            reply.bulk(&hit.member);
            if self.with_distance {
                write_distance(hit.distance_m / unit_m, reply);
            }
            if self.with_hash {
                reply.int(hit.score as i64);
            }
            if self.with_place {
                write_point(Point::of_score(hit.score), reply);
            }
        }
    }
}

/// The place of a member; none without a set.
fn member_place(set: Option<&SortedSet>, member: &[u8]) -> Result<Option<Point>, Error> {
    let Some(set) = set else { return Ok(None) };
    match set.score(member) {
        Some(score) => Ok(Some(Point::of_score(score))),
        None => Err(Error::new("ERR could not decode requested zset member")),
    }
}

/// A place that a search has found.
struct Hit {
    member: Box<[u8]>,
    score: f64,
    distance_m: f64,
}

/// Cuts of the intervals of a search.
fn cuts((min, max): &(f64, f64)) -> (Cut<'static>, Cut<'static>) {
    (Cut::Score(*min, Side::Before), Cut::Score(*max, Side::Before))
}

/// Places read at a time: a search that is content with any does not read on for long.
const READ_AT_ONCE: usize = 256;

/// The places that a search covers, in the order of its intervals; a few more than `enough` are looked at, none more
/// are returned.
fn find(search: &Search, set: &SortedSet, enough: usize) -> Vec<Hit> {
    let intervals = search.intervals();
    let ranks: Vec<_> = intervals
        .iter()
        .map(|interval| {
            let (min, max) = cuts(interval);
            set.between(&min, &max)
        })
        .collect();
    let mut hits = Vec::new();
    for ranks in &ranks {
        for start in ranks.clone().step_by(READ_AT_ONCE) {
            if hits.len() >= enough {
                break;
            }
            let end = ranks.end.min(start + READ_AT_ONCE);
            set.visit(start..end, false, |member, score| {
                let distance_m = search.distance_m(Point::of_score(score));
                hits.extend(distance_m.map(|distance_m| Hit {
                    member: member.into(),
                    score,
                    distance_m,
                }));
            });
        }
    }
    hits.truncate(enough);
    hits
}

fn search(form: Form, args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let limits = tx.limits();
    let set = tx.read::<SortedSet>(&args[form.places().0])?;
    let query = Query::parse(form, args, set)?;
    let found = query.search().zip(set).map(|((search, unit_m), set)| {
        let hits = query.results(&search, set);
        (hits, unit_m)
    });
    let (hits, unit_m) = found.unwrap_or((Vec::new(), 1.0));
    let Some(dest) = query.store else {
        query.write(&hits, unit_m, reply);
        return Ok(());
    };
    reply.int(hits.len() as i64);
    if hits.is_empty() {
        tx.delete(dest);
        return Ok(());
    }
    let scored = |hit: Hit| match query.store_distance {
        true => (hit.member, hit.distance_m / unit_m),
        false => (hit.member, hit.score),
    };
    let result = SortedSet::from_pairs(hits.into_iter().map(scored).collect(), &limits);
    tx.put_object(dest, result.into_object(), Expiry::Clear);
    Ok(())
}
