//! Stitched language models: a path against the same arithmetic written down plainly in double precision, gradients and
//! scores by libtorch's own backward pass through it, and what training does to memory only.

use esta_engine::arch::LlamaArch;
use esta_engine::catalog::{Catalog, Stitch};
use esta_engine::cost::Task;
use esta_engine::groups::GroupLayout;
use esta_engine::spec::{FitMethod, JobSpec, Precision, StitchInit};
use esta_model::{
    HubError, Input, ParamStore, Phase, Slot, SlotOptions, Start, StitchedNet, Teacher, Texts, Weights, fit_layers,
    random_anchor, random_layers, random_llama, read_exported, read_llama, run_slot,
};
use esta_proto::StitchId;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::fixture::{distance, merge, noise};
use crate::starts::{by_qr, fitted};

/// Two decoders of unequal depth, width, heads, epsilon and rotary base.
fn job(changes: Value) -> JobSpec {
    let anchor = |name: &str, config: Value| json!({ "name": name, "config": config, "weights": "-" });
    let small = json!({
        "vocab_size": 23, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 4, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    let large = json!({
        "model_type": "qwen3", "vocab_size": 25, "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "rope_theta": 5e3,
        "tie_word_embeddings": true,
    });
    let mut value = json!({
        "name": "tiny",
        "family": { "anchors": [anchor("a", small), anchor("b", large)], "space": { "kind": "proportional" } },
        "pst": { "lora_r": 2, "stitch_r": 3, "targets": ["q", "k", "v", "o", "fc1", "fc2"] },
        "train": { "max_steps": 10 },
        "data": { "text": { "max_length": 16 }, "train": { "layout": "alpaca", "path": "-" } },
        "budgets": { "params": { "gap": 100 } },
    });
    merge(&mut value, changes);
    let spec: JobSpec = serde_json::from_value(value).expect("a job");
    spec.validate().expect("a sound job");
    spec
}

pub struct Speakers {
    pub spec: JobSpec,
    pub catalog: Catalog,
    pub frozen: Weights,
    pub store: ParamStore,
    pub net: StitchedNet,
}

impl Speakers {
    /// In the middle of training: every number is alive.
    pub fn trained(changes: Value) -> Self {
        tch::set_num_threads(1);
        let spec = job(changes);
        let catalog = Catalog::build(&spec).expect("they stitch");
        let layout = GroupLayout::new(&catalog, &spec);
        let mut frozen = Weights::new("fixture");
        for (number, arch) in catalog.anchors.iter().enumerate() {
            let anchor = random_anchor(arch, Task::Speak { tokens: 16 }, 7);
            for (name, tensor) in anchor.iter() {
                let mut tensor = tensor.shallow_clone();
                tensor += noise(&format!("{number}{name}"), &tensor.size()) * 0.3;
            }
            frozen.absorb(&format!("anchors.{number}."), anchor);
        }
        frozen.absorb("", random_layers(&catalog, 3));
        let start = Start { seed: spec.seed, weights: &frozen, device: Device::Cpu };
        let store = ParamStore::new(&layout, start).expect("every parameter has a start");
        for param in store.groups().iter().flat_map(|group| &group.params) {
            let mut tensor = param.tensor.detach();
            tensor += noise(&param.name, &param.tensor.size()) * 0.3;
        }
        let net = StitchedNet::new(&catalog, &store, &frozen, &spec.pst, spec.train.precision).expect("all is there");
        Self { spec, catalog, frozen, store, net }
    }

    fn stitched(&self) -> Vec<StitchId> {
        self.catalog.stitches().map(|stitch| stitch.id).collect()
    }

    /// A tensor in double precision: the trained one, else the frozen one.
    fn tensor(&self, name: &str) -> Option<Tensor> {
        let tensor = self.store.get(name).or_else(|| self.frozen.get(name))?;
        Some(tensor.to_kind(Kind::Double))
    }

    /// `x W^T + b`, LoRA and the stitch's own bias among them.
    fn map(&self, name: &str, own: &str, x: &Tensor) -> Tensor {
        let mut y = x.matmul(&self.tensor(&format!("{name}.weight")).expect("a weight").tr());
        if let Some(bias) = self.tensor(&format!("{name}.bias")) {
            y += bias;
        }
        if let (Some(a), Some(b)) = (self.tensor(&format!("{name}.lora_A")), self.tensor(&format!("{name}.lora_B"))) {
            y += x.matmul(&a.tr()).matmul(&b.tr());
        }
        match self.tensor(&format!("{own}.bias")) {
            Some(bias) => y + bias,
            None => y,
        }
    }

    fn norm(&self, name: &str, eps: f64, x: &Tensor) -> Tensor {
        let scale = (x.square().mean_dim(-1, true, Kind::Double) + eps).rsqrt();
        x * scale * self.tensor(&format!("{name}.weight")).expect("a norm")
    }

    /// The same path in plain arithmetic: `ids [N]` to logits [N, V].
    fn reference(&self, stitch: &Stitch, ids: &[i64]) -> Tensor {
        let first = stitch.segments[0].anchor;
        let embedding = self.tensor(&format!("anchors.{first}.model.embed_tokens.weight")).expect("an embedding");
        let mut x = embedding.index_select(0, &Tensor::from_slice(ids));
        for (place, segment) in stitch.segments.iter().enumerate() {
            if place > 0 {
                let layer = stitch.layers[place - 1];
                let own = format!("stitches.{}.layers.{}", stitch.id, place - 1);
                x = self.map(&format!("stitch_layers.{layer}"), &own, &x);
            }
            for block in segment.first..=segment.last {
                let own = format!("stitches.{}.{place}.blocks.{block}", stitch.id);
                x = self.block(segment.anchor.index(), block, &own, &x);
            }
        }
        let end = stitch.end_anchor();
        let arch = self.catalog.anchors[end.index()].as_llama().expect("they speak");
        let head = self.tensor(&format!("anchors.{end}.model.embed_tokens.weight")).expect("a tied head");
        self.norm(&format!("anchors.{end}.model.norm"), arch.rms_norm_eps, &x).matmul(&head.tr())
    }

    /// The activations [N, D] of a text before every block of an anchor and after the last.
    fn states(&self, anchor: usize, ids: &[i64]) -> Vec<Tensor> {
        let embedding = self.tensor(&format!("anchors.{anchor}.model.embed_tokens.weight")).expect("an embedding");
        let mut states = vec![embedding.index_select(0, &Tensor::from_slice(ids))];
        for block in 0..self.catalog.anchors[anchor].depth() {
            states.push(self.block(anchor, block, "no stitch", states.last().expect("the embedding")));
        }
        states
    }

    /// The anchors as they came: LoRA adds nothing.
    fn without_lora(self) -> Self {
        for param in self.store.groups().iter().flat_map(|group| &group.params) {
            if param.name.ends_with("lora_B") {
                let _zero = param.tensor.detach().zero_();
            }
        }
        self
    }

    fn block(&self, anchor: usize, block: u32, own: &str, x: &Tensor) -> Tensor {
        let arch = self.catalog.anchors[anchor].as_llama().expect("they speak");
        let name = |part: &str| format!("anchors.{anchor}.model.layers.{block}.{part}");
        let map = |part: &str, x: &Tensor| self.map(&name(part), &format!("{own}.{part}"), x);
        let h = self.norm(&name("input_layernorm"), arch.rms_norm_eps, x);
        let (n, d) = (x.size()[0], i64::from(arch.head_dim));
        let heads = |part: &str| map(&format!("self_attn.{part}_proj"), &h).view([n, -1, d]).transpose(0, 1);
        let turned = |part: &str| {
            let mut heads = heads(part);
            if arch.has_qk_norm() {
                heads = self.norm(&name(&format!("self_attn.{part}_norm")), arch.rms_norm_eps, &heads);
            }
            rotate(&heads, arch.rope_theta)
        };
        let (q, k, v) = (turned("q"), turned("k"), heads("v"));
        let groups = i64::from(arch.num_attention_heads / arch.num_key_value_heads);
        let (k, v) = (k.repeat_interleave_self_int(groups, 0, None), v.repeat_interleave_self_int(groups, 0, None));
        let scores = q.matmul(&k.transpose(1, 2)) / (d as f64).sqrt();
        let later = Tensor::ones([n, n], (Kind::Bool, Device::Cpu)).triu(1);
        let seen = scores.masked_fill(&later, f64::NEG_INFINITY).softmax(-1, Kind::Double);
        let x = x + map("self_attn.o_proj", &seen.matmul(&v).transpose(0, 1).reshape([n, -1]));
        let h = self.norm(&name("post_attention_layernorm"), arch.rms_norm_eps, &x);
        let inner = map("mlp.gate_proj", &h).silu() * map("mlp.up_proj", &h);
        &x + map("mlp.down_proj", &inner)
    }
}

/// Pair i of the token at position p, as a complex number, times exp(i p base^(-2i/d)).
fn rotate(x: &Tensor, base: f64) -> Tensor {
    let (_, n, d) = x.size3().expect("heads are [H, N, d]");
    let angle = |p: i64, i: i64| p as f64 * base.powf(-2.0 * i as f64 / d as f64);
    let angles: Vec<f64> = (0..n).flat_map(|p| (0..d / 2).map(move |i| angle(p, i))).collect();
    let angles = Tensor::from_slice(&angles).view([n, d / 2]);
    let (re, im) = (x.narrow(2, 0, d / 2), x.narrow(2, d / 2, d / 2));
    Tensor::cat(&[&re * angles.cos() - &im * angles.sin(), &re * angles.sin() + &im * angles.cos()], 2)
}

/// Two texts of 9 and 6 tokens, padded; learned are some of their tokens.
const TEXTS: [&[i64]; 2] = [&[3, 1, 4, 1, 5, 9, 2, 6, 5], &[2, 7, 1, 8, 2, 8]];
const LEARNED: [std::ops::Range<usize>; 2] = [4..9, 2..6];

pub fn batch() -> (Input, Tensor) {
    let width = TEXTS[0].len();
    let mut ids = vec![0; 2 * width];
    let (mut reads, mut labels) = (Vec::new(), Vec::new());
    for (row, text) in TEXTS.iter().enumerate() {
        ids[row * width..row * width + text.len()].copy_from_slice(text);
        reads.extend(LEARNED[row].clone().map(|i| (row * width + i - 1) as i64));
        labels.extend(LEARNED[row].clone().map(|i| text[i]));
    }
    let texts = Texts {
        ids: Tensor::from_slice(&ids).view([2, width as i64]),
        reads: Tensor::from_slice(&reads),
        counts: LEARNED.map(|range| range.len() as i64).to_vec(),
        lengths: TEXTS.map(|text| text.len() as i64).to_vec(),
    };
    (Input::Texts(texts), Tensor::from_slice(&labels))
}

/// The reference's logits of the learned tokens [M, V].
fn wanted(speakers: &Speakers, stitch: &Stitch) -> Tensor {
    let of_text = |row: usize| {
        let logits = speakers.reference(stitch, TEXTS[row]);
        logits.narrow(0, LEARNED[row].start as i64 - 1, LEARNED[row].len() as i64)
    };
    Tensor::cat(&[of_text(0), of_text(1)], 0)
}

#[test]
fn every_path_is_the_arithmetic_of_its_parts() {
    let speakers = Speakers::trained(json!({}));
    assert_eq!(speakers.stitched().len(), 2 + 2);
    for stitch in speakers.catalog.stitches() {
        let found = speakers.net.forward(stitch.id, &batch().0, Phase::Eval).expect("in the catalog");
        let off = distance(&found, &wanted(&speakers, stitch));
        assert!(off < 2e-5, "stitch {}: off by {off:e}", stitch.id);
    }
}

#[test]
fn sc_1_gradients_and_scores_are_those_of_the_plain_arithmetic() {
    let speakers = Speakers::trained(json!({}));
    let (input, labels) = batch();
    for stitch in speakers.catalog.stitches() {
        let slot = Slot { stitch: stitch.id, input: &input, labels: &labels, dropout_seed: 0 };
        let result = run_slot(&speakers.net, &speakers.store, &slot, &SlotOptions::default()).expect("it runs");
        let loss =
            wanted(&speakers, stitch).cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, 0.0);
        assert!((result.loss - loss.double_value(&[])).abs() < 1e-5, "the loss is the mean over learned tokens");
        let groups: Vec<_> = speakers.store.touched(stitch.id).collect();
        let leaves: Vec<&Tensor> = groups.iter().flat_map(|group| &group.params).map(|param| &param.tensor).collect();
        let grads = Tensor::run_backward(&[loss], &leaves, false, false);
        let flat: Vec<Tensor> = grads.iter().map(|grad| grad.reshape([-1])).collect();
        let off = distance(&result.grads, &Tensor::cat(&flat, 0));
        assert!(off < 1e-5, "stitch {}: gradients off by {off:e}", stitch.id);
        let terms = leaves.iter().zip(&grads).map(|(leaf, grad)| (leaf.detach() * grad).abs().sum(Kind::Double));
        let saliency: f64 = terms.map(|term| term.double_value(&[])).sum();
        let mean = saliency / leaves.iter().map(|leaf| leaf.numel() as f64).sum::<f64>();
        assert!((result.score / mean - 1.0).abs() < 1e-4, "{} against {mean}", result.score);
    }
}

#[test]
fn checkpointing_and_several_passes_change_no_number_that_matters() {
    let speakers = Speakers::trained(json!({}));
    let (input, labels) = batch();
    let run = |stitch, options: &SlotOptions| {
        let slot = Slot { stitch, input: &input, labels: &labels, dropout_seed: 0 };
        run_slot(&speakers.net, &speakers.store, &slot, options).expect("it runs")
    };
    for stitch in speakers.stitched() {
        let plain = run(stitch, &SlotOptions::default());
        let kept_little = run(stitch, &SlotOptions { checkpointing: true, ..SlotOptions::default() });
        assert_eq!(plain.loss, kept_little.loss);
        assert_eq!(plain.grads, kept_little.grads, "stitch {stitch}: a block that runs again gives the same bits");
        // Texts of unequal numbers of learned tokens: a pass weighs by its tokens, not by its texts.
        let split = run(stitch, &SlotOptions { micro_batches: 2, ..SlotOptions::default() });
        assert!((plain.loss - split.loss).abs() < 1e-6);
        assert!(distance(&plain.grads, &split.grads) < 1e-6);
    }
}

#[test]
fn checkpointing_draws_its_dropout_twice_the_same() {
    let speakers = Speakers::trained(json!({ "pst": { "lora_dropout": 0.5 } }));
    let (input, labels) = batch();
    let longest = *speakers.stitched().last().expect("there are stitches");
    let run = |dropout_seed| {
        let slot = Slot { stitch: longest, input: &input, labels: &labels, dropout_seed };
        let options = SlotOptions { checkpointing: true, ..SlotOptions::default() };
        run_slot(&speakers.net, &speakers.store, &slot, &options).expect("it runs")
    };
    // The loss comes of the first pass and gradients of the second: were their draws not the same, a step against the
    // gradient would not lower the loss as much as the gradient says.
    let before = run(5);
    let size = 1e-3 / before.grad_norm;
    let mut at = 0;
    for group in speakers.store.touched(longest) {
        for param in &group.params {
            let numel = param.tensor.numel() as i64;
            let mut tensor = param.tensor.detach();
            tensor -= before.grads.narrow(0, at, numel).view_as(&tensor) * size;
            at += numel;
        }
    }
    let fall = before.loss - run(5).loss;
    let promised = size * before.grad_norm * before.grad_norm;
    assert!((fall / promised - 1.0).abs() < 0.1, "fell by {fall:e}, the gradient promised {promised:e}");
}

#[test]
fn everything_trains_in_snnet_mode_tied_embeddings_among_it() {
    let speakers = Speakers::trained(json!({ "mode": "snnet" }));
    let (input, labels) = batch();
    for stitch in speakers.catalog.stitches() {
        let slot = Slot { stitch: stitch.id, input: &input, labels: &labels, dropout_seed: 0 };
        let plain = run_slot(&speakers.net, &speakers.store, &slot, &SlotOptions::default()).expect("it runs");
        let loss =
            wanted(&speakers, stitch).cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, 0.0);
        let leaves: Vec<&Tensor> =
            speakers.store.touched(stitch.id).flat_map(|group| &group.params).map(|param| &param.tensor).collect();
        let grads = Tensor::run_backward(&[loss], &leaves, false, false);
        let flat: Vec<Tensor> = grads.iter().map(|grad| grad.reshape([-1])).collect();
        assert!(distance(&plain.grads, &Tensor::cat(&flat, 0)) < 1e-5, "stitch {}", stitch.id);
        let checkpointed = SlotOptions { checkpointing: true, ..SlotOptions::default() };
        let kept_little = run_slot(&speakers.net, &speakers.store, &slot, &checkpointed).expect("it runs");
        assert!(distance(&plain.grads, &kept_little.grads) < 1e-6, "stitch {}", stitch.id);
    }
}

