//! Workers that fall silent, hang, disagree, are slow, are asked to leave, or outlive their leader.

use std::collections::BTreeMap;

use esta_proto::{Digest, Rank, SessionId, SlotId};

use super::{world::*, *};

const W0: SessionId = SessionId(1);
const W1: SessionId = SessionId(2);
const W2: SessionId = SessionId(3);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A world of this many workers after some steps.
fn under_way(workers: u32, steps: u32) -> World {
    let mut world = World::new(law(), workers, Recovered::default());
    world.join_many(workers);
    (0..steps).for_each(|_| assert!(world.step()));
    world
}

fn evictions(world: &World) -> Vec<String> {
    let reason = |notice: &Notice| match notice {
        Notice::Evicted(name, reason) => Some(format!("{name}: {reason}")),
        _ => None,
    };
    world.notices.iter().filter_map(reason).collect()
}

#[test]
fn a_silent_worker_is_lost_within_2_s_and_the_others_go_on() {
    let mut world = under_way(2, 5);
    world.wait(seconds(1.4), &[(W0, Activity::Reduce(Step(5)))]);
    assert_eq!(evictions(&world), Vec::<String>::new());
    world.wait(seconds(0.6), &[(W0, Activity::Reduce(Step(5)))]);
    assert_eq!(world.evicted, [W1]);
    let reasons = evictions(&world);
    assert!(reasons[0].starts_with("w1: it was silent for 1."), "{reasons:?}");
    world.alive.remove(&W1);
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn a_rank_that_computes_for_long_is_not_blamed_while_it_says_so_and_neither_is_one_that_waits_for_it() {
    let mut world = under_way(2, 5);
    world.wait(seconds(50.0), &[(W0, Activity::Reduce(Step(5))), (W1, Activity::Compute(Step(5), 0.into()))]);
    assert_eq!(evictions(&world), Vec::<String>::new());
    world.run_to_end();
}

#[test]
fn a_trainer_that_hangs_has_its_process_ended_with_a_reason() {
    let mut world = under_way(2, 5);
    world.wait(seconds(70.0), &[(W0, Activity::Reduce(Step(5))), (W1, Activity::Compute(Step(5), 2.into()))]);
    let stop = world.alive[&W1].stopped.clone().expect("it was told");
    assert_eq!(stop.exit_code, exit::HUNG);
    assert!(stop.reason.starts_with("its trainer has been computing step 5 slot 2 for 6"), "{}", stop.reason);
    assert_eq!(world.run.members().live().keys().collect::<Vec<_>>(), [&W0]);
}

#[test]
fn a_leader_that_slept_blames_nobody_for_what_it_did_not_hear() {
    let mut world = under_way(2, 5);
    world.wait(seconds(1.0), &[(W0, Activity::Idle), (W1, Activity::Idle)]);
    world.now += seconds(20.0);
    world.event(Event::Tick);
    world.wait(seconds(5.0), &[(W0, Activity::Idle), (W1, Activity::Idle)]);
    assert_eq!(evictions(&world), Vec::<String>::new());
}

#[test]
fn a_worker_that_is_asked_to_leave_finishes_what_was_given_out() {
    let mut world = under_way(2, 7);
    world.event(Event::Draining(W1));
    assert!(world.alive[&W1].stopped.is_none(), "it has plans in hand");
    while world.alive[&W1].stopped.is_none() {
        assert!(world.step());
    }
    let gone = world.alive.remove(&W1).expect("it was there");
    assert_eq!(gone.stopped.map(|stop| stop.exit_code), Some(exit::DONE));
    assert_eq!(gone.applied, Some(Step(9)), "two steps were given out");
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn rd_3_a_rank_that_is_outvoted_goes_and_the_others_go_on_as_if_it_had_never_been() {
    for liar in [W0, W1, W2] {
        let mut world = under_way(3, 5);
        let plans = [W0, W1, W2].map(|session| {
            let plan = world.alive.get_mut(&session).expect("it lives").pending.remove(0);
            (session, plan)
        });
        let draws = world.run.ledger().and_then(|ledger| ledger.plan(Step(5))).expect("it was drawn").draws;
        let outcomes: Vec<_> =
            (0..).zip(draws).map(|(slot, draw)| outcome(Step(5), slot.into(), draw.stitch)).collect();
        let reports = plans.map(|(session, plan)| {
            let report = world.apply(session, plan, &outcomes);
            let reduced = if session == liar { Digest([99; 32]) } else { report.reduced };
            (session, Report { reduced, ..report })
        });
        for (session, report) in reports {
            world.event(Event::Reported(session, report));
        }
        let stop = world.alive[&liar].stopped.clone().expect("it was told");
        assert_eq!(stop.exit_code, exit::DIVERGED);
        assert_eq!(stop.reason, "its reduced gradients of step 5 are not those of most ranks");
        world.alive.remove(&liar);
        world.run_to_end();
        assert_eq!(world.records, undisturbed(1), "liar {liar}");
    }
}

#[test]
fn a_slow_rank_is_flagged_within_5_steps_and_gets_fewer_slots() {
    let law = law_with(|spec| spec.train.max_steps = Some(200));
    let mut world = World::new(law, 2, Recovered::default());
    world.slot_time = Some(Duration::from_millis(10));
    world.join_many(2);
    (0..40).for_each(|_| assert!(world.step()));
    world.slow = Some((W1, 5));
    let flagged =
        |world: &World| world.notices.iter().any(|notice| matches!(notice, Notice::Straggler(name, _) if name == "w1"));
    let steps = (0..).take_while(|_| world.step() && !flagged(&world)).count() + 1;
    assert!(steps <= 5, "{steps} steps");
    (0..10).for_each(|_| assert!(world.step()));
    let slots = |session| world.alive[&session].ran.iter().rev().take(5).map(|(_, slots)| slots.len()).sum::<usize>();
    assert!(slots(W1) * 2 < slots(W0), "{} of {}", slots(W1), slots(W0));
    world.slow = None;
    (0..60).for_each(|_| assert!(world.step()));
    assert!(!world.notices.contains(&Notice::KeepsUp("w1".into())), "it has to for some time");
    world.now += Duration::from_secs(30);
    assert!(world.step());
    assert!(world.notices.contains(&Notice::KeepsUp("w1".into())));
    assert!(!world.notices.iter().any(|notice| matches!(notice, Notice::Straggler(name, _) if name == "w0")));
}

/// What a store would remember of a world, with the workers by rank.
fn remembered(world: &World) -> Recovered {
    let mut names: Vec<(Option<Rank>, String)> =
        world.alive.values().map(|fake| (fake.rank, fake.name.clone())).collect();
    names.sort();
    Recovered {
        steps: world.records.clone(),
        generation: world.run.members().generation(),
        members: names.into_iter().map(|(_, name)| name).collect(),
        samples: Some(100),
        ..Recovered::default()
    }
}

#[test]
fn a_change_of_leaders_changes_no_generation_and_no_draw() {
    let world = under_way(3, 17);
    let mut later = World::new(law(), 3, remembered(&world));
    assert_eq!(later.run.phase_name(), "resuming");
    // They come back in another order.
    for session in [W2, W0, W1] {
        later.join(world.alive[&session].clone());
    }
    assert_eq!((later.run.phase_name(), later.run.members().generation()), ("running", Generation(1)));
    assert!(!later.notices.iter().any(|notice| matches!(notice, Notice::Formed(..))));
    later.run_to_end();
    assert_eq!(later.records, undisturbed(1));
}

#[test]
fn st_1_a_rank_that_was_never_sent_its_share_gets_what_the_others_do_not_hold() {
    for without in [vec![W0], vec![W1], vec![W0, W2]] {
        let mut world = under_way(3, 17);
        for session in &without {
            let fake = world.alive.get_mut(session).expect("it lives");
            let lost = fake.pending.pop().expect("it held plans");
            fake.stands = fake.stands.map(|(generation, _)| (generation, lost.step));
        }
        let mut later = World::new(law(), 3, remembered(&world));
        for (_, fake) in world.alive {
            later.join(fake);
        }
        assert_eq!((later.run.phase_name(), later.run.members().generation()), ("running", Generation(1)));
        later.run_to_end();
        assert_eq!(later.records, undisturbed(1), "without {without:?}");
        for step in 17..40 {
            let ran = later.alive.values().flat_map(|fake| &fake.ran).filter(|(s, _)| *s == Step(step));
            let mut slots: Vec<u32> = ran.flat_map(|(_, slots)| slots.iter().map(|(slot, _)| slot.0)).collect();
            slots.sort_unstable();
            assert_eq!(slots, [0, 1, 2, 3], "step {step} without {without:?}");
        }
    }
}

#[test]
fn a_leader_that_misses_a_worker_of_its_predecessor_waits_a_while_and_forms_anew() {
    let world = under_way(3, 17);
    let mut later = World::new(law(), 3, remembered(&world));
    later.join(world.alive[&W0].clone());
    later.join(world.alive[&W1].clone());
    let alive = [(SessionId(1), Activity::Idle), (SessionId(2), Activity::Idle)];
    later.wait(seconds(4.9), &alive);
    assert_eq!(later.run.phase_name(), "resuming");
    later.wait(seconds(0.2), &alive);
    assert_eq!((later.run.phase_name(), later.run.members().generation()), ("running", Generation(2)));
    later.run_to_end();
    assert_eq!(later.records, undisturbed(1));
}

#[test]
fn a_leader_whose_workers_all_began_anew_forms_at_once() {
    let mut world = under_way(2, 25);
    world.checkpoints = vec![Step(10), Step(20)];
    let mut later = World::new(law(), 2, Recovered { checkpoints: vec![Step(10), Step(20)], ..remembered(&world) });
    later.checkpoints = world.checkpoints.clone();
    later.join(World::fresh("w0"));
    assert_eq!(later.run.phase_name(), "resuming");
    later.join(World::fresh("w1"));
    assert_eq!((later.run.phase_name(), later.run.members().generation()), ("running", Generation(2)));
    later.run_to_end();
    assert_eq!(later.records, undisturbed(1));
}

/// Workers that have all applied the next step when their group breaks, and have yet to say so; these say something else.
fn broken_before_anybody_spoke(workers: u32, liars: &[SessionId]) -> World {
    let mut world = under_way(workers, 5);
    let sessions: Vec<SessionId> = world.alive.keys().copied().collect();
    let mut due = |session: &SessionId| world.alive.get_mut(session).expect("it lives").pending.remove(0);
    let plans: Vec<_> = sessions.iter().map(|session| (*session, due(session))).collect();
    let slots = plans.iter().flat_map(|(_, plan)| plan.slots.clone()).collect::<BTreeSet<_>>();
    let outcomes: Vec<_> = slots.iter().map(|(slot, stitch)| outcome(Step(5), *slot, *stitch)).collect();
    for (session, plan) in plans {
        world.apply(session, plan, &outcomes);
        if liars.contains(&session) {
            let fake = world.alive.get_mut(&session).expect("it lives");
            fake.retained.get_mut(&Step(5)).expect("it is kept").reduced = Digest([66; 32]);
        }
    }
    let fence = world.run.fence();
    world.event(Event::GroupFailed(sessions[1], fence, "connection reset".to_owned()));
    world
}

#[test]
fn rd_3_what_is_handed_over_while_no_group_stands_is_one_ranks_word_until_all_have_spoken() {
    // The one that is wrong speaks first.
    let mut world = broken_before_anybody_spoke(3, &[W0]);
    let stop = world.alive[&W0].stopped.clone().expect("two outvote one");
    assert_eq!(stop.reason, "its reduced gradients of step 5 are not those of most ranks");
    world.alive.remove(&W0);
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));

    let world = broken_before_anybody_spoke(2, &[W0]);
    assert_eq!(world.records.len(), 5, "nobody knows which of the two is the run's");
    let failed = Notice::Failed("ranks disagree about the reduced gradients of step 5".to_owned());
    assert!(world.notices.contains(&failed), "{:?}", world.notices.last());
}

