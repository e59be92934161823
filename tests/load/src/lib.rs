//! A load generator: thousands of simulated ranks over real gRPC against one coordinator process (HANDS).
//!
//! A rank is the law of a worker (`esta_worker_engine::Session`) with a trainer that computes nothing: it builds every
//! group at once, and its steps take as long as whoever drives it says. What is measured is the coordinator, the wire and
//! this generator, on the same processors.

mod crowd;
mod door;
mod figures;
mod job;
pub mod parts;
mod rank;
mod served;

pub use crowd::{Cast, Crowd};
pub use door::{Door, Traffic, Wire};
pub use figures::{mean, quantile};
pub use job::{Family, Job, SAMPLES};
pub use rank::{Rank, Trade};
pub use served::Served;
