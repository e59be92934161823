//! The law of a run under whatever comes in whatever order: `proptest` draws what happens next, and every command is
//! weighed by small checks, one for each invariant (`disorder_test/invariants.rs`). What fails is made as short as can be.
//!
//! Workers are true to the protocol but for what a deed says; what they say and hear waits until a deed delivers it.

#[path = "disorder_test/invariants.rs"]
mod invariants;
#[path = "disorder_test/party.rs"]
mod party;
#[path = "disorder_test/records.rs"]
mod records;
#[path = "disorder_test/workers.rs"]
mod workers;

use proptest::{collection::vec, prelude::*};

use self::party::{Outcome, Party};

/// Something that happens next. Who it happens to is a number, of which the remainder counts.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// A worker begins a session; a process of it that never was, or the one that was.
    Join(usize, bool),
    /// A session ends. What its worker said on it and nobody heard is lost, or is heard before.
    Leave(usize, bool),
    /// A worker's process dies.
    Die(usize),
    /// A worker hears some of what it was told.
    Hear(usize, usize),
    /// The leader hears some of what a worker said.
    Say(usize, usize),
    /// A group whose ranks have all come to form it stands for all of them.
    Stand,
    /// A rank's group breaks.
    Break(usize),
    /// A group reduces a step: for all of its ranks, or for this one alone, before it breaks.
    Reduce(Option<usize>),
    /// A worker has built its end of a group to come, or cannot.
    Prepare(usize, bool),
    /// A report that was said before is said again, of another plan perhaps.
    Repeat(usize, bool),
    /// A worker's next step is reduced to something that nobody else has.
    Lie(usize),
    /// A worker says that a checkpoint of this many steps is complete, whether it is or not.
    Boast(usize, u64),
    /// A worker is asked to leave.
    Drain(usize),
    /// A worker says what it is at.
    Beat(usize),
    /// A worker has done what the end asked of it.
    Finish(usize),
    /// So many records become durable.
    Write(usize),
    /// The leader is gone, and of what it was writing so many records are durable.
    Fall(usize),
    /// So many tenths of a second pass.
    Wait(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    let who = 0..party::WORKERS;
    let some = 1_usize..6;
    prop_oneof![
        4 => (who.clone(), any::<bool>()).prop_map(|(who, anew)| Deed::Join(who, anew)),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, heard)| Deed::Leave(who, heard)),
        1 => who.clone().prop_map(Deed::Die),
        8 => (who.clone(), some.clone()).prop_map(|(who, many)| Deed::Hear(who, many)),
        8 => (who.clone(), some.clone()).prop_map(|(who, many)| Deed::Say(who, many)),
        6 => Just(Deed::Stand),
        1 => who.clone().prop_map(Deed::Break),
        8 => prop_oneof![6 => Just(None), 1 => who.clone().prop_map(Some)].prop_map(Deed::Reduce),
        2 => (who.clone(), prop::bool::weighted(0.8)).prop_map(|(who, well)| Deed::Prepare(who, well)),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, other)| Deed::Repeat(who, other)),
        1 => (who.clone(), 1_u64..14).prop_map(|(who, step)| Deed::Boast(who, step)),
        1 => who.clone().prop_map(Deed::Drain),
        1 => who.clone().prop_map(Deed::Beat),
        2 => who.prop_map(Deed::Finish),
        6 => some.clone().prop_map(Deed::Write),
        1 => (0_usize..4).prop_map(Deed::Fall),
        2 => (1_u64..40).prop_map(Deed::Wait),
    ]
}

/// Deeds, and what becomes of most of them at once: left to chance alone, nothing would ever be heard of in time.
fn deeds() -> impl Strategy<Value = Vec<(Deed, bool)>> {
    vec((deed(), prop::bool::weighted(0.5)), 1..160)
}

fn carried_out(deeds: Vec<(Deed, bool)>) -> Result<Party, TestCaseError> {
    let mut party = Party::new();
    for (deed, and_what_follows) in deeds {
        let done = party.befall(deed).and_then(|()| if and_what_follows { party.pass_on() } else { Ok(()) });
        done.map_err(TestCaseError::fail)?;
    }
    Ok(party)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_run_goes_on_to_its_end_and_its_record_is_that_of_a_run_that_nothing_disturbs(deeds in deeds()) {
        let mut party = carried_out(deeds)?;
        prop_assert_eq!(party.finish().map_err(TestCaseError::fail)?, Outcome::Undisturbed);
    }

    #[test]
    fn rd_3_a_rank_that_differs_from_the_others_leaves_every_invariant_as_it_is(
        before in deeds(), who in 0..party::WORKERS, after in deeds(),
    ) {
        let lie = std::iter::once((Deed::Lie(who), false));
        let mut party = carried_out(before.into_iter().chain(lie).chain(after).collect())?;
        party.finish().map_err(TestCaseError::fail)?;
    }
}
