//! Parameter groups (LAW): what trains, in the one order that every rank reduces in (RD-1).
//!
//! A group is the smallest set of parameters that a stitch either touches whole or not at all. Its tensors live in one
//! flat buffer, in the order given here; the model crate builds its tensors from this layout and from nothing else.

mod layout;
mod tensors;

pub(crate) use tensors::own_biases;
pub use tensors::{anchor_tensors, block_tensors};

use std::fmt;

use esta_proto::{AnchorId, GroupId, LayerId, StitchId};

/// What a group's parameters belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    /// Patch embedding, class token and position embedding of an anchor, or a language model's token embedding (only where
    /// everything trains).
    Embed(AnchorId),
    /// A block of an anchor: its LoRA pairs, or all its weights where everything trains.
    Block(AnchorId, u32),
    /// A stitching layer: its LoRA pair, or weight and bias where everything trains.
    Layer(LayerId),
    /// The classification head of an end anchor, and its final norm where everything trains. A language model's final
    /// norm and head, only where everything trains.
    Head(AnchorId),
    /// One stitch's own biases.
    Bias(StitchId),
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed(anchor) => write!(f, "embed({anchor})"),
            Self::Block(anchor, block) => write!(f, "block({anchor},{block})"),
            Self::Layer(layer) => write!(f, "layer({layer})"),
            Self::Head(anchor) => write!(f, "head({anchor})"),
            Self::Bias(stitch) => write!(f, "bias({stitch})"),
        }
    }
}

/// One tensor of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Unique name in the run; see `GroupLayout::new` for the grammar.
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<u64>,
}

impl Param {
    /// Number of elements.
    #[must_use]
    pub fn numel(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A group of parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Place in the order of every reduction.
    pub id: GroupId,
    /// What it belongs to.
    pub kind: GroupKind,
    /// Its tensors in the order of its flat buffer.
    pub params: Vec<Param>,
}

impl Group {
    /// Number of elements over its tensors.
    #[must_use]
    pub fn numel(&self) -> u64 {
        self.params.iter().map(Param::numel).sum()
    }
}

/// All groups of a run and which of them each stitch touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLayout {
    /// By group id.
    pub groups: Vec<Group>,
    /// By stitch id: the groups it touches, ascending; empty for a hole.
    pub(crate) touched: Vec<Vec<GroupId>>,
}

impl GroupLayout {
    /// The groups a stitch touches, ascending.
    #[must_use]
    pub fn touched(&self, stitch: StitchId) -> &[GroupId] {
        self.touched.get(stitch.index()).map_or(&[], Vec::as_slice)
    }

    /// The group of this kind; `None` where nothing of that kind trains.
    #[must_use]
    pub fn find(&self, kind: GroupKind) -> Option<&Group> {
        self.groups.iter().find(|group| group.kind == kind)
    }

    /// Trained parameters of the whole run.
    #[must_use]
    pub fn trainable_params(&self) -> u64 {
        self.groups.iter().map(Group::numel).sum()
    }

    /// Trained parameters of the whole run, classification heads left out (a head's size is the task's, not ours).
    #[must_use]
    pub fn trainable_params_without_heads(&self) -> u64 {
        let params = self.groups.iter().flat_map(|group| &group.params);
        params.filter(|param| !param.name.contains(".head.")).map(Param::numel).sum()
    }

    /// One line per tensor in the order of reduction: group, kind, name, shape. Two processes agree on the layout
    /// exactly when these texts are equal, so its hash can stand for it.
    #[must_use]
    pub fn canonical_text(&self) -> String {
        let lines = self.groups.iter().flat_map(|group| group.params.iter().map(move |param| (group, param)));
        lines
            .map(|(group, param)| {
                let shape: Vec<String> = param.shape.iter().map(u64::to_string).collect();
                format!("{} {} {} {}\n", group.id, group.kind, param.name, shape.join("x"))
            })
            .collect()
    }
}
