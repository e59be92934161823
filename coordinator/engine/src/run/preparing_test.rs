use esta_proto::Rank;

use super::{
    world::{Fake, World, law, undisturbed},
    *,
};

/// Workers that train and build groups when they are told to, as a test says.
fn training(workers: u32) -> World {
    let mut world = World::new(law(), workers, Recovered::default());
    world.join_many(workers);
    world.prepares_at_once = false;
    for _ in 0..5 {
        assert!(world.step());
    }
    world
}

fn generation(world: &World) -> u64 {
    world.run.members().generation().0
}

/// Generations that were announced and did not come.
fn forgone(world: &World) -> Vec<u64> {
    let forgone = |notice: &Notice| match notice {
        Notice::Forgone(generation, _) => Some(generation.0),
        _ => None,
    };
    world.notices.iter().filter_map(forgone).collect()
}

fn fail(world: &mut World) {
    let (session, seat) = world.preparing.remove(0);
    world.preparing.clear();
    let fence = Fence { generation: seat.generation, ..world.run.fence() };
    world.event(Event::GroupFailed(session, fence, "no way there".to_owned()));
}

#[test]
fn while_the_group_with_a_joiner_is_built_the_others_train_on() {
    let mut world = training(2);
    let joiner = world.join(World::fresh("w2"));
    let seats: Vec<(u64, u32, u32)> =
        world.preparing.iter().map(|(session, seat)| (session.0, seat.rank.0, seat.world)).collect();
    assert_eq!(seats, [(1, 0, 3), (2, 1, 3), (3, 2, 3)]);
    for _ in 0..10 {
        assert!(world.step(), "nobody waits for the joiner");
    }
    assert_eq!((generation(&world), world.records.len()), (1, 15));
    world.prepared();
    while generation(&world) == 1 {
        assert!(world.step());
    }
    assert_eq!((generation(&world), world.alive[&joiner].rank), (2, Some(Rank(2))));
    assert!(world.records.len() <= 17, "what was given out is done, and nothing more");
    world.run_to_end();
    assert_eq!(world.records, undisturbed(2));
}

#[test]
fn a_joiner_that_dies_before_its_group_is_built_costs_the_others_nothing() {
    let mut world = training(2);
    let joiner = world.join(World::fresh("w2"));
    world.kill(joiner);
    assert_eq!((generation(&world), forgone(&world)), (1, vec![2]));
    world.prepared();
    world.run_to_end();
    assert_eq!(generation(&world), 1);
    assert_eq!(world.records, undisturbed(2));
}

#[test]
fn one_that_dies_after_it_leaves_the_others_where_they_were() {
    let mut world = training(2);
    let joiner = world.join(World::fresh("w2"));
    world.prepared();
    world.kill(joiner);
    assert!(world.step() && world.step() && world.step(), "the run was closing");
    assert_eq!((generation(&world), forgone(&world)), (1, vec![2]));
}

#[test]
fn a_joiner_that_cannot_be_reached_is_turned_away_and_holds_up_nobody() {
    let mut world = training(2);
    let joiner = world.join(World::fresh("w2"));
    for _ in 0..3 {
        fail(&mut world);
        assert!(world.step(), "the next attempt is made with the next step");
    }
    assert_eq!(world.alive[&joiner].stopped.as_ref().map(|stop| stop.exit_code), Some(exit::UNREACHABLE));
    assert_eq!((generation(&world), forgone(&world)), (1, vec![2, 3, 4]));
    world.prepares_at_once = true;
    world.join(World::fresh("w3"));
    world.run_to_end();
    assert_eq!(generation(&world), 5, "the next one may do better");
    assert_eq!(world.records, undisturbed(2));
}

#[test]
fn mb_1_a_number_that_a_group_was_prepared_under_is_given_to_no_other() {
    let mut world = training(3);
    world.join(World::fresh("w3"));
    world.kill(SessionId(2));
    assert_eq!((generation(&world), forgone(&world)), (3, vec![2]));
    world.prepared();
    assert_eq!(generation(&world), 3, "who is late with what is gone says nothing");
}

