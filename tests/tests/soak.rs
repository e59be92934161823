//! A short soak; `make soak` is the long one, with the quickstart's training.

use std::time::Duration;

use esta_tests::{Lab, trials::soak};

#[test]
fn rd_4_a_run_that_loses_a_worker_all_the_time_ends_with_the_bits_of_one_that_loses_none() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("soaked", "", 1500)?;
    let soaked = soak::soak(lab.path(), &job, 3, Duration::from_millis(700))?;
    assert!(soaked.killed > 1 && soaked.steps > 1000, "{soaked:?}");
    Ok(())
}
