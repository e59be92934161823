//! `smooth`: effects of stitches shared between similar paths (LAW: pure).
//!
//! A Gaussian process over the catalog. A stitch's effect is a line in the logarithm of its MACs, plus a part that
//! varies smoothly with its path, plus a part of its own; it is seen with noise that falls with its visits. So a stitch
//! with few visits leans on its neighbours, and one that was never drawn has a value too.

use esta_engine::catalog::{Catalog, Stitch};

use super::{Values, effects::Effects};

/// Lengthscales tried, in shares of a network's depth.
const SCALES: [f64; 4] = [0.15, 0.3, 0.6, 1.2];

/// Shares of a stitch's own part in the variance.
const OWN: [f64; 3] = [0.0, 0.3, 0.7];

/// Least variance of effects around the line, in squared units of loss: stitches are never taken for equal.
const LEAST_VARIANCE: f64 = 1e-4;

/// Least variance of one slot's noise, for histories without any.
const LEAST_NOISE: f64 = 1e-8;

/// A stitch that was seen.
struct Seen {
    /// Its place among the catalog's stitches.
    place: usize,
    effect: f64,
    visits: f64,
}

/// Values of all stitches of the catalog; of none when no effect is known.
pub fn values(effects: &Effects, catalog: &Catalog) -> Values {
    let stitches: Vec<&Stitch> = catalog.stitches().collect();
    let seen: Vec<Seen> = (0..)
        .zip(&stitches)
        .filter_map(|(place, stitch)| {
            let (effect, visits) = effects.stitches.get(&stitch.id)?;
            Some(Seen { place, effect: *effect, visits: *visits as f64 })
        })
        .collect();
    if seen.is_empty() {
        return Values::new();
    }
    let noise = effects.noise.max(LEAST_NOISE);
    let costs: Vec<f64> = stitches.iter().map(|stitch| (stitch.macs as f64).ln()).collect();
    let line = line(&seen, &costs);
    let residuals: Vec<f64> = seen.iter().map(|seen| seen.effect - line[seen.place]).collect();
    let field = Field {
        paths: &stitches.iter().map(|stitch| coordinates(stitch, catalog)).collect::<Vec<_>>(),
        variance: variance(&seen, &residuals, noise),
        noise,
        seen: &seen,
        residuals: &residuals,
    };
    let settings = SCALES.iter().flat_map(|scale| OWN.iter().map(|own| (*scale, *own)));
    let fits = settings.filter_map(|(scale, own)| field.fit(scale, own));
    let best = fits.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, smooth)| smooth);
    let smooth = best.unwrap_or_else(|| vec![0.0; stitches.len()]);
    stitches.iter().zip(line).zip(smooth).map(|((stitch, line), smooth)| (stitch.id, -(line + smooth))).collect()
}

/// Where a path lies: the share of each anchor's blocks that it runs, how deep it leaves the first anchor, how deep it
/// enters the last.
fn coordinates(stitch: &Stitch, catalog: &Catalog) -> Vec<f64> {
    let share = |anchor: usize, blocks: u32| f64::from(blocks) / f64::from(catalog.anchors[anchor].depth());
    let mut place = vec![0.0; catalog.anchors.len()];
    for segment in &stitch.segments {
        place[segment.anchor.index()] += share(segment.anchor.index(), segment.last + 1 - segment.first);
    }
    match stitch.segments.as_slice() {
        [first, .., last] => {
            place.push(share(first.anchor.index(), first.last + 1));
            place.push(share(last.anchor.index(), last.first));
        }
        _ => place.extend([1.0, 0.0]),
    }
    place
}

/// The line through the effects over `costs`, every stitch weighing as much as its visits; its height at every cost.
fn line(seen: &[Seen], costs: &[f64]) -> Vec<f64> {
    let total: f64 = seen.iter().map(|seen| seen.visits).sum();
    let mean = |of: &dyn Fn(&Seen) -> f64| seen.iter().map(|seen| seen.visits * of(seen)).sum::<f64>() / total;
    let (cost, effect) = (mean(&|seen| costs[seen.place]), mean(&|seen| seen.effect));
    let across = mean(&|seen| (costs[seen.place] - cost).powi(2));
    let up = mean(&|seen| (costs[seen.place] - cost) * (seen.effect - effect));
    let slope = if across > 0.0 { up / across } else { 0.0 };
    costs.iter().map(|at| effect + slope * (at - cost)).collect()
}

