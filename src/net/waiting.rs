//! Connections that come while the data is being read: each request is answered with an error that says so, and they
//! are served as soon as the server is there. So a client that starts together with its server finds it, and knows why
//! it has to wait.

use crate::resp::{Batch, Limits, Parser, Protocol, Reply};
use crate::server::Server;
use bytes::{Buf, BytesMut};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// Becomes the server; closed without one if it cannot start.
pub type Ready = watch::Receiver<Option<Arc<Server>>>;

const LOADING: &str = "LOADING Terrace is loading the dataset in memory";
const READ_BYTES: usize = 4 << 10;
/// What a client may send without a whole request in it.
const INPUT_MOST: usize = 256 << 10;
/// Requests parsed at once.
const BATCH: usize = 16;

/// The server, once it is there; none if it never will be.
pub async fn server(ready: &mut Ready) -> Option<Arc<Server>> {
    ready.wait_for(Option::is_some).await.ok()?.clone()
}

/// Answers a client until the server is there: then that, and what the client has sent of a request that is not whole
/// yet. None when the client is gone, or what it sends cannot be read.
pub async fn wait<S>(stream: &mut S, ready: &mut Ready) -> Option<(Arc<Server>, BytesMut)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = Limits {
        authenticated: false,
        ..Limits::default()
    };
    let (mut parser, mut batch) = (Parser::new(), Batch::new());
    let (mut input, mut reply) = (BytesMut::new(), Reply::new(Protocol::Resp2));
    loop {
        input.reserve(READ_BYTES);
        tokio::select! {
            biased;
            server = server(ready) => return Some((server?, input)),
            read = stream.read_buf(&mut input) => if read.ok()? == 0 {
                return None;
            },
        }
        reply.clear();
        loop {
            let (taken, error) = parser.parse(&input, &limits, &mut batch, BATCH);
            (0..batch.len()).for_each(|_| reply.error(LOADING));
            let seen = batch.len();
            input.advance(taken);
            if let Some(error) = &error {
                reply.protocol_error(error);
            }
            if error.is_some() || input.len() > INPUT_MOST {
                // It may be gone already.
                let _ = stream.write_all(reply.as_slice()).await;
                return None;
            }
            if seen == 0 && taken == 0 || input.is_empty() {
                break;
            }
        }
        stream.write_all(reply.as_slice()).await.ok()?;
    }
}
