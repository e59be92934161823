//! All stitches of a run over one set of tensors (TENSOR): anchors and stitching layers exist once, a stitch is a
//! [`Network`] of handles to them.

use esta_engine::catalog::Catalog;
use esta_engine::spec::{Precision, PstSpec};
use esta_proto::StitchId;
use tch::Tensor;
use thiserror::Error;

use crate::build::Builder;
use crate::input::Input;
use crate::linear::Phase;
use crate::network::Network;
use crate::params::ParamStore;
use crate::source::Source;
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
        let frozen = frozen.shallow_clone().matrices_in(precision);
        let source = Source { frozen: &frozen, trained: Some(trained), pst, precision };
        Self::all(catalog, source)
    }

    /// Every stitch without adaptation, all of it from `frozen`, heads included: the networks that [`Self::merged`] would
    /// give, of other numbers, with all weights shared.
    ///
    /// # Errors
    /// [`WeightsError`] for a tensor that is not there, or in another shape.
    pub fn plain(catalog: &Catalog, frozen: &Weights, precision: Precision) -> Result<Self, WeightsError> {
        let (frozen, pst) = (frozen.shallow_clone().matrices_in(precision), PstSpec::default());
        let source = Source { frozen: &frozen, trained: None, pst: &pst, precision };
        Self::all(catalog, source)
    }

    /// The network of a stitch.
    ///
    /// # Errors
    /// [`StitchError::Unknown`] for a hole or a number beyond the catalog.
    pub fn network(&self, stitch: StitchId) -> Result<&Network, StitchError> {
        self.networks.get(stitch.index()).and_then(Option::as_ref).ok_or(StitchError::Unknown(stitch))
    }

    /// The logits of a stitch; see [`Network::forward`].
    ///
    /// # Errors
    /// [`StitchError::Unknown`].
    pub fn forward(&self, stitch: StitchId, input: &Input, phase: Phase) -> Result<Tensor, StitchError> {
        Ok(self.network(stitch)?.forward(input, phase))
    }

    fn all(catalog: &Catalog, source: Source<'_>) -> Result<Self, WeightsError> {
        let precision = source.precision;
        let builder = Builder::new(catalog, source);
        let stitches = (0..).map(StitchId).take(catalog.id_bound());
        let networks = stitches.map(|id| catalog.get(id).map(|stitch| builder.network(stitch)).transpose());
        Ok(Self { networks: networks.collect::<Result<_, _>>()?, precision })
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }
}