#[test]
fn merged_paths_say_the_same_and_untie_what_was_tied() {
    let speakers = Speakers::trained(json!({}));
    for stitch in speakers.catalog.stitches() {
        let merged = speakers.net.merged(stitch.id).expect("it merges");
        let off = distance(&merged.forward(&batch().0, Phase::Train), &wanted(&speakers, stitch));
        assert!(off < 2e-5, "stitch {}: off by {off:e}", stitch.id);
        let state = speakers.net.merged_state(&speakers.catalog, stitch.id).expect("it merges").weights;
        assert_eq!(state.get("lm_head.weight").is_none(), stitch.is_anchor(), "an anchor alone stays tied");
        assert_eq!(state.numel() as u64, stitch.params, "stitch {}: the catalog counts what is deployed", stitch.id);
    }
}

/// Texts as one batch, padded with this token.
fn padded(texts: &[Vec<i64>], padding: i64) -> Input {
    let width = texts.iter().map(Vec::len).max().expect("texts");
    let mut ids = vec![padding; texts.len() * width];
    for (row, text) in texts.iter().enumerate() {
        ids[row * width..row * width + text.len()].copy_from_slice(text);
    }
    let lengths: Vec<i64> = texts.iter().map(|text| text.len() as i64).collect();
    let ids = Tensor::from_slice(&ids).view([texts.len() as i64, -1]);
    Input::Texts(Texts { ids, reads: Tensor::from_slice::<i64>(&[]), counts: vec![0; texts.len()], lengths })
}

