use super::*;
use crate::{
    law::Law,
    regret::{Measured, Selector, regrets},
    table::Outcome,
};

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

/// A law, and a table in which importance and loss of a stitch are given functions of its id.
fn world(score: impl Fn(u32) -> f64, loss: impl Fn(u32) -> f64) -> (Law, Table) {
    let law = Law::new(serde_json::from_str(SPEC).expect("the spec parses")).expect("the spec is valid");
    let mut table = Table::new(law.catalog.id_bound(), 0.9);
    let slots: Vec<_> = law
        .catalog
        .stitches()
        .map(|stitch| {
            let (score, loss) = (score(stitch.id.0), loss(stitch.id.0));
            (stitch.id, Outcome { score, loss, grad_norm: 1.0, valid: true })
        })
        .collect();
    table.commit(&slots);
    (law, table)
}

#[test]
fn snip_takes_the_highest_importance_of_each_bin_and_loss_the_lowest_loss() {
    let (law, table) = world(f64::from, f64::from);
    let by = |rule| palette(&law.catalog, &table, rule).iter().map(|choice| choice.stitch).collect::<Vec<_>>();
    let ends = |last: bool| -> Vec<StitchId> {
        let end = |bin: &Vec<StitchId>| if last { bin.last().copied() } else { bin.first().copied() };
        law.catalog.bins().iter().filter_map(end).collect()
    };
    assert!(law.catalog.bins().iter().any(|bin| bin.len() > 1), "some bin leaves a choice");
    assert_eq!(by(PaletteRule::Snip), ends(true));
    assert_eq!(by(PaletteRule::Loss), ends(false));
    assert_eq!(by(PaletteRule::Auto), ends(false), "visited once and together, own parts are losses less a constant");
}

#[test]
fn auto_is_not_misled_by_when_a_stitch_was_drawn() {
    // What all stitches lose falls from 3 to 1 and 0.3 lies between two of a bin: the better is drawn early, the worse late.
    let (law, _) = world(f64::from, f64::from);
    let bin = law.catalog.bins().iter().find(|bin| bin.len() > 1).expect("some bin leaves a choice");
    let (better, worse) = (bin[1], bin[0]);
    let others: Vec<StitchId> = law.catalog.stitches().map(|s| s.id).filter(|id| !bin.contains(id)).collect();
    let mut table = Table::new(law.catalog.id_bound(), 0.9);
    for step in 0..1200_u32 {
        let common = 3.0 - 2.0 * f64::from(step) / 1200.0;
        let drawn = match step % 4 {
            0 if step < 400 => better,
            0 if step >= 800 => worse,
            _ => others[step as usize % others.len()],
        };
        let loss = common + if drawn == worse { 0.3 } else { 0.0 };
        table.commit(&[(drawn, Outcome { score: 1.0, loss, grad_norm: 1.0, valid: true })]);
    }
    let said = |rule, id| value(&table, rule, id).expect("visited");
    assert!(said(PaletteRule::Loss, worse) > said(PaletteRule::Loss, better), "the late one lost less in the end");
    let chosen = palette(&law.catalog, &table, PaletteRule::Auto);
    let budget = law.catalog.get(better).expect("in the catalog").budget;
    let choice = chosen.iter().find(|choice| choice.budget == budget).expect("the bin was visited");
    assert_eq!(choice.stitch, better);
    assert_eq!(choice.value.to_bits(), (-table.row(better).effect.expect("visited")).to_bits());
}

#[test]
fn the_regret_of_auto_is_that_of_its_own_choices() {
    // The later a stitch, the less it loses in training and the less accurate it is.
    let (law, table) = world(f64::from, |id| 5.0 - f64::from(id));
    let chosen = palette(&law.catalog, &table, PaletteRule::Auto);
    let accuracy = |id: StitchId| 0.9 - 0.001 * f64::from(id.0);
    let measured: Vec<Measured> = law
        .catalog
        .stitches()
        .map(|s| {
            let (row, accuracy) = (table.row(s.id), accuracy(s.id));
            Measured { stitch: s.id, budget: s.budget, macs: s.macs, row, accuracy, halves: None }
        })
        .collect();
    let regrets = regrets(&measured);
    let auto = regrets.iter().find(|regret| regret.selector == Selector::Rule(PaletteRule::Auto)).expect("it is there");
    assert!(auto.bins.len() > 1, "several bins leave a choice");
    for bin in &auto.bins {
        let choice = chosen.iter().find(|choice| choice.budget == bin.budget).expect("every bin was visited");
        assert_eq!(bin.choice, Some(choice.stitch));
        assert!((bin.points - 100.0 * (accuracy(bin.best) - accuracy(choice.stitch))).abs() < 1e-9);
        assert_eq!(bin.tau, Some(-1.0), "who lost least is least accurate here");
    }
}

#[test]
fn a_stitch_that_was_never_drawn_has_no_value_for_any_rule() {
    let (law, _) = world(f64::from, f64::from);
    let mut table = Table::new(law.catalog.id_bound(), 0.9);
    let outcome = Outcome { score: 0.0, loss: 1.0, grad_norm: 1.0, valid: true };
    table.commit(&[(StitchId(1), outcome)]);
    let known = |rule| palette(&law.catalog, &table, rule).iter().map(|choice| choice.stitch).collect::<Vec<_>>();
    assert_eq!(known(PaletteRule::Snip), [], "its only score says nothing");
    assert_eq!(known(PaletteRule::Loss), [StitchId(1)]);
    assert_eq!(known(PaletteRule::Auto), [StitchId(1)]);
}

#[test]
fn a_constraint_means_at_most() {
    let (law, table) = world(|id| 100.0 - f64::from(id), f64::from);
    for limit in law.catalog.stitches().map(|stitch| stitch.macs) {
        let choice = at_most(&law.catalog, &table, PaletteRule::Snip, Price::Macs(limit)).expect("one is affordable");
        let best = law.catalog.stitches().filter(|stitch| stitch.macs <= limit).map(|stitch| stitch.id).min();
        assert!(choice.macs <= limit);
        assert_eq!(Some(choice.stitch), best, "the lowest id has the highest score here");
    }
    assert_eq!(at_most(&law.catalog, &table, PaletteRule::Snip, Price::Macs(0)), None);
}

#[test]
fn of_equals_the_cheaper_is_chosen() {
    let (law, table) = world(|_| 1.0, |_| 1.0);
    for choice in palette(&law.catalog, &table, PaletteRule::Snip) {
        let bin = &law.catalog.bins()[choice.budget.index()];
        let cheapest = bin.iter().filter_map(|id| law.catalog.get(*id)).map(|stitch| stitch.macs).min();
        assert_eq!(Some(choice.macs), cheapest);
    }
}

#[test]
fn the_pareto_front_holds_what_no_cheaper_choice_equals() {
    let choice = |macs| {
        let (budget, stitch) = (BudgetId(0), StitchId(macs as u32));
        Choice { budget, stitch, macs, params: 0, latency: None, value: 0.0 }
    };
    let choices = [choice(10), choice(20), choice(30), choice(40)];
    let front: Vec<u64> = pareto(&choices, &[0.5, 0.4, 0.5, 0.7]).iter().map(|choice| choice.macs).collect();
    assert_eq!(front, [10, 40]);
}
