//! Workers as the protocol has them, by hand: what one holds, and what it makes of what it is told.

use std::collections::{BTreeMap, VecDeque};

use esta_proto::{Digest, Fence, Generation, SessionId, SlotId, Step, StitchId};

use super::super::{
    Activity, Event, Form, HeldShare, Hello, Message, Progress, Ready, Report, Standing, StepTimings,
    world::{outcome, reduced},
};
use crate::{
    plan::{RankPlan, Reporter},
    table::Outcome,
};

/// Something that a worker says, before it is known on which session.
pub(super) type Said = Box<dyn Fn(SessionId) -> Event>;

/// A worker.
pub(super) struct Worker {
    pub name: String,
    pub incarnation: u64,
    pub session: Option<SessionId>,
    fence: Fence,
    /// Steps applied to what it holds.
    pub applied: Option<Step>,
    pub retained: BTreeMap<Step, Report>,
    durable: Step,
    pub place: Option<Place>,
    /// Plans that it has not carried out.
    pub plans: VecDeque<RankPlan>,
    pub coming: Option<Fence>,
    pub finishing: Option<bool>,
    /// Slots of the step after its state whose sum it has.
    kept: Option<HeldShare>,
    pub inbox: VecDeque<(Fence, Message)>,
    pub outbox: VecDeque<Said>,
    /// What it said, for what is said again.
    pub reports: Vec<Report>,
    /// What it holds is not what the others hold.
    pub differs: bool,
    /// It was told to leave.
    pub stopped: bool,
}

/// Where it stands, or is to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub fence: Fence,
    pub form: Form,
    /// The next step that it has no plan of; none while the group is formed.
    pub next: Option<Step>,
}

/// The digest of whoever has applied a step, to what all hold or to something else.
fn chain(step: Step, differs: bool) -> Digest {
    if differs { Digest([0x80 | step.0 as u8; 32]) } else { reduced(step) }
}

fn held(plan: &RankPlan) -> HeldShare {
    let slots = plan.slots.iter().map(|(slot, _)| *slot).collect();
    HeldShare { step: plan.step, plan: plan.digest, slots }
}

impl Worker {
    pub fn new(index: usize, incarnation: u64) -> Self {
        Self {
            name: format!("w{index}"),
            incarnation,
            session: None,
            fence: Fence::default(),
            applied: None,
            retained: BTreeMap::new(),
            durable: Step(0),
            place: None,
            plans: VecDeque::new(),
            coming: None,
            finishing: None,
            kept: None,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            reports: Vec::new(),
            differs: false,
            stopped: false,
        }
    }

    /// What it says first where these checkpoints are complete.
    pub fn hello(&self, layout_digest: Digest, checkpoints: Vec<Step>) -> Hello {
        let standing = self.place.and_then(|place| {
            let (generation, rank) = (place.fence.generation, place.form.rank);
            Some(Standing { generation, rank, next: place.next?, held: self.plans.iter().map(held).collect() })
        });
        Hello {
            name: self.name.clone(),
            incarnation: self.incarnation,
            applied: self.applied,
            retained: self.retained.values().cloned().collect(),
            checkpoints,
            layout_digest,
            samples: super::party::SAMPLES,
            standing,
        }
    }

    fn say(&mut self, what: impl Fn(SessionId) -> Event + 'static) {
        if self.session.is_some() {
            self.outbox.push_back(Box::new(what));
        }
    }

    /// What it has run of the step in hand it need not run again.
    fn park(&mut self) {
        let in_hand = self.plans.front().filter(|plan| self.applied == Some(plan.step));
        self.kept = in_hand.map(held).or(self.kept.take());
        self.plans.clear();
        self.place = None;
    }

