//! Every check can fail: each is shown what it is there for.

use esta_engine::{
    law::Law,
    order::Visit,
    run::{Ledger, Message, StepRecord},
};
use esta_proto::{Digest, Fence, Generation, LeaderEpoch, Rank, SlotId, Step, StitchId};

use super::*;
use crate::{
    group::State,
    job::{self, SAMPLES},
};

fn fence(epoch: u64, generation: u64) -> Fence {
    Fence { epoch: LeaderEpoch(epoch), generation: Generation(generation) }
}

fn violates(check: Result<(), Violation>) -> &'static str {
    check.expect_err("it does not hold").invariant
}

#[test]
fn mb_1_a_worker_that_goes_back_and_a_leader_that_is_not_the_last_are_seen() {
    assert_eq!(mb_1("w0", fence(2, 5), fence(3, 4)), Ok(()));
    assert_eq!(violates(mb_1("w0", fence(2, 5), fence(2, 4))), "MB-1");
    assert_eq!(violates(mb_1("w0", fence(2, 5), fence(1, 9))), "MB-1");
    let speaks = |sound, epoch| leads_alone(sound, LeaderEpoch(epoch), LeaderEpoch(3));
    assert_eq!((speaks(true, 3), speaks(false, 2)), (Ok(()), Ok(())));
    assert_eq!(violates(speaks(true, 2)), "MB-1");
}

#[test]
fn mb_2_a_step_that_is_called_durable_before_it_is_on_record_is_seen() {
    let told = |step| mb_2(&Message::Durable(Step(step)), Step(7));
    assert_eq!((told(6), told(7)), (Ok(()), Ok(())));
    assert_eq!(violates(told(8)), "MB-2");
}

#[test]
fn st_1_a_slot_that_runs_twice_or_nowhere_is_seen() {
    let slots = |slots: &[u32]| slots.iter().copied().map(SlotId).collect();
    assert_eq!(st_1(Step(0), 3, slots(&[2, 0, 1])), Ok(()));
    for wrong in [&[0, 1][..], &[0, 1, 1], &[0, 1, 2, 2], &[1, 2, 3]] {
        assert_eq!(violates(st_1(Step(0), 3, slots(wrong))), "ST-1");
    }
}

#[test]
fn rd_3_ranks_that_differ_and_checkpoints_of_something_else_are_seen() {
    let held = |chains: &[u8]| (0..).map(Rank).zip(chains.iter().map(|byte| Digest([*byte; 32]))).collect::<Vec<_>>();
    assert_eq!(rd_3::of_ranks(Step(0), &held(&[1, 1, 1])), Ok(()));
    assert_eq!(violates(rd_3::of_ranks(Step(0), &held(&[1, 1, 2]))), "RD-3");
    let calm = job::calm(&job::law(1));
    let state = State { applied: Step(10), chain: calm[9].reduced, drifted: false };
    assert_eq!(rd_3::of_a_checkpoint(&state, &calm), Ok(()));
    for wrong in
        [State { applied: Step(9), ..state }, State { drifted: true, ..state }, State { applied: Step(151), ..state }]
    {
        assert_eq!(violates(rd_3::of_a_checkpoint(&wrong, &calm)), "RD-3");
    }
}

/// What steps of so many samples read, one after another.
fn read(law: &Law, steps: u64, batch: u64) -> Vec<Vec<Visit>> {
    let mut order = job::order(law);
    (0..steps).map(|step| (step * batch..(step + 1) * batch).map(|counter| order.sample(counter)).collect()).collect()
}

#[test]
fn dt_1_a_sample_that_is_left_out_doubled_or_of_another_epoch_is_seen() {
    let whole = read(&job::law(1), 60, 8);
    let check =
        |steps: &[Vec<Visit>]| dt_1(SAMPLES, (0..).map(Step).zip(steps.iter().map(|read| Some(read.as_slice()))));
    assert_eq!(check(&whole), Ok(()));
    let changed = |change: &dyn Fn(&mut Vec<Vec<Visit>>)| {
        let mut steps = whole.clone();
        change(&mut steps);
        violates(check(&steps))
    };
    assert_eq!(changed(&|steps| steps[20] = steps[19].clone()), "DT-1", "a step's samples twice");
    assert_eq!(changed(&|steps| drop(steps.remove(30))), "DT-1", "a step's samples left out");
    assert_eq!(changed(&|steps| steps[3].truncate(7)), "DT-1", "one sample left out");
    assert_eq!(changed(&|steps| steps[5][1] = steps[5][0]), "DT-1", "one sample twice");
    assert_eq!(changed(&|steps| steps[5][0].epoch += 1), "DT-1", "a sample of the next epoch");
    assert_eq!(changed(&|steps| steps[5][0].index = SAMPLES), "DT-1", "a sample that there is not");
    assert_eq!(violates(dt_1(SAMPLES, [(Step(0), None)].into_iter())), "DT-1", "nobody read anything");
}

#[test]
fn at_the_end_every_difference_to_an_undisturbed_run_is_seen() {
    let law = job::law(1);
    let calm = job::calm(&law);
    let check = |records: &[StepRecord]| equals_the_undisturbed_run(&law, &calm, records);
    assert_eq!(check(&calm), Ok(()));
    let changed = |change: &dyn Fn(&mut Vec<StepRecord>)| {
        let mut records = calm.clone();
        change(&mut records);
        violates(check(&records))
    };
    assert_eq!(changed(&|records| drop(records.pop())), "MB-2");
    assert_eq!(changed(&|records| records[7].draws[0].stitch = StitchId(999)), "ST-2");
    assert_eq!(changed(&|records| records[7].table_version = Step(7)), "ST-2");
    assert_eq!(changed(&|records| records[7].outcomes[2].score += 1e-9), "SC-2");
    assert_eq!(changed(&|records| records[7].outcomes.swap(0, 1)), "SC-2");
    assert_eq!(changed(&|records| records[7].reduced = Digest([0; 32])), "RD-4");
}

#[test]
fn sc_2_a_table_that_is_not_the_records_is_seen() {
    let law = job::law(1);
    let calm = job::calm(&law);
    let ledger = Ledger::replay(law.clone(), calm.len() as u64, calm.clone()).expect("it is this run's");
    assert_eq!(equals_the_serial_replay(&law, &calm, ledger.table()), Ok(()));
    assert_eq!(violates(equals_the_serial_replay(&law, &calm[1..], ledger.table())), "SC-2", "one step more");
    let mut twice = calm.clone();
    let scored = twice.iter_mut().find(|record| record.outcomes.iter().all(|outcome| outcome.valid));
    scored.expect("most steps count").outcomes[0].loss += 1e-6;
    assert_eq!(violates(equals_the_serial_replay(&law, &twice, ledger.table())), "SC-2", "another loss");
}
