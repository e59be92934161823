//! The law of a run without a network: fake workers carry out messages at once, in a fixed order.

use std::collections::{BTreeMap, VecDeque};

use esta_proto::{Digest, Rank, SessionId, SlotId, StitchId};

use super::*;
use crate::{plan::RankPlan, table::Outcome};

const SPEC: &str = r#"{
    "name": "test", "seed": 7,
    "family": { "anchors": [
        { "name": "a", "weights": "a", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 4, "depth": 3, "num_heads": 2 } },
        { "name": "b", "weights": "b", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 3, "num_heads": 2 } }
    ] },
    "budgets": { "gap": 2000 },
    "sampling": { "slots": 4, "lookahead": 1 },
    "train": { "max_steps": 40, "batch_size": 8, "save_steps": 10, "save_total_limit": 2 },
    "data": { "num_classes": 3, "train": { "layout": "idx", "path": "x" } }
}"#;

pub(super) fn law_with(change: impl FnOnce(&mut crate::spec::JobSpec)) -> Arc<Law> {
    let mut spec = serde_json::from_str(SPEC).expect("the test's spec parses");
    change(&mut spec);
    Arc::new(Law::new(spec).expect("the test's spec is valid"))
}

pub(super) fn law() -> Arc<Law> {
    law_with(|_| {})
}

pub(super) fn patience(workers: u32) -> Patience {
    Patience { workers, grace: Duration::from_secs(30) }
}

/// A score that depends on step, slot and stitch, as a real one would.
pub(super) fn outcome(step: Step, slot: SlotId, stitch: StitchId) -> Outcome {
    let mix = (step.0 * 31 + u64::from(slot.0) * 17 + u64::from(stitch.0) * 7) % 101;
    Outcome { score: 1.0 + mix as f64, loss: 3.0 - mix as f64 / 101.0, grad_norm: 1.0, valid: true }
}

pub(super) fn reduced(step: Step) -> Digest {
    Digest([step.0 as u8; 32])
}

/// Workers that do what they are told, a run, and what it made durable.
pub(super) struct World {
    pub(super) run: Run,
    pub(super) law: Arc<Law>,
    pub(super) alive: BTreeMap<SessionId, Fake>,
    pub(super) records: Vec<StepRecord>,
    pub(super) checkpoints: Vec<Step>,
    pub(super) notices: Vec<Notice>,
    pub(super) complete: bool,
    pub(super) next_session: u64,
    pub(super) now: Duration,
    pub(super) evicted: Vec<SessionId>,
    /// The writer of the results is done as soon as it is told.
    pub(super) writes_at_once: bool,
    /// What a slot takes, whatever its stitch.
    pub(super) slot_time: Option<Duration>,
    /// Takes this many times as long.
    pub(super) slow: Option<(SessionId, u32)>,
    /// Whoever is to build a group on the side has it as soon as it is told.
    pub(super) prepares_at_once: bool,
    /// Those who were told and have not said that they have it.
    pub(super) preparing: Vec<(SessionId, Seat)>,
    /// What is said once everything decided before is carried out.
    later: VecDeque<Event>,
    depth: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Fake {
    pub(super) name: String,
    pub(super) applied: Option<Step>,
    pub(super) rank: Option<Rank>,
    pub(super) retained: BTreeMap<Step, Report>,
    pub(super) ran: Vec<(Step, Vec<(SlotId, StitchId)>)>,
    pub(super) pending: Vec<RankPlan>,
    /// What it says it has of the next step when a group stands.
    pub(super) computed: Option<HeldShare>,
    /// The generation it stands in, and the next step it has no plan of.
    pub(super) stands: Option<(Generation, Step)>,
    pub(super) stopped: Option<Stop>,
    /// Finishes the run, as its writer or not.
    pub(super) finishing: Option<bool>,
}

impl Fake {
    pub(super) fn standing(&self) -> Option<Standing> {
        let (generation, next) = self.stands?;
        let held = |plan: &RankPlan| HeldShare {
            step: plan.step,
            plan: plan.digest,
            slots: plan.slots.iter().map(|(slot, _)| *slot).collect(),
        };
        Some(Standing { generation, rank: self.rank?, next, held: self.pending.iter().map(held).collect() })
    }
}

impl World {
    pub(super) fn new(law: Arc<Law>, workers: u32, recovered: Recovered) -> Self {
        let epoch = LeaderEpoch(1 + recovered.steps.len() as u64);
        let records = recovered.steps.clone();
        let run = Run::new(law.clone(), epoch, patience(workers), recovered).expect("the record is this run's");
        let (alive, checkpoints, notices) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (now, evicted) = (Duration::ZERO, Vec::new());
        Self {
            run,
            law,
            alive,
            records,
            checkpoints,
            notices,
            complete: false,
            next_session: 0,
            now,
            evicted,
            writes_at_once: true,
            slot_time: None,
            slow: None,
            prepares_at_once: true,
            preparing: Vec::new(),
            later: VecDeque::new(),
            depth: 0,
        }
    }

