//! Terrace: a server that speaks the Redis protocol and is cache and database in one.
//!
//! The layers, each seeing only what is below it:
//!
//! ```text
//! net        sockets, connections, sessions
//! command    the table, the pipeline, one file per family
//! keyspace   shards, entries, transactions, ranges, expiry, eviction, scans, flushing, recovery
//! object     native values and their codec │ journal  the record of effects │ store  rows in RocksDB
//! ```
//!
//! Beside them: `pubsub` (who hears what), `script` (Lua), `resp` (bytes to requests, replies to bytes; no I/O),
//! `pointer` (addresses), `config`, `acl` (who may do what), `observe` (what the operator sees), `backup` (and the
//! subcommands `check` and `import`), and `server`, which puts them together.
//!
//! The life of a command: `net::connection` reads bytes; `resp::parser` finds requests in them; `command::execute`
//! looks up the row and asks `keyspace::load` for a transaction: the shards of its keys locked, cold keys brought in;
//! the handler reads and changes entries through `keyspace::tx`, which records effects; they are appended to the
//! `journal` before the shards are unlocked; the connection waits at the reply gate if a range asks for it, and writes
//! the replies of the whole batch at once. In the background `keyspace::flush` turns dirty entries into rows of the
//! `store`.

pub mod acl;
pub mod backup;
pub mod check;
pub mod command;
pub mod config;
pub mod import;
pub mod journal;
pub mod keyspace;
pub mod net;
pub mod object;
pub mod observe;
mod pointer;
pub mod pubsub;
pub mod resp;
pub mod script;
pub mod server;
pub mod store;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
