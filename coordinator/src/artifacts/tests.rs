//! Artifacts written, interrupted and written on: nothing doubled, nothing missing.

use std::{fs, path::Path, time::SystemTime};

use esta_engine::{
    palette,
    run::{Notice, StepTimings},
};
use esta_proto::{Generation, LeaderEpoch, SlotId};
use tempfile::tempdir;

use super::{draws::Draws, fixture, metrics::MetricsLine, parts::DrawFiles, summary::TableFile, *};

fn law(steps: u64) -> Law {
    Law::new(fixture::spec("test", steps)).expect("a valid specification")
}

fn records(law: &Law, steps: u64) -> Vec<StepRecord> {
    let mut records = Vec::new();
    fixture::train(law, steps, |record, _, _| records.push(record.clone()));
    records
}

/// Feeds the steps `from..to` of a run to its artifacts as the coordinator would.
fn feed(artifacts: &mut Artifacts, law: &Law, from: u64, to: u64) {
    fixture::train(law, to, |record, ledger, clock| {
        if record.step.0 >= from {
            artifacts.step(record, ledger.table(), clock).expect("written");
        }
    });
}

fn lines(run_dir: &Path) -> Vec<MetricsLine> {
    lines::parse(&fs::read_to_string(run_dir.join("metrics.jsonl")).expect("there"))
}

fn expected_rows(records: &[StepRecord]) -> Draws {
    let mut rows = Draws::default();
    records.iter().for_each(|record| rows.push(record));
    rows
}

/// What a line says apart from clocks.
fn facts(line: &MetricsLine) -> (u64, Option<f64>, u64, Vec<u64>, Vec<Option<f64>>) {
    (line.step, line.loss, line.skipped, line.draws.clone(), line.budget_loss.clone())
}

#[test]
fn a_run_leaves_every_slot_and_every_window() {
    let dir = tempdir().expect("a folder");
    let law = fixture::run(dir.path(), fixture::spec("whole", 105));
    let rows = DrawFiles::of(dir.path()).read().expect("readable");
    assert_eq!(rows, expected_rows(&records(&law, 105)));
    assert!(dir.path().join("draws.parquet").exists() && !dir.path().join("draws").exists());

    let lines = lines(dir.path());
    assert_eq!(lines.iter().map(|line| line.step).collect::<Vec<_>>(), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 105]);
    assert_eq!(lines.iter().map(|line| line.draws.iter().sum::<u64>()).sum::<u64>(), 4 * 105);
    assert_eq!(lines[3].skipped, 1, "step 37 is skipped");
    assert!(lines[1].steps_per_second.is_some_and(|rate| (rate - 1.0 / 0.09).abs() < 1e-6));
    assert_eq!(lines[0].epoch, Some(0.32));
    assert_eq!(lines[0].learning_rate, Some(1e-3 * 10.0 / 11.0), "ten of eleven steps of the warm-up");
    assert!(lines[0].coverage < lines[10].coverage);

    let table: TableFile = summary::read_optional(&dir.path().join("table.json")).expect("valid").expect("there");
    assert_eq!(table.rows.len(), law.catalog.stitches().count());
    let palette: PaletteFile = summary::read_optional(&dir.path().join("palette.json")).expect("valid").expect("there");
    let snip = &palette.palettes[0];
    assert_eq!(snip.pareto_by, summary::ParetoBy::Accuracy);
    let front: Vec<f64> = snip.choices.iter().filter(|c| c.pareto).filter_map(|c| c.accuracy).collect();
    assert!(front.len() > 1 && front.is_sorted(), "accuracy grows along the front: {front:?}");
    let job: esta_engine::spec::JobSpec =
        summary::read_optional(&dir.path().join("job.json")).expect("valid").expect("there");
    assert_eq!(job, law.spec);
}

