//! May this user run this command? The command's side of the decision that `acl` makes: which of its arguments are
//! keys, what it does with each, and which are channels. Asked by the pipeline, by EXEC, by `ACL DRYRUN`, and by
//! scripts; the answer to a user without limits is one flag.

use super::args::Args;
use super::error::Error;
use super::introspection::flags_in_use;
use super::spec::{Spec, flag};
use super::table::{self, Command};
use crate::acl::log::{Place, Reason, Refused};
use crate::acl::{Access, Channels, Denied, Named, Request, User, Vocabulary};
use crate::net::session::Session;
use crate::server::Server;
use smallvec::{SmallVec, smallvec};

/// What a row says of keys and channels, made ready for the decision.
pub struct Needs {
    /// By key specification; none where what it finds is not a key.
    keys: SmallVec<[Option<Access>; 2]>,
    /// What is done with the key depends on the options.
    depends: bool,
    channels: Places,
}

/// Which arguments are channels.
#[derive(Clone, Copy)]
enum Places {
    None,
    /// The first.
    One,
    All {
        are_patterns: bool,
    },
}

impl Needs {
    pub fn new(spec: &Spec) -> Needs {
        let access = |flags: &'static str| (!flags.contains("not_key")).then(|| access_of(flags));
        Needs {
            keys: spec.keys.iter().map(|keys| access(keys.flags)).collect(),
            depends: spec.keys.iter().any(|keys| keys.flags.contains("VARIABLE_FLAGS")),
            channels: match spec.name {
                "publish" | "spublish" => Places::One,
                "subscribe" | "ssubscribe" => Places::All { are_patterns: false },
                "psubscribe" => Places::All { are_patterns: true },
                _ => Places::None,
            },
        }
    }
}

/// Whether a key is read or written: whether its value is, its type and being there are not told apart.
fn access_of(flags: &str) -> Access {
    match flags {
        "OW UPDATE" => Access::WRITE,
        "RO ACCESS" => Access::READ,
        "RW ACCESS UPDATE" => Access::BOTH,
        _ => {
            let writes = ["INSERT", "UPDATE", "DELETE"]
                .iter()
                .any(|flag| flags.contains(flag));
            Access::new(flags.contains("ACCESS"), writes)
        }
    }
}

/// A request whose row is found.
struct Asked<'a> {
    command: &'a Command,
    args: &'a Args<'a>,
}

impl Request for Asked<'_> {
    #[inline]
    fn number(&self) -> u32 {
        self.command.number
    }

    fn is_free(&self) -> bool {
        self.command.has(flag::NO_AUTH)
    }

    fn first_arg(&self) -> Option<&[u8]> {
        // The name of a subcommand takes a word of its own.
        let words = 1 + usize::from(self.command.full_name.len() > self.command.name.len());
        self.args.all().get(words).copied()
    }

    #[inline]
    fn arg(&self, at: usize) -> &[u8] {
        &self.args[at]
    }

    #[inline]
    fn keys(&self) -> SmallVec<[(usize, Access); 4]> {
        let needs = &self.command.needs;
        if needs.keys.is_empty() {
            return SmallVec::new();
        }
        match (self.command.only_key_place(), needs.keys[0]) {
            (0, _) => self.several_keys(),
            (at, Some(access)) if at < self.args.len() => smallvec![(at, self.in_use(0, access))],
            _ => SmallVec::new(),
        }
    }

    fn channels(&self) -> Channels {
        match self.command.needs.channels {
            Places::None => (0..0, false),
            Places::One => (1..2, false),
            Places::All { are_patterns } => (1..self.args.len(), are_patterns),
        }
    }
}

impl Asked<'_> {
    fn several_keys(&self) -> SmallVec<[(usize, Access); 4]> {
        let found = self.command.found_keys(self.args).into_iter();
        found
            .filter_map(|(at, number)| Some((at, self.in_use(number, self.command.needs.keys[number]?))))
            .collect()
    }

    #[inline]
    fn in_use(&self, number: usize, access: Access) -> Access {
        match self.command.needs.depends {
            true => access_of(flags_in_use(self.command, &self.command.keys[number], self.args)),
            false => access,
        }
    }
}

/// The decision. The arity has been checked.
#[inline]
pub fn check(user: &User, command: &Command, args: &Args<'_>) -> Result<(), Denied> {
    user.check(&Asked { command, args })
}

