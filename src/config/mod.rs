//! Configuration in the syntax of redis.conf.
//!
//! A [`Config`] is plain data: it is built once from a file and the command line ([`Startup`]), cloned freely, and
//! replaced as a whole by `CONFIG SET`, so that a change of several directives is one step or none. Each directive
//! is one row of the table in [`directives`]; reading files, the command line, `CONFIG GET`, `CONFIG SET`,
//! `CONFIG REWRITE` and the documentation's list all follow that table.
//!
//! This layer reads and writes the configuration file and nothing else, and knows no other layer.

pub mod cli;
pub mod directives;
pub mod file;
pub mod range_spec;
pub mod rewrite;
pub mod syntax;
pub mod tools;
mod values;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

pub use cli::{Command, Startup};
pub use directives::{Change, Directive, Effect};
pub use file::{ConfigError, rename_line, user_line};
pub use range_spec::{Bounds, ByCommand, DEFAULT_RANGE, RangeOptions, RangeSpec};
pub use values::{
    BytesOrShare, Compression, EvictionPolicy, FsyncPolicy, KeyspaceEvents, LogLevel, OutputBufferLimit,
    OutputBufferLimits, Permission, Supervised, Tier, TlsClients, format_memory, format_percentile,
    memory_size,
};

const MB: u64 = 1 << 20;

/// Numbered databases that there are, whatever `databases` says.
pub const DATABASES_MAX: u32 = 16;

