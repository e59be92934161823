//! What reaches the law of a worker and what it does to the world (LAW).

use esta_engine::{
    plan::RankPlan,
    run::{Finish, Form, Hello, Message, Progress, Ready, Report, Seat},
};
use esta_proto::{Digest, Fence, Generation, Step};

use crate::Nonsense;

/// Who a worker process is and what it sees; fixed for its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Unique among live workers.
    pub name: String,
    /// Grows with every process of that name.
    pub incarnation: u64,
    /// Its own view of the parameter layout.
    pub layout_digest: Digest,
    /// Samples of its training set.
    pub samples: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A session with a coordinator is open.
    Connected,
    /// It broke.
    Disconnected,
    /// The coordinator said something under a fence.
    Received(Fence, Message),
    /// It said something that no coordinator of this job says.
    Misheard(Nonsense),
    /// The trainer did something.
    Trainer(TrainerEvent),
    /// It is time to say what the trainer is at.
    Beat(Progress),
    /// Somebody asks the process to leave.
    Drain,
}

/// What the trainer thread says.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainerEvent {
    /// The generation's process group stands and everybody holds the same state.
    Ready(Generation, Ready),
    /// The generation's process group could not be built or a collective failed; the state is that of the last whole step.
    Broke(Generation, String),
    /// The process group of this fence's generation, which is to come, stands beside the current one.
    Prepared(Fence),
    /// It could not be built.
    NotPrepared(Fence, String),
    /// A step was applied. The report carries the outcomes on every rank.
    Stepped(Report),
    /// A checkpoint of this many applied steps is written under a temporary name.
    Staged(Step),
    /// It carries its final name.
    Published(Step),
    /// What the end of the run asked is done: as the writer of the results, or not.
    FinaleDone(bool),
    /// The trainer cannot go on.
    Failed(String, i32),
}

/// What the trainer is to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainerCommand {
    /// Build the process group of the fence's generation and bring everybody to one state.
    Form(Fence, Form),
    /// The same in the group that was prepared under this fence.
    Enter(Fence, Form),
    /// Run a step of the generation.
    Run(Generation, RankPlan),
    /// Write a checkpoint of this many applied steps under a temporary name, if that is what is applied.
    Stage(Step),
    /// Give the staged checkpoint its final name: its steps are durable.
    Publish(Step),
    /// Do what the end of the run asks.
    Finale(Finish),
    /// Drop the state if more than this many steps are applied to it: they are not the run's.
    Forget(Step),
}

/// Everything the law of a worker does to the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Says something to the coordinator, if a session is open.
    Send(Fence, Reply),
    /// Queues work for the trainer.
    Train(TrainerCommand),
    /// At once, beside what the trainer does: builds a process group to come, in place of any other that was prepared. The
    /// fence is the leader's epoch and that group's generation.
    Prepare(Fence, Seat),
    /// At once: whatever the trainer does for this generation is in vain; it must not block in its collectives.
    Abandon(Generation),
    /// Ends the process.
    Exit(String, i32),
}

/// What a worker says to the coordinator.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Who it is and what it holds; the first message of every session.
    Hello(Hello),
    /// It stands in the generation's group, holding this.
    GroupReady(Ready),
    /// The group of the fence's generation, which is to come, stands beside the current one.
    GroupPrepared,
    /// The generation's group broke.
    GroupFailed(String),
    /// It applied a step.
    Report(Report),
    /// A complete checkpoint is on disk.
    CheckpointSaved(Step),
    /// What the end of the run asked is done: as the writer of the results, or not.
    FinaleDone(bool),
    /// It lives, and this is what its trainer is at.
    Heartbeat(Progress),
    /// It was asked to leave, and stays until the steps given out are done.
    Draining,
    /// It leaves for this reason, with this exit code.
    Leaving(String, i32),
}
