//! The ESTA worker (HANDS): session with the coordinator, trainer on its own thread, checkpoints, evaluation, export.

pub mod commands;
pub mod eval;
pub mod exit;
pub mod pretrain;
pub mod session;
pub mod trainer;
