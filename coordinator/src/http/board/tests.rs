//! The board against the page's own fixtures: the same keys, hostile strings as text, short lists, every way a run can stand.

use std::{path::PathBuf, time::Duration};

use esta_engine::{
    run::{Notice, Phases},
    table::Table,
};
use esta_objects::RunPlace;
use esta_proto::{Generation, SessionId, Step};
use serde_json::Value;

use super::{term::EVENTS, *};
use crate::{
    artifacts::fixture,
    http::state,
    observer::{Observation, TimeSpent},
};

const STEPS: u64 = 40;

/// Strings that were text wherever they came from.
const HOSTILE: [&str; 4] = [
    "</td><script>window.hacked=1</script>",
    "<img src=x onerror=\"alert(1)\">",
    "line\nfeed\u{2028}\u{0}\"}",
    "\u{202e}x",
];

fn law(job: &str) -> Arc<Law> {
    Arc::new(Law::new(fixture::spec(job, STEPS)).expect("a valid specification"))
}

fn name(run_id: &str) -> TermName {
    TermName { run_id: run_id.to_owned(), run_dir: PathBuf::from("nowhere") }
}

/// A board whose leader's term has seen a run of some steps.
fn trained(law: &Arc<Law>, run_id: &str) -> Board {
    let (board, meters) = (Board::new(law.clone()), Meters::new());
    let mut term = Term::new(law, name(run_id), Some(1000), History::default());
    fixture::train(law, STEPS, |record, ledger, elapsed| {
        let (steps, table) = (Arc::from([record.clone()]), Arc::new(ledger.table().clone()));
        term.see(law, &meters, Observation::Committed { steps, table, total: Step(STEPS), elapsed });
    });
    let second = Duration::from_secs(1);
    let phases = Phases { plan: second, batch: second, compute: second, reduce: second, apply: second };
    let spent = TimeSpent { reports: 1, phases };
    term.see(law, &meters, Observation::Timed(spent));
    board.shown().term = Some(term);
    board
}

fn note(board: &Board, notice: Notice) {
    let law = board.law.clone();
    board.shown().term.as_mut().expect("it leads").see(&law, &Meters::new(), Observation::Notice(notice, None));
}

fn member(name: &str) -> state::MemberState {
    state::MemberState {
        name: name.to_owned(),
        rank: Some(0),
        generation: Some(1),
        phase: "compute",
        step: Some(40),
        since: Some(0.01),
        applied: Some(40),
        ready: true,
        draining: false,
        spare: false,
        straggler: false,
        slowness: Some(1.0),
    }
}

fn told(board: &Board) -> Value {
    serde_json::from_str(&board.to_json(SystemTime::now())).expect("a state is JSON")
}

fn kinds(state: &Value) -> Vec<&str> {
    state["events"].as_array().expect("a leader tells events").iter().filter_map(|e| e["kind"].as_str()).collect()
}

