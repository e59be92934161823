//! How parameters start (TENSOR): every parameter draws from its own stream, named by the parameter, so that neither
//! the order of building nor the other parameters can reach its numbers.

use esta_engine::arch::{Arch, LlamaArch, VitArch};
use esta_engine::catalog::Catalog;
use esta_engine::cost::Task;
use esta_engine::streams::{Stream, rng};
use esta_proto::AnchorId;
use rand::{Rng, RngExt};
use tch::Tensor;

use crate::checkpoint::tensor_shapes;
use crate::hub::llama_shapes;
use crate::params::signed;
use crate::weights::Weights;

/// Kaiming-uniform with a = sqrt(5) over a fan-in of the last dimensions, as PEFT starts LoRA A and PyTorch its layers:
/// uniform in +-1/sqrt(fan-in).
pub(crate) fn kaiming_uniform(seed: u64, name: &str, shape: &[i64], fan_in: i64) -> Tensor {
    let mut rng = rng(seed, Stream::Init, name_hash(name));
    let bound = (1.0 / (fan_in as f64).sqrt()) as f32;
    fill(shape, || (2.0 * rng.random::<f32>() - 1.0) * bound)
}

/// An anchor from scratch, under its checkpoint's names.
#[must_use]
pub fn random_anchor(arch: &Arch, task: Task, seed: u64) -> Weights {
    match arch {
        Arch::Vit(arch) => random_vit(arch, task.classes(), seed),
        Arch::Llama(arch) => random_llama(arch, seed),
    }
}

/// A language model from scratch: matrices normal of deviation 0.02 (wider where the network is narrow, see
/// `matrix_deviation`), those that write into the residual stream narrower by the root of their number (Radford et al. 2019),
/// embeddings 0.3, norms one, biases zero. At transformers' 0.02 an embedding is drowned by what the first blocks add: on
/// manual pages a short pre-training ended 0.65 higher.
#[must_use]
pub fn random_llama(arch: &LlamaArch, seed: u64) -> Weights {
    let mut weights = Weights::new("random initialisation");
    for (name, shape) in llama_shapes(arch) {
        let writes = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
        let deviation = match name.contains("embed_tokens") {
            true => EMBEDDING_DEVIATION,
            false if writes => matrix_deviation(arch.hidden_size) / f64::from(2 * arch.num_hidden_layers).sqrt(),
            false => matrix_deviation(arch.hidden_size),
        };
        let tensor = start_of(&name, &shape, deviation, seed);
        weights.insert(name, tensor);
    }
    weights
}

/// A vision transformer from scratch, as timm starts one: matrices truncated normal of deviation 0.02, patch embedding
/// Kaiming-uniform, norms one, biases and head zero. With a head of `num_classes`. Networks narrower than timm's
/// narrowest start their matrices wider (`matrix_deviation`).
#[must_use]
pub fn random_vit(arch: &VitArch, num_classes: u32, seed: u64) -> Weights {
    let mut weights = Weights::new("random initialisation");
    for (name, shape) in tensor_shapes(arch, Some(num_classes)) {
        let tensor = start_of(&name, &shape, matrix_deviation(arch.embed_dim), seed);
        weights.insert(name, tensor);
    }
    weights
}

/// Stitching layers of a catalog that nobody fitted, under `stitch_layers.{l}.`: for what depends on shapes alone.
#[must_use]
pub fn random_layers(catalog: &Catalog, seed: u64) -> Weights {
    let mut weights = Weights::new("random stitching layers");
    for layer in &catalog.layers {
        let width = |anchor: AnchorId| signed(catalog.anchors[anchor.index()].width());
        let (front, end) = (width(layer.from), width(layer.to));
        let name = |part: &str| format!("stitch_layers.{}.{part}", layer.id);
        weights.insert(name("weight"), kaiming_uniform(seed, &name("weight"), &[end, front], front));
        weights.insert(name("bias"), Tensor::zeros([end], (tch::Kind::Float, tch::Device::Cpu)));
    }
    weights
}

/// Of a language model's embedding.
const EMBEDDING_DEVIATION: f64 = 0.3;

/// timm's 0.02 from ViT-Ti's width on; below it 0.5/sqrt(width), since at 0.02 a narrow block starts as next to nothing
/// and a short pre-training ends several points lower.
fn matrix_deviation(width: u32) -> f64 {
    if width < 192 { 0.5 / f64::from(width).sqrt() } else { 0.02 }
}

fn start_of(name: &str, shape: &[i64], deviation: f64, seed: u64) -> Tensor {
    let options = (tch::Kind::Float, tch::Device::Cpu);
    match name {
        "patch_embed.proj.weight" => kaiming_uniform(seed, name, shape, shape[1..].iter().product()),
        "cls_token" => truncated_normal(seed, name, shape, 1e-6),
        "pos_embed" => truncated_normal(seed, name, shape, 0.02),
        _ if name.starts_with("head.") || name.ends_with(".bias") => Tensor::zeros(shape, options),
        _ if name.contains("norm") => Tensor::ones(shape, options),
        _ => truncated_normal(seed, name, shape, deviation),
    }
}

/// Normal of deviation `deviation`, redrawn beyond two deviations.
fn truncated_normal(seed: u64, name: &str, shape: &[i64], deviation: f64) -> Tensor {
    let mut rng = rng(seed, Stream::Init, name_hash(name));
    fill(shape, || {
        let value = std::iter::repeat_with(|| standard_normal(&mut rng)).find(|value| value.abs() <= 2.0);
        (value.expect("an endless stream holds one within two deviations") * deviation) as f32
    })
}

/// Box and Muller's transform, one of its two results.
fn standard_normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

fn fill(shape: &[i64], next: impl FnMut() -> f32) -> Tensor {
    let numel = usize::try_from(shape.iter().product::<i64>()).expect("shapes are not negative");
    let values: Vec<f32> = std::iter::repeat_with(next).take(numel).collect();
    Tensor::from_slice(&values).view(shape)
}

/// FNV-1a: a parameter's index in the stream of starts.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
