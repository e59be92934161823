//! A worker's side of the protocol (LAW): DESIGN.md section 4.
//!
//! A worker never reconfigures itself. With plans in hand it trains on through an absence of the coordinator; when the
//! generation ends it keeps its state and waits to be told what comes next.

use std::collections::{BTreeMap, BTreeSet};

use esta_engine::{
    plan::{RankPlan, Reporter},
    run::{Form, HeldShare, Hello, Message, Ready, Report, Seat, Standing, exit},
};
use esta_proto::{Digest, Fence, Generation, Rank, SlotId, Step};

use crate::{
    Nonsense,
    message::{Command, Event, Identity, Reply, TrainerCommand, TrainerEvent},
};

/// The worker's place in the current generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    generation: Generation,
    rank: Rank,
    /// The next step to hand to the trainer; none before the group stands.
    next: Option<Step>,
}

/// A step in the trainer's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    /// Whether its score vector is to be sent.
    reporter: Reporter,
    plan: Digest,
    slots: Vec<SlotId>,
}

/// The law of one worker process.
#[derive(Debug, Clone)]
pub struct Session {
    identity: Identity,
    save_steps: u64,
    /// The newest fence the coordinator has shown.
    fence: Fence,
    place: Option<Place>,
    /// The group to come that was prepared last: the epoch of who asked for it and its generation, and whether it stands.
    coming: Option<(Fence, bool)>,
    /// Of the last generation that it was told to form.
    formed: Fence,
    /// Steps applied to the adapters in memory; none before the first generation stood.
    applied: Option<Step>,
    /// Steps handed to the trainer and not applied.
    running: BTreeMap<Step, Running>,
    /// Reports above the durable mark, outcomes included (MB-2).
    retained: BTreeMap<Step, Report>,
    durable: Step,
    /// Checkpoints written under a temporary name.
    staged: BTreeSet<Step>,
    /// Complete checkpoints.
    checkpoints: BTreeSet<Step>,
    /// Steps from this one on are not the run's, whatever the trainer says, until the next group stands.
    distrusted: Option<Step>,
    /// A session is open.
    connected: bool,
    /// Somebody asked the process to leave.
    draining: bool,
}

impl Session {
    /// The law of a process that finds these complete checkpoints on disk and saves one every `save_steps`.
    #[must_use]
    pub fn new(identity: Identity, save_steps: u64, checkpoints: impl IntoIterator<Item = Step>) -> Self {
        Self {
            identity,
            save_steps,
            fence: Fence::default(),
            place: None,
            coming: None,
            formed: Fence::default(),
            applied: None,
            running: BTreeMap::new(),
            retained: BTreeMap::new(),
            durable: Step(0),
            staged: BTreeSet::new(),
            checkpoints: checkpoints.into_iter().collect(),
            distrusted: None,
            connected: false,
            draining: false,
        }
    }

    /// Steps applied to the adapters in memory.
    #[must_use]
    pub fn applied(&self) -> Option<Step> {
        self.applied
    }

    /// The newest fence the coordinator has shown.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Takes in what happened and answers what to do, in order.
    pub fn handle(&mut self, event: Event) -> Vec<Command> {
        match event {
            Event::Connected => self.connected(),
            Event::Disconnected => {
                self.connected = false;
                if self.draining { self.leave() } else { Vec::new() }
            }
            Event::Received(fence, message) => self.received(fence, message),
            Event::Misheard(nonsense) => self.misheard(&nonsense),
            Event::Trainer(event) => self.trainer(event),
            Event::Beat(progress) => vec![self.say(Reply::Heartbeat(progress))],
            Event::Drain => self.drain(),
        }
    }

    fn connected(&mut self) -> Vec<Command> {
        self.connected = true;
        vec![self.say(Reply::Hello(self.hello()))]
    }

    /// The first request is a wish, and the coordinator says when to go; a second one, or one that no coordinator would
    /// hear, is an order.
    fn drain(&mut self) -> Vec<Command> {
        if self.draining || !self.connected {
            return self.leave();
        }
        self.draining = true;
        vec![self.say(Reply::Draining)]
    }

    fn leave(&self) -> Vec<Command> {
        let reason = "terminated by a signal".to_owned();
        vec![self.say(Reply::Leaving(reason.clone(), exit::DONE)), Command::Exit(reason, exit::DONE)]
    }

    fn say(&self, reply: Reply) -> Command {
        Command::Send(self.fence, reply)
    }

    /// Says something of the group of this generation, which need not be the newest that was heard of.
    fn say_of(&self, generation: Generation, reply: Reply) -> Command {
        Command::Send(Fence { generation, ..self.fence }, reply)
    }

