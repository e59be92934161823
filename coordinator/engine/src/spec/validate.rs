//! What a job specification must satisfy beyond its types (LAW): one pass, the first flaw named by its key.

use thiserror::Error;

use super::{BudgetSpec, JobSpec};
use crate::arch::VitArch;

/// Slots of a step beyond this are a typing error: a plan names each of them.
const MAX_SLOTS: u32 = 1 << 16;
/// Other counts beyond this are one too.
const MAX_COUNT: u64 = 1 << 24;

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
        self.validate_anchors()?;
        self.validate_pst()?;
        self.validate_sampling()?;
        self.validate_training()?;
        self.validate_data()?;
        self.timeouts.validate()
    }

    /// The anchors' architectures in family order.
    ///
    /// # Errors
    /// [`SpecError`] when an anchor has neither a known preset nor a possible `arch`.
    pub fn architectures(&self) -> Result<Vec<VitArch>, SpecError> {
        let resolve = |(i, anchor): (usize, &super::AnchorSpec)| {
            let key = |field: &str| format!("family.anchors[{i}].{field}");
            let arch = match (&anchor.arch, &anchor.preset) {
                (Some(arch), None) => arch.clone(),
                (None, Some(preset)) => VitArch::preset(preset).ok_or_else(|| {
                    SpecError::new(key("preset"), format!("{preset:?} is no timm ViT known here; give arch"))
                })?,
                (Some(_), Some(_)) => return Err(SpecError::new(key("arch"), "give either preset or arch, not both")),
                (None, None) => return Err(SpecError::new(key("arch"), "give preset or arch")),
            };
            match arch.flaw() {
                Some(flaw) => Err(SpecError::new(key("arch"), flaw)),
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
        // What stitching asks of anchors is the catalog's to say; in every mode all of them see the same images.
        for (i, pair) in archs.windows(2).enumerate() {
            let input = |arch: &VitArch| (arch.image_size, arch.in_chans);
            if input(&pair[0]) != input(&pair[1]) {
                let says =
                    |arch: &VitArch| format!("images of {0} x {0} in {1} channels", arch.image_size, arch.in_chans);
                let flaw = format!("it sees {}, the anchor before it {}", says(&pair[1]), says(&pair[0]));
                return Err(SpecError::new(format!("family.anchors[{}]", i + 1), flaw));
            }
        }
        Ok(())
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
        within("pst.lora_dropout", self.pst.lora_dropout, 0.0, 0.95)?;
        match &self.budgets {
            BudgetSpec::Gap(gap) if !(gap.is_finite() && *gap > 0.0) => {
                Err(SpecError::new("budgets.gap", format!("{gap} is no positive cost")))
            }
            BudgetSpec::Edges(edges) if edges.is_empty() => Err(SpecError::new("budgets.edges", "is empty")),
            BudgetSpec::Edges(edges)
                if edges.windows(2).any(|e| !matches!(e[0].partial_cmp(&e[1]), Some(std::cmp::Ordering::Less))) =>
            {
                Err(SpecError::new("budgets.edges", "does not ascend"))
            }
            BudgetSpec::Latency(latency) => latency.validate(),
            _ => Ok(()),
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
        within("sampling.epsilon", sampling.epsilon, 0.0, 1.0)?;
        within("sampling.anchor_floor", sampling.anchor_floor, 0.0, 1.0)?;
        within("sampling.momentum", sampling.momentum, 0.0, 0.999_999)?;
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
        for (key, count) in [
            ("train.intra_op_threads", u64::from(train.intra_op_threads)),
            ("train.save_steps", train.save_steps),
            ("train.save_total_limit", u64::from(train.save_total_limit)),
            ("train.logging_steps", train.logging_steps),
            ("data.loader_threads", u64::from(self.data.loader_threads)),
            ("eval.batch_size", u64::from(self.eval.batch_size)),
        ] {
            if count == 0 {
                return Err(SpecError::new(key, "is at least 1"));
            }
        }
        for (key, count) in [
            ("train.batch_size", train.batch_size),
            ("train.intra_op_threads", train.intra_op_threads),
            ("train.save_total_limit", train.save_total_limit),
            ("data.loader_threads", self.data.loader_threads),
            ("data.num_classes", self.data.num_classes),
            ("eval.batch_size", self.eval.batch_size),
            ("pst.lora_r", self.pst.lora_r),
        ] {
            if u64::from(count) > MAX_COUNT {
                return Err(SpecError::new(key, format!("{count} is beyond all measure; at most {MAX_COUNT}")));
            }
        }
        within("train.learning_rate", train.learning_rate, 0.0, 1e3)?;
        within("train.weight_decay", train.weight_decay, 0.0, 1e3)?;
        within("train.adam_beta1", train.adam_beta1, 0.0, 0.999_999_9)?;
        within("train.adam_beta2", train.adam_beta2, 0.0, 0.999_999_999)?;
        within("train.warmup_ratio", train.warmup_ratio, 0.0, 1.0)?;
        within("train.max_grad_norm", train.max_grad_norm, 0.0, f64::MAX)?;
        within("train.distill.weight", train.distill.weight, 0.0, 1.0)?;
        within("train.distill.temperature", train.distill.temperature, 1e-3, 1e3)?;
        within("train.label_smoothing_factor", train.label_smoothing_factor, 0.0, 0.999)
    }

    fn validate_data(&self) -> Result<(), SpecError> {
        if self.data.num_classes < 2 {
            return Err(SpecError::new(
                "data.num_classes",
                format!("{} classes leave nothing to learn", self.data.num_classes),
            ));
        }
        let sets = [
            ("data.train", Some(&self.data.train)),
            ("data.eval", self.data.eval.as_ref()),
            ("data.validation", self.data.validation.as_ref()),
        ];
        for (key, set) in sets.into_iter().filter_map(|(key, set)| set.map(|set| (key, set))) {
            if !matches!(set.rotate, 0 | 90 | 180 | 270) {
                return Err(SpecError::new(
                    format!("{key}.rotate"),
                    format!("{} is not 0, 90, 180 or 270", set.rotate),
                ));
            }
            if set.downsample == Some(0) {
                return Err(SpecError::new(format!("{key}.downsample"), "0 pixels show nothing"));
            }
        }
        if self.data.validation.is_some() && self.eval.probe_images == 0 {
            return Err(SpecError::new("data.validation", "is looked at only with eval.probe_images above 0"));
        }
        Ok(())
    }
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Result<(), SpecError> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(SpecError::new(key, format!("{value} is not between {low} and {high}")))
}
