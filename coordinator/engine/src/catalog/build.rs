//! From a specification to the catalog: enumerate, number, price, bin.

use std::collections::{BTreeMap, BTreeSet};

use esta_proto::{AnchorId, BudgetId, LayerId, StitchId};

use super::{Catalog, Layer, Segment, Stitch};
use crate::arch::Arch;
use crate::budget::Unit;
use crate::cost::{self, Task};
use crate::latency::Latency;
use crate::space::{self, Hop};
use crate::spec::{BudgetSpec, JobSpec, LatencyBudgetSpec, Mode, SpaceSpec, SpecError};
use crate::{budget, groups};

/// Blocks beyond this are a typing error: no transformer has so many.
const MAX_DEPTH: u32 = 1024;

/// Counts below this are exact as `f64` as well.
const MAX_COST: f64 = 9_007_199_254_740_992.0;

impl Catalog {
    /// The catalog of a job. The anchors come first, in family order; then the space's paths.
    ///
    /// # Errors
    /// [`SpecError`] when the specification is flawed, or its anchors cannot be stitched in its space.
    pub fn build(spec: &JobSpec) -> Result<Self, SpecError> {
        spec.validate()?;
        let mut draft = Draft::new(spec.architectures()?, spec.task(), &spec.family.space, spec.mode)?;
        draft.add_own_biases(spec);
        draft.bin(&spec.budgets)
    }

    /// The catalog of anchors in ascending cost; [`Mode::Anchor`] leaves every stitch out.
    ///
    /// # Errors
    /// [`SpecError`] when the anchors are impossible, cannot be stitched in this space, or exceed the budgets.
    pub fn new(
        anchors: Vec<Arch>,
        space: &SpaceSpec,
        task: Task,
        budgets: &BudgetSpec,
        mode: Mode,
    ) -> Result<Self, SpecError> {
        Draft::new(anchors, task, space, mode)?.bin(budgets)
    }
}

/// A catalog whose stitches are being numbered; their budgets come last.
struct Draft {
    catalog: Catalog,
    /// The layers numbered so far, by the two anchors they join and [`Hop::share`].
    numbered: BTreeMap<(u32, u32, u32), LayerId>,
    /// The positions each layer has.
    placed: BTreeSet<(LayerId, u32, u32)>,
}

impl Draft {
    fn new(anchors: Vec<Arch>, task: Task, space: &SpaceSpec, mode: Mode) -> Result<Self, SpecError> {
        check_anchors(&anchors, task)?;
        let mut draft = Self::of_anchors(anchors, task);
        if mode != Mode::Anchor {
            draft.check_stitchable()?;
            let depths: Vec<u32> = draft.catalog.anchors.iter().map(Arch::depth).collect();
            for route in space::enumerate(&depths, space)? {
                draft.push_route(route.as_deref());
            }
        }
        Ok(draft)
    }

    fn of_anchors(anchors: Vec<Arch>, task: Task) -> Self {
        let depths: Vec<u32> = anchors.iter().map(Arch::depth).collect();
        let (stitches, layers, bins) = (Vec::new(), Vec::new(), Vec::new());
        let catalog = Catalog { anchors, task, stitches, layers, bins, unit: Unit::Macs };
        let mut draft = Self { catalog, numbered: BTreeMap::new(), placed: BTreeSet::new() };
        for (anchor, depth) in (0..).map(AnchorId).zip(depths) {
            draft.push(vec![Segment { anchor, first: 0, last: depth - 1 }], Vec::new());
        }
        draft
    }

    /// Numbers a route, or leaves a hole in its place.
    fn push_route(&mut self, route: Option<&[Hop]>) {
        let Some(hops) = route else {
            self.catalog.stitches.push(None);
            return;
        };
        let mut segments = Vec::with_capacity(hops.len() + 1);
        let mut first = 0;
        for hop in hops {
            segments.push(Segment { anchor: AnchorId(hop.from), first, last: hop.leave });
            first = hop.enter;
        }
        if let Some(hop) = hops.last() {
            let anchor = AnchorId(hop.to);
            let last = self.catalog.anchors[anchor.index()].depth() - 1;
            segments.push(Segment { anchor, first, last });
        }
        let layers = hops.iter().map(|hop| self.layer(hop)).collect();
        self.push(segments, layers);
    }

    fn push(&mut self, segments: Vec<Segment>, layers: Vec<LayerId>) {
        let catalog = &mut self.catalog;
        let id = u32::try_from(catalog.stitches.len()).expect("a space enumerates at most a million stitches");
        let cost = cost::path_cost(&catalog.anchors, catalog.task, &segments);
        catalog.stitches.push(Some(Stitch {
            id: StitchId(id),
            segments,
            layers,
            macs: cost.macs,
            params: cost.params,
            latency: None,
            budget: BudgetId::default(),
        }));
    }

