//! From a catalog to networks (TENSOR): a path is built of handles to tensors that exist once.

mod llama;
mod vit;

pub(crate) use llama::{Biases, BlockBuilder, MOST_POSITIONS, token_embed, token_head};

use esta_engine::arch::Arch;
use esta_engine::catalog::{Catalog, Segment as Span, Stitch};
use esta_engine::shard::BlockId;
use esta_proto::{AnchorId, LayerId};

use crate::llama::{RmsNorm, Rope};
use crate::network::{Block, Front, Network, Segment, Tail};
use crate::source::{LinearShape, Source};
use crate::vit::LayerNorm;
use crate::weights::WeightsError;
use crate::windows::Windowed;

/// Builds paths of a catalog.
pub(crate) struct Builder<'a> {
    catalog: &'a Catalog,
    source: Source<'a>,
    /// By anchor: rotations of its positions; none for a vision transformer.
    ropes: Vec<Option<Rope>>,
}

/// An anchor's final norm.
#[derive(Debug)]
pub(crate) enum FinalNorm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

impl<'a> Builder<'a> {
    pub fn new(catalog: &'a Catalog, source: Source<'a>) -> Self {
        let ropes = catalog.anchors.iter().map(|arch| llama::rope(arch, catalog.task, source.device())).collect();
        Self { catalog, source, ropes }
    }

    pub fn network(&self, stitch: &Stitch) -> Result<Network, WeightsError> {
        let segments = (0..stitch.segments.len()).map(|place| self.segment(stitch, place));
        Ok(Network {
            front: self.front(stitch.segments[0].anchor)?,
            segments: segments.collect::<Result<_, _>>()?,
            tail: self.tail(stitch)?,
        })
    }

    fn segment(&self, stitch: &Stitch, place: usize) -> Result<Segment, WeightsError> {
        let Span { anchor, first, last } = stitch.segments[place];
        let entry = match place.checked_sub(1) {
            Some(hop) => Some(self.layer(stitch.layers[hop], format!("stitches.{}.layers.{hop}", stitch.id))?),
            None => None,
        };
        let own = format!("stitches.{}.{place}.", stitch.id);
        let blocks = (first..=last).map(|block| self.block(anchor, block, Some(&own)));
        Ok(Segment { entry, blocks: blocks.collect::<Result<_, WeightsError>>()? })
    }

    fn layer(&self, id: LayerId, own: String) -> Result<crate::linear::Linear, WeightsError> {
        let layer = &self.catalog.layers[id.index()];
        let shape = [self.width(layer.to), self.width(layer.from)];
        let name = format!("stitch_layers.{id}");
        self.source.linear(&LinearShape { own: Some(own), ..LinearShape::plain(&name, &shape) })
    }

    /// Everything in front of an anchor's blocks.
    pub fn front(&self, anchor: AnchorId) -> Result<Front, WeightsError> {
        match self.arch(anchor) {
            Arch::Vit(arch) => self.patch_embed(anchor, arch).map(Front::Patches),
            Arch::Llama(arch) => self.anchors_embed(anchor, arch).map(Front::Tokens),
        }
    }

    /// A block; `own` is the prefix of the stitch's own tensors on it.
    pub fn block(&self, anchor: AnchorId, block: u32, own: Option<&str>) -> Result<Box<dyn Block>, WeightsError> {
        let built: Box<dyn Block> = match self.arch(anchor) {
            Arch::Vit(arch) => Box::new(self.vit_block((anchor, arch), block, own)?),
            Arch::Llama(arch) => Box::new(self.llama_block((anchor, arch), block, own)?),
        };
        Ok(match self.source.frozen.windows() {
            None => built,
            Some(windows) => {
                Box::new(Windowed { block: built, id: BlockId { anchor, block }, windows: windows.clone() })
            }
        })
    }

    fn tail(&self, stitch: &Stitch) -> Result<Tail, WeightsError> {
        let anchor = stitch.end_anchor();
        match self.arch(anchor) {
            Arch::Vit(_) => self.class_head(anchor).map(Tail::Classes),
            Arch::Llama(arch) => self.anchors_head((anchor, arch), stitch.is_anchor()).map(Tail::Tokens),
        }
    }

    /// An anchor's final norm.
    pub fn final_norm(&self, anchor: AnchorId) -> Result<FinalNorm, WeightsError> {
        match self.arch(anchor) {
            Arch::Vit(_) => {
                self.source.norm(&format!("anchors.{anchor}.norm"), self.width(anchor)).map(FinalNorm::Layer)
            }
            Arch::Llama(arch) => self.final_rms_norm((anchor, arch)).map(FinalNorm::Rms),
        }
    }

    pub fn arch(&self, anchor: AnchorId) -> &'a Arch {
        &self.catalog.anchors[anchor.index()]
    }

    fn width(&self, anchor: AnchorId) -> i64 {
        i64::try_from(self.arch(anchor).width()).expect("widths fit i64")
    }
}
