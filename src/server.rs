//! The server: what all connections share, put together from the layers, and its background work.

use crate::acl::Acl;
use crate::backup::{self, BackupError};
use crate::command::blocked::Blocked;
use crate::command::functions;
use crate::command::replay::Replayer;
use crate::command::table::{self, Command};
use crate::command::{Args, Error};
use crate::command::{acl, permission};
use crate::config::{Config, rename_line};
use crate::import;
use crate::journal::{self, ReadSummary, Retention};
use crate::keyspace::import::{ImportError, Imported, Report};
use crate::keyspace::load::may_wait;
use crate::keyspace::moves::undo_unfinished;
use crate::keyspace::range::{Inherited, RangeMap};
use crate::keyspace::reshape::specs_at_start;
use crate::keyspace::snapshot::{self, Frame, Saved};
use crate::keyspace::{Effects, Keyspace, Settings, beside, warm};
use crate::net::clients::Clients;
use crate::net::descriptors;
use crate::net::listener::Listeners;
use crate::net::session::Session;
use crate::net::tls;
use crate::object;
use crate::object::codec::{self, Form};
use crate::observe::errors::ErrorStats;
use crate::observe::latency::Latency;
use crate::observe::logger;
use crate::observe::monitor::Monitors;
use crate::observe::slowlog::SlowLog;
use crate::pubsub::PubSub;
use crate::script::catalog::Catalog;
use crate::script::library::Libraries;
use crate::script::running::RunningScripts;
use crate::store::StoreError;
use crate::store::block::BlockStore;
use crate::store::flush::Meta;
use crate::store::plain::PlainStore;
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, ReentrantMutex, ReentrantMutexGuard};
use std::fmt;
use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The Redis version whose behaviour clients are told to expect.
pub const REDIS_VERSION: &str = "7.2.4";
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The libraries of functions, in the data folder. The file is replaced as a whole, never changed.
pub const FUNCTIONS_FILE: &str = "functions.dump";

/// How long the cron deletes expired keys before it sleeps for a millisecond: shorter than what a scheduler gives one of
/// two threads that want the same core, so that a connection on it waits no longer for this than for anything else.
const EXPIRE_BUDGET: Duration = Duration::from_millis(2);

/// How often segments whose time is over are looked for: a server without writes does not flush.
const TRIM_EVERY: Duration = Duration::from_secs(10);

/// How often memory beside keys is counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// Unix milliseconds.
pub fn unix_ms() -> i64 {
    journal::unix_ms() as i64
}

/// Why a server does not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl StartError {
    pub fn new(why: impl fmt::Display) -> StartError {
        StartError(why.to_string())
    }
}

/// Counters of the whole server.
#[derive(Default)]
pub struct Totals {
    pub connections: AtomicU64,
    pub rejected_connections: AtomicU64,
    pub net_in: AtomicU64,
    pub net_out: AtomicU64,
    /// From and to clients; each of a batch of requests, or of their replies.
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    /// Microseconds that the cron has spent on keys whose time had come.
    pub expire_us: AtomicU64,
    pub commands: AtomicU64,
    /// Clients closed because they left too much unread.
    pub output_limit_closed: AtomicU64,
    /// Clients closed for `maxmemory-clients`.
    pub evicted_clients: AtomicU64,
    /// Commands, bytes read and bytes written per second, measured by the cron.
    pub ops_per_second: AtomicU64,
    pub net_in_per_second: AtomicU64,
    pub net_out_per_second: AtomicU64,
    pub peak_memory: AtomicU64,
    /// Bytes allocated once the server was ready.
    pub startup_memory: AtomicU64,
}

/// The totals at the last measurement: commands, bytes read, bytes written.
#[derive(Default)]
struct Rates([u64; 3]);

impl Rates {
    fn measure(&mut self, totals: &Totals, passed: Duration) {
        let pairs = [
            (&totals.commands, &totals.ops_per_second),
            (&totals.net_in, &totals.net_in_per_second),
            (&totals.net_out, &totals.net_out_per_second),
        ];
        for (before, (total, rate)) in self.0.iter_mut().zip(pairs) {
            let now = total.load(Relaxed);
            // CONFIG RESETSTAT may have set the total back.
            let per_second = now.saturating_sub(*before) as f64 / passed.as_secs_f64();
            rate.store(per_second as u64, Relaxed);
            *before = now;
        }
    }
}

