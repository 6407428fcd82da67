//! The few bytes of RESP that the bench needs: building requests of a known length and reading one short reply.
//! Deliberately apart from the server's own parser and from any client library, so that no fault of theirs can
//! hide in a figure.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Keys are a prefix of 4 bytes and 12 digits, as redis-benchmark's `__rand_int__` writes them.
pub const KEY_DIGITS: usize = 12;
/// Bytes of every value, counters aside.
pub const VALUE_BYTES: usize = 64;
/// No single administrative request may take longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

/// Connects to a server on loopback, with Nagle's delay off.
pub fn connect(port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    Ok(stream)
}

/// Appends one request as an array of bulk strings.
pub fn push_request(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    let header = format!("*{}\r\n", arguments.len());
    out.extend_from_slice(header.as_bytes());
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes `number` with leading zeros over all of `place`.
pub fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Sends one request on a connection of its own and returns the reply: a status, number or bulk string as text,
/// `None` for null. An error reply is an `io::Error` with its text.
pub fn ask(port: u16, arguments: &[&str]) -> io::Result<Option<String>> {
    let mut stream = connect(port)?;
    let bytes: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
    let mut request = Vec::new();
    push_request(&mut request, &bytes);
    stream.write_all(&request)?;
    read_reply(&mut BufReader::new(stream))
}

/// One reply, as `ask` returns it.
pub fn read_reply(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("+" | ":", rest)) => Ok(Some(rest.to_owned())),
        Some(("$", "-1")) | Some(("_", "")) => Ok(None),
        Some(("$", length)) => {
            let length: usize = length.parse().map_err(io::Error::other)?;
            let mut body = vec![0; length + 2];
            from.read_exact(&mut body)?;
            body.truncate(length);
            Ok(Some(String::from_utf8_lossy(&body).into_owned()))
        }
        Some(("-", error)) => Err(io::Error::other(error.to_owned())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => Err(io::Error::other(format!("unexpected reply {line:?}"))),
    }
}

/// A small generator of evenly spread numbers (splitmix64, Steele et al. 2014): the same seed gives both servers
/// the same work.
pub struct Spread(pub u64);

impl Spread {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Fills `place` with characters of a 64-letter alphabet: six bits each, so that no compressor gains much.
    pub fn fill_text(&mut self, place: &mut [u8]) {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for chunk in place.chunks_mut(10) {
            let mut bits = self.next();
            for letter in chunk {
                *letter = LETTERS[(bits & 63) as usize];
                bits >>= 6;
            }
        }
    }
}
