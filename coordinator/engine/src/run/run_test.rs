//! The law of a run without a network: fake workers carry out messages at once, in a fixed order.

use std::collections::BTreeMap;

use esta_proto::{Rank, SessionId, SlotId, StitchId};

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

fn law_with(change: impl FnOnce(&mut crate::spec::JobSpec)) -> Arc<Law> {
    let mut spec = serde_json::from_str(SPEC).expect("the test's spec parses");
    change(&mut spec);
    Arc::new(Law::new(spec).expect("the test's spec is valid"))
}

fn law() -> Arc<Law> {
    law_with(|_| {})
}

fn patience(workers: u32) -> Patience {
    Patience { workers, grace: Duration::from_secs(30) }
}

/// A score that depends on step, slot and stitch, as a real one would.
fn outcome(step: Step, slot: SlotId, stitch: StitchId) -> Outcome {
    let mix = (step.0 * 31 + u64::from(slot.0) * 17 + u64::from(stitch.0) * 7) % 101;
    Outcome { score: 1.0 + mix as f64, loss: 3.0 - mix as f64 / 101.0, grad_norm: 1.0, valid: true }
}

fn reduced(step: Step) -> Digest {
    Digest([step.0 as u8; 32])
}

/// Workers that do what they are told, a run, and what it made durable.
struct World {
    run: Run,
    law: Arc<Law>,
    alive: BTreeMap<SessionId, Fake>,
    records: Vec<StepRecord>,
    checkpoints: Vec<Step>,
    notices: Vec<Notice>,
    complete: bool,
    next_session: u64,
    /// What a slot takes, whatever its stitch.
    slot_time: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Fake {
    name: String,
    applied: Option<Step>,
    rank: Option<Rank>,
    retained: BTreeMap<Step, Report>,
    ran: Vec<(Step, Vec<(SlotId, StitchId)>)>,
    pending: Vec<RankPlan>,
    stopped: Option<Stop>,
}

impl World {
    fn new(law: Arc<Law>, workers: u32, recovered: Recovered) -> Self {
        let epoch = LeaderEpoch(1 + recovered.steps.len() as u64);
        let records = recovered.steps.clone();
        let run = Run::new(law.clone(), epoch, patience(workers), recovered).expect("the record is this run's");
        let (alive, checkpoints, notices) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { run, law, alive, records, checkpoints, notices, complete: false, next_session: 0, slot_time: None }
    }

    fn fresh(name: &str) -> Fake {
        let (retained, ran, pending) = (BTreeMap::new(), Vec::new(), Vec::new());
        Fake { name: name.into(), applied: None, rank: None, retained, ran, pending, stopped: None }
    }

    fn hello(&self, fake: &Fake) -> Hello {
        Hello {
            name: fake.name.clone(),
            incarnation: self.next_session,
            applied: fake.applied,
            retained: fake.retained.values().cloned().collect(),
            checkpoints: self.checkpoints.clone(),
            layout_digest: self.law.layout_digest,
            samples: 100,
        }
    }

    fn join(&mut self, fake: Fake) -> SessionId {
        self.next_session += 1;
        let session = SessionId(self.next_session);
        let hello = self.hello(&fake);
        self.alive.insert(session, fake);
        self.event(Event::Joined(session, hello));
        session
    }

    fn join_many(&mut self, workers: u32) {
        for number in 0..workers {
            self.join(Self::fresh(&format!("w{number}")));
        }
    }

    fn kill(&mut self, session: SessionId) -> Fake {
        let fake = self.alive.remove(&session).expect("it lives");
        self.event(Event::Left(session));
        fake
    }

    fn event(&mut self, event: Event) {
        let commands = self.run.handle(event, Duration::ZERO);
        for command in commands {
            self.carry_out(command);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Send(session, message) => self.deliver(session, message),
            Command::Persist(Record::Step(record)) => {
                let step = record.step;
                self.records.push(record);
                self.event(Event::Persisted(step));
            }
            Command::Persist(_) | Command::Close(_) => {}
            Command::Notice(notice) => self.notices.push(notice),
            Command::Complete => self.complete = true,
        }
    }

