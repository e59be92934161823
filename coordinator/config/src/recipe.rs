//! Recipes (HANDS): named sets of values that stand under a job, so that whatever the job says itself goes before them.

use std::sync::Arc;

use esta_engine::spec::{Mode, Recipe};
use serde::Deserialize;

use super::{
    ConfigError, Place,
    node::{Malformed, Node},
    typed,
};

/// The two keys of a job that decide which recipe stands under it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    recipe: Option<Recipe>,
    mode: Mode,
}

/// Lays the recipe that a job names under it, and its name with it. A job that names none gets [`Recipe::Best`]; in the
/// modes that are baselines [`Recipe::Paper`], or what they are compared with would be built into them. Those draw uniformly
/// under either: no recipe gives them a floor for anchors.
pub(super) fn lay_under(top: &mut Node) -> Result<(), ConfigError> {
    let Choice { recipe, mode } = typed::read(top)?;
    let is_baseline = matches!(mode, Mode::Snnet | Mode::Anchor);
    let mut below = values(recipe.unwrap_or(if is_baseline { Recipe::Paper } else { Recipe::Best }))?;
    if is_baseline {
        below.take_below("sampling", "anchor_floor");
    }
    top.underlay(below);
    Ok(())
}

fn values(recipe: Recipe) -> Result<Node, ConfigError> {
    let (name, text) = match recipe {
        Recipe::Paper => ("paper", include_str!("../recipes/paper.yaml")),
        Recipe::Best => ("best", include_str!("../recipes/best.yaml")),
    };
    // A flaw that comes of a recipe's value is put right in the job, so its place says how.
    let origin: Arc<str> = format!("recipe {name}, which gives way to the job's own keys").into();
    let node = Node::parse(text, &origin).map_err(|Malformed { place, flaw }| ConfigError::Yaml { place, flaw })?;
    Ok(node.replaced(&Place { origin, at: None }))
}

#[cfg(test)]
mod tests {
    use esta_engine::spec::{HeadInit, JobSpec, PaletteRule, SamplingStrategy};

    use super::*;
    use crate::{load, node::Value, to_yaml};

    const JOB: &str = "
name: tiny
family:
  anchors:
    - {name: a, weights: a, arch: {image_size: 8, patch_size: 4, embed_dim: 8, depth: 2, num_heads: 2}}
    - {name: b, weights: b, arch: {image_size: 8, patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}}
train: {max_steps: 10, batch_size: 48}
data: {num_classes: 2, train: {layout: idx, path: images, labels: labels}}
";