#[test]
fn rd_3_a_dispute_is_settled_among_those_who_are_left() {
    // Of five, two and one have spoken and disagree when the other two are lost.
    for liar in [W0, W1, W2] {
        let mut world = under_way(5, 5);
        let draws = world.run.ledger().and_then(|ledger| ledger.plan(Step(5))).expect("it was drawn").draws;
        let outcomes: Vec<_> =
            (0..).zip(draws).map(|(slot, draw)| outcome(Step(5), slot.into(), draw.stitch)).collect();
        for session in [W0, W1, W2] {
            let plan = world.alive.get_mut(&session).expect("it lives").pending.remove(0);
            let report = world.apply(session, plan, &outcomes);
            let reduced = if session == liar { Digest([99; 32]) } else { report.reduced };
            world.event(Event::Reported(session, Report { reduced, ..report }));
        }
        assert_eq!(world.records.len(), 5, "nobody knows yet who is right");
        world.kill(SessionId(4));
        let stop = world.alive[&liar].stopped.clone().expect("two outvote one");
        assert_eq!(stop.exit_code, exit::DIVERGED);
        world.alive.remove(&liar);
        world.run_to_end();
        assert_eq!(world.records, undisturbed(1), "liar {liar}");
    }
}

#[test]
fn rd_3_a_new_leader_hears_everybody_before_it_believes_anybody() {
    for liar in [W0, W1, W2] {
        let mut world = under_way(3, 17);
        let draws = world.run.ledger().and_then(|ledger| ledger.plan(Step(17))).expect("it was drawn").draws;
        let outcomes: Vec<_> =
            (0..).zip(draws).map(|(slot, draw)| outcome(Step(17), slot.into(), draw.stitch)).collect();
        for session in [W0, W1, W2] {
            let fake = world.alive.get_mut(&session).expect("it lives");
            let plan = fake.pending.remove(0);
            // Its leader was gone before anybody could report.
            world.apply(session, plan, &outcomes);
            let report = world.alive.get_mut(&session).and_then(|fake| fake.retained.get_mut(&Step(17)));
            report.expect("it retains what is not durable").reduced =
                if session == liar { Digest([99; 32]) } else { reduced(Step(17)) };
        }
        let mut later = World::new(law(), 3, remembered(&world));
        for session in [W0, W1, W2] {
            later.join(world.alive[&session].clone());
        }
        assert_eq!(later.alive[&liar].stopped.as_ref().map(|stop| stop.exit_code), Some(exit::DIVERGED), "{liar}");
        later.alive.remove(&liar);
        later.run_to_end();
        assert_eq!(later.records, undisturbed(1), "liar {liar}");
    }
}