/// `CLIENT PAUSE`.
#[derive(Default)]
pub struct Pause {
    until_ms: AtomicI64,
    writes_only: AtomicBool,
}

impl Pause {
    /// True when a command has to wait.
    #[inline]
    pub fn holds(&self, write: bool, now_ms: i64) -> bool {
        let until = self.until_ms.load(Relaxed);
        until != 0 && now_ms < until && (write || !self.writes_only.load(Relaxed))
    }

    /// Begins a pause, or makes the one that lasts longer and stricter; never shorter or milder.
    pub fn extend(&self, until_ms: i64, writes_only: bool, now_ms: i64) {
        let lasts = self.holds(true, now_ms);
        let milder = lasts && !self.writes_only.load(Relaxed);
        self.writes_only.store(writes_only && !milder, Relaxed);
        let until_ms = if lasts {
            until_ms.max(self.until_ms.load(Relaxed))
        } else {
            until_ms
        };
        self.until_ms.store(until_ms, Relaxed);
    }

    pub fn clear(&self) {
        self.until_ms.store(0, Relaxed);
    }

    pub fn until_ms(&self) -> i64 {
        self.until_ms.load(Relaxed)
    }
}

pub struct Server {
    pub config: ArcSwap<Config>,
    config_change: ReentrantMutex<()>,
    pub config_file: Option<PathBuf>,
    pub keyspace: Arc<Keyspace>,
    pub clients: Clients,
    pub totals: Totals,
    pub errors: ErrorStats,
    pub slowlog: Mutex<SlowLog>,
    /// Commands that take at least so long are looked at by the slow log and the latency monitor.
    pub slow_nanos: AtomicU64,
    pub latency: Mutex<Latency>,
    pub monitors: Monitors,
    pub pause: Pause,
    pub acl: Acl,
    /// What the TLS port offers; none without one.
    pub tls: ArcSwapOption<rustls::ServerConfig>,
    /// None where it is not served, as by a tool.
    listeners: OnceLock<Listeners>,
    pub pubsub: Arc<PubSub>,
    /// Clients that wait for keys.
    pub blocked: Blocked,
    /// Scripts by their hash, and those that have been running for a while.
    pub scripts: Catalog,
    pub libraries: Libraries,
    pub running: RunningScripts,
    pub active_expire: AtomicBool,
    pub backups: Arc<backup::state::Backups>,
    /// Times commands.
    pub clock: quanta::Clock,
    pub started: Instant,
    pub started_ms: i64,
    pub run_id: String,
    pub recovered: ReadSummary,
    /// Turns true when the server is to end.
    pub shutdown: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held while the data folder is in use.
    _lock: File,
}

fn settings(config: &Config) -> Settings {
    Settings {
        shards: config.shards,
        maxmemory: config.maxmemory,
        maxmemory_samples: config.maxmemory_samples as usize,
        lfu_log_factor: config.lfu_log_factor,
        lfu_decay_minutes: config.lfu_decay_time_minutes,
        journal_flush_size: config.journal_flush_size,
        flush_dirty_size: config.flush_dirty_size,
        seal_after: config.seal_after_seconds,
        paged_threshold: config.paged_threshold,
        paged_threshold_size: config.paged_threshold_size,
        max_value_len: config.proto_max_bulk_len,
        inherited: inherited(config),
    }
}

/// Directives hold numbers of any size; what does not fit the machine's is no limit.
fn object_limits(config: &Config) -> object::Limits {
    let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    object::Limits {
        hash_max_listpack_entries: config.hash_max_listpack_entries,
        hash_max_listpack_value: bytes(config.hash_max_listpack_value),
        set_max_intset_entries: config.set_max_intset_entries,
        set_max_listpack_entries: config.set_max_listpack_entries,
        set_max_listpack_value: bytes(config.set_max_listpack_value),
        zset_max_listpack_entries: config.zset_max_listpack_entries,
        zset_max_listpack_value: bytes(config.zset_max_listpack_value),
        list_max_listpack_size: config.list_max_listpack_size.into(),
        stream_node_max_bytes: bytes(config.stream_node_max_bytes),
        stream_node_max_entries: bytes(config.stream_node_max_entries),
        hll_sparse_max_bytes: bytes(config.hll_sparse_max_bytes),
        ..object::Limits::default()
    }
}

