//! Whose word of a step enters the record.

use std::collections::BTreeSet;

use esta_proto::{Digest, SessionId};

use super::{world::*, *};
use crate::table::Outcome;

const SPOILT: Digest = Digest([99; 32]);

/// A report of the next step of a world as somebody tells it whose memory is spoilt.
fn spoilt(world: &World) -> Report {
    let plan = world.alive[&SessionId(1)].pending[0].clone();
    let outcomes = vec![Outcome { score: 1e9, loss: 0.0, grad_norm: 0.0, valid: true }; 4];
    Report { step: plan.step, plan: plan.digest, reduced: SPOILT, outcomes, timings: StepTimings::default() }
}

#[test]
fn rd_3_what_all_ranks_hold_is_entered_whoever_told_of_the_step_first() {
    let mut world = World::new(law(), 3, Recovered::default());
    world.join_many(3);
    (0..5).for_each(|_| assert!(world.step()));
    let report = spoilt(&world);
    world.join(Fake { retained: [(report.step, report)].into(), ..World::fresh("w9") });
    assert!(world.step());
    assert_eq!(world.records.last(), undisturbed(1).get(5));
}

#[test]
fn rd_3_a_state_is_its_ranks_word_of_the_step_that_led_to_it() {
    let mut world = World::new(law(), 1, Recovered::default());
    let first = world.join(World::fresh("w0"));
    (0..5).for_each(|_| assert!(world.step()));
    // The only rank applies a step and tells nobody; whoever is spoilt tells of it first.
    let stranger = spoilt(&world);
    let plan = world.alive.get_mut(&first).expect("it lives").pending.remove(0);
    let slots: Vec<_> = plan.slots.iter().map(|(slot, stitch)| outcome(plan.step, *slot, *stitch)).collect();
    let told = world.apply(first, plan, &slots);
    let mut run = world.run.clone();
    let hello = |name: &str, retained: &Report, applied| Hello {
        applied,
        retained: vec![retained.clone()],
        incarnation: 9,
        ..world.hello(&World::fresh(name))
    };
    run.handle(Event::Left(first), world.now);
    run.handle(Event::Joined(SessionId(8), hello("w8", &stranger, None)), world.now);
    run.handle(Event::Joined(SessionId(9), hello("w0", &told, Some(Step(6)))), world.now);
    let names: BTreeSet<&str> = run.members().live().values().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["w0", "w8"].into());
    // Both stand with the state of the first, and neither says again what it told.
    let mut records = Vec::new();
    for _ in 0..3 {
        let generation = run.members().generation();
        run.handle(Event::Recorded(generation), world.now);
        for session in run.members().ranks().to_vec() {
            let ready = Ready { chain: Some(told.reduced), ..Ready::at(Step(6)) };
            records.extend(run.handle(Event::GroupReady(session, run.fence(), ready), world.now));
        }
    }
    let entered = records.iter().find_map(|command| match command {
        Command::Persist(Record::Step(record)) => Some(record),
        _ => None,
    });
    assert_eq!(entered, undisturbed(1).get(5));
}

#[test]
fn rd_3_a_step_of_which_nobody_tells_what_its_ranks_hold_is_done_again() {
    let mut world = World::new(law(), 1, Recovered::default());
    let first = world.join(World::fresh("w0"));
    (0..5).for_each(|_| assert!(world.step()));
    let stranger = spoilt(&world);
    let mut run = world.run.clone();
    run.handle(Event::Left(first), world.now);
    let hello = |name: &str, retained: Vec<Report>, applied| Hello {
        applied,
        retained,
        incarnation: 9,
        ..world.hello(&World::fresh(name))
    };
    run.handle(Event::Joined(SessionId(8), hello("w8", vec![stranger], None)), world.now);
    // It took over the state of somebody who is gone, and can tell nothing of the step.
    run.handle(Event::Joined(SessionId(9), hello("w0", Vec::new(), Some(Step(6)))), world.now);
    let mut said = Vec::new();
    for _ in 0..3 {
        run.handle(Event::Recorded(run.members().generation()), world.now);
        for session in run.members().ranks().to_vec() {
            let ready = Ready { chain: Some(reduced(Step(5))), ..Ready::at(Step(6)) };
            said.extend(run.handle(Event::GroupReady(session, run.fence(), ready), world.now));
        }
    }
    assert!(!said.iter().any(|command| matches!(command, Command::Persist(Record::Step(_)))), "{said:?}");
    let forget = |command: &Command| matches!(command, Command::Send(SessionId(9), Message::Discard(Step(5))));
    assert!(said.iter().any(forget), "it is to be done again");
}

#[test]
fn a_checkpoint_that_is_told_of_again_writes_nothing() {
    let mut world = World::new(law(), 1, Recovered::default());
    world.join_many(1);
    (0..12).for_each(|_| assert!(world.step()));
    let saved = |world: &mut World| world.run.handle(Event::CheckpointSaved(SessionId(1), Step(10)), world.now).len();
    assert!(saved(&mut world) > 0);
    assert_eq!(saved(&mut world), 0);
}