#[test]
fn a_group_that_falls_while_its_new_leader_waits_is_not_gone_on_with() {
    let world = under_way(3, 17);
    let mut later = World::new(law(), 3, remembered(&world));
    let first = later.join(world.alive[&W0].clone());
    later.join(world.alive[&W1].clone());
    later.event(Event::GroupFailed(first, later.run.fence(), "connection reset".into()));
    assert_eq!(later.run.phase_name(), "resuming", "whoever is still away is waited for");
    later.join(world.alive[&W2].clone());
    assert_eq!((later.run.phase_name(), later.run.members().generation()), ("running", Generation(2)));
    later.run_to_end();
    assert_eq!(later.records, undisturbed(1));
}

#[test]
fn a_worker_that_is_asked_to_leave_while_a_new_leader_waits_stays_until_its_steps_are_done() {
    let world = under_way(2, 17);
    let mut later = World::new(law(), 2, remembered(&world));
    let first = later.join(world.alive[&W0].clone());
    later.event(Event::Draining(first));
    assert!(later.alive[&first].stopped.is_none());
    later.join(world.alive[&W1].clone());
    assert_eq!((later.run.phase_name(), later.run.members().generation()), ("running", Generation(1)));
    while later.alive[&first].stopped.is_none() {
        assert!(later.step());
    }
    assert_eq!(later.alive[&first].stopped.as_ref().map(|stop| stop.exit_code), Some(exit::DONE));
    later.alive.remove(&first);
    later.run_to_end();
    assert_eq!(later.records, undisturbed(1));
}

