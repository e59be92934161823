//! LAW of a worker: plan queue, applied and durable marks, retained score vectors, parking, rebuilding.
//!
//! `handle(event) -> commands`, free of clocks, tensors and sockets; a simulator can run this very code. The trainer
//! carries commands out in order and compares no fence: what is stale is stopped here, by [`Command::Abandon`].

mod message;
mod reader;
mod session;
pub mod wire;

pub use message::{Command, Event, Identity, Reply, TrainerCommand, TrainerEvent};
pub use reader::{Nonsense, PlanFlaw, Reader};
pub use session::Session;
