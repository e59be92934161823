//! One simulated rank (HANDS): a worker's law and a trainer that computes nothing.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::bail;
use esta_engine::{
    law::Law,
    plan::{RankPlan, Reporter},
    run::{Activity, Message, Origin, Progress, Ready, Report, StepTimings},
    table::Outcome,
};
use esta_proto::{
    Digest, Generation, SessionId, SlotId, Step, StitchId,
    v1::{CoordinatorMessage, WorkerMessage},
};
use esta_worker_engine::{
    Command, Event, Identity, Session, TrainerCommand, TrainerEvent,
    wire::{self, Inbound},
};
use tokio::sync::mpsc;

use crate::job::SAMPLES;

/// Seconds of a block beside its MACs, and of a MAC: of the order of a small GPU's.
const PER_BLOCK: f64 = 0.4e-3;
const PER_MAC: f64 = 1e-12;

/// What a trainer would know: what a slot of each stitch takes, and what it reports.
#[derive(Debug)]
pub struct Trade {
    /// By stitch id.
    takes: Vec<Duration>,
    layout_digest: Digest,
    save_steps: u64,
    lookahead: u64,
    /// Whether every rank has the scores of a step, as every worker has, or whoever reports them alone.
    shared: bool,
}

impl Trade {
    /// The trade of a job. Whether every rank keeps the scores of a step until they are durable, as every worker does: of
    /// thousands of slots they would not fit into one process.
    #[must_use]
    pub fn of(law: &Law, shared: bool) -> Self {
        let mut takes = vec![Duration::ZERO; law.catalog.id_bound()];
        for stitch in law.catalog.stitches() {
            let blocks: u32 = stitch.segments.iter().map(|segment| segment.last - segment.first + 1).sum();
            takes[stitch.id.index()] =
                Duration::from_secs_f64(PER_BLOCK * f64::from(blocks) + PER_MAC * stitch.macs as f64);
        }
        let (save_steps, lookahead) = (law.spec.train.save_steps, law.spec.sampling.lookahead.into());
        Self { takes, layout_digest: law.layout_digest, save_steps, lookahead, shared }
    }

    /// What the forward and backward pass of a stitch takes.
    #[must_use]
    pub fn takes(&self, stitch: StitchId) -> Duration {
        self.takes[stitch.index()]
    }

