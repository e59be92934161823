//! The stitched network a second time, as METHOD.md writes it: double precision, q, k and v apart, one pair and one bias
//! after another, attention by its formula, `.grad` for gradients. It shares no line with the crate.

use std::collections::BTreeMap;

use esta_engine::catalog::Stitch;
use esta_engine::spec::Target;
use tch::{Kind, Tensor};

use crate::fixture::Family;

/// Double-precision copies of everything trained, each a leaf of its own.
pub struct Reference<'a> {
    family: &'a Family,
    pub leaves: BTreeMap<String, Tensor>,
}

impl<'a> Reference<'a> {
    pub fn new(family: &'a Family) -> Self {
        let params = family.store.groups().iter().flat_map(|group| &group.params);
        let leaf = |tensor: &Tensor| tensor.detach().to_kind(Kind::Double).set_requires_grad(true);
        let leaves = params.map(|param| (param.name.clone(), leaf(&param.tensor))).collect();
        Self { family, leaves }
    }

    fn get(&self, name: &str) -> Tensor {
        let frozen = || self.family.frozen.get(name).unwrap_or_else(|| panic!("no {name}")).to_kind(Kind::Double);
        self.leaves.get(name).map_or_else(frozen, Tensor::shallow_clone)
    }

    pub fn loss(&self, stitch: &Stitch, images: &Tensor, labels: &Tensor) -> Tensor {
        let log_probabilities = self.logits(stitch, images).log_softmax(-1, Kind::Double);
        log_probabilities.gather(1, &labels.view([-1, 1]), false).mean(Kind::Double).neg()
    }

    pub fn logits(&self, stitch: &Stitch, images: &Tensor) -> Tensor {
        let first = format!("anchors.{}.", stitch.segments[0].anchor);
        let mut x = self.embed(&first, &images.to_kind(Kind::Double));
        for (place, segment) in stitch.segments.iter().enumerate() {
            if place > 0 {
                let own = format!("stitches.{}.layers.{}.bias", stitch.id, place - 1);
                x = self.adapted(&x, &format!("stitch_layers.{}", stitch.layers[place - 1]), &own, 1.0);
            }
            for block in segment.first..=segment.last {
                let own = format!("stitches.{}.{place}.blocks.{block}.", stitch.id);
                x = self.block(
                    &x,
                    &format!("anchors.{}.blocks.{block}.", segment.anchor),
                    &own,
                    segment.anchor.index(),
                );
            }
        }
        let end = format!("anchors.{}.", stitch.end_anchor());
        self.plain(&self.norm(&x, &format!("{end}norm")).select(1, 0), &format!("{end}head"))
    }

    /// A frozen anchor's activations before each block and after the last, [B, N, D].
    pub fn states(&self, anchor: usize, images: &Tensor) -> Vec<Tensor> {
        let bare = Reference { family: self.family, leaves: BTreeMap::new() };
        let mut states = vec![bare.embed(&format!("anchors.{anchor}."), &images.to_kind(Kind::Double))];
        for block in 0..self.family.catalog.anchors[anchor].depth() {
            let next = bare.block(&states[block as usize], &format!("anchors.{anchor}.blocks.{block}."), "", anchor);
            states.push(next);
        }
        states
    }

    /// What a frozen anchor's head reads, [B, D], of activations [B, N, D] that still pass some blocks.
    pub fn features(&self, anchor: usize, mut x: Tensor, blocks: std::ops::Range<u32>) -> Tensor {
        let bare = Reference { family: self.family, leaves: BTreeMap::new() };
        for block in blocks {
            x = bare.block(&x, &format!("anchors.{anchor}.blocks.{block}."), "", anchor);
        }
        bare.norm(&x, &format!("anchors.{anchor}.norm")).select(1, 0)
    }

