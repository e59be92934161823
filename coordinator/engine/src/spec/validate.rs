//! What a job specification must satisfy beyond its types (LAW): one pass, the first flaw named by its key.

use thiserror::Error;

use super::{
    AnchorSpec, AugmentSpec, BudgetSpec, HeadInit, JobSpec, Layout, ParamBins, Template, TextSpec,
    bounds::{ascending, positive},
};
use crate::arch::{Arch, LlamaArch, VitArch};

/// Slots of a step beyond this are a typing error: a plan names each of them.
const MAX_SLOTS: u32 = 1 << 16;

/// Pixels of an image's side beyond this are one too.
const MAX_SIDE: u32 = 1 << 12;

/// A job specification that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key}: {flaw}")]
pub struct SpecError {
    /// Dotted key of the offending value.
    pub key: String,
    /// What is wrong with it, values included.
    pub flaw: String,
}

impl SpecError {
    pub(crate) fn new(key: impl Into<String>, flaw: impl Into<String>) -> Self {
        Self { key: key.into(), flaw: flaw.into() }
    }
}

impl JobSpec {
    /// Checks everything that can be checked without opening a file.
    ///
    /// # Errors
    /// [`SpecError`] with the dotted key of the first flaw.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.validate_name()?;
        self.validate_anchors()?;
        self.validate_counts()?;
        self.validate_shares()?;
        self.validate_model()?;
        self.validate_pst()?;
        self.validate_sampling()?;
        self.validate_training()?;
        self.validate_data()?;
        self.timeouts.validate()
    }

    /// The anchors' architectures in family order.
    ///
    /// # Errors
    /// [`SpecError`] when an anchor has neither a known preset nor a possible shape.
    pub fn architectures(&self) -> Result<Vec<Arch>, SpecError> {
        let resolve = |(i, anchor): (usize, &AnchorSpec)| {
            let flawed = |(key, flaw): (&str, String)| SpecError::new(format!("family.anchors[{i}].{key}"), flaw);
            let arch = anchor.architecture().map_err(flawed)?;
            match arch.flaw() {
                Some(flaw) => Err(flawed((if anchor.config.is_some() { "config" } else { "arch" }, flaw))),
                None => Ok(arch),
            }
        };
        self.family.anchors.iter().enumerate().map(resolve).collect()
    }

    fn validate_anchors(&self) -> Result<(), SpecError> {
        let archs = self.architectures()?;
        for (i, anchor) in self.family.anchors.iter().enumerate() {
            if self.family.anchors[..i].iter().any(|earlier| earlier.name == anchor.name) {
                return Err(SpecError::new(format!("family.anchors[{i}].name"), format!("{:?} is taken", anchor.name)));
            }
        }
        // What stitching asks of anchors is the catalog's to say; in every mode all of them take the same inputs.
        for (i, pair) in archs.windows(2).enumerate() {
            let inputs = [&pair[0], &pair[1]].map(input);
            if inputs[0] != inputs[1] {
                let flaw = format!("it sees {}, the anchor before it {}", inputs[1], inputs[0]);
                return Err(SpecError::new(format!("family.anchors[{}]", i + 1), flaw));
            }
        }
        self.validate_normalize(&archs)?;
        match (archs.first(), &self.data.text) {
            (Some(Arch::Llama(_)), None) => Err(SpecError::new(
                "data.text",
                "is missing: the anchors are language models; text: {} takes the defaults",
            )),
            (Some(Arch::Vit(_)), Some(_)) => Err(SpecError::new("data.text", "the anchors see images, not texts")),
            _ => Ok(()),
        }
    }

    fn validate_model(&self) -> Result<(), SpecError> {
        let flaw = match (self.is_sharded(), &self.data.text) {
            (false, _) => return Ok(()),
            (true, Some(_)) if !self.trains_everything() => return Ok(()),
            (true, Some(_)) => "spreads weights that are frozen, and this job trains all of them",
            (true, None) => "is for language models; every rank has room for a vision transformer",
        };
        Err(SpecError::new("model.shard", format!("node {flaw}: leave it out")))
    }

    fn validate_pst(&self) -> Result<(), SpecError> {
        if self.pst.lora_r == 0 {
            return Err(SpecError::new("pst.lora_r", "0 is no rank; it is at least 1"));
        }
        if self.pst.targets.is_empty() {
            return Err(SpecError::new("pst.targets", "names no linear map"));
        }
        if self.pst.targets.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(SpecError::new(
                "pst.targets",
                "lists each of q, k, v, o, fc1, fc2 at most once, in this order",
            ));
        }
        match &self.budgets {
            BudgetSpec::Latency(latency) => latency.validate(),
            BudgetSpec::Params(ParamBins::Gap(gap)) => positive("budgets.params.gap", *gap),
            BudgetSpec::Params(ParamBins::Edges(edges)) => ascending("budgets.params.edges", edges),
            BudgetSpec::Gap(gap) => positive("budgets.gap", *gap),
            BudgetSpec::Edges(edges) => ascending("budgets.edges", edges),
        }
    }

    fn validate_sampling(&self) -> Result<(), SpecError> {
        let sampling = &self.sampling;
        if sampling.slots == 0 {
            return Err(SpecError::new("sampling.slots", "a step has at least one slot"));
        }
        if sampling.slots > MAX_SLOTS {
            return Err(SpecError::new("sampling.slots", format!("{} slots; at most {MAX_SLOTS}", sampling.slots)));
        }
        if !self.train.batch_size.is_multiple_of(sampling.slots) {
            let flaw = format!("{} slots do not divide train.batch_size {}", sampling.slots, self.train.batch_size);
            return Err(SpecError::new("sampling.slots", flaw));
        }
        if sampling.lookahead > 64 {
            return Err(SpecError::new(
                "sampling.lookahead",
                format!("{} steps ahead; at most 64", sampling.lookahead),
            ));
        }
        if !(8..=56).contains(&self.reduce.fraction_bits) {
            let flaw = format!("{} binary digits; between 8 and 56", self.reduce.fraction_bits);
            return Err(SpecError::new("reduce.fraction_bits", flaw));
        }
        Ok(())
    }

    fn validate_training(&self) -> Result<(), SpecError> {
        let train = &self.train;
        match (train.max_steps, train.num_train_epochs) {
            (None, None) => return Err(SpecError::new("train.num_train_epochs", "give num_train_epochs or max_steps")),
            (Some(0), _) => return Err(SpecError::new("train.max_steps", "0 steps train nothing")),
            (None, Some(epochs)) if !(epochs.is_finite() && epochs > 0.0) => {
                return Err(SpecError::new("train.num_train_epochs", format!("{epochs} is no number of passes")));
            }
            _ => {}
        }
        let micro = train.batch_size / self.sampling.slots;
        if train.gradient_accumulation_steps == 0 || !micro.is_multiple_of(train.gradient_accumulation_steps) {
            let (passes, batch, slots) = (train.gradient_accumulation_steps, train.batch_size, self.sampling.slots);
            let flaw = format!("{passes} does not divide a slot's {micro} images, {batch} over {slots} slots");
            return Err(SpecError::new("train.gradient_accumulation_steps", flaw));
        }
        Ok(())
    }

    fn validate_data(&self) -> Result<(), SpecError> {
        match &self.data.text {
            None if self.data.num_classes < 2 => {
                let flaw = format!("{} classes leave nothing to learn", self.data.num_classes);
                return Err(SpecError::new("data.num_classes", flaw));
            }
            None => {}
            Some(text) => self.validate_text(text)?,
        }
        let sets = [
            ("data.train", Some(&self.data.train)),
            ("data.eval", self.data.eval.as_ref()),
            ("data.validation", self.data.validation.as_ref()),
        ];
        for (key, set) in sets.into_iter().filter_map(|(key, set)| set.map(|set| (key, set))) {
            if set.layout.is_text() != self.data.text.is_some() {
                let kinds = ["images", "texts"].map(str::to_owned);
                let [holds, needs] =
                    [set.layout.is_text(), self.data.text.is_some()].map(|text| &kinds[usize::from(text)]);
                return Err(SpecError::new(
                    format!("{key}.layout"),
                    format!("holds {holds}, the anchors take {needs}"),
                ));
            }
            if !matches!(set.rotate, 0 | 90 | 180 | 270) {
                return Err(SpecError::new(
                    format!("{key}.rotate"),
                    format!("{} is not 0, 90, 180 or 270", set.rotate),
                ));
            }
            match set.downsample {
                Some(0) => return Err(SpecError::new(format!("{key}.downsample"), "0 pixels show nothing")),
                Some(side) if side > MAX_SIDE => {
                    let flaw = format!("{side} pixels a side; at most {MAX_SIDE}");
                    return Err(SpecError::new(format!("{key}.downsample"), flaw));
                }
                _ => {}
            }
        }
        if self.data.validation.is_some() && self.eval.probe_images == 0 {
            return Err(SpecError::new("data.validation", "is looked at only with eval.probe_images above 0"));
        }
        Ok(())
    }
}

