//! What reaches the law of a run and what it does to the world (LAW).

use std::time::Duration;

use esta_proto::{Digest, Fence, Generation, Rank, SessionId, SlotId, Step};
use serde::{Deserialize, Serialize};

use super::{Phases, activity::Progress};
use crate::{
    palette::Choice,
    plan::RankPlan,
    sampler::Draw,
    table::{Outcome, Row},
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker opened a session and said what it holds.
    Joined(SessionId, Hello),
    /// A session ended, for whatever reason.
    Left(SessionId),
    /// A worker stands in the process group of the fence's generation, and this is what it holds.
    GroupReady(SessionId, Fence, Ready),
    /// A worker's process group broke: it could not be built, or a collective failed.
    GroupFailed(SessionId, Fence, String),
    /// A worker has built its end of the group of the fence's generation, which is to come.
    GroupPrepared(SessionId, Fence),
    /// A worker finished a step. A fact: its fence does not matter.
    Reported(SessionId, Report),
    /// Every record up to this step, inclusive, is durable.
    Persisted(Step),
    /// The record of this generation is durable.
    Recorded(Generation),
    /// A complete checkpoint of this many applied steps is on disk.
    CheckpointSaved(SessionId, Step),
    /// The record of the run's end is durable.
    Concluded,
    /// A worker has done what the end of the run asked of it: as the writer of the results, or not.
    FinaleDone(SessionId, bool),
    /// A worker says what its trainer is doing.
    Heard(SessionId, Progress),
    /// A worker was asked to leave: it stays until the steps given out are done.
    Draining(SessionId),
    /// Time has passed.
    Tick,
}

impl Event {
    /// The session it came from, if any: a sign of life.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Joined(session, _)
            | Self::GroupReady(session, ..)
            | Self::GroupFailed(session, ..)
            | Self::GroupPrepared(session, _)
            | Self::Reported(session, _)
            | Self::CheckpointSaved(session, _)
            | Self::FinaleDone(session, _)
            | Self::Heard(session, _)
            | Self::Draining(session) => Some(*session),
            Self::Left(_) | Self::Persisted(_) | Self::Recorded(_) | Self::Concluded | Self::Tick => None,
        }
    }
}

/// What a worker says first.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// Its identity; unique among live workers.
    pub name: String,
    /// Grows with every process of that name: a restarted process is never taken for its predecessor.
    pub incarnation: u64,
    /// Steps applied to the adapters it holds in memory; none when it holds none.
    pub applied: Option<Step>,
    /// Reports above the durable mark, oldest first.
    pub retained: Vec<Report>,
    /// Complete checkpoints it can read, by applied steps.
    pub checkpoints: Vec<Step>,
    /// Digest of its own view of the parameter layout.
    pub layout_digest: Digest,
    /// Samples of its training set.
    pub samples: u64,
    /// The process group it stands in, if any: after a change of leaders the generation goes on.
    pub standing: Option<Standing>,
}

/// A worker's place in a process group that stands, and the plans it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The group's generation.
    pub generation: Generation,
    /// Its rank there.
    pub rank: Rank,
    /// The next step it has no plan of.
    pub next: Step,
    /// Its shares of steps it has not applied, ascending.
    pub held: Vec<HeldShare>,
}

/// A rank's share of a plan that it holds and has not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldShare {
    /// The step.
    pub step: Step,
    /// Digest of the whole plan.
    pub plan: Digest,
    /// Its slots, ascending.
    pub slots: Vec<SlotId>,
}

/// What a rank holds where its group stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Steps applied to its adapters.
    pub applied: Step,
    /// Chained digest of the reduced buffers that led to them; none where it does not say.
    pub chain: Option<Digest>,
    /// Slots of the next step whose sum it has from before: it need not run them again.
    pub computed: Option<HeldShare>,
}

impl Ready {
    /// With nothing of the next step.
    #[must_use]
    pub fn at(applied: Step) -> Self {
        Self { applied, chain: None, computed: None }
    }
}

/// A worker's report of a step: a fact, keyed by (run, step, plan digest).
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The step.
    pub step: Step,
    /// The plan it carried out.
    pub plan: Digest,
    /// Chained digest of the reduced buffers up to this step (RD-3).
    pub reduced: Digest,
    /// One per slot in slot order; empty from ranks that were not asked for them.
    pub outcomes: Vec<Outcome>,
    /// Where the rank's time went: packing learns from it, and it reaches no number of the run.
    pub timings: StepTimings,
}

/// Where one rank's time of a step went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepTimings {
    /// Waiting for the plan.
    pub plan: Duration,
    /// Waiting for batches.
    pub batch: Duration,
    /// Forward and backward of each of its slots, in slot order.
    pub slots: Vec<(SlotId, Duration)>,
    /// All-reduce, waiting for slower ranks included.
    pub reduce: Duration,
    /// Digest and optimizer.
    pub apply: Duration,
}

impl StepTimings {
    /// Forward and backward of all its slots.
    #[must_use]
    pub fn compute(&self) -> Duration {
        self.slots.iter().map(|(_, took)| *took).sum()
    }

    /// By phase.
    #[must_use]
    pub fn phases(&self) -> Phases<Duration> {
        let Self { plan, batch, reduce, apply, .. } = *self;
        Phases { plan, batch, compute: self.compute(), reduce, apply }
    }
}

