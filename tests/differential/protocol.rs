//! Raw bytes, well-formed and not: the same replies, and the connection closed or open in the same cases.

use crate::Pair;
use crate::common::{Conn, show};

/// One case: bytes as they go out, in one write; then the writing side is closed, and all that comes back is compared.
/// `PING`s behind a protocol error must get no reply.
const CASES: &[(&str, &[u8])] = &[
    ("inline", b"PING\r\n"),
    ("inline with a bare newline", b"PING\n"),
    ("inline, blanks around words", b"   ECHO    hello   \r\n"),
    ("inline, tabs", b"ECHO\thello\r\n"),
    ("inline, quoted", b"ECHO \"a b\\x41\\n\" \r\nECHO 'it\\'s'\r\n"),
    ("inline, empty quotes", b"ECHO \"\"\r\n"),
    ("inline, unbalanced double quotes", b"ECHO \"abc\r\nPING\r\n"),
    ("inline, unbalanced single quotes", b"ECHO 'abc\r\nPING\r\n"),
    (
        "inline, text after a closing quote",
        b"ECHO \"abc\"def\r\nPING\r\n",
    ),
    ("empty lines", b"\r\n\r\n\nPING\r\n"),
    ("a line of blanks", b"   \r\nPING\r\n"),
    ("inline, unknown command", b"NOSUCH a b\r\nPING\r\n"),
    ("an unfinished line", b"PING"),
    ("nothing", b""),
    ("array", b"*1\r\n$4\r\nPING\r\n"),
    (
        "two in one write",
        b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n",
    ),
    (
        "inline between arrays",
        b"*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
    ),
    ("empty array", b"*0\r\n*1\r\n$4\r\nPING\r\n"),
    ("null array", b"*-1\r\n*1\r\n$4\r\nPING\r\n"),
    ("array of -10", b"*-10\r\n*1\r\n$4\r\nPING\r\n"),
    ("array length with a plus", b"*+1\r\n$4\r\nPING\r\n"),
    ("array length with a leading zero", b"*01\r\n$4\r\nPING\r\n"),
    ("array length empty", b"*\r\n$4\r\nPING\r\n"),
    ("array length not a number", b"*x\r\n$4\r\nPING\r\n"),
    ("array length with a blank", b"* 1\r\n$4\r\nPING\r\n"),
    ("array length too large", b"*2147483648\r\n$4\r\nPING\r\n"),
    ("array length of 2^20 + 1", b"*1048577\r\n"),
    ("array length beyond 64 bits", b"*99999999999999999999\r\n"),
    ("array length most negative", b"*-9223372036854775808\r\nPING\r\n"),
    ("no dollar", b"*1\r\nPING\r\n"),
    ("colon for dollar", b"*1\r\n:4\r\nPING\r\n"),
    ("an unprintable byte for dollar", b"*1\r\n\x01\r\nPING\r\n"),
    ("bulk length empty", b"*1\r\n$\r\nPING\r\n"),
    ("bulk length negative", b"*1\r\n$-1\r\nPING\r\n"),
    (
        "bulk length most negative",
        b"*1\r\n$-9223372036854775808\r\nPING\r\n",
    ),
    ("bulk length not a number", b"*1\r\n$four\r\nPING\r\n"),
    ("bulk length with a plus", b"*1\r\n$+4\r\nPING\r\n"),
    ("bulk length of 512 MB + 1", b"*1\r\n$536870913\r\nPING\r\n"),
    (
        "bulk length beyond 64 bits",
        b"*1\r\n$99999999999999999999\r\nPING\r\n",
    ),
    (
        "bulk without its line end",
        b"*1\r\n$4\r\nPINGXX*1\r\n$4\r\nPING\r\n",
    ),
    (
        "bulk shorter than said",
        b"*1\r\n$5\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
    ),
    ("bulk longer than said", b"*1\r\n$3\r\nPING\r\nPING\r\n"),
    ("empty bulk as command", b"*1\r\n$0\r\n\r\nPING\r\n"),
    ("empty argument", b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"),
    (
        "binary argument",
        b"*2\r\n$4\r\nECHO\r\n$6\r\n\x00\xff\r\n\x80*\r\n",
    ),
    (
        "an error after good requests",
        b"*1\r\n$4\r\nPING\r\n*1\r\n$-5\r\n*1\r\n$4\r\nPING\r\n",
    ),
    (
        "a good request without its end",
        b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$5\r\nhel",
    ),
    ("array of arrays", b"*1\r\n*1\r\n$4\r\nPING\r\n"),
    ("RESP3 types as requests", b"%1\r\n$4\r\nPING\r\n$1\r\na\r\n"),
    ("an HTTP request", b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
    (
        "an HTTP POST",
        b"POST / HTTP/1.1\r\nHost: example.org\r\n\r\nPING\r\n",
    ),
    ("QUIT drops what follows", b"PING\r\nQUIT\r\nPING\r\n"),
    ("lower case", b"*1\r\n$4\r\nping\r\n"),
    (
        "a command with a newline in its name",
        b"*2\r\n$6\r\nno\r\nsu\r\n$3\r\na\r\nb\r\n",
    ),
];

const ATTEMPTS: usize = 5;

pub fn run(pair: &Pair) {
    let mut differences = Vec::new();
    let mut compare = |name: &str, exchange: &dyn Fn(&mut Conn) -> String| {
        let both = || [0, 1].map(|side| exchange(&mut pair.servers[side].connect()));
        // A server that closes with our bytes unread sends a reset, and what it wrote before may be lost on the way.
        if (0..ATTEMPTS).any(|_| both().windows(2).all(|pair| pair[0] == pair[1])) {
            return;
        }
        let [expected, got] = both();
        differences.push(format!("{name}:\n    redis   {expected}\n    terrace {got}"));
    };
    for (name, bytes) in CASES {
        compare(name, &|conn| in_one_write(conn, bytes));
        compare(&format!("{name}, byte by byte"), &|conn| {
            byte_by_byte(conn, bytes)
        });
    }
    compare("64 KB without a line end", &|conn| {
        in_one_write(conn, &[b'a'; 70_000])
    });
    let endless_length = [b"*".as_slice(), &[b'1'; 70_000]].concat();
    compare("an array length of 70,000 digits", &|conn| {
        in_one_write(conn, &endless_length)
    });
    let endless_bulk = [b"*1\r\n$".as_slice(), &[b'1'; 70_000]].concat();
    compare("a bulk length of 70,000 digits", &|conn| {
        in_one_write(conn, &endless_bulk)
    });
    let deep = b"*1\r\n".repeat(10_000);
    compare("arrays nested 10,000 deep", &|conn| in_one_write(conn, &deep));
    let many = b"*1\r\n$4\r\nPING\r\n".repeat(10_000);
    compare("10,000 requests in one write", &|conn| in_one_write(conn, &many));
    compare("MONITOR answers OK", &|conn| show(&conn.words("MONITOR")));
    let many_words = format!("EXISTS{}", " key".repeat(5_000));
    compare("5,000 arguments", &|conn| show(&conn.words(&many_words)));
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
}

fn in_one_write(conn: &mut Conn, bytes: &[u8]) -> String {
    let _ = conn.send_raw(bytes); // the server may close while we still send
    answer(conn)
}

fn byte_by_byte(conn: &mut Conn, bytes: &[u8]) -> String {
    for byte in bytes {
        if conn.send_raw(&[*byte]).is_err() {
            break;
        }
    }
    answer(conn)
}

fn answer(conn: &mut Conn) -> String {
    conn.close_writing();
    match conn.read_to_close() {
        Ok(bytes) => show(&bytes),
        Err(e) => format!("not closed: {e}"),
    }
}
