//! Every process on a host of its own, and the cables between them pulled: nobody is told, packets are lost.

use esta_tests::{Lab, Network, Run};

const STEPS: u64 = 800;
const WORKERS: u32 = 3;

#[test]
fn a_worker_whose_cable_is_pulled_is_lost_comes_back_and_changes_no_bit() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = Run::start(&lab, &lab.write_job("calm", "", STEPS)?, 1)?.finish()?;
    let network = Network::new(1 + WORKERS as usize)?;
    let job = lab.write_job("cut-off", "", STEPS)?;
    let mut run = Run::across(&lab, &job, &network, WORKERS)?;
    run.wait_for_step(100)?;
    network.cut(2)?;
    run.wait_for_log("a worker is lost")?;
    run.wait_for_step(200)?;
    let sight = run.sight().expect("it is led");
    assert!(!sight.workers.contains(&"w1".to_owned()), "{sight:?}");
    network.mend(2)?;
    assert!(calm == run.finish()?, "the run with a worker that was cut off ended with other bits");
    Ok(())
}

#[test]
fn a_coordinator_whose_cable_is_pulled_finds_its_workers_again() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = Run::start(&lab, &lab.write_job("calm", "", STEPS)?, 1)?.finish()?;
    let network = Network::new(1 + WORKERS as usize)?;
    let job = lab.write_job("alone", "", STEPS)?;
    let mut run = Run::across(&lab, &job, &network, WORKERS)?;
    run.wait_for_step(100)?;
    network.cut(0)?;
    run.wait_for_log("a worker is lost")?;
    network.mend(0)?;
    run.wait_for_step(300)?;
    assert!(calm == run.finish()?, "the run whose coordinator was cut off ended with other bits");
    Ok(())
}
