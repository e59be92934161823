//! A generation's process group, and bringing its ranks to one state (HANDS): DESIGN.md section 4, reconfiguration.

use std::time::{Duration, Instant};

use esta_c10d::{C10dError, Outcome, ProcessGroup, Work};
use esta_engine::run::{Form, Origin};
use esta_proto::{Digest, Generation, Step};
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use super::{Abandoned, Job, State, builder::Groups, state::StateError};

/// Why a generation does not go on.
#[derive(Debug, Error)]
pub enum Broken {
    /// It is over; whoever asked for this knows.
    #[error("the generation is over")]
    Abandoned,
    /// The group could not be formed, or a collective failed.
    #[error(transparent)]
    Group(#[from] C10dError),
    /// A collective did not finish in time.
    #[error("a collective took longer than {0:?}")]
    TimedOut(Duration),
    /// The state cannot be made or taken over: no other generation would help.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a rank holds: applied steps, and the first word of the chained digest that led there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    applied: Step,
    chain: i64,
}

/// One rank's place in a generation.
pub struct Standing {
    /// The generation.
    pub generation: Generation,
    group: ProcessGroup,
    /// Of the ranks that share this node's blocks.
    node: Option<ProcessGroup>,
    abandoned: Abandoned,
    timeout: Duration,
}

impl Standing {
    /// A place in a group whose collectives may take this long.
    #[must_use]
    pub(super) fn new(generation: Generation, groups: Groups, abandoned: Abandoned, timeout: Duration) -> Self {
        Self { generation, group: groups.all, node: groups.node, abandoned, timeout }
    }

    /// The ranks that share this node's blocks, where a job spreads them.
    #[must_use]
    pub fn node(&self) -> Option<&ProcessGroup> {
        self.node.as_ref()
    }

    /// Whether nobody else stands in it.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.group.world() == 1
    }

    /// Leaves the group without waiting for anybody.
    pub fn abandon(self) {
        Groups { all: self.group, node: self.node }.abandon();
    }

    /// Whether anybody waits for what is done here.
    ///
    /// # Errors
    /// [`Broken::Abandoned`].
    pub fn goes_on(&self) -> Result<(), Broken> {
        if self.abandoned.covers(self.generation) { Err(Broken::Abandoned) } else { Ok(()) }
    }

    /// Sums a tensor over all ranks, in place.
    ///
    /// # Errors
    /// [`Broken`]; the tensor's content is lost then.
    pub fn sum(&self, tensor: &Tensor) -> Result<(), Broken> {
        self.finish(self.group.all_reduce_sum(tensor)?)
    }

    fn broadcast(&self, tensor: &Tensor, root: u32) -> Result<(), Broken> {
        self.finish(self.group.broadcast(tensor, root)?)
    }

    /// Waits for a collective of this generation.
    ///
    /// # Errors
    /// [`Broken`]; what it was to move is lost then.
    pub fn finish(&self, mut work: Work) -> Result<(), Broken> {
        let cancelled = || self.abandoned.covers(self.generation);
        match work.wait_until(Instant::now() + self.timeout, &cancelled)? {
            Outcome::Done => Ok(()),
            Outcome::DeadlinePassed => Err(Broken::TimedOut(self.timeout)),
            Outcome::Cancelled => Err(Broken::Abandoned),
        }
    }

    /// Brings all ranks to the state of the one with the highest applied step; where nobody holds one as new as the
    /// form's origin, its source makes that.
    ///
    /// # Errors
    /// [`Broken`]; `state` is unharmed then unless it was behind.
    pub fn align(&self, form: &Form, job: &Job, state: &mut Option<State>) -> Result<Step, Broken> {
        // Who holds what: two states of as many steps may differ where sums do (`reduce.kind: f32`), and their chains tell.
        if let (Some(shard), Some(node)) = (&job.family.shard, &self.node) {
            shard.settle(node).map_err(StateError::from)?;
        }
        let mut holders = self.holders(state.as_ref(), job.family.device)?;
        let made = match form.origin {
            Origin::Checkpoint(step) => Some(step),
            Origin::Memory(_) | Origin::Fresh => None,
        };
        if holders.iter().flatten().all(|held| Some(held.applied) < made) {
            if form.rank == form.source {
                *state = Some(originate(form.origin, job)?);
            }
            holders = self.holders(state.as_ref(), job.family.device)?;
        }
        let newest = holders.iter().flatten().map(|held| held.applied).max();
        let source = holders.iter().position(|held| held.is_some_and(|held| Some(held.applied) == newest));
        let (Some(newest), Some(source)) = (newest, source) else { return Err(StateError::Nobody.into()) };
        if holders.iter().any(|held| *held != holders[source]) {
            self.spread(source as u32, job, state)?;
        }
        Ok(newest)
    }

