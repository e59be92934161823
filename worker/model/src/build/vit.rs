//! Parts of vision transformers by timm's names.

use esta_engine::arch::VitArch;
use esta_proto::AnchorId;

use super::Builder;
use crate::source::LinearShape;
use crate::vit::{Attention, Embed, Head, Mlp, VitBlock};
use crate::weights::WeightsError;

impl Builder<'_> {
    pub(super) fn patch_embed(&self, anchor: AnchorId, arch: &VitArch) -> Result<Embed, WeightsError> {
        let (width, patch) = (i64::from(arch.embed_dim), i64::from(arch.patch_size));
        let tokens = i64::try_from(arch.tokens()).expect("token counts fit i64");
        let name = format!("anchors.{anchor}.patch_embed.proj");
        let shape = [width, i64::from(arch.in_chans), patch, patch];
        Ok(Embed {
            cls_token: self.source.tensor(&format!("anchors.{anchor}.cls_token"), &[1, 1, width])?,
            pos_embed: self.source.tensor(&format!("anchors.{anchor}.pos_embed"), &[1, tokens, width])?,
            proj: self.source.linear(&LinearShape::plain(&name, &shape))?,
            patch_size: patch,
        })
    }

    pub(super) fn vit_block(
        &self,
        (anchor, arch): (AnchorId, &VitArch),
        block: u32,
        own: Option<&str>,
    ) -> Result<VitBlock, WeightsError> {
        let width = i64::from(arch.embed_dim);
        let hidden = width * i64::from(arch.mlp_ratio);
        let name = |part: &str| format!("anchors.{anchor}.blocks.{block}.{part}");
        let own = |part: &str| own.map(|own| format!("{own}blocks.{block}.{part}"));
        let adapted = |part: &str, parts: i64, (outputs, inputs): (i64, i64)| {
            let (name, shape) = (name(part), [parts * outputs, inputs]);
            let (scale, own) = (self.source.pst.scale(), own(part));
            self.source.linear(&LinearShape { parts, scale, own, ..LinearShape::plain(&name, &shape) })
        };
        Ok(VitBlock {
            norm1: self.source.norm(&name("norm1"), width)?,
            attn: Attention {
                qkv: adapted("attn.qkv", 3, (width, width))?,
                proj: adapted("attn.proj", 1, (width, width))?,
                num_heads: i64::from(arch.num_heads),
            },
            norm2: self.source.norm(&name("norm2"), width)?,
            mlp: Mlp { fc1: adapted("mlp.fc1", 1, (hidden, width))?, fc2: adapted("mlp.fc2", 1, (width, hidden))? },
        })
    }

    pub(super) fn class_head(&self, anchor: AnchorId) -> Result<Head, WeightsError> {
        let width = self.width(anchor);
        let shape = [i64::from(self.catalog.task.classes()), width];
        Ok(Head {
            norm: self.source.norm(&format!("anchors.{anchor}.norm"), width)?,
            head: self.source.linear(&LinearShape::plain(&format!("anchors.{anchor}.head"), &shape))?,
        })
    }
}
