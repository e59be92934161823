//! What a worker of a language-model job needs in memory (LAW), computed before anything is loaded: weights exactly, from the
//! tensors' shapes; activations from what libtorch's backward pass keeps.
//!
//! Letters: B texts of a pass, N tokens, M learned tokens, D width, F hidden width, H d width of all queries, V vocabulary, e
//! bytes of a number in matrix products.

use std::fmt;

use crate::arch::{Arch, LlamaArch};
use crate::catalog::Stitch;
use crate::groups::{self, Param};
use crate::law::Law;
use crate::spec::{JobSpec, Precision, Reduction, Target};

/// Bytes of single and double precision.
const F32: u64 = 4;
const F64: u64 = 8;

/// Blocks of an anchor that lie in memory at once where they are spread over a node: the one in use, and the next.
pub const WINDOWS: u64 = 2;

/// One pass at its largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Texts.
    pub rows: u64,
    /// Tokens of the longest.
    pub tokens: u64,
    /// Learned tokens of all of them.
    pub learned: u64,
}

/// Bytes of a worker, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The anchors' frozen weights, once; where their blocks are spread over a node, all but those, and the windows in which
    /// blocks take turns.
    pub anchors: u64,
    /// Blocks that are spread over the ranks of a node, all of them; 0 where none are.
    pub blocks: u64,
    /// Stitching layers that do not train.
    pub layers: u64,
    /// What trains, with its gradient sum of a step and Adam's moments.
    pub training: u64,
    /// What a pass keeps for its way back, and what its dearest block needs beside.
    pub activations: u64,
    /// Logits of the learned tokens with their gradient.
    pub logits: u64,
    /// The least-squares fit before the first step: normal equations, and the activations they are made of.
    pub fit: u64,
    /// The evaluation after the last step, beside the anchors: what was trained, a pass without a way back, and its logits; 0
    /// where nothing is evaluated.
    pub evaluation: u64,
}

impl Pass {
    /// The largest pass that a job allows, whatever its data: full length, every token learned.
    #[must_use]
    pub fn at_most(spec: &JobSpec) -> Self {
        let slot = u64::from(spec.train.batch_size / spec.sampling.slots.max(1));
        let rows = slot.div_ceil(u64::from(spec.train.gradient_accumulation_steps.max(1))).max(1);
        let tokens = u64::from(spec.task().tokens());
        Self { rows, tokens, learned: rows * tokens }
    }

    /// The same of the evaluation at the run's end; none where there is none.
    #[must_use]
    pub fn held_out_at_most(spec: &JobSpec) -> Option<Self> {
        let (rows, tokens) = (u64::from(spec.eval.batch_size.max(1)), u64::from(spec.task().tokens()));
        spec.evaluates().then_some(Self { rows, tokens, learned: rows * tokens })
    }
}

impl MemoryPlan {
    /// The plan of a job whose largest pass forth and back is `pass`, and whose evaluation's is `held_out`; none for a family
    /// that does not speak.
    #[must_use]
    pub fn of(law: &Law, pass: Pass, held_out: Option<Pass>) -> Option<Self> {
        let anchors: Vec<&LlamaArch> = law.catalog.anchors.iter().map(Arch::as_llama).collect::<Option<_>>()?;
        let spec = &law.spec;
        let (anchors_at_rest, blocks) = frozen(law);
        let trained = law.layout.trainable_params();
        let sum = if spec.reduce.kind == Reduction::Int64 { 8 } else { F32 };
        // Values and two moments stay; a step adds its sum, a slot's gradients twice (in pieces, then in one row) and the
        // reduced gradient.
        let training = trained * (3 * F32 + sum + 3 * F32);
        Some(Self {
            anchors: anchors_at_rest,
            blocks,
            layers: layers_bytes(law),
            training,
            activations: activations(law, &anchors, pass),
            logits: logits(spec, &anchors, pass),
            fit: fit(law, &anchors),
            evaluation: held_out.map_or(0, |pass| evaluation(law, &anchors, pass)),
        })
    }

    /// The most that is in use at once, while stitching layers are fitted, while it trains or while it evaluates, by one of
    /// `ranks` ranks on a node.
    #[must_use]
    pub fn peak(&self, ranks: u32) -> u64 {
        self.least() + self.blocks.div_ceil(u64::from(ranks.max(1)))
    }

