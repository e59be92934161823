//! How stitching layers start (TENSOR): the least-squares map [X, 1] -> Y between the anchors' activations, X after the
//! front block and Y before the end block (METHOD.md section 1), in double precision by normal equations.
//!
//! Shapes: R rows (images or texts times tokens), F and E widths in front of and behind the layer.

use std::collections::{BTreeMap, BTreeSet};

use esta_engine::catalog::{Catalog, Layer};
use esta_engine::memory::{FIT_EQUATIONS, FIT_SIDE_BY_SIDE, equations_bytes};
use esta_engine::spec::{FitMethod, StitchInit};
use esta_proto::{AnchorId, LayerId};
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use crate::input::Input;
use crate::trunk::{Trunk, chunks};
use crate::weights::{Weights, WeightsError};

/// Why a stitching layer cannot be fitted.
#[derive(Debug, Error)]
pub enum FitError {
    /// The anchors' weights are not all there.
    #[error("an anchor cannot be built")]
    Weights(#[from] WeightsError),
    /// The normal equations have no unique solution.
    #[error("stitching layer {0} has no unique least-squares solution: give more samples or a larger ridge")]
    Singular(LayerId),
    /// Nothing to fit on.
    #[error("stitching layers cannot be fitted on no samples")]
    NoSamples,
}

/// A place in an anchor: the activations before this block, or after the last.
type Place = (AnchorId, u32);

/// Sums over the rows of all samples; memory does not grow with their number.
#[derive(Debug, Default)]
struct NormalEquations {
    /// [X, 1]^T [X, 1] by front place: [F+1, F+1].
    gram: BTreeMap<Place, Tensor>,
    /// [X, 1]^T Y by front and end place: [F+1, E].
    cross: BTreeMap<(Place, Place), Tensor>,
}

/// Fits every stitching layer of a catalog: `stitch_layers.{l}.weight` `[E, F]` and `.bias` `[E]`. Each anchor runs over
/// the samples, in evaluation mode and without adaptation. Of texts the first token is left out.
///
/// # Errors
/// [`FitError`].
pub fn fit_layers(
    catalog: &Catalog,
    frozen: &Weights,
    samples: &Input,
    init: &StitchInit,
) -> Result<Weights, FitError> {
    fit_within(FIT_EQUATIONS, catalog, frozen, samples, init)
}

/// The same in sweeps whose normal equations take so many bytes at most.
fn fit_within(
    limit: u64,
    catalog: &Catalog,
    frozen: &Weights,
    samples: &Input,
    init: &StitchInit,
) -> Result<Weights, FitError> {
    if samples.is_empty() {
        return Err(FitError::NoSamples);
    }
    let anchors = (0..).map(AnchorId).take(catalog.anchors.len());
    let trunks: Vec<Trunk> = anchors.map(|anchor| Trunk::new(catalog, frozen, anchor)).collect::<Result<_, _>>()?;
    let mut weights = Weights::new("least-squares fit");
    let chunks: Vec<Input> = chunks(samples).collect();
    // Where blocks have to be brought, many chunks go through each while it is there.
    let side_by_side = if frozen.windows().is_some() { FIT_SIDE_BY_SIDE as usize } else { 1 };
    for layers in sweeps(catalog, limit) {
        fit_some(layers, &trunks, chunks.chunks(side_by_side), init, &mut weights)?;
    }
    Ok(weights)
}

/// The layers in order, as many at a time as their normal equations may take memory.
fn sweeps(catalog: &Catalog, limit: u64) -> Vec<&[Layer]> {
    let width = |anchor: AnchorId| catalog.anchors[anchor.index()].width();
    let bytes = |layer: &Layer| equations_bytes(width(layer.from), width(layer.to), layer.positions.len());
    let (mut sweeps, mut start, mut held) = (Vec::new(), 0, 0);
    for (number, layer) in catalog.layers.iter().enumerate() {
        if number > start && held + bytes(layer) > limit {
            sweeps.push(&catalog.layers[start..number]);
            (start, held) = (number, 0);
        }
        held += bytes(layer);
    }
    sweeps.push(&catalog.layers[start..]);
    sweeps
}

/// Fits some layers in one sweep over the samples, whose chunks go through the anchors in groups.
fn fit_some<'a>(
    layers: &[Layer],
    trunks: &[Trunk],
    groups: impl Iterator<Item = &'a [Input]>,
    init: &StitchInit,
    weights: &mut Weights,
) -> Result<(), FitError> {
    let mut read = vec![BTreeSet::new(); trunks.len()];
    for (anchor, block) in layers.iter().flat_map(places).flat_map(|(front, end)| [front, end]) {
        read[anchor.index()].insert(block);
    }
    let device = trunks.first().map_or(Device::Cpu, Trunk::device);
    let mut equations = NormalEquations::default();
    for group in groups {
        let states: Vec<BTreeMap<u32, Vec<Tensor>>> =
            trunks.iter().zip(&read).map(|(trunk, places)| trunk.states(group, places)).collect();
        for (number, chunk) in group.iter().enumerate() {
            let rows = match chunk {
                Input::Images(_) => None,
                Input::Texts(texts) => Some(texts.later_tokens()),
            };
            let state = |(anchor, block): Place| states[anchor.index()][&block][number].to_device(device);
            equations.accumulate(layers, state, rows.as_ref());
        }
    }
    for layer in layers {
        let solution = equations.solve(layer, init)?;
        let inputs = solution.size()[0] - 1;
        let name = format!("stitch_layers.{}", layer.id);
        weights.insert(format!("{name}.weight"), solution.narrow(0, 0, inputs).tr().contiguous().to_kind(Kind::Float));
        weights.insert(format!("{name}.bias"), solution.select(0, inputs).to_kind(Kind::Float));
    }
    Ok(())
}