    /// What a slot reports: a function of step and slot, so that every run makes the same table.
    #[must_use]
    pub fn outcome(step: Step, slot: u64) -> Outcome {
        let mut state = step.0 << 24 | slot;
        let mut number = || {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            0.1 + ((mixed ^ (mixed >> 27)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        Outcome { score: number(), loss: number(), grad_norm: number(), valid: true }
    }
}

/// A rank's session and what its trainer was told.
#[derive(Debug)]
pub struct Rank {
    name: String,
    law: Session,
    session: SessionId,
    outbound: mpsc::UnboundedSender<WorkerMessage>,
    /// Its sessions that the coordinator has said something on, and whether the last one is among them.
    answered: (u32, bool),
    /// The last generation it was to stand in, and the ranks of that.
    group: (Generation, u32),
    /// What its trainer was told and has not done.
    work: VecDeque<TrainerCommand>,
    /// How many times as long as others it takes.
    slowness: f64,
    /// When it reported the steps whose plans have not come: the report of step t is what plan t + 1 + K waits for.
    reported: VecDeque<(Step, Instant)>,
}

/// What a message did to a rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Told {
    /// Nothing that is measured.
    Nothing,
    /// So many steps are durable.
    Durable(Step),
    /// It holds the plan of a step, and waited for it since it made this report.
    Plan(Step, Option<Instant>),
}

impl Rank {
    /// A rank that has joined and says its first word.
    #[must_use]
    pub fn enter(
        name: String,
        trade: &Trade,
        session: SessionId,
        slowness: f64,
        outbound: mpsc::UnboundedSender<WorkerMessage>,
    ) -> Self {
        let identity =
            Identity { name: name.clone(), incarnation: 1, layout_digest: trade.layout_digest, samples: SAMPLES };
        let law = Session::new(identity, trade.save_steps, []);
        let (work, reported, answered, group) = Default::default();
        let mut rank = Self { name, law, session, outbound, answered, group, work, slowness, reported };
        rank.handle(Event::Connected).unwrap_or_else(|_| unreachable!("a greeting ends nothing"));
        rank
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its session broke.
    ///
    /// # Errors
    /// When that ends the rank.
    pub fn lose(&mut self) -> anyhow::Result<()> {
        self.handle(Event::Disconnected)
    }

    /// It has joined again: says its first word on another session.
    ///
    /// # Errors
    /// When that ends the rank.
    pub fn come_back(
        &mut self,
        session: SessionId,
        outbound: mpsc::UnboundedSender<WorkerMessage>,
    ) -> anyhow::Result<()> {
        (self.session, self.outbound, self.answered.1) = (session, outbound, false);
        self.handle(Event::Connected)
    }

    /// How many of its sessions the coordinator has answered, when it answers another one.
    pub fn answer(&mut self) -> Option<u32> {
        let first = !std::mem::replace(&mut self.answered.1, true);
        self.answered.0 += u32::from(first);
        first.then_some(self.answered.0)
    }

    /// The last generation it was to stand in, and how many ranks that has.
    #[must_use]
    pub fn group(&self) -> (Generation, u32) {
        self.group
    }

    /// Takes in a message.
    ///
    /// # Errors
    /// When it makes no sense, or ends the rank with anything but success.
    pub fn hear(&mut self, message: CoordinatorMessage, trade: &Trade) -> anyhow::Result<Told> {
        let Inbound::Law(fence, message) = wire::from_coordinator(message)? else { return Ok(Told::Nothing) };
        let told = match &message {
            Message::Plan(plan) => Told::Plan(plan.step, None),
            Message::Durable(step) => Told::Durable(*step),
            _ => Told::Nothing,
        };
        self.handle(Event::Received(fence, message))?;
        let Told::Plan(step, _) = told else { return Ok(told) };
        let unlocked_by = step.0.checked_sub(1 + trade.lookahead);
        while self.reported.front().is_some_and(|(reported, _)| Some(reported.0) < unlocked_by) {
            self.reported.pop_front();
        }
        Ok(Told::Plan(step, self.reported.front().filter(|(step, _)| Some(step.0) == unlocked_by).map(|(_, at)| *at)))
    }

    /// The plan that its trainer is to carry out next.
    #[must_use]
    pub fn due(&self) -> Option<&RankPlan> {
        match self.work.front() {
            Some(TrainerCommand::Run(_, plan)) => Some(plan),
            _ => None,
        }
    }

    /// How many times as long as others it takes.
    #[must_use]
    pub fn slowness(&self) -> f64 {
        self.slowness
    }

    /// What its slots of a plan take.
    #[must_use]
    pub fn busy(&self, plan: &RankPlan, trade: &Trade) -> Duration {
        plan.slots.iter().map(|(_, stitch)| trade.takes(*stitch).mul_f64(self.slowness)).sum()
    }

    /// Finishes the step that is due, if one is, and reports it.
    ///
    /// # Errors
    /// When that ends the rank.
    pub fn finish(&mut self, trade: &Trade) -> anyhow::Result<()> {
        let Some(TrainerCommand::Run(_, plan)) = self.work.front() else { return Ok(()) };
        let slots = plan.slots.iter().map(|(slot, stitch)| (*slot, trade.takes(*stitch).mul_f64(self.slowness)));
        let slots: Vec<(SlotId, Duration)> = slots.collect();
        let outcomes = match plan.reporter {
            Reporter::No if !trade.shared => Vec::new(),
            _ => (0..plan.slots_in_step).map(|slot| Trade::outcome(plan.step, slot.into())).collect(),
        };
        let timings = StepTimings { slots, ..StepTimings::default() };
        let (step, digest) = (plan.step, plan.digest);
        let report = Report { step, plan: digest, reduced: reduced(digest), outcomes, timings };
        self.work.pop_front();
        self.reported.push_back((step, Instant::now()));
        self.handle(Event::Trainer(TrainerEvent::Stepped(report)))
    }

    /// Says that it lives.
    ///
    /// # Errors
    /// When that ends the rank.
    pub fn beat(&mut self) -> anyhow::Result<()> {
        self.handle(Event::Beat(Progress { activity: Activity::Idle, since: Duration::ZERO }))
    }

    fn handle(&mut self, event: Event) -> anyhow::Result<()> {
        for command in self.law.handle(event) {
            match command {
                // A session that the coordinator has ended takes nothing more; its end is heard of elsewhere.
                Command::Send(fence, reply) => {
                    self.outbound.send(wire::to_coordinator(fence, &reply, self.session)).ok();
                }
                Command::Train(command) => self.work.push_back(command),
                Command::Prepare(fence, _) => self.handle(Event::Trainer(TrainerEvent::Prepared(fence)))?,
                Command::Abandon(generation) => self.work.retain(|work| match work {
                    TrainerCommand::Run(of, _) => *of != generation,
                    TrainerCommand::Form(fence, _) | TrainerCommand::Enter(fence, _) => fence.generation != generation,
                    _ => true,
                }),
                Command::Exit(_, 0) => {}
                Command::Exit(reason, code) => bail!("a rank was ended with code {code}: {reason}"),
            }
        }
        self.do_what_takes_no_time()
    }

    /// Everything but steps.
    fn do_what_takes_no_time(&mut self) -> anyhow::Result<()> {
        let Some(command) = self.work.pop_front() else { return Ok(()) };
        let done = match command {
            TrainerCommand::Run(..) => {
                self.work.push_front(command);
                return Ok(());
            }
            TrainerCommand::Form(fence, form) | TrainerCommand::Enter(fence, form) => {
                let applied = match form.origin {
                    Origin::Memory(step) | Origin::Checkpoint(step) => step,
                    Origin::Fresh => Step(0),
                };
                self.reported.clear();
                self.group = (fence.generation, form.world);
                TrainerEvent::Ready(fence.generation, Ready::at(applied))
            }
            TrainerCommand::Stage(step) => TrainerEvent::Staged(step),
            TrainerCommand::Publish(step) => TrainerEvent::Published(step),
            TrainerCommand::Finale(finish) => TrainerEvent::FinaleDone(finish.writer),
            TrainerCommand::Forget(_) => return self.do_what_takes_no_time(),
        };
        self.handle(Event::Trainer(done))
    }
}

/// What every rank of a plan would have summed.
fn reduced(plan: Digest) -> Digest {
    Digest(*blake3::hash(&plan.0).as_bytes())
}
