//! Several workers of one machine under one command: `esta-worker train --processes N`.

use std::{path::Path, process::Command};

use esta_tests::{Lab, Outcome, Process, Run, deadline};

const STEPS: u64 = 400;
const THREE: [&str; 4] = ["--processes", "3", "--drained-exit-code", "77"];

fn calm(lab: &Lab) -> anyhow::Result<Outcome> {
    let job = lab.write_job("calm", "", STEPS)?;
    Run::start(lab, &job, 1)?.finish()
}

/// Waits until a crew has this many workers.
fn workers(crew: &Process, count: usize) -> anyhow::Result<Vec<u32>> {
    deadline(&format!("{count} workers"), || crew.children().ok().filter(|workers| workers.len() == count))
}

fn signal(process: u32, signal: &str) -> anyhow::Result<()> {
    let sent = Command::new("kill").args([format!("-{signal}"), process.to_string()]).status()?;
    anyhow::ensure!(sent.success(), "{process} cannot be sent SIG{signal}");
    Ok(())
}

fn lives(process: u32) -> bool {
    Path::new(&format!("/proc/{process}/exe")).exists()
}

#[test]
fn mb_2_a_crew_of_three_ends_with_the_same_bits_though_one_of_it_is_killed() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = calm(&lab)?;
    let job = lab.write_job("crew", "", STEPS)?;
    let mut run = Run::serve(&lab, &job, 3)?;
    let mut crew = run.worker("node", &THREE)?;
    run.wait_for_step(20)?;
    signal(workers(&crew, 3)?[1], "KILL")?;
    deadline("a second start", || crew.log().contains("a worker is started again").then_some(()))?;
    assert!(crew.log().contains(r#""end":"signal 9""#), "{}", crew.log());
    assert!(calm == run.finish_without_latecomers()?, "the crew ended with other bits");
    assert_eq!(crew.wait()?.code(), Some(0), "{}", crew.log());
    Ok(())
}

#[test]
fn a_crew_that_is_asked_to_leave_drains_and_the_run_waits_for_others() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = calm(&lab)?;
    let job = lab.write_job("drained", "", STEPS)?;
    let mut run = Run::serve(&lab, &job, 3)?;
    let mut crew = run.worker("node", &THREE)?;
    run.wait_for_step(20)?;
    // As a terminal does, or Slurm: everybody is sent the signal, and it is one request.
    for process in workers(&crew, 3)?.into_iter().chain([crew.id()]) {
        signal(process, "TERM")?;
    }
    assert_eq!(crew.wait()?.code(), Some(77), "{}", crew.log());
    assert_eq!(crew.log().matches("asked to leave: finishing the steps given out").count(), 3, "{}", crew.log());
    run.add_worker()?;
    assert!(calm == run.finish()?, "the run ended with other bits");
    Ok(())
}

#[test]
fn workers_do_not_outlive_their_crew() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("orphans", "sampling: {slots: 4}\n", 1_000_000)?;
    let mut run = Run::serve(&lab, &job, 2)?;
    let mut crew = run.worker("node", &["--processes", "2"])?;
    run.wait_for_step(5)?;
    let orphans = workers(&crew, 2)?;
    crew.kill();
    deadline("the end of orphans", || orphans.iter().all(|worker| !lives(*worker)).then_some(()))
}

#[test]
fn a_job_that_no_worker_fits_ends_the_crew_with_their_code() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("blind", "", STEPS)?;
    let run = Run::serve(&lab, &job, 2)?;
    std::fs::remove_file(lab.path().join("images.idx"))?;
    let mut crew = run.worker("node", &["--processes", "2"])?;
    let said = crew.fails_with(7)?;
    assert_eq!(said, "esta-worker: all 2 workers of node have ended, the first with code 7; each has said why");
    assert_eq!(crew.log().matches("images.idx").count(), 2, "{}", crew.log());
    assert!(!crew.log().contains("a worker is started again"), "{}", crew.log());
    Ok(())
}
