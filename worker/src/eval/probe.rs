//! What stitches show beside their accuracy (HANDS): the figures of rules that need forward passes after training, so
//! that a study can say what such rules would gain. No rule of a run reads them.

use std::{num::NonZeroU32, ops::Range};

use esta_data::{HeldOut, Loader};
use esta_model::{Input, Phase, StitchedNet};
use esta_proto::{AnchorId, StitchId};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{EvalError, chunk, evaluate_stitch, summed_loss};
use crate::{
    places::data_here,
    trainer::{Family, tensors},
};

/// One stitch on training images, and on the validation slice where the job has one.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Probe {
    /// Mean cross entropy on training images as they are, never augmented.
    pub train_loss: f64,
    /// Mean KL(anchor || stitch) of the answers to them, over the anchors of the path; zero for an anchor alone.
    pub kl_own: f64,
    /// The same from the largest anchor alone.
    pub kl_largest: f64,
    /// Accuracy on the slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_accuracy: Option<f64>,
    /// Mean cross entropy on the slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_loss: Option<f64>,
}

/// Measures stitches, in their order: on the first `eval.probe_images` training images, and on the whole slice.
///
/// # Errors
/// [`EvalError`].
pub fn measure(family: &Family, net: &StitchedNet, stitches: &[StitchId]) -> Result<Vec<Probe>, EvalError> {
    let data = data_here(&family.law.spec.data)?;
    let train = Loader::open(&data, &family.intake, family.law.spec.seed, 1)?;
    let images = train.len().min(u64::from(family.law.spec.eval.probe_images));
    let mut probes = vec![Probe::default(); stitches.len()];
    for indices in ranges(images, chunk(family)) {
        let (input, labels) = tensors(&train.plain(indices)?, family.device);
        add_training(family, net, stitches, (&input, &labels), &mut probes)?;
    }
    for probe in &mut probes {
        for sum in [&mut probe.train_loss, &mut probe.kl_own, &mut probe.kl_largest] {
            *sum /= images as f64;
        }
    }
    if let Some(slice) = HeldOut::validation(&data, &family.intake)? {
        for (stitch, probe) in stitches.iter().zip(&mut probes) {
            let on_slice = evaluate_stitch(family, net, *stitch, &slice)?;
            (probe.slice_accuracy, probe.slice_loss) = (Some(on_slice.accuracy), Some(on_slice.loss));
        }
    }
    Ok(probes)
}

/// Adds what one chunk of training images says, summed over its images.
fn add_training(
    family: &Family,
    net: &StitchedNet,
    stitches: &[StitchId],
    (input, labels): (&Input, &Tensor),
    probes: &mut [Probe],
) -> Result<(), EvalError> {
    let anchors = anchors(family, net, input)?;
    let largest = anchors.last().expect("a family has anchors");
    for (&stitch, probe) in stitches.iter().zip(probes) {
        let logits = net.forward(stitch, input, Phase::Eval)?;
        let answers = log_probabilities(&logits);
        probe.train_loss += summed_loss(&logits, labels);
        probe.kl_largest += divergence(largest, &answers);
        let own = own_anchors(family, stitch);
        probe.kl_own += own.iter().map(|anchor| divergence(&anchors[anchor.index()], &answers)).sum::<f64>()
            / own.len().max(1) as f64;
    }
    Ok(())
}

/// Log-probabilities of every anchor alone, smallest anchor first: [B, K] each.
fn anchors(family: &Family, net: &StitchedNet, input: &Input) -> Result<Vec<Tensor>, EvalError> {
    let alone = family.law.catalog.stitches().filter(|stitch| stitch.is_anchor());
    alone.map(|stitch| Ok(log_probabilities(&net.forward(stitch.id, input, Phase::Eval)?))).collect()
}

/// The anchors of a path, each once.
fn own_anchors(family: &Family, stitch: StitchId) -> Vec<AnchorId> {
    let segments = family.law.catalog.get(stitch).into_iter().flat_map(|stitch| &stitch.segments);
    let mut own: Vec<AnchorId> = segments.map(|segment| segment.anchor).collect();
    own.sort_unstable();
    own.dedup();
    own
}

fn log_probabilities(logits: &Tensor) -> Tensor {
    logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double)
}

/// KL(teacher || student), summed over the images.
fn divergence(teacher: &Tensor, student: &Tensor) -> f64 {
    (teacher.exp() * (teacher - student)).sum(Kind::Double).double_value(&[])
}

/// `0..len`, `size` at a time.
fn ranges(len: u64, size: NonZeroU32) -> impl Iterator<Item = Range<u64>> {
    let size = u64::from(size.get());
    (0..len.div_ceil(size)).map(move |chunk| chunk * size..len.min((chunk + 1) * size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divergence_is_that_of_the_closed_form_and_zero_from_itself() {
        let half = Tensor::from_slice(&[0.5_f64.ln(), 0.5_f64.ln()]).view([1, 2]);
        let quarter = Tensor::from_slice(&[0.25_f64.ln(), 0.75_f64.ln()]).view([1, 2]);
        assert_eq!(divergence(&half, &half), 0.0);
        let expected = 0.5 * (0.5_f64 / 0.25).ln() + 0.5 * (0.5_f64 / 0.75).ln();
        assert!((divergence(&half, &quarter) - expected).abs() < 1e-15);
    }

    #[test]
    fn the_last_range_holds_what_remains() {
        let size = NonZeroU32::new(4).expect("four");
        assert_eq!(ranges(10, size).collect::<Vec<_>>(), [0..4, 4..8, 8..10]);
        assert_eq!(ranges(0, size).count(), 0);
    }
}
