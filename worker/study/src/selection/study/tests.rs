use esta_engine::table::Row;

use super::*;

/// A stitch of a bin; what the table and rules say of it comes later.
fn stitch(id: u32, budget: u32, accuracy: f64) -> StitchResult {
    StitchResult {
        stitch: StitchId(id),
        path: String::new(),
        anchor: false,
        budget: BudgetId(budget),
        macs: 100 + u64::from(id),
        params: 1,
        accuracy,
        halves: [accuracy, accuracy],
        row: Row::default(),
        values: BTreeMap::new(),
    }
}

fn says(stitch: StitchResult, rule: &str, value: f64) -> StitchResult {
    StitchResult { values: [(rule.to_owned(), value)].into(), ..stitch }
}

fn of<'a>(all: &'a [RuleSummary], name: &str) -> &'a RuleSummary {
    all.iter().find(|summary| summary.rule.name == name).expect("every rule is there")
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// Two bins of five and one without a choice; `auto` is right in the first and wrong in the second, by the table.
fn run(luck: f64) -> Vec<StitchResult> {
    let accuracy = |id: u32| 0.5 + 0.03 * f64::from(id * 3 % 5) + luck * f64::from(id % 2);
    let in_bins = (0..10).map(|id| {
        let result = stitch(id, id / 5, accuracy(id));
        let effect = if id < 5 { -result.accuracy } else { result.accuracy };
        StitchResult { row: Row { effect: Some(effect), ..Row::default() }, ..result }
    });
    in_bins.chain([stitch(10, 2, 0.1)]).collect()
}

#[test]
fn a_rule_loses_the_mean_over_runs_of_the_means_over_bins() {
    let all = study(&[("a", run(0.0)), ("b", run(0.0))]);
    // Accuracies of both bins are 50, 59, 53, 62, 56 %, by id: auto loses nothing in one bin and 12 points in the other.
    let auto = of(&all, "auto");
    assert!(close(auto.mean, 6.0) && close(auto.split, 6.0));
    assert_eq!((auto.runs, auto.groups, auto.bins, auto.silent, auto.tau), (2, 2, 4, 0, Some(0.0)));
    assert!(close(of(&all, "largest").split, 6.0) && close(of(&all, "lowest-id").split, 12.0));
    assert!(close(of(&all, "random").split, 6.0));
    // Random and largest lose the same up to rounding; either is the best control.
    let against = auto.against.expect("it stands beside a control");
    assert!(["largest", "random"].contains(&against.control) && close(against.ratio, 1.0));
}

#[test]
fn a_bin_without_a_value_counts_as_the_random_pick() {
    let mut results = run(0.0);
    results[1] = says(results[1].clone(), "smooth", 1.0);
    let all = study(&[(0, results)]);
    let smooth = of(&all, "smooth");
    assert!(close(smooth.mean, f64::midpoint(62.0 - 59.0, 6.0)), "its only opinion in one bin, random in the other");
    assert_eq!((smooth.silent, smooth.bins), (1, 2));
    let silent = of(&all, "improvement");
    assert!(close(silent.mean, of(&all, "random").mean) && silent.silent == 2);
}

#[test]
fn of_equal_values_the_cheaper_stitch_is_picked() {
    let equal: Vec<_> = run(0.0).into_iter().map(|result| says(result, "effect-late", 7.0)).collect();
    let all = study(&[(0, equal)]);
    assert!(close(of(&all, "effect-late").mean, of(&all, "smallest").mean));
    assert_eq!(of(&all, "effect-late").tau, None);
}

#[test]
fn a_value_that_is_no_number_is_no_value() {
    let mut results = run(0.0);
    results[0] = says(results[0].clone(), "grad-norm", f64::NAN);
    results[3] = says(results[3].clone(), "grad-norm", -1.0);
    assert!(close(of(&study(&[(0, results)]), "grad-norm").mean, f64::midpoint(0.0, 6.0)));
}

#[test]
fn a_shuffled_table_loses_what_a_random_pick_loses() {
    let runs: Vec<_> = (0..6).map(|number| (number, run(0.001 * f64::from(number)))).collect();
    let all = study(&runs);
    let (shuffled, random) = (of(&all, "shuffled"), of(&all, "random"));
    // 6 runs of 2 bins of 200 picks whose standard deviation is 4 points: a standard error of 0.09.
    assert!((shuffled.mean - random.mean).abs() < 0.35, "{} beside {}", shuffled.mean, random.mean);
    assert!(shuffled.mean != random.mean, "it is no copy of the expectation");
    assert!(shuffled.tau.expect("it orders bins").abs() < 0.1);
}

#[test]
fn the_bootstrap_is_the_same_every_time_and_spans_what_runs_differ_by() {
    let runs: Vec<_> = (0..8).map(|number| (number, run(0.02 * f64::from(number)))).collect();
    let all = study(&runs);
    assert_eq!(all, study(&runs));
    let auto = of(&all, "auto");
    let interval = auto.split_interval.expect("there are several groups");
    assert!(interval.low < auto.split - 0.1 && auto.split + 0.1 < interval.high, "{auto:?}");
    let same: Vec<_> = (0..8).map(|number| (number, run(0.0))).collect();
    let interval = of(&study(&same), "auto").split_interval.expect("there are several groups");
    assert!(close(interval.low, 6.0) && close(interval.high, 6.0), "runs that agree leave no doubt");
}

#[test]
fn runs_of_one_key_are_drawn_together() {
    // Runs 0 to 3 are alike, and so are 4 to 7.
    let keyed = |key: fn(u32) -> u32| (0..8).map(|n| (key(n), run(0.05 * f64::from(n / 4)))).collect::<Vec<_>>();
    let width = |runs: &[(u32, Vec<StitchResult>)]| of(&study(runs), "auto").split_interval.map(|i| i.high - i.low);
    let (alone, halves) = (width(&keyed(|n| n)), width(&keyed(|n| n / 4)));
    assert!(halves > alone, "two groups say less than eight runs: {halves:?} beside {alone:?}");
    assert_eq!(width(&keyed(|_| 0)), None, "one group says nothing of others");
    assert_eq!(of(&study(&keyed(|n| n / 4)), "auto").groups, 2);
}

#[test]
fn runs_that_leave_no_choice_say_nothing() {
    assert_eq!(study::<u32, Vec<StitchResult>>(&[]), []);
    assert_eq!(study(&[(0, vec![stitch(0, 0, 0.5), stitch(1, 1, 0.6)])]), []);
    assert_eq!(of(&study(&[(0, run(0.0)), (1, vec![stitch(0, 0, 0.5)])]), "auto").runs, 1);
}

#[test]
fn a_ratio_has_no_interval_where_its_control_loses_nothing() {
    // The largest is the best of the first run, so resamples of that run alone leave nothing to compare with.
    let best_last: Vec<_> = (0..4).map(|id| stitch(id, 0, 0.5 + 0.1 * f64::from(id))).collect();
    let other: Vec<_> = (0..4).map(|id| stitch(id, 0, 0.5 + 0.1 * f64::from((id + 3) % 4))).collect();
    let all = study(&[(0, best_last.clone()), (1, other)]);
    let against = of(&all, "random").against.expect("a control");
    assert_eq!((against.control, against.interval), ("largest", None));
    assert!(close(against.ratio, 15.0 / 5.0));
    assert_eq!(of(&study(&[(0, best_last)]), "random").against, None, "there it loses nothing at all");
}
