//! Keeps the source in the order that its documentation describes: layers, sizes, leftovers, proofs.
//!
//! Each rule is one test over every file below `src/`; each prints every place that breaks it. The scanner works on
//! text: comments, strings and characters are blanked first (`code_only`), and that is enough for the rules here.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may name whom: `crate::<right>` may occur in files of the layer on the left, and nothing else may. A layer
/// may always name itself. `net::session` stands for that module alone, where `net` would stand for all of it.
const LAYERS: &[(&str, &[&str])] = &[
    ("backup", &["server", "keyspace", "store", "journal", "config"]),
    (
        "check",
        &["server", "backup", "store", "object", "journal", "config"],
    ),
    ("import", &["server", "keyspace", "config"]),
    (
        "net",
        &[
            "server", "command", "observe", "pubsub", "keyspace", "config", "resp", "acl",
        ],
    ),
    ("acl", &[GLOB]),
    (
        "command",
        &[
            "server", "acl", "observe", "pubsub", "script", "keyspace", "object", "journal", "store",
            "config", "resp", SESSION, CLIENTS,
        ],
    ),
    // A script reaches commands through an interface that `command` fills in.
    ("script", &["resp"]),
    (
        "observe",
        &[
            "server", "command", "keyspace", "config", "resp", SESSION, CLIENTS,
        ],
    ),
    (
        "pubsub",
        &[
            "server::unix_ms",
            "keyspace",
            "store",
            "config",
            "resp",
            GLOB,
            CLIENTS,
        ],
    ),
    (
        "keyspace",
        &["object", "journal", "store", "config", "resp", "pointer"],
    ),
    ("store", &["object", "journal", "config"]),
    ("journal", &["config"]),
    ("object", &["resp::number", "pointer"]),
    ("resp", &[]),
    ("pointer", &[]),
    ("config", &[]),
];

/// What session and admin commands see of a connection.
const SESSION: &str = "net::session";
const CLIENTS: &str = "net::clients";
/// A pattern fits a name, or does not: nothing of a command.
const GLOB: &str = "command::glob";

/// The files that put the layers together; they may name all of them. `server` is the state that admin commands and
/// listeners share; what lies below `command` never sees it.
const ASSEMBLY: &[&str] = &["main", "lib", "server"];

const FILE_LINES_MAX: usize = 900;
const FUNCTION_LINES_MAX: usize = 100;
/// How far above an `unsafe` its SAFETY paragraph may end.
const SAFETY_LINES_ABOVE: usize = 6;

const LEFTOVERS: &[&str] = &["TODO", "FIXME", "XXX", "dbg!", "todo!", "unimplemented!"];

#[test]
fn layers_name_only_what_lies_below_them() {
    check(|file| {
        let layer = file.layer();
        if ASSEMBLY.contains(&layer) {
            return vec![];
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            return vec![(1, format!("layer `{layer}` is not in the table of layers"))];
        };
        let ok = |path: &str| {
            let first = path.split("::").next().unwrap_or(path);
            first == layer
                || !(ASSEMBLY.contains(&first) || LAYERS.iter().any(|(name, _)| *name == first))
                || allowed
                    .iter()
                    .any(|a| path == *a || path.starts_with(&format!("{a}::")))
        };
        let found = crate_paths(&file.code);
        found
            .into_iter()
            .filter(|(line, path)| !file.is_test(*line) && !ok(path))
            .map(|(line, path)| (line, format!("`{layer}` may not name `crate::{path}`")))
            .collect()
    });
}

#[test]
fn only_the_store_names_rocksdb() {
    check(|file| {
        if file.layer() == "store" {
            return vec![];
        }
        file.code_lines(|code| has_word(code, "rocksdb"), "only `store` may name rocksdb")
    });
}

#[test]
fn files_are_not_too_long() {
    check(|file| match file.text.lines().count() {
        lines if lines > FILE_LINES_MAX => {
            vec![(lines, format!("{lines} lines, {FILE_LINES_MAX} are allowed"))]
        }
        _ => vec![],
    });
}

#[test]
fn long_functions_say_why() {
    check(|file| {
        let text: Vec<&str> = file.text.lines().collect();
        functions(&file.code)
            .into_iter()
            .filter(|(first, last)| last - first + 1 > FUNCTION_LINES_MAX)
            .filter(|(first, last)| {
                !text[first.saturating_sub(12)..*last]
                    .iter()
                    .any(|line| line.contains("long because"))
            })
            .map(|(first, last)| {
                (
                    first,
                    format!("{} lines, and no comment with `long because`", last - first + 1),
                )
            })
            .collect()
    });
}

