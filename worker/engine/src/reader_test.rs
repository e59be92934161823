use std::collections::BTreeMap;

use esta_engine::{
    palette::Choice,
    plan::Reporter,
    run::{Ledger, Stop},
    spec::PaletteRule,
    wire::to_worker,
};
use esta_proto::{BudgetId, Fence, Generation};

use super::*;

const SPEC: &str = r#"{
    "name": "test", "seed": 7,
    "family": { "anchors": [
        { "name": "a", "weights": "a", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 4, "depth": 3, "num_heads": 2 } },
        { "name": "b", "weights": "b", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 3, "num_heads": 2 } }
    ] },
    "budgets": { "gap": 2000 },
    "sampling": { "slots": 4, "lookahead": 1 },
    "train": { "max_steps": 40, "batch_size": 8 },
    "data": { "num_classes": 3, "train": { "layout": "idx", "path": "x" } }
}"#;
const EPOCH: LeaderEpoch = LeaderEpoch(2);

fn law() -> Arc<Law> {
    let spec = serde_json::from_str(SPEC).expect("the test's spec parses");
    Arc::new(Law::new(spec).expect("the test's spec is valid"))
}

/// What becomes of a message of this epoch.
fn read(epoch: LeaderEpoch, message: &Message) -> Result<Inbound, Nonsense> {
    let fence = Fence { epoch, generation: Generation(1) };
    let body = Some(to_worker(message));
    let message = v1::CoordinatorMessage { fence: Some(fence.into()), traceparent: String::new(), body };
    Reader::new(&law(), 100).read(EPOCH, message)
}

fn flaw(message: &Message) -> String {
    read(EPOCH, message).expect_err("it makes no sense").to_string()
}

/// The first of two shares of the second step.
fn share() -> RankPlan {
    let ledger = Ledger::new(law(), 40);
    let plan = ledger.plan(Step(1)).expect("it is drawn");
    let mut share = plan.shares(&law().catalog, &Default::default(), &[1.0, 1.0], &BTreeMap::new()).remove(0);
    share.slots.truncate(1);
    share
}

#[test]
fn what_a_leader_gives_out_is_read() {
    let plan = Message::Plan(share());
    let again = Message::Plan(RankPlan { durable: Step(30), ..share() });
    let stop = Message::Stop(Stop { reason: "done".into(), exit_code: 0 });
    for message in [plan, again, stop, Message::Durable(Step(40)), Message::Lost("w left".into())] {
        let Ok(Inbound::Law(_, read)) = read(EPOCH, &message) else { panic!("{message:?}") };
        assert_eq!(read, message);
    }
}

#[test]
fn a_plan_that_no_draw_of_the_job_makes_is_refused_by_what_is_wrong_with_it() {
    let said = |change: &dyn Fn(&mut RankPlan)| {
        let mut plan = share();
        change(&mut plan);
        flaw(&Message::Plan(plan))
    };
    let (slot, stitch) = share().slots[0];
    let (group, count) = *share().touched.last().expect("it touches something");
    assert_eq!(said(&|plan| plan.step = Step(40)), "it speaks of step 40, and the run has 40");
    assert_eq!(said(&|plan| plan.step = Step(u64::MAX)), format!("it speaks of step {}, and the run has 40", u64::MAX));
    assert_eq!(said(&|plan| plan.slots[0].1 = StitchId(9999)), "it names stitch 9999, which the job does not have");
    assert_eq!(said(&|plan| plan.first_sample = 16), "the plan of step 1 begins at sample 16 instead of 8");
    assert_eq!(said(&|plan| plan.slots_in_step = 5), "the plan of step 1 has 5 slots instead of 4");
    assert_eq!(said(&|plan| plan.slots[0].0 = SlotId(4)), "the plan of step 1 gives slot 4 out of turn");
    let twice = format!("the plan of step 1 gives slot {slot} out of turn");
    assert_eq!(said(&|plan| plan.slots.push((slot, stitch))), twice);
    assert_eq!(said(&|plan| plan.durable = Step(41)), "it speaks of step 41, and the run has 40");
    assert_eq!(said(&|plan| plan.table_version = Step(3)), "the plan of step 1 is drawn after 3 steps");
    let touched =
        |count: u32, group: GroupId| format!("the plan of step 1 says that {count} slots touch group {group}");
    assert_eq!(said(&|plan| plan.touched.last_mut().expect("one").1 = 5), touched(5, group));
    assert_eq!(said(&|plan| plan.touched.push((GroupId(70_000), count))), touched(count, GroupId(70_000)));
    let own = law().layout.touched(stitch)[0];
    assert_eq!(said(&|plan| plan.touched.retain(|(group, _)| *group != own)), touched(0, own));
    assert_eq!(share().reporter, Reporter::Yes);
}

#[test]
fn other_messages_are_refused_where_the_job_cannot_follow_them() {
    let form = Form { rank: Rank(1), world: 2, source: Rank(0), origin: Origin::Memory(Step(3)) };
    assert_eq!(flaw(&Message::Form(Form { rank: Rank(2), ..form })), "it speaks of rank 2 in a group of 2");
    assert_eq!(flaw(&Message::Form(Form { source: Rank(7), ..form })), "it speaks of rank 7 in a group of 2");
    let crowd = Form { world: u32::MAX, ..form };
    assert_eq!(flaw(&Message::Form(crowd)), format!("it speaks of rank 1 in a group of {}", u32::MAX));
    let late = Form { origin: Origin::Checkpoint(Step(41)), ..form };
    for message in [Message::Form(late), Message::Durable(Step(41)), Message::Discard(Step(41))] {
        assert_eq!(flaw(&message), "it speaks of step 41, and the run has 40");
    }
    let choice = Choice { budget: BudgetId(0), stitch: StitchId(9999), macs: 1, params: 1, value: 1.0, latency: None };
    let finish = Finish { writer: true, palettes: vec![(PaletteRule::Snip, vec![choice])] };
    assert_eq!(flaw(&Message::Finish(finish)), "it names stitch 9999, which the job does not have");
    let other = read(LeaderEpoch(9), &Message::Form(form)).expect_err("another leader's").to_string();
    assert_eq!(other, "it is of epoch 9 in a session of epoch 2");
    let empty = Reader::new(&law(), 100).read(EPOCH, v1::CoordinatorMessage::default()).expect_err("it is empty");
    assert_eq!(empty.to_string(), "CoordinatorMessage lacks its field fence");
}
