//! Blocks that take turns in memory: the same bits as with all of them there, read again at every use or brought by somebody.

use std::fs;

use esta_engine::shard::{BlockId, Order, Tour};
use esta_engine::spec::StitchInit;
use esta_model::{
    HubError, PacedSlot, Phase, Slot, SlotOptions, SlotResult, StitchedNet, Teacher, Weights, WeightsError, Windows,
    fit_layers, run_slot,
};
use esta_proto::{AnchorId, StitchId};
use serde_json::json;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use crate::llama::{Speakers, batch};

/// Anchors on disk, and the same networks over windows.
struct Taking {
    whole: Speakers,
    folders: TempDir,
    frozen: Weights,
    windows: Arc<Windows>,
    net: StitchedNet,
}

impl Taking {
    fn turns(changes: serde_json::Value) -> Self {
        let whole = Speakers::trained(changes);
        let folders = tempfile::tempdir().expect("a folder");
        for number in 0..whole.catalog.anchors.len() {
            let folder = folders.path().join(number.to_string());
            fs::create_dir(&folder).expect("an empty folder");
            // Two files, so that a block's tensors lie apart.
            let mut halves = [Weights::new("a"), Weights::new("b")];
            let mut index = serde_json::Map::new();
            for (place, (name, tensor)) in whole.frozen.iter().enumerate() {
                if let Some(name) = name.strip_prefix(&format!("anchors.{number}.")) {
                    halves[place % 2].insert(name, tensor.shallow_clone());
                    index.insert(name.to_owned(), json!(format!("part-{}.safetensors", place % 2)));
                }
            }
            for (place, half) in halves.iter().enumerate() {
                half.save(&folder.join(format!("part-{place}.safetensors"))).expect("it is written");
            }
            let index = json!({ "weight_map": index }).to_string();
            fs::write(folder.join("model.safetensors.index.json"), index).expect("it is written");
        }
        let (mut frozen, windows) = Self::open(&whole, &folders).expect("whole folders");
        for (name, tensor) in whole.frozen.iter().filter(|(name, _)| name.starts_with("stitch_layers.")) {
            frozen.insert(name, tensor.shallow_clone());
        }
        let (pst, precision) = (&whole.spec.pst, whole.spec.train.precision);
        let net = StitchedNet::new(&whole.catalog, &whole.store, &frozen, pst, precision).expect("all is there");
        Self { whole, folders, frozen, windows, net }
    }

    fn open(whole: &Speakers, folders: &TempDir) -> Result<(Weights, Arc<Windows>), HubError> {
        let (mut frozen, mut windows) = (Weights::new("anchors"), Windows::new());
        for (number, arch) in whole.catalog.anchors.iter().enumerate() {
            let folder = folders.path().join(number.to_string());
            let arch = arch.as_llama().expect("they speak");
            let (prefix, at_rest) = windows.open(&folder, arch, whole.spec.train.precision, Device::Cpu)?;
            frozen.absorb(&prefix, at_rest);
        }
        let windows = Arc::new(windows);
        frozen.take_turns(windows.clone());
        Ok((frozen, windows))
    }

    /// A slot as the ranks of a node run it.
    fn paced(&self, slot: &Slot<'_>, options: &SlotOptions) -> SlotResult {
        let order = Order::new(&self.whole.catalog, options.teacher.map(|teacher| teacher.stitch));
        let Tour { taught, own } = order.tour(self.whole.catalog.get(slot.stitch).expect("a stitch"));
        let mut paced = PacedSlot::new(&self.net, &self.whole.store, slot, options).expect("it runs");
        taught.iter().for_each(|_| paced.teach());
        own.iter().for_each(|_| paced.forward());
        paced.turn();
        own.iter().for_each(|_| paced.back());
        paced.finish()
    }
}

fn same_bits(one: &SlotResult, other: &SlotResult) -> bool {
    let numbers = |r: &SlotResult| [r.loss, r.score, r.grad_norm].map(f64::to_bits);
    numbers(one) == numbers(other) && one.grads.view_dtype(Kind::Int) == other.grads.view_dtype(Kind::Int)
}

fn precisions() -> [serde_json::Value; 2] {
    ["f32", "bf16"].map(|precision| json!({ "train": { "precision": precision } }))
}

#[test]
fn every_path_says_the_same_and_merges_to_the_same_weights() {
    for precision in precisions() {
        let taking = Taking::turns(precision);
        let (input, _) = batch();
        for stitch in taking.whole.catalog.stitches() {
            let [one, other] = [&taking.whole.net, &taking.net]
                .map(|net| tch::no_grad(|| net.forward(stitch.id, &input, Phase::Eval)).expect("a stitch"));
            assert_eq!(one, other, "stitch {}", stitch.id);
            let [one, other] = [&taking.whole.net, &taking.net]
                .map(|net| net.merged_state(&taking.whole.catalog, stitch.id).expect("it merges").weights);
            assert_eq!(one.iter().count(), other.iter().count());
            for (name, tensor) in one.iter() {
                assert_eq!(Some(tensor), other.get(name), "stitch {}: {name}", stitch.id);
            }
        }
    }
}

