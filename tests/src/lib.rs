//! The harness of the whole-system tests: real coordinator and worker processes over loopback, on data it makes itself.
//!
//! It names no tensor and links no libtorch: it starts the binaries that lie beside the test's own.

mod etcd;
mod evidence;
mod lab;
mod process;
mod run;
pub mod tensors;

pub use etcd::{EtcdServer, EtcdTls};
pub use evidence::{Draw, Evidence};
pub use lab::{Lab, SAMPLES};
pub use process::{PATIENCE, Process, binary, deadline};
pub use run::{Outcome, Run};