    /// The job over JOB that `text` makes, or the flaw in one line without the folder's name.
    fn resolve(text: &str, overrides: &[&str]) -> Result<JobSpec, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writes");
        write("tiny.yaml", JOB);
        write("job.yaml", &format!("base: tiny.yaml\n{text}"));
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let law = load(&folder.path().join("job.yaml"), &overrides);
        law.map(|law| law.spec).map_err(|flaw| flaw.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    fn job(text: &str) -> JobSpec {
        resolve(text, &[]).expect("it is whole")
    }

    /// The dotted keys that a recipe decides.
    fn keys(recipe: Recipe) -> Vec<String> {
        fn below(node: &Node, key: &str, keys: &mut Vec<String>) {
            match &node.value {
                Value::Map(entries) => entries.iter().for_each(|e| below(&e.node, &format!("{key}.{}", e.key), keys)),
                _ => keys.push(key.to_owned()),
            }
        }
        let mut found = Vec::new();
        below(&values(recipe).expect("it is YAML"), "", &mut found);
        found.sort();
        found
    }

    #[test]
    fn the_papers_recipe_is_what_a_specification_without_these_keys_means() {
        let bare: JobSpec = {
            let origin: Arc<str> = "job".into();
            let node = Node::parse(JOB, &origin).unwrap_or_else(|Malformed { flaw, .. }| panic!("{flaw}"));
            typed::read(&node).expect("it is whole")
        };
        assert_eq!(job("recipe: paper\n"), bare);
        assert_eq!(bare.recipe, Recipe::Paper);
    }

    #[test]
    fn both_recipes_decide_the_same_keys() {
        assert_eq!(keys(Recipe::Paper), keys(Recipe::Best));
        assert!(keys(Recipe::Paper).contains(&".sampling.slots".to_owned()));
    }

    #[test]
    fn a_job_that_names_no_recipe_gets_the_best_and_a_baseline_the_papers() {
        let best = job("");
        assert_eq!(best.recipe, Recipe::Best);
        assert_eq!(best, job("recipe: best\n"));
        assert_ne!(best.sampling, job("recipe: paper\n").sampling);
        for mode in ["snnet", "anchor"] {
            let baseline = job(&format!("mode: {mode}\n"));
            assert_eq!(baseline, job(&format!("mode: {mode}\nrecipe: paper\n")), "{mode}");
        }
    }

    #[test]
    fn a_baseline_draws_uniformly_under_either_recipe_unless_it_gives_a_floor_itself() {
        for (mode, recipe) in ["snnet", "anchor"].into_iter().flat_map(|mode| [(mode, "best"), (mode, "paper")]) {
            let baseline = job(&format!("mode: {mode}\nrecipe: {recipe}\n"));
            let sampling = baseline.effective_sampling();
            assert_eq!(
                (sampling.strategy, sampling.anchor_floor),
                (SamplingStrategy::Uniform, 0.0),
                "{mode}, {recipe}"
            );
            assert_eq!(sampling.slots, job(&format!("recipe: {recipe}\n")).sampling.slots, "{mode}, {recipe}");
            let given = job(&format!("mode: {mode}\nrecipe: {recipe}\nsampling: {{anchor_floor: 0.2}}\n"));
            assert_eq!(given.effective_sampling().anchor_floor, 0.2, "{mode}, {recipe}");
        }
    }

    #[test]
    fn whatever_the_job_says_goes_before_the_recipe_at_any_depth() {
        let spec = job("recipe: best\nsampling: {slots: 2}\ntrain: {head_init: ridge}\n");
        assert_eq!((spec.sampling.slots, spec.train.head_init), (2, HeadInit::Ridge));
        let rest = job("recipe: best\n");
        assert_eq!(spec.sampling.anchor_floor, rest.sampling.anchor_floor, "the key beside it is the recipe's still");
        let set = resolve("recipe: paper\n", &["recipe=best", "palette.rule=loss"]).expect("it is whole");
        assert_eq!((set.recipe, set.palette.rule), (Recipe::Best, PaletteRule::Loss));
        let chained = resolve("recipe: paper\ntrain: {distill: {temperature: 2}}\n", &[]).expect("it is whole");
        assert_eq!((chained.train.distill.weight, chained.train.distill.temperature), (0.0, 2.0));
    }

    #[test]
    fn what_is_taken_back_is_the_recipes_again() {
        let spec = resolve("sampling: {slots: 2}\npalette: null\n", &["sampling.slots=null", "recipe=null"]);
        assert_eq!(spec.expect("it is whole"), job(""));
    }

    #[test]
    fn a_resolved_job_says_its_recipe_and_is_read_as_itself() {
        for recipe in ["paper", "best"] {
            let spec = job(&format!("recipe: {recipe}\n"));
            let text = to_yaml(&spec).expect("it can be written");
            assert!(text.contains(&format!("recipe: {recipe}\n")), "{text}");
            assert_eq!(job(&text), spec);
        }
    }

    #[test]
    fn a_flaw_that_comes_of_a_recipe_says_so_and_the_job_can_mend_it() {
        let flaw = resolve("train: {batch_size: 12}\n", &[]).expect_err("8 slots do not divide 12");
        assert_eq!(
            flaw,
            "recipe best, which gives way to the job's own keys: sampling.slots: 8 slots do not divide \
             train.batch_size 12"
        );
        assert_eq!(job("train: {batch_size: 12}\nsampling: {slots: 4}\n").sampling.slots, 4);
        let flaw = resolve("train: {gradient_accumulation_steps: 4}\n", &[]).expect_err("4 does not divide 6");
        let place = "job.yaml:2:38: train.gradient_accumulation_steps";
        assert_eq!(flaw, format!("{place}: 4 does not divide a slot's 6 images, 48 over 8 slots"));
    }

    #[test]
    fn an_unknown_recipe_is_refused_with_its_line_and_a_suggestion() {
        let flaw = |text: &str| resolve(text, &[]).expect_err("it is flawed");
        assert_eq!(flaw("recipe: papr\n"), r#"job.yaml:2:9: recipe: unknown value "papr"; did you mean "paper"?"#);
        assert_eq!(flaw("recip: paper\n"), r#"job.yaml:2:1: unknown key "recip"; did you mean "recipe"?"#);
        assert_eq!(flaw("mode: ancor\n"), r#"job.yaml:2:7: mode: unknown value "ancor"; did you mean "anchor"?"#);
    }

    #[test]
    fn a_section_that_only_the_recipe_began_is_missed_in_the_job() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("job.yaml");
        let missing = |text: &str| {
            std::fs::write(&path, text).expect("writes");
            let flaw = load(&path, &[]).expect_err("much is missing").to_string();
            flaw.replace(&format!("{}/", folder.path().display()), "")
        };
        assert_eq!(missing("name: x\n"), r#"job.yaml:1:1: family: the key "anchors" is missing"#);
        let without_train = JOB.replace("train: {max_steps: 10, batch_size: 48}\n", "");
        assert!(missing(&without_train).starts_with("job.yaml:2:1: train.num_train_epochs: give "), "{without_train}");
    }
}