#[test]
fn joiners_that_come_while_a_group_is_built_are_let_in_together() {
    let world = under_way(1, 5);
    let fence = world.run.fence();
    // The group of two is on record and not yet built.
    let hello = |number: u64| Hello { incarnation: number, ..world.hello(&World::fresh(&format!("w{number}"))) };
    let hellos = [hello(2), hello(3), hello(4)];
    let mut run = world.run.clone();
    run.handle(Event::GroupFailed(W0, fence, "connection reset".into()), world.now);
    assert_eq!((run.phase_name(), run.members().generation()), ("forming", Generation(2)));
    for (session, hello) in (2..).map(SessionId).zip(hellos) {
        run.handle(Event::Joined(session, hello), world.now);
    }
    assert_eq!(run.members().generation(), Generation(2));
    run.handle(Event::Recorded(Generation(2)), world.now);
    let said = run.handle(Event::GroupReady(W0, run.fence(), Ready::at(Step(5))), world.now);
    let seat = |command: &Command| match command {
        Command::Send(session, Message::Prepare(seat)) => Some((session.0, seat.generation, seat.world)),
        _ => None,
    };
    let told: Vec<_> = said.iter().filter_map(seat).collect();
    assert_eq!(told, [1, 2, 3, 4].map(|session| (session, Generation(3), 4)));
}

