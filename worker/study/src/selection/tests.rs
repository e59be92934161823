use std::collections::BTreeSet;

use esta_engine::{
    law::Law,
    table::{Outcome, Table},
};

use super::*;

const SPEC: &str = r#"{
    "name": "test",
    "family": { "anchors": [
        { "name": "a", "weights": "a", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 4, "depth": 3, "num_heads": 2 } },
        { "name": "b", "weights": "b", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 3, "num_heads": 2 } }
    ] },
    "budgets": { "gap": 6000 },
    "train": { "max_steps": 10 },
    "data": { "num_classes": 3, "train": { "layout": "idx", "path": "x" } }
}"#;

/// A catalog of a few stitches, some of which share a bin.
fn catalog() -> Catalog {
    let law = Law::new(serde_json::from_str(SPEC).expect("the spec parses")).expect("the spec is valid");
    assert!(law.catalog.bins().iter().any(|bin| bin.len() > 1), "some bin leaves a choice");
    Catalog::clone(&law.catalog)
}

fn ids(catalog: &Catalog) -> Vec<StitchId> {
    catalog.stitches().map(|stitch| stitch.id).collect()
}

/// What a stitch is worth: its share of the loss that never goes away.
fn truth(stitch: StitchId) -> f64 {
    0.06 * f64::from((stitch.0 * 7) % 5)
}

/// 2,000 steps of one slot whose common loss falls from 3 to 1. Good stitches are drawn early, bad ones late, and all of
/// them now and then.
fn falling(catalog: &Catalog) -> Vec<Visit> {
    let mut by_truth = ids(catalog);
    by_truth.sort_by(|a, b| truth(*a).total_cmp(&truth(*b)));
    let count = by_truth.len() as u64;
    let visit = |step: u64| {
        // Every third slot goes round; the others go through the catalog once, from the good to the bad, in each half.
        let place = if step.is_multiple_of(3) { step / 3 % count } else { step % 1000 * count / 1000 };
        let stitch = by_truth[place as usize];
        let loss = 3.0 - 2.0 * step as f64 / 2000.0 + truth(stitch);
        Visit { step, stitch, score: 1e-3 * loss, loss, grad_norm: loss }
    };
    (0..2000).map(visit).collect()
}

/// Pairs of stitches of different worth that a rule orders the wrong way round.
fn mistakes(all: &BTreeMap<StitchId, BTreeMap<String, f64>>, rule: &str) -> usize {
    let stitches: Vec<_> = all.iter().map(|(stitch, values)| (truth(*stitch), values[rule])).collect();
    let wrong = |(a, b): &(&(f64, f64), &(f64, f64))| a.0 < b.0 - 1e-9 && a.1 < b.1;
    stitches.iter().flat_map(|a| stitches.iter().map(move |b| (a, b))).filter(wrong).count()
}

#[test]
fn every_rule_that_reads_slots_has_a_value_of_every_stitch_drawn() {
    let catalog = catalog();
    let all = values(&falling(&catalog), &catalog);
    let names: BTreeSet<&str> = all.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    let reads = |rule: &&RuleInfo| matches!(rule.kind, Kind::Table(_) | Kind::Offline);
    assert_eq!(names, RULES.iter().filter(reads).map(|rule| rule.name).collect());
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), ids(&catalog));
    assert!(all.values().all(|values| values.len() == names.len()));
}