    /// The layer a hop uses, with the hop's place among its positions; numbered at first use.
    fn layer(&mut self, hop: &Hop) -> LayerId {
        let layers = &mut self.catalog.layers;
        let id = *self.numbered.entry((hop.from, hop.to, hop.share)).or_insert_with(|| {
            let id = LayerId(u32::try_from(layers.len()).expect("no more layers than hops"));
            layers.push(Layer { id, from: AnchorId(hop.from), to: AnchorId(hop.to), positions: Vec::new() });
            id
        });
        if self.placed.insert((id, hop.leave, hop.enter)) {
            layers[id.index()].positions.push((hop.leave, hop.enter));
        }
        id
    }

    /// Biases of a stitch stay beside the weights where its anchors' maps have none: the deployed model is larger by them.
    fn add_own_biases(&mut self, spec: &JobSpec) {
        for id in (0..).map(StitchId).take(self.catalog.stitches.len()) {
            let added = groups::own_biases(&self.catalog, spec, id);
            if let Some(stitch) = &mut self.catalog.stitches[id.index()] {
                stitch.params += added;
            }
        }
    }

    fn bin(self, budgets: &BudgetSpec) -> Result<Catalog, SpecError> {
        let Self { mut catalog, .. } = self;
        let costs: Vec<_> = match budgets {
            BudgetSpec::Gap(_) | BudgetSpec::Edges(_) => {
                catalog.stitches().map(|stitch| (stitch.id, stitch.macs)).collect()
            }
            BudgetSpec::Params(_) => {
                catalog.unit = Unit::Params;
                catalog.stitches().map(|stitch| (stitch.id, stitch.params)).collect()
            }
            BudgetSpec::Latency(LatencyBudgetSpec { milliseconds, .. }) => {
                check_latencies(&catalog, milliseconds)?;
                catalog = Catalog { unit: Unit::Latency, ..catalog.with_latencies(milliseconds) };
                milliseconds.iter().map(|(stitch, latency)| (*stitch, latency.nanos())).collect()
            }
        };
        catalog.bins = budget::bins(&costs, budgets)?;
        for (number, bin) in (0..).zip(&catalog.bins) {
            for id in bin {
                if let Some(stitch) = &mut catalog.stitches[id.index()] {
                    stitch.budget = BudgetId(number);
                }
            }
        }
        Ok(catalog)
    }

    /// Anchors must take the same tokens and ascend in cost.
    fn check_stitchable(&self) -> Result<(), SpecError> {
        let anchors: Vec<_> = self.catalog.anchors.iter().zip(self.catalog.stitches()).collect();
        if anchors.len() < 2 {
            return Err(SpecError::new("family.anchors", "one anchor cannot be stitched; give two, or mode: anchor"));
        }
        for (i, pair) in anchors.windows(2).enumerate() {
            let [(small, cheaper), (large, dearer)] = [pair[0], pair[1]];
            let tokens = |arch: &Arch| arch.as_vit().map(crate::arch::VitArch::tokens);
            let flaw = if let (Some(few), Some(many)) = (tokens(small), tokens(large))
                && few != many
            {
                format!("it sees {many} tokens, the anchor before it {few}")
            } else if dearer.macs < cheaper.macs {
                format!("anchors ascend in cost, but {} MACs follow {}", dearer.macs, cheaper.macs)
            } else {
                continue;
            };
            return Err(SpecError::new(format!("family.anchors[{}]", i + 1), flaw));
        }
        Ok(())
    }
}

/// Every stitch has a latency and every latency a stitch.
fn check_latencies(catalog: &Catalog, latencies: &BTreeMap<StitchId, Latency>) -> Result<(), SpecError> {
    let flaw = |flaw: String| Err(SpecError::new("budgets.latency.milliseconds", flaw));
    if latencies.is_empty() {
        return flaw("no latency is given; name a profile: esta-worker profile measures one".into());
    }
    if let Some(stitch) = catalog.stitches().find(|stitch| !latencies.contains_key(&stitch.id)) {
        return flaw(format!("stitch {} has none", stitch.id));
    }
    match latencies.keys().find(|stitch| catalog.get(**stitch).is_none()) {
        Some(stitch) => flaw(format!("the catalog has no stitch {stitch}")),
        None => Ok(()),
    }
}

fn check_anchors(anchors: &[Arch], task: Task) -> Result<(), SpecError> {
    if anchors.is_empty() {
        return Err(SpecError::new("family.anchors", "no anchor is given"));
    }
    match task {
        Task::Classify { classes: 0 } => {
            return Err(SpecError::new("data.num_classes", "0 classes leave nothing to learn"));
        }
        Task::Speak { tokens: 0 } => return Err(SpecError::new("data.text.max_length", "0 tokens say nothing")),
        Task::Classify { .. } | Task::Speak { .. } => {}
    }
    for (i, arch) in anchors.iter().enumerate() {
        let flaw = arch.flaw().or_else(|| {
            let too_deep = arch.depth() > MAX_DEPTH;
            let too_dear = cost::bound(arch, task) >= MAX_COST;
            match (too_deep, too_dear) {
                (true, _) => Some(format!("{} blocks; at most {MAX_DEPTH}", arch.depth())),
                (_, true) => Some("its cost exceeds 2^53 MACs".to_owned()),
                _ => None,
            }
        });
        if let Some(flaw) = flaw {
            return Err(SpecError::new(format!("family.anchors[{i}].arch"), flaw));
        }
    }
    Ok(())
}