#[test]
fn a_crash_loses_no_row_and_resuming_doubles_none() {
    let (dir, straight) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
    let (total, crash, resume) = (parts::PART_STEPS + 60, parts::PART_STEPS + 37, parts::PART_STEPS + 33);
    let law = law(total);
    let all = records(&law, total);
    feed(&mut Artifacts::open(dir.path(), &law, LeaderEpoch(1), Step(0)).expect("opened"), &law, 0, crash);

    let mut artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(2), Step(resume)).expect("opened again");
    assert_eq!(artifacts.missing_from(), Step(parts::PART_STEPS), "the finished part survived the crash");
    artifacts.backfill(&all[..resume as usize]).expect("written");
    feed(&mut artifacts, &law, resume, total);
    let ledger = fixture::train(&law, total, |_, _, _| ());
    artifacts.finish(&[], ledger.table()).expect("written");

    let mut whole = Artifacts::open(straight.path(), &law, LeaderEpoch(1), Step(0)).expect("opened");
    feed(&mut whole, &law, 0, total);
    whole.finish(&[], ledger.table()).expect("written");
    assert_eq!(DrawFiles::of(dir.path()).read().expect("readable"), expected_rows(&all));
    let both = [dir.path(), straight.path()].map(|dir| lines(dir).iter().map(facts).collect::<Vec<_>>());
    assert_eq!(both[0], both[1]);
}

#[test]
fn finishing_twice_keeps_what_is_there_and_adds_the_accuracies() {
    let dir = tempdir().expect("a folder");
    let law = law(60);
    let mut artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(1), Step(0)).expect("opened");
    feed(&mut artifacts, &law, 0, 50);
    let ledger = fixture::train(&law, 60, |_, _, _| ());
    artifacts.finish(&[], ledger.table()).expect("written");
    feed(&mut artifacts, &law, 50, 60);
    for _ in 0..2 {
        artifacts.finish(&[], ledger.table()).expect("written");
        assert_eq!(DrawFiles::of(dir.path()).read().expect("readable"), expected_rows(&records(&law, 60)));
    }
    assert_eq!(lines(dir.path()).len(), 6);
}

#[test]
fn rows_beyond_the_durable_steps_are_trimmed_even_from_a_finished_run() {
    let dir = tempdir().expect("a folder");
    let law = fixture::run(dir.path(), fixture::spec("test", 60));
    let artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(2), Step(25)).expect("opened");
    assert_eq!(artifacts.missing_from(), Step(20), "the window of steps 20..25 has no line yet");
    let rows = DrawFiles::of(dir.path()).read().expect("readable");
    assert_eq!(rows, expected_rows(&records(&law, 60)[..25]));
    assert_eq!(lines(dir.path()).last().map(|line| line.step), Some(20));
}

#[test]
fn a_new_run_in_an_old_folder_begins_empty() {
    let dir = tempdir().expect("a folder");
    let law = fixture::run(dir.path(), fixture::spec("test", 30));
    let artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(1), Step(0)).expect("opened");
    assert_eq!(artifacts.missing_from(), Step(0));
    assert!(DrawFiles::of(dir.path()).read().expect("readable").is_empty());
    assert!(lines(dir.path()).is_empty());
}

#[test]
fn a_damaged_part_ends_what_is_kept() {
    let dir = tempdir().expect("a folder");
    let law = fixture::run(dir.path(), fixture::spec("test", 30));
    fs::write(dir.path().join("draws.parquet"), b"PAR1 no longer").expect("damaged");
    let mut artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(2), Step(30)).expect("opened");
    assert_eq!(artifacts.missing_from(), Step(0));
    artifacts.backfill(&records(&law, 30)).expect("written");
    let ledger = fixture::train(&law, 30, |_, _, _| ());
    artifacts.finish(&[], ledger.table()).expect("written");
    assert_eq!(DrawFiles::of(dir.path()).read().expect("readable"), expected_rows(&records(&law, 30)));
    assert_eq!(lines(dir.path()).len(), 3, "lines are not doubled");
}

