//! Row D2: reports doubled and in disorder, under one leader after another.

use esta_sim::{Load, hear_reports, mutate::over_seeds};

#[test]
fn sc_2_of_a_million_reports_doubled_reordered_and_heard_by_four_leaders_each_score_enters_the_table_once() {
    let tally = hear_reports(1, &Load::d2()).expect("the table equals the serial replay");
    assert!(tally.reports >= 1_000_000, "{tally:?}");
    assert!(tally.doubled as f64 >= 0.2 * tally.reports as f64, "{tally:?}");
    assert!(tally.overtaken as f64 >= 0.1 * tally.reports as f64, "{tally:?}");
    assert_eq!((tally.failovers, tally.resumed), (3, 2), "the group outlives two of the leaders");
}

#[test]
fn sc_2_the_same_holds_of_small_loads_whatever_the_seed() {
    for seed in 0..40 {
        let load = Load { ranks: 3, steps: 60, slots: 4, ..Load::d2() };
        hear_reports(seed, &load).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

#[test]
fn whatever_somebody_who_is_no_member_sends_the_run_ends_as_if_it_had_not_been_sent() {
    over_seeds(30, |seed| {
        let load = Load { ranks: 3, steps: 60, slots: 4, hostile: 0.8, ..Load::d2() };
        let tally = hear_reports(seed, &load).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(tally.hostile > 100, "{tally:?}");
    });
}
