//! Which arguments of a command nobody but its sender may see: passwords.

use crate::command::Args;
use crate::config::directives;
use smallvec::SmallVec;

const REDACTED: &[u8] = b"(redacted)";

/// The arguments as the slow log and monitors may show them.
pub fn redacted<'a>(args: &Args<'a>) -> SmallVec<[&'a [u8]; 8]> {
    let mut shown: SmallVec<[&'a [u8]; 8]> = args.all().into();
    if args.is(0, "AUTH") {
        shown.iter_mut().skip(1).for_each(|arg| *arg = REDACTED);
    } else if args.is(0, "HELLO") {
        if let Some(at) = (2..args.len()).find(|at| args.is(*at, "AUTH")) {
            shown
                .iter_mut()
                .skip(at + 1)
                .take(2)
                .for_each(|arg| *arg = REDACTED);
        }
    } else if args.is(0, "ACL")
        && ["SETUSER", "GETUSER", "DELUSER"]
            .iter()
            .any(|sub| args.is(1, sub))
    {
        shown.iter_mut().skip(2).for_each(|arg| *arg = REDACTED);
    } else if args.is(0, "CONFIG") && args.is(1, "SET") {
        for at in (2..args.len().saturating_sub(1)).step_by(2) {
            if directives::lookup(&args[at]).is_some_and(|(_, row)| row.secret) {
                shown[at + 1] = REDACTED;
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let shown = redacted(&Args::new(&words));
        String::from_utf8(shown.join(&b' ')).unwrap()
    }

    #[test]
    fn passwords_are_not_shown() {
        for (line, expected) in [
            ("AUTH a", "AUTH (redacted)"),
            ("auth a b", "auth (redacted) (redacted)"),
            (
                "HELLO 3 SETNAME x AUTH a b",
                "HELLO 3 SETNAME x AUTH (redacted) (redacted)",
            ),
            ("HELLO 3 AUTH", "HELLO 3 AUTH"),
            (
                "config set timeout 1 requirepass x",
                "config set timeout 1 requirepass (redacted)",
            ),
            ("config set timeout", "config set timeout"),
            ("ACL SETUSER u >p", "ACL SETUSER (redacted) (redacted)"),
            ("GET auth", "GET auth"),
        ] {
            assert_eq!(shown(line), expected);
        }
    }
}
