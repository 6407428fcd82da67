//! Runs the scripts `tests/differential/*.txt` against both servers.
//!
//! A line is a command in redis-cli's quoting. `<x*1000>` stands for 1000 times `x`. A line that starts with `#` is a
//! comment; one that starts with `@` steers:
//!
//! ```text
//! @reset              FLUSHALL, and the connection back in database 0
//! @normalize <rule>   how the next command's replies are compared (see normalize.rs)
//! @only resp2|resp3|memory|unpaged   the next command runs in that protocol only, or where memory can be full (what is
//!                     durable gives way when it has been flushed), or where collections are not paged
//! @conn <name>        the following commands use the connection of that name; the first one is `main`
//! @fresh <name>       the same, with a new connection
//! @send <command>     sends, and reads no reply
//! @read               reads one more frame and compares it
//! @closed             both servers must have closed the connection
//! @scan <options>     SCAN from 0 to 0 with these options; the sets of keys are compared
//! @walk <command> <key> <options>   the same for SSCAN, HSCAN and ZSCAN: what all steps return together
//! @terrace <command>  for the server under test alone (a setting that the oracle does not have); it must not fail
//! @body <name>        the lines up to `@end` are kept under that name, and not run
//! @run <name>         runs them: once for each encoding that settings before it force
//! @sleep <ms>
//! ```

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use crate::common::{Conn, Value, encode, show};
use crate::normalize::Rule;
use crate::{Pair, Protocol, Tier};

/// A file with fifty differences says no more than one with twenty.
const DIFFERENCES_SHOWN_MAX: usize = 20;

/// Runs every script; panics with the list of differences, if there are any.
pub fn run_all(tier: Tier, protocol: Protocol) {
    let pair = Pair::start(tier, protocol);
    let mut differences = Vec::new();
    for path in script_files() {
        let text = std::fs::read_to_string(&path).expect("a readable script");
        let mut run = Run::new(
            &pair,
            path.file_name().expect("a name").to_string_lossy().into_owned(),
        );
        run.reset();
        for (number, line) in text.lines().enumerate() {
            run.read_line(number + 1, line);
        }
        differences.append(&mut run.differences);
    }
    let count = differences.len();
    differences.truncate(DIFFERENCES_SHOWN_MAX);
    assert!(
        count == 0,
        "{tier:?} {protocol:?}: {count} differences\n{}",
        differences.join("\n")
    );
}

/// First words of all lines that are commands, lowercase; and as `first|second`, for those that have subcommands.
pub fn commands_in_scripts() -> BTreeSet<String> {
    let mut commands = BTreeSet::new();
    for path in script_files() {
        for line in std::fs::read_to_string(&path).expect("a readable script").lines() {
            let line = line
                .trim_start_matches("@send ")
                .trim_start_matches("@walk ")
                .trim();
            if line.starts_with("@scan") {
                commands.insert("scan".to_string());
            } else if !line.is_empty() && !line.starts_with(['#', '@']) {
                let line = line.to_lowercase();
                let mut words = line.split(' ');
                let first = words.next().expect("a word");
                commands.insert(first.to_string());
                commands.extend(words.next().map(|second| format!("{first}|{second}")));
            }
        }
    }
    commands
}

fn script_files() -> Vec<PathBuf> {
    let only = std::env::var("TERRACE_DIFF_ONLY").ok();
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/differential");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .filter(|path| {
            only.as_ref()
                .is_none_or(|only| path.file_stem().is_some_and(|s| s == only.as_str()))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scripts in {}", dir.display());
    files
}