/// Every setting of the server. Sizes are bytes and times are seconds unless the name says otherwise; a size, limit
/// or time of 0 means none where the directive's row says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    // Listening and connections.
    /// Addresses to listen on; one with a leading `-` may be missing on this machine. `*` is every IPv4 address.
    pub bind: Vec<String>,
    pub port: u16,
    /// Empty: no unix socket.
    pub unixsocket: String,
    /// Permission bits; 0 leaves them as the system makes them.
    pub unixsocketperm: u32,
    pub tcp_backlog: u32,
    pub tcp_keepalive: u32,
    pub timeout: u32,
    pub maxclients: u32,
    /// Empty: no password.
    pub requirepass: Vec<u8>,
    pub protected_mode: bool,
    /// 0: no TLS.
    pub tls_port: u16,
    pub tls_cert_file: String,
    /// Empty: with the certificate.
    pub tls_key_file: String,
    pub tls_ca_cert_file: String,
    pub tls_ca_cert_dir: String,
    pub tls_auth_clients: TlsClients,
    /// Empty: all.
    pub tls_protocols: String,
    pub tls_prefer_server_ciphers: bool,
    pub tls_session_caching: bool,
    pub tls_session_cache_size: usize,
    /// Seconds within which a client has to say who it is; 0 is no limit.
    pub auth_timeout: u32,
    /// Empty: none.
    pub aclfile: String,
    pub acllog_max_len: usize,
    pub acl_pubsub_allchannels: bool,
    /// The `user` lines: each a name and rules.
    pub users: Vec<Vec<Vec<u8>>>,
    /// The `rename-command` lines: from, and to; an empty name takes the command away.
    pub renames: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where what is set was written, for what shows to be wrong only when the server starts.
    pub places: HashMap<String, String>,
    /// Worker threads; 0 is one per core.
    pub io_threads: usize,
    pub proto_max_bulk_len: u64,
    pub client_query_buffer_limit: u64,
    pub client_output_buffer_limit: OutputBufferLimits,
    pub pubsub_gather_us: u32,
    pub maxmemory_clients: BytesOrShare,

    // The process.
    pub databases: u32,
    pub daemonize: bool,
    pub supervised: Supervised,
    /// Empty: none is written.
    pub pidfile: String,
    pub loglevel: LogLevel,
    /// Empty: standard output.
    pub logfile: String,
    pub always_show_logo: bool,
    pub enable_debug_command: Permission,
    pub enable_protected_configs: Permission,
    pub enable_module_command: Permission,

    // Memory, eviction, expiry.
    pub maxmemory: u64,
    pub maxmemory_policy: EvictionPolicy,
    pub maxmemory_samples: u32,
    pub maxmemory_eviction_tenacity: u32,
    pub lfu_log_factor: u32,
    pub lfu_decay_time_minutes: u32,
    pub active_expire_effort: u32,
    pub hz: u32,
    pub dynamic_hz: bool,
    pub lazyfree_lazy_eviction: bool,
    pub lazyfree_lazy_expire: bool,
    pub lazyfree_lazy_server_del: bool,
    pub lazyfree_lazy_user_del: bool,
    pub lazyfree_lazy_user_flush: bool,

    // Data on disk and ranges.
    /// The data folder; absolute once a [`Startup`] has been built.
    pub dir: PathBuf,
    /// The file of snapshots, in the data folder.
    pub dbfilename: String,
    pub rdbcompression: bool,
    pub appendfsync: FsyncPolicy,
    /// The ranges that the file and the command line name; see also [`Config::default_range`].
    pub ranges: Vec<RangeSpec>,
    pub journal_segment_size: u64,
    pub journal_flush_size: u64,
    pub journal_ring_size: u64,
    /// 0 is no bound, here and below; with neither nothing is kept.
    pub journal_retention_seconds: u64,
    pub journal_retention_size: u64,
    pub store_block_cache: u64,
    /// Empty: what is sealed is on the heap.
    pub memory_dir: String,
    /// 0: never.
    pub seal_after_seconds: u32,
    pub flush_dirty_size: u64,
    /// Elements, and bytes, above which collections of durable ranges are paged.
    pub paged_threshold: u64,
    pub paged_threshold_size: u64,
    /// A power of two.
    pub shards: usize,
    /// Pairs of seconds and changes, as Redis has them; the journal makes them needless here.
    pub save: Vec<(u64, u64)>,

    // Looking at the server.
    /// 0: none.
    pub metrics_port: u16,
    /// Microseconds; 0 logs every command, a negative number none.
    pub slowlog_log_slower_than_us: i64,
    pub slowlog_max_len: usize,
    pub busy_reply_threshold_ms: i64,
    pub tracking_table_max_keys: usize,
    pub latency_monitor_threshold_ms: u64,
    pub latency_tracking: bool,
    pub latency_tracking_info_percentiles: Vec<f64>,
    pub notify_keyspace_events: KeyspaceEvents,

    // Where values change their encoding.
    pub hash_max_listpack_entries: usize,
    pub hash_max_listpack_value: u64,
    /// Positive: entries; negative: -1 to -5 for 4 to 64 kilobytes.
    pub list_max_listpack_size: i32,
    pub list_compress_depth: u32,
    pub set_max_intset_entries: usize,
    pub set_max_listpack_entries: usize,
    pub set_max_listpack_value: u64,
    pub zset_max_listpack_entries: usize,
    pub zset_max_listpack_value: u64,
    pub hll_sparse_max_bytes: u64,
    pub stream_node_max_bytes: u64,
    pub stream_node_max_entries: u64,

    /// Values of directives that are only kept, so that what was set can be read back. Absent is the default.
    kept: BTreeMap<&'static str, Vec<u8>>,
}

