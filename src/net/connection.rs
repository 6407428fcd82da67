//! One connection: read, parse, run, wait at the reply gate, write; one write for a batch of pipelined requests, after the
//! worker's other connections have run what they have sent.
//!
//! Guarantees: at most one batch of replies is held for a client that does not read, because the next request runs
//! only after they are written; and at most `client-query-buffer-limit` of requests.

mod catch_up;
mod snapshot;

use super::clients::{Client, client_flag};
use super::inbox::Inbox;
use super::session::{Session, SyncWait};
use super::socket::Socket;
use super::work::{Work, note_work};
use crate::command::blocked::{Ended, Waiter};
use crate::command::{After, Args, Executor};
use crate::resp::{Batch, Limits, Parser, Protocol, Reply};
use crate::server::{Server, unix_ms};
use bytes::{Buf, BytesMut};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes read at once; a longer request makes the buffer grow. A client that never sends so much at once has less.
const READ_BYTES: usize = 16 << 10;
const READ_BYTES_FIRST: usize = 1 << 10;
/// The same, and what is kept for replies, of a client that has subscribed to something.
const LISTENER_BYTES: usize = 512;
const LISTENER_REPLY_BYTES: usize = 2 << 10;
/// Room lent to a request that announces a large argument, before its bytes are there.
const LEND_MOST: usize = 1 << 20;
/// Replies are written when they have grown to this, although requests are left.
const WRITE_BYTES: usize = 64 << 10;
/// What was pushed is copied behind what is to be written, unless it is longer than this.
const JOIN_BYTES: usize = 16 << 10;
/// What was pushed is written by so many bytes at most.
const PART_BYTES: usize = 1 << 20;
/// Requests parsed at once.
const BATCH: usize = 128;
/// How long a command that a script holds up is kept before it is tried again.
const HELD_UP: Duration = Duration::from_millis(2);
/// How long the end of a TLS connection may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// A client whose memory has grown by more is an occasion to look at that of all.
const GROWTH: usize = 64 << 10;
/// A buffer that has grown beyond this is given back when it is empty.
const KEEP_BYTES: usize = 64 << 10;
const KEEP_REPLY_BYTES: usize = 2 * WRITE_BYTES;

thread_local! {
    /// Of the batch that this thread was the last to end.
    static SPARE: Cell<Option<Batch>> = const { Cell::new(None) };
}

pub struct Connection {
    server: Arc<Server>,
    client: Arc<Client>,
    socket: Socket,
    session: Session,
    executor: Executor,
    parser: Parser,
    limits: Limits,
    input: BytesMut,
    /// Bytes read at once so far.
    read_bytes: usize,
    /// What the client cost when that of all was last looked at, or less.
    memory: usize,
    reply: Reply,
    /// What was taken out of the inbox and is being written.
    incoming: Inbox,
    /// What the worker had done when something came last for this client.
    work: Work,
    /// It did something for others between the last two times.
    others_ran: bool,
    /// The last thing seen was a signal: what the client has sent comes next, however much is sent to it.
    signalled: bool,
}

enum Event {
    Read(io::Result<usize>),
    Signal,
}

/// Why a connection ends. All are ordinary; exceeding a limit is worth a line in the log.
enum End {
    Closed,
    Io,
    QueryBufferLimit,
    OutputBufferLimit,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Io
    }
}

impl Connection {
    pub fn new(server: Arc<Server>, client: Arc<Client>, socket: Socket) -> Connection {
        let config = server.config.load();
        let session = Session::new(client.clone(), &server.acl.users);
        let limits = Limits {
            max_bulk_len: config.proto_max_bulk_len as usize,
            authenticated: session.authenticated,
            ..Limits::default()
        };
        Connection {
            session,
            executor: Executor::new(server.clone(), client.id),
            parser: Parser::new(),
            limits,
            input: BytesMut::new(),
            read_bytes: READ_BYTES_FIRST,
            memory: 0,
            reply: Reply::new(Protocol::Resp2),
            incoming: Inbox::default(),
            work: Work::default(),
            others_ran: false,
            signalled: false,
            socket,
            client,
            server: server.clone(),
        }
    }