struct Run<'a> {
    pair: &'a Pair,
    file: String,
    line_number: usize,
    conns: HashMap<String, [Conn; 2]>,
    current: String,
    rule: Rule,
    /// Whether the next command runs here.
    runs_next: bool,
    /// Lines with their numbers, and the name of the one that is being read.
    bodies: HashMap<String, Vec<(usize, String)>>,
    open_body: Option<String>,
    differences: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(pair: &'a Pair, file: String) -> Run<'a> {
        let conns = HashMap::from([("main".to_string(), pair.connect())]);
        let (current, rule) = ("main".to_string(), Rule::Exact);
        Run {
            pair,
            file,
            line_number: 0,
            conns,
            current,
            rule,
            runs_next: true,
            bodies: HashMap::new(),
            open_body: None,
            differences: Vec::new(),
        }
    }

    /// Takes the next line of the script.
    fn read_line(&mut self, number: usize, line: &str) {
        self.line_number = number;
        let line = line.trim();
        match &self.open_body {
            Some(_) if line == "@end" => self.open_body = None,
            Some(name) => {
                let body = self.bodies.entry(name.clone()).or_default();
                body.push((number, line.to_string()));
            }
            None => self.line(line),
        }
    }

    fn run_body(&mut self, name: &str) {
        let Some(body) = self.bodies.get(name).cloned() else {
            self.bad_script("no such body")
        };
        let called_at = self.line_number;
        for (number, line) in body {
            self.line_number = number;
            self.line(&line);
        }
        self.line_number = called_at;
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        match line.strip_prefix('@') {
            Some(directive) => self.directive(directive),
            None => {
                if self.runs_here() {
                    self.send(line);
                    self.compare_frame(line);
                }
                self.rule = Rule::Exact;
            }
        }
    }

    fn directive(&mut self, directive: &str) {
        let (name, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        match name {
            "reset" => self.reset(),
            "normalize" => self.rule = Rule::parse(rest).unwrap_or_else(|e| self.bad_script(&e)),
            "only" => {
                self.runs_next = match rest {
                    "resp2" => self.pair.protocol == Protocol::Resp2,
                    "resp3" => self.pair.protocol == Protocol::Resp3,
                    "memory" => !self.pair.spills,
                    "unpaged" => !self.pair.pages,
                    _ => self.bad_script("@only resp2, resp3, memory or unpaged"),
                }
            }
            "conn" => {
                if !self.conns.contains_key(rest) {
                    self.conns.insert(rest.to_string(), self.pair.connect());
                }
                self.current = rest.to_string();
            }
            "fresh" => {
                self.conns.insert(rest.to_string(), self.pair.connect());
                self.current = rest.to_string();
            }
            "send" if self.runs_here() => self.send(rest),
            "read" if self.runs_here() => self.compare_frame("(one more frame)"),
            "send" | "read" => {}
            "closed" => self.expect_closed(),
            "scan" => self.compare_scans(rest),
            "walk" => self.compare_walks(rest),
            "body" => self.open_body = Some(rest.to_string()),
            "run" => self.run_body(rest),
            "terrace" => self.tell_terrace(rest),
            "sleep" => std::thread::sleep(Duration::from_millis(rest.parse().expect("milliseconds"))),
            _ => self.bad_script("no such directive"),
        }
    }

    fn runs_here(&mut self) -> bool {
        std::mem::replace(&mut self.runs_next, true)
    }

    fn bad_script(&self, why: &str) -> ! {
        panic!("{}:{}: {why}", self.file, self.line_number)
    }

    fn conns(&mut self) -> &mut [Conn; 2] {
        self.conns.get_mut(&self.current).expect("the current connection")
    }

    fn reset(&mut self) {
        for conn in self.conns() {
            for line in ["SELECT 0", "FLUSHALL"] {
                assert_eq!(show(&conn.words(line)), "+OK\\r\\n", "{line}");
            }
        }
    }

    fn send(&mut self, line: &str) {
        let args = match split_line(line) {
            Ok(args) => args,
            Err(why) => self.bad_script(why),
        };
        self.pair.banish_keys();
        for conn in self.conns() {
            let _ = conn.send_raw(&encode(&args)); // a closed connection shows when the reply is read
        }
    }

    fn compare_frame(&mut self, line: &str) {
        let rule = std::mem::replace(&mut self.rule, Rule::Exact);
        let [expected, got] = self.conns().each_mut().map(|conn| conn.read_frame());
        match (expected, got) {
            (Ok(expected), Ok(got)) => {
                let [expected, got] = [expected, got].map(|reply| self.pair.lasting(reply));
                if !rule.accepts(&expected, &got) && !self.pair.is_telltale(line) {
                    self.differ(line, &show(&expected), &show(&got));
                }
            }
            (expected, got) => {
                let text = |r: std::io::Result<Vec<u8>>| r.map_or_else(|e| e.to_string(), |f| show(&f));
                self.differ(line, &text(expected), &text(got));
                // What follows on these connections cannot be compared any more: go on with new ones.
                let fresh = self.pair.connect();
                self.conns.insert(self.current.clone(), fresh);
            }
        }
    }

    fn expect_closed(&mut self) {
        let [expected, got] = self.conns().each_mut().map(|conn| match conn.read_to_close() {
            Ok(rest) => format!("closed after \"{}\"", show(&rest)),
            Err(e) => format!("not closed: {e}"),
        });
        if expected != got || expected.starts_with("not") {
            self.differ("@closed", &expected, &got);
        }
        let fresh = self.pair.connect();
        self.conns.insert(self.current.clone(), fresh);
    }

    /// Whole scans: what one step returns is each server's own affair, what all steps return together is not.
    fn compare_scans(&mut self, options: &str) {
        let options = split_line(options).unwrap_or_else(|why| self.bad_script(why));
        let [expected, got] = self.conns().each_mut().map(|conn| whole_scan(conn, &options));
        if expected != got {
            let show_set =
                |keys: &BTreeSet<Vec<u8>>| keys.iter().map(|k| show(k)).collect::<Vec<_>>().join(" ");
            self.differ("@scan", &show_set(&expected), &show_set(&got));
        }
    }

    /// As `compare_scans`, for the elements of one value.
    fn compare_walks(&mut self, line: &str) {
        let words = split_line(line).unwrap_or_else(|why| self.bad_script(why));
        let [expected, got] = self.conns().each_mut().map(|conn| whole_walk(conn, &words));
        if expected != got {
            let show_set = |elements: &BTreeSet<Vec<Vec<u8>>>| {
                let texts: Vec<String> = elements.iter().map(|e| show(&e.join(&b' '))).collect();
                texts.join(", ")
            };
            self.differ(&format!("@walk {line}"), &show_set(&expected), &show_set(&got));
        }
    }

    fn tell_terrace(&mut self, line: &str) {
        if crate::against_itself() {
            return;
        }
        let answer = self.conns()[1].words(line);
        if answer.starts_with(b"-") {
            self.differ(line, "(not asked)", &show(&answer));
        }
    }

    fn differ(&mut self, line: &str, expected: &str, got: &str) {
        let (file, number) = (&self.file, self.line_number);
        self.differences.push(format!(
            "{file}:{number}: {line}\n    redis   {expected}\n    terrace {got}"
        ));
    }
}

/// Every key that a scan with these options returns.
pub fn whole_scan(conn: &mut Conn, options: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    steps(conn, &[b"SCAN".to_vec()], options).into_iter().collect()
}

/// Every element that SSCAN, HSCAN or ZSCAN returns: members alone, fields and scored members with what is theirs.
fn whole_walk(conn: &mut Conn, words: &[Vec<u8>]) -> BTreeSet<Vec<Vec<u8>>> {
    let (command, options) = words.split_at(2);
    let alone = command[0].eq_ignore_ascii_case(b"SSCAN");
    let found = steps(conn, command, options);
    let elements = found.chunks(if alone { 1 } else { 2 });
    elements.map(<[Vec<u8>]>::to_vec).collect()
}

/// What a scan returns from cursor 0 to cursor 0, in the order in which it comes.
fn steps(conn: &mut Conn, command: &[Vec<u8>], options: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut all, mut cursor) = (Vec::new(), b"0".to_vec());
    for _ in 0..100_000 {
        let args = [command, &[cursor], options].concat();
        let reply = conn.call(&args);
        let Value::List(b'*', parts) = Value::parse(&reply) else {
            panic!("a scan answered {}", show(&reply))
        };
        let [Value::Bulk(_, next), Value::List(_, found)] = parts.as_slice() else {
            panic!("a scan answered {}", show(&reply))
        };
        all.extend(found.iter().flat_map(Value::texts));
        cursor = next.clone();
        if cursor == b"0" {
            return all;
        }
    }
    panic!("a scan does not end");
}

