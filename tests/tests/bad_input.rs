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
fn of_two_workers_with_one_name_the_later_stays_and_the_earlier_is_told() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("twins", "", 200)?;
    let mut run = Run::start(&lab, &job, 1)?;
    run.wait_for_step(5)?;
    let mut twin = run.worker("w0", &[])?;
    let mut earlier = run.take_worker(0);
    assert_eq!(earlier.wait()?.code(), Some(4));
    let log = earlier.log();
    assert!(log.contains("esta-worker: a later process took the name \"w0\""), "{log}");
    run.finish()?;
    assert_eq!(twin.wait()?.code(), Some(0));
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

#[test]
fn a_second_coordinator_on_the_same_address_says_so() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("first", "", 10)?;
    let mut run = Run::serve(&lab, &job, 1)?;
    run.wait_for_step(0)?;
    let other = lab.write_job("second", "", 10)?;
    let listen = run.url().replace("http://", "");
    let args = ["serve", "--config", &other.to_string_lossy(), "--listen", &listen];
    let mut second = Process::start(lab.path(), "second", "esta-coordinator", &args)?;
    assert!(!second.wait()?.success());
    let log = second.log();
    assert!(log.contains("esta-coordinator: ") && log.contains(&listen), "{log}");
    assert!(run.coordinator().runs());
    Ok(())
}

#[test]
fn a_mistyped_key_is_refused_with_its_line_and_a_suggestion() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("typo", "sampling: {slotz: 4}\n", 10)?;
    let args = ["config", "validate", "--config", &job.to_string_lossy()];
    let mut check = Process::start(lab.path(), "typo", "esta-coordinator", &args)?;
    assert_eq!(check.wait()?.code(), Some(3));
    let log = check.log();
    assert!(log.contains("slotz") && log.contains("slots") && log.contains("typo.yaml:4"), "{log}");
    Ok(())
}

#[test]
fn a_label_outside_the_classes_is_named_with_its_file() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("labels", "", 10)?;
    let text = std::fs::read_to_string(&job)?.replace("num_classes: 3", "num_classes: 2");
    std::fs::write(&job, text)?;
    let run = Run::serve(&lab, &job, 1)?;
    let mut worker = run.worker("w0", &[])?;
    assert_eq!(worker.wait()?.code(), Some(7));
    let log = worker.log();
    assert!(log.contains("labels.idx") && log.contains("label 2"), "{log}");
    Ok(())
}
