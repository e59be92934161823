//! What trains (TENSOR): one flat buffer for all groups of the layout, and Adam's moments beside it.
//!
//! Parameters follow each other in layout order (RD-1), each from a cache line of its own: some of MKL's matrix products
//! round differently by the alignment of their operands, so no parameter's place may depend on what lies before it. A
//! parameter is a leaf tensor that shares storage with its place, so the optimizer works on long stretches and the
//! network sees its work at once.

use std::collections::BTreeMap;
use std::ops::Range;

use esta_engine::groups::{GroupKind, GroupLayout};
use esta_proto::{GroupId, StitchId};
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use crate::init::kaiming_uniform;
use crate::weights::{Weights, WeightsError};

/// Elements of a cache line: where parameters start.
const ALIGNMENT: i64 = 16;

/// Where the parameters of a run begin.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Seed of the run.
    pub seed: u64,
    /// Starts by parameter name: anchors' weights under `anchors.{a}.` and fitted stitching layers under
    /// `stitch_layers.{l}.` where everything trains, heads under `anchors.{a}.head.` where they were fitted.
    pub weights: &'a Weights,
    /// Where they live.
    pub device: Device,
}

/// Why parameters cannot be built or restored.
#[derive(Debug, Error)]
pub enum ParamError {
    /// A parameter without rule and without given start, or a start of another shape.
    #[error("a parameter has no start")]
    Start(#[from] WeightsError),
    /// A state of another layout.
    #[error("the state holds {found} {what}, this run has {expected}")]
    Size {
        /// What was counted.
        what: &'static str,
        /// How many this run has.
        expected: usize,
        /// How many were found.
        found: usize,
    },
}

/// The trainable parameters of a run, by group.
#[derive(Debug)]
pub struct ParamStore {
    layout: GroupLayout,
    groups: Vec<GroupParams>,
    /// Name to (group, place in the group).
    index: BTreeMap<String, (usize, usize)>,
    pub(crate) values: Tensor,
    pub(crate) first_moment: Tensor,
    pub(crate) second_moment: Tensor,
    pub(crate) touches: Vec<u64>,
}

/// One group's parameters.
#[derive(Debug)]
pub struct GroupParams {
    /// What they belong to.
    pub kind: GroupKind,
    /// Elements of all of them.
    numel: i64,
    /// In the order of the layout.
    pub params: Vec<ParamTensor>,
}

/// One parameter.
#[derive(Debug)]
pub struct ParamTensor {
    /// Unique name in the run.
    pub name: String,
    /// Its place in the flat buffer, in elements.
    pub range: Range<i64>,
    /// A leaf that requires gradients and shares storage with the flat buffer.
    pub tensor: Tensor,
}

impl ParamStore {
    /// Builds every parameter of the layout at its start: LoRA A Kaiming-uniform as PEFT, LoRA B, biases and heads zero,
    /// everything named in `start.weights` as given there. Moments are zero and no group has been touched.
    ///
    /// # Errors
    /// [`ParamError::Start`] for a parameter that only `start.weights` could have started.
    pub fn new(layout: &GroupLayout, start: Start<'_>) -> Result<Self, ParamError> {
        let params = layout.groups.iter().flat_map(|group| &group.params);
        let total = params.map(|param| aligned(signed(param.numel()))).sum();
        let zeros = || Tensor::zeros([total], (Kind::Float, start.device));
        let values = zeros();
        let (groups, index) = slice_groups(layout, &values);
        let store = Self {
            layout: layout.clone(),
            touches: vec![0; groups.len()],
            groups,
            index,
            values,
            first_moment: zeros(),
            second_moment: zeros(),
        };
        store.initialise(start)?;
        Ok(store)
    }

    fn initialise(&self, start: Start<'_>) -> Result<(), ParamError> {
        for param in self.groups.iter().flat_map(|group| &group.params) {
            if let Some(tensor) = start_of(param, start)? {
                tch::no_grad(|| param.tensor.shallow_clone().copy_(&tensor));
            }
        }
        Ok(())
    }

    /// The layout it was built from.
    #[must_use]
    pub fn layout(&self) -> &GroupLayout {
        &self.layout
    }

    /// The parameter of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let &(group, place) = self.index.get(name)?;
        Some(&self.groups[group].params[place].tensor)
    }

    /// All groups in layout order.
    #[must_use]
    pub fn groups(&self) -> &[GroupParams] {
        &self.groups
    }

    /// One group's parameters.
    #[must_use]
    pub fn group(&self, id: GroupId) -> &GroupParams {
        &self.groups[id.index()]
    }

    /// The groups that a stitch touches, in layout order.
    pub fn touched(&self, stitch: StitchId) -> impl Iterator<Item = &GroupParams> {
        self.layout.touched(stitch).iter().map(|&id| self.group(id))
    }

    /// Number of trainable parameters.
    #[must_use]
    pub fn numel(&self) -> i64 {
        self.groups.iter().map(GroupParams::numel).sum()
    }

    /// How often each group has been updated.
    #[must_use]
    pub fn touches(&self) -> &[u64] {
        &self.touches
    }

