//! Listening on TCP addresses and a unix socket, and letting connections in.

use super::clients::{Client, Peer};
use super::connection::{Connection, refuse};
use super::metrics;
use super::socket::Socket;
use super::tls;
use super::waiting::{self, Ready};
use crate::config::Config;
use crate::server::{Server, unix_ms};
use bytes::BytesMut;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// The sockets that a server listens on, each with a task that accepts connections.
pub struct Listeners {
    ready: Ready,
    room: Arc<Semaphore>,
    open: Mutex<Vec<(Address, AbortHandle)>>,
}

/// A port on an address of `bind`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Address {
    kind: Kind,
    /// As in the configuration, with a `-` in front where it may be unavailable.
    name: String,
    port: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Plain,
    Tls,
    /// For scrapers of metrics.
    Metrics,
}

/// The addresses that a configuration asks for.
fn wanted(config: &Config) -> Vec<Address> {
    let ports = [
        (Kind::Plain, config.port),
        (Kind::Tls, config.tls_port),
        (Kind::Metrics, config.metrics_port),
    ];
    let ports = ports.into_iter().filter(|(_, port)| *port != 0);
    let on_all = |(kind, port)| {
        config.bind.iter().map(move |name| Address {
            kind,
            name: name.clone(),
            port,
        })
    };
    ports.flat_map(on_all).collect()
}

impl Listeners {
    /// Binds every configured address and lets connections in. Until the server is there they wait, those with TLS
    /// before their handshake.
    pub fn open(config: &Config, ready: Ready) -> io::Result<Listeners> {
        let listeners = Listeners {
            ready,
            room: Arc::new(Semaphore::new(config.maxclients as usize)),
            open: Mutex::default(),
        };
        listeners.change(config)?;
        let unix = !config.unixsocket.is_empty();
        if unix {
            listeners.spawn(Listener::Unix(bind_unix(config)?));
        }
        let is_open = |kind: Kind| {
            listeners
                .open
                .lock()
                .iter()
                .any(|(address, _)| address.kind == kind)
        };
        if !unix && !is_open(Kind::Plain) && !is_open(Kind::Tls) {
            return Err(io::Error::other(
                "no address to listen on: port and tls-port are 0 and no unixsocket is set",
            ));
        }
        Ok(listeners)
    }

    /// Listens on what a configuration asks for, and no more on what it does not. When an address cannot be bound all
    /// stays as it is. Connections go on; the unix socket stays.
    pub fn change(&self, config: &Config) -> io::Result<()> {
        let wanted = wanted(config);
        let mut open = self.open.lock();
        let missing = wanted
            .iter()
            .filter(|address| !open.iter().any(|(known, _)| known == *address));
        let mut bound = Vec::new();
        for address in missing {
            if let Some(listener) = bind_address(address, config)? {
                bound.push((address.clone(), listener));
            }
        }
        open.retain(|(address, task)| {
            let stays = wanted.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for (address, listener) in bound {
            let task = match address.kind {
                Kind::Plain => self.spawn(Listener::Tcp(listener)),
                Kind::Tls => self.spawn(Listener::Tls(listener)),
                Kind::Metrics => tokio::spawn(metrics::serve(listener, self.ready.clone())).abort_handle(),
            };
            open.push((address, task));
        }
        Ok(())
    }

    fn spawn(&self, listener: Listener) -> AbortHandle {
        tokio::spawn(listener.serve(self.room.clone(), self.ready.clone())).abort_handle()
    }
}

enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// The next connection, and who it is with if that can be told.
    async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Listener::Tcp(listener) | Listener::Tls(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::Tcp(stream), Some(peer)))
            }
            Listener::Unix(listener) => Ok((Socket::Unix(listener.accept().await?.0), None)),
        }
    }

    async fn serve(self, room: Arc<Semaphore>, mut ready: Ready) {
        let secure = matches!(self, Listener::Tls(_));
        let mut known = if secure {
            waiting::server(&mut ready).await
        } else {
            None
        };
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                server = waiting::server(&mut ready), if known.is_none() => match server {
                    Some(_) => {
                        known = server;
                        continue;
                    }
                    None => return,
                },
            };
            match (accepted, &known) {
                (Ok((socket, peer)), Some(server)) => let_in(server, socket, peer, secure, BytesMut::new()),
                (Ok((mut socket, peer)), None) => {
                    let (room, mut ready) = (room.clone(), ready.clone());
                    tokio::spawn(async move {
                        let Ok(_place) = room.try_acquire() else { return };
                        if let Some((server, input)) = waiting::wait(&mut socket, &mut ready).await {
                            let_in(&server, socket, peer, false, input);
                        }
                    });
                }
                (Err(error), _) => accept_failed(&error).await,
            }
        }
    }
}

/// Serves a connection that has sent so much already.
fn let_in(server: &Arc<Server>, socket: Socket, peer: Option<SocketAddr>, secure: bool, input: BytesMut) {
    match (socket, peer) {
        (Socket::Tcp(stream), Some(peer)) => accept_tcp(server, stream, peer, secure, input),
        (Socket::Unix(stream), _) => accept_unix(server, stream, input),
        // A handshake comes later than this.
        (Socket::Tcp(_) | Socket::Tls(_), _) => {}
    }
}