/// Splits a line as redis-cli does: blanks part words, `"…"` knows \n \r \t \b \a \\ \" \xHH, `'…'` only \'.
pub fn split_line(line: &str) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut chars = line.bytes().peekable();
    let mut words = Vec::new();
    loop {
        while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        let word = match chars.peek() {
            None => return Ok(words),
            Some(b'"') => double_quoted(&mut chars)?,
            Some(b'\'') => single_quoted(&mut chars)?,
            Some(_) => {
                let plain: Vec<u8> =
                    std::iter::from_fn(|| chars.next_if(|c| !c.is_ascii_whitespace())).collect();
                expand_repetition(plain)
            }
        };
        if chars.peek().is_some_and(|c| !c.is_ascii_whitespace()) {
            return Err("a closing quote must be followed by a blank");
        }
        words.push(word);
    }
}

fn double_quoted(chars: &mut impl Iterator<Item = u8>) -> Result<Vec<u8>, &'static str> {
    let mut word = Vec::new();
    chars.next();
    loop {
        match chars.next().ok_or("an open double quote")? {
            b'"' => return Ok(word),
            b'\\' => word.push(match chars.next().ok_or("an open double quote")? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'a' => 7,
                b'x' => {
                    let digits = [chars.next(), chars.next()].map(|d| d.unwrap_or(b'?'));
                    let digits = std::str::from_utf8(&digits).map_err(|_| "\\x takes two digits")?;
                    u8::from_str_radix(digits, 16).map_err(|_| "\\x takes two digits")?
                }
                other => other,
            }),
            other => word.push(other),
        }
    }
}

