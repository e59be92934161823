//! All stitches of a run over one set of tensors (TENSOR): anchors and stitching layers exist once, a stitch is a
//! [`Network`] of handles to them.

use esta_engine::arch::VitArch;
use esta_engine::catalog::{Catalog, Segment as Span, Stitch};
use esta_engine::spec::{Precision, PstSpec};
use esta_proto::{AnchorId, LayerId, StitchId};
use tch::{Kind, Tensor};
use thiserror::Error;

use crate::linear::{Linear, Phase};
use crate::network::{Block, Network, Segment};
use crate::params::ParamStore;
use crate::source::{LinearShape, Source};
use crate::vit::{Attention, Embed, Head, LayerNorm, Mlp, VitBlock};
use crate::weights::{Weights, WeightsError};

/// Why a stitch cannot be run.
#[derive(Debug, Error)]
pub enum StitchError {
    /// The catalog has no such stitch.
    #[error("stitch {0} is not in the catalog")]
    Unknown(StitchId),
    /// Merged weights of a network that rounds its frozen weights would be rounded too.
    #[error("a stitch is merged from a network built in single precision")]
    Precision,
}

/// The networks of a catalog.
pub struct StitchedNet {
    /// By stitch id.
    networks: Vec<Option<Network>>,
    precision: Precision,
}

impl StitchedNet {
    /// Builds every stitch. `trained` gives what its layout names; everything else is frozen and comes from `frozen`:
    /// anchors under `anchors.{a}.`, stitching layers under `stitch_layers.{l}.`. All on one device.
    ///
    /// # Errors
    /// [`WeightsError`] for a tensor that neither has, or has in another shape.
    pub fn new(
        catalog: &Catalog,
        trained: &ParamStore,
        frozen: &Weights,
        pst: &PstSpec,
        precision: Precision,
    ) -> Result<Self, WeightsError> {
        let frozen = stored(frozen, precision);
        let source = Source { frozen: &frozen, trained: Some(trained), pst, precision };
        Builder { catalog, source }.all()
    }

    /// Every stitch without adaptation, all of it from `frozen`, heads included: the networks that [`Self::merged`] would
    /// give, of other numbers, with all weights shared.
    ///
    /// # Errors
    /// [`WeightsError`] for a tensor that is not there, or in another shape.
    pub fn plain(catalog: &Catalog, frozen: &Weights, precision: Precision) -> Result<Self, WeightsError> {
        let (frozen, pst) = (stored(frozen, precision), PstSpec::default());
        let source = Source { frozen: &frozen, trained: None, pst: &pst, precision };
        Builder { catalog, source }.all()
    }

    /// The network of a stitch.
    ///
    /// # Errors
    /// [`StitchError::Unknown`] for a hole or a number beyond the catalog.
    pub fn network(&self, stitch: StitchId) -> Result<&Network, StitchError> {
        self.networks.get(stitch.index()).and_then(Option::as_ref).ok_or(StitchError::Unknown(stitch))
    }

    /// `images [B, C, H, W] -> logits [B, K]`.
    ///
    /// # Errors
    /// [`StitchError::Unknown`].
    pub fn forward(&self, stitch: StitchId, images: &Tensor, phase: Phase) -> Result<Tensor, StitchError> {
        Ok(self.network(stitch)?.forward(images, phase))
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }
}

/// Frozen matrices in the type in which they are multiplied: cast once, not in every step.
fn stored(frozen: &Weights, precision: Precision) -> Weights {
    let mut stored = Weights::new(frozen.origin());
    for (name, tensor) in frozen.iter() {
        let rounds = precision == Precision::Bf16 && name.ends_with(".weight") && tensor.dim() > 1;
        stored.insert(name, if rounds { tensor.to_kind(Kind::BFloat16) } else { tensor.shallow_clone() });
    }
    stored
}

/// Builds paths of a catalog.
pub(crate) struct Builder<'a> {
    pub catalog: &'a Catalog,
    pub source: Source<'a>,
}

impl Builder<'_> {
    fn all(&self) -> Result<StitchedNet, WeightsError> {
        let stitches = (0..).map(StitchId).take(self.catalog.id_bound());
        let networks = stitches.map(|id| self.catalog.get(id).map(|stitch| self.network(stitch)).transpose());
        Ok(StitchedNet { networks: networks.collect::<Result<_, _>>()?, precision: self.source.precision })
    }

    fn network(&self, stitch: &Stitch) -> Result<Network, WeightsError> {
        let segments = (0..stitch.segments.len()).map(|place| self.segment(stitch, place));
        Ok(Network {
            embed: self.embed(stitch.segments[0].anchor)?,
            segments: segments.collect::<Result<_, _>>()?,
            head: self.head(stitch.end_anchor())?,
        })
    }

    fn segment(&self, stitch: &Stitch, place: usize) -> Result<Segment, WeightsError> {
        let Span { anchor, first, last } = stitch.segments[place];
        let entry = match place.checked_sub(1) {
            Some(hop) => Some(self.layer(stitch.layers[hop], format!("stitches.{}.layers.{hop}", stitch.id))?),
            None => None,
        };
        let own = format!("stitches.{}.{place}.", stitch.id);
        let blocks = (first..=last).map(|block| {
            let block: Box<dyn Block> = Box::new(self.block(anchor, block, Some(&own))?);
            Ok(block)
        });
        Ok(Segment { entry, blocks: blocks.collect::<Result<_, WeightsError>>()? })
    }

    fn layer(&self, id: LayerId, own: String) -> Result<Linear, WeightsError> {
        let layer = &self.catalog.layers[id.index()];
        let shape = [self.width(layer.to), self.width(layer.from)];
        let name = format!("stitch_layers.{id}");
        self.source.linear(&LinearShape { name: &name, shape: &shape, parts: 1, scale: 1.0, own: Some(own) })
    }

    pub fn embed(&self, anchor: AnchorId) -> Result<Embed, WeightsError> {
        let arch = self.arch(anchor);
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

    /// A block; `own` is the prefix of the stitch's own tensors on it.
    pub fn block(&self, anchor: AnchorId, block: u32, own: Option<&str>) -> Result<VitBlock, WeightsError> {
        let arch = self.arch(anchor);
        let width = i64::from(arch.embed_dim);
        let hidden = width * i64::from(arch.mlp_ratio);
        let name = |part: &str| format!("anchors.{anchor}.blocks.{block}.{part}");
        let own = |part: &str| own.map(|own| format!("{own}blocks.{block}.{part}"));
        let adapted = |part: &str, parts: i64, (outputs, inputs): (i64, i64)| {
            let (name, shape) = (name(part), [parts * outputs, inputs]);
            let (scale, own) = (self.source.pst.scale(), own(part));
            self.source.linear(&LinearShape { name: &name, shape: &shape, parts, scale, own })
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

    fn head(&self, anchor: AnchorId) -> Result<Head, WeightsError> {
        let width = self.width(anchor);
        let shape = [i64::from(self.catalog.num_classes), width];
        Ok(Head {
            norm: self.norm(anchor)?,
            head: self.source.linear(&LinearShape::plain(&format!("anchors.{anchor}.head"), &shape))?,
        })
    }

    pub fn norm(&self, anchor: AnchorId) -> Result<LayerNorm, WeightsError> {
        self.source.norm(&format!("anchors.{anchor}.norm"), self.width(anchor))
    }

    pub fn arch(&self, anchor: AnchorId) -> &VitArch {
        &self.catalog.anchors[anchor.index()]
    }

    fn width(&self, anchor: AnchorId) -> i64 {
        i64::from(self.arch(anchor).embed_dim)
    }
}