#[test]
fn auto_snip_and_loss_are_the_bits_of_the_engines_table() {
    let catalog = catalog();
    let mut visits = falling(&catalog);
    visits.iter_mut().for_each(|visit| visit.step /= 4);
    visits.retain(|visit| visit.step % 50 != 7);
    // The first scores say nothing.
    visits.iter_mut().take(9).for_each(|visit| visit.score = 0.0);
    let mut table = Table::new(catalog.id_bound(), 0.9);
    for step in 0..500 {
        let slots = visits.iter().filter(|visit| visit.step == step).map(|visit| {
            let outcome = Outcome { score: visit.score, loss: visit.loss, grad_norm: visit.grad_norm, valid: true };
            (visit.stitch, outcome)
        });
        let mut slots: Vec<_> = slots.collect();
        if slots.is_empty() {
            let bad = Outcome { score: 9.0, loss: 9.0, grad_norm: 9.0, valid: false };
            slots.push((StitchId(0), bad));
        }
        table.commit(&slots);
    }
    for (stitch, values) in values(&visits, &catalog) {
        let row = table.row(stitch);
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        assert_eq!(bits(values.get("auto").copied()), bits(row.effect.map(|effect| -effect)));
        assert_eq!(bits(values.get("loss").copied()), bits(row.loss.map(|loss| -loss)));
        assert_eq!(bits(values.get("snip").copied()), bits(row.importance));
    }
}

#[test]
fn rules_that_ignore_the_trend_are_fooled_by_when_stitches_were_drawn() {
    let catalog = catalog();
    let all = values(&falling(&catalog), &catalog);
    for fooled in ["loss", "loss-late"] {
        assert!(mistakes(&all, fooled) > 0, "{fooled} is not fooled");
    }
    for rule in ["auto", "effect-late"] {
        assert_eq!(mistakes(&all, rule), 0, "{rule} is fooled: {all:?}");
    }
}

#[test]
fn what_a_stitch_lost_at_the_end_is_compared_over_equally_many_visits() {
    let catalog = catalog();
    let bin = catalog.bins().iter().find(|bin| bin.len() > 1).expect("a choice").clone();
    let visit = |step: u64, stitch, loss| Visit { step, stitch, score: 1.0, loss, grad_norm: 1.0 };
    // The first was drawn ten times, the second three: the last three of each count.
    let many = (0..10).map(|step| visit(step, bin[0], 10.0 - step as f64));
    let few = (10..13).map(|step| visit(step, bin[1], 3.0));
    let all = values(&many.chain(few).collect::<Vec<_>>(), &catalog);
    assert_eq!((all[&bin[0]]["equal-visits"], all[&bin[1]]["equal-visits"]), (-2.0, -3.0));
    // The first still falls by one per visit, the second does not.
    assert!((all[&bin[0]]["improvement"] - 1.0).abs() < 1e-9);
    assert!(!all[&bin[1]].contains_key("improvement"), "two visits make no slope");
}

#[test]
fn smooth_leans_on_neighbours_where_a_stitch_was_hardly_drawn() {
    let catalog = catalog();
    let stitches = ids(&catalog);
    // Worth falls with the cost; the last stitch was drawn once, and unluckily.
    let loss = |place: usize| 2.0 - 0.1 * place as f64;
    let noise = |step: u64| if step.is_multiple_of(2) { 0.3 } else { -0.3 };
    let mut ordered = stitches.clone();
    ordered.sort_by_key(|id| catalog.get(*id).map(|stitch| stitch.macs));
    let mut visits: Vec<Visit> = (0..400)
        .map(|step| {
            let place = (step / 2 % (ordered.len() as u64 - 1)) as usize;
            let loss = loss(place) + noise(step);
            Visit { step, stitch: ordered[place], score: 1.0, loss, grad_norm: 1.0 }
        })
        .collect();
    let (last, next) = (ordered[ordered.len() - 1], ordered[ordered.len() - 2]);
    visits.push(Visit { step: 400, stitch: last, score: 1.0, loss: loss(ordered.len() - 2) + 0.4, grad_norm: 1.0 });
    let all = values(&visits, &catalog);
    assert!(all[&last]["effect-late"] < all[&next]["effect-late"] - 0.3);
    assert!(all[&last]["smooth"] > all[&next]["smooth"] - 0.1, "{all:?}");
    visits.pop();
    assert!(values(&visits, &catalog)[&last].contains_key("smooth"), "one that was never drawn has a value too");
    assert_eq!(values(&[], &catalog), BTreeMap::new());
}
