//! What the palette of each arm took (HANDS).

use std::collections::BTreeMap;

use esta_page::{
    markup::{escape, section as markup_section},
    numbers::{count, duration, or_dash, significant},
    table::table,
};

use super::view::View;
use crate::{
    cell::Costs,
    summary::{ArmSummary, Outcome, time_ratio},
};

pub fn section(view: &View<'_>) -> String {
    let about = view.about;
    let place = [&about.machine, &about.device].into_iter().filter(|words| !words.is_empty());
    let place: Vec<String> = place.map(|words| escape(words)).collect();
    let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
    let lead = format!(
        "Of one palette, mean over targets and seeds{place}. An arm of several runs counts their sum, but for memory, \
         which is the largest of any run's worker before evaluation: all that its process holds, libtorch, images and \
         weights included, and so no measure of what training adds. The ratio is of processor times on the targets and \
         seeds that both arms have, so that what else the machine did touches it little; on a device it is of the \
         clock's. State is what has to be kept beside the anchors."
    );
    let heads = [
        "arm",
        "training",
        "of the processor",
        "times the first arm",
        "images",
        "peak memory, whole process",
        "trained parameters",
        "state",
        "evaluation",
    ];
    let rows: Vec<Vec<String>> = view.summary.arms.iter().map(|arm| row(arm, view.summary.arms.first())).collect();
    markup_section("Costs", &lead, &table(&heads, 1, &rows))
}

fn row(arm: &ArmSummary, first: Option<&ArmSummary>) -> Vec<String> {
    let costs = arm.costs.as_ref();
    let words = |of: fn(&Costs) -> String| or_dash(costs, of);
    vec![
        escape(&arm.name),
        words(|costs| duration(costs.train_seconds)),
        or_dash(costs.and_then(|costs| costs.cpu_seconds), duration),
        or_dash(first.and_then(|first| ratio(arm, first)), |ratio| format!("{ratio:.2}")),
        words(|costs| count(costs.images)),
        or_dash(costs.and_then(|costs| costs.peak_memory), bytes),
        words(|costs| count(costs.trained_params)),
        words(|costs| bytes(costs.state_bytes)),
        words(|costs| duration(costs.eval_seconds)),
    ]
}

/// Training time over that of another arm, on what both have.
fn ratio(arm: &ArmSummary, first: &ArmSummary) -> Option<f64> {
    let other = |target: &str, seed: &u64| first.outcomes.get(target).and_then(|seeds| seeds.get(seed));
    let of_target = |(target, seeds): (&String, &BTreeMap<u64, Outcome>)| -> Vec<(Costs, Costs)> {
        let pair = |(seed, outcome): (&u64, &Outcome)| Some((outcome.costs, other(target, seed)?.costs));
        seeds.iter().filter_map(pair).collect()
    };
    time_ratio(&arm.outcomes.iter().flat_map(of_target).collect::<Vec<_>>())
}

/// Three significant digits with a binary unit.
fn bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(power, _)| bytes >> power > 0);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(power, name)| format!("{} {name}", significant(bytes as f64 / (1_u64 << power) as f64)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        assert_eq!([0, 1023, 1536, 3 << 20, 5 << 29].map(bytes), ["0 B", "1023 B", "1.50 KiB", "3.00 MiB", "2.50 GiB"]);
    }
}