    fn deliver(&mut self, session: SessionId, message: Message) {
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
                self.event(Event::GroupReady(session, fence, applied));
            }
            Message::Plan(plan) => fake.pending.push(plan),
            Message::Durable(step) => fake.retained = fake.retained.split_off(&step),
            Message::Lost(_) => fake.pending.clear(),
            Message::Stop(stop) => fake.stopped = Some(stop),
            Message::Finish(_) => self.event(Event::FinaleDone(session)),
            Message::Refused(reason) => panic!("refused: {reason}"),
        }
    }

    /// Runs the next step on every worker; false when nobody has one.
    fn step(&mut self) -> bool {
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

    fn apply(&mut self, session: SessionId, plan: RankPlan, outcomes: &[Outcome]) -> Report {
        let fake = self.alive.get_mut(&session).expect("it lives");
        let full = Report {
            step: plan.step,
            plan: plan.digest,
            reduced: reduced(plan.step),
            outcomes: outcomes.to_vec(),
            timings: StepTimings { slots: timed(&plan.slots, self.slot_time), ..StepTimings::default() },
        };
        fake.applied = Some(plan.step.next());
        fake.retained.insert(plan.step, full.clone());
        fake.ran.push((plan.step, plan.slots));
        if fake.rank == Some(Rank(0)) { full } else { Report { outcomes: Vec::new(), ..full } }
    }

    /// The next step with numbers that are not finite in every slot.
    fn bad_step(&mut self, session: SessionId) {
        let plan = self.alive.get_mut(&session).expect("it lives").pending.remove(0);
        let bad = Outcome { score: f64::NAN, loss: f64::NAN, grad_norm: f64::NAN, valid: false };
        let report = self.apply(session, plan, &[bad; 4]);
        self.event(Event::Reported(session, report));
    }

    fn run_to_end(&mut self) {
        while self.step() {}
        assert!(self.complete, "the run stopped at step {} ({:?})", self.records.len(), self.notices.last());
    }
}

fn timed(slots: &[(SlotId, StitchId)], each: Option<Duration>) -> Vec<(SlotId, Duration)> {
    slots.iter().filter_map(|(slot, _)| Some((*slot, each?))).collect()
}

/// The records of a run that nothing disturbed.
fn undisturbed(workers: u32) -> Vec<StepRecord> {
    let mut world = World::new(law(), workers, Recovered::default());
    world.join_many(workers);
    world.run_to_end();
    world.records
}

#[test]
fn st_2_the_draws_are_the_same_for_1_3_and_8_workers() {
    let one = undisturbed(1);
    assert_eq!(one.len(), 40);
    assert_eq!(undisturbed(3), one);
    assert_eq!(undisturbed(8), one);
}

#[test]
fn st_1_each_slot_of_a_step_runs_on_exactly_one_rank() {
    let mut world = World::new(law(), 3, Recovered::default());
    world.join_many(3);
    world.run_to_end();
    for step in 0..40 {
        let ran = world.alive.values().flat_map(|fake| &fake.ran).filter(|(s, _)| *s == Step(step));
        let mut slots: Vec<SlotId> = ran.flat_map(|(_, slots)| slots.iter().map(|(slot, _)| *slot)).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2, 3].map(SlotId), "step {step}");
    }
}

#[test]
fn slots_are_packed_by_what_they_were_seen_to_take_and_no_record_changes() {
    let mut world = World::new(law(), 2, Recovered::default());
    world.slot_time = Some(Duration::from_millis(1));
    world.join_many(2);
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
    let slots = |fake: &Fake, steps: std::ops::Range<u64>| -> Vec<usize> {
        let ran = fake.ran.iter().filter(|(step, _)| steps.contains(&step.0));
        ran.map(|(_, slots)| slots.len()).collect()
    };
    let first = &world.alive[&SessionId(1)];
    assert!(slots(first, 0..16).iter().any(|count| *count != 2), "by MACs one anchor b outweighs two anchors a");
    assert_eq!(slots(first, 24..40), [2; 16], "every slot takes as long as any other");
}

