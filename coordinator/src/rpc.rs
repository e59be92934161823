//! What workers and operators talk to (HANDS): tonic services over the leader's inbox.

mod message;
pub mod outbox;
pub mod rendezvous;
mod server;
mod service;
mod status;

pub use self::{
    server::{BindError, Listener},
    service::{Service, Welcome},
};
