//! HANDS: the coordinator's record, sockets and output. What a run does next is decided in
//! `esta-engine`; nothing here judges about training.

pub mod archive;
pub mod artifacts;
pub mod commands;
pub mod coordinator;
pub mod failure;
pub mod http;
pub mod leader;
pub mod observer;
pub mod palette;
pub mod progress;
pub mod report;
pub mod rpc;
pub mod security;
pub mod store;
pub mod telemetry;
