//! A leader, its record and its workers, and everything that is on its way between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use esta_proto::{Fence, Generation, LeaderEpoch, SessionId, SlotId, Step, StitchId};

use super::{
    super::{
        Command, Event, Ledger, Notice, Origin, Record, Report, Run, StepRecord, StepTimings,
        ledger::Teller,
        world::{law_with, outcome, patience, reduced},
    },
    Deed,
    invariants::Checks,
    records::Records,
    workers::Worker,
};
use crate::law::Law;

/// Workers that there can be.
pub(super) const WORKERS: usize = 4;
/// Samples of the training set.
pub(super) const SAMPLES: u64 = 100;
const STEPS: u64 = 12;
/// Rounds within which a run of so few steps is over when nothing goes wrong any more.
const ROUNDS: usize = 600;

static LAW: LazyLock<Arc<Law>> =
    LazyLock::new(|| law_with(|spec| (spec.train.max_steps, spec.train.save_steps) = (Some(STEPS), 4)));

/// Samples of a step.
pub(super) fn batch() -> u32 {
    LAW.spec.train.batch_size
}

/// The records of a run that nothing disturbs.
static CALM: LazyLock<Vec<StepRecord>> = LazyLock::new(|| {
    let mut ledger = Ledger::new(LAW.clone(), STEPS);
    let mut records = Vec::new();
    for step in (0..STEPS).map(Step) {
        let plan = ledger.plan(step).expect("it is drawn ahead");
        let draws = (0..).map(SlotId).zip(&plan.draws);
        let outcomes = draws.map(|(slot, draw)| outcome(step, slot, draw.stitch)).collect();
        let timings = StepTimings::default();
        let report = Report { step, plan: plan.digest, reduced: reduced(step), outcomes, timings };
        ledger.accept(&report, Teller::Rank);
        records.extend(ledger.commit_ready(step.next(), |_| None));
    }
    records
});

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With the record of one that nothing disturbs.
    Undisturbed,
    /// With another one, or with a reason, because a rank differed.
    Otherwise,
}

pub(super) struct Party {
    run: Run,
    fence: Fence,
    now: Duration,
    workers: Vec<Worker>,
    /// Whose session it is, while the leader hears it.
    sessions: BTreeMap<SessionId, usize>,
    given_out: u64,
    /// Complete checkpoints, which every worker reads.
    disk: BTreeSet<Step>,
    records: Records,
    checks: Checks,
    complete: bool,
    failed: Option<String>,
    somebody_differed: bool,
}

impl Party {
    pub fn new() -> Self {
        let records = Records::default();
        let (epoch, patience) = (LeaderEpoch(1), patience(2));
        let run = Run::new(LAW.clone(), epoch, patience, records.durable.clone()).expect("nothing is on record");
        Self {
            fence: run.fence(),
            run,
            now: Duration::ZERO,
            workers: (0..WORKERS).map(|index| Worker::new(index, 1)).collect(),
            sessions: BTreeMap::new(),
            given_out: 0,
            disk: BTreeSet::new(),
            checks: Checks::of(&LAW, STEPS, &records),
            records,
            complete: false,
            failed: None,
            somebody_differed: false,
        }
    }

    pub fn befall(&mut self, deed: Deed) -> Result<(), String> {
        if self.complete {
            return Ok(());
        }
        match deed {
            Deed::Join(who, anew) => self.join(who, anew)?,
            Deed::Leave(who, heard) => self.leave(who, heard)?,
            Deed::Die(who) => {
                self.leave(who, false)?;
                self.begins_anew(who);
            }
            Deed::Hear(who, many) => {
                for _ in 0..many {
                    self.workers[who].hear();
                }
            }
            Deed::Say(who, many) => return self.say(who, many),
            Deed::Stand => self.stand(),
            Deed::Break(who) => {
                if let Some(place) = self.workers[who].place {
                    self.workers[who].break_off(place.fence.generation);
                }
            }
            Deed::Reduce(alone) => return self.reduce(alone),
            Deed::Prepare(who, well) => self.workers[who].prepares(well),
            Deed::Repeat(who, other) => self.workers[who].repeats(self.given_out as usize, other),
            Deed::Lie(who) => (self.workers[who].differs, self.somebody_differed) = (true, true),
            Deed::Boast(who, step) => {
                if self.workers[who].boasts(Step(step)) {
                    self.disk.insert(Step(step));
                }
            }
            Deed::Drain(who) => self.workers[who].drains(),
            Deed::Beat(who) => self.workers[who].beats(),
            Deed::Finish(who) => self.workers[who].finishes(),
            Deed::Write(many) => return self.write(many),
            Deed::Fall(many) => return self.fall(many),
            Deed::Wait(tenths) => {
                self.now += Duration::from_millis(100 * tenths);
                return self.happen(Event::Tick);
            }
        }
        Ok(())
    }