impl Default for Config {
    // long because: a line for each field.
    fn default() -> Self {
        Config {
            bind: vec!["127.0.0.1".into(), "-::1".into()],
            port: 6379,
            unixsocket: String::new(),
            unixsocketperm: 0,
            tcp_backlog: 511,
            tcp_keepalive: 300,
            timeout: 0,
            maxclients: 10_000,
            requirepass: Vec::new(),
            protected_mode: true,
            tls_port: 0,
            tls_cert_file: String::new(),
            tls_key_file: String::new(),
            tls_ca_cert_file: String::new(),
            tls_ca_cert_dir: String::new(),
            tls_auth_clients: TlsClients::Yes,
            tls_protocols: String::new(),
            tls_prefer_server_ciphers: false,
            tls_session_caching: true,
            tls_session_cache_size: 20_480,
            auth_timeout: 60,
            aclfile: String::new(),
            acllog_max_len: 128,
            acl_pubsub_allchannels: false,
            users: Vec::new(),
            renames: Vec::new(),
            places: HashMap::new(),
            io_threads: 0,
            proto_max_bulk_len: 512 * MB,
            client_query_buffer_limit: 1024 * MB,
            client_output_buffer_limit: OutputBufferLimits::default(),
            pubsub_gather_us: 2_000,
            maxmemory_clients: BytesOrShare::Bytes(0),
            databases: 16,
            daemonize: false,
            supervised: Supervised::No,
            pidfile: String::new(),
            loglevel: LogLevel::Notice,
            logfile: String::new(),
            always_show_logo: false,
            enable_debug_command: Permission::No,
            enable_protected_configs: Permission::No,
            enable_module_command: Permission::No,
            maxmemory: 0,
            maxmemory_policy: EvictionPolicy::NoEviction,
            maxmemory_samples: 5,
            maxmemory_eviction_tenacity: 10,
            lfu_log_factor: 10,
            lfu_decay_time_minutes: 1,
            active_expire_effort: 1,
            hz: 10,
            dynamic_hz: true,
            lazyfree_lazy_eviction: false,
            lazyfree_lazy_expire: false,
            lazyfree_lazy_server_del: false,
            lazyfree_lazy_user_del: false,
            lazyfree_lazy_user_flush: false,
            dir: PathBuf::from("."),
            dbfilename: "dump.rdb".into(),
            rdbcompression: true,
            appendfsync: FsyncPolicy::EverySec,
            ranges: Vec::new(),
            journal_segment_size: 64 * MB,
            journal_flush_size: 512 * MB,
            journal_ring_size: 32 * MB,
            journal_retention_seconds: 0,
            journal_retention_size: 0,
            store_block_cache: 64 * MB,
            memory_dir: String::new(),
            seal_after_seconds: 300,
            flush_dirty_size: 256 * MB,
            paged_threshold: 65_536,
            paged_threshold_size: 8 * MB,
            shards: 4096,
            save: vec![(3600, 1), (300, 100), (60, 10_000)],
            metrics_port: 0,
            slowlog_log_slower_than_us: 10_000,
            busy_reply_threshold_ms: 5_000,
            slowlog_max_len: 128,
            tracking_table_max_keys: 1_000_000,
            latency_monitor_threshold_ms: 0,
            latency_tracking: true,
            latency_tracking_info_percentiles: vec![50.0, 99.0, 99.9],
            notify_keyspace_events: KeyspaceEvents::default(),
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            hll_sparse_max_bytes: 3000,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            kept: BTreeMap::new(),
        }
    }
}

/// Why a `CONFIG SET` changed nothing. Displayed, it is the error reply without the leading `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// No directive has this name, as the client spelled it.
    Unknown(String),
    /// The directive refuses the change, and why.
    Refused { name: &'static str, why: String },
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Unknown(name) => {
                write!(
                    f,
                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                )
            }
            SetError::Refused { name, why } => {
                write!(
                    f,
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
                )
            }
        }
    }
}

impl std::error::Error for SetError {}

/// The least that `maxmemory-clients` limits to: one request would already be more than less.
const CLIENTS_MEMORY_LEAST: u64 = 128 << 10;

impl Config {
    /// What to say of a directive, or of a `user_line` or `rename_line`, that shows to be wrong: where it was written,
    /// if it was, and why.
    pub fn at(&self, line: &str, why: impl fmt::Display) -> String {
        match self.places.get(line) {
            Some(place) => format!("{place}: {why}"),
            None => why.to_string(),
        }
    }

    /// Bytes that all clients may take together; 0 is no limit.
    pub fn clients_memory(&self) -> u64 {
        match self.maxmemory_clients.bytes_of(self.maxmemory) {
            0 => 0,
            bytes => bytes.max(CLIENTS_MEMORY_LEAST),
        }
    }

