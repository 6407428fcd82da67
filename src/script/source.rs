//! The text of a script: its name, and what its first line says of it.

use super::api::sha1_hex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// What a script or function is allowed and does.
pub mod flag {
    pub const NO_WRITES: u8 = 1;
    pub const ALLOW_OOM: u8 = 1 << 1;
    pub const ALLOW_STALE: u8 = 1 << 2;
    pub const NO_CLUSTER: u8 = 1 << 3;
    pub const ALLOW_CROSS_SLOT_KEYS: u8 = 1 << 4;

    pub const NAMES: &[(u8, &str)] = &[
        (NO_WRITES, "no-writes"),
        (ALLOW_OOM, "allow-oom"),
        (ALLOW_STALE, "allow-stale"),
        (NO_CLUSTER, "no-cluster"),
        (ALLOW_CROSS_SLOT_KEYS, "allow-cross-slot-keys"),
    ];

    pub fn named(name: &str) -> Option<u8> {
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(flag, _)| *flag)
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A script, as it was loaded.
pub struct Script {
    /// No other script has it, as long as the process runs.
    pub id: u64,
    /// In hexadecimal.
    pub sha: String,
    /// Without the first line, if that says something of the script; its line end is still there.
    pub body: Arc<[u8]>,
    /// None for scripts of the old kind, whose first line says nothing.
    pub flags: Option<u8>,
    /// It has needed the right to reach: it begins with it from now on.
    pub reaches: AtomicBool,
    pub bytes: usize,
}

impl Script {
    /// Reads a script's text. The error is that of a reply, with its code.
    pub fn new(text: &[u8]) -> Result<Script, String> {
        let (flags, body) = if text.starts_with(b"#!") {
            let Some(end) = memchr::memchr(b'\n', text) else {
                return Err("ERR Invalid script shebang".into());
            };
            let words = words_of(&text[..end]).ok_or("ERR Invalid engine in script shebang")?;
            (Some(read_flags(&words)?), &text[end..])
        } else {
            (None, text)
        };
        Ok(Script {
            id: NEXT_ID.fetch_add(1, Relaxed),
            sha: sha1_hex(text),
            body: body.into(),
            flags,
            reaches: AtomicBool::new(false),
            bytes: text.len(),
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags.is_some_and(|flags| flags & flag != 0)
    }
}

/// The words of a first line, in which parts may stand in quotes; none when a quote is not closed.
pub fn words_of(line: &[u8]) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for byte in String::from_utf8_lossy(line).chars() {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), byte) => word.get_or_insert_default().push(byte),
            (None, '"' | '\'') => {
                word.get_or_insert_default();
                quote = Some(byte);
            }
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            (None, byte) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

fn read_flags(words: &[String]) -> Result<u8, String> {
    let engine = words.first().map_or("", String::as_str);
    if engine != "#!lua" {
        return Err(format!("ERR Unexpected engine in script shebang: {engine}"));
    }
    let mut flags = 0;
    for option in &words[1..] {
        let Some(names) = option.strip_prefix("flags=") else {
            return Err(format!("ERR Unknown lua shebang option: {option}"));
        };
        for name in names.split(',').filter(|_| !names.is_empty()) {
            let flag = flag::named(name);
            flags |= flag.ok_or_else(|| format!("ERR Unexpected flag in script shebang: {name}"))?;
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_what_a_script_may_do() {
        let flags = |text: &str| Script::new(text.as_bytes()).map(|script| script.flags);
        assert_eq!(flags("return 1"), Ok(None));
        assert_eq!(flags("#!lua\nreturn 1"), Ok(Some(0)));
        assert_eq!(
            flags("#!lua  flags=no-writes,allow-oom\n"),
            Ok(Some(flag::NO_WRITES | flag::ALLOW_OOM))
        );
        assert_eq!(flags("#!lua flags=\"no-writes\"\n"), Ok(Some(flag::NO_WRITES)));
        let cases = [
            ("#!", "ERR Invalid script shebang"),
            ("#!js\n", "ERR Unexpected engine in script shebang: #!js"),
            ("#!lua name=x\n", "ERR Unknown lua shebang option: name=x"),
            ("#!lua flags=a\n", "ERR Unexpected flag in script shebang: a"),
            ("#!lua flags=\"a\n", "ERR Invalid engine in script shebang"),
        ];
        for (text, error) in cases {
            assert_eq!(flags(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn lines_are_counted_as_they_stand_in_the_text() {
        let script = Script::new(b"#!lua\n\nreturn 1").unwrap();
        assert_eq!(&*script.body, b"\n\nreturn 1");
    }
}