fn frame<'a>(config: &Config, libraries: &'a [Vec<u8>]) -> Frame<'a> {
    Frame {
        form: Form {
            version: codec::VERSION_DEFAULT,
            compress: config.rdbcompression,
        },
        server_version: REDIS_VERSION,
        libraries,
    }
}

fn inherited(config: &Config) -> Inherited {
    Inherited {
        fsync: config.appendfsync,
        eviction: config.maxmemory_policy,
        notify: config.notify_keyspace_events,
        objects: object_limits(config),
    }
}

/// Takes the lock of a data folder; it is let go when the file is dropped, or by the system when the process dies.
pub fn lock_folder(dir: &Path) -> Result<File, StartError> {
    std::fs::create_dir_all(dir)
        .map_err(|error| StartError::new(format_args!("{}: {error}", dir.display())))?;
    let path = dir.join("terrace.lock");
    let file =
        File::create(&path).map_err(|error| StartError::new(format_args!("{}: {error}", path.display())))?;
    file.try_lock().map_err(|_| {
        StartError::new(format_args!(
            "the data folder {} is in use by another server",
            dir.display()
        ))
    })?;
    Ok(file)
}

impl Server {
    /// Opens the data folder, recovers, and starts the background threads.
    pub fn open(config: Config, config_file: Option<PathBuf>) -> Result<Arc<Server>, StartError> {
        let started = Instant::now();
        table::rename(&config.renames).map_err(|(from, why)| {
            let line = rename_line(from);
            StartError::new(config.at(&line, format_args!("{line}: {why}")))
        })?;
        let tls =
            tls::server_config(&config).map_err(|error| StartError::new(config.at("tls-port", error)))?;
        let lock = lock_folder(&config.dir)?;
        backup::restore::refuse_unfinished(&config.dir).map_err(StartError::new)?;
        snapshot::remove_left_over(&config.dir).map_err(StartError::new)?;
        let first = import::prepare(&config.dir, &config.dbfilename).map_err(StartError::new)?;
        let store = BlockStore::open(&config.dir.join("store"), config.store_block_cache as usize)
            .map_err(StartError::new)?;
        let mut meta = store.meta().map_err(StartError::new)?;
        let (journal_dir, held) = (config.dir.join("journal"), meta.as_ref().map_or(0, Meta::held));
        journal::refuse_missing(&journal_dir, held).map_err(StartError::new)?;
        meta.iter_mut().for_each(undo_unfinished);
        let settings = settings(&config);
        let remembered = meta.iter().flat_map(|meta| &meta.ranges).map(|range| &range.spec);
        let specs = specs_at_start(&config.ranges, remembered).map_err(StartError::new)?;
        let map = RangeMap::new(&specs, settings.inherited, None);
        let options = journal::Options {
            segment_size: config.journal_segment_size,
            ring_size: beside::ring_size(config.journal_ring_size, config.maxmemory) as usize,
            sync_every_second: map.wants_sync_every_second(),
        };
        let (plain, warm) = open_plain(&config.memory_dir)?;
        // What is sealed is found by its hash.
        let seed = warm.as_deref().and_then(warm::hash_seed);
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        let keyspace = Arc::new(Keyspace::with_plain(store, plain, map, &settings, seed));
        let mut replayer = Replayer::new(unix_ms());
        let recovered = keyspace
            .recover(meta, &journal_dir, options, |keyspace, records| {
                replayer.apply(keyspace, records)
            })
            .map_err(StartError::new)?;
        warm_up(&keyspace, &warm.unwrap_or_default())?;
        report_recovery(&recovered, started.elapsed());
        let blocked = Blocked::new(keyspace.vanished.clone());
        let server = Arc::new(Server {
            keyspace,
            config_file,
            clients: Clients::default(),
            totals: Totals::default(),
            errors: ErrorStats::default(),
            slowlog: Mutex::default(),
            slow_nanos: AtomicU64::new(u64::MAX),
            latency: Mutex::default(),
            monitors: Monitors::default(),
            pause: Pause::default(),
            pubsub: Arc::default(),
            acl: Acl::new(&permission::TABLE),
            tls: ArcSwapOption::new(tls),
            listeners: OnceLock::new(),
            blocked,
            scripts: Catalog::default(),
            libraries: Libraries::default(),
            running: RunningScripts::default(),
            active_expire: AtomicBool::new(true),
            backups: Arc::default(),
            clock: quanta::Clock::new(),
            started,
            started_ms: unix_ms(),
            run_id: (0..40)
                .map(|_| char::from(b"0123456789abcdef"[fastrand::usize(..16)]))
                .collect(),
            recovered,
            shutdown: watch::Sender::new(false),
            threads: Mutex::default(),
            config: ArcSwap::from_pointee(config),
            config_change: ReentrantMutex::default(),
            _lock: lock,
        });
        server.keyspace.set_listener(server.pubsub.clone());
        acl::at_start(&server).map_err(StartError::new)?;
        server.apply_config();
        functions::read_file(&server).map_err(StartError::new)?;
        server.start_threads()?;
        if let Some(file) = first {
            import::at_start(&server, &file).map_err(StartError::new)?;
        }
        let startup = crate::observe::memory::allocated();
        server.totals.startup_memory.store(startup, Relaxed);
        server.totals.peak_memory.store(startup, Relaxed);
        Ok(server)
    }

