use esta_engine::{
    run::{Origin, Ready, StepTimings, Stop},
    table::Outcome,
};
use esta_proto::{Digest, LeaderEpoch, SlotId, StitchId};

use super::*;

fn fence(generation: u64) -> Fence {
    Fence { epoch: LeaderEpoch(1), generation: Generation(generation) }
}

fn session() -> Session {
    let identity = Identity { name: "w0".into(), incarnation: 1, layout_digest: Digest::default(), samples: 100 };
    Session::new(identity, 2, [])
}

fn form(rank: u32) -> Form {
    Form { rank: Rank(rank), world: 2, source: Rank(0), origin: Origin::Fresh }
}

fn plan(step: u64, reporter: Reporter) -> RankPlan {
    RankPlan {
        step: Step(step),
        digest: Digest([step as u8; 32]),
        table_version: Step(0),
        first_sample: 0,
        slots: vec![(SlotId(0), StitchId(0))],
        touched: vec![],
        slots_in_step: 1,
        reporter,
        durable: Step(0),
    }
}

fn report(step: u64) -> Report {
    let outcome = Outcome { score: 1.0, loss: 1.0, grad_norm: 1.0, valid: true };
    Report {
        step: Step(step),
        plan: Digest([step as u8; 32]),
        reduced: Digest::default(),
        outcomes: vec![outcome],
        timings: StepTimings::default(),
    }
}

/// A session that stands in generation 1 with `applied` steps.
fn standing(rank: u32, applied: u64) -> Session {
    let mut session = session();
    session.handle(Event::Received(fence(1), Message::Form(form(rank))));
    session.handle(Event::Trainer(TrainerEvent::Ready(Generation(1), Ready::at(Step(applied)))));
    session
}

fn run_step(session: &mut Session, step: u64, reporter: Reporter) -> Vec<Command> {
    session.handle(Event::Received(fence(1), Message::Plan(plan(step, reporter))));
    session.handle(Event::Trainer(TrainerEvent::Stepped(report(step))))
}

#[test]
fn plans_go_to_the_trainer_in_order_and_one_out_of_order_ends_the_group() {
    let mut session = standing(1, 5);
    let run = session.handle(Event::Received(fence(1), Message::Plan(plan(5, Reporter::No))));
    assert_eq!(run, [Command::Train(TrainerCommand::Run(Generation(1), plan(5, Reporter::No)))]);
    let skipped = session.handle(Event::Received(fence(1), Message::Plan(plan(7, Reporter::No))));
    assert_eq!(skipped[0], Command::Abandon(Generation(1)));
    let Command::Send(_, Reply::GroupFailed(reason)) = &skipped[1] else { panic!("{skipped:?}") };
    assert_eq!(reason, "the plan of step 7 arrived while step 6 was due");
}

#[test]
fn mb_2_score_vectors_are_kept_until_their_step_is_durable() {
    let mut session = standing(1, 0);
    let sent = run_step(&mut session, 0, Reporter::No);
    assert_eq!(sent, [Command::Send(fence(1), Reply::Report(Report { outcomes: vec![], ..report(0) }))]);
    run_step(&mut session, 1, Reporter::No);
    let hello = |session: &mut Session| match session.handle(Event::Connected).pop() {
        Some(Command::Send(_, Reply::Hello(hello))) => hello,
        other => panic!("{other:?}"),
    };
    assert_eq!(hello(&mut session).retained, [report(0), report(1)]);
    session.handle(Event::Received(fence(1), Message::Durable(Step(1))));
    assert_eq!(hello(&mut session).retained, [report(1)]);
    assert_eq!(hello(&mut session).applied, Some(Step(2)));
}