#[test]
fn without_accuracies_the_front_is_the_rules_own() {
    let dir = tempdir().expect("a folder");
    let law = law(40);
    let mut artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(1), Step(0)).expect("opened");
    feed(&mut artifacts, &law, 0, 40);
    let ledger = fixture::train(&law, 40, |_, _, _| ());
    let choices = palette::palette(&law.catalog, ledger.table(), PaletteRule::Loss);
    artifacts.finish(&[(PaletteRule::Loss, choices)], ledger.table()).expect("written");
    let file: PaletteFile = summary::read_optional(&dir.path().join("palette.json")).expect("valid").expect("there");
    assert_eq!(file.palettes[0].pareto_by, summary::ParetoBy::Value);
    assert!(file.palettes[0].choices.iter().all(|choice| choice.accuracy.is_none()));
}

#[test]
fn where_the_time_went_is_a_mean_over_the_reports_of_a_window() {
    let dir = tempdir().expect("a folder");
    let law = law(20);
    let mut artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(1), Step(0)).expect("opened");
    let mut spent = TimeSpent::default();
    for millis in [30, 50] {
        let (compute, reduce) = (Duration::from_millis(millis), Duration::from_millis(60 - millis));
        let slots = vec![(SlotId(0), compute / 2), (SlotId(3), compute / 2)];
        spent.add(&StepTimings { slots, reduce, ..StepTimings::default() });
    }
    artifacts.add_time(&spent);
    feed(&mut artifacts, &law, 0, 20);
    let seconds: Vec<_> = lines(dir.path()).iter().map(|line| line.seconds).collect();
    let first = seconds[0].expect("two ranks reported");
    assert_eq!((first.plan, first.compute, first.reduce), (0.0, 0.04, 0.02));
    assert_eq!(seconds[1], None, "nobody reported in the second window");
}

#[test]
fn what_happened_outlives_every_leader_and_a_run_that_begins_anew_has_no_past() {
    let dir = tempdir().expect("a folder");
    let law = law(40);
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let formed = Happening::of(at, &Notice::Formed(Generation(3), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(formed.text, "generation 3 forms: a b");
    let mut artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(1), Step(0)).expect("opened");
    artifacts.happened(&formed).expect("written");
    feed(&mut artifacts, &law, 0, 25);
    drop(artifacts);
    // A crash cuts the last line short.
    let file = dir.path().join("timeline.jsonl");
    let whole = fs::read_to_string(&file).expect("there");
    fs::write(&file, format!("{whole}{}", &whole[..20])).expect("written");

    let mut artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(2), Step(25)).expect("opened");
    artifacts.backfill(&records(&law, 25)).expect("written");
    let leads = Happening::leads(at, LeaderEpoch(2), Step(25));
    artifacts.happened(&leads).expect("written");
    let history = artifacts.history().expect("readable");
    assert_eq!(history.happenings, [formed, leads]);
    assert_eq!(history.lines.iter().map(|line| line.step).collect::<Vec<_>>(), [10, 20, 25]);
    assert_eq!(history.lines.iter().map(|line| line.draws.iter().sum::<u64>()).sum::<u64>(), 4 * 25);
    artifacts.happened(&Happening::written(at)).expect("written");
    drop(artifacts);
    // Whoever leads a run that is complete adds nothing to it.
    let mut artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(3), Step(25)).expect("opened");
    artifacts.happened(&Happening::leads(at, LeaderEpoch(3), Step(25))).expect("nothing to do");
    assert_eq!(artifacts.history().expect("readable").happenings.last(), Some(&Happening::written(at)));
    drop(artifacts);

    let artifacts = Artifacts::open(dir.path(), &law, LeaderEpoch(1), Step(0)).expect("opened");
    let history = artifacts.history().expect("readable");
    assert!(history.happenings.is_empty() && history.lines.is_empty());
}
