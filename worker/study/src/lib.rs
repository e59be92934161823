//! Studies (HANDS, free of libtorch): the same job under many settings, targets and seeds, and one page of what came out.
//!
//! ```text
//! Study (YAML, or axes of `ablate`) ──► cells: target x arm x part x seed
//!   cell ──► `esta-coordinator run` in a folder of its own ──► collect ──► CellResult (JSON, small, committed)
//!   results ──► summary (effects with standard errors, regrets of rules) ──► page
//! ```
//! A cell is a whole run of the product, so whatever holds for a run (resume, exit codes, artefacts) holds here. What is
//! finished stays finished: a cell is run again only when its job has changed, or the number in `runner` that is raised by
//! hand when a change moves what jobs come to.

pub mod angles;
pub mod axes;
pub mod cell;
pub mod collect;
pub mod evidence;
pub mod history;
pub mod jobs;
mod keep;
pub mod page;
pub mod plan;
pub mod runner;
pub mod selection;
pub mod summary;
pub mod trials;