#[test]
fn only_rank_0_saves_and_a_checkpoint_waits_for_the_record() {
    let mut other = standing(1, 1);
    let commands = other.handle(Event::Received(fence(1), Message::Plan(plan(1, Reporter::No))));
    assert_eq!(commands.len(), 1, "rank 1 stages nothing");

    let mut session = standing(0, 1);
    let commands = session.handle(Event::Received(fence(1), Message::Plan(plan(1, Reporter::Yes))));
    assert_eq!(commands[1], Command::Train(TrainerCommand::Stage(Step(2))));
    assert_eq!(session.handle(Event::Trainer(TrainerEvent::Staged(Step(2)))), [], "steps 0 and 1 are not durable");
    let publish = session.handle(Event::Received(fence(1), Message::Durable(Step(2))));
    assert_eq!(publish, [Command::Train(TrainerCommand::Publish(Step(2)))]);
    let saved = session.handle(Event::Trainer(TrainerEvent::Published(Step(2))));
    assert_eq!(saved, [Command::Send(fence(1), Reply::CheckpointSaved(Step(2)))]);
}

#[test]
fn a_lost_generation_is_abandoned_at_once_and_the_state_is_kept() {
    let mut session = standing(0, 3);
    session.handle(Event::Received(fence(1), Message::Plan(plan(3, Reporter::Yes))));
    assert_eq!(
        session.handle(Event::Received(fence(1), Message::Lost("w1 left".into()))),
        [Command::Abandon(Generation(1))]
    );
    assert_eq!(session.applied(), Some(Step(3)));
    let late = session.handle(Event::Trainer(TrainerEvent::Broke(Generation(1), "peer".into())));
    assert_eq!(late, [], "the coordinator knows already");
}

#[test]
fn a_step_that_was_applied_is_a_fact_even_after_its_generation_ended() {
    let mut session = standing(0, 3);
    session.handle(Event::Received(fence(1), Message::Plan(plan(3, Reporter::Yes))));
    session.handle(Event::Received(fence(1), Message::Lost("w1 left".into())));
    let commands = session.handle(Event::Trainer(TrainerEvent::Stepped(report(3))));
    assert_eq!(commands, [Command::Send(fence(1), Reply::Report(report(3)))]);
    assert_eq!(session.applied(), Some(Step(4)));
}

#[test]
fn mb_1_messages_under_an_older_fence_are_ignored() {
    let mut session = session();
    session.handle(Event::Received(fence(4), Message::Form(form(0))));
    assert_eq!(session.handle(Event::Received(fence(3), Message::Lost("late".into()))), []);
    let old_epoch = Fence { epoch: LeaderEpoch(0), generation: Generation(9) };
    assert_eq!(session.handle(Event::Received(old_epoch, Message::Form(form(1)))), []);
}

#[test]
fn a_worker_trains_on_without_a_session_and_stops_when_told() {
    let mut session = standing(0, 0);
    session.handle(Event::Received(fence(1), Message::Plan(plan(0, Reporter::Yes))));
    assert_eq!(session.handle(Event::Disconnected), []);
    session.handle(Event::Trainer(TrainerEvent::Stepped(report(0))));
    assert_eq!(session.applied(), Some(Step(1)));
    let stop = Stop { reason: "the run is complete".into(), exit_code: 0 };
    let commands = session.handle(Event::Received(fence(1), Message::Stop(stop)));
    assert_eq!(commands.last(), Some(&Command::Exit("the run is complete".into(), 0)));
}

#[test]
fn a_worker_that_is_asked_to_leave_says_so_and_waits_to_be_told() {
    let mut session = standing(1, 0);
    session.handle(Event::Connected);
    assert_eq!(session.handle(Event::Drain), [Command::Send(fence(1), Reply::Draining)]);
    let left = |commands: &[Command]| matches!(commands.last(), Some(Command::Exit(_, 0)));
    assert!(left(&session.clone().handle(Event::Drain)), "a second request is an order");
    assert!(left(&session.handle(Event::Disconnected)), "nobody is there to tell it");
    assert!(left(&standing(1, 0).handle(Event::Drain)), "nobody is there to ask");
}

