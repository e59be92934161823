//! ESTA in virtual time (tests): the very laws of coordinator and worker over a simulated record, network, disk and
//! process groups. A seed decides every delay, death, pause and partition, so a failure reproduces from its seed.
//!
//! What is real: `esta_engine::run::Run` and `esta_worker_engine::Session`, every line of them. What is simulated does what
//! the HANDS of both programs do: it carries out commands in order, and waits for nothing else.
//!
//! What can go wrong is what can go wrong with what those programs stand on, and no more. `network.rs` says what sessions
//! over gRPC do to their messages, `peers.rs` what becomes of collectives whose ranks do not reach each other, and
//! `sim/writing.rs` how a write to a store ends of which nobody hears; `faults.rs` lists it all. Reports alone are put to
//! more than that: they are facts, so one may be heard again at any time.

mod clock;
mod coordinator;
mod faults;
mod group;
mod invariants;
mod job;
pub mod mutate;
mod network;
mod peers;
mod record;
mod reports;
mod serial;
mod sim;
mod trainer;
mod useful;
mod worker;

pub use faults::Weather;
pub use invariants::Violation;
pub use job::{calm, law};
pub use reports::{Load, Tally, hear_reports};
pub use sim::{Outcome, Sim};
pub use useful::{Failures, Share, useful_work};