    /// By rank: what it holds.
    fn holders(&self, state: Option<&State>, device: Device) -> Result<Vec<Option<Held>>, Broken> {
        let mut words = vec![0_i64; 2 * self.group.world() as usize];
        if let Some(state) = state {
            let place = 2 * self.group.rank() as usize;
            // One more than the step, so that 0 says "nothing".
            words[place] = state.applied.0.cast_signed() + 1;
            words[place + 1] = i64::from_le_bytes(state.chain.0[..8].try_into().expect("a digest has eight bytes"));
        }
        let tensor = Tensor::from_slice(&words).to_device(device);
        self.sum(&tensor)?;
        let words = Vec::<i64>::try_from(tensor.to_device(Device::Cpu)).expect("integers become integers");
        let held = |words: &[i64]| {
            let applied = words[0].checked_sub(1).filter(|applied| *applied >= 0)?;
            Some(Held { applied: Step(applied.cast_unsigned()), chain: words[1] })
        };
        Ok(words.chunks_exact(2).map(held).collect())
    }

    /// Copies the source's state to all ranks.
    fn spread(&self, source: u32, job: &Job, state: &mut Option<State>) -> Result<(), Broken> {
        let mine = self.group.rank() == source;
        let taken = match state.take_if(|_| mine) {
            Some(state) => state,
            None => State::hollow(&job.family)?,
        };
        // The source keeps its state whatever becomes of the broadcast; the others keep theirs until it is whole.
        let words = header(&taken).to_device(job.family.device);
        let tensors = taken.tensors();
        let sent = std::iter::once(&words).chain(&tensors).try_for_each(|tensor| self.broadcast(tensor, source));
        match sent {
            Ok(()) => *state = Some(taken.arrived(&words, &tensors, job)?),
            Err(error) if mine => {
                *state = Some(taken);
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn originate(origin: Origin, job: &Job) -> Result<State, StateError> {
    match origin {
        Origin::Checkpoint(step) => State::from_checkpoint(&job.family, step),
        Origin::Fresh => State::fresh(job),
        Origin::Memory(step) => Err(StateError::Forgotten(step)),
    }
}

/// Applied steps, the chain's four words, then the touches by group.
fn header(state: &State) -> Tensor {
    let mut words = vec![state.applied.0.cast_signed()];
    words.extend(state.chain.0.chunks_exact(8).map(|word| i64::from_le_bytes(word.try_into().expect("eight bytes"))));
    words.extend(state.store.touches().iter().map(|touches| touches.cast_signed()));
    Tensor::from_slice(&words)
}

/// What a header says.
pub struct Header {
    /// Applied steps.
    pub applied: Step,
    /// Chained digest of the reduced buffers.
    pub chain: Digest,
    /// By group id: how often it was updated.
    pub touches: Vec<u64>,
}

/// Reads a header.
#[must_use]
pub fn read_header(words: &Tensor) -> Header {
    let words =
        Vec::<i64>::try_from(words.to_device(Device::Cpu).to_kind(Kind::Int64)).expect("integers become integers");
    let mut chain = Digest::default();
    for (bytes, word) in chain.0.chunks_exact_mut(8).zip(&words[1..5]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let touches = words[5..].iter().map(|word| word.cast_unsigned()).collect();
    Header { applied: Step(words[0].cast_unsigned()), chain, touches }
}
