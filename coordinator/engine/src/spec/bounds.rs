//! Numbers within their bounds (LAW): what lies beyond is a typing error, and would break a worker long after the job was
//! read.

use super::{JobSpec, Normalize, SpecError};
use crate::arch::Arch;

/// Counts beyond this are a typing error.
const MAX_COUNT: u64 = 1 << 24;
/// More threads than this no machine starts.
const MAX_THREADS: u64 = 1 << 10;
/// Ranks beyond this are wider than the maps they are added to.
const MAX_RANK: u64 = 1 << 14;
/// Bytes of a name: a file system takes no folder whose name is much longer.
const MAX_NAME: usize = 128;

/// Key, count, its least and its most, what is counted.
type Count = (&'static str, u64, [u64; 2], &'static str);

impl JobSpec {
    /// The name is a folder's below `runs/` and part of the keys of a store.
    pub(super) fn validate_name(&self) -> Result<(), SpecError> {
        let name = &self.name;
        let flaw = match name {
            _ if name.is_empty() => "is empty".to_owned(),
            _ if name.starts_with('.') => format!("{name:?} begins with a dot: runs/{name} is no folder for a run"),
            _ if name.contains(['/', '\\']) || name.contains(char::is_control) => {
                format!("{name:?} is no name of one folder: leave out slashes and control characters")
            }
            _ if name.len() > MAX_NAME => format!("{} bytes; at most {MAX_NAME}", name.len()),
            _ => return Ok(()),
        };
        Err(SpecError::new("name", flaw))
    }

    pub(super) fn validate_counts(&self) -> Result<(), SpecError> {
        for (key, count, [least, most], noun) in self.counts() {
            if count < least {
                return Err(SpecError::new(key, format!("{count} {noun}; at least {least}")));
            }
            if count > most {
                return Err(SpecError::new(key, format!("{count} {noun}; at most {most}")));
            }
        }
        Ok(())
    }

    fn counts(&self) -> [Count; 14] {
        let (train, data, eval, init) = (&self.train, &self.data, &self.eval, &self.family.stitch_init);
        let eval_threads = eval.threads.map_or(1, |threads| u64::from(threads.get()));
        [
            ("train.batch_size", train.batch_size.into(), [1, MAX_COUNT], "samples in a step"),
            ("train.intra_op_threads", train.intra_op_threads.into(), [1, MAX_THREADS], "threads"),
            ("train.save_steps", train.save_steps, [1, u64::MAX], "steps"),
            ("train.save_total_limit", train.save_total_limit.into(), [1, MAX_COUNT], "checkpoints"),
            ("train.logging_steps", train.logging_steps, [1, u64::MAX], "steps"),
            ("data.loader_threads", data.loader_threads.into(), [1, MAX_THREADS], "threads"),
            ("data.num_classes", data.num_classes.into(), [0, MAX_COUNT], "classes"),
            ("eval.batch_size", eval.batch_size.into(), [1, MAX_COUNT], "samples in a pass"),
            ("eval.threads", eval_threads, [1, MAX_THREADS], "threads"),
            ("eval.probe_images", eval.probe_images.into(), [0, MAX_COUNT], "images"),
            ("pst.lora_r", self.pst.lora_r.into(), [0, MAX_RANK], "as a rank"),
            ("pst.stitch_r", self.pst.stitch_r.into(), [0, MAX_RANK], "as a rank"),
            ("family.stitch_init.samples", init.samples.into(), [1, MAX_COUNT], "samples to fit on"),
            ("family.stitch_init.refine_steps", init.refine_steps.into(), [0, MAX_COUNT], "steps"),
        ]
    }

