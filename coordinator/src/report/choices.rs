//! What this run did that the paper does not say: our choices, with the values the job used (HANDS; METHOD.md's [C]).

use esta_engine::spec::{FitMethod, JobSpec, Mode, PaletteRule, SamplingStrategy, SpaceKind};
use esta_page::{
    markup::{escape, section as markup_section},
    table::table,
};
use serde_json::{Number, Value};

use super::evidence::Evidence;

/// One choice: its key in the job, what it decides, and when it matters.
struct Choice {
    key: &'static str,
    decides: &'static str,
    applies: fn(&JobSpec) -> bool,
}

const fn choice(key: &'static str, decides: &'static str, applies: fn(&JobSpec) -> bool) -> Choice {
    Choice { key, decides, applies }
}

fn always(_: &JobSpec) -> bool {
    true
}

fn pst(spec: &JobSpec) -> bool {
    spec.mode == Mode::Pst
}

fn stitched(spec: &JobSpec) -> bool {
    spec.mode != Mode::Anchor
}

fn adapts(spec: &JobSpec) -> bool {
    !spec.trains_everything()
}

fn by_table(spec: &JobSpec) -> bool {
    spec.effective_sampling().strategy.reads().is_some()
}

const CHOICES: &[Choice] = &[
    choice(
        "recipe",
        "Which values stood where the job file said nothing: paper's, or best, what lifted the front in our studies.",
        always,
    ),
    choice(
        "family.space.kind",
        "Which stitches exist. esta leaves out the pairs whose front anchor runs all its blocks; twoway stitches \
         every neighbouring pair of three and more anchors; proportional enters unequal depths at the proportional \
         block.",
        |s| stitched(s) && s.family.space.kind != SpaceKind::Snnet,
    ),
    choice(
        "family.stitch_init.method",
        "Stitching layers shared by several positions start from one least-squares problem over all of them.",
        |s| stitched(s) && s.family.stitch_init.method == FitMethod::Joint,
    ),
    choice(
        "family.stitch_init.refine_steps",
        "Gradient steps that fit stitching layers on the end anchor's final features, after least squares.",
        |s| stitched(s) && s.family.stitch_init.refine_steps > 0,
    ),
    choice("pst.targets", "Linear maps of a block that carry a LoRA pair, each its own.", adapts),
    choice("pst.lora", "Whose those pairs are: shared by all stitches of an anchor, or each stitch's own.", pst),
    choice("pst.lora_r", "Rank of those pairs.", adapts),
    choice("pst.lora_alpha", "Scale numerator of the pairs; none means the rank, so that the scale is 1.", adapts),
    choice("pst.stitch_r", "Rank of the pair on a stitching layer.", pst),
    choice(
        "pst.bias",
        "Where a stitch's own biases sit; all: every LoRA-carrying linear of its path and its stitching layers, \
         zero at start.",
        pst,
    ),
    choice("train.head_init", "One head per end anchor, shared by its stitches and trained; how it starts.", always),
    choice(
        "train.distill",
        "The largest anchor's own answers of the step as a second target of every other slot's loss.",
        |s| stitched(s) && s.train.distill.weight > 0.0,
    ),
    choice(
        "score.q",
        "How |w·g| over the active LoRA pairs and stitch biases becomes one score; heads are left out.",
        stitched,
    ),
    choice(
        "sampling.momentum",
        "m of I ← m I + (1−m) Q, entered once per slot in slot order; scores of untouched paths are discarded.",
        stitched,
    ),
    choice("budgets", "How the catalog is cut into budgets: opened by a gap in MACs, or given by edges.", stitched),
    choice(
        "sampling.strategy",
        "How stitches are drawn: importance is the paper's; bins and uniform are controls, bandit is ours.",
        |s| pst(s) && s.sampling.strategy != SamplingStrategy::Importance,
    ),
    choice("sampling.epsilon", "Share of the uniform distribution mixed into a budget's.", by_table),
    choice(
        "sampling.warm_visits",
        "Real visits every stitch of a budget gets before the table decides, least visited first.",
        by_table,
    ),
    choice(
        "sampling.anchor_floor",
        "Probability that a slot draws one of the anchors: keeps the smallest from starving.",
        stitched,
    ),
    choice(
        "sampling.slots",
        "Stitches per step, each on its share of the batch, whatever the number of workers.",
        always,
    ),
    choice("sampling.lookahead", "Step t draws from the table after step t−1−lookahead.", by_table),
    choice("reduce.divisor", "What a summed gradient is divided by: the slots that touch it, or all slots.", always),
    choice(
        "reduce.kind",
        "How gradients are summed; fixed point gives the same bits on any number of workers.",
        always,
    ),
    choice(
        "palette.rule",
        "The rule that deploys. snip is the paper's; loss (lowest training loss) and auto (lowest own part of it) are ours.",
        |s| s.palette.rule != PaletteRule::Snip,
    ),
    choice("train.learning_rate", "Recipe: AdamW's peak learning rate.", always),
    choice("train.weight_decay", "Recipe: decoupled weight decay.", always),
    choice("train.lr_scheduler_type", "Recipe: shape of the learning rate after warm-up.", always),
    choice("train.warmup_ratio", "Recipe: share of the steps spent warming up.", always),
    choice("train.batch_size", "Recipe: images of a step over all its slots.", always),
];

pub fn section(evidence: &Evidence) -> String {
    let lead = "Where the text of the paper is silent this implementation chose; every choice is a key of the job. \
        These are ours and \
        not the paper's, with the values that this run used.";
    let job = serde_json::to_value(&evidence.spec).unwrap_or(Value::Null);
    let row = |choice: &Choice| {
        let code = |text: &str| format!("<code>{}</code>", escape(text));
        let wrapped = |text: String| format!("<span class=\"text\">{text}</span>");
        let value = words(value_at(&job, choice.key));
        vec![code(choice.key), wrapped(code(&value)), wrapped(escape(choice.decides))]
    };
    let rows: Vec<_> = CHOICES.iter().filter(|choice| (choice.applies)(&evidence.spec)).map(row).collect();
    markup_section("Our choices", lead, &table(&["key", "value", "what it decides"], 3, &rows))
}

fn value_at<'a>(job: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(job, |value, part| value.get(part))
}

fn words(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(word)) => word.clone(),
        Some(Value::Array(items)) => items.iter().map(|item| words(Some(item))).collect::<Vec<_>>().join(", "),
        Some(Value::Object(fields)) => {
            fields.iter().map(|(name, value)| format!("{name}: {}", words(Some(value)))).collect::<Vec<_>>().join(", ")
        }
        Some(Value::Number(number)) => number_words(number),
        Some(other) => other.to_string(),
    }
}

/// Large round numbers as one writes them in a job: `1e9`.
fn number_words(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if value >= 1e6 => format!("{value:e}"),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::fixture;

    #[test]
    fn every_key_is_one_of_the_job() {
        let mut spec = fixture::spec("keys", 10);
        spec.pst.lora_alpha = Some(8.0);
        let job = serde_json::to_value(&spec).expect("a tree");
        for choice in CHOICES {
            assert!(value_at(&job, choice.key).is_some(), "{}", choice.key);
        }
    }
}
