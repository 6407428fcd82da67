//! WATCH: the keys on which a client's transaction depends. Each has the client among its subscribers
//! (`Kind::Transactions`); a change of the key sends nothing, but marks the client.

use super::PubSub;
use crate::keyspace::Keyspace;
use crate::keyspace::records::{Kind, Topic};
use crate::net::clients::{Client, client_flag};
use std::collections::HashSet;
use std::sync::Arc;

pub struct Watching {
    /// The client's number in the bitsets, besides the one that its subscriptions have.
    number: u32,
    client: Arc<Client>,
    /// Logical database and key.
    keys: HashSet<(u8, Box<[u8]>)>,
}

impl Watching {
    pub fn keys(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.keys.iter().map(|(db, key)| (*db, &**key))
    }

    /// A key has changed since it was watched.
    pub fn is_broken(&self) -> bool {
        self.client.has(client_flag::BROKEN)
    }
}

fn topic(db: u8, key: &[u8]) -> Topic<'_> {
    Topic {
        kind: Kind::Transactions,
        db,
        key,
    }
}

impl PubSub {
    /// Begins to watch for a client that has watched nothing so far.
    pub fn begin_watching(&self, client: &Arc<Client>) -> Box<Watching> {
        Box::new(Watching {
            number: self.delivery.enter(client),
            client: client.clone(),
            keys: HashSet::new(),
        })
    }

    pub fn watch(&self, keyspace: &Keyspace, own: &mut Watching, db: u8, key: &[u8]) {
        if own.keys.insert((db, key.into())) {
            keyspace.subscribe(&topic(db, key), own.number);
        }
    }

    pub fn end_watching(&self, keyspace: &Keyspace, own: &Watching) {
        for (db, key) in own.keys() {
            keyspace.unsubscribe(&topic(db, key), own.number);
        }
        self.delivery.leave(own.number);
        // Nobody marks the client any more.
        own.client.set(client_flag::BROKEN, false);
    }
}