#[test]
fn nothing_is_left_over() {
    check(|file| {
        let mut found = vec![];
        for (number, line) in file.text.lines().enumerate() {
            for word in LEFTOVERS {
                if has_word(line, word) {
                    found.push((number + 1, format!("`{word}` left over")));
                }
            }
        }
        found
    });
}

#[test]
fn files_open_with_what_they_are() {
    check(|file| match file.text.starts_with("//!") {
        true => vec![],
        false => vec![(1, "does not begin with a `//!` comment".to_string())],
    });
}

#[test]
fn unsafe_code_carries_its_reason() {
    check(|file| {
        let text: Vec<&str> = file.text.lines().collect();
        file.code_lines(
            |code| has_word(code, "unsafe"),
            "`unsafe` without a SAFETY comment above",
        )
        .into_iter()
        .filter(|(number, _)| {
            let above = &text[number.saturating_sub(SAFETY_LINES_ABOVE + 1)..*number];
            !above
                .iter()
                .any(|line| line.contains("SAFETY") || line.contains("# Safety"))
        })
        .collect()
    });
}

#[test]
fn unwrap_stands_beside_its_proof() {
    check(|file| {
        let text: Vec<&str> = file.text.lines().collect();
        file.code_lines(
            |code| code.contains(".unwrap()"),
            "`unwrap()` without a `// proof:` comment beside it",
        )
        .into_iter()
        .filter(|(number, _)| !file.is_test(*number))
        .filter(|(number, _)| {
            !text[number.saturating_sub(4)..*number]
                .iter()
                .any(|l| l.contains("// proof:"))
        })
        .collect()
    });
}

/// One file of `src/`.
struct Source {
    /// Relative to `src/`.
    path: PathBuf,
    text: String,
    /// The text with comments, strings and characters blanked; the same lines.
    code: String,
    /// Line numbers, first and last, of what is compiled for tests alone.
    test_lines: Vec<(usize, usize)>,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Source {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let code = code_only(&text);
        let path = path.strip_prefix(root).expect("a file below src").to_path_buf();
        let test_lines = if path
            .components()
            .any(|c| matches!(c.as_os_str().to_str(), Some("tests" | "tests.rs")))
        {
            vec![(1, text.lines().count())]
        } else {
            test_blocks(&code)
        };
        Source {
            path,
            text,
            code,
            test_lines,
        }
    }

    /// The folder or file directly below `src/`.
    fn layer(&self) -> &str {
        let first = self
            .path
            .components()
            .next()
            .expect("a path")
            .as_os_str()
            .to_str()
            .expect("an ASCII name");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_test(&self, line: usize) -> bool {
        self.test_lines
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&line))
    }

    /// The lines whose code satisfies `finds`, with the same complaint for each.
    fn code_lines(&self, finds: impl Fn(&str) -> bool, complaint: &str) -> Vec<(usize, String)> {
        let lines = self.code.lines().enumerate();
        lines
            .filter(|(_, code)| finds(code))
            .map(|(i, _)| (i + 1, complaint.to_string()))
            .collect()
    }
}

/// Applies one rule to every file; panics with the list of all that break it.
fn check(rule: impl Fn(&Source) -> Vec<(usize, String)>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(
        files.len() > 5,
        "only {} files below {}",
        files.len(),
        root.display()
    );
    let mut broken = Vec::new();
    for path in files {
        let source = Source::read(&root, &path);
        broken.extend(
            rule(&source)
                .into_iter()
                .map(|(line, why)| format!("src/{}:{line}: {why}", source.path.display())),
        );
    }
    assert!(
        broken.is_empty(),
        "{} places\n{}",
        broken.len(),
        broken.join("\n")
    );
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .expect("a readable folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The text with everything blanked that is no code. Line ends stay, so that line numbers do.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = end_of_blank(&chars, i);
        if end > i {
            out.extend(chars[i..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            i = end;
        } else {
            out.push(chars[i]);
            i += 1;
        }
    }
    out
}

/// Where the comment, string or character that starts at `i` ends; `i` itself if none does.
fn end_of_blank(chars: &[char], i: usize) -> usize {
    let at = |j: usize| chars.get(j).copied().unwrap_or('\0');
    let find = |from: usize, stop: &dyn Fn(usize) -> Option<usize>| {
        (from..chars.len()).find_map(stop).unwrap_or(chars.len())
    };
    let word_before = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
    match at(i) {
        '/' if at(i + 1) == '/' => find(i, &|j| (at(j) == '\n').then_some(j)),
        '/' if at(i + 1) == '*' => {
            let (mut depth, mut j) = (0, i);
            while j < chars.len() {
                match (at(j), at(j + 1)) {
                    ('/', '*') => (depth, j) = (depth + 1, j + 2),
                    ('*', '/') if depth == 1 => return j + 2,
                    ('*', '/') => (depth, j) = (depth - 1, j + 2),
                    _ => j += 1,
                }
            }
            j
        }
        'r' if !word_before || at(i - 1) == 'b' => {
            let hashes = (i + 1..).take_while(|&j| at(j) == '#').count();
            if at(i + 1 + hashes) != '"' {
                return i;
            }
            let closes = |j: usize| at(j) == '"' && (1..=hashes).all(|h| at(j + h) == '#');
            find(i + 2 + hashes, &|j| closes(j).then_some(j + 1 + hashes))
        }
        '"' => {
            let mut j = i + 1;
            while j < chars.len() && at(j) != '"' {
                j += if at(j) == '\\' { 2 } else { 1 };
            }
            (j + 1).min(chars.len())
        }
        '\'' if at(i + 1) == '\\' => find(i + 3, &|j| (at(j) == '\'').then_some(j + 1)),
        '\'' if at(i + 2) == '\'' => i + 3, // else it is a lifetime
        _ => i,
    }
}

/// Every path that starts at the crate's root, with its line: `use crate::{a::B, c}` is two.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let paths = paths_at(&code[at + "crate::".len()..]);
        found.extend(paths.into_iter().map(|path| (line, path)));
    }
    found
}

