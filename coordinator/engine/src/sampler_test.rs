use esta_proto::Digest;

use super::*;
use crate::{law::Law, spec::JobSpec, table::Outcome};

const SPEC: &str = r#"{
    "name": "test", "seed": 7,
    "family": { "anchors": [
        { "name": "a", "weights": "a", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 4, "depth": 4, "num_heads": 2 } },
        { "name": "b", "weights": "b", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 4, "num_heads": 2 } }
    ] },
    "budgets": { "gap": 4000 },
    "train": { "max_steps": 10, "batch_size": 64 },
    "data": { "num_classes": 3, "train": { "layout": "idx", "path": "x" } }
}"#;

fn law(change: impl FnOnce(&mut JobSpec)) -> Law {
    let mut spec = serde_json::from_str(SPEC).expect("the test's spec parses");
    change(&mut spec);
    Law::new(spec).expect("the test's spec is valid")
}

/// A table in which every stitch has two real visits and the importance 1 + id.
fn trained(law: &Law) -> Table {
    let mut table = Table::new(law.catalog.id_bound(), 0.9);
    for _ in 0..2 {
        let slots: Vec<_> = law
            .catalog
            .stitches()
            .map(|stitch| {
                let score = 1.0 + f64::from(stitch.id.0);
                (stitch.id, Outcome { score, loss: 1.0, grad_norm: 1.0, valid: true })
            })
            .collect();
        table.commit(&slots);
    }
    table
}

/// How often each stitch is drawn over `steps` steps, by id, and its probability as the draws name it.
fn count(law: &Law, table: &Table, steps: u64) -> (Vec<u64>, Vec<f64>) {
    let bound = law.catalog.id_bound();
    let (mut counts, mut named) = (vec![0; bound], vec![f64::NAN; bound]);
    for draw in (0..steps).flat_map(|step| law.sampler.draw_step(Step(step), table, &[])) {
        counts[draw.stitch.index()] += 1;
        named[draw.stitch.index()] = draw.probability;
    }
    (counts, named)
}

