//! Sockets: listening, connections, what is known of each client.

pub mod clients;
pub mod connection;
pub mod descriptors;
pub mod gather;
pub mod inbox;
pub mod listener;
pub mod metrics;
pub mod session;
pub mod socket;
pub mod tls;
mod waiting;
mod work;