impl NormalEquations {
    /// Adds the rows of one chunk, all of them or those `chosen`.
    fn accumulate(&mut self, layers: &[Layer], state: impl Fn(Place) -> Tensor, chosen: Option<&Tensor>) {
        let rows = |place: Place| {
            let state = state(place);
            let rows = state.reshape([-1, state.size()[2]]);
            let rows = chosen.map_or_else(|| rows.shallow_clone(), |chosen| rows.index_select(0, chosen));
            rows.to_kind(Kind::Double)
        };
        // Layers may share places: each pair once, in order, and each front's rows once for all its ends.
        let pairs: BTreeSet<(Place, Place)> = layers.iter().flat_map(places).collect();
        let pairs: Vec<_> = pairs.into_iter().collect();
        for of_front in pairs.chunk_by(|one, other| one.0 == other.0) {
            let front = of_front[0].0;
            let x = with_ones(&rows(front));
            add(&mut self.gram, front, x.tr().matmul(&x));
            for &(front, end) in of_front {
                add(&mut self.cross, (front, end), x.tr().matmul(&rows(end)));
            }
        }
    }

    /// [F+1, E]
    fn solve(&self, layer: &Layer, init: &StitchInit) -> Result<Tensor, FitError> {
        let parts: Vec<(&Tensor, &Tensor)> =
            places(layer).map(|(front, end)| (&self.gram[&front], &self.cross[&(front, end)])).collect();
        let solve = |gram: &Tensor, cross: &Tensor| ridge(gram, cross, init.ridge).ok_or(FitError::Singular(layer.id));
        match init.method {
            FitMethod::Joint => solve(&total(parts.iter().map(|part| part.0)), &total(parts.iter().map(|part| part.1))),
            FitMethod::Mean => {
                let solutions: Vec<Tensor> =
                    parts.iter().map(|part| solve(part.0, part.1)).collect::<Result<_, _>>()?;
                Ok(total(solutions.iter()) / solutions.len() as f64)
            }
        }
    }
}

/// Where a layer's rows are read.
fn places(layer: &Layer) -> impl Iterator<Item = (Place, Place)> {
    layer.positions.iter().map(|&(front, end)| ((layer.from, front + 1), (layer.to, end)))
}

