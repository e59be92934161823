use esta_proto::Digest;

use super::{
    world::{World, law, reduced, undisturbed},
    *,
};

const SLOT: Duration = Duration::from_secs(1);

/// Workers whose slots take a second each, after so many steps that the leader knows it.
fn known(workers: u32) -> World {
    let mut world = World::new(law(), workers, Recovered::default());
    world.slot_time = Some(SLOT);
    world.join_many(workers);
    for _ in 0..20 {
        assert!(world.step());
    }
    world
}

fn generation(world: &World) -> u64 {
    world.run.members().generation().0
}

#[test]
fn whoever_waits_is_let_in_at_once_where_what_is_given_out_is_sooner_done_with_its_help() {
    let mut world = known(1);
    world.now += SLOT;
    world.join(World::fresh("w1"));
    assert_eq!((generation(&world), world.records.len()), (2, 20), "1 s is lost, and two steps take 2 s less each");
    world.run_to_end();
    assert_eq!(world.records, undisturbed(1));
}

#[test]
fn near_the_end_of_a_long_step_too_since_what_was_summed_is_kept() {
    let mut world = known(1);
    world.now += 5 * SLOT;
    world.join(World::fresh("w1"));
    assert_eq!((generation(&world), world.records.len()), (2, 20), "1 s is lost for 4");
}

#[test]
fn what_it_takes_to_build_a_group_is_lost_too() {
    let mut world = known(1);
    world.run.forming.1 = 6 * SLOT;
    world.join(World::fresh("w1"));
    assert_eq!(generation(&world), 1);
}

#[test]
fn a_spare_waits_until_every_step_given_out_is_done() {
    let mut world = known(4);
    world.join(World::fresh("w4"));
    world.step();
    assert_eq!(generation(&world), 1, "of five ranks one has no slot of four");
    world.step();
    assert_eq!(generation(&world), 2);
}

#[test]
fn rd_3_while_ranks_disagree_nobody_is_let_in() {
    let mut world = known(3);
    let reports: Vec<(SessionId, Report)> = [(1, reduced(Step(20))), (2, Digest([99; 32]))]
        .into_iter()
        .map(|(session, reduced)| {
            let plan = world.alive.get_mut(&SessionId(session)).expect("it lives").pending.remove(0);
            let report = world.apply(SessionId(session), plan, &[]);
            (SessionId(session), Report { reduced, ..report })
        })
        .collect();
    reports.into_iter().for_each(|(session, report)| world.event(Event::Reported(session, report)));
    world.join(World::fresh("w3"));
    assert_eq!(generation(&world), 1, "the third has yet to say who is right");
}