#[test]
fn layers_are_fitted_on_all_tokens_but_the_first_and_the_padding() {
    let speakers = Speakers::trained(json!({})).without_lora();
    let texts: Vec<Vec<i64>> =
        (0..12).map(|t| (0..5 + t % 7).map(|i| (7 * t + 3 * i * i + i) % 23).collect()).collect();
    let init = StitchInit { method: FitMethod::Joint, ridge: 0.0, ..StitchInit::default() };
    let fit = |padding: i64| {
        fit_layers(&speakers.catalog, &speakers.frozen, &padded(&texts, padding), &init).expect("solvable")
    };
    let (one, other) = (fit(0), fit(9));
    for (name, tensor) in one.iter() {
        assert_eq!(tensor, other.get(name).expect("the same layers"), "{name} depends on what the padding is");
    }
    // Rows of all positions of a layer, from this token of each text on.
    let rows = |anchor: usize, places: &[usize], first: i64| {
        let of_text = |text: &Vec<i64>, place: usize| {
            speakers.states(anchor, text)[place].narrow(0, first, text.len() as i64 - first)
        };
        let all = places.iter().flat_map(|&place| texts.iter().map(move |text| of_text(text, place)));
        Tensor::cat(&all.collect::<Vec<_>>(), 0)
    };
    for (number, layer) in speakers.catalog.layers.iter().enumerate() {
        let (fronts, ends): (Vec<usize>, Vec<usize>) =
            layer.positions.iter().map(|&(front, end)| (front as usize + 1, end as usize)).unzip();
        let solution = |first| by_qr(&rows(layer.from.index(), &fronts, first), &rows(layer.to.index(), &ends, first));
        let off = distance(&fitted(&one, number), &solution(1));
        assert!(off < 1e-3, "layer {number}: off by {off:e}");
        let with_first = distance(&fitted(&one, number), &solution(0));
        assert!(with_first > 1e-2, "layer {number}: first tokens would move it by {with_first:e} only");
    }
}

