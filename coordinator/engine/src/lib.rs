//! LAW: what an ESTA run is and how it proceeds, free of clocks, files, sockets and tensors.

pub mod arch;
pub mod assignment;
pub mod budget;
pub mod catalog;
pub mod cost;
pub mod groups;
pub mod latency;
pub mod law;
pub mod memory;
pub mod order;
pub mod pace;
pub mod palette;
pub mod plan;
pub mod profile;
pub mod regret;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod shard;
mod space;
pub mod spec;
pub mod statistics;
pub mod streams;
pub mod table;
pub mod wire;
