//! Rules that pick a stitch per budget from what training said (LAW: pure), to be tried on finished runs.
//!
//! A rule gives every stitch a value, higher is better, and the stitch of the highest value answers for its bin. Values
//! come from slots in the order in which they entered the run's table; [`study`] says what picking by them loses.

mod averages;
mod effects;
mod smooth;
mod study;

use std::collections::BTreeMap;

use esta_engine::{catalog::Catalog, regret::Selector, spec::PaletteRule};
use esta_proto::StitchId;

pub use self::study::{Against, Interval, Judged, RuleSummary, judge, over, study};
use crate::{cell::CellResult, collect::Probe, history::Visit};

/// Values of stitches, higher is better; stitches of which a rule says nothing are not there.
pub type Values = BTreeMap<StitchId, f64>;

/// A rule in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its name, the key in [`values`].
    pub name: &'static str,
    /// What it takes for the quality of a stitch.
    pub words: &'static str,
    /// What it costs beside training.
    pub cost: &'static str,
    /// What it is there for.
    pub kind: Kind,
}

/// What a rule is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The run's table has it: the product's own rule.
    Table(PaletteRule),
    /// It is computed afterwards from the recorded slots.
    Offline,
    /// It needs forward passes after training: what an evaluation stage would gain.
    Probe,
    /// A control that knows nothing of training.
    Trivial(Selector),
    /// A control that knows what a rule knows of a bin, but not of which stitch.
    Shuffled(PaletteRule),
}

const TABLE: &str = "no extra work: a number per stitch, updated at every slot";
const RECORD: &str = "a pass over the recorded slots at the end, no forward pass";
const GRADIENTS: &str = "no extra work where gradients are there anyway";
const DENSE: &str = "a pass over the recorded slots and a linear system of the catalog's size";
const TRAINED: &str = "forward passes of every stitch over training images, after training";
const SLICE: &str = "labelled images kept from training, and forward passes of every stitch over them";
const NOTHING: &str = "nothing, it needs no training";

const fn rule(name: &'static str, kind: Kind, cost: &'static str, words: &'static str) -> RuleInfo {
    RuleInfo { name, words, cost, kind }
}

/// All rules, those of the product first, controls last.
pub const RULES: &[RuleInfo] = &[
    rule("snip", Kind::Table(PaletteRule::Snip), GRADIENTS, "highest SNIP saliency, moving average (the paper's rule)"),
    rule("loss", Kind::Table(PaletteRule::Loss), TABLE, "lowest training loss, moving average"),
    rule(
        "auto",
        Kind::Table(PaletteRule::Auto),
        TABLE,
        "lowest own part of the loss, beyond the trend that all stitches share",
    ),
    rule("snip-late", Kind::Offline, RECORD, "highest mean SNIP saliency over the last half of the steps"),
    rule("loss-late", Kind::Offline, RECORD, "lowest mean loss over the last half of the steps"),
    rule("loss-last-fifth", Kind::Offline, RECORD, "lowest mean loss over the last fifth of the steps"),
    rule("effect-flat", Kind::Offline, RECORD, "lowest own part of the loss, all steps weighing the same"),
    rule("effect-late", Kind::Offline, RECORD, "lowest own part of the loss over the last half, by least squares"),
    rule("equal-visits", Kind::Offline, RECORD, "lowest mean loss over equally many last visits of a bin's stitches"),
    rule("grad-norm", Kind::Offline, GRADIENTS, "lowest gradient norm, moving average"),
    rule("improvement", Kind::Offline, RECORD, "steepest fall of the loss per visit over its last half of visits"),
    rule("smooth", Kind::Offline, DENSE, "effect-late, shared between stitches of similar paths and cost"),
    rule("train-loss", Kind::Probe, TRAINED, "lowest loss of the trained stitch on the training images"),
    rule("kl-own", Kind::Probe, TRAINED, "answers nearest to those of the path's own anchors (KL, training images)"),
    rule("kl-largest", Kind::Probe, TRAINED, "answers nearest to those of the largest anchor (KL, training images)"),
    rule("slice", Kind::Probe, SLICE, "highest accuracy on the slice"),
    rule("slice-loss", Kind::Probe, SLICE, "lowest loss on the slice"),
    rule("largest", Kind::Trivial(Selector::Largest), NOTHING, "most MACs"),
    rule("smallest", Kind::Trivial(Selector::Smallest), NOTHING, "fewest MACs"),
    rule("lowest-id", Kind::Trivial(Selector::LowestId), NOTHING, "lowest number in the catalog"),
    rule("random", Kind::Trivial(Selector::Random), NOTHING, "any of the bin, in expectation"),
    rule(
        "shuffled",
        Kind::Shuffled(PaletteRule::Auto),
        TABLE,
        "auto's values dealt out anew among the stitches of each bin",
    ),
];