    /// The same without any block that this rank could keep for its node: what it cannot do without, since blocks can be
    /// read from their files again and again.
    #[must_use]
    pub fn least(&self) -> u64 {
        let train = self.layers + self.training + self.activations + self.logits;
        self.anchors + train.max(self.fit).max(self.evaluation)
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at most: anchors {}, stitching layers {}, what trains {}, activations {}, logits {}; or {} for the fit \
             beside the anchors, {} for the evaluation",
            Bytes(self.least()),
            Bytes(self.anchors),
            Bytes(self.layers),
            Bytes(self.training),
            Bytes(self.activations),
            Bytes(self.logits),
            Bytes(self.fit),
            Bytes(self.evaluation)
        )?;
        match self.blocks {
            0 => Ok(()),
            blocks => write!(f, "; and this rank's part of {} of blocks", Bytes(blocks)),
        }
    }
}

/// An amount of memory for reading, in the units that cards are sold in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0 as f64;
        match count {
            c if c >= 1e9 => write!(f, "{:.1} GB", c / 1e9),
            c if c >= 1e6 => write!(f, "{:.1} MB", c / 1e6),
            c => write!(f, "{:.1} kB", c / 1e3),
        }
    }
}

/// Bytes of a number in matrix products, and of a frozen matrix at rest.
fn product_bytes(spec: &JobSpec) -> u64 {
    match spec.frozen_precision() {
        Precision::F32 => F32,
        Precision::Bf16 => 2,
    }
}

/// Matrices in the type they are multiplied in, vectors in single precision.
fn stored(params: &[Param], e: u64) -> u64 {
    params.iter().map(|param| param.numel() * if param.shape.len() > 1 { e } else { F32 }).sum()
}

/// Frozen weights that every rank holds, windows included, and those that are spread.
fn frozen(law: &Law) -> (u64, u64) {
    if law.spec.trains_everything() {
        return (0, 0);
    }
    let e = product_bytes(&law.spec);
    let anchors = &law.catalog.anchors;
    let all = anchors.iter().map(|arch| stored(&groups::anchor_tensors(arch), e)).sum();
    if !law.spec.is_sharded() {
        return (all, 0);
    }
    let block = |arch: &Arch| stored(&groups::block_tensors(arch), e);
    let blocks: u64 = anchors.iter().map(|arch| u64::from(arch.depth()) * block(arch)).sum();
    let windows: u64 = anchors.iter().map(|arch| WINDOWS * block(arch)).sum();
    (all - blocks + windows, blocks)
}

fn layers_bytes(law: &Law) -> u64 {
    if law.spec.trains_everything() {
        return 0;
    }
    let width = |anchor: esta_proto::AnchorId| law.catalog.anchors[anchor.index()].width();
    let e = product_bytes(&law.spec);
    law.catalog.layers.iter().map(|layer| width(layer.from) * width(layer.to) * e + width(layer.to) * F32).sum()
}

/// What the dearest path keeps: of every block all that its backward pass reads, or only what enters it and all of the
/// dearest block.
fn activations(law: &Law, anchors: &[&LlamaArch], pass: Pass) -> u64 {
    let spec = &law.spec;
    let tokens = pass.rows * pass.tokens;
    let of_path = |stitch: &Stitch| {
        let blocks = stitch.segments.iter().flat_map(|segment| {
            let arch = anchors[segment.anchor.index()];
            (segment.first..=segment.last).map(move |_| arch)
        });
        match spec.keeps_little() {
            false => blocks.map(|arch| kept(spec, arch)).sum::<u64>(),
            true => {
                let (mut entering, mut dearest) = (0, 0);
                for arch in blocks {
                    entering += F32 * arch.width();
                    dearest = dearest.max(kept(spec, arch));
                }
                // A block that had to be brought runs all passes of a slot before the next one is.
                let passes = if spec.is_sharded() { u64::from(spec.train.gradient_accumulation_steps) } else { 1 };
                entering * passes + dearest
            }
        }
    };
    let paths = law.catalog.stitches().map(of_path).max().unwrap_or(0);
    // On the way back the gradients of the widest block's inner activations exist beside what was kept.
    let back = anchors.iter().map(|arch| passing(spec, arch)).max().unwrap_or(0);
    tokens * (paths + back)
}