#[test]
fn whoever_leaves_trains_until_the_others_have_a_group_without_it() {
    let mut world = training(3);
    world.event(Event::Draining(SessionId(2)));
    assert_eq!(world.preparing.iter().map(|(session, _)| session.0).collect::<Vec<_>>(), [1, 3]);
    assert!(world.step() && world.step() && world.step());
    assert_eq!((generation(&world), world.alive[&SessionId(2)].stopped.clone()), (1, None));
    world.prepared();
    while generation(&world) == 1 {
        assert!(world.step());
    }
    assert_eq!(world.alive[&SessionId(2)].stopped.as_ref().map(|stop| stop.exit_code), Some(exit::DONE));
    world.alive.remove(&SessionId(2));
    world.run_to_end();
    assert_eq!(world.records, undisturbed(3));
}

#[test]
fn whoever_leaves_goes_without_another_group_where_none_can_be_built() {
    let mut world = training(3);
    world.event(Event::Draining(SessionId(2)));
    for _ in 0..3 {
        fail(&mut world);
        assert!(world.step());
    }
    while generation(&world) == 1 {
        assert!(world.step());
    }
    assert!(world.alive[&SessionId(2)].stopped.is_some());
    assert_eq!(generation(&world), 5, "built when the three before were burnt");
}

#[test]
fn the_last_worker_leaves_when_its_steps_are_done() {
    let mut world = training(1);
    world.event(Event::Draining(SessionId(1)));
    assert_eq!(world.preparing.len(), 0);
    while world.step() {}
    assert!(world.alive[&SessionId(1)].stopped.is_some());
    assert!(world.records.len() < 10);
}

#[test]
fn whoever_comes_while_a_group_is_built_is_in_the_next_one() {
    let mut world = training(1);
    for name in ["w1", "w2", "w3"] {
        world.join(World::fresh(name));
    }
    assert_eq!(world.preparing.len(), 2);
    world.prepared();
    while generation(&world) == 1 {
        assert!(world.step());
    }
    assert_eq!(world.preparing.iter().map(|(_, seat)| seat.world).collect::<Vec<_>>(), [4; 4]);
    world.prepared();
    world.run_to_end();
    assert_eq!(generation(&world), 3);
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn many_who_leave_at_once_are_met_by_two_groups() {
    let mut world = training(8);
    for session in 2..=7 {
        world.event(Event::Draining(SessionId(session)));
    }
    assert_eq!(forgone(&world), [2], "the first wish began a group with five who leave");
    world.prepared();
    assert!(world.step());
    assert_eq!(world.preparing.iter().map(|(session, _)| session.0).collect::<Vec<_>>(), [1, 8]);
}

#[test]
fn a_new_leader_prepares_anew_what_its_predecessor_began() {
    let mut world = training(2);
    world.join(World::fresh("w2"));
    let fakes: Vec<Fake> = world.alive.values().cloned().collect();
    let recovered = Recovered {
        steps: world.records.clone(),
        generation: Generation(1),
        members: vec!["w0".to_owned(), "w1".to_owned()],
        samples: Some(100),
        ..Recovered::default()
    };
    let mut next = World::new(law(), 2, recovered);
    next.prepares_at_once = false;
    for fake in fakes {
        next.join(fake);
    }
    assert_eq!((generation(&next), next.run.phase_name()), (1, "running"));
    let seats: Vec<(u64, u32)> = next.preparing.iter().map(|(_, seat)| (seat.generation.0, seat.world)).collect();
    assert_eq!(seats, [(2, 3); 3], "the number is the old one, the epoch is not");
    let of_the_old = Fence { epoch: LeaderEpoch(1), generation: Generation(2) };
    for session in 1..=3 {
        next.event(Event::GroupPrepared(SessionId(session), of_the_old));
    }
    next.run_to_end();
    assert_eq!(generation(&next), 1, "nobody entered what was built under the old leader");
    assert_eq!(next.records, undisturbed(2));
}
