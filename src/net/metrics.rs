//! The metrics port: `GET /metrics` over HTTP/1.1, for Prometheus and those that speak its language.
//!
//! One request a connection, nothing of it believed: the head of a request is bounded, and so are the time that a
//! connection may take and how many there may be. No password is asked for, as scrapers have none; what is shown are
//! figures, no key and no value. In protected mode only this machine is answered.

use super::listener::is_shut_off;
use super::waiting::{self, Ready};
use crate::observe::metrics;
use crate::server::Server;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections at one time; who comes when there are so many is sent away.
const CONNECTIONS_MOST: usize = 8;
/// Bytes of the request's line and headers.
const HEAD_MOST: usize = 8 << 10;
/// How long a connection may take in all.
const TIME_MOST: Duration = Duration::from_secs(10);

/// What is answered: status and reason, the type of the text, the text.
struct Answer(&'static str, &'static str, String);

impl Answer {
    fn refusal(status: &'static str) -> Answer {
        Answer(status, "text/plain; charset=utf-8", format!("{status}\n"))
    }
}

/// Answers scrapers for as long as the server runs; those who come before it is there wait.
pub async fn serve(listener: TcpListener, mut ready: Ready) {
    let Some(server) = waiting::server(&mut ready).await else {
        return;
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MOST));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                super::listener::accept_failed(&error).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let server = server.clone();
        tokio::spawn(async move {
            let shut_off = is_shut_off(&server, peer);
            // A scraper that goes, or takes too long, is nobody's concern but its own.
            let _ = timeout(TIME_MOST, answer(stream, server, shut_off)).await;
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream, server: Arc<Server>, shut_off: bool) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let line = head.as_deref().and_then(request_line);
    let Answer(status, kind, body) = match line {
        _ if shut_off => Answer::refusal("403 Forbidden"),
        None => Answer::refusal("400 Bad Request"),
        Some((method, _)) if !["GET", "HEAD"].contains(&method) => Answer::refusal("405 Method Not Allowed"),
        Some((_, "/metrics")) => {
            // It may look at files: other connections of this thread are not to wait for that.
            let text = tokio::task::spawn_blocking(move || metrics::text(&server)).await;
            Answer("200 OK", metrics::CONTENT_TYPE, text.map_err(io::Error::other)?)
        }
        Some(_) => Answer::refusal("404 Not Found"),
    };
    let mut reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if line.is_none_or(|(method, _)| method != "HEAD") {
        reply.push_str(&body);
    }
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

/// Everything up to the empty line; none when that does not come within the bound.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(1 << 10);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= HEAD_MOST || stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

/// Method and path of a request, what follows a `?` left out.
fn request_line(head: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let path = target.split('?').next()?;
    (version.starts_with("HTTP/1.") && words.next().is_none()).then_some((method, path))
}

#[cfg(test)]
mod tests {
    use super::request_line;

    #[test]
    fn request_lines_are_read() {
        for (head, expected) in [
            (
                "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
                Some(("GET", "/metrics")),
            ),
            ("HEAD /metrics?x=1 HTTP/1.0\r\n\r\n", Some(("HEAD", "/metrics"))),
            ("GET /metrics\r\n\r\n", None),
            ("GET  /metrics HTTP/1.1\r\n\r\n", None),
            ("GET /metrics HTTP/2\r\n\r\n", None),
            ("\r\n\r\n", None),
        ] {
            assert_eq!(request_line(head.as_bytes()), expected, "{head}");
        }
    }
}
