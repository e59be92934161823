//! The same slot gives the same bits: first or later, wherever its tensors lie, at any width.

use esta_model::{Input, Slot, SlotOptions, SlotResult, run_slot};
use esta_proto::StitchId;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::fixture::{Family, batch};

fn bits(result: &SlotResult) -> (u64, u64, u64, Vec<f32>) {
    let grads = Vec::<f32>::try_from(&result.grads).expect("f32");
    (result.loss.to_bits(), result.score.to_bits(), result.grad_norm.to_bits(), grads)
}

/// Widths at which matrix products take their vectorised and blocked paths, and odd ones.
fn wide(widths: [u32; 2]) -> Value {
    let arch = |width: u32| json!({ "image_size": 8, "patch_size": 2, "in_chans": 1, "embed_dim": width, "depth": 2, "num_heads": 3 });
    let anchor = |width: u32| json!({ "name": format!("w{width}"), "arch": arch(width), "weights": "-" });
    json!({ "family": { "anchors": widths.map(anchor) } })
}

#[test]
fn a_slot_gives_the_same_bits_first_or_later() {
    let family = Family::trained(wide([48, 96]));
    let path = family.longest();
    let first = bits(&family.run(path, &SlotOptions::default()));
    for other in family.stitches() {
        let _between = family.run(other, &SlotOptions::default());
    }
    assert_eq!(first, bits(&family.run(path, &SlotOptions::default())));
    assert_eq!(first, bits(&Family::trained(wide([48, 96])).run(path, &SlotOptions::default())), "in another store");
}

#[test]
fn a_slot_gives_the_same_bits_wherever_its_images_lie() {
    for widths in [[48, 96], [33, 75]] {
        let family = Family::trained(wide(widths));
        let (images, labels) = batch(8);
        let expected = bits(&family.run(family.longest(), &SlotOptions::default()));
        for shift in 1..17 {
            let room = Tensor::zeros([images.numel() as i64 + shift], (Kind::Float, Device::Cpu));
            let mut shifted = room.narrow(0, shift, images.numel() as i64).view_as(&images);
            shifted.copy_(&images);
            let slot =
                Slot { stitch: family.longest(), input: &Input::from(&shifted), labels: &labels, dropout_seed: 1 };
            let found = run_slot(&family.net, &family.store, &slot, &SlotOptions::default()).expect("it runs");
            assert_eq!(expected, bits(&found), "{shift} numbers further");
        }
    }
}

#[test]
fn a_slot_gives_the_same_bits_wherever_its_parameters_lie() {
    // The second anchor's parameters follow the first's: another first width moves them. Each keeps its alignment, by
    // which some matrix products round (seen with MKL at rank 8 and width 48).
    let rank = |first: u32| {
        let mut changes = wide([first, 48]);
        changes["mode"] = json!("anchor");
        changes["pst"] = json!({ "lora_r": 8 });
        Family::trained(changes)
    };
    let run = |family: &Family| bits(&family.run(StitchId(1), &SlotOptions::default()));
    let place =
        |family: &Family| family.store.touched(StitchId(1)).next().expect("it touches groups").params[0].range.start;
    let expected = rank(27);
    for first in [33, 36, 45] {
        let family = rank(first);
        assert_ne!(place(&expected), place(&family));
        let mut params = family.store.groups().iter().flat_map(|group| &group.params);
        assert!(params.all(|param| param.range.start % 16 == 0), "on a cache line");
        assert_eq!(run(&expected), run(&family), "behind a width of {first}");
    }
}