#[test]
fn the_first_generation_waits_for_company_but_not_for_ever() {
    let mut world = World::new(law(), 2, Recovered::default());
    world.join(World::fresh("w0"));
    assert_eq!(world.run.phase_name(), "waiting");
    assert_eq!(world.run.poll_timeout(), Some(Duration::from_secs(30)));
    let late = world.run.handle(Event::Tick, Duration::from_secs(30));
    assert!(late.iter().any(|c| matches!(c, Command::Send(_, Message::Form(form)) if form.world == 1)), "{late:?}");
}

#[test]
fn a_join_in_the_middle_changes_no_record() {
    let mut world = World::new(law(), 1, Recovered::default());
    world.join(World::fresh("w0"));
    (0..10).for_each(|_| assert!(world.step()));
    world.join(World::fresh("w1"));
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
    assert!(world.alive.values().all(|fake| !fake.ran.is_empty()), "the joiner worked");
}

#[test]
fn mb_2_losing_any_worker_at_any_step_changes_no_record() {
    let calm = undisturbed(1);
    for (step, victim) in (0..40).flat_map(|step| [(step, 1), (step, 2)]) {
        let mut world = World::new(law(), 2, Recovered::default());
        world.join(World::fresh("w0"));
        world.join(World::fresh("w1"));
        (0..step).for_each(|_| assert!(world.step()));
        world.kill(SessionId(victim));
        world.run_to_end();
        assert_eq!(world.records, calm, "worker {victim} lost at step {step}");
    }
}

#[test]
fn sc_2_after_a_restart_of_the_coordinator_the_table_equals_the_serial_replay() {
    let calm = undisturbed(1);
    let mut world = World::new(law(), 2, Recovered::default());
    let sessions = [world.join(World::fresh("w0")), world.join(World::fresh("w1"))];
    (0..17).for_each(|_| assert!(world.step()));
    let recovered = Recovered {
        steps: world.records.clone(),
        generation: Generation(1),
        samples: Some(100),
        ..Recovered::default()
    };
    let fakes = sessions.map(|session| world.alive[&session].clone());
    let mut later = World::new(law(), 2, recovered);
    for fake in fakes {
        later.join(Fake { pending: Vec::new(), ..fake });
    }
    later.run_to_end();
    assert_eq!(later.records, calm);
    let replayed = Ledger::replay(law(), 40, calm).expect("the record is this run's");
    assert_eq!(Some(replayed.table()), later.run.ledger().map(Ledger::table));
}

#[test]
fn st_2_a_record_replays_to_the_same_table_and_plans_under_every_strategy() {
    use crate::spec::SamplingStrategy::{Bandit, Bins, Importance, Uniform};
    for strategy in [Importance, Bins, Uniform, Bandit] {
        let law = law_with(|spec| {
            spec.sampling.strategy = strategy;
            spec.sampling.anchor_floor = 0.2;
            spec.train.max_steps = Some(120);
        });
        let mut whole = Ledger::new(law.clone(), 120);
        let mut records = Vec::new();
        for step in (0..120).map(Step) {
            let plan = whole.plan(step).expect("drawn ahead");
            let outcomes = (0..).map(SlotId).zip(&plan.draws);
            let mut outcomes: Vec<Outcome> = outcomes.map(|(slot, draw)| outcome(step, slot, draw.stitch)).collect();
            // A skipped step now and then: its losses reach no trend.
            outcomes[0].valid = step.0 % 7 != 3;
            let (digest, timings) = (plan.digest, StepTimings::default());
            whole.accept(&Report { step, plan: digest, reduced: reduced(step), outcomes, timings });
            records.extend(whole.commit_ready());
            if step.0 % 40 == 17 {
                let again = Ledger::replay(law.clone(), 120, records.clone()).expect("the record is this run's");
                assert_eq!(again.table(), whole.table(), "{strategy:?} after step {step}");
                assert_eq!(again.plan(step.next()), whole.plan(step.next()), "{strategy:?} after step {step}");
                assert!(again.table().rows().iter().any(|row| row.effect.is_some_and(|effect| effect != 0.0)));
            }
        }
    }
}