    fn start_threads(self: &Arc<Server>) -> Result<(), StartError> {
        let keyspace = self.keyspace.clone();
        let flush = std::thread::Builder::new()
            .name("flush".into())
            .spawn(move || keyspace.flush_loop());
        let server = self.clone();
        let cron = std::thread::Builder::new()
            .name("cron".into())
            .spawn(move || server.cron());
        let keyspace = self.keyspace.clone();
        let seal = std::thread::Builder::new()
            .name("seal".into())
            .spawn(move || keyspace.seal_loop());
        let threads = [flush, cron, seal]
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::new)?;
        self.threads.lock().extend(threads);
        Ok(())
    }

    /// Brings into force what `config` says now: called after every change of it.
    pub fn apply_config(&self) {
        let config = self.config.load();
        self.keyspace.apply_settings(&settings(&config));
        self.keyspace.inherit(inherited(&config));
        if let Some(journal) = self.keyspace.journal() {
            journal.set_retention(Retention {
                time_ms: config.journal_retention_seconds.saturating_mul(1_000),
                size: config.journal_retention_size,
            });
        }
        let slow = [
            u64::try_from(config.slowlog_log_slower_than_us).map_or(u64::MAX, |us| us.saturating_mul(1_000)),
            match config.latency_monitor_threshold_ms {
                0 => u64::MAX,
                ms => ms.saturating_mul(1_000_000),
            },
        ];
        self.slow_nanos
            .store(slow.into_iter().min().unwrap_or(u64::MAX), Relaxed);
        self.pubsub
            .delivery
            .set_limit(config.client_output_buffer_limit.pubsub);
        self.clients.gather.set_most(u64::from(config.pubsub_gather_us));
        self.slowlog.lock().set_max_len(config.slowlog_max_len);
        self.acl
            .users
            .set_all_channels_by_default(config.acl_pubsub_allchannels);
        logger::set_level(config.loglevel);
    }

    /// Until what this returns is dropped, this thread alone changes the configuration and the ranges. Who will hold
    /// shards while it changes the configuration asks for this first: the shards come last.
    pub fn begin_config_change(&self) -> [ReentrantMutexGuard<'_, ()>; 2] {
        // Ranges may be changing, which may take a while.
        may_wait(|| [self.config_change.lock(), self.keyspace.begin_change()])
    }

    /// Puts a changed configuration in the old one's place and brings it into force; a failing change changes
    /// nothing. One change at a time.
    pub fn change_config<E>(&self, change: impl FnOnce(&Config) -> Result<Config, E>) -> Result<(), E> {
        let _one = self.begin_config_change();
        let before = self.config.load_full();
        let changed = Arc::new(change(&before)?);
        self.config.store(changed.clone());
        if changed.requirepass != before.requirepass {
            self.acl.users.set_default_password(&changed.requirepass);
        }
        self.apply_config();
        Ok(())
    }

    /// Has the system allow so many clients; returns how many it does.
    pub fn allow_clients(&self, wanted: u32) -> u32 {
        descriptors::raise_for(wanted)
    }

    /// Says by what the server is reached, once.
    pub fn set_listeners(&self, listeners: Listeners) {
        // A second time nothing changes.
        let _ = self.listeners.set(listeners);
    }

    /// Listens where a configuration says; all stays as it is when that cannot be.
    pub fn listen(&self, config: &Config) -> io::Result<()> {
        self.listeners
            .get()
            .map_or(Ok(()), |listeners| listeners.change(config))
    }

    /// Reads the files of TLS that a configuration names, for connections from now on. An error changes nothing.
    pub fn load_tls(&self, config: &Config) -> Result<(), String> {
        let tls = tls::server_config(config).map_err(|error| error.to_string())?;
        self.tls.store(tls);
        Ok(())
    }

    /// A command took long enough to be noted.
    pub fn note_slow(&self, spec: &'static Command, args: &Args<'_>, session: &Session, nanos: u64) {
        let config = self.config.load();
        let us = nanos / 1_000;
        let threshold = config.slowlog_log_slower_than_us;
        if threshold >= 0 && us >= threshold as u64 && !spec.has(crate::command::spec::flag::SKIP_SLOWLOG) {
            self.slowlog.lock().push(args, session, unix_ms(), us);
        }
        let latency = config.latency_monitor_threshold_ms;
        if latency > 0 && nanos >= latency.saturating_mul(1_000_000) {
            let event = if spec.has(crate::command::spec::flag::FAST) {
                "fast-command"
            } else {
                "command"
            };
            self.latency.lock().note(event, unix_ms(), us / 1_000);
        }
    }

    /// Closes the clients that take most, while all together take more than `maxmemory-clients`.
    pub fn evict_clients(&self) {
        let limit = self.config.load().clients_memory();
        if limit == 0 {
            return;
        }
        for client in self.clients.evict(limit) {
            self.totals.evicted_clients.fetch_add(1, Relaxed);
            log::info!(
                "client {} closed: maxmemory-clients, it took {} bytes",
                client.addr,
                client.memory()
            );
        }
    }

    /// Notes what the server has done by itself, if it took as long as the latency monitor asks for.
    fn note_event(&self, event: &'static str, took: Duration) {
        let threshold_ms = self.config.load().latency_monitor_threshold_ms;
        let ms = took.as_millis() as u64;
        if threshold_ms > 0 && ms >= threshold_ms {
            self.latency.lock().note(event, unix_ms(), ms);
        }
    }

    /// Keys had to go to make room, which took so long.
    pub fn note_eviction(&self, took: Duration) {
        self.note_event("eviction-cycle", took);
        self.note_event("eviction-del", self.keyspace.take_longest_eviction());
    }

    /// Takes away keys whose time has come, for a while; true when there are more.
    fn expire(&self, now_ms: i64, effects: &mut Effects) -> bool {
        let began = Instant::now();
        let (_, mut more) = self.keyspace.expire_resident(now_ms, EXPIRE_BUDGET, effects);
        match self.keyspace.expire_cold(now_ms, 256, effects) {
            Ok((_, more_cold)) => more |= more_cold,
            Err(error) => log::warn!("expired keys could not be read: {error}"),
        }
        let took = began.elapsed();
        self.totals.expire_us.fetch_add(took.as_micros() as u64, Relaxed);
        self.note_event("expire-cycle", took);
        more
    }

    /// Ten times a second: expiry, idle clients, figures.
    fn cron(&self) {
        let mut effects = Effects::default();
        let mut last = Instant::now();
        let mut trimmed = Instant::now();
        let mut counted = Instant::now();
        let mut rates = Rates::default();
        let shutdown = self.shutdown.subscribe();
        while !*shutdown.borrow() {
            let now_ms = unix_ms();
            let mut busy = false;
            if self.active_expire.load(Relaxed) && !self.pause.holds(true, now_ms) {
                busy = self.expire(now_ms, &mut effects);
            }
            self.blocked.serve_vanished(&self.keyspace, &mut effects, now_ms);
            if let Some(journal) = self.keyspace.journal() {
                let longest = journal.sync_times().longest_nanos.swap(0, Relaxed);
                self.note_event("journal-sync", Duration::from_nanos(longest));
            }
            if last.elapsed() >= Duration::from_secs(1) {
                rates.measure(&self.totals, last.elapsed());
                last = Instant::now();
                self.totals
                    .peak_memory
                    .fetch_max(crate::observe::memory::allocated(), Relaxed);
                let config = self.config.load();
                self.clients.close_idle(config.timeout, now_ms);
                self.pubsub.delivery.close_slow();
                if !self.acl.users.are_open() {
                    self.clients.close_strangers(config.auth_timeout, now_ms);
                }
            }
            if counted.elapsed() >= COUNT_EVERY {
                counted = Instant::now();
                self.keyspace.count_beside(crate::observe::memory::unused());
            }
            self.pubsub.broadcast();
            self.evict_clients();
            if trimmed.elapsed() >= TRIM_EVERY {
                trimmed = Instant::now();
                self.keyspace.trim_journal();
            }
            std::thread::sleep(Duration::from_millis(if busy { 1 } else { 100 }));
        }
    }

    /// Brings the store up to date, and writes every key into the RDB file of the configuration. None when that is
    /// under way already.
    pub fn save(&self) -> Option<Result<Saved, StoreError>> {
        if let Err(error) = self.keyspace.flush_now() {
            return Some(Err(error));
        }
        let config = self.config.load();
        let libraries = self.libraries.shelf().texts();
        let frame = frame(&config, &libraries);
        self.keyspace.save(&config.dir, &config.dbfilename, frame)
    }

    /// A snapshot in a file without a name, at its beginning; with or without keys.
    pub fn snapshot_for_client(&self, without_keys: bool) -> Result<File, StoreError> {
        let config = self.config.load();
        let libraries = self.libraries.shelf().texts();
        let frame = frame(&config, &libraries);
        let mut file = snapshot::nameless_file(&config.dir).map_err(StoreError::new)?;
        if without_keys {
            frame.write_alone(&file).map_err(StoreError::new)?;
        } else {
            self.keyspace.flush_now()?;
            let own = file.try_clone().map_err(StoreError::new)?;
            self.keyspace.save_into(own, frame)?;
        }
        file.rewind().map_err(StoreError::new)?;
        Ok(file)
    }

    /// Takes in the keys and the functions of an RDB file; `report` hears how far it is.
    pub fn import(&self, path: &Path, report: Report<'_>) -> Result<Imported, ImportError> {
        let databases = self.config.load().databases.into();
        let imported = self.keyspace.import(path, databases, unix_ms(), report)?;
        self.keyspace.flush_now().map_err(ImportError::Store)?;
        functions::take_in(self, &imported.libraries).map_err(ImportError::Libraries)?;
        Ok(imported)
    }

    /// Begins a backup into a folder, in the background.
    pub fn start_backup(&self, dir: &Path) -> Result<(), BackupError> {
        self.backups.start(self.keyspace.clone(), dir, VERSION)
    }

    /// Asks the server to end.
    pub fn stop(&self) {
        self.shutdown.send_replace(true);
    }

    /// The end: no connection is served any more. Flushes, syncs, and leaves a state that starts at once.
    pub fn close(&self) -> Result<(), Error> {
        self.keyspace.snapshots.stop();
        self.backups.stop();
        let closed = self.keyspace.close();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        Ok(closed?)
    }
}