/// True when the user may run the command and could read any key at all in it.
pub fn reads_all_keys(user: &User, command: &Command, args: &Args<'_>) -> bool {
    user.reaches_all_keys(&Asked { command, args }, Access::READ)
}

/// The refusal as a client is told of it.
pub fn refusal(denied: Denied, command: &Command) -> Error {
    let name = &command.full_name;
    match denied {
        Denied::Command => Error::new(format!(
            "NOPERM this user has no permissions to run the '{name}' command"
        )),
        Denied::Key(_) => {
            Error::new("NOPERM this user has no permissions to access one of the keys used as arguments")
        }
        Denied::Channel(_) => {
            Error::new("NOPERM this user has no permissions to access one of the channels used as arguments")
        }
    }
}

/// The refusal of a command that was allowed when it was queued.
pub fn refusal_by_exec(denied: Denied) -> Error {
    let why = match denied {
        Denied::Command => "no permission to execute the command or subcommand",
        Denied::Key(_) => "no permission to touch the specified keys",
        Denied::Channel(_) => "no permission to access one of the channels used as arguments",
    };
    Error::new(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This \
         command is no longer allowed for the following reason: {why}"
    ))
}

/// The refusal as a script is told of it.
pub fn refusal_by_script(denied: Denied) -> Error {
    Error::new(match denied {
        Denied::Command => "ERR The user executing the script can't run this command or subcommand",
        Denied::Key(_) => {
            "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments"
        }
        Denied::Channel(_) => {
            "ERR The user executing the script can't publish to the channel mentioned in the command"
        }
    })
}

/// Keeps a refusal for `ACL LOG`.
pub fn note(
    denied: Denied,
    place: Place,
    (command, args): (&Command, &Args<'_>),
    server: &Server,
    session: &Session,
) {
    let (reason, object) = match denied {
        Denied::Command => (Reason::Command, command.full_name.as_bytes()),
        Denied::Key(at) => (Reason::Key, &args[at]),
        Denied::Channel(at) => (Reason::Channel, &args[at]),
    };
    let refused = Refused {
        reason,
        place,
        object,
        user: &session.user.name,
    };
    note_refused(&refused, &command.full_name, server, session);
}

/// Keeps a failed authentication for `ACL LOG`; `word` is the command as the client wrote it.
pub fn note_failed_login(user: &[u8], (word, place): (&[u8], Place), server: &Server, session: &Session) {
    let refused = Refused {
        reason: Reason::Auth,
        place,
        object: word,
        user,
    };
    let running = String::from_utf8_lossy(word).to_ascii_lowercase();
    note_refused(&refused, &running, server, session);
}

fn note_refused(refused: &Refused<'_>, running: &str, server: &Server, session: &Session) {
    let now_ms = crate::server::unix_ms();
    let client = super::client::line_of(&session.client, now_ms, running);
    let most = server.config.load().acllog_max_len;
    server.acl.log.lock().note(refused, client, now_ms, most);
}

/// Where a command of this session runs now.
pub fn place(session: &Session) -> Place {
    match session.transaction {
        Some(_) => Place::Multi,
        None => Place::TopLevel,
    }
}

/// The table of commands, as rules name them.
pub struct Table;

/// For `Acl::new`.
pub static TABLE: Table = Table;

fn named(command: &'static Command) -> Named {
    let first = command.subcommands.first().map_or(0, |sub| sub.number);
    Named {
        name: &command.full_name,
        number: command.number,
        // Subcommands are numbered in a row, before their container.
        subcommands: first..first + command.subcommands.len() as u32,
        is_subcommand: command.full_name.len() > command.name.len(),
    }
}

impl Vocabulary for Table {
    fn bound(&self) -> u32 {
        table::all_rows().map(|row| row.number).max().unwrap_or(0) + 1
    }

    fn command(&self, name: &[u8]) -> Option<Named> {
        table::find_full(name).map(named)
    }

    fn category(&self, name: &[u8]) -> Option<Vec<Named>> {
        use super::spec::acl::NAMES;
        let is = |category: &str| category.as_bytes()[1..].eq_ignore_ascii_case(name);
        let category = NAMES
            .iter()
            .map(|(_, category)| *category)
            .find(|category| is(category))?;
        let rows = table::all_rows().filter(|row| row.categories().any(|own| own == category));
        Some(rows.map(named).collect())
    }
}
