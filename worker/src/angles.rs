//! Angles between the stitches' loss gradients on the weights they share (HANDS; Fig. 2 of the paper): how far apart
//! stitches pull the q, k and v projections of one block, on the target domain and on the source domain.

pub mod heat_map;

use std::collections::BTreeMap;
use std::ops::Range;

use esta_data::DataError;
use esta_engine::{
    groups::GroupKind,
    spec::{HeadInit, JobSpec, Mode},
};
use esta_model::{GroupParams, Input, Slot, SlotError, SlotOptions, run_slot};
use esta_proto::{AnchorId, StitchId};
use serde::{Serialize, Serializer};
use tch::{Kind, Tensor};
use thiserror::Error;

use crate::trainer::{DeviceKind, Job, SetupError, State, StateError, tensors};

/// Images of one forward and backward pass: bounds memory.
const CHUNK: u64 = 32;

/// Why angles cannot be measured.
#[derive(Debug, Error)]
pub enum AnglesError {
    /// The network does not come about.
    #[error("the network cannot be started")]
    State(#[from] StateError),
    /// Images.
    #[error("the images do not load")]
    Data(#[from] DataError),
    /// A gradient.
    #[error("stitch {stitch} cannot be computed")]
    Slot {
        /// Which.
        stitch: StitchId,
        /// Why.
        source: SlotError,
    },
    /// Anchors alone share no weights.
    #[error("the family has no stitched path, so there is nothing to compare")]
    NoStitches,
}

/// Where images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// What the anchors were trained on.
    Source,
    /// What they are to be adapted to.
    Target,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Stitches at most, the first of the first stitched pair of anchors.
    pub stitches: usize,
    /// Images at most, the same for every stitch.
    pub images: u64,
}

/// The angles of one domain.
#[derive(Debug, Clone, Serialize)]
pub struct DomainAngles {
    /// Which.
    pub domain: Domain,
    /// Name of the job whose images these are.
    pub job: String,
    /// Images behind every gradient.
    pub images: u64,
    /// The stitches, by row and column.
    pub stitches: Vec<StitchId>,
    /// The angles.
    #[serde(flatten)]
    pub matrix: AngleMatrix,
    /// The angles in a few numbers; absent where no two stitches share a block.
    pub summary: Option<Summary>,
}

/// Loads a job in the form that is measured: each block's own weights are parameters, and heads are fitted, since a zero
/// head would pass no gradient on.
///
/// # Errors
/// [`SetupError`].
pub fn load(mut spec: JobSpec, device: DeviceKind) -> Result<Job, SetupError> {
    spec.mode = Mode::Snnet;
    spec.train.head_init = HeadInit::Ridge;
    Job::load(spec, device)
}

/// A target's job on the images of a source's: of the source only `data` is used.
#[must_use]
pub fn on_images_of(source: &JobSpec, target: &JobSpec) -> JobSpec {
    JobSpec { name: source.name.clone(), data: source.data.clone(), ..target.clone() }
}

/// Measures one domain on a job of [`load`]: heads by ridge regression and stitching layers by least squares on the
/// domain's own images, then each stitch's gradient of the mean loss over the same images. `hear` is told of each stitch.
///
/// Memory: every stitch's gradient on the q, k and v weights of its blocks, in single precision.
///
/// # Errors
/// [`AnglesError`].
pub fn measure(
    domain: Domain,
    job: &Job,
    extent: Extent,
    mut hear: impl FnMut(usize, usize),
) -> Result<DomainAngles, AnglesError> {
    let stitches = first_pair(job, extent.stitches);
    if stitches.is_empty() {
        return Err(AnglesError::NoStitches);
    }
    let state = State::fresh(job)?;
    let chunks = chunks(job, extent.images)?;
    let images = chunks.iter().map(|(_, labels)| labels.numel() as u64).sum();
    let mut blocks: BTreeMap<Place, BlockGradients> = BTreeMap::new();
    for (row, &stitch) in stitches.iter().enumerate() {
        for (place, gradient) in gradients(&state, stitch, &chunks)? {
            blocks.entry(place).or_default().push((row, gradient));
        }
        hear(row + 1, stitches.len());
    }
    let grams: Vec<BlockGram> = blocks.into_values().map(|gradients| BlockGram::of(&gradients)).collect();
    let matrix = AngleMatrix::new(stitches.len(), &grams);
    let summary = Summary::of(&matrix);
    Ok(DomainAngles { domain, job: job.family.law.spec.name.clone(), images, stitches, matrix, summary })
}

/// The first stitches that run the same anchors in the same order as the first stitched path of the catalog.
fn first_pair(job: &Job, most: usize) -> Vec<StitchId> {
    let mut stitched = job.family.law.catalog.stitches().filter(|stitch| !stitch.is_anchor()).peekable();
    let anchors = |stitch: &esta_engine::catalog::Stitch| -> Vec<AnchorId> {
        stitch.segments.iter().map(|segment| segment.anchor).collect()
    };
    let Some(pair) = stitched.peek().map(|stitch| anchors(stitch)) else { return Vec::new() };
    stitched.filter(|stitch| anchors(stitch) == pair).take(most).map(|stitch| stitch.id).collect()
}

/// Samples and labels, never augmented, in the order of the first epoch.
fn chunks(job: &Job, most: u64) -> Result<Vec<(Input, Tensor)>, DataError> {
    let mut picks = job.train.order().permutation(0);
    picks.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    let batches = picks.chunks(CHUNK as usize).map(|picks| job.train.plain(picks.iter().copied()));
    batches.map(|batch| Ok(tensors(&batch?, job.family.device))).collect()
}

/// A block of an anchor.
type Place = (AnchorId, u32);
/// A block's gradients: whose row, and the gradient of the fused weight as a row.
type BlockGradients = Vec<(usize, Tensor)>;

/// The gradient of the mean loss on the q, k and v weights of each block of a stitch.
fn gradients(state: &State, stitch: StitchId, chunks: &[(Input, Tensor)]) -> Result<Vec<(Place, Tensor)>, AnglesError> {
    let images: i64 = chunks.iter().map(|(_, labels)| labels.numel() as i64).sum();
    let places = places(state, stitch);
    let mut sums: Vec<(Place, Tensor)> = Vec::new();
    for (input, labels) in chunks {
        let slot = Slot { stitch, input, labels, dropout_seed: 0 };
        let failed = |source| AnglesError::Slot { stitch, source };
        let result = run_slot(&state.net, &state.store, &slot, &SlotOptions::default()).map_err(failed)?;
        let share = labels.numel() as f64 / images as f64;
        let of_place = |(place, stretches): &(Place, Vec<Range<i64>>)| {
            let parts: Vec<Tensor> =
                stretches.iter().map(|part| result.grads.narrow(0, part.start, part.end - part.start)).collect();
            (*place, Tensor::cat(&parts, 0) * share)
        };
        let parts = places.iter().map(of_place);
        if sums.is_empty() {
            sums = parts.collect();
            continue;
        }
        for ((_, sum), (_, part)) in sums.iter_mut().zip(parts) {
            *sum += part;
        }
    }
    Ok(sums)
}

/// Where the q, k and v weights of a stitch's blocks lie in its concatenated gradients.
fn places(state: &State, stitch: StitchId) -> Vec<(Place, Vec<Range<i64>>)> {
    let mut places: Vec<(Place, Vec<Range<i64>>)> = Vec::new();
    let mut start = 0;
    for GroupParams { kind, params, .. } in state.store.touched(stitch) {
        for param in params {
            let len = param.range.end - param.range.start;
            if let (GroupKind::Block(anchor, block), true) = (*kind, is_projection(&param.name)) {
                match places.last_mut().filter(|(place, _)| *place == (anchor, block)) {
                    Some((_, stretches)) => stretches.push(start..start + len),
                    None => places.push(((anchor, block), std::iter::once(start..start + len).collect())),
                }
            }
            start += len;
        }
    }
    places
}

/// Whether it is the fused q, k, v weight of a vision transformer, or one of a language model's three.
fn is_projection(name: &str) -> bool {
    const ENDINGS: [&str; 4] =
        [".attn.qkv.weight", ".self_attn.q_proj.weight", ".self_attn.k_proj.weight", ".self_attn.v_proj.weight"];
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Inner products of the gradients that stitches have on one block.
#[derive(Debug, Clone)]
struct BlockGram {
    /// The rows of the stitches that run the block.
    rows: Vec<usize>,
    /// Row-major over `rows`.
    products: Vec<f64>,
}

impl BlockGram {
    fn of(gradients: &[(usize, Tensor)]) -> Self {
        let (rows, vectors): (Vec<usize>, Vec<&Tensor>) = gradients.iter().map(|(row, vector)| (*row, vector)).unzip();
        let vectors = Tensor::stack(&vectors, 0).to_kind(Kind::Double);
        let gram = vectors.matmul(&vectors.tr()).contiguous().view(-1);
        Self { rows, products: Vec::try_from(gram).expect("doubles become doubles") }
    }
}

/// What two stitches' gradients have in common.
#[derive(Debug, Clone, Copy, Default)]
struct Shared {
    product: f64,
    square_of_row: f64,
    square_of_column: f64,
}

impl Shared {
    /// Degrees; `None` where nothing is shared, or a gradient on what is shared vanishes.
    fn angle(self) -> Option<f64> {
        let norms = (self.square_of_row * self.square_of_column).sqrt();
        (norms > 0.0).then(|| (self.product / norms).clamp(-1.0, 1.0).acos().to_degrees())
    }
}

/// Pairwise angles in degrees: symmetric, zero on the diagonal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AngleMatrix {
    /// By row and column; `None` for two stitches without a common block.
    degrees: Vec<Vec<Option<f64>>>,
}

impl AngleMatrix {
    /// The angle between two stitches is taken over the blocks that both run, as if these were one long vector.
    fn new(stitches: usize, grams: &[BlockGram]) -> Self {
        let mut shared = vec![vec![Shared::default(); stitches]; stitches];
        for BlockGram { rows, products } in grams {
            let at = |i: usize, j: usize| products[i * rows.len() + j];
            for (i, &row) in rows.iter().enumerate() {
                for (j, &column) in rows.iter().enumerate() {
                    let shared = &mut shared[row][column];
                    shared.product += at(i, j);
                    shared.square_of_row += at(i, i);
                    shared.square_of_column += at(j, j);
                }
            }
        }
        let angle = |row: usize, column: usize| if row == column { Some(0.0) } else { shared[row][column].angle() };
        let degrees = (0..stitches).map(|row| (0..stitches).map(|column| angle(row, column)).collect());
        Self { degrees: degrees.collect() }
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Vec<Option<f64>>] {
        &self.degrees
    }

