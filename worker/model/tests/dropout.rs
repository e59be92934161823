//! LoRA dropout draws from libtorch's one generator, seeded at the start of every slot: alone in its process, so that no
//! other test draws in between.

#[path = "model/fixture.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod fixture;

use esta_model::{Slot, SlotOptions, run_slot};
use fixture::{Family, batch};
use serde_json::json;

#[test]
fn a_slots_dropout_is_a_function_of_its_seed() {
    let family = Family::trained(json!({ "pst": { "lora_dropout": 0.5 } }));
    let (images, labels) = batch(8);
    let run = |dropout_seed| {
        let slot = Slot { stitch: family.longest(), images: &images, labels: &labels, dropout_seed };
        run_slot(&family.net, &family.store, &slot, &SlotOptions::default()).expect("it runs")
    };
    let first = run(1);
    assert_ne!(first.loss, run(2).loss);
    let again = run(1);
    assert_eq!((first.loss, first.score), (again.loss, again.score));
    assert_eq!(first.grads, again.grads);
}