    fn hello(&self) -> Hello {
        Hello {
            name: self.identity.name.clone(),
            incarnation: self.identity.incarnation,
            applied: self.applied,
            retained: self.retained.values().cloned().collect(),
            checkpoints: self.checkpoints.iter().copied().collect(),
            layout_digest: self.identity.layout_digest,
            samples: self.identity.samples,
            standing: self.standing(),
        }
    }

    /// Where it stands: in a group that is whole as far as anybody here knows.
    fn standing(&self) -> Option<Standing> {
        let place = self.place?;
        let held = |(step, running): (&Step, &Running)| HeldShare {
            step: *step,
            plan: running.plan,
            slots: running.slots.clone(),
        };
        let held = self.running.iter().map(held).collect();
        Some(Standing { generation: place.generation, rank: place.rank, next: place.next?, held })
    }

    fn received(&mut self, fence: Fence, message: Message) -> Vec<Command> {
        if fence < self.fence {
            return Vec::new();
        }
        self.fence = fence;
        match message {
            Message::Form(form) => self.form(fence, form),
            Message::Prepare(seat) => self.prepare(fence, seat),
            Message::Plan(plan) => {
                let mut commands = self.durable(plan.durable);
                commands.extend(self.plan(fence.generation, plan));
                commands
            }
            Message::Durable(step) => self.durable(step),
            Message::Lost(_) => self.park(),
            Message::Discard(step) => self.discard(step),
            Message::Refused(_) => Vec::new(),
            Message::Finish(finish) => vec![Command::Train(TrainerCommand::Finale(finish))],
            Message::Stop(stop) => {
                let mut commands = self.park();
                commands.push(Command::Exit(in_one_line(&stop.reason), stop.exit_code));
                commands
            }
        }
    }

    /// A group to come is built beside the steps of this one.
    fn prepare(&mut self, fence: Fence, seat: Seat) -> Vec<Command> {
        let fence = Fence { generation: seat.generation, ..fence };
        self.coming = Some((fence, false));
        vec![Command::Prepare(fence, seat)]
    }

    fn prepared(&mut self, fence: Fence) -> Vec<Command> {
        let Some((_, stands)) = self.coming.as_mut().filter(|(coming, _)| *coming == fence) else { return Vec::new() };
        *stands = true;
        vec![Command::Send(fence, Reply::GroupPrepared)]
    }

    fn not_prepared(&mut self, fence: Fence, reason: String) -> Vec<Command> {
        let failed = self.coming.take_if(|(coming, _)| *coming == fence);
        failed.map(|_| Command::Send(fence, Reply::GroupFailed(reason))).into_iter().collect()
    }

    /// Whoever says such things is of another release or was damaged on its way: what it says next is no better, and a plan
    /// that is left out would leave the peers waiting.
    fn misheard(&mut self, nonsense: &Nonsense) -> Vec<Command> {
        let reason = format!("the coordinator says what makes no sense in this job: {nonsense}");
        let mut commands = self.park();
        commands.push(self.say(Reply::Leaving(reason.clone(), exit::MISFIT)));
        commands.push(Command::Exit(reason, exit::MISFIT));
        commands
    }

    fn form(&mut self, fence: Fence, form: Form) -> Vec<Command> {
        // What the trainer was told to abandon it does not form again. A leader that numbers so has forgotten a generation (MB-1),
        // and goes on to the next number when it hears of it.
        if fence.generation <= self.formed.generation {
            let again = fence.epoch == self.formed.epoch;
            let reason = format!("generation {} was formed here before, under {}", fence.generation, self.formed);
            return if again { Vec::new() } else { vec![self.say(Reply::GroupFailed(reason))] };
        }
        self.formed = fence;
        let mut commands = self.park();
        // Whoever was to report a step may be gone: everybody hands over what is not durable (MB-2).
        commands.extend(self.retained.values().map(|report| self.say(Reply::Report(report.clone()))));
        self.place = Some(Place { generation: fence.generation, rank: form.rank, next: None });
        let prepared = self.coming.take() == Some((fence, true));
        let command = if prepared { TrainerCommand::Enter } else { TrainerCommand::Form };
        commands.push(Command::Train(command(fence, form)));
        commands
    }

    /// Gives up what was applied beyond `step`: a rank whose adapters differed took part in it.
    fn discard(&mut self, step: Step) -> Vec<Command> {
        let mut commands = self.park();
        self.retained.split_off(&step);
        self.staged.retain(|staged| *staged <= step);
        self.applied = self.applied.filter(|applied| *applied <= step);
        self.distrusted = Some(step);
        commands.push(Command::Train(TrainerCommand::Forget(step)));
        commands
    }

    /// Leaves the current generation, keeping the state.
    fn park(&mut self) -> Vec<Command> {
        self.running.clear();
        self.place.take().map(|place| Command::Abandon(place.generation)).into_iter().collect()
    }