    /// A connection that has sent so much already.
    pub fn with_input(mut self, input: BytesMut) -> Connection {
        self.input = input;
        self
    }

    /// Serves until either side ends.
    pub async fn run(mut self) {
        let ended = self.serve().await;
        self.leave();
        let limit = match ended {
            Err(End::QueryBufferLimit) => Some("client-query-buffer-limit"),
            Err(End::OutputBufferLimit) => Some("client-output-buffer-limit"),
            _ if self.client.has(client_flag::OVER_LIMIT) => Some("client-output-buffer-limit pubsub"),
            _ => None,
        };
        if let Some(limit) = limit {
            log::warn!("client {} closed: it exceeded {limit}", self.client.addr);
        }
        if limit.is_some_and(|limit| limit.starts_with("client-output")) {
            self.server.totals.output_limit_closed.fetch_add(1, Relaxed);
        }
        if matches!(self.socket, Socket::Tls(_)) {
            // Says that this is the end and not a cut; the client may be gone already.
            let _ = tokio::time::timeout(GOODBYE, self.socket.shutdown()).await;
        }
    }

    /// The server knows this client no more.
    fn leave(&mut self) {
        if let Some(own) = self.session.subscriptions.take() {
            self.server.pubsub.leave(&self.server.keyspace, own);
        }
        if let Some(own) = self.session.watching.take() {
            self.server.pubsub.end_watching(&self.server.keyspace, &own);
        }
        if let Some(own) = self.session.tracking.take() {
            self.server.pubsub.end_tracking(&self.server.keyspace, &own);
        }
        self.server.monitors.remove(self.client.id);
        self.server.clients.remove(self.client.id);
    }

