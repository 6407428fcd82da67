//! Which arguments of a command nobody but its sender may see: passwords.

use crate::command::Args;
use crate::command::execute::resolve;
use crate::command::table::Finder;
use crate::config::directives;
use smallvec::SmallVec;

const REDACTED: &[u8] = b"(redacted)";

/// The arguments as the slow log and monitors may show them, whatever the command is called here.
pub fn redacted<'a>(args: &Args<'a>) -> SmallVec<[&'a [u8]; 8]> {
    let mut shown: SmallVec<[&'a [u8]; 8]> = args.all().into();
    let Ok(command) = resolve(args, &mut Finder::default()) else {
        return shown;
    };
    let hidden: SmallVec<[usize; 4]> = match command.full_name.as_str() {
        "auth" => (1..args.len()).collect(),
        "acl|setuser" | "acl|getuser" | "acl|deluser" => (2..args.len()).collect(),
        "hello" => of_options(args, 2, &[("AUTH", 2), ("SETNAME", 1)]),
        "migrate" => of_options(args, 6, &[("COPY", 0), ("REPLACE", 0), ("AUTH", 1), ("AUTH2", 2)]),
        "config|set" => (3..args.len())
            .step_by(2)
            .filter(|at| directives::lookup(&args[at - 1]).is_some_and(|(_, row)| row.secret))
            .collect(),
        _ => return shown,
    };
    hidden.into_iter().for_each(|at| shown[at] = REDACTED);
    shown
}

/// The words that follow `AUTH` and `AUTH2` among options, each of which has so many words behind it. What is not one
/// ends them.
fn of_options(args: &Args<'_>, mut at: usize, options: &[(&str, usize)]) -> SmallVec<[usize; 4]> {
    let mut hidden = SmallVec::new();
    while at < args.len()
        && let Some((name, words)) = options.iter().find(|(name, _)| args.is(at, name))
    {
        let behind = at + 1..(at + 1 + words).min(args.len());
        if name.starts_with("AUTH") {
            hidden.extend(behind);
        }
        at += 1 + words;
    }
    hidden
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
                "HELLO 3 SETNAME AUTH AUTH a b",
                "HELLO 3 SETNAME AUTH AUTH (redacted) (redacted)",
            ),
            (
                "MIGRATE h 1 AUTH 0 9 COPY AUTH p KEYS AUTH k",
                "MIGRATE h 1 AUTH 0 9 COPY AUTH (redacted) KEYS AUTH k",
            ),
            (
                "migrate h 1 k 0 9 auth2 u p replace",
                "migrate h 1 k 0 9 auth2 (redacted) (redacted) replace",
            ),
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
