//! The types of values in the format: the byte that stands before each, and which the versions know.

pub(super) const STRING: u8 = 0;
pub(super) const LIST: u8 = 1;
pub(super) const SET: u8 = 2;
/// Scores as text.
pub(super) const ZSET: u8 = 3;
pub(super) const HASH: u8 = 4;
/// Scores in eight bytes.
pub(super) const ZSET_2: u8 = 5;
pub(super) const MODULE: u8 = 6;
pub(super) const MODULE_2: u8 = 7;
pub(super) const HASH_ZIPMAP: u8 = 9;
pub(super) const LIST_ZIPLIST: u8 = 10;
pub(super) const SET_INTSET: u8 = 11;
pub(super) const ZSET_ZIPLIST: u8 = 12;
pub(super) const HASH_ZIPLIST: u8 = 13;
/// Nodes are ziplists.
pub(super) const LIST_QUICKLIST: u8 = 14;
pub(super) const STREAM_LISTPACKS: u8 = 15;
pub(super) const HASH_LISTPACK: u8 = 16;
pub(super) const ZSET_LISTPACK: u8 = 17;
/// Nodes are listpacks, or one large element each.
pub(super) const LIST_QUICKLIST_2: u8 = 18;
/// With the first id, the greatest deleted one, and the count of all entries added.
pub(super) const STREAM_LISTPACKS_2: u8 = 19;
pub(super) const SET_LISTPACK: u8 = 20;
/// With the time at which a consumer last got something.
pub(super) const STREAM_LISTPACKS_3: u8 = 21;
/// Fields with times of their own, as written before they were released: times are not relative.
pub(super) const HASH_TIMES_EARLY: u8 = 22;
pub(super) const HASH_LISTPACK_TIMES_EARLY: u8 = 23;
pub(super) const HASH_TIMES: u8 = 24;
pub(super) const HASH_LISTPACK_TIMES: u8 = 25;

/// The first version with sets of strings in listpacks, and with `STREAM_LISTPACKS_3`.
pub(super) const VERSION_OF_PACKED_SETS: u16 = 11;
/// The first version in which fields of hashes expire.
pub(super) const VERSION_OF_FIELD_TIMES: u16 = 12;

/// What stands for one value of a node of a quicklist: the element as it is, or a listpack.
pub(super) const NODE_PLAIN: u64 = 1;
pub(super) const NODE_PACKED: u64 = 2;