/// Bytes per token that a block's backward pass reads.
fn kept(spec: &JobSpec, arch: &LlamaArch) -> u64 {
    let e = product_bytes(spec);
    let carries = |target| spec.trains_everything() || spec.pst.targets.contains(&target);
    let (d, f, q) = (arch.width(), u64::from(arch.intermediate_size), arch.query_width());
    // Both norms read the residual stream; low-rank pairs read what enters them.
    let norms = 2 * F32 * d;
    let adapted_in = if [Target::Q, Target::K, Target::V].into_iter().any(carries) { e * d } else { 0 };
    let adapted_mlp = if carries(Target::Fc1) { e * d } else { 0 };
    let adapted_out = if carries(Target::Fc2) { e * f } else { 0 };
    // Queries, keys and values for every head, and what attention answers.
    let attention = 4 * e * q + if arch.has_qk_norm() { F32 * (q + arch.key_width()) } else { 0 };
    // Gate, its SiLU, and up.
    norms + adapted_in + attention + adapted_mlp + 3 * e * f + adapted_out
}

/// Bytes per token of gradients that exist at once inside a block.
fn passing(spec: &JobSpec, arch: &LlamaArch) -> u64 {
    let e = product_bytes(spec);
    2 * F32 * arch.width() + 3 * e * u64::from(arch.intermediate_size)
}

/// Logits as they are multiplied and in single precision, their log-softmax, and the gradient of both.
fn logits(spec: &JobSpec, anchors: &[&LlamaArch], pass: Pass) -> u64 {
    let e = product_bytes(spec);
    let each = if e == F32 { 3 * F32 } else { 3 * F32 + 2 * e };
    let rows = anchors.iter().map(|arch| u64::from(arch.vocab_size)).max().unwrap_or(0);
    let teacher = if spec.train.distill.weight > 0.0 { 2 * F32 } else { 0 };
    pass.learned * rows * (each + teacher)
}

/// Tokens of one pass of the least-squares fit.
pub const FIT_TOKENS: u64 = 2048;

/// Passes of the fit that go through a block side by side where blocks have to be brought.
pub const FIT_SIDE_BY_SIDE: u64 = 16;

/// Bytes of normal equations that exist at once, but that one layer has its own whatever they take: more layers are fitted
/// in further sweeps over the samples.
pub const FIT_EQUATIONS: u64 = 2 << 30;

/// Bytes of one layer's normal equations: `[F+1, F+1]` and `[F+1, E]` at each of its positions, F and E the widths in front
/// and behind.
#[must_use]
pub fn equations_bytes(from: u64, to: u64, positions: usize) -> u64 {
    positions as u64 * F64 * ((from + 1) * (from + 1) + (from + 1) * to)
}

/// Normal equations in double precision by place, and one chunk's activations of all anchors.
fn fit(law: &Law, anchors: &[&LlamaArch]) -> u64 {
    let of_layer = |layer: &crate::catalog::Layer| {
        let (from, to) = (anchors[layer.from.index()].width(), anchors[layer.to.index()].width());
        equations_bytes(from, to, layer.positions.len())
    };
    let all: u64 = law.catalog.layers.iter().map(of_layer).sum();
    let dearest = law.catalog.layers.iter().map(of_layer).max().unwrap_or(0);
    let equations = all.min(FIT_EQUATIONS.max(dearest));
    if equations == 0 {
        return 0;
    }
    let states = states(law, anchors);
    // Two matrices of rows in double precision are at hand.
    let widest = anchors.iter().map(|arch| arch.width()).max().unwrap_or(0);
    let working = 3 * F64 * widest + anchors.iter().map(|arch| passing(&law.spec, arch)).max().unwrap_or(0);
    equations + FIT_TOKENS * (states + working)
}

/// Bytes per token of one pass of what the fit reads, and of what passes by: where blocks have to be brought, what it reads
/// waits outside, and many passes go by at once.
fn states(law: &Law, anchors: &[&LlamaArch]) -> u64 {
    let widths =
        |layer: &crate::catalog::Layer| anchors[layer.from.index()].width() + anchors[layer.to.index()].width();
    let places: u64 = law.catalog.layers.iter().map(|layer| layer.positions.len() as u64 * widths(layer)).sum();
    let passing = 2 * anchors.iter().map(|arch| arch.width()).max().unwrap_or(0);
    F32 * if law.spec.is_sharded() { FIT_SIDE_BY_SIDE * passing } else { places + passing }
}

/// Learned tokens whose logits are judged at once, in double precision.
pub const JUDGED_TOKENS: u64 = 128;