/// Whether every rule that reads recorded slots says something of a result: one that was added later does not yet.
#[must_use]
pub fn has_every_rule(result: &CellResult) -> bool {
    let of_slots = RULES.iter().filter(|rule| rule.kind == Kind::Offline);
    of_slots.into_iter().all(|rule| result.stitches.iter().any(|stitch| stitch.values.contains_key(rule.name)))
}

/// What a stitch shows after training, by rule of kind [`Kind::Probe`]: `eval.json`'s `probe`.
#[must_use]
pub fn probed(probe: &Probe) -> BTreeMap<String, f64> {
    let lowest = |value: Option<f64>| value.map(|value| -value);
    let values = [
        ("train-loss", lowest(probe.train_loss)),
        ("kl-own", lowest(probe.kl_own)),
        ("kl-largest", lowest(probe.kl_largest)),
        ("slice", probe.slice_accuracy),
        ("slice-loss", lowest(probe.slice_loss)),
    ];
    let known = values.into_iter().filter_map(|(rule, value)| Some((rule.to_owned(), value?)));
    known.filter(|(_, value)| value.is_finite()).collect()
}

/// What every rule that reads slots says of every stitch, by stitch and rule. Controls need no slots and are not among
/// them. Visits are those of one whole run in order ([`crate::history::read`]); those of stitches that the catalog
/// lacks are left out.
#[must_use]
pub fn values(visits: &[Visit], catalog: &Catalog) -> BTreeMap<StitchId, BTreeMap<String, f64>> {
    let visits: Vec<Visit> = visits.iter().filter(|visit| catalog.get(visit.stitch).is_some()).copied().collect();
    let mut all: BTreeMap<StitchId, BTreeMap<String, f64>> = BTreeMap::new();
    for (rule, of_rule) in by_rule(&visits, catalog) {
        // A value that is no number would be the highest of all.
        for (stitch, value) in of_rule.into_iter().filter(|(_, value)| value.is_finite()) {
            all.entry(stitch).or_default().insert(rule.to_owned(), value);
        }
    }
    all
}

fn by_rule(visits: &[Visit], catalog: &Catalog) -> Vec<(&'static str, Values)> {
    let table = averages::table(visits, catalog);
    let of_table = |value: fn(&esta_engine::table::Row) -> Option<f64>| averages::of_table(&table, value);
    let late = effects::late(visits);
    vec![
        ("snip", of_table(|row| row.importance)),
        ("loss", of_table(|row| Some(-row.loss?))),
        ("auto", of_table(|row| Some(-row.effect?))),
        ("snip-late", averages::since(visits, 1, 2, |visit| visit.score)),
        ("loss-late", averages::since(visits, 1, 2, |visit| -visit.loss)),
        ("loss-last-fifth", averages::since(visits, 4, 5, |visit| -visit.loss)),
        ("effect-flat", effects::flat(visits)),
        ("effect-late", late.values()),
        ("equal-visits", averages::at_equal_visits(visits, catalog)),
        ("grad-norm", of_table(|row| Some(-row.grad_norm?))),
        ("improvement", averages::improvement(visits)),
        ("smooth", smooth::values(&late, catalog)),
    ]
}

#[cfg(test)]
mod tests;