#[test]
fn a_worker_says_where_it_stands_until_its_group_is_over() {
    let mut session = standing(1, 5);
    session.handle(Event::Received(fence(1), Message::Plan(plan(5, Reporter::No))));
    session.handle(Event::Received(fence(1), Message::Plan(plan(6, Reporter::No))));
    session.handle(Event::Trainer(TrainerEvent::Stepped(report(5))));
    let standing = |session: &mut Session| match session.handle(Event::Connected).pop() {
        Some(Command::Send(_, Reply::Hello(hello))) => hello.standing,
        other => panic!("{other:?}"),
    };
    let held = vec![HeldShare { step: Step(6), plan: Digest([6; 32]), slots: vec![SlotId(0)] }];
    let expected = Standing { generation: Generation(1), rank: Rank(1), next: Step(7), held };
    assert_eq!(standing(&mut session), Some(expected));
    session.handle(Event::Trainer(TrainerEvent::Broke(Generation(1), "a peer is gone".into())));
    assert_eq!(standing(&mut session), None);
}

#[test]
fn mb_2_whoever_is_to_join_a_new_group_hands_over_what_is_not_durable() {
    let mut session = standing(1, 0);
    run_step(&mut session, 0, Reporter::No);
    run_step(&mut session, 1, Reporter::No);
    session.handle(Event::Received(fence(1), Message::Durable(Step(1))));
    let commands = session.handle(Event::Received(fence(2), Message::Form(form(0))));
    let handed: Vec<_> = commands
        .iter()
        .filter_map(|command| match command {
            Command::Send(_, Reply::Report(report)) => Some((report.step, report.outcomes.len())),
            _ => None,
        })
        .collect();
    assert_eq!(handed, [(Step(1), 1)]);
}

#[test]
fn rd_3_what_is_not_the_runs_is_given_up_even_if_the_trainer_says_it_later() {
    let mut session = standing(1, 5);
    run_step(&mut session, 5, Reporter::No);
    let commands = session.handle(Event::Received(fence(1), Message::Discard(Step(6))));
    assert_eq!(commands, [Command::Abandon(Generation(1)), Command::Train(TrainerCommand::Forget(Step(6)))]);
    assert_eq!(session.applied(), Some(Step(6)));
    assert_eq!(session.handle(Event::Trainer(TrainerEvent::Stepped(report(6)))), []);
    assert_eq!(session.handle(Event::Trainer(TrainerEvent::Staged(Step(8)))), []);
    assert_eq!(session.applied(), Some(Step(6)));
    let durable = session.handle(Event::Received(fence(1), Message::Durable(Step(9))));
    assert_eq!(durable, [], "a checkpoint of what is given up is never published");
}

fn seat(generation: u64) -> Seat {
    Seat { generation: Generation(generation), rank: Rank(1), world: 2 }
}

#[test]
fn a_group_that_was_built_beside_the_steps_is_entered_and_the_steps_go_on_meanwhile() {
    let mut session = standing(1, 5);
    let told = session.handle(Event::Received(fence(1), Message::Prepare(seat(2))));
    assert_eq!(told, [Command::Prepare(fence(2), seat(2))]);
    assert_eq!(run_step(&mut session, 5, Reporter::No).len(), 1, "it trains on where it stands");
    let stands = session.handle(Event::Trainer(TrainerEvent::Prepared(fence(2))));
    assert_eq!(stands, [Command::Send(fence(2), Reply::GroupPrepared)]);
    let commands = session.handle(Event::Received(fence(2), Message::Form(form(1))));
    assert_eq!(commands[0], Command::Abandon(Generation(1)));
    assert_eq!(commands.last(), Some(&Command::Train(TrainerCommand::Enter(fence(2), form(1)))));
}

