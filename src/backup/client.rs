//! Asking a running server for a backup, as any client could: `BACKUP TO`, then `BACKUP STATUS` until it is done.

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(200);
/// A server that says nothing for so long is given up. A backup takes longer, but its status does not.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

struct Client {
    stream: Box<dyn Stream>,
    received: BytesMut,
}

impl Client {
    fn connect(place: &Place) -> io::Result<Client> {
        let stream: Box<dyn Stream> = match place {
            Place::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(Client {
            stream,
            received: BytesMut::new(),
        })
    }

    /// Sends a command and returns its reply; an error reply is an error.
    fn call(&mut self, words: &[&[u8]]) -> Result<BytesFrame, String> {
        let word = |word: &&[u8]| BytesFrame::BulkString(word.to_vec().into());
        let request = BytesFrame::Array(words.iter().map(word).collect());
        let mut bytes = BytesMut::new();
        extend_encode(&mut bytes, &request, false).map_err(|error| error.to_string())?;
        self.stream.write_all(&bytes).map_err(|error| error.to_string())?;
        loop {
            let whole = decode_bytes_mut(&mut self.received).map_err(|error| error.to_string())?;
            match whole {
                Some((BytesFrame::Error(why), ..)) => return Err(why.to_string()),
                Some((frame, ..)) => return Ok(frame),
                None => {}
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn status(&mut self) -> Result<HashMap<String, String>, String> {
        let BytesFrame::Array(fields) = self.call(&[b"BACKUP", b"STATUS"])? else {
            return Err("BACKUP STATUS answered something else than a map".into());
        };
        let text = |frame: &BytesFrame| match frame {
            BytesFrame::Integer(number) => number.to_string(),
            frame => frame
                .as_bytes()
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                .unwrap_or_default(),
        };
        let pairs = fields.chunks_exact(2);
        Ok(pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
    }
}

/// Asks for a backup into a folder as the server sees it, and waits for its end; `say` gets lines for people.
pub fn ask(
    place: &Place,
    password: Option<&[u8]>,
    dir: &Path,
    say: &mut dyn FnMut(String),
) -> Result<(), String> {
    let mut client = Client::connect(place).map_err(|error| match place {
        Place::Tcp(host, port) => format!("{host} port {port}: {error}"),
        Place::Unix(path) => format!("{}: {error}", path.display()),
    })?;
    if let Some(password) = password {
        client.call(&[b"AUTH", password])?;
    }
    let dir = std::path::absolute(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    client.call(&[b"BACKUP", b"TO", dir.as_os_str().as_encoded_bytes()])?;
    let mut shown = String::new();
    loop {
        let status = client.status()?;
        let field = |name: &str| status.get(name).cloned().unwrap_or_default();
        match field("state").as_str() {
            "running" if field("percent") != shown => {
                shown = field("percent");
                say(format!("backup: {shown} %"));
            }
            "running" => {}
            "done" => {
                say(format!(
                    "backup: {} made, offset {}, {} bytes in {} files, {} of them kept",
                    field("path"),
                    field("offset"),
                    field("bytes"),
                    field("files"),
                    field("files-kept")
                ));
                return Ok(());
            }
            _ => return Err(field("error")),
        }
        std::thread::sleep(POLL);
    }
}
