//! The end of a run: who writes, who is let go, and when.

use esta_proto::SessionId;

use super::{world::*, *};

const W0: SessionId = SessionId(1);
const W1: SessionId = SessionId(2);
const W2: SessionId = SessionId(3);

/// A run all of whose steps are done, while these workers still finish it: the first of them writes.
fn finishing(workers: u32) -> World {
    let mut world = World::new(law(), workers, Recovered::default());
    world.writes_at_once = false;
    world.join_many(workers);
    while world.step() {}
    assert_eq!((world.run.phase_name(), world.complete), ("finishing", false));
    assert_eq!(world.alive[&W0].finishing, Some(true));
    world
}

#[test]
fn who_only_stands_by_at_the_end_can_go_without_disturbing_the_writer() {
    let mut world = finishing(3);
    let generation = world.run.members().generation();
    world.kill(W1);
    world.event(Event::Draining(W2));
    assert_eq!(world.alive[&W2].stopped.as_ref().map(|stop| stop.exit_code), Some(exit::DONE));
    world.event(Event::Draining(W0));
    assert!(world.alive[&W0].stopped.is_none(), "it writes what everybody waits for");
    assert_eq!((world.run.phase_name(), world.run.members().generation()), ("finishing", generation));
    world.event(Event::FinaleDone(W0, true));
    assert!(world.complete);
}

#[test]
fn a_writer_that_is_lost_is_followed_by_one_who_stands_by() {
    let mut world = finishing(3);
    world.kill(W0);
    assert_eq!((world.alive[&W1].finishing, world.alive[&W2].finishing), (Some(true), Some(false)));
    world.kill(W2);
    assert!(!world.complete);
    world.event(Event::FinaleDone(W1, true));
    assert!(world.complete);
}

#[test]
fn results_are_written_by_whoever_comes_when_everybody_was_lost_over_them() {
    let mut world = finishing(1);
    world.checkpoints = vec![Step(30)];
    world.kill(W0);
    world.writes_at_once = true;
    world.join(World::fresh("w9"));
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn a_stand_by_that_became_the_writer_has_not_written_because_it_stood_by() {
    let mut world = finishing(2);
    world.kill(W0);
    assert_eq!(world.alive[&W1].finishing, Some(true));
    // Its answer from when it stood by was on its way.
    world.event(Event::FinaleDone(W1, false));
    assert!(!world.complete, "nobody has written the results");
    world.event(Event::FinaleDone(W1, true));
    assert!(world.complete);
}

#[test]
fn nobody_is_let_go_before_the_end_is_on_record() {
    let mut world = finishing(2);
    let said = world.run.handle(Event::FinaleDone(W0, true), world.now);
    assert_eq!(said, [Command::Persist(Record::Complete)]);
    // Whoever goes meanwhile changes nothing.
    world.kill(W1);
    assert_eq!((world.run.phase_name(), world.complete), ("finishing", false));
    let said = world.run.handle(Event::Concluded, world.now);
    let stopped =
        |command: &Command| matches!(command, Command::Send(W0, Message::Stop(stop)) if stop.exit_code == exit::DONE);
    assert!(stopped(&said[0]) && said[1..] == [Command::Complete], "{said:?}");
}