    pub(super) fn fresh(name: &str) -> Fake {
        let (retained, ran, pending) = (BTreeMap::new(), Vec::new(), Vec::new());
        Fake {
            name: name.into(),
            applied: None,
            rank: None,
            retained,
            ran,
            pending,
            computed: None,
            stands: None,
            stopped: None,
            finishing: None,
        }
    }

    pub(super) fn hello(&self, fake: &Fake) -> Hello {
        Hello {
            name: fake.name.clone(),
            incarnation: self.next_session,
            applied: fake.applied,
            retained: fake.retained.values().cloned().collect(),
            checkpoints: self.checkpoints.clone(),
            layout_digest: self.law.layout_digest,
            samples: 100,
            standing: fake.standing(),
        }
    }

    pub(super) fn join(&mut self, fake: Fake) -> SessionId {
        self.next_session += 1;
        let session = SessionId(self.next_session);
        let hello = self.hello(&fake);
        self.alive.insert(session, fake);
        self.event(Event::Joined(session, hello));
        session
    }

    pub(super) fn join_many(&mut self, workers: u32) {
        for number in 0..workers {
            self.join(Self::fresh(&format!("w{number}")));
        }
    }

    pub(super) fn kill(&mut self, session: SessionId) -> Fake {
        let fake = self.alive.remove(&session).expect("it lives");
        self.event(Event::Left(session));
        fake
    }

    pub(super) fn event(&mut self, event: Event) {
        self.depth += 1;
        let commands = self.run.handle(event, self.now);
        for command in commands {
            self.carry_out(command);
        }
        self.depth -= 1;
        while self.depth == 0
            && let Some(event) = self.later.pop_front()
        {
            self.event(event);
        }
    }