#[test]
fn mb_2_a_report_that_the_last_leader_never_made_durable_is_handed_over() {
    let mut world = World::new(law(), 1, Recovered::default());
    let session = world.join(World::fresh("w0"));
    (0..5).for_each(|_| assert!(world.step()));
    let plan = world.alive.get_mut(&session).expect("it lives").pending.remove(0);
    let slots: Vec<Outcome> = plan.slots.iter().map(|(slot, stitch)| outcome(plan.step, *slot, *stitch)).collect();
    world.apply(session, plan, &slots);
    let fake = world.alive[&session].clone();
    assert_eq!(fake.applied, Some(Step(6)));
    let recovered = Recovered {
        steps: world.records.clone(),
        generation: Generation(1),
        samples: Some(100),
        ..Recovered::default()
    };
    assert_eq!(recovered.steps.len(), 5);
    let mut later = World::new(law(), 1, recovered);
    later.join(Fake { pending: Vec::new(), ..fake });
    assert_eq!(later.records.len(), 6, "the retained report was committed at once");
    later.run_to_end();
    assert_eq!(later.records, undisturbed(1));
}

#[test]
fn after_all_workers_are_lost_the_steps_since_the_checkpoint_run_again_and_nothing_enters_twice() {
    let calm = undisturbed(1);
    let mut world = World::new(law(), 1, Recovered::default());
    let first = world.join(World::fresh("w0"));
    (0..23).for_each(|_| assert!(world.step()));
    world.checkpoints = vec![Step(10), Step(20)];
    world.kill(first);
    let second = world.join(World::fresh("w0"));
    world.run_to_end();
    assert_eq!(world.records, calm);
    assert_eq!(world.alive[&second].ran.first().map(|(step, _)| *step), Some(Step(20)));
    assert!(!world.notices.iter().any(|notice| matches!(notice, Notice::RedoDiffers(_))));
}

#[test]
fn a_step_with_a_bad_slot_is_skipped_and_the_run_goes_on() {
    let mut world = World::new(law(), 1, Recovered::default());
    let session = world.join(World::fresh("w0"));
    world.bad_step(session);
    assert!(world.notices.contains(&Notice::Skipped(Step(0))));
    assert_eq!(world.run.ledger().map(|ledger| ledger.table().rows().iter().map(|row| row.visits).sum()), Some(0));
    world.run_to_end();
}

#[test]
fn steps_that_are_never_finite_end_the_run_with_advice_and_one_good_step_in_between_does_not() {
    let mut world = World::new(law(), 1, Recovered::default());
    let session = world.join(World::fresh("w0"));
    (0..9).for_each(|_| world.bad_step(session));
    assert!(world.step());
    (0..9).for_each(|_| world.bad_step(session));
    assert!(!world.complete);
    world.bad_step(session);
    assert!(world.complete);
    let stop = world.alive[&session].stopped.clone().expect("it was told");
    assert_eq!(stop.exit_code, exit::DIVERGED);
    assert!(stop.reason.contains("10 steps in a row, the last one 19") && stop.reason.contains("learning_rate"));
    assert_eq!(world.records.len(), 20, "what was committed stays");
}