/// Passes of the evaluation that go through a block side by side where blocks have to be brought.
pub const JUDGED_SIDE_BY_SIDE: u64 = 16;

/// Layers, trained values with their moments, and one pass; where blocks have to be brought, the states of others wait.
fn evaluation(law: &Law, anchors: &[&LlamaArch], pass: Pass) -> u64 {
    let trained = law.layout.trainable_params() * 3 * F32;
    let widest = anchors.iter().map(|arch| arch.width()).max().unwrap_or(0);
    let waiting = if law.spec.is_sharded() { (JUDGED_SIDE_BY_SIDE - 1) * F32 * widest } else { 0 };
    layers_bytes(law) + trained + pass.rows * pass.tokens * waiting + judging(&law.spec, anchors, pass)
}

/// A pass without a way back through blocks of these anchors: its states, and beside them first its dearest block, then its
/// logits, as they are multiplied and in single precision, some of them in double precision with their log-softmax.
fn judging(spec: &JobSpec, anchors: &[&LlamaArch], pass: Pass) -> u64 {
    let e = product_bytes(spec);
    let tokens = pass.rows * pass.tokens;
    let state = F32 * anchors.iter().map(|arch| arch.width()).max().unwrap_or(0);
    let block = anchors.iter().map(|arch| passing(spec, arch)).max().unwrap_or(0);
    let vocabulary = anchors.iter().map(|arch| u64::from(arch.vocab_size)).max().unwrap_or(0);
    let each = if e == F32 { F32 } else { F32 + e };
    let logits = vocabulary * (pass.learned * each + pass.learned.min(JUDGED_TOKENS) * 2 * F64);
    tokens * state + (tokens * (block - state)).max(logits)
}