    /// The angle of every two different stitches that share a block, each pair once.
    pub fn pairs(&self) -> impl Iterator<Item = f64> {
        self.degrees.iter().enumerate().flat_map(|(row, angles)| angles[..row].iter().flatten().copied())
    }
}

/// Many angles in a few numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Pairs of stitches that share a block.
    pub pairs: usize,
    /// Mean angle in degrees.
    pub mean: f64,
    /// Share of the pairs that pull against each other: above 90 degrees.
    pub above_90: f64,
    /// Angles below which these shares of the pairs lie.
    #[serde(serialize_with = "as_map")]
    pub quantiles: [(f64, f64); 5],
}

const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

impl Summary {
    fn of(matrix: &AngleMatrix) -> Option<Self> {
        let mut angles: Vec<f64> = matrix.pairs().collect();
        if angles.is_empty() {
            return None;
        }
        angles.sort_by(f64::total_cmp);
        let pairs = angles.len();
        let share = |count: usize| count as f64 / pairs as f64;
        Some(Self {
            pairs,
            mean: angles.iter().sum::<f64>() / pairs as f64,
            above_90: share(angles.iter().filter(|angle| **angle > 90.0).count()),
            quantiles: QUANTILES.map(|share| (share, quantile(&angles, share))),
        })
    }