#[test]
fn rd_3_ranks_that_disagree_stop_the_run() {
    let mut world = World::new(law(), 2, Recovered::default());
    let sessions = [world.join(World::fresh("w0")), world.join(World::fresh("w1"))];
    let plan = world.alive[&sessions[0]].pending[0].clone();
    let report = |byte| Report {
        step: Step(0),
        plan: plan.digest,
        reduced: Digest([byte; 32]),
        outcomes: vec![],
        timings: StepTimings::default(),
    };
    world.event(Event::Reported(sessions[0], report(1)));
    world.event(Event::Reported(sessions[1], report(2)));
    assert!(world.complete);
    let stop = world.alive[&sessions[0]].stopped.clone().expect("it was told");
    assert_eq!(
        (stop.exit_code, stop.reason.as_str()),
        (exit::DIVERGED, "ranks disagree about the reduced gradients of step 0")
    );
}

#[test]
fn a_worker_that_does_not_fit_is_told_why() {
    let mut world = World::new(law(), 1, Recovered::default());
    let fake = World::fresh("w0");
    let other = Hello { layout_digest: Digest([1; 32]), ..world.hello(&fake) };
    world.alive.insert(SessionId(1), fake);
    world.event(Event::Joined(SessionId(1), other));
    assert_eq!(world.alive[&SessionId(1)].stopped.as_ref().map(|stop| stop.exit_code), Some(exit::MISFIT));
}

#[test]
fn of_two_processes_with_one_name_the_later_stays() {
    let mut world = World::new(law(), 1, Recovered::default());
    let old = world.join(World::fresh("w0"));
    (0..3).for_each(|_| assert!(world.step()));
    let new = world.join(World::fresh("w0"));
    assert_eq!(world.alive[&old].stopped.as_ref().map(|stop| stop.exit_code), Some(exit::IDENTITY));
    assert_eq!(world.run.members().live().keys().collect::<Vec<_>>(), [&new]);

    let twin = Hello { incarnation: world.next_session - 1, ..world.hello(&World::fresh("w0")) };
    world.alive.insert(SessionId(99), World::fresh("w0"));
    world.event(Event::Joined(SessionId(99), twin));
    assert_eq!(world.alive[&SessionId(99)].stopped.as_ref().map(|stop| stop.exit_code), Some(exit::IDENTITY));
}

#[test]
fn mb_1_a_message_under_an_old_fence_is_refused_and_changes_nothing() {
    let mut world = World::new(law(), 1, Recovered::default());
    let session = world.join(World::fresh("w0"));
    let old = Fence { epoch: LeaderEpoch(0), generation: Generation(1) };
    let commands = world.run.handle(Event::GroupFailed(session, old, "late".into()), Duration::ZERO);
    assert_eq!(
        commands,
        [Command::Send(session, Message::Refused("sent under the fence (epoch 0, generation 1)".into()))]
    );
    assert_eq!(world.run.phase_name(), "running");
}

#[test]
fn groups_that_never_stand_end_the_run_with_the_reason() {
    let mut world = World::new(law(), 1, Recovered::default());
    let session = world.join(World::fresh("w0"));
    for _ in 0..30 {
        let fence = world.run.fence();
        if !world.complete {
            world.event(Event::GroupFailed(session, fence, "no route".into()));
        }
    }
    let stop = world.alive[&session].stopped.clone().expect("it was told");
    assert!(stop.reason.contains("no route"), "{}", stop.reason);
}

#[test]
fn a_record_of_another_seed_is_not_replayed() {
    let records = undisturbed(1);
    let other = law_with(|spec| spec.seed = 8);
    let error = Ledger::replay(other, 40, records).expect_err("another seed draws otherwise");
    assert!(matches!(error, ReplayError::Draws { .. }), "{error}");
}

#[test]
fn st_2_lookahead_0_draws_every_step_from_the_table_right_before_it() {
    let strict = law_with(|spec| spec.sampling.lookahead = 0);
    let mut world = World::new(strict, 1, Recovered::default());
    world.join(World::fresh("w0"));
    world.run_to_end();
    assert!(world.records.iter().all(|record| record.table_version == record.step));
    let ahead = undisturbed(1);
    assert!(ahead.iter().all(|record| record.table_version.0 == record.step.0.saturating_sub(1)));
}
