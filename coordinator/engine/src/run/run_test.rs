//! What a run does, in sentences. Absences of every kind are in `absence_test.rs`.

use esta_proto::{Digest, SessionId, SlotId};

use super::{world::*, *};
use crate::table::Outcome;

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
    world.wait(Duration::from_secs(29), &[(SessionId(1), Activity::Idle)]);
    assert_eq!(world.run.phase_name(), "waiting");
    world.wait(Duration::from_secs(2), &[(SessionId(1), Activity::Idle)]);
    assert_eq!((world.run.phase_name(), world.run.members().ranks().len()), ("running", 1));
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
            whole.accept(&Report { step, plan: digest, reduced: reduced(step), outcomes, timings }, Teller::Rank);
            records.extend(whole.commit_ready(step.next(), |_| None));
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

#[test]
fn sc_2_a_ledger_goes_on_from_a_snapshot_and_the_records_since_the_oldest_checkpoint() {
    let law = law_with(|spec| {
        spec.sampling.lookahead = 3;
        spec.train.max_steps = Some(60);
    });
    let mut whole = Ledger::new(law.clone(), 60);
    let (mut records, mut snapshot) = (Vec::new(), None);
    for step in (0..60).map(Step) {
        let plan = whole.plan(step).expect("drawn ahead");
        let outcomes =
            (0..).map(SlotId).zip(&plan.draws).map(|(slot, draw)| outcome(step, slot, draw.stitch)).collect();
        let (digest, timings) = (plan.digest, StepTimings::default());
        whole.accept(&Report { step, plan: digest, reduced: reduced(step), outcomes, timings }, Teller::Rank);
        records.extend(whole.commit_ready(step.next(), |_| None));
        if step == Step(40) {
            snapshot = Some(whole.snapshot());
        }
        if step.0 > 40 {
            let since = records[30..].to_vec();
            let again = Ledger::resume(law.clone(), 60, snapshot.clone(), since).expect("they are this run's");
            assert_eq!(again.table(), whole.table(), "after step {step}");
            let plans = |ledger: &Ledger| (30..60).map(|step| ledger.plan(Step(step))).collect::<Vec<_>>();
            assert_eq!(plans(&again)[..], plans(&whole)[..], "after step {step}");
            assert_eq!(again.earliest_plan(), Step(30));
        }
    }
    let deeper = |spec: &mut crate::spec::JobSpec| {
        spec.family.anchors.iter_mut().filter_map(|anchor| anchor.arch.as_mut()).for_each(|arch| arch.depth = 4);
    };
    let damaged = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = snapshot.clone().expect("it was taken");
        change(&mut snapshot);
        Ledger::resume(law.clone(), 60, Some(snapshot), Vec::new()).expect_err("it is damaged").to_string()
    };
    let without_a_plan = damaged(&|snapshot| drop(snapshot.plans.remove(1)));
    assert_eq!(without_a_plan, "the snapshot after 41 steps is damaged: it holds 3 plans, not those of steps 41..45");
    let stranger = damaged(&|snapshot| snapshot.plans[0].2[0].stitch = esta_proto::StitchId(900));
    assert!(stranger.ends_with("step 41 draws stitch 900, which the job does not have"), "{stranger}");
    let other = law_with(deeper);
    let error = Ledger::resume(other, 60, snapshot, Vec::new()).expect_err("another family");
    assert!(matches!(error, ReplayError::Snapshot { .. }), "{error}");
}

/// A session that never said hello.
const STRANGER: SessionId = SessionId(99);

/// Two workers in the middle of a run.
fn halfway() -> World {
    let mut world = World::new(law(), 2, Recovered::default());
    world.join_many(2);
    for _ in 0..15 {
        assert!(world.step());
    }
    world
}

#[test]
fn a_checkpoint_counts_only_from_a_member_and_never_ahead_of_the_record() {
    let mut world = halfway();
    for (session, step) in [(STRANGER, Step(10)), (SessionId(1), Step(16)), (SessionId(1), Step(u64::MAX))] {
        assert_eq!(world.run.handle(Event::CheckpointSaved(session, step), world.now), [], "{session} {step}");
    }
    world.run_to_end();
    assert_eq!(world.records, undisturbed(2));
}

#[test]
fn sc_2_a_report_of_a_stranger_is_not_believed() {
    let mut world = halfway();
    let plan = world.run.ledger().and_then(|ledger| ledger.plan(Step(15))).expect("it is due");
    let outcomes = vec![Outcome { score: 1e9, loss: 0.0, grad_norm: 0.0, valid: true }; 4];
    let (reduced, timings) = (Digest([99; 32]), StepTimings::default());
    let report = Report { step: Step(15), plan: plan.digest, reduced, outcomes, timings };
    world.event(Event::Reported(STRANGER, report));
    world.run_to_end();
    assert_eq!(world.records, undisturbed(2));
}

#[test]
fn a_rank_that_says_it_holds_what_nobody_can_hold_is_turned_out_and_the_others_go_on() {
    let mut world = World::new(law(), 2, Recovered::default());
    let hello = world.hello(&World::fresh("liar"));
    world.event(Event::Joined(STRANGER, hello));
    world.join(World::fresh("w0"));
    assert_eq!(world.run.phase_name(), "forming", "the liar has yet to say that it stands");
    world.event(Event::GroupReady(STRANGER, world.run.fence(), Ready::at(Step(u64::MAX))));
    assert!(!world.run.members().live().contains_key(&STRANGER));
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn a_snapshot_of_more_steps_than_the_run_has_is_refused() {
    let world = halfway();
    let ledger = world.run.ledger().expect("it is open");
    let snapshot = Snapshot { committed: Step(u64::MAX), ..ledger.snapshot() };
    let error = Ledger::resume(law(), 40, Some(snapshot), Vec::new()).expect_err("there is no such step");
    assert!(matches!(error, ReplayError::Damaged { .. }), "{error}");
}
