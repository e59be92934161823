//! LAW: what an ESTA run is and how it proceeds, free of clocks, files, sockets and tensors.

pub mod arch;
pub mod catalog;
pub mod groups;
pub mod spec;
