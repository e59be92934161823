//! The ESTA worker (HANDS): session with the coordinator, trainer on its own thread, checkpoints, evaluation, export,
//! latencies.

pub mod angles;
pub mod commands;
pub mod eval;
pub mod exit;
pub mod export;
pub mod generate;
pub mod hub;
pub mod machine;
pub mod places;
pub mod pretrain;
pub mod profile;
pub mod run_dir;
pub mod session;
pub mod telemetry;
pub mod trainer;
