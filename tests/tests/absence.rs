//! Workers that stop, leave or are slow, and a leader that is gone: the run goes on, and ends with the same bits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use esta_tests::{Lab, Outcome, Run, deadline, within};

/// Enough to be in the middle of for some seconds.
const STEPS: u64 = 800;

fn undisturbed(lab: &Lab) -> anyhow::Result<Outcome> {
    let job = lab.write_job("calm", "", STEPS)?;
    Run::start(lab, &job, 1)?.finish()
}

#[test]
fn a_stopped_worker_is_lost_and_comes_back_and_a_slow_one_is_not_blamed() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab)?;
    let job = lab.write_job("stopped", "", STEPS)?;
    let mut run = Run::start(&lab, &job, 3)?;
    run.wait_for_step(100)?;
    stop_inside_the_all_reduce(&run)?;
    // The first runs for a fifth of the time from now on, as a machine does that has other work.
    let over = Arc::new(AtomicBool::new(false));
    let slow = slow_down(run.worker_at(0).id(), over.clone());
    run.wait_for_log("a worker is lost")?;
    let (status, log) = (run.wait_for_step(200), run.coordinator().log());
    over.store(true, Ordering::Release);
    slow.join().expect("it only waits and sends signals");
    status?;
    let lost: Vec<&str> = log.lines().filter(|line| line.contains("a worker is lost")).collect();
    assert!(lost.len() == 1 && lost[0].contains("w1"), "{lost:#?}");
    assert!(lost[0].contains("heard last in the all-reduce of step"), "{lost:#?}");
    let silent = lost[0].split_once("silent for ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(silent.is_some_and(|seconds| seconds < 2.0), "{lost:#?}");
    // Whoever waited in the all-reduce had run its slots, and did not run them once more.
    let waited = run.worker_at(2).log();
    assert!(waited.contains("were summed before and are not run again"), "{waited}");
    run.worker_at(1).signal("CONT")?;
    let stopped = run.finish()?;
    assert!(calm == stopped, "the disturbed run ended with other bits");
    Ok(())
}

/// Stops the second worker where it waits for the first, which is left stopped for less than it may be silent.
fn stop_inside_the_all_reduce(run: &Run) -> anyhow::Result<()> {
    let waits = |(doing, seconds): &(String, f64)| doing == "reduce" && *seconds > 0.1;
    let caught = || {
        run.worker_at(0).signal("STOP").ok()?;
        let waiting = || run.sight()?.doing.get("w1").filter(|doing| waits(doing)).map(drop);
        match within(Duration::from_secs(1), "the second worker to wait for the first", waiting) {
            Ok(()) => run.worker_at(1).signal("STOP").ok(),
            Err(_) => run.worker_at(0).signal("CONT").ok().and(None),
        }
    };
    deadline("a worker to be caught inside the all-reduce", caught)
}

/// Stops a process for four fifths of every tenth of a second.
fn slow_down(id: u32, over: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let signal = move |name: &str| {
        std::process::Command::new("kill").args([name, &id.to_string()]).status().expect("kill is everywhere");
    };
    thread::spawn(move || {
        while !over.load(Ordering::Acquire) {
            signal("-STOP");
            thread::park_timeout(Duration::from_millis(80));
            signal("-CONT");
            thread::park_timeout(Duration::from_millis(20));
        }
    })
}

#[test]
fn a_worker_that_is_asked_to_leave_leaves_in_peace_and_changes_no_bit() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab)?;
    let job = lab.write_job("drained", "", STEPS)?;
    let mut run = Run::start(&lab, &job, 2)?;
    run.wait_for_step(50)?;
    let mut leaving = run.take_worker(0);
    leaving.signal("TERM")?;
    let status = leaving.wait()?;
    assert!(status.success(), "it ended with {status}:\n{}", leaving.log());
    assert!(leaving.log().contains("it was asked to leave, and its steps are done"), "{}", leaving.log());
    let drained = run.finish()?;
    assert!(calm == drained, "the drained run ended with other bits");
    Ok(())
}

#[test]
fn st_2_a_new_leader_goes_on_with_the_generation_of_the_last_one() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab)?;
    let job = lab.write_job("succeeded", "", STEPS)?;
    let mut run = Run::start(&lab, &job, 2)?;
    for step in [50, 200, 500] {
        run.wait_for_step(step)?;
        run.restart_coordinator()?;
    }
    run.wait_for_step(550)?;
    let log = run.coordinator().log();
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("the generation on record still stands"), 3, "{log}");
    assert_eq!(count("a generation forms"), 1, "{log}");
    let succeeded = run.finish()?;
    assert!(calm == succeeded, "the run under four leaders ended with other bits");
    Ok(())
}
