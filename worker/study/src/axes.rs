//! The axes of `ablate` (HANDS): names for the switches people ask about, and any other key by its values.

use std::path::Path;

use esta_config::{ConfigError, load};
use thiserror::Error;

use crate::jobs::Jobs;
use crate::plan::{Arm, Claim, Source, Study, StudyError, Target};
use crate::runner::key;

/// A switch: its short name, its key, and the values that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// What `--over` calls it.
    pub name: &'static str,
    /// Its key in a job.
    pub key: &'static str,
    /// Values, each a word of YAML.
    pub values: &'static [&'static str],
}

/// The switches that have a short name.
pub const AXES: &[Axis] = &[
    Axis { name: "pst.bias", key: "pst.bias", values: &["all", "stitch-layer", "none"] },
    Axis { name: "pst.lora_r", key: "pst.lora_r", values: &["4", "8", "16"] },
    Axis { name: "score.q", key: "score.q", values: &["mean", "sum"] },
    Axis { name: "sampling", key: "sampling.strategy", values: &["importance", "bins", "uniform", "bandit"] },
    Axis { name: "lstsq", key: "family.stitch_init.method", values: &["joint", "mean"] },
    Axis { name: "refine", key: "family.stitch_init.refine_steps", values: &["0", "200"] },
    Axis { name: "slots", key: "sampling.slots", values: &["1", "2", "4", "8"] },
    Axis { name: "floor", key: "sampling.anchor_floor", values: &["0", "0.3", "0.5"] },
    Axis { name: "epsilon", key: "sampling.epsilon", values: &["0", "0.1", "0.5"] },
    Axis { name: "momentum", key: "sampling.momentum", values: &["0.5", "0.9", "0.99"] },
    Axis { name: "head", key: "train.head_init", values: &["zero", "ridge"] },
    Axis { name: "distill", key: "train.distill.weight", values: &["0", "0.5"] },
    Axis { name: "divisor", key: "reduce.divisor", values: &["contributors", "slots"] },
    Axis { name: "space", key: "family.space.kind", values: &["esta", "snnet", "twoway"] },
    Axis { name: "recipe", key: "recipe", values: &["paper", "best"] },
    Axis { name: "mode", key: "mode", values: &["pst", "snnet"] },
];

