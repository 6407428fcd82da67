//! Sorted sets: the rows of the family. What the commands do stands in the files beside this one.
//!
//! `add` gives scores, `read` looks at single members, `range` is everything between two ranks, scores or members, `pop`
//! takes members out and waits for them, `combine` makes sets of several; `touched` says what they look at.

mod add;
mod combine;
mod pop;
mod range;
mod read;
pub mod touched;

use super::spec::{Handler, Spec, acl, flag::*, key, keynum, range as key_range};
use crate::resp::{Protocol, Reply};

pub static COMMANDS: &[Spec] = &[
    Spec::new(
        "zadd",
        -4,
        WRITE | DENYOOM | FAST,
        acl::SORTED_SET,
        Handler::Data(add::zadd),
    )
    .keys(&[key(1, "RW UPDATE")])
    .group("sorted-set", "1.2.0")
    .doc(
        "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
        "O(log(N)) for each member",
        "Gives members of a sorted set their scores, and counts those that are new.",
    ),
    Spec::new(
        "zincrby",
        4,
        WRITE | DENYOOM | FAST,
        acl::SORTED_SET,
        Handler::Data(add::zincrby),
    )
    .keys(&[key(1, "RW ACCESS UPDATE")])
    .group("sorted-set", "1.2.0")
    .doc(
        "key increment member",
        "O(log(N))",
        "Adds to the score of a member; one that is absent counts as 0.",
    ),
    Spec::new(
        "zrem",
        -3,
        WRITE | FAST,
        acl::SORTED_SET,
        Handler::Data(read::zrem),
    )
    .keys(&[key(1, "RW DELETE")])
    .group("sorted-set", "1.2.0")
    .doc(
        "key member [member ...]",
        "O(log(N)) for each member",
        "Removes members, and counts those that were there.",
    ),
    Spec::new(
        "zcard",
        2,
        READONLY | FAST,
        acl::SORTED_SET,
        Handler::Data(read::zcard),
    )
    .keys(&[key(1, "RO")])
    .group("sorted-set", "1.2.0")
    .doc("key", "O(1)", "Returns how many members a sorted set has."),
    Spec::new(
        "zscore",
        3,
        READONLY | FAST,
        acl::SORTED_SET,
        Handler::Data(read::zscore),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "1.2.0")
    .doc("key member", "O(1)", "Returns the score of a member."),
    Spec::new(
        "zmscore",
        -3,
        READONLY | FAST,
        acl::SORTED_SET,
        Handler::Data(read::zmscore),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "6.2.0")
    .doc(
        "key member [member ...]",
        "O(N) for N members asked for",
        "Returns the scores of several members.",
    ),
    Spec::new(
        "zrank",
        -3,
        READONLY | FAST,
        acl::SORTED_SET,
        Handler::Data(read::zrank),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "2.0.0")
    .doc(
        "key member [WITHSCORE]",
        "O(log(N))",
        "Returns how many members stand before one.",
    ),
    Spec::new(
        "zrevrank",
        -3,
        READONLY | FAST,
        acl::SORTED_SET,
        Handler::Data(read::zrevrank),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "2.0.0")
    .doc(
        "key member [WITHSCORE]",
        "O(log(N))",
        "Returns how many members stand behind one.",
    ),
    Spec::new(
        "zrandmember",
        -2,
        READONLY,
        acl::SORTED_SET,
        Handler::Data(read::zrandmember),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "6.2.0")
    .doc(
        "key [count [WITHSCORES]]",
        "O(M*log(N)) for M members returned",
        "Returns members by chance; a negative count may return one more than once.",
    )
    .tips(&["nondeterministic_output"]),
    Spec::new("zscan", -3, READONLY, acl::SORTED_SET, Handler::Data(read::zscan))
        .keys(&[key(1, "RO ACCESS")])
        .group("sorted-set", "2.8.0")
        .doc(
            "key cursor [MATCH pattern] [COUNT count]",
            "O(1) for a step, O(N) for all of N members",
            "Returns some members with their scores and the cursor to go on with; 0 begins and ends.",
        )
        .tips(&["nondeterministic_output"]),
    Spec::new(
        "zcount",
        4,
        READONLY | FAST,
        acl::SORTED_SET,
        Handler::Data(range::zcount),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "2.0.0")
    .doc(
        "key min max",
        "O(log(N))",
        "Counts the members between two scores.",
    ),
    Spec::new(
        "zlexcount",
        4,
        READONLY | FAST,
        acl::SORTED_SET,
        Handler::Data(range::zlexcount),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "2.8.9")
    .doc(
        "key min max",
        "O(log(N))",
        "Counts the members between two members, where all scores are the same.",
    ),
    Spec::new(
        "zrange",
        -4,
        READONLY,
        acl::SORTED_SET,
        Handler::Data(range::zrange),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "1.2.0")
    .doc(
        "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        "O(log(N)+M) for M members returned",
        "Returns the members between two ranks, scores or members.",
    ),
    Spec::new(
        "zrangestore",
        -5,
        WRITE | DENYOOM,
        acl::SORTED_SET,
        Handler::Data(range::zrangestore),
    )
    .keys(&[key(1, "OW UPDATE"), key(2, "RO ACCESS")])
    .group("sorted-set", "6.2.0")
    .doc(
        "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
        "O(log(N)+M) for M members stored",
        "Stores the members between two ranks, scores or members, and counts them.",
    ),
    Spec::new(
        "zrevrange",
        -4,
        READONLY,
        acl::SORTED_SET,
        Handler::Data(range::zrevrange),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "1.2.0")
    .doc(
        "key start stop [WITHSCORES]",
        "O(log(N)+M) for M members returned",
        "Returns the members between two ranks, counted from the highest score down.",
    ),
    Spec::new(
        "zrangebyscore",
        -4,
        READONLY,
        acl::SORTED_SET,
        Handler::Data(range::zrangebyscore),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "1.0.5")
    .doc(
        "key min max [WITHSCORES] [LIMIT offset count]",
        "O(log(N)+M) for M members returned",
        "Returns the members between two scores.",
    ),
    Spec::new(
        "zrevrangebyscore",
        -4,
        READONLY,
        acl::SORTED_SET,
        Handler::Data(range::zrevrangebyscore),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "2.2.0")
    .doc(
        "key max min [WITHSCORES] [LIMIT offset count]",
        "O(log(N)+M) for M members returned",
        "Returns the members between two scores, the highest first.",
    ),
    Spec::new(
        "zrangebylex",
        -4,
        READONLY,
        acl::SORTED_SET,
        Handler::Data(range::zrangebylex),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "2.8.9")
    .doc(
        "key min max [LIMIT offset count]",
        "O(log(N)+M) for M members returned",
        "Returns the members between two members, where all scores are the same.",
    ),
    Spec::new(
        "zrevrangebylex",
        -4,
        READONLY,
        acl::SORTED_SET,
        Handler::Data(range::zrevrangebylex),
    )
    .keys(&[key(1, "RO ACCESS")])
    .group("sorted-set", "2.8.9")
    .doc(
        "key max min [LIMIT offset count]",
        "O(log(N)+M) for M members returned",
        "Returns the members between two members backwards, where all scores are the same.",
    ),
    Spec::new(
        "zremrangebyrank",
        4,
        WRITE,
        acl::SORTED_SET,
        Handler::Data(range::zremrangebyrank),
    )
    .keys(&[key(1, "RW DELETE")])
    .group("sorted-set", "2.0.0")
    .doc(
        "key start stop",
        "O(log(N)+M) for M members removed",
        "Removes the members between two ranks, and counts them.",
    ),
    Spec::new(
        "zremrangebyscore",
        4,
        WRITE,
        acl::SORTED_SET,
        Handler::Data(range::zremrangebyscore),
    )
    .keys(&[key(1, "RW DELETE")])
    .group("sorted-set", "1.2.0")
    .doc(
        "key min max",
        "O(log(N)+M) for M members removed",
        "Removes the members between two scores, and counts them.",
    ),
    Spec::new(
        "zremrangebylex",
        4,
        WRITE,
        acl::SORTED_SET,
        Handler::Data(range::zremrangebylex),
    )
    .keys(&[key(1, "RW DELETE")])
    .group("sorted-set", "2.8.9")
    .doc(
        "key min max",
        "O(log(N)+M) for M members removed",
        "Removes the members between two members, where all scores are the same, and counts them.",
    ),
    Spec::new(
        "zpopmin",
        -2,
        WRITE | FAST,
        acl::SORTED_SET,
        Handler::Data(pop::zpopmin),
    )
    .keys(&[key(1, "RW ACCESS DELETE")])
    .group("sorted-set", "5.0.0")
    .doc(
        "key [count]",
        "O(log(N)+M) for M members",
        "Takes out the members with the lowest scores.",
    ),
    Spec::new(
        "zpopmax",
        -2,
        WRITE | FAST,
        acl::SORTED_SET,
        Handler::Data(pop::zpopmax),
    )
    .keys(&[key(1, "RW ACCESS DELETE")])
    .group("sorted-set", "5.0.0")
    .doc(
        "key [count]",
        "O(log(N)+M) for M members",
        "Takes out the members with the highest scores.",
    ),
    Spec::new(
        "zmpop",
        -4,
        WRITE | MOVABLEKEYS,
        acl::SORTED_SET,
        Handler::Data(pop::zmpop),
    )
    .keys(&[keynum(1, 0, 1, "RW ACCESS DELETE")])
    .group("sorted-set", "7.0.0")
    .doc(
        "numkeys key [key ...] <MIN | MAX> [COUNT count]",
        "O(K+log(N)+M) for K keys and M members",
        "Takes members out of the first of several sorted sets that has any.",
    ),
    Spec::new(
        "bzpopmin",
        -3,
        WRITE | NOSCRIPT | BLOCKING | FAST,
        acl::SORTED_SET,
        Handler::Data(pop::bzpopmin),
    )
    .keys(&[key_range(1, -2, 1, "RW ACCESS DELETE")])
    .group("sorted-set", "5.0.0")
    .doc(
        "key [key ...] timeout",
        "O(log(N))",
        "Takes out the member with the lowest score, and waits for one if there is none.",
    ),
    Spec::new(
        "bzpopmax",
        -3,
        WRITE | NOSCRIPT | BLOCKING | FAST,
        acl::SORTED_SET,
        Handler::Data(pop::bzpopmax),
    )
    .keys(&[key_range(1, -2, 1, "RW ACCESS DELETE")])
    .group("sorted-set", "5.0.0")
    .doc(
        "key [key ...] timeout",
        "O(log(N))",
        "Takes out the member with the highest score, and waits for one if there is none.",
    ),
    Spec::new(
        "bzmpop",
        -5,
        WRITE | BLOCKING | MOVABLEKEYS,
        acl::SORTED_SET,
        Handler::Data(pop::bzmpop),
    )
    .keys(&[keynum(2, 0, 1, "RW ACCESS DELETE")])
    .group("sorted-set", "7.0.0")
    .doc(
        "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
        "O(K+log(N)+M) for K keys and M members",
        "Takes members out of the first of several sorted sets that has any, and waits if none has.",
    ),
    Spec::new(
        "zunion",
        -3,
        READONLY | MOVABLEKEYS,
        acl::SORTED_SET,
        Handler::Data(combine::zunion),
    )
    .keys(&[keynum(1, 0, 1, "RO ACCESS")])
    .group("sorted-set", "6.2.0")
    .doc(
        "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
        "O(N)+O(M*log(M)) for N members in all and M of the result",
        "Returns what is in any of the sets, its scores put together.",
    ),
    Spec::new(
        "zunionstore",
        -4,
        WRITE | DENYOOM | MOVABLEKEYS,
        acl::SORTED_SET,
        Handler::Data(combine::zunionstore),
    )
    .keys(&[key(1, "OW UPDATE"), keynum(2, 0, 1, "RO ACCESS")])
    .group("sorted-set", "2.0.0")
    .doc(
        "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
        "O(N)+O(M*log(M)) for N members in all and M of the result",
        "Stores what is in any of the sets, its scores put together, and counts it.",
    ),
    Spec::new(
        "zinter",
        -3,
        READONLY | MOVABLEKEYS,
        acl::SORTED_SET,
        Handler::Data(combine::zinter),
    )
    .keys(&[keynum(1, 0, 1, "RO ACCESS")])
    .group("sorted-set", "6.2.0")
    .doc(
        "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
        "O(N*K)+O(M*log(M)) for K sets, the smallest of N members, and M of the result",
        "Returns what is in every one of the sets, its scores put together.",
    ),
    Spec::new(
        "zinterstore",
        -4,
        WRITE | DENYOOM | MOVABLEKEYS,
        acl::SORTED_SET,
        Handler::Data(combine::zinterstore),
    )
    .keys(&[key(1, "OW UPDATE"), keynum(2, 0, 1, "RO ACCESS")])
    .group("sorted-set", "2.0.0")
    .doc(
        "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
        "O(N*K)+O(M*log(M)) for K sets, the smallest of N members, and M of the result",
        "Stores what is in every one of the sets, its scores put together, and counts it.",
    ),
    Spec::new(
        "zintercard",
        -3,
        READONLY | MOVABLEKEYS,
        acl::SORTED_SET,
        Handler::Data(combine::zintercard),
    )
    .keys(&[keynum(1, 0, 1, "RO ACCESS")])
    .group("sorted-set", "7.0.0")
    .doc(
        "numkeys key [key ...] [LIMIT limit]",
        "O(N*K) for K sets, the smallest of N members",
        "Counts what is in every one of the sets, up to a limit.",
    ),
    Spec::new(
        "zdiff",
        -3,
        READONLY | MOVABLEKEYS,
        acl::SORTED_SET,
        Handler::Data(combine::zdiff),
    )
    .keys(&[keynum(1, 0, 1, "RO ACCESS")])
    .group("sorted-set", "6.2.0")
    .doc(
        "numkeys key [key ...] [WITHSCORES]",
        "O(N*K)+O(M*log(M)) for K sets, the first of N members, and M of the result",
        "Returns what is in the first set and in none of the others.",
    ),
    Spec::new(
        "zdiffstore",
        -4,
        WRITE | DENYOOM | MOVABLEKEYS,
        acl::SORTED_SET,
        Handler::Data(combine::zdiffstore),
    )
    .keys(&[key(1, "OW UPDATE"), keynum(2, 0, 1, "RO ACCESS")])
    .group("sorted-set", "6.2.0")
    .doc(
        "destination numkeys key [key ...]",
        "O(N*K)+O(M*log(M)) for K sets, the first of N members, and M of the result",
        "Stores what is in the first set and in none of the others, and counts it.",
    ),
];

/// Writes the header of a list of members: with their scores, pairs in RESP3, and one flat list in RESP2.
fn begin_members(count: usize, with_scores: bool, reply: &mut Reply) {
    let flat = with_scores && !is_paired(reply);
    reply.array(if flat { count * 2 } else { count });
}

/// Writes one member of such a list.
fn write_member(member: &[u8], score: f64, with_scores: bool, reply: &mut Reply) {
    if with_scores && is_paired(reply) {
        reply.array(2);
    }
    reply.bulk(member);
    if with_scores {
        reply.double(score);
    }
}

fn is_paired(reply: &Reply) -> bool {
    reply.protocol() == Protocol::Resp3
}