fn single_quoted(chars: &mut impl Iterator<Item = u8>) -> Result<Vec<u8>, &'static str> {
    let mut word = Vec::new();
    chars.next();
    loop {
        match chars.next().ok_or("an open single quote")? {
            b'\'' => return Ok(word),
            b'\\' => match chars.next().ok_or("an open single quote")? {
                b'\'' => word.push(b'\''),
                other => word.extend_from_slice(&[b'\\', other]),
            },
            other => word.push(other),
        }
    }
}

/// `<x*3>` is `xxx`. Keeps large values out of the scripts.
fn expand_repetition(word: Vec<u8>) -> Vec<u8> {
    let parse = |word: &[u8]| -> Option<Vec<u8>> {
        let inner = word.strip_prefix(b"<")?.strip_suffix(b">")?;
        let star = inner.iter().rposition(|&b| b == b'*')?;
        let count: usize = std::str::from_utf8(&inner[star + 1..]).ok()?.parse().ok()?;
        Some(inner[..star].repeat(count))
    };
    parse(&word).unwrap_or(word)
}

#[test]
fn lines_split_as_in_redis_cli() {
    let split = |line| split_line(line).map(|words| words.iter().map(|w| show(w)).collect::<Vec<_>>());
    assert_eq!(
        split(r#"SET k "a b\x00\n" 'it\'s' <ab*2>"#).unwrap(),
        ["SET", "k", r"a b\x00\n", r"it\'s", "abab"]
    );
    assert_eq!(split(r#""" ''"#).unwrap(), ["", ""]);
    assert!(split(r#""a"b"#).is_err());
    assert!(split(r#""a"#).is_err());
}