    fn embed(&self, prefix: &str, images: &Tensor) -> Tensor {
        let weight = self.get(&format!("{prefix}patch_embed.proj.weight"));
        let patch = weight.size()[2];
        let bias = self.get(&format!("{prefix}patch_embed.proj.bias"));
        let x = images.conv2d(&weight, Some(bias), [patch, patch], [0, 0], [1, 1], 1).flatten(2, 3).transpose(1, 2);
        let class = self.get(&format!("{prefix}cls_token")).repeat([x.size()[0], 1, 1]);
        Tensor::cat(&[class, x], 1) + self.get(&format!("{prefix}pos_embed"))
    }

    fn block(&self, x: &Tensor, prefix: &str, own: &str, anchor: usize) -> Tensor {
        let heads = i64::from(self.family.catalog.anchors[anchor].as_vit().expect("images").num_heads);
        let x = x + self.attention(&self.norm(x, &format!("{prefix}norm1")), prefix, own, heads);
        let scale = self.family.spec.pst.scale();
        let map =
            |x: &Tensor, name: &str| self.adapted(x, &format!("{prefix}{name}"), &format!("{own}{name}.bias"), scale);
        let hidden = map(&self.norm(&x, &format!("{prefix}norm2")), "mlp.fc1");
        let gelu = &hidden * 0.5 * ((&hidden / 2f64.sqrt()).erf() + 1.0);
        &x + map(&gelu, "mlp.fc2")
    }

    fn attention(&self, x: &Tensor, prefix: &str, own: &str, heads: i64) -> Tensor {
        let (b, n, d) = x.size3().expect("[B, N, D]");
        let split = |t: Tensor| t.view([b, n, heads, d / heads]).transpose(1, 2);
        let [q, k, v] = [0, 1, 2].map(|part| split(self.part(x, prefix, own, part)));
        let weights = (q.matmul(&k.transpose(2, 3)) / ((d / heads) as f64).sqrt()).softmax(-1, Kind::Double);
        let out = weights.matmul(&v).transpose(1, 2).reshape([b, n, d]);
        self.adapted(&out, &format!("{prefix}attn.proj"), &format!("{own}attn.proj.bias"), self.family.spec.pst.scale())
    }

    /// q, k or v.
    fn part(&self, x: &Tensor, prefix: &str, own: &str, part: i64) -> Tensor {
        let d = x.size()[2];
        let rows = |name: &str| self.get(&format!("{prefix}attn.qkv.{name}")).narrow(0, part * d, d);
        let mut h = x.matmul(&rows("weight").tr()) + rows("bias");
        let all = [Target::Q, Target::K, Target::V];
        let targets = &self.family.spec.pst.targets;
        let Some(index) = targets.iter().position(|target| *target == all[part as usize]) else { return h };
        let lora = |name: &str| self.leaves.get(&format!("{prefix}attn.qkv.{name}")).map(|t| t.get(index as i64));
        if let (Some(a), Some(b)) = (lora("lora_A"), lora("lora_B")) {
            h += x.matmul(&a.tr()).matmul(&b.tr()) * self.family.spec.pst.scale();
        }
        match self.leaves.get(&format!("{own}attn.qkv.bias")) {
            Some(bias) => h + bias.get(index as i64),
            None => h,
        }
    }

    fn adapted(&self, x: &Tensor, name: &str, own: &str, scale: f64) -> Tensor {
        let mut h = self.plain(x, name);
        let lora = |part: &str| self.leaves.get(&format!("{name}.{part}"));
        if let (Some(a), Some(b)) = (lora("lora_A"), lora("lora_B")) {
            h += x.matmul(&a.tr()).matmul(&b.tr()) * scale;
        }
        match self.leaves.get(own) {
            Some(bias) => h + bias,
            None => h,
        }
    }

    fn plain(&self, x: &Tensor, name: &str) -> Tensor {
        x.matmul(&self.get(&format!("{name}.weight")).tr()) + self.get(&format!("{name}.bias"))
    }

    fn norm(&self, x: &Tensor, name: &str) -> Tensor {
        let mean = x.mean_dim(-1, true, Kind::Double);
        let centred = x - mean;
        let variance = centred.square().mean_dim(-1, true, Kind::Double);
        centred / (variance + 1e-6).sqrt() * self.get(&format!("{name}.weight")) + self.get(&format!("{name}.bias"))
    }
}