#[test]
fn a_paced_slot_gives_the_bits_of_one_that_has_every_block() {
    let teacher = Teacher { stitch: StitchId(1), weight: 0.3, temperature: 2.0 };
    for precision in precisions() {
        let taking = Taking::turns(precision);
        let (input, labels) = batch();
        for (micro_batches, teacher) in [(1, None), (2, None), (2, Some(teacher))] {
            let options = SlotOptions { micro_batches, teacher, checkpointing: true, ..SlotOptions::default() };
            for stitch in taking.whole.catalog.stitches() {
                let slot = Slot { stitch: stitch.id, input: &input, labels: &labels, dropout_seed: 0 };
                let all = run_slot(&taking.whole.net, &taking.whole.store, &slot, &options).expect("it runs");
                assert!(same_bits(&all, &taking.paced(&slot, &options)), "stitch {} {options:?}", stitch.id);
            }
        }
    }
}

#[test]
fn layers_are_fitted_the_same() {
    let taking = Taking::turns(json!({}));
    let (input, _) = batch();
    let init = StitchInit { ridge: 1e-3, ..StitchInit::default() };
    let [one, other] = [&taking.whole.frozen, &taking.frozen]
        .map(|frozen| fit_layers(&taking.whole.catalog, frozen, &input, &init).expect("solvable"));
    for (name, tensor) in one.iter() {
        assert_eq!(Some(tensor), other.get(name), "{name}");
    }
}

#[test]
fn a_rank_keeps_what_it_has_room_for_and_reads_the_rest() {
    let taking = Taking::turns(json!({}));
    let blocks: Vec<BlockId> = Order::new(&taking.whole.catalog, None).blocks().iter().collect();
    assert_eq!(taking.windows.keep(&blocks, u64::MAX).expect("numbers"), 3 + 4);
    let own = &blocks[1..4];
    let [small, large] = [(0, 0), (1, 0)]
        .map(|(anchor, block)| taking.windows.row(BlockId { anchor: AnchorId(anchor), block }).numel() as u64);
    assert_eq!(taking.windows.keep(own, 2 * small + large).expect("numbers"), 3);
    assert_eq!(taking.windows.keep(own, 2 * small + large - 1).expect("numbers"), 2);
    let (input, _) = batch();
    for stitch in taking.whole.catalog.stitches() {
        taking.windows.clear();
        let [one, other] = [&taking.whole.net, &taking.net]
            .map(|net| tch::no_grad(|| net.forward(stitch.id, &input, Phase::Eval)).expect("a stitch"));
        assert_eq!(one, other, "stitch {}", stitch.id);
    }
}

#[test]
fn a_block_that_moves_into_its_window_is_there_once_it_has_arrived() {
    let taking = Taking::turns(json!({}));
    let block = |block| BlockId { anchor: AnchorId(1), block };
    taking.windows.bring(block(2));
    let row = taking.windows.row(block(2)).copy();
    assert!(Windows::collide(block(0), block(2)) && !Windows::collide(block(1), block(2)));
    taking.windows.bring(block(0));
    assert!(taking.windows.holds(block(0)) && !taking.windows.holds(block(2)));
    let mut opening = taking.windows.open_for(block(2));
    assert!(!taking.windows.holds(block(0)) && !taking.windows.holds(block(2)), "it is neither, on its way");
    opening.row.copy_(&row);
    taking.windows.arrived(opening);
    assert!(taking.windows.holds(block(2)));
    assert_ne!(taking.windows.row(block(2)), Tensor::zeros_like(&row), "a block has weights");
}

#[test]
fn all_of_it_is_there_when_it_is_asked_for_whole() {
    let taking = Taking::turns(json!({}));
    let whole = taking.frozen.whole();
    for (name, tensor) in taking.whole.frozen.iter() {
        assert_eq!(Some(tensor), whole.get(name), "{name}");
    }
}

#[test]
fn folders_with_something_wrong_are_refused() {
    let taking = Taking::turns(json!({}));
    let part = taking.folders.path().join("1/part-0.safetensors");
    let good = Weights::read(&part).expect("it was written");
    let name = good.iter().map(|(name, _)| name).find(|name| name.contains("mlp")).expect("some map").to_owned();
    let spoilt = |change: &dyn Fn(&mut Weights)| {
        let mut weights = good.shallow_clone();
        change(&mut weights);
        weights.save(&part).expect("it is written");
        Taking::open(&taking.whole, &taking.folders)
    };
    let missing = spoilt(&|weights| drop(weights.remove(&name)));
    assert!(matches!(missing, Err(HubError::Weights(WeightsError::Missing { name: found, .. })) if found == name));
    let shape = spoilt(&|weights| weights.insert(name.as_str(), Tensor::zeros([2, 2], (Kind::Float, Device::Cpu))));
    assert!(matches!(shape, Err(HubError::Weights(WeightsError::Shape { name: found, .. })) if found == name));
    let more = spoilt(&|weights| weights.insert("model.layers.9.what", Tensor::zeros([1], (Kind::Float, Device::Cpu))));
    assert!(matches!(more, Err(HubError::Weights(WeightsError::Unexpected { .. }))));
    // What a value is shows when a block is read: by whoever keeps it.
    let infinite = good.get(&name).expect("it is there") / 0.0;
    let (_, windows) =
        spoilt(&|weights| weights.insert(name.as_str(), infinite.shallow_clone())).expect("shapes are right");
    let blocks: Vec<BlockId> = Order::new(&taking.whole.catalog, None).blocks().iter().collect();
    let refused = windows.keep(&blocks, 0);
    assert!(matches!(refused, Err(WeightsError::NotFinite { name: found, .. }) if found == name));
}