    /// Whoever was told to build a group on the side has done so.
    pub(super) fn prepared(&mut self) {
        for (session, seat) in std::mem::take(&mut self.preparing) {
            let fence = Fence { generation: seat.generation, ..self.run.fence() };
            self.event(Event::GroupPrepared(session, fence));
        }
    }

    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::Send(session, message) => self.deliver(session, message),
            Command::Persist(Record::Step(record)) => {
                let step = record.step;
                self.records.push(record);
                self.event(Event::Persisted(step));
            }
            Command::Persist(Record::Generation(generation, _)) => self.event(Event::Recorded(generation)),
            Command::Persist(Record::Complete) => self.event(Event::Concluded),
            Command::Persist(_) | Command::Close(_) => {}
            Command::Evict(session, _) => self.evicted.push(session),
            Command::Notice(notice) => self.notices.push(notice),
            Command::Complete => self.complete = true,
        }
    }

    pub(super) fn deliver(&mut self, session: SessionId, message: Message) {
        let fence = self.run.fence();
        let Some(fake) = self.alive.get_mut(&session) else { return };
        match message {
            Message::Form(form) => {
                fake.rank = Some(form.rank);
                fake.pending.clear();
                let applied = match form.origin {
                    Origin::Memory(step) | Origin::Checkpoint(step) => step,
                    Origin::Fresh => Step(0),
                };
                fake.applied = Some(applied);
                fake.stands = Some((fence.generation, applied));
                let computed = fake.computed.clone();
                let chain = applied.0.checked_sub(1).map(|step| reduced(Step(step)));
                // Everybody hands over what is not durable, before anything else.
                let retained: Vec<Report> = fake.retained.values().cloned().collect();
                retained.into_iter().for_each(|report| self.event(Event::Reported(session, report)));
                self.event(Event::GroupReady(session, fence, Ready { computed, chain, ..Ready::at(applied) }));
            }
            Message::Prepare(seat) if self.prepares_at_once => {
                self.later.push_back(Event::GroupPrepared(session, Fence { generation: seat.generation, ..fence }));
            }
            Message::Prepare(seat) => self.preparing.push((session, seat)),
            Message::Plan(plan) => {
                fake.retained = fake.retained.split_off(&plan.durable);
                fake.stands = Some((fence.generation, plan.step.next()));
                fake.pending.push(plan);
            }
            Message::Durable(step) => fake.retained = fake.retained.split_off(&step),
            Message::Lost(_) => {
                fake.pending.clear();
                fake.stands = None;
            }
            Message::Stop(stop) => fake.stopped = Some(stop),
            Message::Finish(finish) => {
                fake.finishing = Some(finish.writer);
                if !finish.writer || self.writes_at_once {
                    self.event(Event::FinaleDone(session, finish.writer));
                }
            }
            Message::Discard(step) => {
                fake.pending.clear();
                fake.retained.split_off(&step);
                fake.applied = fake.applied.filter(|applied| *applied <= step);
            }
            Message::Refused(reason) => panic!("refused: {reason}"),
        }
    }

    /// Lets the clock run; the run is ticked whenever it asks for it, and these workers say every 0.2 s what they are at.
    pub(super) fn wait(&mut self, time: Duration, beating: &[(SessionId, Activity)]) {
        let until = self.now + time;
        let mut beat = self.now;
        while self.now < until {
            if self.now >= beat {
                let since = self.now;
                for (session, activity) in beating {
                    self.event(Event::Heard(*session, Progress { activity: *activity, since }));
                }
                beat = self.now + Duration::from_millis(200);
            }
            let due = self.run.poll_timeout().unwrap_or(until);
            self.now = due.clamp(self.now + Duration::from_millis(1), until.min(beat));
            if self.now >= due {
                self.event(Event::Tick);
            }
        }
    }

    /// Runs the next step on every worker; false when nobody has one.
    pub(super) fn step(&mut self) -> bool {
        let due = self.alive.values().filter_map(|fake| fake.pending.first().map(|plan| plan.step)).min();
        let Some(step) = due else { return false };
        let mut plans: Vec<(SessionId, RankPlan)> = Vec::new();
        for (session, fake) in &mut self.alive {
            if fake.pending.first().is_some_and(|plan| plan.step == step) {
                plans.push((*session, fake.pending.remove(0)));
            }
        }
        let mut slots: Vec<(SlotId, StitchId)> = plans.iter().flat_map(|(_, plan)| plan.slots.clone()).collect();
        slots.sort_unstable();
        let outcomes: Vec<Outcome> = slots.iter().map(|(slot, stitch)| outcome(step, *slot, *stitch)).collect();
        // Every rank has applied the step before the first report arrives.
        let reports: Vec<(SessionId, Report)> =
            plans.into_iter().map(|(s, plan)| (s, self.apply(s, plan, &outcomes))).collect();
        for (session, report) in reports {
            self.event(Event::Reported(session, report));
        }
        true
    }

    pub(super) fn apply(&mut self, session: SessionId, plan: RankPlan, outcomes: &[Outcome]) -> Report {
        let times = self.slow.filter(|(slow, _)| *slow == session).map_or(1, |(_, times)| times);
        let each = self.slot_time.map(|time| time * times);
        let fake = self.alive.get_mut(&session).expect("it lives");
        let full = Report {
            step: plan.step,
            plan: plan.digest,
            reduced: reduced(plan.step),
            outcomes: outcomes.to_vec(),
            timings: StepTimings { slots: timed(&plan.slots, each), ..StepTimings::default() },
        };
        fake.applied = Some(plan.step.next());
        fake.retained.insert(plan.step, full.clone());
        fake.ran.push((plan.step, plan.slots));
        if fake.rank == Some(Rank(0)) { full } else { Report { outcomes: Vec::new(), ..full } }
    }

    /// The next step with numbers that are not finite in every slot.
    pub(super) fn bad_step(&mut self, session: SessionId) {
        let plan = self.alive.get_mut(&session).expect("it lives").pending.remove(0);
        let bad = Outcome { score: f64::NAN, loss: f64::NAN, grad_norm: f64::NAN, valid: false };
        let report = self.apply(session, plan, &[bad; 4]);
        self.event(Event::Reported(session, report));
    }

    pub(super) fn run_to_end(&mut self) {
        while self.step() {}
        assert!(self.complete, "the run stopped at step {} ({:?})", self.records.len(), self.notices.last());
    }
}

pub(super) fn timed(slots: &[(SlotId, StitchId)], each: Option<Duration>) -> Vec<(SlotId, Duration)> {
    slots.iter().filter_map(|(slot, _)| Some((*slot, each?))).collect()
}

/// The records of a run that nothing disturbed.
pub(super) fn undisturbed(workers: u32) -> Vec<StepRecord> {
    let mut world = World::new(law(), workers, Recovered::default());
    world.join_many(workers);
    world.run_to_end();
    world.records
}