    /// The median angle in degrees.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantiles[2].1
    }
}

/// The quantile of ascending numbers, linear between neighbours.
fn quantile(ascending: &[f64], share: f64) -> f64 {
    let place = share * (ascending.len() - 1) as f64;
    let (below, above) = (ascending[place.floor() as usize], ascending[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

fn as_map<S: Serializer>(quantiles: &[(f64, f64); 5], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(quantiles.iter().map(|(share, angle)| (share.to_string(), angle)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(gradients: &[(usize, &[f32])]) -> BlockGram {
        let rows: Vec<(usize, Tensor)> =
            gradients.iter().map(|(row, vector)| (*row, Tensor::from_slice(vector))).collect();
        BlockGram::of(&rows)
    }

    fn close(angle: Option<f64>, degrees: f64) -> bool {
        angle.is_some_and(|angle| (angle - degrees).abs() < 1e-6)
    }

    #[test]
    fn angles_of_known_vectors() {
        let matrix = AngleMatrix::new(3, &[block(&[(0, &[1.0, 0.0]), (1, &[0.0, 3.0]), (2, &[-2.0, 0.0])])]);
        assert!(close(matrix.rows()[0][1], 90.0), "{matrix:?}");
        assert!(close(matrix.rows()[0][2], 180.0), "length does not matter: {matrix:?}");
    }

    #[test]
    fn only_blocks_that_both_run_count() {
        // On the block of all three, 0 and 1 agree; on its own block 1 has a large gradient that 0 knows nothing of.
        let common = block(&[(0, &[1.0, 1.0]), (1, &[2.0, 2.0]), (2, &[1.0, 0.0])]);
        let own = block(&[(1, &[100.0]), (2, &[100.0])]);
        let matrix = AngleMatrix::new(3, &[common, own]);
        assert!(matrix.rows()[0][1].is_some_and(|angle| angle < 1e-5), "{matrix:?}");
        assert!(close(matrix.rows()[0][2], 45.0), "{matrix:?}");
        let expected = (10_002.0_f64 / (10_008.0_f64 * 10_001.0).sqrt()).acos().to_degrees();
        assert!(close(matrix.rows()[1][2], expected), "two blocks are one long vector: {matrix:?}");
    }

    #[test]
    fn the_matrix_is_symmetric_with_a_zero_diagonal_and_knows_what_is_not_shared() {
        let left = block(&[(0, &[1.0, 2.0, 3.0]), (1, &[-1.0, 0.5, 0.1])]);
        let right = block(&[(2, &[1.0])]);
        let matrix = AngleMatrix::new(3, &[left, right]);
        for (row, angles) in matrix.rows().iter().enumerate() {
            assert_eq!(angles[row], Some(0.0));
            for (column, angle) in angles.iter().enumerate() {
                assert_eq!(*angle, matrix.rows()[column][row]);
            }
        }
        assert_eq!((matrix.rows()[0][2], matrix.rows()[1][2]), (None, None));
        assert_eq!(matrix.pairs().count(), 1);
    }

    #[test]
    fn a_vanished_gradient_has_no_direction() {
        let matrix = AngleMatrix::new(2, &[block(&[(0, &[0.0, 0.0]), (1, &[1.0, 0.0])])]);
        assert_eq!(matrix.rows()[0][1], None);
        assert_eq!(Summary::of(&matrix), None);
    }

    #[test]
    fn a_summary_counts_each_pair_once() {
        let gradients = block(&[(0, &[1.0, 0.0]), (1, &[0.0, 1.0]), (2, &[-1.0, -1.0])]);
        let summary = Summary::of(&AngleMatrix::new(3, &[gradients])).expect("three pairs");
        assert_eq!(summary.pairs, 3);
        assert!((summary.mean - 120.0).abs() < 1e-6, "90, 135 and 135: {summary:?}");
        assert!((summary.above_90 - 2.0 / 3.0).abs() < 1e-12, "a right angle is not above: {summary:?}");
        assert!((summary.median() - 135.0).abs() < 1e-6, "{summary:?}");
    }

    #[test]
    fn quantiles_are_linear_between_neighbours() {
        assert_eq!(quantile(&[0.0, 10.0, 20.0], 0.25), 5.0);
        assert_eq!(quantile(&[7.0], 0.95), 7.0);
    }
}
