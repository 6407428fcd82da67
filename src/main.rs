//! The `terrace` program: flags, configuration, run.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use terrace::config::{Command, Config, Startup};
use terrace::net::descriptors;
use terrace::net::listener::Listeners;
use terrace::observe::supervisor::Supervisor;
use terrace::observe::{logger, memory};
use terrace::server::{Server, VERSION};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long connections may take to end before the last flush begins.
const DRAIN: Duration = Duration::from_millis(500);
/// How long nobody may listen to the network while a worker is held up.
const WAKE_EVERY: Duration = Duration::from_millis(50);

/// How long those may take who are sent what was gathered for them.
const LAST_MESSAGES: Duration = Duration::from_millis(5);

/// Milliseconds after which memory that nothing uses goes back to the system.
const UNUSED_MS: isize = 1_000;

fn main() -> ExitCode {
    let args: Vec<Vec<u8>> = std::env::args_os()
        .skip(1)
        .map(std::os::unix::ffi::OsStringExt::into_vec)
        .collect();
    match Command::parse(&args) {
        Ok(Command::Serve(startup)) => serve(*startup),
        Ok(Command::Check { dir, repair }) => terrace::check::run(&dir, repair),
        Ok(Command::Backup(tool)) => terrace::backup::tools::backup(&tool),
        Ok(Command::Restore(tool)) => terrace::backup::tools::restore(&tool),
        Ok(Command::Import { file, startup }) => terrace::import::run(&file, *startup),
        Ok(Command::Version(text) | Command::Help(text)) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(startup: Startup) -> ExitCode {
    // Crash points for tests of recovery; see `journal::crash_point`. None without the variable.
    let _scenario = std::env::var_os("FAILPOINTS").map(|_| fail::FailScenario::setup());
    let Startup {
        mut config,
        file,
        warnings,
    } = startup;
    if let Err(error) = logger::start(Path::new(&config.logfile), config.loglevel) {
        eprintln!("the log file {} cannot be opened: {error}", config.logfile);
        return ExitCode::FAILURE;
    }
    log::info!("Terrace {VERSION} starting, pid {}", std::process::id());
    for warning in warnings {
        log::warn!("{warning}");
    }
    descriptors::fit_clients(&mut config);
    memory::give_back_within(UNUSED_MS);
    let threads = match config.io_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => keep_listening(runtime.handle().clone())
            .map_err(|error| error.to_string())
            .and_then(|()| runtime.block_on(run(config, file))),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            // Also where an operator looks who has a log file.
            eprintln!("terrace: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Wakes a worker now and then, so that somebody listens to the network. What takes long says so and lets its worker's
/// other work be done; a script inside one function of Lua's library cannot say so, and its worker may have been the one
/// that listened.
fn keep_listening(runtime: tokio::runtime::Handle) -> std::io::Result<()> {
    let wake = move || {
        loop {
            std::thread::sleep(WAKE_EVERY);
            runtime.spawn(std::future::ready(()));
        }
    };
    std::thread::Builder::new().name("wake".into()).spawn(wake)?;
    Ok(())
}

async fn run(config: Config, file: Option<std::path::PathBuf>) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    // A terminal that goes, or a tool that rotates logs, does not end the server: taken, and nothing done.
    let _hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let (pidfile, socket) = (config.pidfile.clone(), config.unixsocket.clone());
    let supervisor = Supervisor::find(config.supervised);
    // Bound before the data is read, so that a second server ends at once, and clients are told to wait.
    let (opened, ready) = watch::channel(None);
    let listeners = Listeners::open(&config, ready).map_err(|error| error.to_string())?;
    supervisor.loading();
    let opening = tokio::task::spawn_blocking(|| Server::open(config, file));
    let server = tokio::select! {
        server = opening => server.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?,
        _ = terminate.recv() => leave_while_opening("SIGTERM"),
        _ = interrupt.recv() => leave_while_opening("SIGINT"),
    };
    server.set_listeners(listeners);
    write_pidfile(&pidfile);
    banner(&server);
    tokio::spawn(server.clients.gather.clone().run());
    opened.send_replace(Some(server.clone()));
    supervisor.ready();
    let mut shutdown = server.shutdown.subscribe();
    tokio::select! {
        _ = terminate.recv() => log::info!("SIGTERM received, shutting down"),
        _ = interrupt.recv() => log::info!("SIGINT received, shutting down"),
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    supervisor.stopping();
    server.stop();
    if server.clients.gather.send_now() > 0 {
        tokio::time::sleep(LAST_MESSAGES).await;
    }
    for client in server.clients.all() {
        client.kill();
    }
    let drained = tokio::time::Instant::now() + DRAIN;
    while !server.clients.is_empty() && tokio::time::Instant::now() < drained {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let closed = tokio::task::block_in_place(|| server.close());
    for path in [&pidfile, &socket].into_iter().filter(|path| !path.is_empty()) {
        // It may be gone already.
        let _ = std::fs::remove_file(path);
    }
    closed.map_err(|error| error.to_string())?;
    log::info!("Terrace is ready to exit, bye bye...");
    Ok(())
}

/// What a start does to the data folder may be cut off anywhere, as by a crash.
fn leave_while_opening(signal: &str) -> ! {
    log::info!("{signal} received while the data was being read, bye bye...");
    // SAFETY: nothing runs after this; the threads that still read are not to find what they use torn down.
    unsafe { libc::_exit(0) }
}

fn write_pidfile(path: &str) {
    if path.is_empty() {
        return;
    }
    if let Err(error) = std::fs::write(path, format!("{}\n", std::process::id())) {
        log::warn!("pidfile {path} cannot be written: {error}");
    }
}

fn banner(server: &Arc<Server>) {
    let config = server.config.load();
    log::info!("data folder {}", config.dir.display());
    for range in server.keyspace.ranges().iter() {
        let keys = String::from_utf8_lossy(&range.spec.bounds.to_bytes()).into_owned();
        let tier = range.spec.tier.as_str();
        log::info!(
            "range {}: keys {keys}, {tier}, {} keys now",
            range.spec.name,
            range.counters.total_keys()
        );
    }
    let unix = if config.unixsocket.is_empty() {
        String::new()
    } else {
        format!(" and {}", config.unixsocket)
    };
    let other = |name: &str, port: u16| match port {
        0 => String::new(),
        port => format!(", {name} {port}"),
    };
    log::info!(
        "ready to accept connections on {} port {}{}{unix}{}",
        config.bind.join(" "),
        config.port,
        other("TLS port", config.tls_port),
        other("metrics on port", config.metrics_port),
    );
}
