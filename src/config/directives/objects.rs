//! How large a value may grow before it changes its encoding. `OBJECT ENCODING` shows these bounds to clients.

use super::{Directive, int, memory};

const MAX_INT: i64 = i32::MAX as i64;
const MIN_INT: i64 = i32::MIN as i64;
const MAX_LONG: u64 = i64::MAX as u64;

pub(super) static ROWS: &[Directive] = &[
    int!(
        "hash-max-listpack-entries",
        hash_max_listpack_entries,
        0,
        i64::MAX,
        "Fields up to which a hash is packed."
    )
    .alias("hash-max-ziplist-entries")
    .quiet(),
    memory!(
        "hash-max-listpack-value",
        hash_max_listpack_value,
        0,
        MAX_LONG,
        "Longest field or value in a packed hash."
    )
    .alias("hash-max-ziplist-value")
    .quiet(),
    int!(
        "list-max-listpack-size",
        list_max_listpack_size,
        MIN_INT,
        MAX_INT,
        "Elements in a node of a list; -1 to -5 mean 4 to 64 kilobytes."
    )
    .alias("list-max-ziplist-size")
    .quiet(),
    int!(
        "list-compress-depth",
        list_compress_depth,
        0,
        MAX_INT,
        "Nodes at either end of a list that Redis leaves uncompressed. Here a list is not compressed in memory; when it \
         is cold it is on disk, or sealed, where a range's `compression` packs it."
    )
    .without_effect(),
    int!(
        "set-max-intset-entries",
        set_max_intset_entries,
        0,
        i64::MAX,
        "Members up to which a set of integers is an array."
    )
    .quiet(),
    int!(
        "set-max-listpack-entries",
        set_max_listpack_entries,
        0,
        i64::MAX,
        "Members up to which a set is packed."
    )
    .quiet(),
    memory!(
        "set-max-listpack-value",
        set_max_listpack_value,
        0,
        MAX_LONG,
        "Longest member of a packed set."
    )
    .quiet(),
    int!(
        "zset-max-listpack-entries",
        zset_max_listpack_entries,
        0,
        i64::MAX,
        "Members up to which a sorted set is packed."
    )
    .alias("zset-max-ziplist-entries")
    .quiet(),
    memory!(
        "zset-max-listpack-value",
        zset_max_listpack_value,
        0,
        MAX_LONG,
        "Longest member of a packed sorted set."
    )
    .alias("zset-max-ziplist-value")
    .quiet(),
    memory!(
        "hll-sparse-max-bytes",
        hll_sparse_max_bytes,
        0,
        MAX_LONG,
        "Bytes up to which a HyperLogLog is sparse."
    )
    .quiet(),
    memory!(
        "stream-node-max-bytes",
        stream_node_max_bytes,
        0,
        MAX_LONG,
        "Bytes in a node of a stream; 0 is no bound."
    )
    .quiet(),
    int!(
        "stream-node-max-entries",
        stream_node_max_entries,
        0,
        i64::MAX,
        "Entries in a node of a stream; 0 is no bound."
    )
    .quiet(),
];
