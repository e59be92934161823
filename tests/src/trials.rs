//! What can only be seen of real processes and takes longer than a test: how long a run stands still when a process is
//! killed, and whether one that loses workers all the time ends with the bits of one that loses none.

pub mod kills;
pub mod soak;