    /// Everything on its way arrives, and everything that follows from it.
    pub fn pass_on(&mut self) -> Result<(), String> {
        for who in 0..WORKERS {
            while self.workers[who].hear() {}
            self.workers[who].prepares(true);
        }
        self.stand();
        self.reduce(None)?;
        (0..WORKERS).try_for_each(|who| self.say(who, usize::MAX))?;
        self.write(usize::MAX)
    }

    fn begins_anew(&mut self, who: usize) {
        self.workers[who] = Worker::new(who, self.workers[who].incarnation + 1);
    }

    /// A process that was told to leave does; another one comes in its place.
    fn join(&mut self, who: usize, anew: bool) -> Result<(), String> {
        if anew || self.workers[who].stopped {
            self.begins_anew(who);
        }
        self.given_out += 1;
        let session = SessionId(self.given_out);
        let hello = self.workers[who].hello(LAW.layout_digest, self.disk.iter().copied().collect());
        let worker = &mut self.workers[who];
        (worker.session, worker.finishing) = (Some(session), None);
        worker.inbox.clear();
        worker.outbox.clear();
        self.sessions.insert(session, who);
        self.happen(Event::Joined(session, hello))
    }

    fn leave(&mut self, who: usize, heard: bool) -> Result<(), String> {
        if heard {
            self.say(who, usize::MAX)?;
        }
        self.workers[who].outbox.clear();
        let Some(session) = self.workers[who].session.take() else { return Ok(()) };
        if self.sessions.remove(&session).is_some() { self.happen(Event::Left(session)) } else { Ok(()) }
    }

    fn say(&mut self, who: usize, many: usize) -> Result<(), String> {
        for _ in 0..many {
            let Some(session) = self.workers[who].session.filter(|session| self.sessions.contains_key(session)) else {
                return Ok(());
            };
            let Some(said) = self.workers[who].outbox.pop_front() else { return Ok(()) };
            self.happen(said(session))?;
        }
        Ok(())
    }

    /// The workers of every group that is whole, by its generation: of those that are being formed, or of those that stand.
    fn groups(&self, stands: bool) -> Vec<(Generation, Vec<usize>)> {
        let mut groups: BTreeMap<Generation, Vec<usize>> = BTreeMap::new();
        for (who, worker) in self.workers.iter().enumerate() {
            if let Some(place) = worker.place.filter(|place| place.next.is_some() == stands) {
                groups.entry(place.fence.generation).or_default().push(who);
            }
        }
        let world = |who: &usize| self.workers[*who].place.map(|place| place.form.world as usize);
        groups.into_iter().filter(|(_, members)| members.iter().all(|who| world(who) == Some(members.len()))).collect()
    }

    fn stand(&mut self) {
        for (_, members) in self.groups(false) {
            let origin = self.workers[members[0]].place.map(|place| place.form.origin);
            let made = match origin {
                Some(Origin::Checkpoint(step)) => Some(step),
                Some(Origin::Fresh) => Some(Step(0)),
                _ => None,
            };
            let least = made.filter(|step| *step > Step(0));
            let held = members.iter().map(|who| &self.workers[*who]).filter(|worker| worker.applied >= least);
            let held = held.filter_map(|worker| Some((worker.applied?, worker.differs)));
            let newest = held.max_by_key(|(applied, _)| *applied).or(made.map(|step| (step, false)));
            let Some((applied, differs)) = newest else { continue };
            members.iter().for_each(|who| self.workers[*who].stands(applied, differs));
        }
    }

