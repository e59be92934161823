//! Groups that cannot be built, and trainers that hang while they are.

use esta_proto::SessionId;

use super::{world::*, *};

/// The names of the generation that is being recorded.
fn recorded(said: &[Command]) -> Vec<String> {
    let names = |command: &Command| match command {
        Command::Persist(Record::Generation(_, names)) => Some(names.clone()),
        _ => None,
    };
    said.iter().find_map(names).unwrap_or_default()
}

/// A run whose group breaks as soon as it is formed, this many times; who was in the last one.
fn after_breaking(run: &mut Run, times: u32, now: Duration) -> Vec<String> {
    let mut said = Vec::new();
    for _ in 0..times {
        run.handle(Event::Recorded(run.members().generation()), now);
        let blamed = run.members().ranks()[0];
        said = run.handle(Event::GroupFailed(blamed, run.fence(), "timed out".to_owned()), now);
    }
    recorded(&said)
}

#[test]
fn where_no_group_stands_with_everybody_one_after_another_is_left_out() {
    let mut world = World::new(law(), 3, Recovered::default());
    world.join_many(3);
    assert!(world.step());
    let mut run = world.run.clone();
    assert_eq!(after_breaking(&mut run, 2, world.now), ["w0", "w1", "w2"]);
    assert_eq!(after_breaking(&mut run, 1, world.now), ["w0", "w1"], "the last that came");
    assert_eq!(after_breaking(&mut run, 1, world.now), ["w0", "w2"]);
    run.handle(Event::Recorded(run.members().generation()), world.now);
    let mut said = Vec::new();
    for session in run.members().ranks().to_vec() {
        said = run.handle(Event::GroupReady(session, run.fence(), Ready::at(Step(1))), world.now);
    }
    assert_eq!(run.phase_name(), "running");
    let prepares = |command: &Command| matches!(command, Command::Send(SessionId(2), Message::Prepare(_)));
    assert!(said.iter().any(prepares), "whoever was left out has another chance, at nobody's cost");
}

#[test]
fn a_state_that_only_one_holds_is_not_left_out() {
    let mut world = World::new(law(), 1, Recovered::default());
    world.join_many(1);
    (0..15).for_each(|_| assert!(world.step()));
    world.event(Event::CheckpointSaved(SessionId(1), Step(5)));
    world.event(Event::CheckpointSaved(SessionId(1), Step(10)));
    let mut run = world.run.clone();
    assert!(run.ledger().is_some_and(|ledger| ledger.earliest_plan() > Step(0)), "nobody can begin anew");
    let hello = Hello { incarnation: 7, checkpoints: Vec::new(), ..world.hello(&World::fresh("w1")) };
    run.handle(Event::Joined(SessionId(7), hello), world.now);
    for _ in 0..6 {
        assert!(after_breaking(&mut run, 1, world.now).contains(&"w0".to_owned()));
    }
}

#[test]
fn whoever_makes_the_first_state_is_not_left_out() {
    let world = World::new(law(), 3, Recovered::default());
    let mut run = world.run.clone();
    for (session, name) in [(1, "w0"), (2, "w1"), (3, "w2")] {
        let hello = Hello { incarnation: session, ..world.hello(&World::fresh(name)) };
        run.handle(Event::Joined(SessionId(session), hello), world.now);
    }
    for _ in 0..8 {
        assert!(after_breaking(&mut run, 1, world.now).contains(&"w0".to_owned()));
    }
}

#[test]
fn a_trainer_that_hangs_while_group_after_group_is_built_has_its_process_ended() {
    let mut world = World::new(law(), 2, Recovered::default());
    world.join_many(2);
    (0..3).for_each(|_| assert!(world.step()));
    let mut run = world.run.clone();
    let (w0, w1) = (SessionId(1), SessionId(2));
    run.handle(Event::GroupFailed(w0, run.fence(), "timed out".to_owned()), world.now);
    let heard = |since| Progress { activity: Activity::Forming, since: Duration::from_secs(since) };
    run.handle(Event::Heard(w0, heard(100)), world.now);
    run.handle(Event::Heard(w1, heard(362)), world.now);
    let said = run.handle(Event::Tick, world.now + Duration::from_millis(300));
    let told = said.iter().find_map(|command| match command {
        Command::Send(session, Message::Stop(stop)) => Some((*session, stop.exit_code, stop.reason.clone())),
        _ => None,
    });
    let (session, code, reason) = told.expect("somebody hangs");
    assert_eq!((session, code), (w1, exit::HUNG));
    assert!(reason.starts_with("its trainer has been building a process group for 362."), "{reason}");
}

#[test]
fn whoever_makes_the_first_state_takes_the_time_it_takes() {
    let mut world = World::new(law(), 2, Recovered::default());
    let mut run = world.run.clone();
    for (session, name) in [(1, "w0"), (2, "w1")] {
        world.next_session = session;
        run.handle(Event::Joined(SessionId(session), world.hello(&World::fresh(name))), world.now);
    }
    assert_eq!(run.phase_name(), "forming");
    let since = Duration::from_secs(3_000);
    run.handle(Event::Heard(SessionId(1), Progress { activity: Activity::Forming, since }), world.now);
    let said = run.handle(Event::Tick, world.now + Duration::from_millis(300));
    assert!(!said.iter().any(|command| matches!(command, Command::Send(_, Message::Stop(_)))), "{said:?}");
}