#[test]
fn what_was_not_built_or_was_built_for_another_generation_is_not_entered() {
    let built_anew = [Command::Train(TrainerCommand::Form(fence(3), form(1)))];
    let mut session = session();
    session.handle(Event::Received(fence(1), Message::Prepare(seat(3))));
    assert_eq!(session.handle(Event::Received(fence(3), Message::Form(form(1)))), built_anew, "it does not stand yet");
    assert_eq!(session.handle(Event::Trainer(TrainerEvent::Prepared(fence(3)))), [], "nobody waits for it any more");

    let mut session = standing(1, 0);
    session.handle(Event::Received(fence(1), Message::Prepare(seat(2))));
    session.handle(Event::Trainer(TrainerEvent::Prepared(fence(2))));
    let commands = session.handle(Event::Received(fence(3), Message::Form(form(1))));
    assert_eq!(commands[1..], built_anew);
}

#[test]
fn mb_1_what_was_built_under_another_leader_is_not_entered() {
    let mut session = standing(1, 0);
    session.handle(Event::Received(fence(1), Message::Prepare(seat(2))));
    session.handle(Event::Trainer(TrainerEvent::Prepared(fence(2))));
    let later = Fence { epoch: LeaderEpoch(2), generation: Generation(2) };
    let commands = session.handle(Event::Received(later, Message::Form(form(1))));
    assert_eq!(commands.last(), Some(&Command::Train(TrainerCommand::Form(later, form(1)))));
}

#[test]
fn a_group_that_cannot_be_built_beside_the_steps_costs_nothing_and_the_coordinator_is_told_once() {
    let mut session = standing(1, 0);
    session.handle(Event::Received(fence(1), Message::Prepare(seat(2))));
    let failed = || Event::Trainer(TrainerEvent::NotPrepared(fence(2), "no way there".into()));
    let told = session.handle(failed());
    assert_eq!(told, [Command::Send(fence(2), Reply::GroupFailed("no way there".into()))]);
    assert_eq!(session.handle(failed()), []);
    assert_eq!(run_step(&mut session, 0, Reporter::No).len(), 1);
}

#[test]
fn what_makes_no_sense_ends_the_worker_with_a_reason_and_its_peers_hear_of_it() {
    let mut session = standing(1, 5);
    let commands = session.handle(Event::Misheard(crate::Nonsense::Stitch(StitchId(99))));
    let reason =
        "the coordinator says what makes no sense in this job: it names stitch 99, which the job does not have";
    let leaving = Reply::Leaving(reason.to_owned(), exit::MISFIT);
    let exit = Command::Exit(reason.to_owned(), exit::MISFIT);
    assert_eq!(commands, [Command::Abandon(Generation(1)), Command::Send(fence(1), leaving), exit]);
}

#[test]
fn a_group_is_formed_once_however_often_it_is_told() {
    let mut session = standing(1, 5);
    assert_eq!(session.handle(Event::Received(fence(1), Message::Form(form(1)))), [], "it stands");
    run_step(&mut session, 5, Reporter::Yes);
    assert_eq!(session.applied(), Some(Step(6)), "and goes on");
    session.handle(Event::Trainer(TrainerEvent::Broke(Generation(1), "a peer is gone".into())));
    assert_eq!(
        session.handle(Event::Received(fence(1), Message::Form(form(1)))),
        [],
        "the trainer would not build it again"
    );
}

#[test]
fn mb_1_a_leader_that_numbers_a_generation_again_hears_of_it() {
    let mut session = standing(1, 5);
    let again = Fence { epoch: LeaderEpoch(2), generation: Generation(1) };
    let said = session.handle(Event::Received(again, Message::Form(form(1))));
    let reason = "generation 1 was formed here before, under (epoch 1, generation 1)".to_owned();
    assert_eq!(said, [Command::Send(again, Reply::GroupFailed(reason))]);
}

#[test]
fn whatever_a_coordinator_gives_as_a_reason_is_one_line() {
    let ended = |reason: &str| {
        let stop = Stop { reason: reason.into(), exit_code: 5 };
        match standing(1, 0).handle(Event::Received(fence(1), Message::Stop(stop))).pop() {
            Some(Command::Exit(reason, 5)) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ended("ranks disagree\nabout \x1b[31mstep 3"), "ranks disagree about  [31mstep 3");
    assert_eq!(ended("\n"), "the coordinator ended this worker and gave no reason");
}