/// Why an ablation cannot be laid out.
#[derive(Debug, Error)]
pub enum AxisError {
    /// An axis is not known.
    #[error("--over {axis}: no axis of this name and no key=value|value; axes are {}", names())]
    Unknown {
        /// What was asked for.
        axis: String,
    },
    /// The job, or the job with a value of an axis.
    #[error("a job of the ablation cannot be run")]
    Job(#[from] ConfigError),
    /// The study that comes of it.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// All values are the job's own.
    #[error("--over {axis}: every value is the job's own, nothing to compare")]
    Nothing {
        /// What was asked for.
        axis: String,
    },
}

fn names() -> String {
    AXES.iter().map(|axis| axis.name).collect::<Vec<_>>().join(", ")
}

/// The study of one job under the values of some axes, one switch changed at a time.
///
/// # Errors
/// [`AxisError`]; every job that would run has been validated.
pub fn study(config: &Path, set: &[String], over: &[String], seeds: u64) -> Result<Study, AxisError> {
    let law = load(config, set)?;
    let own = key(&law.spec);
    let name = law.spec.name.clone();
    let words = "The job as its file says it.".to_owned();
    let mut arms = vec![Arm { name: "job".into(), words, set: set.to_vec(), ..Arm::default() }];
    let mut claims = Vec::new();
    for axis in over {
        let (key_of_axis, values) = parse(axis)?;
        let before = arms.len();
        for value in values {
            let changed = [set.to_vec(), vec![format!("{key_of_axis}={value}")]].concat();
            if key(&load(config, &changed)?.spec) == own {
                continue;
            }
            let arm = plain(&format!("{}={value}", short(&key_of_axis)));
            let words = format!("`{key_of_axis}: {value}`, all else as in the job.");
            let says = format!("`{key_of_axis}: {value}` does better than the job's own value.");
            claims.push(Claim {
                words: says,
                arm: arm.clone(),
                against: "job".into(),
                source: Source::Ours,
                ours: vec![key_of_axis.clone()],
            });
            arms.push(Arm { name: arm, words, set: changed, ..Arm::default() });
        }
        if arms.len() == before {
            return Err(AxisError::Nothing { axis: axis.clone() });
        }
    }
    let target = Target {
        name: plain(&name),
        config: config.into(),
        words: format!("the job {}", config.display()),
        ..Target::default()
    };
    let study = Study {
        name: format!("ablate-{}", plain(&name)),
        title: format!("Ablation of {name}"),
        words: "One switch changed at a time; differences are paired by seed.".into(),
        targets: vec![target],
        seeds: (0..seeds).map(|seed| law.spec.seed + seed).collect(),
        set: Vec::new(),
        arms,
        claims,
        angles: None,
    };
    study.validate()?;
    Ok(study)
}

/// Claims whose arms differ in one key that nothing reads on either side: their runs come to the same. One
/// line each.
#[must_use]
pub fn idle(study: &Study, jobs: &Jobs) -> Vec<String> {
    let job = |arm: &str| study.targets.iter().find_map(|target| jobs.get(arm, &target.name));
    let why = |claim: &Claim| {
        let [key] = claim.ours.as_slice() else { return None };
        let (own, other) = (job(&claim.arm)?, job(&claim.against)?);
        let why = own.why_unread(key).and(other.why_unread(key))?;
        Some(format!("{} will come to what {} comes to: nothing reads {key} {why}", claim.arm, claim.against))
    };
    study.claims.iter().filter_map(why).collect()
}

/// Key and values of what `--over` was given.
fn parse(axis: &str) -> Result<(String, Vec<String>), AxisError> {
    if let Some(known) = AXES.iter().find(|known| known.name == axis || known.key == axis) {
        return Ok((known.key.into(), known.values.iter().map(|value| (*value).into()).collect()));
    }
    match axis.split_once('=') {
        Some((key, values)) if !key.is_empty() && !values.is_empty() => {
            let key = AXES.iter().find(|known| known.name == key).map_or(key, |known| known.key);
            Ok((key.into(), values.split('|').map(str::to_owned).collect()))
        }
        _ => Err(AxisError::Unknown { axis: axis.into() }),
    }
}

/// The last word of a dotted key.
fn short(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// A name that can be a folder's.
fn plain(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '+');
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const JOB: &str = "
name: tiny
seed: 7
family:
  anchors:
    - {name: a, weights: a, arch: {image_size: 8, patch_size: 4, in_chans: 1, embed_dim: 8, depth: 2, num_heads: 2}}
    - {name: b, weights: b, arch: {image_size: 8, patch_size: 4, in_chans: 1, embed_dim: 16, depth: 2, num_heads: 2}}
sampling: {slots: 4}
train: {max_steps: 1, batch_size: 8}
data: {num_classes: 2, train: {layout: idx, path: images, labels: labels}}
";

    fn over(axes: &[&str]) -> Result<Study, AxisError> {
        let folder = tempfile::tempdir().expect("a folder");
        let job = folder.path().join("job.yaml");
        std::fs::write(&job, JOB).expect("writes");
        study(&job, &[], &axes.iter().map(|axis| (*axis).to_owned()).collect::<Vec<_>>(), 2)
    }

    #[test]
    fn the_jobs_own_value_is_not_an_arm() {
        let study = over(&["slots", "pst.bias"]).expect("axes are known");
        let arms: Vec<&str> = study.arms.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(arms, ["job", "slots=1", "slots=2", "slots=8", "bias=stitch-layer", "bias=none"]);
        assert_eq!(study.seeds, [7, 8]);
        assert_eq!(study.claims.len(), 5);
    }

    #[test]
    fn an_axis_that_reaches_no_number_is_named_with_the_reason() {
        let said = |axes: &[&str]| {
            let folder = tempfile::tempdir().expect("a folder");
            let job = folder.path().join("job.yaml");
            std::fs::write(&job, JOB).expect("writes");
            let study = study(
                &job,
                &["recipe=best".into()],
                &axes.iter().map(|axis| (*axis).to_owned()).collect::<Vec<_>>(),
                1,
            );
            let study = study.expect("axes are known");
            idle(&study, &Jobs::of(&study).expect("sound jobs"))
        };
        let reason = "where stitches are drawn by bandit and deployed by auto";
        assert_eq!(
            said(&["score.q"]),
            [format!("q=sum will come to what job comes to: nothing reads score.q {reason}")]
        );
        assert_eq!(said(&["momentum"]).len(), 2);
        assert_eq!(said(&["epsilon", "slots", "sampling"]), Vec::<String>::new(), "the other side reads it");
    }

    #[test]
    fn any_key_can_be_an_axis() {
        let study = over(&["train.learning_rate=1e-3|3e-3"]).expect("a key with values");
        assert_eq!(study.arms[1].set, ["train.learning_rate=3e-3"]);
        assert_eq!(study.arms.len(), 2, "1e-3 is the job's own");
    }

    #[test]
    fn an_unknown_axis_or_a_bad_value_is_named() {
        assert!(over(&["slotz"]).expect_err("unknown").to_string().contains("--over slotz"));
        let bad = over(&["sampling.slots=3"]).expect_err("3 does not divide 8");
        let cause = std::error::Error::source(&bad).map(ToString::to_string);
        assert!(cause.as_ref().is_some_and(|cause| cause.contains("sampling.slots")), "{cause:?}");
        assert!(matches!(over(&["slots=4"]), Err(AxisError::Nothing { .. })));
    }
}