    /// Parameters and Adam's moments as flat f32 tensors of one length: values, first, second moment. They share storage
    /// with the store: a broadcast into them is a broadcast into the store. Gaps between parameters stay zero.
    pub fn state(&self) -> [Tensor; 3] {
        [&self.values, &self.first_moment, &self.second_moment].map(Tensor::shallow_clone)
    }

    /// Takes over a snapshot of a store of the same layout.
    ///
    /// # Errors
    /// [`ParamError::Size`] when it belongs to another layout.
    pub fn restore(&mut self, flat: &Tensor, touches: &[u64]) -> Result<(), ParamError> {
        self.check_sizes(flat.numel(), touches.len())?;
        for (mut part, source) in self.state().into_iter().zip(flat.chunk(3, 0)) {
            part.copy_(&source);
        }
        self.touches.copy_from_slice(touches);
        Ok(())
    }

    /// A copy of the whole state as one flat tensor: values, first moment, second moment.
    pub fn snapshot(&self) -> Tensor {
        Tensor::cat(&self.state(), 0)
    }

    fn check_sizes(&self, flat: usize, touches: usize) -> Result<(), ParamError> {
        let size = |what, expected, found| match expected == found {
            true => Ok(()),
            false => Err(ParamError::Size { what, expected, found }),
        };
        size("numbers", 3 * self.values.numel(), flat)?;
        size("groups", self.groups.len(), touches)
    }
}

impl GroupParams {
    /// Number of elements.
    #[must_use]
    pub fn numel(&self) -> i64 {
        self.numel
    }
}

impl ParamTensor {
    pub(crate) fn numel(&self) -> i64 {
        self.range.end - self.range.start
    }

    /// Whether decoupled weight decay applies: to matrices, not to biases, norms and tokens.
    #[must_use]
    pub fn decays(&self) -> bool {
        let exempt = self.name.ends_with("bias")
            || self.name.contains("norm")
            || self.name.ends_with("cls_token")
            || self.name.ends_with("pos_embed");
        !exempt
    }

    fn shape(&self) -> Vec<i64> {
        self.tensor.size()
    }
}

/// Cuts the flat buffer into leaves.
fn slice_groups(layout: &GroupLayout, values: &Tensor) -> (Vec<GroupParams>, BTreeMap<String, (usize, usize)>) {
    let mut groups = Vec::with_capacity(layout.groups.len());
    let mut index = BTreeMap::new();
    let mut offset = 0;
    for (number, group) in layout.groups.iter().enumerate() {
        let mut params = Vec::with_capacity(group.params.len());
        for (place, param) in group.params.iter().enumerate() {
            let range = offset..offset + signed(param.numel());
            let shape: Vec<i64> = param.shape.iter().map(|&side| signed(side)).collect();
            let tensor = leaf(values, &range, &shape);
            index.insert(param.name.clone(), (number, place));
            offset = aligned(range.end);
            params.push(ParamTensor { name: param.name.clone(), range, tensor });
        }
        groups.push(GroupParams { kind: group.kind, numel: signed(group.numel()), params });
    }
    (groups, index)
}

/// A leaf over a slice: detached, so that gradients end here and no slice has to be differentiated.
fn leaf(values: &Tensor, range: &Range<i64>, shape: &[i64]) -> Tensor {
    values.narrow(0, range.start, range.end - range.start).view(shape).detach().set_requires_grad(true)
}

/// The start of a parameter; `None` for zeros.
fn start_of(param: &ParamTensor, start: Start<'_>) -> Result<Option<Tensor>, WeightsError> {
    let (name, shape) = (&param.name, param.shape());
    if start.weights.get(name).is_some() {
        return start.weights.expect(name, &shape).map(|tensor| Some(tensor.shallow_clone()));
    }
    let starts_at_zero = name.ends_with(".lora_B") || name.starts_with("stitches.") || name.contains(".head.");
    match name.ends_with(".lora_A") {
        true => Ok(Some(kaiming_uniform(start.seed, name, &shape, shape[shape.len() - 1]))),
        false if starts_at_zero => Ok(None),
        false => start.weights.expect(name, &shape).map(|_| None),
    }
}

/// A stretch of parameters that is adjacent in the store and in a concatenation of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Offset in the store.
    pub store: i64,
    /// Offset in the concatenation.
    pub flat: i64,
    pub len: i64,
}

impl Run {
    /// Joins `next` to this run where it follows in both places.
    pub fn extend(&mut self, next: Self) -> bool {
        let follows = self.store + self.len == next.store && self.flat + self.len == next.flat;
        if follows {
            self.len += next.len;
        }
        follows
    }
}

/// The runs of those groups of a concatenation that `keep` names: as few as possible.
pub(crate) fn runs<'a>(groups: impl Iterator<Item = &'a GroupParams>, keep: impl Fn(&GroupParams) -> bool) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut flat = 0;
    for (group, param) in groups.flat_map(|group| group.params.iter().map(move |param| (group, param))) {
        let run = Run { store: param.range.start, flat, len: param.numel() };
        flat += run.len;
        if keep(group) && !runs.last_mut().is_some_and(|last| last.extend(run)) {
            runs.push(run);
        }
    }
    runs
}

/// The next start of a cache line.
fn aligned(offset: i64) -> i64 {
    (offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

/// Sizes as libtorch counts them.
pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).expect("sizes fit i64")
}