    /// Takes in the next thing that it was told; false when there is none.
    pub fn hear(&mut self) -> bool {
        let Some((fence, message)) = self.inbox.pop_front() else { return false };
        if fence < self.fence {
            return true;
        }
        self.fence = fence;
        match message {
            Message::Form(form) => {
                self.park();
                for report in self.retained.values().cloned().collect::<Vec<_>>() {
                    self.say(move |session| Event::Reported(session, report.clone()));
                }
                self.place = Some(Place { fence, form, next: None });
            }
            Message::Prepare(seat) => self.coming = Some(Fence { generation: seat.generation, ..fence }),
            Message::Plan(plan) => {
                self.is_durable(plan.durable);
                match self.place.as_mut().filter(|place| place.fence.generation == fence.generation) {
                    Some(place) if place.next == Some(plan.step) => {
                        place.next = Some(plan.step.next());
                        self.plans.push_back(plan);
                    }
                    _ => self.break_off(fence.generation),
                }
            }
            Message::Durable(step) => self.is_durable(step),
            Message::Lost(_) => self.park(),
            Message::Discard(step) => {
                self.park();
                self.retained.split_off(&step);
                self.applied = self.applied.filter(|applied| *applied <= step);
            }
            Message::Refused(_) => {}
            Message::Finish(finish) => self.finishing = Some(finish.writer),
            Message::Stop(_) => {
                self.park();
                self.stopped = true;
            }
        }
        true
    }

    fn is_durable(&mut self, step: Step) {
        self.durable = self.durable.max(step);
        self.retained = self.retained.split_off(&self.durable);
    }

    /// Its group of this generation is of no use to it.
    pub fn break_off(&mut self, generation: Generation) {
        self.park();
        let fence = Fence { generation, ..self.fence };
        self.say(move |session| Event::GroupFailed(session, fence, "it broke".to_owned()));
    }

    /// The group stands, and this is what everybody holds.
    pub fn stands(&mut self, applied: Step, differs: bool) {
        let Some(place) = self.place.as_mut() else { return };
        place.next = Some(applied);
        (self.applied, self.differs) = (Some(applied), differs);
        let chain = applied.0.checked_sub(1).map(|last| chain(Step(last), differs));
        let fence = Fence { generation: place.fence.generation, ..self.fence };
        let computed = self.kept.take().filter(|kept| kept.step == applied);
        let ready = Ready { applied, chain, computed };
        self.say(move |session| Event::GroupReady(session, fence, ready.clone()));
    }

    /// The next step is reduced to what its slots came to, in all ranks' plans.
    pub fn applies(&mut self, slots: &[(SlotId, StitchId)]) {
        let Some(plan) = self.plans.pop_front() else { return };
        let outcomes: Vec<Outcome> = slots.iter().map(|(slot, stitch)| outcome(plan.step, *slot, *stitch)).collect();
        let (reduced, timings) = (chain(plan.step, self.differs), StepTimings::default());
        let report = Report { step: plan.step, plan: plan.digest, reduced, outcomes, timings };
        self.applied = Some(plan.step.next());
        if plan.step >= self.durable {
            self.retained.insert(plan.step, report.clone());
        }
        self.reports.push(report.clone());
        let told = match plan.reporter {
            Reporter::Yes => report,
            Reporter::No => Report { outcomes: Vec::new(), ..report },
        };
        self.say(move |session| Event::Reported(session, told.clone()));
    }

    pub fn prepares(&mut self, well: bool) {
        let Some(fence) = self.coming.take() else { return };
        let failed = move |session| Event::GroupFailed(session, fence, "it cannot be built".to_owned());
        if well { self.say(move |session| Event::GroupPrepared(session, fence)) } else { self.say(failed) }
    }

    pub fn repeats(&mut self, nth: usize, of_another_plan: bool) {
        if self.reports.is_empty() {
            return;
        }
        let mut report = self.reports[nth % self.reports.len()].clone();
        if of_another_plan {
            report.plan = Digest([0xee; 32]);
        }
        self.say(move |session| Event::Reported(session, report.clone()));
    }

    /// Says that a checkpoint is complete, which it is where its steps are durable; whether it is.
    pub fn boasts(&mut self, step: Step) -> bool {
        let complete = step <= self.durable;
        let told = if complete { step } else { Step(step.0 + 1000) };
        self.say(move |session| Event::CheckpointSaved(session, told));
        complete
    }

    pub fn drains(&mut self) {
        self.say(Event::Draining);
    }

    pub fn beats(&mut self) {
        let progress = Progress { activity: Activity::Idle, since: std::time::Duration::ZERO };
        self.say(move |session| Event::Heard(session, progress));
    }

    pub fn finishes(&mut self) {
        if let Some(writer) = self.finishing.take() {
            self.say(move |session| Event::FinaleDone(session, writer));
        }
    }
}
