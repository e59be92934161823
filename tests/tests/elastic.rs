//! One run, any membership: real processes over Gloo leave the same table and the same adapters, bit for bit.

use esta_tests::{Lab, Outcome, Run};

const STEPS: u64 = 120;

fn undisturbed(lab: &Lab, name: &str, workers: u32) -> anyhow::Result<Outcome> {
    let job = lab.write_job(name, "", STEPS)?;
    Run::start(lab, &job, workers)?.finish()
}

#[test]
fn rd_4_one_three_and_four_workers_end_with_the_same_bits() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let steps = 2000;
    let run = |workers: u32| {
        let job = lab.write_job(&format!("by-{workers}"), "", steps)?;
        Run::start(&lab, &job, workers)?.finish()
    };
    let one = run(1)?;
    assert!(one.adapters.len() > 1000, "adapters were written");
    for workers in [3, 4] {
        let other = run(workers)?;
        assert_eq!(one.digest, other.digest, "{workers} workers reduced other gradients");
        assert!(one == other, "{workers} workers ended with other bits");
    }
    Ok(())
}

#[test]
fn a_run_stopped_at_any_moment_ends_like_one_that_was_never_stopped() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab, "calm", 2)?;
    let job = lab.write_job("stopped", "", STEPS)?;
    for step in [1, 33, 71] {
        let mut run = Run::start(&lab, &job, 2)?;
        run.wait_for_step(step)?;
        run.kill_all();
    }
    let resumed = Run::start(&lab, &job, 2)?.finish()?;
    assert!(calm == resumed, "the resumed run ended with other bits");
    Ok(())
}

#[test]
fn mb_2_killing_a_worker_or_the_coordinator_changes_no_bit() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab, "calm", 2)?;
    let job = lab.write_job("rough", "", STEPS)?;
    let mut run = Run::start(&lab, &job, 2)?;
    run.wait_for_step(15)?;
    run.kill_worker(0);
    run.wait_for_step(40)?;
    run.add_worker()?;
    run.wait_for_step(65)?;
    run.restart_coordinator()?;
    run.wait_for_step(90)?;
    run.kill_worker(0);
    let rough = run.finish()?;
    assert!(calm == rough, "the disturbed run ended with other bits");
    Ok(())
}