    /// `CONFIG SET`: the configuration with every pair of name and value applied, or the first mistake and no
    /// change at all. Protected directives need `enable-protected-configs yes`.
    pub fn set_many<N: AsRef<[u8]>, V: AsRef<[u8]>>(&self, pairs: &[(N, V)]) -> Result<Config, SetError> {
        self.set_many_from(pairs, false)
    }

    /// The same for a client of which it is known whether it is on this machine, which is what
    /// `enable-protected-configs local` asks for.
    pub fn set_many_from<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: &[(N, V)],
        client_is_local: bool,
    ) -> Result<Config, SetError> {
        // All names are judged before any value is: the order in which Redis finds mistakes.
        let mut rows = Vec::with_capacity(pairs.len());
        for (name, _) in pairs {
            let (name, row) = directives::lookup(name.as_ref())
                .ok_or_else(|| SetError::Unknown(String::from_utf8_lossy(name.as_ref()).into_owned()))?;
            self.may_change(name, row, client_is_local)?;
            if rows.iter().any(|&(earlier, _)| earlier == name) {
                return Err(SetError::Refused {
                    name,
                    why: "duplicate parameter".into(),
                });
            }
            rows.push((name, row));
        }
        let mut changed = self.clone();
        for ((name, row), (_, value)) in rows.into_iter().zip(pairs) {
            row.set_from_one(&mut changed, value.as_ref())
                .map_err(|why| SetError::Refused { name, why })?;
        }
        Ok(changed)
    }

    fn may_change(&self, name: &'static str, row: &Directive, client_is_local: bool) -> Result<(), SetError> {
        let unlocked = self.enable_protected_configs.allows(client_is_local);
        let why = match row.change {
            Change::Live => return Ok(()),
            Change::Protected if unlocked => return Ok(()),
            // Redis would let an unlocked client change the folder; here the folder is locked while the server runs.
            Change::Locked if !unlocked => "can't set protected config",
            Change::Protected => "can't set protected config",
            Change::Fixed | Change::Locked => "can't set immutable config",
        };
        Err(SetError::Refused {
            name,
            why: why.into(),
        })
    }

    /// `CONFIG GET`: the value of the directive with this name or alias, as Redis would format it.
    pub fn get(&self, name: &[u8]) -> Option<Vec<u8>> {
        directives::lookup(name).map(|(_, row)| row.get(self))
    }

    /// Every name and alias that `CONFIG GET *` shows, with its value.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, Vec<u8>)> + '_ {
        directives::names()
            .filter(|(_, row)| !row.hidden)
            .map(|(name, row)| (name, row.get(self)))
    }

    /// See [`memory_size`].
    pub fn memory_size(text: &[u8]) -> Option<u64> {
        values::memory_size(text)
    }

    /// The range that covers what no other does: as configured, else durable.
    pub fn default_range(&self) -> RangeSpec {
        let configured = self.ranges.iter().find(|range| range.name == DEFAULT_RANGE);
        configured.cloned().unwrap_or_else(RangeSpec::default_range)
    }

    /// `CONFIG REWRITE`: see [`rewrite::rewrite_file`].
    pub fn rewrite_file(&self, path: &Path) -> std::io::Result<()> {
        rewrite::rewrite_file(self, path)
    }

    /// Makes the data folder's path independent of the working directory, so that `CONFIG GET dir` means the same
    /// to everyone.
    fn settle(&mut self) {
        // Without a working directory the path stays relative, and opening the folder will say what is wrong.
        if let Ok(absolute) = std::path::absolute(&self.dir) {
            self.dir = absolute;
        }
    }

    fn kept(&self, name: &str, default: &str) -> Vec<u8> {
        self.kept.get(name).cloned().unwrap_or_else(|| default.into())
    }

    fn keep(&mut self, name: &'static str, default: &str, value: Vec<u8>) {
        if value == default.as_bytes() {
            self.kept.remove(name);
        } else {
            self.kept.insert(name, value);
        }
    }
}