/// Whatever the page was shown in its own tests has a counterpart in what it is told.
fn assert_covers(told: &Value, fixture: &Value, at: &str) {
    match (told, fixture) {
        (Value::Object(told), Value::Object(fixture)) => {
            for (key, expected) in fixture {
                // An accuracy is there once it was measured, a file once it was exported.
                let later = at.ends_with("palette[0]") && ["accuracy", "file"].contains(&key.as_str());
                let found = told.get(key);
                assert!(found.is_some() || later, "{at} has no {key}");
                found.iter().for_each(|found| assert_covers(found, expected, &format!("{at}.{key}")));
            }
        }
        (Value::Array(told), Value::Array(fixture)) => {
            if let (Some(told), Some(fixture)) = (told.first(), fixture.first()) {
                assert_covers(told, fixture, &format!("{at}[0]"));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (told, fixture) => {
            let kind = |value: &Value| (value.is_number(), value.is_string(), value.is_boolean());
            assert_eq!(kind(told), kind(fixture), "{at}: {told} is of another kind than {fixture}");
        }
    }
}

#[test]
fn the_page_is_told_everything_it_was_built_for() {
    let board = trained(&law("quickstart"), "quickstart-1a2b");
    note(&board, Notice::Formed(Generation(1), vec!["gpu-0".to_owned()]));
    let inside = Inside { phase: "running", members: vec![member("gpu-0")], ..Inside::default() };
    board.found(inside);
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../tests/page/fixtures/running.json")).expect("JSON");
    let state = told(&board);
    assert_covers(&state, &fixture, "state");
    assert_eq!(state["run"]["phase"], "running");
    assert!(state["budgets"].as_array().is_some_and(|budgets| budgets.len() > 1));
    assert_eq!(state["stitches"].as_array().map(Vec::len), Some(board.law.catalog.stitches().count()));
    assert_eq!(state["palette"].as_array().map(Vec::len), Some(board.law.catalog.bins().len()));
    let draws: u64 = state["budgets"].as_array().expect("budgets").iter().filter_map(|b| b["draws"].as_u64()).sum();
    assert_eq!(draws, STEPS * u64::from(board.law.spec.sampling.slots), "every slot of every step");
    let time = state["time"].as_object().expect("shares").values().filter_map(Value::as_f64).sum::<f64>();
    assert!((time - 1.0).abs() < 1e-9, "shares of {time}");
    // The fixture's losses of step 37 are not finite.
    assert_eq!((&state["progress"]["skipped"], state["loss"].as_array().map(Vec::len)), (&1.into(), Some(39)));
}

#[test]
fn a_new_leader_tells_of_the_whole_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let law = Arc::new(fixture::run(dir.path(), fixture::spec("quickstart", STEPS)));
    let history = History::read(dir.path()).expect("readable");
    let draws: Vec<u64> =
        (0..law.catalog.bins().len()).map(|b| history.lines.iter().map(|l| l.draws[b]).sum()).collect();
    let last = history.lines.last().and_then(|line| line.loss).expect("a loss");
    let board = Board::new(law.clone());
    drop(board.begin(name("quickstart-1a2b"), Some(1000), history).expect("a thread"));
    // Nothing was committed under it, and nobody is there.
    let mut table = None;
    fixture::train(&law, STEPS, |_, ledger, _| table = Some(Arc::new(ledger.table().clone())));
    board.found(Inside { phase: "waiting", committed: STEPS, table: table.clone(), ..Inside::default() });
    let state = told(&board);
    let budgets = state["budgets"].as_array().expect("budgets");
    assert_eq!(budgets.iter().filter_map(|b| b["draws"].as_u64()).collect::<Vec<_>>(), draws);
    assert!(budgets.iter().any(|budget| budget["importance"].is_f64() && budget["loss"].is_f64()));
    let loss = state["loss"].as_array().expect("a curve");
    assert_eq!((loss.len(), &loss[loss.len() - 1]), (4, &serde_json::json!([STEPS as f64, last])));
    assert_eq!(state["progress"]["skipped"], 1);
    assert!(
        state["stitches"].as_array().is_some_and(|all| all.iter().any(|stitch| stitch["visits"].as_u64() > Some(0)))
    );
    // An older table than the one that is shown is no news.
    board.found(Inside {
        table: Some(Arc::new(Table::new(law.catalog.id_bound(), law.spec.sampling.momentum))),
        ..Inside::default()
    });
    assert!(board.measure(|_, view| view.is_some_and(|view| view.table.version() == Step(STEPS))));
}

#[test]
fn whatever_somebody_is_called_stays_text() {
    for hostile in HOSTILE {
        let board = trained(&law("quickstart"), hostile);
        let owned = || hostile.to_owned();
        board.found(Inside { members: vec![member(hostile)], ..Inside::default() });
        for notice in [
            Notice::Formed(Generation(1), vec![owned(); 20]),
            Notice::Ended(Generation(1), owned()),
            Notice::TurnedAway(owned(), owned()),
            Notice::Evicted(owned(), owned()),
            Notice::Straggler(owned(), 3.5),
            Notice::Failed(owned()),
        ] {
            note(&board, notice);
        }
        let state = told(&board);
        assert_eq!((&state["run"]["id"], &state["run"]["failed"]), (&hostile.into(), &hostile.into()));
        assert_eq!(state["members"][0]["name"], hostile);
        let texts = state["events"].as_array().expect("events").iter();
        assert!(texts.clone().all(|event| event["text"].as_str().is_some_and(|text| text.contains(hostile))));
        assert_eq!(texts.count(), 6);
        board.shown().term = None;
        board.stand_by(Some(Whereabouts { address: owned(), page: Some(owned()) }));
        let state = told(&board);
        assert_eq!((&state["leader"], &state["leader_page"]), (&hostile.into(), &hostile.into()));
    }
}

#[test]
fn events_stay_few_and_the_last_ones_are_kept() {
    let board = trained(&law("quickstart"), "quickstart-1a2b");
    (0..10_000).for_each(|step| note(&board, Notice::Skipped(Step(step))));
    let state = told(&board);
    let events = state["events"].as_array().expect("events");
    assert_eq!(events.len(), EVENTS);
    assert!(
        events[EVENTS - 1]["text"].as_str().is_some_and(|text| text.contains("step 9999")),
        "{}",
        events[EVENTS - 1]
    );
    assert!(events.windows(2).all(|pair| pair[0]["at"].as_u64() <= pair[1]["at"].as_u64()), "oldest first");
    let names = vec!["a-worker".to_owned(); 1000];
    note(&board, Notice::Formed(Generation(2), names));
    let state = told(&board);
    let last = state["events"][EVENTS - 1]["text"].as_str().expect("text").to_owned();
    assert!(last.ends_with("and 992 more") && last.len() < 200, "{last}");
}

#[test]
fn every_notice_has_a_kind_of_its_own() {
    let board = trained(&law("quickstart"), "quickstart-1a2b");
    let (text, generation) = (String::new, Generation(1));
    for notice in [
        Notice::Formed(generation, Vec::new()),
        Notice::Preparing(generation, Vec::new()),
        Notice::Forgone(generation, text()),
        Notice::Ended(generation, text()),
        Notice::ForeignReport(SessionId(1), Step(1)),
        Notice::RedoDiffers(Step(1)),
        Notice::Skipped(Step(1)),
        Notice::TurnedAway(text(), text()),
        Notice::Evicted(text(), text()),
        Notice::Gone(text()),
        Notice::Straggler(text(), 2.0),
        Notice::KeepsUp(text()),
        Notice::Resumed(generation),
        Notice::Stranded(Step(1)),
        Notice::Failed(text()),
    ] {
        note(&board, notice);
    }
    let state = told(&board);
    let expected = "formed preparing forgone ended foreign redo skipped turned-away lost gone straggler keeps-up resumed stranded failed";
    assert_eq!(kinds(&state).join(" "), expected);
}

#[test]
fn who_stands_by_tells_who_leads_and_nothing_else() {
    let board = Board::new(law("quickstart"));
    let named = |port| format!("http://coordinator-0.esta:{port}");
    board.stand_by(Some(Whereabouts { address: named(7700), page: Some(named(7701)) }));
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../tests/page/fixtures/standby.json")).expect("JSON");
    let (mut state, mut expected) = (told(&board), fixture);
    assert!(state["now"].as_u64() > Some(1_600_000_000_000), "in milliseconds");
    for state in [&mut state, &mut expected] {
        state["now"] = Value::Null;
    }
    assert_eq!(state, expected);
    assert!(board.measure(|_, view| view.is_none()));
}

#[test]
fn a_run_that_failed_says_why_even_after_its_term() {
    let board = trained(&law("quickstart"), "quickstart-1a2b");
    board.fail("16 steps in a row had a gradient that is not finite");
    board.stand_by(None);
    let state = told(&board);
    assert_eq!((&state["run"]["phase"], &state["run"]["complete"]), (&"failed".into(), &false.into()));
    assert!(state["run"]["failed"].as_str().is_some_and(|why| why.contains("not finite")));
    assert!(board.measure(|_, view| view.is_some_and(|view| view.failed && !view.complete)));
    // A run that goes on elsewhere is the other coordinator's to tell of.
    let board = trained(&law("quickstart"), "quickstart-1a2b");
    board.stand_by(None);
    assert_eq!(told(&board)["run"], Value::Null);
}

#[test]
fn a_complete_run_stays_to_be_seen_with_its_accuracies() {
    let dir = tempfile::tempdir().expect("a folder");
    let law = Arc::new(fixture::run(dir.path(), fixture::spec("quickstart", STEPS)));
    let mut table = None;
    fixture::train(&law, STEPS, |_, ledger, _| table = Some(Arc::new(ledger.table().clone())));
    let table = table.expect("a table");
    let place = RunPlace { folder: dir.path().to_owned(), kept: None };
    let retired = Retired { run_id: "quickstart-1a2b".to_owned(), law: law.clone(), table, place, written: true };
    // Whoever tried again what failed under this leader got there.
    let failed = trained(&law, "quickstart-1a2b");
    failed.fail("its peers are out of reach");
    for board in [trained(&law, "quickstart-1a2b"), Board::new(law.clone()), failed] {
        board.found(Inside { members: vec![member("gpu-0")], ..Inside::default() });
        board.retire(&retired);
        board.stand_by(None);
        let state = told(&board);
        assert_eq!((&state["run"]["phase"], &state["run"]["complete"]), (&"complete".into(), &true.into()));
        assert_eq!((&state["progress"]["committed"], &state["progress"]["lag"]), (&STEPS.into(), &0.into()));
        assert_eq!(state["members"], Value::Array(Vec::new()), "nobody is needed any more");
        assert_eq!(kinds(&state).last(), Some(&"written"));
        assert!(state["stitches"].as_array().is_some_and(|all| all.iter().all(|stitch| stitch["accuracy"].is_f64())));
        let files = state["palette"].as_array().expect("a palette").iter().map(|choice| choice["file"].as_str());
        assert!(files.flatten().all(|file| file.starts_with("models/")), "no path of this machine is told");
        assert_eq!(state["run"]["failed"], Value::Null);
        assert!(board.measure(|_, view| view.is_some_and(|view| view.complete && !view.failed)));
    }
}