/// The store behind memory ranges, and what an orderly end has left of it.
fn open_plain(folder: &str) -> Result<(PlainStore, Option<Vec<u8>>), StartError> {
    match folder {
        "" => Ok((PlainStore::on_heap(), None)),
        folder => PlainStore::in_folder(Path::new(folder)).map_err(StartError::new),
    }
}

/// Goes on with the sealed keys of the last run.
fn warm_up(keyspace: &Keyspace, state: &[u8]) -> Result<(), StartError> {
    let began = Instant::now();
    let taken = keyspace.warm_up(state).map_err(StartError::new)?;
    if taken {
        let (keys, _) = keyspace.count_sealed();
        let seconds = began.elapsed().as_secs_f64();
        log::info!("memory-dir: {keys} keys are warm after {seconds:.3} seconds");
    } else if !state.is_empty() {
        log::warn!("memory-dir: ranges or shards have changed, or files are missing: the cache starts empty");
    }
    Ok(())
}

fn report_recovery(recovered: &ReadSummary, took: Duration) {
    let seconds = took.as_secs_f64();
    if recovered.torn_bytes > 0 {
        log::warn!(
            "journal: the last record was cut short by a crash; {} bytes removed",
            recovered.torn_bytes
        );
    }
    if recovered.records > 0 {
        let rate = recovered.records as f64 / seconds.max(1e-9);
        log::info!(
            "journal: replayed {} records in {seconds:.3} s, {rate:.0} a second",
            recovered.records
        );
    }
    log::info!("data loaded: {seconds:.3} seconds");
}
