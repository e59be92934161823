//! Heads that start well (TENSOR): a closed-form ridge regression of one-hot labels on an anchor's frozen features.
//!
//! A regression's outputs lie between 0 and 1, far too flat for a softmax. So ridge and scale are chosen together by the
//! cross entropy of leave-one-out predictions, which ridge regression has in closed form: no image judges its own fit.
//!
//! Shapes: n images, D width, K classes.

use esta_engine::catalog::Catalog;
use esta_proto::AnchorId;
use tch::{Kind, Reduction, Tensor};

use crate::input::Input;
use crate::trunk::{Trunk, chunks};
use crate::weights::{Weights, WeightsError};

/// Candidates of the ridge, relative to the mean of the diagonal.
const RIDGES: [f64; 7] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0];
/// Candidates of the scale are powers of the square root of two, from 1 to 64.
const SCALE_STEPS: i32 = 12;

/// Fits a head for every anchor: `anchors.{a}.head.weight` `[K, D]` and `.bias` `[K]`, on `images [n, C, H, W]` and
/// `labels [n]` (classes as i64).
///
/// # Errors
/// [`WeightsError`] when an anchor's weights are not all in `frozen`.
///
/// # Panics
/// On no images, or labels outside the catalog's classes.
pub fn fit_heads(
    catalog: &Catalog,
    frozen: &Weights,
    images: &Tensor,
    labels: &Tensor,
) -> Result<Weights, WeightsError> {
    assert!(images.size()[0] > 0, "heads are fitted on images");
    let mut heads = Weights::new("ridge fit");
    let images = Input::Images(images.shallow_clone());
    for anchor in (0..).map(AnchorId).take(catalog.anchors.len()) {
        let trunk = Trunk::new(catalog, frozen, anchor)?;
        let features: Vec<Tensor> = chunks(&images).map(|chunk| trunk.features(&chunk)).collect();
        let features = Tensor::cat(&features, 0).to_kind(Kind::Double);
        let Fit { weight, bias, .. } = best_fit(&features, labels, i64::from(catalog.task.classes()));
        heads.insert(format!("anchors.{anchor}.head.weight"), weight.to_kind(Kind::Float));
        heads.insert(format!("anchors.{anchor}.head.bias"), bias.to_kind(Kind::Float));
    }
    Ok(heads)
}

/// A candidate.
struct Fit {
    /// [K, D]
    weight: Tensor,
    /// [K]
    bias: Tensor,
    /// Mean cross entropy of leave-one-out predictions.
    loss: f64,
}

fn best_fit(features: &Tensor, labels: &Tensor, classes: i64) -> Fit {
    let regression = Regression::new(features, labels, classes);
    let fits = RIDGES.iter().map(|&ridge| regression.fit(ridge));
    fits.min_by(|one, other| one.loss.total_cmp(&other.loss)).expect("there are candidates")
}

/// Centred features and targets.
struct Regression<'a> {
    labels: &'a Tensor,
    /// [1, D]
    x_mean: Tensor,
    /// [1, K]
    y_mean: Tensor,
    /// [n, D]
    x: Tensor,
    /// [n, K]
    y: Tensor,
    /// [D, D]
    gram: Tensor,
}

impl<'a> Regression<'a> {
    fn new(features: &Tensor, labels: &'a Tensor, classes: i64) -> Self {
        let y = labels.one_hot(classes).to_kind(Kind::Double);
        let (x_mean, y_mean) = (mean_row(features), mean_row(&y));
        let (x, y) = (features - &x_mean, y - &y_mean);
        let gram = x.tr().matmul(&x);
        Self { labels, x_mean, y_mean, x, y, gram }
    }

    fn fit(&self, ridge: f64) -> Fit {
        let (n, width) = self.x.size2().expect("features are a matrix");
        // A constant feature set has a zero diagonal: the floor keeps the factor defined.
        let penalty = (self.gram.trace().double_value(&[]) / width as f64 * ridge).max(1e-12);
        let penalised = &self.gram + Tensor::eye(width, (Kind::Double, self.x.device())) * penalty;
        let inverse = penalised.linalg_cholesky(false).cholesky_inverse(false);
        let projected = self.x.matmul(&inverse);
        let weight = inverse.matmul(&self.x.tr().matmul(&self.y));
        // Leave-one-out residuals: (y - y^) / (1 - h), with the intercept's share 1/n in h.
        let leverage = (&projected * &self.x).sum_dim_intlist(1, true, Kind::Double) + 1.0 / n as f64;
        let residual = (&self.y - self.x.matmul(&weight)) / (leverage.neg() + 1.0).clamp_min(1e-6);
        let left_out = &self.y - residual + &self.y_mean;
        let (scale, loss) = self.best_scale(&left_out);
        let bias = &self.y_mean - self.x_mean.matmul(&weight);
        Fit { weight: (weight * scale).tr().contiguous(), bias: (bias * scale).view(-1), loss }
    }

    fn best_scale(&self, predictions: &Tensor) -> (f64, f64) {
        let loss = |scale: f64| {
            let logits = predictions * scale;
            let loss = logits.cross_entropy_loss::<Tensor>(self.labels, None, Reduction::Mean, -100, 0.0);
            loss.double_value(&[])
        };
        let scales = (0..=SCALE_STEPS).map(|step| 2f64.powf(f64::from(step) / 2.0));
        let judged = scales.map(|scale| (scale, loss(scale)));
        judged.min_by(|one, other| one.1.total_cmp(&other.1)).expect("there are candidates")
    }
}

/// [n, m] to [1, m]
fn mean_row(rows: &Tensor) -> Tensor {
    rows.mean_dim(0, true, Kind::Double)
}
