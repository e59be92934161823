//! Whether a language-model job fits in memory (HANDS): asked before anything large is read.

use esta_engine::{
    memory::{Bytes, MemoryPlan, Pass},
    spec::JobSpec,
};
use esta_text::TextSet;
use tch::Device;
use thiserror::Error;

use super::{family::Outline, job::SETUP};
use crate::{eval, machine};

/// The job needs more memory than there is.
#[derive(Debug, Error)]
#[error(
    "the job does not fit: {} are free, and it needs {plan}; train.gradient_checkpointing, \
     train.gradient_accumulation_steps, train.precision: bf16 and a smaller data.text.max_length or eval.batch_size need less \
     (train.check_memory: false starts all the same)",
    Bytes(*free)
)]
pub struct RoomError {
    /// Bytes that are free on the device.
    pub free: u64,
    /// What the job needs.
    pub plan: MemoryPlan,
}

/// Says what the job needs with these texts to adapt on, and these to evaluate on, and refuses what cannot fit.
///
/// # Errors
/// [`RoomError`].
pub fn check(outline: &Outline, texts: &TextSet, held_out: Option<&TextSet>) -> Result<Room, RoomError> {
    let spec = &outline.law.spec;
    let held_out = held_out.map(|texts| eval::largest_pass(spec, texts));
    let plan = MemoryPlan::of(&outline.law, largest_pass(spec, texts), held_out);
    let Some(plan) = plan else { return Ok(Room::default()) };
    tracing::info!(target: SETUP, "memory: {plan}");
    match machine::free_memory(outline.device) {
        Some(free) if spec.train.check_memory && plan.least() > free => Err(RoomError { free, plan }),
        Some(free) => {
            let blocks = (free - free / MARGIN).saturating_sub(plan.least() + beside_tensors(outline.device));
            Ok(Room { blocks, planned: Some(plan.peak(1)) })
        }
        None => Ok(Room { planned: Some(plan.peak(1)), ..Room::default() }),
    }
}

/// The share of free memory that is the allocator's: one in so many bytes.
const MARGIN: u64 = 20;

/// Bytes that a GPU will hold beside tensors once it computes and reduces: its kernels, cuBLAS's workspaces, and the buffers of
/// four communicators (of all ranks and of a node's, each again for the generation to come). A generous guess for what may be kept
/// beside what is needed: what it leaves unused costs a block's broadcast. Nothing is refused for its sake.
fn beside_tensors(device: Device) -> u64 {
    if device.is_cuda() { 3 << 30 } else { 0 }
}

/// What a rank may keep beside what it cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of blocks that are its part of its node's.
    pub blocks: u64,
    /// Bytes that it is planned to take at most, with all blocks on it.
    pub planned: Option<u64>,
}

impl Default for Room {
    /// As much as there is to keep.
    fn default() -> Self {
        Self { blocks: u64::MAX, planned: None }
    }
}

/// The largest pass that these texts can make: as long as the longest, as much learned as its texts learn at most.
fn largest_pass(spec: &JobSpec, texts: &TextSet) -> Pass {
    let pass = Pass::at_most(spec);
    let tokens = texts.lengths().into_iter().max().map_or(pass.tokens, u64::from);
    let most = texts.learned_lengths().max().unwrap_or(tokens);
    Pass { tokens, learned: pass.rows * most, ..pass }
}