fn with_ones(x: &Tensor) -> Tensor {
    Tensor::cat(&[x, &x.new_ones([x.size()[0], 1], (x.kind(), x.device()))], 1)
}

fn add<K: Ord>(sums: &mut BTreeMap<K, Tensor>, key: K, term: Tensor) {
    match sums.get_mut(&key) {
        Some(sum) => *sum += term,
        None => drop(sums.insert(key, term)),
    }
}

fn total<'a>(mut terms: impl Iterator<Item = &'a Tensor>) -> Tensor {
    let first = terms.next().expect("a stitching layer has positions").copy();
    terms.fold(first, |sum, term| sum + term)
}

/// (G + ridge mean(diag G) I) W = C by Cholesky, the bias row unpenalised; `None` where G is not positive definite.
fn ridge(gram: &Tensor, cross: &Tensor, ridge: f64) -> Option<Tensor> {
    let inputs = gram.size()[0] - 1;
    let diagonal = gram.diagonal(0, 0, 1).narrow(0, 0, inputs);
    let penalised = gram.copy();
    let mut target = penalised.diagonal(0, 0, 1).narrow(0, 0, inputs);
    target += diagonal.mean(Kind::Double) * ridge;
    let (factor, info) = penalised.linalg_cholesky_ex(false, false);
    (info.int64_value(&[]) == 0).then(|| cross.cholesky_solve(&factor, false))
}

#[cfg(test)]
mod tests {
    use esta_engine::spec::JobSpec;
    use serde_json::json;

    use super::*;
    use crate::random_anchor;

    /// Layers between the anchors.
    const LAYERS: usize = 5;

    fn family() -> (Catalog, Weights) {
        let anchor = |name: &str, width: u32| {
            let arch = json!({ "image_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": width, "depth": 6, "num_heads": 2 });
            json!({ "name": name, "arch": arch, "weights": "-" })
        };
        let spec: JobSpec = serde_json::from_value(json!({
            "name": "tiny",
            "family": { "anchors": [anchor("a", 6), anchor("b", 10)], "space": { "kind": "esta" } },
            "train": { "max_steps": 1 },
            "data": { "num_classes": 2, "train": { "layout": "idx", "path": "-" } },
            "budgets": { "gap": 1e4 },
        }))
        .expect("a job");
        let catalog = Catalog::build(&spec).expect("they stitch");
        let mut frozen = Weights::new("fixture");
        for (number, arch) in catalog.anchors.iter().enumerate() {
            frozen.absorb(&format!("anchors.{number}."), random_anchor(arch, catalog.task, 7));
        }
        (catalog, frozen)
    }

    #[test]
    fn several_sweeps_fit_what_one_does() {
        tch::set_num_threads(1);
        let (catalog, frozen) = family();
        assert_eq!(catalog.layers.len(), LAYERS);
        let width = |anchor: AnchorId| catalog.anchors[anchor.index()].width();
        let bytes = |layer: &Layer| equations_bytes(width(layer.from), width(layer.to), layer.positions.len());
        let pair = 2 * catalog.layers.iter().map(bytes).max().expect("there are layers");
        // They have 4, 3, 3, 3 and 1 positions.
        assert_eq!([u64::MAX, pair, 0].map(|limit| sweeps(&catalog, limit).len()), [1, 2, LAYERS]);
        tch::manual_seed(1);
        let images = Input::Images(Tensor::randn([40, 1, 8, 8], (Kind::Float, Device::Cpu)));
        let fitted = |limit| {
            fit_within(limit, &catalog, &frozen, &images, &StitchInit::default()).expect("the ridge makes it solvable")
        };
        let one = fitted(u64::MAX);
        assert_eq!(one.iter().count(), 2 * LAYERS, "weights and biases");
        for limit in [pair, 0] {
            let several = fitted(limit);
            for (name, tensor) in one.iter() {
                let other = several.get(name).expect("the same layers");
                assert!(tensor.allclose(other, 1e-6, 1e-7, false), "{name} in sweeps of {limit} bytes");
            }
        }
    }
}
