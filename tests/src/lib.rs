//! The harness of the whole-system tests: real coordinator and worker processes over loopback, on data it makes itself.
//!
//! It names no tensor and links no libtorch: it starts the binaries that lie beside the test's own.

pub mod backends;
mod certificates;
pub mod collector;
mod disk;
mod etcd;
mod evidence;
pub mod http;
mod lab;
mod network;
mod objects;
mod process;
mod rendered;
mod run;
mod sight;
pub mod tensors;
mod texts;
pub mod trials;

pub use certificates::Certificates;
pub use disk::Disk;
pub use etcd::{EtcdCluster, EtcdServer, EtcdTls};
pub use evidence::{Draw, Evidence};
pub use lab::{Lab, SAMPLES};
pub use network::Network;
pub use objects::ObjectServer;
pub use process::{PATIENCE, Process, binary, deadline, within};
pub use rendered::{Action, Cluster, Ended, Lost, Scenario};
pub use run::{Outcome, Run, Setting};
pub use sight::Sight;
pub use texts::TextLab;