fn is_unavailable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT)
    )
}

/// Binds an address; none if it is not there and need not be.
fn bind_address(address: &Address, config: &Config) -> io::Result<Option<TcpListener>> {
    let (name, optional) = address
        .name
        .strip_prefix('-')
        .map_or((address.name.as_str(), false), |name| (name, true));
    match bind_tcp(name, address.port, config) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if optional && is_unavailable(&error) => Ok(None),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("cannot listen on {name}:{}: {error}", address.port),
        )),
    }
}

fn bind_tcp(name: &str, port: u16, config: &Config) -> io::Result<TcpListener> {
    let ip: IpAddr = match name {
        "*" => IpAddr::from([0, 0, 0, 0]),
        "::*" => IpAddr::from([0u16; 8]),
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        name => name
            .parse()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not an IP address"))?,
    };
    let address = SocketAddr::new(ip, port);
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(config.tcp_backlog as i32)?;
    TcpListener::from_std(socket.into())
}

fn bind_unix(config: &Config) -> io::Result<UnixListener> {
    let path = &config.unixsocket;
    // A socket that an earlier run left behind; anything else there is not ours to remove.
    if fs::symlink_metadata(path)
        .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()))
    {
        fs::remove_file(path)?;
    }
    let listener =
        UnixListener::bind(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    if config.unixsocketperm != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(config.unixsocketperm))?;
    }
    Ok(listener)
}

/// Serves a client once its handshake is done; it counts among the clients from the beginning.
async fn serve_tls(server: Arc<Server>, client: Arc<Client>, stream: TcpStream) {
    let secured = match server.tls.load_full() {
        Some(offered) => tls::accept(stream, offered).await,
        None => Err("no certificate is configured".into()),
    };
    match secured {
        Ok(stream) => {
            let socket = Socket::Tls(Box::new(stream));
            Connection::new(server, client, socket).run().await;
        }
        Err(why) => {
            log::info!("client {} closed: TLS: {why}", client.addr);
            server.clients.remove(client.id);
        }
    }
}

/// Out of file descriptors, mostly: wait for some to be closed.
pub(super) async fn accept_failed(error: &io::Error) {
    log::warn!("accepting a connection failed: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Protected mode: without a password, only this machine is served.
pub(super) fn is_shut_off(server: &Server, peer: SocketAddr) -> bool {
    server.config.load().protected_mode
        && server.acl.users.default_user().needs_no_password()
        && !peer.ip().to_canonical().is_loopback()
}

fn accept_tcp(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr, secure: bool, input: BytesMut) {
    let config = server.config.load();
    // What cannot be set on a socket whose peer is gone does not matter.
    let _ = stream.set_nodelay(true);
    if config.tcp_keepalive > 0 {
        let every = Duration::from_secs(u64::from(config.tcp_keepalive));
        let _ = SockRef::from(&stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(every).with_interval(every / 3));
    }
    let protected = is_shut_off(server, peer);
    let laddr = stream
        .local_addr()
        .map_or_else(|_| String::new(), |addr| addr.to_string());
    let peer = Peer {
        addr: peer.to_string(),
        laddr,
        fd: stream.as_raw_fd(),
        unix_socket: false,
    };
    if protected && secure {
        server.totals.rejected_connections.fetch_add(1, Relaxed);
        return;
    }
    if protected {
        let why = "-DENIED Terrace is running in protected mode because no password is set. Connections are accepted \
                   from this machine only. Set a password with requirepass, or turn protected-mode off.\r\n";
        server.totals.rejected_connections.fetch_add(1, Relaxed);
        tokio::spawn(refuse(Socket::Tcp(stream), why));
        return;
    }
    let incoming = match secure {
        true => Incoming::Tls(stream),
        false => Incoming::Plain(Socket::Tcp(stream), input),
    };
    start(server, incoming, peer);
}

fn accept_unix(server: &Arc<Server>, stream: UnixStream, input: BytesMut) {
    let path = server.config.load().unixsocket.clone();
    let peer = Peer {
        addr: format!("{path}:0"),
        laddr: format!("{path}:0"),
        fd: stream.as_raw_fd(),
        unix_socket: true,
    };
    start(server, Incoming::Plain(Socket::Unix(stream), input), peer);
}

/// A connection before its first request.
enum Incoming {
    /// With what it has sent of one.
    Plain(Socket, BytesMut),
    /// Without its handshake.
    Tls(TcpStream),
}

fn start(server: &Arc<Server>, incoming: Incoming, peer: Peer) {
    server.totals.connections.fetch_add(1, Relaxed);
    let config = server.config.load();
    match server.clients.admit(peer, &config, unix_ms()) {
        Some(client) => {
            let server = server.clone();
            match incoming {
                Incoming::Plain(socket, input) => {
                    tokio::spawn(Connection::new(server, client, socket).with_input(input).run())
                }
                Incoming::Tls(stream) => tokio::spawn(serve_tls(server, client, stream)),
            };
        }
        None => {
            server.totals.rejected_connections.fetch_add(1, Relaxed);
            // Before the handshake there are no words to refuse with.
            if let Incoming::Plain(socket, _) = incoming {
                tokio::spawn(refuse(socket, "-ERR max number of clients reached\r\n"));
            }
        }
    }
}