    /// ST-1: what the ranks of a group run of a step is each of its slots once.
    fn reduce(&mut self, alone: Option<usize>) -> Result<(), String> {
        for (generation, members) in self.groups(true) {
            let plans = members.iter().map(|who| self.workers[*who].plans.front());
            let Some(plans) = plans.collect::<Option<Vec<_>>>() else { continue };
            let step = plans[0].step;
            if plans.iter().any(|plan| plan.step != step) {
                continue;
            }
            let mut slots: Vec<(SlotId, StitchId)> = plans.iter().flat_map(|plan| plan.slots.clone()).collect();
            slots.sort_unstable();
            if !slots.iter().map(|(slot, _)| slot.0).eq(0..plans[0].slots_in_step) {
                return Err(format!("ST-1: step {step} of generation {generation} is run as {slots:?}"));
            }
            if members.iter().any(|who| self.workers[*who].applied != Some(step)) {
                return Err(format!("RD-3: step {step} of generation {generation} is run over different states"));
            }
            for who in &members {
                match alone.map(|one| members[one % members.len()]) {
                    Some(one) if one != *who => self.workers[*who].break_off(generation),
                    _ => self.workers[*who].applies(&slots),
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, many: usize) -> Result<(), String> {
        for _ in 0..many {
            if self.records.waiting.is_empty() {
                return Ok(());
            }
            if let Some(event) = self.records.write() {
                self.happen(event)?;
            }
        }
        Ok(())
    }

    /// Another leader goes on from what is durable; nobody has a session with it.
    fn fall(&mut self, many: usize) -> Result<(), String> {
        (0..many).for_each(|_| drop(self.records.write()));
        self.records.waiting.clear();
        if self.records.durable.complete {
            self.complete = true;
            return Ok(());
        }
        let (epoch, recovered) = (LeaderEpoch(self.fence.epoch.0 + 1), self.records.durable.clone());
        self.run = Run::new(LAW.clone(), epoch, patience(2), recovered).map_err(|error| format!("SC-2: {error}"))?;
        (self.fence, self.now) = (self.run.fence(), Duration::ZERO);
        self.checks = Checks::of(&LAW, STEPS, &self.records);
        self.sessions.clear();
        for worker in &mut self.workers {
            worker.session = None;
            worker.inbox.clear();
            worker.outbox.clear();
        }
        Ok(())
    }

    /// The leader hears of something, and everything it commands is weighed and carried out.
    fn happen(&mut self, event: Event) -> Result<(), String> {
        if self.complete {
            return Ok(());
        }
        self.checks.before(&event, &self.run);
        let commands = self.run.handle(event.clone(), self.now);
        let mut ended = Vec::new();
        for command in commands {
            if let Command::Persist(Record::Generation(generation, _)) = &command {
                self.fence.generation = *generation;
            }
            self.checks.weigh(&event, &command, &self.run, &self.records)?;
            self.carry_out(command, &mut ended);
        }
        ended.into_iter().try_for_each(|session| self.happen(Event::Left(session)))
    }

    fn carry_out(&mut self, command: Command, ended: &mut Vec<SessionId>) {
        match command {
            Command::Send(session, message) => {
                let who = self.sessions.get(&session).filter(|who| self.workers[**who].session == Some(session));
                if let Some(who) = who {
                    self.workers[*who].inbox.push_back((self.fence, message));
                }
            }
            Command::Close(session) | Command::Evict(session, _) => {
                let evicted = matches!(command, Command::Evict(..));
                let Some(who) = self.sessions.remove(&session) else { return };
                ended.extend(evicted.then_some(session));
                let worker = &mut self.workers[who];
                if worker.session.take_if(|own| *own == session).is_some() {
                    worker.outbox.clear();
                }
            }
            Command::Persist(record) => self.records.waiting.push_back(record),
            Command::Notice(Notice::Failed(reason)) => self.failed = Some(reason),
            Command::Notice(_) => {}
            Command::Complete => self.complete = true,
        }
    }

    /// Nothing goes wrong any more.
    pub fn finish(&mut self) -> Result<Outcome, String> {
        for _ in 0..ROUNDS {
            if self.complete {
                break;
            }
            for who in 0..WORKERS {
                if self.workers[who].session.is_none() {
                    self.join(who, false)?;
                }
                self.workers[who].beats();
                self.workers[who].finishes();
            }
            self.pass_on()?;
            self.befall(Deed::Wait(2))?;
        }
        match &self.failed {
            Some(_) if self.somebody_differed => return Ok(Outcome::Otherwise),
            Some(reason) => return Err(format!("progress: the run failed: {reason}")),
            None if !self.complete => {
                let (phase, steps) = (self.run.phase_name(), self.records.committed());
                return Err(format!("progress: it is {phase} with {steps} steps on record after {ROUNDS} rounds"));
            }
            None => {}
        }
        match self.records.history == *CALM {
            true => Ok(Outcome::Undisturbed),
            false if self.somebody_differed => Ok(Outcome::Otherwise),
            false => Err("ST-2, SC-2, MB-2: the record is not that of a run that nothing disturbs".to_owned()),
        }
    }
}