/// Variance of effects around the line: what is seen less what noise alone would show.
fn variance(seen: &[Seen], residuals: &[f64], noise: f64) -> f64 {
    let total: f64 = seen.iter().map(|seen| seen.visits).sum();
    let squares: f64 = seen.iter().zip(residuals).map(|(seen, residual)| seen.visits * residual.powi(2)).sum();
    ((squares - noise * seen.len() as f64) / total).max(LEAST_VARIANCE)
}

/// What a fit rests on.
struct Field<'a> {
    paths: &'a [Vec<f64>],
    variance: f64,
    noise: f64,
    seen: &'a [Seen],
    residuals: &'a [f64],
}

impl Field<'_> {
    /// Logarithm of the marginal likelihood, less a constant, and the expected residual of every stitch; none when the
    /// covariance is too near to singular.
    fn fit(&self, scale: f64, own: f64) -> Option<(f64, Vec<f64>)> {
        let covariance = |a: usize, b: usize| {
            let squares = self.paths[a].iter().zip(&self.paths[b]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let shared = (1.0 - own) * (-squares / (2.0 * scale * scale)).exp();
            self.variance * (shared + if a == b { own } else { 0.0 })
        };
        let row = |(i, one): (usize, &Seen)| -> Vec<f64> {
            let noise = self.noise / one.visits;
            let to = |(j, other): (usize, &Seen)| covariance(one.place, other.place) + if i == j { noise } else { 0.0 };
            self.seen[..=i].iter().enumerate().map(to).collect()
        };
        let factor = cholesky(self.seen.iter().enumerate().map(row).collect())?;
        let half = forward(&factor, self.residuals);
        let weights = backward(&factor, &half);
        let fit: f64 = half.iter().map(|value| value * value).sum();
        let volume: f64 = factor.iter().filter_map(|row| row.last()).map(|diagonal| diagonal.ln()).sum();
        let expected = |place: usize| {
            self.seen.iter().zip(&weights).map(|(seen, weight)| weight * covariance(place, seen.place)).sum()
        };
        Some((-0.5 * fit - volume, (0..self.paths.len()).map(expected).collect()))
    }
}

/// The lower triangle L of A = L L^T, from the rows of A's own; none when A is not positive definite.
fn cholesky(mut rows: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    for i in 0..rows.len() {
        let (above, rest) = rows.split_at_mut(i);
        let row = &mut rest[0];
        for j in 0..i {
            row[j] = (row[j] - dot(&row[..j], &above[j][..j])) / above[j][j];
        }
        let square = row[i] - dot(&row[..i], &row[..i]);
        row[i] = (square > 0.0).then(|| square.sqrt())?;
    }
    Some(rows)
}

/// Solves L x = b.
fn forward(factor: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x: Vec<f64> = Vec::with_capacity(b.len());
    for (row, b) in factor.iter().zip(b) {
        let i = x.len();
        x.push((b - dot(&row[..i], &x)) / row[i]);
    }
    x
}

/// Solves L^T x = b.
fn backward(factor: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x = b.to_vec();
    for i in (0..x.len()).rev() {
        let value = x[i] / factor[i][i];
        x[i] = value;
        x[..i].iter_mut().zip(&factor[i]).for_each(|(x, below)| *x -= below * value);
    }
    x
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factored_matrix_solves_its_equations() {
        let full = [[4.0, 2.0, 0.6], [2.0, 5.0, 1.5], [0.6, 1.5, 3.0]];
        let lower = (0..3).map(|i| full[i][..=i].to_vec()).collect();
        let factor = cholesky(lower).expect("positive definite");
        let x = backward(&factor, &forward(&factor, &[1.0, -2.0, 3.0]));
        for (row, b) in full.iter().zip([1.0, -2.0, 3.0]) {
            assert!((dot(row, &x) - b).abs() < 1e-12);
        }
        assert_eq!(cholesky(vec![vec![1.0], vec![2.0, 1.0]]), None, "this one has a negative direction");
    }
}
