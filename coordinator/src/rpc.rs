//! What workers and operators talk to (HANDS): tonic services over the leader's inbox.

mod connection;
mod gate;
mod limits;
mod measured;
mod message;
pub mod outbox;
mod pull;
mod reception;
pub mod rendezvous;
mod server;
mod service;
mod status;

pub use self::{
    connection::{Connection, Door, Peer},
    limits::MAX_CONNECTIONS,
    reception::Welcome,
    server::{BindError, Entrance, Listener},
    service::{Broken, Retired, Service},
};
