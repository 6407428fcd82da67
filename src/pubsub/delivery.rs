//! From the numbers of clients to their inboxes.
//!
//! A client that subscribes is given the smallest free number, so that bitsets stay short; when its last subscription
//! ends, the number is another's.

use super::message::Message;
use crate::config::OutputBufferLimit;
use crate::keyspace::subscribers::Subscribers;
use crate::net::clients::{Client, OutputLimit, Parcel, client_flag};
use crate::resp::Protocol;
use parking_lot::RwLock;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Default)]
struct Numbered {
    clients: Vec<Option<Arc<Client>>>,
    free: BinaryHeap<Reverse<u32>>,
}

#[derive(Default)]
pub struct Delivery {
    numbered: RwLock<Numbered>,
    /// `client-output-buffer-limit pubsub`.
    limit: OutputLimit,
    pub messages: AtomicU64,
}

impl Delivery {
    pub fn set_limit(&self, limit: OutputBufferLimit) {
        self.limit.set(limit);
    }

    /// Gives a client its number.
    pub(super) fn enter(&self, client: &Arc<Client>) -> u32 {
        let mut numbered = self.numbered.write();
        match numbered.free.pop() {
            Some(Reverse(number)) => {
                numbered.clients[number as usize] = Some(client.clone());
                number
            }
            None => {
                numbered.clients.push(Some(client.clone()));
                (numbered.clients.len() - 1) as u32
            }
        }
    }

    /// Takes a number back that stands in no bitset any more.
    pub(super) fn leave(&self, number: u32) {
        let mut numbered = self.numbered.write();
        numbered.clients[number as usize] = None;
        numbered.free.push(Reverse(number));
        if numbered.free.len() == numbered.clients.len() {
            *numbered = Numbered::default();
        }
    }

    /// Shows the clients with these numbers.
    pub fn each(&self, who: &Subscribers, mut show: impl FnMut(&Arc<Client>)) {
        let numbered = self.numbered.read();
        who.for_each(|number| {
            if let Some(Some(client)) = numbered.clients.get(number as usize) {
                show(client);
            }
        });
    }

    /// Nothing more reaches these clients before the journal is durable up to an offset.
    pub(super) fn gate(&self, who: &Subscribers, offset: u64) {
        self.each(who, |client| {
            client.gate.fetch_max(offset, Relaxed);
        });
    }

    /// Closes those for whom too much has been waiting for too long. Called about once a second.
    pub fn close_slow(&self) {
        let numbered = self.numbered.read();
        let clients = numbered.clients.iter().flatten();
        clients.for_each(|client| client.check_soft(&self.limit));
    }

    /// Leaves a message in the inbox of one client, within the limit that it has.
    pub(super) fn hand(&self, client: &Arc<Client>, message: &Parcel) {
        if client.has(client_flag::PUBSUB) {
            client.deliver(message, &self.limit);
        } else {
            client.send(message);
        }
    }

    /// How many subscribers there are.
    pub fn count(&self, subscribers: &Subscribers) -> usize {
        let mut count = 0;
        self.each(subscribers, |_| count += 1);
        count
    }

    /// Leaves a message in the inbox of each subscriber; returns how many there are.
    pub fn send(&self, subscribers: &Subscribers, message: &Message<'_>) -> usize {
        let mut sent = 0;
        self.each(subscribers, |client| {
            let protocol = match client.protocol.load(Relaxed) {
                3 => Protocol::Resp3,
                _ => Protocol::Resp2,
            };
            sent += usize::from(client.deliver(message.encoded(protocol), &self.limit));
        });
        self.messages.fetch_add(sent as u64, Relaxed);
        sent
    }
}
