//! Glob patterns as `KEYS`, `SCAN MATCH` and `CONFIG GET` understand them, to the byte as redis-server does.
//!
//! `?` is any byte, `*` any number of them, `[abc]`, `[^abc]` and `[a-c]` classes, `\` takes the next byte as it is.
//! Oddities that clients can see, and that are kept: a class that is not closed ends with the pattern; the bounds of
//! a class's range may stand in either order and compare as signed bytes; no pattern but the empty one matches the
//! empty string, not even `*` (commands take a lone `*` for "everything" before they come here).
//!
//! Every part of a pattern but `*` takes exactly one byte, so only the last `*` ever needs to be tried again: the time
//! is at most pattern times text, whatever the pattern.

/// True when the whole of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Behind the last `*`, and where in the text what follows it is being tried.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(len) = one_byte(&pattern[p..], text[t]) {
            p += len;
            t += 1;
        } else if let Some((behind, from)) = star {
            star = Some((behind, from + 1));
            (p, t) = (behind, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The length of the pattern's first part if it takes `byte`; that part is not `*`.
fn one_byte(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (found, len) = in_class(class, byte);
            found.then_some(1 + len)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
    }
}

/// Whether a class takes `byte`, and how long the class is behind its `[`, with its `]` if it has one.
fn in_class(class: &[u8], byte: u8) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &class[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [a, b'-', b, ..] => {
                let (a, b, byte) = (*a as i8, *b as i8, byte as i8);
                found |= (a.min(b)..=a.max(b)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                found |= *plain == byte;
                at += 1;
            }
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pattern: &[u8], texts: &[&[u8]], expected: bool) {
        for text in texts {
            assert_eq!(
                matches(pattern, text),
                expected,
                "{} on {}",
                pattern.escape_ascii(),
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn the_forms_of_a_pattern() {
        all(b"h?llo", &[b"hello", b"h\0llo"], true);
        all(b"h?llo", &[b"hllo", b"heello"], false);
        all(b"h*llo", &[b"hllo", b"heeello", b"hllollo"], true);
        all(b"h[ae]llo", &[b"hallo", b"hello"], true);
        all(b"h[^e]llo", &[b"hallo"], true);
        all(b"h[^e]llo", &[b"hello"], false);
        all(b"h[b-a]llo", &[b"hallo", b"hbllo"], true);
        all(b"\\*\\?\\[", &[b"*?["], true);
        all(b"\\*", &[b"a", b"\\*"], false);
        all(b"*a*b*", &[b"ab", b"xaxbx"], true);
        all(b"*a*b*", &[b"ba"], false);
    }

    #[test]
    fn what_is_odd_is_odd_as_in_redis() {
        all(b"", &[b""], true);
        all(b"*", &[b""], false);
        all(b"**", &[b""], false);
        all(b"[", &[b"[", b"x"], false);
        all(b"[^", &[b"[", b"x"], true);
        all(b"[x", &[b"x"], true);
        all(b"[a-", &[b"a", b"-"], true);
        all(b"[a-]", &[b"]", b"^", b"a"], true);
        all(b"[]]", &[b"]", b"]]"], false);
        all(b"[\\]]", &[b"]"], true);
        all(b"[\\", &[b"\\"], true);
        all(b"\\", &[b"\\"], true);
        all(b"[a-\xff]", &[b"0", b"\xff"], true);
        all(b"[a-\xff]", &[b"b"], false);
    }

    #[test]
    fn many_stars_take_no_longer_than_one() {
        let text = [b'a'; 50_000];
        let stars = b"*a".repeat(10_000);
        assert!(matches(&stars, &text));
        assert!(!matches(&[&stars[..], b"b"].concat(), &text[..20_000]));
    }
}