#[test]
fn many_who_leave_before_a_generation_is_on_record_are_one_change() {
    let mut world = under_way(6, 3);
    let before = world.run.fence().generation;
    // The record of the next generation takes its time.
    let mut said = Vec::new();
    for session in (1..=4).map(SessionId) {
        world.alive.remove(&session);
        said.extend(world.run.handle(Event::Left(session), world.now));
    }
    let records = said.iter().filter(|command| matches!(command, Command::Persist(Record::Generation(..))));
    let lost = said.iter().filter(|command| matches!(command, Command::Send(_, Message::Lost(_))));
    assert_eq!((records.count(), lost.count()), (1, 5), "who was left at first hears once that the group is over");
    said.into_iter().for_each(|command| world.carry_out(command));
    assert_eq!(world.run.members().ranks(), [SessionId(5), SessionId(6)]);
    assert_eq!(world.run.fence().generation, before.next().next());
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn a_generation_does_not_end_for_a_joiner_that_is_gone() {
    let mut world = under_way(1, 5);
    let second = world.join(World::fresh("w1"));
    world.kill(second);
    let generation = world.run.members().generation();
    world.run_to_end();
    assert_eq!((world.records, world.run.members().generation()), (undisturbed(1), generation));
}

#[test]
fn the_same_process_takes_its_own_place_when_its_session_broke_unseen() {
    let mut world = under_way(2, 5);
    let hello = Hello { incarnation: 1, ..world.hello(&world.alive[&W0]) };
    let fake = world.alive.remove(&W0).expect("it lives");
    world.alive.insert(SessionId(7), fake);
    world.event(Event::Joined(SessionId(7), hello.clone()));
    assert_eq!(world.run.members().live().keys().collect::<Vec<_>>(), [&W1, &SessionId(7)]);
    assert!(world.alive[&SessionId(7)].stopped.is_none());
    // The first hello of all arrives last: it is of a session that nobody reads any more.
    world.event(Event::Joined(SessionId(6), hello));
    assert_eq!(world.run.members().live().keys().collect::<Vec<_>>(), [&W1, &SessionId(7)]);
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn a_run_whose_state_nobody_holds_says_so_once_and_waits_for_who_does() {
    let mut world = under_way(1, 25);
    world.checkpoints = vec![Step(10), Step(20)];
    for step in [10, 20] {
        world.event(Event::CheckpointSaved(W0, Step(step)));
    }
    world.kill(W0);
    // Another machine, whose disk holds no checkpoint.
    let checkpoints = std::mem::take(&mut world.checkpoints);
    let stray = world.join(World::fresh("w1"));
    world.wait(seconds(60.0), &[(stray, Activity::Idle)]);
    let stranded: Vec<_> = world.notices.iter().filter(|notice| matches!(notice, Notice::Stranded(_))).collect();
    assert_eq!(stranded, [&Notice::Stranded(Step(10))]);
    assert!(world.evicted.is_empty(), "whoever waits is looked after");
    world.checkpoints = checkpoints;
    world.join(World::fresh("w2"));
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn st_1_what_survivors_have_summed_of_a_step_they_keep_and_only_the_rest_is_run_again() {
    let mut world = under_way(3, 5);
    let plan = |world: &World| world.run.ledger().and_then(|ledger| ledger.plan(Step(5))).expect("it was drawn");
    let slots = |world: &World, session: SessionId| -> Vec<SlotId> {
        world.alive[&session].pending[0].slots.iter().map(|(slot, _)| *slot).collect()
    };
    let before: BTreeMap<SessionId, Vec<SlotId>> = [W0, W1, W2].map(|session| (session, slots(&world, session))).into();
    for session in [W0, W1] {
        let computed = HeldShare { step: Step(5), plan: plan(&world).digest, slots: before[&session].clone() };
        world.alive.get_mut(&session).expect("it lives").computed = Some(computed);
    }
    world.kill(W2);
    let after: BTreeMap<SessionId, Vec<SlotId>> = [W0, W1].map(|session| (session, slots(&world, session))).into();
    for session in [W0, W1] {
        assert!(before[&session].iter().all(|slot| after[&session].contains(slot)), "{before:?} {after:?}");
    }
    let mut all: Vec<SlotId> = after.into_values().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, (0..4).map(SlotId).collect::<Vec<_>>());
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn st_1_a_sum_that_overlaps_anothers_or_is_of_another_plan_counts_nothing() {
    let mut world = under_way(2, 5);
    let digest = world.run.ledger().and_then(|ledger| ledger.plan(Step(5))).expect("it was drawn").digest;
    let say = |world: &mut World, session, plan, slots: &[u32]| {
        let slots = slots.iter().copied().map(SlotId).collect();
        let fake = world.alive.get_mut(&session).expect("it lives");
        fake.computed = Some(HeldShare { step: Step(5), plan, slots });
    };
    say(&mut world, W0, digest, &[0, 1, 2]);
    say(&mut world, W1, digest, &[2, 3]);
    let fence = world.run.fence();
    world.event(Event::GroupFailed(W0, fence, "connection reset".to_owned()));
    let held = |world: &World, session| -> Vec<u32> {
        world.alive[&session].pending[0].slots.iter().map(|(slot, _)| slot.0).collect()
    };
    assert_eq!((held(&world, W0), held(&world, W1)), (vec![0, 1, 2, 3], vec![]), "the one slot left is anybody's");
    say(&mut world, W0, Digest([9; 32]), &[0, 1, 2]);
    say(&mut world, W1, digest, &[7]);
    let fence = world.run.fence();
    world.event(Event::GroupFailed(W0, fence, "connection reset".to_owned()));
    assert_eq!(held(&world, W0).len() + held(&world, W1).len(), 4);
    assert_eq!(held(&world, W1).len(), 2, "packed as if nobody had anything");
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

/// Who was said to be gone, in order.
fn gone(world: &World) -> Vec<&str> {
    let mut gone = Vec::new();
    for notice in &world.notices {
        if let Notice::Gone(name) = notice {
            gone.push(name.as_str());
        }
    }
    gone
}

#[test]
fn whoever_breaks_off_is_gone_and_whoever_was_let_go_or_evicted_is_not() {
    let mut world = World::new(law(), 4, Recovered::default());
    world.join_many(4);
    (0..4).for_each(|_| assert!(world.step()));
    world.kill(SessionId(4));
    assert_eq!(gone(&world), ["w3"], "once, as it happens");
    // One that was asked to leave has gone before its session ends; one that was told to stop has been lost already.
    world.event(Event::Draining(SessionId(3)));
    while world.alive[&SessionId(3)].stopped.is_none() {
        assert!(world.step());
    }
    world.kill(SessionId(3));
    world.event(Event::Left(SessionId(4)));
    assert_eq!(gone(&world), ["w3"]);
    world.run_to_end();
    assert!(world.complete);
    world.kill(SessionId(1));
    assert_eq!(gone(&world), ["w3"], "at the end everybody has done their part");
}