/// Bytes that a deployed stitch is planned to take: its parameters in the type they are multiplied in, and one pass over
/// held-out texts beside them. None for a family that does not speak.
#[must_use]
pub fn deployed(law: &Law, stitch: &Stitch, held_out: Pass) -> Option<u64> {
    let anchors = stitch.segments.iter().map(|segment| law.catalog.anchors[segment.anchor.index()].as_llama());
    let anchors: Vec<&LlamaArch> = anchors.collect::<Option<_>>()?;
    Some(stitch.params * product_bytes(&law.spec) + judging(&law.spec, &anchors, held_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(changes: &[(&str, serde_json::Value)]) -> Law {
        let mut job = serde_json::json!({
            "name": "chat",
            "family": {
                "anchors": [
                    {"name": "7b", "preset": "llama-7b", "weights": "7b"},
                    {"name": "13b", "preset": "llama-13b", "weights": "13b"},
                ],
                "space": {"kind": "proportional"},
            },
            "budgets": {"params": {"gap": 1e9}},
            "sampling": {"slots": 8},
            "model": {}, "train": {"max_steps": 1, "batch_size": 128, "precision": "bf16", "gradient_checkpointing": false},
            "data": {"text": {"max_length": 512}, "train": {"layout": "alpaca", "path": "a.json"}},
        });
        for (path, value) in changes {
            *job.pointer_mut(path).expect("a section") = value.clone();
        }
        Law::new(serde_json::from_value(job).expect("a job")).expect("a sound job")
    }

    fn plan(changes: &[(&str, serde_json::Value)]) -> MemoryPlan {
        let law = law(changes);
        MemoryPlan::of(&law, Pass::at_most(&law.spec), Pass::held_out_at_most(&law.spec)).expect("they speak")
    }

    #[test]
    fn frozen_weights_are_those_of_both_anchors_once_in_two_bytes() {
        let parameters = 6_738_415_616_u64 + 13_015_864_320;
        let bytes = plan(&[]).anchors;
        // Norms stay in four bytes.
        assert_eq!(bytes, 2 * parameters + 2 * (65 * 4096 + 81 * 5120));
        let full = plan(&[("/train", serde_json::json!({"max_steps": 1, "batch_size": 128}))]);
        assert_eq!(full.anchors, 4 * parameters);
    }

    #[test]
    fn training_needs_memory_for_what_trains_alone() {
        let law = law(&[]);
        let plan = MemoryPlan::of(&law, Pass::at_most(&law.spec), None).expect("they speak");
        assert_eq!(plan.training, law.layout.trainable_params() * 32);
        assert!(plan.training < plan.anchors / 20, "{plan}");
    }

    #[test]
    fn shorter_passes_and_checkpoints_need_less() {
        let train = |more: serde_json::Value| {
            let mut train = serde_json::json!({"max_steps": 1, "batch_size": 128, "precision": "bf16"});
            for (key, value) in more.as_object().expect("keys") {
                train[key] = value.clone();
            }
            plan(&[("/train", train)])
        };
        let whole = train(serde_json::json!({}));
        let split = train(serde_json::json!({"gradient_accumulation_steps": 4}));
        assert_eq!((split.activations, split.logits), (whole.activations / 4, whole.logits / 4));
        let kept = train(serde_json::json!({"gradient_checkpointing": true}));
        assert!(kept.activations * 6 < whole.activations, "{kept} against {whole}");
        assert_eq!((kept.anchors, kept.training, kept.logits), (whole.anchors, whole.training, whole.logits));
    }

    #[test]
    fn spread_blocks_are_divided_among_ranks_and_everything_else_is_on_each() {
        let whole = plan(&[("/train/gradient_checkpointing", serde_json::json!(true))]);
        let spread = plan(&[("/model", serde_json::json!({"shard": "node"}))]);
        let (small, large) = (4 * 4096 * 4096 + 3 * 4096 * 11008, 4 * 5120 * 5120 + 3 * 5120 * 13824_u64);
        let blocks = 2 * (32 * small + 40 * large) + 4 * (64 * 4096 + 80 * 5120);
        assert_eq!(spread.blocks, blocks);
        assert_eq!(spread.anchors, whole.anchors - blocks + 2 * (2 * (small + large) + 8 * (4096 + 5120)));
        assert_eq!(spread.peak(4) - spread.least(), blocks.div_ceil(4));
        assert_eq!((whole.blocks, whole.peak(4)), (0, whole.peak(1)));
        assert_eq!((spread.training, spread.logits), (whole.training, whole.logits));
        assert!(spread.peak(8) < whole.peak(8) / 2, "{spread} against {whole}");
    }

    #[test]
    fn an_evaluation_counts_where_it_needs_more_than_a_step() {
        let eval = |batch_size: u32| {
            let texts = serde_json::json!({"layout": "alpaca", "path": "a.json"});
            let data = serde_json::json!({"text": {"max_length": 512}, "train": texts, "eval": texts});
            let mut law = law(&[("/data", data)]);
            law.spec.eval.batch_size = batch_size;
            law.spec.train.gradient_checkpointing = true;
            law.spec.train.gradient_accumulation_steps = 16;
            MemoryPlan::of(&law, Pass::at_most(&law.spec), Pass::held_out_at_most(&law.spec)).expect("they speak")
        };
        let (small, large) = (eval(1), eval(256));
        let step = small.layers + small.training + small.activations + small.logits;
        assert!(small.evaluation < step);
        assert_eq!(small.peak(1), small.anchors + step.max(small.fit));
        // 256 texts of 512 tokens with their states, 32,000 logits each in two and four bytes, and some twice in eight.
        let logits = 256 * 512 * 4 * 5120 + 32_000 * (256 * 512 * 6 + 128 * 16);
        assert_eq!(large.evaluation, large.layers + large.training * 12 / 32 + logits);
        assert_eq!(large.peak(1), large.anchors + large.evaluation);
        assert_eq!(plan(&[]).evaluation, 0, "the job names no held-out texts");
    }

    #[test]
    fn a_deployed_stitch_needs_its_parameters_and_a_pass() {
        let law = law(&[]);
        let pass = Pass { rows: 4, tokens: 100, learned: 40 };
        let needs: Vec<u64> =
            law.catalog.stitches().map(|stitch| deployed(&law, stitch, pass).expect("it speaks")).collect();
        let smallest = law.catalog.stitches().next().expect("the small anchor");
        let (state, block) = (400 * 4 * 4096, 400 * (4 * 4096 + 3 * 2 * 11008));
        assert_eq!(needs[0], 2 * smallest.params + state + block.max(32_000 * (40 * 6 + 40 * 16)));
        assert!(needs.iter().max() > needs.first());
    }

    #[test]
    fn amounts_read_as_cards_are_sold() {
        assert_eq!(
            [79_500_000_000, 2_340_000, 999].map(|bytes| Bytes(bytes).to_string()),
            ["79.5 GB", "2.3 MB", "1.0 kB"]
        );
    }
}