/// Everything the law does to the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Sends a message under the current fence.
    Send(SessionId, Message),
    /// Ends a session after what was sent before.
    Close(SessionId),
    /// Ends a session at once, for this reason; its process may come back.
    Evict(SessionId, String),
    /// Makes a record durable, in order; answered by [`Event::Persisted`] for steps, [`Event::Recorded`] for generations and
    /// [`Event::Concluded`] for the end.
    Persist(Record),
    /// Tells the operator something worth a line.
    Notice(Notice),
    /// The run is over.
    Complete,
}

/// A message to a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Form the process group of the fence's generation, or enter it where it was prepared.
    Form(Form),
    /// Build the process group of a generation to come, beside the steps of the current one.
    Prepare(Seat),
    /// This rank's share of a step.
    Plan(RankPlan),
    /// Every step below this one is durable.
    Durable(Step),
    /// The generation is over: abandon its collectives, keep the state, wait for `Form`.
    Lost(String),
    /// The message came under an old fence.
    Refused(String),
    /// What was applied beyond this many steps is not the run's: drop the state, keep no report of these steps.
    Discard(Step),
    /// Every step is durable: finish the run.
    Finish(Finish),
    /// Leave.
    Stop(Stop),
}

/// Form a process group and bring everybody to the source's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The worker's rank.
    pub rank: Rank,
    /// Ranks in the group.
    pub world: u32,
    /// Whose state everybody takes.
    pub source: Rank,
    /// Where the source has it from.
    pub origin: Origin,
}

/// A place in the process group of a generation to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The generation. A number that a group was prepared under is given to no other group of the same leader.
    pub generation: Generation,
    /// The worker's rank.
    pub rank: Rank,
    /// Ranks in the group.
    pub world: u32,
}

/// Where the source of a generation has its state from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Its own memory, at this many applied steps.
    Memory(Step),
    /// A complete checkpoint.
    Checkpoint(Step),
    /// The anchors and the seed.
    Fresh,
}

/// What the end of the run asks of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// Whether this rank writes the final checkpoint, evaluates and exports; the others only stand by.
    pub writer: bool,
    /// What each rule chose.
    pub palettes: Vec<(crate::spec::PaletteRule, Vec<Choice>)>,
}

/// Why a worker has to leave and with which exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// One line for the operator.
    pub reason: String,
    /// Exit code of the process.
    pub exit_code: i32,
}

/// Something durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A committed step.
    Step(StepRecord),
    /// A membership.
    Generation(Generation, Vec<String>),
    /// A complete checkpoint.
    Checkpoint(Step),
    /// Samples of the training set, once known.
    Samples(u64),
    /// Where the ledger is after the steps recorded before it: whoever goes on from it needs none of them for the table.
    Snapshot(Box<Snapshot>),
    /// The results are written: nothing is left to do.
    Complete,
    /// No worker will ever be given a step below this one again: a retained checkpoint has them applied.
    Trim(Step),
}

/// A ledger without its past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Committed steps.
    pub committed: Step,
    /// Rows of the table by stitch id.
    pub rows: Vec<Row>,
    /// The common trend of losses.
    pub trend: Option<f64>,
    /// Plans drawn and not committed: their step, the version of the table they were drawn from, their draws.
    pub plans: Vec<(Step, Step, Vec<Draw>)>,
}

/// A committed step: enough to derive the table and the next draws again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step.
    pub step: Step,
    /// Version of the table its plan was drawn from.
    pub table_version: Step,
    /// Its draws, in slot order.
    pub draws: Vec<Draw>,
    /// What its slots reported, in slot order.
    pub outcomes: Vec<Outcome>,
    /// Chained digest of the reduced buffers up to it.
    pub reduced: Digest,
}

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A generation was formed with these workers, by rank.
    Formed(Generation, Vec<String>),
    /// These workers, by rank, build the group of a generation to come.
    Preparing(Generation, Vec<String>),
    /// That generation will not come, for this reason.
    Forgone(Generation, String),
    /// A generation ended.
    Ended(Generation, String),
    /// A report matched no plan of this run.
    ForeignReport(SessionId, Step),
    /// A step executed again did not reproduce what was recorded; the record stands.
    RedoDiffers(Step),
    /// A step was committed as skipped.
    Skipped(Step),
    /// A worker was turned away.
    TurnedAway(String, String),
    /// A worker was lost to its silence, or its process was ended, for this reason.
    Evicted(String, String),
    /// A worker's session ended while it had a part in the run, whatever ended it: its process, its network, its own word.
    Gone(String),
    /// A worker takes this many times as long as the median of its peers for the same work.
    Straggler(String, f64),
    /// A straggler keeps up again.
    KeepsUp(String),
    /// A leader found the generation of its predecessor standing and goes on with it.
    Resumed(Generation),
    /// Nobody who is here holds a state from which the run can go on: it takes one of at least this many applied steps.
    Stranded(Step),
    /// The run cannot go on.
    Failed(String),
}

/// Exit codes of workers and coordinator that mean something.
pub mod exit {
    /// The run is complete, or the worker is not needed.
    pub const DONE: i32 = 0;
    /// The worker or its files do not fit the job.
    pub const MISFIT: i32 = 3;
    /// Another worker has this one's identity.
    pub const IDENTITY: i32 = 4;
    /// The run cannot go on: ranks disagree.
    pub const DIVERGED: i32 = 5;
    /// The worker's trainer hangs; a new process may do better.
    pub const HUNG: i32 = 10;
    /// No process group could be built with the worker: its peers and it do not reach each other.
    pub const UNREACHABLE: i32 = 12;
}