impl JobSpec {
    fn validate_text(&self, text: &TextSpec) -> Result<(), SpecError> {
        if !(2..=1 << 20).contains(&text.max_length) {
            let flaw = format!("{} tokens; between 2 and {}", text.max_length, 1 << 20);
            return Err(SpecError::new("data.text.max_length", flaw));
        }
        let sets = [("data.train", Some(&self.data.train)), ("data.eval", self.data.eval.as_ref())];
        for (key, set) in sets.into_iter().filter_map(|(key, set)| set.map(|set| (key, set))) {
            if set.layout == Layout::Chat && text.template != Template::Chat {
                return Err(SpecError::new(
                    "data.text.template",
                    format!("{key} holds chats, which need template: chat"),
                ));
            }
        }
        let images_only = [
            ("data.num_classes", self.data.num_classes != 0),
            ("data.horizontal_flip", self.data.horizontal_flip),
            ("data.augment", self.data.augment != AugmentSpec::default()),
            ("data.validation", self.data.validation.is_some()),
            ("train.head_init", self.train.head_init != HeadInit::Zero),
            ("eval.probe_images", self.eval.probe_images > 0),
            ("family.stitch_init.refine_steps", self.family.stitch_init.refine_steps > 0),
        ];
        match images_only.iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(SpecError::new(*key, "is for images; language models have no use for it")),
            None => Ok(()),
        }
    }
}

impl AnchorSpec {
    /// Its architecture, or the key that is wrong and why.
    fn architecture(&self) -> Result<Arch, (&'static str, String)> {
        match (&self.arch, &self.config, &self.preset) {
            (Some(arch), None, None) => Ok(arch.clone().into()),
            (None, Some(config), None) => Ok(config.clone().into()),
            (None, None, Some(preset)) => preset_of(preset).ok_or_else(|| {
                ("preset", format!("{preset:?} is no timm ViT and no language model known here; give arch or config"))
            }),
            (None, None, None) => preset_of(&self.weights).ok_or_else(|| {
                ("arch", "give preset, arch, or config; a folder with a config.json has its own".to_owned())
            }),
            _ => Err(("arch", "give one of preset, arch and config".to_owned())),
        }
    }
}

fn preset_of(name: &str) -> Option<Arch> {
    VitArch::preset(name).map(Arch::Vit).or_else(|| LlamaArch::preset(name).map(Arch::Llama))
}

/// What an anchor takes, in words.
fn input(arch: &Arch) -> String {
    match arch {
        Arch::Vit(arch) => format!("images of {0} x {0} in {1} channels", arch.image_size, arch.in_chans),
        Arch::Llama(_) => "texts".to_owned(),
    }
}
