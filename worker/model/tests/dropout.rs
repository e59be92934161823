//! LoRA dropout draws from libtorch's one generator, seeded at the start of every slot: alone in its process, so that no
//! other test draws in between.

#[path = "model/fixture.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod fixture;

use esta_model::{Input, Slot, SlotOptions, Teacher, run_slot};
use esta_proto::StitchId;
use fixture::{Family, batch};
use serde_json::json;

#[test]
fn a_slots_dropout_is_a_function_of_its_seed_and_a_teacher_draws_none() {
    let family = Family::trained(json!({ "pst": { "lora_dropout": 0.5 } }));
    let (images, labels) = batch(8);
    let with = |dropout_seed, options: &SlotOptions| {
        let slot = Slot { stitch: family.longest(), input: &Input::from(&images), labels: &labels, dropout_seed };
        run_slot(&family.net, &family.store, &slot, options).expect("it runs")
    };
    let run = |dropout_seed| with(dropout_seed, &SlotOptions::default());
    let first = run(1);
    assert_ne!(first.loss, run(2).loss);
    let again = run(1);
    assert_eq!((first.loss, first.score), (again.loss, again.score));
    assert_eq!(first.grads, again.grads);

    // In two passes: had the teacher drawn in the first, the second would draw otherwise.
    let alone = SlotOptions { micro_batches: 2, ..SlotOptions::default() };
    let teacher = Some(Teacher { stitch: StitchId(1), weight: 0.5, temperature: 1.0 });
    let taught = with(3, &SlotOptions { teacher, ..alone.clone() });
    assert_eq!(taught.loss, with(3, &alone).loss);
    assert_ne!(taught.grads, with(3, &alone).grads);
}
