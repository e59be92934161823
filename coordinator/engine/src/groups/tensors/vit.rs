//! A vision transformer's tensors, by timm's names.

use esta_proto::AnchorId;

use super::{Adapted, Param, affine, param};
use crate::arch::VitArch;
use crate::spec::{PstSpec, Target};

pub(super) fn embed(anchor: AnchorId, arch: &VitArch) -> Vec<Param> {
    let (d, patch) = (arch.width(), u64::from(arch.patch_size));
    let mut params = vec![
        param(format!("anchors.{anchor}.cls_token"), &[1, 1, d]),
        param(format!("anchors.{anchor}.pos_embed"), &[1, arch.tokens(), d]),
    ];
    params.extend(affine(&format!("anchors.{anchor}.patch_embed.proj"), &[d, u64::from(arch.in_chans), patch, patch]));
    params
}

pub(super) fn whole_block(prefix: &str, arch: &VitArch) -> Vec<Param> {
    let d = arch.width();
    let hidden = d * u64::from(arch.mlp_ratio);
    let modules: [(&str, &[u64]); 6] = [
        ("norm1", &[d]),
        ("attn.qkv", &[3 * d, d]),
        ("attn.proj", &[d, d]),
        ("norm2", &[d]),
        ("mlp.fc1", &[hidden, d]),
        ("mlp.fc2", &[d, hidden]),
    ];
    modules.iter().flat_map(|(name, shape)| affine(&format!("{prefix}.{name}"), shape)).collect()
}

/// The adapted maps of a block in the order of its flat buffer.
pub(super) fn adapted(arch: &VitArch, pst: &PstSpec) -> Vec<Adapted> {
    let d = arch.width();
    let hidden = d * u64::from(arch.mlp_ratio);
    let fused = pst.targets.iter().map(|&target| u64::from(target.is_fused())).sum();
    let carries = |target| pst.targets.contains(&target);
    let maps = [
        (fused > 0, Adapted { name: "attn.qkv", parts: Some(fused), inputs: d, outputs: d, biased: true }),
        (carries(Target::O), Adapted { name: "attn.proj", parts: None, inputs: d, outputs: d, biased: true }),
        (carries(Target::Fc1), Adapted { name: "mlp.fc1", parts: None, inputs: d, outputs: hidden, biased: true }),
        (carries(Target::Fc2), Adapted { name: "mlp.fc2", parts: None, inputs: hidden, outputs: d, biased: true }),
    ];
    maps.into_iter().filter_map(|(carries, map)| carries.then_some(map)).collect()
}
