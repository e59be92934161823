//! What workers and operators talk to (HANDS): tonic services over the leader's inbox.

mod connection;
mod gate;
mod limits;
mod measured;
mod message;
mod office;
pub mod outbox;
mod pull;
pub mod rendezvous;
mod server;
mod service;
mod status;

pub use self::{
    connection::{Connection, Door, Peer},
    limits::MAX_CONNECTIONS,
    office::Welcome,
    server::{BindError, Entrance, Listener},
    service::{Broken, Retired, Service},
};