#[test]
fn texts_of_all_lengths_are_fitted_the_same_in_any_order() {
    let speakers = Speakers::trained(json!({})).without_lora();
    // Two chunks and more of 2048 tokens were they all as wide as the longest; sorted as a worker sorts them.
    let texts: Vec<Vec<i64>> =
        (0..40).map(|t| (0..4 + t * t / 16).map(|i| (5 * t + 3 * i * i + i) % 23).collect()).collect();
    let init = StitchInit { method: FitMethod::Joint, ridge: 1e-6, ..StitchInit::default() };
    let fit = |texts: &[Vec<i64>]| {
        fit_layers(&speakers.catalog, &speakers.frozen, &padded(texts, 0), &init).expect("solvable")
    };
    let sorted = fit(&texts);
    let reversed = fit(&texts.iter().rev().cloned().collect::<Vec<_>>());
    for (name, tensor) in sorted.iter() {
        let off = distance(tensor, reversed.get(name).expect("the same layers"));
        assert!(off < 1e-4, "{name}: off by {off:e}");
    }
}

#[test]
fn a_second_copy_of_a_tied_matrix_has_to_be_one() {
    let speakers = Speakers::trained(json!({}));
    let arch = speakers.catalog.anchors[0].as_llama().expect("it speaks");
    assert!(arch.tie_word_embeddings);
    let folder = tempfile::tempdir().expect("a folder");
    let written = |arch: &LlamaArch, change: Option<f64>| {
        let config = serde_json::to_string(arch).expect("writable");
        std::fs::write(folder.path().join("config.json"), config).expect("written");
        let mut weights = random_llama(arch, 5);
        if let Some(change) = change {
            let head = weights.get("model.embed_tokens.weight").expect("an embedding").copy();
            let mut last = head.get(-1).get(-1);
            last += change;
            weights.insert("lm_head.weight", head);
        }
        weights.save(&folder.path().join("model.safetensors")).expect("written");
        let open = || read_llama(folder.path(), arch, Precision::F32, Device::Cpu).map(drop);
        [open(), read_exported(folder.path(), Precision::F32, Device::Cpu).map(drop)]
    };
    for change in [None, Some(0.0)] {
        assert!(written(arch, change).iter().all(Result::is_ok), "{change:?}");
    }
    for refused in written(arch, Some(0.5)) {
        let error = refused.expect_err("two matrices");
        assert!(matches!(error, HubError::Untied { .. }), "{error}");
        assert!(error.to_string().contains("tie_word_embeddings: false"), "{error}");
    }
    let untied = LlamaArch { tie_word_embeddings: false, ..arch.clone() };
    assert!(written(&untied, Some(0.5)).iter().all(Result::is_ok), "what the error says to do helps");
}

