//! Mistakes end in one clear line and an exit code that means something.

use esta_tests::{Lab, Process, Run};

#[test]
fn an_unreachable_coordinator_is_tried_for_the_budget_and_then_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let args = ["train", "--coordinator", "http://127.0.0.1:9", "--reconnect-budget", "0.3"];
    let mut worker = Process::start(dir.path(), "worker", "esta-worker", &args)?;
    assert_eq!(worker.wait()?.code(), Some(6));
    let log = worker.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("esta-worker: no coordinator could be reached within 300ms"), "{log}");
    assert!(last.contains("http://127.0.0.1:9"), "{log}");
    Ok(())
}

#[test]
fn of_two_workers_with_one_name_one_is_told_to_take_another() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("twins", "", 4000)?;
    let mut run = Run::start(&lab, &job, 1)?;
    run.wait_for_step(5)?;
    let mut twin = run.worker("w0", &[])?;
    run.wait_for_step(60)?;
    let first_told = |run: &mut Run| run.dir().exists();
    assert!(first_told(&mut run));
    assert!(twin.runs(), "the later process stays");
    run.kill_all();
    Ok(())
}

#[test]
fn a_missing_anchor_is_named_with_its_path() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("anchorless", "", 10)?;
    std::fs::remove_dir_all(lab.path().join("anchors/b"))?;
    let mut run = Run::serve(&lab, &job, 1)?;
    let mut worker = run.worker("w0", &[])?;
    assert_eq!(worker.wait()?.code(), Some(8));
    let log = worker.log();
    assert!(log.contains("anchor \"b\" does not load from") && log.contains("anchors/b"), "{log}");
    assert!(run.coordinator().runs(), "the coordinator waits for a worker that fits");
    Ok(())
}
