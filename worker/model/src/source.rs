//! Where the tensors of a network come from (TENSOR): what trains if it trains, else what is frozen. Whether a run trains
//! adapters or everything is visible only here, as the presence of a name.

use esta_engine::spec::{Precision, PstSpec, Target};
use tch::{Device, Tensor};

use crate::linear::{Adaptation, Linear, Lora, Targets};
use crate::llama::RmsNorm;
use crate::params::ParamStore;
use crate::vit::LayerNorm;
use crate::weights::{Weights, WeightsError};

/// Trained tensors over frozen ones.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub frozen: &'a Weights,
    pub trained: Option<&'a ParamStore>,
    pub pst: &'a PstSpec,
    pub precision: Precision,
}

/// A linear map to be built.
pub(crate) struct LinearShape<'a> {
    /// Name without `.weight`.
    pub name: &'a str,
    /// Of the weight: [P O, I], or any shape whose first side is P O.
    pub shape: &'a [i64],
    /// P
    pub parts: i64,
    /// Whether it has a bias of its own.
    pub biased: bool,
    /// Factor on the low-rank pair.
    pub scale: f64,
    /// What the stitch's own tensors on it are called, without `.bias`, `.lora_A` and `.lora_B`.
    pub own: Option<String>,
}

impl<'a> LinearShape<'a> {
    /// A map that never carries adaptation.
    pub fn plain(name: &'a str, shape: &'a [i64]) -> Self {
        Self { name, shape, parts: 1, biased: true, scale: 1.0, own: None }
    }
}

impl Source<'_> {
    /// The tensor of this name: a trained leaf, or frozen.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, WeightsError> {
        match self.trained(name) {
            Some(leaf) => Ok(leaf),
            None => self.frozen.expect(name, shape).map(Tensor::detach),
        }
    }

    /// Where the frozen tensors are.
    pub fn device(&self) -> Device {
        self.frozen.iter().next().map_or(Device::Cpu, |(_, tensor)| tensor.device())
    }

    fn trained(&self, name: &str) -> Option<Tensor> {
        self.trained?.get(name).map(Tensor::shallow_clone)
    }

    pub fn norm(&self, name: &str, width: i64) -> Result<LayerNorm, WeightsError> {
        Ok(LayerNorm {
            weight: self.tensor(&format!("{name}.weight"), &[width])?,
            bias: self.tensor(&format!("{name}.bias"), &[width])?,
        })
    }

    pub fn rms_norm(&self, name: &str, width: i64, eps: f64) -> Result<RmsNorm, WeightsError> {
        Ok(RmsNorm { weight: self.tensor(&format!("{name}.weight"), &[width])?, eps })
    }

    /// A linear map with whatever adaptation exists for it.
    pub fn linear(&self, linear: &LinearShape<'_>) -> Result<Linear, WeightsError> {
        let LinearShape { name, shape, parts, .. } = *linear;
        let weight = self.tensor(&format!("{name}.weight"), shape)?;
        let bias = linear.biased.then(|| self.tensor(&format!("{name}.bias"), &shape[..1])).transpose()?;
        Ok(Linear { weight, bias, parts, adaptation: self.adaptation(linear), precision: self.precision })
    }

    fn adaptation(&self, linear: &LinearShape<'_>) -> Adaptation {
        let own = |part: &str| self.trained(&format!("{}.{part}", linear.own.as_deref()?));
        // Shared by all stitches, or the stitch's own: the layout names one of them at most.
        let pair = |part: &str| self.trained(&format!("{}.{part}", linear.name)).or_else(|| own(part));
        let (a, b) = (pair("lora_A"), pair("lora_B"));
        let (scale, dropout) = (linear.scale, self.pst.lora_dropout);
        Adaptation {
            targets: Targets::of(self.targets(linear.parts), linear.parts, self.device()),
            lora: a.zip(b).map(|(a, b)| Lora { a, b, scale, dropout }),
            bias: own("bias"),
        }
    }

    /// The adapted parts of a fused projection.
    fn targets(&self, parts: i64) -> Vec<i64> {
        match parts {
            3 => (0..)
                .zip([Target::Q, Target::K, Target::V])
                .filter(|(_, t)| self.pst.targets.contains(t))
                .map(|(i, _)| i)
                .collect(),
            _ => vec![0],
        }
    }
}