/// Pearson's statistic, and the 99.9 % quantile of chi-square by Wilson and Hilferty's approximation.
fn chi_square(counts: &[u64], probabilities: &[f64]) -> (f64, f64) {
    let total: u64 = counts.iter().sum();
    let cells: Vec<(f64, f64)> = counts
        .iter()
        .zip(probabilities)
        .map(|(n, p)| (*n as f64, p * total as f64))
        .filter(|(_, e)| *e > 0.0)
        .collect();
    let statistic = cells.iter().map(|(n, e)| (n - e).powi(2) / e).sum();
    let freedom = (cells.len() - 1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    (statistic, freedom * (1.0 - spread + 3.09 * spread.sqrt()).powi(3))
}

/// The probability of every stitch at a slot, written out again from the definition.
fn defined(law: &Law, table: &Table) -> Vec<f64> {
    let (epsilon, floor) = (law.spec.sampling.epsilon, law.spec.sampling.anchor_floor);
    let mut probabilities = vec![0.0; law.catalog.id_bound()];
    let bins = law.catalog.bins();
    for bin in bins {
        let total: f64 = bin.iter().map(|id| table.row(*id).importance.unwrap_or(0.0)).sum();
        for id in bin {
            let inside =
                (1.0 - epsilon) * table.row(*id).importance.unwrap_or(0.0) / total + epsilon / bin.len() as f64;
            probabilities[id.index()] += (1.0 - floor) * inside / bins.len() as f64;
        }
    }
    let anchors: Vec<_> = law.catalog.stitches().filter(|stitch| stitch.is_anchor()).collect();
    anchors.iter().for_each(|stitch| probabilities[stitch.id.index()] += floor / anchors.len() as f64);
    probabilities
}

#[test]
fn draws_follow_budget_then_importance() {
    for floor in [0.0, 0.3] {
        let law = law(|spec| spec.sampling.anchor_floor = floor);
        let table = trained(&law);
        let expected = defined(&law, &table);
        assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let (counts, named) = count(&law, &table, 10_000);
        let (statistic, limit) = chi_square(&counts, &expected);
        assert!(statistic < limit, "chi-square {statistic} above {limit} at floor {floor}");
        for (named, expected) in named.iter().zip(&expected).filter(|(named, _)| !named.is_nan()) {
            assert!((named - expected).abs() < 1e-12, "a draw names {named} for {expected}");
        }
    }
}

#[test]
fn the_test_would_notice_another_distribution() {
    let law = law(|_| {});
    let (counts, _) = count(&law, &trained(&law), 10_000);
    let uniform = vec![1.0 / counts.len() as f64; counts.len()];
    let (statistic, limit) = chi_square(&counts, &uniform);
    assert!(statistic > 10.0 * limit);
}

#[test]
fn the_baselines_draw_uniformly_over_the_catalog() {
    let law = law(|spec| spec.sampling.strategy = SamplingStrategy::Uniform);
    let (counts, _) = count(&law, &trained(&law), 10_000);
    let (statistic, limit) = chi_square(&counts, &vec![1.0 / counts.len() as f64; counts.len()]);
    assert!(statistic < limit, "chi-square {statistic} above {limit}");
}

#[test]
fn first_visits_go_round_before_the_table_decides() {
    for strategy in [SamplingStrategy::Importance, SamplingStrategy::Bandit] {
        first_visits_go_round(strategy);
    }
}

fn first_visits_go_round(strategy: SamplingStrategy) {
    let law = law(|spec| spec.sampling.strategy = strategy);
    let table = Table::new(law.catalog.id_bound(), 0.9);
    let mut in_flight = vec![0; law.catalog.id_bound()];
    let mut draws = Vec::new();
    for step in 0..200 {
        let drawn = law.sampler.draw_step(Step(step), &table, &in_flight);
        drawn.iter().for_each(|draw| in_flight[draw.stitch.index()] += 1);
        draws.extend(drawn);
    }
    for bin in law.catalog.bins() {
        let first: Vec<StitchId> =
            draws.iter().map(|d| d.stitch).filter(|id| bin.contains(id)).take(2 * bin.len()).collect();
        let mut seen = first.clone();
        seen.sort_unstable();
        let twice: Vec<StitchId> = bin.iter().flat_map(|id| [*id, *id]).collect();
        assert_eq!(seen, twice, "the first {} draws of a bin visit each stitch twice", first.len());
    }
    let warm = draws.iter().take_while(|draw| draw.reason == Reason::Warm).count();
    let due = 2 * law.catalog.bins().iter().map(Vec::len).min().expect("there are bins");
    assert!(warm >= due, "{strategy:?}: only {warm} draws were first visits");
}

/// A table that has seen each of some stitches twice; stitch i always loses `loss(i)`.
fn seen(law: &Law, stitches: &[StitchId], loss: impl Fn(u32) -> f64) -> Table {
    let mut table = Table::new(law.catalog.id_bound(), 0.9);
    for _ in 0..2 {
        let slot = |id: &StitchId| (*id, Outcome { score: 1.0, loss: loss(id.0), grad_norm: 1.0, valid: true });
        table.commit(&stitches.iter().map(slot).collect::<Vec<_>>());
    }
    table
}

fn bandit(floor: f64) -> Law {
    law(|spec| {
        spec.sampling.strategy = SamplingStrategy::Bandit;
        spec.sampling.anchor_floor = floor;
    })
}

fn all(law: &Law) -> Vec<StitchId> {
    law.catalog.stitches().map(|stitch| stitch.id).collect()
}

/// The bin that leaves most choice.
fn widest(law: &Law) -> (BudgetId, Vec<StitchId>) {
    let bins = law.catalog.bins().iter().enumerate();
    let (number, bin) = bins.max_by_key(|(_, bin)| bin.len()).expect("there are bins");
    (BudgetId(number as u32), bin.clone())
}

#[test]
fn the_bandit_draws_the_kth_best_of_a_budget_with_weight_one_over_k() {
    for floor in [0.0, 0.3] {
        let law = bandit(floor);
        // Every stitch loses less than those before it: its place from the end of its bin is its rank.
        let table = seen(&law, &all(&law), |id| 5.0 - 0.1 * f64::from(id));
        let (epsilon, bins) = (law.spec.sampling.epsilon, law.catalog.bins());
        let anchors = law.catalog.stitches().filter(|stitch| stitch.is_anchor()).count() as f64;
        let mut expected = vec![0.0; law.catalog.id_bound()];
        for bin in bins {
            let total: f64 = (1..=bin.len()).map(|k| 1.0 / k as f64).sum();
            for (k, id) in (1..).zip(bin.iter().rev()) {
                let inside = (1.0 - epsilon) / (f64::from(k) * total) + epsilon / bin.len() as f64;
                let anchor = law.catalog.get(*id).is_some_and(crate::catalog::Stitch::is_anchor);
                let by_floor = if anchor { floor / anchors } else { 0.0 };
                expected[id.index()] = by_floor + (1.0 - floor) * inside / bins.len() as f64;
            }
        }
        assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let (counts, named) = count(&law, &table, 10_000);
        let (statistic, limit) = chi_square(&counts, &expected);
        assert!(statistic < limit, "chi-square {statistic} above {limit} at floor {floor}");
        for (named, expected) in named.iter().zip(&expected).filter(|(named, _)| !named.is_nan()) {
            assert!((named - expected).abs() < 1e-12, "a draw names {named} for {expected}");
        }
    }
}

#[test]
fn the_bandits_draws_say_why() {
    let law = bandit(0.3);
    let table = seen(&law, &all(&law), f64::from);
    let draws: Vec<Draw> = (0..100).flat_map(|step| law.sampler.draw_step(Step(step), &table, &[])).collect();
    assert!(draws.iter().all(|draw| matches!(draw.reason, Reason::Bandit | Reason::AnchorFloor)));
    assert!(draws.iter().any(|draw| draw.reason == Reason::Bandit));
}

#[test]
fn equals_rank_in_order_for_the_bandit() {
    let law = bandit(0.0);
    let table = seen(&law, &all(&law), |_| 1.0);
    let (budget, bin) = widest(&law);
    let found = law.sampler.distribution(budget, &table);
    assert!(bin.len() > 2 && found.windows(2).all(|pair| pair[0] > pair[1]), "{found:?}");
    let (epsilon, size) = (law.spec.sampling.epsilon, bin.len() as f64);
    let weight = |p: f64| p - epsilon / size;
    for (k, p) in (1..).zip(&found) {
        assert!((weight(found[0]) / weight(*p) - f64::from(k)).abs() < 1e-9, "number {k} of {found:?}");
    }
}

#[test]
fn the_bandit_draws_what_it_knows_nothing_of_by_epsilon_alone() {
    let with = |epsilon: f64| {
        law(|spec| {
            spec.sampling.strategy = SamplingStrategy::Bandit;
            (spec.sampling.warm_visits, spec.sampling.epsilon) = (0, epsilon);
        })
    };
    let law = with(0.2);
    let (budget, bin) = widest(&law);
    let known = [bin[0], bin[2]];
    let table = seen(&law, &known, f64::from);
    let found = law.sampler.distribution(budget, &table);
    let epsilon = 0.2 / bin.len() as f64;
    assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    for (id, p) in bin.iter().zip(&found) {
        let rank = known.iter().position(|known| known == id);
        let expected = epsilon + rank.map_or(0.0, |rank| 0.8 / (rank + 1) as f64 / 1.5);
        assert!((p - expected).abs() < 1e-12, "stitch {id}: {p} for {expected}");
    }
    let (counts, _) = count(&with(0.0), &table, 2_000);
    let unknown = bin.iter().filter(|id| !known.contains(id));
    assert_eq!(unknown.map(|id| counts[id.index()]).sum::<u64>(), 0, "a strict bandit never draws them");
    let other = law.catalog.bins().iter().position(|bin| !bin.contains(&known[0])).expect("another bin");
    let nothing = law.sampler.distribution(BudgetId(other as u32), &table);
    assert!(nothing.iter().all(|p| (p * nothing.len() as f64 - 1.0).abs() < 1e-12), "it knows nothing there");
}

#[test]
fn st_2_the_bandits_draws_are_a_function_of_the_table() {
    let law = bandit(0.0);
    let many =
        |table: &Table| (0..100).flat_map(|step| law.sampler.draw_step(Step(step), table, &[])).collect::<Vec<_>>();
    let (rising, falling) = (seen(&law, &all(&law), f64::from), seen(&law, &all(&law), |id| -f64::from(id)));
    assert_eq!(many(&rising), many(&seen(&law, &all(&law), f64::from)));
    assert_eq!(many(&rising), many(&seen(&law, &all(&law), |id| 2.0 * f64::from(id))), "ranks decide, not sizes");
    assert_ne!(many(&rising), many(&falling));
}

#[test]
fn st_2_draws_depend_on_seed_table_and_step_only() {
    let (one, two) = (law(|_| {}), law(|spec| spec.seed = 8));
    let table = trained(&one);
    let at = |law: &Law, step| law.sampler.draw_step(Step(step), &table, &[]);
    assert_eq!(at(&one, 5), at(&one, 5));
    let many = |law: &Law| (0..50).flat_map(|step| at(law, step)).map(|draw| draw.stitch).collect::<Vec<_>>();
    assert_ne!(many(&one), many(&two), "another seed draws otherwise");
    assert_ne!(at(&one, 5), at(&one, 6));
}

#[test]
fn rd_2_a_plan_counts_the_slots_that_touch_each_group() {
    let law = law(|_| {});
    let draws = law.sampler.draw_step(Step(0), &trained(&law), &[]);
    let plan = crate::plan::Plan::new(Step(0), Step(0), 0, draws.clone(), &law.layout);
    assert!(plan.touched.windows(2).all(|pair| pair[0].0 < pair[1].0), "RD-1: ascending by group");
    for (group, count) in &plan.touched {
        let touching = draws.iter().filter(|draw| law.layout.touched(draw.stitch).contains(group)).count();
        assert_eq!((touching as u32, *count > 0), (*count, true));
    }
    assert_ne!(plan.digest, Digest::default());
}

#[test]
fn a_reason_is_spelt_in_one_way() {
    for reason in [Reason::Importance, Reason::Warm, Reason::Uniform, Reason::AnchorFloor, Reason::Bandit] {
        assert_eq!(serde_json::to_value(reason).ok(), Some(reason.word().into()));
    }
}