    fn plan(&mut self, generation: Generation, plan: RankPlan) -> Vec<Command> {
        let place = self.place.as_mut().filter(|place| place.generation == generation);
        let Some(place) = place.filter(|place| place.next == Some(plan.step)) else {
            return self.cannot_run(generation, plan.step);
        };
        let after = plan.step.next();
        place.next = Some(after);
        let saves = place.rank == Rank(0) && after.0.is_multiple_of(self.save_steps);
        let slots = plan.slots.iter().map(|(slot, _)| *slot).collect();
        self.running.insert(plan.step, Running { reporter: plan.reporter, plan: plan.digest, slots });
        let mut commands = vec![Command::Train(TrainerCommand::Run(generation, plan))];
        if saves {
            commands.push(Command::Train(TrainerCommand::Stage(after)));
        }
        commands
    }

    /// A plan that cannot be carried out: its peers would wait in vain, so the coordinator is told.
    fn cannot_run(&mut self, generation: Generation, step: Step) -> Vec<Command> {
        let due = self.place.filter(|place| place.generation == generation).map(|place| place.next);
        let reason = match due {
            Some(Some(due)) => format!("the plan of step {step} arrived while step {due} was due"),
            Some(None) => format!("the plan of step {step} arrived before the group stood"),
            None => format!("the plan of step {step} arrived for a group that does not stand here"),
        };
        let mut commands = self.park();
        commands.push(self.say_of(generation, Reply::GroupFailed(reason)));
        commands
    }

    fn durable(&mut self, step: Step) -> Vec<Command> {
        self.durable = self.durable.max(step);
        self.retained = self.retained.split_off(&self.durable);
        self.publish_due()
    }

    /// A checkpoint gets its final name once the record has all its steps: it never runs ahead of the record.
    fn publish_due(&mut self) -> Vec<Command> {
        let later = self.staged.split_off(&self.durable.next());
        let due = std::mem::replace(&mut self.staged, later);
        due.into_iter().map(|step| Command::Train(TrainerCommand::Publish(step))).collect()
    }

    fn trainer(&mut self, event: TrainerEvent) -> Vec<Command> {
        match event {
            TrainerEvent::Ready(generation, ready) => self.ready(generation, ready),
            TrainerEvent::Prepared(fence) => self.prepared(fence),
            TrainerEvent::NotPrepared(fence, reason) => self.not_prepared(fence, reason),
            TrainerEvent::Broke(generation, reason) => self.broke(generation, reason),
            TrainerEvent::Stepped(report) => self.stepped(report),
            // What was written of adapters that are given up is as little the run's as they are.
            TrainerEvent::Staged(step) if self.distrusted.is_some_and(|from| step > from) => Vec::new(),
            TrainerEvent::Staged(step) => {
                self.staged.insert(step);
                self.publish_due()
            }
            TrainerEvent::Published(step) => {
                self.checkpoints.insert(step);
                vec![self.say(Reply::CheckpointSaved(step))]
            }
            TrainerEvent::FinaleDone(writer) => vec![self.say(Reply::FinaleDone(writer))],
            TrainerEvent::Failed(reason, code) => {
                vec![self.say(Reply::Leaving(reason.clone(), code)), Command::Exit(reason, code)]
            }
        }
    }

    fn ready(&mut self, generation: Generation, ready: Ready) -> Vec<Command> {
        let applied = ready.applied;
        // The state is real whoever asked for it: another process may need it as a source.
        self.applied = Some(applied);
        self.distrusted = None;
        let Some(place) = self.place.as_mut().filter(|place| place.generation == generation) else {
            return Vec::new();
        };
        place.next = Some(applied);
        vec![self.say_of(generation, Reply::GroupReady(ready))]
    }

    fn broke(&mut self, generation: Generation, reason: String) -> Vec<Command> {
        if self.place.is_none_or(|place| place.generation != generation) {
            return Vec::new();
        }
        let mut commands = self.park();
        commands.push(self.say_of(generation, Reply::GroupFailed(reason)));
        commands
    }

    /// An applied step is a fact, whatever became of its generation since.
    fn stepped(&mut self, report: Report) -> Vec<Command> {
        if self.distrusted.is_some_and(|from| report.step >= from) {
            return Vec::new();
        }
        self.applied = Some(report.step.next());
        let reporter = self.running.remove(&report.step).map_or(Reporter::Yes, |running| running.reporter);
        let sent = match reporter {
            Reporter::Yes => report.clone(),
            Reporter::No => Report { outcomes: Vec::new(), ..report.clone() },
        };
        if report.step >= self.durable {
            self.retained.insert(report.step, report);
        }
        vec![self.say(Reply::Report(sent))]
    }
}

/// What somebody else says is shown to people as one line, whatever is in it.
fn in_one_line(said: &str) -> String {
    match said.split(|c: char| c.is_control()).collect::<Vec<_>>().join(" ") {
        line if line.trim().is_empty() => "the coordinator ended this worker and gave no reason".to_owned(),
        line => line,
    }
}

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