/// The path at the start of `code`, or all of them where it ends in a group: `a::{b, c}` is `a::b` and `a::c`.
fn paths_at(code: &str) -> Vec<String> {
    let stem: String = code
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
        .collect();
    let Some(group) = code[stem.len()..].strip_prefix('{') else {
        return vec![stem];
    };
    let (mut depth, mut start, mut found) = (1, 0, Vec::new());
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            let member = group[start..i].trim();
            if !member.is_empty() {
                found.extend(paths_at(member).into_iter().map(|path| format!("{stem}{path}")));
            }
            start = i + 1;
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// First and last line of each `#[cfg(test)]` block.
fn test_blocks(code: &str) -> Vec<(usize, usize)> {
    let attributes = code.match_indices("#[cfg(test)]");
    attributes.filter_map(|(at, _)| block_lines(code, at)).collect()
}

/// First and last line of each function with a body.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let is_fn = |at: &usize| has_word(&code[at.saturating_sub(1)..(at + 3).min(code.len())], "fn");
    code.match_indices("fn ")
        .map(|(at, _)| at)
        .filter(is_fn)
        .filter_map(|at| block_lines(code, at))
        .collect()
}

/// From the line of `at` to the end of the first brace block after it; `None` if a `;` comes first.
fn block_lines(code: &str, at: usize) -> Option<(usize, usize)> {
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    let (mut depth, mut brackets) = (0, 0);
    for (i, c) in code[at..].char_indices() {
        match c {
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets -= 1,
            ';' if depth == 0 && brackets == 0 => return None, // an array type holds one too
            '{' => depth += 1,
            '}' if depth == 1 => return Some((line(at), line(at + i))),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Whether `word` stands in `text` with no letter, digit or underscore at its ends.
fn has_word(text: &str, word: &str) -> bool {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        let end_joins =
            word.ends_with(char::is_alphanumeric) && joins(text[at + word.len()..].chars().next());
        !joins(text[..at].chars().next_back()) && !end_joins
    })
}

#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let code = code_only(
        "a // b\n\"c\\\" d\" 'e' '\\'' r#\"f \" g\"# /* h /* i */ j */ k<'l>(b\"m\", br\"n\") error\"o\"",
    );
    let words: Vec<&str> = code
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .collect();
    assert_eq!(words, ["a", "k", "l", "b", "b", "error"]);
}

#[test]
fn the_scanner_finds_paths_blocks_and_words() {
    let paths = crate_paths(
        "use crate::{store::block, net};\ncrate::resp::number::f(); use crate::net::{session::{S, T}, U};",
    );
    let expected = [
        (1, "store::block"),
        (1, "net"),
        (2, "resp::number::f"),
        (2, "net::session::S"),
        (2, "net::session::T"),
        (2, "net::U"),
    ];
    assert_eq!(paths, expected.map(|(line, path)| (line, path.to_string())));
    assert_eq!(
        functions("fn a() {\n {}\n}\nfn b();\nfn c(x: [u8; 2])\n{ }"),
        [(1, 3), (5, 6)]
    );
    assert_eq!(
        test_blocks("x\n#[cfg(test)]\nmod t {\n}\n#[cfg(test)] mod u;\n"),
        [(2, 4)]
    );
    assert!(
        has_word("an unsafe {", "unsafe")
            && !has_word("unsafe_code", "unsafe")
            && has_word("(dbg!(x))", "dbg!")
    );
}
