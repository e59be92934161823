//! What arrives from outside, spoilt as a seed decides, at either end of a session: `make fuzz` runs more seeds.

mod said;
mod told;

use std::{collections::VecDeque, sync::Arc};

use esta_engine::{
    law::Law,
    plan::RankPlan,
    run::{Event as RunEvent, Form, Origin, Ready, Report, StepTimings},
    table::Outcome,
    wire::{FromWorker, from_worker},
};
use esta_proto::{
    Digest, Fence, Generation, LeaderEpoch, SessionId, Step,
    v1::{CoordinatorMessage, WorkerMessage},
};
use esta_worker_engine::{
    Command, Event, Identity, Reader, Reply, Session, TrainerCommand, TrainerEvent,
    wire::{Inbound, to_coordinator},
};
use prost::Message as _;

const SAMPLES: u64 = 101;
const EPOCH: LeaderEpoch = LeaderEpoch(3);

/// A run of twelve steps.
fn law(slots: u32) -> Arc<Law> {
    let mut spec = esta_sim::law(1).spec.clone();
    (spec.train.max_steps, spec.train.save_steps) = (Some(12), 5);
    spec.sampling.slots = slots;
    Arc::new(Law::new(spec).expect("the job is valid"))
}

/// A worker whose trainer does everything in no time, and believes what it is told as the real one does.
struct Worker {
    law: Session,
    reader: Reader,
    abandoned: u64,
    standing: Option<Generation>,
    applied: Option<Step>,
    /// What it ran, in order.
    ran: Vec<(Generation, RankPlan)>,
    said: Vec<(Fence, Reply)>,
    published: Vec<Step>,
    ended: Option<(String, i32)>,
}

impl Worker {
    fn new(index: u32, law: &Law) -> Self {
        Self::starting(index, 1, law, Vec::new())
    }

    /// A process that finds these checkpoints.
    fn starting(index: u32, incarnation: u64, law: &Law, checkpoints: Vec<Step>) -> Self {
        let (name, layout_digest) = (format!("w{index}"), law.layout_digest);
        let identity = Identity { name, incarnation, layout_digest, samples: SAMPLES };
        Self {
            law: Session::new(identity, law.spec.train.save_steps, checkpoints),
            reader: Reader::new(law, SAMPLES),
            abandoned: 0,
            standing: None,
            applied: None,
            ran: Vec::new(),
            said: Vec::new(),
            published: Vec::new(),
            ended: None,
        }
    }

    /// Takes in bytes as its session does; a stream that cannot be decoded breaks.
    fn hear(&mut self, bytes: &[u8]) {
        let event = match CoordinatorMessage::decode(bytes) {
            Err(_) => Event::Disconnected,
            Ok(message) => match self.reader.read(EPOCH, message) {
                Ok(Inbound::Law(fence, message)) => Event::Received(fence, message),
                Ok(Inbound::Store(_)) => return,
                Err(nonsense) => Event::Misheard(nonsense),
            },
        };
        self.handle(event);
    }

    fn handle_if_alive(&mut self, event: Event) {
        if self.ended.is_none() {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        let mut commands: VecDeque<Command> = self.law.handle(event).into();
        while let Some(command) = commands.pop_front() {
            assert!(self.ended.is_none(), "after its end: {command:?}");
            match command {
                Command::Send(fence, reply) => self.said.push((fence, reply)),
                Command::Abandon(generation) => self.abandoned = self.abandoned.max(generation.0.saturating_add(1)),
                Command::Exit(reason, code) => self.ended = Some((reason, code)),
                Command::Prepare(fence, _) => {
                    commands.extend(self.law.handle(Event::Trainer(TrainerEvent::Prepared(fence))));
                }
                Command::Train(command) => {
                    let event = self.train(command);
                    commands.extend(event.into_iter().flat_map(|event| self.law.handle(Event::Trainer(event))));
                }
            }
        }
    }

    fn train(&mut self, command: TrainerCommand) -> Option<TrainerEvent> {
        match command {
            TrainerCommand::Form(fence, form) | TrainerCommand::Enter(fence, form) => self.form(fence.generation, form),
            TrainerCommand::Run(generation, plan) => self.run(generation, plan),
            TrainerCommand::Stage(step) => (self.applied == Some(step)).then_some(TrainerEvent::Staged(step)),
            TrainerCommand::Publish(step) => {
                self.published.push(step);
                Some(TrainerEvent::Published(step))
            }
            TrainerCommand::Finale(finish) => Some(TrainerEvent::FinaleDone(finish.writer)),
            TrainerCommand::Forget(step) => {
                self.applied.take_if(|applied| *applied > step);
                None
            }
        }
    }

    fn form(&mut self, generation: Generation, form: Form) -> Option<TrainerEvent> {
        self.standing = None;
        if generation.0 < self.abandoned {
            return None;
        }
        let origin = match form.origin {
            Origin::Fresh => Some(Step(0)),
            Origin::Checkpoint(step) => Some(step),
            Origin::Memory(_) => None,
        };
        let Some(applied) = self.applied.max(origin) else {
            return Some(TrainerEvent::Broke(generation, "nobody holds a state".to_owned()));
        };
        (self.standing, self.applied) = (Some(generation), Some(applied));
        Some(TrainerEvent::Ready(generation, Ready::at(applied)))
    }

    fn run(&mut self, generation: Generation, plan: RankPlan) -> Option<TrainerEvent> {
        let due = self.standing == Some(generation) && self.applied == Some(plan.step);
        if !due || generation.0 < self.abandoned {
            return None;
        }
        self.applied = Some(plan.step.next());
        let (outcomes, reduced) = done(plan.digest, plan.slots_in_step);
        let report = Report { step: plan.step, plan: plan.digest, reduced, outcomes, timings: StepTimings::default() };
        self.ran.push((generation, plan));
        Some(TrainerEvent::Stepped(report))
    }
}

/// What the slots of a plan come to, and what is reduced of them.
fn done(plan: Digest, slots: u32) -> (Vec<Outcome>, Digest) {
    let mix = |slot: u32| f64::from(plan.0[slot as usize % 32]) + 1.0;
    let outcome = |slot| Outcome { score: mix(slot), loss: 1.0 / mix(slot), grad_norm: 1.0, valid: true };
    ((0..slots).map(outcome).collect(), Digest(*blake3::hash(&plan.0).as_bytes()))
}

/// What a coordinator hears of a worker's message; none where its stream ends with it.
fn heard(session: SessionId, message: WorkerMessage) -> Option<RunEvent> {
    if let Some(esta_proto::v1::worker_message::Body::Hello(hello)) = &message.body {
        return hello.try_into().ok().map(|hello| RunEvent::Joined(session, hello));
    }
    match from_worker(session, message).ok()? {
        FromWorker::Event(event) => Some(event),
        FromWorker::Store(..) => Some(RunEvent::Tick),
        FromWorker::Leaving(_) => None,
    }
}

fn message_of(session: SessionId, fence: Fence, reply: &Reply) -> WorkerMessage {
    to_coordinator(fence, reply, session)
}
