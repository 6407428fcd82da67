//! The filters of CLIENT KILL and CLIENT LIST.

use super::args::Args;
use super::error::{Error, quoted};
use crate::acl::users::Users;
use crate::net::clients::{Client, client_flag};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClientType {
    Normal,
    /// Has subscribed to something.
    PubSub,
    /// Other servers: there are none so far.
    Server,
}

/// One condition on a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Any of these.
    Ids(Vec<u64>),
    Addr(Vec<u8>),
    Laddr(Vec<u8>),
    Type(ClientType),
    User(Vec<u8>),
    /// Connected for at least so many seconds.
    MaxAge(i64),
}

impl Filter {
    pub fn accepts(&self, client: &Client, now_ms: i64) -> bool {
        match self {
            Filter::Ids(ids) => ids.contains(&client.id),
            Filter::Addr(addr) => client.addr.as_bytes() == addr,
            Filter::Laddr(addr) => client.laddr.as_bytes() == addr,
            Filter::User(name) => client.is_of_user(name),
            Filter::Type(ClientType::Normal) => !client.has(client_flag::PUBSUB),
            Filter::Type(ClientType::PubSub) => client.has(client_flag::PUBSUB),
            Filter::Type(ClientType::Server) => false,
            Filter::MaxAge(seconds) => (now_ms - client.created_ms) / 1_000 >= *seconds,
        }
    }
}

/// The filter for a type by its name.
pub fn by_type(name: &[u8]) -> Result<Filter, Error> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("normal") {
        Ok(Filter::Type(ClientType::Normal))
    } else if is("pubsub") {
        Ok(Filter::Type(ClientType::PubSub))
    } else if ["slave", "replica", "master"].into_iter().any(is) {
        Ok(Filter::Type(ClientType::Server))
    } else {
        let name = String::from_utf8_lossy(quoted(name, usize::MAX));
        Err(Error::new(format!("ERR Unknown client type '{name}'")))
    }
}

/// What CLIENT KILL was asked for: all filters have to accept.
#[derive(Debug, PartialEq)]
pub struct KillFilter {
    pub filters: Vec<Filter>,
    pub skip_me: bool,
}

impl KillFilter {
    /// Reads `CLIENT KILL addr` or `CLIENT KILL <option> <value> ...`.
    pub fn parse(args: &Args<'_>, users: &Users) -> Result<KillFilter, Error> {
        let mut kill = KillFilter {
            filters: Vec::new(),
            skip_me: true,
        };
        if args.len() == 3 {
            kill.filters.push(Filter::Addr(args[2].to_vec()));
            kill.skip_me = false;
            return Ok(kill);
        }
        let mut at = 2;
        while at < args.len() {
            let value = args.get(at + 1)?;
            if args.is(at, "ID") {
                at = kill.add_ids(args, at + 1)?;
                continue;
            }
            kill.add(args, at, value, users)?;
            at += 2;
        }
        Ok(kill)
    }

    /// Adds the ids from an argument on, of which there is one at least; returns where they end.
    fn add_ids(&mut self, args: &Args<'_>, from: usize) -> Result<usize, Error> {
        let more = (from + 1..args.len()).take_while(|at| args.int(*at).is_ok());
        let to = from + 1 + more.count();
        for at in from..to {
            let id = args.int(at).ok().filter(|id| *id > 0);
            let id = id.ok_or_else(|| Error::new("ERR client-id should be greater than 0"))? as u64;
            match self
                .filters
                .iter_mut()
                .find(|filter| matches!(filter, Filter::Ids(_)))
            {
                Some(Filter::Ids(ids)) => ids.push(id),
                _ => self.filters.push(Filter::Ids(vec![id])),
            }
        }
        Ok(to)
    }

    fn add(&mut self, args: &Args<'_>, at: usize, value: &[u8], users: &Users) -> Result<(), Error> {
        let filter = if args.is(at, "TYPE") {
            by_type(value)?
        } else if args.is(at, "ADDR") {
            Filter::Addr(value.to_vec())
        } else if args.is(at, "LADDR") {
            Filter::Laddr(value.to_vec())
        } else if args.is(at, "USER") {
            if users.get(value).is_none() {
                let user = String::from_utf8_lossy(quoted(value, usize::MAX));
                return Err(Error::new(format!("ERR No such user '{user}'")));
            }
            Filter::User(value.to_vec())
        } else if args.is(at, "SKIPME") {
            self.skip_me = match () {
                _ if args.is(at + 1, "YES") => true,
                _ if args.is(at + 1, "NO") => false,
                _ => return Err(Error::Syntax),
            };
            return Ok(());
        } else if args.is(at, "MAXAGE") {
            let age = args
                .int(at + 1)
                .map_err(|_| Error::new("ERR maxage is not an integer or out of range"))?;
            if age <= 0 {
                return Err(Error::new("ERR maxage should be greater than 0"));
            }
            Filter::MaxAge(age)
        } else {
            return Err(Error::Syntax);
        };
        self.filters.push(filter);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<KillFilter, String> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let users = Users::new(&crate::command::permission::TABLE);
        KillFilter::parse(&Args::new(&words), &users).map_err(|error| error.to_string())
    }

    #[test]
    fn filters_are_read_and_refused_in_redis_words() {
        assert_eq!(
            parse("CLIENT KILL MAXAGE 5 SKIPME no").unwrap(),
            KillFilter {
                filters: vec![Filter::MaxAge(5)],
                skip_me: false
            }
        );
        assert_eq!(
            parse("CLIENT KILL ID 5 7 SKIPME yes ID 9").unwrap(),
            KillFilter {
                filters: vec![Filter::Ids(vec![5, 7, 9])],
                skip_me: true
            }
        );
        for (line, error) in [
            ("CLIENT KILL ID 5 0", "ERR client-id should be greater than 0"),
            ("CLIENT KILL ID 5 x", "ERR syntax error"),
            (
                "CLIENT KILL MAXAGE x SKIPME no",
                "ERR maxage is not an integer or out of range",
            ),
            (
                "CLIENT KILL MAXAGE 0 SKIPME no",
                "ERR maxage should be greater than 0",
            ),
            ("CLIENT KILL MAXAGE 1 SKIPME", "ERR syntax error"),
            ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
        ] {
            assert_eq!(parse(line).unwrap_err(), error, "{line}");
        }
    }
}