    async fn serve(&mut self) -> Result<(), End> {
        if !self.input.is_empty() {
            self.run_input().await?;
        }
        loop {
            let event = self.next_event().await;
            note_work();
            let before = std::mem::replace(&mut self.work, Work::so_far());
            self.others_ran = !self.work.is_next_after(before);
            match event {
                Event::Signal => self.on_signal().await?,
                Event::Read(read) => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    self.client.net_in.fetch_add(read as u64, Relaxed);
                    self.server.totals.net_in.fetch_add(read as u64, Relaxed);
                    self.server.totals.reads.fetch_add(1, Relaxed);
                    self.note_memory()?;
                    self.run_input().await?;
                    self.show_last_command();
                }
            }
            if self.session.closing {
                return Ok(());
            }
        }
    }

    /// Shows what the client costs. What it costs more is held against `maxmemory-clients` at once if it is much, else
    /// by the cron.
    fn note_memory(&mut self) -> Result<(), End> {
        let (client, held) = (&self.client, &self.client.held);
        client.query_bytes.store(self.input.len(), Relaxed);
        held.input.store(self.input.capacity(), Relaxed);
        held.reply.store(self.reply.capacity(), Relaxed);
        let (queued, subscriptions) = self.session.kept_bytes();
        held.queued.store(queued, Relaxed);
        held.subscriptions.store(subscriptions, Relaxed);
        let memory = client.memory();
        if memory <= self.memory + GROWTH {
            self.memory = self.memory.min(memory);
            return Ok(());
        }
        self.memory = memory;
        self.server.evict_clients();
        match client.is_killed() {
            true => Err(End::Closed),
            false => Ok(()),
        }
    }

    /// Waits for bytes, or for somebody who wants something of this client.
    async fn next_event(&mut self) -> Event {
        let read_bytes = if self.session.subscriptions.is_some() {
            self.shrink_buffers();
            LISTENER_BYTES
        } else {
            self.read_bytes
        };
        let wanted = self
            .parser
            .bytes_wanted(self.input.len())
            .clamp(read_bytes / 4, LEND_MOST);
        if self.input.capacity() - self.input.len() < wanted {
            self.input.reserve(wanted.max(read_bytes));
        }
        let room = self.input.capacity() - self.input.len();
        let (client, socket, input) = (&self.client, &mut self.socket, &mut self.input);
        let mut read = pin!(socket.read_buf(input));
        let read_first = self.signalled;
        let event = poll_fn(|cx| {
            if !read_first && client.take_signal() {
                return Poll::Ready(Event::Signal);
            }
            if let Poll::Ready(read) = read.as_mut().poll(cx) {
                return Poll::Ready(Event::Read(read));
            }
            client.waker.register(cx.waker());
            if client.take_signal() {
                Poll::Ready(Event::Signal)
            } else {
                Poll::Pending
            }
        })
        .await;
        if matches!(event, Event::Read(Ok(read)) if read == room) {
            self.read_bytes = (self.read_bytes * 4).min(READ_BYTES);
        }
        self.signalled = matches!(event, Event::Signal);
        event
    }

    /// Subscribers are many, and mostly wait: their buffers are no larger than that needs.
    fn shrink_buffers(&mut self) {
        if self.input.is_empty() && self.input.capacity() > LISTENER_BYTES {
            self.input = BytesMut::with_capacity(LISTENER_BYTES);
        }
        self.parser.shrink();
        if self.reply.is_empty() && self.reply.capacity() > LISTENER_REPLY_BYTES {
            self.reply = Reply::new(self.reply.protocol());
        }
    }

    async fn on_signal(&mut self) -> Result<(), End> {
        if self.client.is_killed() {
            return Err(End::Closed);
        }
        self.write_inbox().await
    }

    /// Writes what was pushed to the client: many messages with one write.
    async fn write_inbox(&mut self) -> Result<(), End> {
        self.client.take_inbox(&mut self.incoming);
        let mut incoming = std::mem::take(&mut self.incoming);
        let join_bytes = if incoming.is_one_part() { 0 } else { JOIN_BYTES };
        let mut joined = 0;
        for bytes in incoming.parts().flat_map(|part| part.chunks(PART_BYTES)) {
            joined += bytes.len();
            if bytes.len() > join_bytes {
                self.write_out().await?;
                self.write(bytes).await?;
                self.client.written(std::mem::take(&mut joined));
            } else {
                self.reply.raw(bytes);
            }
            if self.reply.len() >= WRITE_BYTES {
                self.write_out().await?;
                self.client.written(std::mem::take(&mut joined));
            }
        }
        self.write_out().await?;
        self.client.written(joined);
        incoming.clear();
        self.incoming = incoming;
        Ok(())
    }

    /// Runs the whole requests in the input.
    async fn run_input(&mut self) -> Result<(), End> {
        let mut batch = SPARE.take().unwrap_or_default();
        let mut ran = 0;
        let query_buffer_limit = {
            let config = self.server.config.load();
            self.limits.max_bulk_len = config.proto_max_bulk_len as usize;
            config.client_query_buffer_limit as usize
        };
        loop {
            let known = self.session.authenticated || self.server.acl.users.are_open();
            self.limits.authenticated = known;
            let most = if known { BATCH } else { 1 };
            let (taken, error) = self.parser.parse(&self.input, &self.limits, &mut batch, most);
            if !batch.is_empty() {
                self.run_batch(&batch).await?;
            }
            ran += batch.len();
            self.input.advance(taken);
            if self.session.closing {
                return self.write_reply().await;
            }
            if let Some(error) = error {
                self.reply.protocol_error(&error);
                self.session.closing = true;
                return self.write_reply().await;
            }
            if batch.is_empty() && taken == 0 || self.input.is_empty() {
                break;
            }
        }
        if !batch.is_large() {
            SPARE.set(Some(batch));
        }
        if query_buffer_limit > 0 && self.input.len() > query_buffer_limit {
            return Err(End::QueryBufferLimit);
        }
        if self.input.is_empty() && self.input.capacity() > KEEP_BYTES {
            self.input = BytesMut::with_capacity(self.read_bytes);
        }
        if ran > 1 && self.others_ran {
            // The others that have sent something come first. Replies that leave side by side wake less: by the second
            // one, whoever reads them is awake.
            tokio::task::yield_now().await;
        }
        self.write_reply().await
    }

    async fn run_batch(&mut self, batch: &Batch) -> Result<(), End> {
        self.wait_for_journal(batch, 0).await;
        self.executor.begin_batch();
        self.client.last_active_ms.store(self.executor.now_ms(), Relaxed);
        self.client.commands.fetch_add(batch.len() as u64, Relaxed);
        self.executor.prefetch(batch, &self.input, &self.session);
        if self.session.hears() {
            // What came before the requests is read before their replies.
            self.client.move_inbox_to(&mut self.reply);
        }
        let mut at = 0;
        while at < batch.len() {
            let start = self.reply.len();
            match self.execute(batch, at) {
                After::Continue => {
                    at += 1;
                    if self.session.hears() {
                        // What it has sent to itself comes behind the reply that says so.
                        self.client.move_inbox_to(&mut self.reply);
                    }
                }
                After::Blocked => {
                    at += 1;
                    self.write_reply().await?;
                    self.wait_for_key().await?;
                    self.executor.begin_batch();
                    continue;
                }
                After::HeldUp => {
                    self.write_reply().await?;
                    if self.client.is_killed() {
                        return Err(End::Closed);
                    }
                    tokio::time::sleep(HELD_UP).await;
                    self.executor.begin_batch();
                    continue;
                }
                After::Paused => {
                    self.write_reply().await?;
                    self.wait_out_pause().await?;
                    self.executor.begin_batch();
                    continue;
                }
            }
            if self.session.closing {
                return Ok(());
            }
            if let Some(behind) = self.session.catch_up.take() {
                self.catch_up(behind).await?;
                self.executor.begin_batch();
                continue;
            }
            if let Some(file) = self.session.snapshot.take() {
                self.send_snapshot(file).await?;
                self.executor.begin_batch();
                continue;
            }
            if let Some(sync) = self.session.sync_wait.take() {
                self.hold_until_synced(start, &sync).await?;
                self.executor.begin_batch();
                continue;
            }
            if self.reply.len() >= WRITE_BYTES {
                self.write_reply().await?;
                self.wait_for_journal(batch, at).await;
                self.executor.begin_batch();
            }
        }
        Ok(())
    }

    fn execute(&mut self, batch: &Batch, at: usize) -> After {
        let (executor, session, reply) = (&mut self.executor, &mut self.session, &mut self.reply);
        let request = batch.request(at, &self.input);
        request.with_words(|words| executor.execute(&Args::new(words), session, reply))
    }

    /// Lets the journal's writer catch up before the requests from this place on append more. Those that only read, or
    /// write to memory ranges, have nothing to wait for.
    async fn wait_for_journal(&mut self, batch: &Batch, from: usize) {
        let keyspace = &self.server.keyspace;
        let is_behind =
            || keyspace.journal().is_some_and(|journal| !journal.has_room()) && keyspace.failure().is_none();
        if !is_behind() {
            return;
        }
        let (executor, session, input) = (&mut self.executor, &self.session, &self.input);
        let appends = (from..batch.len()).any(|at| {
            let request = batch.request(at, input);
            request.with_words(|words| executor.may_append(&Args::new(words), session))
        });
        while appends && is_behind() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn wait_out_pause(&self) -> Result<(), End> {
        while self.server.pause.until_ms() > unix_ms() {
            if self.client.is_killed() {
                return Err(End::Closed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Lets others see which command was the last.
    fn show_last_command(&self) {
        let last = self.session.last_command.map_or(0, |command| command.number);
        self.client.last_command.store(last, Relaxed);
    }

    /// Waits until the command that found nothing has been served, or its time is over, and appends its reply.
    async fn wait_for_key(&mut self) -> Result<(), End> {
        let Some(waiter) = self.session.blocked.take() else {
            return Ok(());
        };
        self.show_last_command();
        let ended = self.end_of_wait(&waiter).await;
        self.server.blocked.leave(&waiter);
        if self.session.hears() {
            // The write that ended the wait was told before it.
            self.client.move_inbox_to(&mut self.reply);
        }
        let start = self.reply.len();
        match ended? {
            Ended::Reply { bytes, gate } => {
                self.executor.gate = self.executor.gate.max(gate);
                self.reply.raw(&bytes);
            }
            Ended::Timeout => waiter.write_timeout(&mut self.reply),
        }
        self.session.settle_reply(&mut self.reply, start);
        Ok(())
    }

    /// What the client sends meanwhile is read and kept, so that its going is noticed.
    async fn end_of_wait(&mut self, waiter: &Waiter) -> Result<Ended, End> {
        let limit = self.server.config.load().client_query_buffer_limit as usize;
        loop {
            if let Some(end) = waiter.take_end() {
                return Ok(end);
            }
            let left_ms = waiter.deadline_ms.map(|at| at.saturating_sub(unix_ms()));
            let event = match left_ms {
                None => self.next_event().await,
                Some(left_ms) if left_ms <= 0 => {
                    if waiter.give_up() {
                        return Ok(Ended::Timeout);
                    }
                    continue;
                }
                Some(left_ms) => {
                    let left = Duration::from_millis(left_ms as u64);
                    match tokio::time::timeout(left, self.next_event()).await {
                        Ok(event) => event,
                        Err(_) => continue,
                    }
                }
            };
            match event {
                Event::Signal => self.on_signal().await?,
                Event::Read(read) => {
                    let read = read?;
                    self.client.net_in.fetch_add(read as u64, Relaxed);
                    self.server.totals.net_in.fetch_add(read as u64, Relaxed);
                    self.server.totals.reads.fetch_add(1, Relaxed);
                    if read == 0 {
                        return Err(End::Closed);
                    }
                    self.note_memory()?;
                    if limit > 0 && self.input.len() > limit {
                        return Err(End::QueryBufferLimit);
                    }
                }
            }
        }
    }

    /// Writes the replies before `start`, and answers `WAITAOF` when what it waits for has come, or its time is over.
    async fn hold_until_synced(&mut self, start: usize, wait: &SyncWait) -> Result<(), End> {
        // Not of a client that wants no replies.
        let is_wanted = self.reply.len() > start;
        self.reply.truncate(start);
        self.write_reply().await?;
        let server = self.server.clone();
        let until = (wait.timeout_ms > 0).then(|| unix_ms().saturating_add(wait.timeout_ms));
        let synced = || {
            let journal = server.keyspace.journal();
            journal.map_or(u64::MAX, |journal| journal.synced())
        };
        while wait.needs_replicas || synced() < wait.offset {
            let left = until.map_or(i64::MAX, |until| until - unix_ms());
            if left <= 0 {
                break;
            }
            if self.client.is_killed() || self.socket.peer_is_gone() {
                return Err(End::Closed);
            }
            let nap = Duration::from_millis(left.min(100) as u64);
            match server.keyspace.journal() {
                Some(journal) if (synced() + 1..=journal.end()).contains(&wait.offset) => {
                    // Whether it was in time is looked at again.
                    let _ = tokio::time::timeout(nap, journal.wait_synced(wait.offset)).await;
                }
                _ => tokio::time::sleep(nap).await,
            }
        }
        if is_wanted {
            wait.answer(&mut self.reply, synced());
        }
        Ok(())
    }

    /// Waits until the journal is as durable as what is about to be written asks for.
    async fn pass_gate(&mut self) -> Result<(), End> {
        let pushed = self.client.gate.load(Relaxed);
        let gate = std::mem::take(&mut self.executor.gate).max(pushed);
        if gate > 0
            && let Some(journal) = self.server.keyspace.journal()
        {
            let mut synced = pin!(journal.wait_synced(gate));
            let client = &self.client;
            let done = poll_fn(|cx| {
                client.waker.register(cx.waker());
                if client.is_killed() {
                    return Poll::Ready(false);
                }
                synced.as_mut().poll(cx).map(|()| true)
            });
            if !done.await {
                return Err(End::Closed);
            }
        }
        Ok(())
    }

    /// Writes the replies, once everything that they speak of is as durable as its range promises.
    async fn write_reply(&mut self) -> Result<(), End> {
        self.executor.end_batch();
        self.server.pubsub.broadcast();
        if self.session.tracking.is_some() {
            self.client.move_inbox_to(&mut self.reply);
        }
        self.write_out().await
    }

    /// The same of what is in the buffer, and nothing that comes meanwhile.
    async fn write_out(&mut self) -> Result<(), End> {
        self.pass_gate().await?;
        self.note_memory()?;
        if self.reply.is_empty() {
            return Ok(());
        }
        let protocol = self.reply.protocol();
        let mut reply = std::mem::replace(&mut self.reply, Reply::new(protocol));
        let written = self.write(reply.as_slice()).await;
        if reply.capacity() <= KEEP_REPLY_BYTES {
            reply.clear();
            self.reply = reply;
        }
        written
    }

    /// Writes bytes, within what `client-output-buffer-limit normal` allows to wait and for how long.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let limits = self.server.config.load().client_output_buffer_limit;
        let limit = if self.session.subscriptions.is_some() {
            limits.pubsub
        } else {
            limits.normal
        };
        let exceeds = |most: u64| most > 0 && bytes.len() as u64 > most;
        if exceeds(limit.hard_bytes) {
            return Err(End::OutputBufferLimit);
        }
        if exceeds(limit.soft_bytes) {
            let most = Duration::from_secs(limit.soft_seconds);
            let written = tokio::time::timeout(most, self.write_all(bytes)).await;
            return written.unwrap_or(Err(End::OutputBufferLimit));
        }
        self.write_all(bytes).await
    }

    /// Writes bytes, unless the client is killed first.
    async fn write_all(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.client.output_bytes.store(bytes.len(), Relaxed);
        let (client, socket) = (&self.client, &mut self.socket);
        let mut at = 0;
        poll_fn(|cx| {
            while at < bytes.len() {
                match Pin::new(&mut *socket).poll_write(cx, &bytes[at..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Io)),
                    Poll::Ready(Ok(written)) => at += written,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Io)),
                    Poll::Pending => return wait_unless_killed(client, cx),
                }
            }
            // TLS may have taken more than it has given to the socket.
            match Pin::new(&mut *socket).poll_flush(cx) {
                Poll::Ready(flushed) => Poll::Ready(flushed.map_err(End::from)),
                Poll::Pending => wait_unless_killed(client, cx),
            }
        })
        .await?;
        self.client.output_bytes.store(0, Relaxed);
        self.client.net_out.fetch_add(bytes.len() as u64, Relaxed);
        self.server.totals.net_out.fetch_add(bytes.len() as u64, Relaxed);
        self.server.totals.writes.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// Also of a connection whose task ends in another way than `run` knows of.
impl Drop for Connection {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Goes on waiting for the socket, also for the end of the client.
fn wait_unless_killed(client: &Client, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
    client.waker.register(cx.waker());
    match client.is_killed() {
        true => Poll::Ready(Err(End::Closed)),
        false => Poll::Pending,
    }
}

/// Tells a client that there is no room for it, and hangs up.
pub async fn refuse(mut socket: Socket, why: &str) {
    // The client may be gone already.
    let _ = socket.write_all(why.as_bytes()).await;
}