    pub(super) fn validate_shares(&self) -> Result<(), SpecError> {
        let (train, sampling) = (&self.train, &self.sampling);
        for (key, value, [low, high]) in [
            ("pst.lora_dropout", self.pst.lora_dropout, [0.0, 0.95]),
            ("family.stitch_init.ridge", self.family.stitch_init.ridge, [0.0, 1e3]),
            ("sampling.epsilon", sampling.epsilon, [0.0, 1.0]),
            ("sampling.anchor_floor", sampling.anchor_floor, [0.0, 1.0]),
            ("sampling.momentum", sampling.momentum, [0.0, 0.999_999]),
            ("train.learning_rate", train.learning_rate, [0.0, 1e3]),
            ("train.weight_decay", train.weight_decay, [0.0, 1e3]),
            ("train.adam_beta1", train.adam_beta1, [0.0, 0.999_999_9]),
            ("train.adam_beta2", train.adam_beta2, [0.0, 0.999_999_999]),
            ("train.warmup_ratio", train.warmup_ratio, [0.0, 1.0]),
            ("train.max_grad_norm", train.max_grad_norm, [0.0, f64::MAX]),
            ("train.distill.weight", train.distill.weight, [0.0, 1.0]),
            ("train.distill.temperature", train.distill.temperature, [1e-3, 1e3]),
            ("train.label_smoothing_factor", train.label_smoothing_factor, [0.0, 0.999]),
        ] {
            within(key, value, low, high)?;
        }
        // Single precision has no smaller numbers, and the square root of a gradient that is 0 would be divided by 0.
        if !(1e-30..=1.0).contains(&train.adam_epsilon) {
            let flaw = format!("{} keeps no denominator from 0; between 1e-30 and 1", train.adam_epsilon);
            return Err(SpecError::new("train.adam_epsilon", flaw));
        }
        match self.pst.lora_alpha {
            Some(alpha) if !(alpha > 0.0 && alpha <= 1e6) => {
                let flaw = format!("{alpha} is no scale of adapters: above 0, at most 1000000");
                Err(SpecError::new("pst.lora_alpha", flaw))
            }
            _ => Ok(()),
        }
    }

    /// Channel statistics are as many as the channels of the images that anchors see, and divide.
    pub(super) fn validate_normalize(&self, archs: &[Arch]) -> Result<(), SpecError> {
        let Some(Arch::Vit(arch)) = archs.first() else { return Ok(()) };
        let channels = arch.in_chans as usize;
        let (mean, std) = match &self.data.normalize {
            Normalize::Half => return Ok(()),
            Normalize::Imagenet if channels == 3 => return Ok(()),
            Normalize::Imagenet => {
                let flaw = format!("imagenet's statistics are of 3 channels, and the anchors see {channels}");
                return Err(SpecError::new("data.normalize", flaw));
            }
            Normalize::Values { mean, std } => (mean, std),
        };
        for (key, values) in [("mean", mean), ("std", std)] {
            let flawed = |flaw: String| Err(SpecError::new(format!("data.normalize.values.{key}"), flaw));
            if values.len() != channels {
                return flawed(format!("{} for images of {channels} channel(s): one each", values.len()));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite() || (key == "std" && **value <= 0.0)) {
                return flawed(format!("{value} is no {key} of a channel"));
            }
        }
        Ok(())
    }
}

pub(super) fn positive(key: &str, gap: f64) -> Result<(), SpecError> {
    match gap.is_finite() && gap > 0.0 {
        true => Ok(()),
        false => Err(SpecError::new(key, format!("{gap} is no positive cost"))),
    }
}

pub(super) fn ascending(key: &str, edges: &[f64]) -> Result<(), SpecError> {
    let ascends = |pair: &[f64]| matches!(pair[0].partial_cmp(&pair[1]), Some(std::cmp::Ordering::Less));
    match edges {
        [] => Err(SpecError::new(key, "is empty")),
        edges if edges.windows(2).all(ascends) => Ok(()),
        _ => Err(SpecError::new(key, "does not ascend")),
    }
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Result<(), SpecError> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(SpecError::new(key, format!("{value} is not between {low} and {high}")))
}

#[cfg(test)]
#[path = "bounds_test.rs"]
mod tests;