#[test]
fn a_step_in_bfloat16_stays_close_and_its_gradients_are_numbers() {
    let exact = Speakers::trained(json!({}));
    let rounded = Speakers::trained(json!({ "train": { "precision": "bf16" } }));
    let (input, labels) = batch();
    for stitch in exact.stitched() {
        let slot = Slot { stitch, input: &input, labels: &labels, dropout_seed: 0 };
        let run = |speakers: &Speakers, checkpointing| {
            let options = SlotOptions { checkpointing, ..SlotOptions::default() };
            run_slot(&speakers.net, &speakers.store, &slot, &options).expect("it runs")
        };
        let (one, other) = (run(&exact, false), run(&rounded, false));
        assert!(other.finite && (one.loss / other.loss - 1.0).abs() < 0.02, "{} against {}", other.loss, one.loss);
        let cosine = (&one.grads * &other.grads).sum(Kind::Double) / (one.grads.norm() * other.grads.norm());
        assert!(cosine.double_value(&[]) > 0.99, "stitch {stitch}: {}", cosine.double_value(&[]));
        assert_ne!(one.loss, other.loss, "matrices were rounded");
        assert_eq!(other.grads, run(&rounded, true).grads, "checkpoints change no bit in bfloat16 either");
    }
}

#[test]
fn the_largest_anchor_can_teach_texts_too() {
    let speakers = Speakers::trained(json!({}));
    let (input, labels) = batch();
    let run = |weight| {
        let slot = Slot { stitch: StitchId(2), input: &input, labels: &labels, dropout_seed: 0 };
        let teacher = Some(Teacher { stitch: StitchId(1), weight, temperature: 2.0 });
        run_slot(&speakers.net, &speakers.store, &slot, &SlotOptions { teacher, ..SlotOptions::default() })
            .expect("it runs")
    };
    let (alone, half, whole) = (run(0.0), run(0.5), run(1.0));
    assert_eq!((alone.loss, half.loss), (half.loss, whole.loss), "the loss is that of the labels");
    let between = (&alone.grads + &whole.grads) * 0.5;
    assert!(distance(&between, &half.grads) < 1e-6, "half of what is minimised is the teacher's");
    assert!(distance(&alone.grads, &whole.grads) > 1e-4);
}
