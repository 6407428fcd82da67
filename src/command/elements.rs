//! Which elements of large collections a command touches: they are in memory before it runs (see `keyspace::paging`).
//!
//! What is named here works on some elements, so it costs the same whatever the size of the collection. What works on
//! values and is not named touches all elements; what only looks at keys, or is of another type, touches none.

use super::spec::{Spec, acl};
use super::{geo, sorted_sets, streams};
use crate::keyspace::Elements;
use crate::keyspace::paging::Count;

/// From this argument on each one is an element.
const fn each_from(first: u8) -> Elements {
    Elements::Named { first, step: 1 }
}

/// From this argument on elements and values take turns; also, where only one element and one value are given.
const fn pairs_from(first: u8) -> Elements {
    Elements::Named { first, step: 2 }
}

const fn ends(front: bool, back: bool, count: Count) -> Elements {
    Elements::Ends { front, back, count }
}

/// That of a row of the table.
pub fn of(full_name: &str, spec: &Spec) -> Elements {
    match full_name {
        "hset" | "hmset" | "hsetnx" | "hincrby" | "hincrbyfloat" => pairs_from(2),
        "hget" | "hmget" | "hexists" | "hstrlen" | "hdel" => each_from(2),
        "httl" | "hpttl" | "hexpiretime" | "hpexpiretime" | "hgetdel" => each_from(4),
        "sadd" | "srem" | "sismember" | "smismember" => each_from(2),
        "smove" => each_from(3),
        "hscan" | "sscan" => Elements::Scanned,
        "hrandfield" | "srandmember" | "spop" | "zrandmember" => Elements::Drawn,
        "hlen" | "scard" => Elements::None,
        // What is added to a list, or cut off it, needs nothing of the rest.
        "llen" | "lpush" | "rpush" | "lpushx" | "rpushx" | "ltrim" => Elements::None,
        "lpop" => ends(true, false, Count::Third),
        "rpop" => ends(false, true, Count::Third),
        "blpop" => ends(true, false, Count::One),
        "brpop" | "rpoplpush" | "brpoplpush" => ends(false, true, Count::One),
        "lmove" | "blmove" => ends(true, true, Count::One),
        "lmpop" | "blmpop" => ends(true, true, Count::Named),
        "lindex" | "lset" => Elements::Index,
        "lrange" => Elements::Indexes,
        // Fields that expire are kept with all others.
        "hexpire" | "hpexpire" | "hexpireat" | "hpexpireat" | "hpersist" | "hgetex" | "hsetex" => {
            Elements::Unpaged
        }
        "zscore" | "zmscore" | "zrem" => each_from(2),
        "zincrby" => each_from(3),
        "zcard" => Elements::None,
        "zscan" => Elements::Scanned,
        "zpopmin" => ends(true, false, Count::Third),
        "zpopmax" => ends(false, true, Count::Third),
        "bzpopmin" => ends(true, false, Count::One),
        "bzpopmax" => ends(false, true, Count::One),
        "zmpop" | "bzmpop" => ends(true, true, Count::Named),
        // The unit behind the members is taken for another one.
        "geopos" | "geohash" | "geodist" => each_from(2),
        "rename" | "renamenx" | "move" | "copy" | "dump" | "sort" | "sort_ro" => Elements::All,
        _ if spec.acl & acl::STREAM != 0 => streams::touched::of(full_name),
        _ if spec.acl & acl::SORTED_SET != 0 => sorted_sets::touched::of(full_name),
        _ if spec.acl & acl::GEO != 0 => geo::touched::of(full_name),
        _ if spec.acl & (acl::HASH | acl::SET | acl::LIST) != 0 => Elements::All,
        _ => Elements::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn every_command_on_collections_says_what_it_touches() {
        let elements = |name: &[u8]| table::find(name).map(|command| command.elements);
        assert_eq!(elements(b"HGETALL"), Some(Elements::All));
        assert_eq!(elements(b"HRANDFIELD"), Some(Elements::Drawn));
        assert_eq!(elements(b"HSETEX"), Some(Elements::Unpaged));
        assert_eq!(elements(b"SINTERSTORE"), Some(Elements::All));
        assert_eq!(elements(b"SSCAN"), Some(Elements::Scanned));
        assert_eq!(elements(b"DEL"), Some(Elements::None));
        assert_eq!(elements(b"LPUSH"), Some(Elements::None));
        assert_eq!(elements(b"LINSERT"), Some(Elements::All));
        assert_eq!(elements(b"LRANGE"), Some(Elements::Indexes));
        assert_eq!(elements(b"ZUNION"), Some(Elements::All));
        assert_eq!(elements(b"ZPOPMIN"), Some(ends(true, false, Count::Third)));
        assert!(matches!(elements(b"ZRANGE"), Some(Elements::Told(_))));
        assert!(matches!(elements(b"GEOSEARCH"), Some(Elements::Told(_))));
    }
}
