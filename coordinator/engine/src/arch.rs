//! The architecture of an anchor as numbers (LAW): what cost, layout and model all derive from.

mod hub;
mod llama;
mod vit;

pub use hub::{HubConfig, HubConfigFlaw};
pub use llama::{LlamaArch, ModelType, RopeScaling};
pub use vit::VitArch;

/// An anchor's architecture. All anchors of a family are of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Arch {
    /// A vision transformer, images to classes.
    Vit(VitArch),
    /// A decoder of the LLaMA type, tokens to next tokens.
    Llama(LlamaArch),
}

impl Arch {
    /// Width D of its activations.
    #[must_use]
    pub fn width(&self) -> u64 {
        match self {
            Self::Vit(arch) => arch.width(),
            Self::Llama(arch) => arch.width(),
        }
    }

    /// Number of blocks L.
    #[must_use]
    pub fn depth(&self) -> u32 {
        match self {
            Self::Vit(arch) => arch.depth,
            Self::Llama(arch) => arch.num_hidden_layers,
        }
    }

    /// What makes this architecture impossible, if anything does.
    #[must_use]
    pub fn flaw(&self) -> Option<String> {
        match self {
            Self::Vit(arch) => arch.flaw(),
            Self::Llama(arch) => arch.flaw(),
        }
    }

    /// The vision transformer it is.
    #[must_use]
    pub fn as_vit(&self) -> Option<&VitArch> {
        match self {
            Self::Vit(arch) => Some(arch),
            Self::Llama(_) => None,
        }
    }

    /// The language model it is.
    #[must_use]
    pub fn as_llama(&self) -> Option<&LlamaArch> {
        match self {
            Self::Llama(arch) => Some(arch),
            Self::Vit(_) => None,
        }
    }
}

impl From<VitArch> for Arch {
    fn from(arch: VitArch) -> Self {
        Self::Vit(arch)
    }
}

impl From<LlamaArch> for Arch {
    fn from(arch: LlamaArch) -> Self {
        Self::Llama(arch)
    }
}
