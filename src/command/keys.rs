//! Commands on keys whatever their type.

use super::args::Args;
use super::spec::{Handler, Outcome, Spec, acl, flag::*, keys};
use crate::keyspace::Tx;
use crate::resp::Reply;

pub static COMMANDS: &[Spec] = &[Spec::new("del", -2, WRITE, acl::KEYSPACE, Handler::Data(del))
    .keys(&[keys(1, 1, "RM DELETE")])
    .group("generic", "1.0.0")
    .doc("key [key ...]", "O(N) for N keys", "Deletes keys.")
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])];

fn del(args: &Args<'_>, tx: &mut Tx<'_>, reply: &mut Reply) -> Outcome {
    let deleted = args.rest(1).iter().filter(|key| tx.delete(key)).count();
    reply.int(deleted as i64);
    Ok(())
}
